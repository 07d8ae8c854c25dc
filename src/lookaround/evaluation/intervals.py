"""Intervals: over seeds where there are several, else over test items, labelled as such."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

DRAWS_AT_ONCE = 1 << 22  # items drawn at a time, which bounds the memory


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
    """Percentile interval of a resampled statistic (R,); none where it holds NaN."""
    if np.isnan(resampled).any():
        return seed_interval([value])
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(value, float(low), float(high), 1, "95% bootstrap over test items, one seed")


def resample(
    statistic: Callable[..., np.ndarray],
    items: Sequence[Sequence[float] | np.ndarray],
    resamples: int,
    seed: int = 0,
) -> np.ndarray:
    """Values (resamples,) of a statistic when items are drawn with replacement; NaN without items.

    statistic: of columns (R, n), values (R,).
    items: the columns, each (n,). The same seed draws the same items, which makes differences
        paired.
    """
    if not items:
        return np.full(resamples, np.nan)
    columns = [np.asarray(column) for column in items]
    n, generator, values = len(columns[0]), np.random.default_rng(seed), []
    at_once = max(1, DRAWS_AT_ONCE // n)
    for begin in range(0, resamples, at_once):
        draws = generator.integers(n, size=(min(at_once, resamples - begin), n))
        values.append(statistic(*(column[draws] for column in columns)))
    return np.concatenate(values)
