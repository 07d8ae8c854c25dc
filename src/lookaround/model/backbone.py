"""Any Hugging Face decoder as a backbone: stock Llama presets, or a checkpoint to continue from.

B sequences, T tokens, D hidden width, N scored pairs, V vocabulary.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookaround.data.text import require_named, unloadable
from lookaround.model.heads import LookAhead, Output, Trunk, build_head
from lookaround.model.masks import allowed, attention_arguments, attention_of
from lookaround.objectives.contract import HeadSpec, Mode, Shown
from lookaround.support.errors import UserError

# parameters without embeddings: 0.3M, 0.4M, 3.2M, 11M, 25M, 85M
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
}
UNLIMITED = 1 << 30  # positions of a model that names no limit
# tokens where none are asked for
VOCABULARIES = {"pico": 512, "nano": 1024, "tiny": 4096, "mini": 8192, "small": 8192, "base": 32768}


class Backbone(nn.Module):
    """A causal LM of transformers, read under any attention pattern, with an objective's heads.

    `lm` stays a stock model: its state dict is what gets exported.

    own_rows: number of rows of the unembedding that the softmax is over. Rows after them are input
        only: a mask token added to a loaded model. None: all rows.
    """

    def __init__(
        self, lm: Any, heads: Iterable[HeadSpec] = (), *, own_rows: int | None = None
    ) -> None:
        super().__init__()
        self.lm = lm
        self.head_specs = tuple(heads)
        self.own_rows = own_rows
        config = lm.config.get_text_config()
        self.width: int = config.hidden_size
        if own_rows is not None:
            config = copy.copy(config)
            config.vocab_size = own_rows  # the rows of heads with an unembedding of their own
        self.heads = nn.ModuleList(build_head(spec, config) for spec in self.head_specs)
        for head in self.heads:
            if isinstance(head, LookAhead):
                head.begin_with(self.output.weight.detach())

    @property
    def decoder(self) -> Any:
        """The model without its LM head."""
        return self.lm.base_model

    @property
    def unembedding(self) -> nn.Linear:
        return self.lm.get_output_embeddings()

    @property
    def output(self) -> Output:
        """The unembedding of the model's own rows: weight (V', D), bias (V',) or None."""
        return Output(self.unembedding.weight, self.unembedding.bias).first(self.own_rows)

    def logits(self, states: Tensor) -> Tensor:
        """Logits (.., V') of hidden states (.., D), over the rows that belong to the model."""
        return F.linear(states, *self.output)

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
        """Hidden states (B, T, D) after the final norm; with all_layers, those of every layer."""
        arguments = attention_arguments(shown, self.lm.config._attn_implementation, self.dtype)
        out = self.decoder(
            shown.input_ids, use_cache=False, output_hidden_states=all_layers, **arguments
        )
        return out.hidden_states if all_layers else out.last_hidden_state

    def trunk(self, shown: Shown) -> Trunk:
        """What the heads read."""
        if any(getattr(head, "reads", "last") == "before" for head in self.heads):
            layers = self.states(shown, all_layers=True)
            return Trunk(layers[-1], layers[-2])
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
    def limit(self) -> int:
        """The most positions that the model has; very many where it names no limit."""
        config = self.lm.config.get_text_config()
        return getattr(config, "max_position_embeddings", None) or UNLIMITED

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
    special: dict[str, int | None],
    heads: Iterable[HeadSpec] = (),
    init: str | None = None,
    seed: int = 0,
    mask: int | None = None,
) -> Backbone:
    """A backbone: a fresh Llama of a preset, or the decoder at `init`, with a row for each token.

    vocabulary: ids that are both shown and predicted.
    special: bos/eos/pad_token_id for the configuration.
    mask: with `init`, an id that is only shown; where the checkpoint has no row for it, one is
        added that no softmax holds, so that training begins at the checkpoint's own loss.

    Raises UserError for an unknown preset, a context longer than the checkpoint's, or a checkpoint
    that is no decoder.
    """
    torch.manual_seed(seed)
    heads = tuple(heads)
    if init is not None:
        if any(spec.replaces for spec in heads):
            raise UserError(
                f"model.init: '{init}' is trained already, so no layer of it can make way for "
                "heads (matched=True)"
            )
        lm = load_decoder(init)
        own_rows = _add_rows(lm, vocabulary, mask)
        for key, value in special.items():
            setattr(lm.config, key, value)
        backbone = Backbone(lm, heads, own_rows=own_rows)
        if backbone.limit < context:
            raise UserError(
                f"model.context: {context} is longer than the {backbone.limit} positions of "
                f"'{init}'"
            )
        return backbone
    from transformers import LlamaConfig, LlamaForCausalLM

    if preset not in PRESETS:
        raise UserError(f"model.preset: unknown preset '{preset}'; known are {', '.join(PRESETS)}")
    sizes: dict[str, Any] = {**PRESETS[preset], **special}
    sizes["num_hidden_layers"] -= sum(spec.replaces for spec in heads)
    if sizes["num_hidden_layers"] < 1:
        raise UserError(
            f"model.preset: the heads would replace all {PRESETS[preset]['num_hidden_layers']} "
            f"layers of '{preset}'; take a smaller n or matched=False"
        )
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
    return Backbone(LlamaForCausalLM(config), heads)


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
    before = {i for i in lm.generation_config.suppress_tokens or () if i < begun}
    lm.generation_config.suppress_tokens = sorted(before | {*range(own, rows)}) or None
    return None if own == rows else own


