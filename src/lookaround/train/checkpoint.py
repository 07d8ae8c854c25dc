"""Checkpoints: Hugging Face folders that also hold the optimiser's state, written whole or not at all.

A checkpoint is written under a temporary name, synced to disk and renamed; a kill at any moment leaves the one before.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lookaround.support.errors import UserError
from lookaround.support.storage import read_mapping, write_folder

__all__ = [
    "latest_checkpoint",
    "load_training_state",
    "save_checkpoint",
]

STATE_FILE, COUNTERS_FILE = "training_state.safetensors", "counters.json"


def save_checkpoint(
    folder: Path,
    counters: dict[str, Any],
    tensors: dict[str, Tensor],
    fill: Callable[[Path], None],
    keep: frozenset[int] = frozenset(),
) -> Path:
    """Saves folder/checkpoint-STEP and removes older checkpoints but those of the steps in `keep`."""
    step = counters["step"]

    def write(into: Path) -> None:
        fill(into)
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, into / STATE_FILE
        )
        (into / COUNTERS_FILE).write_text(json.dumps(counters))

    path = folder / f"checkpoint-{step:08d}"
    write_folder(path, write)
    for other, old in checkpoints(folder):
        if other < step and other not in keep:
            shutil.rmtree(old, ignore_errors=True)
    return path


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of the whole checkpoints of a run, in order."""
    found = []
    for path in folder.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if number.isdigit() and (path / COUNTERS_FILE).is_file():
            found.append((int(number), path))
    return sorted(found)


def latest_checkpoint(folder: Path, at_most: int | None = None) -> Path | None:
    """The newest whole checkpoint of a run folder, at step `at_most` or before; None where there is none."""
    found = [path for step, path in checkpoints(folder) if at_most is None or step <= at_most]
    return found[-1] if found else None


def load_training_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(counters, tensors) of a checkpoint; raises UserError naming the file that is truncated or foreign."""
    number = (int, float)
    counters = read_mapping(
        path / COUNTERS_FILE, {"step": int, "tokens": int, "targets": int, "flops": number, "seconds": number}
    )
    try:
        return counters, load_file(path / STATE_FILE)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path / STATE_FILE}: truncated or foreign checkpoint ({error})") from None


def tensors_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts `tensors_of` back; raises UserError where they do not fit."""
    description = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": description["param_groups"]})
