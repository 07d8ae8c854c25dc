"""Text to ids and back: a byte-level BPE trained here, or any Hugging Face tokenizer, with the bytes of every token."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lookaround.objectives.contract import Vocabulary
from lookaround.support.errors import UserError

__all__ = ["TextTokenizer", "load_tokenizer", "train_tokenizer"]

SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "mask_token": "<mask>"}
CHUNK = 1000  # documents encoded at a time


class TextTokenizer:
    """A fast Hugging Face tokenizer with what pretraining needs: BOS, a mask token and the number of bytes of each token.

    A tokenizer without BOS or mask token gets them added at the end of its vocabulary.
    """

    unit = "byte"

    def __init__(self, hf: Any) -> None:
        if not getattr(hf, "is_fast", False):
            raise UserError(f"tokenizer '{hf.name_or_path}': not a fast tokenizer (it has no tokenizer.json)")
        self.hf = hf
        missing = {}
        if hf.bos_token is None and hf.cls_token is None:
            missing["bos_token"] = SPECIAL["bos_token"]
        if hf.mask_token is None:
            missing["mask_token"] = SPECIAL["mask_token"]
        if missing:
            hf.add_special_tokens(missing)
        self.size = max(hf.get_vocab().values()) + 1
        self.bos: int = hf.bos_token_id if hf.bos_token_id is not None else hf.cls_token_id
        self.eos: int | None = hf.eos_token_id
        self.pad: int | None = hf.pad_token_id
        self.vocabulary = Vocabulary(
            self.size, hf.mask_token_id, tuple(sorted({*hf.all_special_ids, self.bos}))
        )
        self.units = _token_bytes(hf, self.size, self.vocabulary.special)

    @property
    def fingerprint(self) -> str:
        """sha256 of the tokenizer's own description."""
        return hashlib.sha256(self.hf.backend_tokenizer.to_str().encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens; text that spells a special token stays text."""
        backend = self.hf.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        return [item.ids for item in backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def documents(self, texts: Iterable[str]) -> Iterable[np.ndarray]:
        """Ids of each document, (n,) int64, from BOS to EOS (where the tokenizer has one)."""
        tail = [] if self.eos is None else [self.eos]
        chunk: list[str] = []
        for text in texts:
            chunk.append(text)
            if len(chunk) == CHUNK:
                yield from (np.array([self.bos, *ids, *tail]) for ids in self.encode(chunk))
                chunk = []
        yield from (np.array([self.bos, *ids, *tail]) for ids in self.encode(chunk))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are left out."""
        return self.hf.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def require_lossless(self, texts: Sequence[str]) -> None:
        """Refuses a tokenizer that loses text: bits per byte would not be comparable. Raises UserError with an example."""
        for text, ids in zip(texts, self.encode(texts), strict=True):
            back = self.decode(ids)
            if back == text:
                continue
            at = next(
                (i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b),
                min(len(text), len(back)),
            )
            raise UserError(
                f"tokenizer '{self.hf.name_or_path}' is lossy: {text[max(at - 10, 0) : at + 10]!r} comes back as "
                f"{back[max(at - 10, 0) : at + 10]!r}; bits per byte need a lossless one (byte-level BPE is)"
            )

    def save(self, folder: Path) -> None:
        """Writes the tokenizer files that `transformers` reads."""
        self.hf.save_pretrained(folder)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> TextTokenizer:
    """A byte-level BPE with `vocabulary` tokens at most, specials and the 256 bytes included; lossless on any text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    least = 256 + len(SPECIAL)
    if vocabulary < least:
        raise UserError(
            f"data.vocabulary: {vocabulary} is too small; the bytes and special tokens alone take {least}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return TextTokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL))


def load_tokenizer(path: str) -> TextTokenizer:
    """The Hugging Face tokenizer of a folder or name; raises UserError where there is none."""
    from transformers import AutoTokenizer

    require_named(path, "tokenizer", "tokenizer.json")
    try:
        return TextTokenizer(AutoTokenizer.from_pretrained(path))
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"tokenizer '{path}': no Hugging Face tokenizer could be loaded ({reason[:160]})"
        ) from None


def require_named(path: str, what: str, file: str) -> None:
    """Refuses what looks like a path and is no folder with `file` in it; other words may be names on the Hugging Face hub."""
    if path.startswith((".", "/", "~")) or Path(path).exists():
        if not Path(path).is_dir():
            raise UserError(f"{what} '{path}': no such folder")
        if not (Path(path) / file).is_file():
            raise UserError(f"{what} '{path}': there is no {file} in this folder")


def _token_bytes(hf: Any, size: int, special: tuple[int, ...]) -> np.ndarray:
    """How many bytes of text each token stands for, (size,) int64; 0 for special tokens."""
    description = json.loads(hf.backend_tokenizer.to_str())
    byte_level = any(
        '"ByteLevel"' in json.dumps(description.get(part)) for part in ("pre_tokenizer", "decoder")
    )
    added = {token.content for token in hf.added_tokens_decoder.values()}
    lengths = np.zeros(size, dtype=np.int64)
    for token, index in hf.get_vocab().items():
        if byte_level and token not in added:
            lengths[index] = len(token)  # one printable character per byte
        elif len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            lengths[index] = 1  # byte fallback
        else:
            lengths[index] = len(token.replace("▁", " ").encode())
    lengths[list(special)] = 0
    return lengths
