"""`lookaround compare`: from a corpus to a recommendation.

    lookaround compare corpus.txt --task labels.tsv --objectives "ar, mlm, dar, vmlm" --seeds 3 --budget 20M

One job per objective and seed trains a ladder of budgets: a stable trunk off which every rung branches by a decay of its own
(objectives that change with the budget train each rung from the start). Jobs run on any concurrent.futures executor and
keep all state in their folder, so that an interrupted study goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import math
import multiprocessing
import os
import platform
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lookaround import __version__
from lookaround.data.corpus import Corpus, read_corpus
from lookaround.data.shards import Rows, TokenStore, prepare
from lookaround.data.stdlib import stdlib_corpus, stdlib_task
from lookaround.data.tasks import Task, read_tasks
from lookaround.data.tokenizer import require_named
from lookaround.errors import Diverged, Interrupted, UserError
from lookaround.evaluate.perplexity import ScoredTokens, bits_per_byte, unigram_bits
from lookaround.evaluate.statistics import (
    Interval,
    bootstrap_interval,
    resampled_bits_per_byte,
    resampled_scores,
    seed_interval,
)
from lookaround.evaluate.suite import ProbeData, baselines, evaluate_model, probe_data, scored_tokens
from lookaround.model.backbone import Backbone
from lookaround.model.export import load
from lookaround.objectives import parse, parse_list
from lookaround.objectives.view import Mode, Objective
from lookaround.settings import Settings
from lookaround.train import checkpoint
from lookaround.train.budget import Budget, Plan, expected_cost, parse_budget
from lookaround.train.loop import Progress, StopSignal, Trainer, exporter, stop_on_signals
from lookaround.train.run import (
    RUN_FILE,
    build_backbone,
    equal_flops,
    learning_rate_of,
    make_trainer,
    plan_for,
    require_folder,
    require_same,
    run_info,
    schedule_for,
    seconds_per_step,
    vocabulary_of,
    write_run,
)

__all__ = ["Estimate", "Study", "compare", "open_study"]

RESULTS_VERSION = 1
STUDY_FILE = "study.yaml"
VALIDATION_ROWS = 256


# ------------------------------------------------------------------------------------------------ the study


@dataclass(frozen=True)
class Study:
    """Everything that a study is made of before anything is spent."""

    settings: Settings
    objectives: tuple[Objective, ...]
    corpus: Corpus
    tasks: tuple[Task, ...]
    store: TokenStore
    budget: Budget
    backbone: Backbone

    @property
    def rungs(self) -> list[float]:
        return sorted(self.settings.compare.ladder)

    @property
    def jobs(self) -> int:
        import torch

        most = len(self.objectives) * max(self.settings.compare.seeds, len(self.settings.compare.lr_factors))
        cores = 1 if torch.cuda.is_available() else (os.cpu_count() or 1)
        return min(self.settings.compare.jobs or cores, most)

    @property
    def threads(self) -> int:
        """Threads of each job: its share of the cores."""
        return max(1, (os.cpu_count() or 1) // self.jobs)


@dataclass(frozen=True)
class Estimate:
    """What a study will cost. flops: of all runs together; memory_bytes: of one process; seconds: on this machine."""

    parameters: int
    flops_per_run: dict[str, float]
    steps_per_run: dict[str, int]
    flops: float
    memory_bytes: float
    seconds: float


def open_study(settings: Settings) -> Study:
    """Reads and checks everything a study needs: objectives, budget, corpus, tasks, token shards, the backbone.

    Raises UserError for any bad input; writes nothing but token shards in the cache.
    """
    objectives = tuple(parse_list(settings.compare.objectives))
    budget = parse_budget(settings.compare.budget)
    settings = settings.model_copy(deep=True)
    settings.compare.ladder = ladder = sorted(set(settings.compare.ladder))
    settings.compare.lr_factors = factors = sorted(set(settings.compare.lr_factors))
    if not ladder or any(not 0 < rung <= 1 for rung in ladder) or max(ladder) != 1:
        raise UserError(f"compare.ladder: rungs must lie in (0, 1] and end at 1, got {ladder}")
    if not factors or any(factor <= 0 for factor in factors):
        raise UserError(f"compare.lr_factors: must be positive numbers, got {factors}")
    if settings.compare.equal == "seconds" and budget.unit != "seconds":
        raise UserError(f"compare.equal: equal seconds need a budget in seconds such as 300s, got {budget}")
    metrics: dict[str, str] = {**settings.evaluate.metrics}
    if metrics and not settings.compare.tasks and settings.data.corpus is not None:
        raise UserError(f"evaluate.metrics: no task is called '{next(iter(metrics))}', since none is given")
    if settings.data.corpus is None:
        corpus = stdlib_corpus()
        tasks = (
            read_tasks(settings.compare.tasks, metrics=metrics) if settings.compare.tasks else [stdlib_task()]
        )
    else:
        corpus = read_corpus(settings.data.corpus, text_column=settings.data.text_column)
        tasks = read_tasks(settings.compare.tasks, metrics=metrics) if settings.compare.tasks else []
    store = open_store(corpus, settings)
    backbone = build_backbone(settings, objectives[0], store.tokenizer, settings.seed)
    study = Study(settings, objectives, corpus, tuple(tasks), store, budget, backbone)
    scored_tokens(
        _rows(study.settings, store, "test"), settings.evaluate
    )  # refuses prefix lengths that are too long
    return study


def open_store(corpus: Corpus, settings: Settings) -> TokenStore:
    """The token shards of a corpus under these settings."""
    if settings.model.init:
        require_named(settings.model.init, "--init", "config.json")
    if settings.data.tokenizer:
        require_named(settings.data.tokenizer, "--tokenizer", "tokenizer.json")
    return prepare(
        corpus,
        vocabulary=vocabulary_of(settings),
        tokenizer=settings.data.tokenizer or settings.model.init,
        seed=settings.data.split_seed,
        validation=settings.data.validation,
        test=settings.data.test,
    )


def _rows(settings: Settings, store: TokenStore, split: str) -> Rows:
    return Rows(store.split(split), settings.model.context, store.tokenizer)


def _plans(study: Study) -> dict[str, dict[str, dict[str, list]]]:
    """{objective: {rung: plan}}: the steps of every run; raises UserError for a rung below one step."""
    settings = study.settings
    equal = settings.compare.equal or ("seconds" if study.budget.unit == "seconds" else "flops")
    plans: dict[str, dict[str, dict[str, list]]] = {}
    budget = None
    for objective in study.objectives:
        trainer = make_trainer(settings, objective, study.store, seed=settings.seed, learning_rate=1e-3)
        if equal == "flops":
            budget = budget or equal_flops(trainer, study.budget)
        elif equal == "tokens" and study.budget.unit != "tokens":
            flops = equal_flops(trainer, study.budget).amount
            per_token = expected_cost(
                parse("ar"), trainer.backbone, trainer.rows, settings.train.batch, "flops"
            )
            tokens = expected_cost(
                parse("ar"), trainer.backbone, trainer.rows, settings.train.batch, "tokens"
            )
            budget = budget or Budget(flops / per_token * tokens, "tokens")
        full = plan_for(trainer, objective, budget or study.budget, settings.compare.budget)
        rungs: dict[str, dict[str, list]] = {}
        for rung in study.rungs:
            steps = [round(rung * count) for count in full.steps]
            if min(steps) < 1:
                raise UserError(
                    f"budget {settings.compare.budget}: too small; its rung {rung:g} leaves no step for a part of "
                    f"'{objective.spec}'; give more, or fewer rungs (compare.ladder)"
                )
            rungs[f"{rung:g}"] = {"shares": list(full.shares), "steps": steps}
        plans[objective.spec] = rungs
    return plans


def estimate(study: Study) -> Estimate:
    """What the study will cost, from counted FLOPs and the time of a few steps of `ar` on this machine."""
    import torch

    settings = study.settings
    plans = _plans(study)
    flops, steps = {}, {}
    for objective in study.objectives:
        trainer = make_trainer(settings, objective, study.store, seed=settings.seed, learning_rate=1e-3)
        costs = [
            expected_cost(phase, trainer.backbone, trainer.rows, settings.train.batch, "flops")
            for _, phase in objective.phases()
        ]
        counts = plans[objective.spec]["1"]["steps"]
        flops[objective.spec] = float(np.dot(costs, counts))
        steps[objective.spec] = sum(counts)
    trainer = make_trainer(settings, parse("ar"), study.store, seed=settings.seed, learning_rate=1e-3)
    per_step = expected_cost(parse("ar"), trainer.backbone, trainer.rows, settings.train.batch, "flops")
    before = torch.get_num_threads()
    torch.set_num_threads(study.threads)
    rate = study.jobs * per_step / seconds_per_step(trainer, parse("ar"))
    torch.set_num_threads(before)
    search = (len(settings.compare.lr_factors) - 1) * study.rungs[0]
    total = 0.0
    for objective in study.objectives:
        if objective.stationary:
            ladder = (1 - settings.train.decay) + settings.train.decay * sum(study.rungs)
        else:
            ladder = sum(study.rungs)
        total += flops[objective.spec] * (ladder * settings.compare.seeds + search)
    parameters = sum(p.numel() for p in study.backbone.parameters())
    config = study.backbone.lm.config.get_text_config()
    rows = settings.train.micro_batch or settings.train.batch
    per_token = config.num_hidden_layers * (14 * config.hidden_size + 4 * config.intermediate_size)
    memory = 16.0 * parameters + 4.0 * rows * settings.model.context * per_token + (96 << 20)
    return Estimate(parameters, flops, steps, total, memory, total / rate)


def compare(
    study: Study,
    out: Path,
    *,
    command: str,
    executor: Executor | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Runs a study into `out` and returns its results (docs/results-format.md), also written to out/results.json.

    executor: where jobs run (default: local processes, study.jobs of them). on_event: told what is under way. Raises
    UserError where `out` belongs to another study, Interrupted after saving when asked to stop.
    """
    require_folder(out)
    fresh = not out.exists()
    identity = _identity(study)
    if not fresh and any(out.iterdir()) and not (out / STUDY_FILE).is_file():
        raise UserError(f"{out}: not empty and not a study of ours (no {STUDY_FILE}); give another --out")
    try:
        if (out / STUDY_FILE).is_file():
            saved = checkpoint.read_mapping(out / STUDY_FILE, {"identity": dict, "plans": dict})
            require_same(saved["identity"], identity, out / STUDY_FILE)
            plans = saved["plans"]
        else:
            plans = _plans(study)
            out.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump({"identity": identity, "plans": plans}, sort_keys=False, allow_unicode=True)
            checkpoint.write_text(out / STUDY_FILE, text)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from None
    except BaseException:
        if fresh:
            shutil.rmtree(out, ignore_errors=True)
        raise
    with _locked(out), stop_on_signals() as stop:
        results = _run_jobs(study, out, plans, command, executor, stop, on_event or (lambda event: None))
        checkpoint.write_text(out / "results.json", json.dumps(results, indent=1, allow_nan=False))
    return results


