"""Left-to-right chain-rule bits per byte by prefix length, the likelihood all objectives share.

Bytes are those of the text: what a document's tokens stand for is scaled to the document's own, a
change for tokenizers alone that add or lose some. Per token, where a tokenizer loses much.

State s - shift scores token s. A bidirectional model sees the tokens before s and masks from s to
the end of the window, which has the training length also past the document's end, so that length
never leaks; a prefix model sees the whole prefix both ways. Special tokens are left out of the
softmax. Every objective is scored on the same list of (row, position).

K scored tokens, T tokens per row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lookaround.data.rows import Rows
from lookaround.evaluation.features import tokens_per_pass
from lookaround.evaluation.registry import Details, Protocol, Scores, TextData
from lookaround.model.backbone import Backbone
from lookaround.model.foreign import reading
from lookaround.model.masks import attention_of
from lookaround.model.readable import Readable
from lookaround.objectives.contract import Mode, Shown
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError
from lookaround.support.records import Count

ROWS_PER_PASS = 64
TOKENS_PER_PASS = 1 << 16


@dataclass(frozen=True)
class ScoredTokens:
    """The list that every objective is scored on.

    row, position, token, document: (K,) int64.
    size: (K,) float64, units of the token: bytes of text.
    stratum: (K,) int64, index into prefix_lengths.
    weight: (K,) float64, the share of the split's positions that one token of the stratum stands
        for.
    """

    prefix_lengths: tuple[int, ...]
    row: np.ndarray
    position: np.ndarray
    token: np.ndarray
    size: np.ndarray
    stratum: np.ndarray
    document: np.ndarray
    weight: np.ndarray


def default_prefix_lengths(width: int) -> tuple[int, ...]:
    """1, 2, 4, .. up to half the row: the lower ends of the strata."""
    return tuple(1 << k for k in range(int(math.log2(width))))


def choose_tokens(
    rows: Rows, prefix_lengths: tuple[int, ...], per_stratum: int, seed: int = 0
) -> ScoredTokens:
    """Draws `per_stratum` tokens with prefixes of prefix_lengths[i] to below prefix_lengths[i + 1].

    Raises UserError for a prefix length that no row of the split is longer than.
    """
    lengths = tuple(sorted(set(prefix_lengths)))
    if not lengths or lengths[0] < 1:
        raise UserError(
            f"evaluate.prefix_lengths: must be whole numbers from 1 up, got {list(prefix_lengths)}"
        )
    special = np.array(rows.codec.vocabulary.special)
    filled = rows.length[rows.first[:-1]]  # the first window of a row
    generator = np.random.default_rng(seed)
    strata = []
    for number, low in enumerate(lengths):
        high = lengths[number + 1] if number + 1 < len(lengths) else rows.width
        counts = np.clip(np.minimum(filled, high) - low, 0, None)
        total = int(counts.sum())
        if low >= rows.width or total == 0:
            longest = int(filled.max(initial=0))
            raise UserError(
                f"evaluate.prefix_lengths: {low} is too long; no test document has more than "
                f"{longest} tokens in a window of {rows.width}"
            )
        drawn = generator.choice(total, size=min(total, 2 * per_stratum), replace=False)
        ends = counts.cumsum()
        row = np.searchsorted(ends, drawn, side="right")
        position = low + drawn - (ends[row] - counts[row])
        window = rows.first[row]
        token = np.array(
            [
                rows.split.read(rows.document[w], rows.offset[w] + p, 1)[0]
                for w, p in zip(window, position, strict=True)
            ],
            dtype=np.int64,
        )
        plain = np.flatnonzero(~np.isin(token, special))
        if len(plain) == 0:
            raise UserError(
                f"evaluate.prefix_lengths: {low} is too long; only special tokens stand there"
            )
        stands_for = total * len(plain) / len(token)
        plain = plain[:per_stratum]
        stratum, share = np.full(len(plain), number), np.full(len(plain), stands_for / len(plain))
        strata.append((row[plain], position[plain], token[plain], stratum, share))
    row, position, token, stratum, share = map(np.concatenate, zip(*strata, strict=True))
    return ScoredTokens(
        prefix_lengths=lengths,
        row=row,
        position=position,
        token=token,
        size=_sizes(rows, rows.document[rows.first[row]], token),
        stratum=stratum,
        document=rows.document[rows.first[row]],
        weight=share / share.sum(),
    )


def _sizes(rows: Rows, document: np.ndarray, token: np.ndarray) -> np.ndarray:
    """Units of tokens (K,) of documents (K,); bytes of a whole document add up to its text's."""
    split, units = rows.split, rows.codec.units
    if split.bytes is None or rows.codec.unit != "byte":
        return units[token].astype(np.float64)
    drawn, of = np.unique(document, return_inverse=True)
    counted = np.array([units[split.read(d, 0, split.length[d])].sum() for d in drawn])
    return units[token] * (split.bytes[drawn] / np.maximum(counted, 1))[of]


