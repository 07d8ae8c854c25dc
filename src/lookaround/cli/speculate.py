"""`lookaround speculate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookaround.cli.console import Reporter, loading, say, say_notes
from lookaround.cli.options import Given, takes_settings
from lookaround.studies.folder import require_out
from lookaround.support.text import counted


@takes_settings("speculate")
def command(
    given: Given,
    model: Annotated[
        Path,
        typer.Argument(
            help="A causal run, or a decoder's folder or name on the Hugging Face hub.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the faster model; the same command resumes.")
    ] = Path("lookaround-speculate"),
) -> None:
    """Makes a model write several tokens per pass, or says what that would cost."""
    require_out("speculate", out)
    settings = given.settings()
    with loading("loading the model and reading the text") as console:
        from lookaround.studies.speculate.request import open_speculation
        from lookaround.studies.speculate.speculate import speculate
    with Reporter(console, passing=True) as progress:
        request = open_speculation(settings, model, report=progress.report)
    say_notes(console, request.notes)
    parameters = sum(p.numel() for p in request.run.backbone.lm.parameters())
    what = request.kind or f"its own {request.run.backbone.look_ahead.kind}"
    say(
        console,
        f"{model}: {parameters:,} parameters, {what} heads; {request.corpus}: "
        f"{counted(len(request.train), 'training document')}, {len(request.calibrate)} + "
        f"{len(request.measure)} held-out prompts; into {out}/",
    )
    if given.dry_run:
        options = settings.speculate
        cost = {
            "parameters": parameters,
            "samples": options.samples if request.kind else 0,
            "budget": options.budget if request.kind else None,
        }
        say(console, f"samples {cost['samples']:,} tokens; training {cost['budget']}")
        given.write(cost)
        return
    with Reporter(console) as progress:
        result = speculate(request, out, report=progress.report)
    result.print(console)
    say(
        console,
        f"\n{out}: loads as a plain model; fast with trust_remote_code=True, or lookaround "
        f"generate {out}",
    )
    given.write(result)
