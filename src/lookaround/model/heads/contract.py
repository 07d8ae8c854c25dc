"""What heads read of a model, and what training asks of them.

B sequences, T tokens, D hidden width, N scored pairs, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from lookaround.objectives.contract import View


class Trunk(NamedTuple):
    """What heads read: states after the final norm, and those entering the last layer if needed."""

    last: Tensor
    before: Tensor | None = None


class Output(NamedTuple):
    """The unembedding: weight (V, D) and bias (V,) or None."""

    weight: Tensor
    bias: Tensor | None = None

    def first(self, rows: int | None) -> Output:
        """The first `rows` rows; None is all."""
        if rows is None:
            return self
        return Output(self.weight[:rows], None if self.bias is None else self.bias[:rows])


class Auxiliary(Protocol):
    """A head whose loss is no cross-entropy on the pairs of a view."""

    def auxiliary(
        self, hidden_btd: Tensor, view: View, embedding: Tensor, output: Output
    ) -> Tensor:
        """The sum of its loss over a view's states, in nats; hidden_btd: the trunk's states."""
