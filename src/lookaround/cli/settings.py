"""`lookaround settings`: the reference that docs/settings.md is made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lookaround.api import OFFERED, option_of
from lookaround.settings import Settings, sections
from lookaround.support.errors import UserError

HEAD = """# Settings

Every setting of every command, as `lookaround settings` prints them. A YAML file of sections
(`--config FILE`) overrules the defaults, `--set section.name=value` the file, and an option both.
In Python the same are `config=`, `settings={"section.name": value}` and keywords. A star marks what
results depend on: a folder of a run or study goes on only with the same value."""


def command(
    section: Annotated[
        str, typer.Argument(help="A section or a setting: train, train.batch.", show_default="all")
    ] = "",
) -> None:
    """Prints every setting."""
    name, _, field = section.partition(".")
    if name not in ("", *sections()):
        raise UserError(f"{name}: no section of the settings; known are {', '.join(sections())}")
    if field and field not in sections()[name].model_fields:
        known = ", ".join(sections()[name].model_fields)
        raise UserError(f"{section}: no such setting; known in {name} are {known}")
    for line in reference(name).splitlines():
        if not field or line.startswith(f"| `{section}`"):
            print(line)


def reference(only: str = "") -> str:
    """Every setting, or those of one section, as a page in Markdown."""
    parts = [] if only else [HEAD, "## Of all commands", _table(Settings, "")]
    for section, kind in sections().items():
        if only in ("", section):
            parts += [f"## `{section}`", kind.__doc__ or "", _table(kind, f"{section}.")]
    return "\n\n".join(parts) + "\n"


def _table(kind: type[BaseModel], prefix: str) -> str:
    """A line for each field: name, default, values, description and the commands' options."""
    lines = ["| setting | default | values | what it is |", "|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        dotted = prefix + name
        if dotted in sections():
            continue
        options = [f"`{key} {option_of(dotted)}`" for key, of in OFFERED.items() if dotted in of]
        about = str(field.description) + f" ({', '.join(options)})" * bool(options)
        star = " *" if field.json_schema_extra else ""
        default = field.get_default(call_default_factory=True)
        shown = "none" if default is None or default in ([], {}) else f"`{_yaml(default)}`"
        cells = [f"`{dotted}`{star}", shown, _values(field), about]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _values(field: FieldInfo) -> str:
    """The choices of a setting, or its range."""
    kinds = (field.annotation, *get_args(field.annotation))
    choices = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    bounds = [
        f"{sign} {getattr(limit, name):,}"
        for limit in field.metadata
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if hasattr(limit, name)
    ]
    return ", ".join(choices or bounds)
