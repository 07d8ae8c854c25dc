"""`lookaround evaluate`: every protocol and baseline on one model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookaround.data.tasks import read_tasks
from lookaround.data.text import TextTokenizer
from lookaround.evaluation.baselines import run_baselines
from lookaround.evaluation.own_text import text_data
from lookaround.evaluation.registry import Evaluation, TaskData, TextData, protocols, task_data
from lookaround.evaluation.registry import evaluate as run_protocols
from lookaround.model.readable import Readable, open_run
from lookaround.report.schema import EvaluationResults
from lookaround.settings import Settings
from lookaround.support.errors import UserError


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
    readable = (readable or open_run(model)).through(settings.evaluate.context, "evaluate.context")
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


def evaluate(request: Request, out: Path | None = None) -> EvaluationResults:
    """What every protocol and baseline says of the model.

    out: a folder that evaluation.json is written into.
    """
    settings = request.settings.evaluate
    evaluation = run_protocols(request.readable, request.data, settings, request.settings.seed)
    result: dict[str, Any] = {"model": request.name, "baselines": {}}
    for item in request.data:
        if item.name:
            floor = run_baselines(item, settings)
            result["baselines"][item.name] = {name: line.value for name, line in floor.items()}
        if isinstance(item, TextData):
            result["unit"] = item.test.codec.unit
    result |= {f"{need}_mode": mode for need, mode in evaluation.by_need().items()}
    for name, protocol in protocols().items():
        result |= protocol.entry(evaluation.scores[name], settings, whole=True)
    found = EvaluationResults.of(result | {"notes": _notes(request, evaluation)})
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        found.save(out / "evaluation.json")
    return found


def _notes(request: Request, evaluation: Evaluation) -> list[str]:
    """Which texts were cut and to what length, and what the tokenizer loses of them."""
    notes = []
    for item in request.data:
        if isinstance(item, TextData):
            length, width, codec = item.test.split.length, item.test.width, item.test.codec
            if cut := int((length > width).sum()):
                notes.append(
                    f"{cut:,} of {len(length):,} test documents were cut into windows of {width:,} "
                    "tokens"
                )
            notes += codec.notes if isinstance(codec, TextTokenizer) else []
            continue
        cut = sum(
            scores[item.name].details.get("cut", 0)
            for scores in evaluation.scores.values()
            if item.name in scores
        )
        texts = len(item.train_inputs) + len(item.test_inputs)
        if cut:
            notes.append(
                f"{item.name}: {cut:,} of {texts:,} texts were cut to "
                f"{request.readable.context:,} tokens"
            )
    return notes
