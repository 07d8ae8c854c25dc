"""A grid of synthetic tasks: what is refused, a small grid from end to end, resumption, and its
report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor
from typer.testing import CliRunner

from conftest import sentences
from lookaround.cli.entry import app
from lookaround.data.shards import TokenStore
from lookaround.evaluation.own_text import own_text, text_data
from lookaround.model.readable import Readable
from lookaround.objectives import parse
from lookaround.report import load_results
from lookaround.report.findings import SYNTHETIC_COLUMNS, synthetic_findings
from lookaround.report.schema import SyntheticResults
from lookaround.settings import Settings, read_settings
from lookaround.studies.synthetic import grid as grid_module
from lookaround.studies.synthetic.answers import Reader
from lookaround.studies.synthetic.exams import exam_of
from lookaround.studies.synthetic.grid import (
    PRESETS,
    Grid,
    controls_of,
    describe,
    estimate,
    open_grid,
    run_grid,
    summarise,
)
from lookaround.studies.synthetic.job import (
    SyntheticJob,
    make_trainer,
    run_job,
)
from lookaround.studies.synthetic.tasks import Task, parse_task
from lookaround.support.errors import Interrupted, UserError
from lookaround.support.machine import threads_of
from lookaround.train import loop
from lookaround.train.budget import expected_cost

TASK = parse_task("pathstar(2,3)")


class Here(Executor):
    """Runs a job at once, in this process."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


STEPS = 12


def settings(**values: Any) -> Settings:
    small = {
        "model.preset": "pico",
        "synthetic.tasks": ["pathstar(2,3)"],
        "synthetic.objectives": "ar, teacherless",
        "synthetic.seeds": 2,
        "synthetic.steps": STEPS,
        "synthetic.batch": 8,
        "synthetic.every": 4,
        "synthetic.queries": 60,
        "synthetic.watched": 40,
        "synthetic.lr_factors": [1.0],
    }
    return read_settings(
        None, None, small, **{name.replace("__", "."): value for name, value in values.items()}
    )


