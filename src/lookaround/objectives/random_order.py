"""Autoregression in a random order, annealed to the order of the row: `rar`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lookaround.objectives.autoregressive import AR
from lookaround.objectives.contract import Batch, HeadSpec, View
from lookaround.objectives.heads import OrderSpec
from lookaround.objectives.laws import Ahead, Law, Scattered
from lookaround.objectives.masked import rate_nodes
from lookaround.objectives.schedules import Linear, Schedule
from lookaround.support.randomness import keyed_uniform

ANNEALED = Linear(1.0, 0.0)
LEAST_HIDDEN = 1e-6  # rates of hidden tokens are drawn from here up, so that 1/rate stays finite


@dataclass(frozen=True)
class RAR(AR):
    """Randomised autoregression (Yu et al. 2024, arXiv 2411.00776; the embedding is ours).

    A share of the rows is read in a random order of its tokens, behind BOS: every token is
    predicted from a random set of others. Each keeps the position that it has in the row, and each
    state is told how far from it the next one stands, by an embedding that is zero for the token
    beside it. So a model that ends in the order of the row is an ordinary one.

    share: of the rows that are read in a random order; it goes to 0 while the budget is spent.
    """

    share: float | Schedule = ANNEALED

    name = "rar"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_share("share", zero=True)

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        if self.share == 0:
            return super().view(batch, seed, epoch)
        assert not isinstance(self.share, Schedule)
        drawn = keyed_uniform(seed, epoch, batch.row, "random order", 1) < self.share
        noise = keyed_uniform(seed, epoch, batch.row, "order", batch.tokens.shape[1])
        order = shuffled_order(batch, noise)
        order = torch.where(drawn, order, torch.arange(batch.tokens.shape[1]))
        shuffled = replace(batch, tokens=batch.tokens.gather(1, order))
        (view,) = super().view(shuffled, seed, epoch)
        return (replace(view, shown=replace(view.shown, positions=order)),)

    def head_specs(self) -> tuple[HeadSpec, ...]:
        return (OrderSpec(),)

    def laws(self) -> tuple[Law, ...]:
        """Of a random order each token sees each other one with a chance that is uniform in [0, 1].

        That is a mask rate drawn per row with weight 1/rate (mdlm's ELBO): any-order
        autoregression and masked diffusion have one and the same law (Hoogeboom et al. 2022).
        """
        assert not isinstance(self.share, Schedule)
        laws: tuple[Law, ...] = ()
        if self.share < 1:
            laws += (Ahead(1, 1 - self.share, self.rate),)
        if self.share > 0:
            rates, shares = rate_nodes(lambda u: LEAST_HIDDEN + (1 - LEAST_HIDDEN) * u)
            laws += (Scattered(tuple(rates), tuple(self.share * shares / rates), self.rate),)
        return laws


def shuffled_order(batch: Batch, noise: Tensor) -> Tensor:
    """(B, T): the position that the token at each place comes from when those that may be targets
    are shuffled, within each document.

    noise: (B, T) in [0, 1), by which they are ordered.
    """
    rows, width = batch.tokens.shape
    position = torch.arange(width).expand(rows, width)
    document = torch.zeros_like(batch.tokens) if batch.documents is None else batch.documents
    last = document.amax() + 2
    key = torch.where(batch.eligible, document, last).double()
    places = (key * width + position).argsort(dim=1, stable=True)
    ordered = torch.where(batch.eligible, key + noise, key * width + position)
    drawn = ordered.argsort(dim=1, stable=True)
    return torch.empty_like(places).scatter_(1, places, drawn)
