"""From evaluated ladders to results.json: runs, intervals, paired differences, recommendations (docs/results-format.md)."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from lookaround.evaluation.bits_per_byte import ScoredTokens, bits_per_byte, unigram_bits
from lookaround.evaluation.intervals import (
    Interval,
    bootstrap_interval,
    resampled_bits_per_byte,
    resampled_scores,
    seed_interval,
)
from lookaround.evaluation.suite import ProbeData, scored_tokens
from lookaround.studies.compare.study import Study, split_rows
from lookaround.support.machine import machine, versions
from lookaround.support.storage import finite

__all__ = ["recommend", "study_results"]

RESULTS_VERSION = 1


def study_results(
    study: Study,
    out: Path,
    command: str,
    ladders: dict[tuple[str, int], dict[str, Any]],
    losses: dict[str, dict[float, float]],
    table: dict[str, dict[str, float]],
    data: tuple[ProbeData, ...],
) -> dict[str, Any]:
    settings = study.settings
    rows = split_rows(settings, study.store, "test")
    scored = scored_tokens(rows, settings.evaluate)
    special = study.store.tokenizer.vocabulary.special
    unigram, unigram_by_prefix = bits_per_byte(unigram_bits(study.store.unigram(), scored, special), scored)
    runs = []
    for (spec, seed), rungs in sorted(ladders.items(), key=lambda item: _order(study, item[0])):
        for rung, entry in rungs.items():
            runs.append(_run_entry(spec, seed, float(rung), entry, out, settings.evaluate.samples > 0))
    summary, differences = _summaries(study, ladders, scored, data)
    recommendation, reasons = recommend(study, summary, differences, table, unigram)
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
        "machine": machine(study.jobs, study.threads),
        "versions": versions(),
        "equal": study.equal,
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
    return finite(results)


def _order(study: Study, key: tuple[str, int]) -> tuple[int, int]:
    return [objective.spec for objective in study.objectives].index(key[0]), key[1]


def _run_entry(
    spec: str, seed: int, rung: float, entry: dict[str, Any], out: Path, samples: bool
) -> dict[str, Any]:
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
        "samples": evaluation.get("samples", []) if samples else [],
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


def recommend(
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
        untrained = (
            np.mean([line.get("random_init", -1.0) for line in table.values()]) if higher else math.inf
        )
        if higher and entry["mean"] <= untrained:
            reasons[need] += f" No objective is better than the model before training ({untrained:.3f})."
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
        open_needs = [need for need, group in groups.items() if len(group) > 1]
        unsure = f", though {' and '.join(open_needs)} is inconclusive" if open_needs else ""
        reasons["both"] = (
            f"{shared[0]} alone leads, or is not told apart from the leader, in both{unsure}.{caveat}"
        )
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
