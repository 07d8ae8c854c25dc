"""benchmarks/small_rung.py: does the order at a small rung hold at the whole budget?"""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.records import DATA
from benchmarks.small_rung import (
    QUOTED,
    Unit,
    kept,
    rate,
    rows_of,
    same_order,
    told_apart,
    units_of,
)

# three objectives, told apart by any two seeds
ORDERED = np.array([[0.0, 0.01, 0.02], [1.0, 1.02, 1.01], [2.01, 2.0, 2.02]])


def unit(small: np.ndarray, full: np.ndarray, study: str = "one", task: str = "a") -> Unit:
    return Unit(study, task, ("ar", "dar", "mlm"), small, full)


def test_a_pair_is_told_apart_by_a_pooled_student_interval() -> None:
    # residuals +-0.05 of three objectives and two seeds: variance 0.01 / 2, t(2) = 4.303
    scores = np.array([[0.0, 0.1], [0.05, 0.05], [1.0, 1.1]])
    rest = scores - scores.mean(1, keepdims=True) - scores.mean(0) + scores.mean()
    half = 4.30265 * np.sqrt(2 * (rest**2).sum() / 2 / 2)
    assert told_apart(scores) == {
        pair: pytest.approx(difference)
        for pair, difference in {(0, 2): -1.0, (1, 2): -1.0, (0, 1): 0.0}.items()
        if abs(difference) > half
    }
    assert set(told_apart(scores)) == {(0, 2), (1, 2)}


def test_the_truth_is_that_of_a_seed_that_did_not_predict() -> None:
    assert kept(unit(ORDERED, ORDERED), ORDERED).tolist() == [9, 9]
    assert kept(unit(ORDERED, -ORDERED), ORDERED).tolist() == [0, 9]
    turned = ORDERED.copy()
    turned[:, 0] = -turned[:, 0]  # the whole budget of one seed turns the order round
    assert kept(unit(ORDERED, turned), ORDERED).tolist() == [6, 9]


def test_one_order_for_all_comes_from_other_units() -> None:
    own = unit(ORDERED, ORDERED)
    other = unit(ORDERED, -ORDERED, task="b")
    assert same_order(own, [own]) == {}
    order = same_order(own, [own, other])
    assert order == {"ar": 1.0, "dar": pytest.approx(2 / 3), "mlm": pytest.approx(1 / 3)}
    assert kept(own, ORDERED, order).tolist() == [0, 9]


def test_the_interval_is_over_units() -> None:
    counts = np.array([[9.0, 9.0]] * 3 + [[0.0, 9.0]])
    found = rate(counts)
    assert found["mean"] == 0.75
    assert (found["low"], found["high"]) == (0.25, 1.0)


def test_fewer_bits_are_better() -> None:
    results = {
        "runs": [
            {
                "objective": spec,
                "seed": seed,
                "rung": rung,
                "scores": {
                    "bits_per_byte": {"text": {"score": bits - rung}},
                    "probe": {"topic": {"score": bits + seed}},
                },
            }
            for spec, bits in (("ar", 2.0), ("mlm", 3.0))
            for seed in (0, 1)
            for rung in (0.1, 0.3, 1.0)
        ]
    }
    units = units_of(results, "study")
    assert units["bits_per_byte"][0].full.tolist() == [[-1.0, -1.0], [-2.0, -2.0]]
    assert units["bits_per_byte"][0].small.tolist() == [[-1.9, -1.9], [-2.9, -2.9]]
    assert units["probe"][0].full.tolist() == [[2.0, 3.0], [3.0, 4.0]]


def test_what_the_package_quotes_is_the_record() -> None:
    record = json.loads((DATA / "small-rung.json").read_text())
    assert json.loads(QUOTED.read_text()) == record["rows"]["small_rung"]


def test_the_record_follows_from_its_scores() -> None:
    rows = json.loads((DATA / "small-rung.json").read_text())["rows"]
    found: dict[str, list[Unit]] = {row["kind"]: [] for row in rows["small_rung"][:-1]}
    for study in dict.fromkeys(run["study"] for run in rows["runs"]):
        runs = [
            {key: run[key] for key in ("objective", "seed", "rung")}
            | {
                "scores": {
                    kind: {
                        name.partition("/")[2]: {"score": score}
                        for name, score in run.items()
                        if name.startswith(f"{kind}/")
                    }
                    for kind in found
                }
            }
            for run in rows["runs"]
            if run["study"] == study
        ]
        for kind, units in units_of({"runs": runs}, study).items():
            found[kind] += units
    assert rows_of(found) == rows["small_rung"]
