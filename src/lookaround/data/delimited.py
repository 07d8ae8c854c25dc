"""Rows of .csv and .tsv files, with the dialects that spreadsheets and libraries write."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lookaround.data.files import Reading
from lookaround.data.tables import check_names
from lookaround.support.errors import UserError
from lookaround.support.text import listed, one_line

# fields may be long, here and in all else that reads csv
csv.field_size_limit(2**31 - 1)
MARKS = (",", ";", "\t", "|")
SAMPLE = 50  # lines by which the mark between fields is found
MOST = 256 << 20  # characters of a row: a quote that is never closed takes all that follows
_NO_MARK = "\x1f"  # between the fields of one column
# of header rows: what people ask, and what forms add
_QUESTION = re.compile(r".*[?:]\s*", re.DOTALL)
_FORM_NAMES = frozenset(
    (
        *("timestamp", "id", "date", "time", "email", "email address", "name", "username"),
        *("submitted", "respondent", "respondent id", "response id", "start time", "end time"),
        *("zeitstempel", "horodateur", "marca temporal"),
    )
)

Row = tuple[int, int, list[str]]  # (line, characters, fields)


@dataclass
class Delimited:
    """A file as rows.

    names: of its columns.
    rows: those below the names, each with as many fields.
    notes: what was chosen to read it.
    """

    names: list[str]
    rows: Iterator[Row]
    notes: list[str] = field(default_factory=list)


def delimited(
    path: Path, kind: str, lines: Iterator[tuple[int, str]], reading: Reading
) -> Delimited | None:
    """The rows of a .csv or .tsv; None where it holds none at all.

    Raises UserError with file and line for a row with another number of fields, a bad quote, and a
    first row that is none of names.
    """
    notes: list[str] = []
    lines, mark = _begun(lines, notes)
    sample = list(itertools.islice(lines, SAMPLE))
    if not sample:
        return None
    mark = mark or _mark([line for _, line in sample], kind)
    quoted = kind == "csv" or mark != "\t"
    if mark not in (",", "\t", _NO_MARK):
        notes.append(f"fields separated by {mark!r}")
    if not quoted and _all_quoted(sample):
        notes.append("fields stand in quotes, which are kept (call the file .csv to drop them)")
    lines = itertools.chain(sample, lines)
    rows = _csv_rows(path, lines, mark, sample[0][0]) if quoted else _tsv_rows(lines)
    first = next(rows, None)
    if first is None:
        return None
    names = [name.strip() for name in first[2]]
    where = f"{path}:{first[0]}"
    if reading.columns and not all(name in names for name in reading.columns):
        names = [str(number) for number in range(1, len(names) + 1)]
        notes.append("columns counted from 1, no row of names")
        return Delimited(names, _fitting(path, names, itertools.chain([first], rows), mark), notes)
    begin = list(itertools.islice(rows, SAMPLE))
    # what spreadsheets add: columns without a name and without content
    while len(names) > 1 and not names[-1] and not any(row[-1:] != [""] for *_, row in begin):
        names.pop()
        begin = [(line, size, row[: len(names)]) for line, size, row in begin]
    _require_names(names, [row for *_, row in begin], where)
    names = [name or f"column {number}" for number, name in enumerate(names, 1)]
    check_names(names, where)
    return Delimited(names, _fitting(path, names, itertools.chain(begin, rows), mark), notes)


def are_questions(names: Sequence[str]) -> bool:
    """Whether columns are called as in what forms export: by questions, beside "Timestamp"."""
    return any(_QUESTION.fullmatch(name) or name.lower() in _FORM_NAMES for name in names)


def _begun(
    lines: Iterator[tuple[int, str]], notes: list[str]
) -> tuple[Iterator[tuple[int, str]], str]:
    """(the lines from the first row on, the mark that "sep=;" names or "")."""
    mark, skipped = "", 0
    for number, line in lines:
        if not line.strip():
            continue
        named = re.fullmatch(r'\s*"?sep=(.)"?[\s,;|]*', line)
        if named:
            mark = named[1]
        elif line.startswith("#") and not any(one in line for one in MARKS):
            skipped += 1
        else:
            if skipped:
                notes.append(f"{skipped} lines of comments above the rows left out")
            return itertools.chain([(number, line)], lines), mark
    return iter(()), mark


def _mark(sample: Sequence[str], kind: str) -> str:
    """What separates the fields: what does so alike in all lines, a comma or a tab if possible."""
    usual = "," if kind == "csv" else "\t"
    if kind == "tsv" and "\t" in sample[0]:
        return usual
    counts = {mark: _fields(sample, mark) for mark in MARKS}
    alike = [mark for mark in MARKS if len({*counts[mark]}) == 1 and counts[mark][0] > 1]
    # a comma with a blank behind it is of a sentence
    prose = ", " in sample[0] and len(alike) > 1
    if usual in alike and not prose:
        return usual
    others = [mark for mark in alike if mark != usual]
    if others:
        return others[0]
    if counts[usual][0] > 1:
        return usual
    found = {mark: counts[mark][0] for mark in MARKS if counts[mark][0] > 1}
    if found:
        return max(found, key=lambda mark: found[mark])
    return _NO_MARK if kind == "csv" else usual


def _fields(sample: Sequence[str], mark: str) -> list[int]:
    """How many fields rows have with a mark between them."""
    try:
        rows = csv.reader((line + "\n" for line in sample), delimiter=mark)
        counts = [len(row) for row in rows if any(name.strip() for name in row)]
    except csv.Error:
        return [0]
    # a quoted field may go on behind the sample
    return counts[:-1] if len(sample) == SAMPLE and len(counts) > 1 else counts or [0]


def _all_quoted(sample: Sequence[tuple[int, str]]) -> bool:
    """Whether fields of a .tsv that begin with a quote all end with one, and some do."""
    fields = [name for _, line in sample for name in line.split("\t") if name.startswith('"')]
    whole = [name for name in fields if len(name) > 1 and name.endswith('"')]
    doubled = any('""' in name[1:-1] for name in whole)
    return bool(fields) and len(whole) == len(fields) and (doubled or len(fields) >= len(sample))


def _tsv_rows(lines: Iterator[tuple[int, str]]) -> Iterator[Row]:
    for number, line in lines:
        if line.strip():
            yield number, len(line), line.split("\t")  # no quoting: a field may start with a quote


def _csv_rows(path: Path, lines: Iterator[tuple[int, str]], mark: str, start: int) -> Iterator[Row]:
    number = size = 0

    def told() -> Iterator[str]:
        nonlocal number, size
        for at, line in lines:
            number, size = at, size + len(line)
            if size > MOST:
                raise csv.Error(f"more than {MOST >> 20} MB in one row: is a quote not closed?")
            yield line + "\n"

    blank = mark != "\t"  # a, "b"
    try:
        for row in csv.reader(told(), strict=True, delimiter=mark, skipinitialspace=blank):
            if any(name.strip() for name in row):
                yield start, size, row
            start, size = number + 1, 0
    except csv.Error as error:
        what = "comma" if mark == "," else repr(mark)
        raise UserError(
            f"{path}:{start}: broken csv row ({one_line(error)}); quote a field that holds a "
            f"{what}, a quote or a line end, "
            'and write a quote inside it as ""'
        ) from None


def _fitting(path: Path, names: list[str], rows: Iterator[Row], mark: str) -> Iterator[Row]:
    """The rows, without empty fields behind the last column; raises UserError for another width."""
    for line, size, row in rows:
        if len(row) != len(names):
            if len(row) > len(names) and not any(name.strip() for name in row[len(names) :]):
                row = row[: len(names)]
            else:
                hint = (
                    "a field must not hold a tab or a line end"
                    if mark == "\t"
                    else "quote a field that holds a comma or a quote"
                )
                raise UserError(
                    f"{path}:{line}: {len(row)} fields found, {len(names)} expected "
                    f"({listed(names)}); {hint}"
                )
        yield line, size, row


def _require_names(names: list[str], rows: Sequence[Sequence[str]], where: str) -> None:
    """Raises UserError for a first row that is none of names: it is like the rows below it."""
    asked = are_questions(names)
    long = next((name for name in names if len(name) > 60 and not asked), None)
    columns = zip(*(row for row in rows if len(row) == len(names)), strict=True)
    # a class, and not its name; the same row twice is a header that stands twice
    below = [[*column] for column in columns]
    again = next(
        (
            name
            for place, name in enumerate(names)
            if name
            and below
            and any(
                value.strip() == name and [part.strip() for part in row] != names
                for value, row in zip(below[place], rows, strict=False)
            )
        ),
        None,
    )
    address = next((name for name in names if "://" in name or "@" in name), None)
    found = long or (again if len(names) > 1 else None) or address
    if found is not None:
        raise UserError(
            f"{where}: the first row must name the columns; found {one_line(found, 60)!r} (for a "
            "file without such a row give the column's number, --text-column 1)"
        )
