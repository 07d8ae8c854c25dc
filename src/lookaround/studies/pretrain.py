"""`lookaround pretrain`: one training run on disk.

A run folder is a Hugging Face folder at the end; before that it holds checkpoints, which are
Hugging Face folders too. `run.yaml` says what the run is: the same command resumes it, a finished
one does nothing, other settings are refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lookaround.data.corpus import Corpus
from lookaround.data.pictures import Pictures
from lookaround.data.shards import TokenStore
from lookaround.data.source import corpus_of, fitted_to
from lookaround.model.export import require_form
from lookaround.model.fingerprint import model_fingerprint
from lookaround.model.foreign import say_once
from lookaround.model.readable import RUN_FILE, StoredRun, read_run
from lookaround.objectives import parse, require_for_text
from lookaround.objectives.objective import Objective
from lookaround.report.schema import PretrainResults
from lookaround.settings import Settings
from lookaround.studies.compare.estimate import Estimate, estimate
from lookaround.studies.compare.study import open_store, open_study
from lookaround.studies.events import Event, Report, reading, report_step, silent
from lookaround.studies.folder import KINDS, StudyFolder
from lookaround.support.errors import Interrupted, UserError
from lookaround.support.machine import memory_errors
from lookaround.support.storage import disk_errors
from lookaround.train import checkpoint
from lookaround.train.budget import Budget, parse_budget
from lookaround.train.loop import Progress, StopSignal, Trainer, exporter, stop_on_signals
from lookaround.train.parallel import World, world
from lookaround.train.run import make_trainer, plan_for, plan_of, run_card, run_info, schedule_for
from lookaround.train.speed import off_budget
from lookaround.train.track import Trackers, require_trackers


@dataclass(frozen=True)
class Request:
    """Everything that a run is made of before anything is spent."""

    settings: Settings
    objective: Objective
    budget: Budget
    corpus: Corpus | Pictures


def open_pretraining(settings: Settings, given: Any = None, *, report: Report = silent) -> Request:
    """Reads and checks everything that a run needs; raises UserError for bad input.

    given: what is read as the corpus in place of a name in the settings: a dataset, or texts.
    report: hears how much of the text is read.
    """
    objective = parse(settings.pretrain.objective)
    require_for_text([objective])
    budget = parse_budget(settings.pretrain.budget)
    require_form(settings.pretrain.form, objective.modes())
    require_trackers(settings.pretrain.track)
    heard = reading(report, settings.data)
    corpus = corpus_of(settings.data, given, heard=heard)
    return Request(settings, objective, budget, corpus)


def cost(request: Request, *, report: Report = silent) -> Estimate:
    """What the run will cost: that of a study with one rung and no search."""
    settings = request.settings.model_copy(deep=True)
    settings.objectives, settings.compare.budget = request.objective.spec, settings.pretrain.budget
    settings.compare.ladder, settings.compare.lr_factors = [1.0], [1.0]
    settings.compare.equal = "tokens" if request.budget.unit == "tokens" else None
    return estimate(open_study(settings, request.corpus, report=report), evaluation=False)


def pretrain(request: Request, out: Path, *, report: Report = silent) -> PretrainResults:
    """Trains one model into `out`, in as many processes as torchrun has started.

    Raises UserError and Interrupted as `train_into` does.
    """
    settings, objective = request.settings, request.objective
    step = partial(report_step, report, objective.spec)
    with world() as processes, stop_on_signals() as stop:
        if not processes.main:
            processes.barrier()  # one process writes the token shards, the others find them
        stop.at_once = True  # there is nothing to save yet
        store = open_store(request.corpus, settings, report=report)
        stop.at_once = False
        settings, (objective,) = fitted_to(store, settings, (objective,))
        for note in store.notes:
            report(Event(finished=note))
        if processes.main:
            processes.barrier()
        trained = train_into(
            settings,
            objective,
            request.budget,
            store,
            out,
            form=settings.pretrain.form,
            processes=processes,
            stop=stop,
            report=step,
        )
        if request.budget.unit == "seconds" and trained.spent.seconds is not None:
            why = off_budget(request.budget.amount, trained.spent.seconds)
            if why is not None and processes.main:
                report(Event(finished=f"note: {why}"))
        return trained


def train_into(
    settings: Settings,
    objective: Objective,
    budget: Budget,
    store: TokenStore,
    out: Path,
    *,
    form: str | None = None,
    processes: World | None = None,
    stop: StopSignal | None = None,
    report: Callable[[Progress], None] | None = None,
) -> PretrainResults:
    """Trains one model into `out`; returns its description; resumes, or returns if finished.

    Raises UserError where `out` belongs to another run or another process is at work in it, where
    the memory does not suffice or the loss diverges; Interrupted after saving when `stop` is set.
    """
    processes = processes or World()
    init = settings.model.init
    identity = {
        "objective": objective.spec,
        "budget": str(budget),
        "form": form,
        "corpus": store.fingerprint,
        "model": model_fingerprint(init) if init else None,
        "settings": settings.identity("seed", "data", "model", "train"),
    }
    if (out / RUN_FILE).is_file() and not {"identity", "status"} <= read_run(out).as_dict().keys():
        raise UserError(
            f"{out / RUN_FILE}: a rung of a study, not a run of its own; give another --out"
        )
    folder = StudyFolder(out, *KINDS["pretrain"], identity, StoredRun)
    with folder.opened(processes.main) as before, memory_errors("train.micro_batch"):
        if before.get("status") == "finished":
            if processes.main:
                checkpoint.remove_checkpoints(out)
            return PretrainResults.of(before | {"identity": folder.identity})
        with disk_errors(out):
            trainer = make_trainer(settings, objective, store, seed=settings.seed, world=processes)
            if before:
                plan = plan_of(before["plan"], objective, f"{folder.file}: field 'plan'")
            else:
                plan = processes.share(plan_for(trainer, objective, budget))
            length = settings.model.context
            fill = exporter(trainer.whole, objective, store, form, length=length)
            resumed = trainer.restore_latest(out)
        info = run_info(settings, objective, store, trainer, plan)
        if settings.pretrain.track:
            info["tracked"] = before.get("tracked") or uuid.uuid4().hex[:12]
        processes.barrier()  # all have seen the folder as it was
        if processes.main:
            folder.save(**info, status="running")
        processes.barrier()
        schedule = schedule_for(settings, plan.total)
        tracker = _trackers(settings, out, info, trainer) if processes.main else None
        try:
            trainer.run(
                plan.total,
                plan,
                schedule,
                folder=out,
                fill=fill,
                stop=stop,
                report=report,
                tracker=tracker,
            )
        except Interrupted:
            raise
        except Exception:
            if processes.main and not resumed and checkpoint.latest_checkpoint(out) is None:
                folder.discard()  # nothing is lost, and another run may use the name
            raise
        finally:
            if tracker:
                tracker.close()
        trainer.gather()
        info |= {"status": "finished", "spent": vars(trainer.counters)}

        def write(into: Path) -> None:
            fill(into)
            run_card(into, info, out / "metrics.jsonl")

        if processes.main:
            folder.publish(write)
            folder.save(**info)
            checkpoint.remove_checkpoints(out)
        processes.barrier()
    return PretrainResults.of(info | {"identity": folder.identity})


def _trackers(
    settings: Settings, out: Path, info: Mapping[str, Any], trainer: Trainer
) -> Trackers | None:
    """What hears of a run's metrics besides metrics.jsonl; None where nothing does."""
    if not settings.pretrain.track:
        return None
    about = {
        "objective": info["objective"],
        "seed": info["seed"],
        "learning_rate": info["learning_rate"],
        "corpus": info["data"]["corpus"] or "Python standard library",
        "parameters": trainer.backbone.parameter_count,
        **{f"train.{name}": value for name, value in info["settings"]["train"].items()},
        **{f"model.{name}": value for name, value in info["settings"]["model"].items()},
    }
    step = trainer.counters.step
    return Trackers(settings.pretrain.track, out, info["tracked"], step, about, say_once)
