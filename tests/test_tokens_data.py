"""Tasks of words: every format gives the same sentences and labels, what is wrong with a file is
said with its line, and the embedded task's names are names.
"""

from __future__ import annotations

import io
import json
import lzma
import random
import tokenize
from collections import Counter
from itertools import accumulate, pairwise
from pathlib import Path

import pytest

from lookaround.data.bio import as_bio, begins, is_bio
from lookaround.data.labelled import Sentence, Task, TokenTask
from lookaround.data.roles import ROLES, name_roles, stdlib_roles
from lookaround.data.stdlib import library, read_code, source_files
from lookaround.data.tasks import read_tasks
from lookaround.data.token_tables import words_of
from lookaround.support.errors import UserError


def words(count: int = 20) -> list[list[tuple[str, str]]]:
    return [
        [("Ann" + str(i), "B-PER"), ("Lee", "I-PER"), ("saw", "O"), (f"Rome{i % 3}", "B-LOC")]
        for i in range(count)
    ]


def columns(path: Path, sentences: list[list[tuple[str, ...]]], separator: str = "\t") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = ("".join(separator.join(row) + "\n" for row in rows) for rows in sentences)
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path


def only(path: Path | str, **options: object) -> TokenTask:
    (task,) = read_tasks([path], **options)  # type: ignore[arg-type]
    assert isinstance(task, TokenTask)
    return task


def refused(path: Path | str, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        read_tasks([path], **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(task: TokenTask) -> list[list[tuple[str, str]]]:
    """The words of all sentences with their labels, in the order of their first words."""
    return sorted(labelled(task, sentence) for sentence in task.train + task.test)


def labelled(task: TokenTask, sentence: Sentence) -> list[tuple[str, str]]:
    places = zip(sentence.words, sentence.labels, strict=True)
    return [(sentence.text[start:end], task.classes[label]) for (start, end), label in places]


# ---------------------------------------------------------------------------- formats


@pytest.mark.parametrize("name", ["a.txt", "a.conll", "a.tsv", "a.bio", "a", "a.iob2.xz"])
def test_columns_are_known_by_content(tmp_path: Path, name: str) -> None:
    path = columns(tmp_path / name, words())
    if name.endswith(".xz"):
        path.write_bytes(lzma.compress(path.read_bytes()))
    task = only(path)
    assert (task.name, task.metric, task.notes) == ("a", "span_f1", [])
    assert task.classes == ["B-LOC", "B-PER", "I-PER", "O"]
    assert read(task) == sorted(words())
    assert len(task.test) == 4
    assert task == only(path)
    assert {s.text for s in task.test} != {s.text for s in only(path, seed=1).test}
    assert task.train[0].text == " ".join(word for word, _ in labelled(task, task.train[0]))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", " \n"),
        lambda text: text.replace("\n", "\t\n"),
        lambda text: text.rstrip("\n"),
        lambda text: "\n\n" + text.replace("\n\n", "\n \t\n\n"),
        lambda text: text.replace("\t", "  "),
        lambda text: "-DOCSTART-\tO\n\n" + text,
        lambda text: "word\tner\n" + text,
        lambda text: text.replace("\n\n", "\n\n# id 7 \tdomain=en\n"),
    ],
)
def test_what_editors_and_sites_do_to_columns(tmp_path: Path, change: object) -> None:
    path = columns(tmp_path / "a.conll", words())
    path.write_bytes(change(path.read_text()).encode())  # type: ignore[operator]
    task = only(path)
    assert read(task) == sorted(words())
    header = "1 line of a.conll read as the names of columns: 'word', 'ner'"
    assert task.notes == ([header] if path.read_text().startswith("word") else [])


def test_a_number_sign_can_be_a_word(tmp_path: Path) -> None:
    rows = [[("#", "#", "O"), (f"{i}", "CD", "B-N"), ("so", "RB", "O")] for i in range(9)]
    task = only(columns(tmp_path / "a.txt", rows))
    assert read(task)[0] == [("#", "O"), ("0", "B-N"), ("so", "O")]


