"""The jobs of a study on local processes or any concurrent.futures executor.

A job and its study talk through files, so that any executor serves: status.json says how far the
job is, the study's .stop asks it to save and end.
"""

from __future__ import annotations

import _thread
import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextvars import ContextVar
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

from lookaround.evaluation.registry import Protocol
from lookaround.objectives.objective import Objective
from lookaround.studies.events import Event, Report, Running
from lookaround.support.errors import Interrupted, UserError
from lookaround.support.machine import out_of_memory
from lookaround.support.text import listed
from lookaround.train.loop import StopSignal

STOP_FILE = ".stop"
STATUS_FILE = "status.json"
STATUS_FILES = f"runs/*/*/*/{STATUS_FILE}"

_heard: ContextVar[Callable[[Running], None] | None] = ContextVar("heard", default=None)


def stopped(study: Path, done: float, total: float, what: str = "the work") -> Interrupted:
    """The error that says how much of a study's work is done."""
    share = f" after {done / total:.0%} of {what}" if total else ""
    return Interrupted(f"{study}: stopped{share}; the same command goes on from there")


class Jobs:
    """The jobs of a study on an executor; more may be submitted while results are read.

    study: its folder.
    stop: becomes True when the study is to save and end: jobs that have not begun are dropped then,
        and those that run are asked to save.
    executor: none is local processes.
    remedy: what may help where a process dies.
    memory: bytes that a process needs, an estimate.
    """

    def __init__(
        self,
        study: Path,
        stop: StopSignal,
        *,
        jobs: int,
        threads: int,
        executor: Executor | None = None,
        remedy: str = "--jobs 1 or a smaller train.micro_batch",
        memory: float | None = None,
    ) -> None:
        self.study, self.stop, self.stop_file, self.remedy = study, stop, study / STOP_FILE, remedy
        self.memory = memory
        self.own = executor is None
        self.executor = executor or local_pool(jobs, threads)
        self.pending: dict[Future, tuple[Any, float]] = {}
        self.done = self.total = 0.0
        self.dropped = False
        self.stop_file.unlink(missing_ok=True)
        for stale in study.glob(STATUS_FILES):
            stale.unlink()

    def __enter__(self) -> Jobs:
        return self

    def submit(
        self, key: Any, function: Callable[..., Any], *arguments: Any, work: float = 1.0
    ) -> None:
        """Adds a job; `key` comes back with its result.

        work: that it is, in the unit of the study's total.
        """
        self.pending[self.executor.submit(function, *arguments)] = key, work

    def finished(self, report: Report, total: float, stage: str = "") -> Iterator[tuple[Any, Any]]:
        """(key, result) of each job in the order in which they end.

        The report hears twice a second how much of the work is done.
        total: work of all jobs, those to come among them.

        Raises what a job raises, UserError where a process has died, and Interrupted once all have
        saved after a request to stop.
        """
        self.total = total
        while self.pending:
            ended, _ = wait(self.pending, timeout=0.5, return_when=FIRST_COMPLETED)
            if self.stop.set and not self.stop_file.exists():
                for future in [future for future in self.pending if future.cancel()]:
                    del self.pending[future]
                    self.dropped = True
                # after cancelling: a job that ends early would let another begin
                self.stop_file.touch()
            for future in [future for future in ended if future in self.pending]:
                key, work = self.pending.pop(future)
                result = self._result(future)
                self.done += work
                yield key, result
            running = running_jobs(self.study)
            done = self.done + sum(job.work for job in running)
            report(Event(stage, min(done, total), total, running=running))
        if self.dropped:
            raise self._stopped()

    def _stopped(self) -> Interrupted:
        done = self.done + sum(job.work for job in running_jobs(self.study))
        return stopped(self.study, min(done, self.total), self.total)

    def _result(self, future: Future) -> Any:
        try:
            return future.result()
        except (Interrupted, KeyboardInterrupt):
            raise self._stopped() from None
        except Exception as error:
            died = isinstance(error, BrokenExecutor)
            if not died and not out_of_memory(error):
                raise
            if self.stop.set:
                raise self._stopped() from None
            raise UserError(self._told_died(died)) from None

    def _told_died(self, died: bool) -> str:
        """What is said where a process was killed, or could not have its memory."""
        what = "died, most likely" if died else "is"
        notes = []
        if self.memory:
            notes.append(f"each takes about {self.memory / 2**30:.1f} GiB, beside its libraries")
        if at_work := [job.job for job in running_jobs(self.study)]:
            notes.append(f"at work: {listed(at_work, 3)}")
        told = f" ({'; '.join(notes)})" * bool(notes)
        return (
            f"{self.study}: a process of the study {what} out of memory{told}; the same command "
            f"goes on from there, with {self.remedy} if it {'dies' if died else 'happens'} again"
        )

    def __exit__(self, kind: Any, *exception: Any) -> None:
        if self.stop.set or kind is not None:
            with contextlib.suppress(OSError):
                self.stop_file.touch()
            running = [future for future in self.pending if not future.cancel()]
            if not self.own and kind is not KeyboardInterrupt:
                wait(running)  # they see the stop file, and save
        if self.own:
            # asked twice to stop: what runs is not waited for
            for process in multiprocessing.active_children() if kind is KeyboardInterrupt else ():
                process.kill()
            self.executor.shutdown(wait=True)
        self.stop_file.unlink(missing_ok=True)


