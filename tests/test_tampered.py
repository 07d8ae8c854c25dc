"""Files of ours that were cut short, edited or exchanged: refused by file and field, or made again.

test_records.py has what every such file is read through.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lookaround.decode.hub import read_description
from lookaround.model.backbone import Backbone, build
from lookaround.model.export import export, load
from lookaround.model.readable import Readable, read_run
from lookaround.objectives import parse
from lookaround.objectives.contract import Mode
from lookaround.objectives.heads import LookAheadSpec
from lookaround.report import load_results
from lookaround.settings import Settings
from lookaround.studies.compare.compare import StoredStudy
from lookaround.studies.compare.ladder import Job, _validated, read_rung
from lookaround.studies.compare.scoring import read_evaluation
from lookaround.studies.compare.summary import _require_same_items
from lookaround.studies.folder import StudyFolder
from lookaround.studies.forecast.entry import keep, read_kept
from lookaround.studies.pretrain import StoredRun
from lookaround.studies.speculate.calibration import StoredCalibration
from lookaround.studies.speculate.measure import StoredSpeed, StoredTexts
from lookaround.studies.speculate.samples import CHUNK, _read_texts
from lookaround.studies.speculate.speculate import StoredState
from lookaround.studies.synthetic.job import Curve, SyntheticJob, run_job
from lookaround.studies.synthetic.tasks import parse_task
from lookaround.support.errors import UserError
from lookaround.support.records import Stored, checked
from lookaround.train.checkpoint import load_training_state
from lookaround.train.loop import MetricsFile, read_metrics
from lookaround.train.run import plan_of
from report_sample import synthetic_results

DEEP = "[" * 100_000
NOT_OURS = ["", "{", "[]", DEEP, b"\xff\xfe\x00"]


def edited(value: Any, edits: dict[str, Any]) -> Any:
    """A copy of plain data with other values at dotted places; Ellipsis takes one out."""
    value = copy.deepcopy(value)
    for name, new in edits.items():
        *outer, last = [int(part) if part.isdecimal() else part for part in name.split(".")]
        inner = value
        for part in outer:
            inner = inner[part]
        if new is ...:
            del inner[last]
        else:
            inner[last] = new
    return value


def store(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, str):
        file.write_text(content)
    else:
        plain = json.dumps(content) if file.suffix == ".json" else yaml.safe_dump(content)
        file.write_text(plain)
    return file


def refused(file: Path, words: str, call: Callable[[], Any]) -> None:
    """It is refused in one short line that names the file and holds `words`."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert str(file) in message
    assert words in message
    assert "\n" not in message
    assert len(message) < 500 + len(str(file))


# ----------------------------------------------------------------------------- run.yaml

RUN = {
    "lookaround": "0.1.0",
    "objective": "ar",
    "modes": [["causal", 1]],
    "final_modes": [["causal", 1]],
    "context": 32,
    "seed": 0,
    "learning_rate": 0.001,
    "plan": {"shares": [1.0], "steps": [20]},
    "data": {"corpus": None, "fingerprint": "f", "corpus_fingerprint": "c", "split_seed": 0},
    "settings": Settings().model_dump(mode="json"),
    "spent": {"step": 20, "tokens": 2491, "targets": 2411, "flops": 7e9, "seconds": 0.2},
}


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({"modes": ...}, "field 'modes' is missing"),
        ({"modes": []}, "field 'modes' is []"),
        ({"modes": ["x"]}, "field 'modes[0]' is text"),
        ({"modes": [["left", 1]]}, "field 'modes[0]' is"),
        ({"modes": [["causal", -1]]}, "field 'modes[0]' is"),
        ({"modes": [["causal", 1, 2]]}, "field 'modes[0]' is"),
        ({"modes": [["causal", 99]]}, "field 'final_modes' has a mode that 'modes' has not"),
        ({"final_modes": [["prefix", 1]]}, "field 'final_modes' has a mode that 'modes' has not"),
        ({"context": 0}, "field 'context' is 0; expected an integer from 2"),
        ({"context": True}, "field 'context' is true/false"),
        ({"settings": []}, "field 'settings' is a list"),
        ({"settings.data": 3}, "field 'settings.data' is a number"),
        ({"settings.data.validation": 7}, "field 'settings.data.validation' is 7"),
        ({"plan": {}}, "field 'plan.shares' is missing"),
        ({"plan.steps": [-20]}, "field 'plan.steps[0]' is -20"),
        ({"plan.steps": [20, 5]}, "'plan': field 'shares' has 1 entries, 'steps' 2"),
        ({"spent.flops": float("nan")}, "field 'spent.flops' is NaN"),
        ({"spent": [], "status": "finished"}, "field 'spent' is a list"),
        ({"spent": ..., "status": "finished"}, "field 'spent' is missing"),
        ({"status": "done"}, "field 'status' is \"done\"; expected running or finished"),
        ({"data.corpus_fingerprint": 5}, "field 'data.corpus_fingerprint' is a number"),
    ],
)
def test_run_yaml(edits: dict[str, Any], words: str, tmp_path: Path) -> None:
    store(tmp_path / "run.yaml", RUN)
    assert read_run(tmp_path).as_dict() == RUN
    file = store(tmp_path / "run.yaml", edited(RUN, edits))
    refused(file, words, lambda: read_run(tmp_path))


