"""Specs to tasks, such as "pathstar(2,5)", read with `ast`, never with `eval`."""

from __future__ import annotations

import ast
import contextlib
import inspect
from collections.abc import Mapping
from typing import Any, NoReturn, get_args, get_type_hints

from lookaround.studies.synthetic.tasks.base import Task
from lookaround.support.errors import UserError

LONGEST_SPEC = 200  # characters
LONGEST_ROW = 8192  # tokens


def parse_task(text: str, defaults: Mapping[str, Any] | None = None) -> Task:
    """The task of a spec.

    text: a name, or a name with parameters by position or by name. A string may stand without
        quotes.
    defaults: {parameter: value} where the spec is silent; parameters that the task lacks are
        ignored.

    Raises UserError that names the task, the parameter and what would be right.
    """

    known = "one of " + "; ".join(kind.signature() for _, kind in sorted(Task.registry.items()))

    def refuse(problem: str, right: str = known) -> NoReturn:
        shown = text if len(text) <= 40 else text[:40] + ".."
        raise UserError(f"task {shown!r}: {problem}; write {right}")

    def value(node: ast.expr) -> Any:
        try:
            return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
        except (ValueError, TypeError):
            refuse(f"'{ast.unparse(node)}' is no value", kind.signature())

    name, given, named = "", [], []
    with contextlib.suppress(SyntaxError, ValueError):
        match ast.parse(text.strip(), mode="eval").body if len(text) <= LONGEST_SPEC else None:
            case ast.Name(id=name):
                pass
            case ast.Call(ast.Name(id=called), args, keywords) if args or keywords:
                name, given, named = called, args, keywords
    if name not in Task.registry:
        refuse("is no task")
    kind = Task.registry[name]
    types = get_type_hints(kind)
    try:
        if len({keyword.arg for keyword in named}) < len(named):
            raise TypeError("a parameter is given twice")
        by_name: dict[Any, Any] = {keyword.arg: value(keyword.value) for keyword in named}
        bound = inspect.signature(kind).bind(*map(value, given), **by_name).arguments
    except TypeError as error:
        refuse(str(error), kind.signature())
    for parameter, found in bound.items():
        allowed = get_args(types[parameter]) or (types[parameter],)
        if type(found) not in allowed:
            wanted = " or ".join(kind.__name__.replace("NoneType", "None") for kind in allowed)
            refuse(f"{parameter} must be {wanted}, got {found!r}", kind.signature())
    own = {name: value for name, value in (defaults or {}).items() if name in types}
    task = kind(**own | bound)
    if task.width > LONGEST_ROW:
        refuse(f"its rows have {task.width} tokens", f"a smaller one, with at most {LONGEST_ROW}")
    return task
