"""Spectra against whole SVDs, the spectral loss against its gradient and its optimum, features of
texts.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import check_grad, minimize

from benchmarks.worlds_shown import worlds
from lookaround.objectives import parse
from lookaround.support.errors import UserError
from lookaround.theory import spectrum as module
from lookaround.theory.lags import LagCounts
from lookaround.theory.matrices import cooccurrence, kept_contexts
from lookaround.theory.spectrum import (
    CooccurrenceSpectrum,
    mean_rows,
    normalised,
    truncated_svd,
)
from lookaround.theory.worlds import literal_cooccurrence


@pytest.fixture(scope="module")
def counts() -> LagCounts:
    generator = np.random.default_rng(0)
    step = generator.dirichlet(np.full(30, 0.1), 30)
    documents = []
    for _ in range(50):
        document = [0]
        for _ in range(200):
            document.append(int(generator.choice(30, p=step[document[-1]])))
        documents.append(document)
    return LagCounts.of_documents(
        documents, 30, [*range(1, 9), (2, 1), (1, -1), (-1, -2), (3, 2), (2, -1), (1, -2)]
    )


def test_fitted_values_are_those_of_the_whole_svd(counts: LagCounts) -> None:
    model = CooccurrenceSpectrum("mlm(rate=0.4)", rank=6, length=64, reach=8, min_count=1).fit(
        counts
    )
    law = kept_contexts(parse("mlm(rate=0.4)"), 1, 64, 8)
    joint = np.asarray(cooccurrence(counts, law, min_count=1).matrix)
    of_context, of_target = joint.sum(axis=1), joint.sum(axis=0)
    scaled = joint / np.sqrt(np.outer(of_context, of_target))
    left, values, right = np.linalg.svd(scaled)
    assert values[0] == pytest.approx(1)
    assert model.singular_values_ == pytest.approx(values[:6])
    assert model.tail_energy_ == pytest.approx((values[6:] ** 2).sum())
    assert model.energy_ == pytest.approx((values**2).sum())
    best = left[:, :6] * values[:6] @ right[:6]
    found = np.sqrt(np.outer(of_context, of_target)) * (
        model.context_features_ @ model.target_features_.T
    )
    assert found == pytest.approx(best, abs=1e-10), "the best rank-6 matrix, through the features"
    share = values[:6] / values[:6].sum()
    assert model.effective_rank_ == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert model.residual_ < 1e-12
    assert (model.left_[np.abs(model.left_).argmax(axis=0), range(6)] > 0).all(), "signs are fixed"


def test_constructor_only_stores(counts: LagCounts) -> None:
    model = CooccurrenceSpectrum("nonsense(", rank=-3)
    assert (model.objective, model.rank) == ("nonsense(", -3)
    with pytest.raises(UserError):
        model.fit(counts)


@pytest.mark.parametrize("kind", ["sparse", "dense", "float32", "flat float32"])
def test_large_matrices_agree_with_the_whole_svd(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ARPACK on sparse and dense matrices, block Krylov on dense float32 ones where it
    converges.
    """
    generator = np.random.default_rng(1)
    joint = generator.pareto(0.6, (700, 620)).clip(0, 50) * (generator.random((700, 620)) < 0.2)
    if not kind.startswith("flat"):
        themes = generator.dirichlet(np.full(700, 0.1), 60).T @ generator.dirichlet(
            np.full(620, 0.1), 60
        )
        joint = joint / joint.sum() + 3 * themes / themes.sum()
    scaled, _, _ = normalised(joint / joint.sum())
    values = np.linalg.svd(scaled, compute_uv=False)
    given = {"sparse": sparse.csr_array(scaled), "dense": scaled}.get(
        kind, scaled.astype(np.float32)
    )
    used = []
    for name in ("_arpack", "_block_krylov"):
        real = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, name=name, real=real: used.append(name) or real(*a)
        )
    left, found, right, residual = truncated_svd(given, 16)
    expected = {"float32": ["_block_krylov"], "flat float32": ["_block_krylov", "_arpack"]}
    assert used == expected.get(kind, ["_arpack"])
    tolerance = 2e-5 if "float32" in kind else 1e-10
    assert found == pytest.approx(values[:16], abs=tolerance)
    assert left.T @ left == pytest.approx(np.eye(16), abs=1e-4)
    assert right.T @ right == pytest.approx(np.eye(16), abs=1e-4)
    measured = max(
        np.linalg.norm(scaled @ right - left * found, axis=0).max(),
        np.linalg.norm(scaled.T @ left - right * found, axis=0).max(),
    )
    assert residual == pytest.approx(measured, abs=1e-5)


