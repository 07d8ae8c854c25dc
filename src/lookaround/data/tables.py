"""Tables: .jsonl, .csv, .tsv and .parquet files as rows with named columns, and the text in them.

`read_table` parses a file into a `Table`; `text_column` finds the column with the text and
`column_texts` reads it. Errors name file and line.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookaround.data.files import file_kind, listed, one_line, read_bytes, read_text
from lookaround.support.errors import UserError

TEXT_NAMES = (
    "text",
    "content",
    "document",
    "body",
    "sentence",
    "abstract",
    "article",
    "passage",
    "paragraph",
    "story",
    "review",
    "message",
    "utterance",
    "code",
    "value",
)


@dataclass(frozen=True)
class Table:
    """Rows with named columns.

    `source` is the file for messages; `columns` maps a name to one value a row; `lines[i]` is the
    1-based line on which row i starts, or None where rows have no lines (parquet, datasets);
    `classes` has the names of numbers, of columns that a dataset has them for.
    """

    source: str
    columns: Mapping[str, Sequence[Any]]
    lines: Sequence[int] | None
    rows: int
    classes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    def where(self, row: int) -> str:
        """Return "file:line", or "file, row n" counted from 1."""
        return (
            f"{self.source}, row {row + 1}"
            if self.lines is None
            else f"{self.source}:{self.lines[row]}"
        )

    def find(self, name: str) -> str | None:
        """Return the column called `name`, exactly or else without regard to case, or None."""
        if name in self.columns:
            return name
        return next((column for column in self.columns if column.lower() == name.lower()), None)


class ArrowColumns(Mapping[str, Sequence[Any]]):
    """Columns of a pyarrow table, converted to Python values when first asked for."""

    def __init__(self, table: Any, source: str) -> None:
        self._table, self._source = table, source
        self._values: dict[str, list[Any]] = {}

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self._values:
            if name not in self._table.column_names:
                raise KeyError(name)
            try:
                self._values[name] = self._table.column(name).to_pylist()
            except (UnicodeDecodeError, ValueError, NotImplementedError) as error:
                raise UserError(
                    f"{self._source}: column {name!r} cannot be read ({one_line(error)}); write it "
                    "as UTF-8 strings"
                ) from None
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.column_names)

    def __len__(self) -> int:
        return len(self._table.column_names)


def arrow_table(table: Any, source: str) -> Table:
    """Return a pyarrow table as a `Table`; raises UserError if two columns share a name."""
    _check_names(list(table.column_names), source)
    columns = ArrowColumns(table, source)
    return Table(source, columns, None, table.num_rows, _class_names(table.schema.metadata))


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """{column: names of its numbers} of the features that `datasets` writes into arrow files."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = {
            column: found
            for column, feature in features.items()
            if (found := feature.get("feature", feature).get("names"))
        }
    except (KeyError, ValueError, AttributeError):
        return {}
    return names


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


def read_table(path: Path) -> Table:
    """Return the rows of a .jsonl, .ndjson, .csv, .tsv or .parquet file, compressed or not.

    A row of .jsonl is an object, or a plain string (then the one column is "text"). Fields of .tsv
    are never quoted. Raises UserError with file and line for broken JSON, a row with the wrong
    number of fields, a bad quote, a header that is none, or a broken parquet file. A file of zero
    bytes is a table without columns.
    """
    kind = file_kind(path)[1]
    if kind == "parquet":
        return _read_parquet(path)
    text = read_text(path)
    if not text.strip():
        return Table(str(path), {}, [], 0)
    if kind == "jsonl":
        return _read_jsonl(path, text)
    rows = _csv_rows(path, text) if kind == "csv" else _tsv_rows(text)
    header_line, header = next(rows)
    names = _check_header(header, kind or "", f"{path}:{header_line}")
    lines: list[int] = []
    columns: list[list[str]] = [[] for _ in names]
    for line, row in rows:
        if len(row) != len(names):
            hint = (
                "quote a field that holds a comma or a quote"
                if kind == "csv"
                else "a field must not hold a tab or a line end"
            )
            raise UserError(
                f"{path}:{line}: {len(row)} fields found, {len(names)} expected ({listed(names)}); "
                f"{hint}"
            )
        lines.append(line)
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return Table(str(path), dict(zip(names, columns, strict=True)), lines, len(lines))


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    data = read_bytes(path)
    if not data:
        return Table(str(path), {}, None, 0)
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{path}: not a complete parquet file ({one_line(error)}); write it again, or rename "
            "it if it is another format"
        ) from None
    return arrow_table(table, str(path))


def _read_jsonl(path: Path, text: str) -> Table:
    lines: list[int] = []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            hint = (
                "write one JSON value a line"
                if number > 1
                else "write one JSON value a line, no list around them"
            )
            raise UserError(
                f"{path}:{number}:{error.colno}: broken JSON ({error.msg}): "
                f"{one_line(line, 60)!r}; {hint}"
            ) from None
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}:{number}: JSON that cannot be read ({one_line(error)}); simplify the value"
            ) from None
        if isinstance(row, str):
            row = {"text": row}
        if not isinstance(row, dict):
            raise UserError(
                f"{path}:{number}: a JSON {type(row).__name__} found ({one_line(line, 60)}); each "
                "line must hold one object or one string"
            )
        lines.append(number)
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return Table(
        str(path), {name: [row.get(name) for row in rows] for name in names}, lines, len(rows)
    )


