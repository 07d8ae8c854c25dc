"""The entry point, and the commands by name. A command's module is imported when it is run."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from lookaround import __version__
from lookaround.support.errors import Interrupted, UserError
from lookaround.support.machine import out_of_memory
from lookaround.support.text import message_line, one_line

# errors of what is printed; those of files are told where files are written
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
COMMANDS = {
    "compare": "Train several objectives at equal budget, evaluate classification and generation, "
    "and recommend one per need.",
    "forecast": "What the corpus says before any training: each objective's co-occurrence spectrum "
    "and probes, beside three controls.",
    "plan": "What a larger run takes: GPU hours and cost by device, the largest model that fits, "
    "and what a study foretells of it.",
    "pretrain": "Train one model with one objective into a folder that transformers loads. Works "
    "under torchrun.",
    "evaluate": "Bits per byte by prefix length, probes on labelled tasks, and sampled "
    "continuations of one model.",
    "generate": "Continue texts with a model of any objective; several tokens per pass where it "
    "has heads that look ahead.",
    "speculate": "Several tokens per pass, the same output: train heads for a model, build the "
    "tree, measure, write a folder.",
    "synthetic": "Does an objective look ahead? Trains every one on synthetic tasks, where "
    "next-token prediction guesses.",
    "report": "Print the table of a finished study and write its HTML page again.",
    "objectives": "Every objective with its parameters.",
    "settings": "Every setting with its default, values and description.",
}


class _Commands(TyperGroup):
    """Lists commands from the table above, so that `--help` imports none of them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        if found is None or found.name not in COMMANDS:
            return name, found, rest
        from lookaround.cli.options import with_values

        module = importlib.import_module(f"lookaround.cli.{found.name}")
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(found.name, help=COMMANDS[found.name])(module.command)
        return name, typer.main.get_command(single), with_values(rest)


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lookaround {__version__}")
        raise typer.Exit


@app.callback()
def _lookaround(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Which self-supervised objective should you pretrain with, on your data and at your budget?"""


def main() -> None:
    """Entry point: user errors become one line and exit code 2, an interrupted run 130.

    A standard output that its reader has closed ends the command quietly, with 2.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            # what a terminal's encoding lacks is shown as "?"
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    code = _run()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        _output_failed(error)
        code = code or 2
    sys.exit(code)


def _run() -> int:
    """Runs the command, prints what it fails with, and returns the exit code."""
    try:
        code = app(standalone_mode=False) or 0
        # what the argument parser makes of a Ctrl-C that no run listened to
        if code == 130:
            _tell("stopped")
        return code
    except UserError as error:
        _tell(f"error: {error}")
    except Interrupted as error:
        _tell(f"stopped: {error}")
        return 130
    except (KeyboardInterrupt, typer.Abort):
        _tell("stopped")
        return 130
    except SystemExit as error:  # what typer and rich make of a reader that has left
        _discard_output()
        return 2 if error.code else 0
    except BrokenPipeError as error:
        _output_failed(error)
    except Exception as error:
        if hasattr(error, "format_message"):  # what the argument parser raises
            _tell_usage(error)
        elif out_of_memory(error):
            _tell(
                "error: out of memory; take a smaller model, text or batch (train.batch, "
                "train.micro_batch), or fewer processes (--jobs)"
            )
        elif isinstance(error, OSError) and error.filename is None and error.errno in FULL:
            _output_failed(error)
        elif isinstance(error, OSError) and error.filename:
            _tell(f"error: {one_line(error.filename)}: {error.strerror}")
        else:
            raise
    return 2


def _tell_usage(error: Any) -> None:
    """Prints what the argument parser has to say."""
    if not str(error) and hasattr(error, "ctx"):  # no arguments: the help was what was wanted
        error.show()
        return
    message = " ".join(error.format_message().split())
    if "extra argument" in message:
        message += "; put what has spaces in quotes"
    if message.startswith("No such option"):
        message += "; any setting is --set section.name=value, see lookaround settings"
    _tell(f"error: {message}")


def _tell(message: str) -> None:
    """Prints a line on standard error, as far as there is one."""
    with contextlib.suppress(OSError):
        if sys.stderr is not None:
            print(message_line(message), file=sys.stderr, flush=True)


def _output_failed(error: OSError) -> None:
    """Says that nothing can be printed, but for a reader that has left."""
    _discard_output()
    if not isinstance(error, BrokenPipeError):
        _tell(f"error: standard output: cannot be written ({error.strerror})")


def _discard_output() -> None:
    """Lets what could not be written go nowhere when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
