"""Labels of texts as tables have them: what each is, which mean the same, which mean none."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from lookaround.data.tables import Table
from lookaround.support.errors import UserError
from lookaround.support.text import one_line

NONE = "-1"  # how `datasets` writes that a text has no label
# what else may stand for none: told, and none where a part holds nothing else
NOTHING = ("-", "?", "nan", "none", "null", "n/a", "na", "\\n", "-100")
_TRUTHS = (("true", "false"), ("yes", "no"), ("1", "0"))
_MARKS = str.maketrans({"_": " ", "-": " ", "\u200b": None, "\ufeff": None, "\u2019": "'"})
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
# a list as Python and numpy print it
_ITEM = r"'([^']*)'|\"([^\"]*)\"|(-?[0-9][0-9.]*)"
_PLAIN_ITEM = re.sub(r"\((?!\?)", "(?:", _ITEM)
_ITEMS = re.compile(rf"(?:{_PLAIN_ITEM})(?:(?:\s*,\s*|\s+)(?:{_PLAIN_ITEM}))*")


def labels_in(
    table: Table, column: str, rows: Sequence[int], no_label: Sequence[str], names: Sequence[str]
) -> list[str | None]:
    """The label of each row; None where it stands for none. Raises UserError with file and line.

    Where no row has one, all are None.
    """
    values = table.values(column)
    if rows and all(_is_missing(_lone(values[row])) for row in rows):
        return [None] * len(rows)
    none = {alike(label) for label in no_label}
    labels: list[str | None] = []
    for row in rows:
        value = _lone(values[row])
        if _is_missing(value):
            if "" in no_label:
                labels.append(None)
                continue
            raise UserError(
                f"{table.where(row)}: no label in column {column!r}; give every text one, or leave "
                "such rows out (--no-label '')"
            )
        if isinstance(value, list):
            raise UserError(
                f"{table.where(row)}: {len(value)} labels in column {column!r} "
                f"({one_line(value, 60)}); give each text one"
            )
        if not isinstance(value, str | int | float | Decimal | date):
            raise UserError(
                f"{table.where(row)}: label {one_line(value, 60)} in column {column!r} is a "
                f"{type(value).__name__}; give a name or number"
            )
        if isinstance(value, bool):
            label = str(value).lower()  # as JSON and CSV have it
        elif isinstance(value, int) and 0 <= value < len(names):
            label = names[value]
        else:
            label = str(value).strip()
        # a whole number that passed through a float column
        if re.fullmatch(r"-?[0-9]+\.[0-9]+", label) and float(label).is_integer():
            label = label.partition(".")[0]
        labels.append(None if label in no_label or alike(label) in none else label)
    return labels


def _lone(value: Any) -> Any:
    """What a list of one, or a text that spells a list, holds; lists of several stay."""
    if isinstance(value, str) and value[:1] == "[" and value[-1:] == "]" and len(value) < 1000:
        inner = value[1:-1].strip().removesuffix(",")
        if not inner or _ITEMS.fullmatch(inner):
            value = [a or b or c for a, b, c in re.findall(_ITEM, inner)]
    while isinstance(value, list) and len(value) < 2:
        value = value[0] if value else None
    return value


def _is_missing(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def alike(label: str) -> object:
    """What labels that mean the same have in common: numbers, or words but for case and marks."""
    if NUMBER.fullmatch(label):
        return float(label)
    plain = unicodedata.normalize("NFKC", label).translate(_MARKS)
    return " ".join(plain.split()).casefold()


def spellings(labels: Iterable[str]) -> dict[object, list[str]]:
    """{what they have in common: labels}."""
    found: defaultdict[object, list[str]] = defaultdict(list)
    for label in labels:
        found[alike(label)].append(label)
    return found


def truths(known: set[str]) -> Iterator[tuple[str, str]]:
    """(another spelling, label) of two labels that are yes and no."""
    for yes, no in _TRUTHS:
        plain = {label.casefold(): label for label in known}
        if {*plain} == {yes, no}:
            for other_yes, other_no in _TRUTHS:
                yield from ((other_yes, plain[yes]), (other_no, plain[no]))


def require_same_start(train: set[str], test: set[str], source: str) -> None:
    """Raises UserError where labels of the test part count from 0 and those of training from 1."""
    parts = [
        {int(x) for x in part} if all(map(str.isdecimal, part)) else {-1} for part in (train, test)
    ]
    if all(min(part) >= 0 for part in parts):
        low, high = sorted(parts, key=min)
        count = len(low)
        if count > 2 and low == {*range(count)} and high == {*range(1, count + 1)}:
            raise UserError(
                f"{source}: labels of the test part are {min(parts[1])} to {max(parts[1])}, those "
                f"of the training part {min(parts[0])} to {max(parts[0])}; count both from the "
                "same number"
            )


def doubtful_classes(count: Mapping[str, int]) -> list[str]:
    """Notes on classes that may be one, or several."""
    notes = []
    alike = [found for found in spellings(count).values() if len(found) > 1]
    if alike:
        pairs = ", ".join(" and ".join(map(repr, sorted(found)[:3])) for found in alike[:3])
        notes.append(f"labels that differ in spelling are classes of their own: {pairs}")
    several = [
        label
        for label in count
        for mark in (";", "|", ",")
        if mark in label and all(part.strip() in count for part in label.split(mark))
    ]
    if several:
        notes.append(
            f"{several[0]!r} is a class of its own, though its parts are classes; give each text "
            "one label"
        )
    return notes


def rank(label: str) -> tuple[bool, int, str]:
    number = re.fullmatch(r"-?[0-9]{1,18}", label)
    return (number is None, int(label) if number else 0, label)
