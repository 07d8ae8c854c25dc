"""The loss of an objective: one spelling for the step, the log and validation.

C components, N scored pairs. A component's loss is sum(weight * CE) / normaliser over all
micro-batches and processes; components are combined by their coefficients after that, else `ar +
mlm` would be 87 % AR.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from lookaround.model.backbone import Backbone
from lookaround.model.heads import Auxiliary, LookAhead, Part, Trunk, look_ahead_loss
from lookaround.objectives.contract import Component, Movable, Pairs, Shown, View


class ComponentSums:
    """Sums of weighted cross-entropies (C,), in nats, and their divisors (C,), over views.

    Sums that are added stay where they were made until `totals` are asked for: no step waits for
    the device.
    """

    def __init__(self, components: Sequence[Component]) -> None:
        self.coefficients = tuple(component.coefficient for component in components)
        self._totals = torch.zeros(len(self.coefficients), dtype=torch.float64)
        self._added: list[tuple[Tensor, ...]] = []
        self.normalisers = torch.zeros(len(self.coefficients), dtype=torch.float64)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> ComponentSums:
        """Sums out of what `tensors` has made of them."""
        sums = cls(())
        sums.coefficients = tuple(tensors["coefficients"].tolist())
        sums._totals, sums.normalisers = tensors["totals"].clone(), tensors["normalisers"].clone()
        return sums

    @property
    def totals(self) -> Tensor:
        """The sums, (C,) float64, on the CPU."""
        if self._added:
            flat = torch.stack([total for totals in self._added for total in totals]).double().cpu()
            for totals in flat.view(len(self._added), -1):
                self._totals += totals
            self._added = []
        return self._totals

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
            coefficient * processes / max(normaliser, 1e-12)
            for coefficient, normaliser in zip(
                self.coefficients, self.normalisers.tolist(), strict=True
            )
        )

    def add(self, totals: Iterable[Tensor]) -> None:
        """Adds the sum of one view of each component."""
        self._added.append(tuple(totals))

    def merge(self, other: ComponentSums) -> ComponentSums:
        """These sums and later ones; the later ones alone where they are of other components."""
        if other.coefficients != self.coefficients:
            later = ComponentSums(())
            later.coefficients, later._added = other.coefficients, [*other._added]
            later._totals, later.normalisers = other._totals.clone(), other.normalisers.clone()
            return later
        self._totals += other._totals
        self._added += other._added
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


@dataclass(frozen=True)
class Scored(Movable):
    """A view of a component with its pairs sorted out, which takes a look at their values.

    near: the pairs of the LM head, None where there are none.
    far: {number of a look-ahead head: {depth: its pairs}}.
    chosen: {number of an auxiliary head: what it has chosen of the view}.
    """

    view: View
    near: Pairs | None
    far: dict[int, dict[int, Part]]
    chosen: dict[int, tuple[Any, ...]]


class ObjectiveLoss(nn.Module):
    """A backbone with the loss of any objective on it.

    alike: whether the model is run for a view without rows too, as processes must that gather it
        together.
    """

    def __init__(self, backbone: Backbone, alike: bool = False) -> None:
        super().__init__()
        self.backbone, self.alike = backbone, alike

    def scored(self, component: Component, view: View) -> Scored:
        """A view as `forward` needs it; made on the CPU, so that no device is waited for."""
        pairs, heads = view.pairs, self.backbone.heads
        far: dict[int, dict[int, Part]] = {}
        present = pairs.head.unique().tolist()
        for number in present if component.heads else ():
            if number:
                here = (pairs.head == number).nonzero().flatten()
                offsets = pairs.offset[here]
                far[number] = {
                    offset - 1: Part(*(c[here[offsets == offset]] for c in _columns(pairs)))
                    for offset in offsets.unique().tolist()
                }
        near = None
        if 0 in present:
            only = present == [0]
            near = pairs if only else pairs.take((pairs.head == 0).nonzero().flatten())
        chosen = {
            number: cast(Auxiliary, heads[number - 1]).chosen(view)
            for number, spec in enumerate(component.heads, start=component.first)
            if spec.auxiliary and view.rows
        }
        return Scored(view, near, far, chosen)

    def forward(
        self,
        components: Sequence[Component],
        views: Sequence[View | Scored],
        scales: Sequence[float],
    ) -> tuple[Tensor, list[Tensor]]:
        """(the loss, the detached sum(weight * CE) of each view), in nats.

        The loss is the sum over views of scale * (sum(weight * CE) + weight * auxiliary terms).
        """
        heads = self.backbone.heads
        total = torch.zeros((), device=self.backbone.device)
        sums = []
        used: set[int] = set()
        for component, given, scale in zip(components, views, scales, strict=True):
            scored = given if isinstance(given, Scored) else self.scored(component, given)
            view = scored.view
            if not view.rows:
                if self.alike:
                    width = view.shown.input_ids.shape[1]
                    nothing = Shown(view.shown.input_ids.new_zeros((1, width)))
                    total = total + 0 * self.backbone.trunk(nothing).last.sum()
                sums.append(total.new_zeros(()))
                continue
            trunk = self.backbone.trunk(view.shown)
            numbered = dict(enumerate(component.heads, start=component.first))
            loss = self._cross_entropy(scored.near, trunk, scale)
            for number, parts in scored.far.items():
                through = numbered[number].through
                loss = loss + self._look_ahead(number, view, parts, trunk, scale, through)
                used.add(number)
            total = total + loss
            sums.append(loss.detach() / scale)
            for number, chosen in scored.chosen.items():  # its parameters may take no part
                term = cast(Auxiliary, heads[number - 1]).auxiliary(
                    trunk.last,
                    view,
                    self.backbone.embedding.weight,
                    self.backbone.output,
                    chosen,
                )
                total = total + scale * numbered[number].weight * term
            detached = any(spec.through == 0 for spec in component.heads)
            if detached or scored.near is None:
                total = total + 0 * trunk.last[:1, :1].sum()  # as below
        # every parameter takes part in every step, as processes that add up gradients require
        for number, head in enumerate(heads, start=1):
            if number not in used:
                total = total + 0 * sum(parameter.sum() for parameter in head.parameters())
        return total, sums

    def _cross_entropy(self, near: Pairs | None, trunk: Trunk, scale: float) -> Tensor:
        """scale * sum(weight * CE) of the pairs of the LM head."""
        if near is None:
            return torch.zeros((), device=self.backbone.device)
        weight = near.weight.to(trunk.last.dtype) * scale
        states_nd = trunk.last.flatten(0, 1)[near.state]
        loss, _ = self.backbone.output.cross_entropy(states_nd, near.target, weight)
        return loss

    def _look_ahead(
        self,
        number: int,
        view: View,
        parts: dict[int, Part],
        trunk: Trunk,
        scale: float,
        through: float,
    ) -> Tensor:
        head = cast(LookAhead, self.backbone.heads[number - 1])
        return look_ahead_loss(
            head,
            cast(Tensor, getattr(trunk, head.reads)),
            view.shown,
            parts,
            embedding=self.backbone.embedding.weight,
            output=self.backbone.whole_output,
            rows=self.backbone.own_rows,
            through=through,
            scale=scale,
        )


def _columns(pairs: Pairs) -> tuple[Tensor, ...]:
    """The columns of a `Part`."""
    return pairs.state, pairs.target, pairs.weight
