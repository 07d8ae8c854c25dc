"""The entry point, and the commands by name. A command's module is imported when it is run."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from lookaround import __version__
from lookaround.support.errors import Interrupted, UserError

COMMANDS = {
    "compare": "Train several objectives at equal budget, evaluate classification and generation, "
    "and recommend one per need.",
    "forecast": "What the corpus says before any training: each objective's co-occurrence spectrum "
    "and probes, beside three controls.",
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
        module = importlib.import_module(f"lookaround.cli.{found.name}")
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(found.name, help=COMMANDS[found.name])(module.command)
        return name, typer.main.get_command(single), rest


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
    """Entry point: user errors become one line and exit code 2, an interrupted run 130."""
    try:
        code = app(standalone_mode=False) or 0
        # what the argument parser makes of a Ctrl-C that no run listened to
        if code == 130:
            print("stopped", file=sys.stderr)
        sys.exit(code)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as error:
        print(f"stopped: {error}", file=sys.stderr)
        sys.exit(130)
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if not hasattr(error, "format_message"):  # what the argument parser raises
            raise
        if not str(error) and hasattr(error, "ctx"):  # no arguments: the help was what was wanted
            error.show()  # type: ignore[attr-defined]
        else:
            message = " ".join(error.format_message().split())
            if "extra argument" in message:
                message += "; put what has spaces in quotes"
            if message.startswith("No such option"):
                message += "; any setting is --set section.name=value, see lookaround settings"
            print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
