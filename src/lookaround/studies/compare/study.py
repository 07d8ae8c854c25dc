"""A study before anything is spent: what it is made of, its plans, and what it will cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field

from lookaround.data.corpus import Corpus
from lookaround.data.labelled import AnyTask, PairTask
from lookaround.data.pictures import Pictures
from lookaround.data.rows import Rows
from lookaround.data.shards import TokenStore, prepare
from lookaround.data.source import fitted_to, pictures_store, read_source
from lookaround.data.text import require_named
from lookaround.evaluation.registry import AnyData, Labelled, TextData, chosen, task_data
from lookaround.model.backbone import VOCABULARIES, Backbone
from lookaround.model.fingerprint import model_folder
from lookaround.model.readable import StoredPlan
from lookaround.model.sizes import training_bytes
from lookaround.objectives import AR, parse_list, require_for_text
from lookaround.objectives.objective import Objective
from lookaround.settings import Settings
from lookaround.studies.events import Event, Report, reading, silent
from lookaround.support.errors import UserError
from lookaround.support.machine import jobs_of, threads_of
from lookaround.support.records import Positive, Stored
from lookaround.train.budget import Budget, Plan, Unit, parse_budget
from lookaround.train.loop import Trainer
from lookaround.train.run import (
    build_backbone,
    equal_flops,
    make_trainer,
    plan_for,
    plan_of,
    step_cost,
)
from lookaround.train.speed import Measure

# From so many readings of a text on, a further one is worth less than new text (Muennighoff et al.
# 2023), and a larger weight decay is tried: 30 times the usual one was best where text is scarce
# (arXiv 2509.14786); results/repeated.md tells of 2.
MANY_EPOCHS, REPEATED_DECAY = 4.0, 2.0


@dataclass(frozen=True)
class Study:
    """Everything that a study is made of before anything is spent."""

    settings: Settings
    objectives: tuple[Objective, ...]
    corpus: Corpus | Pictures
    tasks: tuple[AnyTask, ...]
    store: TokenStore
    budget: Budget
    backbone: Backbone

    @property
    def rungs(self) -> list[float]:
        """The rungs that are climbed: all of the ladder, or those up to where it is to stop."""
        until = self.settings.compare.until or 1.0
        return [rung for rung in sorted(self.settings.compare.ladder) if rung <= until]

    @property
    def complete(self) -> bool:
        """Whether the whole ladder is climbed."""
        return self.rungs[-1] == 1

    @property
    def jobs(self) -> int:
        options = self.settings.compare
        return jobs_of(
            options.jobs, len(self.objectives) * max(options.seeds, len(options.lr_factors))
        )

    @property
    def memory_bytes(self) -> float:
        """What each process needs in training, an estimate."""
        rows = self.settings.train.micro_batch or self.settings.train.batch
        return training_bytes(
            self.backbone.sizes, self.backbone.parameter_count, rows * self.settings.model.context
        )

    @property
    def equal(self) -> str:
        """What every objective gets the same amount of: "flops", "tokens" or "seconds"."""
        return self.settings.compare.equal or (
            "seconds" if self.budget.unit == "seconds" else "flops"
        )

    @property
    def threads(self) -> int:
        """Threads of each job."""
        return threads_of(self.jobs)

    @cached_property
    def data(self) -> tuple[Labelled, ...]:
        """The tasks' examples that every model is evaluated on."""
        return tuple(task_data(task, self.settings.evaluate) for task in self.tasks)

    @property
    def unique(self) -> int:
        """Tokens of the training text."""
        return int(self.store.index["splits"]["train"]["tokens"])

    def epochs(self, plans: Mapping[str, Mapping[str, list]]) -> float:
        """Times that a run at the full budget reads the training text, the most of all.

        plans: {objective: its plan}.
        """
        data, train = self.settings.data, self.store.split("train")
        rows = Rows(train, self.settings.model.context, self.store.codec, pack=data.pack)
        steps = max(sum(plans[objective.spec]["steps"]) for objective in self.objectives)
        return steps * self.settings.train.batch / len(rows)

    def weight_decays(self, plans: Mapping[str, Mapping[str, list]]) -> list[float]:
        """The weight decays that are tried, the usual one first."""
        usual, asked = self.settings.train.weight_decay, self.settings.compare.weight_decays
        if asked is None:
            asked = [usual] + [REPEATED_DECAY] * (self.epochs(plans) > MANY_EPOCHS)
        return sorted({*asked}, key=lambda decay: (decay != usual, decay))

    @property
    def described_tasks(self) -> dict[str, dict[str, Any]]:
        """{task: its metric, sizes, classes, columns and notes}."""
        told = {}
        for task, item in zip(self.tasks, self.data, strict=True):
            train, test = item.sizes
            told[task.name] = {
                "metric": "accuracy" if isinstance(task, PairTask) else task.metric,
                "train": train,
                "test": test,
                "classes": 2 if isinstance(task, PairTask) else len(task.classes),
                "columns": task.columns,
                "notes": task.notes,
            }
        return told