def _identity(study: Study) -> dict[str, Any]:
    settings = study.settings.model_dump()
    settings["compare"].pop("jobs")
    settings["compare"].pop("tasks")
    for name in ("checkpoint_every", "log_every", "micro_batch"):
        settings["train"].pop(name)
    tasks = {}
    for task in study.tasks:
        digest = hashlib.sha256(
            json.dumps([task.train_texts, task.train_labels, task.test_texts, task.test_labels]).encode()
        )
        tasks[task.name] = digest.hexdigest()[:16]
    settings["compare"]["objectives"] = ", ".join(objective.spec for objective in study.objectives)
    return json.loads(json.dumps({"corpus": study.store.fingerprint, "tasks": tasks, "settings": settings}))


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keeps a second process out of a study folder."""
    with open(out / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{out}: another process is at work on this study") from None
        yield
    (out / ".lock").unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------ jobs


@dataclass(frozen=True)
class Job:
    """One ladder (or its smallest rung, for the search of a learning rate) of one objective and seed."""

    out: Path
    settings: Settings
    objective: str
    store: TokenStore
    tasks: tuple[ProbeData, ...]
    seed: int
    factor: float
    plans: dict[str, dict[str, list]]
    trial: bool
    threads: int

    @property
    def folder(self) -> Path:
        return self.out / "runs" / slug(self.objective) / f"lr-{self.factor:g}" / f"seed-{self.seed}"


def slug(spec: str) -> str:
    """A folder name for a spec: readable, and unique by a few letters of its hash where it had to be changed."""
    plain = re.sub(r"[^a-z0-9.]+", "-", spec.lower()).strip("-")
    return plain if plain == spec else f"{plain[:60]}-{hashlib.sha256(spec.encode()).hexdigest()[:6]}"


def run_job(job: Job) -> dict[str, Any]:
    """Trains and evaluates what of a job is not done yet; returns {"validation_loss"} of a trial, else {"rungs"}."""
    import torch

    torch.set_num_threads(job.threads)
    objective = parse(job.objective)
    job.folder.mkdir(parents=True, exist_ok=True)
    status = _Status(job)
    with stop_on_signals() as stop:
        status.stop = stop
        rungs = sorted(map(float, job.plans))
        if job.trial:
            folder = job.folder / f"rung-{rungs[0]:g}"
            file = folder / "validation.json"
            try:
                _train_ladder(job, objective, rungs[:1], status, stop)
            except Diverged:
                status.done()
                return {"validation_loss": math.inf}
            if not file.is_file():
                loss = _validation_loss(load(folder), objective, job)
                checkpoint.write_text(file, json.dumps({"loss": loss}))
            status.done()
            return {"validation_loss": checkpoint.read_mapping(file, {"loss": float})["loss"]}
        _train_ladder(job, objective, rungs, status, stop)
        status.done()
        shutil.rmtree(job.folder / "trunk", ignore_errors=True)
        return {"rungs": {f"{rung:g}": _read_evaluation(job.folder / f"rung-{rung:g}") for rung in rungs}}


def _train_ladder(
    job: Job, objective: Objective, rungs: Sequence[float], status: _Status, stop: StopSignal
) -> None:
    """Trains every rung that has no folder yet and, unless this is a trial, evaluates it."""
    trainer: Trainer | None = None
    ends = {rung: sum(job.plans[f"{rung:g}"]["steps"]) for rung in map(float, job.plans)}
    for rung in rungs:
        folder = job.folder / f"rung-{rung:g}"
        if not (folder / RUN_FILE).is_file():
            trainer = _train_rung(job, objective, rung, ends, trainer, status, stop)
        if not job.trial and not (folder / "evaluation.json").is_file():
            status.show(f"evaluating rung {rung:g}", 0, 1, 0.0)
            _evaluate_rung(job, objective, folder)


def _train_rung(
    job: Job,
    objective: Objective,
    rung: float,
    ends: dict[float, int],
    trainer: Trainer | None,
    status: _Status,
    stop: StopSignal,
) -> Trainer:
    """One rung: up the trunk to where its decay starts, down the branch, export; returns the trainer, back on the trunk."""
    settings = job.settings
    plan = Plan(**{key: tuple(value) for key, value in job.plans[f"{rung:g}"].items()})
    shared = objective.stationary
    trunk = job.folder / ("trunk" if shared else f"trunk-{rung:g}")
    branch = job.folder / f"rung-{rung:g}.branch"
    schedule = schedule_for(
        settings, ends[rung], min(ends.values()), max(ends.values()) if shared else ends[rung]
    )
    if trainer is None or not shared:
        trainer = make_trainer(settings, objective, job.store, seed=job.seed, learning_rate=1.0)
        trainer.learning_rate = learning_rate_of(settings, trainer.backbone) * job.factor
        newest = checkpoint.latest_checkpoint(trunk, at_most=schedule.decay_start)
        if newest is not None:
            trainer.restore_from(newest)
    fill = exporter(trainer.backbone, objective, job.store)
    stages = ((trunk, schedule.decay_start), (branch, schedule.end))
    keep = frozenset(
        schedule_for(settings, end, min(ends.values()), max(ends.values())).decay_start
        for end in ends.values()
    )
    fork = None
    for stage, until in stages:
        if stage is branch:
            fork = trainer.snapshot()
            newest = checkpoint.latest_checkpoint(branch)
            if newest is not None:
                trainer.restore_from(newest)
        if trainer.counters.step < until:
            stage.mkdir(exist_ok=True)
            trainer.run(
                until, plan, schedule, folder=stage, fill=fill, stop=stop,
                keep=keep if stage is trunk else frozenset(),
                report=lambda p: status.train(p, rung, schedule.end),
            )  # fmt: skip
    assert fork is not None
    info = run_info(settings, objective, job.store, trainer, plan)
    info |= {
        "rung": rung,
        "spent": vars(trainer.counters),
        "curve": _curve(trunk, branch, schedule.decay_start),
    }

    def write(into: Path) -> None:
        fill(into)
        write_run(into, info)

    checkpoint.write_folder(job.folder / f"rung-{rung:g}", write)
    shutil.rmtree(branch, ignore_errors=True)
    if not shared:
        shutil.rmtree(trunk, ignore_errors=True)
    trainer.restore(*fork)
    return trainer


def _curve(trunk: Path, branch: Path, fork: int, points: int = 120) -> list[dict[str, float]]:
    """The training loss of a rung, at most `points` of it: the trunk up to the fork, then the branch."""
    entries = []
    for folder in (trunk, branch):
        file = folder / "metrics.jsonl"
        for line in file.read_text().splitlines() if file.is_file() else ():
            entry = json.loads(line)
            if folder is branch or entry["step"] <= fork:
                entries.append({key: entry[key] for key in ("step", "tokens", "flops", "seconds", "loss")})
    stride = max(1, math.ceil(len(entries) / points))
    return entries[stride - 1 :: stride]


def _validation_loss(backbone: Backbone, objective: Objective, job: Job) -> float:
    """The objective's own loss on validation rows, in nats per target; what a learning rate is chosen by."""
    import torch

    rows = _rows(job.settings, job.store, "validation")
    final = objective.at(1.0)
    backbone.eval()
    sums: dict[int, list[float]] = {}
    with torch.no_grad():
        for begin in range(0, min(len(rows), VALIDATION_ROWS), 32):
            batch = rows.take(np.arange(begin, min(begin + 32, len(rows), VALIDATION_ROWS)))
            views = final.view(batch, 0, 0)
            _, totals = backbone(views, tuple(1.0 for _ in views))
            for view, total in zip(views, totals, strict=True):
                entry = sums.setdefault(view.component, [0.0, 0.0, view.coefficient])
                entry[0] += float(total)
                entry[1] += view.normaliser
    return sum(
        coefficient * total / normaliser for total, normaliser, coefficient in sums.values() if normaliser
    )


