"""Enumerable worlds: every sequence listed, so that what objectives make of a language is exact.

    world = World.mixture("cycles", [0.5, 0.5], [start, start], [forward, backward], length=4)
    literal = literal_cooccurrence(world, parse("mlm(rate=0.4)"))
    literal.joint, literal.labels

Here a context is literal: all visible tokens with their positions; the target is a token. Nothing
is estimated. Sequences follow a BOS that is always visible and never predicted, as in training.
Stationary chains also give the n = 1 matrices exactly (`chain_cooccurrence`). Ours.

S sequences, T tokens, C classes, R contexts, V tokens of the vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lookaround.objectives import Objective
from lookaround.theory.law import patterns


@dataclass(frozen=True)
class World:
    """All sequences (S, T) of token ids with probability (S, C) = P(sequence, class)."""

    name: str
    vocabulary: int
    sequences: np.ndarray
    probability: np.ndarray

    @classmethod
    def mixture(
        cls,
        name: str,
        prior: Sequence[float],
        starts: Sequence[Sequence[float] | np.ndarray],
        transitions: Sequence[Sequence[Sequence[float]] | np.ndarray],
        length: int,
    ) -> World:
        """A class drawn by `prior` (C,), then its chain: start (V,), transitions (V, V)."""
        size = len(starts[0])
        sequences = np.array(list(itertools.product(range(size), repeat=length)))
        joint = []
        for share, start, transition in zip(prior, starts, transitions, strict=True):
            step = np.asarray(transition, dtype=float)
            likelihood = np.asarray(start, dtype=float)[sequences[:, 0]]
            for t in range(1, length):
                likelihood = likelihood * step[sequences[:, t - 1], sequences[:, t]]
            joint.append(share * likelihood)
        probability = np.stack(joint, axis=1)
        return cls._possible(name, size, sequences, probability)

    @classmethod
    def of_emissions(cls, name: str, prior: Sequence[float], emissions: np.ndarray) -> World:
        """Tokens independent given the class: emissions (C, T, V) = P(token | position, class)."""
        classes, length, size = emissions.shape
        sequences = np.array(list(itertools.product(range(size), repeat=length)))
        probability = np.stack(
            [
                prior[c]
                * np.prod([emissions[c, t][sequences[:, t]] for t in range(length)], axis=0)
                for c in range(classes)
            ],
            axis=1,
        )
        return cls._possible(name, size, sequences, probability)

    @classmethod
    def of_grammar(
        cls, name: str, vocabulary: int, sentences: Mapping[tuple[int, ...], tuple[int, float]]
    ) -> World:
        """Sentences of one length, each {tokens: (class, weight)}."""
        sequences = np.array(list(sentences))
        probability = np.zeros((len(sequences), 1 + max(c for c, _ in sentences.values())))
        for number, (c, weight) in enumerate(sentences.values()):
            probability[number, c] = weight
        return cls._possible(name, vocabulary, sequences, probability / probability.sum())

    @classmethod
    def _possible(
        cls, name: str, size: int, sequences: np.ndarray, probability: np.ndarray
    ) -> World:
        possible = probability.sum(axis=1) > 0
        return cls(name, size, sequences[possible], probability[possible])

    @property
    def length(self) -> int:
        return self.sequences.shape[1]


@dataclass(frozen=True)
class Literal:
    """The literal matrix of an objective in a world.

    joint (R, V): P(context, target).
    contexts: for each row the (position, token) pairs seen, positions from 1 (BOS is 0).
    class_probability: (R, C), P(context, class).
    labels: (R,), the likeliest class of each context.
    """

    joint: np.ndarray
    contexts: tuple[tuple[tuple[int, int], ...], ...]
    class_probability: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        share = self.class_probability / self.class_probability.sum(axis=1, keepdims=True)
        return share.round(12).argmax(axis=1)  # rounded: of equally likely classes the first


def literal_cooccurrence(
    world: World, objective: Objective, *, position: int | None = None
) -> Literal:
    """What the objective makes of a world.

    position: only targets at this place, 1..T (for `ar` the fixed target position of the paper;
        None averages over all).

    Raises ValueError for a position that the objective never predicts.
    """
    contexts: dict[tuple[tuple[int, int], ...], int] = {}
    rows, targets, masses = [], [], []
    for (target, visible), share in patterns(objective, world.length + 1).items():
        if position is not None and target != position:
            continue
        indices = [place - 1 for place in visible if place > 0]
        seen, which = np.unique(world.sequences[:, indices], axis=0, return_inverse=True)
        numbers = [
            contexts.setdefault(
                tuple((p + 1, int(token)) for p, token in zip(indices, row, strict=True)),
                len(contexts),
            )
            for row in seen
        ]
        rows.append(np.array(numbers)[which.reshape(-1)])
        targets.append(world.sequences[:, target - 1])
        masses.append(share * world.probability)
    if not rows:
        raise ValueError(
            f"'{objective.spec}' never predicts the token at position {position} of {world.length}"
        )
    row, column, mass = np.concatenate(rows), np.concatenate(targets), np.concatenate(masses)
    mass = mass / mass.sum()
    joint = np.zeros((len(contexts), world.vocabulary))
    np.add.at(joint, (row, column), mass.sum(axis=1))
    by_class = np.zeros((len(contexts), mass.shape[1]))
    np.add.at(by_class, row, mass)
    return Literal(joint, tuple(contexts), by_class)


# ------------------------------------------------------------------------------------------ lengths


def prefix_coverage(objective: Objective, tokens: int) -> np.ndarray:
    """P(a training pair is one that generation asks for) by prefix length 0..tokens-1, (tokens,).

    Generation asks for the next token given exactly the prefix. `ar` gives 1/tokens everywhere; a
    fixed rate gives amounts that fall off exponentially on both sides of the lengths it shows.
    """
    shares = patterns(objective, tokens + 1)
    return np.array([shares.get((size + 1, tuple(range(size + 1))), 0.0) for size in range(tokens)])


def length_misalignment(objective: Objective, tokens: int) -> float:
    """Total variation between the numbers of visible tokens in training and in generation.

    0 = every length is trained as often as it is asked for, 1 = none is. In [0, 1].
    """
    seen = np.zeros(tokens + 1)
    for (_, visible), mass in patterns(objective, tokens + 1).items():
        seen[len(visible) - 1] += mass
    asked = np.append(np.full(tokens, 1 / tokens), 0.0)
    return float(np.abs(seen - asked).sum() / 2)


# ------------------------------------------------------------------------------------ chains, n = 1


def stationary(transition: np.ndarray) -> np.ndarray:
    """The stationary distribution (V,) of an irreducible chain."""
    size = len(transition)
    system = np.vstack([transition.T - np.eye(size), np.ones(size)])
    solution, *_ = np.linalg.lstsq(system, np.append(np.zeros(size), 1.0), rcond=None)
    return np.clip(solution, 0, None) / np.clip(solution, 0, None).sum()


def chain_cooccurrence(transition: np.ndarray, shares: Mapping[int, float]) -> np.ndarray:
    """A (V, V) of {signed lag: probability} in the stationary chain: sum_l q(l) D P^l."""
    of_token = np.diag(stationary(transition))
    joint = np.zeros_like(of_token)
    for lag, mass in shares.items():
        step = of_token @ np.linalg.matrix_power(transition, abs(lag))
        joint += mass * (step if lag > 0 else step.T)
    return joint / joint.sum()
