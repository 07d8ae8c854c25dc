"""Many texts outside of Python's memory: written once, read one by one.

A text is a place in a buffer of UTF-8 bytes, which is a file on disk where it is large: a corpus
needs memory for its longest document and some 40 bytes for each.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, overload

import numpy as np

from lookaround.support.storage import disk_errors, make_folder

IN_MEMORY = 64 << 20  # bytes of a spool that need no file


class Documents(Sequence[str]):
    """Texts in a fixed order; any choice of them is `Documents` too, and holds the same buffer.

    start, size: of each text in the buffer, in bytes of UTF-8, (n,) int64.
    """

    def __init__(self, buffer: _Buffer, start: np.ndarray, size: np.ndarray) -> None:
        self._buffer, self.start, self.size = buffer, start, size

    def __len__(self) -> int:
        return len(self.start)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice | np.ndarray | list[int]) -> Documents: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice | np.ndarray | list):
            chosen = index if isinstance(index, slice) else np.asarray(index)
            return Documents(self._buffer, self.start[chosen], self.size[chosen])
        return self.encoded(index).decode("utf-8")

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self):,} documents of {self.bytes:,} bytes>"

    def encoded(self, index: int) -> bytes:
        """A text as UTF-8."""
        return self._buffer.read(int(self.start[index]), int(self.size[index]))

    @property
    def bytes(self) -> int:
        """Of all texts together, in UTF-8."""
        return int(self.size.sum())

    @property
    def fingerprint(self) -> str:
        """sha256 of the texts in order, each preceded by its length in bytes."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            data = self.encoded(index)
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()


class _Buffer:
    """Bytes that are appended to and read anywhere: in memory, or in a file without a name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.memory = bytearray()
        self.file: IO[bytes] | None = None
        self.size = 0

    def append(self, data: bytes) -> None:
        if self.file is None and self.size + len(data) > IN_MEMORY:
            make_folder(self.folder)
            with disk_errors(self.folder):
                # no process can leave it behind
                self.file = tempfile.TemporaryFile(dir=self.folder, buffering=1 << 20)  # noqa: SIM115
                self.file.write(self.memory)
            self.memory = bytearray()
        if self.file is None:
            self.memory += data
        else:
            with disk_errors(self.folder):
                self.file.write(data)
        self.size += len(data)

    def read(self, start: int, size: int) -> bytes:
        if self.file is None:
            return bytes(self.memory[start : start + size])
        parts = []
        while size and (part := os.pread(self.file.fileno(), size, start)):  # 2 GiB at most a call
            parts.append(part)
            start, size = start + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def flush(self) -> None:
        if self.file is not None:
            with disk_errors(self.folder):
                self.file.flush()


def spool(texts: Iterable[str], folder: Path) -> tuple[Documents, int, int]:
    """(the texts that hold more than white space, each where it occurs first; how many were
    dropped as equal to an earlier one; how many as empty).

    folder: where a large buffer is kept, in a file that is gone with this process.

    Raises UserError where that disk is full.
    """
    buffer = _Buffer(folder)
    sizes: list[np.ndarray] = []
    hashes = bytearray()
    pending: list[int] = []
    empty = 0
    for text in texts:
        if not text or text.isspace():
            empty += 1
            continue
        data = text.encode("utf-8")
        hashes += hashlib.blake2b(data, digest_size=16).digest()
        buffer.append(data)
        pending.append(len(data))
        if len(pending) == 1 << 16:
            sizes.append(np.array(pending, dtype=np.int64))
            pending.clear()
    buffer.flush()
    size = np.concatenate([*sizes, np.array(pending, dtype=np.int64)])
    whole = Documents(buffer, size.cumsum() - size, size)
    first = first_of_each(bytes(hashes))
    return whole[first] if len(first) < len(size) else whole, len(size) - len(first), empty


def first_of_each(hashes: bytes) -> np.ndarray:
    """Indices, in rising order, of 16-byte hashes that no earlier one equals, (m,) int64."""
    order = ranked(hashes)
    halves = _halves(hashes)[:, order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (halves[:, 1:] != halves[:, :-1]).any(axis=0)
    return np.sort(order[new])


def ranked(hashes: bytes) -> np.ndarray:
    """Indices of 16-byte hashes in their order as bytes; of equal ones the earlier first."""
    high, low = _halves(hashes)
    return np.lexsort((low, high))


def _halves(hashes: bytes) -> np.ndarray:
    """The first and the last 8 bytes of each hash as numbers, (2, n) uint64."""
    return np.array(np.frombuffer(hashes, dtype=">u8"), dtype=np.uint64).reshape(-1, 2).T
