"""`lookaround evaluate`: every protocol and baseline on one model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookaround.data.labelled import TEXT, AnyTask
from lookaround.data.patches import PatchCodec
from lookaround.data.source import picture_parts, tasks_of
from lookaround.evaluation.baselines import baselines, by_key, run_baselines
from lookaround.evaluation.own_pictures import own_pictures, picture_data
from lookaround.evaluation.own_text import own_text, text_data
from lookaround.evaluation.registry import (
    AnyData,
    Evaluation,
    Pairs,
    Protocol,
    TextData,
    TokenData,
    chosen,
    idle,
    protocols,
    task_data,
    with_counts,
)
from lookaround.evaluation.registry import evaluate as run_protocols
from lookaround.model.readable import Readable, open_run
from lookaround.report.schema import EvaluationResults
from lookaround.settings import Settings
from lookaround.studies.events import Event, Report, reading, silent
from lookaround.support.errors import UserError
from lookaround.support.storage import make_folder


@dataclass(frozen=True)
class Request:
    """Everything that an evaluation is made of before anything is read.

    name: of the model, as results have it.
    data: tasks and text.
    pairs: protocols, each with a part of the data that it runs on.
    notes: what was left out of the tasks, and why.
    """

    settings: Settings
    name: str
    readable: Readable
    data: tuple[AnyData, ...]
    pairs: Pairs
    notes: tuple[str, ...]


def open_evaluation(
    settings: Settings,
    model: Path,
    mode: str | None = None,
    readable: Readable | None = None,
    given: Any = None,
    *,
    report: Report = silent,
) -> Request:
    """Opens a model and what it is evaluated on: the tasks given, and the text given or its own.

    model: a run or a Hugging Face folder.
    mode: how both halves read it; None: as the settings say.
    readable: the model, where it is open already.
    given: what is read as the corpus in place of a name in the settings: a dataset, or texts.
    report: hears how much of the text is read.

    Raises UserError for bad input, and where there is nothing to evaluate on.
    """
    readable = (readable or open_run(model)).through(settings.evaluate.context, "evaluate.context")
    if mode:
        readable.require_mode(mode)
        both = {"generation_mode": mode, "classification_mode": mode}
        evaluate = settings.evaluate.model_copy(update=both)
        settings = settings.model_copy(update={"evaluate": evaluate})
    heard = reading(report, settings.data)
    if isinstance(readable.codec, PatchCodec):
        settings, data, notes = _of_pictures(settings, readable, readable.codec, given, heard)
    else:
        data, notes = _of_text(settings, model, readable, given, heard)
    pairs = chosen(data, settings.evaluate)
    request = Request(settings, str(model), readable, tuple(data), tuple(pairs), tuple(notes))
    cost(request)  # refuses settings that do not fit the text
    return request


def _of_text(
    settings: Settings, model: Path, readable: Readable, given: Any, heard: Callable[[int], None]
) -> tuple[list[AnyData], list[str]]:
    """(what a model of text is evaluated on, notes): tasks, and the text given or its own."""
    own = own_text(readable, settings.data, given, heard, whole=True)
    text = None if own is None else text_data(readable, own)
    tasks = tasks_of(settings.data, required=own is None)
    if not tasks and text is None:
        raise UserError(f"{model}: nothing to evaluate on; give --corpus TEXT, --task FILE or both")
    notes = [f"{own.name}: {note}" for note in own.notes] if own else []
    if own and own.train is None:
        notes.append(
            f"{own.name}: all of it is test text for a model of others, so that there are no "
            "unigram, bigram and trigram models of a training part"
        )
    return _with_tasks(settings, readable, tasks, text), [
        *notes,
        *(f"{task.name}: {note}" for task in tasks for note in task.notes),
    ]


def _with_tasks(
    settings: Settings, readable: Readable, tasks: Iterable[AnyTask], text: TextData | None
) -> list[AnyData]:
    """Tasks as they are evaluated on, and the text."""
    items = [task_data(task, settings.evaluate) for task in tasks]
    data = with_counts(items, readable.codec, text.counts if text else None)
    return [*data, *([text] if text else [])]


def _of_pictures(
    settings: Settings,
    readable: Readable,
    codec: PatchCodec,
    given: Any,
    heard: Callable[[int], None],
) -> tuple[Settings, list[AnyData], list[str]]:
    """(settings, what a model of pictures is evaluated on, notes): those given, or its own."""
    pictures, data = own_pictures(readable, codec, settings.data, given, heard)
    if settings.data.images is None:  # its own, which have defaults of their own
        told = settings.model_dump(exclude_unset=True)
        told["data"] = told.get("data", {}) | {"images": data.images}
        settings = Settings.model_validate(told)
    if readable.context < codec.length:
        raise UserError(
            f"evaluate.context: {readable.context} cuts pictures, which have {codec.length} tokens "
            "with BOS; leave it out"
        )
    parts = picture_parts(pictures, data)
    task = pictures.task(parts)
    text = picture_data(codec, pictures, parts)
    notes = [f"{pictures.name}: {note}" for note in pictures.notes]
    return settings, _with_tasks(settings, readable, [task] if task else [], text), notes


def cost(request: Request) -> dict[str, int]:
    """{"parameters", "tokens" to score, "texts" to read}."""
    costs = [protocol.cost(item, request.settings.evaluate) for protocol, item in request.pairs]
    tokens, texts = (sum(cost.get(kind, 0) for cost in costs) for kind in ("tokens", "texts"))
    parameters = request.readable.backbone.parameter_count
    return {"parameters": parameters, "tokens": tokens, "texts": texts}


def evaluate(
    request: Request, out: Path | None = None, *, report: Report = silent
) -> EvaluationResults:
    """What protocols and baselines say of the model, and of the same network before training.

    out: a folder that evaluation.json is written into.
    report: hears how far each protocol is.
    """
    settings, seed = request.settings.evaluate, request.settings.seed
    evaluation = run_protocols(request.readable, _heard(request.pairs, report), settings, seed)
    reading = [pair for pair in request.pairs if not pair[0].writes]
    heard = _heard(reading, report, ", before training")
    before = run_protocols(request.readable.untrained(seed), heard, settings, seed)
    result: dict[str, Any] = {
        "model": request.name,
        "parameters": request.readable.backbone.parameter_count,
        "baselines": {},
    }
    names = {protocol.name for protocol, _ in request.pairs}
    for item in request.data:
        lines = run_baselines(item, settings, names)
        if isinstance(item, TextData):
            result["unit"] = item.test.codec.unit
            for name in list(lines):
                if told := baselines()[name].entry({item.name: lines[name]}, settings):
                    result |= told
                    del lines[name]
        if lines:
            result["baselines"][item.name or TEXT] = by_key(lines)
    result |= {f"{half}_mode": mode for half, mode in evaluation.by_half().items()}
    known = protocols()
    result["scores"] = {
        name: {
            task or TEXT: known[name].record(scores, before.scores.get(name, {}).get(task))
            for task, scores in entries.items()
        }
        for name, entries in evaluation.scores.items()
        if known[name].measures
    }
    for name, protocol in known.items():
        result |= protocol.entry(evaluation.scores.get(name, {}), settings, whole=True)
    found = EvaluationResults.of(result | {"notes": _notes(request, evaluation)})
    if out is not None:
        make_folder(out)
        found.save(out / "evaluation.json")
    return found


def _heard(pairs: Pairs, report: Report, when: str = "") -> Iterator[tuple[Protocol[Any], AnyData]]:
    """The pairs, one after the other, each reported as a stage."""
    for protocol, item in pairs:
        stage = f"{protocol.name} {item.name}".rstrip() + when

        def heard(done: int, total: int, stage: str = stage) -> None:
            report(Event(stage, done, total))

        report(Event(stage))  # how long it is, is not known before its first step
        protocol.progress = heard
        yield protocol, item
        heard(1, 1)


def _notes(request: Request, evaluation: Evaluation) -> list[str]:
    """Which texts were cut and to what length, and what the tokenizer loses of them."""
    ran = [(protocol.name, item.name) for protocol, item in request.pairs]
    notes = [*request.notes, *idle(ran, request.settings.evaluate)]
    for item in request.data:
        if isinstance(item, TextData):
            length, width, codec = item.test.split.length, item.test.width, item.test.codec
            if cut := int((length > width).sum()):
                notes.append(
                    f"{cut:,} of {len(length):,} test documents were cut into windows of {width:,} "
                    "tokens"
                )
            notes += codec.notes
            continue
        found = [scores[item.name] for scores in evaluation.scores.values() if item.name in scores]
        cut, context = (
            max(scores.details.get("cut", 0) for scores in found),
            request.readable.context,
        )
        if cut and isinstance(item, TokenData):
            notes.append(f"{item.name}: {cut:,} words stand beyond the {context:,} tokens read")
        elif cut:
            texts = sum(item.sizes)
            notes.append(f"{item.name}: {cut:,} of {texts:,} texts were cut to {context:,} tokens")
        if left_out := max(scores.details.get("left_out", 0) for scores in found):
            notes.append(f"{item.name}: {left_out:,} pairs longer than {context:,} tokens left out")
    return notes
