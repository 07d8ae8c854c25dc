"""docs/python.md does what it says, and the notebook is the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas
import pytest

from docs.make_notebook import NOTEBOOK, PAGE, cells, executed, page_of
from lookaround.report.schema import ComparisonResults
from report_sample import small_results

NUMBER = re.compile(r"\d[\d,]*\.?\d*")


def same(new: str, old: str) -> bool:
    """Words are the same, numbers are to 5 % or 0.01."""
    words = [NUMBER.sub("#", text).split() for text in (new, old)]
    numbers = [[float(n.replace(",", "")) for n in NUMBER.findall(text)] for text in (new, old)]
    return words[0] == words[1] and numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.01)


def test_outputs_are_compared_by_words_and_numbers() -> None:
    assert same("ar  2.01 of 1,000", "ar 2.0 of 1,001")
    assert not same("ar 2.3", "ar 2.0")
    assert not same("mlm 2.0", "ar 2.0")


def test_the_notebook_is_the_page() -> None:
    page = cells(PAGE.read_text())
    assert page_of(page) == PAGE.read_text()
    book = json.loads(NOTEBOOK.read_text())["cells"]
    assert [cell["source"] for cell in book if cell["cell_type"] == "markdown"] == [
        cell.prose for cell in page if cell.prose
    ]
    code = [cell for cell in book if cell["cell_type"] == "code"]
    blocks = [cell for cell in page if cell.code]
    assert [cell["source"] for cell in code] == [cell.code for cell in blocks]
    for entry, cell in zip(code, blocks, strict=True):
        texts = [part.get("text") or part["data"]["text/plain"] for part in entry["outputs"]]
        assert "\n".join(text.rstrip() for text in texts) == cell.output
    assert any("text/html" in part.get("data", {}) for cell in code for part in cell["outputs"])


def test_results_show_themselves_in_a_notebook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where rich finds IPython it displays what it prints, whatever file it was given."""
    import rich.console

    results = ComparisonResults.of(small_results())
    plain = str(results)
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    assert repr(results) == plain
    assert plain.startswith("Scores at")
    assert "<table" in results._repr_html_()
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.usefixtures("inline")  # test_own_objective.py starts the processes of a study
def test_the_tour_is_as_the_page_says(tmp_path: Path) -> None:
    page = cells(PAGE.read_text())
    assert sum(cell.fence == "text" for cell in page) >= 8
    with pandas.option_context("display.width", 100):
        for cell, (made, _, _) in zip(page, executed(page, tmp_path), strict=True):
            assert bool(made.output) == bool(cell.output), cell.code
            if cell.fence == "text":
                assert same(made.output, cell.output), f"{cell.code}\n{made.output}"
    assert (tmp_path / "study" / "report.html").is_file()
