"""Any Hugging Face LM as a backbone: stock Llama presets, or a checkpoint to continue from.

B sequences, T tokens, D hidden width, N scored pairs, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lookaround.model.foreign import (
    Source,
    load_model,
    narrowed,
    reading,
    say_once,
    states_of,
)
from lookaround.model.heads import LookAhead, OrderHead, Output, Trunk, build_head
from lookaround.model.masks import allowed, attention_of, layer_types
from lookaround.model.plane import turn_in_plane
from lookaround.model.sizes import sizes_of
from lookaround.objectives.contract import PADDING, HeadSpec, Mode, Shown
from lookaround.support.errors import UserError
from lookaround.support.machine import require_memory

# parameters without embeddings: 0.3M, 0.4M, 3.2M, 11M, 25M, 85M, 308M, 925M
PRESETS: dict[str, dict[str, int]] = {
    "pico": {
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
    "nano": {
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
    "tiny": {
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
    "mini": {
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
    },
    "small": {
        "hidden_size": 512,
        "intermediate_size": 1376,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
    },
    "base": {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
    "large": {
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
    "xl": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 18,
        "num_attention_heads": 16,
    },
}
UNLIMITED = 1 << 30  # positions of a model that names no limit
# tokens where none are asked for
VOCABULARIES = {
    "pico": 512,
    "nano": 1024,
    "tiny": 4096,
    "mini": 8192,
    "small": 8192,
    "base": 32768,
    "large": 32768,
    "xl": 32768,
}


class Backbone(nn.Module):
    """An LM of transformers, read under any attention pattern, with an objective's heads.

    `lm` stays a stock model: its state dict is what gets exported.

    source: what is known of a model of others; a fresh Llama if none.

    own_rows: number of rows of the unembedding that the softmax is over. Rows after them are input
        only: a mask token added to a loaded model. None: all rows.
    """

    def __init__(
        self,
        lm: Any,
        heads: Iterable[HeadSpec] = (),
        *,
        own_rows: int | None = None,
        source: Source | None = None,
    ) -> None:
        super().__init__()
        self.lm = lm
        self.source = source or Source()
        self.head_specs = tuple(heads)
        self.own_rows = own_rows
        self.sizes = sizes_of(lm, own_rows)
        self.heads = nn.ModuleList(build_head(spec, self.sizes) for spec in self.head_specs)
        for head in self.heads:
            if isinstance(head, LookAhead):
                head.begin_with(self.output.weight.detach())

    def train(self, mode: bool = True) -> Backbone:
        """As of any module; a model that must be still stays in evaluation mode."""
        super().train(mode)
        self.lm.train(mode and not self.source.still)
        return self

    @property
    def look_ahead(self) -> Any:
        """The spec of the first head that looks ahead; None without one."""
        pairs = zip(self.head_specs, self.heads, strict=True)
        return next((spec for spec, head in pairs if isinstance(head, LookAhead)), None)

    @property
    def decoder(self) -> Any:
        """The model without its LM head."""
        return self.lm.base_model

    @property
    def unembedding(self) -> nn.Linear:
        return self.lm.get_output_embeddings()

    @property
    def whole_output(self) -> Output:
        """The step from states to logits, over all rows."""
        output, source = self.unembedding, self.source
        return Output(output.weight, output.bias, source.scale, source.cap)

    @property
    def output(self) -> Output:
        """The step from states to logits, over the rows that belong to the model."""
        return self.whole_output.first(self.own_rows)

    def logits(self, states: Tensor) -> Tensor:
        """Logits (.., V') of hidden states (.., D), over the rows that belong to the model."""
        return self.output.logits(states)

    @property
    def device(self) -> torch.device:
        return self.unembedding.weight.device

    @property
    def embedding(self) -> nn.Embedding:
        return self.lm.get_input_embeddings()

    @property
    def dtype(self) -> torch.dtype:
        return self.unembedding.weight.dtype

    def states(self, shown: Shown, *, all_layers: bool = False) -> Any:
        """Hidden states (B, T, D) that the unembedding gets; with all_layers, those of every layer.

        Raises UserError for a pattern that the model cannot be told.
        """
        embedded = None
        if shown.positions is not None:
            embedded = self.embedding(shown.input_ids)
            head = next((head for head in self.heads if isinstance(head, OrderHead)), None)
            if head is not None:
                embedded = embedded + head(shown.positions)
        return states_of(self.lm, self.source, shown, all_layers=all_layers, embedded_btd=embedded)

    def trunk(self, shown: Shown) -> Trunk:
        """What the heads read."""
        if any(getattr(head, "reads", "last") == "before" for head in self.heads):
            layers = self.states(shown, all_layers=True)
            last = self.states(shown) if self.source.transforms else layers[-1]
            return Trunk(last, layers[-2])
        return Trunk(self.states(shown))

    def log_probabilities(
        self, shown: Shown, state: Tensor, forbidden: Tensor | None = None
    ) -> Tensor:
        """Log-probabilities (N, V') float32 of the LM head at flat state indices (N,).

        forbidden: ids that are left out of the softmax; ids beyond the model's rows are never in
            it.
        """
        logits = self.logits(self.states(shown).flatten(0, 1)[state]).float()
        if forbidden is not None:
            logits[..., forbidden[forbidden < logits.shape[-1]]] = -torch.inf
        return logits.log_softmax(-1)

    @property
    def width(self) -> int:
        """D, the width of the states."""
        return self.sizes.width

    @property
    def limit(self) -> int:
        """The most positions that the model has; very many where it names no limit."""
        return self.sizes.positions or UNLIMITED

    @property
    def parameter_count(self) -> int:
        """Parameters of the model and its heads."""
        return sum(p.numel() for p in self.parameters())

    @cached_property
    def parameters_without_embeddings(self) -> int:
        """Parameters of the trunk: all of the LM's but the input embedding and the unembedding."""
        tables = {id(self.embedding.weight), id(self.unembedding.weight)}
        return sum(p.numel() for p in self.lm.parameters() if id(p) not in tables)


def build(
    *,
    preset: str,
    vocabulary: int,
    context: int,
    special: dict[str, int | None] | None,
    heads: Iterable[HeadSpec] = (),
    init: str | None = None,
    seed: int = 0,
    mask: int | None = None,
    grid: tuple[int, int] | None = None,
) -> Backbone:
    """A backbone: a fresh Llama of a preset, or the model at `init`, with a row for each token.

    vocabulary: ids that are both shown and predicted.
    special: bos/eos/pad_token_id for the configuration; None leaves those of `init`.
    mask: with `init`, an id that is only shown; where the checkpoint has no row for it, one is
        added that no softmax holds, so that training begins at the checkpoint's own loss.

    Raises UserError for an unknown preset, a context longer than the checkpoint's, or a checkpoint
    that cannot be opened.
    """
    torch.manual_seed(seed)
    heads = tuple(heads)
    if init is not None:
        if any(spec.replaces for spec in heads):
            raise UserError(
                f"model.init: '{init}' is trained already, so no layer of it can make way for "
                "heads (matched=True)"
            )
        lm, source = load_model(init)
        own_rows = _add_rows(lm, vocabulary, mask)
        for key, value in (special or {}).items():
            setattr(lm.config, key, value)
        backbone = Backbone(lm, heads, own_rows=own_rows, source=source)
        if source.dropouts:
            off = ", ".join(f"{key} {value:g}" for key, value in source.dropouts.items())
            say_once(
                f"model '{init}': is trained without its dropout ({off}), so that runs resume "
                "exactly; its config.json keeps it"
            )
        if backbone.limit < context:
            raise UserError(
                f"model.context: {context} is longer than the {backbone.limit} positions of "
                f"'{init}'"
            )
        if source.still:
            say_once(
                f"model '{init}': is trained in evaluation mode, since its training mode draws at "
                "random or takes no short texts"
            )
        return backbone
    from transformers import LlamaConfig, LlamaForCausalLM

    if preset not in PRESETS:
        raise UserError(f"model.preset: unknown preset '{preset}'; known are {', '.join(PRESETS)}")
    sizes: dict[str, Any] = {**PRESETS[preset], **(special or {})}
    sizes["num_hidden_layers"] -= sum(spec.replaces for spec in heads)
    if sizes["num_hidden_layers"] < 1:
        raise UserError(
            f"model.preset: the heads would replace all {PRESETS[preset]['num_hidden_layers']} "
            f"layers of '{preset}'; take a smaller n or matched=False"
        )
    width = sizes["hidden_size"]
    layer = width * (4 * width + 3 * sizes["intermediate_size"])
    needed = 4 * (vocabulary * width + sizes["num_hidden_layers"] * layer)
    remedy = "set data.vocabulary lower, or take a smaller model"
    if torch.get_default_device().type == "cpu":
        require_memory(needed, torch.device("cpu"), f"a model '{preset}'", remedy)
    config = LlamaConfig(
        vocab_size=vocabulary,
        max_position_embeddings=max(context, 512),
        num_key_value_heads=PRESETS[preset]["num_attention_heads"],
        tie_word_embeddings=True,
        # "small init" (Nguyen & Salazar 2019): 0.02 is right for wide models and slows narrow ones
        # down
        initializer_range=(2 / (5 * PRESETS[preset]["hidden_size"])) ** 0.5,
        **sizes,
    )
    if grid is not None:
        turn_in_plane(config, grid)
    return Backbone(LlamaForCausalLM(config), heads)


def untrained(backbone: Backbone, seed: int) -> Backbone:
    """A model of the same architecture before training, in float32 and without heads."""
    needed = 4 * sum(p.numel() for p in backbone.lm.parameters())
    remedy = "take a smaller model"
    require_memory(needed, torch.device("cpu"), "the network before training", remedy)
    torch.manual_seed(seed)
    lm = type(backbone.lm)(copy.deepcopy(backbone.lm.config)).float()
    return Backbone(lm, own_rows=backbone.own_rows, source=backbone.source)


@torch.no_grad()
def _add_rows(lm: Any, vocabulary: int, mask: int | None) -> int | None:
    """Gives a model embedding rows up to `vocabulary` and `mask`; returns its own_rows."""
    before = lm.get_output_embeddings().weight.shape[0]
    begun = getattr(lm.config, "own_rows", None) or before
    own = max(begun, vocabulary)
    rows = max(before, own, 0 if mask is None else mask + 1)
    if rows > before:
        lm.resize_token_embeddings(rows, mean_resizing=False)
        unembedding = lm.get_output_embeddings()
        for table in (lm.get_input_embeddings().weight, unembedding.weight, unembedding.bias):
            if table is not None:
                table[before:] = table[:before].mean(0)
    generation = getattr(lm, "generation_config", None)
    if generation is not None:
        before = {i for i in generation.suppress_tokens or () if i < begun}
        generation.suppress_tokens = sorted(before | {*range(own, rows)}) or None
    return None if own == rows else own


def use_blocks(backbone: Backbone) -> None:
    """Has a model attend by blocks where it needs a mask; raises UserError if it is no Llama."""
    config = backbone.lm.config
    if config.model_type != "llama" or config._attn_implementation != "sdpa":
        raise UserError(
            f"model.attention: flex is for a Llama with fused attention, and the model is "
            f"'{config.model_type}' ({config._attn_implementation}); give dense"
        )
    masks = replace(backbone.source.masks, blocks=True)
    backbone.source = replace(backbone.source, masks=masks)


def require_modes(backbone: Backbone, modes: Iterable[Mode]) -> None:
    """Raises UserError for a mode that an encoder was not made for: it predicts in place."""
    for mode in modes:
        if backbone.source.encoder and mode != Mode("bidirectional", 0):
            raise UserError(
                f"model '{backbone.lm.config.model_type}': is an encoder, which reads both ways "
                f"and predicts a token in its own place; '{mode}' is another use. Take "
                "mlm(rate=0.3), vmlm(shift=0) or mdlm(shift=0)"
            )


def require_honest_attention(
    backbone: Backbone, modes: Iterable[Mode], width: int = 12, *, packed: bool = True
) -> None:
    """Asks the model "does position i see j?" for every attention kind in use; refuses a wrong one.

    Every token is changed in turn; the states that move must be exactly those that the pattern lets
    see it, also through several layers. A pattern that needs no mask must give the same states with
    a mask, so that a short row changes nothing for those beside it. Sliding windows are asked about
    with a narrow one. Raises UserError naming the pattern and the positions where the model does
    otherwise.

    packed: also with two documents in a row; else with padding, where a pattern needs a mask.
    """
    tokens = _each_changed(backbone, width)
    half = torch.arange(width) >= width // 2
    with narrowed(backbone.lm), reading(backbone):
        for kind in dict.fromkeys(mode.attention for mode in modes):
            attention = attention_of(kind, torch.full((width + 1,), width // 3))
            told: dict[str, Tensor | None] = {"": None}
            if packed:
                told[" with two documents in a row"] = half.long()
            elif kind != "causal":
                told[" with padding"] = torch.where(half, PADDING, 0)
            for what, documents in told.items():
                numbers = None if documents is None else documents.expand_as(tokens)
                shown = Shown(tokens, attention, numbers).to(backbone.device)
                _require_pattern(backbone, shown, f"{kind}{what}")
            if len(told) > 1 and kind != "prefix":
                whole = Shown(tokens, attention, torch.zeros_like(tokens)).to(backbone.device)
                _require_same(backbone, whole, kind)


def _each_changed(backbone: Backbone, width: int) -> Tensor:
    """A row of tokens, and the same with each of them changed in turn, (width + 1, width)."""
    vocabulary = backbone.unembedding.weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    base = torch.randint(vocabulary, (1, width), generator=generator)
    other = (base + 1 + torch.randint(vocabulary - 1, base.shape, generator=generator)) % vocabulary
    rows = backbone.embedding.weight.detach().cpu()
    for at in range(width):  # added rows are alike, and padding rows are: another one must differ
        for _ in range(vocabulary):
            if not torch.equal(rows[base[0, at]], rows[other[0, at]]):
                break
            other[0, at] = (other[0, at] + 1) % vocabulary
    tokens = base.repeat(width + 1, 1)
    tokens[torch.arange(width) + 1, torch.arange(width)] = other[0]
    return tokens


def _moved(hidden_btd: Tensor) -> Tensor:
    """[i, j]: state i moved when token j changed; hidden_btd: states of `_each_changed` tokens."""
    return (hidden_btd[1:] != hidden_btd[:1]).any(-1).T


def require_positions(backbone: Backbone, width: int = 12) -> None:
    """Asks a model whether it reads rows in another order: causally by places in the row, and
    otherwise than in their own order. Raises UserError where it does not.
    """
    tokens = _each_changed(backbone, width)
    order = torch.randperm(width - 1, generator=torch.Generator().manual_seed(0)) + 1
    order = torch.cat([torch.zeros(1, dtype=torch.int64), order]).expand_as(tokens)
    shown = Shown(tokens, positions=order).to(backbone.device)
    with narrowed(backbone.lm), reading(backbone):
        told = backbone.states(shown).cpu()
        plain = backbone.states(replace(shown, positions=None)).cpu()
    kind = backbone.lm.config.model_type
    if not torch.equal(_moved(told), torch.ones(width, width).tril().bool()):
        raise UserError(
            f"model '{kind}': does not keep the causal pattern in rows in another order, so that "
            "rar cannot train it"
        )
    if float((told - plain).abs().max()) <= 1e-5 * float(plain.abs().max()):
        raise UserError(f"model '{kind}': pays no heed to positions, so that rar cannot train it")


def _require_pattern(backbone: Backbone, shown: Shown, name: str) -> None:
    """Raises UserError where a token moves other states than a pattern says."""
    moved = _moved(backbone.states(shown).cpu())
    seen, config = allowed(shown)[:1].cpu(), backbone.lm.config.get_text_config()
    sees = torch.eye(seen.shape[-1])
    for layer in layer_types(config):
        kept = backbone.source.masks.windowed(seen, layer, shown.attention.kind, config)[0]
        sees = ((kept | torch.eye(len(sees), dtype=torch.bool)).float() @ sees > 0).float()
    wrong = moved != sees.bool()
    if shown.documents is not None:
        wrong &= (shown.documents[0] != PADDING).cpu()[:, None]  # nobody reads a state of padding
    if bool(wrong.any()):
        i, j = wrong.nonzero()[0].tolist()
        raise UserError(
            f"model '{config.model_type}' does not keep the attention pattern it is asked for: "
            f"under '{name}', position {i} {'sees' if moved[i, j] else 'does not see'} position {j}"
        )


def _require_same(backbone: Backbone, shown: Shown, kind: str) -> None:
    """Raises UserError where a pattern that needs no mask is another one with a mask."""
    told = backbone.states(shown)
    pure = backbone.states(replace(shown, documents=None))
    if float((told - pure).abs().max()) > 1e-3 * float(pure.abs().max()):
        raise UserError(
            f"model '{backbone.lm.config.model_type}': reads '{kind}' otherwise when it is told so "
            "by a mask, so that one short row would change all beside it"
        )
