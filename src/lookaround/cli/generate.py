"""`lookaround generate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lookaround.cli.console import loading, say
from lookaround.cli.options import Given, takes_settings
from lookaround.support.errors import UserError
from lookaround.support.storage import require_writable
from lookaround.support.text import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from lookaround.decode import Generated, Writer


@takes_settings("generate")
def command(
    given: Given,
    model: Annotated[
        Path,
        typer.Argument(
            help="A run, or a model's folder or name on the Hugging Face hub.", show_default=False
        ),
    ],
    prompt: Annotated[
        list[str] | None,
        typer.Argument(help="Texts to continue.", show_default="one empty text"),
    ] = None,
    show_drafts: Annotated[
        bool, typer.Option("--show-drafts", help="Colour the tokens that were accepted drafts.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the texts to this file.", show_default=False)
    ] = None,
) -> None:
    """Continues texts as they are written."""
    if out is not None:
        require_writable("--out", out)
    for text in prompt or []:
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UserError(f"prompt {one_line(ascii(text))}: not UTF-8")
    settings = given.settings()
    with loading("loading the model") as console:
        from lookaround.decode import Generated, Writer
        from lookaround.model.backbone import UNLIMITED
        from lookaround.model.readable import open_run
        from lookaround.support.storage import write_text

        run = open_run(model)
        _ = run.tokenizer  # refuses a model of pictures
        writer = Writer(run, settings.generate, seed=settings.seed)
    parameters, mode = writer.readable.backbone.parameter_count, str(writer.mode)
    window = writer.readable.context
    if given.dry_run:
        said = window if window < UNLIMITED else "of any length"
        say(console, f"{parameters:,} parameters; {mode}; window {said}; {writer.description}")
        given.write({"parameters": parameters, "mode": mode, "window": window})
        return
    if show_drafts and writer.speculator is None:
        raise UserError(
            f"--show-drafts: {model} has no heads that look ahead (or is not read causally, or its "
            "cache cannot be rewound)"
        )
    texts = [Generated(text) for text in prompt or [""]]
    entries = []
    for made in texts:
        # an answer begins a line of its own
        say(console, made.prompt, end="\n" if settings.generate.chat else "", style="dim")
        for piece, drafted in writer.write(made):
            say(console, piece, end="", style="green" if show_drafts and drafted else None)
        console.print()
        if made.cut:
            say(
                console,
                f"[the first {made.cut:,} tokens of the prompt were not read: the model is read "
                f"through {window:,}]",
                style="dim",
            )
        entries.append(_entry(writer, made))
        _say_cost(console, entries[-1], show_drafts)
    if out is not None:
        between = "\n" if settings.generate.chat else ""
        whole = [f"{made.prompt}{between}{made.text}" for made in texts]
        write_text(out, "\n\n".join(whole) + "\n")
    given.write({"model": str(model), "mode": mode, "texts": entries})


def _entry(writer: Writer, made: Generated) -> dict[str, Any]:
    """A text and what it took, as --json has it."""
    entry: dict[str, Any] = {
        "prompt": made.prompt,
        "continuation": made.text,
        "tokens": len(made.tokens),
    }
    if made.cut:
        entry["prompt_tokens_cut"] = made.cut
    if made.stats.tried:
        entry["tokens_per_forward"] = made.stats.tokens_per_forward
        entry["acceptance_by_depth"] = made.stats.acceptance_by_depth
    if writer.several:
        fast, plain = writer.cost(made)
        entry |= {
            "passes": made.stats.passes,
            "bits_per_token": fast,
            "bits_per_token_one_per_pass": plain,
        }
    return entry


def _say_cost(console: Console, entry: dict[str, Any], show_drafts: bool) -> None:
    """Prints what several tokens per pass cost or gave."""
    if "passes" in entry:
        say(
            console,
            f"[{entry['passes']} passes; {entry['bits_per_token']:.2f} bits per token as the model "
            "itself reads the text from left to right, "
            f"{entry['bits_per_token_one_per_pass']:.2f} for one made a token per pass]",
            style="dim",
        )
    if show_drafts and "tokens_per_forward" in entry:
        shares = ", ".join(f"{share:.2f}" for share in entry["acceptance_by_depth"])
        say(
            console,
            f"[{entry['tokens_per_forward']:.2f} tokens per forward; accepted by depth {shares}; "
            "green: accepted drafts]",
            style="dim",
        )
    elif show_drafts:
        say(
            console,
            "[no drafts: prompt and --max-new-tokens are more than the window holds]",
            style="dim",
        )
