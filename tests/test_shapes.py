"""Files as people have them: what becomes of each, or the line that refuses it."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from lookaround.data.corpora import read_corpus
from lookaround.data.files import Reading
from lookaround.data.labelled import Task
from lookaround.data.tasks import read_tasks
from lookaround.support.errors import UserError

ASKED, SAID = "What is the capital?", "Paris it is, of course."
BOTH = f"{ASKED}\n{SAID}"


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(data)


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(suffix: str, *rows: tuple[object, ...]) -> str:
    mark = {"csv": ",", "tsv": "\t", "semi": ";"}[suffix]
    return "".join(mark.join(map(str, row)) + "\n" for row in rows)


# ---------------------------------------------------------------------------- conversations

CHATS: dict[str, tuple[Any, str]] = {
    "keys of two kinds": (
        {
            "conversations": [
                {"from": "human", "value": ASKED},
                {"role": "assistant", "content": SAID},
            ]
        },
        BOTH,
    ),
    "pairs without who speaks": ({"dialog": [[ASKED, SAID], [ASKED, SAID]]}, f"{BOTH}\n{BOTH}"),
    "words of who speaks": ({"turns": [["user", "Hi"], ["assistant", "Hello"]]}, "Hi\nHello"),
    "two sides a turn": ({"turns": [{"user": ASKED, "assistant": SAID}]}, BOTH),
    "a message beside its kind": (
        {"type": "user", "message": {"role": "user", "content": ASKED}, "uuid": "1"},
        ASKED,
    ),
    "within a request": (
        {"url": "/v1/chat", "body": {"messages": [{"role": "user", "content": ASKED}]}},
        ASKED,
    ),
    "a system prompt beside it": (
        {
            "system": "You are kind. " * 20,
            "conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": SAID}],
        },
        BOTH,
    ),
    "tools beside it": (
        {
            "messages": [{"role": "user", "content": ASKED}],
            "tools": [{"name": "x", "description": "what it does " * 30}],
        },
        ASKED,
    ),
    "JSON in a string": ({"messages": json.dumps([{"role": "user", "content": ASKED}])}, ASKED),
    "what Python prints": ({"messages": str([{"role": "user", "content": ASKED}])}, ASKED),
    "a tree of answers": (
        {
            "prompt": {
                "role": "prompter",
                "text": ASKED,
                "replies": [
                    {"text": SAID, "replies": [{"text": "Thanks.", "replies": []}]},
                    {"text": "Lyon?", "replies": []},
                ],
            }
        },
        f"{BOTH}\nThanks.\nLyon?",
    ),
    "turns by number": (
        {
            "messages": {
                "0": {"role": "user", "content": ASKED},
                "1": {"role": "assistant", "content": SAID},
            }
        },
        BOTH,
    ),
    "an export": (
        {
            "title": "Chat",
            "mapping": {
                "a": {"message": None},
                "b": {"message": {"author": {"role": "user"}, "content": {"parts": [ASKED]}}},
            },
        },
        ASKED,
    ),
    "instructions": (
        {"instruction": "Give tips", "input": "", "output": SAID},
        f"Give tips\n{SAID}",
    ),
    "prompt and completion": ({"prompt": ASKED, "completion": " Paris"}, f"{ASKED}\n Paris"),
    "lists of lists": ({"text": [["a b", "c"], ["d"]]}, "a b\nc\nd"),
    "calls of tools": (
        {
            "messages": [
                {"role": "user", "content": ASKED},
                {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]},
            ]
        },
        ASKED,
    ),
    "nested deeper": ({"_index": "a", "_source": {"body": "hello my friend"}}, "hello my friend"),
    "no number": ({"text": float("nan"), "body": "b"}, "b"),
}


@pytest.mark.parametrize("name", CHATS)
def test_conversations_and_fields(tmp_path: Path, name: str) -> None:
    row, expected = CHATS[name]
    write(tmp_path, {"a.jsonl": lines(row)})
    assert list(read_corpus(tmp_path / "a.jsonl").documents) == [expected]


def test_rows_of_several_keys_are_all_read(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", key: f"{key} {i}"}]}
        for i in range(3)
        for key in ("content", "text")
    ]
    write(tmp_path, {"a.jsonl": lines(*rows)})
    assert len(read_corpus(tmp_path / "a.jsonl").documents) == 6


def test_a_column_that_later_rows_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookaround.data.table_files.BLOCK_ROWS", 2)
    early = [{"text": f"t {i}", "title": f"h {i}", "data": {"text": f"d {i}"}} for i in range(2)]
    write(tmp_path, {"a.jsonl": lines(*early, {"text": "t 2"}, {"other": 1}, {"x": 1}, {"y": 2})})
    corpus = read_corpus(tmp_path / "a.jsonl")
    assert (list(corpus.documents), corpus.description["empty"]) == (["t 0", "t 1", "t 2"], 3)
    joined = read_corpus(tmp_path / "a.jsonl", text_column="title, text").documents
    assert list(joined) == ["h 0\nt 0", "h 1\nt 1", "t 2"]
    assert len(read_corpus(tmp_path / "a.jsonl", text_column="data.text").documents) == 2


# ---------------------------------------------------------------------------- JSON

JSON: dict[str, tuple[str, str, list[str]]] = {
    "rows in a field": ("a.json", json.dumps({"data": [{"text": "a"}, {"text": "b"}]}), ["a", "b"]),
    "pretty": (
        "a.json",
        json.dumps({"v": 1, "rows": [{"text": "a"}, {"text": "b"}]}, indent=1),
        ["a", "b"],
    ),
    "parts": ("a.json", json.dumps({"train": [{"text": "a"}], "test": [{"text": "b"}]}), ["a"]),
    "columns": ("a.json", json.dumps({"text": ["a", "b"], "label": [0, 1]}), ["a", "b"]),
    "a frame": (
        "a.json",
        json.dumps({"columns": ["text", "n"], "index": [0, 1], "data": [["a", 1], ["b", 2]]}),
        ["a", "b"],
    ),
    "without a line end": ("a.json", '{"text": "a"}{"text": "b"}', ["a", "b"]),
    "names": ("a.json", json.dumps({"d1": {"text": "a"}, "d2": {"text": "b"}}), ["a", "b"]),
    "one after the other": ("a.json", '{"text":\n"a"}{"text": "b"}', ["a", "b"]),
    "a list in .jsonl": ("a.jsonl", '[{"text": "a"},\n {"text": "b"}]', ["a", "b"]),
    "a list a line": (
        "a.jsonl",
        lines([{"role": "user", "content": "a"}]) * 2 + lines([["U", "b c"]]),
        ["a", "b c"],
    ),
    "comments": ("a.jsonl", '# made by x\n// 2024\n{"text": "a"}\n', ["a"]),
    "lines in .txt": ("a.json.txt", lines({"text": "a"}, {"text": "b"}), ["a", "b"]),
    "lines without an ending": (
        "AA/wiki_00",
        lines({"id": 1, "text": "a"}, {"text": "b"}),
        ["a", "b"],
    ),
    "another ending": ("a.jsonlines", lines({"text": "a"}), ["a"]),
    "a record": ("a.jsonl", lines({"text": ["a", "b"], "label": [0, 1]}), ["a\nb"]),
}


@pytest.mark.parametrize("name", JSON)
def test_json(tmp_path: Path, name: str) -> None:
    file, content, expected = JSON[name]
    write(tmp_path, {file: content})
    assert list(read_corpus(tmp_path / file).documents) == expected


# ---------------------------------------------------------------------------- csv

HEAD, GOOD, BAD = "label,text\n", 'pos,"good day, sir"\n', 'neg,"bad day, sir"\n'
CSV: dict[str, tuple[str, str]] = {
    "sep=": ("a.csv", "sep=;\ntext;label\ngood day, sir;pos\nbad day, sir;neg\n"),
    "semicolons": ("a.csv", 'text;"label, or class"\ngood day, sir;pos\nbad day, sir;neg\n'),
    "semicolons in .tsv": ("a.tsv", "text;label\ngood day, sir;pos\nbad day, sir;neg\n"),
    "columns without names": ("a.csv", 'v1,text,,\npos,"good day, sir",,\nneg,"bad day, sir",,\n'),
    "an index": ("a.csv", ',text\n0,"good day, sir"\n1,"bad day, sir"\n'),
    "a blank behind commas": ("a.csv", 'label, text\npos, "good day, sir"\nneg, "bad day, sir"\n'),
    "one column": ("a.csv", "text\ngood day, sir\nbad day, sir\n"),
    "fields behind the last": ("a.csv", 'label,text\npos,"good day, sir",\nneg,"bad day, sir"\n'),
    "comments": (
        "a.csv",
        '# exported\n# 2024\nlabel,text\npos,"good day, sir"\nneg,"bad day, sir"\n',
    ),
    "a header twice": (
        "a.csv",
        'label,text\npos,"good day, sir"\nlabel,text\nneg,"bad day, sir"\n',
    ),
}


@pytest.mark.parametrize("name", CSV)
def test_dialects_of_csv(tmp_path: Path, name: str) -> None:
    file, content = CSV[name]
    write(tmp_path, {file: content})
    found = [text for text in read_corpus(tmp_path / file).documents if text != "text"]
    assert found == ["good day, sir", "bad day, sir"]


def test_a_first_row_of_data_is_refused_and_columns_are_numbered(tmp_path: Path) -> None:
    data = "".join(f"{'pos' if i % 2 else 'neg'},a day {i}\n" for i in range(12))
    write(tmp_path, {"a.csv": data})
    for read in (lambda: read_corpus(tmp_path / "a.csv"), lambda: read_tasks([tmp_path / "a.csv"])):
        with pytest.raises(UserError, match="first row must name the columns"):
            read()
    corpus = read_corpus(tmp_path / "a.csv", text_column="2")
    assert len(corpus.documents) == 12
    (task,) = read_tasks([tmp_path / "a.csv"], text_column="2", label_column="1")
    assert isinstance(task, Task)
    assert (task.classes, len(task.train_inputs) + len(task.test_inputs)) == (["neg", "pos"], 12)


def test_quotes_of_a_tsv_are_kept_and_told(tmp_path: Path) -> None:
    write(tmp_path, {"a.tsv": 'text\tlabel\n"A dog ""x"""\tneg\n"So"\tpos\n'})
    corpus = read_corpus(tmp_path / "a.tsv")
    assert any("quotes" in note for note in corpus.notes)


