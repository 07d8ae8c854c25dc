"""Counting: exact against brute force, over parts, shards and executors; resumed, reused, and
refused where it must be.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import sentences
from lookaround.data import shards, text
from lookaround.data.corpus import make_corpus
from lookaround.data.shards import TokenStore, prepare
from lookaround.support.errors import UserError
from lookaround.theory import lags as module
from lookaround.theory.lags import LagCounts, count_lags, normal_lags
from lookaround.theory.tally import Code, Tally, merge, read_tally, tally

LAGS = [1, 2, 7, -1, (2, 1), (1, -1), (-1, -3), (3, 1, -2)]


def brute_force(documents: list[list[int]], lags: tuple[int, ...]) -> Counter:
    """{(context tokens, leftmost first, then the target): number} by looking at every position."""
    found: Counter = Counter()
    for document in documents:
        for position, target in enumerate(document):
            places = [position - lag for lag in sorted(lags, reverse=True)]
            if all(0 <= place < len(document) for place in places):
                found[(*(int(document[place]) for place in places), int(target))] += 1
    return found


def counted(counts: LagCounts, lags: tuple[int, ...]) -> Counter:
    """What a count holds, with keys unpacked."""
    found = counts.tally(lags)
    code = counts.code(len(lags))
    row, target = code.split(found.keys)
    unpacked = []
    for r, t in zip(row.tolist(), target.tolist(), strict=True):
        tokens = [
            (r >> code.bits * place) & ((1 << code.bits) - 1) for place in reversed(range(code.n))
        ]
        unpacked.append((*tokens, t))
    return Counter(dict(zip(unpacked, found.counts.tolist(), strict=True)))


@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=6),
    lags=st.lists(st.integers(-5, 5).filter(bool), min_size=1, max_size=3, unique=True),
    part=st.integers(1, 9),
)
def test_counts_are_those_of_looking_at_every_position(
    documents: list, lags: list, part: int
) -> None:
    before, module.PART_TOKENS = module.PART_TOKENS, part
    try:
        counts = LagCounts.of_documents(documents, 5, [tuple(lags)])
    finally:
        module.PART_TOKENS = before
    key, transposed = normal_lags(tuple(lags))
    assert transposed == (len(lags) == 1 and lags[0] < 0)
    assert counted(counts, key) == brute_force(documents, key)
    assert counts.pairs[key] == sum(brute_force(documents, key).values())


@pytest.mark.parametrize("vocabulary", [5, 256, 300, 65_536, 65_537, 70_000])
def test_matrices_of_any_vocabulary(vocabulary: int) -> None:
    generator = np.random.default_rng(vocabulary)
    used = np.unique(generator.integers(0, vocabulary, 12))
    used[-1] = vocabulary - 1  # the largest id is an id
    documents = [generator.choice(used, 40).tolist() for _ in range(5)]
    counts = LagCounts.of_documents(documents, vocabulary, [3])
    matrix, behind = counts.matrix(3).tocoo(), counts.matrix(-3)
    expected = brute_force(documents, (3,))
    found = {
        (int(u), int(v)): int(n)
        for u, v, n in zip(matrix.row, matrix.col, matrix.data, strict=True)
    }
    assert found == dict(expected)
    assert matrix.dtype == np.int64
    assert all(behind[v, u] == n for (u, v), n in expected.items()), (
        "a lag below 0 is the transpose"
    )


def test_merging_is_addition() -> None:
    generator = np.random.default_rng(0)
    parts = [generator.integers(0, 50, size, dtype=np.uint32) for size in (5, 400, 1, 90, 90, 3)]
    whole = np.bincount(np.concatenate(parts), minlength=50)
    found = merge([tally(part.copy()) for part in parts])
    assert np.array_equal(found.keys, np.flatnonzero(whole))
    assert np.array_equal(found.counts, whole[whole > 0])


def test_hashed_rows_hold_the_same_counts() -> None:
    generator = np.random.default_rng(1)
    documents = [generator.integers(0, 30, 60).tolist() for _ in range(20)]
    exact = LagCounts.of_documents(documents, 30, [(2, 1)])
    wide = LagCounts.of_documents(documents, 30, [(2, 1)], hash_bits=40)
    narrow = LagCounts.of_documents(documents, 30, [(2, 1)], hash_bits=3)
    assert sorted(exact.tally((2, 1)).counts) == sorted(wide.tally((2, 1)).counts), (
        "40 bits: no collision here"
    )
    assert narrow.tally((2, 1)).total == exact.tally((2, 1)).total
    rows, _ = narrow.code(2).split(narrow.tally((2, 1)).keys)
    assert rows.max() < 8


def test_ngrams_too_long_to_pack_are_refused() -> None:
    with pytest.raises(UserError, match="give at most 3, or hash"):
        Code(65_536, 4)
    with pytest.raises(UserError, match="hash_bits"):
        Code(65_536, 4, hash_bits=60)
    assert Code(65_536, 4, hash_bits=48).dtype == np.uint64


# ---------------------------------------------------------------------------------------- stores


def store_documents(store: TokenStore) -> list[list[int]]:
    split = store.split("train")
    return [split.read(d, 0, split.length[d]).tolist() for d in range(len(split.length))]


@pytest.fixture
def sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenStore:
    """A store of several small shards, counted in parts of a few hundred tokens."""
    monkeypatch.setattr(shards, "SHARD_TOKENS", 1500)
    monkeypatch.setattr(text, "CHUNK", 10)
    monkeypatch.setattr(module, "PART_TOKENS", 400)
    store = prepare(
        make_corpus("words", sentences(120, seed=5), {}), vocabulary=300, cache=tmp_path / "cache"
    )
    assert len(store.index["splits"]["train"]["shards"]) > 2
    return store


@pytest.mark.slow
def test_a_store_of_many_shards_and_parts_is_counted_exactly(
    sharded: TokenStore, tmp_path: Path
) -> None:
    counts = count_lags(sharded, LAGS, folder=tmp_path / "counts")
    documents = store_documents(sharded)
    for lags in LAGS:
        key, _ = normal_lags(lags)
        assert counted(counts, key) == brute_force(documents, key), lags
    assert counts.tokens == sum(map(len, documents))
    assert counts.never_targets == (sharded.codec.bos,)
    assert not (tmp_path / "counts" / "parts").exists()


def test_processes_count_what_threads_count(store: TokenStore, tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        ours = count_lags(store, [1, (2, 1)], folder=tmp_path / "processes", executor=pool)
    theirs = count_lags(store, [1, (2, 1)], folder=tmp_path / "threads")
    for lags in (1, (2, 1)):
        assert np.array_equal(ours.tally(lags).keys, theirs.tally(lags).keys)
        assert np.array_equal(ours.tally(lags).counts, theirs.tally(lags).counts)


def test_a_dask_cluster_counts_the_same(store: TokenStore, tmp_path: Path) -> None:
    distributed = pytest.importorskip(
        "distributed", reason="dask is not installed: pip install 'lookaround[cluster]'"
    )
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        ours = count_lags(store, [1, 5], folder=tmp_path / "dask", executor=client.get_executor())
    theirs = count_lags(store, [1, 5], folder=tmp_path / "threads")
    assert all(np.array_equal(ours.tally(lag).counts, theirs.tally(lag).counts) for lag in (1, 5))


class Dying(Executor):
    """Runs jobs one by one and dies at the n-th."""

    def __init__(self, at: int) -> None:
        self.at, self.jobs = at, 0

    def submit(self, fn, /, *args, **kwargs) -> Future:  # type: ignore[no-untyped-def]
        future: Future = Future()
        self.jobs += 1
        if self.jobs == self.at:
            future.set_exception(KeyboardInterrupt())
        elif self.jobs > self.at:
            future.cancel()
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_a_count_that_was_stopped_goes_on(
    sharded: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "counts"
    with pytest.raises(KeyboardInterrupt):
        count_lags(sharded, [1, 2], folder=folder, executor=Dying(5))
    kept = {path.name for path in (folder / "parts").iterdir()}
    assert len(kept) == 4
    counted_again = []
    real = module._count_range
    monkeypatch.setattr(module, "_count_range", lambda *a: counted_again.append(a[2:5]) or real(*a))
    readers, progress = [], []
    monkeypatch.setattr(
        module,
        "read_tally",
        lambda file: readers.append(threading.current_thread()) or read_tally(file),
    )
    counts = count_lags(
        sharded, [1, 2], folder=folder, on_progress=lambda *event: progress.append(event[:2])
    )
    assert set(readers) == {threading.main_thread()}, "np.load in threads fails at times"
    jobs = sum(-(-len(f) // 400) for f in sharded.split("train").files)
    assert progress == [(done, 2 * jobs) for done in range(1, 2 * jobs + 1)]
    assert len(counted_again) == 2 * jobs - 4, "what was counted is not counted again"
    documents = store_documents(sharded)
    assert all(counted(counts, (lag,)) == brute_force(documents, (lag,)) for lag in (1, 2))


def test_counts_are_reused_and_extended(store: TokenStore, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    count_lags(store, [1, 2], folder=tmp_path, on_progress=lambda *event: seen.append(event))
    assert seen[-1][:2] == (2, 2)
    seen.clear()
    counts = count_lags(
        store, [1, 2, -3], folder=tmp_path, on_progress=lambda *event: seen.append(event)
    )
    assert [event[:2] for event in seen] == [(1, 1)]
    assert sorted(counts.pairs) == [(1,), (2,), (3,)]
    assert count_lags(store, [1, -2]).folder == store.folder / "counts-train", "beside the tokens"


# ---------------------------------------------------------------------------------------- bad input


def test_lags_that_no_document_is_longer_than(store: TokenStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lag 500: no document of the corpus is longer than"):
        count_lags(store, [1, 500], folder=tmp_path)
    for bad in (0, (1, 1), ()):
        with pytest.raises(ValueError, match="lags must be"):
            count_lags(store, [bad], folder=tmp_path)


def test_lags_that_were_not_counted_are_named(store: TokenStore, tmp_path: Path) -> None:
    counts = count_lags(store, [1], folder=tmp_path)
    with pytest.raises(UserError, match="lag 4: was not counted; counted are 1"):
        counts.matrix(-4)


def test_counts_of_another_split_are_refused(store: TokenStore, tmp_path: Path) -> None:
    count_lags(store, [1], folder=tmp_path)
    with pytest.raises(UserError, match="split 'train', now 'test'; give another folder"):
        count_lags(store, [1, 2], split="test", folder=tmp_path)


def test_counts_of_another_corpus_or_tokenizer_are_refused(
    store: TokenStore, tmp_path: Path
) -> None:
    count_lags(store, [1], folder=tmp_path / "counts")
    other = prepare(
        make_corpus("others", sentences(50, seed=9), {}), vocabulary=300, cache=tmp_path / "cache"
    )
    with pytest.raises(UserError, match=r"index\.json: counts of another corpus or tokenizer"):
        count_lags(other, [1], folder=tmp_path / "counts")
    with pytest.raises(UserError, match="no counts here"):
        LagCounts.load(tmp_path)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([1.0, float("nan"), 2.0], "entry 1: nan is no count"),
        ([3, -2, 1], "entry 1: -2 is no count"),
        (["a", "b", "c"], "another shape or type"),
        ([1j, 2, 3], "another shape or type"),
        ([1, 1, 0], "entry 2: 0 is no count"),
        ([1.0, 2.0, 0.5], "entry 2: 0.5 is no count"),
        ([1, 1], "another shape"),
    ],
)
def test_impossible_counts_in_a_file_are_refused(
    store: TokenStore, tmp_path: Path, counts: list, words: str
) -> None:
    made = count_lags(store, [1], folder=tmp_path)
    np.savez(tmp_path / "lag+1.npz", keys=np.array([1, 5, 9], np.uint32), counts=np.array(counts))
    with pytest.raises(UserError, match=words) as caught:
        made.matrix(1)
    assert "lag+1.npz" in str(caught.value)


def test_damaged_files_are_named(store: TokenStore, tmp_path: Path) -> None:
    made = count_lags(store, [1, 2], folder=tmp_path)
    file = tmp_path / "lag+1.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"lag\+1.npz: cannot be read; it is truncated"):
        made.matrix(1)
    np.savez(file, keys=np.array([5, 1], np.uint32), counts=np.array([1, 1]))
    with pytest.raises(UserError, match="not in rising order"):
        made.matrix(1)
    np.savez(file, keys=np.array([1, 5], np.uint32), counts=np.array([1, 1]))
    with pytest.raises(UserError, match="its index says"):
        made.matrix(1)
    for key in (
        511,
        400 << 9,
        1 << 30,
    ):  # a target, a context and a number that no pair of 300 tokens has
        np.savez(file, keys=np.array([key], np.uint32), counts=np.array([1]))
        with pytest.raises(UserError, match="another vocabulary"):
            made.matrix(1)
    np.savez(file, keys=np.array([object()]), counts=np.array([1]))
    with pytest.raises(UserError, match="truncated or not ours"):
        made.matrix(1)
    file.unlink()
    with pytest.raises(UserError, match="no such file"):
        made.matrix(1)
    index = json.loads((tmp_path / "index.json").read_text())
    damage = [
        ("pairs", {"abc": 1}),
        ("pairs", {"1": None}),
        ("pairs", {"1": -4}),
        ("never_targets", ["x"]),
        ("never_targets", [999]),
        ("pairs", []),
        ("pairs", {"0": 1}),
        ("split", "x"),
        ("tokens", 0),
        ("tokens", -1),
        ("vocabulary", "x"),
        ("hash_bits", 99),
        ("documents", None),
    ]
    for field, value in damage:
        (tmp_path / "index.json").write_text(json.dumps(index | {field: value}))
        with pytest.raises(UserError, match=f"field '{field}"):
            LagCounts.load(tmp_path)
    (tmp_path / "index.json").write_text("[" * 9999)
    with pytest.raises(UserError, match=r"nested too deeply.*remove"):
        LagCounts.load(tmp_path)
    for field in ("vocabulary", "tokens", "documents"):
        told = json.dumps(index | {field: index[field] + 1})
        (tmp_path / "index.json").write_text(told)
        LagCounts.load(tmp_path)
        with pytest.raises(UserError, match=f"field '{field}' is .*, of its corpus"):
            LagCounts.load(tmp_path, store)
    (tmp_path / "index.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(UserError, match=r"index\.json"):
        LagCounts.load(tmp_path)


def test_ids_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="0 to 4"):
        LagCounts.of_documents([[1, 5]], 5, [1])
    assert LagCounts.of_documents([], 5, [1]).tally(1).total == 0
    assert isinstance(LagCounts.of_documents([[1]], 5, [1]).tally(1), Tally)
