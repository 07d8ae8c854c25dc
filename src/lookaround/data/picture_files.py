"""Reads pictures: folders of files, arrays, datasets, and the digits of scikit-learn.

N pictures, H x W pixels.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookaround.data import files
from lookaround.data.grey import BROKEN, decoding, grey_image, notes_of
from lookaround.data.locate import is_dataset
from lookaround.data.picture_arrays import is_array, of_arrays, of_memory, of_pictures
from lookaround.data.picture_datasets import of_datasets
from lookaround.data.picture_places import read_places
from lookaround.data.pictures import UNKNOWN, Pictures, make_pictures
from lookaround.data.table_files import load_named, load_saved
from lookaround.support.errors import UserError
from lookaround.support.machine import require_memory
from lookaround.support.text import one_line

DIGITS = "digits"  # the name of those that scikit-learn has, where no file is called so
EMBEDDED = "sklearn:digits"  # the same, whatever is there
JPEG = (".jpg", ".jpeg", ".jfif")
ENDINGS = (*JPEG, ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
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
        IMAGES.npy (N, H, W) beside LABELS.npy, or a folder of such; a folder of `datasets`, saved
        or of .parquet files; the name of a dataset of the hub; a `Dataset` or `DatasetDict`; arrays
        (images, labels).
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
    inner = list(files.find_files(path)) if path.is_dir() else []
    pictures = [file for file in inner if file.suffix.lower() in ENDINGS]
    if path.is_dir() and is_dataset(path):
        return of_datasets(load_saved(path), path.resolve().name, column)
    if not pictures and any(file.suffix.lower() == ".parquet" for file in inner):
        return of_datasets(load_named(str(path), f"give {READABLE}"), path.resolve().name, column)
    _require_no_column(column)
    if path.is_file():
        if not is_array(path):
            raise UserError(f"{path}: no pictures; give {READABLE}")
        return of_arrays([path], path, heard)
    if not path.is_dir():
        raise UserError(f"{path}: neither a file nor a folder; give {READABLE}")
    if not inner:
        raise UserError(f"{path}: an empty folder; give {READABLE}")
    arrays = of_pictures(inner)
    if pictures and arrays:
        raise UserError(
            f"{path}: holds arrays of pictures ({arrays[0].name}) beside files of them "
            f"({pictures[0].name}); give a folder of one kind, or the array itself"
        )
    if pictures:
        return _of_files(path, pictures, [*{*inner} - {*pictures}], heard)
    if arrays:
        return of_arrays(arrays, path, heard)
    raise UserError(
        f"{path}: a folder without pictures (it has {_endings(inner)}); give {READABLE}"
    )


def _endings(paths: Iterable[Path]) -> str:
    """How many files have which endings: 7 .txt, 2 .csv."""
    endings = Counter(path.suffix.lower() or path.name for path in paths)
    most = sorted(endings.items(), key=lambda item: (-item[1], item[0]))[:4]
    more = f" and {len(endings) - 4} other endings" if len(endings) > 4 else ""
    return ", ".join(f"{count:,} {one_line(ending, 20)}" for ending, count in most) + more


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
    folder: Path, paths: Sequence[Path], others: Sequence[Path], heard: Callable[[int], None]
) -> Pictures:
    """A file for each picture; its class is the folder that it stands in."""
    parts, labels, notes = read_places(folder, paths)
    first = _opened(paths[0], None, Counter(), lambda _: None)
    require_memory(
        1.5 * len(paths) * first.size,
        torch.device("cpu"),
        f"{folder}: {len(paths):,} pictures of {first.shape[0]} x {first.shape[1]} pixels",
        "give fewer, or smaller ones",
    )
    pixels = np.empty((len(paths), *first.shape), dtype=np.uint8)
    seen: Counter[str] = Counter()
    for number, path in enumerate(paths):
        pixels[number] = _opened(path, (paths[0], first.shape), seen, heard)
    notes += notes_of(seen)
    if others:
        notes.append(f"files that are no pictures by their names left out: {_endings(others)}")
    about = {"source": folder.resolve().name, "format": "picture files", "files": len(paths)}
    part = np.array(parts, dtype=np.int8)
    return make_pictures(folder.resolve().name, pixels, labels, part, about, notes=notes)


def _is_turned(image: Any) -> bool:
    """Whether the camera says that it was held otherwise; not where what it says is damaged."""
    try:
        return bool(image.getexif().get(ORIENTATION))
    except BROKEN:
        return False


def _opened(
    path: Path,
    like: tuple[Path, tuple[int, ...]] | None,
    seen: Counter[str],
    heard: Callable[[int], None],
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
        heard(path.stat().st_size)
        turned = _is_turned(opened)
        if not turned:
            sized(opened)  # before it is decoded
        seen["frames"] += getattr(opened, "n_frames", 1) > 1
        image = ImageOps.exif_transpose(opened) if turned else opened
        sized(image)
        return grey_image(image, seen, opened.format)
