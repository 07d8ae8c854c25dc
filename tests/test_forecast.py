"""The forecast end to end: its table, controls and answers, resumption, bad input, and what real
text shows.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import lookaround.studies.forecast.forecast as module
from cli_runs import Run, assert_refused
from lookaround.evaluation.windows import right_context_gain
from lookaround.report.schema import ForecastResults
from lookaround.report.terminal import as_text
from lookaround.settings import Settings, read_settings
from lookaround.studies.events import Event
from lookaround.studies.folder import StudyFolder
from lookaround.studies.forecast import recommend as recommend_module
from lookaround.studies.forecast.entry import token_labels
from lookaround.studies.forecast.forecast import cost, forecast, open_forecast
from lookaround.studies.forecast.recommend import TrackRecord, recommend
from lookaround.support.errors import Interrupted, UserError
from lookaround.train.loop import StopSignal

TOPICS = {
    "sea": ["ship", "sail", "wave", "harbour", "storm", "anchor", "captain", "gull", "tide", "net"],
    "farm": [
        "field",
        "plough",
        "wheat",
        "barn",
        "cow",
        "hedge",
        "tractor",
        "seed",
        "harvest",
        "sheep",
    ],
    "town": [
        "street",
        "tram",
        "shop",
        "window",
        "crowd",
        "lamp",
        "bridge",
        "market",
        "tower",
        "bell",
    ],
}
FILLER = ["the", "a", "of", "and", "was", "with", "near", "old"]


def topic_text(generator: np.random.Generator, topic: str, words: int) -> str:
    chosen = [
        generator.choice(TOPICS[topic] if generator.random() < 0.5 else FILLER)
        for _ in range(words)
    ]
    return " ".join(chosen)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """corpus.txt: 600 documents of 90 words, each on one of three topics. task.tsv: short labelled
    texts.
    """
    folder = tmp_path_factory.mktemp("world")
    generator = np.random.default_rng(0)
    topics = list(TOPICS)
    texts = [topic_text(generator, topics[i % 3], 90) for i in range(600)]
    (folder / "corpus.txt").write_text("\n\n".join(texts))
    lines = ["label\ttext"]
    lines += [f"{topics[i % 3]}\t{topic_text(generator, topics[i % 3], 4)} {i}" for i in range(450)]
    (folder / "task.tsv").write_text("\n".join(lines) + "\n")
    return folder


def options(world: Path, **more: Any) -> Settings:
    values: dict[str, Any] = {
        "data.corpus": str(world / "corpus.txt"),
        "data.vocabulary": 320,
        "data.tasks": [str(world / "task.tsv")],
        "objectives": "ar, mlm(rate=0.4), dar, prefixlm",
        "forecast.rank": 12,
        "forecast.far_lag": 40,
    }
    return read_settings(
        None, None, **{**values, **{name.replace("__", "."): v for name, v in more.items()}}
    )


@pytest.fixture(scope="module")
def result(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as executor:
        patch.setenv("LOOKAROUND_CACHE", str(tmp_path_factory.mktemp("cache")))
        return forecast(open_forecast(options(world)), executor=executor)


@pytest.mark.slow
def test_the_table_holds_what_was_promised(result: dict[str, Any]) -> None:
    assert (result["context"], result["rank"]) == (1, 12)
    for line in (*result["objectives"], *result["controls"]):
        assert {
            "objective",
            "tail_energy",
            "sigma2",
            "components",
            "effective_rank",
            "tasks",
        } <= set(line.as_dict())
        assert set(line["tasks"]) == {"task"}
    assert [line["objective"] for line in result["objectives"]] == [
        "ar",
        "mlm(rate=0.4)",
        "dar",
        "prefixlm",
    ]
    names = [line["objective"] for line in result["controls"]]
    assert names == ["only the token 40 ahead", "shuffled corpus", "TF-IDF + logistic regression"]
    json.dumps(result.as_dict(), allow_nan=False)
    for line in result["objectives"]:
        assert line["residual"] < 1e-3
        assert line["singular_values"][0] == pytest.approx(1, abs=1e-5)
        assert line["alpha"]["task"] < line["alpha_by_chance"]["task"], (
            "topics hold together in this corpus"
        )
        assert set(line["features"]) == {"context", "target", "both"}


@pytest.mark.slow
def test_topics_are_found_and_the_noise_is_seen(result: dict[str, Any]) -> None:
    """Tokens of a topic meet in targets; the shuffled corpus has the smallest tail and the worst
    probe.
    """
    scores = {
        line["objective"]: line["tasks"]["task"]
        for line in (*result["objectives"], *result["controls"])
    }
    assert scores["dar"] > scores["shuffled corpus"] + 0.05
    assert scores["dar"] > 0.6
    tails = {
        line["objective"]: line["tail_energy"]
        for line in (*result["objectives"], *result["controls"])
    }
    assert tails["ar"] > tails["dar"], "averaging over lags leaves less"
    assert tails["shuffled corpus"] < tails["ar"]


def test_objectives_with_one_matrix_are_said_to_be_one(result: dict[str, Any]) -> None:
    assert any("prefixlm and ar have the same matrix" in note for note in result["notes"])
    ar, prefixlm = (
        next(x for x in result["objectives"] if x["objective"] == name)
        for name in ("ar", "prefixlm")
    )
    assert ar["tasks"] == prefixlm["tasks"]


@pytest.mark.slow
def test_the_same_call_gives_the_same_numbers(world: Path, result: dict[str, Any]) -> None:
    with ThreadPoolExecutor(1) as executor:
        again = forecast(open_forecast(options(world)), executor=executor)
    for key in ("objectives", "controls", "recommendation", "notes"):
        assert again[key] == result[key]


@pytest.mark.slow
def test_finished_entries_are_kept_and_reused(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = open_forecast(options(world, objectives="ar, dar"))
    done: list[str] = []
    real = module.run_entry

    def run(job: Any) -> dict[str, Any]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job.entry.name)
        return real(job)

    monkeypatch.setattr(module, "run_entry", run)
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(Interrupted, match="the same command goes on"),
    ):
        forecast(plan, tmp_path, executor=executor)
    again: list[str] = []
    monkeypatch.setattr(module, "run_entry", lambda job: again.append(job.entry.name) or real(job))
    with ThreadPoolExecutor(1) as executor:
        whole = forecast(plan, tmp_path, executor=executor)
    assert not set(done) & set(again)
    assert len(done) + len(again) == 4
    again.clear()
    with ThreadPoolExecutor(1) as executor:
        assert forecast(plan, tmp_path, executor=executor)["objectives"] == whole["objectives"]
    assert not again
    damaged = sorted((tmp_path / "parts").iterdir())
    damaged[0].write_text('{"a": 1}')
    damaged[1].write_text(damaged[1].read_text().replace("0.", "1.", 1))
    damaged[2].write_text("")
    with ThreadPoolExecutor(1) as executor:
        assert forecast(plan, tmp_path, executor=executor)["objectives"] == whole["objectives"]
    assert 2 <= len(again) <= 3, "what was damaged is computed again"
    again.clear()
    other = open_forecast(options(world, objectives="ar, dar", forecast__rank=11))
    with ThreadPoolExecutor(1) as executor:
        forecast(other, tmp_path, executor=executor)
    assert len(again) == 4, "other settings share nothing"


def test_a_forecast_belongs_to_one_corpus_wherever_that_lies(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"objectives": "ar, dar", "data__tasks": []}
    copy = tmp_path / "moved.txt"
    copy.write_text((world / "corpus.txt").read_text())
    real, ran = module.run_entry, []
    monkeypatch.setattr(module, "run_entry", lambda job: ran.append(job.entry.name) or real(job))
    with ThreadPoolExecutor(1) as executor:
        first = forecast(open_forecast(options(world, **few)), tmp_path / "out", executor=executor)
        assert len(ran) == 4
        moved = open_forecast(
            options(world, **few, data__corpus=str(copy), train__batch=3, evaluate__bootstrap=300)
        )
        again = forecast(moved, tmp_path / "out", executor=executor)
        assert len(ran) == 4, "neither a path nor what a forecast does not depend on makes it anew"
        assert again["objectives"] == first["objectives"]
        copy.write_text(copy.read_text() + "\n\none more document about a ship")
        other = open_forecast(options(world, **few, data__corpus=str(copy)))
        with pytest.raises(
            UserError, match=r"forecast\.yaml: .*the corpus or its tokenizer has changed"
        ):
            forecast(other, tmp_path / "out", executor=executor)


def test_a_second_process_is_kept_out(world: Path, tmp_path: Path) -> None:
    with (
        StudyFolder(tmp_path / "out", "forecast.yaml", "a forecast of ours", {}).opened(),
        pytest.raises(UserError, match="another process is at work"),
    ):
        forecast(open_forecast(options(world)), tmp_path / "out")


def test_a_stop_while_counting_is_heard(world: Path, tmp_path: Path) -> None:
    stop, stages = StopSignal(), []

    def at_once(event: Event) -> None:
        stages.append(event.stage)
        stop.set = True

    plan = open_forecast(options(world, data__split_seed=7))
    with pytest.raises(Interrupted, match="the same command goes on"):
        forecast(plan, tmp_path / "out", stop=stop, report=at_once)
    assert stages == ["counting"]


@pytest.mark.slow
def test_the_command_ends_with_130_where_it_is_stopped(world: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "lookaround",
        "forecast",
        str(world / "corpus.txt"),
        "--task",
        str(world / "task.tsv"),
        "--out",
        str(tmp_path / "out"),
        "--set",
        "data.vocabulary=320",
        "--set",
        "forecast.far_lag=30",
        "--rank",
        "8",
    ]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "LOOKAROUND_CACHE": str(tmp_path / "cache")},
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (tmp_path / "out" / ".lock").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1].startswith("stopped: ")
    assert "the same command goes on" in errors.splitlines()[-1]


def test_bigram_contexts(world: Path) -> None:
    plan = open_forecast(
        options(world, forecast__context=2, objectives="ar, mlm", forecast__rank=8)
    )
    with ThreadPoolExecutor(1) as executor:
        found = forecast(plan, executor=executor)
    assert found["context"] == 2
    assert all(line["contexts"] > 60 for line in found["objectives"])
    assert all(line["tasks"]["task"] > 0.4 for line in found["objectives"])


# ------------------------------------------------------------------------------------- what it says


def lines_of(scores: dict[str, float], size: int = 400) -> list[dict[str, Any]]:
    """Lines whose predictions are right for that share of `size` examples, the easiest first."""
    return [
        {
            "objective": name,
            "tasks": {"t": share},
            "predicted": {"t": [0] * round(share * size) + [1] * (size - round(share * size))},
        }
        for name, share in scores.items()
    ]


@pytest.mark.parametrize(
    ("objectives", "controls", "earned", "answer", "close"),
    [
        ({"ar": 0.6, "mlm": 0.8}, {"far": 0.5, "shuffled": 0.4}, True, "mlm", []),
        (
            {"ar": 0.6, "mlm": 0.8},
            {"far": 0.5, "shuffled": 0.4},
            False,
            "nothing: the forecast's order has not earned",
            [],
        ),
        (
            {"ar": 0.799, "mlm": 0.8},
            {"far": 0.5, "shuffled": 0.4},
            True,
            "nothing: not distinguished",
            ["ar"],
        ),
        ({"ar": 0.6, "dar": 0.8, "mlm": 0.8}, {"far": 0.5, "shuffled": 0.4}, True, "dar", ["mlm"]),
        (
            {"ar": 0.6, "mlm": 0.8},
            {"far": 0.9, "shuffled": 0.4},
            True,
            "nothing: a control does as well ('far')",
            [],
        ),
        (
            {"ar": 0.6, "mlm": 0.8},
            {"far": 0.5, "shuffled": 0.8},
            True,
            "nothing: a control does as well ('shuffled')",
            [],
        ),
    ],
)
def test_answers(
    objectives: dict,
    controls: dict,
    earned: bool,
    answer: str,
    close: list,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lookaround.evaluation.registry import TaskData

    monkeypatch.setattr(recommend_module, "TRACK_RECORD", TrackRecord(earned, "told"))
    labels = np.zeros(400, dtype=int)
    data = (TaskData("t", "accuracy", [], labels, [], labels),)
    table = {"t": {"majority": 0.5, "tfidf": 0.95}}
    answers, reasons, told = recommend(lines_of(objectives), lines_of(controls), table, data, 500)
    assert answers["t"].startswith(answer)
    assert told["t"] == close
    assert "below TF-IDF (0.950)" in reasons["t"]


def test_tokens_take_the_class_they_are_likeliest_in() -> None:
    texts = (np.array([1, 2, 2]), np.array([2, 3]), np.array([3, 9]))
    labels = np.array([0, 1, 1])
    assert token_labels(texts, labels, np.array([1, 2, 3, 7])).tolist() == [0, 0, 1, -1]


def test_it_prints_and_draws_without_trusting_names(result: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(result.as_dict()).replace("mlm(rate=0.4)", "<script>alert(1)</script>")
    nasty = json.loads(text)
    nasty["notes"].append("<img src=x onerror=alert(2)>")
    ForecastResults.of(nasty).write_page(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "<img" not in page
    assert "Track record" in page
    assert page.count("<svg") > 4
    for width in (60, 80, 200):
        console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
        result.print(console)
        text = console.export_text()
        assert "TF-IDF" in text
        assert all(len(line) <= width for line in text.splitlines())
        assert "0." in text


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"forecast__rank": 5000}, "rank: 5000 is above the"),
        ({"forecast__far_lag": 5000}, "longest document has"),
        ({"objectives": "ar, nonsense"}, "unknown objective"),
        ({"forecast__context": 8}, "don't fit 64 bits"),
        ({"forecast__min_count": 10_000_000}, "no context or no target occurs 10000000 times"),
    ],
)
def test_bad_settings(world: Path, more: dict, words: str) -> None:
    with pytest.raises(UserError, match=words), ThreadPoolExecutor(1) as executor:
        forecast(open_forecast(options(world, **more)), executor=executor)


def test_tasks_without_a_known_token_or_a_second_class(world: Path, tmp_path: Path) -> None:
    greek = "\n".join(f"{'ab'[i % 2]}\t{'αβγδ'[i % 4] * (i + 1)}" for i in range(40))
    (tmp_path / "greek.tsv").write_text("label\ttext\n" + greek + "\n")
    with (
        pytest.raises(
            UserError, match="'greek': no training text holds a token that the corpus holds"
        ),
        ThreadPoolExecutor(1) as pool,
    ):
        forecast(
            open_forecast(options(world, data__tasks=[str(tmp_path / "greek.tsv")])),
            executor=pool,
        )
    (tmp_path / "one.tsv").write_text(
        "label\ttext\n" + "\n".join(f"same\ttext {i}" for i in range(20)) + "\n"
    )
    with pytest.raises(UserError, match="1 usable class"):
        open_forecast(options(world, data__tasks=[str(tmp_path / "one.tsv")]))


@pytest.mark.slow
def test_short_documents_get_a_nearer_control_and_a_note(tmp_path: Path, world: Path) -> None:
    generator = np.random.default_rng(1)
    (tmp_path / "lines.txt").write_text(
        "\n\n".join(topic_text(generator, "sea", 12) + f" {i}" for i in range(300))
    )
    plan = open_forecast(
        options(world, data__corpus=str(tmp_path / "lines.txt"), forecast__far_lag=None)
    )
    with ThreadPoolExecutor(1) as executor:
        found = forecast(plan, executor=executor)
    assert found["controls"][0]["objective"].startswith("only the token ")
    assert any("in place of 64" in note for note in found["notes"])


@pytest.mark.slow
def test_the_command(run: Run, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one process of its own for the work."""
    monkeypatch.setattr(module, "usable_cores", lambda: 1)
    options = (world / "corpus.txt", "--task", world / "task.tsv", "--set", "data.vocabulary=320")
    few = ("--set", "forecast.far_lag=30", "--objectives", "ar, dar", "--rank", "8")
    command = ("forecast", *options, *few, "--out", "out", "--json", "f.json")
    done = run(*command)
    assert done.code == 0, done.err
    assert "Before any training" in done.out
    assert "Track record" in done.out
    written = json.loads(Path("f.json").read_text())
    assert [line["objective"] for line in written["objectives"]] == ["ar", "dar"]
    assert json.loads(Path("out/forecast.json").read_text()) == written
    assert Path("out/forecast.html").read_text().startswith("<!doctype html>")
    assert "pairs to count" in run(*command, "--dry-run").out
    assert_refused(run("forecast", *options, "--rank", "4000"), "rank: 4000 is above")


