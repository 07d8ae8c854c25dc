"""`lookaround compare`: from a corpus to a recommendation.

    lookaround compare corpus.txt --task labels.tsv --objectives "ar, mlm, dar" --seeds 3

One job per objective and seed trains a ladder of budgets: a stable trunk off which every rung
branches by a decay of its own (objectives that change with the budget train each rung from the
start). Jobs run on any concurrent.futures executor and keep all state in their folder, so that the
same command resumes an interrupted study.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

from lookaround.data.labelled import Task
from lookaround.evaluation.baselines import baseline_scores
from lookaround.evaluation.registry import task_data
from lookaround.model.fingerprint import model_fingerprint
from lookaround.report.schema import ComparisonResults, ForecastResults
from lookaround.studies.compare.ladder import Job, random_init_scores, run_job, scores_line
from lookaround.studies.compare.study import Study, evaluation_work, plans_of
from lookaround.studies.compare.summary import study_results
from lookaround.studies.events import Event, Report, silent
from lookaround.studies.folder import StudyFolder
from lookaround.studies.forecast.forecast import Forecast, forecast_job
from lookaround.studies.jobs import Jobs
from lookaround.support.errors import UserError
from lookaround.support.machine import threads
from lookaround.support.storage import read_mapping, require_fields
from lookaround.train.loop import StopSignal, stop_on_signals

STUDY_FILE = "study.yaml"


def compare(
    study: Study,
    out: Path,
    *,
    command: str,
    executor: Executor | None = None,
    report: Report = silent,
) -> ComparisonResults:
    """Runs a study into `out`; returns its results, which are also written to out/results.json.

    The same folder takes more objectives, seeds and rungs; runs that are there are kept, and
    results are over those that are asked for.
    executor: where jobs run (default: local processes, study.jobs of them).

    Raises UserError where `out` belongs to another study, Interrupted after saving when asked to
    stop.
    """
    study = _as_first_named(study, out / STUDY_FILE)
    folder = StudyFolder(out, STUDY_FILE, "a study of ours", _identity(study))
    with folder.opened() as before, stop_on_signals() as stop:
        if before:
            require_fields(
                str(folder.file), before, {"plans": dict, "budget": dict, "smallest": float}
            )
        with threads(study.threads):  # a budget in seconds is calibrated as jobs will run
            folder.save(**plans_of(study, before))
        results = _run_jobs(study, folder, command, executor, stop, report)
        results.save(out / "results.json")
    return results


def _content(task: Task) -> str:
    """A hash of a task's examples and metric."""
    content = [
        task.metric,
        task.train_inputs,
        task.train_labels,
        task.test_inputs,
        task.test_labels,
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _as_first_named(study: Study, file: Path) -> Study:
    """The study with the task names of its folder, whatever the tasks' files are called now."""
    if not file.is_file():
        return study
    known = read_mapping(file, {"identity": dict})["identity"].get("tasks", {})
    names = {digest: name for name, digest in known.items()}
    tasks = tuple(replace(task, name=names.get(_content(task), task.name)) for task in study.tasks)
    return replace(study, tasks=tasks)


def _identity(study: Study) -> dict[str, Any]:
    """What all runs of a folder share."""
    init = study.settings.model.init
    tasks = {task.name: _content(task) for task in study.tasks}
    return {
        "corpus": study.store.fingerprint,
        "model": model_fingerprint(init) if init else None,
        "tasks": tasks,
        "settings": study.settings.identity(
            "seed", "data", "model", "train", "evaluate", "compare"
        ),
    }


def _run_jobs(
    study: Study,
    folder: StudyFolder,
    command: str,
    executor: Executor | None,
    stop: StopSignal,
    report: Report,
) -> ComparisonResults:
    settings, out = study.settings, folder.path
    data = tuple(task_data(task, settings.evaluate) for task in study.tasks)
    factors = settings.compare.lr_factors
    seeds = [settings.seed + i for i in range(settings.compare.seeds)]
    specs = [objective.spec for objective in study.objectives]
    evaluation = evaluation_work(study, data, folder.state["plans"][specs[0]])

    def job(objective: str, seed: int, factor: float, trial: bool) -> Job:
        plan, smallest = folder.state["plans"][objective], folder.state["smallest"]
        return Job(
            out,
            settings,
            objective,
            study.store,
            data,
            seed,
            factor,
            plan,
            tuple(study.rungs),
            smallest,
            trial,
            study.threads,
            evaluation,
        )

    trials = factors if len(factors) > 1 else []
    losses: dict[str, dict[float, float]] = {spec: {} for spec in specs}
    ladders: dict[tuple[str, int], dict[str, Any]] = {}
    best = dict.fromkeys(specs, factors[0])
    total = evaluation * (len(data) + bool(data) + settings.forecast.enabled)
    for spec in specs:
        total += len(seeds) * job(spec, seeds[0], factors[0], False).work
        total += len(trials) * job(spec, seeds[0], factors[0], True).work
    before: ForecastResults | str | None = None
    with Jobs(out, stop, jobs=study.jobs, threads=study.threads, executor=executor) as jobs:

        def climb(spec: str) -> None:
            for seed in seeds:
                ladder = job(spec, seed, best[spec], False)
                jobs.submit(("ladder", (spec, seed)), run_job, ladder, work=ladder.work)

        if settings.forecast.enabled:
            plan = Forecast(
                settings,
                study.objectives,
                study.corpus.name,
                study.corpus.fingerprint,
                data,
                study.store,
            )
            place = out / "forecast"
            jobs.submit(("forecast", None), forecast_job, plan, place, work=evaluation)
        if data:
            arguments = (settings, study.store, data, study.threads)
            jobs.submit(("random", None), random_init_scores, *arguments, work=evaluation)
        for item in data:
            key = ("baseline", item.name)
            jobs.submit(key, baseline_scores, item, settings.evaluate, work=evaluation)
        for spec in specs:
            for factor in trials:
                trial = job(spec, seeds[0], factor, True)
                jobs.submit(("trial", (spec, factor)), run_job, trial, work=trial.work)
            if not trials:
                losses[spec] = {factors[0]: float("nan")}
                climb(spec)
        table: dict[str, dict[str, float]] = {item.name: {} for item in data}
        for (kind, key), value in jobs.finished(report, total):
            if kind == "baseline":
                table[key] |= value
            elif kind == "forecast":
                before = value
            elif kind == "random":
                for name, result in value.items():
                    table.setdefault(name, {})["random_init"] = result
            elif kind == "ladder":
                ladders[key] = value["rungs"]
                scores = scores_line(value["rungs"][f"{study.rungs[-1]:g}"])
                report(Event(finished=f"{key[0]}, seed {key[1]}: {scores}"))
            else:
                spec, factor = key
                losses[spec][factor] = value["validation_loss"]
                if len(losses[spec]) == len(factors):
                    finite = {f: loss for f, loss in losses[spec].items() if math.isfinite(loss)}
                    if not finite:
                        raise UserError(
                            f"'{spec}': the loss is not finite at any of the learning rates tried; "
                            f"use smaller compare.lr_factors, now {factors}, or "
                            "train.learning_rate, in another --out"
                        )
                    best[spec] = min(finite, key=lambda f: finite[f])
                    tried = ", x".join(f"{f:g}" for f in factors)
                    report(Event(finished=f"{spec}: learning rate x{best[spec]:g} of x{tried}"))
                    climb(spec)
    for spec in specs:  # delete the trunks of the rejected learning rates
        for factor in factors:
            if factor != best[spec]:
                shutil.rmtree(
                    job(spec, seeds[0], factor, True).folder / "trunk", ignore_errors=True
                )
    return study_results(study, out, command, ladders, losses, table, data, before)