def test_a_plan_of_another_objective() -> None:
    plan = {"shares": [0.25, 0.75], "steps": [5, 15]}
    assert plan_of(plan, parse("0.25*ar >> 0.75*mlm"), "run.yaml").total == 20
    with pytest.raises(UserError, match=r"run\.yaml has the shares \[0\.25, 0\.75\], 'ar'"):
        plan_of(plan, parse("ar"), "run.yaml")


# ----------------------------------------------------------------------------- checkpoints

COUNTERS = {"step": 8, "tokens": 900, "targets": 90, "flops": 1e9, "seconds": 0.5, "tensors": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *((text, "truncated") for text in NOT_OURS),
        *((edited(COUNTERS, {name: ...}), f"field '{name}' is missing") for name in COUNTERS),
        (COUNTERS | {"step": 4}, "is of step 4, its folder is checkpoint-00000008"),
        (COUNTERS | {"step": 10**9}, "is of step 1000000000"),
        (COUNTERS | {"step": -1}, "field 'step' is -1"),
        (COUNTERS | {"step": 8.0}, "field 'step' is 8.0"),
        (COUNTERS | {"flops": float("inf")}, "field 'flops' is Infinity"),
        (COUNTERS | {"tokens": 10**30}, "a whole number of 31 digits"),
    ],
)
def test_the_counters_of_a_checkpoint(content: Any, words: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-00000008"
    file = store(folder / "counters.json", COUNTERS | {"later": [1]})
    save_file({"model.x": torch.zeros(2)}, folder / "training_state.safetensors")
    assert load_training_state(folder)[0]["step"] == 8
    store(file, content)
    refused(file, words, lambda: load_training_state(folder))


@pytest.mark.parametrize(
    "damage",
    ['{"step": 3, "lo', DEEP, b"\xff\xfe\x00", "[1]", '{"step": "x", "loss": 1}', '{"step": null}'],
)
def test_damaged_lines_of_metrics_are_left_out(damage: str | bytes, tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = [
        json.dumps(COUNTERS | {"step": step, "loss": 1.0, "learning_rate": 0.1}).encode()
        for step in (1, 2, 9)
    ]
    damaged = damage.encode() if isinstance(damage, str) else damage
    file.write_bytes(b"\n".join([lines[0], damaged, *lines[1:]]))
    assert [entry.step for entry in read_metrics(file)] == [1, 2, 9]
    MetricsFile(file, 8)
    assert file.read_bytes() == b"".join(line + b"\n" for line in lines[:2])
    assert read_metrics(tmp_path / "none.jsonl") == []


# ----------------------------------------------------------------------------- heads and trees


@pytest.fixture(scope="module")
def with_heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    heads = (LookAheadSpec("medusa", 3),)
    backbone: Backbone = build(
        preset="pico", vocabulary=40, context=64, special={}, heads=heads, seed=0
    )
    export(backbone, folder, (Mode("causal", 1),), mask=3)
    return folder


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({"model": "{"}, "truncated or foreign file"),
        ({"model": "[]"}, "metadata: truncated or not ours (field 'model' is a list"),
        ({"model": '{"a": "x"}'}, "field 'model.a' is text"),
        ({"model": '{"a": NaN}'}, "field 'model.a' is NaN"),
        ({"model": DEEP}, "nested too deeply"),
        ({"heads": "[]"}, "field 'heads' is []"),
        ({"heads": "[3]"}, "field 'heads[0]' is a number"),
        ({"heads": '[{"kind": []}]'}, "field 'heads[0].kind' is a list"),
        ({"heads": '[{"kind": "x"}]'}, "truncated or foreign file"),
        ({"heads": '[{"kind": "medusa", "horizon": "x"}]'}, "field 'heads[0].horizon' is text"),
        ({"heads": '[{"kind": "medusa", "horizon": -3}]'}, "field 'heads[0].horizon' is -3"),
        ({"heads": '[{"kind": "medusa", "horizon": 999999}]'}, "field 'heads[0].horizon' is 99"),
        ({"heads": '[{"kind": "medusa", "horizon": 5}]'}, "do not fit this model"),
        ({"width": '"x"'}, "field 'width' is text"),
        ({"vocabulary": "9" * 5000}, "a whole number of 5000 digits"),
    ],
)
def test_the_metadata_of_heads(
    edits: dict[str, str], words: str, with_heads: Path, tmp_path: Path
) -> None:
    file = with_heads / "heads.safetensors"
    whole = file.read_bytes()
    with safe_open(file, "pt") as handle:
        told = handle.metadata()
    save_file(load_file(file), file, metadata=told | edits)
    try:
        refused(file, words, lambda: load(with_heads))
    finally:
        file.write_bytes(whole)


