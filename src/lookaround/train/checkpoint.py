"""Checkpoints: Hugging Face folders with the optimiser's state, written atomically.

A checkpoint is written under a temporary name, synced to disk and renamed; a kill at any moment
leaves the one before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lookaround.support.errors import UserError
from lookaround.support.records import Amount, Count, Stored, read_record
from lookaround.support.storage import remove_folder, write_folder

STATE_FILE, COUNTERS_FILE = "training_state.safetensors", "counters.json"


class Saved(Stored):
    """counters.json: what a run has spent, and how many tensors were saved beside it."""

    step: Count
    tokens: Count
    targets: Count
    flops: Amount
    seconds: Amount
    tensors: Count


def save_checkpoint(
    folder: Path,
    counters: dict[str, Any],
    tensors: dict[str, Tensor],
    fill: Callable[[Path], None],
    keep: frozenset[int] = frozenset(),
) -> Path:
    """Saves folder/checkpoint-STEP; removes older checkpoints but those of the steps in `keep`."""
    step = counters["step"]

    def write(into: Path) -> None:
        fill(into)
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            into / STATE_FILE,
        )
        (into / COUNTERS_FILE).write_text(json.dumps({**counters, "tensors": len(tensors)}))

    path = folder / f"checkpoint-{step:08d}"
    write_folder(path, write)
    for other, old in checkpoints(folder):
        if other < step and other not in keep:
            remove_folder(old)
    return path


def remove_checkpoints(folder: Path) -> None:
    """Removes all checkpoints of a run."""
    for _, path in checkpoints(folder):
        remove_folder(path)


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of the whole checkpoints of a run, in order."""
    numbered = []
    for path in folder.glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        if number.isdecimal() and (path / COUNTERS_FILE).is_file():
            numbered.append((int(number), path))
    return sorted(numbered)


def latest_checkpoint(folder: Path, at_most: int | None = None) -> Path | None:
    """The newest whole checkpoint of a folder, at step `at_most` or before; None without one."""
    paths = [path for step, path in checkpoints(folder) if at_most is None or step <= at_most]
    return paths[-1] if paths else None


def load_training_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(counters, tensors) of a checkpoint; raises UserError naming a truncated or foreign file."""
    counters = read_record(path / COUNTERS_FILE, Saved).as_dict()
    if path.name != f"checkpoint-{counters['step']:08d}":
        raise UserError(
            f"{path / COUNTERS_FILE}: is of step {counters['step']}, its folder is {path.name}"
        )
    try:
        tensors = load_file(path / STATE_FILE)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path / STATE_FILE}: truncated or foreign checkpoint ({error})") from None
    if len(tensors) != counters["tensors"]:
        raise UserError(
            f"{path / STATE_FILE}: truncated or foreign checkpoint: holds {len(tensors)} tensors, "
            f"{counters['tensors']} were saved"
        )
    return counters, tensors


def tensors_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()
    }


def require_tensors(given: dict[str, Tensor], own: Mapping[str, Tensor], origin: str) -> None:
    """Raises UserError naming the first tensor whose name, shape or dtype differs."""
    for name in sorted({*given, *own}):
        one, other = (
            f"{tuple(tensors[name].shape)} in {str(tensors[name].dtype).removeprefix('torch.')}"
            if name in tensors
            else "missing"
            for tensors in (given, own)
        )
        if one != other:
            raise UserError(
                f"{origin}.{name} is {one}, in this model {other}: truncated or foreign checkpoint"
            )


def optimizer_state(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], step: int, origin: str
) -> dict[str, Any]:
    """The state dict of AdamW whose tensors `tensors_of` gave after `step` steps.

    A parameter that no step has reached has no entry. Raises UserError for a tensor that does not
    fit its parameter, an incomplete entry, or a wrong number of steps. AdamW itself does not check
    and would write out of bounds.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    count = torch.zeros(())
    state: dict[int, dict[str, Tensor]] = {}
    for key in tensors:
        index = key.partition(".")[0]
        if index.isdecimal() and int(index) < len(parameters):
            state[int(index)] = {}
    own = {
        f"{index}.{name}": tensor
        for index in state
        for name, tensor in (
            ("step", count),
            ("exp_avg", parameters[index]),
            ("exp_avg_sq", parameters[index]),
        )
    }
    require_tensors(tensors, own, origin)
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state[int(index)][name] = tensor.clone()
    steps = {float(entry["step"]) for entry in state.values()}
    if max(steps, default=0) != step or any(taken < 1 or taken % 1 for taken in steps):
        raise UserError(
            f"{origin}: its parameters have taken {sorted(steps)[:4]} steps, the checkpoint "
            f"{step}: truncated or foreign checkpoint"
        )
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
