"""What the figures share: their style, their lines and markers, and how they become an <svg>.

Every figure is 400 points wide, so that its text can still be read at the width of a phone. Colours
are written as CSS variables with a fallback, `var(--s0,#0065b0)`: the page that holds a figure
restyles it for a dark scheme, and a figure on its own keeps the light colours. Text stays text; the
same data give the same bytes.
"""

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.ticker import NullLocator

from lookaround.report.text import single_line

INK, SOFT, LINE, CARD = "#1b1f24", "#59636e", "#dde2e8", "#fffffe"

# Colours for the light scheme; told apart without red-green vision, and each has its own marker as
# well.
SERIES = ("#0065b0", "#cf4b00", "#00835f", "#b5418e", "#8f6c00", "#2389bd", "#7a3b2e", "#4b5563")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h", "*")
# of the first, second and third time round the colours: for matplotlib, and as an attribute of SVG
_DASHES = (
    ("-", ""),
    ((0, (5, 2)), ' stroke-dasharray="5 2"'),
    ((0, (1.5, 1.5)), ' stroke-dasharray="1.5 1.5"'),
)

_CSS_NAMES = {INK: "ink", SOFT: "soft", LINE: "line", CARD: "card"} | {
    c: f"s{i}" for i, c in enumerate(SERIES)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    # ships with matplotlib: the layout is the same on every machine
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11.5,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 11.5,
    "axes.titlepad": 10,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.7,
    "lines.markersize": 5.5,
    "lines.solid_capstyle": "round",
    "errorbar.capsize": 0,
}


def colour_of(index: int) -> str:
    return SERIES[index % len(SERIES)]


def dashes(index: int) -> Any:
    return _dashes(index)[0]


def _dashes(index: int) -> tuple[Any, str]:
    return _DASHES[index // len(SERIES) % len(_DASHES)]


def line_style(index: int, size: float) -> dict[str, Any]:
    """How matplotlib draws the line of objective number `index`, with markers of `size` points."""
    return {
        "color": colour_of(index),
        "linestyle": dashes(index),
        "marker": _MARKERS[index % len(_MARKERS)],
        "markersize": size,
        "markeredgecolor": CARD,
        "markeredgewidth": 0.7,
    }


def key(index: int) -> str:
    """The legend entry of objective number `index` as a small SVG: its line and its marker, 26 x 12
    points.
    """
    marker = MarkerStyle(_MARKERS[index % len(_MARKERS)])
    outline = marker.get_path().transformed(marker.get_transform())
    scale = 4.2 / float(np.abs(outline.vertices).max())
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}
    drawn = []
    for vertices, code in outline.iter_segments(simplify=False):
        points = np.asarray(vertices).reshape(-1, 2) * (scale, -scale) + (13, 6)
        at = " ".join(f"{x:.1f} {y:.1f}" for x, y in points)
        drawn.append(letters[code] + at if code in letters else "Z")
    themed = _themed(colour_of(index))
    return (
        '<svg class="key" viewBox="0 0 26 12" width="26" height="12" aria-hidden="true">'
        f'<path d="M1 6H25" style="stroke:{themed}" stroke-width="1.7"{_dashes(index)[1]}/>'
        f'<path d="{"".join(drawn)}" style="fill:{themed}"/></svg>'
    )


def shortened(text: str, most: int = 34) -> str:
    """Text on one line of at most so many characters."""
    text = single_line(text)
    return text if len(text) <= most else text[: most - 1] + "…"


@contextmanager
def styled(**more: Any) -> Iterator[None]:
    """Draws in our style for the length of the block, whatever the process has set.

    more: further rcParams of matplotlib, with `__` for a dot.
    """
    ours = _STYLE | {name.replace("__", "."): value for name, value in more.items()}
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(ours)
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        yield


def new_figure(height: float) -> tuple[Figure, Axes]:
    """An empty figure in our style, 400 points wide and `height` inches high."""
    figure, panels = new_grid(1, 1, height)
    return figure, panels[0]


def new_grid(lines: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """An empty figure of lines x columns panels, row by row."""
    with styled():
        figure = Figure(figsize=(400 / 72, height), dpi=72, layout="constrained", facecolor="none")
        panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in panels:
        axes.set_facecolor("none")
        axes.xaxis.label.set_parse_math(False)
        axes.yaxis.label.set_parse_math(False)
    return figure, panels


def set_title(axes: Axes, text: str) -> None:
    """Names the vertical axis, above it: a phone has room for it there."""
    axes.set_title(text, loc="left", parse_math=False)


def log_axis(axes: Axes, label: str, base: int = 10) -> None:
    axes.set_xscale("log", base=base)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def set_limits(setter: Any, values: Sequence[float], margin: float) -> None:
    """Limits of an axis around all finite values; nothing where there are none."""
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        low, high = min(finite), max(finite)
        room = margin * (high - low) or 0.05 * abs(high) or 0.05
        setter(low - room, high + room)


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an <svg> element: scales with its container, has a title and a description,
    names no URL.

    name: ours, never from the results; it keeps the ids of two figures on one page apart.
    """
    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with styled(svg__hashsalt=f"lookaround {name}"):
        figure.savefig(text, format="svg", metadata=nothing)
    element = re.search(r'<svg[^>]*viewBox="([^"]*)"[^>]*>(.*)', text.getvalue(), flags=re.DOTALL)
    assert element is not None
    view, body = element.groups()
    body = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r' d="[^"]*"', _rounded, body)
    body = re.sub(r' style="[^"]*"', _restyled, body)
    body = re.sub(r">\s+<", "><", body)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{view}" width="100%" role="img" stroke-linejoin="round" '
        f'aria-labelledby="title-{name} text-{name}"><title '
        f'id="title-{name}">{escape(single_line(title))}</title>'
        f'<desc id="text-{name}">{escape(single_line(description))}</desc>{body.strip()}\n'
    )


def _rounded(match: re.Match[str]) -> str:
    path = re.sub(
        r"-?\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), match[0]
    )
    return re.sub(r"\s+", " ", path).replace(' "', '"')


def _restyled(match: re.Match[str]) -> str:
    style = re.sub(r"#[0-9a-f]{6}", lambda found: _themed(found[0]), match[0])
    return (
        style.replace("'DejaVu Sans'", "system-ui, sans-serif")
        .replace("; ", ";")
        .replace(": ", ":")
    )


def _themed(colour: str) -> str:
    return f"var(--{_CSS_NAMES[colour]},{colour})" if colour in _CSS_NAMES else colour
