"""From counts to an objective's matrix: A_o = sum over lags of q_o(lag) C_lag / pairs.

q_o is `contexts(objective, n, rows)` (theory/law.py): the probabilities of the lags from the n
nearest visible tokens to the target. A_o[c, y] is the probability of the pair (context tokens c,
target token y) under the objective on this corpus; all objectives share one count. With n = 1 rows
are tokens at any lag; with n >= 2 they are ordered n-grams. It is a statistic of restricted
contexts (arXiv 2407.00935 for objectives as factorisations; this form is ours), not what a network
sees.

R rows (contexts), V columns (targets).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse

from lookaround.objectives import Objective
from lookaround.support.errors import UserError
from lookaround.theory.lags import LagCounts, Lags
from lookaround.theory.law import contexts
from lookaround.theory.tally import Code, merge, run_starts, tally

Matrix: TypeAlias = np.ndarray | sparse.csr_array

# a matrix larger than this is kept sparse; two of the size are held while lags are added up
DENSE_BYTES = 1 << 30
# dense matrices of larger vocabularies are float32: the products are bound by memory
DOUBLE_TOKENS = 4096
SPARSE_SHARE = 0.08  # a dense matrix with fewer nonzeros is faster as a sparse one
TUPLES = 48  # tuples of lags that are counted for n >= 2, at most
COVERED = 0.95  # share of the probability at which no more tuples are added
LEAST = 1e-3  # share below which a tuple of n >= 2 lags is not followed up
SHUFFLED_PAIRS = 1 << 24  # pairs shuffled at a time


@dataclass(frozen=True)
class Cooccurrence:
    """The matrix of an objective on a corpus.

    matrix: (R, V') probabilities that sum to 1, dense or sparse.
    rows: (R,) token ids, or row numbers of n-grams (see `Code`), rising.
    columns: (V',) token ids, rising.
    code: how keys are packed.
    beyond: share of the objective's targets whose lags were not counted.
    dropped: share of the pairs left out with rows and columns of fewer than the minimum count.
    pairs: pairs counted at each lag: the least of them, of offsets of pictures the mean.
    """

    matrix: Matrix
    rows: np.ndarray
    columns: np.ndarray
    code: Code
    beyond: float
    dropped: float
    pairs: int

    @property
    def context(self) -> int:
        return self.code.n


def kept_contexts(
    objective: Objective, context: int, length: int | Mapping[int, float] = 128, reach: int = 16
) -> dict[Lags, float]:
    """{tuple of lags: probability} of an objective's contexts; for n >= 2 its likeliest tuples.

    length, reach: as in `Objective.contexts`. Tuples with fewer than `context` visible tokens are
        left out.
    """
    shares = contexts(objective, context, length, reach, LEAST if context > 1 else 0.0)
    tuples = {(key,) if isinstance(key, int) else key: mass for key, mass in shares.items()}
    full = {key: mass for key, mass in tuples.items() if len(key) == context}
    if context == 1:
        return full
    kept: dict[Lags, float] = {}
    for key in sorted(full, key=lambda key: -full[key])[:TUPLES]:
        if sum(kept.values()) >= COVERED:
            break
        kept[key] = full[key]
    return kept


def far_contexts(lag: int, context: int) -> dict[Lags, float]:
    """The contexts of the control: `context` adjacent tokens and a target `lag` after the last."""
    return {tuple(range(lag + context - 1, lag - 1, -1)): 1.0}


def cooccurrence(
    counts: LagCounts,
    shares: Mapping[Lags, float],
    *,
    context: int = 1,
    min_count: int = 5,
    plane: bool = False,
) -> Cooccurrence:
    """The matrix of {lags: probability} on counted text; missing probability is `beyond`.

    min_count: rows and columns expected fewer times in the corpus are left out, of as many pairs as
        stand at the rarest lag.
    plane: whether lags are offsets of pictures; then of as many as stand at a lag on average, since
        from corner to corner a picture has one pair.

    Raises UserError for lags that were not counted, or where nothing is left.
    """
    if not shares:
        raise UserError("no lag of the objective lies within reach; count larger lags")
    numbers = {lags: counts.number(lags) for lags in shares}
    pairs = min(numbers.values())
    if plane:
        mass = sum(shares.values())
        pairs = round(sum(share * numbers[lags] for lags, share in shares.items()) / mass)
    if not pairs:
        raise UserError("no pair stands at a lag of the objective: the documents are too short")
    beyond = max(0.0, 1.0 - sum(shares.values()))
    if context == 1:
        matrix = _token_matrix(counts, shares)
        rows: np.ndarray = np.arange(counts.vocabulary)
    else:
        matrix, rows = _ngram_matrix(counts, shares, context, min_count, pairs)
    return _pruned(
        matrix, rows, np.arange(counts.vocabulary), counts.code(context), beyond, pairs, min_count
    )


def _pruned(
    matrix: Matrix,
    rows: np.ndarray,
    columns: np.ndarray,
    code: Code,
    beyond: float,
    pairs: int,
    min_count: int,
) -> Cooccurrence:
    """Rows and columns below the minimum count left out, the rest scaled to sum to 1."""
    of_row = np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
    of_column = np.asarray(matrix.sum(axis=0, dtype=np.float64)).ravel()
    whole = float(of_row.sum())
    least = max(min_count, 1) * (1 - 1e-6) / max(pairs, 1) * whole
    keep_rows, keep_columns = np.flatnonzero(of_row >= least), np.flatnonzero(of_column >= least)
    if not len(keep_rows) or not len(keep_columns):
        raise UserError(
            f"no context or no target occurs {min_count} times or more in the {pairs:,} pairs "
            "counted; give a larger corpus or a smaller minimum count"
        )
    left = whole
    if len(keep_rows) < len(rows) or len(keep_columns) < len(columns):
        matrix = (
            matrix[np.ix_(keep_rows, keep_columns)]
            if isinstance(matrix, np.ndarray)
            else matrix[keep_rows][:, keep_columns]
        )
        left = float(matrix.sum(dtype=np.float64))
    if isinstance(matrix, np.ndarray):
        matrix *= matrix.dtype.type(1 / left)
    else:
        matrix.data *= 1 / left
    return Cooccurrence(
        matrix,
        rows[keep_rows],
        columns[keep_columns],
        code,
        beyond,
        max(0.0, 1 - left / whole),
        pairs,
    )


# -------------------------------------------------------------------------------------------- n = 1


def _token_matrix(counts: LagCounts, shares: Mapping[Lags, float]) -> Matrix:
    """Sum of q(lag) C_lag / pairs, (vocabulary, vocabulary)."""
    size = counts.vocabulary
    dtype = np.dtype(np.float64 if size <= DOUBLE_TOKENS else np.float32)
    if size * size * dtype.itemsize > DENSE_BYTES or len(shares) == 1:
        return _sparse_token_matrix(counts, shares)
    code = counts.code(1)
    padded = (size, 1 << code.bits)  # so that a key is the place of its pair
    # behind: lags below 0, transposed, so that writes are in order
    ahead, behind = np.zeros(padded, dtype), None
    for lag in sorted({abs(lags[0]) for lags in shares}):
        pairs = counts.tally(lag)
        places = pairs.keys.astype(np.int64)
        if (mass := shares.get((lag,), 0.0)) > 0:
            np.add.at(
                ahead.reshape(-1), places, (pairs.counts * (mass / pairs.total)).astype(dtype)
            )
        if (mass := shares.get((-lag,), 0.0)) > 0:
            behind = np.zeros(padded, dtype) if behind is None else behind
            number = pairs.counts.copy()
            for token in counts.never_targets:  # as the earlier token it is the target here
                number[
                    slice(*np.searchsorted(places, [token << code.bits, token + 1 << code.bits]))
                ] = 0
            np.add.at(behind.reshape(-1), places, (number * (mass / number.sum())).astype(dtype))
    matrix = ahead[:, :size]
    if behind is not None:
        matrix += behind[:, :size].T
    if np.count_nonzero(matrix) < SPARSE_SHARE * matrix.size:
        return sparse.csr_array(matrix, dtype=np.float64)
    return matrix


def _sparse_token_matrix(counts: LagCounts, shares: Mapping[Lags, float]) -> sparse.csr_array:
    total: sparse.csr_array | None = None
    for (lag,), mass in shares.items():
        part = counts.matrix(lag).astype(np.float64).tocsc()
        for token in counts.never_targets:
            part.data[part.indptr[token] : part.indptr[token + 1]] = 0
        part = part.tocsr()
        part.data *= mass / part.data.sum()
        total = part if total is None else total + part
    assert total is not None
    total.eliminate_zeros()
    return total


# ------------------------------------------------------------------------------------------- n >= 2


def _ngram_matrix(
    counts: LagCounts, shares: Mapping[Lags, float], context: int, min_count: int, pairs: int
) -> tuple[sparse.csr_array, np.ndarray]:
    """(sum of q(lags) C_lags / pairs (R, vocabulary), row numbers (R,)), rare rows left out."""
    code = counts.code(context)
    weights: dict[str, list[np.ndarray]] = {"row": [], "mass": []}
    for lags, mass in shares.items():  # first the rows that are frequent enough
        row, _, share = _ngram_shares(counts, code, lags)
        first = run_starts(row)
        weights["row"].append(row[first])
        weights["mass"].append(mass * np.add.reduceat(share, first))
    rows, inverse = np.unique(np.concatenate(weights["row"]), return_inverse=True)
    frequent = np.bincount(inverse, np.concatenate(weights["mass"]))
    rows = rows[frequent * pairs >= max(min_count, 1) * (1 - 1e-6)]
    if not len(rows):
        raise UserError(
            f"no {context}-gram occurs {min_count} times or more in the {pairs:,} tuples counted; "
            "give a larger corpus, a smaller minimum count or fewer context tokens"
        )
    total: sparse.csr_array | None = None
    for lags, mass in shares.items():
        row, column, share = _ngram_shares(counts, code, lags)
        at = np.minimum(np.searchsorted(rows, row), len(rows) - 1)
        known = rows[at] == row
        part = sparse.csr_array(
            (mass * share[known], (at[known], column[known])), shape=(len(rows), counts.vocabulary)
        )
        total = part if total is None else total + part
    assert total is not None
    return total, rows


def _ngram_shares(
    counts: LagCounts, code: Code, lags: Lags
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row numbers, targets, shares that sum to 1) of a tuple of lags; BOS is never predicted."""
    tuples = counts.tally(lags)
    row, column = code.split(tuples.keys)
    predicted = ~np.isin(column, counts.never_targets)
    number = tuples.counts[predicted].astype(np.float64)
    return row[predicted], column[predicted], number / number.sum()


# ---------------------------------------------------------------------------------- the noise floor


def shuffled_cooccurrence(
    counts: LagCounts, *, context: int = 1, min_count: int = 5, seed: int = 0
) -> Cooccurrence:
    """The control of equal size: the pairs of `ar` with shuffled targets.

    Row and column counts stay exactly as they are; the rest is the noise of so many pairs.
    """
    lags = tuple(range(context, 0, -1))
    pairs = counts.tally(lags)
    code = counts.code(context)
    row, column = code.split(pairs.keys)
    rows, inverse = np.unique(row, return_inverse=True)
    of_row = np.bincount(inverse, pairs.counts).astype(np.int64)
    of_column = np.bincount(column, pairs.counts, counts.vocabulary).astype(np.int64)
    shuffled = merge(
        _shuffled_parts(of_row, of_column, counts.vocabulary, np.random.default_rng(seed))
    )
    at, column = (
        part.astype(np.int64) for part in np.divmod(shuffled.keys, np.uint64(counts.vocabulary))
    )
    shape = (len(rows), counts.vocabulary)
    matrix = sparse.csr_array((shuffled.counts.astype(np.float64), (at, column)), shape=shape)
    every = rows.astype(np.int64) if context == 1 else rows
    return _pruned(matrix, every, np.arange(counts.vocabulary), code, 0.0, pairs.total, min_count)


def _shuffled_parts(
    of_row: np.ndarray, of_column: np.ndarray, vocabulary: int, generator: np.random.Generator
):
    """Tallies of (row, column) pairs, the columns dealt to the rows at random, part by part."""
    left = of_column.copy()
    ends = of_row.cumsum()
    for begin in range(0, int(ends[-1]), SHUFFLED_PAIRS):
        stop = min(begin + SHUFFLED_PAIRS, int(ends[-1]))
        here = np.clip(ends, begin, stop)
        rows = np.repeat(np.arange(len(of_row), dtype=np.uint64), np.diff(here, prepend=begin))
        dealt = left
        if stop < ends[-1]:
            dealt = generator.multivariate_hypergeometric(left, stop - begin, method="marginals")
        left = left - dealt
        columns = np.repeat(np.arange(vocabulary, dtype=np.uint64), dealt)
        generator.shuffle(columns)
        yield tally(rows * np.uint64(vocabulary) + columns)
