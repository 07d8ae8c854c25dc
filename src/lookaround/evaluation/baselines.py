"""What needs no pretrained model: the scores that a model has to be better than."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from lookaround.evaluation.bits_per_byte import (
    BitsPerByte,
    bits_scores,
    scored_tokens,
    unigram_bits,
)
from lookaround.evaluation.probe import beside, fitted, score
from lookaround.evaluation.registry import (
    AnyData,
    Protocol,
    Scores,
    TaskData,
    TextData,
    registered,
)
from lookaround.model.readable import Readable
from lookaround.settings import EvaluateSettings

Data = TypeVar("Data")


class Baseline(Protocol[Data]):
    """A protocol that reads no model.

    beside: names of the protocols that it stands beside.
    """

    reads_model = False
    beside: ClassVar[tuple[str, ...]]

    @abstractmethod
    def run(
        self, readable: Readable | None, data: Data, settings: EvaluateSettings, seed: int
    ) -> Scores: ...


class Majority(Baseline[TaskData]):
    """Always the most frequent class of the training part; the mean of numbers, which says 0."""

    name, needs, title = "majority", TaskData, "majority class"
    beside = ("probe", "finetune")

    def run(
        self, readable: Readable | None, data: TaskData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        labels = data.train_labels
        usual = labels.mean() if data.is_regression else np.bincount(labels).argmax()
        answer = np.full_like(data.test_labels, usual)
        return _scores(data, answer)


class TfIdf(Baseline[TaskData]):
    """TF-IDF of words and word pairs with logistic or ridge regression, where inputs are texts."""

    name, needs, title = "tfidf", TaskData, "TF-IDF with logistic regression"
    beside = ("probe", "finetune")

    def accepts(self, data: object) -> bool:
        return isinstance(data, TaskData) and data.is_text

    def run(
        self, readable: Readable | None, data: TaskData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        return _scores(data, tfidf_predictions(data))


def tfidf_predictions(data: TaskData) -> np.ndarray:
    """Predictions (n_test,) of TF-IDF with logistic regression, or of numbers ridge regression."""
    vectorizer = TfidfVectorizer(
        sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[^\w\s]"
    )
    linear = Ridge() if data.is_regression else LogisticRegression(C=10.0, max_iter=300)
    model = fitted(make_pipeline(vectorizer, linear), data.train_inputs, data.train_labels)
    return model.predict(data.test_inputs)


def _scores(data: TaskData, predicted: np.ndarray) -> Scores:
    true = data.test_labels
    return Scores(
        data.metric,
        score(data.metric, true, predicted),
        details=beside(data.metric, true, predicted),
    )


class Unigram(Baseline[TextData]):
    """The token frequencies of the training part: what a model scores that uses no context."""

    name, needs, title = "unigram", TextData, "the unigram model"
    beside = ("bits_per_byte",)
    higher = BitsPerByte.higher

    def accepts(self, data: object) -> bool:
        return isinstance(data, TextData) and data.counts is not None

    def run(
        self, readable: Readable | None, data: TextData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        assert data.counts is not None
        scored = scored_tokens(data.test, settings)
        special = data.test.codec.vocabulary.special
        return bits_scores(unigram_bits(data.counts, scored, special), scored)

    def entry(
        self, scores: Mapping[str, Scores], settings: EvaluateSettings, *, whole: bool = False
    ) -> dict[str, Any]:
        """What results.json holds of it, beside the baselines of tasks."""
        (found,) = scores.values()
        return {
            "unigram_bits_per_byte": found.value,
            "unigram_bits_per_byte_by_prefix": found.details["by_prefix"],
            "scored_tokens": found.details["scored_tokens"],
        }


def baselines() -> dict[str, Baseline[Any]]:
    """All baselines, by name."""
    return {name: kind() for name, kind in registered().items() if issubclass(kind, Baseline)}


def run_baselines(
    data: AnyData, settings: EvaluateSettings, names: Collection[str]
) -> dict[str, Scores]:
    """{baseline: scores} of all that accept this task or text and stand beside named protocols."""
    return {
        name: baseline.run(None, data, settings, 0)
        for name, baseline in baselines().items()
        if baseline.accepts(data) and {*baseline.beside} & {*names}
    }


def by_key(found: Mapping[str, Scores]) -> dict[str, float]:
    """{key: value} of a task's baselines, and {key_ambiguous: ..} on its ambiguous words."""
    known = baselines()
    values: dict[str, float | None] = {}
    for name, scores in found.items():
        values[known[name].key] = scores.value
        values[f"{known[name].key}_ambiguous"] = scores.details.get("ambiguous")
    return {key: value for key, value in values.items() if value is not None}


def baseline_scores(
    data: AnyData, settings: EvaluateSettings, names: Collection[str] = ("probe",)
) -> dict[str, float]:
    """`by_key` of the baselines that stand beside some protocols."""
    return by_key(run_baselines(data, settings, names))
