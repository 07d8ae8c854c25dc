"""Fine-tuning: the training against a plain loop, draws, the choice of a rate, and what is said."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from sklearn.linear_model import LogisticRegression
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from conftest import sentences
from lookaround.data.labelled import Task
from lookaround.data.shards import TokenStore
from lookaround.evaluation.classifier import Classifier, batches, outputs_of, tuned
from lookaround.evaluation.features import encoded, pooled_states
from lookaround.evaluation.finetune import (
    Finetune,
    Size,
    Tuning,
    draws_of,
    sizes_for,
    worth,
)
from lookaround.evaluation.registry import Scores, TaskData, task_data
from lookaround.model.backbone import Backbone
from lookaround.model.readable import Readable
from lookaround.objectives import Mode
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError

SMALL = EvaluateSettings(
    finetune_labels=[16, 32],
    finetune_draws=[2, 1],
    finetune_epochs=[2, 1],
    finetune_rates=[1.0, 3.0],
)


def backbone_of(store: TokenStore) -> Backbone:
    config = LlamaConfig(
        vocab_size=store.codec.size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=True,
        initializer_range=0.1,
    )
    torch.manual_seed(1)
    return Backbone(LlamaForCausalLM(config))


def readable_of(store: TokenStore, attention: str = "causal") -> Readable:
    modes = (Mode(attention, 1),)
    return Readable(backbone_of(store), store.codec, modes, modes, 32, None)


def task_of(regression: bool = False, train: int = 40, test: int = 20) -> TaskData:
    texts = sentences(train + test, seed=3, length=(3, 12))
    found = np.array([text.count("the") + text.count("war") for text in texts])
    labels = found.astype(float) if regression else (found > 0).astype(np.int64)
    return TaskData(
        "t",
        "pearson" if regression else "accuracy",
        texts[:train],
        labels[:train],
        texts[train:],
        labels[train:],
    )


# ---------------------------------------------------------------------------- training


@pytest.mark.parametrize("regression", [False, True])
def test_training_is_that_of_a_plain_loop(store: TokenStore, regression: bool) -> None:
    """Every weight, after the same batches, as transformers' own forward pass gives them."""
    data, backbone, codec = task_of(regression), backbone_of(store), store.codec
    ids, _ = encoded(codec, data.train_inputs, 32)
    targets = torch.from_numpy(data.train_labels)
    targets = targets.float() if regression else targets
    outputs = 1 if regression else 2
    model = Classifier(backbone, codec, "causal", outputs)
    assert tuned(model, ids, targets, rate=0.01, epochs=3, seed=(0, 0))

    lm, head = copy.deepcopy(backbone.lm), nn.Linear(backbone.width, outputs)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    parameters = [*lm.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.01)
    steps = list(batches([len(each) for each in ids], 3, (0, 0)))
    assert len(steps) == 3 * 3
    for number, batch in enumerate(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * ((9 - number) / 8 if number else 1)
        pooled = []
        for i in batch:
            states = lm.model(ids[i][None]).last_hidden_state[0]
            pooled.append(states[1:].mean(0))
        found = head(torch.stack(pooled))
        loss = F.mse_loss(found[:, 0], targets[batch]) if regression else None
        loss = F.cross_entropy(found, targets[batch]) if loss is None else loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    assert not torch.equal(lm.lm_head.weight, backbone.lm.lm_head.weight)
    own = dict(model.backbone.lm.named_parameters())
    for name, parameter in lm.named_parameters():
        torch.testing.assert_close(own[name], parameter, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(model.weight, head.weight, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("attention", ["causal", "bidirectional", "prefix"])
def test_a_text_is_read_as_the_probe_reads_it(store: TokenStore, attention: str) -> None:
    data, backbone, codec = task_of(), backbone_of(store), store.codec
    ids, cut = encoded(codec, data.test_inputs, 8)
    model = Classifier(backbone, codec, attention, 3)
    with torch.no_grad():
        model.weight.normal_()
    states = pooled_states(backbone, codec, ids, attention)
    assert cut > 0
    right = torch.from_numpy(states[-1]) @ model.weight.detach().T
    torch.testing.assert_close(outputs_of(model, ids), right, atol=1e-4, rtol=1e-4)
    alone = torch.cat([model([each]) for each in ids]).detach()
    torch.testing.assert_close(alone, right, atol=1e-4, rtol=1e-4)


def test_a_frozen_backbone_leaves_logistic_regression(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With states that do not move, the head ends where scikit-learn's does."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(48, backbone_of(store).width, generator=generator)[:, :4]
    chance = torch.sigmoid(2 * features[:, 0] - features[:, 1])
    targets = (torch.rand(48, generator=generator) < chance).long()
    rows = [torch.tensor([i]) for i in range(48)]
    model = Classifier(backbone_of(store), store.codec, "causal", 2)
    model.weight = nn.Parameter(torch.zeros(2, 4))
    frozen = lambda ids: features[torch.cat([*ids])]  # noqa: E731
    monkeypatch.setattr(model, "pooled", frozen)
    model.backbone.requires_grad_(False)
    monkeypatch.setattr("lookaround.evaluation.classifier.BATCH", 48)
    monkeypatch.setattr("lookaround.evaluation.classifier.DECAY", 0.0)
    assert tuned(model, rows, targets, rate=0.1, epochs=250, seed=(0, 0))
    right = LogisticRegression(C=1e8, tol=1e-8, max_iter=1000).fit(features, targets)
    found = model(rows).detach().softmax(1)[:, 1].numpy()
    np.testing.assert_allclose(found, right.predict_proba(features)[:, 1], atol=2e-3)


def test_batches_are_every_example_once_by_length() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 200).tolist()
    found = list(batches(lengths, 2, (0, 1)))
    assert found == list(batches(lengths, 2, (0, 1))) != list(batches(lengths, 2, (0, 2)))
    epochs = found[:13], found[13:]
    for epoch in epochs:
        assert sorted(i for batch in epoch for i in batch) == list(range(200))
        assert max(map(len, epoch)) == 16
    padding = sum(len(batch) * max(lengths[i] for i in batch) for batch in found)
    assert padding < 1.25 * 2 * sum(lengths)


# ---------------------------------------------------------------------------- one model


@pytest.mark.parametrize("regression", [False, True])
def test_the_scores_of_a_model(store: TokenStore, regression: bool) -> None:
    """The model is left as it was, the same seed says the same, and all numbers have their rows."""
    data, readable = task_of(regression), readable_of(store, "bidirectional")
    before = {name: each.clone() for name, each in readable.backbone.state_dict().items()}
    torch.manual_seed(7)
    random = torch.get_rng_state()
    made: list[tuple[int, int]] = []
    protocol = Finetune()
    protocol.progress = lambda *steps: made.append(steps)
    found = protocol.run(readable, data, SMALL, 0)
    assert torch.equal(random, torch.get_rng_state())
    after = readable.backbone.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(each.grad is None for each in readable.backbone.parameters())
    assert made == [(step + 1, made[-1][1]) for step in range(made[-1][1])]

    torch.manual_seed(8)
    assert protocol.run(readable, data, SMALL, 0) == found
    rows = found.details["by_labels"]
    assert [(row["labels"], row["draws"]) for row in rows] == [(16, 2), (32, 1)]
    assert found.value == rows[-1]["score"] == np.mean(rows[-1]["scores"])
    assert rows[0]["low"] <= rows[0]["score"] <= rows[0]["high"]
    assert rows[1]["low"] is rows[1]["high"] is None
    assert all(-1 <= row[name] <= 1 for row in rows for name in ("probe", "tfidf"))
    columns = [np.array(column)[None] for column in found.items]
    assert protocol.statistic(found.metric, *columns) == pytest.approx(found.value)
    assert ("spearman" in found.details) == regression
    if regression:
        right = stats.pearsonr(*found.items).statistic, stats.spearmanr(*found.items).statistic
        assert (found.value, found.details["spearman"]) == pytest.approx(right)


def test_the_best_rate_is_found_and_one_that_diverges_is_worst(store: TokenStore) -> None:
    labels = np.arange(40) % 3 // 2
    texts = [("green hills", "old men")[label] for label in labels]
    data = TaskData("t", "accuracy", texts, labels, texts, labels)
    ids, _ = encoded(store.codec, texts, 32)
    tuning = Tuning(backbone_of(store), store.codec, "causal", data, ids, ids, 0, lambda: None)
    rows = np.arange(40)
    assert tuning.best_rate(rows, [1e-9, 2e-3], 5) == 2e-3
    assert tuning.best_rate(rows, [2e-3, 1e-3], 5) == 2e-3, "as right, and surer"
    assert tuning.best_rate(rows, [1e30, 1e-9], 1) == 1e-9
    assert {*tuning.predicted(rows, 2e-3, 5, 0)} == {0, 1}
    assert {*tuning.predicted(rows, 1e30, 1, 0)} == {0}, "the most frequent class"


def test_it_learns_what_a_bag_of_tokens_tells(store: TokenStore) -> None:
    data = task_of(train=160, test=60)
    settings = EvaluateSettings(
        finetune_labels=[160], finetune_draws=[1], finetune_epochs=[8], finetune_rates=[3.0]
    )
    found = Finetune().run(readable_of(store), data, settings, 0)
    assert found.value is not None
    assert found.value > max(data.test_labels.mean(), 1 - data.test_labels.mean()) + 0.1


# ---------------------------------------------------------------------------- draws


def test_draws_are_nested_and_hold_every_class() -> None:
    labels = np.repeat(np.arange(10), [91, *[1] * 4, *[21] * 5])
    texts = [str(number) for number in range(len(labels))]
    data = TaskData("t", "accuracy", texts, labels, texts, labels)
    for number in range(3):
        small, large = draws_of(data, 20, number), draws_of(data, 60, number)
        assert {*small} < {*large}
        assert len({*small}) == 20
        assert {*labels[small]} == {*range(10)}
        assert len({*labels[draws_of(data, 10, number)]}) == 10
    assert {*draws_of(data, 20, 0)} != {*draws_of(data, 20, 1)}


def test_the_numbers_of_labels_end_with_all_that_there_are() -> None:
    settings = EvaluateSettings()
    usual = [Size(64, 5, 30), Size(256, 5, 15), Size(1024, 3, 4), Size(4096, 1, 2)]
    assert sizes_for(10_000, settings) == usual
    assert sizes_for(300, settings) == [*usual[:2], Size(300, 1, 4)]
    assert sizes_for(256, settings) == [usual[0], Size(256, 1, 15)]
    assert sizes_for(40, settings) == [Size(40, 1, 30)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"finetune_draws": [1]}, "evaluate.finetune_draws: 1 numbers found, must be 4"),
        ({"finetune_labels": [64, 64, 80, 90]}, "must rise"),
    ],
)
def test_lists_that_do_not_fit_are_refused(changed: dict[str, Any], message: str) -> None:
    settings = EvaluateSettings(**changed)
    with pytest.raises(UserError, match=message):
        Finetune().cost(task_of(), settings)


