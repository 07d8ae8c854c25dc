"""Trains a byte-level BPE on as much of a text as it takes, in a process that can be stopped."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from lookaround.support.errors import UserError

# Training takes time by the square of a word's length, and 110 bytes for each character of each
# different word: words are cut at WORD characters, and no more text is taken than these limits.
WORD = 256
SAMPLE_BYTES, SAMPLE_DISTINCT = 256 << 20, 10_000_000
# bytes that tell of all the text, and the least power by which different words grow with it
LOOKED_AT, LEAST_GROWTH = 16 << 20, 0.5
# what is trained within a second or so needs no process of its own
QUICK_BYTES, QUICK_DISTINCT = 4 << 20, 200_000
# GPT-2's, with words of at most WORD characters
PATTERN = (
    rf"'(?:s|t|re|ve|m|ll|d)| ?\p{{L}}{{1,{WORD}}}| ?\p{{N}}{{1,{WORD}}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]{{1,{WORD}}}|\s{{1,{WORD}}}(?!\S)|\s{{1,{WORD}}}"
)
_CUT = 1 << 22  # characters of a text handed over at a time
_END = 2**64 - 1  # in place of a text's length: there are no more
_SHUFFLE_SEED = 0
# its parent ends it, and not a Ctrl-C that both hear
_CHILD = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from lookaround.data.bpe import main
main()
"""


@dataclass(frozen=True)
class Sample:
    """Texts to train on, the long ones cut: they are read as they are iterated over.

    texts, order: those it draws from, and the indices of them in the order in which they are taken,
        (n,).
    bytes: of what it holds in UTF-8, about.
    distinct: characters of its different words, about.
    whole: whether that is all of the text.
    """

    texts: Sequence[str]
    order: np.ndarray
    bytes: int
    distinct: int
    whole: bool

    def __iter__(self) -> Iterator[str]:
        room = self.bytes
        for part in _parts(self.texts, self.order):
            yield part
            if not self.whole:
                room -= len(part.encode("utf-8"))
                if room <= 0:
                    return


def sample_of(texts: Sequence[str], sizes: Sequence[int] | np.ndarray) -> Sample:
    """As many texts as are trained on: all, or a part drawn at random where they are many.

    sizes: of the texts, in bytes.

    Words are told apart by white space; those longer than WORD count as all different. Of much text
    a part is looked at, and what it holds is taken to grow with a power of the text, by Heaps' law:
    the power that the second half of that part shows. It falls with more text, so that more words
    are expected than there are. Ours.
    """
    # torch, which comes with it, is of no use to the process that trains
    from lookaround.support.randomness import permute

    total = int(np.sum(sizes))
    order = np.arange(len(texts))
    spread = order[:: max(1, total // LOOKED_AT)]
    some = min(int(np.asarray(sizes)[spread].sum()), 2 * LOOKED_AT)
    looked, distinct, power = _looked_at(_parts(texts, spread), some)
    room = min(total, SAMPLE_BYTES)
    expected = distinct * (room / max(1, looked)) ** power
    if expected > SAMPLE_DISTINCT:
        room = int(room * (SAMPLE_DISTINCT / expected) ** (1 / power))
        expected = SAMPLE_DISTINCT
    if room < total:
        order = permute(order, len(texts), _SHUFFLE_SEED, 0)
    return Sample(texts, order, room, int(expected), room == total)


def _looked_at(parts: Iterable[str], most: int) -> tuple[int, int, float]:
    """(bytes, characters of different words, the power by which those grow) of the first texts.

    most: bytes behind which no more are looked at.
    """
    seen: set[str] = set()
    size = distinct = half = known = 0
    for part in parts:
        new = {*part.split()} - seen
        seen.update(word for word in new if len(word) <= WORD)
        distinct += sum(map(len, new))
        size += len(part.encode("utf-8"))
        if not half and 2 * size >= most:
            half, known = size, distinct
        if size >= most:
            break
    grown = math.log(distinct / known) / math.log(size / half) if known and half < size else 1.0
    return size, distinct, min(1.0, max(LEAST_GROWTH, grown))


def _parts(texts: Sequence[str], order: Iterable[int]) -> Iterator[str]:
    """Texts in an order, the long ones cut."""
    for index in order:
        text = texts[index]
        if len(text) <= _CUT:
            yield text
        else:
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
        return trained(sample, vocabulary, special, first)
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
            _send(process.stdin, [str(vocabulary), str(len(special)), first, *special])
            _send(process.stdin, sample)
            process.stdin.write(_END.to_bytes(8, "big"))
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
    while (size := int.from_bytes(_whole(file, 8), "big")) != _END:
        yield _whole(file, size).decode("utf-8")


def _whole(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:  # its parent has died
        raise SystemExit(1)
    return data


def main() -> None:
    """What the process does: texts on its input, tokenizer.json on its output."""
    texts = _received(sys.stdin.buffer)
    vocabulary, specials = int(next(texts)), int(next(texts))
    first, *special = (next(texts) for _ in range(1 + specials))
    found = trained(texts, vocabulary, special, first)
    sys.stdout.buffer.write(found.encode("utf-8"))
