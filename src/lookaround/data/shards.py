"""Token shards on disk and rows out of them.

A store is a folder: tokenizer files, `index.json`, and per split (train, validation, test) flat `uint16`/`uint32` files
of tokens plus document offsets. Its name carries the fingerprint of corpus and tokenizer, so a second run reuses it and a
changed corpus does not. Rows are windows of documents; their order is a counter-based permutation, so that the state of
the loader is one integer whatever the world size.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from lookaround.data.corpus import Corpus, split_documents
from lookaround.data.tokenizer import TextTokenizer, load_tokenizer, train_tokenizer
from lookaround.errors import UserError
from lookaround.objectives.view import PADDING, Batch, mix64
from lookaround.storage import disk_errors

__all__ = ["RowSource", "Rows", "Split", "TokenStore", "in_memory", "prepare"]

FORMAT = 1
SHARD_TOKENS = 1 << 28
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """The tokens of one split: files[shard] hold them, document d is file `shard[d]`, tokens start[d] : start[d] + length[d]."""

    files: tuple[np.ndarray, ...]
    shard: np.ndarray
    start: np.ndarray
    length: np.ndarray

    @property
    def tokens(self) -> int:
        return int(self.length.sum())

    def read(self, document: int, offset: int, count: int) -> np.ndarray:
        """`count` tokens of a document from `offset` on."""
        begin = self.start[document] + offset
        return self.files[self.shard[document]][begin : begin + count]


@dataclass(frozen=True)
class TokenStore:
    """A folder of token shards with the tokenizer they were made by."""

    folder: Path
    index: dict[str, Any]

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        return load_tokenizer(str(self.folder / "tokenizer"))

    @property
    def fingerprint(self) -> str:
        return self.index["fingerprint"]

    def split(self, name: str) -> Split:
        """The tokens of "train", "validation" or "test", memory-mapped."""
        offsets = np.load(self.folder / f"{name}.documents.npy")
        dtype = np.dtype(self.index["dtype"])
        shards = self.index["splits"][name]["shards"]
        files = tuple(np.memmap(self.folder / file, dtype=dtype, mode="r") for file in shards)
        return Split(files, *offsets)

    def unigram(self) -> np.ndarray:
        """Counts of each token in the training part, (vocabulary,) int64."""
        return np.load(self.folder / "unigram.npy")


def cache_folder() -> Path:
    """Where token shards are kept: $LOOKAROUND_CACHE, else lookaround/ in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("LOOKAROUND_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lookaround"


def prepare(
    corpus: Corpus,
    *,
    vocabulary: int,
    tokenizer: str | None = None,
    seed: int = 0,
    validation: float = 0.05,
    test: float = 0.05,
    cache: Path | None = None,
) -> TokenStore:
    """The token store of a corpus: found in the cache, or made (documents split, tokenizer trained or loaded, encoded).

    Raises UserError for a lossy tokenizer, too few documents or a full disk; nothing half-written is left behind.
    """
    given = load_tokenizer(tokenizer) if tokenizer else None
    key = {
        "format": FORMAT,
        "corpus": corpus.fingerprint,
        "tokenizer": given.fingerprint if given else f"byte-level BPE of {vocabulary}",
        "split": [seed, validation, test],
    }
    fingerprint = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    folder = (cache or cache_folder()) / f"tokens-{fingerprint[:16]}"
    if (folder / "index.json").is_file():
        index = json.loads((folder / "index.json").read_text())
        if index["fingerprint"] == fingerprint:
            return TokenStore(folder, index)
    try:
        parts = split_documents(corpus.documents, seed=seed, validation=validation, test=test)
    except UserError as error:
        raise UserError(f"{corpus.description.get('source', corpus.name)}: {error}") from None
    text = given or train_tokenizer((corpus.documents[i] for i in parts["train"]), vocabulary)
    sample = [corpus.documents[i][:2000] for i in parts["train"][:: max(1, len(parts["train"]) // 200)]]
    text.require_lossless(sample)
    temporary = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with disk_errors(folder):
            temporary.mkdir(parents=True)
            _write_store(temporary, corpus, parts, text, {"fingerprint": fingerprint, "key": key})
            if not (folder / "index.json").is_file():  # else another process was faster
                shutil.rmtree(folder, ignore_errors=True)
                temporary.rename(folder)
    except UserError:
        if not (folder / "index.json").is_file():  # else another process was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return TokenStore(folder, json.loads((folder / "index.json").read_text()))


def _write_store(
    folder: Path, corpus: Corpus, parts: dict[str, list[int]], tokenizer: TextTokenizer, index: dict[str, Any]
) -> None:
    """Fills a new folder: tokenizer, shards of every split, token counts of the training part, index."""
    tokenizer.save(folder / "tokenizer")
    dtype = np.dtype(np.uint16 if tokenizer.size <= 1 << 16 else np.uint32)
    splits = {}
    for name in SPLITS:
        texts = [corpus.documents[i] for i in parts[name]]
        splits[name], counts = _write_split(folder, name, texts, tokenizer, dtype)
        if name == "train":
            np.save(folder / "unigram.npy", counts)
    index = {**index, "dtype": dtype.name, "vocabulary": tokenizer.size, "splits": splits}
    (folder / "index.json").write_text(json.dumps(index, indent=1))


def _write_split(
    folder: Path, name: str, texts: list[str], tokenizer: TextTokenizer, dtype: np.dtype
) -> tuple[dict[str, Any], np.ndarray]:
    """Encodes texts into shards; returns the split's entry of the index and its token counts (vocabulary,)."""
    shards: list[str] = []
    written = SHARD_TOKENS
    shard, start, length = [], [], []
    counts = np.zeros(tokenizer.size, dtype=np.int64)
    out = None
    try:
        for ids in tokenizer.documents(texts):
            if written + len(ids) > SHARD_TOKENS or out is None:
                if out is not None:
                    out.close()
                shards.append(f"{name}-{len(shards):05d}.bin")
                out, written = open(folder / shards[-1], "wb"), 0  # noqa: SIM115 (closed below; one shard at a time)
            shard.append(len(shards) - 1)
            start.append(written)
            length.append(len(ids))
            out.write(ids.astype(dtype).tobytes())
            counts += np.bincount(ids, minlength=tokenizer.size)
            written += len(ids)
    finally:
        if out is not None:
            out.close()
    np.save(folder / f"{name}.documents.npy", np.array([shard, start, length], dtype=np.int64))
    size = sum(len(text.encode()) for text in texts)
    return {"shards": shards, "documents": len(texts), "tokens": int(sum(length)), "bytes": size}, counts


def in_memory(texts: list[str], tokenizer: TextTokenizer) -> Split:
    """A split that is not worth a folder: its tokens are held in memory."""
    documents = list(tokenizer.documents(texts))
    length = np.array([len(ids) for ids in documents], dtype=np.int64)
    start = length.cumsum() - length
    return Split((np.concatenate(documents),), np.zeros_like(length), start, length)


# ------------------------------------------------------------------------------------------------ rows


class RowSource(Protocol):
    """What a trainer reads: rows of one width, endlessly."""

    @property
    def width(self) -> int:
        """Tokens per row."""
        ...

    def at(self, seed: int, index: np.ndarray) -> Batch:
        """The batch of the given places (B,) in the endless sequence of rows of this seed."""
        ...


class Rows:
    """Rows of `width` tokens out of a split: one document window each, or several with pack=True.

    A document longer than a row is cut into windows of `width`; the last one is moved back so that it is full.
    """

    def __init__(
        self,
        split: Split,
        width: int,
        tokenizer: TextTokenizer,
        *,
        pack: bool = False,
        prompts: np.ndarray | None = None,
    ) -> None:
        """prompts: (documents,), how many first tokens of each document are given and never targets."""
        self.split, self.width, self.tokenizer = split, width, tokenizer
        self.prompts = prompts
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
        """The batch of the given rows (B,); `index` (B,) is what keys their randomness (default: the rows' numbers)."""
        pad = self.tokenizer.hf.pad_token_id
        tokens = np.full((len(rows), self.width), self.tokenizer.bos if pad is None else pad, dtype=np.int64)
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
                scorable[b, at] = (
                    self.offset[window] > 0
                )  # a document starts with BOS, which is never a target
                if self.prompts is not None:
                    given = max(int(self.prompts[self.document[window]] - self.offset[window]), 0)
                    scorable[b, at : at + min(given, count)] = False
                at += count
        ids = torch.from_numpy(tokens)
        whole = not documents.any()
        return Batch(
            tokens=ids,
            row=torch.from_numpy(np.asarray(rows if index is None else index, dtype=np.int64)),
            vocabulary=self.tokenizer.vocabulary,
            documents=None if whole else torch.from_numpy(documents),
            scorable=torch.from_numpy(scorable),
        )

    def at(self, seed: int, index: np.ndarray) -> Batch:
        """The batch of the given places (B,) in the endless shuffled sequence of rows of this seed."""
        epochs, places = np.divmod(index, len(self))
        rows = np.empty_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            rows[here] = permute(places[here], len(self), seed, int(epoch))
        return self.take(rows, index)


def _pack(lengths: np.ndarray, width: int) -> np.ndarray:
    """First window of each row (+ the end) when consecutive windows share rows as long as they fit."""
    first, filled = [0], 0
    for window, length in enumerate(lengths):
        if filled + length > width:
            first.append(window)
            filled = 0
        filled += length
    return np.array([*first, len(lengths)])


def permute(places: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """Where a random permutation of range(size) sends `places` (n,), without holding the permutation.

    A four-round Feistel network over the next even number of bits, walked along its cycle until it lands below `size`.
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    with np.errstate(over="ignore"):
        keys = mix64(
            mix64(np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15))
            + np.uint64(epoch) * np.uint64(4)
            + np.arange(4, dtype=np.uint64)
        )
        value = places.astype(np.uint64)
        pending = np.ones(len(value), dtype=bool)
        while pending.any():
            left, right = value[pending] >> np.uint64(half), value[pending] & low
            for key in keys:
                left, right = right, left ^ (mix64(right + key) & low)
            value[pending] = (left << np.uint64(half)) | right
            pending = value >= np.uint64(size)
    return value.astype(np.int64)
