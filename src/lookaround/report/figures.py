"""The figures of the report: results in, one inline SVG string out (or "" where there is nothing to
draw).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from lookaround.report.lookup import BITS, NGRAMS, Interval, Lookup, mean, number
from lookaround.report.svg import (
    CARD,
    SOFT,
    colour_of,
    dashes,
    line_style,
    log_axis,
    new_figure,
    new_grid,
    set_limits,
    set_title,
    shortened,
    styled,
    to_svg,
)
from lookaround.report.text import format_flops, format_rung

if TYPE_CHECKING:
    from lookaround.report.schema import ForecastResults
    from lookaround.report.schema.comparison import CurvePoint, Run
    from lookaround.report.schema.synthetic import (
        LearningPoint,
        SyntheticEntry,
        SyntheticRow,
        SyntheticTask,
    )


SHORT_BASELINES = {
    **{name: name for name in NGRAMS},
    "majority": "majority",
    "untrained": "untrained",
    "untrained_causal": "untrained, causal",
    "untrained_bidirectional": "untrained, both ways",
    "tfidf": "TF-IDF",
    "bag": "single words",
    "window_left": "left window",
    "window": "window",
    "pixels": "raw pixels",
    "bag_of_codes": "bag of codes",
    "mean_picture": "mean picture",
}
_PLACES = {  # of the labels of baselines across a figure
    "majority": (1.0, "right"),
    "untrained_causal": (0.5, "center"),
    "untrained_bidirectional": (1.0, "right"),
    "window_left": (0.5, "center"),
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
    "parse_math": False,
    "bbox": {"facecolor": CARD, "edgecolor": "none", "alpha": 0.75, "pad": 1},
}


class _Point(NamedTuple):
    """A marker of the trade-off plot: where it is across, its scores, and the text beside it."""

    x: float
    bits: Interval
    score: Interval
    text: str
    colour: str


def tradeoff(study: Lookup) -> str:
    """Classification against bits per byte (axis inverted): better is up and to the right."""
    metric = study.classification
    if metric is None or BITS not in study.metrics:
        return ""
    recent = study.rungs[-2:]
    low, high = _bits_limits(study, recent)
    placed: list[_Point] = []
    figure, axes = new_figure(4.6)
    for index, objective in enumerate(study.objectives):
        points = [
            (study.score(objective, BITS, rung), study.score(objective, metric, rung))
            for rung in study.rungs
        ]
        bits, score = points[-1]
        if not (bits.known and score.known):
            continue
        colour = colour_of(index)
        alone = line_style(index, 8) | {"linestyle": "none"}
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
        axes.plot([shown], [score.mean], **alone, clip_on=False, zorder=4)
        beyond = "" if bits.mean <= high else f" ({bits.mean:.2f}: off the scale)"
        text = shortened(objective) + beyond
        placed.append(_Point(shown, bits, score, text, colour))
    if not placed:
        return ""
    scores = [study.score(o, metric, rung) for o in study.objectives for rung in recent]
    set_limits(axes.set_ylim, [v for s in scores for v in s[:3]], 0.12)
    margin = 0.07 * (high - low)
    axes.set_xlim(high + margin, low - margin)
    set_title(axes, f"{shortened(study.title(metric))} (up is better)")
    axes.set_xlabel(f"{study.title('bits_per_byte')}, axis inverted (right is better)")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    _label_points(figure, axes, placed)
    return to_svg(
        figure,
        "tradeoff",
        "Classification against generation",
        "; ".join(
            f"{p.text}: {p.x:.3f} {study.title('bits_per_byte')}, score {p.score.mean:.3f}"
            for p in placed
        ),
    )


def short_baseline(kind: str) -> str:
    """A few words for a baseline."""
    return SHORT_BASELINES.get(kind) or shortened(kind.replace("_", " "), 24)


def ladder(study: Lookup, metric: str) -> str:
    """One metric against training compute for every objective, with interval bands and the
    baselines' lines.

    Needs two rungs: at a single budget the table says it all.
    """
    if len(study.rungs) < 2:
        return ""
    drawn = []
    figure, axes = new_figure(3.5)
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
            axes.fill_between(x, low, high, color=colour_of(index), alpha=0.13, linewidth=0)
        else:
            axes.plot([x[0]] * 2, [low[0], high[0]], color=colour_of(index), linewidth=1.3)
        axes.plot(x, means, **line_style(index, 5.5))
        drawn.append(f"{objective}: " + ", ".join(f"{m:.3f}" for m in means))
    if not drawn:
        return ""
    values = [study.score(o, metric, rung) for o in study.objectives for rung in study.rungs]
    everything = [v for s in values for v in s[:3]]
    if metric == BITS:
        low_bits, high_bits = _bits_limits(study, study.rungs)
        everything = [min(v, high_bits) for v in everything] + [low_bits, high_bits]
    _compute_axis(axes, study)
    shown = _reference_lines(
        axes, study, metric, [value for value in everything if math.isfinite(value)]
    )
    set_limits(axes.set_ylim, everything + shown, 0.11)
    better = "higher" if study.higher(metric) else "lower"
    set_title(axes, f"{shortened(study.title(metric))} ({better} is better)")
    return to_svg(
        figure,
        f"ladder-{study.headlines.index(metric)}",
        f"{study.title(metric)} by training compute",
        "; ".join(drawn) + f" (at {', '.join(map(format_rung, study.rungs))} of the budget)",
    )


def losses(study: Lookup) -> str:
    """Training loss against compute for the runs at the largest rung, one line per seed."""
    figure, axes = new_figure(3.5)
    levels: list[float] = []
    for index, objective in enumerate(study.objectives):
        for seed, run in enumerate(study.runs_at(objective, study.full)):
            flops, loss = _smoothed(run.curve)
            if len(flops) < 2:
                continue
            levels += loss
            style = line_style(index, 5) | {"linewidth": 1.5, "markevery": (index % 6, 8)}
            if seed > 0:
                style |= {"linewidth": 0.8, "alpha": 0.5, "marker": "None"}
            axes.plot(flops, loss, **style)
    if not levels:
        return ""
    log_axis(axes, "training compute (log scale)")
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: format_flops(value).replace(".0 ", " "))
    )
    set_title(axes, "training loss, nats per target")
    low, high = float(np.min(levels)), float(np.percentile(levels, 98))
    set_limits(axes.set_ylim, [low, high], 0.06)
    return to_svg(figure, "losses", "Training loss by compute", "One line per objective and seed.")


def by_prefix(study: Lookup) -> str:
    """Bits per byte against the number of tokens before the scored one, at the largest rung."""
    figure, axes = new_figure(3.5)
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
            axes.fill_between(x, low, high, color=colour_of(index), alpha=0.13, linewidth=0)
        axes.plot(x, middle, **line_style(index, 5))
        lengths.update(known)
        levels += middle
    if not levels:
        return ""
    if len(levels) > 4 and max(levels) > 2 * float(np.median(levels)):
        levels = [level for level in levels if level <= 2 * float(np.median(levels))]
    ordered = sorted(lengths)
    log_axis(axes, "tokens of prefix (log scale)", base=2)
    step = 1 + len(ordered) // 10
    axes.set_xticks([_prefix_place(n) for n in ordered[::step]], [str(n) for n in ordered[::step]])
    set_title(axes, f"{study.title('bits_per_byte')} (lower is better)")
    set_limits(axes.set_ylim, levels, 0.08)
    return to_svg(
        figure,
        "prefix",
        f"Bits per {study.unit} by prefix length",
        f"Prefixes of {ordered[0]} to {ordered[-1]} tokens.",
    )


def spectra(forecast: ForecastResults) -> str:
    """Singular values against their number for every line of a forecast that has them, controls
    included.
    """
    figure, axes = new_figure(4.2)
    drawn = 0
    for index, line in enumerate(forecast.lines):
        values = [number(value) for value in line.singular_values]
        if len(values) < 2:
            continue
        places = range(1, len(values) + 1)
        marks = sorted({min(round(1.6**k), len(values)) - 1 for k in range(30)})
        axes.plot(places, values, **line_style(index, 5), markevery=marks)
        drawn = max(drawn, len(values))
    if not drawn:
        return ""
    log_axis(axes, "number of the singular value (log scale)")
    ticks = [tick for tick in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if tick <= drawn]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(0, 1.04)
    set_title(axes, "singular value")
    return to_svg(
        figure, "spectra", "Singular values of every objective", f"The first {drawn} of each line."
    )


def learning(
    group: Sequence[tuple[SyntheticEntry, Sequence[SyntheticRow]]],
    number_of: int,
    names: Sequence[str] = (),
) -> str:
    """Learning curves of one task by place of the answer, a panel for each objective: (summary
    entry, its rows) in order.

    Thin lines are seeds, thick ones their means; the dashed line is chance.
    number_of: of the task on its page.
    names: the figures that are drawn in place of places.
    """

    def values(point: LearningPoint) -> list[float]:
        found = [point.get(name) for name in names] if names else point.positions
        return [number(value) for value in found]

    columns = 2
    lines = math.ceil(len(group) / columns)
    figure, panels = new_grid(lines, columns, 1.75 * lines + 0.35)
    last = max((point.step for _, rows in group for row in rows for point in row.curve), default=1)
    for axes in panels[len(group) :]:
        axes.set_visible(False)
    for axes, (entry, rows) in zip(panels, group, strict=False):
        curves = [row.curve for row in rows if row.curve]
        places = len(values(curves[0][0])) if curves else 0
        steps = sorted({point.step for curve in curves for point in curve})
        for token in range(places):
            colour = colour_of(token)
            means = []
            for curve in curves:
                at, right = [p.step for p in curve], [values(p)[token] for p in curve]
                axes.plot(at, right, color=colour, linewidth=0.6, alpha=0.45)
                means.append(np.interp(steps, at, right))  # a run that ended stays where it was
            axes.plot(steps, np.mean(means, 0), color=colour, linestyle=dashes(token))
        chance = number(entry.chance)
        if math.isfinite(chance):
            axes.axhline(chance, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set(xlim=(0, last * 1.02), ylim=(-0.03, 1.05))
        axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        set_title(axes, shortened(entry.objective, 23))
    for axes in panels[max(0, len(group) - columns) : len(group)]:
        axes.set_xlabel("steps")
    return to_svg(
        figure,
        f"learning-{number_of}",
        "Learning curves" + ("" if names else " by place of the answer"),
        "Accuracy on validation problems "
        + (f"({', '.join(names)})" if names else "of each token of the answer")
        + " against steps, a panel for each objective.",
    )


def off_scale(study: Lookup) -> list[str]:
    """The objectives whose bits per byte at the full budget lie beyond the figures' axes."""
    _, high = _bits_limits(study, study.rungs[-2:])
    return [o for o in study.objectives if study.score(o, BITS).mean > high]


