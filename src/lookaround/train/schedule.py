"""Warmup-stable-decay: each rung of a budget ladder is a decay branch off one stable trunk."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupStableDecay:
    """The learning-rate factor by step: warmup to 1, stable, then linear decay to 0 at `end`.

    Hu et al. 2024 (MiniCPM); the linear form of the decay after Hägele et al. 2024.
    """

    warmup: int
    decay_start: int
    end: int

    def factor(self, step: int) -> float:
        """The factor of the step that begins at `step` (0-based)."""
        rising = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if step < self.decay_start:
            return rising
        return rising * max(0.0, (self.end - step) / (self.end - self.decay_start + 1))
