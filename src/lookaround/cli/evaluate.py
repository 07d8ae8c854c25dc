"""`lookaround evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookaround.cli.console import Reporter, loading, say
from lookaround.cli.options import Given, takes_settings
from lookaround.support.storage import require_place


@takes_settings("evaluate")
def command(
    given: Given,
    model: Annotated[
        Path,
        typer.Argument(
            help="A run, or a model's folder or name on the Hugging Face hub.", show_default=False
        ),
    ],
    mode: Annotated[
        str | None,
        typer.Option(
            metavar="causal|bidirectional|prefix",
            help="How the model is read.",
            show_default="per half, as compare does",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write evaluation.json into this folder.", show_default=False),
    ] = None,
) -> None:
    """Evaluates one model, or says what that would read."""
    if out is not None:
        require_place(out)
    settings = given.settings()
    with loading("loading the model and reading the data") as console:
        from lookaround.studies.evaluate import cost, evaluate, open_evaluation
    with Reporter(console, passing=True) as progress:
        request = open_evaluation(settings, model, mode, report=progress.report)
    amount = cost(request)
    if given.dry_run:
        say(
            console,
            f"{amount['parameters']:,} parameters; {amount['tokens']:,} tokens to score, "
            f"{amount['texts']:,} texts to embed",
        )
        given.write(amount)
        return
    with Reporter(console) as progress:
        result = evaluate(request, out, report=progress.report)
    result.print(console)
    given.write(result)