def scored_tokens(rows: Rows, settings: EvaluateSettings) -> ScoredTokens:
    """The scored tokens of a test split, the same for every model of that codec and row length."""
    lengths = tuple(settings.prefix_lengths or default_prefix_lengths(rows.width))
    if settings.prefix_lengths is None:
        longest = int(rows.length.max(initial=0))
        lengths = tuple(length for length in lengths if length < longest - 1) or (1,)
    return choose_tokens(rows, lengths, settings.positions)


def chain_rule_bits(backbone: Backbone, rows: Rows, scored: ScoredTokens, mode: Mode) -> np.ndarray:
    """Bits of each scored token (K,) float64 under the model read in `mode`."""
    vocabulary = rows.codec.vocabulary
    spare = range(vocabulary.size, len(backbone.output.weight))
    forbidden = torch.tensor([*vocabulary.unwritten(), *spare]).to(backbone.device)
    bits = np.empty(len(scored.row))
    # one pass serves all positions of a row when what a state sees does not depend on the position
    # asked for
    shared = mode.attention == "causal"
    groups = (
        _groups(scored.row)
        if shared
        else [np.array([k]) for k in np.argsort(scored.row, kind="stable")]
    )
    most = tokens_per_pass(backbone.device, TOKENS_PER_PASS)
    for group, width in _passes(groups, scored.position, rows.width, most, cut=shared):
        batch = rows.take(np.array([scored.row[members[0]] for members in group]))
        members_of_group = np.concatenate(group)
        line = np.repeat(np.arange(len(group)), [len(members) for members in group])
        position = torch.from_numpy(scored.position[members_of_group])
        tokens = batch.tokens[:, :width]
        if not shared:
            hidden = torch.arange(width) >= position[:, None]
            tokens = torch.where(hidden, vocabulary.mask, tokens)
        attention = attention_of(mode.attention, position if not shared else torch.zeros(0))
        state = torch.from_numpy(line) * width + position - mode.shift
        shown = Shown(tokens, attention).to(backbone.device)
        with reading(backbone):
            log_nv = backbone.log_probabilities(shown, state.to(backbone.device), forbidden)
        token = torch.from_numpy(scored.token[members_of_group]).to(backbone.device)
        nats = -log_nv.gather(1, token[:, None])[:, 0]
        bits[members_of_group] = nats.double().cpu().numpy() / math.log(2)
    return bits


def _passes(
    groups: list[np.ndarray], position: np.ndarray, width: int, most: int, *, cut: bool
) -> Iterator[tuple[list[np.ndarray], int]]:
    """(groups of scored tokens, a row each; tokens of the row that are read) of each pass.

    most: tokens of a pass.
    cut: whether a row may end with its last scored token. It does where whole rows are long, and
        rows of about one length then share a pass.
    """
    cut = cut and ROWS_PER_PASS * width > TOKENS_PER_PASS
    read = [int(position[members].max()) + 1 if cut else width for members in groups]
    order = sorted(range(len(groups)), key=read.__getitem__)
    begin = 0
    while begin < len(order):
        end = begin + 1
        while (
            end < min(len(order), begin + ROWS_PER_PASS)
            and (end + 1 - begin) * read[order[end]] <= most
        ):
            end += 1
        yield [groups[k] for k in order[begin:end]], read[order[end - 1]]
        begin = end


