"""What `lookaround synthetic` returns and writes."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from lookaround.report.schema.comparison import Machine
from lookaround.report.schema.record import Listed, Named, Record, Results, Score, numbered
from lookaround.support.records import Part, as_json


class SyntheticOptions(Record):
    """Of the settings' section `synthetic`, what reports read."""

    seeds: int = Field(description="seeds of each task and objective")
    steps: int = Field(description="optimizer steps of a run at most")
    budget: str | None = Field(None, description="of a run, in place of a number of steps")
    batch: int = Field(description="problems of a step")
    queries: int = Field(description="held-out problems asked for")
    edges: str = Field(description="order of the edges")
    query: str = Field(description="where the question stands")


class ModelOptions(Record):
    """Of the settings' section `model`, what reports read."""

    preset: str = Field(description="name of the trunk")


class SyntheticSettings(Record):
    """All settings, after defaults were filled in."""

    synthetic: SyntheticOptions = Field(description="of the grid")
    model: ModelOptions = Field(description="of the model")


class Margins(Record):
    """When two accuracies are told apart."""

    same: float = Field(description="two no further apart than this are not told apart")
    guessing: float = Field(description="one no more than this above chance is that of guessing")


class SyntheticTask(Record):
    """A kind of problem."""

    title: str = Field(description="what reports call it")
    about: str = Field(description="what makes it hard")
    copied: bool = Field(description="whether what follows the first hop can be copied")
    figures: Named[str] = Field(
        {"exact_match": "answers that are right as a whole"},
        description="figure of a run to what it is; the first one is the task's own",
    )
    bounds: Named[str] = Field(
        {}, description="line beside the figures that is no model's to what it is"
    )


class LearningPoint(Record):
    """A point of a learning curve, on validation problems."""

    step: int = Field(description="optimizer steps")
    seconds: float | None = Field(None, description="wall clock seconds of training")
    exact_match: Score = Field(None, description="share of answers right as a whole")
    positions: Listed[Score] = Field([], description="accuracy by place of the answer")
    state_accuracy: Score = Field(None, description="as in a row, on a tenth of its rows")
    forward: Score = Field(None, description="as in a row")
    backward: Score = Field(None, description="as in a row")


class SyntheticRow(Record):
    """One run: a task, an objective and a seed."""

    objective: str = Field(description="the canonical spec")
    graph: str = Field(description="the task's spec")
    seed: int = Field(description="of the model and of the order of its problems")
    exact_match: Score = Field(None, description="share of held-out answers right as a whole")
    first_hop: Score = Field(None, description="accuracy of the token that takes looking ahead")
    later_positions: Score = Field(
        None, description="accuracy of the tokens after it; null where nothing comes after"
    )
    train_exact_match: Score = Field(None, description="exact match on training problems")
    state_accuracy: Score = Field(
        None, description="share of symbols whose hidden state a linear probe finds"
    )
    symbol: Score = Field(None, description="the same of the exact posterior given the symbol")
    filtering: Score = Field(None, description="given the symbols up to it")
    smoothing: Score = Field(None, description="given all symbols of the row")
    later: Listed[Score] = Field(
        [],
        description="of a causal model, `state_accuracy` with the states of the next one, two .. "
        "symbols appended",
    )
    forward: Score = Field(None, description="values written whole, given held-out keys")
    backward: Score = Field(None, description="keys written whole, given held-out values")
    coverage: Score = Field(
        None,
        description="theory's word on both: the rarest of the pairs that writing a value asks for, "
        "as a share of the training pairs in a value, times its tokens; 1 for `ar`",
    )
    seconds: float | None = Field(None, description="wall clock seconds of training")
    steps: int = Field(description="optimizer steps taken")
    solved_at: int | None = Field(
        None, description="the step from which it stays solved on validation problems; null: never"
    )
    learned_at: Listed[int | None] = Field(
        [], description="by place of the answer, the first step with 95 % right; null: never"
    )
    left_chance_at: int | None = Field(
        None, description="the step from which it is better than chance by 5 points; null: never"
    )
    diverged_at: int | None = Field(
        description="the step at which loss or weights were not finite, null if they never were; "
        "the rest is then that of the last point of the curve"
    )
    positions: Listed[Score] = Field([], description="accuracy by place of the answer")
    ways: Named[Score] = Field(
        {}, description="way of writing to exact match; the first is the objective's own"
    )
    queries: int = Field(description="different held-out problems; pairs, or rows, of other tasks")
    chance: Score = Field(
        None, description="accuracy of a guess at the first hop; null where it has no meaning"
    )
    parameters: int | None = Field(None, description="parameters of the model with its heads")
    learning_rate: float | None = Field(None, description="the peak learning rate")
    flops: float | None = Field(None, description="floating point operations of training")
    curve: list[LearningPoint] = Field(description="accuracy along the run")


class OverSeeds(Record):
    """A mean with its 95 % t-interval over seeds."""

    mean: Score = Field(None, description="mean over seeds")
    low: Score = Field(None, description="lower end; null with one seed")
    high: Score = Field(None, description="upper end; null with one seed")


