"""From prompts to texts, by the loop that fits how a model is read: one token per pass, masks, or
drafts.

    texts = generate(open_run(folder), ["The patient"], GenerationConfig(max_new_tokens=20), seed=1)
    texts[0].text, texts[0].tokens, texts[0].stats.passes
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

import torch

from lookaround.decode.cache import NotRewindable
from lookaround.decode.causal import causal_tokens, require_cache
from lookaround.decode.hub import read_description
from lookaround.decode.masked import fill, masked_tokens, quality, unseen
from lookaround.decode.sampling import COLDEST, filter_logits
from lookaround.decode.speculative import Speculator, set_precision
from lookaround.decode.stats import Stats
from lookaround.decode.verify import make_verifier
from lookaround.model.heads import LookAhead
from lookaround.model.readable import Readable
from lookaround.objectives.contract import Mode
from lookaround.settings import GenerationConfig
from lookaround.support.errors import UserError


@dataclass
class Generated:
    """A prompt and what continues it: as text, as tokens (without EOS), and what that took.

    cut: how many first tokens of the prompt the model's window had no room for.

    Raises UserError for a prompt that is not Unicode text.
    """

    prompt: str
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    stats: Stats = field(default_factory=Stats)
    cut: int = 0

    def __post_init__(self) -> None:
        try:
            self.prompt.encode()
        except UnicodeEncodeError:
            raise UserError(f"prompt {self.prompt!r}: not UTF-8") from None


def generate(
    readable: Readable,
    prompts: Sequence[str],
    config: GenerationConfig | None = None,
    *,
    seed: int = 0,
) -> list[Generated]:
    """Continues each of the prompts; a text depends on its own prompt and the seed alone.

    config: the defaults if none.

    Raises UserError for a mode that the model was not trained for, for a model that cannot be read
    token by token, for more context than it has, and for `chat` without a chat template.
    """
    writer = Writer(readable, config, seed=seed)
    texts = [Generated(prompt) for prompt in prompts]
    for text in texts:
        for _ in writer.write(text):
            pass
    return texts


class Writer:
    """`generate` piece by piece.

    A model with drafts is put into the precision that its trees were timed in. One whose cache
    cannot be rewound writes a token per pass, and a line in the log says so.

    mode: how the model is read, in place of `config.mode`.
    drafts: whether heads that look ahead may draft. Sampled text is another one with drafts, though
        of the same distribution.
    """

    def __init__(
        self,
        readable: Readable,
        config: GenerationConfig | None = None,
        *,
        seed: int = 0,
        mode: Mode | None = None,
        drafts: bool = True,
    ) -> None:
        self.config = config = config or GenerationConfig()
        self.readable = readable = readable.through(config.context, "generate.context")
        self.seed = seed
        if config.chat:
            readable.tokenizer.chat("")  # refuses a tokenizer without a template
        self.mode = mode or readable.mode_for_generation(config.mode)
        self.several = config.order != "left" or config.per_pass > 1  # masks at a time, or by order
        if self.several and self.mode.attention != "bidirectional":
            raise UserError(
                f"order and per_pass: are for masked models; this one is read as '{self.mode}'"
            )
        self.speculator: Speculator | None = None
        if self.mode.attention != "causal":
            return
        backbone = readable.backbone
        if drafts and any(isinstance(head, LookAhead) for head in backbone.heads):
            told = read_description(readable.folder, backbone.unembedding.weight.shape[0])
            try:
                self.speculator = Speculator(backbone, told.trees, shortlist=told.shortlist)
            except NotRewindable as error:
                logging.getLogger(__name__).warning("%s; so one token per pass", error)
            else:
                backbone.eval()
                set_precision(backbone, told.precision)
        if self.speculator is None:
            require_cache(backbone.lm)

    @property
    def description(self) -> str:
        if self.several:
            return f"{self.config.per_pass} tokens per pass, order {self.config.order}"
        if self.speculator is None:
            return "one token per pass"
        return f"up to {self.speculator.depths + 1} tokens per pass"

    def write(self, made: Generated) -> Iterator[tuple[str, bool]]:
        """Continues `made.prompt`, and yields (piece of text, whether its last token was an
        accepted draft) until EOS, a stop string or the length.
        """
        tokenizer, ids = self.readable.tokenizer, self.ids(made.prompt)
        made.cut = self._cut(len(ids))
        before, shown = tokenizer.decode(ids), 0
        for token, drafted in self.tokens(ids, made.stats):
            made.tokens.append(token)
            # alone, the first token may lose its space
            whole = tokenizer.decode([*ids, *made.tokens])
            alone = not whole.startswith(before)
            made.text = tokenizer.decode(made.tokens) if alone else whole[len(before) :]
            ends = [at + len(s) for s in self.config.stop if (at := made.text.find(s)) >= 0]
            if ends:
                made.text = made.text[: min(ends)]
            if ends or not made.text.endswith("�"):  # else a character is still under way
                yield made.text[shown:], drafted
                shown = len(made.text)
            if ends:
                return

    def ids(self, prompt: str) -> list[int]:
        """The ids of a prompt from the text's first token on."""
        tokenizer = self.readable.tokenizer
        if self.config.chat:
            return tokenizer.chat(prompt)
        return [tokenizer.bos, *tokenizer.encode([prompt])[0]]

    def _cut(self, length: int) -> int:
        """How many first tokens of a prompt of so many are never read."""
        if self.mode.attention == "causal":
            return max(length - self.readable.context, 0)
        return unseen(self.readable, length, self.config)

    def tokens(self, prompt: Sequence[int], stats: Stats) -> Iterator[tuple[int, bool]]:
        """(token, whether it was an accepted draft) after a prompt, until EOS (left out) or the
        length.

        prompt: ids from the text's first token on, BOS included.
        stats: empty ones, which are kept up to date.
        """
        config, seed = self.config, self.seed
        if self.mode.attention != "causal":
            plain = masked_tokens(self.readable, prompt, self.mode, config, seed=seed, stats=stats)
        elif self.speculator is not None and (
            # else the oldest tokens make way, which drafts have no rule for
            len(prompt) + config.max_new_tokens <= min(self.speculator.limit, self.readable.context)
        ):
            yield from self._drafted(self.speculator, prompt, stats)
            return
        else:
            plain = causal_tokens(self.readable, prompt, config, seed=seed, stats=stats)
        for token in plain:
            yield token, False

    def _drafted(
        self, speculator: Speculator, prompt: Sequence[int], stats: Stats
    ) -> Iterator[tuple[int, bool]]:
        device = self.readable.backbone.device
        config, generator = self.config, torch.Generator(device).manual_seed(self.seed)
        cold = config.temperature < COLDEST
        # the likeliest token is the verifier's business, which then sees the model's own logits
        filters = GenerationConfig(temperature=1.0) if cold else config
        never = self.readable.unwritten.to(device)
        steps = speculator.steps(
            [list(prompt)],
            max_new_tokens=config.max_new_tokens,
            stats=stats,
            eos=self.readable.eos,
            verifier=make_verifier(config.accept, None if cold else generator),
            generator=generator,
            process=partial(filter_logits, config=filters, forbidden=never),
            temperature=filters.temperature,
        )
        for step in chain.from_iterable(steps):
            for place, token in enumerate(step.tokens):
                if token not in self.readable.eos:
                    yield token, place < step.drafts

    def cost(self, made: Generated) -> tuple[float, float]:
        """Bits per token of a text of a bidirectional model, and of one made a token per pass.

        Both as the model itself reads them from left to right. The difference is the price of
        several tokens per pass: those of one pass are drawn independently (decode/masked.py).
        """
        ids, room = self.ids(made.prompt), self.config.max_new_tokens
        one = self.config.model_copy(update={"order": "left", "per_pass": 1})
        slow = fill(self.readable, [ids], self.mode, one, seeds=[self.seed])[0]
        fast, plain = (
            quality(self.readable, ids, tokens, self.mode, room=room)
            for tokens in (made.tokens, slow.tokens)
        )
        return fast, plain