def test_more_examples_than_a_probe_gets_are_drawn() -> None:
    texts = sentences(60)
    task = Task("t", "accuracy", ["a", "b"], texts, [0, 1] * 30, texts[:4], [0, 1, 0, 1], [])
    data = task_data(
        task,
        EvaluateSettings(
            probe_train=20,
            **SMALL.model_dump(include={"finetune_labels", "finetune_draws", "finetune_epochs"}),
        ),
    )
    assert isinstance(data, TaskData)
    assert (len(data.train_inputs), len(data.more_inputs)) == (20, 12)
    assert not {*data.train_inputs} & {*data.more_inputs}
    assert data.more_labels is not None
    assert [texts.index(text) % 2 for text in data.more_inputs] == data.more_labels.tolist()


def test_the_cost_counts_what_is_read(store: TokenStore) -> None:
    # 16 labels: 2 draws and 2 rates on 12; 32: 1 draw and 2 rates on 25
    trained = 2 * 16 * 2 + 2 * 12 * 2 + 32 + 2 * 25
    read = 2 * 4 + 2 * 7 + 3 * 20 + 40 + 20
    assert Finetune().cost(task_of(), SMALL) == {"texts": 3 * trained + read}


# ---------------------------------------------------------------------------- what it is worth


def row(labels: int, gain: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"labels": labels, "gain": gain, "gain_low": low, "gain_high": high}


