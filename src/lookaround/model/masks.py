"""Attention patterns as arguments of a Hugging Face model; no other module builds masks.

Pure causal and bidirectional patterns are asked for by `is_causal` with no mask at all, which keeps
the fused kernels; everything else is a 4D mask: boolean for sdpa, additive float for eager (eager
adds a boolean mask as 0/1, which is silently wrong). Documents are always isolated by a mask of
ours, never by position ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lookaround.objectives.contract import BIDIRECTIONAL, CAUSAL, Attention, Shown
from lookaround.support.errors import UserError

MASKLESS_MODEL = ("llama", "sdpa")  # the model and attention that `maskless` is for
_MASKLESS = "sdpa_without_masks"  # an attention that transformers makes no masks for


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


def block_mask(shown: Shown) -> Any:
    """The same as a BlockMask: what blocks of 128 x 128 see, and nothing of the size (B, T, T)."""
    from torch.nn.attention.flex_attention import create_block_mask

    attention, documents = shown.attention, shown.documents
    rows, width = shown.input_ids.shape
    dense = None if attention.allowed is None else attention.allowed.expand(rows, -1, -1)

    def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        if attention.kind == "causal":
            seen = i >= j
        elif attention.kind == "bidirectional":
            seen = i >= 0
        elif attention.kind == "prefix":
            assert attention.lengths is not None
            seen = (i >= j) | ((i < attention.lengths[b]) & (j < attention.lengths[b]))
        else:
            assert dense is not None
            seen = dense[b, i, j]
        return seen if documents is None else seen & (documents[b, i] == documents[b, j])

    make = _compiled(create_block_mask) if shown.input_ids.is_cuda else create_block_mask
    return make(sees, rows, None, width, width, device=str(shown.input_ids.device))


@cache
def _compiled(function: Any) -> Any:
    """A function as a kernel: not compiled it would write out all that it makes its result of."""
    return torch.compile(function)


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: through blocks where the mask is one of blocks."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not isinstance(attention_mask, BlockMask):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)  # type: ignore[no-any-return]
    run = _compiled(flex_attention) if query.is_cuda else flex_attention
    grouped = query.shape[1] != key.shape[1]
    mixed = run(
        query,
        key,
        value,
        block_mask=attention_mask,
        scale=options.get("scaling"),
        enable_gqa=grouped,
    )
    return mixed.transpose(1, 2).contiguous(), None


def layer_types(config: Any) -> list[str]:
    """What each layer attends to, as transformers names it: "full_attention" or another type."""
    named = getattr(config, "layer_types", None)
    if named:
        return list(named)
    try:
        window = getattr(config, "sliding_window", None)
    except RuntimeError:  # it differs by layer, and transformers refuses to name one value
        return ["windows by layer"] * config.num_hidden_layers
    return ["sliding_attention" if window else "full_attention"] * config.num_hidden_layers


@dataclass(frozen=True)
class Masks:
    """How a model takes the attention patterns that it is asked for.

    form: "single" (one 4D mask for all layers), "typed" (one for each type of layer), "padding" (a
        2D mask of the tokens that are there, as DeBERTa takes) or "none" (ALiBi models).
    windows: whether layers of type "sliding_attention" see a window of `config.sliding_window`.
    encoder: reads both ways, and has no argument that says so.
    positions: whether positions are passed beside a 4D mask (OPT counts them from a 2D one).
    blocks: whether a Llama is told by a mask of blocks (`block_mask`).
    """

    form: str = "single"
    windows: bool = False
    encoder: bool = False
    positions: bool = False
    blocks: bool = False

    def arguments(
        self, shown: Shown, config: Any, implementation: str, dtype: torch.dtype
    ) -> dict[str, Any]:
        """Keyword arguments of the model's forward: `attention_mask`, for decoders `is_causal`.

        config: the model's text configuration.
        implementation: the model's attention implementation, "sdpa" or "eager".
        dtype: of an additive mask.

        Raises UserError where the model cannot be told this pattern.
        """
        kind = shown.attention.kind
        arguments: dict[str, Any] = {} if self.encoder else {"is_causal": kind == "causal"}
        # of positions that do not rise by one, transformers makes a mask of packed sequences, where
        # it is not kept from making any (`maskless`)
        own = shown.positions is None or (config.model_type, implementation) == MASKLESS_MODEL
        if self.is_pure(shown) and own:
            return {"attention_mask": None, **arguments}
        if self.blocks:
            return {"attention_mask": block_mask(shown), **arguments}
        documents = shown.documents
        if self.form == "padding" and kind == "bidirectional" and _single(documents):
            assert documents is not None
            return {"attention_mask": (documents == 0).long(), **arguments}
        if self.form in ("padding", "none"):
            if shown.positions is not None:
                raise UserError(
                    f"model '{config.model_type}': takes no attention mask of ours, so it cannot "
                    "be read in another order (rar)"
                )
            raise UserError(
                f"model '{config.model_type}': takes no attention mask of ours, so it cannot be "
                f"read {'both ways' if kind == 'bidirectional' else 'by prefixes'} in rows of "
                "several lengths, nor in packed rows; pure causal rows it reads"
            )
        seen = allowed(shown)
        masks = {}
        for name in dict.fromkeys(layer_types(config)):
            kept = self.windowed(seen, name, kind, config)[:, None]
            kept = kept.expand(len(shown.input_ids), -1, -1, -1)
            masks[name] = mask_argument(kept, implementation, dtype)
        mask = masks if self.form == "typed" else next(iter(masks.values()))
        if self.positions:
            width = shown.input_ids.shape[1]
            arguments["position_ids"] = torch.arange(width, device=shown.input_ids.device)[None]
        return {"attention_mask": mask, **arguments}

    def is_pure(self, shown: Shown) -> bool:
        """Whether the pattern needs no mask."""
        own = ("bidirectional",) if self.encoder else ("causal", "bidirectional")
        return shown.documents is None and shown.attention.kind in own

    def windowed(self, seen: Tensor, layer_type: str, kind: str, config: Any) -> Tensor:
        """A pattern (B or 1, T, T) as a layer of this type keeps it.

        The window is that of transformers: a causal state sees `sliding_window` tokens with its
        own, a bidirectional one as many on either side of its own.
        """
        if not self.windows or layer_type != "sliding_attention":
            return seen
        position = torch.arange(seen.shape[-1], device=seen.device)
        distance = position[:, None] - position
        window = config.sliding_window
        return (
            seen
            & ((distance if kind != "bidirectional" else distance - 1) < window)
            & (-distance <= window)
        )


@contextmanager
def maskless(config: Any) -> Iterator[None]:
    """A Llama that gets every mask from here: transformers makes none within the block.

    To see whether it must, it would look at positions on the device, and wait.

    config: of the model.
    """
    from transformers import AttentionInterface

    before = config._attn_implementation
    if (config.model_type, before) != MASKLESS_MODEL:
        yield
        return
    AttentionInterface.register(_MASKLESS, _attend)
    config._attn_implementation = _MASKLESS
    try:
        yield
    finally:
        config._attn_implementation = before


def _single(documents: Tensor | None) -> bool:
    """Whether every row is one document."""
    return documents is not None and not bool((documents > 0).any())


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
