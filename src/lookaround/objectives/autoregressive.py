"""Objectives whose state t sees tokens 0..t: `ar`, `dar` and `prefixlm`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from lookaround.objectives.contract import (
    CAUSAL,
    Attention,
    Batch,
    HeadSpec,
    Mode,
    Pairs,
    Shown,
    View,
    scored_pairs,
)
from lookaround.objectives.heads import OffsetSpec
from lookaround.objectives.laws import Ahead, Law
from lookaround.objectives.objective import Objective, ParameterError
from lookaround.support.randomness import keyed_uniform

FARTHEST = 4096  # tokens ahead that a target may stand


@dataclass(frozen=True)
class AR(Objective):
    """Causal language modelling: every state predicts the next token.

    rate: share of the tokens that are shown as the mask; they are targets all the same
        (mask-enhanced autoregression, arXiv 2502.07490). For text that is read many times.
    """

    rate: float = field(default=0.0, kw_only=True)

    name = "ar"

    def __post_init__(self) -> None:
        self._require_share("rate", zero=True)

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        tokens = batch.tokens
        if self.rate:
            uniform = keyed_uniform(seed, epoch, batch.row, "hide", tokens.shape[1])
            hidden = (uniform < self.rate) & batch.eligible
            tokens = torch.where(hidden, batch.vocabulary.mask, tokens)
        shown = Shown(tokens, CAUSAL, batch.borders)
        return (scored_pairs(batch, batch.targets(1), 1, shown),)

    def modes(self) -> tuple[Mode, ...]:
        return (Mode("causal", 1),)

    def laws(self) -> tuple[Law, ...]:
        return (Ahead(1, hidden=self.rate),)


@dataclass(frozen=True)
class DAR(AR):
    """Diversity-enhanced autoregression (after arXiv 2407.00935; the form is ours).

    Every state predicts the next token, and, with loss weight `share`, one token sampled 2..horizon
    ahead through an offset embedding and a small MLP (head 1).
    law: "uniform", or "harmonic" with probability proportional to 1/offset.
    columns: tokens in a row of a picture; 0: a text. In a picture the farther token stands 2 to
        horizon to the right in the same row, or 1 to horizon rows below in the same column.
    """

    horizon: int = 8
    share: float = 0.5
    law: str = "uniform"
    columns: int = 0

    name = "dar"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_int("horizon", 2, 1024)
        self._require_share("share")
        self._require_one_of("law", ("uniform", "harmonic"))
        self._require_int("columns", 0, FARTHEST // self.horizon)

    def in_plane(self, columns: int) -> DAR:
        if self.columns not in (0, columns):
            why = "" if columns else ", and a text has none"
            raise ParameterError("columns", f"columns is {self.columns}{why}; leave it out")
        return replace(self, columns=columns)

    def _far(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(offset in the row of tokens, probability, whether it is one to the right in a picture)
        of each farther target.
        """
        right, below = torch.arange(2, self.horizon + 1), torch.arange(0)
        if self.columns:
            below = torch.arange(1, self.horizon + 1)
        distance = torch.cat([right, below]).double()
        mass = torch.ones_like(distance) if self.law == "uniform" else 1 / distance
        flat = torch.tensor([bool(self.columns)] * len(right) + [False] * len(below))
        return torch.cat([right, below * self.columns]), mass / mass.sum(), flat

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        (near,) = super().view(batch, seed, epoch)
        width = batch.tokens.shape[1]
        uniform = keyed_uniform(seed, epoch, batch.row, "far", width)
        offsets, probability, flat = self._far()
        drawn = torch.bucketize(uniform, probability.cumsum(0)[:-1], right=True)
        offset = offsets[drawn]
        position = torch.arange(width) + offset
        inside = position < width  # a target beyond the row's end is dropped, not moved nearer
        if self.columns:  # BOS stands nowhere in the picture
            inside &= torch.arange(width) > 0
            inside &= ~flat[drawn] | ((position - 1) % self.columns >= offset)
        position = position.clamp(max=width - 1)
        inside &= batch.eligible.gather(1, position)
        if batch.documents is not None:
            inside &= batch.documents == batch.documents.gather(1, position)
        state = inside.flatten().nonzero().flatten()
        weight = torch.cat([near.pairs.weight, torch.full((len(state),), float(self.share))])
        pairs = Pairs(
            state=torch.cat([near.pairs.state, state]),
            target=torch.cat(
                [near.pairs.target, batch.tokens.gather(1, position).flatten()[state]]
            ),
            offset=torch.cat([near.pairs.offset, offset.flatten()[state]]),
            head=torch.cat([near.pairs.head, torch.ones_like(state)]),
            weight=weight,
        )
        return (View(near.shown, pairs, float(weight.double().sum())),)

    def head_specs(self) -> tuple[HeadSpec, ...]:
        return (OffsetSpec(self.horizon * max(1, self.columns)),)

    def laws(self) -> tuple[Law, ...]:
        far = zip(*(column.tolist() for column in self._far()), strict=True)
        farther = (
            Ahead(offset, self.share * probability, self.rate, self._inside(offset, flat))
            for offset, probability, flat in far
        )
        return (Ahead(1, hidden=self.rate), *farther)

    def _inside(self, offset: int, flat: bool) -> Callable[[np.ndarray, int], np.ndarray] | None:
        """Whether a target (P,) has a state at this offset in its picture; None: all have."""
        if not self.columns:
            return None
        if flat:
            return lambda target, length: ((target - 1) % self.columns >= offset).astype(float)
        return lambda target, length: (target > offset).astype(float)


@dataclass(frozen=True)
class PrefixLM(Objective):
    """Prefix language modelling (Raffel et al. 2020): a bidirectional prefix, then causal targets.

    The prefix takes a share of the row's first document drawn uniformly from [low, high].
    """

    low: float = 0.0
    high: float = 1.0

    name = "prefixlm"

    def __post_init__(self) -> None:
        self._require_share("low", zero=True)
        self._require_share("high")
        self._require_order("low", "high")

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        _, length = batch.spans()
        uniform = keyed_uniform(seed, epoch, batch.row, "cut", 1)[:, 0]
        share = self.low + (self.high - self.low) * uniform
        # at least the first token, at most all but the last, so that every row of two tokens has a
        # target
        prefix = 1 + (share * (length[:, 0] - 1)).long().clamp(max=(length[:, 0] - 2).clamp(min=0))
        where = batch.targets(1) & (torch.arange(batch.tokens.shape[1]) >= prefix[:, None])
        shown = Shown(batch.tokens, Attention("prefix", lengths=prefix), batch.borders)
        return (scored_pairs(batch, where, 1, shown),)

    def modes(self) -> tuple[Mode, ...]:
        return (Mode("prefix", 1),)

    def laws(self) -> tuple[Law, ...]:
        return (Ahead(1, scored=self._after_prefix),)

    def _after_prefix(self, target: np.ndarray, length: int) -> np.ndarray:
        """P(the prefix is at most as long as the tokens before each target), as `view` draws it."""
        if length < 3:
            return np.ones(len(target))
        # 1 + floor(share * (length - 1)), at most length - 1, is <= target iff share < target /
        # (length - 1)
        drawn = (target / (length - 1) - self.low) / max(self.high - self.low, 1e-12)
        return np.where(target == length - 1, 1.0, np.clip(drawn, 0, 1))
