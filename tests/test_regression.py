"""Labels that are numbers: correlations, ridge probes and baselines, against scipy and sklearn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler

from lookaround.evaluation.baselines import run_baselines
from lookaround.evaluation.intervals import resample
from lookaround.evaluation.probe import (
    METRICS,
    beside,
    least_squares_probe,
    linear_probe,
    score,
)
from lookaround.evaluation.registry import TaskData
from lookaround.settings import EvaluateSettings


def correlated(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    true = generator.normal(2.5, 1.0, n)
    return true, true + generator.normal(0, 1.0, n)


def test_the_correlations_are_those_of_scipy() -> None:
    true, predicted = correlated(50)
    assert score("pearson", true, predicted) == pytest.approx(stats.pearsonr(true, predicted)[0])
    tied = np.round(predicted)
    assert beside("pearson", true, tied)["spearman"] == pytest.approx(
        stats.spearmanr(true, tied).statistic
    )
    assert beside("accuracy", true, tied) == {}


@pytest.mark.parametrize("constant", [0.0, 2.7, 1e6 / 3])
def test_a_constant_prediction_scores_0(constant: float) -> None:
    true, _ = correlated(50)
    assert score("pearson", true, np.full(50, constant)) == 0
    assert score("pearson", np.full(50, constant), true) == 0


def test_a_resample_is_scored_like_the_whole() -> None:
    true, predicted = correlated(40)
    values = resample(METRICS["pearson"], (true, predicted), 3)
    draws = np.random.default_rng(0).integers(40, size=(3, 40))
    right = [stats.pearsonr(true[draw], predicted[draw])[0] for draw in draws]
    np.testing.assert_allclose(values, right)


def test_the_probe_is_ridge_regression_on_the_layer_that_tells_most() -> None:
    generator = np.random.default_rng(0)
    noise, weights = generator.normal(size=(300, 6)), generator.normal(size=6)
    clear = generator.normal(size=(300, 6))
    labels = clear @ weights + 0.5 * generator.normal(size=300)
    features = np.stack([noise, clear])
    found = linear_probe(
        features[:, :200], labels[:200], features[:, 200:], labels[200:], metric="pearson"
    )
    assert found.layer == 1
    scaler = StandardScaler().fit(clear[:200])
    model = Ridge(found.strength).fit(scaler.transform(clear[:200]), labels[:200])
    np.testing.assert_allclose(found.predicted, model.predict(scaler.transform(clear[200:])))
    assert found.score == pytest.approx(stats.pearsonr(labels[200:], found.predicted)[0])

    closed = least_squares_probe(
        clear[:200], labels[:200], clear[200:], labels[200:], metric="pearson"
    )
    right = RidgeCV(tuple(10.0**k for k in range(-1, 5)))
    right.fit(scaler.transform(clear[:200]), labels[:200])
    np.testing.assert_allclose(closed.predicted, right.predict(scaler.transform(clear[200:])))


def test_baselines_of_numbers() -> None:
    """What a bag of words can say of numbers, TF-IDF does; the mean says nothing."""
    generator = np.random.default_rng(0)
    names = ["none", "few", "some", "many"]
    labels = generator.integers(4, size=120)
    texts = [f"of them {names[label]} came" for label in labels]
    numbers = labels.astype(float)
    data = TaskData("n", "pearson", texts[:80], numbers[:80], texts[80:], numbers[80:])
    found = run_baselines(data, EvaluateSettings(), ["probe"])
    assert found["majority"].value == 0 and found["majority"].details == {"spearman": 0}
    assert found["tfidf"].value > 0.95 and found["tfidf"].details["spearman"] > 0.95
