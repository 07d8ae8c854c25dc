"""Tables on disk: .jsonl, .json, .csv, .tsv and .parquet files, and what `datasets` has written.

`read_blocks` gives the rows of a file some thousand at a time, `read_table` all of them.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lookaround.data.delimited import delimited
from lookaround.data.files import (
    COMPRESSIONS,
    TABLES,
    Reading,
    file_kind,
    lines_of,
    read_bytes,
    require_content,
    text_chunks,
)
from lookaround.data.json_rows import JsonRows, json_rows
from lookaround.data.tables import Table, arrow_table, joined, row_columns
from lookaround.support.errors import UserError
from lookaround.support.text import one_line

# of one block of a table, whichever comes first
BLOCK_ROWS, BLOCK_CHARACTERS = 5000, 8 << 20
# JSON beside data that describes it
_ABOUT = ("dataset_infos", "dataset_info", "dataset_dict", "state", "metadata", "config")


def load_saved(folder: Path) -> Any:
    """What `datasets.save_to_disk` wrote: a dataset, or one for each split.

    Raises UserError where that is not whole.
    """
    import datasets

    try:
        return datasets.load_from_disk(str(folder))
    except IndexError:
        raise UserError(f"{folder}: has no rows; give a dataset with some") from None
    except Exception as error:  # datasets, pyarrow and fsspec raise many kinds
        raise UserError(
            f"{folder}: not a complete datasets folder ({one_line(error)}); write it again "
            "with save_to_disk"
        ) from None


def load_named(name: str, remedy: str) -> Any:
    """A dataset of the Hugging Face hub, owner/name or owner/name:config, or of a folder's files.

    remedy: what an error asks for. Raises UserError where there is none, or none can be had.
    """
    import datasets

    repository, _, config = (name, "", "") if Path(name).is_dir() else name.partition(":")
    try:
        return datasets.load_dataset(repository, config or None)
    except Exception as error:  # offline, not found, gated or without a config
        raise UserError(
            f"no file, folder or dataset named {name!r} ({type(error).__name__}: "
            f"{one_line(error)}); {remedy}"
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


def is_object(line: bytes) -> bool:
    """Whether a line, or the beginning of a long one, is an object of JSON."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return len(line) > 60_000 and re.match(rb'\{\s*"[^"]*"\s*:', line) is not None


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
    path: Path,
    reading: Reading | None = None,
    only: Sequence[str] | None = None,
    *,
    kind: str | None = None,
) -> Iterator[Table]:
    """The rows of a .jsonl, .json, .csv, .tsv or .parquet file, compressed or not, in blocks.

    only: the columns of a .parquet that are read; None: all.
    kind: the format, where the name does not say so.

    What a row is, data/json_rows.py and data/delimited.py say. Raises UserError with file and line
    for broken JSON, a row with the wrong number of fields, a bad quote, a header that is none, or a
    broken parquet file. A file of zero bytes has no blocks.
    """
    kind = kind or file_kind(path)[1]
    if kind == "parquet":
        yield from _parquet_blocks(path, reading, only)
        return
    lines = lines_of(text_chunks(path, reading))
    if kind in ("jsonl", "json"):
        objects = json_rows(path, kind, lines)
        if objects is not None:
            yield from _object_blocks(path, objects)
        return
    found = delimited(path, kind or "", lines, reading or Reading())
    for part in () if found is None else _batches(found.rows):
        assert found is not None
        values = zip(*(row for _, row in part), strict=True)
        columns = dict(zip(found.names, values, strict=True))
        numbers = [line for line, _ in part]
        yield Table(str(path), columns, numbers, len(part), notes=tuple(found.notes))


def _object_blocks(path: Path, objects: JsonRows) -> Iterator[Table]:
    done = 0
    for part in _batches(objects.rows):
        numbers = [line for line, _ in part] if objects.lines else None
        columns, notes = row_columns([row for _, row in part]), tuple(objects.notes)
        yield Table(str(path), columns, numbers, len(part), notes=notes, first_row=done)
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
    whole: Any = io.BytesIO(read_bytes(path, reading)) if packed else require_content(path)
    try:
        if not (whole.getbuffer() if packed else path.stat().st_size):
            yield None
            return
        with pyarrow.parquet.ParquetFile(whole) as file:
            yield file
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{path}: not a complete parquet file ({one_line(error)}); write it again, or rename "
            "it if it is another format"
        ) from None


def parquet_blocks(file: Any, path: Path, only: Sequence[str] | None = None) -> Iterator[Table]:
    """The rows of an opened file in blocks; only: the columns that are read, None: all."""
    import pyarrow

    first = 0
    metadata = file.schema_arrow.metadata  # which names classes
    for batch in file.iter_batches(batch_size=BLOCK_ROWS // 5, columns=only):
        table = pyarrow.Table.from_batches([batch]).replace_schema_metadata(metadata)
        yield arrow_table(table, str(path), first)
        first += table.num_rows


def _parquet_blocks(
    path: Path, reading: Reading | None, only: Sequence[str] | None
) -> Iterator[Table]:
    with opened_parquet(path, reading) as file:
        if file is None:
            return
        size, rows = path.stat().st_size, max(1, file.metadata.num_rows)
        for block in parquet_blocks(file, path, only):
            yield block
            if reading and path.suffix.lower() not in COMPRESSIONS:
                reading.heard(size * block.rows // rows)
