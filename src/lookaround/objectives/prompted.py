"""Objectives on the target part of prompted rows: `reverse`, `teacherless` and `bst`.

The target part is what may be scored (`Batch.scorable`); a row without a prompt has BOS for one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lookaround.objectives.autoregressive import AR
from lookaround.objectives.contract import Batch, HeadSpec, View, Writing
from lookaround.objectives.heads import BeliefSpec
from lookaround.objectives.laws import Law, Outside


def reversed_order(batch: Batch) -> Tensor:
    """(B, T): the position each token comes from when every target part is reversed."""
    rows, width = batch.tokens.shape
    position = torch.arange(width).expand(rows, width)
    eligible = batch.eligible
    document = torch.zeros_like(batch.tokens) if batch.documents is None else batch.documents
    # eligible tokens sorted by (document, position), and by (document, -position): the n-th goes to
    # the n-th place
    last = document.amax() + 2
    key = torch.where(eligible, document, last) * width
    forward = (key + position).argsort(dim=1, stable=True)
    backward = (key + torch.where(eligible, width - 1 - position, position)).argsort(
        dim=1, stable=True
    )
    return torch.empty_like(forward).scatter_(1, forward, backward)


@dataclass(frozen=True)
class Reverse(AR):
    """Causal modelling of the reversed target part (Bachmann & Nagarajan 2024, 2403.06963)."""

    name = "reverse"
    prompted = True

    def arranged(self, batch: Batch) -> Batch:
        return replace(batch, tokens=batch.tokens.gather(1, reversed_order(batch)))

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        return super().view(self.arranged(batch), seed, epoch)

    def laws(self) -> tuple[Law, ...]:
        return (Outside(before=lambda target: 1 + 0 * target, after=lambda target: target + 1),)


@dataclass(frozen=True)
class Teacherless(AR):
    """Predicts the whole target part at once from dummies (Monea et al. 2023; arXiv 2403.06963).

    Every target is predicted by the state before it, which sees the prompt and dummies; the dummy
    is the mask token.
    """

    name = "teacherless"
    prompted = True

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        shown = torch.where(batch.eligible, batch.vocabulary.mask, batch.tokens)
        (view,) = super().view(batch, seed, epoch)
        return (replace(view, shown=replace(view.shown, input_ids=shown)),)

    def decodings(self) -> tuple[Writing, ...]:
        return (Writing.PARALLEL, Writing.ONE_BY_ONE)

    def laws(self) -> tuple[Law, ...]:
        return (Outside(before=lambda target: 1 + 0 * target),)


@dataclass(frozen=True)
class BST(AR):
    """A belief-state transformer (Hu et al. 2024, arXiv 2410.23506) with a second encoder.

    The second encoder reads the target part from its end. From every prefix and every later suffix
    an MLP predicts the token after the prefix and the one before the suffix. The LM head's loss
    is that of the empty suffix, and only the LM head writes; in the paper the empty suffix is
    encoded too, which is the one difference.

    layers: of the second encoder.
    weight: of its loss beside the next token's.
    matched: as many layers of a fresh trunk make way for it.
    """

    layers: int = 1
    weight: float = 1.0
    matched: bool = False

    name = "bst"
    prompted = True

    def __post_init__(self) -> None:
        self._require_int("layers", 1, 100)
        self._require_positive("weight")
        self._require(isinstance(self.matched, bool), "matched", "True or False")

    def head_specs(self) -> tuple[HeadSpec, ...]:
        replaces = self.layers if self.matched else 0
        return (BeliefSpec(self.layers, replaces=replaces, weight=float(self.weight)),)
