"""A whole step is one graph: nothing of an objective's loss falls back to Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import test_processes
from lookaround.data.shards import TokenStore
from lookaround.train import Plan
from lookaround.train.loop import Trainer

STEPS = 5


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def losses(trainer: Trainer) -> list[float]:
    plan = Plan((1.0,), (STEPS,))
    return [trainer.step(plan, 1.0, trainer.draw(step, plan)).mean() for step in range(STEPS)]


@pytest.mark.parametrize("spec", ["ar", "vmlm"])
def test_a_step_is_one_graph_whatever_it_scores(store: TokenStore, spec: str) -> None:
    eager = losses(test_processes.trainer_of(store, spec))
    graphs = []

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward  # type: ignore[no-any-return]

    trainer = test_processes.trainer_of(store, spec)
    trainer.loss.compile(backend=backend, fullgraph=True)  # type: ignore[no-untyped-call]
    assert losses(trainer) == pytest.approx(eager, rel=1e-12)
    assert 1 <= len(graphs) <= 4, "compiled anew for each number of pairs"
