"""The contract between objectives and everything else: `Objective -> View`.

Axes: B sequences (rows), T tokens, N scored pairs.

An objective says which tokens are visible, who may attend to whom and which (state, target) pairs are scored. It holds
no model, no loop and no device code. Randomness is keyed by (seed, epoch, row) and never by micro-batch or rank, so
that accumulation, packing and world size change nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "BIDIRECTIONAL",
    "CAUSAL",
    "Attention",
    "Batch",
    "HeadSpec",
    "Mode",
    "View",
    "Vocabulary",
]

PADDING = -1  # the document number of a padding token


# ------------------------------------------------------------------------------------------------ what goes in


@dataclass(frozen=True)
class Vocabulary:
    """What an objective must know of the tokenizer: its size, its mask token and its special tokens."""

    size: int
    mask: int
    special: tuple[int, ...] = ()

    def ordinary(self) -> Tensor:
        """Ids that stand for text, (size - specials,): the pool that random replacements are drawn from."""
        keep = torch.ones(self.size, dtype=torch.bool)
        keep[list({*self.special, self.mask})] = False
        return keep.nonzero().flatten()


@dataclass(frozen=True)
class Batch:
    """Rows of tokens as the loader gives them.

    tokens: (B, T) int64. documents: (B, T) int64, numbered from 0 within a row, -1 = padding (always at the row's end);
    None = every row is one whole document window. scorable: (B, T) bool, False where a token may be neither target
    nor masked (BOS, padding, prompts); None = all. row: (B,) int64, the global sequence index that keys all randomness.
    """

    tokens: Tensor
    row: Tensor
    vocabulary: Vocabulary
    documents: Tensor | None = None
    scorable: Tensor | None = None

    def take(self, rows: Tensor) -> Batch:
        """The same batch with only the rows of the given local indices (n,)."""
        return replace(
            self,
            tokens=self.tokens[rows],
            row=self.row[rows],
            documents=None if self.documents is None else self.documents[rows],
            scorable=None if self.scorable is None else self.scorable[rows],
        )

    @property
    def eligible(self) -> Tensor:
        """(B, T) bool: tokens that may be masked or be targets."""
        eligible = torch.ones_like(self.tokens, dtype=torch.bool) if self.scorable is None else self.scorable
        return eligible if self.documents is None else eligible & (self.documents != PADDING)

    @property
    def packed(self) -> bool:
        """Whether some row holds more than one document."""
        return self.documents is not None and bool((self.documents > 0).any())

    def reachable(self, offset: int) -> Tensor:
        """(B, T - offset) bool: token t + offset is eligible and of the same document as the state t."""
        eligible = self.eligible[:, offset:]
        if self.documents is None:
            return eligible
        width = self.tokens.shape[1] - offset
        return eligible & (self.documents[:, :width] == self.documents[:, offset:])

    def spans(self) -> tuple[Tensor, Tensor]:
        """(start, length), each (B, T): where the document of each token starts in its row and how long it is there."""
        rows, width = self.tokens.shape
        if self.documents is None:
            return torch.zeros_like(self.tokens), torch.full_like(self.tokens, width)
        number = self.documents + 1  # padding becomes 0
        counts = torch.zeros(rows, int(number.max()) + 1, dtype=torch.int64)
        counts.scatter_add_(1, number, torch.ones_like(number))
        first = torch.zeros_like(counts)
        first[:, 2:] = counts[:, 1:-1].cumsum(
            1
        )  # padding stands last, so documents start at the sum of those before
        first[:, 0] = counts[:, 1:].sum(1)
        return first.gather(1, number), counts.gather(1, number)


# ------------------------------------------------------------------------------------------------ what comes out


@dataclass(frozen=True)
class Attention:
    """Who may attend to whom: causal, bidirectional, prefix (lengths (B,)) or dense (allowed (B, T, T) bool)."""

    kind: Literal["causal", "bidirectional", "prefix", "dense"]
    lengths: Tensor | None = None
    allowed: Tensor | None = None


CAUSAL = Attention("causal")
BIDIRECTIONAL = Attention("bidirectional")


class Mode(NamedTuple):
    """One way a model was trained to be read: attention kind, and how far the predicting state stands before its target."""

    attention: str
    shift: int

    def __str__(self) -> str:
        return f"{self.attention}, shift {self.shift}"


@dataclass(frozen=True)
class HeadSpec:
    """Heads beyond the LM head: the kind of module (model/heads.py), and how far ahead in tokens it looks.

    replaces: layers of a fresh trunk that make way for it, so that both together have the parameters of the trunk alone.
    """

    kind: str
    horizon: int
    replaces: int = 0


@dataclass(frozen=True)
class View:
    """What one component of an objective makes of its rows of a batch; shapes in the design's words.

    input_ids (B, T): what the model sees. documents (B, T) or None: tokens of different documents never see one another.
    state (N,): flat index b*T + t of the hidden state that predicts. target (N,): the token id to predict. offset (N,):
    target position - state position. head (N,): 0 = the LM head, others as `Objective.head_specs()` declares them.
    weight (N,) float32, and normaliser: what the weighted sum of cross-entropies is divided by, over all micro-batches
    and ranks. component and coefficient: which part of a mixture this is and how its loss enters the sum. order (B, T):
    where in the row the token shown at each place stands, if the view rearranges rows; state and offset count places.
    """

    input_ids: Tensor
    attention: Attention
    state: Tensor
    target: Tensor
    offset: Tensor
    head: Tensor
    weight: Tensor
    normaliser: float
    documents: Tensor | None = None
    component: int = 0
    coefficient: float = 1.0
    through: float = 1.0
    auxiliary: tuple[tuple[int, float], ...] = ()
    order: Tensor | None = None

    def to(self, device: torch.device | str) -> View:
        """The same view with every tensor on `device`."""
        moved: dict[str, Any] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                moved[item.name] = value.to(device, non_blocking=True)
            elif isinstance(value, Attention) and (value.lengths is not None or value.allowed is not None):
                moved[item.name] = Attention(
                    value.kind,
                    None if value.lengths is None else value.lengths.to(device),
                    None if value.allowed is None else value.allowed.to(device),
                )
        return replace(self, **moved)

    def renumbered(self, shift: int) -> View:
        """The same view where heads beyond the LM head stand `shift` places further on."""
        if not shift:
            return self
        auxiliary = tuple((number + shift, weight) for number, weight in self.auxiliary)
        return replace(self, head=torch.where(self.head > 0, self.head + shift, 0), auxiliary=auxiliary)


def scored_pairs(
    batch: Batch,
    where: Tensor,
    offset: int,
    *,
    input_ids: Tensor,
    attention: Attention,
    documents: Tensor | None,
    weight: Tensor | None = None,
    normaliser: float | None = None,
) -> View:
    """A view that scores, by the LM head, the tokens at `where` (B, T) bool from the states `offset` positions before them.

    weight: (B, T) float or None for ones; normaliser: None for the number of targets.
    """
    target_position = where.flatten().nonzero().flatten()
    count = len(target_position)
    return View(
        input_ids=input_ids,
        attention=attention,
        documents=documents,
        state=target_position - offset,
        target=batch.tokens.flatten()[target_position],
        offset=torch.full((count,), offset),
        head=torch.zeros(count, dtype=torch.int64),
        weight=torch.ones(count) if weight is None else weight.flatten()[target_position].float(),
        normaliser=float(count) if normaliser is None else normaliser,
    )
