"""`lookaround plan`: does an objective look ahead? Path-star graphs and sums, every objective on one trunk.

    lookaround plan --graph 3,3 --graph 2,5 --objectives "ar, reverse, mtp(n=4, weights=1.0), teacherless" --seeds 3

One job per task, objective and seed trains a model on problems drawn by a seeded generator and scores it on problems of a part
of the key space that training never draws from. All runs of a grid have the same steps, batch, trunk and test problems.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lookaround.evaluation.intervals import seed_interval
from lookaround.model.fingerprint import model_fingerprint
from lookaround.objectives import parse_list
from lookaround.objectives.objective import Objective
from lookaround.settings import Settings
from lookaround.studies.events import Event, Report, silent
from lookaround.studies.folder import StudyFolder, slug
from lookaround.studies.jobs import Jobs
from lookaround.studies.synthetic import SAME
from lookaround.studies.synthetic.answers import Reader
from lookaround.studies.synthetic.job import (
    PlanJob,
    make_plan_trainer,
    readers,
    reads_of_curve,
    reads_of_score,
    run_plan_job,
    task_of,
    trial_steps,
)
from lookaround.studies.synthetic.tasks import Problems, StarGraph, Task, controlled
from lookaround.support.errors import UserError
from lookaround.support.machine import machine, threads_of, usable_cores, versions
from lookaround.support.storage import finite, write_text
from lookaround.train.budget import expected_cost
from lookaround.train.loop import StopSignal, stop_on_signals
from lookaround.train.run import seconds_per_step

__all__ = [
    "PRESETS",
    "Grid",
    "PlanEstimate",
    "estimate",
    "folder_of",
    "open_grid",
    "plan",
    "summarise",
]

PLAN_FILE = "plan.yaml"
PLAN_VERSION = 1
TIMED_FLOPS = 3e10  # of a step that is timed for an estimate
SUCCESS = 0.95  # exact match from which on a run has solved its task
# of the trials that learning rates are chosen by: no reported run was chosen by its luck
TRIAL_SEED = 1 << 20

_ALL = (
    "ar, reverse, teacherless, mdlm, dar, mtp(n={n}, weights=1.0, matched=True), "
    'mtp(n={n}, heads="sequential", weights=1.0, matched=True), top, nextlat(horizon={h}), bst(matched=True)'
)
PRESETS: dict[str, dict[str, Any]] = {
    "cpu": {"model.preset": "pico", "plan.trial": 0.35, "plan.control": False},
    "full": {
        "model.preset": "pico",
        "plan.tasks": ["2,3", "3,3"],
        "plan.objectives": _ALL.format(n=2, h=1),
        "plan.seeds": 3,
    },
    "gpu": {
        "model.preset": "mini",
        "plan.tasks": ["5,5", "7,7"],
        "plan.objectives": _ALL.format(n=4, h=4),
        "plan.seeds": 5,
        "plan.steps": 20_000,
        "plan.batch": 512,
        "plan.learning_rate": 5e-4,
        "plan.lr_factors": [1.0, 2.0],
        "plan.labels": 100,
        "plan.every": 500,
    },
}


@dataclass(frozen=True)
class Grid:
    """Everything that a benchmark is made of before anything is spent. runs: (word of the task, spec of the objective)."""

    settings: Settings
    tasks: dict[str, Task]
    objectives: dict[str, Objective]
    runs: tuple[tuple[str, str], ...]

    @property
    def seeds(self) -> list[int]:
        return [self.settings.seed + i for i in range(self.settings.plan.seeds)]

    @property
    def factors(self) -> list[float]:
        return sorted(set(self.settings.plan.lr_factors))

    @property
    def trials(self) -> list[float]:
        """The learning-rate factors that are tried first; none where there is no choice."""
        return self.factors if len(self.factors) > 1 else []

    @property
    def followers(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """{run whose learning rate is chosen: runs that are trained with it}; a graph's control follows the graph."""
        first = next(iter(self.tasks))
        followers: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for name, spec in self.runs:
            graph = controlled(name)
            own = graph if graph in self.tasks else name
            source = first if self.settings.plan.search == "first" else own
            followers.setdefault((source, spec), []).append((name, spec))
        return followers

    @property
    def total(self) -> int:
        return len(self.runs) * len(self.seeds) + len(self.followers) * len(self.trials)

    @property
    def jobs(self) -> int:
        import torch

        cores = 1 if torch.cuda.is_available() else usable_cores()
        return min(self.settings.plan.jobs or cores, self.total)

    @property
    def threads(self) -> int:
        return threads_of(self.jobs)


