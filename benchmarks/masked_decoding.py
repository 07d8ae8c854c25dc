"""Masked decoding: tokens per second against quality, by order and tokens per pass.

    lookaround pretrain --objective mdlm --budget 1M --learning-rate 0.002 --out runs/mdlm-nano
    lookaround pretrain --objective ar --budget 1M --learning-rate 0.004 --out runs/ar-nano
    python -m benchmarks.masked_decoding runs/mdlm-nano --judge runs/ar-nano \\
        --json results/data/masked-decoding.json

About 3 minutes on one core, after the two models; without --judge its columns stay empty.

Continues 16 tokens by at most 48, from the left and by confidence, 1 to 16 tokens per pass, at
temperatures 1 and 0.7. The prompts are the first tokens of test documents of the run's own corpus;
where those are fewer than `--prompts`, also of their second 64 tokens, and so on. Prompts of one
setting share their passes (`--batch`), and each has the same seed in every setting. A row of the
table:

* passes: of one continuation, the mean; tokens: kept of it, up to EOS; tokens/s: kept per second,
  of the whole batch.
* bits/token: under the model itself, one token per pass from the left
  (`lookaround.decode.masked.quality`), all bits over all
  tokens; *cost*: that less the bits of order "left", 1 per pass, at the same temperature, over the
  same prompts. A lower
  temperature makes text likelier than the model's own law has it: few bits are then no sign of
  quality by themselves, so
  distinct-2 stands beside them.
* judge: bits per token under a causal model with the same tokenizer.
* distinct-2: different pairs of neighbouring tokens over all such pairs, in each continuation; the
  mean.

The first row is what the corpus says after the prompts. Intervals are 95 % bootstrap intervals over
the prompts' documents: one model, one seed. Special tokens are left out of every softmax.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.records import write_record
from benchmarks.tables import interval
from lookaround.decode.masked import Filled, fill, quality
from lookaround.evaluation.intervals import Interval, bootstrap_interval
from lookaround.evaluation.own_text import own_text, text_data
from lookaround.model.readable import Readable, open_run
from lookaround.objectives import Shown
from lookaround.objectives.contract import Mode
from lookaround.settings import GenerationConfig, Settings
from lookaround.support.errors import UserError

PROMPT, NEW = 16, 48
ORDERS = ("left", "confidence")
PER_PASS = (1, 2, 4, 8, 16)
TEMPERATURES = (1.0, 0.7)
RESAMPLES = 2000


# -------------------------------------------------------------------------------------------- texts


def test_texts(run: Readable, count: int) -> tuple[list[list[int]], np.ndarray]:
    """PROMPT + NEW ids without BOS, `count` times, and the test document that each is from
    (count,).
    """
    own = own_text(run, Settings().data)
    if own is None:
        raise UserError(
            "this model names no corpus of its own; give a run of `lookaround pretrain`"
        )
    split, width = text_data(run, own).test.split, PROMPT + NEW
    whole = (split.length - 2) // width  # without BOS and EOS
    places = [
        (piece, document)
        for piece in range(whole.max())
        for document in np.flatnonzero(whole > piece)
    ]
    if len(places) < count:
        raise UserError(
            f"--prompts {count}: the test documents have only {len(places)} times {width} tokens"
        )
    texts = [
        split.read(int(document), 1 + piece * width, width).tolist()
        for piece, document in places[:count]
    ]
    return texts, np.array([document for _, document in places[:count]])


def continuations(
    run: Readable, mode: Mode, prompts: list[list[int]], batch: int, **options: Any
) -> tuple[list[Filled], float]:
    """Every prompt continued, and the seconds it took."""
    filled: list[Filled] = []
    seconds = 0.0
    for begin in range(0, len(prompts), batch):
        group = [[run.tokenizer.bos, *prompt] for prompt in prompts[begin : begin + batch]]
        config = GenerationConfig(max_new_tokens=NEW, **options)
        made = fill(run, group, mode, config, seeds=range(begin, begin + len(group)))
        filled += made
        seconds += max(one.seconds for one in made)
    return filled, seconds


# ----------------------------------------------------------------------------------------- measures


@torch.no_grad()
def judge_bits(judge: Readable, prompt: list[int], tokens: list[int]) -> float:
    """Bits of a continuation, in all, under a causal model."""
    if not tokens:
        return 0.0
    vocabulary = judge.tokenizer.vocabulary
    ids = torch.tensor([[judge.tokenizer.bos, *prompt, *tokens]])
    state = torch.arange(len(prompt), len(prompt) + len(tokens))
    device = judge.backbone.device
    forbidden = torch.tensor(sorted({*vocabulary.special, vocabulary.mask}), device=device)
    log_nv = (
        judge.backbone.eval()
        .log_probabilities(Shown(ids).to(device), state.to(device), forbidden)
        .cpu()
    )
    return -float(log_nv.gather(1, torch.tensor(tokens)[:, None]).double().sum()) / math.log(2)


def distinct_pairs(tokens: list[int]) -> float:
    """Share of neighbouring pairs that are different from one another; NaN where there is none."""
    pairs = list(itertools.pairwise(tokens))
    return len(set(pairs)) / len(pairs) if pairs else math.nan


def measured(
    run: Readable,
    judge: Readable | None,
    mode: Mode,
    prompts: list[list[int]],
    texts: list[list[int]],
) -> dict[str, np.ndarray]:
    """Of each continuation (P,): tokens, bits under the model itself, bits under the judge,
    distinct-2.
    """
    own = [
        quality(run, [run.tokenizer.bos, *prompt], text, mode) * len(text) if text else 0.0
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    found = {
        "tokens": np.array([len(text) for text in texts], dtype=float),
        "bits": np.array(own),
        "distinct": np.array([distinct_pairs(text) for text in texts]),
    }
    if judge is not None:
        found["judge"] = np.array(
            [judge_bits(judge, *pair) for pair in zip(prompts, texts, strict=True)]
        )
    return found


def resampled_weights(document: np.ndarray) -> np.ndarray:
    """How often each prompt is drawn (1 + R, P) when documents are drawn with replacement; first as
    they are, once each.
    """
    _, number = np.unique(document, return_inverse=True)
    count = int(number.max()) + 1
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return np.concatenate([np.ones((1, len(document))), drawn[:, number]])


def summary(
    found: dict[str, np.ndarray], reference: dict[str, np.ndarray] | None, weights: np.ndarray
) -> dict[str, Interval]:
    """Intervals over documents; equal weights for all rows make the costs paired differences."""

    def per_token(of: dict[str, np.ndarray], key: str) -> np.ndarray:
        return weights @ of[key] / (weights @ of["tokens"])

    has_pairs = np.isfinite(found["distinct"])
    statistics = {"distinct": weights @ np.nan_to_num(found["distinct"]) / (weights @ has_pairs)}
    for key in ("bits", "judge") if "judge" in found else ("bits",):
        statistics[key] = per_token(found, key)
        if reference is not None:
            statistics[f"{key}_cost"] = statistics[key] - per_token(reference, key)
    return {
        key: bootstrap_interval(float(values[0]), values[1:]) for key, values in statistics.items()
    }


# --------------------------------------------------------------------------------------- everything


def shown(found: Interval | None, signed: bool = False) -> str:
    return "" if found is None else interval(2, sign="+" if signed else "")(vars(found))


def print_row(row: dict[str, Any], intervals: dict[str, Interval]) -> None:
    """One row of the table; the columns of the judge stay empty without one."""
    cells = [row["temperature"], row["order"], row["per_pass"]]
    cells += [
        "" if row[key] == "" else f"{row[key]:,.{places}f}"
        for key, places in (("passes", 1), ("tokens", 1), ("tokens_per_second", 0))
    ]
    cells += [shown(intervals["bits"]), shown(intervals.get("bits_cost"), signed=True)]
    cells += [shown(intervals.get("judge")), shown(intervals.get("judge_cost"), signed=True)]
    print("| " + " | ".join(map(str, [*cells, shown(intervals["distinct"])])) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a run with a bidirectional mode")
    parser.add_argument("--judge", type=Path, help="a causal run with the same tokenizer")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64, help="prompts that share their passes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    options = parser.parse_args()
    if options.prompts < 2 or options.batch < 1:
        parser.error("--prompts starts at 2 and --batch at 1")
    try:
        run = open_run(options.model)
        mode = run.require_mode("bidirectional")
        judge = open_run(options.judge) if options.judge else None
        if judge is not None:
            judge.require_mode("causal")
            if judge.tokenizer.fingerprint != run.tokenizer.fingerprint:
                raise UserError(
                    f"--judge {options.judge}: has another tokenizer than {options.model}"
                )
            if judge.context <= PROMPT + NEW:
                raise UserError(
                    f"--judge {options.judge}: its context is {judge.context}; {1 + PROMPT + NEW} "
                    "are read"
                )
        texts, document = test_texts(run, options.prompts)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    prompts = [text[:PROMPT] for text in texts]
    weights = resampled_weights(document)
    continuations(run, mode, prompts[: options.batch], options.batch, per_pass=NEW)  # warm

    columns = (
        "temperature",
        "order",
        "per pass",
        "passes",
        "tokens",
        "tokens/s",
        "bits/token",
        "cost",
        "judge",
    )
    print(
        f"| {' | '.join(columns)} | judge's cost | distinct-2 |\n|{'---|' * (len(columns) + 2)}",
        flush=True,
    )
    human = {
        "temperature": "",
        "order": "the corpus",
        "per_pass": "",
        "passes": "",
        "tokens": NEW,
        "tokens_per_second": "",
    }
    intervals = summary(
        measured(run, judge, mode, prompts, [text[PROMPT:] for text in texts]), None, weights
    )
    print_row(human, intervals)
    results = [human | {key: vars(value) for key, value in intervals.items()}]
    for temperature in TEMPERATURES:
        reference = None
        for order in ORDERS:
            for per_pass in PER_PASS:
                filled, seconds = continuations(
                    run,
                    mode,
                    prompts,
                    options.batch,
                    order=order,
                    per_pass=per_pass,
                    temperature=temperature,
                )
                found = measured(run, judge, mode, prompts, [one.tokens for one in filled])
                row = {
                    "temperature": temperature,
                    "order": order,
                    "per_pass": per_pass,
                    "passes": float(np.mean([one.passes for one in filled])),
                    "tokens": float(found["tokens"].mean()),
                    "tokens_per_second": float(found["tokens"].sum()) / seconds,
                }
                intervals = summary(found, reference, weights)
                reference = reference or found
                print_row(row, intervals)
                results.append(row | {key: vars(value) for key, value in intervals.items()})
    if options.json:
        settings = {
            "threads": torch.get_num_threads(),
            "device": str(run.backbone.device),
            "mode": str(mode),
            "prompts": options.prompts,
            "batch": options.batch,
            "prompt": PROMPT,
            "new": NEW,
            "documents": len(set(document.tolist())),
        }
        write_record(options.json, {"settings": results}, seeds=1, **settings)


if __name__ == "__main__":
    main()
