"""The command line. Heavy libraries are imported inside commands, so that `--help` answers at
once.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lookaround.support.errors import Interrupted, UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from lookaround.settings import Settings
    from lookaround.studies.events import Event

app = typer.Typer(
    name="lookaround",
    help="Which self-supervised objective should you pretrain with, on your data and at your "
    "budget?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Corpus = Annotated[
    str | None,
    typer.Argument(
        help="Text: .txt .jsonl .csv .tsv .parquet (.gz .xz .zst), a folder of those, or a "
        "datasets name."
    ),
]
Config = Annotated[Path | None, typer.Option(help="A YAML file of settings.", show_default=False)]
Assign = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting, a.b=c; repeatable.", show_default=False),
]
Json = Annotated[
    Path | None,
    typer.Option("--json", help="Also write the result here as JSON.", show_default=False),
]
Seed = Annotated[
    int | None, typer.Option(help="Seed of data order, draws and weights.", show_default="0")
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task", help="Labelled texts: a csv/tsv/jsonl file or a folder per class; repeatable."
    ),
]
Column = Annotated[
    str | None, typer.Option(help="Column or field that holds the text.", show_default="found")
]
Tokenizer = Annotated[
    str | None,
    typer.Option(help="A Hugging Face tokenizer.", show_default="a byte-level BPE trained here"),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--model", help="pico, nano, tiny, mini, small (30M) or base (110M).", show_default="nano"
    ),
]
Init = Annotated[
    str | None, typer.Option(help="Continue from this Hugging Face decoder.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what it would cost, and stop.")]


@app.command()
def compare(
    corpus: Corpus = None,
    task: Tasks = None,
    objectives: Annotated[
        str | None,
        typer.Option(
            help='E.g. "ar, mlm(rate=0.4), ar + vmlm".', show_default="ar, mlm, dar, vmlm"
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs per objective.", show_default="1")] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Of each run: 5M (tokens of ar), 2e15flops or 300s.", show_default="a few minutes"
        ),
    ] = None,
    equal: Annotated[
        str | None,
        typer.Option(help="What is equal: flops, tokens or seconds.", show_default="flops"),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the study; the same command resumes it.")
    ] = Path("lookaround-compare"),
    model: Preset = None,
    init: Init = None,
    tokenizer: Tokenizer = None,
    text_column: Column = None,
    jobs: Annotated[
        int | None, typer.Option(help="Processes.", show_default="one per core")
    ] = None,
    no_samples: Annotated[
        bool, typer.Option("--no-samples", help="Keep all text out of results and report.")
    ] = False,
    dry_run: DryRun = False,
    seed: Seed = None,
    config: Config = None,
    set_: Assign = None,
    json_: Json = None,
) -> None:
    """Train several objectives at equal budget, evaluate classification and generation, and
    recommend one per need.
    """
    _check_outputs(json_, folder=out)
    settings = _settings(
        config,
        set_,
        seed,
        {
            "data.corpus": corpus,
            "data.text_column": text_column,
            "data.tokenizer": tokenizer,
            "model.preset": model,
            "model.init": init,
            "data.tasks": task or None,
            "objectives": objectives,
            "compare.seeds": seeds,
            "compare.budget": budget,
            "compare.equal": equal,
            "compare.jobs": jobs,
            "evaluate.samples": 0 if no_samples else None,
        },
    )
    with _loading("reading the corpus and loading libraries") as console:
        from lookaround.studies.compare.compare import compare as run_study
        from lookaround.studies.compare.study import estimate, open_study

        study = open_study(settings)
    if dry_run:
        with console.status("counting"):
            cost = estimate(study)
        _print_estimate(console, cost, study.jobs)
        _write_json(json_, vars(cost))
        return
    train = study.store.index["splits"]["train"]
    _say(
        console,
        f"{study.corpus.name}: {train['documents']:,} training documents, {train['tokens']:,} "
        "tokens; "
        f"{len(study.objectives)} objectives x {settings.compare.seeds} "
        f"seed{'s' * (settings.compare.seeds > 1)} "
        f"x {len(study.rungs)} rungs up to {study.budget} into {out}/",
    )
    began = time.monotonic()
    with _Progress(console, lines="jobs") as progress:
        results = run_study(study, out, command=_command(), report=progress.report)
    results.write_page(out / "report.html", samples=not no_samples)
    results.print(console)
    _say(
        console,
        f"\n{out / 'report.html'} shows it all; {out / 'results.json'} holds the numbers "
        f"({time.monotonic() - began:.0f} s).",
    )
    _write_json(json_, results)


@app.command()
def forecast(
    corpus: Corpus = None,
    task: Tasks = None,
    objectives: Annotated[
        str | None,
        typer.Option(
            help='E.g. "ar, mlm(rate=0.4), ar + vmlm".', show_default="ar, mlm, dar, vmlm"
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            help="Visible tokens of a context: 1 = a token, 2 = a bigram.", show_default="1"
        ),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="Singular values kept.", show_default="128")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the forecast; the same command resumes it.")
    ] = Path("lookaround-forecast"),
    tokenizer: Tokenizer = None,
    text_column: Column = None,
    dry_run: DryRun = False,
    seed: Seed = None,
    config: Config = None,
    set_: Assign = None,
    json_: Json = None,
) -> None:
    """What the corpus says before any training: each objective's co-occurrence spectrum on a
    corpus, and probes, beside three controls.
    """
    _check_outputs(json_, folder=out)
    settings = _settings(
        config,
        set_,
        seed,
        {
            "data.corpus": corpus,
            "data.text_column": text_column,
            "data.tokenizer": tokenizer,
            "data.tasks": task or None,
            "objectives": objectives,
            "forecast.context": context,
            "forecast.rank": rank,
        },
    )
    with _loading("reading the corpus and loading libraries") as console:
        from lookaround.studies.forecast.forecast import cost, open_forecast
        from lookaround.studies.forecast.forecast import forecast as run_forecast
        from lookaround.train.loop import stop_on_signals

        plan = open_forecast(settings)
    estimate = cost(plan)
    if dry_run:
        for name, value in estimate.items():
            _say(console, f"{name:<24}{value}")
        _write_json(json_, estimate)
        return
    train = plan.store.index["splits"]["train"]
    _say(
        console,
        f"{plan.corpus}: {train['documents']:,} training documents, {train['tokens']:,} tokens, "
        "vocabulary "
        f"{plan.store.index['vocabulary']:,}; {len(plan.objectives)} objectives, {len(plan.data)} "
        "tasks",
    )
    with stop_on_signals() as stop, _Progress(console) as progress:
        result = run_forecast(plan, out, stop=stop, report=progress.report)
    result.save(out / "forecast.json")
    result.write_page(out / "forecast.html")
    result.print(console)
    _say(
        console,
        f"\n{out / 'forecast.html'} shows it with the spectra; {out / 'forecast.json'} holds the "
        "numbers "
        f"({result.seconds.all:.0f} s, of which {result.seconds.counting:.0f} s "
        "counting).",
    )
    _write_json(json_, result)


@app.command()
def pretrain(
    corpus: Corpus = None,
    objective: Annotated[
        str, typer.Option(help='E.g. "ar", "0.25*ar >> 0.75*mlm(rate=0.4)".')
    ] = "ar",
    budget: Annotated[str, typer.Option(help="5M (tokens), 2e15flops or 300s.")] = "5M",
    out: Annotated[
        Path, typer.Option(help="Folder of the run; the same command resumes it.")
    ] = Path("lookaround-run"),
    as_: Annotated[
        str | None,
        typer.Option(
            "--as", help="llama, or eurobert for fill-mask.", show_default="what fits the objective"
        ),
    ] = None,
    model: Preset = None,
    init: Init = None,
    tokenizer: Tokenizer = None,
    text_column: Column = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate.", show_default="by width")
    ] = None,
    dry_run: DryRun = False,
    seed: Seed = None,
    config: Config = None,
    set_: Assign = None,
    json_: Json = None,
) -> None:
    """Train one model with one objective into a folder that transformers loads.

    Works under torchrun.
    """
    _check_outputs(json_, folder=out)
    settings = _settings(
        config,
        set_,
        seed,
        {
            "data.corpus": corpus,
            "data.text_column": text_column,
            "data.tokenizer": tokenizer,
            "model.preset": model,
            "model.init": init,
            "train.learning_rate": learning_rate,
        },
    )
    from lookaround.objectives import parse, require_for_text

    chosen = parse(objective)
    require_for_text([chosen])
    follower = int(os.environ.get("RANK", 0)) > 0
    with _loading("reading the corpus and loading libraries", quiet=follower) as console:
        from lookaround.data.corpus import read_corpus
        from lookaround.data.stdlib import stdlib_corpus
        from lookaround.model.export import require_form
        from lookaround.studies.compare.study import estimate, open_store, open_study
        from lookaround.studies.events import report_step
        from lookaround.studies.pretrain import pretrain as train
        from lookaround.train.budget import parse_budget
        from lookaround.train.loop import stop_on_signals
        from lookaround.train.parallel import world

        amount = parse_budget(budget)
        source = settings.data.corpus
        text = (
            stdlib_corpus()
            if source is None
            else read_corpus(source, text_column=settings.data.text_column)
        )
        require_form(as_, chosen.modes(), "llama")
    if dry_run:
        one = settings.model_copy(deep=True)
        one.objectives, one.compare.budget, one.compare.ladder = objective, budget, [1.0]
        one.compare.lr_factors, one.compare.equal = (
            [1.0],
            "tokens" if amount.unit == "tokens" else None,
        )
        cost = estimate(open_study(one))
        _print_estimate(console, cost, 1)
        _write_json(json_, vars(cost))
        return

    with (
        world() as processes,
        stop_on_signals() as stop,
        _Progress(console, lines="steps") as progress,
    ):
        if not processes.main:
            processes.barrier()  # one process writes the token shards, the others find them
        store = open_store(text, settings)
        if processes.main:
            processes.barrier()
        step = partial(report_step, progress.report, chosen.spec)
        info = train(
            settings, chosen, amount, store, out, form=as_, world=processes, stop=stop, report=step
        )
        main = processes.main
    spent = info.spent
    _say(
        console,
        f"{out}: {chosen.spec} finished after {spent.step:,} steps, {spent.tokens:,} "
        f"tokens, {spent.targets:,} targets, {spent.flops:.3g} FLOPs, {spent.seconds:.0f} s",
    )
    if main:
        _write_json(json_, info)


@app.command()
def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="A run, or a Hugging Face decoder or EuroBERT folder.", show_default=False
        ),
    ],
    corpus: Annotated[
        str | None,
        typer.Option(help="Text for bits per byte.", show_default="the run's own test part"),
    ] = None,
    task: Tasks = None,
    mode: Annotated[
        str | None,
        typer.Option(
            help="causal, bidirectional or prefix.", show_default="per half, as compare does"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write evaluation.json into this folder.", show_default=False),
    ] = None,
    text_column: Column = None,
    dry_run: DryRun = False,
    seed: Seed = None,
    config: Config = None,
    set_: Assign = None,
    json_: Json = None,
) -> None:
    """Bits per byte by prefix length, probes on labelled tasks, and sampled continuations of one
    model.
    """
    _check_outputs(json_, folder=out)
    settings = _settings(
        config,
        set_,
        seed,
        {
            "data.corpus": corpus,
            "data.text_column": text_column,
            "data.tasks": task or None,
            "evaluate.generation_mode": mode,
            "evaluate.classification_mode": mode,
        },
    )
    with _loading("loading") as console:
        from lookaround.data.tasks import read_tasks
        from lookaround.evaluation.baselines import baselines, run_baselines
        from lookaround.evaluation.own_text import text_data
        from lookaround.evaluation.registry import TaskData, TextData, protocols, task_data
        from lookaround.evaluation.registry import evaluate as run_protocols
        from lookaround.model.readable import open_run
        from lookaround.report.schema import EvaluationResults

        run = open_run(model)
        if mode:
            run.require_mode(mode)
        metrics = dict(settings.data.metrics)
        tasks = read_tasks(settings.data.tasks, metrics=metrics) if settings.data.tasks else []
        text = text_data(run, settings.data)
        data: list[TaskData | TextData] = [task_data(item, settings.evaluate) for item in tasks]
        data += [text] if text else []
        if not data:
            raise UserError(
                f"{model}: nothing to evaluate on; give --corpus TEXT, --task FILE or both"
            )
        known = protocols()
        costs = [
            protocol.cost(item, settings.evaluate)
            for item in data
            for protocol in known.values()
            if protocol.accepts(item)
        ]
    if dry_run:
        tokens, texts = (sum(cost.get(kind, 0) for cost in costs) for kind in ("tokens", "texts"))
        parameters = run.backbone.parameter_count
        _say(
            console,
            f"{parameters:,} parameters; {tokens:,} tokens to score, {texts:,} texts to embed",
        )
        _write_json(json_, {"parameters": parameters, "tokens": tokens, "texts": texts})
        return
    with console.status("evaluating"):
        evaluation = run_protocols(run, data, settings.evaluate, settings.seed)
        floor = {item.name: run_baselines(item, settings.evaluate) for item in data}
    for item in data:
        of_model = {
            name: on[item.name] for name, on in evaluation.scores.items() if item.name in on
        }
        for name, scores in (of_model | floor[item.name]).items():
            protocol = (known | baselines())[name]
            for line in protocol.lines(item.name, scores, evaluation.modes.get(name, "")):
                _say(console, line)
    result: dict[str, Any] = {
        "model": str(model),
        "baselines": {
            task: {name: scores.value for name, scores in line.items()}
            for task, line in floor.items()
            if task
        },
    }
    result |= {f"{need}_mode": mode for need, mode in evaluation.by_need().items()}
    for name, protocol in known.items():
        result |= protocol.entry(evaluation.scores[name], settings.evaluate, whole=True)
    found = EvaluationResults.of(result)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        found.save(out / "evaluation.json")
    _write_json(json_, found)


@app.command()
def speculate(
    model: Annotated[
        Path,
        typer.Argument(
            help="A causal run, or any Hugging Face decoder folder.", show_default=False
        ),
    ],
    corpus: Annotated[
        str | None,
        typer.Option(
            help="Text like that of your use.",
            show_default="the run's own, else what the model writes itself",
        ),
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(
            help="medusa, medusa-own, hydra, linear, sequential or shared.",
            show_default="the model's own, else hydra",
        ),
    ] = None,
    depths: Annotated[
        int | None, typer.Option(help="Tokens drafted beyond the next one.", show_default="4")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Of the heads' training: 2M (tokens) or 1e15flops.", show_default="2M"),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Tokens of the model's own samples to learn from; 0: none.", show_default="200000"
        ),
    ] = None,
    joint: Annotated[
        bool,
        typer.Option("--joint", help="After the heads, train heads and model together (Medusa-2)."),
    ] = False,
    lora: Annotated[
        int | None,
        typer.Option(help="Rank of adapters in joint training (needs peft).", show_default="none"),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the faster model; the same command resumes.")
    ] = Path("lookaround-speculate"),
    text_column: Column = None,
    dry_run: DryRun = False,
    seed: Seed = None,
    config: Config = None,
    set_: Assign = None,
    json_: Json = None,
) -> None:
    """Several tokens per pass, the same output: train heads for a model, build the tree, measure,
    write a folder.
    """
    _check_outputs(json_, folder=out)
    settings = _settings(
        config,
        set_,
        seed,
        {
            "data.corpus": corpus,
            "data.text_column": text_column,
            "speculate.heads": heads,
            "speculate.depths": depths,
            "speculate.budget": budget,
            "speculate.samples": samples,
            "speculate.joint": joint or None,
            "speculate.lora": lora,
        },
    )
    with _loading("loading the model and reading the text") as console:
        from lookaround.studies.speculate.speculate import open_speculation
        from lookaround.studies.speculate.speculate import speculate as run_speculation
        from lookaround.train.loop import stop_on_signals

        plan = open_speculation(settings, model)
    parameters = sum(p.numel() for p in plan.run.backbone.lm.parameters())
    what = plan.kind or f"its own {plan.run.backbone.head_specs[0].kind}"
    _say(
        console,
        f"{model}: {parameters:,} parameters, {what} heads; {plan.corpus}: {len(plan.train):,} "
        "training documents, "
        f"{len(plan.calibrate)} + {len(plan.measure)} held-out prompts; into {out}/",
    )
    if dry_run:
        chosen = settings.speculate
        cost = {
            "parameters": parameters,
            "samples": chosen.samples if plan.kind else 0,
            "budget": chosen.budget if plan.kind else None,
        }
        _say(console, f"samples {cost['samples']:,} tokens; training {cost['budget']}")
        _write_json(json_, cost)
        return
    with stop_on_signals() as stop, _Progress(console, lines="stages") as progress:
        result = run_speculation(plan, out, stop=stop, report=progress.report)
    result.print(console)
    _say(
        console,
        f"\n{out}: loads as a plain model; fast with trust_remote_code=True, or lookaround "
        f"generate {out}",
    )
    _write_json(json_, result)


@app.command()
def generate(
    model: Annotated[
        Path,
        typer.Argument(
            help="A run, or a Hugging Face decoder or EuroBERT folder.", show_default=False
        ),
    ],
    prompt: Annotated[
        list[str] | None, typer.Argument(help="Texts to continue.", show_default="one empty text")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="0: all.")] = 0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0)] = 1.0,
    mode: Annotated[
        str | None,
        typer.Option(help="causal, bidirectional or prefix.", show_default="causal if trained"),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="End a text after this string; repeatable.", show_default=False),
    ] = None,
    show_drafts: Annotated[
        bool, typer.Option("--show-drafts", help="Colour the tokens that were accepted drafts.")
    ] = False,
    order: Annotated[
        str,
        typer.Option(help="Masked models: left, or confidence (the most certain tokens first)."),
    ] = "left",
    per_pass: Annotated[
        int, typer.Option(min=1, help="Masked models: tokens filled in per pass.")
    ] = 1,
    accept: Annotated[
        str,
        typer.Option(help="exact, or typical: faster when sampling, but changes the distribution."),
    ] = "exact",
    out: Annotated[
        Path | None, typer.Option(help="Write the texts to this file.", show_default=False)
    ] = None,
    dry_run: DryRun = False,
    seed: Seed = None,
    config: Config = None,
    set_: Assign = None,
    json_: Json = None,
) -> None:
    """Continue texts with a model of any objective; several tokens per pass where it has heads that
    look ahead.
    """
    _check_outputs(json_, file=out)
    if not math.isfinite(temperature):
        raise UserError(f"--temperature {temperature}: must be a finite number")
    if top_p == 0:
        raise UserError("--top-p 0: must be above 0, or no token would be left")
    if accept not in ("exact", "typical"):
        raise UserError(f"--accept {accept}: must be exact or typical")
    for text in prompt or []:
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UserError(f"prompt {text!r}: not UTF-8")
    settings = _settings(config, set_, seed, {})
    with _loading("loading") as console:
        from lookaround.decode.writer import Writer
        from lookaround.evaluation.modes import generation_mode
        from lookaround.model.readable import open_run
        from lookaround.support.storage import write_text

        run = open_run(model)
        chosen = run.require_mode(mode) if mode else generation_mode(run.final_modes)
        writer = Writer(
            run,
            model,
            chosen,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            stop=stop or [],
            rule=accept,
            order=order,
            per_pass=per_pass,
            seed=settings.seed,
        )
    if dry_run:
        parameters = run.backbone.parameter_count
        _say(
            console,
            f"{parameters:,} parameters; {chosen}; window {run.context}; {writer.description}",
        )
        _write_json(json_, {"parameters": parameters, "mode": str(chosen), "window": run.context})
        return
    if show_drafts and not writer.drafts:
        raise UserError(
            f"--show-drafts: {model} has no heads that look ahead (or is not read causally)"
        )
    texts: list[dict[str, Any]] = []
    for text in prompt or [""]:
        _say(console, text, end="", style="dim")
        for piece, drafted in writer.write(text):
            _say(console, piece, end="", style="green" if show_drafts and drafted else None)
        console.print()
        entry: dict[str, Any] = {
            "prompt": text,
            "continuation": writer.text,
            "tokens": len(writer.tokens),
        }
        if writer.stats is not None:
            entry["tokens_per_forward"] = writer.stats.tokens_per_forward
            entry["acceptance_by_depth"] = writer.stats.acceptance_by_depth
        if writer.filled is not None:
            bits, slow = writer.cost(text)
            entry |= {
                "passes": writer.filled.passes,
                "bits_per_token": bits,
                "bits_per_token_one_per_pass": slow,
            }
            _say(
                console,
                f"[{writer.filled.passes} passes; {bits:.2f} bits per token by the model's own "
                "law from left to right, "
                f"{slow:.2f} for a text made one token per pass]",
                style="dim",
            )
        texts.append(entry)
        if show_drafts and writer.stats is not None:
            shares = ", ".join(f"{share:.2f}" for share in writer.stats.acceptance_by_depth)
            _say(
                console,
                f"[{writer.stats.tokens_per_forward:.2f} tokens per forward; accepted by depth "
                f"{shares}; green: accepted drafts]",
                style="dim",
            )
    if out is not None:
        write_text(out, "\n\n".join(item["prompt"] + item["continuation"] for item in texts) + "\n")
    _write_json(json_, {"model": str(model), "mode": str(chosen), "texts": texts})


@app.command()
def synthetic(
    task: Annotated[
        list[str] | None,
        typer.Option(
            help='E.g. "pathstar(2,5)", "addition(3)", "countdown(3,50)"; repeatable.',
            show_default="the preset's",
        ),
    ] = None,
    objectives: Annotated[
        str | None,
        typer.Option(
            help='E.g. "ar, reverse, mtp(n=4, weights=1.0)".', show_default="the preset's"
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Runs per task and objective.", show_default="the preset's")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Of every run, at most.", show_default="the preset's")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="cpu (40 minutes on two cores), full (all objectives) or gpu.")
    ] = "cpu",
    out: Annotated[
        Path, typer.Option(help="Folder of the grid; the same command resumes it.")
    ] = Path("lookaround-synthetic"),
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="pico, nano, tiny, mini, small or base.", show_default="the preset's"
        ),
    ] = None,
    init: Init = None,
    control: Annotated[
        bool | None,
        typer.Option(
            "--control/--no-control",
            help="Also train ar on answers that end with the first hop.",
            show_default="the preset's",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Processes.", show_default="one per core")
    ] = None,
    dry_run: DryRun = False,
    seed: Seed = None,
    config: Config = None,
    set_: Assign = None,
    json_: Json = None,
) -> None:
    """Does an objective look ahead?

    Trains every one on synthetic tasks, where next-token prediction guesses.
    """
    _check_outputs(json_, folder=out)
    with _loading("loading libraries") as console:
        from lookaround.studies.synthetic.grid import (
            PRESETS,
            estimate,
            folder_of,
            open_grid,
            run_grid,
        )

    if preset not in PRESETS:
        raise UserError(f"--preset {preset}: unknown; known are {', '.join(PRESETS)}")
    settings = _settings(
        config,
        set_,
        seed,
        {
            "synthetic.tasks": task or None,
            "synthetic.objectives": objectives,
            "synthetic.seeds": seeds,
            "synthetic.steps": steps,
            "synthetic.jobs": jobs,
            "synthetic.control": control,
            "model.preset": model,
            "model.init": init,
        },
        PRESETS[preset],
    )
    grid = open_grid(settings)
    folder_of(grid, out).require()
    with console.status("timing a few steps of each run"):
        cost = estimate(grid)
    _print_grid_estimate(console, cost)
    if dry_run:
        _write_json(json_, vars(cost))
        return
    began = time.monotonic()
    with _Progress(console, lines="jobs") as progress:
        results = run_grid(grid, out, command=_command(), report=progress.report)
    results.write_page(out / "synthetic.html")
    console.print()
    results.print(console)
    _say(
        console,
        f"\n{out / 'synthetic.html'} shows it with the learning curves; {out / 'results.json'} "
        "holds the "
        f"numbers ({time.monotonic() - began:.0f} s).",
    )
    _write_json(json_, results)


@app.command()
def report(
    results: Annotated[
        Path, typer.Argument(help="results.json, or the folder of a study.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page to write.",
            show_default="report.html or synthetic.html beside the results",
        ),
    ] = None,
    no_samples: Annotated[
        bool, typer.Option("--no-samples", help="Keep sampled text out of the page.")
    ] = False,
    dry_run: DryRun = False,
    seed: Seed = None,
    config: Config = None,
    set_: Assign = None,
    json_: Json = None,
) -> None:
    """Print the table of a finished study and write its HTML page again."""
    _check_outputs(json_, file=out)
    _settings(config, set_, seed, {})
    from rich.console import Console

    from lookaround.report import load_results

    console = Console()
    loaded = load_results(results)
    loaded.print(console)
    if not dry_run:
        page = out or (results if results.is_dir() else results.parent) / loaded.page
        loaded.write_page(page, samples=not no_samples)
        _say(console, f"\n{page}")
        _write_json(json_, loaded)


# ------------------------------------------------------------------------------------------ helpers


def _settings(
    config: Path | None,
    assignments: list[str] | None,
    seed: int | None,
    options: dict[str, Any],
    defaults: dict[str, Any] | None = None,
) -> Settings:
    from lookaround.settings import read_settings

    return read_settings(config, assignments, defaults, seed=seed, **options)


def _check_outputs(
    json_: Path | None, *, file: Path | None = None, folder: Path | None = None
) -> None:
    """Refuses places that cannot be written to before any work is done."""
    for option, path in (("--json", json_), ("--out", file)):
        if path is not None and path.is_dir():
            raise UserError(f"{option} {path}: is a folder; give the name of a file")
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{option} {path}: there is no folder '{path.parent}'")
    if folder is not None:
        from lookaround.support.storage import require_place

        require_place(folder)


def _command() -> str:
    """The command as a shell would take it again."""
    return shlex.join(["lookaround", *sys.argv[1:]])


@contextmanager
def _loading(what: str, quiet: bool = False) -> Iterator[Console]:
    """A console, which shows `what` for the length of the block;

    quiet: it prints nothing.

    Keeps progress bars and load reports of transformers and datasets off the screen.
    """
    from rich.console import Console

    console = Console(quiet=quiet)
    with console.status(what):
        import datasets
        import transformers

        datasets.disable_progress_bars()
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        yield console


def _say(console: Console, text: str, *, end: str = "\n", style: str | None = None) -> None:
    """Prints text as it is: no markup is read in it, and no line of it is broken."""
    console.print(text, end=end, style=style, markup=False, highlight=False, soft_wrap=True)


def _write_json(path: Path | None, value: Any) -> None:
    if path is None:
        return
    from lookaround.report.schema import Record
    from lookaround.support.storage import write_text

    data = value.as_dict() if isinstance(value, Record) else value
    write_text(path, json.dumps(data, indent=1) + "\n")


def _print_estimate(console: Console, cost: Any, jobs: int) -> None:
    lines = [
        f"parameters        {cost.parameters:,}",
        *(
            f"a run of {spec}: {cost.steps_per_run[spec]:,} steps, {flops:.3g} FLOPs"
            for spec, flops in cost.flops_per_run.items()
        ),
        f"FLOPs in all      {cost.flops:.3g} (all runs, rungs and the search of learning rates)",
        f"memory            about {cost.memory_bytes / 2**30:.2f} GiB for each of {jobs} "
        "processes, beside about 1 GiB of libraries",
        f"training time     about {cost.seconds / 60:.1f} min on this machine; evaluation comes "
        "on top",
    ]
    for line in lines:
        _say(console, line)


def _print_grid_estimate(console: Console, cost: Any) -> None:
    from lookaround.report import format_seconds

    tasks, names = (max(len(run[field]) for run in cost.by_run) for field in ("graph", "objective"))
    for run in cost.by_run:
        step = run["seconds_per_step"]
        _say(
            console,
            f"  {run['graph']:<{tasks}}  {run['objective']:<{names}}  {run['parameters']:>11,} "
            "parameters  "
            + (f"{1000 * step:6.1f} ms a step" if step < 1 else f"{step:6.1f} s a step"),
        )
    _say(
        console,
        f"{cost.runs} runs of at most {cost.steps:,} steps, {cost.jobs} at a time: "
        f"{cost.flops:.3g} FLOPs, "
        f"{format_seconds(cost.seconds)} of training and about "
        f"{format_seconds(cost.scoring_seconds)} of scoring at most; "
        "runs that solve their task end sooner",
    )


class _Progress:
    """A bar per stage and per running job, with what it notes and the time left; on no terminal,
    lines.

    lines: printed where there is no terminal: "stages" = one for each that has ended, "steps" = one
        every half minute. "jobs" = a line for each finished job, on a terminal too, and the time
        that the study has taken.
    """

    def __init__(
        self, console: Console, lines: Literal["jobs", "stages", "steps"] | None = None
    ) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.console, self.lines = console, lines
        counted = TimeElapsedColumn() if lines == "jobs" else MofNCompleteColumn()
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(24),
            counted,
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}
        self.began = self.last = time.monotonic()
        if lines == "jobs":
            self._show("study", 0, None, "starting processes")

    def __enter__(self) -> _Progress:
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def _show(self, name: str, done: int, total: int | None, note: str) -> None:
        if name not in self.tasks:
            self.tasks[name] = self.bar.add_task(name, total=total, note="")
        self.bar.update(self.tasks[name], completed=done, total=total, note=note)

    def report(self, event: Event) -> None:
        now = time.monotonic()
        if event.finished:
            _say(self.console, f"  {now - self.began:5.0f} s  {event.finished}")
            return
        note = event.note or f"{event.done} of {event.total} jobs" * (not event.stage)
        self._show(event.stage or "study", event.done, event.total, note)
        if not self.console.is_terminal:
            if self.lines == "stages" and event.done == event.total:
                _say(self.console, f"  {now - self.began:5.0f} s  {event.stage}  {event.note}")
            if self.lines == "steps" and now - self.last > 30:
                self.last = now
                _say(self.console, f"step {event.done} of {event.total}, {event.note}")
        running = {f"  {job.job}": job for job in event.running}
        for name in [name for name in self.tasks if name.startswith("  ") and name not in running]:
            self.bar.remove_task(self.tasks.pop(name))
        for name, job in running.items():
            rate = f", {job.tokens_per_second:,.0f} tokens/s" if job.tokens_per_second else ""
            self._show(name, job.step, job.total, job.phase + rate)


def main() -> None:
    """Entry point: user errors become one line and exit code 2, an interrupted run 130."""
    try:
        code = app(standalone_mode=False) or 0
        # what the argument parser makes of a Ctrl-C that no run listened to
        if code == 130:
            print("stopped", file=sys.stderr)
        sys.exit(code)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as error:
        print(f"stopped: {error}", file=sys.stderr)
        sys.exit(130)
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if not hasattr(
            error, "format_message"
        ):  # what the argument parser raises, whoever vendors it
            raise
        if not str(error) and hasattr(error, "ctx"):  # no arguments: the help was what was wanted
            error.show()  # type: ignore[attr-defined]
        else:
            print(f"error: {' '.join(error.format_message().split())}", file=sys.stderr)
        sys.exit(2)
