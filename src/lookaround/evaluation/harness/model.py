"""lm-eval's model class for runs, exports and other folders that `lookaround evaluate` reads."""

from __future__ import annotations

from typing import Any, get_args

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from lookaround.decode import Generated, Writer
from lookaround.evaluation.likelihood import LogLikelihood, log_likelihoods, word_numbers
from lookaround.model.readable import classification_mode, open_run
from lookaround.settings import GenerationConfig
from lookaround.settings.sections import Reading
from lookaround.support.errors import UserError

SCORES = ("chain", "pseudo")
REQUESTS_PER_STEP = 256


class Lookaround(TemplateLM):
    """A model of any objective, read as it was trained; every text begins with BOS.

    pretrained: a run, one of its checkpoints, or a model's folder or name on the hub.
    score: "chain" for the left-to-right chain rule, which all objectives share, or "pseudo" for
        pseudo-likelihoods of bidirectional modes with EOS behind the text. The softmax is over all
        rows of the model.
    mode: an attention kind that it was trained with; None: as for generation, and with "pseudo" as
        for classification.
    context: tokens that it is read through, at most; None: the training length of a run.
    device: of the model; None, and CUDA where there is none: the one at hand.
    batch_size, max_batch_size: are not used, since passes are filled up to a number of tokens.

    Raises UserError for another score, and a mode that the model was not trained for.
    """

    def __init__(
        self,
        pretrained: str,
        score: str = "chain",
        mode: str | None = None,
        context: int | None = None,
        device: str | None = None,
        batch_size: Any = None,
        max_batch_size: Any = None,
    ) -> None:
        super().__init__()
        if score not in SCORES:
            raise UserError(f"score: {score!r} is unknown; known are {', '.join(SCORES)}")
        if mode is not None and mode not in get_args(Reading):
            raise UserError(f"mode: {mode!r} is unknown; known are {', '.join(get_args(Reading))}")
        self.readable = open_run(pretrained).through(context, "context")
        # lm-eval's command asks for CUDA on any machine
        if device is not None and (torch.cuda.is_available() or not device.startswith("cuda")):
            self.readable.backbone.to(device)
        self.pseudo = score == "pseudo"
        self.asked = mode
        if self.pseudo and mode is None:
            self.mode = classification_mode(self.readable.final_modes)
        else:
            self.mode = self.readable.mode_for_generation(mode)
        self.tokenizer = self.readable.tokenizer.hf
        eos = self.readable.tokenizer.eos
        self.after = [eos] if self.pseudo and eos is not None else []

    @property
    def eot_token_id(self) -> int:
        return self.prefix_token_id if self.readable.tokenizer.eos is None else self.readable.eos[0]

    @property
    def prefix_token_id(self) -> int:
        return self.readable.tokenizer.bos

    @property
    def tokenizer_name(self) -> str:
        return self.readable.tokenizer.fingerprint

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Ids of a text without special tokens."""
        return self.readable.tokenizer.encode([string])[0]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        before, after = super()._encode_pair(context, continuation)
        return [self.prefix_token_id, *before], after

    def _words(self, text: str) -> list[int]:
        """The number of the word of BOS and each token of a text."""
        return [-1, *word_numbers(self.readable.tokenizer, text)]

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        **kwargs: Any,
    ) -> list[tuple[float, bool]]:
        found: list[tuple[float, bool]] = []
        for begin in tqdm(range(0, len(requests), REQUESTS_PER_STEP), disable=disable_tqdm):
            texts, contexts, continuations = zip(
                *requests[begin : begin + REQUESTS_PER_STEP], strict=True
            )
            words = [self._words("".join(text)) for text in texts] if self.pseudo else None
            scores = self._score(contexts, continuations, words)
            found += [(one.nats, one.greedy) for one in scores]
        for (text, _, _), scored in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", text, scored)
        return found

    def _score(self, contexts: Any, continuations: Any, words: Any) -> list[LogLikelihood]:
        return log_likelihoods(
            self.readable, self.mode, contexts, continuations, words=words, after=self.after
        )

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """The log-likelihood of whole texts, cut into windows as lm-eval does.

        With pseudo-likelihoods each window is read as a text of its own.
        """
        # the last token of a causal window is not read
        room = self.readable.context - (self.mode.attention != "causal") - len(self.after)
        totals = []
        for request in tqdm(requests, disable=disable_tqdm):
            (text,) = request.args
            ids, words = self.tok_encode(text), self._words(text) if self.pseudo else []
            contexts, continuations, numbers = [], [], []
            end = 1
            for window in get_rolling_token_windows(ids, self.prefix_token_id, room, 1):
                context, continuation = make_disjoint_window(window)
                end += len(continuation)
                contexts.append(context)
                continuations.append(continuation)
                numbers.append(words[end - len(context) - len(continuation) : end])
            scored = self._score(contexts, continuations, numbers if self.pseudo else None)
            totals.append(sum(one.nats for one in scored))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), totals[-1])
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continuations by `decode.Writer`, up to EOS, a stop string (left out) or the length.

        Raises UserError for what else a task asks of generation.
        """
        texts = []
        for request in tqdm(requests, disable=disable_tqdm):
            prompt, asked = request.args
            told: dict[str, Any] = {**normalize_gen_kwargs(asked)}
            stop = [text for text in told.pop("until", None) or [] if text]
            sampled = told.pop("do_sample")
            settings = {
                "max_new_tokens": told.pop("max_gen_toks"),
                "temperature": told.pop("temperature") if sampled else 0.0,
            }
            told.pop("temperature", None)
            settings |= {key: told.pop(key) for key in ("top_k", "top_p") if key in told}
            if told:
                raise UserError(
                    f"generation_kwargs: {', '.join(sorted(told))}: unknown; known are until, "
                    "max_gen_toks, do_sample, temperature, top_k, top_p"
                )
            config = GenerationConfig(**settings, stop=stop, mode=self.asked)
            made = Generated(prompt)
            for _ in Writer(self.readable, config).write(made):
                pass
            texts.append(postprocess_generated_text(made.text, stop, None))
            self.cache_hook.add_partial("generate_until", (prompt, asked), texts[-1])
        return texts
