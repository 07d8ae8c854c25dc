"""The figures of the report: results in, one inline SVG string out (or "" where there is nothing to
draw).

Every figure is drawn at 400 points wide, so that its text can still be read at the width of a
phone. Colours are written as CSS variables with a fallback, `var(--s0,#0065b0)`: the page that
holds a figure restyles it for a dark scheme, and a figure on its own keeps the light colours. Text
stays text; the same dict gives the same bytes.
"""

import io
import math
import re
import warnings
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from lookaround.report.lookup import BASELINES, Lookup, mean, number
from lookaround.report.text import format_flops, format_rung, printable

__all__ = [
    "SERIES",
    "by_prefix",
    "key",
    "ladder",
    "learning",
    "losses",
    "off_scale",
    "spectra",
    "tradeoff",
]

INK, SOFT, LINE, CARD = "#1b1f24", "#59636e", "#dde2e8", "#fffffe"

# Colours for the light scheme; told apart without red-green vision, and each has its own marker as
# well.
SERIES = ("#0065b0", "#cf4b00", "#00835f", "#b5418e", "#8f6c00", "#2389bd", "#7a3b2e", "#4b5563")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h", "*")
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))  # the second and third time round the colours

_CSS_NAMES = {INK: "ink", SOFT: "soft", LINE: "line", CARD: "card"} | {
    c: f"s{i}" for i, c in enumerate(SERIES)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": [
        "DejaVu Sans"
    ],  # ships with matplotlib: the layout is the same on every machine
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
_POINTS_PER_CURVE = 48
_LABEL_PLACES = [  # offsets in points from the marker, the nearest first
    (dx, dy, side)
    for reach in (8, 14, 22)
    for dx, dy, side in (
        (reach, 4, "left"),
        (reach, -11, "left"),
        (-reach, 4, "right"),
        (-reach, -11, "right"),
        (reach + 4, -3.5, "left"),
        (-reach - 4, -3.5, "right"),
        (0, reach + 2, "center"),
        (0, -reach - 8, "center"),
    )
]
_NOTE: dict[str, Any] = {
    "textcoords": "offset points",
    "color": SOFT,
    "bbox": {"facecolor": CARD, "edgecolor": "none", "alpha": 0.75, "pad": 1},
}


class _Point(NamedTuple):
    """A marker of the trade-off plot: where it is, its intervals, and the text beside it."""

    x: float
    y: float
    low: float
    high: float
    bottom: float
    top: float
    text: str
    colour: str


def key(index: int) -> str:
    """The legend entry of objective number `index` as a small SVG: its line and its marker, 26 x 12
    points.
    """
    marker = MarkerStyle(_MARKERS[index % len(_MARKERS)])
    outline = marker.get_path().transformed(marker.get_transform())
    scale = 4.2 / float(np.abs(outline.vertices).max())
    drawn = []
    for vertices, code in outline.iter_segments(simplify=False):
        points = np.asarray(vertices).reshape(-1, 2) * (scale, -scale) + (13, 6)
        letter = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}.get(
            code, "Z"
        )
        drawn.append(
            "Z" if letter == "Z" else letter + " ".join(f"{x:.1f} {y:.1f}" for x, y in points)
        )
    dashes = ("", ' stroke-dasharray="5 2"', ' stroke-dasharray="1.5 1.5"')[_round(index)]
    colour = _themed(_colour(index))
    return (
        '<svg class="key" viewBox="0 0 26 12" width="26" height="12" aria-hidden="true">'
        f'<path d="M1 6H25" style="stroke:{colour}" stroke-width="1.7"{dashes}/>'
        f'<path d="{"".join(drawn)}" style="fill:{colour}"/></svg>'
    )


