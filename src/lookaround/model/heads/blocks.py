"""Look-ahead heads that are transformer layers.

B sequences, T tokens, D hidden width, N scored pairs, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookaround.model.heads.lookahead import LookAhead
from lookaround.model.masks import Masks, maskless
from lookaround.model.sizes import Sizes
from lookaround.objectives.contract import Attention, Shown
from lookaround.support.errors import UserError


class BlockHeads(LookAhead):
    """Heads that are transformer layers: parallel, causal, sequential and shared ones.

    parallel: each depth is a layer beside the trunk's last (Gloeckle et al. 2024).
    causal: each depth is on top of the one before (their ablation).
    sequential: the same, and the layer also sees the token before its target, through a map of
        (state, embedding) to D (DeepSeek-V3).
    shared: sequential with one layer for all depths (FastMTP).

    Each layer has a final norm of its own. A conditioned head at depth d attends to its own state
    and to those at least d - 1 before it, whose tokens are known when it drafts: training and
    drafting see the same.
    """

    pointwise = False

    def __init__(
        self,
        sizes: Sizes,
        horizon: int,
        *,
        chained: bool = False,
        conditioned: bool = False,
        shared: bool = False,
    ) -> None:
        super().__init__()
        from transformers import LlamaModel

        self.depths = horizon - 1
        self.chained, self.conditioned = chained, conditioned
        self.reads = "last" if chained else "before"
        self.width = width = sizes.width
        if not chained and sizes.trunk != width:
            raise UserError(
                f"heads 'parallel': read the layer before the last, whose states are {sizes.trunk} "
                f"wide, and this model's unembedding gets {width}; take heads='causal'"
            )
        self.config = one = narrow_config(sizes, 1)
        count = 1 if shared else self.depths
        self.blocks = nn.ModuleList(LlamaModel(one) for _ in range(count))
        for block in self.blocks:
            del block.embed_tokens  # it is given states
        self.told = nn.ModuleList(
            nn.Linear(2 * width, width, bias=False) for _ in range(count if conditioned else 0)
        )

    def forward(
        self, depth: int, carried: Tensor, embedded: Tensor | None = None, **attend: Any
    ) -> tuple[Tensor, Tensor]:
        def block(given: Tensor) -> Any:
            number = min(depth, len(self.blocks)) - 1
            with maskless(self.config):
                return self.blocks[number](inputs_embeds=given, use_cache=False, **attend)

        out = self.through(depth, carried, embedded, block)
        return out, out

    def through(
        self, depth: int, carried: Tensor, embedded: Tensor | None, block: Callable[[Tensor], Any]
    ) -> Tensor:
        """The output of one depth; block(inputs (B, T, D)) runs its layer and may use a cache."""
        if self.conditioned:
            assert embedded is not None
            both = [F.rms_norm(x, x.shape[-1:]) for x in (carried, embedded)]
            carried = self.told[min(depth, len(self.told)) - 1](torch.cat(both, -1))
        return block(carried).last_hidden_state

    def attention(self, depth: int, shown: Shown, dtype: torch.dtype) -> dict[str, Any]:
        if self.conditioned and depth > 2:
            position = torch.arange(shown.input_ids.shape[1], device=shown.input_ids.device)
            distance = position[:, None] - position
            sees = (distance == 0) | (distance >= depth - 1)
            shown = replace(shown, attention=Attention("dense", allowed=sees[None]))
        return Masks().arguments(shown, self.config, "sdpa", dtype)

    def flops(self, offset: Tensor, positions: int, width: int) -> float:
        parameters = sum(p.numel() for p in self.parameters()) / len(self.blocks)
        depths = int(offset.max()) - 1 if len(offset) else 0
        return (6.0 * parameters + 12.0 * self.width * width) * positions * depths


def narrow_config(sizes: Sizes, layers: int) -> Any:
    """The configuration of a few Llama layers with the sizes of a model's own."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=1,
        hidden_size=sizes.width,
        num_hidden_layers=layers,
        num_attention_heads=sizes.attention_heads,
        num_key_value_heads=sizes.key_value_heads,
        intermediate_size=sizes.intermediate,
        initializer_range=(2 / (5 * sizes.width)) ** 0.5,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
