"""Verdicts: green only where one can act on it, and what is said where one cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from lookaround.evaluation.registry import protocols
from lookaround.studies.compare.verdict import (
    Measured,
    Verdict,
    judge,
    judge_all,
    own_interval,
    paired_interval,
    residual_variance,
)

NONE = np.array([np.nan])
SEEDS = {"ar": [0.50, 0.51, 0.52], "mlm": [0.60, 0.61, 0.625], "dar": [0.51, 0.50, 0.53]}

NAMES = {"label_texts": "label texts", "label_tokens": "label tokens", "write": "write"}


def measured(scores: dict[str, list[float]], name: str = "probe", **options: Any) -> Measured:
    """A metric of objectives over seeds, with gains of what is above 0.4 and one baseline."""

    def table(less: float) -> dict[tuple[str, int], Any]:
        return {
            (spec, seed): (value - less, NONE)
            for spec, values in scores.items()
            for seed, value in enumerate(values)
        }

    given = {
        "gains": table(0.4),
        "leader_before": "mlm",
        "floors": {"majority": 0.2, "tfidf": 0.45},
        "plateau": frozenset(),
        "title": protocols()[name].titled("byte"),
    } | options
    return Measured(protocols()[name], table(0.0), **given)


def test_a_winner_that_passes_every_gate_is_green() -> None:
    verdict = judge(measured(SEEDS))
    assert verdict.green
    assert verdict.recommendation == "mlm"
    assert (verdict.seeds, verdict.degrees_of_freedom, verdict.floor) == (3, 4, "tfidf")
    assert verdict.gain == pytest.approx(np.mean(SEEDS["mlm"]) - 0.4)
    assert verdict.gain_low > 0
    assert verdict.settle == ""


@pytest.mark.parametrize(
    ("scores", "options", "why", "remedy"),
    [
        ({spec: values[:1] for spec, values in SEEDS.items()}, {}, "one seed", "--seeds 3"),
        (SEEDS, {"leader_before": "dar"}, "dar led a rung before", "a larger budget"),
        (SEEDS, {"leader_before": None}, "no smaller rung", "a ladder of two rungs"),
        (
            SEEDS,
            {"floors": {"tfidf": 0.7}},
            "worse than TF-IDF with logistic regression",
            "a larger budget",
        ),
        (SEEDS, {"floors": {"tfidf": 0.61}}, "not told from TF-IDF", "a larger budget"),
        (SEEDS | {"vmlm": [0.595, 0.605, 0.605]}, {}, "not told from vmlm", "seeds"),
    ],
)
def test_each_gate_alone_makes_it_amber(
    scores: dict[str, list[float]], options: dict[str, Any], why: str, remedy: str
) -> None:
    verdict = judge(measured(scores, **options))
    assert not verdict.green
    assert verdict.leader == "mlm"
    assert why in verdict.reason
    assert remedy in verdict.settle
    assert verdict.recommendation.startswith("inconclusive at this budget: mlm")


def test_a_need_without_gains_can_be_green() -> None:
    """Nothing is written by the network before training."""
    bits = {spec: [-3 * (1 - value) for value in values] for spec, values in SEEDS.items()}
    verdict = judge(measured(bits, "bits_per_byte", gains={}, floors={"trigram": -2.0}))
    assert verdict.green
    assert (verdict.gain, verdict.floor_score) == (None, 2.0)
    without = judge(measured(bits, "bits_per_byte", gains={}, floors={}))
    assert not without.green, "a winner is one over a baseline"
    assert "no baseline was measured" in without.reason


def test_seeds_that_agree_to_the_last_digit_settle_nothing() -> None:
    verdict = judge(measured({"ar": [0.8, 0.8], "mlm": [0.8001, 0.8001]}))
    assert not verdict.green
    assert verdict.candidates == ["mlm", "ar"]


def test_a_score_that_is_no_number_is_no_candidate() -> None:
    nan = float("nan")
    broken = {"dar": [nan] * 3, "ar": SEEDS["ar"], "mlm": SEEDS["mlm"]}
    verdict = judge(measured(broken, floors={"majority": nan, "tfidf": 0.45}))
    assert (verdict.green, verdict.leader, verdict.floor) == (True, "mlm", "tfidf")
    assert judge(measured({"ar": [nan, nan]})).leader is None


def test_a_winner_that_the_network_before_training_reaches_is_amber() -> None:
    gains = {(spec, seed): (0.01 * (seed - 1), NONE) for spec in SEEDS for seed in range(3)}
    verdict = judge(measured(SEEDS, gains=gains))
    assert not verdict.green
    assert "not told from the network before training" in verdict.reason


def test_the_pooled_interval_is_that_of_an_additive_model() -> None:
    """Against ordinary least squares on dummies of objective and seed."""
    data = measured(SEEDS)
    table = np.array(list(SEEDS.values()))
    objective, seed = np.indices(table.shape)
    design = np.hstack(
        [np.eye(3)[objective.ravel()], np.eye(3)[seed.ravel()][:, 1:]]
    )  # one dummy of a seed less: they add up
    _, residuals, rank, _ = np.linalg.lstsq(design, table.ravel(), rcond=None)
    freedom = table.size - rank
    variance = float(residuals[0]) / freedom
    assert residual_variance(table) == (pytest.approx(variance), freedom)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(2 * variance / 3)
    found = paired_interval(data, "mlm", "ar")
    assert found.mean == pytest.approx(np.mean(table[1] - table[0]))
    assert (found.low, found.high) == (
        pytest.approx(found.mean - half),
        pytest.approx(found.mean + half),
    )
    own = own_interval(data.scores, data, "ar")
    spread = sum(((row - row.mean()) ** 2).sum() for row in table) / 6
    assert own.high - own.mean == pytest.approx(stats.t.ppf(0.975, 6) * np.sqrt(spread / 3))


def test_what_is_on_the_plateau_is_no_candidate_and_lends_no_variance() -> None:
    """Two seeds, and one objective at the unigram model that leaps about."""
    scores = {"ar": [-2.0, -2.01], "ar + vmlm": [-2.02, -2.035], "mlm": [-1.0, -9.0]}
    data = measured(
        scores,
        "bits_per_byte",
        gains={},
        floors={"trigram": -2.5},
        leader_before="ar",
        plateau=frozenset({"mlm"}),
    )
    verdict = judge(data)
    assert verdict.leader == "ar"
    assert "mlm" not in verdict.candidates
    assert verdict.degrees_of_freedom == 1
    alone = {spec: scores[spec] for spec in ("ar", "ar + vmlm")}
    same = measured(alone, "bits_per_byte", gains={}, floors={}, leader_before="ar")
    assert paired_interval(data, "ar", "ar + vmlm") == paired_interval(same, "ar", "ar + vmlm")
    assert verdict.floor_score == pytest.approx(2.5), "bits are told as they are"
    everywhere = measured(scores, "bits_per_byte", plateau=frozenset(scores))
    assert judge(everywhere).leader == "ar", "where none has left it, all are candidates"


def test_what_would_settle_a_tie_is_a_number_of_seeds() -> None:
    """That many seeds of the same spread do tell them apart."""
    tied = {"ar": [0.50, 0.53, 0.51], "mlm": [0.515, 0.54, 0.54]}
    data = measured(tied)
    verdict = judge(data)
    assert verdict.candidates == ["mlm", "ar"]
    needed = int(verdict.settle.split("about ")[1].split()[0])
    assert needed > 3
    repeated = {spec: (values * needed)[:needed] for spec, values in tied.items()}
    assert judge(measured(repeated)).candidates == ["mlm"]
    hopeless = {"ar": [0.50, 0.56, 0.51], "mlm": [0.53, 0.51, 0.531]}
    assert "larger budget" in judge(measured(hopeless)).settle


def test_the_verdict_of_all_needs() -> None:
    green = judge(measured(SEEDS))
    other = Verdict(True, leader="ar", candidates=["ar"])
    tied = Verdict(False, leader="ar", candidates=["ar", "mlm"])
    none = Verdict(False)
    assert judge_all({"label_texts": green, "write": none}, NAMES).recommendation == "not measured"
    split = judge_all({"label_texts": green, "write": other}, NAMES).recommendation
    assert split == "none: mlm for label texts, ar for write"
    both = judge_all({"label_texts": green, "write": green, "label_tokens": none}, NAMES)
    assert (both.green, both.recommendation) == (True, "mlm")
    half = judge_all({"label_texts": green, "write": tied}, NAMES)
    assert (half.green, half.candidates) == (False, ["mlm"])
    assert "open: write" in half.reason
