"""Labels of words: alignment with sub-tokens, the probe, windows, span F1, and their intervals."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from conftest import byte_level
from lookaround.data.labelled import Sentence
from lookaround.data.text import TextTokenizer
from lookaround.evaluation.features import candidate_layers
from lookaround.evaluation.logistic import fit_logistic
from lookaround.evaluation.registry import TokenData
from lookaround.evaluation.spans import span_counts, span_f1, spans
from lookaround.evaluation.tagging import ambiguous, tag_items, tag_scores, tag_statistic
from lookaround.evaluation.tokens import Tokens, both_ways, tokens_score
from lookaround.evaluation.windows import (
    LEFT,
    STRENGTH,
    Window,
    WindowLeft,
    WordMajority,
    right_context_gain,
    window_tags,
)
from lookaround.evaluation.words import align, word_states
from lookaround.model.backbone import build
from lookaround.model.masks import attention_of
from lookaround.model.readable import Readable
from lookaround.objectives.contract import Mode, Shown
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError

TEXTS = ["the cat sat on the mat while two dogs ran", "old men told long tales of war"] * 4


def sentence(text: str, labels: list[int] | None = None) -> Sentence:
    """A text whose words stand between blanks."""
    ends = list(itertools.accumulate(len(word) + 1 for word in text.split(" ")))
    words = tuple(
        (end - 1 - len(word), end - 1) for word, end in zip(text.split(" "), ends, strict=True)
    )
    return Sentence(text, words, tuple(labels or [0] * len(words)))


# ------------------------------------------------------------------------------------- alignment


def wrapped(tokenizer: Tokenizer) -> TextTokenizer:
    return TextTokenizer(
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")
    )


def trained(model: Any, trainer: Any, **parts: Any) -> TextTokenizer:
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return wrapped(tokenizer)


SPECIAL = ["<unk>", "<s>"]
KINDS: dict[str, Callable[[], TextTokenizer]] = {
    "byte-level BPE": lambda: TextTokenizer(byte_level(["<s>"], bos_token="<s>")),
    "SentencePiece BPE": lambda: trained(
        models.BPE(unk_token="<unk>"),
        trainers.BpeTrainer(vocab_size=60, special_tokens=SPECIAL, show_progress=False),
        pre_tokenizer=pre_tokenizers.Metaspace(),
    ),
    "WordPiece": lambda: trained(
        models.WordPiece(unk_token="<unk>"),
        trainers.WordPieceTrainer(vocab_size=60, special_tokens=SPECIAL, show_progress=False),
        normalizer=normalizers.BertNormalizer(strip_accents=True, lowercase=True),
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
    ),
    "Unigram": lambda: trained(
        models.Unigram(),
        trainers.UnigramTrainer(
            vocab_size=60, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        ),
        normalizer=normalizers.NFKC(),
        pre_tokenizer=pre_tokenizers.Metaspace(),
    ),
    "bytes": lambda: trained(
        models.BPE(),
        trainers.BpeTrainer(
            vocab_size=258,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True, trim_offsets=True),
    ),
}
TOKENIZERS = {name: make() for name, make in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(words=st.lists(st.text("abcMst é中😀-.", min_size=1).filter(str.strip), min_size=1))
def test_words_get_the_tokens_that_hold_their_characters(kind: str, words: list[str]) -> None:
    """By brute force over characters: the first and the last token with one of the word's."""
    words = [word.replace(" ", "a") for word in words]
    one, codec = sentence(" ".join(words)), TOKENIZERS[kind]
    ((ids, offsets),) = codec.encode_with_offsets([one.text])
    assert [ids] == codec.encode([one.text])
    places = align(one.words, offsets)
    for (start, end), (first, last) in zip(one.words, places.tolist(), strict=True):
        having = [
            token for token, span in enumerate(offsets) if {*range(*span)} & {*range(start, end)}
        ]
        assert [first, last] == ([having[0], having[-1]] if having else [-1, -1])
    known = places[places[:, 0] >= 0]
    assert (np.diff(known[:, 0]) >= 0).all(), "words stand in the order of their tokens"
    if kind in ("byte-level BPE", "bytes"):
        assert len(known) == len(words), "nothing is lost"


def test_words_may_share_a_token_or_have_none() -> None:
    codec = TOKENIZERS["WordPiece"]
    one = Sentence("don't \u200b sat", ((0, 2), (2, 5), (6, 7), (8, 11)), (0, 0, 0, 0))
    ((_, offsets),) = codec.encode_with_offsets([one.text])
    places = align(one.words, offsets)
    assert places[2].tolist() == [-1, -1], "the tokenizer drops the mark"
    assert places[3, 0] > places[1, 1]
    assert align([(0, 2), (2, 5)], [(0, 5)]).tolist() == [[0, 0], [0, 0]]
    assert align([(0, 2)], []).tolist() == [[-1, -1]]


# ------------------------------------------------------------------------------------- states


