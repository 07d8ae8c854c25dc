"""What `lookaround compare` returns and writes."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from lookaround.report.schema.forecast import ForecastResults
from lookaround.report.schema.record import (
    Listed,
    Named,
    Older,
    Png,
    Record,
    Results,
    Score,
    Share,
    numbered,
)
from lookaround.report.schema.version1 import converted

VERSION = 2
# what a study recommends for
NEEDS = ("label_texts", "label_tokens", "write", "all")


class Corpus(Record):
    """What was trained on. Further keys may stand here; the page lists them as they are."""

    name: str | None = Field(None, description="what the report calls it")
    source: str | None = Field(None, description="how it was read")
    documents: int | None = Field(None, description="documents kept")
    duplicates: int | None = Field(None, description="exact duplicates left out")
    bytes: int | None = Field(None, description="bytes of UTF-8 text")
    pictures: int | None = Field(None, description="pictures kept, where they stand for a text")
    height: int | None = Field(None, description="of a picture, in pixels")
    width: int | None = Field(None, description="of a picture, in pixels")
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
        "from 0 to 1; `span_f1` of BIO tags, from 0 to 1; `matthews`, Matthews' correlation, or "
        "`pearson`, Pearson's, from -1 to 1",
    )
    train: int | None = Field(None, description="training examples; sentences of a token task")
    test: int | None = Field(None, description="test examples; of minimal pairs the pairs")
    classes: int | None = Field(None, description="different labels")
    columns: Listed[str] = Field(
        [], description="columns of the table that were read, the label's last; none: folders"
    )
    notes: Listed[str] = Field([], description="for instance, how many texts were cut")


class Baselines(Record):
    """What the scores of a task are held against, in its metric: name to score. `text` stands for
    the held-out text. `NAME_ambiguous` is the same on the words of a token task whose (previous
    word, word) has two or more tags in training. Further names may stand here.
    """

    majority: Score = Field(
        None,
        description="always the most frequent class of the training part; of a token task the "
        "most frequent tag of the word",
    )
    tfidf: Score = Field(
        None,
        description="TF-IDF of words and word pairs with logistic regression, no neural model",
    )
    window_left: Score = Field(
        None, description="linear model of hashed words and affixes, two words before to the word"
    )
    window: Score = Field(None, description="the same, two words before to two words after")
    untrained_causal: Score = Field(
        None, description="the same evaluation of the network before training, read causally"
    )
    untrained_bidirectional: Score = Field(None, description="the same, read bidirectionally")
    bag: Score = Field(None, description="linear model of single words, of word order in the text")
    unigram: Score = Field(None, description="token frequencies alone, of minimal pairs")
    pixels: Score = Field(None, description="logistic regression on the pixels of pictures")
    bag_of_codes: Score = Field(
        None, description="logistic regression on how often each code stands in a picture"
    )
    mean_picture: Score = Field(
        None, description="the mean training picture in place of hidden patches"
    )


class LabelCount(Record):
    """What fine-tuning reaches with so many labels, in the metric of the task."""

    labels: int = Field(description="labelled training examples")
    score: Score = Field(None, description="mean over draws of examples")
    low: Score = Field(None, description="lower end of its interval over draws; null: one draw")
    high: Score = Field(None, description="upper end")
    draws: int | None = Field(None, description="draws of examples")
    before: Score = Field(None, description="the same network trained from scratch")
    probe: Score = Field(None, description="the frozen probe on the same examples")
    tfidf: Score = Field(None, description="TF-IDF with logistic regression on the same examples")
    pixels: Score = Field(
        None, description="of pictures: logistic regression on the pixels of the same examples"
    )


class PairScores(Record):
    """Minimal pairs by one kind of likelihood."""

    score: Score = Field(None, description="share of pairs told right; a tie counts 0.5")
    by_phenomenon: Named[Score] = Field({}, description="phenomenon to its share")


class TaskRun(Record):
    """The score of one protocol on a task, with what the protocol says of it. Which of the other
    keys stand here is up to the protocol; it may add further ones.
    """

    score: Score = Field(None, description="score on the test part, in the metric of the task")
    before: Score = Field(
        None,
        description="the same protocol on the network before training, read in the same way; null "
        "for protocols that read a model as it writes",
    )
    layer: int | None = Field(None, description="layer that the probe chose, 0 = embedding")
    ambiguous: Score = Field(
        None,
        description="`tokens`: accuracy on words whose (previous word, word) has two or more tags "
        "in training",
    )
    later: Named[Score] = Field(
        {},
        description="`tokens`, read causally: score with the states of so many further tokens, "
        '`"1"` and `"2"`',
    )
    by_labels: Listed[LabelCount] = Field([], description="`finetune`: score by number of labels")
    worth: str | None = Field(
        None, description="`finetune`: up to how many labels pretraining pays, in a sentence"
    )
    chain: PairScores | None = Field(None, description="`pairs`: by the left-to-right chain rule")
    pseudo: PairScores | None = Field(
        None,
        description="`pairs`: by pseudo-log-likelihood, a word's later tokens masked too; models "
        "that read both ways",
    )
    by_kind: Named[Any] = Field({}, description="`order`: kind of change to its score")


Scored = Named[dict[str, TaskRun]]


class Verdict(Record):
    """What is said of a need. Green: the leader is told apart from all others, is above the network
    before training and the best baseline by intervals that exclude 0, led at the rung before, and
    rests on two seeds or more. Differences are such that above 0 is better.
    """

    green: bool = Field(description="whether it is settled")
    leader: str | None = Field(None, description="the best objective; null: not measured")
    candidates: Listed[str] = Field(
        [], description="the leader and the objectives not told apart from it"
    )
    metric: str | None = Field(None, description="what decides, as in `summary`")
    gain: Score = Field(None, description="the leader's, less the network before training")
    gain_low: Score = Field(None, description="lower end of its interval")
    gain_high: Score = Field(None, description="upper end")
    floor: str | None = Field(None, description="name of the best baseline")
    floor_score: Score = Field(None, description="its score")
    floor_difference_low: Score = Field(
        None, description="leader less that baseline: lower end of the interval"
    )
    floor_difference_high: Score = Field(None, description="upper end")
    led_before: str | None = Field(
        None, description="the objective that led a rung before; null: there is one rung"
    )
    seeds: int | None = Field(None, description="seeds it rests on")
    degrees_of_freedom: int | None = Field(
        None, description="of the variance, pooled over the objectives that have left the plateau"
    )
    reason: str | None = Field(None, description="why, in a sentence")
    settle: str | None = Field(None, description="what would settle it, in a sentence")


class Metric(Record):
    """What to know of a protocol."""

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


class Picture(Record):
    """A test picture that the model completed, each as a PNG in a data address."""

    original: Png | None = Field(None, description="the picture, as it was coded")
    given: Png | None = Field(None, description="what the model was given of it")
    completed: Png | None = Field(None, description="that with what the model made of the rest")


class Run(Record):
    """One objective, seed and rung.

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
    epochs: Score = Field(None, description="times that the training part was seen")
    learning_rate: float | None = Field(None, description="the peak learning rate")
    weight_decay: float | None = Field(None, description="the weight decay of AdamW")
    scores: Scored = Field(
        {},
        description="protocol to task to its score; the task is `text` for what needs no labels",
    )
    classification: Named[Score] = Field(
        {}, description="task to its score of the protocol `probe`, as under `scores`"
    )
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
    pictures: Listed[Picture] = Field([], description="completions of test pictures")


