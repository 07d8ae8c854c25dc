"""Tasks from files: which kind a path holds, what it is called, and how it is scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TypeVar

from lookaround.data import conll, files, table_files, text_columns
from lookaround.data.files import Reading
from lookaround.data.labelled import AnyTask, task_name
from lookaround.data.locate import (
    TEST_STEMS,
    TRAIN_STEMS,
    Source,
    is_saved,
    locate,
    shards,
    stem,
    tables_of,
    without_part,
)
from lookaround.data.pair_tasks import is_pairs, read_pairs
from lookaround.data.table_files import is_table
from lookaround.data.tables import Table
from lookaround.data.tagged import TaggedPart
from lookaround.data.text_tasks import TextPart, has_texts, read_classes, read_texts, text_task
from lookaround.data.token_tables import has_lists, read_lists, read_spans, span_column
from lookaround.data.token_tasks import token_task
from lookaround.support.errors import UserError
from lookaround.support.text import listed, one_line

Part = TypeVar("Part", TextPart, TaggedPart)
METRICS = {
    "texts": ("accuracy", "matthews", "pearson"),
    "words": ("accuracy", "span_f1"),
    "pairs": ("accuracy",),
}
GENERIC_STEMS = ("all", *TRAIN_STEMS, "data", "dataset", "main", *TEST_STEMS)


@dataclass(frozen=True)
class _Opened:
    """A part of a task: a table, text (in CoNLL columns, or unknown), or a folder of classes."""

    path: Path
    table: Table | None = None
    text: str = ""
    layout: conll.Layout | None = None
    reading: Reading = field(default_factory=Reading)


class _Kind(Enum):
    """What a part is read as; the value is what its labels are of."""

    FOLDERS = ("texts", "one folder a class")
    TEXTS = ("texts", "a table")
    CONLL = ("words", "columns")
    LISTS = ("words", "lists")
    SPANS = ("words", "spans")
    PAIRS = ("pairs", "a table")


def read_tasks(
    paths: Sequence[str | Path],
    *,
    metrics: Mapping[str, str] | None = None,
    seed: int = 0,
    text_column: str | None = None,
    text_required: bool = True,
    label_column: str | None = None,
    no_label: Sequence[str] = (),
    reading: Reading | None = None,
) -> list[AnyTask]:
    """Reads one task from each path: labelled texts, labelled words, or minimal pairs.

    paths: a file or a folder; PATH:COLUMN names the column of its labels.
    text_column, label_column: those of tables that have them, fields (a.b) too; texts of several
        columns, with commas between them, are joined. One task must have them, but the text
        column only if `text_required`.
    no_label: labels that stand for none, "" for a missing one: rows of texts with them are left
        out.
    reading: the encoding.
    metrics: the metric of a task by its name: "accuracy", "matthews" or "pearson" of texts,
        "accuracy" or "span_f1" of words; without it, what the labels are made for.
    seed: chooses what is held out where no test part is given.

    Raises UserError for anything that is not a task or whose test part overlaps the training part.
    """
    if not all(str(path).strip() for path in paths):
        raise UserError("no task given (an empty name); give a table or a folder with a task in it")
    sources = [locate(path) for path in paths]
    asked = _Asked(text_column, tuple(no_label), reading or Reading())
    opened = [_open(source.train, source.column, asked) for source in sources]
    _require_somewhere(
        opened, text_column if text_required else None, "text", text_columns.text_columns
    )
    if not all(source.column for source in sources):
        _require_somewhere(opened, label_column, "label", Table.find)
    labels = [
        source.column or _there(part.table, label_column)
        for source, part in zip(sources, opened, strict=True)
    ]
    kinds = [_kind(part, label, asked) for part, label in zip(opened, labels, strict=True)]
    for source, kind in zip(sources, kinds, strict=True):
        if source.alone and kind is not _Kind.PAIRS:
            raise UserError(source.alone)
    names = _names(sources, kinds)
    metrics = {task_name(name): metric for name, metric in (metrics or {}).items()}
    for name in metrics:
        if name not in names:
            raise UserError(f"metric for task {name!r}: no such task; there are {listed(names)}")
    for name, kind in zip(names, kinds, strict=True):
        _check_metric(name, kind, metrics.get(name))
    return [
        _read(name, metrics.get(name), source, part, kind, seed, label, asked)
        for name, source, part, kind, label in zip(
            names, sources, opened, kinds, labels, strict=True
        )
    ]


@dataclass(frozen=True)
class _Asked:
    """How tables of texts are read."""

    text: str | None
    no_label: tuple[str, ...]
    reading: Reading


def _there(table: Table | None, column: str | None) -> str | None:
    """A column that a table has."""
    return column if column and table is not None and table.find(column) is not None else None


def _require_somewhere(
    opened: Sequence[_Opened], column: str | None, what: str, find: Callable[[Table, str], object]
) -> None:
    """Raises UserError where none of some tables has a column."""
    if column is None or any(
        part.table is not None and find(part.table, column) for part in opened
    ):
        return
    there = [list(part.table.columns) for part in opened if part.table is not None]
    raise UserError(
        f"data.{what}_column: no task has a column {one_line(column, 60)!r}"
        + (f"; the first has {listed(there[0])}" if there else "; none is a table")
    )


def _check_metric(name: str, kind: _Kind, metric: str | None) -> None:
    known = METRICS[kind.value[0]]
    if metric is None or metric in known:
        return
    found = (
        f"metric {metric!r} is not for {kind.value[0]}"
        if any(metric in others for others in METRICS.values())
        else f"unknown metric {metric!r}"
    )
    raise UserError(f"task {name!r}: {found}; give {' or '.join(map(repr, known))}")


def _open(path: Path, column: str | None, asked: _Asked, like: _Opened | None = None) -> _Opened:
    """Reads a part of a task; like: the training part, for the columns that it counts."""
    reading = asked.reading.of(asked.text, column)
    if like is not None:
        reading = replace(reading, columns=like.reading.columns)
    if path.is_dir():
        if is_saved(path):
            return _Opened(path, table_files.read_saved(path))
        tables = tables_of(path)
        table = table_files.read_tables(tables, reading) if tables else None
        return _Opened(path, table, reading=reading)
    if files.file_kind(path)[1] not in ("jsonl", "json", "csv", "parquet"):
        text = files.read_text(path, reading)
        layout = conll.layout(text)
        if layout is not None and not (is_table(path) and _has_header(text, column, asked.text)):
            return _Opened(path, text=text, layout=layout, reading=reading)
        begins = [line[:1] for line in text.split("\n") if line.strip()]
        if not is_table(path) or ("\t" not in text and set(begins) == {"#"}):
            return _Opened(path, text=text, reading=reading)
        reading = replace(reading, replaced=Counter(), utf8=set())  # it is read again
    return _Opened(path, table_files.read_tables(shards(path), reading), reading=reading)


def _has_header(text: str, column: str | None, texts: str | None) -> bool:
    """Whether the first row of a .tsv names columns of texts and labels."""
    names = next(line for line in text.split("\n") if line.strip()).split("\t")
    return has_texts(Table("", {name.strip(): () for name in names}, [], 0), column, texts)


def _kind(part: _Opened, column: str | None, asked: _Asked) -> _Kind:
    table = part.table
    if part.layout is not None:
        return _Kind.CONLL
    if table is None and not part.path.is_dir():
        why = conll.no_columns(part.text)
        raise UserError(
            f"{part.path}: {why}; give a word and its labels a line, and a blank line between "
            "sentences"
            if why
            else f"{part.path}: a task is a table with a text and a label column (.csv, .tsv, "
            ".jsonl, .parquet), a folder, or a word and its labels a line (CoNLL, CoNLL-U); this "
            "name ends in none of the first, and the file holds no columns"
        )
    if table is None:
        if column is not None:
            raise UserError(f"{part.path}: no column {column!r}: a folder of classes has none")
        return _Kind.FOLDERS
    if column is not None and table.rows and table.find(column) is None:
        raise UserError(
            f"{table.source}: no column {column!r}; it has {listed(list(table.columns))}"
        )
    if is_pairs(table):
        return _Kind.PAIRS
    if (
        asked.text is not None
        and text_columns.text_columns(table, asked.text)
        and column is not None
    ):
        return _Kind.SPANS if span_column(table, column) else _Kind.TEXTS
    if has_lists(table, column):
        return _Kind.LISTS
    return _Kind.SPANS if span_column(table, column) else _Kind.TEXTS


def _names(sources: Sequence[Source], kinds: Sequence[_Kind]) -> list[str]:
    short, long = [], []
    for source, kind in zip(sources, kinds, strict=True):
        path = source.path
        own = path.resolve().name if path.is_dir() else stem(path)
        generic = not path.is_dir() and own.lower() in GENERIC_STEMS
        if kind.value[0] == "words" or source.column is not None:
            own = without_part(own)
        column = "" if source.column is None else f"-{source.column}"
        prefixed = f"{path.resolve().parent.name}-{own}"
        short.append((prefixed if generic else own) + column)
        long.append(prefixed + column)
    count = Counter(short)
    names = [far if count[near] > 1 else near for near, far in zip(short, long, strict=True)]
    names = [task_name(name) for name in names]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        paths = [
            str(source.path)
            for source, name in zip(sources, names, strict=True)
            if name == twice[0]
        ]
        raise UserError(
            f"{listed(paths)}: both tasks would be called {twice[0]!r}; rename one, or give it once"
        )
    return names


def _read(
    name: str,
    metric: str | None,
    source: Source,
    part: _Opened,
    kind: _Kind,
    seed: int,
    label: str | None,
    asked: _Asked,
) -> AnyTask:
    if kind is _Kind.PAIRS:
        assert part.table is not None
        pairs = read_pairs(name, part.table, label)
        unread = [
            f"{test.name} is not read: all pairs of {part.path.name} are test pairs"
            for test in source.tests
        ]
        return replace(pairs, notes=[*unread, *pairs.notes])
    if kind.value[0] == "words":
        train = _read_words(part, kind, label)
        test, unused = _test_part(
            source,
            part,
            train.columns,
            lambda other: _read_words(other, kind, train.columns[-1], train),
            asked,
        )
        task: AnyTask = token_task(name, metric, train, test, seed)
    else:
        texts = _read_texts(part, asked, None, label)
        found, unused = _test_part(
            source,
            part,
            texts.columns,
            lambda other: _read_texts(other, asked, texts.columns, names=texts.names),
            asked,
        )
        task = text_task(name, metric, texts, found, seed)
    return replace(task, notes=[*part.reading.notes, *unused, *task.notes])


def _test_part(
    source: Source,
    part: _Opened,
    columns: Sequence[str],
    read: Callable[[_Opened], Part],
    asked: _Asked,
) -> tuple[Part | None, list[str]]:
    """The first test part that has the columns and labels, and notes on those that have not."""
    notes: list[str] = []
    for path in source.tests:
        other: _Opened = _open(path, None, asked, part)
        if part.layout is not None:
            other = replace(other, layout=part.layout)
            lacks = "" if part.layout.fits(other.text) else "the same columns"
        else:
            table = other.table
            missing = [name for name in columns if table is None or table.find(name) is None]
            lacks = f"column {listed(missing)}" if missing else ""
        if not lacks:
            found = read(other)
            if not (why := getattr(found, "unlabelled", "")):
                return found, [*notes, *other.reading.notes]
            notes.append(f"{path.name} is not used: {why}")
            continue
        notes.append(f"{path.name} is not used: it has no {lacks}".replace("no the", "not the"))
    return None, notes


def _read_texts(
    part: _Opened,
    asked: _Asked,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    names: Sequence[str] = (),
) -> TextPart:
    if part.table is None:
        return read_classes(part.path, part.reading)
    return read_texts(
        part.table, columns, label, text=asked.text, no_label=asked.no_label, names=names
    )


def _read_words(
    part: _Opened, kind: _Kind, column: str | None, train: TaggedPart | None = None
) -> TaggedPart:
    if part.layout is not None:
        return conll.read_conll(part.path, part.text, part.layout, column, train)
    assert part.table is not None
    return (read_lists if kind is _Kind.LISTS else read_spans)(part.table, column)
