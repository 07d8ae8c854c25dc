"""Figures of records for the pages of results/.

    python -m benchmarks.figures    # seconds: docs/img/repeated.svg, docs/img/misalignment.svg

Lines over an axis of budgets or epochs, with 95 % intervals over seeds where a record has them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from benchmarks.records import DATA, ROOT
from benchmarks.studies import on_paper
from lookaround.report.svg import line_style, log_axis, new_grid, set_title, to_svg
from lookaround.support.storage import write_text

Score = Mapping[str, float | None]
Points = Sequence[tuple[float, Score]]  # (where, {"mean", "low", "high"})


@dataclass(frozen=True)
class Panel:
    """One panel: a line for each name.

    highest: what stands above it is cut off.
    ticks: of the horizontal axis, which is logarithmic.
    """

    title: str
    axis: str
    lines: Mapping[str, Points]
    ticks: Sequence[float]
    highest: float | None = None


def drawn(axes: Axes, panel: Panel, names: Sequence[str]) -> None:
    for name, points in panel.lines.items():
        style = line_style(names.index(name), 5) | {"linewidth": 1.3}
        for x, score in points:
            if score.get("low") is not None:
                ends = [score["low"], score["high"]]
                axes.plot([x, x], ends, color=style["color"], linewidth=0.9, alpha=0.5)
        axes.plot(
            [x for x, _ in points], [score["mean"] for _, score in points], **style, label=name
        )
    log_axis(axes, panel.axis)
    axes.xaxis.set_major_locator(FixedLocator([*panel.ticks]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if panel.highest is not None:
        axes.set_ylim(top=panel.highest)
    set_title(axes, panel.title)


def figure(name: str, title: str, about: str, panels: Sequence[Panel], height: float) -> str:
    """Panels below one another under one legend."""
    made, places = new_grid(len(panels), 1, height)
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    for axes, panel in zip(places, panels, strict=True):
        drawn(axes, panel, names)
    first = {
        label: line
        for axes in places
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    made.legend(
        [first[name] for name in names], names, loc="outside lower center", ncols=2, frameon=False
    )
    return on_paper(to_svg(made, name, title, about))


def rows_of(record: str) -> dict[str, list[dict[str, Any]]]:
    return json.loads((DATA / f"{record}.json").read_text())["rows"]


def repeated() -> str:
    """Bits per byte against epochs at the larger weight decay, and `ar` at the usual one."""
    panels = []
    for tokens in (50_000, 100_000):
        lines: dict[str, list[tuple[float, Score]]] = {}
        for row in rows_of("repeated")[f"curves-{tokens}"]:
            usual = row["decay"] == 0.1
            if usual and row["objective"] != "ar":
                continue
            rungs = [key.partition(" ")[2] for key in row if key.startswith("epochs ")]
            name = row["objective"] + ", decay 0.1" * usual
            lines[name] = [(row[f"epochs {rung}"], row[rung]) for rung in rungs]
        title = f"bits per byte, {tokens:,} training tokens"
        panels.append(
            Panel(title, "times that the text is read", lines, (2, 5, 10, 25, 60, 120), 4.0)
        )
    about = "A line for each objective at weight decay 2, and ar at 0.1; the rungs of its ladder."
    return figure("repeated", "Bits per byte against epochs", about, panels, 6.6)


def misalignment() -> str:
    """Divergence by budget, of the study with most seeds where two had the same."""
    found: dict[str, dict[float, Score]] = {}
    for row in sorted(rows_of("misalignment")["models"], key=lambda row: row["seeds"]):
        if row["mode"] == "masked":
            found.setdefault(row["objective"], {})[round(row["flops"] / 1e12)] = row["nats"]
    ordered = {name: sorted(points.items()) for name, points in found.items()}
    panel = Panel(
        "misalignment, nats", "FLOPs of a run, in units of 1e12", ordered, (2, 4, 10, 20, 50)
    )
    about = (
        "A line for each objective that is read with masks; 3 seeds, one at 1e13 and 2e13 FLOPs."
    )
    return figure("misalignment", "Misalignment against the budget", about, [panel], 3.6)


FIGURES = {"repeated": repeated, "misalignment": misalignment}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(FIGURES)}; none: all")
    given = parser.parse_args()
    for name in given.names or FIGURES:
        file: Path = ROOT / "docs" / "img" / f"{name}.svg"
        write_text(file, FIGURES[name]())
        print(file)


if __name__ == "__main__":
    main()
