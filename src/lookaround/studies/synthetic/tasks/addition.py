"""Sums of two numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lookaround.studies.synthetic.tasks.base import Drawn, Task, uniform
from lookaround.support.randomness import mix64


@dataclass(frozen=True)
class Addition(Task):
    """The sum of two numbers of `digits` digits, `017+985=1002`.

    Numbers are padded with zeros; the answer has one digit more. a+b and b+a are one problem.
    """

    digits: int = 3

    name = "addition"
    about = "The first digit of a sum depends on all carries, which start at its last digit."
    comma = ""
    words = (*"0123456789", "+", "=")

    def __post_init__(self) -> None:
        self.require(1 <= self.digits <= 9, "digits", "1 to 9")

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
        drawn = (uniform(seed, number, attempt, 2) * 10**self.digits).astype(np.int64)
        left, right = drawn.T
        column = np.ones((len(drawn), 1), dtype=np.int64)
        parts = [
            _digits(left, self.digits),
            10 * column,
            _digits(right, self.digits),
            11 * column,
            _digits(left + right, self.digits + 1),
        ]
        low, high = np.sort(drawn, 1).T.astype(np.uint64)
        with np.errstate(over="ignore"):
            return Drawn(np.concatenate(parts, 1), mix64(mix64(low + np.uint64(1)) + high))


def _digits(value: np.ndarray, count: int) -> np.ndarray:
    """The decimal digits (B, count), most significant first."""
    return value[:, None] // 10 ** np.arange(count - 1, -1, -1) % 10
