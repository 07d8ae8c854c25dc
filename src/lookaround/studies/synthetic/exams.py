"""How a trained model of a task is scored: by its answers, or by what its states know.

An exam gives the points of a learning curve and the row of a run. `exam_of` finds that of a task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch

from lookaround.evaluation.features import candidate_layers
from lookaround.evaluation.logistic import fit_logistic
from lookaround.model.backbone import Backbone
from lookaround.model.foreign import reading
from lookaround.model.masks import attention_of
from lookaround.model.readable import classification_mode
from lookaround.objectives.contract import Shown
from lookaround.objectives.laws import LONGEST_ENUMERATED
from lookaround.objectives.objective import Objective
from lookaround.settings import SyntheticSettings
from lookaround.studies.synthetic.answers import Reader
from lookaround.studies.synthetic.tasks import Problems, Task
from lookaround.studies.synthetic.tasks.base import Split
from lookaround.studies.synthetic.tasks.hmm import HiddenMarkov
from lookaround.studies.synthetic.tasks.recall import Recall, RecallRows
from lookaround.theory.worlds import prefix_coverage

TEST_SEED, VALIDATION_SEED = 0, 1  # of the problems that all runs of a task are scored on
SEEN = 2000  # training problems that a run is scored on, at most
# with new problems every step, what is drawn from training stands from this number on
FRESH = 1 << 40
LATER = 4  # tokens that a causal model is read later, at most
ROWS_PER_PASS = 64
STRENGTH = 1.0  # C of the probe, whose examples are many
CHOOSING = 250  # training rows that the layer of a probe is chosen on, at most

T = TypeVar("T", bound=Task)
OnRead = Callable[[int], None]


class Exam(ABC, Generic[T]):
    """The scoring of one model.

    on_read: called before each pass with the number of rows; what it raises ends the exam.
    """

    def __init__(
        self,
        task: T,
        backbone: Backbone,
        objective: Objective,
        settings: SyntheticSettings,
        seed: int,
        on_read: OnRead | None = None,
    ) -> None:
        self.task, self.backbone, self.objective = task, backbone, objective
        self.settings, self.seed = settings, seed
        self.on_read: OnRead = on_read or (lambda rows: None)

    @abstractmethod
    def point(self) -> dict[str, Any]:
        """The task's figures at a point of the learning curve."""

    @abstractmethod
    def score(self) -> dict[str, Any]:
        """The figures of the trained model, and all else that its row holds of them."""

    @abstractmethod
    def once(self, rows: int) -> int:
        """Reads a few rows, for timing; returns how many, counted once for each pass."""

    @property
    @abstractmethod
    def point_reads(self) -> int:
        """How many rows a point reads, counted once for each pass."""

    @property
    @abstractmethod
    def score_reads(self) -> int:
        """How many rows a score reads, counted once for each pass."""


class _Written(Exam[T]):
    """The exam of a task whose answers are written."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.ways = [
            Reader(self.backbone, self.objective, self.task, way, self.on_read)
            for way in self.objective.at(1.0).decodings()
        ]
        self.own = self.ways[0]

    def once(self, rows: int) -> int:
        self.own.forced(self.task.rows("validation", self.seed).at(0, np.arange(rows)))
        return rows * self.own.forced_reads


class Answers(_Written[Task]):
    """Problems: the share of answers that are right as a whole, and of tokens at each place."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.watched = Problems(self.task, "validation").take(
            VALIDATION_SEED, np.arange(self.settings.watched)
        )

    def point(self) -> dict[str, Any]:
        right, solved = self.own.accuracy(self.watched)
        return {"exact_match": solved, "positions": right}

    def score(self) -> dict[str, Any]:
        """On held-out and on training problems, and in all ways of writing."""
        task, settings = self.task, self.settings
        test = Problems(task, "test").distinct(TEST_SEED, settings.queries)
        first = FRESH if settings.samples is None else 0
        seen = Problems(task, "train", samples=settings.samples).at(
            self.seed, first + np.arange(self._seen)
        )
        right, exact = self.own.accuracy(test)
        others = {way.way: float(way.solved(test).double().mean()) for way in self.ways[1:]}
        later = right[task.decision + 1 :]
        return {
            "exact_match": exact,
            "first_hop": right[task.decision],
            "later_positions": float(np.mean(later)) if later else None,
            "train_exact_match": self.own.accuracy(seen)[1],
            "positions": right,
            "ways": {self.own.way: exact, **others},
            "queries": len(test.tokens),
            "chance": task.chance,
        }

    @property
    def _seen(self) -> int:
        """How many training problems a run is scored on."""
        return min(self.settings.queries, SEEN, self.settings.samples or SEEN)

    @property
    def point_reads(self) -> int:
        return self.settings.watched * self.own.reads

    @property
    def score_reads(self) -> int:
        others = sum(way.written_reads for way in self.ways[1:])
        return self.settings.queries * (self.own.reads + others) + self._seen * self.own.reads


class Recalled(_Written[Recall]):
    """Pairs: the share of keys and of values that are written whole, each given the other."""

    def point(self) -> dict[str, Any]:
        rows = RecallRows(self.task, self.seed, "test")
        return {
            direction: float(self.own.solved(rows.questions(direction)).double().mean())
            for direction in ("forward", "backward")
        }

    def score(self) -> dict[str, Any]:
        """With what theory says: the rarest of the pairs that writing a value asks for, as a share
        of the training pairs in a value, times its tokens (`ar` has 1).
        """
        tokens, row = self.task.length, self.point()
        if tokens < LONGEST_ENUMERATED:
            row["coverage"] = tokens * float(prefix_coverage(self.objective, tokens).min())
        return row | {"queries": self.task.held_out}

    @property
    def point_reads(self) -> int:
        return 2 * self.task.held_out * self.own.written_reads

    @property
    def score_reads(self) -> int:
        return self.point_reads


