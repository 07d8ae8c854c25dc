"""`lookaround forecast`: what the corpus says of objectives before any training.

    lookaround forecast corpus.txt --task labels.tsv --objectives "ar, mlm, dar, ar + vmlm"

One count of the corpus gives every objective its co-occurrence matrix; its spectrum gives each
token a feature, and a linear probe on the mean features of labelled texts gives each task a score.
Every table has three controls: a far token only, shuffled pairs (noise), and TF-IDF. `TRACK_RECORD`
says how well the order of the scores has agreed with that of trained models, and decides whether
anything is recommended. Finished parts are files: the same command resumes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import sys
import tempfile
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lookaround.data.corpus import Corpus
from lookaround.data.pictures import Pictures
from lookaround.data.rows import Rows
from lookaround.data.shards import TokenStore, prepare
from lookaround.data.source import fitted_to, pictures_store, read_source
from lookaround.data.text import require_named
from lookaround.evaluation.baselines import baseline_scores
from lookaround.evaluation.registry import Labelled, TaskData, TokenData, task_data
from lookaround.evaluation.windows import right_context_gain
from lookaround.objectives import parse_list, require_for_text
from lookaround.objectives.objective import Objective
from lookaround.report.schema import ForecastResults
from lookaround.report.schema.record import VERSION
from lookaround.settings import Settings
from lookaround.studies.cluster import Workers, everywhere, executor_of
from lookaround.studies.events import Event, Report, reading, silent
from lookaround.studies.folder import KINDS, StudyFolder
from lookaround.studies.forecast.entry import FEATURES, Entry, EntryJob, keep, read_kept, run_entry
from lookaround.studies.forecast.recommend import TRACK_RECORD, recommend
from lookaround.studies.jobs import Jobs, Status, stopped
from lookaround.support.errors import UserError
from lookaround.support.machine import threads_of, usable_cores
from lookaround.support.storage import make_folder
from lookaround.theory.lags import count_lags
from lookaround.theory.matrices import far_contexts, kept_contexts
from lookaround.theory.plane import count_plane, lag_of, plane_contexts
from lookaround.theory.tally import Code
from lookaround.train.loop import StopSignal, stop_on_signals

VOCABULARY = 8192  # of the BPE trained where neither a tokenizer nor a size is given
FAR_LAG = 64  # of the control, where documents are long enough
SHUFFLED = "shuffled corpus"
# {baseline beside the objectives: what it is a linear model of}: of texts, and of pictures
LINEAR = {"tfidf": "TF-IDF", "pixels": "raw pixels"}


@dataclass(frozen=True)
class Forecast:
    """Everything that a forecast is made of before anything is counted.

    notes: what the corpus is, and what was chosen to read it.
    data: tasks. Classes of texts are what probes are for, labels of words tell the right-context
        gain; of others a forecast says nothing.
    """

    settings: Settings
    objectives: tuple[Objective, ...]
    corpus: str
    fingerprint: str
    data: tuple[Labelled, ...]
    store: TokenStore
    notes: tuple[str, ...] = ()

    @property
    def grid(self) -> tuple[int, int] | None:
        """Rows and columns of the tokens of a picture; None: a text."""
        return self.store.codec.grid

    @property
    def texts(self) -> tuple[TaskData, ...]:
        return tuple(
            item for item in self.data if isinstance(item, TaskData) and not item.is_regression
        )

    @property
    def words(self) -> tuple[TokenData, ...]:
        return tuple(item for item in self.data if isinstance(item, TokenData))

    @property
    def rows(self) -> dict[int, int]:
        """{tokens: number of training rows of so many tokens}."""
        lengths = Rows(
            self.store.split("train"), self.settings.model.context, self.store.codec
        ).length
        sizes, numbers = np.unique(lengths[lengths >= 2], return_counts=True)
        return dict(zip(sizes.tolist(), numbers.tolist(), strict=True))


def open_forecast(settings: Settings, given: Any = None, *, report: Report = silent) -> Forecast:
    """Reads and checks everything a forecast needs; raises UserError; writes only token shards.

    given: what is read as the corpus in place of a name in the settings: a dataset, or texts.
    report: hears how much of the text is read and encoded.
    """
    objectives = tuple(parse_list(settings.objectives))
    require_for_text(objectives)
    heard = reading(report, settings.data)
    corpus, tasks = read_source(settings.data, given, heard=heard)
    if settings.data.tokenizer:
        require_named(settings.data.tokenizer, "--tokenizer")
    store = (
        pictures_store(corpus, settings.data)
        if isinstance(corpus, Pictures)
        else _text_store(corpus, settings, report)
    )
    data = tuple(task_data(task, settings.evaluate) for task in tasks)
    of_tasks = (f"task {task.name}: {note}" for task in tasks for note in task.notes)
    notes = (*corpus.told, *store.notes, *of_tasks)
    return Forecast(settings, objectives, corpus.name, corpus.fingerprint, data, store, notes)


def _text_store(corpus: Corpus, settings: Settings, report: Report) -> TokenStore:
    return prepare(
        corpus,
        vocabulary=settings.data.vocabulary or VOCABULARY,
        tokenizer=settings.data.tokenizer,
        seed=settings.data.split_seed,
        validation=settings.data.validation,
        test=settings.data.test,
        heard=lambda done, total: report(Event("making tokens", done, total)),
    )


def _fitted(request: Forecast) -> Forecast:
    """The forecast of pictures with objectives in the plane, and a rank that a small codebook has.

    That of a text is returned as it is. Raises UserError for contexts of several tokens.
    """
    if request.grid is None:
        return request
    settings, objectives = fitted_to(request.store, request.settings, request.objectives)
    options = settings.forecast
    if options.context > 1:
        raise UserError("forecast.context: pictures have contexts of one token; leave it out")
    if "rank" not in options.model_fields_set:
        options.rank = max(2, min(options.rank, len(request.store.unigram()) // 2 - 1))
    return replace(request, settings=settings, objectives=objectives)


def forecast_job(request: Forecast, out: Path) -> ForecastResults | str:
    """A forecast within one process, as a job of a study; the reason where none can be made."""
    with ThreadPoolExecutor(1) as executor, stop_on_signals() as stop:
        status = Status(out, out.parent, "forecast", stop)
        try:
            return forecast(
                request, out, executor=executor, stop=stop, report=lambda event: status.listen()
            )
        except UserError as error:
            return str(error)


def cost(request: Forecast) -> dict[str, Any]:
    """What a forecast will count and decompose, as {what: how much}."""
    request = _fitted(request)
    options = request.settings.forecast
    entries, _ = _entries(request, request.rows)
    lags = {lags for entry in entries for lags in (entry.shares or {})}
    tokens, size = request.store.split("train").tokens, request.store.index["vocabulary"]
    return {
        "tokens": tokens,
        "lags to count": len(lags),
        "pairs to count": len(lags) * tokens,
        "matrices": len(entries),
        "matrix": f"{size:,} x {size:,}"
        if options.context == 1
        else f"{options.context}-grams x {size:,}",
        "rank": options.rank,
        "probes": len(entries) * len(request.texts) * len(FEATURES),
    }


def right_context(data: TokenData, resamples: int) -> dict[str, Any]:
    """The right-context gain of a task of words as plain data, as a job of a study."""
    whole, hard = right_context_gain(data, resamples)
    found = {
        "metric": data.metric,
        "gain": whole.gain.mean,
        "low": whole.gain.low,
        "high": whole.gain.high,
        "window": whole.window,
        "window_left": whole.window_left,
        "words": whole.words,
        "ambiguous_words": 0,
    }
    if hard is None:
        return found
    return found | {
        "ambiguous_gain": hard.gain.mean,
        "ambiguous_low": hard.gain.low,
        "ambiguous_high": hard.gain.high,
        "ambiguous_words": hard.words,
    }


# ------------------------------------------------------------------------------------- the forecast


def forecast(
    request: Forecast,
    out: Path | None = None,
    *,
    executor: Executor | None = None,
    stop: StopSignal | None = None,
    report: Report = silent,
) -> ForecastResults:
    """Counts, spectra, probes, controls and the recommendation.

    out: a folder that keeps finished entries, so that the same call goes on; it belongs to one
        corpus.
    executor: where parts are counted and entries computed (default: forecast.cluster, or local
        processes, one per core).

    Raises UserError for lags no document is longer than, ranks above the usable contexts, tasks
    whose texts hold no known token, and a folder of another corpus; Interrupted when `stop` is set:
    what is finished is kept.
    """
    identity = {"corpus": request.store.fingerprint, "settings": request.settings.identity("data")}
    with contextlib.ExitStack() as stack:
        stop = stop or stack.enter_context(stop_on_signals())
        path = out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = request.settings.forecast.cluster
        path, settings = everywhere(path, request.settings, place)
        request = _fitted(replace(request, settings=settings))
        folder = StudyFolder(path, *KINDS["forecast"], identity)
        stack.enter_context(folder.opened())
        shared = [request.store.folder]
        where = stack.enter_context(executor_of(executor, place, path, shared, report))
        return _forecast(request, folder, where, stop, report)


def _forecast(
    request: Forecast,
    folder: StudyFolder,
    executor: Executor | None,
    stop: StopSignal,
    report: Report,
) -> ForecastResults:
    settings, options = request.settings, request.settings.forecast
    began = time.monotonic()
    data, words = request.texts, request.words
    tasks = tuple(_task_tokens(item, request) for item in data)
    rows = request.rows
    if not rows:
        raise UserError(f"{request.corpus}: no document has two tokens; there is nothing to count")
    entries, notes = _entries(request, rows)
    lags = {lags for entry in entries for lags in (entry.shares or {})} | {
        tuple(range(options.context, 0, -1))
    }

    def counting(done: int, total: int, tokens: int) -> None:
        rate = done * tokens / max(time.monotonic() - began, 1e-3)
        report(Event("counting", done, total, f"{rate / 1e6:.0f}M pairs/s"))
        if stop.set:
            raise stopped(folder.path, done, total, "counting")

    if request.grid is None:
        counts = count_lags(
            request.store,
            sorted(lags),
            hash_bits=options.hash_bits,
            executor=executor if isinstance(executor, Workers) else None,
            on_progress=counting,
        )
    else:
        counts = count_plane(request.store, sorted(lags), on_progress=counting)
    assert counts.folder is not None
    counted = time.monotonic() - began
    folder.save(status="running")
    parts, content = folder.path / "parts", _content_hash(request, tasks)
    make_folder(parts)

    def file_of(name: str) -> Path:
        key = f"{content} {name}".encode("utf-8", "surrogateescape")
        return parts / f"{hashlib.sha256(key).hexdigest()[:16]}.json"

    lines_by_name = {entry.name: read_kept(file_of(entry.name)) for entry in entries}
    missing = [entry for entry in entries if lines_by_name[entry.name] is None]
    table = {item.name: read_kept(file_of(f"baselines of {item.name}")) for item in data}
    gains = {item.name: read_kept(file_of(f"right context of {item.name}")) for item in words}
    unfinished = sum(value is None for value in (*table.values(), *gains.values()))
    total = len(entries) + len(data) + len(words)
    workers = min(usable_cores(), max(1, len(missing)))
    threads = threads_of(workers)
    remedy = "a smaller data.vocabulary or rank"
    with Jobs(
        folder.path, stop, jobs=workers, threads=threads, executor=executor, remedy=remedy
    ) as jobs:
        jobs.done = total - len(missing) - unfinished
        # the longest first
        for item in sorted(data, key=lambda item: -int(item.train_labels.max())):
            if table[item.name] is None:
                jobs.submit(("baseline", item.name), baseline_scores, item, settings.evaluate)
        for task in words:
            if gains[task.name] is None:
                resamples = settings.evaluate.bootstrap
                jobs.submit(("right context", task.name), right_context, task, resamples)
        for entry in sorted(missing, key=lambda entry: -len(entry.shares or {})):
            job = EntryJob(entry, counts.folder, tasks, settings, threads, file_of(entry.name))
            jobs.submit(("entry", entry.name), run_entry, job)
        for (kind, name), value in jobs.finished(report, total, "spectra and probes"):
            if kind == "entry":
                lines_by_name[name] = value
            elif kind == "right context":
                gains[name] = keep(file_of(f"right context of {name}"), value)
            else:
                table[name] = keep(file_of(f"baselines of {name}"), value)
    report(Event("spectra and probes", total, total))
    linear = "tfidf" if request.grid is None else "pixels"
    complete = [line for line in lines_by_name.values() if line is not None]
    lines, controls = complete[: len(request.objectives)], complete[len(request.objectives) :]
    recommendation, reasons, close = recommend(
        lines, controls, table, data, settings.evaluate.bootstrap, (linear, LINEAR[linear])
    )
    for line in complete:
        line.pop("predicted")
    if data:
        scores = {name: entry[linear] for name, entry in table.items() if entry}
        unknown = dict.fromkeys(("tail_energy", "sigma2", "components", "effective_rank"))
        controls = [
            *controls,
            {"objective": f"{LINEAR[linear]} + logistic regression", **unknown, "tasks": scores},
        ]
    return ForecastResults.of(
        {
            "version": VERSION,
            "context": options.context,
            "rank": options.rank,
            "reach": options.reach,
            "features": options.features,
            "weighting": options.weighting,
            "min_count": options.min_count,
            "corpus": {
                "name": request.corpus,
                "fingerprint": request.fingerprint,
                "tokens": counts.tokens,
                "documents": counts.documents,
                "vocabulary": counts.vocabulary,
            },
            "metrics": {item.name: item.metric for item in data},
            "majority": {name: entry["majority"] for name, entry in table.items() if entry},
            "right_context": gains,
            "objectives": lines,
            "controls": controls,
            "not_distinguished": close,
            "recommendation": recommendation,
            "reasons": reasons,
            "track_record": {"earned": TRACK_RECORD.earned, "sentence": TRACK_RECORD.sentence},
            "notes": [
                *notes,
                *_notes(complete, options, request.grid is None),
                *_left_out(request),
            ],
            "seconds": {"counting": counted, "all": time.monotonic() - began},
            "command": shlex.join(["lookaround", *sys.argv[1:]]),
        }
    )


def _entries(request: Forecast, rows: dict[int, int]) -> tuple[list[Entry], list[str]]:
    """(objectives and controls with their contexts, notes on objectives with equal matrices)."""
    options = request.settings.forecast
    hash_bits = options.hash_bits if options.context > 1 else None
    # refuses n-grams that are too long
    Code(request.store.index["vocabulary"], options.context, hash_bits)
    entries: list[Entry] = []
    notes: list[str] = []
    for objective in request.objectives:
        shares = (
            kept_contexts(objective, options.context, rows, options.reach)
            if request.grid is None
            else plane_contexts(objective, request.grid, options.reach)
        )
        if not shares:
            raise UserError(
                f"'{objective.spec}': none of its targets has {options.context} visible tokens "
                f"within {options.reach}; give a smaller --context or a larger forecast.reach"
            )
        for other in entries:
            assert other.shares is not None
            apart = (
                sum(
                    abs(shares.get(k, 0.0) - other.shares.get(k, 0.0))
                    for k in {*shares, *other.shares}
                )
                / 2
            )
            if apart < 1e-9:
                notes.append(
                    f"{objective.spec} and {other.name} have the same matrix at context "
                    f"{options.context}: it can't tell them apart"
                )
        entries.append(Entry(objective.spec, shares))
    if request.grid is not None:
        down, across = (side // 2 for side in request.grid)
        name = f"only the token {down} rows down, {across} columns on"
        entries.append(Entry(name, {(lag_of((down, across), request.grid),): 1.0}))
        entries.append(Entry(SHUFFLED, None))
        notes.append(
            "Contexts are the nearest visible tokens in the plane, and lags are offsets of rows "
            "and columns; targets that see BOS alone are left out."
        )
        notes.append("The track record was measured on text; of pictures there is none.")
        return entries, notes
    longest = int(request.store.split("train").length.max())
    far = options.far_lag or min(FAR_LAG, (longest - options.context) // 2)
    if far < 2 or far + options.context > longest:
        raise UserError(
            f"{request.corpus}: its longest document has {longest} tokens, so the control that "
            f"predicts a token {max(far, 2)} ahead can't be counted; give longer documents or a "
            "smaller forecast.far_lag"
        )
    if options.far_lag is None and far < FAR_LAG:
        notes.append(
            f"The far control predicts {far} tokens ahead in place of {FAR_LAG}: no document has "
            f"more than {longest} tokens."
        )
    entries.append(Entry(f"only the token {far} ahead", far_contexts(far, options.context)))
    entries.append(Entry(SHUFFLED, None))
    return entries, notes


def _task_tokens(data: TaskData, request: Forecast) -> TaskData:
    """The task with texts as token ids; raises UserError where the corpus holds none of them."""
    train, test = (
        [np.array(ids, dtype=np.int64) for ids in request.store.codec.encode(texts)]
        for texts in (data.train_inputs, data.test_inputs)
    )
    seen = request.store.unigram() > 0
    for part, texts in (("training", train), ("test", test)):
        if not any(seen[ids].any() for ids in texts):
            raise UserError(
                f"task '{data.name}': no {part} text holds a token that the corpus holds; give a "
                "corpus in the task's language"
            )
    return replace(data, train_inputs=train, test_inputs=test)


def _content_hash(request: Forecast, tasks: tuple[TaskData, ...]) -> str:
    """A hash of all that an entry is computed from, besides its name."""
    identity = request.settings.identity("seed", "forecast")
    content = [identity, request.store.fingerprint, sorted(request.rows.items())]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for task in tasks:
        digest.update(json.dumps([task.name, task.metric]).encode())
        inputs = (*task.train_inputs, *task.test_inputs)
        for part in (*inputs, task.train_labels, task.test_labels):
            digest.update(part.tobytes())
    for words in request.words:
        digest.update(repr((words.metric, words.classes, words.train)).encode())
    return digest.hexdigest()[:16]


def _left_out(request: Forecast) -> list[str]:
    told = {item.name for item in request.texts} | {item.name for item in request.words}
    left = [item.name for item in request.data if item.name not in told]
    if not left:
        return []
    return [
        f"A forecast is of classes of texts and of words; nothing is said of {', '.join(left)}."
    ]


def _notes(lines: list[dict[str, Any]], options: Any, text: bool) -> list[str]:
    notes = [
        f"{line['objective']}: {line['beyond']:.1%} of its targets have their context beyond "
        f"{options.reach} tokens or in rarer patterns and are left out (forecast.reach)"
        for line in lines
        if text and line["beyond"] >= 0.005
    ]
    if all(line["saturated"] for line in lines):
        notes.append(
            "Connectivity is saturated: one component, and nearly all contexts meet in a target, "
            "whatever the objective; components and meeting contexts tell nothing apart here."
        )
    return notes
