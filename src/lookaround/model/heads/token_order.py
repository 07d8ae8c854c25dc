"""Token-order prediction: an auxiliary ranking of the coming tokens.

B sequences, T tokens, D hidden width, N scored pairs, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lookaround.model.heads.contract import Auxiliary, Output
from lookaround.model.losses import at_least_single
from lookaround.model.sizes import Sizes
from lookaround.objectives.contract import View


class TokenOrderHead(Auxiliary):
    """Token-order prediction (arXiv 2508.19228): ranks tokens by how soon they come."""

    def __init__(self, sizes: Sizes, window: int | None) -> None:
        super().__init__()
        self.window = window
        self.rank = nn.Linear(sizes.width, sizes.vocabulary, bias=False)
        nn.init.normal_(self.rank.weight, std=(2 / (5 * sizes.width)) ** 0.5)

    def summed(
        self,
        hidden_btd: Tensor,
        view: View,
        embedding: Tensor,
        output: Output,
        chosen: tuple[Any, ...],
    ) -> Tensor:
        """The sum of the ListNet losses of the view's states, in nats."""
        shares, tokens = self.targets(view)
        states = hidden_btd.flatten(0, 1)[view.pairs.state]
        total = states.new_zeros(())
        size = max(1, (8 << 20) // self.rank.out_features)
        for begin in range(0, len(states), size):
            here = slice(begin, begin + size)
            total = total + checkpoint(
                self._loss, states[here], tokens[here], shares[here], use_reentrant=False
            )
        return total

    def _loss(self, states: Tensor, tokens: Tensor, shares: Tensor) -> Tensor:
        log_nv = at_least_single(self.rank(states)).log_softmax(-1)
        return -(log_nv.gather(1, tokens) * shares).sum()

    def targets(self, view: View) -> tuple[Tensor, Tensor]:
        """(shares (N, W), tokens (N, W)): the target ranking of each state as shares that sum to 1.

        A token's share is softmax(window - distance of its first coming) over all that come within
        the window.
        """
        ids, target = view.shown.input_ids, view.targets
        width = ids.shape[1]
        window = min(self.window or width - 1, width - 1)
        position = torch.arange(width, device=ids.device)
        # where each token was met before as a target, in its row and document: its first coming is
        # where that is at the state or before
        met = (
            (ids[:, :, None] == ids[:, None, :])
            & (position[:, None] > position)
            & target[:, None, :]
        )
        if view.shown.documents is not None:
            met &= view.shown.documents[:, :, None] == view.shown.documents[:, None, :]
        before = torch.where(met, position, -1).amax(-1)  # (B, T)
        row, state = view.pairs.state // width, view.pairs.state % width
        ahead = state[:, None] + torch.arange(1, window + 1, device=ids.device)
        inside = ahead < width
        at = ahead.clamp(max=width - 1)
        first = inside & target[row[:, None], at] & (before[row[:, None], at] <= state[:, None])
        if view.shown.documents is not None:
            first &= (
                view.shown.documents[row[:, None], at] == view.shown.documents[row, state][:, None]
            )
        score = -torch.arange(1.0, window + 1, device=ids.device).expand(first.shape)
        shares = score.masked_fill(~first, -torch.inf).softmax(-1)
        return shares, ids[row[:, None], at]

    def flops(self, offset: Tensor, positions: int, width: int) -> float:
        return 6.0 * self.rank.weight.numel() * len(offset)
