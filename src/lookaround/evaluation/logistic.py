"""Multinomial logistic regression of many examples with many classes: preconditioned L-BFGS.

The solution is that of scikit-learn's `LogisticRegression`, in a third of the time, which the
choice of a layer needs. Ours.

n examples, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# largest entry of the gradient of the mean loss, in preconditioned coordinates
TOLERANCE = 1e-4
STEPS = 300


@dataclass(frozen=True)
class Logistic:
    """A fitted classifier.

    classes: (K,) those of the training part.
    mean, scale: (D,) of the features.
    weight: (D + 1, K) of standardised features, the intercept last.
    """

    classes: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    weight: Tensor

    def predict(self, features_nd: np.ndarray) -> np.ndarray:
        """The likeliest class of each example (n,)."""
        logits = _standardised(features_nd, self.mean, self.scale) @ self.weight
        return self.classes[logits.argmax(1).numpy()]


def fit_logistic(
    features_nd: np.ndarray, labels: np.ndarray, strength: float, tolerance: float = TOLERANCE
) -> Logistic:
    """Fits standardised features; the intercept is not penalised.

    features_nd: (n, D), read as float32.
    labels: (n,) int64.
    strength: C; smaller is stronger.
    """
    classes, index = np.unique(labels, return_inverse=True)
    mean = np.asarray(features_nd.mean(0, dtype=np.float64), dtype=np.float32)
    spread = np.asarray(features_nd.std(0, dtype=np.float64), dtype=np.float32)
    scale = np.where(spread > 1e-6 * np.abs(mean), spread, np.float32(1))
    x_nd = _standardised(features_nd, mean, scale)
    penalty = torch.full((x_nd.shape[1],), 1 / (strength * len(x_nd)))
    penalty[-1] = 0
    bound = x_nd.T @ x_nd / (4 * len(x_nd)) + torch.diag(penalty + 1e-6)
    change = torch.linalg.inv(torch.linalg.cholesky(bound.double())).T.float()
    weight = minimised(
        lambda weight: x_nd @ weight,
        lambda residual: x_nd.T @ residual,
        torch.from_numpy(index),
        len(classes),
        penalty,
        change,
        tolerance=tolerance,
    )
    return Logistic(classes, mean, scale, weight)


def minimised(
    forward: Callable[[Tensor], Tensor],
    backward: Callable[[Tensor], Tensor],
    target: Tensor,
    classes: int,
    penalty: Tensor,
    change: Tensor,
    *,
    tolerance: float = TOLERANCE,
    steps: int = STEPS,
) -> Tensor:
    """The weights (D, K) of least mean cross-entropy + sum(penalty * weight^2) / 2.

    forward: logits (n, K) of weights (D, K). backward: its transpose.
    target: (n,) int64, classes of the examples.
    penalty: (D,).
    change: weights are change @ v for (D, D), change * v for (D,); it converges the faster, the
        nearer the Hessian of v is to the identity. A bound of the Hessian is X'X / 2n for any
        number of classes (Boehning, "Multinomial logistic regression algorithm", 1992).
    """
    n, penalty = len(target), penalty[:, None]
    rows = torch.arange(n)
    v = torch.zeros(len(penalty), classes, requires_grad=True)
    diagonal = change.ndim == 1

    def changed(values: Tensor, by: Tensor) -> Tensor:
        return by[:, None] * values if diagonal else by @ values

    def loss() -> Tensor:
        with torch.no_grad():
            weight = changed(v, change)
            logits = forward(weight)
            normaliser = logits.logsumexp(1)
            entropy = (normaliser - logits[rows, target]).double().mean()
            residual = (logits - normaliser[:, None]).exp_()
            residual[rows, target] -= 1
            gradient = backward(residual) / n + penalty * weight
            v.grad = changed(gradient, change.T if change.ndim == 2 else change)
            return entropy + (penalty * weight**2).double().sum() / 2

    optimiser = torch.optim.LBFGS(
        [v],
        max_iter=steps,
        history_size=10,
        tolerance_grad=tolerance,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )
    optimiser.step(loss)
    return changed(v.detach(), change)


def _standardised(features_nd: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> Tensor:
    """Features with a column of ones, (n, D + 1) float32."""
    x_nd = torch.from_numpy(((features_nd - mean) / scale).astype(np.float32))
    return torch.cat([x_nd, torch.ones(len(x_nd), 1)], 1)
