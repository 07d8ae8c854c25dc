"""What a model is, whatever its folder is called."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lookaround.support.errors import UserError

WEIGHTS = ("*.safetensors", "*.bin", "config.json")


def model_folder(path: str) -> Path:
    """The folder of a model: itself, or where the files of its name on the hub are kept.

    A name must have been loaded before; raises OSError for one that was not.
    """
    folder = Path(path)
    if folder.is_dir():
        return folder
    from transformers.utils import cached_file

    return Path(str(cached_file(path, "config.json", local_files_only=True))).parent


def model_fingerprint(path: str) -> str:
    """The SHA-256 of a model's weights and config, of a folder or of a name on the hub.

    A name must have been loaded before. Raises UserError where the files cannot be read or there is
    no config.json.
    """
    digest = hashlib.sha256()
    try:
        folder = model_folder(path)
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder}: no checkpoint here (config.json is missing)")
        for file in sorted({file for pattern in WEIGHTS for file in folder.glob(pattern)}):
            digest.update(file.name.encode() + b"\0")
            with open(file, "rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    return digest.hexdigest()
