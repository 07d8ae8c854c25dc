"""`lookaround forecast`: what the corpus says of objectives before any training, with its controls
beside it.

    lookaround forecast corpus.txt --task labels.tsv --objectives "ar, mlm, dar, vmlm"

One count of the corpus gives every objective its co-occurrence matrix; its spectrum gives each
token a feature, and a linear probe on the mean features of labelled texts gives each task a score.
Three controls stand in every table: a far token only, the pairs shuffled (noise), and TF-IDF. How
far the order of those scores has agreed with that of trained models is `TRACK_RECORD`, and what is
recommended follows from it. A finished part is a file: the same command goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookaround.data.rows import Rows
from lookaround.data.shards import TokenStore, prepare
from lookaround.data.source import read_source
from lookaround.data.text import require_named
from lookaround.evaluation.baselines import baseline_scores
from lookaround.evaluation.intervals import resample
from lookaround.evaluation.probe import METRICS, least_squares_probe
from lookaround.evaluation.registry import TaskData, task_data
from lookaround.objectives import parse_list, require_for_text
from lookaround.objectives.objective import Objective
from lookaround.settings import Settings
from lookaround.studies.events import Event, Report, silent
from lookaround.studies.folder import StudyFolder
from lookaround.studies.jobs import STOPPED, Jobs, Status
from lookaround.support.errors import Interrupted, UserError
from lookaround.support.machine import threads_of, usable_cores
from lookaround.support.storage import finite, make_folder, read_mapping, write_text
from lookaround.theory.bounds import alpha, alpha_by_chance
from lookaround.theory.graph import connectivity
from lookaround.theory.lags import Code, LagCounts, count_lags
from lookaround.theory.matrices import cooccurrence, far_law, kept_law, shuffled_cooccurrence
from lookaround.theory.spectrum import CooccurrenceSpectrum
from lookaround.train.loop import StopSignal, stop_on_signals

__all__ = [
    "TRACK_RECORD",
    "Forecast",
    "cost",
    "forecast",
    "forecast_job",
    "open_forecast",
    "recommend",
]

FORECAST_FILE = "forecast.yaml"
VERSION = 1
VOCABULARY = 8192  # of the BPE trained where neither a tokenizer nor a size is given
FEATURES = ("context", "target", "both")
FAR_LAG = 64  # of the control, where documents are long enough
SHUFFLED, TFIDF = "shuffled corpus", "TF-IDF + logistic regression"


@dataclass(frozen=True)
class TrackRecord:
    """How the forecast has done against trained models: whether it may recommend, and the sentence
    that says why.
    """

    earned: bool
    sentence: str


TRACK_RECORD = TrackRecord(  # benchmarks/track_record.py; RESULTS.md
    earned=False,
    sentence=(
        "over 2 corpora x 4 held-out tasks, 7 objectives and 3 seeds, Kendall's tau between the "
        "forecast's order and that of "
        "trained models is +0.37 [-0.05, +0.69]; one and the same order for every task reaches "
        "+0.61 [+0.29, +0.85]. The "
        "forecast has not earned a recommendation and gives none: read its scores as properties "
        "of the corpus."
    ),
)


@dataclass(frozen=True)
class Forecast:
    """Everything that a forecast is made of before anything is counted."""

    settings: Settings
    objectives: tuple[Objective, ...]
    corpus: str
    fingerprint: str
    data: tuple[TaskData, ...]
    store: TokenStore

    @property
    def rows(self) -> dict[int, int]:
        """{tokens: number of training rows of so many tokens}: what the law of lags depends on."""
        lengths = Rows(
            self.store.split("train"), self.settings.model.context, self.store.tokenizer
        ).length
        sizes, numbers = np.unique(lengths[lengths >= 2], return_counts=True)
        return dict(zip(sizes.tolist(), numbers.tolist(), strict=True))


def open_forecast(settings: Settings) -> Forecast:
    """Reads and checks everything a forecast needs; raises UserError for bad input; writes nothing
    but token shards.
    """
    objectives = tuple(parse_list(settings.objectives))
    require_for_text(objectives)
    corpus, tasks = read_source(settings)
    if settings.data.tokenizer:
        require_named(settings.data.tokenizer, "--tokenizer", "tokenizer.json")
    store = prepare(
        corpus,
        vocabulary=settings.data.vocabulary or VOCABULARY,
        tokenizer=settings.data.tokenizer,
        seed=settings.data.split_seed,
        validation=settings.data.validation,
        test=settings.data.test,
    )
    data = tuple(task_data(task, settings.evaluate) for task in tasks)
    return Forecast(settings, objectives, corpus.name, corpus.fingerprint, data, store)


def forecast_job(plan: Forecast, out: Path) -> dict[str, Any] | str:
    """A forecast within one process, as a job of the study in the folder above; where none can be
    made, the reason.
    """
    with ThreadPoolExecutor(1) as executor, stop_on_signals() as stop:
        status = Status(out, out.parent, "forecast", stop)
        try:
            return forecast(
                plan, out, executor=executor, stop=stop, report=lambda event: status.listen()
            )
        except UserError as error:
            return str(error)


def cost(plan: Forecast) -> dict[str, Any]:
    """What a forecast will count and decompose, as {what: how much}."""
    chosen = plan.settings.forecast
    entries, _ = _entries(plan, plan.rows)
    lags = {lags for entry in entries for lags in (entry.law or {})}
    tokens, size = plan.store.split("train").tokens, plan.store.index["vocabulary"]
    return {
        "tokens": tokens,
        "lags to count": len(lags),
        "pairs to count": len(lags) * tokens,
        "matrices": len(entries),
        "matrix": f"{size:,} x {size:,}"
        if chosen.context == 1
        else f"{chosen.context}-grams x {size:,}",
        "rank": chosen.rank,
        "probes": len(entries) * len(plan.data) * len(FEATURES),
    }


# ---------------------------------------------------------------------------------------- one entry


@dataclass(frozen=True)
class _Entry:
    """One line of the table: an objective or a control. law None = the shuffled pairs."""

    name: str
    law: dict[tuple[int, ...], float] | None


@dataclass(frozen=True)
class _Job:
    entry: _Entry
    counts_folder: Path
    tasks: tuple[TaskData, ...]  # their inputs as token ids, (tokens,) int64
    settings: Settings
    threads: int
    file: Path


def _run_entry(job: _Job) -> dict[str, Any]:
    """Spectrum, graph and probes of one entry, as plain data; also kept in the job's file."""
    torch.set_num_threads(job.threads)
    chosen, entry = job.settings.forecast, job.entry
    counts = LagCounts.load(job.counts_folder)
    if entry.law is None:
        joint = shuffled_cooccurrence(
            counts, context=chosen.context, min_count=chosen.min_count, seed=job.settings.seed
        )
    else:
        joint = cooccurrence(counts, entry.law, context=chosen.context, min_count=chosen.min_count)
    model = CooccurrenceSpectrum(
        context=chosen.context, rank=chosen.rank, seed=job.settings.seed
    ).fit(joint)
    graph = connectivity(joint.matrix, model.singular_values_, seed=job.settings.seed)
    result: dict[str, Any] = {
        "objective": entry.name,
        "tail_energy": model.tail_energy_,
        "energy": model.energy_,
        "sigma2": float(model.singular_values_[1]),
        "gap": graph.gap,
        "components": graph.components,
        "meeting": graph.meeting,
        "meeting_error": graph.meeting_error,
        "saturated": graph.saturated,
        "effective_rank": model.effective_rank_,
        "residual": model.residual_,
        "beyond": model.beyond_,
        "dropped": model.dropped_,
        "contexts": len(model.contexts_),
        "targets": len(model.targets_),
        "singular_values": model.singular_values_.tolist(),
        "tasks": {},
        "features": {name: {} for name in FEATURES},
        "alpha": {},
        "alpha_by_chance": {},
        "predicted": {},
    }
    for task in job.tasks:
        for features in FEATURES:
            probe = least_squares_probe(
                model.transform(task.train_inputs, features, chosen.weighting),
                task.train_labels,
                model.transform(task.test_inputs, features, chosen.weighting),
                task.test_labels,
                metric=task.metric,
            )
            result["features"][features][task.name] = probe.score
            if features == chosen.features:
                result["tasks"][task.name] = probe.score
                result["predicted"][task.name] = probe.predicted.tolist()
        if chosen.context == 1:
            labels = token_labels(task.train_inputs, task.train_labels, joint.rows)
            result["alpha"][task.name] = alpha(joint.matrix, labels)
            result["alpha_by_chance"][task.name] = alpha_by_chance(joint.matrix, labels)
    _keep(job.file, result)
    return result