def test_numbered_words_and_no_break_spaces(tmp_path: Path) -> None:
    rows = [[("1", f"ab\u00a0{i}", "B-X"), ("2", "c", "O"), ("3", "d", "O")] for i in range(9)]
    task = only(columns(tmp_path / "a.tsv", rows))
    assert (read(task)[0], task.columns) == (
        [("ab\u00a00", "B-X"), ("c", "O"), ("d", "O")],
        ["2", "3"],
    )
    assert read(only(columns(tmp_path / "b.txt", rows, " "))) == read(task)


def test_column_is_named_by_number_or_header(tmp_path: Path) -> None:
    rows = [[(word, tag[0].lower(), tag) for word, tag in sentence] for sentence in words()]
    path = columns(tmp_path / "x.train.txt", rows)
    second = only(f"{path}:2")
    assert (second.name, second.metric, second.classes) == ("x-2", "accuracy", ["b", "i", "o"])
    assert [task.name for task in read_tasks([path, f"{path}:2"])] == ["x", "x-2"]
    assert "no column '4'; its columns have no names; give a number from 1 to 3" in refused(
        f"{path}:4"
    )
    assert "no column 'ner'; its columns have no names" in refused(f"{path}:ner")
    assert "column '1' holds the words" in refused(f"{path}:1")
    assert "nothing behind the colon" in refused(f"{path}:")
    assert "no such file" in refused(f"{path}x:2")
    path.write_text("Token\tPOS\tNER\n\n" + path.read_text())
    assert only(f"{path}:pos").classes == second.classes
    assert "no column 'chunk'; it has 'token', 'pos', 'ner'" in refused(f"{path}:chunk")


CONTRACTED = """\
# newdoc id = {i}
# sent_id = s{i}
# text = Vamos  al mar{i}.
1\tVamos\tir\tVERB\tV\tNumber=Plur|Person=1\t0\troot\t_\t_
2-3\tal\t_\t_\t_\t_\t_\t_\t_\t_
2\ta\ta\tADP\tP\t_\t4\tcase\t_\t_
3\tel\tel\tDET\tD\tNumber=Sing\t4\tdet\t_\t_
3.1\tgran\tgran\tADJ\tA\t_\t_\t_\t_\t_
4\tmar{i}\tmar\tNOUN\tN\tNumber=Sing\t1\tobl:arg\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t.\t_\t1\tpunct\t_\t_

"""


def conllu(path: Path, text: str = CONTRACTED, count: int = 12) -> Path:
    path.write_text("".join(text.replace("{i}", str(i)) for i in range(count)), encoding="utf-8")
    return path


def test_conllu(tmp_path: Path) -> None:
    path = conllu(tmp_path / "es-ud-train.conllu")
    task = only(path)
    assert (task.name, task.metric, task.columns) == ("es-ud", "accuracy", ["form", "upos"])
    assert read(task)[0] == [
        ("Vamos", "VERB"),
        ("a", "ADP"),
        ("l", "DET"),
        ("mar0", "NOUN"),
        (".", "PUNCT"),
    ]
    assert {sentence.text for sentence in task.train} <= {f"Vamos  al mar{i}." for i in range(12)}
    assert task.notes == [
        "24 words of es-ud-train.conllu in contractions share a surface that is not theirs"
    ]
    assert ("mar0", "obl:arg") in read(only(f"{path}:deprel"))[0]
    for given in ("feats.Number", "Number", "number"):
        number = only(f"{path}:{given}")
        assert number.name == f"es-ud-{given}"
        assert [label for _, label in read(number)[0]] == ["Plur", "_", "Sing", "Sing", "_"]
    assert only(f"{path}:feats").classes == ["Number=Plur|Person=1", "Number=Sing", "_"]
    assert (
        "no column 'lemma' with labels; it has 'upos', 'xpos', 'feats', 'deprel', 'feats.Number', "
        "'feats.Person'" in refused(f"{path}:lemma")
    )
    again = path.rename(tmp_path / "es.txt")
    again.write_bytes(again.read_bytes().rstrip(b"\n").replace(b"\n", b"\r\n"))
    assert read(only(again)) == read(task)


