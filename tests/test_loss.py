"""The loss of a component has one spelling: the step, the log and validation."""

from __future__ import annotations

import math

import pytest
import torch

from conftest import objective_loss
from lookaround.model.backbone import Backbone, build
from lookaround.objectives import Component, parse
from lookaround.objectives.checks import random_batch
from lookaround.train.loss import ComponentSums


def backbone(spec: str) -> Backbone:
    heads = parse(spec).head_specs()
    return build(
        preset="nano", vocabulary=100, context=64, special={}, heads=heads, seed=1
    ).double()


def sums_of(spec: str, rows: torch.Tensor) -> ComponentSums:
    objective, model = parse(spec), backbone(spec)
    views = objective.view(random_batch(16, 20).take(rows), 0, 0)
    sums = ComponentSums(objective.components())
    sums.count(views)
    sums.add(objective_loss(model, objective, views, [1.0] * len(views))[1])
    return sums


def test_the_mean_is_the_components_means_by_their_coefficients() -> None:
    sums = sums_of("ar + 3*mlm(rate=0.5)", torch.arange(16))
    by_hand = [float(t / n) for t, n in zip(sums.totals, sums.normalisers, strict=True)]
    assert sums.mean() == pytest.approx(0.25 * by_hand[0] + 0.75 * by_hand[1], rel=1e-12)


def test_a_component_that_scored_nothing_does_not_lower_the_mean() -> None:
    """Its coefficient leaves the divisor with it, so that a log and a validation of few rows are
    comparable.
    """
    for row in range(16):
        sums = sums_of("ar + 3*mlm(rate=0.5)", torch.tensor([row]))
        (there,) = sums.normalisers.nonzero().flatten().tolist()
        assert sums.mean() == pytest.approx(
            float(sums.totals[there] / sums.normalisers[there]), rel=1e-12
        )
    assert math.isnan(ComponentSums((Component("ar"),)).mean())


def test_sums_of_steps_are_the_sums_of_one_step_and_end_with_a_phase() -> None:
    halves = [sums_of("ar + mlm(rate=0.5)", torch.arange(16)[part::2]) for part in (0, 1)]
    whole = sums_of("ar + mlm(rate=0.5)", torch.arange(16))
    assert halves[0].merge(halves[1]).mean() == pytest.approx(whole.mean(), rel=1e-12)
    later = sums_of("ar", torch.arange(16))
    assert whole.merge(later).mean() == later.mean()


def test_the_loss_of_a_step_is_the_mean_of_its_sums() -> None:
    spec = "ar + 3*mlm(rate=0.5)"
    objective, model = parse(spec), backbone(spec)
    views = objective.view(random_batch(16, 20), 0, 0)
    sums = ComponentSums(objective.components())
    sums.count(views)
    loss, totals = objective_loss(model, objective, views, sums.scales(1))
    sums.add(totals)
    assert float(loss.detach()) == pytest.approx(sums.mean(), rel=1e-12)
