"""Options of a command out of the settings: name, type, default and help come from the field."""

from __future__ import annotations

import functools
import inspect
import json
import shlex
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any

import typer
from typer.models import ArgumentInfo

from lookaround.api import OFFERED, option_of
from lookaround.settings import Settings, field_of, read_settings
from lookaround.support.storage import require_writable, write_text

LIST_OPTION, ALL = "--jobs-list", "all"
# options whose value may be left out, which typer knows none of, and the value that then stands
LEFT_OUT = {LIST_OPTION: ALL, "--images": "sklearn:digits"}

COMMON = {
    "dry_run": Annotated[
        bool, typer.Option("--dry-run", help="Print what it would cost, and stop.")
    ],
    "config": Annotated[
        Path | None, typer.Option(help="A YAML file of settings.", show_default=False)
    ],
    "set_": Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting, a.b=c; repeatable.", show_default=False),
    ],
    "json_": Annotated[
        Path | None,
        typer.Option("--json", help="Also write the result here as JSON.", show_default=False),
    ],
}


@dataclass(frozen=True)
class Given:
    """What a command was given beside its own options.

    options: {dotted name of a setting: value}, None where it was not given.
    """

    options: Mapping[str, Any]
    config: Path | None
    assignments: list[str]
    dry_run: bool
    json: Path | None

    def settings(self, defaults: Mapping[str, Any] | None = None) -> Settings:
        """The settings; `defaults` of a preset are overruled by all that was given."""
        labels = {name: option_of(name) for name in self.options}
        return read_settings(self.config, self.assignments, defaults, labels=labels, **self.options)

    def write(self, value: Any) -> None:
        """Writes --json, where it was asked for."""
        if self.json is not None:
            data = value.as_dict() if hasattr(value, "as_dict") else value
            write_text(self.json, json.dumps(data, indent=1) + "\n")


def takes_settings(name: str, *, argument: str = "") -> Callable[..., Callable[..., None]]:
    """Makes a function (given, its own options) a command with the options of its settings.

    argument: the setting that is given by its place and not by an option.

    Places that cannot be written to are refused before any work is done.
    """
    offered = {dotted.replace(".", "_"): dotted for dotted in (*OFFERED[name], "seed")}

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(function, eval_str=True).parameters.values()
        ][1:]

        @functools.wraps(function)
        def run(**values: Any) -> None:
            options = {dotted: _given(values.pop(key)) for key, dotted in offered.items()}
            dry_run, config, assignments, file = (values.pop(key) for key in COMMON)
            if file is not None:
                require_writable("--json", file)
            function(Given(options, config, assignments or [], dry_run, file), **values)

        parameters = [_derived(key, dotted, argument) for key, dotted in offered.items()]
        listed = [*parameters[:-1], *own, parameters[-1], *map(_common, COMMON)]
        listed.sort(key=lambda p: not isinstance(p.annotation.__metadata__[0], ArgumentInfo))
        run.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in listed}
        return run

    return wrap


def _given(value: Any) -> Any:
    """The value of an option; None where a list of them is empty."""
    return None if value == [] else value


def _common(key: str) -> inspect.Parameter:
    default = False if key == "dry_run" else None
    return inspect.Parameter(
        key, inspect.Parameter.KEYWORD_ONLY, annotation=COMMON[key], default=default
    )


def _derived(key: str, dotted: str, argument: str) -> inspect.Parameter:
    """The parameter of a setting. Its text is left to the settings to read and to refuse."""
    field = field_of(dotted)
    default = field.get_default(call_default_factory=True)
    help_ = f"{field.description[0].upper()}{field.description[1:]}."  # type: ignore[index]
    shown = ", ".join(default) if isinstance(default, list) else default
    kind: Any = str
    if field.annotation is bool:
        kind = bool
    elif isinstance(default, list) or list[str] in typing.get_args(field.annotation):
        kind = list[str]
    more: dict[str, Any] = {
        "help": help_,
        "show_default": False if shown in (None, "", False) else str(shown),
    }
    option = option_of(dotted)
    if dotted == argument:
        about = typer.Argument(metavar=dotted.rpartition(".")[2].upper(), **more)
    elif kind is bool:
        about = typer.Option(option + f"/--no-{option[2:]}" * bool(default), **more)
    else:
        about = typer.Option(option, metavar=_metavar(field.annotation), **more)
    return inspect.Parameter(
        key, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind | None, about], default=None
    )


def _metavar(annotation: Any) -> str:
    """How an option's value is called: its choices, INTEGER, FLOAT or TEXT."""
    kinds = typing.get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    for kind in kinds:
        if typing.get_origin(kind) is typing.Literal:
            return "|".join(typing.get_args(kind))
    return "INTEGER" if int in kinds else "FLOAT" if float in kinds else "TEXT"


def command_line() -> str:
    """The command as a shell would take it again."""
    return shlex.join(["lookaround", *sys.argv[1:]])


def job_line(job: str) -> str:
    """The command with --job in place of --jobs-list, as a shell would take it."""
    words = with_values(sys.argv[1:])
    at = next(i for i, word in enumerate(words) if word.partition("=")[0] == LIST_OPTION)
    rest = words[at + 1 + (words[at] == LIST_OPTION) :]
    return shlex.join(["lookaround", *words[:at], "--job", job, *rest])


def with_values(words: list[str]) -> list[str]:
    """The words of a command line with a value for those of `LEFT_OUT` that have none."""
    found: list[str] = []
    for word, following in zip(words, [*words[1:], "-"], strict=False):
        found.append(word)
        if word in LEFT_OUT and following.startswith("-"):
            found.append(LEFT_OUT[word])
    return found
