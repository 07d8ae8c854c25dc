"""The exceptions a user is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: the message names the file, line or field, what was found and what would be right.

    The command line prints the message on one line, without a traceback, and exits with code 2.
    """


class Diverged(UserError):
    """A loss that is not finite, at a step: the learning rate was too large."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class Interrupted(Exception):
    """A run was asked to stop (Ctrl-C, SIGTERM) and has saved; the message says how to resume."""
