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
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lookaround.data.labelled import AnyTask
from lookaround.model.fingerprint import model_fingerprint
from lookaround.report.schema import ComparisonResults
from lookaround.studies.cluster import everywhere, executor_of
from lookaround.studies.compare.grid import Grid
from lookaround.studies.compare.study import StoredStudy, Study, plans_of
from lookaround.studies.compare.summary import study_results
from lookaround.studies.compare.timing import speed_of
from lookaround.studies.events import Report, silent
from lookaround.studies.folder import KINDS, StudyFolder, tasks_of
from lookaround.support.errors import UserError
from lookaround.support.machine import local_device, require_memory
from lookaround.train.loop import stop_on_signals

# of a task, what is told of it and not evaluated on
TOLD = {"name", "classes", "notes", "columns"}


def compare(
    study: Study,
    out: Path,
    *,
    command: str,
    executor: Executor | None = None,
    trained: bool = False,
    report: Report = silent,
) -> ComparisonResults:
    """Runs a study into `out`; returns its results, which are also written to out/results.json.

    The same folder takes more objectives, seeds and rungs; runs that are there are kept, and
    results are over those that are asked for.
    executor: where jobs run (default: compare.cluster, or study.jobs local processes).
    trained: whether all jobs have been run, one by one, so that nothing is to be trained.

    Raises UserError where `out` belongs to another study, and with `trained` where a job is not
    finished; Interrupted after saving when asked to stop.
    """
    place = study.settings.compare.cluster
    out, settings = everywhere(out, study.settings, place)
    study = replace(study, settings=settings)
    if executor is None and place is None and not trained:
        require_memory(
            study.jobs * study.memory_bytes,
            local_device(),
            f"the study, {study.jobs} processes at a time",
            "set --jobs, train.micro_batch or model.context lower, or take a smaller model",
        )
    with stop_on_signals() as stop, opened(study, out) as grid:
        study = grid.study
        if trained:
            _require_finished(grid)
        with executor_of(executor, place, out, [study.store.folder], report) as where:
            found = grid.run(where, stop, report)
        results = study_results(study, out, command, found)
        results.save(out / "results.json")
    return results


@contextmanager
def opened(study: Study, out: Path) -> Iterator[Grid]:
    """The jobs of a study whose folder is made or opened, held for the length of the block.

    Raises UserError where `out` belongs to another study or another process is at work in it.
    """
    study, folder = folder_of(study, out)
    with folder.opened() as before:
        with speed_of(study) as speed:
            folder.save(**plans_of(study, before, folder.file, speed))
        yield Grid(study, out, folder.state["plans"], folder.state["smallest"])


def folder_of(study: Study, out: Path) -> tuple[Study, StudyFolder]:
    """The study with the task names of its folder, and the folder, which is not opened."""
    study = _as_first_named(study, out / KINDS["compare"][0])
    return study, StudyFolder(out, *KINDS["compare"], _identity(study), StoredStudy)


def _require_finished(grid: Grid) -> None:
    """Raises UserError that names the first job that is not finished."""
    if missing := grid.missing():
        count = f"{len(missing)} jobs are" if len(missing) > 1 else "a job is"
        raise UserError(
            f"{grid.out}: {count} missing, first {missing[0]}; run the same command with --job "
            f"{missing[0].name} in place of --collect"
        )


def _content(task: AnyTask) -> str:
    """A hash of a task's examples and metric."""
    content = {key: value for key, value in asdict(task).items() if key not in TOLD}

    def plain(value: Any) -> str:  # a picture
        return hashlib.sha256(value.tobytes()).hexdigest()

    told = json.dumps([*content.values()], default=plain)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _as_first_named(study: Study, file: Path) -> Study:
    """The study with the task names of its folder, whatever the tasks' files are called now."""
    if not file.is_file():
        return study
    names = {digest: name for name, digest in tasks_of(file).items()}
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