def test_heads_that_are_not_finite(with_heads: Path) -> None:
    file = with_heads / "heads.safetensors"
    whole, weights = file.read_bytes(), load_file(file)
    with safe_open(file, "pt") as handle:
        told = handle.metadata()
    next(iter(weights.values()))[0] = float("nan")
    save_file(weights, file, metadata=told)
    try:
        refused(file, "holds numbers that are not finite", lambda: load(with_heads))
    finally:
        file.write_bytes(whole)


TREES = {
    "trees": {"1": [[0], [0, 0]]},
    "vocabulary": 40,
    "shortlist": [1, 5],
    "precision": "float32",
}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *((text, "truncated") for text in NOT_OURS),
        (TREES | {"vocabulary": float("inf")}, "field 'vocabulary' is Infinity"),
        (TREES | {"vocabulary": "40"}, "field 'vocabulary' is text"),
        (TREES | {"trees": {"x": [[0]]}}, "field 'trees' is"),
        (TREES | {"trees": {"-1": [[0]]}}, "field 'trees' is"),
        (TREES | {"trees": {"1": [[2]]}}, "a rank beyond the 2 tokens that are drafted"),
        (TREES | {"shortlist": []}, "field 'shortlist' is []"),
        (TREES | {"shortlist": ["x"]}, "field 'shortlist[0]' is text"),
        (TREES | {"shortlist": [5, 1]}, "in rising order"),
        (TREES | {"precision": "int8"}, "field 'precision' is \"int8\""),
    ],
)
def test_the_description_of_trees(content: Any, words: str, tmp_path: Path) -> None:
    file = store(tmp_path / "speculation.json", TREES)
    assert read_description(tmp_path, 40).shortlist == [1, 5]
    store(file, content)
    refused(file, words, lambda: read_description(tmp_path, 40))


# ----------------------------------------------------------------------------- studies

