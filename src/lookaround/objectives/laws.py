"""Visibility laws: which tokens of a row are visible when a target is predicted.

A law also says with what weight a target is scored. An objective lists its laws
(`Objective.laws`); theory/law.py makes of them the `contexts` (nearest visible tokens) and
`patterns` (all visible tokens) of any objective. Rows have `length` tokens of which the first, BOS,
is always visible and never a target. Lags are target position - context position. Masses are
expected loss weights per row, so that laws, rates and row lengths are mixed by adding. Ours.

R rates, P target positions 1..length-1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

LONGEST_ENUMERATED = 14  # tokens of a row whose 2^(length - 1) visibility patterns are listed

Tuple = tuple[int, ...]
# (mass of each target (P,), the chance that each token of the row is visible to it (P, T))
Part = tuple[np.ndarray, np.ndarray]
Pattern = tuple[int, tuple[int, ...]]  # (target position, visible positions in rising order)


class Law:
    """One way in which targets stand to visible tokens."""

    def mass(self, length: int) -> float:
        """The expected loss weight of a row."""
        raise NotImplementedError

    def lags(self, nearest: int, length: int, reach: int, least: float = 0.0) -> dict[Tuple, float]:
        """{signed lags of the `nearest` nearest visible tokens, leftmost first: mass}.

        Of two tokens equally near, of which one belongs to the tuple, each gets half of the mass. A
        tuple is shorter where the row holds fewer visible tokens. Tuples with a lag beyond `reach`
        or rarer than a share `least` may be left out: there are binomially many.
        """
        raise NotImplementedError

    def patterns(self, length: int) -> Iterator[tuple[Pattern, float]]:
        """Every (target, visible positions) with its mass, up to LONGEST_ENUMERATED tokens."""
        raise NotImplementedError

    def parts(self, length: int) -> Iterator[Part]:
        """Parts that add up to the law, in each of which tokens are visible independently of one
        another; targets are the tokens 1 to length - 1.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Ahead(Law):
    """State t sees the tokens 0..t and predicts token t + offset.

    hidden: the share of the tokens but BOS that are shown as masks, whether or not they are targets
        of other states.
    scored(target positions (P,), length) gives the probability that a target is scored at all; None
    = always.
    """

    offset: int = 1
    weight: float = 1.0
    hidden: float = 0.0
    scored: Callable[[np.ndarray, int], np.ndarray] | None = None

    def _masses(self, length: int) -> np.ndarray:
        """Mass of the target of each state, (length - offset,)."""
        target = np.arange(self.offset, length)
        return self.weight * (
            np.ones(len(target)) if self.scored is None else self.scored(target, length)
        )

    def mass(self, length: int) -> float:
        return float(self._masses(length).sum())

    def lags(self, nearest: int, length: int, reach: int, least: float = 0.0) -> dict[Tuple, float]:
        start = self._masses(length)
        state = np.arange(len(start))
        under_way: dict[Tuple, np.ndarray] = {(): start}  # lags found so far -> mass (S,)
        masses: dict[Tuple, float] = {}
        for back in range(min(reach, length - 1) - self.offset + 1):
            sees = np.select([state > back, state == back], [1 - self.hidden, 1.0])
            extended: dict[Tuple, np.ndarray] = {}
            for lags, mass in under_way.items():
                gained, key = mass * sees, (back + self.offset, *lags)
                ended = gained if len(key) == nearest else gained * (state == back)  # BOS is first
                if ended.sum() > 0:
                    masses[key] = masses.get(key, 0.0) + float(ended.sum())
                extended[key] = extended.get(key, 0.0) + gained - ended
                extended[lags] = extended.get(lags, 0.0) + mass - gained
            under_way = {
                lags: mass for lags, mass in extended.items() if mass.sum() > least * start.sum()
            }
        return masses

    def parts(self, length: int) -> Iterator[Part]:
        mass = np.zeros(length - 1)
        mass[self.offset - 1 :] = self._masses(length)
        state, position = np.arange(1, length)[:, None] - self.offset, np.arange(length)
        seen = np.where(position == 0, 1.0, 1 - self.hidden)
        yield mass, np.where(position <= state, seen, 0.0)

    def patterns(self, length: int) -> Iterator[tuple[Pattern, float]]:
        for state, mass in enumerate(self._masses(length)):
            for count in range(state + 1):
                share = mass * self.hidden**count * (1 - self.hidden) ** (state - count)
                if share > 0:
                    for visible in itertools.combinations(range(1, state + 1), state - count):
                        yield (state + self.offset, (0, *visible)), float(share)


