"""Log-likelihoods of continuations: against one pass of the stock model per token."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from conftest import byte_level
from lookaround.data.text import TextTokenizer
from lookaround.evaluation.likelihood import log_likelihoods, word_numbers
from lookaround.model import Backbone
from lookaround.model.readable import Readable
from lookaround.objectives import Mode
from lookaround.support.errors import UserError

CAUSAL, AT, BEFORE = Mode("causal", 1), Mode("bidirectional", 0), Mode("bidirectional", 1)
PREFIX = Mode("prefix", 1)
SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "mask_token": "<mask>"}
TEXTS = [
    ("the cat", " sat on the mat"),
    ("", "old men told long tales"),
    ("two dogs ran over", " hills"),
    ("a", " war"),
]


@pytest.fixture(scope="module")
def readable() -> Readable:
    """A random model in float64 whose windows have 40 tokens."""
    torch.manual_seed(0)
    tokenizer = TextTokenizer(byte_level([*SPECIAL.values()], **SPECIAL))
    config = LlamaConfig(
        vocab_size=tokenizer.size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.2,
    )
    backbone = Backbone(LlamaForCausalLM(config).double())
    modes = (CAUSAL, PREFIX, AT, BEFORE)
    return Readable(backbone, tokenizer, modes, modes, 40, None)


def encoded(readable: Readable) -> tuple[list[list[int]], list[list[int]]]:
    tokenizer = readable.tokenizer
    contexts = [[tokenizer.bos, *ids] for ids in tokenizer.encode([text for text, _ in TEXTS])]
    return contexts, tokenizer.encode([text for _, text in TEXTS])


def law(readable: Readable, tokens: list[int], state: int, seen: int | None) -> torch.Tensor:
    """Log-probabilities (V,) at a state of one row; seen: the length of a prefix, None: all."""
    lm: Any = readable.backbone.lm
    width = len(tokens)
    place = torch.arange(width)
    mask = torch.ones(width, width, dtype=torch.bool)
    if seen is not None:
        mask = (place[:, None] >= place) | ((place[:, None] < seen) & (place < seen))
    added = torch.zeros(1, 1, width, width, dtype=torch.float64).masked_fill(~mask, -1e9)
    with torch.no_grad():
        logits = lm(torch.tensor([tokens]), attention_mask=added).logits
    return logits[0, state].float().log_softmax(-1)


def naive(
    readable: Readable, mode: Mode, context: list[int], continuation: list[int], words: Any = None
) -> tuple[float, bool]:
    text, mask = [*context, *continuation], readable.tokenizer.vocabulary.mask
    total, greedy = 0.0, True
    for at in range(len(context), len(text)):
        row, seen = text[:at], None
        if words is not None:
            later = [i >= at and words[i] == words[at] for i in range(len(text))]
            row = [mask if hide else i for i, hide in zip(text, later, strict=True)]
            row = [*row, readable.tokenizer.eos]
        elif mode.attention == "causal":
            seen = 0
        else:
            row += [mask] * (readable.window(len(text)) - at)
            seen = at if mode.attention == "prefix" else None
        log_v = law(readable, row, at - mode.shift, seen)
        total += float(log_v[text[at]])
        greedy &= int(log_v.argmax()) == text[at]
    return total, greedy


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("mode", [CAUSAL, AT, BEFORE, PREFIX], ids=str)
def test_the_chain_rule_is_one_pass_per_token(readable: Readable, mode: Mode, whole: bool) -> None:
    readable = replace(readable, whole=whole)
    contexts, continuations = encoded(readable)
    found = log_likelihoods(readable, mode, contexts, continuations)
    for scored, context, continuation in zip(found, contexts, continuations, strict=True):
        nats, greedy = naive(readable, mode, context, continuation)
        assert scored.nats == pytest.approx(nats, abs=1e-4)
        assert scored.greedy == greedy
        best = [int(naive_best(readable, mode, context))]
        assert log_likelihoods(readable, mode, [context], [best])[0].greedy


def naive_best(readable: Readable, mode: Mode, context: list[int]) -> torch.Tensor:
    """The likeliest token after a context."""
    at, mask = len(context), readable.tokenizer.vocabulary.mask
    if mode.attention == "causal":
        return law(readable, context, at - 1, 0).argmax()
    row = [*context, *[mask] * (readable.window(at + 1) - at)]
    seen = at if mode.attention == "prefix" else None
    return law(readable, row, at - mode.shift, seen).argmax()


@pytest.mark.parametrize("mode", [AT, BEFORE], ids=str)
def test_pseudo_likelihood_masks_the_rest_of_the_word(readable: Readable, mode: Mode) -> None:
    contexts, continuations = encoded(readable)
    words = [[-1, *word_numbers(readable.tokenizer, "".join(pair))] for pair in TEXTS]
    after = [readable.tokenizer.eos]
    found = log_likelihoods(readable, mode, contexts, continuations, words=words, after=after)
    for scored, *given in zip(found, contexts, continuations, words, strict=True):
        assert scored == pytest.approx(naive(readable, mode, *given), abs=1e-4)


def test_words_are_those_of_the_text(readable: Readable) -> None:
    text = "Don't  re-read naïve_x9…"
    numbers = word_numbers(readable.tokenizer, text)
    ids = readable.tokenizer.encode([text])[0]
    parts: dict[int, list[int]] = {}
    for token, number in zip(ids, numbers, strict=True):
        parts.setdefault(number, []).append(token)
    made = [readable.tokenizer.decode(part).strip() for part in parts.values()]
    expected = ["Don", "'", "t", "re", "-", "read", "naïve_x9", "…"]
    assert [word for word in made if word] == expected


@pytest.mark.parametrize(("mode", "read"), [(CAUSAL, 41), (AT, 40)], ids=str)
def test_long_texts_lose_their_oldest_tokens(readable: Readable, mode: Mode, read: int) -> None:
    contexts, continuations = encoded(readable)
    long = [contexts[0][0], *contexts[0][1:] * 20]
    kept = long[len(long) + len(continuations[0]) - read :]
    one, other = log_likelihoods(readable, mode, [long, kept], [continuations[0]] * 2)
    assert one == pytest.approx(other)
    assert one != pytest.approx(log_likelihoods(readable, mode, [long[-9:]], continuations[:1])[0])


def test_forbidden_tokens_are_left_out_of_the_softmax(readable: Readable) -> None:
    contexts, continuations = encoded(readable)
    few = [[ids[0]] for ids in continuations]
    some = torch.tensor([0, 1, 2, 3])
    found = log_likelihoods(readable, CAUSAL, contexts, few, forbidden=some)
    for scored, context, ids in zip(found, contexts, few, strict=True):
        law_v = law(readable, context, len(context) - 1, 0).exp()
        assert scored.nats == pytest.approx(float((law_v[ids[0]] / law_v[4:].sum()).log()))


@pytest.mark.parametrize(
    ("mode", "context", "length", "words", "message"),
    [
        (CAUSAL, [], 2, None, "0 + 2 tokens"),
        (AT, [1], 40, None, "1 + 40 tokens cannot be read in a window of 40"),
        (CAUSAL, [1], 41, None, "1 + 41 tokens"),
        (CAUSAL, [1], 2, [[0, 1, 2]], "pseudo-likelihoods are of bidirectional modes"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    readable: Readable, mode: Mode, context: list[int], length: int, words: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message.replace("+", r"\+")):
        log_likelihoods(readable, mode, [context], [[5] * length], words=words)
