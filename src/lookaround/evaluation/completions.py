"""Test pictures that a model completes from their upper halves: its manner, not its quality."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from lookaround.data.patches import PatchCodec
from lookaround.decode import Stats, Writer
from lookaround.evaluation.registry import Details, Protocol, Scores, TextData
from lookaround.evaluation.samples import spread
from lookaround.model.readable import Readable
from lookaround.settings import EvaluateSettings, GenerationConfig


def as_png(picture: np.ndarray) -> str:
    """A picture (H, W) uint8 as the address of a PNG in a page."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


class CompletionDetails(Details):
    pictures: list[dict[str, str]]


class Completions(Protocol[TextData]):
    """Upper halves of test pictures, spread over the split, completed by the model."""

    name, needs, writes, measures = "completions", TextData, True, False
    kept = CompletionDetails

    def accepts(self, data: object) -> bool:
        return isinstance(data, TextData) and data.pictures

    def run(
        self, readable: Readable, data: TextData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        """The same pictures for every model; no figure."""
        split, codec = data.test.split, data.test.codec
        assert isinstance(codec, PatchCodec)
        rows, columns = codec.grid
        given = 1 + (rows // 2) * columns
        config = GenerationConfig(
            max_new_tokens=codec.length - given, temperature=settings.temperature
        )
        mode = self.mode(readable, settings)
        writer = Writer(readable, config, seed=seed, mode=mode, drafts=False)
        pictures = []
        for number in spread(len(split.length), settings.samples):
            whole = split.read(number, 0, codec.length).tolist()
            new = [token for token, _ in writer.tokens(whole[:given], Stats())]
            made = codec.decode([*whole[1:given], *new])
            pictures.append(
                {
                    "original": as_png(codec.decode(whole[1:])),
                    "given": as_png(codec.decode(whole[1:given])),
                    "completed": as_png(made),
                }
            )
        return Scores("completions", None, details={"pictures": pictures})

    def entry(
        self, scores: Mapping[str, Scores], settings: EvaluateSettings, *, whole: bool = False
    ) -> dict[str, Any]:
        """{"pictures": none where settings ask for none}."""
        if not scores:
            return {}
        return {"pictures": scores[TextData.name].details["pictures"] if settings.samples else []}
