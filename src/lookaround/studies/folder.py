"""The folder of a study."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from lookaround.support.errors import UserError

__all__ = ["require_folder", "require_same", "slug"]


def slug(spec: str) -> str:
    """A folder name for a spec: readable, and unique by a few letters of its hash where it had to be changed."""
    plain = re.sub(r"[^a-z0-9.]+", "-", spec.lower()).strip("-")
    return plain if plain == spec else f"{plain[:60]}-{hashlib.sha256(spec.encode()).hexdigest()[:6]}"


def require_folder(out: Path, file: str, what: str) -> None:
    """Raises UserError where `out` is no folder to begin in, nor one that `file` says is `what`; makes nothing."""
    for path in (out, *out.parents):
        if path.exists():
            if not path.is_dir():
                raise UserError(f"--out {out}: '{path}' is a file; give a folder")
            break
    if out.exists() and any(out.iterdir()) and not (out / file).is_file():
        raise UserError(f"{out}: not empty and not {what} (no {file}); give another --out")


def require_same(before: dict[str, Any], now: dict[str, Any], origin: Path) -> None:
    """Raises UserError naming the first setting in which a folder's run differs from the one asked for."""
    old, new = _flatten(before), _flatten(now)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            name_of = (
                "the corpus or its tokenizer has changed"
                if name == "corpus"
                else f"{name} was {old.get(name)}, now {new.get(name)}"
            )
            raise UserError(
                f"{origin}: belongs to another run: {name_of}; give another --out, or the old settings"
            )


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flatten(value, f"{prefix}.{name}" if prefix else str(name))
    return flat
