"""Continuations, one token at a time, from causal, prefix and bidirectional models alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from lookaround.data.codec import Codec
from lookaround.decode.cache import cache_argument
from lookaround.model.backbone import Backbone, log_law
from lookaround.model.masks import attention_of
from lookaround.objectives.contract import Mode, Shown
from lookaround.support.errors import UserError

__all__ = ["continue_tokens", "filter_log_probabilities", "log_laws", "windows"]


def filter_log_probabilities(
    log_v: Tensor, *, temperature: float, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """Probabilities (V,) after temperature, top-k (0 = all) and top-p (nucleus; Holtzman et al.
    2020).
    """
    if temperature == 0:
        return torch.nn.functional.one_hot(log_v.argmax(), len(log_v)).to(log_v.dtype)
    log_v = (log_v / temperature).log_softmax(-1)
    if 0 < top_k < len(log_v):
        log_v = log_v.masked_fill(log_v < log_v.topk(top_k).values[-1], -torch.inf)
    if top_p < 1:
        ordered, order = log_v.softmax(-1).sort(descending=True)
        # the first token that reaches top_p is kept
        dropped = ordered.cumsum(0) - ordered >= max(top_p, torch.finfo(ordered.dtype).tiny)
        log_v = log_v.scatter(0, order[dropped], -torch.inf)
    return log_v.softmax(-1)


@torch.no_grad()
def continue_tokens(
    backbone: Backbone,
    tokenizer: Codec,
    prompt: list[int],
    mode: Mode,
    *,
    context: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[int]:
    """Yields token ids after `prompt` (ids without BOS) until EOS or `max_new_tokens`.

    A bidirectional model sees masks up to the end of the window of `context` tokens, as in
    training; when the text outgrows the window its oldest tokens fall out. A causal model keeps its
    key-value cache.
    """
    if context < 2:
        raise UserError(f"context: a window of {context} leaves no room for a new token")
    backbone.eval()
    vocabulary = tokenizer.vocabulary
    forbidden = torch.tensor(vocabulary.unwritten(tokenizer.eos))
    generator = torch.Generator().manual_seed(seed)
    ids = [tokenizer.bos, *prompt]
    cache, argument = None, cache_argument(type(backbone.lm))
    for _ in range(max_new_tokens):
        if mode.attention == "causal":
            seen = ids[-context:] if cache is None else ids[-1:]
            cache = DynamicCache(config=backbone.lm.config) if cache is None else cache
            out = backbone.lm(
                torch.tensor([seen], device=backbone.device),
                use_cache=True,
                is_causal=True,
                logits_to_keep=1,
                **{argument: cache},
            )
            logits_v = out.logits[0, -1, : len(backbone.output.weight)]
            if cache.get_seq_length() >= context:
                cache = None  # the window moves on, and with it all positions
            log_v = log_law(logits_v, forbidden)
        else:
            seen = ids[1 - context :]
            window_bt, end_bm = (
                windows([seen], context, vocabulary.mask),
                torch.tensor([[len(seen)]]),
            )
            log_v = log_laws(backbone, window_bt, end_bm, mode, forbidden)[0, 0]
        probability = filter_log_probabilities(
            log_v.cpu(), temperature=temperature, top_k=top_k, top_p=top_p
        )
        token = int(torch.multinomial(probability, 1, generator=generator))
        if token == tokenizer.eos:
            return
        ids.append(token)
        yield token


def windows(texts: Sequence[list[int]], context: int, mask: int) -> Tensor:
    """Texts filled up with masks, (B, T)."""
    return torch.tensor([[*text, *([mask] * (context - len(text)))] for text in texts])


def log_laws(
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
