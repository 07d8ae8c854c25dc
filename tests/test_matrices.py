"""Objectives to matrices: against sums by hand and against the pairs that training's views
score.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats

from lookaround.data.rows import Rows
from lookaround.data.shards import TokenStore
from lookaround.objectives import parse
from lookaround.objectives.checks import scored_with_visible
from lookaround.support.errors import UserError
from lookaround.theory import matrices as module
from lookaround.theory.lags import LagCounts, count_lags
from lookaround.theory.law import contexts
from lookaround.theory.matrices import (
    Cooccurrence,
    cooccurrence,
    far_contexts,
    kept_contexts,
    shuffled_cooccurrence,
)
from test_objectives import nearest_visible

BOS = 0


@pytest.fixture(scope="module")
def counts() -> LagCounts:
    generator = np.random.default_rng(3)
    documents = [[BOS, *generator.zipf(1.5, 200).clip(1, 39).tolist()] for _ in range(40)]
    return LagCounts.of_documents(
        documents, 40, [*range(1, 9), 64, (2, 1), (1, -1), (-1, -2), (65, 64)], never_targets=[BOS]
    )


def dense(joint: Cooccurrence, vocabulary: int = 40) -> np.ndarray:
    """The matrix with rows and columns at their ids."""
    matrix = joint.matrix if isinstance(joint.matrix, np.ndarray) else joint.matrix.toarray()
    whole = np.zeros((vocabulary, vocabulary))
    whole[np.ix_(joint.rows, joint.columns)] = matrix
    return whole


def by_hand(counts: LagCounts, law: dict) -> np.ndarray:
    total = np.zeros((counts.vocabulary,) * 2)
    for (lag,), mass in law.items():
        part = counts.matrix(lag).toarray().astype(float)
        part[:, BOS] = 0
        total += mass * part / part.sum()
    return total / total.sum()


@pytest.mark.parametrize(
    "spec", ["ar", "dar", "mlm(rate=0.4)", "vmlm", "ar + mlm", "mlm(rate=linear(0.2, 0.5))"]
)
@pytest.mark.parametrize("bytes_allowed", [1 << 30, 0])
def test_the_matrix_is_the_law_over_the_counts(
    counts: LagCounts, spec: str, bytes_allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dense and sparse."""
    monkeypatch.setattr(module, "DENSE_BYTES", bytes_allowed)
    law = kept_contexts(parse(spec), 1, 64, 8)
    joint = cooccurrence(counts, law, min_count=1)
    assert dense(joint) == pytest.approx(by_hand(counts, law), abs=1e-12)
    assert dense(joint).sum() == pytest.approx(1)
    assert joint.beyond == pytest.approx(1 - sum(law.values()))
    assert not dense(joint)[:, BOS].any(), "BOS is never predicted"


@pytest.mark.slow
def test_ar_on_a_store_is_exactly_the_pairs_that_training_scores(store: TokenStore) -> None:
    rows = Rows(store.split("train"), 128, store.codec)  # wider than every document
    found = np.zeros((store.index["vocabulary"],) * 2)
    batch = rows.take(np.arange(len(rows)))
    (view,) = parse("ar").view(batch, 0, 0)
    np.add.at(
        found, (batch.tokens.flatten()[view.pairs.state].numpy(), view.pairs.target.numpy()), 1
    )
    joint = cooccurrence(count_lags(store, [1]), {(1,): 1.0}, min_count=1)
    assert dense(joint, len(found)) == pytest.approx(found / found.sum(), abs=1e-15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "nearest"),
    [("mlm(rate=0.4)", 1), ("dar", 1), ("mlm(rate=0.3)", 2), ("vmlm(suffix=0.5)", 1)],
)
def test_masked_and_farther_targets_agree_with_sampled_views(
    store: TokenStore, spec: str, nearest: int
) -> None:
    """P(nearest visible tokens, target) of views of a store: the independence of lags and text is
    all that is assumed.
    """
    objective = parse(spec)
    rows = Rows(store.split("train"), 64, store.codec)
    sizes, numbers = np.unique(rows.length, return_counts=True)
    law = kept_contexts(
        objective, nearest, dict(zip(sizes.tolist(), numbers.tolist(), strict=True)), 8
    )
    joint = cooccurrence(count_lags(store, law), law, context=nearest, min_count=1)
    found: dict = {}
    for repeat in range(12):
        batch = rows.take(np.arange(len(rows)), np.arange(len(rows)) + 1000 * repeat)
        row, target, visible, weight = scored_with_visible(objective, batch)
        real = (
            batch.documents[row].numpy() >= 0
            if batch.documents is not None
            else np.ones_like(visible)
        )
        for r, t, v, w in zip(
            row.tolist(), target.tolist(), visible & real, weight.tolist(), strict=True
        ):
            for lags, share in nearest_visible(t, v.nonzero()[0].tolist(), nearest).items():
                lags = (lags,) if nearest == 1 else lags
                if len(lags) == nearest and lags in law:
                    key = (
                        *(int(batch.tokens[r, t - lag]) for lag in lags),
                        int(batch.tokens[r, t]),
                    )
                    found[key] = found.get(key, 0.0) + share * w
    total = sum(found.values())
    code = joint.code
    matrix = sparse.coo_array(joint.matrix)
    expected = {}
    for r, c, mass in zip(matrix.row, matrix.col, matrix.data, strict=True):
        packed = int(joint.rows[r])
        tokens = [
            (packed >> code.bits * place) & ((1 << code.bits) - 1)
            for place in reversed(range(nearest))
        ]
        expected[(*tokens, int(joint.columns[c]))] = mass
    frequent = [key for key, mass in expected.items() if mass * total > 30]
    assert len(frequent) > 50
    ours = np.array([expected[key] for key in frequent])
    theirs = np.array([found.get(key, 0.0) / total for key in frequent])
    assert np.corrcoef(ours, theirs)[0, 1] > 0.97
    assert np.abs(ours - theirs).sum() / 2 < 0.06


