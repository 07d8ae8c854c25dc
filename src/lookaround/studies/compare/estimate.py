"""What a study will cost: steps, tokens and FLOPs by count, seconds by timing a little of it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from lookaround.evaluation.registry import (
    AnyData,
    PairData,
    Protocol,
    TaskData,
    TokenData,
    chosen,
    draw,
)
from lookaround.model.readable import Readable
from lookaround.objectives import AR
from lookaround.objectives.contract import Mode
from lookaround.studies.compare.scoring import study_data
from lookaround.studies.compare.study import Study, plans_of
from lookaround.studies.compare.timing import speed_of
from lookaround.support.machine import local_device, threads
from lookaround.train.budget import steps_cost
from lookaround.train.run import make_trainer, step_cost

SHARE, LEAST = 0.1, 60  # of its examples that a protocol is timed on, and so many at least


@dataclass(frozen=True)
class Estimate:
    """What a study will cost, and what it is made of.

    by run, at the full budget: `flops_per_run`, `steps_per_run`, `tokens_per_run`, and
        `epochs_per_run`, tokens over those of the training part.
    flops: of all runs together.
    memory_bytes: of one process.
    seconds: of training, on this machine.
    evaluation_seconds: of evaluating all rungs, the networks before training among them.
    corpus: documents, duplicates left out, bytes, tokens and vocabulary.
    tasks: {task: metric, classes, columns, training and test examples, notes}.
    """

    parameters: int
    flops_per_run: dict[str, float]
    steps_per_run: dict[str, int]
    tokens_per_run: dict[str, float]
    epochs_per_run: dict[str, float]
    flops: float
    memory_bytes: float
    seconds: float
    evaluation_seconds: float = 0.0
    corpus: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)


def estimate(study: Study, *, evaluation: bool = True) -> Estimate:
    """The cost of a study, from counted FLOPs and the time of a few steps here.

    Steps are of `ar`, or where an encoder is continued of the first objective.
    evaluation: whether that is timed too.
    """
    settings = study.settings
    with speed_of(study) as speed:
        plans = plans_of(study, speed=speed)["plans"]
    flops, steps, tokens = {}, {}, {}
    for objective in study.objectives:
        trainer = make_trainer(settings, objective, study.store, seed=settings.seed)
        counts = plans[objective.spec]["steps"]
        by_unit = {
            unit: steps_cost(objective, counts, partial(step_cost, trainer, unit=unit))
            for unit in ("flops", "tokens")
        }
        flops[objective.spec], tokens[objective.spec] = by_unit["flops"], by_unit["tokens"]
        steps[objective.spec] = sum(counts)
    timed = study.objectives[0] if study.backbone.source.encoder else AR()
    trainer = make_trainer(settings, timed, study.store, seed=settings.seed)
    with threads(study.threads):
        phase = timed.at(0.5)
        rate = (
            study.jobs * step_cost(trainer, phase, "flops") / step_cost(trainer, phase, "seconds")
        )
    search = (len(settings.compare.lr_factors) - 1) * study.rungs[0]
    decay, rungs, last = settings.train.decay, sum(study.rungs), study.rungs[-1]
    ladders = settings.compare.seeds + len(study.weight_decays(plans)) - 1
    total = 0.0
    for objective in study.objectives:
        # in full budgets: branches off one trunk share all but their decays
        ladder = (1 - decay) * last + decay * rungs if objective.stationary else rungs
        total += flops[objective.spec] * (ladder * ladders + search)
    parameters = study.backbone.parameter_count
    split = study.store.index["splits"]["train"]
    description = study.corpus.description
    return Estimate(
        parameters=parameters,
        flops_per_run=flops,
        steps_per_run=steps,
        tokens_per_run=tokens,
        epochs_per_run={spec: count / split["tokens"] for spec, count in tokens.items()},
        flops=total,
        memory_bytes=study.memory_bytes,
        seconds=total / rate,
        evaluation_seconds=_evaluation_seconds(study) if evaluation else 0.0,
        corpus={
            **{key: description.get(key, 0) for key in ("documents", "duplicates", "bytes")},
            "training_documents": split["documents"],
            "training_tokens": split["tokens"],
            "vocabulary": study.store.index["vocabulary"],
        },
        tasks=study.described_tasks,
    )


def _evaluation_seconds(study: Study) -> float:
    """Seconds of evaluating a study, from a share of what each protocol reads, on this machine."""
    settings = study.settings
    data = study_data(settings, study.store, study.data)
    pairs = chosen(data, settings.evaluate)
    seeds, rungs = settings.compare.seeds, len(study.rungs)
    total = 0.0
    with threads(study.threads):
        # objectives of the same modes are read alike
        by_modes: dict[tuple[Mode, ...], int] = {}
        for objective in study.objectives:
            key = tuple(objective.modes())
            by_modes[key] = by_modes.get(key, 0) + 1
        for modes, objectives in by_modes.items():
            each, last = (_seconds(study, modes, _asked(pairs, final)) for final in (False, True))
            total += seeds * objectives * (each * rungs + last * study.complete)
            before = [pair for pair in pairs if not pair[0].writes]
            total += seeds * _seconds(study, modes, before)
    return total / study.jobs


def _asked(
    pairs: Iterable[tuple[Protocol[Any], AnyData]], final: bool
) -> list[tuple[Protocol[Any], AnyData]]:
    return [pair for pair in pairs if pair[0].final_only == final]


def _seconds(
    study: Study, modes: tuple[Mode, ...], pairs: Iterable[tuple[Protocol[Any], AnyData]]
) -> float:
    """Seconds of protocols on a model of these modes, scaled up from a share of their data."""
    settings = study.settings.evaluate
    backbone = study.backbone.to(local_device())
    context = study.settings.model.context
    readable = Readable(backbone, study.store.codec, modes, modes, context, None)
    total = 0.0
    for protocol, item in pairs:
        part, options = _part(item, settings)
        whole, some = (
            sum(protocol.cost(data, options).values())
            for data, options in ((item, settings), (part, options))
        )
        clock = time.perf_counter()
        protocol.run(readable, part, options, 0)
        total += (time.perf_counter() - clock) * max(whole, 1) / max(some, 1)
    return total


def _part(item: AnyData, settings: Any) -> tuple[AnyData, Any]:
    """A share of what a protocol reads, and settings that ask for no more of a text."""
    sizes = len(settings.finetune_labels)
    fewer = settings.model_copy(
        update={
            "positions": max(2, round(SHARE * settings.positions)),
            "samples": 0,
            "reconstructed": max(2, round(SHARE * settings.reconstructed)),
            "finetune_draws": [1] * sizes,
            "finetune_epochs": [1] * sizes,
        }
    )

    def first(values: Any) -> Any:
        return values[: max(LEAST, round(SHARE * len(values)))]

    if isinstance(item, TaskData):
        parts: dict[str, Any] = {}
        for part in ("train", "test"):
            inputs, labels = (getattr(item, f"{part}_{name}") for name in ("inputs", "labels"))
            # of every class some: files may list one after the other
            classes = np.zeros(len(labels)) if item.is_regression else labels
            rows = draw(classes, max(LEAST, round(SHARE * len(labels))))
            parts[f"{part}_inputs"] = [inputs[row] for row in rows]
            parts[f"{part}_labels"] = labels[rows]
        item = replace(item, **parts, more_inputs=[], more_labels=None)
    elif isinstance(item, TokenData):
        item = replace(item, train=first(item.train), test=first(item.test))
    elif isinstance(item, PairData):
        item = replace(
            item, **{name: first(getattr(item, name)) for name in ("good", "bad", "phenomena")}
        )
    return item, fewer
