"""Misalignment: 0 for causal models, the same as by hand for masked ones, theory beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conftest import byte_level, sentences
from lookaround.data.rows import Rows
from lookaround.data.shards import in_memory
from lookaround.data.text import TextTokenizer
from lookaround.evaluation.misalignment import Misalignment, divergences, numbers_of_masks
from lookaround.evaluation.registry import TextData
from lookaround.model.backbone import build
from lookaround.model.readable import Readable
from lookaround.objectives import Mode, parse
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError
from lookaround.theory.worlds import length_misalignment

SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "mask_token": "<mask>"}
WIDTH = 24


@pytest.fixture(scope="module")
def codec() -> TextTokenizer:
    return TextTokenizer(byte_level([*SPECIAL.values()], **SPECIAL))


@pytest.fixture(scope="module")
def data(codec: TextTokenizer) -> TextData:
    rows = Rows(in_memory(sentences(60, length=(8, 20)), codec), WIDTH, codec)
    return TextData(rows, rows)


def readable(codec: TextTokenizer, *modes: Mode, objective: str = "mlm(rate=0.4)") -> Readable:
    special = {f"{name}_token_id": None for name in ("bos", "eos", "pad")}
    backbone = build(
        preset="pico", vocabulary=codec.vocabulary.size, context=WIDTH, special=special, seed=3
    )
    return Readable(backbone, codec, modes, modes, WIDTH, {"objective": objective})


def test_masks_behind_a_prefix() -> None:
    assert numbers_of_masks(1, 8) == [1, 2, 4]
    assert numbers_of_masks(4, 8) == [1, 2]
    assert numbers_of_masks(7, 8) == []


def test_a_prefix_without_two_numbers_of_masks_is_refused(data: TextData) -> None:
    settings = EvaluateSettings(positions=16, prefix_lengths=[4, WIDTH - 1])
    with pytest.raises(UserError, match=rf"{WIDTH - 1} leaves no two .* at most {WIDTH - 2}"):
        Misalignment().cost(data, settings)


def test_a_causal_model_has_none(codec: TextTokenizer, data: TextData) -> None:
    model = readable(codec, Mode("causal", 1), objective="ar")
    scores = Misalignment().run(model, data, EvaluateSettings(positions=16), 0)
    assert scores.value == 0
    assert set(scores.items[0]) == {0.0}
    assert scores.details["theory"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shift", [0, 1])
def test_divergences_are_those_by_hand(codec: TextTokenizer, data: TextData, shift: int) -> None:
    mode = Mode("bidirectional", shift)
    model = readable(codec, mode)
    known = data.test.take(np.arange(5)).tokens[:, :3]
    found = divergences(model, known, mode, WIDTH)
    assert list(found) == [1, 2, 4, 8, 16]

    def by_hand(tokens: list[int], masks: int) -> torch.Tensor:
        window = torch.tensor([[*tokens, *[codec.vocabulary.mask] * masks]])
        whole = torch.ones(1, 1, *[window.shape[1]] * 2, dtype=torch.bool)
        with torch.no_grad():
            out = model.backbone.lm(input_ids=window, attention_mask=whole)
        logits = out.logits[0, len(tokens) - shift].double()
        logits[model.unwritten] = -torch.inf
        return logits.softmax(-1)

    for row, tokens in enumerate(known.tolist()):
        p = by_hand(tokens, WIDTH - 3)
        for masks, nats in found.items():
            q = by_hand(tokens, masks)
            some = p > 0
            expected = float((p[some] * (p[some] / q[some]).log()).sum())
            assert nats[row] == pytest.approx(expected, abs=1e-5)
            assert nats[row] > 1e-6, "an untrained model does depend on it"


def test_scores_are_means_over_prefixes_and_masks(codec: TextTokenizer, data: TextData) -> None:
    model = readable(codec, Mode("bidirectional", 0))
    scores = Misalignment().run(model, data, EvaluateSettings(positions=32), 0)
    assert scores.value == pytest.approx(np.mean(scores.items[0]))
    assert list(scores.details["by_prefix"]) == ["1", "2", "4", "8"]
    assert [int(m) for m in scores.details["by_masks"]] == [1, 2, 4, 8, 16]
    assert scores.details["theory"] == pytest.approx(
        length_misalignment(parse("mlm(rate=0.4)"), 13)
    )
    for unknown in (None, {}, {"objective": "mine(3)"}):
        model = Readable(model.backbone, codec, model.modes, model.modes, WIDTH, unknown)
        assert (
            Misalignment().run(model, data, EvaluateSettings(positions=4), 0).details["theory"]
            is None
        )
