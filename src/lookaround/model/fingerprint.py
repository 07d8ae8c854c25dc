"""Where a model lies, and what it is, whatever its folder is called."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from lookaround.support.errors import UserError

WEIGHTS = ("*.safetensors", "*.bin", "config.json")
# of a repository on the hub: what a model and its tokenizer are loaded from
FILES = ["*.json", "*.model", "*.txt", "*.jinja", "custom_generate/*.py"]


def model_folder(path: str | Path) -> Path:
    """The folder of a model: a path as it is, a name on the Hugging Face hub as its files here.

    Files of a name are downloaded where they are not in the cache of Hugging Face; weights in
    safetensors, else `.bin`. Raises UserError for what is neither a folder nor a name that can be
    had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    folder, name = Path(path), str(path)
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith(".") or folder.exists():
        raise UserError(f"{name}: no such folder; give a run, a Hugging Face folder or a name")
    failed = ""
    for offline in (False, True):  # what was downloaded once is there without a network
        for weights in ("*.safetensors", "*.bin"):
            try:
                found = snapshot_download(
                    name, allow_patterns=[*FILES, weights], local_files_only=offline
                )
            except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
                failed = failed or next(iter(str(error).strip().splitlines()), "not found")
                break
            if any(Path(found).glob(weights)):
                return Path(found)
    raise UserError(
        f"{name}: no such folder, and no model of this name could be had from the Hugging Face "
        f"hub ({failed or 'it holds no weights'})"
    )


def model_fingerprint(path: str | Path) -> str:
    """The SHA-256 of a model's weights and config, of a folder or of a name on the hub.

    Raises UserError where the files cannot be read or there is no config.json.
    """
    folder = model_folder(path)
    digest = hashlib.sha256()
    try:
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder}: no checkpoint here (config.json is missing)")
        for file in sorted({file for pattern in WEIGHTS for file in folder.glob(pattern)}):
            digest.update(file.name.encode() + b"\0")
            with open(file, "rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    return digest.hexdigest()
