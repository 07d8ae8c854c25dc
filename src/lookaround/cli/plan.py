"""`lookaround plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lookaround.cli.console import loading
from lookaround.cli.options import Given, takes_settings
from lookaround.support.errors import UserError


@takes_settings("plan")
def command(
    given: Given,
    study: Annotated[
        Path | None,
        typer.Argument(
            help="A finished comparison, whose model, batch and context are taken where none are "
            "given, and whose rungs say what to expect.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Says what a run takes; nothing is trained."""
    given.settings()
    with loading("counting") as console:
        from lookaround.report import load_results
        from lookaround.report.schema import ComparisonResults
        from lookaround.studies.plan import plan

        found, defaults = None, {}
        if study is not None:
            results = load_results(study)
            if not isinstance(results, ComparisonResults):
                raise UserError(f"{study}: no comparison; `lookaround compare` makes one")
            found = results
            names = ("model.preset", "model.context", "train.batch", "data.vocabulary")
            for name in names:
                section, _, field = name.partition(".")
                value = results.settings.get(section, {}).get(field)
                if value is not None:
                    defaults[name] = value
        result = plan(given.settings(defaults), found)
    result.print(console)
    given.write(result)
