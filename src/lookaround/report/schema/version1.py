"""A results.json of version 1 as one of version 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# what version 1 called protocols and needs
PROTOCOLS = {"classification": "probe"}
NEEDS = {"classification": "label_texts", "generation": "write", "both": "all"}
UNSETTLED = "lookaround wrote version 1 of this file, which has no verdict"


def converted(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data of version 2; what is amiss in them is left for the check of fields.

    data: of version 1. `random_init` of a task becomes `before` of every run, as it was measured
        once; so gains have no interval. No verdict can be made of them, so that an answer which
        names an objective becomes one that is inconclusive.
    """
    after = {**data, "version": 2}
    baselines = _table(data.get("baselines"))
    before = {  # {metric of version 2: score before training}
        _renamed(name if "/" in name else f"classification/{name}"): line["random_init"]
        for name, line in baselines.items()
        if isinstance(line, dict) and line.get("random_init") is not None
    }
    if "baselines" in data:
        after["baselines"] = _baselines(data["baselines"])
    others = _table(data.get("metrics"))
    if isinstance(data.get("runs"), list):
        after["runs"] = [_run(run, others, before) for run in data["runs"]]
    for key in ("summary", "differences"):
        if isinstance(data.get(key), list):
            after[key] = [_row(row) for row in data[key]]
    if isinstance(after.get("summary"), list):
        after["summary"] = [_with_gain(row, before) for row in after["summary"]]
    if isinstance(data.get("recommendation"), dict):
        told = {need: _answer(data["recommendation"].get(old)) for old, need in NEEDS.items()}
        told["label_tokens"] = "not measured"
        after["recommendation"] = told
    if isinstance(data.get("reasons"), dict):
        reasons = data["reasons"]
        after["reasons"] = {new: reasons[old] for old, new in NEEDS.items() if old in reasons}
    return after


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _renamed(metric: str) -> str:
    protocol, slash, task = metric.partition("/")
    return PROTOCOLS.get(protocol, protocol) + slash + task


def _baselines(baselines: Any) -> Any:
    """Without `random_init`, and without what then is empty."""
    if not isinstance(baselines, dict):
        return baselines
    lines = {
        name: {key: score for key, score in line.items() if key != "random_init"}
        if isinstance(line, dict)
        else line
        for name, line in baselines.items()
    }
    return {name: line for name, line in lines.items() if line or not baselines[name]}


def _run(run: Any, others: Mapping[str, Any], before: Mapping[str, float]) -> Any:
    """A run with its scores by protocol; what other protocols added is moved there."""
    if not isinstance(run, dict):
        return run
    after = {key: value for key, value in run.items() if key not in others}
    scores: dict[str, Any] = {}
    for key in ("bits_per_byte", "classification", *others):
        found = run.get(key)
        protocol = PROTOCOLS.get(key, key)
        by_task = found if isinstance(found, dict) else {"text": found}
        lines: dict[str, Any] = {
            task: {"score": score} | _before(before, f"{protocol}/{task}")
            for task, score in by_task.items()
            if score is None or isinstance(score, int | float)
        }
        if found is not None and lines:
            scores[protocol] = lines
    return after | {"scores": scores}


def _before(before: Mapping[str, float], metric: str) -> dict[str, float]:
    return {"before": before[metric]} if metric in before else {}


def _row(row: Any) -> Any:
    if not isinstance(row, dict) or not isinstance(row.get("metric"), str):
        return row
    return row | {"metric": _renamed(row["metric"])}


def _with_gain(row: Any, before: Mapping[str, float]) -> Any:
    """A row of the summary with its gain, on the mean over tasks where all have one."""
    if not isinstance(row, dict) or not isinstance(row.get("mean"), int | float):
        return row
    metric = row.get("metric")
    scores = [
        score
        for name, score in before.items()
        if metric in (name, name.partition("/")[0]) and isinstance(score, int | float)
    ]
    return row | {"gain": row["mean"] - sum(scores) / len(scores)} if scores else row


def _answer(answer: Any) -> Any:
    """An answer that names an objective is no longer one."""
    words = ("inconclusive", "none", "not measured")
    if not isinstance(answer, str):
        return "not measured" if answer is None else answer
    return answer if answer.startswith(words) else f"inconclusive: {answer} led; {UNSETTLED}"
