"""The contract between objectives and everything else: `Objective -> View`.

Axes: B sequences (rows), T tokens, N scored pairs.

An objective says which tokens are visible, who may attend to whom and which (state, target) pairs are scored. It holds
no model, no loop and no device code. Randomness is keyed by (seed, epoch, row) and never by micro-batch or rank, so
that accumulation, packing and world size change nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lookaround.objectives.laws import LONGEST_ENUMERATED, Law, Pattern
from lookaround.objectives.schedules import Schedule

__all__ = [
    "BIDIRECTIONAL",
    "CAUSAL",
    "Attention",
    "Batch",
    "HeadSpec",
    "Mode",
    "Objective",
    "View",
    "Vocabulary",
    "keyed_uniform",
]

PADDING = -1  # the document number of a padding token
MOMENTS = 16  # moments of the budget that laws of changing objectives are averaged over


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


# ------------------------------------------------------------------------------------------------ keyed randomness

_STREAMS = {name: number for number, name in enumerate(
    ("select", "replace", "token", "rate", "suffix", "cut", "far", "component", "problem"), start=1
)}  # fmt: skip


def mix64(state: Any) -> Any:
    """The finaliser of SplitMix64 (Steele et al. 2014; variant 13 of Stafford): a bijection of 64-bit integers."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def keyed_uniform(seed: int, epoch: int, row: Tensor, stream: str, width: int) -> Tensor:
    """Uniform numbers in [0, 1), (B, width) float64, that depend on (seed, epoch, row, stream, position) and nothing else.

    A counter-based generator: SplitMix64 started at a hash of the key. Ours.
    """
    gamma = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        key = np.uint64(_STREAMS[stream])
        for part in (seed, epoch):
            key = mix64(np.asarray((key + gamma) ^ np.uint64(part & 0xFFFFFFFFFFFFFFFF)))
        keys = mix64((key + gamma) ^ row.numpy().astype(np.uint64))
        counters = np.arange(1, width + 1, dtype=np.uint64) * gamma
        bits = mix64(keys[:, None] + counters)
    return torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


# ------------------------------------------------------------------------------------------------ the objective


