"""The loss of an objective: one spelling for the step, the log and validation.

C components, N scored pairs. A component's loss is sum(weight * CE) / normaliser over all
micro-batches and processes; components are combined by their coefficients after that, else `ar +
mlm` would be 87 % AR.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lookaround.model.backbone import Backbone
from lookaround.model.heads import Auxiliary, LookAhead, Trunk, look_ahead_loss
from lookaround.objectives.contract import Component, Shown, View


class ComponentSums:
    """Sums of weighted cross-entropies (C,), in nats, and their divisors (C,), over views."""

    def __init__(self, components: Sequence[Component]) -> None:
        self.coefficients = tuple(component.coefficient for component in components)
        self.totals = torch.zeros(len(self.coefficients), dtype=torch.float64)
        self.normalisers = torch.zeros(len(self.coefficients), dtype=torch.float64)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> ComponentSums:
        """Sums out of what `tensors` has made of them."""
        sums = cls(())
        sums.coefficients = tuple(tensors["coefficients"].tolist())
        sums.totals, sums.normalisers = tensors["totals"].clone(), tensors["normalisers"].clone()
        return sums

    def tensors(self) -> dict[str, Tensor]:
        """All that they are, as named tensors (C,) float64."""
        coefficients = torch.tensor(self.coefficients, dtype=torch.float64)
        return {
            "coefficients": coefficients,
            "totals": self.totals,
            "normalisers": self.normalisers,
        }

    def count(self, views: Iterable[View]) -> None:
        """Adds the normalisers of one view of each component."""
        for number, view in enumerate(views):
            self.normalisers[number] += view.normaliser

    def scales(self, processes: int) -> tuple[float, ...]:
        """The factor of each component's sum: gradients are averaged over processes, not summed."""
        return tuple(
            coefficient * processes / max(float(normaliser), 1e-12)
            for coefficient, normaliser in zip(self.coefficients, self.normalisers, strict=True)
        )

    def add(self, totals: Iterable[Tensor]) -> None:
        """Adds the sum of one view of each component."""
        for number, total in enumerate(totals):
            self.totals[number] += total.cpu()

    def merge(self, other: ComponentSums) -> ComponentSums:
        """These sums and later ones; the later ones alone where they are of other components."""
        if other.coefficients != self.coefficients:
            return other
        self.totals += other.totals
        self.normalisers += other.normalisers
        return self

    def mean(self) -> float:
        """The mean loss, by coefficients of the components that scored something; NaN for none."""
        present = [
            (coefficient, float(total) / float(normaliser))
            for coefficient, total, normaliser in zip(
                self.coefficients, self.totals, self.normalisers, strict=True
            )
            if normaliser
        ]
        whole = sum(coefficient for coefficient, _ in present)
        return (
            sum(coefficient * mean for coefficient, mean in present) / whole
            if present
            else float("nan")
        )


class ObjectiveLoss(nn.Module):
    """A backbone with the loss of any objective on it.

    alike: whether the model is run for a view without rows too, as processes must that gather it
        together.
    """

    def __init__(self, backbone: Backbone, alike: bool = False) -> None:
        super().__init__()
        self.backbone, self.alike = backbone, alike

    def forward(
        self, components: Sequence[Component], views: Sequence[View], scales: Sequence[float]
    ) -> tuple[Tensor, list[Tensor]]:
        """(the loss, the detached sum(weight * CE) of each view), in nats.

        The loss is the sum over views of scale * (sum(weight * CE) + weight * auxiliary terms).
        """
        heads = self.backbone.heads
        total = torch.zeros((), device=self.backbone.device)
        sums = []
        used: set[int] = set()
        for component, view, scale in zip(components, views, scales, strict=True):
            if not view.rows:
                if self.alike:
                    width = view.shown.input_ids.shape[1]
                    nothing = Shown(view.shown.input_ids.new_zeros((1, width)))
                    total = total + 0 * self.backbone.trunk(nothing).last.sum()
                sums.append(total.new_zeros(()))
                continue
            trunk = self.backbone.trunk(view.shown)
            numbered = dict(enumerate(component.heads, start=component.first))
            loss = self._cross_entropy(view, trunk, scale)
            for number in view.pairs.head.unique().tolist() if numbered else ():
                if number:
                    through = numbered[number].through
                    loss = loss + self._look_ahead(number, view, trunk, scale, through)
                    used.add(number)
            total = total + loss
            sums.append(loss.detach() / scale)
            for number, spec in numbered.items():
                if spec.auxiliary:  # its parameters may take no part: not `used`
                    term = cast(Auxiliary, heads[number - 1]).auxiliary(
                        trunk.last, view, self.backbone.embedding.weight, self.backbone.output
                    )
                    total = total + scale * spec.weight * term
            detached = any(spec.through == 0 for spec in component.heads)
            if detached or not bool((view.pairs.head == 0).any()):
                total = total + 0 * trunk.last[:1, :1].sum()  # as below
        # every parameter takes part in every step, as DistributedDataParallel requires
        for number, head in enumerate(heads, start=1):
            if number not in used:
                total = total + 0 * sum(parameter.sum() for parameter in head.parameters())
        return total, sums

    def _cross_entropy(self, view: View, trunk: Trunk, scale: float) -> Tensor:
        """scale * sum(weight * CE) of the pairs of the LM head."""
        pairs, output = view.pairs, self.backbone.output
        near = pairs.head == 0
        if not bool(near.any()):
            return torch.zeros((), device=self.backbone.device)
        pick = slice(None) if bool(near.all()) else near
        weight = pairs.weight[pick].to(trunk.last.dtype) * scale
        states_nd = trunk.last.flatten(0, 1)[pairs.state[pick]]
        loss, _ = output.cross_entropy(states_nd, pairs.target[pick], weight)
        return loss

    def _look_ahead(
        self, number: int, view: View, trunk: Trunk, scale: float, through: float
    ) -> Tensor:
        head = cast(LookAhead, self.backbone.heads[number - 1])
        return look_ahead_loss(
            head,
            cast(Tensor, getattr(trunk, head.reads)),
            view,
            (view.pairs.head == number).nonzero().flatten(),
            embedding=self.backbone.embedding.weight,
            output=self.backbone.whole_output,
            rows=self.backbone.own_rows,
            through=through,
            scale=scale,
        )
