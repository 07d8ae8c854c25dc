"""From evaluated ladders to results.json: runs, intervals, paired differences, recommendations."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from lookaround.evaluation.baselines import baselines, run_baselines
from lookaround.evaluation.bits_per_byte import BitsPerByte
from lookaround.evaluation.intervals import Interval, bootstrap_interval, seed_interval
from lookaround.evaluation.registry import Evaluation, TaskData, TextData, protocols
from lookaround.report.schema import ComparisonResults, ForecastResults
from lookaround.report.schema.record import VERSION
from lookaround.settings import EvaluateSettings
from lookaround.studies.compare.study import Study, text_data
from lookaround.support.machine import machine, versions


def study_results(
    study: Study,
    out: Path,
    command: str,
    ladders: dict[tuple[str, int], dict[str, Any]],
    losses: dict[str, dict[float, float]],
    table: dict[str, dict[str, float]],
    data: tuple[TaskData, ...],
    forecast: ForecastResults | str | None,
) -> ComparisonResults:
    """The results of evaluated ladders.

    ladders: by (objective, seed), `run_job`'s rungs.
    losses: validation loss by objective and learning-rate factor.
    table: {task: {baseline: score}}.
    forecast: what is told beside the study, or the reason why nothing is; None: not asked for.
    """
    settings = study.settings
    of_text = run_baselines(text_data(settings, study.store), settings.evaluate)
    runs = [
        _run_entry(objective.spec, seed, float(rung), entry, out, settings.evaluate)
        for objective in study.objectives
        for seed in sorted(seed for spec, seed in ladders if spec == objective.spec)
        for rung, entry in ladders[objective.spec, seed].items()
    ]
    summary, differences = _summaries(study, ladders)
    text_line = {name: scores.value for name, scores in of_text.items() if scores.value is not None}
    recommendation, reasons = recommend(
        study, summary, differences, table | {TextData.name: text_line}
    )
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
            "train": len(item.train_inputs),
            "test": len(item.test_inputs),
            "classes": len(task.classes),
            "columns": task.columns,
            "notes": task.notes,
        }
        for task, item in zip(study.tasks, data, strict=True)
    }
    results: dict[str, Any] = {
        "version": VERSION,
        "command": command,
        "settings": settings.model_dump(),
        "corpus": corpus,
        "machine": machine(study.jobs, study.threads),
        "versions": versions(),
        "unit": study.store.tokenizer.unit,
        "parameters": study.backbone.parameter_count,
        "equal": study.equal,
        **{
            key: value
            for name, scores in of_text.items()
            for key, value in baselines()[name]
            .entry({TextData.name: scores}, settings.evaluate)
            .items()
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
    if about := _about(summary):
        results["metrics"] = about
    if isinstance(forecast, str):
        results["notes"].append(f"No forecast beside the study: {forecast}")
    elif forecast is not None:
        results["forecast"] = forecast
    return ComparisonResults.of(results)


def _about(summary: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """{metric: what to know of it}: those of protocols that decide no recommendation."""
    measured = {entry["metric"].partition("/")[0] for entry in summary}
    return {
        protocol.key: {
            "title": protocol.title,
            "higher": protocol.higher,
            "about": (protocol.__doc__ or "").strip().partition("\n")[0],
        }
        for protocol in protocols().values()
        if protocol.key in measured and not protocol.need
    }


def _run_entry(
    spec: str,
    seed: int,
    rung: float,
    entry: dict[str, Any],
    out: Path,
    settings: EvaluateSettings,
) -> dict[str, Any]:
    evaluation, spent = entry["evaluation"], entry["spent"]
    run = {
        "objective": spec,
        "seed": seed,
        "rung": rung,
        "mode": "; ".join(f"{need}: {mode}" for need, mode in evaluation.by_need().items()),
        "budget": {name: spent[name] for name in ("tokens", "targets", "flops", "seconds")},
        "learning_rate": entry["learning_rate"],
        "checkpoint": os.path.relpath(entry["folder"], out),
        "curve": [
            {key: point[key] for key in ("flops", "tokens", "seconds", "loss")}
            for point in entry["curve"]
        ],
    }
    for name, protocol in protocols().items():
        run |= protocol.entry(evaluation.scores.get(name, {}), settings)
    return run


Statistic = tuple[float, np.ndarray]  # a value and its resamples (R,)


def _statistics(evaluation: Evaluation, resamples: int) -> dict[str, Statistic]:
    """{metric: (value, resampled values)} of one run; equal draws make differences paired."""
    statistics: dict[str, Statistic] = {}
    for name, protocol in protocols().items():
        parts = {
            task: (scores.value, protocol.resampled(scores, resamples))
            for task, scores in evaluation.scores.get(name, {}).items()
            if scores.value is not None
        }
        statistics |= {protocol.column(task): part for task, part in parts.items()}
        if parts and TextData.name not in parts:
            values, resampled = zip(*parts.values(), strict=True)
            statistics[protocol.key] = (float(np.mean(values)), np.mean(resampled, axis=0))
    return statistics


def _summaries(
    study: Study,
    ladders: dict[tuple[str, int], dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(summary, differences): intervals over seeds, or over test items where there is one seed."""
    specs = [objective.spec for objective in study.objectives]
    seeds = sorted({seed for _, seed in ladders})
    resamples = study.settings.evaluate.bootstrap if len(seeds) == 1 else 1
    summary, differences = [], []

    def interval(values: list[Statistic]) -> Interval:
        if len(values) > 1:
            return seed_interval([value for value, _ in values])
        return bootstrap_interval(*values[0])

    for rung in study.rungs:
        statistics = {
            (spec, seed): _statistics(ladders[spec, seed][f"{rung:g}"]["evaluation"], resamples)
            for spec, seed in itertools.product(specs, seeds)
        }
        first, *others = statistics.values()
        metrics = [metric for metric in first if all(metric in other for other in others)]
        summary += [
            {
                "objective": spec,
                "rung": rung,
                "metric": metric,
                **vars(interval([statistics[spec, seed][metric] for seed in seeds])),
            }
            for metric, spec in itertools.product(metrics, specs)
        ]
        for metric, (reference, spec) in itertools.product(
            metrics, itertools.combinations(specs, 2)
        ):
            pairs = [
                (statistics[spec, seed][metric], statistics[reference, seed][metric])
                for seed in seeds
            ]
            paired = [(one[0] - other[0], one[1] - other[1]) for one, other in pairs]
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
    """(best objective, those not told apart from it by paired differences) at the last rung."""
    means = {e["objective"]: e["mean"] for e in summary if e["metric"] == metric and e["rung"] == 1}
    best = (max if higher else min)(specs, key=lambda spec: means[spec])
    close = []
    for entry in differences:
        pair = [entry["objective"], entry["reference"]]
        asked = entry["metric"] == metric and entry["rung"] == 1 and best in pair
        if asked and not (entry["low"] > 0 or entry["high"] < 0):
            pair.remove(best)
            close += pair
    return best, close


