"""Processes: one by itself, or many under torchrun; the same code path on gloo and NCCL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class World:
    """This process among all: its rank, their number, its device."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def main(self) -> bool:
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes."""
        if self.size > 1:
            moved = values.to(self.device)
            dist.all_reduce(moved)
            values = moved.to(values.device)
        return values

    def max(self, value: float) -> float:
        """The largest value over all processes."""
        if self.size == 1:
            return value
        held = torch.tensor(float(value), dtype=torch.float64, device=self.device)
        dist.all_reduce(held, dist.ReduceOp.MAX)
        return float(held)

    def share(self, value: Any) -> Any:
        """The main process's value, on all processes; plain data only."""
        if self.size > 1:
            box = [value]
            dist.broadcast_object_list(box, device=self.device)
            value = box[0]
        return value

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()


def parallelize(module: nn.Module, world: World) -> nn.Module:
    """A module whose gradients are those of all processes; the module itself is left as it is."""
    return DistributedDataParallel(module) if world.size > 1 else module


def accumulating(module: nn.Module, more: bool) -> AbstractContextManager[None]:
    """A backward pass whose gradients stay on their process while `more` micro-batches follow."""
    return (
        module.no_sync() if more and isinstance(module, DistributedDataParallel) else nullcontext()
    )


@contextmanager
def world() -> Iterator[World]:
    """The world that torchrun describes in the environment, or a single process."""
    cuda = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield World(device=device)
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
