"""What the tests of the command line share: commands run in this process, small runs and a small
study that each process of the tests makes once, and what spoils them.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import sentences
from lookaround import cli

TINY = (
    "--model",
    "nano",
    "--set",
    "train.batch=4",
    "--set",
    "model.context=32",
    "--set",
    "data.vocabulary=300",
)
TINY_EVALUATION = (
    "--set",
    "evaluate.positions=4",
    "--set",
    "evaluate.samples=1",
    "--set",
    "evaluate.sample_tokens=4",
    "--set",
    "evaluate.bootstrap=100",
)
TINY_STUDY = (
    *TINY,
    *TINY_EVALUATION,
    "--jobs",
    "2",
    "--objectives",
    "ar, mlm",
    "--set",
    "compare.lr_factors=[1.0]",
    "--set",
    "compare.ladder=[0.5,1.0]",
)
BUDGET = ("--budget", "2500")  # 20 steps


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own, no network and one thread (two of them wait for each other where cores
    are shared).
    """
    monkeypatch.setenv("LOOKAROUND_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    threads, set_threads = torch.get_num_threads(), torch.set_num_threads
    set_threads(1)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    yield
    set_threads(threads)


@pytest.fixture
def run(_quiet: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `lookaround ARGS` in this process."""

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["lookaround", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Result(code, captured.out, captured.err)

    return call


def silent(*arguments: object) -> None:
    """Runs a command that must succeed, for fixtures that outlive a test."""
    with (
        pytest.MonkeyPatch.context() as patch,
        open(os.devnull, "w") as sink,
        contextlib.redirect_stdout(sink),
    ):
        patch.setattr(sys, "argv", ["lookaround", *map(str, arguments)])
        with contextlib.suppress(SystemExit):
            cli.main()


def assert_refused(result: Result, *words: object) -> None:
    """One line on stderr that starts with "error: " and holds `words`; exit code 2."""
    assert result.code == 2, result
    lines = result.err.splitlines()
    assert len(lines) == 1, result.err
    assert lines[0].startswith("error: "), result.err
    for word in words:
        assert str(word) in lines[0]


def contents(folder: Path) -> dict[str, bytes] | None:
    """Every file of a folder (None: no such folder)."""
    if not folder.exists():
        return None
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


class Inline(Executor):
    """Runs jobs at once in this process, so that a test of a study starts no other."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookaround.studies.jobs.local_pool", lambda jobs, threads: Inline())


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_corpus(path: Path, count: int = 120) -> Path:
    return write(path, "\n\n".join(sentences(count)) + "\n")


def write_task(path: Path, extra: str = "", seed: int = 5) -> Path:
    rows = "".join(
        f"{text}\t{'ab'[i % 2]}\n" for i, text in enumerate(sentences(40, seed, (5, 12)))
    )
    return write(path, "text\tlabel\n" + rows + extra)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="session")
def corpus(home: Path) -> Path:
    return write_corpus(home / "corpus.txt")


@pytest.fixture(scope="session")
def task(home: Path) -> Path:
    return write_task(home / "mood.tsv", "a lonely text of its own\tc\n")


def _trained(home: Path, corpus: Path, objective: str) -> Path:
    out = home / f"run-{objective}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOKAROUND_CACHE", str(home / "cache"))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        silent("pretrain", corpus, "--objective", objective, *BUDGET, "--out", out, *TINY)
        torch.set_num_threads(threads)
    return out


@pytest.fixture(scope="session")
def ar_run(home: Path, corpus: Path) -> Path:
    return _trained(home, corpus, "ar")


@pytest.fixture(scope="session")
def mlm_run(home: Path, corpus: Path) -> Path:
    return _trained(home, corpus, "mlm")


@pytest.fixture(scope="session")
def study(home: Path, corpus: Path, task: Path) -> Path:
    """A finished study; tests that change it take a copy."""
    out = home / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOKAROUND_CACHE", str(home / "cache"))
        patch.setattr("lookaround.studies.jobs.local_pool", lambda jobs, threads: Inline())
        silent(
            "compare",
            corpus,
            "--task",
            task,
            *BUDGET,
            "--out",
            out,
            "--json",
            home / "study.json",
            *TINY_STUDY,
        )
    return out


@pytest.fixture
def study_copy(study: Path, tmp_path: Path) -> Path:
    return shutil.copytree(study, tmp_path / "study")


@contextlib.contextmanager
def interrupted_at(step: int, number: signal.Signals = signal.SIGINT) -> Iterator[None]:
    """Ctrl-C, or another signal, before a step of training."""
    from lookaround.train.loop import Trainer

    whole = Trainer.step

    def step_or_stop(self: Trainer, *arguments: Any) -> Any:
        if self.counters.step == step:
            signal.raise_signal(number)
        return whole(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", step_or_stop)
        yield


def again(corpus: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("pretrain", corpus, *BUDGET, "--out", out, *TINY, *more)


def study_again(corpus: Path, out: Path, task: Path, *more: object) -> tuple[object, ...]:
    return ("compare", corpus, "--task", task, *BUDGET, "--out", out, *TINY_STUDY, *more)


@pytest.fixture(scope="session")
def stopped_at_8(home: Path, corpus: Path) -> Path:
    """A run that was interrupted."""
    out = home / "stopped"
    with pytest.MonkeyPatch.context() as patch, interrupted_at(7), open(os.devnull, "w") as sink:
        patch.setenv("LOOKAROUND_CACHE", str(home / "cache"))
        patch.setattr(
            sys, "argv", ["lookaround", "pretrain", str(corpus), *BUDGET, "--out", str(out), *TINY]
        )
        with contextlib.redirect_stderr(sink), pytest.raises(SystemExit) as stopped:
            cli.main()
    assert stopped.value.code == 130
    return out


@pytest.fixture
def stopped(stopped_at_8: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stopped_at_8, tmp_path / "stopped")


def checkpoint_of(run: Path) -> Path:
    (found,) = run.glob("checkpoint-*")
    return found


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@contextlib.contextmanager
def full_disk(module: str, name: str) -> Iterator[None]:
    """What writes in `module` finds no space."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner: Any = importlib.import_module(module)
    *outer, last = name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, last, refuse)
        yield


EVERY_FIVE = ("--set", "train.checkpoint_every=5")


PROGRAM = [sys.executable, "-c", "from lookaround.cli import main; main()"]
