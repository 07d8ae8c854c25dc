"""Looking up the numbers of results, and printing them."""

import io
import math
import re

import pytest
from rich.console import Console

from lookaround.report.html import render_html
from lookaround.report.lookup import Interval, Lookup, verdict
from lookaround.report.schema import ComparisonResults, EvaluationResults
from lookaround.report.text import (
    format_count,
    format_flops,
    format_interval,
    format_rung,
    format_seconds,
)
from report_sample import (
    beaten_results,
    evaluation_results,
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
# the terminal


@pytest.mark.slow
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


def test_bits_per_token_are_called_so():
    results = small_results()
    assert "bits per byte" in printed(results, 200)
    told = small_results(unit="token", reasons={})
    page = render_html(ComparisonResults.of(told))
    for text in (printed(told, 200), page, evaluated(evaluation_results() | {"unit": "token"})):
        assert "bits per token" in text
        assert not re.search("bits[ -]per[ -]byte", text, re.IGNORECASE)


def evaluated(results):
    file = io.StringIO()
    EvaluationResults.of(results).print(Console(file=file, width=80))
    return file.getvalue()


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
