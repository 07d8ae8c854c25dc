"""Every study's results at the terminal.

print_results(load_results("runs/compare/results.json"), rich.console.Console())
"""

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookaround.report.findings import (
    FORECAST_COLUMNS,
    SPECULATION_COLUMNS,
    SYNTHETIC_COLUMNS,
    forecast_contexts,
    forecast_features,
    forecast_lines,
    forecast_score,
    forecast_tasks,
    is_control,
    speculation_lines,
    synthetic_cells,
    synthetic_findings,
    synthetic_heading,
    synthetic_name,
    synthetic_tasks,
    synthetic_title,
)
from lookaround.report.lookup import BASELINES, MISSING, NEEDS, Lookup
from lookaround.report.text import (
    format_count,
    format_flops,
    format_interval,
    format_rung,
    format_score,
    format_seconds,
    format_share,
    printable,
)

__all__ = ["print_forecast", "print_results", "print_speculation", "print_synthetic"]

_GAP = 2  # spaces between columns
_NAME_WIDTH = 28  # longer names are folded
_HEADING_WIDTH = 16  # the name of a task is broken there
_TASK_WIDTH = 14  # the name of a task is broken there
_SERIOUS = {
    "unigram",
    "majority",
    "random_init",
}  # below one of these a model has learned nothing of use


class Column(NamedTuple):
    """A column of numbers at a terminal.

    heading: its lines.
    cells: one per row: the objectives, then what they are compared with.
    """

    heading: str
    cells: list[str]

    @property
    def width(self) -> int:
        return max(map(len, [*self.heading.split("\n"), *self.cells]))


def print_results(results: dict[str, Any], console: Console) -> None:
    """Print the scores at the full budget, the baselines, the recommendation per need and the
    notes.

    Takes the dict of `load_results`. Columns that do not fit the console's width go into a further
    table, so nothing is cut off or wrapped within a number; a console without colours loses no
    information.
    """
    study = Lookup(results)
    scores, costs, labels, flagged = _columns(study)
    print_text(console, _heading(study), style="bold")
    print_columns(console, [scores, costs], labels, len(study.objectives))
    for line in [*flagged, *_modes(study)]:
        print_text(console, line)
    console.print()
    recommendation, reasons = (results.get(key) or {} for key in ("recommendation", "reasons"))
    answers = [
        (
            need,
            recommendation.get(need) or "not measured",
            bool(study.recommended(need)),
            reasons.get(need),
        )
        for need in NEEDS
    ]
    print_answers(console, answers)
    for note in results.get("notes") or []:
        print_text(console, f"note: {printable(note)}")


def _heading(study: Lookup) -> str:
    seeds = f"{len(study.seeds)} seed" + ("" if len(study.seeds) == 1 else "s")
    methods = "; ".join(map(printable, study.methods()))
    share = "the full budget" if study.full == 1 else f"{format_rung(study.full)} of the budget"
    return f"Scores at {share}, {seeds}" + (f" ({methods})" if methods else "")


def _columns(study: Lookup) -> tuple[list[Column], list[Column], list[str], list[str]]:
    """The columns of scores, the columns of costs, the labels of the rows, and what the flags
    mean.
    """
    baselines = [
        kind
        for kind in BASELINES
        if any(not math.isnan(study.baseline(kind, m)) for m in study.metrics)
    ]
    labels = [*map(printable, study.objectives), *(BASELINES[kind] for kind in baselines)]
    labels += ["unigram model"] if study.has_unigram else []
    flags: set[str] = set()
    scores = []
    for metric in study.metrics:
        cells = []
        for objective in study.objectives:
            score = study.score(objective, metric)
            below = study.below(metric, score.mean)
            flag = "" if not below else "!!" if _SERIOUS & set(below) else "!"
            flags.add(flag)
            cells.append(f"{format_interval(score)} {flag:<2}")
        cells += [f"{_blank(format_score(study.baseline(kind, metric)))}   " for kind in baselines]
        if study.has_unigram:
            cells.append(f"{study.unigram:.3f}   " if metric == "bits_per_byte" else "")
        if not any(cell.rstrip().endswith("!") for cell in cells):
            cells = [cell.rstrip() for cell in cells]
        heading = "\n".join(wrap(printable(study.title(metric)), _HEADING_WIDTH))
        heading += "" if study.higher(metric) else "\n(lower better)"
        scores.append(Column(heading, cells))
        if metric == "bits_per_byte" and study.has_unigram:
            shares = [
                format_share(study.score(objective, metric).mean, study.unigram)
                for objective in study.objectives
            ]
            scores.append(Column("of the\nunigram", [*shares, *[""] * len(baselines), "100%"]))
    shown = {
        "tokens": ("tokens", format_count),
        "targets": ("targets", format_count),
        "flops": ("compute", format_flops),
        "seconds": ("time", format_seconds),
    }
    padding = [""] * (len(labels) - len(study.objectives))
    costs = [
        Column(heading, [form(study.cost(o, key)) for o in study.objectives] + padding)
        for key, (heading, form) in shown.items()
    ]
    costs.append(
        Column("learning\nrate", [study.learning_rate(o) for o in study.objectives] + padding)
    )
    explanations = {
        "!": "!   the mean is below TF-IDF + logistic regression",
        "!!": "!!  the mean is below the majority class or a random initialisation, or above the "
        "unigram model's bits",
    }
    return scores, costs, labels, [text for flag, text in explanations.items() if flag in flags]


def _modes(study: Lookup) -> list[str]:
    """One line per way of reading a model, with the objectives that are read that way."""
    read: dict[str, list[str]] = {}
    for objective in study.objectives:
        if mode := study.mode(objective):
            read.setdefault(printable(mode), []).append(printable(objective))
    return [f"mode of {', '.join(objectives)}: {mode}" for mode, objectives in read.items()]


