"""Pages of docs/ and the README: links lead somewhere, all are listed, lines are narrow."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from test_results import anchors, targets

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
OTHERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in targets(page.read_text()):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_index_lists_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {link.partition("#")[0] for link in targets(index.read_text())}
    assert {page.name for page in PAGES} - {"index.md"} <= listed
    assert {"tour.ipynb", "../README.md", "../CONTRIBUTING.md", "../results/README.md"} <= listed


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.name)
def test_lines_have_at_most_100_columns(page: Path) -> None:
    """But for the tables of pages that are made, and the test command, which CI reads."""
    made = page.name in ("settings.md", "results-format.md")
    lines = page.read_text().splitlines()
    wide = [line for line in lines if len(line) > 100 and not (made and line.startswith("|"))]
    assert [line for line in wide if not line.startswith("python3 -m venv")] == []


def test_the_tree_of_the_readme_is_that_of_the_repository() -> None:
    (tree,) = re.findall(
        r"```\n(src/lookaround/\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    folders = [line.split()[0] for line in tree.splitlines()[1:]]
    inside = [line.split()[0] for line in tree.splitlines() if line.startswith("  ")]
    package = ROOT / "src" / "lookaround"
    assert all((package / name if name in inside else ROOT / name).exists() for name in folders)
    kept = {path.name + "/" for path in package.iterdir() if (path / "__init__.py").is_file()}
    assert kept <= set(inside)


def test_the_example_of_theory_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/theory.md").read_text(), re.DOTALL)
    exec(code, {})
    assert re.match(r"\[1\. .*\] \d\.\d+ \(60, 4\)\n", capsys.readouterr().out)


def test_the_numbers_of_the_readme_are_those_of_the_record() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    rows = json.loads((ROOT / "results/data/stdlib.json").read_text())["rows"]
    words = {row.get("objective"): row.get("tokens/stdlib-roles") for row in rows["protocols"]}
    for row in rows["scores"]:
        if row.get("rung") == 1.0:
            name = f"{row['objective']:<6} "
            line, of_words = [line for line in lines if line.startswith(name)]
            assert f"{words[row['objective']]['mean']:.3f}" in of_words.split()
            numbers = line.removeprefix(name).replace("%", "").split()
            assert numbers[0] == f"{row['bits']['mean']:.3f}"
            assert f"{100 * row['of_unigram']:.0f}" in numbers
            assert f"{row['stdlib-package']['mean']:.3f}" in numbers
