"""How much `ar` does masked writing need? Shares and orders at two budgets, read with masks.

    python -m benchmarks.masked_writing lookaround-masked-writing
    python -m benchmarks.masked_writing lookaround-masked-writing --json \\
        results/data/masked-writing.json

About three hours on two cores; the same command goes on. `--seeds`, `--recipes` and `--until 0.2`
(4e12 FLOPs, 25 minutes) make a part.

`lookaround compare` trains recipes of `ar` and `vmlm` on the English mix (`nano`, context 64) at
2e13 FLOPs, with the rung of 4e12 on the way, all at a learning rate of 0.002, and scores them in
their bidirectional mode: the chain rule with masks for all that follows. At each budget the
recipe is chosen by the bits per byte of validation text over seeds, and told by those of test text;
beside it, how well it fills gaps: bits per hidden token where 15 % of the test text are hidden.
Reads $LOOKAROUND_DATA (default ../shared/data), text/.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

import lookaround
from benchmarks.held_out import Run, over_seeds, printed, score_runs, study_text
from benchmarks.records import write_record
from benchmarks.texts import linked_mix, require_texts
from lookaround.evaluation.registry import TextData
from lookaround.model.backbone import Backbone
from lookaround.model.readable import open_run
from lookaround.objectives import parse
from lookaround.objectives.objective import Objective
from lookaround.support.storage import write_text
from lookaround.train.loss import ComponentSums, ObjectiveLoss

REFERENCE = "mlm(rate=0.4)"
RECIPES = (
    REFERENCE,
    "ar + 3*vmlm",
    "ar + vmlm",
    "3*ar + vmlm",
    "9*ar + vmlm",
    "27*ar + vmlm",
    "ar + vmlm(suffix=0)",
    "0.3*ar >> 0.7*vmlm",
    "0.3*ar >> 0.7*(ar + 3*vmlm)",
)
RUNS = "masked-writing.json"  # in the folder of the study
ROWS = 1024  # of 64 tokens, whose gaps are filled


def scored(study: Path) -> list[Run]:
    """The runs of a study that have a masked mode, each with `gaps`: bits per token of the 15 % of
    held-out rows that are hidden, the same ones for every run.
    """
    runs = score_runs(study, study / RUNS, masked=True)
    _, _, text = study_text(study)
    for run in runs:
        if "gaps" not in run:
            model = open_run(study / run["checkpoint"])
            (mode,) = (mode for mode in model.modes if mode.attention == "bidirectional")
            hidden = parse(f"mlm(rate=0.15, replace=(1, 0, 0), shift={mode.shift})")
            run["gaps"] = objective_bits(model.backbone.eval(), hidden, text)
            write_text(study / RUNS, json.dumps(runs, indent=1))
    return runs


def objective_bits(backbone: Backbone, objective: Objective, text: TextData) -> float:
    """The loss of an objective on the first ROWS held-out rows, in bits per target."""
    loss, sums = ObjectiveLoss(backbone), ComponentSums(objective.components())
    with torch.no_grad():
        for begin in range(0, ROWS, 32):
            views = objective.view(text.test.take(np.arange(begin, begin + 32)), 0, 0)
            sums.count(views)
            sums.add(loss(objective.components(), views, [1.0] * len(views))[1])
    return sums.mean() / math.log(2)


def rows_of(runs: list[Run]) -> list[dict[str, Any]]:
    """A row for each recipe and rung: bits per byte in the masked mode, less those of the
    reference, paired; the recipe that is best on validation text is marked.
    """
    rows = []
    for rung in sorted({run["rung"] for run in runs}):
        of = {
            recipe: {r["seed"]: r for r in runs if (r["objective"], r["rung"]) == (recipe, rung)}
            for recipe in dict.fromkeys(run["objective"] for run in runs if run["rung"] == rung)
        }
        means = {
            recipe: fmean(r["validation"] for r in same.values()) for recipe, same in of.items()
        }
        for recipe, same in of.items():
            away = {
                name: [run[name] - of[REFERENCE][seed][name] for seed, run in same.items()]
                for name in ("test", "gaps")
            }
            rows.append(
                {
                    "objective": recipe,
                    "flops": fmean(run["flops"] for run in same.values()),
                    "mode": next(iter(same.values()))["mode"],
                    "seeds": len(same),
                    "validation": means[recipe],
                    "test": over_seeds([run["test"] for run in same.values()]),
                    "less_reference": over_seeds(away["test"]),
                    "gaps": over_seeds([run["gaps"] for run in same.values()]),
                    "gaps_less_reference": over_seeds(away["gaps"]),
                    "chosen": "best" if means[recipe] == min(means.values()) else "",
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the study")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipes", default=", ".join(RECIPES), help="specs with commas between")
    parser.add_argument("--budget", default="2e13flops")
    parser.add_argument("--until", type=float, help="the rung to stop after")
    parser.add_argument("--jobs", type=int, help="processes; none: one per core, or one on a GPU")
    parser.add_argument(
        "--also", type=Path, nargs="*", default=[], help="other studies whose runs are scored too"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    options = parser.parse_args()
    require_texts()
    study = options.out / "study"
    given = {"jobs": options.jobs, "until": options.until}
    lookaround.compare(
        linked_mix(options.out / "mix"),
        out=study,
        objectives=options.recipes,
        budget=options.budget,
        seeds=options.seeds,
        protocols=["bits_per_byte"],
        **{name: value for name, value in given.items() if value is not None},
        settings={
            "model.context": 64,
            "model.precision": "fp32",
            "train.batch": 16,
            "data.vocabulary": 1024,
            "compare.ladder": [0.2, 1.0],
            "compare.lr_factors": [2.0],
            "evaluate.generation_mode": "bidirectional",
            "evaluate.samples": 0,
            "forecast.enabled": False,
        },
    )
    rows = {"recipes": [row for each in (study, *options.also) for row in rows_of(scored(each))]}
    printed(rows)
    if options.json:
        write_record(options.json, rows, seeds=options.seeds, budget="4e12 to 5e13 FLOPs a run")


if __name__ == "__main__":
    main()
