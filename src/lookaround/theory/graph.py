"""The graph of contexts and targets: which contexts share a target, within and across classes.

Two contexts are connected if some target follows both. On real text with a small vocabulary nearly
all are, under any objective. Then the figures are called saturated: they distinguish nothing. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from lookaround.theory.matrices import Matrix

EXACT_CONTEXTS = 1500  # contexts up to which all pairs are looked at
DRAWS = 4000  # pairs drawn where there are more
SATURATED = 0.99


@dataclass(frozen=True)
class Connectivity:
    """components: of the bipartite graph.

    gap: 1 - sigma_2^2.
    meeting: probability that two contexts drawn by their frequency share a target, with the
        standard error of its estimate (0 where exact).
    within, between: the same for contexts of one class and of two (nan without labels).
    """

    components: int
    gap: float
    meeting: float
    meeting_error: float
    within: float = float("nan")
    between: float = float("nan")

    @property
    def saturated(self) -> bool:
        """Whether nearly everything is connected, so that neither figure tells objectives apart."""
        return self.components == 1 and self.meeting > SATURATED


def connectivity(
    matrix: Matrix, singular_values: np.ndarray, labels: np.ndarray | None = None, *, seed: int = 0
) -> Connectivity:
    """The figures of a joint (R, V') with falling singular values; labels (R,) int, -1 = none."""
    second = float(singular_values[1]) if len(singular_values) > 1 else 0.0
    share, error, within, between = meeting_share(matrix, labels, seed=seed)
    return Connectivity(components(matrix), 1 - second**2, share, error, within, between)


def components(matrix: Matrix) -> int:
    """Connected components of the bipartite graph of entries above 0, empty rows left out."""
    if isinstance(matrix, np.ndarray):
        return _dense_components(matrix)
    graph = sparse.block_array([[None, matrix], [matrix.T, None]], format="csr")
    graph.eliminate_zeros()
    linked = np.diff(graph.indptr) > 0
    _, label = connected_components(graph, directed=False)
    return len(np.unique(label[linked]))


def _dense_components(matrix: np.ndarray) -> int:
    """Breadth-first: a dense matrix has few components and is crossed in a few steps."""
    unseen = matrix.any(axis=1)
    number = 0
    while unseen.any():
        number += 1
        rows = np.zeros(len(matrix), dtype=matrix.dtype)
        rows[int(unseen.argmax())] = 1
        size = 0
        while (count := int(np.count_nonzero(rows))) > size:
            size = count
            rows = (matrix @ (rows @ matrix > 0).astype(matrix.dtype) > 0).astype(matrix.dtype)
        unseen &= rows == 0
    return number


def meeting_share(
    matrix: Matrix, labels: np.ndarray | None = None, *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float, float, float]:
    """(P(two contexts share a target), its standard error, within classes, between classes).

    Exact for up to 1,500 contexts, else from `draws` pairs. labels (R,) int, -1 = none; None gives
    nan for the last two.
    """
    of_context = np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
    of_context /= of_context.sum()
    size = len(of_context)
    if size <= EXACT_CONTEXTS:
        linked = (matrix if isinstance(matrix, np.ndarray) else matrix.toarray()) > 0
        meets = linked.astype(np.float32) @ linked.astype(np.float32).T > 0
        first, second = (part.ravel() for part in np.indices((size, size)))
        weight, hit = np.outer(of_context, of_context).ravel(), meets.ravel()
        error = 0.0
    else:
        generator = np.random.default_rng(seed)
        first, second = generator.choice(size, p=of_context, size=(2, draws))
        hit = np.concatenate(
            [_meet(matrix, first[i : i + 500], second[i : i + 500]) for i in range(0, draws, 500)]
        )
        weight = np.full(draws, 1 / draws)
        error = float(hit.std() / np.sqrt(draws))
    share = float(weight[hit].sum())
    if labels is None:
        return share, error, float("nan"), float("nan")
    known = (labels[first] >= 0) & (labels[second] >= 0)
    same = known & (labels[first] == labels[second])
    parts = []
    for group in (same, known & ~same):
        whole = weight[group].sum()
        parts.append(float(weight[group & hit].sum() / whole) if whole > 0 else float("nan"))
    return share, error, parts[0], parts[1]


def _meet(matrix: Matrix, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether each pair of rows (m,) has a column in common."""
    if isinstance(matrix, np.ndarray):
        return ((matrix[first] > 0) & (matrix[second] > 0)).any(axis=1)
    shared = matrix[first].multiply(matrix[second])
    return np.asarray(shared.sum(axis=1)).ravel() > 0
