"""Where a number lies in the results of a comparison.

    Lookup(load_results("lookaround-compare")).score("ar", "bits_per_byte")

The terminal tables, the figures and the HTML page all ask it. A number that is absent, null or NaN
is `nan` here and a dash wherever it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lookaround.report.schema import ComparisonResults
    from lookaround.report.schema.comparison import Metric, Run, SummaryRow


NEEDS = ("classification", "generation", "both")
BASELINES = {
    "majority": "majority class",
    "tfidf": "TF-IDF + logistic regression",
    "random_init": "random initialisation",
}
MISSING = "-"


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


def _interval(row: SummaryRow) -> Interval:
    mean, low, high = map(number, (row.mean, row.low, row.high))
    return Interval(mean, low, high, row.n or 0, row.method or "")


class Lookup:
    """Lookups over the results of a comparison; every list keeps their order.

    Attributes: `objectives`, `rungs` (ascending), `full` (the largest rung), `seeds`, `tasks`,
    `unit` ("byte", or "token" for a tokenizer that loses much text), `unigram` (bits per byte of
    the unigram model, or nan), `columns` (protocol to the tasks it has scores of; none: of the
    text), `metrics` (the columns of a table of scores, those with a number only).
    """

    def __init__(self, results: ComparisonResults):
        self.results = results
        self.runs = results.runs
        rows = [(run.objective, run.rung) for run in results.runs]
        rows += [(row.objective, row.rung) for row in results.summary]
        self.objectives = list(dict.fromkeys(objective for objective, _ in rows))
        self.rungs = sorted({rung for _, rung in rows})
        self.full = self.rungs[-1] if self.rungs else 1.0
        self.seeds = sorted({run.seed for run in self.runs})
        scored = [task for run in self.runs for task in run.classification]
        self.tasks = list(dict.fromkeys([*results.tasks, *scored]))
        self.unit = results.unit or "byte"
        self.unigram = number(results.unigram_bits_per_byte)
        self._summary = {
            (row.objective, row.rung, row.metric): _interval(row) for row in results.summary
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

    def about(self, metric: str) -> Metric | None:
        """What the file says of the protocol that a metric is from."""
        return self.results.metrics.get(metric.partition("/")[0])

    def higher(self, metric: str) -> bool:
        """Whether more of a metric is better."""
        about = self.about(metric)
        told = about.higher if about else None
        return metric != "bits_per_byte" if told is None else told

    def title(self, metric: str) -> str:
        """The heading of a metric: "bits per byte", "mean score", the task's name, "task
        (title)".
        """
        key, _, task = metric.partition("/")
        about = self.about(metric)
        title = (about.title if about else None) or key.replace("_", " ")
        if key == "classification":
            return task or "mean score"
        if key == "bits_per_byte":
            return f"bits per {self.unit}"
        return f"{task} ({title})" if task else title

    def runs_at(self, objective: str, rung: float) -> list[Run]:
        return [run for run in self.runs if run.objective == objective and run.rung == rung]

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

    def _value(self, run: Run, metric: str) -> float:
        key, _, task = metric.partition("/")
        scores = run.get(key)
        if not isinstance(scores, dict):
            return number(scores)
        return number(scores.get(task)) if task else mean(scores.values())

    def cost(self, objective: str, key: str, rung: float | None = None) -> float:
        """Mean over seeds of a budget entry: "tokens", "targets", "flops" or "seconds"."""
        rung = self.full if rung is None else rung
        return mean(run.budget.get(key) for run in self.runs_at(objective, rung))

    def learning_rate(self, objective: str, rung: float | None = None) -> str:
        runs = self.runs_at(objective, self.full if rung is None else rung)
        rates = {number(run.learning_rate) for run in runs}
        return ", ".join(f"{rate:g}" for rate in sorted(rates) if not math.isnan(rate)) or MISSING

    def mode(self, objective: str) -> str:
        return next((run.mode for run in self.runs_at(objective, self.full) if run.mode), "")

    def baseline(self, kind: str, metric: str) -> float:
        """What a baseline scores on a metric; on the mean only if it was scored on every task."""
        baselines = self.results.baselines
        key, _, task = metric.partition("/")
        columns = [f"{key}/{name}" for name in ([task] if task else self.columns.get(key, ()))]
        lines = [baselines.get(column.removeprefix("classification/")) for column in columns]
        scores = [number(line.get(kind)) if line else math.nan for line in lines]
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
        answer = self.results.recommendation.get(need) or ""
        return answer if answer in self.objectives else ""

    def methods(self) -> list[str]:
        return list(dict.fromkeys(row.method for row in self._summary.values() if row.method))

    def differences(self, rung: float) -> list[tuple[str, str, str, Interval]]:
        """(objective, reference, metric, objective minus reference) of every paired difference at a
        rung.
        """
        return [
            (row.objective, row.reference, row.metric, _interval(row))
            for row in self.results.differences
            if row.rung == rung
        ]


def verdict(difference: Interval, *, higher: bool) -> str:
    """ "better" or "worse" if the interval of a difference excludes 0, else "unclear"."""
    if not difference.bounded or difference.low <= 0 <= difference.high:
        return "unclear"
    return "better" if (difference.mean > 0) == higher else "worse"
