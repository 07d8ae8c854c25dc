"""Tiny models of many architectures with random weights, as their authors would publish them.

`make(name, text, folder)` writes one as `save_pretrained` does, with a tokenizer of one of eleven
kinds trained on a text. Matrices are eight times their initial size, and norms and biases differ
from 1 and 0, so that a layer that is left out shows. Nothing is downloaded.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

WINDOW = 16  # of every local attention: shorter than the rows that it is tried on
POSITIONS = 128
END = "<|endoftext|>"
CHAT = ("<|im_start|>", "<|im_end|>")
ROLES = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BRACKETS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def library_text() -> list[str]:
    """Paragraphs of the standard library's sources, every other one shorter than a row."""
    sources = [inspect.getsource(module) for module in (textwrap, inspect)]
    parts = [part for source in sources for part in source.split("\n\n") if len(part) > 40][:300]
    return [part[:120] if number % 2 else part[-24:] for number, part in enumerate(parts)]


# --------------------------------------------------------------------------------------- tokenizers


def byte_level(
    text: Sequence[str], specials: Sequence[str], normalizer: Any = None, **roles: str
) -> Any:
    """A byte-level BPE, as GPT-2 and most decoders since have one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def wordpiece(text: Sequence[str]) -> Any:
    """BERT's: lower case, words cut into pieces, spaces lost."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=400, special_tokens=list(BRACKETS), show_progress=False
    )
    tokenizer.train_from_iterator(text, trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **_brackets())


def unigram(text: Sequence[str]) -> Any:
    """T5's and XLM-R's: SentencePiece's unigram model, a space before every word."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=list(ROLES), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(text, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="<s>", sep_token="</s>", **_roles()
    )


def sentencepiece(text: Sequence[str]) -> Any:
    """Llama 2's: SentencePiece's BPE with bytes to fall back on and a space put before the text."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)],
        show_progress=False,
        max_token_length=8,
    )
    tokenizer.train_from_iterator(text, trainer)
    # the bytes are ordinary tokens of the vocabulary, only the first three are special
    state = Tokenizer.from_str(tokenizer.to_str())
    return PreTrainedTokenizerFast(
        tokenizer_object=state, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _roles() -> dict[str, str]:
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    return dict(zip(names, ROLES, strict=True))


def _brackets() -> dict[str, str]:
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return dict(zip(names, BRACKETS, strict=True))


def _added(text: Sequence[str]) -> Any:
    tokenizer = byte_level(text, [END], bos_token=END, eos_token=END)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
    return tokenizer


BOTH = ("<|begin_of_text|>", "<|end_of_text|>")
TOKENIZERS: dict[str, Callable[[Sequence[str]], Any]] = {
    "gpt2": lambda text: byte_level(text, [END], bos_token=END, eos_token=END, unk_token=END),
    "qwen": lambda text: byte_level(text, [END, *CHAT], eos_token=CHAT[1], pad_token=END),
    "llama3": lambda text: byte_level(text, BOTH, bos_token=BOTH[0], eos_token=BOTH[1]),
    "nothing": lambda text: byte_level(text, []),
    "roles": lambda text: byte_level(text, ROLES, **_roles()),
    "roberta": lambda text: byte_level(text, ROLES, cls_token="<s>", sep_token="</s>", **_roles()),
    "modernbert": lambda text: byte_level(text, BRACKETS, **_brackets()),
    "nfc": lambda text: byte_level(text, BOTH, normalizers.NFC(), **_both()),
    "added": _added,
    "wordpiece": wordpiece,
    "unigram": unigram,
    "sentencepiece": sentencepiece,
}


def _both() -> dict[str, str]:
    return {"bos_token": BOTH[0], "eos_token": BOTH[1]}


@cache
def tokenizer_of(kind: str, text: tuple[str, ...]) -> Any:
    """The tokenizer of a kind, trained once for each text."""
    return TOKENIZERS[kind](text)


# ------------------------------------------------------------------------------------------- models


@dataclass(frozen=True)
class Species:
    """How to make one of the models.

    kind: class of transformers. config: fields of its configuration.
    tokenizer: one of `TOKENIZERS`.
    spare: rows of its tables beyond the tokenizer's tokens.
    files: "whole", "sharded", "bin" (pickled weights alone) or "merges" (pickled weights, and
        vocab.json with merges.txt in place of tokenizer.json).
    dtype: of the saved weights.
    lowered: its logits lie far below 0, as those of GPT-2 do.
    """

    kind: str
    config: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = "gpt2"
    spare: int = 0
    files: str = "whole"
    dtype: torch.dtype = torch.float32
    lowered: bool = False

    @property
    def encoder(self) -> bool:
        return self.kind.endswith("ForMaskedLM")

    @property
    def experts(self) -> bool:
        """Whether it has a mixture of experts, whose products are single precision alone."""
        return any("expert" in key for key in self.config)


SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": POSITIONS,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS}
FALCON = {key: SIZES[key] for key in SIZES if key != "intermediate_size"}
OPT = {**FALCON, "ffn_dim": 48}
BERT = {**SIZES, "max_position_embeddings": POSITIONS + 2}
EXPERTS = {"num_experts_per_tok": 2}
ENDS = {"bos_token_id": 2, "eos_token_id": 3}  # of BRACKETS
LOCAL = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}


