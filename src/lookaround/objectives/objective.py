"""Objectives and their algebra: mixtures `ar + 3*vmlm`, sequences `0.25*ar >> 0.75*mlm`.

An objective holds no model, no loop and no device code. Randomness is keyed by (seed, epoch, row)
and never by micro-batch or rank: accumulation, packing and the number of processes change nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from lookaround.objectives.contract import (
    Batch,
    Component,
    HeadSpec,
    Mode,
    Pairs,
    Shown,
    View,
    Writing,
)
from lookaround.objectives.laws import Law
from lookaround.objectives.schedules import Schedule
from lookaround.support.randomness import keyed_uniform
from lookaround.support.registry import register
from lookaround.support.text import one_line, shown


class Term:
    """What can stand in a sum or a sequence: an objective, or one with a weight."""

    def __add__(self, other: Term) -> Mixture:
        """A mixture; sums are flattened. Raises ValueError for a part that is a sequence."""
        terms: list[tuple[float, Objective]] = []
        for side in (self, other):
            weight, objective = side.weighed
            if isinstance(objective, Sequence):
                raise ValueError(f"'{objective.spec}' cannot be a part of a sum: use >> outermost")
            inner = objective.terms if isinstance(objective, Mixture) else ((1, objective),)
            if isinstance(side, Weighted) and len(inner) > 1:
                weight /= sum(w for w, _ in inner)
            terms += [(_tidy(weight * w), o) for w, o in inner]
        return Mixture(tuple(terms))

    def __rmul__(self, weight: float) -> Weighted:
        """Raises ValueError for weights that are not positive numbers, or very large or small."""
        inner, objective = self.weighed
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        # a share of a sum must be a number above 0
        if not number or not all(1e-9 <= value <= 1e9 for value in (weight, weight * inner)):
            raise ValueError(
                f"a weight must be a positive number from 1e-9 to 1e9, got {shown(weight)}"
            )
        return Weighted(weight * inner, objective)

    def __rshift__(self, other: Term) -> Sequence:
        """One after the other; sequences are flattened.

        Raises ValueError for a sequence with a weight.
        """
        terms: list[tuple[float, Objective]] = []
        for side in (self, other):
            weight, objective = side.weighed
            if not isinstance(objective, Sequence):
                terms.append((weight, objective))
            elif isinstance(side, Weighted):
                raise ValueError(
                    f"'{_term(weight, objective)}': a weight on a sequence of phases has no meaning"
                )
            else:
                terms += objective.terms
        return Sequence(tuple(terms))

    @property
    def weighed(self) -> tuple[float, Objective]:
        """(weight, objective)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Objective(Term):
    """Base of all objectives: a frozen dataclass; fields are parameters, `name` is the spec.

    Subclasses give `view`, `modes` and `laws`; `head_specs` only where they need more than the LM
    head. The operators build mixtures: `ar + 3*vmlm` draws each row's component in proportion 1:3,
    `0.25*ar >> 0.75*mlm` spends a quarter of the budget on the first, then the rest on the second.
    """

    name = ""  # not annotated: a class attribute, not a field
    # whether it needs rows with a prompt and a target part, which plain text lacks
    prompted = False
    registry: ClassVar[dict[str, type[Objective]]] = {}

    def __init_subclass__(cls) -> None:
        """Registers a class with a name of its own; raises ValueError for a taken name."""
        if cls.name and cls.name != getattr(cls.__mro__[1], "name", ""):
            register(Objective.registry, cls.name, cls)

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        """One view for each of `components()`, each over its own rows of the batch."""
        raise NotImplementedError

    def modes(self) -> tuple[Mode, ...]:
        """The (attention, shift) pairs that the objective trains, in order."""
        raise NotImplementedError

    def final_modes(self) -> tuple[Mode, ...]:
        """The modes that the end of the budget trains: a sequence may have forgotten the others."""
        return self.at(1.0).modes()

    def head_specs(self) -> tuple[HeadSpec, ...]:
        """The heads beyond the LM head, with what they train by at this moment of the budget."""
        return ()

    def components(self) -> tuple[Component, ...]:
        """The parts that `view` makes views of, in the same order, at this moment of the budget."""
        return (Component(self.spec, heads=self.head_specs()),)

    def arranged(self, batch: Batch) -> Batch:
        """Rows in the model's token order. An involution."""
        return batch

    def in_plane(self, columns: int) -> Objective:
        """The same objective for pictures with so many tokens in a row; 0: for texts.

        Raises ParameterError where its parameters do not fit them.
        """
        return self

    def decodings(self) -> tuple[Writing, ...]:
        """The ways in which the model may write a target part, its own way first."""
        masked = any(mode.attention == "bidirectional" for mode in self.modes())
        if masked:
            return (Writing.CONFIDENT_FIRST, Writing.ONE_BY_ONE, Writing.PARALLEL)
        return (Writing.ONE_BY_ONE,)

    def laws(self) -> tuple[Law, ...]:
        """The visibility laws (objectives/laws.py) of an objective without schedules."""
        raise NotImplementedError(f"{type(self).__qualname__} has no laws() (objectives/laws.py)")

    # -- parameters that change with the budget spent

    def at(self, progress: float) -> Objective:
        """The objective at a share `progress` in [0, 1] of the budget, with schedules evaluated."""
        values = {name: value.at(progress) for name, value in self._schedules()}
        return replace(self, **values) if values else self

    @property
    def stationary(self) -> bool:
        """Whether the objective is the same at every moment of the budget."""
        return not any(True for _ in self._schedules())

    def phases(self) -> tuple[tuple[float, Objective], ...]:
        """(share of the budget, objective) in order; one phase for all but `>>`."""
        return ((1.0, self),)

    def _schedules(self) -> Iterator[tuple[str, Schedule]]:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Schedule):
                yield item.name, value

    # -- the spec

    @property
    def spec(self) -> str:
        """The canonical spec: parameters that stand at their defaults are left out."""
        parts = []
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value != item.default:
                parts.append(f"{item.name}={literal(value)}")
        return f"{self.name}({', '.join(parts)})" if parts else self.name

    def __str__(self) -> str:
        return self.spec

    @property
    def weighed(self) -> tuple[float, Objective]:
        return 1, self

    # -- checks shared by subclasses

    def _require(self, condition: bool, name: str, rule: str) -> None:
        if not condition:
            raise ParameterError(
                name, f"{name} must be {rule}, got {one_line(literal(getattr(self, name)), 60)}"
            )

    def _require_share(self, name: str, *, zero: bool = False) -> None:
        """Requires a number or schedule with values in (0, 1], or [0, 1] with zero=True."""
        value = getattr(self, name)
        rule = f"a number in {'[' if zero else '('}0, 1]"
        for number in value.ends() if isinstance(value, Schedule) else (value,):
            real = isinstance(number, int | float) and not isinstance(number, bool)
            self._require(
                real and (number >= 0 if zero else number > 0) and number <= 1, name, rule
            )

    def _require_positive(self, name: str) -> None:
        value = getattr(self, name)
        real = isinstance(value, int | float) and not isinstance(value, bool)
        self._require(real and 0 < value < math.inf, name, "a number above 0")

    def _require_order(self, low: str, high: str) -> None:
        """One parameter is never above another, at any moment of the budget."""
        for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
            pair = [getattr(self, name) for name in (low, high)]
            least, most = (
                value.at(progress) if isinstance(value, Schedule) else value for value in pair
            )
            self._require(least <= most, high, f"at least {low}={literal(pair[0])}")

    def _require_one_of(self, name: str, allowed: Mapping[str, Any] | tuple[str, ...]) -> None:
        self._require(
            getattr(self, name) in allowed, name, "one of " + ", ".join(map(repr, allowed))
        )

    def _require_int(self, name: str, low: int, high: int | None = None) -> None:
        value = getattr(self, name)
        rule = f"a whole number from {low}" + (f" to {high}" if high is not None else " up")
        whole = isinstance(value, int) and not isinstance(value, bool)
        self._require(whole and value >= low and (high is None or value <= high), name, rule)