def load_decoder(path: str) -> Any:
    """The causal LM of a folder or name in float32, exactly as it was saved.

    An EuroBERT folder is read as a Llama, with the same keys. Code of a folder is never run. A
    pooler or another head that the class lacks is left out and named in the log.

    Raises UserError where nothing can be loaded, where weights are missing, left over or of another
    shape, and where logits are not the unembedding of the last states.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging as verbosity

    require_named(path, "model", "config.json")
    verbosity.disable_progress_bar()  # it would break up the study's own
    level = verbosity.get_verbosity()
    verbosity.set_verbosity(verbosity.CRITICAL)  # errors are reported below, in one line
    exactly: dict[str, Any] = {
        "dtype": torch.float32,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # they are refused below, by name
    }
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        if config.model_type == "eurobert":
            known = {*LlamaConfig().to_dict(), "own_rows"} - {"model_type"}
            fields = {key: value for key, value in config.to_dict().items() if key in known}
            loaded: Any = LlamaForCausalLM.from_pretrained(
                path, config=LlamaConfig(**fields), **exactly
            )
        else:
            loaded = AutoModelForCausalLM.from_pretrained(
                path, config=copy.deepcopy(config), trust_remote_code=False, **exactly
            )
        lm, info = loaded
    except Exception as error:
        raise unloadable(f"model '{path}'", "decoder", error) from None
    finally:
        verbosity.set_verbosity(level)
    _require_whole(path, lm, info)
    own, rows = getattr(lm.config, "own_rows", None), lm.get_output_embeddings().weight.shape[0]
    if own is not None and (type(own) is not int or not 0 < own <= rows):
        raise UserError(
            f"model '{path}': own_rows of its config.json is {own!r}, must be 1 to {rows}"
        )
    require_plain_logits(lm, f"model '{path}'")
    return lm


def _require_whole(path: str, lm: Any, info: dict[str, Any]) -> None:
    """Raises UserError unless the files hold the weights of this class, poolers and heads aside."""
    trunk = {lm.base_model_prefix, *dict(lm.base_model.named_children())}
    output = next(
        name for name, module in lm.named_modules() if module is lm.get_output_embeddings()
    )
    left_out = {
        key
        for key in info["unexpected_keys"]
        if "pooler" in key.split(".")
        or not (
            {key.split(".")[0]} & trunk
            or key.startswith(f"{output}.")
            or any(part.isdecimal() for part in key.split("."))  # of one of several layers
        )
    }
    shapes = [
        f"{key} {tuple(found)} for {tuple(own)}" for key, found, own in info["mismatched_keys"]
    ]
    for names, what in (
        (shapes, "of another shape than its config.json says"),
        (info["missing_keys"], "missing from its files"),
        (info["unexpected_keys"] - left_out, "in its files and not in its architecture"),
        (info["error_msgs"], "not loaded"),
    ):
        if names:
            raise UserError(
                f"model '{path}': {len(names)} weights of {type(lm).__name__} are {what} "
                f"({_few(names)}); nothing is drawn at random in their place"
            )
    if left_out:
        logging.getLogger(__name__).warning(
            "model '%s': left out, since %s has no place for it: %s",
            path,
            type(lm).__name__,
            _few(left_out),
        )


def _few(names: Iterable[str]) -> str:
    """The first three of some names, in order."""
    ordered = sorted(map(str, names))
    return ", ".join(ordered[:3]) + (", .." if len(ordered) > 3 else "")


@contextmanager
def reading(module: nn.Module) -> Iterator[None]:
    """A module in evaluation mode and without gradients; afterwards it trains if it did before."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


