"""Mean-pooled states of texts, or of whatever a codec encodes, for probes.

n inputs, L layers, B texts of a pass, T tokens, D hidden width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lookaround.data.codec import Codec
from lookaround.model.backbone import Backbone
from lookaround.model.foreign import reading
from lookaround.model.masks import attention_of
from lookaround.objectives.contract import PADDING, Shown

TOKENS_PER_PASS = 8192


def candidate_layers(layers: int) -> list[int]:
    """The layers a probe may choose from, 0 = embedding: all of a small model, else four."""
    return (
        sorted({round(layers * share) for share in (0.0, 0.5, 0.75, 1.0)})
        if layers > 3
        else list(range(layers + 1))
    )


def pooled_states(
    backbone: Backbone, codec: Codec, inputs: Sequence[Any], attention: str, context: int
) -> tuple[np.ndarray, int]:
    """(mean-pooled states (L, n, D) float32 of the candidate layers, number of inputs cut).

    attention: the kind of the mode; a prefix model sees the whole text both ways. BOS is seen but
        not pooled.
    """
    full = [[codec.bos, *ids] for ids in codec.encode(inputs)]
    cut = sum(len(ids) > context for ids in full)
    ids = [item[:context] for item in full]
    layers = candidate_layers(backbone.sizes.layers)
    # the last states of OPT-350M are narrower than those between its layers; the rest stays 0
    pooled = np.zeros((len(layers), len(ids), backbone.sizes.trunk), dtype=np.float32)
    for batch, real, states in state_batches(backbone, codec, ids, attention):
        real[:, 0] = real.sum(1) == 1
        share_bt = (real / real.sum(1, keepdim=True)).to(backbone.device)
        for number, layer in enumerate(layers):
            mean_bd = torch.einsum("bt,btd->bd", share_bt.to(states[layer].dtype), states[layer])
            pooled[number][batch, : mean_bd.shape[1]] = mean_bd.float().cpu().numpy()
    return pooled, cut


def state_batches(
    backbone: Backbone, codec: Codec, ids: Sequence[Sequence[int]], attention: str
) -> Iterator[tuple[np.ndarray, Tensor, Sequence[Tensor]]]:
    """Reads texts of about one length together, shortest first.

    ids: of each text, its BOS included.

    Yields (indices (B,) of texts, (B, T) bool where they have tokens, states (B, T, D) of every
    layer).
    """
    order = np.argsort([len(item) for item in ids], kind="stable")
    begin = 0
    while begin < len(order):
        end = begin + 1
        while end < len(order) and (end + 1 - begin) * len(ids[order[end]]) <= TOKENS_PER_PASS:
            end += 1
        batch = order[begin:end]
        lengths = torch.tensor([len(ids[k]) for k in batch])
        width = int(lengths.max())
        tokens = torch.full((len(batch), width), codec.bos)
        for b, k in enumerate(batch):
            tokens[b, : lengths[b]] = torch.tensor(ids[k])
        real = torch.arange(width) < lengths[:, None]
        documents = None
        if attention == "bidirectional" and not bool(real.all()):
            documents = torch.where(real, 0, PADDING)
        shown = Shown(tokens, attention_of(attention, lengths), documents)
        with reading(backbone):
            states = backbone.states(shown.to(backbone.device), all_layers=True)
        yield batch, real, states
        begin = end
