"""Reads pictures that stand in arrays, in memory or in IMAGES.npy beside LABELS.npy."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lookaround.data import files
from lookaround.data.files import Reading
from lookaround.data.grey import grey_array
from lookaround.data.pictures import UNKNOWN, Pictures, make_pictures, part_of
from lookaround.support.errors import UserError
from lookaround.support.text import one_line

_IMAGES = re.compile(r"images?|pixels", re.IGNORECASE)
# of x_train.npy beside y_train.npy, not of digits_8x8.npy
_INPUTS = re.compile(r"(?<![a-z0-9])x(?![a-z0-9])", re.IGNORECASE)


def is_array(path: Path) -> bool:
    """Whether a file is called as an array of numpy is."""
    return files.without_compression(path.name).lower().endswith(".npy")


def of_pictures(paths: Iterable[Path]) -> list[Path]:
    """The arrays among files that are called images or pixels; where there are none, x."""
    arrays = [path for path in paths if is_array(path)]
    named = ([path for path in arrays if word.search(stem(path))] for word in (_IMAGES, _INPUTS))
    return next(filter(None, named), [])


def stem(path: Path) -> str:
    """The name of a file without .npy and what it is compressed with."""
    return files.without_compression(path.name)[: -len(".npy")]


def of_memory(images: Any, labels: Any) -> Pictures:
    """Pictures of arrays, or of what numpy makes arrays of.

    labels: (N,); None: there are none. Raises UserError for what are no pictures.
    """
    pixels, notes = grey_array(_array(images, "images"), "images")
    named = None if labels is None else _array(labels, "labels")
    named = _labels_of(named, pixels, "images", "labels")
    about = {"source": "arrays", "format": "arrays", "files": 0}
    part = np.full(len(pixels), UNKNOWN, dtype=np.int8)
    return make_pictures("pictures", pixels, named, part, about, notes=notes)


def _array(values: Any, name: str) -> np.ndarray:
    """What numpy makes of values; raises UserError where they have no one shape."""
    if isinstance(values, list | tuple):
        values = [_detached(each) for each in values]
    try:
        return np.asarray(_detached(values))
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{name}: no array can be made of them ({one_line(error)}); give pictures of one size, "
            "and one label for each"
        ) from None


def _detached(values: Any) -> Any:
    """A tensor as numpy reads it, without gradient and on the CPU; anything else as it is."""
    return values.detach().cpu() if hasattr(values, "detach") else values


def of_arrays(paths: Sequence[Path], source: Path, heard: Callable[[int], None]) -> Pictures:
    """Arrays of pictures, each with the labels beside it.

    source: the array or the folder that was given. Names of arrays say which part they are of, and
        where they do not, those of the folders within `source`.
    """
    name = stem(source) if source.is_file() else source.resolve().name
    found: list[np.ndarray] = []
    labels: list[np.ndarray | None] = []
    parts: list[int] = []
    notes: list[str] = []
    for path in paths:
        pixels, told = grey_array(_load(path, heard), str(path))
        notes += [note for note in told if note not in notes]
        beside = _labels_beside(path)
        each = None if beside is None else _load(beside, heard)
        each = _labels_of(each, pixels, str(path), str(beside))
        if found and pixels.shape[1:] != found[0].shape[1:]:
            height, width = found[0].shape[1:]
            raise UserError(
                f"{path}: pictures of {pixels.shape[1]} x {pixels.shape[2]} pixels, "
                f"{paths[0].name} has {height} x {width}; give pictures of one size"
            )
        found.append(pixels)
        labels.append(each)
        within = path.relative_to(source).parts[:-1] if source.is_dir() else ()
        named = (part_of(each) for each in (stem(path), *reversed(within)))
        parts.append(next((part for part in named if part != UNKNOWN), UNKNOWN))
    part = np.repeat(np.array(parts, dtype=np.int8), [len(pixels) for pixels in found])
    whole = all(each is not None for each in labels)
    if not whole:
        lone = paths[next(k for k, each in enumerate(labels) if each is None)]
        if any(each is not None for each in labels):
            raise UserError(
                f"{lone}: no labels beside it ({_labels_name(lone)}.npy); give all or none"
            )
        notes.append(
            f"no labels beside the pictures ({_labels_name(lone)}.npy), so there are no classes to "
            "tell apart"
        )
    about = {"source": name, "format": "arrays", "files": len(paths)}
    joined = _joined([each for each in labels if each is not None], paths) if whole else None
    return make_pictures(name, np.concatenate(found), joined, part, about, notes=notes)


def _joined(labels: Sequence[np.ndarray], paths: Sequence[Path]) -> np.ndarray:
    """The labels of several arrays; raises UserError where some are numbers and some names."""
    numbers = {each.dtype.kind in "uib" for each in labels}
    if len(numbers) > 1:
        raise UserError(
            f"{paths[0].parent}: some labels are whole numbers and some names; give one kind"
        )
    alike = len({each.dtype.kind for each in labels}) == 1
    # of int64 and uint64 numpy would make floats
    return np.concatenate(labels if alike else [each.astype(object) for each in labels])


def _labels_name(path: Path) -> str:
    """How the file of labels of a file of pictures is called, without its ending."""
    own = stem(path)
    if _IMAGES.search(own):
        return _IMAGES.sub(lambda found: "LABELS" if found[0].isupper() else "labels", own)
    if _INPUTS.search(own):
        return _INPUTS.sub(lambda found: "Y" if found[0].isupper() else "y", own)
    return f"{own}_labels"


def _labels_beside(path: Path) -> Path | None:
    """The file of labels of a file of pictures, in whatever case its name is."""
    name = _labels_name(path).lower()
    wanted = [f"{name}.npy", *(f"{name}.npy{ending}" for ending in files.COMPRESSIONS)]
    beside = [
        other
        for other in sorted(path.parent.iterdir())
        if other.name.lower() in wanted and other.is_file()
    ]
    return min(beside, key=lambda other: wanted.index(other.name.lower()), default=None)


def _load(path: Path, heard: Callable[[int], None]) -> np.ndarray:
    """The array of a file; raises UserError for a damaged one, and for one of objects."""
    data = files.read_bytes(path, Reading(heard=heard))
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        reason = "an archive of several"
    except Exception as error:  # numpy raises many kinds for a damaged header
        reason = one_line(error)
        if "Object arrays" in reason:
            raise UserError(
                f"{path}: an array of objects, which is not opened; save numbers, or names as "
                "array.astype(str)"
            ) from None
    raise UserError(f"{path}: no array ({reason}); write it again with numpy.save")


def _labels_of(
    labels: np.ndarray | None, pixels: np.ndarray, images_name: str, labels_name: str
) -> np.ndarray | None:
    """Labels (N,), of a column (N, 1) too; raises UserError where there is not one for each
    picture, or they are neither whole numbers nor names.
    """
    if labels is None:
        return None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype == object and all(isinstance(each, str) for each in labels.flat):
        labels = labels.astype(str)  # as pandas has names
    if labels.ndim != 1 or labels.dtype.kind not in "uibUS":
        raise UserError(
            f"{labels_name}: labels must be one whole number or name for each picture, found "
            f"{labels.dtype} {labels.shape}"
        )
    if len(labels) != len(pixels):
        raise UserError(
            f"{labels_name}: {len(labels):,} labels, {images_name} has {len(pixels):,} pictures; "
            "give one for each"
        )
    return labels