def recommend(
    study: Study,
    summary: list[dict],
    differences: list[dict],
    table: dict[str, dict[str, float]],
) -> tuple[dict[str, str], dict[str, str]]:
    """An objective per need, or "inconclusive at this budget: ...", and the sentence that says why.

    table: {task: {baseline: score}}, and under "" the baselines of the text.
    """
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
    deciding = [protocol for protocol in protocols().values() if protocol.need]
    for protocol in sorted(deciding, key=lambda protocol: protocol.need):
        need, metric, higher = protocol.need, protocol.key, protocol.higher
        if (metric, specs[0]) not in means:
            recommendation[need] = "not measured: no task was given"
            reasons[need] = f"Give labelled data with --task to compare objectives for {need}."
            continue
        best, close = _leaders(specs, metric, higher, summary, differences)
        entry = means[metric, best]
        interval = f"95% interval {entry['low']:.3f} to {entry['high']:.3f}"
        per = f"bits per {study.store.tokenizer.unit}"
        title = per if protocol.key == BitsPerByte.key else protocol.title
        figure = f"{entry['mean']:.3f} {title} ({interval})"
        groups[need] = [best, *close]
        recommendation[need] = best
        if len(specs) == 1:
            reasons[need] = f"The only objective of the study: {figure}.{caveat}"
        elif close:
            recommendation[need] = f"inconclusive at this budget: {', '.join([best, *close])}"
            reasons[need] = (
                f"{best} leads with {figure}, but its paired difference from "
                f"{' or '.join(close)} does not exclude 0.{caveat}"
            )
        else:
            reasons[need] = (
                f"{best}: {figure}; its paired differences from all others exclude 0.{caveat}"
            )
        lines = [line for line in table.values() if protocol.floor in line]
        if lines:
            sign = 1 if higher else -1
            untrained = np.mean([line.get("random_init", -sign * math.inf) for line in lines])
            floor = np.mean([line[protocol.floor] for line in lines])
            if sign * (entry["mean"] - untrained) <= 0:
                reasons[need] += (
                    f" No objective is better than the model before training ({untrained:.3f})."
                )
            if sign * (entry["mean"] - floor) < 0:
                beaten_by = f"{baselines()[protocol.floor].title} ({floor:.3f})"
                side = "below" if higher else "above"
                reasons[need] += f" All objectives stand {side} {beaten_by} at this budget."
    unmeasured = [need for need in recommendation if need not in groups]
    if unmeasured:
        recommendation["both"] = recommendation[unmeasured[0]]
        reasons["both"] = reasons[unmeasured[0]]
        return recommendation, reasons
    first, *others = groups.values()
    shared = [spec for spec in first if all(spec in group for group in others)]
    if len(shared) == 1:
        recommendation["both"] = shared[0]
        open_needs = [need for need, group in groups.items() if len(group) > 1]
        unsure = f", though {' and '.join(open_needs)} is inconclusive" if open_needs else ""
        reasons["both"] = (
            f"{shared[0]} alone leads, or is not told apart from the leader, in "
            f"both{unsure}.{caveat}"
        )
    elif shared:
        recommendation["both"] = f"inconclusive at this budget: {', '.join(shared)}"
        reasons["both"] = (
            f"{', '.join(shared)} lead, or are not told apart from the leader, in both.{caveat}"
        )
    else:
        leaders = ", ".join(f"{group[0]} for {need}" for need, group in groups.items())
        recommendation["both"] = f"none: {leaders}"
        reasons["both"] = f"No objective is among the leaders of both.{caveat}"
    return recommendation, reasons


def _notes(
    study: Study, ladders: dict[tuple[str, int], dict[str, Any]], tasks: dict[str, Any]
) -> list[str]:
    notes = []
    if study.settings.compare.seeds == 1:
        notes.append(
            "One seed: differences between training runs are not covered by the intervals; "
            "--seeds 3 covers them."
        )
    notes += study.store.tokenizer.notes
    for name, task in tasks.items():
        notes += [f"{name}: {note}" for note in task["notes"]]
    scores = next(iter(ladders.values()))["1"]["evaluation"].scores.values()
    cut = {name: found.details.get("cut", 0) for part in scores for name, found in part.items()}
    context = study.settings.model.context
    notes += [
        f"{name}: {count} texts were cut to the training length of {context} tokens"
        for name, count in cut.items()
        if count
    ]
    moving = [objective.spec for objective in study.objectives if not objective.stationary]
    if moving:
        notes.append(
            "Trained from the start for every rung, since they change with the budget: "
            f"{', '.join(moving)}"
        )
    return notes