def _evaluate_rung(job: Job, objective: Objective, folder: Path) -> None:
    rows = _rows(job.settings, job.store, "test")
    result = evaluate_model(
        load(folder), job.store.tokenizer, objective.modes(),
        context=job.settings.model.context, tasks=job.tasks, rows=rows,
        scored=scored_tokens(rows, job.settings.evaluate), settings=job.settings.evaluate, seed=job.seed,
        validation=_rows(job.settings, job.store, "validation"),
    )  # fmt: skip
    checkpoint.write_text(folder / "evaluation.json", json.dumps(result))


def _read_evaluation(folder: Path) -> dict[str, Any]:
    run = checkpoint.read_mapping(folder / RUN_FILE, {"spent": dict, "curve": list, "learning_rate": float})
    fields = {"bits": list, "bits_per_byte": float, "bits_per_byte_by_prefix": dict, "classification": dict}
    return {
        "evaluation": checkpoint.read_mapping(folder / "evaluation.json", fields),
        "spent": run["spent"],
        "curve": run["curve"],
        "learning_rate": run["learning_rate"],
        "folder": str(folder),
    }


class _Status:
    """status.json of a running job, and its ear for a request to stop (a file, so that any executor serves)."""

    def __init__(self, job: Job) -> None:
        self.path, self.stop_file = job.folder / "status.json", job.out / ".stop"
        self.stop: StopSignal | None = None
        self.label = f"{job.objective}, seed {job.seed}" + (
            f", learning rate x{job.factor:g}" if job.trial else ""
        )
        self.last = 0.0

    def train(self, progress: Progress, rung: float, end: int) -> None:
        now = time.monotonic()
        if now - self.last > 0.5:
            self.last = now
            self.show(f"training rung {rung:g}", progress.step, end, progress.tokens_per_second)
            if self.stop is not None and self.stop_file.exists():
                self.stop.set = True

    def show(self, phase: str, step: int, total: int, rate: float) -> None:
        entry = {"job": self.label, "phase": phase, "step": step, "total": total, "tokens_per_second": rate}
        with contextlib.suppress(OSError):  # a progress line is not worth a run
            temporary = self.path.with_name("status.tmp")
            temporary.write_text(json.dumps(entry))
            os.replace(temporary, self.path)

    def done(self) -> None:
        self.path.unlink(missing_ok=True)