def _groups(row: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(row, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(row[order])) + 1)


def unigram(counts: np.ndarray, special: tuple[int, ...]) -> np.ndarray:
    """Probabilities (V,) of tokens: their frequencies plus one, without special ones."""
    smoothed = counts.astype(np.float64) + 1
    smoothed[list(special)] = 0
    return smoothed / smoothed.sum()


def unigram_bits(counts: np.ndarray, scored: ScoredTokens, special: tuple[int, ...]) -> np.ndarray:
    """Bits of each scored token (K,) under the training part's token frequencies plus one."""
    return -np.log2(unigram(counts, special)[scored.token])


def bits_per_byte(bits: np.ndarray, scored: ScoredTokens) -> tuple[float, dict[str, float]]:
    """(bits per byte, by prefix length): sums of bits over sums of bytes.

    Over all strata a token counts with its weight, so that the total is that of the whole split.
    """
    total = float((bits * scored.weight).sum() / (scored.size * scored.weight).sum())
    by_prefix = {}
    for stratum, length in enumerate(scored.prefix_lengths):
        here = scored.stratum == stratum
        by_prefix[str(length)] = float(bits[here].sum() / scored.size[here].sum())
    return total, by_prefix


def per_document(bits: np.ndarray, scored: ScoredTokens) -> tuple[np.ndarray, np.ndarray]:
    """(weighted bits, weighted bytes) of each document with scored tokens, to resample by."""
    _, document = np.unique(scored.document, return_inverse=True)
    return (
        np.bincount(document, bits * scored.weight),
        np.bincount(document, scored.size * scored.weight),
    )


def bits_scores(bits: np.ndarray, scored: ScoredTokens) -> Scores:
    """The scores of bits of each scored token (K,); their items are documents."""
    total, by_prefix = bits_per_byte(bits, scored)
    counts = {str(n): int((scored.stratum == i).sum()) for i, n in enumerate(scored.prefix_lengths)}
    items = tuple(column.tolist() for column in per_document(bits, scored))
    return Scores("bits_per_byte", total, items, {"by_prefix": by_prefix, "scored_tokens": counts})


class BitsDetails(Details):
    by_prefix: dict[str, float | None]
    scored_tokens: dict[str, Count]


class BitsPerByte(Protocol[TextData]):
    """The left-to-right chain rule in bits per byte, in all and by length of the prefix."""

    name, needs, higher, writes = "bits_per_byte", TextData, False, True
    need = "write"
    kept = BitsDetails

    def run(
        self, readable: Readable, data: TextData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        scored, mode = scored_tokens(data.test, settings), self.mode(readable, settings)
        return bits_scores(chain_rule_bits(readable.backbone, data.test, scored, mode), scored)

    def titled(self, unit: str) -> str:
        return f"bits per {unit}"

    def cost(self, data: TextData, settings: EvaluateSettings) -> dict[str, int]:
        return {"tokens": len(scored_tokens(data.test, settings).row)}

    def statistic(self, metric: str, *items: np.ndarray) -> np.ndarray:
        bits, size = items
        return bits.sum(-1) / size.sum(-1)

    def entry(
        self, scores: Mapping[str, Scores], settings: EvaluateSettings, *, whole: bool = False
    ) -> dict[str, Any]:
        """{"bits_per_byte", "bits_per_byte_by_prefix": {length: ..}}; empty without text."""
        if not scores:
            return {}
        found = scores[TextData.name]
        return {"bits_per_byte": found.value, "bits_per_byte_by_prefix": found.details["by_prefix"]}