def test_text_of_conllu_without_or_with_another_text(tmp_path: Path) -> None:
    bare = CONTRACTED.replace("# text = Vamos  al mar{i}.\n", "")
    task = only(conllu(tmp_path / "a.conllu", bare))
    assert task.train[0].text.startswith("Vamos al mar")
    assert task.train[0].text.endswith(".")
    assert len(task.notes) == 1
    other = only(conllu(tmp_path / "b.conllu", CONTRACTED.replace("Vamos  al", "Vamos a el")))
    assert [sentence.text for sentence in other.train] == [s.text for s in task.train]
    assert other.notes[0] == "12 sentences of b.conllu read by words: '# text' has others"


def test_words_share_the_surface_of_a_contraction(tmp_path: Path) -> None:
    def parts(surface: str, *forms: str) -> list[str]:
        rows = "".join(
            f"{i}\t{form}\t_\tX{i}\t_\t_\t0\t_\t_\t_\n" for i, form in enumerate(forms, 1)
        )
        text = (
            f"1-{len(forms)}\t{surface}"
            + "\t_" * 8
            + f"\n{rows}9\tx{{i}}\t_\tY\t_\t_\t0\t_\t_\t_\n\n"
        )
        task = only(conllu(tmp_path / "a.conllu", text))
        return [word for word, _ in read(task)[0][:-1]]

    assert parts("I'm", "I", "'m") == ["I", "'m"]
    assert parts("Cannot", "Can", "not") == ["Can", "not"]
    assert parts("du", "de", "le") == ["d", "u"]
    assert parts("dámelo", "da", "me", "lo") == ["dá", "me", "lo"]
    assert parts("zzzz", "a", "bbbbbbbbbb") == ["z", "zzz"]
    assert parts("à", "a", "la") == ["à"]


def test_sentences_without_labels_are_left_out(tmp_path: Path) -> None:
    path = conllu(tmp_path / "a.conllu")
    whole = path.read_text()
    path.write_text(whole.replace("\tDET\tD", "\t_\tD", 2))
    task = only(path)
    assert task.notes[0] == "2 sentences of a.conllu left out: words without 'upos'"
    assert len(task.train + task.test) == 10
    path.write_text(whole.replace("root", "_").replace("obl:arg", "_"))
    assert "column 'deprel' is empty in every sentence" in refused(f"{path}:deprel")
    hidden = "".join(f"{i}\t_\t_\tX\t_\t_\t_\t_\t_\t_\n" for i in (1, 2)) + "\n"
    assert "its words are left out ('_')" in refused(conllu(tmp_path / "b.conllu", hidden))


def test_spans_become_bio(tmp_path: Path) -> None:
    rows = [
        {"text": f"go to New York, cafe\u0301 {i}!", "spans": [[6, 14, "city"], [16, 21, "place"]]}
        for i in range(10)
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = only(path)
    assert (task.name, task.metric, task.notes) == ("a", "span_f1", [])
    assert read(task)[0] == [
        ("go", "O"),
        ("to", "O"),
        ("New", "B-city"),
        ("York", "I-city"),
        (",", "O"),
        ("cafe\u0301", "B-place"),
        ("0", "O"),
        ("!", "O"),
    ]
    names = [("start", "end", "label"), ("start_offset", "end_offset", "type")]
    for column, keys in zip(("entities", "labels"), names, strict=True):
        other = [
            {
                "text": row["text"],
                column: [dict(zip(keys, span, strict=True)) for span in row["spans"]],
            }
            for row in rows
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in other))
        assert read(only(path)) == read(task)
    path.write_text(
        "".join(json.dumps({**row, "intent": f"x{i % 2}"}) + "\n" for i, row in enumerate(rows))
    )
    assert read(only(path)) == read(task)
    (texts,) = read_tasks([f"{path}:intent"])
    assert isinstance(texts, Task)
    assert (texts.name, texts.classes) == ("a-intent", ["x0", "x1"])


