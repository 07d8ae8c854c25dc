"""Evaluation protocols by name: a file of this package that defines one is found by itself.

    class Length(Protocol[TaskData]):
        name, needs = "length", TaskData

        def run(self, readable, data, settings, seed):
            ...
            return Scores("accuracy", value, items=(right,))

Evaluations, studies and reports loop over what is there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

import lookaround.evaluation
from lookaround.data.codec import Codec
from lookaround.data.labelled import AnyTask, PairTask, Sentence, Task, TokenTask
from lookaround.data.rows import Rows
from lookaround.data.shards import Split
from lookaround.evaluation.intervals import resample
from lookaround.model.readable import Readable, classification_mode, generation_mode
from lookaround.objectives.contract import Mode
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError
from lookaround.support.records import Count, Stored
from lookaround.support.registry import import_all
from lookaround.support.text import shown

# keys of a run in results.json that a protocol must not write over
TAKEN_KEYS = {
    *("objective", "seed", "rung", "mode", "budget", "learning_rate", "checkpoint", "curve"),
    *("layers", "bits_per_byte_by_prefix", "classification", "scores", "epochs"),
}


# ---------------------------------------------------------------------------- what is evaluated on


@dataclass(frozen=True)
class TaskData:
    """The examples of a task that every model is evaluated on: drawn once, at most so many.

    train_inputs, test_inputs: what the model's codec encodes.
    train_labels, test_labels: (n,) int64, or float64 where numbers are asked for.
    more_inputs, more_labels: training examples beside these, for what learns from more than a
        probe does.
    codec: that of the models; None where it is not at hand.
    """

    name: str
    metric: str
    train_inputs: list[Any]
    train_labels: np.ndarray
    test_inputs: list[Any]
    test_labels: np.ndarray
    more_inputs: list[Any] = field(default_factory=list)
    more_labels: np.ndarray | None = None
    codec: Codec | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """Training and test examples."""
        return len(self.train_inputs), len(self.test_inputs)

    @property
    def is_text(self) -> bool:
        return all(isinstance(item, str) for item in (*self.train_inputs, *self.test_inputs))

    @property
    def classes(self) -> int:
        """Different labels in training; 1 of numbers."""
        return 1 if self.is_regression else len(np.unique(self.train_labels))

    @property
    def is_regression(self) -> bool:
        """Whether labels are numbers and not classes."""
        return self.metric == "pearson"


@dataclass(frozen=True)
class TokenData:
    """Sentences with a label for every word, drawn once, at most so many.

    metric: "accuracy", or "span_f1" of BIO tags.
    classes: what labels are indices into.
    """

    name: str
    metric: str
    classes: list[str]
    train: list[Sentence]
    test: list[Sentence]

    @property
    def sizes(self) -> tuple[int, int]:
        """Training and test sentences."""
        return len(self.train), len(self.test)


@dataclass(frozen=True)
class PairData:
    """Minimal pairs.

    phenomena: what each pair tests.
    codec, counts: the tokenizer of the models, and how often each token stands in the training
        part, (vocabulary,) int64; None where they are not at hand.
    """

    name: str
    good: list[str]
    bad: list[str]
    phenomena: list[str]
    codec: Codec | None = None
    counts: np.ndarray | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """None for training, and pairs."""
        return 0, len(self.good)


@dataclass(frozen=True)
class TextData:
    """Text (or images, as tokens) that no model was trained on.

    test: rows of the test part.
    validation: rows of the validation part, for what a protocol has to choose.
    counts: of each token in the training part, (vocabulary,) int64; None where it is not at hand.
    train: the documents of the training part; None where they are not at hand.
    """

    test: Rows
    validation: Rows
    counts: np.ndarray | None = None
    train: Split | None = None
    name: ClassVar[str] = ""  # of its scores: a text is no task

    @property
    def pictures(self) -> bool:
        """Whether it is of pictures."""
        return self.test.codec.grid is not None


Labelled = TaskData | TokenData | PairData
AnyData = Labelled | TextData


def with_counts(
    items: Iterable[Labelled], codec: Codec, counts: np.ndarray | None
) -> list[Labelled]:
    """The same items; tasks know the codec, and minimal pairs its training counts too."""
    return [
        replace(item, codec=codec, counts=counts)
        if isinstance(item, PairData)
        else replace(item, codec=codec)
        if isinstance(item, TaskData)
        else item
        for item in items
    ]


def task_data(task: AnyTask, settings: EvaluateSettings) -> Labelled:
    """Draws a task's examples with a fixed seed, the same for every model.

    Of texts at most `probe_train` and `probe_test`, at least two of each training class; of
    sentences `token_train` and `token_test`; of minimal pairs `pairs` of each phenomenon.
    """
    if isinstance(task, TokenTask):
        train, test = (
            [part[i] for i in _subset(len(part), most)]
            for part, most in ((task.train, settings.token_train), (task.test, settings.token_test))
        )
        return TokenData(task.name, task.metric, task.classes, train, test)
    if isinstance(task, PairTask):
        return _pair_data(task, settings.pairs)
    return _text_data(task, settings)


def _subset(count: int, most: int) -> list[int]:
    return sorted(np.random.default_rng(0).permutation(count)[:most].tolist())


def _pair_data(task: PairTask, most: int) -> PairData:
    by_phenomenon: dict[str, list[int]] = {}
    for i, phenomenon in enumerate(task.phenomena):
        by_phenomenon.setdefault(phenomenon, []).append(i)
    kept = [members[i] for members in by_phenomenon.values() for i in _subset(len(members), most)]
    good, bad, phenomena = (
        [part[i] for i in kept] for part in (task.good, task.bad, task.phenomena)
    )
    return PairData(task.name, good, bad, phenomena)


def _text_data(task: Task, settings: EvaluateSettings) -> TaskData:
    train_labels, test_labels = np.array(task.train_labels), np.array(task.test_labels)
    keys = (train_labels, test_labels)
    if task.metric == "pearson":  # no class to keep
        keys = (np.zeros(len(train_labels)), np.zeros(len(test_labels)))
    train = draw(keys[0], settings.probe_train)
    more = np.setdiff1d(draw(keys[0], max(settings.finetune_labels)), train)
    test = draw(keys[1], settings.probe_test)
    return TaskData(
        name=task.name,
        metric=task.metric,
        train_inputs=[task.train_inputs[i] for i in train],
        train_labels=train_labels[train],
        test_inputs=[task.test_inputs[i] for i in test],
        test_labels=test_labels[test],
        more_inputs=[task.train_inputs[i] for i in more],
        more_labels=train_labels[more],
    )


def draw(labels: np.ndarray, most: int, *, seed: int = 0) -> np.ndarray:
    """Indices of a random subset, in order; a larger one of the same seed holds it.

    One of every class comes first, then a second one, so that none is lost.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    if len(order) <= most:
        return np.sort(order)
    seen: Counter[int] = Counter()
    later = []
    for label in labels[order].tolist():
        later.append(min(seen[label], 2))
        seen[label] += 1
    return np.sort(order[np.argsort(later, kind="stable")][:most])


