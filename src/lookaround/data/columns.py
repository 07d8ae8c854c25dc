"""What the columns of a file of words hold: names in a first row, numbers, words and tags."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from lookaround.data.tagged import TAG_NAMES

WORD_NAMES = (
    *("word", "words", "token", "tokens", "form", "forms", "text", "surface"),
    *("wort", "wörter", "mot", "mots", "palabra", "parola"),
)
NUMBER_NAMES = (
    *("#", "id", "idx", "index", "no", "nr", "num", "number", "position", "sentence", "sent"),
    *("sent_id", "sentence_id", "sentence_idx", "word_id", "token_id", "doc_id", "document"),
)
_OTHERS = (
    *("lemma", "lemmas", "category", "class", "type", "feats", "head", "deps", "misc", "dep"),
    *("postag", "nertag", "iob", "bio", "intent", "role", "sense", "srl"),
)
_NUMBER = re.compile(r"([0-9]+)[.)]?")
_NUMBERED = re.compile(r"[0-9]+([-.][0-9]+)?[.)]?")
_SPAN_TAG = re.compile(r"O|[BIESLUM][-_].+")
SHARE = 0.9
# words have more different values than labels; so many times fewer are asked about. Ours
FEWER = 5

Row = tuple[int, Sequence[str]]  # (line, fields)


def plain_name(field: str) -> str:
    return field.strip().lstrip("#").strip().lower() or field


def is_header(fields: Sequence[str], first: bool = False) -> bool:
    """Whether a row names the columns, a word's among them.

    first: whether it is the first of its file; then a number's name does for a word's, and names
        between the first and the last may be any.
    """
    # most rows are words, and their labels no names
    if not first and not _is_name(fields[-1]):
        return False
    names = [plain_name(field) for field in fields]
    if first and names[0] in WORD_NAMES + NUMBER_NAMES and is_label_name(names[-1]):
        return True
    known = all(map(_is_name, fields))
    return known and (first or any(name in WORD_NAMES for name in names))


@lru_cache(10_000)
def _is_name(field: str) -> bool:
    name = plain_name(field)
    return name in WORD_NAMES + NUMBER_NAMES + _OTHERS or is_label_name(name)


def is_label_name(name: str) -> bool:
    return TAG_NAMES.fullmatch(name) is not None


def are_numbers(sentences: Sequence[Sequence[Row]], column: int, *, grow: bool = False) -> bool:
    """Whether a column numbers words or sentences: it grows by one, or stays, within sentences.

    grow: whether it must grow.

    Sentences of one word say nothing: "1" may be the word.
    """
    values = [[row[column] for _, row in rows] for rows in sentences]
    total = sum(map(len, values))
    if sum(value[:1].isdigit() for part in values for value in part) < SHARE * total:
        return False
    numbers = sum(_NUMBERED.fullmatch(value) is not None for part in values for value in part)
    if numbers < SHARE * total:
        return False
    steps = [
        int(last[1]) - int(first[1])
        for part in values
        for first, last in pairwise(map(_NUMBER.fullmatch, part))
        if first and last
    ]
    most = steps.count(1) if grow else max(steps.count(0), steps.count(1))
    return len(steps) > 1 and most >= SHARE * len(steps)


def is_constant(sentences: Sequence[Sequence[Row]], column: int) -> bool:
    """Whether all words of each sentence have the same in a column, such as the document's name."""
    several = [rows for rows in sentences if len(rows) > 2]
    return bool(several) and all(len({row[column] for _, row in rows}) == 1 for rows in several)


def not_a_number(sentences: Sequence[Sequence[Row]], column: int) -> Row | None:
    """The first row that does not number its word."""
    rows = (row for rows in sentences for row in rows)
    return next((row for row in rows if not _NUMBER.fullmatch(row[1][column])), None)


def are_span_tags(sentences: Sequence[Sequence[Row]], column: int) -> bool:
    values = {row[column] for rows in sentences for _, row in rows}
    return len(values) > 1 and all(_SPAN_TAG.fullmatch(value) for value in values)


def different(sentences: Sequence[Sequence[Row]], column: int) -> int:
    return len({row[column] for rows in sentences for _, row in rows})