def test_spans_that_cut_words(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"text": f"abc def {i}", "spans": [[1, 2, "x"], [2, 6, "y"], [7, 8, "z"]]}
        for i in range(10)
    ]
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in rows) + '{"text": " ", "spans": []}\n'
    )
    task = only(path)
    assert read(task)[0] == [("abc", "B-x"), ("def", "B-y"), ("0", "O")]
    assert task.notes == [
        "1 empty text dropped from a.jsonl",
        "20 spans of a.jsonl cut a word: moved to the word's edges",
        "10 spans of a.jsonl dropped: no word of their own",
    ]


def test_words_of_a_text() -> None:
    def cut(text: str) -> list[str]:
        return [text[start:end] for start, end in words_of(text)]

    assert cut("It's 3 o'clock\n(a.m.)") == [
        *["It", "'", "s", "3", "o", "'", "clock", "(", "a", ".", "m", ".", ")"]
    ]
    assert cut("na\u0308\u0301ive नमस्ते 東京tower") == [
        "na\u0308\u0301ive",
        "नमस्ते",
        "東",
        "京",
        "tower",
    ]
    assert cut("\U0001f468\u200d\U0001f469\ufe0f!") == ["\U0001f468\u200d\U0001f469\ufe0f", "!"]
    assert cut(" \u0301 ") == ["\u0301"]
    generator = random.Random(0)
    for _ in range(200):
        text = "".join(generator.choice("ab 1.'\u0301\u200d東é") for _ in range(20))
        found = words_of(text)
        assert all(first[1] <= second[0] for first, second in pairwise(found))
        assert "".join(cut(text)) == "".join(text.split())


def test_lists_of_tokens(tmp_path: Path) -> None:
    names = sorted({tag for sentence in words() for _, tag in sentence})
    rows = [
        {
            "tokens": [word for word, _ in sentence],
            "pos_tags": [f"{tag[0]}T" for _, tag in sentence],
            "ner_tags": [names.index(tag) for _, tag in sentence],
        }
        for sentence in words()
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    numbers = only(path)
    assert (numbers.metric, numbers.classes) == ("accuracy", ["0", "1", "2", "3"])
    assert only(f"{path}:pos_tags").classes == ["BT", "IT", "OT"]
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "pos_tags": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
        }
    )
    saved = datasets.Dataset.from_list(rows, features=features)
    saved.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=saved, test=saved.select(range(2))).save_to_disk(tmp_path / "two")
    saved.to_parquet(tmp_path / "b.parquet")
    for name in ("one", "b.parquet"):
        task = only(tmp_path / name)
        assert (task.metric, task.columns) == ("span_f1", ["tokens", "ner_tags"])
        assert read(task) == sorted(words())
    assert "overlaps the training part: 2 of 2 sentences" in refused(tmp_path / "two")


# ---------------------------------------------------------------------------- parts


def test_a_test_part_beside_the_training_part(tmp_path: Path) -> None:
    for train, test, name in (
        ("x/ner.train.txt", "x/ner.test.txt", "ner"),
        ("y/eng.train", "y/eng.testb", "eng"),
        ("z/en-ud-train.conll.xz", "z/en-ud-dev.conll", "en-ud"),
    ):
        path = columns(tmp_path / train, words())
        if train.endswith(".xz"):
            path.write_bytes(lzma.compress(path.read_bytes()))
        columns(tmp_path / test, [*words(23)[18:], [("Z", "B-NEW"), ("q", "O")]])
        task = only(path)
        assert task.name == name
        assert len(task.train) == 20
        assert [sentence.text.split()[0] for sentence in task.test] == ["Ann20", "Ann21", "Ann22"]
        assert task.notes == [
            "2 test sentences dropped: also in the training part",
            "1 test sentence dropped: labels not in the training part 'B-NEW'",
        ]
    assert "a test part on its own" in refused(tmp_path / "x/ner.test.txt")
    columns(tmp_path / "w/train.txt", words())
    columns(tmp_path / "w/test.txt", words(23)[20:])
    assert only(tmp_path / "w").name == "w"
    assert len(only(f"{tmp_path / 'w'}:2").test) == 3
    columns(tmp_path / "x/ner.test.txt", [[(word,) for word, _ in rows] for rows in words(3)])
    task = only(tmp_path / "x/ner.train.txt")
    assert task.notes[0] == "ner.test.txt is not used: it has not the same columns"
    assert len(task.test) == 4


