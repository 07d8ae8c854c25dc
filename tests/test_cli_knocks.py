"""What no input may do, whatever it is: a traceback, a hang, a long message, a control character on
the terminal, anything left behind.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from concurrent.futures import BrokenExecutor, Executor, Future
from pathlib import Path
from typing import Any

import pytest
import torch

from cli_runs import BUDGET, PROGRAM, TINY, TINY_EVALUATION, Run, assert_refused, contents, write
from lookaround.studies.compare.estimate import Estimate
from lookaround.studies.folder import StudyFolder
from lookaround.studies.jobs import Jobs
from lookaround.support import machine
from lookaround.support.errors import UserError
from lookaround.support.storage import whole_file
from lookaround.support.text import message_line, printable, shown
from lookaround.train.loop import StopSignal

LONGEST = 410  # characters of a message
ESCAPE = "\x1b]0;pwned\x07"  # what a terminal would obey


def assert_short(result: Any, *words: object) -> None:
    """A refusal in one short line without control characters."""
    assert_refused(result, *words)
    assert len(result.err) <= LONGEST
    assert_plain(result)


def assert_plain(result: Any) -> None:
    assert not set(result.out + result.err) & {"\x1b", "\x07", "\x9b"}


# ---------------------------------------------------------------------------------- specs, settings

SPECS = {
    "deep": "-" * 5000 + "1*ar",
    "wide": "+".join(["ar"] * 3000),
    "nested": "(" * 3000 + "ar",
    "a half of a character": "mlm(rate='\udcff')",
    "long": "x" * 100_000,
    "a long number": f"mtp(n={'9' * 4000})",
    "a long hexadecimal number": f"mlm(rate=0x{'f' * 5000})",
    "a horizon": "dar(horizon=10000000000)",
    "a window": "top(window=10000000000)",
    "layers": "bst(layers=1000000)",
    "an infinite sum": "1e308*ar + 1e308*mlm",
    "no share": "1e-320*ar + mlm",
    "an infinite product": "+".join(["1e9*(" * 20 + "ar + mlm" + ")" * 20]),
    "an infinite sequence": "1e308*ar >> 1e308*mlm",
    "a weight of many digits": f"0x{'f' * 5000}*ar + mlm",
    "an escape": f"ar{ESCAPE}",
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("command", ["compare", "pretrain"])
def test_a_spec_is_refused_in_a_short_line(run: Run, corpus: Path, command: str, name: str) -> None:
    option = "--objectives" if command == "compare" else "--objective"
    assert_short(run(command, corpus, *BUDGET, "--out", "out", option, SPECS[name]), "objective")
    assert not Path("out").exists()


def test_a_spec_of_many_small_parts_is_taken() -> None:
    from lookaround import parse

    assert len(parse("0.001*ar + 1000*mlm + 27*ar").components()) == 3


LAUGHS = (
    "[&a [1, 1, 1, 1, 1, 1, 1, 1, 1]"
    + "".join(
        f", &{one} [{', '.join([f'*{before}'] * 9)}]"
        for before, one in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]"
)
SETTINGS = {
    "deep": "train.batch=" + "[" * 900 + "]" * 900,
    "deep mappings": "train.batch=" + "{a: " * 1000 + "}" * 1000,
    "laughs": f"train.batch={LAUGHS}",
    "laughs of numbers": f"compare.ladder={LAUGHS}",
    "no date": "train.batch=2001-99-99",
    "no integer": "train.batch=!!int x",
    "no boolean": "train.batch=!!bool x",
    "no time": "train.batch=!!timestamp x",
    "no float": "train.batch=!!float x",
    "digits": "train.batch=" + "9" * 5000,
    "hexadecimal digits": "train.batch=0x" + "f" * 5000,
    "a list as a key": "train.batch={[1]: 2}",
    "long": "train.batch=" + "x" * 100_000,
    "a long name": "train." + "x" * 100_000 + "=1",
    "a deep name": "a." * 5000 + "x=1",
    "a half of a character": "data.text_column=\udcff",
    "an escape": f"train.batch={ESCAPE}",
    "many rungs": f"compare.ladder=[{'0.5, ' * 1000}]",
    "a vocabulary": "data.vocabulary=10000000000",
    "a vocabulary beyond 64 bits": "data.vocabulary=18446744073709551616",
    "a context": "model.context=1000000000",
    "a batch": "train.batch=10000000000",
    "a micro-batch": "train.micro_batch=10000000000",
    "a seed": "data.split_seed=100000000000000000000",
    "seeds": "compare.seeds=1000000000",
    "processes": "compare.jobs=1000000000",
    "a rank": "forecast.rank=1000000000",
    "resamples": "evaluate.bootstrap=1000000000",
    "prompts": "speculate.prompts=1000000000",
    "new tokens": "generate.max_new_tokens=100000000000000000000",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_refused_in_a_short_line(run: Run, corpus: Path, name: str) -> None:
    assert_short(run("compare", corpus, "--out", "out", "--set", SETTINGS[name]), "--set")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "content",
    [
        "train: " + "[" * 900,
        "train: {batch: 2001-99-99}",
        f"compare: {{ladder: {LAUGHS}}}",
        f"x: {LAUGHS}",
        "3: 4",
        "x" * 100_000 + ": 4",
        f'train: {{"{"a" * 1000}": 4}}',
        'train: {"\\e[31m": 4}',
    ],
    ids=["deep", "date", "laughs", "other laughs", "number", "long", "long field", "escape"],
)
def test_a_config_is_refused_in_a_short_line(run: Run, tmp_path: Path, content: str) -> None:
    path = write(tmp_path / "c.yaml", content)
    assert_short(run("compare", "--out", "out", "--config", path), "c.yaml")


BUDGETS = {"digits": "9" * 5000, "long": "x" * 100_000, "large": "1e308", "escape": ESCAPE}


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_is_refused_in_a_short_line(run: Run, corpus: Path, name: str) -> None:
    assert_short(run("pretrain", corpus, "--budget", BUDGETS[name]), "budget")


@pytest.mark.parametrize("option", ["--tokenizer", "--init", "--task", "--config", "--corpus"])
@pytest.mark.parametrize("name", ["x" * 5000, f"x{ESCAPE}", "/\udcff", "~nobody/x"])
def test_a_name_of_no_file_is_refused_in_a_short_line(
    run: Run, corpus: Path, option: str, name: str
) -> None:
    source = ("--corpus", name) if option == "--corpus" else (corpus, option, name)
    assert_short(run("compare", *source, *BUDGET, "--out", "out"))
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "arguments", [("x" * 5000,), (ESCAPE,), (f"--{ESCAPE}",), ("settings", "x" * 5000)]
)
def test_what_the_parser_refuses_is_short(run: Run, arguments: tuple[str, ...]) -> None:
    assert_short(run(*arguments))


# ------------------------------------------------------------------------------- places to write to

COMMANDS = ["pretrain", "compare", "forecast", "evaluate", "speculate", "synthetic"]
PLACES = {
    "a file": ("notes.txt", "is a file"),
    "below a file": ("notes.txt/out", "is a file"),
    "a device": ("/dev/null", "is a file"),
    "a system": ("/proc/out", "cannot be written"),
    "a long name": ("x" * 300, "cannot be written"),
    "a long name further down": ("a/b/" + "x" * 300, "cannot be written"),
    "not UTF-8": ("n\udcff", "not UTF-8"),
}


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("work has begun")

    for name in (
        "studies.evaluate.open_run",
        "studies.speculate.request.open_run",
        "studies.pretrain.corpus_of",
        "studies.compare.study.read_source",
        "studies.forecast.forecast.read_source",
        "studies.synthetic.grid.open_grid",
        "model.readable.open_run",  # last: the others import it
    ):
        monkeypatch.setattr(f"lookaround.{name}", refuse)


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("no_work")
def test_a_folder_that_cannot_be_written_costs_no_work(
    run: Run, tmp_path: Path, command: str, name: str
) -> None:
    place, words = PLACES[name]
    write(tmp_path / "notes.txt", "notes")
    before = contents(tmp_path)
    arguments = () if command == "synthetic" else ("given",)
    assert_short(run(command, *arguments, "--out", place), words)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "evaluate"])
@pytest.mark.usefixtures("no_work")
def test_a_foreign_folder_costs_no_work(run: Run, tmp_path: Path, command: str) -> None:
    write(tmp_path / "out" / "thesis.tex", "years of work")
    arguments = () if command == "synthetic" else ("given",)
    assert_short(run(command, *arguments, "--out", "out"), "not empty")


FILES = {
    "a folder": (".", "is a folder"),
    "in no folder": ("nowhere/x", "there is no folder"),
    "a device": ("/dev/null", "no regular file"),
    "a system": ("/proc/x", "cannot be written"),
    "a long name": ("x" * 250, "cannot be written"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("option", ["generate --json", "generate --out", "evaluate --json"])
@pytest.mark.usefixtures("no_work")
def test_a_file_that_cannot_be_written_costs_no_work(
    run: Run, tmp_path: Path, option: str, name: str
) -> None:
    place, words = FILES[name]
    command, option = option.split()
    assert_short(run(command, "given", option, place), option, words)
    assert not contents(tmp_path)


def test_a_file_system_that_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    words = r"page.html: cannot be written \(Read-only file system\)"
    with pytest.raises(UserError, match=words), whole_file(tmp_path / "page.html"):
        pass


@pytest.mark.parametrize("out", ["o[/x]", "[red]o", f"o{ESCAPE}", "\u202eabc"])
def test_any_other_name_is_printed_as_it_is(run: Run, corpus: Path, out: str) -> None:
    result = run("pretrain", corpus, "--budget", "130", "--out", out, *TINY)
    assert (result.code, result.err) == (0, "")
    assert_plain(result)
    assert printable(out) in result.out


def test_two_that_begin_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is taken away between its making and its lock by one that has just failed."""
    folder = StudyFolder(tmp_path / "out", "study.yaml", "a study of ours", {"settings": {}})
    made: list[int] = []

    def make(path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        made.append(1)
        if len(made) == 1:
            path.rmdir()

    monkeypatch.setattr("lookaround.studies.folder.make_folder", make)
    with folder.opened():
        folder.save(status="running")
    assert folder.file.is_file()


# ----------------------------------------------------------------------------------- the terminal


def test_names_and_texts_have_no_control_characters(
    run: Run, ar_run: Path, task: Path, tmp_path: Path
) -> None:
    named = shutil.copy(task, tmp_path / f"mood{ESCAPE}[red].tsv")
    result = run("evaluate", ar_run, "--task", named, "--set", "data.corpus=~", *TINY_EVALUATION)
    assert result.code == 0
    assert_plain(result)
    assert "[red]" in result.out
    result = run("generate", ar_run, f"a{ESCAPE}[/b]", "--max-new-tokens", "2")
    assert result.code == 0
    assert_plain(result)
    assert r"a\x1b]0;pwned\x07[/b]" in result.out


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    told = message_line("begin " + "x" * 1000 + "\x1b end")
    assert told.startswith("begin x")
    assert told.endswith(r"x\x1b end")
    assert len(told) < LONGEST
    assert len(shown([["x" * 1000] * 1000] * 1000)) <= 160
    assert "long int" in shown(1 << 100_000)
    assert printable("a\tb\né\udcff\x9b") == "a\tb\né\\udcff\\x9b"


def into(redirection: str, *arguments: object, **environment: str) -> tuple[int, str]:
    """(exit code, standard error) of a command whose output goes through a shell's redirection."""
    line = ["bash", "-c", f'"$@" {redirection}', "bash", *PROGRAM, *map(str, arguments)]
    made = subprocess.run(line, capture_output=True, text=True, env=os.environ | environment)
    return made.returncode, made.stderr


@pytest.mark.parametrize(
    ("redirection", "code", "error"),
    [
        ("> /dev/full", 2, "error: standard output: cannot be written (No space left on device)\n"),
        ("| true; exit ${PIPESTATUS[0]}", (0, 2), ""),
        (">&-", 0, ""),
    ],
    ids=["full", "left", "closed"],
)
def test_an_output_that_fails_ends_quietly(redirection: str, code: Any, error: str) -> None:
    found, told = into(redirection, "settings")
    assert found in (code if isinstance(code, tuple) else (code,))
    assert told == error


def test_an_output_that_is_not_utf8() -> None:
    assert into("> /dev/null", "settings", PYTHONIOENCODING="ascii") == (0, "")


# ------------------------------------------------------------------------------------------ memory


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda device: 90 << 20)


