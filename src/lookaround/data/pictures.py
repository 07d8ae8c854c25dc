"""Pictures to pretrain on, in place of a text, and their split.

N pictures, H x W pixels.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lookaround.data.labelled import Task, task_name
from lookaround.support.errors import UserError
from lookaround.support.text import counted, listed, printable

PARTS = ("train", "validation", "test")
PART_NAMES = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("valid", "validation", "val", "dev"), 1),
    **dict.fromkeys(("test", "testing", "t10k"), 2),
}
WORDS = re.compile(r"images?|pixels|labels?", re.IGNORECASE)  # that names of parts may be joined to
UNKNOWN = -1  # the part of a picture that its source says nothing of
FAINT = 64  # a highest grey level below which a note is due


def part_of(name: str) -> int:
    """The part that a name speaks of, an index into PARTS; else UNKNOWN.

    test, training_set, trainingSet, x-test, t10k_images, train10k and testimages speak of one.
    """
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", WORDS.sub(" ", name)).lower()
    whole = re.split(r"[-_.\s]+", apart)
    words = [*whole, *(re.sub(r"[0-9]+k?$", "", word) for word in whole)]
    return next((PART_NAMES[word] for word in words if word in PART_NAMES), UNKNOWN)


@dataclass(frozen=True)
class Pictures:
    """Grey pictures of one size, in a fixed order; what a `Corpus` is of text.

    pixels: (N, H, W) uint8.
    labels: (N,) int64, indices into `classes`; None: the pictures have none.
    part: (N,) int8, indices into PARTS where the source says to which a picture belongs, else
        UNKNOWN.
    description, fingerprint, notes: as of a `Corpus`.
    """

    name: str
    pixels: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    part: np.ndarray
    description: dict[str, Any]
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def told(self) -> tuple[str, ...]:
        """What a reader should know: what there is, and what was chosen to read it."""
        count, height, width = self.pixels.shape
        classes = counted(len(self.classes), "class") if self.classes else "no classes"
        if self.classes:
            classes += f", {listed(self.classes, 6)}"
        what = f"{counted(count, 'picture')} of {height} x {width} pixels, {classes}"
        return (f"{self.name}: {what} ({self.description['format']})", *self.notes)

    def split(
        self, *, seed: int = 0, validation: float = 0.1, test: float = 0.25
    ) -> dict[str, np.ndarray]:
        """The indices, in rising order, of the pictures of each of PARTS.

        Parts that the source names stay as they are; what it does not name is drawn from the rest,
        ordered by a hash of seed and pixels, and counts as training else.

        Raises UserError for shares that are not above 0 or leave nothing for training, and where a
        part would be empty.
        """
        known = {name: np.flatnonzero(self.part == k) for k, name in enumerate(PARTS)}
        rest = np.flatnonzero((self.part == UNKNOWN) | (self.part == PARTS.index("train")))
        order = sorted(rest.tolist(), key=lambda i: _digest(self.pixels[i], seed))
        drawn: dict[str, np.ndarray] = {}
        asked = {"test": test, "validation": validation}
        missing = {name: share for name, share in asked.items() if not len(known[name])}
        if not all(share > 0 for share in missing.values()) or sum(missing.values()) >= 1:
            raise UserError(
                f"validation={validation} and test={test} cannot be split off; both must be above "
                "0 and together below 1"
            )
        for name in asked:
            if name not in missing:
                drawn[name] = known[name]
                continue
            count = max(1, round(missing[name] * len(rest)))
            drawn[name] = np.sort(np.array(order[:count], dtype=np.int64))
            order = order[count:]
        parts = {"train": np.sort(np.array(order, dtype=np.int64)), **drawn}
        if not all(len(part) for part in parts.values()):
            sizes = ", ".join(f"{len(part)} {name}" for name, part in parts.items())
            if not len(rest):
                raise UserError(f"{self.name}: has no training pictures ({sizes}); give some")
            equal = self.description["duplicates"]
            left = f", and {equal:,} more were equal to others" if equal else ""
            raise UserError(f"{self.name}: too few pictures to split ({sizes}{left}); give more")
        return {name: parts[name] for name in PARTS}

    def task(self, parts: Mapping[str, np.ndarray]) -> Task | None:
        """Which class a picture is of, as a task; None where there are no two classes to tell.

        parts: the split, whose training part alone is trained on.

        Raises UserError where a class of the test part has no training picture.
        """
        if self.labels is None or len(np.unique(self.labels[parts["train"]])) < 2:
            return None
        train, test = parts["train"], parts["test"]
        unknown = np.setdiff1d(self.labels[test], self.labels[train])
        if len(unknown):
            raise UserError(
                f"{self.name}: class {self.classes[unknown[0]]!r} has test pictures and none to "
                "train on; give some, or leave the class out"
            )
        return Task(
            name=task_name(self.name),
            metric="accuracy",
            classes=list(self.classes),
            train_inputs=list(self.pixels[train]),
            train_labels=self.labels[train].tolist(),
            test_inputs=list(self.pixels[test]),
            test_labels=self.labels[test].tolist(),
            notes=[],
        )


def _digest(picture: np.ndarray, seed: int | None = None) -> bytes:
    begin = b"" if seed is None else f"{seed}\0".encode()
    return hashlib.blake2b(begin + picture.tobytes(), digest_size=16).digest()


def make_pictures(
    name: str,
    pixels: np.ndarray,
    labels: Sequence[Any] | np.ndarray | None,
    part: np.ndarray,
    description: Mapping[str, Any],
    *,
    classes: Sequence[str] | None = None,
    notes: Sequence[str] = (),
) -> Pictures:
    """`Pictures` of (N, H, W) uint8, each kept once: where it is a test picture, else where it is
    first.

    labels: (N,) of anything that has an order; None: there are none.
    classes: names of labels that are 0, 1, 2 ..; None: the labels themselves in order.
    """
    name = printable(name)
    named = None if labels is None else np.asarray(labels)
    if named is not None and named.dtype.kind == "S":
        named = np.char.decode(named, "utf-8", "backslashreplace")
    keep = np.zeros(len(pixels), dtype=bool)
    first: dict[bytes, int] = {}
    other = 0  # equal pictures of another class
    order = np.argsort(np.where(part == PARTS.index("test"), 0, 1), kind="stable")
    for index in order.tolist():
        same = first.setdefault(_digest(pixels[index]), index)
        keep[index] = same == index
        other += named is not None and bool(named[same] != named[index])
    duplicates = int((~keep).sum())
    pixels, part = np.ascontiguousarray(pixels[keep]), part[keep]
    indices: np.ndarray | None = None
    names: tuple[str, ...] = ()
    if named is not None:
        known, indices = np.unique(named[keep], return_inverse=True)
        names = tuple(printable(classes[k] if classes is not None else k) for k in known.tolist())
        indices = indices.astype(np.int64)
    count, height, width = pixels.shape
    described = {
        **description,
        "documents": count,
        "pictures": count,
        "duplicates": duplicates,
        "height": height,
        "width": width,
        "classes": len(names),
    }
    told = list(notes)
    if duplicates:
        told.append(
            f"pictures left out: {duplicates:,} equal to another one"
            + (f", {other:,} of them under another class, which is not kept" if other else "")
        )
    if len(names) == 1:
        told.append(f"all pictures are of one class, {names[0]!r}: there are none to tell apart")
    if (brightest := int(pixels.max())) < FAINT:
        told.append(
            f"grey levels end at {brightest} of 255; scale them where they are not meant to be so "
            "dark"
        )
    if told:
        described["notes"] = told
    digest = hashlib.sha256(f"{pixels.shape} {names}".encode())
    for column in (pixels, part, *([] if indices is None else [indices])):
        digest.update(np.ascontiguousarray(column).tobytes())
    return Pictures(name, pixels, indices, names, part, described, digest.hexdigest(), tuple(told))
