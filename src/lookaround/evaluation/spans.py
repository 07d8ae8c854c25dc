"""Spans of BIO tags and their micro F1. Ours; the rule is conlleval's (data/bio.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lookaround.data.bio import begins


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """(start, end, type) of each span of a sentence's tags "O", "B-TYPE", "I-TYPE".

    Any sequence has spans, one of IOB1 and an invalid one too.
    """
    found, start, before = set(), 0, "O"
    for place, tag in enumerate((*tags, "O")):
        new = begins(tag, before)
        if before != "O" and (new or tag == "O"):
            found.add((start, place, before[2:]))
        start, before = place if new else start, tag
    return found


def span_counts(true: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """(spans that are right, spans predicted, true spans) of one sentence."""
    right, found = spans(true), spans(predicted)
    return len(right & found), len(found), len(right)


def span_f1(correct: np.ndarray, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """F1 of numbers of spans, as of `span_counts` in sum; 0 where there are none."""
    return 2 * correct / np.maximum(found + true, 1)
