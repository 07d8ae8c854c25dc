"""Opens whatever codec a folder holds: that of texts or of pictures."""

from __future__ import annotations

from pathlib import Path

from lookaround.data.patches import CODEBOOK_FILE, PatchCodec, load_patches
from lookaround.data.text import TextTokenizer, load_tokenizer
from lookaround.support.errors import UserError

AnyCodec = TextTokenizer | PatchCodec


def load_codec(folder: Path) -> AnyCodec:
    """The codec of a folder; raises UserError where there is none, or a damaged one."""
    if (folder / CODEBOOK_FILE).is_file():
        return load_patches(folder)
    try:
        return load_tokenizer(str(folder))
    except UserError as error:
        if any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json")):
            raise
        raise UserError(f"{error}; nor has it a {CODEBOOK_FILE} of pictures") from None