def test_a_treebank_folder(tmp_path: Path) -> None:
    folder = tmp_path / "UD_X"
    (folder / "not-to-release").mkdir(parents=True)
    for part in ("train", "dev"):
        conllu(folder / f"x-ud-{part}.conllu", CONTRACTED.replace("mar", part))
        (folder / f"x-ud-{part}.txt").write_text("Vamos al mar.")
    task = only(f"{folder}:xpos")
    assert (task.name, len(task.train), len(task.test)) == ("UD_X-xpos", 12, 12)


def test_whole_documents_are_held_out(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(
        "".join(
            "-DOCSTART- O\n\n" + "".join(f"d{d} B-X\nw{d}{s} O\n\n" for s in range(3))
            for d in range(15)
        )
    )
    task = only(path)
    documents = [{s.text.split()[0] for s in part} for part in (task.train, task.test)]
    assert not documents[0] & documents[1]
    assert (len(documents[1]), len(task.test)) == (3, 9)


def test_equal_sentences_stay_on_one_side(tmp_path: Path) -> None:
    task = only(columns(tmp_path / "a.conll", words() * 3))
    assert not {s.text for s in task.train} & {s.text for s in task.test}
    assert (len(task.train), len(task.test)) == (48, 12)


# ---------------------------------------------------------------------------- tags


def test_other_schemes_become_bio() -> None:
    tags = {
        "BIOES": "S-A O B-A I-A E-A S-B B-B E-B",
        "BILOU": "U-A O B-A I-A L-A U-B B-B L-B",
        "BMES": "S-A O B-A M-A E-A S-B B-B E-B",
        "IOE": "E-A O I-A I-A E-A E-B I-B E-B",
    }
    for scheme, text in tags.items():
        (found,), change = as_bio([text.split()], ["here"]) or ([], "")
        assert " ".join(found) == "B-A O B-A I-A I-A B-B B-B I-B"
        assert change == f"{scheme} tags are read as BIO"
    (found,), change = as_bio([("B_x_y", "I_x_y", "O")], ["here"]) or ([], "")
    assert (found, change) == (("B-x_y", "I-x_y", "O"), "tags such as 'B_X' are read as 'B-X'")
    (found,), change = as_bio([("B", "I", "O")], ["here"]) or ([], "")
    assert found == ("B-span", "I-span", "O")
    assert as_bio([("NN", "B-X", "VB")], ["here"]) is None
    assert as_bio([("O", "O")], ["here"]) is None
    mixed = [tuple(f"B-{i}" for i in range(12)), ("X",)]
    with pytest.raises(UserError, match="f:9: tag 'X' among BIO tags such as 'B-0'"):
        as_bio(mixed, ["f:1", "f:9"])


@pytest.mark.parametrize(
    ("scheme", "letters"), [("BIOES", "SBIE"), ("BILOU", "UBIL"), ("BMES", "SBME"), ("IOE", "EIIE")]
)
def test_random_chunks_in_every_scheme(scheme: str, letters: str) -> None:
    generator = random.Random(0)
    written, expected = [], []
    for _ in range(60):
        tags, bio = [], []
        for _ in range(6):
            kind, length = generator.choice("xy"), generator.randrange(4)
            if length == 0:
                tags.append("O")
                bio.append("O")
                continue
            single, first, inner, last = letters
            own = first + inner * (length - 2) + last if length > 1 else single
            tags += [f"{letter}-{kind}" for letter in own]
            bio += [f"{letter}-{kind}" for letter in "B" + "I" * (length - 1)]
        written.append(tags)
        expected.append(tuple(bio))
    assert as_bio(written, [""] * 60) == (expected, f"{scheme} tags are read as BIO")


def test_what_is_bio_and_where_a_chunk_begins() -> None:
    assert is_bio(["O", "B-X", "I-Y"])
    assert is_bio(["I-X"])
    assert not any(is_bio(tags) for tags in ([], ["O"], ["B-"], ["B-X", "NN"], ["E-X", "B-X"]))
    # by hand, as conlleval counts: I- begins behind O and behind another type
    tags = ["I-A", "I-A", "O", "I-A", "B-A", "I-B", "I-B"]
    found = [begins(tag, before) for tag, before in zip(tags, ["O", *tags], strict=False)]
    assert found == [True, False, False, True, True, True, False]


def test_metrics(tmp_path: Path) -> None:
    path = columns(tmp_path / "a.conll", words())
    assert only(path, metrics={"a": "accuracy"}).metric == "accuracy"
    assert "metric 'matthews' is not for words; give 'accuracy' or 'span_f1'" in refused(
        path, metrics={"a": "matthews"}
    )
    plain = columns(tmp_path / "b.conll", [[(w, t[0].lower()) for w, t in s] for s in words()])
    assert "span F1 needs BIO tags ('O', 'B-X', 'I-X'), but column '2' has 'b'" in refused(
        plain, metrics={"b": "span_f1"}
    )


# ---------------------------------------------------------------------------- bad input

GOOD = "".join(f"w{i} N\nv V\n\n" for i in range(20))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", GOOD + "x\n", "a.txt:61: 1 column found, 2 expected ('x')"),
        ("a.txt", GOOD + "x y z\n", "a.txt:61: 3 columns found, 2 expected"),
        ("a.txt", GOOD.replace(" ", "\t") + "x\t\n", "a.txt:61: a word without a label"),
        ("a.txt", GOOD.replace(" ", "\t") + "\tN\n", "a.txt:61: a label without a word"),
        ("a.txt", "Some prose.\n\nAnd more of it, in lines.\n", "the file holds no columns"),
        ("a.txt", "", "a.txt: the file is empty; give a word and its labels a line"),
        ("a.xyz", "# a\n\n# b\n", "a.xyz: the file holds comments alone"),
        ("a.tsv", "# a\n\n# b\n", "a.tsv: the file holds comments alone"),
        ("a.xyz", "a N\nb V\n\nc N\n", "a.xyz: 2 sentences found, too few to hold some out"),
        ("a.xyz", "a N\nb V\n", "a.xyz: the file holds one sentence (2 lines of 2 columns)"),
        ("a.txt", GOOD.replace("V", "N"), "a.txt: 1 label found in column '2' ('N')"),
        ("a.txt", "".join(f"a{i} x{i}\n\n" for i in range(40)), "32 different labels for 32 words"),
        ("a.txt", "a N\nb V\n\n" * 9, "no test sentence is left"),
        (
            "a.jsonl",
            {"text": "abc", "spans": [[0, 9, "x"]]},
            "a.jsonl:1: span [0, 9, 'x'] is outside",
        ),
        (
            "a.jsonl",
            {"text": "abc", "spans": [[-1, 2, "x"]]},
            "a.jsonl:1: span [-1, 2, 'x'] is out",
        ),
        (
            "a.jsonl",
            {"text": "abc", "spans": [[1, 1, "x"]]},
            "a.jsonl:1: span [1, 1, 'x'] is empty",
        ),
        ("a.jsonl", {"text": "abc", "spans": [[0, 1, 2]]}, "a.jsonl:1: span [0, 1, 2] in column"),
        (
            "a.jsonl",
            {"text": "abcd", "spans": [[3, 1, "x"]]},
            "a.jsonl:1: span [3, 1, 'x'] in column 'spans' ends before it starts",
        ),
        (
            "a.jsonl",
            {"text": "abc", "spans": [[0, 2, "x"], [1, 3, "y"]]},
            "a.jsonl:1: spans [0, 2, 'x'] and [1, 3, 'y'] overlap",
        ),
        (
            "a.jsonl",
            {"body_": "abc", "spans": [[0, 1, "x"]]},
            "spans in 'spans', but no text column",
        ),
        (
            "a.jsonl",
            {"tokens": ["a", "b"], "tags": ["N"]},
            "a.jsonl:1: 2 words in 'tokens' but 1 labels in 'tags'",
        ),
        ("a.jsonl", {"tokens": ["a"]}, "words in 'tokens', but no list of labels for them"),
        (
            "a.jsonl",
            {"tokens": ["a", ""], "tags": ["N", "V"]},
            "a.jsonl:1: word '' in column 'tokens', with label 'V'",
        ),
        ("a.jsonl", {"tokens": ["\ud800"], "tags": ["N"]}, "a.jsonl:1: a word holds half a surr"),
    ],
)
def test_bad_input(tmp_path: Path, name: str, text: str | dict, expected: str) -> None:
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text) + "\n")
    assert expected in refused(path)


