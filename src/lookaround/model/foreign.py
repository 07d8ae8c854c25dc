"""Models of others: opened exactly as they were saved, or refused by name.

    lm, source = load_model("answerdotai/ModernBERT-base")

What a model does beside a stock Llama is asked of the model itself: how its last step makes logits,
and which masks it takes.

V vocabulary, D hidden width.
"""

from __future__ import annotations

import copy
import inspect
import json
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookaround.data.text import unloadable
from lookaround.model.fingerprint import model_folder
from lookaround.model.heads import Output
from lookaround.model.masks import Masks, layer_types, maskless
from lookaround.objectives.contract import BIDIRECTIONAL, CAUSAL, Shown
from lookaround.support.errors import UserError
from lookaround.support.machine import require_memory
from lookaround.support.text import message_line, one_line, shown

# how forward calls of foreign code fail on input that they do not take
FAILURES = (TypeError, ValueError, AttributeError, RuntimeError, LookupError, AssertionError)
MOST_LAYERS = 1000
PROBE_TOKENS = 12
NARROW = 4  # the window that a sliding layer is asked with


@dataclass(frozen=True)
class Source:
    """What is known of a model that others saved.

    encoder: reads both ways and predicts a token in its own place.
    dtype: of its weights as they were saved.
    dropouts: fields of its config.json that are 0 here, as they were: training draws nothing.
    transforms: its states are changed before the unembedding, so that they are those which the
        unembedding gets (BERT), not those of the last layer.
    scale, cap: its last step, see `Output`.
    masks: how it takes attention patterns.
    still: its training mode draws at random (noise of a router) or takes no short texts, so that it
        is trained in evaluation mode.
    """

    encoder: bool = False
    dtype: torch.dtype = torch.float32
    dropouts: dict[str, Any] = field(default_factory=dict)
    transforms: bool = False
    scale: float = 1.0
    cap: float | None = None
    masks: Masks = field(default_factory=Masks)
    still: bool = False


def load_model(path: str) -> tuple[Any, Source]:
    """The model of a folder or name in float32, exactly as it was saved, and what it does.

    A causal LM, or an encoder with its masked-LM head. An EuroBERT folder is read as a Llama, with
    the same keys. Code of a folder is never run. A pooler or another head that the class lacks is
    left out and named in the log. Dropout is off.

    Raises UserError where nothing can be loaded, where weights are missing, left over or of another
    shape, and where logits are not the unembedding of some states, scaled or capped.
    """
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
        LlamaConfig,
        LlamaForCausalLM,
    )
    from transformers.utils import logging as verbosity

    name = f"model '{path}'"
    folder = model_folder(path)
    if not (folder / "config.json").is_file():
        raise UserError(f"{name}: no checkpoint here (config.json is missing)")
    if not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
        raise UserError(
            f"{name}: no checkpoint here (model.safetensors is missing, and no other file of "
            "weights is there)"
        )
    _require_bounded(folder / "config.json")
    verbosity.disable_progress_bar()  # it would break up the study's own
    level = verbosity.get_verbosity()
    verbosity.set_verbosity(verbosity.CRITICAL)  # errors are reported below, in one line
    exactly: dict[str, Any] = {
        "dtype": torch.float32,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # they are refused below, by name
    }
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        dtype = getattr(config, "dtype", None) or torch.float32
        encoder = _is_encoder(config, name)
        if config.model_type == "eurobert":
            known = {*LlamaConfig().to_dict(), "own_rows", "lookaround"} - {"model_type"}
            fields = {key: value for key, value in config.to_dict().items() if key in known}
            config = LlamaConfig(**fields)
            load: Any = LlamaForCausalLM
        else:
            load = AutoModelForMaskedLM if encoder else AutoModelForCausalLM
            exactly["trust_remote_code"] = False
        config = copy.deepcopy(config)
        dropouts = _without_dropout(config)
        _require_room(load, config, folder, name)
        lm, info = load.from_pretrained(folder, config=config, **exactly)
    except UserError:
        raise
    except Exception as error:
        raise unloadable(name, "causal LM or masked LM", error) from None
    finally:
        verbosity.set_verbosity(level)
    for module in lm.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    _require_whole(path, lm, info)
    own, rows = getattr(lm.config, "own_rows", None), lm.get_output_embeddings().weight.shape[0]
    if own is not None and (type(own) is not int or not 0 < own <= rows):
        raise UserError(f"{name}: own_rows of its config.json is {own!r}, must be 1 to {rows}")
    _require_ends(lm, folder)
    step = last_step(lm, name, encoder)
    source = Source(encoder, dtype, dropouts, *step, _masks_of(lm, encoder))
    _require_own_reading(lm, source, name)
    return lm, replace(source, still=_must_be_still(lm, source))


