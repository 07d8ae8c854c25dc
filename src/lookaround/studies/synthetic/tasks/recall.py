"""Recall: is a pair that was read one way known the other way round?"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

from lookaround.objectives.contract import Batch
from lookaround.studies.synthetic.tasks.base import Split, Task
from lookaround.support.randomness import keyed_uniform, stream_number

HELD_OUT = 0.2  # of the pairs: those that no question in training is about
STATEMENTS = 0.5  # of the rows in training; the rest are questions, of both directions alike
MOST_PAIRS, LONGEST = 100_000, 256
FEW = 1 << 20  # sequences that are listed to draw from
Direction = Literal["forward", "backward"]


@dataclass(frozen=True)
class Recall(Task):
    """Pairs of a key and a value of `length` tokens each, out of `symbols` symbols.

    Rows of training are statements `:key=value` of every pair, and questions about 80 % of them:
    `>key=value` and `<value=key`. Held out are both questions about the other pairs, written token
    by token. Which pairs there are, and which are held out, is the seed's own. After the
    retrieval task of Kitouni et al. 2024 (arXiv 2406.05183).
    """

    pairs: int = 300
    length: int = 4
    _: KW_ONLY
    symbols: int = 64

    name = "recall"
    about = (
        "Every pair is read as key, then value. To answer a question about a pair that none was "
        "asked about, a model must find in the statement what it was asked for: the value given "
        "the key, or the key given the value, which stands before it. A model with a fixed mask "
        "rate rarely sees a whole value hidden and its key shown."
    )
    figures: ClassVar = {
        "forward": "values written whole, given keys that no question in training was about",
        "backward": "keys written whole, given values that no question in training was about",
    }
    defaults: ClassVar = {
        "model.preset": "nano",
        "synthetic.steps": 6000,
        "synthetic.learning_rate": 2e-3,
        "synthetic.lr_factors": [1.0],
        "synthetic.every": 1500,
        "synthetic.stop_at": None,
        "synthetic.objectives": (
            "ar, mlm(rate=0.15), mlm(rate=0.4), mlm(rate=0.85), vmlm(suffix=0), vmlm, ar + vmlm"
        ),
        "synthetic.seeds": 3,
    }
    larger = "give it more pairs"

    def __post_init__(self) -> None:
        self.require(5 <= self.pairs <= MOST_PAIRS, "pairs", f"5 to {MOST_PAIRS}")
        self.require(1 <= self.length <= LONGEST, "length", f"1 to {LONGEST}")
        self.require(2 <= self.symbols <= 10_000, "symbols", "2 to 10000")
        keys = self.symbols**self.length
        self.require(
            self.pairs <= keys,
            "pairs",
            f"at most {keys}, the keys of {self.length} of {self.symbols} symbols",
        )

    @property
    def prompt(self) -> int:
        return self.length + 2

    @property
    def answer(self) -> int:
        return self.length

    @property
    def words(self) -> tuple[str, ...]:
        return (*map(str, range(self.symbols)), ":", ">", "<", "=")

    def parts(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values (pairs, length) of a seed; keys differ, and so do values.

        The first fifth of them is held out.
        """
        number = stream_number("recall") & 0x7FFFFFFF
        keys, values = (
            self._different(np.random.default_rng([seed, side, number])) for side in (0, 1)
        )
        return keys, values

    def _different(self, generator: np.random.Generator) -> np.ndarray:
        """Different sequences (pairs, length), drawn with equal probability."""
        places = self.symbols ** np.arange(self.length, dtype=object)
        if (count := self.symbols**self.length) <= FEW:
            codes = generator.permutation(count)[: self.pairs]
            return np.array(codes[:, None] // places % self.symbols, dtype=np.int64)
        drawn = np.empty((0, self.length), dtype=np.int64)
        while len(drawn) < self.pairs:
            more = generator.integers(self.symbols, size=(self.pairs, self.length))
            every = np.concatenate([drawn, more])
            _, first = np.unique(every, axis=0, return_index=True)
            drawn = every[np.sort(first)]
        return drawn[: self.pairs]

    @property
    def held_out(self) -> int:
        """How many pairs no question in training is about."""
        return round(HELD_OUT * self.pairs)

    def rows(self, split: Split, seed: int, samples: int | None = None) -> RecallRows:
        return RecallRows(self, seed, split)


class RecallRows:
    """Statements and questions of a seed's pairs; of other parts than training, both questions of
    each pair that is held out.
    """

    def __init__(self, task: Recall, seed: int, split: Split) -> None:
        self.task, self.split = task, split
        self.keys, self.values = task.parts(seed)

    @property
    def width(self) -> int:
        return self.task.width

    def at(self, seed: int, index: np.ndarray) -> Batch:
        """The rows at these places (B,) in the endless sequence of a seed."""
        row = torch.from_numpy(np.asarray(index, dtype=np.int64))
        drawn = keyed_uniform(seed, 0, row, "recall", 2).numpy()
        kind = np.where(drawn[:, 0] < STATEMENTS, 0, 1 + (2 * drawn[:, 0] >= 1 + STATEMENTS))
        low = np.where(kind == 0, 0, self.task.held_out)
        pair = low + (drawn[:, 1] * (self.task.pairs - low)).astype(np.int64)
        return self._made(kind, pair, row)

    def questions(self, direction: Direction) -> Batch:
        """The questions of one direction about all pairs that are held out."""
        pair = np.arange(self.task.held_out)
        kind = np.full(len(pair), 1 if direction == "forward" else 2)
        return self._made(kind, pair, torch.from_numpy(pair))

    def _made(self, kind: np.ndarray, pair: np.ndarray, row: torch.Tensor) -> Batch:
        """Rows of a kind: 0 a statement, 1 and 2 questions forward and backward."""
        symbols, backward = self.task.symbols, (kind == 2)[:, None]
        given = np.where(backward, self.values[pair], self.keys[pair])
        asked = np.where(backward, self.keys[pair], self.values[pair])
        equals = np.full((len(pair), 1), symbols + 3)
        tokens = np.concatenate([symbols + kind[:, None], given, equals, asked], 1)
        scorable = np.zeros(tokens.shape, dtype=bool)
        scorable[:, self.task.prompt :] = True
        scorable[:, 1 : 1 + self.task.length] = (kind == 0)[:, None]
        return Batch(
            torch.from_numpy(tokens),
            row,
            self.task.vocabulary,
            scorable=torch.from_numpy(scorable),
        )
