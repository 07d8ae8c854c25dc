"""Words labelled without a model: their most frequent tag, and linear windows of words and affixes.

The difference of a window of both sides and one of the left is the right-context gain: what a state
that has seen the words to come can know more of, told in seconds and before any training.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from sklearn.feature_extraction import FeatureHasher

from lookaround.data.labelled import Sentence
from lookaround.evaluation.baselines import Baseline
from lookaround.evaluation.intervals import Interval, bootstrap_interval, resample
from lookaround.evaluation.logistic import minimised
from lookaround.evaluation.registry import Scores, TokenData
from lookaround.evaluation.tagging import (
    ambiguous,
    held_out,
    labels_of,
    tag_items,
    tag_scores,
    tag_statistic,
    words_of,
)
from lookaround.model.readable import Readable
from lookaround.settings import EvaluateSettings

LEFT, BOTH = (-2, -1, 0), (-2, -1, 0, 1, 2)
BUCKETS = 1 << 13
# C of logistic regression, fixed: between 0.1 and 1 the scores of four tasks differ by a point
STRENGTH = 0.3
STEPS = 20


class WordMajority(Baseline[TokenData]):
    """The most frequent tag of each word as it is spelt; of unknown words, that of all words."""

    name, key, needs, title = "word_majority", "majority", TokenData, "majority tag of the word"
    beside = ("tokens",)

    def run(
        self, readable: Readable | None, data: TokenData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        return tag_scores(data, data.test, majority_tags(data), {})

    def statistic(self, metric: str, *items: np.ndarray) -> np.ndarray:
        return tag_statistic(metric, *items)


class WindowLeft(WordMajority):
    """A linear classifier of hashed words and affixes of the word and the two before it."""

    name, title = "window_left", "linear window, left"
    places: ClassVar[tuple[int, ...]] = LEFT

    def run(
        self, readable: Readable | None, data: TokenData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        return tag_scores(data, data.test, window_tags(data, self.places), {})


class Window(WindowLeft):
    """A linear classifier of hashed words and affixes of the word and the two on each side."""

    name, title = "window", "linear window"
    places = BOTH


def majority_tags(data: TokenData) -> np.ndarray:
    """The majority tag of each test word (n,); of equally frequent ones the smallest label."""
    labels = labels_of(data.train)
    usual = int(np.bincount(labels).argmax())
    tags: dict[str, Counter[int]] = defaultdict(Counter)
    for sentence in data.train:
        for word, label in zip(words_of(sentence), sentence.labels, strict=True):
            tags[word][label] += 1
    best = {word: min(found, key=lambda k: (-found[k], k)) for word, found in tags.items()}
    return np.array([best.get(word, usual) for one in data.test for word in words_of(one)])


def window_tags(data: TokenData, places: Sequence[int], steps: int = STEPS) -> np.ndarray:
    """Tags of the test words (n,) by multinomial logistic regression of a window of words.

    places: of the words that are seen, 0 being the word itself.

    Each word stands for itself, its prefixes and suffixes of one to three characters and its shape,
    hashed to `BUCKETS` features for each place. A score is a sum over places of a score of the word
    there, so each different word is scored once. After so many steps the order of the scores is
    settled.
    """
    numbers: dict[str, int] = {"": 0}
    train, test = (_words_in_places(part, places, numbers) for part in (data.train, data.test))
    hasher = FeatureHasher(BUCKETS, input_type="string", alternate_sign=False, dtype=np.float32)
    features = hasher.transform(map(_features, numbers))
    described = sparse.block_diag([features] * len(places), format="csr", dtype=np.float32)
    apart = np.arange(len(places)) * len(numbers)
    train_words, test_words = (
        sparse.csr_matrix(
            (
                np.ones(at.size, np.float32),
                (at + apart).ravel(),
                np.arange(0, at.size + 1, len(places)),
            ),
            (len(at), described.shape[0]),
        )
        for at in (train, test)
    )
    words_back, features_back = train_words.T.tocsr(), described.T.tocsr()
    classes, target = np.unique(labels_of(data.train), return_inverse=True)
    n = len(target)
    penalty = torch.full((described.shape[1],), 1 / (STRENGTH * n))
    frequency = features_back @ (words_back @ np.ones(n, dtype=np.float32)) / n
    weight = minimised(
        lambda weight: torch.from_numpy(train_words @ (described @ weight.numpy())),
        lambda residual: torch.from_numpy(features_back @ (words_back @ residual.numpy())),
        torch.from_numpy(target),
        len(classes),
        penalty,
        (torch.from_numpy(frequency) / 4 + penalty) ** -0.5,
        steps=steps,
    )
    return classes[(test_words @ (described @ weight.numpy())).argmax(1)]


def _words_in_places(
    sentences: Sequence[Sentence], places: Sequence[int], numbers: dict[str, int]
) -> np.ndarray:
    """The number of the word in each place around each word (n, places); 0: outside.

    numbers: of the words that were met; new ones are added.
    """
    around = max(map(abs, places))
    found = []
    for sentence in sentences:
        own = [numbers.setdefault(word, len(numbers)) for word in words_of(sentence)]
        row = np.array([0] * around + own + [0] * around, dtype=np.int64)
        found.append(np.stack([row[around + p : around + p + len(own)] for p in places], 1))
    return np.concatenate(found)


def _features(word: str) -> list[str]:
    """What is said of a word; "" is the outside of a sentence."""
    lower = word.lower()
    kinds = (
        "X" if c.isupper() else "x" if c.islower() else "0" if c.isdigit() else c for c in word
    )
    shape = "".join(kind for kind, _ in itertools.groupby(kinds))
    lengths = [k for k in (1, 2, 3) if k <= len(word)]
    return [
        *(f"word {word}", f"lower {lower}", f"shape {shape}"),
        *(f"prefix {lower[:k]}" for k in lengths),
        *(f"suffix {lower[-k:]}" for k in lengths),
    ]


@dataclass(frozen=True)
class RightContext:
    """What two words to the right tell of a task's labels, within its training sentences.

    gain: window minus window_left, with its interval over sentences.
    window, window_left: scores of the two windows.
    words: that they are scored on.
    """

    gain: Interval
    window: float
    window_left: float
    words: int


def right_context_gain(
    data: TokenData, resamples: int = 2000, seed: int = 0
) -> tuple[RightContext, RightContext | None]:
    """(the gain, the same in accuracy on ambiguous words) on a fifth of the training sentences.

    Both windows are fitted on the other four fifths; the test part is not looked at. None where
    no word of the fifth is ambiguous.
    """
    inner = held_out(data, seed)
    hard, labels = ambiguous(inner.train, inner.test), labels_of(inner.test)
    cuts = np.cumsum([len(sentence.labels) for sentence in inner.test])[:-1]
    whole, subset = [], []
    for places in (BOTH, LEFT):
        tags = window_tags(inner, places)
        whole.append(tag_items(inner, inner.test, tags))
        right = np.split((tags == labels) & hard, cuts)
        sizes = np.split(hard, cuts)
        subset.append([[int(item.sum()) for item in column] for column in (right, sizes)])
    found = _gain(data.metric, whole, len(labels), resamples)
    if not hard.any():
        return found, None
    return found, _gain("accuracy", subset, int(hard.sum()), resamples)


def _gain(metric: str, items: list[list[list[int]]], words: int, resamples: int) -> RightContext:
    """The difference of two lists of items of the same sentences."""
    both, left = (float(tag_statistic(metric, *map(np.array, columns))) for columns in items)
    drawn = [
        resample(lambda *columns: tag_statistic(metric, *columns), columns, resamples)
        for columns in items
    ]
    gain = bootstrap_interval(both - left, drawn[0] - drawn[1])
    return RightContext(gain, both, left, words)
