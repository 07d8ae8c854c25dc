"""Budgets in tokens, FLOPs or seconds, and the steps they pay for.

FLOPs of a step, forward and backward, are counted and not measured: 6 per trunk parameter and token
position, 12 x layers x hidden width x row length per position for attention (full under every
pattern), 6 x hidden width x vocabulary per scored pair for the unembedding, and what extra heads
state per pair. Padding counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from torch import Tensor

from lookaround.data.rows import RowSource
from lookaround.model.backbone import Backbone
from lookaround.objectives.contract import Component, View
from lookaround.objectives.objective import Objective
from lookaround.support.errors import UserError
from lookaround.support.text import one_line

Unit = Literal["tokens", "flops", "seconds"]
MOST = 1e30  # of any unit
_SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12, "p": 1e15}
_UNITS: dict[str, tuple[Unit, float]] = {
    "": ("tokens", 1.0),
    "tokens": ("tokens", 1.0),
    "tok": ("tokens", 1.0),
    "flops": ("flops", 1.0),
    "flop": ("flops", 1.0),
    "s": ("seconds", 1.0),
    "sec": ("seconds", 1.0),
    "min": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
}


@dataclass(frozen=True)
class Budget:
    """An amount of tokens, FLOPs or seconds."""

    amount: float
    unit: Unit

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"

    def times(self, share: float) -> Budget:
        return Budget(self.amount * share, self.unit)


def parse_budget(text: str) -> Budget:
    """A budget such as 5M or 5Mtokens, 2e15flops, 300s, 10min, 1.5h; raises UserError."""
    match = re.fullmatch(
        r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([kmgbtp]?)\s*(tokens|tok|flops?|sec|s|min|h|)\s*",
        text.lower(),
    )
    parts = None if match is None else match.groups()
    if parts is None or (_UNITS[parts[2]][0] == "seconds" and parts[1]):
        raise UserError(
            f"budget '{one_line(text, 60)}': not a budget; write tokens (5M), FLOPs "
            "(2e15flops) or time (300s, 10min)"
        )
    unit, scale = _UNITS[parts[2]]
    amount = float(parts[0]) * _SCALES[parts[1]] * scale
    if not 0 < amount <= MOST:
        raise UserError(f"budget '{one_line(text, 60)}': must be more than 0 and at most {MOST:g}")
    return Budget(amount, unit)


def view_flops(backbone: Backbone, component: Component, view: View) -> float:
    """FLOPs of one forward and backward pass over a view of a component."""
    rows, width = view.shown.input_ids.shape
    sizes, pairs = backbone.sizes, view.pairs
    per_position = (
        6 * backbone.parameters_without_embeddings + 12 * sizes.layers * sizes.trunk * width
    )
    unembedding = 6 * sizes.width * sizes.vocabulary
    total = float(per_position * rows * width + unembedding * len(pairs))
    for number, spec in enumerate(component.heads, start=component.first):
        offset = pairs.offset if spec.auxiliary else pairs.offset[pairs.head == number]
        total += cast(Any, backbone.heads[number - 1]).flops(offset, rows * width, width)
    return total


def expected_cost(
    objective: Objective, backbone: Backbone, rows: RowSource, batch: int, unit: Unit
) -> float:
    """Mean cost of a step of `batch` rows in tokens or FLOPs, from 16 views of at most 64 rows."""
    costs = []
    few = min(batch, 64)
    for i, progress in enumerate(np.linspace(0, 1, 16)):
        drawn = rows.at(0, np.arange(i * few, (i + 1) * few))
        if unit == "tokens":
            costs.append(float(token_count(drawn.documents, few, rows.width)))
        else:
            now = objective.at(progress)
            views = zip(now.components(), now.view(drawn, 0, 0), strict=True)
            costs.append(sum(view_flops(backbone, component, view) for component, view in views))
    return float(np.mean(costs)) * batch / few


def token_count(documents: Tensor | None, rows: int, width: int) -> int:
    """Tokens of a batch that are not padding."""
    return rows * width if documents is None else int((documents >= 0).sum())


@dataclass(frozen=True)
class Plan:
    """Steps of each phase of an objective for one budget, and each phase's share of it."""

    shares: tuple[float, ...]
    steps: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.steps)

    def progress(self, step: int) -> float:
        """Share of the budget that is spent when `step` begins."""
        spent = 0.0
        for share, steps in zip(self.shares, self.steps, strict=True):
            if step < steps:
                return spent + share * step / steps
            step -= steps
            spent += share
        return 1.0


def steps_cost(
    objective: Objective, steps: Sequence[int], cost: Callable[[Objective], float]
) -> float:
    """What the steps of a plan cost; cost(phase) is what one step of a phase does."""
    return float(np.dot([cost(phase) for _, phase in objective.phases()], steps))


def make_plan(
    objective: Objective,
    budget: Budget,
    cost: Callable[[Objective], float],
    given: str | None = None,
) -> Plan:
    """The plan of a budget; cost(objective) is what a step costs in the budget's unit.

    given: the budget in the user's words. Raises UserError below one step.
    """
    phases = objective.phases()
    steps = [round(share * budget.amount / cost(phase)) for share, phase in phases]
    if min(steps) < 1:
        share, phase = phases[steps.index(min(steps))]
        need = cost(phase) / share
        raise UserError(
            f"budget {given or budget}: too small for one step of '{phase.spec}', which takes "
            f"{need:.3g} {budget.unit} of budget"
        )
    return Plan(tuple(share for share, _ in phases), tuple(steps))
