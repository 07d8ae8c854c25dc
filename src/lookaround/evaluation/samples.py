"""Continuations of test documents: the manner of a model, not its quality."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lookaround.decode.sampling import continue_tokens
from lookaround.evaluation.registry import Protocol, Scores, TextData
from lookaround.model.readable import Readable
from lookaround.settings import EvaluateSettings

PROMPT_TOKENS = 32


class Samples(Protocol[TextData]):
    """Beginnings of test documents, spread over the split, continued by the model."""

    name, needs, writes = "samples", TextData, True

    def run(
        self, readable: Readable, data: TextData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        """The same prompts for every model; no figure."""
        split, codec, context = data.test.split, data.test.codec, readable.context
        mode, documents = self.mode(readable, settings), len(split.length)
        samples = []
        for document in np.linspace(0, documents - 1, min(settings.samples, documents)).astype(int):
            prompt = split.read(document, 0, min(PROMPT_TOKENS, context // 2))[1:].tolist()
            ids = continue_tokens(
                readable.backbone,
                codec,
                prompt,
                mode,
                context=context,
                max_new_tokens=settings.sample_tokens,
                temperature=settings.temperature,
                seed=seed,
            )
            continuation = codec.decode(list(ids))
            samples.append({"prompt": codec.decode(prompt), "continuation": continuation})
        return Scores("samples", None, details={"samples": samples})

    def entry(
        self, scores: Mapping[str, Scores], settings: EvaluateSettings, *, whole: bool = False
    ) -> dict[str, Any]:
        """{"samples": none where settings ask for none}."""
        if not scores:
            return {}
        return {"samples": scores[TextData.name].details["samples"] if settings.samples else []}

    def lines(self, name: str, scores: Scores, mode: str) -> list[str]:
        return []
