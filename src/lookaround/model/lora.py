"""Low-rank adapters on a decoder through peft (`pip install "lookaround[lora]"`)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from lookaround.support.errors import UserError


def require_peft() -> None:
    """Raises UserError where peft is not installed."""
    if find_spec("peft") is None:
        raise UserError('speculate.lora: needs peft; pip install "lookaround[lora]"')


def add_lora(lm: Any, rank: int, *, seed: int = 0) -> None:
    """Adds adapters of this rank to all linear maps but the LM head; only they are trained.

    Rank, alpha = rank / 2 and dropout 0 after Cai et al. 2024 (rank 32, alpha 16). Raises UserError
    without peft.
    """
    require_peft()
    from peft import LoraConfig, inject_adapter_in_model

    head = lm.get_output_embeddings()
    names = [
        name
        for name, module in lm.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]
    torch.manual_seed(seed)
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=max(rank // 2, 1), lora_dropout=0.0, target_modules=names), lm
    )


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
