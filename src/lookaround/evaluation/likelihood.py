"""Log-likelihoods of continuations given contexts, as token ids, under a model read in any mode.

Chain rule: token s given the tokens before it. A bidirectional model sees masks from s to the end
of its window; a prefix model sees what stands before s both ways.

Pseudo-likelihood: token s given all other tokens but the later ones of its own word, which are
masked with it (PLL-word-l2r of Kauf and Ivanova 2023, arXiv 2305.10588). It is not the
log-probability of the text.

S states that are asked, B rows of a pass, T tokens of a row, V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lookaround.data.text import TextTokenizer
from lookaround.evaluation.features import tokens_per_pass
from lookaround.model.foreign import reading
from lookaround.model.masks import attention_of
from lookaround.model.readable import Readable
from lookaround.objectives.contract import Mode, Shown
from lookaround.support.errors import UserError

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
    """A row as a model sees it; texts that begin alike share rows.

    width: its tokens, those after `seen` included.
    given: how many tokens a prefix model sees both ways.
    """

    width: int
    seen: tuple[int, ...]
    given: int


class _Target(NamedTuple):
    """A token of a text that a row is read for."""

    text: int
    at: int
    token: int


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
    progress: Callable[[int, int], None] | None = None,
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
    progress: called with (rows read, all rows) after each pass.

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
    rows: dict[_Row, list[_Target]] = {}
    mask, backbone = readable.codec.vocabulary.mask, readable.backbone
    for number, (text, begin) in enumerate(zip(texts, begins, strict=True)):
        targets = [_Target(number, at, text[at]) for at in range(begin, len(text))]
        if causal:
            rows.setdefault(_Row(len(text) - 1, tuple(text[:-1]), 0), []).extend(targets)
            continue
        if words is None:
            width = readable.window(len(text)) if widths is None else widths[number]
            for target in targets:
                row = _Row(width, tuple(text[: target.at]), target.at)
                rows.setdefault(row, []).append(target)
            continue
        of = words[number][-len(text) :]
        last = {word: at for at, word in enumerate(of)}
        for target in targets:
            seen = [*text, *after]
            for later in range(target.at, last[of[target.at]] + 1):
                if of[later] == of[target.at]:
                    seen[later] = mask
            rows.setdefault(_Row(len(seen), tuple(seen), target.at), []).append(target)
    nats, greedy, done = [0.0] * len(texts), [True] * len(texts), 0
    fill = readable.codec.bos if causal else mask
    most = tokens_per_pass(backbone.device)
    for batch in _passes(rows, most, len(backbone.output.weight), mixed=causal):
        width = max(row.width for row in batch)
        tokens_bt = torch.tensor([[*row.seen, *[fill] * (width - len(row.seen))] for row in batch])
        attention = attention_of(mode.attention, torch.tensor([row.given for row in batch]))
        asked = [(b, target) for b, row in enumerate(batch) for target in rows[row]]
        token = torch.tensor([target.token for _, target in asked]).to(backbone.device)
        # each state once: several texts may ask it for different tokens
        state, of_state = torch.tensor(
            [b * width + target.at - mode.shift for b, target in asked]
        ).unique(return_inverse=True)
        with reading(backbone):
            log_sv = backbone.log_probabilities(
                Shown(tokens_bt, attention).to(backbone.device),
                state.to(backbone.device),
                forbidden,
            )
        of_state = of_state.to(backbone.device)
        likeliest = (log_sv.argmax(-1)[of_state] == token).tolist()
        found = log_sv[of_state, token].double().tolist()
        for (_, target), value, best in zip(asked, found, likeliest, strict=True):
            nats[target.text] += value
            greedy[target.text] &= best
        done += len(batch)
        if progress is not None:
            progress(done, len(rows))
    return [LogLikelihood(*pair) for pair in zip(nats, greedy, strict=True)]


def _passes(
    rows: Mapping[_Row, Sequence[_Target]], most: int, vocabulary: int, *, mixed: bool
) -> Iterator[list[_Row]]:
    """Rows that are read together: of about one width, or (not mixed) of exactly one.

    most: tokens of a pass.
    """
    order = sorted(rows)
    begin = 0
    while begin < len(order):
        end, states = begin, 0
        while end < len(order):
            row = order[end]
            states += len(rows[row])
            full = (end + 1 - begin) * row.width > most
            full |= states * vocabulary > LOGITS_PER_PASS
            if end > begin and (full or not (mixed or row.width == order[begin].width)):
                break
            end += 1
        yield order[begin:end]
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
