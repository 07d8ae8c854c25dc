"""Text in, pieces of text out: one prompt after the other, by whatever way of decoding the model
allows.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from lookaround.decode.hub import read_description
from lookaround.decode.masked import Filled, fill, quality
from lookaround.decode.sampling import continue_tokens
from lookaround.decode.speculative import Speculator, Stats, make_verifier, warpers
from lookaround.model.heads import LookAhead
from lookaround.model.readable import Readable
from lookaround.objectives.contract import Mode
from lookaround.support.errors import UserError

__all__ = ["Writer"]


class Writer:
    """Continues texts piece by piece.

    After `write`, text, tokens and (with drafts) stats are those of the last one.
    """

    def __init__(
        self,
        run: Readable,
        folder: Path,
        mode: Mode,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        stop: Sequence[str] = (),
        rule: str = "exact",
        order: str = "left",
        per_pass: int = 1,
        seed: int = 0,
    ) -> None:
        self.run, self.mode, self.seed = run, mode, seed
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.top_k, self.top_p = top_k, top_p
        self.stop, self.rule, self.order, self.per_pass = tuple(stop), rule, order, per_pass
        self.masked = mode.attention == "bidirectional" and (order != "left" or per_pass > 1)
        if (order != "left" or per_pass > 1) and not self.masked:
            raise UserError(
                f"--order and --per-pass: are for masked models; this one is read as '{mode}'"
            )
        # of the last text, where a masked model filled several tokens per pass
        self.filled: Filled | None = None
        self.text, self.tokens = "", list[int]()
        self.stats: Stats | None = None
        self.speculator: Speculator | None = None
        ahead = any(isinstance(head, LookAhead) for head in run.backbone.heads)
        if ahead and mode.attention == "causal":
            told = read_description(folder, run.backbone.unembedding.weight.shape[0])
            run.backbone.eval().to(told.precision)
            self.speculator = Speculator(run.backbone, told.trees, shortlist=told.shortlist)

    @property
    def drafts(self) -> bool:
        return self.speculator is not None

    def cost(self, prompt: str) -> tuple[float, float]:
        """Bits per token of the last text by the model's own left-to-right law, and of one made a
        token per pass.

        The price of several tokens per pass: those of one pass are drawn independently
        (decode/masked.py).
        """
        run = self.run
        ids = run.tokenizer.encode([prompt])[0]
        slow = self._fill(ids, "left", 1)
        fast, plain = (
            quality(run.backbone, run.tokenizer, ids, tokens, self.mode, context=run.context)
            for tokens in (self.tokens, slow.tokens)
        )
        return fast, plain

    def _fill(self, ids: list[int], order: str, per_pass: int) -> Filled:
        run = self.run
        return fill(
            run.backbone,
            run.tokenizer,
            ids,
            self.mode,
            context=run.context,
            max_new_tokens=self.max_new_tokens,
            per_pass=per_pass,
            order=order,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            seed=self.seed,
        )

    @property
    def description(self) -> str:
        if self.masked:
            return f"{self.per_pass} tokens per pass, order {self.order}"
        if self.speculator is None:
            return "one token per pass"
        return f"up to {self.speculator.depths + 1} tokens per pass"

    def write(self, prompt: str) -> Iterator[tuple[str, bool]]:
        """(piece of text, whether its last token was an accepted draft), until EOS, a stop string
        or the length.
        """
        tokenizer = self.run.tokenizer
        self.text, self.tokens, self.stats = "", [], None
        shown = ""
        ids = tokenizer.encode([prompt])[0]
        before = tokenizer.decode(ids)
        for token, drafted in self._tokens(ids):
            self.tokens.append(token)
            whole = tokenizer.decode(
                [*ids, *self.tokens]
            )  # alone, the first token may lose its space
            self.text = (
                whole[len(before) :] if whole.startswith(before) else tokenizer.decode(self.tokens)
            )
            ends = [at + len(s) for s in self.stop if (at := self.text.find(s)) >= 0]
            if ends:
                self.text = self.text[: min(ends)]
            if ends or not self.text.endswith("�"):  # else a character is still under way
                yield self.text[len(shown) :], drafted
                shown = self.text
            if ends:
                return

    def _tokens(self, ids: list[int]) -> Iterator[tuple[int, bool]]:
        """(token, whether it was an accepted draft); EOS is left out."""
        run = self.run
        if self.masked:
            self.filled = self._fill(ids, self.order, self.per_pass)
            yield from ((token, False) for token in self.filled.tokens)
            return
        fits = self.speculator is not None and 1 + len(ids) + self.max_new_tokens <= max(
            run.context, self.speculator.limit
        )
        if fits:
            yield from self._drafted(ids)
        else:
            made = continue_tokens(
                run.backbone,
                run.tokenizer,
                ids,
                self.mode,
                context=run.context,
                max_new_tokens=self.max_new_tokens,
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                seed=self.seed,
            )
            yield from ((token, False) for token in made)

    def _drafted(self, ids: list[int]) -> Iterator[tuple[int, bool]]:
        """The same by several tokens per pass; the loop runs beside the reader, who gets tokens as
        they stand.
        """
        assert self.speculator is not None
        speculator, tokenizer = self.speculator, self.run.tokenizer
        size = self.run.backbone.output.weight.shape[0]
        never = [token for token in tokenizer.vocabulary.unwritten(tokenizer.eos) if token < size]
        generator = torch.Generator(self.run.backbone.device).manual_seed(self.seed)
        steps: queue.Queue = queue.Queue()
        halt = threading.Event()

        def work() -> None:
            try:
                made = speculator.generate(
                    [[tokenizer.bos, *ids]],
                    max_new_tokens=self.max_new_tokens,
                    eos=tokenizer.eos,
                    verifier=make_verifier(self.rule, self.temperature, generator),
                    generator=generator,
                    processors=warpers(self.temperature, self.top_k, self.top_p, never),
                    temperature=self.temperature or 1.0,
                    stop=lambda text: halt.is_set(),
                    on_step=steps.put,
                )
                self.stats = made.stats
                steps.put(None)
            except BaseException as error:
                steps.put(error)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            while (step := steps.get()) is not None:
                if isinstance(step, BaseException):
                    raise step
                for place, token in enumerate(step.tokens):
                    if token != tokenizer.eos:
                        yield token, place < step.drafts
        finally:
            halt.set()
            worker.join()
