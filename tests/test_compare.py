"""The study: rungs are whole runs, interruptions change nothing, recommendations follow from paired
intervals.
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
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from conftest import WORDS, sentences
from lookaround.evaluation.registry import TaskData
from lookaround.model.readable import open_run
from lookaround.report.html import render_html
from lookaround.report.schema import ComparisonResults
from lookaround.settings import Settings, read_settings
from lookaround.studies.compare.compare import compare
from lookaround.studies.compare.estimate import _part, estimate
from lookaround.studies.compare.study import open_study, plans_of
from lookaround.studies.compare.summary import _Summary
from lookaround.studies.folder import slug
from lookaround.support.errors import UserError
from lookaround.train.loop import Trainer
from lookaround.train.speed import Speed

TINY = [
    "train.batch=4",
    "model.context=32",
    "data.vocabulary=300",
    "evaluate.positions=6",
    "evaluate.bootstrap=100",
    "evaluate.samples=1",
    "evaluate.sample_tokens=4",
    "compare.ladder=[0.5, 1.0]",
    "compare.lr_factors=[1.0]",
    "compare.weight_decays=[0.1]",
    "train.checkpoint_every=4",
    "train.log_every=2",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "text.txt").write_text("\n\n".join(sentences(150)))
    rows = [
        (("early", "late")[WORDS.index(text.split()[1]) > len(WORDS) // 2], text)
        for text in sentences(80, seed=5)
    ]
    (folder / "order.tsv").write_text(
        "label\ttext\n" + "".join(f"{label}\t{text}\n" for label, text in rows)
    )
    # whether the word behind stands early in the list: nothing to the left tells it
    lines = []
    for text in sentences(60, seed=7):
        words = text.split()
        behind = [WORDS.index(word) < len(WORDS) // 2 for word in words[1:]] + [False]
        lines += [
            f"{word} {('late', 'early')[is_early]}"
            for word, is_early in zip(words, behind, strict=True)
        ]
        lines.append("")
    (folder / "behind.conll").write_text("\n".join(lines))
    return folder


def study_settings(corpus: Path, *more: str, **options: Any) -> Settings:
    values = {
        "compare.budget": "6000",
        "objectives": "ar, 0.5*ar >> 0.5*mlm(rate=0.4)",
    } | options
    return read_settings(
        None,
        [*TINY, *more],
        **{
            "data.corpus": str(corpus / "text.txt"),
            "data.tasks": [str(corpus / "order.tsv")],
            **values,
        },
    )


def run(settings: Settings, out: Path) -> dict[str, Any]:
    with ThreadPoolExecutor(1) as executor:  # any executor serves
        results = compare(open_study(settings), out, command="test", executor=executor)
        return results.as_dict()


@pytest.mark.slow
def test_a_study_has_an_entry_per_rung_and_seed(corpus: Path, tmp_path: Path) -> None:
    results = run(study_settings(corpus, **{"compare.seeds": 2}), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    keys = [(entry["objective"], entry["seed"], entry["rung"]) for entry in results["runs"]]
    specs = ["ar", "0.5*ar >> 0.5*mlm(rate=0.4)"]
    assert keys == [(spec, seed, rung) for spec in specs for seed in (0, 1) for rung in (0.5, 1.0)]
    for entry in results["runs"]:
        assert set(entry["classification"]) == {"order"}
        assert set(entry["budget"]) == {"tokens", "targets", "flops", "seconds"}
        assert list(entry["bits_per_byte_by_prefix"]) == ["1", "2", "4", "8", "16"]
        assert "generation: " in entry["mode"]
        open_run(tmp_path / "out" / entry["checkpoint"])
    flops = {
        spec: [
            e["budget"]["flops"]
            for e in results["runs"]
            if e["objective"] == spec and e["rung"] == 1
        ]
        for spec in specs
    }
    assert flops[specs[0]][0] == pytest.approx(flops[specs[1]][0], rel=0.1), "equal FLOPs"
    assert set(results["baselines"]["order"]) == {"majority", "tfidf"}
    assert {entry["n"] for entry in results["summary"]} == {2}
    assert {entry["reference"] for entry in results["differences"]} == {"ar"}
    assert not list((tmp_path / "out").glob("**/trunk")), "what is not needed any more is removed"


@pytest.mark.slow
def test_the_smallest_rung_is_the_run_at_that_budget(corpus: Path, tmp_path: Path) -> None:
    """A rung is a decay branch off the trunk: the same weights as a ladder that ends there."""
    whole = run(study_settings(corpus, **{"objectives": "dar"}), tmp_path / "whole")
    short = run(
        study_settings(
            corpus,
            "compare.ladder=[1.0]",
            **{"objectives": "dar", "compare.budget": "3000"},
        ),
        tmp_path / "short",
    )
    steps = [entry["budget"]["tokens"] for entry in (whole["runs"][0], short["runs"][0])]
    assert steps[0] == steps[1]
    first = open_run(tmp_path / "whole" / whole["runs"][0]["checkpoint"]).backbone.state_dict()
    second = open_run(tmp_path / "short" / short["runs"][0]["checkpoint"]).backbone.state_dict()
    warmup_equal = all(torch.equal(first[name], second[name]) for name in first)
    close = all(torch.allclose(first[name], second[name], atol=5e-3) for name in first)
    assert warmup_equal or close, "they differ by the length of the warmup at most"


@pytest.mark.slow
def test_the_search_of_a_learning_rate_is_kept_and_reused(corpus: Path, tmp_path: Path) -> None:
    results = run(
        study_settings(corpus, "compare.lr_factors=[0.01, 2.0]", **{"objectives": "ar"}),
        tmp_path / "out",
    )
    losses = results["learning_rates"]["ar"]
    assert losses["x2"] < losses["x0.01"]
    assert all(entry["learning_rate"] == pytest.approx(0.002) for entry in results["runs"])


@pytest.mark.slow
def test_weight_decays_are_tried_where_the_text_is_read_many_times(
    corpus: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.txt"
    few.write_text("\n\n".join(sentences(40)))
    often = {"objectives": "ar", "data.corpus": str(few), "compare.budget": "12000"}
    often |= {"data.tasks": []}
    usual = "compare.weight_decays=null"
    once = open_study(study_settings(corpus, usual, **{"objectives": "ar"}))
    assert once.weight_decays(plans_of(once)["plans"]) == [0.1]

    tried = run(study_settings(corpus, usual, **often), tmp_path / "often")
    losses = tried["weight_decays"]["ar"]
    assert {decay: [*rungs] for decay, rungs in losses.items()} == {
        "0.1": ["0.5", "1"],
        "2": ["0.5", "1"],
    }
    best = min(losses, key=lambda decay: min(losses[decay].values()))
    assert {f"{entry['weight_decay']:g}" for entry in tried["runs"]} == {best}
    assert any("are read" in note and f"ar {best}" in note for note in tried["notes"])

    alone = run(
        study_settings(corpus, f"compare.weight_decays=[{best}]", **often), tmp_path / "alone"
    )
    assert alone["weight_decays"] == {}
    assert numbers(alone) == numbers(tried), "a decay that was tried is one that was asked for"
    other = {"0.1": "2", "2": "0.1"}[best]
    folder = "lr-1" + "-decay-2" * (other == "2")
    rejected = open_run(tmp_path / "often" / "runs" / "ar" / folder / "seed-0" / "rung-1").info
    assert rejected is not None
    assert rejected["settings"]["train"]["weight_decay"] == float(other)


def test_where_more_epochs_only_hurt_the_notes_say_after_how_many() -> None:
    bits = {("ar", 0.5): 2.9, ("ar", 1.0): 3.4, ("vmlm", 0.5): 3.1, ("vmlm", 1.0): 2.8}

    def noted(tokens: int) -> list[str]:
        spent = {
            rung: {"spent": {"tokens": rung * tokens}, "weight_decay": 2.0} for rung in (0.5, 1)
        }
        ladder = {f"{rung:g}": run for rung, run in spent.items()}
        summary: Any = SimpleNamespace(
            unit="byte",
            specs=["ar", "vmlm"],
            seeds=[0],
            metrics=["bits_per_byte"],
            last=1.0,
            bits=lambda rung: {spec: mean for (spec, at), mean in bits.items() if at == rung},
            found=SimpleNamespace(
                ladders={(spec, 0): ladder for spec in ("ar", "vmlm")}, decays={"ar": {}}
            ),
            study=SimpleNamespace(
                rungs=[0.5, 1.0],
                unique=1000,
            ),
        )
        return _Summary._repeat_notes(summary)

    assert noted(4000) == [], "four readings are as good as new text"
    often, hurt = noted(20_000)
    assert often == (
        "The 1,000 training tokens are read 20 times. Weight decay, chosen by the validation loss "
        "of the first seed: ar 2, vmlm 2."
    )
    assert hurt == (
        "More epochs only hurt: the fewest bits per byte are reached after so many: ar 10 (2.900; "
        "at the end 3.400). The best of all is vmlm after 20 epochs, 1 of the budget."
    )


@pytest.mark.slow
def test_another_study_or_a_foreign_folder_is_refused(corpus: Path, tmp_path: Path) -> None:
    settings = study_settings(corpus, **{"objectives": "ar"})
    run(settings, tmp_path / "out")
    before = (tmp_path / "out" / "results.json").stat().st_mtime_ns
    with pytest.raises(UserError, match=r"settings\.compare\.budget was 6000, now 9000"):
        run(
            study_settings(corpus, **{"objectives": "ar", "compare.budget": "9000"}),
            tmp_path / "out",
        )
    changed = tmp_path / "text.txt"
    changed.write_text((corpus / "text.txt").read_text() + "\n\nand one more\n")
    with pytest.raises(UserError, match="the corpus or its tokenizer has changed"):
        run(
            study_settings(corpus, **{"objectives": "ar", "data.corpus": str(changed)}),
            tmp_path / "out",
        )
    assert (tmp_path / "out" / "results.json").stat().st_mtime_ns == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="not a study of ours"):
        run(settings, tmp_path / "mine")


def numbers(results: dict[str, Any]) -> dict[tuple[str, int, float], Any]:
    """What a run came to, by objective, seed and rung."""
    return {
        (entry["objective"], entry["seed"], entry["rung"]): (
            entry["bits_per_byte"],
            entry["bits_per_byte_by_prefix"],
            entry["classification"],
            entry["budget"] | {"seconds": 0},
        )
        for entry in results["runs"]
    }


def weights(out: Path, results: dict[str, Any]) -> list[dict[str, torch.Tensor]]:
    return [open_run(out / entry["checkpoint"]).backbone.state_dict() for entry in results["runs"]]


@pytest.mark.slow
def test_what_is_added_to_a_finished_study_is_what_it_would_have_been_from_the_start(
    corpus: Path, tmp_path: Path
) -> None:
    """Objectives, rungs and seeds, whose trunk is made again; what was there is not touched."""
    search = "compare.lr_factors=[0.5, 1.0]"
    seldom = "train.checkpoint_every=100"
    whole_ladder, part = "compare.ladder=[0.25, 0.5, 1.0]", "compare.ladder=[0.25, 1.0]"
    specs = "dar, 0.5*ar >> 0.5*mlm(rate=0.4)"
    everything = {"objectives": specs, "compare.seeds": 2, "compare.budget": "4000"}
    straight = run(
        study_settings(corpus, search, seldom, whole_ladder, **everything), tmp_path / "straight"
    )
    out = tmp_path / "out"
    first = run(
        study_settings(
            corpus, search, seldom, part, **(everything | {"objectives": "dar", "compare.seeds": 1})
        ),
        out,
    )
    kept = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/*/*/rung-*/*")}
    assert len(numbers(first)) == 2
    again = run(study_settings(corpus, search, seldom, whole_ladder, **everything), out)
    assert numbers(again) == numbers(straight)
    assert len(numbers(again)) == 12
    assert again["summary"] == straight["summary"]
    assert again["learning_rates"] == straight["learning_rates"]
    for one, other in zip(
        weights(out, again), weights(tmp_path / "straight", straight), strict=True
    ):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert kept == {file: file.stat().st_mtime_ns for file in kept}
    assert not list(out.glob("**/trunk*")), "what can be made again takes no disk"
    fewer = run(
        study_settings(
            corpus, search, seldom, part, **(everything | {"objectives": "dar", "compare.seeds": 1})
        ),
        out,
    )
    assert numbers(fewer) == numbers(first), "results are over what is asked for"


@pytest.mark.slow
def test_words_are_added_to_a_finished_study_with_their_controls(
    corpus: Path, tmp_path: Path
) -> None:
    """Nothing is trained again; the network before training is read as each model is."""
    out, specs = tmp_path / "out", "ar, mlm(rate=0.4)"
    task = {
        "data.tasks": [str(corpus / "behind.conll")],
        "objectives": specs,
        "forecast.enabled": False,
    }
    first = run(study_settings(corpus, "evaluate.protocols=tokens", **task), out)
    assert set(first["runs"][0]["scores"]) == {"tokens"}
    paths = [out / entry["checkpoint"] / "model.safetensors" for entry in first["runs"]]
    made = [path.stat().st_mtime_ns for path in paths]
    results = run(study_settings(corpus, "evaluate.protocols=tokens,bits_per_byte", **task), out)
    assert [path.stat().st_mtime_ns for path in paths] == made
    assert results["verdicts"]["label_tokens"]["leader"] in specs
    for entry, before in zip(results["runs"], first["runs"], strict=True):
        tokens = entry["scores"]["tokens"]["behind"]
        assert tokens == before["scores"]["tokens"]["behind"], "kept, not made again"
        kind = "causal" if entry["objective"] == "ar" else "bidirectional"
        assert tokens["before"] == results["baselines"]["behind"][f"untrained_{kind}"]
        assert entry["scores"]["bits_per_byte"]["text"]["score"] == entry["bits_per_byte"]
        row = next(
            row
            for row in results["summary"]
            if (row["objective"], row["rung"], row["metric"])
            == (entry["objective"], entry["rung"], "tokens/behind")
        )
        assert row["gain"] == pytest.approx(tokens["score"] - tokens["before"])
    assert {"majority", "window", "window_left"} <= results["baselines"]["behind"].keys()
    fewer = run(study_settings(corpus, "evaluate.protocols=tokens", **task), out)
    assert set(fewer["runs"][0]["scores"]) == {"tokens"}, "what is not asked for is not told"
    assert fewer["verdicts"]["write"]["leader"] is None
    controls = {row["objective"] for row in results["controls"]}
    assert controls == {
        "ar, 1 token later",
        "ar, 2 tokens later",
        "ar beside ar of reversed text",
    }


@pytest.mark.slow
def test_a_smaller_rung_that_is_added_leaves_the_warmup_of_the_others(
    corpus: Path, tmp_path: Path
) -> None:
    options = {"objectives": "ar", "compare.budget": "12000"}
    slow = "train.warmup=0.5"
    first = run(study_settings(corpus, slow, **options), tmp_path / "out")
    again = run(
        study_settings(corpus, slow, "compare.ladder=[0.1, 0.5, 0.75, 1.0]", **options),
        tmp_path / "out",
    )
    straight = run(
        study_settings(corpus, slow, "compare.ladder=[0.5, 0.75, 1.0]", **options), tmp_path / "b"
    )
    assert numbers(first).items() <= numbers(again).items()
    assert numbers(straight).items() <= numbers(again).items()


@pytest.mark.slow
def test_a_study_that_stops_at_a_rung_goes_on_from_its_trunk(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    real = Trainer.run

    def counting(self: Trainer, until: int, *given: Any, **more: Any) -> Any:
        taken.append(until - self.counters.step)
        return real(self, until, *given, **more)

    monkeypatch.setattr(Trainer, "run", counting)

    def steps_of(*more: str, out: Path) -> tuple[dict[str, Any], int]:
        taken.clear()
        tasks = [str(corpus / "order.tsv"), str(corpus / "behind.conll")]
        return run(study_settings(corpus, *more, **{"data.tasks": tasks}), out), sum(taken)

    whole, steps = steps_of(out=tmp_path / "whole")
    out = tmp_path / "out"
    part, first = steps_of("compare.until=1/2", out=out)
    assert {entry["rung"] for entry in part["runs"]} == {0.5}
    assert part["notes"][0].startswith("Stopped after the rung of 0.5 of the budget")
    assert "seed orders alike at the whole budget: labels of texts" in part["notes"][1]
    assert "word order" not in part["notes"][1], "what was not measured is not told of"
    assert part["controls"] == []
    assert list(out.glob("runs/ar/*/*/trunk/checkpoint-*")), "what is needed to go on is kept"
    ComparisonResults.of(part).write_page(tmp_path / "report.html")
    again, second = steps_of(out=out)
    assert numbers(again) == numbers(whole)
    assert first + second == steps, "nothing is trained twice"
    assert not list(out.glob("**/trunk"))


@pytest.mark.parametrize("until", ["1/8", "0.3"])
def test_a_rung_that_the_ladder_lacks(until: str, corpus: Path) -> None:
    with pytest.raises(UserError, match=r"compare.until: no rung 0.\d+; the ladder has 0.5, 1"):
        open_study(study_settings(corpus, f"compare.until={until}"))


@pytest.mark.slow
def test_a_budget_in_seconds_is_calibrated_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"objectives": "ar", "compare.budget": "0.3s", "compare.equal": "flops"}
    run(study_settings(corpus, "compare.ladder=[1.0]", **options), tmp_path / "out")

    def never(*arguments: Any) -> None:
        raise AssertionError("calibrated again")

    monkeypatch.setattr(Speed, "__call__", never)
    more = options | {"objectives": "ar, dar"}
    flops = [
        e["budget"]["flops"]
        for e in run(study_settings(corpus, "compare.ladder=[1.0]", **more), tmp_path / "out")[
            "runs"
        ]
    ]
    assert flops[0] == pytest.approx(flops[1], rel=0.3)


@pytest.mark.slow
def test_a_study_is_known_by_content_and_not_by_paths(corpus: Path, tmp_path: Path) -> None:
    options = {"objectives": "ar", "compare.budget": "3000"}
    first = run(study_settings(corpus, **options), tmp_path / "out")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("text.txt", "order.tsv"):
        (moved / name).write_text((corpus / name).read_text())
    assert numbers(run(study_settings(moved, **options), tmp_path / "out")) == numbers(first)
    (moved / "order.tsv").rename(moved / "renamed.tsv")
    settings = study_settings(moved, **options, **{"data.tasks": [str(moved / "renamed.tsv")]})
    assert numbers(run(settings, tmp_path / "out")) == numbers(first), (
        "a task is not known by its name either"
    )
    lines = (corpus / "order.tsv").read_text().splitlines()
    (moved / "order.tsv").write_text("\n".join(lines[:-2]) + "\n")
    with pytest.raises(UserError, match="task 'order' has changed"):
        run(study_settings(moved, **options), tmp_path / "out")


def test_a_refused_budget_leaves_threads_and_place_as_they_were(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookaround.studies.compare.study.Study.threads", 3)
    study = open_study(study_settings(corpus, **{"compare.budget": "130"}))
    with pytest.raises(UserError, match="too small"):
        compare(study, tmp_path / "out", command="test")
    assert torch.get_num_threads() == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="too small"):
        estimate(study)
    assert torch.get_num_threads() == 1


def _study_command(corpus: Path, out: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "lookaround",
        "compare",
        str(corpus / "text.txt"),
        "--task",
        str(corpus / "order.tsv"),
        "--objectives",
        "ar",
        "--budget",
        "8000",
        "--jobs",
        "1",
        *[part for line in TINY for part in ("--set", line)],
        "--out",
        str(out),
    ]


INTERRUPTED = {"objectives": "ar", "compare.budget": "8000"}


@pytest.fixture(scope="module")
def straight(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of a study that nothing interrupts."""
    return run(study_settings(corpus, **INTERRUPTED), tmp_path_factory.mktemp("straight") / "out")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_study_goes_on_and_ends_in_the_same_numbers(
    corpus: Path, straight: dict[str, Any], tmp_path: Path, number: int
) -> None:
    out = tmp_path / "stopped"
    process = subprocess.Popen(
        _study_command(corpus, out),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(out.glob("runs/ar/*/seed-0/trunk/checkpoint-*")):
        time.sleep(0.02)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(
        number
    )  # Ctrl-C reaches them all
    _, errors = process.communicate(timeout=120)
    if number == signal.SIGINT:
        assert process.returncode == 130, errors
        assert "the same command goes on" in errors
    assert not (out / "results.json").exists(), "the signal came too late to test anything"
    time.sleep(2 if number == signal.SIGKILL else 0)  # orphans notice within a second
    again = run(study_settings(corpus, **INTERRUPTED), out)
    for a, b in zip(again["runs"], straight["runs"], strict=True):
        assert a["bits_per_byte"] == b["bits_per_byte"]
        assert a["classification"] == b["classification"]
        assert a["budget"] | {"seconds": 0} == b["budget"] | {"seconds": 0}


def test_folder_names_are_unique_and_plain() -> None:
    specs = [
        "ar",
        "mlm(rate=0.4)",
        "mlm(rate=0.4, shift=1)",
        "ar + mlm",
        "ar >> mlm",
        "0.25*ar >> 0.75*mlm",
        'vmlm(law="cosine")',
    ]
    names = [slug(spec) for spec in specs]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").replace(".", "").isalnum() for name in names)


@pytest.mark.slow
def test_a_forecast_stands_beside_the_study(corpus: Path, tmp_path: Path) -> None:
    settings = study_settings(
        corpus, "forecast.rank=8", **{"objectives": "ar", "compare.budget": "2000"}
    )
    results = run(settings, tmp_path / "out")
    found = results["forecast"]
    assert [line["objective"] for line in found["objectives"]] == ["ar"]
    assert set(found["objectives"][0]["tasks"]) == {"order"}
    page = render_html(ComparisonResults.of(results))
    assert "Before any training" in page
    assert "Track record" in page
    again = run(
        study_settings(
            corpus,
            "forecast.enabled=false",
            **{"objectives": "ar", "compare.budget": "2000"},
        ),
        tmp_path / "out",
    )
    assert "forecast" not in again, "left out when asked, on the same study"


@pytest.mark.slow
def test_a_study_goes_on_where_no_forecast_can_be_made(corpus: Path, tmp_path: Path) -> None:
    settings = study_settings(
        corpus, "forecast.rank=5000", **{"objectives": "ar", "compare.budget": "2000"}
    )
    results = run(settings, tmp_path / "out")
    assert "forecast" not in results
    assert any(
        note.startswith("No forecast beside the study: rank: 5000 is above")
        for note in results["notes"]
    )


def test_a_timed_excerpt_of_a_task_holds_every_class() -> None:
    labels = np.repeat([0, 1, 2], 400)
    texts = [f"text {number}" for number in range(1200)]
    part, _ = _part(TaskData("t", "accuracy", texts, labels, texts, labels), Settings().evaluate)
    assert len(part.train_inputs) == len(part.train_labels) == 120
    assert {*part.train_labels.tolist()} == {*part.test_labels.tolist()} == {0, 1, 2}
    assert all(
        labels[int(text.split()[1])] == label
        for text, label in zip(part.train_inputs, part.train_labels.tolist(), strict=True)
    )