class SyntheticEntry(Record):
    """A task and an objective over seeds. What no run has a number of is absent."""

    objective: str = Field(description="the canonical spec")
    graph: str = Field(description="the task's spec")
    control_of: str | None = Field(
        description="the task beside it that it is a control of, else null"
    )
    seeds: int = Field(description="number of runs")
    exact_match: OverSeeds | None = Field(None, description="of the runs' `exact_match`")
    first_hop: OverSeeds | None = Field(None, description="of the runs' `first_hop`")
    later_positions: OverSeeds | None = Field(None, description="of the runs' `later_positions`")
    train_exact_match: OverSeeds | None = Field(
        None, description="of the runs' `train_exact_match`"
    )
    state_accuracy: OverSeeds | None = Field(None, description="of the runs' `state_accuracy`")
    symbol: OverSeeds | None = Field(None, description="of the runs' `symbol`")
    filtering: OverSeeds | None = Field(None, description="of the runs' `filtering`")
    smoothing: OverSeeds | None = Field(None, description="of the runs' `smoothing`")
    later: Listed[Score] = Field([], description="means of the runs' `later`")
    forward: OverSeeds | None = Field(None, description="of the runs' `forward`")
    backward: OverSeeds | None = Field(None, description="of the runs' `backward`")
    coverage: Score = Field(None, description="as in a row")
    success: Part | None = Field(
        None, description="share of runs with an exact match of 95 % or more"
    )
    ways: Named[Score] = Field({}, description="way of writing to mean exact match")
    seconds: float = Field(description="wall clock seconds of training, mean")
    parameters: int = Field(description="parameters of the model with its heads")
    chance: Score = Field(None, description="as in a row")
    learning_rate: float | None = Field(None, description="the peak learning rate")
    solved_at: Listed[int | None] = Field([], description="by seed, as in a row")
    steps: list[int] = Field(description="by seed, as in a row")
    learned_at: Listed[list[int | None]] = Field([], description="by seed, as in a row")
    left_chance_at: Listed[int | None] = Field([], description="by seed, as in a row")
    diverged_at: list[int | None] = Field(description="by seed, as in a row")


class SyntheticResults(Results):
    """What `lookaround synthetic` returns and `--json FILE` writes, and `results.json` of its
    folder. Terms are those of [synthetic.md](synthetic.md).

    With `--dry-run` the file of `--json` holds the estimate: `runs`, `jobs`, `steps`, `flops` and
    `seconds` (of training), `scoring_seconds`, and `by_run`, for each task and objective `graph`,
    `objective`, `parameters`, `seconds_per_step`, `flops` (of one run), `runs` (a trial is a part
    of one) and `scoring_seconds` (of all of them).
    """

    page = "synthetic.html"

    version: int = Field(description="`1`, by the promise above")
    kind: str = Field(description="`synthetic`")
    command: str = Field(description="the command that repeats it")
    settings: SyntheticSettings = Field(description="all settings")
    machine: Machine | None = Field(None, description="where it ran")
    versions: Named[Any] = Field({}, description="package to its version")
    margins: Margins = Field(description="when accuracies are told apart")
    tasks: dict[str, SyntheticTask] = Field(description="by the task's spec")
    rows: list[SyntheticRow] = Field(min_length=1, description="one for each run")
    summary: list[SyntheticEntry] = Field(
        min_length=1, description="one for each task and objective"
    )
    learning_rates: dict[str, dict[str, dict[str, Score]]] = Field(
        description="task to objective to factor to accuracy on validation problems at the end of "
        "its trial (-1: it diverged); empty without a search"
    )

    @model_validator(mode="after")
    def _every_task_is_described(self) -> Self:
        for graph in [row.graph for row in self.rows] + [entry.graph for entry in self.summary]:
            if graph not in self.tasks:
                raise ValueError(
                    f"field 'tasks[{graph!r}]' is missing; expected an object for each task of the "
                    "rows"
                )
        for number, entry in enumerate(self.summary):
            if entry.control_of not in (None, *self.tasks):
                raise ValueError(
                    f"field 'summary[{number}].control_of' is {as_json(entry.control_of)}; "
                    "expected one of the tasks"
                )
        return self

    @model_validator(mode="after")
    def _curves_have_the_same_places(self) -> Self:
        places: dict[str, int] = {}
        for number, row in enumerate(self.rows):
            for at, point in enumerate(row.curve):
                wanted, found = places.setdefault(row.graph, len(point.positions)), point.positions
                if len(found) != wanted:
                    raise ValueError(
                        f"field 'rows[{number}].curve[{at}].positions' has {len(found)} places; "
                        f"expected {wanted}, as of the points before"
                    )
        return self

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of `frame`: "summary" (means alone), "rows" and "curves"."""
        return {
            "summary": [
                numbered(entry)
                | {
                    name: value.mean
                    for name, value in vars(entry).items()
                    if isinstance(value, OverSeeds)
                }
                for entry in self.summary
            ],
            "rows": [numbered(row) for row in self.rows],
            "curves": [
                {name: row[name] for name in ("graph", "objective", "seed")} | numbered(point)
                for row in self.rows
                for point in row.curve
            ],
        }
