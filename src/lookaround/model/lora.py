"""Low-rank adapters on a decoder through peft (`pip install "lookaround[lora]"`)."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from lookaround.support.errors import UserError


def require_lora(lm: Any) -> None:
    """Raises UserError where peft is not installed, and for a model that adapters do not fit."""
    if find_spec("peft") is None:
        raise UserError('speculate.lora: needs peft; pip install "lookaround[lora]"')
    fused = any(isinstance(module, nn.Conv1d) for module in lm.modules())
    if fused or not _maps(lm):
        reason = (
            "has fused state-space layers, which pass adapters by"
            if fused
            else "has no linear maps that adapters could be put beside"
        )
        raise UserError(
            f"speculate.lora: model '{lm.config.model_type}' {reason}; leave --lora out"
        )


def _maps(lm: Any) -> list[str]:
    """The names of all linear maps but the LM head; GPT-2's are Conv1D, with W transposed."""
    from transformers.pytorch_utils import Conv1D

    head = lm.get_output_embeddings()
    return [
        name
        for name, module in lm.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]


def add_lora(lm: Any, rank: int, *, seed: int = 0) -> None:
    """Adds adapters of this rank to all linear maps but the LM head; only they are trained.

    Rank, alpha = rank / 2 and dropout 0 after Cai et al. 2024 (rank 32, alpha 16). Experts that
    lie in one tensor get none. Raises UserError as `require_lora` does.
    """
    require_lora(lm)
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank, lora_alpha=max(rank // 2, 1), lora_dropout=0.0, target_modules=_maps(lm)
    )
    # peft rewrites the names for what it takes to be a mixture of experts; here they are exact
    nameless = nn.ModuleList([lm])
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        # peft sees for itself that Conv1D holds W transposed, and says so of each
        warnings.filterwarnings("ignore", message="fan_in_fan_out")
        inject_adapter_in_model(config, nameless)


def merge_lora(lm: Any) -> None:
    """Merges the adapters into the weights, so that the model is a plain one again."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(lm.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent = lm.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    for parameter in lm.parameters():
        parameter.requires_grad_(True)
