"""What a results.json says: read it, look numbers up, format them, print them at a terminal.

    results = load_results("runs/compare/results.json")
    print_results(results, rich.console.Console())

`Study` is the only place that knows where a number lies in the file; the terminal tables, the
figures and the HTML page all ask it. A number that is absent, null or NaN is `nan` here and a dash
wherever it is shown.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import fmean
from textwrap import wrap
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookaround.support.errors import UserError

__all__ = [
    "BASELINES",
    "NEEDS",
    "SUPPORTED_VERSION",
    "Interval",
    "Study",
    "format_count",
    "format_flops",
    "format_rung",
    "format_seconds",
    "load_results",
    "print_results",
]

SUPPORTED_VERSION = 1
NEEDS = ("classification", "generation", "both")
BASELINES = {
    "majority": "majority class",
    "tfidf": "TF-IDF + logistic regression",
    "random_init": "random initialisation",
}
MISSING = "-"

# Field -> (type, required). What is optional may also be null: a study without tasks has no scores
# to give.
_TOP_LEVEL: dict[str, tuple[type, bool]] = {
    "command": (str, True),
    "settings": (dict, False),
    "corpus": (dict, True),
    "machine": (dict, False),
    "versions": (dict, False),
    "baselines": (dict, False),
    "tasks": (dict, False),
    "metrics": (dict, False),
    "runs": (list, True),
    "summary": (list, True),
    "differences": (list, True),
    "recommendation": (dict, True),
    "reasons": (dict, False),
    "forecast": (dict, False),
    "notes": (list, False),
}
_ROWS = {
    "runs": ("objective", "seed", "rung", "budget"),
    "summary": ("objective", "rung", "metric", "mean"),
    "differences": ("objective", "reference", "rung", "metric", "mean"),
}
# of the fields of such a row: whether a value will do, and what would
_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "rung": (lambda value: not math.isnan(number(value)), "a number in (0, 1]"),
    "seed": (lambda value: type(value) is int, "an integer"),
    **dict.fromkeys(
        ("objective", "reference", "metric"), (lambda value: isinstance(value, str), "text")
    ),
}
# optional fields of a run; a list holds objects
_IN_RUNS = {
    **dict.fromkeys(("budget", "classification", "bits_per_byte_by_prefix"), dict),
    **dict.fromkeys(("curve", "samples"), list),
}


# ---------------------------------------------------------------------------------------------------------------
# reading


def load_results(path: str | Path) -> dict[str, Any]:
    """Read a results.json of version 1 and check that what the reports need is there.

    Raises `UserError`, in one line that names the file and the field, for a missing file, for text
    that is not JSON, for another version, and for a missing or mistyped field.
    """
    path = Path(path)
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; `lookaround compare` writes a results.json"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; expected a results.json") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(results, dict):
        raise UserError(
            f"{path}: found {_kind(results)}; expected the JSON object of a results.json"
        )
    if "version" not in results:
        raise UserError(f"{path}: field 'version' is missing; expected {SUPPORTED_VERSION}")
    if results["version"] is True or results["version"] != SUPPORTED_VERSION:
        found = json.dumps(results["version"])[:40]
        raise UserError(
            f"{path}: field 'version' is {found}; this lookaround reads version {SUPPORTED_VERSION}"
        )
    for field, (kind, required) in _TOP_LEVEL.items():
        if required and field not in results:
            raise UserError(f"{path}: field '{field}' is missing; expected {_NAMES[kind]}")
        if required or results.get(field) is not None:
            _expect(path, field, results[field], kind)
    for field in ("tasks", "baselines", "metrics"):
        for key, value in (results.get(field) or {}).items():
            _expect(path, f"{field}[{key!r}]", value, dict)
            _expect(path, f"{field}[{key!r}].notes", value.get("notes") or [], list)
    for field, keys in _ROWS.items():
        for place, row in enumerate(results[field]):
            _expect_row(path, f"{field}[{place}]", row, keys)
    for place, run in enumerate(results["runs"]):
        for field, kind in _IN_RUNS.items():
            if run.get(field) is not None:
                _expect(path, f"runs[{place}].{field}", run[field], kind)
                for position, item in enumerate(run[field] if kind is list else ()):
                    _expect(path, f"runs[{place}].{field}[{position}]", item, dict)
    return results


_NAMES = {
    str: "text",
    dict: "an object",
    list: "a list",
    int: "a number",
    float: "a number",
    bool: "true/false",
}


def _kind(value: object) -> str:
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)


def _expect(path: Path, field: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise UserError(f"{path}: field '{field}' is {_kind(value)}; expected {_NAMES[kind]}")


def _expect_row(path: Path, field: str, row: Any, keys: Sequence[str]) -> None:
    _expect(path, field, row, dict)
    for key in keys:
        if key not in row:
            raise UserError(f"{path}: field '{field}.{key}' is missing")
        fits, right = _VALUES.get(key, (None, ""))
        if fits is not None and not fits(row[key]):
            raise UserError(f"{path}: field '{field}.{key}' is {_kind(row[key])}; expected {right}")


# ---------------------------------------------------------------------------------------------------------------
# looking up


def number(value: object) -> float:
    """A finite float, or nan for anything else (null, text, an infinity)."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return math.nan


