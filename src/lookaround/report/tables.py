"""The tables of the pages, as plain data: texts in cells, with what each is marked by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lookaround.report.figures import short_baseline
from lookaround.report.findings import (
    FORECAST_COLUMNS,
    RIGHT_CONTEXT_COLUMNS,
    SPECULATION_COLUMNS,
    extrapolated_cell,
    extrapolated_times,
    extrapolation_title,
    forecast_standing,
    is_control,
    right_context_cells,
    speculation_cells,
    synthetic_cells,
    synthetic_columns,
    synthetic_name,
)
from lookaround.report.lookup import BASELINES, BITS, Interval, Lookup, number, verdict
from lookaround.report.page import Bar, Cell, Head, Row, Table
from lookaround.report.text import (
    MISSING,
    format_count,
    format_flops,
    format_gain,
    format_percent,
    format_rung,
    format_score,
    format_seconds,
    format_share,
)

if TYPE_CHECKING:
    from lookaround.report.schema import ForecastResults, SpeculationResults
    from lookaround.report.schema.synthetic import SyntheticEntry, SyntheticTask


# a heading and a smaller one below it, with the budget entries they show
_COSTS = (
    (("compute", "flops", format_flops), ("time", "seconds", format_seconds)),
    (("tokens", "tokens", format_count), ("scored targets", "targets", format_count)),
)
_SERIOUS = {"unigram", "majority", "untrained"}
_VERDICTS = {"better": "▲ better", "worse": "▼ worse", "unclear": "○ unclear"}


# --------------------------------------------------------------------------------------------------
# a comparison


def scores(study: Lookup) -> Table:
    """Every objective at the full budget, and what it is compared with."""
    metrics = study.headlines
    rows = [
        Row(
            objective,
            [*score_cells(study, objective, metrics, bars=True), *_costs(study, objective)],
            key=index,
            code=True,
            badges=[title for n, title in study.needs.items() if study.recommended(n) == objective],
            notes=_modes(study, objective),
        )
        for index, objective in enumerate(study.objectives)
    ]
    costs = _cost_heads()
    beside = [row._replace(cells=[*row.cells, *[Cell("")] * len(costs)]) for row in below(study)]
    heads = [Head("objective"), *score_heads(study, metrics), *costs]
    return Table("Scores at the largest budget", heads, [("", rows), ("baselines", beside)])


def below(study: Lookup, metrics: Sequence[str] | None = None) -> list[Row]:
    """Baselines and controls as rows below the objectives; without metrics of the headlines."""
    metrics = study.headlines if metrics is None else metrics
    lines = {
        BASELINES.get(kind, kind.replace("_", " ")): {
            metric: Interval(study.baseline(kind, metric)) for metric in metrics
        }
        for kind in study.baselines
    }
    rows = []
    for name, values in (lines | study.controls).items():
        cells = []
        for metric, share in _columns(study, metrics):
            score = values.get(metric, Interval(math.nan))
            if share:
                cells.append(Cell(format_share(score.mean, study.unigram)))
            else:
                cells.append(Cell(signless(score.mean), span(score)))
        if any(cell.text != MISSING for cell in cells):
            rows.append(Row(name, cells))
    return rows


def ladder(study: Lookup) -> Table:
    """Every objective at every rung."""
    groups = [
        (
            "",
            [
                Row(
                    objective,
                    [
                        Cell(format_rung(rung)),
                        *score_cells(study, objective, study.metrics, rung),
                        *_costs(study, objective, rung),
                        Cell(str(len(study.runs_at(objective, rung)) or MISSING), kind="cost"),
                    ],
                    key=index,
                    code=True,
                )
                for rung in study.rungs
            ],
        )
        for index, objective in enumerate(study.objectives)
    ]
    shown = [*score_heads(study, study.metrics), *_cost_heads()]
    heads = [Head("objective"), Head("budget"), *shown, Head("seeds")]
    return Table("Scores at every rung", heads, groups)


def extrapolation(study: Lookup) -> Table | None:
    """Bits per byte at larger budgets; None where nothing is foretold."""
    times = extrapolated_times(study.results)
    if not times:
        return None
    rows = [
        Row(
            objective,
            [Cell(extrapolated_cell(line, factor)) for factor in times],
            key=study.objectives.index(objective),
            code=True,
        )
        for objective, line in study.results.extrapolation.items()
        if objective in study.objectives
    ]
    heads = [Head("objective"), *(Head(f"{factor:g} x", "the budget") for factor in times)]
    return Table(extrapolation_title(study.results), heads, [("", rows)])


def _columns(study: Lookup, metrics: Sequence[str]) -> list[tuple[str, bool]]:
    """(metric, whether it is told as a share of the unigram model's) of each column of scores."""
    columns = []
    for metric in metrics:
        columns.append((metric, False))
        if metric == BITS and study.has_unigram:
            columns.append((metric, True))
    return columns


def score_heads(study: Lookup, metrics: Sequence[str]) -> list[Head]:
    """The headings of scores: what they are, and in what they are told."""
    about = {name: task.metric or "" for name, task in study.results.tasks.items()}
    heads = []
    for metric, share in _columns(study, metrics):
        if share:
            heads.append(Head("of the unigram"))
            continue
        unit = about.get(metric.partition("/")[2], "")
        if study.has_gain(metric):
            points = ", points" * study.in_points(metric)
            unit = f"gain over untrained{points}; then {unit or 'score'}"
        heads.append(Head(study.title(metric), unit))
    return heads


def _cost_heads() -> list[Head]:
    return [
        *(Head(upper[0], lower[0]) for upper, lower in _COSTS),
        Head("epochs", "unique tokens"),
        Head("learning rate", "parameters"),
    ]


def score_cells(
    study: Lookup,
    objective: str,
    metrics: Sequence[str],
    rung: float | None = None,
    *,
    bars: bool = False,
) -> list[Cell]:
    """The gain and score of one objective at a rung in each metric."""
    cells = []
    for metric, share in _columns(study, metrics):
        score = study.score(objective, metric, rung)
        if share:
            cells.append(Cell(format_share(score.mean, study.unigram)))
            continue
        marks = [
            mark
            for kind in study.below(objective, metric, rung)
            for mark in _marks(study, kind, metric)
        ]
        bar = _bar(study, metric, score) if bars else None
        gain = study.gain(objective, metric, rung)
        if gain.known:
            then = signless(score.mean) + (f" [{span(score)}]" if score.bounded else "")
            points = study.in_points(metric)
            cells.append(Cell(*gained(gain, points=points), then, marks, bar))
        else:
            cells.append(Cell(signless(score.mean), span(score), "", marks, bar))
    return cells


def _marks(study: Lookup, kind: str, metric: str) -> list[tuple[str, str]]:
    """The class and the words of flags: what an objective falls short of."""
    side = "below" if study.higher(metric) else "above"
    flag = "flag serious" if kind in _SERIOUS else "flag"
    marks = [(flag, f"▼ {side} {short_baseline(kind)}")]
    return marks + [("flag", "context is not used yet")] * (kind == "bigram")


def gained(gain: Interval, *, points: bool) -> tuple[str, str]:
    """A gain, and the ends of its interval."""
    mean, low, high = (
        format_gain(Interval(value), points=points).replace("-", "−") for value in gain[:3]
    )
    return mean if gain.known else MISSING, f"{low} to {high}" if gain.bounded else ""


def _costs(study: Lookup, objective: str, rung: float | None = None) -> list[Cell]:
    """What one objective has cost at a rung."""
    cells = []
    for pair in _COSTS:
        upper, lower = (form(study.cost(objective, key, rung)) for _, key, form in pair)
        cells.append(Cell(upper, lower, kind="cost"))
    unique = format_count(number(study.results.corpus.tokens.get("train")))
    parameters = format_count(number(study.results.parameters))
    return [
        *cells,
        Cell(format_count(study.epochs(objective, rung)), unique, kind="cost"),
        Cell(study.learning_rate(objective, rung), parameters, kind="cost"),
    ]


def _modes(study: Lookup, objective: str) -> list[str]:
    """What `mode` says: one line per need, or a single line without the need where all are read
    alike.
    """
    parts = [part.strip() for part in study.mode(objective).split(";") if part.strip()]
    ways = {part.partition(":")[2].strip() for part in parts}
    return sorted(ways) if len(parts) > 1 and len(ways) == 1 and "" not in ways else parts


def signless(value: float) -> str:
    """A score with a minus sign in place of a hyphen."""
    return MISSING if math.isnan(value) else format_score(value).replace("-", "−")


def span(score: Interval) -> str:
    """The ends of an interval, or "" where there is none."""
    return f"{signless(score.low)} to {signless(score.high)}" if score.bounded else ""


def _bar(study: Lookup, metric: str, score: Interval) -> Bar | None:
    """Where an interval lies between the lowest and the highest value of its column."""
    found = [study.score(objective, metric)[:3] for objective in study.objectives]
    values = [value for ends in found for value in ends if not math.isnan(value)]
    if not score.known or min(values) >= max(values):
        return None
    low, high = min(values), max(values)
    left, middle, right = (
        round(100 * (value - low) / (high - low), 1)
        for value in (score.low, score.mean, score.high)
    )
    return Bar(middle, left, round(right - left, 1)) if score.bounded else Bar(middle)


def differences(study: Lookup, rung: float) -> Table | None:
    """The paired differences at a rung; None where there are none."""
    pairs: dict[tuple[str, str], dict[str, Interval]] = {}
    for objective, reference, metric, difference in study.differences(rung):
        pairs.setdefault((objective, reference), {})[metric] = difference
    metrics = list(dict.fromkeys(metric for row in pairs.values() for metric in row))
    if not metrics:
        return None
    # with one task the mean over tasks is that task
    single = [key for key, names in study.columns.items() if len(names) == 1]
    shown_itself = {key for key in single if f"{key}/{study.columns[key][0]}" in metrics}
    metrics = [metric for metric in metrics if metric not in shown_itself]
    rows = [
        Row(
            objective,
            [
                _difference(row.get(metric, Interval(math.nan)), higher=study.higher(metric))
                for metric in metrics
            ],
            code=True,
            minus=reference,
        )
        for (objective, reference), row in pairs.items()
    ]
    heads = [Head("pair"), *(Head(study.title(metric)) for metric in metrics)]
    return Table(f"Paired differences at {at(rung)}", heads, [("", rows)])


def _difference(difference: Interval, *, higher: bool) -> Cell:
    if not difference.known:
        return Cell()
    found = verdict(difference, higher=higher)
    sign = "+" if difference.mean > 0 else ""
    text = f"{sign}{signless(difference.mean)}"
    return Cell(text, span(difference), marks=[(found, _VERDICTS[found])])


def at(rung: float) -> str:
    return "the full budget" if rung == 1 else f"{format_rung(rung)} of the budget"


def tasks(study: Lookup) -> Table:
    """What the classification tasks are."""
    rows = [
        Row(
            name,
            [
                Cell(about.metric or "", kind="text"),
                *(
                    Cell(format_count(number(count)))
                    for count in (about.train, about.test, about.classes)
                ),
                Cell("; ".join(about.notes), kind="text prose"),
            ],
        )
        for name, about in study.results.tasks.items()
    ]
    names = ("task", "metric", "train", "test", "classes", "notes")
    heads = [Head(name, kind="text" if name in ("metric", "notes") else "") for name in names]
    return Table("Tasks", heads, [("", rows)])


# --------------------------------------------------------------------------------------------------
# the other studies


def forecast(result: ForecastResults) -> Table:
    """Every objective and control of a forecast."""
    rows = []
    for place, line in enumerate(result.lines):
        cells = [Cell(read(line)) for _, _, read in FORECAST_COLUMNS]
        for task in result.metrics:
            standing = forecast_standing(result, line, task)
            marks = [("flag" if standing == "leads" else "unclear", standing)] if standing else []
            cells.append(Cell(format_score(number(line.tasks.get(task))), marks=marks))
        rows.append(Row(line.objective, cells, key=place if line.singular_values else None))
    models = len(result.objectives)
    heads = [
        Head("objective"),
        *(
            Head(heading.replace("-\n", "").replace("\n", " "), title=meaning)
            for heading, meaning, _ in FORECAST_COLUMNS
        ),
        *map(Head, result.metrics),
    ]
    return Table("Forecast", heads, [("", rows[:models]), ("baselines", rows[models:])])


def right_context(result: ForecastResults) -> Table:
    """What the words to the right tell of each task of words."""
    heads = [Head("task"), *(Head(name.replace("\n", " ")) for name in RIGHT_CONTEXT_COLUMNS)]
    rows = [
        Row(task, list(map(Cell, right_context_cells(found))))
        for task, found in result.right_context.items()
    ]
    return Table("Right context", heads, [("", rows)])


def answers(result: ForecastResults) -> Table:
    """What a forecast recommends for each task, and why."""
    rows = [
        Row(
            task,
            [
                Cell(answer, kind="text prose"),
                Cell(result.reasons.get(task, ""), kind="text prose"),
            ],
        )
        for task, answer in result.recommendation.items()
    ]
    heads = [Head("task"), Head("recommends", kind="text"), Head("why", kind="text")]
    return Table("Recommendations", heads, [("", rows)])


def synthetic(task: SyntheticTask, entries: Sequence[SyntheticEntry]) -> Table:
    """The objectives on one task, those of its control behind them.

    entries: of the summary, all of the task.
    """
    groups: dict[bool, list[Row]] = {False: [], True: []}
    for entry in entries:
        first, *others = synthetic_cells(entry, task)
        ways = entry.ways
        small = ", ".join(f"{way} {format_percent(number(share))}" for way, share in ways.items())
        cells = [Cell(first, small if len(ways) > 1 else ""), *map(Cell, others)]
        groups[is_control(entry)].append(Row(synthetic_name(entry), cells))
    heads = [Head(name, title=meaning) for name, meaning in synthetic_columns(task)]
    groups_shown = [("", groups[False]), ("baselines", groups[True])]
    return Table(f"Results on {task.title}", [Head("objective"), *heads], groups_shown)


def speculation(result: SpeculationResults) -> Table:
    """Speed by number of sequences."""
    rows = []
    for entry in result.by_batch:
        name, *cells = speculation_cells(entry)
        rows.append(Row(name, [*map(Cell, cells)]))
    heads = [Head(heading.replace("\n", " ")) for heading in SPECULATION_COLUMNS]
    return Table("Speed by number of sequences", heads, [("", rows)])


def plain(rows: Sequence[dict[str, Any]]) -> Table:
    """Rows as they are, numbers with four digits."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    written = [[_plain(row.get(name)) for name in names] for row in rows]
    heads = [Head(name.replace("_", " ")) for name in names]
    return Table("", heads, [("", [Row(name, [*map(Cell, cells)]) for name, *cells in written])])


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else MISSING if value is None else str(value)
