"""Token shards on disk.

A store is a folder: tokenizer files, `index.json`, and per split (train, validation, test) flat
`uint16`/`uint32` files of tokens plus document offsets. Its name carries the fingerprint of corpus
and tokenizer, so a second run reuses it and a changed corpus does not.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from lookaround.data.codecs import AnyCodec, load_codec
from lookaround.data.corpus import Corpus, cache_folder, split_documents, split_note
from lookaround.data.documents import Documents
from lookaround.data.patches import (
    CODEBOOK_FILE,
    PatchCodec,
    default_patch,
    fitted,
    load_patches,
    require_patch,
)
from lookaround.data.pictures import Pictures
from lookaround.data.text import Encoded, Lost, TextTokenizer, load_tokenizer, train_tokenizer
from lookaround.support.errors import UserError
from lookaround.support.storage import disk_errors, sync_folder

FORMAT = 2
SHARD_TOKENS = 1 << 28
ABANDONED_SECONDS = 24 * 3600
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
    def codec(self) -> AnyCodec:
        place = self.folder / "tokenizer"
        if not place.is_dir():
            raise UserError(
                f"{self.folder}: token shards were deleted while in use; the same command makes "
                "them again and goes on"
            )
        codec = load_codec(place)
        return codec if isinstance(codec, PatchCodec) else codec.losing(Lost(*self.index["lost"]))

    @property
    def fingerprint(self) -> str:
        return self.index["fingerprint"]

    @property
    def notes(self) -> list[str]:
        """What was chosen to make it: one sentence each."""
        return self.index.get("notes", [])

    def split(self, name: str) -> Split:
        """The tokens of "train", "validation" or "test", memory-mapped.

        Raises UserError where the folder was deleted or torn since it was opened.
        """
        with self._whole():
            offsets = np.load(self.folder / f"{name}.documents.npy")
            dtype = np.dtype(self.index["dtype"])
            shards = self.index["splits"][name]["shards"]
            files = tuple(np.memmap(self.folder / file, dtype=dtype, mode="r") for file in shards)
            return Split(files, *offsets)

    def reversed_split(self, name: str) -> ReversedSplit:
        """The same with every document from its end."""
        return ReversedSplit(**vars(self.split(name)), last=int(self.codec.eos is not None))

    def unigram(self) -> np.ndarray:
        """Counts of each token in the training part, (vocabulary,) int64."""
        with self._whole():
            return np.load(self.folder / "unigram.npy")

    @contextmanager
    def _whole(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # numpy raises many kinds for a damaged header
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise UserError(
                f"{self.folder}: token shards were deleted or damaged while in use ({reason}); the "
                "same command makes them again and goes on"
            ) from None


def prepare(
    corpus: Corpus,
    *,
    vocabulary: int,
    tokenizer: str | None = None,
    seed: int = 0,
    validation: float = 0.05,
    test: float = 0.05,
    cache: Path | None = None,
    heard: Callable[[int, int], None] = lambda done, total: None,
) -> TokenStore:
    """The token store of a corpus: taken from the cache, or split, encoded and written.

    heard: called with the bytes of text that are encoded, and with all of them.

    A store that is torn is made again. Raises UserError for too few documents or a full disk;
    nothing half-written is left behind.
    """
    given = load_tokenizer(tokenizer) if tokenizer else None
    key = {
        "format": FORMAT,
        "corpus": corpus.fingerprint,
        "tokenizer": given.fingerprint if given else f"byte-level BPE of {vocabulary}",
        "split": [seed, validation, test],
    }

    def fill(folder: Path, index: dict[str, Any]) -> None:
        documents = corpus.documents
        try:
            parts = split_documents(documents, seed=seed, validation=validation, test=test)
        except UserError as error:
            raise UserError(f"{corpus.description.get('source', corpus.name)}: {error}") from None
        train = documents[parts["train"]]
        text = given or train_tokenizer(train, vocabulary, train.size)
        note = split_note(corpus, parts, {"validation": validation, "test": test})
        index["notes"] = [told for told in (note, text.learned) if told]
        texts = {name: documents[parts[name]] for name in SPLITS}
        _write_store(folder, texts, text.measured(train), index, heard)

    return _kept(key, cache, fill)


def prepare_pictures(
    pictures: Pictures,
    parts: Mapping[str, np.ndarray],
    *,
    patch: int | None = None,
    codes: int | None = None,
    seed: int = 0,
    cache: Path | None = None,
) -> TokenStore:
    """The token store of pictures: taken from the cache, or coded and written.

    parts: {part: indices of its pictures}; the codebook is fitted on the training part alone.
    patch, codes: pixels a side, and the size of the codebook; None: see data/patches.py.

    Raises UserError for patches that do not divide the pictures, fewer different patches than
    codes, and a full disk.
    """
    _, height, width = pictures.pixels.shape
    side = patch or default_patch(height, width)
    require_patch(height, width, side, pictures.name)
    digest = hashlib.sha256(b"".join(np.asarray(parts[name]).tobytes() + b"|" for name in SPLITS))
    key = {
        "format": FORMAT,
        "corpus": pictures.fingerprint,
        "tokenizer": f"{side} x {side} pixels, {codes} codes, seed {seed}",
        "split": digest.hexdigest(),
    }

    def fill(folder: Path, index: dict[str, Any]) -> None:
        train = pictures.pixels[parts["train"]]
        codec = fitted(train, side, codes, seed=seed, name=pictures.name)
        (folder / "tokenizer").mkdir()
        codec.save(folder / "tokenizer")
        dtype = np.dtype(np.uint16 if codec.size <= 1 << 16 else np.uint32)
        splits = {}
        for name in SPLITS:
            tokens = codec.tokens(pictures.pixels[parts[name]], dtype)
            splits[name], counts = _write_rows(folder, name, tokens, codec.size, height * width)
            if name == "train":
                np.save(folder / "unigram.npy", counts)
        index |= {"dtype": dtype.name, "vocabulary": codec.size, "splits": splits, "notes": []}

    return _kept(key, cache, fill)


def _kept(
    key: dict[str, Any], cache: Path | None, fill: Callable[[Path, dict[str, Any]], None]
) -> TokenStore:
    """The store of a key: taken from the cache, or written by `fill` (folder, its index).

    Raises UserError for a full disk, and what `fill` raises.
    """
    fingerprint = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    folder = (cache or cache_folder()) / f"tokens-{fingerprint[:16]}"
    store = _stored(folder, fingerprint)
    if store is not None:
        return store
    index: dict[str, Any] = {"fingerprint": fingerprint, "key": key}
    temporary = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    _remove_abandoned(folder.parent)
    try:
        with disk_errors(folder):
            temporary.mkdir(parents=True)
            fill(temporary, index)
            (temporary / "index.json").write_text(json.dumps(index, indent=1))
            sync_folder(temporary)
            if _stored(folder, fingerprint) is None:  # else another process was faster
                shutil.rmtree(folder, ignore_errors=True)
                temporary.rename(folder)
    except UserError:
        if _stored(folder, fingerprint) is None:  # else another process was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    store = _stored(folder, fingerprint)
    if store is None:
        raise UserError(
            f"{folder}: was deleted while it was written; the same command makes it again"
        )
    return store


def _remove_abandoned(cache: Path) -> None:
    """Removes what processes that were killed a day ago or earlier had not finished."""
    for path in cache.glob("tokens-*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _stored(folder: Path, fingerprint: str) -> TokenStore | None:
    """The store in a folder; None where there is none, another, or one that is not whole."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if index["fingerprint"] != fingerprint:
            return None
        store = TokenStore(folder, index)
        for name in SPLITS:
            split = store.split(name)
            told = index["splits"][name]
            if (split.tokens, len(split.length)) != (told["tokens"], told["documents"]):
                return None
            ends = np.array([len(file) for file in split.files])
            if (split.start + split.length > ends[split.shard]).any():
                return None
        counts = store.unigram()
        whole = len(counts) == index["vocabulary"]
        if (folder / "tokenizer" / CODEBOOK_FILE).is_file():
            load_patches(folder / "tokenizer")  # cut short, it is made again
            return store if whole else None
        return store if whole and (folder / "tokenizer" / "tokenizer.json").is_file() else None
    except Exception:  # numpy raises many kinds for a damaged header
        return None


