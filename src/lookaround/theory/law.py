"""Where an objective's targets stand to visible tokens: nearest lags, or whole patterns.

Both follow from the elementary laws that an objective lists (`Objective.laws`, objectives/laws.py),
weighted by the loss weights of its pairs and averaged over the budget where its parameters change
with it. A mixture or a sequence has the laws of its parts, each with its share. Ours.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lookaround.objectives.laws import LONGEST_ENUMERATED, Law, Part, Pattern
from lookaround.objectives.objective import Combination, Objective

MOMENTS = 16  # moments of the budget that laws of changing objectives are averaged over


def contexts(
    objective: Objective,
    nearest: int = 1,
    length: int | Mapping[int, float] = 128,
    reach: int | None = None,
    least: float = 0.0,
) -> dict[Any, float]:
    """P(signed lags from the nearest visible tokens to the target), for rows that begin with BOS.

    objective: any objective, mixtures and sequences included.
    nearest: how many visible tokens. For 1 the keys are lags (target position - context position),
        else tuples of them, leftmost token first, shorter where a row holds fewer visible tokens.
    length: tokens per row, or {tokens: number of such rows}.
    reach: the largest lag that is kept; None: all of a row.
    least: tuples rarer than this may be left out; of three and more tokens there are very many.

    Returns {lag or tuple of lags: probability}, sorted by key. It sums to 1 minus the mass dropped
    by `reach` and `least`; ties are split. Raises ValueError for nearest < 1, or rows of fewer than
    2 tokens.
    """
    rows = dict(length) if isinstance(length, Mapping) else {length: 1.0}
    if nearest < 1:
        raise ValueError(f"contexts need at least one visible token, got nearest={nearest}")
    if not rows or min(rows) < 2:
        raise ValueError(
            f"a row needs BOS and at least one token, got length={min(rows, default=0)}"
        )
    farthest = max(rows) if reach is None else reach
    tuples = _over_budget(
        objective, rows, lambda law, width: law.lags(nearest, width, farthest, least)
    )
    return {lags[0]: mass for lags, mass in tuples.items()} if nearest == 1 else tuples


def nearest_by_distance(
    objective: Objective, distance: np.ndarray, least: float = 1e-9
) -> dict[tuple[int, int], float]:
    """{(target position, position of the nearest visible token): probability} by any distance.

    distance: (T, T) from the token of the row (target) to the context (column); infinite where a
        token is no context. Ties are split.
    least: mass of a target below which no farther tokens are looked at.

    Sums to 1 minus the mass of targets with no visible context. In a line, with |t - u|, it is
    `contexts` with nearest=1, position by position.
    """
    seen: dict[bytes, np.ndarray] = {}

    def parts(law: Law, width: int) -> dict[bytes, np.ndarray]:
        found: dict[bytes, np.ndarray] = {}
        for mass, chance in law.parts(width):
            if mass.any():
                key = hashlib.blake2b(np.ascontiguousarray(chance).data, digest_size=16).digest()
                seen.setdefault(key, chance)
                found[key] = found.get(key, 0.0) + mass
        return found

    # what is seen alike at many moments of the budget is looked at once
    mass = _over_budget(objective, {len(distance): 1.0}, parts)
    return _nearest([(mass[key], seen[key]) for key in mass], distance, least) if mass else {}


def _nearest(
    parts: Sequence[Part], distance: np.ndarray, least: float
) -> dict[tuple[int, int], float]:
    """The same of parts of laws (`Law.parts`)."""
    masses: dict[tuple[int, int], float] = {}
    # the share of a token among those of its ring is E[1 / (1 + S)] = int_0^1 E[x^S] dx with S the
    # others that are visible, a polynomial in x
    nodes, weights = np.polynomial.legendre.leggauss(32)
    nodes, weights = (nodes + 1) / 2, weights / 2
    for target in range(1, len(distance)):
        scored = [(mass[target - 1], seen[target - 1]) for mass, seen in parts if mass[target - 1]]
        if not scored:
            continue
        left = np.array([mass for mass, _ in scored])  # (R,)
        seen_rt = np.array([seen for _, seen in scored])
        whole = left.sum()
        for ring in _rings(distance[target], target):
            if left.sum() <= least * whole:
                break
            chance = seen_rt[:, ring]  # (R, n)
            factors = 1 - chance[..., None] * (1 - nodes)  # (R, n, nodes)
            product = factors.prod(1)
            for place, position in enumerate(ring):
                share = (product / factors[:, place] * weights).sum(-1)
                found = float((left * chance[:, place] * share).sum())
                if found > 0:
                    masses[target, position] = found
            left = left * (1 - chance).prod(1)
    return masses


def _rings(distance: np.ndarray, target: int) -> list[list[int]]:
    """Positions at equal distances, the nearest first; without the target itself."""
    rings: dict[float, list[int]] = {}
    for position, away in enumerate(np.round(distance, 9).tolist()):
        if position != target and away < np.inf:
            rings.setdefault(away, []).append(position)
    return [rings[away] for away in sorted(rings)]


def patterns(objective: Objective, length: int) -> dict[Pattern, float]:
    """P(target position, visible positions) in rows of `length` tokens, which `contexts` condenses.

    Sums to 1. Raises ValueError for rows of more than laws.LONGEST_ENUMERATED tokens: there are
    2^(length - 1).
    """
    if not 2 <= length <= LONGEST_ENUMERATED:
        raise ValueError(
            f"patterns are listed for rows of 2 to {LONGEST_ENUMERATED} tokens, got length={length}"
        )
    return _over_budget(objective, {length: 1.0}, lambda law, width: dict(law.patterns(width)))


def _over_budget(
    objective: Objective, rows: Mapping[int, float], masses: Callable[[Law, int], Mapping]
) -> dict:
    """Masses normalised at each moment of the budget and averaged; parts by their shares.

    rows: {tokens: number of such rows}.
    masses: of a law in rows of so many tokens, {key: mass}.
    """
    averaged: dict = {}
    if isinstance(objective, Combination):
        for share, (_, part) in zip(objective.shares, objective.terms, strict=True):
            _add(averaged, _over_budget(part, rows, masses), share)
        return dict(sorted(averaged.items()))
    moments = (0.5,) if objective.stationary else tuple((i + 0.5) / MOMENTS for i in range(MOMENTS))
    for progress in moments:
        within: dict = {}
        scored = 0.0
        for (width, count), law in itertools.product(rows.items(), objective.at(progress).laws()):
            _add(within, masses(law, width), count)
            scored += count * law.mass(width)
        if not scored:
            raise ValueError(f"'{objective.spec}' scores no token in rows so short")
        _add(averaged, within, 1 / (scored * len(moments)))
    return dict(sorted(averaged.items()))


def _add(into: dict, masses: Mapping, scale: float) -> None:
    for key, mass in masses.items():
        into[key] = into.get(key, 0.0) + scale * mass