def open_grid(settings: Settings) -> Grid:
    """Checks everything a benchmark needs; raises UserError for any bad input, writes nothing."""
    settings = settings.model_copy(deep=True)
    plan = settings.plan
    if any(not 0 < factor < math.inf for factor in plan.lr_factors):
        raise UserError(f"plan.lr_factors: must be positive numbers, got {plan.lr_factors}")
    if len({f"{factor:g}" for factor in plan.lr_factors}) < len(set(plan.lr_factors)):
        raise UserError(f"plan.lr_factors: must differ in their first six digits, got {plan.lr_factors}")
    objectives = {objective.spec: objective for objective in parse_list(plan.objectives)}
    tasks = {task.name: task for task in (task_of(settings, word) for word in plan.tasks)}
    runs = [(name, spec) for name in tasks for spec in objectives]
    for task in list(tasks.values()):
        if isinstance(task, StarGraph) and plan.control and not task.hop and "ar" in objectives:
            control = replace(task, hop=True)
            tasks[control.name] = control
            runs.append((control.name, "ar"))
    asked = "context" in settings.model.model_fields_set
    for name, task in tasks.items():
        if asked and settings.model.context < task.width:
            raise UserError(
                f"model.context: task {name} has rows of {task.width} tokens, got {settings.model.context}"
            )
        for split in ("train", "validation", "test"):
            Problems(task, split).take(0, np.arange(1))
        for spec in (spec for word, spec in runs if word == name):
            _require_targets(objectives[spec], task)
    return Grid(settings, tasks, objectives, tuple(dict.fromkeys(runs)))


def _require_targets(objective: Objective, task: Task) -> None:
    """Raises UserError where an objective has nothing to predict in a task's answers, or no one order to write them in."""
    batch = Problems(task, "train").take(0, np.arange(64))
    try:
        objective.at(1.0).arranged(batch)
    except ValueError as error:
        raise UserError(f"objective {error}; train them one by one") from None
    for progress in np.linspace(0, 1, 16):
        views = objective.at(float(progress)).view(batch, 0, 0)
        if not any(len(view.state) for view in views):
            raise UserError(
                f"objective '{objective.spec}': has nothing to predict in the {task.answer} tokens of an answer to "
                f"{task.name}; every part of its budget needs a target there"
            )


@dataclass(frozen=True)
class PlanEstimate:
    """What a grid will cost at most; runs that solve their task end sooner.

    flops: of training. seconds, scoring_seconds: of training, and about what the model's answers take (learning curves, the rows'
    scores), on this machine with `jobs` at once. by_run: for each (task, objective) parameters, seconds of a step, FLOPs of a
    run, runs (a trial is a part of one) and the scoring seconds of them all, one at a time.
    """

    runs: int
    jobs: int
    steps: int
    flops: float
    seconds: float
    scoring_seconds: float
    by_run: list[dict[str, Any]]


