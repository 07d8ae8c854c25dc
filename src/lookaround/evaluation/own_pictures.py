"""The pictures that belong to a run: what it was trained on, split as it was for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lookaround.data.patches import PatchCodec
from lookaround.data.pictures import Pictures
from lookaround.data.rows import Rows
from lookaround.data.shards import Split
from lookaround.data.source import corpus_of
from lookaround.evaluation.own_text import trained_with
from lookaround.evaluation.registry import TextData
from lookaround.model.readable import RUN_FILE, Readable
from lookaround.settings import DataSettings
from lookaround.support.errors import UserError


def own_pictures(
    readable: Readable,
    codec: PatchCodec,
    data: DataSettings,
    given: Any = None,
    heard: Callable[[int], None] = lambda _: None,
) -> tuple[Pictures, DataSettings]:
    """The pictures of these settings, else the run's own, and the settings that split them.

    given: what is read in place of a name in the settings.
    heard: called with the bytes that were read, again and again.

    Raises UserError where there are neither, for pictures of another size than the model's, for
    other codes, and where the run's own have changed since it was trained.
    """
    if data.corpus is not None or data.tasks:
        raise UserError(
            f"{readable.folder}: is a model of pictures, and this is of texts; give --images FOLDER"
        )
    for name, own_value in (("patch", codec.patch), ("vocabulary", len(codec.codebook))):
        if getattr(data, name) not in (None, own_value):
            raise UserError(
                f"data.{name}: is {getattr(data, name)}, the codes of {readable.folder} have "
                f"{own_value}; leave it out"
            )
    own, trained_on = trained_with(readable)
    used = data if given is not None or data.images is not None or own is None else own
    if given is None and used.images is None:
        raise UserError(f"{readable.folder}: no pictures to evaluate on; give --images FOLDER")
    pictures = corpus_of(used, given, heard=heard)
    assert isinstance(pictures, Pictures)
    if used is own and trained_on not in (None, pictures.fingerprint):
        raise UserError(
            f"{used.images}: has changed since this model was trained ({RUN_FILE}), so its test "
            "part may have been trained on; give --images FOLDER to evaluate on others"
        )
    if own is not None and trained_on == pictures.fingerprint:
        used = own
    _, height, width = pictures.pixels.shape
    if (height, width) != (codec.height, codec.width):
        raise UserError(
            f"{pictures.name}: pictures of {height} x {width} pixels, the model reads "
            f"{codec.height} x {codec.width}; give pictures of its size"
        )
    return pictures, used


def picture_data(
    codec: PatchCodec, pictures: Pictures, parts: Mapping[str, np.ndarray]
) -> TextData:
    """What a model is evaluated on as pictures, held in memory."""
    splits = {name: _split(codec, pictures.pixels[part]) for name, part in parts.items()}
    test, validation = (Rows(splits[name], codec.length, codec) for name in ("test", "validation"))
    train = splits["train"]
    counts = np.bincount(np.concatenate(train.files), minlength=codec.size)
    return TextData(test, validation, counts, train)


def _split(codec: PatchCodec, pixels: np.ndarray) -> Split:
    """Pictures (N, H, W) as a split of tokens."""
    tokens, number = codec.tokens(pixels), np.arange(len(pixels))
    length = np.full(len(pixels), codec.length)
    size = np.full(len(pixels), pixels[0].size)
    return Split((tokens.ravel(),), np.zeros_like(number), number * codec.length, length, size)
