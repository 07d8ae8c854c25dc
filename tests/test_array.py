"""A study as commands of their own, one for each job: their list, what they refuse, and results as
those of the study in one command.
"""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cli_runs import (
    BUDGET,
    TINY_STUDY,
    Result,
    Run,
    assert_refused,
    contents,
    interrupted_at,
    silent,
    write,
)
from conftest import sentences
from lookaround.cli.options import job_line, with_values
from lookaround.studies.folder import held
from lookaround.train.loop import Trainer

RATES = ("--set", "compare.lr_factors=[1.0, 3.0]", "--set", "forecast.enabled=false")
SMALL = (*RATES, "--objectives", "ar", "--set", "compare.ladder=[1.0]")


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A task of words, with which `ar` has controls."""
    texts = [
        "\n".join(f"{word} {'ab'[len(word) % 2]}" for word in text.split())
        for text in sentences(40, 7, (4, 9))
    ]
    return write(tmp_path / "words.conll", "\n\n".join(texts) + "\n")


def compare(corpus: Path, out: Path | str, *more: object) -> tuple[object, ...]:
    return ("compare", corpus, *BUDGET, "--out", out, *TINY_STUDY, *more)


@pytest.fixture(scope="module")
def small_once(home: Path, corpus: Path) -> Path:
    """A small study that was listed."""
    out = home / "array"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOKAROUND_CACHE", str(home / "cache"))
        silent(*compare(corpus, out, *SMALL, "--jobs-list"))
    return out


@pytest.fixture
def small(small_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_once, tmp_path / "array")


def run_line(run: Run, line: str) -> Result:
    name, *words = shlex.split(line)
    assert name == "lookaround"
    return run(*words)


def untimed(value: Any) -> Any:
    """Results without measured times, the machine and the command."""
    if isinstance(value, dict):
        left_out = ("seconds", "machine", "command")
        return {key: untimed(item) for key, item in value.items() if key not in left_out}
    return [untimed(item) for item in value] if isinstance(value, list) else value


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
def test_jobs_and_their_collection_are_the_study(run: Run, corpus: Path, words: Path) -> None:
    given = (*RATES, "--task", words)
    listed = run(*compare(corpus, "out", *given, "--jobs-list"))
    assert listed.code == 0, listed
    assert "rates: 4 jobs\ndecays: 0 jobs\nruns: 4 jobs\n" in listed.err
    lines = listed.out.splitlines()
    assert [number for number, line in enumerate(lines) if line.startswith("#")] == [0, 5]
    found = ""
    for line in [line for line in lines if not line.startswith("#")]:
        done = run_line(run, line)
        assert (done.code, done.err) == (0, ""), done
        found += done.out.splitlines()[-1] + "\n"
    assert "rates:1 (ar, learning rate x1): validation loss " in found
    assert "runs:2 (mlm, seed 0): " in found
    assert "runs:3 (before training, read causal, seed 0): " in found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", None)  # nothing is trained
        collected = run(*compare(corpus, "out", *given, "--collect"))
    assert collected.code == 0, collected
    assert Path("out/report.html").is_file()
    assert not list(Path("out").glob("**/trunk"))

    assert run(*compare(corpus, "whole", *given)).code == 0
    ours, theirs = (json.loads(Path(name, "results.json").read_text()) for name in ("out", "whole"))
    assert ours["controls"]
    assert untimed(ours) == untimed(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_is_asked_to_stop_goes_on(
    run: Run, corpus: Path, small: Path, number: signal.Signals
) -> None:
    job = compare(corpus, small, *SMALL, "--job", "rates:1")
    with interrupted_at(9, number):
        stopped = run(*job)
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1].startswith(f"stopped: {small}/runs/ar/lr-1/seed-0: stopped")
    assert "of the job; the same command goes on" in stopped.err
    taken = []
    whole = Trainer.step

    def step(self: Trainer, *arguments: Any) -> Any:
        taken.append(self.counters.step)
        return whole(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        resumed = run(*job)
    assert resumed.code == 0
    assert taken[0] == 10
    again = run(*job)
    assert again.out == resumed.out
    assert not list(small.glob("**/status.json"))


@pytest.mark.slow
def test_what_earlier_stages_found_is_taken_and_never_made(run: Run, corpus: Path) -> None:
    """That the loss diverges at a learning rate or weight decay is a result too."""
    tried = ("lr_factors=[1.0, 1e30]", "weight_decays=[0.1, 1e30]")
    given = (*RATES, "--objectives", "ar")
    given += tuple(part for line in tried for part in ("--set", f"compare.{line}"))
    listed = run(*compare(corpus, "out", *given, "--jobs-list", "decays"))
    assert listed.out.count("\n") == 2
    assert listed.out.splitlines()[1] == shlex.join(
        map(str, ("lookaround", *compare(corpus, "out", *given, "--job", "decays:2")))
    )

    def job(name: str) -> Result:
        return run(*compare(corpus, "out", *given, "--job", name))

    before = contents(Path("out"))
    assert_refused(
        job("runs:1"), "--job runs:1: needs", "rates:1 (ar, learning rate x1) and 1 more"
    )
    assert contents(Path("out")) == before
    assert job("rates:1").code == 0
    assert_refused(job("decays:1"), "rates:2 (ar, learning rate x1e+30)", "--job rates:2 first")
    assert job("rates:2").out.endswith(": the loss is not finite\n")
    assert_refused(job("runs:1"), "needs the result of decays:1 (ar, weight decay 0.1) and 1 more")
    assert job("decays:1").code == 0
    assert job("decays:2").out.endswith(
        "decays:2 (ar, weight decay 1e+30): the loss is not finite\n"
    )
    collect = compare(corpus, "out", *given, "--collect")
    missing = "a job is missing, first runs:1 (ar, seed 0)"
    assert run(*compare(corpus, "out", *given, "--job", "runs:2")).code == 0
    assert_refused(run(*collect), missing, "--job runs:1 in place of --collect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", None)  # what has diverged is not made again
        assert job("rates:2").code == job("decays:2").code == 0
        done = job("runs:1")
    assert done.code == 0, done
    assert {path.parent.parent.name for path in Path("out").glob("runs/ar/*/*/rung-1")} == {"lr-1"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--job", "runs"), ("--job runs", "STAGE:N")),
        (("--job", "stages:1"), ("STAGE:N", "rates, decays, runs")),
        (("--job", "runs:" + "9" * 5000), ("STAGE:N",)),
        (("--job", "rates:0"), ("--job rates:0: rates has numbers from 1 to 2",)),
        (("--job", "rates:3"), ("--job rates:3: rates has numbers from 1 to 2",)),
        (("--job", "decays:1"), ("decays has no jobs in this study",)),
        (("--job", "rates:1", "--budget", "5000"), ("study.yaml", "budget")),
        (("--job", "rates:1", "--objectives", "dar"), ("no plan of 'dar'", "--jobs-list first")),
        (("--job", "rates:1", "--out", "empty"), ("empty: no study.yaml", "--jobs-list first")),
        (("--job", "rates:1", "--json", "a.json"), ("--json", "--collect")),
        (("--job", "rates:1", "--collect"), ("--job and --collect exclude each other",)),
        (("--job", "rates:1", "--dry-run"), ("--job and --dry-run exclude each other",)),
        (("--collect", "--cluster", "local:2"), ("--collect and --cluster exclude each other",)),
        (("--collect",), ("3 jobs are missing, first rates:1 (ar, learning rate x1)",)),
        (("--collect", "--out", "empty"), ("empty: no study.yaml", "--jobs-list first")),
        (("--jobs-list", "--cluster", "local:2"), ("--jobs-list and --cluster exclude",)),
    ],
)
def test_refusals(
    run: Run, corpus: Path, small: Path, more: tuple[str, ...], words: tuple[str, ...]
) -> None:
    before = contents(small)
    assert_refused(run(*compare(corpus, small, *SMALL, *more)), *words)
    assert contents(small) == before
    assert not Path("empty").exists()


def test_a_stage_that_there_is_not(run: Run, corpus: Path) -> None:
    refused = run(*compare(corpus, "out", *SMALL, "--jobs-list", "seeds"))
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.splitlines()[-1].startswith("error: --jobs-list seeds: no such stage; give ")
    assert not Path("out").exists()


def test_a_line_is_the_command_with_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in (["--jobs-list"], ["--jobs-list", "runs"], ["--jobs-list=runs"]):
        for more in ([], ["--out", "a b"]):
            monkeypatch.setattr(sys, "argv", ["x", "compare", "t.txt", *given, *more])
            line = shlex.join(["lookaround", "compare", "t.txt", "--job", "runs:2", *more])
            assert job_line("runs:2") == line
    assert with_values(["--jobs-list", "--out", "a"]) == ["--jobs-list", "all", "--out", "a"]


# --------------------------------------------------------------------------------------- locks


def test_a_folder_in_which_a_job_is_at_work(run: Run, corpus: Path, small: Path) -> None:
    """The same job and the whole study are refused; what the job is writing stays."""
    at_work = small / "runs" / "ar" / "lr-1" / "seed-0"
    writing = at_work / "trunk" / "checkpoint-00000004.tmp"
    with held(at_work):
        writing.mkdir(parents=True)
        for more in (("--job", "rates:1"), ("--collect",), ()):
            refused = run(*compare(corpus, small, *SMALL, *more))
            assert_refused(refused, f"{at_work}: another process is at work in this folder")
        refused = run(*compare(corpus, small, *SMALL, "--jobs-list"))
        assert (refused.code, refused.out) == (2, "")
        assert f"error: {at_work}: another process" in refused.err
        (small / ".stop").touch()  # a study that was killed has left it
        assert run(*compare(corpus, small, *SMALL, "--job", "runs:2")).code == 0
        assert writing.is_dir()


@pytest.mark.slow
def test_a_job_removes_what_its_killed_self_has_left(run: Run, corpus: Path, small: Path) -> None:
    left = small / "runs" / "ar" / "lr-1" / "seed-0" / "trunk" / "checkpoint-00000004.tmp"
    left.mkdir(parents=True)
    assert run(*compare(corpus, small, *SMALL, "--job", "rates:1")).code == 0
    assert not left.exists()


def test_a_job_waits_for_the_folder_while_others_open_it(
    run: Run, corpus: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = compare(corpus, small, *SMALL, "--job", "runs:2")
    with held(small):
        monkeypatch.setattr("lookaround.studies.folder.WAIT_SECONDS", 0.1)
        assert_refused(run(*job), f"{small}: another process is at work in this folder")
        monkeypatch.setattr("lookaround.studies.folder.WAIT_SECONDS", 60.0)

    taken = threading.Event()

    def hold() -> None:
        with held(small):
            taken.set()
            time.sleep(1)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    assert run(*job).code == 0
    thread.join()
