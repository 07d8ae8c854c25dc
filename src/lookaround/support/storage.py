"""Atomic writes, and disk errors as one-line messages."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from numbers import Integral, Real
from pathlib import Path
from typing import IO, Any

from lookaround.support.errors import UserError
from lookaround.support.text import one_line


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns errors of the block, which writes `path`, into a UserError that names it.

    Libraries written in Rust (safetensors, tokenizers) give the system's error number in their
    message only.
    """
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        match = re.search(r"os error (\d+)", str(error))
        if number is None and match is not None:
            number = int(match[1])
        if number in (None, errno.ENOMEM) or isinstance(error, UserError):
            raise
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"{path}: no space left on the disk; nothing half-written was kept"
            ) from None
        raise UserError(f"{path}: cannot be written ({os.strerror(number)})") from None


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Atomic write: replaces the file when the block succeeds, leaves it untouched otherwise."""
    temporary = _temporary(path)
    try:
        with disk_errors(path):
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))


def write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    """Writes plain data atomically; tuples become lists, so that what is read back is equal."""
    import yaml

    plain = json.loads(json.dumps(value))
    write_text(path, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def require_place(folder: Path) -> None:
    """Refuses a folder that cannot be made or written into before any work is done.

    Raises UserError where it or one above it is a file, or where the system will not have it.
    """
    if any("\udc80" <= letter <= "\udcff" for letter in str(folder)):
        raise UserError(f"--out {one_line(folder)}: its name is not UTF-8; give another place")
    with place_errors(f"--out {one_line(folder)}"):
        above = next(path for path in (folder, *folder.parents) if path.exists())
        if not above.is_dir():
            raise UserError(f"--out {folder}: '{above}' is a file; give a folder")
        missing = folder.parts[len(above.parts) :] if above != Path(".") else folder.parts
        _try(above, max((len(os.fsencode(part)) for part in missing), default=0))


def require_writable(option: str, path: Path) -> None:
    """Refuses a file that cannot be written before any work is done; raises UserError.

    option: that it was given by.
    """
    with place_errors(f"{option} {one_line(path)}"):
        if path.is_dir():
            raise UserError(f"{option} {path}: is a folder; give the name of a file")
        if not path.parent.is_dir():
            raise UserError(f"{option} {path}: there is no folder '{path.parent}'")
        if path.exists() and not path.is_file():
            raise UserError(f"{option} {path}: is no regular file; give the name of a file")
        _try(path.parent, len(os.fsencode(path.name)) + len(_temporary(Path("x")).name) - 1)


@contextmanager
def place_errors(what: str) -> Iterator[None]:
    """Turns errors of the system about a place to write to into a UserError that begins so."""
    try:
        yield
    except (OSError, ValueError) as error:  # a name with a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{what}: cannot be written ({reason}); give another place") from None


def _try(folder: Path, length: int) -> None:
    """Makes and removes a folder in another one; raises OSError where that cannot be.

    Asking for permissions does not tell: the system's administrator has them everywhere. The name
    is one of its own, so that nobody who makes the true one at this moment is disturbed.

    length: of its name in bytes, at least.
    """
    trial = folder / f".{uuid.uuid4().hex}".ljust(length, "x")
    trial.mkdir()
    trial.rmdir()


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it; raises UserError where that cannot be."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Makes `folder` from what `fill` writes into a temporary one; replaces an older one."""
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with disk_errors(folder):
            temporary.mkdir(parents=True)
            fill(temporary)
            put_folder(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def put_folder(written: Path, folder: Path) -> None:
    """Puts a written folder in its place, beside it, and on the disk; replaces an older one."""
    sync_folder(written)
    remove_folder(folder)
    written.rename(folder)
    _sync(folder.parent)


def sync_folder(folder: Path) -> None:
    """Sees to it that a folder and all that is in it are on the disk."""
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def remove_folder(folder: Path) -> None:
    """Removes a folder, where there is one; a kill leaves no half of it under its name."""
    temporary = _temporary(folder)
    with contextlib.suppress(OSError):
        folder.rename(temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def remove_temporary(folder: Path) -> None:
    """Removes what writers that were killed have left below a folder."""
    for path in [*folder.rglob("*.tmp")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def finite(value: Any) -> Any:
    """The same data as UTF-8 JSON can hold: NaN and infinity become None, a lone surrogate '?'."""
    if isinstance(value, dict):
        return {finite(str(key)): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    return value
