"""Does the order of objectives at a small rung hold at the whole budget, in other seeds?

    python -m benchmarks.small_rung lookaround-track/{wiki,dialogue}/results.json \\
        lookaround-evaluation/5e13/results.json \\
        --json results/data/small-rung.json

Seconds. The studies are comparisons of three seeds or more with two rungs or more: those of
benchmarks/track_record.py and of benchmarks/evaluation.sh at 5e13. The rows lie in the
package too, because `lookaround compare --until` quotes them; results/forecast.md shows them.

A unit is a (study, task). In each, every seed is held out once: of the pairs of objectives that the
other seeds tell apart at the smallest rung (Student, variance pooled over objectives and seeds, as
in a verdict), `rate` is the share that the held-out seed orders alike at the whole budget. Beside
it, on the same pairs: `same order`, one order for every task, by the mean rank at the whole budget
of the other units of the kind, which no small run knows. And `whole budget`: the
same rate where the other seeds are read at the whole budget too, on the pairs that they tell apart
there: what a rung could reach. Intervals: 95 % bootstrap over units.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata, t

from benchmarks.held_out import printed
from benchmarks.records import ROOT, write_record
from lookaround.report.schema import load_results
from lookaround.studies.compare.verdict import residual_variance
from lookaround.support.storage import write_text

KINDS = {
    "probe": "labels of texts",
    "tokens": "labels of words",
    "pairs": "minimal pairs",
    "order": "word order",
    "bits_per_byte": "bits per byte",
}
RESAMPLES = 10_000
QUOTED = ROOT / "src" / "lookaround" / "studies" / "compare" / "small_rung.json"


@dataclass(frozen=True)
class Unit:
    """The scores of a (study, task) at the smallest rung and at the whole budget, each (O, S)."""

    study: str
    task: str
    objectives: tuple[str, ...]
    small: np.ndarray
    full: np.ndarray


def units_of(results: dict[str, Any], study: str) -> dict[str, list[Unit]]:
    """{kind: units} of a study; of more is better."""
    runs = {(run["objective"], run["seed"], run["rung"]): run["scores"] for run in results["runs"]}
    objectives, seeds, rungs = (
        list(dict.fromkeys(key[place] for key in runs)) for place in range(3)
    )
    found: dict[str, list[Unit]] = defaultdict(list)
    for kind in KINDS:
        sign = -1 if kind == "bits_per_byte" else 1
        for task in next(iter(runs.values())).get(kind, {}):
            small, full = (
                sign
                * np.array(
                    [
                        [runs[spec, seed, rung][kind][task]["score"] for seed in seeds]
                        for spec in objectives
                    ]
                )
                for rung in (min(rungs), max(rungs))
            )
            found[kind].append(Unit(study, task, tuple(objectives), small, full))
    return found


def scores_of(results: dict[str, Any], study: str) -> list[dict[str, Any]]:
    """A row for each run, with its score in every kind and task."""
    return [
        {"study": study}
        | {key: run[key] for key in ("objective", "seed", "rung")}
        | {
            f"{kind}/{task}": round(entry["score"], 6)
            for kind in KINDS
            for task, entry in run["scores"].get(kind, {}).items()
        }
        for run in results["runs"]
    ]


def told_apart(scores: np.ndarray) -> dict[tuple[int, int], float]:
    """{(one, other): mean difference} of the pairs of rows of (O, S) that seeds tell apart."""
    variance, freedom = residual_variance(scores)
    seeds = scores.shape[1]
    half = float(t.ppf(0.975, freedom)) * math.sqrt(2 * variance / seeds)
    means = scores.mean(1)
    pairs = itertools.combinations(range(len(means)), 2)
    apart = {(one, other): float(means[one] - means[other]) for one, other in pairs}
    return {pair: difference for pair, difference in apart.items() if abs(difference) > half}


def kept(unit: Unit, predicted: np.ndarray, order: dict[str, float] | None = None) -> np.ndarray:
    """(pairs that a held-out seed orders alike, pairs told apart), over seeds held out.

    predicted: (O, S), what tells pairs apart and orders them.
    order: of objectives, which orders them in its place.
    """
    alike = number = 0.0
    for held_out in range(unit.full.shape[1]):
        others = np.delete(predicted, held_out, axis=1)
        for (one, other), difference in told_apart(others).items():
            if order is not None:
                names = unit.objectives
                difference = order.get(names[one], math.nan) - order.get(names[other], math.nan)
            truth = unit.full[one, held_out] - unit.full[other, held_out]
            product = np.sign(difference) * np.sign(truth)
            alike += 0.5 if product == 0 or math.isnan(product) else float(product > 0)
            number += 1
    return np.array([alike, number])


def same_order(unit: Unit, units: list[Unit]) -> dict[str, float]:
    """The mean rank of objectives at the whole budget in the other units, seeds pooled."""
    ranks: dict[str, list[float]] = defaultdict(list)
    for other in units:
        if (other.study, other.task) != (unit.study, unit.task):
            means = other.full.mean(1)
            for name, rank in zip(other.objectives, rankdata(means) / len(means), strict=True):
                ranks[name].append(float(rank))
    return {name: float(np.mean(found)) for name, found in ranks.items()}


def rate(counts: np.ndarray) -> dict[str, float]:
    """The share of pairs kept, and its bootstrap interval over units (U, 2).

    Raises SystemExit where no pair is told apart.
    """
    if not counts[:, 1].any():
        raise SystemExit("no pair of objectives is told apart at the smallest rung")
    draws = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    alike, number = counts[draws].sum(axis=1).T
    shares = alike[number > 0] / number[number > 0]
    low, high = np.quantile(shares, [0.025, 0.975])
    whole = counts.sum(axis=0)
    named = {"mean": whole[0] / whole[1], "low": low, "high": high}
    return {name: round(float(value), 4) for name, value in named.items()}


def rows_of(units: dict[str, list[Unit]]) -> list[dict[str, Any]]:
    """A row for each kind of score, and one for all."""
    counted = {
        kind: {
            "rate": np.array([kept(unit, unit.small) for unit in same]),
            "same_order": np.array(
                [kept(unit, unit.small, same_order(unit, same)) for unit in same]
            ),
            "whole_budget": np.array([kept(unit, unit.full) for unit in same]),
        }
        for kind, same in units.items()
    }
    columns = ("rate", "same_order", "whole_budget")
    counted["all"] = {
        name: np.concatenate([of[name] for of in counted.values()]) for name in columns
    }
    everything = {**units, "all": [unit for same in units.values() for unit in same]}
    return [
        {
            "kind": kind,
            "title": KINDS.get(kind, "all"),
            "units": len(some),
            "pairs": int(counted[kind]["rate"][:, 1].sum()),
            "of": sum(math.comb(len(u.objectives), 2) * u.full.shape[1] for u in some),
            **{name: rate(counted[kind][name]) for name in columns},
        }
        for kind, some in everything.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+", help="results.json of comparisons")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    options = parser.parse_args()
    units: dict[str, list[Unit]] = defaultdict(list)
    seeds, scores = set(), []
    for file in options.results:
        results = load_results(file)
        seeds.add(results["settings"]["compare"]["seeds"])
        for kind, found in units_of(results, file.parent.name).items():
            units[kind] += found
        scores += scores_of(results, file.parent.name)
    rows = rows_of(units)
    printed({"small rung": rows})
    if options.json:
        write_record(options.json, {"small_rung": rows, "runs": scores}, seeds=min(seeds))
        write_text(QUOTED, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
