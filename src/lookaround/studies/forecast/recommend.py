"""What a forecast recommends, and the track record that decides whether it may."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from lookaround.evaluation.intervals import resample
from lookaround.evaluation.probe import METRICS
from lookaround.evaluation.registry import TaskData


@dataclass(frozen=True)
class TrackRecord:
    """How the forecast agreed with trained models: whether it may recommend, and why."""

    earned: bool
    sentence: str


# written by benchmarks/track_record.py and shown in results/forecast.md
_RECORD = json.loads((files(__package__) / "track_record.json").read_text(encoding="utf-8"))
TRACK_RECORD = TrackRecord(earned=_RECORD["earned"], sentence=_RECORD["sentence"])


def recommend(
    lines: list[dict[str, Any]],
    controls: list[dict[str, Any]],
    table: dict[str, Any],
    data: tuple[TaskData, ...],
    resamples: int,
    linear: tuple[str, str] = ("tfidf", "TF-IDF"),
) -> tuple[dict[str, str], dict[str, str], dict[str, list[str]]]:
    """({task: answer}, {task: why}, {task: objectives not told apart from the leader}).

    linear: the baseline in `table` that is told beside the leader, and what it is called.

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
        floor, named = table[item.name][linear[0]], linear[1]
        below = (
            f" All objectives stand below {named} ({floor:.3f})." if scores[leader] < floor else ""
        )
        if matched:
            told = " and ".join(f"'{name}'" for name in matched)
            answers[item.name] = f"nothing: a control does as well ({told})"
            reasons[item.name] = (
                f"{figure}; as good or better, or not told apart from it: {told}.{below}"
            )
        elif len(scores) > 1 and len(close[item.name]) == len(scores) - 1:
            answers[item.name] = "nothing: not distinguished"
            reasons[item.name] = f"{figure}, but no objective is told apart from it.{below}"
        else:
            none = "nothing: the forecast's order has not earned a recommendation"
            answers[item.name] = leader if TRACK_RECORD.earned else none
            also = (
                f"; not told apart from it: {', '.join(close[item.name])}"
                if close[item.name]
                else ""
            )
            reasons[item.name] = f"{figure}{also}.{below}"
    return answers, reasons, close
