"""A table: rows with named columns, and fields within them; errors name file and line or row."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lookaround.support.errors import UserError
from lookaround.support.text import one_line

LOOKED_AT = 5000  # rows, to find a field or a column with text


@dataclass(frozen=True)
class Table:
    """Rows with named columns.

    `source` is the file for messages; `columns` maps a name to one value a row; `lines[i]` is the
    1-based line on which row i starts, or None where rows have no lines (parquet, datasets);
    `classes` has the names of numbers, of columns that a dataset has them for; `not_text` are
    columns of a type that holds no text; `notes` tell what was chosen to read it; `first_row` is
    the number of rows in blocks before this one.
    """

    source: str
    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int] | None
    rows: int
    classes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    not_text: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    first_row: int = 0

    def where(self, row: int) -> str:
        """Return "file:line", or "file, row n" counted from 1."""
        return (
            f"{self.source}, row {self.first_row + row + 1}"
            if self.lines is None
            else f"{self.source}:{self.lines[row]}"
        )

    def find(self, name: str) -> str | None:
        """The column called `name`, exactly or else without regard to case, or a field within one.

        "data.text" is the field "text" of objects in the column "data"; None: there is neither.
        """
        column = self._column(name)
        if column is not None:
            return column
        for before, after in _halves(name):
            column = self._column(before)
            if column is not None and column not in self.not_text:
                path = _path(self.columns[column][:LOOKED_AT], after.split("."))
                if path is not None:
                    return ".".join([column, *path])
        return None

    def _column(self, name: str) -> str | None:
        if name in self.columns:
            return name
        lower = name.strip().lower()
        return next((own for own in self.columns if own.lower() == lower), None)

    def values(self, name: str) -> Sequence[Any]:
        """One value a row of a column, or of a field as `find` names it."""
        if name in self.columns:
            return self.columns[name]
        for before, after in _halves(name):
            if before in self.columns:
                path = after.split(".")
                return [_inside(value, path) for value in self.columns[before]]
        raise KeyError(name)

    def fields(self, depth: int = 2) -> list[str]:
        """Fields of objects in columns, as `find` names them."""
        names = []
        for column in self.columns:
            if column not in self.not_text:
                names += [
                    ".".join([column, *path]) for path in _paths(self.columns[column][:100], depth)
                ]
        return names


def _halves(name: str) -> Iterator[tuple[str, str]]:
    """(what stands before, what stands behind) each dot of a name."""
    return ((name[: dot.start()], name[dot.end() :]) for dot in re.finditer(r"\.", name))


def within(name: str, column: str) -> bool:
    """Whether a name as `Table.find` gives it is that of a column or of a field within it."""
    return name == column or name.startswith(f"{column}.")


def _inside(value: Any, path: Sequence[str]) -> Any:
    """What stands at a path of fields within a value; of a list, that of each item."""
    for place, name in enumerate(path):
        if isinstance(value, list):
            return [_inside(item, path[place:]) for item in value]
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _path(values: Sequence[Any], names: Sequence[str]) -> list[str] | None:
    """The path in some values whose names are these without regard to case."""
    path: list[str] = []
    for wanted in names:
        inner = [_inside(value, path) for value in values]
        keys = dict.fromkeys(
            key
            for value in inner
            for item in (value if isinstance(value, list) else [value])
            if isinstance(item, dict)
            for key in item
        )
        same = [key for key in keys if key == wanted] or [
            key for key in keys if isinstance(key, str) and key.lower() == wanted.lower()
        ]
        if not same:
            return None
        path.append(same[0])
    return path


def _paths(values: Sequence[Any], depth: int) -> list[list[str]]:
    """The paths of fields within objects among some values."""
    if not depth:
        return []
    keys = dict.fromkeys(
        key for value in values if isinstance(value, dict) for key in value if isinstance(key, str)
    )
    found = []
    for key in keys:
        inner = _paths([value.get(key) for value in values if isinstance(value, dict)], depth - 1)
        found += [[key, *path] for path in inner] or [[key]]
    return found


class LazyColumns(Mapping[str, Sequence[Any]]):
    """Columns whose values are made when they are first asked for.

    names: of the columns, in order.
    values: gives the values of a column by its name.
    """

    def __init__(self, names: Iterable[str], values: Callable[[str], Sequence[Any]]) -> None:
        self._names, self._make = dict.fromkeys(names), values
        self._made: dict[str, Sequence[Any]] = {}

    def __getitem__(self, name: str) -> Sequence[Any]:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def row_columns(rows: Sequence[Mapping[str, Any]]) -> LazyColumns:
    """Columns of rows that are objects; None where a row lacks one."""
    names = dict.fromkeys(name for row in rows for name in row)
    return LazyColumns(names, lambda name: [row.get(name) for row in rows])


def _arrow_values(table: Any, source: str, name: str) -> list[Any]:
    """A column of a pyarrow table as Python values."""
    import pyarrow

    column = table.column(name)
    try:
        if pyarrow.types.is_nested(column.type):
            column = column.cast(_without_times(column.type))
        # Spark writes text as bytes where it is told to
        if _is_bytes(column.type):
            column = column.cast(pyarrow.large_string())
        return column.to_pylist()
    except (
        *(UnicodeDecodeError, ValueError, NotImplementedError, OverflowError),
        pyarrow.ArrowException,
    ) as error:
        raise UserError(
            f"{source}: column {name!r} cannot be read ({one_line(error)}); write it as UTF-8 "
            "strings, or name another column"
        ) from None


def arrow_table(table: Any, source: str, first_row: int = 0) -> Table:
    """Return a pyarrow table as a `Table`; raises UserError if two columns share a name."""
    check_names(list(table.column_names), source)
    not_text = frozenset(field.name for field in table.schema if not _may_be_text(field.type))
    return Table(
        source,
        LazyColumns(table.column_names, partial(_arrow_values, table, source)),
        None,
        table.num_rows,
        _class_names(table.schema.metadata),
        not_text,
        first_row=first_row,
    )


def _without_times(kind: Any) -> Any:
    """A nested type with numbers in place of dates and times, which may be beyond Python's."""
    import pyarrow
    from pyarrow import types

    if types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return pyarrow.struct([field.with_type(_without_times(field.type)) for field in fields])
    if types.is_list(kind) or types.is_large_list(kind):
        made = pyarrow.large_list if types.is_large_list(kind) else pyarrow.list_
        return made(kind.value_field.with_type(_without_times(kind.value_type)))
    if types.is_temporal(kind) and not types.is_interval(kind):
        small = types.is_date32(kind) or types.is_time32(kind)
        return pyarrow.int32() if small else pyarrow.int64()
    return kind


