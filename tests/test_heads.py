"""Heads beyond the LM head: one depth at a time has the gradient of the plain sum, in every way a step is taken."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from conftest import random_batch
from lookaround.model.backbone import Backbone, build
from lookaround.model.heads import BlockHeads, HydraHeads, MedusaHeads, TokenOrderHead, depth_states
from lookaround.objectives import MTP, TOP, Batch, parse
from lookaround.objectives.multitoken import HEADS
from lookaround.objectives.view import HeadSpec, View

VOCABULARY = 100


def backbone(spec: str, *, double: bool = True, layers: int = 2) -> Backbone:
    heads = parse(spec).at(0.0).head_specs()
    model = build(preset="nano", vocabulary=VOCABULARY, context=64, special={}, heads=heads, seed=1)
    generator = torch.Generator().manual_seed(2)
    for parameter in model.heads.parameters():  # away from the identity, so that every path has a gradient
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.double() if double else model


def naive_loss(model: Backbone, view: View) -> torch.Tensor:
    """The plain sum over all pairs, in one graph, with the framework's own cross-entropy."""
    trunk = model.trunk(view)
    weight = model.unembedding.weight
    total = torch.zeros((), dtype=weight.dtype)

    def add(states_btd: torch.Tensor, chosen: torch.Tensor, unembedding: torch.Tensor) -> torch.Tensor:
        logits = states_btd.flatten(0, 1)[view.state[chosen]] @ unembedding.T
        losses = F.cross_entropy(logits, view.target[chosen], reduction="none")
        return (losses * view.weight[chosen].to(losses.dtype)).sum()

    total = total + add(trunk.last, (view.head == 0).nonzero().flatten(), weight)
    for number, head in enumerate(model.heads, start=1):
        reads = getattr(trunk, head.reads)
        for depth, states in depth_states(head, reads, model.embedding.weight, view):
            chosen = ((view.head == number) & (view.offset == depth + 1)).nonzero().flatten()
            own = head.unembedding(depth)
            total = total + add(states, chosen, weight if own is None else own)
    return total


def gradients(model: Backbone) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, grad in one.items():
        assert (grad - other[name]).abs().max() <= tolerance, name


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_one_depth_at_a_time_has_the_plain_gradient(heads: str, n: int) -> None:
    spec = f'mtp(n={n}, heads="{heads}", weights=0.7)'
    model = backbone(spec)
    (view,) = parse(spec).view(random_batch(4, 20, vocabulary=VOCABULARY, packed=True, padded=True), 0, 0)
    loss, (reported,) = model((view,), (0.5,))
    loss.backward()
    ours = gradients(model)
    model.zero_grad(set_to_none=True)
    plain = naive_loss(model, view)
    (0.5 * plain).backward()
    assert abs(float(loss) - 0.5 * float(plain)) < 1e-9
    assert abs(float(reported) - float(plain)) < 1e-9
    assert_same(ours, gradients(model), 1e-10)
