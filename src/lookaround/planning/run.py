"""One run of the planning benchmark: one objective, one task, one seed, in a folder of its own.

Everything is on disk, so that a run that died goes on where it stopped, on whatever executor. Its folder holds the learning
curve (curve.json), the result (row.json) and the trained model as a Hugging Face folder (model/).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookaround.errors import Diverged, Interrupted
from lookaround.model.backbone import Backbone, build, require_honest_attention
from lookaround.model.export import export
from lookaround.objectives import parse
from lookaround.objectives.view import Batch, Objective
from lookaround.planning.answers import Reader
from lookaround.planning.tasks import Problems, Task, parse_task
from lookaround.pool import Status
from lookaround.settings import Settings
from lookaround.storage import finite, read_mapping, write_folder, write_text
from lookaround.train import checkpoint
from lookaround.train.budget import Plan
from lookaround.train.distributed import World, local_device
from lookaround.train.loop import Trainer, stop_on_signals
from lookaround.train.run import schedule_for

__all__ = ["PlanJob", "make_plan_trainer", "run_plan_job", "task_of"]

ROW_FILE, CURVE_FILE = "row.json", "curve.json"
TEST_SEED, VALIDATION_SEED = 0, 1  # of the problems that all runs of a task are scored on
FRESH = 1 << 40  # where every problem is new, accuracy in training is measured on those from this number on
AWAY = 0.05  # how far above chance an accuracy is no longer that of guessing
LEARNED = 0.95  # the share of right tokens at which a place counts as learned


@dataclass(frozen=True)
class PlanJob:
    """A run of a grid. factor: of the learning rate. folder: where it lives, below `out`, the grid's.

    trial: a shorter run that only a learning rate is chosen by; its row is its learning curve.
    """

    out: Path
    folder: Path
    settings: Settings
    task: str
    objective: str
    seed: int
    factor: float
    threads: int
    trial: bool = False

    @property
    def steps(self) -> int:
        plan = self.settings.plan
        return max(1, round(plan.steps * plan.trial)) if self.trial else plan.steps


def task_of(settings: Settings, word: str) -> Task:
    """The task of a word under the grid's settings."""
    plan = settings.plan
    return parse_task(word, labels=plan.labels, query=plan.query, edges=plan.edges)


def make_plan_trainer(
    settings: Settings, task: Task, objective: Objective, seed: int, learning_rate: float
) -> Trainer:
    """A trainer at step 0 on the training part of a task."""
    vocabulary = task.vocabulary.size
    backbone = build(
        preset=settings.model.preset, vocabulary=vocabulary, context=task.width,
        special={"bos_token_id": None, "eos_token_id": None, "pad_token_id": None},
        heads=objective.head_specs(), init=settings.model.init, seed=seed,
    )  # fmt: skip
    require_honest_attention(backbone, objective.modes())
    train = settings.train.model_copy(update={"batch": settings.plan.batch})
    return Trainer(
        backbone, objective, Problems(task, "train", samples=settings.plan.samples),
        settings=train, seed=seed, learning_rate=learning_rate, precision=settings.model.precision,
        compile=settings.model.compile, world=World(device=local_device()),
    )  # fmt: skip


