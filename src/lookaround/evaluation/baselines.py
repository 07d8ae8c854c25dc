"""What needs no pretrained model: the scores that a model has to be better than."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from lookaround.evaluation.bits_per_byte import (
    BitsPerByte,
    bits_scores,
    scored_tokens,
    unigram_bits,
)
from lookaround.evaluation.probe import fitted, score
from lookaround.evaluation.registry import Protocol, Scores, TaskData, TextData, registered
from lookaround.model.readable import Readable
from lookaround.settings import EvaluateSettings

Data = TypeVar("Data")


class Baseline(Protocol[Data]):
    """A protocol that reads no model."""

    reads_model = False

    @abstractmethod
    def run(
        self, readable: Readable | None, data: Data, settings: EvaluateSettings, seed: int
    ) -> Scores: ...


class Majority(Baseline[TaskData]):
    """Always the most frequent class of the training part."""

    name, needs, title = "majority", TaskData, "majority class"

    def run(
        self, readable: Readable | None, data: TaskData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        answer = np.full_like(data.test_labels, np.bincount(data.train_labels).argmax())
        return Scores(data.metric, score(data.metric, data.test_labels, answer))


class TfIdf(Baseline[TaskData]):
    """TF-IDF of words and word pairs with logistic regression, where inputs are texts."""

    name, needs, title = "tfidf", TaskData, "TF-IDF with logistic regression"

    def accepts(self, data: object) -> bool:
        return isinstance(data, TaskData) and data.is_text

    def run(
        self, readable: Readable | None, data: TaskData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        vectorizer = TfidfVectorizer(
            sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[^\w\s]"
        )
        model = make_pipeline(vectorizer, LogisticRegression(C=10.0, max_iter=300))
        predicted = fitted(model, data.train_inputs, data.train_labels).predict(data.test_inputs)
        return Scores(data.metric, score(data.metric, data.test_labels, predicted))


class Unigram(Baseline[TextData]):
    """The token frequencies of the training part: what a model scores that uses no context."""

    name, needs, title = "unigram", TextData, "the unigram model"
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


def run_baselines(data: TaskData | TextData, settings: EvaluateSettings) -> dict[str, Scores]:
    """{baseline: scores} of all that accept this task or text."""
    found = baselines().items()
    return {
        name: baseline.run(None, data, settings, 0)
        for name, baseline in found
        if baseline.accepts(data)
    }


def baseline_scores(data: TaskData, settings: EvaluateSettings) -> dict[str, float]:
    """{baseline: value} of a task, as a job of a study."""
    found = run_baselines(data, settings).items()
    return {name: scores.value for name, scores in found if scores.value is not None}
