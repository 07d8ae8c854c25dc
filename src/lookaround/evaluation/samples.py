"""Continuations of test documents: the manner of a model, not its quality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lookaround.decode import Stats, Writer
from lookaround.evaluation.registry import Details, Protocol, Scores, TextData
from lookaround.model.readable import Readable
from lookaround.settings import EvaluateSettings, GenerationConfig

PROMPT_TOKENS = 32


def spread(count: int, most: int) -> np.ndarray:
    """At most so many of the numbers below `count`, evenly spread, the first and the last among
    them.
    """
    return np.linspace(0, count - 1, min(most, count)).astype(int)


class SamplesDetails(Details):
    samples: list[dict[str, Any]]


class Samples(Protocol[TextData]):
    """Beginnings of test documents, spread over the split, continued by the model."""

    name, needs, writes, measures = "samples", TextData, True, False
    kept = SamplesDetails

    def accepts(self, data: object) -> bool:
        return isinstance(data, TextData) and not data.pictures

    def run(
        self, readable: Readable, data: TextData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        """The same prompts for every model; no figure."""
        split, codec = data.test.split, data.test.codec
        config = GenerationConfig(
            max_new_tokens=settings.sample_tokens, temperature=settings.temperature
        )
        mode = self.mode(readable, settings)
        writer = Writer(readable, config, seed=seed, mode=mode, drafts=False)
        samples = []
        for document in spread(len(split.length), settings.samples):
            prompt = split.read(document, 0, min(PROMPT_TOKENS, readable.context // 2)).tolist()
            new = [token for token, _ in writer.tokens(prompt, Stats())]
            samples.append({"prompt": codec.decode(prompt[1:]), "continuation": codec.decode(new)})
        return Scores("samples", None, details={"samples": samples})

    def entry(
        self, scores: Mapping[str, Scores], settings: EvaluateSettings, *, whole: bool = False
    ) -> dict[str, Any]:
        """{"samples": none where settings ask for none}."""
        if not scores:
            return {}
        return {"samples": scores[TextData.name].details["samples"] if settings.samples else []}
