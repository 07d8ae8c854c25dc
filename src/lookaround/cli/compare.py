"""`lookaround compare`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lookaround.cli.console import Reporter, counted, loading, say
from lookaround.cli.options import Given, command_line, takes_settings
from lookaround.support.storage import require_place

if TYPE_CHECKING:
    from rich.console import Console

    from lookaround.studies.compare.study import Estimate


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
    require_place(out)
    settings = given.settings()
    if no_samples:
        settings.evaluate.samples = 0
    with loading("reading the corpus and loading libraries") as console:
        from lookaround.studies.compare.compare import compare
        from lookaround.studies.compare.study import estimate, open_study

        study = open_study(settings)
    if given.dry_run:
        with loading("timing a few steps"):
            cost = estimate(study)
        say_estimate(console, cost, study.jobs)
        given.write(vars(cost))
        return
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
    """Prints what training will cost."""
    say(console, f"parameters        {cost.parameters:,}")
    for spec, flops in cost.flops_per_run.items():
        say(console, f"a run of {spec}: {cost.steps_per_run[spec]:,} steps, {flops:.3g} FLOPs")
    say(
        console,
        f"FLOPs in all      {cost.flops:.3g} (all runs, rungs and the search of learning rates)\n"
        f"memory            about {cost.memory_bytes / 2**30:.2f} GiB for each of {jobs} "
        "processes, beside about 1 GiB of libraries\n"
        f"training time     about {cost.seconds / 60:.1f} min on this machine; evaluation comes on "
        "top",
    )
