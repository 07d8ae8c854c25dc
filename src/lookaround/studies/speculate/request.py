"""What a speculation is made of before anything is trained: the model, its heads, the text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookaround.decode.cache import require_rewindable
from lookaround.evaluation.own_text import own_text
from lookaround.model.backbone import Backbone
from lookaround.model.foreign import FAILURES
from lookaround.model.heads import LookAhead
from lookaround.model.lora import require_lora
from lookaround.model.readable import Readable, open_run
from lookaround.objectives import MTP
from lookaround.objectives.contract import Mode
from lookaround.settings import Settings
from lookaround.studies.events import Report, reading, silent
from lookaround.studies.speculate.reference import has_causal_class, why_not_float64
from lookaround.studies.speculate.samples import own_prompts, prompt_windows
from lookaround.support.errors import UserError
from lookaround.train.budget import parse_budget


@dataclass(frozen=True)
class Speculation:
    """What `speculate` works on: the model, its heads or the kind to train, and token sequences.

    train: documents to train on, from BOS;
    calibrate, measure: prompts of equal length, from documents that are not trained on.
    context: tokens of a row in the model's training; None of a model of others.
    own_precision: why texts are not compared in float64, but in the precision that is timed; ""
        where they are.
    notes: what was chosen to read the text.
    """

    settings: Settings
    source: str
    run: Readable
    kind: str | None
    train: list[np.ndarray]
    calibrate: list[list[int]]
    measure: list[list[int]]
    test: list[str]
    corpus: str
    context: int | None = None
    own_precision: str = ""
    notes: tuple[str, ...] = ()

    @cached_property
    def reference(self) -> str | None:
        """What transformers alone loads the source from; None where it has no causal class."""
        return self.source if has_causal_class(self.source) else None

    @property
    def batches(self) -> list[int]:
        """Numbers of sequences that are measured."""
        options = self.settings.speculate
        return options.batches[:1] if options.measure == "quick" else options.batches

    def asked(self, prompts: list[list[int]]) -> list[list[int]]:
        """The prompts that are measured with: all, or a quarter of them."""
        return prompts[::4] if self.settings.speculate.measure == "quick" else prompts

    @property
    def objective(self) -> MTP:
        """The heads' objective: tokens 2 to K + 1 ahead, weights 0.8^k (Cai et al. 2024, eq. 1)."""
        options = self.settings.speculate
        weights = (0.0, *(options.decay**k for k in range(1, options.depths + 1)))
        return MTP(n=options.depths + 1, heads=self.kind or "medusa", weights=weights, through=0.0)


def open_speculation(
    settings: Settings, model: Path, given: Any = None, *, report: Report = silent
) -> Speculation:
    """Reads the model and the text; raises UserError for a model or text that does not serve.

    given: what is read as the corpus in place of a name in the settings: a dataset, or texts.
    report: hears how much of the text is read.

    What could fail after hours of work is tried here: whether heads and adapters fit the model,
    whether transformers alone loads it, and in which precision texts can be compared.
    """
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
    trained = run.context if run.whole else None
    row = trained or min(run.context, 512)
    window = min(limit, max(row, options.prompt_tokens + options.new_tokens))
    if options.prompt_tokens + options.new_tokens > limit:
        raise UserError(
            f"speculate: {options.prompt_tokens} prompt and {options.new_tokens} new tokens are "
            f"more than the {limit} positions of {model}; set speculate.prompt_tokens or "
            "speculate.new_tokens lower"
        )
    run = dataclasses.replace(run, context=window, whole=True)
    run.backbone.eval()
    corpus = "samples of its own"
    request = Speculation(settings, str(model), run, kind, [], [], [], [], corpus, trained)
    if kind is not None:
        _require_heads(request)
    request = dataclasses.replace(request, own_precision=why_not_float64(run.backbone))
    text = own_text(run, settings.data, given, reading(report, settings.data))
    if text is None:
        if kind is not None and not options.samples:
            raise UserError(
                "speculate.samples: 0 leaves heads nothing to learn from; give --corpus TEXT"
            )
        held = own_prompts(settings, run)
        return dataclasses.replace(request, calibrate=held[0::2], measure=held[1::2])
    assert text.train is not None, "a part of the text is trained on"
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
    return dataclasses.replace(
        request,
        train=tokens["train"],
        calibrate=prompts["validation"],
        measure=prompts["test"],
        test=list(text.test),
        corpus=text.name,
        notes=(text.name, *text.notes) if text.notes else (),
    )


def _require_heads(request: Speculation) -> None:
    """Raises UserError where heads of the kind asked for cannot be made for the model."""
    backbone = request.run.backbone
    try:
        with torch.device("meta"):
            Backbone(backbone.lm, request.objective.head_specs(), own_rows=backbone.own_rows)
    except FAILURES as error:
        raise UserError(
            f"speculate.heads: {request.kind} heads do not fit model "
            f"'{backbone.lm.config.model_type}' ({str(error).splitlines()[0][:120]})"
        ) from None