def estimate(grid: Grid) -> PlanEstimate:
    """The cost of a grid, from counted FLOPs and the time of a few steps and answers of each run on this machine."""
    import torch

    plan = grid.settings.plan
    tried = grid.followers if grid.trials else {}
    before = torch.get_num_threads()
    torch.set_num_threads(grid.threads)
    by_run: list[dict[str, Any]] = []
    for name, spec in grid.runs:
        objective = grid.objectives[spec]
        task = grid.tasks[name]
        trainer = make_plan_trainer(grid.settings, task, objective, 0, plan.learning_rate)
        flops = expected_cost(objective.at(0.5), trainer.backbone, trainer.rows, plan.batch, "flops")
        # of a large batch, a part is timed
        few = max(1, min(plan.batch, int(TIMED_FLOPS / flops * plan.batch)))
        trainer.settings = trainer.settings.model_copy(update={"batch": few})
        seconds = seconds_per_step(trainer, objective.at(0.5)) * plan.batch / few
        ways = readers(trainer.backbone, objective, task)
        trials = len(grid.trials) * ((name, spec) in tried)
        reads = len(grid.seeds) * (reads_of_curve(ways[0], plan, plan.steps) + reads_of_score(ways, plan))
        reads += trials * reads_of_curve(ways[0], plan, trial_steps(plan))
        by_run.append(
            {
                "graph": name,
                "objective": spec,
                "parameters": sum(p.numel() for p in trainer.backbone.parameters()),
                "seconds_per_step": seconds,
                "flops": flops * plan.steps,
                "runs": len(grid.seeds) + plan.trial * trials,
                "scoring_seconds": reads * _seconds_per_read(ways[0], task, min(64, 3 * few)),
            }
        )
    torch.set_num_threads(before)
    seconds = sum(run["seconds_per_step"] * run["runs"] for run in by_run) * plan.steps / grid.jobs
    scoring = sum(run["scoring_seconds"] for run in by_run) / grid.jobs
    flops = sum(run["flops"] * run["runs"] for run in by_run)
    return PlanEstimate(grid.total, grid.jobs, plan.steps, flops, seconds, scoring, by_run)


