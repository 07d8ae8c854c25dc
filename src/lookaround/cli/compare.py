"""`lookaround compare`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lookaround.cli.console import Reporter, loading, say, say_notes
from lookaround.cli.options import (
    ALL,
    LIST_OPTION,
    Given,
    command_line,
    job_line,
    takes_settings,
)
from lookaround.studies.folder import require_out
from lookaround.support.errors import UserError
from lookaround.support.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from lookaround.studies.compare.estimate import Estimate
    from lookaround.studies.compare.grid import Listed

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
    jobs_list: Annotated[
        str | None,
        typer.Option(
            LIST_OPTION,
            metavar="[STAGE]",
            help="Print a command for each job, for a scheduler to run; of one stage (rates, "
            "decays, runs) or of all.",
            show_default=False,
        ),
    ] = None,
    job: Annotated[
        str | None,
        typer.Option(
            "--job", metavar="STAGE:N", help="Run one job of that list.", show_default=False
        ),
    ] = None,
    collect: Annotated[
        bool, typer.Option("--collect", help="Say what all jobs of that list have found.")
    ] = False,
) -> None:
    """Runs a study, or a part of it, or says what it would cost."""
    require_out("compare", out)
    settings = given.settings()
    in_parts = {LIST_OPTION: jobs_list is not None, "--job": job is not None, "--collect": collect}
    _require_alone(
        in_parts, {"--dry-run": given.dry_run, "--cluster": settings.compare.cluster is not None}
    )
    if given.json is not None and (jobs_list is not None or job is not None):
        raise UserError("--json: only --collect has results to write; give it there alone")
    if no_samples:
        settings.evaluate.samples = 0
    listing = jobs_list is not None
    with loading("reading the corpus and loading libraries", stderr=listing) as console:
        from lookaround.studies.compare import array
        from lookaround.studies.compare.compare import compare
        from lookaround.studies.compare.estimate import estimate
        from lookaround.studies.compare.study import open_study

        if jobs_list not in (None, ALL):
            array.require_stage(jobs_list)
        place = array.place_of(job) if job is not None else None
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
    if jobs_list is not None:
        listed = array.list_jobs(study, out)
        _print_jobs(console, listed if jobs_list == ALL else {jobs_list: listed[jobs_list]})
        return
    if place is not None:
        with Reporter(console) as progress:
            line = array.run_listed(study, out, *place, report=progress.report)
        say(console, line)
        return
    train, seeds = study.store.index["splits"]["train"], settings.compare.seeds
    what = "training picture" if study.store.codec.grid else "training document"
    say(
        console,
        f"{study.corpus.name}: {counted(train['documents'], what)}, "
        f"{train['tokens']:,} tokens; {counted(len(study.objectives), 'objective')} x "
        f"{counted(seeds, 'seed')} x {counted(len(study.rungs), 'rung')} up to {study.budget} "
        f"into {out}/",
    )
    began = time.monotonic()
    with Reporter(console) as progress:
        run = array.collect if collect else compare
        results = run(study, out, command=command_line(), report=progress.report)
    results.write_page(out / "report.html", samples=not no_samples)
    results.print(console)
    say(
        console,
        f"\n{out / 'report.html'} shows it all; {out / 'results.json'} holds the numbers "
        f"({time.monotonic() - began:.0f} s).",
    )
    given.write(results)


def _require_alone(in_parts: Mapping[str, bool], others: Mapping[str, bool]) -> None:
    """Raises UserError where an option of a study in parts is given beside another or others."""
    given = [name for name, is_given in (*in_parts.items(), *others.items()) if is_given]
    if any(in_parts.values()) and len(given) > 1:
        raise UserError(f"{' and '.join(given)} exclude each other; give one of them")


def _print_jobs(console: Console, stages: Mapping[str, Sequence[Listed]]) -> None:
    """Prints a command for each job by stage, and on the console how many there are."""
    for stage, jobs in stages.items():
        lines = [f"# {stage}"] * (len(stages) > 1 and bool(jobs))
        for line in (*lines, *(job_line(job.name) for job in jobs)):
            print(line)
        say(console, f"{stage}: {counted(len(jobs), 'job')}")


def say_estimate(console: Console, cost: Estimate, jobs: int) -> None:
    """Prints what a study or a run is made of and what it will cost."""
    from lookaround.report.text import format_count, format_flops, format_seconds

    corpus = cost.corpus
    what, size = "picture", ""
    if corpus["bytes"]:
        what, size = "document", f", {format_count(corpus['bytes'])} bytes"
    say(
        console,
        f"corpus            {counted(corpus['documents'], what)}{size}; "
        f"{counted(corpus['duplicates'], 'duplicate')} left out; "
        f"{counted(corpus['training_documents'], f'training {what}')}, "
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
