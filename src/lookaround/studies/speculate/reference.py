"""A model as transformers alone makes it: what drafts are compared with.

V rows of the unembedding.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lookaround.decode.speculative import set_precision
from lookaround.model.backbone import Backbone
from lookaround.model.fingerprint import model_folder
from lookaround.model.foreign import FAILURES
from lookaround.support.errors import UserError
from lookaround.support.machine import available_memory


def open_reference(
    source: str | Path, backbone: Backbone, dtype: torch.dtype = torch.float32
) -> Any:
    """`AutoModelForCausalLM.from_pretrained(source)`, with a neutral generation configuration.

    A repetition penalty or beams of the source would be compared with, and timed. Rows that no
    softmax of ours holds are never written.
    backbone: ours, for its device and its `own_rows`.
    dtype: of the weights.

    Raises UserError where transformers makes no causal model of it.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig

    try:
        lm = AutoModelForCausalLM.from_pretrained(str(source), dtype=dtype, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(f"{source}: transformers makes no causal model of it ({reason})") from None
    rows = lm.get_output_embeddings().weight.shape[0]
    lm.generation_config = GenerationConfig(
        suppress_tokens=[*range(backbone.own_rows or rows, rows)] or None
    )
    return lm.to(backbone.device).eval().requires_grad_(False)


def has_causal_class(source: str) -> bool:
    """Whether transformers alone makes a causal model of a folder or name; not of an EuroBERT."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    return type(config) in AutoModelForCausalLM._model_mapping


# files of a tokenizer, whatever wrote it
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "additional_chat_templates/*",
    "vocab*",
    "merges*",
    "*.model",
    "*.tiktoken",
)


def copy_tokenizer(source: str, folder: Path) -> None:
    """Copies a tokenizer's files as they are: without tokens that were added for training."""
    origin = model_folder(source)
    for file in {file for pattern in TOKENIZER_FILES for file in origin.glob(pattern)}:
        if file.is_file():
            target = folder / file.relative_to(origin)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)


def transformers_generate(
    lm: Any, prompts: Sequence[Sequence[int]], new: int, eos: Sequence[int]
) -> list[list[int]]:
    """Greedy `model.generate` on prompts of equal length: the new tokens of each, up to its EOS."""
    ids = torch.tensor([list(prompt) for prompt in prompts], device=lm.device)
    made = lm.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        do_sample=False,
        use_cache=True,
        eos_token_id=list(eos) or None,
        pad_token_id=eos[0] if eos else 0,
    )
    ends = set(eos)
    return [
        text[: next((i + 1 for i, token in enumerate(text) if token in ends), new)]
        for text in made[:, ids.shape[1] :].tolist()
    ]


def to_float64(module: torch.nn.Module, lm: Any) -> None:
    """Puts a model, or what holds it, into float64; experts are then multiplied one by one.

    lm: the model of transformers. The grouped products of its experts know no float64.
    """
    set_precision(module, torch.float64)
    if hasattr(lm, "set_experts_implementation"):
        lm.set_experts_implementation("eager")


def why_not_float64(backbone: Backbone) -> str:
    """Why texts of this model cannot be compared in float64 on this machine; "" where they can.

    The memory is estimated first: a second model, of 8 bytes a parameter. Then a few tokens are
    read in float64. The model is left as it was.
    """
    lm = backbone.lm
    needed = 8 * sum(parameter.numel() for parameter in lm.parameters())
    free = available_memory(backbone.device)
    if needed > free:
        return f"float64 needs {needed / 2**30:.1f} GB of memory, and {free / 2**30:.1f} are free"
    dtype = lm.dtype
    experts = lm.get_experts_implementation() if hasattr(lm, "set_experts_implementation") else None
    ids = torch.arange(1, 5, device=lm.device)[None] % backbone.output.weight.shape[0]
    try:
        to_float64(lm, lm)
        with torch.inference_mode():
            lm(ids)
    except FAILURES as error:
        return f"float64 does not run in this architecture ({str(error).splitlines()[0][:100]})"
    finally:
        set_precision(lm, dtype)
        if experts is not None:
            lm.set_experts_implementation(experts)
    return ""


def require_same_export(
    written: Path, source: str | None, backbone: Backbone, prompts: Sequence[Sequence[int]]
) -> None:
    """Raises UserError where transformers makes another model of a written folder than it should.

    source: whose weights and logits it must have, both as transformers loads them. None: where the
        model was trained further; then it must have those in memory, up to rounding in the file.
    prompts: of equal length, to read.
    """
    ids = torch.tensor([list(prompt) for prompt in prompts], device=backbone.device)
    expected = backbone.lm if source is None else open_reference(source, backbone)
    weights, logits = expected.state_dict(), _logits(expected, ids)
    del expected
    lm = open_reference(written, backbone)
    found = lm.state_dict()
    lacking = sorted(weights.keys() ^ found.keys())
    tolerance = 0.0 if source else 1e-2
    other = lacking or [
        name
        for name, tensor in found.items()
        if tensor.shape != weights[name].shape
        or not torch.allclose(tensor, weights[name], rtol=tolerance, atol=tolerance * 1e-2)
    ]
    apart = 0.0 if other else float((_logits(lm, ids) - logits).abs().max() / logits.abs().max())
    if other or apart > (1e-5 if source else 1e-1):
        what = (
            f"weights ({', '.join(other[:3])})" if other else f"logits ({apart:.1g} of the largest)"
        )
        raise UserError(
            f"{written}: transformers reads other {what} there than in {source or 'memory'}, so "
            "nothing was published; please report this"
        )


@torch.inference_mode()
def _logits(lm: Any, ids: Tensor) -> Tensor:
    return lm(ids).logits.float()
