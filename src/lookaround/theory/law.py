"""Where an objective's targets stand to visible tokens: nearest lags, or whole patterns.

Both follow from the elementary laws that an objective lists (`Objective.laws`, objectives/laws.py),
weighted by the loss weights of its pairs and averaged over the budget where its parameters change
with it. A mixture or a sequence has the laws of its parts, each with its share. Ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lookaround.objectives.laws import LONGEST_ENUMERATED, Pattern
from lookaround.objectives.objective import Combination, Objective

__all__ = ["contexts", "patterns"]

MOMENTS = 16  # moments of the budget that laws of changing objectives are averaged over

# {key: mass} of an objective that does not change, and its whole
Masses = Callable[[Objective], tuple[dict, float]]


def contexts(
    objective: Objective,
    nearest: int = 1,
    length: int | Mapping[int, float] = 128,
    reach: int | None = None,
    least: float = 0.0,
) -> dict[Any, float]:
    """P(signed lags from the nearest visible tokens to the target), for rows that begin with BOS.

    Args:
        objective: any objective, mixtures and sequences included.
        nearest: how many visible tokens. For 1 the keys are lags (target position - context
            position), else tuples of them, leftmost token first, shorter where a row holds fewer
            visible tokens.
        length: tokens per row, or {tokens: number of such rows}.
        reach: the largest distance that is told apart; all of a row if None.
        least: tuples rarer than this may be left out; of three and more tokens there are very many.

    Returns:
        {lag or tuple of lags: probability}, sorted by key; sums to 1 minus the mass dropped by
        `reach` and `least`. Ties are split.

    Raises:
        ValueError: for nearest < 1, or rows of fewer than 2 tokens.
    """
    rows = dict(length) if isinstance(length, Mapping) else {length: 1.0}
    if nearest < 1:
        raise ValueError(f"contexts need at least one visible token, got nearest={nearest}")
    if not rows or min(rows) < 2:
        raise ValueError(
            f"a row needs BOS and at least one token, got length={min(rows, default=0)}"
        )
    farthest = max(rows) if reach is None else reach

    def masses(part: Objective) -> tuple[dict, float]:
        within: dict = {}
        scored = 0.0
        for width, count in rows.items():
            for law in part.laws():
                _add(within, law.lags(nearest, width, farthest, least), count)
                scored += count * law.mass(width)
        return within, scored

    found = _over_budget(objective, masses)
    return {lags[0]: mass for lags, mass in found.items()} if nearest == 1 else found


def patterns(objective: Objective, length: int) -> dict[Pattern, float]:
    """P(target position, visible positions) in rows of `length` tokens, which `contexts` condenses.

    Sums to 1. Raises ValueError for rows of more than laws.LONGEST_ENUMERATED tokens: there are
    2^(length - 1).
    """
    if not 2 <= length <= LONGEST_ENUMERATED:
        raise ValueError(
            f"patterns are listed for rows of 2 to {LONGEST_ENUMERATED} tokens, got length={length}"
        )

    def masses(part: Objective) -> tuple[dict, float]:
        within: dict = {}
        for law in part.laws():
            for pattern, mass in law.patterns(length):
                within[pattern] = within.get(pattern, 0.0) + mass
        return within, sum(within.values())

    return _over_budget(objective, masses)


def _over_budget(objective: Objective, masses: Masses) -> dict:
    """Masses normalised at each moment of the budget and averaged; parts by their shares."""
    averaged: dict = {}
    if isinstance(objective, Combination):
        for share, (_, part) in zip(objective.shares, objective.terms, strict=True):
            _add(averaged, _over_budget(part, masses), share)
        return dict(sorted(averaged.items()))
    moments = (0.5,) if objective.stationary else tuple((i + 0.5) / MOMENTS for i in range(MOMENTS))
    for progress in moments:
        within, scored = masses(objective.at(progress))
        if not scored:
            raise ValueError(f"'{objective.spec}' scores no token in rows so short")
        _add(averaged, within, 1 / (scored * len(moments)))
    return dict(sorted(averaged.items()))


def _add(into: dict, masses: Mapping, scale: float) -> None:
    for key, mass in masses.items():
        into[key] = into.get(key, 0.0) + scale * mass
