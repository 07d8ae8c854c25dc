"""Processes: one by itself, or many under torchrun; the same code path on gloo and NCCL.

A run on many processes is one run: `ddp` has a copy of the model in each, `fsdp` a shard (FSDP2,
`fully_shard`), and a loop sees neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from lookaround.support.errors import UserError

How = Literal["none", "ddp", "fsdp"]
# what gloo and NCCL say where a process is gone
_LOST = ("closed by peer", "reset by peer", "connection was", "Broken pipe", "Timed out", "NCCL")


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
        """The sum over all processes of values on the CPU, so that no device is waited for."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def max(self, value: float) -> float:
        """The largest value over all processes."""
        if self.size == 1:
            return value
        held = torch.tensor(float(value), dtype=torch.float64)
        dist.all_reduce(held, dist.ReduceOp.MAX)
        return float(held)

    def share(self, value: Any) -> Any:
        """The main process's value, on all processes; plain data only."""
        if self.size > 1:
            box = [value]
            dist.broadcast_object_list(box, device=torch.device("cpu"))
            value = box[0]
        return value

    def barrier(self) -> None:
        self.max(0)

    def mesh(self, shards: int | None) -> DeviceMesh:
        """The processes as a mesh: replicas of groups of `shards`; None: one group of all.

        Raises UserError where they do not divide.
        """
        if shards in (None, self.size):
            return init_device_mesh(self.device.type, (self.size,), mesh_dim_names=("shard",))
        assert shards is not None
        if self.size % shards:
            raise UserError(
                f"train.shards: {self.size} processes do not divide into groups of {shards}"
            )
        return init_device_mesh(
            self.device.type, (self.size // shards, shards), mesh_dim_names=("replica", "shard")
        )

    @cached_property
    def apart(self) -> Any:
        """A group for what goes on beside training, on the CPU; all ask for it at once."""
        return dist.new_group(backend="gloo")


def parallelize(
    loss: nn.Module,
    layers: Iterator[nn.Module] | list[nn.Module],
    world: World,
    how: How,
    *,
    shards: int | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """A module whose gradients are those of all processes; by itself it is left as it is.

    layers: of the model in it: what `fsdp` gathers at a time, in forward and backward pass. The
        rest of it is gathered once a pass.
    shards: processes that share a copy with `fsdp`, None for all.
    dtype: in which `fsdp` gathers and computes; gradients are added in float32. None: as the
        parameters are.

    Raises UserError for a mesh that does not divide, and for many processes with "none".
    """
    if world.size == 1:
        return loss
    if how == "none":
        raise UserError(
            f"train.parallel: none is for one process, and torchrun has started {world.size}; "
            "give ddp or fsdp"
        )
    if how == "ddp":
        return DistributedDataParallel(loss)
    mesh = world.mesh(shards)
    policy = MixedPrecisionPolicy(dtype, torch.float32) if dtype else MixedPrecisionPolicy()
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(loss, mesh=mesh, mp_policy=policy)
    return loss


def accumulating(module: nn.Module, more: bool) -> AbstractContextManager[None]:
    """A backward pass whose gradients stay on their process while `more` micro-batches follow.

    Shards add theirs up at once: whole gradients would take the room that sharding saves.
    """
    return (
        module.no_sync() if more and isinstance(module, DistributedDataParallel) else nullcontext()
    )


def placed(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A tensor that all processes hold, as another one is held: whole, or this process's shard."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    moved = tensor.to(like.device)
    return distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None)


@contextmanager
def world() -> Iterator[World]:
    """The world that torchrun describes in the environment, or a single process.

    Raises UserError where there are more processes than GPUs, and where another process is lost.
    """
    cuda = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", 0))
    if cuda and local >= torch.cuda.device_count():
        raise UserError(
            f"torchrun: process {local} of this machine has no GPU, which has "
            f"{torch.cuda.device_count()}; give --nproc-per-node {torch.cuda.device_count()}"
        )
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield World(device=device)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    except RuntimeError as error:
        if dist.get_world_size() > 1 and any(words in str(error) for words in _LOST):
            raise UserError(
                "another process of this run has ended; the same command goes on from its last "
                "checkpoint"
            ) from None
        raise
    finally:
        dist.destroy_process_group()