def require_plain_logits(lm: Any, name: str) -> None:
    """Raises UserError where a model's logits are not its unembedding of its last states."""
    ids = torch.arange(1, 9, device=lm.device)[None] % lm.get_output_embeddings().weight.shape[0]
    try:
        with reading(lm):
            logits = lm(ids, use_cache=False).logits
            ours = lm.get_output_embeddings()(lm.base_model(ids, use_cache=False).last_hidden_state)
    except (TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        raise unloadable(name, "decoder that reads tokens alone", error) from None
    if float((ours - logits).abs().max()) > 1e-3 * (float(logits.abs().max()) or 1.0):
        raise UserError(
            f"{name}: changes its logits after the unembedding, or transforms its states before it "
            "(an encoder, or scaled or capped logits); such a model cannot be read exactly"
        )


def require_honest_attention(backbone: Backbone, modes: Iterable[Mode], width: int = 12) -> None:
    """Asks the model "does position i see j?" for every attention kind in use; refuses a wrong one.

    Every token is changed in turn; the states that move must be exactly those that the pattern lets
    see it, also through several layers. Raises UserError naming the pattern and the positions where
    the model does otherwise.
    """
    vocabulary = backbone.unembedding.weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    base = torch.randint(vocabulary, (1, width), generator=generator)
    other = (base + 1 + torch.randint(vocabulary - 1, base.shape, generator=generator)) % vocabulary
    tokens = base.repeat(width + 1, 1)
    tokens[torch.arange(width) + 1, torch.arange(width)] = other[0]
    two = (torch.arange(width) >= width // 2).long().expand_as(tokens)
    for kind in dict.fromkeys(mode.attention for mode in modes):
        for documents in (None, two):
            shown = Shown(
                tokens, attention_of(kind, torch.full((width + 1,), width // 3)), documents
            )
            with reading(backbone):
                hidden_btd = backbone.states(shown.to(backbone.device)).cpu()
            # [i, j]: state i moved when token j changed
            moved = (hidden_btd[1:] != hidden_btd[:1]).any(-1).T
            sees = allowed(shown)[0]
            for _ in range(width.bit_length()):  # through several layers
                sees = (sees.float() @ sees.float()) > 0
            if not torch.equal(moved, sees):
                i, j = (moved != sees).nonzero()[0].tolist()
                pattern = f"{kind}{' with two documents in a row' if documents is not None else ''}"
                raise UserError(
                    f"model '{backbone.lm.config.model_type}' does not keep the attention pattern "
                    f"it is asked for: under '{pattern}', position {i} "
                    f"{'sees' if moved[i, j] else 'does not see'} position {j}"
                )
