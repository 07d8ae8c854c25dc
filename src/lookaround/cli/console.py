"""Where commands print."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from lookaround.studies.reporter import Reporter, counted, quiet_libraries, say

__all__ = ["Console", "Reporter", "counted", "loading", "say"]


@contextmanager
def loading(what: str, quiet: bool = False) -> Iterator[Console]:
    """A console that says `what` is being done for the length of the block.

    quiet: it prints nothing.
    """
    console = Console(quiet=quiet)
    if not console.is_terminal:
        say(console, f"{what} ..")
    with console.status(what):
        quiet_libraries()
        yield console