@dataclass(frozen=True)
class Outside(Law):
    """A target at t sees tokens 0..before(t)-1 and those from after(t) on (None: none after it).

    before and after take target positions (P,) and give positions (P,); every token but BOS is a
    target.
    """

    before: Callable[[np.ndarray], np.ndarray]
    after: Callable[[np.ndarray], np.ndarray] | None = None

    def mass(self, length: int) -> float:
        return length - 1.0

    def lags(self, nearest: int, length: int, reach: int, least: float = 0.0) -> dict[Tuple, float]:
        masses: dict[Tuple, float] = {}
        for target, visible in self._visible(length, nearest):
            order = sorted((target - position for position in visible), key=abs)
            nearest_lags, rest = order[:nearest], order[nearest:]
            tied = bool(rest) and abs(nearest_lags[-1]) == abs(rest[0])
            choices = [nearest_lags, [*nearest_lags[:-1], rest[0]]] if tied else [nearest_lags]
            for choice in choices:
                if max(map(abs, choice)) <= reach:
                    key = tuple(sorted(choice, reverse=True))
                    masses[key] = masses.get(key, 0.0) + 1 / len(choices)
        return masses

    def _visible(self, length: int, near: int | None = None) -> Iterator[tuple[int, list[int]]]:
        """(target, visible positions in rising order), at most `near` on either side if given."""
        targets = np.arange(1, length)
        before = self.before(targets)
        after = np.full(length - 1, length) if self.after is None else self.after(targets)
        for target, end, start in zip(
            targets.tolist(), before.tolist(), after.tolist(), strict=True
        ):
            first = 0 if near is None else max(0, end - near)
            last = length if near is None else min(length, start + near)
            yield target, [*range(first, end), *range(start, last)]

    def parts(self, length: int) -> Iterator[Part]:
        seen = np.zeros((length - 1, length))
        for target, visible in self._visible(length):
            seen[target - 1, visible] = 1.0
        yield np.ones(length - 1), seen

    def patterns(self, length: int) -> Iterator[tuple[Pattern, float]]:
        for target, visible in self._visible(length):
            yield (target, tuple(visible)), 1.0


