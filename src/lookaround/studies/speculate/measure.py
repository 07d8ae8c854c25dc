"""What drafts bring: speed beside plain generation, and the same text."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from lookaround.decode.speculative import Speculator
from lookaround.decode.stats import Stats
from lookaround.decode.tree import Tree
from lookaround.evaluation.bits_per_byte import bits_per_byte, chain_rule_bits, scored_tokens
from lookaround.evaluation.intervals import seed_interval
from lookaround.evaluation.own_text import text_rows
from lookaround.model.backbone import Backbone
from lookaround.objectives.contract import Mode
from lookaround.studies.speculate.reference import to_float64, transformers_generate
from lookaround.studies.speculate.request import Speculation
from lookaround.studies.speculate.samples import Tell
from lookaround.support.records import Amount, Count, Part, Positive, Stored

TEXTS = 8  # texts that a speed is measured on, at least
LOOPS = 3  # turns of our own loop without drafts, which no speed-up is over
AT_ONCE = 32  # texts that are compared at a time


class StoredSpeed(Stored):
    """What `measure_speed` gives."""

    batch: Count
    nodes: Count
    tokens_per_forward: Amount
    plain_tokens_per_second: Positive
    loop_tokens_per_second: Positive
    speculative_tokens_per_second: Positive
    speedup: Positive
    interval: Annotated[list[Amount], Field(min_length=2, max_length=2)] | None


class StoredTexts(Stored):
    """What `compare_texts` gives."""

    tokens_per_forward: Amount
    flips: Count
    acceptance_by_depth: list[Part]


def next_token_bits(request: Speculation, backbone: Backbone) -> float | None:
    """Bits per byte of the next token on the held-out text; None for a lossy tokenizer."""
    run, settings = request.run, request.settings.evaluate
    if not request.test:
        return None
    rows = text_rows(run, request.test)
    if rows.codec.unit != "byte":
        return None
    scored = scored_tokens(rows, settings)
    return bits_per_byte(chain_rule_bits(backbone, rows, scored, Mode("causal", 1)), scored)[0]


def measure_speed(
    request: Speculation, speculator: Speculator, reference: Any, tell: Tell, batch: int
) -> dict[str, Any]:
    """Tokens per second of transformers, and of our loop without drafts and with them.

    Each turn takes other prompts, on which the ways of generating follow one another; so the
    quotient of two ways is one of neighbours, and its interval is over turns. Geometric means,
    whose quotient is the mean quotient.
    reference: the model that transformers generates with.
    """
    options, eos = request.settings.speculate, request.run.eos
    prompts, tree = request.asked(request.measure), speculator.tree_for(batch)
    stats: list[Stats] = []

    def plain(some: list[list[int]], new: int) -> int:
        return sum(map(len, transformers_generate(reference, some, new, eos)))

    def loop(some: list[list[int]], new: int) -> int:
        made = speculator.generate(some, max_new_tokens=new, eos=eos, tree=Tree())
        return made.stats.tokens

    def drafts(some: list[list[int]], new: int) -> int:
        stats.append(speculator.generate(some, max_new_tokens=new, eos=eos, tree=tree).stats)
        return stats[-1].tokens

    ways: dict[str, Callable[[list[list[int]], int], int]] = {"plain": plain, "loop": loop}
    ways |= {"speculative": drafts} if len(tree) else {}
    for write in ways.values():  # what the first call sets up is not timed
        write(prompts[:1] * batch, 2)
    stats.clear()
    rates: dict[str, list[float]] = {way: [] for way in ways}
    turns = max(options.rounds, TEXTS // batch)
    for turn in range(turns):
        some = [prompts[(turn * batch + i) % len(prompts)] for i in range(batch)]
        for way, write in ways.items():
            if way == "loop" and len(tree) and turn >= LOOPS:
                continue
            done = request.batches.index(batch) + turn / turns
            tell("measuring speed", done, len(request.batches))
            clock = time.perf_counter()
            tokens = write(some, options.new_tokens)
            rates[way].append(tokens / (time.perf_counter() - clock))
    fast = rates["speculative"] if len(tree) else rates["loop"]
    found = seed_interval((np.log(fast) - np.log(rates["plain"])).tolist())
    told = math.isfinite(found.low)
    means = {way: float(np.exp(np.mean(np.log(rate)))) for way, rate in rates.items()}
    return {
        "batch": batch,
        "nodes": len(tree),
        "tokens_per_forward": _tokens_per_forward(stats) if len(tree) else 1.0,
        "plain_tokens_per_second": means["plain"],
        "loop_tokens_per_second": means["loop"],
        "speculative_tokens_per_second": means.get("speculative", means["loop"]),
        "speedup": math.exp(found.mean),
        "interval": [math.exp(found.low), math.exp(found.high)] if told else None,
    }


def _tokens_per_forward(stats: Sequence[Stats]) -> float:
    """Tokens per sequence and pass after the prompt's, of several generations."""
    return sum(part.stepped for part in stats) / max(sum(part.steps for part in stats), 1)


