"""The results of a grid of synthetic tasks as a page.

write_synthetic(results, "lookaround-synthetic/synthetic.html")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lookaround.report import figures
from lookaround.report.findings import (
    SYNTHETIC_COLUMNS,
    is_control,
    synthetic_cells,
    synthetic_findings,
    synthetic_heading,
    synthetic_name,
    synthetic_tasks,
    synthetic_title,
)
from lookaround.report.lookup import number
from lookaround.report.page import esc, items, page, repeat, scroll
from lookaround.report.text import format_percent
from lookaround.support.storage import write_text

__all__ = ["synthetic_figures", "write_synthetic"]


def write_synthetic(results: Any, path: str | Path) -> None:
    """Write the results as a self-contained page, whole or not at all; raises UserError where it
    cannot be written.
    """
    settings = results["settings"]["synthetic"]
    queries = min(row["queries"] for row in results["rows"])
    facts = [
        f"{settings['seeds']} seeds",
        f"{settings['steps']:,} steps of {settings['batch']} problems at most",
        f"{queries:,} held-out problems",
        f"model {results['settings']['model']['preset']}",
        f"edges {settings['edges']}, query {settings['query']}",
    ]
    abouts = dict.fromkeys(results["tasks"][graph]["about"] for graph in synthetic_tasks(results))
    leads = "".join(f'<p class="lead">{esc(about)}</p>' for about in abouts if about)
    head = (
        '<header><p class="brand">lookaround synthetic</p><h1>Does the objective look ahead?</h1>'
        f'<ul class="facts">{items(facts)}</ul></header>\n<main><section>{leads}'
        '<ul class="notes" aria-label="What was '
        f'found">{items(synthetic_findings(results))}</ul></section>'
    )
    parts = [
        _section(results, place, graph, entries)
        for place, (graph, entries) in enumerate(synthetic_tasks(results).items())
    ]
    meanings = "".join(
        f"<dt>{esc(name)}</dt><dd>{esc(meaning)}</dd>" for name, meaning in SYNTHETIC_COLUMNS
    )
    foot = (
        f'<section><h2>What the columns mean</h2><dl class="terms">{meanings}</dl></section>'
        f"<section><h2>To repeat it</h2>{repeat(results['command'])}</section>"
        "\n</main>\n<footer><p>Made by lookaround.</p></footer>"
    )
    write_text(Path(path), page("lookaround synthetic", [head, *parts, foot]))


def synthetic_figures(results: Any) -> dict[str, str]:
    """{task: its learning curves as an SVG file}."""
    return {
        graph: _curves(results, place, entries)
        for place, (graph, entries) in enumerate(synthetic_tasks(results).items())
    }


def _curves(results: Any, place: int, entries: Sequence[Any]) -> str:
    def rows(entry: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            row
            for row in results["rows"]
            if (row["graph"], row["objective"]) == (entry["graph"], entry["objective"])
        ]

    shown = [(entry, rows(entry)) for entry in entries if not is_control(entry)]
    return figures.learning(shown, place)


def _section(results: Any, place: int, graph: str, entries: Sequence[Any]) -> str:
    title = synthetic_title(results, graph)
    heads = "".join(
        f'<th scope="col" title="{esc(meaning)}">{esc(name)}</th>'
        for name, meaning in SYNTHETIC_COLUMNS
    )
    rows = {True: "", False: ""}
    for entry in entries:
        cells = "".join(f"<td>{esc(cell)}</td>" for cell in synthetic_cells(entry))
        ways = entry["ways"]
        if len(ways) > 1:
            told = ", ".join(
                f"{way} {format_percent(number(share))}" for way, share in ways.items()
            )
            cells = cells.replace("</td>", f'<span class="span">{esc(told)}</span></td>', 1)
        rows[is_control(entry)] += (
            f'<tr><th scope="row">{esc(synthetic_name(entry))}</th>{cells}</tr>'
        )
    table = (
        "<table><thead><tr><th "
        f'scope="col">objective</th>{heads}</tr></thead><tbody>{rows[False]}</tbody>'
        f'<tbody class="baselines">{rows[True]}</tbody></table>'
    )
    places = next((len(row["positions"]) for row in results["rows"] if row["graph"] == graph), 0)
    names = "".join(f"<li>{figures.key(token)}token {token + 1}</li>" for token in range(places))
    figure = (
        '<figure class="aside"><h3>In which order the answer is learned</h3><div '
        f'class="chart">{_curves(results, place, entries)}</div>'
        f'<div class="reading"><ul class="legend">{names}</ul><figcaption>Accuracy of each token '
        "of the answer on validation problems, "
        "the true ones before it given (by itself, for what writes in parallel). Thin lines are "
        "seeds. The dashed line is a guess "
        "among the arms.</figcaption></div></figure>"
    )
    return (
        f'<section aria-labelledby="task-{place}"><h2 '
        f'id="task-{place}">{esc(synthetic_heading(title, entries))}</h2>'
        f'{scroll(f"Results on {title}", table)}<div class="figures">{figure}</div></section>'
    )