def token_labels(texts: Sequence[np.ndarray], labels: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The class in which each of `tokens` (R,) is likeliest to occur, by its share of the class's
    texts; -1 = in none.
    """
    classes = int(labels.max()) + 1
    found = np.zeros((classes, len(tokens)))
    for text, label in zip(texts, labels, strict=True):
        ids = np.unique(text)
        at = np.minimum(np.searchsorted(tokens, ids), len(tokens) - 1)
        found[label, at[tokens[at] == ids]] += 1
    found /= np.maximum(np.bincount(labels, minlength=classes), 1)[:, None]
    return np.where(found.any(axis=0), found.argmax(axis=0), -1)


# ------------------------------------------------------------------------------------- the forecast


def forecast(
    plan: Forecast,
    out: Path | None = None,
    *,
    executor: Executor | None = None,
    stop: StopSignal | None = None,
    report: Report = silent,
) -> dict[str, Any]:
    """Counts, spectra, probes, controls and the recommendation, as plain data
    (docs/results-format.md).

    out: a folder that keeps finished entries, so that the same call goes on; it belongs to one
        corpus.
    executor: where entries are computed (default: local processes, one per core).

    Raises UserError for lags no document is longer than, ranks above the usable contexts, tasks
    whose texts hold no known token, and a folder of another corpus; Interrupted when `stop` is set:
    what is finished is kept.
    """
    stop = stop or StopSignal()
    identity = {"corpus": plan.store.fingerprint, "settings": plan.settings.identity("data")}
    with contextlib.ExitStack() as stack:
        place = out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = StudyFolder(place, FORECAST_FILE, "a forecast of ours", identity)
        stack.enter_context(folder.opened())
        return _forecast(plan, folder, executor, stop, report)


def _forecast(
    plan: Forecast, folder: StudyFolder, executor: Executor | None, stop: StopSignal, report: Report
) -> dict[str, Any]:
    settings, chosen = plan.settings, plan.settings.forecast
    began = time.monotonic()
    data = plan.data
    tasks = tuple(_task_tokens(item, plan) for item in data)
    rows = plan.rows
    if not rows:
        raise UserError(f"{plan.corpus}: no document has two tokens; there is nothing to count")
    entries, notes = _entries(plan, rows)
    lags = {lags for entry in entries for lags in (entry.law or {})} | {
        tuple(range(chosen.context, 0, -1))
    }

    def counting(done: int, total: int, tokens: int) -> None:
        rate = done * tokens / max(time.monotonic() - began, 1e-3)
        report(Event("counting", done, total, f"{rate / 1e6:.0f}M pairs/s"))
        if stop.set:
            raise Interrupted(f"{folder.path}: {STOPPED}")

    counts = count_lags(plan.store, sorted(lags), hash_bits=chosen.hash_bits, on_progress=counting)
    assert counts.folder is not None
    counted = time.monotonic() - began
    folder.save(status="running")
    kept = _Kept(plan, tasks, folder.path)
    found = {entry.name: kept.read(entry.name) for entry in entries}
    missing = [entry for entry in entries if found[entry.name] is None]
    table = {item.name: kept.read(f"baselines of {item.name}") for item in data}
    total = len(entries) + len(data)
    workers = min(usable_cores(), max(1, len(missing)))
    threads = threads_of(workers)
    remedy = "a smaller data.vocabulary or rank"
    with Jobs(
        folder.path, stop, jobs=workers, threads=threads, executor=executor, remedy=remedy
    ) as jobs:
        jobs.done = total - len(missing) - sum(value is None for value in table.values())
        for item in sorted(
            data, key=lambda item: -int(item.train_labels.max())
        ):  # the longest first
            if table[item.name] is None:
                jobs.submit(("baseline", item.name), baseline_scores, item, settings.evaluate)
        for entry in sorted(missing, key=lambda entry: -len(entry.law or {})):
            job = _Job(entry, counts.folder, tasks, settings, threads, kept.file(entry.name))
            jobs.submit(("entry", entry.name), _run_entry, job)
        for (kind, name), value in jobs.finished(report, total, "spectra and probes"):
            if kind == "entry":
                found[name] = value
            else:
                table[name] = value
                _keep(kept.file(f"baselines of {name}"), value)
    report(Event("spectra and probes", total, total))
    complete = [line for line in found.values() if line is not None]
    lines, controls = complete[: len(plan.objectives)], complete[len(plan.objectives) :]
    recommendation, reasons, close = recommend(
        lines, controls, table, data, settings.evaluate.bootstrap
    )
    for line in complete:
        line.pop("predicted")
    controls = [*controls, _tfidf_line(table)] if data else controls
    return finite(
        {
            "version": VERSION,
            "context": chosen.context,
            "rank": chosen.rank,
            "reach": chosen.reach,
            "features": chosen.features,
            "weighting": chosen.weighting,
            "min_count": chosen.min_count,
            "corpus": {
                "name": plan.corpus,
                "fingerprint": plan.fingerprint,
                "tokens": counts.tokens,
                "documents": counts.documents,
                "vocabulary": counts.vocabulary,
            },
            "metrics": {item.name: item.metric for item in data},
            "majority": {name: entry["majority"] for name, entry in table.items() if entry},
            "objectives": lines,
            "controls": controls,
            "not_distinguished": close,
            "recommendation": recommendation,
            "reasons": reasons,
            "track_record": {"earned": TRACK_RECORD.earned, "sentence": TRACK_RECORD.sentence},
            "notes": [*notes, *_notes(complete, chosen)],
            "seconds": {"counting": counted, "all": time.monotonic() - began},
            "command": shlex.join(["lookaround", *sys.argv[1:]]),
        }
    )


def _entries(plan: Forecast, rows: dict[int, int]) -> tuple[list[_Entry], list[str]]:
    """(objectives and controls with their laws, notes on objectives that are one and the same
    here).
    """
    chosen = plan.settings.forecast
    hash_bits = chosen.hash_bits if chosen.context > 1 else None
    Code(
        plan.store.index["vocabulary"], chosen.context, hash_bits
    )  # refuses n-grams that are too long
    entries: list[_Entry] = []
    notes: list[str] = []
    for objective in plan.objectives:
        law = kept_law(objective, chosen.context, rows, chosen.reach)
        if not law:
            raise UserError(
                f"'{objective.spec}': none of its targets has {chosen.context} visible tokens "
                f"within {chosen.reach}; give a "
                "smaller --context or a larger forecast.reach"
            )
        for other in entries:
            assert other.law is not None
            apart = (
                sum(abs(law.get(k, 0.0) - other.law.get(k, 0.0)) for k in {*law, *other.law}) / 2
            )
            if apart < 1e-9:
                notes.append(
                    f"{objective.spec} and {other.name} have the same matrix at context "
                    f"{chosen.context}: it can't tell them apart"
                )
        entries.append(_Entry(objective.spec, law))
    longest = int(plan.store.split("train").length.max())
    far = chosen.far_lag or min(FAR_LAG, (longest - chosen.context) // 2)
    if far < 2 or far + chosen.context > longest:
        raise UserError(
            f"{plan.corpus}: its longest document has {longest} tokens, so the control that "
            f"predicts a token {max(far, 2)} ahead "
            "can't be counted; give longer documents or a smaller forecast.far_lag"
        )
    if chosen.far_lag is None and far < FAR_LAG:
        notes.append(
            f"The far control predicts {far} tokens ahead in place of {FAR_LAG}: no document has "
            f"more than {longest} tokens."
        )
    entries.append(_Entry(f"only the token {far} ahead", far_law(far, chosen.context)))
    entries.append(_Entry(SHUFFLED, None))
    return entries, notes


def _task_tokens(data: TaskData, plan: Forecast) -> TaskData:
    """The task with its texts as token ids; raises UserError where the corpus knows none of
    them.
    """
    train, test = (
        [np.array(ids, dtype=np.int64) for ids in plan.store.tokenizer.encode(texts)]
        for texts in (data.train_inputs, data.test_inputs)
    )
    seen = plan.store.unigram() > 0
    for part, texts in (("training", train), ("test", test)):
        if not any(seen[ids].any() for ids in texts):
            raise UserError(
                f"task '{data.name}': no {part} text holds a token that the corpus holds; give a "
                "corpus in the task's language"
            )
    return replace(data, train_inputs=train, test_inputs=test)


class _Kept:
    """Finished entries of a forecast in files of its folder, by the content that they were computed
    from.
    """

    def __init__(self, plan: Forecast, tasks: tuple[TaskData, ...], folder: Path) -> None:
        identity = plan.settings.identity("seed", "forecast")
        content = [identity, plan.store.fingerprint, sorted(plan.rows.items())]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
        for task in tasks:
            digest.update(json.dumps([task.name, task.metric]).encode())
            for part in (
                *task.train_inputs,
                *task.test_inputs,
                task.train_labels,
                task.test_labels,
            ):
                digest.update(part.tobytes())
        self.identity = digest.hexdigest()[:16]
        self.folder = folder / "parts"
        make_folder(self.folder)

    def file(self, name: str) -> Path:
        key = hashlib.sha256(f"{self.identity} {name}".encode()).hexdigest()[:16]
        return self.folder / f"{key}.json"

    def read(self, name: str) -> dict[str, Any] | None:
        """What was kept under a name; None if nothing was, or it is damaged, so that it is computed
        again.
        """
        file = self.file(name)
        if not file.is_file():
            return None
        try:
            kept = read_mapping(file, {"digest": str, "value": dict})
        except UserError:
            return None
        return kept["value"] if kept["digest"] == _digest(kept["value"]) else None


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _keep(file: Path, value: dict[str, Any]) -> None:
    plain = finite(value)
    write_text(file, json.dumps({"digest": _digest(plain), "value": plain}))


def _tfidf_line(table: dict[str, Any]) -> dict[str, Any]:
    numbers = ("tail_energy", "sigma2", "components", "effective_rank")
    return {
        "objective": TFIDF,
        **dict.fromkeys(numbers),
        "tasks": {name: entry["tfidf"] for name, entry in table.items()},
    }


def _notes(lines: list[dict[str, Any]], chosen: Any) -> list[str]:
    notes = [
        f"{line['objective']}: {line['beyond']:.1%} of its targets have their context beyond "
        f"{chosen.reach} tokens "
        f"or in rarer patterns and are left out (forecast.reach)"
        for line in lines
        if line["beyond"] >= 0.005
    ]
    if all(line["saturated"] for line in lines):
        notes.append(
            "Connectivity is saturated: one component, and nearly all contexts meet in a target, "
            "whatever the objective; "
            "components and meeting contexts tell nothing apart here."
        )
    return notes


# ------------------------------------------------------------------------------------- what it says


def recommend(
    lines: list[dict[str, Any]],
    controls: list[dict[str, Any]],
    table: dict[str, Any],
    data: tuple[TaskData, ...],
    resamples: int,
) -> tuple[dict[str, str], dict[str, str], dict[str, list[str]]]:
    """({task: answer}, {task: why}, {task: objectives not told apart from the leader}).

    An answer is an objective, or a text that starts with "nothing:". Differences are paired over
    test examples.
    """
    answers: dict[str, str] = {}
    reasons: dict[str, str] = {}
    close: dict[str, list[str]] = {}
    for item in data:
        scores = {line["objective"]: line["tasks"][item.name] for line in lines}
        leader = max(scores, key=lambda name: scores[name])
        drawn = {
            line["objective"]: resample(
                METRICS[item.metric], (item.test_labels, line["predicted"][item.name]), resamples
            )
            for line in (*lines, *controls)
        }

        def unclear(other: str, leader: str = leader, drawn: dict[str, np.ndarray] = drawn) -> bool:
            low, high = np.quantile(drawn[leader] - drawn[other], [0.025, 0.975])
            return bool(low <= 0 <= high)

        close[item.name] = [name for name in scores if name != leader and unclear(name)]
        matched = [
            line["objective"]
            for line in controls
            if line["tasks"][item.name] >= scores[leader] or unclear(line["objective"])
        ]
        figure = f"{leader} leads with {scores[leader]:.3f}"
        tfidf = table[item.name]["tfidf"]
        below = (
            f" All objectives stand below TF-IDF ({tfidf:.3f})." if scores[leader] < tfidf else ""
        )
        if matched:
            named = " and ".join(f"'{name}'" for name in matched)
            answers[item.name] = f"nothing: a control does as well ({named})"
            reasons[item.name] = (
                f"{figure}; as good or better, or not told apart from it: {named}.{below}"
            )
        elif len(scores) > 1 and len(close[item.name]) == len(scores) - 1:
            answers[item.name] = "nothing: not distinguished"
            reasons[item.name] = f"{figure}, but no objective is told apart from it.{below}"
        else:
            none = "nothing: the forecast's order has not earned a recommendation"
            answers[item.name] = leader if TRACK_RECORD.earned else none
            told = (
                f"; not told apart from it: {', '.join(close[item.name])}"
                if close[item.name]
                else ""
            )
            reasons[item.name] = f"{figure}{told}.{below}"
    return answers, reasons, close
