"""What heads read of a model, and what training asks of them.

B sequences, T tokens, D hidden width, N scored pairs, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookaround.model.losses import linear_cross_entropy
from lookaround.objectives.contract import View


class Trunk(NamedTuple):
    """What heads read: states after the final norm, and those entering the last layer if needed."""

    last: Tensor
    before: Tensor | None = None


class Output(NamedTuple):
    """From states to logits: cap(scale * (W h + b)), with cap(z) = c tanh(z / c).

    weight: (V, D), the unembedding.
    bias: (V,), or None.
    scale: a factor of all logits (Granite, Cohere).
    cap: c, in nats; None: logits stay as they are (Gemma 2 has one).
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    def logits(self, states: Tensor) -> Tensor:
        """Logits (.., V) of states (.., D)."""
        logits = F.linear(states, self.weight, self.bias)
        if self.scale != 1:
            logits = logits * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def first(self, rows: int | None) -> Output:
        """The first `rows` rows; None is all."""
        if rows is None:
            return self
        bias = None if self.bias is None else self.bias[:rows]
        return self._replace(weight=self.weight[:rows], bias=bias)

    def of(self, own: Tensor | None) -> Output:
        """The same last step on a head's own unembedding (V, D); on this one for None."""
        return self if own is None else self._replace(weight=own, bias=None)

    def detached(self) -> Output:
        """The same without gradients."""
        bias = None if self.bias is None else self.bias.detach()
        return self._replace(weight=self.weight.detach(), bias=bias)

    def cross_entropy(
        self, states: Tensor, target: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`linear_cross_entropy` of states (N, D)."""
        bias = self.bias
        if self.scale != 1:
            states = states * self.scale
            bias = None if bias is None else bias * self.scale
        return linear_cross_entropy(states, self.weight, target, weight, bias_v=bias, cap=self.cap)


class Auxiliary(nn.Module, ABC):
    """A head whose loss is no cross-entropy on the pairs of a view."""

    def chosen(self, view: View) -> tuple[Any, ...]:
        """Which states take part: what of a view is found out before it is on a device.

        Raises ValueError for a view that the head cannot learn from.
        """
        return ()

    def auxiliary(
        self,
        hidden_btd: Tensor,
        view: View,
        embedding: Tensor,
        output: Output,
        chosen: tuple[Any, ...] | None = None,
    ) -> Tensor:
        """The sum of its loss over a view's states, in nats.

        hidden_btd: the trunk's states.
        chosen: what `chosen` gave of the view, on its device; None: it is found out now.
        """
        chosen = self.chosen(view) if chosen is None else chosen
        return self.summed(hidden_btd, view, embedding, output, chosen)

    @abstractmethod
    def summed(
        self,
        hidden_btd: Tensor,
        view: View,
        embedding: Tensor,
        output: Output,
        chosen: tuple[Any, ...],
    ) -> Tensor:
        """`auxiliary` of the states that were chosen."""
