"""What a step takes is made before it, on the CPU; a step looks at no value of its device."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import test_processes
from conftest import within
from lookaround.data.shards import TokenStore
from lookaround.train import Plan
from lookaround.train.ahead import DEPTH, Ahead
from lookaround.train.loop import Trainer

# what waits for a device: a number of it, or a shape that depends on its values
WAITS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten._unique2.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.is_nonzero.default,
}


class Watch(TorchDispatchMode):
    """Notes every operation that would wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        indexed = func is torch.ops.aten.index.Tensor and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if func in WAITS or indexed:
            self.found.append(str(func))
        return within(self, func, args, kwargs)


@pytest.mark.parametrize("spec", test_processes.SPECS)
def test_a_step_waits_for_no_device(store: TokenStore, spec: str) -> None:
    trainer = test_processes.trainer_of(store, spec)
    phases = trainer.objective.phases()
    plan = Plan(tuple(share for share, _ in phases), (1,) * len(phases))
    for step in range(plan.total):
        drawn = trainer.draw(step, plan)
        with Watch() as watch:
            trainer.step(plan, 1.0, drawn)
        assert watch.found == []


def test_the_watch_sees_what_waits() -> None:
    values = torch.arange(3.0)
    with Watch() as watch:
        bool((values > 1).any())
        values[values > 1]
        (values > 1).nonzero()
    assert len(watch.found) == 3


def test_steps_are_drawn_ahead_and_in_order(store: TokenStore) -> None:
    trainer = test_processes.trainer_of(store, "vmlm")
    plan = Plan((1.0,), (6,))
    drawn: list[int] = []

    def draw(step: int) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        drawn.append(step)
        return trainer.draw(step, plan)

    with Ahead(draw, 1, 6) as ahead:
        for step in range(1, 6):
            got, now = ahead.take(step), trainer.draw(step, plan)
            for one, other in zip(got.micro, now.micro, strict=True):
                assert one[0].view.shown.input_ids.equal(other[0].view.shown.input_ids)
                assert one[0].view.pairs.target.equal(other[0].view.pairs.target)
            assert got.spent.equal(now.spent)
            assert len(drawn) <= step + DEPTH
    assert drawn == [1, 2, 3, 4, 5]


def test_an_error_of_the_rows_ends_the_run(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = test_processes.trainer_of(store, "ar")
    at = trainer.rows.at

    def torn(seed: int, index: np.ndarray) -> Any:
        if index[0] >= 6:
            raise OSError("the disk is gone")
        return at(seed, index)

    monkeypatch.setattr(trainer.rows, "at", torn)
    with pytest.raises(OSError, match="the disk is gone"):
        test_processes.run(trainer)
    assert trainer.counters.step == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_a_loss_that_is_not_finite_is_named_by_its_step(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Trainer.step

    def step(self: Trainer, *given: Any) -> Any:
        sums = own(self, *given)
        if self.counters.step >= 2:
            sums.totals.fill_(float("nan"))
        return sums

    monkeypatch.setattr(Trainer, "step", step)
    from lookaround.support.errors import Diverged

    with pytest.raises(Diverged, match="step 2: the loss is not finite") as caught:
        test_processes.run(test_processes.trainer_of(store, "ar"))
    assert caught.value.step == 2