def test_costs_are_known_before(world: Path) -> None:
    found = cost(open_forecast(options(world)))
    assert found["matrices"] == 6
    assert found["pairs to count"] == found["lags to count"] * found["tokens"]


# ---------------------------------------------------------------------------------------- real text


@pytest.mark.slow
def test_on_english_text_masked_and_farther_targets_leave_smaller_tails_and_probe_better(
    real_data: Path, tmp_path: Path
) -> None:
    """Contexts of one token; and the shuffled corpus leaves less still, which is why tails are
    never ranked on.
    """
    import lzma

    with lzma.open(real_data / "text" / "wiki.train.txt.xz", "rt") as file:
        (tmp_path / "wiki.txt").write_text(file.read(3_000_000))
    settings = read_settings(
        None,
        None,
        **{
            "data.corpus": str(tmp_path / "wiki.txt"),
            "data.vocabulary": 2048,
            "forecast.weighting": "unit",
            "forecast.features": "context",
            "objectives": "ar, mlm(rate=0.4), dar",
            "data.tasks": [
                str(real_data / "classification" / name / "train.tsv.xz")
                for name in ("banking77", "snips")
            ],
        },
    )
    with ThreadPoolExecutor(1) as executor:
        found = forecast(open_forecast(settings), executor=executor)
    ar, mlm, dar = found["objectives"]
    assert mlm["tail_energy"] < 0.7 * ar["tail_energy"]
    assert dar["tail_energy"] < 0.7 * ar["tail_energy"]
    for task in ("banking77-train", "snips-train"):
        assert mlm["tasks"][task] > ar["tasks"][task] + 0.02
        assert dar["tasks"][task] > ar["tasks"][task] + 0.005
    assert found["controls"][1]["tail_energy"] < dar["tail_energy"]