def _write_store(
    folder: Path,
    texts: Mapping[str, Documents],
    tokenizer: TextTokenizer,
    index: dict[str, Any],
    heard: Callable[[int, int], None],
) -> None:
    """Fills a new folder: tokenizer, shards of every split, token counts of the training part."""
    tokenizer.save(folder / "tokenizer")
    dtype = np.dtype(np.uint16 if tokenizer.size <= 1 << 16 else np.uint32)
    total, done = sum(part.bytes for part in texts.values()), 0
    splits = {}
    for name, part in texts.items():

        def told(bytes_done: int, before: int = done) -> None:
            heard(before + bytes_done, total)

        splits[name], counts = _write_split(folder, name, part, tokenizer, dtype, told)
        done += part.bytes
        if name == "train":
            np.save(folder / "unigram.npy", counts)
    index |= {"dtype": dtype.name, "vocabulary": tokenizer.size, "splits": splits}
    index["lost"] = tokenizer.lost


class _ShardWriter:
    """Appends tokens to shards.

    counts: of each token so far, (vocabulary,) int64.
    size: tokens of the shard at hand.
    """

    def __init__(self, folder: Path, name: str, vocabulary: int) -> None:
        self.folder, self.name = folder, name
        self.shards: list[str] = []
        self.counts = np.zeros(vocabulary, dtype=np.int64)
        self.size = 0
        self._file: IO[bytes] | None = None

    def begin(self) -> None:
        """Begins another shard where there is none, or a full one; not within a document."""
        if self._file is None or self.size >= SHARD_TOKENS:
            self.close()
            self.shards.append(f"{self.name}-{len(self.shards):05d}.bin")
            self._file = open(self.folder / self.shards[-1], "wb")  # noqa: SIM115 (closed by `close`)
            self.size = 0

    def add(self, tokens: np.ndarray) -> None:
        """Adds tokens, of the type that they are written in."""
        assert self._file is not None
        self._file.write(tokens.tobytes())
        self.counts += np.bincount(tokens, minlength=len(self.counts))
        self.size += len(tokens)

    def close(self) -> None:
        """Closes the shard at hand."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _write_split(
    folder: Path,
    name: str,
    texts: Documents,
    tokenizer: TextTokenizer,
    dtype: np.dtype,
    heard: Callable[[int], None],
) -> tuple[dict[str, Any], np.ndarray]:
    """Encodes texts into shards; returns the split's index entry and token counts (vocabulary,)."""
    shard, start, length = (np.zeros(len(texts), dtype=np.int64) for _ in range(3))
    writer = _ShardWriter(folder, name, tokenizer.size)
    done = texts.size.cumsum()
    begun = ended = 0  # documents
    try:
        for batch in tokenizer.batches(texts):
            if begun == ended:
                writer.begin()
            tokens, first, behind = _with_ends(batch, tokenizer, dtype)
            new = slice(begun, begun + len(first))
            shard[new], start[new] = len(writer.shards) - 1, writer.size + first
            whole = slice(ended, ended + len(behind))
            length[whole] = writer.size + behind - start[whole]
            begun, ended = new.stop, whole.stop
            writer.add(tokens)
            if ended:
                heard(int(done[ended - 1]))
    finally:
        writer.close()
    np.save(folder / f"{name}.documents.npy", np.array([shard, start, length, texts.size]))
    return {
        "shards": writer.shards,
        "documents": len(texts),
        "tokens": int(length.sum()),
        "bytes": texts.bytes,
    }, writer.counts


