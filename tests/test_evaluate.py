"""Evaluation: the chain rule against brute force, leaks, the probe, intervals."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lookaround.data.rows import Rows
from lookaround.data.shards import TokenStore
from lookaround.evaluation.baselines import Majority, TfIdf
from lookaround.evaluation.bits_per_byte import (
    BitsPerByte,
    bits_per_byte,
    bits_scores,
    chain_rule_bits,
    choose_tokens,
    default_prefix_lengths,
    unigram_bits,
)
from lookaround.evaluation.features import encoded, pooled_states
from lookaround.evaluation.intervals import bootstrap_interval, resample, seed_interval
from lookaround.evaluation.probe import METRICS, linear_probe, score
from lookaround.evaluation.registry import TaskData
from lookaround.model import Backbone, build
from lookaround.model.readable import classification_mode, generation_mode
from lookaround.objectives import Mode, parse
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError

MODES = [Mode("causal", 1), Mode("bidirectional", 0), Mode("bidirectional", 1), Mode("prefix", 1)]


@pytest.fixture(scope="module")
def model(store: TokenStore) -> Backbone:
    special = {
        "bos_token_id": store.codec.bos,
        "eos_token_id": store.codec.eos,
        "pad_token_id": 0,
    }
    made = build(preset="nano", vocabulary=store.codec.size, context=32, special=special)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim > 1 else None
    return made.eval()


@pytest.fixture
def test_rows(store: TokenStore) -> Rows:
    return Rows(store.split("test"), 32, store.codec)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_chain_rule_is_what_the_definition_says_token_by_token(
    mode: Mode, model: Backbone, test_rows: Rows
) -> None:
    scored = choose_tokens(test_rows, (1, 4, 16), 8)
    bits = chain_rule_bits(model, test_rows, scored, mode)
    vocabulary = test_rows.codec.vocabulary
    for k in range(len(bits)):
        s = int(scored.position[k])
        seen = test_rows.take(scored.row[k : k + 1]).tokens[0].tolist()[:s]
        ids = torch.tensor(
            [seen + [vocabulary.mask] * (32 - s)]
        )  # masks to the window's end, also past the document's
        with torch.no_grad():
            if mode.attention == "causal":
                logits = model.lm(ids[:, :s]).logits[0, s - 1]
            elif mode.attention == "bidirectional":
                logits = model.lm(ids, is_causal=False).logits[0, s - mode.shift]
            else:
                logits = model.lm(ids[:, :s], is_causal=False).logits[0, s - 1]
        logits[[*vocabulary.special, vocabulary.mask]] = -torch.inf
        expected = -float(logits.log_softmax(-1)[scored.token[k]]) / math.log(2)
        assert bits[k] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_nothing_of_the_token_or_what_follows_leaks(
    mode: Mode, model: Backbone, store: TokenStore
) -> None:
    """Two rows equal up to the scored token and different in everything after it, length included,
    score it alike.
    """
    from lookaround.data.shards import in_memory

    texts = [
        "one two three the cat sat",
        "one two three the dogs ran over green hills and old men told long tales of war",
    ]
    rows = Rows(in_memory(texts, store.codec), 32, store.codec)
    first, second = (rows.take(np.array([i])).tokens[0] for i in (0, 1))
    s = int((first != second).nonzero()[0, 0])
    scored = choose_tokens(rows, (1,), 10_000)
    chosen = {
        int(r): k
        for k, (r, p) in enumerate(zip(scored.row, scored.position, strict=True))
        if p == s - 1
    }
    bits = chain_rule_bits(model, rows, scored, mode)
    assert bits[chosen[0]] == pytest.approx(bits[chosen[1]], abs=1e-5)


def test_totals_are_sums_of_bits_over_sums_of_bytes(
    model: Backbone, test_rows: Rows, store: TokenStore
) -> None:
    scored = choose_tokens(
        test_rows, (1, 4, 16), 10_000
    )  # every position there is: the weights are equal
    assert np.allclose(scored.weight, scored.weight[0])
    bits = unigram_bits(store.unigram(), scored, store.codec.vocabulary.special)
    total, by_prefix = bits_per_byte(bits, scored)
    assert total == pytest.approx(bits.sum() / scored.size.sum())
    assert list(by_prefix) == ["1", "4", "16"]
    here = (scored.position >= 4) & (scored.position < 16)
    assert by_prefix["4"] == pytest.approx(bits[here].sum() / scored.size[here].sum())
    few = choose_tokens(test_rows, (1, 4, 16), 60)
    sample, _ = bits_per_byte(
        unigram_bits(store.unigram(), few, store.codec.vocabulary.special), few
    )
    assert sample == pytest.approx(total, rel=0.15), "strata are weighed by what they stand for"


def test_scored_tokens_are_text_and_bytes_are_counted(test_rows: Rows, store: TokenStore) -> None:
    scored = choose_tokens(test_rows, default_prefix_lengths(32), 50)
    assert not np.isin(scored.token, store.codec.vocabulary.special).any()
    split = store.split("test")
    for document in range(5):
        ids = split.read(document, 0, split.length[document])
        text = store.codec.decode(ids.tolist())
        assert store.codec.units[ids].sum() == len(text.encode())


def test_prefixes_longer_than_any_document_are_refused(test_rows: Rows) -> None:
    with pytest.raises(UserError, match=r"evaluate\.prefix_lengths: 500 is too long"):
        choose_tokens(test_rows, (1, 500), 10)
    with pytest.raises(UserError, match="from 1 up"):
        choose_tokens(test_rows, (0,), 10)


def test_a_uniform_model_scores_log_vocabulary(test_rows: Rows, store: TokenStore) -> None:
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    flat = build(preset="nano", vocabulary=store.codec.size, context=32, special=special)
    with torch.no_grad():
        flat.unembedding.weight.zero_()
    scored = choose_tokens(test_rows, (1,), 20)
    ordinary = store.codec.size - len(
        {*store.codec.vocabulary.special, store.codec.vocabulary.mask}
    )
    assert chain_rule_bits(flat, test_rows, scored, Mode("causal", 1)) == pytest.approx(
        np.full(len(scored.row), math.log2(ordinary)), abs=1e-4
    )


def test_third_party_tokenizer_counts_bytes(real_data: Path) -> None:
    from lookaround.data.text import load_tokenizer

    tokenizer = load_tokenizer(str(real_data / "models" / "stories260K"))
    text = "Once upon a time, Zoë’s cat 🐈 sat."
    assert not tokenizer.measured([text]).lost.share
    (ids,) = tokenizer.encode([text])
    assert tokenizer.units[ids].sum() - len(text.encode()) in (0, 1), (
        "a tokenizer may prepend one space"
    )


def test_special_tokens_spelled_in_text_stay_text(store: TokenStore) -> None:
    (ids,) = store.codec.encode(["a <mask> b <eos>"])
    assert not set(ids) & set(store.codec.vocabulary.special)


# ---------------------------------------------------------------------------------------- probes


def test_pooled_states_do_not_depend_on_neighbours(model: Backbone, store: TokenStore) -> None:
    texts = ["the cat", "two dogs ran over green hills and old men told tales", "war", ""]
    for attention in ("causal", "bidirectional", "prefix"):
        ids, _ = encoded(store.codec, texts, 32)
        together = pooled_states(model, store.codec, ids, attention)
        alone = [pooled_states(model, store.codec, [each], attention)[:, 0] for each in ids]
        np.testing.assert_allclose(together, np.stack(alone, axis=1), atol=1e-5)
        assert np.isfinite(together).all()
    _, cut = encoded(store.codec, ["the cat sat on a mat " * 20], 32)
    assert cut == 1


def test_probe_finds_the_layer_that_knows() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=600)
    noise = generator.normal(size=(3, 600, 8)).astype(np.float32)
    noise[1, np.arange(600), labels] += 3
    result = linear_probe(noise[:, :400], labels[:400], noise[:, 400:], labels[400:])
    assert result.layer == 1
    assert result.score > 0.9
    assert score("accuracy", labels[400:], result.predicted) == result.score
    shuffled = linear_probe(
        noise[:, :400], generator.permutation(labels[:400]), noise[:, 400:], labels[400:]
    )
    assert shuffled.score < 0.5


def test_probe_takes_few_examples_of_many_classes() -> None:
    generator = np.random.default_rng(0)
    features, labels = generator.normal(size=(1, 18, 4)), np.arange(18) % 6
    assert 0 <= linear_probe(features, labels, features, labels).score <= 1


def test_matthews_and_baselines() -> None:
    from sklearn.metrics import matthews_corrcoef

    true, predicted = np.array([0, 1, 1, 0, 1]), np.array([0, 1, 0, 0, 1])
    assert score("matthews", true, predicted) == pytest.approx(matthews_corrcoef(true, predicted))
    labels = np.array([1, 1, 0]), np.array([1, 0, 1, 1])
    uneven = TaskData("t", "accuracy", [""] * 3, labels[0], [""] * 4, labels[1])
    assert Majority().run(None, uneven, EvaluateSettings(), 0).value == 0.75
    texts, moods = (
        ["good fine", "bad awful", "fine day", "awful day"] * 5,
        np.array([1, 0, 1, 0] * 5),
    )
    data = TaskData("t", "accuracy", texts, moods, ["good day", "bad day"], np.array([1, 0]))
    assert TfIdf().run(None, data, EvaluateSettings(), 0).value == 1.0


def test_modes_serve_their_halves() -> None:
    assert classification_mode(parse("ar + vmlm").modes()) == Mode("bidirectional", 1)
    assert generation_mode(parse("ar + vmlm").modes()) == Mode("causal", 1)
    assert classification_mode(parse("prefixlm").modes()) == Mode("prefix", 1)
    assert generation_mode(parse("mlm + vmlm").modes()) == Mode("bidirectional", 1)


# ---------------------------------------------------------------------------------------- intervals


def test_seed_intervals_are_students() -> None:
    interval = seed_interval([1.0, 2.0, 3.0])
    assert (interval.mean, interval.n) == (2.0, 3)
    assert interval.high == pytest.approx(2 + 4.302653 / 3**0.5, abs=1e-5)
    assert "3 seeds" in interval.method
    assert math.isnan(seed_interval([1.0]).low)


def test_bootstrap_covers_and_pairs(test_rows: Rows) -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(2, size=400)
    predicted = np.where(generator.random(400) < 0.8, true, 1 - true)
    resampled = resample(METRICS["accuracy"], (true, predicted), 2000)
    interval = bootstrap_interval(float((true == predicted).mean()), resampled)
    assert interval.high - interval.low == pytest.approx(
        2 * 1.96 * (0.8 * 0.2 / 400) ** 0.5, rel=0.15
    )
    again = resample(METRICS["accuracy"], (true, predicted), 2000)
    assert np.array_equal(resampled, again), "equal draws make differences paired"
    scored = choose_tokens(test_rows, (1, 8), 30)
    bits = generator.random(len(scored.row)) * 8
    total, _ = bits_per_byte(bits, scored)
    protocol = BitsPerByte()
    drawn = protocol.resampled(bits_scores(bits, scored), 500)
    assert drawn.min() < total < drawn.max()
    assert np.allclose(protocol.resampled(bits_scores(2 * bits, scored), 500), 2 * drawn)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "matthews"])
def test_draws_do_not_depend_on_how_many_are_made_at_once(
    metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One draw of all items after another, from one generator: what a plain loop does."""
    from sklearn.metrics import accuracy_score, matthews_corrcoef

    oracle = {"accuracy": accuracy_score, "matthews": matthews_corrcoef}[metric]
    generator = np.random.default_rng(3)
    true, predicted = generator.integers(3, size=(2, 77))
    draws = np.random.default_rng(0)
    expected = []
    for _ in range(40):
        chosen = draws.integers(77, size=77)
        expected.append(oracle(true[chosen], predicted[chosen]))
    for at_once in (1, 500, 1 << 22):
        monkeypatch.setattr("lookaround.evaluation.intervals.DRAWS_AT_ONCE", at_once)
        assert np.array_equal(resample(METRICS[metric], (true, predicted), 40), expected)