UP, NONE, DOWN = (0.05, 0.02, 0.08), (0.01, -0.02, 0.04), (-0.03, -0.05, -0.01)


@pytest.mark.parametrize(
    ("gains", "sentence"),
    [
        ([UP, NONE, NONE], "worth +5.0 points up to 64 labels, nothing above"),
        ([UP, (0.031, 0.01, 0.05), NONE], "worth +3.1 points up to 256 labels, nothing above"),
        ([NONE, UP, NONE], "worth +5.0 points up to 256 labels, nothing above"),
        ([UP, UP, UP], "worth +5.0 points at all numbers of labels measured"),
        ([NONE, UP, UP], "worth +5.0 points at 1,024 labels, the most measured"),
        ([NONE, NONE, NONE], "worth nothing at any number of labels"),
        ([NONE, NONE, DOWN], "worth nothing at any number of labels, -3.0 points at 1,024 labels"),
        (
            [UP, NONE, DOWN],
            "worth +5.0 points up to 64 labels, nothing above, -3.0 points at 1,024 labels",
        ),
        ([UP, NONE, (0.3, None, None)], "worth +5.0 points up to 64 labels, nothing above"),
        ([(0.3, None, None)] * 3, "not known: no number of labels has an interval"),
    ],
)
def test_what_pretraining_is_worth(gains: list[tuple[Any, ...]], sentence: str) -> None:
    rows = [row(labels, *gain) for labels, gain in zip((64, 256, 1024), gains, strict=True)]
    assert worth(rows) == sentence


