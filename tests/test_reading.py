"""From files to tokens at any size: what is held in memory, what is cut, what heals itself."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from lookaround.data import bpe, documents, text
from lookaround.data.corpora import read_corpus
from lookaround.data.corpus import make_corpus
from lookaround.data.documents import spool
from lookaround.data.files import Reading, lines_of, text_chunks
from lookaround.data.separators import documents_in
from lookaround.data.shards import SPLITS, TokenStore, prepare
from lookaround.data.source import GIVEN, corpus_of, kept_task
from lookaround.data.tasks import read_tasks
from lookaround.data.text import TextTokenizer, train_tokenizer
from lookaround.settings import DataSettings
from lookaround.support.errors import UserError
from tests.conftest import sentences

PIECES = st.lists(st.sampled_from(["a", "b", " ", "\n", "\n\n", "\t", "#"]), max_size=25)
CUTS = st.lists(st.integers(0, 25), max_size=6)


def in_pieces(whole: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    return [part for a, b in pairwise(places) if (part := whole[a:b])]


@given(PIECES, CUTS)
def test_documents_are_the_same_however_a_file_is_cut_into_pieces(
    pieces: list[str], cuts: list[int]
) -> None:
    whole = "".join(pieces)
    parts = in_pieces(whole, cuts)

    def found(separator: str) -> list[str]:
        return [part for part in documents_in(iter(parts), separator) if part]

    def stripped(texts: list[str]) -> list[str]:
        return [part.strip() for part in texts if part.strip()]

    assert found("blank") == stripped(re.split(r"\n(?:[^\S\n]*\n)+", whole))
    assert found("line") == stripped(whole.split("\n"))
    assert found("file") == [whole] * bool(whole)
    for mark in ("#", "a\n", "bb"):
        assert found(mark) == stripped(whole.split(mark))
    assert "".join("".join(found("4")).split()) == "".join(whole.split())
    assert all(len(part) <= 4 for part in found("4"))
    numbered = list(lines_of(iter(parts)))
    assert [line for _, line in numbered] == whole.split("\n")[: len(numbered)]
    assert [number for number, _ in numbered] == list(range(1, len(numbered) + 1))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1", "replace"])
def test_text_is_decoded_across_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    whole = "naïve\r\ncafé\r\n\r\nend\r" * 50
    name = "utf-8" if encoding == "replace" else encoding
    (tmp_path / "a.txt").write_bytes(whole.encode(name))
    expected = whole.replace("\r\n", "\n")
    for size in (1, 2, 3, 7, 1 << 20):
        monkeypatch.setattr("lookaround.data.files.CHUNK", size)
        reading = Reading(encoding)
        assert "".join(text_chunks(tmp_path / "a.txt", reading)) == expected, size
        assert not reading.notes


@pytest.mark.parametrize("most", [0, 1 << 20])
def test_documents_on_disk_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(documents, "IN_MEMORY", most)
    texts = ["one", "zwölf", "", "one", " \n", "drei", "zwölf", "\U0001f600"]
    found, duplicates, empty = spool(texts, tmp_path)
    assert list(found) == ["one", "zwölf", "drei", "\U0001f600"] == found
    assert (duplicates, empty) == (2, 2)
    assert found[-1] == "\U0001f600"
    assert found[1:3] == ["zwölf", "drei"]
    assert found[np.array([2, 0])] == ["drei", "one"]
    assert found.size.tolist() == [3, 6, 4, 4]
    assert found.fingerprint == make_corpus("c", list(found), {}).fingerprint
    assert not list(tmp_path.iterdir()), "the file has no name"


def test_no_disk_for_documents_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "IN_MEMORY", 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        spool(["a"], tmp_path / "file" / "cache")


def test_words_are_cut_as_by_gpt2_but_for_their_length() -> None:
    ours = pre_tokenizers.Split(Regex(bpe.PATTERN), "isolated")
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for line in [*sentences(50), "  it's\t\n\n we'll -- 1234 \u00e9t\u00e9 _x\n  ", " \n a", "a  "]:
        own = [place for _, place in ours.pre_tokenize_str(line)]
        assert own == [place for _, place in theirs.pre_tokenize_str(line)]
    long = "x" * (3 * bpe.WORD + 5) + " " * (2 * bpe.WORD) + "y"
    lengths = [b - a for _, (a, b) in ours.pre_tokenize_str(long)]
    assert max(lengths) == bpe.WORD
    assert sum(lengths) == len(long)


def dna(letters: int) -> str:
    return "".join(random.Random(0).choices("ACGT", k=letters))


def test_a_word_of_many_letters_is_trained_on_and_encoded() -> None:
    """100 kB without a space took 2.4 s, 400 kB 39 s."""
    began = time.monotonic()
    whole = dna(150_000)
    tokenizer = train_tokenizer([whole], 300)
    assert tokenizer.decode(tokenizer.encode([whole])[0]) == whole
    assert time.monotonic() - began < 30


def test_a_sample_is_taken_of_many_different_words(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [dna(20_000)[i : i + 1000] for i in range(0, 20_000, 1000)]

    def sample(of: list[str] = texts) -> bpe.Sample:
        return bpe.sample_of(of, [len(one) for one in of])

    assert sample().whole
    assert list(sample()) == texts
    monkeypatch.setattr(bpe, "SAMPLE_DISTINCT", 5000)
    assert not sample().whole
    assert len(list(sample())) == 5
    assert sample().distinct == sample().bytes == 5000
    monkeypatch.setattr(bpe, "SAMPLE_BYTES", 3000)
    assert len(list(sample())) == 3
    assert list(sample()) != texts[:3], "drawn from all of them"
    assert list(sample()) == list(sample())
    told = train_tokenizer(texts, 300).learned
    assert told == "The tokenizer is trained on 0 MB of the training text."


def test_different_words_are_told_by_a_part_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "LOOKED_AT", 2000)
    draw = random.Random(0)
    zipf = [1 / rank for rank in range(1, 5001)]
    words = [
        " ".join(str(word) for word in draw.choices(range(5000), zipf, k=200)) for _ in range(200)
    ]
    same = [" ".join(["the same words"] * 60)] * 20
    for texts in (words, same, [dna(1000)] * 20):
        found = bpe.sample_of(texts, [len(one) for one in texts])
        real = sum(map(len, {*" ".join(texts).split()}))
        assert real <= found.distinct
        assert found.whole
    expected = bpe.sample_of(words, [len(one) for one in words]).distinct
    real = sum(map(len, {*" ".join(words).split()}))
    assert expected < 3 * real
    monkeypatch.setattr(bpe, "SAMPLE_DISTINCT", expected // 2)
    taken = bpe.sample_of(words, [len(one) for one in words])
    assert not taken.whole
    assert sum(map(len, {*" ".join(taken).split()})) <= expected // 2


def test_a_process_of_its_own_trains_the_same_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = sentences(40)
    here = train_tokenizer(texts, 300).fingerprint
    monkeypatch.setattr(bpe, "QUICK_BYTES", 0)
    assert train_tokenizer(texts, 300).fingerprint == here


def test_a_training_process_that_dies_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "QUICK_BYTES", 0)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UserError, match="ended with code 1"):
        train_tokenizer(sentences(40), 300)


STOPPED = """
import signal, sys, time
import numpy
import torch  # an interrupted import is another error
from transformers import PreTrainedTokenizerFast
from lookaround.data.text import train_tokenizer
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs behind a shell ignores it
letters = numpy.random.default_rng(0).choice([65, 67, 71, 84], 8_000_000)
text = letters.astype("u1").tobytes().decode()
print("ready", flush=True)
try:
    train_tokenizer([text], 4000)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_is_heard_while_a_tokenizer_is_trained() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(2)
        assert process.poll() is None, "the text is too short for this test"
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "stopped\n"
        assert time.monotonic() - began < 3
        assert process.wait(20) == 0


