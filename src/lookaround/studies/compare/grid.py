"""The jobs of a study: which there are, what they need of one another, and what they found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lookaround.evaluation.registry import (
    Evaluation,
    Pairs,
    Scores,
    TextData,
    chosen,
    reading,
)
from lookaround.report.schema import ForecastResults
from lookaround.studies.compare.controls import Controls, run_with_controls
from lookaround.studies.compare.ladder import Job, run_job
from lookaround.studies.compare.scoring import (
    TOKENS,
    Untrained,
    baselines_of,
    run_untrained,
    scores_line,
)
from lookaround.studies.compare.study import Study, evaluation_work, text_data
from lookaround.studies.events import Event, Report, silent
from lookaround.studies.forecast.forecast import Forecast, forecast_job
from lookaround.studies.jobs import Jobs
from lookaround.support.errors import UserError
from lookaround.support.storage import remove_folder
from lookaround.train.loop import StopSignal

HALF = 0.5  # of the budget: what each model gets of two that read one text in both directions
STAGES = ("rates", "decays", "runs")  # each needs what the ones before it have chosen
LABELS = {
    "trial": "{}, learning rate x{:g}",
    "decay": "{}, weight decay {:g}",
    "ladder": "{}, seed {}",
    "untrained": "before training, read {}, seed {}",
}


@dataclass(frozen=True)
class Listed:
    """A job in the list of a study, which depends on no result.

    stage, number: where it stands; numbers count from 1 in each stage.
    kind, key: "trial" and (objective, factor) of a learning rate, "decay" and (objective, weight
        decay), "ladder" and (objective, seed), "untrained" and (attention, seed) of a network.
    """

    stage: str
    number: int
    kind: str
    key: tuple[str, Any]

    @property
    def name(self) -> str:
        return f"{self.stage}:{self.number}"

    @property
    def objective(self) -> str | None:
        """The objective whose earlier stages it needs; None: it needs nothing."""
        return None if self.kind == "untrained" else self.key[0]

    def __str__(self) -> str:
        return f"{self.name} ({LABELS[self.kind].format(*self.key)})"


@dataclass(frozen=True)
class Call:
    """What runs a job: function(argument).

    work: in runs at the full budget, without that of an earlier stage that it goes on from.
    folders: that it writes into, and no other job at the same time.
    """

    function: Callable[[Any], Any]
    argument: Job | Controls | Untrained
    work: float
    folders: tuple[Path, ...]


@dataclass
class Found:
    """What the jobs of a study found.

    ladders: by (objective, seed), {rung: what it is}, see `ladder.read_rung`.
    losses: validation loss by objective and learning-rate factor.
    decays: validation loss by objective, weight decay and rung, of the first seed; empty where one
        decay alone is tried.
    untrained: by (attention, seed), what is said of the network before training.
    controls: by seed, {name: {task of words: scores}}, see `run_controls`.
    baselines: by task (the text's name is ""), {baseline: scores}.
    forecast: what is told beside the study, or the reason why nothing is; None: not asked for.
    """

    ladders: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    losses: dict[str, dict[float, float]] = field(default_factory=dict)
    decays: dict[str, dict[float, dict[float, float]]] = field(default_factory=dict)
    untrained: dict[tuple[str, int], Evaluation] = field(default_factory=dict)
    controls: dict[int, dict[str, dict[str, Scores]]] = field(default_factory=dict)
    baselines: dict[str, dict[str, Scores]] = field(default_factory=dict)
    forecast: ForecastResults | str | None = None


class Grid:
    """The jobs of a study in its folder.

    plans, smallest: what `plans_of` says of the runs.
    """

    def __init__(self, study: Study, out: Path, plans: dict[str, Any], smallest: float) -> None:
        self.study, self.out, self.plans, self.smallest = study, out, plans, smallest
        settings = self.settings = study.settings
        self.specs = [objective.spec for objective in study.objectives]
        self.seeds = [settings.seed + i for i in range(settings.compare.seeds)]
        self.factors = settings.compare.lr_factors
        self.best = dict.fromkeys(self.specs, self.factors[0])
        self.decays = study.weight_decays(plans)
        self.decay = dict.fromkeys(self.specs, self.decays[0])
        data = study.data
        self.found = Found(
            losses={
                spec: {} if len(self.factors) > 1 else {self.factors[0]: math.nan}
                for spec in self.specs
            },
            decays={spec: {} for spec in self.specs if len(self.decays) > 1},
        )
        self.evaluation, self.last = evaluation_work(study, data, plans[self.specs[0]])
        self.words = [
            item for protocol, item in chosen(data, settings.evaluate) if protocol.name == TOKENS
        ]
        # reading one text in both directions takes `ar`, trained from the start
        self.controlled = (
            study.complete
            and bool(self.words)
            and "ar" in self.specs
            and settings.model.init is None
        )
        self.stages = self._stages()

    def _stages(self) -> dict[str, list[Listed]]:
        """{stage: its jobs}, none in a stage that this study does not need."""
        factors = self.factors if len(self.factors) > 1 else []
        decays = self.decays if len(self.decays) > 1 else []
        keys: dict[str, list[tuple[str, tuple[str, Any]]]] = {
            "rates": [("trial", (spec, factor)) for spec in self.specs for factor in factors],
            "decays": [("decay", (spec, decay)) for spec in self.specs for decay in decays],
            "runs": [("ladder", (spec, seed)) for spec in self.specs for seed in self.seeds]
            + [("untrained", key) for key in self.untrained()],
        }
        return {
            stage: [Listed(stage, number, *entry) for number, entry in enumerate(entries, 1)]
            for stage, entries in keys.items()
        }

    def call(self, job: Listed) -> Call:
        """What runs a job, with the learning rate and weight decay that are chosen by now."""
        spec, value = job.key
        if job.kind == "untrained":
            network = self.untrained()[job.key]
            return Call(run_untrained, network, self.evaluation + self.last, (network.folder,))
        if job.kind != "ladder":
            trial = self._tried(job)
            return Call(run_job, trial, trial.work, (trial.folder,))
        tried = len(self.decays) > 1 and value == self.seeds[0]  # its ladder is trained already
        done = self.decay_trial(spec, self.decay[spec]).work if tried else 0.0
        if self.controlled and spec == "ar":
            controls = self.controls(value)
            folders = (controls.ladder.folder, controls.backwards.folder)
            return Call(run_with_controls, controls, controls.work - done, folders)
        ladder = self.ladder(spec, value)
        return Call(run_job, ladder, ladder.work - done, (ladder.folder,))

    def _tried(self, job: Listed) -> Job:
        """The trial of a learning rate or weight decay."""
        return self.trial(*job.key) if job.kind == "trial" else self.decay_trial(*job.key)

    def ladder(self, spec: str, seed: int, factor: float | None = None, **others: Any) -> Job:
        """The ladder of an objective and seed, at the best learning rate if not told which."""
        rungs = tuple(self.study.rungs)
        half = {HALF} if self.controlled and spec == "ar" else set()
        job = Job(
            out=self.out,
            settings=self.settings,
            objective=spec,
            store=self.study.store,
            tasks=self.study.data,
            seed=seed,
            factor=self.best[spec] if factor is None else factor,
            plan=self.plans[spec],
            rungs=tuple(sorted({*rungs, *half})),
            evaluated=rungs,
            smallest=self.smallest,
            trial=False,
            threads=self.study.threads,
            evaluation=self.evaluation,
            last=self.last,
            decay=self.decay[spec],
        )
        return replace(job, **others)

    def trial(self, spec: str, factor: float) -> Job:
        """The smallest rung of a learning rate, on the first seed."""
        return self.ladder(spec, self.seeds[0], factor, trial=True, decay=self.decays[0])

    def decay_trial(self, spec: str, decay: float) -> Job:
        """The ladder of a weight decay on the first seed, to be evaluated if it is chosen."""
        return self.ladder(spec, self.seeds[0], decay=decay, evaluated=(), validated=True)

    def controls(self, seed: int) -> Controls:
        """`ar` read later, and on half of the budget beside the same on reversed text."""
        forward = self.ladder("ar", seed)
        half = replace(forward, rungs=(HALF,), evaluated=(), backwards=True, before=forward.work)
        return Controls(forward, half)

    def untrained(self) -> dict[tuple[str, int], Untrained]:
        """Networks before training, read as the objectives' models are; words both ways too.

        By (attention, seed).
        """
        options = self.settings.evaluate
        # {how it is read: whether words alone are asked for}
        ways = {
            reading(objective.modes(), options.classification_mode).attention: False
            for objective in self.study.objectives
        }
        if self.words and self.settings.model.init is None:
            ways = {"causal": True, "bidirectional": True} | ways
        shared = (self.out, self.settings, self.study.store, self.study.data)
        return {
            (kind, seed): Untrained(*shared, seed, kind, only, self.study.threads)
            for kind, only in ways.items()
            for seed in self.seeds
        }

    def total(self) -> float:
        """Work of all jobs, in runs at the full budget."""
        beside = len(self.study.data) + 1 + self.settings.forecast.enabled
        listed = (job for jobs in self.stages.values() for job in jobs)
        return self.evaluation * beside + sum(self.call(job).work for job in listed)

    # --------------------------------------------------------------------- what is there already

    @cached_property
    def _pairs(self) -> Pairs:
        """What models are evaluated on, with the protocols for it."""
        text = text_data(self.settings, self.study.store)
        return chosen([*self.study.data, text], self.settings.evaluate)

    def needed(self, job: Listed) -> list[Listed]:
        """The unfinished jobs of the first earlier stage that a job waits for.

        Where there are none, learning rate and weight decay are chosen by what was stored. Raises
        UserError where all that was tried has diverged.
        """
        if job.objective is None:
            return []
        for stage in STAGES[: STAGES.index(job.stage)]:
            tried, losses = self._of(job.objective, stage), {}
            for one in tried:
                if (found := self._tried(one).losses()) is not None:
                    losses[one.key[1]] = found
            if len(losses) < len(tried):
                return [one for one in tried if one.key[1] not in losses]
            if tried and stage == "rates":
                smallest = {factor: found[self.smallest] for factor, found in losses.items()}
                self._choose(job.objective, smallest, silent)
            elif tried:
                self._choose_decay(job.objective, losses, silent)
        return []

    def missing(self) -> list[Listed]:
        """The jobs that are not finished, those among them that wait for others."""
        return [
            job
            for jobs in self.stages.values()
            for job in jobs
            if self.needed(job) or not self.call(job).argument.finished(self._pairs)
        ]

    # ------------------------------------------------------------------------------------- a run

    def run(self, executor: Executor | None, stop: StopSignal, report: Report) -> Found:
        """Runs what is left of all jobs; raises what they raise."""
        study, settings = self.study, self.settings
        names = [item.name for item in self.study.data] + [TextData.name]
        with Jobs(
            self.out,
            stop,
            jobs=study.jobs,
            threads=study.threads,
            executor=executor,
            memory=study.memory_bytes,
        ) as jobs:
            if settings.forecast.enabled:
                place = self.out / "forecast"
                jobs.submit(
                    ("forecast", None), forecast_job, self._forecast(), place, work=self.evaluation
                )
            for name in names:
                arguments = (settings, study.store, self.study.data, name)
                jobs.submit(("baseline", name), baselines_of, *arguments, work=self.evaluation)
            for spec in self.specs:
                self._submit_next(jobs, spec, STAGES[0])
            self._submit(jobs, self._of(None, "runs"))
            for (kind, key), value in jobs.finished(report, self.total()):
                self._take(jobs, kind, key, value, report)
        for spec in self.specs:  # delete the trunks of the rejected learning rates
            for factor in {*self.factors} - {self.best[spec]}:
                remove_folder(self.trial(spec, factor).folder / "trunk")
        self._sort()
        return self.found

    def _sort(self) -> None:
        """Brings what was found into the order of the study, whichever job ended first."""
        found, runs = self.found, [(spec, seed) for spec in self.specs for seed in self.seeds]
        texts = [item.name for item in self.study.data] + [TextData.name]
        found.ladders = {run: found.ladders[run] for run in runs}
        found.untrained = {network: found.untrained[network] for network in self.untrained()}
        found.baselines = {text: found.baselines[text] for text in texts}
        found.controls = dict(sorted(found.controls.items()))

    def _forecast(self) -> Forecast:
        corpus = self.study.corpus
        return Forecast(
            self.settings,
            self.study.objectives,
            corpus.name,
            corpus.fingerprint,
            self.study.data,
            self.study.store,
        )

    def _of(self, spec: str | None, stage: str) -> list[Listed]:
        """The jobs of an objective in a stage; None: those of none."""
        return [job for job in self.stages[stage] if job.objective == spec]

    def _submit(self, jobs: Jobs, listed: Iterable[Listed]) -> None:
        for job in listed:
            call = self.call(job)
            jobs.submit((job.kind, job.key), call.function, call.argument, work=call.work)

    def _submit_next(self, jobs: Jobs, spec: str, first: str) -> None:
        """Submits the jobs of an objective in the next stage that has some, from `first` on."""
        stages = STAGES[STAGES.index(first) :]
        self._submit(jobs, next(filter(None, (self._of(spec, stage) for stage in stages))))

    def _take(self, jobs: Jobs, kind: str, key: Any, value: Any, report: Report) -> None:
        """Takes what a job found, and submits what waited for it."""
        found = self.found
        if kind == "forecast":
            found.forecast = value
        elif kind == "baseline":
            found.baselines[key] = value
        elif kind == "untrained":
            found.untrained[key] = value
        elif kind == "ladder":
            (spec, seed), rungs = key, value["rungs"]
            found.ladders[key] = rungs
            report(Event(finished=f"{spec}, seed {seed}: {self.told(kind, value)}"))
            if "controls" in value:
                found.controls[seed] = value["controls"]
        elif kind == "decay":
            spec, decay = key
            found.decays[spec][decay] = value["validation_losses"]
            if len(found.decays[spec]) == len(self.decays):
                self._choose_decay(spec, found.decays[spec], report)
                self._submit_next(jobs, spec, "runs")
        else:
            spec, factor = key
            found.losses[spec][factor] = value["validation_losses"][self.smallest]
            if len(found.losses[spec]) == len(self.factors):
                self._choose(spec, found.losses[spec], report)
                self._submit_next(jobs, spec, "decays")

    def told(self, kind: str, value: Any) -> str:
        """What a job of a kind has found, in one line."""
        if kind == "untrained":
            return scores_line(value, self.study.store.codec.unit)
        if kind == "ladder":
            last = value["rungs"][f"{self.study.rungs[-1]:g}"]["evaluation"]
            return scores_line(last, self.study.store.codec.unit)
        losses = value["validation_losses"]
        if not all(map(math.isfinite, losses.values())):
            return "the loss is not finite"
        told = ", ".join(f"{loss:.4f} at {rung:g}" for rung, loss in losses.items())
        return f"validation loss {told} of the budget"

    def _choose(self, spec: str, losses: Mapping[float, float], report: Report) -> None:
        """Chooses the learning rate of an objective; raises UserError where all diverged."""
        finite = {f: loss for f, loss in sorted(losses.items()) if math.isfinite(loss)}
        if not finite:
            raise UserError(
                f"'{spec}': the loss is not finite at any of the learning rates tried; use smaller "
                f"compare.lr_factors, now {self.factors}, or train.learning_rate, in another --out"
            )
        self.best[spec] = min(finite, key=lambda f: finite[f])
        tried = ", x".join(f"{f:g}" for f in self.factors)
        report(Event(finished=f"{spec}: learning rate x{self.best[spec]:g} of x{tried}"))

    def _choose_decay(
        self, spec: str, losses: Mapping[float, Mapping[float, float]], report: Report
    ) -> None:
        """Chooses the weight decay of an objective by its best rung; UserError if all diverged."""
        least = {decay: min(losses[decay].values()) for decay in self.decays}
        finite = {decay: loss for decay, loss in least.items() if math.isfinite(loss)}
        if not finite:
            raise UserError(
                f"'{spec}': the loss is not finite at any of the weight decays tried; use smaller "
                f"compare.weight_decays, now {self.decays}, or a smaller train.learning_rate, in "
                "another --out"
            )
        self.decay[spec] = min(finite, key=lambda decay: finite[decay])
        tried = ", ".join(f"{decay:g}" for decay in self.decays)
        report(Event(finished=f"{spec}: weight decay {self.decay[spec]:g} of {tried}"))