@pytest.mark.parametrize("command", ["pretrain", "compare"])
@pytest.mark.usefixtures("small_machine", "inline")
def test_more_than_the_memory_is_refused_with_the_estimate(
    run: Run, corpus: Path, command: str
) -> None:
    result = run(command, corpus, *BUDGET, *TINY, "--out", "out")
    assert_short(result, "GiB of memory, and 0.1 are free", "lower")
    assert not Path("out").exists()


def test_what_fails_for_lack_of_memory_is_one_line(
    run: Run, corpus: Path, ar_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        ImportError("libtorch.so: failed to map segment from shared object"),
        torch.OutOfMemoryError("CUDA out of memory."),
    ]

    def fail(*arguments: Any, **options: Any) -> None:
        raise errors[-1]

    monkeypatch.setattr("lookaround.train.loop.Trainer.step", fail)
    monkeypatch.setattr("lookaround.model.backbone.Backbone.states", fail)
    monkeypatch.setattr("lookaround.decode.writer.Writer.write", fail)
    while errors:
        assert_short(run("pretrain", corpus, *BUDGET, *TINY, "--out", "out"), "out of memory")
        assert not Path("out").exists()
        assert_short(run("evaluate", ar_run, *TINY_EVALUATION), "out of memory")
        assert_short(run("generate", ar_run, "x"), "out of memory")
        errors.pop()


