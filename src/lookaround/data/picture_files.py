"""Reads pictures: folders of files, arrays, datasets, and the digits of scikit-learn.

N pictures, H x W pixels.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookaround.data import files
from lookaround.data.grey import decoding, grey_image, notes_of
from lookaround.data.locate import is_dataset
from lookaround.data.picture_arrays import is_array, of_arrays, of_memory, of_pictures, stem
from lookaround.data.picture_datasets import of_datasets
from lookaround.data.pictures import PART_NAMES, UNKNOWN, Pictures, make_pictures
from lookaround.data.table_files import load_named, load_saved
from lookaround.support.errors import UserError
from lookaround.support.machine import require_memory
from lookaround.support.text import one_line

DIGITS = "digits"  # the name of those that scikit-learn has, where no file is called so
EMBEDDED = "sklearn:digits"  # the same, whatever is there
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
READABLE = (
    "a folder with a folder of .png or .jpg files for each class (in train/ and test/, if it has "
    "parts), IMAGES.npy beside LABELS.npy, or a datasets name"
)
_DECODED = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # by content, whatever the name
ORIENTATION = 0x0112  # of EXIF, how a camera was held


def read_pictures(
    source: Any, *, label_column: str | None = None, heard: Callable[[int], None] = lambda _: None
) -> Pictures:
    """Reads the pictures of a source, with a class for each where it has them.

    source: `DIGITS`; a folder of files, FOLDER/CLASS/.. or FOLDER/{train,test}/CLASS/..; an array
        IMAGES.npy (N, H, W) beside LABELS.npy, or a folder of such; a folder of `datasets`, or the
        name of a dataset of the hub; a `Dataset` or `DatasetDict`; arrays (images, labels).
    label_column: of a dataset.
    heard: called with the bytes that were read, again and again.

    Raises UserError for everything that cannot be read, and for pictures of different sizes.
    """
    if isinstance(source, list) and len(source) == 1 and not _is_picture(source[0]):
        source = source[0]
    if isinstance(source, list | tuple) and any(isinstance(one, str | Path) for one in source):
        raise UserError(f"images: {len(source)} names, must be one; give {READABLE}")
    if isinstance(source, str | Path):
        return _of_name(source, label_column, heard)
    if hasattr(source, "with_format") or (
        isinstance(source, Mapping) and all(hasattr(one, "with_format") for one in source.values())
    ):
        return of_datasets(source, "pictures", label_column)
    _require_no_column(label_column)
    if isinstance(source, tuple):
        if len(source) != 2:
            raise UserError(f"images: {len(source)} arrays; give two, (images, labels)")
        return of_memory(*source)
    if isinstance(source, list) or hasattr(source, "__array__"):
        return of_memory(source, None)
    raise UserError(
        f"pictures of type {type(source).__name__} cannot be read; give {READABLE}, or arrays "
        "(images, labels)"
    )


def _is_picture(given: Any) -> bool:
    """Whether an object is one picture: an image of Pillow, or an array of two dimensions."""
    return hasattr(given, "getexif") or getattr(given, "ndim", None) == 2


def _of_name(source: str | Path, column: str | None, heard: Callable[[int], None]) -> Pictures:
    if source == EMBEDDED or (source == DIGITS and not Path(DIGITS).exists()):
        _require_no_column(column)
        return _digits()
    if not str(source).strip():
        raise UserError(f"no pictures given (an empty name); give {READABLE}")
    path = Path(os.path.expanduser(source))
    if not files.is_there(path):
        return _of_hub(str(source), column)
    if path.is_dir() and is_dataset(path):
        return of_datasets(load_saved(path), path.resolve().name, column)
    _require_no_column(column)
    if path.is_file():
        if not is_array(path):
            raise UserError(f"{path}: no pictures; give {READABLE}")
        return of_arrays([path], stem(path), heard)
    inner = list(files.find_files(path))
    if not inner:
        raise UserError(f"{path}: an empty folder; give {READABLE}")
    pictures = [file for file in inner if file.suffix.lower() in ENDINGS]
    if pictures:
        return _of_files(path, pictures, len(inner) - len(pictures), heard)
    arrays = of_pictures(inner)
    if arrays:
        return of_arrays(arrays, path.resolve().name, heard)
    endings = Counter(file.suffix.lower() or file.name for file in inner)
    told = ", ".join(f"{count} {one_line(e, 20)}" for e, count in endings.most_common(4))
    raise UserError(f"{path}: a folder without pictures (it has {told}); give {READABLE}")


def _of_hub(name: str, column: str | None) -> Pictures:
    """A dataset of the hub; raises UserError for a name that can be none."""
    repository = name.partition(":")[0]
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*|[\w-]+", repository) or (
        "/" in name and Path(name).parent.is_dir()
    ):
        raise UserError(f"{one_line(name)}: no such file or folder; give {READABLE}")
    data = load_named(name, f"give {READABLE}")
    return of_datasets(data, name.split("/")[-1], column)


def _require_no_column(column: str | None) -> None:
    """Raises UserError for a column of labels of what has no columns."""
    if column is not None:
        raise UserError(
            "data.label_column: is of a dataset; classes of other pictures are their folders, or "
            "LABELS.npy; leave it out"
        )


def _digits() -> Pictures:
    """The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)
    about = {"source": "scikit-learn", "format": "digits", "files": 1}
    return make_pictures(DIGITS, pixels, data.target, _no_parts(pixels), about)


