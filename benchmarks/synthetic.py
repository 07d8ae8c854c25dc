"""How fast path-star graphs are drawn: ours, and the generator published with the task, by turns.

    git clone https://github.com/gregorbachmann/Next-Token-Failures reference
    python -m benchmarks.synthetic --reference reference \\
        --json results/data/synthetic-generator.json
    python -m benchmarks.synthetic                                  # ours alone

Half a minute on one core.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.records import write_record
from benchmarks.tables import TABLES
from lookaround.studies.synthetic.tasks import Problems
from lookaround.studies.synthetic.tasks.pathstar import PathStar

GRAPHS = ((2, 3, 10), (2, 5, 50), (5, 5, 50), (7, 7, 100))  # degree, length, labels
ROUNDS = 5


def published(clone: Path) -> Callable[..., Any]:
    """Their generator of one graph, from a clone of their repository."""
    spec = importlib.util.spec_from_file_location("published_graphs", clone / "data" / "graphs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.star_graph


def rate(draw: Callable[[int], Any], seconds: float = 0.5) -> float:
    """Graphs per minute, drawn in growing numbers for about `seconds`."""
    count = 64
    while True:
        clock = time.perf_counter()
        draw(count)
        spent = time.perf_counter() - clock
        if spent > seconds / 2:
            return 60 * count / spent
        count *= 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, help="a clone of the published code")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    given = parser.parse_args()
    theirs = published(given.reference) if given.reference else None
    table, rows = TABLES["synthetic-generator"], []
    print("\n".join(table.lines([])))
    for degree, length, labels in GRAPHS:
        problems = Problems(PathStar(degree, length, labels=labels), "train")

        def draw_ours(count: int, problems: Problems = problems) -> None:
            for begin in range(0, count, 4096):
                problems.take(0, np.arange(begin, min(begin + 4096, count)))

        def draw_theirs(count: int, shape: tuple[int, int, int] = (degree, length, labels)) -> None:
            assert theirs is not None
            for _ in range(count):
                theirs(*shape)

        ours, other = [], []
        for _ in range(ROUNDS):
            ours.append(rate(draw_ours))
            if theirs:
                other.append(rate(draw_theirs))
        mine = statistics.median(ours)
        row: dict[str, Any] = {"graph": f"G({degree},{length}), {labels} labels", "ours": mine}
        if other:
            peer = statistics.median(other)
            row |= {"published": peer, "ratio": mine / peer}
        rows.append(row)
        print(table.lines([row])[-1], flush=True)
    if given.json:
        write_record(given.json, {"graphs": rows}, seeds=1, rounds=ROUNDS)


if __name__ == "__main__":
    main()
