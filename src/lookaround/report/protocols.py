"""What protocols found beside their figures: by task, number of labels, phenomenon and kind."""

from __future__ import annotations

import math

from lookaround.report.lookup import AMBIGUOUS, BASELINES, Interval, Lookup, mean, number
from lookaround.report.page import Cell, Head, Row, Table
from lookaround.report.svg import (
    SOFT,
    colour_of,
    line_style,
    log_axis,
    new_figure,
    set_limits,
    set_title,
    shortened,
    to_svg,
)
from lookaround.report.tables import below, gained, score_cells, score_heads, signless


def by_task(study: Lookup, key: str) -> Table | None:
    """Every objective on each task of a protocol, token tasks also on their ambiguous words.

    None where the table of headlines says it all.
    """
    tasks, shown = study.columns[key], ("", AMBIGUOUS) if key == "tokens" else ("",)
    if len(tasks) < 2 and key != "tokens":
        return None
    metrics = [f"{part or key}/{task}" for task in tasks for part in shown]
    rows = [
        Row(name, score_cells(study, name, metrics, bars=True), key=index, code=True)
        for index, name in enumerate(study.objectives)
    ]
    heads = [Head("objective"), *score_heads(study, metrics)]
    groups = [("", rows), ("baselines", below(study, metrics))]
    return Table(f"Scores by task: {key}", heads, groups)


# --------------------------------------------------------------------------------------------------
# fine-tuning


def over_seeds(study: Lookup, objective: str, task: str) -> dict[int, dict[str, Interval]]:
    """{labels: {field: its mean over seeds, with the lowest and highest seed}}."""
    seeds = study.labels(objective, task)
    by_labels: dict[int, dict[str, Interval]] = {}
    for count in sorted({line.labels for seed in seeds for line in seed}):
        lines = [line for seed in seeds for line in seed if line.labels == count]
        by_labels[count] = {}
        for field in ("score", "before", "probe", study.linear):
            values = [number(line.get(field)) for line in lines]
            low, high = min(values), max(values)
            if len(lines) == 1:
                low, high = number(lines[0].low), number(lines[0].high)
            by_labels[count][field] = Interval(mean(values), low, high, len(values))
    return by_labels


def finetune(study: Lookup, task: str) -> Table:
    """Gain over training from scratch, score and frozen probe by number of labels."""
    found = {name: over_seeds(study, name, task) for name in study.objectives}
    counts = sorted({count for by_labels in found.values() for count in by_labels})
    points = study.in_points(f"finetune/{task}")
    rows = []
    for index, (name, by_labels) in enumerate(found.items()):
        cells = []
        for count in counts:
            line = by_labels.get(count)
            if line is None:
                cells.append(Cell())
                continue
            gain = Interval(line["score"].mean - line["before"].mean)
            then = f"{signless(line['score'].mean)}, probe {signless(line['probe'].mean)}"
            cells.append(Cell(gained(gain, points=points)[0], then=then))
        rows.append(Row(name, cells, key=index, code=True, notes=[study.worth(name, task)]))
    some = next((by_labels for by_labels in found.values() if by_labels), {})
    kind = study.linear
    beside = [
        Cell(signless(some[count][kind].mean)) if count in some else Cell() for count in counts
    ]
    heads = [Head("objective")]
    small = f"gain over scratch{', points' * points}; then score"
    heads += [Head(f"{count:,} labels", small) for count in counts]
    groups = [("", rows), ("baselines", [Row(BASELINES[kind], beside)])]
    return Table(f"Fine-tuning on {task}", heads, groups)


