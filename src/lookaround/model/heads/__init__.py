"""Heads beyond the LM head: they predict farther tokens, or teach the trunk to look ahead.

A kind of head is a module in a file here, and a spec in objectives/heads.py that says what it is
made of.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from lookaround.model.heads.belief import BeliefHead
from lookaround.model.heads.blocks import BlockHeads
from lookaround.model.heads.contract import Auxiliary, Output, Trunk
from lookaround.model.heads.depthwise import Part, depth_states, look_ahead_loss
from lookaround.model.heads.lookahead import (
    HydraHeads,
    LinearHeads,
    LookAhead,
    MedusaHeads,
    OffsetHead,
)
from lookaround.model.heads.next_latent import NextLatentHead
from lookaround.model.heads.order import OrderHead
from lookaround.model.heads.token_order import TokenOrderHead
from lookaround.model.sizes import Sizes
from lookaround.objectives.contract import HeadSpec
from lookaround.objectives.heads import (
    LOOK_AHEAD_KINDS,
    BeliefSpec,
    LookAheadSpec,
    NextLatentSpec,
    OffsetSpec,
    OrderSpec,
    TokenOrderSpec,
)

__all__ = [
    "Auxiliary",
    "BeliefHead",
    "BlockHeads",
    "HydraHeads",
    "LookAhead",
    "MedusaHeads",
    "NextLatentHead",
    "OffsetHead",
    "OrderHead",
    "Output",
    "Part",
    "TokenOrderHead",
    "Trunk",
    "build_head",
    "depth_states",
    "describe",
    "look_ahead_loss",
    "spec_of",
]


_LOOK_AHEAD: dict[str, Callable[[Sizes, int], nn.Module]] = {
    "linear": LinearHeads,
    "medusa": MedusaHeads,
    "medusa-own": partial(MedusaHeads, own=True),
    "hydra": HydraHeads,
    "parallel": BlockHeads,
    "causal": partial(BlockHeads, chained=True),
    "sequential": partial(BlockHeads, chained=True, conditioned=True),
    "shared": partial(BlockHeads, chained=True, conditioned=True, shared=True),
}
# {kind: (its spec, its module)}: the module takes the model's sizes and what the spec counts
_KINDS: dict[str, tuple[type[HeadSpec], Callable[[Sizes, Any], nn.Module]]] = {
    **{kind: (LookAheadSpec, _LOOK_AHEAD[kind]) for kind in LOOK_AHEAD_KINDS},
    "offset": (OffsetSpec, OffsetHead),
    "order": (OrderSpec, OrderHead),
    "top": (TokenOrderSpec, TokenOrderHead),
    "nextlat": (NextLatentSpec, NextLatentHead),
    "belief": (BeliefSpec, BeliefHead),
}
_TRAINING = ("through", "weight")  # fields of a spec that say nothing of the module


def build_head(spec: HeadSpec, sizes: Sizes) -> nn.Module:
    """The module of a head spec beside a model of these sizes."""
    _, module = _KINDS[spec.kind]
    (count,) = (value for name, value in describe(spec).items() if name not in ("kind", "replaces"))
    return module(sizes, count)


def describe(spec: HeadSpec) -> dict[str, Any]:
    """A spec as plain data, without what belongs to training."""
    return {
        name: value for name, value in dataclasses.asdict(spec).items() if name not in _TRAINING
    }


def spec_of(described: dict[str, Any]) -> HeadSpec:
    """The spec of a `describe` mapping; raises KeyError or TypeError for one that is none."""
    kind, _ = _KINDS[described["kind"]]
    fields = {
        name: value for name, value in described.items() if name != "kind" or kind is LookAheadSpec
    }
    return kind(**fields)