# ---------------------------------------------------------------------------- parquet


def test_what_a_parquet_file_holds_beside_its_text(tmp_path: Path) -> None:
    far = pyarrow.array([10**15, 1], pyarrow.timestamp("ms"))
    turn = [("content", pyarrow.string()), ("at", pyarrow.timestamp("ms"))]
    turns = pyarrow.array(
        [[{"content": "a b", "at": 10**15}], [{"content": "c d", "at": 1}]],
        pyarrow.list_(pyarrow.struct(turn)),
    )
    rows = {"blob": pyarrow.array([b"\xff\xfe\x89", b"\x00"]), "when": far, "messages": turns}
    pyarrow.parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet")
    assert list(read_corpus(tmp_path / "a.parquet").documents) == ["a b", "c d"]
    flat = pyarrow.table({"a": [1, 2], "a.b": ["one text", "two text"], "blob": [b"\xff", b"\xfe"]})
    pyarrow.parquet.write_table(flat, tmp_path / "b.parquet")
    assert list(read_corpus(tmp_path / "b.parquet").documents) == ["one text", "two text"]
    heard: list[int] = []
    read_corpus(tmp_path / "b.parquet", reading=Reading(heard=heard.append))
    assert sum(heard) == (tmp_path / "b.parquet").stat().st_size


