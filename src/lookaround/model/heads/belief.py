"""The second encoder of a belief-state transformer, an auxiliary term.

B sequences, T tokens, D hidden width, N scored pairs, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookaround.model.heads.blocks import narrow_config
from lookaround.model.heads.contract import Auxiliary, Output
from lookaround.model.losses import at_least_single
from lookaround.model.masks import maskless
from lookaround.model.sizes import Sizes
from lookaround.objectives.contract import View


class BeliefHead(Auxiliary):
    """The second encoder of a belief-state transformer (Hu et al. 2024, arXiv 2410.23506).

    It reads the target part from its end. From the states of a prefix and of a later suffix, the
    empty one included, an MLP gives the token after the prefix and the one before the suffix. Rows
    are one document each, without padding.

    layers: of the second encoder.
    """

    def __init__(self, sizes: Sizes, layers: int) -> None:
        super().__init__()
        from transformers import LlamaModel

        width = sizes.width
        self.vocabulary = sizes.vocabulary
        self.encoder = LlamaModel(narrow_config(sizes, layers))
        del self.encoder.embed_tokens  # it is given embeddings
        self.begin = nn.Parameter(torch.randn(width) * (2 / (5 * width)) ** 0.5)
        self.join = nn.Sequential(
            nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, 2 * width)
        )

    def chosen(self, view: View) -> tuple[Any, ...]:
        """(where the target part begins, in the row where it begins first; of each pair of a prefix
        and a suffix (P,) its row, the token after the prefix and the one before the suffix, counted
        from there; its share of the row's targets (P,) float); nothing of a view without targets.

        Raises ValueError for rows of several documents or with padding.
        """
        if view.shown.documents is not None:
            raise ValueError(
                "a belief-state model reads rows of one document each, without padding"
            )
        if not len(view.pairs.state):
            return ()
        target_bt = view.targets
        first = int(target_bt.any(0).nonzero()[0])
        target_ba = target_bt[:, first:]
        # the prefix ends before token i, the suffix begins after token j
        i, j = torch.triu_indices(target_ba.shape[1], target_ba.shape[1], device=target_ba.device)
        pair = target_ba[:, i] & target_ba[:, j]  # (B, pairs)
        row, number = pair.nonzero().T
        share = target_ba.sum(1) / pair.sum(1).clamp(min=1)  # (B,): targets over pairs of the row
        return first, row, i[number], j[number], share[row]

    def summed(
        self,
        hidden_btd: Tensor,
        view: View,
        embedding: Tensor,
        output: Output,
        chosen: tuple[Any, ...],
    ) -> Tensor:
        """Sum over states of the mean of both losses over a row's pairs of prefix and suffix."""
        if not chosen:
            return hidden_btd.new_zeros(())
        first, row, i, j, share = chosen
        answer_ba = view.shown.input_ids[:, first:]
        rows, count = answer_ba.shape
        begin = self.begin.expand(rows, 1, -1)
        backward = torch.cat([begin, F.embedding(answer_ba.flip(1), embedding)], 1)[:, :count]
        with maskless(self.encoder.config):
            states = self.encoder(inputs_embeds=backward, use_cache=False).last_hidden_state
        suffix_bad = states.flip(1)
        # suffix_bad[:, j] has read the tokens after answer token j
        joined = torch.cat([hidden_btd[row, first + i - 1], suffix_bad[row, j]], -1)
        after, before = self.join(joined).chunk(2, -1)
        states = torch.cat([after, before])
        targets = torch.cat([answer_ba[row, i], answer_ba[row, j]])
        loss = F.cross_entropy(at_least_single(output.logits(states)), targets, reduction="none")
        return (loss * share.repeat(2)).sum()

    def flops(self, offset: Tensor, positions: int, width: int) -> float:
        targets = len(offset)
        encoder = sum(p.numel() for p in self.encoder.parameters())
        pairs = targets * (targets * width / max(positions, 1) + 1) / 2
        joined = sum(p.numel() for p in self.join.parameters()) + 2 * self.vocabulary * len(
            self.begin
        )
        return 6.0 * (encoder * targets + joined * pairs)