@dataclass(frozen=True)
class Weighted(Term):
    """`3*vmlm`: an objective with the weight it enters a sum or a sequence with."""

    weight: float
    objective: Objective

    @property
    def weighed(self) -> tuple[float, Objective]:
        return self.weight, self.objective


@dataclass(frozen=True)
class Combination(Objective):
    """Weighted objectives, whether they share the rows or follow one another.

    heads_before: number of heads of the whole objective before those of this part.
    """

    terms: tuple[tuple[float, Objective], ...]
    heads_before: int = 0

    @property
    def shares(self) -> list[float]:
        """The weights, made to add up to 1."""
        total = sum(weight for weight, _ in self.terms)
        return [weight / total for weight, _ in self.terms]

    def modes(self) -> tuple[Mode, ...]:
        return tuple(
            dict.fromkeys(mode for _, objective in self.terms for mode in objective.modes())
        )

    def in_plane(self, columns: int) -> Objective:
        terms = tuple((weight, objective.in_plane(columns)) for weight, objective in self.terms)
        return replace(self, terms=terms)

    @property
    def prompted(self) -> bool:  # type: ignore[override]
        return any(objective.prompted for _, objective in self.terms)

    def decodings(self) -> tuple[Writing, ...]:
        return tuple(
            dict.fromkeys(way for _, objective in self.terms for way in objective.decodings())
        )

    def head_specs(self) -> tuple[HeadSpec, ...]:
        return tuple(head for _, objective in self.terms for head in objective.head_specs())

    def components(self) -> tuple[Component, ...]:
        """Those of all parts, by their shares; heads are numbered through."""
        components: list[Component] = []
        shift = self.heads_before
        for share, (_, objective) in zip(self.shares, self.terms, strict=True):
            components += (
                part._replace(coefficient=share * part.coefficient, first=part.first + shift)
                for part in objective.components()
            )
            shift += len(objective.head_specs())
        return tuple(components)