def test_a_record_says_what_scratch_reaches() -> None:
    """Gains are paired by draw, and by test item where there is one draw."""
    generator = np.random.default_rng(0)
    true = generator.integers(2, size=200)

    def scores(draws: list[float], wrong: int) -> Scores:
        predicted = np.where(np.arange(200) < wrong, 1 - true, true)
        value = 1 - wrong / 200
        rows = [
            {"labels": 64, "scores": draws, "score": float(np.mean(draws)), "draws": 3},
            {"labels": 300, "scores": [value], "score": value, "draws": 1},
        ]
        return Scores("accuracy", value, (true.tolist(), predicted.tolist()), {"by_labels": rows})

    found, before = scores([0.6, 0.7, 0.65], 40), scores([0.55, 0.66, 0.58], 50)
    record = Finetune().record(found, before)
    first, last = record["by_labels"]
    interval = stats.ttest_rel([0.6, 0.7, 0.65], [0.55, 0.66, 0.58]).confidence_interval()
    assert (first["gain_low"], first["gain_high"]) == pytest.approx(tuple(interval))
    assert first["before"] == pytest.approx(np.mean([0.55, 0.66, 0.58]))
    assert first["before_scores"] == [0.55, 0.66, 0.58]
    # 10 of 200 items differ: a share of 0.05, give or take 1.96 * sqrt(.05 * .95 / 200)
    assert last["gain"] == pytest.approx(0.05)
    assert (last["gain_low"], last["gain_high"]) == pytest.approx((0.02, 0.08), abs=0.006)
    assert record["worth"] == "worth +5.0 points at all numbers of labels measured"
    assert (record["score"], record["before"]) == (0.8, 0.75)
    assert Finetune().record(found) == {"score": 0.8, **found.details}