STUDY = {
    "budget": {"amount": 7e9, "unit": "flops"},
    "smallest": 0.5,
    "plans": {"ar": {"shares": [1.0], "steps": [20]}},
}
SPEED = {
    "batch": 1,
    "nodes": 2,
    "tokens_per_forward": 1.5,
    "plain_tokens_per_second": 10.0,
    "loop_tokens_per_second": 9.0,
    "speculative_tokens_per_second": 12.0,
    "speedup": 1.2,
    "interval": [1.1, 1.3],
}
CALIBRATION = {
    "trees": {"1": [[0]]},
    "largest": [[0], [1]],
    "shortlist": None,
    "costs": [{"batch": 1, "nodes": 1, "tokens": 1.5, "seconds": 0.1}],
    "accuracies": [[0.5, 0.1]],
    "expected": 1.4,
}
TEXTS = {"tokens_per_forward": 1.4, "flips": 0, "acceptance_by_depth": [0.5]}


@pytest.mark.parametrize(
    ("model", "whole", "edits", "words"),
    [
        (StoredStudy, STUDY, {"plans": []}, "field 'plans' is a list"),
        (StoredStudy, STUDY, {"plans.ar": {}}, "field 'plans.ar.shares' is missing"),
        (StoredStudy, STUDY, {"plans.ar.steps": ["x"]}, "field 'plans.ar.steps[0]' is text"),
        (StoredStudy, STUDY, {"budget": {}}, "field 'budget.amount' is missing"),
        (StoredStudy, STUDY, {"budget.unit": "x"}, "expected tokens or flops or seconds"),
        (StoredStudy, STUDY, {"smallest": 3}, "expected a number in (0, 1]"),
        (StoredRun, RUN, {"seed": "x"}, "field 'seed' is text"),
        (StoredState, {"status": "running"}, {"status": 3}, "field 'status' is 3"),
        (
            StoredState,
            {"status": "running"},
            {"status": "finished", "result": {}},
            "result: field 'plain' is missing",
        ),
        (StoredSpeed, SPEED, {"speedup": 0.0}, "field 'speedup' is 0.0"),
        (StoredSpeed, SPEED, {"interval": [1.0]}, "field 'interval' is [1.0]"),
        (StoredTexts, TEXTS, {"acceptance_by_depth": [7]}, "acceptance_by_depth[0]' is 7"),
        (StoredCalibration, CALIBRATION, {"trees": {"1": [[0, 0]]}}, "is there without [0]"),
        (StoredCalibration, CALIBRATION, {"largest": [[99]]}, "a rank beyond 16"),
        (StoredCalibration, CALIBRATION, {"shortlist": []}, "field 'shortlist' is []"),
        (StoredCalibration, CALIBRATION, {"costs": [3]}, "field 'costs[0]' is a number"),
    ],
)
def test_what_studies_keep(
    model: type[Stored], whole: Any, edits: dict[str, Any], words: str
) -> None:
    assert checked(model, whole, "file").as_dict() == whole
    with pytest.raises(UserError) as caught:
        checked(model, edited(whole, edits), "file")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *((text, "study.yaml: ") for text in NOT_OURS),
        ({"layout": 2}, "field 'identity' is missing"),
        ({"layout": "x", "identity": {}}, "field 'layout' is text"),
        ({"layout": 2, "identity": []}, "field 'identity' is a list"),
        ({"layout": 2, "identity": {"settings": []}}, "field 'identity.settings' is a list"),
        ({"layout": 2, "identity": {"tasks": {"a": 3}}}, "field 'identity.tasks.a' is a number"),
        ({"layout": 2, "identity": {}, **STUDY, "plans": 3}, "field 'plans' is a number"),
    ],
)
def test_the_file_of_a_study(content: Any, words: str, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "study.yaml", "a study of ours", {}, StoredStudy)
    file = store(tmp_path / "study.yaml", {"layout": 2, "identity": {}, **STUDY, "later": 1})
    folder.require()
    assert folder.state == {**STUDY, "later": 1}
    store(file, content)
    refused(file, words, folder.require)


