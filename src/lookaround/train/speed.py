"""How long a step takes on this machine, for budgets in seconds.

What was measured is kept for an hour, so that a dry run and the run after it plan the same steps.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from lookaround.data.corpus import cache_folder
from lookaround.objectives.objective import Objective
from lookaround.support.errors import UserError
from lookaround.support.machine import machine
from lookaround.support.records import Positive, Stored, read_record
from lookaround.support.storage import make_folder, write_text
from lookaround.train.budget import Plan
from lookaround.train.loop import Trainer

Measure = Callable[[Trainer, Objective], float]
KEPT_SECONDS = 3600.0
WARM, STEPS, LEAST = 2, 6, 2.0  # steps that are not counted, steps that are, and their seconds


class _Kept(Stored):
    seconds: Positive


def seconds_per_step(
    trainer: Trainer,
    objective: Objective,
    least: float = LEAST,
    steps: int = STEPS,
    meet: Callable[[], None] = lambda: None,
) -> float:
    """Mean seconds of a step of one phase, over `steps` steps and `least` seconds at least.

    The trainer is left as it was.
    meet: waits for others that time steps beside this one.
    """
    before, own = trainer.snapshot(), trainer.objective
    plan = Plan((1.0,), (1 << 30,))
    trainer.objective = objective

    def seconds_of(count: int) -> float:
        began = time.perf_counter()
        for _ in range(count):
            sums = trainer.step(plan, 0.0)
        sums.mean()  # waits for the device
        return time.perf_counter() - began

    try:
        seconds_of(WARM)
        meet()
        count, seconds = 0, 0.0
        while not count or trainer.world.max(seconds < least):
            seconds += seconds_of(steps)
            count += steps
    finally:
        trainer.objective = own
        trainer.restore(*before)
    return seconds / count


class Speed:
    """Seconds of a step of one phase: those kept, or measured now.

    measure: how.
    beside: processes that train at the same time, in which it is measured.
    """

    def __init__(self, measure: Measure = seconds_per_step, beside: int = 1) -> None:
        self.measure, self.beside = measure, beside

    def __call__(self, trainer: Trainer, objective: Objective) -> float:
        """The same in all processes of a run."""
        file = self._file(trainer, objective)
        seconds = trainer.world.share(_kept(file))
        if seconds is None:
            seconds = trainer.world.share(self.measure(trainer, objective))
            if trainer.world.main:
                with contextlib.suppress(UserError):  # a cache that cannot be written
                    make_folder(file.parent)
                    write_text(file, json.dumps({"seconds": seconds}))
        return float(seconds)

    def _file(self, trainer: Trainer, objective: Objective) -> Path:
        """Where the speed of all that it depends on is kept."""
        settings, device = trainer.settings, trainer.world.device
        where = machine(self.beside, torch.get_num_threads())
        known = {
            "objective": objective.spec,
            "model": trainer.backbone.lm.config.to_dict(),
            "heads": [repr(spec) for spec in trainer.backbone.head_specs],
            "rows": [settings.batch, settings.micro_batch, trainer.rows.width],
            "parallel": [trainer.world.size, settings.parallel, settings.shards],
            "masks": [trainer.backbone.source.masks.blocks, getattr(trainer.rows, "pack", False)],
            "precision": [trainer.precision, trainer.compile],
            "machine": [platform.node(), where["cpu"], where["gpu"], device.type],
            "threads": [torch.get_num_threads(), self.beside],
            "torch": torch.__version__,
        }
        key = hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()
        return cache_folder() / "speed" / f"{key[:16]}.json"


def _kept(file: Path) -> float | None:
    """What a file of this hour says."""
    with contextlib.suppress(OSError, UserError):
        if 0 <= time.time() - file.stat().st_mtime < KEPT_SECONDS:
            return read_record(file, _Kept).seconds
    return None


def off_budget(planned: float, spent: float) -> str | None:
    """Why a run took longer or shorter than its budget of seconds, where it is 10 % or more."""
    if abs(spent / planned - 1) < 0.1:
        return None
    return (
        f"training took {spent:.0f} s of a budget of {planned:.0f} s: steps were timed before it, "
        "and the machine was then more or less busy"
    )
