"""Minimal pairs: against one pass of the stock model per token, and against minicons."""

from __future__ import annotations

import json
import lzma
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from conftest import byte_level
from lookaround.data.text import TextTokenizer
from lookaround.evaluation.baselines import baseline_scores
from lookaround.evaluation.likelihood import log_likelihoods, word_numbers
from lookaround.evaluation.pairs import Pairs, UnigramPairs, preferred
from lookaround.evaluation.registry import PairData
from lookaround.model import Backbone
from lookaround.model.readable import Readable, open_run
from lookaround.objectives import Mode
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError

CAUSAL, MASKED = Mode("causal", 1), Mode("bidirectional", 1)
SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "mask_token": "<mask>"}
GOOD = ["the cats sat on a mat", "old men told tales", "two dogs ran", "a war", "hills " * 30]
BAD = ["the cats sits on a mat", "old men telling tales", "dogs two ran", "a war", "hill"]
PHENOMENA = ["agreement", "agreement", "order", "order", "long"]
SETTINGS = EvaluateSettings()


def readable_of(*modes: Mode, scale: float = 0.2) -> Readable:
    """A random model whose windows have 40 tokens."""
    torch.manual_seed(0)
    tokenizer = TextTokenizer(byte_level([*SPECIAL.values()], **SPECIAL))
    config = LlamaConfig(
        vocab_size=tokenizer.size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=scale,
    )
    return Readable(Backbone(LlamaForCausalLM(config)), tokenizer, modes, modes, 40, None)


def naive(readable: Readable, text: str, mode: Mode, width: int, *, pseudo: bool = False) -> float:
    """The log-likelihood of a text from one pass of the stock model per token."""
    codec, lm = readable.tokenizer, readable.backbone.lm
    ids, mask = [codec.bos, *codec.encode([text])[0]], codec.vocabulary.mask
    words, total = [-1, *word_numbers(codec, text)], 0.0
    for at in range(1, len(ids)):
        row = ids[:at] + [mask] * (width - at)
        if pseudo:
            later = [i >= at and words[i] == words[at] for i in range(len(ids))]
            row = [mask if hide else i for i, hide in zip(ids, later, strict=True)]
            row += [int(codec.eos or 0)]
        with torch.no_grad():
            logits = lm(torch.tensor([row]), is_causal=mode.attention == "causal").logits
        total += float(logits[0, at - mode.shift].log_softmax(-1)[ids[at]])
    return total


