"""Studies on a Dask cluster: lost workers, addresses nobody listens at, machines that differ."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.knocks import differences
from cli_runs import TINY_STUDY, Run, assert_refused
from lookaround.studies import cluster
from lookaround.support.errors import UserError
from lookaround.support.machine import versions

distributed = pytest.importorskip("distributed", reason="no Dask; pip install lookaround[cluster]")
STUDY = (
    *TINY_STUDY,
    "--set",
    "forecast.enabled=false",
    "--set",
    "train.checkpoint_every=5",
    "--budget",
    "20000",
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a scheduler with two workers."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
    ) as made:
        yield made.scheduler_address


@contextlib.contextmanager
def killed_at_work(address: str, out: Path) -> Iterator[list[str]]:
    """Kills the workers as soon as a run has a checkpoint; gives the checkpoints there were."""
    found: list[str] = []
    over = threading.Event()

    def watch() -> None:
        with distributed.Client(address) as client:
            while not over.wait(0.05):
                found.extend(map(str, out.rglob("checkpoint-*/counters.json")))
                if found:
                    for pid in client.run(os.getpid).values():
                        os.kill(pid, signal.SIGKILL)
                    return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


@pytest.mark.slow
def test_lost_workers_change_no_number(run: Run, corpus: Path, address: str) -> None:
    alone = run("compare", corpus, "--out", "alone", *STUDY)
    assert alone.code == 0, alone.err
    with killed_at_work(address, Path("out")) as killed:
        done = run("compare", corpus, "--out", "out", *STUDY, "--cluster", address)
    assert done.code == 0, done.err
    assert killed, "no worker was killed"
    given = ("command is", "settings.compare.cluster is")
    found = [
        each
        for each in differences(Path("alone"), Path("out"))
        if not any(words in each for words in given)
    ]
    assert not found, "\n".join(found)
    again = run("compare", corpus, "--out", "out", *STUDY, "--cluster", address)
    assert again.code == 0


def test_nobody_listens(run: Run, corpus: Path) -> None:
    began = time.monotonic()
    done = run("compare", corpus, "--out", "out", *STUDY, "--cluster", "tcp://127.0.0.1:9")
    assert time.monotonic() - began < 20, "most of it is the study that is prepared first"
    assert_refused(done, "--cluster tcp://127.0.0.1:9", "no scheduler answers", "dask scheduler")


@pytest.mark.parametrize("given", ["127.0.0.1:8786", "local:0", "local:x", "http://x:1", "\x1b[0m"])
def test_what_is_no_address(given: str, tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match="no address of a scheduler"),
        cluster.workers(given, tmp_path, [], print),
    ):
        pass


def test_machines_that_differ(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster.workers(address, tmp_path, [], print) as executor:
        assert executor.submit(max, 1, 2).result() == 2
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result()
    assert not [*tmp_path.iterdir()]
    lacking = tmp_path / "not" / "there"
    with (
        pytest.raises(UserError, match=r"does not see '.*there'; give an --out, and a cache"),
        cluster.workers(address, tmp_path, [lacking], print),
    ):
        pass
    monkeypatch.setattr(cluster, "versions", lambda: versions() | {"torch": "2.11.0"})
    with (
        pytest.raises(UserError, match=r"has torch .*, this process 2\.11\.0; results"),
        cluster.workers(address, tmp_path, [], print),
    ):
        pass


def test_a_job_that_waits_is_cancelled_and_one_at_work_is_not(address: str, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    with cluster.workers(address, tmp_path, [], print) as executor:
        jobs = [executor.submit(_until, str(stop)) for _ in range(6)]
        _wait_for(executor, 2)
        cancelled = [job.cancel() for job in jobs]
        assert cancelled.count(False) == 2
        stop.touch()
        for job, gone in zip(jobs, cancelled, strict=True):
            assert gone or job.result(10) is None


def test_jobs_of_an_earlier_start_are_waited_for(address: str, tmp_path: Path) -> None:
    said: list[str] = []
    with cluster.workers(address, tmp_path, [], print) as executor:
        executor.submit(_until, str(tmp_path / ".stop"))
        _wait_for(executor, 1)
        with cluster.workers(address, tmp_path, [], said.append):
            pass
    assert len(said) == 1
    assert said[0].startswith("waiting for jobs of an earlier start to save")
    assert not (tmp_path / ".stop").exists()


def _until(file: str) -> None:
    """A job that ends when a file is there."""
    while not Path(file).exists():
        time.sleep(0.1)


def _wait_for(executor: cluster.Workers, jobs: int) -> None:
    """Until workers are at so many jobs."""
    deadline = time.monotonic() + 30
    while sum(map(len, executor.client.run(cluster._at_work).values())) < jobs:
        assert time.monotonic() < deadline
        time.sleep(0.1)
