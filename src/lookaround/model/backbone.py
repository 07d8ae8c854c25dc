"""Any Hugging Face decoder as a backbone: stock Llama presets, or a checkpoint to continue from.

B sequences, T tokens, D hidden width, N scored pairs, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lookaround.data.text import require_named
from lookaround.model.heads import LookAhead, Output, Trunk, build_head
from lookaround.model.masks import allowed, attention_arguments, attention_of
from lookaround.objectives.contract import HeadSpec, Mode, Shown
from lookaround.support.errors import UserError

__all__ = ["PRESETS", "Backbone", "build", "load_decoder", "require_honest_attention"]

PRESETS: dict[str, dict[str, int]] = {  # parameters without embeddings: 0.3M, 0.4M, 3.2M, 11M, 25M, 85M
    "pico": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4},
    "nano": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 2, "num_attention_heads": 4},
    "tiny": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4},
    "mini": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6},
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
VOCABULARIES = {
    "pico": 512,
    "nano": 1024,
    "tiny": 4096,
    "mini": 8192,
    "small": 8192,
    "base": 32768,
}  # where none is asked for


class Backbone(nn.Module):
    """A causal LM of transformers, read under any attention pattern, with the extra heads an objective asks for.

    `lm` stays a stock model: its state dict is what gets exported.
    """

    def __init__(self, lm: Any, heads: Iterable[HeadSpec] = ()) -> None:
        super().__init__()
        self.lm = lm
        self.head_specs = tuple(heads)
        self.width: int = lm.config.get_text_config().hidden_size
        config = lm.config.get_text_config()
        self.heads = nn.ModuleList(build_head(spec, config) for spec in self.head_specs)
        for head in self.heads:
            if isinstance(head, LookAhead):
                head.begin_with(self.unembedding.weight.detach())

    @property
    def decoder(self) -> Any:
        """The model without its LM head."""
        return self.lm.base_model

    @property
    def unembedding(self) -> nn.Linear:
        return self.lm.get_output_embeddings()

    @property
    def device(self) -> torch.device:
        return self.unembedding.weight.device

    @property
    def embedding(self) -> nn.Embedding:
        return self.lm.get_input_embeddings()

    @property
    def dtype(self) -> torch.dtype:
        return self.unembedding.weight.dtype

    @property
    def output(self) -> Output:
        """The rows of the unembedding that every softmax is over."""
        return Output(self.unembedding.weight, self.unembedding.bias)

    def states(self, shown: Shown, *, all_layers: bool = False) -> Any:
        """Hidden states (B, T, D) after the final norm; with all_layers, the tuple from embedding to last."""
        rows, width = shown.input_ids.shape
        arguments = attention_arguments(
            shown.attention,
            shown.documents,
            rows,
            width,
            implementation=self.lm.config._attn_implementation,
            dtype=self.unembedding.weight.dtype,
            device=shown.input_ids.device,
        )
        out = self.decoder(shown.input_ids, use_cache=False, output_hidden_states=all_layers, **arguments)
        return out.hidden_states if all_layers else out.last_hidden_state

    def trunk(self, shown: Shown) -> Trunk:
        """What the heads read."""
        if any(getattr(head, "reads", "last") == "before" for head in self.heads):
            layers = self.states(shown, all_layers=True)
            return Trunk(layers[-1], layers[-2])
        return Trunk(self.states(shown))

    def log_probabilities(self, shown: Shown, state: Tensor, forbidden: Tensor | None = None) -> Tensor:
        """Log-probabilities (N, V) of the whole vocabulary at flat state indices (N,), by the LM head.

        forbidden: ids that are left out of the softmax.
        """
        logits_nv = self.unembedding(self.states(shown).flatten(0, 1)[state]).float()
        if forbidden is not None:
            logits_nv[:, forbidden] = -torch.inf
        return logits_nv.log_softmax(-1)

    @cached_property
    def parameters_without_embeddings(self) -> int:
        """Parameters of the trunk: all of the LM's but the input embedding and the unembedding."""
        tables = {id(self.lm.get_input_embeddings().weight), id(self.unembedding.weight)}
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
) -> Backbone:
    """A backbone: a fresh Llama of a preset, or the decoder at `init`, with embeddings for `vocabulary` tokens.

    special: bos/eos/pad_token_id for the configuration. Raises UserError for an unknown preset, a context longer than the
    checkpoint's, or a checkpoint that is no decoder.
    """
    torch.manual_seed(seed)
    heads = tuple(heads)
    if init is not None:
        if any(spec.replaces for spec in heads):
            raise UserError(
                f"model.init: '{init}' is trained already, so no layer of it can make way for heads (matched=True)"
            )
        lm = load_decoder(init)
        limit = getattr(lm.config.get_text_config(), "max_position_embeddings", context)
        if limit < context:
            raise UserError(f"model.context: {context} is longer than the {limit} positions of '{init}'")
        if lm.get_input_embeddings().weight.shape[0] < vocabulary:
            lm.resize_token_embeddings(vocabulary, mean_resizing=False)
        for key, value in special.items():
            setattr(lm.config, key, value)
    else:
        from transformers import LlamaConfig, LlamaForCausalLM

        if preset not in PRESETS:
            raise UserError(f"model.preset: unknown preset '{preset}'; known are {', '.join(PRESETS)}")
        sizes: dict[str, Any] = {**PRESETS[preset], **special}
        sizes["num_hidden_layers"] -= sum(spec.replaces for spec in heads)
        if sizes["num_hidden_layers"] < 1:
            raise UserError(
                f"model.preset: the heads would replace all {PRESETS[preset]['num_hidden_layers']} layers of '{preset}'; "
                "take a smaller n or matched=False"
            )
        config = LlamaConfig(
            vocab_size=vocabulary,
            max_position_embeddings=max(context, 512),
            num_key_value_heads=PRESETS[preset]["num_attention_heads"],
            tie_word_embeddings=True,
            # "small init" (Nguyen & Salazar 2019): 0.02 is right for wide models and slows narrow ones down
            initializer_range=(2 / (5 * PRESETS[preset]["hidden_size"])) ** 0.5,
            **sizes,
        )
        lm = LlamaForCausalLM(config)
    return Backbone(lm, heads)