def _blank(cell: str) -> str:
    return "" if cell == MISSING else cell


def print_columns(
    console: Console, groups: Sequence[list[Column]], labels: Sequence[str], models: int
) -> None:
    """All columns in one table if they fit, else each group in as many tables as it takes.

    labels: of the rows. Those after the first `models` are dim, and left out where they are empty.
    """
    room = console.width - min(_NAME_WIDTH, max(map(len, ["objective", *labels])))

    def used(columns: list[Column]) -> int:
        return sum(column.width + _GAP for column in columns)

    pages = [[column for group in groups for column in group]]
    if used(pages[0]) > room:
        pages = []
        for group in groups:
            page: list[Column] = []
            for column in group:
                if not page or used([*page, column]) > room:
                    page = []
                    pages.append(page)
                page.append(column)
    for page in pages:
        console.print(_table(labels, page, models))
        console.print()


def _table(labels: Sequence[str], columns: list[Column], models: int) -> Table:
    # No box: it costs width, and not every log viewer shows the characters it is drawn with.
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    lines = max(column.heading.count("\n") for column in columns)
    table.add_column(Text("\n" * lines + "objective"), max_width=_NAME_WIDTH, overflow="fold")
    for column in columns:
        heading = (
            "\n" * (lines - column.heading.count("\n")) + column.heading
        )  # headings stand on the rows
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for row, label in enumerate(labels):
        cells = [column.cells[row] for column in columns]
        if row >= models and not any(map(str.strip, cells)):
            continue
        style = "dim" if row >= models else ""
        table.add_row(Text(label), *(Text(cell, _style(cell)) for cell in cells), style=style)
    return table


def _style(cell: str) -> str:
    return "red" if cell.endswith("!!") else "yellow" if cell.rstrip().endswith("!") else ""


def print_answers(console: Console, answers: Sequence[tuple[str, str, bool, str | None]]) -> None:
    """The recommendation: (what for, answer, whether it names an objective, why) of each."""
    print_text(console, "Recommendation", style="bold")
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    grid.add_column(
        no_wrap=True, width=min(28, max((len(name) for name, *_ in answers), default=1))
    )
    grid.add_column()
    for name, answer, decided, reason in answers:
        grid.add_row(
            Text(printable(name)),
            Text(printable(answer), "bold green" if decided else "bold yellow"),
        )
        if reason:
            grid.add_row("", Text(printable(reason)))
    console.print(grid)
    console.print()


def print_text(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style))


def print_forecast(result: dict[str, Any], console: Console) -> None:
    """Print the table, the recommendation per task, the track record and the notes of a
    forecast.
    """
    tasks = forecast_tasks(result)
    print_text(
        console,
        f"Before any training: contexts of {forecast_contexts(result)}, rank {result['rank']}, "
        f"probes on {forecast_features(result)}",
        "bold",
    )
    lines = [line for line, _ in forecast_lines(result)]
    columns = [
        Column(heading, [read(line) for line in lines]) for heading, _, read in FORECAST_COLUMNS
    ]
    columns += [
        Column(
            "\n".join(wrap(printable(task), _TASK_WIDTH)),
            [forecast_score(result, line, task) for line in lines],
        )
        for task in tasks
    ]
    labels = [printable(line["objective"]) for line in lines]
    print_columns(console, [columns], labels, len(result.get("objectives") or []))
    if tasks:
        print_text(
            console,
            "^ leads among the objectives   = not told apart from the leader (paired, 95%)   last "
            "three lines: controls",
        )
    console.print()
    if tasks:
        reasons = result.get("reasons") or {}
        answers = (result.get("recommendation") or {}).items()
        print_answers(
            console,
            [
                (task, told, not told.startswith("nothing"), reasons.get(task))
                for task, told in answers
            ],
        )
    print_text(console, f"Track record: {(result.get('track_record') or {}).get('sentence', '')}")
    for note in result.get("notes") or []:
        print_text(console, f"note: {printable(note)}")


def print_synthetic(results: dict[str, Any], console: Console) -> None:
    """A table for each task, then the findings in words.

    Columns that a narrow terminal has no room for are left out.
    """
    for graph, entries in synthetic_tasks(results).items():
        print_text(console, synthetic_heading(synthetic_title(results, graph), entries), "bold")
        names = [printable(synthetic_name(entry)) for entry in entries]
        lines = [synthetic_cells(entry) for entry in entries]
        most = min(
            max(map(len, ["objective", *names])),
            34 if console.width >= 100 else 24,
            console.width // 2,
        )
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("objective", min_width=most, max_width=most, overflow="fold")
        room = console.width - most - 2
        shown: list[int] = []
        for place, (column, _) in enumerate(SYNTHETIC_COLUMNS):
            wide = max(len(column), *(len(cells[place]) for cells in lines)) + 2
            if wide <= room or not shown:
                table.add_column(column, justify="right", no_wrap=True)
                shown.append(place)
                room -= wide
        for entry, name, cells in zip(entries, names, lines, strict=True):
            table.add_row(
                Text(name),
                *(Text(cells[place]) for place in shown),
                style="dim" if is_control(entry) else "",
            )
        console.print(table)
        console.print()
    for line in synthetic_findings(results):
        print_text(console, line)


def print_speculation(result: dict[str, Any], console: Console) -> None:
    """Speed by number of sequences, then what was found, in words."""
    table = Table(box=None, pad_edge=False)
    for heading, _, _ in SPECULATION_COLUMNS:
        table.add_column(heading, justify="right")
    for entry in result["by_batch"]:
        table.add_row(*(form.format(entry[field]) for _, field, form in SPECULATION_COLUMNS))
    console.print(table)
    console.print()
    for line in speculation_lines(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
