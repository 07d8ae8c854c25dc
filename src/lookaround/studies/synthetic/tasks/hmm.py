"""Hidden states: what can be known of the state behind each symbol, from one side and from both.

K states, V symbols, B rows, T symbols of a row.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from lookaround.objectives.contract import Batch
from lookaround.studies.synthetic.tasks.base import Split, Task
from lookaround.support.randomness import keyed_uniform, stream_number

# of a state's symbols: a share that is the same for all states, and how uneven the rest is
COMMON, CONCENTRATION = 0.35, 0.25
MOST_SYMBOLS, LONGEST = 10_000, 4096


@dataclass(frozen=True)
class HiddenMarkov(Task):
    """Rows of a hidden Markov source: a state stays with probability `stay`, else goes to another.

    Each of `states` states says one of `symbols` symbols, with 0.35 / symbols of each and 0.65 of a
    draw from Dirichlet(0.25), which is the seed's own. A row has `length` symbols and begins in any
    state alike. A model learns the rows; its frozen states are asked for the hidden state behind
    each symbol. Ours; the bounds are the textbook's (Rabiner 1989).
    """

    _: KW_ONLY
    states: int = 4
    symbols: int = 64
    stay: float = 0.95
    length: int = 64

    name = "hmm"
    about = (
        "A hidden state stays for a while and says symbols. What is left of a symbol tells of its "
        "state at most what filtering does, the exact posterior given the symbols so far; what is "
        "right of it tells the rest, up to smoothing, the posterior given all. No causal model "
        "can pass the one line and no model at all the other."
    )
    figures: ClassVar = {
        "state_accuracy": "share of symbols whose hidden state a linear probe finds",
    }
    bounds: ClassVar = {
        "symbol": "the likeliest state given the symbol alone",
        "filtering": "the likeliest state given the symbols up to it: no causal model can pass it",
        "smoothing": "the likeliest state given all symbols: no model can pass it",
    }
    defaults: ClassVar = {
        "model.preset": "nano",
        "synthetic.budget": "1e12flops",
        "synthetic.batch": 16,
        "synthetic.control": True,
        "synthetic.learning_rate": 2e-3,
        "synthetic.lr_factors": [1.0],
        "synthetic.objectives": "ar, dar, mlm(rate=0.4), vmlm, ar + vmlm",
        "synthetic.queries": 1000,
        "synthetic.seeds": 3,
    }

    def __post_init__(self) -> None:
        self.require(2 <= self.states <= 64, "states", "2 to 64")
        self.require(
            self.states <= self.symbols <= MOST_SYMBOLS,
            "symbols",
            f"{self.states} (its states) to {MOST_SYMBOLS}",
        )
        self.require(
            0 < self.stay < 1, "stay", "above 0 and below 1: the probability that a state stays"
        )
        self.require(4 <= self.length <= LONGEST, "length", f"4 to {LONGEST}")

    @property
    def prompt(self) -> int:
        return 0

    @property
    def answer(self) -> int:
        return self.length

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.symbols)))

    @property
    def title(self) -> str:
        return f"hidden states, stay {self.stay:g}"

    def source(self, seed: int) -> Source:
        """The source of a seed."""
        generator = np.random.default_rng([seed, stream_number("hmm") & 0x7FFFFFFF])
        own = generator.dirichlet(np.full(self.symbols, CONCENTRATION), size=self.states)
        says = COMMON / self.symbols + (1 - COMMON) * own
        moves = np.full((self.states, self.states), (1 - self.stay) / (self.states - 1))
        np.fill_diagonal(moves, self.stay)
        return Source(moves, says)

    def rows(self, split: Split, seed: int, samples: int | None = None) -> SourceRows:
        return SourceRows(self, self.source(seed), split)


class Source(NamedTuple):
    """A hidden Markov source; it begins in any state alike.

    moves: (K, K), the probability of the next state (column) given a state (row).
    says: (K, V), the probability of a symbol given a state.
    """

    moves: np.ndarray
    says: np.ndarray

    def draw(self, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(states (B, T), symbols (B, T)), int64, out of uniform numbers (B, 2 T)."""
        width = uniform.shape[1] // 2
        to_move, to_say = uniform[:, :width], uniform[:, width:]
        moves, says = self.moves.cumsum(1), self.says.cumsum(1)
        # rounding must not leave a number above the last one
        moves[:, -1] = says[:, -1] = 1
        states = np.empty(to_move.shape, dtype=np.int64)
        states[:, 0] = (to_move[:, 0] * len(moves)).astype(np.int64)
        for t in range(1, width):
            before = moves[states[:, t - 1]]
            states[:, t] = (before <= to_move[:, t, None]).sum(1)
        symbols = np.empty_like(states)
        for state, cumulative in enumerate(says):
            here = states == state
            symbols[here] = np.searchsorted(cumulative, to_say[here], side="right")
        return states, symbols

    def filtered(self, symbols: np.ndarray) -> np.ndarray:
        """P(state of a symbol | the symbols up to it), (B, T, K) float64: the forward recursion."""
        likely = self.says.T[symbols]
        found = np.empty_like(likely)
        belief = np.full((len(symbols), len(self.moves)), 1 / len(self.moves))
        for t in range(symbols.shape[1]):
            belief = belief * likely[:, t]
            belief /= belief.sum(1, keepdims=True)
            found[:, t] = belief
            belief = belief @ self.moves
        return found

    def smoothed(self, symbols: np.ndarray) -> np.ndarray:
        """P(state of a symbol | all symbols), (B, T, K) float64: forward and backward."""
        found = self.filtered(symbols)
        likely = self.says.T[symbols]
        after = np.ones((len(symbols), len(self.moves)))
        for t in range(symbols.shape[1] - 2, -1, -1):
            after = (likely[:, t + 1] * after) @ self.moves.T
            after /= after.sum(1, keepdims=True)
            found[:, t] *= after
            found[:, t] /= found[:, t].sum(1, keepdims=True)
        return found

    def alone(self, symbols: np.ndarray) -> np.ndarray:
        """P(state of a symbol | the symbol), (B, T, K) float64, all states being equally likely."""
        likely = self.says.T[symbols]
        return likely / likely.sum(-1, keepdims=True)


class SourceRows:
    """Rows of a source, each new; those of the parts are drawn by different keys."""

    def __init__(self, task: HiddenMarkov, source: Source, split: str) -> None:
        self.task, self.source, self.split = task, source, split

    @property
    def width(self) -> int:
        return self.task.width

    def hidden(self, seed: int, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(states (B, T), symbols (B, T)) of the rows at these places (B,) of a seed."""
        row = torch.from_numpy(np.asarray(index, dtype=np.int64))
        stream = f"hmm {self.split}"
        return self.source.draw(keyed_uniform(seed, 0, row, stream, 2 * self.width).numpy())

    def at(self, seed: int, index: np.ndarray) -> Batch:
        """The rows at these places (B,) in the endless sequence of a seed."""
        _, symbols = self.hidden(seed, index)
        row = torch.from_numpy(np.asarray(index, dtype=np.int64))
        return Batch(torch.from_numpy(symbols), row, self.task.vocabulary)
