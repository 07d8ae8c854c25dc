"""What steps take, made ahead of them: a device never waits for the rows of its next step."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from torch import Tensor

from lookaround.objectives.contract import Component
from lookaround.train.loss import Scored

DEPTH = 2  # steps


@dataclass(frozen=True)
class Drawn:
    """What a step takes of this process's rows.

    micro: of each micro-batch, a view for each component.
    normalisers: (C,) float64, what the components' sums are divided by, of this process.
    spent: (3,) float64, tokens without padding, scored pairs and FLOPs, of this process.
    """

    components: tuple[Component, ...]
    micro: list[tuple[Scored, ...]]
    normalisers: Tensor
    spent: Tensor


class Ahead:
    """Draws the steps from one to another in a thread, some of them before they are taken.

    draw(step) must depend on nothing that a step changes. waited: seconds that steps have waited.
    """

    def __init__(self, draw: Callable[[int], Drawn], first: int, until: int) -> None:
        self.draw, self.next, self.until = draw, first, until
        self.waited = 0.0
        self.pool = ThreadPoolExecutor(1, "ahead")
        self.pending: deque[tuple[int, Future[Drawn]]] = deque()

    def __enter__(self) -> Self:
        self._fill()
        return self

    def _fill(self) -> None:
        while self.next < self.until and len(self.pending) < DEPTH:
            self.pending.append((self.next, self.pool.submit(self.draw, self.next)))
            self.next += 1

    def take(self, step: int) -> Drawn:
        """What a step takes; steps are asked for in order."""
        number, made = self.pending.popleft()
        assert number == step
        self._fill()
        began = time.perf_counter()
        drawn = made.result()
        self.waited += time.perf_counter() - began
        return drawn

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
