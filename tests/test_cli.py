"""The command line: bad input gives one line, exit code 2 and leaves nothing behind; good input
does what it says.

Commands run in this process, except where a test is about processes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

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


# ------------------------------------------------------------------------------------------ helpers


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
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
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def corpus(home: Path) -> Path:
    return write_corpus(home / "corpus.txt")


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def ar_run(home: Path, corpus: Path) -> Path:
    return _trained(home, corpus, "ar")


@pytest.fixture(scope="module")
def mlm_run(home: Path, corpus: Path) -> Path:
    return _trained(home, corpus, "mlm")


@pytest.fixture(scope="module")
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
def interrupted_at(step: int) -> Iterator[None]:
    """Ctrl-C before a step of training."""
    from lookaround.train.loop import Trainer

    whole = Trainer.step

    def step_or_stop(self: Trainer, *arguments: Any) -> Any:
        if self.counters.step == step:
            signal.raise_signal(signal.SIGINT)
        return whole(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", step_or_stop)
        yield


def test_ctrl_c_where_nothing_listens_yet_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(cli, "app", lambda standalone_mode: 130)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_reader_that_has_gone_ends_the_command_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def gone(standalone_mode: bool) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(cli, "app", gone)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
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


# -------------------------------------------------------------------------------------- bad corpora

CORPORA: dict[str, tuple[str, str | bytes, tuple[str, ...]]] = {
    "empty": ("c.txt", b"", ("c.txt", "empty")),
    "blank": ("c.txt", b"\n \n\t\n", ("c.txt", "empty")),
    "binary": ("c.txt", b"\x7fELF\x00\x01" * 99, ("c.txt:1", "NUL")),
    "not UTF-8": ("c.txt", b"fine\n\n\xff\xc3bad", ("c.txt:3", "0xff", "offset 6")),
    "broken jsonl": ("c.jsonl", '{"text": "a"}\n{"text": \n', ("c.jsonl:2", "JSON")),
    "a json list": ("c.json", "[1, 2]", ("c.json", ".jsonl")),
    "broken parquet": ("c.parquet", b"PAR1 nonsense", ("c.parquet", "parquet")),
    "no text column": ("c.csv", "a,b\n1,2\n3,4\n", ("c.csv", "'a', 'b'")),
    "broken gzip": ("c.txt.gz", b"\x1f\x8bnonsense", ("c.txt.gz", ".gz")),
    "unknown format": ("c.docx", b"PK", ("c.docx", "format")),
}


@pytest.mark.parametrize("command", ["pretrain", "compare"])
@pytest.mark.parametrize("name", CORPORA)
def test_a_bad_corpus_is_refused(run: Run, tmp_path: Path, name: str, command: str) -> None:
    file, content, words = CORPORA[name]
    path = write(tmp_path / file, content)
    assert_refused(run(command, path, *BUDGET, "--out", "out"), *words)
    assert sorted(os.listdir()) == [file]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("only one document, quite alone", ("1 document",), id="one document"),
        pytest.param("word " * 200_000, ("1 document",), id="one huge line"),
        pytest.param("one\n\ntwo", ("2 documents",), id="two documents"),
    ],
)
@pytest.mark.parametrize("command", ["pretrain", "compare", "evaluate"])
def test_too_few_documents(
    run: Run, ar_run: Path, tmp_path: Path, command: str, content: str, words: tuple[str, ...]
) -> None:
    path = write(tmp_path / "few.txt", content)
    arguments = (ar_run, "--corpus", path) if command == "evaluate" else (path, *BUDGET)
    assert_refused(run(command, *arguments, "--out", "out"), *words)
    assert not Path("out").exists()


def test_too_few_documents_names_the_corpus(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "few.txt", "one\n\ntwo")
    assert_refused(run("pretrain", path, *BUDGET, "--out", "out"), "few.txt")


def test_an_empty_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert_refused(
        run("pretrain", tmp_path / "nothing", *BUDGET, "--out", "out"), "nothing", "empty folder"
    )
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["missing.txt", "folder/missing", "", "no-such-dataset"])
def test_a_corpus_that_does_not_exist(run: Run, name: str) -> None:
    assert_refused(run("pretrain", name, *BUDGET, "--out", "out"), name or "empty name")
    assert not Path("out").exists()


def test_a_column_that_does_not_exist(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", '{"text": "a"}\n')
    assert_refused(
        run("pretrain", path, *BUDGET, "--text-column", "words", "--out", "out"),
        "c.jsonl",
        "'words'",
        "'text'",
    )


# ---------------------------------------------------------------------------------------- bad tasks

TASKS: dict[str, tuple[dict[str, str], str, tuple[str, ...]]] = {
    "missing": ({}, "t.tsv", ("t.tsv", "no such file")),
    "empty": ({"t.tsv": ""}, "t.tsv", ("t.tsv", "empty")),
    "header alone": ({"t.tsv": "text\tlabel\n"}, "t.tsv", ("t.tsv", "no rows")),
    "one class": (
        {"t.tsv": "text\tlabel\none\tx\ntwo\tx\nthree\tx\n"},
        "t.tsv",
        ("t.tsv", "1 usable class", "'x'"),
    ),
    "two lone texts": (
        {"t.tsv": "text\tlabel\none\tx\ntwo\ty\n"},
        "t.tsv",
        ("t.tsv", "0 usable classes"),
    ),
    "no label": ({"t.tsv": "text\tfoo\none\tx\n"}, "t.tsv", ("t.tsv", "label", "'foo'")),
    "no text": ({"t.tsv": "foo\tlabel\none\tx\n"}, "t.tsv", ("t.tsv", "text column", "'foo'")),
    "ragged": ({"t.tsv": "text\tlabel\none\n"}, "t.tsv", ("t.tsv:2", "1 fields")),
    "not a table": ({"t.txt": "one\n"}, "t.txt", ("t.txt", "table")),
    "overlap": (
        {
            "t/train.tsv": "text\tlabel\n" + "".join(f"text {i}\t{i % 2}\n" for i in range(20)),
            "t/test.tsv": "text\tlabel\n" + "".join(f"text {i}\t{i % 2}\n" for i in range(10)),
        },
        "t",
        ("test.tsv", "overlaps", "10 of 10", "text 0"),
    ),
    "an empty folder": ({"t/.hidden": ""}, "t", ("no task",)),
    "one class folder": ({"t/x/1.txt": "one", "t/x/2.txt": "two"}, "t", ("1 sub-folder",)),
}


@pytest.mark.parametrize("command", ["compare", "evaluate"])
@pytest.mark.parametrize("name", TASKS)
def test_a_bad_task_is_refused(
    run: Run, corpus: Path, ar_run: Path, tmp_path: Path, name: str, command: str
) -> None:
    given, path, words = TASKS[name]
    for file, content in given.items():
        write(tmp_path / file, content)
    first = (corpus, *BUDGET) if command == "compare" else (ar_run,)
    assert_refused(run(command, *first, "--task", tmp_path / path, "--out", "out"), *words)
    assert not Path("out").exists()


# ---------------------------------------------------------------- bad objectives, budgets, settings


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("foo", ("'foo'", "unknown objective", "mlm")),
        ("mlm(foo=3)", ("foo=3", "rate")),
        ("mlm(rate=0)", ("'0'", "(0, 1]")),
        ("mlm(rate=1.5)", ("'1.5'", "(0, 1]")),
        ("mlm(rate=-0.1)", ("'-0.1'", "(0, 1]")),
        ("mlm(rate=nan)", ("'nan'", "(0, 1]")),
        ("mlm(0.3)", ("rate=",)),
        ("mlm(rate=0.2, rate=0.3)", ("rate",)),
        ("", ("objectives ''",)),
        ("ar >>", ("ar >>", "column 5")),
        ("0*ar + mlm", ("'0'", "weight")),
        ("ar; import os", ("column",)),
    ],
)
@pytest.mark.parametrize("command", ["pretrain", "compare"])
def test_a_bad_objective_is_refused(
    run: Run, corpus: Path, command: str, spec: str, words: tuple[str, ...]
) -> None:
    option = "--objective" if command == "pretrain" else "--objectives"
    assert_refused(run(command, corpus, *BUDGET, "--out", "out", option, spec), *words)
    assert not Path("out").exists()


def test_pretrain_takes_one_objective(run: Run, corpus: Path) -> None:
    assert_refused(
        run("pretrain", corpus, *BUDGET, "--out", "out", "--objective", "ar, mlm"),
        "ar, mlm",
        "2 objectives",
    )


@pytest.mark.parametrize(
    "budget", ["banana", "-5", "0", "", "nan", "1e999", "5Q", "5M tokens of ar"]
)
@pytest.mark.parametrize("command", ["pretrain", "compare"])
def test_a_nonsense_budget_is_refused(run: Run, corpus: Path, command: str, budget: str) -> None:
    assert_refused(run(command, corpus, f"--budget={budget}", "--out", "out"), f"budget '{budget}'")
    assert not Path("out").exists()


@pytest.mark.parametrize("budget", ["10", "10flops"])
@pytest.mark.parametrize("command", ["pretrain", "compare"])
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_budget_too_small_for_a_step(
    run: Run, corpus: Path, command: str, budget: str, dry: tuple[str, ...]
) -> None:
    tiny = TINY if command == "pretrain" else TINY_STUDY
    assert_refused(
        run(command, corpus, "--budget", budget, "--out", "out", *tiny, *dry),
        "budget ",
        "too small",
    )
    assert not Path("out").exists()


def test_a_budget_too_small_is_called_what_it_was_given_as(run: Run, corpus: Path) -> None:
    assert_refused(
        run("compare", corpus, "--budget", "10", "--out", "out", *TINY_STUDY), "budget 10"
    )


def test_a_budget_too_small_for_the_smallest_rung(run: Run, corpus: Path) -> None:
    refused = run("compare", corpus, "--budget", "130", "--out", "out", *TINY_STUDY)
    assert_refused(refused, "budget 130:", "rung 0.5")
    assert not Path("out").exists()


def test_a_dry_run_of_one_step(run: Run, corpus: Path) -> None:
    one_step = ("pretrain", corpus, "--budget", "130", "--out", "out", *TINY)
    assert run(*one_step, "--dry-run").code == 0
    assert run(*one_step).code == 0


SETTINGS: dict[str, tuple[str, ...]] = {
    "train.batch": ("--set train.batch", "section.field=value"),
    "=3": ("--set =3",),
    "train.btach=3": ("train.btach", "batch"),
    "trian.batch=3": ("trian", "train"),
    "train.batch=x": ("train.batch", "'x'"),
    "train.batch=0": ("train.batch", "got 0"),
    "train.batch=[": ("--set train.batch=[", "YAML"),
    "train=3": ("train", "got 3"),
    "seed=3.5": ("seed", "3.5"),
    "seed=-1": ("seed", "-1"),
    "data.vocabulary=100": ("data.vocabulary", "100", "260"),
    "data.validation=0.6": ("data.validation", "0.6"),
    "model.preset=huge": ("model.preset", "'huge'", "nano"),
    "model.precision=fp8": ("model.precision", "'fp8'"),
    "train.learning_rate=.nan": ("train.learning_rate", "nan"),
    "evaluate.temperature=-1": ("evaluate.temperature", "-1"),
    "data.metrics={mood: f1}": ("data.metrics.mood", "'f1'"),
    "compare.seeds=0": ("compare.seeds", "got 0"),
    "compare.equal=flopz": ("compare.equal", "'flopz'"),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("command", ["pretrain", "compare"])
def test_a_bad_setting_is_refused(run: Run, corpus: Path, command: str, setting: str) -> None:
    assert_refused(
        run(command, corpus, *BUDGET, "--out", "out", "--set", setting), *SETTINGS[setting]
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("evaluate.prefix_lengths=[500]", ("evaluate.prefix_lengths", "500", "too long")),
        ("evaluate.prefix_lengths=[0]", ("evaluate.prefix_lengths", "[0]")),
        ("compare.ladder=[]", ("compare.ladder", "[]")),
        ("compare.ladder=[0.5]", ("compare.ladder", "[0.5]")),
        ("compare.ladder=[0, 1]", ("compare.ladder", "[0.0, 1.0]")),
        ("compare.ladder=[.nan, 1]", ("compare.ladder", "nan")),
        ("compare.lr_factors=[]", ("compare.lr_factors", "[]")),
        ("compare.lr_factors=[-1]", ("compare.lr_factors", "-1")),
        ("compare.equal=seconds", ("compare.equal", "300s")),
        ("data.metrics={nope: accuracy}", ("'nope'", "'mood'")),
        pytest.param("compare.lr_factors=[.nan]", ("compare.lr_factors", "nan")),
        pytest.param("evaluate.generation_mode=foo", ("evaluate.generation_mode", "foo")),
        pytest.param("evaluate.classification_mode=foo", ("evaluate.classification_mode", "foo")),
    ],
)
def test_a_bad_setting_of_a_study_is_refused(
    run: Run, corpus: Path, task: Path, setting: str, words: tuple[str, ...]
) -> None:
    refused = run(
        "compare",
        corpus,
        "--task",
        task,
        *BUDGET,
        "--out",
        "out",
        *TINY_STUDY,
        "--set",
        setting,
        "--dry-run",
    )
    assert_refused(refused, *words)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(
            "compare.lr_factors=[1.0, 1.0]",
        ),
        pytest.param(
            "compare.ladder=[1.0, 1.0]",
        ),
    ],
)
@pytest.mark.usefixtures("inline")
def test_repetitions_in_a_list_are_refused_or_dropped(run: Run, corpus: Path, setting: str) -> None:
    result = run("compare", corpus, *BUDGET, "--out", "out", *TINY_STUDY, "--set", setting)
    if result.code == 0:
        summary = json.loads(Path("out/results.json").read_text())["summary"]
        keys = [(entry["objective"], entry["rung"], entry["metric"]) for entry in summary]
        assert len(keys) == len(set(keys))
    else:
        assert_refused(result, setting.partition("=")[0])


@pytest.mark.parametrize(
    "setting",
    [pytest.param(f"train.{name}=.inf") for name in ("weight_decay",)],
)
def test_infinity_is_no_setting(run: Run, corpus: Path, setting: str) -> None:
    assert_refused(
        run("pretrain", corpus, *BUDGET, "--out", "out", *TINY, "--set", setting),
        setting.partition("=")[0],
    )
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--seed", "-1"), ("seed", "-1")),
        (("--model", "huge"), ("huge", "nano")),
        (("--learning-rate", "-1"), ("learning_rate", "-1")),
        (("--as", "bert"), ("--as bert", "llama")),
        (("--as", "eurobert"), ("--as eurobert", "fill-mask")),
        (("--tokenizer", "no/such-tokenizer"), ("no/such-tokenizer",)),
        (("--tokenizer", "/no/such/folder"), ("/no/such/folder",)),
        (("--init", "no/such-model"), ("no/such-model",)),
        pytest.param(
            ("--seed", str(2**70)),
            ("seed",),
        ),
    ],
)
def test_a_bad_option_is_refused(
    run: Run, corpus: Path, option: tuple[str, str], words: tuple[str, ...]
) -> None:
    assert_refused(run("pretrain", corpus, *BUDGET, "--out", "out", *TINY, *option), *words)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pretrain", "--seed", "x"), ("--seed",)),
        (("pretrain", "--nonsense"), ("--nonsense",)),
        (("pretrain", "a.txt", "b.txt"), ("b.txt",)),
        (("compare", "--seeds", "x"), ("--seeds",)),
        (("generate", "run", "--temperature", "-1"), ("--temperature",)),
        (("generate", "run", "--temperature", "nan"), ("--temperature",)),
        (("generate", "run", "--top-p", "1.5"), ("--top-p",)),
        (("generate", "run", "--max-new-tokens", "0"), ("--max-new-tokens",)),
        (("generate",), ("model",)),
        (("nonsense",), ("nonsense",)),
    ],
)
def test_what_the_parser_refuses_is_one_line_too(
    run: Run, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(run(*arguments), *words)


CONFIGS: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "a wrong key": ("train:\n  btach: 3\n", ("c.yaml", "train.btach", "batch")),
    "a wrong section": ("trian:\n  batch: 3\n", ("c.yaml", "trian", "train")),
    "a wrong value": ("train:\n  batch: none\n", ("c.yaml", "train.batch", "none")),
    "not YAML": ("train:\n  batch: [3\n", ("c.yaml", "line 3", "YAML")),
    "a list": ("- 1\n", ("c.yaml", "list")),
    "not UTF-8": (b"\xff\xfe\x00", ("c.yaml", "YAML")),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bad_config_is_refused(run: Run, corpus: Path, tmp_path: Path, name: str) -> None:
    content, words = CONFIGS[name]
    path = write(tmp_path / "c.yaml", content)
    assert_refused(run("pretrain", corpus, *BUDGET, "--out", "out", "--config", path), *words)
    assert not Path("out").exists()


def test_a_config_that_does_not_exist(run: Run, corpus: Path) -> None:
    assert_refused(
        run("compare", corpus, "--out", "out", "--config", "missing.yaml"),
        "missing.yaml",
        "No such file",
    )


def test_a_lossy_tokenizer(run: Run, corpus: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "cat": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(
        tmp_path / "words"
    )
    refused = run(
        "pretrain", corpus, *BUDGET, "--out", "out", *TINY, "--tokenizer", tmp_path / "words"
    )
    assert_refused(refused, tmp_path / "words", "lossy", "comes back as")
    assert not Path("out").exists()
    assert not contents(tmp_path / "cache")


def test_init_on_a_folder_without_a_model(
    run: Run, corpus: Path, ar_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ar_run / file, tmp_path / "bare")
    assert_refused(
        run("pretrain", corpus, *BUDGET, "--out", "out", *TINY, "--init", tmp_path / "bare"),
        "bare",
        "no config.json",
    )
    assert not Path("out").exists()


def test_init_on_an_empty_folder_speaks_of_the_model(
    run: Run, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    refused = run("pretrain", corpus, *BUDGET, "--out", "out", *TINY, "--init", "bare")
    assert_refused(refused, "bare", "init")


@pytest.mark.parametrize("option", ["--tokenizer", "--init"])
def test_a_path_that_does_not_exist_is_called_so(run: Run, corpus: Path, option: str) -> None:
    assert_refused(
        run("pretrain", corpus, *BUDGET, "--out", "out", *TINY, option, "/no/where/at/all"),
        "no such f",
    )


def test_init_with_a_longer_context(run: Run, corpus: Path, ar_run: Path) -> None:
    refused = run(
        "pretrain", corpus, *BUDGET, "--out", "out", "--init", ar_run, "--set", "model.context=1024"
    )
    assert_refused(refused, "model.context", "1024", "512")
    assert not Path("out").exists()


# ------------------------------------------------------------------------------- places to write to


@pytest.mark.parametrize("command", ["pretrain", "compare"])
def test_a_foreign_folder_is_left_alone(
    run: Run, corpus: Path, tmp_path: Path, command: str
) -> None:
    write(tmp_path / "out" / "thesis.tex", "years of work")
    before = contents(tmp_path / "out")
    tiny = TINY if command == "pretrain" else TINY_STUDY
    assert_refused(run(command, corpus, *BUDGET, "--out", "out", *tiny), "out", "not empty")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    "command",
    [pytest.param(name) for name in ("pretrain", "compare")],
)
def test_an_out_that_is_a_file(run: Run, corpus: Path, tmp_path: Path, command: str) -> None:
    file = write(tmp_path / "notes.txt", "notes")
    tiny = TINY if command == "pretrain" else TINY_STUDY
    assert_refused(run(command, corpus, *BUDGET, "--out", file, *tiny), "notes.txt")
    assert file.read_text() == "notes"


def test_evaluate_into_a_file(run: Run, ar_run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "notes.txt", "notes")
    assert_refused(run("evaluate", ar_run, *TINY_EVALUATION, "--out", file), "notes.txt")


@pytest.mark.parametrize(
    ("out", "why"), [("/proc/no/where", "cannot be written"), ("notes.txt/out", "is a file")]
)
@pytest.mark.parametrize("command", ["pretrain", "compare"])
def test_an_out_that_cannot_be_made(
    run: Run, corpus: Path, tmp_path: Path, command: str, out: str, why: str
) -> None:
    write(tmp_path / "notes.txt", "notes")
    tiny = TINY if command == "pretrain" else TINY_STUDY
    assert_refused(run(command, corpus, *BUDGET, "--out", out, *tiny), out, why)


@pytest.mark.parametrize(
    "command",
    [pytest.param(name) for name in ("pretrain", "compare", "evaluate", "generate", "report")],
)
@pytest.mark.usefixtures("inline")
def test_json_into_a_folder_that_does_not_exist_costs_no_work(
    run: Run, corpus: Path, ar_run: Path, study_copy: Path, command: str
) -> None:
    (study_copy / "report.html").unlink()
    arguments = {
        "pretrain": (corpus, *BUDGET, "--out", "out", *TINY),
        "compare": (corpus, *BUDGET, "--out", "out", *TINY_STUDY),
        "evaluate": (ar_run, *TINY_EVALUATION),
        "generate": (ar_run, "the cat"),
        "report": (study_copy,),
    }[command]
    result = run(command, *arguments, "--json", "missing/result.json")
    assert_refused(result, "missing")
    assert not result.out
    assert not Path("out").exists()
    assert not (study_copy / "report.html").exists()


@pytest.mark.parametrize("option", ["--json", "--out"])
def test_a_file_asked_for_where_a_folder_is(
    run: Run, ar_run: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "folder").mkdir()
    before = contents(tmp_path)
    assert_refused(run("generate", ar_run, "the cat", option, tmp_path / "folder"), "folder")
    assert contents(tmp_path) == before


def test_generate_into_a_folder_that_does_not_exist(run: Run, ar_run: Path) -> None:
    assert_refused(run("generate", ar_run, "the cat", "--out", "missing/texts.txt"), "missing")


# ----------------------------------------------------------------------------------------- resuming


def again(corpus: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("pretrain", corpus, *BUDGET, "--out", out, *TINY, *more)


def test_an_interrupted_run_says_how_to_go_on_and_finishes(run: Run, corpus: Path) -> None:
    with interrupted_at(7):
        stopped = run(*again(corpus, Path("out")))
    assert stopped.code == 130
    assert stopped.err.startswith("stopped: ")
    assert "step 8 of 20" in stopped.err
    assert "same command" in stopped.err
    finished = run(*again(corpus, Path("out")))
    assert finished.code == 0
    assert "finished after 20 steps" in finished.out
    assert not list(Path("out").glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--set", "train.batch=8"), ("train.batch was 4, now 8",)),
        (("--budget", "5000"), ("budget was 2500 tokens, now 5000 tokens",)),
        (("--objective", "mlm"), ("objective was ar, now mlm",)),
        (("--seed", "3"), ("seed was 0, now 3",)),
    ],
)
def test_other_settings_under_a_resume(
    run: Run, corpus: Path, stopped: Path, option: tuple[str, str], words: tuple[str, ...]
) -> None:
    before = contents(stopped)
    assert_refused(run(*again(corpus, stopped, *option)), "run.yaml", *words)
    assert contents(stopped) == before


def test_settings_that_change_no_result_may_differ_under_a_resume(
    run: Run, corpus: Path, stopped: Path
) -> None:
    assert (
        run(
            *again(corpus, stopped, "--set", "evaluate.positions=9", "--set", "train.log_every=3")
        ).code
        == 0
    )


def test_a_corpus_changed_under_a_resume(
    run: Run, corpus: Path, stopped: Path, tmp_path: Path
) -> None:
    same = shutil.copy(corpus, tmp_path / "other.txt")
    before = contents(stopped)
    write(Path(same), corpus.read_text() + "\n\none more document")
    assert_refused(
        run("pretrain", same, *again(corpus, stopped)[2:]), "run.yaml", "corpus or its tokenizer"
    )
    assert contents(stopped) == before


@pytest.mark.parametrize("file", ["training_state.safetensors", "counters.json"])
def test_a_truncated_checkpoint(run: Run, corpus: Path, stopped: Path, file: str) -> None:
    cut(checkpoint_of(stopped) / file)
    before = contents(stopped)
    assert_refused(run(*again(corpus, stopped)), checkpoint_of(stopped).name, file, "truncated")
    assert contents(stopped) == before


def test_a_truncated_model_in_a_checkpoint(run: Run, corpus: Path, stopped: Path) -> None:
    cut(checkpoint_of(stopped) / "model.safetensors")
    assert_refused(run("evaluate", checkpoint_of(stopped)), checkpoint_of(stopped).name)
    assert_refused(run("generate", checkpoint_of(stopped)), checkpoint_of(stopped).name)
    assert_refused(
        run("pretrain", corpus, *BUDGET, "--out", "out", *TINY, "--init", checkpoint_of(stopped)),
        checkpoint_of(stopped).name,
    )
    assert not Path("out").exists()
    assert run(*again(corpus, stopped)).code == 0  # what is resumed from is the training state


def test_a_checkpoint_without_its_state(run: Run, corpus: Path, stopped: Path) -> None:
    (checkpoint_of(stopped) / "training_state.safetensors").unlink()
    assert_refused(run(*again(corpus, stopped)), "training_state.safetensors")


@pytest.mark.parametrize(
    "counters",
    [
        pytest.param('{"step": 8}'),
        pytest.param(
            '{"step": "8", "tokens": 0, "targets": 0, "flops": 0, "seconds": 0}',
        ),
    ],
)
def test_counters_of_another_make(run: Run, corpus: Path, stopped: Path, counters: str) -> None:
    write(checkpoint_of(stopped) / "counters.json", counters)
    assert_refused(run(*again(corpus, stopped)), "counters.json")


def _with_foreign_checkpoint(run: Run, corpus: Path, stopped: Path, tmp_path: Path) -> Path:
    """`stopped`, whose checkpoint is now one of a smaller model."""
    with interrupted_at(7):
        run(*again(corpus, tmp_path / "smaller", "--set", "data.vocabulary=280"))
    here = checkpoint_of(stopped)
    shutil.rmtree(here)
    shutil.copytree(checkpoint_of(tmp_path / "smaller"), here)
    return stopped


def test_a_foreign_checkpoint(run: Run, corpus: Path, stopped: Path, tmp_path: Path) -> None:
    stopped = _with_foreign_checkpoint(run, corpus, stopped, tmp_path)
    before = contents(stopped)
    assert_refused(run(*again(corpus, stopped)), "foreign checkpoint")
    assert contents(stopped) == before


def test_a_foreign_checkpoint_is_named(
    run: Run, corpus: Path, stopped: Path, tmp_path: Path
) -> None:
    stopped = _with_foreign_checkpoint(run, corpus, stopped, tmp_path)
    assert_refused(run(*again(corpus, stopped)), checkpoint_of(stopped).name)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "- 1\n",
        b"\xff\xfe",
        pytest.param("objective: ar\nstatus: running\n"),
    ],
)
def test_a_broken_run_yaml(run: Run, corpus: Path, stopped: Path, content: str | bytes) -> None:
    write(stopped / "run.yaml", content)
    before = contents(stopped)
    assert_refused(run(*again(corpus, stopped)), "run.yaml")
    assert contents(stopped) == before


@pytest.mark.parametrize("name", ["plan", "status"])
def test_a_run_yaml_without_a_field(run: Run, corpus: Path, stopped: Path, name: str) -> None:
    info = yaml.safe_load((stopped / "run.yaml").read_text())
    del info[name]
    write(stopped / "run.yaml", yaml.safe_dump(info))
    assert_refused(run(*again(corpus, stopped)), "run.yaml")


def test_pretrain_into_a_model_of_a_study(run: Run, corpus: Path, study_copy: Path) -> None:
    rung = (
        study_copy / json.loads((study_copy / "results.json").read_text())["runs"][0]["checkpoint"]
    )
    before = contents(rung)
    assert_refused(run(*again(corpus, rung)), rung)
    assert contents(rung) == before


def test_a_run_that_is_not_finished_cannot_be_used(run: Run, stopped: Path) -> None:
    assert_refused(run("evaluate", stopped), "stopped", "config.json")
    assert_refused(run("generate", stopped), "stopped", "config.json")


DIVERGING = ("--set", "train.learning_rate=0.9", "--set", "train.weight_decay=1e30")


def test_a_loss_that_is_not_finite(run: Run, corpus: Path) -> None:
    assert_refused(
        run(*again(corpus, Path("out"), *DIVERGING)), "loss is not finite", "0.9", "smaller"
    )


def test_the_advice_on_a_loss_that_is_not_finite_can_be_followed(run: Run, corpus: Path) -> None:
    run(*again(corpus, Path("out"), *DIVERGING))
    assert run(*again(corpus, Path("out"))).code == 0


# ------------------------------------------------------------------------------ no room on the disk


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files may not grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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


@pytest.mark.parametrize(
    "size",
    [10_000, pytest.param(5_000)],
)
def test_no_room_for_the_token_shards(run: Run, corpus: Path, tmp_path: Path, size: int) -> None:
    with largest_file(size):
        refused = run(*again(corpus, Path("out")))
    assert_refused(refused, "cache", "no space left")
    assert not Path("out").exists()
    assert not contents(tmp_path / "cache")


@pytest.mark.parametrize(
    "size",
    [pytest.param(size) for size in (200_000, 3_000_000)],
)
def test_no_room_for_a_file_of_a_checkpoint(run: Run, corpus: Path, size: int) -> None:
    with largest_file(size):
        refused = run(*again(corpus, Path("out"), *EVERY_FIVE))
    assert_refused(refused, "checkpoint-00000005")
    assert not list(Path("out").glob("*.tmp"))
    assert run(*again(corpus, Path("out"), *EVERY_FIVE)).code == 0


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("lookaround.train.checkpoint", "save_file"),
        ("lookaround.model.export", "save_file"),
        ("os", "fsync"),
        pytest.param(
            "lookaround.train.loop",
            "MetricsFile.write",
        ),
    ],
)
def test_a_full_disk(run: Run, corpus: Path, module: str, name: str) -> None:
    with full_disk(module, name):
        assert_refused(run(*again(corpus, Path("out"), *EVERY_FIVE)), "out/", "space")
    assert not list(Path().glob("**/*.tmp"))
    assert run(*again(corpus, Path("out"), *EVERY_FIVE)).code == 0


def test_a_full_disk_leaves_an_empty_folder_empty(run: Run, corpus: Path) -> None:
    Path("out").mkdir()
    with full_disk("os", "fsync"):
        assert_refused(run(*again(corpus, Path("out"))), "out/", "space")
    assert not contents(Path("out"))


# --------------------------------------------------------------------- pretrain, generate, evaluate


def test_pretrain_twice_does_nothing_the_second_time(
    run: Run, corpus: Path, tmp_path: Path
) -> None:
    first = run(*again(corpus, Path("out"), "--json", tmp_path / "info.json"))
    assert first.code == 0
    before = contents(tmp_path / "out")
    assert before is not None
    assert {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "run.yaml",
        "metrics.jsonl",
    } <= before.keys()
    times = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    second = run(*again(corpus, Path("out"), "--json", tmp_path / "second.json"))
    assert second.code == 0
    assert second.out == first.out
    assert contents(tmp_path / "out") == before
    assert {path: path.stat().st_mtime_ns for path in Path("out").iterdir()} == times
    info = json.loads((tmp_path / "info.json").read_text())
    assert info == json.loads((tmp_path / "second.json").read_text())
    assert info["spent"]["step"] == 20
    assert info["status"] == "finished"


@pytest.mark.parametrize("command", ["pretrain", "compare"])
def test_a_dry_run_leaves_nothing_behind(run: Run, corpus: Path, command: str) -> None:
    tiny = TINY if command == "pretrain" else TINY_STUDY
    dry = run(command, corpus, *BUDGET, "--out", "out", *tiny, "--dry-run")
    assert dry.code == 0
    for words in ("parameters", "steps", "FLOPs", "memory", "time"):
        assert words in dry.out
    assert os.listdir() == ["cache"]


def test_a_dry_run_writes_its_json(run: Run, corpus: Path) -> None:
    assert run(*again(corpus, Path("out"), "--dry-run", "--json", "cost.json")).code == 0
    assert json.loads(Path("cost.json").read_text())["parameters"] > 0


def test_a_run_goes_on_from_another(run: Run, corpus: Path, ar_run: Path) -> None:
    went_on = run(
        "pretrain", corpus, "--objective", "mlm", *BUDGET, "--out", "out", *TINY, "--init", ar_run
    )
    assert went_on.code == 0, went_on
    assert "mlm finished" in went_on.out


@pytest.mark.parametrize("objective", ["ar", "mlm"])
def test_generate(run: Run, request: pytest.FixtureRequest, objective: str, tmp_path: Path) -> None:
    model = request.getfixturevalue(f"{objective}_run")
    prompts = (
        "the cat",
        "",
        "the cat sat on a mat while two dogs ran " * 20,
        "[bold]<mask>[/nonsense] é 猫",
    )
    options = ("--max-new-tokens", "6", "--seed", "1")
    made = run(
        "generate",
        model,
        *prompts,
        *options,
        "--json",
        tmp_path / "t.json",
        "--out",
        tmp_path / "t.txt",
    )
    assert made.code == 0, made
    texts = json.loads((tmp_path / "t.json").read_text())["texts"]
    assert [entry["prompt"] for entry in texts] == list(prompts)
    assert all(entry["tokens"] <= 6 for entry in texts)
    assert any(entry["continuation"] for entry in texts)
    for entry in texts:
        assert entry["prompt"] + entry["continuation"] in made.out
        assert entry["prompt"] + entry["continuation"] in (tmp_path / "t.txt").read_text()
    assert (
        run("generate", model, *prompts, *options).out == made.out
    )  # the same seed, the same text


@pytest.mark.parametrize(
    "option",
    [("--temperature", "0"), ("--temperature", "1e-30"), ("--top-k", "1"), ("--top-p", "1e-9")],
)
def test_generate_the_likeliest(run: Run, ar_run: Path, option: tuple[str, str]) -> None:
    made = [
        run("generate", ar_run, "the cat", "--max-new-tokens", "5", "--seed", seed, *option)
        for seed in (1, 2)
    ]
    assert made[0].code == 0
    assert made[0].out == made[1].out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--mode", "bidirectional"), ("'bidirectional'", "causal")),
        (("--mode", "foo"), ("'foo'",)),
        (("--seed", "-1"), ("seed", "-1")),
        pytest.param(("--temperature", "inf"), ("temperature",)),
        pytest.param(("--top-p", "0"), ("top",)),
        pytest.param(("--seed", str(2**70)), ("seed",)),
        pytest.param(("\udcff",), ("UTF-8",)),
    ],
)
def test_generate_refuses(
    run: Run, ar_run: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(run("generate", ar_run, "the cat", *options), *words)


@pytest.mark.parametrize("command", ["evaluate", "generate"])
def test_a_folder_that_is_no_model(run: Run, tmp_path: Path, command: str) -> None:
    write(tmp_path / "folder" / "thesis.tex", "years of work")
    assert_refused(run(command, tmp_path / "folder"), "folder", "config.json")
    assert_refused(run(command, tmp_path / "missing"), "missing", "no such folder")
    assert_refused(run(command, tmp_path / "folder" / "thesis.tex"), "thesis.tex", "no such folder")
    write(tmp_path / "folder" / "config.json", "{")
    write(tmp_path / "folder" / "model.safetensors", "{")
    assert_refused(run(command, tmp_path / "folder"), "folder")


def test_evaluate(run: Run, ar_run: Path, task: Path, tmp_path: Path) -> None:
    done = run(
        "evaluate",
        ar_run,
        "--task",
        task,
        *TINY_EVALUATION,
        "--out",
        tmp_path / "out",
        "--json",
        tmp_path / "e.json",
    )
    assert done.code == 0, done
    result = json.loads((tmp_path / "e.json").read_text())
    assert result == json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert 0 <= result["classification"]["mood"]["score"] <= 1
    assert {"majority", "tfidf"} <= result["baselines"]["mood"].keys()
    assert result["bits_per_byte"] > 0
    assert list(result["bits_per_byte_by_prefix"]) == ["1", "2", "4", "8", "16"]
    assert "mood: " in done.out
    assert "bits per byte: " in done.out
    assert "tokens to score" in run("evaluate", ar_run, "--task", task, "--dry-run").out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--mode", "prefix"), ("'prefix'", "causal")),
        (("--corpus", "missing.txt"), ("missing.txt",)),
        (("--set", "evaluate.prefix_lengths=[500]"), ("evaluate.prefix_lengths", "500")),
    ],
)
def test_evaluate_refuses(
    run: Run, ar_run: Path, options: tuple[str, str], words: tuple[str, ...]
) -> None:
    assert_refused(run("evaluate", ar_run, *options, "--out", "out"), *words)
    assert not Path("out").exists()


def test_evaluate_scores_the_part_that_the_run_left_out(run: Run, corpus: Path) -> None:
    shares = ("--set", "data.test=0.01", "--set", "data.validation=0.01")
    run(*again(corpus, Path("out"), *shares))
    found = []
    for given in ((), shares):
        assert run("evaluate", "out", *TINY_EVALUATION, *given, "--json", "e.json").code == 0
        found.append(json.loads(Path("e.json").read_text())["bits_per_byte"])
    assert found[0] == found[1]


def test_evaluate_notices_that_the_corpus_of_a_run_has_changed(
    run: Run, corpus: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copy(corpus, tmp_path / "own.txt"))
    run(*again(own, Path("out")))
    write(own, "\n\n".join(sentences(120, seed=9)))
    assert_refused(run("evaluate", "out", *TINY_EVALUATION), "own.txt", "changed")


# ------------------------------------------------------------------------------- compare and report


def study_again(corpus: Path, out: Path, task: Path, *more: object) -> tuple[object, ...]:
    return ("compare", corpus, "--task", task, *BUDGET, "--out", out, *TINY_STUDY, *more)


def test_results_of_a_study(study: Path, home: Path) -> None:
    results = json.loads((study / "results.json").read_text())
    assert results == json.loads((home / "study.json").read_text())
    assert results["version"] == 1
    assert {
        "command",
        "settings",
        "corpus",
        "machine",
        "versions",
        "unigram_bits_per_byte",
        "baselines",
        "tasks",
        "learning_rates",
        "runs",
        "summary",
        "differences",
        "recommendation",
        "reasons",
        "notes",
    } <= results.keys()
    assert results["command"].startswith("lookaround compare ")
    assert [(entry["objective"], entry["rung"]) for entry in results["runs"]] == [
        ("ar", 0.5),
        ("ar", 1.0),
        ("mlm", 0.5),
        ("mlm", 1.0),
    ]
    assert set(results["recommendation"]) == {"classification", "generation", "both"}
    assert {"majority", "tfidf", "random_init"} <= results["baselines"]["mood"].keys()
    for entry in results["runs"]:
        assert (study / entry["checkpoint"] / "model.safetensors").is_file()
    assert (study / "report.html").read_text().startswith("<!")
    assert not list(study.glob("**/*.tmp"))
    assert not list(study.glob("**/status.json"))


def test_a_class_of_one_is_named_and_left_out(study: Path) -> None:
    results = json.loads((study / "results.json").read_text())
    assert results["tasks"]["mood"]["classes"] == 2
    assert any("mood" in note and "'c'" in note and "left out" in note for note in results["notes"])


@pytest.mark.usefixtures("inline")
def test_compare_again_does_not_train_again(
    run: Run, corpus: Path, task: Path, study_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_step(*arguments: Any) -> None:
        raise AssertionError("trained again")

    before = json.loads((study_copy / "results.json").read_text())
    monkeypatch.setattr("lookaround.train.loop.Trainer.step", no_step)
    done = run(*study_again(corpus, study_copy, task))
    assert done.code == 0, done
    after = json.loads((study_copy / "results.json").read_text())
    for name in ("runs", "summary", "differences", "recommendation"):
        assert after[name] == before[name]


@pytest.mark.usefixtures("inline")
def test_a_learning_rate_that_diverges_loses_the_search(run: Run, corpus: Path) -> None:
    wild = ("--set", "compare.lr_factors=[1.0, 1e30]", "--objectives", "ar")
    done = run("compare", corpus, *BUDGET, "--out", "out", *TINY_STUDY, *wild)
    assert done.code == 0, done
    rates = {
        entry["learning_rate"] for entry in json.loads(Path("out/results.json").read_text())["runs"]
    }
    assert rates == {0.001}


@pytest.mark.usefixtures("inline")
def test_an_interrupted_study_goes_on(run: Run, corpus: Path, task: Path, study: Path) -> None:
    with interrupted_at(12):
        stopped = run(*study_again(corpus, Path("out"), task))
    assert stopped.code == 130
    assert stopped.err.startswith("stopped: out")
    assert "same command" in stopped.err
    assert not Path("out/results.json").exists()
    assert run(*study_again(corpus, Path("out"), task)).code == 0
    resumed, whole = (
        json.loads((folder / "results.json").read_text()) for folder in (Path("out"), study)
    )
    assert [entry["bits_per_byte"] for entry in resumed["runs"]] == [
        entry["bits_per_byte"] for entry in whole["runs"]
    ]


@pytest.mark.usefixtures("inline")
def test_more_seeds_go_on_with_those_there_are(
    run: Run, corpus: Path, task: Path, study_copy: Path
) -> None:
    before = json.loads((study_copy / "results.json").read_text())
    assert run(*study_again(corpus, study_copy, task, "--seeds", "2")).code == 0
    after = json.loads((study_copy / "results.json").read_text())
    assert {entry["seed"] for entry in after["runs"]} == {0, 1}
    assert [e["bits_per_byte"] for e in after["runs"] if e["seed"] == 0] == [
        e["bits_per_byte"] for e in before["runs"]
    ]
    assert {entry["n"] for entry in after["summary"]} == {2}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--budget", "5000"), ("budget",)),
        (("--set", "compare.lr_factors=[1.0, 3.0]"), ("lr_factors",)),
        (("--set", "train.batch=8"), ("train.batch was 4, now 8",)),
    ],
)
@pytest.mark.usefixtures("inline")
def test_other_settings_under_a_study(
    run: Run,
    corpus: Path,
    task: Path,
    study_copy: Path,
    options: tuple[str, str],
    words: tuple[str, ...],
) -> None:
    before = contents(study_copy)
    assert_refused(run(*study_again(corpus, study_copy, task, *options)), "study.yaml", *words)
    assert contents(study_copy) == before


@pytest.mark.usefixtures("inline")
def test_a_corpus_or_task_changed_under_a_study(
    run: Run, corpus: Path, task: Path, study_copy: Path, tmp_path: Path
) -> None:
    before = contents(study_copy)
    other = write_task(tmp_path / "mood.tsv", seed=6)
    assert_refused(run(*study_again(corpus, study_copy, other)), "study.yaml", "mood")
    changed = write(tmp_path / "corpus.txt", corpus.read_text() + "\n\none more document")
    assert_refused(
        run(*study_again(changed, study_copy, task)), "study.yaml", "corpus or its tokenizer"
    )
    assert contents(study_copy) == before


@pytest.mark.parametrize(
    "content",
    [
        *(pytest.param(text) for text in ("", "{", "- 1\n")),
        "identity: {}\n",
    ],
)
@pytest.mark.usefixtures("inline")
def test_a_broken_study_yaml(
    run: Run, corpus: Path, task: Path, study_copy: Path, content: str
) -> None:
    write(study_copy / "study.yaml", content)
    assert_refused(run(*study_again(corpus, study_copy, task)), "study.yaml")


@pytest.mark.parametrize("file", ["evaluation.json", "run.yaml"])
@pytest.mark.usefixtures("inline")
def test_a_truncated_file_in_a_study(
    run: Run, corpus: Path, task: Path, study_copy: Path, file: str
) -> None:
    found = sorted(study_copy.glob(f"runs/**/{file}"))[0]
    cut(found)
    assert_refused(run(*study_again(corpus, study_copy, task)), found)


@pytest.mark.usefixtures("inline")
def test_a_truncated_model_in_a_study(run: Run, corpus: Path, task: Path, study_copy: Path) -> None:
    found = sorted(study_copy.glob("runs/**/model.safetensors"))[0]
    cut(found)
    (found.parent / "evaluation.json").unlink()
    assert_refused(run(*study_again(corpus, study_copy, task)), found.parent)


def test_two_processes_on_one_study(run: Run, corpus: Path, task: Path, study_copy: Path) -> None:
    with open(study_copy / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert_refused(run(*study_again(corpus, study_copy, task)), "another process")


@pytest.mark.parametrize("error", [BrokenProcessPool("terminated abruptly"), MemoryError()])
def test_a_process_that_dies(
    run: Run, corpus: Path, task: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    class Dying(Executor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
            future: Future = Future()
            future.set_exception(error)
            return future

    monkeypatch.setattr("lookaround.studies.jobs.local_pool", lambda jobs, threads: Dying())
    assert_refused(run(*study_again(corpus, Path("out"), task)), "memory")


@pytest.mark.usefixtures("inline")
def test_a_full_disk_in_a_study(run: Run, corpus: Path, task: Path) -> None:
    with full_disk("lookaround.model.export", "save_file"):
        assert_refused(run(*study_again(corpus, Path("out"), task)), "out/", "space")
    assert not list(Path("out").glob("**/*.tmp"))


def _leaked(texts: list[str], page: str) -> list[str]:
    return [text[:15] for text in texts if text[:15] in page or text[3:25] in page]


@pytest.mark.usefixtures("inline")
def test_no_samples_keeps_text_out(run: Run, corpus: Path, task: Path, study: Path) -> None:
    texts = sentences(120) + sentences(40, 5, (5, 12))
    assert _leaked(texts, (study / "results.json").read_text())  # else the test would see nothing
    done = run(*study_again(corpus, Path("out"), task, "--no-samples", "--objectives", "ar"))
    assert done.code == 0, done
    for file in [
        *Path("out").glob("*.*"),
        *Path("out").glob("runs/**/*.json"),
        *Path("out").glob("runs/**/run.yaml"),
    ]:
        if file.name != "tokenizer.json":
            assert not _leaked(texts, file.read_text()), file
    assert not _leaked(texts, done.out)


def test_report(run: Run, study_copy: Path, tmp_path: Path) -> None:
    (study_copy / "report.html").unlink()
    shown = run("report", study_copy, "--json", tmp_path / "r.json")
    assert shown.code == 0
    assert "mlm" in shown.out
    page = (study_copy / "report.html").read_text()
    results = json.loads((study_copy / "results.json").read_text())
    assert json.loads((tmp_path / "r.json").read_text()) == results
    prompts = [sample["prompt"] for entry in results["runs"] for sample in entry["samples"]]
    assert all(prompt in page for prompt in prompts)
    bare = run(
        "report", study_copy / "results.json", "--out", tmp_path / "bare.html", "--no-samples"
    )
    assert bare.code == 0
    assert not any(prompt in (tmp_path / "bare.html").read_text() for prompt in prompts)
    (study_copy / "report.html").unlink()
    assert run("report", study_copy, "--dry-run").code == 0
    assert not (study_copy / "report.html").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("JSON",)),
        ("[1]", ("list",)),
        ('{"a": 1}', ("'version'", "missing")),
        ('{"version": 0}', ("'version' is 0",)),
        ('{"version": 1}', ("missing",)),
        ('{"version": 2}', ("'version' is 2",)),
        (b"\xff\xfe", ("UTF-8",)),
        (None, ("no such file",)),
    ],
)
def test_report_refuses(
    run: Run, tmp_path: Path, content: str | bytes | None, words: tuple[str, ...]
) -> None:
    (tmp_path / "study").mkdir()
    if content is not None:
        write(tmp_path / "study" / "results.json", content)
    assert_refused(run("report", tmp_path / "study"), "results.json", *words)
    assert not (tmp_path / "study" / "report.html").exists()


def test_a_path_with_brackets_is_printed_as_it_is(
    run: Run, study_copy: Path, tmp_path: Path
) -> None:
    folder = study_copy.rename(tmp_path / "[red]study")
    result = run("report", folder)
    assert result.code == 0
    assert str(folder / "report.html") in result.out


def test_report_into_a_folder_that_does_not_exist(run: Run, study: Path) -> None:
    assert_refused(run("report", study, "--out", "missing/page.html"), "missing")


# ---------------------------------------------------------------------------------------- processes

PROGRAM = [sys.executable, "-c", "from lookaround.cli import main; main()"]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_help_is_quick() -> None:
    """In seconds of a processor, so that a busy machine measures the same."""
    times = []
    for _ in range(5):
        before = os.times()
        shown = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True)
        after = os.times()
        times.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
        for command in ("compare", "pretrain", "evaluate", "generate", "report"):
            assert command in shown.stdout
    assert min(times) < 0.3, times


@pytest.mark.parametrize("command", ["compare", "pretrain", "evaluate", "generate", "report"])
def test_every_command_has_the_common_options(run: Run, command: str) -> None:
    shown = run(command, "--help")
    assert shown.code == 0
    for option in ("--config", "--set", "--seed", "--out", "--json", "--dry-run"):
        assert option in shown.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_survives_a_signal(
    run: Run, corpus: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = (
        "pretrain",
        corpus,
        "--budget",
        "12000",
        "--out",
        tmp_path / "out",
        *TINY,
        "--set",
        "train.checkpoint_every=20",
        "--set",
        "train.log_every=1",
    )
    process = subprocess.Popen(
        [*PROGRAM, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    for _ in range(1200):
        if list((tmp_path / "out").glob("checkpoint-????????")) or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert err.startswith("stopped: stopped at step ")
        assert "the same command goes on" in err
        assert len(err.splitlines()) == 1
    else:
        assert process.returncode == -signal.SIGKILL
    finished = run(*command)
    assert finished.code == 0, finished
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(set(steps))
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_a_study_in_processes_of_its_own(run: Run, corpus: Path, task: Path, study: Path) -> None:
    done = run(*study_again(corpus, Path("out"), task))
    assert done.code == 0, done
    ours, theirs = (
        json.loads((folder / "results.json").read_text()) for folder in (study, Path("out"))
    )
    for a, b in zip(ours["runs"], theirs["runs"], strict=True):
        assert a["objective"] == b["objective"]
        assert a["bits_per_byte"] == pytest.approx(b["bits_per_byte"], rel=1e-4)
