"""The reports: safe against hostile text, the same bytes every time, and honest where a number is
missing.
"""

import hashlib
import io
import json
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from lookaround.report import figures, load_results
from lookaround.report.html import render_html as render
from lookaround.report.lookup import Interval, Lookup, verdict
from lookaround.report.schema import ComparisonResults
from lookaround.report.text import (
    format_count,
    format_flops,
    format_interval,
    format_rung,
    format_seconds,
)
from lookaround.support.errors import UserError
from report_sample import sample_results

HOSTILE = """<script>alert(1)</script>"' onload='x' & --> $x^2$ \x1b[31m\ud800"""


@pytest.fixture(scope="module")
def results():
    return sample_results()


@pytest.fixture(scope="module")
def page(results):
    return render_html(results)


def small(**changes):
    shape = {
        "objectives": ("ar", "mlm(rate=0.4)"),
        "rungs": (0.5, 1.0),
        "seeds": 2,
        "tasks": ("topic",),
    }
    return sample_results(**(shape | changes))


def render_html(results, **options):
    return render(ComparisonResults.of(results), **options)


def lookup(results):
    return Lookup(ComparisonResults.of(results))


def printed(results, width=80):
    file = io.StringIO()
    ComparisonResults.of(results).print(Console(file=file, width=width))
    return file.getvalue()


class Elements(HTMLParser):
    """The start tags of a page, and whether every element is closed in order."""

    void = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.balanced = [], [], True
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.balanced &= bool(self.open) and self.open.pop() == tag


# --------------------------------------------------------------------------------------------------
# the page


def test_the_page_is_well_formed_and_its_ids_are_unique(page):
    elements = Elements(page)
    assert elements.balanced
    assert not elements.open
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_asks_the_network_for_nothing(page):
    without_namespaces = page.replace('xmlns="http://www.w3.org/2000/svg"', "").replace(
        'xmlns:xlink="http://www.w3.org/1999/xlink"', ""
    )
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", without_namespaces)
    assert "<script" not in page
    links = [
        a
        for _, attributes in Elements(page).tags
        for a in ("href", "src", "xlink:href")
        if a in attributes
    ]
    assert set(links) <= {"xlink:href"}  # the markers of the figures, by fragment
    assert all(h.startswith("#") for h in re.findall(r'xlink:href="([^"]*)"', page))
    assert "default-src 'none'" in page


def test_a_typical_page_is_small(page):
    assert len(page.encode()) < 400_000


def test_the_same_results_give_the_same_bytes(results, page):
    assert render_html(results) == page
    script = (
        "import sys, hashlib; from report_sample import sample_results; from test_report "
        "import render_html;"
        "print(hashlib.sha256(render_html(sample_results()).encode()).hexdigest())"
    )
    paths = [str(Path(__file__).parent), *sys.path]
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(paths)}
    other = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == hashlib.sha256(page.encode()).hexdigest()


def test_rendering_leaves_matplotlib_as_it_was(results):
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.tradeoff(lookup(results))
    assert dict(matplotlib.rcParams) == before
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )


def test_text_from_the_results_cannot_become_markup():
    results = small(objectives=("ar", HOSTILE), tasks=(HOSTILE,))
    for section in ("corpus", "machine", "versions", "settings"):
        results[section] = {HOSTILE: HOSTILE, "name": HOSTILE}
    results["command"] = results["runs"][0]["mode"] = HOSTILE
    results["notes"] = [HOSTILE]
    results["recommendation"] = {
        "classification": HOSTILE,
        "generation": f"inconclusive: {HOSTILE}",
        "both": "ar",
    }
    results["reasons"] = dict.fromkeys(("classification", "generation", "both"), HOSTILE)
    for run in results["runs"]:
        run["samples"] = [{"prompt": HOSTILE, "continuation": HOSTILE}]
    for row in [*results["summary"], *results["differences"]]:
        row["method"] = HOSTILE
    page = render_html(results)
    hostile, harmless = Elements(page), Elements(render_html(small()))
    assert "script" not in {tag for tag, _ in hostile.tags}
    assert hostile.balanced
    attributes = {name for _, attributes in hostile.tags for name in attributes}
    assert not {name for name in attributes if name.startswith("on")}
    assert attributes == {name for _, attributes in harmless.tags for name in attributes}
    page.encode("utf-8")  # lone surrogates are gone
    assert "\x1b" not in page
    assert "\x1b" not in printed(results)


