"""Filling in hidden patches of pictures: the squared error of what a model expects there.

N pictures, P codes of a picture, p * p pixels of a patch, K codes in all, T tokens of a row.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lookaround.data.patches import PatchCodec
from lookaround.data.rows import Rows
from lookaround.decode.cache import cache_argument
from lookaround.evaluation.baselines import Baseline
from lookaround.evaluation.features import tokens_per_pass
from lookaround.evaluation.registry import Protocol, Scores, TextData
from lookaround.evaluation.samples import spread
from lookaround.model.backbone import Backbone
from lookaround.model.foreign import reading
from lookaround.model.readable import Readable
from lookaround.objectives.contract import BIDIRECTIONAL, Mode, Shown
from lookaround.settings import EvaluateSettings

HIDDEN = 0.5  # share of the patches that are hidden


def hidden_patches(count: int, patches: int) -> np.ndarray:
    """(N, P) bool, the same for every model: half of each picture's patches, drawn at random."""
    noise = np.random.default_rng(0).random((count, patches))
    hidden = np.zeros((count, patches), dtype=bool)
    np.put_along_axis(hidden, noise.argsort(1)[:, : round(HIDDEN * patches)], True, 1)
    return hidden


def tested(rows: Rows, settings: EvaluateSettings) -> np.ndarray:
    """Tokens (N, T) of the test pictures that are filled in, spread over the split."""
    return rows.take(spread(len(rows), settings.reconstructed)).tokens.numpy()


def expected_patches(
    backbone: Backbone, codec: PatchCodec, tokens: np.ndarray, hidden: np.ndarray, mode: Mode
) -> np.ndarray:
    """What a model expects of each patch, (N, P, p * p) float32, the hidden ones being unknown.

    The mean of the codebook under its probabilities, which no other answer beats in squared error.
    A bidirectional model sees the patches that are left on all sides and fills in all at once; a
    causal one goes through the picture, reads its likeliest code where one is hidden, and knows
    nothing of what comes later.
    """
    fill = _both_ways if mode.attention == "bidirectional" else _in_order
    book = torch.from_numpy(codec.codebook)
    expected = np.empty((*hidden.shape, codec.codebook.shape[1]), dtype=np.float32)
    at_once = max(1, tokens_per_pass(backbone.device) // tokens.shape[1])
    for begin in range(0, len(tokens), at_once):
        part = slice(begin, begin + at_once)
        known, unknown = torch.from_numpy(tokens[part]), torch.from_numpy(hidden[part])
        with reading(backbone):
            expected[part] = fill(backbone, codec, known, unknown, mode, book).numpy()
    return expected


def _patches(backbone: Backbone, states: Tensor, book: Tensor) -> tuple[Tensor, Tensor]:
    """(expected patch (.., p * p), likeliest code (..)) of states (.., D), on the CPU."""
    probability = backbone.logits(states)[..., : len(book)].float().softmax(-1).cpu()
    return probability @ book, probability.argmax(-1)


def _both_ways(
    backbone: Backbone, codec: PatchCodec, tokens: Tensor, hidden: Tensor, mode: Mode, book: Tensor
) -> Tensor:
    shown = tokens.clone()
    shown[:, 1:][hidden] = codec.vocabulary.mask
    states = backbone.states(Shown(shown, BIDIRECTIONAL).to(backbone.device))
    width = tokens.shape[1]
    return _patches(backbone, states[:, 1 - mode.shift : width - mode.shift], book)[0]


def _in_order(
    backbone: Backbone, codec: PatchCodec, tokens: Tensor, hidden: Tensor, mode: Mode, book: Tensor
) -> Tensor:
    from transformers import DynamicCache

    decoder = backbone.decoder
    cache, argument = DynamicCache(config=backbone.lm.config), cache_argument(type(decoder))
    expected, token = [], tokens[:, 0]
    for patch in range(hidden.shape[1]):
        out = decoder(
            token[:, None].to(backbone.device),
            use_cache=True,
            is_causal=True,
            **{argument: cache},
        )
        found, likeliest = _patches(backbone, out.last_hidden_state[:, -1], book)
        expected.append(found)
        token = torch.where(hidden[:, patch], likeliest, tokens[:, patch + 1])
    return torch.stack(expected, 1)


def _scores(rows: Rows, tokens: np.ndarray, hidden: np.ndarray, expected: np.ndarray) -> Scores:
    """The scores of expected patches (N, P, p * p); items are pictures."""
    codec = rows.codec
    assert isinstance(codec, PatchCodec)
    error = ((expected - codec.codebook[tokens[:, 1:]]) / 255) ** 2
    by_picture = (error.mean(-1) * hidden).sum(1)
    count = hidden.sum(1).astype(float)
    value = float(by_picture.sum() / count.sum())
    return Scores("squared_error", value, (by_picture.tolist(), count.tolist()))


class Reconstruction(Protocol[TextData]):
    """The mean squared error of hidden patches of pictures, grey levels from 0 to 1."""

    name, needs, higher, writes = "reconstruction", TextData, False, True
    title = "squared error of hidden patches"

    def accepts(self, data: object) -> bool:
        return isinstance(data, TextData) and data.pictures

    def mode(self, readable: Readable, settings: EvaluateSettings) -> Mode:
        """Both ways where the end of the training read so, else as it writes."""
        both = [mode for mode in readable.final_modes if mode.attention == "bidirectional"]
        return both[-1] if both else super().mode(readable, settings)

    def run(
        self, readable: Readable, data: TextData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        tokens = tested(data.test, settings)
        hidden = hidden_patches(*tokens[:, 1:].shape)
        codec = data.test.codec
        assert isinstance(codec, PatchCodec)
        mode = self.mode(readable, settings)
        expected = expected_patches(readable.backbone, codec, tokens, hidden, mode)
        return _scores(data.test, tokens, hidden, expected)

    def cost(self, data: TextData, settings: EvaluateSettings) -> dict[str, int]:
        return {"texts": min(settings.reconstructed, len(data.test))}

    def statistic(self, metric: str, *items: np.ndarray) -> np.ndarray:
        error, count = items
        return error.sum(-1) / count.sum(-1)


class MeanPicture(Baseline[TextData]):
    """The mean of the training pictures in place of every hidden patch."""

    name, needs, title = "mean_picture", TextData, "the mean training picture"
    beside = ("reconstruction",)
    higher = Reconstruction.higher

    def accepts(self, data: object) -> bool:
        return isinstance(data, TextData) and data.pictures and data.train is not None

    def run(
        self, readable: Readable | None, data: TextData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        assert data.train is not None
        tokens, codec = tested(data.test, settings), data.test.codec
        assert isinstance(codec, PatchCodec)
        train = Rows(data.train, data.test.width, codec)
        total, begin = np.zeros((tokens.shape[1] - 1, codec.codebook.shape[1])), 0
        while begin < len(train):
            part = train.take(np.arange(begin, min(begin + 4096, len(train)))).tokens.numpy()
            total += codec.codebook[part[:, 1:]].sum(0)
            begin += len(part)
        hidden = hidden_patches(*tokens[:, 1:].shape)
        expected = np.broadcast_to(total / len(train), (*hidden.shape, total.shape[1]))
        return _scores(data.test, tokens, hidden, expected)
