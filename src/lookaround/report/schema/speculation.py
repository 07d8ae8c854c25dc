"""What `lookaround speculate` returns."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from lookaround.report.schema.record import Listed, Named, Record, Results, Score


class Plain(Record):
    """Greedy `model.generate` of transformers."""

    tokens_per_second: float | None = Field(
        None, description="tokens per second, one sequence at a time"
    )


class Speculative(Record):
    """Our loop with drafts, one sequence at a time."""

    tokens_per_forward: float = Field(
        description="tokens per sequence and pass after the prompt's, over all prompts, with the "
        "tree for one sequence"
    )
    tokens_per_second: float | None = Field(None, description="tokens per second")
    identical: bool = Field(
        description="all texts are those of `model.generate`, token for token, in the precision "
        "of `precision_compared`"
    )
    precision_compared: str = Field(
        "float64", description="float64, or where that cannot be the precision that was timed"
    )
    own_precision: str | None = Field(None, description="why that is not float64")
    flips: int = Field(
        description="texts that differ somewhere in the precision that was timed (`precision`)"
    )
    acceptance_by_depth: list[Score] = Field(
        description="of the drafts of a depth whose predecessors stood, the share that stood"
    )


class BatchSpeed(Record):
    """Speed at one number of sequences, in tokens per second."""

    batch: int = Field(description="sequences at a time")
    nodes: int = Field(description="nodes of the tree; 0: none pays here, so none is drafted")
    tokens_per_forward: float = Field(description="tokens per sequence and pass, with drafts")
    plain_tokens_per_second: float = Field(description="of transformers")
    loop_tokens_per_second: float = Field(description="of our loop without drafts")
    speculative_tokens_per_second: float = Field(description="of our loop with drafts")
    speedup: float = Field(description="with drafts over transformers")
    interval: list[float] | None = Field(
        None, description="95 % interval of the speed-up over turns; null where there is one turn"
    )

    @property
    def pays(self) -> bool | None:
        """Whether drafts are faster here; None where their interval does not tell."""
        if self.interval is None:  # a file of before has none
            return None if "interval" in self else self.nodes > 0 and self.speedup > 1
        low, high = self.interval
        return False if not self.nodes or high < 1 else True if low > 1 else None


class Heads(Record):
    """What drafts."""

    kind: str | None = Field(None, description="kind of the heads")
    depths: int | None = Field(None, description="tokens drafted beyond the next one")


class TreeCost(Record):
    """A tree that was timed."""

    batch: int | None = Field(None, description="sequences at a time")
    nodes: int | None = Field(None, description="nodes of the tree")
    tokens: float | None = Field(None, description="tokens of a step, as calibrated")
    seconds: float | None = Field(None, description="seconds of a step, as timed")


class SpeculationResults(Results):
    """What `lookaround speculate` returns and `--json FILE` writes: a file without a version yet;
    keys are only added.
    """

    page = "speculation.html"

    lookaround: str | None = Field(None, description="version of this package")
    model: str | None = Field(None, description="the model it began with")
    corpus: str | None = Field(None, description="what it was trained and measured on")
    heads: Heads | None = Field(None, description="what drafts")
    drafted_tokens: int | None = Field(
        None, description="length of the shortlist of drafted tokens; null: all"
    )
    plain: Plain = Field(description="transformers")
    speculative: Speculative = Field(description="ours with drafts")
    precision: str = Field(description="the precision that was timed")
    prompts: int = Field(description="held-out prompts")
    new_tokens: int | None = Field(None, description="tokens written after each prompt")
    measure: str | None = Field(None, description="how much was measured: quick or full")
    by_batch: list[BatchSpeed] = Field(min_length=1, description="speed by number of sequences")
    pays_up_to_batch: int | None = Field(
        description="the largest measured number of sequences at which drafts were faster, by "
        "their interval"
    )
    bits_per_byte_before: Score = Field(
        None, description="bits per byte before joint training; absent without it"
    )
    bits_per_byte: Score = Field(
        None,
        description="bits per byte of the next token on held-out text; null for a tokenizer that "
        "loses text",
    )
    expected_tokens_per_forward: float = Field(description="what calibration foretold")
    trees: Named[int] = Field(
        {}, description="number of sequences to nodes of the tree, where one pays"
    )
    accuracies: Listed[list[Score]] = Field(
        [], description="P(i-th token of depth k is right), (K, 16)"
    )
    costs: Listed[TreeCost] = Field([], description="every tree that was timed")
    spent: Named[Score] = Field({}, description="stage to its seconds")

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of `frame`: "by_batch" (speed by number of sequences) and "costs" of trees."""
        return {
            "by_batch": [row.as_dict() for row in self.by_batch],
            "costs": [row.as_dict() for row in self.costs],
        }