@dataclass(frozen=True)
class Mixture(Combination):
    """Each row draws a component in proportion to the weights, which also combine the losses.

    Every component is normalised by its own targets before it is weighted: `ar + mlm` is half
    masked, though masked rows have fewer targets.
    """

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        uniform = keyed_uniform(seed, epoch, batch.row, "component", 1)[:, 0]
        borders = torch.tensor(self.shares[:-1], dtype=torch.float64).cumsum(0)
        drawn = torch.bucketize(uniform, borders, right=True)
        views: list[View] = []
        shift = self.heads_before
        for number, (_, objective) in enumerate(self.terms):
            rows = (drawn == number).nonzero().flatten()
            if len(rows):
                views += (
                    view.renumbered(shift) for view in objective.view(batch.take(rows), seed, epoch)
                )
            else:
                views += [_empty(batch.tokens.shape[1])] * len(objective.components())
            shift += len(objective.head_specs())
        return tuple(views)

    def arranged(self, batch: Batch) -> Batch:
        """As all parts have it; raises ValueError where they write in different orders."""
        orders = [objective.arranged(batch) for _, objective in self.terms]
        if any(not torch.equal(other.tokens, orders[0].tokens) for other in orders):
            raise ValueError(f"'{self.spec}': its parts write in different orders")
        return orders[0]

    def at(self, progress: float) -> Objective:
        return replace(
            self, terms=tuple((weight, part.at(progress)) for weight, part in self.terms)
        )

    @property
    def stationary(self) -> bool:
        return all(objective.stationary for _, objective in self.terms)

    @property
    def spec(self) -> str:
        return " + ".join(_term(weight, objective) for weight, objective in self.terms)


@dataclass(frozen=True)
class Sequence(Combination):
    """Objectives one after the other, each for its share of the budget and its own schedules."""

    def phases(self) -> tuple[tuple[float, Objective], ...]:
        return tuple(zip(self.shares, (objective for _, objective in self.terms), strict=True))

    def at(self, progress: float) -> Mixture:
        """The phase at that moment, as a mixture of it alone with the whole's head numbers."""
        starts = list(itertools.accumulate(self.shares, initial=0.0))[:-1]
        number = sum(start <= progress for start in starts[1:])
        share, objective = self.phases()[number]
        within = objective.at(min((progress - starts[number]) / share, 1.0))
        before = sum(len(earlier.head_specs()) for _, earlier in self.terms[:number])
        return Mixture(((1, within),), before)

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        raise ValueError(f"'{self.spec}' changes with the budget: ask for .at(progress).view(...)")

    @property
    def stationary(self) -> bool:
        return False

    @property
    def spec(self) -> str:
        return " >> ".join(_term(share, objective) for share, objective in self.terms)


def _empty(width: int) -> View:
    """The view of a component that drew no row."""
    none = torch.zeros(0, dtype=torch.int64)
    return View(Shown(none.view(0, width)), Pairs(none, none, none, none, none.float()), 0.0)


def _tidy(weight: float) -> float:
    return int(weight) if float(weight).is_integer() else weight


def _term(weight: float, objective: Objective) -> str:
    inner = (
        f"({objective.spec})"
        if isinstance(objective, Mixture | Sequence) and weight != 1
        else objective.spec
    )
    return inner if weight == 1 else f"{_tidy(weight)!r}*{inner}"


class ParameterError(ValueError):
    """A parameter of an objective is out of its range; `parameter` names it for the parser."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


def literal(value: Any) -> str:
    """A parameter as a spec has it."""
    if isinstance(value, tuple):
        return "(" + ", ".join(map(literal, value)) + ")"
    if isinstance(value, int) and abs(value) >= 1 << 1000:
        return shown(value)
    return f'"{value}"' if isinstance(value, str) else str(value)