def _write_rows(
    folder: Path, name: str, tokens: np.ndarray, vocabulary: int, size: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Writes documents of one length (N, T), in shards of their own; returns what `_write_split`
    does. size: of each document, in its units.
    """
    count, length = tokens.shape
    per_shard = max(1, SHARD_TOKENS // length)
    writer = _ShardWriter(folder, name, vocabulary)
    try:
        for begin in range(0, count, per_shard):
            writer.close()
            writer.begin()
            writer.add(tokens[begin : begin + per_shard].ravel())
    finally:
        writer.close()
    number = np.arange(count)
    columns = [number // per_shard, number % per_shard * length]
    columns += [np.full(count, length), np.full(count, size)]
    np.save(folder / f"{name}.documents.npy", np.array(columns, dtype=np.int64))
    return {
        "shards": writer.shards,
        "documents": count,
        "tokens": tokens.size,
        "bytes": count * size,
    }, writer.counts


def _with_ends(
    batch: Encoded, tokenizer: TextTokenizer, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tokens with BOS and EOS around each document, places of the first tokens of those that begin
    among them, places behind the last ones of those that end).
    """
    eos = tokenizer.eos is not None
    sizes = batch.lengths + batch.begins + eos * batch.ends
    stops = sizes.cumsum()
    first, behind = (stops - sizes)[batch.begins], stops[batch.ends]
    tokens = np.empty(int(sizes.sum()), dtype=dtype)
    inner = np.ones(len(tokens), dtype=bool)
    tokens[first], inner[first] = tokenizer.bos, False
    if eos:
        tokens[behind - 1], inner[behind - 1] = tokenizer.eos, False
    tokens[inner] = batch.ids
    return tokens, first, behind


def in_memory(texts: Sequence[str], tokenizer: TextTokenizer) -> Split:
    """A split that is not worth a folder: its tokens are held in memory."""
    dtype = np.uint16 if tokenizer.size <= 1 << 16 else np.uint32
    documents = [ids.astype(dtype) for ids in tokenizer.documents(texts)]
    length = np.array([len(ids) for ids in documents], dtype=np.int64)
    start = length.cumsum() - length
    known = texts.size if isinstance(texts, Documents) else [len(text.encode()) for text in texts]
    size = np.array(known, dtype=np.int64)
    return Split((np.concatenate(documents),), np.zeros_like(length), start, length, size)
