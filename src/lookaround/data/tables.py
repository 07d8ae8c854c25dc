"""Tables: .jsonl, .json, .csv, .tsv and .parquet files as rows with named columns.

`read_blocks` gives the rows of a file some thousand at a time, `read_table` all of them;
`text_column` finds the column with the text and `column_texts` reads it. Errors name file and line.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookaround.data.files import (
    COMPRESSIONS,
    TABLES,
    Reading,
    file_kind,
    lines_of,
    listed,
    one_line,
    read_bytes,
    require_file,
    text_chunks,
)
from lookaround.data.turns import TEXT_NAMES, NotText, flatten, turn_key
from lookaround.support.errors import UserError

# of one block of a table, whichever comes first
BLOCK_ROWS, BLOCK_CHARACTERS = 5000, 8 << 20
# JSON beside data that describes it
_ABOUT = ("dataset_infos", "dataset_info", "dataset_dict", "state", "metadata", "config")
_DIGITS = re.compile(r"[-+.,\d]*\d[-+.,\d]*")
# of header rows: what people ask, and what forms add
_QUESTION = re.compile(r".*[?:]\s*", re.DOTALL)
_FORM_NAMES = frozenset(
    ("timestamp", "id", "date", "time", "email", "email address", "name", "username", "submitted")
)


@dataclass(frozen=True)
class Table:
    """Rows with named columns.

    `source` is the file for messages; `columns` maps a name to one value a row; `lines[i]` is the
    1-based line on which row i starts, or None where rows have no lines (parquet, datasets);
    `classes` has the names of numbers, of columns that a dataset has them for; `not_text` are
    columns of a type that holds no text; `notes` tell what was chosen to read it.
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
        if name in self.columns:
            return name
        same = next((own for own in self.columns if own.lower() == name.lower()), None)
        if same is not None:
            return same
        for dot in (found.start() for found in re.finditer(r"\.", name)):
            column = self.find(name[:dot])
            if column is not None and column in self.columns and column not in self.not_text:
                path = _path(self.columns[column][:BLOCK_ROWS], name[dot + 1 :].split("."))
                if path is not None:
                    return ".".join([column, *path])
        return None

    def values(self, name: str) -> Sequence[Any]:
        """One value a row of a column, or of a field as `find` names it."""
        if name in self.columns:
            return self.columns[name]
        for dot in (found.start() for found in re.finditer(r"\.", name)):
            if name[:dot] in self.columns:
                path = name[dot + 1 :].split(".")
                return [_inside(value, path) for value in self.columns[name[:dot]]]
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


class ArrowColumns(Mapping[str, Sequence[Any]]):
    """Columns of a pyarrow table, converted to Python values when first asked for."""

    def __init__(self, table: Any, source: str) -> None:
        self._table, self._source = table, source
        self._values: dict[str, list[Any]] = {}

    def __getitem__(self, name: str) -> list[Any]:
        import pyarrow

        if name not in self._values:
            if name not in self._table.column_names:
                raise KeyError(name)
            column = self._table.column(name)
            try:
                # Spark writes text as bytes where it is told to
                if pyarrow.types.is_binary(column.type) or pyarrow.types.is_large_binary(
                    column.type
                ):
                    column = column.cast(pyarrow.large_string())
                self._values[name] = column.to_pylist()
            except (
                *(UnicodeDecodeError, ValueError, NotImplementedError, OverflowError),
                pyarrow.ArrowException,
            ) as error:
                raise UserError(
                    f"{self._source}: column {name!r} cannot be read ({one_line(error)}); write it "
                    "as UTF-8 strings, or name another column"
                ) from None
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.column_names)

    def __len__(self) -> int:
        return len(self._table.column_names)


def arrow_table(table: Any, source: str, first_row: int = 0) -> Table:
    """Return a pyarrow table as a `Table`; raises UserError if two columns share a name."""
    _check_names(list(table.column_names), source)
    not_text = frozenset(field.name for field in table.schema if not _may_be_text(field.type))
    return Table(
        source,
        ArrowColumns(table, source),
        None,
        table.num_rows,
        _class_names(table.schema.metadata),
        not_text,
        first_row=first_row,
    )


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
            *(types.is_binary, types.is_large_binary, types.is_null),
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


def load_saved(folder: Path) -> Any:
    """What `datasets.save_to_disk` wrote: a dataset, or one for each split.

    Raises UserError where that is not whole.
    """
    import datasets

    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # datasets, pyarrow and fsspec raise many kinds
        raise UserError(
            f"{folder}: not a complete datasets folder ({one_line(error)}); write it again "
            "with save_to_disk"
        ) from None


def read_saved(folder: Path) -> Table:
    """The rows of one split that `datasets.save_to_disk` wrote, read by `load_saved`."""
    return arrow_table(load_saved(folder).with_format("arrow")[:], str(folder))


