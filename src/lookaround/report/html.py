"""One self-contained HTML page for each kind of study, and a table of it for a notebook.

    write_report(load_results("runs/compare/results.json"), "runs/compare/report.html")

A page makes no request and runs no script, and can be read on a phone, in the dark and on paper.
The templates escape every text that comes from the results, and the page's own
Content-Security-Policy forbids whatever might slip through. The same dict gives the same bytes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lookaround.report import figures, tables
from lookaround.report.findings import (
    SYNTHETIC_COLUMNS,
    forecast_contexts,
    forecast_features,
    forecast_lines,
    is_control,
    speculation_lines,
    synthetic_findings,
    synthetic_heading,
    synthetic_tasks,
    synthetic_title,
)
from lookaround.report.lookup import NEEDS, Lookup, mean, number
from lookaround.report.page import render
from lookaround.report.text import format_count, format_flops, format_rung, format_share
from lookaround.support.storage import write_text

__all__ = [
    "fragment",
    "render_html",
    "synthetic_figures",
    "write_forecast",
    "write_report",
    "write_speculation",
    "write_synthetic",
]


def _drawn(*charts: str) -> list[Markup]:
    """The figures that there is something to draw for: SVG of our own, put into pages as it is."""
    return [Markup(chart) for chart in charts if chart]


# --------------------------------------------------------------------------------------------------
# a comparison


def write_report(results: dict[str, Any], path: str | Path, *, samples: bool = True) -> None:
    """Write `render_html(results)` to `path`, whole or not at all: a reader never sees half a page.

    Raises UserError if the folder cannot be written to; an older file at `path` is then left as it
    was.
    """
    write_text(Path(path), render_html(results, samples=samples))


def render_html(results: dict[str, Any], *, samples: bool = True) -> str:
    """The page for the dict of a results.json (docs/results-format.md), as text to be saved in
    UTF-8.

    With `samples=False` no prompt and no continuation is in the page, and it says so. Parts without
    data are left out; numbers that are absent, null or NaN are shown as a dash.
    """
    study = Lookup(results)
    name = str((results.get("corpus") or {}).get("name") or "this corpus")
    falling = [study.title(metric) for metric in study.metrics if not study.higher(metric)]
    lower = ", ".join(falling) or "bits per byte"
    gaps = {rung: tables.differences(study, rung) for rung in reversed(study.rungs)}
    methods = (row.get("method") for row in results.get("differences") or [])
    forecast = results.get("forecast")
    return render(
        "comparison",
        made_by="compare",
        title=f"lookaround compare: {name}",
        heading=f"Which objective for {name}?",
        facts=_facts(study),
        study=study,
        budget=_budget(study),
        cards=[_card(study, need) for need in NEEDS],
        remarks=_notes(study),
        lower=lower[:1].upper() + lower[1:],
        scores=tables.scores(study),
        lines=list(enumerate(study.objectives)),
        tradeoff=_drawn(figures.tradeoff(study)),
        ladder=_drawn(
            *(
                figures.ladder(study, metric)
                for metric in ("bits_per_byte", study.classification)
                if metric in study.metrics
            )
        ),
        losses=_drawn(figures.losses(study)),
        prefixes=_drawn(figures.by_prefix(study)),
        beyond=figures.off_scale(study),
        gaps=[(tables.at(rung), table) for rung, table in gaps.items() if table],
        rungs=tables.ladder(study),
        methods=list(dict.fromkeys(filter(None, methods))),
        samples=_samples(study) if samples else None,
        equal={"tokens": "tokens", "seconds": "time"}.get(str(results.get("equal")), "FLOPs"),
        protocols=[
            (about.get("title") or key, about.get("about") or "")
            for key, about in (results.get("metrics") or {}).items()
        ],
        tasks=tables.tasks(study),
        boxes=[
            (key.capitalize(), _flat(results[key]))
            for key in ("corpus", "machine", "versions")
            if results.get(key)
        ],
        settings=_flat(results.get("settings") or {}),
        repeat=str(results.get("command") or ""),
        version=(results.get("versions") or {}).get("lookaround"),
        format=results.get("version"),
        forecast=_forecast(forecast) if forecast else None,
        appendix=True,
    )


def _facts(study: Lookup) -> list[str]:
    corpus = study.results.get("corpus") or {}
    objectives, seeds = len(study.objectives), len(study.seeds)
    facts = [
        f"{objectives} objective{_s(objectives)}, {seeds} seed{_s(seeds)}, "
        + (f"{len(study.rungs)} budgets" if len(study.rungs) > 1 else "one budget"),
    ]
    flops = mean(study.cost(objective, "flops") for objective in study.objectives)
    known = (
        ("model of {} parameters", format_count, number(study.results.get("parameters"))),
        (f"{{}} per run at the {_budget(study)}", format_flops, flops),
        ("{} bytes of text", format_count, number(corpus.get("bytes"))),
    )
    return facts + [
        text.format(form(value)) for text, form, value in known if not math.isnan(value)
    ]


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _budget(study: Lookup) -> str:
    return "full budget" if study.full == 1 else f"largest budget ({format_rung(study.full)})"


def _notes(study: Lookup) -> list[str]:
    notes = [str(note) for note in study.results.get("notes") or []]
    if len(study.seeds) == 1 and not any("seed" in note for note in notes):
        notes.insert(0, "One seed only: the intervals do not cover the variation between seeds.")
    return notes


def _card(study: Lookup, need: str) -> dict[str, Any]:
    """What is recommended for a need: decided, open (a sentence says between which) or absent."""
    answer = str((study.results.get("recommendation") or {}).get(need) or "")
    head, _, detail = (part.strip() for part in answer.partition(":"))
    kind = "open"
    if study.recommended(need):
        kind, head, detail = "decided", answer, ""
    elif not answer or answer.startswith("not measured"):
        kind, head = "absent", "Not measured"
    return {
        "kind": kind,
        "need": need,
        "answer": head if kind == "decided" else head[:1].upper() + head[1:],
        "detail": detail,
        "reason": str((study.results.get("reasons") or {}).get(need) or ""),
        "scores": _card_scores(study, need, answer) if kind == "decided" else [],
    }


def _card_scores(study: Lookup, need: str, objective: str) -> list[tuple[str, str, str]]:
    """(mean, interval, what of) of each score that decides a need."""
    wanted = [study.classification] if need != "generation" and study.classification else []
    wanted += ["bits_per_byte"] if need != "classification" else []
    lines = []
    for metric in wanted:
        score = study.score(objective, metric)
        share = format_share(score.mean, study.unigram)
        of = f", {share} of the unigram model" if metric == "bits_per_byte" and share != "-" else ""
        if score.known:
            lines.append(
                (tables.signless(score.mean), tables.span(score), study.title(metric) + of)
            )
    return lines


def _samples(study: Lookup) -> list[tuple[int, dict[str, Any]]]:
    """(number of the objective, its first run with samples) of those that have any."""
    found = []
    for index, objective in enumerate(study.objectives):
        runs = [run for run in study.runs_at(objective, study.full) if run.get("samples")]
        found += [(index, run) for run in runs[:1]]
    return found


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, text) pairs."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict):
            pairs += _flat(value, f"{name}: " if not prefix else f"{name}.")
        elif isinstance(value, list):
            pairs.append((name, ", ".join(map(_plain, value)) or "none"))
        else:
            pairs.append((name, _plain(value)))
    return pairs


def _plain(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


# --------------------------------------------------------------------------------------------------
# the other studies


def write_forecast(result: dict[str, Any], path: str | Path) -> None:
    """Write the forecast as a self-contained page, whole or not at all; raises UserError where it
    cannot be written.
    """
    corpus = result.get("corpus") or {}
    name = corpus.get("name") or "this corpus"
    page = render(
        "forecast",
        made_by="forecast",
        title=f"lookaround forecast: {name}",
        heading=f"What objectives make of {name}",
        facts=[
            f"{format_count(number(corpus.get('tokens')))} tokens",
            f"vocabulary {number(corpus.get('vocabulary')):,.0f}",
        ],
        forecast=_forecast(result),
        appendix=False,
        repeat=result.get("command") or "",
    )
    write_text(Path(path), page)


def _forecast(result: dict[str, Any]) -> dict[str, Any]:
    """What the section of a forecast shows."""
    record = (result.get("track_record") or {}).get("sentence", "")
    return {
        "contexts": forecast_contexts(result),
        "features": forecast_features(result),
        "rank": result.get("rank"),
        "notes": [f"Track record: {record}", *(result.get("notes") or [])],
        "table": tables.forecast(result),
        "answers": tables.answers(result),
        "charts": _drawn(figures.spectra(result)),
        "lines": [
            (place, line["objective"])
            for place, (line, _) in enumerate(forecast_lines(result))
            if line.get("singular_values")
        ],
    }


def write_synthetic(results: dict[str, Any], path: str | Path) -> None:
    """Write the results as a self-contained page, whole or not at all; raises UserError where it
    cannot be written.
    """
    settings = results["settings"]["synthetic"]
    charts = synthetic_figures(results)
    tasks = synthetic_tasks(results)
    titles = {task: synthetic_title(results, task) for task in tasks}
    page = render(
        "synthetic",
        made_by="synthetic",
        title="lookaround synthetic",
        heading="Does the objective look ahead?",
        facts=[
            f"{settings['seeds']} seed{_s(settings['seeds'])}",
            f"{settings['steps']:,} steps of {settings['batch']} problems at most",
            f"{min(row['queries'] for row in results['rows']):,} held-out problems",
            f"model {results['settings']['model']['preset']}",
            f"edges {settings['edges']}, query {settings['query']}",
        ],
        abouts=[about for about in {results["tasks"][task]["about"]: 0 for task in tasks} if about],
        findings=synthetic_findings(results),
        tasks=[
            {
                "heading": synthetic_heading(titles[task], entries),
                "table": tables.synthetic(titles[task], entries),
                "charts": _drawn(charts[task]),
                "lines": _places(results, task),
            }
            for task, entries in tasks.items()
        ],
        columns=SYNTHETIC_COLUMNS,
        repeat=results["command"],
    )
    write_text(Path(path), page)


def synthetic_figures(results: dict[str, Any]) -> dict[str, str]:
    """{task: its learning curves as an SVG file}."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in results["rows"]:
        rows.setdefault((row["graph"], row["objective"]), []).append(row)
    return {
        task: figures.learning(
            [
                (entry, rows.get((entry["graph"], entry["objective"]), []))
                for entry in entries
                if not is_control(entry)
            ],
            place,
        )
        for place, (task, entries) in enumerate(synthetic_tasks(results).items())
    }