def tradeoff(study: Lookup) -> str:
    """Classification against bits per byte (axis inverted): better is up and to the right."""
    metric = study.classification
    if metric is None or "bits_per_byte" not in study.metrics:
        return ""
    recent = study.rungs[-2:]
    low, high = _bits_limits(study, recent)
    placed: list[_Point] = []
    figure, axes = _new(4.6)
    for index, objective in enumerate(study.objectives):
        points = [
            (study.score(objective, "bits_per_byte", rung), study.score(objective, metric, rung))
            for rung in study.rungs
        ]
        bits, score = points[-1]
        if not (bits.known and score.known):
            continue
        colour = _colour(index)
        trail = [(b.mean, s.mean) for b, s in points if b.known and s.known]
        axes.plot(
            *zip(*trail, strict=True),
            color=colour,
            linewidth=1,
            alpha=0.5,
            marker=".",
            markersize=4,
        )
        shown = min(bits.mean, high)
        if bits.bounded and bits.mean <= high:
            axes.plot([bits.low, bits.high], [score.mean] * 2, color=colour, linewidth=1.3)
        if score.bounded:
            axes.plot([shown] * 2, [score.low, score.high], color=colour, linewidth=1.3)
        axes.plot(
            [shown], [score.mean], **_marker(index, 8), linestyle="none", clip_on=False, zorder=4
        )
        beyond = "" if bits.mean <= high else f" ({bits.mean:.2f}: off the scale)"
        text = _short(objective) + beyond
        placed.append(
            _Point(shown, score.mean, bits.low, bits.high, score.low, score.high, text, colour)
        )
    if not placed:
        return ""
    scores = [study.score(o, metric, rung) for o in study.objectives for rung in recent]
    _limit(axes.set_ylim, [v for s in scores for v in s[:3]], 0.12)
    margin = 0.07 * (high - low)
    axes.set_xlim(high + margin, low - margin)
    _title(axes, f"{_short(study.title(metric))} (up is better)")
    axes.set_xlabel("bits per byte, axis inverted (right is better)")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    _label_points(figure, axes, placed)
    return _svg(
        figure,
        "tradeoff",
        "Classification against generation",
        "; ".join(f"{p.text}: {p.x:.3f} bits per byte, score {p.y:.3f}" for p in placed),
    )


def ladder(study: Lookup, metric: str) -> str:
    """One metric against training compute for every objective, with interval bands and the
    baselines' lines.

    Needs two rungs: at a single budget the table says it all.
    """
    if len(study.rungs) < 2:
        return ""
    drawn = []
    figure, axes = _new(3.5)
    for index, objective in enumerate(study.objectives):
        points = [
            (study.cost(objective, "flops", rung), study.score(objective, metric, rung))
            for rung in study.rungs
        ]
        points = [(flops, score) for flops, score in points if score.known and flops > 0]
        if not points:
            continue
        x, scores = zip(*points, strict=True)
        means, low, high, *_ = zip(*scores, strict=True)
        if len(points) > 1:
            axes.fill_between(x, low, high, color=_colour(index), alpha=0.13, linewidth=0)
        else:
            axes.plot([x[0]] * 2, [low[0], high[0]], color=_colour(index), linewidth=1.3)
        axes.plot(x, means, linestyle=_DASHES[_round(index)], **_marker(index, 5.5))
        drawn.append(f"{objective}: " + ", ".join(f"{m:.3f}" for m in means))
    if not drawn:
        return ""
    values = [study.score(o, metric, rung) for o in study.objectives for rung in study.rungs]
    everything = [v for s in values for v in s[:3]]
    if metric == "bits_per_byte":
        low_bits, high_bits = _bits_limits(study, study.rungs)
        everything = [min(v, high_bits) for v in everything] + [low_bits, high_bits]
    _compute_axis(axes, study)
    shown = _reference_lines(
        axes, study, metric, [value for value in everything if math.isfinite(value)]
    )
    _limit(axes.set_ylim, everything + shown, 0.11)
    better = "higher" if study.higher(metric) else "lower"
    _title(axes, f"{_short(study.title(metric))} ({better} is better)")
    return _svg(
        figure,
        "ladder-bits" if metric == "bits_per_byte" else "ladder-scores",
        f"{study.title(metric)} by training compute",
        "; ".join(drawn) + f" (at {', '.join(map(format_rung, study.rungs))} of the budget)",
    )


def losses(study: Lookup) -> str:
    """Training loss against compute for the runs at the largest rung, one line per seed."""
    figure, axes = _new(3.5)
    levels: list[float] = []
    for index, objective in enumerate(study.objectives):
        for seed, run in enumerate(study.runs_at(objective, study.full)):
            flops, loss = _smoothed(run.get("curve") or [])
            if len(flops) < 2:
                continue
            levels += loss
            style: dict[str, Any] = {"color": _colour(index), "linewidth": 0.8, "alpha": 0.5}
            if seed == 0:
                style = _marker(index, 5) | {"linewidth": 1.5, "markevery": (index % 6, 8)}
            axes.plot(flops, loss, linestyle=_DASHES[_round(index)], **style)
    if not levels:
        return ""
    _log_axis(axes, "training compute (log scale)")
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: format_flops(value).replace(".0 ", " "))
    )
    _title(axes, "training loss, nats per target")
    low, high = float(np.min(levels)), float(np.percentile(levels, 98))
    _limit(axes.set_ylim, [low, high], 0.06)
    return _svg(figure, "losses", "Training loss by compute", "One line per objective and seed.")


