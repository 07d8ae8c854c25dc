"""Every study's results at the terminal: `load_results("lookaround-compare").print(Console())`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import StringIO
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookaround.report.findings import (
    FORECAST_COLUMNS,
    RIGHT_CONTEXT_COLUMNS,
    SPECULATION_COLUMNS,
    extrapolated_cell,
    extrapolated_times,
    extrapolation_lines,
    extrapolation_title,
    forecast_contexts,
    forecast_features,
    forecast_standing,
    is_control,
    right_context_cells,
    speculation_cells,
    speculation_lines,
    synthetic_cells,
    synthetic_columns,
    synthetic_findings,
    synthetic_heading,
    synthetic_name,
    synthetic_tasks,
)
from lookaround.report.lookup import BASELINES, BITS, MISSING, Interval, Lookup, number
from lookaround.report.text import (
    format_count,
    format_flops,
    format_gain,
    format_interval,
    format_rung,
    format_score,
    format_seconds,
    format_share,
    single_line,
)

if TYPE_CHECKING:
    from lookaround.report.schema import (
        ComparisonResults,
        EvaluationResults,
        ForecastResults,
        PlanResults,
        PretrainResults,
        Results,
        SpeculationResults,
        SyntheticResults,
    )


_GAP = 2  # spaces between columns
_NAME_WIDTH = 28  # longer names are folded
_HEADING_WIDTH = 16  # the name of a task is broken there
# below one of these a model has learned nothing of use
_SERIOUS = {"unigram", "majority", "untrained"}


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


# --------------------------------------------------------------------------------------------------
# what all have


def print_result(result: Results, console: Console) -> None:
    """Prints the tables of any result as wide as the console, and what follows from them."""
    printers: dict[str, Any] = {
        "ComparisonResults": _print_comparison,
        "EvaluationResults": _print_evaluation,
        "ForecastResults": _print_forecast,
        "PlanResults": _print_plan,
        "PretrainResults": _print_pretrain,
        "SpeculationResults": _print_speculation,
        "SyntheticResults": _print_synthetic,
    }
    printers[type(result).__name__](result, console)


def as_text(result: Results) -> str:
    """What is printed of a result, in 100 columns and without colours."""
    file = StringIO()
    # in a notebook rich would display the text and leave the file empty
    console = Console(file=file, width=100, color_system=None, force_jupyter=False)
    print_result(result, console)
    return "\n".join(map(str.rstrip, file.getvalue().splitlines()))


def _print_table(
    console: Console,
    groups: Sequence[list[Column]],
    labels: Sequence[str],
    models: int | None = None,
    first: str = "objective",
) -> None:
    """All columns in one table if they fit, else each group in as many tables as it takes, so that
    nothing is cut off or wrapped within a number.

    labels: of the rows. Those after the first `models` are dim, and left out where they are empty.
    first: heading of the labels.
    """
    room = console.width - _GAP - min(_NAME_WIDTH, max(map(len, [first, *labels])))

    def used(columns: list[Column]) -> int:
        return sum(column.width + _GAP for column in columns) - _GAP

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
    models = len(labels) if models is None else models
    for page in pages:
        # No box: it costs width, and not every log viewer shows the characters it is drawn with.
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
        lines = max(column.heading.count("\n") for column in page)
        table.add_column(Text("\n" * lines + first), max_width=_NAME_WIDTH, overflow="fold")
        for column in page:  # headings stand on the rows
            above = "\n" * (lines - column.heading.count("\n"))
            narrow = column.width > room
            table.add_column(
                Text(above + column.heading), justify="right", no_wrap=not narrow, overflow="fold"
            )
        for row, label in enumerate(labels):
            cells = [column.cells[row] for column in page]
            if row < models or any(map(str.strip, cells)):
                style = "dim" if row >= models else ""
                shown = [Text(cell, _style(cell)) for cell in cells]
                table.add_row(Text(label), *shown, style=style)
        console.print(table)
        console.print()


def _style(cell: str) -> str:
    return "red" if cell.endswith("!!") else "yellow" if cell.rstrip().endswith("!") else ""


def _print_answers(console: Console, answers: Sequence[tuple[str, str, bool, str | None]]) -> None:
    """The recommendation: (what for, answer, whether it names an objective, why) of each."""
    _print_text(console, "Recommendation", style="bold")
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    grid.add_column(
        no_wrap=True, width=min(28, max((len(name) for name, *_ in answers), default=1))
    )
    grid.add_column()
    for name, answer, decided, reason in answers:
        grid.add_row(
            Text(single_line(name)),
            Text(single_line(answer), "bold green" if decided else "bold yellow"),
        )
        if reason:
            grid.add_row("", Text(single_line(reason)))
    console.print(grid)
    console.print()


def _print_text(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style))


def _print_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        _print_text(console, f"note: {single_line(note)}")


# --------------------------------------------------------------------------------------------------
# a comparison


def _print_comparison(results: ComparisonResults, console: Console) -> None:
    """Gain and score of each protocol at the full budget, the baselines and controls, a line for
    each need, and the notes. The page has the rest.
    """
    study = Lookup(results)
    scores, costs, labels, flagged = _columns(study)
    _print_text(console, _heading(study), style="bold")
    _print_table(console, [scores, costs], labels, len(study.objectives))
    for line in [*flagged, *_modes(study)]:
        _print_text(console, line)
    console.print()
    verdicts = results.verdicts
    answers = [
        (
            title,
            results.recommendation.get(need) or "not measured",
            bool(study.recommended(need)),
            _why(results, need) if need not in verdicts or verdicts[need].leader else None,
        )
        for need, title in study.needs.items()
    ]
    _print_answers(console, answers)
    _print_extrapolation(results, console)
    for task, told, objectives in study.worths():
        _print_text(console, single_line(f"{task}: {told}: {', '.join(objectives)}"))
    _print_notes(console, results.notes)


def _print_extrapolation(results: ComparisonResults, console: Console) -> None:
    """Bits per byte at larger budgets, and why not where the rungs do not bear it."""
    found = results.extrapolation
    times = extrapolated_times(results)
    if times:
        _print_text(console, extrapolation_title(results), style="bold")
        columns = [
            Column(f"{factor:g} x", [extrapolated_cell(line, factor) for line in found.values()])
            for factor in times
        ]
        _print_table(console, [columns], [*map(single_line, found)])
    for line in extrapolation_lines(results):
        _print_text(console, single_line(line))


def _why(results: ComparisonResults, need: str) -> str | None:
    """Why an answer is open and what would settle it; nothing where it is settled."""
    verdict = results.verdicts.get(need)
    return None if verdict and verdict.green else results.reasons.get(need)


def _heading(study: Lookup) -> str:
    seeds = f"{len(study.seeds)} seed" + ("" if len(study.seeds) == 1 else "s")
    methods = "; ".join(map(single_line, study.methods()))
    share = "the full budget" if study.full == 1 else f"{format_rung(study.full)} of the budget"
    return f"Scores at {share}, {seeds}" + (f" ({methods})" if methods else "")


def _columns(study: Lookup) -> tuple[list[Column], list[Column], list[str], list[str]]:
    """The columns of scores, the columns of costs, the labels of the rows, and what the flags
    mean.
    """
    baselines = [
        kind
        for kind in study.baselines
        if any(not math.isnan(study.baseline(kind, metric)) for metric in study.headlines)
    ]
    titles = [BASELINES.get(kind, kind.replace("_", " ")) for kind in baselines]
    labels = [*map(single_line, [*study.objectives, *titles, *study.controls])]
    flags: set[str] = set()
    scores = []
    for metric in study.headlines:
        gained, cells = study.has_gain(metric), []
        for objective in study.objectives:
            below = study.below(objective, metric)
            flag = "" if not below else "!!" if _SERIOUS & set(below) else "!"
            flags.add(flag)
            cells.append(f"{_gain_and_score(study, objective, metric, gained)} {flag:<2}")
        cells += [f"{_blank(format_score(study.baseline(kind, metric)))}   " for kind in baselines]
        cells += [
            f"{format_score(control[metric].mean)}   " if metric in control else ""
            for control in study.controls.values()
        ]
        if not any(cell.rstrip().endswith("!") for cell in cells):
            cells = [cell.rstrip() for cell in cells]
        heading = _broken(study.title(metric))
        if gained:
            heading += f"\n{'points' if study.in_points(metric) else 'gain'}, score"
        heading += "" if study.higher(metric) else "\n(lower better)"
        scores.append(Column(heading, cells))
        if metric == BITS and study.has_unigram:
            shares = [study.score(objective, metric).mean for objective in study.objectives]
            shares += [study.baseline(kind, metric) for kind in baselines]
            told = [_blank(format_share(share, study.unigram)) for share in shares]
            scores.append(Column("of the\nunigram", [*told, *[""] * len(study.controls)]))
    shown = {
        "tokens": ("tokens", format_count),
        "flops": ("compute", format_flops),
        "seconds": ("time", format_seconds),
    }
    padding = [""] * (len(labels) - len(study.objectives))
    costs = [
        Column(heading, [form(study.cost(o, key)) for o in study.objectives] + padding)
        for key, (heading, form) in shown.items()
    ]
    epochs = [study.epochs(objective) for objective in study.objectives]
    if not all(map(math.isnan, epochs)):
        told = [format_count(value) for value in epochs]
        costs.insert(1, Column("epochs", told + padding))
    costs.append(
        Column("learning\nrate", [study.learning_rate(o) for o in study.objectives] + padding)
    )
    explanations = {
        "": "points: gain over the network before training, read in the same way"
        if any(map(study.has_gain, study.headlines))
        else "",
        "!": "!   the mean is worse than a baseline"
        + ("; bits above the bigram model's use no context yet" * ("bigram" in baselines)),
        "!!": "!!  the mean is worse than the majority class, the network before training or the "
        "unigram model",
    }
    return (
        scores,
        costs,
        labels,
        [text for flag, text in explanations.items() if text and flag in {"", *flags}],
    )


def _gain_and_score(study: Lookup, objective: str, metric: str, gained: bool) -> str:
    """The gain with its interval and the score; without a gain the score with its own."""
    score = study.score(objective, metric)
    if not gained:
        return format_interval(score)
    gain = format_gain(study.gain(objective, metric), points=study.in_points(metric))
    return f"{gain}  {format_score(score.mean)}"


def _modes(study: Lookup) -> list[str]:
    """One line per way of reading a model, with the objectives that are read that way."""
    read: dict[str, list[str]] = {}
    for objective in study.objectives:
        if mode := study.mode(objective):
            read.setdefault(single_line(mode), []).append(single_line(objective))
    return [f"mode of {', '.join(objectives)}: {mode}" for mode, objectives in read.items()]


def _blank(cell: str) -> str:
    return "" if cell == MISSING else cell


# --------------------------------------------------------------------------------------------------
# the others


def _print_forecast(result: ForecastResults, console: Console) -> None:
    """The table, the recommendation per task, the track record and the notes."""
    heading = (
        f"Before any training: contexts of {forecast_contexts(result)}, rank {result.rank}, "
        f"probes on {forecast_features(result)}"
    )
    _print_text(console, heading, "bold")
    lines, tasks = result.lines, result.metrics
    columns = [
        Column(heading, [read(line) for line in lines]) for heading, _, read in FORECAST_COLUMNS
    ]
    marks = {"leads": " ^", "not told apart": " =", "": "  "}
    for task in tasks:
        scores = [format_score(number(line.tasks.get(task))) for line in lines]
        standing = [marks[forecast_standing(result, line, task)] for line in lines]
        columns.append(
            Column(_broken(task), list(map("".join, zip(scores, standing, strict=True))))
        )
    labels = [single_line(line.objective) for line in lines]
    _print_table(console, [columns], labels, len(result.objectives))
    if tasks:
        _print_text(
            console,
            "^ leads among the objectives   = not told apart from the leader (paired, 95%)   last "
            "three lines: controls",
        )
    if result.right_context:
        _print_text(console, "\nWhat the words to the right tell, in linear windows", "bold")
        cells = map(right_context_cells, result.right_context.values())
        columns = [
            Column(heading, list(column))
            for heading, column in zip(RIGHT_CONTEXT_COLUMNS, zip(*cells, strict=True), strict=True)
        ]
        _print_table(console, [columns], list(map(single_line, result.right_context)), first="task")
    console.print()
    if tasks:
        answers = [
            (task, told, not told.startswith("nothing"), result.reasons.get(task))
            for task, told in result.recommendation.items()
        ]
        _print_answers(console, answers)
    _print_text(console, f"Track record: {result.track_record.sentence or ''}")
    _print_notes(console, result.notes)


def _print_synthetic(results: SyntheticResults, console: Console) -> None:
    """A table for each task, then the findings in words."""
    for graph, entries in synthetic_tasks(results).items():
        _print_text(console, synthetic_heading(results.tasks[graph].title, entries), "bold")
        task = results.tasks[graph]
        cells = zip(*(synthetic_cells(entry, task) for entry in entries), strict=True)
        columns = [
            Column(heading, list(column))
            for (heading, _), column in zip(synthetic_columns(task), cells, strict=True)
        ]
        labels = [single_line(synthetic_name(entry)) for entry in entries]
        models = sum(not is_control(entry) for entry in entries)
        _print_table(console, [columns], labels, models)
    for line in synthetic_findings(results):
        _print_text(console, line)


def _print_plan(result: PlanResults, console: Console) -> None:
    """The run in three lines, a line for each device, and what a study foretells."""
    _print_text(console, f"{single_line(result.objective)} with {result.model}", "bold")
    _print_text(
        console,
        f"{format_count(result.parameters)} parameters; {result.batch:,} rows of "
        f"{result.context:,} tokens a step; peak learning rate {result.learning_rate:.2g}\n"
        f"{format_count(result.tokens)} tokens, {format_flops(result.flops)}, {result.steps:,} "
        f"steps\nhours at {result.utilization:.0%} of the peak of bf16 products\n",
    )
    devices = result.devices
    columns = [
        Column("memory,\nGB", [f"{line.memory_gb:g}" for line in devices]),
        Column("rows\nat a time", [str(line.rows or "shards") for line in devices]),
        Column("hours", [_blank(_hours(number(line.hours))) for line in devices]),
        Column("cost", [_blank(_hours(number(line.cost))) for line in devices]),
        Column("largest\npreset", [line.largest or "" for line in devices]),
    ]
    shown = [column for column in columns if any(column.cells)]
    _print_table(console, [shown], [line.device for line in devices], first="device")
    for told in result.foretold:
        score = Interval(number(told.mean), number(told.low), number(told.high))
        what = told.reason or f"{format_interval(score)} bits per byte at this budget"
        _print_text(console, single_line(f"{told.objective}: {what}"))


def _hours(value: float) -> str:
    """Hours or their price: 0.042, 3.1, 1,240."""
    if math.isnan(value):
        return MISSING
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"


def _print_speculation(result: SpeculationResults, console: Console) -> None:
    """Speed by number of sequences, then what was found, in words."""
    first, *others = SPECULATION_COLUMNS
    labels, *values = zip(*map(speculation_cells, result.by_batch), strict=True)
    columns = [Column(name, list(cells)) for name, cells in zip(others, values, strict=True)]
    _print_table(console, [columns], list(labels), first=first)
    for line in speculation_lines(result):
        _print_text(console, line)


def _print_evaluation(result: EvaluationResults, console: Console) -> None:
    """Every score by protocol beside the network before training and its baselines, what
    fine-tuning is worth, and bits per byte by prefix.
    """
    size = number(result.parameters)
    about = "" if math.isnan(size) else f" ({format_count(size)} parameters)"
    _print_text(console, f"Scores of {single_line(result.model)}{about}", "bold")
    rows = result.tables()["scores"]
    fixed = {"score": "score", "before": "before\ntraining"}
    known = {name for row in rows for name in row} - {"protocol", "task", *fixed}
    names = [name for name in dict.fromkeys([*BASELINES, *sorted(known)]) if name in known]
    names = [name for name in names if not name.endswith("_ambiguous")]
    kinds = fixed | {name: _broken(BASELINES.get(name, name.replace("_", " "))) for name in names}
    shown = {kind: title for kind, title in kinds.items() if any(kind in row for row in rows)}
    columns = [
        Column(heading, [_blank(format_score(number(row.get(kind)))) for row in rows])
        for kind, heading in shown.items()
    ]
    labels = [_scored(result, row["protocol"], row["task"]) for row in rows]
    if rows:
        _print_table(console, [columns], labels, first="scored")
    for task, tuned in result.scores.get("finetune", {}).items():
        if tuned.worth:
            _print_text(console, f"{single_line(task)}: {single_line(tuned.worth)}")
    if found := result.bits_per_byte_by_prefix:
        cells = [format_score(number(value)) for value in found.values()]
        column = Column(f"bits per {result.unit or 'byte'}", cells)
        _print_table(console, [[column]], list(found), first="tokens before")
    modes = {"classification": result.classification_mode, "generation": result.generation_mode}
    for need, mode in modes.items():
        if mode:
            _print_text(console, f"mode of {need}: {single_line(mode)}")
    for note in result.notes:
        _print_text(console, f"note: {single_line(note)}")


def _scored(result: EvaluationResults, protocol: str, task: str) -> str:
    """What a row is a score of: the protocol, and the task if it has one."""
    name = f"bits per {result.unit or 'byte'}" if protocol == BITS else protocol.replace("_", " ")
    return single_line(name if task == "text" else f"{name}: {task}")


def _print_pretrain(result: PretrainResults, console: Console) -> None:
    """What a run has used, in a line."""
    spent = result.spent
    text = (
        f"{result.objective}, seed {result.seed}: {result.status}; "
        f"{format_count(number(spent.tokens))} tokens, {format_count(number(spent.targets))} "
        f"targets, {format_flops(number(spent.flops))}, {format_seconds(number(spent.seconds))}"
    )
    _print_text(console, single_line(text))


def _broken(heading: str) -> str:
    return "\n".join(wrap(single_line(heading), _HEADING_WIDTH))