# ---------------------------------------------------------------------------- protocols


@dataclass(frozen=True)
class Scores:
    """What a protocol says of one model on one task or text.

    metric: name of the figure, such as "accuracy".
    value: the figure; None where there is nothing to compare (samples).
    items: columns of n numbers each, one per item that an interval draws; see `Protocol.statistic`.
    details: whatever else is worth keeping, as plain data.
    """

    metric: str
    value: float | None
    items: Sequence[Sequence[float]] = ()
    details: dict[str, Any] = field(default_factory=dict)


class Details(Stored):
    """What is read again of `Scores.details`, for protocols that name no model of their own.

    cut: texts, or words, beyond the training length; left_out: pairs beyond it.
    """

    cut: Count = 0
    left_out: Count = 0


Data = TypeVar("Data")


def _unheard(done: int, total: int) -> None:
    """Nobody listens to a protocol's progress."""


class Protocol(ABC, Generic[Data]):
    """One way of evaluating a model. A subclass with a `name` is found by it.

    name: an identifier, not taken. Settings ask for a protocol by it.
    needs: the type of data it runs on, `TaskData` or `TextData`.
    key: of its scores in results.json (default: its name); baselines of one key stand beside
        different protocols.
    title: of its figure, for people (default: its name).
    higher: whether more is better.
    writes: whether it reads a model as generation does, or else as classification does.
    need: the need whose recommendation it decides, if any: label_texts, label_tokens or write.
    final_only: whether a study runs it at the last rung alone, for what it costs.
    measures: whether it has a figure; what has none is shown wherever settings ask for it.
    reads_model: whether `run` needs one; a baseline does not.
    kept: what its details are, where a study reads them again.
    """

    name: ClassVar[str]
    needs: ClassVar[type]
    key: ClassVar[str]
    title: ClassVar[str]
    higher: ClassVar[bool] = True
    writes: ClassVar[bool] = False
    need: ClassVar[str] = ""
    final_only: ClassVar[bool] = False
    measures: ClassVar[bool] = True
    reads_model: ClassVar[bool] = True
    kept: ClassVar[type[Details]] = Details
    # what takes long calls it with (done, all); whoever runs a protocol may set it
    progress: Callable[[int, int], None] = staticmethod(_unheard)
    registry: ClassVar[dict[str, type[Protocol[Any]]]] = {}

    def __init_subclass__(cls) -> None:
        """Adds a class with a name of its own; raises TypeError for a name or key that is taken.

        Baselines beside different protocols may share a key.
        """
        own = vars(cls)
        if "name" not in own:
            return
        cls.key, cls.need = own.get("key", cls.name), own.get("need", "")
        cls.title = own.get("title", cls.name.replace("_", " "))
        where = f"{cls.__module__}.{cls.__qualname__}"
        if not cls.name.isidentifier():
            raise TypeError(f"{where}: the name {cls.name!r} is no identifier")
        for other in Protocol.registry.values():
            ours, theirs = ({kind.name, kind.key * kind.reads_model} for kind in (cls, other))
            if ours & theirs - {""}:
                taken = f"{other.__module__}.{other.__qualname__}"
                raise TypeError(f"{where}: the name {cls.name!r} is taken by {taken}; give another")
        if cls.key in TAKEN_KEYS:
            raise TypeError(f"{where}: the key {cls.key!r} is taken by results.json; give another")
        Protocol.registry[cls.name] = cls

    def titled(self, unit: str) -> str:
        """Its title where bits are told per this unit."""
        return self.title

    @property
    def half(self) -> str:
        """The half that it belongs to: "classification" or "generation"."""
        return "generation" if self.writes else "classification"

    @abstractmethod
    def run(self, readable: Readable, data: Data, settings: EvaluateSettings, seed: int) -> Scores:
        """The scores of a model on one task or text, the same for the same seed."""

    def accepts(self, data: object) -> bool:
        """Whether it can run on this task or text."""
        return isinstance(data, self.needs)

    def mode(self, readable: Readable, settings: EvaluateSettings) -> Mode:
        """How it reads a model: in the mode asked for if it was trained, else in the usual one.

        For generation that is one of the final modes: `ar >> mlm` forgets its causal one.
        """
        if self.writes:
            usual = generation_mode(readable.final_modes)
            kind = settings.generation_mode
            return next((mode for mode in readable.modes if mode.attention == kind), usual)
        return reading(readable.modes, settings.classification_mode)

    def cost(self, data: Data, settings: EvaluateSettings) -> dict[str, int]:
        """{"texts" or "tokens": how many it reads}; raises UserError for data it cannot use."""
        if isinstance(data, TaskData | TokenData):
            return {"texts": sum(data.sizes)}
        return {}

    def statistic(self, metric: str, *items: np.ndarray) -> np.ndarray:
        """Values (R,) of the metric on R draws of the items, each column (R, n); of the items
        themselves it is `Scores.value`.
        """
        return items[0].mean(-1)

    def resampled(self, scores: Scores, resamples: int) -> np.ndarray:
        """Values (resamples,) when items are drawn with replacement; the same draws every time."""
        return resample(partial(self.statistic, scores.metric), scores.items, resamples)

    def record(self, scores: Scores, before: Scores | None = None) -> dict[str, Any]:
        """What results.json holds of a task or text under `scores`.

        before: the same of the network before training, read in the same way.
        """
        entry = {"score": scores.value, **scores.details}
        return entry | ({} if before is None else {"before": before.value})

    def column(self, name: str) -> str:
        """The metric of a task (or, without a name, of the text) in a summary."""
        return f"{self.key}/{name}" if name else self.key

    def entry(
        self, scores: Mapping[str, Scores], settings: EvaluateSettings, *, whole: bool = False
    ) -> dict[str, Any]:
        """What a run of results.json holds of it beside `scores`.

        `whole`: with details, as in evaluation.json.
        """
        return {}


