"""`lookaround plan`: what a run that nobody has paid for yet takes, and what a study foretells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import torch

from lookaround.data.rows import RowSource
from lookaround.evaluation.scaling import TIMES, fit_law
from lookaround.model.backbone import PRESETS, VOCABULARIES, Backbone, build
from lookaround.model.sizes import training_bytes
from lookaround.objectives import Batch, parse
from lookaround.objectives.checks import random_batch
from lookaround.objectives.contract import HeadSpec
from lookaround.objectives.objective import Objective
from lookaround.report.schema import ComparisonResults, PlanResults
from lookaround.report.schema.comparison import Run
from lookaround.settings import Settings
from lookaround.settings.sections import ROW, ROWS
from lookaround.studies.compare.study import MANY_EPOCHS
from lookaround.support.errors import UserError
from lookaround.support.text import one_line
from lookaround.train.budget import (
    Budget,
    expected_cost,
    make_plan,
    parse_budget,
    steps_cost,
)
from lookaround.train.loop import default_learning_rate

TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022
# of a device's memory, beside what is estimated: `base` at 64 x 1024 took 35 GiB where 30 are told
SPARE = 0.2


@dataclass(frozen=True)
class Device:
    """FLOP/s of dense bf16 products, and gigabytes, as its maker states them."""

    flops: float
    memory: float


DEVICES = {
    "b200": Device(2250e12, 180),
    "h200": Device(989e12, 141),
    "h100": Device(989e12, 80),
    "mi300x": Device(1307e12, 192),
    "a100": Device(312e12, 80),
    "a100-40": Device(312e12, 40),
    "l40s": Device(362e12, 48),
    "a10": Device(125e12, 24),
    "l4": Device(121e12, 24),
    "rtx4090": Device(165e12, 24),
}


class _Random:
    """Rows of random tokens, whose views cost what those of any text do."""

    def __init__(self, width: int, vocabulary: int) -> None:
        self.width, self.vocabulary = width, vocabulary

    def at(self, seed: int, index: np.ndarray) -> Batch:
        return random_batch(len(index), self.width, vocabulary=self.vocabulary)


def plan(settings: Settings, study: ComparisonResults | None = None) -> PlanResults:
    """What a run of these settings takes, by device.

    study: that says what bits per byte to expect.

    Raises UserError for a budget in seconds, for prices of unknown devices, and where a model of
    others is to be continued, or was in the study.
    """
    init = settings.model.init or (study and _setting(study, "model.init"))
    if init is not None:
        raise UserError(f"model.init: '{init}' is continued, and a plan is of fresh presets")
    asked, preset = settings.planned, settings.model.preset
    prices = _prices(asked.prices)
    objective = parse(asked.objective)
    vocabulary = settings.data.vocabulary or VOCABULARIES[preset]
    context, batch = settings.model.context, settings.train.batch
    backbone = _shape(preset, vocabulary, context, objective.head_specs())
    rows: Any = _Random(context, max(vocabulary, 8))
    if asked.budget is None:
        budget = Budget(float(TOKENS_PER_PARAMETER * backbone.parameter_count), "tokens")
    else:
        budget = parse_budget(asked.budget)
    if budget.unit == "seconds":
        raise UserError(
            f"planned.budget: {asked.budget} is a time, which is what a plan tells; give tokens "
            "(5B) or FLOPs (2e19flops)"
        )
    steps, spent = _cost(objective, backbone, rows, batch, budget, asked.budget)
    devices = {name: (device.flops, device.memory) for name, device in DEVICES.items()}
    if asked.memory is not None:
        devices[f"{asked.memory:g} GB"] = (math.nan, asked.memory)
    # {preset: (its shape, tokens of a row)}
    shapes = {
        name: (_shape(name, VOCABULARIES[name], 512), ROWS.get(name, ROW)[1]) for name in PRESETS
    } | {preset: (backbone, context)}
    lines = []
    for name, (peak, memory) in devices.items():
        hours = spent["flops"] / (peak * asked.utilization) / 3600
        fitting = [other for other, shape in shapes.items() if _rows_that_fit(*shape, memory)]
        lines.append(
            {
                "device": name,
                "memory_gb": memory,
                "rows": min(batch, _rows_that_fit(backbone, context, memory)),
                "hours": hours,
                "cost": hours * prices[name] if name in prices else None,
                "largest": fitting[-1] if fitting else None,
            }
        )
    return PlanResults.of(
        {
            "objective": objective.spec,
            "model": preset,
            "parameters": backbone.parameter_count,
            "batch": batch,
            "context": context,
            "learning_rate": settings.train.learning_rate or default_learning_rate(backbone.width),
            "steps": steps,
            **spent,
            "utilization": asked.utilization,
            "devices": lines,
            "foretold": [] if study is None else _foretold(study, settings, spent["flops"]),
        }
    )


def shape_of(study: ComparisonResults) -> dict[str, Any]:
    """{dotted name of a setting: value} of the model of a study, and of its rows."""
    found = {}
    for name in ("model.preset", "model.context", "train.batch"):
        if (value := _setting(study, name)) is not None:
            found[name] = value
    if study.corpus.vocabulary is not None:
        found["data.vocabulary"] = study.corpus.vocabulary
    return found


def _setting(study: ComparisonResults, name: str) -> Any:
    """A setting of a study by its dotted name; None where its file has none."""
    section, _, field = name.partition(".")
    fields = study.settings.get(section)
    return fields.get(field) if isinstance(fields, dict) else None


def _prices(given: list[str]) -> dict[str, float]:
    """{device: price of an hour}."""
    prices = {}
    for text in given:
        name, _, number = text.partition("=")
        try:
            price = float(number)
        except ValueError:
            price = math.nan
        if name not in DEVICES or not 0 <= price < math.inf:
            raise UserError(
                f"--price {one_line(text, 60)}: give DEVICE=PRICE, such as h100=2.99, of one of "
                f"{', '.join(DEVICES)}"
            )
        prices[name] = price
    return prices


def _shape(
    preset: str, vocabulary: int, context: int, heads: tuple[HeadSpec, ...] = ()
) -> Backbone:
    """A model without its weights."""
    with torch.device("meta"):
        return build(
            preset=preset, vocabulary=vocabulary, context=context, special=None, heads=heads
        )


def _cost(
    objective: Objective,
    backbone: Backbone,
    rows: RowSource,
    batch: int,
    budget: Budget,
    given: str | None,
) -> tuple[int, dict[str, float]]:
    """(steps, {"tokens", "flops"}) of a run at a budget."""

    def cost(phase: Objective, unit: Any) -> float:
        return expected_cost(phase, backbone, rows, batch, unit)

    steps = make_plan(objective, budget, partial(cost, unit=budget.unit), given).steps
    spent = {
        unit: steps_cost(objective, steps, partial(cost, unit=unit)) for unit in ("tokens", "flops")
    }
    return sum(steps), spent


def _rows_that_fit(backbone: Backbone, context: int, memory: float) -> int:
    """Rows of a forward pass in bf16 that a device of so many gigabytes has room for."""
    held, more = (
        training_bytes(backbone.sizes, backbone.parameter_count, tokens, width=2, gpu=True)
        for tokens in (0, context)
    )
    return max(0, int(((1 - SPARE) * memory * 1e9 - held) / (more - held)))


def _foretold(study: ComparisonResults, settings: Settings, flops: float) -> list[dict[str, Any]]:
    """What each objective of a study is foretold at a budget, or why nothing is."""
    lines: list[dict[str, Any]] = []
    other = [
        f"{name} {own}"
        for name, own in shape_of(study).items()
        if own != attrgetter(name)(settings)
    ]
    for spec in dict.fromkeys(run.objective for run in study.runs):
        line: dict[str, Any] = {"objective": spec}
        if other:
            line["reason"] = (
                f"do not extrapolate: the study has {', '.join(other)}, and a law is of one model"
            )
        else:
            line |= _law_at(study, spec, flops)
        lines.append(line)
    return lines


def ladders_of(study: ComparisonResults, spec: str) -> list[list[Run]]:
    """The runs of an objective by seed and rung, both rising; none where bits per byte are not
    there at every place.
    """
    runs = [run for run in study.runs if run.objective == spec and run.bits_per_byte is not None]
    rungs, seeds = (sorted({getattr(run, key) for run in runs}) for key in ("rung", "seed"))
    by_place = {(run.seed, run.rung): run for run in runs}
    if len(by_place) != len(rungs) * len(seeds):
        return []
    return [[by_place[seed, rung] for rung in rungs] for seed in seeds]


def law_data(ladders: Sequence[Sequence[Run]]) -> tuple[list[float], np.ndarray]:
    """(mean FLOPs of each rung (R,), bits per byte (S, R)) of `ladders_of`, for `fit_law`."""
    bits = np.array([[run.bits_per_byte for run in ladder] for ladder in ladders], dtype=float)
    flops = [[run.budget.flops or math.nan for run in ladder] for ladder in ladders]
    return [float(spent) for spent in np.mean(flops, axis=0)], bits


def _law_at(study: ComparisonResults, spec: str, flops: float) -> dict[str, Any]:
    """{"mean", "low", "high"} of an objective at a budget, or {"reason"}."""
    ladders = ladders_of(study, spec)
    if not ladders:
        return {"reason": "do not extrapolate: bits per byte are not there at every rung"}
    spent, bits = law_data(ladders)
    law = fit_law(spent, bits, study.unigram_bits_per_byte)
    if isinstance(law, str):
        return {"reason": f"do not extrapolate: {law}"}
    times = flops / spent[-1]
    if flops < law.flops[0]:
        return {"reason": "do not extrapolate: the budget is below the rungs that the law is of"}
    if times > TIMES[-1]:
        return {
            "reason": f"do not extrapolate: the budget is {times:,.0f} times the study's, and a "
            f"law holds to {TIMES[-1]:g} times at most"
        }
    epochs = times * float(np.mean([ladder[-1].epochs or 0 for ladder in ladders]))
    if epochs > MANY_EPOCHS:
        return {
            "reason": f"do not extrapolate: the study's text would be read {epochs:.0f} times; "
            "give more text"
        }
    mean, low, high = law.at(flops)
    return {"mean": mean, "low": low, "high": high}
