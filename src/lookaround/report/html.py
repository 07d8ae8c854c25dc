"""One self-contained HTML page for each kind of study, and a table of it for a notebook.

    load_results("lookaround-compare").write_page("report.html")

A page makes no request and runs no script, and can be read on a phone, in the dark and on paper.
The templates escape every text that comes from the results, and the page's own
Content-Security-Policy forbids whatever might slip through. The same results give the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from lookaround.report import figures, protocols, tables
from lookaround.report.findings import (
    extrapolation_lines,
    forecast_contexts,
    forecast_features,
    has_answers,
    is_control,
    speculation_lines,
    synthetic_columns,
    synthetic_findings,
    synthetic_heading,
    synthetic_tasks,
)
from lookaround.report.lookup import BASELINES, BITS, Interval, Lookup, mean, number
from lookaround.report.page import Table, render
from lookaround.report.text import format_count, format_flops, format_rung

if TYPE_CHECKING:
    from lookaround.report.schema import (
        ComparisonResults,
        ForecastResults,
        Results,
        SpeculationResults,
        SyntheticResults,
    )
    from lookaround.report.schema.comparison import Run, Verdict
    from lookaround.report.schema.synthetic import SyntheticRow


def render_html(result: Results, *, samples: bool = True) -> str:
    """The page of a study, as text to be saved in UTF-8.

    Parts without data are left out; numbers that are absent, null or NaN are shown as a dash.

    result: of a study that has a page, which its `page` names.
    samples: whether what the models wrote is shown; without it the page says that it is not.
    """
    template, context_of, _ = _STUDIES[result.page]
    return render(template, samples_wanted=samples, **context_of(result))


def fragment(result: Results) -> str:
    """The main table of a result, and what follows from it, as HTML that carries its own style."""
    *_, shown_of = _STUDIES.get(result.page, (_other_shown,))
    shown, said = shown_of(result)
    return render("fragment", shown=shown, said=said)


Shown = tuple[list[tuple[str, Table]], list[str]]  # captions and tables; what follows from them


def _other_shown(result: Results) -> Shown:
    caption, rows = next(iter(result.tables().items()))
    return [(caption, tables.plain(rows))], []


def _drawn(*charts: str) -> list[Markup]:
    """The figures that there is something to draw for: SVG of our own, put into pages as it is."""
    return [Markup(chart) for chart in charts if chart]


# --------------------------------------------------------------------------------------------------
# a comparison


def _comparison(results: ComparisonResults) -> dict[str, Any]:
    study = Lookup(results)
    name = results.corpus.name or "this corpus"
    falling = [study.title(metric) for metric in study.metrics if not study.higher(metric)]
    lower = ", ".join(falling) or study.title(BITS)
    by_task = {key: protocols.by_task(study, key) for key in study.columns}
    tuned = [task for task in study.columns.get("finetune", ()) if study.worths()]
    gaps = {rung: tables.differences(study, rung) for rung in reversed(study.rungs)}
    methods = (row.method for row in results.differences if row.method)
    boxes = {
        "Corpus": results.corpus.as_dict(),
        "Machine": results.machine.as_dict() if results.machine else {},
        "Versions": results.versions,
    }
    return {
        "made_by": "compare",
        "title": f"lookaround compare: {name}",
        "heading": f"Which objective for {name}?",
        "facts": _facts(study),
        "study": study,
        "budget": _budget(study),
        "cards": [_card(study, need) for need in study.needs],
        "remarks": _remarks(study),
        "lower": lower[:1].upper() + lower[1:],
        "scores": tables.scores(study),
        "lines": list(enumerate(study.objectives)),
        "tradeoff": _drawn(figures.tradeoff(study)),
        "ladder": _drawn(
            *(
                figures.ladder(study, metric)
                for metric in map(study.headline, (BITS, "probe", "tokens"))
                if metric
            )
        ),
        "by_task": [
            (study.title(key), table) for key, table in by_task.items() if table and _filled(table)
        ],
        "tuned": [(task, protocols.finetune(study, task)) for task in tuned],
        "label_curves": _drawn(*(protocols.label_curve(study, task) for task in tuned)),
        "worths": study.worths(),
        "minimal": [
            (task, protocols.pairs(study, task), protocols.phenomena(study, task))
            for task in study.columns.get("pairs", ())
        ],
        "order": protocols.order(study) if "order" in study.columns else None,
        "losses": _drawn(figures.losses(study)),
        "prefixes": _drawn(figures.by_prefix(study)),
        "beyond": figures.off_scale(study),
        "methods": list(dict.fromkeys(methods)),
        "gaps": [(tables.at(rung), table) for rung, table in gaps.items() if table],
        "rungs": tables.ladder(study),
        "larger": tables.extrapolation(study),
        "extrapolation": extrapolation_lines(results),
        "samples": _samples(study),
        "equal": {"tokens": "tokens", "seconds": "time"}.get(results.equal or "", "FLOPs"),
        "protocols": [
            (about.title or key, about.about or "")
            for key, about in results.metrics.items()
            if key not in (BITS, "probe")
        ],
        "tasks": tables.tasks(study),
        "boxes": [(title, _flat(values)) for title, values in boxes.items() if values],
        "settings": _flat(results.settings),
        "repeat": results.command,
        "version": results.versions.get("lookaround"),
        "format": results.version,
        "forecast": _forecast(results.forecast) if results.forecast else None,
    }


def _comparison_shown(results: ComparisonResults) -> Shown:
    study = Lookup(results)
    answers = results.recommendation
    said = [f"{title}: {answers[need]}" for need, title in study.needs.items() if answers.get(need)]
    return [(f"Scores at the {_budget(study)}", tables.scores(study))], said


def _facts(study: Lookup) -> list[str]:
    objectives, seeds = len(study.objectives), len(study.seeds)
    facts = [
        f"{objectives} objective{_s(objectives)}, {seeds} seed{_s(seeds)}, "
        + (f"{len(study.rungs)} budgets" if len(study.rungs) > 1 else "one budget"),
    ]
    flops = mean(study.cost(objective, "flops") for objective in study.objectives)
    known = (
        ("model of {} parameters", format_count, number(study.results.parameters)),
        (f"{{}} per run at the {_budget(study)}", format_flops, flops),
        ("{} bytes of text", format_count, number(study.results.corpus.bytes)),
        ("{} pictures", format_count, number(study.results.corpus.pictures)),
    )
    return facts + [text.format(form(value)) for text, form, value in known if value == value]


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _budget(study: Lookup) -> str:
    return "full budget" if study.full == 1 else f"largest budget ({format_rung(study.full)})"


def _remarks(study: Lookup) -> list[str]:
    notes = study.results.notes
    if len(study.seeds) == 1 and not any("seed" in note for note in notes):
        alone = "One seed only: the intervals do not cover the variation between seeds."
        return [alone, *notes]
    return notes


def _filled(table: Table) -> bool:
    """Whether a table has rows of objectives with cells."""
    return any(row.cells for row in table.groups[0][1])


def _card(study: Lookup, need: str) -> dict[str, Any]:
    """What is recommended for a need: decided (its verdict is green), open or absent."""
    results = study.results
    answer, verdict = results.recommendation.get(need) or "", results.verdicts.get(need)
    head, _, detail = (part.strip() for part in answer.partition(":"))
    kind = "open"
    if study.recommended(need):
        kind, head, detail = "decided", answer, ""
    elif not answer or answer.startswith("not measured"):
        kind, head = "absent", "Not measured"
    return {
        "kind": kind,
        "need": need,
        "title": study.needs[need],
        "answer": head if kind == "decided" else head[:1].upper() + head[1:],
        "detail": detail,
        "reason": (verdict.reason if verdict else results.reasons.get(need)) or "",
        "settle": (verdict.settle if verdict else "") or "",
        "scores": _card_scores(study, verdict) if verdict else [],
    }


def _card_scores(study: Lookup, verdict: Verdict) -> list[tuple[str, str, str]]:
    """(number, interval, what of) of what a verdict rests on: gain, score, and best baseline."""
    metric, leader = verdict.metric or "", verdict.leader or ""
    if not metric or not leader:
        return []
    metric = study.headline(metric) or metric
    points, found = study.in_points(metric), []
    gain = Interval(number(verdict.gain), number(verdict.gain_low), number(verdict.gain_high))
    if gain.known:
        unit = "points over" if points else "over"
        found.append((*tables.gained(gain, points=points), f"{unit} the untrained network"))
    score = study.score(leader, metric)
    found.append((tables.signless(score.mean), tables.span(score), study.title(metric)))
    if verdict.floor:
        floor = BASELINES.get(verdict.floor, verdict.floor)
        value = tables.signless(number(verdict.floor_score))
        found.append((value, "", f"the best baseline, {floor}"))
    return found


def _samples(study: Lookup) -> list[tuple[int, Run]]:
    """(number of the objective, its first run with samples) of those that have any."""
    found = []
    for index, objective in enumerate(study.objectives):
        at = study.runs_at(objective, study.full)
        runs = [run for run in at if run.samples or run.pictures]
        found += [(index, run) for run in runs[:1]]
    return found


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, text) pairs."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict):
            pairs += _flat(value, f"{name}." if prefix else f"{name}: ")
        else:
            pairs.append((name, _plain(value)))
    return pairs


def _plain(value: object) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


# --------------------------------------------------------------------------------------------------
# the other studies


def _forecast_page(result: ForecastResults) -> dict[str, Any]:
    name = result.corpus.name or "this corpus"
    return {
        "made_by": "forecast",
        "title": f"lookaround forecast: {name}",
        "heading": f"What objectives make of {name}",
        "facts": [
            f"{format_count(number(result.corpus.tokens))} tokens",
            f"vocabulary {number(result.corpus.vocabulary):,.0f}",
        ],
        "forecast": _forecast(result),
        "repeat": result.command,
    }


def _forecast(result: ForecastResults) -> dict[str, Any]:
    """What the section of a forecast shows."""
    return {
        "contexts": forecast_contexts(result),
        "features": forecast_features(result),
        "rank": result.rank,
        "notes": [f"Track record: {result.track_record.sentence or ''}", *result.notes],
        "table": tables.forecast(result),
        "answers": tables.answers(result),
        "right_context": tables.right_context(result),
        "charts": _drawn(figures.spectra(result)),
        "lines": [
            (place, line.objective)
            for place, line in enumerate(result.lines)
            if line.singular_values
        ],
    }


def _forecast_shown(result: ForecastResults) -> Shown:
    said = [f"{task}: {answer}" for task, answer in result.recommendation.items()]
    return [("Before any training", tables.forecast(result))], said


def _synthetic(results: SyntheticResults) -> dict[str, Any]:
    settings, charts = results.settings.synthetic, synthetic_figures(results)
    kinds = [results.tasks[task] for task in synthetic_tasks(results)]
    abouts = dict.fromkeys(task.about for task in kinds)
    what = "problems" if any(map(has_answers, kinds)) else "rows"
    return {
        "made_by": "synthetic",
        "title": "lookaround synthetic",
        "heading": "Does the objective look ahead?"
        if any(map(has_answers, kinds))
        else "What does the objective know?",
        "facts": [
            f"{settings.seeds} seed{_s(settings.seeds)}",
            f"{settings.budget} in steps of {settings.batch} {what}"
            if settings.budget
            else f"{settings.steps:,} steps of {settings.batch} {what} at most",
            f"{min(row.queries for row in results.rows):,} held-out {what}",
            f"model {results.settings.model.preset}",
            *[f"edges {settings.edges}, query {settings.query}"] * any(map(has_answers, kinds)),
        ],
        "abouts": [about for about in abouts if about],
        "ceilings": _drawn(synthetic_ceilings(results)),
        "findings": synthetic_findings(results),
        "tasks": [
            {
                "heading": synthetic_heading(results.tasks[task].title, entries),
                "table": tables.synthetic(results.tasks[task], entries),
                "charts": _drawn(charts[task]),
                "lines": _places(results, task),
                "has_answers": has_answers(results.tasks[task]),
            }
            for task, entries in synthetic_tasks(results).items()
        ],
        "columns": dict.fromkeys(column for task in kinds for column in synthetic_columns(task)),
        "repeat": results.command,
    }


def _synthetic_shown(results: SyntheticResults) -> Shown:
    shown = []
    for task, entries in synthetic_tasks(results).items():
        title = results.tasks[task].title
        table = tables.synthetic(results.tasks[task], entries)
        shown.append((synthetic_heading(title, entries), table))
    return shown, synthetic_findings(results)


def synthetic_figures(results: SyntheticResults) -> dict[str, str]:
    """{task: its learning curves as an SVG file}."""
    rows: dict[tuple[str, str], list[SyntheticRow]] = {}
    for row in results.rows:
        rows.setdefault((row.graph, row.objective), []).append(row)
    return {
        task: figures.learning(
            [
                (entry, rows.get((entry.graph, entry.objective), []))
                for entry in entries
                if not is_control(entry)
            ],
            place,
            () if has_answers(results.tasks[task]) else [*results.tasks[task].figures],
        )
        for place, (task, entries) in enumerate(synthetic_tasks(results).items())
    }


def synthetic_ceilings(results: SyntheticResults) -> str:
    """What objectives reach on tasks with bounds, as an SVG file; "" without such tasks."""
    groups = [(results.tasks[task], found) for task, found in synthetic_tasks(results).items()]
    return figures.ceilings([(task, entries) for task, entries in groups if task.bounds])


def _places(results: SyntheticResults, task: str) -> list[tuple[int, str]]:
    """The tokens of a task's answer, or its figures, as lines of its figure."""
    if not has_answers(results.tasks[task]):
        return [(k, name.replace("_", " ")) for k, name in enumerate(results.tasks[task].figures)]
    lengths = (len(row.positions) for row in results.rows if row.graph == task)
    return [(token, f"token {token + 1}") for token in range(next(lengths, 0))]


