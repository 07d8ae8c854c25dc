"""One run of a grid: one objective, one task, one seed, in a folder of its own.

All state is on disk, so that a run resumes on any executor. Its folder holds the learning curve
(curve.json), the result (row.json) and the trained model as a Hugging Face folder (model/).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import numpy as np
from pydantic import Field, create_model, model_validator

from lookaround.model.backbone import build, require_honest_attention, require_modes
from lookaround.model.export import export, load
from lookaround.objectives import parse
from lookaround.objectives.objective import Objective
from lookaround.settings import Settings
from lookaround.studies.jobs import Status
from lookaround.studies.synthetic.exams import LATER, BothWays, Exam, exam_of
from lookaround.studies.synthetic.tasks import Task
from lookaround.support.errors import Diverged, Interrupted, UserError
from lookaround.support.machine import local_device, threads
from lookaround.support.records import (
    Amount,
    Count,
    Part,
    Positive,
    Stored,
    as_json,
    checked,
    read_record,
)
from lookaround.support.storage import finite, write_folder, write_text
from lookaround.train import checkpoint
from lookaround.train.budget import Plan
from lookaround.train.loop import StopSignal, Trainer, stop_on_signals
from lookaround.train.parallel import World
from lookaround.train.run import schedule_for

BOTH_WAYS = "ar beside ar of reversed rows"  # half of the budget each
ROW_FILE, CURVE_FILE = "row.json", "curve.json"
# the share of right tokens at which a place counts as learned
LEARNED = 0.95
# accuracy above chance up to which a model is guessing
GUESSING = 0.05


Score = Part | None


class StoredPoint(Stored):
    """A point of a learning curve."""

    step: Count
    seconds: Amount
    positions: list[Part] = Field([])


class StoredCurve(Stored):
    """curve.json, and the row of a trial.

    Besides, each point has the figures of its task.
    """

    curve: list[StoredPoint]

    @model_validator(mode="after")
    def _goes_on(self) -> Self:
        steps = [point.step for point in self.curve]
        if steps != sorted({*steps}):
            raise ValueError(f"field 'curve' has the steps {as_json(steps)}; expected rising ones")
        if len({len(point.positions) for point in self.curve}) > 1:
            raise ValueError("field 'curve' has points of different numbers of positions")
        return self


class StoredRow(StoredCurve):
    """row.json: what a run came to. Besides, it has the figures and bounds of its task."""

    objective: str
    graph: str
    seed: int
    seconds: Amount
    steps: Count
    parameters: Count
    learning_rate: Positive
    flops: Amount
    queries: Count
    diverged_at: Count | None
    coverage: Amount | None = None
    later: Annotated[list[Part], Field(min_length=LATER, max_length=LATER)] | None = None


class StoredAnswers(StoredRow):
    """The row of a task with answers."""

    exact_match: Part
    first_hop: Part
    train_exact_match: Part
    later_positions: Score
    chance: Score
    positions: list[Part]
    ways: dict[str, Part] = Field(min_length=1)
    solved_at: Count | None
    left_chance_at: Count | None
    learned_at: list[Count | None]

    @model_validator(mode="after")
    def _one_answer(self) -> Self:
        places = {len(self.positions), *(len(point.positions) for point in self.curve)}
        if self.curve:
            places.add(len(self.learned_at))
        if len(places) > 1:
            raise ValueError(
                f"fields 'positions', 'learned_at' and those of the curve have "
                f"{as_json([*places])} entries; expected one for each place of the answer"
            )
        return self


@dataclass(frozen=True)
class SyntheticJob:
    """A run of a grid.

    out: the folder of the grid.
    folder: the folder of the run, below `out`.
    factor: of the learning rate.
    trial: a shorter run that only a learning rate is chosen by; its row is its learning curve.
    steps: of training.
    """

    out: Path
    folder: Path
    settings: Settings
    task: Task
    objective: str
    seed: int
    factor: float
    threads: int
    steps: int
    trial: bool = False


def make_trainer(
    settings: Settings, task: Task, objective: Objective, seed: int, learning_rate: float
) -> Trainer:
    """A trainer at step 0 on the training part of a task."""
    backbone = build(
        preset=settings.model.preset,
        vocabulary=task.vocabulary.size,
        context=task.width,
        special={"bos_token_id": None, "eos_token_id": None, "pad_token_id": None},
        heads=objective.head_specs(),
        init=settings.model.init,
        seed=seed,
    )
    require_modes(backbone, objective.modes())
    require_honest_attention(backbone, objective.modes(), packed=False)
    train = settings.train.model_copy(update={"batch": settings.synthetic.batch})
    return Trainer(
        backbone,
        objective,
        task.rows("train", seed, settings.synthetic.samples),
        settings=train,
        seed=seed,
        learning_rate=learning_rate,
        precision=settings.model.precision,
        compile=settings.model.compile,
        world=World(device=local_device()),
    )


def run_job(job: SyntheticJob) -> dict[str, Any]:
    """Trains and scores what of a run is not done yet; returns its row (docs/results-format.md)."""
    if (job.folder / ROW_FILE).is_file():
        checkpoint.remove_checkpoints(job.folder)
        return _read_row(job)
    job.folder.mkdir(parents=True, exist_ok=True)
    with threads(job.threads), stop_on_signals() as stop:
        run = _Run(job, stop)
        diverged_at = run.train()
        if job.trial:
            row: dict[str, Any] = {"curve": [] if diverged_at else run.curve.entries}
        else:
            row = finite(run.score() | {"diverged_at": diverged_at})
            write_folder(job.folder / "model", run.fill)
        write_text(job.folder / ROW_FILE, json.dumps(row, indent=1))
        checkpoint.remove_checkpoints(job.folder)
        run.status.done()
    return row


def run_both_ways(job: SyntheticJob) -> dict[str, Any]:
    """Trains `ar`, and the same on reversed rows, for half of the steps each; scores them together.

    Returns the row, as `run_job` does.
    """
    file = job.folder / ROW_FILE
    if file.is_file():
        return _read_row(job)
    parts = [
        replace(
            job,
            folder=job.folder.with_name(f"{job.folder.name}-{side}"),
            objective=spec,
            steps=max(1, job.steps // 2),
        )
        for side, spec in (("forward", "ar"), ("backward", "reverse"))
    ]
    trained = [run_job(part) for part in parts]
    with threads(job.threads), stop_on_signals() as stop:
        forward, backward = (load(part.folder / "model").to(local_device()) for part in parts)
        job.folder.mkdir(parents=True, exist_ok=True)
        status = Status(job.folder, job.out, f"{job.task.spec} {BOTH_WAYS}, seed {job.seed}", stop)

        def listen(rows: int) -> None:
            status.tell("scoring", 0, 1)
            if stop.set:
                raise Interrupted(f"{job.folder}: stopped; the same command goes on from there")

        settings, objective = job.settings.synthetic, parse("ar")
        exam = BothWays(backward, job.task, forward, objective, settings, job.seed, listen)
        row = trained[0] | {"objective": BOTH_WAYS, "curve": []} | exam.score()
        row.pop("later", None)
        for name in ("seconds", "steps", "parameters", "flops"):
            row[name] = sum(each[name] for each in trained)
        row["diverged_at"] = next(filter(None, (each["diverged_at"] for each in trained)), None)
        row = finite(row)
        write_text(file, json.dumps(row, indent=1))
        status.done()
    return row


class _Run:
    """A run under way, opened where its folder says that it stopped."""

    def __init__(self, job: SyntheticJob, stop: StopSignal) -> None:
        self.job, self.settings, self.stop = job, job.settings.synthetic, stop
        self.task, self.objective = job.task, parse(job.objective)
        self.curve = Curve(job.folder / CURVE_FILE, self.task.figure, job.steps)
        self.trainer = self._opened()
        which = f"learning rate x{job.factor:g}" if job.trial else f"seed {job.seed}"
        self.label = f"{job.task.spec} {job.objective}, {which}"
        self.status = Status(job.folder, job.out, self.label, stop)

    def _opened(self, at_most: int | None = None) -> Trainer:
        """The trainer of the last checkpoint up to a step; cuts the curve to it."""
        job = self.job
        rate = self.settings.learning_rate * job.factor
        trainer = make_trainer(job.settings, self.task, self.objective, job.seed, rate)
        trainer.restore_latest(job.folder, at_most)
        self.curve.cut(trainer.counters.step)
        return trainer

    def fill(self, into: Path) -> None:
        export(
            self.trainer.backbone,
            into,
            self.objective.modes(),
            mask=self.task.vocabulary.mask,
            objective=self.objective.spec,
            final_modes=self.objective.final_modes(),
        )

    def train(self) -> int | None:
        """Trains to the last step, or until the task is solved.

        Returns the step of divergence, or None. After divergence the model is restored from the
        last point of the curve.
        """
        job, settings, counters = self.job, self.settings, self.trainer.counters
        schedule, steps = (
            schedule_for(job.settings, job.steps),
            make_steps(self.objective, job.steps),
        )
        while True:
            due = counters.step % settings.every == 0 or counters.step == job.steps
            if due and counters.step > self.curve.end:
                self._add_point()
            if counters.step >= job.steps or self.curve.solved(settings.stop_at):
                return None
            until = min((counters.step // settings.every + 1) * settings.every, job.steps)
            try:
                self.trainer.run(
                    until,
                    steps,
                    schedule,
                    folder=job.folder,
                    fill=self.fill,
                    keep=frozenset({self.curve.end}),
                    stop=self.stop,
                    report=lambda p: self.status.tell(
                        "training", p.step, job.steps, p.tokens_per_second, p.step
                    ),
                )
                if not all(bool(p.isfinite().all()) for p in self.trainer.backbone.parameters()):
                    raise Diverged("the weights are not finite", counters.step)
            except Diverged as error:
                self.trainer = self._opened(at_most=self.curve.end)
                return error.step
            except Interrupted:
                raise self._interrupted() from None
            self.trainer.save(job.folder, self.fill)

    def _interrupted(self) -> Interrupted:
        return Interrupted(
            f"{self.label}: stopped at step {self.trainer.counters.step:,} of {self.job.steps:,}; "
            "the same command goes on from there"
        )

    def _listen(self, phase: str, done: int, total: int) -> None:
        """Writes how far the run is; raises Interrupted on a request to stop.

        At most one point or one score is computed again after that.
        """
        self.status.tell(phase, done, total, work=self.trainer.counters.step)
        if self.stop.set:
            raise self._interrupted()

    def _exam(self, on_read: Callable[[int], None]) -> Exam[Any]:
        return exam_of(self.task)(
            self.task, self.trainer.backbone, self.objective, self.settings, self.job.seed, on_read
        )

    def _add_point(self) -> None:
        counters = self.trainer.counters
        exam = self._exam(lambda rows: self._listen("training", counters.step, self.job.steps))
        self.curve.add({"step": counters.step, "seconds": counters.seconds} | exam.point())

    def score(self) -> dict[str, Any]:
        """The row of the trained model."""
        backbone, counters = self.trainer.backbone, self.trainer.counters
        done = 0

        def read(rows: int) -> None:
            nonlocal done
            self._listen("scoring", done, total)
            done += rows

        exam = self._exam(read)
        total = exam.score_reads
        return {
            "objective": self.objective.spec,
            "graph": self.task.spec,
            "seed": self.job.seed,
            **exam.score(),
            "seconds": counters.seconds,
            "steps": counters.step,
            **self._times(),
            "parameters": backbone.parameter_count,
            "learning_rate": self.trainer.learning_rate,
            "flops": counters.flops,
            "curve": self.curve.entries,
        }

    def _times(self) -> dict[str, Any]:
        """When answers came right, of a task that has some."""
        curve = self.curve
        if "exact_match" not in self.task.figures:
            return {}
        return {
            "solved_at": curve.solved_at(self.settings.stop_at),
            "learned_at": curve.learned_at(),
            "left_chance_at": curve.left_chance_at(self.task.chance),
        }


def _read_row(job: SyntheticJob) -> dict[str, Any]:
    """The row of a finished run; raises UserError for a damaged one, and for one of another run."""
    file, answers = job.folder / ROW_FILE, "exact_match" in job.task.figures
    if job.trial:
        return _read_curve(file, job.task.figures, StoredCurve, job.steps).as_dict()
    stored = _read_curve(file, job.task.figures, StoredAnswers if answers else StoredRow, job.steps)
    checked(_with_figures((*job.task.figures, *job.task.bounds)), stored.as_dict(), file)
    own = {"objective": job.objective, "graph": job.task.spec, "seed": job.seed}
    for name, value in own.items():
        if getattr(stored, name) != value:
            raise UserError(
                f"{file}: field '{name}' is {as_json(getattr(stored, name))}, by its folder "
                f"{as_json(value)}"
            )
    most = max(job.steps, 2)  # of two models a step each
    if stored.steps > most:
        raise UserError(f"{file}: field 'steps' is {stored.steps}; expected {most} at most")
    return stored.as_dict()


C = TypeVar("C", bound=StoredCurve)


def _read_curve(path: Path, figures: Iterable[str], model: type[C], steps: int) -> C:
    """Reads a file with a learning curve of some figures, of a run of so many steps at most.

    Raises UserError for a damaged one.
    """
    stored, with_figures = read_record(path, model), _with_figures((*figures,))
    for number, point in enumerate(stored.curve):
        checked(with_figures, point.as_dict(), f"{path}: curve[{number}]")
        if point.step > steps:
            raise UserError(
                f"{path}: field 'curve[{number}].step' is {point.step}; expected {steps} at most"
            )
    return stored


@cache
def _with_figures(names: tuple[str, ...]) -> type[Stored]:
    """An object with these shares, whatever else it has."""
    fields: dict[str, Any] = dict.fromkeys(names, (Part, ...))
    return create_model("Figures", __base__=Stored, **fields)


def make_steps(objective: Objective, steps: int) -> Plan:
    """The steps of each phase of an objective."""
    shares = tuple(share for share, _ in objective.phases())
    ends = np.rint(np.cumsum(shares) * steps).astype(int)
    return Plan(shares, tuple(int(n) for n in np.diff(ends, prepend=0)))


class Curve:
    """A run's learning curve in a file: accuracy on validation problems, by position too.

    figure: the one by which a run is solved.
    steps: of the run at most.
    """

    def __init__(self, path: Path, figure: str = "exact_match", steps: int = 10**15) -> None:
        self.path, self.figure = path, figure
        self.entries: list[dict[str, Any]] = []
        if path.is_file():
            stored = _read_curve(path, [figure], StoredCurve, steps)
            self.entries = stored.as_dict()["curve"]

    @property
    def end(self) -> int:
        """The step of the last point; 0 where there is none."""
        return self.entries[-1]["step"] if self.entries else 0

    def add(self, entry: dict[str, Any]) -> None:
        self.entries.append(entry)
        write_text(self.path, json.dumps({"curve": self.entries}))

    def cut(self, step: int) -> None:
        """Drops the points after the step from which a run resumes."""
        self.entries = [entry for entry in self.entries if entry["step"] <= step]

    def solved(self, stop_at: float | None) -> bool:
        """Whether the last two points are right enough to end."""
        last = [entry[self.figure] for entry in self.entries[-2:]]
        return stop_at is not None and len(last) == 2 and min(last) >= stop_at

    def solved_at(self, stop_at: float | None) -> int | None:
        """The step from which on every point is right enough; None where it never was."""
        return self._since(lambda right: right >= (LEARNED if stop_at is None else stop_at))

    def left_chance_at(self, chance: float) -> int | None:
        """The step from which on every point is above guessing; None where it never was."""
        return self._since(lambda right: right > chance + GUESSING)

    def _since(self, holds: Callable[[float], bool]) -> int | None:
        """The step from which on it holds of the figure at every point."""
        step = None
        for entry in reversed(self.entries):
            if not holds(entry[self.figure]):
                break
            step = entry["step"]
        return step

    def learned_at(self) -> list[int | None]:
        """For each place of the answer, the first step with LEARNED of its tokens right."""
        places = len(self.entries[0]["positions"]) if self.entries else 0
        return [
            next((e["step"] for e in self.entries if e["positions"][place] >= LEARNED), None)
            for place in range(places)
        ]
