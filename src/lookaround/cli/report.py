"""`lookaround report`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lookaround.cli.options import require_file
from lookaround.cli.reporter import say

__all__ = ["command"]


def command(
    results: Annotated[
        Path, typer.Argument(help="results.json, or the folder of a study.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The page to write.", show_default="beside the results"),
    ] = None,
    no_samples: Annotated[
        bool, typer.Option("--no-samples", help="Keep sampled text out of the page.")
    ] = False,
) -> None:
    """Prints the table of results and writes their page."""
    require_file("--out", out)
    from rich.console import Console

    from lookaround.report import (
        load_results,
        load_synthetic,
        print_results,
        print_synthetic,
        write_report,
        write_synthetic,
    )

    file = results / "results.json" if results.is_dir() else results
    console = Console()
    loaded = load_synthetic(file)
    if loaded is not None:
        name, write = "synthetic.html", partial(write_synthetic, loaded)
        print_synthetic(loaded, console)
    else:
        loaded = load_results(file)
        name, write = "report.html", partial(write_report, loaded, samples=not no_samples)
        print_results(loaded, console)
    page = out or file.with_name(name)
    write(page)
    say(console, f"\n{page}")