def mean(values: Iterable[object]) -> float:
    """The mean of the finite values; nan if there is none."""
    finite = [value for value in map(number, values) if not math.isnan(value)]
    return fmean(finite) if finite else math.nan


class Interval(NamedTuple):
    """A mean with its interval; `low` and `high` are nan where no interval was computed."""

    mean: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    method: str = ""

    @property
    def known(self) -> bool:
        return not math.isnan(self.mean)

    @property
    def bounded(self) -> bool:
        return not (math.isnan(self.low) or math.isnan(self.high))


def _interval(row: dict[str, Any]) -> Interval:
    count = number(row.get("n"))
    return Interval(
        number(row.get("mean")),
        number(row.get("low")),
        number(row.get("high")),
        0 if math.isnan(count) else int(count),
        str(row.get("method") or ""),
    )


class Study:
    """Lookups over the dict of a results.json; every list keeps the order of the file.

    Attributes: `objectives`, `rungs` (ascending), `full` (the largest rung), `seeds`, `tasks`,
    `unigram` (bits per byte of the unigram model, or nan), `columns` (protocol to the tasks it has
    scores of; none: of the text), `metrics` (the columns of a table of scores, those with a number
    only).
    """

    def __init__(self, results: dict[str, Any]):
        self.results = results
        self.runs: list[dict[str, Any]] = results.get("runs") or []
        rows = [*self.runs, *(results.get("summary") or [])]
        self.objectives = list(dict.fromkeys(str(row["objective"]) for row in rows))
        self.rungs = sorted({float(row["rung"]) for row in rows})
        self.full = self.rungs[-1] if self.rungs else 1.0
        self.seeds = sorted({run["seed"] for run in self.runs}, key=str)
        scored = [task for run in self.runs for task in run.get("classification") or {}]
        self.tasks = list(dict.fromkeys([*(results.get("tasks") or {}), *scored]))
        self.unigram = number(results.get("unigram_bits_per_byte"))
        self._summary = {
            (str(row["objective"]), float(row["rung"]), str(row["metric"])): _interval(row)
            for row in results.get("summary") or []
        }
        columns: dict[str, list[str]] = {"bits_per_byte": [], "classification": self.tasks}
        for _, _, metric in self._summary:
            key, _, task = metric.partition("/")
            if task not in ("", *columns.setdefault(key, [])):
                columns[key].append(task)
        self.columns = columns
        self.metrics = [
            metric
            for key, tasks in columns.items()
            for metric in ([key] if len(tasks) != 1 else []) + [f"{key}/{task}" for task in tasks]
            if any(
                self.score(name, metric, rung).known
                for name in self.objectives
                for rung in self.rungs
            )
        ]

    @property
    def has_unigram(self) -> bool:
        """Whether bits per byte can be told as a share of the unigram model's."""
        return not math.isnan(self.unigram) and "bits_per_byte" in self.metrics

    @property
    def classification(self) -> str | None:
        """The metric that stands for classification: the mean over tasks, the only task, or
        None.
        """
        return next((m for m in self.metrics if m.partition("/")[0] == "classification"), None)

    def about(self, metric: str) -> dict[str, Any]:
        """What the file says of the protocol that a metric is from: `title`, `higher`, `about`."""
        return (self.results.get("metrics") or {}).get(metric.partition("/")[0]) or {}

    def higher(self, metric: str) -> bool:
        """Whether more of a metric is better."""
        return bool(self.about(metric).get("higher", metric != "bits_per_byte"))

    def title(self, metric: str) -> str:
        """The heading of a metric: "bits per byte", "mean score", the task's name, "task
        (title)".
        """
        key, _, task = metric.partition("/")
        title = str(self.about(metric).get("title") or key.replace("_", " "))
        if key == "classification":
            return task or "mean score"
        return f"{task} ({title})" if task else title

    def runs_at(self, objective: str, rung: float) -> list[dict[str, Any]]:
        return [
            run for run in self.runs if run["objective"] == objective and float(run["rung"]) == rung
        ]

    def score(self, objective: str, metric: str, rung: float | None = None) -> Interval:
        """The summary row of one objective at a rung (the full budget if None), else the mean of
        its runs.
        """
        rung = self.full if rung is None else rung
        key, _, task = metric.partition("/")
        # with one task the mean over tasks is that task
        for name in (metric, key) if task and self.columns.get(key) == [task] else (metric,):
            found = self._summary.get((objective, rung, name))
            if found is not None and found.known:
                return found
        values = [self._value(run, metric) for run in self.runs_at(objective, rung)]
        return Interval(mean(values), n=len(values))

    def _value(self, run: dict[str, Any], metric: str) -> float:
        key, _, task = metric.partition("/")
        scores = run.get(key)
        if not isinstance(scores, dict):
            return number(scores)
        return number(scores.get(task)) if task else mean(scores.values())

    def cost(self, objective: str, key: str, rung: float | None = None) -> float:
        """Mean over seeds of a budget entry: "tokens", "targets", "flops" or "seconds"."""
        rung = self.full if rung is None else rung
        return mean((run.get("budget") or {}).get(key) for run in self.runs_at(objective, rung))

    def learning_rate(self, objective: str, rung: float | None = None) -> str:
        runs = self.runs_at(objective, self.full if rung is None else rung)
        rates = {number(run.get("learning_rate")) for run in runs}
        return ", ".join(f"{rate:g}" for rate in sorted(rates) if not math.isnan(rate)) or MISSING

    def mode(self, objective: str) -> str:
        modes = (str(run["mode"]) for run in self.runs_at(objective, self.full) if run.get("mode"))
        return next(modes, "")

    def baseline(self, kind: str, metric: str) -> float:
        """What a baseline scores on a metric; on the mean only if it was scored on every task."""
        baselines = self.results.get("baselines") or {}
        key, _, task = metric.partition("/")
        columns = [f"{key}/{name}" for name in ([task] if task else self.columns.get(key, ()))]
        lines = [baselines.get(column.removeprefix("classification/")) or {} for column in columns]
        scores = [number(line.get(kind)) for line in lines]
        return fmean(scores) if scores and not any(map(math.isnan, scores)) else math.nan

    def below(self, metric: str, value: float) -> list[str]:
        """The baselines that a mean falls short of: "unigram", or keys of `BASELINES`."""
        if metric == "bits_per_byte":
            return ["unigram"] if value > self.unigram else []
        sign = 1 if self.higher(metric) else -1
        return [kind for kind in BASELINES if sign * value < sign * self.baseline(kind, metric)]

    def recommended(self, need: str) -> str:
        """The recommended objective for a need, or "" where the file names none (inconclusive, not
        asked).
        """
        answer = str((self.results.get("recommendation") or {}).get(need) or "")
        return answer if answer in self.objectives else ""

    def methods(self) -> list[str]:
        return list(dict.fromkeys(row.method for row in self._summary.values() if row.method))

    def differences(self, rung: float) -> list[tuple[str, str, str, Interval]]:
        """(objective, reference, metric, objective minus reference) of every paired difference at a
        rung.
        """
        return [
            (str(row["objective"]), str(row["reference"]), str(row["metric"]), _interval(row))
            for row in self.results.get("differences") or []
            if float(row["rung"]) == rung
        ]


