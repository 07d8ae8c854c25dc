"""The enumerable worlds of results/worlds.md, and the figures of one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from lookaround.theory.bounds import ProbeBound, probe_bound
from lookaround.theory.spectrum import normalised
from lookaround.theory.worlds import Literal, World

__all__ = ["WorldFigures", "world_figures", "worlds"]


@dataclass(frozen=True)
class WorldFigures:
    """One objective in one world at one rank.

    contexts: rows of its matrix.
    tail: sum of sigma_i^2 beyond the rank.
    probe: error and bounds (bounds.py).
    chance: the error of always answering the most frequent label.
    singular_values: all of them.
    """

    contexts: int
    tail: float
    probe: ProbeBound
    chance: float
    singular_values: np.ndarray

    def tied(self, rank: int) -> bool:
        """Whether a rank parts equal singular values, so that its features are not unique."""
        values = self.singular_values
        inner = rank < len(values) and values[rank] > 1e-9
        return bool(inner and values[rank - 1] - values[rank] < 1e-9)


def world_figures(literal: Literal, rank: int) -> WorldFigures:
    """Spectrum, probe error and bounds of a literal matrix; a rank above the matrix's own adds
    nothing and is cut to it.
    """
    scaled, of_context, _ = normalised(literal.joint)
    left, values, _ = np.linalg.svd(np.asarray(scaled), full_matrices=False)
    labels = literal.labels
    rank = min(rank, int((values > 1e-9).sum()))
    return WorldFigures(
        contexts=len(labels),
        tail=float((values[rank:] ** 2).sum()),
        probe=probe_bound(left, values, of_context, labels, rank),
        chance=float(1 - np.bincount(labels, of_context).max()),
        singular_values=values,
    )


def worlds() -> tuple[World, ...]:
    """The worlds of results/worlds.md: small, each with one thing that sets objectives apart."""
    uniform3 = np.full(3, 1 / 3)
    forward = 0.9 * np.roll(np.eye(3), 1, axis=1) + 0.1 / 3
    apart = 0.02  # two groups of tokens that a chain seldom leaves
    sticky = np.kron(np.array([[1 - apart, apart], [apart, 1 - apart]]), np.full((2, 2), 0.5))
    topics = np.array([[0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.3, 0.5]])
    informative, idle = np.array([[0.9, 0.1], [0.1, 0.9]]), np.full((2, 2), 0.5)
    return (
        World.of_emissions("topics", [0.5, 0.5], np.repeat(topics[:, None], 4, axis=1)),
        World.mixture(
            "sticky", [0.5, 0.5], [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]], [sticky, sticky], 4
        ),
        World.mixture("cycles", [0.5, 0.5], [uniform3, uniform3], [forward, forward.T], 5),
        World.of_emissions(
            "both ends", [0.5, 0.5], np.stack([informative, idle, idle, informative], axis=1)
        ),
        World.of_grammar(
            "agreement",
            6,
            {(s, *m, 4 + s): (s, 1.0) for s in (0, 1) for m in itertools.product((2, 3), repeat=2)},
        ),
    )
