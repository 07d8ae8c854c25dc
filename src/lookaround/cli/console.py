"""Where commands print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from lookaround.studies.reporter import Reporter, quiet_libraries, say

__all__ = ["Console", "Reporter", "loading", "say", "say_notes"]


def say_notes(console: Console, notes: Sequence[str]) -> None:
    """Prints what a corpus is, and below it how it was read."""
    for number, note in enumerate(notes):
        say(console, "  " * bool(number) + note)


@contextmanager
def loading(what: str, quiet: bool = False, stderr: bool = False) -> Iterator[Console]:
    """A console that says `what` is being done for the length of the block.

    quiet: it prints nothing.
    stderr: it prints on standard error.
    """
    console = Console(quiet=quiet, stderr=stderr)
    if not console.is_terminal:
        say(console, f"{what} ..")
    with console.status(what):
        quiet_libraries()
        yield console