def _require_bounded(file: Path) -> None:
    """Raises UserError for a config.json of very many layers, which could not even be counted."""
    try:
        fields = [json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, RecursionError):  # which loading says better
        return
    for part in fields:
        for key, value in part.items() if isinstance(part, dict) else ():
            if isinstance(value, dict):
                fields.append(value)
            elif type(value) is int and value > MOST_LAYERS and "layer" in key:
                raise UserError(
                    f"{file}: {one_line(key, 60)} is {shown(value)}; a model has {MOST_LAYERS:,} "
                    "at most"
                )


def _require_room(load: Any, config: Any, folder: Path, name: str) -> None:
    """Raises UserError where the model of a configuration does not fit into memory in float32, or
    is far larger than its files.
    """
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make = getattr(load, "from_config", load)
        lm = make(copy.deepcopy(config))
    parameters = sum(parameter.numel() for parameter in lm.parameters())
    files = {file for kind in ("*.safetensors", "*.bin") for file in folder.glob(kind)}
    held = sum(file.stat().st_size for file in files)
    if parameters > max(2 * held, 10**8):  # the rest would be drawn at random before it is refused
        raise UserError(
            f"{name}: its config.json describes {parameters:,} parameters, and its files of "
            f"weights hold {held:,} bytes; weights are missing, or its sizes are wrong"
        )
    require_memory(4 * parameters, torch.device("cpu"), name, "take a smaller model")


def _is_encoder(config: Any, name: str) -> bool:
    """Whether a configuration is of an encoder; raises UserError for what is no LM."""
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
    )

    if getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"{name}: '{config.model_type}' is an encoder-decoder; causal LMs and encoders with a "
            "masked-LM head can be opened"
        )
    masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING and config.model_type != "eurobert"
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    return masked and not (causal and getattr(config, "is_decoder", False))


def _without_dropout(config: Any) -> dict[str, Any]:
    """Turns off the dropout of a configuration, layer drop too; returns what it was."""
    before = {}
    for one in {id(c): c for c in (config, config.get_text_config())}.values():
        for name, value in one.to_dict().items():
            if "drop" in name and type(value) in (int, float) and value > 0:
                before[name] = value
                setattr(one, name, 0.0)
    return before


def _require_whole(path: str, lm: Any, info: dict[str, Any]) -> None:
    """Raises UserError unless the files hold the weights of this class, poolers and heads aside."""
    trunk = {lm.base_model_prefix, *dict(lm.base_model.named_children())}
    output = name_of(lm, lm.get_output_embeddings())
    left_out = {
        key
        for key in info["unexpected_keys"]
        if "pooler" in key.split(".")
        or not (
            {key.split(".")[0]} & trunk
            or key.startswith(f"{output}.")
            or any(part.isdecimal() for part in key.split("."))  # of one of several layers
        )
    }
    shapes = [
        f"{key} {tuple(found)} for {tuple(own)}" for key, found, own in info["mismatched_keys"]
    ]
    for names, what in (
        (shapes, "of another shape than its config.json says"),
        (info["missing_keys"], "missing from its files"),
        (info["unexpected_keys"] - left_out, "in its files and not in its architecture"),
        (info["error_msgs"], "not loaded"),
    ):
        if names:
            raise UserError(
                f"model '{path}': {len(names)} weights of {type(lm).__name__} are {what} "
                f"({_few(names)}); nothing is drawn at random in their place"
            )
    if left_out:
        say_once(
            f"model '{path}': left out, since {type(lm).__name__} has no place for it: "
            f"{_few(left_out)}"
        )


@cache
def say_once(message: str) -> None:
    """A warning, but for one that was said before in this process."""
    logging.getLogger(__name__).warning("%s", message_line(message))


def _few(names: Iterable[str]) -> str:
    """The first three of some names, in order."""
    ordered = sorted(map(str, names))
    return ", ".join(ordered[:3]) + (", .." if len(ordered) > 3 else "")


def _require_ends(lm: Any, folder: Path) -> None:
    """Raises UserError for a generation_config.json that ends texts with what is no token."""
    named = getattr(getattr(lm, "generation_config", None), "eos_token_id", None)
    ids = named if isinstance(named, list) else [] if named is None else [named]
    if not all(type(token) is int and token >= 0 for token in ids):
        raise UserError(
            f"{folder / 'generation_config.json'}: eos_token_id is {named!r}, must be a token id "
            "or a list of them"
        )


