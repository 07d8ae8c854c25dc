"""A forecast as a page of its own, and as a section of a study's page.

write_forecast(result, "lookaround-forecast/forecast.html")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lookaround.report import figures
from lookaround.report.findings import (
    FORECAST_COLUMNS,
    forecast_contexts,
    forecast_features,
    forecast_leader,
    forecast_lines,
    forecast_tasks,
)
from lookaround.report.lookup import number
from lookaround.report.page import esc, items, page, repeat, scroll
from lookaround.report.text import format_count, format_score
from lookaround.support.storage import write_text

__all__ = ["forecast_section", "write_forecast"]


def write_forecast(result: Any, path: str | Path) -> None:
    """Write the forecast as a self-contained page, whole or not at all; raises UserError where it
    cannot be written.
    """
    corpus = result.get("corpus") or {}
    facts = [
        f"{format_count(number(corpus.get('tokens')))} tokens",
        f"vocabulary {number(corpus.get('vocabulary')):,.0f}",
    ]
    head = (
        '<header><p class="brand">lookaround forecast</p><h1>What objectives make of '
        f"{esc(corpus.get('name') or 'this corpus')}</h1>"
        f'<ul class="facts">{items(facts)}</ul></header>\n<main>'
    )
    foot = (
        f"<section><h2>To repeat it</h2>{repeat(result.get('command') or '')}</section>"
        "\n</main>\n<footer><p>Made by lookaround.</p></footer>"
    )
    title = f"lookaround forecast: {corpus.get('name') or 'this corpus'}"
    write_text(Path(path), page(title, [head, forecast_section(result), foot]))


def forecast_section(result: Any) -> str:
    """The forecast as a <section> of a page: table with controls, recommendation per task, figure,
    what it is not.
    """
    record = result.get("track_record") or {}
    notes = [f"Track record: {record.get('sentence', '')}", *(result.get("notes") or [])]
    lead = (
        "One count of the corpus gives every objective its co-occurrence matrix of contexts "
        f"({forecast_contexts(result)}) and targets. A text "
        f"is the mean of its tokens' features ({forecast_features(result)}, rank {result.get('rank')}); "
        "the score is a least-squares "
        "probe's. No model was trained. The last lines are controls: what predicts only one far "
        "token, what is left when all "
        "order is shuffled away, and what needs no objective at all."
    )
    spectra = figures.spectra(result)
    figure = (
        '<div class="figures"><figure class="aside"><h3>Singular values</h3><div '
        f'class="chart">{spectra}</div>'
        f'<div class="reading">{_legend(result)}<figcaption>A spectrum that falls faster leaves '
        "less beyond the rank (tail "
        "energy). A faster fall is no merit by itself: shuffled pairs and far tokens fall "
        "fastest.</figcaption></div></figure></div>"
        if spectra
        else ""
    )
    return (
        '<section aria-labelledby="forecast"><h2 id="forecast">Before any training</h2>'
        f'<p class="lead">{esc(lead)}</p><ul class="notes" aria-label="Notes on the '
        f'forecast">{items(notes)}</ul>'
        f"{_table(result)}{_answers(result)}{figure}</section>"
    )


def _table(result: Any) -> str:
    tasks = forecast_tasks(result)
    heads = "".join(
        '<th scope="col" '
        f'title="{esc(meaning)}">{esc(heading.replace("-" + chr(10), "").replace(chr(10), " "))}</th>'
        for heading, meaning, _ in FORECAST_COLUMNS
    )
    heads += "".join(f'<th scope="col">{esc(task)}</th>' for task in tasks)
    bodies: dict[bool, list[str]] = {False: [], True: []}
    for place, (line, control) in enumerate(forecast_lines(result)):
        cells = "".join(f"<td>{esc(read(line))}</td>" for _, _, read in FORECAST_COLUMNS)
        for task in tasks:
            score = format_score(number((line.get("tasks") or {}).get(task)))
            mark = ""
            if not control and line["objective"] == forecast_leader(result, task):
                mark = '<span class="flag">leads</span>'
            elif line["objective"] in ((result.get("not_distinguished") or {}).get(task) or []):
                mark = '<span class="unclear">not told apart</span>'
            cells += f"<td>{esc(score)}{mark}</td>"
        key = figures.key(place) if line.get("singular_values") else ""
        bodies[control].append(
            f'<tr><th scope="row">{key}{esc(line["objective"])}</th>{cells}</tr>'
        )
    return scroll(
        "Forecast",
        "<table><thead><tr><th "
        f'scope="col">objective</th>{heads}</tr></thead><tbody>{"".join(bodies[False])}</tbody>'
        f'<tbody class="baselines">{"".join(bodies[True])}</tbody></table>',
    )


def _answers(result: Any) -> str:
    reasons = result.get("reasons") or {}
    rows = "".join(
        f'<tr><th scope="row">{esc(task)}</th><td class="text">{esc(answer)}</td><td '
        f'class="text">{esc(reasons.get(task, ""))}</td></tr>'
        for task, answer in (result.get("recommendation") or {}).items()
    )
    if not rows:
        return ""
    heads = '<th scope="col">task</th><th scope="col" class="text">recommends</th><th scope="col" class="text">why</th>'
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    return "<h3>What it recommends</h3>" + scroll("Recommendations", table)


def _legend(result: Any) -> str:
    items = "".join(
        f"<li>{figures.key(place)}{esc(line['objective'])}</li>"
        for place, (line, _) in enumerate(forecast_lines(result))
        if line.get("singular_values")
    )
    return f'<ul class="legend">{items}</ul>'
