"""`lookaround forecast`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookaround.cli.console import Reporter, loading, say, say_notes
from lookaround.cli.options import Given, takes_settings
from lookaround.studies.folder import require_out
from lookaround.support.text import counted


@takes_settings("forecast", argument="data.corpus")
def command(
    given: Given,
    out: Annotated[
        Path, typer.Option(help="Folder of the forecast; the same command resumes it.")
    ] = Path("lookaround-forecast"),
) -> None:
    """Makes a forecast, or says what it would count."""
    require_out("forecast", out)
    settings = given.settings()
    with loading("reading the corpus and loading libraries") as console:
        from lookaround.studies.forecast.forecast import cost, forecast, open_forecast
    with Reporter(console, passing=True) as progress:
        request = open_forecast(settings, report=progress.report)
    say_notes(console, request.notes)
    estimate = cost(request)
    if given.dry_run:
        for name, value in estimate.items():
            say(console, f"{name:<24}{value}")
        given.write(estimate)
        return
    train, vocabulary = request.store.index["splits"]["train"], request.store.index["vocabulary"]
    say(
        console,
        f"{request.corpus}: {counted(train['documents'], 'training document')}, "
        f"{train['tokens']:,} tokens, vocabulary {vocabulary:,}; "
        f"{counted(len(request.objectives), 'objective')}, {counted(len(request.data), 'task')}",
    )
    with Reporter(console) as progress:
        result = forecast(request, out, report=progress.report)
    result.save(out / "forecast.json")
    result.write_page(out / "forecast.html")
    result.print(console)
    say(
        console,
        f"\n{out / 'forecast.html'} shows it with the spectra; {out / 'forecast.json'} holds the "
        f"numbers ({result.seconds.all:.0f} s, of which {result.seconds.counting:.0f} s counting).",
    )
    given.write(result)
