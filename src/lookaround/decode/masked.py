"""Continuations by masked (bidirectional) models: several tokens per pass, from the left or the
most certain first.

What is still to come stands in the window as masks, and a pass of the model gives the law of every
one of them. The tokens of one pass are drawn independently of one another: that is the price of
fewer passes, and `quality` shows it.

B sequences, T tokens of the window, M masks still to fill, N of them filled in this pass, V
vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lookaround.data.text import TextTokenizer
from lookaround.decode.sampling import filter_log_probabilities, log_laws, windows
from lookaround.model.backbone import Backbone
from lookaround.objectives.contract import Mode
from lookaround.support.errors import UserError

__all__ = ["ORDERS", "Filled", "fill", "fill_many", "quality"]

ORDERS = ("left", "confidence")
ROWS_PER_PASS = 64


@dataclass
class Filled:
    """A continuation and what it took.

    tokens: ids without the prompt, up to the first EOS, EOS left out.
    order: for every pass the places that it filled, counted from 0 = the first new token; also
        those after an EOS, which `tokens` lacks.
    seconds: until its last pass.
    """

    tokens: list[int] = field(default_factory=list)
    order: list[list[int]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passes(self) -> int:
        return len(self.order)


def fill(
    backbone: Backbone,
    tokenizer: TextTokenizer,
    prompt: Sequence[int],
    mode: Mode,
    *,
    context: int,
    max_new_tokens: int,
    per_pass: int = 1,
    order: str = "left",
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    on_pass: Callable[[list[int | None]], None] | None = None,
) -> Filled:
    """Continues `prompt` (ids without BOS) by at most `max_new_tokens` tokens, `per_pass` of them
    in each pass.

    The window holds BOS, the prompt and masks up to `context` tokens. order="left" fills the next
    `per_pass` masks;
    order="confidence" fills those whose law is most certain, by the probability of the likeliest
    token before temperature,
    top_k and top_p (after Chang et al. 2022, arXiv 2202.04200, and the low-confidence remasking of
    Nie et al. 2025, arXiv
    2502.09992, which draw at every mask and keep the likeliest draws: the same at temperature 0.
         Choosing places before
    drawing is ours: with per_pass=1 every token then has the law that the model gives it there).

    Text ends at the first EOS: what "confidence" fills after it is dropped, and no pass is made
    once all before it stands. "confidence" looks at all masks of a block, which holds all new
    tokens if the window has room for them. Else blocks follow one another from left to right, each
    as long as the room that is left or, if that is more, a quarter of the window, and the oldest
    tokens fall out before a block begins. With order="left" a block is what one pass fills, so that
    order="left", per_pass=1 makes the draws of `continue_tokens` from the very same windows.

    on_pass: is told all new tokens after each pass, EOS included, None where the block still has a
        mask.

    Raises UserError for a mode that is not bidirectional, an unknown order, per_pass < 1 and a
    context below 2 tokens.
    """
    tell = None if on_pass is None else lambda _, so_far: on_pass(so_far)
    return fill_many(
        backbone,
        tokenizer,
        [prompt],
        mode,
        context=context,
        max_new_tokens=max_new_tokens,
        per_pass=per_pass,
        order=order,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seeds=[seed],
        on_pass=tell,
    )[0]


@torch.no_grad()
def fill_many(
    backbone: Backbone,
    tokenizer: TextTokenizer,
    prompts: Sequence[Sequence[int]],
    mode: Mode,
    *,
    context: int,
    max_new_tokens: int,
    seeds: Sequence[int],
    per_pass: int = 1,
    order: str = "left",
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    on_pass: Callable[[int, list[int | None]], None] | None = None,
) -> list[Filled]:
    """`fill` for prompts of equal length, one seed each, that share their passes; a text that has
    ended leaves them.

    on_pass: is told the prompt's number too.

    Raises UserError as `fill` does, for prompts of different lengths, and where there are not as
    many seeds as prompts.
    """
    _require_masked(mode, context)
    if order not in ORDERS:
        raise UserError(f"order '{order}': unknown; known are {', '.join(ORDERS)}")
    if per_pass < 1:
        raise UserError(
            f"per_pass: {per_pass} tokens per pass would never fill anything; must be 1 or more"
        )
    if len({len(prompt) for prompt in prompts}) > 1:
        raise UserError(
            f"prompts: have {sorted({len(p) for p in prompts})} tokens; must be equally long"
        )
    if len(seeds) != len(prompts):
        raise UserError(f"seeds: {len(seeds)} for {len(prompts)} prompts; must be one each")
    began = time.perf_counter()
    backbone.eval()
    vocabulary = tokenizer.vocabulary
    forbidden = torch.tensor(vocabulary.unwritten(tokenizer.eos))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    filled = [Filled() for _ in prompts]
    texts = [[tokenizer.bos, *prompt] for prompt in prompts]
    active = list(range(len(prompts)))  # they all have equally many tokens, at any time
    made = 0
    while active and made < max_new_tokens:
        length = len(texts[active[0]])
        block = min(max_new_tokens - made, max(context - length, context // 4, 1))
        if order == "left":
            block = min(block, per_pass)
        seen = min(length, context - block)
        window_bt = windows([texts[row][-seen:] for row in active], context, vocabulary.mask)
        blank_bm = torch.arange(seen, seen + block).repeat(len(active), 1)
        while blank_bm.numel():
            log_bmv = log_laws(backbone, window_bt, blank_bm, mode, forbidden)
            chosen_bn, log_bnv = _most_certain(log_bmv, per_pass)
            place_bn = blank_bm.gather(1, chosen_bn)
            drawn = [
                _draw(log_nv, generators[row], temperature=temperature, top_k=top_k, top_p=top_p)
                for row, log_nv in zip(active, log_bnv, strict=True)
            ]
            window_bt.scatter_(1, place_bn, torch.tensor(drawn))
            left_bm = torch.ones_like(blank_bm, dtype=torch.bool).scatter_(1, chosen_bn, False)
            blank_bm = blank_bm[left_bm].view(len(active), -1)
            going = []
            for b, row in enumerate(active):
                filled[row].order.append((place_bn[b] - seen + made).tolist())
                new = window_bt[b, seen : seen + block].tolist()
                if on_pass is not None:
                    shown = [None if token == vocabulary.mask else token for token in new]
                    on_pass(row, [*filled[row].tokens, *shown])
                end = new.index(tokenizer.eos) if tokenizer.eos in new else block
                whole = vocabulary.mask not in new[:end]  # the block, as far as it counts
                if whole:
                    filled[row].tokens += new[:end]
                    texts[row] += new[:end]
                    filled[row].seconds = time.perf_counter() - began
                if not whole or end == block:
                    going.append(b)
            if len(going) < len(active):
                active, window_bt, blank_bm = (
                    [active[b] for b in going],
                    window_bt[going],
                    blank_bm[going],
                )
        made += block
    return filled


@torch.no_grad()
def quality(
    backbone: Backbone,
    tokenizer: TextTokenizer,
    prompt: Sequence[int],
    tokens: Sequence[int],
    mode: Mode,
    *,
    context: int,
) -> float:
    """Mean bits per token of a continuation under the model itself, read one token per pass from
    left to right.

    The chain rule as evaluation scores it: masks from the scored token to the window's end, special
    tokens left out of the softmax, and the oldest tokens out of the window as in `continue_tokens`.
    prompt, tokens: ids without BOS and EOS. All tokens are scored side by side, ROWS_PER_PASS in
        each pass. NaN for no tokens. How many more bits a text has than one that was filled one
        token per pass is the quality cost of `fill`.

    Raises UserError for a mode that is not bidirectional, a context below 2 tokens and special
    tokens in `tokens`.
    """
    _require_masked(mode, context)
    backbone.eval()
    vocabulary = tokenizer.vocabulary
    special = vocabulary.unwritten()
    if found := sorted(set(tokens) & set(special)):
        raise UserError(f"tokens: {found} are special tokens; only text has bits")
    ids = [tokenizer.bos, *prompt, *tokens]
    nats = 0.0
    for begin in range(1 + len(prompt), len(ids), ROWS_PER_PASS):
        position = range(begin, min(begin + ROWS_PER_PASS, len(ids)))
        seen = [ids[max(at - context + 1, 0) : at] for at in position]
        ends_b1 = torch.tensor([[len(text)] for text in seen])
        window_bt = windows(seen, context, vocabulary.mask)
        log_bv = log_laws(backbone, window_bt, ends_b1, mode, torch.tensor(special))[:, 0]
        target_b1 = torch.tensor(ids[begin : position.stop], device=log_bv.device)[:, None]
        nats -= float(log_bv.gather(1, target_b1).double().sum())
    return nats / math.log(2) / len(tokens) if tokens else math.nan


def _most_certain(log_bmv: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which `count` of the M laws are most certain, from left to right (B, N), and these laws (B,
    N, V), on the CPU.
    """
    certain_bm = log_bmv.amax(-1).sort(descending=True, stable=True).indices
    chosen_bn = certain_bm[:, :count].sort().values
    return chosen_bn.cpu(), log_bmv.take_along_dim(chosen_bn[:, :, None], 1).cpu()


def _draw(log_nv: Tensor, generator: torch.Generator, **filters: Any) -> list[int]:
    """One token of each law, independently."""
    laws = [filter_log_probabilities(log_v, **filters) for log_v in log_nv]
    return [int(torch.multinomial(law_v, 1, generator=generator)) for law_v in laws]


def _require_masked(mode: Mode, context: int) -> None:
    if mode.attention != "bidirectional":
        raise UserError(
            f"mode '{mode}': masks are filled by bidirectional modes only; this one generates "
            "token by token"
        )
    if context < 2:
        raise UserError(f"context: a window of {context} leaves no room for a new token")
