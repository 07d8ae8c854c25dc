"""Trains a byte-level BPE on as much of a text as it takes, in a process that can be stopped."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, NamedTuple

import numpy as np

from lookaround.support.errors import UserError

# Training takes time by the square of a word's length, and 110 bytes for each character of each
# different word: words are cut at WORD characters, and no more text is taken than these limits.
WORD = 256
SAMPLE_BYTES, SAMPLE_DISTINCT = 256 << 20, 10_000_000
# bytes that tell of all the text, and the power by which different words grow with it
LOOKED_AT, GROWTH = 16 << 20, 0.7
# what is trained within a second or so needs no process of its own
QUICK_BYTES, QUICK_DISTINCT = 4 << 20, 200_000
# GPT-2's, with words of at most WORD characters
PATTERN = (
    rf"'(?:s|t|re|ve|m|ll|d)| ?\p{{L}}{{1,{WORD}}}| ?\p{{N}}{{1,{WORD}}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]{{1,{WORD}}}|\s{{1,{WORD}}}(?!\S)|\s{{1,{WORD}}}"
)
_CUT = 1 << 22  # characters of a text handed over at a time
_CHUNK = 1 << 18  # characters that are looked at at a time
_SHUFFLE_SEED = 0
# its parent ends it, and not a Ctrl-C that both hear
_CHILD = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from lookaround.data.bpe import main
main()
"""


class Sample(NamedTuple):
    """Texts to train on.

    texts: whole, or cut where they are long.
    bytes: of them in UTF-8.
    distinct: characters of their different words, about.
    whole: whether that is all of the text.
    """

    texts: list[str]
    bytes: int
    distinct: int
    whole: bool


def sample_of(texts: Sequence[str], sizes: Sequence[int] | np.ndarray) -> Sample:
    """As many texts as are trained on: all, or a part drawn at random where they are many.

    sizes: of the texts, in bytes.

    Words are told apart by white space; those longer than WORD count as all different. Of much text
    a part is looked at, and what it holds is taken to grow as by Heaps' law. Ours.
    """
    # torch, which comes with it, is of no use to the process that trains
    from lookaround.support.randomness import permute

    total = int(np.sum(sizes))
    every = total // LOOKED_AT
    if every > 1 and total <= SAMPLE_BYTES:
        seen: set[str] = set()
        looked = distinct = 0
        for chunk in _chunks(texts, range(0, len(texts), every)):
            looked += sum(map(len, chunk))
            distinct += _different(chunk, seen)
        if looked >= LOOKED_AT // 4:
            distinct = int(distinct * (total / looked) ** GROWTH)
            if distinct < SAMPLE_DISTINCT:
                taken = [part for index in range(len(texts)) for part in _cut(texts[index])]
                return Sample(taken, total, distinct, True)
    order: Iterable[int] = range(len(texts))
    if total > SAMPLE_BYTES:
        order = map(int, permute(np.arange(len(texts)), len(texts), _SHUFFLE_SEED, 0))
    seen, taken = set(), []
    size = distinct = 0
    for chunk in _chunks(texts, order):
        taken += chunk
        size += sum(len(part.encode("utf-8")) for part in chunk)
        distinct += _different(chunk, seen)
        if size >= SAMPLE_BYTES or distinct >= SAMPLE_DISTINCT:
            return Sample(taken, size, distinct, False)
    return Sample(taken, size, distinct, True)


def _different(texts: list[str], seen: set[str]) -> int:
    """Characters of the words of texts that were not seen yet, and now are."""
    new = {*" ".join(texts).split()} - seen
    seen.update(word for word in new if len(word) <= WORD)
    return sum(map(len, new))


def _chunks(texts: Sequence[str], order: Iterable[int]) -> Iterator[list[str]]:
    """Texts in an order, a few at a time, the long ones cut."""
    held: list[str] = []
    size = 0
    for index in order:
        for part in _cut(texts[index]):
            held.append(part)
            size += len(part)
            if size >= _CHUNK:
                yield held
                held, size = [], 0
    if held:
        yield held


def _cut(text: str) -> Iterator[str]:
    yield from (text[begin : begin + _CUT] for begin in range(0, len(text), _CUT))


def trained(texts: Iterable[str], vocabulary: int, special: Sequence[str], first: str) -> str:
    """tokenizer.json of a lossless byte-level BPE of at most `vocabulary` tokens.

    special: its special tokens, whose ids come first.
    first: the one that a text begins with where special tokens are asked for.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A",
        pair=f"{first} $A $B:1",
        special_tokens=[(first, tokenizer.token_to_id(first))],
    )
    return tokenizer.to_str()


def trained_apart(sample: Sample, vocabulary: int, special: Sequence[str], first: str) -> str:
    """The same, in a process of its own where it takes long: Ctrl-C ends it, and so its memory.

    Raises UserError where that process dies.
    """
    quick = sample.bytes <= QUICK_BYTES and sample.distinct <= QUICK_DISTINCT
    if quick or not sys.executable:
        return trained(sample.texts, vocabulary, special, first)
    # what this process can import; never what lies in the working directory by chance
    path = os.pathsep.join(place for place in sys.path if place)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(process.stdout.read()), daemon=True)  # type: ignore[union-attr]
    reader.start()
    try:
        try:
            counts = [str(vocabulary), str(len(special)), str(len(sample.texts))]
            _send(process.stdin, [*counts, first, *special])
            _send(process.stdin, sample.texts)
            process.stdin.close()
        except BrokenPipeError:
            pass  # the process has died, which its code tells
        code = process.wait()
        reader.join()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        with contextlib.suppress(OSError):  # what it has not read
            process.stdin.close()
    if code or not found or not found[0]:
        raise UserError(
            f"data.vocabulary: the process that trains a tokenizer of {vocabulary:,} tokens on "
            f"{sample.bytes / 1e6:,.0f} MB of text ended with code {code}, most likely out of "
            "memory; give --tokenizer, or free memory"
        )
    return found[0].decode("utf-8")


def _send(file: IO[bytes], texts: Iterable[str]) -> None:
    for text in texts:
        data = text.encode("utf-8")
        file.write(len(data).to_bytes(8, "big") + data)


def _received(file: IO[bytes]) -> Iterator[str]:
    while head := file.read(8):
        yield file.read(int.from_bytes(head, "big")).decode("utf-8")


def main() -> None:
    """What the process does: texts on its input, tokenizer.json on its output."""
    texts = _received(sys.stdin.buffer)
    vocabulary, specials, count = (int(next(texts)) for _ in range(3))
    first, *special = (next(texts) for _ in range(1 + specials))
    given = list(texts)
    if len(given) != count:  # its parent has died
        sys.exit(1)
    found = trained(given, vocabulary, special, first)
    sys.stdout.buffer.write(found.encode("utf-8"))
