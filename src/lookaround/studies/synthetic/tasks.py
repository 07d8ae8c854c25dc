"""Problems whose answer has a token that only looking ahead can give: path-star graphs, and two sums of numbers.

B problems, P prompt tokens, A answer tokens, T = P + A.

A problem is a row of tokens: a prompt, which is given, and an answer, which is scored. Problems are drawn by a counter-based
generator keyed by (seed, number), so that number 7 of a seed is the same whatever is drawn beside it. Each has a key that does
not depend on how the problem is put (the order of edges, the goal that is asked for); training, validation and test are
parts of the space of keys, so that they share no problem however it is put.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lookaround.objectives.contract import Batch, Vocabulary
from lookaround.support.errors import UserError
from lookaround.support.randomness import keyed_uniform, mix64, permute

__all__ = ["SPLITS", "Addition", "Countdown", "Problems", "StarGraph", "Task", "controlled", "parse_task"]

SPLITS = {"test": (0.0, 0.2), "validation": (0.2, 0.3), "train": (0.3, 1.0)}  # shares of the space of keys
CONTROL = ":hop"  # ends the name of a graph whose answers end with the first hop
LONGEST = 8192  # tokens of a row
DRAWN_AT_ONCE = 4096  # problems
ATTEMPTS = 1000  # draws for one problem of a split before it is said to have none


class Drawn(NamedTuple):
    """tokens (B, T) int64 and key (B,) uint64 of some problems."""

    tokens: np.ndarray
    key: np.ndarray


class Task:
    """A family of problems: fixed widths of prompt and answer, a vocabulary, and how problems are drawn.

    decision: the answer token that takes looking ahead, counted from 0. chance: the accuracy of guessing it at random among
    what could stand there, NaN where that has no meaning.
    """

    decision: ClassVar[int] = 0
    words: Any  # tuple of str: the vocabulary, but for the dummy, which comes last
    several: ClassVar[bool] = False  # whether a problem has several right answers
    comma: ClassVar[str] = ","  # written between numbers that follow one another; not a token
    larger: ClassVar[str] = "give it larger numbers"  # what to do where there are too few problems

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def prompt(self) -> int:
        raise NotImplementedError

    @property
    def answer(self) -> int:
        raise NotImplementedError

    @property
    def chance(self) -> float:
        return math.nan

    @property
    def width(self) -> int:
        return self.prompt + self.answer

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words, then the dummy `$`, which is also the mask."""
        return Vocabulary(len(self.words) + 1, len(self.words), (len(self.words),))

    def draw(self, seed: int, number: np.ndarray, attempt: int) -> Drawn:
        """The problems of these numbers (B,), at their `attempt`-th draw."""
        raise NotImplementedError

    def solved(self, tokens: Tensor, answers: Tensor) -> Tensor:
        """(B,) bool: which of the answers (B, A) solve the problems (B, T)."""
        return (answers == tokens[:, self.prompt :]).all(1)

    def text(self, row: Any) -> str:
        """A row, or a part of one, in words."""
        words = [(*self.words, "$")[int(token)] for token in row]
        numbers = [word.isdigit() for word in words]
        commas = [self.comma if a and b else "" for a, b in zip(numbers, [*numbers[1:], False], strict=True)]
        return "".join(word + comma for word, comma in zip(words, commas, strict=True))


