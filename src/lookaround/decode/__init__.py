"""From a model to text: one token at a time, or several per pass with the same output."""

from lookaround.decode.hub import custom_generate, load_speculator
from lookaround.decode.speculative import Generated, Speculator, Stats
from lookaround.decode.tree import Tree, grow_from_accuracies
from lookaround.decode.verify import ExactSampling, Greedy, Typical

__all__ = [
    "ExactSampling",
    "Generated",
    "Greedy",
    "Speculator",
    "Stats",
    "Tree",
    "Typical",
    "custom_generate",
    "grow_from_accuracies",
    "load_speculator",
]
