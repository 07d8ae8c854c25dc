"""Bits per byte of validation text beside those of test text, for what is chosen by the former."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lookaround.data.source import read_source
from lookaround.evaluation.bits_per_byte import BitsPerByte
from lookaround.evaluation.intervals import seed_interval
from lookaround.evaluation.registry import TextData
from lookaround.model.readable import open_run
from lookaround.settings import Settings
from lookaround.studies.compare.study import open_store, text_data
from lookaround.support.storage import write_text

Run = dict[str, Any]


def study_text(folder: Path) -> tuple[dict[str, Any], Settings, TextData]:
    """The results of a finished study of `lookaround compare`, its settings and held-out text."""
    results = json.loads((folder / "results.json").read_text())
    settings = Settings.model_validate(results["settings"])
    corpus, _ = read_source(settings.data)
    return results, settings, text_data(settings, open_store(corpus, settings))


def score_runs(folder: Path, file: Path, masked: bool = False, **more: Any) -> list[Run]:
    """What every run of a finished study scores; `file` keeps it, so that none is read twice.

    folder: of a study of `lookaround compare`.
    masked: whether models are read with masks, and those that never saw any are left out.
    more: further columns.
    """
    results, settings, text = study_text(folder)
    held_out, protocol = replace(text, test=text.validation), BitsPerByte()
    if masked:
        settings.evaluate.generation_mode = "bidirectional"
    unique = results["corpus"]["tokens"]["train"]
    found: list[Run] = json.loads(file.read_text()) if file.is_file() else []
    known = {(run["objective"], run["seed"], run["rung"]) for run in found}
    for run in results["runs"]:
        if (run["objective"], run["seed"], run["rung"]) in known:
            continue
        model = open_run(folder / run["checkpoint"])
        mode = protocol.mode(model, settings.evaluate).attention
        if masked and mode != "bidirectional":
            continue
        found.append(
            {key: run[key] for key in ("objective", "seed", "rung", "checkpoint")}
            | more
            | {
                "unique": unique,
                "epochs": run["budget"]["tokens"] / unique,
                "flops": run["budget"]["flops"],
                "mode": mode,
                "validation": protocol.run(model, held_out, settings.evaluate, run["seed"]).value,
                "test": protocol.run(model, text, settings.evaluate, run["seed"]).value
                if masked
                else run["bits_per_byte"],
            }
        )
        write_text(file, json.dumps(found, indent=1))
    return found


def over_seeds(values: list[float]) -> dict[str, float]:
    """The mean of some seeds and its interval, to six digits."""
    found = seed_interval(values)
    return {name: round(getattr(found, name), 6) for name in ("mean", "low", "high")}


def printed(rows: dict[str, list[dict[str, Any]]]) -> None:
    """Prints tables, a line for each row."""
    for name, found in rows.items():
        print(f"\n{name}")
        for row in found:
            print("  " + ", ".join(f"{key} {_shown(value)}" for key, value in row.items()))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
