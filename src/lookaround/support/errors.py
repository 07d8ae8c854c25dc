"""The exceptions a user is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: the message names the file, line or field, what was found and what would be right.

    The command line prints the message on one line, without a traceback, and exits with code 2.
    """


class Diverged(UserError):
    """A loss that is not finite: the learning rate was too large."""


class Interrupted(Exception):
    """A run was asked to stop (Ctrl-C, SIGTERM) and has saved; the message says how to resume."""