def test_more_bad_input(tmp_path: Path) -> None:
    path = conllu(tmp_path / "a.conllu")
    path.write_text(path.read_text() + "1\tx\ty\n")
    assert "a.conllu:133: 3 columns found" in refused(path)
    path.write_text(path.read_text().replace("1\tx\ty\n", "x" + "\t_" * 9 + "\n"))
    assert "a.conllu:133: 10 columns found" in refused(path)
    rows = tmp_path / "b.jsonl"
    rows.write_text('{"tokens": ["a"], "tags": ["N"]}\n')
    assert "no column 'ner'; it has 'tokens', 'tags'" in refused(f"{rows}:ner")
    (tmp_path / "c" / "pos").mkdir(parents=True)
    assert "a folder of classes has none" in refused(f"{tmp_path / 'c'}:pos")


def test_a_table_with_blank_lines_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\n" + "".join(f"w{i}\tc{i % 2}\n\n" for i in range(20)))
    (task,) = read_tasks([path])
    assert isinstance(task, Task)
    path.write_text("w\tk\n" + "".join(f"w{i}\tc{i % 2}\n" for i in range(20)))
    assert "no text column found" in refused(path)


# ---------------------------------------------------------------------------- real data


def lines_of(path: Path) -> list[str]:
    return lzma.open(path, "rt", encoding="utf-8").read().split("\n")