# --------------------------------------------------------------------------------------------------
# what the figures share


def _bits_limits(study: Lookup, rungs: Sequence[float]) -> tuple[float, float]:
    """The bits per byte to show: one objective far above the unigram model must not flatten all the
    others.
    """
    scores = [
        study.score(objective, BITS, rung) for objective in study.objectives for rung in rungs
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
    log_axis(axes, "training compute (log scale), share of the budget")
    labels = [f"{format_flops(f)}\n{format_rung(rung)}" for f, rung in ticks]
    axes.set_xticks([f for f, _ in ticks], labels)


def _reference_lines(axes: Axes, study: Lookup, metric: str, values: list[float]) -> list[float]:
    """Dotted lines at the unigram model or the baselines; one far from all `values` is named
    instead of drawn.

    Returns the values of the lines drawn. Their labels stand apart, so that none covers another.
    """
    if metric == BITS:
        lines = [(f"{name} model", study.baseline(name, metric), 1.0, "right") for name in NGRAMS]
    else:
        lines = [
            (
                short_baseline(kind),
                study.baseline(kind, metric),
                *_PLACES.get(kind, (0.0, "left")),
            )
            for kind in study.baselines
        ]
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
    with styled():
        figure.draw_without_rendering()
        frame = axes.get_window_extent()
        dots = [axes.transData.transform((point.x, point.score.mean)) for point in points]
        taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in dots]
        for point in points:
            across = [(end, point.score.mean) for end in (point.bits.low, point.bits.high)]
            upright = [(point.x, end) for end in (point.score.low, point.score.high)]
            for ends in map(axes.transData.transform, (across, upright)):
                if np.isfinite(ends).all():
                    taken.append(Bbox([ends.min(axis=0) - 1, ends.max(axis=0) + 1]))
        for point in points:
            for dx, dy, side in _LABEL_PLACES:
                label = axes.annotate(
                    point.text,
                    (point.x, point.score.mean),
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


def _smoothed(curve: Sequence[CurvePoint]) -> tuple[list[float], list[float]]:
    """Means of the loss over at most 48 bins, equally wide on the logarithmic compute axis."""
    pairs = [(number(point.flops), number(point.loss)) for point in curve]
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


def _prefixes(run: Run) -> dict[int, float]:
    """Prefix length -> bits per byte; a key such as "16-31" counts as its lower end."""
    found = {}
    for label, value in run.bits_per_byte_by_prefix.items():
        start = re.match(r"\d+", str(label))
        if start is not None and not math.isnan(number(value)):
            found[int(start[0])] = number(value)
    return found


def _prefix_place(length: int) -> float:
    # the empty prefix has no logarithm; it stands one step before 1
    return float(length) if length else 0.5


def ceilings(groups: Sequence[tuple[SyntheticTask, Sequence[SyntheticEntry]]]) -> str:
    """The first figure of objectives on tasks of one kind, beside the lines that bound it.

    groups: (task, its summary entries), those of tasks with bounds.
    """
    if not groups:
        return ""
    figure, axes = new_figure(3.9)
    name = next(iter(groups[0][0].figures))
    places = range(len(groups))
    for bound in groups[0][0].bounds:
        levels = [mean(number((e.get(bound) or e).get("mean")) for e in all_) for _, all_ in groups]
        across = [-0.25, *places, len(groups) - 0.75]
        levels = [levels[0], *levels, levels[-1]]
        axes.plot(across, levels, color=SOFT, linewidth=1.1, linestyle=(0, (4, 3)))
        axes.annotate(bound, (-0.24, levels[0]), (0, 3), fontsize=9, **_NOTE)
    specs = list(dict.fromkeys(entry.objective for _, entries in groups for entry in entries))
    for index, spec in enumerate(specs):
        style = line_style(index, 6) | {"linewidth": 1.2}
        found = [
            (place + 0.03 * (index - (len(specs) - 1) / 2), entry[name])
            for place, (_, entries) in enumerate(groups)
            for entry in entries
            if entry.objective == spec and entry.get(name) is not None
        ]
        for x, score in found:
            if score.low is not None:
                axes.plot([x, x], [score.low, score.high], color=style["color"], linewidth=1.2)
        middle = [(x, score.mean) for x, score in found]
        axes.plot(*zip(*middle, strict=True), **style, label=shortened(spec, 30))
    parts = [task.title.rpartition(" ") for task, _ in groups]
    same = len({part[0] for part in parts}) == 1  # what all tasks are called stands below the axis
    axes.set_xticks(places, [part[2] if same else "".join(part) for part in parts])
    axes.set_xlabel(parts[0][0] if same else "")
    axes.set_xlim(-0.25, len(groups) - 0.75)
    set_title(axes, name.replace("_", " "))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return to_svg(
        figure,
        "ceilings",
        f"{name.replace('_', ' ').capitalize()} beside what bounds it",
        "A line for each objective, with its 95 % interval over seeds; dashed are "
        + ", ".join(groups[0][0].bounds)
        + ".",
    )
