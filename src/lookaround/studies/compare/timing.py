"""Steps timed as a study will run them: in as many processes at once, which share the machine."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from statistics import fmean

from lookaround.data.shards import TokenStore
from lookaround.objectives.objective import Objective
from lookaround.settings import Settings
from lookaround.studies.compare.study import Study
from lookaround.studies.jobs import local_pool
from lookaround.support.machine import threads
from lookaround.train.loop import Trainer
from lookaround.train.run import make_trainer
from lookaround.train.speed import Speed, seconds_per_step


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
            call = (study.settings, study.store, objective, study.threads)
            return fmean(pool[0].map(_timed, *([part] * study.jobs for part in call)))

        yield Speed(measure, study.jobs)


def _timed(settings: Settings, store: TokenStore, objective: Objective, count: int) -> float:
    """Seconds of a step in this process."""
    with threads(count):
        trainer = make_trainer(settings, objective, store, seed=settings.seed)
        return seconds_per_step(trainer, objective)
