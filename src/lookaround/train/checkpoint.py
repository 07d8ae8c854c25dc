"""Checkpoints: Hugging Face folders that also hold the optimiser's state, written whole or not at all.

A checkpoint is written under a temporary name, synced to disk and renamed; a kill at any moment leaves the one before.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lookaround.errors import UserError, disk_errors

__all__ = [
    "latest_checkpoint",
    "load_training_state",
    "read_mapping",
    "save_checkpoint",
    "write_folder",
    "write_text",
]

STATE_FILE, COUNTERS_FILE = "training_state.safetensors", "counters.json"


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with disk_errors(path):
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_mapping(path: Path, fields: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """A JSON or YAML file of ours that holds at least `fields` of these types; raises UserError naming what is amiss."""
    try:
        text = path.read_text(encoding="utf-8")
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        value = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read; it is truncated or not ours ({reason})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: truncated or not ours (it holds no fields)")
    for name, kind in fields.items():
        if not isinstance(value.get(name), kind):
            raise UserError(f"{path}: truncated or not ours (field '{name}' is missing or of another type)")
    return value


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Makes `folder` out of what `fill` writes into a temporary one; replaces an older folder of the name."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with disk_errors(folder):
            temporary.mkdir(parents=True)
            fill(temporary)
            for path in (*temporary.rglob("*"), temporary):
                _sync(path)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
            _sync(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
