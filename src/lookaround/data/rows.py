"""Rows of tokens: windows of documents, in the order of a counter-based permutation.

The state of the loader is one integer for any number of processes.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from lookaround.data.codec import Codec
from lookaround.data.shards import Split
from lookaround.objectives.contract import PADDING, Batch
from lookaround.support.randomness import shuffled


class RowSource(Protocol):
    """What a trainer reads: rows of one width, endlessly."""

    @property
    def width(self) -> int:
        """Tokens per row."""

    def at(self, seed: int, index: np.ndarray) -> Batch:
        """The batch of the given places (B,) in the endless sequence of rows of this seed."""


class Rows:
    """Rows of `width` tokens out of a split: one document window each, or several with pack=True.

    A document longer than a row is cut into windows of `width`; the last one is moved back so that
    it is full.
    """

    def __init__(
        self,
        split: Split,
        width: int,
        codec: Codec,
        *,
        pack: bool = False,
        prompts: np.ndarray | None = None,
    ) -> None:
        """prompts: (documents,), how many first tokens of each document are never targets."""
        self.split, self.width, self.codec = split, width, codec
        self.prompts, self.pack = prompts, pack
        windows = np.maximum(1, -(-split.length // width))
        self.document = np.repeat(np.arange(len(windows)), windows)
        number = np.arange(windows.sum()) - np.repeat(windows.cumsum() - windows, windows)
        long = split.length[self.document]
        self.offset = np.minimum(number * width, np.maximum(long - width, 0))
        self.length = np.minimum(long - self.offset, width)
        self.first = _pack(self.length, width) if pack else np.arange(len(self.length) + 1)

    def __len__(self) -> int:
        return len(self.first) - 1

    def take(self, rows: np.ndarray, index: np.ndarray | None = None) -> Batch:
        """The batch of `rows` (B,); `index` (B,) keys their randomness (default: their numbers)."""
        pad = self.codec.bos if self.codec.pad is None else self.codec.pad
        tokens = np.full((len(rows), self.width), pad, dtype=np.int64)
        documents = np.full((len(rows), self.width), PADDING, dtype=np.int64)
        scorable = np.ones((len(rows), self.width), dtype=bool)
        for b, row in enumerate(rows):
            at = 0
            for number, window in enumerate(range(self.first[row], self.first[row + 1])):
                count = self.length[window]
                tokens[b, at : at + count] = self.split.read(
                    self.document[window], self.offset[window], count
                )
                documents[b, at : at + count] = number
                # a document starts with BOS, which is never a target
                scorable[b, at] = self.offset[window] > 0
                if self.prompts is not None:
                    given = max(int(self.prompts[self.document[window]] - self.offset[window]), 0)
                    scorable[b, at : at + min(given, count)] = False
                at += count
        ids = torch.from_numpy(tokens)
        whole = not documents.any()
        return Batch(
            tokens=ids,
            row=torch.from_numpy(np.asarray(rows if index is None else index, dtype=np.int64)),
            vocabulary=self.codec.vocabulary,
            documents=None if whole else torch.from_numpy(documents),
            scorable=torch.from_numpy(scorable),
        )

    def at(self, seed: int, index: np.ndarray) -> Batch:
        """The batch at the positions `index` (B,) of the endless shuffled sequence of rows."""
        return self.take(shuffled(index, len(self), seed), index)


def _pack(lengths: np.ndarray, width: int) -> np.ndarray:
    """The first window of each row and the end, where consecutive windows share rows."""
    first, filled = [0], 0
    for window, length in enumerate(lengths):
        if filled + length > width:
            first.append(window)
            filled = 0
        filled += length
    return np.array([*first, len(lengths)])
