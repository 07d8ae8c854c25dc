"""A model ready to be read: a run of ours, a checkpoint of one, or a folder of Hugging Face's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from lookaround.data.codecs import AnyCodec, load_codec
from lookaround.data.patches import CODEBOOK_FILE, PatchCodec
from lookaround.data.text import TextTokenizer
from lookaround.model.backbone import Backbone, require_honest_attention, untrained
from lookaround.model.export import load
from lookaround.model.fingerprint import model_folder
from lookaround.objectives.contract import Mode
from lookaround.settings.sections import DataSettings, Reading
from lookaround.support.errors import UserError
from lookaround.support.machine import local_device
from lookaround.support.records import (
    Amount,
    Count,
    Positive,
    Stored,
    checked,
    read_plain,
    read_record,
)

RUN_FILE = "run.yaml"
ATTENTIONS = get_args(Reading)


def _mode(pair: list[Any]) -> list[Any]:
    """The pair of a mode as JSON has it; raises ValueError for anything else."""
    if len(pair) == 2 and pair[0] in ATTENTIONS and type(pair[1]) is int and 0 <= pair[1] < 1 << 20:
        return pair
    raise ValueError(
        f'an attention kind ({", ".join(ATTENTIONS)}) and a shift, such as ["causal", 1]'
    )


_Modes = Annotated[list[Annotated[list[Any], AfterValidator(_mode)]], Field(min_length=1)]


class _Reads(Stored):
    """How a model was trained to be read."""

    modes: _Modes
    final_modes: _Modes | None = None

    @model_validator(mode="after")
    def _ends_with_what_it_trains(self) -> Self:
        if any(mode not in self.modes for mode in self.final_modes or ()):
            raise ValueError("field 'final_modes' has a mode that 'modes' has not")
        return self

    @property
    def all(self) -> tuple[Mode, ...]:
        """Every mode that was trained."""
        return tuple(Mode(*mode) for mode in self.modes)

    @property
    def final(self) -> tuple[Mode, ...]:
        """Those that the end of the budget trained."""
        return tuple(Mode(*mode) for mode in self.final_modes or self.modes)


class _Described(_Reads):
    """What config.json of an export says under "lookaround" (model/export.py, export)."""

    mask_token_id: int | None = None
    context: Annotated[Count, Field(ge=2)] | None = None


class StoredPlan(Stored):
    """Steps of each phase of an objective, and each phase's share of the budget."""

    shares: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    steps: list[Annotated[Count, Field(ge=1)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _a_share_each(self) -> Self:
        if len(self.shares) != len(self.steps):
            raise ValueError(
                f"field 'shares' has {len(self.shares)} entries, 'steps' {len(self.steps)}; "
                "expected one of each for every phase"
            )
        return self


class Spent(Stored):
    """What a run has used."""

    step: Count
    tokens: Count
    targets: Count
    flops: Amount
    seconds: Amount


class _Data(Stored):
    """The text of a run."""

    corpus: str | None = None
    fingerprint: str | None = None
    corpus_fingerprint: str | None = None
    split_seed: int | None = None


class _Settings(Stored):
    """Settings of a run, as far as they are read again."""

    data: DataSettings | None = None


class StoredRun(_Reads):
    """run.yaml beside the weights of a run (train/run.py, run_info)."""

    lookaround: str | None = None
    objective: str
    context: Annotated[Count, Field(ge=2)]
    seed: int | None = None
    learning_rate: Positive | None = None
    plan: StoredPlan
    data: _Data
    settings: _Settings
    status: Literal["running", "finished"] | None = None
    spent: Spent | None = None
    tracked: str | None = None

    @model_validator(mode="after")
    def _finished_has_spent(self) -> Self:
        if self.status == "finished" and self.spent is None:
            raise ValueError("field 'spent' is missing; expected an object of a finished run")
        return self


def read_run(folder: Path) -> StoredRun:
    """A run's run.yaml; raises UserError naming a bad field."""
    return read_record(folder / RUN_FILE, StoredRun)


@dataclass(frozen=True)
class Readable:
    """A trained model ready for use: backbone, codec, modes, row length, and its run.yaml.

    final_modes: those that the end of the budget trained; a sequence may have forgotten the others.
    context: the training length of a run, the most positions of another model, or what was asked.
    folder: that it was read from; trees of drafts are described there.
    whole: whether a window always has `context` tokens, as the rows of a run's training; else as
        many as a text needs, up to that.
    """

    backbone: Backbone
    codec: AnyCodec
    modes: tuple[Mode, ...]
    final_modes: tuple[Mode, ...]
    context: int
    info: dict[str, Any] | None
    folder: Path | None = None
    whole: bool = True

    @property
    def tokenizer(self) -> TextTokenizer:
        """The codec of a model of text; raises UserError for a model of pictures."""
        if isinstance(self.codec, TextTokenizer):
            return self.codec
        raise UserError(
            f"{self.folder or 'this model'}: is a model of pictures, and this is of texts; "
            "lookaround evaluate reads it"
        )

    def untrained(self, seed: int) -> Readable:
        """The same network before training, read in the same ways."""
        backbone = untrained(self.backbone, seed).to(self.backbone.device)
        return replace(self, backbone=backbone, info=None)

    def window(self, tokens: int) -> int:
        """The width of the window that so many tokens are read through."""
        return self.context if self.whole else min(self.context, tokens)

    def through(self, context: int | None, setting: str) -> Readable:
        """The same model read through another window; None: as it is.

        setting: names the context in errors.

        Raises UserError for more positions than the model has.
        """
        if context is None:
            return self
        if context > self.backbone.limit:
            raise UserError(
                f"{setting}: {context} is longer than the {self.backbone.limit} positions of "
                f"{self.folder}"
            )
        return replace(self, context=context)

    @cached_property
    def eos(self) -> tuple[int, ...]:
        """Ids that end a text: the tokenizer's EOS, and those of the model's generation_config."""
        config = getattr(self.backbone.lm, "generation_config", None)
        named = getattr(config, "eos_token_id", None)
        ids = {self.codec.eos, *(named if isinstance(named, list) else [named])} - {None}
        return tuple(sorted(ids))

    @cached_property
    def unwritten(self) -> Tensor:
        """Ids (F,) that no text holds, on the CPU: special tokens but for EOS, the mask, and rows
        of the model beyond the tokenizer's.
        """
        vocabulary, rows = self.codec.vocabulary, self.backbone.output.weight.shape[0]
        ids = [*vocabulary.unwritten(*self.eos), *range(vocabulary.size, rows)]
        return torch.tensor([token for token in ids if token < rows], dtype=torch.int64)

    def mode_for_generation(self, asked: str | None = None) -> Mode:
        """The mode of an attention kind, else the usual one; raises UserError for an untrained."""
        return self.require_mode(asked) if asked else generation_mode(self.final_modes)

    def require_mode(self, asked: str) -> Mode:
        """The mode of an attention kind; raises UserError for a kind that was not trained."""
        for mode in self.modes:
            if mode.attention == asked:
                return mode
        raise UserError(
            f"mode '{asked}': this model was trained for {'; '.join(map(str, self.modes))}"
        )


def generation_mode(modes: Sequence[Mode]) -> Mode:
    """The last causal mode, else the last prefix mode, else the first of the largest shift.

    Of causal modes, one that predicts the next token comes before those that look further ahead.
    """
    by_kind = {mode.attention: mode for mode in sorted(modes, key=lambda mode: mode.shift == 1)}
    by_shift = max(modes, key=lambda mode: mode.shift)
    return by_kind.get("causal") or by_kind.get("prefix") or by_shift


def classification_mode(modes: Sequence[Mode]) -> Mode:
    """The last bidirectional mode, else the last prefix mode, else the last mode."""
    by_kind = {mode.attention: mode for mode in modes}
    return by_kind.get("bidirectional") or by_kind.get("prefix") or modes[-1]


def open_run(path: str | Path) -> Readable:
    """Opens a run, its checkpoint, or a model's folder or name on the hub; raises UserError."""
    folder = model_folder(path)
    backbone = load(folder).to(local_device())
    codec = load_codec(folder)
    source = folder if (folder / RUN_FILE).is_file() else folder.parent
    if (source / RUN_FILE).is_file():
        told = read_run(source)
        info = told.as_dict()
        run = Readable(backbone, codec, told.all, told.final, told.context, info, folder)
        _require_positions(run, source / RUN_FILE, "context")
    else:
        run = _from_config(folder, backbone, codec)
    _require_rows(folder, run)
    if run.backbone.source.encoder:
        require_honest_attention(run.backbone, run.modes, packed=False)
    return run


def _from_config(folder: Path, backbone: Backbone, codec: AnyCodec) -> Readable:
    """What a folder without run.yaml tells in its config.json.

    An export of ours describes itself ("lookaround"). Of other folders, encoders predict a token in
    its own place, `is_causal: false` reads both ways, and the rest are causal.

    Raises UserError for a description that is damaged or not of this model and tokenizer.
    """
    file = folder / "config.json"
    config = read_plain(file)
    usual = Readable(backbone, codec, (), (), backbone.limit, None, folder, whole=False)
    if "lookaround" not in config:
        # an EuroBERT is opened as a Llama
        in_place = backbone.source.encoder or config.get("model_type") == "eurobert"
        masked = in_place or config.get("is_causal") is False
        mode = Mode("bidirectional", 1 - in_place) if masked else Mode("causal", 1)
        return replace(usual, modes=(mode,), final_modes=(mode,))
    told = checked(_Described, config["lookaround"], f"{file}: lookaround")
    mask, own = told.mask_token_id, codec.vocabulary.mask
    if mask != own and any(mode.attention == "bidirectional" for mode in told.all):
        raise UserError(
            f"{file}: lookaround.mask_token_id is {mask!r}, the mask token of its tokenizer {own}"
        )
    run = replace(usual, modes=told.all, final_modes=told.final)
    if told.context is not None:
        run = replace(run, context=told.context, whole=True)
        _require_positions(run, file, "lookaround.context")
    return run


def _require_positions(run: Readable, file: Path, field: str) -> None:
    """Raises UserError for a training length that the model has no positions for."""
    if run.context > run.backbone.limit:
        raise UserError(
            f"{file}: {field} is {run.context}, must be 2 to {run.backbone.limit}, the positions "
            "of the model"
        )


def _require_rows(folder: Path, run: Readable) -> None:
    """Raises UserError for a tokenizer with tokens that the model has no row for, and for codes of
    pictures that are not as many as the model's.
    """
    codec, own = run.codec, len(run.backbone.output.weight)
    if isinstance(codec, PatchCodec) and codec.rows != own:
        raise UserError(
            f"{folder / CODEBOOK_FILE}: has {codec.bos} codes, its model {own - 2}; give its own"
        )
    if codec.rows > own:
        raise UserError(
            f"{folder}: its tokenizer has {codec.rows} tokens, its model only {own} rows for them"
        )
    masked = any(mode.attention == "bidirectional" for mode in run.modes)
    if masked and codec.vocabulary.mask >= len(run.backbone.embedding.weight):
        raise UserError(
            f"{folder}: is read with masks, and its tokenizer has no mask token; give it one"
        )
