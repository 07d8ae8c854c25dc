"""The column of a table that holds its text, and the texts in it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lookaround.data.files import Reading, file_kind, listed, one_line
from lookaround.data.table_files import are_questions, opened_parquet, read_blocks
from lookaround.data.tables import LOOKED_AT, Table
from lookaround.data.turns import (
    CHAT_NAMES,
    RECORDS,
    TEXT_NAMES,
    NotText,
    Turns,
    flatten,
    turns_of,
)
from lookaround.support.errors import UserError


def text_columns(table: Table, wanted: str) -> list[str] | None:
    """The columns that `wanted` names: one, or several with commas between them; None: not all."""
    whole = table.find(wanted) or table.find(wanted.strip())
    if whole is not None:
        return [whole]
    found = [table.find(name.strip()) for name in wanted.split(",") if name.strip()]
    return [name for name in found if name is not None] if found and all(found) else None


def text_column(table: Table, wanted: str | None = None) -> str:
    """The column with the text: `wanted`, a usual name, or the one with the most characters.

    One of a usual name is passed over where it is empty and another is not. The last counts only if
    it holds at least twice as many characters as any other; where no column holds text, fields of
    objects are looked at (first block; ours). Raises UserError with the columns there are.
    """
    names = [name for name in table.columns if name not in table.not_text]
    there = f"it has {listed(list(table.columns))}"
    if wanted is not None:
        columns = text_columns(table, wanted)
        if columns is None:
            fields = [name for name in table.fields() if "." in name][:12]
            inner = f", and within them {listed(fields)}" if fields else ""
            raise UserError(f"{table.source}: no column {one_line(wanted, 60)!r}; {there}{inner}")
        return ",".join(columns)
    sizes = dict.fromkeys(names, 0)
    letters, spaced = set[str](), set[str]()
    for name in names:
        _measure(table, name, sizes, letters, spaced)
    usual = [found for name in (*TEXT_NAMES, *CHAT_NAMES) if (found := table.find(name)) in sizes]
    filled = [name for name in usual if sizes[name]]
    if filled or (usual and not any(sizes.values())):
        return [*filled, *usual][0]
    for record in RECORDS:
        columns = [found for name in record if (found := table.find(name)) in sizes]
        if len(columns) == len(record):
            return ",".join(columns)
    data = None if are_questions(names) else next((name for name in names if _is_data(name)), None)
    if data is not None and table.lines is not None:
        raise UserError(
            f"{table.source}: the first row must name the columns, the one with the text 'text'; "
            f"found {one_line(data, 60)!r}"
        )
    if not spaced:
        inner = dict.fromkeys((name for name in table.fields() if "." in name), 0)
        for name in inner:
            _measure(table, name, inner, letters, spaced)
        usual = [
            name
            for wanted in (*TEXT_NAMES, *CHAT_NAMES)
            for name in inner
            if name.rpartition(".")[2].lower() == wanted and inner[name]
        ]
        if usual:
            return usual[0]
        names, sizes = [*names, *inner], sizes | inner
    # numbers are no text, and an identifier without a space is none beside a column of words
    sizes = {name: size if name in (spaced or letters) else 0 for name, size in sizes.items()}
    ranked = sorted(names, key=lambda name: -sizes[name])
    if not ranked or not sizes[ranked[0]]:
        raise UserError(
            f"{table.source}: no column holds text; {there}, and one must be called 'text', or be "
            "named (--text-column)"
        )
    if len(ranked) > 1 and sizes[ranked[0]] < 2 * sizes[ranked[1]]:
        raise UserError(
            f"{table.source}: {ranked[0]!r} and {ranked[1]!r} could both be the text; name the "
            f"text column (--text-column), one of {listed(names)}"
        )
    return ranked[0]


def _is_data(name: str) -> bool:
    """Whether what should be a column's name is a number or a sentence."""
    return bool(re.fullmatch(r"[-+.\d]+", name)) or len(name.split()) > 3