def dataset_blocks(data: Any, source: str) -> Iterator[Table]:
    """The rows of a `Dataset` or an `IterableDataset`, some thousand at a time."""
    import pyarrow

    first = 0
    for part in data.with_format("arrow").iter(batch_size=BLOCK_ROWS // 5):
        if not isinstance(part, pyarrow.Table):
            part = pyarrow.table(part)
        yield arrow_table(part, source, first)
        first += part.num_rows


def is_table(path: Path) -> bool:
    """Whether a file is a table by its name, and no description of other files."""
    stem, kind = file_kind(path)
    return kind in TABLES.values() and not (kind == "json" and stem.lower() in _ABOUT)


def read_table(path: Path, reading: Reading | None = None) -> Table:
    """Return all rows of a file as `read_blocks` reads them, as one table."""
    if file_kind(path)[1] == "parquet":
        with _parquet(path, reading) as file:
            return (
                Table(str(path), {}, None, 0)
                if file is None
                else arrow_table(file.read(), str(path))
            )
    blocks = list(read_blocks(path, reading))
    return _joined(blocks) if blocks else Table(str(path), {}, [], 0)


def _joined(parts: Sequence[Table]) -> Table:
    """Tables one below the other; a column that one of them lacks is None there."""
    if len(parts) == 1:
        return parts[0]
    not_text = frozenset[str]().union(*(part.not_text for part in parts))
    columns = _JoinedColumns(parts)
    whole = all(part.lines is not None and part.source == parts[0].source for part in parts)
    lines = [line for part in parts for line in part.lines or ()] if whole else None
    rows = sum(part.rows for part in parts)
    return dataclasses.replace(parts[0], columns=columns, lines=lines, rows=rows, not_text=not_text)


class _JoinedColumns(Mapping[str, Sequence[Any]]):
    """Columns of tables one below the other, made when they are first asked for."""

    def __init__(self, parts: Sequence[Table]) -> None:
        self._parts = parts
        self._names = dict.fromkeys(name for part in parts for name in part.columns)
        self._values: dict[str, list[Any]] = {}

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._values:
            self._values[name] = [
                value
                for part in self._parts
                for value in (part.columns[name] if name in part.columns else [None] * part.rows)
            ]
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_tables(paths: Sequence[Path], reading: Reading | None = None) -> Table:
    """All rows of the files that make up a part, as one table."""
    parts = [read_table(path, reading) for path in paths]
    return parts[0] if len(parts) == 1 else _joined([part for part in parts if part.rows] or parts)


def read_blocks(
    path: Path, reading: Reading | None = None, only: Sequence[str] | None = None
) -> Iterator[Table]:
    """The rows of a .jsonl, .json, .csv, .tsv or .parquet file, compressed or not, in blocks.

    only: the columns of a .parquet that are read; None: all.

    A row of .jsonl is an object, or a plain string (then the one column is "text"); a .json file
    holds such rows, or a list of them. Fields of .tsv are never quoted; those of a .csv are
    separated by "," or, where its header holds none, by ";", a tab or "|". Raises UserError with
    file and line for broken JSON, a row with the wrong number of fields, a bad quote, a header that
    is none, or a broken parquet file. A file of zero bytes has no blocks.
    """
    kind = file_kind(path)[1]
    if kind == "parquet":
        yield from _parquet_blocks(path, reading, only)
        return
    chunks = text_chunks(path, reading)
    if kind in ("jsonl", "json"):
        begin = next((chunk for chunk in chunks if chunk.strip()), "")
        chunks = itertools.chain([begin], chunks)
        if kind == "json" and begin.lstrip().startswith("["):
            yield from _blocks(path, _listed_rows(path, "".join(chunks)), lines=False)
        elif begin:
            yield from _blocks(path, _json_rows(path, lines_of(chunks)))
        return
    yield from _delimited_blocks(path, kind or "", lines_of(chunks))


def _blocks(
    path: Path, rows: Iterator[tuple[int, int, Any]], lines: bool = True
) -> Iterator[Table]:
    """Tables of rows (line, characters, object)."""
    done = 0
    for part in _batches(rows):
        names = dict.fromkeys(name for _, row in part for name in row)
        columns = {name: [row.get(name) for _, row in part] for name in names}
        numbers = [line for line, _ in part] if lines else None
        yield Table(str(path), columns, numbers, len(part), first_row=done)
        done += len(part)


def _batches(rows: Iterator[tuple[int, int, Any]]) -> Iterator[list[tuple[int, Any]]]:
    """(line, row) of rows (line, characters, row), as many at a time as a block may hold."""
    part: list[tuple[int, Any]] = []
    size = 0
    for line, characters, row in rows:
        part.append((line, row))
        size += characters
        if len(part) >= BLOCK_ROWS or size >= BLOCK_CHARACTERS:
            yield part
            part, size = [], 0
    if part:
        yield part


@contextmanager
def _parquet(path: Path, reading: Reading | None) -> Iterator[Any]:
    """The file as pyarrow has it; None where it has no bytes."""
    import pyarrow
    import pyarrow.parquet

    packed = path.suffix.lower() in COMPRESSIONS
    whole: Any = io.BytesIO(read_bytes(path, reading)) if packed else path
    try:
        empty = not whole.getbuffer() if packed else not require_file(path).stat().st_size
        yield None if empty else pyarrow.parquet.ParquetFile(whole)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{path}: not a complete parquet file ({one_line(error)}); write it again, or rename "
            "it if it is another format"
        ) from None


