"""Which mode a model is evaluated in: for classification, for generation."""

from __future__ import annotations

from lookaround.model.readable import Readable, generation_mode
from lookaround.objectives.contract import Mode
from lookaround.settings import EvaluateSettings


def classification_mode(modes: tuple[Mode, ...]) -> Mode:
    """The last bidirectional mode, else the last prefix mode, else the last mode."""
    return _last_of("bidirectional", modes) or _last_of("prefix", modes) or modes[-1]


def _last_of(kind: str, modes: tuple[Mode, ...]) -> Mode | None:
    return next((mode for mode in reversed(modes) if mode.attention == kind), None)


def reading_mode(readable: Readable, settings: EvaluateSettings) -> Mode:
    """The mode for classification: the one asked for if it was trained, else the best one."""
    return _asked(readable, settings.classification_mode, classification_mode(readable.modes))


def writing_mode(readable: Readable, settings: EvaluateSettings) -> Mode:
    """The mode for generation: the one asked for if it was trained, else one of the final modes.

    `ar >> mlm` forgets its causal mode.
    """
    return _asked(readable, settings.generation_mode, generation_mode(readable.final_modes))


def _asked(readable: Readable, kind: str | None, default: Mode) -> Mode:
    return next((mode for mode in readable.modes if mode.attention == kind), default)