def _scaled(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_scaling": {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, **more}}


MODELS: dict[str, Species] = {
    "gpt2": Species("GPT2LMHeadModel", GPT2, lowered=True),
    "gpt2-added": Species("GPT2LMHeadModel", GPT2, "added"),
    "gpt-bigcode": Species("GPTBigCodeForCausalLM", GPT2),
    "gptj": Species("GPTJForCausalLM", {**GPT2, "rotary_dim": 4}),
    "codegen": Species("CodeGenForCausalLM", {**GPT2, "rotary_dim": 4}),
    "neox": Species("GPTNeoXForCausalLM", {**SIZES, "rotary_pct": 0.5}, spare=10),
    "neox-tied": Species("GPTNeoXForCausalLM", {**SIZES, "tie_word_embeddings": True}),
    "gpt-neo": Species(
        "GPTNeoForCausalLM",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": WINDOW,
            "max_position_embeddings": POSITIONS,
        },
    ),
    "opt": Species("OPTForCausalLM", {**OPT, "word_embed_proj_dim": 32}, "roles", files="merges"),
    "opt-projected": Species(
        "OPTForCausalLM",
        {**OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
        "roles",
    ),
    "bloom": Species("BloomForCausalLM", {"hidden_size": 32, "n_layer": 2, "n_head": 4}, "roles"),
    "mpt": Species(
        "MptForCausalLM", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": POSITIONS}
    ),
    "falcon": Species("FalconForCausalLM", FALCON),
    "falcon-alibi": Species("FalconForCausalLM", {**FALCON, "alibi": True}),
    "llama": Species("LlamaForCausalLM", GROUPED, "llama3"),
    "llama-tied": Species("LlamaForCausalLM", {**GROUPED, "tie_word_embeddings": True}, "llama3"),
    "llama-yarn": Species(
        "LlamaForCausalLM",
        GROUPED | _scaled("yarn", original_max_position_embeddings=32),
        "llama3",
    ),
    "llama-rope3": Species(
        "LlamaForCausalLM",
        GROUPED
        | _scaled(
            "llama3",
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
        "llama3",
    ),
    "llama-dynamic": Species("LlamaForCausalLM", GROUPED | _scaled("dynamic"), "llama3"),
    "llama-bf16": Species("LlamaForCausalLM", GROUPED, "llama3", dtype=torch.bfloat16),
    "llama-sharded": Species("LlamaForCausalLM", GROUPED, "llama3", files="sharded"),
    "llama-bin": Species("LlamaForCausalLM", GROUPED, "llama3", files="bin"),
    "llama-padded": Species("LlamaForCausalLM", GROUPED, "llama3", spare=10),
    "llama-added": Species("LlamaForCausalLM", GROUPED, "added"),
    "llama-nothing": Species("LlamaForCausalLM", GROUPED, "nothing"),
    "llama-nfc": Species("LlamaForCausalLM", GROUPED, "nfc"),
    "llama-sentencepiece": Species("LlamaForCausalLM", GROUPED, "sentencepiece"),
    "mistral": Species("MistralForCausalLM", {**GROUPED, "sliding_window": None}, "llama3"),
    "mistral-local": Species("MistralForCausalLM", {**GROUPED, "sliding_window": WINDOW}, "llama3"),
    "mixtral": Species(
        "MixtralForCausalLM",
        {**GROUPED, **EXPERTS, "num_local_experts": 4, "sliding_window": None},
        "llama3",
    ),
    "qwen2": Species("Qwen2ForCausalLM", GROUPED, "qwen"),
    "qwen2-padded": Species(
        "Qwen2ForCausalLM", {**GROUPED, "tie_word_embeddings": True}, "qwen", spare=10
    ),
    "qwen2-local": Species(
        "Qwen2ForCausalLM",
        {**GROUPED, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
        "qwen",
    ),
    "qwen3": Species("Qwen3ForCausalLM", {**GROUPED, "head_dim": 16}, "qwen"),
    "qwen3-moe": Species(
        "Qwen3MoeForCausalLM",
        {**GROUPED, **EXPERTS, "head_dim": 16, "num_experts": 4, "moe_intermediate_size": 16},
        "qwen",
    ),
    "gemma": Species("GemmaForCausalLM", {**GROUPED, "head_dim": 8}, "roles"),
    "gemma2": Species(
        "Gemma2ForCausalLM",
        {**GROUPED, **LOCAL, "head_dim": 8, "final_logit_softcapping": 3.0},
        "roles",
    ),
    "gemma3": Species(
        "Gemma3ForCausalLM",
        {**GROUPED, **LOCAL, "head_dim": 8, "query_pre_attn_scalar": 8},
        "roles",
    ),
    "phi": Species("PhiForCausalLM", SIZES),
    "phi3": Species("Phi3ForCausalLM", {**GROUPED, "pad_token_id": 0}, "llama3"),
    "phi3-local": Species(
        "Phi3ForCausalLM", {**GROUPED, "pad_token_id": 0, "sliding_window": WINDOW}, "llama3"
    ),
    "stablelm": Species("StableLmForCausalLM", GROUPED),
    "olmo2": Species("Olmo2ForCausalLM", GROUPED),
    "olmo3": Species("Olmo3ForCausalLM", {**GROUPED, **LOCAL}),
    "olmoe": Species("OlmoeForCausalLM", {**GROUPED, **EXPERTS, "num_experts": 4}),
    "granite": Species(
        "GraniteForCausalLM",
        {
            **GROUPED,
            "logits_scaling": 8.0,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.0625,
        },
    ),
    "granite-moe": Species(
        "GraniteMoeForCausalLM",
        {**GROUPED, **EXPERTS, "num_local_experts": 4, "logits_scaling": 4.0},
    ),
    "cohere": Species("CohereForCausalLM", {**GROUPED, "logit_scale": 0.25}, "roles"),
    "cohere2": Species("Cohere2ForCausalLM", {**GROUPED, **LOCAL, "logit_scale": 0.25}, "roles"),
    "smollm3": Species("SmolLM3ForCausalLM", {**GROUPED, "no_rope_layer_interval": 2}, "qwen"),
    "nanochat": Species("NanoChatForCausalLM", {**GROUPED, "final_logit_softcapping": 5.0}),
    "minicpm3": Species(
        "MiniCPM3ForCausalLM",
        {
            **SIZES,
            "num_key_value_heads": 4,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 8,
            "dim_model_base": 16,
        },
        "llama3",
    ),
    "hyperclovax": Species("HyperCLOVAXForCausalLM", {**GROUPED, "logits_scaling": 0.5}, "llama3"),
    "falcon-h1": Species(
        "FalconH1ForCausalLM",
        {
            **GROUPED,
            "head_dim": 8,
            "mamba_d_ssm": 32,
            "mamba_n_heads": 4,
            "mamba_d_head": 8,
            "mamba_d_state": 8,
            "mamba_n_groups": 1,
            "mamba_chunk_size": 16,
            "lm_head_multiplier": 0.5,
        },
    ),
    "gpt-oss": Species(
        "GptOssForCausalLM", {**GROUPED, **EXPERTS, **LOCAL, "head_dim": 8, "num_local_experts": 4}
    ),
    "deepseek-v3": Species(
        "DeepseekV3ForCausalLM",
        {
            **SIZES,
            **EXPERTS,
            "num_key_value_heads": 4,
            "moe_intermediate_size": 16,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 8,
        },
        "llama3",
    ),
    "mamba": Species(
        "MambaForCausalLM", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
    ),
    "rwkv": Species(
        "RwkvForCausalLM",
        {"hidden_size": 32, "num_hidden_layers": 2, "context_length": POSITIONS},
    ),
    "modernbert-decoder": Species(
        "ModernBertDecoderForCausalLM", {**SIZES, **ENDS, "local_attention": WINDOW}, "modernbert"
    ),
    "bert": Species("BertForMaskedLM", BERT, "wordpiece"),
    "bert-bytes": Species("BertForMaskedLM", BERT, "roberta"),
    "roberta": Species("RobertaForMaskedLM", BERT, "roberta"),
    "xlm-roberta": Species("XLMRobertaForMaskedLM", BERT, "unigram"),
    "distilbert": Species(
        "DistilBertForMaskedLM",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 128},
        "wordpiece",
    ),
    "electra": Species("ElectraForMaskedLM", {**BERT, "embedding_size": 16}, "wordpiece"),
    "albert": Species("AlbertForMaskedLM", {**BERT, "embedding_size": 16}, "unigram"),
    "modernbert": Species(
        "ModernBertForMaskedLM", {**SIZES, **ENDS, "local_attention": WINDOW}, "modernbert"
    ),
    "deberta": Species(
        "DebertaV2ForMaskedLM",
        {**BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8},
        "unigram",
    ),
    "eurobert": Species("EuroBertForMaskedLM", {**GROUPED, "mask_token_id": 4}, "roles"),
    "t5": Species(
        "T5ForConditionalGeneration",
        {"d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 4, "d_kv": 8},
        "unigram",
    ),
}


def make(name: str, text: Sequence[str], folder: Path) -> Species:
    """Writes a model of `MODELS` into a folder that is not there yet; returns how it was made."""
    species = MODELS[name]
    tokenizer = tokenizer_of(species.tokenizer, tuple(text))
    kind = getattr(transformers, species.kind)
    fields = {"vocab_size": len(tokenizer) + species.spare, **species.config}
    for role in ("bos", "eos", "pad", "cls", "sep"):
        token = getattr(tokenizer, f"{role}_token_id")
        if role in ("bos", "eos", "pad") or token is not None:
            fields.setdefault(f"{role}_token_id", token)
    torch.manual_seed(1)
    lm = kind(kind.config_class(**fields))
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim < 2:
                parameter += 0.1 * torch.randn_like(parameter)
            elif parameter.std() < 0.05:
                parameter *= 8
        if species.lowered:
            lm.transformer.ln_f.weight[0], lm.transformer.ln_f.bias[0] = 0.0, 10.0
            lm.get_input_embeddings().weight[:, 0] = -3.0
    lm.to(species.dtype)
    if species.files in ("bin", "merges"):
        folder.mkdir(parents=True)
        lm.config.architectures = [species.kind]
        lm.config.save_pretrained(folder)
        torch.save(lm.state_dict(), folder / "pytorch_model.bin")
    else:
        sharded = {"max_shard_size": "30KB"} if species.files == "sharded" else {}
        lm.save_pretrained(folder, **sharded)
    tokenizer.save_pretrained(folder)
    if species.files == "merges":
        _as_merges(tokenizer, folder)
    return species


def _as_merges(tokenizer: Any, folder: Path) -> None:
    """Leaves the tokenizer's vocab.json and merges.txt in place of its tokenizer.json."""
    tokenizer.backend_tokenizer.model.save(str(folder))
    (folder / "tokenizer.json").unlink()
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_class": "GPT2Tokenizer"}))
