"""Checkpoints as plain Hugging Face folders, and back.

Our own settings lie beside them in `run.yaml`, extra heads in `heads.safetensors`; nothing needs
remote code.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from lookaround.model.backbone import Backbone
from lookaround.model.foreign import Source, load_model
from lookaround.model.heads import describe, spec_of
from lookaround.objectives.contract import Mode
from lookaround.support.errors import UserError

FORMS = ("llama", "eurobert")
HEADS_FILE = "heads.safetensors"


def default_form(modes: tuple[Mode, ...], model_type: str) -> str:
    """The export form of a model with these modes: "eurobert" for filling masks, else "llama"."""
    in_place = all(mode == Mode("bidirectional", 0) for mode in modes)
    return "eurobert" if in_place and model_type == "llama" else "llama"


def require_form(form: str | None, modes: tuple[Mode, ...], model_type: str) -> None:
    """Raises UserError for a form that is unknown or would lie about these modes."""
    if form is not None and form not in FORMS:
        raise UserError(f"--as {form}: unknown form; known are {', '.join(FORMS)}")
    if form == "eurobert" and Mode("bidirectional", 0) not in modes:
        raise UserError(
            "--as eurobert: fill-mask reads the logits at the mask, but this objective trains the "
            f"model to predict otherwise ({'; '.join(map(str, modes))}); use --as llama"
        )
    if form == "eurobert" and model_type != "llama":
        raise UserError(f"--as eurobert: only Llama weights fit, this model is '{model_type}'")


def export(
    backbone: Backbone, folder: Path, modes: tuple[Mode, ...], *, mask: int, form: str | None = None
) -> None:
    """Writes config.json, model.safetensors and, with extra heads, heads.safetensors into a folder.

    modes: what the model was trained for;
    mask: id of the mask token.
    form: "llama" (causal, or bidirectional by `is_causal: false`) or "eurobert"
        (AutoModelForMaskedLM, fill-mask).

    Raises UserError for a form that would lie.
    """
    require_form(form, modes, backbone.lm.config.model_type)
    form = form or default_form(modes, backbone.lm.config.model_type)
    config = copy.deepcopy(backbone.lm.config)
    causal = any(mode.attention != "bidirectional" for mode in modes)
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in backbone.lm.state_dict().items()
    }
    if config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    if form == "eurobert":
        config = _eurobert_config(config, mask)
    elif not causal:
        config.is_causal = False
        config.use_cache = False
    if backbone.own_rows is not None or hasattr(config, "own_rows"):
        config.own_rows = backbone.own_rows
    config.save_pretrained(folder)
    if form == "llama" and causal and hasattr(backbone.lm, "generation_config"):
        backbone.lm.generation_config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    if len(backbone.heads):
        heads = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in backbone.heads.state_dict().items()
        }
        specs = [describe(spec) for spec in backbone.head_specs]
        described = {
            "heads": json.dumps(specs),
            "width": str(backbone.width),
            "vocabulary": str(_vocabulary(backbone.lm)),
            "model": json.dumps(_probe(backbone.lm)),
        }
        save_file(heads, folder / HEADS_FILE, metadata=described)


def _eurobert_config(config: Any, mask: int) -> Any:
    """The EuroBERT configuration of a Llama one: key for key the same model, read both ways.

    Every field is copied, since defaults differ (rms_norm_eps 1e-6 against 1e-5).
    """
    from transformers import EuroBertConfig

    fields = {
        key: value for key, value in config.to_dict().items() if key in EuroBertConfig().to_dict()
    }
    for key in ("model_type", "architectures", "transformers_version"):
        fields.pop(key, None)
    return EuroBertConfig(**fields, mask_token_id=mask, architectures=["EuroBertForMaskedLM"])


def load(folder: Path) -> Backbone:
    """The backbone of an exported folder with its heads; raises UserError naming the bad file."""
    lm, source = load_model(str(folder))
    backbone = load_heads(folder, lm, source) or Backbone(
        lm, own_rows=getattr(lm.config, "own_rows", None), source=source
    )
    return backbone.to(torch.float32)


def load_heads(folder: Path, lm: Any, source: Source | None = None) -> Backbone | None:
    """The model with a folder's extra heads, None without; raises UserError for another model's."""
    file = folder / HEADS_FILE
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as handle:
            described = handle.metadata() or {}
        specs = tuple(map(spec_of, json.loads(described["heads"])))
        weights = load_file(file)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: truncated or foreign file ({str(error).splitlines()[0][:120]})"
        ) from None
    own = {
        "width": str(lm.config.get_text_config().hidden_size),
        "vocabulary": str(_vocabulary(lm)),
    }
    for name, value in own.items():
        if described.get(name, value) != value:
            raise UserError(
                f"{file}: these heads belong to another model ({name} {described[name]}, this one "
                f"has {value})"
            )
    if "model" in described and not _same_weights(json.loads(described["model"]), _probe(lm)):
        raise UserError(f"{file}: these heads belong to another model (its weights are not these)")
    try:
        backbone = Backbone(lm, specs, own_rows=getattr(lm.config, "own_rows", None), source=source)
        backbone.heads.load_state_dict(weights)
    except (RuntimeError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: these heads do not fit this model ({str(error).splitlines()[0][:120]})"
        ) from None
    return backbone


def _vocabulary(lm: Any) -> int:
    return int(lm.get_output_embeddings().weight.shape[0])


def _probe(lm: Any) -> dict[str, float]:
    """The mean size of the first 256 values of every tensor, nearly equal in any precision."""
    return {
        name: float(tensor.detach().flatten()[:256].float().abs().mean())
        for name, tensor in lm.state_dict().items()
    }


def _same_weights(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(
        abs(one[n] - other[n]) <= 5e-3 * abs(one[n]) for n in one
    )
