"""Log-likelihoods of continuations given contexts, as token ids, under a model read in any mode.

Chain rule: token s given the tokens before it. A bidirectional model sees masks from s to the end
of its window; a prefix model sees what stands before s both ways.

Pseudo-likelihood: token s given all other tokens but the later ones of its own word, which are
masked with it (PLL-word-l2r of Kauf and Ivanova 2023, arXiv 2305.10588). It is not the
log-probability of the text.

K scored tokens, B rows of a pass, T tokens of a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lookaround.data.text import TextTokenizer
from lookaround.model.foreign import reading
from lookaround.model.masks import attention_of
from lookaround.model.readable import Readable
from lookaround.objectives.contract import Mode, Shown
from lookaround.support.errors import UserError

TOKENS_PER_PASS = 8192
LOGITS_PER_PASS = 1 << 26
WORD = re.compile(r"\w+|[^\w\s]")


class LogLikelihood(NamedTuple):
    """Of one continuation.

    nats: the sum over its tokens, at most 0.
    greedy: whether each of its tokens is the likeliest one where it stands.
    """

    nats: float
    greedy: bool


class _Row(NamedTuple):
    """A row that is read for tokens [begin, end) of a text."""

    width: int
    text: int
    begin: int
    end: int


def log_likelihoods(
    readable: Readable,
    mode: Mode,
    contexts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    *,
    words: Sequence[Sequence[int]] | None = None,
    after: Sequence[int] = (),
    widths: Sequence[int] | None = None,
    forbidden: Tensor | None = None,
) -> list[LogLikelihood]:
    """The log-likelihood of each continuation given its context; a text does not depend on others.

    A text with more tokens than the model's window loses its oldest ones.

    contexts: ids of at least one token, BOS included, which are seen and not scored.
    continuations: ids that are scored.
    words: the number of the word of each token of context and continuation; with it, the
        pseudo-likelihood is taken, which needs a bidirectional mode. Without, the chain rule.
    after: ids that are seen behind each continuation (EOS), for pseudo-likelihoods.
    widths: tokens of each text's window where masks follow a text; None: `readable.window`.
    forbidden: ids that are left out of the softmax; None: it is over all rows of the model.

    Raises UserError for a context without tokens, for a continuation longer than the window, and
    for a pseudo-likelihood of a mode that is not bidirectional.
    """
    if words is not None and mode.attention != "bidirectional":
        raise UserError(
            f"mode '{mode}': pseudo-likelihoods are of bidirectional modes; others have the chain "
            "rule alone"
        )
    causal = mode.attention == "causal"
    # nobody reads the last token of a causal text
    room = readable.context + (1 if causal else -len(after) if words is not None else 0)
    texts, begins = [], []
    for context, continuation in zip(contexts, continuations, strict=True):
        whole = [*context, *continuation]
        cut = max(len(whole) - room, 0)
        if not context or len(context) - cut < max(mode.shift, 1):
            raise UserError(
                f"likelihood: a text of {len(context)} + {len(continuation)} tokens cannot be read "
                f"in a window of {readable.context} as '{mode}'"
            )
        texts.append(whole[cut:])
        begins.append(len(context) - cut)
    rows = []
    for number, (text, begin) in enumerate(zip(texts, begins, strict=True)):
        if causal:
            rows.append(_Row(len(text) - 1, number, begin, len(text)))
            continue
        width = len(text) + len(after)
        if words is None:
            width = readable.window(len(text)) if widths is None else widths[number]
        rows += [_Row(width, number, at, at + 1) for at in range(begin, len(text))]
    nats, greedy = [0.0] * len(texts), [True] * len(texts)
    mask, backbone = readable.tokenizer.vocabulary.mask, readable.backbone
    for batch in _passes(rows, len(backbone.output.weight), mixed=causal):
        width = max(row.width for row in batch)
        tokens_bt = torch.full((len(batch), width), readable.tokenizer.bos if causal else mask)
        for b, row in enumerate(batch):
            seen = texts[row.text][: row.width if causal else row.begin]
            if words is not None:
                text, of = texts[row.text], words[row.text][-len(texts[row.text]) :]
                hidden = [i >= row.begin and of[i] == of[row.begin] for i in range(len(text))]
                kept = [mask if hide else i for i, hide in zip(text, hidden, strict=True)]
                seen = [*kept, *after]
            tokens_bt[b, : len(seen)] = torch.tensor(seen)
        line = torch.tensor([b for b, row in enumerate(batch) for _ in range(row.begin, row.end)])
        place = torch.tensor([at for row in batch for at in range(row.begin, row.end)])
        target = torch.tensor([i for r in batch for i in texts[r.text][r.begin : r.end]])
        begin_b = torch.tensor([row.begin for row in batch])
        shown = Shown(tokens_bt, attention_of(mode.attention, begin_b)).to(backbone.device)
        state = (line * width + place - mode.shift).to(backbone.device)
        with reading(backbone):
            log_kv = backbone.log_probabilities(shown, state, forbidden)
        likeliest = log_kv.argmax(-1).cpu() == target
        found = log_kv.gather(1, target.to(log_kv.device)[:, None])[:, 0].double().cpu()
        for b, value, best in zip(line.tolist(), found.tolist(), likeliest.tolist(), strict=True):
            nats[batch[b].text] += value
            greedy[batch[b].text] &= best
    return [LogLikelihood(*pair) for pair in zip(nats, greedy, strict=True)]


def _passes(rows: list[_Row], vocabulary: int, *, mixed: bool) -> Iterator[list[_Row]]:
    """Rows that are read together: of about one width, or (not mixed) of exactly one."""
    rows = sorted(rows)
    begin = 0
    while begin < len(rows):
        end, states = begin, 0
        while end < len(rows):
            row = rows[end]
            states += row.end - row.begin
            full = (end + 1 - begin) * row.width > TOKENS_PER_PASS
            full |= states * vocabulary > LOGITS_PER_PASS
            if end > begin and (full or not (mixed or row.width == rows[begin].width)):
                break
            end += 1
        yield rows[begin:end]
        begin = end


def word_numbers(tokenizer: TextTokenizer, text: str) -> list[int]:
    """The number of the word that each token of a text lies in, BOS left out.

    Words are runs of letters, digits and underscores, and single other signs, for any tokenizer.
    A token belongs to the word of its first character that is no space; one of spaces alone is a
    word of its own.
    """
    backend = tokenizer.hf.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    spans = [match.span() for match in WORD.finditer(text)]
    owner = {at: number for number, (start, end) in enumerate(spans) for at in range(start, end)}
    numbers = []
    for place, (start, end) in enumerate(backend.encode(text, add_special_tokens=False).offsets):
        own = next((owner[at] for at in range(start, end) if at in owner), None)
        numbers.append(len(spans) + place if own is None else own)
    return numbers
