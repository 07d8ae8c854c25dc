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
            help="A finished comparison, whose rungs say what to expect, and whose model, batch "
            "and context are taken where no --model is given.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Says what a run takes; nothing is trained."""
    model = given.settings().model
    with loading("counting") as console:
        from lookaround.report import load_results
        from lookaround.report.schema import ComparisonResults
        from lookaround.studies.plan import plan, shape_of

        found, defaults = None, None
        if study is not None:
            results = load_results(study)
            if not isinstance(results, ComparisonResults):
                raise UserError(f"{study}: no comparison; `lookaround compare` makes one")
            found = results
            own = shape_of(results)
            if "preset" not in model.model_fields_set or model.preset == own.get("model.preset"):
                defaults = own
        result = plan(given.settings(defaults), found)
    result.print(console)
    given.write(result)
