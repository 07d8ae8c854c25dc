"""A model's answers: written by itself, and each token given the true ones before it.

B problems, A answer tokens, T tokens of a row, V vocabulary.

The ways to write an answer are `objectives.contract.Writing`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lookaround.decode.masked import window_log_probabilities
from lookaround.model.backbone import Backbone
from lookaround.model.foreign import reading
from lookaround.objectives.contract import Batch, Mode, Writing
from lookaround.objectives.objective import Objective
from lookaround.studies.synthetic.tasks import Task

ROWS_PER_PASS = 256


class Reader:
    """A model of an objective that answers the problems of a task in one of `Objective.decodings`.

    Answers come in the order of the text; what the model sees is in the objective's own order.

    on_read: called before each pass with the number of rows; what it raises ends the reading.
    """

    def __init__(
        self,
        backbone: Backbone,
        objective: Objective,
        task: Task,
        way: Writing,
        on_read: Callable[[int], None] | None = None,
    ) -> None:
        self.backbone, self.task, self.way, self.on_read = backbone, task, way, on_read
        self.objective = objective.at(1.0)
        modes = self.objective.modes()
        masked = way != Writing.ONE_BY_ONE
        fitting = [mode for mode in modes if (mode.attention == "bidirectional") == masked]
        self.mode: Mode = [*modes, *fitting][-1]
        self.stepwise = way == Writing.PARALLEL or self.mode.attention != "bidirectional"
        # how often `forced` and `written` read a row
        self.forced_reads = 1 if self.stepwise else task.answer
        self.written_reads = 1 if way == Writing.PARALLEL else task.answer
        # whether a greedy answer is right exactly where every token of `forced` is
        self.forced_tells = self.stepwise and not task.several

    def forced(self, batch: Batch) -> Tensor:
        """The likeliest token (B, A) at each position, given the true ones before it.

        A model that writes in parallel is given none.
        """
        return self._in_parts(self._forced, batch)

    def written(self, batch: Batch) -> Tensor:
        """The answers (B, A) that the model writes."""
        return self._in_parts(self._written, batch)

    def right(self, batch: Batch) -> Tensor:
        """Whether the token of `forced` is the true one (B, A)."""
        return self.forced(batch) == batch.tokens[:, self.task.prompt :]

    def solved(self, batch: Batch) -> Tensor:
        """Whether the answer of `written` solves the problem (B,)."""
        return self.task.solved(batch.tokens, self.written(batch))

    def accuracy(self, batch: Batch) -> tuple[list[float], float]:
        """(share of right tokens at each place of the answer, share of problems solved).

        A token counts as right given the true ones before it; of a model that writes in parallel,
        by itself.
        """
        right = self.right(batch)
        solved = right.all(1) if self.forced_tells else self.solved(batch)
        return right.double().mean(0).tolist(), float(solved.double().mean())

    @property
    def reads(self) -> int:
        """How often `accuracy` reads a row."""
        return self.forced_reads + (0 if self.forced_tells else self.written_reads)

    def _in_parts(self, read: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        parts = []
        with reading(self.backbone):
            for rows in torch.arange(len(batch.tokens)).split(ROWS_PER_PASS):
                part = batch.take(rows)
                answers = read(self.objective.arranged(part).tokens)
                tokens = torch.cat([part.tokens[:, : self.task.prompt], answers], 1)
                written = self.objective.arranged(replace(part, tokens=tokens)).tokens
                parts.append(written[:, self.task.prompt :])
        return torch.cat(parts)

    def _forced(self, tokens: Tensor) -> Tensor:
        if self.stepwise:
            return self._log_probabilities(
                self._hidden(tokens, 0) if self.way == Writing.PARALLEL else tokens
            ).argmax(-1)
        likeliest = [
            self._log_probabilities(self._hidden(tokens, place))[:, place].argmax(-1)
            for place in range(self.task.answer)
        ]
        return torch.stack(likeliest, 1)

    def _written(self, tokens: Tensor) -> Tensor:
        shown = self._hidden(tokens, 0)
        answer = shown[:, self.task.prompt :]
        if self.way == Writing.PARALLEL:
            return self._log_probabilities(shown).argmax(-1)
        for place in range(self.task.answer):
            certainty, best = self._log_probabilities(shown).max(-1)
            if self.way == Writing.CONFIDENT_FIRST:
                hidden = answer == self.task.vocabulary.mask
                surest = certainty.masked_fill(~hidden, -torch.inf).argmax(1, keepdim=True)
                answer.scatter_(1, surest, best.gather(1, surest))
            else:
                answer[:, place] = best[:, place]
        return answer

    def _hidden(self, tokens: Tensor, place: int) -> Tensor:
        """The tokens with dummies from a place of the answer on."""
        hidden = tokens.clone()
        hidden[:, self.task.prompt + place :] = self.task.vocabulary.mask
        return hidden

    def _log_probabilities(self, shown: Tensor) -> Tensor:
        """Log-probabilities (B, A, V) of an answer's tokens given `shown` (B, T), no dummies."""
        rows, width = shown.shape
        if self.on_read is not None:
            self.on_read(rows)
        answer = torch.arange(self.task.prompt, width).repeat(rows, 1)
        dummy = torch.tensor([self.task.vocabulary.mask])
        return window_log_probabilities(self.backbone, shown, answer, self.mode, dummy).cpu()
