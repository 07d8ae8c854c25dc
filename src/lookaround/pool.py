"""Local processes for work that is done in parallel; anything that takes a concurrent.futures executor takes these.

A job and its study talk through files, so that any executor serves: status.json says how far the job is, the study's .stop asks
it to save and end.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

__all__ = ["STATUS_FILES", "STOP_FILE", "Status", "local_pool", "running_jobs", "usable_cores"]

STOP_FILE = ".stop"
STATUS_FILES = "runs/*/*/*/status.json"


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_pool(jobs: int, threads: int) -> ProcessPoolExecutor:
    """Local processes, each held to its share of the cores, which end with their parent whatever ends it."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with, initargs=(os.getpid(),))


def _end_with(parent: int) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # jobs listen for themselves; an idle process has nothing to save

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Status:
    """status.json of a running job in its folder, and the job's ear for the study's request to stop.

    stop: something whose `set` becomes True when the study asks.
    """

    def __init__(self, folder: Path, study: Path, label: str, stop: Any) -> None:
        self.path, self.stop_file = folder / "status.json", study / STOP_FILE
        self.label, self.stop = label, stop
        self.last = 0.0

    def train(self, phase: str, progress: Any, end: int) -> None:
        """Tells of a step of a Trainer, twice a second at most."""
        now = time.monotonic()
        if now - self.last > 0.5:
            self.last = now
            self.show(phase, progress.step, end, progress.tokens_per_second)
            if self.stop_file.exists():
                self.stop.set = True

    def show(self, phase: str, step: int, total: int, rate: float) -> None:
        entry = {"job": self.label, "phase": phase, "step": step, "total": total, "tokens_per_second": rate}
        with contextlib.suppress(OSError):  # a progress line is not worth a run
            temporary = self.path.with_name("status.tmp")
            temporary.write_text(json.dumps(entry))
            os.replace(temporary, self.path)

    def done(self) -> None:
        self.path.unlink(missing_ok=True)


def running_jobs(study: Path) -> list[dict[str, Any]]:
    """What the running jobs of a study say of themselves."""
    found = []
    for path in sorted(study.glob(STATUS_FILES)):
        with contextlib.suppress(OSError, ValueError):
            found.append(json.loads(path.read_text()))
    return found