def _speculation(result: SpeculationResults) -> dict[str, Any]:
    facts = (
        (result.model, "{}"),
        (result.prompts, "{} held-out prompts"),
        (result.new_tokens, "{} new tokens each"),
        (result.precision, "in {}"),
    )
    return {
        "made_by": "speculate",
        "title": "lookaround speculate",
        "heading": "What do several tokens per pass bring?",
        "facts": [text.format(value) for value, text in facts if value is not None],
        "speed": tables.speculation(result),
        "findings": _found(result),
        "repeat": None,
    }


def _speculation_shown(result: SpeculationResults) -> Shown:
    said = [": ".join(pair) for pair in _found(result)]
    return [("Speed by number of sequences", tables.speculation(result))], said


def _found(result: SpeculationResults) -> list[tuple[str, str]]:
    """What a speculation found, as (of what, text)."""
    parts = (line.partition("  ") for line in speculation_lines(result))
    return [(name, text.strip()) for name, _, text in parts]


# page of a study -> its template, what that is filled with, and what a notebook is shown
_STUDIES: dict[str, Any] = {
    "report.html": ("comparison", _comparison, _comparison_shown),
    "forecast.html": ("forecast", _forecast_page, _forecast_shown),
    "synthetic.html": ("synthetic", _synthetic, _synthetic_shown),
    "speculation.html": ("speculation", _speculation, _speculation_shown),
}
