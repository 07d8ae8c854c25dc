"""Tasks of texts and minimal pairs: the files that make one, its name and metric, what is left out
with a note and what is refused. Tasks of words: tests/test_tokens_data.py.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from lookaround.data.labelled import PairTask, Task
from lookaround.data.tasks import read_tasks
from lookaround.support.errors import UserError


def table(path: Path, rows: list[tuple], header: str = "label\ttext") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join("\t".join(map(str, row)) + "\n" for row in [tuple(header.split("\t")), *rows])
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def rows(count: int, part: str = "", classes: str = "ab") -> list[tuple[str, str]]:
    return [(classes[i % len(classes)], f"{part} text {i}") for i in range(count)]


def only(path: Path, **options: dict) -> Task:
    (task,) = read_tasks([path], **options)
    return task


def refused(*paths: Path, **options: dict) -> str:
    with pytest.raises(UserError) as caught:
        read_tasks(paths, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_format_gives_the_same_task(tmp_path: Path) -> None:
    data = rows(40)
    labels, texts = zip(*data, strict=True)
    table(tmp_path / "a.tsv.gz", data)
    (tmp_path / "a.csv").write_text(
        "text,label\n" + "".join(f"{text},{label}\n" for label, text in data)
    )
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"sentence": t, "category": c}) + "\n" for c, t in data)
    )
    pyarrow.parquet.write_table(
        pyarrow.table({"label": labels, "text": texts}), tmp_path / "a.parquet"
    )
    tasks = [only(tmp_path / name) for name in ("a.tsv.gz", "a.csv", "a.jsonl", "a.parquet")]
    assert all(task == tasks[0] for task in tasks)
    assert tasks[0].name == "a"
    assert tasks[0].classes == ["a", "b"]
    assert tasks[0].notes == []


def test_held_out_part_is_stratified_seeded_and_disjoint(tmp_path: Path) -> None:
    data = rows(100) + [("c", f"third {i}") for i in range(10)] + rows(100)  # every a and b twice
    path = table(tmp_path / "a.tsv", data)
    task = only(path)
    assert Counter(task.train_labels) == {0: 80, 1: 80, 2: 8}
    assert Counter(task.test_labels) == {0: 20, 1: 20, 2: 2}
    assert not set(task.train_inputs) & set(task.test_inputs)
    assert task == only(path)
    assert set(task.test_inputs) != set(only(path, seed=1).test_inputs)


def test_test_file_beside_the_training_file_is_used(tmp_path: Path) -> None:
    train = table(tmp_path / "news" / "train.tsv.gz", rows(20))
    table(tmp_path / "news" / "valid.tsv", rows(6, "valid"))
    assert len(only(train).test_inputs) == 6
    table(tmp_path / "news" / "test.tsv.gz", rows(4, "test"))
    task = only(train)
    assert task.test_inputs == [text for _, text in rows(4, "test")]
    assert len(task.train_inputs) == 20
    assert task.name == "news-train"
    folder = only(tmp_path / "news")
    assert folder.name == "news"
    assert folder.test_inputs == task.test_inputs
    table(tmp_path / "news" / "test.tsv", rows(2, "other"))
    assert only(train).test_inputs == task.test_inputs  # the one of the same kind
    table(tmp_path / "news" / "train.tsv", rows(20))
    assert "both claim to be 'train'" in refused(tmp_path / "news")


def test_test_file_without_labels_gives_way_to_the_next(tmp_path: Path) -> None:
    train = table(tmp_path / "x_train.tsv", rows(20))
    table(tmp_path / "x_test.tsv", [(0, "unlabelled")], "id\ttext")
    table(tmp_path / "x_dev.tsv", rows(4, "dev"))
    task = only(train)
    assert (task.name, len(task.test_inputs)) == ("x_train", 4)
    assert task.notes == ["x_test.tsv is not used: it has no column 'label'"]


def test_test_file_alone_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "dev.tsv", rows(20))
    assert "give the train file instead" in refused(path)
    train = table(tmp_path / "train.tsv", rows(20, "train"))
    assert str(train) in refused(path)


def test_pairs_are_joined(tmp_path: Path) -> None:
    data = [(f"one {i}", f"two {i}", i % 2) for i in range(10)]
    for number, header in enumerate(
        ["text\ttext_b\tlabel", "sentence1\tsentence2\tlabel", "Premise\tHypothesis\tLabel"]
    ):
        task = only(table(tmp_path / f"{number}.tsv", data, header))
        assert set(task.train_inputs + task.test_inputs) == {f"one {i}\ntwo {i}" for i in range(10)}


def test_class_folders(tmp_path: Path) -> None:
    for label in ("pos", "neg"):
        (tmp_path / "reviews" / label / "deep").mkdir(parents=True)
        for number in range(5):
            (tmp_path / "reviews" / label / "deep" / f"{number}.txt").write_text(
                f"{label}\n\nnumber {number}\n"
            )
        (tmp_path / "reviews" / label / "49960").write_text(f"{label} without a suffix")
        (tmp_path / "reviews" / label / "a.png").write_bytes(b"\0")
        (tmp_path / "reviews" / label / "empty.txt").write_text("")
    task = only(tmp_path / "reviews")
    assert (task.name, task.classes) == ("reviews", ["neg", "pos"])
    assert sorted(Counter(task.train_labels + task.test_labels).values()) == [6, 6]
    assert "pos\n\nnumber 3" in task.train_inputs + task.test_inputs
    assert task.notes == [
        "2 files of reviews skipped: not text by their names",
        "2 empty texts dropped from reviews",
    ]


def test_class_folders_inside_train_and_test(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("test", 3)):
        for label in ("pos", "neg"):
            (tmp_path / "imdb" / part / label).mkdir(parents=True)
            for number in range(count):
                (tmp_path / "imdb" / part / label / f"{number}.txt").write_text(
                    f"{part} {label} {number}"
                )
    task = only(tmp_path / "imdb")
    assert (task.name, task.classes, len(task.train_inputs), len(task.test_inputs)) == (
        "imdb",
        ["neg", "pos"],
        12,
        6,
    )
    assert all(text.startswith("test") for text in task.test_inputs)


def test_folders_that_hold_no_task(tmp_path: Path) -> None:
    assert "no task; found no files" in refused(tmp_path)
    (tmp_path / "pos").mkdir()
    (tmp_path / "pos" / "a.txt").write_text("a")
    assert "1 sub-folders with text files found" in refused(tmp_path)
    table(tmp_path / "neg" / "train.tsv", rows(4))
    assert "a table inside a class folder" in refused(tmp_path)
    assert "no such file or folder" in refused(tmp_path / "missing.tsv")
    with pytest.raises(UserError, match="an empty name"):
        read_tasks([""])
    (tmp_path / "a.txt").write_text("a")
    assert "a task is a table" in refused(tmp_path / "a.txt")


def test_names(tmp_path: Path) -> None:
    paths = [
        table(tmp_path / name, rows(20))
        for name in ("x/all.tsv", "y/all.tsv", "x/same.tsv", "y/same.tsv", "z/own.tsv")
    ]
    assert [task.name for task in read_tasks(paths)] == [
        "x-all",
        "y-all",
        "x-same",
        "y-same",
        "own",
    ]
    assert "both tasks would be called 'z-own'" in refused(paths[4], paths[4])
    table(tmp_path / "own" / "train.tsv", rows(20))
    assert {task.name for task in read_tasks([paths[4], tmp_path / "own"])} == {
        "z-own",
        f"{tmp_path.name}-own",
    }


def test_metrics(tmp_path: Path) -> None:
    cola = table(tmp_path / "CoLA" / "train.tsv", rows(20))
    other = table(tmp_path / "other.tsv", rows(20))
    assert [task.metric for task in read_tasks([cola, other])] == ["matthews", "accuracy"]
    assert only(other, metrics={"other": "matthews"}).metric == "matthews"
    assert "unknown metric 'f1'" in refused(other, metrics={"other": "f1"})
    assert "no such task; there are 'other'" in refused(other, metrics={"mine": "accuracy"})
    text = table(tmp_path / "text.tsv", rows(20))  # results call the held-out text so
    assert only(text, metrics={"text": "matthews"}).name == "text-task"


def test_rare_classes_are_left_out_with_a_note(tmp_path: Path) -> None:
    task = only(
        table(tmp_path / "a.tsv", [*rows(20), ("alone", "one"), ("pair", "two"), ("pair", "three")])
    )
    assert task.classes == ["a", "b"]
    assert task.notes == [
        "classes left out for want of 2 different texts to train on: 'alone', 'pair'"
    ]
    assert not {"one", "two", "three"} & set(task.train_inputs + task.test_inputs)
    assert "1 usable class found ('a')" in refused(
        table(tmp_path / "b.tsv", [*rows(9, classes="a"), ("b", "x")])
    )
    same = table(tmp_path / "c.tsv", [(f"class {i}", f"text {i}") for i in range(9)])
    assert "0 usable classes found (none)" in refused(same)


def test_unknown_test_labels_and_overlap_are_noted(tmp_path: Path) -> None:
    train = table(tmp_path / "train.tsv", [*rows(50), ("once", "lonely")])
    table(
        tmp_path / "test.tsv",
        [*rows(40, "new"), ("z", "zz"), ("once", "o"), ("a", ""), ("a", " text 0 ")],
    )
    task = only(train)
    assert task.notes == [
        "1 empty text dropped from test.tsv",
        "1 test text dropped: not in the training part 'z'",
        "class left out for want of 2 different texts to train on: 'once'",
        "1 test text dropped: also in the training part",
    ]
    assert task.test_inputs == [text for _, text in rows(40, "new")]


def test_overlapping_test_part_is_refused(tmp_path: Path) -> None:
    train = table(tmp_path / "train.tsv", rows(50))
    table(tmp_path / "test.tsv", [*rows(30, "new"), *rows(2)])
    message = refused(train)
    assert (
        "the test split overlaps the training part: 2 of 32 texts are in both, such as 'text 0'"
        in message
    )
    assert "test.tsv" in message
    table(tmp_path / "test.tsv", [("z", "new")])
    assert "no test text is left" in refused(train)


def test_labels(tmp_path: Path) -> None:
    task = only(
        table(tmp_path / "a.tsv", [(number % 11, f"text {number}") for number in range(66)])
    )
    assert task.classes == [str(number) for number in range(11)]  # in the order of numbers
    task = only(
        table(tmp_path / "b.tsv", [(f"{number % 2}.0", f"text {number}") for number in range(20)])
    )
    assert task.classes == ["0", "1"]
    task = only(
        table(tmp_path / "c.tsv", [(f"{number % 3}.5", f"text {number}") for number in range(20)])
    )
    assert task.classes == ["0.5", "1.5", "2.5"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.tsv", "", "a.tsv: empty, no rows"),
        ("a.tsv", "label\ttext\n", "a.tsv: empty, no rows"),
        ("a.tsv", "text\tn\na\t1\n", "a.tsv: no label column found; it has 'text', 'n'"),
        ("a.tsv", "label\tn\na\t1\n", "a.tsv: no text column found; it has 'label', 'n'"),
        ("a.tsv", "label\ttext\na\tx\n\ty\n", "a.tsv:3: no label in column 'label'"),
        ("a.tsv", "label\ttext\na\tx\nb\n", "a.tsv:3: 1 fields found"),
        ("a.jsonl", '{"text": "x", "label": "a"}\n{"text": "y"}\n', "a.jsonl:2: no label"),
        (
            "a.jsonl",
            '{"text": "x", "label": ["a", "b"]}\n',
            "a.jsonl:1: 2 labels in column 'label' (['a', 'b'])",
        ),
        ("a.jsonl", '{"text": 3, "label": "a"}\n', "a.jsonl:1: column 'text' holds int 3"),
        ("a.jsonl", '{"text": "x", "label": NaN}\n', "no row has a label in column 'label'"),
        (
            "a.jsonl",
            '{"text": "x", "label": 1}\n{"text": "x", "label": NaN}\n',
            "a.jsonl:2: no label",
        ),
    ],
)
def test_broken_tables_are_named(tmp_path: Path, name: str, text: str, expected: str) -> None:
    (tmp_path / name).write_text(text)
    assert expected in refused(tmp_path / name)


def scores(count: int = 99) -> list[tuple]:
    return [(i / 7, f"a {i}", f"b {i}") for i in range(count)]


def test_scores_are_numbers_not_classes(tmp_path: Path) -> None:
    header = "score\tsentence1\tsentence2"
    path = table(tmp_path / "sts-train.tsv", scores(), header)
    for task in (only(path), only(tmp_path)):
        assert (task.metric, task.classes) == ("pearson", [])
        numbers = dict(
            zip(
                task.train_inputs + task.test_inputs,
                [*task.train_labels, *task.test_labels],
                strict=True,
            )
        )
        assert numbers == {f"{a}\n{b}": score for score, a, b in scores()}
        assert len(task.test_inputs) == 20
        assert task.notes == [
            "labels are numbers from 0 to 13.8571, not classes: scored by Pearson's correlation"
        ]
    table(
        tmp_path / "sts-test.tsv",
        [*scores(3), (9, "x", "y"), *[(0.5, i, i) for i in range(99)]],
        header,
    )
    task = only(path)
    assert task.test_labels[:2] == [9.0, 0.5]
    assert task.notes[0] == "3 test texts dropped: also in the training part"
    table(tmp_path / "sts-test.tsv", [("bad", "x", "y")], header)
    assert "sts-test.tsv:2: label 'bad' is no number" in refused(path)
    table(tmp_path / "sts-test.tsv", [(1, "x", "y"), (1, "v", "w")], header)
    assert "sts-test.tsv: 1 different number in the test part" in refused(path)
    found = refused(path, metrics={"sts-train": "matthews"})
    assert "holds scores (84 different fractions" in found


def test_whole_numbers_are_classes_unless_asked_or_all_different(tmp_path: Path) -> None:
    path = table(tmp_path / "a.tsv", [(i % 5, f"text {i}") for i in range(50)])
    task = only(path)
    assert (task.metric, task.classes) == ("accuracy", ["0", "1", "2", "3", "4"])
    assert task.notes == [
        "labels are 5 whole numbers taken as classes; the metric 'pearson' takes them as numbers"
    ]
    task = only(path, metrics={"a": "pearson"})
    assert set(task.train_labels) == {0.0, 1.0, 2.0, 3.0, 4.0}
    many = [(i, f"text {i}") for i in range(50)]
    assert only(table(tmp_path / "b.tsv", many)).metric == "pearson"
    mixed = table(tmp_path / "c.tsv", [*scores(40), ("high", "x", "y")], "label\ttext\ttext_b")
    assert "c.tsv:42: label 'high' is no number" in refused(mixed)
    named = table(tmp_path / "d.tsv", [("x", "t"), ("y", "u")])
    assert "d.tsv:2: label 'x' is no number" in refused(named, metrics={"d": "pearson"})
    infinite = table(tmp_path / "e.tsv", [*scores(40), ("inf", "x", "y")], "label\ttext\ttext_b")
    assert "e.tsv:42: label 'inf' is no number" in refused(infinite)


def test_a_column_can_be_named(tmp_path: Path) -> None:
    data = [(i % 2, f"c{i % 3}", f"text {i}") for i in range(30)]
    path = table(tmp_path / "x_train.tsv", data, "label\tkind\ttext")
    table(tmp_path / "x_dev.tsv", [(0, "c1", "new")], "label\tkind\ttext")
    first, second = read_tasks([path, f"{path}:Kind"])
    assert isinstance(second, Task)
    assert (first.name, second.name) == ("x_train", "x-Kind")
    assert (second.classes, second.columns) == (["c0", "c1", "c2"], ["text", "kind"])
    assert second.test_inputs == ["new"]
    assert "no column 'kin'; it has 'label', 'kind', 'text'" in refused(f"{path}:kin")
    assert "no such file" in refused(f"{path}.gz:kind")
    colon = table(tmp_path / "a:b.tsv", data, "label\tkind\ttext")
    assert [task.name for task in read_tasks([colon, f"{colon}:kind"])] == ["a:b", "a:b-kind"]


# ---------------------------------------------------------------------------- minimal pairs


def pairs(path: Path | str) -> PairTask:
    (task,) = read_tasks([path])
    assert isinstance(task, PairTask)
    return task


def test_minimal_pairs(tmp_path: Path) -> None:
    rows = [
        {"sentence_good": f"a {i} b", "sentence_bad": f"b {i} a", "UID": f"u{i % 2}", "field": "s"}
        for i in range(4)
    ]
    path = tmp_path / "test.jsonl"
    equal = {**rows[0], "sentence_bad": "a 0 b"}
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, equal]))
    task = pairs(path)
    assert task.name == f"{tmp_path.name}-test"
    assert task.good == [f"a {i} b" for i in range(4)]
    assert task.bad == [f"b {i} a" for i in range(4)]
    assert task.phenomena == ["u0", "u1", "u0", "u1"]
    assert task.notes == ["1 pair dropped: both texts are equal (the first: test.jsonl:5)"]
    assert pairs(f"{path}:field").phenomena == ["s"] * 4
    assert "no column 'x'; it has" in refused(f"{path}:x")
    assert "names no phenomenon" in refused(f"{path}:sentence_bad")
    for name, text in (("p.csv", "good,bad\na b,b a\n"), ("p.tsv", "Bad\tGood\nb a\ta b\n")):
        (tmp_path / name).write_text(text)
        task = pairs(tmp_path / name)
        assert (task.good, task.bad, task.phenomena) == (["a b"], ["b a"], [""])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("good,bad\na,b\nb,\n", "p.csv:3: no text in column 'bad'"),
        ("good,bad\n,b\n", "p.csv:2: no text in column 'good'"),
        ("good,bad\na,a\n", "p.csv: both texts are equal in every pair, such as 'a'"),
        ("good,bad\n", "p.csv: empty, no rows"),
        ("good,worse\na,b\n", "p.csv: no text column found"),
    ],
)
def test_broken_pairs_are_named(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    assert expected in refused(tmp_path / "p.csv")


def test_good_and_bad_beside_text_and_label_are_no_pairs(tmp_path: Path) -> None:
    data = [(i % 2, f"text {i}", i % 2, 1 - i % 2) for i in range(20)]
    assert only(table(tmp_path / "a.tsv", data, "label\ttext\tgood\tbad")).classes == ["0", "1"]


@pytest.mark.slow
def test_real_pairs(real_data: Path) -> None:
    task = pairs(real_data / "pairs" / "blimp.jsonl.xz")
    assert (task.name, len(task.good), len(set(task.phenomena))) == ("blimp", 66993, 67)
    assert task.notes[0].startswith("7 pairs dropped")


@pytest.mark.slow
def test_real_tasks() -> None:
    root = Path(__file__).resolve().parents[1]
    folder = root / os.environ.get("LOOKAROUND_DATA", "../shared/data")
    if not (folder / "glue").is_dir():
        pytest.skip(f"no real data in {folder} (set LOOKAROUND_DATA)")
    names = ("banking77", "clinc150", "sentence_polarity", "sms_spam", "snips")
    glue = ("CoLA", "RTE", "SST-2")
    tasks = read_tasks(
        [
            *(folder / "classification" / name for name in names),
            *(folder / "glue" / name for name in glue),
        ]
    )
    assert [task.name for task in tasks] == [*names, *glue]
    assert [len(task.classes) for task in tasks] == [77, 150, 2, 2, 7, 2, 2, 2]
    assert [task.metric for task in tasks].index("matthews") == 5
    assert tasks[0].notes == ["7 test texts dropped: also in the training part"]
    assert len(tasks[-1].test_inputs) == 872
    assert "\n" in tasks[-2].train_inputs[0]
    for task in tasks:
        assert not set(task.train_inputs) & set(task.test_inputs)
    scores = only(folder / "glue" / "STS-B")
    assert (scores.metric, len(scores.train_inputs), scores.train_labels[0]) == (
        "pearson",
        5749,
        5.0,
    )
