"""One job of a study: a ladder of budgets for one objective and seed, trained and evaluated.

A stable trunk, off which every rung branches by a decay of its own; objectives that change with the
budget train each rung from the start. All state is on disk, so that a job resumes on any executor.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from lookaround.data.shards import TokenStore
from lookaround.evaluation.registry import Labelled, Pairs, chosen
from lookaround.model.backbone import Backbone
from lookaround.model.export import load
from lookaround.model.readable import RUN_FILE, Spent, StoredRun, open_run
from lookaround.objectives import parse
from lookaround.objectives.objective import Objective
from lookaround.settings import Settings
from lookaround.studies.compare.scoring import (
    evaluate_into,
    kept_evaluation,
    read_evaluation,
    scores_line,
    study_data,
    unscored,
)
from lookaround.studies.compare.study import rung_plan, split_rows
from lookaround.studies.folder import slug
from lookaround.studies.jobs import Status
from lookaround.support.errors import Diverged, UserError
from lookaround.support.machine import local_device, threads
from lookaround.support.records import Count, Positive, Stored, as_json, read_record
from lookaround.support.storage import remove_folder, write_folder, write_text, write_yaml
from lookaround.train.loop import (
    Logged,
    Progress,
    StopSignal,
    Trainer,
    exporter,
    read_metrics,
    stop_on_signals,
)
from lookaround.train.loss import ComponentSums, ObjectiveLoss
from lookaround.train.run import make_trainer, run_card, run_info, schedule_for
from lookaround.train.schedule import WarmupStableDecay

VALIDATION_ROWS = 256
VALIDATION_FILE, DIVERGED_FILE = "validation.json", "diverged.json"


class StoredRung(StoredRun):
    """run.yaml of a rung."""

    rung: Annotated[float, Field(gt=0, le=1)]
    seed: int
    learning_rate: Positive
    spent: Spent
    curve: list[Logged]


class StoredLoss(Stored):
    """validation.json of a rung."""

    loss: Annotated[float, Field(ge=0, allow_inf_nan=True)]


class StoredDivergence(Stored):
    """diverged.json of a ladder: the step at which the loss of a rung was not finite."""

    rung: Annotated[float, Field(gt=0, le=1)]
    step: Count


@dataclass(frozen=True)
class Job:
    """One ladder of one objective and seed, or its smallest rung in a learning-rate search.

    tasks: what is evaluated beside the held-out text.
    plan: of the last rung, {"shares", "steps"}.
    rungs: those that are trained.
    evaluated: those of them that are evaluated.
    smallest: the smallest rung when the study was made; it limits the warmup of all rungs, also of
        those added later.
    evaluation: about what evaluating a rung costs, as a share of a run at the full budget.
    last: the same of what is evaluated at the last rung alone.
    backwards: whether documents are read from their ends.
    before: work that the same process has done before it, for its line of progress.
    decay: weight decay; None: that of the settings.
    validated: whether the validation loss of every rung is asked for.
    """

    out: Path
    settings: Settings
    objective: str
    store: TokenStore
    tasks: tuple[Labelled, ...]
    seed: int
    factor: float
    plan: dict[str, list]
    rungs: tuple[float, ...]
    evaluated: tuple[float, ...]
    smallest: float
    trial: bool
    threads: int
    evaluation: float = 0.0
    last: float = 0.0
    backwards: bool = False
    before: float = 0.0
    decay: float | None = None
    validated: bool = False

    @property
    def trained(self) -> Settings:
        """The settings that runs are trained with."""
        if self.decay is None:
            return self.settings
        settings = self.settings.model_copy(deep=True)
        settings.train.weight_decay = self.decay
        return settings

    @property
    def climbed(self) -> tuple[float, ...]:
        """The rungs that it trains."""
        return (self.smallest,) if self.trial else self.rungs

    @property
    def tries(self) -> bool:
        """Whether it is a trial of a learning rate or weight decay, which may diverge."""
        return self.trial or self.validated

    @property
    def work(self) -> float:
        """Of the whole job, in runs at the full budget."""
        return sum(map(sum, self.work_by_rung().values()))

    def work_by_rung(self) -> dict[float, tuple[float, float]]:
        """{rung: (training, evaluating)} in runs at the full budget."""
        decay, shared = self.settings.train.decay, parse(self.objective).stationary
        work, forked = {}, 0.0
        for rung in self.climbed:
            training = (1 - decay) * (rung - forked) + decay * rung if shared else rung
            evaluating = self.evaluation * (not self.trial and rung in self.evaluated)
            work[rung] = training, evaluating + self.last * (evaluating > 0 and rung == 1)
            forked = rung
        return work

    @property
    def folder(self) -> Path:
        name, rate = slug(self.objective) + "-backwards" * self.backwards, f"lr-{self.factor:g}"
        if self.decay not in (None, self.settings.train.weight_decay):
            rate += f"-decay-{self.decay:g}"
        return self.out / "runs" / name / rate / f"seed-{self.seed}"

    def asked(self, rung: float, pairs: Pairs) -> Pairs:
        """What of `pairs` is asked of a rung's model."""
        if self.trial or rung not in self.evaluated:
            return []
        return [pair for pair in pairs if rung == 1 or not pair[0].final_only]

    def finished(self, pairs: Pairs) -> bool:
        """Whether nothing is left to do; pairs: what is evaluated, by which protocols."""
        if self.tries:
            return self.losses() is not None
        folders = {rung: self.folder / f"rung-{rung:g}" for rung in self.climbed}
        return all(
            (folder / RUN_FILE).is_file()
            and not unscored(kept_evaluation(folder), self.asked(rung, pairs))
            for rung, folder in folders.items()
        )

    @property
    def diverged(self) -> bool:
        """Whether a rung that it trains is known to diverge."""
        with contextlib.suppress(UserError):
            return read_record(self.folder / DIVERGED_FILE, StoredDivergence).rung in self.climbed
        return False

    def losses(self) -> dict[float, float] | None:
        """{rung: validation loss} of a finished trial, infinite where it diverged; else None."""
        if self.diverged:
            return dict.fromkeys(self.climbed, math.inf)
        found = {rung: _kept_loss(self.folder / f"rung-{rung:g}") for rung in self.climbed}
        losses = {rung: loss for rung, loss in found.items() if loss is not None}
        return losses if len(losses) == len(found) else None

    def schedule(self, rung: float, shared: bool) -> WarmupStableDecay:
        """The learning-rate schedule of a rung; branches off one trunk share its warmup."""
        end, smallest, longest = (rung_plan(self.plan, r).total for r in (rung, self.smallest, 1.0))
        return schedule_for(self.settings, end, smallest, longest if shared else end)


