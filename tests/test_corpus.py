"""Readers: every format gives the same documents, every broken file one line that names it; the
split is by document.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import random
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from lookaround.data.corpora import read_corpus
from lookaround.data.corpus import Corpus, split_documents
from lookaround.support.errors import UserError

DOCUMENTS = [
    "The first, with a comma.",
    'The second says "so".',
    "Das dritte ist länger.\nZwei Zeilen.",
]
ONE_LINE = [text.replace("\n", " ") for text in DOCUMENTS]
COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def real_data() -> Path:
    root = Path(__file__).resolve().parents[1]
    folder = root / os.environ.get("LOOKAROUND_DATA", "../shared/data")
    if not (folder / "text").is_dir():
        pytest.skip(f"no real data in {folder} (set LOOKAROUND_DATA)")
    return folder


def parquet(columns: dict[str, list]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue().to_pybytes()


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def content(suffix: str) -> tuple[bytes, list[str]]:
    if suffix == ".txt":
        return "\n\n".join(DOCUMENTS).encode(), DOCUMENTS
    if suffix in (".jsonl", ".ndjson"):
        return "".join(
            json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(DOCUMENTS)
        ).encode(), DOCUMENTS
    if suffix == ".csv":
        return "".join(
            f"{i},{quoted(t)}\n" for i, t in [("id", "text"), *enumerate(DOCUMENTS)]
        ).encode(), DOCUMENTS
    if suffix == ".tsv":
        return "".join(
            f"{i}\t{t}\n" for i, t in [("id", "text"), *enumerate(ONE_LINE)]
        ).encode(), ONE_LINE
    return parquet({"id": [0, 1, 2], "text": DOCUMENTS}), DOCUMENTS


def refused(path: Path | str, **options: str) -> str:
    """Return the message of the error, which must be one line."""
    with pytest.raises(UserError) as caught:
        read_corpus(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"])
def test_every_format_gives_the_same_documents(
    tmp_path: Path, suffix: str, compression: str
) -> None:
    data, expected = content(suffix)
    path = tmp_path / f"my.corpus{suffix}{compression}"
    path.write_bytes(COMPRESS[compression](data))
    corpus = read_corpus(path)
    assert corpus.documents == expected
    assert corpus.name == "my.corpus"
    assert corpus.description["source"] == path.name
    assert corpus.description["text_column"] == (None if suffix == ".txt" else "text")
    assert corpus.description["bytes"] == sum(len(text.encode()) for text in expected)


@pytest.mark.parametrize("compression", [".gz", ".xz", ".zst"])
def test_concatenated_streams_are_read_to_the_end(tmp_path: Path, compression: str) -> None:
    path = tmp_path / f"a.txt{compression}"
    path.write_bytes(COMPRESS[compression](b"one\n\n") + COMPRESS[compression](b"two"))
    assert read_corpus(path).documents == ["one", "two"]


def test_txt_line_ends_mark_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf\r\none\r\ntwo\r\n \t\r\n\r\n\r\nthree\x0cpage\r\n")
    assert read_corpus(path).documents == ["one\ntwo", "three\x0cpage"]
    path.write_bytes(b"old\rmac\r\rfile")
    assert read_corpus(path).documents == ["old\nmac", "file"]


@pytest.mark.parametrize("name", ["a.md", "a.py", "a.log", "a.text", "a.rst.gz"])
def test_one_document_a_file(tmp_path: Path, name: str) -> None:
    data = b"def f():\n    pass\n\n\ndef g():\n    pass\n"
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert read_corpus(tmp_path / name).documents == [data.decode()]


def test_duplicates_and_empty_documents_are_dropped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(text) for text in ["b", "a", "", "b", "  ", "c"]))
    corpus = read_corpus(path)
    assert corpus.documents == ["b", "a", "c"]
    assert (corpus.description["duplicates"], corpus.description["empty"]) == (1, 2)
    json.dumps(corpus.description)


def test_fingerprint_sees_boundaries_and_order(tmp_path: Path) -> None:
    def fingerprint(*texts: str) -> str:
        (tmp_path / "a.txt").write_text("\n\n".join(texts))
        return read_corpus(tmp_path / "a.txt").fingerprint

    assert fingerprint("ab", "c") == fingerprint("ab", "c", "ab")
    assert (
        len(
            {
                fingerprint("ab", "c"),
                fingerprint("a", "bc"),
                fingerprint("c", "ab"),
                fingerprint("abc"),
            }
        )
        == 4
    )


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["plain", "strings"], ["plain", "strings"]),
        ([{"Text": "x"}, {"Text": "y"}], ["x", "y"]),
        ([{"id": "a1", "body": "short", "meta": "longer than the body"}], ["short"]),
        ([{"id": "a1", "prose": "the longest column by far"}], ["the longest column by far"]),
        ([{"uuid": "3f2a0c4e-1111-2222", "words": "oh no"}], ["oh no"]),
        ([{"lines": ["one", "two"]}, {"lines": ["three"]}], ["one\ntwo", "three"]),
        (
            [
                {
                    "id": "1_00000",
                    "turns": [
                        ["U", "Hi", "FindRestaurants"],
                        ["S", "Which city should I search in?"],
                    ],
                }
            ],
            ["Hi\nWhich city should I search in?"],
        ),
        (
            [
                {
                    "messages": [
                        {"role": "user", "content": "hi"},
                        {"role": "assistant", "content": ""},
                    ]
                }
            ],
            ["hi"],
        ),
        ([{"text": "a"}, {"text": None}, {"other": 3}], ["a"]),
    ],
)
def test_text_column_is_found(tmp_path: Path, rows: list, expected: list[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert read_corpus(path).documents == expected


def test_named_column_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tother\nyes\t"no\n')
    assert read_corpus(path, text_column="other").documents == ['"no']
    assert read_corpus(path, text_column="other").description["text_column"] == "other"


def test_folder_is_read_in_sorted_order(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".git").mkdir(parents=True)
    for name, text in {
        "b.txt": "2\n\n3",
        "a.jsonl": '{"text": "1"}',
        "sub/c.md": "4",
        ".hidden.txt": "no",
        "sub/.git/x.txt": "no",
        "README.md": "no",
        "image.png": "\0",
        "sub/empty.txt": "",
    }.items():
        (tmp_path / name).write_text(text)
    corpus = read_corpus(tmp_path)
    assert corpus.documents == ["1", "2", "3", "4"]
    assert corpus.name == corpus.description["source"] == tmp_path.name
    assert (corpus.description["files"], corpus.description["skipped"]) == (4, 2)


def test_saved_datasets_folder_and_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    train = datasets.Dataset.from_dict({"n": [1, 2, 3, 4], "text": ["a", "b", "c", "d"]}).filter(
        lambda row: row["n"] > 1
    )
    both = datasets.DatasetDict(
        {"train": train, "test": datasets.Dataset.from_dict({"n": [5], "text": ["e"]})}
    )
    both.save_to_disk(str(tmp_path / "both"))
    train.save_to_disk(str(tmp_path / "one"))
    assert read_corpus(tmp_path / "both").documents == ["b", "c", "d"]
    assert read_corpus(tmp_path / "one").documents == ["b", "c", "d"]
    assert read_corpus(tmp_path / "one").description["source"] == "one"

    seen = []
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda *args: seen.append(args) or datasets.DatasetDict(v=train, w=both["test"]),
    )
    corpus = read_corpus("owner/name:config")
    assert seen == [("owner/name", "config")]
    assert corpus.documents == ["b", "c", "d", "e"]

    def offline(*args: object) -> None:
        raise ConnectionError("offline\nand more")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    assert "no file, folder or dataset named 'owner/name'" in refused("owner/name")

    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"broken")
    assert "not a complete datasets folder" in refused(tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("zero.txt", b"", "zero.txt: empty"),
        ("zero.jsonl", b"", "zero.jsonl: empty"),
        ("zero.parquet", b"", "zero.parquet: empty"),
        ("zero.txt.gz", b"", "zero.txt.gz: empty"),
        ("space.txt", b" \n\n \n", "space.txt: empty"),
        ("header.csv", b"id,text\n", "header.csv: empty"),
        ("binary.txt", b"ok\nPK\0\1", "binary.txt:2: NUL byte at offset 5"),
        ("wide.txt", "wide".encode("utf-16"), "wide.txt: starts with a UTF-16"),
        ("latin.txt", b"ok\ncaf\xe9 \n", "latin.txt:2: byte 0xe9 at offset 6 is not UTF-8"),
        ("bad.jsonl", b'{"text": "a"}\n\n{"text": \n', "bad.jsonl:3:10: broken JSON"),
        ("pretty.jsonl", b'[\n{"text": "a"}\n', "pretty.jsonl:2:14: broken JSON"),
        ("list.jsonl", b'{"text": "a"}\n[3]', "list.jsonl:2: a JSON list found"),
        ("deep.jsonl", b'{"text": ' + b"[" * 100_000, "deep.jsonl:1"),
        (
            "half.jsonl",
            b'{"text": "a"}\n{"text": "\\ud800"}',
            "half.jsonl:2: column 'text' holds half a surrogate",
        ),
        (
            "number.jsonl",
            b'{"text": "a"}\n{"text": 3}',
            "number.jsonl:2: column 'text' holds int 3",
        ),
        (
            "two.jsonl",
            b'{"good": "abc d", "bad": "abc e"}',
            "'good' and 'bad' could both be the text",
        ),
        (
            "headless.csv",
            b"A film for all of us,1\nAnother,0\n",
            "headless.csv: the first row must name the columns",
        ),
        ("none.jsonl", b'{"a": 1, "b": 2}', "no column holds text; it has 'a', 'b'"),
        (
            "fields.csv",
            b'id,text\n1,"two\nlines"\n2,a,b\n',
            "fields.csv:4: 3 fields found, 2 expected",
        ),
        ("quote.csv", b'id,text\n1,ok\n2,"open\nand on\n', "quote.csv:3: broken csv row"),
        ("semicolon.csv", b"id;text\n1;a;b\n", "semicolon.csv:2: 3 fields found, 2 expected"),
        ("fields.tsv", b"id\ttext\n1\ta\n2\n", "fields.tsv:3: 1 fields found, 2 expected"),
        ("twice.tsv", b"text\ttext\na\tb\n", "column 'text' occurs twice"),
        (
            "headless.tsv",
            b"pos\t" + b"a sentence that is no name of a column " * 3 + b"\n",
            "the first row must name the columns",
        ),
        ("broken.parquet", b"PAR1 and then nothing", "broken.parquet: not a complete parquet file"),
        (
            "short.parquet",
            parquet({"text": ["a"] * 50})[:-40],
            "short.parquet: not a complete parquet file",
        ),
        (
            "short.txt.gz",
            gzip.compress(b"abc" * 99, mtime=0)[:-9],
            "short.txt.gz: the .gz stream ends too early",
        ),
        (
            "short.txt.xz",
            lzma.compress(b"abc" * 99)[:-9],
            "short.txt.xz: the .xz stream ends too early",
        ),
        (
            "short.txt.zst",
            COMPRESS[".zst"](random.Random(0).randbytes(999).hex().encode())[:-9],
            "short.txt.zst: the .zst stream ends too early",
        ),
        ("not.txt.gz", b"plain text", "not.txt.gz: broken .gz stream"),
        ("not.txt.xz", b"plain text", "not.txt.xz: broken .xz stream"),
        ("not.txt.zst", b"plain text", "not.txt.zst: broken .zst stream"),
        ("list.json", b'[{"text": "a"},\n3]', "list.json, row 2: a JSON int found"),
        ("a.html", b"<p>A text.", "a.html: format not known from its name"),
        ("a.pdf", b"%PDF", "a.pdf: format not known from its name"),
    ],
)
def test_broken_file_is_named(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(data)
    message = refused(tmp_path / name)
    assert expected in message
    assert str(tmp_path / name) in message


def test_a_damaged_byte_inside_a_stream_is_noticed(tmp_path: Path) -> None:
    for suffix in (".gz", ".xz"):
        data = bytearray(COMPRESS[suffix](random.Random(0).randbytes(2000).hex().encode()))
        data[len(data) // 2] ^= 0x55
        (tmp_path / f"a.txt{suffix}").write_bytes(data)
        assert f"broken {suffix} stream" in refused(tmp_path / f"a.txt{suffix}")


def test_wrong_paths(tmp_path: Path) -> None:
    assert "no such file or folder" in refused(tmp_path / "missing.txt")
    assert "no such file or folder" in refused(tmp_path / "missing")
    assert "empty name" in refused("")
    assert "cannot be read" in refused("a" * 5000)
    (tmp_path / "empty").mkdir()
    assert "an empty folder" in refused(tmp_path / "empty")
    (tmp_path / "empty" / "a.png").write_bytes(b"\0")
    assert "none of its 1 files can be read, such as 'a.png'" in refused(tmp_path / "empty")
    (tmp_path / "empty" / "a.txt").write_bytes(b"")
    assert "no document with any text" in refused(tmp_path / "empty")
    os.mkfifo(tmp_path / "pipe.txt")
    assert "not a regular file" in refused(tmp_path / "pipe.txt")


def test_missing_column_lists_those_there_are(tmp_path: Path) -> None:
    for suffix in (".jsonl", ".csv", ".tsv", ".parquet"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content(suffix)[0])
        assert "no column 'prose'; it has 'id', 'text'" in refused(path, text_column="prose")
    (tmp_path / "a.txt").write_text("a")
    assert "a .txt file has no columns" in refused(tmp_path / "a.txt", text_column="text")


def lists(parts: dict[str, np.ndarray]) -> dict[str, list[int]]:
    return {name: part.tolist() for name, part in parts.items()}


def sizes(documents: list[str], parts: dict[str, np.ndarray]) -> dict[str, float]:
    total = sum(map(len, documents))
    return {
        name: sum(len(documents[index]) for index in part) / total for name, part in parts.items()
    }


def test_split_covers_every_document_once_and_follows_the_seed() -> None:
    documents = [f"document {number}" for number in range(400)]
    parts = split_documents(documents)
    assert sorted(index for part in parts.values() for index in part) == list(range(400))
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 360,
        "validation": 20,
        "test": 20,
    }
    assert lists(parts) == lists(split_documents(documents))
    assert lists(parts) != lists(split_documents(documents, seed=1))
    assert [
        len(split_documents(documents, validation=0.1, test=0.2)[name])
        for name in ("validation", "test")
    ] == [40, 80]


def test_split_goes_by_text_and_not_by_place() -> None:
    documents = [f"document {number}" for number in range(100)]
    turned = documents[::-1]
    for name, part in split_documents(documents).items():
        assert {documents[index] for index in part} == {
            turned[index] for index in split_documents(turned)[name]
        }


def test_documents_added_later_move_few_and_none_between_validation_and_test() -> None:
    documents = [f"document {number}" for number in range(1000)]
    before = split_documents(documents)
    after = split_documents([*documents, *(f"new {number}" for number in range(20))])
    for name, other in (("validation", "test"), ("test", "validation")):
        assert len(set(before[name]) - set(after[name])) <= 3
        assert not set(before[name]) & set(after[other])


@pytest.mark.parametrize("seed", range(8))
def test_split_balances_bytes_when_documents_differ_in_size(seed: int) -> None:
    pick = random.Random(seed)
    novels = [f"{number}" + "x" * int(pick.lognormvariate(11, 1.2)) for number in range(40)]
    parts = split_documents(novels, seed=seed)
    share = sizes(novels, parts)
    assert 0 < share["validation"] <= 0.1001
    assert 0 < share["test"] <= 0.1001
    assert len(parts["validation"]) == len(parts["test"]) == 2


def test_split_takes_the_smallest_where_all_are_too_large() -> None:
    documents = ["a" * 500, "b" * 400, "c" * 300, "d" * 900]
    parts = split_documents(documents)
    assert lists(parts) == {"train": [0, 3], "validation": [1], "test": [2]}


def test_split_of_three_documents_and_refusals() -> None:
    assert sorted(map(len, split_documents(["a", "b", "c"]).values())) == [1, 1, 1]
    assert sorted(
        map(len, split_documents(["a", "b", "c"], validation=0.49, test=0.5).values())
    ) == [1, 1, 1]
    with pytest.raises(UserError, match="blank line separates documents"):
        split_documents(["a", "b"])
    with pytest.raises(UserError, match="together below 1"):
        split_documents(["a", "b", "c"], validation=0.5, test=0.5)
    with pytest.raises(UserError, match="must be above 0"):
        split_documents(["a", "b", "c"], validation=0)


@pytest.mark.slow
def test_real_texts() -> None:
    folder = real_data() / "text"
    dialogue = read_corpus(folder / "dialogue.valid.jsonl.xz")
    assert len(dialogue.documents) == 2098
    assert dialogue.description["text_column"] == "turns"
    assert min(len(text.split("\n")) for text in dialogue.documents) > 2
    brown = read_corpus(folder / "brown.tsv.xz")
    assert len(brown.documents) + brown.description["duplicates"] == 57_340
    wiki: Corpus = read_corpus(folder / "wiki.valid.txt.xz")
    assert len(wiki.documents) == 78
