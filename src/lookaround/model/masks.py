"""Attention patterns as arguments of a Hugging Face decoder; no other module builds masks.

Pure causal and bidirectional patterns are asked for by `is_causal` with no mask at all, which keeps
the fused kernels; everything else is a 4D mask: boolean for sdpa, additive float for eager (eager
adds a boolean mask as 0/1, which is silently wrong). Documents are always isolated by a mask of
ours, never by position ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lookaround.objectives.contract import BIDIRECTIONAL, CAUSAL, Attention, Shown


def allowed(shown: Shown) -> Tensor:
    """Who may attend to whom, (B or 1, T, T) bool: [b, i, j]: position i sees position j."""
    attention, documents = shown.attention, shown.documents
    position = torch.arange(shown.input_ids.shape[1], device=shown.input_ids.device)
    causal = position[None, :, None] >= position[None, None, :]
    if attention.kind == "causal":
        mask = causal
    elif attention.kind == "bidirectional":
        mask = torch.ones_like(causal)
    elif attention.kind == "prefix":
        assert attention.lengths is not None
        mask = causal | (position[None, None, :] < attention.lengths[:, None, None])
        # a prefix sees itself; what comes later sees it by the causal rule anyway
        mask = mask & (causal | (position[None, :, None] < attention.lengths[:, None, None]))
    else:
        assert attention.allowed is not None
        mask = attention.allowed
    if documents is not None:
        mask = mask & (documents[:, :, None] == documents[:, None, :])
    return mask


def attention_arguments(shown: Shown, implementation: str, dtype: torch.dtype) -> dict[str, Any]:
    """Keyword arguments (`attention_mask`, `is_causal`) for the decoder's forward.

    implementation: the model's attention implementation, "sdpa" or "eager";
    dtype: of an additive mask.
    """
    kind, mask = shown.attention.kind, None
    if shown.documents is not None or kind not in ("causal", "bidirectional"):
        seen = allowed(shown)[:, None].expand(len(shown.input_ids), -1, -1, -1)
        mask = mask_argument(seen, implementation, dtype)
    return {"attention_mask": mask, "is_causal": kind == "causal"}


def mask_argument(mask: Tensor, implementation: str, dtype: torch.dtype) -> Tensor:
    """A boolean mask as an attention implementation takes it: boolean for "sdpa", else additive."""
    if implementation == "sdpa":
        return mask
    added = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return added.masked_fill_(~mask, torch.finfo(dtype).min)


def cache_mask(
    among: Tensor, kept: Sequence[int], slots: int, positions: Tensor, behind: int = 1
) -> Tensor:
    """Who sees whom when Q new tokens are written behind a cache, (B, 1, Q, slots + Q) bool.

    among: (1 or B, Q, Q) bool, the new tokens among themselves.
    kept: (B,), how many of the `slots` slots hold tokens of each sequence, at positions 0, 1, 2 ..
    positions: (B, Q) of the new tokens.
    behind: least distance from a new token back to the kept tokens that it sees.
    """
    rows, width = positions.shape
    ragged = behind > 1 or min(kept) < slots
    shape = (rows if ragged else len(among), 1, width, slots + width)
    mask = torch.ones(shape, dtype=torch.bool, device=among.device)
    if ragged:
        slot = torch.arange(slots, device=among.device)
        sees = (slot < torch.tensor(kept, device=among.device)[:, None])[:, None]
        mask[:, 0, :, :slots] = (
            sees if behind == 1 else sees & (positions[:, :, None] - slot >= behind)
        )
    mask[:, 0, :, slots:] = among
    return mask.expand(rows, -1, -1, -1)


def attention_of(kind: str, lengths: Tensor) -> Attention:
    """The attention of a mode in evaluation, with the first `lengths` (B,) tokens given."""
    if kind == "prefix":
        return Attention("prefix", lengths=lengths)
    return CAUSAL if kind == "causal" else BIDIRECTIONAL