SCORES = {
    "modes": {"probe": "causal, shift 1"},
    "scores": {
        "probe": {
            "mood": {
                "metric": "accuracy",
                "value": 0.75,
                "items": [[1, 0, 0, 1], [1, 0, 1, 1]],
                "details": {"layer": 0, "cut": 1},
            }
        },
        "bits_per_byte": {
            "": {
                "metric": "bits_per_byte",
                "value": 2.0,
                "items": [[1.0, 3.0], [1.0, 1.0]],
                "details": {"by_prefix": {"1": 2.0}, "scored_tokens": {"1": 4}},
            }
        },
    },
}
MOOD, TEXT = "scores.probe.mood", "scores.bits_per_byte."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *((text, "delete it, and the same command makes it again") for text in NOT_OURS),
        ({"bits": [1.0]}, "field 'modes' is missing"),
        (edited(SCORES, {"scores": []}), "field 'scores' is a list"),
        (edited(SCORES, {"scores.probe": 3}), "field 'scores.probe' is a number"),
        (edited(SCORES, {MOOD: []}), "field 'scores.probe.mood' is a list"),
        (edited(SCORES, {f"{MOOD}.value": 5}), "has the value 5.0, of its items 0.75"),
        (edited(SCORES, {f"{MOOD}.value": None}), "has the value None, of its items 0.75"),
        (edited(SCORES, {f"{MOOD}.metric": "x"}), "no 'x' of these items"),
        (edited(SCORES, {f"{MOOD}.items": [[1.0]]}), "no 'accuracy' of these items"),
        (edited(SCORES, {f"{MOOD}.items.1": ["x"] * 4}), "scores.probe.mood.items[1][0]' is text"),
        (edited(SCORES, {f"{MOOD}.items.1": [1]}), "not of [4, 1]"),
        (edited(SCORES, {f"{MOOD}.items": [[], []]}), "not of [0, 0]"),
        (edited(SCORES, {f"{MOOD}.details": {}}), "field 'layer' is missing"),
        (edited(SCORES, {f"{MOOD}.details.cut": "x"}), "field 'cut' is text"),
        (edited(SCORES, {f"{TEXT}.items": [[9.0], [1.0]]}), "has the value 2.0, of its items 9"),
        (edited(SCORES, {f"{TEXT}.value": float("nan")}), "value' is NaN"),
        (edited(SCORES, {f"{TEXT}.details.by_prefix": [3]}), "field 'by_prefix' is a list"),
    ],
)
def test_an_evaluation(content: Any, words: str, tmp_path: Path) -> None:
    file = store(tmp_path / "evaluation.json", SCORES)
    assert read_evaluation(tmp_path).scores["probe"]["mood"].value == 0.75
    truths = [[False, True, True, True], [False, True, False, True]]
    store(file, edited(SCORES, {f"{MOOD}.items": truths}))
    assert sum(read_evaluation(tmp_path).scores["probe"]["mood"].items[0]) == 3
    store(file, content)
    refused(file, words, lambda: read_evaluation(tmp_path))


def test_evaluations_of_other_numbers_of_items(tmp_path: Path) -> None:
    from lookaround.studies.compare.grid import Found

    other = edited(SCORES, {f"{TEXT}.items": [[2.0], [1.0]]})
    store(tmp_path / "a" / "evaluation.json", SCORES)
    store(tmp_path / "b" / "evaluation.json", other)
    rungs = {
        name: {"folder": str(tmp_path / name), "evaluation": read_evaluation(tmp_path / name)}
        for name in ("a", "b")
    }
    _require_same_items(Found({("ar", 0): {"1": rungs["a"]}}), tmp_path)
    found = Found({("ar", 0): {"1": rungs["a"]}, ("mlm", 0): {"1": rungs["b"]}})
    words = "field 'scores.bits_per_byte['']' has 1 items"
    refused(tmp_path / "b" / "evaluation.json", words, lambda: _require_same_items(found, tmp_path))


def job(out: Path) -> Job:
    return Job(
        out=out,
        settings=Settings(),
        objective="ar",
        store=cast(Any, None),
        tasks=(),
        seed=0,
        factor=1.0,
        plan={"shares": [1.0], "steps": [40]},
        rungs=(0.5, 1.0),
        evaluated=(0.5, 1.0),
        smallest=0.5,
        trial=False,
        threads=1,
    )


