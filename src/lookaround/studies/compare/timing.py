"""Steps timed as a study will run them: in as many processes at once, which share the machine."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import fmean

from lookaround.objectives.objective import Objective
from lookaround.studies.compare.study import Study
from lookaround.studies.jobs import local_pool
from lookaround.support.machine import threads
from lookaround.train.loop import Trainer
from lookaround.train.run import make_trainer
from lookaround.train.speed import Speed, seconds_per_step

MEETING_SECONDS = 60.0  # that a process waits for the others to be ready


@contextmanager
def speed_of(study: Study) -> Iterator[Speed]:
    """How long steps of a study take. Processes are started when the first one is timed."""
    if study.jobs == 1 or study.settings.compare.cluster is not None:
        with threads(study.threads):
            yield Speed()
        return
    with ExitStack() as stack, threads(study.threads):
        pool: list[ProcessPoolExecutor] = []

        def measure(trainer: Trainer, objective: Objective) -> float:
            if not pool:
                pool.append(stack.enter_context(local_pool(study.jobs, study.threads)))
            with tempfile.TemporaryDirectory() as place:
                call = (study, objective, Path(place))
                return fmean(pool[0].map(_timed, *([part] * study.jobs for part in call)))

        yield Speed(measure, study.jobs)


def _timed(study: Study, objective: Objective, place: Path) -> float:
    """Seconds of a step in this process, while the others are at theirs.

    place: where processes tell that they are ready.
    """

    def meet() -> None:
        (place / uuid.uuid4().hex).touch()
        patience = time.monotonic() + MEETING_SECONDS
        while len([*place.iterdir()]) < study.jobs and time.monotonic() < patience:
            time.sleep(0.01)

    settings = study.settings
    with threads(study.threads):
        trainer = make_trainer(settings, objective, study.store, seed=settings.seed)
        return seconds_per_step(trainer, objective, meet=meet)