@pytest.mark.parametrize("kind", ["lines", "one word", "words"])
def test_long_texts_are_encoded_in_parts_to_the_same_tokens(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    tokenizer = train_tokenizer([*sentences(80), dna(3000)], 400)
    lines = "\n".join(sentences(60, seed=3))
    whole = {"lines": lines, "one word": dna(200_000), "words": lines.replace("\n", " ")}[kind]
    once = tokenizer.encode([whole, "short", whole])
    monkeypatch.setattr(
        text, "LONG", 256 if kind == "lines" else 65536 if kind == "one word" else 1024
    )
    parts = list(tokenizer._parts(whole))
    assert len(parts) > 1
    assert "".join(parts) == whole
    assert tokenizer.encode([whole, "short", whole]) == once
    assert [ids.tolist()[1:-1] for ids in tokenizer.documents([whole, "short"])] == once[:2]


def test_a_tokenizer_that_would_see_a_cut_is_given_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<unk>", "\u2581", "a", "b", "\n"])}
    made = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer = TextTokenizer(PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>"))
    monkeypatch.setattr(text, "LONG", 64)
    assert len(list(tokenizer._parts("ab\nba\n" * 100))) == 1


def test_shards_hold_what_the_tokenizer_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookaround.data.shards.SHARD_TOKENS", 500)
    monkeypatch.setattr(text, "CHUNK", 16)
    heard: list[tuple[int, int]] = []
    corpus = make_corpus("words", sentences(120), {})
    store = prepare(corpus, vocabulary=300, cache=tmp_path, heard=lambda *told: heard.append(told))
    assert len(store.index["splits"]["train"]["shards"]) > 1
    texts = []
    for name in SPLITS:
        split = store.split(name)
        for number, size in enumerate(split.bytes):
            ids = split.read(number, 0, int(split.length[number]))
            texts.append(store.codec.decode(ids.tolist()))
            assert len(texts[-1].encode()) == size
    assert sorted(texts) == sorted(corpus.documents)
    train = store.split("train")
    counted = np.bincount(np.concatenate(train.files), minlength=store.codec.size)
    assert store.unigram().tolist() == counted.tolist()
    assert heard == sorted(heard)
    assert heard[-1][0] <= heard[-1][1] == corpus.description["bytes"]


TORN = {
    "index.json": b"",
    "index.json ": b"[1]",
    "index.json  ": b'{"fingerprint": 3}',
    "train-00000.bin": b"\0\0",
    "test.documents.npy": b"",
    "validation.documents.npy": b"\x93NUMPY",
    "unigram.npy": None,
    "tokenizer/tokenizer.json": None,
}


@pytest.mark.parametrize("name", TORN)
def test_a_torn_store_is_made_again(tmp_path: Path, name: str) -> None:
    corpus = make_corpus("words", sentences(60), {})

    def made() -> TokenStore:
        return prepare(corpus, vocabulary=300, cache=tmp_path)

    before = made()
    content = {path.name: path.read_bytes() for path in before.folder.iterdir() if path.is_file()}
    file = before.folder / name.strip()
    if TORN[name] is None:
        file.unlink()
    else:
        file.write_bytes(TORN[name])
    again = made()
    assert again.folder == before.folder
    assert content == {p.name: p.read_bytes() for p in again.folder.iterdir() if p.is_file()}
    assert [path.name for path in tmp_path.iterdir()] == [again.folder.name]


def test_a_store_that_is_deleted_while_it_is_used_says_so(tmp_path: Path) -> None:
    import shutil

    store = prepare(make_corpus("words", sentences(60), {}), vocabulary=300, cache=tmp_path)
    shutil.rmtree(store.folder)
    for use in (lambda: store.split("test"), store.unigram, lambda: store.codec):
        with pytest.raises(UserError, match=r"tokens-.*deleted.*makes them again"):
            use()


def test_a_split_far_from_what_was_asked_is_told(tmp_path: Path) -> None:
    few = make_corpus("few", ["a " * 40, "b " * 30, "c " * 20], {})
    store = prepare(few, vocabulary=300, cache=tmp_path)
    assert store.notes == [
        "split: 44 % train, 33 % validation, 22 % test of the text, not 5 % and 5 % held out, "
        "since it has 3 documents (more of them: --separator)"
    ]
    assert json.loads((store.folder / "index.json").read_text())["notes"] == store.notes
    many = make_corpus("many", sentences(200), {})
    assert prepare(many, vocabulary=300, cache=tmp_path).notes == []


READ = """
import resource, sys
from pathlib import Path
from lookaround.data.corpora import read_corpus
import lookaround.data.text, tokenizers, pyarrow
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
corpus = read_corpus(Path(sys.argv[1]))
print(len(corpus.documents), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_corpus_is_not_held_in_memory(tmp_path: Path) -> None:
    line = json.dumps({"text": "some words of a text " * 40})
    with open(tmp_path / "a.jsonl", "w") as file:
        for number in range(250_000):
            file.write(line.replace("some", str(number), 1) + "\n")
    megabytes = (tmp_path / "a.jsonl").stat().st_size / 1e6
    assert megabytes > 200
    environment = {**os.environ, "LOOKAROUND_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "a.jsonl")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    count, kilobytes = map(int, done.stdout.split())
    assert count == 250_000
    assert kilobytes < 200_000, "of which 64 MB are what needs no file"
    (tmp_path / "a.jsonl").unlink()


def test_reading_tells_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(sentences(300)))
    heard: list[int] = []
    read_corpus(tmp_path / "a.txt", reading=Reading(heard=heard.append))
    assert sum(heard) == (tmp_path / "a.txt").stat().st_size


def test_datasets_of_python_are_tasks() -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )

    def rows(count: int) -> datasets.Dataset:
        made = {
            "text": [f"{count} {i}" for i in range(count)],
            "label": [i % 2 for i in range(count)],
        }
        return datasets.Dataset.from_dict(made, features=features)

    both = datasets.DatasetDict({"train": rows(12), "test": rows(6)})
    folder = kept_task(both)
    assert folder == kept_task(both)
    (task,) = read_tasks([folder])
    assert task.classes == ["bad", "good"]
    assert (len(task.train_inputs), len(task.test_inputs)) == (12, 6)
    (alone,) = read_tasks([kept_task(rows(20))])
    assert len(alone.train_inputs) + len(alone.test_inputs) == 20
    with pytest.raises(UserError, match="a set is no task"):
        kept_task({1})


def test_texts_of_python_are_not_at_hand_again() -> None:
    with pytest.raises(UserError, match="given as an object in Python"):
        corpus_of(DataSettings(corpus=GIVEN))
    assert corpus_of(DataSettings(corpus=GIVEN), ["a", "b"]).documents == ["a", "b"]
    with pytest.raises(UserError, match=r"a\.txt: no such file"):
        corpus_of(DataSettings(corpus=["a.txt", "b.txt"]))
    with pytest.raises(UserError, match="text 2 of the corpus is of type int"):
        read_corpus(["a", 2])