def outcomes(
    readable: Readable, mode: Mode, good: list[str], bad: list[str], *, pseudo: bool = False
) -> list[float]:
    found = []
    for pair in zip(good, bad, strict=True):
        longest = 1 + max(map(len, readable.tokenizer.encode(pair)))
        width = min(-(-longest // 8) * 8, readable.context)
        one, other = (naive(readable, text, mode, width, pseudo=pseudo) for text in pair)
        found.append(0.5 if abs(one - other) < 1e-4 else float(one > other))
    return found


@pytest.mark.parametrize("mode", [CAUSAL, MASKED, Mode("bidirectional", 0)], ids=str)
def test_the_likelier_text_is_that_of_one_pass_per_token(mode: Mode) -> None:
    readable = readable_of(mode)
    found = preferred(readable, mode, GOOD, BAD)
    assert found[:4].tolist() == outcomes(readable, mode, GOOD[:4], BAD[:4])
    assert found[3] == 0.5, "equal texts tie"
    assert np.isnan(found[4]), "longer than the window"
    turned = preferred(readable, mode, BAD, GOOD)
    assert turned[:4] == pytest.approx(1 - found[:4])
    if mode.attention == "bidirectional":
        found = preferred(readable, mode, GOOD, BAD, pseudo=True)
        assert found[:4].tolist() == outcomes(readable, mode, GOOD[:4], BAD[:4], pseudo=True)


def test_scores_are_by_phenomenon_and_of_both_likelihoods() -> None:
    readable = readable_of(CAUSAL, MASKED)
    data = PairData("blimp", GOOD, BAD, PHENOMENA)
    scores = Pairs().run(readable, data, SETTINGS, 0)
    chain = outcomes(readable, CAUSAL, GOOD[:4], BAD[:4])
    pseudo = outcomes(readable, MASKED, GOOD[:4], BAD[:4], pseudo=True)
    assert scores.metric == "accuracy"
    assert scores.value == np.mean(chain)
    assert scores.items == [chain]
    assert scores.details["left_out"] == 1
    for name, found, mode in (("chain", chain, CAUSAL), ("pseudo", pseudo, MASKED)):
        assert scores.details[name] == {
            "score": np.mean(found),
            "mode": str(mode),
            "by_phenomenon": {"agreement": np.mean(found[:2]), "order": np.mean(found[2:])},
        }
    again = json.loads(json.dumps(scores.details))
    assert again == scores.details
    causal = Pairs().run(readable_of(CAUSAL), data, SETTINGS, 0)
    assert causal.details.keys() == {"chain", "left_out"}
    unnamed = PairData("blimp", GOOD, BAD, [""] * 5)
    assert Pairs().run(readable, unnamed, SETTINGS, 0).details["chain"]["by_phenomenon"] == {}
    assert Pairs().cost(data, SETTINGS) == {"texts": 10}


def test_a_model_that_knows_nothing_of_order_ties() -> None:
    """Without any weights every token is as likely as another: equal lengths tie."""
    readable = readable_of(CAUSAL, MASKED, scale=0.0)
    scores = Pairs().run(
        readable, PairData("p", ["dogs ran over"], ["over dogs ran"], [""]), SETTINGS, 0
    )
    lengths = [len(ids) for ids in readable.tokenizer.encode(["dogs ran over", "over dogs ran"])]
    assert scores.value == (0.5 if lengths[0] == lengths[1] else float(lengths[0] < lengths[1]))


def test_pairs_that_all_are_too_long_are_refused() -> None:
    with pytest.raises(UserError, match="long: every pair has a text of more than 40 tokens"):
        Pairs().run(readable_of(CAUSAL), PairData("long", GOOD[4:], BAD[4:], [""]), SETTINGS, 0)


def test_the_unigram_row_is_of_token_frequencies() -> None:
    codec = readable_of(CAUSAL).tokenizer
    text = "the cats sat on a mat; the dogs ran; the men told"
    counts = np.bincount(codec.encode([text])[0], minlength=codec.size)
    data = PairData("p", ["the", "men ran", "told"], ["zzz", "ran men", "the"], ["a", "b", "b"])
    assert not UnigramPairs().accepts(data)
    data = PairData(data.name, data.good, data.bad, data.phenomena, codec, counts)

    def nats(word: str) -> float:
        return sum(
            float(np.log((counts[i] + 1) / (counts.sum() + codec.size)))
            for i in codec.encode([word])[0]
        )

    expected = [
        0.5 if abs(nats(a) - nats(b)) < 1e-6 else float(nats(a) > nats(b))
        for a, b in zip(data.good, data.bad, strict=True)
    ]
    assert expected[0] == 1
    scores = UnigramPairs().run(None, data, SETTINGS, 0)
    assert scores.items == [expected]
    assert scores.details["by_phenomenon"] == {"a": expected[0], "b": np.mean(expected[1:])}
    assert baseline_scores(data, SETTINGS, {"pairs"}) == {"unigram": scores.value}


# -------------------------------------------------------------------------- another implementation


def blimp(folder: Path, every: int) -> tuple[list[str], list[str]]:
    """Every so manieth pair."""
    with lzma.open(folder / "pairs" / "blimp.jsonl.xz", "rt") as file:
        rows = [json.loads(line) for line in islice(file, 0, None, every)]
    return [row["sentence_good"] for row in rows], [row["sentence_bad"] for row in rows]


def nats_of(readable: Readable, texts: list[str], **options: Any) -> list[float]:
    codec = readable.tokenizer
    contexts = [[codec.bos]] * len(texts)
    found = log_likelihoods(readable, readable.modes[0], contexts, codec.encode(texts), **options)
    return [each.nats for each in found]


def test_likelihoods_are_those_of_minicons(real_data: Path) -> None:
    scorer = pytest.importorskip("minicons.scorer", reason="minicons is in the [eval] extra")
    folder = real_data / "models" / "stories260K"
    readable, (good, bad) = open_run(folder), blimp(real_data, 2001)
    theirs = scorer.IncrementalLMScorer(str(folder), device="cpu")
    sums = [
        theirs.sequence_score(texts, bos_token=True, reduction=lambda nats: nats.sum().item())
        for texts in (good, bad)
    ]
    for texts, expected in zip((good, bad), sums, strict=True):
        assert nats_of(readable, texts) == pytest.approx(expected, abs=1e-4)
    found = preferred(readable, CAUSAL, good, bad)
    assert found.tolist() == [float(a > b) for a, b in zip(*sums, strict=True)]


def bert(folder: Path) -> None:
    """A random BERT whose WordPiece breaks words into several tokens."""
    letters = [chr(ord("a") + i) for i in range(26)]
    words = ["the", "ca", "dog", "ran", "told", "##s", "##t", "##ing"]
    tokens = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", ".", "'", *letters, *words]
    tokens += [f"##{letter}" for letter in letters if f"##{letter}" not in tokens]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "cls", "sep", "mask", "unk")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    BertForMaskedLM(config).save_pretrained(folder)


def test_pseudo_likelihoods_are_those_of_minicons(tmp_path: Path) -> None:
    scorer = pytest.importorskip("minicons.scorer", reason="minicons is in the [eval] extra")
    bert(tmp_path)
    readable = open_run(tmp_path)
    texts = ["The dogs ran.", "cats' tales told the cat", "Telling dogs, don't sit.", "ran"]
    theirs = scorer.MaskedLMScorer(str(tmp_path), device="cpu")
    theirs.tokenizer.batch_encode_plus = theirs.tokenizer  # its name before transformers 5
    expected = theirs.sequence_score(
        texts, reduction=lambda nats: nats.sum().item(), PLL_metric="within_word_l2r"
    )
    words = [[-1, *word_numbers(readable.tokenizer, text)] for text in texts]
    after = [readable.tokenizer.eos]
    assert nats_of(readable, texts, words=words, after=after) == pytest.approx(expected, abs=1e-4)
