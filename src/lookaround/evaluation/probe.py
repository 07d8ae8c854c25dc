"""The linear probe of a text: a linear model of classes or numbers on a frozen model's mean-pooled
states.

n examples, L candidate layers, D hidden width.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge, RidgeClassifierCV, RidgeCV
from sklearn.metrics import matthews_corrcoef
from sklearn.model_selection import GroupShuffleSplit, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from lookaround.evaluation.features import candidate_layers, encoded, pooled_states
from lookaround.evaluation.logistic import Logistic, fit_logistic
from lookaround.evaluation.registry import Details, Protocol, Scores, TaskData
from lookaround.model.readable import Readable
from lookaround.settings import EvaluateSettings
from lookaround.support.records import Count

# C of logistic regression on standardised features; smaller is stronger
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
# alpha of ridge regression on standardised features
RIDGE_STRENGTHS = tuple(10.0**k for k in range(-1, 5))


def pearson(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Correlations (..) of labels and predictions (.., n); 0 where one of them is constant."""
    centred = [column - column.mean(-1, keepdims=True) for column in (true, predicted)]
    norms = [np.sqrt((column**2).sum(-1)) for column in centred]
    # what rounding leaves of a constant
    largest = [np.abs(column).max(-1) for column in (true, predicted)]
    constant = (norms[0] <= 1e-12 * largest[0]) | (norms[1] <= 1e-12 * largest[1])
    product = np.where(constant, 1.0, norms[0] * norms[1])
    return np.where(constant, 0.0, (centred[0] * centred[1]).sum(-1) / product)


# labels and predictions (.., n) -> scores (..)
METRICS: dict[str, Callable[..., np.ndarray]] = {
    "accuracy": lambda true, predicted: np.mean(true == predicted, axis=-1),
    "matthews": np.vectorize(matthews_corrcoef, otypes=[float], signature="(n),(n)->()"),
    "pearson": pearson,
}


@dataclass(frozen=True)
class ProbeResult:
    """A probe's test score and predictions (n_test,), and the layer and strength that were chosen.

    strength: C of logistic regression, alpha of ridge regression.
    """

    score: float
    predicted: np.ndarray
    layer: int
    strength: float


def score(metric: str, true: np.ndarray, predicted: np.ndarray) -> float:
    """The metric (one of METRICS) of predictions (n,) against labels (n,)."""
    return float(METRICS[metric](true, predicted))


def beside(metric: str, true: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """What details say beside the metric: Spearman's correlation where numbers are predicted."""
    if metric != "pearson":
        return {}
    return {"spearman": float(pearson(rankdata(true), rankdata(predicted)))}


def linear_probe(
    train_lnd: np.ndarray,
    train_labels: np.ndarray,
    test_lnd: np.ndarray,
    test_labels: np.ndarray,
    *,
    metric: str = "accuracy",
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> ProbeResult:
    """A linear model of frozen features; layer and strength chosen inside the training part. Ours.

    Logistic regression of classes, or ridge regression of numbers (metric "pearson").

    train_lnd (L, n_train, D) and test_lnd (L, n_test, D) float; labels (n,) int, or float.
    groups: (n_train,) int; examples of one group are on one side of the split inside the training
        part.
    """
    layers, regression = len(train_lnd), metric == "pearson"
    strengths = RIDGE_STRENGTHS if regression else STRENGTHS
    usual = strengths[len(strengths) // 2 if regression else 1]
    if groups is None:
        fit, held = split_off(train_labels, seed, regression)
    else:
        split = GroupShuffleSplit(1, test_size=0.2, random_state=seed)
        fit, held = next(split.split(groups, groups=groups))

    def held_out(layer: int, strength: float) -> float:
        model = _fit(train_lnd[layer][fit], train_labels[fit], strength, regression)
        return score(metric, train_labels[held], model.predict(train_lnd[layer][held]))

    by_layer = {(layer, usual): held_out(layer, usual) for layer in range(layers)}
    layer = max(by_layer, key=lambda key: by_layer[key])[0]
    by_strength = {c: by_layer.get((layer, c)) or held_out(layer, c) for c in strengths}
    strength = max(by_strength, key=lambda c: by_strength[c])
    model = _fit(train_lnd[layer], train_labels, strength, regression)
    predicted = model.predict(test_lnd[layer])
    return ProbeResult(score(metric, test_labels, predicted), predicted, layer, strength)


def split_off(
    labels: np.ndarray, seed: int, regression: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of four fifths of some examples, and of a fifth to choose by.

    Classes are shared out evenly, unless there are too few examples to have each on both sides.
    """
    few = regression
    if not regression:
        counts = np.unique(labels, return_counts=True)[1]
        few = counts.min() < 2 or len(labels) // 5 < len(counts)
    fit, held = train_test_split(
        np.arange(len(labels)),
        test_size=0.2,
        random_state=seed,
        stratify=None if few else labels,
    )
    return fit, held


def _fit(
    features_nd: np.ndarray, labels: np.ndarray, strength: float, regression: bool
) -> Pipeline | Logistic:
    if not regression:
        return fit_logistic(features_nd, labels, strength)
    return make_pipeline(StandardScaler(), Ridge(strength)).fit(features_nd, labels)


def fitted(model: Pipeline, inputs: Any, labels: np.ndarray) -> Pipeline:
    """The model fitted to labels (n,), without a warning where it ends by its iterations, or where
    there are many classes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes")
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
    ridge: BaseEstimator = (RidgeCV if metric == "pearson" else RidgeClassifierCV)(RIDGE_STRENGTHS)
    model = fitted(make_pipeline(StandardScaler(), ridge), train_nd, train_labels)
    predicted = model.predict(test_nd)
    return ProbeResult(score(metric, test_labels, predicted), predicted, 0, float(model[-1].alpha_))


class ProbeDetails(Details):
    layer: Count


class Probe(Protocol[TaskData]):
    """A linear probe of mean-pooled states; layer and strength are chosen on training examples."""

    name, needs, title = "probe", TaskData, "mean score"
    need = "label_texts"
    kept = ProbeDetails

    def run(
        self, readable: Readable, data: TaskData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        """Its items are (true, predicted) of each test example."""
        attention = self.mode(readable, settings).attention
        (train_ids, cut), (test_ids, cut_test) = (
            encoded(readable.codec, inputs, readable.context)
            for inputs in (data.train_inputs, data.test_inputs)
        )
        train, test = (
            pooled_states(readable.backbone, readable.codec, ids, attention)
            for ids in (train_ids, test_ids)
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
                **beside(data.metric, data.test_labels, probe.predicted),
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