def _run_jobs(
    study: Study,
    out: Path,
    plans: dict[str, dict[str, dict[str, list]]],
    command: str,
    executor: Executor | None,
    stop: StopSignal,
    on_event: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    settings = study.settings
    stop_file = out / ".stop"
    stop_file.unlink(missing_ok=True)
    data = tuple(probe_data(task, settings.evaluate) for task in study.tasks)
    threads = study.threads
    factors = settings.compare.lr_factors
    seeds = [settings.seed + i for i in range(settings.compare.seeds)]

    def job(objective: str, seed: int, factor: float, trial: bool) -> Job:
        return Job(
            out, settings, objective, study.store, data, seed, factor, plans[objective], trial, threads
        )

    specs = [objective.spec for objective in study.objectives]
    losses: dict[str, dict[float, float]] = {spec: {} for spec in specs}
    ladders: dict[tuple[str, int], dict[str, Any]] = {}
    own = executor is None
    pool = executor or _local_pool(study.jobs, threads)
    pending: dict[Future, tuple[str, Any]] = {}
    done, total = (
        0,
        len(specs) * (len(seeds) + (len(factors) if len(factors) > 1 else 0)) + len(data) + bool(data),
    )
    try:
        if data:
            pending[pool.submit(_random_init, settings, study.store, data, threads)] = ("random", None)
        for item in data:
            pending[pool.submit(baselines, item)] = ("baseline", item.name)
        for spec in specs:
            if len(factors) > 1:
                for factor in factors:
                    pending[pool.submit(run_job, job(spec, seeds[0], factor, True))] = (
                        "trial",
                        (spec, factor),
                    )
            else:
                losses[spec] = {factors[0]: float("nan")}
                for seed in seeds:
                    pending[pool.submit(run_job, job(spec, seed, factors[0], False))] = (
                        "ladder",
                        (spec, seed),
                    )
        table: dict[str, dict[str, float]] = {item.name: {} for item in data}
        while pending:
            finished, _ = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            if stop.set and not stop_file.exists():
                stop_file.touch()
                for future in list(pending):
                    if future.cancel():
                        del pending[future]
            for future in finished:
                if future not in pending:
                    continue
                kind, key = pending.pop(future)
                done += 1
                try:
                    value = future.result()
                except (BrokenExecutor, MemoryError):
                    raise UserError(
                        f"{out}: a process of the study died, most likely out of memory; the same command goes on from "
                        f"there, with --jobs 1 or a smaller train.micro_batch if it dies again"
                    ) from None
                if kind == "baseline":
                    table[key] |= value
                elif kind == "random":
                    for name, result in value.items():
                        table[name]["random_init"] = result
                elif kind == "ladder":
                    ladders[key] = value["rungs"]
                    on_event({"finished": f"{key[0]}, seed {key[1]}"})
                else:
                    spec, factor = key
                    losses[spec][factor] = value["validation_loss"]
                    if len(losses[spec]) == len(factors):
                        best = min(losses[spec], key=lambda f: losses[spec][f])
                        if not math.isfinite(losses[spec][best]):
                            raise UserError(
                                f"'{spec}': the loss is not finite at any of the learning rates tried; use smaller "
                                f"compare.lr_factors, now {factors}, or train.learning_rate, in another --out"
                            )
                        on_event(
                            {
                                "finished": f"{spec}: learning rate x{best:g} of x{', x'.join(f'{f:g}' for f in factors)}"
                            }
                        )
                        for seed in seeds:
                            pending[pool.submit(run_job, job(spec, seed, best, False))] = (
                                "ladder",
                                (spec, seed),
                            )
            on_event({"done": done, "total": total, "running": _running(out)})
    except Interrupted as error:
        raise Interrupted(f"{out}: {error}") from None
    finally:
        if stop.set or sys.exc_info()[0] is not None:
            stop_file.touch()
            for future in pending:
                future.cancel()
        if own:
            pool.shutdown(wait=True)
        stop_file.unlink(missing_ok=True)
    if stop.set and len(ladders) < len(specs) * len(seeds):
        raise Interrupted(f"{out}: stopped; the same command goes on from there")
    for spec, chosen in losses.items():  # the rates that lost have had their say
        best = min(chosen, key=lambda f: chosen[f]) if len(chosen) > 1 else factors[0]
        for factor in chosen:
            if factor != best:
                shutil.rmtree(job(spec, seeds[0], factor, True).folder / "trunk", ignore_errors=True)
    return _results(study, out, command, ladders, losses, table, data)


def _running(out: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(out.glob("runs/*/*/*/status.json")):
        with contextlib.suppress(OSError, ValueError):
            found.append(json.loads(path.read_text()))
    return found


def _local_pool(jobs: int, threads: int) -> ProcessPoolExecutor:
    """Local processes, each held to its share of the cores, which end with their parent whatever ends it."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with, initargs=(os.getpid(),))


def _end_with(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _random_init(
    settings: Settings, store: TokenStore, tasks: tuple[ProbeData, ...], threads: int
) -> dict[str, float]:
    """Probe scores of the backbone before any training, by task."""
    import torch

    torch.set_num_threads(threads)
    backbone = build_backbone(settings, parse("ar"), store.tokenizer, settings.seed)
    result = evaluate_model(
        backbone, store.tokenizer, (Mode("bidirectional", 1),),
        context=settings.model.context, tasks=tasks, rows=None, scored=None, settings=settings.evaluate, seed=settings.seed,
    )  # fmt: skip
    return {name: entry["score"] for name, entry in result["classification"].items()}


# ------------------------------------------------------------------------------------------------ results


def _results(
    study: Study,
    out: Path,
    command: str,
    ladders: dict[tuple[str, int], dict[str, Any]],
    losses: dict[str, dict[float, float]],
    table: dict[str, dict[str, float]],
    data: tuple[ProbeData, ...],
) -> dict[str, Any]:
    settings = study.settings
    rows = _rows(settings, study.store, "test")
    scored = scored_tokens(rows, settings.evaluate)
    special = study.store.tokenizer.vocabulary.special
    unigram, unigram_by_prefix = bits_per_byte(unigram_bits(study.store.unigram(), scored, special), scored)
    runs = []
    for (spec, seed), rungs in sorted(ladders.items(), key=lambda item: _order(study, item[0])):
        for rung, entry in rungs.items():
            runs.append(_run_entry(spec, seed, float(rung), entry, out))
    summary, differences = _summaries(study, ladders, scored, data)
    recommendation, reasons = _recommend(study, summary, differences, table, unigram)
    index = study.store.index
    corpus = {
        "name": study.corpus.name,
        **study.corpus.description,
        "tokens": {name: part["tokens"] for name, part in index["splits"].items()},
        "splits": {name: part["documents"] for name, part in index["splits"].items()},
        "fingerprint": study.corpus.fingerprint,
        "vocabulary": index["vocabulary"],
    }
    tasks = {
        task.name: {
            "metric": task.metric,
            "train": len(item.train_texts),
            "test": len(item.test_texts),
            "classes": len(task.classes),
            "notes": task.notes,
        }
        for task, item in zip(study.tasks, data, strict=True)
    }
    results = {
        "version": RESULTS_VERSION,
        "command": command,
        "settings": settings.model_dump(),
        "corpus": corpus,
        "machine": machine(study),
        "versions": versions(),
        "unigram_bits_per_byte": unigram,
        "unigram_bits_per_byte_by_prefix": unigram_by_prefix,
        "scored_tokens": {
            str(n): int((scored.stratum == i).sum()) for i, n in enumerate(scored.prefix_lengths)
        },
        "baselines": table,
        "tasks": tasks,
        "learning_rates": {
            spec: {f"x{factor:g}": loss for factor, loss in sorted(entry.items())}
            for spec, entry in losses.items()
        },
        "runs": runs,
        "summary": summary,
        "differences": differences,
        "recommendation": recommendation,
        "reasons": reasons,
        "notes": _notes(study, ladders, tasks),
    }
    return _plain(results)


def _plain(value: Any) -> Any:
    """The same data with numbers that JSON knows: NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _order(study: Study, key: tuple[str, int]) -> tuple[int, int]:
    return [objective.spec for objective in study.objectives].index(key[0]), key[1]


def _run_entry(spec: str, seed: int, rung: float, entry: dict[str, Any], out: Path) -> dict[str, Any]:
    evaluation, spent = entry["evaluation"], entry["spent"]
    return {
        "objective": spec,
        "seed": seed,
        "rung": rung,
        "mode": f"classification: {evaluation['classification_mode']}; generation: {evaluation['generation_mode']}",
        "budget": {name: spent[name] for name in ("tokens", "targets", "flops", "seconds")},
        "learning_rate": entry["learning_rate"],
        "classification": {name: item["score"] for name, item in evaluation["classification"].items()},
        "layers": {name: item["layer"] for name, item in evaluation["classification"].items()},
        "bits_per_byte": evaluation["bits_per_byte"],
        "bits_per_byte_by_prefix": evaluation["bits_per_byte_by_prefix"],
        "checkpoint": os.path.relpath(entry["folder"], out),
        "curve": [
            {key: point[key] for key in ("flops", "tokens", "seconds", "loss")} for point in entry["curve"]
        ],
        "samples": evaluation.get("samples", []),
    }


Statistic = tuple[float, np.ndarray]  # a value and its resamples (R,)


def _statistics(
    evaluation: dict[str, Any], scored: ScoredTokens, data: tuple[ProbeData, ...], resamples: int
) -> dict[str, Statistic]:
    """{metric: (value, resampled values)} of one run; equal resampling seeds make differences paired."""
    bits = np.array(evaluation["bits"])
    found: dict[str, Statistic] = {
        "bits_per_byte": (evaluation["bits_per_byte"], resampled_bits_per_byte(bits, scored, resamples))
    }
    for item in data:
        entry = evaluation["classification"][item.name]
        predicted = np.array(entry["predicted"])
        found[f"classification/{item.name}"] = (
            entry["score"], resampled_scores(item.metric, item.test_labels, predicted, resamples),
        )  # fmt: skip
    if data:
        parts = [found[f"classification/{item.name}"] for item in data]
        found["classification"] = (
            float(np.mean([p[0] for p in parts])),
            np.mean([p[1] for p in parts], axis=0),
        )
    return found


def _summaries(
    study: Study,
    ladders: dict[tuple[str, int], dict[str, Any]],
    scored: ScoredTokens,
    data: tuple[ProbeData, ...],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(summary, differences) of results.json: intervals over seeds, or over test items where there is one seed."""
    specs = [objective.spec for objective in study.objectives]
    seeds = sorted({seed for _, seed in ladders})
    resamples = study.settings.evaluate.bootstrap if len(seeds) == 1 else 1
    summary, differences = [], []

    def interval(values: list[Statistic]) -> Interval:
        if len(values) > 1:
            return seed_interval([value for value, _ in values])
        return bootstrap_interval(*values[0])

    for rung in study.rungs:
        found = {
            (spec, seed): _statistics(ladders[spec, seed][f"{rung:g}"]["evaluation"], scored, data, resamples)
            for spec, seed in itertools.product(specs, seeds)
        }
        metrics = list(next(iter(found.values())))
        for metric, spec in itertools.product(metrics, specs):
            summary.append(
                {
                    "objective": spec,
                    "rung": rung,
                    "metric": metric,
                    **vars(interval([found[spec, s][metric] for s in seeds])),
                }
            )
        for metric, (reference, spec) in itertools.product(metrics, itertools.combinations(specs, 2)):
            paired = [
                (
                    found[spec, s][metric][0] - found[reference, s][metric][0],
                    found[spec, s][metric][1] - found[reference, s][metric][1],
                )
                for s in seeds
            ]
            differences.append(
                {
                    "objective": spec,
                    "reference": reference,
                    "rung": rung,
                    "metric": metric,
                    **vars(interval(paired)),
                }
            )
    return summary, differences


def _leaders(
    specs: list[str], metric: str, higher: bool, summary: list[dict], differences: list[dict]
) -> tuple[str, list[str]]:
    """(best objective, those whose paired difference from it does not exclude 0) at the last rung."""
    means = {e["objective"]: e["mean"] for e in summary if e["metric"] == metric and e["rung"] == 1}
    best = (max if higher else min)(specs, key=lambda spec: means[spec])
    close = []
    for entry in differences:
        if (
            entry["metric"] == metric
            and entry["rung"] == 1
            and best in (entry["objective"], entry["reference"])
        ):
            other = entry["reference"] if entry["objective"] == best else entry["objective"]
            excludes_zero = entry["low"] > 0 or entry["high"] < 0
            if not excludes_zero:
                close.append(other)
    return best, close


def _recommend(
    study: Study,
    summary: list[dict],
    differences: list[dict],
    table: dict[str, dict[str, float]],
    unigram: float,
) -> tuple[dict[str, str], dict[str, str]]:
    """An objective per need, or "inconclusive at this budget: ...", and the sentence that says why."""
    specs = [objective.spec for objective in study.objectives]
    one_seed = study.settings.compare.seeds == 1
    caveat = (
        " One seed: the intervals cover the choice of test items, not of the training run."
        if one_seed
        else ""
    )
    recommendation: dict[str, str] = {}
    reasons: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    means = {(e["metric"], e["objective"]): e for e in summary if e["rung"] == 1}
    for need, metric, higher in (
        ("classification", "classification", True),
        ("generation", "bits_per_byte", False),
    ):
        if need == "classification" and not study.tasks:
            recommendation[need] = "not measured: no task was given"
            reasons[need] = "Give labelled data with --task to compare objectives for classification."
            continue
        best, close = _leaders(specs, metric, higher, summary, differences)
        entry = means[metric, best]
        unit = "mean score" if higher else "bits per byte"
        figure = f"{entry['mean']:.3f} {unit} (95% interval {entry['low']:.3f} to {entry['high']:.3f})"
        groups[need] = [best, *close]
        if len(specs) == 1:
            recommendation[need] = best
            reasons[need] = f"The only objective of the study: {figure}.{caveat}"
        elif close:
            recommendation[need] = f"inconclusive at this budget: {', '.join([best, *close])}"
            reasons[need] = (
                f"{best} leads with {figure}, but its paired difference from {', '.join(close)} does not exclude 0.{caveat}"
            )
        else:
            recommendation[need] = best
            reasons[need] = f"{best}: {figure}; its paired differences from all others exclude 0.{caveat}"
        floor = np.mean([line["tfidf"] for line in table.values()]) if higher else unigram
        if (entry["mean"] < floor) if higher else (entry["mean"] > floor):
            what = (
                f"TF-IDF with logistic regression ({floor:.3f})"
                if higher
                else f"the unigram model ({floor:.3f})"
            )
            reasons[need] += f" All objectives stand below {what} at this budget."
    if len(groups) < 2:
        recommendation["both"] = recommendation["classification"]
        reasons["both"] = reasons["classification"]
        return recommendation, reasons
    shared = [spec for spec in groups["classification"] if spec in groups["generation"]]
    if len(shared) == 1:
        recommendation["both"] = shared[0]
        reasons["both"] = f"{shared[0]} leads, or is not told apart from the leader, in both.{caveat}"
    elif shared:
        recommendation["both"] = f"inconclusive at this budget: {', '.join(shared)}"
        reasons["both"] = f"{', '.join(shared)} lead, or are not told apart from the leader, in both.{caveat}"
    else:
        first, second = groups["classification"][0], groups["generation"][0]
        recommendation["both"] = f"none: {first} for classification, {second} for generation"
        reasons["both"] = f"No objective is among the leaders of both.{caveat}"
    return recommendation, reasons


def _notes(study: Study, ladders: dict[tuple[str, int], dict[str, Any]], tasks: dict[str, Any]) -> list[str]:
    notes = []
    if study.settings.compare.seeds == 1:
        notes.append(
            "One seed: differences between training runs are not covered by the intervals; --seeds 3 covers them."
        )
    for name, task in tasks.items():
        notes += [f"{name}: {note}" for note in task["notes"]]
    some = next(iter(ladders.values()))["1"]["evaluation"]["classification"]
    for name, entry in some.items():
        if entry["cut"]:
            notes.append(
                f"{name}: {entry['cut']} texts were cut to the training length of {study.settings.model.context} tokens"
            )
    moving = [objective.spec for objective in study.objectives if not objective.stationary]
    if moving:
        notes.append(
            f"Trained from the start for every rung, since they change with the budget: {', '.join(moving)}"
        )
    return notes


def machine(study: Study) -> dict[str, Any]:
    """What the study ran on."""
    import torch

    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()}",
        "threads": study.threads,
        "jobs": study.jobs,
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    from importlib.metadata import version

    names = ("torch", "transformers", "tokenizers", "datasets", "numpy", "scipy", "scikit-learn")
    return {
        "lookaround": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }
