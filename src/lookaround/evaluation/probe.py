"""The linear probe of a text: logistic regression on a frozen model's mean-pooled states.

n examples, L candidate layers, D hidden width.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.metrics import matthews_corrcoef
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from lookaround.evaluation.features import candidate_layers, pooled_states
from lookaround.evaluation.registry import Protocol, Scores, TaskData
from lookaround.model.readable import Readable
from lookaround.settings import EvaluateSettings

# C of logistic regression on standardised features; smaller is stronger
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
# alpha of ridge regression on standardised features
RIDGE_STRENGTHS = tuple(10.0**k for k in range(-1, 5))

# labels and predictions (.., n) -> scores (..)
METRICS: dict[str, Callable[..., np.ndarray]] = {
    "accuracy": lambda true, predicted: np.mean(true == predicted, axis=-1),
    "matthews": np.vectorize(matthews_corrcoef, otypes=[float], signature="(n),(n)->()"),
}


@dataclass(frozen=True)
class ProbeResult:
    """A probe's test score and predictions (n_test,), and the layer and C that were chosen."""

    score: float
    predicted: np.ndarray
    layer: int
    strength: float


def score(metric: str, true: np.ndarray, predicted: np.ndarray) -> float:
    """The metric ("accuracy" or "matthews") of predictions (n,) against labels (n,)."""
    return float(METRICS[metric](true, predicted))


def linear_probe(
    train_lnd: np.ndarray,
    train_labels: np.ndarray,
    test_lnd: np.ndarray,
    test_labels: np.ndarray,
    *,
    metric: str = "accuracy",
    seed: int = 0,
) -> ProbeResult:
    """Logistic regression on frozen features; layer and C chosen inside the training part. Ours.

    train_lnd (L, n_train, D) and test_lnd (L, n_test, D) float; labels (n,) int.
    """
    layers = len(train_lnd)
    counts = np.unique(train_labels, return_counts=True)[1]
    # too few to have every class on both sides
    few = counts.min() < 2 or len(train_labels) // 5 < len(counts)
    fit, held = train_test_split(
        np.arange(len(train_labels)),
        test_size=0.2,
        random_state=seed,
        stratify=None if few else train_labels,
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
    return fitted(
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200)),
        features_nd,
        labels,
    )


def fitted(model: Pipeline, inputs: Any, labels: np.ndarray) -> Pipeline:
    """The model fitted to labels (n,), without a warning where it ends by its iterations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(inputs, labels)


def least_squares_probe(
    train_nd: np.ndarray,
    train_labels: np.ndarray,
    test_nd: np.ndarray,
    test_labels: np.ndarray,
    *,
    metric: str = "accuracy",
) -> ProbeResult:
    """Ridge regression on standardised features (n, D); its strength by leave-one-out.

    The least-squares probe that the bounds of theory speak of, in closed form: many features are
    tried in seconds.
    """
    model = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=RIDGE_STRENGTHS)).fit(
        train_nd, train_labels
    )
    predicted = model.predict(test_nd)
    return ProbeResult(score(metric, test_labels, predicted), predicted, 0, float(model[-1].alpha_))


class Probe(Protocol[TaskData]):
    """A linear probe of mean-pooled states; layer and strength are chosen on training examples."""

    name, needs, title = "probe", TaskData, "mean score"
    need, floor = "label_texts", "tfidf"

    def run(
        self, readable: Readable, data: TaskData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        """Its items are (true, predicted) of each test example."""
        attention = self.mode(readable, settings).attention
        (train, cut), (test, cut_test) = (
            pooled_states(
                readable.backbone, readable.tokenizer, inputs, attention, readable.context
            )
            for inputs in (data.train_inputs, data.test_inputs)
        )
        probe = linear_probe(
            train, data.train_labels, test, data.test_labels, metric=data.metric, seed=seed
        )
        layers = candidate_layers(readable.backbone.sizes.layers)
        return Scores(
            data.metric,
            probe.score,
            items=(data.test_labels.tolist(), probe.predicted.tolist()),
            details={
                "layer": layers[probe.layer],
                "strength": probe.strength,
                "cut": cut + cut_test,
            },
        )

    def statistic(self, metric: str, *items: np.ndarray) -> np.ndarray:
        return METRICS[metric](*items)

    def entry(
        self, scores: Mapping[str, Scores], settings: EvaluateSettings, *, whole: bool = False
    ) -> dict[str, Any]:
        """{"classification": {task: score}, "layers": {task: the chosen one}}."""
        if whole:
            return {"classification": {name: self.record(found) for name, found in scores.items()}}
        return {
            "classification": {name: found.value for name, found in scores.items()},
            "layers": {name: found.details["layer"] for name, found in scores.items()},
        }
