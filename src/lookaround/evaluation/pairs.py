"""Minimal pairs: does a model find the good text more probable than the bad one?

The chain rule is the likelihood that all objectives have; a bidirectional model has a
pseudo-likelihood beside it (evaluation/likelihood.py). Both are of whole texts after BOS, and
nothing is left out of the softmax, as in other packages.

n pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lookaround.evaluation.baselines import Baseline
from lookaround.evaluation.bits_per_byte import unigram
from lookaround.evaluation.likelihood import log_likelihoods, word_numbers
from lookaround.evaluation.registry import PairData, Protocol, Scores
from lookaround.model.readable import Readable, classification_mode
from lookaround.objectives.contract import Mode
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError

# in nats: what rounding leaves of equal likelihoods
TIE = 1e-4
# windows of masks have a multiple of so many tokens, so that many texts share a pass
WIDTHS = 8


def preferred(
    readable: Readable,
    mode: Mode,
    good: Sequence[str],
    bad: Sequence[str],
    *,
    pseudo: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """1 where a good text is more likely than the bad one beside it, 0.5 where they tie, (n,).

    NaN where one of them, with BOS and EOS, is longer than the model's window. Both texts of a pair
    are read in a window of one width, that of the longer one or little more, so that its masks do
    not tell how long a text is.

    pseudo: by the pseudo-likelihood, for bidirectional modes.
    progress: called with (rows read, all rows).
    """
    codec = readable.tokenizer
    ids = [codec.encode(texts) for texts in (good, bad)]
    longest = np.array([max(map(len, both)) for both in zip(*ids, strict=True)]) + 1
    fits = np.flatnonzero(longest + (codec.eos is not None) <= readable.context)
    widths = np.minimum(-(-longest // WIDTHS) * WIDTHS, readable.context)[fits].tolist()
    texts = [part[i] for part in ids for i in fits]
    words = None
    if pseudo:
        words = [[-1, *word_numbers(codec, part[i])] for part in (good, bad) for i in fits.tolist()]
    found = log_likelihoods(
        readable,
        mode,
        [[codec.bos]] * len(texts),
        texts,
        words=words,
        after=[] if codec.eos is None else [codec.eos],
        widths=2 * widths,
        progress=progress,
    )
    nats = np.array([each.nats for each in found]).reshape(2, len(fits))
    result = np.full(len(good), np.nan)
    result[fits] = _outcomes(nats[0], nats[1])
    return result


def _outcomes(good: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """1, 0.5 or 0 (n,) of log-likelihoods (n,)."""
    difference = good - bad
    return np.where(np.abs(difference) < TIE, 0.5, difference > 0)


def _by_phenomenon(outcomes: np.ndarray, phenomena: Sequence[str]) -> dict[str, float]:
    """{phenomenon: mean outcome}; of those that are named."""
    names = np.array(phenomena)
    return {
        name: float(outcomes[names == name].mean()) for name in dict.fromkeys(phenomena) if name
    }


class Pairs(Protocol[PairData]):
    """Share of minimal pairs whose good text is the likelier one by the chain rule; ties are half.

    Details: "chain" and, for a model with a bidirectional mode, "pseudo" ({"score", "mode",
    "by_phenomenon": {name: score}}), and "left_out", the pairs that are longer than the window.
    """

    name, needs, title, writes = "pairs", PairData, "minimal pairs", True

    def run(
        self, readable: Readable, data: PairData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        mode, masked = self.mode(readable, settings), classification_mode(readable.modes)
        chain = preferred(readable, mode, data.good, data.bad, progress=self.progress)
        fits = ~np.isnan(chain)
        if not fits.any():
            raise UserError(
                f"{data.name}: every pair has a text of more than {readable.context} tokens, the "
                "model's window; give shorter texts or a longer model.context"
            )
        phenomena = [name for name, kept in zip(data.phenomena, fits, strict=True) if kept]

        def told(outcomes: np.ndarray, by: Mode) -> dict[str, Any]:
            return {
                "score": float(outcomes.mean()),
                "mode": str(by),
                "by_phenomenon": _by_phenomenon(outcomes, phenomena),
            }

        details = {"chain": told(chain[fits], mode), "left_out": int((~fits).sum())}
        if masked.attention == "bidirectional":
            pseudo = preferred(
                readable, masked, data.good, data.bad, pseudo=True, progress=self.progress
            )
            details["pseudo"] = told(pseudo[fits], masked)
        return Scores("accuracy", float(chain[fits].mean()), [chain[fits].tolist()], details)

    def cost(self, data: PairData, settings: EvaluateSettings) -> dict[str, int]:
        return {"texts": 2 * len(data.good)}


class UnigramPairs(Baseline[PairData]):
    """The text of the more frequent tokens, by their frequencies in the training part."""

    name, key, needs, title = "unigram_pairs", "unigram", PairData, "the unigram model"
    beside = ("pairs",)

    def accepts(self, data: object) -> bool:
        return isinstance(data, PairData) and data.codec is not None and data.counts is not None

    def run(
        self, readable: Readable | None, data: PairData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        assert data.codec is not None
        assert data.counts is not None
        # a token that is special elsewhere is text where a text spells it
        nats_v = np.log(unigram(data.counts, ()))
        good, bad = (
            np.array([nats_v[ids].sum() for ids in data.codec.encode(texts)])
            for texts in (data.good, data.bad)
        )
        outcomes = _outcomes(good, bad)
        details = {"by_phenomenon": _by_phenomenon(outcomes, data.phenomena)}
        return Scores("accuracy", float(outcomes.mean()), [outcomes.tolist()], details)
