"""The commands as Python functions; `import lookaround` offers them, and loads nothing heavy.

    import lookaround

    results = lookaround.compare("notes.jsonl", tasks=["diagnoses.tsv"], seeds=3)
    print(results)
    results.frame("summary")

A function takes what its command takes: the same settings under the names of its options, further
ones as `settings={"train.batch": 32}`, and raises `UserError` with the same message.
"""

from __future__ import annotations

import inspect
import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookaround.settings import Settings, field_of, read_settings
from lookaround.studies.events import Report
from lookaround.studies.folder import require_out
from lookaround.support.errors import UserError
from lookaround.support.storage import require_place

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lookaround.decode import Generated
    from lookaround.model.readable import Readable
    from lookaround.objectives.objective import Objective
    from lookaround.report.schema import (
        ComparisonResults,
        EvaluationResults,
        ForecastResults,
        PretrainResults,
        SpeculationResults,
    )


# a path or several, a dataset of the hub; a Dataset, a DatasetDict, an IterableDataset, or texts
Text = Any
_TEXT = ("data.corpus", "data.text_column", "data.separator", "data.encoding")
_CORPUS = (*_TEXT, "data.tokenizer")
_TASKS = ("data.tasks", "data.label_column", "data.no_label")
# the settings that a command has an option for; every other is reached by its dotted name
OFFERED: dict[str, tuple[str, ...]] = {
    "compare": (
        *_CORPUS,
        "data.images",
        *_TASKS,
        "objectives",
        "compare.seeds",
        "compare.budget",
        "compare.equal",
        "compare.until",
        "model.preset",
        "model.init",
        "evaluate.protocols",
        "compare.jobs",
        "compare.cluster",
    ),
    "forecast": (
        *_CORPUS,
        "data.images",
        *_TASKS,
        "objectives",
        "forecast.context",
        "forecast.rank",
        "forecast.cluster",
    ),
    "pretrain": (
        *_CORPUS,
        "data.images",
        "pretrain.objective",
        "pretrain.budget",
        "pretrain.form",
        "model.preset",
        "model.init",
        "train.learning_rate",
        "train.parallel",
        "pretrain.track",
    ),
    "plan": (
        "planned.objective",
        "planned.budget",
        "model.preset",
        "planned.memory",
        "planned.prices",
        "planned.utilization",
    ),
    "evaluate": (*_TEXT, "data.images", *_TASKS, "evaluate.protocols", "evaluate.context"),
    "generate": (
        "generate.max_new_tokens",
        "generate.temperature",
        "generate.top_k",
        "generate.top_p",
        "generate.mode",
        "generate.stop",
        "generate.order",
        "generate.per_pass",
        "generate.accept",
        "generate.context",
        "generate.chat",
    ),
    "speculate": (
        *_TEXT,
        "speculate.heads",
        "speculate.depths",
        "speculate.budget",
        "speculate.samples",
        "speculate.joint",
        "speculate.lora",
        "speculate.measure",
    ),
    "synthetic": (
        "synthetic.tasks",
        "synthetic.objectives",
        "synthetic.seeds",
        "synthetic.steps",
        "synthetic.budget",
        "model.preset",
        "model.init",
        "synthetic.control",
        "synthetic.jobs",
        "synthetic.cluster",
    ),
    "report": (),
}
# options that are not called as their field
_OPTIONS = {
    "data.tasks": "--task",
    "synthetic.tasks": "--task",
    "model.preset": "--model",
    "pretrain.form": "--as",
    "planned.prices": "--price",
}


def option_of(name: str) -> str:
    """The option of a setting on the command line."""
    return _OPTIONS.get(name, "--" + name.rpartition(".")[2].replace("_", "-"))


def keyword_of(name: str) -> str:
    """The keyword of a setting in Python: its field's name, but "model" for the preset."""
    return "model" if name == "model.preset" else name.rpartition(".")[2]


