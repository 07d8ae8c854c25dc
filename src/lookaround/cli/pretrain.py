"""`lookaround pretrain`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from lookaround.cli.compare import say_estimate
from lookaround.cli.console import Reporter, loading, say, say_notes
from lookaround.cli.options import Given, takes_settings
from lookaround.studies.folder import require_out


@takes_settings("pretrain", argument="data.corpus")
def command(
    given: Given,
    out: Annotated[
        Path, typer.Option(help="Folder of the run; the same command resumes it.")
    ] = Path("lookaround-run"),
) -> None:
    """Trains one model, or says what that would cost."""
    require_out("pretrain", out)
    settings = given.settings()
    follower = int(os.environ.get("RANK", 0)) > 0
    with loading("reading the corpus and loading libraries", quiet=follower) as console:
        from lookaround.studies.pretrain import cost, open_pretraining, pretrain
    with Reporter(console, passing=True) as progress:
        request = open_pretraining(settings, report=progress.report)
        estimate = cost(request, report=progress.report) if given.dry_run else None
    say_notes(console, request.corpus.told)
    if estimate is not None:
        say_estimate(console, estimate, 1)
        given.write(vars(estimate))
        return
    with Reporter(console) as progress:
        info = pretrain(request, out, report=progress.report)
    spent = info.spent
    say(
        console,
        f"{out}: {request.objective.spec} finished after {spent.step:,} steps, {spent.tokens:,} "
        f"tokens, {spent.targets:,} targets, {spent.flops:.3g} FLOPs, {spent.seconds:.0f} s",
    )
    if not follower:
        given.write(info)
