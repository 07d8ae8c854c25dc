"""Studies on a Dask cluster: its workers take the jobs that local processes would.

Jobs keep all state in the study's folder, on a disk that all machines share: where a worker is
lost, another one takes its job up from its last checkpoint. Who reaches a Dask scheduler runs code
on its workers; over a network that others use, give it TLS (docs/training.md).
"""

from __future__ import annotations

import contextlib
import importlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lookaround.settings import Settings
from lookaround.studies.events import Event, Report
from lookaround.studies.jobs import STOP_FILE, modules_of_others
from lookaround.support.errors import UserError
from lookaround.support.machine import versions
from lookaround.support.text import listed, one_line

CONNECT_SECONDS = 8.0
_running: dict[str, str] = {}  # {job: its study} of this process, a worker


class Workers(Executor):
    """The workers of a cluster; a job that no worker has begun can be cancelled."""

    def __init__(self, client: Any, address: str, study: Path) -> None:
        self.client, self.address, self.study = client, address, str(study)
        self.modules = modules_of_others()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Sends a job to whichever worker is free."""
        number = uuid.uuid4().hex
        call = (number, self.study, self.modules, fn, args, kwargs)
        sent = self.client.submit(_call, *call, pure=False)
        job = _Sent(number, sent, self.client)
        sent.add_done_callback(lambda _: self._ended(job))
        return job

    def _ended(self, job: _Sent) -> None:
        """Hands a job's outcome over."""
        from distributed import KilledWorker

        status = job.sent.status
        if job.cancelled():
            job.set_running_or_notify_cancel()  # wakes who waits
        elif status == "finished":
            job.set_result(job.sent.result())
        elif status == "error":
            error = job.sent.exception()
            lost = isinstance(error, KilledWorker)
            job.set_exception(BrokenExecutor(str(error)) if lost else error)
        else:
            job.set_exception(
                UserError(
                    f"--cluster {self.address}: the scheduler has gone; the same command goes on "
                    "with another one"
                )
            )


class _Sent(Future):  # type: ignore[type-arg]
    """A job on a cluster."""

    def __init__(self, number: str, sent: Any, client: Any) -> None:
        super().__init__()
        self.number, self.sent, self.client = number, sent, client

    def cancel(self) -> bool:
        """Whether the job will not run; one that a worker is at is not stopped."""
        if self.done():
            return self.cancelled()
        if any(self.number in jobs for jobs in self.client.run(_at_work).values()):
            return False
        done = super().cancel()  # first: what hears of the other asks for it
        self.sent.cancel()
        return done


def _call(
    number: str,
    study: str,
    modules: Sequence[str],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    named: dict[str, Any],
) -> Any:
    """Runs a job in a worker."""
    _running[number] = study
    try:
        for module in modules:
            importlib.import_module(module)
        return function(*arguments, **named)
    finally:
        del _running[number]


def _at_work() -> dict[str, str]:
    """{job: its study} of what this worker is at."""
    return dict(_running)


def _about(places: Sequence[str]) -> dict[str, Any]:
    """What a worker is: versions of what jobs run on, and which of some files it does not see."""
    missing = [place for place in places if not Path(place).exists()]
    told = versions()
    told["python"] = told["python"].rpartition(".")[0]  # of 3.13.1 as of 3.13.2
    return {**told, "missing": missing}


def everywhere(out: Path, settings: Settings, address: str | None) -> tuple[Path, Settings]:
    """The folder of a study, and its settings, as the workers at an address find them.

    Each works in a folder of its own: paths are made absolute. Without an address all stays.
    """
    if address is None:
        return out, settings
    init = settings.model.init
    if init is not None and Path(init).exists():
        model = settings.model.model_copy(update={"init": str(Path(init).resolve())})
        settings = settings.model_copy(update={"model": model})
    return out.resolve(), settings


@contextmanager
def executor_of(
    given: Executor | None,
    address: str | None,
    study: Path,
    shared: Sequence[Path],
    report: Report,
) -> Iterator[Executor | None]:
    """The executor of a study: the given one, the workers at an address, or None without either."""
    if given is not None or address is None:
        yield given
        return
    with workers(address, study, shared, lambda line: report(Event(finished=line))) as found:
        yield found


@contextmanager
def workers(
    address: str, study: Path, shared: Sequence[Path], told: Callable[[str], None]
) -> Iterator[Workers]:
    """The workers at an address: "tcp://HOST:PORT", "tls://HOST:PORT", or "local:N" processes.

    study: the folder of the study, which is there.
    shared: further places that jobs read.
    told: hears what is waited for.

    Raises UserError where nobody listens at the address or no worker is there, where versions
    differ, and where a worker does not see the folder.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise UserError(
            f'--cluster {address}: needs Dask; pip install "lookaround[cluster]"'
        ) from None
    kind, _, rest = address.partition(":")
    with contextlib.ExitStack() as stack:
        if kind == "local" and rest.isdecimal() and 1 <= int(rest) <= 1000:
            place: Any = stack.enter_context(
                LocalCluster(
                    n_workers=int(rest),
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address=None,
                    memory_limit=0,
                )
            )
        elif kind in ("tcp", "tls") and rest.startswith("//"):
            place = address
        else:
            raise UserError(
                f"--cluster {one_line(address, 60)}: no address of a scheduler; give "
                "tls://HOST:8786, tcp://HOST:8786, or local:N for N processes here"
            )
        try:
            client = stack.enter_context(Client(place, timeout=CONNECT_SECONDS))
        except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(
                f"--cluster {one_line(address, 60)}: no scheduler answers there ("
                f"{one_line(error) or type(error).__name__}); start one with dask scheduler, and "
                "dask worker on each machine"
            ) from None
        _require_alike(client, address, study, shared)
        _wait_for_earlier(client, study, told)
        yield Workers(client, address, study.resolve())


def _require_alike(client: Any, address: str, study: Path, shared: Sequence[Path]) -> None:
    """Raises UserError where there is no worker, or one that is not as this process."""
    if not client.scheduler_info()["workers"]:
        raise UserError(f"--cluster {address}: has no workers; start dask worker on each machine")
    token = study / f".{uuid.uuid4().hex}"
    token.touch()
    try:
        places = [str(place.absolute()) for place in (token, *shared)]
        try:
            found = client.run(_about, places)
        except Exception as error:  # what a worker raises that cannot import us
            raise UserError(
                f"--cluster {address}: a worker cannot run lookaround ({one_line(error)}); install "
                "the same version on each machine"
            ) from None
        own = _about(places)
    finally:
        token.unlink()
    for worker, about in sorted(found.items()):
        for name, version in about.items():
            if name == "missing" and version:
                raise UserError(
                    f"--cluster {address}: worker {worker} does not see "
                    f"'{study.resolve() if version[0] == places[0] else version[0]}'; give an "
                    "--out, and a cache (LOOKAROUND_CACHE), on a disk that the machines share"
                )
            if name != "missing" and version != own[name]:
                raise UserError(
                    f"--cluster {address}: worker {worker} has {name} {version}, this process "
                    f"{own[name]}; results would mix both: install the same"
                )


def _wait_for_earlier(client: Any, study: Path, told: Callable[[str], None]) -> None:
    """Has jobs of an earlier start, whose command was killed, save and end."""
    stop, said, own = study / STOP_FILE, False, str(study.resolve())
    while busy := [worker for worker, jobs in client.run(_at_work).items() if own in jobs.values()]:
        stop.touch()
        if not said:
            told(f"waiting for jobs of an earlier start to save, at {listed(busy, 3)}")
            said = True
        time.sleep(0.5)
    stop.unlink(missing_ok=True)
