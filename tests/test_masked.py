"""Filling masks: against naive loops over the stock model, and the joint law of two tokens against
enumeration.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from lookaround.decode.masked import Filled, fill, fill_many, quality
from lookaround.decode.sampling import continue_tokens, filter_log_probabilities
from lookaround.model import Backbone
from lookaround.objectives import Mode, Vocabulary
from lookaround.support.errors import UserError

SHIFTS = [Mode("bidirectional", 0), Mode("bidirectional", 1)]
PAD, BOS, EOS, MASK = range(4)
CONTEXT = 12
PROMPT = [5, 9, 4]


def tiny(size: int, spread: float, eos: int | None = EOS) -> tuple[Backbone, Any]:
    """A random model in float64 that feels every token of its window, and a tokenizer of `size`
    ids.
    """
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        tie_word_embeddings=True,
    )
    backbone = Backbone(LlamaForCausalLM(config))
    generator = torch.Generator().manual_seed(1)
    for parameter in backbone.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=spread, generator=generator)
    tokenizer = SimpleNamespace(
        bos=BOS, eos=eos, vocabulary=Vocabulary(size, MASK, (PAD, BOS, EOS, MASK))
    )
    return backbone.double().eval(), tokenizer


@pytest.fixture(scope="module")
def model() -> tuple[Backbone, Any]:
    return tiny(12, 0.15)


@pytest.fixture(scope="module")
def endless() -> tuple[Backbone, Any]:
    """One without EOS, so that every text has its full length."""
    return tiny(40, 0.4, eos=None)


@torch.no_grad()
def laws(backbone: Backbone, mode: Mode, window: list[int], *, eos: bool) -> Tensor:
    """Log-probabilities (T, V) of the token at every place of one window, out of the stock model by
    definition.
    """
    logits = backbone.lm(torch.tensor([window]), is_causal=False).logits[0].clone()
    logits[:, [PAD, BOS, MASK] if eos else [PAD, BOS, EOS, MASK]] = -torch.inf
    log = logits.log_softmax(-1)
    return log if mode.shift == 0 else torch.cat([torch.full_like(log[:1], math.nan), log[:-1]])


def padded(ids: list[int]) -> list[int]:
    return ids + [MASK] * (CONTEXT - len(ids))


# ---------------------------------------------------------------------------------------- orders


@pytest.mark.parametrize("mode", SHIFTS, ids=str)
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_one_per_pass_from_the_left_is_a_loop_over_the_next_token(
    mode: Mode, temperature: float, endless: tuple[Backbone, Any]
) -> None:
    """Also beyond the window; and `continue_tokens` makes the same draws: no mask of its windows
    differs.
    """
    backbone, tokenizer = endless
    options: dict[str, Any] = {
        "context": CONTEXT,
        "max_new_tokens": 20,
        "temperature": temperature,
        "seed": 7,
    }
    ids, generator = [BOS, *PROMPT], torch.Generator().manual_seed(7)
    for _ in range(20):
        seen = ids[-(CONTEXT - 1) :]
        log = laws(backbone, mode, padded(seen), eos=False)[len(seen)].float()
        law = filter_log_probabilities(log, temperature=temperature)
        ids.append(int(torch.multinomial(law, 1, generator=generator)))
    filled = fill(backbone, tokenizer, PROMPT, mode, **options)
    assert filled.tokens == ids[4:]
    assert filled.tokens == list(continue_tokens(backbone, tokenizer, PROMPT, mode, **options))
    assert filled.order == [[place] for place in range(20)]
    assert filled.passes == 20
    assert filled.seconds > 0


@pytest.mark.parametrize("mode", SHIFTS, ids=str)
@pytest.mark.parametrize("per_pass", [1, 2, 3])
def test_confidence_fills_the_most_certain_masks(
    mode: Mode, per_pass: int, endless: tuple[Backbone, Any]
) -> None:
    backbone, tokenizer = endless
    window, order = padded([BOS, *PROMPT]), []
    masked = list(range(4, 4 + 7))  # and one more mask at the window's end that is not to be filled
    while masked:
        log = laws(backbone, mode, window, eos=False)
        masked.sort(key=lambda place: -float(log[place].max()))
        chosen, masked = sorted(masked[:per_pass]), masked[per_pass:]
        for place in chosen:
            window[place] = int(log[place].argmax())
        order.append([place - 4 for place in chosen])
    seen: list[list[int | None]] = []
    filled = fill(
        backbone,
        tokenizer,
        PROMPT,
        mode,
        context=CONTEXT,
        max_new_tokens=7,
        per_pass=per_pass,
        order="confidence",
        temperature=0.0,
        on_pass=seen.append,
    )
    assert filled.tokens == window[4:11]
    assert filled.order == order
    assert filled.order != sorted(filled.order), (
        "the test says nothing where confidence runs from the left"
    )
    standing: set[int] = set()
    for places, so_far in zip(order, seen, strict=True):
        standing |= set(places)
        assert so_far == [filled.tokens[place] if place in standing else None for place in range(7)]


@pytest.mark.parametrize("mode", SHIFTS, ids=str)
@pytest.mark.parametrize("order", ["left", "confidence"])
def test_all_in_one_pass_is_the_argmax_of_a_single_forward(
    mode: Mode, order: str, endless: tuple[Backbone, Any]
) -> None:
    backbone, tokenizer = endless
    filled = fill(
        backbone,
        tokenizer,
        PROMPT,
        mode,
        context=CONTEXT,
        max_new_tokens=8,
        per_pass=99,
        order=order,
        temperature=0.0,
    )
    assert filled.passes == 1
    assert (
        filled.tokens
        == laws(backbone, mode, padded([BOS, *PROMPT]), eos=False)[4:].argmax(-1).tolist()
    )


@pytest.mark.parametrize("mode", SHIFTS, ids=str)
@pytest.mark.parametrize("order", ["left", "confidence"])
def test_texts_longer_than_the_window_are_filled_in_blocks(
    mode: Mode, order: str, endless: tuple[Backbone, Any]
) -> None:
    """Eight tokens fill the window, then come three at a time: a quarter of it, behind the nine
    before them.
    """
    backbone, tokenizer = endless
    options: dict[str, Any] = {
        "context": CONTEXT,
        "per_pass": 99,
        "order": order,
        "temperature": 0.0,
    }
    filled = fill(backbone, tokenizer, PROMPT, mode, max_new_tokens=13, **options)
    ids = [BOS, *PROMPT]
    for block in (8, 3, 2):
        seen = ids[-(CONTEXT - block) :]
        log = laws(backbone, mode, padded(seen), eos=False)
        ids += log[len(seen) : len(seen) + block].argmax(-1).tolist()
    assert filled.tokens == ids[4:]
    assert filled.order == [[*range(8)], [8, 9, 10], [11, 12]]
    for context in (2, 3, 5):
        few = fill(
            backbone, tokenizer, PROMPT, mode, max_new_tokens=6, **options | {"context": context}
        )
        assert len(few.tokens) == 6


@pytest.mark.parametrize("order", ["left", "confidence"])
def test_sharing_passes_changes_nothing(order: str, model: tuple[Backbone, Any]) -> None:
    backbone, tokenizer = model
    prompts = [[4 + number % 8, 6, 11 - number // 2] for number in range(12)]
    options: dict[str, Any] = {
        "context": CONTEXT,
        "max_new_tokens": 20,
        "per_pass": 2,
        "order": order,
    }
    together = fill_many(backbone, tokenizer, prompts, SHIFTS[1], seeds=range(12), **options)
    alone = [
        fill(backbone, tokenizer, prompt, SHIFTS[1], seed=seed, **options)
        for seed, prompt in enumerate(prompts)
    ]
    assert [(f.tokens, f.order) for f in together] == [(f.tokens, f.order) for f in alone]
    assert len({len(f.tokens) for f in together}) > 1, "some of them should end early"


# ---------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("mode", SHIFTS, ids=str)
def test_two_tokens_have_the_law_they_should(mode: Mode) -> None:
    """One per pass: the chain rule.

    Both in one pass: the product of the marginals, and that is something else.
    """
    backbone, tokenizer = tiny(8, 0.5)
    draws, ids = 12_000, [4, 5, 6, 7]
    start = [BOS, 6, 4]
    first = laws(backbone, mode, padded(start), eos=True).exp()
    chain: dict[tuple[int, ...], float] = {(): float(first[3, EOS])}
    product: dict[tuple[int, ...], float] = dict(chain)
    for a, b in itertools.product(ids, [EOS, *ids]):
        text = (a,) if b == EOS else (a, b)
        second = laws(backbone, mode, padded([*start, a]), eos=True)[4, b].exp()
        chain[text] = float(first[3, a] * second)
        product[text] = float(first[3, a] * first[4, b])
    assert sum(chain.values()) == pytest.approx(1)
    assert sum(product.values()) == pytest.approx(1)

    def drawn(per_pass: int) -> Counter[tuple[int, ...]]:
        counts: Counter[tuple[int, ...]] = Counter()
        for begin in range(0, draws, 2000):
            filled = fill_many(
                backbone,
                tokenizer,
                [start[1:]] * 2000,
                mode,
                context=CONTEXT,
                max_new_tokens=2,
                per_pass=per_pass,
                seeds=range(begin, begin + 2000),
            )
            counts.update(tuple(one.tokens) for one in filled)
        return counts

    def agreement(counts: Counter[tuple[int, ...]], law: dict[tuple[int, ...], float]) -> float:
        """P(a chi-square as large) under `law`, rare outcomes pooled."""
        assert set(counts) <= set(law)
        often = [text for text in law if law[text] * draws >= 5]
        expected = (
            np.array([*(law[text] for text in often), 1 - sum(law[text] for text in often)]) * draws
        )
        seen = np.array(
            [*(counts[text] for text in often), draws - sum(counts[text] for text in often)]
        )
        some = expected > 1e-6 * draws
        assert not seen[~some].any()
        return float(
            stats.chisquare(seen[some], expected[some] / expected[some].sum() * draws).pvalue
        )

    one, both = drawn(1), drawn(2)
    assert agreement(one, chain) > 1e-3
    assert agreement(both, product) > 1e-3
    assert agreement(both, chain) < 1e-9


@pytest.mark.parametrize("mode", SHIFTS, ids=str)
@pytest.mark.parametrize("length", [1, 6, 100])
def test_quality_is_the_chain_rule_position_by_position(
    mode: Mode, length: int, endless: tuple[Backbone, Any]
) -> None:
    backbone, tokenizer = endless
    tokens = np.random.default_rng(length).integers(4, 40, size=length).tolist()
    ids, bits = [BOS, *PROMPT], []
    for token in tokens:
        seen = ids[-(CONTEXT - 1) :]
        log = laws(backbone, mode, padded(seen), eos=False)
        bits.append(-float(log[len(seen), token]) / math.log(2))
        ids.append(token)
    found = quality(backbone, tokenizer, PROMPT, tokens, mode, context=CONTEXT)
    assert found == pytest.approx(np.mean(bits), rel=1e-5)
    assert math.isnan(quality(backbone, tokenizer, PROMPT, [], mode, context=CONTEXT))


# ---------------------------------------------------------------------------------- ends and errors


def ending(at: int) -> tuple[Backbone, Any]:
    """A stand-in whose law at place t of the window is token 10 + t, EOS at place `at`, the surer
    the further right.
    """

    class Fixed(torch.nn.Module):
        device = torch.device("cpu")

        def log_probabilities(self, shown: Any, state: Tensor, forbidden: Tensor) -> Tensor:
            place = state % CONTEXT + 1  # read with shift 1
            logits = torch.zeros(len(place), 40)
            logits[torch.arange(len(place)), torch.where(place == at, EOS, 10 + place)] = (
                5.0 + place
            )
            logits[:, forbidden] = -torch.inf
            return logits.log_softmax(-1)

    fixed: Any = Fixed()
    return fixed, tiny(40, 0.1)[1]


def greedy(at: int, order: str, per_pass: int, seen: list[Any] | None = None) -> Filled:
    backbone, tokenizer = ending(at)
    return fill(
        backbone,
        tokenizer,
        PROMPT,
        SHIFTS[1],
        context=CONTEXT,
        max_new_tokens=8,
        per_pass=per_pass,
        order=order,
        temperature=0.0,
        on_pass=None if seen is None else seen.append,
    )


def test_text_ends_at_its_first_eos() -> None:
    whole = [10 + place for place in range(4, 12)]
    left = greedy(7, "left", 1)
    assert (left.tokens, left.order) == (whole[:3], [[0], [1], [2], [3]])
    seen: list[Any] = []
    left = greedy(7, "left", 3, seen)
    assert (left.tokens, left.order) == (whole[:3], [[0, 1, 2], [3, 4, 5]])
    assert seen == [whole[:3], [*whole[:3], EOS, *whole[4:6]]]
    assert greedy(4, "left", 2).tokens == []
    sure = greedy(7, "confidence", 1)  # from the right here: what stands after EOS was filled first
    assert (sure.tokens, sure.order) == (whole[:3], [[place] for place in range(7, -1, -1)])
    assert greedy(4, "confidence", 3).tokens == []
    assert greedy(11, "confidence", 3).tokens == whole[:7]
    assert greedy(99, "confidence", 3).tokens == whole
    assert greedy(99, "left", 3).tokens == whole


def test_confidence_makes_no_pass_for_what_would_be_dropped(model: tuple[Backbone, Any]) -> None:
    backbone, tokenizer = model
    options: dict[str, Any] = {"context": CONTEXT, "max_new_tokens": 8, "order": "confidence"}
    short = 0
    for seed in range(40):
        seen: list[list[int | None]] = []
        filled = fill(
            backbone, tokenizer, PROMPT, SHIFTS[1], seed=seed, on_pass=seen.append, **options
        )
        assert EOS not in filled.tokens
        last = seen[-1]
        end = last.index(EOS) if EOS in last else 8
        assert last[:end] == filled.tokens
        assert filled.passes == len(seen)
        before = [so_far for so_far in seen[:-1] if EOS in so_far]
        assert all(None in so_far[: so_far.index(EOS)] for so_far in before)
        short += filled.passes < 8
    assert short, "some should have ended early"


def test_what_cannot_be_filled_is_refused(model: tuple[Backbone, Any]) -> None:
    backbone, tokenizer = model
    options: dict[str, Any] = {"context": CONTEXT, "max_new_tokens": 4}
    for mode in (Mode("causal", 1), Mode("prefix", 1)):
        with pytest.raises(UserError, match=rf"mode '{mode.attention}, shift 1': .* bidirectional"):
            fill(backbone, tokenizer, PROMPT, mode, **options)
        with pytest.raises(UserError, match=rf"mode '{mode.attention}, shift 1': .* bidirectional"):
            quality(backbone, tokenizer, PROMPT, [5], mode, context=CONTEXT)
    with pytest.raises(UserError, match="per_pass: 0 tokens"):
        fill(backbone, tokenizer, PROMPT, SHIFTS[0], per_pass=0, **options)
    with pytest.raises(UserError, match="order 'right': unknown; known are left, confidence"):
        fill(backbone, tokenizer, PROMPT, SHIFTS[0], order="right", **options)
    with pytest.raises(UserError, match="context: a window of 1 leaves no room"):
        fill(backbone, tokenizer, PROMPT, SHIFTS[0], context=1, max_new_tokens=4)
    with pytest.raises(UserError, match="context: a window of 1 leaves no room"):
        quality(backbone, tokenizer, PROMPT, [5], SHIFTS[0], context=1)
    with pytest.raises(UserError, match=r"prompts: have \[1, 3\] tokens"):
        fill_many(backbone, tokenizer, [PROMPT, [5]], SHIFTS[0], seeds=[0, 1], **options)
    with pytest.raises(UserError, match="seeds: 1 for 2 prompts"):
        fill_many(backbone, tokenizer, [PROMPT, PROMPT], SHIFTS[0], seeds=[0], **options)
    with pytest.raises(UserError, match=r"tokens: \[2\] are special"):
        quality(backbone, tokenizer, PROMPT, [5, EOS], SHIFTS[0], context=CONTEXT)
    assert (
        fill(backbone, tokenizer, PROMPT, SHIFTS[0], context=CONTEXT, max_new_tokens=0).tokens == []
    )
