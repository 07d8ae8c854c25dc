"""Does a prediction depend on how many masks stand behind it? Misalignment of training and writing.

A masked model is trained on rows of one length, and writes texts of any. What it says of the next
token after a prefix should not depend on how many masks follow. For a causal model it does not: 0
by construction. Ours; `theory.worlds.length_misalignment` says what an objective's training makes
likely.

s tokens of a prefix, from the first of a row on, m masks behind it, T tokens of a training row,
R rows.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lookaround.decode.masked import window_log_probabilities
from lookaround.evaluation.bits_per_byte import ScoredTokens, scored_tokens
from lookaround.evaluation.features import tokens_per_pass
from lookaround.evaluation.registry import Protocol, Scores, TextData
from lookaround.model.foreign import reading
from lookaround.model.readable import Readable
from lookaround.objectives import parse
from lookaround.objectives.contract import Mode
from lookaround.objectives.laws import LONGEST_ENUMERATED
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError
from lookaround.theory.worlds import length_misalignment

SHARE = 4  # of the positions that bits per byte scores, one in so many


def numbers_of_masks(prefix: int, width: int) -> list[int]:
    """1, 2, 4, .. below the number that a training row has behind a prefix."""
    return [1 << k for k in range(max(0, width - prefix - 1).bit_length())]


class Misalignment(Protocol[TextData]):
    """Kullback-Leibler divergence in nats of the prediction with m masks behind a prefix from that
    with as many as a training row has, the mean over prefixes and over m = 1, 2, 4 ..
    """

    name, needs, higher, writes = "misalignment", TextData, False, True
    title = "misalignment, nats"

    def run(
        self, readable: Readable, data: TextData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        """With its means `by_masks` and `by_prefix`, and what theory says of the objective."""
        scored, mode = _scored(data, settings), self.mode(readable, settings)
        items: list[np.ndarray] = []
        by_masks: dict[int, list[np.ndarray]] = {}
        by_prefix: dict[str, float] = {}
        for stratum, prefix in enumerate(scored.prefix_lengths):
            self.progress(stratum, len(scored.prefix_lengths))
            rows = scored.row[scored.stratum == stratum][: self._rows(settings)]
            known = data.test.take(rows).tokens[:, :prefix]
            nats = divergences(readable, known, mode, data.test.width)
            for masks, found in nats.items():
                by_masks.setdefault(masks, []).append(found)
            items.append(np.mean([*nats.values()], 0))
            by_prefix[str(prefix)] = float(items[-1].mean())
        every = np.concatenate(items)
        details = {
            "by_masks": {
                str(m): float(np.concatenate(by_masks[m]).mean()) for m in sorted(by_masks)
            },
            "by_prefix": by_prefix,
            "theory": _predicted(readable, data.test.width),
        }
        return Scores("nats", float(every.mean()), (every.tolist(),), details)

    def cost(self, data: TextData, settings: EvaluateSettings) -> dict[str, int]:
        lengths, width = _scored(data, settings).prefix_lengths, data.test.width
        windows = sum(1 + len(numbers_of_masks(prefix, width)) for prefix in lengths)
        return {"tokens": windows * self._rows(settings)}

    def _rows(self, settings: EvaluateSettings) -> int:
        return max(1, settings.positions // SHARE)


def _scored(data: TextData, settings: EvaluateSettings) -> ScoredTokens:
    """The tokens of bits per byte, whose prefixes are read; UserError for one that fills a row."""
    scored, width = scored_tokens(data.test, settings), data.test.width
    longest = max(scored.prefix_lengths)
    if not numbers_of_masks(longest, width):
        raise UserError(
            f"evaluate.prefix_lengths: {longest} leaves no two numbers of masks to compare in rows "
            f"of {width} tokens; give at most {width - 2}, or leave misalignment out"
        )
    return scored


def divergences(
    readable: Readable, known_rs: Tensor, mode: Mode, width: int
) -> dict[int, np.ndarray]:
    """{m: nats (R,)} of the prediction behind prefixes (R, s), against rows of `width` tokens."""
    rows, prefix = known_rs.shape
    numbers = numbers_of_masks(prefix, width)
    if mode.attention == "causal":
        return {masks: np.zeros(rows) for masks in numbers}
    whole = _predictions(readable, known_rs, mode, width - prefix)
    found = {}
    for masks in numbers:
        some = _predictions(readable, known_rs, mode, masks)
        found[masks] = (
            torch.where(whole > -torch.inf, whole.exp() * (whole - some), 0).sum(1).numpy()
        )
    return found


def _predictions(readable: Readable, known_rs: Tensor, mode: Mode, masks: int) -> Tensor:
    """Log-probabilities (R, V) float64 of the token behind prefixes (R, s) with m masks there."""
    prefix, mask = known_rs.shape[1], readable.codec.vocabulary.mask
    window = torch.nn.functional.pad(known_rs, (0, masks), value=mask)
    at_once = max(1, tokens_per_pass(readable.backbone.device) // window.shape[1])
    parts = []
    with reading(readable.backbone):
        for part in window.split(at_once):
            place = torch.full((len(part), 1), prefix)
            log = window_log_probabilities(readable.backbone, part, place, mode, readable.unwritten)
            parts.append(log[:, 0].double().cpu())
    return torch.cat(parts)


def _predicted(readable: Readable, width: int) -> float | None:
    """Theory's misalignment of the objective that trained a run, on rows as long as it lists."""
    spec = (readable.info or {}).get("objective")
    if not isinstance(spec, str):
        return None
    try:
        return length_misalignment(parse(spec), min(width, LONGEST_ENUMERATED) - 1)
    except (UserError, ValueError):
        return None
