"""Labelled texts: a table, a pair of tables or a folder of classes becomes a `Task`.

A test part beside the training part is used unchanged; otherwise a fifth of each class is held
out. The same text is never on both sides. Labels are classes, or numbers to be foretold.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from lookaround.data import files, text_columns
from lookaround.data.corpus import hash_key
from lookaround.data.files import Reading
from lookaround.data.labelled import Task
from lookaround.data.labels import (
    NONE,
    NOTHING,
    NUMBER,
    alike,
    doubtful_classes,
    labels_in,
    rank,
    require_same_start,
    spellings,
    truths,
)
from lookaround.data.locate import children
from lookaround.data.tables import Table
from lookaround.data.tagged import counted
from lookaround.data.turns import TEXT_NAMES
from lookaround.support.errors import UserError
from lookaround.support.text import listed, one_line

PAIRS = (
    ("text", "text_b"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("sentence", "sentence_b"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("title", "description"),
)
SINGLES = tuple(
    dict.fromkeys(
        (
            "text",
            "sentence",
            "sentence1",
            "premise",
            "question",
            *TEXT_NAMES,
            "title",
            "description",
        )
    )
)
LABELS = (
    "label",
    "labels",
    "class",
    "category",
    "intent",
    "target",
    "gold_label",
    "sentiment",
    "topic",
    "rating",
    "score",
    "stars",
    "quality",
    "class index",
    "class_index",
)
# folders of texts without labels beside folders of classes, as in aclImdb
UNLABELLED = ("unsup", "unlabeled", "unlabelled")
HELD_OUT = 0.2
OVERLAP = 0.05
_FRACTION = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")
_COMMA = re.compile(r"[-+]?[0-9]*,[0-9]+")
Label = TypeVar("Label", str, float)


@dataclass(frozen=True)
class TextPart:
    """The texts of one table or folder.

    columns: those that were read (texts, then label); none of a folder.
    where: "file:line" of each text, for messages.
    unlabelled: why none of its labels is one ("": they are).
    names: of labels that are numbers, where a dataset has them.
    """

    source: str
    texts: list[str]
    labels: list[str]
    notes: list[str]
    columns: list[str] = field(default_factory=list)
    where: Callable[[int], str] = str
    unlabelled: str = ""
    names: Sequence[str] = ()

    def without(self, label: str) -> TextPart:
        """The same without the texts of one label."""
        kept = [index for index, own in enumerate(self.labels) if own != label]
        return replace(
            self,
            texts=[self.texts[index] for index in kept],
            labels=[self.labels[index] for index in kept],
            where=lambda index: self.where(kept[index]),
        )

    def spelled_as(self, other: TextPart) -> TextPart:
        """The same with labels spelled as in another part: true for True, 1 for 1.0.

        Numbers are read as the names that the other part has for them.
        """
        known = set(other.labels)
        only = {key: found[0] for key, found in spellings(known).items() if len(found) == 1} | dict(
            truths(known)
        )
        names = {str(number): name for number, name in enumerate(other.names)}
        labels = [
            label
            if label in known
            else names.get(label, only.get(label, only.get(alike(label), label)))
            for label in self.labels
        ]
        changed = [(old, new) for old, new in zip(self.labels, labels, strict=True) if old != new]
        notes = list(self.notes)
        if changed:
            old, new = changed[0]
            notes += counted(
                len(changed), "label", f"of the test part spelled as in training ({old} as {new})"
            )
        return replace(self, labels=labels, notes=notes)


def text_task(
    name: str, metric: str | None, train: TextPart, test: TextPart | None, seed: int
) -> Task:
    """The task of two parts, or of one of which a fifth is held out.

    metric: "accuracy" or "matthews" of classes, "pearson" of numbers; None: as the labels are, and
        "matthews" where the name holds "cola".

    Raises UserError where too little is left to train or test on, and where the test part overlaps
    the training part.
    """
    if train.unlabelled:
        raise UserError(f"{train.source}: {train.unlabelled}; give a training part with labels")
    if metric is None:
        _check_commas(train)
    train, test = _without_none(train, test, metric)
    scores = _scores(train)
    if scores and metric not in (None, "pearson"):
        raise UserError(
            f"{train.source}: column {train.columns[-1]!r} holds scores ({scores}); give the "
            "metric 'pearson', or classes"
        )
    if scores or metric == "pearson":
        return _regression(name, train, test, seed)
    return _classification(
        name, metric or ("matthews" if "cola" in name.lower() else "accuracy"), train, test, seed
    )


def _without_none(
    train: TextPart, test: TextPart | None, metric: str | None
) -> tuple[TextPart, TextPart | None]:
    """The parts without -1 beside the classes 0 .. k (k >= 2), which `datasets` has for none.

    Other labels that may stand for none are told.
    """
    labels = {*train.labels, *(test.labels if test else ())}
    others = labels - {NONE}
    if metric == "pearson":
        return train, test
    whole = others and all(map(str.isdecimal, others))
    if (
        NONE in labels
        and whole
        and {*map(int, others)} == {*range(len(others))}
        and len(others) > 2
    ):
        return _left_out(train), None if test is None else _left_out(test)
    doubtful = sorted(
        label for label in labels if label == NONE or label.strip().casefold() in NOTHING
    )
    if doubtful and (NONE not in doubtful or len(labels) < 20):
        train = replace(
            train,
            notes=[
                *train.notes,
                f"the label {doubtful[0]} is taken as a class; --no-label {doubtful[0]} leaves it "
                "out",
            ],
        )
    return train, test


def _left_out(part: TextPart) -> TextPart:
    told = counted(
        part.labels.count(NONE), "text", f"of {_short(part)} left out: the label -1 is none"
    )
    return replace(part.without(NONE), notes=[*part.notes, *told])


def _short(part: TextPart) -> str:
    return Path(part.source).name


def _scores(part: TextPart) -> str:
    """How many different numbers the labels are where they are too many for classes, else ""."""
    values = set(part.labels)
    most = min(20, len(part.labels) // 2)
    fractions = {label for label in values if _FRACTION.fullmatch(label)}
    if len(fractions) > most:
        return f"{len(fractions)} different fractions such as {min(fractions)}"
    whole = {label for label in values if re.fullmatch(r"-?[0-9]{1,18}", label)}
    if len(whole) == len(values) > max(20, len(part.labels) // 2):
        return f"{len(whole)} different numbers such as {min(whole)}"
    return ""


def _check_commas(part: TextPart) -> None:
    """Raises UserError for many different numbers with a decimal comma."""
    comma = {label for label in part.labels if _COMMA.fullmatch(label)}
    if len(comma) > min(20, len(part.labels) // 2):
        raise UserError(
            f"{part.source}: column {part.columns[-1]!r} holds {len(comma)} different numbers with "
            f"a comma such as {min(comma)!r}; write a decimal point, or give the metric 'accuracy' "
            "if they are classes"
        )


def _regression(name: str, train: TextPart, test: TextPart | None, seed: int) -> Task:
    notes = [*train.notes, *(test.notes if test else [])]
    rows = list(zip(train.texts, _numbers(train), strict=True))
    if test is None:
        rows, test_rows = _hold_out(rows, seed, lambda _: "")
        source = train.source
    else:
        test_rows, source = list(zip(test.texts, _numbers(test), strict=True)), test.source
    test_rows = _without_overlap(rows, test_rows, source, notes)
    for which, part in (("training", rows), ("test", test_rows)):
        values = {number for _, number in part}
        if len(values) < 2:
            raise UserError(
                f"{source if which == 'test' else train.source}: {len(values)} different "
                f"number{'s' * (len(values) != 1)} in the {which} part; a correlation needs at "
                "least 2"
            )
    labels = [number for _, number in rows]
    notes.append(
        f"labels are numbers from {min(labels):g} to {max(labels):g}, not classes: scored by "
        "Pearson's correlation"
    )
    return Task(
        name=name,
        metric="pearson",
        classes=[],
        train_inputs=[text for text, _ in rows],
        train_labels=labels,
        test_inputs=[text for text, _ in test_rows],
        test_labels=[number for _, number in test_rows],
        notes=notes,
        columns=train.columns,
    )


def _numbers(part: TextPart) -> list[float]:
    numbers = []
    for row, label in enumerate(part.labels):
        # float() takes "1_0", "nan" and the digits of other scripts too
        number = float(label) if NUMBER.fullmatch(label) else math.nan
        if not math.isfinite(number):
            comma = "with a decimal point, " if _COMMA.fullmatch(label) else ""
            raise UserError(
                f"{part.where(row)}: label {one_line(label, 60)!r} is no number; give a "
                f"finite one, {comma}as the other labels are"
            )
        numbers.append(number)
    return numbers


def _classification(
    name: str, metric: str, train: TextPart, test: TextPart | None, seed: int
) -> Task:
    notes = [*train.notes, *(test.notes if test else [])]
    train_rows = list(zip(train.texts, train.labels, strict=True))
    if test is None:
        train_rows, test_rows = _hold_out(train_rows, seed, str)
        source = train.source
    else:
        test = test.spelled_as(train)
        notes = [*train.notes, *test.notes]
        test_rows = list(zip(test.texts, test.labels, strict=True))
        source = test.source
        known_labels = set(train.labels)
        require_same_start(known_labels, set(test.labels), source)
        unknown = Counter(label for _, label in test_rows if label not in known_labels)
        if unknown:
            test_rows = [row for row in test_rows if row[1] not in unknown]
            notes.append(
                f"{unknown.total()} test text{'s' * (unknown.total() != 1)} dropped: not in the "
                f"training part {listed(sorted(unknown))}"
            )
    count = Counter(label for _, label in train_rows)
    few = {*train.labels} - {label for label, times in count.items() if times > 1}
    rare = sorted(few, key=rank)
    notes += doubtful_classes(count)
    if rare:
        train_rows = [row for row in train_rows if row[1] not in few]
        test_rows = [row for row in test_rows if row[1] not in few]
        notes.append(
            f"class{'es' * (len(rare) != 1)} left out for want of 2 different texts to train on: "
            f"{listed(rare)}"
        )
    classes = sorted({label for _, label in train_rows}, key=rank)
    if len(classes) < 2:
        raise UserError(
            f"{train.source}: {len(classes)} usable class{'es' * (len(classes) != 1)} found "
            f"({listed(classes) or 'none'}); a task needs at least 2, each with 2 or more "
            "texts to train on" + "".join(f"; {note}" for note in notes)
        )
    test_rows = _without_overlap(train_rows, test_rows, source, notes)
    if not test_rows:
        raise UserError(
            f"{source}: no test text is left; the test part needs texts of the classes "
            f"{listed(classes)}"
        )
    if len(classes) > 2 and all(not rank(label)[0] for label in classes):
        notes.append(
            f"labels are {len(classes)} whole numbers taken as classes; the metric 'pearson' takes "
            "them as numbers"
        )
    if test is not None:
        there = {label for _, label in test_rows}
        absent = Counter(label for _, label in train_rows if label not in there)
        if absent:
            notes.append(
                f"no test text is of class {listed(sorted(absent, key=rank))}, which "
                f"{absent.total():,} training texts are of"
            )
    index = {label: position for position, label in enumerate(classes)}
    return Task(
        name=name,
        metric=metric,
        classes=classes,
        train_inputs=[text for text, _ in train_rows],
        train_labels=[index[label] for _, label in train_rows],
        test_inputs=[text for text, _ in test_rows],
        test_labels=[index[label] for _, label in test_rows],
        notes=notes,
        columns=train.columns,
    )


def _without_overlap(
    train_rows: list[tuple[str, Label]],
    test_rows: list[tuple[str, Label]],
    source: str,
    notes: list[str],
) -> list[tuple[str, Label]]:
    known = {text for text, _ in train_rows}
    shared = [text for text, _ in test_rows if text in known]
    if len(shared) > OVERLAP * len(test_rows):
        raise UserError(
            f"{source}: the test split overlaps the training part: {len(shared)} of "
            f"{len(test_rows)} texts are in both, such as {one_line(shared[0], 60)!r}; "
            "remove them from one side"
        )
    if shared:
        notes.append(
            f"{len(shared)} test text{'s' * (len(shared) != 1)} dropped: also in the training part"
        )
    return [row for row in test_rows if row[0] not in known]


def _hold_out(
    rows: list[tuple[str, Label]], seed: int, group: Callable[[Label], str]
) -> tuple[list[tuple[str, Label]], list[tuple[str, Label]]]:
    """Holds out a fifth of each group, at least one text; equal texts stay on one side."""
    first: dict[str, str] = {}
    for text, label in rows:
        first.setdefault(text, group(label))
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for text, key in first.items():
        groups[key].append(text)
    held: set[str] = set()
    for texts in groups.values():
        texts.sort(key=lambda text: hash_key(seed, text))
        if len(texts) > 1:
            held.update(texts[: max(1, round(HELD_OUT * len(texts)))])
    return [row for row in rows if row[0] not in held], [row for row in rows if row[0] in held]


def read_texts(
    table: Table,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    *,
    text: str | None = None,
    no_label: Sequence[str] = (),
    names: Sequence[str] = (),
) -> TextPart:
    """The texts and labels of a table.

    columns: those to read, texts, then label; None: `text` and `label` where they are named, else
        usual names.
    no_label: labels that stand for none, "" for a missing one: such rows are left out.
    names: of labels that are numbers, where the table has none.

    Raises UserError with file and line for a text without a label and for what is neither, and
    where there are no such columns.
    """
    if not table.rows:
        raise UserError(
            f"{table.source}: empty, no rows; give a table with a text and a label column"
        )
    if columns is None:
        columns = [*_text_columns(table, text), _label_column(table, label)]
    own_columns = [table.find(column) or column for column in columns]
    parts = [text_columns.column_texts(table, column) for column in own_columns[:-1]]
    # a pair with one empty side is still an example
    texts = ["\n".join(sides).strip() for sides in zip(*parts, strict=True)]
    rows = [row for row, text in enumerate(texts) if text]
    names = table.classes.get(own_columns[-1], names)
    labels = labels_in(table, own_columns[-1], rows, no_label, names)
    name = Path(table.source).name
    notes = [f"{name}: {note}" for note in table.notes]
    notes += _dropped(table.rows - len(rows), Path(table.source))
    notes += counted(labels.count(None), "text", f"of {name} left out: no label")
    asked = [label for label in no_label if label]
    if asked and None not in labels:
        notes.append(f"{name}: no row has the label {listed(asked)} (--no-label)")
    kept = [row for row, label in zip(rows, labels, strict=True) if label is not None]
    known = [label for label in labels if label is not None]
    plain = {label.strip().casefold() for label in known}
    none = ""
    if len(plain) == 1 and plain <= {NONE, *NOTHING}:
        none = f"all labels in column {own_columns[-1]!r} are {known[0]}, which is none"
    return TextPart(
        table.source,
        [texts[row] for row in kept],
        known,
        notes,
        list(columns),
        lambda index: table.where(kept[index]),
        none or ("" if known else f"no row has a label in column {own_columns[-1]!r}"),
        names,
    )


def _dropped(empty: int, path: Path) -> list[str]:
    return [f"{empty} empty text{'s' * (empty != 1)} dropped from {path.name}"] if empty else []


def _text_columns(table: Table, wanted: str | None = None) -> list[str]:
    if wanted is not None and (named := text_columns.text_columns(table, wanted)):
        return named
    for names in (*PAIRS, *((name,) for name in SINGLES)):
        columns = [column for name in names if (column := table.find(name)) is not None]
        if len(columns) == len(names):
            return columns
    raise UserError(
        f"{table.source}: no text column found; it has {listed(list(table.columns))}; name "
        "it (--text-column), or call it 'text' (and a second one 'text_b')"
    )


def _label_column(table: Table, wanted: str | None) -> str:
    for name in LABELS if wanted is None else [wanted]:
        column = table.find(name)
        if column is not None:
            return column
    there = f"it has {listed(list(table.columns))}"
    if wanted is not None:
        raise UserError(f"{table.source}: no column {one_line(wanted, 60)!r}; {there}")
    raise UserError(
        f"{table.source}: no label column found; {there}; name it (--label-column), or call it "
        "'label'"
    )


def has_texts(table: Table, label: str | None = None, text: str | None = None) -> bool:
    """Whether a table has columns of texts and of labels by their names."""
    try:
        return bool(_text_columns(table, text)) and bool(_label_column(table, label))
    except UserError:
        return False


def read_classes(folder: Path, reading: Reading | None = None) -> TextPart:
    """The texts of a folder with one sub-folder for each class, a text file for each example.

    A folder of texts without labels (aclImdb's "unsup") is left out, with a note.
    """
    texts, labels, empty, skipped = [], [], 0, 0
    unlabelled: list[str] = []
    for inner in children(folder):
        if not inner.is_dir():
            continue
        if inner.name.lower().startswith(UNLABELLED):
            unlabelled.append(inner.name)
            continue
        for path in files.find_files(inner):
            kind = files.file_kind(path)[1]
            if kind in files.TABLES.values():
                raise UserError(
                    f"{path}: a table inside a class folder, which holds one text file for each "
                    f"example; if {inner} is the task, give that folder"
                )
            if kind is None and path.suffix:  # a name without a dot is a text, as in 20 newsgroups
                skipped += 1
                continue
            text = files.read_text(path, reading).strip()
            empty += not text
            if text:
                texts.append(text)
                labels.append(inner.name)
    if len(set(labels)) < 2:
        raise UserError(
            f"{folder}: {len(set(labels))} sub-folders with text files found; a task needs one for "
            "each of 2 or more classes, or train and test tables"
        )
    notes = (
        [f"{skipped} files of {folder.name} skipped: not text by their names"] if skipped else []
    )
    notes += [f"folder {name!r} of {folder.name} left out: no class" for name in unlabelled]
    notes += _dropped(empty, folder)
    return TextPart(str(folder), texts, labels, notes, where=lambda _: str(folder))
