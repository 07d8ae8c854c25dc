"""Bigram and trigram models: sums, a direct count, documents kept apart, real text."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from conftest import sentences
from lookaround.data.rows import Rows
from lookaround.data.shards import Split, TokenStore, in_memory
from lookaround.data.text import train_tokenizer
from lookaround.evaluation.baselines import Unigram
from lookaround.evaluation.bits_per_byte import choose_tokens, unigram
from lookaround.evaluation.ngrams import (
    NO_TOKEN,
    Bigram,
    Trigram,
    contexts,
    ngram_probabilities,
    uses_context,
)
from lookaround.evaluation.registry import TextData
from lookaround.settings import EvaluateSettings


def direct(
    documents: list[list[int]], context: tuple[int, ...], base: np.ndarray, special: set[int]
) -> np.ndarray:
    """Witten-Bell probabilities of all tokens after a context, from dictionaries."""
    if not context:
        return base
    below = direct(documents, context[1:], base, special)
    follows: Counter[int] = Counter()
    for ids in documents:
        for i in range(len(context), len(ids)):
            if tuple(ids[i - len(context) : i]) == context and ids[i] not in special:
                follows[ids[i]] += 1
    if not follows:
        return below
    count = np.array([follows[token] for token in range(len(base))])
    return (count + len(follows) * below) / (count.sum() + len(follows))


def small_split(documents: list[list[int]], files: int) -> Split:
    """Documents over several files."""
    parts = [documents[number::files] for number in range(files)]
    length = np.array([len(ids) for part in parts for ids in part])
    shard = np.repeat(np.arange(files), [len(part) for part in parts])
    start = np.concatenate([np.cumsum([0, *map(len, part[:-1])]) for part in parts])
    arrays = tuple(np.concatenate(part).astype(np.uint16) for part in parts)
    return Split(arrays, shard, start, length)


@pytest.mark.parametrize("special", [{0}, set()], ids=["BOS special", "BOS a token of text"])
def test_probabilities_are_those_of_a_direct_count_and_sum_to_one(
    special: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    documents = [
        [0, *generator.integers(0 if not special else 1, 6, size=size).tolist()]
        for size in generator.integers(0, 12, size=40)
    ]
    split, size = small_split(documents, 2), 7  # token 6 is never seen
    counts = np.bincount(np.concatenate(split.files), minlength=size)
    base = unigram(counts, tuple(special))
    monkeypatch.setattr("lookaround.evaluation.ngrams.TOKENS_AT_ONCE", 16)
    pairs = [(NO_TOKEN, 0), (0, 1), (3, 4), (2, 2), (6, 1), (1, 6), (NO_TOKEN, 5)]
    for order in (1, 2):
        for pair in pairs:
            asked = np.repeat([pair[-order:]], size, axis=0)
            found = ngram_probabilities(split, asked, np.arange(size), base, tuple(special))
            known = tuple(token for token in pair[-order:] if token != NO_TOKEN)
            assert found == pytest.approx(direct(documents, known, base, special), abs=1e-12)
            assert found.sum() == pytest.approx(1)
            assert not found[list(special)].any()


def test_contexts_are_of_the_window_and_begin_with_bos(store: TokenStore) -> None:
    rows = Rows(store.split("test"), 16, store.codec)
    scored = choose_tokens(rows, (1, 2, 8), 40)
    found = contexts(rows, scored, 2)
    tokens = rows.take(scored.row).tokens.numpy()
    for k, position in enumerate(scored.position):
        before = [NO_TOKEN, NO_TOKEN, *tokens[k, :position]]
        assert found[k].tolist() == before[-2:]
    first = (scored.position == 1) & (rows.offset[rows.first[scored.row]] == 0)
    assert first.any()
    assert (found[first] == [NO_TOKEN, store.codec.bos]).all()


def rows_beside(documents: list[str], test: list[str]) -> dict[str, float]:
    tokenizer = train_tokenizer(documents, 400)
    train = in_memory(documents, tokenizer)
    rows = Rows(in_memory(test, tokenizer), 32, tokenizer)
    counts = np.bincount(train.files[0], minlength=tokenizer.size)
    data, settings = TextData(rows, rows, counts, train), EvaluateSettings(positions=100)
    values = {}
    for kind in (Unigram, Bigram, Trigram):
        baseline = kind()
        assert baseline.accepts(data)
        scores = baseline.run(None, data, settings, 0)
        entry = baseline.entry({"": scores}, settings)
        assert entry[f"{kind.name}_bits_per_byte"] == scores.value
        assert list(entry[f"{kind.name}_bits_per_byte_by_prefix"]) == ["1", "2", "4", "8", "16"]
        assert scores.value is not None
        values[kind.name] = scores.value
    assert not Bigram().accepts(TextData(rows, rows, counts))
    return values


def test_context_helps_where_there_is_some(real_data: Path) -> None:
    import lzma

    with lzma.open(real_data / "text" / "tinyshakespeare.txt.xz", "rt") as file:
        text = file.read(300_000).split("\n\n")
    values = rows_beside(text[::2], text[1::2])
    assert values["trigram"] < values["bigram"] < values["unigram"]
    assert uses_context(values["bigram"] - 0.01, values["bigram"])
    assert not uses_context(values["unigram"], values["bigram"])


def test_words_at_random_have_no_use_for_context_beyond_spelling() -> None:
    values = rows_beside(sentences(400), sentences(100, seed=1))
    assert math.isclose(values["trigram"], values["bigram"], rel_tol=0.15)