def run_plan_job(job: PlanJob) -> dict[str, Any]:
    """Trains and scores what of a run is not done yet; returns its row (docs/results-format.md)."""
    torch.set_num_threads(job.threads)
    if (job.folder / ROW_FILE).is_file():
        return read_mapping(job.folder / ROW_FILE, {"curve": list})
    settings, plan = job.settings, job.settings.plan
    task, objective = task_of(settings, job.task), parse(job.objective)
    job.folder.mkdir(parents=True, exist_ok=True)
    trainer = make_plan_trainer(settings, task, objective, job.seed, plan.learning_rate * job.factor)
    validation = Problems(task, "validation").take(VALIDATION_SEED, np.arange(plan.watched))
    curve = Curve(job.folder / CURVE_FILE)
    latest = checkpoint.latest_checkpoint(job.folder)
    if latest is not None:
        trainer.restore_from(latest)
    curve.cut(trainer.counters.step)

    def fill(into: Path) -> None:
        export(trainer.backbone, into, objective.modes(), mask=task.vocabulary.mask)

    schedule, steps = schedule_for(settings, job.steps), make_steps(objective, job.steps)
    which = f"learning rate x{job.factor:g}" if job.trial else f"seed {job.seed}"
    label = f"{job.task} {job.objective}, {which}"
    with stop_on_signals() as stop:
        status = Status(job.folder, job.out, label, stop)
        while trainer.counters.step < job.steps and not curve.solved(plan.stop_at):
            until = min((trainer.counters.step // plan.every + 1) * plan.every, job.steps)
            try:
                trainer.run(
                    until, steps, schedule, folder=job.folder, fill=fill, stop=stop,
                    report=lambda p: status.train("training", p, job.steps),
                )  # fmt: skip
            except Diverged as error:
                status.done()
                if job.trial:
                    return {"curve": []}  # a learning rate that loses
                raise Diverged(f"{label}: {error}") from None
            except Interrupted:
                step = trainer.counters.step
                raise Interrupted(
                    f"{label}: stopped at step {step:,} of {job.steps:,}; the same command goes on from there"
                ) from None
            right, solved = accuracy(own_reader(trainer.backbone, objective, task), validation)
            curve.add(
                {
                    "step": trainer.counters.step,
                    "seconds": trainer.counters.seconds,
                    "exact_match": solved,
                    "positions": right,
                }
            )
            trainer.save(job.folder, fill)
        row: dict[str, Any] = {"curve": curve.entries}
        if not job.trial:
            status.show("scoring", 0, 1, 0.0)
            row = finite(score(job, trainer, task, objective, curve))
            write_folder(job.folder / "model", fill)
        write_text(job.folder / ROW_FILE, json.dumps(row, indent=1))
        for _, old in checkpoint.checkpoints(job.folder):
            shutil.rmtree(old, ignore_errors=True)
        status.done()
    return row


def make_steps(objective: Objective, steps: int) -> Plan:
    """The steps of each phase of an objective."""
    shares = tuple(share for share, _ in objective.phases())
    ends = np.rint(np.cumsum(shares) * steps).astype(int)
    return Plan(shares, tuple(int(n) for n in np.diff(ends, prepend=0)))


def own_reader(backbone: Backbone, objective: Objective, task: Task) -> Reader:
    """The model as it answers in the objective's own way."""
    return Reader(backbone, objective, task, objective.at(1.0).decodings()[0])


def accuracy(reader: Reader, batch: Batch) -> tuple[list[float], float]:
    """(share of right tokens at each place of the answer, share of problems solved).

    A token counts as right given the true ones before it; of a model that writes in parallel, by itself.
    """
    right = reader.right(batch)
    # a greedy answer is the true one if and only if every token is, given the true ones before it
    solved = right.all(1) if reader.stepwise and not reader.task.several else reader.solved(batch)
    return right.double().mean(0).tolist(), float(solved.double().mean())


def score(job: PlanJob, trainer: Trainer, task: Task, objective: Objective, curve: Curve) -> dict[str, Any]:
    """The row of a trained model: how right it is on held-out and on training problems, where, and when it came to be so."""
    plan = job.settings.plan
    backbone = trainer.backbone
    test = Problems(task, "test").distinct(TEST_SEED, plan.queries)
    first = FRESH if plan.samples is None else 0
    seen = Problems(task, "train", samples=plan.samples).at(
        job.seed, first + np.arange(min(plan.queries, 2000, plan.samples or 2000))
    )
    own = own_reader(backbone, objective, task)
    right = own.right(test).double().mean(0).tolist()
    ways = {
        way: float(Reader(backbone, objective, task, way).solved(test).double().mean())
        for way in objective.at(1.0).decodings()
    }
    later = right[task.decision + 1 :]
    return {
        "objective": objective.spec,
        "graph": task.name,
        "seed": job.seed,
        "exact_match": ways[own.way],
        "first_hop": right[task.decision],
        "later_positions": float(np.mean(later)) if later else None,
        "train_exact_match": accuracy(own, seen)[1],
        "seconds": trainer.counters.seconds,
        "steps": trainer.counters.step,
        "solved_at": curve.solved_at(plan.stop_at),
        "learned_at": curve.learned_at(),
        "left_chance_at": curve.left_chance_at(task.chance),
        "positions": right,
        "ways": ways,
        "queries": len(test.tokens),
        "chance": task.chance,
        "parameters": sum(p.numel() for p in backbone.parameters()),
        "learning_rate": trainer.learning_rate,
        "flops": trainer.counters.flops,
        "curve": curve.entries,
    }


class Curve:
    """The learning curve of a run in a file: accuracy on validation problems, in all and by place, as training goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        if path.is_file():
            self.entries = read_mapping(path, {"curve": list})["curve"]

    def add(self, entry: dict[str, Any]) -> None:
        self.entries.append(entry)
        write_text(self.path, json.dumps({"curve": self.entries}))

    def cut(self, step: int) -> None:
        """Forgets what lies beyond the step that a run goes on from."""
        self.entries = [entry for entry in self.entries if entry["step"] <= step]

    def solved(self, stop_at: float | None) -> bool:
        """Whether the last two points are right enough to end."""
        last = [entry["exact_match"] for entry in self.entries[-2:]]
        return stop_at is not None and len(last) == 2 and min(last) >= stop_at

    def solved_at(self, stop_at: float | None) -> int | None:
        """The step from which on every point is right enough; None where it never was."""
        return self._since(lambda right: right >= (LEARNED if stop_at is None else stop_at))

    def left_chance_at(self, chance: float) -> int | None:
        """The step from which on every point is right more often than guessing would be; None where it never was."""
        return self._since(lambda right: right > chance + AWAY)

    def _since(self, holds: Callable[[float], bool]) -> int | None:
        """The step from which on it holds of the exact match at every point."""
        step = None
        for entry in reversed(self.entries):
            if not holds(entry["exact_match"]):
                break
            step = entry["step"]
        return step

    def learned_at(self) -> list[int | None]:
        """For each place of the answer, the first step at which LEARNED of the tokens there were right."""
        places = len(self.entries[0]["positions"]) if self.entries else 0
        return [
            next((e["step"] for e in self.entries if e["positions"][place] >= LEARNED), None)
            for place in range(places)
        ]
