"""`lookaround evaluate`: every protocol and baseline on one model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookaround.data.tasks import read_tasks
from lookaround.evaluation.baselines import baselines, run_baselines
from lookaround.evaluation.own_text import text_data
from lookaround.evaluation.registry import TaskData, TextData, protocols, task_data
from lookaround.evaluation.registry import evaluate as run_protocols
from lookaround.model.readable import Readable, open_run
from lookaround.settings import Settings
from lookaround.support.errors import UserError
from lookaround.support.storage import write_text

__all__ = ["Request", "cost", "evaluate", "open_evaluation"]


@dataclass(frozen=True)
class Request:
    """Everything that an evaluation is made of before anything is read.

    name: of the model, as results have it.
    """

    settings: Settings
    name: str
    readable: Readable
    data: tuple[TaskData | TextData, ...]


def open_evaluation(
    settings: Settings, model: Path, mode: str | None = None, readable: Readable | None = None
) -> Request:
    """Opens a model and what it is evaluated on: the tasks given, and the text given or its own.

    model: a run or a Hugging Face folder.
    mode: how both halves read it; None: as the settings say.
    readable: the model, where it is open already.

    Raises UserError for bad input, and where there is nothing to evaluate on.
    """
    readable = readable or open_run(model)
    if mode:
        readable.require_mode(mode)
        both = {"generation_mode": mode, "classification_mode": mode}
        evaluate = settings.evaluate.model_copy(update=both)
        settings = settings.model_copy(update={"evaluate": evaluate})
    paths, metrics = settings.data.tasks, dict(settings.data.metrics)
    tasks = read_tasks(paths, metrics=metrics) if paths else []
    text = text_data(readable, settings.data)
    data = [task_data(item, settings.evaluate) for item in tasks]
    if not data and text is None:
        raise UserError(f"{model}: nothing to evaluate on; give --corpus TEXT, --task FILE or both")
    request = Request(settings, str(model), readable, (*data, *([text] if text else [])))
    cost(request)  # refuses settings that do not fit the text
    return request


def cost(request: Request) -> dict[str, int]:
    """{"parameters", "tokens" to score, "texts" to embed}."""
    costs = [
        protocol.cost(item, request.settings.evaluate)
        for item in request.data
        for protocol in protocols().values()
        if protocol.accepts(item)
    ]
    tokens, texts = (sum(cost.get(kind, 0) for cost in costs) for kind in ("tokens", "texts"))
    parameters = request.readable.backbone.parameter_count
    return {"parameters": parameters, "tokens": tokens, "texts": texts}


def evaluate(request: Request, out: Path | None = None) -> tuple[dict[str, Any], list[str]]:
    """What every protocol says of the model, and its lines for a terminal.

    out: a folder that evaluation.json is written into.
    """
    settings, known = request.settings.evaluate, protocols()
    evaluation = run_protocols(request.readable, request.data, settings, request.settings.seed)
    floor = {item.name: run_baselines(item, settings) for item in request.data}
    lines = []
    for item in request.data:
        scored = {name: on[item.name] for name, on in evaluation.scores.items() if item.name in on}
        for name, scores in (scored | floor[item.name]).items():
            mode = evaluation.modes.get(name, "")
            lines += (known | baselines())[name].lines(item.name, scores, mode)
    result: dict[str, Any] = {
        "model": request.name,
        "baselines": {
            task: {name: scores.value for name, scores in line.items()}
            for task, line in floor.items()
            if task
        },
    }
    result |= {f"{need}_mode": mode for need, mode in evaluation.by_need().items()}
    for name, protocol in known.items():
        result |= protocol.entry(evaluation.scores[name], settings, whole=True)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "evaluation.json", json.dumps(result, indent=1) + "\n")
    return result, lines