def load_decoder(path: str) -> Any:
    """The causal LM of a folder or name in float32; an EuroBERT folder is read as the Llama it is key for key.

    Raises UserError where nothing can be loaded.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    require_named(path, "model", "config.json")
    logging.disable_progress_bar()  # a bar per loaded model would tear up the study's own
    try:
        config = AutoConfig.from_pretrained(path)
        if config.model_type == "eurobert":
            fields = {key: value for key, value in config.to_dict().items() if key in LlamaConfig().to_dict()}
            fields.pop("model_type")
            return LlamaForCausalLM.from_pretrained(path, config=LlamaConfig(**fields), dtype=torch.float32)
        return AutoModelForCausalLM.from_pretrained(path, config=copy.deepcopy(config), dtype=torch.float32)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"model '{path}': no decoder could be loaded ({reason[:200]})") from None


@torch.no_grad()
def require_honest_attention(backbone: Backbone, modes: Iterable[Mode], width: int = 12) -> None:
    """Asks the model itself "does position i see j?" for every attention kind in use, alone and with two documents a row.

    Every token is changed in turn; the states that move must be exactly those that the pattern lets see it, also through
    several layers. Raises UserError naming the pattern and the positions where the model does otherwise.
    """
    vocabulary = backbone.unembedding.weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    base = torch.randint(vocabulary, (1, width), generator=generator)
    other = (base + 1 + torch.randint(vocabulary - 1, base.shape, generator=generator)) % vocabulary
    tokens = base.repeat(width + 1, 1)
    tokens[torch.arange(width) + 1, torch.arange(width)] = other[0]
    two = torch.cat([torch.zeros(width // 2), torch.ones(width - width // 2)]).long().expand_as(tokens)
    was_training = backbone.training
    backbone.eval()
    for kind in dict.fromkeys(mode.attention for mode in modes):
        for documents in (None, two):
            attention = attention_of(kind, torch.full((width + 1,), width // 3))
            shown = Shown(tokens, attention, documents)
            hidden_btd = backbone.states(shown.to(backbone.device)).cpu()
            moved = (hidden_btd[1:] != hidden_btd[:1]).any(-1).T  # [i, j]: state i moved when token j changed
            sees = allowed(attention, documents, width + 1, width)[0]
            for _ in range(width.bit_length()):  # what is seen through one layer is seen through all
                sees = (sees.float() @ sees.float()) > 0
            if not torch.equal(moved, sees):
                i, j = (moved != sees).nonzero()[0].tolist()
                pattern = f"{kind}{' with two documents in a row' if documents is not None else ''}"
                raise UserError(
                    f"model '{backbone.lm.config.model_type}' does not keep the attention pattern it is asked for: under "
                    f"'{pattern}', position {i} {'sees' if moved[i, j] else 'does not see'} position {j}"
                )
    backbone.train(was_training)
