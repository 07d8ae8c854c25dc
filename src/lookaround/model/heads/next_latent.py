"""Next-latent prediction: an auxiliary step from a state to the next one.

B sequences, T tokens, D hidden width, N scored pairs, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookaround.model.heads.contract import Auxiliary, Output
from lookaround.model.losses import at_least_single
from lookaround.model.sizes import Sizes
from lookaround.objectives.contract import View


class NextLatentHead(Auxiliary):
    """Next-latent prediction (arXiv 2511.05963): the state k ahead from a state and k tokens.

    One residual MLP steps from a state and the next token's embedding to the next state, and is
    rolled `steps` steps on. The last map begins at zero: a state is guessed to stay as it is.
    """

    def __init__(self, sizes: Sizes, steps: int) -> None:
        super().__init__()
        self.steps, self.vocabulary = steps, sizes.vocabulary
        width = sizes.width
        self.up = nn.Linear(2 * width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def step(self, state: Tensor, embedded: Tensor) -> Tensor:
        """The state after one more token, (.., D) from (.., D) and its embedding (.., D)."""
        both = torch.cat([F.rms_norm(x, x.shape[-1:]) for x in (state, embedded)], -1)
        return state + self.down(F.gelu(self.up(both)))

    def chosen(self, view: View) -> tuple[Any, ...]:
        """(which of the states before go on (n,), where they then stand (n,)) of each step.

        Guesses end where a row's or document's targets end.
        """
        rows, width = view.shown.input_ids.shape
        scored = torch.zeros(rows * width, dtype=torch.bool, device=view.pairs.state.device)
        scored[view.pairs.state] = True
        at, steps = view.pairs.state, []
        for _ in range(self.steps):
            # the next state is there to be guessed if it is scored itself: it stands in the same
            # row and document
            keep = scored[(at + 1).clamp(max=rows * width - 1)] & ((at + 1) % width != 0)
            kept = keep.nonzero().flatten()
            if not len(kept):
                break
            at = at[kept] + 1
            steps.append((kept, at))
        return tuple(steps)

    def summed(
        self,
        hidden_btd: Tensor,
        view: View,
        embedding: Tensor,
        output: Output,
        chosen: tuple[Any, ...],
    ) -> Tensor:
        """Sum over states of smooth-L1 (mean over D) and KL(true || predicted), mean over steps.

        True states and the unembedding are held fixed.
        """
        flat = hidden_btd.flatten(0, 1)
        fixed, out = flat.detach(), output.detached()
        ids = view.shown.input_ids.flatten()
        state = flat[view.pairs.state]
        total = flat.new_zeros(())
        for kept, at in chosen:
            state = self.step(state[kept], F.embedding(ids[at], embedding))
            true = fixed[at]
            total = total + F.smooth_l1_loss(state, true, reduction="sum") / state.shape[-1]
            guess_nv, true_nv = (
                at_least_single(out.logits(x)).log_softmax(-1) for x in (state, true)
            )
            total = total + F.kl_div(guess_nv, true_nv, reduction="sum", log_target=True)
        return total / self.steps

    def flops(self, offset: Tensor, positions: int, width: int) -> float:
        rows = positions / width
        guesses = sum(max(len(offset) - step * rows, 0.0) for step in range(1, self.steps + 1))
        # of the guess, there and back, and of the true state
        unembedding = self.vocabulary * self.down.out_features
        return 6.0 * (sum(p.numel() for p in self.parameters()) + unembedding) * guesses
