"""Word order: single words tell nothing, copies stay on one side, a model that sees order can."""

from __future__ import annotations

import json
import lzma
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from conftest import byte_level, sentences
from lookaround.data.rows import Rows
from lookaround.data.shards import in_memory
from lookaround.data.text import TextTokenizer
from lookaround.evaluation.baselines import baseline_scores
from lookaround.evaluation.order import (
    KINDS,
    Order,
    OrderBag,
    OrderTfIdf,
    order_items,
    sentences_of,
)
from lookaround.evaluation.probe import linear_probe
from lookaround.evaluation.registry import TextData
from lookaround.model import Backbone
from lookaround.model.readable import Readable
from lookaround.objectives import Mode
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError

SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "mask_token": "<mask>"}
SETTINGS = EvaluateSettings(order_train=240, order_test=240)


@pytest.fixture(scope="module")
def codec() -> TextTokenizer:
    return TextTokenizer(byte_level([*SPECIAL.values()], **SPECIAL))


def rows_of(documents: list[str], codec: TextTokenizer, width: int = 200) -> Rows:
    return Rows(in_memory(documents, codec), width, codec)


@pytest.fixture(scope="module")
def data(codec: TextTokenizer) -> TextData:
    validation, test = (sentences(120, seed=seed, length=(8, 20)) for seed in (1, 2))
    return TextData(rows_of([*test, validation[0]], codec), rows_of(validation, codec))


def test_sentences_are_pieces_of_lines_that_fit(codec: TextTokenizer) -> None:
    text = "One two  three four five six. Seven is short! a b c d e f\nmore words on a second line"
    found = sentences_of(rows_of([text, "a b c d e f", "x " * 41, "longer " * 39], codec), 100)
    expected = ["One two three four five six.", "a b c d e f", "more words on a second line"]
    assert sorted(found) == expected
    assert len(sentences_of(rows_of([text], codec), 2)) == 2
    assert sentences_of(rows_of([text], codec), 9, frozenset(expected[1:])) == expected[:1]


def test_classes_have_the_same_words_and_parts_no_sentence_in_common(data: TextData) -> None:
    items = order_items(data.validation, data.test, 240, 240)
    assert items is order_items(data.validation, data.test, 240, 240)
    for part in (items.train, items.test):
        assert part.keys() == KINDS.keys()
        for kind, groups in part.items():
            assert len(groups) == 20
            for one, other, one_copy, other_copy in groups:
                before, after = f"{one} {other}".split(), f"{one_copy} {other_copy}".split()
                assert Counter(before) == Counter(after)
                changed = [
                    [
                        i
                        for i, (a, b) in enumerate(zip(x.split(), y.split(), strict=False))
                        if a != b
                    ]
                    for x, y in ((one, one_copy), (other, other_copy))
                ]
                if kind == "swap":
                    assert all(len(at) == 2 and at[1] == at[0] + 1 for at in changed)
                elif kind == "exchange":
                    assert [len(at) for at in changed] == [1, 1]
                else:
                    first = [len(text.split()) // 2 for text in (one, other)]
                    assert all(min(at) >= n for at, n in zip(changed, first, strict=True))
    originals = [
        {text for groups in part.values() for group in groups for text in group[:2]}
        for part in (items.train, items.test)
    ]
    assert not originals[0] & originals[1], "a sentence of both parts is for fitting"


def test_a_bag_of_single_words_is_at_chance(data: TextData, real_data: Path) -> None:
    with lzma.open(real_data / "text" / "tinyshakespeare.txt.xz", "rt") as file:
        documents = [text.replace("\n", " ") for text in file.read(200_000).split("\n\n")]
    codec = data.test.codec
    assert isinstance(codec, TextTokenizer)
    real = TextData(rows_of(documents[::2], codec), rows_of(documents[1::2], codec))
    for text in (data, real):
        scores = OrderBag().run(None, text, SETTINGS, 0)
        assert scores.value == pytest.approx(0.5, abs=0.02)
        assert scores.details["by_kind"]["swap"]["score"] == 0.5
    found = baseline_scores(real, SETTINGS, {"order"})
    assert found.keys() == {"bag", "tfidf"}
    assert found["tfidf"] == OrderTfIdf().run(None, real, SETTINGS, 0).value


def test_word_pairs_tell_what_order_there_is(codec: TextTokenizer) -> None:
    """Where every word has one that always follows it, a swap is seen by pairs, not by words."""
    generator = np.random.default_rng(0)
    names = [f"{a}{b}" for a in "bdfgklmnprst" for b in "aeiou"]

    def documents(count: int) -> list[str]:
        starts = generator.integers(len(names), size=count).tolist()
        return [" ".join(names[(i + k) % len(names)] for k in range(9)) for i in starts]

    text = TextData(
        rows_of(documents(400), codec), rows_of([x + " ." for x in documents(400)], codec)
    )
    settings = EvaluateSettings(order_train=600, order_test=480)
    bag, pairs = (kind().run(None, text, settings, 0) for kind in (OrderBag, OrderTfIdf))
    assert bag.details["by_kind"]["swap"]["score"] == 0.5
    assert pairs.details["by_kind"]["swap"]["score"] > 0.8


def test_scores_are_of_groups_and_kinds(data: TextData, codec: TextTokenizer) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=codec.size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    modes = (Mode("causal", 1),)
    readable = Readable(Backbone(LlamaForCausalLM(config)), codec, modes, modes, 200, None)
    order = Order()
    assert order.accepts(data)
    assert order.cost(data, SETTINGS) == {"texts": 480}
    scores = order.run(readable, data, SETTINGS, 0)
    assert scores.value == pytest.approx(np.mean(scores.items[0]))
    assert len(scores.items[0]) == 60
    kinds = scores.details["by_kind"]
    assert kinds.keys() == KINDS.keys()
    assert scores.value == pytest.approx(np.mean([told["score"] for told in kinds.values()]))
    assert all(told["texts"] == 80 for told in kinds.values())
    likelihood = scores.details["likelihood"]
    assert likelihood["mode"] == "causal, shift 1"
    assert likelihood["score"] == pytest.approx(np.mean([*likelihood["by_kind"].values()]))
    assert json.loads(json.dumps(scores.details)) == scores.details


def test_copies_are_on_one_side_inside_the_training_part() -> None:
    """A feature that names the sentence and its class misleads whoever has seen one of a pair."""
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 2)
    labels = np.tile([0, 1], 40)
    useful = (labels + generator.normal(size=80))[:, None]
    memory = np.eye(40)[groups] * 5
    layers = np.stack([np.pad(useful, ((0, 0), (0, 39))), memory])
    assert linear_probe(layers, labels, layers, labels, groups=groups).layer == 0


def test_little_text_is_refused(data: TextData, codec: TextTokenizer) -> None:
    few = rows_of(sentences(30, seed=4, length=(8, 20)), codec)
    with pytest.raises(UserError, match=r"'order' needs 50 sentences .* test part, which has 30"):
        Order().cost(TextData(few, data.validation), SETTINGS)