def _measure(
    table: Table, name: str, sizes: dict[str, int], letters: set[str], spaced: set[str]
) -> None:
    """Adds the characters of a column to `sizes`, and its name to those with letters, with words"""
    try:
        values = table.values(name)[:LOOKED_AT]
    except UserError:  # bytes that are no text
        return
    try:
        texts = flatten(values)
    except NotText:
        # the row at fault is told of a column that is meant
        texts = [v for v in values if isinstance(v, str)] if name.lower() in TEXT_NAMES else []
    sizes[name] = sum(map(len, texts))
    if any(char.isalpha() for text in texts[:50] for char in text[:1000]):
        letters.add(name)
        if sum(" " in text.strip() for text in texts) > len(texts) / 10:
            spaced.add(name)


def column_texts(
    table: Table, column: str, *, raw: bool = False, turns: Turns | None = None
) -> list[str]:
    r"""Return the texts of `column`, one a row, with \n line ends ("" where a row has none).

    Of several columns with commas between them the texts are joined by line ends.

    raw: whether \r\n stays, for places that are counted in it.
    turns: how conversations are read; None: by what they hold.

    Raises UserError with file and line for a value that is not text or cannot be written as UTF-8.
    """
    if table.find(column) is None and (several := text_columns(table, column)):
        parts = [column_texts(table, name, raw=raw) for name in several]
        return ["\n".join(filter(None, sides)) for sides in zip(*parts, strict=True)]
    try:
        texts = flatten(table.values(column), turns)
    except NotText as error:
        found = f"{type(error.value).__name__} {one_line(error.value, 60)}"
        raise UserError(
            f"{table.where(error.row)}: column {column!r} holds {found}, not text; name another "
            "column"
        ) from None
    for row, text in enumerate(texts):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(
                f"{table.where(row)}: column {column!r} holds half a surrogate pair at character "
                f"{error.start}; remove it"
            ) from None
    return texts if raw else [text.replace("\r\n", "\n") for text in texts]


@dataclass
class TextsOfTable:
    """The texts of a file, a block at a time, and how they were found.

    column: the one they stand in; None: there are no rows.
    notes: what was chosen to read the file.
    """

    column: str | None
    notes: list[str]
    texts: Iterator[list[str]]


def texts_of_blocks(
    blocks: Iterator[Table], wanted: str | None, required: bool = True
) -> TextsOfTable:
    """The texts of a table in blocks; column and field of turns are chosen by the first of them.

    required: whether a column that is wanted must be there.
    """
    first = next(blocks, None)
    if first is None:
        return TextsOfTable(None, [], iter(()))
    there = required or wanted is None or text_columns(first, wanted) is not None
    column = text_column(first, wanted if there else None)
    turns = {}
    for name in text_columns(first, column) or ():
        with suppress(NotText):  # told with its row below
            turns[name] = turns_of(first.values(name))
    every = itertools.chain([first], blocks)
    return TextsOfTable(column, list(first.notes), (_block_texts(block, turns) for block in every))


def _block_texts(block: Table, columns: Mapping[str, Turns]) -> list[str]:
    """The texts of the columns that a block has; a row without any of them is empty."""
    parts = [
        column_texts(block, name, turns=turns)
        for name, turns in columns.items()
        if block.find(name) is not None
    ]
    if len(parts) == 1:
        return parts[0]
    return ["\n".join(filter(None, sides)) for sides in zip(*parts, strict=True)] or [
        ""
    ] * block.rows


def texts_of_file(
    path: Path, wanted: str | None, required: bool = True, reading: Reading | None = None
) -> TextsOfTable:
    """The texts of a table on disk, chosen as by `texts_of_blocks`."""
    if file_kind(path)[1] != "parquet":
        return texts_of_blocks(read_blocks(path, reading), wanted, required)
    # the other columns are read of the first rows alone
    found = texts_of_blocks(itertools.islice(read_blocks(path), 1), wanted, required)
    if found.column is None:
        return found
    with opened_parquet(path, None) as file:
        names = file.schema_arrow.names
    first = next(read_blocks(path))
    only = [
        next(name for name in names if column == name or column.startswith(f"{name}."))
        for column in text_columns(first, found.column) or ()
    ]
    return texts_of_blocks(read_blocks(path, reading, only), found.column)