@dataclass(frozen=True)
class StarGraph(Task):
    """The path-star graph G(degree, length) over `labels` labels (Bachmann & Nagarajan 2024, arXiv 2403.06963).

    `degree` arms leave a start node; a path has `length` nodes with the start, so that there are degree (length - 1) edges and as
    many nodes beside the start. A row reads `a,b|c,d|..|y,z/start,goal=start,n2,..,goal`, where commas are not tokens: the
    edges point away from the start and come shuffled ("shuffled"), or arm by arm with the arms shuffled ("arm"). query="before"
    puts `start,goal/` in front of the edges. The second node of the answer is the decision: which arm leads to the goal. hop: the
    answer ends with it, a control that leaves nothing else to learn.
    """

    degree: int
    length: int
    labels: int
    query: str = "after"
    edges: str = "shuffled"
    hop: bool = False

    decision: ClassVar[int] = 1
    larger: ClassVar[str] = "give it more labels"

    def __post_init__(self) -> None:
        graph = f"graph {self.degree},{self.length}"
        if self.degree < 2:
            raise UserError(f"{graph}: the degree must be 2 or more: with one arm there is nothing to choose")
        if self.length < 2:
            raise UserError(f"{graph}: the length counts the nodes of a path with the start: 2 or more")
        for name, value, allowed in (
            ("query", self.query, ("after", "before")),
            ("edges", self.edges, ("shuffled", "arm")),
        ):
            if value not in allowed:
                raise UserError(f"{graph}: {name} must be {allowed[0]} or {allowed[1]}, got {value!r}")
        if self.labels < self.nodes:
            raise UserError(
                f"{graph}: it has {self.nodes} nodes and needs as many labels, got plan.labels={self.labels}"
            )

    @property
    def nodes(self) -> int:
        return self.degree * (self.length - 1) + 1

    @property
    def name(self) -> str:
        return f"{self.degree},{self.length}{CONTROL * self.hop}"

    @property
    def chance(self) -> float:
        return 1 / self.degree

    @property
    def prompt(self) -> int:
        return 3 * (self.nodes - 1) + 3

    @property
    def answer(self) -> int:
        return 2 if self.hop else self.length

    @cached_property
    def words(self) -> tuple[str, ...]:
        return (*map(str, range(self.labels)), "|", "=", "/")

    def draw(self, seed: int, number: np.ndarray, attempt: int) -> Drawn:
        edges, labels = self.nodes - 1, self.labels
        row = torch.from_numpy(np.asarray(number, dtype=np.int64))
        uniform = keyed_uniform(seed, attempt, row, "problem", labels + edges + 1).numpy()
        nodes = np.argsort(uniform[:, :labels], axis=1, kind="stable")[:, : self.nodes]
        start = nodes[:, :1]
        arms = nodes[:, 1:].reshape(-1, self.degree, self.length - 1)
        paths = np.concatenate([np.broadcast_to(start[:, :, None], (*arms.shape[:2], 1)), arms], 2)
        pairs = np.stack([paths[:, :, :-1], arms], -1)  # (B, degree, length - 1, 2)
        if self.edges == "shuffled":
            order = np.argsort(uniform[:, labels : labels + edges], axis=1, kind="stable")
            pairs = np.take_along_axis(pairs.reshape(-1, edges, 2), order[:, :, None], 1)
        # the labels were drawn at random, so the arms stand in random order as they are; the goal is that of any one
        goal_arm = (uniform[:, -1] * self.degree).astype(np.int64)
        path = np.take_along_axis(paths, goal_arm[:, None, None], 1)[:, 0]
        bar, equals, slash = labels, labels + 1, labels + 2
        triples = np.full((len(row), edges, 3), bar)
        triples[:, :, :2] = pairs.reshape(-1, edges, 2)
        listed = triples.reshape(len(row), -1)
        asked = np.concatenate([path[:, :1], path[:, -1:]], 1)
        column = np.ones((len(row), 1), dtype=np.int64)
        if self.query == "after":
            parts = [listed[:, :-1], slash * column, asked, equals * column, path[:, : self.answer]]
        else:
            parts = [asked, slash * column, listed[:, :-1], equals * column, path[:, : self.answer]]
        return Drawn(np.concatenate(parts, 1), _star_key(start[:, 0], arms))


def _star_key(start: np.ndarray, arms: np.ndarray) -> np.ndarray:
    """A hash of the graph: its start and the set of its arms, whatever their order."""
    with np.errstate(over="ignore"):
        key = np.zeros(arms.shape[:2], dtype=np.uint64)
        for place in range(arms.shape[2]):
            key = mix64(
                key * np.uint64(0x9E3779B97F4A7C15) + arms[:, :, place].astype(np.uint64) + np.uint64(1)
            )
        return mix64(key.sum(1) + mix64(start.astype(np.uint64) + np.uint64(0x632BE59BD9B4E019)))


@dataclass(frozen=True)
class Addition(Task):
    """The sum of two numbers of `digits` digits, `017+985=1002`; the first digit of the answer takes all carries.

    Numbers are padded with zeros; the answer has one digit more. a+b and b+a are one problem.
    """

    digits: int = 3

    comma: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not 1 <= self.digits <= 9:
            raise UserError(f"addition({self.digits}): numbers have 1 to 9 digits")

    @property
    def name(self) -> str:
        return f"addition({self.digits})"

    @cached_property
    def words(self) -> tuple[str, ...]:
        return (*map(str, range(10)), "+", "=")

    @property
    def chance(self) -> float:
        """P(the first digit is 0), which is the likelier one."""
        return (10**self.digits + 1) / (2 * 10**self.digits)

    @property
    def prompt(self) -> int:
        return 2 * self.digits + 2

    @property
    def answer(self) -> int:
        return self.digits + 1

    def draw(self, seed: int, number: np.ndarray, attempt: int) -> Drawn:
        row = torch.from_numpy(np.asarray(number, dtype=np.int64))
        drawn = (keyed_uniform(seed, attempt, row, "problem", 2).numpy() * 10**self.digits).astype(np.int64)
        left, right = drawn.T
        column = np.ones((len(row), 1), dtype=np.int64)
        tokens = np.concatenate(
            [
                _digits(left, self.digits), 10 * column, _digits(right, self.digits), 11 * column,
                _digits(left + right, self.digits + 1),
            ], 1,
        )  # fmt: skip
        low, high = np.sort(drawn, 1).T.astype(np.uint64)
        with np.errstate(over="ignore"):
            return Drawn(tokens, mix64(mix64(low + np.uint64(1)) + high))


