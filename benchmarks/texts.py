"""Where the real data lie, and the English mix."""

from __future__ import annotations

import os
from pathlib import Path

TEXTS = Path(os.environ.get("LOOKAROUND_DATA", Path(__file__).parents[2] / "shared" / "data"))
MIX = ("wiki.train.txt.xz", "fiction.train.txt.xz", "dialogue.train.jsonl.xz", "brown.tsv.xz")


def linked_mix(folder: Path) -> Path:
    """The folder, with links to the texts of the mix in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in MIX:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to((TEXTS / "text" / name).resolve())
    return folder
