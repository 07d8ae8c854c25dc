"""Enumerable worlds: literal matrices against brute force, what is proved and what is refuted,
lengths in closed form.
"""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest
import torch

from benchmarks.worlds_shown import world_figures, worlds
from lookaround.objectives import Batch, Vocabulary, parse
from lookaround.theory.lags import LagCounts
from lookaround.theory.matrices import cooccurrence, kept_contexts
from lookaround.theory.spectrum import normalised
from lookaround.theory.worlds import (
    World,
    chain_cooccurrence,
    length_misalignment,
    literal_cooccurrence,
    prefix_coverage,
    stationary,
)


def test_worlds_list_every_sequence_once() -> None:
    for world in worlds():
        assert world.probability.sum() == pytest.approx(1)
        assert (world.probability.sum(axis=1) > 0).all()
        assert len(np.unique(world.sequences, axis=0)) == len(world.sequences)


def test_ar_by_hand() -> None:
    world = World.mixture(
        "two", [0.25, 0.75], [[1, 0], [0.5, 0.5]], [np.full((2, 2), 0.5), np.eye(2)], 2
    )
    literal = literal_cooccurrence(world, parse("ar"))
    table = dict(zip(literal.contexts, literal.joint, strict=True))
    first = np.array([0.25 + 0.375, 0.375])
    assert table[()] == pytest.approx(first / 2)
    assert table[((1, 0),)] == pytest.approx(np.array([0.125 + 0.375, 0.125]) / 2)
    assert table[((1, 1),)] == pytest.approx(np.array([0, 0.375]) / 2)
    fixed = literal_cooccurrence(world, parse("ar"), position=2)
    assert fixed.joint.sum() == pytest.approx(1)
    assert len(fixed.contexts) == 2
    assert fixed.class_probability[0] == pytest.approx([0.25, 0.375])
    with pytest.raises(ValueError, match="never predicts the token at position 3"):
        literal_cooccurrence(world, parse("ar"), position=3)


def test_mlm_by_listing_masks() -> None:
    world, rate = worlds()[0], 0.3
    table: dict = {}
    for mask in itertools.product((False, True), repeat=world.length):
        hidden = [i for i, m in enumerate(mask) if m]
        mass = rate ** len(hidden) * (1 - rate) ** (world.length - len(hidden))
        for sequence, probability in zip(
            world.sequences, world.probability.sum(axis=1), strict=True
        ):
            context = tuple((i + 1, int(t)) for i, t in enumerate(sequence) if i not in hidden)
            for target in hidden:
                key = context, int(sequence[target])
                table[key] = table.get(key, 0.0) + mass * probability
    whole = sum(table.values())
    literal = literal_cooccurrence(world, parse(f"mlm(rate={rate})"))
    for context, row in zip(literal.contexts, literal.joint, strict=True):
        assert row == pytest.approx(
            [table.get((context, token), 0.0) / whole for token in range(world.vocabulary)],
            abs=1e-14,
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        "ar",
        "ar(rate=0.3)",
        "dar",
        "mlm(rate=0.4)",
        "vmlm(suffix=0.5)",
        "prefixlm",
        'mdlm(weight="elbo")',
    ],
)
def test_literal_matrices_agree_with_training_views(spec: str) -> None:
    """Sequences drawn from a world, shown to training's own views: the (visible content, target)
    pairs they score.
    """
    world = worlds()[1]
    generator = np.random.default_rng(0)
    drawn = world.sequences[
        generator.choice(len(world.sequences), 30_000, p=world.probability.sum(axis=1))
    ]
    tokens = torch.cat([torch.full((len(drawn), 1), 90), torch.from_numpy(drawn)], dim=1)
    batch = Batch(
        tokens, torch.arange(len(drawn)), Vocabulary(100, 99, (90, 99)), None, tokens != 90
    )
    (view,) = parse(spec).view(batch, 0, 0)
    width = world.length + 1
    row, target = view.pairs.state // width, view.pairs.state % width + view.pairs.offset
    if view.shown.attention.kind == "bidirectional":
        hidden = torch.zeros_like(tokens, dtype=torch.bool)
        hidden[row, target] = True
        visible = ~hidden[row]
    else:
        masked = (view.shown.input_ids == batch.vocabulary.mask)[row]
        visible = (torch.arange(width)[None] <= (view.pairs.state % width)[:, None]) & ~masked
    found: dict = {}
    for r, t, v, w in zip(
        row.tolist(), target.tolist(), visible.tolist(), view.pairs.weight.tolist(), strict=True
    ):
        context = tuple((place, int(tokens[r, place])) for place in range(1, width) if v[place])
        key = context, int(tokens[r, t])
        found[key] = found.get(key, 0.0) + w
    whole = sum(found.values())
    literal = literal_cooccurrence(world, parse(spec))
    expected = {
        (context, token): mass
        for context, line in zip(literal.contexts, literal.joint, strict=True)
        for token, mass in enumerate(line)
    }
    distance = (
        sum(
            abs(expected.get(key, 0.0) - found.get(key, 0.0) / whole) for key in {*expected, *found}
        )
        / 2
    )
    cells = sum(mass > 0 for mass in expected.values())
    effective = sum(view.pairs.weight.tolist()) ** 2 / sum(
        w * w for w in view.pairs.weight.tolist()
    )
    assert distance < 0.8 * np.sqrt(cells / effective), (
        "no more than drawing so many pairs into so many cells makes"
    )


