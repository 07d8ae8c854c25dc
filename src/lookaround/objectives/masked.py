"""Objectives that hide tokens and predict them from both sides: `mlm`, `vmlm`, `mdlm`.

With shift=0 the state at a masked position predicts its own token (BERT); with shift=1 the state
before it does, so that one head serves autoregressive and masked prediction (masked next-token
prediction).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lookaround.objectives.contract import BIDIRECTIONAL, Batch, Mode, Shown, View, scored_pairs
from lookaround.objectives.laws import HiddenSuffix, Law, Scattered
from lookaround.objectives.objective import Objective
from lookaround.support.randomness import keyed_uniform

# quantile functions of the unit interval; small rates are the rarer under "uniform" only
LAWS: dict[str, Callable] = {
    "uniform": lambda u: u,
    "quadratic": lambda u: u * u,
    "cosine": lambda u: (
        1 - np.cos(np.pi / 2 * u) if isinstance(u, np.ndarray) else 1 - torch.cos(torch.pi / 2 * u)
    ),
}
# mdlm draws its rate from [MIN_RATE, 1], so that the weight 1/rate stays finite (Sahoo et al. 2024)
MIN_RATE = 1e-3


def _bidirectional_documents(batch: Batch) -> Tensor | None:
    """Document numbers unless each row is one whole window: then padding must be masked."""
    return (
        batch.documents
        if batch.documents is not None and bool((batch.documents != 0).any())
        else None
    )


def rate_nodes(quantile: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes of the rate law: rates (64,) and their probabilities (64,)."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    return quantile((nodes + 1) / 2), weights / 2


class Masked(Objective):
    """Objectives that hide tokens; the state `shift` before a hidden token predicts it."""

    shift: int

    def modes(self) -> tuple[Mode, ...]:
        return (Mode("bidirectional", self.shift),)


@dataclass(frozen=True)
class MLM(Masked):
    """Masked language modelling (BERT): select tokens at `rate`, replace=(mask, random, keep)."""

    rate: float = 0.15
    replace: tuple[float, float, float] = (0.8, 0.1, 0.1)
    shift: int = 0

    name = "mlm"

    def __post_init__(self) -> None:
        self._require_share("rate")
        shares = self.replace
        three = isinstance(shares, tuple) and len(shares) == 3
        numbers = three and all(isinstance(s, int | float) and s >= 0 for s in shares)
        self._require(
            numbers and abs(sum(shares) - 1) < 1e-9,
            "replace",
            "three shares (mask, random, keep) that add up to 1",
        )
        self._require_int("shift", 0, 1)

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        width = batch.tokens.shape[1]
        selected = keyed_uniform(seed, epoch, batch.row, "select", width) < self.rate
        selected &= batch.targets(self.shift)
        how = keyed_uniform(seed, epoch, batch.row, "replace", width)
        pool = batch.vocabulary.ordinary()
        drawn = pool[(keyed_uniform(seed, epoch, batch.row, "token", width) * len(pool)).long()]
        mask, random, _ = self.replace
        replaced = torch.where(
            how < mask, batch.vocabulary.mask, torch.where(how < mask + random, drawn, batch.tokens)
        )
        input_ids = torch.where(selected, replaced, batch.tokens)
        documents = _bidirectional_documents(batch)
        shown = Shown(input_ids, BIDIRECTIONAL, documents)
        return (scored_pairs(batch, selected, self.shift, shown),)

    def laws(self) -> tuple[Law, ...]:
        return (Scattered((self.rate,), (1.0,)),)


@dataclass(frozen=True)
class VMLM(Masked):
    """Variable-length masked modelling (after arXiv 2407.00935; the form is ours).

    A share 1 - suffix of the rows hides tokens at random, at a rate drawn per row from [low, high]
    by `law`. The rest hides everything from a uniformly drawn position to the row's end - also past
    the document's end, so that its length never leaks - which is what left-to-right generation asks
    for. There, near=0 scores all hidden tokens alike and near > 0 gives the k-th one the weight
    k**-near.
    """

    low: float = 0.05
    high: float = 1.0
    law: str = "uniform"
    suffix: float = 0.25
    near: float = 0.0
    shift: int = 1

    name = "vmlm"

    def __post_init__(self) -> None:
        self._require_share("low")
        self._require_share("high")
        self._require_order("low", "high")
        self._require_one_of("law", LAWS)
        self._require_share("suffix", zero=True)
        self._require(
            isinstance(self.near, int | float) and self.near >= 0, "near", "a number from 0 up"
        )
        self._require_int("shift", 0, 1)

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        width = batch.tokens.shape[1]
        maskable = batch.targets(self.shift)
        rate = self.low + (self.high - self.low) * LAWS[self.law](
            keyed_uniform(seed, epoch, batch.row, "rate", 1)
        )
        scattered = keyed_uniform(seed, epoch, batch.row, "select", width) < rate
        is_suffix = keyed_uniform(seed, epoch, batch.row, "suffix", 1) < self.suffix
        start, length = batch.spans()
        cut_at = keyed_uniform(seed, epoch, batch.row, "cut", 1)
        cut = start + 1 + (cut_at * (length - 1)).long()
        position = torch.arange(width).expand_as(cut)
        selected = torch.where(is_suffix, position >= cut, scattered) & maskable
        hidden, documents = selected, _bidirectional_documents(batch)
        if documents is not None and not batch.packed:
            past_end = is_suffix & (documents < 0)
            hidden = selected | past_end
            documents = torch.where(past_end, 0, documents)
        input_ids = torch.where(hidden, batch.vocabulary.mask, batch.tokens)
        weight = None
        if self.near:
            rank = (position - cut + 1).clamp(min=1).double()
            weight = torch.where(is_suffix, rank**-self.near, torch.ones_like(rank))
        normaliser = None if weight is None else float(weight[selected].sum())
        shown = Shown(input_ids, BIDIRECTIONAL, documents)
        return (scored_pairs(batch, selected, self.shift, shown, weight, normaliser),)

    def laws(self) -> tuple[Law, ...]:
        laws: tuple[Law, ...] = ()
        if self.suffix < 1:
            rates, shares = rate_nodes(
                lambda u: self.low + (self.high - self.low) * LAWS[self.law](u)
            )
            laws += (Scattered(tuple(rates), tuple((1 - self.suffix) * shares)),)
        if self.suffix > 0:
            laws += (HiddenSuffix(self.near, self.suffix),)
        return laws


@dataclass(frozen=True)
class MDLM(Masked):
    """Masked diffusion (Sahoo et al. 2024; Shi et al. 2024): a rate from U(0, 1) per row.

    weight="elbo" gives each masked token the weight 1/rate and divides by the number of tokens, an
    upper bound of the negative log-likelihood; weight="flat" scores masked tokens alike and divides
    by their number.
    """

    weight: str = "flat"
    shift: int = 1

    name = "mdlm"

    def __post_init__(self) -> None:
        self._require_one_of("weight", ("flat", "elbo"))
        self._require_int("shift", 0, 1)

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        width = batch.tokens.shape[1]
        maskable = batch.targets(self.shift)
        rate = MIN_RATE + (1 - MIN_RATE) * keyed_uniform(seed, epoch, batch.row, "rate", 1)
        selected = (keyed_uniform(seed, epoch, batch.row, "select", width) < rate) & maskable
        input_ids = torch.where(selected, batch.vocabulary.mask, batch.tokens)
        shown = Shown(input_ids, BIDIRECTIONAL, _bidirectional_documents(batch))
        if self.weight == "flat":
            return (scored_pairs(batch, selected, self.shift, shown),)
        weight = (1 / rate).expand_as(selected)
        return (scored_pairs(batch, selected, self.shift, shown, weight, float(maskable.sum())),)

    def laws(self) -> tuple[Law, ...]:
        rates, shares = rate_nodes(lambda u: MIN_RATE + (1 - MIN_RATE) * u)
        return (
            Scattered(tuple(rates), tuple(shares / rates if self.weight == "elbo" else shares)),
        )