def _places(results: dict[str, Any], task: str) -> list[tuple[int, str]]:
    """The tokens of a task's answer, as lines of its figure."""
    lengths = (len(row["positions"]) for row in results["rows"] if row["graph"] == task)
    return [(token, f"token {token + 1}") for token in range(next(lengths, 0))]


def write_speculation(result: dict[str, Any], path: str | Path) -> None:
    """Write what drafts bring as a self-contained page, whole or not at all; raises UserError where
    it cannot be written.
    """
    page = render(
        "speculation",
        made_by="speculate",
        title="lookaround speculate",
        heading="What do several tokens per pass bring?",
        facts=[
            f"{result['prompts']} held-out prompts",
            f"{result['new_tokens']} new tokens each",
            f"in {result['precision']}",
        ],
        speed=tables.speculation(result),
        findings=_found(result),
        repeat=result.get("command") or "",
    )
    write_text(Path(path), page)


def _found(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What a speculation found, as (of what, text)."""
    parts = (line.partition("  ") for line in speculation_lines(result))
    return [(name, text.strip()) for name, _, text in parts]


# --------------------------------------------------------------------------------------------------
# in a notebook


def fragment(result: Any) -> str:
    """The main table of a result, and what follows from it, as HTML that carries its own style.

    result: of any study or an evaluation, as its dict or its model.
    """
    data = result if isinstance(result, dict) else result.model_dump()
    if "differences" in data:
        study = Lookup(data)
        shown = [(f"Scores at the {_budget(study)}", tables.scores(study))]
        said = [f"{need}: {answer}" for need, answer in data["recommendation"].items()]
    elif "controls" in data:
        shown = [("Before any training", tables.forecast(data))]
        said = [f"{task}: {answer}" for task, answer in data["recommendation"].items()]
    elif "summary" in data:
        shown = [
            (
                synthetic_heading(synthetic_title(data, task), entries),
                tables.synthetic(task, entries),
            )
            for task, entries in synthetic_tasks(data).items()
        ]
        said = synthetic_findings(data)
    elif "by_batch" in data:
        shown = [("Speed by number of sequences", tables.speculation(data))]
        said = [": ".join(pair) for pair in _found(data)]
    else:
        shown, said = [(f"Scores of {data.get('model')}", tables.evaluation(data))], []
    return render("fragment", shown=shown, said=said)
