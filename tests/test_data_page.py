"""docs/data.md: the files that it shows are written, and what it says they become is run."""

from __future__ import annotations

import doctest
import os
import re
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from lookaround.data.corpora import read_corpus
from lookaround.data.files import Reading
from lookaround.data.tasks import read_tasks

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data.md"
FILE = re.compile(r"^```text (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sections() -> dict[str, str]:
    """{heading: what stands below it} of the page."""
    parts = re.split(r"^#+ (.*)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


SHOWN = {name: text for name, text in sections().items() if ">>>" in text}


@pytest.mark.parametrize("heading", SHOWN)
def test_what_the_page_shows(heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # files stand above what reads them, in this section or an earlier one
    for text in SHOWN.values():
        for name, content in FILE.findall(text):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content, encoding="utf-8")
    names = {
        "read_corpus": read_corpus,
        "read_tasks": read_tasks,
        "Reading": Reading,
        "datasets": datasets,
        "pyarrow": pyarrow,
        "os": os,
    }
    examples = doctest.DocTestParser().get_doctest(
        "\n".join(CODE.findall(SHOWN[heading])), names, heading, str(PAGE), 0
    )
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(examples, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
    assert examples.examples


def test_every_ending_that_is_read_stands_on_the_page() -> None:
    from lookaround.data.corpora import TEXT_ENDINGS
    from lookaround.data.files import COMPRESSIONS, FORMATS

    text = PAGE.read_text(encoding="utf-8")
    endings = {*FORMATS, *COMPRESSIONS, *TEXT_ENDINGS} - {".markdown"}
    assert [ending for ending in endings if f"`{ending}`" not in text] == []
