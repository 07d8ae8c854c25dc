"""`lookaround synthetic`: does an objective look ahead? One trunk, one set of tasks.

    lookaround synthetic --task "pathstar(2,5)" --task "addition(3)" --objectives "ar, reverse"

One job per task, objective and seed trains a model on problems drawn by a seeded generator and
scores it on problems of a part of the key space that training never draws from. All runs of a grid
have the same steps (or FLOPs), batch, trunk and test problems.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lookaround.evaluation.intervals import seed_interval
from lookaround.model.fingerprint import model_fingerprint
from lookaround.objectives import parse, parse_list
from lookaround.objectives.objective import Objective
from lookaround.report.schema import SyntheticResults
from lookaround.report.schema.record import VERSION
from lookaround.settings import Settings
from lookaround.studies.cluster import everywhere, executor_of
from lookaround.studies.events import Event, Report, silent
from lookaround.studies.folder import KINDS, StudyFolder, slug
from lookaround.studies.jobs import Jobs
from lookaround.studies.synthetic.exams import Exam, HiddenStates, exam_of
from lookaround.studies.synthetic.job import (
    BOTH_WAYS,
    GUESSING,
    SyntheticJob,
    make_trainer,
    run_both_ways,
    run_job,
)
from lookaround.studies.synthetic.tasks import Task, parse_task
from lookaround.support.errors import UserError
from lookaround.support.machine import jobs_of, machine, threads, threads_of, versions
from lookaround.train.budget import expected_cost, parse_budget
from lookaround.train.loop import StopSignal, stop_on_signals
from lookaround.train.speed import seconds_per_step

TIMED_FLOPS = 3e10  # of a step that is timed for an estimate
SUCCESS = 0.95  # exact match from which on a run has solved its task
# two accuracies on validation problems that are no further apart are not told apart: two standard
# errors of an accuracy of a half on 1,000 problems
SAME = 0.03
# of trials: learning rates are chosen on a seed that no reported run has
TRIAL_SEED = 1 << 20
# what is averaged over seeds: of answers, and of other tasks with what bounds them
MEANS = ("exact_match", "first_hop", "later_positions", "train_exact_match")
FIGURES = ("state_accuracy", "symbol", "filtering", "smoothing", "forward", "backward")

_ALL = (
    "ar, reverse, teacherless, mdlm, dar, mtp(n={n}, weights=1.0, matched=True), "
    'mtp(n={n}, heads="sequential", weights=1.0, matched=True), top, nextlat(horizon={h}), '
    "bst(matched=True)"
)
PRESETS: dict[str, dict[str, Any]] = {
    "cpu": {"model.preset": "pico", "synthetic.trial": 0.35, "synthetic.control": False},
    "full": {
        "model.preset": "pico",
        "synthetic.tasks": ["pathstar(2,3)", "pathstar(3,3)"],
        "synthetic.objectives": _ALL.format(n=2, h=1),
        "synthetic.seeds": 3,
    },
    "gpu": {
        "model.preset": "mini",
        "synthetic.tasks": ["pathstar(5,5)", "pathstar(7,7)"],
        "synthetic.objectives": _ALL.format(n=4, h=4),
        "synthetic.seeds": 5,
        "synthetic.steps": 20_000,
        "synthetic.batch": 512,
        "synthetic.learning_rate": 5e-4,
        "synthetic.lr_factors": [1.0, 2.0],
        "synthetic.labels": 100,
        "synthetic.every": 500,
    },
}


@dataclass(frozen=True)
class Grid:
    """Everything that a grid is made of, before anything is spent.

    tasks, objectives: by spec, in order.
    runs: (spec of the task, spec of the objective).
    length: steps of each of them.
    """

    settings: Settings
    tasks: dict[str, Task]
    objectives: dict[str, Objective]
    runs: tuple[tuple[str, str], ...]
    length: dict[tuple[str, str], int]

    @property
    def seeds(self) -> list[int]:
        return [self.settings.seed + i for i in range(self.settings.synthetic.seeds)]

    @property
    def factors(self) -> list[float]:
        return sorted(set(self.settings.synthetic.lr_factors))

    @property
    def trials(self) -> list[float]:
        """The learning-rate factors that are tried first; none where there is no choice."""
        return self.factors if len(self.factors) > 1 else []

    @property
    def followers(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """{run whose learning rate is chosen: runs trained with it}; a control follows its task."""
        first = next(iter(self.tasks))
        controls = controls_of(self.tasks.values())
        followers: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for name, spec in self.runs:
            source = (
                first if self.settings.synthetic.search == "first" else controls.get(name, name)
            )
            leader = "ar" if spec == BOTH_WAYS else spec
            followers.setdefault((source, leader), []).append((name, spec))
        return followers

    @property
    def total(self) -> int:
        return len(self.runs) * len(self.seeds) + len(self.followers) * len(self.trials)

    @property
    def steps(self) -> int:
        """Of all runs and trials together, at most."""
        trials = sum(self.trial_steps(source) for source in self.followers) * len(self.trials)
        return len(self.seeds) * sum(self.length[run] for run in self.runs) + trials

    def trial_steps(self, run: tuple[str, str]) -> int:
        """Steps of the trial of a learning rate."""
        return max(1, round(self.length[run] * self.settings.synthetic.trial))

    @property
    def jobs(self) -> int:
        return jobs_of(self.settings.synthetic.jobs, self.total)

    @property
    def threads(self) -> int:
        return threads_of(self.jobs)


def controls_of(tasks: Iterable[Task]) -> dict[str, str]:
    """{spec of a control: spec of the task that it is the control of}."""
    return {task.control.spec: task.spec for task in tasks if task.control is not None}


def open_grid(settings: Settings) -> Grid:
    """Checks everything a grid needs; raises UserError for any bad input, writes nothing."""
    settings = settings.model_copy(deep=True)
    options = settings.synthetic
    if any(not 0 < factor < math.inf for factor in options.lr_factors):
        raise UserError(f"synthetic.lr_factors: must be positive numbers, got {options.lr_factors}")
    if len({f"{factor:g}" for factor in options.lr_factors}) < len(set(options.lr_factors)):
        raise UserError(
            f"synthetic.lr_factors: must differ in their first six digits, got {options.lr_factors}"
        )
    objectives = {objective.spec: objective for objective in parse_list(options.objectives)}
    defaults = {"labels": options.labels, "query": options.query, "edges": options.edges}
    tasks = {task.spec: task for task in (parse_task(text, defaults) for text in options.tasks)}
    runs = [(name, spec) for name in tasks for spec in objectives]
    for task in list(tasks.values()):
        if options.control and task.control is not None and "ar" in objectives:
            tasks[task.control.spec] = task.control
            runs.append((task.control.spec, "ar"))
        if options.control and exam_of(task) is HiddenStates and "ar" in objectives:
            runs.append((task.spec, BOTH_WAYS))
            objectives[BOTH_WAYS] = parse("ar")  # by its cost
    asked = "context" in settings.model.model_fields_set
    for name, task in tasks.items():
        if asked and settings.model.context < task.width:
            raise UserError(
                f"model.context: task {name} has rows of {task.width} tokens, got "
                f"{settings.model.context}"
            )
        for split in ("train", "validation", "test"):
            task.rows(split, settings.seed).at(0, np.arange(1))
        for spec in (spec for owner, spec in runs if owner == name):
            _require_targets(objectives[spec], task)
    runs = list(dict.fromkeys(runs))
    length = {run: _length(settings, tasks[run[0]], objectives[run[1]]) for run in runs}
    return Grid(settings, tasks, objectives, tuple(runs), length)


def _length(settings: Settings, task: Task, objective: Objective) -> int:
    """Steps of a run: as many as are asked for, or as the budget pays for."""
    options = settings.synthetic
    if options.budget is None:
        return options.steps
    budget = parse_budget(options.budget)
    if budget.unit == "seconds":
        raise UserError(
            f"synthetic.budget: {options.budget!r} found, must be in tokens or FLOPs, so that runs "
            "are the same on any machine"
        )
    trainer = make_trainer(settings, task, objective, 0, options.learning_rate)
    step = expected_cost(objective, trainer.backbone, trainer.rows, options.batch, budget.unit)
    if budget.amount < step:
        raise UserError(
            f"synthetic.budget: {options.budget!r} is less than one step of '{objective.spec}' on "
            f"{task.spec} ({step:.2g} {budget.unit})"
        )
    return round(budget.amount / step)


def defaults_of(texts: Iterable[str]) -> dict[str, Any]:
    """{setting: value} of tasks, by their specs, where nothing else is said.

    Raises UserError for tasks of different ones.
    """
    tasks = [parse_task(text) for text in texts]
    for task in tasks[1:]:
        if dict(task.defaults) != dict(tasks[0].defaults):
            raise UserError(
                f"tasks: {tasks[0].spec} and {task.spec} are trained at different sizes; give them "
                "in two commands"
            )
    return dict(tasks[0].defaults) if tasks else {}


def _require_targets(objective: Objective, task: Task) -> None:
    """Raises UserError for an objective without a target, or without one order, in a task."""
    batch = task.rows("train", 0).at(0, np.arange(64))
    try:
        objective.at(1.0).arranged(batch)
    except ValueError as error:
        raise UserError(f"objective {error}; train them one by one") from None
    for progress in np.linspace(0, 1, 16):
        views = objective.at(float(progress)).view(batch, 0, 0)
        if not any(len(view.pairs) for view in views):
            raise UserError(
                f"objective '{objective.spec}': has nothing to predict in the {task.answer} tokens "
                f"of an answer to {task.spec}; every part of its budget needs a target there"
            )


@dataclass(frozen=True)
class GridEstimate:
    """What a grid will cost at most; runs that solve their task end sooner.

    runs: of training, trials included.
    jobs: at a time.
    steps: of the longest run.
    flops: of training.
    seconds: of training on this machine, `jobs` at a time.
    scoring_seconds: of learning curves and scores, likewise.
    by_run: for each (task, objective): parameters, steps, seconds of a step, FLOPs of a run, number
        of runs (a trial counts as a part of one), and scoring seconds of all its runs.
    """

    runs: int
    jobs: int
    steps: int
    flops: float
    seconds: float
    scoring_seconds: float
    by_run: list[dict[str, Any]]


def estimate(grid: Grid) -> GridEstimate:
    """The cost of a grid, from counted FLOPs and the time of a few steps of each run."""
    with threads(grid.threads):
        by_run = [_estimate_run(grid, name, spec) for name, spec in grid.runs]
    seconds = sum(run["seconds_per_step"] * run["runs"] * run["steps"] for run in by_run)
    seconds /= grid.jobs
    scoring = sum(run["scoring_seconds"] for run in by_run) / grid.jobs
    flops = sum(run["flops"] * run["runs"] for run in by_run)
    steps = max(grid.length.values())
    return GridEstimate(grid.total, grid.jobs, steps, flops, seconds, scoring, by_run)


def _estimate_run(grid: Grid, name: str, spec: str) -> dict[str, Any]:
    """The entry of a run in `GridEstimate.by_run`."""
    options, task, objective = grid.settings.synthetic, grid.tasks[name], grid.objectives[spec]
    trainer = make_trainer(grid.settings, task, objective, 0, options.learning_rate)
    flops = expected_cost(objective, trainer.backbone, trainer.rows, options.batch, "flops")
    # of a large batch, a part is timed
    few = max(1, min(options.batch, int(TIMED_FLOPS / flops * options.batch)))
    trainer.settings = trainer.settings.model_copy(update={"batch": few})
    seconds = sum(
        share * seconds_per_step(trainer, phase.at(0.5), 0.0) for share, phase in objective.phases()
    )
    exam = exam_of(task)(task, trainer.backbone, objective, options, 0)
    trials = len(grid.trials) * ((name, spec) in grid.followers)
    steps, every = grid.length[name, spec], options.every
    points = len(grid.seeds) * math.ceil(steps / every)
    points += trials * math.ceil(grid.trial_steps((name, spec)) / every)
    reads = points * exam.point_reads + len(grid.seeds) * exam.score_reads
    return {
        "graph": name,
        "objective": spec,
        "parameters": trainer.backbone.parameter_count,
        "steps": steps,
        "seconds_per_step": seconds * options.batch / few,
        "flops": flops * steps,
        "runs": len(grid.seeds) + options.trial * trials,
        "scoring_seconds": reads * _seconds_per_read(exam, min(64, 3 * few)),
    }


def _seconds_per_read(exam: Exam[Any], rows: int, times: int = 3) -> float:
    """Seconds in which a model reads one row among others, the median of a few."""
    times_taken = []
    for _ in range(times):
        clock = time.perf_counter()
        reads = exam.once(rows)
        times_taken.append((time.perf_counter() - clock) / reads)
    return sorted(times_taken)[times // 2]


def folder_of(grid: Grid, out: Path) -> StudyFolder:
    """The folder of a grid; `require` raises UserError where `out` holds something else."""
    return StudyFolder(out, *KINDS["synthetic"], _identity(grid.settings))


def run_grid(
    grid: Grid,
    out: Path,
    *,
    command: str,
    executor: Executor | None = None,
    report: Report = silent,
) -> SyntheticResults:
    """Runs a grid into `out`; returns its results, which are also written to out/results.json.

    The same folder takes more tasks, objectives and seeds; runs that are there are kept.

    executor: where jobs run; None is synthetic.cluster, or local processes.
    report: called with what is under way.

    Raises UserError where `out` belongs to other settings, Interrupted after saving on a request to
    stop.
    """
    place = grid.settings.synthetic.cluster
    out, settings = everywhere(out, grid.settings, place)
    grid = replace(grid, settings=settings)
    folder = folder_of(grid, out)
    with folder.opened(), stop_on_signals() as stop:
        folder.save(kind="synthetic")
        with executor_of(executor, place, out, [], report) as where:
            rows, trials = _run_jobs(grid, out, where, stop, report)
        results = SyntheticResults.of(
            {
                "version": VERSION,
                "kind": "synthetic",
                "command": command,
                "settings": grid.settings.model_dump(),
                "machine": machine(grid.jobs, grid.threads),
                "versions": versions(),
                "margins": {"same": SAME, "guessing": GUESSING},
                "tasks": describe(grid.tasks.values()),
                "rows": rows,
                "summary": summarise(rows, controls_of(grid.tasks.values())),
                "learning_rates": trials,
            }
        )
        results.save(out / "results.json")
    return results


def _identity(settings: Settings) -> dict[str, Any]:
    """What all runs of a folder share."""
    init = settings.model.init
    shared = settings.identity("seed", "model.preset", "model.precision", "train", "synthetic")
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
    """(rows, {task: {objective: {learning-rate factor: accuracy on validation problems}}})."""
    followers = grid.followers
    tried: dict[tuple[str, str], dict[float, dict[str, Any]]] = {run: {} for run in followers}
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    name, spec = grid.runs[0]
    rate, objective = grid.settings.synthetic.learning_rate, grid.objectives[spec]
    memory = make_trainer(grid.settings, grid.tasks[name], objective, 0, rate).memory_bytes
    with Jobs(
        out,
        stop,
        jobs=grid.jobs,
        threads=grid.threads,
        executor=executor,
        remedy="--jobs 1 or a smaller synthetic.batch",
        memory=memory,
    ) as jobs:

        def submit(run: tuple[str, str], factor: float, seed: int | None) -> None:
            """A run of a seed; of none, the trial of a learning rate."""
            name, spec = run
            last = f"lr-{factor:g}-" + ("trial" if seed is None else f"seed-{seed}")
            folder = out / "runs" / slug(name) / slug(spec) / last
            number = TRIAL_SEED if seed is None else seed
            task, trial = grid.tasks[name], seed is None
            steps = grid.trial_steps(run) if trial else grid.length[run]
            job = SyntheticJob(
                out, folder, grid.settings, task, spec, number, factor, grid.threads, steps, trial
            )
            run_it = run_both_ways if spec == BOTH_WAYS else run_job
            jobs.submit(job, run_it, job, work=job.steps)

        def train(source: tuple[str, str], factor: float) -> None:
            for run in followers[source]:
                for seed in grid.seeds:
                    submit(run, factor, seed)

        for source in followers:
            for factor in grid.trials:
                submit(source, factor, None)
            if not grid.trials:
                train(source, grid.factors[0])
        for job, row in jobs.finished(report, grid.steps):
            run = (job.task.spec, job.objective)
            if not job.trial:
                rows[(*run, job.seed)] = row
                report(Event(finished=_told(row)))
                continue
            tried[run][job.factor] = row
            if len(tried[run]) == len(grid.trials):
                best = _best_rate(tried[run], grid.tasks[run[0]].figure)
                report(Event(finished=f"{job.task.spec} {job.objective}: learning rate x{best:g}"))
                train(run, best)
    ordered = [rows[(*run, seed)] for run in grid.runs for seed in grid.seeds]
    rates: dict[str, dict[str, dict[str, float]]] = {}
    for (name, spec), entries in tried.items():
        if entries:
            figure = grid.tasks[name].figure
            rates.setdefault(name, {})[spec] = {
                f"x{factor:g}": row["curve"][-1][figure] if row["curve"] else -1.0
                for factor, row in sorted(entries.items())
            }
    return ordered, rates


def _best_rate(tried: Mapping[float, Mapping[str, Any]], figure: str) -> float:
    """The factor whose trial is the most accurate on validation problems, else the smallest.

    Of factors within SAME of the best, the one that got there first, then the largest.
    """
    ends = {factor: row["curve"][-1] for factor, row in tried.items() if row["curve"]}
    most = max((end[figure] for end in ends.values()), default=0.0)
    close = [factor for factor, end in ends.items() if end[figure] >= most - SAME]
    return min(close, key=lambda factor: (ends[factor]["step"], -factor), default=min(tried))


def _told(row: Mapping[str, Any]) -> str:
    """One line about a finished run."""
    diverged = (
        f" (the loss was not finite at step {row['diverged_at']:,})" if row["diverged_at"] else ""
    )
    names = ("exact_match", "first_hop", *FIGURES)
    figures = [f"{name.replace('_', ' ')} {row[name]:.3f}" for name in names if name in row]
    return (
        f"{row['graph']} {row['objective']}, seed {row['seed']}: {', '.join(figures)}, "
        f"{row['steps']:,} steps, {row['seconds']:.0f} s{diverged}"
    )


def describe(tasks: Iterable[Task]) -> dict[str, dict[str, Any]]:
    """What a report says of each task, by its spec."""
    return {
        task.spec: {
            "title": task.title,
            "about": task.about,
            "copied": task.copied,
            "figures": dict(task.figures),
            "bounds": dict(task.bounds),
        }
        for task in tasks
    }


def summarise(rows: list[dict[str, Any]], controls: Mapping[str, str]) -> list[dict[str, Any]]:
    """One entry per task and objective: means, intervals over seeds, and the share that solved it.

    rows: of runs, as in results.json.
    controls: {spec of a control: spec of its task}; only tasks with rows count.
    """
    graphs = {row["graph"] for row in rows}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["graph"], row["objective"]), []).append(row)
    summary = []
    for (graph, objective), group in groups.items():
        entry: dict[str, Any] = {"graph": graph, "objective": objective, "seeds": len(group)}
        for name in (*MEANS, *FIGURES):
            values = [row[name] for row in group if row.get(name) is not None]
            if values:
                interval = seed_interval(values)
                entry[name] = {"mean": interval.mean, "low": interval.low, "high": interval.high}
        entry |= {
            "steps": [row["steps"] for row in group],
            "seconds": float(np.mean([row["seconds"] for row in group])),
            "parameters": group[0]["parameters"],
            "control_of": own if (own := controls.get(graph)) in graphs else None,
            "learning_rate": group[0]["learning_rate"],
            "diverged_at": [row["diverged_at"] for row in group],
        }
        if "exact_match" in group[0]:
            if any(row["ways"].keys() != group[0]["ways"].keys() for row in group):
                raise UserError(
                    f"{graph} {objective}: field 'ways' of its rows names different ways of "
                    "writing; delete the row.json that is damaged, and the same command scores it "
                    "again"
                )
            entry |= {
                "success": float(np.mean([row["exact_match"] >= SUCCESS for row in group])),
                "chance": group[0]["chance"],
                "ways": {
                    way: float(np.mean([row["ways"][way] for row in group]))
                    for way in group[0]["ways"]
                },
            }
            entry |= {
                name: [row[name] for row in group]
                for name in ("solved_at", "learned_at", "left_chance_at")
            }
        if "coverage" in group[0]:
            entry["coverage"] = group[0]["coverage"]
        if "later" in group[0]:
            entry["later"] = np.mean([row["later"] for row in group], 0).tolist()
        summary.append(entry)
    return summary
