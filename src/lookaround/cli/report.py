"""`lookaround report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookaround.cli.console import say
from lookaround.support.storage import require_writable


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
    if out is not None:
        require_writable("--out", out)
    from rich.console import Console

    from lookaround.report.schema import load_results

    console = Console()
    loaded = load_results(results)
    loaded.print(console)
    page = out or (results if results.is_dir() else results.parent) / loaded.page
    loaded.write_page(page, samples=not no_samples)
    say(console, f"\n{page}")
