"""Reads the pictures of `datasets`."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lookaround.data.grey import decoding, grey_image, notes_of
from lookaround.data.pictures import PART_NAMES, UNKNOWN, Pictures, make_pictures
from lookaround.support.errors import UserError
from lookaround.support.text import listed, one_line

_LABEL_COLUMNS = ("label", "labels", "class", "target", "category", "fine_label", "digit")
_IMAGE_COLUMNS = ("image", "img", "picture")  # the first to be read where there are several


def of_datasets(data: Any, name: str, column: str | None) -> Pictures:
    """A dataset with a column of images, or its splits.

    column: of labels; None: it is looked for.

    Raises UserError where there are no pictures, a split lacks a column, or a picture is damaged.
    """
    splits = dict(data) if isinstance(data, Mapping) else {"": data}
    known = {split: PART_NAMES.get(split.lower(), UNKNOWN) for split in splits}
    notes = []
    if len(splits) > 1 and any(part != UNKNOWN for part in known.values()):
        other = [split for split in splits if known[split] == UNKNOWN]
        if other:
            notes.append(f"split{'s' * (len(other) > 1)} {listed(other)} left out")
        splits = {split: one for split, one in splits.items() if split not in other}
    if not splits:
        raise UserError(f"{name}: no pictures in it")
    image, label = _columns(splits, name, column, notes)
    found: list[np.ndarray] = []
    labels: list[Any] = []
    parts: list[int] = []
    # by their names, since another split may count them otherwise
    known_names = [_names(rows, label) for rows in splits.values()]
    if any(known_names) and not all(known_names):
        raise UserError(
            f"{name}: column {label!r} holds names of classes (ClassLabel) in some splits, and no "
            "names in others; give all of them one type"
        )
    together = dict.fromkeys(itertools.chain.from_iterable(known_names))
    classes = {own: number for number, own in enumerate(together)}
    seen: Counter[str] = Counter()
    lacking = 0
    for split, rows in splits.items():
        what = f"{name} {split}".strip()
        names = _names(rows, label)
        hidden = len(splits) > 1 and _hidden(rows, label)
        for number, row in enumerate(_decoded(rows, image, what)):
            own: Any = row[label] if label else None
            if row[image] is None or (label and own is None) or (own == -1 and (names or hidden)):
                lacking += 1
                continue
            if names and not 0 <= own < len(names):
                raise UserError(
                    f"{what}: row {number} has the class {own} in column {label!r}, which names "
                    f"{len(names)}; give one from 0 to {len(names) - 1}"
                )
            with decoding(f"{what}: row {number} has"):
                seen["frames"] += getattr(row[image], "n_frames", 1) > 1
                picture = grey_image(row[image], seen)
            if found and picture.shape != found[0].shape:
                raise UserError(
                    f"{what}: row {number} has {picture.shape[0]} x {picture.shape[1]} pixels, the "
                    f"first picture {found[0].shape[0]} x {found[0].shape[1]}; give pictures of "
                    "one size"
                )
            found.append(picture)
            parts.append(known[split])
            labels.append(classes[names[int(own)]] if names else own)
    if not found:
        lacks = f" ({lacking:,} rows lack a picture or a label)" if lacking else ""
        raise UserError(f"{name}: no pictures in it{lacks}")
    if lacking:
        notes.append(f"rows without a picture or a label left out: {lacking:,}")
    kinds = {type(each) for each in labels}
    if label and (len(kinds) > 1 or not kinds <= {int, str, bool}):
        raise UserError(
            f"{name}: column {label!r} must have a whole number or a name in every row, found "
            f"{listed(sorted(kind.__name__ for kind in kinds))}"
        )
    about = {"source": name, "format": "datasets", "files": len(splits)}
    return make_pictures(
        name,
        np.stack(found),
        labels if label else None,
        np.array(parts, dtype=np.int8),
        about,
        classes=[*classes] or None,
        notes=[*notes, *notes_of(seen)],
    )


def _names(rows: Any, label: str | None) -> list[str]:
    """The names of classes of a column; none where its values are the labels themselves."""
    return getattr(rows.features[label], "names", []) if label else []


def _hidden(rows: Any, label: str | None) -> bool:
    """Whether all labels are -1, as those of tests are that are kept to one's own."""
    plain = rows.with_format(None)
    return bool(label) and hasattr(plain, "select") and all(each == -1 for each in plain[label])


def _columns(
    splits: Mapping[str, Any], name: str, asked: str | None, notes: list[str]
) -> tuple[str, str | None]:
    """(column of images, column of labels) of all splits; raises UserError where one lacks it.

    notes: which were not read is added to them.
    """
    import datasets

    features = next(iter(splits.values())).features or {}
    images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    image = next((key for key in _IMAGE_COLUMNS if key in images), *images[:1] or [None])
    if image is None:
        raise UserError(
            f"{name}: no column of images; it has {listed(list(features))}. Cast one to "
            "datasets.Image"
        )
    if asked is not None and asked not in features:
        raise UserError(
            f"data.label_column: {name} has no column {one_line(asked, 60)!r}; it has "
            f"{listed(list(features))}"
        )
    label = asked or next(
        (key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)),
        next((key for key in features if key.lower() in _LABEL_COLUMNS), None),
    )
    if len(images) > 1:
        rest = [key for key in images if key != image]
        notes.append(f"column {image!r} is read, further images are not ({listed(rest)})")
    if label is None:
        rest = [key for key in features if key not in images]
        notes.append(
            "no column of labels, so there are no classes to tell apart"
            + (f" (data.label_column may name one of {listed(rest)})" if rest else "")
        )
    for split, rows in splits.items():
        own = rows.features or {}
        if not isinstance(own.get(image), datasets.Image) or (label and label not in own):
            lacks = f"images {image!r}" if label in own or not label else f"labels {label!r}"
            raise UserError(
                f"{name}: its split {split!r} has no column of {lacks}, which others have; it has "
                f"{listed(list(own))}"
            )
    return image, label


def _decoded(rows: Any, image: str, what: str) -> Iterator[Any]:
    """Rows with their pictures; raises UserError for one that cannot be read.

    What the dataset turns rows into, as with_format and set_transform ask for, is not asked for.
    """
    import datasets

    plain = rows.with_format(None)
    if not plain.features[image].decode:
        mode = plain.features[image].mode
        plain = plain.cast_column(image, datasets.Image(mode=mode))
    found = iter(plain)
    for number in itertools.count():
        with decoding(f"{what}: row {number} has"):
            row = next(found, None)
            if row is None:
                return
            if row[image] is not None:
                row[image].load()
        yield row
