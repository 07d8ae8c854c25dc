"""What a synthetic task is, and the rows of problems that a trainer reads.

B problems, P prompt tokens, A answer tokens, T = P + A.

A problem is a row of tokens: a prompt, which is given, and an answer, which is scored. Problems are
drawn by a counter-based generator keyed by (seed, number): number 7 of a seed is the same whatever
is drawn beside it. Each has a key that is the same however the problem is written (the order of
edges, the goal that is asked for). Training, validation and test are parts of the space of keys, so
that they share no problem.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lookaround.data.rows import RowSource
from lookaround.objectives.contract import Batch, Vocabulary
from lookaround.support.errors import UserError
from lookaround.support.randomness import keyed_uniform, mix64, shuffled
from lookaround.support.registry import register

Split = Literal["train", "validation", "test"]

# shares of the space of keys
SPLITS = {"test": (0.0, 0.2), "validation": (0.2, 0.3), "train": (0.3, 1.0)}
DRAWN_AT_ONCE = 4096  # problems
# draws for one problem of a split before the split counts as empty
ATTEMPTS = 1000
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Drawn(NamedTuple):
    """tokens (B, T) int64 and key (B,) uint64 of some problems."""

    tokens: np.ndarray
    key: np.ndarray


def uniform(seed: int, number: np.ndarray, attempt: int, width: int) -> np.ndarray:
    """Uniform numbers in [0, 1), (B, width) float64, of the problems with these numbers (B,)."""
    row = torch.from_numpy(np.asarray(number, dtype=np.int64))
    return keyed_uniform(seed, attempt, row, "problem", width).numpy()


def key_of(values: Iterable[np.ndarray]) -> np.ndarray:
    """A hash (B,) uint64 of a sequence of integer columns (B,)."""
    first, *others = (value.astype(np.uint64) for value in values)
    with np.errstate(over="ignore"):
        key = mix64(first + np.uint64(1))
        for value in others:
            key = mix64(key * GOLDEN + value)
    return key


@dataclass(frozen=True)
class Task:
    """Base of all tasks: a frozen dataclass; fields are parameters, `name` is the spec.

    Subclasses give `prompt`, `answer`, `words` and `draw`; the rest only where it differs. A
    subclass with a name is found by that name; a name that is taken raises ValueError.
    """

    # not annotated: class attributes, not fields
    name = ""
    about = ""  # what makes the task hard, for a report
    decision = 0  # the answer token that depends on all others, counted from 0
    copied = False  # whether the tokens after the decision can be copied from the prompt
    several = False  # whether a problem has several right answers
    comma = ","  # written between numbers that follow one another; not a token
    larger = "give it larger numbers"  # what to do where there are too few problems
    # {figure of a run: what it is}; the first one decides between learning rates
    figures: ClassVar[Mapping[str, str]] = {"exact_match": "answers that are right as a whole"}
    # {line beside them that is no model's: what it is}
    bounds: ClassVar[Mapping[str, str]] = {}
    # {setting: value} where neither the user nor a preset says otherwise
    defaults: ClassVar[Mapping[str, Any]] = {}
    registry: ClassVar[dict[str, type[Task]]] = {}

    def __init_subclass__(cls) -> None:
        if vars(cls).get("name"):
            register(Task.registry, cls.name, cls)

    @property
    def prompt(self) -> int:
        """Tokens of a prompt."""
        raise NotImplementedError

    @property
    def answer(self) -> int:
        """Tokens of an answer."""
        raise NotImplementedError

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary in the order of the tokens, without the dummy, which comes last."""
        raise NotImplementedError

    def rows(self, split: Split, seed: int, samples: int | None = None) -> RowSource:
        """What a run of a seed reads of a part: problems, of a fixed set of so many `samples`."""
        return Problems(self, split, samples=samples)

    def draw(self, seed: int, number: np.ndarray, attempt: int) -> Drawn:
        """The problems of these numbers (B,), at their `attempt`-th draw."""
        raise NotImplementedError

    def solved(self, tokens: Tensor, answers: Tensor) -> Tensor:
        """(B,) bool: which of the answers (B, A) solve the problems (B, T)."""
        return (answers == tokens[:, self.prompt :]).all(1)

    @property
    def chance(self) -> float:
        """The accuracy of guessing at the decision; NaN where that has no meaning."""
        return math.nan

    @property
    def figure(self) -> str:
        """The figure that decides between learning rates."""
        return next(iter(self.figures))

    @property
    def control(self) -> Task | None:
        """The same problems with nothing to learn but the decision; None without such a task."""
        return None

    @property
    def title(self) -> str:
        """The task as reports print it."""
        return self.spec

    @property
    def spec(self) -> str:
        """The canonical spec: positional parameters, then named ones that differ from defaults."""
        parts = []
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if not item.kw_only:
                parts.append(repr(value))
            elif value != item.default:
                parts.append(f"{item.name}={value!r}")
        return f"{self.name}({','.join(parts)})" if parts else self.name

    @classmethod
    def signature(cls) -> str:
        """How a spec is written: the parameters, those after `*` by name, and their defaults."""
        own = inspect.signature(cls)
        plain = [item.replace(annotation=item.empty) for item in own.parameters.values()]
        written = own.replace(parameters=plain, return_annotation=own.empty)
        return f"{cls.name}{written}".removesuffix("()")

    @property
    def width(self) -> int:
        return self.prompt + self.answer

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words, then the dummy `$`, which is also the mask."""
        return Vocabulary(len(self.words) + 1, len(self.words), (len(self.words),))

    def text(self, row: Any) -> str:
        """A row, or a part of one, in words."""
        vocabulary = (*self.words, "$")
        words = [vocabulary[int(token)] for token in row]
        numbers = [word.isdigit() for word in words] + [False]
        pairs = zip(words, numbers, numbers[1:], strict=False)
        return "".join(word + self.comma * (this and after) for word, this, after in pairs)

    def require(self, holds: bool, parameter: str, rule: str) -> None:
        """Raises UserError that names task, parameter and rule unless `holds`."""
        if not holds:
            raise UserError(
                f"{self.spec}: {parameter} must be {rule}, got {getattr(self, parameter)!r}"
            )


class Problems:
    """The problems of one part of a task's key space, as rows that a trainer reads.

    split: "train", "validation" or "test".
    samples: None draws every problem afresh (number i is the i-th of the seed); a number holds a
        fixed set of that many, walked in a new order every epoch.
    """

    def __init__(
        self,
        task: Task,
        split: Split,
        *,
        samples: int | None = None,
    ) -> None:
        self.task, self.split, self.samples = task, split, samples

    @property
    def width(self) -> int:
        return self.task.width

    def take(self, seed: int, number: np.ndarray, index: np.ndarray | None = None) -> Batch:
        """The problems of these numbers (B,); `index` keys an objective's draws (default: numbers).

        Raises UserError where the part of the key space holds too few problems.
        """
        number = np.asarray(number, dtype=np.int64)
        parts = np.split(number, range(DRAWN_AT_ONCE, len(number), DRAWN_AT_ONCE))
        tokens = torch.from_numpy(np.concatenate([self._draw(seed, part) for part in parts]))
        scorable = torch.zeros(tokens.shape, dtype=torch.bool)
        scorable[:, self.task.prompt :] = True
        row = torch.from_numpy(np.asarray(number if index is None else index, dtype=np.int64))
        return Batch(tokens, row, self.task.vocabulary, scorable=scorable)

    def _draw(self, seed: int, number: np.ndarray) -> np.ndarray:
        """The tokens (B, T): of each number its first draw that falls in this part."""
        low, high = SPLITS[self.split]
        tokens = np.empty((len(number), self.width), dtype=np.int64)
        missing = np.arange(len(number))
        for attempt in range(ATTEMPTS):
            drawn = self.task.draw(seed, number[missing], attempt)
            share = drawn.key.astype(np.float64) * 2.0**-64
            hit = (share >= low) & (share < high)
            tokens[missing[hit]] = drawn.tokens[hit]
            missing = missing[~hit]
            if not len(missing):
                return tokens
        raise UserError(
            f"task {self.task.spec}: too few problems for a {self.split} part; {self.task.larger}"
        )

    def at(self, seed: int, index: np.ndarray) -> Batch:
        """The batch of these places (B,) in the endless sequence of a seed."""
        if self.samples is None:
            return self.take(seed, index)
        return self.take(seed, shuffled(index, self.samples, seed), index)

    def distinct(self, seed: int, count: int) -> Batch:
        """`count` problems with different prompts, or all there are."""
        problems: dict[bytes, np.ndarray] = {}
        # draws since the last new problem: 20 times as many as were found mean that there are no
        # more
        since = 0
        for begin in itertools.count(0, max(count, 1000)):
            for row in self.take(seed, np.arange(begin, begin + max(count, 1000))).tokens.numpy():
                prompt = row[: self.task.prompt].tobytes()
                since = since + 1 if prompt in problems else 0
                if len(problems) < count:
                    problems.setdefault(prompt, row)
            if len(problems) >= count or since > 20 * len(problems) + 1000:
                break
        batch = self.take(seed, np.arange(len(problems)))
        tokens = torch.from_numpy(np.stack(list(problems.values())))
        return Batch(tokens, batch.row, batch.vocabulary, scorable=batch.scorable)
