"""The game Countdown: reach a target from a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lookaround.studies.synthetic.tasks.base import Drawn, Task, key_of, uniform


@dataclass(frozen=True)
class Countdown(Task):
    """Reach a target from `numbers` numbers, each used once: `3,7,2|20=7+3=10;10*2=20`.

    Numbers and results are from 1 to `most`. The target is made by combining pairs at random, so
    that there is an answer; any answer is right whose steps hold. The key is the set of numbers
    with the target.
    """

    numbers: int = 3
    most: int = 50

    name = "countdown"
    about = "The first step towards a target depends on the steps that are left."
    several = True

    def __post_init__(self) -> None:
        self.require(2 <= self.numbers <= 8, "numbers", "2 to 8")
        self.require(4 <= self.most <= 10_000, "most", "4 to 10000")

    @property
    def prompt(self) -> int:
        return self.numbers + 3

    @property
    def answer(self) -> int:
        return 6 * (self.numbers - 1) - 1

    @property
    def words(self) -> tuple[str, ...]:
        return (*map(str, range(self.most + 1)), *"+-*/", "|", "=", ";")

    def draw(self, seed: int, number: np.ndarray, attempt: int) -> Drawn:
        count, most = self.numbers, self.most
        choices = uniform(seed, number, attempt, count + 3 * (count - 1))
        given = 1 + (choices[:, :count] * most).astype(np.int64)
        plus, bar, equals, semicolon = (most + 1 + place for place in (0, 4, 5, 6))
        column = np.ones(len(number), dtype=np.int64)
        held, steps = given, []
        for drawn in choices[:, count:].reshape(len(number), count - 1, 3).swapaxes(0, 1):
            first = (drawn[:, 0] * held.shape[1]).astype(np.int64)
            second = (drawn[:, 1] * (held.shape[1] - 1)).astype(np.int64)
            second += second >= first
            chosen = np.stack([first, second], 1)
            pair = np.take_along_axis(held, chosen, 1)
            high, low = pair.max(1), pair.min(1)
            results = np.stack([high + low, high - low, high * low, high // low], 1)
            valid = (results >= 1) & (results <= most)
            valid[:, 3] &= high % low == 0
            # index among the valid operations
            place = (drawn[:, 2] * valid.sum(1)).astype(np.int64)
            operation = (valid.cumsum(1) <= place[:, None]).sum(1)
            result = np.take_along_axis(results, operation[:, None], 1)[:, 0]
            steps += [high, plus + operation, low, equals * column, result, semicolon * column]
            rest = np.ones(held.shape, dtype=bool)
            np.put_along_axis(rest, chosen, False, 1)
            held = np.concatenate([held[rest].reshape(len(number), -1), result[:, None]], 1)
        tokens = np.stack([*given.T, bar * column, held[:, 0], equals * column, *steps[:-1]], 1)
        return Drawn(tokens, key_of([held[:, 0], *np.sort(given, 1).T]))

    def solved(self, tokens: Tensor, answers: Tensor) -> Tensor:
        rows = zip(tokens[:, : self.prompt].tolist(), answers.tolist(), strict=True)
        return torch.tensor(
            [self._holds(prompt, answer) for prompt, answer in rows], device=tokens.device
        )

    def _holds(self, prompt: list[int], answer: list[int]) -> bool:
        """Whether every step is valid, uses available numbers, and the last gives the target."""
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