def _offers(command: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds to a function's docstring the keywords of its command's settings, one a line."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        lines = [inspect.getdoc(function) or "", ""]
        for name in (*OFFERED[command], "seed"):
            field = field_of(name)
            default = field.get_default(call_default_factory=True)
            lines.append(f"{keyword_of(name)}: {field.description} (default: {default!r})")
        lines.append("settings: {dotted name: value} of any other setting (docs/settings.md).")
        lines.append("config: a YAML file of settings.")
        function.__doc__ = "\n".join(lines)
        return function

    return wrap


def _settings(command: str, options: Mapping[str, Any]) -> Settings:
    """The settings that a function was given as keywords; raises UserError as its command does."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UserError(
            f"{command}: called again while a process of it starts; put the call under "
            "if __name__ == '__main__':"
        )
    given = dict(options)
    config, more = given.pop("config", None), given.pop("settings", None) or {}
    names = {keyword_of(name): name for name in (*OFFERED[command], "seed")}
    unknown = next((key for key in given if key not in names), None)
    if unknown is not None:
        raise UserError(
            f"{command}: no argument is called '{unknown}'; known are {', '.join(names)}, and "
            "settings={...} for all others"
        )
    values = more | {names[key]: value for key, value in given.items()}
    if (tasks := values.get("data.tasks")) is not None:
        values["data.tasks"] = _kept_tasks(tasks)
    values = {name: _plain(value) for name, value in values.items()}
    if isinstance(values.get("objectives"), list):
        values["objectives"] = ", ".join(map(str, values["objectives"]))
    return read_settings(
        Path(config) if config is not None else None,
        labels={name: key for key, name in names.items()},
        **values,
    )


def _kept_tasks(tasks: Any) -> list[str]:
    """The paths of tasks; datasets are written into the cache, where they are read from."""
    from lookaround.data.source import kept_task

    given = tasks if isinstance(tasks, list | tuple) else [tasks]
    return [str(task) if isinstance(task, str | Path) else kept_task(task) for task in given]


def _text_of(options: dict[str, Any]) -> Any:
    """The corpus or pictures of some options where they are an object and no name, which then
    stands there.

    An object is a dataset, texts, or arrays of pictures; names are paths, several of them, or a
    dataset of the hub.
    """
    from lookaround.data.corpora import is_named
    from lookaround.data.source import GIVEN

    images = options.get("images")
    if images is not None:
        if isinstance(images, str | Path):
            return None
        options["images"] = GIVEN
        return images
    corpus = options.get("corpus")
    if corpus is None or is_named(corpus):
        return None
    options["corpus"] = GIVEN
    return corpus


def _plain(value: Any) -> Any:
    """Paths and objectives as text, as a settings file has them."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, dict | str | int | float | None) else str(value)


def _call(function: str, **arguments: Any) -> str:
    """The call that made some results, as Python would take it again."""
    given = {key: _plain(value) for key, value in arguments.items() if value is not None}
    listed = ", ".join(f"{key}={value!r}" for key, value in given.items())
    return f"lookaround.{function}({listed})"


@contextmanager
def _reporting(report: Report | None) -> Iterator[Report]:
    """A report of a study, or a view of progress where none is given."""
    if report is not None:
        yield report
        return
    from rich.console import Console

    from lookaround.studies.reporter import Reporter, quiet_libraries

    quiet_libraries()
    # in a notebook too: rich would make a cell's output of each line
    with Reporter(Console(stderr=True, force_jupyter=False)) as reporter:
        yield reporter.report


# ---------------------------------------------------------------------------------------- studies


@_offers("compare")
def compare(
    corpus: Text = None,
    *,
    out: str | Path = "lookaround-compare",
    report: Report | None = None,
    **options: Any,
) -> ComparisonResults:
    """Trains several objectives at equal budget and evaluates both halves of each.

    The same call goes on with an interrupted study; more objectives, seeds and rungs are added to
    a finished one. Local processes import the calling script again: keep the call under
    `if __name__ == "__main__":`.

    corpus: a path or several, the name of a dataset of the hub, a dataset of `datasets`, or texts.
    out: folder of the study: results.json, report.html, checkpoints.
    report: called with an `Event` as the study goes on; None shows progress on stderr.
    """
    from lookaround.studies.compare.compare import compare as run
    from lookaround.studies.compare.study import open_study

    require_out("compare", Path(out))
    given = {"corpus": corpus, **options}
    text = _text_of(given)
    command = _call("compare", out=out, **given)
    with _reporting(report) as tell:
        study = open_study(_settings("compare", given), text, report=tell)
        results = run(study, Path(out), command=command, report=tell)
    results.write_page(Path(out) / "report.html")
    return results


@_offers("forecast")
def forecast(
    corpus: Text = None,
    *,
    out: str | Path = "lookaround-forecast",
    report: Report | None = None,
    **options: Any,
) -> ForecastResults:
    """What a corpus says of objectives before any training, with its controls beside it.

    corpus: a path or several, the name of a dataset of the hub, a dataset of `datasets`, or texts.
    out: folder of the forecast: forecast.json, forecast.html, finished parts.
    report: called with an `Event` as it goes on; None shows progress on stderr.
    """
    from lookaround.studies.forecast.forecast import forecast as run
    from lookaround.studies.forecast.forecast import open_forecast

    require_out("forecast", Path(out))
    given = {"corpus": corpus, **options}
    text = _text_of(given)
    with _reporting(report) as tell:
        request = open_forecast(_settings("forecast", given), text, report=tell)
        results = run(request, Path(out), report=tell)
    results.save(Path(out) / "forecast.json")
    results.write_page(Path(out) / "forecast.html")
    return results


@_offers("pretrain")
def pretrain(
    corpus: Text = None,
    *,
    out: str | Path = "lookaround-run",
    report: Report | None = None,
    **options: Any,
) -> PretrainResults:
    """Trains one model with one objective into a folder that transformers loads.

    The same call goes on with an interrupted run, and does nothing for a finished one.

    corpus: a path or several, the name of a dataset of the hub, a dataset of `datasets`, or texts.
    out: folder of the run.
    report: called with an `Event` after each step; None shows progress on stderr.
    """
    from lookaround.studies.pretrain import open_pretraining
    from lookaround.studies.pretrain import pretrain as run

    require_out("pretrain", Path(out))
    given = {"corpus": corpus, **options}
    text = _text_of(given)
    with _reporting(report) as tell:
        request = open_pretraining(_settings("pretrain", given), text, report=tell)
        return run(request, Path(out), report=tell)


@_offers("evaluate")
def evaluate(
    model: str | Path | Model,
    *,
    out: str | Path | None = None,
    mode: str | None = None,
    report: Report | None = None,
    **options: Any,
) -> EvaluationResults:
    """Bits per byte by prefix length, probes on labelled tasks, and sampled continuations.

    model: a run, a Hugging Face folder, or what `load` gives.
    out: a folder for evaluation.json; None writes nothing.
    mode: how the model is read: causal, bidirectional or prefix; None: per need, as compare does.
    report: called with an `Event` as it goes on; None shows progress on stderr.
    """
    from lookaround.studies.evaluate import evaluate as run
    from lookaround.studies.evaluate import open_evaluation

    if out is not None:
        require_place(Path(out))
    folder = model.folder if isinstance(model, Model) else Path(model)
    readable = model.readable if isinstance(model, Model) else None
    text = _text_of(options)
    settings = _settings("evaluate", options)
    with _reporting(report) as tell:
        request = open_evaluation(settings, folder, mode, readable, text, report=tell)
        return run(request, Path(out) if out is not None else None, report=tell)


@_offers("speculate")
def speculate(
    model: str | Path,
    *,
    out: str | Path = "lookaround-speculate",
    report: Report | None = None,
    **options: Any,
) -> SpeculationResults:
    """Several tokens per pass, the same output: heads for a model, a tree, and what they give here.

    model: a run that is read causally, or a decoder's folder or name on the hub.
    out: folder of the faster model.
    report: called with an `Event` as it goes on; None shows progress on stderr.
    """
    from lookaround.studies.speculate.request import open_speculation
    from lookaround.studies.speculate.speculate import speculate as run

    require_out("speculate", Path(out))
    text = _text_of(options)
    settings = _settings("speculate", options)
    with _reporting(report) as tell:
        request = open_speculation(settings, Path(model), text, report=tell)
        return run(request, Path(out), report=tell)


# ---------------------------------------------------------------------------------- single objects


def parse(spec: str) -> Objective:
    """The objective of a spec such as "ar", "mlm(rate=0.4)" or "ar + vmlm".

    Raises UserError naming the part of the spec that is wrong.
    """
    from lookaround.objectives import parse as read

    return read(spec)


@dataclass(frozen=True, repr=False)
class Model:
    """A trained model, ready to be read.

    folder: where it is from.
    readable: its backbone, codec and modes.
    """

    folder: Path
    readable: Readable

    @property
    def lm(self) -> PreTrainedModel:
        """The model that transformers knows."""
        return self.readable.backbone.lm

    @property
    def modes(self) -> tuple[str, ...]:
        """How it was trained to be read."""
        return tuple(map(str, self.readable.modes))

    def generate(
        self, *prompts: str | Sequence[str], seed: int = 0, **options: Any
    ) -> list[Generated]:
        """Continuations of prompts, one each (docs/decoding.md); of no prompt, of an empty text.

        prompts: texts, or lists of them.
        seed: of the draws.
        options: fields of `GenerationConfig`: max_new_tokens, temperature, top_k, top_p ..
        """
        from lookaround.decode import generate

        config = _settings("generate", options).generate
        given = [[item] if isinstance(item, str) else item for item in prompts]
        return generate(self.readable, [*itertools.chain(*given)] or [""], config, seed=seed)

    def __str__(self) -> str:
        parameters = self.readable.backbone.parameter_count
        return f"{self.folder}: {parameters:,} parameters, {'; '.join(self.modes)}"

    __repr__ = __str__


def load(folder: str | Path) -> Model:
    """A run, a model of a study, or a model's folder or name on the Hugging Face hub.

    Raises UserError for what is no model that can be read exactly.
    """
    from lookaround.model.readable import open_run

    return Model(Path(folder), open_run(Path(folder)))
