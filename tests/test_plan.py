"""Larger budgets: a law through the rungs, its doubt, and what a run takes by device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runs import Run, assert_refused
from lookaround.evaluation.scaling import MODEL_ERROR, extrapolated, fit_law
from lookaround.model.backbone import PRESETS, VOCABULARIES
from lookaround.report.schema import ComparisonResults
from lookaround.settings import Settings, TrainSettings, read_settings
from lookaround.settings.sections import ModelSettings
from lookaround.studies.plan import plan
from lookaround.support.errors import UserError

TOP = 3.2e12
RUNGS = np.array([1 / 8, 1 / 4, 1 / 2, 1])


def law(flops: Any, floor: float = 1.1, scale: float = 0.8, exponent: float = 0.25) -> Any:
    return floor + scale * (flops / TOP) ** -exponent


def drawn(generator: np.random.Generator, rungs: np.ndarray = RUNGS, **of: float) -> np.ndarray:
    """Three ladders: noise of each rung, and what a seed has at all rungs."""
    each, shared = generator.normal(0, 0.01, (3, len(rungs))), generator.normal(0, 0.01, (3, 1))
    return law(TOP * rungs, **of) + each + shared


def test_intervals_hold_the_truth_at_eight_times_the_budget() -> None:
    """95 % intervals of 200 ladders whose law is known; they are wide and seldom wrong."""
    generator, held, widths, refused = np.random.default_rng(0), [], [], 0
    for _ in range(200):
        of = {
            "floor": generator.uniform(0.8, 1.6),
            "scale": generator.uniform(0.5, 1.2),
            "exponent": generator.uniform(0.1, 0.5),
        }
        found = fit_law(TOP * RUNGS, drawn(generator, **of))
        if isinstance(found, str):
            refused += 1
            continue
        mean, low, high = found.at(8 * TOP)
        assert low < mean < high
        held.append(low <= law(8 * TOP, **of) <= high)
        widths.append(high - low)
    assert np.mean(held) >= 0.95
    assert 0.05 < np.mean(widths) < 0.4
    assert refused < 50


def test_without_noise_the_law_comes_back() -> None:
    rungs = np.geomspace(1 / 64, 1, 7)
    found = fit_law(TOP * rungs, law(TOP * rungs) + np.array([[-1e-9], [1e-9]]))
    assert not isinstance(found, str)
    assert found.noise == pytest.approx(MODEL_ERROR, rel=1e-3)
    for times in (2, 4, 8):
        mean, low, high = found.at(times * TOP)
        assert mean == pytest.approx(law(times * TOP), abs=0.01)
        assert high - low < 0.12


def test_lower_rungs_that_are_on_no_law_are_left_out() -> None:
    rungs = np.geomspace(1 / 64, 1, 7)
    bits = np.vstack([law(TOP * rungs)] * 2) + np.array([[-0.002], [0.002]])
    bits[:, 0] -= 0.6  # early in training the loss has hardly fallen
    found = extrapolated(TOP * rungs, bits, 100)
    assert found["rungs"] == 6
    assert found["reason"] is None
    assert [budget["times"] for budget in found["budgets"]] == [2, 4, 8]


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ([[3.0, 2.6, 2.3, 2.1]], "one seed"),
        ([[3.0, 2.6, 2.3]] * 2, "takes 4 rungs, not 3"),
        ([[3.0, 2.95, 2.75, 2.2], [3.0, 2.94, 2.76, 2.2]], "early in training"),
        ([[3.436, 3.081, 2.741, 2.447], [3.446, 3.075, 2.745, 2.451]], "early in training"),
        ([[2.2, 2.6, 2.0, 2.1], [2.2, 2.6, 2.0, 2.1]], "on no power law"),
        ([[3.0, 2.6, 2.3, np.nan], [3.0, 2.6, 2.3, 2.1]], "not there at every rung"),
        ([[3.0, 2.6, 2.3, -1.0], [3.0, 2.6, 2.3, 2.1]], "not there at every rung"),
    ],
)
def test_rungs_that_bear_no_law(bits: list[list[float]], words: str) -> None:
    found = extrapolated(TOP * RUNGS[-len(bits[0]) :], np.array(bits), 100)
    assert found["budgets"] == []
    assert found["reason"].startswith("do not extrapolate: ")
    assert words in found["reason"]


def test_rungs_on_the_plateau_take_no_part() -> None:
    bits = np.array([[3.54, 3.50, 3.15, 2.76, 2.44, 2.22], [3.54, 3.50, 3.16, 2.75, 2.44, 2.23]])
    flops = TOP * np.geomspace(1 / 32, 1, 6)
    assert extrapolated(flops, bits, 100, unigram=3.52)["rungs"] == 4
    found = extrapolated(flops[:5], bits[:, :5], 100, unigram=3.52)
    assert found["budgets"] == []
    assert "only 3 of 5 rungs lie below the plateau" in found["reason"]


def test_a_text_that_runs_out_ends_the_law() -> None:
    bits = drawn(np.random.default_rng(1))
    found = extrapolated(TOP * RUNGS, bits, 3.1)
    assert [budget["times"] for budget in found["budgets"]] == [2]
    assert "do not extrapolate beyond 3.1 times the budget" in found["reason"]


# ------------------------------------------------------------------------------------ what it takes


def test_presets_to_a_billion_bring_their_batch_and_context() -> None:
    sizes = {name: plan(read_settings(None, [f"model.preset={name}"])) for name in PRESETS}
    assert [*VOCABULARIES] == [*PRESETS]
    assert 0.9e9 < sizes["xl"].parameters < 1.05e9
    for name, found in sizes.items():
        assert found.tokens == pytest.approx(20 * found.parameters, rel=0.01), name
        rows = found.batch * found.context
        assert found.steps == pytest.approx(found.tokens / rows, rel=0.01)
    batches = [found.batch * found.context for found in sizes.values()]
    rates = [found.learning_rate for found in sizes.values()]
    assert batches == sorted(batches)
    assert rates == sorted(rates, reverse=True)
    given = read_settings(None, ["model.preset=base", "train.batch=8"])
    assert (given.train.batch, given.model.context) == (8, 1024)
    kept = read_settings(None, ["model.preset=base", "model.init=gpt2"])
    assert (kept.train.batch, kept.model.context) == (16, 128)
    assert Settings.model_validate(given.model_dump()) == given


def test_hours_and_cost_by_hand() -> None:
    settings = read_settings(
        None,
        [
            "model.preset=base",
            "planned.budget=2e18flops",
            "planned.prices=[h100=3, l4=0.5]",
            "planned.utilization=0.5",
            "planned.memory=4",
        ],
    )
    found = plan(settings)
    by_name = {line.device: line for line in found.devices}
    assert found.flops == pytest.approx(2e18, rel=1e-3)
    hours = found.flops / (0.5 * 989e12) / 3600
    assert by_name["h100"].hours == pytest.approx(hours)
    assert by_name["h100"].cost == pytest.approx(3 * hours)
    assert by_name["a100"].cost is None
    assert (by_name["4 GB"].rows, by_name["4 GB"].hours) == (0, None)
    order = [*PRESETS]
    largest = [order.index(by_name[name].largest or "") for name in ("4 GB", "l4", "h200")]
    assert largest == sorted(largest)
    assert largest[0] < order.index("base") < largest[-1]


def study(preset: str = "nano", noise: int = 0, epochs: float = 0.1) -> ComparisonResults:
    bits = drawn(np.random.default_rng(noise))
    runs = [
        {
            "objective": "ar",
            "seed": seed,
            "rung": rung,
            "budget": {"flops": TOP * rung},
            "epochs": epochs * rung,
            "bits_per_byte": bits[seed, number],
        }
        for seed in range(3)
        for number, rung in enumerate(RUNGS)
    ]
    return ComparisonResults.of(
        {
            "version": 2,
            "command": "lookaround compare",
            "settings": {"model": {"preset": preset, "context": 64}, "train": {"batch": 8}},
            "corpus": {"name": "notes"},
            "runs": runs,
            "summary": [],
            "differences": [],
            "recommendation": {},
        }
    )


def test_a_study_says_what_to_expect_of_its_own_model() -> None:
    shape = ["model.context=64", "train.batch=8"]
    settings = read_settings(None, [*shape, f"planned.budget={4 * TOP:g}flops"])
    (found,) = plan(settings, study()).foretold
    assert found.low is not None
    assert found.high is not None
    assert found.low < law(4 * TOP) < found.high
    for told, words in (
        (plan(settings, study("tiny")), "the study has model.preset tiny"),
        (plan(settings, study(epochs=2)), "would be read 8 times"),
        (
            plan(read_settings(None, [*shape, "planned.budget=3e10flops"]), study()),
            "below the rungs",
        ),
        (plan(read_settings(None, [*shape, "planned.budget=1e15flops"]), study()), "312 times"),
        (plan(read_settings(None, ["train.batch=8"]), study()), "has model.context 64"),
    ):
        assert words in (told.foretold[0].reason or "")


def test_a_model_of_others_has_no_plan() -> None:
    with pytest.raises(UserError, match="'gpt2' is continued"):
        plan(read_settings(None, ["model.init=gpt2"]))


def test_sections_that_are_shared_stay_as_they_are() -> None:
    shared = TrainSettings()
    large = Settings(model=ModelSettings(preset="base"), train=shared)
    assert large.train.batch == 64
    assert shared.batch == Settings(train=shared).train.batch == 16


def test_the_command(run: Run, tmp_path: Path) -> None:
    place, file = tmp_path / "results.json", tmp_path / "plan.json"
    study().save(place)
    budget = f"--budget={4 * TOP:g}flops"
    done = run("plan", place, budget, "--price", "l4=0.8", "--json", file)
    assert done.code == 0, done.err
    assert "8 rows of 64 tokens a step" in done.out.replace("\n", " ")
    assert "bits per byte at this budget" in done.out
    assert json.loads(file.read_text())["context"] == 64
    assert "64 rows of 1,024" in run("plan", place, "--model", "base").out
    assert_refused(run("plan", "--price", "h1=3"), "--price h1=3: give DEVICE=PRICE", "h100")
    assert_refused(run("plan", "--budget", "3h"), "planned.budget: 3h is a time")
    assert_refused(run("plan", tmp_path / "none"), "no such file")
    damaged = study().as_dict()
    damaged["settings"] = {"model": 5}
    for entry in damaged["runs"]:
        entry["budget"] = {}
    place.write_text(json.dumps(damaged))
    assert run("plan", place, budget).code == 0
    damaged["settings"] = {"model": {"preset": "nano"}}
    place.write_text(json.dumps(damaged))
    assert "not there at every rung" in " ".join(run("plan", place, budget).out.split())
    assert run("plan", "--set", "data.vocabulary=1").code == 0
    with pytest.raises(UserError, match="l4=cheap"):
        plan(read_settings(None, ["planned.prices=[l4=cheap]"]))
