"""Text that is read many times: bits per byte against epochs, by objective and weight decay.

    python -m benchmarks.repeated lookaround-repeated --tokens 50000 --budget 2e13flops
    python -m benchmarks.repeated lookaround-repeated --tokens 100000 --budget 3e13flops
    python -m benchmarks.repeated lookaround-repeated --json results/data/repeated.json

Four hours of one core for the first and six for the second; a seed of the first takes 45
minutes on two cores, or all three seven minutes on an H200. `--seeds`, `--objectives`, `--decays`
and `--until` make a part, `--jobs` says how many runs are made at once, and the same command goes
on.

Every seed draws articles of its own from English Wikipedia, of each the first 4,000 bytes to the
end of a line: about so many tokens to train on, half of that for validation and for testing each.
Every rung of a ladder is a run whose learning rate has decayed to 0.
`lookaround compare` makes a study for each seed and weight decay, in
OUT/TOKENS/decay-DECAY/seed-SEED. The rung and the decay of an objective are chosen by the chain
rule's bits per byte of validation text and reported on test text. Reads $LOOKAROUND_DATA (default
../shared/data), text/wiki.train.txt.xz.
"""

from __future__ import annotations

import argparse
import json
import lzma
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

import lookaround
from benchmarks.held_out import Run, over_seeds, printed, score_runs
from benchmarks.records import write_record
from benchmarks.texts import TEXTS, require_texts
from lookaround.support.storage import write_text

OBJECTIVES = "ar, ar(rate=0.15), mlm(rate=0.4), vmlm(suffix=0), ar + vmlm"
DECAYS = (0.1, 2.0)
LADDER = [0.02, 0.06, 0.1, 0.2, 0.5, 1.0]
RUNS = "repeated.json"  # in the folder of a study
VALIDATION, TEST = 0.25, 0.25  # of the articles
ARTICLE = 4000  # bytes of an article, and the rest of a line
BYTES_PER_TOKEN = 2.49  # of these articles, with a vocabulary of 1,024 trained on them
REFERENCE = "ar"


def corpus_of(folder: Path, tokens: int, seed: int) -> Path:
    """Beginnings of articles in an order of the seed's own, until all three parts have tokens."""
    file = folder / f"articles-{seed}.jsonl"
    if not file.is_file():
        with lzma.open(TEXTS / "text" / "wiki.train.txt.xz", "rt", encoding="utf-8") as text:
            articles = text.read().split("\n\n")
        wanted = tokens * BYTES_PER_TOKEN / (1 - VALIDATION - TEST)
        lines, size = [], 0
        for number in np.random.default_rng(seed).permutation(len(articles)):
            if size >= wanted:
                break
            begun = beginning(articles[number])
            size += len(begun.encode())
            lines.append(json.dumps({"text": begun}) + "\n")
        write_text(file, "".join(lines))
    return file


def beginning(article: str) -> str:
    """The first lines of an article, ARTICLE bytes or a little more."""
    lines, size = [], 0
    for line in article.splitlines(keepends=True):
        if size >= ARTICLE:
            break
        lines.append(line)
        size += len(line.encode())
    return "".join(lines)


def study(options: argparse.Namespace, decay: float, seed: int) -> None:
    """Makes or goes on with a study of one seed at one weight decay; writes what its runs score."""
    folder = options.out / str(options.tokens) / f"decay-{decay:g}" / f"seed-{seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    given = {"jobs": options.jobs, "until": options.until}
    lookaround.compare(
        corpus_of(options.out / str(options.tokens), options.tokens, seed),
        out=folder,
        objectives=options.objectives,
        budget=options.budget,
        seeds=1,
        seed=seed,
        protocols=["bits_per_byte"],
        **{name: value for name, value in given.items() if value is not None},
        settings={
            "model.context": 64,
            "model.precision": "fp32",
            "train.batch": 32,
            "train.weight_decay": decay,
            "data.validation": VALIDATION,
            "data.test": TEST,
            "data.split_seed": seed,
            "compare.lr_factors": [2.0],
            "compare.weight_decays": [decay],
            "compare.ladder": LADDER,
            "evaluate.samples": 0,
            "forecast.enabled": False,
        },
    )
    score_runs(folder, folder / RUNS, decay=decay)