def test_samples_are_shown_or_left_out_on_request(results, page):
    assert "finite set of the same" in page
    without = render_html(results, samples=False)
    assert "finite set of the same" not in without
    assert "The river rises" not in without
    assert "Samples were left out" in without


def test_the_headline_names_the_objective_or_says_inconclusive(page):
    cards = re.findall(r'<article class="card (\w+)">(.*?)</article>', page)
    assert [kind for kind, _ in cards] == ["open", "decided", "decided"]
    assert "Inconclusive at this budget" in cards[0][1]
    assert "<code>ar</code>" in cards[1][1]
    assert "2.003 to 2.040" in cards[1][1]


def test_a_model_below_a_baseline_is_flagged():
    results = small()
    for row in results["summary"]:
        if row["objective"] == "ar" and row["rung"] == 1.0:
            value = 9.0 if row["metric"] == "bits_per_byte" else 0.15  # majority has 0.21
            row.update(mean=value, low=value, high=value)
    table = re.search(r"<table>.*?</table>", render_html(results), re.DOTALL)
    assert table is not None
    row, fine = re.findall(r"<code>.*?</tr>", table[0], re.DOTALL)
    for flag in ("above unigram", "below majority", "below TF-IDF", "below random init"):
        assert f"▼ {flag}" in row
    assert "9.000 ±0.000 !!" in printed(results)
    assert "below the majority class" in printed(results)
    assert "▼" not in fine


@pytest.mark.parametrize(
    "changes",
    [
        {"tasks": ()},
        {"rungs": (1.0,)},
        {"rungs": (0.25,)},
        {"objectives": ("ar",)},
        {"seeds": 1},
        {"objectives": ("ar",), "rungs": (1.0,), "seeds": 1, "tasks": ()},
    ],
)
def test_smaller_studies_are_reported(changes):
    results = small(**changes)
    page = render_html(results)
    assert Elements(page).balanced
    assert "nan" not in page
    assert "nan" not in printed(results)


@pytest.mark.parametrize("value", [None, math.nan, "absent"])
def test_missing_numbers_become_dashes(value):
    results = small()
    rows = [*results["summary"], *results["differences"]]
    for row, keys in [(r, ("low", "high", "mean")) for r in rows] + [
        (
            r,
            (
                "bits_per_byte",
                "classification",
                "bits_per_byte_by_prefix",
                "curve",
                "samples",
                "learning_rate",
            ),
        )
        for r in results["runs"]
        if r["objective"] == "ar"
    ]:
        for key in keys:
            if value == "absent":
                row.pop(key, None)
            elif value is None or key in ("low", "high", "mean", "bits_per_byte", "learning_rate"):
                row[key] = value
    for key in ("unigram_bits_per_byte", "baselines", "machine", "notes", "reasons"):
        results[key] = None
    page = render_html(results)
    assert Elements(page).balanced
    assert not re.search(r"\bnan\b|\binf\b|>None<", page)
    assert not re.search(r"\bnan\b|\binf\b|None", printed(results))


def test_one_objective_far_off_does_not_flatten_the_others():
    results = small()
    for row in results["summary"]:
        if row["objective"] == "ar" and row["metric"] == "bits_per_byte":
            row.update(mean=12.5, low=12.4, high=12.6)
    assert figures.off_scale(lookup(results)) == ["ar"]
    assert "12.50: off the scale" in figures.tradeoff(lookup(results))
    assert "Beyond the bits-per-byte axis: ar" in render_html(results)


def test_every_figure_scales_and_can_be_read_aloud(results):
    study = lookup(results)
    drawn = [
        figures.tradeoff(study),
        figures.ladder(study, "bits_per_byte"),
        figures.ladder(study, "classification"),
        figures.losses(study),
        figures.by_prefix(study),
    ]
    for svg in drawn:
        root = svg[: svg.index(">")]
        assert 'width="100%"' in root
        assert "viewBox=" in root
        assert 'role="img"' in root
        assert "<title " in svg
        assert "<text" in svg  # text stays text
        assert "<?xml" not in svg
        assert "<metadata" not in svg


def test_write_report_replaces_the_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    ComparisonResults.of(small()).write_page(path)
    before = path.read_text(encoding="utf-8")
    assert before == render_html(small())
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        ComparisonResults.of(small(tasks=())).write_page(path)
    assert path.read_text(encoding="utf-8") == before
    assert os.listdir(tmp_path) == ["report.html"]


