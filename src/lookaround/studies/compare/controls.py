"""What `ar` lacks of words and how else it may be had: by waiting, or by reading both ways.

The states of the next one and two tokens appended to a word's say what waiting buys. An `ar` beside
an `ar` of reversed text, each on half of the budget, says what reading both ways buys without
masks; both together cost what a run costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookaround.evaluation.registry import Evaluation, Pairs, Scores, TokenData
from lookaround.evaluation.tokens import both_ways, tokens_score
from lookaround.model.readable import open_run
from lookaround.studies.compare.ladder import Job, run_job
from lookaround.studies.compare.scoring import kept_evaluation, write_evaluation
from lookaround.studies.jobs import Status
from lookaround.support.machine import threads
from lookaround.train.loop import stop_on_signals

WAITS = (1, 2)  # tokens
BOTH_WAYS = "ar beside ar of reversed text"


def waiting(tokens: int) -> str:
    """The name of `ar` read so many tokens later."""
    return f"ar, {tokens} token{'s' * (tokens > 1)} later"


@dataclass(frozen=True)
class Controls:
    """Of one seed.

    ladder: of `ar`, from left to right; half of the budget is one of its rungs.
    backwards: the ladder of the one rung that is half of the budget, on reversed text.
    """

    ladder: Job
    backwards: Job

    @property
    def work(self) -> float:
        """Of all three: as a ladder's, and as much as its evaluation for the controls."""
        return self.ladder.work + self.backwards.work + self.ladder.evaluation

    @property
    def folder(self) -> Path:
        """Where scores are kept."""
        return self.backwards.folder / "controls"

    def missing(self, found: Mapping[str, Mapping[str, Scores]]) -> list[tuple[str, TokenData]]:
        """(Name of a control, task of words) of those that are not among the scores."""
        return [
            (name, item)
            for name in (BOTH_WAYS, *map(waiting, WAITS))
            for item in self.backwards.tasks
            if isinstance(item, TokenData) and item.name not in found.get(name, {})
        ]

    def finished(self, pairs: Pairs) -> bool:
        """Whether nothing is left to do; pairs: what is evaluated, by which protocols."""
        ladders = self.ladder.finished(pairs) and self.backwards.finished(pairs)
        return ladders and not self.missing(kept_evaluation(self.folder).scores)


def run_with_controls(controls: Controls) -> dict[str, Any]:
    """What `run_job` returns of the ladder, and "controls": {name: {task of words: scores}}."""
    return run_job(controls.ladder) | {"controls": _run_controls(controls)}


def _run_controls(controls: Controls) -> dict[str, dict[str, Scores]]:
    job = controls.backwards
    run_job(job)
    controls.folder.mkdir(exist_ok=True)
    options, found = job.settings.evaluate, kept_evaluation(controls.folder).scores
    with threads(job.threads), stop_on_signals() as stop:
        status = Status(job.folder, job.out, f"ar's controls, seed {job.seed}", stop)
        status.before = job.before + job.work
        half = f"rung-{job.rungs[-1]:g}"
        forward, backward, whole = (
            open_run(folder)
            for folder in (
                controls.ladder.folder / half,
                job.folder / half,
                controls.ladder.folder / "rung-1",
            )
        )

        def later(tokens: int) -> Callable[[TokenData], Scores]:
            return lambda item: tokens_score(whole, item, options, job.seed, later=tokens)

        kinds: dict[str, Callable[[TokenData], Scores]] = {
            BOTH_WAYS: lambda item: both_ways(forward, backward, item, options, job.seed),
            **{waiting(count): later(count) for count in WAITS},
        }
        for name, item in controls.missing(found):
            status.show(f"evaluating: {name}", 0, 1)
            with status.repeatable():
                found.setdefault(name, {})[item.name] = kinds[name](item)
                found = write_evaluation(controls.folder, Evaluation({}, found)).scores
        status.done()
    return found