POINT = {"step": 10, "tokens": 100, "flops": 1e8, "seconds": 0.1, "loss": 5.0}
RUNG = RUN | {"rung": 0.5, "curve": [POINT]}


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({"seed": 7}, "field 'seed' is 7, by its folder and study 0"),
        ({"objective": "mlm"}, 'field \'objective\' is "mlm", by its folder and study "ar"'),
        ({"rung": 1.0}, "field 'rung' is 1.0, by its folder and study 0.5"),
        ({"plan.steps": [3]}, "field 'plan.steps' is [3], by its folder and study [20]"),
        ({"spent.step": 3}, "field 'spent.step' is 3, by its folder and study 20"),
        ({"spent": ...}, "field 'spent' is missing"),
        ({"spent.tokens": -4}, "field 'spent.tokens' is -4"),
        ({"curve": {}}, "field 'curve' is an object"),
        ({"curve.0": 3}, "field 'curve[0]' is a number"),
        ({"curve.0.loss": "x"}, "field 'curve[0].loss' is text"),
        ({"learning_rate": -1.0}, "field 'learning_rate' is -1.0"),
        ({"settings": 3}, "field 'settings' is a number"),
    ],
)
def test_a_rung_of_a_study(edits: dict[str, Any], words: str, tmp_path: Path) -> None:
    here = job(tmp_path)
    file = store(here.folder / "rung-0.5" / "run.yaml", RUNG)
    store(file.with_name("evaluation.json"), SCORES)
    assert read_rung(here, 0.5)["curve"] == [POINT]
    store(file, edited(RUNG, edits))
    refused(file, words, lambda: read_rung(here, 0.5))


@pytest.mark.parametrize("content", [*NOT_OURS, {"loss": "x"}, {"loss": -1.0}, {"loss": None}])
def test_a_damaged_validation_loss_is_made_again(
    content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = job(tmp_path)
    file = store(here.folder / "rung-0.5" / "validation.json", content)
    monkeypatch.setattr("lookaround.studies.compare.ladder.load", lambda folder: torch.nn.Module())
    monkeypatch.setattr("lookaround.studies.compare.ladder._validation_loss", lambda *all: 4.5)
    assert _validated(here, parse("ar"), 0.5) == 4.5
    assert json.loads(file.read_text()) == {"loss": 4.5}


# ----------------------------------------------------------------------------- synthetic

TASK = parse_task("pathstar(2,3)")
POINTS = [
    {"step": step, "seconds": 1.0, "exact_match": 0.5, "positions": [1.0, 0.5, 0.5]}
    for step in (4, 8)
]
ROW = {
    "objective": "ar",
    "graph": "pathstar(2,3)",
    "seed": 0,
    "exact_match": 0.5,
    "first_hop": 0.5,
    "later_positions": None,
    "train_exact_match": 0.5,
    "positions": [1.0, 0.5, 0.5],
    "ways": {"one by one": 0.5},
    "queries": 60,
    "chance": 0.5,
    "seconds": 2.0,
    "steps": 12,
    "solved_at": None,
    "learned_at": [4, None, None],
    "left_chance_at": None,
    "parameters": 10,
    "learning_rate": 0.1,
    "flops": 1e9,
    "curve": POINTS,
    "diverged_at": None,
}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *((text, "truncated or not ours") for text in NOT_OURS),
        *((edited(ROW, {name: ...}), f"field '{name}' is missing") for name in ROW),
        (ROW | {"seed": 5}, "field 'seed' is 5, by its folder 0"),
        (ROW | {"objective": "mlm"}, 'field \'objective\' is "mlm", by its folder "ar"'),
        (ROW | {"graph": "x"}, "field 'graph' is \"x\", by its folder"),
        (ROW | {"exact_match": 5.0}, "field 'exact_match' is 5.0; expected a number from 0 to 1"),
        (ROW | {"first_hop": -0.1}, "field 'first_hop' is -0.1"),
        (ROW | {"ways": {}}, "field 'ways' is {}"),
        (ROW | {"ways": {"x": "y"}}, "field 'ways.x' is text"),
        (ROW | {"positions": [1.0]}, "one for each place of the answer"),
        (ROW | {"learned_at": []}, "one for each place of the answer"),
        (ROW | {"solved_at": "x"}, "field 'solved_at' is text"),
        (ROW | {"steps": 10**9}, "field 'steps' is 1000000000; expected 12 at most"),
        (ROW | {"seconds": float("nan")}, "field 'seconds' is NaN"),
        (edited(ROW, {"curve.0.positions": ["x", 1, 1]}), "field 'curve[0].positions[0]' is text"),
        (edited(ROW, {"curve.0.positions": [0.1]}), "points of different numbers of positions"),
        (edited(ROW, {"curve.1.step": 3}), "field 'curve' has the steps [4, 3]"),
        (edited(ROW, {"curve.1.step": 99}), "field 'curve[1].step' is 99; expected 12 at most"),
        (edited(ROW, {"curve.1.exact_match": 5}), "curve[1]: truncated or not ours"),
    ],
)
def test_the_row_of_a_synthetic_run(content: Any, words: str, tmp_path: Path) -> None:
    run = SyntheticJob(tmp_path, tmp_path / "r", Settings(), TASK, "ar", 0, 1.0, 1, 12)
    file = store(tmp_path / "r" / "row.json", ROW)
    assert run_job(run) == ROW
    store(file, content)
    refused(file, words, lambda: run_job(run))


