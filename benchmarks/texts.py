"""Where the real data lie, and the English mix."""

from __future__ import annotations

import os
from pathlib import Path

TEXTS = Path(os.environ.get("LOOKAROUND_DATA", Path(__file__).parents[2] / "shared" / "data"))
MIX = ("wiki.train.txt.xz", "fiction.train.txt.xz", "dialogue.train.jsonl.xz", "brown.tsv.xz")


ABSENT = "" if TEXTS.is_dir() else f"skipped: no real data at {TEXTS}; set LOOKAROUND_DATA"


def require_texts() -> None:
    """Ends a benchmark with a line where the data are absent."""
    if ABSENT:
        print(ABSENT)
        raise SystemExit(0)


def linked_mix(folder: Path) -> Path:
    """The folder, with links to the texts of the mix in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MIX:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to((TEXTS / "text" / name).resolve())
    return folder
