"""Objectives combined: `ar + 3*vmlm` (a mixture) and `0.25*ar >> 0.75*mlm(rate=0.4)` (one after the other)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from lookaround.objectives.laws import Pattern
from lookaround.objectives.view import Batch, HeadSpec, Mode, Objective, View, add_scaled, keyed_uniform

__all__ = ["Mixture", "Sequence", "Weighted", "mixture", "sequence", "weighted"]


@dataclass(frozen=True)
class Weighted(Objective):
    """`3*vmlm`: an objective with the weight it enters a sum or a sequence with; it has no views of its own."""

    weight: float
    objective: Objective

    def __rmul__(self, weight: float) -> Objective:
        return weighted(weight * self.weight, self.objective)

    @property
    def spec(self) -> str:
        return _term(self.weight, self.objective)


@dataclass(frozen=True)
class _Combination(Objective):
    """Weighted objectives, whether they share the rows or follow one another."""

    terms: tuple[tuple[float, Objective], ...]

    def _shares(self) -> list[float]:
        """The weights, made to add up to 1."""
        total = sum(weight for weight, _ in self.terms)
        return [weight / total for weight, _ in self.terms]

    def modes(self) -> tuple[Mode, ...]:
        return tuple(dict.fromkeys(mode for _, objective in self.terms for mode in objective.modes()))

    @property
    def prompted(self) -> bool:  # type: ignore[override]
        return any(objective.prompted for _, objective in self.terms)

    def decodings(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(way for _, objective in self.terms for way in objective.decodings()))

    def head_specs(self) -> tuple[HeadSpec, ...]:
        return tuple(head for _, objective in self.terms for head in objective.head_specs())

    def _context_law(
        self, nearest: int, rows: Mapping[int, float], reach: int, least: float
    ) -> dict[tuple[int, ...], float]:
        return self._combined(lambda part: part._context_law(nearest, rows, reach, least))

    def _pattern_law(self, length: int) -> dict[Pattern, float]:
        return self._combined(lambda part: part._pattern_law(length))

    def _combined(self, law: Callable[[Objective], dict]) -> dict:
        """The parts' normalised laws, each with its share."""
        combined: dict = {}
        for share, (_, objective) in zip(self._shares(), self.terms, strict=True):
            add_scaled(combined, law(objective), share)
        return dict(sorted(combined.items()))


@dataclass(frozen=True)
class Mixture(_Combination):
    """Each row draws its component in proportion to the weights; the components' losses are combined by the same.

    Every component is normalised by its own targets before it is weighted: `ar + mlm` is half masked, though masked
    rows have fewer targets.
    """

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        uniform = keyed_uniform(seed, epoch, batch.row, "component", 1)[:, 0]
        coefficients = self._shares()
        borders = torch.tensor(coefficients[:-1], dtype=torch.float64).cumsum(0)
        drawn = torch.bucketize(uniform, borders, right=True)
        views = []
        head_shift = 0
        for component, (coefficient, (_, objective)) in enumerate(zip(coefficients, self.terms, strict=True)):
            rows = (drawn == component).nonzero().flatten()
            if len(rows):
                (view,) = objective.view(batch.take(rows), seed, epoch)
                view = view.renumbered(head_shift)
                views.append(replace(view, component=component, coefficient=coefficient))
            head_shift += len(objective.head_specs())
        return tuple(views)

    def arranged(self, batch: Batch) -> Batch:
        """As all parts have it; raises ValueError where they write in different orders."""
        orders = [objective.arranged(batch) for _, objective in self.terms]
        if any(not torch.equal(other.tokens, orders[0].tokens) for other in orders):
            raise ValueError(f"'{self.spec}': its parts write in different orders")
        return orders[0]

    def at(self, progress: float) -> Objective:
        return Mixture(tuple((weight, objective.at(progress)) for weight, objective in self.terms))

    @property
    def stationary(self) -> bool:
        return all(objective.stationary for _, objective in self.terms)

    @property
    def spec(self) -> str:
        return " + ".join(_term(weight, objective) for weight, objective in self.terms)


@dataclass(frozen=True)
class Sequence(_Combination):
    """One objective after the other, each for its share of the budget; schedules inside a phase run over that phase."""

    def phases(self) -> tuple[tuple[float, Objective], ...]:
        return tuple(zip(self._shares(), (objective for _, objective in self.terms), strict=True))

    def at(self, progress: float) -> Objective:
        start, heads = 0.0, 0
        phases = self.phases()
        for number, (share, objective) in enumerate(phases):
            if progress < start + share or number == len(phases) - 1:
                return _Phase(objective.at(min((progress - start) / share, 1.0)), heads)
            start += share
            heads += len(objective.head_specs())
        raise AssertionError("unreachable: the last phase takes what is left")

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        raise ValueError(f"'{self.spec}' changes with the budget: ask for .at(progress).view(...)")

    @property
    def stationary(self) -> bool:
        return False

    @property
    def spec(self) -> str:
        return " >> ".join(_term(share, objective) for share, objective in self.terms)


@dataclass(frozen=True)
class _Phase(Objective):
    """One phase of a sequence: its views name heads by their place among the heads of the whole sequence."""

    objective: Objective
    head_shift: int

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        views = self.objective.view(batch, seed, epoch)
        return tuple(view.renumbered(self.head_shift) for view in views)

    def modes(self) -> tuple[Mode, ...]:
        return self.objective.modes()

    @property
    def prompted(self) -> bool:  # type: ignore[override]
        return self.objective.prompted

    def arranged(self, batch: Batch) -> Batch:
        return self.objective.arranged(batch)

    def decodings(self) -> tuple[str, ...]:
        return self.objective.decodings()

    @property
    def spec(self) -> str:
        return self.objective.spec


def weighted(weight: float, objective: Objective) -> Objective:
    """`weight * objective`; raises ValueError for weights that are not positive numbers."""
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise ValueError(f"a weight must be a positive number, got {weight}")
    return Weighted(weight, objective)


def mixture(left: Objective, right: Objective) -> Objective:
    """`left + right`; sums are flattened."""
    terms: list[tuple[float, Objective]] = []
    for side in (left, right):
        weight, objective = (side.weight, side.objective) if isinstance(side, Weighted) else (1, side)
        if isinstance(objective, Sequence):
            raise ValueError(f"'{objective.spec}' cannot be a part of a sum: use >> outermost")
        inner = objective.terms if isinstance(objective, Mixture) else ((1, objective),)
        scale = weight / sum(w for w, _ in inner) if isinstance(side, Weighted) and len(inner) > 1 else weight
        terms += [(_tidy(scale * w), o) for w, o in inner]
    return Mixture(tuple(terms))


def sequence(left: Objective, right: Objective) -> Objective:
    """`left >> right`; sequences are flattened."""
    terms: list[tuple[float, Objective]] = []
    for side in (left, right):
        if isinstance(side, Sequence):
            terms += side.terms
            continue
        weight, objective = (side.weight, side.objective) if isinstance(side, Weighted) else (1, side)
        if isinstance(objective, Sequence):
            raise ValueError(f"'{side.spec}': a weight on a sequence of phases has no meaning")
        terms.append((weight, objective))
    return Sequence(tuple(terms))


def _tidy(weight: float) -> float:
    return int(weight) if float(weight).is_integer() else weight


def _term(weight: float, objective: Objective) -> str:
    inner = (
        f"({objective.spec})" if isinstance(objective, Mixture | Sequence) and weight != 1 else objective.spec
    )
    return inner if weight == 1 else f"{_tidy(weight)!r}*{inner}"
