"""The embedded task of words: roles of names in the standard library's source.

What a name is often stands behind it (`name(`, `name =`): who reads leftwards alone can't see it.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from itertools import accumulate

from lookaround.data.corpus import hash_key
from lookaround.data.labelled import Sentence, TokenTask
from lookaround.data.stdlib import library, read_code, source_files
from lookaround.support.errors import UserError

ROLES = (
    "attribute",
    "call",
    "definition",
    "import",
    "keyword argument",
    "load",
    "parameter",
    "store",
)
WINDOW, SHORTEST, FEWEST = 200, 60, 3  # characters at most and at least; names at least
PARTS = (1200, 600)  # windows for training and for the test, at most
PER_FILE = 40
LARGEST = 60_000  # characters of a file: the others are enough, and parsing takes time
TEST_EVERY = 3  # of so many files one is of the test part
_DEFINITION = re.compile(r"(?:async\s+)?(?:def|class)\s+(\w+)")
_FROM = re.compile(r"from\s[\s.]*([\w.]+)")
_ALIAS = re.compile(r"([\w.]+)(?:\s+as\s+(\w+))?")
_CAUGHT = re.compile(r"[\s)]*as\s+(\w+)")


def stdlib_roles() -> TokenTask:
    """Return the task "stdlib-roles": which role has each name in some lines of source code?

    A sentence is a window of whole lines, at most 200 characters; its words are the names that
    have one of `ROLES`. Files are divided between training and test, never a file's windows; at
    most 40 are of one file, and none occurs twice. Ours. Raises UserError if this Python keeps no
    sources, or too few.
    """
    root = library()
    paths = sorted(
        source_files(root), key=lambda path: hash_key(0, path.relative_to(root).as_posix())
    )
    parts: tuple[list[Sentence], list[Sentence]] = ([], [])
    known: set[str] = set()
    for number, path in enumerate(paths):
        which = int(number % TEST_EVERY == TEST_EVERY - 1)
        if len(parts[which]) >= PARTS[which]:
            continue
        source = read_code(path)
        if len(source) > LARGEST:
            continue
        try:
            windows = list(_windows(source))
        except (SyntaxError, ValueError, RecursionError):
            continue
        windows.sort(key=lambda window: hash_key(0, window.text))
        fresh = {window.text: window for window in windows if window.text not in known}
        new = list(fresh.values())[:PER_FILE]
        known |= fresh.keys()
        parts[which].extend(new)
    train, test = (part[:most] for part, most in zip(parts, PARTS, strict=True))
    if min(len(train), len(test)) < 20:
        raise UserError(f"{root}: too few sources for a task; give a task of your own")
    return TokenTask(
        name="stdlib-roles",
        metric="accuracy",
        classes=list(ROLES),
        train=train,
        test=test,
        notes=[],
    )


def _windows(source: str) -> Iterator[Sentence]:
    """Windows of whole lines with the roles of their names."""
    lines = source.split("\n")
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    names = sorted(name_roles(source, starts).items())
    at = 0
    first = 0
    while first < len(lines):
        last = first
        while last < len(lines) and starts[last + 1] - 1 - starts[first] <= WINDOW:
            last += 1
        begin, end = starts[first], starts[max(last, first + 1)] - 1
        first = max(last, first + 1)
        # blank lines around it are not of the window
        text = source[begin:end].strip("\n")
        begin += len(source[begin:end]) - len(source[begin:end].lstrip("\n"))
        own = []
        while at < len(names) and names[at][0][0] < end:
            own.append(names[at])
            at += 1
        if SHORTEST <= len(text) <= WINDOW and len(own) >= FEWEST:
            words = tuple((start - begin, stop - begin) for (start, stop), _ in own)
            yield Sentence(text, words, tuple(ROLES.index(role) for _, role in own))


def name_roles(source: str, starts: list[int]) -> dict[tuple[int, int], str]:
    """{(start, end) in characters: role} of the names in Python source.

    starts: the character at which each line begins.

    `f` in `f(x)` and in `a.f(x)` is a call, any other `f` of `a.f` an attribute; what `except` and
    `with` bind is a store. Keywords, deleted names, names in f-strings (Python 3.11 has no places
    for them), in patterns and of `global` have no role. Raises SyntaxError for anything else.
    """
    roles: dict[tuple[int, int], str] = {}
    called: set[int] = set()

    def place(line: int, column: int) -> int:
        """The character at a line from 1 and a column in bytes of UTF-8."""
        start = starts[line - 1]
        text = source[start : starts[line] - 1]
        return start + (column if text.isascii() else len(text.encode()[:column].decode()))

    def mark(start: int, name: str, role: str) -> None:
        # a name that is not written as it is known (NFKC) has no role
        if source.startswith(name, start):
            roles[start, start + len(name)] = role

    def mark_dotted(found: re.Match[str] | None, group: int, role: str) -> None:
        if found is not None and found[group]:
            for part in re.finditer(r"\w+", found[group]):
                mark(found.start(group) + part.start(), part[0], role)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in old sources
        nodes: list[ast.AST] = [ast.parse(source)]
    while nodes:
        node = nodes.pop()
        if type(node).__name__ in ("JoinedStr", "TemplateStr"):
            continue
        nodes.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Call):
            called.add(id(node.func))
        elif isinstance(node, ast.Name):
            role = "store" if isinstance(node.ctx, ast.Store) else "load"
            if not isinstance(node.ctx, ast.Del):
                role = "call" if id(node) in called else role
                mark(place(node.lineno, node.col_offset), node.id, role)
        elif isinstance(node, ast.Attribute):
            if not isinstance(node.ctx, ast.Del):
                assert node.end_lineno is not None
                assert node.end_col_offset is not None
                end = place(node.end_lineno, node.end_col_offset)
                role = "call" if id(node) in called else "attribute"
                mark(end - len(node.attr), node.attr, role)
        elif isinstance(node, ast.keyword | ast.arg):
            if node.arg is not None:
                role = "parameter" if isinstance(node, ast.arg) else "keyword argument"
                mark(place(node.lineno, node.col_offset), node.arg, role)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found = _DEFINITION.match(source, place(node.lineno, node.col_offset))
            mark_dotted(found, 1, "definition")
        elif isinstance(node, ast.ImportFrom) and node.module:
            mark_dotted(_FROM.match(source, place(node.lineno, node.col_offset)), 1, "import")
        elif isinstance(node, ast.alias):
            found = _ALIAS.match(source, place(node.lineno, node.col_offset))
            mark_dotted(found, 1, "import")
            mark_dotted(found, 2, "import")
        elif isinstance(node, ast.ExceptHandler) and node.name and node.type:
            assert node.type.end_lineno is not None
            assert node.type.end_col_offset is not None
            end = place(node.type.end_lineno, node.type.end_col_offset)
            mark_dotted(_CAUGHT.match(source, end), 1, "store")
    return roles
