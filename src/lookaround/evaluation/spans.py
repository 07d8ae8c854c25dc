"""Spans of BIO tags and their micro F1. Ours; the rule is conlleval's.

Source: Tjong Kim Sang and Buchholz, "Introduction to the CoNLL-2000 shared task", 2000.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """(start, end, type) of each span of a sentence's tags "O", "B-TYPE", "I-TYPE".

    A span begins at B, and at I behind anything but a tag of its type; so IOB1, whose B stands
    between neighbours of one type alone, is read too, and so is any sequence.
    """
    found, start, kind = set(), 0, ""
    for place, tag in enumerate((*tags, "O")):
        here = tag[2:]
        if kind and (here != kind or tag[0] == "B"):
            found.add((start, place, kind))
            kind = ""
        if here and not kind:
            start, kind = place, here
    return found


def span_counts(true: Sequence[str], predicted: Sequence[str]) -> tuple[int, int, int]:
    """(spans that are right, spans predicted, true spans) of one sentence."""
    right, found = spans(true), spans(predicted)
    return len(right & found), len(found), len(right)


def span_f1(correct: np.ndarray, found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """F1 of numbers of spans, as of `span_counts` in sum; 0 where there are none."""
    return 2 * correct / np.maximum(found + true, 1)
