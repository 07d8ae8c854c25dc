"""What is read from columns that are numbered, named, in another order, or lists with gaps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
        assert note == "column 1 of a.conll holds running numbers: words are read from column 2"


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
    assert task.notes == ["1 line of a.conll that begin with '# ' taken as comments"]


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
    path = lines(tmp_path / "b.txt", lambda i, w, t: f"{t} {w}")
    assert (
        "b.txt:1: column 1 has 2 different values and column 2 has 14, so it is not clear which "
        "holds the words; name the column of labels: ':1' or ':2' behind the path" in refused(path)
    )
    task = only(f"{path}:1")
    assert read(task) == sorted(SENTENCES)
    assert task.notes == ["column 1 of b.txt holds the labels: words are read from column 2"]
