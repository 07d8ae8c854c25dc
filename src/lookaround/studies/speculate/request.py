"""What a speculation is made of before anything is trained: the model, its heads, the text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lookaround.decode.cache import require_rewindable
from lookaround.evaluation.own_text import own_text
from lookaround.model.heads import LookAhead
from lookaround.model.lora import require_lora
from lookaround.model.readable import Readable, open_run
from lookaround.objectives import MTP
from lookaround.objectives.contract import Mode
from lookaround.settings import Settings
from lookaround.studies.speculate.samples import own_prompts, prompt_windows
from lookaround.support.errors import UserError
from lookaround.train.budget import parse_budget


@dataclass(frozen=True)
class Speculation:
    """What `speculate` works on: the model, its heads or the kind to train, and token sequences.

    train: documents to train on, from BOS;
    calibrate, measure: prompts of equal length, from documents that are not trained on.
    """

    settings: Settings
    source: Path
    run: Readable
    kind: str | None
    train: list[np.ndarray]
    calibrate: list[list[int]]
    measure: list[list[int]]
    test: list[str]
    corpus: str

    @property
    def objective(self) -> MTP:
        """The heads' objective: tokens 2 to K + 1 ahead, weights 0.8^k (Cai et al. 2024, eq. 1)."""
        options = self.settings.speculate
        weights = (0.0, *(options.decay**k for k in range(1, options.depths + 1)))
        return MTP(n=options.depths + 1, heads=self.kind or "medusa", weights=weights, through=0.0)


def open_speculation(settings: Settings, model: Path) -> Speculation:
    """Reads the model and the text; raises UserError for a model or text that does not serve."""
    options = settings.speculate
    if parse_budget(options.budget).unit == "seconds":
        raise UserError(
            f"speculate.budget {options.budget}: give tokens or FLOPs; seconds would not be the "
            "same when resumed"
        )
    if options.lora and not options.joint:
        raise UserError("speculate.lora: adapters are trained in joint training; add --joint")
    run = open_run(model)
    if options.lora:
        require_lora(run.backbone.lm)
    if run.modes[-1].attention != "causal" and not any(
        mode == Mode("causal", 1) for mode in run.modes
    ):
        raise UserError(
            f"{model}: is read both ways ({run.modes[-1]}); several tokens per pass need a causal "
            "model"
        )
    require_rewindable(run.backbone.lm)
    own = [head for head in run.backbone.heads if isinstance(head, LookAhead)]
    kind = options.heads if options.heads is not None or own else "hydra"
    limit = run.backbone.limit
    # heads learn on rows of a run's training length, or of at most 512 tokens
    row = run.context if run.whole else min(run.context, 512)
    window = min(limit, max(row, options.prompt_tokens + options.new_tokens))
    if options.prompt_tokens + options.new_tokens > limit:
        raise UserError(
            f"speculate: {options.prompt_tokens} prompt and {options.new_tokens} new tokens are "
            f"more than the {limit} positions of {model}; set speculate.prompt_tokens or "
            "speculate.new_tokens lower"
        )
    run = dataclasses.replace(run, context=window, whole=True)
    text = own_text(run, settings.data)
    run.backbone.eval()
    if text is None:
        if kind is not None and not options.samples:
            raise UserError(
                "speculate.samples: 0 leaves heads nothing to learn from; give --corpus TEXT"
            )
        held = own_prompts(settings, run)
        return Speculation(
            settings, model, run, kind, [], held[0::2], held[1::2], [], "samples of its own"
        )
    parts = {"train": text.train, "validation": text.validation, "test": text.test}
    tokens = {name: list(run.tokenizer.documents(documents)) for name, documents in parts.items()}
    prompts = {
        name: prompt_windows(tokens[name], options.prompt_tokens, options.prompts)
        for name in tokens
    }
    for name, windows in prompts.items():
        if not windows:
            raise UserError(
                f"{text.name}: no {name} document has {options.prompt_tokens} tokens to prompt "
                "with; set speculate.prompt_tokens lower"
            )
    return Speculation(
        settings,
        model,
        run,
        kind,
        tokens["train"],
        prompts["validation"],
        prompts["test"],
        text.test,
        text.name,
    )