def run_job(job: Job) -> dict[str, Any]:
    """Trains and evaluates what is left of a job.

    Returns {"validation_losses": {rung: nats per target}} of a trial or where that is asked for,
    {"rungs": {rung: what it is}} of those evaluated. A trial that has diverged is not made again.
    """
    if job.tries and job.diverged:
        return {"validation_losses": job.losses()}
    objective = parse(job.objective)
    job.folder.mkdir(parents=True, exist_ok=True)
    label = f"{job.objective}, seed {job.seed}"
    label += ", backwards" * job.backwards + f", learning rate x{job.factor:g}" * job.trial
    label += f", weight decay {job.decay:g}" if job.validated else ""
    with threads(job.threads), stop_on_signals() as stop:
        status = Status(job.folder, job.out, label, stop)
        status.before = job.before
        rungs = job.climbed
        try:
            _train_ladder(job, objective, rungs, status, stop)
        except Diverged as error:
            if not job.tries:
                raise
            rung = next(r for r in rungs if not (job.folder / f"rung-{r:g}" / RUN_FILE).is_file())
            write_text(job.folder / DIVERGED_FILE, json.dumps({"rung": rung, "step": error.step}))
            status.done()
            return {"validation_losses": job.losses()}
        status.done()
        if not job.trial and (job.rungs[-1] == 1 or job.backwards):
            # the trunk of a rung added later is trained again, bit for bit on CPU: kept on disk,
            # it takes three times the model for each fork
            remove_folder(job.folder / "trunk")
        if job.tries:
            return {"validation_losses": {rung: _validated(job, objective, rung) for rung in rungs}}
        found = {f"{rung:g}": read_rung(job, rung) for rung in job.evaluated}
        return {"rungs": found}


def _validated(job: Job, objective: Objective, rung: float) -> float:
    """The validation loss of a trained rung, which is kept beside it and made again if damaged."""
    folder = job.folder / f"rung-{rung:g}"
    loss = _kept_loss(folder)
    if loss is None:
        loss = _validation_loss(load(folder).to(local_device()), objective, job)
        loss = math.inf if math.isnan(loss) else loss
        write_text(folder / VALIDATION_FILE, json.dumps({"loss": loss}))
    return loss


def _kept_loss(folder: Path) -> float | None:
    """The validation loss that is kept beside a rung; None: there is none, or a damaged one."""
    with contextlib.suppress(UserError):
        return read_record(folder / VALIDATION_FILE, StoredLoss).loss
    return None


def _train_ladder(
    job: Job, objective: Objective, rungs: Sequence[float], status: Status, stop: StopSignal
) -> None:
    """Trains every rung that has no folder yet, and evaluates those that are to be."""
    trainer: Trainer | None = None
    for rung in rungs:
        folder = job.folder / f"rung-{rung:g}"
        training, evaluating = job.work_by_rung()[rung]
        if (folder / RUN_FILE).is_file():
            _stored_rung(job, rung)
        else:
            trainer = _train_rung(job, objective, rung, trainer, status, stop)
        remove_folder(job.folder / f"rung-{rung:g}.branch")
        remove_folder(job.folder / f"trunk-{rung:g}")
        status.before += training
        if not job.trial and rung in job.evaluated:
            data = study_data(job.settings, job.store, job.tasks)
            pairs = job.asked(rung, chosen(data, job.settings.evaluate))
            found = evaluate_into(folder, open_run(folder), pairs, job.settings, job.seed, status)
            status.note = f"at {rung:g} of the budget: {scores_line(found, job.store.codec.unit)}"
        status.before += evaluating