@dataclass(frozen=True)
class Scattered(Law):
    """Each token but BOS is hidden at a rate drawn once per row; hidden tokens are the targets.

    rates (R,) and their weights (R,): the law of that probability, times the weight of a target
    drawn under it.
    dropped: the share of the other tokens but BOS that are shown as masks besides.
    """

    rates: tuple[float, ...]
    weights: tuple[float, ...]
    dropped: float = 0.0

    def mass(self, length: int) -> float:
        return (length - 1) * float(np.dot(self.rates, self.weights))

    def lags(self, nearest: int, length: int, reach: int, least: float = 0.0) -> dict[Tuple, float]:
        rate = np.array(self.rates)[:, None]
        seen = (1 - rate) * (1 - self.dropped)
        target = np.arange(1, length)
        start = np.array(self.weights)[:, None] * rate * np.ones(length - 1)
        under_way: dict[Tuple, np.ndarray] = {(): start}  # lags found so far -> mass (R, P)
        masses: dict[Tuple, float] = {}

        def finish(lags: Tuple, mass: float) -> None:
            if mass > 0:
                key = tuple(sorted(lags, reverse=True))
                masses[key] = masses.get(key, 0.0) + mass

        last = min(reach, length - 1)
        for distance in range(1, last + 1):
            left, right = target - distance, target + distance
            sees_left = np.where(left > 0, seen, np.where(left == 0, 1.0, 0.0))
            sees_right = np.where(right < length, seen, 0.0)
            both = sees_left * sees_right
            extended: dict[Tuple, np.ndarray] = {}
            for lags, mass in under_way.items():
                extended[lags] = extended.get(lags, 0) + mass * (1 - sees_left - sees_right + both)
                one_left = nearest - len(lags) == 1
                share = both / 2 if one_left else both  # a tie for the last place is split
                for lag, alone in ((distance, sees_left - both), (-distance, sees_right - both)):
                    gained = mass * (alone + share) if one_left else mass * alone
                    if one_left:
                        finish((*lags, lag), float(gained.sum()))
                    else:
                        key = (*lags, lag)
                        extended[key] = extended.get(key, 0) + gained
                if not one_left:
                    pair = mass * both
                    key = (*lags, distance, -distance)
                    if nearest - len(lags) == 2:
                        finish(key, float(pair.sum()))
                    else:
                        extended[key] = extended.get(key, 0) + pair
            under_way = {
                lags: mass for lags, mass in extended.items() if mass.sum() > least * start.sum()
            }
        # a row with fewer visible tokens: BOS was reached, and all that stands beyond reach on the
        # right is hidden
        beyond = np.clip(length - 1 - target - last, 0, None)
        ended = np.where(target <= last, (1 - seen) ** beyond, 0.0)
        for lags, mass in under_way.items():
            if lags:
                finish(lags, float((mass * ended).sum()))
        return masses

    def parts(self, length: int) -> Iterator[Part]:
        for rate, weight in zip(self.rates, self.weights, strict=True):
            seen = np.full((length - 1, length), (1 - rate) * (1 - self.dropped))
            seen[:, 0] = 1.0
            seen[np.arange(length - 1), np.arange(1, length)] = 0.0
            yield np.full(length - 1, weight * rate), seen

    def patterns(self, length: int) -> Iterator[tuple[Pattern, float]]:
        rate, weight = np.array(self.rates), np.array(self.weights)
        seen = (1 - rate) * (1 - self.dropped)  # of the tokens beside the target
        by_count = [
            float(
                (weight * rate * (1 - seen) ** (hidden - 1) * seen ** (length - 1 - hidden)).sum()
            )
            for hidden in range(1, length)
        ]
        for hidden_count in range(1, length):
            if by_count[hidden_count - 1] <= 0:
                continue
            for hidden in itertools.combinations(range(1, length), hidden_count):
                visible = tuple(sorted({*range(length)} - {*hidden}))
                for target in hidden:
                    yield (target, visible), by_count[hidden_count - 1]


@dataclass(frozen=True)
class HiddenSuffix(Law):
    """All tokens from a uniform position on are hidden; the k-th has the weight k**-near."""

    near: float = 0.0
    weight: float = 1.0

    def mass(self, length: int) -> float:
        rank = np.arange(1.0, length)
        return self.weight * float(((length - rank) * rank**-self.near).sum()) / (length - 1)

    def lags(self, nearest: int, length: int, reach: int, least: float = 0.0) -> dict[Tuple, float]:
        masses: dict[Tuple, float] = {}
        for rank in range(1, min(reach, length - 1) + 1):
            mass = self.weight / (length - 1) * rank**-self.near
            for count in range(1, nearest + 1):
                # the first hidden position is `count`, or anything from `nearest` to length - rank
                cuts = (
                    (1 if count <= length - rank else 0)
                    if count < nearest
                    else length - rank - nearest + 1
                )
                if cuts > 0 and rank + count - 1 <= reach:
                    masses[tuple(range(rank + count - 1, rank - 1, -1))] = mass * cuts
        return masses

    def parts(self, length: int) -> Iterator[Part]:
        target, position = np.arange(1, length)[:, None], np.arange(length)
        for cut in range(1, length):
            rank = np.maximum(target[:, 0] - cut + 1, 1).astype(float)
            mass = self.weight / (length - 1) * rank**-self.near
            yield (
                np.where(target[:, 0] >= cut, mass, 0.0),
                ((position < cut) & (target > 0)).astype(float),
            )

    def patterns(self, length: int) -> Iterator[tuple[Pattern, float]]:
        for cut in range(1, length):
            for target in range(cut, length):
                mass = self.weight / (length - 1) * (target - cut + 1) ** -self.near
                yield (target, tuple(range(cut))), mass
