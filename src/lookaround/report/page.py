"""What every page is made of: tables as plain data, and templates that escape every text.

    render("forecast", title="...", table=Table("Forecast", heads, bodies))

The templates lie in `templates/`, the style in `report.css`. Autoescape is on for all of them: only
figures, which are SVG of our own, are put into a page as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lookaround.report import svg
from lookaround.report.text import MISSING
from lookaround.support.text import UNFIT

_HERE = Path(__file__).parent


class Bar(NamedTuple):
    """Where a mean lies in the range of its column, and from where its interval is how wide, in
    percent.
    """

    mean: float
    low: float | None = None
    width: float | None = None


class Cell(NamedTuple):
    """A cell of a table; a text that is missing is shown as a dash.

    text, small: the value, and what stands below it in smaller type.
    then: what is said next, a score after its gain.
    marks: (CSS class, text) of each remark below both.
    kind: its CSS class.
    """

    text: str = MISSING
    small: str = ""
    then: str = ""
    marks: Sequence[tuple[str, str]] = ()
    bar: Bar | None = None
    kind: str = ""


class Head(NamedTuple):
    """The heading of a column; `title` is shown when it is pointed at."""

    text: str
    small: str = ""
    title: str = ""
    kind: str = ""


class Row(NamedTuple):
    """A row of a table.

    name: what it is of; `minus`: the objective that is subtracted from it, if any.
    cells: one for each heading but the first.
    key: number of the objective in the figures; None: it has no line there.
    code: whether the name is a spec.
    badges, notes: beside the name, and below it.
    """

    name: str
    cells: Sequence[Cell]
    key: int | None = None
    code: bool = False
    minus: str = ""
    badges: Sequence[str] = ()
    notes: Sequence[str] = ()


class Table(NamedTuple):
    """A table: what it shows, its headings, and groups of rows, each with a CSS class."""

    label: str
    heads: Sequence[Head]
    groups: Sequence[tuple[str, Sequence[Row]]]


def render(template: str, **context: Any) -> str:
    """The text of a template, `comparison` for templates/comparison.html.j2, with every value
    escaped.
    """
    return _environment().get_template(f"{template}.html.j2").render(context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader([_HERE / "templates", _HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.globals.update(key=lambda index: Markup(svg.key(index)), missing=MISSING)
    return environment


def _printable(value: Any) -> Any:
    return value if isinstance(value, Markup) else UNFIT.sub("\ufffd", str(value))
