"""What heads beyond the LM head are made of: a spec for each kind of module in model/heads/."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from lookaround.objectives.contract import HeadSpec

LOOK_AHEAD_KINDS = (
    "parallel",
    "causal",
    "sequential",
    "shared",
    "linear",
    "medusa",
    "medusa-own",
    "hydra",
)


@dataclass(frozen=True)
class LookAheadSpec(HeadSpec):
    """A head for each of the tokens 2 to `horizon` ahead; kind is one of LOOK_AHEAD_KINDS."""

    horizon: int


@dataclass(frozen=True)
class OffsetSpec(HeadSpec):
    """One module for the tokens 2 to `horizon` ahead, told which by an embedding of the offset."""

    kind: str = field(default="offset", init=False)
    horizon: int


@dataclass(frozen=True)
class TokenOrderSpec(HeadSpec):
    """A ranking of the tokens that come within `window` tokens; None is the row."""

    kind: str = field(default="top", init=False)
    auxiliary: ClassVar[bool] = True
    window: int | None = None


@dataclass(frozen=True)
class NextLatentSpec(HeadSpec):
    """A step from a state to the next one, rolled `steps` tokens on."""

    kind: str = field(default="nextlat", init=False)
    auxiliary: ClassVar[bool] = True
    steps: int = 1


@dataclass(frozen=True)
class OrderSpec(HeadSpec):
    """An embedding of how far the next token of a row stands, by `features` waves."""

    kind: str = field(default="order", init=False)
    features: int = 64


@dataclass(frozen=True)
class BeliefSpec(HeadSpec):
    """A second encoder of `layers` layers that reads the target part from its end."""

    kind: str = field(default="belief", init=False)
    auxiliary: ClassVar[bool] = True
    layers: int = 1
