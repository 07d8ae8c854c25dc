"""What `lookaround pretrain` and `lookaround evaluate` return."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from lookaround.report.schema.comparison import Baselines, Budget, Sample, Scored, TaskRun
from lookaround.report.schema.record import Listed, Named, Record, Results, Score, numbered

NGRAMS = ("unigram", "bigram", "trigram")


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


class EvaluationResults(Results):
    """What `lookaround evaluate` returns and `--json FILE` writes, and the `evaluation.json` of
    `--out`.
    """

    model: str = Field(description="what was evaluated")
    parameters: int | None = Field(None, description="parameters of the model without heads")
    baselines: Named[Baselines] = Field({}, description="task, or `text`, to its baselines")
    classification_mode: str | None = Field(
        None, description="attention and shift the model was read with for classification"
    )
    generation_mode: str | None = Field(None, description="the same for generation")
    scores: Scored = Field(
        {},
        description="protocol to task to its score; the task is `text` for what needs no labels",
    )
    classification: Named[TaskRun] = Field(
        {}, description="task to its score of the protocol `probe`, as under `scores`"
    )
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
    unigram_bits_per_byte: Score = Field(
        None, description="the same of token frequencies alone; null: its text is not at hand"
    )
    bigram_bits_per_byte: Score = Field(
        None, description="of an interpolated bigram model, which sees one token"
    )
    trigram_bits_per_byte: Score = Field(
        None, description="of an interpolated trigram model, which sees two tokens"
    )
    samples: Listed[Sample] = Field([], description="continuations of test documents")
    notes: Listed[str] = Field(
        [], description="texts that were cut, and what the tokenizer loses of them"
    )

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of `frame`: "scores" (with `before`, the network before training, and baselines),
        "by_labels" and "by_prefix".
        """
        scores = []
        for protocol, found in self.scores.items():
            for task, line in found.items():
                row = {"protocol": protocol, "task": task, "score": line.score}
                row |= {} if line.before is None else {"before": line.before}
                if protocol == "bits_per_byte":
                    beside = {name: self[f"{name}_bits_per_byte"] for name in NGRAMS}
                else:
                    beside = (self.baselines.get(task) or Record()).as_dict()
                scores.append(row | {name: v for name, v in beside.items() if v is not None})
        return {
            "scores": [row for row in scores if row["score"] is not None],
            "by_labels": [
                {"task": task} | numbered(line)
                for task, found in self.scores.get("finetune", {}).items()
                for line in found.by_labels
            ],
            "by_prefix": [
                {"prefix": name, "bits_per_byte": value}
                for name, value in self.bits_per_byte_by_prefix.items()
            ],
        }