def _tsv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.split("\t")  # no quoting, so a field may start with a quote


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    limit = csv.field_size_limit(2**31 - 1)
    start = 1
    try:
        reader = csv.reader((line + "\n" for line in text.split("\n")), strict=True)
        for row in reader:
            if any(field.strip() for field in row):
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}:{start}: broken csv row ({one_line(error)}); quote a field that holds a "
            "comma, a quote or a line end, "
            'and write a quote inside it as ""'
        ) from None
    finally:
        csv.field_size_limit(limit)


def _check_header(header: list[str], kind: str, where: str) -> list[str]:
    names = [name.strip() for name in header]
    separator = next(
        (
            mark
            for mark in (";", "\t", "|")
            if kind == "csv" and len(names) == 1 and mark in names[0]
        ),
        None,
    )
    if separator is not None:
        raise UserError(
            f"{where}: the fields are separated by {separator!r}; a .csv needs ',' (a file with "
            "tabs must be called .tsv)"
        )
    long = next((name for name in names if len(name) > 60), None)
    if long is not None:
        raise UserError(
            f"{where}: the first row must name the columns; found {one_line(long, 60)!r}"
        )
    _check_names(names, where)
    return names


def _check_names(names: list[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{where}: column {twice[0]!r} occurs twice; give each column its own name")


class NotText(Exception):
    """Row `row` of a column holds `value`, which is neither text nor a list of texts."""

    def __init__(self, row: int, value: object) -> None:
        self.row, self.value = row, value


def flatten(values: Sequence[Any]) -> list[str]:
    """One text per value: itself, a joined list of strings, or a conversation's utterances.

    A conversation is a list of lists or dicts of strings (turns): of each turn the field with a
    usual text name is taken, else the field (key or position) that holds the most characters over
    all turns; ours. None becomes "". Raises NotText for anything else.
    """
    totals: Counter[Any] = Counter()
    for row, value in enumerate(values):
        if value is None or isinstance(value, str):
            continue
        if not isinstance(value, list) or not all(
            isinstance(turn, str | list | dict | None) for turn in value
        ):
            raise NotText(row, value)
        for turn in value:
            for key, field in _fields(turn):
                totals[key] += len(field)
    usual = [name for name in TEXT_NAMES if name in totals]
    key = usual[0] if usual else max(totals, key=lambda key: (totals[key], str(key)), default=None)
    texts = []
    for value in values:
        if isinstance(value, list):
            turns = (
                turn if isinstance(turn, str) else dict(_fields(turn)).get(key, "")
                for turn in value
            )
            value = "\n".join(turn for turn in turns if turn)
        texts.append(value or "")
    return texts


def _fields(turn: Any) -> list[tuple[Any, str]]:
    pairs = (
        turn.items()
        if isinstance(turn, dict)
        else enumerate(turn)
        if isinstance(turn, list)
        else ()
    )
    return [(key, field) for key, field in pairs if isinstance(field, str)]


def text_column(table: Table, wanted: str | None = None) -> str:
    """The column with the text: `wanted`, a usual name, or the one with the most characters.

    The last counts only if it holds at least twice as many as any other (first 5,000 rows; ours).
    Raises UserError with the columns there are.
    """
    names = list(table.columns)
    if wanted is not None:
        column = table.find(wanted)
        if column is None:
            raise UserError(f"{table.source}: no column {wanted!r}; it has {listed(names)}")
        return column
    if (text := table.find("text")) is not None:
        return text
    sizes = dict.fromkeys(names, 0)
    letters, spaced = set(), set()
    for name in names:
        try:
            texts = flatten(table.columns[name][:5000])
        except NotText:
            continue
        sizes[name] = sum(map(len, texts))
        if any(char.isalpha() for text in texts[:50] for char in text[:1000]):
            letters.add(name)
            if sum(" " in text.strip() for text in texts) > len(texts) / 10:
                spaced.add(name)
    for usual in TEXT_NAMES:
        column = table.find(usual)
        if column is not None and sizes[column]:
            return column
    data = next(
        (name for name in names if len(name.split()) > 3 or re.fullmatch(r"[-+.\d]+", name)), None
    )
    if data is not None and table.lines is not None:
        raise UserError(
            f"{table.source}: the first row must name the columns, the one with the text 'text'; "
            f"found {one_line(data, 60)!r}"
        )
    # numbers are no text, and an identifier without a space is none beside a column of words
    sizes = {name: size if name in (spaced or letters) else 0 for name, size in sizes.items()}
    ranked = sorted(names, key=lambda name: -sizes[name])
    if not ranked or not sizes[ranked[0]]:
        raise UserError(
            f"{table.source}: no column holds text; it has {listed(names)}, and one must be called "
            "'text'"
        )
    if len(ranked) > 1 and sizes[ranked[0]] < 2 * sizes[ranked[1]]:
        raise UserError(
            f"{table.source}: {ranked[0]!r} and {ranked[1]!r} could both be the text; name the "
            f"text column, one of {listed(names)}"
        )
    return ranked[0]


def column_texts(table: Table, column: str, *, raw: bool = False) -> list[str]:
    r"""Return the texts of `column`, one a row, with \n line ends ("" where a row has none).

    raw: whether \r\n stays, for places that are counted in it.

    Raises UserError with file and line for a value that is not text or cannot be written as UTF-8.
    """
    try:
        texts = flatten(table.columns[column])
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
