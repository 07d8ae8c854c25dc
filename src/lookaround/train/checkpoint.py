"""Checkpoints: what a run needs to go on, written atomically.

A checkpoint is written under a temporary name, synced to disk and renamed; a kill at any moment
leaves the one before. One process writes its state into one file, beside a Hugging Face folder of
the model; processes that hold shards write a file each. Either is read by any number of processes.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lookaround.support.errors import UserError
from lookaround.support.records import Amount, Count, Stored, read_record
from lookaround.support.storage import disk_errors, put_folder, remove_folder, write_folder
from lookaround.train.parallel import World, placed

STATE_FILE, COUNTERS_FILE = "training_state.safetensors", "counters.json"
SHARDS = "training_state"  # the folder of a state in shards


class Saved(Stored):
    """counters.json: what a run has spent, and how many tensors were saved beside it."""

    step: Count
    tokens: Count
    targets: Count
    flops: Amount
    seconds: Amount
    tensors: Count


def _path(folder: Path, step: int) -> Path:
    return folder / f"checkpoint-{step:08d}"


def save_checkpoint(
    folder: Path,
    counters: dict[str, Any],
    tensors: dict[str, Tensor],
    fill: Callable[[Path], None],
    keep: frozenset[int] = frozenset(),
) -> Path:
    """Saves folder/checkpoint-STEP; removes older checkpoints but those of the steps in `keep`."""
    path = _path(folder, counters["step"])

    def write(into: Path) -> None:
        fill(into)
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            into / STATE_FILE,
        )
        _write_counters(into, counters, len(tensors))

    write_folder(path, write)
    _remove_older(folder, counters["step"], keep)
    return path


class Saving:
    """A checkpoint of shards that is being written while training goes on.

    Every process makes one with its own shards, and ends it with `finish`; until then there is no
    checkpoint of that step. The tensors may change as soon as it is made.
    """

    def __init__(
        self,
        folder: Path,
        counters: dict[str, Any],
        tensors: dict[str, Tensor],
        keep: frozenset[int],
        world: World,
    ) -> None:
        """Raises UserError where `folder` is not on a disk that all processes share."""
        from torch.distributed import checkpoint as dcp
        from torch.distributed.checkpoint import HuggingFaceStorageWriter

        self.folder, self.counters, self.keep, self.world = folder, dict(counters), keep, world
        self.count = len(tensors)
        path = _path(folder, counters["step"])
        self.temporary = path.with_name(f"{path.name}.tmp")
        shards = self.temporary / SHARDS
        if world.main:
            with disk_errors(path):
                shutil.rmtree(self.temporary, ignore_errors=True)
                shards.mkdir(parents=True)
        world.barrier()
        if world.max(not shards.is_dir()):
            raise UserError(
                f"{folder}: not all processes see this folder; give an --out on a disk that the "
                "machines share"
            )
        writer = HuggingFaceStorageWriter(str(shards), save_distributed=True)
        begun = dcp.async_save(
            {name: tensor.detach() for name, tensor in tensors.items()},
            storage_writer=writer,
            process_group=world.apart,
        )
        assert isinstance(begun, Future)
        self.written = begun

    def finish(self) -> None:
        """Waits for all processes; then it is the newest checkpoint, and older ones go."""
        path = _path(self.folder, self.counters["step"])
        with disk_errors(path):
            self.written.result()
        self.world.barrier()
        if self.world.main:
            with disk_errors(path):
                _write_counters(self.temporary, self.counters, self.count)
                put_folder(self.temporary, path)
            _remove_older(self.folder, self.counters["step"], self.keep)
        self.world.barrier()


def _write_counters(into: Path, counters: dict[str, Any], tensors: int) -> None:
    (into / COUNTERS_FILE).write_text(json.dumps({**counters, "tensors": tensors}))


def _remove_older(folder: Path, step: int, keep: frozenset[int]) -> None:
    for other, old in checkpoints(folder):
        if other < step and other not in keep:
            remove_folder(old)


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


def state_place(path: Path) -> Path:
    """Where a checkpoint has its tensors: a file, or a folder of shards."""
    return path / (SHARDS if (path / SHARDS).is_dir() else STATE_FILE)


def load_training_state(
    path: Path, like: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(counters, tensors) of a checkpoint.

    like: {name: tensor}, for shards: how the tensors of a name are to be held, and their shapes.

    Raises UserError naming a truncated or foreign file.
    """
    counters = read_record(path / COUNTERS_FILE, Saved).as_dict()
    if path.name != f"checkpoint-{counters['step']:08d}":
        raise UserError(
            f"{path / COUNTERS_FILE}: is of step {counters['step']}, its folder is {path.name}"
        )
    file = state_place(path)
    try:
        tensors = _load_shards(file, like or {}) if file.is_dir() else load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: truncated or foreign checkpoint ({error})") from None
    if len(tensors) != counters["tensors"]:
        raise UserError(
            f"{file}: truncated or foreign checkpoint: holds {len(tensors)} tensors, "
            f"{counters['tensors']} were saved"
        )
    return counters, tensors


