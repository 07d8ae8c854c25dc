"""A forecast at the terminal, as a page of its own, and as a section of a study's page.

print_forecast(result, rich.console.Console())
write_forecast(result, "lookaround-forecast/forecast.html")
"""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Any

from rich.console import Console

from lookaround.report import figures
from lookaround.report.page import esc, items, page, repeat, scroll
from lookaround.report.table import (
    Column,
    format_count,
    format_score,
    number,
    print_answers,
    print_columns,
    print_text,
    printable,
)
from lookaround.support.storage import write_text

__all__ = ["forecast_section", "print_forecast", "write_forecast"]

_FIGURES = (  # heading, what it means, how a line's cell reads
    (
        "tail energy",
        "sum of sigma^2 beyond the rank: how much of the matrix a table of this rank leaves out; "
        "reported, never ranked on",
        lambda line: _cell(line.get("tail_energy"), "{:.1f}"),
    ),
    ("sigma2", "the second singular value", lambda line: _cell(line.get("sigma2"), "{:.3f}")),
    (
        "compo-\nnents",
        "connected components of the graph of contexts and targets",
        lambda line: _cell(line.get("components"), "{:.0f}"),
    ),
    (
        "meeting",
        "probability that two contexts drawn by frequency share a target",
        lambda line: "saturated" if line.get("saturated") else _cell(line.get("meeting"), "{:.3f}"),
    ),
    (
        "effective\nrank",
        "exp of the entropy of the singular values kept",
        lambda line: _cell(line.get("effective_rank"), "{:.0f}"),
    ),
)
_HEADING_WIDTH = 14  # the name of a task is broken there


def _cell(value: object, form: str) -> str:
    found = number(value)
    return "-" if found != found else form.format(found)


def _lines(result: dict[str, Any]) -> list[tuple[dict[str, Any], bool]]:
    """(line, whether it is a control) in the order of the table."""
    lines = [(line, False) for line in result.get("objectives") or []]
    return [*lines, *((line, True) for line in result.get("controls") or [])]


def _tasks(result: dict[str, Any]) -> list[str]:
    return list(result.get("metrics") or {})


def _score(result: dict[str, Any], line: dict[str, Any], task: str) -> str:
    """A score, with the mark of what it can't be told apart from: = the leader's equals, ^ the
    leader.
    """
    score = format_score(number((line.get("tasks") or {}).get(task)))
    close = (result.get("not_distinguished") or {}).get(task) or []
    name = line["objective"]
    if name == _leader(result, task):
        return f"{score} ^"
    return f"{score} =" if name in close else f"{score}  "


def _leader(result: dict[str, Any], task: str) -> str:
    scores = {
        line["objective"]: number(line["tasks"].get(task))
        for line in result.get("objectives") or []
    }
    return max(scores, key=lambda name: scores[name]) if scores else ""


def _contexts(result: dict[str, Any]) -> str:
    return "a token" if result.get("context") == 1 else f"{result.get('context')} tokens in order"


def _features(result: dict[str, Any]) -> str:
    kind = {
        "context": "context features F",
        "target": "target features G",
        "both": "[F, G], half of the rank each",
    }
    return kind.get(str(result.get("features")), str(result.get("features")))


# ---------------------------------------------------------------------------------------------------------------
# at the terminal


def print_forecast(result: dict[str, Any], console: Console) -> None:
    """Print the table, the recommendation per task, the track record and the notes of a
    forecast.
    """
    tasks = _tasks(result)
    print_text(
        console,
        f"Before any training: contexts of {_contexts(result)}, rank {result['rank']}, probes on "
        f"{_features(result)}",
        "bold",
    )
    lines = [line for line, _ in _lines(result)]
    columns = [Column(heading, [read(line) for line in lines]) for heading, _, read in _FIGURES]
    columns += [
        Column(
            "\n".join(wrap(printable(task), _HEADING_WIDTH)),
            [_score(result, line, task) for line in lines],
        )
        for task in tasks
    ]
    labels = [printable(line["objective"]) for line in lines]
    print_columns(console, [columns], labels, len(result.get("objectives") or []))
    if tasks:
        print_text(
            console,
            "^ leads among the objectives   = not told apart from the leader (paired, 95%)   last "
            "three lines: controls",
        )
    console.print()
    if tasks:
        reasons = result.get("reasons") or {}
        answers = (result.get("recommendation") or {}).items()
        print_answers(
            console,
            [
                (task, told, not told.startswith("nothing"), reasons.get(task))
                for task, told in answers
            ],
        )
    print_text(console, f"Track record: {(result.get('track_record') or {}).get('sentence', '')}")
    for note in result.get("notes") or []:
        print_text(console, f"note: {printable(note)}")


# ---------------------------------------------------------------------------------------------------------------
# in HTML


def write_forecast(result: dict[str, Any], path: str | Path) -> None:
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


def forecast_section(result: dict[str, Any]) -> str:
    """The forecast as a <section> of a page: table with controls, recommendation per task, figure,
    what it is not.
    """
    record = result.get("track_record") or {}
    notes = [f"Track record: {record.get('sentence', '')}", *(result.get("notes") or [])]
    lead = (
        "One count of the corpus gives every objective its co-occurrence matrix of contexts "
        f"({_contexts(result)}) and targets. A text "
        f"is the mean of its tokens' features ({_features(result)}, rank {result.get('rank')}); "
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


def _table(result: dict[str, Any]) -> str:
    tasks = _tasks(result)
    heads = "".join(
        '<th scope="col" '
        f'title="{esc(meaning)}">{esc(heading.replace("-" + chr(10), "").replace(chr(10), " "))}</th>'
        for heading, meaning, _ in _FIGURES
    )
    heads += "".join(f'<th scope="col">{esc(task)}</th>' for task in tasks)
    bodies: dict[bool, list[str]] = {False: [], True: []}
    for place, (line, control) in enumerate(_lines(result)):
        cells = "".join(f"<td>{esc(read(line))}</td>" for _, _, read in _FIGURES)
        for task in tasks:
            score = format_score(number((line.get("tasks") or {}).get(task)))
            mark = ""
            if not control and line["objective"] == _leader(result, task):
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


def _answers(result: dict[str, Any]) -> str:
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


def _legend(result: dict[str, Any]) -> str:
    items = "".join(
        f"<li>{figures.key(place)}{esc(line['objective'])}</li>"
        for place, (line, _) in enumerate(_lines(result))
        if line.get("singular_values")
    )
    return f'<ul class="legend">{items}</ul>'
