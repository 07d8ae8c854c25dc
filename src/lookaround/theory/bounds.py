"""What the spectrum says of a linear probe: exact identities, and a bound on its error.

With one label per context, u = D_c^1/2 Y (Y one-hot), and alpha the probability that the labels of
two contexts drawn through a shared target differ,

    alpha = sum_i (1 - sigma_i^2) ||U_i^T u||^2              over all singular values,
    error <= 2 sum_{i>k} ||U_i^T u||^2 <= 2 alpha / (1 - sigma_{k+1}^2)

where `error` is that of the D_c-weighted least-squares probe on U_k
(HaoChen et al. 2021, arXiv 2106.04156, for one kind of pairs; here for contexts and targets, the
proof in docs/theory.md).

R contexts, V' targets, k rank, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lookaround.theory.matrices import Matrix


def label_vectors(labels: np.ndarray, of_context: np.ndarray) -> np.ndarray:
    """u = D_c^1/2 Y (R, C) of one label (R,) in 0..C-1 per context."""
    return np.sqrt(of_context)[:, None] * np.eye(int(labels.max()) + 1)[labels]


def alpha(joint: Matrix, labels: np.ndarray) -> float:
    """P(labels of two contexts differ that are drawn through a shared target); labels -1 = none.

    A target is drawn, then two contexts independently given it. Contexts without a label are left
    out.
    """
    known = np.flatnonzero(labels >= 0)
    by_class = np.zeros((int(labels.max()) + 1, joint.shape[1]))
    for c in np.unique(labels[known]):
        by_class[c] = np.asarray(
            joint[np.flatnonzero(labels == c)].sum(axis=0, dtype=np.float64)
        ).ravel()
    of_target = by_class.sum(axis=0)
    seen = of_target > 0
    return float(1 - (by_class[:, seen] ** 2 / of_target[seen]).sum() / of_target.sum())


def alpha_by_chance(joint: Matrix, labels: np.ndarray) -> float:
    """P(labels of two independently drawn contexts differ): alpha without any connection."""
    of_context = np.asarray(joint.sum(axis=1, dtype=np.float64)).ravel()
    share = np.bincount(labels[labels >= 0], of_context[labels >= 0])
    return float(1 - ((share / share.sum()) ** 2).sum())


def alpha_from_spectrum(left: np.ndarray, values: np.ndarray, u: np.ndarray) -> float:
    """sum_i (1 - sigma_i^2) ||U_i^T u||^2 of a whole SVD, U (R, m) and sigma (m,)."""
    shares = np.square(left.T @ u).sum(axis=1)
    return float(((1 - values**2) * shares).sum() + max(0.0, (u**2).sum() - shares.sum()))


def probe_error(left: np.ndarray, of_context: np.ndarray, labels: np.ndarray) -> float:
    """The D_c-weighted error of the least-squares probe on D_c^-1/2 U_k, U_k (R, k)."""
    u = label_vectors(labels, of_context)
    # row c holds sqrt(d_c) times the fitted labels, which has the same largest entry
    scores = left @ (left.T @ u)
    return float(of_context[scores.argmax(axis=1) != labels].sum())


@dataclass(frozen=True)
class ProbeBound:
    """error <= 2 sum_{i>k} ||U_i^T u||^2 (bound) <= 2 alpha / (1 - sigma_{k+1}^2) (spectral)."""

    error: float
    bound: float
    alpha: float
    spectral_bound: float


def probe_bound(
    left: np.ndarray, values: np.ndarray, of_context: np.ndarray, labels: np.ndarray, rank: int
) -> ProbeBound:
    """Error and bounds of the probe at `rank`, from a whole SVD, U (R, m) and sigma (m,)."""
    u = label_vectors(labels, of_context)
    outside = float((u**2).sum() - np.square(left[:, :rank].T @ u).sum())
    connected = alpha_from_spectrum(left, values, u)
    next_value = float(values[rank]) if rank < len(values) else 0.0
    gap = 1 - next_value**2
    return ProbeBound(
        error=probe_error(left[:, :rank], of_context, labels),
        bound=2 * max(0.0, outside),
        alpha=connected,
        spectral_bound=2 * connected / gap if gap > 1e-12 else float("inf"),
    )
