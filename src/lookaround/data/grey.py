"""Decodes pictures, of whatever kind, as grey levels of 8 bits.

N pictures, H x W pixels.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lookaround.support.errors import UserError
from lookaround.support.text import counted, one_line

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as Pillow has it
# what decoders raise for damaged pictures
BROKEN = (OSError, ValueError, SyntaxError, EOFError, MemoryError, struct.error, IndexError)
_NOTES = {
    "colour": "{} in colour read as grey levels",
    "frames": "further frames of {} left out",
}


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Raises UserError for a picture that is damaged, or may be a decompression bomb.

    what: begins the message.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(
            f"{what} so many pixels that it may be a decompression bomb ({one_line(error)}); give "
            "smaller pictures"
        ) from None
    except BROKEN as error:
        told = str(error).replace(what.rstrip(":"), "it") or type(error).__name__
        reason = one_line(re.sub(r"<_io[^>]*>", "it", told))
        raise UserError(
            f"{what} no whole picture ({reason}); write it again, or leave it out"
        ) from None


def grey_image(image: Any, seen: Counter[str], kind: str | None = None) -> np.ndarray:
    """A picture of Pillow as (H, W) uint8; transparent parts stand on white.

    seen: counts what `notes_of` tells.
    kind: the format it was read from; None: that which the picture itself tells. Whole numbers of
        32 bits, which TIFF has, are of 8 bits where none is above 255, else of 16.

    Raises ValueError for grey levels that are no whole numbers of 8 or 16 bits.
    """
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
            raise ValueError(
                "its grey levels are no whole numbers of 8 or 16 bits; save it with such"
            )
        if image.mode == "I" and (kind or image.format) not in ("PNG", "PPM"):
            deep = values.max() > 255
            seen["deep" if deep else "flat"] += 1
            return (np.rint(values / 257) if deep else values).astype(np.uint8)
        return np.rint(values / 257).astype(np.uint8)
    if image.mode not in ("1", "L"):
        wide = image.convert("RGBA")
        bands = np.asarray(wide)[..., :3]
        seen["colour"] += bool((bands != bands[..., :1]).any())
        image = Image.alpha_composite(Image.new("RGBA", wide.size, "white"), wide)
    return np.asarray(image.convert("L"), dtype=np.uint8)


def notes_of(seen: Counter[str]) -> list[str]:
    """A sentence for all that was counted while pictures were decoded."""
    found = ((text, seen[what]) for what, text in _NOTES.items())
    notes = [text.format(counted(number, "picture")) for text, number in found if number]
    if seen["deep"] and seen["flat"]:
        notes.append(
            f"of {counted(seen['deep'] + seen['flat'], 'picture')} with levels of 32 bits "
            f"{seen['flat']:,} have none above 255 and are read as of 8 bits, the others as of 16; "
            "save them with 8 or 16"
        )
    return notes


def grey_array(array: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """(pictures (N, H, W) uint8 of an array, notes on how it was read).

    Raises UserError for what is no array of pictures, or holds no grey levels.
    """
    notes = []
    shape = " x ".join(map(str, array.shape)) or "one number"
    first = array.ndim == 4 and array.shape[1] in (1, 3, 4) and array.shape[3] not in (1, 3, 4)
    if first:  # N x channels x height x width, as torch has them
        array = array.transpose(0, 2, 3, 1)
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    coloured = array.ndim == 4 and array.shape[3] in (3, 4)
    if not (array.ndim == 3 or coloured) or 0 in array.shape:
        raise UserError(
            f"{name}: an array of {shape}; pictures are N x height x width, or with 1, 3 or 4 "
            "channels behind or before (numpy.reshape)"
        )
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 255:
            raise UserError(f"{name}: grey levels must be finite, from 0 to 1 or 0 to 255")
        if 1 < array.max() < 2 and (array % 1).any():
            raise UserError(
                f"{name}: grey levels end at {array.max():.7g}; clip them to 1, or give them "
                "from 0 to 255"
            )
        array = array * 255 if array.max() <= 1 else array
    elif array.dtype.kind not in "ui":
        raise UserError(f"{name}: grey levels must be numbers from 0 to 255, found {array.dtype}")
    elif array.min() < 0 or array.max() > 255:
        raise UserError(
            f"{name}: grey levels must be from 0 to 255, found {array.min()} to {array.max()}"
        )
    if coloured:
        if array.shape[3] == 4:  # transparent parts stand on white, as of files
            share = array[..., 3:] / 255
            array = array[..., :3] * share + 255 * (1 - share)
        array = array @ _LUMA
        notes.append("pictures in colour read as grey levels")
    return np.rint(array).astype(np.uint8), notes
