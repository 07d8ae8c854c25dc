"""What tells a state which token it is to predict, where rows are read in any order.

B sequences, T tokens, D hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lookaround.model.sizes import Sizes

SLOWEST = 1e-4  # of the waves, in radians a position


class OrderHead(nn.Module):
    """An embedding of the distance from a token to the next one of its row, added to its own.

    A linear map of waves of the distance (Vaswani et al. 2017) less those of the distance 1: rows
    in their own order are read as if it were not there. Ours.
    """

    def __init__(self, sizes: Sizes, features: int) -> None:
        super().__init__()
        self.waves = features // 2
        self.map = nn.Linear(2 * self.waves, sizes.trunk, bias=False)
        nn.init.normal_(self.map.weight, std=0.02)

    def forward(self, positions_bt: Tensor) -> Tensor:
        """(B, T, D); after the last token nothing comes, and it is told nothing."""
        distance = positions_bt[:, 1:] - positions_bt[:, :-1]
        distance = torch.cat([distance, torch.ones_like(distance[:, :1])], 1)
        share = torch.arange(self.waves, device=distance.device) / max(1, self.waves - 1)
        angles = (distance[..., None] * torch.pi) * SLOWEST**share
        beside = torch.pi * SLOWEST**share
        waves = torch.cat([angles.sin() - beside.sin(), angles.cos() - beside.cos()], -1)
        # at the distance 1 both terms are the same number, and their difference is exactly 0
        return self.map(waves.to(self.map.weight.dtype))

    def flops(self, offset: Tensor, positions: int, width: int) -> float:
        """FLOPs, forward and backward, at `positions` tokens."""
        return 6.0 * self.map.weight.numel() * positions
