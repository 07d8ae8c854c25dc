"""Labels of words in tables: character spans of a text, and lists of tokens and of tags."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from lookaround.data.tables import Table
from lookaround.data.tagged import TAG_NAMES, Tagged, TaggedPart, counted
from lookaround.data.text_columns import column_texts
from lookaround.data.turns import TEXT_NAMES
from lookaround.support.errors import UserError
from lookaround.support.text import listed, one_line

WORD_COLUMNS = ("tokens", "words", "token", "word", "forms", "form")
SPAN_COLUMNS = ("spans", "entities", "slots", "labels", "label", "annotations")
STARTS = ("start", "begin", "start_char", "start_offset", "startOffset", "from")
ENDS = ("end", "stop", "end_char", "end_offset", "endOffset", "to")
NAMES = ("label", "type", "tag", "entity", "slot", "category", "entity_group", "name")
IGNORED = "-100"  # what loss functions leave out
# scripts that put no blank between words: each character is a word
_SINGLE = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PIECE = re.compile(rf"[{_SINGLE}]|[^\W{_SINGLE}]+|[^\w\s]")


def words_of(text: str) -> list[tuple[int, int]]:
    """(start, end) of each word of a text: a run of letters and digits, or one other character.

    Combining marks and joiners belong to the word in front of them. Ours.
    """
    words: list[tuple[int, int]] = []
    for piece in _PIECE.finditer(text):
        start, end = piece.span()
        if words and words[-1][1] == start:
            marked = _joins(text[start - 1]) and text[start].isalnum()
            if _joins(text[start]) or marked or text[start - 1] == "\u200d":
                words[-1] = (words[-1][0], end)
                continue
        words.append((start, end))
    return words


def _joins(char: str) -> bool:
    return char in "\u200c\u200d" or unicodedata.category(char)[0] == "M"


# ---------------------------------------------------------------------------- spans


def span_column(table: Table, wanted: str | None = None) -> str | None:
    """The column of [start, end, label] lists, or of objects with such fields; None: there is none.

    wanted: the one to look at; None: those of usual names.
    """
    names = SPAN_COLUMNS if wanted is None else (wanted,)
    there = [found for name in names if (found := table.find(name)) is not None]
    return next((name for name in there if _holds_spans(name, table.values(name))), None)


def _holds_spans(name: str, values: Sequence[Any]) -> bool:
    """Whether any of a column's values holds a span; what is none among them is refused later."""
    # a column of labels may hold lists of two numbers
    least = 3 if name.lower() in ("label", "labels") else 2
    return any(
        _is_span(item, least)
        for value in values
        for item in (value if isinstance(value, list) else [value])
    )


def _is_span(item: Any, least: int) -> bool:
    """Whether a value is meant as a span: it begins with two whole numbers, or has a start."""
    if isinstance(item, dict):
        return _field(item, STARTS) is not None
    if not isinstance(item, list | tuple) or not least <= len(item) <= 3:
        return False
    # a list of three numbers is a vector
    named = least < 3 or isinstance(item[2], str)
    return named and all(type(part) is int for part in item[:2])


def _field(span: dict[str, Any], names: Sequence[str]) -> Any:
    return next((span[name] for name in names if span.get(name) is not None), None)