def _seconds_per_read(reader: Reader, task: Task, rows: int, times: int = 3) -> float:
    """Seconds in which a model reads one row among others, the median of a few."""
    batch = Problems(task, "validation").take(0, np.arange(rows))
    found = []
    for _ in range(times):
        clock = time.perf_counter()
        reader.forced(batch)
        found.append(time.perf_counter() - clock)
    return sorted(found)[times // 2] / (rows * reader.forced_reads)


def folder_of(grid: Grid, out: Path) -> StudyFolder:
    """The folder of a grid; its `require` raises UserError where `out` holds something else, and makes nothing."""
    return StudyFolder(out, PLAN_FILE, "a benchmark of ours", _identity(grid.settings))


def plan(
    grid: Grid,
    out: Path,
    *,
    command: str,
    executor: Executor | None = None,
    report: Report = silent,
) -> dict[str, Any]:
    """Runs a grid into `out` and returns its results (docs/results-format.md), also written to out/results.json.

    The same folder takes more tasks, objectives and seeds; runs that are there are kept. executor: where jobs run (default:
    local processes). on_event: told what is under way. Raises UserError where `out` belongs to other settings, Interrupted
    after saving when asked to stop.
    """
    folder = folder_of(grid, out)
    with folder.opened(), stop_on_signals() as stop:
        folder.save(kind="plan")
        rows, trials = _run_jobs(grid, out, executor, stop, report)
        results = finite(
            {
                "version": PLAN_VERSION,
                "kind": "plan",
                "command": command,
                "settings": grid.settings.model_dump(),
                "machine": machine(grid.jobs, grid.threads),
                "versions": versions(),
                "rows": rows,
                "summary": summarise(rows),
                "learning_rates": trials,
            }
        )
        write_text(out / "results.json", json.dumps(results, indent=1, allow_nan=False))
    return results


def _identity(settings: Settings) -> dict[str, Any]:
    """What all runs of a folder share."""
    init = settings.model.init
    shared = settings.identity("seed", "model.preset", "model.precision", "train", "plan")
    for name in ("batch", "learning_rate"):  # a grid has its own
        shared["train"].pop(name)
    return {"model": model_fingerprint(init) if init else None, "settings": shared}


def _run_jobs(
    grid: Grid,
    out: Path,
    executor: Executor | None,
    stop: StopSignal,
    report: Report,
) -> tuple[list[dict[str, Any]], dict[str, dict[str, dict[str, float]]]]:
    """(rows, accuracy on validation problems of every learning rate tried by task and objective)."""
    followers = grid.followers
    tried: dict[tuple[str, str], dict[float, dict[str, Any]]] = {run: {} for run in followers}
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    with Jobs(out, stop, jobs=grid.jobs, threads=grid.threads, executor=executor) as jobs:

        def submit(run: tuple[str, str], factor: float, seed: int | None) -> None:
            """A run of a seed; of none, the trial of a learning rate."""
            name, spec = run
            last = f"lr-{factor:g}-" + ("trial" if seed is None else f"seed-{seed}")
            folder = out / "runs" / slug(name) / slug(spec) / last
            number = TRIAL_SEED if seed is None else seed
            job = PlanJob(out, folder, grid.settings, name, spec, number, factor, grid.threads, seed is None)
            jobs.submit(job, run_plan_job, job)

        def train(source: tuple[str, str], factor: float) -> None:
            for run in followers[source]:
                for seed in grid.seeds:
                    submit(run, factor, seed)

        for source in followers:
            for factor in grid.trials:
                submit(source, factor, None)
            if not grid.trials:
                train(source, grid.factors[0])
        for job, row in jobs.finished(report, grid.total):
            run = (job.task, job.objective)
            if not job.trial:
                rows[(*run, job.seed)] = row
                report(Event(finished=_told(row)))
                continue
            tried[run][job.factor] = row
            if len(tried[run]) == len(grid.trials):
                best = _best_rate(tried[run])
                report(Event(finished=f"{job.task} {job.objective}: learning rate x{best:g}"))
                train(run, best)
    ordered = [rows[(*run, seed)] for run in grid.runs for seed in grid.seeds]
    rates: dict[str, dict[str, dict[str, float]]] = {}
    for (name, spec), entries in tried.items():
        if entries:
            rates.setdefault(name, {})[spec] = {
                f"x{factor:g}": row["curve"][-1]["exact_match"] if row["curve"] else -1.0
                for factor, row in sorted(entries.items())
            }
    return ordered, rates


def _best_rate(tried: Mapping[float, Mapping[str, Any]]) -> float:
    """The factor whose trial was most accurate on validation problems at its end; where all have diverged, the smallest.

    Of those that are not told apart (SAME), the one that was there soonest, then the largest: it leaves a plateau first.
    """
    ends = {factor: row["curve"][-1] for factor, row in tried.items() if row["curve"]}
    most = max((end["exact_match"] for end in ends.values()), default=0.0)
    close = [factor for factor, end in ends.items() if end["exact_match"] >= most - SAME]
    return min(close, key=lambda factor: (ends[factor]["step"], -factor), default=min(tried))


def _told(row: Mapping[str, Any]) -> str:
    """One line about a finished run."""
    diverged = f" (the loss was not finite at step {row['diverged_at']:,})" if row["diverged_at"] else ""
    return (
        f"{row['graph']} {row['objective']}, seed {row['seed']}: exact match {row['exact_match']:.3f}, first hop "
        f"{row['first_hop']:.3f}, {row['steps']:,} steps, {row['seconds']:.0f} s{diverged}"
    )


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per task and objective: means over seeds with their intervals, and the share of runs that solved the task."""
    graphs = {row["graph"] for row in rows}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["graph"], row["objective"]), []).append(row)
    summary = []
    for (graph, objective), group in groups.items():
        entry: dict[str, Any] = {"graph": graph, "objective": objective, "seeds": len(group)}
        for name in ("exact_match", "first_hop", "later_positions", "train_exact_match"):
            values = [row[name] for row in group if row[name] is not None]
            if values:
                found = seed_interval(values)
                entry[name] = {"mean": found.mean, "low": found.low, "high": found.high}
        entry |= {
            "success": float(np.mean([row["exact_match"] >= SUCCESS for row in group])),
            "solved_at": [row["solved_at"] for row in group],
            "steps": [row["steps"] for row in group],
            "seconds": float(np.mean([row["seconds"] for row in group])),
            "parameters": group[0]["parameters"],
            "chance": group[0]["chance"],
            "control_of": own if (own := controlled(graph)) in graphs else None,
            "learning_rate": group[0]["learning_rate"],
            "ways": {way: float(np.mean([row["ways"][way] for row in group])) for way in group[0]["ways"]},
            "learned_at": [row["learned_at"] for row in group],
            "left_chance_at": [row["left_chance_at"] for row in group],
            "diverged_at": [row["diverged_at"] for row in group],
        }
        summary.append(entry)
    return summary
