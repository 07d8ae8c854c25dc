"""Runs that are stopped, spoilt or out of room, and the same command again."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.knocks import differences
from cli_runs import (
    BUDGET,
    EVERY_FIVE,
    PROGRAM,
    TINY,
    Run,
    again,
    assert_refused,
    checkpoint_of,
    contents,
    cut,
    full_disk,
    interrupted_at,
    silent,
    write,
)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on_and_finishes(
    run: Run, corpus: Path, number: signal.Signals
) -> None:
    with interrupted_at(7, number):
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("lookaround.train.checkpoint", "save_file"),
        ("transformers.modeling_utils", "safe_save_file"),
        ("os", "fsync"),
        pytest.param(
            "lookaround.train.loop",
            "MetricsFile.write",
        ),
    ],
)
def test_a_full_disk(run: Run, corpus: Path, module: str, name: str) -> None:
    assert run(*again(corpus, Path("out"), "--dry-run")).code == 0  # tokens are in the cache
    with full_disk(module, name):
        assert_refused(run(*again(corpus, Path("out"), *EVERY_FIVE)), "out/", "space")
    assert not list(Path().glob("**/*.tmp"))
    assert run(*again(corpus, Path("out"), *EVERY_FIVE)).code == 0


def test_a_full_disk_leaves_an_empty_folder_empty(run: Run, corpus: Path) -> None:
    Path("out").mkdir()
    with full_disk("os", "fsync"):
        assert_refused(run(*again(corpus, Path("out"))), "tokens-", "space")
    assert run(*again(corpus, Path("out"), "--dry-run")).code == 0  # tokens are in the cache
    with full_disk("os", "fsync"):
        assert_refused(run(*again(corpus, Path("out"))), "out/", "space")
    assert not contents(Path("out"))


@pytest.fixture(scope="module")
def straight(home: Path, corpus: Path) -> Path:
    """The run of `long` that nothing stops."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOKAROUND_CACHE", str(home / "cache"))
        silent(*long(corpus, home / "straight"))
    return home / "straight"


def long(corpus: Path, out: Path) -> tuple[object, ...]:
    often = ("--set", "train.checkpoint_every=5", "--set", "train.log_every=7")
    objective = ("--objective", "dar + vmlm")
    return ("pretrain", corpus, *objective, "--budget", "12000", "--out", out, *TINY, *often)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_a_signal_ends_goes_on_to_the_same_results(
    run: Run, corpus: Path, straight: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*PROGRAM, *map(str, long(corpus, out))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(2400):
        if list(out.glob("checkpoint-????????")) or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "saving; press Ctrl-C again to stop at once" in err
        assert err.splitlines()[-1].startswith("stopped: stopped at step ")
        assert "the same command goes on" in err.splitlines()[-1]
    else:
        assert process.returncode == -signal.SIGKILL
    assert not (out / "model.safetensors").exists(), "the signal came too late to test anything"
    finished = run(*long(corpus, out))
    assert finished.code == 0, finished
    assert differences(straight, out) == []
