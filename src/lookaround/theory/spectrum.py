"""The spectrum of an objective's matrix: the optimum of a table with one vector per context.

    spectrum = CooccurrenceSpectrum("mlm(rate=0.4)", rank=128).fit(counts)
    spectrum.singular_values_, spectrum.tail_energy_, spectrum.context_features_

Abar = D_c^-1/2 A D_t^-1/2, with the marginals D_c and D_t of A, has singular values in [0, 1], the
first of them 1. Its truncated SVD gives a minimiser F G^T of ||Abar - F G^T||^2 (unique iff sigma_k
> sigma_k+1, F and G up to an invertible factor): the optimum of the spectral contrastive loss
(HaoChen et al. 2021, arXiv 2106.04156, for pairs of two kinds) for a table of contexts and one of
targets. It is a statistic of restricted contexts and no limit of training.

R contexts, V' targets, k rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, svds

from lookaround.objectives import Objective, parse
from lookaround.support.errors import UserError
from lookaround.theory.lags import LagCounts
from lookaround.theory.matrices import Cooccurrence, Matrix, cooccurrence, kept_contexts

FULL_SVD = 600  # the smaller side of matrices whose SVD is computed whole
KRYLOV_BLOCKS = 9  # of 1.25 times the rank
RESIDUAL = 1e-3  # the largest that is accepted


def normalised(matrix: Matrix) -> tuple[Matrix, np.ndarray, np.ndarray]:
    """(Abar (R, V'), context marginal (R,), target marginal (V',)) of nonnegative weights.

    Rows and columns without mass stay 0.
    """
    whole = float(matrix.sum(dtype=np.float64))
    of_context = np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel() / whole
    of_target = np.asarray(matrix.sum(axis=0, dtype=np.float64)).ravel() / whole
    left, right = _inverse_root(of_context), _inverse_root(of_target)
    if isinstance(matrix, np.ndarray):
        scaled = matrix * (left / whole).astype(matrix.dtype)[:, None]
        scaled *= right.astype(matrix.dtype)
        return scaled, of_context, of_target
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    data = matrix.data * left[row] * right[matrix.indices] / whole
    return (
        sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape),
        of_context,
        of_target,
    )


def _inverse_root(marginal: np.ndarray) -> np.ndarray:
    return np.divide(1.0, np.sqrt(marginal), out=np.zeros_like(marginal), where=marginal > 0)


def truncated_svd(
    matrix: Matrix, rank: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """(U (R, k), falling singular values (k,), V (V', k), largest residual), in float64.

    The residual, the larger of ||M v - sigma u|| and ||M^T u - sigma v|| over the k triplets, is
    measured and not assumed. Small matrices are decomposed whole, large dense ones by block Krylov
    iteration, all others, and those that it leaves with a residual above 1e-3, by ARPACK. Each pair
    of vectors has the sign that makes the largest entry of u positive. Raises UserError for a rank
    above the smaller side, and where no residual of 1e-3 is reached.
    """
    smaller = min(matrix.shape)
    if not 1 <= rank <= smaller:
        raise UserError(
            f"rank: {rank} is above the {smaller:,} usable contexts and targets "
            f"({matrix.shape[0]:,} x {matrix.shape[1]:,}); give 1 to {smaller:,}"
        )
    residual = float("inf")
    if smaller <= FULL_SVD or rank >= smaller - 1:
        dense = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
        left, values, right = np.linalg.svd(dense.astype(np.float64), full_matrices=False)
        left, values, right = left[:, :rank], values[:rank], right[:rank].T
        residual = _residual(matrix, left, values, right)
    elif (
        isinstance(matrix, np.ndarray)
        and matrix.dtype == np.float32
        and smaller > 4 * KRYLOV_BLOCKS * rank
    ):
        left, values, right = _block_krylov(matrix, rank, seed)
        residual = _residual(matrix, left, values, right)
    if residual > RESIDUAL:
        left, values, right = _arpack(matrix, rank, seed)
        residual = _residual(matrix, left, values, right)
    if residual > RESIDUAL:
        raise UserError(
            f"rank: the SVD of rank {rank} did not converge (residual {residual:.2g} above "
            f"{RESIDUAL:g}); give a smaller rank"
        )
    left, values, right = (part.astype(np.float64) for part in (left, values, right))
    flip = np.sign(left[np.abs(left).argmax(axis=0), np.arange(rank)])
    return left * flip, values, right * flip, residual


def _residual(matrix: Matrix, left: np.ndarray, values: np.ndarray, right: np.ndarray) -> float:
    of_right = matrix @ right.astype(matrix.dtype) - left * values
    of_left = matrix.T @ left.astype(matrix.dtype) - right * values
    return float(max(np.linalg.norm(of_right, axis=0).max(), np.linalg.norm(of_left, axis=0).max()))


def _arpack(matrix: Matrix, rank: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    start = np.random.default_rng(seed).standard_normal(min(matrix.shape)).astype(matrix.dtype)
    tolerance = 1e-4 if matrix.dtype == np.float32 else 0  # relative, of sigma^2
    operator: Any = matrix
    if isinstance(matrix, np.ndarray):  # svds would copy the transpose at every product
        operator = LinearOperator(
            matrix.shape, matvec=matrix.dot, rmatvec=matrix.T.dot, dtype=matrix.dtype
        )
    left, values, right = svds(operator, k=rank, tol=tolerance, v0=start)
    order = np.argsort(-values)
    return left[:, order], values[order], right[order].T


def _block_krylov(
    matrix: np.ndarray, rank: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rayleigh-Ritz on the span of X, (M^T M) X, (M^T M)^2 X ..

    (Musco & Musco 2015, arXiv 1504.05477, algorithm 2).

    Products of a matrix with blocks of vectors are bound by arithmetic, those of ARPACK with one
    vector by memory.
    """
    block = rank + rank // 4
    basis = np.empty((matrix.shape[1], block * KRYLOV_BLOCKS), matrix.dtype, order="F")
    image = np.empty((matrix.shape[0], block * KRYLOV_BLOCKS), matrix.dtype, order="F")
    vectors = np.random.default_rng(seed).standard_normal(
        (matrix.shape[1], block), dtype=matrix.dtype
    )
    for number in range(KRYLOV_BLOCKS):
        here = slice(number * block, (number + 1) * block)
        before = basis[:, : here.start]
        for _ in range(2):  # once more for what rounding left
            vectors -= before @ (before.T @ vectors)
        basis[:, here] = np.linalg.qr(vectors)[0]
        image[:, here] = matrix @ basis[:, here]
        vectors = matrix.T @ image[:, here]
    size = image.shape[1]
    squares, inside = eigh(
        (image.T @ image).astype(np.float64), subset_by_index=(size - rank, size - 1)
    )
    values, inside = np.sqrt(np.maximum(squares[::-1], 0)), inside[:, ::-1].astype(matrix.dtype)
    return image @ inside / values, values, basis @ inside


class CooccurrenceSpectrum:
    """Truncated SVD of the normalised co-occurrence matrix of one objective on counted text.

    objective: an Objective or its spec.
    context: nearest visible tokens per context; 1 = a token, n >= 2 = an ordered n-gram.
    rank: singular values kept.
    min_count: contexts and targets expected less often are left out.
    length: tokens per training row, or {tokens: rows}; it shapes the probabilities of the lags.
    reach: the largest lag used.
    seed: of ARPACK's start.

    Fitted: singular_values_ (k,); context_features_ (R, k) = D_c^-1/2 U Sigma^1/2 and
    target_features_ (V', k), for the context ids contexts_ (R,) and target ids targets_ (V',), with
    their probabilities context_probability_ and target_probability_; energy_ = ||Abar||^2;
    tail_energy_ = sum of sigma_i^2 beyond the rank; effective_rank_ = exp(entropy of sigma / sum
    sigma) of the kept ones (Roy & Vetterli 2007); residual_, the largest of ||Abar v - sigma u||
    and ||Abar^T u - sigma v||; beyond_, the share of the objective's targets whose lags were left
    out; dropped_, of the pairs below the minimum count; cooccurrence_, left_ (R, k) and right_ (V',
    k), the matrix and the singular vectors.
    """

    def __init__(
        self,
        objective: Objective | str = "ar",
        *,
        context: int = 1,
        rank: int = 128,
        min_count: int = 5,
        length: int | Mapping[int, float] = 128,
        reach: int = 16,
        seed: int = 0,
    ) -> None:
        self.objective = objective
        self.context = context
        self.rank = rank
        self.min_count = min_count
        self.length = length
        self.reach = reach
        self.seed = seed

    def shares(self) -> dict[tuple[int, ...], float]:
        """{tuple of lags: probability} that this spectrum needs counted."""
        objective = parse(self.objective) if isinstance(self.objective, str) else self.objective
        return kept_contexts(objective, self.context, self.length, self.reach)

    def fit(self, counts: LagCounts | Cooccurrence, y: object = None) -> CooccurrenceSpectrum:
        """Fits to counts of a corpus, or to a matrix made of them; y is ignored.

        Raises UserError for lags that were not counted and a rank above the number of usable
        contexts.
        """
        if isinstance(counts, LagCounts):
            counts = cooccurrence(
                counts, self.shares(), context=self.context, min_count=self.min_count
            )
        self.cooccurrence_ = counts
        self.contexts_, self.targets_ = counts.rows, counts.columns
        scaled, self.context_probability_, self.target_probability_ = normalised(counts.matrix)
        self.left_, self.singular_values_, self.right_, self.residual_ = truncated_svd(
            scaled, self.rank, seed=self.seed
        )
        self.energy_ = energy(scaled)
        self.tail_energy_ = max(0.0, self.energy_ - float((self.singular_values_**2).sum()))
        self.effective_rank_ = effective_rank(self.singular_values_)
        self.beyond_, self.dropped_ = counts.beyond, counts.dropped
        root = np.sqrt(self.singular_values_)
        self.context_features_ = (
            _inverse_root(self.context_probability_)[:, None] * self.left_ * root
        )
        self.target_features_ = (
            _inverse_root(self.target_probability_)[:, None] * self.right_ * root
        )
        return self

    def transform(
        self,
        documents: Sequence[Sequence[int] | np.ndarray],
        features: str = "both",
        weighting: str = "spectral",
    ) -> np.ndarray:
        """Mean features of documents of token ids, (documents, k) float64, for a linear probe.

        features: "context" (each n-gram as a context), "target" (each token as a target), or
            "both", which takes the first k/2 of either.
        weighting: "spectral" (context_features_ and target_features_ as they are, in which rare
            tokens are long) or "unit" (each scaled to length 1). Unknown tokens are passed over; a
            document without a known one gets zeros.

        Raises ValueError for other words.
        """
        if weighting not in ("spectral", "unit"):
            raise ValueError(f"weighting must be 'spectral' or 'unit', got {weighting!r}")
        tokens = [np.asarray(document, dtype=np.int64) for document in documents]
        half = self.rank // 2
        parts = []
        for side, ids, known, vectors, of_both in (
            (
                "context",
                map(self._context_ids, tokens),
                self.contexts_,
                self.context_features_,
                self.rank - half,
            ),
            ("target", tokens, self.targets_, self.target_features_, half),
        ):
            if features in (side, "both"):
                rank = self.rank if features == side else of_both
                parts.append(mean_rows(list(ids), known) @ _weighted(vectors[:, :rank], weighting))
        if not parts:
            raise ValueError(f"features must be 'context', 'target' or 'both', got {features!r}")
        return np.hstack(parts)

    def _context_ids(self, tokens: np.ndarray) -> np.ndarray:
        code = self.cooccurrence_.code
        if code.n == 1:
            return tokens
        width = len(tokens) - code.n + 1
        if width <= 0:
            return np.zeros(0, np.uint64)
        return code.contexts(
            [tokens[i : i + width].astype(np.uint32) for i in range(code.n)]
        ).astype(np.uint64)


def _weighted(features: np.ndarray, weighting: str) -> np.ndarray:
    if weighting == "spectral":
        return features
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-300)


def energy(matrix: Matrix) -> float:
    """The squared Frobenius norm."""
    if isinstance(matrix, np.ndarray):
        return float(np.einsum("ij,ij->i", matrix, matrix).sum(dtype=np.float64))
    return float(np.dot(matrix.data, matrix.data))


def effective_rank(values: np.ndarray) -> float:
    """exp(entropy of values / sum) (Roy & Vetterli 2007), of singular values (k,)."""
    share = values[values > 0] / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def mean_rows(documents: Sequence[np.ndarray], known: np.ndarray) -> sparse.csr_array:
    """(documents, R) weights that average the features of a document's known ids."""
    flat = np.concatenate(documents) if documents else np.zeros(0, known.dtype)
    of = np.repeat(np.arange(len(documents)), [len(ids) for ids in documents])
    at = np.minimum(np.searchsorted(known, flat), len(known) - 1)
    here = known[at] == flat
    counts = sparse.csr_array(
        (np.ones(int(here.sum())), (of[here], at[here])), shape=(len(documents), len(known))
    )
    counts.sum_duplicates()
    size = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    counts.data /= np.repeat(size, np.diff(counts.indptr))
    return counts
