"""A model ready to be read: a run of ours, a checkpoint of one, or a folder of Hugging Face's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from lookaround.data.text import TextTokenizer, load_tokenizer
from lookaround.model.backbone import Backbone, require_honest_attention, untrained
from lookaround.model.export import load
from lookaround.model.fingerprint import model_folder
from lookaround.objectives.contract import Mode
from lookaround.settings.sections import Reading
from lookaround.support.errors import UserError
from lookaround.support.machine import local_device
from lookaround.support.storage import read_mapping

RUN_FILE = "run.yaml"
ATTENTIONS = get_args(Reading)


def read_run(folder: Path) -> dict[str, Any]:
    """The fields of a run's run.yaml; raises UserError naming a bad one."""
    fields = {
        "modes": list,
        "context": int,
        "plan": dict,
        "data": dict,
        "settings": dict,
        "objective": str,
    }
    run = read_mapping(folder / RUN_FILE, fields)
    if run["context"] < 2:
        raise UserError(
            f"{folder / RUN_FILE}: context is {run['context']}; a window needs 2 tokens or more"
        )
    return run


@dataclass(frozen=True)
class Readable:
    """A trained model ready for use: backbone, tokenizer, modes, row length, and its run.yaml.

    final_modes: those that the end of the budget trained; a sequence may have forgotten the others.
    context: the training length of a run, the most positions of another model, or what was asked.
    folder: that it was read from; trees of drafts are described there.
    whole: whether a window always has `context` tokens, as the rows of a run's training; else as
        many as a text needs, up to that.
    """

    backbone: Backbone
    tokenizer: TextTokenizer
    modes: tuple[Mode, ...]
    final_modes: tuple[Mode, ...]
    context: int
    info: dict[str, Any] | None
    folder: Path | None = None
    whole: bool = True

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
        ids = {self.tokenizer.eos, *(named if isinstance(named, list) else [named])} - {None}
        return tuple(sorted(ids))

    @cached_property
    def unwritten(self) -> Tensor:
        """Ids (F,) that no text holds, on the CPU: special tokens but for EOS, the mask, and rows
        of the model beyond the tokenizer's.
        """
        vocabulary, rows = self.tokenizer.vocabulary, self.backbone.output.weight.shape[0]
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
    tokenizer = load_tokenizer(str(folder))
    source = folder if (folder / RUN_FILE).is_file() else folder.parent
    if (source / RUN_FILE).is_file():
        info = read_run(source)
        modes = tuple(Mode(*mode) for mode in info["modes"])
        final = tuple(Mode(*mode) for mode in info.get("final_modes", info["modes"]))
        run = Readable(backbone, tokenizer, modes, final, info["context"], info, folder)
    else:
        run = _from_config(folder, backbone, tokenizer)
    _require_rows(folder, run)
    if run.backbone.source.encoder:
        require_honest_attention(run.backbone, run.modes, packed=False)
    return run


def _from_config(folder: Path, backbone: Backbone, tokenizer: TextTokenizer) -> Readable:
    """What a folder without run.yaml tells in its config.json.

    An export of ours describes itself ("lookaround"). Of other folders, encoders predict a token in
    its own place, `is_causal: false` reads both ways, and the rest are causal.

    Raises UserError for a description that is damaged or not of this model and tokenizer.
    """
    file = folder / "config.json"
    config = json.loads(file.read_text())
    usual = Readable(backbone, tokenizer, (), (), backbone.limit, None, folder, whole=False)
    if "lookaround" not in config:
        # an EuroBERT is opened as a Llama
        in_place = backbone.source.encoder or config.get("model_type") == "eurobert"
        masked = in_place or config.get("is_causal") is False
        mode = Mode("bidirectional", 1 - in_place) if masked else Mode("causal", 1)
        return replace(usual, modes=(mode,), final_modes=(mode,))
    told = config["lookaround"] if isinstance(config["lookaround"], dict) else {}
    modes, final = (_modes(told.get(name), name, file) for name in ("modes", "final_modes"))
    if not {*final} <= {*modes}:
        raise UserError(f"{file}: lookaround.final_modes has a mode that lookaround.modes has not")
    mask, context = told.get("mask_token_id"), told.get("context")
    own = tokenizer.vocabulary.mask
    if mask != own and any(mode.attention == "bidirectional" for mode in modes):
        raise UserError(
            f"{file}: lookaround.mask_token_id is {mask!r}, the mask token of its tokenizer {own}"
        )
    run = replace(usual, modes=modes, final_modes=final)
    if context is None:
        return run
    if type(context) is not int or not 2 <= context <= backbone.limit:
        raise UserError(
            f"{file}: lookaround.context is {context!r}, must be 2 to {backbone.limit}, the "
            "positions of the model"
        )
    return replace(run, context=context, whole=True)


def _modes(given: Any, name: str, file: Path) -> tuple[Mode, ...]:
    """Modes as config.json holds them; raises UserError for anything else."""
    if isinstance(given, list) and given:
        pairs = [tuple(pair) if isinstance(pair, list) else () for pair in given]
        if all(
            len(pair) == 2 and pair[0] in ATTENTIONS and type(pair[1]) is int and pair[1] >= 0
            for pair in pairs
        ):
            return tuple(Mode(*pair) for pair in pairs)
    raise UserError(
        f"{file}: lookaround.{name} is {given!r}; must be pairs of an attention kind "
        f"({', '.join(ATTENTIONS)}) and a shift, such as "
        '[["causal", 1]]'
    )


def _require_rows(folder: Path, run: Readable) -> None:
    """Raises UserError for a tokenizer with tokens that the model has no row for."""
    tokenizer, own = run.tokenizer, len(run.backbone.output.weight)
    if tokenizer.rows > own:
        raise UserError(
            f"{folder}: its tokenizer has {tokenizer.rows} tokens, its model only {own} rows for "
            "them"
        )
    masked = any(mode.attention == "bidirectional" for mode in run.modes)
    if masked and tokenizer.vocabulary.mask >= len(run.backbone.embedding.weight):
        raise UserError(
            f"{folder}: is read with masks, and its tokenizer has no mask token; give it one"
        )
