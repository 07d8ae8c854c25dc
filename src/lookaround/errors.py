"""The exceptions a user is meant to read, and what turns a full disk into one."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Diverged", "Interrupted", "UserError", "disk_errors"]


class UserError(Exception):
    """Bad input: the message names the file, line or field, what was found and what would be right.

    The command line prints the message on one line, without a traceback, and exits with code 2.
    """


class Diverged(UserError):
    """A loss that is not finite: the learning rate was too large."""


class Interrupted(Exception):
    """A run was asked to stop (Ctrl-C, SIGTERM) and has saved its state; the message says how to go on."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what goes wrong while `path` is written into a UserError that names it.

    Libraries written in Rust (safetensors, tokenizers) give the system's error number in their message only.
    """
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        found = re.search(r"os error (\d+)", str(error))
        if number is None and found is not None:
            number = int(found[1])
        if number is None or isinstance(error, UserError):
            raise
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"{path}: no space left on the disk; nothing half-written was kept") from None
        raise UserError(f"{path}: cannot be written ({os.strerror(number)})") from None