def by_prefix(study: Lookup) -> str:
    """Bits per byte against the number of tokens before the scored one, at the largest rung."""
    figure, axes = _new(3.5)
    lengths: set[int] = set()
    levels: list[float] = []
    for index, objective in enumerate(study.objectives):
        seeds = [_prefixes(run) for run in study.runs_at(objective, study.full)]
        known = sorted({length for seed in seeds for length in seed})
        if not known:
            continue
        values = [[seed[length] for seed in seeds if length in seed] for length in known]
        x = [_prefix_place(length) for length in known]
        middle = [mean(column) for column in values]
        if len(seeds) > 1:
            low, high = [min(column) for column in values], [max(column) for column in values]
            axes.fill_between(x, low, high, color=_colour(index), alpha=0.13, linewidth=0)
        axes.plot(x, middle, linestyle=_DASHES[_round(index)], **_marker(index, 5))
        lengths.update(known)
        levels += middle
    if not levels:
        return ""
    if len(levels) > 4 and max(levels) > 2 * float(np.median(levels)):
        levels = [level for level in levels if level <= 2 * float(np.median(levels))]
    ordered = sorted(lengths)
    _log_axis(axes, "tokens of prefix (log scale)", base=2)
    step = 1 + len(ordered) // 10
    axes.set_xticks([_prefix_place(n) for n in ordered[::step]], [str(n) for n in ordered[::step]])
    _title(axes, "bits per byte (lower is better)")
    _limit(axes.set_ylim, levels, 0.08)
    return _svg(
        figure,
        "prefix",
        "Bits per byte by prefix length",
        f"Prefixes of {ordered[0]} to {ordered[-1]} tokens.",
    )


def spectra(forecast: Any) -> str:
    """Singular values against their number for every line of a forecast that has them, controls
    included.
    """
    figure, axes = _new(4.2)
    drawn = 0
    for index, line in enumerate(
        [*(forecast.get("objectives") or []), *(forecast.get("controls") or [])]
    ):
        values = [number(value) for value in line.get("singular_values") or []]
        if len(values) < 2:
            continue
        places = range(1, len(values) + 1)
        marks = sorted({min(round(1.6**k), len(values)) - 1 for k in range(30)})
        axes.plot(
            places, values, linestyle=_DASHES[_round(index)], **_marker(index, 5), markevery=marks
        )
        drawn = max(drawn, len(values))
    if not drawn:
        return ""
    _log_axis(axes, "number of the singular value (log scale)")
    ticks = [tick for tick in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if tick <= drawn]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(0, 1.04)
    _title(axes, "singular value")
    return _svg(
        figure, "spectra", "Singular values of every objective", f"The first {drawn} of each line."
    )


