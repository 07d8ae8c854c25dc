"""Specs to tasks: "pathstar(2,5)", "pathstar(degree=2, length=5)", "addition"; read with `ast`, never with `eval`."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from typing import Any, NoReturn, get_args, get_type_hints

from lookaround.studies.synthetic.tasks.base import Task
from lookaround.support.errors import UserError

__all__ = ["parse_task"]

LONGEST_SPEC = 200  # characters
LONGEST_ROW = 8192  # tokens


def parse_task(text: str, defaults: Mapping[str, Any] | None = None) -> Task:
    """The task of a spec.

    text: a name, or a name with parameters by position or by name. A string may stand without quotes.
    defaults: {parameter: value} where the spec is silent; parameters that the task lacks are ignored.

    Raises UserError that names the task, the parameter and what would be right.
    """

    def refuse(problem: str) -> NoReturn:
        shown = text if len(text) <= 40 else text[:40] + ".."
        raise UserError(f"task {shown!r}: {problem}")

    try:
        tree = ast.parse(text.strip(), mode="eval").body if len(text) <= LONGEST_SPEC else None
    except (SyntaxError, ValueError):
        tree = None
    given: list[ast.expr] = []
    named: list[ast.keyword] = []
    name = ""
    match tree:
        case ast.Name(id=name):
            pass
        case ast.Call(func=ast.Name(id=name), args=given, keywords=named) if given or named:
            pass
        case _:
            name = ""
    if name not in Task.registry:
        refuse(
            f"is no task; write one of {'; '.join(kind.signature() for _, kind in sorted(Task.registry.items()))}"
        )
    kind = Task.registry[name]
    types = get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}
    ordered = [item.name for item in fields.values() if not item.kw_only]
    if len(given) > len(ordered):
        refuse(f"at most {len(ordered)} parameters by position, got {len(given)}; write {kind.signature()}")
    values: dict[str, Any] = {}
    for parameter, node in [*zip(ordered, given, strict=False), *((k.arg, k.value) for k in named)]:
        if parameter not in fields:
            refuse(f"no parameter '{parameter}'; write {kind.signature()}")
        if parameter in values:
            refuse(f"'{parameter}' is given twice")
        allowed = get_args(types[parameter]) or (types[parameter],)
        try:
            values[parameter] = node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
        except (ValueError, TypeError):
            values[parameter] = ...
        if type(values[parameter]) not in allowed:
            wanted = " or ".join(kind.__name__.replace("NoneType", "None") for kind in allowed)
            refuse(f"{parameter} must be {wanted}, got {ast.unparse(node)}")
    values = {
        parameter: value for parameter, value in (defaults or {}).items() if parameter in fields
    } | values
    for parameter, item in fields.items():
        if parameter not in values and item.default is dataclasses.MISSING:
            refuse(f"{parameter} is missing; write {kind.signature()}")
    task = kind(**values)
    if task.width > LONGEST_ROW:
        refuse(f"its rows have {task.width} tokens; at most {LONGEST_ROW} are taken")
    return task
