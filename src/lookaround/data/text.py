"""Text to token ids and back: a byte-level BPE trained here, or any Hugging Face tokenizer."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from lookaround.data.bpe import WORD, sample_of, trained_apart
from lookaround.data.patches import CODEBOOK_FILE
from lookaround.objectives.contract import Vocabulary
from lookaround.support.errors import UserError

# the field of tokenizer_config.json with a mask token that `mask_token` may not name
HIDDEN_MASK = "hidden_mask_token"
MOST_TOKENS = 1 << 22  # the largest vocabularies have a quarter of that
SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "mask_token": "<mask>"}
# texts encoded at a time, and characters; longer texts than LONG characters are cut
CHUNK, BATCH, LONG = 1000, 1 << 21, 1 << 18
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
# above this share of lost characters, bits are told per token: bytes would flatter the model
LOSSY = 0.01
# what transformers writes of how a tokenizer was loaded here
LOADED = ("is_local", "local_files_only")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Lost(NamedTuple):
    """What a tokenizer loses of some texts: the share of their characters, and an example."""

    share: float = 0.0
    example: str = ""


@dataclass(frozen=True)
class Encoded:
    """Ids of texts, or of parts of them, one behind the other.

    ids: (n,) int64.
    lengths: of each part, (parts,) int64.
    begins, ends: whether a part is the first, and the last, of its text, (parts,) bool.
    """

    ids: np.ndarray
    lengths: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


class TextTokenizer:
    """A fast Hugging Face tokenizer with what pretraining needs, itself left as it is.

    bos: what every text begins with: its BOS or CLS token, without one its EOS token (as in
    EleutherAI's lm-evaluation-harness), without that the last token of a line break. No token is
    invented. eos: its EOS or SEP token, if any. mask: its mask token; without one the first id
    after its own, for which a model that is to be shown masks needs a row (model/backbone.py,
    `build`). `masked` is the tokenizer with it. size: ids in all, the mask's included. rows: 1 +
    the largest id that a text can hold. lost: what it loses of the texts that it is used on, as
    far as they were looked at (`measured`). units: bytes of each token, about, and 0 for special
    ones (data/codec.py); `unit` is "token", and each is 1, where much is lost.
    """

    def __init__(self, hf: Any) -> None:
        if not getattr(hf, "is_fast", False):
            raise UserError(
                f"tokenizer '{hf.name_or_path}': not a fast tokenizer (it has no tokenizer.json)"
            )
        self.hf = hf
        self.lost = Lost()
        self.learned = ""
        ids = hf.get_vocab()
        if {*ids.values()} <= {*hf.all_special_ids}:
            raise UserError(
                f"tokenizer '{hf.name_or_path}': has no tokens but special ones; its vocabulary "
                "(tokenizer.json, or vocab.json and merges.txt, vocab.txt, tokenizer.model) is "
                "missing"
            )
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
        if end > MOST_TOKENS:
            raise UserError(
                f"tokenizer '{hf.name_or_path}': has a token of id {end - 1:,}; ids end at "
                f"{MOST_TOKENS:,}, since every one takes a row of a model"
            )
        self._mask_token: str = getattr(hf, HIDDEN_MASK, None) or SPECIAL["mask_token"]
        mask = hf.mask_token_id
        mask = ids.get(self._mask_token, end) if mask is None else mask
        self.size = max(end, mask + 1)
        unseen = {*hf.all_special_ids} - {self.bos, self.eos, hf.unk_token_id}
        self.rows = 1 + max({*ids.values()} - unseen)
        self.vocabulary = Vocabulary(self.size, mask, tuple(sorted({*hf.all_special_ids, mask})))
        self.unit = "byte"
        self.units = _token_bytes(hf, self.size, self.vocabulary.special)

    grid: tuple[int, int] | None = None

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
        """sha256 of the tokenizer's own description and of the ids of its special tokens."""
        # how far texts are cut and filled up is asked for anew with each of them
        own = json.loads(self.hf.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
        roles = {name: getattr(self.hf, f"{name}_token_id") for name in ROLES}
        return hashlib.sha256(json.dumps([own, roles], sort_keys=True).encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens; text that spells a special token stays text."""
        found: list[list[int]] = []
        held: list[int] = []
        for ids, last in self.pieces(texts):
            held += ids.tolist()
            if last:
                found.append(held)
                held = []
        return found

    def batches(self, texts: Iterable[str]) -> Iterator[Encoded]:
        """The same some MB of text at a time, however long a text is."""
        backend = self._plain
        begins = True

        def encoded(batch: list[tuple[str, bool]]) -> tuple[list[tuple[str, bool]], list[Any]]:
            parts = [part for part, _ in batch]
            return batch, backend.encode_batch_fast(parts, add_special_tokens=False)

        for batch, found in _ahead(encoded, _batches(map(self._parts, texts))):
            lists = [item.ids for item in found]
            ends = np.array([last for _, last in batch])
            ids = np.fromiter(itertools.chain.from_iterable(lists), dtype=np.int64)
            lengths = np.array([len(part) for part in lists], dtype=np.int64)
            yield Encoded(ids, lengths, np.append(begins, ends[:-1]), ends)
            begins = bool(ends[-1])

    def pieces(self, texts: Iterable[str]) -> Iterator[tuple[np.ndarray, bool]]:
        """(ids (n,) int64, whether they are the last of their text) of each text, part by part."""
        for batch in self.batches(texts):
            stops = batch.lengths.cumsum()
            for start, stop, last in zip(stops - batch.lengths, stops, batch.ends, strict=True):
                yield batch.ids[start:stop], bool(last)

    def _parts(self, text: str) -> Iterator[str]:
        """A text as it is, or a long one in parts where it is seen that a cut changes no token.

        The cut stands between two lines, or where a word of the tokenizer's own ends.
        """
        begin = 0
        while len(text) - begin > 2 * LONG:
            cut = next(filter(partial(self._may_cut, text), self._places(text, begin)), None)
            if cut is None:
                break
            yield text[begin:cut]
            begin = cut
        yield text[begin:] if begin else text

    def _places(self, text: str, begin: int) -> Iterator[int]:
        """Where a text may be cut beyond `begin`, likely places first."""
        end = begin + LONG
        lines = re.compile(r"(?<=\S)\n(?=\S)").finditer(text, begin + LONG // 2, end)
        yield from (found.end() for found in list(lines)[:-5:-1])
        split = self.hf.backend_tokenizer.pre_tokenizer
        if split is not None and self.hf.backend_tokenizer.normalizer is None:
            words = split.pre_tokenize_str(text[begin:end])
            yield from (begin + start for _, (start, _) in words[-2 : -len(words) // 2 : -20])

    def _may_cut(self, text: str, place: int) -> bool:
        """Whether a text has the same tokens around a place where it is cut there."""
        left, right = text[max(0, place - WORD) : place], text[place : place + WORD]
        pieces = self._plain.encode_batch_fast(
            [left + right, left, right], add_special_tokens=False
        )
        whole, before, after = (piece.ids for piece in pieces)
        return whole == before + after

    def encode_with_offsets(
        self, texts: Sequence[str]
    ) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """(ids as of `encode`, (start, end) of each in characters of the text) of each text.

        What a token covers may hold the space before it, or be a character that it is a byte of.
        """
        found = self._plain.encode_batch(list(texts), add_special_tokens=False)
        return [(item.ids, item.offsets) for item in found]

    @property
    def _plain(self) -> Any:
        """The backend, with which whole texts are text from end to end."""
        backend = self.hf.backend_tokenizer
        # set only where it must be: a thread may be encoding with it, and then it is locked
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        if not backend.encode_special_tokens:
            backend.encode_special_tokens = True
        return backend

    def documents(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
        """Ids of each document, (n,) int64, from BOS to EOS (where the tokenizer has one)."""
        head, tail = self.ends
        held = [head]
        for ids, last in self.pieces(texts):
            held.append(ids)
            if last:
                yield np.concatenate([*held, tail])
                held = [head]

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """What every document begins and ends with, int64: BOS, and EOS or nothing."""
        tail = [] if self.eos is None else [self.eos]
        return np.array([self.bos], dtype=np.int64), np.array(tail, dtype=np.int64)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are left out."""
        return self.hf.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def chat(self, message: str) -> list[int]:
        """Ids of a user's message and of what begins the answer, by the chat template.

        All that the text begins with is among them. Raises UserError where there is no template,
        or where it fails.
        """
        name = f"tokenizer '{self.hf.name_or_path}'"
        if self.hf.chat_template is None:
            raise UserError(f"generate.chat: {name} has no chat template")
        messages = [{"role": "user", "content": message}]
        try:
            text = self.hf.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # whatever a template's own code raises
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"generate.chat: the chat template of {name} fails ({reason})"
            ) from None
        backend = self.hf.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = False  # here text that spells one is one
        return backend.encode(text, add_special_tokens=False).ids

    def measured(self, texts: Sequence[str]) -> Self:
        """This tokenizer with what it loses of the beginnings of some texts, spread over them.

        Characters are compared as multisets, wherever they stand.
        """
        sample = [text[:2000] for text in texts[:: max(1, len(texts) // 200)]]
        gone, example = 0, ""
        for text, ids in zip(sample, self.encode(sample), strict=True):
            back = self.decode(ids)
            lost = (Counter(text) - Counter(back)).total()
            gone += lost
            if lost and not example:
                at = next(
                    (i for i, (a, b) in enumerate(zip(text, back, strict=False)) if a != b),
                    min(len(text), len(back)),
                )
                part = slice(max(at - 10, 0), at + 10)
                example = f"{text[part]!r} comes back as {back[part]!r}"
        return self.losing(Lost(gone / max(1, sum(map(len, sample))), example))

    def losing(self, lost: Lost) -> Self:
        """This tokenizer, knowing what it loses; where that is much, it counts tokens."""
        known = copy.copy(self)
        known.lost = lost
        if lost.share > LOSSY:
            known.unit, known.units = "token", (self.units > 0).astype(np.int64)
        return known

    @property
    def notes(self) -> list[str]:
        """What a reader of bits per byte or token should know of it: one sentence, or none."""
        share, example = self.lost
        if not share:
            return []
        what = "what is lost costs no bits"
        if self.unit == "token":
            what = "so bits are per token, and compare with those of the same tokenizer alone"
        return [f"The tokenizer loses {100 * share:.2g} % of the characters ({example}); {what}."]

    def save(
        self, folder: Path, *, mask: bool = False, named: bool = True, length: int | None = None
    ) -> None:
        """Writes the tokenizer files that `transformers` reads, without how it was loaded here.

        mask: with a mask token in any case.
        named: False: that token is not called the mask token, so that `pipeline("fill-mask")`
            refuses the folder; `load_tokenizer` finds it.
        length: the most tokens of a text, `model_max_length`; None: the tokenizer's own.
        """
        hf = self.masked if mask else self.hf
        if mask and not named:
            hf = copy.deepcopy(hf)
            hf.init_kwargs[HIDDEN_MASK], hf.mask_token = hf.mask_token, None
        hf.save_pretrained(folder)
        file = folder / "tokenizer_config.json"
        told = {k: v for k, v in json.loads(file.read_text()).items() if k not in LOADED}
        if length is not None:
            told["model_max_length"] = length
        file.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def train_tokenizer(
    texts: Sequence[str], vocabulary: int, sizes: Sequence[int] | np.ndarray | None = None
) -> TextTokenizer:
    """Trains a lossless byte-level BPE of at most `vocabulary` tokens, specials included.

    sizes: of the texts in bytes, where they are known.

    Used by itself it begins a text with BOS, as every document of ours does. Of much text a part
    is taken (data/bpe.py), which `notes` tell.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    least = 256 + len(SPECIAL)
    if vocabulary < least:
        raise UserError(
            f"data.vocabulary: {vocabulary} is too small; the bytes and special tokens alone take "
            f"{least}"
        )
    if sizes is None:
        sizes = [len(text.encode("utf-8")) for text in texts]
    sample = sample_of(texts, sizes)
    found = trained_apart(sample, vocabulary, [*SPECIAL.values()], SPECIAL["bos_token"])
    made = TextTokenizer(
        PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(found), **SPECIAL)
    )
    if not sample.whole:
        made.learned = (
            f"The tokenizer is trained on {sample.bytes / 1e6:,.0f} MB of the training text."
        )
    return made


def load_tokenizer(path: str) -> TextTokenizer:
    """The Hugging Face tokenizer of a folder or name; raises UserError where there is none."""
    from transformers import AutoTokenizer

    require_named(path, "tokenizer")
    if (Path(path) / CODEBOOK_FILE).is_file():
        raise UserError(f"tokenizer '{path}': is of a model of pictures; give one of texts")
    try:
        with muted():
            hf = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:
        name = f"tokenizer '{path}'"
        if Path(path).is_dir() and not (Path(path) / "tokenizer.json").is_file():
            name += ": there is no tokenizer.json in this folder"
        raise unloadable(name, "Hugging Face tokenizer", error) from None
    return TextTokenizer(hf)


@contextmanager
def muted() -> Iterator[None]:
    """Without what transformers logs: what it raises is said in one line."""
    from transformers.utils import logging as verbosity

    level = verbosity.get_verbosity()
    verbosity.set_verbosity(verbosity.CRITICAL)
    try:
        yield
    finally:
        verbosity.set_verbosity(level)


def unloadable(name: str, kind: str, error: Exception) -> UserError:
    """The one-line error for a folder that `transformers` cannot load."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = (lines[0] if lines else type(error).__name__)[:200]
    if reason.endswith(":"):  # what follows is a list
        reason = " ".join(lines)[:200]
    if "trust_remote_code" in str(error):
        reason = "it needs its own code (auto_map), and code of a folder is never run"
    return UserError(f"{name}: no {kind} could be loaded ({reason})")


def require_named(path: str, what: str, file: str | None = None) -> None:
    """Refuses a path that is no folder, or has no `file`; other words may be names on the hub."""
    if path.startswith((".", "/", "~")) or Path(path).exists():
        if not Path(path).is_dir():
            raise UserError(f"{what} '{path}': no such folder")
        if file is not None and not (Path(path) / file).is_file():
            raise UserError(f"{what} '{path}': there is no {file} in this folder")


def _batches(texts: Iterable[Iterator[str]]) -> Iterator[list[tuple[str, bool]]]:
    """(part, whether it is the last of its text) of texts in parts, as many as fit a batch."""
    batch: list[tuple[str, bool]] = []
    size = 0
    for parts in texts:
        part = next(parts)
        for following in itertools.chain(parts, [None]):
            batch.append((part, following is None))
            size += len(part)
            if len(batch) >= CHUNK or size >= BATCH:
                yield batch
                batch, size = [], 0
            if following is not None:
                part = following
    if batch:
        yield batch


def _ahead(work: Callable[[Item], Result], items: Iterator[Item]) -> Iterator[Result]:
    """What work makes of each item, the next one meanwhile, in a thread where there are several."""
    held = list(itertools.islice(items, 2))
    if len(held) < 2:
        yield from map(work, held)
        return
    with ThreadPoolExecutor(1) as pool:
        pending = deque(pool.submit(work, item) for item in held)
        while pending:
            done = pending.popleft().result()
            pending.extend(pool.submit(work, item) for item in itertools.islice(items, 1))
            yield done


def _token_bytes(hf: Any, size: int, special: tuple[int, ...]) -> np.ndarray:
    """How many bytes of text each token stands for, (size,) int64; 0 for special tokens.

    Those of a text add up to its bytes for a lossless tokenizer, but for a space that it puts first
    (Llama 2).
    """
    description = json.loads(hf.backend_tokenizer.to_str())
    inside = description["model"].get("continuing_subword_prefix") or ""
    final = description["model"].get("end_of_word_suffix") or ""
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
            text = token if token in added else token.removeprefix(inside)
            if final and token not in added:
                text = text.replace(final, " ")
            lengths[index] = max(1, len(text.replace("▁", " ").encode()))
    lengths[list(special)] = 0
    return lengths