def compare_texts(
    request: Speculation, speculator: Speculator, reference: Any, tell: Tell
) -> dict[str, Any]:
    """Texts with drafts beside those of transformers, in the precision that was timed."""
    stats: list[Stats] = []
    plain = _plain_texts(request, reference, tell, 0)
    drafted = _drafted_texts(request, speculator, speculator.tree_for(1), stats, tell, 1)
    tried, accepted = (
        np.sum([getattr(part, name) for part in stats], 0) for name in ("tried", "accepted")
    )
    return {
        "tokens_per_forward": _tokens_per_forward(stats),
        "flips": sum(mine != theirs for mine, theirs in zip(drafted, plain, strict=True)),
        "acceptance_by_depth": (accepted[tried > 0] / tried[tried > 0]).tolist(),
    }


def same_in_float64(
    request: Speculation, speculator: Speculator, reference: Any, tell: Tell
) -> bool:
    """Whether all texts with drafts are those of transformers, token for token, in float64.

    The two models are used up, one after the other, so that one of them at a time is that large.
    """
    to_float64(reference, reference)
    plain = _plain_texts(request, reference, tell, 2)
    reference.to("meta")
    to_float64(speculator.backbone, speculator.backbone.lm)
    tree = speculator.tree_for(1)
    tree = tree if len(tree) else Tree.chain(speculator.depths)  # something must be drafted
    return _drafted_texts(request, speculator, tree, [], tell, 3) == plain


def _plain_texts(request: Speculation, reference: Any, tell: Tell, number: int) -> list[list[int]]:
    """Texts of transformers, a pass over the prompts of this number."""
    new, eos = request.settings.speculate.new_tokens, request.run.eos
    return [
        text
        for prompts in _parts(request, tell, number)
        for text in transformers_generate(reference, prompts, new, eos)
    ]


def _drafted_texts(
    request: Speculation,
    speculator: Speculator,
    tree: Tree,
    stats: list[Stats],
    tell: Tell,
    number: int,
) -> list[list[int]]:
    """Texts with drafts, a pass over the prompts of this number.

    stats: what they took is added.
    """
    new, eos = request.settings.speculate.new_tokens, request.run.eos
    texts: list[list[int]] = []
    for prompts in _parts(request, tell, number):
        made = speculator.generate(prompts, max_new_tokens=new, eos=eos, tree=tree)
        texts += made.tokens
        stats.append(made.stats)
    return texts


def _parts(request: Speculation, tell: Tell, number: int) -> Iterator[list[list[int]]]:
    """The prompts a few at a time, in a pass of this number over them."""
    prompts, passes = request.asked(request.measure), 2 if request.own_precision else 4
    for begin in range(0, len(prompts), AT_ONCE):
        tell(
            "comparing with plain generation",
            number * len(prompts) + begin,
            passes * len(prompts),
        )
        yield prompts[begin : begin + AT_ONCE]
