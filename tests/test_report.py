"""Looking up the numbers of results, and printing them."""

import io
import math
import re

import pytest
from rich.console import Console

from lookaround.report.html import render_html
from lookaround.report.lookup import NEEDS, Interval, Lookup, verdict
from lookaround.report.schema import ComparisonResults, EvaluationResults
from lookaround.report.text import (
    format_count,
    format_flops,
    format_gain,
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
    results = sample_results(tasks=tasks, more=len(tasks) != 1)
    text = printed(results)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    study = lookup(results)
    for metric in study.headlines:
        for objective in study.objectives:
            assert f"{study.score(objective, metric).mean:.3f}" in text
            gain = study.gain(objective, metric)
            assert not gain.known or f"{100 * gain.mean:+.1f} ±" in text
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
    assert ("topic: worth +5.1 points up to 256 labels" in text) == (len(tasks) > 1)
    for word in ("bigram model", "ar, 1 token later", "words to the left"):
        assert (word in text) == (len(tasks) != 1)
    assert ("majority class" in text) == bool(study.classification)
    assert "\x1b" not in text


def test_bits_per_token_are_called_so():
    results = small_results()
    assert "bits per byte" in printed(results, 200)
    told = small_results(unit="token", reasons={}, verdicts={})
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
    assert "0.150 !!" in text
    assert "worse than the majority class" in text


def test_a_model_that_uses_no_context_is_marked():
    text = printed(sample_results(more=True), 100)
    assert "2.712 ±0.024 !" in text, "above the bigram model's 2.702"
    assert "use no context yet" in text
    assert "use no context yet" not in printed(small_results())


def test_a_need_is_told_in_a_line_and_why_it_is_open():
    text = printed(sample_results(), 200)
    assert "label texts   inconclusive at this budget: ar + 3*vmlm, 0.25*ar >> 0.75*mlm" in text
    assert "led a rung before. What would settle it: a larger budget, or about 6 seeds." in text
    assert re.search(r"^write +ar\s*$", text, re.MULTILINE)


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
    assert lookup(small_results()).metrics == ["bits_per_byte", "probe/topic"]
    assert lookup(small_results()).classification == "probe/topic"


def test_a_protocol_has_one_headline():
    study = lookup(sample_results(tasks=("topic", "language")))
    assert study.headlines == [
        "bits_per_byte",
        "probe",
        "tokens",
        "order",
        "pairs/blimp",
        "finetune/topic",
    ]
    assert study.metrics[1:4] == ["probe", "probe/topic", "probe/language"]


def test_a_baseline_has_a_mean_only_if_every_task_has_it():
    results = small_results(tasks=("topic", "sentiment"))
    assert lookup(results).baseline("tfidf", "probe") == pytest.approx((0.71 + 0.78) / 2)
    results["baselines"]["topic"]["tfidf"] = None
    assert math.isnan(lookup(results).baseline("tfidf", "probe"))


def test_a_baseline_stands_beside_its_own_protocol():
    study = lookup(sample_results())
    for kind, metric, score in (
        ("trigram", "bits_per_byte", 2.415),
        ("tfidf", "order", 0.534),
        ("unigram", "pairs/blimp", 0.512),
        ("window", "tokens/conll-chunk", 0.761),
        ("window", "ambiguous/ewt-upos", 0.661),
        ("tfidf", "finetune/topic", 0.69),  # on the most labels
        ("untrained_causal", "tokens", 0.702),
        ("untrained_bidirectional", "order", 0.503),
    ):
        assert study.baseline(kind, metric) == pytest.approx(score), (kind, metric)
    for kind, metric in (("tfidf", "bits_per_byte"), ("window", "probe"), ("bigram", "order")):
        assert math.isnan(study.baseline(kind, metric)), (kind, metric)


def test_a_gain_is_that_of_the_summary_or_of_the_runs():
    results = small_results()
    (row,) = (
        row
        for row in results["summary"]
        if (row["objective"], row["rung"], row["metric"]) == ("ar", 1.0, "probe/topic")
    )
    whole = lookup(results).gain("ar", "probe/topic")
    assert whole[:3] == (row["gain"], row["gain_low"], row["gain_high"])
    of_runs = lookup(results | {"summary": []}).gain("ar", "probe/topic")
    assert of_runs.mean == pytest.approx(row["gain"])
    assert not of_runs.bounded
    assert not lookup(results).gain("ar", "bits_per_byte").known


def test_only_a_green_verdict_recommends():
    results = small_results()
    assert [lookup(results).recommended(need) for need in NEEDS] == ["", "", "ar", ""]
    results["verdicts"]["write"]["green"] = False
    assert lookup(results).recommended("write") == ""
    assert lookup(results | {"verdicts": {}}).recommended("write") == ""


def test_what_labels_are_worth_is_told_by_seed_where_seeds_differ():
    results = sample_results(("ar",), seeds=2, tasks=("topic",))
    assert lookup(results).worths() == [
        ("topic", "worth +5.1 points up to 256 labels, nothing above", ["ar"])
    ]
    results["runs"][-1]["scores"]["finetune"]["topic"]["worth"] = "nothing"
    assert lookup(results).worth("ar", "topic") == (
        "worth +5.1 points up to 256 labels, nothing above (seed 0); nothing (seed 1)"
    )


def test_verdicts_follow_the_direction_of_the_metric():
    study = lookup(small_results())
    assert not study.higher("bits_per_byte")
    assert study.higher("probe/topic")
    assert verdict(Interval(-0.1, -0.2, -0.05), higher=False) == "better"
    assert verdict(Interval(-0.1, -0.2, -0.05), higher=True) == "worse"
    assert verdict(Interval(0.1, -0.02, 0.2), higher=True) == "unclear"
    assert verdict(Interval(0.1), higher=True) == "unclear"


def test_a_protocol_unknown_to_the_reports_has_its_column():
    results = with_protocol(small_results())
    study = lookup(results)
    assert study.metrics == ["bits_per_byte", "probe/topic", "toy/topic"]
    assert study.title("toy/topic") == "topic (a toy)"
    assert study.score("mlm(rate=0.4)", "toy/topic").low == 2
    assert study.score("ar", "toy/topic", 0.5).mean == pytest.approx(1.125), "of its runs"
    assert study.gain("ar", "toy/topic", 0.5).mean == pytest.approx(-0.375)
    assert study.below("ar", "toy/topic") == []
    assert study.below("mlm(rate=0.4)", "toy/topic") == ["untrained"], "less is better"
    text = printed(results)
    assert "+0.625  2.125 !!" in text
    assert text.count("(lower") == 2


def test_a_protocol_with_several_tasks_has_a_mean():
    results = with_protocol(small_results(tasks=("topic", "sentiment")), higher=True)
    for row in list(results["summary"]):
        if row["metric"] == "toy/topic":
            results["summary"].append(row | {"metric": "toy/sentiment"})
    study = lookup(results)
    assert study.metrics[-3:] == ["toy", "toy/topic", "toy/sentiment"]
    assert study.below("ar", "toy/topic") == ["untrained"]


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
    for gain, points, text in (
        (Interval(0.0125, 0.0095, 0.0155), True, "+1.2 ±0.3"),
        (Interval(-0.02, -0.09, 0.01), True, "-2.0 [-9.0, +1.0]"),
        (Interval(0.625), False, "+0.625"),
        (Interval(math.nan), True, "-"),
    ):
        assert format_gain(gain, points=points) == text
