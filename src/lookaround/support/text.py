"""Text for messages and terminals: no control characters, one line, cut where it is long."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from typing import Any

# control characters but for tab and line end, what turns the direction of a line, and halves of
# surrogate pairs, which stand for the bytes of names that are not UTF-8
UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MESSAGE = 400  # characters of a message


def printable(text: object) -> str:
    """Text as a terminal may have it: control characters are written out, such as \\x1b."""
    return UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def one_line(message: object, limit: int = 160) -> str:
    """Return `message` as one line of at most `limit` characters (for use inside an error)."""
    text = " ".join(str(message).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def counted(number: int, noun: str) -> str:
    """ "1 document", "2,000 documents", "10 classes"."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{plural * (number != 1)}"


def listed(names: Sequence[str], limit: int = 12) -> str:
    """Return `names` as one comma-separated string, cut after `limit` of them."""
    shown = ", ".join(repr(one_line(name, 60)) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def shown(value: Any) -> str:
    """The repr of a value, cut where it is long or deep."""
    short = reprlib.Repr()
    short.maxstring = short.maxlong = short.maxother = 60
    short.maxlevel = 3
    try:
        text = short.repr(value)
    except (ValueError, RecursionError):  # a number of very many digits
        return f"a very long {type(value).__name__}"
    return text if len(text) <= 160 else text[:157] + "..."


def message_line(message: object) -> str:
    """A message as it is printed: one line, printable; a long one is cut in its middle, since it
    begins with the place of the error and ends with what would be right.
    """
    text = printable(" ".join(str(message).split()))
    half = _MESSAGE // 2
    return text if len(text) <= _MESSAGE else f"{text[:half]} ... {text[-half:]}"
