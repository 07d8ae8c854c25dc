"""What a study evaluates: models, networks before training, and baselines.

Scores of a protocol are kept as soon as they are there, so that a study goes on from them and takes
more protocols later.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BeforeValidator, model_validator

from lookaround.data.shards import TokenStore
from lookaround.evaluation.baselines import run_baselines
from lookaround.evaluation.registry import (
    AnyData,
    Evaluation,
    Labelled,
    Pairs,
    Protocol,
    Scores,
    TokenData,
    chosen,
    evaluate,
    protocols,
    with_counts,
)
from lookaround.model.readable import Readable
from lookaround.objectives import parse
from lookaround.objectives.contract import Mode
from lookaround.report.schema.comparison import TaskRun
from lookaround.settings import Settings
from lookaround.studies.compare.study import text_data
from lookaround.studies.jobs import Status
from lookaround.support.errors import UserError
from lookaround.support.machine import local_device, threads
from lookaround.support.records import Stored, as_json, checked, read_plain
from lookaround.support.storage import finite, write_text
from lookaround.train.loop import stop_on_signals
from lookaround.train.run import build_backbone

EVALUATION_FILE = "evaluation.json"
TOKENS = "tokens"  # the protocol of words


def study_data(
    settings: Settings, store: TokenStore, tasks: Iterable[Labelled]
) -> tuple[AnyData, ...]:
    """All that a study's models are evaluated on: its tasks and the held-out text."""
    text = text_data(settings, store)
    return (*with_counts(tasks, store.codec, text.counts), text)


def evaluate_into(
    folder: Path, readable: Readable, pairs: Pairs, settings: Settings, seed: int, status: Status
) -> Evaluation:
    """What protocols say of a model, kept in the folder's evaluation.json; what is there stays."""
    found = kept_evaluation(folder)
    for protocol, item in unscored(found, pairs):
        phase = " ".join(filter(None, ("evaluating:", protocol.name, item.name)))
        status.show(phase, 0, 1)
        protocol.progress = partial(status.tell, phase)
        with status.repeatable():
            more = evaluate(readable, [(protocol, item)], settings.evaluate, seed)
            scores = found.scores | {
                name: found.scores.get(name, {}) | entries for name, entries in more.scores.items()
            }
            found = write_evaluation(folder, Evaluation(found.modes | more.modes, scores))
    return found


def kept_evaluation(folder: Path) -> Evaluation:
    """What a folder's evaluation.json holds, nothing where there is none."""
    is_there = (folder / EVALUATION_FILE).is_file()
    return read_evaluation(folder) if is_there else Evaluation({}, {})


def unscored(found: Evaluation, pairs: Pairs) -> Pairs:
    """What of `pairs` an evaluation lacks."""
    return [
        (protocol, item)
        for protocol, item in pairs
        if item.name not in found.scores.get(protocol.name, {})
    ]


def write_evaluation(folder: Path, evaluation: Evaluation) -> Evaluation:
    """Writes a folder's evaluation.json, whole or not at all; returns it as it is read again."""
    write_text(folder / EVALUATION_FILE, json.dumps(asdict(evaluation)))
    return read_evaluation(folder)


# truth values count as 0 and 1
_Item = Annotated[float, BeforeValidator(lambda v: int(v) if isinstance(v, bool) else v)]


class StoredScores(Stored):
    """Scores as JSON."""

    metric: str
    value: float | None
    items: list[list[_Item]]
    details: dict[str, Any]

    @model_validator(mode="after")
    def _one_of_each_for_an_item(self) -> Self:
        sizes = [len(column) for column in self.items]
        if len({*sizes}) > 1 or 0 in sizes:
            raise ValueError(f"columns of one length under 'items', not of {as_json(sizes)}")
        return self


class StoredEvaluation(Stored):
    """evaluation.json of a model."""

    modes: dict[str, str]
    scores: dict[str, dict[str, StoredScores]]


def read_evaluation(folder: Path) -> Evaluation:
    """What a folder's evaluation.json holds; raises UserError for a damaged or an older one."""
    file = folder / EVALUATION_FILE
    try:
        plain = read_plain(file)
        if isinstance(plain, dict) and "bits_per_byte" in plain:
            raise UserError(f"{file}: written by an older lookaround")
        stored = checked(StoredEvaluation, plain, file)
        known = protocols()
        for name, entries in stored.scores.items():
            for task, entry in entries.items():
                if name in known:
                    _require_whole(known[name], task, entry, file)
    except UserError as error:
        raise UserError(f"{error}; delete it, and the same command makes it again") from None
    scores = {
        name: {task: _scores(entry) for task, entry in entries.items()}
        for name, entries in stored.scores.items()
    }
    return Evaluation(stored.modes, scores)


