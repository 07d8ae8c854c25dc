"""Identities and the bound, on the enumerable worlds and on random joints, against enumeration."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.worlds_shown import world_figures, worlds
from lookaround.objectives import parse
from lookaround.theory.bounds import (
    alpha,
    alpha_by_chance,
    alpha_from_spectrum,
    label_vectors,
    probe_bound,
    probe_error,
)
from lookaround.theory.spectrum import normalised
from lookaround.theory.worlds import literal_cooccurrence

SPECS = ["ar", "dar", "mlm(rate=0.25)", "mlm(rate=0.5)", "vmlm", "ar + mlm"]


def joints() -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(name, joint, labels): literal matrices of every world and objective, and random ones."""
    found = []
    for world in worlds():
        for spec in SPECS:
            literal = literal_cooccurrence(world, parse(spec))
            found.append(
                (
                    f"{world.name}, {spec}",
                    literal.joint[:, literal.joint.any(axis=0)],
                    literal.labels,
                )
            )
    generator = np.random.default_rng(0)
    for number in range(8):
        joint = generator.random((12, 9)) ** 4
        labels = generator.integers(0, 3, 12)
        labels[:3] = range(3)
        found.append((f"random {number}", joint / joint.sum(), labels))
    return found


JOINTS = joints()


@pytest.mark.parametrize(("name", "joint", "labels"), JOINTS, ids=[name for name, _, _ in JOINTS])
def test_alpha_is_the_same_by_enumeration_by_sums_and_by_the_spectrum(
    name: str, joint: np.ndarray, labels: np.ndarray
) -> None:
    of_target = joint.sum(axis=0)
    pairs = (joint / of_target) @ joint.T  # P(c, c'): two contexts drawn through a shared target
    by_enumeration = pairs[labels[:, None] != labels[None, :]].sum()
    scaled, of_context, _ = normalised(joint)
    left, values, _ = np.linalg.svd(scaled)
    u = label_vectors(labels, of_context)
    whole = np.zeros(len(joint))
    whole[: len(values)] = values
    identity = ((1 - whole**2) * np.square(left.T @ u).sum(axis=1)).sum()
    assert identity == pytest.approx(by_enumeration, abs=1e-10)
    assert alpha(joint, labels) == pytest.approx(by_enumeration, abs=1e-10)
    assert alpha_from_spectrum(left[:, : len(values)], values, u) == pytest.approx(
        by_enumeration, abs=1e-10
    )


@pytest.mark.parametrize(("name", "joint", "labels"), JOINTS, ids=[name for name, _, _ in JOINTS])
@pytest.mark.parametrize("rank", [1, 2, 3, 5])
def test_the_probe_errs_no_more_than_the_bounds(
    name: str, joint: np.ndarray, labels: np.ndarray, rank: int
) -> None:
    scaled, of_context, _ = normalised(joint)
    left, values, _ = np.linalg.svd(scaled, full_matrices=False)
    rank = min(rank, len(values))
    found = probe_bound(left, values, of_context, labels, rank)
    # the probe itself: weighted least squares on the features, by numpy's solver
    features = left[:, :rank] / np.sqrt(of_context)[:, None]
    root = np.sqrt(of_context)[:, None]
    targets = np.eye(labels.max() + 1)[labels]
    solution, *_ = np.linalg.lstsq(root * features, root * targets, rcond=None)
    residual = (of_context[:, None] * np.square(targets - features @ solution)).sum()
    u = label_vectors(labels, of_context)
    outside = np.square(u).sum() - np.square(left[:, :rank].T @ u).sum()
    assert residual == pytest.approx(outside, abs=1e-10), (
        "the residual is what lies outside the kept directions"
    )
    scores = features @ solution
    best = (
        scores.max(axis=1, keepdims=True) - scores < 1e-9
    )  # of ties, either answer is the probe's
    error_low = of_context[~best[np.arange(len(labels)), labels]].sum()
    error_high = of_context[(best.sum(axis=1) > 1) | ~best[np.arange(len(labels)), labels]].sum()
    assert error_low - 1e-9 <= found.error <= error_high + 1e-9
    assert found.error <= found.bound + 1e-8
    assert found.bound <= found.spectral_bound + 1e-8
    assert probe_error(left[:, :rank], of_context, labels) == found.error


def test_a_world_where_the_bound_is_below_chance() -> None:
    sticky = next(world for world in worlds() if world.name == "sticky")
    figures = world_figures(literal_cooccurrence(sticky, parse("mlm(rate=0.25)")), rank=2)
    assert figures.probe.spectral_bound < 0.2 < figures.chance
    assert figures.probe.error <= figures.probe.bound <= figures.probe.spectral_bound


def test_a_world_where_tail_energy_ranks_against_error() -> None:
    """In "agreement", where the first token decides the last, both ways round and never for lack of
    a better answer.
    """
    world = next(world for world in worlds() if world.name == "agreement")

    def figures(spec: str, rank: int):  # type: ignore[no-untyped-def]
        return world_figures(literal_cooccurrence(world, parse(spec)), rank)

    ar, mlm = figures("ar", 4), figures("mlm(rate=0.25)", 4)
    assert ar.tail < mlm.tail - 0.5
    assert mlm.probe.error < ar.probe.error - 0.1
    mlm, dar = figures("mlm(rate=0.5)", 2), figures("dar", 2)
    assert mlm.tail < dar.tail - 0.5
    assert dar.probe.error < mlm.probe.error - 0.05
    assert dar.probe.error < dar.chance - 0.1


def test_contexts_without_a_label_are_left_out() -> None:
    joint = np.array([[0.3, 0.1], [0.1, 0.2], [0.2, 0.1]])
    labels = np.array([0, 1, -1])
    assert alpha(joint, labels) == pytest.approx(alpha(joint[:2] / joint[:2].sum(), labels[:2]))
    share = np.array([0.4, 0.3]) / 0.7
    assert alpha_by_chance(joint, labels) == pytest.approx(1 - (share**2).sum())