@dataclass(frozen=True)
class Objective:
    """Base of all objectives: a frozen dataclass whose fields are its parameters and whose `name` is its spec.

    Subclasses give `view`, `modes` and `laws`; `head_specs` only where they need more than the LM head. The operators
    build mixtures: `ar + 3*vmlm` draws each row's component in proportion 1:3, `0.25*ar >> 0.75*mlm` spends a quarter
    of the budget on the first, then the rest on the second (objectives/algebra.py).
    """

    name = ""  # not annotated: a class attribute, not a field
    prompted = False  # whether it treats a row's target part in a way that plain text has no use for
    registry: ClassVar[dict[str, type[Objective]]] = {}

    def __init_subclass__(cls) -> None:
        if cls.name and cls.name != getattr(cls.__mro__[1], "name", ""):
            Objective.registry[cls.name] = cls

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        """One view per component, each over its own rows of the batch."""
        raise NotImplementedError

    def modes(self) -> tuple[Mode, ...]:
        """The (attention, shift) pairs that the objective trains, in order."""
        raise NotImplementedError

    def head_specs(self) -> tuple[HeadSpec, ...]:
        """The heads beyond the LM head; head h of a view is entry h - 1."""
        return ()

    def arranged(self, batch: Batch) -> Batch:
        """The batch in the order that the model reads and writes it; done twice, it is the batch again."""
        return batch

    def decodings(self) -> tuple[str, ...]:
        """The ways in which the model may write a target part, its own way first (planning/answers.py)."""
        masked = any(mode.attention == "bidirectional" for mode in self.modes())
        return ("confident first", "one by one", "parallel") if masked else ("one by one",)

    def laws(self) -> tuple[Law, ...]:
        """How targets stand to visible tokens (objectives/laws.py); of an objective that does not change with the budget."""
        raise NotImplementedError

    def contexts(
        self,
        nearest: int = 1,
        length: int | Mapping[int, float] = 128,
        reach: int | None = None,
        least: float = 0.0,
    ) -> dict[Any, float]:
        """P(signed lags from the nearest visible tokens to the target), for rows of `length` tokens of which the first is BOS.

        nearest: how many visible tokens; for 1 the keys are lags (target position - context position), else tuples of
        them, leftmost token first, shorter where a row holds fewer visible tokens. length: tokens per row, or {tokens:
        number of such rows}. reach: the largest distance that is told apart; least: tuples rarer than this may be left out
        (of three and more tokens there are very many); the probabilities sum to 1 less what these two leave out. Ties are split, pairs count with their loss weights, and parameters that change with the budget are
        averaged over it. Raises ValueError for nearest < 1 or rows of fewer than 2 tokens. Ours.
        """
        rows = dict(length) if isinstance(length, Mapping) else {length: 1.0}
        if nearest < 1:
            raise ValueError(f"contexts need at least one visible token, got nearest={nearest}")
        if not rows or min(rows) < 2:
            raise ValueError(f"a row needs BOS and at least one token, got length={min(rows, default=0)}")
        law = self._context_law(nearest, rows, max(rows) if reach is None else reach, least)
        return {lags[0]: mass for lags, mass in law.items()} if nearest == 1 else law

    def patterns(self, length: int) -> dict[Pattern, float]:
        """P(target position, visible positions) in rows of `length` tokens: the literal law that `contexts` condenses.

        Sums to 1. Raises ValueError for rows of more than laws.LONGEST_ENUMERATED tokens: there are 2^(length - 1). Ours.
        """
        if not 2 <= length <= LONGEST_ENUMERATED:
            raise ValueError(
                f"patterns are listed for rows of 2 to {LONGEST_ENUMERATED} tokens, got length={length}"
            )
        return self._pattern_law(length)

    def _context_law(
        self, nearest: int, rows: Mapping[int, float], reach: int, least: float
    ) -> dict[tuple[int, ...], float]:
        def masses(objective: Objective) -> tuple[dict, float]:
            within: dict = {}
            scored = 0.0
            for length, count in rows.items():
                for law in objective.laws():
                    add_scaled(within, law.lags(nearest, length, reach, least), count)
                    scored += count * law.mass(length)
            return within, scored

        return self._averaged(masses)

    def _pattern_law(self, length: int) -> dict[Pattern, float]:
        def masses(objective: Objective) -> tuple[dict, float]:
            within: dict = {}
            for law in objective.laws():
                for pattern, mass in law.patterns(length):
                    within[pattern] = within.get(pattern, 0.0) + mass
            return within, sum(within.values())

        return self._averaged(masses)

    def _averaged(self, masses: Callable[[Objective], tuple[dict, float]]) -> dict:
        """A law of the objective, normalised at each moment of the budget and averaged over it."""
        moments = (0.5,) if self.stationary else tuple((i + 0.5) / MOMENTS for i in range(MOMENTS))
        law: dict = {}
        for progress in moments:
            within, scored = masses(self.at(progress))
            if not scored:
                raise ValueError(f"'{self.spec}' scores no token in rows so short")
            add_scaled(law, within, 1 / (scored * len(moments)))
        return dict(sorted(law.items()))

    # -- parameters that change with the budget spent

    def at(self, progress: float) -> Objective:
        """The objective at a share `progress` in [0, 1] of the budget: schedules replaced by their values."""
        values = {name: value.at(progress) for name, value in self._schedules()}
        return replace(self, **values) if values else self

    @property
    def stationary(self) -> bool:
        """Whether the objective is the same at every moment of the budget."""
        return not any(True for _ in self._schedules())

    def phases(self) -> tuple[tuple[float, Objective], ...]:
        """(share of the budget, objective) in order; one phase for all but `>>`."""
        return ((1.0, self),)

    def _schedules(self) -> Iterator[tuple[str, Schedule]]:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Schedule):
                yield item.name, value

    # -- the spec

    @property
    def spec(self) -> str:
        """The canonical spec: parameters that stand at their defaults are left out."""
        parts = []
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if value != item.default:
                parts.append(f"{item.name}={_literal(value)}")
        return f"{self.name}({', '.join(parts)})" if parts else self.name

    def __str__(self) -> str:
        return self.spec

    # -- the algebra

    def __add__(self, other: Objective) -> Objective:
        from lookaround.objectives.algebra import mixture

        return mixture(self, other)

    def __rmul__(self, weight: float) -> Objective:
        from lookaround.objectives.algebra import weighted

        return weighted(weight, self)

    def __rshift__(self, other: Objective) -> Objective:
        from lookaround.objectives.algebra import sequence

        return sequence(self, other)

    # -- checks shared by subclasses

    def _require(self, condition: bool, name: str, rule: str) -> None:
        if not condition:
            raise ParameterError(name, f"{name} must be {rule}, got {_literal(getattr(self, name))}")

    def _require_share(self, name: str, *, zero: bool = False) -> None:
        """The parameter is a number or a schedule whose values lie in (0, 1], or [0, 1] with zero=True."""
        value = getattr(self, name)
        rule = f"a number in {'[' if zero else '('}0, 1]"
        for number in value.ends() if isinstance(value, Schedule) else (value,):
            real = isinstance(number, int | float) and not isinstance(number, bool)
            self._require(real and (number >= 0 if zero else number > 0) and number <= 1, name, rule)

    def _require_positive(self, name: str) -> None:
        value = getattr(self, name)
        real = isinstance(value, int | float) and not isinstance(value, bool)
        self._require(real and 0 < value < math.inf, name, "a number above 0")

    def _require_order(self, low: str, high: str) -> None:
        """One parameter is never above another, at any moment of the budget."""
        for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
            pair = [getattr(self, name) for name in (low, high)]
            least, most = (value.at(progress) if isinstance(value, Schedule) else value for value in pair)
            self._require(least <= most, high, f"at least {low}={_literal(pair[0])}")

    def _require_one_of(self, name: str, allowed: Mapping[str, Any] | tuple[str, ...]) -> None:
        self._require(getattr(self, name) in allowed, name, "one of " + ", ".join(map(repr, allowed)))

    def _require_int(self, name: str, low: int, high: int | None = None) -> None:
        value = getattr(self, name)
        rule = f"a whole number from {low}" + (f" to {high}" if high is not None else " up")
        whole = isinstance(value, int) and not isinstance(value, bool)
        self._require(whole and value >= low and (high is None or value <= high), name, rule)


class ParameterError(ValueError):
    """A parameter of an objective is out of its range; `parameter` names it, so that the parser can point at it."""

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_literal, value)) + ")"
    return f'"{value}"' if isinstance(value, str) else str(value)


def add_scaled(into: dict, masses: Mapping, scale: float) -> None:
    """Adds `scale` times every mass to those of `into`."""
    for key, mass in masses.items():
        into[key] = into.get(key, 0.0) + scale * mass
