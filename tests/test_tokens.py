"""Tokens around a text: what begins and ends it, what its bytes are, how much of it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from conftest import sentences
from lookaround.decode import Stats, Writer
from lookaround.decode.masked import fill
from lookaround.model.readable import open_run
from lookaround.objectives.contract import Mode
from lookaround.settings import GenerationConfig

END, STOP = "<|endoftext|>", "<|end|>"


def bpe(specials: tuple[str, ...] = (END, STOP), **roles: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=270,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(40), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def llama(**options: Any) -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 270,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    lm = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes | options)).eval()
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return lm


def saved(folder: Path, lm: Any, tokenizer: Any = None) -> Path:
    lm.save_pretrained(folder)
    (tokenizer or bpe(bos_token=END, eos_token=END)).save_pretrained(folder)
    return folder


# ------------------------------------------------------------------------------------- the last


@pytest.mark.parametrize("special", [False, True])
def test_every_eos_of_the_model_ends_a_text(special: bool, tmp_path: Path) -> None:
    """As in model.generate, whether or not the tokenizer calls it special."""
    more = {"additional_special_tokens": [STOP]} if special else {}
    tokenizer = bpe(bos_token=END, eos_token=END, **more)
    lm = llama()
    lm.generation_config.eos_token_id = [0, 1]
    ids = [0, *tokenizer("the cat").input_ids]
    start = torch.tensor([ids])
    plain = lm.generate(start, max_new_tokens=8, do_sample=False, eos_token_id=None)[0, len(ids) :]
    with torch.no_grad():  # the fourth token becomes the second EOS
        table = lm.lm_head.weight
        table[[1, int(plain[3])]] = table[[int(plain[3]), 1]]
    expected = lm.generate(start, max_new_tokens=8, do_sample=False)[0, len(ids) :].tolist()
    assert expected[-1] == 1
    assert 1 < len(expected) <= 4
    run = open_run(saved(tmp_path / "m", lm, tokenizer))
    assert run.eos == (0, 1)
    assert not {0, 1} & {*run.unwritten.tolist()}
    cold = GenerationConfig(max_new_tokens=8, temperature=0)
    tokens = [token for token, _ in Writer(run, cold).tokens(ids[1:], Stats())]
    assert tokens == expected[:-1]


def test_every_eos_ends_a_text_of_masks(tmp_path: Path) -> None:
    tokenizer = bpe((END, STOP, "<mask>"), bos_token=END, eos_token=END, mask_token="<mask>")
    lm = llama()
    lm.generation_config.eos_token_id = [0, 1]
    run = open_run(saved(tmp_path / "m", lm, tokenizer))
    cold = GenerationConfig(max_new_tokens=6, temperature=0, per_pass=2)
    mode = Mode("bidirectional", 1)
    (whole,) = fill(run, [[20, 21]], mode, cold, seeds=[0])
    assert len(whole.tokens) == 6
    with torch.no_grad():
        table = lm.lm_head.weight
        table[[1, whole.tokens[2]]] = table[[whole.tokens[2], 1]]
    run = open_run(saved(tmp_path / "n", lm, tokenizer))
    (ended,) = fill(run, [[20, 21]], mode, cold, seeds=[0])
    assert ended.tokens == whole.tokens[: whole.tokens.index(whole.tokens[2])]