def test_bigram_rows_against_sums_by_hand(counts: LagCounts) -> None:
    law = {(2, 1): 0.5, (1, -1): 0.3, (-1, -2): 0.2}
    joint = cooccurrence(counts, law, context=2, min_count=3)
    expected: dict = {}
    for lags, mass in law.items():
        found = counts.tally(lags)
        row, column = counts.code(2).split(found.keys)
        keep = column != BOS
        for r, c, n in zip(
            row[keep].tolist(), column[keep].tolist(), found.counts[keep].tolist(), strict=True
        ):
            expected[r, c] = expected.get((r, c), 0.0) + mass * n / found.counts[keep].sum()
    of_row: dict = {}
    for (r, _), mass in expected.items():
        of_row[r] = of_row.get(r, 0.0) + mass
    least = min(counts.pairs[lags] for lags in law)
    frequent = {r for r, mass in of_row.items() if mass * least >= 3 * (1 - 1e-6)}
    assert set(joint.rows.tolist()) <= frequent
    assert len(joint.rows) > 0.95 * len(frequent)
    matrix = joint.matrix.toarray()
    kept = {
        (int(joint.rows[i]), int(joint.columns[j])): matrix[i, j]
        for i, j in zip(*matrix.nonzero(), strict=True)
    }
    scale = sum(expected[key] for key in kept)
    assert all(value == pytest.approx(expected[key] / scale) for key, value in kept.items())


def test_rare_rows_and_columns_are_left_out_and_said(counts: LagCounts) -> None:
    law = {(1,): 1.0}
    whole, pruned = cooccurrence(counts, law, min_count=1), cooccurrence(counts, law, min_count=50)
    assert len(pruned.rows) < len(whole.rows)
    assert pruned.dropped > 0
    assert dense(pruned).sum() == pytest.approx(1)
    with pytest.raises(UserError, match="no context or no target occurs 1000000 times"):
        cooccurrence(counts, law, min_count=1_000_000)
    with pytest.raises(UserError, match="no 2-gram occurs"):
        cooccurrence(counts, {(2, 1): 1.0}, context=2, min_count=1_000_000)
    with pytest.raises(UserError, match="no lag of the objective"):
        cooccurrence(counts, {})


def test_shuffled_pairs_keep_their_margins_and_nothing_else(
    counts: LagCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHUFFLED_PAIRS", 1000)  # dealt in several parts
    real = counts.matrix(1).toarray()
    shuffled = shuffled_cooccurrence(counts, min_count=1, seed=4)
    numbers = dense(shuffled) * counts.pairs[(1,)]
    assert numbers.sum(axis=1) == pytest.approx(real.sum(axis=1))
    assert numbers.sum(axis=0) == pytest.approx(real.sum(axis=0))
    assert numbers == pytest.approx(numbers.round(), abs=1e-6), "whole pairs"
    frequent = np.ix_(real.sum(axis=1) > 100, real.sum(axis=0) > 100)
    assert stats.chi2_contingency(numbers[frequent].round()).pvalue > 1e-3, "independent"
    again = shuffled_cooccurrence(counts, min_count=1, seed=4)
    assert np.array_equal(dense(again), dense(shuffled))
    bigrams = shuffled_cooccurrence(counts, context=2, min_count=1)
    assert bigrams.matrix.sum() == pytest.approx(1)
    assert bigrams.context == 2


def test_the_law_that_is_counted() -> None:
    whole = contexts(parse("mlm"), 1, 64)
    assert kept_contexts(parse("mlm"), 1, 64, 3) == {
        (lag,): mass for lag, mass in whole.items() if abs(lag) <= 3
    }
    law = kept_contexts(parse("mlm(rate=0.3)"), 2, 64, 8)
    assert 0.95 <= sum(law.values()) <= 1
    assert all(len(lags) == 2 for lags in law)
    exact = contexts(parse("mlm(rate=0.3)"), 2, 64, 8)
    assert all(mass == pytest.approx(exact[lags], abs=2e-3) for lags, mass in law.items())
    assert sum(kept_contexts(parse("mlm(rate=0.4)"), 6, 64, 16).values()) < 1, (
        "many tuples, in no time"
    )
    assert far_contexts(64, 1) == {(64,): 1.0}
    assert far_contexts(64, 3) == {(66, 65, 64): 1.0}