def local_pool(jobs: int, threads: int) -> ProcessPoolExecutor:
    """Local processes, each held to its share of the cores, that end with their parent."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    arguments = (os.getpid(), modules_of_others())
    return ProcessPoolExecutor(jobs, mp_context=_Context(), initializer=_begin, initargs=arguments)


class _Process(SpawnProcess):
    """A process that hears no Ctrl-C before it has begun: it would die in the midst of imports."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # is inherited
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Context(SpawnContext):
    Process = _Process


def modules_of_others() -> list[str]:
    """Modules with objectives and protocols of the user, which processes import to know them too.

    Raises UserError for a class of a notebook's cell, which no other process can import.
    """
    modules = set()
    kinds: list[Any] = [*Objective.registry.values(), *Protocol.registry.values()]
    for kind in kinds:
        module = kind.__module__
        if module == "__main__" and not hasattr(sys.modules[module], "__file__"):
            raise UserError(
                f"'{kind.name}' is defined in a notebook or at a prompt, where other processes "
                "cannot find it; write it into a file, import that, and start again"
            )
        modules |= {module} & sys.modules.keys() - {"__main__"}
    return sorted(module for module in modules if not module.startswith("lookaround."))


def _begin(parent: int, modules: list[str]) -> None:
    """Begins a process: imports modules, and ends the process when its parent has ended."""
    for module in modules:
        importlib.import_module(module)
    # jobs handle the signal themselves; an idle process has nothing to save
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def hearing(hear: Callable[[Running], None]) -> Iterator[None]:
    """Hears how far a job is that this thread runs in the block."""
    token = _heard.set(hear)
    try:
        yield
    finally:
        _heard.reset(token)


class Status:
    """Writes the job's status.json and polls the study's stop file.

    stop: set where the study asks for it.
    note: what the job has found so far.
    before: work done in earlier phases of the job.
    """

    def __init__(self, folder: Path, study: Path, label: str, stop: StopSignal) -> None:
        self.path, self.stop_file = folder / STATUS_FILE, study / STOP_FILE
        self.label, self.stop, self.note = label, stop, ""
        self.before = self.last = 0.0

    def tell(self, phase: str, step: int, total: int, rate: float = 0.0, work: float = 0.0) -> None:
        """Writes how far the job is and polls the stop file, twice a second at most."""
        now = time.monotonic()
        if now - self.last > 0.5:
            self.last = now
            self.show(phase, step, total, rate, work)
            self.listen()

    def listen(self) -> None:
        """Sets `stop` where the study asks for it."""
        if self.stop_file.exists():
            self.stop.set = True

    def show(self, phase: str, step: int, total: int, rate: float = 0.0, work: float = 0.0) -> None:
        """Writes how far the job is, and says it to who hears it."""
        work += self.before
        running = Running(self.label, phase, step, total, rate, work, self.note)
        if (hear := _heard.get()) is not None:
            hear(running)
        with contextlib.suppress(OSError):  # a run does not fail for a progress line
            temporary = self.path.with_name("status.tmp")
            temporary.write_text(json.dumps(vars(running)))
            os.replace(temporary, self.path)

    @contextlib.contextmanager
    def repeatable(self) -> Iterator[None]:
        """A block with nothing to save: a request to stop ends it at once (KeyboardInterrupt)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        over = threading.Event()

        def poll() -> None:
            while not over.wait(0.5):
                if self.stop_file.exists():
                    _thread.interrupt_main()
                    return

        self.stop.at_once = True
        threading.Thread(target=poll, daemon=True).start()
        try:
            yield
        finally:
            over.set()
            self.stop.at_once = False

    def done(self) -> None:
        """Removes the file."""
        self.path.unlink(missing_ok=True)


def running_jobs(study: Path) -> tuple[Running, ...]:
    """What the running jobs of a study say of themselves."""
    running = []
    for path in sorted(study.glob(STATUS_FILES)):
        with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
            running.append(Running(**json.loads(path.read_text())))
    return tuple(running)