def _no_parts(pixels: np.ndarray) -> np.ndarray:
    return np.full(len(pixels), UNKNOWN, dtype=np.int8)


# ------------------------------------------------------------------------------------------- files


def _of_files(
    folder: Path, paths: Sequence[Path], others: int, heard: Callable[[int], None]
) -> Pictures:
    """A file for each picture; its class is the folder that it stands in."""
    places = [path.relative_to(folder).parts[:-1] for path in paths]
    notes = []
    inner = _common(places)
    if inner:
        places = [place[len(inner) :] for place in places]
        notes.append(f"the pictures of its folder {'/'.join(inner)} are read, as if it were given")
    parted = _parted(places, folder)
    if not parted and all(place[1:] and place[1].lower() in PART_NAMES for place in places):
        places, parted = [(place[1], place[0]) for place in places], True  # CLASS/{train,test}
    part = np.array(
        [PART_NAMES[place[0].lower()] if parted else UNKNOWN for place in places], dtype=np.int8
    )
    classes = [place[parted : parted + 1] for place in places]
    labelled = all(classes)
    if not labelled and any(classes):
        lone = paths[next(k for k, each in enumerate(classes) if not each)]
        raise UserError(
            f"{lone}: stands in no folder of a class, and other pictures of {folder} do; give each "
            "a class, or none"
        )
    first = _opened(paths[0], None, Counter())
    require_memory(
        1.5 * len(paths) * first.size,
        torch.device("cpu"),
        f"{folder}: {len(paths):,} pictures of {first.shape[0]} x {first.shape[1]} pixels",
        "give fewer, or smaller ones",
    )
    pixels = np.empty((len(paths), *first.shape), dtype=np.uint8)
    seen: Counter[str] = Counter()
    for number, path in enumerate(paths):
        pixels[number] = _opened(path, (paths[0], first.shape), seen)
        heard(path.stat().st_size)
    notes += notes_of(seen)
    if others:
        notes.append(f"files that are no pictures by their names left out: {others:,}")
    about = {"source": folder.resolve().name, "format": "picture files", "files": len(paths)}
    labels = [each[0] for each in classes] if labelled else None
    return make_pictures(folder.resolve().name, pixels, labels, part, about, notes=notes)


def _common(places: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders that all classes, or parts, stand in: what unpacking an archive often makes."""
    common: tuple[str, ...] = ()
    while all(len(place) > len(common) + 1 for place in places):
        inner = {place[len(common)] for place in places}
        if len(inner) > 1 or {name.lower() for name in inner} & PART_NAMES.keys():
            break
        common += (*inner,)
    return common


def _parted(places: Sequence[tuple[str, ...]], folder: Path) -> bool:
    """Whether pictures stand in folders of parts; raises UserError where others stand beside."""
    tops = dict.fromkeys(place[0] if place else "" for place in places)
    parts = [top for top in tops if top.lower() in PART_NAMES]
    if len(parts) == len(tops):
        return True
    several = {0} < {PART_NAMES[top.lower()] for top in parts}
    # a folder "train" of pictures alone may be one of the class "train"
    deep = any(top in parts for top, *inner in filter(None, places) if inner)
    if several or deep:
        other = next(top for top in tops if top not in parts)
        beside = repr(one_line(other, 40)) if other else "pictures"
        raise UserError(
            f"{folder}: has a folder {one_line(parts[0], 40)!r} of a part, and {beside} beside it, "
            "of none; move that elsewhere"
        )
    return False


def _opened(
    path: Path, like: tuple[Path, tuple[int, ...]] | None, seen: Counter[str]
) -> np.ndarray:
    """The picture (H, W) uint8 of a file; raises UserError for a damaged one or another size.

    like: another file and its size; None: any size.
    seen: counts what `notes_of` tells.
    """
    from PIL import Image, ImageOps

    def sized(image: Any) -> None:
        if like is not None and (size := (image.height, image.width)) != like[1]:
            raise UserError(
                f"{path}: {size[0]} x {size[1]} pixels, {like[0]} has {like[1][0]} x "
                f"{like[1][1]}; give pictures of one size"
            )

    with (
        decoding(f"{path}:"),
        Image.open(files.require_content(path), formats=_DECODED) as opened,
    ):
        if not opened.getexif().get(ORIENTATION):
            sized(opened)  # before it is decoded
        seen["frames"] += getattr(opened, "n_frames", 1) > 1
        image = ImageOps.exif_transpose(opened)
        sized(image)
        return grey_image(image, seen, opened.format)
