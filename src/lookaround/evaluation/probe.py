"""Linear probes: arrays in, scores out.

n examples, L candidate layers, D hidden width.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.metrics import matthews_corrcoef
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["METRICS", "ProbeResult", "least_squares_probe", "linear_probe", "majority", "score", "tfidf"]

STRENGTHS = (0.001, 0.01, 0.1, 1.0)  # C of logistic regression on standardised features; smaller is stronger
RIDGE_STRENGTHS = tuple(10.0**k for k in range(-1, 5))  # alpha of ridge regression on standardised features

METRICS = {
    "accuracy": lambda true, predicted: float(np.mean(true == predicted)),
    "matthews": lambda true, predicted: float(matthews_corrcoef(true, predicted)),
}


@dataclass(frozen=True)
class ProbeResult:
    """A probe's score on the test part, its predictions (n_test,), and the layer and C chosen inside the training part."""

    score: float
    predicted: np.ndarray
    layer: int
    strength: float


def score(metric: str, true: np.ndarray, predicted: np.ndarray) -> float:
    """The metric ("accuracy" or "matthews") of predictions (n,) against labels (n,)."""
    return METRICS[metric](true, predicted)


def linear_probe(
    train_lnd: np.ndarray,
    train_labels: np.ndarray,
    test_lnd: np.ndarray,
    test_labels: np.ndarray,
    *,
    metric: str = "accuracy",
    seed: int = 0,
) -> ProbeResult:
    """Logistic regression on frozen features; layer, then strength, chosen on a fifth of the training part. Ours.

    train_lnd (L, n_train, D) and test_lnd (L, n_test, D) float; labels (n,) int.
    """
    layers = len(train_lnd)
    counts = np.unique(train_labels, return_counts=True)[1]
    few = counts.min() < 2 or len(train_labels) // 5 < len(
        counts
    )  # too few to have every class on both sides
    fit, held = train_test_split(
        np.arange(len(train_labels)), test_size=0.2, random_state=seed, stratify=None if few else train_labels
    )

    def held_out(layer: int, strength: float) -> float:
        model = _fit(train_lnd[layer][fit], train_labels[fit], strength)
        return score(metric, train_labels[held], model.predict(train_lnd[layer][held]))

    by_layer = {(layer, STRENGTHS[1]): held_out(layer, STRENGTHS[1]) for layer in range(layers)}
    layer = max(by_layer, key=lambda key: by_layer[key])[0]
    by_strength = {c: by_layer.get((layer, c)) or held_out(layer, c) for c in STRENGTHS}
    strength = max(by_strength, key=lambda c: by_strength[c])
    model = _fit(train_lnd[layer], train_labels, strength)
    predicted = model.predict(test_lnd[layer])
    return ProbeResult(score(metric, test_labels, predicted), predicted, layer, strength)


def _fit(features_nd: np.ndarray, labels: np.ndarray, strength: float) -> Pipeline:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features_nd, labels)


def least_squares_probe(
    train_nd: np.ndarray,
    train_labels: np.ndarray,
    test_nd: np.ndarray,
    test_labels: np.ndarray,
    *,
    metric: str = "accuracy",
) -> ProbeResult:
    """Ridge regression on standardised features (n, D); its strength chosen by leave-one-out on the training part.

    The least-squares probe that the bounds of theory speak of, in closed form: many features are tried in seconds.
    """
    model = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=RIDGE_STRENGTHS)).fit(
        train_nd, train_labels
    )
    predicted = model.predict(test_nd)
    return ProbeResult(score(metric, test_labels, predicted), predicted, 0, float(model[-1].alpha_))


def majority(train_labels: np.ndarray, test_labels: np.ndarray, metric: str) -> float:
    """The score of always answering the most frequent training class."""
    return score(metric, test_labels, np.full_like(test_labels, np.bincount(train_labels).argmax()))


def tfidf(
    train_texts: Sequence[str],
    train_labels: np.ndarray,
    test_texts: Sequence[str],
    test_labels: np.ndarray,
    metric: str,
) -> float:
    """The score of TF-IDF of words and word pairs with logistic regression: what needs no pretraining."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[^\w\s]")
    model = make_pipeline(vectorizer, LogisticRegression(C=10.0, max_iter=300))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(list(train_texts), train_labels)
    return score(metric, test_labels, model.predict(list(test_texts)))