# ------------------------------------------------------------------------------------ chains, n = 1


def random_chain(generator: np.random.Generator, size: int, kind: str) -> np.ndarray:
    """Transitions of a chain whose D^1/2 P D^-1/2 is normal ("circulant", "reversible") or any."""
    if kind == "circulant":
        weights = generator.dirichlet(np.full(size, 0.5))
        return np.stack([np.roll(weights, shift) for shift in range(size)])
    if kind == "reversible":
        flow = generator.random((size, size)) ** 3
        flow = flow + flow.T
        return flow / flow.sum(axis=1, keepdims=True)
    return generator.dirichlet(np.full(size, 0.3), size)


def ar_and_mlm(transition: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Abar of the next token, and of a masked token from its left or right neighbour alike."""
    ar, _, _ = normalised(chain_cooccurrence(transition, {1: 1.0}))
    mlm, _, _ = normalised(chain_cooccurrence(transition, {1: 0.5, -1: 0.5}))
    return ar, mlm


@pytest.mark.parametrize("kind", ["circulant", "reversible"])
def test_masking_never_leaves_a_larger_tail_in_a_normal_chain_and_never_a_smaller_alpha(
    kind: str,
) -> None:
    """Both halves of the condition in docs/theory.md: the tail that is proved, the clustering that
    is refuted.
    """
    generator = np.random.default_rng(0)
    for _ in range(40):
        size = int(generator.integers(3, 9))
        ar, mlm = ar_and_mlm(random_chain(generator, size, kind))
        assert np.abs(ar @ ar.T - ar.T @ ar).max() < 1e-10, "normal"
        first, second = np.linalg.svd(ar, compute_uv=False), np.linalg.svd(mlm, compute_uv=False)
        assert (second <= first + 1e-10).all(), "every singular value"
        u = generator.standard_normal((size, 3))
        alpha_ar = (u**2).sum() - np.square(ar.T @ u).sum()
        alpha_mlm = (u**2).sum() - np.square(mlm.T @ u).sum()
        assert alpha_mlm >= alpha_ar - 1e-10, "whatever the labels"


def test_the_total_energy_and_twice_the_rank_hold_in_any_chain() -> None:
    generator = np.random.default_rng(1)
    for _ in range(60):
        size = int(generator.integers(3, 9))
        ar, mlm = ar_and_mlm(random_chain(generator, size, "any"))
        first, second = (
            np.linalg.svd(ar, compute_uv=False) ** 2,
            np.linalg.svd(mlm, compute_uv=False) ** 2,
        )
        for rank in range(size):
            assert second[2 * rank :].sum() <= first[rank:].sum() + 1e-10


def test_a_chain_where_masking_leaves_the_larger_tail() -> None:
    """The next token depends on the group of this one alone: `ar` has rank 2, and its transpose
    other directions.
    """
    groups = np.array([[0.7, 0.1, 0.1, 0.1], [0.05, 0.15, 0.1, 0.7]])
    transition = groups[[0, 1, 0, 1]]
    ar, mlm = ar_and_mlm(transition)
    tails = [(np.linalg.svd(matrix, compute_uv=False)[2:] ** 2).sum() for matrix in (ar, mlm)]
    assert tails[0] == pytest.approx(0, abs=1e-12)
    assert tails[1] > 0.001


@pytest.mark.slow
def test_counts_of_a_long_text_approach_the_chain() -> None:
    generator = np.random.default_rng(2)
    transition = random_chain(generator, 6, "any")
    state, text = 0, []
    edges = transition.cumsum(axis=1)
    for uniform in generator.random(200_000):
        state = int(np.searchsorted(edges[state], uniform))
        text.append(min(state, 5))
    law = kept_contexts(parse("mlm(rate=0.3)"), 1, 512, 6)
    counts = LagCounts.of_documents([text], 6, law)
    exact = chain_cooccurrence(transition, {lags[0]: mass for lags, mass in law.items()})
    assert np.abs(np.asarray(cooccurrence(counts, law, min_count=1).matrix) - exact).max() < 0.004
    assert stationary(transition) @ transition == pytest.approx(stationary(transition))


# -------------------------------------------------------------------------------- signs and lengths


def test_neither_sign_holds_in_every_world() -> None:
    """tail(AR) - tail(MLM) and error(AR) - error(MLM): both of either sign somewhere, and not
    always the same one.
    """
    tails, errors = [], []
    for world in worlds():
        for rank in (1, 2, 3):
            ar, mlm = (
                world_figures(literal_cooccurrence(world, parse(s)), rank)
                for s in ("ar", "mlm(rate=0.5)")
            )
            if abs(ar.tail - mlm.tail) > 1e-6 and abs(ar.probe.error - mlm.probe.error) > 1e-6:
                tails.append(np.sign(ar.tail - mlm.tail))
                errors.append(np.sign(ar.probe.error - mlm.probe.error))
    assert {-1.0, 1.0} == set(errors)
    assert any(t != e for t, e in zip(tails, errors, strict=True))


@pytest.mark.parametrize("tokens", [1, 2, 5, 9])
def test_lengths_that_training_shows(tokens: int) -> None:
    assert length_misalignment(parse("ar"), tokens) == pytest.approx(0, abs=1e-12)
    rate = 0.3
    hidden = np.arange(
        1, tokens + 1
    )  # a row with h hidden tokens gives h targets, each of which sees tokens - h
    seen = np.array(
        [comb(tokens, h) * rate**h * (1 - rate) ** (tokens - h) * h for h in hidden]
    ) / (tokens * rate)
    expected = np.abs(seen - 1 / tokens).sum() / 2
    assert length_misalignment(parse(f"mlm(rate={rate})"), tokens) == pytest.approx(
        expected, abs=1e-12
    )
    # a rate uniform on (0, 1) makes h uniform, its targets h: weighing by 1/rate undoes just that
    flat = np.abs(hidden / hidden.sum() - 1 / tokens).sum() / 2
    assert length_misalignment(parse("mdlm"), tokens) == pytest.approx(flat, abs=2e-3)
    assert length_misalignment(parse('mdlm(weight="elbo")'), tokens) < 2e-3


def test_prefixes_that_training_shows() -> None:
    tokens = 8
    assert prefix_coverage(parse("ar"), tokens) == pytest.approx(np.full(tokens, 1 / tokens))
    rate = 0.15
    size = np.arange(tokens)
    exact = (1 - rate) ** size * rate ** (tokens - size) / (tokens * rate)
    assert prefix_coverage(parse("mlm"), tokens) == pytest.approx(exact)
    repaired = prefix_coverage(parse("vmlm(suffix=0.25)"), tokens)
    whole = prefix_coverage(parse("vmlm(suffix=1)"), tokens)
    assert whole == pytest.approx(np.full(tokens, 1 / sum(range(1, tokens + 1))))
    assert repaired.min() > 500 * exact.min()
    assert (repaired > 0.2 * whole).all(), "every prefix keeps its share of the suffixes"
