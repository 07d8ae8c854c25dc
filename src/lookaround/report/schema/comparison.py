"""What `lookaround compare` returns and writes."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from lookaround.report.schema.forecast import ForecastResults
from lookaround.report.schema.record import (
    Listed,
    Named,
    Record,
    Results,
    Score,
    Share,
    numbered,
)


class Corpus(Record):
    """What was trained on. Further keys may stand here; the page lists them as they are."""

    name: str | None = Field(None, description="what the report calls it")
    source: str | None = Field(None, description="how it was read")
    documents: int | None = Field(None, description="documents kept")
    duplicates: int | None = Field(None, description="exact duplicates left out")
    bytes: int | None = Field(None, description="bytes of UTF-8 text")
    tokens: Named[int] = Field({}, description="tokens in `train`, `validation`, `test`")
    splits: Named[int] = Field({}, description="documents in `train`, `validation`, `test`")
    fingerprint: str | None = Field(
        None, description="a hash: the same text read in the same way has the same one"
    )
    vocabulary: int | None = Field(None, description="entries of the tokenizer")


class Machine(Record):
    """Where a study ran."""

    cpu: str | None = Field(None, description="name of the processor")
    cores: int | None = Field(None, description="cores of the machine")
    memory_gb: float | None = Field(None, description="memory in gigabytes")
    gpu: str | None = Field(None, description="name of the GPU; null: none")
    system: str | None = Field(None, description="operating system and its release")
    threads: int | None = Field(
        None,
        description="threads of a process: its share of the cores, or OMP_NUM_THREADS where that "
        "is fewer",
    )
    jobs: int | None = Field(None, description="processes at a time")


class TaskInfo(Record):
    """A labelled task."""

    metric: str | None = Field(
        None,
        description="the metric of every score of this task, higher is better: `accuracy`, a share "
        "from 0 to 1, or `matthews`, Matthews' correlation from -1 to 1",
    )
    train: int | None = Field(None, description="training examples")
    test: int | None = Field(None, description="test examples")
    classes: int | None = Field(None, description="different labels")
    columns: Listed[str] = Field(
        [], description="columns of the table that were read, the label's last; none: folders"
    )
    notes: Listed[str] = Field([], description="for instance, how many texts were cut")


class Baselines(Record):
    """What a task's scores are held against, in its metric. `baselines["PROTOCOL/TASK"]` holds the
    `random_init` of any other protocol.
    """

    majority: Score = Field(
        None, description="score of always the most frequent class of the training part"
    )
    tfidf: Score = Field(
        None, description="score of TF-IDF and logistic regression, no neural model"
    )
    random_init: Score = Field(
        None, description="score of the same evaluation of an untrained model"
    )


class Metric(Record):
    """What to know of a protocol that decides no recommendation."""

    title: str | None = Field(None, description="its name for people")
    higher: bool | None = Field(None, description="whether more is better")
    about: str | None = Field(None, description="one sentence on it")


class Budget(Record):
    """What a run has used."""

    tokens: int | None = Field(None, description="tokens the model has seen in training")
    targets: int | None = Field(None, description="(state, target) pairs that were scored")
    flops: float | None = Field(
        None,
        description="floating point operations of training; a multiplication and an addition count "
        "as two",
    )
    seconds: float | None = Field(None, description="wall clock seconds of training")


class CurvePoint(Record):
    """A point of a training curve; all but the loss are counted from the start."""

    flops: float | None = Field(None, description="floating point operations")
    tokens: int | None = Field(None, description="tokens seen")
    seconds: float | None = Field(None, description="wall clock seconds")
    loss: float | None = Field(None, description="training loss, nats per target")


class Sample(Record):
    """A text that the model continued."""

    prompt: Any = Field(None, description="text it was given")
    continuation: Any = Field(None, description="text it wrote")


class Run(Record):
    """One objective, seed and rung. Any other protocol adds its key: a score on the text, or an
    object from task to score.

    Losses of different objectives are not comparable: they score other targets from other contexts.

    **Bits per byte.** With shift *s*, the state *s* places before a token scores it, with masks
    from there to the fixed end of the window, so that neither later tokens nor the length of the
    document leak. Special tokens are left out of the softmax. The number is the sum of bits over
    the sum of bytes of the scored tokens, on the same documents and positions for every objective.
    """

    objective: str = Field(description="the canonical spec, such as `mlm(rate=0.4)`")
    seed: int = Field(description="runs with the same seed saw the same data order and start")
    rung: Share = Field(description="share of the full budget")
    mode: str | None = Field(
        None,
        description="attention and shift a model was read with: `classification: ...; generation: "
        "...`",
    )
    budget: Budget = Field(description="what the run used")
    learning_rate: float | None = Field(None, description="the peak learning rate")
    classification: Named[Score] = Field({}, description="task to score on its test part")
    bits_per_byte: float | None = Field(
        None, description="bits per byte by the left-to-right chain rule; lower is better"
    )
    bits_per_byte_by_prefix: Named[Score] = Field(
        {},
        description='tokens of prefix at least, as text, to bits per byte: `"1"`, `"2"` (2 or 3), '
        '`"4"` (4 to 7), ... `"64"`; a key like `"16-31"` says its range',
    )
    layers: Named[int | None] = Field(
        {}, description="task to the layer its probe chose, 0 = embedding"
    )
    checkpoint: str | None = Field(
        None, description="folder of the model, relative to the file; null: it was not kept"
    )
    curve: Listed[CurvePoint] = Field([], description="training loss along the run")
    samples: Listed[Sample] = Field([], description="continuations of test documents")


class SummaryRow(Record):
    """The mean over seeds of one metric, of one objective at one rung."""

    objective: str = Field(description="the canonical spec")
    rung: Share = Field(description="share of the full budget")
    metric: str = Field(
        description="`bits_per_byte`, `classification` (the plain mean over tasks) or "
        "`classification/TASK`; of any other protocol `PROTOCOL` or `PROTOCOL/TASK`"
    )
    mean: Score = Field(None, description="mean over seeds, in the unit of the metric")
    low: Score = Field(None, description="lower end of the interval")
    high: Score = Field(None, description="upper end of the interval")
    n: int | None = Field(None, description="seeds")
    method: str | None = Field(
        None,
        description="how the interval was made: `95% t-interval over 3 seeds`, or `95% bootstrap "
        "over test items, one seed`",
    )


class Difference(SummaryRow):
    """`mean`, `low` and `high` are those of *objective minus reference*, paired by seed and test
    items. Below 0 is better for `bits_per_byte` and metrics whose `higher` is false, above 0 for
    the others. Only an interval that excludes 0 supports a claim. Intervals are not corrected for
    the number of pairs.
    """

    reference: str = Field(description="the objective that is subtracted")


class ComparisonResults(Results):
    """What `lookaround compare` returns, and the `results.json` of its folder.

    `recommendation` has the keys `classification`, `generation` and `both`. A value is either
    exactly the text of an `objective`, or a sentence that starts with `inconclusive`, such as
    `inconclusive at this budget: vmlm or mlm(rate=0.4)`, or one that starts with `none` or with
    `not measured`; an absent key is not measured either.
    """

    page = "report.html"

    version: int = Field(description="`1`")
    command: str = Field(description="the exact command that repeats the study")
    settings: Named[Any] = Field({}, description="all settings, after defaults were filled in")
    corpus: Corpus = Field(description="what was trained on")
    machine: Machine | None = Field(None, description="where it ran")
    versions: Named[Any] = Field({}, description="package to its version")
    equal: str | None = Field(
        None,
        description="what every objective got the same amount of at each rung: `flops`, `tokens` "
        "or `seconds`",
    )
    parameters: int | None = Field(
        None, description="parameters of the model of the first objective, its heads included"
    )
    unit: str | None = Field(
        None,
        description="what bits are told per under every key `bits_per_byte`: `byte`, or `token` "
        "where the tokenizer loses more than 1 % of the characters; absent: `byte`",
    )
    unigram_bits_per_byte: Score = Field(
        None,
        description="bits per byte of the unigram model on the scored tokens: what token "
        "frequencies alone give",
    )
    unigram_bits_per_byte_by_prefix: Named[Score] = Field(
        {}, description="the same by prefix length, as in a run"
    )
    scored_tokens: Named[int] = Field({}, description="prefix length to tokens scored there")
    learning_rates: Named[dict[str, Score]] = Field(
        {},
        description="objective to the validation loss (nats per target, its own) of each factor "
        'tried, `"x2"` and so on',
    )
    baselines: Named[Baselines] = Field({}, description="task to its baselines; none without tasks")
    tasks: Named[TaskInfo] = Field({}, description="task to its description")
    metrics: Named[Metric] = Field(
        {},
        description="of [protocols](evaluation.md#adding-a-protocol) other than those of this "
        "page, by name",
    )
    runs: list[Run] = Field(description="one for each objective, seed and rung")
    summary: list[SummaryRow] = Field(description="means and intervals over seeds")
    differences: list[Difference] = Field(description="paired differences")
    recommendation: dict[str, str | None] = Field(description="the answer per need")
    reasons: Named[str | None] = Field({}, description="one sentence per need")
    notes: Listed[str] = Field(
        [], description="what a reader should know before believing the numbers"
    )
    forecast: ForecastResults | None = Field(
        None, description="what the corpus says of the objectives before any training"
    )

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of `frame`: "summary", "differences", "runs" (one column a task), "by_prefix",
        "curves" and "baselines".
        """
        of_run = [(numbered(run, "mode", "checkpoint"), run) for run in self.runs]
        keys = [({n: row[n] for n in ("objective", "seed", "rung")}, run) for row, run in of_run]
        return {
            "summary": [row.as_dict() for row in self.summary],
            "differences": [row.as_dict() for row in self.differences],
            "runs": [row | run.budget.as_dict() | _by_task(run) for row, run in of_run],
            "by_prefix": [
                key | {"prefix": prefix, "bits_per_byte": value}
                for key, run in keys
                for prefix, value in run.bits_per_byte_by_prefix.items()
            ],
            "curves": [key | point.as_dict() for key, run in keys for point in run.curve],
            "baselines": [{"task": name} | line.as_dict() for name, line in self.baselines.items()],
        }


def _by_task(run: Run) -> dict[str, Any]:
    """{PROTOCOL/TASK: score} of every protocol that has scores by task."""
    protocols = {"classification": run.classification} | (run.model_extra or {})
    return {
        f"{protocol}/{task}": score
        for protocol, scores in protocols.items()
        if isinstance(scores, dict)
        for task, score in scores.items()
    }