# protocols, each with what it runs on
Pairs = Sequence[tuple[Protocol[Any], AnyData]]


def reading(modes: Sequence[Mode], asked: str | None) -> Mode:
    """How classification reads a model of these modes: as asked, where it was trained so."""
    return next((mode for mode in modes if mode.attention == asked), classification_mode(modes))


def registered() -> dict[str, type[Protocol[Any]]]:
    """Every protocol with a name, baselines included, in order of names."""
    import_all(lookaround.evaluation.__name__, lookaround.evaluation.__path__)
    return dict(sorted(Protocol.registry.items()))


def protocols() -> dict[str, Protocol[Any]]:
    """The protocols that read a model, by name."""
    return {name: kind() for name, kind in registered().items() if kind.reads_model}


# ---------------------------------------------------------------------------- one model


@dataclass(frozen=True)
class Evaluation:
    """Everything said of one model.

    modes: {protocol: how it read the model}.
    scores: {protocol: {name of the task, "" for a text: scores}}.
    """

    modes: dict[str, str]
    scores: dict[str, dict[str, Scores]]

    def by_half(self) -> dict[str, str]:
        """{"classification" or "generation": how that half's protocols read the model}."""
        known = protocols()
        halves = {
            known[name].half: mode
            for name, mode in self.modes.items()
            if name in known and known[name].measures and self.scores.get(name)
        }
        return dict(sorted(halves.items()))


