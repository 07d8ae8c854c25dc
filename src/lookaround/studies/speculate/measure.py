"""Trees by timing this device, then speed, acceptance and equality with plain generation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

from lookaround.decode.calibrate import (
    BUDGETS,
    Cost,
    accuracies,
    choose_trees,
    draft_ranks,
    frequent_tokens,
)
from lookaround.decode.speculative import Speculator
from lookaround.decode.stats import Stats
from lookaround.decode.tree import Tree, expected_tokens, grow_from_ranks
from lookaround.evaluation.bits_per_byte import bits_per_byte, chain_rule_bits, scored_tokens
from lookaround.evaluation.own_text import text_rows
from lookaround.model.backbone import Backbone
from lookaround.objectives.contract import Mode
from lookaround.studies.speculate.request import Speculation
from lookaround.studies.speculate.samples import CHUNK, Tell


@dataclass(frozen=True)
class Calibration:
    """Trees by number of sequences, what was timed, accuracies (K, ranks), tokens per step."""

    trees: dict[int, Tree]
    largest: Tree
    shortlist: list[int] | None
    costs: list[Cost]
    accuracies: np.ndarray
    expected: float


def frequent_shortlist(
    request: Speculation, samples: list[tuple[np.ndarray, int]]
) -> list[int] | None:
    """The tokens to draft: those that make up most of the samples and the training text."""
    counts = np.zeros(request.run.backbone.output.weight.shape[0], dtype=np.int64)
    for ids in [ids for ids, _ in samples] + request.train:
        counts += np.bincount(ids, minlength=len(counts))
    return frequent_tokens(counts, request.settings.speculate.coverage)


def calibrate(
    request: Speculation, backbone: Backbone, shortlist: list[int] | None, tell: Tell
) -> Calibration:
    """Grows trees from the model's greedy text on held-out prompts and times them here."""
    options, run = request.settings.speculate, request.run
    plain = Speculator(backbone, Tree(), shortlist=shortlist, checked=True)
    texts: list[list[int]] = []
    for begin in range(0, len(request.calibrate), CHUNK):
        prompts = request.calibrate[begin : begin + CHUNK]
        made = plain.generate(
            prompts, max_new_tokens=options.new_tokens, eos=run.tokenizer.eos
        ).tokens
        texts += [[*prompt, *text] for prompt, text in zip(prompts, made, strict=True)]
        tell(
            "accuracies on held-out prompts",
            min(begin + CHUNK, len(request.calibrate)),
            len(request.calibrate),
            "",
        )
    ranks = draft_ranks(plain, texts, [len(prompt) for prompt in request.calibrate])
    grown = grow_from_ranks(ranks, BUDGETS)
    trees, costs = choose_trees(
        plain,
        grown,
        request.calibrate,
        options.batches,
        report=lambda done, total: tell("timing trees on this device", done, total, ""),
    )
    expected, _ = expected_tokens(trees[min(trees)], ranks)
    return Calibration(trees, grown[BUDGETS[-1]][0], shortlist, costs, accuracies(ranks), expected)


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


def transformers_generate(
    lm: Any, prompts: Sequence[Sequence[int]], new: int, eos: int | None
) -> list[list[int]]:
    """Greedy `model.generate` on prompts of equal length: the new tokens of each, up to its EOS."""
    ids = torch.tensor([list(prompt) for prompt in prompts], device=lm.device)
    made = lm.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        do_sample=False,
        use_cache=True,
        eos_token_id=eos,
        pad_token_id=0 if eos is None else eos,
    )
    texts = made[:, ids.shape[1] :].tolist()
    return [text[: text.index(eos) + 1] if eos in text else text for text in texts]


def _tokens_per_forward(stats: Sequence[Stats]) -> float:
    """Tokens per sequence and pass after the prompt's, of several generations."""
    return sum(part.stepped for part in stats) / max(sum(part.steps for part in stats), 1)


def measure(request: Speculation, speculator: Speculator, tell: Tell) -> dict[str, Any]:
    """Times transformers' generation, ours without and with drafts, and checks equality."""
    options, run = request.settings.speculate, request.run
    lm, eos, new = speculator.backbone.lm, run.tokenizer.eos, options.new_tokens
    by_batch = []
    for number, batch in enumerate(options.batches):
        tree = speculator.tree_for(batch)
        # enough text at small numbers of sequences
        more = max(1, min(len(request.measure) // batch, 8 // batch))
        groups = [
            [request.measure[(g * batch + i) % len(request.measure)] for i in range(batch)]
            for g in range(more)
        ]
        drafts = {"plain": None, "loop": Tree(), "speculative": tree}
        times: dict[str, list[float]] = {way: [] for way in drafts}
        for _ in range(options.rounds):
            for way, nodes in drafts.items():
                clock = time.perf_counter()
                if nodes is None:
                    made = [transformers_generate(lm, prompts, new, eos) for prompts in groups]
                    tokens = sum(len(text) for texts in made for text in texts)
                else:
                    stats = [
                        speculator.generate(prompts, max_new_tokens=new, eos=eos, tree=nodes).stats
                        for prompts in groups
                    ]
                    tokens = sum(part.tokens for part in stats)
                times[way].append(tokens / (time.perf_counter() - clock))
        rates = {way: median(stats_by_part) for way, stats_by_part in times.items()}
        by_batch.append(
            {
                "batch": batch,
                "nodes": len(tree),
                "tokens_per_forward": _tokens_per_forward(stats),  # of the last round, with drafts
                **{f"{way}_tokens_per_second": rate for way, rate in rates.items()},
                "speedup": rates["speculative"] / rates["plain"],
            }
        )
        tell("measuring speed", number + 1, len(options.batches), "")
    flips, identical, stats_by_part = 0, True, []
    one = speculator.tree_for(1)
    dtype = lm.dtype
    for begin in range(0, len(request.measure), 32):
        prompts = request.measure[begin : begin + 32]
        expected = transformers_generate(lm, prompts, new, eos)
        made_here = speculator.generate(prompts, max_new_tokens=new, eos=eos, tree=one)
        flips += sum(
            mine != theirs for mine, theirs in zip(made_here.tokens, expected, strict=True)
        )
        stats_by_part.append(made_here.stats)
        speculator.backbone.double()
        identical &= speculator.generate(
            prompts, max_new_tokens=new, eos=eos, tree=one
        ).tokens == transformers_generate(lm, prompts, new, eos)
        speculator.backbone.to(dtype)
        tell(
            "comparing with plain generation",
            min(begin + 32, len(request.measure)),
            len(request.measure),
            "",
        )
    tried, accepted = (
        np.sum([getattr(part, name) for part in stats_by_part], 0) for name in ("tried", "accepted")
    )
    first = by_batch[0]
    paying = [entry["batch"] for entry in by_batch if entry["speedup"] > 1]
    return {
        "plain": {"tokens_per_second": first["plain_tokens_per_second"]},
        "speculative": {
            "tokens_per_forward": _tokens_per_forward(stats_by_part),
            "tokens_per_second": first["speculative_tokens_per_second"],
            "identical": bool(identical),
            "flips": flips,
            "acceptance_by_depth": (accepted[tried > 0] / tried[tried > 0]).tolist(),
        },
        "precision": str(dtype).removeprefix("torch."),
        "prompts": len(request.measure),
        "new_tokens": new,
        "by_batch": by_batch,
        "pays_up_to_batch": max(paying, default=None),
    }
