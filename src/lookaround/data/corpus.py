"""Documents to pretrain on, and their split into training, validation and test parts.

A corpus is a list of distinct texts in a fixed order. The split is by document, never by window,
and depends on nothing but the seed and the texts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lookaround.data.documents import Documents, ranked, spool
from lookaround.support.errors import UserError
from lookaround.support.text import counted, printable


@dataclass(frozen=True)
class Corpus:
    """Distinct documents in a fixed order.

    `description` holds plain JSON values for a public report (names and counts, no folders of the
    machine); `fingerprint` is the sha256 of the documents in order, each preceded by its length in
    bytes; `notes` tell what was chosen to read it; `asked` says whether a text column that was
    asked for was found.
    """

    name: str
    documents: Documents
    description: dict[str, Any]
    fingerprint: str
    notes: tuple[str, ...] = ()
    asked: bool = False

    @property
    def told(self) -> tuple[str, ...]:
        """What a reader should know: what there is, and what was chosen to read it."""
        known = self.description
        column = f", text column {known['text_column']!r}" if known.get("text_column") else ""
        what = f"{counted(len(self.documents), 'document')}, {self.documents.bytes:,} bytes"
        kind = f" ({known['format']}{column})" if "format" in known else ""
        return (f"{self.name}: {what}{kind}", *self.notes)


def make_corpus(
    name: str,
    texts: Iterable[str],
    description: dict[str, Any],
    path: str | Path | None = None,
    more: Callable[[], tuple[dict[str, Any], list[str]]] = lambda: ({}, []),
) -> Corpus:
    """Return a `Corpus` of the non-empty `texts`, each kept where it occurs first.

    `documents`, `duplicates`, `empty` and `bytes` (UTF-8) are added to `description`, and what
    more() gives, (description, notes), when all texts are read. Raises UserError if none is left,
    naming `path`; a description holds no folders.
    """
    documents, duplicates, empty = spool(texts, cache_folder())
    if not len(documents):
        raise UserError(
            f"{path or name}: empty, no document with any text; give a corpus with text in it"
        )
    counts = {
        "documents": len(documents),
        "duplicates": duplicates,
        "empty": empty,
        "bytes": documents.bytes,
    }
    known, notes = more()
    dropped = [
        f"{counts[what]:,} {words}"
        for what, words in (("duplicates", "equal to an earlier one"), ("empty", "empty"))
        if counts[what]
    ]
    if dropped:
        notes.append(f"documents left out: {' and '.join(dropped)}")
    described = {**description, **known, **counts, **({"notes": notes} if notes else {})}
    return Corpus(printable(name), documents, described, documents.fingerprint, tuple(notes))


def cache_folder() -> Path:
    """Where token shards are kept: $LOOKAROUND_CACHE, $XDG_CACHE_HOME/lookaround or ~/.cache."""
    if own := os.environ.get("LOOKAROUND_CACHE"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lookaround"


def hash_key(seed: int | str, text: str | bytes) -> bytes:
    """The 16 bytes by which texts are ordered at random, each text by itself."""
    data = text.encode() if isinstance(text, str) else text
    return hashlib.blake2b(f"{seed}\0".encode() + data, digest_size=16).digest()


def split_documents(
    documents: Sequence[str], *, seed: int = 0, validation: float = 0.05, test: float = 0.05
) -> dict[str, np.ndarray]:
    """Return the indices, in rising order, of the documents of "train", "validation" and "test".

    Documents are ordered by a hash of seed and text. Test takes its share of them from the front,
    validation from the back, and train keeps the rest, so that documents added later move few
    others and never one from test to validation. A document is passed over if with it the part
    would exceed twice its share of the bytes; where all are too large, the smallest is taken. Each
    part gets at least one document. Ours.

    Raises UserError for fewer than 3 documents, and for shares that are not above 0 or leave none
    for training.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise UserError(
            f"validation={validation} and test={test} cannot be split off; both must be above 0 "
            "and together below 1"
        )
    if len(documents) < 3:
        raise UserError(
            f"a corpus of {len(documents)} document{'s' * (len(documents) != 1)} cannot be split "
            "into train, validation and test; at least 3 are needed (in a .txt file a blank line "
            "separates documents, and --separator line makes each line one; or give a folder of "
            "files)"
        )
    hashes, sizes = bytearray(), np.zeros(len(documents), dtype=np.int64)
    for index, document in enumerate(documents):
        data = document.encode("utf-8")
        sizes[index] = len(data)
        hashes += hash_key(seed, data)
    order = ranked(bytes(hashes))
    free = np.ones(len(order), dtype=bool)
    parts = {}
    for name, share, left, turned in (
        ("test", test, 2, order),
        ("validation", validation, 1, order[::-1]),
    ):
        rest = turned[free[turned]]
        parts[name] = _take(rest, sizes, share, len(rest) - left)
        free[parts[name]] = False
    return {"train": np.flatnonzero(free), **{name: parts[name] for name in ("validation", "test")}}


def _take(order: np.ndarray, sizes: np.ndarray, share: float, most: int) -> np.ndarray:
    """The first of some documents, in rising order, as many as a share of all of them."""
    count = min(max(1, round(share * len(sizes))), most)
    room = 2 * share * sizes.sum()
    taken: list[int] = []
    for index in order:
        if len(taken) == count:
            break
        if sizes[index] <= room:
            taken.append(index)
            room -= sizes[index]
    return np.sort(taken or [order[sizes[order].argmin()]])


def split_note(corpus: Corpus, parts: dict[str, np.ndarray], asked: dict[str, float]) -> str | None:
    """One sentence where the parts are far from what was asked, as few documents make them.

    asked: {"validation", "test": share}.
    """
    sizes = {name: int(corpus.documents.size[part].sum()) for name, part in parts.items()}
    total = sum(sizes.values())
    far = any(not share / 2 <= sizes[name] / total <= 2 * share for name, share in asked.items())
    if not far:
        return None
    shares = ", ".join(f"{100 * size / total:.2g} % {name}" for name, size in sizes.items())
    return (
        f"split: {shares} of the text, not {100 * asked['validation']:g} % and "
        f"{100 * asked['test']:g} % held out, since it has {len(corpus.documents):,} documents"
        + (" (more of them: --separator)" if len(corpus.documents) < 100 else "")
    )
