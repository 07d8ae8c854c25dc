"""What pretrain, generate and evaluate do with good input, and what they say of bad."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli_runs import (
    BUDGET,
    PROGRAM,
    TINY,
    TINY_EVALUATION,
    TINY_STUDY,
    Run,
    again,
    assert_refused,
    contents,
    write,
)
from conftest import sentences
from lookaround import cli
from lookaround.support.text import printable


def test_ctrl_c_where_nothing_listens_yet_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(cli.entry, "app", lambda standalone_mode: 130)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_reader_that_has_gone_ends_the_command_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def gone(standalone_mode: bool) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(cli.entry, "app", gone)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == ""


@pytest.mark.serial
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


def test_help_of_a_command_loads_nothing_heavy() -> None:
    told = """
import contextlib, sys
from lookaround.cli import main
sys.argv = ["lookaround", "compare", "--help"]
with contextlib.suppress(SystemExit):
    main()
print(*{"torch", "transformers", "sklearn"} & {*sys.modules})
"""
    shown = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert "--images" in shown.stdout
    assert shown.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("command", ["compare", "pretrain", "evaluate", "generate"])
def test_every_command_has_the_common_options(run: Run, command: str) -> None:
    shown = run(command, "--help")
    assert shown.code == 0
    for option in ("--config", "--set", "--seed", "--out", "--json", "--dry-run"):
        assert option in shown.out


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_run_goes_on_from_another(run: Run, corpus: Path, ar_run: Path) -> None:
    went_on = run(
        "pretrain", corpus, "--objective", "mlm", *BUDGET, "--out", "out", *TINY, "--init", ar_run
    )
    assert went_on.code == 0, went_on
    assert "mlm finished" in went_on.out


@pytest.mark.slow
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
        assert printable(entry["prompt"] + entry["continuation"]) in made.out
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
    assert "mood" in done.out
    assert "bits per byte" in done.out
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


@pytest.mark.slow
def test_evaluate_scores_the_part_that_the_run_left_out(run: Run, corpus: Path) -> None:
    shares = ("--set", "data.test=0.01", "--set", "data.validation=0.01")
    run(*again(corpus, Path("out"), *shares))
    found = []
    for given in ((), shares):
        assert run("evaluate", "out", *TINY_EVALUATION, *given, "--json", "e.json").code == 0
        found.append(json.loads(Path("e.json").read_text())["bits_per_byte"])
    assert found[0] == found[1]


@pytest.mark.slow
def test_evaluate_notices_that_the_corpus_of_a_run_has_changed(
    run: Run, corpus: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copy(corpus, tmp_path / "own.txt"))
    run(*again(own, Path("out")))
    write(own, "\n\n".join(sentences(120, seed=9)))
    assert_refused(run("evaluate", "out", *TINY_EVALUATION), "own.txt", "changed")


def test_settings_are_printed_whole_by_section_and_one_by_one(run: Run) -> None:
    assert "## `forecast`" in run("settings").out
    section = run("settings", "train").out
    assert "`train.batch` *" in section
    assert "forecast" not in section
    (line,) = run("settings", "train.batch").out.splitlines()
    assert line.startswith("| `train.batch` * | `16` |")
    assert_refused(run("settings", "nope"), "nope", "train")
    assert_refused(run("settings", "train.bach"), "train.bach", "batch")


def test_objectives_are_listed_with_their_parameters(run: Run) -> None:
    lines = run("objectives").out.splitlines()
    assert {"ar(rate=0.0)", "mlm(rate=0.15, replace=(0.8, 0.1, 0.1), shift=0)"} <= set(lines)


def test_the_version(run: Run) -> None:
    assert run("--version").out == "lookaround 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("compare", "a.txt", "b.txt"), "a.txt: no such file or folder"),
        (("compare", "--batch-size", "4"), "--set section.name=value"),
    ],
)
def test_what_does_not_exist_is_refused_with_a_hint(
    run: Run, arguments: tuple[str, ...], hint: str
) -> None:
    assert_refused(run(*arguments), hint)
