"""Which of a model's modes serves which half: classification its last bidirectional one, generation its causal one."""

from __future__ import annotations

from lookaround.objectives.contract import Mode

__all__ = ["classification_mode", "generation_mode"]


def classification_mode(modes: tuple[Mode, ...]) -> Mode:
    """The last bidirectional mode; else the last one that sees a given text both ways (prefix), else the last."""
    for kind in ("bidirectional", "prefix"):
        found = [mode for mode in modes if mode.attention == kind]
        if found:
            return found[-1]
    return modes[-1]


def generation_mode(modes: tuple[Mode, ...]) -> Mode:
    """The causal mode if one was trained; else the prefix mode, else the last one that predicts from the state before."""
    for kind in ("causal", "prefix"):
        found = [mode for mode in modes if mode.attention == kind]
        if found:
            return found[-1]
    return max(modes, key=lambda mode: mode.shift)
