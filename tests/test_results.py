"""results/: pages say what the records say, records are complete, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path

import pytest

from benchmarks import records, studies, tables, verdict, worlds
from benchmarks.records import DATA, ROOT, TRACK_RECORD, WORDS, dumped, write_record
from benchmarks.tables import RESULTS, TABLES, interval, number, stale_pages, steps
from lookaround.report import load_results
from report_sample import sample_results

PAGES = sorted(RESULTS.glob("*.md"))


def test_every_benchmark_can_be_imported() -> None:
    for file in sorted((ROOT / "benchmarks").glob("*.py")):
        importlib.import_module(f"benchmarks.{file.stem}")


def test_every_table_is_that_of_its_record() -> None:
    assert {page.name for page in stale_pages(RESULTS)} == set(), "run: python -m benchmarks.tables"


def test_a_stale_page_is_named_and_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = {page.name: page.read_text() for page in PAGES}
    for name, text in fresh.items():
        (tmp_path / name).write_text(text.replace("| 1.882 [1.670, 2.123] |", "| 1.8 |"))
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert tables.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("results/stdlib.md: stale\n")
    assert "| 1.8 |" in (tmp_path / "stdlib.md").read_text()
    assert tables.main([]) == 0
    assert {page.name: page.read_text() for page in tmp_path.glob("*.md")} == fresh
    assert tables.main(["--check"]) == 0


def test_an_unknown_table_is_refused() -> None:
    page = "<!-- table: nothing -->\n<!-- end -->\n"
    with pytest.raises(SystemExit, match=r"x\.md: no table 'nothing'; known: index, english"):
        tables.page_with_tables(page, {}, "x.md")


def test_every_table_and_every_record_is_shown() -> None:
    shown = [name for page in PAGES for _, name, *_ in tables.MARKED.findall(page.read_text())]
    assert sorted(shown) == sorted(["index", *TABLES])
    assert {table.record for table in TABLES.values()} | {"exactness"} == set(records.records())


@pytest.mark.parametrize("file", [*sorted(DATA.glob("*.json")), TRACK_RECORD], ids=lambda f: f.stem)
def test_a_record_says_where_it_is_from(file: Path) -> None:
    record = json.loads(file.read_text())
    assert file.read_text() == dumped(record)
    for key in (*WORDS, "command", "machine"):
        assert record[key] or record[key] == 0, key
    assert re.fullmatch(r"[0-9a-f]{7,}", record["commit"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"])
    assert isinstance(record["transcribed"], bool)
    assert len(record["answer"].split()) <= 12


def targets(text: str) -> set[str]:
    return {link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path) -> None:
    for link in targets(page.read_text()):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_100_columns_wide(page: Path) -> None:
    text = page.read_text()
    if page.name in ("README.md", "zoo.md"):
        text = tables.MARKED.sub("", text)  # the index and reasons are tables of sentences
    assert [line for line in text.splitlines() if len(line) > 100] == []


def test_the_forecast_quotes_its_record() -> None:
    from lookaround.studies.forecast.recommend import TRACK_RECORD as QUOTED

    record = json.loads(TRACK_RECORD.read_text())
    told = verdict.verdict(record)
    assert (QUOTED.earned, QUOTED.sentence) == (told["earned"], told["sentence"])
    assert told == {"earned": record["earned"], "sentence": record["sentence"]}
    assert not told["earned"]
    for row in record["rows"]["agreement"]:  # what it would take
        if row["half"] == "reported" and "forecast_less_this" in row:
            row["forecast_less_this"]["low"] = 0.01
    assert verdict.verdict(record)["earned"]


@pytest.mark.slow
def test_the_worlds_are_those_of_the_record() -> None:
    """Run again: a change of the code that changes a number is seen here."""
    recorded = json.loads((DATA / "worlds.json").read_text())["rows"]
    for name, rows in worlds.measured().items():
        for row, kept in zip(rows, recorded[name], strict=True):
            wanted = {
                key: pytest.approx(value, rel=1e-6, abs=1e-7) if isinstance(value, float) else value
                for key, value in kept.items()
            }
            assert row == wanted


def test_the_figure_is_that_of_the_record() -> None:
    record = json.loads((DATA / "stdlib.json").read_text())
    made, kept = studies.tradeoff_figure(record), (ROOT / "docs/img/tradeoff.svg").read_text()
    described = re.compile(r"<desc[^>]*>(.*?)</desc>")
    assert described.findall(made) == described.findall(kept)
    assert "ar: 1.882 bits per byte, score 0.448" in described.findall(kept)[0]
    assert len(kept) < 60_000


BENCHMARKS = [
    file for file in sorted((ROOT / "benchmarks").glob("*.py")) if "__main__" in file.read_text()
]


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.stem)
def test_a_benchmark_names_its_command_and_imports_what_is_there(file: Path) -> None:
    """Read and not run: some set environment variables for their process."""
    tree = ast.parse(file.read_text())
    assert f"python -m benchmarks.{file.stem}" in (ast.get_docstring(tree) or "")
    assert "description=__doc__" in file.read_text()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lookaround"):
            module = importlib.import_module(node.module or "")
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_formats() -> None:
    assert interval(3)({"mean": 1.5, "low": 1, "high": 2.25}) == "1.500 [1.000, 2.250]"
    assert interval(2, sign="+")({"mean": 0.1, "half": 0.25}) == "+0.10 ± 0.25"
    assert interval(1)(2) == "2.0"
    assert number(1, scale=1e-6)(1_234_567_890) == "1,234.6"
    assert number(2)("saturated") == "saturated"
    assert steps([4250, None]) == "4,250, -"


def test_new_rows_keep_the_words_of_a_record(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"question": "q?", "answer": "a", "transcribed": True, "rows": {}}))
    write_record(file, {"runs": [{"a": 1.0, "b": float("nan")}]}, seeds=3)
    record = json.loads(file.read_text())
    assert (record["question"], record["answer"]) == ("q?", "a")
    assert (record["seeds"], record["transcribed"]) == (3, False)
    assert record["rows"] == {"runs": [{"a": 1.0, "b": None}]}


def test_the_rows_of_a_comparison() -> None:
    results = sample_results(("ar", "dar"), rungs=(0.5, 1.0), tasks=("topic-all", "language"))
    rows = studies.comparison_rows(results)
    table = tables.Table("", "", (tables.NAMED, tables.BITS, *tables.scores("topic", "mean score")))
    made = table.lines(rows["scores"])
    assert [line.split(" | ")[0] for line in made[2:]] == [
        "| `ar`",
        "| `dar`",
        "| majority",
        "| TF-IDF + logistic regression",
        "| before training",
        "| unigram model",
        "| bigram model",
        "| trigram model",
    ]
    (kept,) = (
        entry
        for entry in results["summary"]
        if (entry["objective"], entry["rung"], entry["metric"]) == ("dar", 1.0, "bits_per_byte")
    )
    assert interval(3)(kept) == made[3].split(" | ")[1]
    (last,) = (row for row in rows["claims"] if row["rung"] == 1.0)
    (entry,) = (
        entry
        for entry in results["differences"]
        if (entry["rung"], entry["metric"]) == (1.0, "probe")
    )
    assert last["difference"]["mean"] == pytest.approx(entry["mean"], abs=1e-6)


def test_the_rows_of_protocols() -> None:
    results = sample_results(("ar", "mlm"), rungs=(0.5, 1.0), tasks=("topic",))
    rows = studies.comparison_rows(results)
    made = tables.protocols("x", "tokens", "ambiguous/ewt-upos", "pairs/blimp")
    lines = [line.split(" | ") for line in made.lines(rows["protocols"])]
    assert lines[0][1:3] == ["tokens: gain", "tokens"]
    (row,) = (
        entry
        for entry in results["summary"]
        if (entry["objective"], entry["rung"], entry["metric"]) == ("ar", 1.0, "tokens")
    )
    assert lines[2][1] == "+{:.1f} [+{:.1f}, +{:.1f}]".format(
        *(100 * row[name] for name in ("gain", "gain_low", "gain_high"))
    )
    assert lines[2][2] == interval(3)(row)
    assert lines[2][5] == "", "pairs are read as a model writes: no gain"
    named = {line[0].removeprefix("| "): line[1:] for line in lines}
    assert named["words on both sides, linear"][1] == "0.811"
    assert named["words on both sides, linear"][3] == "0.661"
    assert named["unigram model"][-1] == "0.512 |"
    assert named["ar, 1 token later"][1].startswith("0.820 [")
    by_labels = tables.labels("x").lines(rows["labels"])
    assert len(by_labels) == 2 + 2 * 4
    assert by_labels[3].startswith("| topic | `ar` | 256 | +")
    assert by_labels[3].endswith(" | 0.550 | 0.530 | 0.570 |")
    scored, gained = tables.over_seeds("x", "words", "tokens").values()
    scores, gains = (table.lines(rows["protocols"]) for table in (scored, gained))
    assert scores[0] == gains[0] == "| objective | tokens |"
    assert scores[2] == f"| `ar` | {row['mean']:.3f} ± {(row['high'] - row['low']) / 2:.3f} |"
    wide = 50 * (row["gain_high"] - row["gain_low"])
    assert gains[2] == f"| `ar` | {100 * row['gain']:+.1f} ± {wide:.1f} |"
    assert len(gains) == 2 + 2, "what has no gain has no row"


def test_the_rows_of_a_file_of_version_1() -> None:
    file = Path(__file__).with_name("version1.json")
    old = json.loads(file.read_text())
    rows = studies.comparison_rows(load_results(file).as_dict())
    labelled = {row.get("label"): row for row in rows["scores"]}
    assert labelled["before training"]["topic"] == pytest.approx(0.44)
    assert labelled["majority"]["mean score"] == pytest.approx((0.21 + 0.52) / 2)
    (entry,) = (
        entry
        for entry in old["summary"]
        if (entry["objective"], entry["rung"], entry["metric"]) == ("ar", 1.0, "classification")
    )
    assert rows["scores"][0]["mean score"]["mean"] == pytest.approx(entry["mean"])
