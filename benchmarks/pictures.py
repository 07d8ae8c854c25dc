"""Objectives on pictures: MNIST and Fashion-MNIST, both halves, and whether pretraining pays.

    python -m benchmarks.pictures lookaround-pictures
    python -m benchmarks.pictures lookaround-pictures --json results/data/pictures.json
    python -m benchmarks.pictures lookaround-compare --grid docs/img/digits.svg

About an hour of two idle cores for each of the two; `--only` makes one of them, and the same
command goes on. `lookaround compare` makes a study of each in OUT/NAME. The objective that is
best on validation is the one whose states tell the classes of validation pictures best, by the
probe that is fitted on 3,000 training pictures; what it gains is told of test pictures. Reads
$LOOKAROUND_DATA (default ../shared/data), images/. `--grid` draws the completed pictures of any
study.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import os
from dataclasses import replace
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

import lookaround
from benchmarks.held_out import over_seeds, printed
from benchmarks.records import write_record
from benchmarks.texts import TEXTS
from lookaround.data.pictures import Pictures
from lookaround.data.source import picture_parts, read_source
from lookaround.evaluation.probe import Probe
from lookaround.evaluation.registry import TaskData, task_data
from lookaround.model.readable import open_run
from lookaround.settings import Settings
from lookaround.support.storage import write_text

# {study: {part: its files}}
SOURCES = {
    "fashion_mnist": {"train": "train10k", "test": "test2k"},
    "mnist": {"train": "npm10k", "test": "t10k"},
}
OBJECTIVES = "ar, rar, mlm(rate=0.5), dar, vmlm"
LABELS = [100, 1000]
VALIDATION = "validation.json"  # in the folder of a study


def unpacked(out: Path, name: str) -> Path:
    """The folder of a study's arrays, written from what is at hand."""
    folder = out / "data" / name
    for part, stem in SOURCES[name].items():
        for what in ("images", "labels"):
            file = folder / f"{part}_{what}.npy"
            if not file.is_file():
                folder.mkdir(parents=True, exist_ok=True)
                packed = TEXTS / "images" / name / f"{stem}_{what}.npy.xz"
                np.save(file, np.load(io.BytesIO(lzma.decompress(packed.read_bytes()))))
    return folder


def study(out: Path, name: str, options: argparse.Namespace) -> None:
    """Makes or goes on with a study, and probes its models on validation pictures."""
    folder = out / name
    data, before = unpacked(out, name), Path.cwd()
    os.chdir(out)  # results name the pictures, not the place
    try:
        lookaround.compare(
            images=str(data.relative_to(out)),
            out=folder.relative_to(out),
            objectives=options.objectives,
            budget=options.budget,
            seeds=options.seeds,
            **({} if options.jobs is None else {"jobs": options.jobs}),
            settings={
                "compare.ladder": [0.25, 0.5, 1.0],
                "compare.weight_decays": [0.1],
                "evaluate.finetune_labels": LABELS,
                "evaluate.finetune_draws": [3, 1],
                "evaluate.finetune_epochs": [40, 8],
                "evaluate.finetune_rates": [1.0, 3.0],
                "evaluate.probe_train": 9000,
                "forecast.enabled": False,
            },
        )
        _validate(folder)
    finally:
        os.chdir(before)


