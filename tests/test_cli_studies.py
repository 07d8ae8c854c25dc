"""Studies and their reports from the command line."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from cli_runs import (
    BUDGET,
    TINY_STUDY,
    Run,
    assert_refused,
    contents,
    cut,
    full_disk,
    interrupted_at,
    study_again,
    write,
    write_task,
)
from conftest import sentences


def test_results_of_a_study(study: Path, home: Path) -> None:
    results = json.loads((study / "results.json").read_text())
    assert results == json.loads((home / "study.json").read_text())
    assert results["version"] == 2
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
    needs = {"label_texts", "label_tokens", "write", "all"}
    assert set(results["recommendation"]) == set(results["verdicts"]) == needs
    assert {"majority", "tfidf"} <= results["baselines"]["mood"].keys()
    assert all("before" in run["scores"]["probe"]["mood"] for run in results["runs"])
    for entry in results["runs"]:
        assert (study / entry["checkpoint"] / "model.safetensors").is_file()
    assert (study / "report.html").read_text().startswith("<!")
    assert not list(study.glob("**/*.tmp"))
    assert not list(study.glob("**/status.json"))


def test_a_class_of_one_is_named_and_left_out(study: Path) -> None:
    results = json.loads((study / "results.json").read_text())
    assert results["tasks"]["mood"]["classes"] == 2
    assert any("mood" in note and "'c'" in note and "left out" in note for note in results["notes"])


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
def test_a_learning_rate_that_diverges_loses_the_search(run: Run, corpus: Path) -> None:
    wild = ("--set", "compare.lr_factors=[1.0, 1e30]", "--objectives", "ar")
    done = run("compare", corpus, *BUDGET, "--out", "out", *TINY_STUDY, *wild)
    assert done.code == 0, done
    rates = {
        entry["learning_rate"] for entry in json.loads(Path("out/results.json").read_text())["runs"]
    }
    assert rates == {0.001}


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.usefixtures("inline")
def test_a_full_disk_in_a_study(run: Run, corpus: Path, task: Path) -> None:
    with full_disk("transformers.modeling_utils", "safe_save_file"):
        assert_refused(run(*study_again(corpus, Path("out"), task)), "out/", "space")
    assert not list(Path("out").glob("**/*.tmp"))


def _leaked(texts: list[str], page: str) -> list[str]:
    return [text[:15] for text in texts if text[:15] in page or text[3:25] in page]


@pytest.mark.slow
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


@pytest.mark.slow
def test_report(run: Run, study_copy: Path, tmp_path: Path) -> None:
    (study_copy / "report.html").unlink()
    shown = run("report", study_copy)
    assert shown.code == 0
    assert "mlm" in shown.out
    page = (study_copy / "report.html").read_text()
    results = json.loads((study_copy / "results.json").read_text())
    prompts = [sample["prompt"] for entry in results["runs"] for sample in entry["samples"]]
    assert all(prompt in page for prompt in prompts)
    bare = run(
        "report", study_copy / "results.json", "--out", tmp_path / "bare.html", "--no-samples"
    )
    assert bare.code == 0
    assert not any(prompt in (tmp_path / "bare.html").read_text() for prompt in prompts)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("JSON",)),
        ("[1]", ("list",)),
        ('{"a": 1}', ("'version'", "missing")),
        ('{"version": 0}', ("'version' is 0",)),
        ('{"version": 1}', ("missing",)),
        ('{"version": 3}', ("'version' is 3",)),
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


@pytest.mark.slow
def test_a_path_with_brackets_is_printed_as_it_is(
    run: Run, study_copy: Path, tmp_path: Path
) -> None:
    folder = study_copy.rename(tmp_path / "[red]study")
    result = run("report", folder)
    assert result.code == 0
    assert str(folder / "report.html") in result.out


def test_report_into_a_folder_that_does_not_exist(run: Run, study: Path) -> None:
    assert_refused(run("report", study, "--out", "missing/page.html"), "missing")


@pytest.mark.slow
def test_a_study_in_processes_of_its_own(run: Run, corpus: Path, task: Path, study: Path) -> None:
    done = run(*study_again(corpus, Path("out"), task))
    assert done.code == 0, done
    ours, theirs = (
        json.loads((folder / "results.json").read_text()) for folder in (study, Path("out"))
    )
    for a, b in zip(ours["runs"], theirs["runs"], strict=True):
        assert a["objective"] == b["objective"]
        assert a["bits_per_byte"] == pytest.approx(b["bits_per_byte"], rel=1e-4)
