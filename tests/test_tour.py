"""docs/python.md and docs/add-an-objective.md do what they say, and the notebook is the page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas
import pytest

import lookaround
from conftest import sentences
from docs.make_notebook import NOTEBOOK, PAGE, cells, executed, page_of
from lookaround.objectives import Objective
from lookaround.objectives.autoregressive import AR
from lookaround.support.errors import UserError

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


@pytest.mark.slow
def test_the_tour_is_as_the_page_says(tmp_path: Path) -> None:
    page = cells(PAGE.read_text())
    assert sum(cell.fence == "text" for cell in page) >= 8
    with pandas.option_context("display.width", 100):
        for cell, (made, _, _) in zip(page, executed(page, tmp_path), strict=True):
            assert bool(made.output) == bool(cell.output), cell.code
            if cell.fence == "text":
                assert same(made.output, cell.output), f"{cell.code}\n{made.output}"
    assert (tmp_path / "study" / "report.html").is_file()


@pytest.mark.slow
def test_an_objective_is_added_by_a_file_of_ones_own(tmp_path: Path) -> None:
    """As the page has it: a file, and a script that starts processes that must know it."""
    page = PAGE.with_name("add-an-objective.md").read_text()
    objective, script = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "sparse.py").write_text(objective)
    (tmp_path / "compare_sparse.py").write_text(script)
    lines = [json.dumps({"text": text}) for text in sentences(300)]
    (tmp_path / "notes.jsonl").write_text("\n".join(lines))
    path = os.pathsep.join(filter(None, [str(PAGE.parents[1] / "src"), os.getenv("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "compare_sparse.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^sparse +\d\.\d{3}", done.stdout, re.MULTILINE)
    assert "Recommendation" in done.stdout


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Objective, "registry", dict(Objective.registry))


@pytest.mark.usefixtures("own_registry")
def test_a_class_may_be_defined_again_as_cells_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook or at a prompt: for what runs in this process, and not in others."""

    def define(default: int) -> None:
        @dataclass(frozen=True)
        class Mine(AR):
            far: int = default

            name = "mine"
            __module__ = "__main__"
            __qualname__ = "Mine"

    define(1)
    define(2)
    assert lookaround.parse("mine").far == 2  # type: ignore[attr-defined]
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    from lookaround.studies.jobs import local_pool

    with pytest.raises(UserError, match=r"'mine' is defined in a notebook .* into a file"):
        local_pool(1, 1)