def same(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the times it took."""
    row = row if isinstance(row, dict) else row.as_dict()
    curve = [{k: v for k, v in entry.items() if k != "seconds"} for entry in row["curve"]]
    return {**{k: v for k, v in row.items() if k != "seconds"}, "curve": curve}


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"synthetic__labels": 4}, "labels must be 5 .its nodes. to 10000, got 4"),
        ({"synthetic__tasks": ["pathstar(1,3)"]}, "degree must be 2 or more"),
        ({"synthetic__tasks": ["pathstar(2,1)"]}, "2 or more"),
        ({"synthetic__tasks": ["3x3"]}, "task '3x3': is no task; write"),
        (
            {"synthetic__tasks": ["2,3"]},
            "task '2,3': is no task; write one of .*pathstar.degree, length",
        ),
        ({"model__context": 17}, "model.context: task pathstar(2,3) has rows of 18 tokens, got 17"),
        (
            {"synthetic__objectives": f"mtp(n=20, weights=({'0, ' * 19}1))"},
            "nothing to predict in the 3 tokens of an answer to pathstar(2,3)",
        ),
        ({"synthetic__objectives": "nonsense"}, "unknown objective"),
        ({"synthetic__lr_factors": [0.0]}, "synthetic.lr_factors: must be positive"),
        ({"synthetic__lr_factors": [1.0, 1.0000001]}, "must differ in their first six digits"),
    ],
)
def test_bad_input_is_refused_before_any_training(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words.replace("(", r"\(").replace(")", r"\)")):
        open_grid(settings(**values))


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["synthetic", "--task", "pathstar(1,3)", "--out", str(tmp_path / "x")]
    )
    assert isinstance(result.exception, UserError)
    assert not (tmp_path / "x").exists()
    result = CliRunner().invoke(
        app, ["synthetic", "--preset", "huge", "--out", str(tmp_path / "x")]
    )
    assert "known are cpu, full, gpu" in str(result.exception)


def test_learning_rates_are_chosen_per_task_or_on_the_first() -> None:
    both = {
        "synthetic__tasks": ["pathstar(2,3)", "pathstar(3,3)"],
        "synthetic__objectives": "ar, reverse",
        "synthetic__lr_factors": [1.0, 2.0],
    }
    each = open_grid(settings(**both)).followers
    assert each["pathstar(2,3)", "ar"] == [
        ("pathstar(2,3)", "ar"),
        ("pathstar(2,3,hop=True)", "ar"),
    ]
    assert each["pathstar(3,3)", "reverse"] == [("pathstar(3,3)", "reverse")]
    alone = open_grid(
        settings(
            synthetic__tasks=["pathstar(3,3,hop=True)", "pathstar(2,3)", "pathstar(2,3,hop=True)"],
            synthetic__objectives="ar",
        )
    )
    assert alone.followers == {
        ("pathstar(3,3,hop=True)", "ar"): [("pathstar(3,3,hop=True)", "ar")],
        ("pathstar(2,3)", "ar"): [("pathstar(2,3)", "ar"), ("pathstar(2,3,hop=True)", "ar")],
    }
    first = open_grid(settings(synthetic__search="first", **both)).followers
    assert first.keys() == {("pathstar(2,3)", "ar"), ("pathstar(2,3)", "reverse")}
    assert first["pathstar(2,3)", "reverse"] == [
        ("pathstar(2,3)", "reverse"),
        ("pathstar(3,3)", "reverse"),
    ]


@pytest.mark.parametrize("spec", ["teacherless", "ar + reverse", "ar >> bst"])
def test_objectives_of_a_target_part_are_refused_on_plain_text(spec: str, tmp_path: Path) -> None:
    for command in (
        ["compare", "--objectives", spec],
        ["forecast", "--objectives", spec],
        ["pretrain", "--objective", spec],
    ):
        result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "x")])
        assert "it is for lookaround synthetic" in str(result.exception)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_are_whole(preset: str) -> None:
    grid = open_grid(read_settings(None, None, PRESETS[preset]))
    assert grid.total >= len(grid.objectives) * len(grid.seeds)


def test_a_file_overrules_a_preset_and_an_option_overrules_both(tmp_path: Path) -> None:
    file = tmp_path / "synthetic.yaml"
    file.write_text("synthetic:\n  steps: 7\n  seeds: 9\n")
    found = read_settings(file, ["synthetic.seeds=5"], PRESETS["cpu"], **{"synthetic.steps": None})
    assert (found.synthetic.steps, found.synthetic.seeds, found.model.preset) == (7, 5, "pico")
    file.write_text("synthetic:\ntrain:\n")
    empty = read_settings(file, ["synthetic.seeds=5"], PRESETS["full"])
    assert (empty.synthetic.seeds, empty.synthetic.tasks) == (5, ["pathstar(2,3)", "pathstar(3,3)"])
    for field in ("labels", "queries", "watched"):
        with pytest.raises(UserError, match=f"synthetic.{field}: .* less than or equal to"):
            read_settings(None, [f"synthetic.{field}=20000000"])
    file.write_text("seed:\n")
    with pytest.raises(UserError, match="seed: "):
        read_settings(file)


# ---------------------------------------------------------------------------------------- a grid


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("synthetic") / "grid"
    grid = open_grid(settings())
    return out, run_grid(grid, out, command="lookaround synthetic", executor=Here()).as_dict()


@pytest.mark.slow
def test_a_grid_has_a_row_per_run_with_what_was_promised(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    out, results = finished
    assert json.loads((out / "results.json").read_text()) == results
    promised = {
        "objective",
        "graph",
        "seed",
        "exact_match",
        "first_hop",
        "later_positions",
        "train_exact_match",
        "seconds",
    }
    rows = results["rows"]
    assert [(row["graph"], row["objective"], row["seed"]) for row in rows] == [
        ("pathstar(2,3)", "ar", 0),
        ("pathstar(2,3)", "ar", 1),
        ("pathstar(2,3)", "teacherless", 0),
        ("pathstar(2,3)", "teacherless", 1),
        ("pathstar(2,3,hop=True)", "ar", 0),
        ("pathstar(2,3,hop=True)", "ar", 1),
    ]
    for row in rows:
        assert promised <= row.keys()
        assert [entry["step"] for entry in row["curve"]] == [4, 8, 12]
        assert row["queries"] == 60
        assert row["steps"] == 12
        assert (row["later_positions"] is None) == (row["graph"] == "pathstar(2,3,hop=True)")
    assert rows[0]["ways"].keys() == {"one by one"}
    assert rows[2]["ways"].keys() == {"parallel", "one by one"}
    assert not list(out.rglob("checkpoint-*")), "a finished run keeps its model alone"


def test_models_load_in_transformers(finished: tuple[Path, dict[str, Any]]) -> None:
    from transformers import AutoModelForCausalLM

    folders = sorted(finished[0].glob("runs/pathstar-2-3-*/ar/lr-1-seed-0/model"))
    assert folders
    model = AutoModelForCausalLM.from_pretrained(folders[0])
    assert model.config.vocab_size == 14


@pytest.mark.slow
def test_a_finished_grid_is_not_run_again_and_can_grow(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    out, results = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("row.json")}
    again = run_grid(
        open_grid(settings(synthetic__seeds=3, synthetic__objectives="teacherless")),
        out,
        command="x",
        executor=Here(),
    )
    assert [same(row) for row in again["rows"][:2]] == [same(row) for row in results["rows"][2:4]]
    assert len(again["rows"]) == 3
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(UserError, match=r"synthetic\.batch was 8, now 16; give another --out"):
        run_grid(open_grid(settings(synthetic__batch=16)), out, command="x", executor=Here())
    (other := out.parent / "other").mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and not a benchmark of ours"):
        run_grid(open_grid(settings()), other, command="x", executor=Here())


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_result(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, results = finished
    out = tmp_path / "grid"
    own = loop.Trainer.step
    seen: list[int] = []

    def step(self: loop.Trainer, *given: Any) -> Any:
        seen.append(self.counters.step)
        if len(seen) == 6:
            (out / ".stop").touch()
        return own(self, *given)

    monkeypatch.setattr(loop.Trainer, "step", step)
    monkeypatch.setattr("lookaround.studies.jobs.Status.tell", _always_listening)
    with pytest.raises(Interrupted, match="the same command goes on"):
        run_grid(open_grid(settings()), out, command="x", executor=Here())
    monkeypatch.undo()
    assert list(out.rglob("checkpoint-*"))
    again = run_grid(open_grid(settings()), out, command="x", executor=Here())
    assert [same(row) for row in again["rows"]] == [same(row) for row in results["rows"]]


def _always_listening(self: Any, *told: Any, **more: Any) -> None:
    self.stop.set = self.stop.set or self.stop_file.exists()


@pytest.mark.slow
@pytest.mark.parametrize("passes", [2, 7, 12])  # within points of the curve, and within the score
def test_a_run_that_is_stopped_while_it_answers_goes_on_to_the_same_result(
    passes: int,
    finished: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid = open_grid(
        settings(synthetic__seeds=1, synthetic__objectives="ar", synthetic__control=False)
    )
    out = tmp_path / "grid"
    own = Reader._log_probabilities
    count = iter(range(1, 1000))

    def laws(self: Reader, shown: Tensor) -> Tensor:
        if next(count) == passes:
            (out / ".stop").touch()
        return own(self, shown)

    monkeypatch.setattr(Reader, "_log_probabilities", laws)
    monkeypatch.setattr("lookaround.studies.jobs.Status.tell", _always_listening)
    monkeypatch.setattr("lookaround.studies.synthetic.answers.ROWS_PER_PASS", 16)
    with pytest.raises(Interrupted, match="the same command goes on"):
        run_grid(grid, out, command="x", executor=Here())
    assert next(count) < passes + 4, "it read on after it was asked to stop"
    monkeypatch.undo()
    assert list(out.rglob("checkpoint-*"))
    again = run_grid(grid, out, command="x", executor=Here())
    assert [same(row) for row in again["rows"]] == [same(row) for row in finished[1]["rows"][:1]]


@pytest.mark.slow
def test_a_run_that_diverges_is_scored_as_it_was_and_the_grid_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = loop.Trainer.step

    def step(self: loop.Trainer, *given: Any) -> Any:
        found = own(self, *given)
        if self.seed == 1 and self.counters.step == 6:
            found.totals.fill_(float("nan"))
        return found

    monkeypatch.setattr(loop.Trainer, "step", step)
    grid = open_grid(settings(synthetic__objectives="ar", synthetic__control=False))
    results = run_grid(grid, tmp_path / "grid", command="lookaround synthetic", executor=Here())
    fine, diverged = results["rows"]
    assert (fine["diverged_at"], fine["steps"]) == (None, 12)
    assert (diverged["diverged_at"], diverged["steps"]) == (6, 4)
    assert [point["step"] for point in diverged["curve"]] == [4]
    assert any(
        "G(2,3): ar, seed 1: the loss was not finite at step 6; scored as the run was at step 4"
        in line
        for line in synthetic_findings(results)
    )
    results.write_page(tmp_path / "synthetic.html")


@pytest.mark.slow
def test_a_run_that_is_stopped_and_then_diverges_is_scored_as_if_it_had_not_been_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = loop.Trainer.step
    stops: list[Path] = []

    def step(self: loop.Trainer, *given: Any) -> Any:
        found = own(self, *given)
        if self.counters.step == 9:  # saved after the next step
            for out in stops:
                (out / ".stop").touch()
        if self.counters.step == 11:
            found.totals.fill_(float("nan"))
        return found

    monkeypatch.setattr(loop.Trainer, "step", step)
    monkeypatch.setattr("lookaround.studies.jobs.Status.tell", _always_listening)
    grid = open_grid(
        settings(synthetic__objectives="ar", synthetic__control=False, synthetic__seeds=1)
    )
    whole = run_grid(grid, tmp_path / "whole", command="x", executor=Here())
    stops.append(tmp_path / "stopped")
    with pytest.raises(Interrupted):
        run_grid(grid, tmp_path / "stopped", command="x", executor=Here())
    assert len(list(stops[0].rglob("checkpoint-*"))) == 2
    stops.clear()
    again = run_grid(grid, tmp_path / "stopped", command="x", executor=Here())
    assert same(again["rows"][0]) == same(whole["rows"][0])
    assert (again["rows"][0]["diverged_at"], again["rows"][0]["steps"]) == (11, 8)


@pytest.mark.slow
@pytest.mark.parametrize("at", [2, 8, 12])
def test_weights_that_are_not_finite_are_never_scored(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = loop.Trainer.step

    def step(self: loop.Trainer, *given: Any) -> Any:
        found = own(self, *given)
        if self.counters.step == at:
            next(self.backbone.parameters()).data[0] = float("nan")
        return found

    monkeypatch.setattr(loop.Trainer, "step", step)
    job = SyntheticJob(tmp_path, tmp_path / "run", settings(), TASK, "ar", 0, 1.0, 1, STEPS)
    row = run_job(job)
    assert row["steps"] == {2: 0, 8: 4, 12: 8}[at]
    assert row["diverged_at"] in (at, at + 1)
    trial = run_job(replace(job, folder=tmp_path / "trial", trial=True, steps=5))
    assert (trial["curve"] == []) == (at < 5), "of 5 steps"
    assert json.loads((tmp_path / "trial" / "row.json").read_text()) == trial


def test_a_control_alone_is_a_task_like_others(tmp_path: Path) -> None:
    alone = [
        row(name, 0, 0.5, graph="pathstar(3,3,hop=True)", later_positions=None)
        for name in ("ar", "reverse")
    ]
    beside = [row("ar", 0, 0.5), *alone]
    for rows in (alone, beside):
        found = results(rows)
        assert {entry["control_of"] for entry in found["summary"]} == {None}
        found.write_page(tmp_path / "synthetic.html")
        assert any("G(3,3,hop=True)" in line for line in synthetic_findings(found))
    assert [entry["control_of"] for entry in summary_of(ROWS)][-1] == "pathstar(2,3)"


@pytest.mark.slow
def test_a_curve_beyond_the_last_checkpoint_leaves_no_point_twice(tmp_path: Path) -> None:
    grid = open_grid(settings(synthetic__steps=8))
    job = SyntheticJob(tmp_path, tmp_path / "run", grid.settings, TASK, "ar", 0, 1.0, 1, 8)
    curve = {
        "curve": [{"step": 4, "seconds": 1.0, "exact_match": 0.5, "positions": [1.0, 0.5, 1.0]}]
    }
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "curve.json").write_text(
        json.dumps(curve)
    )  # and its checkpoint was removed
    assert [entry["step"] for entry in run_job(job)["curve"]] == [4, 8]


@pytest.mark.slow
def test_a_run_ends_once_it_is_right_twice_in_a_row(tmp_path: Path) -> None:
    grid = open_grid(
        settings(
            synthetic__stop_at=1e-9,
            synthetic__tasks=["pathstar(2,2)"],
            synthetic__steps=400,
            synthetic__every=100,
        )
    )
    job = SyntheticJob(
        tmp_path, tmp_path / "run", grid.settings, parse_task("pathstar(2,2)"), "ar", 0, 4.0, 1, 400
    )
    row = run_job(job)
    assert row["steps"] < 400
    assert row["solved_at"] is not None


def test_learning_rates_are_tried_on_a_seed_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[SyntheticJob] = []

    def fake(job: SyntheticJob) -> dict[str, Any]:
        asked.append(job)
        if job.trial and job.factor == 4:
            return {"curve": []}
        if job.trial:
            right = {1.0: 0.5, 2.0: 0.9}[job.factor]
            return {"curve": [{"step": 4, "exact_match": right, "positions": [right]}]}
        return {
            "objective": job.objective,
            "graph": job.task.spec,
            "seed": job.seed,
            "exact_match": 1.0,
            "first_hop": 1.0,
            "later_positions": 1.0,
            "train_exact_match": 1.0,
            "seconds": 1.0,
            "steps": 4,
            "solved_at": 4,
            "learned_at": [4],
            "left_chance_at": 4,
            "diverged_at": None,
            "ways": {"one by one": 1.0},
            "parameters": 1,
            "chance": 0.5,
            "learning_rate": job.factor,
            "positions": [1.0],
            "queries": 60,
            "curve": [],
        }

    monkeypatch.setattr(grid_module, "run_job", fake)
    grid = open_grid(
        settings(
            synthetic__lr_factors=[4.0, 2.0, 1.0],
            synthetic__objectives="ar",
            synthetic__control=False,
        )
    )
    results = run_grid(grid, tmp_path / "grid", command="x", executor=Here())
    assert [job.factor for job in asked if job.trial] == [1.0, 2.0, 4.0]
    assert {job.factor for job in asked if not job.trial} == {2.0}
    assert {job.steps for job in asked if job.trial} == {5}
    assert not {job.seed for job in asked if job.trial} & {
        job.seed for job in asked if not job.trial
    }
    assert results["learning_rates"] == {
        "pathstar(2,3)": {"ar": {"x1": 0.5, "x2": 0.9, "x4": -1.0}}
    }


def test_parts_that_write_in_different_orders_are_refused_together() -> None:
    with pytest.raises(
        UserError, match="its parts write in different orders; train them one by one"
    ):
        open_grid(settings(synthetic__objectives="ar + reverse"))
    assert (
        open_grid(settings(synthetic__objectives="ar + 2*teacherless, reverse >> ar")).total
        == 2 * 2
    )


def end(right: float, step: int = 4) -> dict[str, Any]:
    return {"curve": [{"step": step, "exact_match": right}]}


@pytest.mark.parametrize(
    ("tried", "best"),
    [
        ({1.0: end(0.5), 2.0: end(0.9)}, 2.0),
        ({1.0: end(0.9), 2.0: end(0.5)}, 1.0),
        ({1.0: end(0.49), 2.0: end(0.48)}, 2.0),  # not told apart: the largest
        ({1.0: end(0.999, 100), 2.0: end(1.0, 200)}, 1.0),  # not told apart: the soonest
        ({1.0: end(0.5), 2.0: {"curve": []}}, 1.0),
        ({1.0: {"curve": []}, 2.0: {"curve": []}}, 1.0),
    ],
)
def test_the_rate_that_is_best_soonest_or_largest_is_taken(
    tried: dict[float, dict], best: float
) -> None:
    assert grid_module._best_rate(tried, "exact_match") == best


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "objective"),
    [
        ("pathstar(2,3)", "ar"),
        ("pathstar(2,3)", "mdlm"),
        ("pathstar(2,3)", "teacherless"),
        ("countdown(2,20)", "ar"),
        ("countdown(2,20)", "mdlm"),
    ],
)
def test_the_estimate_counts_every_row_that_is_read(
    task: str, objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    own = Reader._log_probabilities

    def laws(self: Reader, shown: Tensor) -> Tensor:
        read.append(len(shown))
        return own(self, shown)

    monkeypatch.setattr(Reader, "_log_probabilities", laws)
    asked = {"synthetic__tasks": [task], "synthetic__objectives": objective, "synthetic__steps": 10}
    grid = open_grid(settings(synthetic__control=False, **asked))
    row = run_job(
        SyntheticJob(
            tmp_path, tmp_path / "run", grid.settings, parse_task(task), objective, 0, 1.0, 1, 10
        )
    )
    assert [point["step"] for point in row["curve"]] == [4, 8, 10]
    trainer = make_trainer(grid.settings, grid.tasks[task], grid.objectives[objective], 0, 0.1)
    (kind, options) = grid.tasks[task], grid.settings.synthetic
    exam = exam_of(kind)(kind, trainer.backbone, grid.objectives[objective], options, 0)
    assert sum(read) == 3 * exam.point_reads + exam.score_reads


@pytest.mark.parametrize(
    ("asked", "jobs", "threads"),
    [("", 2, 4), ("1", 2, 1), ("6", 2, 4), ("1", 1, 1), ("0", 1, 8), ("many", 8, 1), ("", 16, 1)],
)
def test_threads_are_a_share_of_the_cores_or_what_was_asked_for(
    asked: str, jobs: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookaround.support.machine.usable_cores", lambda: 8)
    monkeypatch.setattr("lookaround.support.machine._ASKED", asked)
    assert threads_of(jobs) == threads


def test_trials_add_their_points_to_the_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_module, "_seconds_per_read", lambda *given: 1.0)

    def scoring(factors: list[float]) -> float:
        grid = open_grid(
            settings(
                synthetic__objectives="ar", synthetic__control=False, synthetic__lr_factors=factors
            )
        )
        return estimate(grid).by_run[0]["scoring_seconds"]

    # a trial has 5 of 12 steps: two points of 40 problems; an answer of `ar` is checked in one pass
    assert scoring([1.0, 2.0, 4.0]) - scoring([1.0]) == 3 * 2 * 40


@pytest.mark.slow
def test_the_estimate_counts_every_run() -> None:
    grid = open_grid(settings(synthetic__lr_factors=[1.0, 2.0], synthetic__trial=0.5))
    cost = estimate(grid)
    assert cost.runs == 3 * 2 + 2 * 2, "two seeds of three runs, two trials of two objectives"
    assert [run["runs"] for run in cost.by_run] == [3, 3, 2]
    assert cost.flops == pytest.approx(sum(run["flops"] * run["runs"] for run in cost.by_run))
    assert [run["objective"] for run in cost.by_run] == ["ar", "teacherless", "ar"]
    assert cost.scoring_seconds * cost.jobs == pytest.approx(
        sum(run["scoring_seconds"] for run in cost.by_run)
    )
    assert cost.scoring_seconds > 0


@pytest.mark.slow
def test_a_sequence_is_priced_by_its_whole_budget_and_not_by_one_phase() -> None:
    both = "0.55*ar >> 0.45*mtp(n=2, weights=1.0)"
    grid = open_grid(settings(synthetic__control=False, synthetic__objectives=both))
    (run,) = estimate(grid).by_run
    cheap, dear = (_flops_of(grid, both, spec) for spec in ("ar", "mtp(n=2, weights=1.0)"))
    assert dear > 1.2 * cheap
    # of 16 points over the budget, 9 lie in the first phase
    assert run["flops"] == pytest.approx(12 * (9 * cheap + 7 * dear) / 16)


def _flops_of(grid: Grid, model: str, spec: str) -> float:
    """FLOPs of a step of an objective on the model that another one trains."""
    (task,) = grid.tasks.values()
    trainer = make_trainer(grid.settings, task, parse(model), 0, 0.1)
    return expected_cost(
        parse(spec), trainer.backbone, trainer.rows, grid.settings.synthetic.batch, "flops"
    )


def test_both_phases_of_a_sequence_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"ar": 1.0, "teacherless": 5.0}
    monkeypatch.setattr(
        grid_module, "seconds_per_step", lambda trainer, phase, least: seconds[phase.spec]
    )
    asked = {"synthetic__control": False, "synthetic__objectives": "0.75*ar >> 0.25*teacherless"}
    (run,) = estimate(open_grid(settings(**asked))).by_run
    assert run["seconds_per_step"] == pytest.approx(0.75 * 1.0 + 0.25 * 5.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "failure", [UserError("refused"), Interrupted("stopped"), RuntimeError("out of memory")]
)
def test_a_timing_that_fails_leaves_the_threads_as_they_were(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> float:
        raise failure

    monkeypatch.setattr(grid_module, "seconds_per_step", fail)
    monkeypatch.setattr(Grid, "threads", property(lambda grid: torch.get_num_threads() + 1))
    before = torch.get_num_threads()
    with pytest.raises(type(failure)):
        estimate(open_grid(settings()))
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_a_run_in_this_process_leaves_the_threads_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    run_job(
        SyntheticJob(
            tmp_path, tmp_path / "run", settings(), TASK, "ar", 0, 1.0, before + 1, 1, True
        )
    )
    assert torch.get_num_threads() == before


# -------------------------------------------------------------------------------- an earlier layout


def test_a_folder_of_an_earlier_layout_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("identity: {}\n")
    for more in ([], ["--dry-run"]):
        result = CliRunner().invoke(app, ["synthetic", "--out", str(tmp_path), *more])
        assert isinstance(result.exception, UserError)
        assert "plan.yaml: written by an older lookaround" in str(result.exception)
        assert "give another --out" in str(result.exception)
    unfinished = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert isinstance(unfinished.exception, UserError)
    assert "plan.yaml: written by an older lookaround" in str(unfinished.exception)
    (tmp_path / "results.json").write_text(json.dumps({"kind": "plan", "version": 1, "rows": []}))
    finished = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert isinstance(finished.exception, UserError)
    assert "results.json: field 'kind' is 'plan'" in str(finished.exception)
    assert "train the grid again with `lookaround synthetic`" in str(finished.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.yaml", "results.json"]


@pytest.mark.parametrize("text", ["plan:\n  steps: 7\n", "plan:\n"])
def test_settings_of_an_earlier_name_are_refused_by_name(text: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(
        UserError, match=r"settings.yaml: unknown setting 'plan'; it is called 'synthetic' now"
    ):
        read_settings(file)
    with pytest.raises(
        UserError, match=r"--set plan\.steps=7: .*'plan'; it is called 'synthetic' now"
    ):
        read_settings(None, ["plan.steps=7"])


def test_a_model_of_an_earlier_lookaround_is_still_evaluated_on_its_own_text(
    store: TokenStore, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(sentences(400)))
    info = {"settings": {"data": {"corpus": str(corpus)}, "plan": {"tasks": ["2,3"]}}, "data": {}}
    backbone: Any = None
    model = Readable(backbone, store.codec, (), (), 32, info)
    own = own_text(model, Settings().data)
    assert own is not None
    text = text_data(model, own)
    assert text.test.width == 32


# ------------------------------------------------------------------------------- what is said of it


def row(
    objective: str, seed: int, exact: float, later: float = 1.0, train: float = 1.0, **more: Any
) -> dict[str, Any]:
    curve = [
        {"step": s, "seconds": 1.0, "exact_match": exact, "positions": [1.0, exact, later]}
        for s in (4, 8)
    ]
    return {
        "objective": objective,
        "graph": "pathstar(2,3)",
        "seed": seed,
        "exact_match": exact,
        "first_hop": exact,
        "later_positions": later,
        "train_exact_match": train,
        "seconds": 2.0,
        "steps": 800,
        "solved_at": 100 if exact > 0.95 else None,
        "learned_at": [4, None, 4],
        "left_chance_at": 100 if exact > 0.6 else None,
        "diverged_at": None,
        "ways": {"one by one": exact},
        "parameters": 10,
        "chance": 0.5,
        "learning_rate": 0.1,
        "queries": 60,
        "curve": curve,
        "positions": [1.0, exact, later],
    } | more


ROWS = [
    *(row("ar", seed, 0.5) for seed in range(3)),
    *(row("reverse", seed, 1.0) for seed in range(3)),
    row("mdlm", 0, 0.99),
    row("mdlm", 1, 0.5),
    row("top", 0, 0.1, later=0.3, train=0.1),
    row("dar", 0, 0.3, later=0.9, train=1.0),
    row("ar", 0, 0.5, graph="pathstar(2,3,hop=True)", later_positions=None),
]


def tasks_of(rows: list[dict[str, Any]]) -> list[Task]:
    return [parse_task(row["graph"]) for row in rows]


def summary_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return summarise(rows, controls_of(tasks_of(rows)))


def plain_results(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "version": 1,
        "kind": "synthetic",
        "rows": rows,
        "summary": summary_of(rows),
        "margins": {"same": 0.03, "guessing": 0.05},
        "tasks": describe(tasks_of(rows)),
        "settings": settings(synthetic__queries=70).model_dump(),
        "command": "lookaround synthetic '<b>'",
        "learning_rates": {},
    }


def results(rows: list[dict[str, Any]], **more: Any) -> SyntheticResults:
    return SyntheticResults.of(plain_results(rows) | more)


def test_summary_has_means_intervals_and_the_share_of_successes() -> None:
    summary = {(e["graph"], e["objective"]): e for e in summary_of(ROWS)}
    mixed = summary["pathstar(2,3)", "mdlm"]
    assert mixed["success"] == 0.5
    assert mixed["exact_match"]["mean"] == pytest.approx(0.745)
    half = (
        12.706204736 * (0.99 - 0.5) / 2**0.5 / 2**0.5
    )  # t(0.975, 1) times the standard error of two values
    assert mixed["exact_match"]["low"] == pytest.approx(0.745 - half)
    assert "later_positions" not in summary["pathstar(2,3,hop=True)", "ar"]


def test_findings_tell_the_cheat_from_what_was_never_fitted() -> None:
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    results(ROWS).print(console)
    text = console.export_text()
    for words in (
        "copies along an arm that it has guessed (the Clever Hans cheat): ar",
        "looks ahead in every run: reverse",
        "looks ahead in some runs: mdlm",
        "was not fitted, in training either, within these steps: top",
        "fits its training problems and fails on others: dar",
        "ar was trained for 8.0 times the 100 steps that reverse needed",
        "was still guessing",
        "ar (first hop only)",
        "G(2,3): there are only 60 different held-out problems",
    ):
        assert words in text


@pytest.mark.parametrize("width", [60, 80, 110, 160])
def test_a_narrow_terminal_folds_the_columns_and_loses_none(width: int) -> None:
    console = Console(record=True, width=width, file=open("/dev/null", "w"))  # noqa: SIM115
    results(ROWS).print(console)
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for column, _ in SYNTHETIC_COLUMNS:
        assert column in text
    for entry in ("ar ", "reverse ", "mdlm ", "[0.0, 100.0]"):
        assert entry in text


def test_a_short_name_does_not_fold_the_heading() -> None:
    console = Console(record=True, width=80, file=open("/dev/null", "w"))  # noqa: SIM115
    results(ROWS[:3]).print(console)
    assert "objective " in console.export_text()


def test_nothing_is_said_of_guessing_where_a_task_has_no_guess() -> None:
    rows = [
        row(name, 0, 1.0, graph="countdown(2,20)", chance=None, left_chance_at=None)
        for name in ("ar", "reverse")
    ]
    assert not any("guessing" in line for line in synthetic_findings(results(rows)))


def test_rates_that_were_chosen_among_guesses_are_named() -> None:
    rates = {
        "ar": {"x1": 0.48, "x2": 0.5},
        "reverse": {"x1": 0.5, "x2": 0.9},
        "top": {"x1": -1.0, "x2": 0.5},  # nothing to choose from
        "dar": {"x1": 0.5, "x2": 0.01},  # told apart
        "mdlm": {"x1": 0.2, "x2": 0.19, "x4": -1.0},
    }
    found = results(ROWS, learning_rates={"pathstar(2,3)": rates})
    lines = [line for line in synthetic_findings(found) if "learning rate" in line]
    assert len(lines) == 1
    assert "left guessing for ar, mdlm; the largest was taken" in lines[0]
    sums = [row("ar", seed, 0.3, graph="addition(3)") for seed in range(2)]
    tried = {"addition(3)": {"ar": {"x1": 0.3, "x2": 0.31}}}
    assert not any(
        "learning rate" in line for line in synthetic_findings(results(sums, learning_rates=tried))
    )
    assert not any("learning rate" in line for line in synthetic_findings(results(ROWS)))


@pytest.mark.slow
def test_the_page_is_whole_safe_and_shows_every_objective(tmp_path: Path) -> None:
    bad = [*ROWS, row("<script>alert(1)</script>", 0, 0.5)]
    results(bad).write_page(tmp_path / "synthetic.html")
    page = (tmp_path / "synthetic.html").read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    assert "lookaround synthetic &#39;&lt;b&gt;&#39;" in page
    assert page.count("<svg") >= 1
    for name in ("ar", "reverse", "mdlm", "top", "dar"):
        assert f">{name}<" in page


def test_sums_are_introduced_as_sums(tmp_path: Path) -> None:
    results([row("ar", 0, 0.5, graph="addition(3)")]).write_page(tmp_path / "synthetic.html")
    page = (tmp_path / "synthetic.html").read_text()
    assert "Several arms" not in page
    assert "first digit of a sum" in page


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda r: r.update(rows=[]), "field 'rows' is []; expected a list that is not empty"),
        (lambda r: r.update(rows=[1]), "field 'rows[0]' is a number; expected an object"),
        (lambda r: r.update(summary=[]), "field 'summary' is []; expected a list that is not"),
        (lambda r: r["rows"][2].pop("curve"), "field 'rows[2].curve' is missing; expected a list"),
        (
            lambda r: r["rows"][2].update(curve=[3]),
            "field 'rows[2].curve[0]' is a number; expected an object",
        ),
        (
            lambda r: r["summary"][1].pop("steps"),
            "field 'summary[1].steps' is missing; expected a list",
        ),
        (
            lambda r: r["summary"][1].update(seconds=None),
            "field 'summary[1].seconds' is null; expected a number",
        ),
        (
            lambda r: r.update(settings={}),
            "field 'settings.synthetic' is missing; expected an object",
        ),
        (
            lambda r: r.update(learning_rates={"pathstar(2,3)": 1}),
            "field 'learning_rates['pathstar(2,3)']' is a number; expected an object",
        ),
        (
            lambda r: r.update(learning_rates={"pathstar(2,3)": {"ar": 1}}),
            "field 'learning_rates['pathstar(2,3)'].ar' is a number; expected an object",
        ),
        (lambda r: r.pop("margins"), "field 'margins' is missing; expected an object"),
        (lambda r: r["margins"].pop("same"), "field 'margins.same' is missing; expected a number"),
        (
            lambda r: r["tasks"].popitem(),
            "field 'tasks['pathstar(2,3,hop=True)']' is missing; expected an object",
        ),
        (
            lambda r: r["tasks"]["pathstar(2,3)"].pop("title"),
            "field 'tasks['pathstar(2,3)'].title' is missing; expected text",
        ),
        (
            lambda r: r["settings"].update(synthetic={}),
            "field 'settings.synthetic.seeds' is missing; expected an integer",
        ),
    ],
)
def test_an_edited_result_is_refused_by_name(
    edit: Callable[[dict[str, Any]], None], words: str, tmp_path: Path
) -> None:
    whole = results(ROWS).as_dict()
    file = tmp_path / "results.json"
    file.write_text(json.dumps(whole))
    assert load_results(file).as_dict() == whole
    edit(whole)
    file.write_text(json.dumps(whole))
    with pytest.raises(UserError, match=re.escape(f"{file}: {words}")):
        load_results(file)


@pytest.mark.parametrize("name", ["curve.json", "row.json"])
@pytest.mark.parametrize("text", ['{"curve": [1]}', '{"curve": [{"step": 4}]}', "[]", "{"])
def test_an_edited_file_of_a_run_is_refused_by_name(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text(text)
    with pytest.raises(UserError, match=f"{name}.*truncated or not ours"):
        run_job(SyntheticJob(tmp_path, tmp_path / "run", settings(), TASK, "ar", 0, 1.0, 1, STEPS))


def test_a_row_without_a_field_is_refused_by_name(tmp_path: Path) -> None:
    whole = row("ar", 0, 0.5, flops=1e9)
    for name in ("chance", "solved_at", "later_positions", "ways"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "row.json").write_text(
            json.dumps({k: v for k, v in whole.items() if k != name})
        )
        with pytest.raises(UserError, match=f"field '{name}' is missing"):
            run_job(
                SyntheticJob(tmp_path, tmp_path / "run", settings(), TASK, "ar", 0, 1.0, 1, STEPS)
            )


def test_a_folder_is_looked_at_before_anything_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(grid: Any) -> None:
        raise AssertionError("timed before the folder was looked at")

    monkeypatch.setattr(grid_module, "estimate", timed)
    (tmp_path / "notes.txt").write_text("mine")
    for more in ([], ["--dry-run"]):
        result = CliRunner().invoke(app, ["synthetic", "--out", str(tmp_path), *more])
        assert "not empty and not a benchmark of ours" in str(result.exception)
    (tmp_path / "synthetic.yaml").write_text("identity: {}\n")
    assert "not written yet" in str(CliRunner().invoke(app, ["report", str(tmp_path)]).exception)


@pytest.mark.slow
def test_the_command_writes_what_it_promises(tmp_path: Path) -> None:
    out, file = tmp_path / "grid", tmp_path / "rows.json"
    small = [
        f"--set=synthetic.{name}"
        for name in ("batch=4", "every=2", "queries=20", "watched=10", "lr_factors=[1.0]")
    ]
    command = [
        "synthetic",
        "--task",
        "pathstar(2,2)",
        "--objectives",
        "ar",
        "--seeds",
        "1",
        "--steps",
        "4",
        "--jobs",
        "1",
    ]
    dry = CliRunner().invoke(
        app, [*command, *small, "--out", str(out), "--dry-run", "--json", str(file)]
    )
    assert dry.exit_code == 0, dry.output
    assert "runs of at most 4 steps" in dry.output
    assert " of scoring at most" in " ".join(dry.output.split())
    assert not out.exists()
    assert json.loads(file.read_text())["runs"] == 1
    both = CliRunner().invoke(
        app, [*command, *small, "--control", "--dry-run", "--json", str(file)]
    )
    assert both.exit_code == 0, both.output
    assert [run["graph"] for run in json.loads(file.read_text())["by_run"]] == [
        "pathstar(2,2)",
        "pathstar(2,2,hop=True)",
    ]
    done = CliRunner().invoke(app, [*command, *small, "--out", str(out), "--json", str(file)])
    assert done.exit_code == 0, done.output
    assert (out / "synthetic.html").is_file()
    assert json.loads(file.read_text())["rows"][0]["objective"] == "ar"
    (out / "synthetic.html").unlink()
    again = CliRunner().invoke(app, ["report", str(out)])
    assert again.exit_code == 0, again.output
    assert "exact match" in again.output
    assert (out / "synthetic.html").is_file()
    (out / "results.json").write_text(json.dumps({"kind": "synthetic", "version": 2}))
    assert "reads version 1" in str(CliRunner().invoke(app, ["report", str(out)]).exception)