def test_a_residual_too_large_is_never_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(0).random((800, 700)).astype(np.float32)
    wrong = lambda *_: (np.eye(800, 5), np.ones(5), np.eye(700, 5))  # noqa: E731
    monkeypatch.setattr(module, "_block_krylov", wrong)
    assert truncated_svd(matrix, 5)[3] < 1e-3, "ARPACK steps in"
    monkeypatch.setattr(module, "_arpack", wrong)
    with pytest.raises(UserError, match="did not converge"):
        truncated_svd(matrix, 5)


def test_ranks_above_the_usable_contexts_are_refused(counts: LagCounts) -> None:
    with pytest.raises(UserError, match="rank: 31 is above the 30 usable contexts"):
        CooccurrenceSpectrum("ar", rank=31, min_count=1).fit(counts)
    with pytest.raises(UserError, match="rank: 0"):
        truncated_svd(np.eye(4), 0)
    with pytest.raises(UserError, match="lag 9: was not counted"):
        CooccurrenceSpectrum("dar(horizon=12)", rank=4).fit(counts)


# -------------------------------------------------------------------------------- the spectral loss


def spectral_loss(
    joint: np.ndarray, context_features: np.ndarray, target_features: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """(loss, gradient by f (R, k), gradient by g (V', k)) of the spectral contrastive loss of
    tables of features.

    loss = -2 sum_cy A[c,y] f_c.g_y + sum_cy d_c d_y (f_c.g_y)^2 = ||Abar - F G^T||^2 - ||Abar||^2
    with F = D_c^1/2 f and G = D_t^1/2 g (HaoChen et al. 2021, equation 6, for pairs of two kinds).
    joint (R, V') sums to 1.
    """
    of_context, of_target = joint.sum(axis=1), joint.sum(axis=0)
    scores = context_features @ target_features.T
    product = np.outer(of_context, of_target)
    slope = 2 * (product * scores - joint)
    loss = float((product * scores**2 - 2 * joint * scores).sum())
    return loss, slope @ target_features, slope.T @ context_features


def test_the_spectral_loss_is_the_distance_to_the_matrix() -> None:
    generator = np.random.default_rng(2)
    joint = generator.random((6, 5))
    joint /= joint.sum()
    scaled, of_context, of_target = normalised(joint)
    f, g = generator.standard_normal((6, 3)), generator.standard_normal((5, 3))
    distance = (
        np.square(scaled - (np.sqrt(of_context)[:, None] * f) @ (np.sqrt(of_target)[:, None] * g).T)
    ).sum()
    loss, _, _ = spectral_loss(joint, f, g)
    assert loss == pytest.approx(distance - np.square(scaled).sum(), abs=1e-12)
    # as expectations over pairs: -2 E f.g + E over independent (c, y) of (f.g)^2
    by_pairs = -2 * sum(joint[c, y] * f[c] @ g[y] for c in range(6) for y in range(5))
    by_pairs += sum(
        of_context[c] * of_target[y] * (f[c] @ g[y]) ** 2 for c in range(6) for y in range(5)
    )
    assert loss == pytest.approx(by_pairs, abs=1e-12)

    def value(x: np.ndarray) -> float:
        return spectral_loss(joint, x[:18].reshape(6, 3), x[18:].reshape(5, 3))[0]

    def slope(x: np.ndarray) -> np.ndarray:
        _, df, dg = spectral_loss(joint, x[:18].reshape(6, 3), x[18:].reshape(5, 3))
        return np.concatenate([df.ravel(), dg.ravel()])

    assert check_grad(value, slope, np.concatenate([f.ravel(), g.ravel()])) < 1e-5


@pytest.mark.parametrize("spec", ["ar", "mlm(rate=0.4)", "dar", "vmlm"])
@pytest.mark.parametrize("name", ["sticky", "cycles", "agreement"])
def test_minimising_the_spectral_loss_gives_the_truncated_svd(name: str, spec: str) -> None:
    """L-BFGS from a random start, in float64, in worlds with a gap after the rank: F G^T to
    1e-8.
    """
    world = next(world for world in worlds() if world.name == name)
    joint = literal_cooccurrence(world, parse(spec)).joint
    joint = joint[:, joint.any(axis=0)]
    scaled, of_context, of_target = normalised(joint)
    left, values, right = np.linalg.svd(scaled, full_matrices=False)
    rank = next(k for k in (2, 1, 3, 4) if values[k] < 0.9 * values[k - 1])
    size = len(joint)
    # in F = D_c^1/2 f and G = D_t^1/2 g the problem is well conditioned
    roots = np.sqrt(of_context)[:, None], np.sqrt(of_target)[:, None]

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        f, g = x[: size * rank].reshape(-1, rank), x[size * rank :].reshape(-1, rank)
        loss, df, dg = spectral_loss(joint, f / roots[0], g / roots[1])
        return loss, np.concatenate([(df / roots[0]).ravel(), (dg / roots[1]).ravel()])

    generator = np.random.default_rng(0)
    x = np.concatenate(
        [generator.standard_normal(n * rank) / np.sqrt(n) for n in (size, joint.shape[1])]
    )
    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 0, "gtol": 1e-14, "maxcor": 50}
    for _ in range(3):  # a line search that rounding ends is started again from where it stood
        x = minimize(objective, x, jac=True, method="L-BFGS-B", options=options).x
    product = x[: size * rank].reshape(-1, rank) @ x[size * rank :].reshape(-1, rank).T
    best = left[:, :rank] * values[:rank] @ right[:rank]
    assert np.abs(product - best).max() < 1e-8


