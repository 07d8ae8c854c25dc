"""Where one document of a text ends and the next begins."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from lookaround.data.files import lines_of

# what generators of text write between documents
MARKS = ("<|endoftext|>", "<|end_of_text|>")
# WikiExtractor: <doc id="12" url=".." title=".."> and </doc> on lines of their own
_WIKI = re.compile(r'<doc id="[^"\n]*"[^\n]*>\n')
_BLANK = re.compile(r"\n(?:[^\S\n]*\n)+")


def found_separator(begin: str, whole: bool) -> str:
    """How a text is cut where nobody said it, by its first piece.

    whole: whether its name says that it is one document.
    """
    mark = next((mark for mark in MARKS if mark in begin), None)
    if mark is not None:
        return mark
    if _WIKI.match(begin):
        return "wiki"
    return "file" if whole else "blank"


def documents_in(chunks: Iterator[str], separator: str) -> Iterator[str]:
    """The documents of a text in pieces, some of them empty.

    separator: "blank" (lines between them), "line" (each is one), "file" (all is one), "wiki"
        (WikiExtractor's <doc>), a number (pieces of so many characters, cut at line ends), or the
        mark that stands between them.
    """
    if separator == "file":
        yield "".join(chunks)
    elif separator == "line":
        yield from (line.strip() for _, line in lines_of(chunks))
    elif separator == "blank":
        yield from (text.strip() for text in _between_blank_lines(chunks))
    elif separator == "wiki":
        yield from _wiki(chunks)
    elif separator.isdecimal():
        yield from _pieces(chunks, int(separator))
    else:
        yield from (text.strip() for text in _between_marks(chunks, separator))


def _between_blank_lines(chunks: Iterator[str]) -> Iterator[str]:
    held: list[str] = []  # of the document at hand
    for block in _blocks(chunks):
        first, *rest = _BLANK.split(block)
        held.append(first)
        if rest:
            yield "".join(held)
            yield from rest[:-1]
            held = [rest[-1]]
    yield "".join(held)


def _blocks(chunks: Iterator[str]) -> Iterator[str]:
    """The same text cut in front of lines that are not blank, so that no separator is cut."""
    held: list[str] = []
    for chunk in chunks:
        text = (held.pop() if held and held[-1][-1:].isspace() else "") + chunk
        cut = text.rfind("\n")
        while cut >= 0 and not text[cut + 1 :].strip():
            cut = text.rfind("\n", 0, cut)
        if cut < 0:
            held.append(text)
            continue
        yield "".join([*held, text[: cut + 1]])
        held = [text[cut + 1 :]]
    yield "".join(held)


def _between_marks(chunks: Iterator[str], mark: str) -> Iterator[str]:
    held: list[str] = []
    carry = ""
    for chunk in chunks:
        first, *rest = (carry + chunk).split(mark)
        if rest:
            yield "".join([*held, first])
            yield from rest[:-1]
            held, first = [], rest[-1]
        # a part of the next mark, maybe
        keep = min(len(first), len(mark) - 1)
        carry = first[len(first) - keep :]
        held.append(first[: len(first) - keep])
    yield "".join([*held, carry])


def _wiki(chunks: Iterator[str]) -> Iterator[str]:
    held: list[str] = []
    for _, line in lines_of(chunks):
        if line.startswith("<doc ") and line.endswith(">"):
            continue
        if line.strip() == "</doc>":
            yield "\n".join(held).strip()
            held = []
        else:
            held.append(line)
    yield "\n".join(held).strip()


def _pieces(chunks: Iterator[str], size: int) -> Iterator[str]:
    held: list[str] = []
    length = 0
    for _, line in lines_of(chunks):
        for begin in range(0, max(1, len(line)), size):
            part = line[begin : begin + size]
            if held and length + len(part) > size:
                yield "\n".join(held).strip()
                held, length = [], 0
            held.append(part)
            length += len(part) + 1
    yield "\n".join(held).strip()


def peeked(chunks: Iterator[str]) -> tuple[str, Iterator[str]]:
    """(the first piece, all of them)."""
    first = next(chunks, "")
    return first, itertools.chain([first], chunks)
