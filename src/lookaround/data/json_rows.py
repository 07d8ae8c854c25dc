"""Rows of JSON: one value a line, one list, or one object with the rows somewhere within it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lookaround.data.turns import CHAT_NAMES, TEXT_NAMES
from lookaround.support.errors import UserError
from lookaround.support.text import listed, one_line

# fields of one object that hold its rows
ROWS = (
    *("train", "data", "rows", "examples", "items", "records", "documents", "entries", "results"),
    *("common_examples", "instances", "samples"),
)
_BLANK = " \t\r\n,"

Row = tuple[int, int, dict[str, Any]]  # (line, characters, object)


@dataclass
class JsonRows:
    """The rows of a file.

    lines: whether they have lines, and not just numbers.
    notes: what was chosen to read it.
    """

    rows: Iterator[Row]
    lines: bool = True
    notes: list[str] = field(default_factory=list)


def json_rows(path: Path, kind: str, lines: Iterator[tuple[int, str]]) -> JsonRows | None:
    """The rows of a .jsonl or .json file; None where it is empty.

    Raises UserError with file and line, or the number of the row, for broken JSON and for a value
    that is no row.
    """
    filled = ((number, line) for number, line in lines if line.strip())
    notes: list[str] = []
    skipped = 0
    first = next(filled, None)
    while first is not None and first[1].lstrip().startswith(("#", "//")):
        first, skipped = next(filled, None), skipped + 1
    if skipped:
        notes.append(f"{skipped} lines of comments above the rows left out")
    if first is None:
        return None
    second = next(filled, None)
    rest = itertools.chain([first], [] if second is None else [second], filled)
    try:
        value = json.loads(first[1])
    except (ValueError, RecursionError) as error:
        glued = getattr(error, "msg", "") == "Extra data"
        if first[1].lstrip().startswith(("[", "{")) and (second is not None or glued):
            return JsonRows(_whole(path, rest, kind, notes), False, notes)
        return JsonRows(_by_line(path, rest), True, notes)
    alone = second is None
    if isinstance(value, list) and (alone or not second[1].lstrip().startswith("[")):  # type: ignore[index]
        return JsonRows(_whole(path, rest, kind, notes), False, notes)
    if isinstance(value, dict) and alone and _within(value, kind) is not None:
        return JsonRows(_whole(path, rest, kind, notes), False, notes)
    return JsonRows(_by_line(path, rest), True, notes)


def _by_line(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[Row]:
    for number, line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            hint = (
                "write one JSON value a line"
                if number > 1
                else "write one JSON value a line, or one list of objects"
            )
            raise UserError(
                f"{path}:{number}:{error.colno}: broken JSON ({error.msg}): "
                f"{one_line(line, 60)!r}; {hint}"
            ) from None
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}:{number}: JSON that cannot be read ({one_line(error)}); simplify the value"
            ) from None
        if isinstance(row, list) and row and all(isinstance(turn, dict | list) for turn in row):
            row = {"messages": row}
        yield number, len(line), _object(row, f"{path}:{number}", "each line")


def _whole(
    path: Path, lines: Iterator[tuple[int, str]], kind: str, notes: list[str]
) -> Iterator[Row]:
    """The rows of a file that is one value, or several that go over lines."""
    numbered = list(lines)
    text = "\n".join(line for _, line in numbered)
    decoder, place = json.JSONDecoder(), 0
    values = []
    try:
        while True:
            while place < len(text) and text[place] in _BLANK:
                place += 1
            if place == len(text):
                break
            value, place = decoder.raw_decode(text, place)
            values.append(value)
    except json.JSONDecodeError as error:
        number = numbered[error.lineno - 1][0]
        raise UserError(
            f"{path}:{number}:{error.colno}: broken JSON ({error.msg}): "
            f"{one_line(numbered[error.lineno - 1][1], 60)!r}; write one list of objects, or one "
            "object a line"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}:{numbered[0][0]}: JSON that cannot be read ({one_line(error)}); simplify the "
            "values"
        ) from None
    rows: list[Any] = values
    if len(values) == 1:
        found = _within(values[0], kind)
        if found is not None:
            rows, note = found
            notes += [note] if note else []
    size = len(text) // max(1, len(rows))
    for number, row in enumerate(rows, 1):
        yield number, size, _object(row, f"{path}, row {number}", "each item of the list")


def _within(value: Any, kind: str) -> tuple[list[Any], str] | None:
    """(rows, note) of a value that holds them all; None: it is a row itself."""
    if isinstance(value, list):
        return value, ""
    if not isinstance(value, dict) or not value:
        return None
    lists = {
        name: inner
        for name, inner in value.items()
        if isinstance(inner, list) and inner and all(isinstance(row, dict) for row in inner)
    }
    named = next((name for name in ROWS if name in lists), None)
    if named is not None:
        left = [name for name in lists if name != named]
        return lists[named], f"rows of {named!r}" + (f"; {listed(left)} left out" if left else "")
    if kind != "json":
        return None
    columns, data = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(data, list):  # as pandas splits a frame
        fitting = all(isinstance(row, list) and len(row) == len(columns) for row in data)
        if data and fitting and all(isinstance(name, str) for name in columns):
            return [dict(zip(columns, row, strict=True)) for row in data], "rows of 'data'"
    sizes = {len(inner) if isinstance(inner, list) else -1 for inner in value.values()}
    if len(sizes) == 1 and min(sizes) > 0 and (len(value) > 1 or {*value} & {*TEXT_NAMES}):
        scalars = not any(isinstance(x, dict | list) for inner in value.values() for x in inner)
        if scalars:
            names = list(value)
            rows = [dict(zip(names, row, strict=True)) for row in zip(*value.values(), strict=True)]
            return rows, "rows of lists, one for each column"
    if len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):
        return _within(inner, kind)
    if len(lists) == 1 and not {*lists} & {*CHAT_NAMES}:
        others = [inner for name, inner in value.items() if name not in lists]
        if not any(isinstance(inner, dict | list) and inner for inner in others):
            name, rows = next(iter(lists.items()))
            return rows, f"rows of {name!r}"
    objects = list(value.values())
    if len(objects) > 1 and all(isinstance(inner, dict) for inner in objects):
        shared = set.intersection(*({*inner} for inner in objects))
        if shared:
            return objects, "rows by their names"
    return None


def _object(row: Any, where: str, each: str) -> dict[str, Any]:
    if isinstance(row, str):
        return {"text": row}
    if not isinstance(row, dict):
        raise UserError(
            f"{where}: a JSON {type(row).__name__} found ({one_line(row, 60)}); {each} must hold "
            "one object or one string"
        )
    return row
