"""Which of a model's modes serves which half: classification its last bidirectional one, generation
its causal one.
"""

from __future__ import annotations

from lookaround.model.readable import Readable, generation_mode
from lookaround.objectives.contract import Mode
from lookaround.settings import EvaluateSettings

__all__ = ["classification_mode", "generation_mode", "reading_mode", "writing_mode"]


def classification_mode(modes: tuple[Mode, ...]) -> Mode:
    """The last bidirectional mode; else the last one that sees a given text both ways (prefix),
    else the last.
    """
    return _last_of("bidirectional", modes) or _last_of("prefix", modes) or modes[-1]


def _last_of(kind: str, modes: tuple[Mode, ...]) -> Mode | None:
    return next((mode for mode in reversed(modes) if mode.attention == kind), None)


def reading_mode(readable: Readable, settings: EvaluateSettings) -> Mode:
    """The mode asked for if it was trained, else the one of all that were that serves
    classification.
    """
    return _asked(readable, settings.classification_mode, classification_mode(readable.modes))


def writing_mode(readable: Readable, settings: EvaluateSettings) -> Mode:
    """The mode asked for if it was trained, else the one that the end of the budget left for
    generation.

    `ar >> mlm` forgets its causal mode.
    """
    return _asked(readable, settings.generation_mode, generation_mode(readable.final_modes))


def _asked(readable: Readable, kind: str | None, default: Mode) -> Mode:
    return next((mode for mode in readable.modes if mode.attention == kind), default)
