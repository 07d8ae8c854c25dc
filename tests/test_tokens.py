"""Tokens around a text: what begins and ends it, what its bytes are, how much of it is read."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import lookaround
from cli_runs import TINY, TINY_EVALUATION, Run
from conftest import byte_level, sentences
from lookaround.data.corpus import make_corpus
from lookaround.data.rows import Rows
from lookaround.data.shards import in_memory, prepare
from lookaround.data.text import LOSSY, Lost, TextTokenizer, load_tokenizer, train_tokenizer
from lookaround.decode import Stats, Writer, generate
from lookaround.decode.masked import fill
from lookaround.evaluation.bits_per_byte import (
    TOKENS_PER_PASS,
    chain_rule_bits,
    choose_tokens,
    scored_tokens,
)
from lookaround.evaluation.own_text import text_rows
from lookaround.model.backbone import Backbone
from lookaround.model.readable import open_run
from lookaround.objectives.contract import Mode, Shown
from lookaround.objectives.heads import LookAheadSpec
from lookaround.settings import EvaluateSettings, GenerationConfig
from lookaround.support.errors import UserError

END, STOP = "<|endoftext|>", "<|end|>"


def bpe(specials: tuple[str, ...] = (END, STOP), **roles: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE."""
    return byte_level(specials, **roles)


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
    tokens = [token for token, _ in Writer(run, cold).tokens(ids, Stats())]
    assert tokens == expected[:-1]


def test_every_eos_ends_a_text_of_masks(tmp_path: Path) -> None:
    tokenizer = bpe((END, STOP, "<mask>"), bos_token=END, eos_token=END, mask_token="<mask>")
    lm = llama()
    lm.generation_config.eos_token_id = [0, 1]
    run = open_run(saved(tmp_path / "m", lm, tokenizer))
    cold = GenerationConfig(max_new_tokens=6, temperature=0, per_pass=2)
    mode = Mode("bidirectional", 1)
    (whole,) = fill(run, [[0, 20, 21]], mode, cold, seeds=[0])
    assert len(whole.tokens) == 6
    with torch.no_grad():
        table = lm.lm_head.weight
        table[[1, whole.tokens[2]]] = table[[whole.tokens[2], 1]]
    run = open_run(saved(tmp_path / "n", lm, tokenizer))
    (ended,) = fill(run, [[0, 20, 21]], mode, cold, seeds=[0])
    assert ended.tokens == whole.tokens[: whole.tokens.index(whole.tokens[2])]


# ------------------------------------------------------------------------------------ the first


def test_a_tokenizer_of_ours_begins_a_text_as_training_did() -> None:
    tokenizer = train_tokenizer(sentences(40), 300)
    (ids,) = tokenizer.encode(["the cat"])
    assert tokenizer.hf("the cat").input_ids == [tokenizer.bos, *ids]
    assert tokenizer.hf("").input_ids == [tokenizer.bos]
    assert tokenizer.bos not in ids
    assert tokenizer.hf("the", "cat").input_ids.count(tokenizer.bos) == 1
    assert next(iter(tokenizer.documents(["the cat"]))).tolist() == [
        *tokenizer.hf("the cat").input_ids,
        tokenizer.eos,
    ]


def test_what_is_saved_says_how_long_a_text_is_and_nothing_of_this_machine(tmp_path: Path) -> None:
    train_tokenizer(sentences(40), 300).save(tmp_path / "made")
    loaded = load_tokenizer(str(tmp_path / "made"))
    loaded.save(tmp_path / "run", mask=True, length=16)
    told = json.loads((tmp_path / "run" / "tokenizer_config.json").read_text())
    assert told["model_max_length"] == 16
    assert not {"is_local", "local_files_only"} & {*told}
    hf = AutoTokenizer.from_pretrained(tmp_path / "run")
    assert len(hf("the cat sat on the mat " * 9, truncation=True).input_ids) == 16


