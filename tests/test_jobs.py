"""The one loop over jobs: results as they come, stops that save, and what jobs say of
themselves.
"""

from __future__ import annotations

import json
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from lookaround.studies.events import Event, Running, silent
from lookaround.studies.jobs import Jobs, Status, running_jobs
from lookaround.support.errors import Interrupted, UserError
from lookaround.train.loop import StopSignal


def jobs_of(
    study: Path, stop: StopSignal | None = None, executor: Executor | None = None, **more: Any
) -> Jobs:
    return Jobs(study, stop or StopSignal(), jobs=1, threads=1, executor=executor, **more)


def test_results_come_with_their_keys_and_more_may_follow(tmp_path: Path) -> None:
    events: list[Event] = []
    found = []
    with ThreadPoolExecutor(1) as executor, jobs_of(tmp_path, executor=executor) as jobs:
        jobs.submit("two", pow, 2, 2)
        for key, value in jobs.finished(events.append, 2, "powers"):
            found.append((key, value))
            if key == "two":
                jobs.submit("three", pow, 3, 3)
    assert found == [("two", 4), ("three", 27)]
    assert [(event.stage, event.done, event.total) for event in events] == [
        ("powers", 1, 2),
        ("powers", 2, 2),
    ]


def test_a_stop_drops_what_has_not_begun_and_says_how_to_go_on(tmp_path: Path) -> None:
    stop = StopSignal()
    done: list[int] = []

    def job(number: int) -> int:
        stop.set = True
        done.append(number)
        while not (tmp_path / ".stop").exists():
            pass
        return number

    with ThreadPoolExecutor(1) as executor, jobs_of(tmp_path, stop, executor) as jobs:
        for number in range(3):
            jobs.submit(number, job, number)
        with pytest.raises(Interrupted, match="the same command goes on from there"):
            list(jobs.finished(silent, 3))
    assert done == [0]
    assert not (tmp_path / ".stop").exists()


@pytest.mark.parametrize("error", [BrokenProcessPool("terminated"), MemoryError()])
def test_a_process_that_dies_names_the_remedy(tmp_path: Path, error: Exception) -> None:
    class Dying(Executor):
        def submit(self, *arguments: Any, **more: Any) -> Future:
            future: Future = Future()
            future.set_exception(error)
            return future

    for remedy, words in (
        ({}, "--jobs 1 or a smaller"),
        ({"remedy": "fewer tokens"}, "with fewer tokens"),
    ):
        with jobs_of(tmp_path, executor=Dying(), **remedy) as jobs:
            jobs.submit("a", pow, 1, 1)
            with pytest.raises(UserError, match=words):
                list(jobs.finished(silent, 1))


def test_jobs_say_how_far_they_are_and_hear_the_request_to_stop(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "ar" / "lr-1" / "seed-0"
    folder.mkdir(parents=True)
    stop = StopSignal()
    status = Status(folder, tmp_path, "ar, seed 0", stop)
    status.tell("training", 3, 10, 5.0)
    assert running_jobs(tmp_path) == (Running("ar, seed 0", "training", 3, 10, 5.0),)
    assert not stop.set
    (tmp_path / ".stop").touch()
    status.listen()
    assert stop.set
    (folder / "status.json").write_text(json.dumps({"job": "of another make"}))
    assert running_jobs(tmp_path) == ()
