"""The loss of look-ahead heads, depth by depth: the logits of one depth are held at a time.

B sequences, T tokens, D hidden width, N scored pairs, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lookaround.model.heads.contract import Output
from lookaround.objectives.contract import Shown

if TYPE_CHECKING:
    from lookaround.model.heads.lookahead import LookAhead


class Part(NamedTuple):
    """The scored pairs of one depth: flat state indices, targets and weights, each (N,)."""

    state: Tensor
    target: Tensor
    weight: Tensor


def depth_states(
    head: LookAhead, trunk_btd: Tensor, embedding: Tensor, shown: Shown, depths: int | None = None
) -> Iterator[tuple[int, Tensor]]:
    """(depth, states (B, T, D)) of a look-ahead head, given the true tokens; one autograd graph."""
    carried = trunk_btd
    for depth in range(1, (depths or head.depths) + 1):
        onward, out = _step(head, depth, carried, embedding, shown)
        carried = onward if head.chained else trunk_btd
        yield depth, out


def _step(
    head: LookAhead, depth: int, carried: Tensor, embedding: Tensor, shown: Shown
) -> tuple[Tensor, Tensor]:
    embedded = None
    if head.conditioned:  # the token `depth` ahead; beyond the end it is never scored
        ids = F.pad(shown.input_ids[:, depth:], (0, min(depth, shown.input_ids.shape[1])))
        embedded = F.embedding(ids, embedding)
    return head(depth, carried, embedded, **head.attention(depth, shown, carried.dtype))


def look_ahead_loss(
    head: LookAhead,
    trunk_btd: Tensor,
    shown: Shown,
    parts: Mapping[int, Part],
    *,
    embedding: Tensor,
    output: Output,
    rows: int | None = None,
    through: float = 1.0,
    scale: float = 1.0,
) -> Tensor:
    """scale * sum(weight * CE), in nats, of the pairs of one head.

    Depths run forward and backward one after the other against a detached copy of the trunk's
    states, so that one depth's logits and, of unchained heads, activations live at a time; the
    trunk is passed backward once, with the sum of their gradients times `through`. The same
    gradient as the plain sum of the losses (Gloeckle et al. 2024, section 2); chained heads go back
    from the depth furthest from the trunk. All gradients are made in the forward pass and without
    accumulating into `.grad`, so that accumulation, DistributedDataParallel, scaling and autocast
    see one ordinary operation.
    parts: its pairs by depth.
    output: the whole unembedding, since a part of a tied table would get its gradient twice;
    rows: how many of its rows the softmax is over, None for all.
    """
    scaled = {
        depth: part._replace(weight=part.weight.to(trunk_btd.dtype) * scale)
        for depth, part in sorted(parts.items())
    }
    own = [p for p in head.parameters() if p.requires_grad]
    known = {id(p) for p in own}
    lent: list[Tensor] = []
    if through == 0:
        embedding = embedding.detach()
        output = output.detached()
    else:
        lent += [p for p in output[:2] if p is not None]
        lent += [embedding] if head.conditioned else []
    lent = [p for p in {id(p): p for p in lent}.values() if p.requires_grad and id(p) not in known]

    def run(leaf: Tensor, wanted: list[Tensor], backward: bool) -> DepthwiseLoss:
        loss = DepthwiseLoss(head, leaf, wanted, shown, scaled, embedding, output, rows, backward)
        head.depthwise(loss)
        return loss

    return _OneDepthAtATime.apply(  # type: ignore[no-any-return]
        run, torch.is_grad_enabled(), through, len(own), trunk_btd, *own, *lent
    )


class _OneDepthAtATime(torch.autograd.Function):
    """A loss whose gradients are made in the forward pass (see look_ahead_loss)."""

    @staticmethod
    def forward(
        ctx: Any,
        run: Any,
        backward: bool,
        through: float,
        own: int,
        trunk: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        leaf = trunk.detach().requires_grad_(backward)
        with torch.set_grad_enabled(backward):
            loss = run(leaf, list(parameters), backward)
            total, grads = loss.total, loss.grads
        if backward:
            for i, parameter in enumerate(
                parameters[:own], start=1
            ):  # depths not scored in this step
                grads[i] = torch.zeros_like(parameter) if grads[i] is None else grads[i]
            scales = [through, *([1.0] * own), *([through] * (len(parameters) - own))]
            ctx.scales = scales
            ctx.save_for_backward(*grads)
        return total.detach()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        grad = grad_outputs[0]
        scaled = [
            None if g is None else g * (grad * scale)
            for g, scale in zip(ctx.saved_tensors, ctx.scales, strict=True)
        ]
        return (None, None, None, None, *scaled)


class DepthwiseLoss:
    """One head's loss while its depths run, with its gradients for the trunk and the parameters.

    leaf: (B, T, D), the trunk's states.
    parts: {depth: its scored pairs}.
    """

    def __init__(
        self,
        head: LookAhead,
        leaf: Tensor,
        parameters: list[Tensor],
        shown: Shown,
        parts: dict[int, Part],
        embedding: Tensor,
        output: Output,
        rows: int | None,
        backward: bool,
    ) -> None:
        self.head, self.leaf, self.parameters, self.shown = head, leaf, parameters, shown
        self.parts, self.embedding, self.backward = parts, embedding, backward
        self.output, self.rows = output, rows
        self.grads: list[Tensor | None] = [None] * (1 + len(parameters))
        exact = torch.float64 if leaf.dtype == torch.float64 else torch.float32
        self.total = leaf.new_zeros((), dtype=exact)

    def of(self, states: Tensor, depth: int, part: Part) -> Tensor:
        """The loss of a depth's pairs from their states (N, D); counted into `total`."""
        own = self.head.unembedding(depth)
        output = self.output.of(own).first(self.rows)
        loss, _ = output.cross_entropy(states, part.target, part.weight)
        self.total = self.total + loss.detach()
        return loss

    def step(self, depth: int, carried: Tensor) -> tuple[Tensor, Tensor]:
        """(what the next depth carries on, states (B, T, D)) of a depth at every position."""
        return _step(self.head, depth, carried, self.embedding, self.shown)

    def back(
        self, outputs: list[Tensor], given: list[Tensor | None], start: Tensor
    ) -> Tensor | None:
        """Adds the parameters' gradients; returns that of `start`."""
        if not self.backward:
            return None
        made = torch.autograd.grad(outputs, [start, *self.parameters], given, allow_unused=True)
        for i, grad in enumerate(made[1:], start=1):
            self._add(i, grad)
        return made[0]

    def close(self, outputs: list[Tensor], given: list[Tensor | None], start: Tensor) -> None:
        """`back` for a `start` whose gradient is that of the leaf."""
        self._add(0, self.back(outputs, given, start))

    def _add(self, i: int, grad: Tensor | None) -> None:
        if grad is not None:
            before = self.grads[i]
            self.grads[i] = grad if before is None else before + grad


