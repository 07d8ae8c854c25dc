"""Text to token ids and back: a byte-level BPE trained here, or any Hugging Face tokenizer."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lookaround.objectives.contract import Vocabulary
from lookaround.support.errors import UserError

# the field of tokenizer_config.json with a mask token that `mask_token` may not name
HIDDEN_MASK = "hidden_mask_token"
SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "mask_token": "<mask>"}
CHUNK = 1000  # documents encoded at a time


class TextTokenizer:
    """A fast Hugging Face tokenizer with what pretraining needs, itself left as it is.

    bos: what every text begins with: its BOS or CLS token, without one its EOS token (as in
    EleutherAI's lm-evaluation-harness), without that the last token of a line break. No token is
    invented. mask: its mask token; without one the first id after its own, for which a model that
    is to be shown masks needs a row (model/backbone.py, `build`). `masked` is the tokenizer with
    it. size: ids in all, the mask's included. rows: 1 + the largest id that a text can hold.
    """

    unit = "byte"

    def __init__(self, hf: Any) -> None:
        if not getattr(hf, "is_fast", False):
            raise UserError(
                f"tokenizer '{hf.name_or_path}': not a fast tokenizer (it has no tokenizer.json)"
            )
        self.hf = hf
        ids = hf.get_vocab()
        self.eos: int | None = hf.sep_token_id if hf.eos_token_id is None else hf.eos_token_id
        self.pad: int | None = hf.pad_token_id
        starts = [i for i in (hf.bos_token_id, hf.cls_token_id, self.eos) if i is not None]
        starts = starts or self.encode(["\n"])[0][-1:]
        if not starts:
            raise UserError(
                f"tokenizer '{hf.name_or_path}' is lossy: '\\n' comes back as ''; and it has no "
                "BOS, CLS or EOS token that a text could begin with"
            )
        self.bos: int = starts[0]
        end = max(ids.values()) + 1
        self._mask_token: str = getattr(hf, HIDDEN_MASK, None) or SPECIAL["mask_token"]
        mask = hf.mask_token_id
        mask = ids.get(self._mask_token, end) if mask is None else mask
        self.size = max(end, mask + 1)
        unseen = {*hf.all_special_ids} - {self.bos, self.eos, hf.unk_token_id}
        self.rows = 1 + max({*ids.values()} - unseen)
        self.vocabulary = Vocabulary(self.size, mask, tuple(sorted({*hf.all_special_ids, mask})))
        self.units = _token_bytes(hf, self.size, self.vocabulary.special)

    @cached_property
    def masked(self) -> Any:
        """The Hugging Face tokenizer with a mask token; raises UserError where it can't have it."""
        if self.hf.mask_token_id is not None:
            return self.hf
        hf = copy.deepcopy(self.hf)
        hf.add_special_tokens({"mask_token": self._mask_token})
        if hf.mask_token_id != self.vocabulary.mask:
            raise UserError(
                f"tokenizer '{hf.name_or_path}': its ids have gaps, so a mask token would get the "
                f"id {hf.mask_token_id}, not {self.vocabulary.mask}; give it a mask token"
            )
        return hf

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
        return [
            item.ids for item in backend.encode_batch_fast(list(texts), add_special_tokens=False)
        ]

    def documents(self, texts: Iterable[str]) -> Iterable[np.ndarray]:
        """Ids of each document, (n,) int64, from BOS to EOS (where the tokenizer has one)."""
        tail = [] if self.eos is None else [self.eos]
        left = iter(texts)
        while chunk := list(itertools.islice(left, CHUNK)):
            yield from (np.array([self.bos, *ids, *tail]) for ids in self.encode(chunk))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are left out."""
        return self.hf.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def require_lossless(self, texts: Sequence[str]) -> None:
        """Refuses a tokenizer that loses text: bits per byte would not be comparable.

        Raises UserError with an example.
        """
        for text, ids in zip(texts, self.encode(texts), strict=True):
            back = self.decode(ids)
            if back == text:
                continue
            at = next(
                (i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b),
                min(len(text), len(back)),
            )
            raise UserError(
                f"tokenizer '{self.hf.name_or_path}' is lossy: {text[max(at - 10, 0) : at + 10]!r} "
                f"comes back as {back[max(at - 10, 0) : at + 10]!r}; bits per byte need a lossless "
                "one (byte-level BPE is)"
            )

    def save(self, folder: Path, *, mask: bool = False, named: bool = True) -> None:
        """Writes the tokenizer files that `transformers` reads.

        mask: with a mask token in any case.
        named: False: that token is not called the mask token, so that `pipeline("fill-mask")`
            refuses the folder; `load_tokenizer` finds it.
        """
        hf = self.masked if mask else self.hf
        if mask and not named:
            hf = copy.deepcopy(hf)
            hf.init_kwargs[HIDDEN_MASK], hf.mask_token = hf.mask_token, None
        hf.save_pretrained(folder)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> TextTokenizer:
    """Trains a lossless byte-level BPE of at most `vocabulary` tokens, specials included."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    least = 256 + len(SPECIAL)
    if vocabulary < least:
        raise UserError(
            f"data.vocabulary: {vocabulary} is too small; the bytes and special tokens alone take "
            f"{least}"
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
        return TextTokenizer(AutoTokenizer.from_pretrained(path, trust_remote_code=False))
    except UserError:
        raise
    except Exception as error:
        raise unloadable(f"tokenizer '{path}'", "Hugging Face tokenizer", error) from None


def unloadable(name: str, kind: str, error: Exception) -> UserError:
    """The one-line error for a folder that `transformers` cannot load."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
    if "trust_remote_code" in str(error):
        reason = "it needs its own code (auto_map), and code of a folder is never run"
    return UserError(f"{name}: no {kind} could be loaded ({reason})")


def require_named(path: str, what: str, file: str) -> None:
    """Refuses a path that is no folder with `file` in it; other words may be names on the hub."""
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
