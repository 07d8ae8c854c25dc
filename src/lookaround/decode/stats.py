"""What a generation took."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Stats:
    """What a generation took. Only a model with drafts has more than passes, tokens and seconds.

    passes: of the model, the prompts' included.
    tokens: made by all passes.
    seconds: in all;
    prompt_seconds: of them, until the prompts are read.
    steps: sequences x passes after the prompt's.
    stepped: tokens made by those.
    tried, accepted: by depth, how often a draft of that depth could stand, and did. The token that
        is always right is never counted as accepted.
    """

    passes: int = 0
    tokens: int = 0
    seconds: float = 0.0
    prompt_seconds: float = 0.0
    steps: int = 0
    stepped: int = 0
    tried: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)

    @property
    def tokens_per_forward(self) -> float:
        """Tokens per sequence and pass after the prompt's; 1 without drafts."""
        return self.stepped / self.steps if self.steps else 1.0

    @property
    def acceptance_by_depth(self) -> list[float]:
        """P(a draft of this depth stands | those before it stood and it was drafted), for depths
        that were drafted.
        """
        return [a / t for a, t in zip(self.accepted, self.tried, strict=True) if t]
