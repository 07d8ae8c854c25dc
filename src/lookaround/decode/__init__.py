"""From a model to text: one token at a time, or several per pass with the same output."""

from lookaround.decode.hub import custom_generate, load_speculator
from lookaround.decode.speculative import Continued, Speculator
from lookaround.decode.stats import Stats
from lookaround.decode.tree import Tree, grow_from_accuracies
from lookaround.decode.verify import ExactSampling, Greedy, Typical
from lookaround.decode.writer import Generated, Writer, generate

__all__ = [
    "Continued",
    "ExactSampling",
    "Generated",
    "Greedy",
    "Speculator",
    "Stats",
    "Tree",
    "Typical",
    "Writer",
    "custom_generate",
    "generate",
    "grow_from_accuracies",
    "load_speculator",
]
