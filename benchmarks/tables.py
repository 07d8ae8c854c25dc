"""Markdown tables of RESULTS.md out of the results.json of a study.

    python benchmarks/tables.py lookaround-english/results.json
    python benchmarks/tables.py lookaround-synthetic/results.json --figures docs

Means with 95 % intervals as `compare` and `synthetic` computed them; of a comparison also the
paper's two claims at every rung, as paired differences. --figures: the folder that learning curves
of synthetic tasks are written to, synthetic-2-3.svg for pathstar(2,3).
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from lookaround.report import load_results
from lookaround.report.html import synthetic_figures
from lookaround.report.schema import SyntheticResults

CLAIMS = (
    ("`dar` - `ar`, classification (mean score, up is better)", "dar", "ar", "classification"),
    ("`vmlm` - `mlm`, bits per byte (down is better)", "vmlm", "mlm", "bits_per_byte"),
    ("`vmlm` - `mlm(rate=0.4)`, bits per byte", "vmlm", "mlm(rate=0.4)", "bits_per_byte"),
    (
        "`0.7*mlm(rate=0.4) >> 0.3*vmlm(suffix=0.5, shift=0)` - `mlm(rate=0.4)`, bits per byte",
        "0.7*mlm(rate=0.4) >> 0.3*vmlm(suffix=0.5, shift=0)",
        "mlm(rate=0.4)",
        "bits_per_byte",
    ),
)


def synthetic(results: dict[str, Any]) -> None:
    """A line for each task and objective; steps in which each seed solved its task, - if it did
    not.
    """
    names = (
        "graph",
        "objective",
        "exact match",
        "success",
        "first hop",
        "later",
        "train",
        "solved at step",
        "other ways",
    )
    print(
        "| "
        + " | ".join((*names, "rate", "parameters", "seconds"))
        + " |\n|"
        + "---|" * (len(names) + 3)
    )

    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f}"

    for entry in results["summary"]:
        found = entry["exact_match"]
        mean = percent(found["mean"])
        if found["low"] is not None:
            mean += f" [{percent(max(found['low'], 0))}, {percent(min(found['high'], 1))}]"
        ways = list(entry["ways"].items())[1:]
        cells = [
            results["tasks"][entry["control_of"] or entry["graph"]]["title"],
            f"`{entry['objective']}`" + (", first hop only" if entry["control_of"] else ""),
            mean,
            f"{round(entry['success'] * entry['seeds'])}/{entry['seeds']}",
            *(
                percent((entry.get(name) or {}).get("mean"))
                for name in ("first_hop", "later_positions", "train_exact_match")
            ),
            ", ".join("-" if step is None else f"{step:,}" for step in entry["solved_at"]),
            ", ".join(f"{way} {percent(share)}" for way, share in ways),
            f"{entry['learning_rate']:g}",
            f"{entry['parameters']:,}",
            f"{entry['seconds']:.0f}",
        ]
        print("| " + " | ".join(cells) + " |")


def main(path: Path, figures: Path | None) -> None:
    results = load_results(path)
    if isinstance(results, SyntheticResults):
        synthetic(results)
        for task, svg in (synthetic_figures(results) if figures else {}).items():
            name = "-".join(re.findall(r"\w+", task.removeprefix("pathstar")))
            paper = (
                '</desc><rect width="100%" height="100%" fill="#fff"/>'  # also where pages are dark
            )
            text = svg.replace("</desc>", paper, 1)
            (figures / f"synthetic-{name}.svg").write_text(text, encoding="utf-8")
        return
    tasks = list(results["tasks"])
    summary = {(e["objective"], e["rung"], e["metric"]): e for e in results["summary"]}
    differences = {
        (e["objective"], e["reference"], e["rung"], e["metric"]): e for e in results["differences"]
    }
    specs = list(dict.fromkeys(entry["objective"] for entry in results["runs"]))
    rungs = sorted({entry["rung"] for entry in results["runs"]})
    unigram = results["unigram_bits_per_byte"]

    def cell(entry: dict) -> str:
        return f"{entry['mean']:.3f} ± {(entry['high'] - entry['low']) / 2:.3f}"

    names = [
        "bits per byte",
        "of unigram",
        "mean score",
        *tasks,
        "tokens",
        "targets",
        "seconds",
        "lr",
    ]
    print("| objective | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for spec in specs:
        runs = [
            entry for entry in results["runs"] if entry["objective"] == spec and entry["rung"] == 1
        ]
        bits = summary[spec, 1, "bits_per_byte"]
        cells = [
            cell(bits),
            f"{bits['mean'] / unigram:.0%}",
            cell(summary[spec, 1, "classification"]),
        ]
        cells += [cell(summary[spec, 1, f"classification/{task}"]) for task in tasks]
        for key in ("tokens", "targets"):
            cells.append(f"{sum(r['budget'][key] for r in runs) / len(runs) / 1e6:.2f}M")
        cells.append(f"{sum(r['budget']['seconds'] for r in runs) / len(runs):.0f}")
        cells.append(f"{runs[0]['learning_rate']:g}")
        print(f"| `{spec}` | " + " | ".join(cells) + " |")
    for name, label in (
        ("majority", "majority"),
        ("tfidf", "TF-IDF + logistic regression"),
        ("random_init", "before training"),
    ):
        scores = [results["baselines"][task][name] for task in tasks]
        row = ["", "", f"{sum(scores) / len(scores):.3f}", *(f"{score:.3f}" for score in scores)]
        print(f"| {label} | " + " | ".join(row) + " | | | | |")
    print(f"| unigram model | {unigram:.3f} | 100% |" + " |" * (len(names) - 2))

    print(
        "\n| paired difference | "
        + " | ".join(f"rung {rung:g}" for rung in rungs)
        + " |\n|"
        + "---|" * (len(rungs) + 1)
    )
    for label, objective, reference, metric in CLAIMS:
        cells = []
        for rung in rungs:
            sign, entry = 1, differences.get((objective, reference, rung, metric))
            if entry is None:
                sign, entry = -1, differences.get((reference, objective, rung, metric))
            if entry is None:
                break
            low, high = sorted((sign * entry["low"], sign * entry["high"]))
            cells.append(f"{sign * entry['mean']:+.3f} [{low:+.3f}, {high:+.3f}]")
        if cells:
            print(f"| {label} | " + " | ".join(cells) + " |")
    print("\n" + "\n".join(f"* {need}: {text}" for need, text in results["recommendation"].items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("--figures", type=Path)
    given = parser.parse_args()
    main(given.results, given.figures)
