"""Sentences with a label for every word, as their files have them."""

from __future__ import annotations

import re
from dataclasses import dataclass

TAG_NAMES = re.compile(
    r"(.*[-_ ])?(tags?|labels?|ner|pos|chunks?|upos|xpos|deprel|slots?|entities|entity)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Tagged:
    """A sentence before its labels become indices.

    words: (start, end) of each word in characters of the text.
    tags: the label of each word.
    where: "file:line" of its beginning.
    document: number of its document in the file.
    """

    text: str
    words: tuple[tuple[int, int], ...]
    tags: tuple[str, ...]
    where: str
    document: int = 0


@dataclass(frozen=True)
class TaggedPart:
    """The sentences of one file.

    columns: those that were read, the label's last.
    notes: what was left out or decided.
    at: indices of the columns of words and of labels, of a file whose columns are counted.
    """

    source: str
    columns: list[str]
    sentences: list[Tagged]
    notes: list[str]
    at: tuple[int, int] | None = None


def counted(count: int, thing: str, rest: str) -> list[str]:
    """A note such as "2 words dropped" in a list, which is empty for a count of 0."""
    return [f"{count:,} {thing}{'s' * (count != 1)} {rest}"] if count else []
