"""What `lookaround pretrain` and `lookaround evaluate` return."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from lookaround.report.schema.comparison import Baselines, Budget, Sample
from lookaround.report.schema.record import Listed, Named, Record, Results, Score


class Plan(Record):
    """The optimizer steps of a run, by part of its objective."""

    shares: list[float] = Field(description="share of the budget of each part")
    steps: list[int] = Field(description="optimizer steps of each part")


class Data(Record):
    """The text of a run."""

    corpus: str | None = Field(None, description="where it was read from")
    fingerprint: str | None = Field(None, description="a hash of its tokens")
    corpus_fingerprint: str | None = Field(None, description="a hash of its text")
    split_seed: int | None = Field(None, description="seed of the split")


class Spent(Budget):
    """What a run has used."""

    step: int | None = Field(None, description="optimizer steps")


class PretrainResults(Results):
    """What `lookaround pretrain` returns and `--json FILE` writes, and the `run.yaml` of its
    folder.
    """

    lookaround: str | None = Field(None, description="version of this package")
    objective: str = Field(description="the canonical spec")
    modes: Listed[list[Any]] = Field([], description="attention and shift in training")
    final_modes: Listed[list[Any]] = Field([], description="attention and shift it ends with")
    context: int | None = Field(None, description="tokens of a row")
    seed: int | None = Field(None, description="of the start and of the order of the data")
    learning_rate: float | None = Field(None, description="the peak learning rate")
    plan: Plan | None = Field(None, description="the optimizer steps")
    data: Data | None = Field(None, description="the text")
    settings: Named[Any] = Field({}, description="all settings, after defaults were filled in")
    identity: Named[Any] = Field({}, description="what must be the same for a run to be resumed")
    status: str | None = Field(None, description="`running` or `finished`")
    spent: Spent = Field(Spent(), description="what the run used")

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of `frame`: "spent", the one row of what the run has used."""
        return {"spent": [{"objective": self.objective, "seed": self.seed} | self.spent.as_dict()]}


class TaskScore(Record):
    """The score of a task, with what its protocol says of it."""

    score: Score = Field(None, description="score on the test part, in the metric of the task")
    layer: int | None = Field(None, description="layer that the probe chose, 0 = embedding")


class EvaluationResults(Results):
    """What `lookaround evaluate` returns and `--json FILE` writes, and the `evaluation.json` of
    `--out`. Any other protocol adds its key, as `classification` or as `bits_per_byte`.
    """

    model: str = Field(description="what was evaluated")
    baselines: Named[Baselines] = Field({}, description="task to its baselines")
    classification_mode: str | None = Field(
        None, description="attention and shift the model was read with for classification"
    )
    generation_mode: str | None = Field(None, description="the same for generation")
    classification: Named[TaskScore] = Field({}, description="task to its score")
    unit: str | None = Field(
        None,
        description="what `bits_per_byte` is told per: `byte`, or `token` where the tokenizer "
        "loses more than 1 % of the characters; absent: `byte`",
    )
    bits_per_byte: Score = Field(
        None, description="bits per byte by the left-to-right chain rule; lower is better"
    )
    bits_per_byte_by_prefix: Named[Score] = Field(
        {}, description="tokens of prefix, as text, to bits per byte"
    )
    samples: Listed[Sample] = Field([], description="continuations of test documents")
    notes: Listed[str] = Field(
        [], description="texts that were cut, and what the tokenizer loses of them"
    )

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of `frame`: "scores" (of a task, or of the text: task ""), and "by_prefix"."""
        found = {"classification": self.classification, "bits_per_byte": self.bits_per_byte}
        scores = []
        for protocol, lines in (found | (self.model_extra or {})).items():
            by_task = isinstance(lines, dict) and "score" not in lines
            for task, line in (lines if by_task else {"": lines}).items():
                score = line["score"] if isinstance(line, dict | Record) else line
                row = {"protocol": protocol, "task": task, "score": score}
                scores.append(row | (self.baselines.get(task) or Record()).as_dict())
        by_prefix = self.bits_per_byte_by_prefix.items()
        return {
            "scores": [row for row in scores if isinstance(row["score"], int | float)],
            "by_prefix": [{"prefix": name, "bits_per_byte": value} for name, value in by_prefix],
        }
