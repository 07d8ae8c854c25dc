"""Objectives with farther targets at every state: `mtp`, `top` and `nextlat`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch

from lookaround.objectives.autoregressive import AR
from lookaround.objectives.contract import CAUSAL, Batch, HeadSpec, Pairs, Shown, View
from lookaround.objectives.heads import (
    LOOK_AHEAD_KINDS,
    LookAheadSpec,
    NextLatentSpec,
    TokenOrderSpec,
)
from lookaround.objectives.laws import Ahead, Law
from lookaround.objectives.objective import Objective
from lookaround.objectives.schedules import Schedule


@dataclass(frozen=True)
class MTP(AR):
    """Multi-token prediction of the tokens 1 to n ahead (Gloeckle et al. 2024, arXiv 2404.19737).

    n: tokens predicted, the next one included; the n - 1 farther ones have heads (model/heads/).
    heads: "parallel" (a transformer layer per depth beside the trunk's last, Gloeckle), "causal"
        (each on top of the one before), "sequential" (each also sees the token before its target,
        DeepSeek-V3), "shared" (the same with one layer for all depths, FastMTP), "linear", "medusa"
        (a residual block; "medusa-own" with an unembedding each) or "hydra" (an MLP that sees the
        tokens in between).
    weights: of the losses; a number b gives b^(k-1) to the token k ahead, a tuple one weight for
        each of 1..n; the token 1 ahead may have weight 0, which leaves it out.
    through: the share of the farther losses' gradient that reaches the trunk; at 0 only the next
        token trains it.
    curriculum: "forward" begins with the next token and adds one farther token in each of n equal
        parts of the budget, "reverse" begins with all and drops them (2505.22757).
    reach: the tokens 1 to `reach` ahead are scored now; None: all n.
    matched: n - 1 layers of a fresh trunk make way for the heads.
    """

    n: int = 4
    heads: str = "parallel"
    weights: float | tuple[float, ...] = 0.25
    through: float | Schedule = 1.0
    curriculum: str = "static"
    reach: int | None = None
    matched: bool = False

    name = "mtp"

    def __post_init__(self) -> None:
        self._require_int("n", 1, 64)
        self._require_one_of("heads", LOOK_AHEAD_KINDS)
        self._require_one_of("curriculum", ("static", "forward", "reverse"))
        self._require(isinstance(self.matched, bool), "matched", "True or False")
        self._require_share("through", zero=True)
        if self.reach is not None:
            self._require_int("reach", 1, self.n)
        rule = f"a number above 0 or {self.n} numbers from 0 up, of which one is above 0"
        given = self.weights if isinstance(self.weights, tuple) else (self.weights,)
        real = all(
            isinstance(w, int | float) and not isinstance(w, bool) and 0 <= w < 1e6 for w in given
        )
        length = not isinstance(self.weights, tuple) or len(given) == self.n
        self._require(real and length and max(given) > 0, "weights", rule)

    def by_offset(self) -> dict[int, float]:
        """{tokens ahead: loss weight} of what is scored now."""
        weights = self.weights
        if not isinstance(weights, tuple):
            weights = tuple(float(weights) ** k for k in range(self.n))
        scored = {k: float(w) for k, w in enumerate(weights[: self.reach], start=1) if w > 0}
        return scored or {1: 1.0}

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        width = batch.tokens.shape[1]
        parts = [
            (k, w, batch.targets(k).flatten().nonzero().flatten() - k)
            for k, w in self.by_offset().items()
            if k < width
        ]
        empty = torch.zeros(0, dtype=torch.int64)
        state = torch.cat([empty, *(part for _, _, part in parts)])
        offset = torch.cat([empty, *(torch.full_like(part, k) for k, _, part in parts)])
        weight = torch.cat([empty.float(), *(torch.full((len(part),), w) for _, w, part in parts)])
        target = batch.tokens.flatten()[state + offset]
        shown = Shown(batch.tokens, CAUSAL, batch.borders)
        pairs = Pairs(state, target, offset, (offset > 1).long(), weight)
        return (View(shown, pairs, float(weight.double().sum())),)

    def at(self, progress: float) -> Objective:
        now = cast(MTP, super().at(progress))
        if self.curriculum == "static":
            return now
        part = min(int(progress * self.n), self.n - 1)
        reach = part + 1 if self.curriculum == "forward" else self.n - part
        return replace(now, curriculum="static", reach=min(reach, self.reach or self.n))

    @property
    def stationary(self) -> bool:
        return self.curriculum == "static" and super().stationary

    def head_specs(self) -> tuple[HeadSpec, ...]:
        if self.n == 1:
            return ()
        replaces = self.n - 1 if self.matched else 0
        through = (
            self.through.at(0.0) if isinstance(self.through, Schedule) else float(self.through)
        )
        return (LookAheadSpec(self.heads, self.n, replaces=replaces, through=through),)

    def laws(self) -> tuple[Law, ...]:
        return tuple(Ahead(offset, weight) for offset, weight in self.by_offset().items())


@dataclass(frozen=True)
class TOP(AR):
    """Token-order prediction (arXiv 2508.19228): the next token, and the order of coming tokens.

    An extra linear head ranks the vocabulary: token v, first met d <= window tokens ahead, has the
    score window - d, and the head learns softmax(scores) (ListNet).
    weight: of that loss beside the next token's.
    window: none = the row. The current token does not count, and neither do tokens of other
        documents or that are no targets.
    """

    window: int | None = None
    weight: float = 1.0

    name = "top"

    def __post_init__(self) -> None:
        if self.window is not None:
            self._require_int("window", 1, 1 << 20)
        self._require_positive("weight")

    def head_specs(self) -> tuple[HeadSpec, ...]:
        return (TokenOrderSpec(self.window, weight=float(self.weight)),)


@dataclass(frozen=True)
class NextLat(AR):
    """Next-latent prediction (Teoh et al. 2025, arXiv 2511.05963): next token and coming states.

    A small MLP steps from a state and the next token to the next state, `horizon` steps on; each
    guess is drawn to the true state by a smooth-L1 distance and by the KL divergence of what the
    unembedding makes of the two. True states are held fixed.
    weight: of that loss beside the next token's.
    """

    horizon: int = 1
    weight: float = 1.0

    name = "nextlat"

    def __post_init__(self) -> None:
        self._require_int("horizon", 1, 64)
        self._require_positive("weight")

    def head_specs(self) -> tuple[HeadSpec, ...]:
        return (NextLatentSpec(self.horizon, weight=float(self.weight)),)
