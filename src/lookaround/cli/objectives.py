"""`lookaround objectives`."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import MISSING, fields


def command() -> None:
    """Prints every objective with its parameters and their defaults."""
    from lookaround.objectives import Objective
    from lookaround.objectives.objective import literal

    for name, kind in Objective.registry.items():
        parameters = ", ".join(
            f.name if f.default is MISSING else f"{f.name}={literal(f.default)}"
            for f in fields(kind)
        )
        print(f"{name}({parameters})" if parameters else name)
        about = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
        print(textwrap.indent(about, "    "))
