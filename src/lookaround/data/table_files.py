"""Tables on disk: .jsonl, .json, .csv, .tsv and .parquet files, and what `datasets` has written.

`read_blocks` gives the rows of a file some thousand at a time, `read_table` all of them.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from lookaround.data.tables import Table, arrow_table, check_names, joined
from lookaround.support.errors import UserError

# of one block of a table, whichever comes first
BLOCK_ROWS, BLOCK_CHARACTERS = 5000, 8 << 20
# JSON beside data that describes it
_ABOUT = ("dataset_infos", "dataset_info", "dataset_dict", "state", "metadata", "config")
_DIGITS = re.compile(r"[-+.,\d]*\d[-+.,\d]*")
# of header rows: what people ask, and what forms add
_QUESTION = re.compile(r".*[?:]\s*", re.DOTALL)
_FORM_NAMES = frozenset(
    (
        *("timestamp", "id", "date", "time", "email", "email address", "name", "username"),
        *("submitted", "respondent", "respondent id", "response id", "start time", "end time"),
        *("zeitstempel", "horodateur", "marca temporal"),
    )
)


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
        with opened_parquet(path, reading) as file:
            return (
                Table(str(path), {}, None, 0)
                if file is None
                else arrow_table(file.read(), str(path))
            )
    blocks = list(read_blocks(path, reading))
    return joined(blocks) if blocks else Table(str(path), {}, [], 0)


def read_tables(paths: Sequence[Path], reading: Reading | None = None) -> Table:
    """All rows of the files that make up a part, as one table."""
    parts = [read_table(path, reading) for path in paths]
    return parts[0] if len(parts) == 1 else joined([part for part in parts if part.rows] or parts)


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
def opened_parquet(path: Path, reading: Reading | None) -> Iterator[Any]:
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

    with opened_parquet(path, reading) as file:
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
    asked = are_questions(names)
    numbers = any(_DIGITS.fullmatch(name) for name in names)
    # a class, and not its name
    again = any(name and name in column for name, column in zip(names, columns, strict=False))
    if long and (not asked or numbers or again):
        raise UserError(
            f"{where}: the first row must name the columns; found {one_line(long[0], 60)!r}"
        )
    check_names(names, where)


def are_questions(names: Sequence[str]) -> bool:
    """Whether columns are called as in what forms export: by questions, beside "Timestamp"."""
    return any(_QUESTION.fullmatch(name) or name.lower() in _FORM_NAMES for name in names)
