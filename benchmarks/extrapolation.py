"""Whether what the lower rungs of a ladder say of larger budgets comes true on its upper rungs.

    xz -dc $LOOKAROUND_DATA/text/wiki.train.txt.xz > wiki.txt
    lookaround compare wiki.txt --objectives ar --seeds 3 --budget 1.5e13flops \\
        --set "compare.ladder=[0.0208,0.0295,0.0417,0.0589,0.0833,0.125,0.167,0.333,0.667,1]" \\
        --set train.batch=4 \\
        --set "compare.lr_factors=[2]" --set "compare.weight_decays=[0.1]" \\
        --set forecast.enabled=false --protocols bits_per_byte --set evaluate.positions=1024 \\
        --out ladder
    python -m benchmarks.extrapolation ladder --json results/data/extrapolation.json

The study takes 15 minutes on two CPU cores; further studies may be named. Each rung in turn is the
top of a ladder that ends there: the law through it and those below is asked for every higher rung
of at most 8 times its FLOPs. "held": whether the mean over the seeds there lies in the interval.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.records import write_record
from lookaround.evaluation.scaling import TIMES, fit_law
from lookaround.report import load_results
from lookaround.studies.plan import ladders_of, law_data


def backtest(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(what was foretold and what came, which tops bear no law and why), of every objective."""
    study = load_results(folder)
    foretold, refused = [], []
    for objective in sorted({run.objective for run in study.runs}):
        flops, bits = law_data(ladders_of(study, objective))
        for top in range(len(flops)):
            law = fit_law(flops[: top + 1], bits[:, : top + 1], study.unigram_bits_per_byte)
            line = {"objective": objective, "top": float(f"{flops[top]:.3g}")}
            if isinstance(law, str):
                refused.append({**line, "bits": round(float(bits[:, top].mean()), 3), "why": law})
                continue
            for rung in range(top + 1, len(flops)):
                times = flops[rung] / flops[top]
                if times <= TIMES[-1] * 1.05:
                    mean, low, high = law.at(flops[rung])
                    came = float(bits[:, rung].mean())
                    foretold.append(
                        {
                            **line,
                            "rungs": len(law.flops),
                            "times": round(float(times), 1),
                            "bits": {"mean": mean, "low": low, "high": high},
                            "came": came,
                            "error": mean - came,
                            "held": bool(low <= came <= high),
                        }
                    )
    return foretold, refused


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    foretold, refused = [], []
    for folder in given.studies:
        some, others = backtest(folder)
        foretold += some
        refused += others
    for row in foretold:
        mean, low, high = (row["bits"][key] for key in ("mean", "low", "high"))
        print(
            f"{row['objective']:<14} {row['top']:.2e} x{row['times']:<4} {mean:.3f} "
            f"[{low:.3f}, {high:.3f}]  came {row['came']:.3f}  {'' if row['held'] else 'MISSED'}"
        )
    for row in refused:
        print(f"{row['objective']:<14} {row['top']:.2e} {row['bits']:.3f}  {row['why']}")
    held = sum(row["held"] for row in foretold)
    print(f"{held} of {len(foretold)} intervals held")
    if given.json:
        write_record(given.json, {"foretold": foretold, "refused": refused}, seeds=3)


if __name__ == "__main__":
    main()
