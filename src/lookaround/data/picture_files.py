"""Reads pictures: folders of files, arrays, datasets, and the digits of scikit-learn.

N pictures, H x W pixels.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import struct
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookaround.data import files
from lookaround.data.files import Reading
from lookaround.data.locate import is_saved
from lookaround.data.pictures import UNKNOWN, Pictures, make_pictures
from lookaround.data.table_files import load_named, load_saved
from lookaround.support.errors import UserError
from lookaround.support.machine import require_memory
from lookaround.support.text import listed, one_line

DIGITS = "digits"  # the name of those that scikit-learn has, where no file is called so
EMBEDDED = "sklearn:digits"  # the same, whatever is there
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
FAINT = 64  # a highest grey level below which a note is due
READABLE = (
    "a folder with a folder of .png or .jpg files for each class (in train/ and test/, if it has "
    "parts), IMAGES.npy beside LABELS.npy, or a datasets name"
)
_PART_NAMES = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("valid", "validation", "val", "dev"), 1),
    **dict.fromkeys(("test", "testing", "t10k"), 2),
}
_DECODED = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # by content, whatever the name
ORIENTATION = 0x0112  # of EXIF, how a camera was held
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as Pillow has it
# what decoders raise for damaged pictures
BROKEN = (OSError, ValueError, SyntaxError, EOFError, MemoryError, struct.error, IndexError)
_IMAGES = re.compile(r"images?|pixels", re.IGNORECASE)
_LABEL_COLUMNS = ("label", "labels", "class", "target", "fine_label", "digit")


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
    if isinstance(source, list) and len(source) == 1:
        source = source[0]
    if isinstance(source, str | Path):
        return _of_name(source, label_column, heard)
    if isinstance(source, tuple | np.ndarray):
        _require_no_column(label_column)
        if isinstance(source, tuple) and len(source) != 2:
            raise UserError(f"images: {len(source)} arrays; give two, (images, labels)")
        images, labels = source if isinstance(source, tuple) else (source, None)
        pixels, notes = _grey(np.asarray(images), "images")
        _require_as_many(pixels, labels, "images", "labels")
        about = {"source": "arrays", "format": "arrays", "files": 0}
        return make_pictures("pictures", pixels, labels, _no_parts(pixels), about, notes=notes)
    if hasattr(source, "with_format") or (
        isinstance(source, Mapping) and all(hasattr(one, "with_format") for one in source.values())
    ):
        return _of_datasets(source, "pictures", label_column)
    raise UserError(
        f"pictures of type {type(source).__name__} cannot be read; give {READABLE}, or arrays "
        "(images, labels)"
    )


def _of_name(source: str | Path, column: str | None, heard: Callable[[int], None]) -> Pictures:
    if source == EMBEDDED or (source == DIGITS and not Path(DIGITS).exists()):
        _require_no_column(column)
        return _digits()
    if not str(source).strip():
        raise UserError(f"no pictures given (an empty name); give {READABLE}")
    path = Path(os.path.expanduser(source))
    if not files.is_there(path):
        return _of_hub(str(source), column)
    if path.is_dir() and is_saved(path):
        return _of_datasets(load_saved(path), path.resolve().name, column)
    _require_no_column(column)
    if path.is_file():
        if not _is_array(path):
            raise UserError(f"{path}: no pictures; give {READABLE}")
        return _of_arrays([path], _stem(path), heard)
    inner = list(files.find_files(path))
    if not inner:
        raise UserError(f"{path}: an empty folder; give {READABLE}")
    pictures = [file for file in inner if file.suffix.lower() in ENDINGS]
    if pictures:
        return _of_files(path, pictures, len(inner) - len(pictures), heard)
    arrays = [file for file in inner if _is_array(file) and _IMAGES.search(_stem(file))]
    if arrays:
        return _of_arrays(arrays, path.resolve().name, heard)
    endings = Counter(file.suffix.lower() or file.name for file in inner)
    told = ", ".join(f"{count} {one_line(e, 20)}" for e, count in endings.most_common(4))
    raise UserError(f"{path}: a folder without pictures (it has {told}); give {READABLE}")


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
    tops = dict.fromkeys(place[0] for place in places if place)
    named = {_PART_NAMES[top.lower()] for top in tops if top.lower() in _PART_NAMES}
    parted = all(place and place[0].lower() in _PART_NAMES for place in places)
    if not parted and {0, 2} <= named:
        other = next((top for top in tops if top.lower() not in _PART_NAMES), folder.name)
        raise UserError(
            f"{folder}: has training and test pictures, and '{other}' beside them, which is of "
            "neither; move it elsewhere"
        )
    part = np.array(
        [_PART_NAMES[place[0].lower()] if parted else UNKNOWN for place in places], dtype=np.int8
    )
    classes = [place[parted : parted + 1] for place in places]
    labelled = all(classes)
    if not labelled and any(classes):
        lone = paths[next(k for k, each in enumerate(classes) if not each)]
        raise UserError(
            f"{lone}: stands in no folder of a class, and other pictures of {folder} do; give each "
            "a class, or none"
        )
    colour: Counter[str] = Counter()
    first = _opened(paths[0], None, colour)
    require_memory(
        1.5 * len(paths) * first.size,
        torch.device("cpu"),
        f"{folder}: {len(paths):,} pictures of {first.shape[0]} x {first.shape[1]} pixels",
        "give fewer, or smaller ones",
    )
    pixels = np.empty((len(paths), *first.shape), dtype=np.uint8)
    colour.clear()
    for number, path in enumerate(paths):
        pixels[number] = _opened(path, (paths[0], first.shape), colour)
        heard(path.stat().st_size)
    notes = []
    if colour["colour"]:
        notes.append(f"{colour['colour']:,} pictures in colour are read as grey levels")
    if others:
        notes.append(f"{others:,} files that are no pictures by their names left out")
    about = {"source": folder.resolve().name, "format": "picture files", "files": len(paths)}
    labels = [each[0] for each in classes] if labelled else None
    return make_pictures(folder.resolve().name, pixels, labels, part, about, notes=notes)


def _opened(path: Path, like: tuple[Path, tuple[int, ...]] | None, colour: Counter) -> np.ndarray:
    """The picture (H, W) uint8 of a file; raises UserError for a damaged one or another size.

    like: another file and its size; None: any size.
    colour: counts those that were not grey.
    """
    from PIL import Image, ImageOps

    def sized(image: Any) -> None:
        if like is not None and (size := (image.height, image.width)) != like[1]:
            raise UserError(
                f"{path}: {size[0]} x {size[1]} pixels, {like[0].name} has {like[1][0]} x "
                f"{like[1][1]}; give pictures of one size"
            )

    with (
        _decoding(f"{path}:"),
        Image.open(files.require_content(path), formats=_DECODED) as opened,
    ):
        if not opened.getexif().get(ORIENTATION):
            sized(opened)  # before it is decoded
        image = ImageOps.exif_transpose(opened)
        sized(image)
        return _grey_image(image, colour)


@contextmanager
def _decoding(what: str) -> Iterator[None]:
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
        reason = one_line(str(error).replace(what.rstrip(":"), "it") or type(error).__name__)
        raise UserError(
            f"{what} no whole picture ({reason}); write it again, or leave it out"
        ) from None


def _grey_image(image: Any, colour: Counter) -> np.ndarray:
    """A picture of Pillow as (H, W) uint8; transparent parts stand on white.

    Raises ValueError for grey levels that are no numbers of 8 or 16 bits.
    """
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
            raise ValueError("its grey levels have no 8 or 16 bits; save it with so many")
        deep = image.mode != "I" or values.max() > 255
        return np.rint(values / (257 if deep else 1)).astype(np.uint8)
    if image.mode not in ("1", "L"):
        wide = image.convert("RGBA")
        bands = np.asarray(wide)[..., :3]
        colour["colour"] += bool((bands != bands[..., :1]).any())
        image = Image.alpha_composite(Image.new("RGBA", wide.size, "white"), wide)
    return np.asarray(image.convert("L"), dtype=np.uint8)


# ------------------------------------------------------------------------------------------ arrays


def _is_array(path: Path) -> bool:
    return files.without_compression(path.name).lower().endswith(".npy")


def _stem(path: Path) -> str:
    return files.without_compression(path.name)[: -len(".npy")]


def _of_arrays(paths: Sequence[Path], name: str, heard: Callable[[int], None]) -> Pictures:
    """Arrays of pictures, each with the labels beside it; their names say which part they are."""
    found: list[np.ndarray] = []
    labels: list[np.ndarray | None] = []
    parts: list[int] = []
    notes: list[str] = []
    for path in paths:
        pixels, told = _grey(_load(path, heard), str(path))
        notes += [note for note in told if note not in notes]
        beside = _labels_beside(path)
        each = None if beside is None else _load(beside, heard)
        _require_as_many(pixels, each, str(path), str(beside))
        if found and pixels.shape[1:] != found[0].shape[1:]:
            height, width = found[0].shape[1:]
            raise UserError(
                f"{path}: pictures of {pixels.shape[1]} x {pixels.shape[2]} pixels, "
                f"{paths[0].name} has {height} x {width}; give pictures of one size"
            )
        found.append(pixels)
        labels.append(each)
        parts.append(_part_of(_stem(path).lower()))
    part = np.repeat(np.array(parts, dtype=np.int8), [len(pixels) for pixels in found])
    whole = all(each is not None for each in labels)
    if not whole and any(each is not None for each in labels):
        lone = paths[next(k for k, each in enumerate(labels) if each is None)]
        raise UserError(f"{lone}: no labels beside it ({_labels_name(lone)}); give all or none")
    about = {"source": name, "format": "arrays", "files": len(paths)}
    if not whole:
        notes.append("no labels beside the pictures, so there are no classes to tell apart")
    joined = np.concatenate([np.asarray(each) for each in labels]) if whole else None  # type: ignore[misc]
    return make_pictures(name, np.concatenate(found), joined, part, about, notes=notes)


def _part_of(stem: str) -> int:
    """The part that a name speaks of: t10k_images, x-test, train10k_images; else UNKNOWN."""
    whole = re.split(r"[-_.\s]", stem)
    words = [*whole, *(re.sub(r"[0-9]+k?$", "", word) for word in whole)]
    return next((_PART_NAMES[word] for word in words if word in _PART_NAMES), UNKNOWN)


def _labels_name(path: Path) -> str:
    return _IMAGES.sub(lambda found: "LABELS" if found.group().isupper() else "labels", _stem(path))


def _labels_beside(path: Path) -> Path | None:
    """The file of labels of a file of pictures: its name with "labels" for "images"."""
    stem = _labels_name(path)
    if stem == _stem(path):
        stem = f"{stem}_labels"
    for ending in (".npy", *(f".npy{end}" for end in files.COMPRESSIONS)):
        if (beside := path.with_name(stem + ending)).is_file():
            return beside
    return None


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
    raise UserError(f"{path}: no array ({reason}); write it again with numpy.save")


def _grey(array: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """(pictures (N, H, W) uint8 of an array, notes on how it was read); raises UserError."""
    notes = []
    shape = " x ".join(map(str, array.shape)) or "one number"
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    coloured = array.ndim == 4 and array.shape[3] in (3, 4)
    if not (array.ndim == 3 or coloured) or 0 in array.shape:
        raise UserError(
            f"{name}: an array of {shape}; pictures are N x height x width (or with 1 or 3 "
            "channels behind)"
        )
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 255:
            raise UserError(f"{name}: grey levels must be finite, from 0 to 1 or 0 to 255")
        array = array * 255 if array.max() <= 1 else array
    elif array.dtype.kind not in "ui" or array.min() < 0 or array.max() > 255:
        raise UserError(f"{name}: grey levels must be numbers from 0 to 255, found {array.dtype}")
    if array.max() < FAINT:
        notes.append(
            f"grey levels end at {array.max():g} of 255; scale them where they are not meant to be "
            "so dark"
        )
    if coloured:
        if array.shape[3] == 4:  # transparent parts stand on white, as of files
            share = array[..., 3:] / 255
            array = array[..., :3] * share + 255 * (1 - share)
        array = array @ _LUMA
        notes.append("pictures in colour are read as grey levels")
    return np.rint(array).astype(np.uint8), notes


def _require_as_many(pixels: np.ndarray, labels: Any, images_name: str, labels_name: str) -> None:
    """Raises UserError where labels are no column with one for each picture."""
    if labels is None:
        return
    labels = np.asarray(labels)
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


# ---------------------------------------------------------------------------------------- datasets


def _of_hub(name: str, column: str | None) -> Pictures:
    repository = name.partition(":")[0]
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*|[\w-]+", repository) or (
        "/" in name and Path(name).parent.is_dir()
    ):
        raise UserError(f"{one_line(name)}: no such file or folder; give {READABLE}")
    data = load_named(name, f"give {READABLE}")
    return _of_datasets(data, name.split("/")[-1], column)


def _of_datasets(data: Any, name: str, column: str | None) -> Pictures:
    """A dataset with a column of images, or its splits."""
    import datasets

    splits = dict(data) if isinstance(data, Mapping) else {"": data}
    known = {split: _PART_NAMES.get(split.lower(), UNKNOWN) for split in splits}
    if len(splits) > 1:
        splits = {split: one for split, one in splits.items() if known[split] != UNKNOWN} or splits
    features = next(iter(splits.values())).features or {}
    image = next((key for key, kind in features.items() if isinstance(kind, datasets.Image)), None)
    if image is None:
        raise UserError(
            f"{name}: no column of images; it has {listed(list(features))}. Cast one to "
            "datasets.Image"
        )
    if column is not None and column not in features:
        raise UserError(
            f"data.label_column: {name} has no column {one_line(column, 60)!r}; it has "
            f"{listed(list(features))}"
        )
    label = column or next(
        (key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)),
        next((key for key in _LABEL_COLUMNS if key in features), None),
    )
    found: list[np.ndarray] = []
    labels: list[Any] = []
    parts: list[int] = []
    colour: Counter[str] = Counter()
    for split, rows in splits.items():
        for number, row in enumerate(_decoded(rows, image, label, f"{name} {split}".strip())):
            picture = _grey_image(row[image], colour)
            if found and picture.shape != found[0].shape:
                raise UserError(
                    f"{name}: row {number} of {split or 'it'} has {picture.shape[0]} x "
                    f"{picture.shape[1]} pixels, the first {found[0].shape[0]} x "
                    f"{found[0].shape[1]}; give pictures of one size"
                )
            found.append(picture)
            parts.append(known[split])
            if label is not None:
                labels.append(row[label])
    if not found:
        raise UserError(f"{name}: no pictures in it")
    if label is not None and not all(isinstance(each, int | str) for each in labels):
        raise UserError(f"{name}: column {label!r} has labels that are no whole numbers or names")
    kind = features.get(label) if label else None
    classes = kind.names if isinstance(kind, datasets.ClassLabel) else None
    notes = []
    if colour["colour"]:
        notes.append(f"{colour['colour']:,} pictures in colour are read as grey levels")
    about = {"source": name, "format": "datasets", "files": len(splits)}
    return make_pictures(
        name,
        np.stack(found),
        labels if label is not None else None,
        np.array(parts, dtype=np.int8),
        about,
        classes=classes,
        notes=notes,
    )


def _decoded(rows: Iterable[Any], image: str, label: str | None, name: str) -> Iterator[Any]:
    """Rows with their pictures; raises UserError for one that is missing or cannot be read."""
    found = iter(rows)
    for number in itertools.count():
        with _decoding(f"{name}: row {number} has"):
            row = next(found, None)
            if row is None:
                return
            if row[image] is not None:
                row[image].load()
        if row[image] is None or (label is not None and row[label] in (None, -1)):
            raise UserError(f"{name}: row {number} lacks its picture or its label; leave it out")
        yield row
