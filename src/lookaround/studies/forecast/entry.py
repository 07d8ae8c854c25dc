"""One line of a forecast: spectrum, graph and probes of an objective or a control."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lookaround.evaluation.probe import least_squares_probe
from lookaround.evaluation.registry import TaskData
from lookaround.settings import Settings
from lookaround.support.errors import UserError
from lookaround.support.records import Stored, read_record
from lookaround.support.storage import finite, write_text
from lookaround.theory.bounds import alpha, alpha_by_chance
from lookaround.theory.graph import connectivity
from lookaround.theory.lags import LagCounts
from lookaround.theory.matrices import cooccurrence, shuffled_cooccurrence
from lookaround.theory.spectrum import CooccurrenceSpectrum

FEATURES = ("context", "target", "both")


@dataclass(frozen=True)
class Entry:
    """One line of the table: an objective or a control. shares None = the shuffled pairs."""

    name: str
    shares: dict[tuple[int, ...], float] | None


@dataclass(frozen=True)
class EntryJob:
    entry: Entry
    counts_folder: Path
    tasks: tuple[TaskData, ...]  # their inputs as token ids, (tokens,) int64
    settings: Settings
    threads: int
    file: Path


def run_entry(job: EntryJob) -> dict[str, Any]:
    """Spectrum, graph and probes of one entry, as plain data; also kept in the job's file."""
    torch.set_num_threads(job.threads)
    options, entry = job.settings.forecast, job.entry
    counts = LagCounts.load(job.counts_folder)
    if entry.shares is None:
        joint = shuffled_cooccurrence(
            counts, context=options.context, min_count=options.min_count, seed=job.settings.seed
        )
    else:
        joint = cooccurrence(
            counts,
            entry.shares,
            context=options.context,
            min_count=options.min_count,
            plane=job.settings.data.images is not None,
        )
    model = CooccurrenceSpectrum(
        context=options.context, rank=options.rank, seed=job.settings.seed
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
                model.transform(task.train_inputs, features, options.weighting),
                task.train_labels,
                model.transform(task.test_inputs, features, options.weighting),
                task.test_labels,
                metric=task.metric,
            )
            result["features"][features][task.name] = probe.score
            if features == options.features:
                result["tasks"][task.name] = probe.score
                result["predicted"][task.name] = probe.predicted.tolist()
        if options.context == 1:
            labels = token_labels(task.train_inputs, task.train_labels, joint.rows)
            result["alpha"][task.name] = alpha(joint.matrix, labels)
            result["alpha_by_chance"][task.name] = alpha_by_chance(joint.matrix, labels)
    return keep(job.file, result)


def token_labels(texts: Sequence[np.ndarray], labels: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The class whose texts hold each of `tokens` (R,) most often, by share; -1 = none."""
    classes = int(labels.max()) + 1
    shares = np.zeros((classes, len(tokens)))
    for text, label in zip(texts, labels, strict=True):
        ids = np.unique(text)
        at = np.minimum(np.searchsorted(tokens, ids), len(tokens) - 1)
        shares[label, at[tokens[at] == ids]] += 1
    shares /= np.maximum(np.bincount(labels, minlength=classes), 1)[:, None]
    return np.where(shares.any(axis=0), shares.argmax(axis=0), -1)


class Kept(Stored):
    """A part of a forecast in a file, with a hash of it."""

    digest: str
    value: dict[str, Any]


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def keep(file: Path, value: dict[str, Any]) -> dict[str, Any]:
    """Writes plain data into a file; returns it as it is read again."""
    plain = finite(value)
    write_text(file, json.dumps({"digest": _digest(plain), "value": plain}))
    return plain


def read_kept(file: Path) -> dict[str, Any] | None:
    """What `keep` wrote; None where there is nothing or it is damaged."""
    if not file.is_file():
        return None
    try:
        kept = read_record(file, Kept)
    except UserError:
        return None
    return kept.value if kept.digest == _digest(kept.value) else None