def _validate(folder: Path) -> None:
    """Writes how well each model's states tell the classes of validation pictures."""
    file, results = folder / VALIDATION, json.loads((folder / "results.json").read_text())
    settings = Settings.model_validate(results["settings"])
    pictures, (task,) = read_source(settings.data)
    assert isinstance(pictures, Pictures)
    labels, part = pictures.labels, picture_parts(pictures, settings.data)["validation"]
    assert labels is not None
    data = task_data(task, settings.evaluate.model_copy(update={"probe_train": 3000}))
    assert isinstance(data, TaskData)
    data = replace(data, test_inputs=list(pictures.pixels[part]), test_labels=labels[part])
    found = json.loads(file.read_text()) if file.is_file() else {}
    for run in results["runs"]:
        key = f"{run['objective']} {run['seed']}"
        if run["rung"] == 1 and key not in found:
            model = open_run(folder / run["checkpoint"])
            found[key] = Probe().run(model, data, settings.evaluate, run["seed"]).value
            write_text(file, json.dumps(found))


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """A row for each objective at the whole budget, then one for each baseline."""
    results = json.loads((folder / "results.json").read_text())
    validation = json.loads((folder / VALIDATION).read_text())
    runs = [run for run in results["runs"] if run["rung"] == 1]
    names = list(dict.fromkeys(run["objective"] for run in runs))
    mean = {
        name: fmean(validation[f"{name} {run['seed']}"] for run in runs if run["objective"] == name)
        for name in names
    }
    rows = []
    for name in names:
        same = [run for run in runs if run["objective"] == name]
        (task,) = same[0]["scores"]["probe"]
        probes = [run["scores"]["probe"][task] for run in same]
        tuned = [run["scores"]["finetune"][task]["by_labels"] for run in same]
        row = {
            "name": name,
            "best": "yes" if mean[name] == max(mean.values()) else "",
            "validation": mean[name],
            "bits": over_seeds([run["bits_per_byte"] for run in same]),
            "error": over_seeds([run["scores"]["reconstruction"]["text"]["score"] for run in same]),
            "probe": over_seeds([each["score"] for each in probes]),
            "probe_gain": over_seeds([each["score"] - each["before"] for each in probes]),
        }
        for place, count in enumerate(LABELS):
            lines = [line[place] for line in tuned]
            row |= {
                f"tuned_{count}": over_seeds([line["score"] for line in lines]),
                f"scratch_{count}": over_seeds([line["before"] for line in lines]),
                f"gain_{count}": over_seeds([line["score"] - line["before"] for line in lines]),
                f"frozen_{count}": over_seeds([line["probe"] for line in lines]),
            }
        rows.append(row)
    floors = results["baselines"][task]
    by_labels = runs[0]["scores"]["finetune"][task]["by_labels"]
    rows += [
        {"name": "raw pixels", "probe": floors["pixels"]}
        | {f"tuned_{count}": by_labels[place]["pixels"] for place, count in enumerate(LABELS)},
        {"name": "bag of codes", "probe": floors["bag_of_codes"]},
        {"name": "mean picture", "error": results["baselines"]["text"]["mean_picture"]},
        *(
            {"name": f"{kind} model", "bits": results[f"{kind}_bits_per_byte"]}
            for kind in ("unigram", "bigram", "trigram")
        ),
    ]
    return rows


def grid(folder: Path, side: int = 44, label: int = 120) -> str:
    """The completions of a study as an SVG: the pictures, what was given, a row for each model."""
    results = json.loads((folder / "results.json").read_text())
    runs = {run["objective"]: run for run in results["runs"] if run.get("pictures")}
    first = next(iter(runs.values()))["pictures"]
    lines = {name: [picture[name] for picture in first] for name in ("original", "given")}
    lines |= {
        name: [picture["completed"] for picture in run["pictures"]] for name, run in runs.items()
    }
    width, height = label + len(first) * (side + 4), len(lines) * (side + 4) + 4
    parts = []
    for row, (name, pictures) in enumerate(lines.items()):
        top = row * (side + 4) + 4
        parts.append(
            f'<text x="4" y="{top + side / 2 + 4}" font-family="sans-serif" font-size="12">'
            f"{escape(name)}</text>"
        )
        parts += [
            f'<image x="{label + column * (side + 4)}" y="{top}" width="{side}" height="{side}" '
            f'href="{picture}" style="image-rendering:pixelated"/>'
            for column, picture in enumerate(pictures)
        ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>Test pictures completed by each objective</title>"
        f'<rect width="{width}" height="{height}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the studies")
    parser.add_argument("--only", choices=SOURCES, help="one of the studies")
    parser.add_argument("--budget", default="1e13flops", help="of a run")
    parser.add_argument("--objectives", default=OBJECTIVES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, help="processes; none: one per core, or one on a GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record of all studies")
    parser.add_argument("--grid", type=Path, metavar="FILE", help="draw the study OUT, and stop")
    options = parser.parse_args()
    if options.grid:
        write_text(options.grid, grid(options.out))
        return
    out = options.out.absolute()
    for name in SOURCES if options.only is None else (options.only,):
        study(out, name, options)
    rows = {name: rows_of(out / name) for name in SOURCES if (out / name / VALIDATION).is_file()}
    printed(rows)
    if options.json:
        write_record(options.json, rows, seeds=options.seeds, budget=f"{options.budget} a run")


if __name__ == "__main__":
    main()