def name_of(lm: nn.Module, module: nn.Module) -> str:
    """The dotted name of a module within a model."""
    return next(name for name, each in lm.named_modules() if each is module)


@contextmanager
def reading(module: nn.Module) -> Iterator[None]:
    """A module in evaluation mode and without gradients; afterwards it trains if it did before."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


# ---------------------------------------------------------------------------- from states to logits


@contextmanager
def without_unembedding(lm: Any) -> Iterator[None]:
    """A model whose "logits" are the states that its unembedding gets."""
    output = lm.get_output_embeddings()
    parent, _, name = name_of(lm, output).rpartition(".")
    holder = lm.get_submodule(parent)
    setattr(holder, name, nn.Identity())
    try:
        yield
    finally:
        setattr(holder, name, output)


def last_step(lm: Any, name: str, encoder: bool = False) -> tuple[bool, float, float | None]:
    """(transforms, scale, cap) of a model's step from states to logits (see `Source`).

    A scale is found by least squares, a cap among the numbers of the configuration; both are held
    against the model's own logits. Raises UserError where no such step gives them.
    """
    ids = _probe_ids(lm, 8)
    plain: dict[str, Any] = {} if encoder else {"use_cache": False}
    output = lm.get_output_embeddings()
    close = 1e-4 if torch.finfo(lm.dtype).bits >= 32 else 2e-2  # what rounding leaves
    try:
        with reading(lm):
            logits = lm(ids, **plain).logits.double()
    except FAILURES as error:
        raise unloadable(name, "model that reads tokens alone", error) from None
    if not bool(logits.isfinite().all()):
        raise UserError(f"{name}: its logits are not finite; some of its weights are not numbers")
    with reading(lm):
        if not encoder:
            with suppress(*FAILURES):  # then it is asked the other way
                states = lm.base_model(ids, **plain).last_hidden_state
                found = Output(output.weight, output.bias).logits(states).double()
                for cap in (None, *_caps(lm.config)):
                    scale = _scale(found, logits, cap, lm.config, close)
                    if _agree(found * scale, logits, close, cap):
                        return False, scale, cap
        with suppress(*FAILURES), without_unembedding(lm):
            states = lm(ids, **plain).logits
            if _agree(Output(output.weight, output.bias).logits(states).double(), logits, close):
                return True, 1.0, None
    raise UserError(
        f"{name}: its logits are not its unembedding of some states, scaled or capped; such a "
        "model cannot be read exactly"
    )


def _agree(ours: Tensor, logits: Tensor, close: float, cap: float | None = None) -> bool:
    if cap is not None:
        ours = cap * torch.tanh(ours / cap)
    return float((ours - logits).abs().max()) <= close * (float(logits.abs().max()) or 1.0)


def _numbers(config: Any) -> Iterator[tuple[str, float]]:
    """The positive numbers of a configuration by name."""
    for name, value in config.get_text_config().to_dict().items():
        if type(value) in (int, float) and 0 < value < 1e300:  # JSON has whole numbers of any size
            yield name, float(value)


def _caps(config: Any) -> list[float]:
    """Numbers of a configuration that may cap its logits."""
    return [value for name, value in _numbers(config) if "cap" in name and "attn" not in name]


def _scale(found: Tensor, logits: Tensor, cap: float | None, config: Any, close: float) -> float:
    """The factor from unscaled logits to a model's own: a number of its configuration if it can."""
    if cap is not None:
        share = logits / cap
        inside = share.abs() < 0.99
        found, logits = found[inside], cap * torch.atanh(share[inside])
    fitted = float((found * logits).sum() / found.square().sum().clamp(min=1e-30))
    named = [1.0, *(x for _, value in _numbers(config) for x in (value, 1 / value))]
    nearest = min(named, key=lambda x: abs(fitted / x - 1))
    return nearest if abs(fitted / nearest - 1) <= close else fitted


# -------------------------------------------------------------------------------------------- masks


def _probe_ids(lm: Any, width: int) -> Tensor:
    """Some tokens (1, width) that a model has rows for, none of them padding."""
    rows = lm.get_input_embeddings().weight.shape[0]
    pad = getattr(lm.config, "pad_token_id", None)
    ids = [token % rows for token in range(1, 2 * width + 2)]
    chosen = [token for token in ids if token != pad] or ids
    return torch.tensor([chosen[:width]], device=lm.device)


