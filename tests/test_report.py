"""Reading a results.json, looking up its numbers, and printing them."""

import io
import json
import math
import re

import pytest
from rich.console import Console

from lookaround.report import load_results
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
from report_sample import (
    beaten_results,
    incomplete_results,
    sample_results,
    small_results,
    with_protocol,
)


def lookup(results):
    return Lookup(ComparisonResults.of(results))


def printed(results, width=80):
    file = io.StringIO()
    ComparisonResults.of(results).print(Console(file=file, width=width))
    return file.getvalue()


# --------------------------------------------------------------------------------------------------
# reading results.json


def saved(tmp_path, results):
    path = tmp_path / "results.json"
    path.write_text(results if isinstance(results, str) else json.dumps(results), encoding="utf-8")
    return path


def test_load_results_reads_what_compare_writes(tmp_path):
    assert load_results(saved(tmp_path, small_results())).as_dict() == small_results()


def without(key):
    return {name: value for name, value in small_results().items() if name != key}


def with_run(**changes):
    results = small_results()
    results["runs"][1] |= changes
    return results


def run_without(key):
    results = small_results()
    del results["runs"][2][key]
    return results


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[1]", "found a list; expected the JSON object"),
        (without("version"), "field 'version' is missing; expected 1"),
        (small_results() | {"version": 2}, "field 'version' is 2; this lookaround reads version 1"),
        (small_results() | {"version": "1"}, "field 'version' is \"1\""),
        (without("runs"), "field 'runs' is missing; expected a list"),
        (without("recommendation"), "field 'recommendation' is missing; expected an object"),
        (small_results() | {"summary": {}}, "field 'summary' is an object; expected a list"),
        (small_results() | {"runs": [3]}, "field 'runs[0]' is a number; expected an object"),
        (run_without("objective"), "field 'runs[2].objective' is missing"),
        (with_run(rung="full"), "field 'runs[1].rung' is text; expected a number"),
        (with_run(objective=None), "field 'runs[1].objective' is null; expected text"),
        (with_run(seed=[]), "field 'runs[1].seed' is a list; expected an integer"),
        (
            with_run(classification=[1]),
            "field 'runs[1].classification' is a list; expected an object",
        ),
        (with_run(samples=["text"]), "field 'runs[1].samples[0]' is text; expected an object"),
        (small_results() | {"baselines": {"topic": 3}}, "field 'baselines.topic' is a number"),
        (
            small_results() | {"metrics": {"toy": 3}},
            "field 'metrics.toy' is a number; expected an object",
        ),
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
    assert printed(small_results(), width=200).count("objective  ") == 1


def test_a_model_below_a_baseline_is_marked():
    text = printed(beaten_results())
    assert "9.000 ±0.000 !!" in text
    assert "below the majority class" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"tasks": ()},
        {"rungs": (0.25,)},
        {"objectives": ("ar",), "rungs": (1.0,), "seeds": 1, "tasks": ()},
    ],
)
def test_smaller_studies_are_printed(changes):
    assert "nan" not in printed(small_results(**changes))


@pytest.mark.parametrize("value", [None, math.nan, "absent"])
def test_missing_numbers_are_not_printed(value):
    assert not re.search(r"\bnan\b|\binf\b|None", printed(incomplete_results(value)))


def test_no_control_character_reaches_the_terminal():
    hostile = "\x1b[31m\x9b $x^2$"
    results = small_results(objectives=("ar", hostile), tasks=(hostile,))
    results["runs"][0]["mode"] = hostile
    results["notes"] = [hostile]
    results["recommendation"] = dict.fromkeys(results["recommendation"], hostile)
    results["reasons"] = dict.fromkeys(results["recommendation"], hostile)
    assert not re.search(r"[\x1b\x9b]", printed(results))


# --------------------------------------------------------------------------------------------------
# lookups and formats


def test_a_score_without_a_summary_row_is_the_mean_of_its_runs():
    results = small_results() | {"summary": []}
    study = lookup(results)
    runs = [
        r["bits_per_byte"] for r in results["runs"] if r["objective"] == "ar" and r["rung"] == 1.0
    ]
    assert study.score("ar", "bits_per_byte").mean == pytest.approx(sum(runs) / len(runs))
    assert not study.score("ar", "bits_per_byte").bounded


def test_with_one_task_the_mean_over_tasks_is_not_shown_twice():
    assert lookup(small_results()).metrics == ["bits_per_byte", "classification/topic"]
    assert lookup(small_results()).classification == "classification/topic"


def test_a_baseline_has_a_mean_only_if_every_task_has_it():
    results = small_results(tasks=("topic", "sentiment"))
    assert lookup(results).baseline("tfidf", "classification") == pytest.approx((0.71 + 0.78) / 2)
    results["baselines"]["topic"]["tfidf"] = None
    assert math.isnan(lookup(results).baseline("tfidf", "classification"))


def test_verdicts_follow_the_direction_of_the_metric():
    study = lookup(small_results())
    assert not study.higher("bits_per_byte")
    assert study.higher("classification/topic")
    assert verdict(Interval(-0.1, -0.2, -0.05), higher=False) == "better"
    assert verdict(Interval(-0.1, -0.2, -0.05), higher=True) == "worse"
    assert verdict(Interval(0.1, -0.02, 0.2), higher=True) == "unclear"
    assert verdict(Interval(0.1), higher=True) == "unclear"


def test_a_protocol_unknown_to_the_reports_has_its_column():
    results = with_protocol(small_results())
    study = lookup(results)
    assert study.metrics == ["bits_per_byte", "classification/topic", "toy/topic"]
    assert study.title("toy/topic") == "topic (a toy)"
    assert study.score("mlm(rate=0.4)", "toy/topic").low == 2
    assert study.score("ar", "toy/topic", 0.5).mean == pytest.approx(1.125), "of its runs"
    assert study.below("toy/topic", 1.125) == []
    assert study.below("toy/topic", 2.125) == ["random_init"], "less is better"
    text = printed(results)
    assert "2.125 ±0.125 !!" in text
    assert text.count("(lower") == 2


def test_a_protocol_with_several_tasks_has_a_mean():
    results = with_protocol(small_results(tasks=("topic", "sentiment")), higher=True)
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
