"""Heads beyond the LM head: modules that turn the trunk's states into states for the shared unembedding.

B sequences, T tokens, D hidden width, N scored pairs of this head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookaround.objectives.view import HeadSpec, View

__all__ = ["HEADS", "OffsetHead", "build_head"]


class OffsetHead(nn.Module):
    """DAR's head: the state, told by an embedding how far ahead it is to look, through a small residual MLP.

    It starts as the identity, so that it begins as a copy of the LM head.
    """

    def __init__(self, width: int, horizon: int) -> None:
        super().__init__()
        self.offset = nn.Embedding(horizon + 1, width)
        self.up = nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)
        nn.init.normal_(self.offset.weight, std=0.02)
        nn.init.normal_(self.up.weight, std=0.02)
        nn.init.zeros_(self.down.weight)

    def forward(self, hidden_btd: Tensor, view: View, chosen: Tensor) -> Tensor:
        """States (N, D) for the unembedding; chosen: (N,) indices of this head's pairs in the view."""
        state = hidden_btd.flatten(0, 1)[view.state[chosen]]
        seen = F.rms_norm(state, state.shape[-1:]) + self.offset(view.offset[chosen])
        return state + self.down(F.silu(self.up(seen)))

    def flops_per_pair(self) -> int:
        """FLOPs of one pair, forward and backward."""
        return 6 * (self.up.weight.numel() + self.down.weight.numel())


HEADS: dict[str, type[OffsetHead]] = {"offset": OffsetHead}


def build_head(spec: HeadSpec, width: int) -> OffsetHead:
    """The module of a head spec for a trunk of the given hidden width."""
    return HEADS[spec.kind](width, spec.horizon)


def head_states(heads: nn.ModuleList, hidden_btd: Tensor, view: View) -> tuple[Tensor, Tensor]:
    """(states (N, D), order (N,)): the states of all heads for the unembedding, and the pairs of the view they belong to."""
    flat_td = hidden_btd.flatten(0, 1)
    if not len(heads) or not bool((view.head > 0).any()):
        return flat_td[view.state], torch.arange(len(view.state), device=view.state.device)
    states, order = [], []
    for number in view.head.unique().tolist():
        chosen = (view.head == number).nonzero().flatten()
        states.append(
            flat_td[view.state[chosen]] if number == 0 else heads[number - 1](hidden_btd, view, chosen)
        )
        order.append(chosen)
    return torch.cat(states), torch.cat(order)