def read_spans(table: Table, wanted: str | None) -> TaggedPart:
    """Texts with spans as words with BIO tags.

    wanted: the column of spans; None: the first of a usual name.

    A span that cuts a word is moved to the word's edges. Raises UserError with file and line for a
    span without numbers or a label, outside of its text, empty, or over another one.
    """
    column = wanted or span_column(table) or ""
    text_name = next((found for name in TEXT_NAMES if (found := table.find(name))), None)
    if text_name is None:
        raise UserError(
            f"{table.source}: spans in {column!r}, but no text column; it has "
            f"{listed(list(table.columns))}; call it 'text'"
        )
    sentences = []
    moved = lost = empty = 0
    # spans count characters of the text as it stands in the file
    values = table.values(column)
    for row, text in enumerate(column_texts(table, text_name, raw=True)):
        words = words_of(text)
        spans = _spans(table, row, column, text, values[row])
        if not words:
            empty += 1
            continue
        tags = ["O"] * len(words)
        for start, end, label in spans:
            inside = [
                i for i, (a, b) in enumerate(words) if a < end and b > start and tags[i] == "O"
            ]
            if not inside:
                lost += 1
                continue
            first, last = words[inside[0]][0], words[inside[-1]][1]
            trimmed = text[start:end]
            left = start + len(trimmed) - len(trimmed.lstrip())
            moved += (first, last) != (left, left + len(trimmed.strip()))
            for i in inside:
                tags[i] = f"{'B' if i == inside[0] else 'I'}-{label}"
        text, words = _with_line_ends(text, words)
        sentences.append(Tagged(text, tuple(words), tuple(tags), table.where(row)))
    name = table.source.rpartition("/")[2]
    notes = counted(empty, "empty text", f"dropped from {name}")
    notes += counted(moved, "span", f"of {name} cut a word: moved to the word's edges")
    notes += counted(lost, "span", f"of {name} dropped: no word of their own")
    return TaggedPart(table.source, [text_name, column], sentences, notes)


def _with_line_ends(text: str, words: list[tuple[int, int]]) -> tuple[str, list[tuple[int, int]]]:
    r"""A text with \n line ends, and the places in it of words found with \r\n."""
    if "\r\n" not in text:
        return text, words
    gone = [found.start() for found in re.finditer("\r\n", text)]
    return text.replace("\r\n", "\n"), [
        (start - bisect_left(gone, start), end - bisect_left(gone, end)) for start, end in words
    ]


def _spans(
    table: Table, row: int, column: str, text: str, value: Any
) -> list[tuple[int, int, str]]:
    """The spans of a row's `value`."""
    spans = []
    where = table.where(row)
    for span in value if isinstance(value, list) else [value] if value is not None else []:
        if isinstance(span, dict):
            parts = [_field(span, names) for names in (STARTS, ENDS, NAMES)]
        else:
            parts = list(span) if isinstance(span, list | tuple) else []
        whole = len(parts) == 3 and all(type(part) is int for part in parts[:2])
        if not whole or not isinstance(parts[2], str) or not parts[2].strip():
            other = next((name for name in ("label", "intent", "class") if table.find(name)), "")
            raise UserError(
                f"{where}: span {one_line(span, 60)} in column {column!r}; give "
                "[start, end, label] in characters"
                + f", or ':{other}' behind the path for the labels of texts"
                * bool(other)
            )
        start, end, label = parts
        if end < start:
            raise UserError(
                f"{where}: span {one_line(span, 60)} in column {column!r} ends before it starts; "
                "give [start, end, label], the end not included"
            )
        if not 0 <= start <= end <= len(text):
            raise UserError(
                f"{where}: span {one_line(span, 60)} is outside of its text of {len(text)} "
                "characters; count characters from 0, the end not included"
            )
        if start == end:
            raise UserError(
                f"{where}: span {one_line(span, 60)} is empty; give one with characters"
            )
        spans.append((start, end, label.strip()))
    spans.sort()
    for first, second in pairwise(spans):
        if second[0] < first[1]:
            raise UserError(
                f"{where}: spans {list(first)} and {list(second)} overlap; give each word one label"
            )
    return spans


# ---------------------------------------------------------------------------- lists


def has_lists(table: Table, wanted: str | None = None) -> bool:
    """Whether a table has lists of words, and lists that can be their labels.

    wanted: the column of labels; None: any of a usual name, or none where there is no text either,
        which `read_lists` refuses.
    """
    words = _word_column(table)
    if words is None:
        return False
    if wanted is not None:
        return _lists(table.values(table.find(wanted) or wanted), str, int)
    texts = any(table.find(name) for name in TEXT_NAMES)
    return bool(_usual(_label_columns(table, words))) or not texts


