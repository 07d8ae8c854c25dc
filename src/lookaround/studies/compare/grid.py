"""The jobs of a study: which there are, what they need of one another, and what they found."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lookaround.evaluation.registry import (
    Evaluation,
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
from lookaround.studies.compare.study import Study, evaluation_work
from lookaround.studies.events import Event, Report
from lookaround.studies.forecast.forecast import Forecast, forecast_job
from lookaround.studies.jobs import Jobs
from lookaround.support.errors import UserError
from lookaround.support.storage import remove_folder
from lookaround.train.loop import StopSignal

HALF = 0.5  # of the budget: what each model gets of two that read one text in both directions


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
        self.found = Found(losses={spec: {} for spec in self.specs})
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

    def untrained(self) -> list[Untrained]:
        """Networks before training, read as the objectives' models are; words both ways too."""
        options = self.settings.evaluate
        # {how it is read: whether words alone are asked for}
        ways = {
            reading(objective.modes(), options.classification_mode).attention: False
            for objective in self.study.objectives
        }
        if self.words and self.settings.model.init is None:
            ways = {"causal": True, "bidirectional": True} | ways
        shared = (self.out, self.settings, self.study.store, self.study.data)
        return [
            Untrained(*shared, seed, kind, only, self.study.threads)
            for kind, only in ways.items()
            for seed in self.seeds
        ]

    def total(self) -> float:
        """Work of all jobs, in runs at the full budget."""
        count = len(self.seeds)
        total = (self.evaluation + self.last) * len(self.untrained())
        total += self.evaluation * (len(self.study.data) + 1 + self.settings.forecast.enabled)
        if self.controlled:
            controls = self.controls(self.seeds[0])
            total += count * (controls.work - controls.ladder.work)
        for spec in self.specs:
            total += count * self.ladder(spec, self.seeds[0]).work
            if len(self.factors) > 1:
                total += sum(self.trial(spec, factor).work for factor in self.factors)
            if len(self.decays) > 1:
                tried = sum(self.decay_trial(spec, decay).work for decay in self.decays)
                total += tried - self.decay_trial(spec, self.decays[0]).work
        return total

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
                if len(self.factors) == 1:
                    self.found.losses[spec] = {self.factors[0]: math.nan}
                    self._climb(jobs, spec)
                    continue
                for factor in self.factors:
                    trial = self.trial(spec, factor)
                    jobs.submit(("trial", (spec, factor)), run_job, trial, work=trial.work)
            for network in self.untrained():
                key = ("untrained", (network.attention, network.seed))
                jobs.submit(key, run_untrained, network, work=self.evaluation + self.last)
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
        networks = [(network.attention, network.seed) for network in self.untrained()]
        texts = [item.name for item in self.study.data] + [TextData.name]
        found.ladders = {run: found.ladders[run] for run in runs}
        found.untrained = {network: found.untrained[network] for network in networks}
        found.baselines = {text: found.baselines[text] for text in texts}
        found.controls = dict(sorted(found.controls.items()))
        found.decays = {spec: found.decays[spec] for spec in self.specs if spec in found.decays}

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

    def _climb(self, jobs: Jobs, spec: str) -> None:
        """Submits the ladders of an objective whose learning rate is known.

        Where weight decays are to be tried, first those of the first seed.
        """
        tried = self.found.decays.setdefault(spec, {}) if len(self.decays) > 1 else None
        if tried is not None and len(tried) < len(self.decays):
            for decay in self.decays:
                trial = self.decay_trial(spec, decay)
                jobs.submit(("decay", (spec, decay)), run_job, trial, work=trial.work)
            return
        for seed in self.seeds:
            key = ("ladder", (spec, seed))
            first = tried and seed == self.seeds[0]  # its ladder is trained already
            done = self.decay_trial(spec, self.decay[spec]).work if first else 0.0
            if self.controlled and spec == "ar":
                controls = self.controls(seed)
                jobs.submit(key, run_with_controls, controls, work=controls.work - done)
            else:
                ladder = self.ladder(spec, seed)
                jobs.submit(key, run_job, ladder, work=ladder.work - done)

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
            scores = scores_line(rungs[f"{self.study.rungs[-1]:g}"]["evaluation"])
            report(Event(finished=f"{spec}, seed {seed}: {scores}"))
            if "controls" in value:
                found.controls[seed] = value["controls"]
        elif kind == "decay":
            spec, decay = key
            found.decays[spec][decay] = value["validation_losses"]
            if len(found.decays[spec]) == len(self.decays):
                self._choose_decay(spec, report)
                self._climb(jobs, spec)
        else:
            spec, factor = key
            found.losses[spec][factor] = value["validation_losses"][self.smallest]
            if len(found.losses[spec]) == len(self.factors):
                self._choose(spec, report)
                self._climb(jobs, spec)

    def _choose(self, spec: str, report: Report) -> None:
        """Chooses the learning rate of an objective; raises UserError where all diverged."""
        losses = sorted(self.found.losses[spec].items())
        finite = {f: loss for f, loss in losses if math.isfinite(loss)}
        if not finite:
            raise UserError(
                f"'{spec}': the loss is not finite at any of the learning rates tried; use smaller "
                f"compare.lr_factors, now {self.factors}, or train.learning_rate, in another --out"
            )
        self.best[spec] = min(finite, key=lambda f: finite[f])
        tried = ", x".join(f"{f:g}" for f in self.factors)
        report(Event(finished=f"{spec}: learning rate x{self.best[spec]:g} of x{tried}"))

    def _choose_decay(self, spec: str, report: Report) -> None:
        """Chooses the weight decay of an objective by its best rung; UserError if all diverged."""
        tried_losses = self.found.decays[spec]
        least = {decay: min(tried_losses[decay].values()) for decay in self.decays}
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
