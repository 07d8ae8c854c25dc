"""Mean-pooled states of texts, or of whatever a codec encodes, for probes.

n inputs, L layers, D hidden width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lookaround.data.codec import Codec
from lookaround.model.backbone import Backbone
from lookaround.model.foreign import reading
from lookaround.model.masks import attention_of
from lookaround.objectives.contract import PADDING, Shown

# tokens that a model reads at once: what is computed of more leaves a CPU's cache (2,048 take two
# thirds of the time of 8,192), and fewer leave a GPU idle
CPU_TOKENS_PER_PASS, TOKENS_PER_PASS = 2048, 8192


def candidate_layers(layers: int) -> list[int]:
    """The layers a probe may choose from, 0 = embedding: all of a small model, else four."""
    return (
        sorted({round(layers * share) for share in (0.0, 0.5, 0.75, 1.0)})
        if layers > 3
        else list(range(layers + 1))
    )


def encoded(codec: Codec, inputs: Sequence[Any], context: int) -> tuple[list[Tensor], int]:
    """(ids (T,) of each input behind BOS, at most `context` of them; number of inputs cut)."""
    full = [[codec.bos, *ids] for ids in codec.encode(inputs)]
    cut = sum(len(ids) > context for ids in full)
    return [torch.tensor(ids[:context]) for ids in full], cut


def padded(
    ids: Sequence[Sequence[int] | Tensor], codec: Codec, attention: str
) -> tuple[Shown, Tensor]:
    """(some inputs as a model sees them, (B, T) bool where they have tokens).

    ids: of each input, its BOS included.
    attention: the kind of the mode; a prefix model sees the whole input both ways.
    """
    lengths = torch.tensor([len(each) for each in ids])
    tokens = pad_sequence(
        [torch.as_tensor(each) for each in ids], batch_first=True, padding_value=codec.bos
    )
    real = torch.arange(tokens.shape[1]) < lengths[:, None]
    documents = None
    if attention == "bidirectional" and not bool(real.all()):
        documents = torch.where(real, 0, PADDING)
    return Shown(tokens, attention_of(attention, lengths), documents), real


def tokens_per_pass(device: torch.device, elsewhere: int = TOKENS_PER_PASS) -> int:
    """Tokens that a model on this device reads at once.

    elsewhere: than on a CPU.
    """
    return CPU_TOKENS_PER_PASS if device.type == "cpu" else elsewhere


def passes(ids: Sequence[Sequence[int] | Tensor], device: torch.device) -> Iterator[np.ndarray]:
    """Indices (B,) of inputs of about one length, as many as a model reads at once."""
    most = tokens_per_pass(device)
    order = np.argsort([len(item) for item in ids], kind="stable")
    begin = 0
    while begin < len(order):
        end = begin + 1
        while end < len(order) and (end + 1 - begin) * len(ids[order[end]]) <= most:
            end += 1
        yield order[begin:end]
        begin = end


def state_batches(
    backbone: Backbone, codec: Codec, ids: Sequence[Sequence[int] | Tensor], attention: str
) -> Iterator[tuple[np.ndarray, Tensor, Sequence[Tensor]]]:
    """Reads texts of about one length together, shortest first.

    ids: of each text, its BOS included.

    Yields (indices (B,) of texts, (B, T) bool where they have tokens, states (B, T, D) of every
    layer).
    """
    for batch in passes(ids, backbone.device):
        shown, real = padded([ids[k] for k in batch], codec, attention)
        with reading(backbone):
            states = backbone.states(shown.to(backbone.device), all_layers=True)
        yield batch, real, states


def pooled_states(
    backbone: Backbone, codec: Codec, ids: Sequence[Sequence[int] | Tensor], attention: str
) -> np.ndarray:
    """Mean-pooled states (L, n, D) float32 of the candidate layers.

    ids: of each input, its BOS included.
    """
    layers = candidate_layers(backbone.sizes.layers)
    # the last states of OPT-350M are narrower than those between its layers; the rest stays 0
    pooled = np.zeros((len(layers), len(ids), backbone.sizes.trunk), dtype=np.float32)
    for batch, real, states in state_batches(backbone, codec, ids, attention):
        for number, layer in enumerate(layers):
            mean_bd = mean_state(states[layer], real)
            pooled[number][batch, : mean_bd.shape[1]] = mean_bd.float().cpu().numpy()
    return pooled


def mean_state(states_btd: Tensor, real_bt: Tensor) -> Tensor:
    """Mean (B, D) of states where there are tokens; that of BOS counts only where it is alone."""
    counted = real_bt.clone()
    counted[:, 0] = real_bt.sum(1) == 1
    share_bt = counted / counted.sum(1, keepdim=True)
    return torch.einsum("bt,btd->bd", share_bt.to(states_btd), states_btd)
