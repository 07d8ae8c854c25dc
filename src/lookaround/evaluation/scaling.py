"""Bits per byte at a larger budget: a power law through the rungs of a ladder, with its doubt.

S seeds, R rungs. The law is L(C) = E + A C^-a in FLOPs C (Hoffmann et al. 2022, arXiv 2203.15556,
for one model size). All (E, a) on a grid are kept, weighted by how well they fit, so that few rungs
give a wide interval and not a wrong one. Ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

LEAST_RUNGS, LEAST_SEEDS = 4, 2
TIMES = (2.0, 4.0, 8.0)  # of the top rung's FLOPs: beyond it nothing is foretold
# of the bits: how far rungs may lie from a law beside the noise of seeds. Chosen before any ladder
# was seen (results/extrapolation.md).
MODEL_ERROR = 0.004
SURPRISE = 0.01  # probability below which the rungs are on no such law
# -d ln L / d ln C above which a fall that does not slow down is that of early training, which looks
# like a law and ends soon; of language models it is 0.05 (Kaplan et al. 2020, arXiv 2001.08361)
STEEP = 0.12
# a model with so much of the unigram model's bits or more uses no context: its plateau
PLATEAU = 0.98
_EXPONENTS = np.geomspace(0.01, 1.5, 160)
_SHARES = np.linspace(0.0, 0.98, 99)  # of the lowest rung that cannot be had for any budget


@dataclass(frozen=True)
class Law:
    """Laws that fit the rungs, with their weights.

    flops, bits: (R,) of the rungs that were fitted, the lowest first.
    floor, scale, exponent, weight: (K,) of E + scale (C / top)^-exponent; weights sum to 1.
    noise: of the mean of a rung, as a share of its bits.
    """

    flops: np.ndarray
    bits: np.ndarray
    floor: np.ndarray
    scale: np.ndarray
    exponent: np.ndarray
    weight: np.ndarray
    noise: float

    def at(self, flops: float) -> tuple[float, float, float]:
        """(mean, lower and upper end of the 95 % interval) of the bits at a budget.

        Of the mean over as many seeds as the rungs have; it does not know of a text that runs out.
        """
        values = self.floor + self.scale * (flops / self.flops[-1]) ** -self.exponent
        mean = float(self.weight @ values)
        # a mixture of normal laws: its quantiles by bisection
        sigma = self.noise * mean
        ends = []
        for share in (0.025, 0.975):
            low, high = float(values.min()) - 9 * sigma, float(values.max()) + 9 * sigma
            for _ in range(60):
                middle = (low + high) / 2
                below = float(self.weight @ stats.norm.cdf((middle - values) / sigma)) < share
                low, high = (middle, high) if below else (low, middle)
            ends.append(low)
        return mean, ends[0], ends[1]


def fit_law(flops: Sequence[float], bits: np.ndarray, unigram: float | None = None) -> Law | str:
    """The laws through a ladder, or in a sentence why it bears none.

    flops: (R,) of the rungs, rising.
    bits: (S, R), by seed.
    unigram: bits of the unigram model; rungs at its plateau take no part.

    The lowest rungs are left out as far as that is needed, down to LEAST_RUNGS.
    """
    bits = np.atleast_2d(np.asarray(bits, dtype=float))
    spent = np.asarray(flops, dtype=float)
    if not (np.isfinite(bits).all() and bits.min() > 0 and (np.diff(spent, prepend=0) > 0).all()):
        return "bits above 0 and rising FLOPs are not there at every rung"
    most = np.inf if unigram is None else PLATEAU * unigram
    begun = int(max(np.flatnonzero(bits.mean(0) >= most), default=-1)) + 1
    bits, spent = bits[:, begun:], spent[begun:]
    if len(bits) < LEAST_SEEDS:
        return f"one seed does not tell noise from trend; give --seeds {LEAST_SEEDS + 1}"
    if bits.shape[1] < LEAST_RUNGS:
        left = bits.shape[1]
        if begun:
            return (
                f"only {left} of {left + begun} rungs lie below the plateau of the unigram model, "
                f"and a law of three numbers takes {LEAST_RUNGS}; give more budget"
            )
        return f"a law of three numbers takes {LEAST_RUNGS} rungs, not {left} (compare.ladder)"
    found: Law | str = ""
    for first in range(bits.shape[1] - LEAST_RUNGS + 1):
        found = _fitted(spent[first:], bits[:, first:])
        if isinstance(found, Law):
            return found
    return found


def _fitted(flops: np.ndarray, bits: np.ndarray) -> Law | str:
    """The laws through all of some rungs."""
    means = bits.mean(0)
    seeds, rungs = bits.shape
    # what seeds share at all rungs, such as an easy start, moves the curve and bends nothing
    apart = bits - bits.mean(1, keepdims=True) - means + means.mean()
    variance = float((apart**2).sum() / ((seeds - 1) * (rungs - 1))) / seeds
    noise = float(np.sqrt(variance) / means.mean()) if variance > 0 else 0.0
    noise = float(np.hypot(noise, MODEL_ERROR))
    exponent, share = (part.ravel() for part in np.meshgrid(_EXPONENTS, _SHARES))
    floor = share * means.min()
    sigma = noise * means
    basis = (flops / flops[-1]) ** -exponent[:, None] / sigma  # (K, R)
    rest = (means - floor[:, None]) / sigma
    precision = (basis**2).sum(1)
    scale = np.maximum((basis * rest).sum(1) / precision, 0.0)
    misfit = ((rest - scale[:, None] * basis) ** 2).sum(1)
    falls = -np.diff(np.log(means)) / np.diff(np.log(flops))
    doubt = noise * np.hypot(*(np.sqrt(2) / np.log(flops[1:] / flops[:-1])[[0, -1]]))
    if falls[-1] > STEEP and falls[-1] > falls[0] - doubt:
        return (
            "bits do not fall more slowly from rung to rung yet, as they will: this is early in "
            "training; give more budget"
        )
    if stats.chi2.sf(misfit.min(), max(1, rungs - 3)) < SURPRISE:
        return "the rungs lie on no power law; give more seeds, or more budget"
    # the scale is integrated out; exponents are weighted alike on a logarithmic grid
    weight = np.exp(-0.5 * (misfit - misfit.min())) / np.sqrt(precision)
    kept = weight > 1e-6 * weight.max()
    weight = weight[kept] / weight[kept].sum()
    return Law(flops, means, floor[kept], scale[kept], exponent[kept], weight, noise)


def extrapolated(
    flops: Sequence[float], bits: np.ndarray, most: float, unigram: float | None = None
) -> dict[str, Any]:
    """What a ladder says of 2, 4 and 8 times its budget, as results.json holds it.

    flops, bits, unigram: as of `fit_law`.
    most: times the budget from which on the text is read too often for a law of new text.
    """
    law = fit_law(flops, bits, unigram)
    if isinstance(law, str):
        return {"budgets": [], "rungs": None, "reason": f"do not extrapolate: {law}"}
    budgets = []
    for times in TIMES:
        if times <= most:
            mean, low, high = law.at(times * flops[-1])
            amount = {"times": times, "flops": times * flops[-1]}
            budgets.append({**amount, "mean": mean, "low": low, "high": high})
    reason = None
    if most < TIMES[-1]:
        reason = (
            f"do not extrapolate beyond {most:.2g} times the budget: from there on the text is "
            "read again and again, and the law is of new text"
        )
    return {"budgets": budgets, "rungs": len(law.flops), "reason": reason}