# -------------------------------------------------------------------------------- features of texts


def test_features_of_a_text_are_the_mean_over_its_known_tokens(counts: LagCounts) -> None:
    model = CooccurrenceSpectrum("ar", rank=6, min_count=200).fit(counts)
    known, unknown = int(model.contexts_[3]), int(np.setdiff1d(np.arange(30), model.contexts_)[0])
    other = int(model.contexts_[1])
    texts = [[known, known, other, unknown], [unknown], []]
    found = model.transform(texts, "context")
    expected = (2 * model.context_features_[3] + model.context_features_[1]) / 3
    assert found[0] == pytest.approx(expected)
    assert not found[1:].any(), "a text without a known token gets zeros"
    assert model.transform(texts, "target").shape == (3, 6)
    both = model.transform(texts)
    assert both.shape == (3, 6)
    assert both[0, :3] == pytest.approx(expected[:3])
    unit = model.transform([[known]], "target", "unit")
    place = int(np.searchsorted(model.targets_, known))
    if model.targets_[place] == known:
        assert np.linalg.norm(unit) == pytest.approx(1)
    with pytest.raises(ValueError, match="features must be"):
        model.transform(texts, "everything")
    with pytest.raises(ValueError, match="weighting must be"):
        model.transform(texts, "both", "tfidf")


def test_odd_ranks_are_shared_without_a_loss(counts: LagCounts) -> None:
    model = CooccurrenceSpectrum("ar", rank=7, min_count=1).fit(counts)
    assert model.transform([[1, 2]]).shape == (1, 7)


def test_bigram_contexts(counts: LagCounts) -> None:
    model = CooccurrenceSpectrum("ar", context=2, rank=5, min_count=5).fit(counts)
    packed = int(model.contexts_[0])
    bits = model.cooccurrence_.code.bits
    bigram = [packed >> bits, packed & ((1 << bits) - 1)]
    assert model.transform([bigram], "context")[0] == pytest.approx(model.context_features_[0])
    assert not model.transform([bigram[:1]], "context").any(), "too short for a bigram"
    masked = CooccurrenceSpectrum("mlm(rate=0.2)", context=2, rank=5, min_count=5, reach=3)
    law = masked.shares()
    assert (1, -1) in law
    assert masked.fit(counts_of(law)).singular_values_[0] == pytest.approx(1)


def counts_of(law: dict) -> LagCounts:
    generator = np.random.default_rng(0)
    return LagCounts.of_documents([generator.integers(0, 6, 300) for _ in range(9)], 6, law)


def test_means_of_rows() -> None:
    weights = mean_rows(
        [np.array([5, 9, 5]), np.array([2]), np.array([], dtype=int)], np.array([2, 5, 7, 9])
    ).toarray()
    assert weights == pytest.approx(np.array([[0, 2 / 3, 0, 1 / 3], [1, 0, 0, 0], [0, 0, 0, 0]]))