def test_tasks_of_words_get_the_right_context_gain(world: Path, tmp_path: Path) -> None:
    """Beside the probes of texts, in results and as printed; the numbers are the windows' own."""
    generator = np.random.default_rng(0)
    lines = []
    for _ in range(100):
        words = generator.choice(FILLER, 8)
        ends = [*(word == "a" for word in words[1:]), False]
        lines += [
            f"{word} {'before' if end else 'other'}" for word, end in zip(words, ends, strict=True)
        ]
        lines.append("")
    (tmp_path / "words.conll").write_text("\n".join(lines))
    (tmp_path / "pairs.jsonl").write_text(
        "\n".join(f'{{"good": "the ship {i}", "bad": "ship the {i}"}}' for i in range(12))
    )
    tasks = [str(world / "task.tsv"), *(str(tmp_path / f) for f in ("words.conll", "pairs.jsonl"))]
    request = open_forecast(options(world, data__tasks=tasks, objectives="ar"))
    with ThreadPoolExecutor(1) as executor:
        found = forecast(request, executor=executor)
    told = found.right_context["words"]
    whole, hard = right_context_gain(request.words[0])
    assert (told.gain, told.low, told.high) == (whole.gain.mean, whole.gain.low, whole.gain.high)
    assert told.window == 1.0
    assert told.low > 0
    assert hard is not None
    assert told.ambiguous_words == hard.words
    assert [*found.metrics] == ["task"]
    assert any("nothing is said of pairs" in note for note in found.notes)
    assert "right-context" in as_text(found)
    found.write_page(tmp_path / "page.html")
    assert "What the words to the right tell" in (tmp_path / "page.html").read_text()