def open_study(settings: Settings, given: Any = None, *, report: Report = silent) -> Study:
    """Reads and checks everything a study needs: objectives, budget, corpus, tasks, backbone.

    given: what is read as the corpus in place of a name in the settings: a dataset, or texts.
    report: hears how much of the text is read and encoded.

    Raises UserError for any bad input; writes nothing but token shards in the cache.
    """
    objectives = tuple(parse_list(settings.objectives))
    require_for_text(objectives)
    budget = parse_budget(settings.compare.budget)
    settings = settings.model_copy(deep=True)
    settings.compare.ladder = ladder = sorted(set(settings.compare.ladder))
    settings.compare.lr_factors = factors = sorted(set(settings.compare.lr_factors))
    if not ladder or any(not 0 < rung <= 1 for rung in ladder) or max(ladder) != 1:
        raise UserError(f"compare.ladder: rungs must lie in (0, 1] and end at 1, got {ladder}")
    if (until := settings.compare.until) is not None and until not in ladder:
        raise UserError(
            f"compare.until: no rung {until:g}; the ladder has "
            f"{', '.join(f'{rung:g}' for rung in ladder)} (compare.ladder)"
        )
    if not factors or any(factor <= 0 for factor in factors):
        raise UserError(f"compare.lr_factors: must be positive numbers, got {factors}")
    decays = settings.compare.weight_decays
    if decays is not None and (not decays or any(decay < 0 for decay in decays)):
        raise UserError(f"compare.weight_decays: must be numbers from 0 up, got {decays}")
    if settings.compare.equal == "seconds" and budget.unit != "seconds":
        raise UserError(
            f"compare.equal: equal seconds need a budget in seconds such as 300s, got {budget}"
        )
    corpus, tasks = read_source(settings.data, given, heard=reading(report, settings.data))
    store = open_store(corpus, settings, report=report)
    settings, objectives = fitted_to(store, settings, objectives)
    backbone = build_backbone(settings, objectives[0], store.codec, settings.seed)
    study = Study(settings, objectives, corpus, tuple(tasks), store, budget, backbone)
    for protocol, text in chosen([text_data(settings, store)], settings.evaluate):
        protocol.cost(text, settings.evaluate)  # refuses settings that do not fit the text
    return study


def open_store(
    corpus: Corpus | Pictures, settings: Settings, *, report: Report = silent
) -> TokenStore:
    """The token shards of a corpus under these settings."""
    if isinstance(corpus, Pictures):
        return pictures_store(corpus, settings.data)
    if settings.model.init:
        require_named(settings.model.init, "--init", "config.json")
        model_folder(settings.model.init)  # refuses a name that cannot be had
    if settings.data.tokenizer:
        require_named(settings.data.tokenizer, "--tokenizer")
    return prepare(
        corpus,
        vocabulary=settings.data.vocabulary or VOCABULARIES[settings.model.preset],
        tokenizer=settings.data.tokenizer or settings.model.init,
        seed=settings.data.split_seed,
        validation=settings.data.validation,
        test=settings.data.test,
        heard=lambda done, total: report(Event("making tokens", done, total)),
    )


