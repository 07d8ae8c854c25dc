"""Connectivity: components and meeting contexts against brute force, exact against drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from lookaround.theory import graph as module
from lookaround.theory.graph import components, connectivity, meeting_share


def random_joint(seed: int, shape: tuple[int, int] = (40, 30), density: float = 0.05) -> np.ndarray:
    generator = np.random.default_rng(seed)
    joint = generator.random(shape) * (generator.random(shape) < density)
    return joint / joint.sum()


def by_union(joint: np.ndarray) -> int:
    """Components by merging sets of vertices."""
    groups: list[set] = []
    for row, column in zip(*joint.nonzero(), strict=True):
        edge = {("row", row), ("column", column)}
        touching = [group for group in groups if group & edge]
        groups = [group for group in groups if not group & edge] + [set.union(edge, *touching)]
    return len(groups)


@pytest.mark.parametrize("seed", range(12))
def test_components_of_sparse_and_dense_matrices(seed: int) -> None:
    joint = random_joint(seed, density=0.01 + 0.005 * seed)
    assert components(joint) == components(sparse.csr_array(joint)) == by_union(joint)


def meeting_by_hand(joint: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    of_context = joint.sum(axis=1)
    shares = {"all": [0.0, 0.0], "within": [0.0, 0.0], "between": [0.0, 0.0]}
    for a in range(len(joint)):
        for b in range(len(joint)):
            weight = of_context[a] * of_context[b]
            meets = bool(((joint[a] > 0) & (joint[b] > 0)).any())
            groups = ["all"]
            if labels[a] >= 0 and labels[b] >= 0:
                groups.append("within" if labels[a] == labels[b] else "between")
            for group in groups:
                shares[group][0] += weight * meets
                shares[group][1] += weight
    return tuple(hit / whole for hit, whole in shares.values())  # type: ignore[return-value]


def test_meeting_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    joint = random_joint(1, density=0.1)
    labels = np.random.default_rng(0).integers(-1, 3, len(joint))
    everything, within, between = meeting_by_hand(joint, labels)
    share, error, inside, across = meeting_share(joint, labels)
    assert (share, error, inside, across) == pytest.approx((everything, 0, within, between))
    monkeypatch.setattr(module, "EXACT_CONTEXTS", 10)
    for matrix in (joint, sparse.csr_array(joint)):
        share, error, inside, across = meeting_share(matrix, labels, draws=20_000, seed=3)
        assert 0 < error < 0.01
        assert share == pytest.approx(everything, abs=4 * error)
        assert inside == pytest.approx(within, abs=0.03)
        assert across == pytest.approx(between, abs=0.03)


def test_classes_that_share_no_target() -> None:
    block = np.kron(np.eye(2), np.ones((3, 3))) / 18
    found = connectivity(block, np.array([1.0, 1.0]), np.array([0, 0, 0, 1, 1, 1]))
    assert (found.components, found.gap) == (2, 0.0)
    assert (found.within, found.between) == (1.0, 0.0)
    assert found.meeting == pytest.approx(0.5)
    assert not found.saturated


def test_saturated_where_everything_meets() -> None:
    found = connectivity(np.full((4, 4), 1 / 16), np.array([1.0]))
    assert found.saturated
    assert np.isnan(found.within)