def _parquet_blocks(
    path: Path, reading: Reading | None, only: Sequence[str] | None
) -> Iterator[Table]:
    import pyarrow

    with _parquet(path, reading) as file:
        if file is None:
            return
        first = 0
        metadata = file.schema_arrow.metadata  # which names classes
        for batch in file.iter_batches(batch_size=BLOCK_ROWS // 5, columns=only):
            table = pyarrow.Table.from_batches([batch]).replace_schema_metadata(metadata)
            yield arrow_table(table, str(path), first)
            first += table.num_rows


def _json_rows(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, int, Any]]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            hint = (
                "write one JSON value a line"
                if number > 1
                else "write one JSON value a line, no list or object around them"
            )
            raise UserError(
                f"{path}:{number}:{error.colno}: broken JSON ({error.msg}): "
                f"{one_line(line, 60)!r}; {hint}"
            ) from None
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}:{number}: JSON that cannot be read ({one_line(error)}); simplify the value"
            ) from None
        yield number, len(line), _object(row, f"{path}:{number}", "each line")


def _listed_rows(path: Path, text: str) -> Iterator[tuple[int, int, Any]]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}:{error.lineno}:{error.colno}: broken JSON ({error.msg}); write one list of "
            "objects, or one object a line"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: JSON that cannot be read ({one_line(error)}); simplify the values"
        ) from None
    size = len(text) // max(1, len(rows))
    for number, row in enumerate(rows, 1):
        yield number, size, _object(row, f"{path}, row {number}", "each item of the list")


def _object(row: Any, where: str, each: str) -> dict[str, Any]:
    if isinstance(row, str):
        return {"text": row}
    if not isinstance(row, dict):
        raise UserError(
            f"{where}: a JSON {type(row).__name__} found ({one_line(row, 60)}); {each} must hold "
            "one object or one string"
        )
    return row


def _delimited_blocks(path: Path, kind: str, lines: Iterator[tuple[int, str]]) -> Iterator[Table]:
    lines = itertools.dropwhile(lambda item: not item[1].strip(), lines)
    first = next(lines, None)
    if first is None:
        return
    mark = _delimiter(first[1]) if kind == "csv" else "\t"
    lines = itertools.chain([first], lines)
    rows = _csv_rows(path, lines, mark, first[0]) if kind == "csv" else _tsv_rows(lines)
    header_line, _, header = next(rows)
    names = [name.strip() for name in header]
    parts = _batches(rows)
    begin = next(parts, [])
    fitting = [row for _, row in begin if len(row) == len(names)]
    _check_header(names, list(zip(*fitting, strict=True)), f"{path}:{header_line}")
    notes = () if mark in (",", "\t") or kind == "tsv" else (f"fields separated by {mark!r}",)
    hint = (
        f"quote a field that holds {mark!r} or a quote"
        if kind == "csv"
        else "a field must not hold a tab or a line end"
    )
    for part in itertools.chain([begin] if begin else [], parts):
        for line, row in part:
            if len(row) != len(names):
                raise UserError(
                    f"{path}:{line}: {len(row)} fields found, {len(names)} expected "
                    f"({listed(names)}); {hint}"
                )
        columns = zip(*(row for _, row in part), strict=True)
        yield Table(
            str(path),
            dict(zip(names, columns, strict=True)),
            [line for line, _ in part],
            len(part),
            notes=notes,
        )


def _delimiter(header: str) -> str:
    """What separates the fields of a .csv: a comma, or what its header has in place of one."""
    if len(next(csv.reader([header]), [])) > 1:
        return ","
    others = {mark: header.count(mark) for mark in (";", "\t", "|")}
    most = max(others, key=lambda mark: others[mark])
    return most if others[most] else ","


def _tsv_rows(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, int, list[str]]]:
    for number, line in lines:
        if line.strip():
            yield number, len(line), line.split("\t")  # no quoting: a field may start with a quote


