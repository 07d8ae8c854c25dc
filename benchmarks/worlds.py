"""The enumerable worlds of RESULTS.md: exact tails, errors and bounds of every objective, and the
lengths training shows.

python benchmarks/worlds.py                     # seconds; nothing is random
"""

from __future__ import annotations

import numpy as np

from lookaround.objectives import parse
from lookaround.theory.worlds import (
    Literal,
    World,
    length_misalignment,
    literal_cooccurrence,
    prefix_coverage,
)
from worlds_shown import world_figures, worlds

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


def line(world: World, label: str, literal: Literal, rank: int) -> str:
    found = world_figures(literal, rank)
    probe = found.probe
    return (
        f"| {world.name} | `{label}` | {rank} | {len(literal.labels)} | {found.tail:.3f} | "
        f"{probe.alpha:.3f} | {probe.error:.3f} | "
        f"{probe.bound:.3f} | {probe.spectral_bound:.3f} | {found.chance:.3f} |"
    )


def main() -> None:
    print(
        "| world | objective | rank | contexts | tail | alpha | error | bound | 2 alpha / (1 - "
        "sigma^2) | chance |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    signs: list[str] = []
    for world in worlds():
        for rank in RANKS:
            for spec in SPECS:
                print(line(world, spec, literal_cooccurrence(world, parse(spec)), rank))
            if rank == RANKS[0]:
                last = world.length
                fixed = literal_cooccurrence(world, parse("ar"), position=last)
                print(line(world, f"ar, target at {last} only", fixed, rank))
            ar, mlm = (
                world_figures(literal_cooccurrence(world, parse(s)), rank)
                for s in ("ar", "mlm(rate=0.25)")
            )
            tails, errors = (
                {-1: "-", 0: "0", 1: "+"}[int(np.sign(round(a - b, 9)))]
                for a, b in ((ar.tail, mlm.tail), (ar.probe.error, mlm.probe.error))
            )
            signs.append(f"| {world.name} | {rank} | {tails} | {errors} |")
    print(
        "\n| world | rank | sign of tail(ar) - tail(mlm .25) | sign of error(ar) - error(mlm .25) "
        "|\n|---|---|---|---|"
    )
    print("\n".join(signs))
    print(
        f"\n| objective | length misalignment, {TOKENS} tokens | least coverage of a prefix | "
        "greatest |\n|---|---|---|---|"
    )
    for spec in LENGTHS:
        covered = prefix_coverage(parse(spec), TOKENS)
        print(
            f"| `{spec}` | {length_misalignment(parse(spec), TOKENS):.3f} | {covered.min():.1e} | "
            f"{covered.max():.1e} |"
        )


if __name__ == "__main__":
    main()
