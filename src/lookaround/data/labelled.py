"""What tasks are, however they were read: labels of texts, labels of words, and minimal pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# what results call the held-out text where they name tasks
TEXT = "text"


def task_name(name: str) -> str:
    """The name of a task, which must not be `TEXT`."""
    return f"{name}-task" if name == TEXT else name


@dataclass(frozen=True)
class Task:
    """Inputs (texts, or whatever a codec encodes) with one label each.

    metric: "accuracy" or "matthews" of one of `classes` each, labels being indices into them; or
        "pearson" of numbers, where there are no classes.
    notes: what was left out and why.
    columns: those of the table that were read, the label's last.
    """

    name: str
    metric: str
    classes: list[str]
    train_inputs: list[Any]
    train_labels: Sequence[float]
    test_inputs: list[Any]
    test_labels: Sequence[float]
    notes: list[str]
    columns: list[str] = field(default_factory=list, compare=False)


@dataclass(frozen=True)
class Sentence:
    """A text whose words have a label each.

    words: (start, end) of each word in characters of the text, in order, none overlapping.
    labels: of each word, an index into the task's classes.
    """

    text: str
    words: tuple[tuple[int, int], ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class TokenTask:
    """Sentences with a label for every word.

    metric: "accuracy", or "span_f1" of classes that are BIO tags ("O", "B-X", "I-X").
    notes: what was left out and why.
    columns: those that were read, the label's last.
    """

    name: str
    metric: str
    classes: list[str]
    train: list[Sentence]
    test: list[Sentence]
    notes: list[str]
    columns: list[str] = field(default_factory=list, compare=False)


@dataclass(frozen=True)
class PairTask:
    """Minimal pairs: of each, a model should find the good text more probable than the bad one.

    phenomena: what each pair tests; "" where nothing is said.
    """

    name: str
    good: list[str]
    bad: list[str]
    phenomena: list[str]
    notes: list[str]
    columns: list[str] = field(default_factory=list, compare=False)


AnyTask = Task | TokenTask | PairTask
