"""Checkpoints as plain Hugging Face folders, and back.

Our own settings lie beside them in `run.yaml`, extra heads in `heads.safetensors`; nothing needs
remote code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lookaround import __version__
from lookaround.data.codec import Codec
from lookaround.model.backbone import Backbone
from lookaround.model.foreign import Source, load_model
from lookaround.model.heads import describe, spec_of
from lookaround.model.sizes import sizes_of
from lookaround.objectives.contract import Mode
from lookaround.support.errors import UserError
from lookaround.support.records import Amount, Count, Stored, checked, parsed

FORMS = ("llama", "eurobert")
HEADS_FILE = "heads.safetensors"


def require_form(form: str | None, modes: tuple[Mode, ...], config: Any = None) -> None:
    """Refuses a form that is unknown, would lie about these modes or does not fit these weights.

    config: of the model, once it is known.

    Raises UserError.
    """
    if form is not None and form not in FORMS:
        raise UserError(f"--as {form}: unknown form; known are {', '.join(FORMS)}")
    if form == "eurobert" and Mode("bidirectional", 0) not in modes and not _masked(modes):
        raise UserError(
            "--as eurobert: fill-mask reads the logits at the mask, but this objective trains the "
            f"model to predict otherwise ({'; '.join(map(str, modes))}); use --as llama"
        )
    if form is not None and config is not None and config.model_type != "llama":
        raise UserError(
            f"--as {form}: only Llama weights fit, this model is '{config.model_type}'; without "
            "--as it keeps its own class"
        )
    if form == "eurobert" and getattr(config, "mlp_bias", False):
        raise UserError(
            "--as eurobert: with mlp_bias its unembedding has a bias, which this model lacks; use "
            "--as llama"
        )


def _masked(modes: tuple[Mode, ...]) -> bool:
    return all(mode.attention == "bidirectional" for mode in modes)


def names_mask(config: Any, modes: tuple[Mode, ...], form: str | None = None) -> bool:
    """Whether an export may call its mask token one.

    An EuroBERT may not where the logits at a mask are not those of the token that it hides:
    `pipeline("fill-mask")` would misread them.

    config: of the model;
    form: as for `export`.
    """
    return not _as_eurobert(config, modes, form) or all(
        mode.shift == 0 for mode in modes if mode.attention == "bidirectional"
    )


def _as_eurobert(config: Any, modes: tuple[Mode, ...], form: str | None) -> bool:
    """Whether a Llama is written as EuroBERT: where it reads both ways alone, or as asked."""
    fits = config.model_type == "llama" and not config.mlp_bias and _masked(modes)
    return form == "eurobert" or (form is None and fits)


def export(
    backbone: Backbone,
    folder: Path,
    modes: tuple[Mode, ...],
    *,
    mask: int,
    form: str | None = None,
    objective: str | None = None,
    final_modes: tuple[Mode, ...] | None = None,
    context: int | None = None,
) -> None:
    """Writes a model as `save_pretrained` does into a folder, and its extra heads beside it.

    A model that was loaded keeps the precision of its files. config.json says under "lookaround"
    what the model was trained for.

    modes: what the model was trained for;
    mask: id of the mask token.
    form: "llama" (causal, or bidirectional by `is_causal: false`) or "eurobert" (both ways); None:
        EuroBERT for a Llama that reads both ways alone, else the model's own class.
    objective: spec of the objective; None: of no one objective.
    final_modes: those that the end of the budget trained; None: all.
    context: tokens of a row in training.

    Raises UserError for a form that would lie.
    """
    lm, file = backbone.lm, folder / "config.json"
    require_form(form, modes, lm.config)
    source = backbone.source
    dtype = source.dtype if source.dtype.itemsize < torch.float32.itemsize else lm.dtype
    eurobert, both_ways = _as_eurobert(lm.config, modes, form), _masked(modes)
    _save_pretrained(lm, folder, dtype)
    if eurobert:
        _eurobert_config(lm.config, mask).to_json_file(file)
    config = json.loads(file.read_text())
    for key in ("own_rows", "auto_map"):
        config.pop(key, None)
    config |= {"dtype": str(dtype).removeprefix("torch."), **source.dropouts}
    if not both_ways and config.get("is_causal") is False:  # of a model that read both ways before
        config = {k: v for k, v in config.items() if k not in ("is_causal", "use_cache")}
    elif both_ways and not eurobert and not source.encoder:
        config |= {"is_causal": False, "use_cache": False}
    if not names_mask(lm.config, modes, form):
        config["architectures"] = ["EuroBertModel"]
    if backbone.own_rows is not None:
        config["own_rows"] = backbone.own_rows
    config["lookaround"] = {
        "objective": objective,
        "modes": modes,
        "final_modes": final_modes or modes,
        "mask_token_id": mask,
        "context": context,
        "version": __version__,
    }
    rows = backbone.embedding.weight.shape[0]
    _write_config(file, config, rows)
    if not both_ways and lm.can_generate():
        # not by its own save_pretrained, which refuses what many published folders hold
        _write_config(folder / "generation_config.json", lm.generation_config.to_diff_dict(), rows)
    if len(backbone.heads):
        _save_heads(backbone, folder / HEADS_FILE)


def write_pooling(folder: Path, tokenizer: Codec, width: int) -> None:
    """Tells sentence-transformers how a text becomes one vector: the mean of its tokens' states.

    As in our own evaluation, BOS and EOS are seen and not pooled. Without this a causal model would
    be read at its last token.

    folder: of the model and the tokenizer;
    width: D of the last states.
    """
    # a module of weights by id: its words are the ids themselves
    silent = {str(token): 0.0 for token in (tokenizer.bos, tokenizer.eos) if token is not None}
    names = list(map(str, range(tokenizer.size)))
    modules: dict[str, dict[str, Any]] = {
        "Transformer": {},
        "WordWeights": {"vocab": names, "word_weights": silent, "unknown_word_weight": 1.0},
        # under these names every version knows them
        "Pooling": {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True},
    }
    told = []
    for number, (kind, config) in enumerate(modules.items()):
        path = f"{number}_{kind}" if config else ""
        told.append(
            {
                "idx": number,
                "name": str(number),
                "path": path,
                "type": f"sentence_transformers.models.{kind}",
            }
        )
        if path:
            (folder / path).mkdir(exist_ok=True)
            (folder / path / "config.json").write_text(json.dumps(config) + "\n")
    (folder / "modules.json").write_text(json.dumps(told, indent=2) + "\n")


def _save_pretrained(lm: Any, folder: Path, dtype: torch.dtype) -> None:
    """Writes the weights under the names of the hub, and config.json."""
    from transformers import GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would break up the study's own
    exact = {*(lm._keep_in_fp32_modules or ()), *(lm._keep_in_fp32_modules_strict or ())}
    # tied tensors must stay one
    converted: dict[tuple[Any, ...], Tensor] = {}
    weights = {}
    for name, tensor in lm.state_dict().items():
        kept = not tensor.is_floating_point() or exact & {*name.split(".")}
        to = tensor.dtype if kept else dtype
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), to)
        if key not in converted:
            converted[key] = tensor.detach().to("cpu", to)
        weights[name] = converted[key]
    generation = getattr(lm, "generation_config", None)
    lm.generation_config = GenerationConfig()
    try:
        lm.save_pretrained(folder, state_dict=weights)
    finally:
        lm.generation_config = generation
    (folder / "generation_config.json").unlink(missing_ok=True)


def _write_config(file: Path, config: dict[str, Any], rows: int) -> None:
    """Writes a configuration; one pad token that the model has no row for stays out of it."""
    if (config.get("pad_token_id") or 0) >= rows:
        config["pad_token_id"] = None
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


_Small = Annotated[int, Field(ge=0, le=4096)]


class _DescribedHead(Stored):
    """A head spec as `describe` gives it."""

    kind: str
    horizon: _Small | None = None
    window: _Small | None = None
    steps: _Small | None = None
    layers: _Small | None = None
    features: _Small | None = None
    replaces: _Small = 0


class _DescribedHeads(Stored):
    """The metadata of heads.safetensors, each entry JSON."""

    heads: list[_DescribedHead] = Field(min_length=1)
    width: Count | None = None
    vocabulary: Count | None = None
    model: dict[str, Amount] | None = None


def _save_heads(backbone: Backbone, file: Path) -> None:
    heads = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in backbone.heads.state_dict().items()
    }
    described = {
        "heads": json.dumps([describe(spec) for spec in backbone.head_specs]),
        "width": str(backbone.width),
        "vocabulary": str(_vocabulary(backbone.lm)),
        "model": json.dumps(_probe(backbone.lm)),
    }
    save_file(heads, file, metadata=described)


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
            told = handle.metadata() or {}
        fields = {k: parsed(told[k]) for k in _DescribedHeads.model_fields if k in told}
        described = checked(_DescribedHeads, fields, f"{file}: metadata")
        specs = tuple(spec_of(head.as_dict()) for head in described.heads)
        weights = load_file(file)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise UserError(f"{file}: truncated or foreign file ({reason})") from None
    own = {"width": sizes_of(lm).width, "vocabulary": _vocabulary(lm)}
    for name, value in own.items():
        given = getattr(described, name)
        if given not in (None, value):
            raise UserError(
                f"{file}: these heads belong to another model ({name} {given}, this one has "
                f"{value})"
            )
    if described.model is not None and not _same_weights(described.model, _probe(lm)):
        raise UserError(f"{file}: these heads belong to another model (its weights are not these)")
    broken = next((name for name in weights if not weights[name].isfinite().all()), None)
    if broken is not None:
        raise UserError(f"{file}: {broken} holds numbers that are not finite; it is damaged")
    try:
        backbone = Backbone(lm, specs, own_rows=getattr(lm.config, "own_rows", None), source=source)
        backbone.heads.load_state_dict(weights)
    except (RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
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
