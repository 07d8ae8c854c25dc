"""How often the order of objectives at a small rung was that of the whole budget. Ours."""

from __future__ import annotations

import json
from collections.abc import Collection
from importlib.resources import files
from typing import Any

# written by benchmarks/small_rung.py and shown in results/forecast.md
_ROWS: list[dict[str, Any]] = json.loads(
    (files(__package__) / "small_rung.json").read_text(encoding="utf-8")
)


def order_kept(protocols: Collection[str]) -> str:
    """What to expect of an order that was read at a small rung, in a sentence.

    protocols: names of those that the study was evaluated by; "" where none of them was measured.
    """
    told = [
        f"{row['title']} {row['rate']['mean']:.0%} "
        f"[{row['rate']['low']:.0%}, {row['rate']['high']:.0%}]"
        for row in _ROWS
        if row["kind"] in protocols
    ]
    if not told:
        return ""
    return (
        "Measured before (results/forecast.md#the-smallest-rung): of the pairs of objectives that "
        "two seeds tell apart at a tenth of the budget or less, a third seed orders alike at the "
        f"whole budget: {', '.join(told)}."
    )