def readable(attention: str = "causal", context: int = 24, seed: int = 0) -> Readable:
    codec = TOKENIZERS["byte-level BPE"]
    special = {"bos_token_id": codec.bos, "eos_token_id": None, "pad_token_id": None}
    backbone = build(
        preset="nano", vocabulary=codec.size, context=context, special=special, seed=seed
    )
    modes = (Mode(attention, 1),)
    return Readable(backbone, codec, modes, modes, context, None)


@pytest.mark.parametrize("attention", ["causal", "bidirectional", "prefix"])
def test_states_are_those_of_sentences_read_one_by_one(attention: str) -> None:
    model, texts = readable(attention), ["cat sat", "the green mat", "a"]
    both = [sentence(text) for text in texts]
    for backwards in (False, True):
        found = word_states(
            model, both, attention, ("last", "mean", "later 1"), backwards=backwards
        )
        place = 0
        for one in both:
            ((ids, offsets),) = model.tokenizer.encode_with_offsets([one.text])
            order = ids[::-1] if backwards else ids
            tokens = torch.tensor([[model.tokenizer.bos, *order]])
            shown = Shown(tokens, attention_of(attention, torch.tensor([tokens.shape[1]])))
            with torch.no_grad():
                states = model.backbone.eval().states(shown, all_layers=True)
            for first, last in align(one.words, offsets).tolist():
                low, high = (
                    (len(ids) - last, len(ids) - first) if backwards else (first + 1, last + 1)
                )
                for number, layer in enumerate(candidate_layers(model.backbone.sizes.layers)):
                    state = states[layer][0]
                    later = state[high + 1] if high + 1 < len(state) else torch.zeros(128)
                    wanted = (state[high], state[low : high + 1].mean(0), later)
                    for values, right in zip(found.states.values(), wanted, strict=True):
                        np.testing.assert_allclose(values[number][place], right, atol=1e-4)
                place += 1


def test_words_beyond_the_training_length_are_cut_and_counted() -> None:
    model = readable(context=8)
    long, short = sentence("cat sat on mats and mats"), sentence("a cat")
    ((_, offsets),) = model.tokenizer.encode_with_offsets([long.text])
    fits = int((align(long.words, offsets)[:, 1] < 7).sum())
    found = word_states(model, [long, short], "causal")
    assert 0 < fits < 6
    assert found.kept.tolist() == [fits, 2]
    assert found.cut == 6 - fits
    assert [len(one.labels) for one in found.sentences] == [fits, 2]
    nothing = TokenData("t", "accuracy", ["x"], [sentence("b" * 30)], [short])
    with pytest.raises(UserError, match="no word of its training sentences ends within the 8"):
        tokens_score(model, nothing, EvaluateSettings(), 0)


# ------------------------------------------------------------------------------------- the probe


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_logistic_regression_is_scikit_learns(strength: float) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 6, 400) * 2
    features = generator.normal(size=(400, 12)) * 5 + labels[:, None] * generator.normal(size=12)
    features = np.concatenate([features, np.full((400, 1), 3.0)], 1).astype(np.float32)
    scaler = StandardScaler().fit(features)
    right = LogisticRegression(C=strength, tol=1e-8, max_iter=5000).fit(
        scaler.transform(features), labels
    )
    ours = fit_logistic(features, labels, strength, 1e-6)
    np.testing.assert_allclose(ours.weight[:-1].T, right.coef_, atol=2e-3)
    assert (ours.predict(features) == right.predict(scaler.transform(features))).all()
    quick = fit_logistic(features, labels, strength)
    assert (quick.predict(features) == ours.predict(features)).mean() > 0.99


def coin_task(shift: int, metric: str = "accuracy") -> TokenData:
    """Words "a" and "b" at random; the label of a word is that which stands `shift` later, or 0."""
    generator = np.random.default_rng(1)
    parts = []
    for count in (120, 40):
        rows = generator.integers(0, 2, (count, 10))
        there = (np.arange(10) + shift >= 0) & (np.arange(10) + shift < 10)
        labels = np.roll(rows, -shift, 1) * there
        parts.append(
            [
                sentence(" ".join("ab"[i] for i in row), own.tolist())
                for row, own in zip(rows, labels, strict=True)
            ]
        )
    return TokenData("coins", metric, ["B-x", "I-x"], *parts)


def test_waiting_and_reading_both_ways_show_what_stands_to_the_right() -> None:
    """The label is the next word: a causal state of the word itself cannot know it."""
    model, options = readable(context=40), EvaluateSettings()
    data = coin_task(1)
    own, one, two = (tokens_score(model, data, options, 0, later=k) for k in range(3))
    assert own.value < 0.65
    assert one.value > 0.95  # " a" and " b" are one token each
    assert two.value > 0.95
    assert both_ways(model, model, data, options, 0).value > 0.95
    assert tokens_score(readable("bidirectional", 40), coin_task(0), options, 0).value > 0.95
    assert own.details["layer"] in candidate_layers(2)
    json.dumps(asdict(own), allow_nan=False)
    assert asdict(tokens_score(model, data, options, 0)) == asdict(own)


