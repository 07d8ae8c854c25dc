"""Parameters that change with the share of the budget spent: `mlm(rate=linear(0.3, 0.15))`."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A number that goes from `start` to `end` while the budget is spent."""

    start: float
    end: float

    def at(self, progress: float) -> float:
        """The value at a share `progress` in [0, 1] of the budget."""
        raise NotImplementedError

    def ends(self) -> tuple[float, float]:
        """The smallest and largest value: what a parameter's range is checked against."""
        return min(self.start, self.end), max(self.start, self.end)

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()}({self.start}, {self.end})"


class Linear(Schedule):
    """A straight line from start to end."""

    def at(self, progress: float) -> float:
        return self.start * (1 - progress) + self.end * progress


class Cosine(Schedule):
    """Half a cosine wave from start to end: slow at both ends."""

    def at(self, progress: float) -> float:
        return self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * progress))


SCHEDULES: dict[str, type[Schedule]] = {"linear": Linear, "cosine": Cosine}
