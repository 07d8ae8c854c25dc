"""Text that a model makes of itself: to train heads on, and to calibrate and measure with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from lookaround.decode.sampling import filter_logits
from lookaround.decode.speculative import Speculator
from lookaround.decode.tree import Tree
from lookaround.decode.verify import ExactSampling, Greedy
from lookaround.model.readable import Readable
from lookaround.settings import GenerationConfig, Settings
from lookaround.support.errors import UserError
from lookaround.support.storage import whole_file

CHUNK = 64  # texts made at a time


Tell = Callable[..., None]  # stage, done, total, note


def own_prompts(settings: Settings, run: Readable) -> list[list[int]]:
    """Prompts that a model writes itself, to calibrate and measure with where there is no text."""
    options = settings.speculate
    generator = torch.Generator().manual_seed(settings.seed + 1)
    prompts: list[list[int]] = []
    for _ in range(4 * -(-2 * options.prompts // CHUNK)):
        made = continue_prompts(
            run,
            [[run.codec.bos]] * CHUNK,
            options.prompt_tokens - 1,
            options.sample_temperature,
            generator,
        )
        prompts += [
            text for text in made if len(text) == options.prompt_tokens and text[-1] not in run.eos
        ]
        if len(prompts) >= 2 * options.prompts:
            return prompts[: 2 * options.prompts]
    raise UserError(
        f"the model ends its own texts before {options.prompt_tokens} tokens; give --corpus TEXT, "
        "or set speculate.prompt_tokens lower"
    )


def continue_prompts(
    run: Readable,
    prompts: list[list[int]],
    new: int,
    temperature: float,
    generator: torch.Generator,
) -> list[list[int]]:
    """Prompts with what the model makes of them, EOS included."""
    verifier = ExactSampling(generator, sampled=False) if temperature > 0 else Greedy()
    made = Speculator(run.backbone, Tree(), checked=True).generate(
        prompts,
        max_new_tokens=new,
        eos=run.eos,
        verifier=verifier,
        process=partial(filter_logits, config=GenerationConfig(temperature=temperature)),
    )
    return [[*prompt, *text] for prompt, text in zip(prompts, made.tokens, strict=True)]


def prompt_windows(documents: Sequence[np.ndarray], length: int, count: int) -> list[list[int]]:
    """Windows of `length` tokens spread over the documents, each after its document's BOS."""
    places = [(ids, at) for ids in documents for at in range(1, len(ids) - length, length)]
    spread = places[:: max(1, len(places) // max(1, count))][:count]
    return [[int(ids[0]), *map(int, ids[at : at + length - 1])] for ids, at in spread]


def _read_texts(file: Path, given: int, run: Readable) -> list[np.ndarray]:
    """The texts of a file, each beginning with a prompt of so many tokens.

    Raises UserError for a damaged file.
    """
    try:
        with np.load(file, allow_pickle=False) as saved:
            tokens, length = saved["tokens"], saved["length"]
        if any(column.ndim != 1 or column.dtype.kind != "i" for column in (tokens, length)):
            raise ValueError("no whole numbers")
        if length.sum() != len(tokens) or length.min(initial=given) < given:
            raise ValueError("texts of other lengths")
        rows = run.backbone.output.weight.shape[0]
        if len(length) != CHUNK or tokens.min() < 0 or tokens.max() >= rows:
            raise ValueError(f"not {CHUNK} texts of ids below {rows}")
    except Exception as error:  # zipfile, zlib and numpy each have their own for a broken file
        reason = str(error) or type(error).__name__
        raise UserError(
            f"{file}: truncated or foreign ({reason}); delete it and give the command again"
        ) from None
    return np.split(tokens, np.cumsum(length)[:-1])


def own_samples(
    settings: Settings, run: Readable, train: list[np.ndarray], work: Path, tell: Tell
) -> list[tuple[np.ndarray, int]]:
    """(tokens, tokens of the prompt) of texts that the model continues from training documents."""
    options = settings.speculate
    given = options.prompt_tokens if train else 1
    new = run.context - given
    rounds = -(-options.samples // (CHUNK * new)) if options.samples else 0
    starts = prompt_windows(train, given, rounds * CHUNK) if train else [[run.codec.bos]]
    made: list[tuple[np.ndarray, int]] = []
    began, tokens = time.monotonic(), 0
    for number in range(rounds):
        file = work / f"samples-{number:05d}.npz"
        if not file.is_file():
            prompts = [starts[(number * CHUNK + i) % len(starts)] for i in range(CHUNK)]
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + number)
            whole = continue_prompts(run, prompts, new, options.sample_temperature, generator)
            with whole_file(file) as out:
                np.savez(out, tokens=np.concatenate(whole), length=[len(ids) for ids in whole])
            tokens += sum(len(text) - given for text in whole)
        made += [(ids, given) for ids in _read_texts(file, given, run)]
        rate = tokens / max(time.monotonic() - began, 1e-9)
        tell(
            "samples of the model",
            number + 1,
            rounds,
            f"{rate:,.0f} tokens/s" if tokens else "found",
        )
    return made