def verdict(difference: Interval, *, higher: bool) -> str:
    """ "better" or "worse" if the interval of a difference excludes 0, else "unclear"."""
    if not difference.bounded or difference.low <= 0 <= difference.high:
        return "unclear"
    return "better" if (difference.mean > 0) == higher else "worse"


# ---------------------------------------------------------------------------------------------------------------
# formatting


def _scaled(value: float, suffixes: Sequence[str]) -> str:
    """Two or three significant digits and a suffix per factor of 1000: 5.2M, 131M, 980."""
    if math.isnan(value):
        return MISSING
    power = 0
    while abs(value) >= 999.5 and power < len(suffixes) - 1:
        value, power = value / 1000, power + 1
    digits = 0 if abs(value) >= 99.95 or (power == 0 and value == round(value)) else 1
    return f"{value:.{digits}f}{suffixes[power]}"


def format_count(value: float) -> str:
    """Tokens, targets, documents or bytes: 980, 5.2k, 5.2M, 1.3B, 2.0T."""
    return _scaled(value, ["", "k", "M", "B", "T"])


def format_flops(value: float) -> str:
    """Floating point operations: 950 GFLOP, 2.0 PFLOP (a multiplication and an addition count as
    two).
    """
    scaled = _scaled(value, ["", "k", "M", "G", "T", "P", "E", "Z", "Y"])
    if scaled == MISSING:
        return scaled
    split = len(scaled.rstrip("kMGTPEZY"))
    return f"{scaled[:split]} {scaled[split:]}FLOP"


