"""A classifier of texts, all of whose weights are trained: a backbone and a linear head.

n examples, B of them in a batch, T tokens, D hidden width, K classes (1 where numbers are asked
for).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lookaround.data.codec import Codec
from lookaround.evaluation.features import mean_state, padded, passes
from lookaround.model.backbone import Backbone
from lookaround.model.foreign import reading

BATCH = 16
WARMUP = 0.1  # share of the steps
DECAY = 0.01  # of AdamW
CLIP = 1.0  # largest norm of a gradient
BUCKET = 8  # batches that are sorted by length together


class Classifier(nn.Module):
    """A copy of a backbone in float32, without its heads, and a linear head that begins at 0."""

    def __init__(self, backbone: Backbone, codec: Codec, attention: str, outputs: int) -> None:
        super().__init__()
        lm = copy.deepcopy(backbone.lm).float().requires_grad_(True)
        self.backbone = Backbone(lm, own_rows=backbone.own_rows, source=backbone.source)
        self.codec, self.attention = codec, attention
        with reading(self.backbone):
            width = self.pooled([torch.tensor([codec.bos])]).shape[1]
        self.weight = nn.Parameter(torch.zeros(outputs, width, device=backbone.device))
        self.bias = nn.Parameter(torch.zeros(outputs, device=backbone.device))

    def pooled(self, ids: Sequence[Tensor]) -> Tensor:
        """Mean states (B, D) of the last layer; ids: (T,) of each input."""
        shown, real_bt = padded(ids, self.codec, self.attention)
        states = self.backbone.states(shown.to(self.backbone.device), all_layers=True)
        return mean_state(states[-1], real_bt)

    def forward(self, ids: Sequence[Tensor]) -> Tensor:
        """Logits, or standardised numbers (B, K)."""
        return F.linear(self.pooled(ids), self.weight, self.bias)


def loss_of(outputs_bk: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of classes (B,) int64, or mean squared error of numbers (B,) float32."""
    if targets.is_floating_point():
        return F.mse_loss(outputs_bk[:, 0], targets)
    return F.cross_entropy(outputs_bk, targets)


def batches(lengths: Sequence[int], epochs: int, seed: Sequence[int]) -> Iterator[list[int]]:
    """Indices of each step: random, but that inputs of like length stand together.

    lengths: (n,), in tokens.
    """
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        order = generator.permutation(len(lengths))
        found = []
        for begin in range(0, len(order), BUCKET * BATCH):
            bucket = sorted(order[begin : begin + BUCKET * BATCH].tolist(), key=lengths.__getitem__)
            found += [bucket[at : at + BATCH] for at in range(0, len(bucket), BATCH)]
        for number in generator.permutation(len(found)):
            yield found[number]


def tuned(
    model: Classifier,
    ids: Sequence[Tensor],
    targets: Tensor,
    *,
    rate: float,
    epochs: int,
    seed: Sequence[int],
    after_step: Callable[[], None] = lambda: None,
) -> bool:
    """Trains all weights of a model in place; whether its losses were finite.

    AdamW; the learning rate rises for a tenth of the steps and falls to 0 in a straight line.

    ids: (T,) of each input.
    targets: (n,), see `loss_of`.
    """
    steps = list(batches([len(each) for each in ids], epochs, seed))
    warmup = max(1, round(WARMUP * len(steps)))
    parameters = [*model.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=DECAY, fused=True)
    targets = targets.to(model.bias.device)
    model.train()
    for step, batch in enumerate(steps):
        share = min((step + 1) / warmup, (len(steps) - step) / max(1, len(steps) - warmup))
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        loss = loss_of(model([ids[i] for i in batch]), targets[batch])
        if not bool(loss.isfinite()):
            return False
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        after_step()
    return True


def outputs_of(model: Classifier, ids: Sequence[Tensor]) -> Tensor:
    """Outputs (n, K) on the CPU of inputs (T,) each."""
    found = torch.zeros(len(ids), len(model.bias))
    with reading(model):
        for batch in passes(ids, model.bias.device):
            found[torch.from_numpy(batch)] = model([ids[k] for k in batch]).cpu()
    return found