def split_rows(settings: Settings, store: TokenStore, split: str) -> Rows:
    return Rows(store.split(split), settings.model.context, store.codec)


def text_data(settings: Settings, store: TokenStore) -> TextData:
    """The held-out text of a study."""
    test, validation = (split_rows(settings, store, name) for name in ("test", "validation"))
    return TextData(test, validation, store.unigram(), store.split("train"))


def evaluation_work(
    study: Study, data: Iterable[AnyData], plan: Mapping[str, list[Any]]
) -> tuple[float, float]:
    """What evaluating a model costs, about, as a share of a run of this plan: by rows read.

    (At every rung, at the last one besides.) A pass that only reads is a third of a step.
    """
    settings = study.settings
    rows = {False: 0, True: 0}
    for protocol, item in chosen([*data, text_data(settings, study.store)], settings.evaluate):
        rows[protocol.final_only] += sum(protocol.cost(item, settings.evaluate).values())
    run = 3 * sum(plan["steps"]) * settings.train.batch
    return rows[False] / run, rows[True] / run


class _Budget(Stored):
    amount: Positive
    unit: Unit


class StoredStudy(Stored):
    """What study.yaml says besides the identity: what `plans_of` returns."""

    budget: _Budget
    smallest: Annotated[float, Field(gt=0, le=1)]
    plans: dict[str, StoredPlan]


def plans_of(
    study: Study,
    before: Mapping[str, Any] | None = None,
    origin: object = "study",
    speed: Measure | None = None,
) -> dict[str, Any]:
    """What runs follow: {"budget", "smallest", "plans": {objective: plan of the last rung}}.

    before: the same of the study so far. Its resolved budget, its smallest rung (which warmup and
        the search of learning rates depend on) and its objectives' plans are kept, so that what is
        added later is what it would have been from the start.
    origin: of `before`, for errors.
    speed: that tells how long steps take.

    Raises UserError for a rung below one step, and for a plan of another objective.
    """
    settings = study.settings
    before = before or {}
    smallest = before.get("smallest", study.rungs[0])
    plans: dict[str, dict[str, list]] = dict(before.get("plans", {}))
    budget = Budget(**before["budget"]) if "budget" in before else None
    for objective in study.objectives:
        if objective.spec not in plans:
            trainer = make_trainer(settings, objective, study.store, seed=settings.seed)
            budget = budget or _resolved(study, trainer, speed)
            full = plan_for(trainer, objective, budget, settings.compare.budget, speed)
            plans[objective.spec] = {"shares": list(full.shares), "steps": list(full.steps)}
        plan_of(plans[objective.spec], objective, f"{origin}: field 'plans[{objective.spec!r}]'")
        for rung in (smallest, *study.rungs):
            if min(rung_plan(plans[objective.spec], rung).steps) < 1:
                raise UserError(
                    f"budget {settings.compare.budget}: too small; its rung {rung:g} leaves no "
                    f"step for a part of '{objective.spec}'; give more, or fewer rungs "
                    "(compare.ladder)"
                )
    return {"budget": vars(budget), "smallest": smallest, "plans": plans}


def _resolved(study: Study, trainer: Trainer, speed: Measure | None) -> Budget:
    """The budget of every run in the unit that is equal, resolved on a trainer's model."""
    equal = study.equal
    if equal == "flops":
        return equal_flops(trainer, study.budget, speed)
    if equal == "tokens" and study.budget.unit != "tokens":
        flops = equal_flops(trainer, study.budget, speed).amount
        steps = flops / step_cost(trainer, AR(), "flops")
        return Budget(steps * step_cost(trainer, AR(), "tokens"), "tokens")
    return study.budget


def rung_plan(full: Mapping[str, Any], rung: float) -> Plan:
    """The plan of a rung: its share of the steps of the last one."""
    return Plan(tuple(full["shares"]), tuple(round(rung * count) for count in full["steps"]))
