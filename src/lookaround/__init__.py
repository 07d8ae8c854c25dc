"""lookaround: which self-supervised objective to pretrain with, on your data and at your budget.

    import lookaround

    results = lookaround.compare("notes.jsonl", tasks=["diagnoses.tsv"], seeds=3)

What is listed here is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lookaround.api import compare, evaluate, forecast, load, parse, pretrain, speculate

__all__ = [
    "__version__",
    "compare",
    "evaluate",
    "forecast",
    "load",
    "parse",
    "pretrain",
    "speculate",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'lookaround' has no attribute '{name}'")
    return getattr(importlib.import_module("lookaround.api"), name)


def __dir__() -> list[str]:
    return __all__