def test_intervals_resample_sentences() -> None:
    for metric in ("accuracy", "span_f1"):
        data = coin_task(0, metric)
        predicted = np.random.default_rng(0).integers(0, 2, 400)
        scores = tag_scores(data, data.test, predicted, {})
        drawn = Tokens().resampled(scores, 50)
        draws = np.random.default_rng(0).integers(40, size=(50, 40))
        cut = predicted.reshape(40, 10)
        for value, draw in zip(drawn[:5], draws, strict=False):
            picked = [data.test[i] for i in draw]
            items = tag_items(data, picked, cut[draw].ravel())
            assert value == tag_statistic(metric, *map(np.array, items))


# ------------------------------------------------------------------------------------- spans

TAGS = st.lists(st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"]), min_size=1, max_size=12)


@given(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_span_f1_is_seqevals(pairs: list[tuple[list[str], list[str]]]) -> None:
    seqeval = pytest.importorskip("seqeval.metrics", reason="seqeval is not installed")
    cut = [tuple(tags[: min(map(len, pair))] for tags in pair) for pair in pairs]
    counts = np.array([span_counts(*pair) for pair in cut]).sum(0)
    true, found = (list(map(list, side)) for side in zip(*cut, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of types without a span
        right = seqeval.f1_score(true, found, zero_division=0)
    assert float(span_f1(*counts)) == pytest.approx(float(right))


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("B-x I-x O", {(0, 2, "x")}),
        ("B-x B-x", {(0, 1, "x"), (1, 2, "x")}),
        ("O I-x I-y I-y", {(1, 2, "x"), (2, 4, "y")}),
        # IOB1: B only between neighbours of one type
        ("I-x I-x B-x I-x O I-x", {(0, 2, "x"), (2, 4, "x"), (5, 6, "x")}),
        ("O O", set()),
    ],
)
def test_spans_by_hand(tags: str, found: set[tuple[int, int, str]]) -> None:
    assert spans(tags.split()) == found


# ------------------------------------------------------------------------------ without a model


def test_majority_tag_of_the_word() -> None:
    train = [sentence("a b a", [0, 1, 0]), sentence("a b", [1, 1])]
    data = TokenData("t", "accuracy", ["x", "y"], train, [sentence("a b new", [0, 0, 1])])
    scores = WordMajority().run(None, data, EvaluateSettings(), 0)
    assert scores.items == [[2], [3]]  # x, y, and y of an unknown word: y is the most frequent
    assert scores.value == pytest.approx(2 / 3)


def test_windows_see_what_they_say() -> None:
    for shift, left, both in ((-2, True, True), (1, False, True), (2, False, True)):
        data = coin_task(shift)
        values = [
            kind().run(None, data, EvaluateSettings(), 0).value for kind in (WindowLeft, Window)
        ]
        assert [value > 0.95 for value in values] == [left, both]
    beyond = coin_task(3)
    assert Window().run(None, beyond, EvaluateSettings(), 0).value < 0.8


def test_a_window_is_logistic_regression_of_its_words() -> None:
    """Against scikit-learn on the features written out, without hashing."""
    data = coin_task(-1)
    rows = []
    for one in (*data.train, *data.test):
        words = ["", "", *(one.text[a:b] for a, b in one.words)]
        for place in range(len(one.words)):
            known = []
            for back in (0, 1, 2):
                word = words[place + back]
                # "word", "lower", "shape", one prefix and one suffix; what is outside has three
                copies = np.sqrt([5, 5, 3])
                known += [copies["ab ".index(word or " ")] * (word == w) for w in ("a", "b", "")]
            rows.append(known)
    n = sum(len(one.words) for one in data.train)
    labels = np.array([label for one in data.train for label in one.labels])
    model = LogisticRegression(C=STRENGTH, tol=1e-8, max_iter=2000, fit_intercept=False)
    right = model.fit(np.array(rows[:n]), labels).predict(np.array(rows[n:]))
    assert (window_tags(data, LEFT, steps=300) == right).mean() > 0.98


def test_the_right_context_gain_is_of_training_sentences_alone() -> None:
    data = coin_task(1)
    whole, hard = right_context_gain(data, resamples=200)
    assert whole.gain.mean == whole.window - whole.window_left > 0.3
    assert whole.gain.low <= whole.gain.mean <= whole.gain.high
    assert whole.words == 24 * 10
    assert hard is not None
    assert 0 < hard.words <= whole.words
    again, _ = right_context_gain(replace(data, test=[]), resamples=200)
    assert again == whole
    none, _ = right_context_gain(coin_task(0), resamples=200)
    assert none.gain.mean == pytest.approx(0, abs=0.02)


def test_ambiguous_words() -> None:
    train = [sentence("a b", [0, 0]), sentence("a b", [0, 1]), sentence("b b", [1, 1])]
    found = ambiguous(train, [sentence("a b b c")])
    assert found.tolist() == [False, True, False, False]