@contextmanager
def narrowed(lm: Any) -> Iterator[None]:
    """A model whose sliding layers see NARROW tokens, so that a short text says what they do."""
    config, before = lm.config.get_text_config(), {}
    for name in ("sliding_window", "local_attention"):
        if type(getattr(config, name, None)) is int:
            before[name] = getattr(config, name)
    try:
        for name in before:
            try:
                setattr(config, name, NARROW)
            except AttributeError:  # a property of the other
                before = {key: value for key, value in before.items() if key != name}
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


def _masks_of(lm: Any, encoder: bool) -> Masks:
    """How a model takes masks: the first way in which a mask of ours changes nothing.

    The pattern that the model keeps of itself is asked for with a mask and without. Sliding layers
    are asked with a narrow window, since masks are made from the configuration.
    """
    config = lm.config.get_text_config()
    types = set(layer_types(config))
    positions = not encoder and _takes(lm.base_model, "position_ids")
    forms = [("single", False), ("padding", False)]
    if types != {"full_attention"}:
        forms.insert(0, ("typed" if len(types) > 1 else "single", True))
    ids = _probe_ids(lm, PROBE_TOKENS)
    shown = Shown(ids, BIDIRECTIONAL if encoder else CAUSAL)
    one = Shown(ids, shown.attention, torch.zeros_like(ids))
    with narrowed(lm), reading(lm):
        for form, windows in forms:
            source = Source(encoder, masks=Masks(form, windows, encoder, positions))
            try:
                pure, told = (states_of(lm, source, each) for each in (shown, one))
            except (*FAILURES, UserError):
                continue
            if float((pure - told).abs().max()) <= 1e-4 * (float(pure.abs().max()) or 1.0):
                return source.masks
    return Masks("none", False, encoder)


def states_of(
    lm: Any,
    source: Source,
    shown: Shown,
    *,
    all_layers: bool = False,
    embedded_btd: Tensor | None = None,
) -> Any:
    """Hidden states (B, T, D) that a model's unembedding gets; with all_layers, of every layer.

    embedded_btd: what the model reads in place of the embeddings of its ids.

    Raises UserError for a pattern, or positions, that the model cannot be told.
    """
    config = lm.config
    arguments = source.masks.arguments(
        shown, config.get_text_config(), config._attn_implementation, lm.dtype
    )
    if not source.encoder:
        arguments["use_cache"] = False
    if shown.positions is not None:
        if source.encoder or not _takes(lm.base_model, "position_ids"):
            raise UserError(
                f"model '{config.model_type}': cannot be told positions, so it reads no rows in "
                "another order (rar)"
            )
        arguments["position_ids"] = shown.positions
    ids = "input_ids" if embedded_btd is None else "inputs_embeds"
    arguments[ids] = shown.input_ids if embedded_btd is None else embedded_btd
    with maskless(config):
        if all_layers:
            arguments["output_hidden_states"] = True
            return lm.base_model(**arguments).hidden_states
        if source.transforms:
            with without_unembedding(lm):
                return lm(**arguments).logits
        return lm.base_model(**arguments).last_hidden_state


def _must_be_still(lm: Any, source: Source) -> bool:
    """Whether a model's training mode draws random numbers, or fails."""
    shown = Shown(_probe_ids(lm, PROBE_TOKENS), BIDIRECTIONAL if source.encoder else CAUSAL)
    with torch.random.fork_rng(devices=[]), reading(lm):
        before = torch.random.get_rng_state()
        lm.train()
        try:
            states_of(lm, source, shown)
        except FAILURES:
            return True
        return not torch.equal(before, torch.random.get_rng_state())


def _require_own_reading(lm: Any, source: Source, name: str) -> None:
    """Raises UserError where a model reads otherwise by itself than it is read here."""
    causal = not source.encoder and getattr(lm.config, "is_causal", True) is not False
    ids, output = _probe_ids(lm, PROBE_TOKENS), lm.get_output_embeddings()
    shown = Shown(ids, CAUSAL if causal else BIDIRECTIONAL)
    try:
        with reading(lm):
            logits = lm(ids).logits.double()
            states = states_of(lm, source, shown)
            ours = Output(output.weight, output.bias, source.scale).logits(states).double()
    except FAILURES as error:
        raise unloadable(name, "model that reads tokens alone", error) from None
    if not _agree(ours, logits, 1e-4, source.cap):
        raise UserError(
            f"{name}: does not read a text {'from left to right' if causal else 'both ways'} by "
            f"itself, as a {type(lm).__name__} should (is_decoder or is_causal of its config.json?)"
        )


def _takes(module: nn.Module, argument: str) -> bool:
    """Whether a module's forward has an argument of this name."""
    return argument in inspect.signature(type(module).forward).parameters
