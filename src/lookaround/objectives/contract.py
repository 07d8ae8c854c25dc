"""The contract: what a model is shown, which pairs are scored, what divides their losses.

Axes: B sequences (rows), T tokens, N scored pairs.

Data only: no model, no loop, no law. An objective (objectives/objective.py) makes a `View` of a
`Batch`: a `Shown`, which is all that a model needs to be read, and `Pairs`, the (state, target)
pairs that are scored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor

PADDING = -1  # the document number of a padding token


# ------------------------------------------------------------------------------------- what goes in


@dataclass(frozen=True)
class Vocabulary:
    """What an objective needs of the tokenizer: size, mask token and special tokens."""

    size: int
    mask: int
    special: tuple[int, ...] = ()

    def ordinary(self) -> Tensor:
        """Ids that stand for text, (n,): random replacements are drawn from them."""
        keep = torch.ones(self.size, dtype=torch.bool)
        keep[self.unwritten()] = False
        return keep.nonzero().flatten()

    def unwritten(self, *eos: int) -> list[int]:
        """Ids that stand for no text, in rising order: special tokens and mask, without `eos`."""
        return sorted({*self.special, self.mask} - {*eos})


@dataclass(frozen=True)
class Batch:
    """Rows of tokens as the loader gives them.

    tokens: (B, T) int64.
    documents: (B, T) int64, numbered from 0 within a row, -1 = padding (always at the row's end);
        None = every row is one whole document window.
    scorable: (B, T) bool, False where a token may be neither target nor masked (BOS, padding,
        prompts); None = all.
    row: (B,) int64, the global sequence index that keys all randomness.
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
        eligible = (
            torch.ones_like(self.tokens, dtype=torch.bool)
            if self.scorable is None
            else self.scorable
        )
        return eligible if self.documents is None else eligible & (self.documents != PADDING)

    @property
    def packed(self) -> bool:
        """Whether some row holds more than one document."""
        return self.documents is not None and bool((self.documents > 0).any())

    @property
    def borders(self) -> Tensor | None:
        """Document numbers where rows are packed, else None: causal states never see padding."""
        return self.documents if self.packed else None

    def targets(self, offset: int) -> Tensor:
        """(B, T) bool: eligible tokens with a state `offset` positions before in their document."""
        targets = torch.zeros_like(self.tokens, dtype=torch.bool)
        targets[:, offset:] = self.eligible[:, offset:]
        if self.documents is not None:
            states = self.documents[:, : self.tokens.shape[1] - offset]
            targets[:, offset:] &= self.documents[:, offset:] == states
        return targets

    def spans(self) -> tuple[Tensor, Tensor]:
        """(start, length), each (B, T): start and length of each token's document in its row."""
        rows, width = self.tokens.shape
        if self.documents is None:
            return torch.zeros_like(self.tokens), torch.full_like(self.tokens, width)
        number = self.documents + 1  # padding becomes 0
        counts = torch.zeros(rows, int(number.max()) + 1, dtype=torch.int64)
        counts.scatter_add_(1, number, torch.ones_like(number))
        first = torch.zeros_like(counts)
        # padding stands last, so documents start at the sum of those before
        first[:, 2:] = counts[:, 1:-1].cumsum(1)
        first[:, 0] = counts[:, 1:].sum(1)
        return first.gather(1, number), counts.gather(1, number)


# ----------------------------------------------------------------------------------- what comes out


class Movable:
    """A dataclass with tensors among its fields, or in dictionaries and tuples there."""

    def to(self, device: torch.device | str) -> Self:
        """The same data with every tensor on `device`; the object itself where all are there."""
        return self.mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Self:
        """The same data in memory that a GPU copies from by itself."""
        return self.mapped(lambda tensor: tensor.pin_memory())

    def mapped(self, make: Callable[[Tensor], Tensor]) -> Self:
        """The same data with what `make` makes of every tensor."""
        values = vars(self)
        made = {name: _mapped(value, make) for name, value in values.items()}
        return self if _same(made, values) else type(self)(**made)


def _mapped(value: Any, make: Callable[[Tensor], Tensor]) -> Any:
    made: Any
    match value:
        case Tensor():
            return make(value)
        case Movable():
            return value.mapped(make)
        case dict():
            made = {key: _mapped(item, make) for key, item in value.items()}
            return value if _same(made, value) else made
        case tuple():
            made = [_mapped(item, make) for item in value]
            if all(new is old for new, old in zip(made, value, strict=True)):
                return value
            return type(value)(*made) if hasattr(value, "_fields") else tuple(made)
    return value


def _same(made: dict[Any, Any], values: dict[Any, Any]) -> bool:
    return all(made[name] is values[name] for name in values)


@dataclass(frozen=True)
class Attention(Movable):
    """Who may attend to whom; `lengths` (B,) for prefix, `allowed` (B, T, T) bool for dense."""

    kind: Literal["causal", "bidirectional", "prefix", "dense"]
    lengths: Tensor | None = None
    allowed: Tensor | None = None


CAUSAL = Attention("causal")
BIDIRECTIONAL = Attention("bidirectional")


@dataclass(frozen=True)
class Shown(Movable):
    """All that a model needs to be read.

    input_ids: (B, T) int64, what the model sees, masks and dummies in place.
    attention: who may attend to whom.
    documents: (B, T) int64 or None; tokens of different documents never see one another.
    positions: (B, T) int64 or None, where in the text or picture each token of the row stands;
        None: one after the other. Attention is by places in the row, whatever their positions.
    """

    input_ids: Tensor
    attention: Attention = CAUSAL
    documents: Tensor | None = None
    positions: Tensor | None = None


@dataclass(frozen=True)
class Pairs(Movable):
    """N scored pairs of a state and the token it is to predict.

    state: (N,) int64, flat index b*T + t of the hidden state that predicts, by places in the row.
    target: (N,) int64, the token id to predict.
    offset: (N,) int64, target position - state position: 0 its own (BERT), 1 the next, 2 and more
        further ahead.
    head: (N,) int64, 0 = the LM head; others count through `Component.heads`, from
        `Component.first` on.
    weight: (N,) float32.

    Raises ValueError for columns of other shapes or types.
    """

    state: Tensor
    target: Tensor
    offset: Tensor
    head: Tensor
    weight: Tensor

    def __post_init__(self) -> None:
        for name, column in vars(self).items():
            dtype = torch.float32 if name == "weight" else torch.int64
            if column.dtype != dtype or column.shape != self.state.shape or column.ndim != 1:
                raise ValueError(
                    f"pairs: {name} must be ({len(self.state)},) {dtype}, got "
                    f"{tuple(column.shape)} {column.dtype}"
                )

    def __len__(self) -> int:
        return len(self.state)

    def take(self, which: Tensor) -> Pairs:
        """The pairs of the given indices (n,)."""
        return Pairs(*(column[which] for column in vars(self).values()))


@dataclass(frozen=True)
class View(Movable):
    """What one component of an objective makes of its rows of a batch.

    shown: what the model sees of the B rows. B may be 0: a component of a mixture that drew no row.
    pairs: what is scored.
    normaliser: what the weighted sum of cross-entropies is divided by, over all micro-batches and
        processes.

    Raises ValueError for pairs outside of the rows.
    """

    shown: Shown
    pairs: Pairs
    normaliser: float

    def __post_init__(self) -> None:
        state, offset = self.pairs.state, self.pairs.offset
        if state.device.type != "cpu" or not len(state):
            return  # reading numbers from a device would wait for it; views are made on the CPU
        rows, width = self.shown.input_ids.shape
        target = state % width + offset
        if (
            state.min() < 0
            or state.max() >= rows * width
            or target.min() < 0
            or target.max() >= width
        ):
            raise ValueError(
                f"view: states or targets stand outside of the {rows} rows of {width} tokens"
            )

    @property
    def rows(self) -> int:
        return len(self.shown.input_ids)

    @property
    def targets(self) -> Tensor:
        """(B, T) bool: tokens that some state is to predict."""
        targets = torch.zeros_like(self.shown.input_ids, dtype=torch.bool)
        targets.view(-1)[self.pairs.state + self.pairs.offset] = True
        return targets

    def renumbered(self, shift: int) -> View:
        """The same view where heads beyond the LM head stand `shift` places further on."""
        if not shift:
            return self
        head = torch.where(self.pairs.head > 0, self.pairs.head + shift, 0)
        return replace(self, pairs=replace(self.pairs, head=head))


def scored_pairs(
    batch: Batch,
    where: Tensor,
    offset: int,
    shown: Shown,
    weight: Tensor | None = None,
    normaliser: float | None = None,
) -> View:
    """A view whose LM head predicts the tokens at `where` (B, T) from `offset` positions before.

    weight: (B, T) float, or None for ones.
    normaliser: None for the number of targets.
    """
    target_position = where.flatten().nonzero().flatten()
    count = len(target_position)
    pairs = Pairs(
        state=target_position - offset,
        target=batch.tokens.flatten()[target_position],
        offset=torch.full((count,), offset),
        head=torch.zeros(count, dtype=torch.int64),
        weight=torch.ones(count) if weight is None else weight.flatten()[target_position].float(),
    )
    return View(shown, pairs, float(count) if normaliser is None else normaliser)


# ----------------------------------------------------------------------------- what is known before


class Mode(NamedTuple):
    """One way a model was trained to be read: attention kind, and target - state position."""

    attention: str
    shift: int

    def __str__(self) -> str:
        return f"{self.attention}, shift {self.shift}"


class Writing(StrEnum):
    """How a model writes the target part of a row, always its likeliest token."""

    ONE_BY_ONE = "one by one"  # from the left, each token given those that were written
    PARALLEL = "parallel"  # all in one pass, from dummies
    CONFIDENT_FIRST = "confident first"  # one token a pass, the most certain of those still hidden


@dataclass(frozen=True)
class HeadSpec:
    """What a head beyond the LM head is made of; each kind has a spec (objectives/heads.py).

    replaces: layers of a fresh trunk that make way for it, so that both together have the
        parameters of the trunk alone.
    through: the share of its loss's gradient that reaches the trunk.
    weight: of its loss, where that is an auxiliary term and not a cross-entropy on listed pairs.

    `through` and `weight` belong to training; the module does not depend on them.
    """

    kind: str
    auxiliary: ClassVar[bool] = False

    replaces: int = field(default=0, kw_only=True)
    through: float = field(default=1.0, kw_only=True)
    weight: float = field(default=1.0, kw_only=True)


class Component(NamedTuple):
    """A part of an objective with a normaliser of its own, known before training.

    name: its spec.
    coefficient: how its mean loss enters the sum.
    heads: those its views use beyond the LM head, numbered from `first` on among the heads of the
        whole objective (the LM head is 0).
    """

    name: str
    coefficient: float = 1.0
    heads: tuple[HeadSpec, ...] = ()
    first: int = 1
