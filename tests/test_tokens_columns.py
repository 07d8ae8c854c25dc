"""What is read from columns that are numbered, named, in another order, or lists with gaps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lookaround.data.labelled import PairTask, Task
from lookaround.data.tasks import read_tasks
from test_tokens_data import conllu, only, read, refused, words

SENTENCES = [[(f"w{i}", "N"), ("the", "D"), ("cat", "N")] for i in range(12)]


def lines(path: Path, rows: object, head: str = "") -> Path:
    """rows: a function from (place in the sentence, word, label) to a line."""
    blocks = (
        "".join(rows(i, *pair) + "\n" for i, pair in enumerate(sentence))  # type: ignore[operator]
        for sentence in SENTENCES
    )
    path.write_text(head + "\n".join(blocks))
    return path


def table(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# ---------------------------------------------------------------------------- columns


@pytest.mark.parametrize("start", [0, 1, 2, 7])
@pytest.mark.parametrize(
    "head", ["", "id\tword\ttag\n", "Nr\tWort\tKategorie\tNER\n", "#ID\tX\tPOS\n"]
)
def test_running_numbers_are_no_words(tmp_path: Path, start: int, head: str) -> None:
    extra = "\tx" * (head.count("\t") - 2)
    path = lines(tmp_path / "a.conll", lambda i, w, t: f"{i + start}\t{w}{extra}\t{t}", head)
    task = only(path)
    assert read(task) == sorted(SENTENCES)
    (note,) = task.notes
    if head:
        names = head.lower().lstrip("#").split()
        assert note == "1 line of a.conll read as the names of columns: " + ", ".join(
            map(repr, names)
        )
    else:
        assert note == (
            "column 1 of a.conll holds numbers of words, or one value a sentence: words are read "
            "from column 2"
        )


def test_numbers_of_one_sentence_that_lacks_its_first(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.conll", lambda i, w, t: f"{i + 1} {w} {t}")
    path.write_text(path.read_text() + "\n2 the D\n3 cat N\n")
    assert read(only(path)) == sorted([*SENTENCES, [("the", "D"), ("cat", "N")]])
    path = lines(tmp_path / "b.conll", lambda i, w, t: f"{5} {i + 1} {w} {t}")
    assert read(only(path)) == sorted(SENTENCES)
    path.write_text(path.read_text() + "\nx 1 the D\n")
    assert "b.conll:49: 'x' in column 1, which numbers the words" in refused(path)
    path = lines(tmp_path / "c.conll", lambda i, w, t: f"{i + 1} {t}")
    assert "c.conll:1: column 1 holds running numbers, so there is no column for words" in refused(
        path
    )


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ("{i}.\t{w}\t{t}", ["2", "3"]),
        ("bc/x 0 {i} {w} x {t}", ["4", "6"]),
        ("{w} {t} {i}", ["1", "2"]),
    ],
)
def test_other_columns_without_words(tmp_path: Path, row: str, columns: list[str]) -> None:
    task = only(lines(tmp_path / "a.conll", lambda i, w, t: row.format(i=i + 1, w=w, t=t)))
    assert (read(task), task.columns) == (sorted(SENTENCES), columns)
    assert len(task.notes) == 1


@pytest.mark.parametrize(
    "head", ["Word Tag", "token NER", "form UPOS", "word category", "Wort Tag", "tokens chunk"]
)
def test_names_of_columns_anywhere(tmp_path: Path, head: str) -> None:
    path = lines(tmp_path / "a.conll", lambda i, w, t: f"{w} {t}", head + "\n")
    names = ", ".join(map(repr, head.lower().split()))
    assert read(only(path)) == sorted(SENTENCES)
    text = path.read_text()
    path.write_text(text + text)
    task = only(path)
    assert read(task) == sorted(SENTENCES * 2)
    assert task.notes == [f"2 lines of a.conll read as the names of columns: {names}"]
    path.write_text(text.partition("\n")[2] + head + "\nx N\ny D\n")
    assert read(only(path)) == sorted([*SENTENCES, [("x", "N"), ("y", "D")]])


def test_a_word_that_is_the_name_of_a_column(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.conll", lambda i, w, t: f"{w} {t}")
    more = [[("text", "label"), (f"x{i}", "label")] for i in range(8)]
    path.write_text(path.read_text() + "".join(f"\ntext label\nx{i} label\n" for i in range(8)))
    task = only(path)
    assert (read(task), task.notes) == (sorted(SENTENCES + more), [])
    path.write_text("tag tag\n" + path.read_text())
    assert "a.conll:1: two columns are called 'tag'; give each its own name" in refused(path)


def test_a_test_part_without_the_names(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.train.conll", lambda i, w, t: f"{i} {w} x {t}", "id word pos tag\n")
    (tmp_path / "x.test.conll").write_text("0 q x D\n1 r x N\n\n0 s x N\n")
    for name in (path, f"{path}:tag"):
        assert [s.text for s in only(name).test] == ["q r", "s"]
    assert "x.train.conll: no column '\u0664'" in refused(f"{path}:\u0664")


def test_names_in_conllu(tmp_path: Path) -> None:
    path = conllu(tmp_path / "a.conllu")
    before = read(only(path))
    head = "ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC".replace(" ", "\t")
    path.write_text(f"{head}\n{path.read_text()}")
    task = only(path)
    assert read(task) == before
    assert task.notes[0] == "1 line of a.conllu read as the names of columns"


def test_lines_that_begin_with_a_number_sign(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.conll", lambda i, w, t: f"{w} {t}")
    text = path.read_text()
    tags = [[(f"#tag{i}", "HT"), ("day", "D")] for i in range(6)]
    path.write_text(text + "".join(f"\n{a} {t}\n{b} {u}\n" for (a, t), (b, u) in tags))
    task = only(path)
    assert read(task) == sorted(SENTENCES + tags)
    assert task.notes == []
    path.write_text(text + "\n# newdoc\nx N\ny D\n\n# id = 3\n# a=b\nz N\n")
    task = only(path)
    assert read(task) == sorted([*SENTENCES, [("x", "N"), ("y", "D")], [("z", "N")]])
    assert task.notes == ["1 line of a.conll read as no word: '# ' in front"]


def test_labels_in_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "a.bio"
    path.write_text(
        "\n".join("".join(f"{tag}\t{word}\n" for word, tag in rows) for rows in words())
    )
    for name in (path, f"{path}:1"):
        task = only(name)
        assert read(task) == sorted(words())
        assert (task.metric, task.columns) == ("span_f1", ["2", "1"])
        assert task.notes == ["column 1 of a.bio holds BIO tags: words are read from column 2"]
    assert "column '2' holds the words" in refused(f"{path}:2")
    path.write_text(path.read_text().replace("\n", "\tx\n").replace("\n\tx", "\n"))
    path.write_text(path.read_text().replace("Lee\tx", "Lee\ty"))
    for name, labels in ((path, {"B-PER", "I-PER", "B-LOC", "O"}), (f"{path}:3", {"x", "y"})):
        task = only(name)
        assert {task.train[0].text.split()[1], *task.classes} == {"Lee", *labels}
    path = lines(tmp_path / "b.txt", lambda i, w, t: f"{t} {w}")
    assert (
        "b.txt:1: column 1 has 2 different values and column 2 has 14, so it is not clear which "
        "holds the words; name the column of labels: ':1' or ':2' behind the path" in refused(path)
    )
    task = only(f"{path}:1")
    assert read(task) == sorted(SENTENCES)
    assert task.notes == ["column 1 of b.txt holds the labels: words are read from column 2"]


# ---------------------------------------------------------------------------- tables


def test_spans_in_texts_with_other_line_ends(tmp_path: Path) -> None:
    rows = [
        {"text": f"a\r\nb\r\n\r\ncd{i} e\r\n", "spans": [[3, 4, "x"], [8, 13 + (i > 9), "y"]]}
        for i in range(12)
    ]
    task = only(table(tmp_path / "a.jsonl", rows))
    expected = [[("a", "O"), ("b", "B-x"), (f"cd{i}", "B-y"), ("e", "I-y")] for i in range(12)]
    assert read(task) == sorted(expected)
    assert task.notes == []
    assert {sentence.text for sentence in task.train + task.test} == {
        f"a\nb\n\ncd{i} e\n" for i in range(12)
    }


BAD_SPANS = [
    ([[0, 3]], "span [0, 3]"),
    ("abc", "span abc"),
    (5, "span 5"),
    ([5], "span 5"),
    ([[[0, 3, "x"]]], "span [[0, 3, 'x']]"),
    ([{"end": 3, "label": "x"}], "span {'end': 3"),
    ([[0, 3, None]], "span [0, 3, None]"),
]


@pytest.mark.parametrize(("bad", "found"), BAD_SPANS)
@pytest.mark.parametrize("more", [{}, {"intent": "b"}])
def test_one_bad_row_of_spans(tmp_path: Path, bad: object, found: str, more: dict) -> None:
    rows = [{"text": f"abc {i}", "spans": [[0, 3, "x"]], **more} for i in range(12)]
    for place in (0, 12):
        several = [*rows[:place], {"text": "abc d", "spans": bad, **more}, *rows[place:]]
        path = table(tmp_path / "a.jsonl", several)
        for name in (path, f"{path}:spans"):
            message = refused(name)
            assert f"a.jsonl:{place + 1}: {found}" in message
            assert "in column 'spans'; give [start, end, label]" in message
            assert ("':intent' behind the path" in message) == bool(more)
    if more:
        path = table(tmp_path / "a.jsonl", [*several, *({**r, "intent": "c"} for r in several)])
        assert isinstance(read_tasks([f"{path}:intent"])[0], Task)


def test_lists_of_labels_are_no_spans(tmp_path: Path) -> None:
    rows = [
        {"text": f"abc {i}", "labels": [[0, 1], [1, 0]], "intent": "ab"[i % 2]} for i in range(9)
    ]
    assert "2 labels in column 'labels'" in refused(table(tmp_path / "a.jsonl", rows))


BAD_LISTS = [
    ({"tags": ["N", None]}, "no label in column 'tags' for word 'b'"),
    ({"tags": ["N", ""]}, "no label in column 'tags' for word 'b'"),
    ({"tags": [1.0, 2]}, "label 1.0 (a float) in column 'tags' for word 'a'"),
    ({"tags": [True, "N"]}, "label True (a bool) in column 'tags' for word 'a'"),
    ({"tags": ["N"]}, "2 words in 'words' but 1 labels in 'tags'"),
    ({"words": ["a", 3]}, "word '3' in column 'words', with label 'V'"),
    ({"words": None}, "0 words in 'words' but 2 labels in 'tags'"),
]


@pytest.mark.parametrize(("bad", "found"), BAD_LISTS)
@pytest.mark.parametrize("more", [{}, {"text": "a b", "label": "b"}])
def test_one_bad_row_of_lists(tmp_path: Path, bad: dict, found: str, more: dict) -> None:
    rows = [{"words": ["a", f"b{i}"], "tags": ["N", "V"], **more} for i in range(12)]
    rows.append({"words": ["a", "b"], "tags": ["N", "V"], **more, **bad})
    path = table(tmp_path / "a.jsonl", rows)
    for name in (path, f"{path}:tags"):
        assert f"a.jsonl:13: {found}" in refused(name)


def test_words_to_be_left_out(tmp_path: Path) -> None:
    rows = [{"tokens": ["[CLS]", f"a{i}", "b"], "tags": [-100, 1, 2]} for i in range(12)]
    rows.append({"tokens": ["c"], "tags": [-100]})
    task = only(table(tmp_path / "a.jsonl", rows))
    assert read(task) == sorted([(f"a{i}", "1"), ("b", "2")] for i in range(12))
    assert task.classes == ["1", "2"]
    assert task.train[0].text.startswith("[CLS] a")
    assert task.notes == [
        "13 words of a.jsonl left out: the label -100 is none",
        "1 sentence of a.jsonl dropped: no word with a label",
    ]


# ---------------------------------------------------------------------------- numbers and pairs


def scored(path: Path, label: object, last: str = "", count: int = 60) -> Path:
    rows = [f"s{i}\t{label(i)}" for i in range(count)]  # type: ignore[operator]
    path.write_text("\n".join(["text\tscore", *rows, *([f"q\t{last}"] if last else [])]) + "\n")
    return path


@pytest.mark.parametrize("form", ["{:.2e}", ".{:02}", "{}.", "+{}.5", "-{}E1"])
def test_numbers_in_other_forms(tmp_path: Path, form: str) -> None:
    path = scored(tmp_path / "a.tsv", lambda i: form.format(i))
    (task,) = read_tasks([path])
    assert isinstance(task, Task)
    assert task.metric == "pearson"
    assert sorted(task.train_labels + task.test_labels) == sorted(
        float(form.format(i)) for i in range(60)
    )
    assert "labels are numbers from" in task.notes[-1]


@pytest.mark.parametrize("bad", ["1_0", "\u0663", "0x1", "nan", "1e400", "1,5"])
def test_what_is_no_number(tmp_path: Path, bad: str) -> None:
    path = scored(tmp_path / "a.tsv", lambda i: i / 7, bad)
    assert f"a.tsv:62: label '{bad}' is no number; give a finite one" in refused(path)
    assert ("with a decimal point" in refused(path)) == ("," in bad)


def test_decimal_commas(tmp_path: Path) -> None:
    path = scored(tmp_path / "a.tsv", lambda i: f"{i // 3},4", count=90)
    assert (
        "a.tsv: column 'score' holds 30 different numbers with a comma such as '0,4'; write a "
        "decimal point, or give the metric 'accuracy' if they are classes" in refused(path)
    )
    assert read_tasks([path], metrics={"a": "accuracy"})[0].metric == "accuracy"
    assert "a.tsv:2: label '0,4' is no number; give a finite one, with a decimal point" in refused(
        path, metrics={"a": "pearson"}
    )


def test_pairs_beside_others(tmp_path: Path) -> None:
    rows = [{"good": f"a {i}", "bad": f"b {i}"} for i in range(4)]
    table(tmp_path / "test.jsonl", rows)
    (task,) = read_tasks([table(tmp_path / "train.jsonl", rows)])
    assert isinstance(task, PairTask)
    assert task.notes == ["test.jsonl is not read: all pairs of train.jsonl are test pairs"]


def test_a_table_whose_first_name_begins_with_a_number_sign(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("#id\ttext\tlabel\n" + "".join(f"#{i}\tw{i}\tc{i % 2}\n" for i in range(20)))
    (task,) = read_tasks([path])
    assert isinstance(task, Task)
