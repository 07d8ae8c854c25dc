"""Exact counts of tokens a given lag apart, from which every objective's matrix is made.

    counts = count_lags(store, [1, 2, 3, -1])   # of a token store, kept beside it and reused
    counts = LagCounts.of_documents(documents, vocabulary=300, lags=range(1, 9))
    counts.matrix(2)   # C_2[u, v] = #(u at t, v at t + 2), int64, sparse

A lag is target position - context position; C_-l is C_l transposed and is not counted twice. A
tuple of lags (leftmost context first) counts ordered n-grams of context tokens with their target.
Pairs never cross a document's border. Counting is a sort of packed keys, 16M tokens at a time: out
of core, in parallel over parts of the corpus and lags on any concurrent.futures executor. Parts are
files, so that a stopped count resumes. Ours.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator
from scipy import sparse

from lookaround.data.shards import Split, TokenStore
from lookaround.support.errors import UserError
from lookaround.support.machine import usable_cores
from lookaround.support.records import Count, Stored, as_json, read_record
from lookaround.support.storage import make_folder, write_text
from lookaround.theory.tally import Code, Tally, count_again, merge, read_tally, tally, write_tally

FORMAT = 1
# tokens sorted at a time, in 0.3 GB; one job per part and lag. Smaller parts make more merges
PART_TOKENS = 1 << 24

Lags = tuple[int, ...]


def normal_lags(lags: int | Sequence[int]) -> tuple[Lags, bool]:
    """(the lags as counted, whether the count is then transposed): C_-l is C_l transposed."""
    given = (int(lags),) if isinstance(lags, int | np.integer) else tuple(int(lag) for lag in lags)
    if not given or 0 in given or len(set(given)) < len(given):
        raise ValueError(f"lags must be different whole numbers other than 0, got {given}")
    if len(given) == 1:
        return (abs(given[0]),), given[0] < 0
    return tuple(sorted(given, reverse=True)), False


# ----------------------------------------------------------------------------------------- counting


def _count_range(
    tokens: np.ndarray, document_ends: np.ndarray, lags: Lags, begin: int, end: int, code: Code
) -> Tally:
    """Counts tuples with leftmost token in tokens[begin:end]; document_ends (D,) are exclusive."""
    offsets = [-lag for lag in lags] + [0]  # of the contexts and of the target, from the target
    leftmost = min(offsets)
    width = max(offsets) - leftmost
    places = [offset - leftmost for offset in offsets]
    end = min(end, len(tokens) - width)
    if end <= begin:
        return Tally(np.zeros(0, code.dtype), np.zeros(0, np.int64))
    columns = [tokens[begin + place : end + place] for place in places]
    keys = code.keys(columns[:-1], columns[-1])
    first, last = np.searchsorted(document_ends, [begin, end + width - 1], side="right")
    if first != last:  # more than one document in sight
        borders = np.concatenate([[begin], document_ends[first:last], [end + width]])
        document = np.repeat(np.arange(len(borders) - 1, dtype=np.int32), np.diff(borders))
        keys = keys[document[: end - begin] == document[width:]]
    return tally(keys)


def _count_part(
    store: TokenStore,
    name: str,
    shard: int,
    begin: int,
    end: int,
    lags: Lags,
    code: Code,
    file: Path,
) -> int:
    """Counts the tuples whose leftmost token stands in a part of a shard; returns their number."""
    split = store.split(name)
    ends = (split.start + split.length)[split.shard == shard]
    counted = _count_range(split.files[shard], ends, lags, begin, end, code)
    write_tally(file, counted)
    return counted.total


def count_lags(
    store: TokenStore,
    lags: Iterable[int | Sequence[int]],
    *,
    split: str = "train",
    hash_bits: int | None = None,
    folder: Path | None = None,
    executor: Executor | None = None,
    on_progress: Callable[[int, int, int], None] | None = None,
) -> LagCounts:
    """Counts a split of a store at the given lags or tuples of lags, in `folder`.

    What the folder holds is not counted again: a stopped call resumes.

    folder: default: beside the store's tokens.
    executor: where parts are counted (default: threads, one per core); a process pool or a Dask
        client's executor must see the same disk.
    on_progress: called with (jobs done, jobs in all, tokens per job) after each job.

    Raises UserError for a lag that no document is longer than, a folder of another corpus or
    tokenizer, and a full disk.
    """
    wanted = list(dict.fromkeys(normal_lags(item)[0] for item in lags))
    parts = store.split(split)
    longest = int(parts.length.max(initial=0))
    for item in wanted:
        if _width(item) >= longest:
            raise UserError(
                f"lag {_width(item)}: no document of the corpus is longer than {longest} tokens; "
                "give a smaller lag"
            )
    folder = folder or store.folder / (
        f"counts-{split}" + (f"-hash{hash_bits}" if hash_bits else "")
    )
    if (folder / "index.json").is_file():
        counts = LagCounts.load(folder, store)
        if counts.split != split:
            raise UserError(
                f"{folder}/index.json: counts of split '{counts.split}', now '{split}'; give "
                "another folder"
            )
        if counts.hash_bits != hash_bits and any(len(item) > 1 for item in wanted):
            raise UserError(
                f"{folder}/index.json: counted with hash_bits={counts.hash_bits}, now {hash_bits}; "
                "give another folder"
            )
    else:
        bos = int(parts.read(0, 0, 1)[0])  # with which every document starts
        counts = LagCounts.begun(folder, store, split, never_targets=[bos], hash_bits=hash_bits)
    missing = [item for item in wanted if item not in counts.pairs]
    if missing:
        _count_missing(store, parts, missing, counts, folder, executor, on_progress)
    return LagCounts.load(folder, store)


def _width(lags: Lags) -> int:
    return max(max(lags), 0) - min(min(lags), 0)


def _count_missing(
    store: TokenStore,
    parts: Split,
    missing: list[Lags],
    counts: LagCounts,
    folder: Path,
    executor: Executor | None,
    on_progress: Callable[[int, int, int], None] | None,
) -> None:
    work = folder / "parts"
    make_folder(work)
    ranges = [
        (shard, begin, min(begin + PART_TOKENS, len(file)))
        for shard, file in enumerate(parts.files)
        for begin in range(0, len(file), PART_TOKENS)
    ]
    # sorting and arithmetic of numpy run outside the interpreter's lock
    pool = executor or ThreadPoolExecutor(usable_cores())
    pending: dict[Future, Lags] = {}
    files: dict[Lags, list[Path]] = {item: [] for item in missing}
    left = dict.fromkeys(missing, len(ranges))
    number = dict.fromkeys(missing, 0)
    total, tokens = len(missing) * len(ranges), parts.tokens // max(1, len(ranges))
    there: list[tuple[Lags, Path]] = []

    def count(item: Lags, found: int) -> None:
        """Takes in one part; the last one of a lag makes its file."""
        number[item] += found
        left[item] -= 1
        if not left[item]:
            _join(files[item], file_of(folder, item))
            counts.pairs[item] = number[item]
            counts.write_index()
        if on_progress is not None:
            on_progress(total - sum(left.values()), total, tokens)

    try:
        for item, (shard, begin, end) in itertools.product(missing, ranges):
            file = work / f"{_name(item)}.{shard:04d}-{begin // PART_TOKENS:05d}.npz"
            files[item].append(file)
            if file.is_file():
                there.append((item, file))
                continue
            code = counts.code(len(item))
            job = pool.submit(_count_part, store, counts.split, shard, begin, end, item, code, file)
            pending[job] = item
        # not in the pool: CPython 3.11's `ast`, which numpy reads headers with, fails in threads
        for item, file in there:
            count(item, read_tally(file).total)
        while pending:
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                count(pending.pop(future), future.result())
    finally:
        for future in pending:
            future.cancel()
        if executor is None:
            pool.shutdown(wait=True)
    shutil.rmtree(work, ignore_errors=True)


def _join(files: list[Path], into: Path) -> None:
    """Makes one file of the parts of a count."""
    if len(files) > 1:
        write_tally(into, merge(map(read_tally, files)))
        for file in files:
            file.unlink()
    else:
        os.replace(files[0], into)


# --------------------------------------------------------------------------------- what was counted


def _lags(pairs: dict[str, int]) -> dict[str, int]:
    """Numbers by lags such as "1" and "2,1"; raises ValueError for other keys."""
    for key in pairs:
        try:
            normal_lags([*map(int, key.split(","))])
        except ValueError:
            raise ValueError(
                f"numbers by lags such as '1' and '2,1', not by {as_json(key)}"
            ) from None
    return pairs


class _Index(Stored):
    """index.json of a folder of counts."""

    format: int
    fingerprint: str
    split: Literal["train", "validation", "test"]
    vocabulary: Annotated[int, Field(ge=1, le=1 << 32)]
    tokens: Count
    documents: Count
    never_targets: list[Count]
    hash_bits: Annotated[int, Field(ge=1, le=64)] | None = None
    pairs: Annotated[dict[str, Count], AfterValidator(_lags)]

    @model_validator(mode="after")
    def _ids_and_pairs_are_there(self) -> Self:
        if any(token >= self.vocabulary for token in self.never_targets):
            raise ValueError(
                f"field 'never_targets' is {as_json(self.never_targets)}; expected ids below "
                f"{self.vocabulary}"
            )
        most = max(self.pairs.values(), default=0)
        if most > self.tokens:
            raise ValueError(f"field 'tokens' is {self.tokens}; expected {most} or more, as pairs")
        return self


def _require_same(index: _Index, store: TokenStore, file: Path) -> None:
    """Raises UserError for counts of another store."""
    if index.fingerprint != store.fingerprint:
        raise UserError(
            f"{file}: counts of another corpus or tokenizer (fingerprint "
            f"{index.fingerprint[:16]}, now {store.fingerprint[:16]}); give another folder, "
            f"or {count_again(file.parent)}"
        )
    part = store.index["splits"].get(index.split, {})
    own = {
        "vocabulary": store.index["vocabulary"],
        "tokens": part.get("tokens"),
        "documents": part.get("documents"),
    }
    for name, value in own.items():
        if getattr(index, name) != value:
            raise UserError(
                f"{file}: field '{name}' is {getattr(index, name)}, of its corpus {value}; "
                f"{count_again(file.parent)}"
            )


class LagCounts:
    """Counts of one corpus at some lags, in memory or read from a folder when asked for.

    vocabulary: ids are below it.
    tokens, documents: of the corpus. pairs {lags: tuples counted}.
    never_targets: ids (BOS) that objectives never predict.
    fingerprint: of corpus and tokenizer, "" for counts in memory.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        tokens: int,
        documents: int,
        never_targets: Sequence[int] = (),
        fingerprint: str = "",
        split: str = "train",
        hash_bits: int | None = None,
        pairs: dict[Lags, int] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.vocabulary, self.tokens, self.documents = vocabulary, tokens, documents
        self.never_targets, self.fingerprint, self.split = tuple(never_targets), fingerprint, split
        self.hash_bits, self.folder = hash_bits, folder
        self.pairs = pairs if pairs is not None else {}
        self._held: dict[Lags, Tally] = {}

    @classmethod
    def begun(cls, folder: Path, store: TokenStore, split: str, **options: Any) -> Self:
        """No counts yet of a split of a store, in a new folder; options are those of the class."""
        make_folder(folder)
        part = store.split(split)
        counts = cls(
            store.index["vocabulary"],
            tokens=part.tokens,
            documents=len(part.length),
            fingerprint=store.fingerprint,
            split=split,
            folder=folder,
            **options,
        )
        counts.write_index()
        return counts

    @classmethod
    def of_documents(
        cls,
        documents: Iterable[Sequence[int]],
        vocabulary: int,
        lags: Iterable[int | Sequence[int]],
        *,
        never_targets: Sequence[int] = (),
        hash_bits: int | None = None,
    ) -> LagCounts:
        """Counts of documents of token ids in memory; raises ValueError for ids out of range."""
        arrays = [np.asarray(document, dtype=np.int64) for document in documents]
        flat = np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
        if len(flat) and not 0 <= flat.min() <= flat.max() < vocabulary:
            raise ValueError(
                f"token ids must lie in 0 to {vocabulary - 1}, found {flat.min()} to {flat.max()}"
            )
        flat = flat.astype(np.uint32)
        ends = np.cumsum([len(array) for array in arrays])
        counts = cls(
            vocabulary,
            tokens=len(flat),
            documents=len(arrays),
            never_targets=never_targets,
            hash_bits=hash_bits,
        )
        for item in lags:
            key, _ = normal_lags(item)
            code = counts.code(len(key))
            counts._held[key] = merge(
                _count_range(flat, ends, key, begin, min(begin + PART_TOKENS, len(flat)), code)
                for begin in range(0, max(len(flat), 1), PART_TOKENS)
            )
            counts.pairs[key] = counts._held[key].total
        return counts

    @classmethod
    def load(cls, folder: str | Path, store: TokenStore | None = None) -> LagCounts:
        """Counts of a folder written by `count_lags`; with a store, only those of its corpus.

        Raises UserError where they are of another, or the folder holds none.
        """
        file = Path(folder) / "index.json"
        if not file.is_file():
            raise UserError(f"{folder}: no counts here (no index.json)")
        try:
            index = read_record(file, _Index)
        except UserError as error:
            raise UserError(f"{error}; {count_again(Path(folder))}") from None
        if index.format != FORMAT:
            raise UserError(
                f"{file}: field 'format' is {index.format}; this lookaround reads {FORMAT}"
            )
        if store is not None:
            _require_same(index, store, file)
        return cls(
            index.vocabulary,
            tokens=index.tokens,
            documents=index.documents,
            never_targets=index.never_targets,
            fingerprint=index.fingerprint,
            split=index.split,
            hash_bits=index.hash_bits,
            pairs={
                normal_lags([*map(int, key.split(","))])[0]: n for key, n in index.pairs.items()
            },
            folder=Path(folder),
        )

    def write_index(self) -> None:
        """Writes what is counted so far beside it."""
        assert self.folder is not None
        index = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "split": self.split,
            "vocabulary": self.vocabulary,
            "tokens": self.tokens,
            "documents": self.documents,
            "never_targets": list(self.never_targets),
            "hash_bits": self.hash_bits,
            "pairs": {",".join(map(str, key)): n for key, n in self.pairs.items()},
        }
        write_text(self.folder / "index.json", json.dumps(index, indent=1))

    def number(self, lags: int | Sequence[int]) -> int:
        """How many tuples stand at lags that were counted; raises UserError for others."""
        key, _ = normal_lags(lags)
        if key not in self.pairs:
            counted = ", ".join(",".join(map(str, item)) for item in sorted(self.pairs)) or "none"
            raise UserError(
                f"lag {','.join(map(str, key))}: was not counted; counted are {counted}"
            )
        return self.pairs[key]

    def tally(self, lags: int | Sequence[int]) -> Tally:
        """Distinct keys and their counts at lags that were counted; raises UserError for others."""
        key, _ = normal_lags(lags)
        number = self.number(key)
        if self.folder is None:
            return self._held[key]
        file = file_of(self.folder, key)
        counted = read_tally(file)
        if not self.code(len(key)).holds(counted.keys):
            raise UserError(
                f"{file}: keys of another vocabulary than {self.vocabulary:,}; "
                f"{count_again(self.folder)}"
            )
        if counted.total != number:
            raise UserError(
                f"{file}: holds {counted.total:,} pairs, its index says {number:,}; "
                f"{count_again(self.folder)}"
            )
        return counted

    def code(self, n: int) -> Code:
        """How keys of n context tokens are packed."""
        return Code(self.vocabulary, n, self.hash_bits if n > 1 else None)

    def matrix(self, lag: int) -> sparse.csr_array:
        """C_lag (vocabulary, vocabulary) int64: context tokens by the tokens `lag` further on."""
        key, transposed = normal_lags(lag)
        pairs = self.tally(key)
        rows, columns = self.code(1).split(pairs.keys)
        start = np.searchsorted(rows, np.arange(self.vocabulary + 1, dtype=np.uint64))
        shape = (self.vocabulary, self.vocabulary)
        matrix = sparse.csr_array((pairs.counts, columns.astype(np.int32), start), shape=shape)
        return sparse.csr_array(matrix.T) if transposed else matrix


# -------------------------------------------------------------------------------------------- files


def file_of(folder: Path, lags: Lags) -> Path:
    """Where the counts of some lags are kept."""
    return folder / f"{_name(lags)}.npz"


def _name(lags: Lags) -> str:
    return "lag" + "".join(f"{lag:+d}" for lag in lags)
