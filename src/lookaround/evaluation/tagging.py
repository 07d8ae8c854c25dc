"""What every way of labelling words is scored by: accuracy or span F1, sentence by sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lookaround.data.labelled import Sentence
from lookaround.evaluation.registry import Scores, TokenData
from lookaround.evaluation.spans import span_counts, span_f1


def labels_of(sentences: Sequence[Sentence]) -> np.ndarray:
    """The labels of all words, (n,) int64."""
    return np.array([label for sentence in sentences for label in sentence.labels], dtype=np.int64)


def words_of(sentence: Sentence) -> list[str]:
    return [sentence.text[start:end] for start, end in sentence.words]


def tag_items(data: TokenData, sentences: Sequence[Sentence], predicted: np.ndarray) -> list[Any]:
    """Columns of numbers, one a sentence: (right, words), or (right, predicted, true) spans.

    predicted: (n,) labels of all words.
    """
    cuts = np.cumsum([len(sentence.labels) for sentence in sentences])[:-1]
    rows: list[tuple[int, ...]] = []
    for sentence, own in zip(sentences, np.split(predicted, cuts), strict=True):
        if data.metric == "span_f1":
            true, found = (
                [data.classes[label] for label in labels] for labels in (sentence.labels, own)
            )
            rows.append(span_counts(true, found))
        else:
            rows.append((int((own == np.array(sentence.labels)).sum()), len(own)))
    return [list(column) for column in zip(*rows, strict=True)]


def tag_statistic(metric: str, *items: np.ndarray) -> np.ndarray:
    """Accuracy or span F1 (..) of columns (.., n) of `tag_items`."""
    sums = [np.asarray(column).sum(-1) for column in items]
    return span_f1(*sums) if metric == "span_f1" else sums[0] / np.maximum(sums[1], 1)


def ambiguous(train: Sequence[Sentence], sentences: Sequence[Sentence]) -> np.ndarray:
    """Whether each word, given the one before, has two tags or more in training, (n,) bool."""
    tags: dict[tuple[str, str], set[int]] = {}
    for sentence in train:
        for pair, label in zip(_pairs(sentence), sentence.labels, strict=True):
            tags.setdefault(pair, set()).add(label)
    found = [len(tags.get(pair, ())) > 1 for one in sentences for pair in _pairs(one)]
    return np.array(found, dtype=bool)


def _pairs(sentence: Sentence) -> list[tuple[str, str]]:
    """(the word before, the word) of each; the first has "" before it."""
    words = words_of(sentence)
    return list(zip(["", *words], words, strict=False))


def tag_scores(
    data: TokenData, sentences: Sequence[Sentence], predicted: np.ndarray, details: dict[str, Any]
) -> Scores:
    """The scores of labels (n,) predicted for the words of some of the test sentences.

    `ambiguous`, beside the details given, is the accuracy of tags, for spans too, on the
    `ambiguous_words` (see `ambiguous`); None where there are none.
    """
    items = tag_items(data, sentences, predicted)
    hard = ambiguous(data.train, sentences)
    right = predicted == labels_of(sentences)
    share = float(right[hard].mean()) if hard.any() else None
    more = {"ambiguous": share, "ambiguous_words": int(hard.sum())}
    return Scores(data.metric, float(tag_statistic(data.metric, *items)), items, details | more)


def held_out(data: TokenData, seed: int) -> TokenData:
    """The training sentences alone: a fifth of them, drawn at random, as the test part."""
    order = np.random.default_rng(seed).permutation(len(data.train))
    fifth = max(1, len(order) // 5)
    held, fit = sorted(order[:fifth].tolist()), sorted(order[fifth:].tolist())
    return replace(data, train=[data.train[i] for i in fit], test=[data.train[i] for i in held])
