"""`lookaround compare`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lookaround.cli.console import Reporter, counted, loading, say, say_notes
from lookaround.cli.options import Given, command_line, takes_settings
from lookaround.studies.folder import require_out

if TYPE_CHECKING:
    from rich.console import Console

    from lookaround.studies.compare.estimate import Estimate

MANY_EPOCHS = 50  # of the training text, from which a word of warning is due


@takes_settings("compare", argument="data.corpus")
def command(
    given: Given,
    out: Annotated[
        Path, typer.Option(help="Folder of the study; the same command resumes it.")
    ] = Path("lookaround-compare"),
    no_samples: Annotated[
        bool, typer.Option("--no-samples", help="Keep all text out of results and report.")
    ] = False,
) -> None:
    """Runs a study, or says what it would cost."""
    require_out("compare", out)
    settings = given.settings()
    if no_samples:
        settings.evaluate.samples = 0
    with loading("reading the corpus and loading libraries") as console:
        from lookaround.studies.compare.compare import compare
        from lookaround.studies.compare.estimate import estimate
        from lookaround.studies.compare.study import open_study
    with Reporter(console, passing=True) as progress:
        study = open_study(settings, report=progress.report)
    say_notes(console, (*study.corpus.told, *study.store.notes))
    if given.dry_run:
        with loading("timing a few steps and a little of the evaluation"):
            cost = estimate(study)
        say_estimate(console, cost, study.jobs)
        given.write(vars(cost))
        return
    say_tasks(console, study.described_tasks)
    train, seeds = study.store.index["splits"]["train"], settings.compare.seeds
    say(
        console,
        f"{study.corpus.name}: {counted(train['documents'], 'training document')}, "
        f"{train['tokens']:,} tokens; {counted(len(study.objectives), 'objective')} x "
        f"{counted(seeds, 'seed')} x {counted(len(study.rungs), 'rung')} up to {study.budget} "
        f"into {out}/",
    )
    began = time.monotonic()
    with Reporter(console) as progress:
        results = compare(study, out, command=command_line(), report=progress.report)
    results.write_page(out / "report.html", samples=not no_samples)
    results.print(console)
    say(
        console,
        f"\n{out / 'report.html'} shows it all; {out / 'results.json'} holds the numbers "
        f"({time.monotonic() - began:.0f} s).",
    )
    given.write(results)


def say_estimate(console: Console, cost: Estimate, jobs: int) -> None:
    """Prints what a study or a run is made of and what it will cost."""
    from lookaround.report.text import format_count, format_flops, format_seconds

    corpus = cost.corpus
    say(
        console,
        f"corpus            {counted(corpus['documents'], 'document')}, "
        f"{format_count(corpus['bytes'])} bytes; {counted(corpus['duplicates'], 'duplicate')} left "
        f"out; {counted(corpus['training_documents'], 'training document')}, "
        f"{corpus['training_tokens']:,} tokens; vocabulary {corpus['vocabulary']:,}",
    )
    say_tasks(console, cost.tasks)
    say(console, f"parameters        {cost.parameters:,}")
    for spec, flops in cost.flops_per_run.items():
        say(
            console,
            f"a run of {spec}: {cost.steps_per_run[spec]:,} steps, "
            f"{format_count(cost.tokens_per_run[spec])} tokens, "
            f"{format_epochs(cost.epochs_per_run[spec])}, {format_flops(flops)}",
        )
    say(
        console,
        f"FLOPs in all      {format_flops(cost.flops)} (all runs, rungs and the search of learning "
        f"rates)\nmemory            about {cost.memory_bytes / 2**30:.2f} GiB for each of {jobs} "
        "processes, beside about 1 GiB of libraries\n"
        f"training time     about {format_seconds(cost.seconds)} on this machine",
    )
    if cost.evaluation_seconds:
        say(
            console,
            f"evaluation time   about {format_seconds(cost.evaluation_seconds)} on top, for the "
            "protocols asked for (--protocols)",
        )
    most = max(cost.epochs_per_run.values())
    if most > MANY_EPOCHS:
        say(
            console,
            f"{format_epochs(most)}: the corpus is read very often at this budget; autoregressive "
            "models start to get worse after some tens of epochs (arXiv 2507.15857), so read the "
            "lower rungs too, or give more text",
        )


def say_tasks(console: Console, tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints what tasks are (`Study.described_tasks`), and below each how it was read."""
    for name, task in tasks.items():
        columns = f"; columns {', '.join(task['columns'])}" if task["columns"] else ""
        classes = f"{task['classes']:,} classes, " if task["classes"] else ""
        what = (
            f"task {name}: {classes}{task['train']:,} training and {task['test']:,} test examples, "
            f"{task['metric']}{columns}"
        )
        say_notes(console, (what, *task["notes"]))


def format_epochs(epochs: float) -> str:
    """How often a text is read: 0.04 epochs, 12 epochs."""
    return f"{epochs:,.0f} epochs" if epochs >= 10 else f"{epochs:.2g} epochs"