@pytest.mark.slow
def test_real_conllu(real_data: Path) -> None:
    path = real_data / "tokens" / "ewt.train.conllu.xz"
    upos, deprel = read_tasks([path, f"{path}:deprel"])
    assert isinstance(upos, TokenTask)
    assert isinstance(deprel, TokenTask)
    assert (upos.name, deprel.name) == ("ewt", "ewt-deprel")
    assert (len(upos.train), len(upos.classes)) == (4064, 17)
    assert len(upos.test) + 58 == 2077
    assert upos.notes == ["58 test sentences dropped: also in the training part"]
    lines = lines_of(path)
    count = Counter(line.split("\t")[3] for line in lines if line.split("\t")[0].isdecimal())
    found = Counter(label for sentence in upos.train for label in sentence.labels)
    assert {upos.classes[label]: times for label, times in found.items()} == count
    texts = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
    assert [sentence.text for sentence in upos.train] == [text.strip() for text in texts]
    forms = [line.split("\t")[1] for line in lines if line.split("\t")[0].isdecimal()]
    cut = [s.text[start:end] for s in upos.train for start, end in s.words]
    assert sum(form != word for form, word in zip(forms, cut, strict=True)) == 0
    assert labelled(deprel, deprel.train[1])[:8] == [
        ("Hey", "discourse"),
        ("there", "advmod"),
        (",", "punct"),
        ("I", "nsubj"),
        ("'m", "aux"),
        ("trying", "root"),
        ("to", "mark"),
        ("find", "xcomp"),
    ]


