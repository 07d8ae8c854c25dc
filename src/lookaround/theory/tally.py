"""Packed keys of context tokens and target, and sorted counts of them.

Counting is a sort of the keys of one part of the corpus; sorted counts are added by merging. Ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookaround.support.errors import UserError
from lookaround.support.randomness import mix64
from lookaround.support.storage import whole_file


@dataclass(frozen=True)
class Code:
    """How context tokens and a target become one integer: contexts in the high bits.

    vocabulary: ids are below it.
    n: context tokens.
    hash_bits: None to keep the n-gram itself, exact; else rows are hashed to 2^hash_bits, and
        n-grams that collide share one.
    """

    vocabulary: int
    n: int = 1
    hash_bits: int | None = None

    def __post_init__(self) -> None:
        if self.hash_bits is not None and not 1 <= self.hash_bits <= 64 - self.bits:
            raise UserError(
                f"hash_bits: must lie in 1 to {64 - self.bits} at vocabulary {self.vocabulary:,}, "
                f"got {self.hash_bits}"
            )
        if self.hash_bits is None and self.bits * (self.n + 1) > 64:
            most = 64 // self.bits - 1
            raise UserError(
                f"context: {self.n} tokens of a vocabulary of {self.vocabulary:,} don't fit 64 "
                f"bits; give at most {most}, or hash them (hash_bits)"
            )

    @property
    def bits(self) -> int:
        """Bits of a token."""
        return max(1, (self.vocabulary - 1).bit_length())

    @property
    def dtype(self) -> np.dtype:
        narrow = self.hash_bits is None and self.bits * (self.n + 1) <= 32
        return np.dtype(np.uint32 if narrow else np.uint64)

    def contexts(self, tokens: Sequence[np.ndarray]) -> np.ndarray:
        """Row numbers of n-grams; `tokens`: n arrays (k,) of unsigned integers, leftmost first."""
        rows = tokens[0].astype(self.dtype)
        if self.hash_bits is None:
            for column in tokens[1:]:
                rows <<= self.dtype.type(self.bits)
                rows |= column
            return rows
        with np.errstate(over="ignore"):
            rows = mix64(rows + np.uint64(1))
            for column in tokens[1:]:
                rows = mix64(rows ^ (column.astype(np.uint64) + np.uint64(1)))
        return rows >> np.uint64(64 - self.hash_bits)

    def keys(self, contexts: Sequence[np.ndarray], target: np.ndarray) -> np.ndarray:
        rows = self.contexts(contexts)
        rows <<= self.dtype.type(self.bits)
        rows |= target
        return rows

    def split(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(row numbers uint64, targets int64) of keys."""
        return (keys >> self.dtype.type(self.bits)).astype(np.uint64), self.targets(keys).astype(
            np.int64
        )

    def holds(self, keys: np.ndarray) -> bool:
        """Whether keys are of this code: its type, with every id below the vocabulary."""
        if keys.dtype != self.dtype:
            return False
        if self.hash_bits is not None:
            return not len(keys) or int(keys.max()) >> (self.bits + self.hash_bits) == 0
        for column in range(self.n + 1):
            part = keys >> self.dtype.type(self.bits * column)
            if (part if column == self.n else self.targets(part)).max(initial=0) >= self.vocabulary:
                return False
        return True

    def targets(self, keys: np.ndarray) -> np.ndarray:
        """Targets of keys, in the keys' type."""
        return keys & self.dtype.type((1 << self.bits) - 1)


@dataclass(frozen=True)
class Tally:
    """Distinct keys in rising order (m,) and how often each occurs (m,) int64."""

    keys: np.ndarray
    counts: np.ndarray

    @property
    def total(self) -> int:
        return int(self.counts.sum())


def tally(keys: np.ndarray) -> Tally:
    """Counts keys (k,), which are sorted in place."""
    keys.sort()
    start = run_starts(keys)
    return Tally(keys[start], np.diff(start, append=len(keys)))


def run_starts(keys: np.ndarray) -> np.ndarray:
    """Where each distinct key of sorted keys (k,) begins."""
    return np.concatenate([np.arange(min(len(keys), 1)), np.flatnonzero(keys[1:] != keys[:-1]) + 1])


def merge(parts: Iterable[Tally]) -> Tally:
    """The sum of tallies; equal sizes are merged first, so that the work stays near linear."""
    stack: list[Tally] = []
    for part in parts:
        stack.append(part)
        while len(stack) > 1 and len(stack[-2].keys) <= 2 * len(stack[-1].keys):
            last = stack.pop()
            stack[-1] = _add(stack[-1], last)
    while len(stack) > 1:
        last = stack.pop()
        stack[-1] = _add(stack[-1], last)
    return stack[0]


def _add(left: Tally, right: Tally) -> Tally:
    keys = np.concatenate([left.keys, right.keys])
    order = np.argsort(keys, kind="stable")  # two sorted runs: linear
    keys = keys[order]
    counts = np.concatenate([left.counts, right.counts])[order]
    start = run_starts(keys)
    return Tally(keys[start], np.add.reduceat(counts, start) if len(start) else counts)


def count_again(folder: Path) -> str:
    return f"remove {folder} to count again"


def write_tally(file: Path, found: Tally) -> None:
    """Writes a tally whole or not at all; counts take 4 bytes where they fit."""
    small = len(found.counts) == 0 or found.counts.max() < 1 << 32
    with whole_file(file) as handle:
        np.savez(
            handle,
            keys=found.keys,
            counts=found.counts.astype(np.uint32) if small else found.counts,
        )


def read_tally(file: Path) -> Tally:
    """Reads a tally; raises UserError for a file that is truncated, foreign or inconsistent."""
    try:
        with np.load(file, allow_pickle=False) as data:
            keys, counts = data["keys"], data["counts"]
    except FileNotFoundError:
        raise UserError(
            f"{file}: no such file, though its index names it; {count_again(file.parent)}"
        ) from None
    except Exception as error:  # zipfile, zlib and numpy each have their own for a broken file
        reason = type(error).__name__
        raise UserError(
            f"{file}: cannot be read; it is truncated or not ours ({reason}); "
            f"{count_again(file.parent)}"
        ) from None
    if (
        keys.ndim != 1
        or keys.shape != counts.shape
        or keys.dtype.kind != "u"
        or counts.dtype.kind not in "iuf"
    ):
        raise UserError(
            f"{file}: field 'keys' or 'counts' is of another shape or type; "
            f"{count_again(file.parent)}"
        )
    wrong = np.flatnonzero(
        ~(counts > 0) | (counts % 1 != 0) if counts.dtype.kind == "f" else counts <= 0
    )
    if len(wrong):
        found = f"entry {wrong[0]}: {counts[wrong[0]]} is no count; expected whole numbers above 0"
        raise UserError(f"{file}: field 'counts', {found}; {count_again(file.parent)}")
    if np.any(keys[1:] <= keys[:-1]):
        raise UserError(
            f"{file}: field 'keys' is not in rising order; it is damaged or not ours; "
            f"{count_again(file.parent)}"
        )
    return Tally(keys, counts.astype(np.int64))
