"""Specs to objectives, such as "ar, mlm(rate=0.4)", read with `ast`, never with `eval`."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable
from typing import Any, NoReturn

from lookaround.objectives.objective import Objective, ParameterError, Term
from lookaround.objectives.schedules import SCHEDULES
from lookaround.support.errors import UserError
from lookaround.support.text import one_line

LONGEST = 10_000  # characters of a list of specs


def parse_list(text: str) -> list[Objective]:
    """The objectives of a comma-separated list, without repetitions.

    Raises UserError that gives the column and the words at fault.
    """
    told = f"objectives '{one_line(text)}'"
    if len(text) > LONGEST:
        raise UserError(f"{told}: {len(text):,} characters; a list has {LONGEST:,} at most")
    source = f"({text.strip()},)"
    try:
        tree = ast.parse(source, mode="eval").body
        if not text.strip() or not isinstance(tree, ast.Tuple) or not tree.elts:
            raise UserError(f"{told}: empty; give a list such as 'ar, mlm'")
        reader = _Reader(text.strip(), source)
        unweighted = [reader.objective(node).weighed[1] for node in tree.elts]
        return list({item.spec: item for item in unweighted}.values())
    except SyntaxError as error:
        column = max(min((error.offset or 2) - 1, len(text)), 1)
        raise UserError(
            f"{told}, column {column}: not a list of objectives such as 'ar, mlm(rate=0.4)'"
        ) from None
    except UnicodeEncodeError:
        raise UserError(f"{told}: not UTF-8") from None
    except (RecursionError, MemoryError):  # of Python's parser
        raise UserError(f"{told}: too long or too deep; write fewer parts") from None


def parse(text: str) -> Objective:
    """The objective of one spec, such as "ar + 3*vmlm(suffix=0.5)"; raises UserError."""
    objectives = parse_list(text)
    if len(objectives) != 1:
        raise UserError(
            f"objective '{one_line(text)}': found {len(objectives)} objectives, one is wanted; "
            "join them by + or >>"
        )
    return objectives[0]


def require_for_text(objectives: Iterable[Objective]) -> None:
    """Raises UserError for an objective that needs rows with a prompt and a target part."""
    for objective in objectives:
        if objective.prompted:
            raise UserError(
                f"objective '{one_line(objective.spec)}': works on the target part of rows that "
                "begin with a prompt, and a corpus has no target part; it is for lookaround "
                "synthetic"
            )


def in_plane(objectives: Iterable[Objective], columns: int) -> tuple[Objective, ...]:
    """The same objectives for pictures with so many tokens in a row, or for texts (0); raises
    UserError for one whose parameters do not fit them.
    """
    placed = []
    for objective in objectives:
        try:
            placed.append(objective.in_plane(columns))
        except ParameterError as error:
            raise UserError(
                f"objective '{one_line(objective.spec)}': {error}"
                + (f"; pictures have {columns} tokens in a row" if columns else "")
            ) from None
    return tuple(placed)


WHAT = f"write a number, a word, or one of {', '.join(SCHEDULES)} with (start, end)"


class _Reader:
    """Walks the syntax tree of a spec; errors name the column and the words."""

    def __init__(self, text: str, source: str) -> None:
        self.text, self.source = text, source

    def refuse(self, node: ast.AST, problem: str) -> NoReturn:
        words = ast.get_source_segment(self.source, node) or ""  # type: ignore[arg-type]
        # the added bracket makes the 0-based offset a 1-based column
        column = getattr(node, "col_offset", 1)
        raise UserError(
            f"objectives '{one_line(self.text)}', column {column} ('{one_line(words, 60)}'): "
            f"{one_line(problem, 200)}"
        )

    def objective(self, node: ast.expr) -> Term:
        match node:
            case ast.Name():
                return self.build(node, node, [])
            case ast.Call(func=ast.Name(), args=[]):
                return self.build(node.func, node, node.keywords)
            case ast.Call(func=ast.Name()):
                kind = self.known(node.func)
                first = dataclasses.fields(kind)[0].name if dataclasses.fields(kind) else None
                hint = f"name it: {first}=..." if first else f"{kind.name} takes none"
                self.refuse(node.args[0], f"parameters are given by name; {hint}")
            case ast.BinOp(op=ast.Add() | ast.RShift()):
                left, right = self.objective(node.left), self.objective(node.right)
                try:
                    return left + right if isinstance(node.op, ast.Add) else left >> right
                except ValueError as error:
                    self.refuse(node, str(error))
            case ast.BinOp(op=ast.Mult()):
                weight = self.value(node.left)
                objective = self.objective(node.right)
                try:
                    return weight * objective
                except (TypeError, ValueError) as error:
                    self.refuse(node.left, str(error))
        self.refuse(
            node, "not an objective; write e.g. ar, mlm(rate=0.4), ar + 3*vmlm, 0.25*ar >> 0.75*mlm"
        )

    def known(self, name: ast.expr) -> type[Objective]:
        assert isinstance(name, ast.Name)
        if name.id not in Objective.registry:
            self.refuse(name, f"unknown objective; known are {', '.join(Objective.registry)}")
        return Objective.registry[name.id]

    def build(self, name: ast.expr, node: ast.AST, keywords: list[ast.keyword]) -> Objective:
        kind = self.known(name)
        fields = {item.name: str(item.type) for item in dataclasses.fields(kind)}
        values: dict[str, Any] = {}
        nodes: dict[str, ast.AST] = {}
        for keyword in keywords:
            if keyword.arg not in fields:
                known = ", ".join(fields) or "none"
                self.refuse(
                    keyword,
                    f"{kind.name} has no parameter '{keyword.arg}'; its parameters: {known}",
                )
            if keyword.arg in values:
                self.refuse(keyword, f"'{keyword.arg}' is given twice")
            values[keyword.arg] = value = self.value(keyword.value)
            if (isinstance(value, bool) and "bool" not in fields[keyword.arg]) or (
                value is None and "None" not in fields[keyword.arg]
            ):
                self.refuse(keyword.value, f"not a value of {keyword.arg}; {WHAT}")
            nodes[keyword.arg] = keyword.value
        try:
            return kind(**values)
        except ParameterError as error:
            self.refuse(nodes.get(error.parameter, node), str(error))
        except (TypeError, ValueError) as error:
            self.refuse(node, str(error))

    def value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=int() | float() | str() | None):
                return node.value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.Tuple():
                return tuple(self.value(item) for item in node.elts)
            case ast.Name(id=word):
                return word  # law=uniform reads as law="uniform"
            case ast.Call(func=ast.Name(id=word), args=[start, end], keywords=[]) if (
                word in SCHEDULES
            ):
                return SCHEDULES[word](self.number(start), self.number(end))
            case ast.Call(func=ast.Name(id=word)) if word in SCHEDULES:
                self.refuse(node, f"{word} takes two numbers, {word}(start, end)")
        self.refuse(node, f"not a value; {WHAT}")

    def number(self, node: ast.expr) -> float:
        value = self.value(node)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(node, "not a number")
        return value
