"""The one loop over jobs: results as they come, stops that save, and what jobs say of
themselves.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from lookaround.studies.events import Event, Running, silent
from lookaround.studies.jobs import Jobs, Status, local_pool, running_jobs
from lookaround.support.errors import Interrupted, UserError
from lookaround.train.loop import StopSignal, stop_on_signals


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_progress_counts_work_and_not_jobs(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "ar" / "lr-1" / "seed-0"
    folder.mkdir(parents=True)
    status = Status(folder, tmp_path, "ar, seed 0", StopSignal())
    status.before = 1.0
    events: list[Event] = []

    def half(stop: StopSignal) -> None:
        status.show("training", 1, 2, work=0.5)
        while not any(event.running for event in events):
            pass

    stop = StopSignal()
    with ThreadPoolExecutor(2) as executor, jobs_of(tmp_path, stop, executor) as jobs:
        jobs.submit("short", pow, 2, 2, work=2.0)
        jobs.submit("long", half, stop, work=6.0)
        list(jobs.finished(events.append, 8.0))
    under_way = next(event for event in events if event.running)
    assert (under_way.done, under_way.total) == (2.0 + 1.5, 8.0)
    assert events[-1].done == 8.0


def test_a_stop_says_how_much_of_the_work_is_done(tmp_path: Path) -> None:
    stop = StopSignal()

    def job() -> None:
        stop.set = True
        raise Interrupted("stopped at step 1 of 6")

    with ThreadPoolExecutor(1) as executor, jobs_of(tmp_path, stop, executor) as jobs:
        jobs.submit("one", pow, 2, 2, work=3.0)
        jobs.submit("two", job, work=9.0)
        with pytest.raises(Interrupted, match="stopped after 25% of the work; the same command"):
            list(jobs.finished(silent, 12.0))


@pytest.mark.slow
def test_what_can_be_done_again_is_not_waited_for(tmp_path: Path) -> None:
    status = Status(tmp_path, tmp_path, "evaluating", StopSignal())
    (tmp_path / ".stop").touch()
    began = time.monotonic()

    def repeat() -> None:
        with status.repeatable():
            while time.monotonic() - began < 60:
                pass

    with stop_on_signals() as status.stop, pytest.raises(KeyboardInterrupt):
        repeat()
    assert time.monotonic() - began < 30
    assert not status.stop.at_once


@pytest.mark.slow
def test_a_second_request_to_stop_ends_what_runs(tmp_path: Path) -> None:
    began = time.monotonic()

    def stopped_again(jobs: Jobs) -> None:
        jobs.submit("long", time.sleep, 120)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), jobs_of(tmp_path) as jobs:
        stopped_again(jobs)
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_process_hears_no_ctrl_c_before_it_has_begun() -> None:
    """A terminal sends it to all processes, and those that import would die with a traceback."""
    others = {*multiprocessing.active_children()}
    with local_pool(1, 1) as pool:
        future = pool.submit(pow, 2, 3)
        (process,) = {*multiprocessing.active_children()} - others
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
        assert future.result() == 8


def train(folder: Path) -> None:
    """A job that saves where it is asked to end."""
    with stop_on_signals() as stop:
        (folder / "begun").touch()
        while not stop.set:
            time.sleep(0.01)
        (folder / "saved").touch()


def number(folder: Path) -> int:
    """A job that tells the process that is idle after it, while `train` is at work in another."""
    while not (folder / "begun").exists():
        time.sleep(0.01)
    return os.getpid()


@pytest.mark.slow
def test_where_an_idle_process_dies_the_others_save_and_end(tmp_path: Path) -> None:
    """An idle one holds the lock of the queue that all the others wait for when their job ends."""

    def kill_the_idle_one() -> None:
        with Jobs(tmp_path, StopSignal(), jobs=2, threads=1) as jobs:
            jobs.submit("train", train, tmp_path)
            jobs.submit("idle", number, tmp_path)
            for key, value in jobs.finished(silent, 2):
                assert key == "idle"
                time.sleep(0.3)
                os.kill(value, signal.SIGKILL)

    with pytest.raises(UserError, match="a process of the study died"):
        kill_the_idle_one()
    assert (tmp_path / "saved").exists()