@pytest.mark.slow
def test_real_columns_and_spans(real_data: Path) -> None:
    path = real_data / "tokens" / "conll2000.train.txt.xz"
    chunks = only(path)
    assert (chunks.name, chunks.metric, len(chunks.classes)) == ("conll2000", "span_f1", 22)
    assert (len(chunks.train), len(chunks.test) + 15) == (8936, 2012)
    assert sum(len(s.words) for s in chunks.train) == sum(map(bool, lines_of(path))) == 211727
    path = real_data / "tokens" / "snips_slots.train.jsonl.xz"
    slots = only(path)
    assert (slots.name, slots.metric) == ("snips_slots", "span_f1")
    assert (len(slots.train), len(slots.test) + 2) == (13784, 700)
    spans = [json.loads(line)["spans"] for line in lines_of(path) if line]
    begun = [slots.classes[label][0] == "B" for s in slots.train for label in s.labels]
    assert sum(begun) == sum(map(len, spans))


# ---------------------------------------------------------------------------- roles


def roles_in(source: str) -> list[tuple[str, str]]:
    starts = [0, *accumulate(len(line) + 1 for line in source.split("\n"))]
    return [(source[a:b], role) for (a, b), role in sorted(name_roles(source, starts).items())]


def test_roles_of_names() -> None:
    source = """\
import os.path as p, sys
from . import x
from ..a.b import (c as d,
    e)
@f.g
async  def h(i: j, *k, l=m, **n) -> o:
    q, r.s = t(u=v)(w.y(z))
    é = "ü"; A.B = ~C[D]
    del E, F.G
    with H as I: print(f"{J}")
    try: pass
    except (K, L) as M: raise
class N(O, metaclass=P): pass
"""
    expected = (
        "os import,path import,p import,sys import,x import,a import,b import,c import,d import,"
        "e import,f load,g attribute,h definition,i parameter,j load,k parameter,l parameter,"
        "m load,n parameter,o load,q store,r load,s attribute,t call,u keyword argument,v load,"
        "w load,y call,z load,é store,A load,B attribute,C load,D load,F load,H load,I store,"
        "print call,K load,L load,M store,N definition,O load,metaclass keyword argument,P load"
    )
    assert [f"{name} {role}" for name, role in roles_in(source)] == expected.split(",")


@pytest.fixture(scope="module")
def roles() -> TokenTask:
    return stdlib_roles()


def test_embedded_roles(roles: TokenTask) -> None:
    task = roles
    assert (task.name, task.metric, task.classes) == ("stdlib-roles", "accuracy", list(ROLES))
    assert (len(task.train), len(task.test)) == (1200, 600)
    assert task == stdlib_roles()
    sentences = task.train + task.test
    assert len({sentence.text for sentence in sentences}) == 1800
    assert all(60 <= len(sentence.text) <= 200 for sentence in sentences)
    count = Counter(label for sentence in task.train for label in sentence.labels)
    assert min(count.values()) > 100
    assert set(count) == set(range(len(ROLES)))
    for sentence in sentences:
        assert len(sentence.words) == len(sentence.labels) >= 3
        assert all(first[1] < second[0] for first, second in pairwise(sentence.words))


def test_embedded_roles_are_of_different_files_and_of_names(roles: TokenTask) -> None:
    homes: list[set[str]] = [set(), set()]
    sources = {path.name: read_code(path) for path in source_files(library())[::9]}
    for part, sentences in zip(homes, (roles.train, roles.test), strict=True):
        for sentence in sentences:
            found = [name for name, source in sources.items() if sentence.text in source]
            part.update(found if len(found) == 1 else [])
    assert all(homes)
    assert not homes[0] & homes[1]
    for source in list(sources.values())[:8]:
        starts = [0, *accumulate(len(line) + 1 for line in source.split("\n"))]
        names = {
            (starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1])
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.NAME
        }
        assert name_roles(source, starts).keys() <= names


def test_roles_need_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(UserError, match="give a corpus of your own"):
        stdlib_roles()
    (tmp_path / "os.py").write_text("import sys\n")
    with pytest.raises(UserError, match="too few sources for a task"):
        stdlib_roles()
