"""What several tokens per pass bring, at the terminal.

print_speculation(result, rich.console.Console())
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["print_speculation", "speculation_lines"]


def print_speculation(result: dict[str, Any], console: Console) -> None:
    """Speed by number of sequences, then what was found, in words."""
    table = Table(box=None, pad_edge=False)
    for heading in (
        "sequences",
        "nodes",
        "tokens per\nforward",
        "transformers\ntokens/s",
        "without drafts\ntokens/s",
        "drafts\ntokens/s",
        "times\ntransformers",
    ):
        table.add_column(heading, justify="right")
    for entry in result["by_batch"]:
        table.add_row(
            str(entry["batch"]),
            str(entry["nodes"]),
            f"{entry['tokens_per_forward']:.2f}",
            f"{entry['plain_tokens_per_second']:,.0f}",
            f"{entry['loop_tokens_per_second']:,.0f}",
            f"{entry['speculative_tokens_per_second']:,.0f}",
            f"{entry['speedup']:.2f}",
        )
    console.print(table)
    console.print()
    for line in speculation_lines(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def speculation_lines(result: dict[str, Any]) -> list[str]:
    """The findings beside the table."""
    found = result["speculative"]
    depths = ", ".join(f"{share:.2f}" for share in found["acceptance_by_depth"])
    same = "token for token the same" if found["identical"] else "NOT the same: please report this"
    lines = [
        f"tokens per forward  {found['tokens_per_forward']:.2f} on {result['prompts']} held-out "
        "prompts "
        f"({result['expected_tokens_per_forward']:.2f} expected from calibration)",
        f"accepted by depth   {depths}",
        f"greedy output       in float64 {same}; in {result['precision']} {found['flips']} of "
        f"{result['prompts']} texts differ "
        "somewhere (near-ties)",
    ]
    if result.get("bits_per_byte") is not None:
        changed = result.get("bits_per_byte_before")
        lines.append(
            f"bits per byte       {result['bits_per_byte']:.3f} of the next token on held-out text"
            + (
                f" ({changed:.3f} before joint training)"
                if changed is not None
                else "; the model is unchanged"
            )
        )
    pays = result["pays_up_to_batch"]
    measured = max(entry["batch"] for entry in result["by_batch"])
    if pays is None:
        lines.append(
            "it does not pay     on this machine at any number of sequences that was measured"
        )
    elif pays == measured:
        lines.append(f"it pays             at all numbers of sequences measured, up to {measured}")
    else:
        lines.append(
            f"it pays             up to {pays} sequences at once on this machine, not beyond"
        )
    return lines
