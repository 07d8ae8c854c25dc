"""An `ar` beside an `ar` of reversed text: what reading both ways buys without masks.

Each of the two is trained on half of the budget, so that both together cost what a run costs. Words
are read by their states side by side.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lookaround.evaluation.registry import Evaluation, Scores, TokenData
from lookaround.model.readable import open_run
from lookaround.studies.compare.ladder import Job, run_job
from lookaround.studies.compare.scoring import EVALUATION_FILE, TOKENS, read_evaluation
from lookaround.studies.jobs import Status
from lookaround.support.machine import threads
from lookaround.support.storage import write_text
from lookaround.train.loop import stop_on_signals


@dataclass(frozen=True)
class BothWays:
    """The model of reversed text to train, and the one beside it.

    backwards: the ladder of the one rung that is half of the budget.
    forward: folder of the run from left to right on as much.
    """

    backwards: Job
    forward: Path

    @property
    def folder(self) -> Path:
        """Where its scores are kept."""
        return self.backwards.folder / "both-ways"


def run_both_ways(pair: BothWays) -> dict[str, Scores]:
    """{task: scores of its words}."""
    from lookaround.evaluation.tokens import both_ways

    job = pair.backwards
    run_job(job)
    pair.folder.mkdir(exist_ok=True)
    file = pair.folder / EVALUATION_FILE
    with threads(job.threads), stop_on_signals() as stop:
        status = Status(job.folder, job.out, f"ar in both directions, seed {job.seed}", stop)
        status.before = job.work
        if not file.is_file():
            status.show("evaluating: tokens", 0, 1)
            with status.repeatable():
                models = open_run(pair.forward), open_run(job.folder / f"rung-{job.rungs[-1]:g}")
                scores = {
                    item.name: both_ways(*models, item, job.settings.evaluate, job.seed)
                    for item in job.tasks
                    if isinstance(item, TokenData)
                }
                write_text(file, json.dumps(asdict(Evaluation({}, {TOKENS: scores}))))
        status.done()
    return read_evaluation(pair.folder).scores[TOKENS]
