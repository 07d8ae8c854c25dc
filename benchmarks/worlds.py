"""Enumerable worlds: exact tails, errors and bounds of every objective, and the lengths that
training shows.

    python -m benchmarks.worlds                                    # 2 seconds; nothing is random
    python -m benchmarks.worlds --json results/data/worlds.json    # the same, and writes the record
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.records import write_record
from benchmarks.tables import TABLES
from benchmarks.worlds_shown import WorldFigures, world_figures, worlds
from lookaround.objectives import parse
from lookaround.theory.worlds import (
    World,
    length_misalignment,
    literal_cooccurrence,
    prefix_coverage,
)

SPECS = ("ar", "dar", "mlm(rate=0.25)", "mlm(rate=0.5)", "vmlm")
LENGTHS = (
    "ar",
    "mlm",
    "mlm(rate=0.5)",
    "vmlm(suffix=0)",
    "vmlm",
    "vmlm(suffix=1)",
    "mdlm",
    'mdlm(weight="elbo")',
)
RANKS = (2, 4)
TOKENS = 8  # of a row, for lengths
TIE = "tie"  # in place of what is not unique
DIGITS = 9  # kept of each number, so that two machines write the same record


def figures_of(world: World, rank: int) -> dict[str, WorldFigures]:
    """{objective: its figures in a world}; at the lowest rank also `ar` with one target alone."""
    literals = {spec: literal_cooccurrence(world, parse(spec)) for spec in SPECS}
    if rank == RANKS[0]:
        last = world.length
        fixed = literal_cooccurrence(world, parse("ar"), position=last)
        literals[f"ar, target at {last} only"] = fixed
    return {spec: world_figures(literal, rank) for spec, literal in literals.items()}


def row(world: World, rank: int, spec: str, found: WorldFigures) -> dict[str, Any]:
    numbers = {
        "tail": found.tail,
        "alpha": found.probe.alpha,
        "error": found.probe.error,
        "bound": found.probe.bound,
        "spectral_bound": found.probe.spectral_bound,
        "chance": found.chance,
    }
    rounded: dict[str, Any] = {
        key: round(abs(value), DIGITS) if np.isfinite(value) else "inf"
        for key, value in numbers.items()
    }
    if found.tied(rank):  # of equal singular values any basis is as good, and each machine has one
        rounded |= {"error": TIE, "bound": TIE}
    return {
        "world": world.name,
        "objective": spec,
        "rank": rank,
        "contexts": found.contexts,
        **rounded,
    }


def sign(first: float, second: float) -> str:
    """The sign of a difference."""
    return {-1: "-", 0: "0", 1: "+"}[int(np.sign(round(first - second, DIGITS)))]


def measured() -> dict[str, list[dict[str, Any]]]:
    """The rows of the three tables."""
    rows: dict[str, list[dict[str, Any]]] = {"worlds": [], "signs": [], "lengths": []}
    for world in worlds():
        for rank in RANKS:
            found = figures_of(world, rank)
            rows["worlds"] += [row(world, rank, spec, figures) for spec, figures in found.items()]
            ar, mlm = found["ar"], found["mlm(rate=0.25)"]
            signs = {
                "tail": sign(ar.tail, mlm.tail),
                "error": TIE
                if ar.tied(rank) or mlm.tied(rank)
                else sign(ar.probe.error, mlm.probe.error),
            }
            rows["signs"].append({"world": world.name, "rank": rank, **signs})
    for spec in LENGTHS:
        covered = prefix_coverage(parse(spec), TOKENS)
        rows["lengths"].append(
            {
                "objective": spec,
                "misalignment": round(abs(length_misalignment(parse(spec), TOKENS)), DIGITS),
                "least": float(f"{covered.min():.{DIGITS}g}"),
                "greatest": float(f"{covered.max():.{DIGITS}g}"),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    given = parser.parse_args()
    rows = measured()
    for table in (table for table in TABLES.values() if table.record == "worlds"):
        print("\n".join(table.lines(rows[table.rows])) + "\n")
    if given.json:
        write_record(given.json, rows, seeds=0, budget="exact: every sequence is listed")


if __name__ == "__main__":
    main()
