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
    from lookaround.report.schema.comparison import LabelCount, Metric, MetricRow, Run, TaskRun


# the needs that a study recommends for, and what a recommendation of each is asked for
NEEDS = {
    "label_texts": "label texts",
    "label_tokens": "label tokens",
    "write": "write",
    "all": "all",
}
# those of a study of pictures
PICTURE_NEEDS = {
    "label_texts": "label pictures",
    "write": "complete pictures",
    "all": "both",
}
BITS = "bits_per_byte"
# `ambiguous/TASK` asks for the part of a score of `tokens` that is on ambiguous words
AMBIGUOUS = "ambiguous"
NGRAMS = ("unigram", "bigram", "trigram")
UNTRAINED = {"untrained_causal": "causal", "untrained_bidirectional": "bidirectional"}
BASELINES = {
    "majority": "majority class",
    "tfidf": "TF-IDF + logistic regression",
    "bag": "single words, linear",
    "window_left": "words to the left, linear",
    "window": "words on both sides, linear",
    "untrained_causal": "untrained, read causally",
    "untrained_bidirectional": "untrained, read both ways",
    **{name: f"{name} model" for name in NGRAMS},
    "pixels": "raw pixels, linear",
    "bag_of_codes": "bag of codes, linear",
    "mean_picture": "mean training picture",
}
# {baseline of ours: protocols it stands beside}; any other stands beside all of its task
_WORDS = ("tokens", AMBIGUOUS)
BESIDE = {
    "majority": ("probe", "finetune", *_WORDS),
    "tfidf": ("probe", "finetune", "order"),
    "bag": ("order",),
    "window_left": _WORDS,
    "window": _WORDS,
    "untrained_causal": _WORDS,
    "untrained_bidirectional": _WORDS,
    "unigram": ("pairs",),
    "pixels": ("probe", "finetune"),
    "bag_of_codes": ("probe",),
    "mean_picture": ("reconstruction",),
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


def _interval(row: MetricRow) -> Interval:
    mean, low, high = map(number, (row.mean, row.low, row.high))
    return Interval(mean, low, high, row.n or 0, row.method or "")


class Lookup:
    """Lookups over the results of a comparison; every list keeps their order.

    Attributes: `objectives`, `rungs` (ascending), `full` (the largest rung), `seeds`, `unit`
    ("byte", "token" for a tokenizer that loses much text, "pixel" for pictures), `unigram` (bits
    per byte of the unigram model, or nan), `columns` (protocol to the tasks it has scores of; none:
    of the text), `headlines` (a metric for each protocol: the mean over its tasks, or its only
    one), `metrics` (the same with those of every task), `baselines` (names of what scores are held
    against).
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
        self.unit = results.unit or "byte"
        self.unigram = number(results.unigram_bits_per_byte)
        self._summary = {(row.objective, row.rung, row.metric): row for row in results.summary}
        self.columns = self._columns()
        known = [key for key in self.columns if any(map(self._known, self._metrics(key)))]
        self.headlines = [self._metrics(key)[0] for key in known]
        self.metrics = [
            metric for key in known for metric in self._metrics(key) if self._known(metric)
        ]
        named = dict.fromkeys(
            name.removesuffix("_ambiguous")
            for line in results.baselines.values()
            for name in line.as_dict()
        )
        self.baselines = [
            name
            for name in dict.fromkeys([*BASELINES, *named])
            if any(not math.isnan(self.baseline(name, metric)) for metric in self.metrics)
        ]

    @property
    def pictures(self) -> bool:
        """Whether the study is of pictures and not of text."""
        return self.unit == "pixel"

    @property
    def linear(self) -> str:
        """The linear model that stands beside fine-tuning, on the same examples."""
        return "pixels" if self.pictures else "tfidf"

    @property
    def needs(self) -> dict[str, str]:
        """{need that is recommended for: what it is called}."""
        return PICTURE_NEEDS if self.pictures else NEEDS

    def _columns(self) -> dict[str, list[str]]:
        """{protocol: its tasks}, those of every study first."""
        columns: dict[str, list[str]] = {BITS: [], "probe": [], "tokens": []}
        metrics = [metric for _, _, metric in self._summary]
        scored = [
            (key, task) for run in self.runs for key in run.scores for task in run.scores[key]
        ]
        metrics += [key if task == "text" else f"{key}/{task}" for key, task in scored]
        for metric in dict.fromkeys(metrics):
            key, _, task = metric.partition("/")
            if task not in ("", *columns.setdefault(key, [])):
                columns[key].append(task)
        return columns

    def _metrics(self, key: str) -> list[str]:
        """The metrics of a protocol: without a task (unless there is one alone), then by task."""
        tasks = self.columns[key]
        return ([key] if len(tasks) != 1 else []) + [f"{key}/{task}" for task in tasks]

    def _known(self, metric: str) -> bool:
        return any(
            self.score(name, metric, rung).known for name in self.objectives for rung in self.rungs
        )

    def headline(self, key: str) -> str | None:
        """The metric that stands for a protocol; None where it has no scores."""
        return next((m for m in self.headlines if m.partition("/")[0] == key), None)

    @property
    def has_unigram(self) -> bool:
        """Whether bits per byte can be told as a share of the unigram model's."""
        return not math.isnan(self.unigram) and BITS in self.metrics

    @property
    def classification(self) -> str | None:
        """The metric that stands for classification: of texts, else of tokens, or None."""
        return self.headline("probe") or self.headline("tokens")

    def about(self, metric: str) -> Metric | None:
        """What the file says of the protocol that a metric is from."""
        return self.results.metrics.get(metric.partition("/")[0])

    def higher(self, metric: str) -> bool:
        """Whether more of a metric is better."""
        about = self.about(metric)
        told = about.higher if about else None
        return metric != BITS if told is None else told

    def title(self, metric: str) -> str:
        """The heading of a metric: "bits per byte", "mean score", the task's name, "task
        (title)".
        """
        key, _, task = metric.partition("/")
        about = self.about(metric)
        title = (about.title if about else None) or key.replace("_", " ")
        if key == "probe":
            return task or "mean score"
        if key == AMBIGUOUS:
            return f"{task}, ambiguous words"
        if key == BITS:
            return f"bits per {self.unit}"
        return f"{task} ({title})" if task else title

    def runs_at(self, objective: str, rung: float) -> list[Run]:
        return [run for run in self.runs if run.objective == objective and run.rung == rung]

    def score(self, objective: str, metric: str, rung: float | None = None) -> Interval:
        """The summary row of one objective at a rung (the full budget if None), else the mean of
        its runs.
        """
        rung = self.full if rung is None else rung
        for name in self._names(metric):
            row = self._summary.get((objective, rung, name))
            if row is not None and _interval(row).known:
                return _interval(row)
        field = AMBIGUOUS if metric.startswith(f"{AMBIGUOUS}/") else "score"
        values = [_mean_of(lines, field) for lines in self._lines(objective, metric, rung)]
        return Interval(mean(values), n=len(values))

    def gain(self, objective: str, metric: str, rung: float | None = None) -> Interval:
        """A score less that of the network before training, with its interval."""
        if metric.startswith(f"{AMBIGUOUS}/"):
            return Interval(math.nan)
        rung = self.full if rung is None else rung
        for name in self._names(metric):
            row = self._summary.get((objective, rung, name))
            if row is not None and not math.isnan(number(row.gain)):
                return Interval(number(row.gain), number(row.gain_low), number(row.gain_high))
        values = [
            _mean_of(lines, "score") - _mean_of(lines, "before")
            for lines in self._lines(objective, metric, rung)
        ]
        return Interval(mean(values), n=len(values))

    def _names(self, metric: str) -> list[str]:
        """What a metric is called in the summary: with one task the mean over tasks is that
        task.
        """
        key, _, task = metric.partition("/")
        return [metric, key] if task and self.columns.get(key) == [task] else [metric]

    def _lines(self, objective: str, metric: str, rung: float) -> list[list[TaskRun]]:
        """The scores that a metric is the mean of, of each run."""
        key, _, task = metric.partition("/")
        key = "tokens" if key == AMBIGUOUS else key
        found = [run.scores.get(key, {}) for run in self.runs_at(objective, rung)]
        return [
            [lines[task]] if task in lines else [] if task else [*lines.values()] for lines in found
        ]

    def has_gain(self, metric: str) -> bool:
        """Whether any objective has a gain in a metric."""
        return any(self.gain(name, metric).known for name in self.objectives)

    def in_points(self, metric: str) -> bool:
        """Whether its scores are shares or correlations, whose differences are told in points."""
        scores = [self.score(name, metric).mean for name in self.objectives]
        return all(math.isnan(score) or abs(score) <= 1 for score in scores)

    @property
    def controls(self) -> dict[str, dict[str, Interval]]:
        """{what was done: {metric: score}}."""
        found: dict[str, dict[str, Interval]] = {}
        for row in self.results.controls:
            found.setdefault(row.objective, {})[row.metric] = _interval(row)
        return found

    def labels(self, objective: str, task: str) -> list[list[LabelCount]]:
        """What fine-tuning reaches at the full budget, by number of labels, of each seed."""
        lines = self._lines(objective, f"finetune/{task}", self.full)
        return [line.by_labels for found in lines for line in found if line.by_labels]

    def worth(self, objective: str, task: str) -> str:
        """Up to how many labels pretraining pays, by seed where seeds differ."""
        runs = [run for run in self.runs_at(objective, self.full) if "finetune" in run.scores]
        told: dict[str, list[str]] = {}
        for run in runs:
            line = run.scores["finetune"].get(task)
            if line and line.worth:
                told.setdefault(line.worth, []).append(str(run.seed))
        if len(told) == 1:
            return next(iter(told))
        return "; ".join(
            f"{sentence} (seed{'s' * (len(seeds) > 1)} {', '.join(seeds)})"
            for sentence, seeds in told.items()
        )

    def pairs(self, objective: str, task: str, kind: str, phenomenon: str = "") -> float:
        """Share of minimal pairs told right by "chain" or "pseudo", of a phenomenon or of all."""
        found = [
            line.get(kind)
            for lines in self._lines(objective, f"pairs/{task}", self.full)
            for line in lines
        ]
        told = [scores for scores in found if scores is not None]
        return mean(s.by_phenomenon.get(phenomenon) if phenomenon else s.score for s in told)

    def phenomena(self, task: str) -> list[str]:
        """Names of what minimal pairs test."""
        lines = [
            run.scores["pairs"][task] for run in self.runs if task in run.scores.get("pairs", {})
        ]
        return list(
            dict.fromkeys(name for line in lines if line.chain for name in line.chain.by_phenomenon)
        )

    def by_kind(self, objective: str) -> dict[str, float]:
        """{kind of change of the order of words: score}, over seeds."""
        found = [
            line.by_kind for lines in self._lines(objective, "order", self.full) for line in lines
        ]
        return {
            kind: mean(part.get(kind) for part in found)
            for kind in dict.fromkeys(k for part in found for k in part)
        }

    def cost(self, objective: str, key: str, rung: float | None = None) -> float:
        """Mean over seeds of a budget entry: "tokens", "targets", "flops" or "seconds"."""
        rung = self.full if rung is None else rung
        return mean(run.budget.get(key) for run in self.runs_at(objective, rung))

    def epochs(self, objective: str, rung: float | None = None) -> float:
        """Times that the training part was seen, mean over seeds."""
        rung = self.full if rung is None else rung
        return mean(run.epochs for run in self.runs_at(objective, rung))

    def worths(self) -> list[tuple[str, str, list[str]]]:
        """(task, up to how many labels pretraining pays, of which objectives) by task."""
        found: dict[tuple[str, str], list[str]] = {}
        for task in self.columns.get("finetune", ()):
            for objective in self.objectives:
                if told := self.worth(objective, task):
                    found.setdefault((task, told), []).append(objective)
        return [(*key, objectives) for key, objectives in found.items()]

    def learning_rate(self, objective: str, rung: float | None = None) -> str:
        runs = self.runs_at(objective, self.full if rung is None else rung)
        rates = {number(run.learning_rate) for run in runs}
        return ", ".join(f"{rate:g}" for rate in sorted(rates) if not math.isnan(rate)) or MISSING

    def mode(self, objective: str) -> str:
        return next((run.mode for run in self.runs_at(objective, self.full) if run.mode), "")

    def baseline(self, kind: str, metric: str) -> float:
        """What a baseline scores on a metric; on the mean only if it was scored on every task."""
        key, _, task = metric.partition("/")
        if key == BITS:
            return number(self.results.get(f"{kind}_bits_per_byte"))
        if kind in UNTRAINED and key != AMBIGUOUS:
            found = self._untrained(UNTRAINED[kind], metric)
            if not math.isnan(found):
                return found
        scores = [
            self._beside(kind, key, name)
            for name in ([task] if task else self.columns.get(key) or ["text"])
        ]
        return mean(scores) if scores and not any(map(math.isnan, scores)) else math.nan

    def _beside(self, kind: str, key: str, task: str) -> float:
        if key == "finetune" and kind == self.linear:  # on the labels that were given
            seeds = [seed for name in self.objectives for seed in self.labels(name, task)]
            return mean(seed[-1].get(kind) for seed in seeds)
        line = self.results.baselines.get(task) if key in BESIDE.get(kind, (key,)) else None
        kind += "_ambiguous" * (key == AMBIGUOUS)
        return number(line.get(kind)) if line else math.nan

    def _untrained(self, attention: str, metric: str) -> float:
        """A metric of the network before training, of the objectives that are read in this way."""
        return mean(
            _mean_of(lines, "before")
            for name in self.objectives
            if attention in self.attention(name)
            for lines in self._lines(name, metric, self.full)
        )

    def attention(self, objective: str) -> str:
        """How classification reads an objective's model."""
        parts = self.mode(objective).split(";")
        return next((part for part in parts if "generation:" not in part), "")

    def below(self, objective: str, metric: str, rung: float | None = None) -> list[str]:
        """The baselines that a mean falls short of, as in `baselines`; "untrained" of the network
        before training.
        """
        score = self.score(objective, metric, rung).mean
        if metric == BITS:
            return [name for name in NGRAMS[:2] if score > self.baseline(name, metric)][:1]
        sign = 1 if self.higher(metric) else -1
        short = [
            kind
            for kind in self.baselines
            if kind not in UNTRAINED and sign * score < sign * self.baseline(kind, metric)
        ]
        gain = self.gain(objective, metric, rung).mean
        return short + (["untrained"] if sign * gain < 0 else [])

    def recommended(self, need: str) -> str:
        """The objective that a need is settled for, or "" where it is open or was not measured."""
        verdict, answer = self.results.verdicts.get(need), self.results.recommendation.get(need)
        return answer if verdict and verdict.green and answer in self.objectives else ""

    def methods(self) -> list[str]:
        return list(dict.fromkeys(row.method for row in self.results.summary if row.method))

    def differences(self, rung: float) -> list[tuple[str, str, str, Interval]]:
        """(objective, reference, metric, objective minus reference) of every paired difference at a
        rung.
        """
        return [
            (row.objective, row.reference, row.metric, _interval(row))
            for row in self.results.differences
            if row.rung == rung
        ]


def _mean_of(lines: Iterable[TaskRun], field: str) -> float:
    """The mean of a field over tasks; nan unless all have it."""
    values = [number(line[field]) for line in lines]
    return fmean(values) if values else math.nan


def verdict(difference: Interval, *, higher: bool) -> str:
    """ "better" or "worse" if the interval of a difference excludes 0, else "unclear"."""
    if not difference.bounded or difference.low <= 0 <= difference.high:
        return "unclear"
    return "better" if (difference.mean > 0) == higher else "worse"
