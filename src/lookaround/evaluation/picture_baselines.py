"""What a linear model makes of pictures that no network has read.

n pictures, K codes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from lookaround.evaluation.baselines import Baseline
from lookaround.evaluation.probe import beside, linear_probe
from lookaround.evaluation.registry import Scores, TaskData
from lookaround.model.readable import Readable
from lookaround.settings import EvaluateSettings


def is_pictures(data: object) -> bool:
    """Whether a task is of pictures."""
    return isinstance(data, TaskData) and all(
        isinstance(item, np.ndarray) for item in (*data.train_inputs, *data.test_inputs)
    )


def pixels(inputs: Sequence[Any]) -> np.ndarray:
    """Grey levels (n, H * W) of pictures, from 0 to 1."""
    return np.stack(inputs).reshape(len(inputs), -1).astype(np.float32) / 255


class _Linear(Baseline[TaskData]):
    """Logistic regression of some features, as the probe chooses it."""

    needs = TaskData
    beside: ClassVar[tuple[str, ...]] = ("probe", "finetune")

    @abstractmethod
    def features(self, data: TaskData, inputs: Sequence[Any]) -> np.ndarray:
        """(n, D) of pictures."""

    def accepts(self, data: object) -> bool:
        return is_pictures(data)

    def run(
        self, readable: Readable | None, data: TaskData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        train, test = (
            self.features(data, inputs) for inputs in (data.train_inputs, data.test_inputs)
        )
        labels, true = data.train_labels, data.test_labels
        found = linear_probe(train[None], labels, test[None], true, metric=data.metric, seed=seed)
        return Scores(data.metric, found.score, details=beside(data.metric, true, found.predicted))


class RawPixels(_Linear):
    """Logistic regression on the pixels of pictures."""

    name, title = "pixels", "raw pixels with logistic regression"

    def features(self, data: TaskData, inputs: Sequence[Any]) -> np.ndarray:
        return pixels(inputs)


class BagOfCodes(_Linear):
    """Logistic regression on how often each code stands in a picture."""

    name, title = "bag_of_codes", "bag of codes with logistic regression"
    beside = ("probe",)

    def accepts(self, data: object) -> bool:
        return is_pictures(data) and isinstance(data, TaskData) and data.codec is not None

    def features(self, data: TaskData, inputs: Sequence[Any]) -> np.ndarray:
        assert data.codec is not None
        size = data.codec.size
        return np.stack(
            [np.bincount(ids, minlength=size) for ids in data.codec.encode(inputs)]
        ).astype(np.float32)


def pixel_score(data: TaskData, rows: np.ndarray) -> float:
    """The score of raw pixels with logistic regression on some training pictures."""
    labels, true = data.train_labels[rows].tolist(), data.test_labels.tolist()
    train = tuple(
        (data.train_inputs[k].tobytes(), label) for k, label in zip(rows, labels, strict=True)
    )
    test = tuple(
        (item.tobytes(), label) for item, label in zip(data.test_inputs, true, strict=True)
    )
    return _pixel_score(data.metric, train, test)


@lru_cache(maxsize=8)  # a study evaluates many models on the same draws
def _pixel_score(
    metric: str, train: tuple[tuple[bytes, int], ...], test: tuple[tuple[bytes, int], ...]
) -> float:
    (seen, labels), (asked, true) = (zip(*part, strict=True) for part in (train, test))
    train_nd, test_nd = (
        pixels([np.frombuffer(item, dtype=np.uint8) for item in part]) for part in (seen, asked)
    )
    found = linear_probe(
        train_nd[None], np.array(labels), test_nd[None], np.array(true), metric=metric
    )
    return found.score