def learning(group: Sequence[tuple[dict[str, Any], Sequence[Any]]], number_of: int) -> str:
    """Learning curves of one task by place of the answer, a panel for each objective: (summary
    entry, its rows) in order.

    Thin lines are seeds, thick ones their means; the dashed line is chance.
    number_of: of the task on its page.
    """
    columns = 2
    lines = math.ceil(len(group) / columns)
    figure, panels = _grid(lines, columns, 1.75 * lines + 0.35)
    last = max(
        (entry["step"] for _, rows in group for row in rows for entry in row["curve"]), default=1
    )
    for axes in panels[len(group) :]:
        axes.set_visible(False)
    for axes, (entry, rows) in zip(panels, group, strict=False):
        curves = [row["curve"] for row in rows if row["curve"]]
        places = len(curves[0][0]["positions"]) if curves else 0
        steps = sorted({point["step"] for curve in curves for point in curve})
        for token in range(places):
            colour = _colour(token)
            means = []
            for curve in curves:
                at, right = [p["step"] for p in curve], [p["positions"][token] for p in curve]
                axes.plot(at, right, color=colour, linewidth=0.6, alpha=0.45)
                means.append(np.interp(steps, at, right))  # a run that ended stays where it was
            axes.plot(steps, np.mean(means, 0), color=colour, linestyle=_DASHES[_round(token)])
        chance = number(entry["chance"])
        if math.isfinite(chance):
            axes.axhline(chance, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set(xlim=(0, last * 1.02), ylim=(-0.03, 1.05))
        axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        _title(axes, _short(entry["objective"], 23))
    for axes in panels[max(0, len(group) - columns) : len(group)]:
        axes.set_xlabel("steps")
    return _svg(
        figure,
        f"learning-{number_of}",
        "Learning curves by place of the answer",
        "Accuracy on validation problems of each token of the answer against steps, a panel for "
        "each objective.",
    )


def off_scale(study: Lookup) -> list[str]:
    """The objectives whose bits per byte at the full budget lie beyond the figures' axes."""
    _, high = _bits_limits(study, study.rungs[-2:])
    return [o for o in study.objectives if study.score(o, "bits_per_byte").mean > high]


# --------------------------------------------------------------------------------------------------
# what the figures share


def _round(index: int) -> int:
    return index // len(SERIES) % len(_DASHES)


def _colour(index: int) -> str:
    return SERIES[index % len(SERIES)]


def _marker(index: int, size: float) -> dict[str, Any]:
    return {
        "marker": _MARKERS[index % len(_MARKERS)],
        "markersize": size,
        "markeredgecolor": CARD,
        "markeredgewidth": 0.7,
        "color": _colour(index),
    }


def _short(text: str, most: int = 34) -> str:
    text = printable(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _new(height: float) -> tuple[Figure, Axes]:
    """An empty figure in our style, 400 points wide and `height` inches high."""
    figure, panels = _grid(1, 1, height)
    return figure, panels[0]


def _grid(lines: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """An empty figure of lines x columns panels, row by row."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(400 / 72, height), dpi=72, layout="constrained", facecolor="none")
        panels = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axes in panels:
            axes.set_facecolor("none")
            for axis in (axes.xaxis, axes.yaxis):
                axis.label.set_parse_math(False)
    return figure, panels


def _title(axes: Axes, text: str) -> None:
    axes.set_title(
        text, loc="left", parse_math=False
    )  # over the axis, where a phone has room for it


def _svg(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an <svg> element: scales with its container, has a title and a description,
    names no URL.

    `name` is ours, never from the results: it keeps the ids of two figures on one page apart.
    """
    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": f"lookaround {name}"})
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
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
        f'id="title-{name}">{escape(printable(title))}</title>'
        f'<desc id="text-{name}">{escape(printable(description))}</desc>{body.strip()}\n'
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


def _log_axis(axes: Axes, label: str, base: int = 10) -> None:
    axes.set_xscale("log", base=base)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def _limit(setter: Any, values: Sequence[float], margin: float) -> None:
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        low, high = min(finite), max(finite)
        room = margin * (high - low) or 0.05 * abs(high) or 0.05
        setter(low - room, high + room)


def _bits_limits(study: Lookup, rungs: Sequence[float]) -> tuple[float, float]:
    """The bits per byte to show: one objective far above the unigram model must not flatten all the
    others.
    """
    scores = [
        study.score(objective, "bits_per_byte", rung)
        for objective in study.objectives
        for rung in rungs
    ]
    values = [v for s in scores for v in s[:3] if not math.isnan(v)]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    ceiling = 1.1 * study.unigram
    if high > 1.15 * ceiling and low < ceiling:
        high = ceiling
    return (low, high) if high > low else (low - 0.05, high + 0.05)


def _compute_axis(axes: Axes, study: Lookup) -> None:
    flops = [mean(study.cost(o, "flops", rung) for o in study.objectives) for rung in study.rungs]
    ticks = [(f, rung) for f, rung in zip(flops, study.rungs, strict=True) if f > 0]
    _log_axis(axes, "training compute (log scale), share of the budget")
    labels = [f"{format_flops(f)}\n{format_rung(rung)}" for f, rung in ticks]
    axes.set_xticks([f for f, _ in ticks], labels)


def _reference_lines(axes: Axes, study: Lookup, metric: str, values: list[float]) -> list[float]:
    """Dotted lines at the unigram model or the baselines; one far from all `values` is named
    instead of drawn.

    Returns the values of the lines drawn. Their labels stand apart, so that none covers another.
    """
    if metric == "bits_per_byte":
        lines = [("unigram model", study.unigram, 1.0, "right")]
    else:
        names = {"majority": "majority", "random_init": "random init", "tfidf": "TF-IDF"}
        places = {
            "majority": (1.0, "right"),
            "random_init": (0.5, "center"),
            "tfidf": (0.0, "left"),
        }
        lines = [(names[kind], study.baseline(kind, metric), *places[kind]) for kind in BASELINES]
    reach = 0.6 * (max(values) - min(values)) or 0.2 * abs(max(values))
    shown: list[float] = []
    outside: dict[str, list[str]] = {"above": [], "below": []}
    for label, value, place, side in lines:
        if math.isnan(value):
            continue
        if not min(values) - reach <= value <= max(values) + reach:
            outside["above" if value > max(values) else "below"].append(f"{label} {value:.3f}")
            continue
        shown.append(value)
        axes.axhline(value, color=SOFT, linewidth=1, linestyle=(0, (1.5, 2)))
        axes.annotate(
            label,
            (place, value),
            (0, 3),
            xycoords=axes.get_yaxis_transform(),
            ha=side,
            fontsize=10,
            **_NOTE,
        )
    for side, height, offset in (("above", 1.0, -10), ("below", 0.0, 5)):
        if outside[side]:
            text = f"{side} the axis: {', '.join(outside[side])}"
            axes.annotate(
                text, (0.0, height), (3, offset), xycoords="axes fraction", fontsize=10, **_NOTE
            )
    return shown


def _label_points(figure: Figure, axes: Axes, points: list[_Point]) -> None:
    """Write each name beside its marker where it covers nothing; a name without room is left to the
    legend.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        figure.draw_without_rendering()
        frame = axes.get_window_extent()
        dots = [axes.transData.transform((point.x, point.y)) for point in points]
        taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in dots]
        for point in points:
            across = ((point.low, point.y), (point.high, point.y))
            upright = ((point.x, point.bottom), (point.x, point.top))
            for ends in map(axes.transData.transform, (across, upright)):
                if np.isfinite(ends).all():
                    taken.append(Bbox([ends.min(axis=0) - 1, ends.max(axis=0) + 1]))
        for point in points:
            for dx, dy, side in _LABEL_PLACES:
                label = axes.annotate(
                    point.text,
                    (point.x, point.y),
                    (dx, dy),
                    textcoords="offset points",
                    ha=side,
                    fontsize=10.5,
                    color=point.colour,
                    parse_math=False,
                )
                label.set_in_layout(False)
                box = label.get_window_extent()
                inside = (
                    frame.x0 <= box.x0
                    and box.x1 <= frame.x1 + 8
                    and frame.y0 <= box.y0
                    and box.y1 <= frame.y1
                )
                if inside and not any(box.overlaps(other) for other in taken):
                    taken.append(box)
                    break
                label.remove()


def _smoothed(curve: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Means of the loss over at most 48 bins, equally wide on the logarithmic compute axis."""
    pairs = [(number(point.get("flops")), number(point.get("loss"))) for point in curve]
    pairs = sorted(pair for pair in pairs if pair[0] > 0 and not math.isnan(pair[1]))
    if len(pairs) <= _POINTS_PER_CURVE:
        return [flops for flops, _ in pairs], [loss for _, loss in pairs]
    flops, loss = np.array(pairs).T
    edges = np.geomspace(flops[0], flops[-1], _POINTS_PER_CURVE + 1)
    bins = np.clip(np.searchsorted(edges, flops, side="right") - 1, 0, _POINTS_PER_CURVE - 1)
    kept = np.unique(bins)
    return (
        [float(np.exp(np.log(flops[bins == b]).mean())) for b in kept],
        [float(loss[bins == b].mean()) for b in kept],
    )


def _prefixes(run: Any) -> dict[int, float]:
    """Prefix length -> bits per byte; a key such as "16-31" counts as its lower end."""
    found = {}
    for label, value in (run.get("bits_per_byte_by_prefix") or {}).items():
        start = re.match(r"\d+", str(label))
        if start is not None and not math.isnan(number(value)):
            found[int(start[0])] = number(value)
    return found


def _prefix_place(length: int) -> float:
    return (
        float(length) if length else 0.5
    )  # the empty prefix has no logarithm; it stands one step before 1
