"""The backbone: stock Hugging Face models, any attention pattern, and their export."""

from lookaround.model.backbone import (
    PRESETS,
    Backbone,
    build,
    require_honest_attention,
)
from lookaround.model.export import export, load
from lookaround.model.foreign import load_model
from lookaround.model.losses import linear_cross_entropy

__all__ = [
    "PRESETS",
    "Backbone",
    "build",
    "export",
    "linear_cross_entropy",
    "load",
    "load_model",
    "require_honest_attention",
]
