"""Where one document of a text ends and the next begins."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

from lookaround.data.files import lines_of
from lookaround.support.errors import UserError
from lookaround.support.text import one_line

# what generators of text write between documents
MARKS = ("<|endoftext|>", "<|end_of_text|>")
# what may stand between documents, or belong to their text
NOTICED = (*MARKS, "</s>", "<eos>", "<|eot_id|>", "<|im_end|>", "\f")
# WikiExtractor: <doc id="12" url=".." title=".."> and </doc> on lines of their own
_WIKI = re.compile(r"\s*<doc [^>\n]*>\s*\n")
# WikiText: the title of an article, and not of a section
_TITLE = re.compile(r"\s*= [^=](.*[^=])? =\s*")
WAYS = ("blank", "line", "file", "wiki", "titles")
# what people write for them
_ALIKE = {
    **{"lines": "line", "newline": "line", "paragraph": "blank", "paragraphs": "blank"},
    **{"blanks": "blank", "none": "file", "files": "file", "document": "file"},
}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[nrtf\\])")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "\\": "\\"}


def separator_of(given: str | None) -> str | None:
    """A separator as it is used; raises UserError for one that cannot be.

    Its escapes are those of \\n, \\t, \\f, \\r, \\xNN and the backslash; a number may have a "k" or
    commas.
    """
    if given is None:
        return None
    word = given.strip().lower()
    word = _ALIKE.get(word, word)
    if word in WAYS:
        return word
    number = re.fullmatch(r"([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,12})(k?)", word)
    if number:
        size = int(number[1].replace(",", "")) * (1000 if number[2] else 1)
        if size:
            return str(size)
    mark = _ESCAPE.sub(
        lambda found: _ESCAPED.get(found[1]) or chr(int(found[1][1:], 16)), given
    ).replace("\r\n", "\n")
    if not mark or not mark.strip(" ") or re.fullmatch(r"-?[0-9]+k?", word) or len(mark) > 1000:
        raise UserError(
            f"data.separator: {one_line(given, 60)!r} separates nothing; give {', '.join(WAYS)}, a "
            "number of characters from 1, or a mark such as <|endoftext|> or \\n\\n"
        )
    return mark


def is_mark(separator: str) -> bool:
    """Whether a separator is a mark in the text."""
    return separator not in WAYS and not separator.isdecimal()


def found_separator(begin: str, whole: bool) -> str:
    """How a text is cut where nobody said it, by its first piece.

    whole: whether its name says that it is one document.
    """
    if whole:
        return "file"
    for mark in MARKS:
        # once within a line, it is spoken of
        if begin.count(mark) > 1 or re.search(rf"^{re.escape(mark)}\s*$", begin, re.MULTILINE):
            return mark
    if _WIKI.match(begin):
        return "wiki"
    first = begin.lstrip("\n ").partition("\n")[0]
    return "titles" if _TITLE.fullmatch(first) and begin.startswith((" ", "\n")) else "blank"


def documents_in(chunks: Iterator[str], separator: str) -> Iterator[str]:
    """The documents of a text in pieces, some of them empty.

    separator: "blank" (lines between them), "line" (each is one), "file" (all is one), "wiki"
        (WikiExtractor's <doc>), "titles" (WikiText's " = Title = "), a number (pieces of so many
        characters, cut at line ends), or the mark that stands between them.
    """
    if separator == "file":
        yield "".join(chunks)
    elif separator == "line":
        yield from (line.strip() for _, line in lines_of(chunks))
    elif separator == "blank":
        yield from _between_lines(chunks, lambda line: not line.strip(), drop=True)
    elif separator == "titles":
        yield from _between_lines(chunks, lambda line: _TITLE.fullmatch(line) is not None)
    elif separator == "wiki":
        yield from _wiki(chunks)
    elif separator.isdecimal():
        yield from _pieces(chunks, int(separator))
    else:
        yield from (text.strip() for text in _between_marks(chunks, separator))


def _between_lines(
    chunks: Iterator[str], begins: Callable[[str], bool], drop: bool = False
) -> Iterator[str]:
    """The documents between lines of a kind, which belong to what follows them unless dropped."""
    held: list[str] = []
    for _, line in lines_of(chunks):
        if begins(line):
            if held:
                yield "\n".join(held).strip()
            held = [] if drop else [line]
        else:
            held.append(line)
    yield "\n".join(held).strip()


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
        if line.startswith("<doc ") and line.rstrip().endswith(">"):
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
