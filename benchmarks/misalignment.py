"""How much masked models' predictions depend on the number of masks behind a prefix, and theory.

    python -m benchmarks.misalignment lookaround-evaluation/4e12 lookaround-evaluation/2e13 \\
        --json results/data/misalignment.json

Reads the models of finished studies of `lookaround compare` (benchmarks/evaluation.sh makes these),
each in its bidirectional mode if it has one: the divergence in nats of the prediction with 1, 2, 4
.. masks behind a prefix of held-out text from that with as many as a training row has, and the bits
per byte it writes in that mode. Intervals are over seeds, differences paired. Five seconds a model.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.held_out import over_seeds, study_text
from benchmarks.records import write_record
from lookaround.evaluation.bits_per_byte import BitsPerByte
from lookaround.evaluation.misalignment import Misalignment
from lookaround.model.readable import open_run

REFERENCE = "mlm(rate=0.4)"


def study_rows(folder: Path) -> list[dict[str, Any]]:
    """A row for each objective and rung of a study."""
    results, settings, text = study_text(folder)
    settings.evaluate.generation_mode = "bidirectional"
    protocols = {"nats": Misalignment(), "bits": BitsPerByte()}
    found: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for run in results["runs"]:
        model = open_run(folder / run["checkpoint"])
        mode = protocols["nats"].mode(model, settings.evaluate)
        scores = {
            name: protocol.run(model, text, settings.evaluate, run["seed"])
            for name, protocol in protocols.items()
        }
        details = scores["nats"].details
        figures = {name: scores[name].value for name in scores}
        found[run["objective"], run["rung"]].append(
            figures | {"flops": run["budget"]["flops"], "mode": mode.attention} | details
        )
        print(run["objective"], run["seed"], run["rung"], figures, flush=True)
    return [
        row_of(spec, rung, runs, found.get((REFERENCE, rung)))
        for (spec, rung), runs in found.items()
    ]


def row_of(
    spec: str, rung: float, runs: list[dict[str, Any]], reference: list[dict[str, Any]] | None
) -> dict[str, Any]:
    """Means over seeds of an objective at a rung; `less` is the reference's less its own, in nats
    and in bits.
    """
    row = {
        "objective": spec,
        "rung": rung,
        "flops": fmean(run["flops"] for run in runs),
        "seeds": len(runs),
        "mode": {"bidirectional": "masked"}.get(runs[0]["mode"], runs[0]["mode"]),
        "theory": runs[0]["theory"],
        **{name: over_seeds([run[name] for run in runs]) for name in ("nats", "bits")},
    }
    for masks in runs[0]["by_masks"]:
        row[f"{masks} masks"] = fmean(run["by_masks"][masks] for run in runs)
    if reference and spec != REFERENCE and row["mode"] == "masked":
        for name in ("nats", "bits"):
            pairs = zip(reference, runs, strict=True)
            row[f"less {name}"] = over_seeds([one[name] - other[name] for one, other in pairs])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", type=Path, nargs="+", help="folders of studies")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    given = parser.parse_args()
    rows = [row for folder in given.studies for row in study_rows(folder)]
    if given.json:
        compared = [row for row in rows if "less nats" in row]
        names = ("objective", "flops", "seeds", "less nats", "less bits")
        write_record(
            given.json,
            {"models": rows, "less": [{name: row[name] for name in names} for row in compared]},
            seeds=max(row["seeds"] for row in rows),
        )


if __name__ == "__main__":
    main()