@pytest.mark.parametrize("name", ["a.txt", "a.parquet", "a.jsonl.gz", "a.csv"])
def test_pointers_are_named_whatever_the_file_is(tmp_path: Path, name: str) -> None:
    write(
        tmp_path, {name: "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"}
    )
    with pytest.raises(UserError, match="Git LFS pointer"):
        read_corpus(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(".git/annex/objects/x")
    with pytest.raises(UserError, match=r"annex|no such file"):
        read_corpus(tmp_path)


# ---------------------------------------------------------------------------- text

TEXTS: dict[str, tuple[str, str, int, str]] = {
    "a mark that is spoken of": (
        "a.md",
        "The token `<|endoftext|>` ends a text.\nSo.",
        1,
        "stands",
    ),
    "a late mark": ("a.txt", "one\n\ntwo </s> three </s>", 2, "'</s>' stands 2 times"),
    "two marks": (
        "a.txt",
        "a\n<|endoftext|>\nb <|end_of_text|> c\n<|endoftext|>\n",
        2,
        "end_of_text",
    ),
    "pages": ("a.txt", "one\ftwo", 1, "'\\x0c' stands"),
    "titles": (
        "wiki.train.tokens",
        " \n = One = \n \n text . \n \n = = Part = = \n \n more \n \n = Two = \n \n x \n",
        2,
        "titles",
    ),
    "wiki": (
        "wiki_01",
        '\n<doc url="u" id=1>\nOne\n\nText\n</doc>\n<doc id=2>\nTwo\n</doc>\n',
        2,
        "doc",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_stands_between_documents(tmp_path: Path, name: str) -> None:
    file, content, count, note = TEXTS[name]
    write(tmp_path, {file: content})
    corpus = read_corpus(tmp_path / file)
    assert len(corpus.documents) == count
    assert any(note in told for told in corpus.notes), corpus.notes


SEPARATORS = {
    "lines": 4,
    "BLANK": 2,
    "paragraph": 2,
    "none": 1,
    "1,000": 1,
    "1k": 1,
    r"\n\n": 2,
    r"\x0a": 4,
    r"b\r\n": 2,
}


@pytest.mark.parametrize("given", SEPARATORS)
def test_separators_as_people_write_them(tmp_path: Path, given: str) -> None:
    write(tmp_path, {"a.txt": "a\r\nb\r\n\r\nc\r\nd"})
    assert len(read_corpus(tmp_path / "a.txt", separator=given).documents) == SEPARATORS[given]


@pytest.mark.parametrize("given", ["", " ", "-5", "0", "=====", "1" * 5000, r"\f"])
def test_separators_that_separate_nothing_are_refused(tmp_path: Path, given: str) -> None:
    write(tmp_path, {"a.txt": "a\n\nb"})
    with pytest.raises(UserError, match=r"data\.separator"):
        read_corpus(tmp_path / "a.txt", separator=given)


def test_a_utf8_file_read_as_another_encoding_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "thé"})
    assert (
        "would be UTF-8 too" in read_corpus(tmp_path / "a.txt", reading=Reading("latin-1")).notes[0]
    )
    write(tmp_path, {"b/a.txt": b"th\xe9\n\n", "b/c.txt": b"na\xefve"})
    assert not read_corpus(tmp_path / "b", reading=Reading("latin-1")).notes


@pytest.mark.parametrize("compression", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_text_is_the_same_corpus(tmp_path: Path, compression: str) -> None:
    import bz2
    import lzma

    import zstandard

    packers = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    packers[".zst"] = zstandard.ZstdCompressor().compress
    text = ("word " * 40_000 + "\n<|endoftext|>\nx\n\ny\n<|endoftext|>\nz").encode()
    write(tmp_path, {f"a.txt{compression}": packers[compression](text)})
    assert len(read_corpus(tmp_path / f"a.txt{compression}").documents) == 3


# ---------------------------------------------------------------------------- labels


def task_of(folder: Path, **options: Any) -> Task:
    (task,) = read_tasks([folder], **options)
    assert isinstance(task, Task)
    return task


def labelled(*labels: object, name: str = "t") -> str:
    return lines(*({"text": f"{name} {i}", "label": label} for i, label in enumerate(labels)))


NOTED: dict[str, tuple[tuple[object, ...], list[str], str]] = {
    "a dash": (("a", "b", "-") * 4, ["-", "a", "b"], "the label - is taken as a class"),
    "-1 beside names": (("a", "b", -1) * 4, ["-1", "a", "b"], "the label -1 is taken as a class"),
    "-1 beside 1 to 3": ((1, 2, 3, -1) * 4, ["-1", "1", "2", "3"], "the label -1 is taken"),
    "-1 beside 0 to 2": ((0, 1, 2, -1) * 4, ["0", "1", "2"], "left out: the label -1 is none"),
    "nan in words": (("a", "b", "nan") * 4, ["a", "b", "nan"], "the label nan is taken as a class"),
    "spellings": (("Pos", "pos", "neg") * 4, ["Pos", "neg", "pos"], "'Pos' and 'pos'"),
    "parts of a class": (("a", "b", "a;b") * 4, ["a", "a;b", "b"], "'a;b' is a class of its own"),
}


@pytest.mark.parametrize("name", NOTED)
def test_labels_that_may_be_none_or_one(tmp_path: Path, name: str) -> None:
    labels, classes, note = NOTED[name]
    write(tmp_path, {"a.jsonl": labelled(*labels)})
    task = task_of(tmp_path / "a.jsonl")
    assert task.classes == classes
    assert any(note in told for told in task.notes), task.notes


SPELLED: dict[str, tuple[tuple[object, ...], tuple[object, ...]]] = {
    "booleans": (("True", "False"), (True, False)),
    "numbers for booleans": ((True, False), (1, 0)),
    "numbers": ((1.0, 2.0), ("1", "2")),
    "case and marks": (("very good", "don't"), ("Very_Good", "don\u2019t")),
    "lists": ((["a"], ["b"]), ("['a']", '["b"]')),
}


@pytest.mark.parametrize("name", SPELLED)
def test_labels_of_two_spellings(tmp_path: Path, name: str) -> None:
    train, test = SPELLED[name]
    write(
        tmp_path, {"train.jsonl": labelled(*train * 4), "test.jsonl": labelled(*test * 2, name="x")}
    )
    task = task_of(tmp_path)
    assert len(task.classes) == 2
    assert len(task.test_labels) == 4


def test_labels_of_two_ways_to_count_are_refused(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"train.jsonl": labelled(*(1, 2, 3) * 3), "test.jsonl": labelled(*(0, 1, 2) * 2, name="x")},
    )
    with pytest.raises(UserError, match="0 to 2, those of the training part 1 to 3"):
        task_of(tmp_path)


def test_names_of_the_training_part_are_those_of_numbers_in_the_test_part(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    rows = {"text": [f"t {i}" for i in range(8)], "label": [i % 2 for i in range(8)]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    write(tmp_path, {"test.jsonl": labelled(0, 1, 0, 1, name="x")})
    task = task_of(tmp_path)
    assert (task.classes, list(task.test_labels)) == (["neg", "pos"], [0, 1, 0, 1])


def test_rows_without_a_label_are_left_out_however_they_are_written(tmp_path: Path) -> None:
    write(tmp_path, {"a.jsonl": labelled(*(0.0, 1.0, 9.0) * 4)})
    assert task_of(tmp_path / "a.jsonl", no_label=["9"]).classes == ["0", "1"]
    told = task_of(tmp_path / "a.jsonl", no_label=["zzz"]).notes
    assert any("no row has the label 'zzz'" in note for note in told)
    two = labelled(["a", "b"])
    write(tmp_path, {"b.jsonl": two, "c.jsonl": labelled("['a' 'b']")})
    for name in ("b", "c"):
        with pytest.raises(UserError, match="2 labels in column"):
            task_of(tmp_path / f"{name}.jsonl")


@pytest.mark.parametrize("label", ["?", "nan", None, ""])
def test_a_test_part_without_labels_is_passed_over(tmp_path: Path, label: str | None) -> None:
    write(
        tmp_path,
        {
            "train.jsonl": labelled(*"abab" * 2),
            "test.jsonl": labelled(label, label, name="x"),
            "validation.jsonl": labelled(*"ab", name="y"),
        },
    )
    task = task_of(tmp_path)
    assert sorted(task.test_inputs) == ["y 0", "y 1"]
    assert any("test.jsonl is not used" in note for note in task.notes)


def test_replaced_bytes_of_tasks_are_told(tmp_path: Path) -> None:
    rows = b"text,label\n" + b"".join(
        b"caf\xe9 %d,%s\n" % (i, b"ab"[i % 2 : i % 2 + 1]) for i in range(8)
    )
    write(tmp_path, {"a.csv": rows})
    task = task_of(tmp_path / "a.csv", reading=Reading("replace"))
    assert "8 places that are not UTF-8" in task.notes[0]


# ---------------------------------------------------------------------------- layouts

CLASS = {f"{name}/{i}": f"{name} text {i}" for name in ("pos", "neg") for i in range(3)}
SOME, MORE, TEST = labelled(*"abab" * 2), labelled(*"ab", name="z"), labelled(*"ab", name="y")
PIECE = "text,label\n" + "".join("t {} " + f"{j},{'ab'[j % 2]}\n" for j in range(8))


def under(prefix: str, name: str = "") -> dict[str, str | bytes]:
    return {f"{prefix}/{key}": f"{name} {value}" for key, value in CLASS.items()}


LAYOUTS: dict[str, dict[str, str | bytes]] = {
    "20 newsgroups": under("20news-bydate-train", "x") | under("20news-bydate-test", "y"),
    "training and testing": under("training", "x") | under("testing", "y"),
    "one folder deeper": under("txt_sentoken", "x"),
    "a table of pieces": {
        "part-00000.csv": PIECE.replace("{}", "0"),
        "part-00001.csv": PIECE.replace("{}", "1"),
        "_SUCCESS": "",
    },
    "tables in parts": {
        "train/0000.jsonl": SOME,
        "train/0001.jsonl": MORE,
        "test/0000.jsonl": TEST,
    },
    "a configuration": {"plain_text/train.jsonl": SOME, "plain_text/test.jsonl": TEST},
    "an evaluation part": {"training.jsonl": SOME, "eval.jsonl": TEST},
    "shards": {
        "data/train-00000-of-00002.jsonl": SOME,
        "data/train-00001-of-00002.jsonl": MORE,
        "data/test-00000-of-00001.jsonl": TEST,
        "README.md": "x",
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_tasks(tmp_path: Path, name: str) -> None:
    write(tmp_path / "given", LAYOUTS[name])
    task = task_of(tmp_path / "given")
    assert len(task.classes) == 2
    held_out = name not in ("one folder deeper", "a table of pieces")
    assert all(text.startswith("y ") for text in task.test_inputs) == held_out
    assert task.name == "given"


def test_what_is_missing_or_double_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", {"train-00000-of-00003.jsonl": labelled(*"abab")})
    with pytest.raises(
        UserError, match="of 3 files that make up this part, number 1, 2 is missing"
    ):
        task_of(tmp_path / "a")
    write(tmp_path / "b", {f"{name}/train.jsonl": labelled(*"abab") for name in ("en", "de")})
    with pytest.raises(UserError, match="several tasks in it; give one of 'de', 'en'"):
        task_of(tmp_path / "b")


def test_folders_of_a_corpus(tmp_path: Path) -> None:
    write(tmp_path / "plain", {"train-station.txt": "a", "test-drive.txt": "b"})
    assert len(read_corpus(tmp_path / "plain").documents) == 2
    parts = {
        f"x/{part}-0000.jsonl": lines({"text": part}) for part in ("train", "test", "unsupervised")
    }
    write(tmp_path / "parts", parts)
    assert sorted(read_corpus(tmp_path / "parts").documents) == ["train", "unsupervised"]
    both = read_corpus([tmp_path / "plain", tmp_path / "parts"])
    assert sorted(both.documents) == ["a", "b", "train", "unsupervised"]
    (tmp_path / "linked").mkdir()
    os.symlink(tmp_path / "plain", tmp_path / "linked" / "there")
    os.symlink(tmp_path / "linked", tmp_path / "linked" / "again")
    assert len(read_corpus(tmp_path / "linked").documents) == 2
    write(tmp_path / "code", {"a.py": "x = 1", "package.json": '{"description": "no text"}'})
    assert list(read_corpus(tmp_path / "code").documents) == ["x = 1"]
    write(tmp_path / "tex", {"a.tex": "a", "b.srt": "b"})
    corpus = read_corpus(tmp_path / "tex")
    assert len(corpus.documents) == 2
    assert corpus.notes[0] == "files without a known ending read as plain text: '.srt', '.tex'"
    write(tmp_path / "tex", {"c.dump": lines({"text": "c"}, {"text": "d"})})
    corpus = read_corpus(tmp_path / "tex")
    assert sorted(corpus.documents) == ["a", "b", "c", "d"]
    assert "read as JSON lines and plain text" in corpus.notes[0]
    with pytest.raises(UserError, match="has no columns"):
        read_corpus(tmp_path / "plain", text_column="x")


# ---------------------------------------------------------------------------- Python


def test_objects_of_python() -> None:
    pandas = pytest.importorskip("pandas")
    rows = {"text": ["a", "b"], "label": [0, 1]}
    shapes = [rows, pandas.DataFrame(rows), pyarrow.table(rows), [{"text": "a"}, {"text": "b"}]]
    shapes += [datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows)}), iter(["a", "b"])]
    for given in shapes:
        assert list(read_corpus(given).documents) == ["a", "b"]
    long = ["a sentence that is long " * 20, "another " * 50, "third"]
    assert len(read_corpus(long).documents) == 3
    for bad in (b"abc", 3, {"a": 1}, ["a", None], ["\ud800"]):
        with pytest.raises(UserError):
            read_corpus(bad)


@pytest.mark.parametrize("name", ["unicode_escape", "idna", "hex", "nonsense"])
def test_what_is_no_encoding_of_text_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"data\.encoding"):
        Reading(name)
