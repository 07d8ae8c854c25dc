"""The text of a value in a table: a string, a list of strings, or a conversation."""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

TEXT_NAMES = (
    "text",
    "content",
    "document",
    "body",
    "sentence",
    "abstract",
    "article",
    "passage",
    "paragraph",
    "story",
    "review",
    "message",
    "utterance",
    "code",
    "value",
)
# columns of conversations
CHAT_NAMES = (
    *("messages", "conversations", "conversation", "dialog", "dialogue", "turns", "chat"),
    *("contents", "utterances", "mapping", "history"),
)
# columns that make up one text: what is asked, and what is answered
RECORDS = (
    ("instruction", "input", "output"),
    ("instruction", "context", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("question", "answer"),
)
# of a turn: who speaks, and what kind of turn it is
_ABOUT_TURN = frozenset(
    ("role", "from", "type", "speaker", "author", "sender", "id", "name", "tool_call_id")
)
# where a part of a turn, or a turn that holds parts, has its text
_IN_PARTS = ("text", "content", "parts", "value")
# of a turn that holds two sides, and of its first place where it is a list
_SPEAKERS = frozenset(
    (
        *("user", "assistant", "human", "gpt", "bot", "system", "model", "agent", "customer"),
        *("question", "answer", "prompt", "response", "instruction", "input", "output"),
        *("prompter", "tool", "developer", "function", "u", "s", "a", "q"),
    )
)


# of a turn: the turns that answer it
_ANSWERS = ("replies", "children")


class NotText(Exception):
    """Row `row` of a column holds `value`, which is neither text nor a list of texts."""

    def __init__(self, row: int, value: object) -> None:
        self.row, self.value = row, value


@dataclass(frozen=True)
class Turns:
    """How the conversations of a column are read, found by some of its values.

    key: the field of turns that are objects, where they have none of a usual name.
    places: those of turns that are lists; None: all.
    encoded: whether values are lists in strings.
    """

    key: Any = None
    places: frozenset[int] | None = None
    encoded: bool = False


def turns_of(values: Sequence[Any]) -> Turns:
    """How conversations are read; raises NotText for a value that is no text, list or conversation.

    Of turns that are objects a usual name is the text, else the field with the most characters over
    all turns; of turns that are lists alike, those places that hold words and not just who speaks
    (ours).
    """
    encoded = _is_encoded(values)
    fields: Counter[Any] = Counter()
    places: dict[int, list[str]] = {}
    lengths = set()
    for value in _turns_in(values, encoded):
        for turn in value:
            if isinstance(turn, dict):
                for key, text in _fields(turn):
                    fields[key] += len(text)
            elif isinstance(turn, list):
                lengths.add(len(turn))
                for place, field in enumerate(turn):
                    if (said := _said(field)) is not None:
                        places.setdefault(place, []).append(said)
    key = max(fields, key=lambda name: (fields[name], str(name)), default=None)
    # lists of several lengths are records only where they begin with who speaks
    records = len(lengths) == 1 or _are_speakers(places.get(0, []))
    return Turns(key, _spoken(places) if records else None, encoded)


def _are_speakers(said: list[str]) -> bool:
    """Whether a place of turns tells who speaks."""
    return all(text.strip().lower() in _SPEAKERS or not text.strip() for text in said)


def _spoken(places: dict[int, list[str]]) -> frozenset[int] | None:
    """The places of turns that hold words; where none does, the one with the most characters."""
    left = {place: said for place, said in places.items() if not _are_speakers(said)} or places
    words = [
        place
        for place, said in left.items()
        if sum(" " in text.strip() for text in said) > len(said) / 10
    ]
    if words or not left:
        return frozenset(words) or None
    return frozenset([max(left, key=lambda place: (sum(map(len, left[place])), place))])


def _is_encoded(values: Sequence[Any]) -> bool:
    """Whether strings hold conversations as JSON: all of the first ones do."""
    first = [value for value in values[:50] if isinstance(value, str) and value.strip()][:20]
    return bool(first) and all(_decoded(value) is not None for value in first)


def _decoded(value: str) -> list[Any] | None:
    """The turns that a string of JSON, or of Python's, holds; None: it is other text."""
    if not value.lstrip().startswith(("[{", "[[")):
        return None
    for read in (json.loads, ast.literal_eval):  # JSON, or what Python prints
        try:
            turns = read(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(turns, list) and all(isinstance(turn, dict | list) for turn in turns):
            return turns
    return None


def _turns_in(values: Sequence[Any], encoded: bool) -> list[list[Any]]:
    """The values that are conversations; raises NotText for what is none and no text."""
    return [
        turns
        for row, value in enumerate(values)
        if isinstance(turns := _as_turns(row, value, encoded), list)
    ]


def _as_turns(row: int, value: Any, encoded: bool) -> list[Any] | str | None:
    """A value as its turns, or as the text that it is; raises NotText."""
    if value is None or value != value:
        return None
    if isinstance(value, str):
        return (_decoded(value) or value) if encoded else value
    if isinstance(value, dict):
        # one turn, or turns by their number or name
        if _ABOUT_TURN & {*value} and any(name in value for name in _IN_PARTS):
            return [value]
        inner = list(value.values())
        if len(inner) > 1 and all(isinstance(turn, dict) for turn in inner):
            return inner
        raise NotText(row, value)
    if isinstance(value, list) and all(
        isinstance(turn, str | list | dict | None) for turn in value
    ):
        return value
    raise NotText(row, value)


def flatten(values: Sequence[Any], turns: Turns | None = None) -> list[str]:
    """One text per value: itself, a joined list of strings, or what a conversation's turns say.

    turns: how conversations are read; None: by these values.

    Of a turn that holds parts the texts are joined; images, calls of tools and who speaks are no
    text. None and NaN become "". Raises NotText for anything else.
    """
    found = turns or turns_of(values)
    texts = []
    for row, value in enumerate(values):
        said = _as_turns(row, value, found.encoded)
        if isinstance(said, list):
            every = (answer for turn in said for answer in _with_answers(turn))
            said = "\n".join(filter(None, (_of_turn(turn, found) for turn in every)))
        texts.append(said or "")
    return texts


def _with_answers(turn: Any) -> Iterator[Any]:
    """A turn, and those of the tree of answers to it, each in front of its own answers."""
    left = [turn]
    while left:
        turn = left.pop()
        yield turn
        if isinstance(turn, dict):
            answers = next((turn[name] for name in _ANSWERS if name in turn), None)
            if isinstance(answers, list):
                left += [answer for answer in reversed(answers) if isinstance(answer, dict)]


def _of_turn(turn: Any, turns: Turns) -> str:
    """What is said in a turn."""
    if isinstance(turn, dict):
        said = dict(_fields(turn))
        usual = next((name for name in (*TEXT_NAMES, "parts") if said.get(name)), None)
        if usual is not None:
            return said[usual]
        sides = [text for name, text in said.items() if str(name).lower() in _SPEAKERS and text]
        return "\n".join(sides) or said.get(turns.key, "")
    if isinstance(turn, list):
        kept = [
            _said(field)
            for place, field in enumerate(turn)
            if turns.places is None or place in turns.places
        ]
        return "\n".join(filter(None, kept))
    return turn or ""


def _fields(turn: dict[Any, Any]) -> list[tuple[Any, str]]:
    """(key, text) of what may be said in a turn."""
    pairs = [(key, field) for key, field in turn.items() if key not in _ABOUT_TURN]
    return [(key, said) for key, field in pairs if (said := _said(field)) is not None]


def _said(field: Any, depth: int = 4) -> str | None:
    """The text of a field of a turn: a string, or the texts of its parts; None: it is no text."""
    if isinstance(field, str) or not depth:
        return field if isinstance(field, str) else None
    if isinstance(field, list):
        parts = [_said(part, depth - 1) for part in field]
        return "\n".join(part for part in parts if part) if field else None
    if isinstance(field, dict):
        inner = (_said(field[name], depth - 1) for name in _IN_PARTS if name in field)
        return next((said for said in inner if said is not None), "")
    return None