class HiddenStates(Exam[HiddenMarkov]):
    """Symbols: the share of hidden states that a linear probe finds in the model's states.

    The probe is a logistic regression on states of training rows; its layer is chosen on a fifth of
    the rows, or of CHOOSING of them. B rows, T symbols, L candidate layers, D hidden width.
    """

    def point(self) -> dict[str, Any]:
        train, test = (self._read(split, self._few) for split in ("train", "test"))
        return {"state_accuracy": _probed(train, test)}

    def score(self) -> dict[str, Any]:
        """With the bounds on the same test rows; `later` of a causal model: the accuracy with the
        states of the next one, two .. symbols appended, zeros where the row ends before.
        """
        train, test = (self._read(split, self.settings.queries) for split in ("train", "test"))
        source = self.task.source(self.seed)
        posteriors = (source.alone, source.filtered, source.smoothed)
        row: dict[str, Any] = {"state_accuracy": _probed(train, test)}
        for name, posterior in zip(self.task.bounds, posteriors, strict=True):
            row[name] = float((posterior(test.symbols).argmax(-1) == test.hidden).mean())
        if self.waits:
            row["later"] = [_probed(train, test, later) for later in range(1, LATER + 1)]
        return row | {"queries": self.settings.queries}

    def once(self, rows: int) -> int:
        """A pass over the rows and a fit of one layer, which is about what a score takes of each;
        what is read later comes on top.
        """
        read = self._read("validation", rows)
        fit_logistic(_flat(read.states[0]), read.hidden.ravel(), STRENGTH)
        return rows

    @property
    def point_reads(self) -> int:
        return 2 * self._few

    @property
    def score_reads(self) -> int:
        return 2 * self.settings.queries

    @property
    def _few(self) -> int:
        """Rows of either part behind a point of the learning curve."""
        return max(1, self.settings.queries // 10)

    @property
    def attention(self) -> str:
        """How the model is read, as a classifier is."""
        return classification_mode(self.objective.at(1.0).modes()).attention

    @property
    def waits(self) -> bool:
        """Whether later states know more of a symbol than its own."""
        return self.attention == "causal"

    def _read(self, split: Split, rows: int) -> _Read:
        """Rows of a part; those of training begin where no run has read."""
        first, seed = (FRESH, self.seed) if split == "train" else (0, TEST_SEED)
        hidden, symbols = self.task.rows(split, self.seed).hidden(seed, first + np.arange(rows))
        return _Read(self._states(symbols), symbols, hidden)

    def _states(self, symbols: np.ndarray) -> list[np.ndarray]:
        """States (B, T, D) of each candidate layer."""
        layers, read = candidate_layers(self.backbone.sizes.layers), []
        with reading(self.backbone):
            for part in torch.from_numpy(symbols).split(ROWS_PER_PASS):
                self.on_read(len(part))
                lengths = torch.full((len(part),), part.shape[1])
                shown = Shown(part, attention_of(self.attention, lengths))
                states = self.backbone.states(shown.to(self.backbone.device), all_layers=True)
                read.append([states[layer].float().cpu().numpy() for layer in layers])
        return [np.concatenate(each) for each in zip(*read, strict=True)]


class BothWays(HiddenStates):
    """The same of a model side by side with one of reversed rows (`backward`), both causal."""

    waits = False

    def __init__(self, backward: Backbone, *given: Any) -> None:
        super().__init__(*given)
        self.backward = HiddenStates(self.task, backward, *given[2:])

    def _states(self, symbols: np.ndarray) -> list[np.ndarray]:
        left = super()._states(symbols)
        right = self.backward._states(symbols[:, ::-1].copy())
        pairs = zip(left, right, strict=True)
        return [np.concatenate([one, other[:, ::-1]], 2) for one, other in pairs]


class _Read(NamedTuple):
    """What a model makes of rows: states (B, T, D) of each candidate layer, beside the symbols
    (B, T) and the hidden states (B, T).
    """

    states: list[np.ndarray]
    symbols: np.ndarray
    hidden: np.ndarray


def _probed(train: _Read, test: _Read, later: int = 0) -> float:
    """The accuracy of a probe on test rows; its layer is chosen on a fifth of training rows."""

    def right(layer: int, fit: slice, part: _Read, asked: slice) -> float:
        features, wanted = (
            _with_later(each.states[layer][rows], later)
            for each, rows in ((train, fit), (part, asked))
        )
        model = fit_logistic(_flat(features), train.hidden[fit].ravel(), STRENGTH)
        return float((model.predict(_flat(wanted)) == part.hidden[asked].ravel()).mean())

    rows = min(len(train.hidden), CHOOSING)
    fifth = max(1, rows // 5)
    fit = slice(fifth if rows > 1 else 0, rows)
    layers = range(len(train.states))
    best = max(layers, key=lambda layer: right(layer, fit, train, slice(fifth)))
    return right(best, slice(None), test, slice(None))


def _with_later(states_btd: np.ndarray, later: int) -> np.ndarray:
    """States (B, T, (1 + later) D) with those of the next symbols appended, zeros after the end."""
    padded = np.pad(states_btd, ((0, 0), (0, later), (0, 0)))
    width = states_btd.shape[1]
    return np.concatenate([padded[:, k : k + width] for k in range(later + 1)], 2)


def _flat(states_btd: np.ndarray) -> np.ndarray:
    return states_btd.reshape(-1, states_btd.shape[-1])


def exam_of(task: Task) -> type[Exam[Any]]:
    """How models of a task are scored."""
    if isinstance(task, HiddenMarkov):
        return HiddenStates
    return Recalled if isinstance(task, Recall) else Answers
