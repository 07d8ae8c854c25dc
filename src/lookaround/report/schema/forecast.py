"""What `lookaround forecast` returns."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from lookaround.report.schema.record import Listed, Named, Record, Results, Score, numbered


class ForecastCorpus(Record):
    """What was counted."""

    name: str | None = Field(None, description="what the report calls it")
    fingerprint: str | None = Field(None, description="a hash of the text as it was read")
    tokens: int | None = Field(None, description="tokens of the training part")
    documents: int | None = Field(None, description="documents of the training part")
    vocabulary: int | None = Field(None, description="entries of the tokenizer")


class ForecastLine(Record):
    """An objective or a control. The line of TF-IDF has `objective` and `tasks`; its other numbers
    are null.
    """

    objective: str = Field(description="the canonical spec, or the name of the control")
    tail_energy: Score = Field(None, description="sum of sigma^2 beyond the rank")
    energy: Score = Field(None, description="sum of all sigma^2")
    sigma2: Score = Field(None, description="the second singular value")
    gap: Score = Field(None, description="spectral gap of the graph of contexts and targets")
    components: int | None = Field(None, description="connected components of that graph")
    meeting: Score = Field(
        None, description="probability that two contexts drawn by frequency share a target"
    )
    meeting_error: Score = Field(None, description="standard error of `meeting`")
    saturated: bool | None = Field(
        None, description="whether one component holds all and nearly all contexts meet"
    )
    effective_rank: Score = Field(
        None, description="exp of the entropy of the singular values kept"
    )
    residual: Score = Field(None, description="residual of the decomposition")
    beyond: Score = Field(
        None, description="share of the targets whose context lies beyond the reach or is too rare"
    )
    dropped: Score = Field(None, description="share of the pairs left out by the minimum count")
    contexts: int | None = Field(None, description="number of contexts")
    targets: int | None = Field(None, description="number of targets")
    singular_values: Listed[Score] = Field([], description="the singular values kept, descending")
    tasks: Named[Score] = Field({}, description="task to the score of a probe on `features`")
    features: Named[dict[str, Score]] = Field({}, description="kind of features to task to score")
    alpha: Named[Score] = Field(
        {},
        description="task to the probability that two contexts drawn through a shared target "
        "differ in their label; contexts of one token only",
    )
    alpha_by_chance: Named[Score] = Field(
        {}, description="the same of two contexts drawn by frequency"
    )


class RightContext(Record):
    """What the two words to the right tell of a task's labels, on a fifth of its training
    sentences: a linear window of both sides minus one of the left.
    """

    metric: str | None = Field(None, description="of the task: `accuracy` or `span_f1`")
    gain: Score = Field(None, description="`window` minus `window_left`")
    low: Score = Field(None, description="lower end of the 95% interval over sentences")
    high: Score = Field(None, description="upper end")
    window: Score = Field(None, description="score of a window from -2 to +2")
    window_left: Score = Field(None, description="score of a window from -2 to 0")
    words: int | None = Field(None, description="words that were scored")
    ambiguous_gain: Score = Field(
        None,
        description="the same in accuracy on words that have two labels or more in training behind "
        "the same word",
    )
    ambiguous_low: Score = Field(None, description="lower end of its interval")
    ambiguous_high: Score = Field(None, description="upper end")
    ambiguous_words: int | None = Field(None, description="how many such words were scored")


class TrackRecord(Record):
    """How the forecast's order has agreed with that of trained models."""

    earned: bool | None = Field(None, description="whether it may recommend")
    sentence: str | None = Field(None, description="the evidence in a sentence")


class ForecastSeconds(Record):
    """Wall clock seconds."""

    counting: float | None = Field(None, description="seconds of counting pairs")
    all: float | None = Field(None, description="seconds of the whole forecast")


class ForecastResults(Results):
    """What `lookaround forecast` returns and `--json FILE` writes, and the value of `forecast` in a
    study's results. Terms are those of [theory.md](theory.md).

    A value of `recommendation` is an objective, or a text that starts with `nothing:`.
    """

    page = "forecast.html"

    version: int = Field(description="`1`, by the promise above")
    context: int | None = Field(None, description="visible tokens of a context")
    rank: int | None = Field(None, description="singular values kept")
    reach: int | None = Field(None, description="largest lag, in tokens")
    features: str | None = Field(
        None, description="what `tasks` was scored on: `context`, `target` or `both`"
    )
    weighting: str | None = Field(None, description="of the features: `spectral` or `unit`")
    min_count: int | None = Field(None, description="minimum count of a context or target")
    corpus: ForecastCorpus = Field(ForecastCorpus(), description="what was counted")
    metrics: Named[str] = Field({}, description="task to its metric")
    majority: Named[Score] = Field({}, description="task to the score of the most frequent class")
    right_context: Named[RightContext] = Field(
        {}, description="task of words to what the right context tells"
    )
    objectives: list[ForecastLine] = Field(description="one line for each objective")
    controls: list[ForecastLine] = Field(description="one line for each control")
    not_distinguished: Named[list[str]] = Field(
        {},
        description="task to the objectives whose paired difference from the leader does not "
        "exclude 0",
    )
    recommendation: Named[str] = Field({}, description="the answer per task")
    reasons: Named[str] = Field({}, description="one sentence per task")
    track_record: TrackRecord = Field(TrackRecord(), description="what the forecast has earned")
    notes: Listed[str] = Field([], description="what to know before believing it")
    seconds: ForecastSeconds = Field(ForecastSeconds(), description="how long it took")
    command: str | None = Field(None, description="the command that repeats it")

    @property
    def lines(self) -> list[ForecastLine]:
        """Objectives, then controls."""
        return [*self.objectives, *self.controls]

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of `frame`: "lines" (one column a task) and "spectra"."""
        return {
            "lines": [
                numbered(line) | {"control": line in self.controls, **line.tasks}
                for line in self.lines
            ],
            "spectra": [
                {"objective": line.objective, "place": place, "singular_value": value}
                for line in self.lines
                for place, value in enumerate(line.singular_values, start=1)
            ],
        }
