"""Opens whatever codec a folder holds: that of texts or of pictures."""

from __future__ import annotations

from pathlib import Path

from lookaround.data.patches import CODEBOOK_FILE, PatchCodec, load_patches
from lookaround.data.text import TextTokenizer, load_tokenizer

AnyCodec = TextTokenizer | PatchCodec


def load_codec(folder: Path) -> AnyCodec:
    """The codec of a folder; raises UserError where there is none, or a damaged one."""
    if (folder / CODEBOOK_FILE).is_file():
        return load_patches(folder)
    return load_tokenizer(str(folder))
