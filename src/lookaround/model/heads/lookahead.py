"""Heads for the tokens beyond the next one that look at one position at a time.

The token k ahead of a state has offset k; the LM head does offset 1, a look-ahead head does offset
k at depth k - 1. States of all depths go through the model's own unembedding unless a head brings
one of its own.

B sequences, T tokens, D hidden width, N scored pairs, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookaround.model.heads.depthwise import DepthwiseLoss, Part, chained_depths, separate_depths
from lookaround.model.sizes import Sizes
from lookaround.objectives.contract import Shown


class LookAhead(nn.Module):
    """Heads for the tokens 2 to n ahead, one depth after the other.

    forward(depth, carried, embedded) gives (input of the next depth, states for the unembedding).

    chained: a depth needs the output of the one before.
    conditioned: `embedded` is the embedding of the token `depth` ahead, the one before the target.
    pointwise: the head looks at one position at a time and takes any leading dimensions; others
        take (B, T, D).
    reads: "last" or "before", the trunk states that the first depth reads.
    """

    depths: int
    chained = False
    conditioned = False
    pointwise = True
    reads = "last"

    def forward(
        self, depth: int, carried: Tensor, embedded: Tensor | None = None, **attend: Any
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def unembedding(self, depth: int) -> Tensor | None:
        """The head's own unembedding (V, D) at a depth, or None for the model's."""
        return None

    def begin_with(self, unembedding: Tensor) -> None:
        """Copies the model's unembedding into the head's own, where it has any."""

    def attention(self, depth: int, shown: Shown, dtype: torch.dtype) -> dict[str, Any]:
        """Arguments of `forward` that say who attends to whom at a depth in training."""
        return {}

    def flops(self, offset: Tensor, positions: int, width: int) -> float:
        """FLOPs, forward and backward, of pairs at offsets (N,) among `positions` tokens."""
        return 6.0 * sum(p.numel() for p in self.parameters()) / self.depths * len(offset)

    def depthwise(self, loss: DepthwiseLoss) -> None:
        """Runs the depths that are scored forward and backward (heads/depthwise.py)."""
        (chained_depths if self.chained else separate_depths)(loss)


class LinearHeads(LookAhead):
    """One linear map per depth, initialised to the identity (Gloeckle et al. 2024)."""

    def __init__(self, sizes: Sizes, horizon: int) -> None:
        super().__init__()
        self.depths = horizon - 1
        width = sizes.width
        self.maps = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(self.depths))
        for each in self.maps:
            nn.init.eye_(each.weight)  # type: ignore[arg-type]

    def forward(
        self, depth: int, carried: Tensor, embedded: Tensor | None = None, **attend: Any
    ) -> tuple[Tensor, Tensor]:
        return carried, self.maps[depth - 1](carried)


class ResidualBlock(nn.Module):
    """x + SiLU(Wx), beginning as the identity (Cai et al. 2024, Medusa)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, state: Tensor) -> Tensor:
        return state + F.silu(self.linear(state))


class MedusaHeads(LookAhead):
    """Medusa's heads (Cai et al. 2024, arXiv 2401.10774): a residual block per depth.

    own: each depth has an unembedding of its own (the paper's layout; V x D parameters each), else
        the model's is shared.
    """

    def __init__(self, sizes: Sizes, horizon: int, *, layers: int = 1, own: bool = False) -> None:
        super().__init__()
        self.depths = horizon - 1
        width = sizes.width
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(layers)))
            for _ in range(self.depths)
        )
        self.unembeddings = nn.ParameterList(
            nn.Parameter(torch.zeros(sizes.vocabulary, width))
            for _ in range(self.depths if own else 0)
        )

    def forward(
        self, depth: int, carried: Tensor, embedded: Tensor | None = None, **attend: Any
    ) -> tuple[Tensor, Tensor]:
        return carried, self.blocks[depth - 1](carried)

    def unembedding(self, depth: int) -> Tensor | None:
        return self.unembeddings[depth - 1] if len(self.unembeddings) else None

    def begin_with(self, unembedding: Tensor) -> None:
        for own in self.unembeddings:
            own.data.copy_(unembedding)


class HydraHeads(LookAhead):
    """Hydra's heads (Ankner et al. 2024): an MLP of the state and the embeddings of tokens between.

    Depth d carries concat(state, e_1 .. e_d), (.., (d + 1) D), and gives state + W2 SiLU(W1
    carried): the last map begins at zero, so that a head begins as a copy of the LM head.
    """

    chained = True
    conditioned = True

    def __init__(self, sizes: Sizes, horizon: int, *, expansion: int = 2) -> None:
        super().__init__()
        self.depths = horizon - 1
        self.width = sizes.width
        inner = expansion * self.width
        self.up = nn.ModuleList(
            nn.Linear((d + 1) * self.width, inner, bias=False) for d in range(1, self.depths + 1)
        )
        self.down = nn.ModuleList(
            nn.Linear(inner, self.width, bias=False) for _ in range(self.depths)
        )
        for each in self.down:
            nn.init.zeros_(each.weight)  # type: ignore[arg-type]

    def forward(
        self, depth: int, carried: Tensor, embedded: Tensor | None = None, **attend: Any
    ) -> tuple[Tensor, Tensor]:
        assert embedded is not None
        normed = F.rms_norm(embedded, embedded.shape[-1:])
        carried = torch.cat([carried, normed], -1)
        state = carried[..., : self.width]
        return carried, state + self.down[depth - 1](F.silu(self.up[depth - 1](carried)))


class OffsetHead(LookAhead):
    """DAR's head: a residual MLP of the state and an embedding of the offset.

    One module for all depths; `depth` may be a tensor of them. It starts as the identity, as a copy
    of the LM head.
    """

    def __init__(self, sizes: Sizes, horizon: int) -> None:
        super().__init__()
        width = sizes.width
        self.depths = horizon - 1
        self.offset = nn.Embedding(horizon + 1, width)
        self.up = nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)
        nn.init.normal_(self.offset.weight, std=0.02)
        nn.init.normal_(self.up.weight, std=0.02)
        nn.init.zeros_(self.down.weight)

    def forward(
        self, depth: int | Tensor, carried: Tensor, embedded: Tensor | None = None, **attend: Any
    ) -> tuple[Tensor, Tensor]:
        offset = torch.as_tensor(depth, device=carried.device) + 1
        seen = F.rms_norm(carried, carried.shape[-1:]) + self.offset(offset)
        return carried, carried + self.down(F.silu(self.up(seen)))

    def depthwise(self, loss: DepthwiseLoss) -> None:
        """All depths at once: they share one module."""
        part = Part(*(torch.cat(columns) for columns in zip(*loss.parts.values(), strict=True)))
        depths = torch.cat([torch.full_like(p.state, depth) for depth, p in loss.parts.items()])
        _, states = self(depths, loss.leaf.flatten(0, 1)[part.state])
        loss.close([loss.of(states, 1, part)], [None], loss.leaf)

    def flops(self, offset: Tensor, positions: int, width: int) -> float:
        return 6.0 * (self.up.weight.numel() + self.down.weight.numel()) * len(offset)
