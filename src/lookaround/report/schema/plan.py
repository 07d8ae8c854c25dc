"""What `lookaround plan` returns."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from lookaround.report.schema.record import Listed, Record, Results, Score, numbered


class DeviceCost(Record):
    """What the run takes on one device; on several of them hours are divided and the cost stays,
    as far as they are as busy.
    """

    device: str = Field(description="name of the device, as `--price` takes it")
    memory_gb: float = Field(description="its memory in gigabytes")
    rows: int = Field(
        description="rows of a forward pass that fit (`train.micro_batch`), at most those of a "
        "step; 0: the model does not fit, and needs shards (`--parallel fsdp`)"
    )
    hours: Score = Field(None, description="of the run; null: the peak is not known")
    cost: Score = Field(None, description="hours times the price that was given")
    largest: str | None = Field(
        None, description="the largest preset that trains in this memory, a row at a time"
    )


class Foretold(Record):
    """Bits per byte of an objective at the budget, from the rungs of a study."""

    objective: str = Field(description="the canonical spec")
    mean: Score = Field(None, description="bits per byte")
    low: Score = Field(None, description="lower end of the 95 % interval")
    high: Score = Field(None, description="upper end")
    reason: str | None = Field(None, description="why nothing is foretold")


class PlanResults(Results):
    """What `lookaround plan --json FILE` writes: a run that is still to be paid for."""

    objective: str = Field(description="the canonical spec")
    model: str = Field(description="the preset")
    parameters: int = Field(description="of the model and its heads")
    batch: int = Field(description="rows of a step")
    context: int = Field(description="tokens of a row")
    learning_rate: float = Field(description="the peak learning rate")
    steps: int = Field(description="optimizer steps")
    tokens: float = Field(description="tokens of training")
    flops: float = Field(description="floating point operations, forward and backward")
    utilization: float = Field(description="share of a device's peak that hours are told for")
    devices: list[DeviceCost] = Field(description="one for each device")
    foretold: Listed[Foretold] = Field([], description="one for each objective of a study")

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of `frame`: "devices" and "foretold"."""
        return {
            "devices": [numbered(line) for line in self.devices],
            "foretold": [numbered(line) for line in self.foretold],
        }