def test_greedy_text_is_that_of_transformers_from_the_tokenizers_own_ids(
    ar_run: Path,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(ar_run)
    assert tokenizer.model_max_length == 32
    lm = transformers.AutoModelForCausalLM.from_pretrained(ar_run)
    ids = tokenizer("the cat", return_tensors="pt").input_ids
    expected = lm.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    (made,) = generate(
        open_run(ar_run), ["the cat"], GenerationConfig(max_new_tokens=12, temperature=0)
    )
    assert made.tokens == [token for token in expected.tolist() if token != tokenizer.eos_token_id]


def test_shards_are_keyed_by_special_tokens(tmp_path: Path) -> None:
    """Of one tokenizer.json, as Llama 3 and Llama 3 Instruct share it."""
    stores = []
    corpus = make_corpus("c", [*dict.fromkeys(sentences(40))], {})
    for number, eos in enumerate((END, STOP)):
        folder = tmp_path / str(number)
        bpe(bos_token=END, eos_token=END).save_pretrained(folder)
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token": eos}))
        stores.append(prepare(corpus, vocabulary=300, tokenizer=str(folder), cache=tmp_path))
    assert stores[0].fingerprint != stores[1].fingerprint
    for store, eos in zip(stores, (0, 1), strict=True):
        split = store.split("test")
        assert int(split.read(0, int(split.length[0]) - 1, 1)[0]) == eos


# --------------------------------------------------------------------------------- what is said


def metaspace() -> PreTrainedTokenizerFast:
    """Puts a space before each text and takes one away from it, as Llama 2 does."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
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
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(sentences(40), trainer)
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def composing() -> PreTrainedTokenizerFast:
    tokenizer = bpe(bos_token=END, eos_token=END)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def wordpiece() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    roles = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=150, special_tokens=roles, show_progress=False, initial_alphabet=list("abcTAO.")
    )
    tokenizer.train_from_iterator(sentences(40), trainer)
    names = {f"{role[1:-1].lower()}_token": role for role in roles}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def unigram() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    trainer = trainers.UnigramTrainer(
        vocab_size=80, special_tokens=[*roles.values()], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(sentences(40), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


@pytest.mark.parametrize("make", [bpe, metaspace, composing, unigram])
def test_bytes_are_those_of_the_text(make: Callable[[], Any]) -> None:
    hf = make() if make is not bpe else bpe(bos_token=END, eos_token=END)
    texts = [*sentences(5), "Zoe\u0301’s cafe\u0301 🐈 and the cat " * 3, "the"]
    tokenizer = TextTokenizer(hf)
    rows = Rows(in_memory(texts, tokenizer), 512, tokenizer)
    scored = choose_tokens(rows, (1,), 10_000)
    unknown = hf.unk_token_id
    for number, text in enumerate(texts):
        ids = rows.split.read(number, 0, int(rows.split.length[number])).tolist()
        size = scored.size[scored.document == number]
        if not {*ids[1:]} <= {unknown, tokenizer.eos}:
            assert size.sum() == pytest.approx(len(text.encode()), rel=1e-12)
        if make is bpe:
            assert np.array_equal(size, tokenizer.units[scored.token[scored.document == number]])


def test_a_lossy_tokenizer_counts_bytes_with_a_note_or_tokens() -> None:
    plain = ["the cat sat on a mat"] * 400
    exact = TextTokenizer(bpe(bos_token=END, eos_token=END)).measured(plain)
    assert (exact.unit, exact.lost, exact.notes) == ("byte", Lost(), [])
    few = TextTokenizer(composing()).measured([*plain, *["cafe\u0301"] * 10])
    assert few.unit == "byte"
    assert 0 < few.lost.share < LOSSY
    (note,) = few.notes
    assert note == (
        "The tokenizer loses 0.25 % of the characters ('cafe\u0301' comes back as 'caf\xe9'); "
        "what is lost costs no bits."
    )
    much = TextTokenizer(wordpiece()).measured(["The Old Tale"])
    assert much.lost.share == pytest.approx(3 / 12)
    assert (much.unit, {*much.units[5:].tolist()}) == ("token", {1})
    assert not much.units[list(much.vocabulary.special)].any()
    assert "'The Old Ta' comes back as 'the old ta'" in much.notes[0]
    assert "bits are per token" in much.notes[0]


def test_a_lossy_tokenizer_trains_and_is_told_per_token(run: Run, tmp_path: Path) -> None:
    wordpiece().save_pretrained(tmp_path / "t")
    lines = [line.title() for line in dict.fromkeys(sentences(60))]
    (tmp_path / "c.txt").write_text("\n\n".join(lines))
    small = (*TINY, "--tokenizer", tmp_path / "t", "--budget", "2500", "--out", tmp_path / "m")
    done = run("pretrain", tmp_path / "c.txt", *small)
    assert done.code == 0, done.err
    assert "loses" not in done.err, "nothing counts bytes here"
    done = run("evaluate", tmp_path / "m", *TINY_EVALUATION, "--json", tmp_path / "e.json")
    assert done.code == 0, done.err
    assert "bits per token" in done.err + done.out, done.out
    assert "per byte" not in done.err + done.out
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["unit"] == "token"
    assert sum("loses" in note for note in found["notes"]) == 1, found["notes"]
    assert found["bits_per_byte"] > 1


def test_folders_with_the_files_of_a_slow_tokenizer_are_read(tmp_path: Path) -> None:
    hf = bpe(bos_token=END, eos_token=END)
    described = json.loads(hf.backend_tokenizer.to_str())["model"]
    folder = tmp_path / "gpt2"
    transformers.GPT2Config().save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(hf.get_vocab()))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in described["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (read,), (expected,) = (
        tokenizer.encode(["the cat sat"])
        for tokenizer in (load_tokenizer(str(folder)), TextTokenizer(hf))
    )
    assert read == expected
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    with pytest.raises(UserError, match=r"has no tokens but special ones; its vocabulary \(tok"):
        load_tokenizer(str(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"there is no tokenizer\.json in this folder: no Hugging"):
        load_tokenizer(str(tmp_path / "empty"))


def test_an_unknown_name_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="tokenizer 'nobody/nothing': no Hugging Face tok") as found:
        load_tokenizer("nobody/nothing")
    assert "\n" not in str(found.value)


# ------------------------------------------------------------------------------ how much is read


def test_a_model_is_read_through_its_own_length(tmp_path: Path) -> None:
    run = open_run(saved(tmp_path / "m", llama(max_position_embeddings=1200)))
    assert run.context == 1200
    ids = [0, *run.tokenizer.encode(["the cat sat " * 400])[0]][:1000]
    config = GenerationConfig(max_new_tokens=4, temperature=0)
    with torch.no_grad():
        expected = run.backbone.lm.generate(
            torch.tensor([ids]), max_new_tokens=4, do_sample=False, eos_token_id=None
        )[0, 1000:]
    made = [token for token, _ in Writer(run, config).tokens(ids, Stats())]
    assert made == expected.tolist()
    short = GenerationConfig(max_new_tokens=4, temperature=0, context=50)
    (made,) = generate(run, ["the cat sat " * 20], short)
    writer = Writer(run, short)
    (tail,) = generate(run, ["the cat sat " * 20], config)
    assert (tail.cut, made.cut) == (0, len(writer.ids(made.prompt)) - 50)
    with pytest.raises(
        UserError, match=r"generate\.context: 1201 is longer than the 1200 positions of .*m"
    ):
        Writer(run, GenerationConfig(context=1201))


def test_an_export_without_its_run_file_keeps_the_training_length(
    ar_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(ar_run, tmp_path / "m")
    (tmp_path / "m" / "run.yaml").unlink()
    alone, run = open_run(tmp_path / "m"), open_run(ar_run)
    assert alone.info is None
    assert (alone.context, alone.window(9)) == (run.context, run.window(9)) == (32, 32)
    assert run.backbone.limit == 512


def test_drafts_change_no_text_that_outgrows_the_window(tmp_path: Path) -> None:
    run = open_run(saved(tmp_path / "m", llama()))
    drafting = replace(run, backbone=Backbone(run.backbone.lm, [LookAheadSpec("medusa", 3)]))
    for context, new in ((None, 40), (None, 90), (28, 20), (28, 40)):
        config = GenerationConfig(max_new_tokens=new, temperature=0, context=context)
        (plain,), (made,) = (generate(each, ["the cat"], config) for each in (run, drafting))
        assert made.tokens == plain.tokens
        assert len(made.tokens) == new
        whole = len(run.tokenizer.encode(["the cat"])[0]) + 1 + new <= (context or 64)
        assert bool(made.stats.tried) == whole


def test_rows_are_as_long_as_the_longest_text_and_passes_are_bounded(tmp_path: Path) -> None:
    """A window of 131,072 positions is no row of so many."""
    lm = llama(max_position_embeddings=131_072)
    run = open_run(saved(tmp_path / "m", lm))
    texts = [f"{number} the cat sat on a mat" for number in range(80)]
    assert text_rows(run, texts).width < 64
    texts.append("the dogs ran over green hills " * 300)
    rows = text_rows(run, texts)
    assert rows.width == int(rows.split.length.max()) > 1024
    scored = scored_tokens(rows, EvaluateSettings(positions=20))
    seen = []
    states = run.backbone.states

    def watched(shown: Shown, **options: Any) -> Any:
        seen.append(tuple(shown.input_ids.shape))
        return states(shown, **options)

    run.backbone.states = watched  # type: ignore[method-assign]
    bits = chain_rule_bits(run.backbone, rows, scored, Mode("causal", 1))
    assert max(rows * width for rows, width in seen) <= TOKENS_PER_PASS
    assert min(width for _, width in seen) < 64, "short rows are not filled up"
    special = [*run.tokenizer.vocabulary.special, run.tokenizer.vocabulary.mask]
    for k in (0, len(bits) // 2, len(bits) - 1):
        ids = rows.take(scored.row[k : k + 1]).tokens[:, : scored.position[k]]
        with torch.no_grad():
            logits = lm(ids).logits[0, -1]
        logits[[i for i in special if i < len(logits)]] = -torch.inf
        expected = -float(logits.log_softmax(-1)[scored.token[k]]) / math.log(2)
        assert bits[k] == pytest.approx(expected, abs=1e-3)


def test_what_is_cut_is_said(run: Run, tmp_path: Path) -> None:
    model = saved(tmp_path / "m", llama())
    (tmp_path / "c.txt").write_text("\n\n".join(dict.fromkeys(sentences(40, length=(20, 90)))))
    long = "the cat sat on the mat " * 20
    rows = [f"{long} {number}\t{number % 2}" for number in range(30)]
    (tmp_path / "t.tsv").write_text("\n".join(["text\tlabel", *rows]))
    done = run(
        *("evaluate", model, "--corpus", tmp_path / "c.txt", "--task", tmp_path / "t.tsv"),
        *(*TINY_EVALUATION, "--context", "48", "--json", tmp_path / "e.json"),
    )
    assert done.code == 0, done.err
    notes = json.loads((tmp_path / "e.json").read_text())["notes"]
    assert any("test documents were cut into windows of 48 tokens" in note for note in notes)
    assert "t: 30 of 30 texts were cut to 48 tokens" in notes
    assert "were cut to 48 tokens" in " ".join((done.out + done.err).split())
    for context, code in (("64", 0), ("65", 2)):
        done = run("generate", model, long, "--max-new-tokens", "2", "--context", context)
        assert done.code == code, done.err
        said = " ".join((done.out + done.err).split())
        assert (
            "is longer than the 64 positions" if code else "were not read: the model is"
        ) in said


# ---------------------------------------------------------------------------------------- chat

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize("begins", [False, True])
def test_a_chat_prompt_is_what_transformers_makes_of_it(begins: bool, tmp_path: Path) -> None:
    marks = ("<|im_start|>", "<|im_end|>")
    roles = {"bos_token": END} if begins else {}
    tokenizer = bpe(
        (END, *marks), eos_token="<|im_end|>", additional_special_tokens=[*marks], **roles
    )
    tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + TEMPLATE
    lm = llama(eos_token_id=2)
    run = open_run(saved(tmp_path / "m", lm, tokenizer))
    asked = [{"role": "user", "content": "the cat?"}]
    ids = tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    config = GenerationConfig(max_new_tokens=8, temperature=0, chat=True)
    writer = Writer(run, config)
    run.tokenizer.encode(["<|im_end|>"])  # text that spells a special token stays text elsewhere
    assert writer.ids("the cat?") == ids[0].tolist()
    assert ids[0].tolist().count(0) == begins
    never = [0, 1, run.tokenizer.vocabulary.mask]
    expected = lm.generate(
        ids, max_new_tokens=8, do_sample=False, suppress_tokens=[i for i in never if i < 270]
    )[0, ids.shape[1] :].tolist()
    (made,) = generate(run, ["the cat?"], config)
    assert made.prompt == "the cat?"
    assert made.tokens == [token for token in expected if token != 2]
    assert "assistant" not in made.text
    again = lookaround.load(tmp_path / "m").generate(
        "the cat?", chat=True, max_new_tokens=8, temperature=0
    )
    assert again[0].tokens == made.tokens


def test_chat_is_refused_without_a_template(run: Run, tmp_path: Path) -> None:
    model = saved(tmp_path / "m", llama())
    done = run("generate", model, "hello", "--chat")
    assert done.code == 2
    assert "generate.chat: tokenizer" in done.err
    assert "has no chat template" in " ".join(done.err.split())
