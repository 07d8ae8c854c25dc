"""`lookaround synthetic`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lookaround.cli.console import Reporter, loading, say
from lookaround.cli.options import Given, command_line, takes_settings
from lookaround.report.text import format_seconds
from lookaround.studies.folder import require_out
from lookaround.support.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from lookaround.studies.synthetic.grid import GridEstimate


@takes_settings("synthetic")
def command(
    given: Given,
    preset: Annotated[
        str, typer.Option(help="cpu (40 minutes on two cores), full (all objectives) or gpu.")
    ] = "cpu",
    out: Annotated[
        Path, typer.Option(help="Folder of the grid; the same command resumes it.")
    ] = Path("lookaround-synthetic"),
) -> None:
    """Trains a grid of objectives and tasks, or says what that would cost."""
    require_out("synthetic", out)
    with loading("loading libraries") as console:
        from lookaround.studies.synthetic.grid import (
            PRESETS,
            defaults_of,
            estimate,
            folder_of,
            open_grid,
            run_grid,
        )

        if preset not in PRESETS:
            raise UserError(f"--preset {preset}: unknown; known are {', '.join(PRESETS)}")
        tasks = given.settings(PRESETS[preset]).synthetic.tasks
        grid = open_grid(given.settings(PRESETS[preset] | defaults_of(tasks)))
        folder_of(grid, out).require()
    with loading("timing a few steps of each run"):
        cost = estimate(grid)
    _say_estimate(console, cost)
    if given.dry_run:
        given.write(vars(cost))
        return
    began = time.monotonic()
    with Reporter(console) as progress:
        results = run_grid(grid, out, command=command_line(), report=progress.report)
    results.write_page(out / "synthetic.html")
    console.print()
    results.print(console)
    say(
        console,
        f"\n{out / 'synthetic.html'} shows it with the learning curves; {out / 'results.json'} "
        f"holds the numbers ({time.monotonic() - began:.0f} s).",
    )
    given.write(results)


def _say_estimate(console: Console, cost: GridEstimate) -> None:
    """Prints what training will cost at most."""
    tasks, names = (max(len(run[field]) for run in cost.by_run) for field in ("graph", "objective"))
    for run in cost.by_run:
        step = run["seconds_per_step"]
        say(
            console,
            f"  {run['graph']:<{tasks}}  {run['objective']:<{names}}  {run['parameters']:>11,} "
            + "parameters  "
            + (f"{1000 * step:6.1f} ms a step" if step < 1 else f"{step:6.1f} s a step"),
        )
    say(
        console,
        f"{cost.runs} runs of at most {cost.steps:,} steps, {cost.jobs} at a time: "
        f"{cost.flops:.3g} FLOPs, {format_seconds(cost.seconds)} of training and about "
        f"{format_seconds(cost.scoring_seconds)} of scoring at most; runs that solve their task "
        "end sooner",
    )