def chosen(
    data: Iterable[AnyData], settings: EvaluateSettings
) -> list[tuple[Protocol[Any], AnyData]]:
    """(protocol, what it runs on), those that settings name and samples where they ask for some.

    A task that none of them is for gets all protocols that accept it and are quick enough for
    every rung.

    Raises UserError for a protocol that is not there.
    """
    known, named = protocols(), settings.protocols
    unknown = next((name for name in named if name not in known), None)
    if unknown is not None or not named:
        measuring = ", ".join(name for name, protocol in known.items() if protocol.measures)
        raise UserError(
            f"evaluate.protocols: no protocol is called {shown(unknown)}; give some of {measuring}"
            if named
            else f"evaluate.protocols: names none; give some of {measuring}"
        )
    pairs: list[tuple[Protocol[Any], AnyData]] = []
    for item in data:
        accepting = [protocol for protocol in known.values() if protocol.accepts(item)]
        asked = [
            protocol
            for protocol in accepting
            if (protocol.name in named if protocol.measures else settings.samples)
        ]
        measured = any(protocol.measures for protocol in asked)
        if not measured and not isinstance(item, TextData):
            asked = [protocol for protocol in accepting if not protocol.final_only]
        pairs += [(protocol, item) for protocol in asked]
    return pairs


def idle(ran: Collection[tuple[str, str]], settings: EvaluateSettings) -> list[str]:
    """Notes on protocols that settings name, beyond the usual ones, and that nothing is there for.

    ran: (protocol, name of the task or text) of what was evaluated.
    """
    usual, busy = EvaluateSettings().protocols, {name for name, _ in ran}
    return [
        f"{name}: not run, since nothing was given that it reads (docs/evaluation.md)"
        for name in settings.protocols
        if name not in usual and name not in busy
    ]


def evaluate(
    readable: Readable,
    pairs: Iterable[tuple[Protocol[Any], AnyData]],
    settings: EvaluateSettings,
    seed: int,
) -> Evaluation:
    """What protocols say of a model on what is `chosen` for them."""
    scores: dict[str, dict[str, Scores]] = {}
    modes = {}
    for protocol, item in pairs:
        found = protocol.run(readable, item, settings, seed)
        scores.setdefault(protocol.name, {})[item.name] = found
        modes[protocol.name] = str(protocol.mode(readable, settings))
    return Evaluation(modes, scores)