def _word_column(table: Table) -> str | None:
    named = [found for name in WORD_COLUMNS if (found := table.find(name)) is not None]
    return next((name for name in named if _lists(table.values(name), str)), None)


def _label_columns(table: Table, words: str) -> list[str]:
    return [
        name
        for name in table.columns
        if name != words and name not in table.not_text and _lists(table.values(name), str, int)
    ]


def _usual(names: Sequence[str]) -> list[str]:
    return [name for name in names if TAG_NAMES.fullmatch(name)]


def _lists(values: Sequence[Any], *kinds: type) -> bool:
    """Whether half at least of a column's values are lists of these kinds, gaps let pass.

    What is none among them is refused later, with its line.
    """
    first = [value for value in values[:1000] if value is not None]
    right = sum(
        isinstance(value, list)
        and all(item is None or isinstance(item, (*kinds, float)) for item in value)
        for value in first
    )
    holds = any(
        isinstance(item, kinds) for value in first if isinstance(value, list) for item in value
    )
    return holds and 2 * right >= len(first)


def read_lists(table: Table, wanted: str | None) -> TaggedPart:
    """Lists of words with lists of tags; numbers that a dataset has names for are named.

    wanted: the column of tags; None: the last one of a usual name, else the last one.

    Raises UserError with file and line for lists of unequal length, and for a column that is not
    there.
    """
    words = _word_column(table) or ""
    there = _label_columns(table, words)
    column = table.find(wanted or next(reversed(_usual(there) or there), ""))
    if column is None or column == words:
        raise UserError(
            f"{table.source}: words in {words!r}, but no list of labels for them; it has "
            f"{listed(list(table.columns))}; call it 'tags'"
        )
    names = table.classes.get(column, ())
    sentences = []
    empty = ignored = bare = 0
    rows = zip(table.values(words), table.values(column), strict=True)
    for row, (forms, tags) in enumerate(rows):
        where = table.where(row)
        forms, tags = forms or [], tags or []
        if not isinstance(forms, list) or not isinstance(tags, list) or len(forms) != len(tags):
            counts = [len(part) if isinstance(part, list) else 0 for part in (forms, tags)]
            raise UserError(
                f"{where}: {counts[0]} words in {words!r} but {counts[1]} labels in {column!r}; "
                "give each word one"
            )
        if not forms:
            empty += 1
            continue
        text, places, named = "", [], []
        for form, tag in zip(forms, tags, strict=True):
            if not isinstance(form, str) or not form.strip():
                raise UserError(
                    f"{where}: word {one_line(form, 60)!r} in column {words!r}, with label "
                    f"{one_line(tag, 60)!r}; give words with letters or signs"
                )
            if type(tag) not in (str, int) or tag == "":
                found = (
                    "no label"
                    if tag in (None, "")
                    else f"label {one_line(tag, 60)} (a {type(tag).__name__})"
                )
                raise UserError(
                    f"{where}: {found} in column {column!r} for word {one_line(form, 60)!r}; give "
                    "a name or a whole number (-100: to be left out)"
                )
            text += " " * bool(text) + form
            if str(tag) == IGNORED:
                ignored += 1
                continue
            places.append((len(text) - len(form), len(text)))
            known = isinstance(tag, int) and 0 <= tag < len(names)
            named.append(names[tag] if known else str(tag))
        _check_writable(text, where)
        bare += not places
        if places:
            sentences.append(Tagged(text, tuple(places), tuple(named), where))
    name = table.source.rpartition("/")[2]
    notes = counted(empty, "empty sentence", f"dropped from {name}")
    notes += counted(ignored, "word", f"of {name} left out: the label {IGNORED} is none")
    notes += counted(bare, "sentence", f"of {name} dropped: no word with a label")
    return TaggedPart(table.source, [words, column], sentences, notes)


def _check_writable(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{where}: a word holds half a surrogate pair; remove it") from None
