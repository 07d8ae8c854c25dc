"""Filling masks: against naive loops over the stock model, and the joint law of two tokens against
enumeration.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from lookaround.decode.masked import Filled, fill, masked_tokens, quality
from lookaround.decode.sampling import filter_logits
from lookaround.decode.stats import Stats
from lookaround.model import Backbone
from lookaround.model.readable import Readable
from lookaround.objectives import Mode, Vocabulary
from lookaround.settings import GenerationConfig
from lookaround.support.errors import UserError

SHIFTS = [Mode("bidirectional", 0), Mode("bidirectional", 1)]
PAD, BOS, EOS, MASK = range(4)
CONTEXT = 12
PROMPT = [BOS, 5, 9, 4]


def tiny(size: int, spread: float, eos: int | None = EOS) -> Readable:
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
        eos_token_id=eos,
        tie_word_embeddings=True,
    )
    backbone = Backbone(LlamaForCausalLM(config))
    generator = torch.Generator().manual_seed(1)
    for parameter in backbone.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=spread, generator=generator)
    return readable(backbone.double().eval(), size, eos)


def readable(backbone: Any, size: int, eos: int | None = EOS) -> Readable:
    tokenizer: Any = SimpleNamespace(
        bos=BOS, eos=eos, vocabulary=Vocabulary(size, MASK, (PAD, BOS, EOS, MASK))
    )
    return Readable(backbone, tokenizer, tuple(SHIFTS), tuple(SHIFTS), CONTEXT, None)


def fill_one(
    readable: Readable,
    prompt: list[int],
    mode: Mode,
    max_new_tokens: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    **options: Any,
) -> Filled:
    config = GenerationConfig(max_new_tokens=max_new_tokens, temperature=temperature, **options)
    return fill(readable, [prompt], mode, config, seeds=[seed])[0]


@pytest.fixture(scope="module")
def model() -> Readable:
    return tiny(12, 0.15)


@pytest.fixture(scope="module")
def endless() -> Readable:
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
    mode: Mode, temperature: float, endless: Readable
) -> None:
    """Also beyond the window; and token by token the same comes out."""
    config = GenerationConfig(max_new_tokens=20, temperature=temperature)
    ids, generator = [*PROMPT], torch.Generator().manual_seed(7)
    for _ in range(20):
        seen = ids[-(CONTEXT - 1) :]
        log = laws(endless.backbone, mode, padded(seen), eos=False)[len(seen)]
        law = filter_logits(log, config).softmax(-1)
        ids.append(int(torch.multinomial(law, 1, generator=generator)))
    (filled,) = fill(endless, [PROMPT], mode, config, seeds=[7])
    assert filled.tokens == ids[4:]
    assert filled.order == [[place] for place in range(20)]
    assert filled.passes == 20
    assert filled.seconds > 0
    stats = Stats()
    for number, token in enumerate(
        masked_tokens(endless, PROMPT, mode, config, seed=7, stats=stats), start=1
    ):
        assert token == filled.tokens[number - 1]
        assert stats.passes == stats.tokens == number
    assert stats.tokens == 20


@pytest.mark.parametrize("mode", SHIFTS, ids=str)
@pytest.mark.parametrize("per_pass", [1, 2, 3])
def test_confidence_fills_the_most_certain_masks(
    mode: Mode, per_pass: int, endless: Readable
) -> None:
    window, order = padded([*PROMPT]), []
    masked = list(range(4, 4 + 7))  # and one more mask at the window's end that is not to be filled
    while masked:
        log = laws(endless.backbone, mode, window, eos=False)
        masked.sort(key=lambda place: -float(log[place].max()))
        chosen, masked = sorted(masked[:per_pass]), masked[per_pass:]
        for place in chosen:
            window[place] = int(log[place].argmax())
        order.append([place - 4 for place in chosen])
    filled = fill_one(
        endless, PROMPT, mode, 7, per_pass=per_pass, order="confidence", temperature=0.0
    )
    assert filled.tokens == window[4:11]
    assert filled.order == order
    assert filled.order != sorted(filled.order), (
        "the test says nothing where confidence runs from the left"
    )


@pytest.mark.parametrize("mode", SHIFTS, ids=str)
@pytest.mark.parametrize("order", ["left", "confidence"])
def test_all_in_one_pass_is_the_argmax_of_a_single_forward(
    mode: Mode, order: str, endless: Readable
) -> None:
    filled = fill_one(endless, PROMPT, mode, 8, per_pass=99, order=order, temperature=0.0)
    assert filled.passes == 1
    log = laws(endless.backbone, mode, padded([*PROMPT]), eos=False)
    assert filled.tokens == log[4:].argmax(-1).tolist()


@pytest.mark.parametrize("mode", SHIFTS, ids=str)
@pytest.mark.parametrize("order", ["left", "confidence"])
def test_texts_longer_than_the_window_are_filled_in_blocks(
    mode: Mode, order: str, endless: Readable
) -> None:
    """Eight tokens fill the window, then come three at a time: a quarter of it, behind the nine
    before them.
    """
    options: dict[str, Any] = {"per_pass": 99, "order": order, "temperature": 0.0}
    filled = fill_one(endless, PROMPT, mode, 13, **options)
    ids = [*PROMPT]
    for block in (8, 3, 2):
        seen = ids[-(CONTEXT - block) :]
        log = laws(endless.backbone, mode, padded(seen), eos=False)
        ids += log[len(seen) : len(seen) + block].argmax(-1).tolist()
    assert filled.tokens == ids[4:]
    assert filled.order == [[*range(8)], [8, 9, 10], [11, 12]]
    for context in (2, 3, 5):
        few = fill_one(replace(endless, context=context), PROMPT, mode, 6, **options)
        assert len(few.tokens) == 6


@pytest.mark.parametrize("order", ["left", "confidence"])
def test_tokens_come_as_soon_as_all_before_them_stand(order: str, model: Readable) -> None:
    config = GenerationConfig(max_new_tokens=20, temperature=1.0, per_pass=3, order=order)
    for seed in range(8):
        stats, passes, made = Stats(), [], []
        for token in masked_tokens(model, PROMPT, SHIFTS[1], config, seed=seed, stats=stats):
            made.append(token)
            passes.append(stats.passes)
        (filled,) = fill(model, [PROMPT], SHIFTS[1], config, seeds=[seed])
        assert made == filled.tokens
        assert stats.passes == filled.passes
        if order == "left":
            assert passes == [1 + place // 3 for place in range(len(made))]


@pytest.mark.parametrize("order", ["left", "confidence"])
def test_sharing_passes_changes_nothing(order: str, model: Readable) -> None:
    prompts = [[BOS, 4 + number % 8, 6, 11 - number // 2] for number in range(12)]
    config = GenerationConfig(max_new_tokens=20, temperature=1.0, per_pass=2, order=order)
    together = fill(model, prompts, SHIFTS[1], config, seeds=range(12))
    alone = [
        fill(model, [prompt], SHIFTS[1], config, seeds=[seed])[0]
        for seed, prompt in enumerate(prompts)
    ]
    assert [(f.tokens, f.order) for f in together] == [(f.tokens, f.order) for f in alone]
    assert len({len(f.tokens) for f in together}) > 1, "some of them should end early"


def test_a_prefix_model_is_read_token_by_token(endless: Readable) -> None:
    """All tokens before the next one see one another."""
    config, ids = GenerationConfig(max_new_tokens=6, temperature=0.0), [*PROMPT]
    for _ in range(6):
        with torch.no_grad():
            logits = endless.backbone.lm(torch.tensor([ids]), is_causal=False).logits[0, -1]
        logits[[PAD, BOS, EOS, MASK]] = -torch.inf
        ids.append(int(logits.argmax()))
    (filled,) = fill(endless, [PROMPT], Mode("prefix", 1), config, seeds=[0])
    assert filled.tokens == ids[4:]


# ---------------------------------------------------------------------------------------- laws


@pytest.mark.slow
@pytest.mark.parametrize("mode", SHIFTS, ids=str)
def test_two_tokens_have_the_law_they_should(mode: Mode) -> None:
    """One per pass: the chain rule.

    Both in one pass: the product of the marginals, and that is something else.
    """
    small = tiny(8, 0.5)
    backbone = small.backbone
    draws, ids = 4_000, [4, 5, 6, 7]
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
        config = GenerationConfig(max_new_tokens=2, temperature=1.0, per_pass=per_pass)
        for begin in range(0, draws, 2000):
            filled = fill(small, [start] * 2000, mode, config, seeds=range(begin, begin + 2000))
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
    mode: Mode, length: int, endless: Readable
) -> None:
    backbone = endless.backbone
    tokens = np.random.default_rng(length).integers(4, 40, size=length).tolist()
    ids, bits = [*PROMPT], []
    for token in tokens:
        seen = ids[-(CONTEXT - 1) :]
        log = laws(backbone, mode, padded(seen), eos=False)
        bits.append(-float(log[len(seen), token]) / math.log(2))
        ids.append(token)
    found = quality(endless, PROMPT, tokens, mode)
    assert found == pytest.approx(np.mean(bits), rel=1e-5)
    assert math.isnan(quality(endless, PROMPT, [], mode))


# ---------------------------------------------------------------------------------- ends and errors


def ending(at: int) -> Readable:
    """A stand-in whose law at place t of the window is token 10 + t, EOS at place `at`, the surer
    the further right.
    """

    class Fixed(torch.nn.Module):
        device = torch.device("cpu")
        output = SimpleNamespace(weight=torch.zeros(40, 1))
        lm = None

        def log_probabilities(self, shown: Any, state: Tensor, forbidden: Tensor) -> Tensor:
            place = state % CONTEXT + 1  # read with shift 1
            logits = torch.zeros(len(place), 40)
            logits[torch.arange(len(place)), torch.where(place == at, EOS, 10 + place)] = (
                5.0 + place
            )
            logits[:, forbidden] = -torch.inf
            return logits.log_softmax(-1)

    return readable(Fixed(), 40)


def greedy(at: int, order: str, per_pass: int) -> Filled:
    return fill_one(
        ending(at), PROMPT, SHIFTS[1], 8, per_pass=per_pass, order=order, temperature=0.0
    )


def test_text_ends_at_its_first_eos() -> None:
    whole = [10 + place for place in range(4, 12)]
    left = greedy(7, "left", 1)
    assert (left.tokens, left.order) == (whole[:3], [[0], [1], [2], [3]])
    left = greedy(7, "left", 3)
    assert (left.tokens, left.order) == (whole[:3], [[0, 1, 2], [3, 4, 5]])
    assert greedy(4, "left", 2).tokens == []
    sure = greedy(7, "confidence", 1)  # from the right here: what stands after EOS was filled first
    assert (sure.tokens, sure.order) == (whole[:3], [[place] for place in range(7, -1, -1)])
    assert greedy(4, "confidence", 3).tokens == []
    assert greedy(11, "confidence", 3).tokens == whole[:7]
    assert greedy(99, "confidence", 3).tokens == whole
    assert greedy(99, "left", 3).tokens == whole


@pytest.mark.slow
def test_confidence_makes_no_pass_for_what_would_be_dropped(model: Readable) -> None:
    short = 0
    for seed in range(40):
        filled = fill_one(model, PROMPT, SHIFTS[1], 8, seed=seed, order="confidence")
        assert EOS not in filled.tokens
        needed = set(range(min(len(filled.tokens) + 1, 8)))  # the text and its EOS
        before = {place for places in filled.order[:-1] for place in places}
        assert needed <= {*before, *filled.order[-1]}
        assert not needed <= before
        short += filled.passes < 8
    assert short, "some should have ended early"


def test_what_cannot_be_filled_is_refused(model: Readable) -> None:
    one = SHIFTS[0]
    for mode, options in (
        (Mode("causal", 1), {}),
        (Mode("prefix", 1), {"per_pass": 2}),
        (Mode("prefix", 1), {"order": "confidence"}),
    ):
        with pytest.raises(UserError, match=rf"mode '{mode.attention}, shift 1': .* bidirectional"):
            fill_one(model, PROMPT, mode, 4, **options)
        with pytest.raises(UserError, match=rf"mode '{mode.attention}, shift 1': .* bidirectional"):
            quality(model, PROMPT, [5], mode)
    with pytest.raises(UserError, match=r"prompts: have \[1, 4\] tokens"):
        fill(model, [PROMPT, [5]], one, GenerationConfig(), seeds=[0, 1])
    with pytest.raises(ValueError, match="zip"):
        fill(model, [PROMPT, PROMPT], one, GenerationConfig(), seeds=[0])
    with pytest.raises(UserError, match=r"tokens: \[2\] are special"):
        quality(model, PROMPT, [5, EOS], one)
