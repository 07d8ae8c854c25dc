"""Continuations by models that read windows of masks: several tokens per pass, from the left or the
most certain first.

What is still to come stands in the window as masks, and a pass of the model gives a distribution
for each of them. The tokens of one pass are drawn independently of one another: that is the price
of fewer passes, and `quality` shows it.

B sequences, T tokens of the window, M masks still to fill, N of them filled in this pass, V
vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lookaround.decode.sampling import draw
from lookaround.decode.stats import Stats
from lookaround.model.backbone import Backbone
from lookaround.model.masks import attention_of
from lookaround.model.readable import Readable
from lookaround.objectives.contract import Mode, Shown
from lookaround.settings import GenerationConfig
from lookaround.support.errors import UserError

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
    readable: Readable,
    prompts: Sequence[Sequence[int]],
    mode: Mode,
    config: GenerationConfig,
    *,
    seeds: Sequence[int],
) -> list[Filled]:
    """Continues prompts of equal length, which share their passes, by at most
    `config.max_new_tokens` tokens, `config.per_pass` of them in each pass.

    The window holds the prompt and masks: of a run `readable.context` tokens, as in its training;
    of another model as many as the text may have, up to that.
    `config.order` "left" fills the next masks. "confidence" fills those whose distribution is most
    certain, by the probability of the likeliest token before temperature, top-k and top-p (after
    Chang et al. 2022, arXiv 2202.04200, and the low-confidence remasking of Nie et al. 2025, arXiv
    2502.09992, which draw at every mask and keep the likeliest draws: the same at temperature 0.
    Choosing places before drawing is ours: with one token per pass every token then has the
    distribution that the model gives it there).

    Text ends at the first EOS: what "confidence" fills after it is dropped, and no pass is made
    once all before it stands. "confidence" looks at all masks of a block, which holds all new
    tokens if the window has room for them. Else blocks follow one another from left to right, each
    as long as the room that is left or, if that is more, a quarter of the window, and the oldest
    tokens fall out before a block begins. With "left" a block is what one pass fills.

    prompts: ids from the text's first token on, BOS included.
    seeds: one for each prompt, so that a text does not depend on those beside it.

    Raises UserError for a causal mode, for a prefix mode unless one token per pass is filled from
    the left, and for prompts of different lengths.
    """
    filled = [Filled() for _ in prompts]
    for _ in _passes(readable, filled, prompts, mode, config, seeds):
        pass
    return filled


def masked_tokens(
    readable: Readable,
    prompt: Sequence[int],
    mode: Mode,
    config: GenerationConfig,
    *,
    seed: int,
    stats: Stats,
) -> Iterator[int]:
    """Yields the tokens of `fill` for one prompt, as soon as they and all before them stand.

    stats: empty ones, which are kept up to date with every pass.
    """
    filled = Filled()
    for _ in _passes(readable, [filled], [prompt], mode, config, [seed]):
        given = stats.tokens
        stats.passes, stats.tokens, stats.seconds = (
            filled.passes,
            len(filled.tokens),
            filled.seconds,
        )
        yield from filled.tokens[given:]


@torch.no_grad()
def _passes(
    readable: Readable,
    filled: list[Filled],
    prompts: Sequence[Sequence[int]],
    mode: Mode,
    config: GenerationConfig,
    seeds: Sequence[int],
) -> Iterator[None]:
    """Fills in what `filled` holds of each prompt, and comes by after each pass."""
    _require_masks(mode, token_by_token=config.order == "left" and config.per_pass == 1)
    if len({len(prompt) for prompt in prompts}) > 1:
        raise UserError(
            f"prompts: have {sorted({len(p) for p in prompts})} tokens; must be equally long"
        )
    began = time.perf_counter()
    backbone, mask = readable.backbone.eval(), readable.codec.vocabulary.mask
    texts = [list(prompt) for prompt in prompts]
    context = readable.window(max(map(len, texts), default=0) + config.max_new_tokens)
    generators = [torch.Generator().manual_seed(s) for s, _ in zip(seeds, texts, strict=True)]
    active = list(range(len(prompts)))  # they all have equally many tokens, at any time
    made = 0
    while active and made < config.max_new_tokens:
        seen, block = _share(len(texts[active[0]]), config.max_new_tokens - made, context, config)
        window_bt = _windows([texts[row][-seen:] for row in active], context, mask)
        blank_bm = torch.arange(seen, seen + block).repeat(len(active), 1)
        while blank_bm.numel():
            log_bmv = window_log_probabilities(
                backbone, window_bt, blank_bm, mode, readable.unwritten
            )
            chosen_bn, log_bnv = _most_certain(log_bmv, config.per_pass)
            place_bn = blank_bm.gather(1, chosen_bn)
            drawn = [
                [draw(log_v, config, generators[row]) for log_v in log_nv]
                for row, log_nv in zip(active, log_bnv, strict=True)
            ]
            window_bt.scatter_(1, place_bn, torch.tensor(drawn))
            left_bm = torch.ones_like(blank_bm, dtype=torch.bool).scatter_(1, chosen_bn, False)
            blank_bm = blank_bm[left_bm].view(len(active), -1)
            going = []
            for b, row in enumerate(active):
                filled[row].order.append((place_bn[b] - seen + made).tolist())
                new = window_bt[b, seen : seen + block].tolist()
                end = next((i for i, token in enumerate(new) if token in readable.eos), block)
                whole = mask not in new[:end]  # the block, as far as it counts
                if whole:
                    filled[row].tokens += new[:end]
                    texts[row] += new[:end]
                filled[row].seconds = time.perf_counter() - began
                if not whole or end == block:
                    going.append(b)
            if len(going) < len(active):
                active = [active[b] for b in going]
                window_bt, blank_bm = window_bt[going], blank_bm[going]
            yield
        made += block


def _share(length: int, left: int, context: int, config: GenerationConfig) -> tuple[int, int]:
    """(tokens of a text that a window shows, masks after them), with `left` tokens to come."""
    block = min(left, max(context - length, context // 4, 1))
    if config.order == "left":
        block = min(block, config.per_pass)
    return min(length, context - block), block


def unseen(readable: Readable, length: int, config: GenerationConfig) -> int:
    """How many first tokens of a prompt of so many the first window has no room for."""
    context = readable.window(length + config.max_new_tokens)
    return length - _share(length, config.max_new_tokens, context, config)[0]


@torch.no_grad()
def quality(
    readable: Readable,
    prompt: Sequence[int],
    tokens: Sequence[int],
    mode: Mode,
    *,
    room: int = 0,
) -> float:
    """Mean bits per token of a continuation under the model itself, read one token per pass from
    left to right.

    The chain rule as evaluation scores it: masks from the scored token to the window's end, special
    tokens left out of the softmax, and the oldest tokens out of the window as in `fill`. How many
    more bits a text has than one that was filled one token per pass is the quality cost of `fill`.

    prompt: ids from the text's first token on, BOS included.
    tokens: ids without EOS. ROWS_PER_PASS tokens are scored side by side. NaN for no tokens.
    room: new tokens that a window of no set width has room for, at least.

    Raises UserError for a mode that is not bidirectional, and special tokens in `tokens`.
    """
    _require_masks(mode)
    backbone, tokenizer = readable.backbone.eval(), readable.codec
    context = readable.window(len(prompt) + max(room, len(tokens)))
    special = tokenizer.vocabulary.unwritten()
    if found := sorted(set(tokens) & set(special)):
        raise UserError(f"tokens: {found} are special tokens; only text has bits")
    ids = [*prompt, *tokens]
    nats = 0.0
    for begin in range(len(prompt), len(ids), ROWS_PER_PASS):
        position = range(begin, min(begin + ROWS_PER_PASS, len(ids)))
        seen = [ids[max(at - context + 1, 0) : at] for at in position]
        ends_b1 = torch.tensor([[len(text)] for text in seen])
        window_bt = _windows(seen, context, tokenizer.vocabulary.mask)
        log_bv = window_log_probabilities(
            backbone, window_bt, ends_b1, mode, torch.tensor(special)
        )[:, 0]
        target_b1 = torch.tensor(ids[begin : position.stop], device=log_bv.device)[:, None]
        nats -= float(log_bv.gather(1, target_b1).double().sum())
    return nats / math.log(2) / len(tokens) if tokens else math.nan


def window_log_probabilities(
    backbone: Backbone, window_bt: Tensor, position_bm: Tensor, mode: Mode, forbidden: Tensor
) -> Tensor:
    """Log-probabilities (B, M, V), on the model's device, of the tokens at the given positions of
    the windows.

    A prefix model has been given what stands before the first of them.
    """
    rows, width = window_bt.shape
    state = (torch.arange(rows)[:, None] * width + position_bm - mode.shift).flatten()
    shown = Shown(window_bt, attention_of(mode.attention, position_bm[:, 0])).to(backbone.device)
    log_nv = backbone.log_probabilities(shown, state.to(backbone.device), forbidden)
    return log_nv.view(*position_bm.shape, -1)


def _windows(texts: Sequence[list[int]], context: int, mask: int) -> Tensor:
    """Texts filled up with masks, (B, T)."""
    return torch.tensor([[*text, *([mask] * (context - len(text)))] for text in texts])


def _most_certain(log_bmv: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which `count` of the M masks have the likeliest tokens, from left to right (B, N), and their
    log-probabilities (B, N, V), on the CPU.
    """
    certain_bm = log_bmv.amax(-1).sort(descending=True, stable=True).indices
    chosen_bn = certain_bm[:, :count].sort().values
    return chosen_bn.cpu(), log_bmv.take_along_dim(chosen_bn[:, :, None], 1).cpu()


def _require_masks(mode: Mode, *, token_by_token: bool = False) -> None:
    if mode.attention != "bidirectional" and not (mode.attention == "prefix" and token_by_token):
        raise UserError(
            f"mode '{mode}': masks are filled by bidirectional modes only; this one generates "
            "token by token"
        )