# --------------------------------------------------------------------------------------------------
# reading results.json


def saved(tmp_path, results):
    path = tmp_path / "results.json"
    path.write_text(results if isinstance(results, str) else json.dumps(results), encoding="utf-8")
    return path


def test_load_results_reads_what_compare_writes(tmp_path):
    assert load_results(saved(tmp_path, small())).as_dict() == small()


def without(key):
    return {name: value for name, value in small().items() if name != key}


def with_run(**changes):
    results = small()
    results["runs"][1] |= changes
    return results


def run_without(key):
    results = small()
    del results["runs"][2][key]
    return results


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[1]", "found a list; expected the JSON object"),
        (without("version"), "field 'version' is missing; expected 1"),
        (small() | {"version": 2}, "field 'version' is 2; this lookaround reads version 1"),
        (small() | {"version": "1"}, "field 'version' is \"1\""),
        (without("runs"), "field 'runs' is missing; expected a list"),
        (without("recommendation"), "field 'recommendation' is missing; expected an object"),
        (small() | {"summary": {}}, "field 'summary' is an object; expected a list"),
        (small() | {"runs": [3]}, "field 'runs[0]' is a number; expected an object"),
        (run_without("objective"), "field 'runs[2].objective' is missing"),
        (with_run(rung="full"), "field 'runs[1].rung' is text; expected a number"),
        (with_run(objective=None), "field 'runs[1].objective' is null; expected text"),
        (with_run(seed=[]), "field 'runs[1].seed' is a list; expected an integer"),
        (
            with_run(classification=[1]),
            "field 'runs[1].classification' is a list; expected an object",
        ),
        (with_run(samples=["text"]), "field 'runs[1].samples[0]' is text; expected an object"),
        (small() | {"baselines": {"topic": 3}}, "field 'baselines.topic' is a number"),
        (small() | {"metrics": {"toy": 3}}, "field 'metrics.toy' is a number; expected an object"),
    ],
)
def test_load_results_names_the_file_and_the_field(tmp_path, content, message):
    path = saved(tmp_path, content)
    with pytest.raises(UserError) as caught:
        load_results(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_load_results_on_a_missing_file_and_on_bytes(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_results(tmp_path / "nothing.json")
    (tmp_path / "results.json").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        load_results(tmp_path)
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast" / "speculate.yaml").write_text("status: finished")
    with pytest.raises(UserError, match="`lookaround speculate` writes its numbers to --json"):
        load_results(tmp_path / "fast")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        load_results(tmp_path / "binary")


# --------------------------------------------------------------------------------------------------
# the terminal


@pytest.mark.parametrize(
    "tasks", [(), ("topic",), ("topic", "sentiment", "acceptability", "a very long name of a task")]
)
def test_the_tables_fit_80_columns_and_lose_nothing(tasks):
    results = sample_results(tasks=tasks)
    text = printed(results)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    study = lookup(results)
    for metric in study.metrics:
        for objective in study.objectives:
            assert f"{study.score(objective, metric).mean:.3f}" in text
    for word in (
        "2.1 PFLOP",
        "19.0M",
        "7 min",
        "0.002",
        "65%",
        "unigram model",
        "Recommendation",
        "note: ",
    ):
        assert word in text
    assert ("TF-IDF" in text) == bool(tasks)
    assert "\x1b" not in text


def test_a_wide_terminal_gets_one_table():
    assert printed(small(), width=200).count("objective  ") == 1


# --------------------------------------------------------------------------------------------------
# lookups and formats


def test_a_score_without_a_summary_row_is_the_mean_of_its_runs():
    results = small() | {"summary": []}
    study = lookup(results)
    runs = [
        r["bits_per_byte"] for r in results["runs"] if r["objective"] == "ar" and r["rung"] == 1.0
    ]
    assert study.score("ar", "bits_per_byte").mean == pytest.approx(sum(runs) / len(runs))
    assert not study.score("ar", "bits_per_byte").bounded


def test_with_one_task_the_mean_over_tasks_is_not_shown_twice():
    assert lookup(small()).metrics == ["bits_per_byte", "classification/topic"]
    assert lookup(small()).classification == "classification/topic"


def test_a_baseline_has_a_mean_only_if_every_task_has_it():
    results = small(tasks=("topic", "sentiment"))
    assert lookup(results).baseline("tfidf", "classification") == pytest.approx((0.71 + 0.78) / 2)
    results["baselines"]["topic"]["tfidf"] = None
    assert math.isnan(lookup(results).baseline("tfidf", "classification"))


def test_verdicts_follow_the_direction_of_the_metric():
    study = lookup(small())
    assert not study.higher("bits_per_byte")
    assert study.higher("classification/topic")
    assert verdict(Interval(-0.1, -0.2, -0.05), higher=False) == "better"
    assert verdict(Interval(-0.1, -0.2, -0.05), higher=True) == "worse"
    assert verdict(Interval(0.1, -0.02, 0.2), higher=True) == "unclear"
    assert verdict(Interval(0.1), higher=True) == "unclear"


def with_protocol(results, *, higher=False):
    """The results with a protocol "toy" that has scores on the first task: 1.0, 2.0, .. by
    objective.
    """
    task = next(iter(results["tasks"]))
    results["metrics"] = {
        "toy": {"title": "a toy", "higher": higher, "about": "Counts & compares."}
    }
    for number, objective in enumerate(lookup(results).objectives, start=1):
        interval = {
            "mean": number + 0.125,
            "low": number,
            "high": number + 0.25,
            "n": 3,
            "method": "made up",
        }
        for metric in (f"toy/{task}", "toy"):
            row = {"objective": objective, "rung": 1.0, "metric": metric, **interval}
            results["summary"].append(row)
            results["differences"].append(row | {"reference": "ar"})
        for run in results["runs"]:
            if run["objective"] == objective:
                run["toy"] = {task: number + 0.125}
    results["baselines"].setdefault(f"toy/{task}", {})["random_init"] = 1.5
    return results


def test_a_protocol_unknown_to_the_reports_has_its_column():
    results = with_protocol(small())
    study = lookup(results)
    assert study.metrics == ["bits_per_byte", "classification/topic", "toy/topic"]
    assert study.title("toy/topic") == "topic (a toy)"
    assert study.score("mlm(rate=0.4)", "toy/topic").low == 2
    assert study.score("ar", "toy/topic", 0.5).mean == pytest.approx(1.125), "of its runs"
    assert study.below("toy/topic", 1.125) == []
    assert study.below("toy/topic", 2.125) == ["random_init"], "less is better"
    page = render_html(results)
    for words in (
        "topic (a toy)",
        "2.000 to 2.250",
        "Counts &amp; compares.",
        "▼ above random init",
        "Bits per byte, topic (a toy): lower",
    ):
        assert words in page
    assert Elements(page).balanced
    text = printed(results)
    assert "2.125 ±0.125 !!" in text
    assert text.count("(lower") == 2


def test_a_protocol_with_several_tasks_has_a_mean():
    results = with_protocol(small(tasks=("topic", "sentiment")), higher=True)
    for row in list(results["summary"]):
        if row["metric"] == "toy/topic":
            results["summary"].append(row | {"metric": "toy/sentiment"})
    study = lookup(results)
    assert study.metrics[-3:] == ["toy", "toy/topic", "toy/sentiment"]
    assert study.below("toy/topic", 1.125) == ["random_init"]
    assert study.below("toy", 1.125) == [], "not known for every task"


def test_formats():
    assert [format_count(v) for v in (0, 980, 5_200, 131_400_000, 1.3e9, math.nan)] == [
        "0",
        "980",
        "5.2k",
        "131M",
        "1.3B",
        "-",
    ]
    assert [format_flops(v) for v in (2e15, 9.5e11, 999_999, 12)] == [
        "2.0 PFLOP",
        "950 GFLOP",
        "1.0 MFLOP",
        "12 FLOP",
    ]
    assert [format_seconds(v) for v in (3.2, 92, 840, 7560)] == ["3.2 s", "92 s", "14 min", "2.1 h"]
    assert [format_rung(v) for v in (0.125, 1 / 3, 1.0)] == ["1/8", "1/3", "1"]
    assert format_interval(Interval(1.984, 1.953, 2.015)) == "1.984 ±0.031"
    assert format_interval(Interval(1.984, 1.96, 2.03)) == "1.984 [1.960, 2.030]"
    assert format_interval(Interval(1.984)) == "1.984"
