"""From logits to a token: temperature, top-k and top-p, the same for every way of generating."""

from __future__ import annotations

import torch
from torch import Tensor

from lookaround.settings import GenerationConfig

# divided by less than this, logits overflow single precision: only the likeliest token is left
COLDEST = 1e-30


def filter_logits(
    logits: Tensor, config: GenerationConfig, forbidden: Tensor | None = None
) -> Tensor:
    """Logits of the distribution that tokens are drawn from, in single precision.

    logits: (.., V) of the model.
    config: temperature, top-k and top-p (nucleus; Holtzman et al. 2020) are applied in this order.
    forbidden: (F,) ids that are never drawn.
    """
    logits = logits.float()
    if forbidden is not None:
        logits = logits.index_fill(-1, forbidden, -torch.inf)
    if config.temperature < COLDEST:
        likeliest = logits.max(-1, keepdim=True).indices
        return torch.full_like(logits, -torch.inf).scatter_(-1, likeliest, 0.0)
    if config.temperature != 1:
        logits = logits / config.temperature
    if 0 < config.top_k < logits.shape[-1]:
        least = logits.topk(config.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if config.top_p < 1:
        ordered, order = logits.softmax(-1).sort(descending=True)
        # the first token that reaches top_p is kept, and the likeliest one at any top_p
        least_mass = max(config.top_p, torch.finfo(ordered.dtype).tiny)
        dropped = ordered.cumsum(-1) - ordered >= least_mass
        logits = logits.masked_fill(dropped.scatter(-1, order, dropped), -torch.inf)
    return logits


def draw(
    logits_v: Tensor,
    config: GenerationConfig,
    generator: torch.Generator,
    forbidden: Tensor | None = None,
) -> int:
    """A token drawn from what `filter_logits` leaves of logits (V,) on the CPU."""
    probabilities = filter_logits(logits_v, config, forbidden).softmax(-1)
    return int(torch.multinomial(probabilities, 1, generator=generator))