def separate_depths(loss: DepthwiseLoss) -> None:
    """Depths that know nothing of one another: each forward and backward before the next."""
    for depth, part in loss.parts.items():
        if loss.head.pointwise:
            _, states = loss.head(depth, loss.leaf.flatten(0, 1)[part.state])
        else:
            states = loss.step(depth, loss.leaf)[1].flatten(0, 1)[part.state]
        loss.close([loss.of(states, depth, part)], [None], loss.leaf)
        del states  # this depth's activations, before the next are made


def chained_depths(loss: DepthwiseLoss) -> None:
    """Chained depths: forward to the last scored one, then backward from there."""
    segments: list[tuple[Tensor, Tensor, Tensor]] = []
    carried = loss.leaf
    for depth in range(1, max(loss.parts) + 1):
        start = carried.detach().requires_grad_(loss.backward)
        carried, out = loss.step(depth, start)
        segments.append((start, carried, out))
    flow: Tensor | None = None
    for depth in range(max(loss.parts), 0, -1):
        start, carried, out = segments.pop()
        outputs: list[Tensor] = []
        given: list[Tensor | None] = []
        if depth in loss.parts:
            part = loss.parts[depth]
            outputs, given = [loss.of(out.flatten(0, 1)[part.state], depth, part)], [None]
        if flow is not None:
            outputs, given = [*outputs, carried], [*given, flow]
        flow = loss.back(outputs, given, start)
    loss.grads[0] = flow