class Broken(Executor):
    """Jobs that die as those of a pool do when the system kills a process."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future:
        future: Future = Future()
        future.set_exception(self.error)
        return future


@pytest.mark.parametrize(
    ("error", "words"),
    [(BrokenExecutor(), "died, most likely out of memory"), (MemoryError(), "is out of memory")],
)
def test_a_process_that_dies_is_told_with_what_it_needs(
    tmp_path: Path, error: Exception, words: str
) -> None:
    entry = {"job": "mlm 3", "phase": "", "step": 1, "total": 2, "tokens_per_second": 1.0}
    executor = Broken(error)
    jobs = Jobs(tmp_path, StopSignal(), jobs=1, threads=1, executor=executor, memory=3 << 30)
    write(tmp_path / "runs" / "a" / "b" / "c" / "status.json", json.dumps(entry))
    jobs.submit("x", print)
    with pytest.raises(UserError, match=f"{words}.*takes about 3.0 GiB") as told:
        list(jobs.finished(lambda event: None, 1))
    assert "at work: 'mlm 3'" in str(told.value)


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
    "layers of a part": ({"text_config": {"num_hidden_layers": 10**6}}, "num_hidden_layers"),
    "a vocabulary": ({"vocab_size": 2**31}, "weights"),
    "a vocabulary beyond 64 bits": ({"vocab_size": 10**20}, "no causal LM"),
    "a width": ({"hidden_size": 10**6}, "weights"),
    "a feed-forward width": ({"intermediate_size": 10**12}, "weights"),
    "another class": ({"model_type": "gpt2", "n_layer": 10**8}, "n_layer is 100000000"),
    "experts": ({"model_type": "mixtral", "num_local_experts": 10**9}, "weights"),
    "an encoder": ({"model_type": "bert", "vocab_size": 2**33}, "weights"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_of_a_huge_model_is_refused_at_once(
    run: Run, ar_run: Path, tmp_path: Path, name: str
) -> None:
    changes, words = CONFIGS[name]
    model = shutil.copytree(ar_run, tmp_path / "model", ignore=shutil.ignore_patterns("run.yaml"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))
    assert_short(run("generate", model, "x"), "model", words)


def test_a_number_of_any_size_in_a_config_is_no_cap(run: Run, ar_run: Path, tmp_path: Path) -> None:
    model = shutil.copytree(ar_run, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"soft_cap": 10**400}))
    made = run("generate", model, "the cat", "--max-new-tokens", "2")
    assert made.code in (0, 2), made
    assert "Traceback" not in made.err


def test_a_model_larger_than_the_memory_is_refused(
    run: Run, ar_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda device: 1 << 20)
    for command in ("generate", "evaluate", "speculate"):
        assert_short(run(command, ar_run), "GiB of memory", "smaller model")


def test_a_token_of_a_huge_id_is_refused(run: Run, ar_run: Path, tmp_path: Path) -> None:
    model = shutil.copytree(ar_run, tmp_path / "model")
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["zzz"] = 1 << 31
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert_short(run("generate", model, "x"), "id 2,147,483,648")


def test_the_estimate_is_the_one_that_is_refused_by(run: Run, corpus: Path) -> None:
    from lookaround.settings import read_settings
    from lookaround.studies.compare.study import open_study
    from lookaround.train.run import make_trainer

    names = dict(pair.split("=") for pair in TINY[3::2])
    study = open_study(read_settings(**names, **{"data.corpus": str(corpus)}))
    trainer = make_trainer(study.settings, study.objectives[0], study.store, seed=0)
    assert trainer.memory_bytes == study.memory_bytes
    assert "memory_bytes" in Estimate.__dataclass_fields__


# ------------------------------------------------------------------------------------------- others


def test_a_run_read_from_another_folder_names_its_corpus(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: Path
) -> None:
    shutil.copy(corpus, "c.txt")
    assert run("pretrain", "c.txt", "--budget", "130", "--out", "run", *TINY).code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert_short(run("evaluate", "../run"), "c.txt: no such file", "run.yaml", "--corpus")


def test_many_classes_make_no_warnings(recwarn: pytest.WarningsRecorder) -> None:
    import numpy as np

    from lookaround.evaluation.probe import least_squares_probe, linear_probe

    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(1, 300, 4)), np.arange(300) // 2
    linear_probe(features, labels, features, labels)
    least_squares_probe(features[0], labels, features[0], labels)
    assert not recwarn.list
