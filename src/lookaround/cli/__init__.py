"""The command line: options out of the settings, progress, exit codes; a module per command."""

from lookaround.cli.entry import main

__all__ = ["main"]
