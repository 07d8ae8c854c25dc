"""Token shards on disk.

A store is a folder: tokenizer files, `index.json`, and per split (train, validation, test) flat
`uint16`/`uint32` files of tokens plus document offsets. Its name carries the fingerprint of corpus
and tokenizer, so a second run reuses it and a changed corpus does not.
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
from typing import Any

import numpy as np

from lookaround.data.corpus import Corpus, split_documents
from lookaround.data.text import Lost, TextTokenizer, load_tokenizer, train_tokenizer
from lookaround.support.errors import UserError
from lookaround.support.storage import disk_errors

FORMAT = 2
SHARD_TOKENS = 1 << 28
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """One split: document d is tokens start[d] : start[d] + length[d] of files[shard[d]].

    bytes: of the text of each document, (documents,); None where they are no text.
    """

    files: tuple[np.ndarray, ...]
    shard: np.ndarray
    start: np.ndarray
    length: np.ndarray
    bytes: np.ndarray | None = None

    @property
    def tokens(self) -> int:
        return int(self.length.sum())

    def read(self, document: int, offset: int, count: int) -> np.ndarray:
        """`count` tokens of a document from `offset` on."""
        begin = self.start[document] + offset
        return self.files[self.shard[document]][begin : begin + count]


@dataclass(frozen=True)
class ReversedSplit(Split):
    """A split whose documents are read from their ends: BOS first, then the text backwards.

    last: tokens at the end of each document that stay there, its EOS.
    """

    last: int = 0

    def read(self, document: int, offset: int, count: int) -> np.ndarray:
        """`count` tokens from `offset` on of a document read from its end."""
        position, end = np.arange(offset, offset + count), self.length[document] - self.last
        inner = (position > 0) & (position < end)
        position = np.where(inner, end - position, position)
        return self.files[self.shard[document]][self.start[document] + position]


@dataclass(frozen=True)
class TokenStore:
    """A folder of token shards with the tokenizer they were made by."""

    folder: Path
    index: dict[str, Any]

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        return load_tokenizer(str(self.folder / "tokenizer")).losing(Lost(*self.index["lost"]))

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

    def reversed_split(self, name: str) -> ReversedSplit:
        """The same with every document from its end."""
        return ReversedSplit(**vars(self.split(name)), last=int(self.tokenizer.eos is not None))

    def unigram(self) -> np.ndarray:
        """Counts of each token in the training part, (vocabulary,) int64."""
        return np.load(self.folder / "unigram.npy")


def cache_folder() -> Path:
    """Where token shards are kept: $LOOKAROUND_CACHE, $XDG_CACHE_HOME/lookaround or ~/.cache."""
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
    """The token store of a corpus: taken from the cache, or split, encoded and written.

    Raises UserError for too few documents or a full disk; nothing half-written is left behind.
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
    text = text.measured([corpus.documents[i] for i in parts["train"]])
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
    folder: Path,
    corpus: Corpus,
    parts: dict[str, list[int]],
    tokenizer: TextTokenizer,
    index: dict[str, Any],
) -> None:
    """Fills a new folder: tokenizer, shards of every split, token counts of the training part."""
    tokenizer.save(folder / "tokenizer")
    dtype = np.dtype(np.uint16 if tokenizer.size <= 1 << 16 else np.uint32)
    splits = {}
    for name in SPLITS:
        texts = [corpus.documents[i] for i in parts[name]]
        splits[name], counts = _write_split(folder, name, texts, tokenizer, dtype)
        if name == "train":
            np.save(folder / "unigram.npy", counts)
    index |= {"dtype": dtype.name, "vocabulary": tokenizer.size, "splits": splits}
    index["lost"] = tokenizer.lost
    (folder / "index.json").write_text(json.dumps(index, indent=1))


def _write_split(
    folder: Path, name: str, texts: list[str], tokenizer: TextTokenizer, dtype: np.dtype
) -> tuple[dict[str, Any], np.ndarray]:
    """Encodes texts into shards; returns the split's index entry and token counts (vocabulary,)."""
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
    size = [len(text.encode()) for text in texts]
    columns = np.array([shard, start, length, size], dtype=np.int64)
    np.save(folder / f"{name}.documents.npy", columns)
    return {
        "shards": shards,
        "documents": len(texts),
        "tokens": int(sum(length)),
        "bytes": sum(size),
    }, counts


def in_memory(texts: list[str], tokenizer: TextTokenizer) -> Split:
    """A split that is not worth a folder: its tokens are held in memory."""
    documents = list(tokenizer.documents(texts))
    length = np.array([len(ids) for ids in documents], dtype=np.int64)
    start = length.cumsum() - length
    size = np.array([len(text.encode()) for text in texts], dtype=np.int64)
    return Split((np.concatenate(documents),), np.zeros_like(length), start, length, size)