def _scores(stored: StoredScores) -> Scores:
    return Scores(stored.metric, stored.value, stored.items, stored.details)


def _require_whole(protocol: Protocol[Any], task: str, stored: StoredScores, file: Path) -> None:
    """Raises UserError for scores that their protocol cannot read again, and for a value that is
    not that of their items.
    """
    scores, field = _scores(stored), f"field 'scores.{protocol.name}[{task!r}]'"
    checked(protocol.kept, scores.details, f"{file}: {field}: details")
    checked(TaskRun, finite(protocol.record(scores)), f"{file}: {field}")
    if not protocol.measures and scores.value is not None:
        raise UserError(f"{file}: truncated or not ours ({field} has a value; expected none)")
    if not scores.items:
        return
    try:
        columns = [np.array([column]) for column in scores.items]
        own = float(protocol.statistic(scores.metric, *columns)[0])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        reason = f"{type(error).__name__}: {str(error)[:80]}"
        raise UserError(
            f"{file}: truncated or not ours ({field}: no '{scores.metric}' of these items: "
            f"{reason})"
        ) from None
    if not math.isclose(own, math.nan if scores.value is None else scores.value, abs_tol=1e-6):
        raise UserError(
            f"{file}: truncated or not ours ({field} has the value {scores.value}, of its items "
            f"{own:g})"
        )


def scores_line(evaluation: Evaluation, unit: str) -> str:
    """The scores of a rung in one line, as far as they decide a recommendation.

    unit: what bits are told per.
    """
    return ", ".join(
        f"{scores.value:.3f} {task or protocol.titled(unit)}"
        for name, protocol in protocols().items()
        for task, scores in evaluation.scores.get(name, {}).items()
        if protocol.need and scores.value is not None
    )


# ---------------------------------------------------------------------------- before training


@dataclass(frozen=True)
class Untrained:
    """The network of a seed before training, read in one way.

    attention: the kind of the way.
    tokens_only: whether words alone are asked for, where no objective reads in this way.
    """

    out: Path
    settings: Settings
    store: TokenStore
    tasks: tuple[Labelled, ...]
    seed: int
    attention: str
    tokens_only: bool
    threads: int

    @property
    def folder(self) -> Path:
        return untrained_folder(self.out, self.attention, self.seed)

    def asked(self, pairs: Pairs) -> Pairs:
        """What of `pairs` is asked of it."""
        return [
            (protocol, item)
            for protocol, item in pairs
            if not protocol.writes and (protocol.needs is TokenData or not self.tokens_only)
        ]

    def finished(self, pairs: Pairs) -> bool:
        """Whether nothing is left to do; pairs: what is evaluated, by which protocols."""
        return not unscored(kept_evaluation(self.folder), self.asked(pairs))


def untrained_folder(out: Path, attention: str, seed: int) -> Path:
    """The folder of a network before training."""
    return out / "runs" / "untrained" / attention / f"seed-{seed}"


def run_untrained(job: Untrained) -> Evaluation:
    """What the protocols that do not write say of a network before training."""
    codec, modes = job.store.codec, (Mode(job.attention, 1),)
    job.folder.mkdir(parents=True, exist_ok=True)
    with threads(job.threads), stop_on_signals() as stop:
        status = Status(job.folder, job.out, f"before training, read {job.attention}", stop)
        backbone = build_backbone(job.settings, parse("ar"), codec, job.seed).to(local_device())
        readable = Readable(backbone, codec, modes, modes, job.settings.model.context, None)
        data = study_data(job.settings, job.store, job.tasks)
        pairs = job.asked(chosen(data, job.settings.evaluate))
        found = evaluate_into(job.folder, readable, pairs, job.settings, job.seed, status)
        status.done()
    return found


def baselines_of(
    settings: Settings, store: TokenStore, tasks: tuple[Labelled, ...], name: str
) -> dict[str, Scores]:
    """{baseline: scores} of one of the tasks, or of the text, beside the protocols asked for."""
    data = study_data(settings, store, tasks)
    item = next(item for item in data if item.name == name)
    names = [protocol.name for protocol, _ in chosen([item], settings.evaluate)]
    return run_baselines(item, settings.evaluate, names)