def format_seconds(value: float) -> str:
    """A duration: 9.5 s, 92 s, 14 min, 2.1 h, 3.5 days."""
    if math.isnan(value):
        return MISSING
    if value < 120:
        return f"{value:.1f} s" if value < 9.95 else f"{value:.0f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h" if value < 172_800 else f"{value / 86400:.1f} days"


def format_rung(rung: float) -> str:
    """A share of the budget as a fraction: 1/8, 1/2, 1."""
    fraction = Fraction(rung).limit_denominator(1000)
    return str(fraction) if fraction else f"{rung:g}"


def format_score(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.3f}"


def format_interval(score: Interval) -> str:
    """`1.984 ±0.031`, or `1.984 [1.960, 2.030]` where the mean is not in the middle."""
    if not score.known or not score.bounded:
        return format_score(score.mean)
    below, above = score.mean - score.low, score.high - score.mean
    if abs(above - below) <= 0.05 * (above + below) + 5e-4:
        return f"{score.mean:.3f} ±{(above + below) / 2:.3f}"
    return f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]"


def format_share(value: float, whole: float) -> str:
    """A percentage of the unigram model's bits per byte."""
    share = value / whole if whole else math.nan
    return MISSING if math.isnan(share) else f"{100 * share:.0f}%"


def printable(text: object) -> str:
    """Text on one line: whatever cannot be printed (control characters, line ends) becomes a
    space.
    """
    return "".join(character if character.isprintable() else " " for character in str(text)).strip()


# ---------------------------------------------------------------------------------------------------------------
# printing

_GAP = 2  # spaces between columns
_NAME_WIDTH = 28  # longer names are folded
_HEADING_WIDTH = 16  # the name of a task is broken there
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
    study = Study(results)
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


def _heading(study: Study) -> str:
    seeds = f"{len(study.seeds)} seed" + ("" if len(study.seeds) == 1 else "s")
    methods = "; ".join(map(printable, study.methods()))
    share = "the full budget" if study.full == 1 else f"{format_rung(study.full)} of the budget"
    return f"Scores at {share}, {seeds}" + (f" ({methods})" if methods else "")


def _columns(study: Study) -> tuple[list[Column], list[Column], list[str], list[str]]:
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


def _modes(study: Study) -> list[str]:
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