def label_curve(study: Lookup, task: str) -> str:
    """Score against the number of labels: pretrained, from scratch, frozen, a baseline."""
    figure, axes = new_figure(3.8)
    levels: list[float] = []
    ticks: set[int] = set()
    drawn: list[str] = []
    scratch: set[tuple[float, ...]] = set()
    for index, name in enumerate(study.objectives):
        by_labels = over_seeds(study, name, task)
        counts = list(by_labels)
        if not counts:
            continue
        lines = {
            field: [by_labels[count][field].mean for count in counts]
            for field in ("score", "before", "probe", study.linear)
        }
        low, high = ([by_labels[count]["score"][end] for count in counts] for end in (1, 2))
        axes.fill_between(counts, low, high, color=colour_of(index), alpha=0.1, linewidth=0)
        axes.plot(counts, lines["probe"], color=colour_of(index), linewidth=0.8, alpha=0.6)
        axes.plot(counts, lines["score"], **line_style(index, 5))
        if not drawn:
            axes.plot(
                counts, lines[study.linear], color=SOFT, linewidth=1.2, linestyle=(0, (1.5, 2))
            )
        if tuple(lines["before"]) not in scratch:
            axes.plot(counts, lines["before"], color=SOFT, linewidth=1.2, linestyle=(0, (5, 2)))
            scratch.add(tuple(lines["before"]))
        ticks.update(counts)
        levels += [value for values in lines.values() for value in values]
        drawn.append(f"{name}: " + ", ".join(f"{score:.3f}" for score in lines["score"]))
    if not drawn:
        return ""
    ordered = sorted(ticks)
    log_axis(axes, "labelled examples (log scale)")
    axes.set_xticks(ordered, [f"{count:,}" for count in ordered])
    set_limits(axes.set_ylim, levels, 0.08)
    set_title(axes, f"{shortened(task)} (up is better)")
    return to_svg(
        figure,
        f"labels-{study.columns['finetune'].index(task)}",
        f"{task}: score by number of labels",
        "; ".join(drawn) + f" (at {', '.join(map(str, ordered))} labels)",
    )


# --------------------------------------------------------------------------------------------------
# minimal pairs and word order


def pairs(study: Lookup, task: str) -> Table:
    """Every objective on minimal pairs, by the chain rule and by pseudo-log-likelihood."""
    rows = [
        Row(
            name,
            [Cell(signless(study.pairs(name, task, kind))) for kind in ("chain", "pseudo")],
            key=index,
            code=True,
        )
        for index, name in enumerate(study.objectives)
    ]
    heads = [Head("objective"), Head("chain rule"), Head("pseudo-log-likelihood")]
    known = study.baseline("unigram", f"pairs/{task}")
    beside = [Row(BASELINES["unigram"], [Cell(signless(known)), Cell()])]
    return Table(f"Minimal pairs: {task}", heads, [("", rows), ("baselines", beside)])


def phenomena(study: Lookup, task: str) -> Table:
    """Minimal pairs by phenomenon: a column for each objective and kind of likelihood."""
    columns = [
        (name, kind)
        for name in study.objectives
        for kind in ("chain", "pseudo")
        if not math.isnan(study.pairs(name, task, kind))
    ]
    rows = [
        Row(
            phenomenon.replace("_", " "),
            [Cell(signless(study.pairs(name, task, kind, phenomenon))) for name, kind in columns],
        )
        for phenomenon in study.phenomena(task)
    ]
    heads = [Head("phenomenon"), *(Head(name, kind) for name, kind in columns)]
    return Table(f"Minimal pairs by phenomenon: {task}", heads, [("", rows)])


def order(study: Lookup) -> Table:
    """Every objective on each kind of change of the order of words."""
    found = {name: study.by_kind(name) for name in study.objectives}
    kinds = list(dict.fromkeys(kind for by_kind in found.values() for kind in by_kind))
    rows = [
        Row(
            name,
            [Cell(signless(number(by_kind.get(kind)))) for kind in kinds],
            key=index,
            code=True,
        )
        for index, (name, by_kind) in enumerate(found.items())
    ]
    heads = [Head("objective"), *(Head(kind.replace("_", " ")) for kind in kinds)]
    return Table("Word order by kind of change", heads, [("", rows)])