def test_the_curve_of_a_synthetic_run(tmp_path: Path) -> None:
    file = store(tmp_path / "curve.json", {"curve": POINTS})
    assert Curve(file, steps=8).entries == POINTS
    refused(file, "field 'curve[1].step' is 8; expected 7 at most", lambda: Curve(file, steps=7))
    store(file, {"curve": edited(POINTS, {"0.exact_match": 7})})
    refused(file, "field 'exact_match' is 7", lambda: Curve(file))


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ({"rows.0.curve.0.positions": [0.1]}, "places; expected"),
        ({"rows.0.curve.0.positions.0": "x"}, "positions[0]' is text"),
        ({"summary.0.success": 1e308}, "field 'summary[0].success' is 1e+308"),
        ({"summary.0.control_of": "x"}, "field 'summary[0].control_of' is \"x\""),
        ({"rows.0.steps": 10**400}, "a whole number of 401 digits"),
    ],
)
def test_results_of_a_grid(edits: dict[str, Any], words: str, tmp_path: Path) -> None:
    file = store(tmp_path / "results.json", edited(synthetic_results(), edits))
    refused(file, words, lambda: load_results(file))


# ----------------------------------------------------------------------------- made again


@pytest.mark.parametrize("content", [*NOT_OURS, {"digest": 3}, {"digest": "x", "value": {}}])
def test_a_damaged_part_of_a_forecast_counts_as_none(content: Any, tmp_path: Path) -> None:
    file = tmp_path / "part.json"
    keep(file, {"score": 0.5})
    assert read_kept(file) == {"score": 0.5}
    store(file, content)
    assert read_kept(file) is None


@pytest.mark.parametrize(
    ("tokens", "length"),
    [
        ([5] * 2 * CHUNK, [2] * (CHUNK - 1)),
        ([5] * 2 * CHUNK, [3] * CHUNK),
        ([5] * CHUNK, [1] * CHUNK),
        ([40] * 2 * CHUNK, [2] * CHUNK),
        ([-1] * 2 * CHUNK, [2] * CHUNK),
        ([0.5] * 2 * CHUNK, [2] * CHUNK),
        (None, None),
    ],
)
def test_samples_of_a_model(
    tokens: list[Any] | None, length: list[int] | None, tmp_path: Path, with_heads: Path
) -> None:
    backbone, file = load(with_heads), tmp_path / "samples.npz"
    run = cast(Readable, type("Run", (), {"backbone": backbone}))
    np.savez(file, tokens=[5] * 2 * CHUNK, length=[2] * CHUNK)
    assert len(_read_texts(file, 2, run)) == CHUNK
    if tokens is None:
        file.write_bytes(file.read_bytes()[:200])
    else:
        np.savez(file, tokens=tokens, length=length)
    refused(file, "truncated or foreign", lambda: _read_texts(file, 2, run))
