"""Bigram and trigram models of the training part: what one and two tokens of context are worth.

Interpolated by Witten and Bell's rule, in closed form: with c(h, w) the times that w follows the
context h, and T(h) the number of different tokens that do,

    P(w | h) = (c(h, w) + T(h) P(w | h')) / (c(h) + T(h)),

where h' is h without its first token; after no context P is the unigram model. Witten & Bell 1991,
method C; interpolated as in Chen & Goodman 1999.

K scored tokens, V vocabulary, G different n-grams.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from lookaround.data.rows import Rows
from lookaround.data.shards import Split
from lookaround.evaluation.baselines import Baseline
from lookaround.evaluation.bits_per_byte import (
    BitsPerByte,
    ScoredTokens,
    bits_scores,
    scored_tokens,
    unigram,
)
from lookaround.evaluation.registry import Scores, TextData
from lookaround.model.readable import Readable
from lookaround.settings import EvaluateSettings

NO_TOKEN = -1
TOKENS_AT_ONCE = 1 << 22


def contexts(rows: Rows, scored: ScoredTokens, tokens: int) -> np.ndarray:
    """The tokens before each scored one within its window, (K, tokens) int64.

    BOS is one of them; NO_TOKEN where the window has none.
    """
    found = np.full((len(scored.row), tokens), NO_TOKEN, dtype=np.int64)
    for k, (row, position) in enumerate(zip(scored.row, scored.position, strict=True)):
        window, seen = rows.first[row], min(int(position), tokens)
        begin = rows.offset[window] + position - seen
        found[k, tokens - seen :] = rows.split.read(rows.document[window], begin, seen)
    return found


def ngram_probabilities(
    split: Split,
    contexts_kn: np.ndarray,
    token: np.ndarray,
    base: np.ndarray,
    special: tuple[int, ...],
) -> np.ndarray:
    """Probability (K,) of each token (K,) after its context (K, n), of documents of a split.

    contexts_kn: NO_TOKEN where there is none; the model after the rest is used there.
    base: (V,), probabilities after no context, `unigram`.
    special: tokens that are never predicted; they stand in contexts.
    """
    probability, size = base[token], len(base)
    for order in range(1, contexts_kn.shape[1] + 1):
        context = contexts_kn[:, -order:]
        whole = (context != NO_TOKEN).all(1)
        asked, of = np.unique(context[whole], axis=0, return_inverse=True)
        if not len(asked):
            break
        keys, count = _continuations(split, asked, size, special)
        owner = keys // size
        total = np.bincount(owner, count, len(asked))
        different = np.bincount(owner, minlength=len(asked)).astype(np.float64)
        wanted = of.ravel() * size + token[whole]
        at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        found = np.where(keys[at] == wanted, count[at], 0) if len(keys) else np.zeros(len(wanted))
        total, different = total[of.ravel()], different[of.ravel()]
        below = probability[whole]
        mixed = (found + different * below) / np.maximum(total + different, 1)
        probability[whole] = np.where(total > 0, mixed, below)
    return probability


def _continuations(
    split: Split, asked: np.ndarray, size: int, special: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(context * size + token, in rising order; their count), both (G,), of what follows contexts.

    asked: (C, n), contexts in rising order, none twice.
    """
    order = asked.shape[1]
    ends = np.zeros(size, dtype=bool)
    ends[asked[:, -1]] = True
    codes = _codes(asked, size)
    plain = np.ones(size, dtype=bool)
    plain[list(special)] = False
    keys, count = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for piece, inside in _pieces(split, order):
        at = np.flatnonzero(inside & ends[piece[order - 1 : -1]] & plain[piece[order:]])
        code = _codes(np.stack([piece[at + i] for i in range(order)], axis=1), size)
        context = np.minimum(np.searchsorted(codes, code), len(codes) - 1)
        known = codes[context] == code
        here = context[known] * size + piece[at + order][known]
        here, times = np.unique(here, return_counts=True)
        keys, of = np.unique(np.concatenate([keys, here]), return_inverse=True)
        count = np.bincount(of, np.concatenate([count, times])).astype(np.int64)
    return keys, count


def _codes(contexts_kn: np.ndarray, size: int) -> np.ndarray:
    """One number for each context (K, n), in the order of contexts."""
    code = contexts_kn[:, 0]
    for column in contexts_kn.T[1:]:
        code = code * size + column
    return code


def _pieces(split: Split, order: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(tokens (n + order,) int64, whether the n-gram from each on lies within a document (n,))."""
    for number, file in enumerate(split.files):
        inside = np.ones(len(file), dtype=bool)
        first = split.start[split.shard == number]
        for back in range(1, order + 1):
            inside[first[first >= back] - back] = False
        for begin in range(0, len(file) - order, TOKENS_AT_ONCE):
            piece = np.asarray(file[begin : begin + TOKENS_AT_ONCE + order], dtype=np.int64)
            yield piece, inside[begin : begin + len(piece) - order]


class _Ngrams(Baseline[TextData]):
    """An interpolated model of the training part's n-grams, on the tokens that models score.

    context: tokens of context.
    """

    needs = TextData
    beside = ("bits_per_byte",)
    higher = BitsPerByte.higher
    context: ClassVar[int]

    def accepts(self, data: object) -> bool:
        return isinstance(data, TextData) and data.counts is not None and data.train is not None

    def run(
        self, readable: Readable | None, data: TextData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        assert data.counts is not None
        assert data.train is not None
        scored, special = scored_tokens(data.test, settings), data.test.codec.vocabulary.special
        found = ngram_probabilities(
            data.train,
            contexts(data.test, scored, self.context),
            scored.token,
            unigram(data.counts, special),
            special,
        )
        return bits_scores(-np.log2(found), scored)

    def entry(
        self, scores: Mapping[str, Scores], settings: EvaluateSettings, *, whole: bool = False
    ) -> dict[str, Any]:
        """What results.json holds of it, beside the unigram model's."""
        (found,) = scores.values()
        return {
            f"{self.name}_bits_per_byte": found.value,
            f"{self.name}_bits_per_byte_by_prefix": found.details["by_prefix"],
        }


class Bigram(_Ngrams):
    """An interpolated bigram model: what a model scores that uses one token of context."""

    name, title, context = "bigram", "the bigram model", 1


class Trigram(_Ngrams):
    """An interpolated trigram model: what a model scores that uses two tokens of context."""

    name, title, context = "trigram", "the trigram model", 2


def uses_context(bits: float, bigram: float) -> bool:
    """Whether a loss is below the bigram model's, in bits per byte both.

    A model above it does not use its context yet.
    """
    return bits < bigram