def runs_of(folder: Path) -> list[Run]:
    """Every run of the studies of one number of tokens: what it is and what it scored."""
    files = sorted(folder.glob(f"decay-*/seed-*/{RUNS}"))
    return [run for file in files for run in json.loads(file.read_text())]


def curves(runs: list[Run]) -> list[dict[str, Any]]:
    """A row for each objective and decay: test bits per byte over seeds by rung, and epochs."""
    grouped: dict[tuple[str, float], dict[float, list[Run]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for run in runs:
        grouped[run["objective"], run["decay"]][run["rung"]].append(run)
    return [
        {"objective": objective, "mode": same[0]["mode"], "decay": decay, "seeds": len(same)}
        | {
            f"{rung:g}": over_seeds([run["test"] for run in by_rung[rung]])
            for rung in sorted(by_rung)
        }
        | {
            f"epochs {rung:g}": round(fmean(run["epochs"] for run in by_rung[rung]), 1)
            for rung in sorted(by_rung)
        }
        for (objective, decay), by_rung in sorted(grouped.items())
        for same in [next(iter(by_rung.values()))]
    ]


def best(runs: list[Run]) -> list[dict[str, Any]]:
    """A row for each objective and decay: the rung that is best on validation text, its test bits
    per byte, and the same less those of the best `ar`, paired; `chosen` where the decay is the
    better one for every seed. Where seeds differ, a further row has each seed's own ("either").
    """
    chosen: dict[tuple[str, str], dict[int, Run]] = defaultdict(dict)
    for run in runs:
        for decay in (f"{run['decay']:g}", "either"):
            seeds = chosen[run["objective"], decay]
            known = seeds.get(run["seed"])
            if known is None or run["validation"] < known["validation"]:
                seeds[run["seed"]] = run
    reference = chosen[REFERENCE, "either"]
    rows = []
    for (objective, decay), seeds in sorted(chosen.items()):
        own = {f"{run['decay']:g}" for run in chosen[objective, "either"].values()}
        if decay == "either" and len(own) == 1:
            continue
        same = [seeds[seed] for seed in sorted(seeds)]
        away = [run["test"] - reference[run["seed"]]["test"] for run in same]
        rows.append(
            {
                "objective": objective,
                "mode": same[0]["mode"],
                "decay": decay,
                "chosen": "yes" if own == {decay} or decay == "either" else "",
                "seeds": len(same),
                "epochs": [round(run["epochs"]) for run in same],
                "test": over_seeds([run["test"] for run in same]),
                "less_ar": over_seeds(away),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the studies")
    parser.add_argument("--tokens", type=int, help="to train on, about")
    parser.add_argument("--budget", default="2e13flops", help="of the last rung")
    parser.add_argument("--objectives", default=OBJECTIVES)
    parser.add_argument("--until", type=float, help="the rung to stop after")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--decays", default=",".join(f"{decay:g}" for decay in DECAYS))
    parser.add_argument("--jobs", type=int, help="processes; none: one per core, or one on a GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record of all studies")
    options = parser.parse_args()
    if options.tokens:
        require_texts()
        for seed in map(int, options.seeds.split(",")):
            for decay in map(float, options.decays.split(",")):
                study(options, decay, seed)
    rows = {
        f"{name}-{folder.name}": function(runs_of(folder))
        for folder in sorted(options.out.glob("[0-9]*"), key=lambda folder: int(folder.name))
        if runs_of(folder)
        for name, function in (("curves", curves), ("best", best))
    }
    printed(rows)
    if options.json:
        seeds = max(row["seeds"] for found in rows.values() for row in found)
        write_record(options.json, rows, seeds=seeds)


if __name__ == "__main__":
    main()
