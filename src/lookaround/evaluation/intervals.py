"""Intervals: over seeds where there are several, else over test items, labelled as such."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from lookaround.evaluation.bits_per_byte import ScoredTokens
from lookaround.evaluation.probe import score

__all__ = ["Interval", "bootstrap_interval", "resampled_bits_per_byte", "resampled_scores", "seed_interval"]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; n seeds, or n=1 with an interval over test items."""

    mean: float
    low: float
    high: float
    n: int
    method: str


def seed_interval(values: Sequence[float]) -> Interval:
    """Student's t interval over seeds; with one value, no interval (low and high are NaN)."""
    array = np.asarray(values, dtype=float)
    mean, n = float(array.mean()), len(array)
    if n < 2:
        return Interval(mean, float("nan"), float("nan"), n, "one seed, no interval")
    half = float(stats.t.ppf(0.975, n - 1) * array.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n, f"95% t-interval over {n} seeds")


def bootstrap_interval(value: float, resampled: np.ndarray) -> Interval:
    """Percentile interval of a resampled statistic (R,)."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(value, float(low), float(high), 1, "95% bootstrap over test items, one seed")


def resampled_bits_per_byte(
    bits: np.ndarray, scored: ScoredTokens, resamples: int, seed: int = 0
) -> np.ndarray:
    """Bits per byte (R,) when documents are drawn with replacement; the same seed draws the same documents."""
    _, document = np.unique(scored.document, return_inverse=True)
    count = int(document.max()) + 1
    bits_d = np.bincount(document, bits * scored.weight, minlength=count)
    size_d = np.bincount(document, scored.size * scored.weight, minlength=count)
    draws = np.random.default_rng(seed).integers(count, size=(resamples, count))
    return bits_d[draws].sum(1) / size_d[draws].sum(1)


def resampled_scores(
    metric: str, true: np.ndarray, predicted: np.ndarray, resamples: int, seed: int = 0
) -> np.ndarray:
    """Scores (R,) when test examples are drawn with replacement; the same seed draws the same examples."""
    generator = np.random.default_rng(seed)
    pick: Callable[[], np.ndarray] = lambda: generator.integers(len(true), size=len(true))  # noqa: E731
    if metric == "accuracy":
        right = (true == predicted).astype(float)
        return np.array([right[pick()].mean() for _ in range(resamples)])
    return np.array(
        [score(metric, true[chosen], predicted[chosen]) for chosen in (pick() for _ in range(resamples))]
    )
