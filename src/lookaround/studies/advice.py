"""Which objective? What our measurements say, by need and budget.

    python -m lookaround.studies.advice > docs/which-objective.md

The sentences lie in advice.json, each with the page of results/ that it is from and the budgets
where it was measured. `compare` quotes those that apply; the page is made of all of them.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

NEEDS = {  # need: the heading of its part of the page
    "write": "You want text, from left to right",
    "fill": "You want to fill gaps, or several tokens per pass",
    "label_texts": "You label texts",
    "label_tokens": "You label words",
    "look_ahead": "Answers take looking ahead",
    "speed": "Writing must be faster",
    "before": "You have not trained anything yet",
}
HEAD = """\
<!-- made by: python -m lookaround.studies.advice -->

# Which objective?

What our measurements say, by need and budget, in a sentence each; each links to the page of results
that it is from, with its command, seeds and intervals. All of them are of English or Python, small
models and at most 5e13 FLOPs a run: on your text and at your budget,
`lookaround compare YOUR.txt --seeds 3` measures it, and quotes what applies of this page.
"""


ANY = (0.0, float("inf"))


@dataclass(frozen=True)
class Advice:
    """A sentence about a need.

    flops: the budgets of a run that it stands for; None: it is not about a budget.
    page: of results/.
    epochs: how often the text is read where it stands; None: it is not about that.
    """

    need: str
    flops: tuple[float, float] | None
    sentence: str
    page: str
    epochs: tuple[float, float] | None = None

    def applies(self, needs: Iterable[str], flops: float, epochs: float) -> bool:
        """Whether it is about one of these needs and a run of so many FLOPs and epochs."""
        (low, high), (few, many) = self.flops or ANY, self.epochs or ANY
        return self.need in needs and low <= flops < high and few <= epochs < many

    @property
    def budgets(self) -> str:
        """Where it stands, in brackets."""
        told = [f"{self.flops[0]:.0e} to {self.flops[1]:.0e} FLOPs a run"] if self.flops else []
        if self.epochs:
            few, many = self.epochs
            told.append(f"{few:g} to {many:g} epochs" if few else f"up to {many:g} epochs")
        return f" ({'; '.join(told)})" if told else ""


def known() -> list[Advice]:
    """Everything that is known, in the order of the page."""
    text = (files(__package__) / "advice.json").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = json.loads(text)
    for entry in entries:
        entry |= {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
    return [Advice(**entry) for entry in entries]


def quoted(needs: Iterable[str], flops: float, epochs: float) -> list[str]:
    """What is known for these needs at a budget and so many epochs, each with its page."""
    asked = set(needs)
    return [
        f"Measured before (results/{advice.page}): {advice.sentence}"
        for advice in known()
        if advice.applies(asked, flops, epochs)
    ]


def page() -> str:
    """docs/which-objective.md."""
    parts, entries = [HEAD], known()
    for need, heading in NEEDS.items():
        lines = [
            textwrap.fill(
                f"* {advice.sentence}{advice.budgets} "
                f"[{advice.page.partition('.')[0]}](../results/{advice.page})",
                100,
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            for advice in entries
            if advice.need == need
        ]
        parts.append("\n".join([f"## {heading}", "", *lines, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
