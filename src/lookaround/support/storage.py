"""Atomic writes, checked reads, and disk errors as one-line messages."""

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
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import IO, Any

from lookaround.support.errors import UserError


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
        if number is None or isinstance(error, UserError):
            raise
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"{path}: no space left on the disk; nothing half-written was kept"
            ) from None
        raise UserError(f"{path}: cannot be written ({os.strerror(number)})") from None


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
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))


def read_mapping(path: Path, fields: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """A JSON or YAML mapping with at least `fields` of these types; raises UserError otherwise."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        value = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read; it is truncated or not ours ({reason})") from None
    return require_fields(str(path), value, fields)


def require_fields(
    origin: str, value: Any, fields: Mapping[str, type | tuple[type, ...]]
) -> dict[str, Any]:
    """The mapping `value` with `fields` of these types; raises UserError naming `origin`."""
    if not isinstance(value, dict):
        raise UserError(f"{origin}: truncated or not ours (it holds no fields)")
    for name, kind in fields.items():
        if name not in value or not isinstance(value[name], kind):
            raise UserError(
                f"{origin}: truncated or not ours (field '{name}' is missing or of another type)"
            )
    return value


def write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    """Writes plain data atomically; tuples become lists, so that what is read back is equal."""
    import yaml

    plain = json.loads(json.dumps(value))
    write_text(path, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def require_place(folder: Path) -> None:
    """Raises UserError where a folder cannot be made, since it or one above it is a file."""
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir():
        raise UserError(f"--out {folder}: '{above}' is a file; give a folder")


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
            for path in (*temporary.rglob("*"), temporary):
                _sync(path)
            remove_folder(folder)
            temporary.rename(folder)
            _sync(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_folder(folder: Path) -> None:
    """Removes a folder, where there is one; a kill leaves no half of it under its name."""
    temporary = _temporary(folder)
    with contextlib.suppress(OSError):
        folder.rename(temporary)
    shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")


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