def _digits(value: np.ndarray, count: int) -> np.ndarray:
    """The decimal digits (B, count), most significant first."""
    return value[:, None] // 10 ** np.arange(count - 1, -1, -1) % 10


@dataclass(frozen=True)
class Countdown(Task):
    """Reach a target from `numbers` numbers, each used once: `3,7,2|20=7+3=10;10*2=20` (the game; numbers from 1 to `most`).

    The target is made by combining pairs at random, so that there is an answer; any answer is right whose steps hold and give
    numbers from 1 to `most`. The key is the set of numbers with the target.
    """

    numbers: int = 3
    most: int = 50

    several: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 2 <= self.numbers <= 8 or not 4 <= self.most <= 10_000:
            raise UserError(f"{self.name}: 2 to 8 numbers, and a largest one from 4 to 10000")

    @property
    def name(self) -> str:
        return f"countdown({self.numbers},{self.most})"

    @property
    def prompt(self) -> int:
        return self.numbers + 3

    @property
    def answer(self) -> int:
        return 6 * (self.numbers - 1) - 1

    @cached_property
    def words(self) -> tuple[str, ...]:
        return (*map(str, range(self.most + 1)), *"+-*/", "|", "=", ";")

    def draw(self, seed: int, number: np.ndarray, attempt: int) -> Drawn:
        count, most = self.numbers, self.most
        row = torch.from_numpy(np.asarray(number, dtype=np.int64))
        uniform = keyed_uniform(seed, attempt, row, "problem", count + 3 * (count - 1)).numpy()
        given = 1 + (uniform[:, :count] * most).astype(np.int64)
        plus, bar, equals, semicolon = (most + 1 + place for place in (0, 4, 5, 6))
        column = np.ones(len(row), dtype=np.int64)
        held, steps = given, []
        for drawn in uniform[:, count:].reshape(len(row), count - 1, 3).swapaxes(0, 1):
            first = (drawn[:, 0] * held.shape[1]).astype(np.int64)
            second = (drawn[:, 1] * (held.shape[1] - 1)).astype(np.int64)
            second += second >= first
            chosen = np.stack([first, second], 1)
            pair = np.take_along_axis(held, chosen, 1)
            high, low = pair.max(1), pair.min(1)
            results = np.stack([high + low, high - low, high * low, high // low], 1)
            valid = (results >= 1) & (results <= most)
            valid[:, 3] &= high % low == 0
            place = (drawn[:, 2] * valid.sum(1)).astype(np.int64)  # the how-manieth valid operation
            operation = (valid.cumsum(1) <= place[:, None]).sum(1)
            result = np.take_along_axis(results, operation[:, None], 1)[:, 0]
            steps += [high, plus + operation, low, equals * column, result, semicolon * column]
            rest = np.ones(held.shape, dtype=bool)
            np.put_along_axis(rest, chosen, False, 1)
            held = np.concatenate([held[rest].reshape(len(row), -1), result[:, None]], 1)
        tokens = np.stack([*given.T, bar * column, held[:, 0], equals * column, *steps[:-1]], 1)
        with np.errstate(over="ignore"):
            key = mix64(held[:, 0].astype(np.uint64) + np.uint64(1))
            for value in np.sort(given, 1).T.astype(np.uint64):
                key = mix64(key * np.uint64(0x9E3779B97F4A7C15) + value)
        return Drawn(tokens, key)

    def solved(self, tokens: Tensor, answers: Tensor) -> Tensor:
        rows = zip(tokens[:, : self.prompt].tolist(), answers.tolist(), strict=True)
        return torch.tensor([self._holds(prompt, answer) for prompt, answer in rows], device=tokens.device)

    def _holds(self, prompt: list[int], answer: list[int]) -> bool:
        """Whether every step of an answer holds, uses numbers that are there, and the last one gives the target."""
        most = self.most
        held = list(prompt[: self.numbers])
        result = 0
        for begin in range(0, self.answer, 6):
            left, sign, right, equals, result = answer[begin : begin + 5]
            if equals != most + 6 or answer[begin + 5 : begin + 6] not in ([], [most + 7]):
                return False
            for value in (left, right):
                if value not in held:
                    return False
                held.remove(value)
            made = {0: left + right, 1: left - right, 2: left * right}.get(sign - most - 1)
            if sign == most + 4 and left % right == 0:
                made = left // right
            if made is None or made != result or not 1 <= result <= most:
                return False
            held.append(result)
        return result == prompt[self.numbers + 1]


def controlled(name: str) -> str | None:
    """The name of the graph that a task of this name is the control of; None for all other tasks."""
    return name.removesuffix(CONTROL) if name.endswith(CONTROL) else None


def parse_task(text: str, *, labels: int | None, query: str, edges: str) -> Task:
    """The task of a word: "3,5" is a path-star graph ("3,5:hop" its control), "addition(3)" and "countdown(4,50)" are sums.

    labels, query, edges: of path-star graphs; labels=None is two for each node. Raises UserError.
    """
    word = re.sub(r"\s*([(),:])\s*", r"\1", text.strip())
    number = "([0-9]{1,5})"
    if match := re.fullmatch(f"(-?)0*{number},(-?)0*{number}(:hop)?", word):
        degree, length = int(match[1] + match[2]), int(match[3] + match[4])
        if labels is None:
            labels = max(2 * (degree * (length - 1) + 1), 4)
        task: Task = StarGraph(degree, length, labels, query, edges, hop=match[5] is not None)
    elif match := re.fullmatch(rf"addition(?:\({number}\))?", word):
        task = Addition(int(match[1] or 3))
    elif match := re.fullmatch(rf"countdown(?:\({number}(?:,{number})?\))?", word):
        task = Countdown(int(match[1] or 3), int(match[2] or 50))
    else:
        shown = repr(text if len(text) <= 40 else text[:40] + "..")
        raise UserError(
            f"{shown} is no task; write a graph's degree and length, 3,5, or addition(3) or countdown(3,50)"
        )
    if task.width > LONGEST:
        raise UserError(f"task {task.name}: its rows have {task.width} tokens; at most {LONGEST} are taken")
    return task


class Problems:
    """The problems of one part of a task's key space, as rows that a trainer reads.

    split: "train", "validation" or "test". samples: None draws every problem afresh (number i is the i-th of the seed); a number
    holds a fixed set of that many, walked in a new order every epoch.
    """

    def __init__(
        self, task: Task, split: Literal["train", "validation", "test"], *, samples: int | None = None
    ) -> None:
        self.task, self.split, self.samples = task, split, samples

    @property
    def width(self) -> int:
        return self.task.width

    def take(self, seed: int, number: np.ndarray, index: np.ndarray | None = None) -> Batch:
        """The problems of these numbers (B,); `index` keys an objective's draws (default: the numbers).

        Raises UserError where the part of the key space is as good as empty.
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
            f"task {self.task.name}: too few problems for a {self.split} part; {self.task.larger}"
        )

    def at(self, seed: int, index: np.ndarray) -> Batch:
        """The batch of these places (B,) in the endless sequence of a seed."""
        if self.samples is None:
            return self.take(seed, index)
        epochs, places = np.divmod(index, self.samples)
        number = np.empty_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            number[here] = permute(places[here], self.samples, seed, int(epoch))
        return self.take(seed, number, index)

    def distinct(self, seed: int, count: int) -> Batch:
        """`count` different problems as they are put, or all that can be found where there are fewer."""
        found: dict[bytes, np.ndarray] = {}
        since = 0  # draws since the last new problem: where all are found, 20 times as many bring nothing with certainty
        for begin in itertools.count(0, max(count, 1000)):
            for row in self.take(seed, np.arange(begin, begin + max(count, 1000))).tokens.numpy():
                prompt = row[: self.task.prompt].tobytes()
                since = since + 1 if prompt in found else 0
                if len(found) < count:
                    found.setdefault(prompt, row)
            if len(found) >= count or since > 20 * len(found) + 1000:
                break
        batch = self.take(seed, np.arange(len(found)))
        tokens = torch.from_numpy(np.stack(list(found.values())))
        return Batch(tokens, batch.row, batch.vocabulary, scorable=batch.scorable)