def _load_shards(folder: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a folder of shards; those of a name that `like` lacks are read whole."""
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    reader = HuggingFaceStorageReader(str(folder))
    tensors = {}
    for name, told in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(told, TensorStorageMetadata)
        stored = sum(chunk.sizes.numel() for chunk in told.chunks)
        own = like.get(name)
        if stored != told.size.numel() or (own is not None and own.shape != told.size):
            raise UserError(
                f"{folder}: {name} is {tuple(told.size)}, of which {stored} numbers are there"
                + ("" if own is None else f"; in this model {tuple(own.shape)}")
                + ": truncated or foreign checkpoint"
            )
        dtype = told.properties.dtype
        tensors[name] = (
            torch.empty(told.size, dtype=dtype)
            if own is None
            else torch.empty_like(own, dtype=dtype)
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*load in a single process.*")
        dcp.load(tensors, storage_reader=reader)
    return tensors


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


def tensors_of(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: PARAMETER.exp_avg and so on."""
    return {
        f"{name}.{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def optimizer_state(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    tensors: dict[str, Tensor],
    step: int,
    origin: str,
) -> dict[str, Any]:
    """The state dict of AdamW whose tensors `tensors_of` gave after `step` steps.

    A parameter that no step has reached has no entry. Raises UserError for a tensor that does not
    fit its parameter, an incomplete entry, or a wrong number of steps. AdamW itself does not check
    and would write out of bounds.
    """
    reached = {key.rpartition(".")[0] for key in tensors} & {*parameters}
    own: dict[str, Tensor] = {}
    for name in reached:
        parameter = parameters[name]
        own |= {f"{name}.step": torch.zeros(()), f"{name}.exp_avg": parameter}
        own[f"{name}.exp_avg_sq"] = parameter
    require_tensors(tensors, own, origin)
    groups = optimizer.state_dict()["param_groups"]
    order = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in groups for number in group["params"]]
    index = {id(parameter): number for parameter, number in zip(order, numbers, strict=True)}
    state = {
        index[id(parameters[name])]: {
            "step": tensors[f"{name}.step"].clone(),
            **{
                key: placed(tensors[f"{name}.{key}"], parameters[name]).clone()
                for key in ("exp_avg", "exp_avg_sq")
            },
        }
        for name in reached
    }
    steps = {float(entry["step"]) for entry in state.values()}
    if max(steps, default=0) != step or any(taken < 1 or taken % 1 for taken in steps):
        raise UserError(
            f"{origin}: its parameters have taken {sorted(steps)[:4]} steps, the checkpoint "
            f"{step}: truncated or foreign checkpoint"
        )
    return {"state": state, "param_groups": groups}