class MetricRow(Record):
    """One metric at one rung, over seeds."""

    objective: str = Field(
        description="the canonical spec; under `controls` what was done, such as "
        "`ar, 1 token later`"
    )
    rung: Share = Field(description="share of the full budget")
    metric: str = Field(
        description="`PROTOCOL` (its score on the text, or the plain mean over its tasks) or "
        "`PROTOCOL/TASK`"
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


class SummaryRow(MetricRow):
    """The mean over seeds of one metric, of one objective at one rung."""

    gain: Score = Field(
        None,
        description="score less `before`, paired by seed; null where the network before training "
        "was not measured",
    )
    gain_low: Score = Field(None, description="lower end of its interval")
    gain_high: Score = Field(None, description="upper end")


class Difference(MetricRow):
    """`mean`, `low` and `high` are those of *objective minus reference*, paired by seed and test
    items. Below 0 is better for `bits_per_byte` and metrics whose `higher` is false, above 0 for
    the others. Only an interval that excludes 0 supports a claim. Intervals are not corrected for
    the number of pairs.
    """

    reference: str = Field(description="the objective that is subtracted")


class LargerBudget(Record):
    """Bits per byte that a law through the rungs foretells."""

    times: float = Field(description="the budget over that of the top rung")
    flops: float = Field(description="floating point operations of a run")
    mean: Score = Field(None, description="bits per byte, of the mean over the same seeds")
    low: Score = Field(None, description="lower end of its 95 % interval")
    high: Score = Field(None, description="upper end")


class Extrapolation(Record):
    """What the rungs of an objective say of larger budgets on new text of the same kind, at the
    same model size: L(C) = E + A C^-a through them (Hoffmann et al. 2022).
    """

    budgets: Listed[LargerBudget] = Field(
        [], description="2, 4 and 8 times the top rung, as far as the rungs bear it"
    )
    rungs: int | None = Field(None, description="rungs that the law goes through, from the top")
    reason: str | None = Field(
        None, description="why not to extrapolate, or not so far; null: the rungs bear it"
    )


class ComparisonResults(Results):
    """What `lookaround compare` returns, and the `results.json` of its folder.

    `recommendation` has the keys `label_texts`, `label_tokens`, `write` and `all`. A value is
    exactly the text of an `objective` where the verdict is green, else a sentence that starts with
    `inconclusive`, such as `inconclusive at this budget: vmlm, mlm(rate=0.4)`, with `none` or with
    `not measured`; an absent key is not measured either.

    A file of version 1 is converted when it is read: its `classification` is the protocol `probe`,
    `random_init` is `before`; it has no verdicts, so none of its answers is settled.
    """

    page = "report.html"
    current: ClassVar[int] = VERSION
    older: ClassVar[Older] = {1: converted}

    version: int = Field(description="`2`")
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
        description="what bits are told per under every key `bits_per_byte`: `byte`, `token` "
        "where the tokenizer loses more than 1 % of the characters, or `pixel`; absent: `byte`",
    )
    unigram_bits_per_byte: Score = Field(
        None,
        description="bits per byte of the unigram model on the scored tokens: what token "
        "frequencies alone give",
    )
    unigram_bits_per_byte_by_prefix: Named[Score] = Field(
        {}, description="the same by prefix length, as in a run"
    )
    bigram_bits_per_byte: Score = Field(
        None,
        description="the same of an interpolated bigram model, which sees one token; a model above "
        "it does not use its context yet",
    )
    bigram_bits_per_byte_by_prefix: Named[Score] = Field({}, description="by prefix length")
    trigram_bits_per_byte: Score = Field(
        None, description="of an interpolated trigram model, which sees two tokens"
    )
    trigram_bits_per_byte_by_prefix: Named[Score] = Field({}, description="by prefix length")
    scored_tokens: Named[int] = Field({}, description="prefix length to tokens scored there")
    learning_rates: Named[dict[str, Score]] = Field(
        {},
        description="objective to the validation loss (nats per target, its own) of each factor "
        'tried, `"x2"` and so on',
    )
    weight_decays: Named[dict[str, dict[str, Score]]] = Field(
        {},
        description="objective to weight decay to rung to the validation loss of the first seed; "
        "none where one alone was tried",
    )
    baselines: Named[Baselines] = Field(
        {}, description="task, or `text`, to its baselines; none without tasks"
    )
    tasks: Named[TaskInfo] = Field({}, description="task to its description")
    metrics: Named[Metric] = Field(
        {}, description="what to know of each [protocol](evaluation.md), by name"
    )
    runs: list[Run] = Field(description="one for each objective, seed and rung")
    summary: list[SummaryRow] = Field(description="means and intervals over seeds")
    differences: list[Difference] = Field(description="paired differences")
    controls: Listed[MetricRow] = Field(
        [],
        description="what waiting for the next tokens, and what reading both ways without masks "
        "buys; last rung",
    )
    extrapolation: Named[Extrapolation] = Field(
        {}, description="objective to what its rungs say of larger budgets"
    )
    recommendation: dict[str, str | None] = Field(description="the answer per need")
    reasons: Named[str | None] = Field(
        {}, description="per need why, and what would settle it, in sentences"
    )
    verdicts: Named[Verdict] = Field({}, description="what the answer per need rests on")
    notes: Listed[str] = Field(
        [], description="what a reader should know before believing the numbers"
    )
    forecast: ForecastResults | None = Field(
        None, description="what the corpus says of the objectives before any training"
    )

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of `frame`: "summary", "differences", "runs" (a column PROTOCOL/TASK, and one with
        `before`, of each score), "controls", "by_prefix", "by_labels", "curves", "baselines"
        and "extrapolation".
        """
        of_run = [(numbered(run, "mode", "checkpoint"), run) for run in self.runs]
        keys = [({n: row[n] for n in ("objective", "seed", "rung")}, run) for row, run in of_run]
        return {
            "summary": [row.as_dict() for row in self.summary],
            "differences": [row.as_dict() for row in self.differences],
            "runs": [row | run.budget.as_dict() | _by_task(run) for row, run in of_run],
            "controls": [row.as_dict() for row in self.controls],
            "by_prefix": [
                key | {"prefix": prefix, "bits_per_byte": value}
                for key, run in keys
                for prefix, value in run.bits_per_byte_by_prefix.items()
            ],
            "by_labels": [
                key | {"task": task} | numbered(line)
                for key, run in keys
                for task, found in run.scores.get("finetune", {}).items()
                for line in found.by_labels
            ],
            "curves": [key | point.as_dict() for key, run in keys for point in run.curve],
            "baselines": [{"task": name} | line.as_dict() for name, line in self.baselines.items()],
            "extrapolation": [
                {"objective": objective} | budget.as_dict()
                for objective, found in self.extrapolation.items()
                for budget in found.budgets
            ],
        }


def _by_task(run: Run) -> dict[str, Any]:
    """{PROTOCOL/TASK: score, PROTOCOL/TASK/before: ..} of every protocol without a field of its
    own.
    """
    columns: dict[str, Any] = {}
    for protocol, found in run.scores.items():
        if protocol in run.model_fields_set:
            continue
        for task, line in found.items():
            columns[f"{protocol}/{task}"] = line.score
            if line.before is not None:
                columns[f"{protocol}/{task}/before"] = line.before
    return columns