def _is_bytes(kind: Any) -> bool:
    from pyarrow import types

    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _may_be_text(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _may_be_text(kind.value_type)
    if types.is_struct(kind):
        return any(_may_be_text(kind.field(number).type) for number in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _may_be_text(kind.value_type) or types.is_integer(kind.value_type)
    return any(
        is_kind(kind)
        for is_kind in (
            *(types.is_string, types.is_large_string, types.is_string_view),
            *(_is_bytes, types.is_null),
        )
    )


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """{column: names of its numbers} of the features that `datasets` writes into arrow files."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = {
            column: found
            for column, feature in features.items()
            if (found := feature.get("feature", feature).get("names"))
        }
    except (KeyError, ValueError, AttributeError, TypeError, RecursionError):
        return {}
    return {
        column: names
        for column, names in names.items()
        if isinstance(names, list) and all(isinstance(name, str) for name in names)
    }


def joined(parts: Sequence[Table]) -> Table:
    """Tables one below the other; a column that one of them lacks is None there."""
    if len(parts) == 1:
        return parts[0]
    not_text = frozenset[str]().union(*(part.not_text for part in parts))

    def values(name: str) -> list[Any]:
        each = (part.columns.get(name, [None] * part.rows) for part in parts)
        return list(itertools.chain.from_iterable(each))

    columns = LazyColumns((name for part in parts for name in part.columns), values)
    whole = all(part.lines is not None and part.source == parts[0].source for part in parts)
    lines = [line for part in parts for line in part.lines or ()] if whole else None
    rows = sum(part.rows for part in parts)
    return dataclasses.replace(parts[0], columns=columns, lines=lines, rows=rows, not_text=not_text)


def check_names(names: list[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(
            f"{where}: column {one_line(twice[0], 60)!r} occurs twice; give each column its own "
            "name"
        )
