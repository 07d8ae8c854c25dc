"""Sizes of a model, whatever its configuration calls them; no other module asks for such names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from lookaround.model.losses import CHUNK_BYTES, GPU_CHUNK_BYTES
from lookaround.support.errors import UserError

# Every text model of transformers 5.24 but two answers to `hidden_size` and `num_hidden_layers`.
# These are the names of the rest.
_FEED_FORWARD = (
    "intermediate_size",
    "n_inner",
    "ffn_dim",
    "ffn_hidden_size",
    "hidden_dim",
    "dim_ff",
    "dff",
    "d_inner",
    "moe_intermediate_size",
)
_POSITIONS = ("max_position_embeddings", "max_seq_len", "context_length")
_HEAD_WIDTH = 64  # of attention heads beside a model that has none


@dataclass(frozen=True)
class Sizes:
    """What heads and estimates need to know of a model.

    width: D, of the states that its unembedding gets.
    trunk: of the states between its layers; another one where they are projected (OPT-350M,
        ELECTRA, ALBERT).
    vocabulary: V, rows of its softmax.
    intermediate: hidden width of a feed-forward layer, 4 * trunk where none is named.
    attention_heads, key_value_heads: such that the width divides into heads of even width.
    positions: the most tokens that it can read, None without a limit.
    """

    width: int
    trunk: int
    vocabulary: int
    layers: int
    intermediate: int
    attention_heads: int
    key_value_heads: int
    positions: int | None = None


def sizes_of(lm: Any, own_rows: int | None = None) -> Sizes:
    """The sizes of an LM of transformers.

    own_rows: rows of the softmax, all if None.

    Raises UserError for a configuration that names no width or number of layers.
    """
    config = lm.config.get_text_config()
    rows, width = lm.get_output_embeddings().weight.shape
    trunk, layers = _named(config, "hidden_size"), _named(config, "num_hidden_layers")
    if trunk is None or layers is None:
        raise UserError(
            f"model '{config.model_type}': its config.json names no hidden_size or "
            "num_hidden_layers, so it is no stack of layers that could be continued here"
        )
    wanted = _named(config, "num_attention_heads") or max(1, width // _HEAD_WIDTH)
    attention_heads = _divisor(width // 2, wanted)
    return Sizes(
        width=width,
        trunk=trunk,
        vocabulary=own_rows or rows,
        layers=layers,
        intermediate=_named(config, *_FEED_FORWARD) or 4 * trunk,
        attention_heads=attention_heads,
        key_value_heads=_divisor(attention_heads, _named(config, "num_key_value_heads") or wanted),
        positions=_positions(lm, config),
    )


def training_bytes(
    sizes: Sizes,
    parameters: int,
    tokens: int,
    *,
    trained: int | None = None,
    trunk: bool = True,
    width: int = 4,
    shards: int = 1,
    gpu: bool = False,
) -> float:
    """Bytes that training takes, about: weights, gradients and AdamW's moments in float32, what is
    kept of a forward pass, and a chunk of logits.

    parameters: of the model and its heads; trained: those that are trained, all if None.
    tokens: of a micro-batch.
    trunk: whether the model is trained, or heads on its states alone.
    width: bytes of a number that is kept.
    shards: processes among which weights, gradients and moments are spread.
    gpu: whether it is one, which takes larger chunks of logits.
    """
    layers = sizes.layers if trunk else 1
    kept = tokens * layers * (14 * sizes.trunk + 4 * sizes.intermediate)
    trained = parameters if trained is None else trained
    held = (4.0 * parameters + 12.0 * trained) / shards
    logits = 2 * (GPU_CHUNK_BYTES if gpu else CHUNK_BYTES) + (32 << 20)
    return held + float(width) * kept + logits


def _positions(lm: Any, config: Any) -> int | None:
    """The most tokens of a row; RoBERTa counts positions from after that of padding."""
    named = _named(config, *_POSITIONS)
    tables = [
        module.padding_idx
        for name, module in lm.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    ]
    padding = next((place for place in tables if place is not None), None)
    return named if named is None or padding is None else named - padding - 1


def _named(config: Any, *names: str) -> int | None:
    """The first of these fields that is a number above 0; the largest one of a list (Gemma 3n)."""
    for name in names:
        try:
            value = getattr(config, name, None)
        except RuntimeError:  # it differs by layer, and transformers refuses to name one value
            value = getattr(config.per_layer_config[0], name)
        if isinstance(value, list | tuple) and value and all(type(x) is int for x in value):
            value = max(value)
        if type(value) is int and value > 0:
            return value
    return None


def _divisor(whole: int, most: int) -> int:
    """The largest divisor of a number up to another one."""
    return next(n for n in range(max(1, min(most, whole)), 0, -1) if whole % n == 0)
