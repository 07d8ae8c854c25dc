"""A study as commands of their own, one for each of its jobs, for any scheduler to run.

The list of jobs follows from the settings alone. Jobs of a stage run at the same time, on machines
that share the study's folder: each takes what it needs of earlier stages from there, and holds no
more of it than the folders that it writes into.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from lookaround.report.schema import ComparisonResults
from lookaround.studies.compare.compare import compare, folder_of, opened
from lookaround.studies.compare.grid import STAGES, Call, Grid, Listed
from lookaround.studies.compare.study import Study, plans_of
from lookaround.studies.events import Event, Report, Running, silent
from lookaround.studies.folder import StudyFolder, held
from lookaround.studies.jobs import STATUS_FILE, STOP_FILE, hearing, stopped
from lookaround.support.errors import Interrupted, UserError
from lookaround.support.text import one_line


def require_stage(name: str) -> None:
    """Raises UserError for a name that is no stage's."""
    if name not in STAGES:
        raise UserError(
            f"--jobs-list {one_line(name, 60)}: no such stage; give {', '.join(STAGES)}, or none "
            "for all of them"
        )


def place_of(text: str) -> tuple[str, int]:
    """(stage, number) that --job names; raises UserError for other text."""
    match = re.fullmatch(rf"({'|'.join(STAGES)}):([0-9]{{1,9}})", text)
    if match is None:
        raise UserError(
            f"--job {one_line(text, 60)}: no STAGE:N; give a stage ({', '.join(STAGES)}) and a "
            "number from 1, such as runs:1"
        )
    return match[1], int(match[2])


def list_jobs(study: Study, out: Path) -> dict[str, list[Listed]]:
    """{stage: its jobs} of a study, whose folder is made or opened and its plans saved.

    Raises UserError as `compare` does.
    """
    with opened(_alone(study), out) as grid:
        return grid.stages


def _alone(study: Study) -> Study:
    """A study as each of its jobs runs by itself: on all cores, or its share of compare.jobs."""
    options = study.settings.compare
    alone = options.model_copy(update={"jobs": options.jobs or 1})
    return replace(study, settings=study.settings.model_copy(update={"compare": alone}))


def run_listed(study: Study, out: Path, stage: str, number: int, *, report: Report = silent) -> str:
    """Runs one job of a study that was listed, in this process; returns what it found, in a line.

    It takes all cores of the process, or a share of them where compare.jobs is given.

    Raises UserError where there is no such job or study, where one that it needs is not finished,
    and where another process is at work; Interrupted after saving when asked to stop.
    """
    study = _alone(study)
    study, folder = folder_of(study, out)
    _require_planned(study, folder)
    plans = plans_of(study, folder.state, folder.file)
    grid = Grid(study, out, plans["plans"], plans["smallest"])
    job = _listed(grid, stage, number)
    _require_needed(grid, job)
    call = grid.call(job)
    with contextlib.ExitStack() as stack:
        with folder.shared():  # for a moment: others begin at the same time
            for part in call.folders:
                stack.enter_context(held(part))
            _remove_requests(out, call)
        value = _run(job, call, report)
    return f"{job}: {grid.told(job.kind, value)}".removesuffix(": ")


def collect(study: Study, out: Path, *, command: str, report: Report = silent) -> ComparisonResults:
    """What `compare` does and returns, where all jobs have been run; trains nothing.

    Raises UserError where a job is missing, and as `compare` does.
    """
    _require_planned(*folder_of(study, out))
    return compare(study, out, command=command, trained=True, report=report)


def _require_planned(study: Study, folder: StudyFolder) -> None:
    """Raises UserError where a folder holds no plans of a study's runs."""
    folder.require()
    planned = folder.state.get("plans", {})
    for objective in study.objectives:
        if objective.spec not in planned:
            lacks = f"no plan of '{objective.spec}'" if planned else f"no {folder.file.name}"
            raise UserError(f"{folder.path}: {lacks}; run the same command with --jobs-list first")


def _listed(grid: Grid, stage: str, number: int) -> Listed:
    """A job by its place; raises UserError for one that there is not."""
    jobs = grid.stages[stage]
    if not 1 <= number <= len(jobs):
        has = f"numbers from 1 to {len(jobs)}" if jobs else "no jobs in this study"
        raise UserError(f"--job {stage}:{number}: {stage} has {has}; --jobs-list shows them")
    return jobs[number - 1]


def _require_needed(grid: Grid, job: Listed) -> None:
    """Raises UserError where a job of an earlier stage is not finished."""
    if needed := grid.needed(job):
        more = f" and {len(needed) - 1} more" * (len(needed) > 1)
        raise UserError(
            f"--job {job.name}: needs the result of {needed[0]}{more}; run the same command with "
            f"--job {needed[0].name} first"
        )


def _remove_requests(out: Path, call: Call) -> None:
    """Removes what a study that was killed has left: its request to stop, and what a job told."""
    (out / STOP_FILE).unlink(missing_ok=True)  # of no process: `out` is held
    for folder in call.folders:
        (folder / STATUS_FILE).unlink(missing_ok=True)


def _run(job: Listed, call: Call, report: Report) -> Any:
    """What a job returns; raises Interrupted where it was asked to stop."""
    done = 0.0

    def hear(running: Running) -> None:
        nonlocal done
        done = min(running.work, call.work)
        report(Event(str(job), done, call.work, running=(running,)))

    try:
        with hearing(hear):
            return call.function(call.argument)
    except (Interrupted, KeyboardInterrupt):
        raise stopped(call.folders[0], done, call.work, "the job") from None
