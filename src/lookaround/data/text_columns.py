"""The column of a table that holds its text, and the texts in it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lookaround.data.delimited import are_questions
from lookaround.data.files import Reading, file_kind
from lookaround.data.table_files import opened_parquet, parquet_blocks, read_blocks
from lookaround.data.tables import LOOKED_AT, Table, within
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
from lookaround.support.text import listed, one_line


def text_columns(table: Table, wanted: str) -> list[str] | None:
    """The columns that `wanted` names: one, or several with commas between them; None: not all."""
    whole = table.find(wanted) or table.find(wanted.strip())
    if whole is not None:
        return [whole]
    found = [table.find(name.strip()) for name in wanted.split(",") if name.strip()]
    return [name for name in found if name is not None] if found and all(found) else None


@dataclass(frozen=True)
class _Held:
    """What the first rows of a column hold: characters of text; whether letters, and words."""

    characters: int = 0
    letters: bool = False
    words: bool = False


def text_column(table: Table, wanted: str | None = None) -> str:
    """The column with the text: `wanted`, a usual name, or the one with the most characters.

    One of a usual name is passed over where it is empty and another is not. Columns of instructions
    and answers are joined. The largest counts only if it holds at least twice as many characters as
    any other; where no column holds words, fields of objects are looked at too (first rows; ours).
    Raises UserError with the columns there are.
    """
    if wanted is not None:
        return _named(table, wanted)
    held = {name: _held(table, name) for name in table.columns if name not in table.not_text}
    usual = _usual({name.lower(): name for name in held}, held)
    if usual is not None:
        return usual
    for record in RECORDS:
        columns = [found for name in record if (found := table.find(name)) in held]
        if len(columns) == len(record):
            return ",".join(columns)
    _require_names(table, list(held))
    if not any(each.words for each in held.values()):
        inner = {name: _held(table, name) for name in table.fields() if "." in name}
        last = {name.rpartition(".")[2].lower(): name for name in reversed(inner)}
        if (usual := _usual(last, inner)) is not None and inner[usual].characters:
            return usual
        held |= inner
    return _largest(table, held)


def _named(table: Table, wanted: str) -> str:
    columns = text_columns(table, wanted)
    if columns is not None:
        return ",".join(columns)
    fields = [name for name in table.fields() if "." in name]
    inner = f", and within them {listed(fields)}" if fields else ""
    raise UserError(
        f"{table.source}: no column {one_line(wanted, 60)!r}; it has "
        f"{listed(list(table.columns))}{inner}"
    )


def _usual(by_name: Mapping[str, str], held: Mapping[str, _Held]) -> str | None:
    """The first column of a usual name that holds text; any of them where no column holds some."""
    there = [by_name[name] for name in (*TEXT_NAMES, *CHAT_NAMES) if name in by_name]
    filled = [name for name in there if held[name].characters]
    if not filled and any(each.characters for each in held.values()):
        return None
    return next(iter([*filled, *there]), None)


def _require_names(table: Table, names: list[str]) -> None:
    """Raises UserError where the first row of a file holds data and no names."""
    if table.lines is None or are_questions(names):
        return
    data = next(
        (name for name in names if re.fullmatch(r"[-+.\d]+", name) or len(name.split()) > 3), None
    )
    if data is not None:
        raise UserError(
            f"{table.source}: the first row must name the columns, the one with the text 'text'; "
            f"found {one_line(data, 60)!r} (for a file without such a row give the column's number "
            "as --text-column)"
        )


def _largest(table: Table, held: Mapping[str, _Held]) -> str:
    # numbers are no text, and an identifier without a space is none beside a column of words
    words = any(each.words for each in held.values())
    sizes = {
        name: each.characters * (each.words if words else each.letters)
        for name, each in held.items()
    }
    ranked = sorted(sizes, key=lambda name: -sizes[name])
    there = listed(list(table.columns))
    if not ranked or not sizes[ranked[0]]:
        raise UserError(
            f"{table.source}: no column holds text; it has {there}, and one must be called 'text', "
            "or be named (--text-column)"
        )
    if len(ranked) > 1 and sizes[ranked[0]] < 2 * sizes[ranked[1]]:
        raise UserError(
            f"{table.source}: {ranked[0]!r} and {ranked[1]!r} could both be the text; name the "
            f"text column (--text-column), one of {listed(list(held))}"
        )
    return ranked[0]


def _held(table: Table, name: str) -> _Held:
    try:
        values = table.values(name)[:LOOKED_AT]
    except UserError:  # bytes that are no text
        return _Held()
    try:
        texts = flatten(values)
    except NotText:
        # the row at fault is told of a column that is meant
        texts = [v for v in values if isinstance(v, str)] if name.lower() in TEXT_NAMES else []
    letters = any(char.isalpha() for text in texts[:50] for char in text[:1000])
    spaced = sum(" " in text.strip() for text in texts) > len(texts) / 10
    return _Held(sum(map(len, texts)), letters, letters and spaced)


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
    """The texts of a table, a block at a time, and how they were found.

    column: the one they stand in, or several with commas between them; None: there are no rows.
    asked: whether that is what was asked for.
    notes: what was chosen to read the file.
    """

    column: str | None
    asked: bool
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
        return TextsOfTable(None, False, [], iter(()))
    there = wanted is not None and (required or text_columns(first, wanted) is not None)
    column = text_column(first, wanted if there else None)
    turns: dict[str, Turns] = {}
    for name in text_columns(first, column) or ():
        with suppress(NotText):  # told with its row below
            turns[name] = turns_of(first.values(name))
    every = itertools.chain([first], blocks)
    texts = (
        _block_texts(block, turns) if turns else column_texts(block, column) for block in every
    )
    return TextsOfTable(column, there, list(first.notes), texts)


def _block_texts(block: Table, columns: Mapping[str, Turns]) -> list[str]:
    """The texts of the columns that a block has; a row without any of them is empty."""
    parts = [
        column_texts(block, name, turns=turns)
        for name, turns in columns.items()
        if block.find(name) is not None
    ]
    if len(parts) == 1:
        return parts[0]
    joined = ["\n".join(filter(None, sides)) for sides in zip(*parts, strict=True)]
    return joined or [""] * block.rows


def texts_of_file(
    path: Path,
    wanted: str | None,
    required: bool = True,
    reading: Reading | None = None,
    *,
    kind: str | None = None,
) -> TextsOfTable:
    """The texts of a table on disk, chosen as by `texts_of_blocks`.

    kind: its format, where the name does not say so.
    """
    if (kind or file_kind(path)[1]) != "parquet":
        return texts_of_blocks(read_blocks(path, reading, kind=kind), wanted, required)
    with opened_parquet(path, reading) as file:
        if file is None:
            return TextsOfTable(None, False, [], iter(()))
        first = next(parquet_blocks(file, path), None)
        found = texts_of_blocks(iter([] if first is None else [first]), wanted, required)
        if first is None or found.column is None:
            return found
        # the other columns are read of the first rows alone
        tops = [
            max((top for top in first.columns if within(name, top)), key=len)
            for name in text_columns(first, found.column) or ()
        ]
    again = texts_of_blocks(read_blocks(path, reading, tops), found.column)
    return TextsOfTable(found.column, found.asked, again.notes, again.texts)
