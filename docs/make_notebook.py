"""Runs the blocks of docs/python.md and writes what they print into the page, and docs/tour.ipynb.

    python docs/make_notebook.py        # two minutes on two cores

Blocks run one after the other in one session, in an empty folder. A block's output is what it
prints and the value of its last expression. Outputs in a fence `text` are held by tests/test_tour
(words exactly, numbers to 5 %), those in `text varies` are not: they depend on the machine.
"""

from __future__ import annotations

import ast
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

PAGE, NOTEBOOK = Path(__file__).with_name("python.md"), Path(__file__).with_name("tour.ipynb")
_BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```(text(?: varies)?)\n(.*?)```\n)?", re.DOTALL)


class Cell(NamedTuple):
    """A block of a page with the prose before it.

    prose: Markdown.
    code: the block.
    fence: of its output; empty where it has none.
    output: what it shows.
    """

    prose: str
    code: str
    fence: str = ""
    output: str = ""


def cells(page: str) -> list[Cell]:
    """The cells of a page; what stands after the last block is one without code."""
    made, end = [], 0
    for match in _BLOCK.finditer(page):
        code, fence, output = match.groups(default="")
        made.append(Cell(page[end : match.start()].strip(), code.strip(), fence, output.rstrip()))
        end = match.end()
    return [*made, Cell(page[end:].strip(), "")]


def page_of(made: list[Cell]) -> str:
    """The page of cells."""
    parts = []
    for cell in made:
        parts += [cell.prose] if cell.prose else []
        parts += [f"```python\n{cell.code}\n```"] if cell.code else []
        parts += [f"```{cell.fence}\n{cell.output}\n```"] if cell.fence else []
    return "\n\n".join(parts) + "\n"


def run(code: str, session: dict[str, Any]) -> tuple[str, Any]:
    """What a block prints, and the value of its last line where that is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(tree, "<block>", "exec", dont_inherit=True), session)
        value = (
            eval(compile(ast.Expression(last.value), "<block>", "eval"), session) if last else None
        )
    return printed.getvalue().rstrip(), value


def shown(printed: str, value: Any) -> str:
    """The output of a block as a page has it."""
    text = "\n".join(filter(None, [printed, "" if value is None else repr(value)]))
    return "\n".join(map(str.rstrip, text.splitlines()))


def executed(made: list[Cell], folder: Path) -> Iterator[tuple[Cell, str, Any]]:
    """(cell with its new output, what it printed, value) of cells that run in a folder."""
    session: dict[str, Any] = {"__name__": "__main__"}
    before = Path.cwd()
    os.chdir(folder)
    try:
        for cell in made:
            printed, value = run(cell.code, session) if cell.code else ("", None)
            output = shown(printed, value)
            fence = (cell.fence or "text") if output else ""
            yield cell._replace(fence=fence, output=output), printed, value
    finally:
        os.chdir(before)


def notebook(made: list[tuple[Cell, str, Any]]) -> dict[str, Any]:
    """The notebook, in nbformat 4: prose and blocks, with their outputs."""
    entries: list[dict[str, Any]] = []
    for cell, printed, value in made:
        if cell.prose:
            entries.append({"cell_type": "markdown", "metadata": {}, "source": cell.prose})
        if not cell.code:
            continue
        outputs: list[dict[str, Any]] = []
        if printed:
            outputs.append({"output_type": "stream", "name": "stdout", "text": printed + "\n"})
        number = sum(entry["cell_type"] == "code" for entry in entries) + 1
        if value is not None:
            data = {"text/plain": shown("", value)}
            if hasattr(value, "_repr_html_"):
                data["text/html"] = value._repr_html_()
            result = {"output_type": "execute_result", "execution_count": number, "metadata": {}}
            outputs.append(result | {"data": data})
        code = {"cell_type": "code", "execution_count": number, "metadata": {}}
        entries.append(code | {"source": cell.code, "outputs": outputs})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": entries, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}


def main() -> None:
    """Runs the page and writes both files."""
    import pandas

    pandas.set_option("display.width", 100)
    with tempfile.TemporaryDirectory() as folder:
        made = list(executed(cells(PAGE.read_text(encoding="utf-8")), Path(folder)))
    PAGE.write_text(page_of([cell for cell, *_ in made]), encoding="utf-8")
    text = json.dumps(notebook(made), indent=1, ensure_ascii=False) + "\n"
    NOTEBOOK.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
