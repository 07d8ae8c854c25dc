"""The text of a value in a table: a string, a list of strings, or a conversation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
# of a turn: who speaks, and what kind of turn it is
_NO_TEXT = frozenset(
    ("role", "from", "type", "speaker", "author", "sender", "id", "name", "tool_call_id")
)
# where a part of a turn, or a turn that holds parts, has its text
_IN_PARTS = ("text", "content", "parts", "value")


class NotText(Exception):
    """Row `row` of a column holds `value`, which is neither text nor a list of texts."""

    def __init__(self, row: int, value: object) -> None:
        self.row, self.value = row, value


def turn_key(values: Sequence[Any]) -> Any:
    """The field (key or position) of the turns of conversations that holds what is said.

    One of a usual name, else the one with the most characters over all turns (ours); None where
    there are no turns. Raises NotText for a value that is no text, list or conversation.
    """
    totals: Counter[Any] = Counter()
    for row, value in enumerate(values):
        if value is None or isinstance(value, str):
            continue
        if not isinstance(value, list) or not all(
            isinstance(turn, str | list | dict | None) for turn in value
        ):
            raise NotText(row, value)
        for turn in value:
            for key, said in _fields(turn):
                totals[key] += len(said)
    usual = [name for name in (*TEXT_NAMES, "parts") if totals[name]]
    return usual[0] if usual else max(totals, key=lambda key: (totals[key], str(key)), default=None)


def flatten(values: Sequence[Any], key: Any = None) -> list[str]:
    """One text per value: itself, a joined list of strings, or what a conversation's turns say.

    key: the field of a turn that is taken (`turn_key`); None: it is looked for.

    Of a turn that holds parts the texts are joined; images, calls of tools and who speaks are no
    text. None becomes "". Raises NotText for anything else.
    """
    found = turn_key(values)
    key = found if key is None else key
    texts = []
    for value in values:
        if isinstance(value, list):
            turns = (
                turn if isinstance(turn, str) else dict(_fields(turn)).get(key, "")
                for turn in value
            )
            value = "\n".join(turn for turn in turns if turn)
        texts.append(value or "")
    return texts


def _fields(turn: Any) -> list[tuple[Any, str]]:
    """(key, text) of what may be said in a turn."""
    if isinstance(turn, dict):
        pairs = [(key, field) for key, field in turn.items() if key not in _NO_TEXT]
    else:
        pairs = list(enumerate(turn)) if isinstance(turn, list) else []
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