def _train_rung(
    job: Job,
    objective: Objective,
    rung: float,
    trainer: Trainer | None,
    status: Status,
    stop: StopSignal,
) -> Trainer:
    """Trains one rung: the trunk to its decay start, then the branch; returns the trunk."""
    settings = job.trained
    plan = rung_plan(job.plan, rung)
    shared = objective.stationary
    trunk = job.folder / ("trunk" if shared else f"trunk-{rung:g}")
    branch = job.folder / f"rung-{rung:g}.branch"
    schedule = job.schedule(rung, shared)
    if trainer is None or not shared:
        trainer = make_trainer(
            settings,
            objective,
            job.store,
            seed=job.seed,
            factor=job.factor,
            backwards=job.backwards,
        )
        trainer.restore_latest(trunk, at_most=schedule.decay_start)
    fill = exporter(trainer.backbone, objective, job.store, length=settings.model.context)
    forks = frozenset(job.schedule(other, shared).decay_start for other in job.rungs)

    begun, work = trainer.counters.step, job.work_by_rung()[rung][0]

    def tell(progress: Progress) -> None:
        share = (progress.step - begun) / max(1, schedule.end - begun)
        rate = progress.tokens_per_second
        status.tell(f"training rung {rung:g}", progress.step, schedule.end, rate, work * share)

    def train(stage: Path, until: int, keep: frozenset[int]) -> None:
        if trainer.counters.step < until:
            stage.mkdir(exist_ok=True)
            trainer.run(
                until,
                plan,
                schedule,
                folder=stage,
                fill=fill,
                stop=stop,
                keep=keep,
                report=tell,
            )

    train(trunk, schedule.decay_start, forks)
    fork = trainer.snapshot()
    trainer.restore_latest(branch)
    train(branch, schedule.end, frozenset())
    info = run_info(settings, objective, job.store, trainer, plan)
    info |= {
        "rung": rung,
        "spent": vars(trainer.counters),
        "curve": _curve(trunk, branch, schedule.decay_start),
    }
    if job.backwards:
        info["data"]["backwards"] = True

    def write(into: Path) -> None:
        fill(into)
        write_yaml(into / RUN_FILE, info)
        run_card(into, info, branch / "metrics.jsonl")

    write_folder(job.folder / f"rung-{rung:g}", write)
    trainer.restore(*fork)
    return trainer


def _curve(trunk: Path, branch: Path, fork: int, points: int = 120) -> list[dict[str, float]]:
    """The training loss of a rung at up to `points` steps: the trunk's, then the branch's."""
    entries = [
        {key: getattr(entry, key) for key in ("step", "tokens", "flops", "seconds", "loss")}
        for folder, last in ((trunk, fork), (branch, math.inf))
        for entry in read_metrics(folder / "metrics.jsonl")
        if entry.step <= last
    ]
    stride = max(1, math.ceil(len(entries) / points))
    return entries[stride - 1 :: stride]


def _validation_loss(backbone: Backbone, objective: Objective, job: Job) -> float:
    """The objective's loss on validation rows, in nats per target; it decides learning rates."""
    rows = split_rows(job.settings, job.store, "validation")
    final = objective.at(1.0)
    components = final.components()
    loss, sums = ObjectiveLoss(backbone.eval()), ComponentSums(components)
    with torch.no_grad():
        for begin in range(0, min(len(rows), VALIDATION_ROWS), 32):
            batch = rows.take(np.arange(begin, min(begin + 32, len(rows), VALIDATION_ROWS)))
            views = tuple(view.to(backbone.device) for view in final.view(batch, 0, 0))
            sums.count(views)
            sums.add(loss(components, views, [1.0] * len(views))[1])
    return sums.mean()


def _stored_rung(job: Job, rung: float) -> StoredRung:
    """The run.yaml of a trained rung; raises UserError where it is damaged or of another run."""
    file = job.folder / f"rung-{rung:g}" / RUN_FILE
    stored, plan = read_record(file, StoredRung), rung_plan(job.plan, rung)
    own = {
        "objective": job.objective,
        "seed": job.seed,
        "rung": rung,
        "plan.shares": [*plan.shares],
        "plan.steps": [*plan.steps],
        "spent.step": plan.total,
    }
    for name, value in own.items():
        found = attrgetter(name)(stored)
        if found != value:
            raise UserError(
                f"{file}: field '{name}' is {as_json(found)}, by its folder and study "
                f"{as_json(value)}"
            )
    return stored


def read_rung(job: Job, rung: float) -> dict[str, Any]:
    """What a finished rung is: its evaluation, what it spent, its curve, rates and folder.

    Raises UserError for damaged files, and for those of another run.
    """
    folder, stored = job.folder / f"rung-{rung:g}", _stored_rung(job, rung)
    return {
        "evaluation": read_evaluation(folder),
        "spent": stored.spent.as_dict(),
        "curve": [point.as_dict() for point in stored.curve],
        "learning_rate": stored.learning_rate,
        "weight_decay": job.trained.train.weight_decay,
        "folder": str(folder),
    }