def _csv_rows(
    path: Path, lines: Iterator[tuple[int, str]], mark: str, start: int
) -> Iterator[tuple[int, int, list[str]]]:
    number = size = 0

    def told() -> Iterator[str]:
        nonlocal number, size
        for at, line in lines:
            number, size = at, size + len(line)
            yield line + "\n"

    limit = csv.field_size_limit(2**31 - 1)
    try:
        for row in csv.reader(told(), strict=True, delimiter=mark):
            if any(field.strip() for field in row):
                yield start, size, row
            start, size = number + 1, 0
    except csv.Error as error:
        raise UserError(
            f"{path}:{start}: broken csv row ({one_line(error)}); quote a field that holds a "
            "comma, a quote or a line end, "
            'and write a quote inside it as ""'
        ) from None
    finally:
        csv.field_size_limit(limit)


def _check_header(names: list[str], columns: Sequence[Sequence[str]], where: str) -> None:
    """Raises UserError for a first row that is none of names: it is like the rows below it."""
    long = [name for name in names if len(name) > 60]
    asked = _asks(names)
    numbers = any(_DIGITS.fullmatch(name) for name in names)
    # a class, and not its name
    again = any(name and name in column for name, column in zip(names, columns, strict=False))
    if long and (not asked or numbers or again):
        raise UserError(
            f"{where}: the first row must name the columns; found {one_line(long[0], 60)!r}"
        )
    _check_names(names, where)


def _check_names(names: list[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(
            f"{where}: column {one_line(twice[0], 60)!r} occurs twice; give each column its own "
            "name"
        )


def text_columns(table: Table, wanted: str) -> list[str] | None:
    """The columns that `wanted` names: one, or several with commas between them; None: not all."""
    whole = table.find(wanted)
    if whole is not None:
        return [whole]
    found = [table.find(name.strip()) for name in wanted.split(",")]
    return [name for name in found if name is not None] if all(found) and len(found) > 1 else None


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
        _measure(name, table.columns[name][:BLOCK_ROWS], sizes, letters, spaced)
    usual = [found for name in TEXT_NAMES if (found := table.find(name)) in sizes]
    filled = [name for name in usual if sizes[name]]
    if filled or (usual and not any(sizes.values())):
        return [*filled, *usual][0]
    data = None if _asks(names) else next((name for name in names if _is_data(name)), None)
    if data is not None and table.lines is not None:
        raise UserError(
            f"{table.source}: the first row must name the columns, the one with the text 'text'; "
            f"found {one_line(data, 60)!r}"
        )
    if not any(sizes[name] for name in letters):
        names = [name for name in table.fields() if "." in name]
        sizes = dict.fromkeys(names, 0)
        for name in names:
            _measure(name, table.values(name)[:BLOCK_ROWS], sizes, letters, spaced)
        usual = [
            name
            for wanted in TEXT_NAMES
            for name in names
            if name.rpartition(".")[2].lower() == wanted and sizes[name]
        ]
        if usual:
            return usual[0]
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


def _asks(names: Sequence[str]) -> bool:
    """Whether columns are called as in what forms export: by questions, beside "Timestamp"."""
    return any(_QUESTION.fullmatch(name) or name.lower() in _FORM_NAMES for name in names)


def _is_data(name: str) -> bool:
    """Whether what should be a column's name is a number or a sentence."""
    return bool(re.fullmatch(r"[-+.\d]+", name)) or len(name.split()) > 3


def _measure(
    name: str, values: Sequence[Any], sizes: dict[str, int], letters: set[str], spaced: set[str]
) -> None:
    """Adds the characters of a column to `sizes`, and its name to those with letters, with words"""
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


def column_texts(table: Table, column: str, *, raw: bool = False, key: Any = None) -> list[str]:
    r"""Return the texts of `column`, one a row, with \n line ends ("" where a row has none).

    Of several columns with commas between them the texts are joined by line ends.

    raw: whether \r\n stays, for places that are counted in it.
    key: the field of a conversation's turns that is taken; None: it is looked for.

    Raises UserError with file and line for a value that is not text or cannot be written as UTF-8.
    """
    if table.find(column) is None and (several := text_columns(table, column)):
        parts = [column_texts(table, name, raw=raw, key=key) for name in several]
        return ["\n".join(filter(None, sides)) for sides in zip(*parts, strict=True)]
    try:
        texts = flatten(table.values(column), key)
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
    key = None
    with suppress(NotText):  # told with its row below
        key = turn_key(first.values(column)) if first.find(column) else None
    every = itertools.chain([first], blocks)
    texts = (column_texts(block, column, key=key) for block in every)
    return TextsOfTable(column, list(first.notes), texts)


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
    with _parquet(path, None) as file:
        names = file.schema_arrow.names
    first = next(read_blocks(path))
    only = [
        next(name for name in names if column == name or column.startswith(f"{name}."))
        for column in text_columns(first, found.column) or ()
    ]
    return texts_of_blocks(read_blocks(path, reading, only), found.column)
