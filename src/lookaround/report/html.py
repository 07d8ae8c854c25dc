"""One self-contained HTML page for a study: no request, no script, readable on a phone, in the dark
and on paper.

    write_report(load_results("runs/compare/results.json"), "runs/compare/report.html")

Every text that comes from the results passes through `esc` (attributes included), and the page's
own Content-Security-Policy forbids whatever might slip through. The same dict gives the same bytes.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lookaround.report import figures
from lookaround.report.forecast import forecast_section
from lookaround.report.lookup import BASELINES, NEEDS, Interval, Lookup, mean, number, verdict
from lookaround.report.page import esc, items, page, repeat, scroll
from lookaround.report.text import (
    format_count,
    format_flops,
    format_rung,
    format_score,
    format_seconds,
    format_share,
)
from lookaround.support.storage import write_text

__all__ = ["render_html", "write_report"]

_DASH = '<span class="none">–</span>'
_SHORT_BASELINES = {
    "unigram": "unigram",
    "majority": "majority",
    "random_init": "random init",
    "tfidf": "TF-IDF",
}
_COSTS = (  # a heading and a smaller one below it, with the budget entries they show
    (("compute", "flops", format_flops), ("time", "seconds", format_seconds)),
    (("tokens", "tokens", format_count), ("scored targets", "targets", format_count)),
)
_QUESTIONS = {
    "classification": "Its states feed a classifier",
    "generation": "It writes text from left to right",
    "both": "One model for both",
}


def write_report(results: Any, path: str | Path, *, samples: bool = True) -> None:
    """Write `render_html(results)` to `path`, whole or not at all: a reader never sees half a page.

    Raises UserError if the folder cannot be written to; an older file at `path` is then left as it
    was.
    """
    write_text(Path(path), render_html(results, samples=samples))


def render_html(results: Any, *, samples: bool = True) -> str:
    """The page for the dict of a results.json (docs/results-format.md), as text to be saved in
    UTF-8.

    With `samples=False` no prompt and no continuation is in the page, and it says so. Parts without
    data are left out; numbers that are absent, null or NaN are shown as a dash.
    """
    study = Lookup(results)
    sections = [
        _header(study),
        _headline(study),
        _main_table(study),
        _figures(study),
        _differences(study),
        forecast_section(study.results["forecast"]) if study.results.get("forecast") else "",
        _all_rungs(study),
        _samples(study, samples),
        _definitions(study),
        _provenance(study),
    ]
    return page(f"lookaround compare: {_corpus_name(study)}", sections)


# --------------------------------------------------------------------------------------------------
# the answer


def _header(study: Lookup) -> str:
    corpus = study.results.get("corpus") or {}
    objectives, seeds = len(study.objectives), len(study.seeds)
    facts = [
        f"{objectives} objective{_s(objectives)}, {seeds} seed{_s(seeds)}, "
        + (f"{len(study.rungs)} budgets" if len(study.rungs) > 1 else "one budget"),
    ]
    flops = mean(study.cost(objective, "flops") for objective in study.objectives)
    if not math.isnan(flops):
        facts.append(f"{format_flops(flops)} per run at the {_budget(study)}")
    if not math.isnan(number(corpus.get("bytes"))):
        facts.append(f"{format_count(number(corpus['bytes']))} bytes of text")
    return (
        '<header><p class="brand">lookaround compare</p><h1>Which objective for '
        f"{esc(_corpus_name(study))}?</h1>"
        f'<ul class="facts">{items(facts)}</ul></header>\n<main>'
    )


def _corpus_name(study: Lookup) -> str:
    return str((study.results.get("corpus") or {}).get("name") or "this corpus")


def _budget(study: Lookup) -> str:
    return "full budget" if study.full == 1 else f"largest budget ({format_rung(study.full)})"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _headline(study: Lookup) -> str:
    cards = "".join(_card(study, need) for need in NEEDS)
    notes = [str(note) for note in study.results.get("notes") or []]
    if len(study.seeds) == 1 and not any("seed" in note for note in notes):
        notes.insert(0, "One seed only: the intervals do not cover the variation between seeds.")
    callout = f'<ul class="notes" aria-label="Notes">{items(notes)}</ul>' if notes else ""
    return (
        '<section aria-labelledby="answer"><h2 id="answer">Recommendation at the '
        f"{esc(_budget(study))}</h2>"
        f'<div class="cards">{cards}</div>{callout}</section>'
    )


def _card(study: Lookup, need: str) -> str:
    answer = str((study.results.get("recommendation") or {}).get(need) or "")
    reason = str((study.results.get("reasons") or {}).get(need) or "")
    chosen = study.recommended(need)
    body = ""
    if chosen:
        kind = "decided"
        index = study.objectives.index(chosen)
        body = f'<p class="choice">{figures.key(index)}<code>{esc(chosen)}</code></p>{_card_scores(study, need, chosen)}'
    elif not answer or answer.startswith("not measured"):
        kind = "absent"
        detail = answer.partition(":")[2].strip()
        body = '<p class="choice">Not measured</p>' + (f"<p>{esc(detail)}</p>" if detail else "")
    else:
        kind = "open"
        head, _, detail = answer.partition(":")
        body = f'<p class="choice">{esc(head[:1].upper() + head[1:])}</p>'
        body += f'<p class="candidates">{esc(detail.strip())}</p>' if detail.strip() else ""
    reason = f'<p class="reason">{esc(reason)}</p>' if reason else ""
    return f'<article class="card {kind}"><h3>{need}</h3><p class="question">{_QUESTIONS[need]}</p>{body}{reason}</article>'


def _card_scores(study: Lookup, need: str, objective: str) -> str:
    wanted = []
    if need != "generation" and study.classification:
        wanted.append(study.classification)
    if need != "classification":
        wanted.append("bits_per_byte")
    lines = []
    for metric in wanted:
        score = study.score(objective, metric)
        if not score.known:
            continue
        share = format_share(score.mean, study.unigram)
        of_unigram = (
            f", {share} of the unigram model" if metric == "bits_per_byte" and share != "-" else ""
        )
        span = f' <span class="span">[{_span(score)}]</span>' if score.bounded else ""
        lines.append(
            f"<li><b>{_signless(score.mean)}</b>{span} {esc(study.title(metric))}{of_unigram}</li>"
        )
    return f'<ul class="score">{"".join(lines)}</ul>' if lines else ""


# --------------------------------------------------------------------------------------------------
# tables


def _main_table(study: Lookup) -> str:
    scales = {metric: _scale(study, metric) for metric in study.metrics}
    rows = []
    for index, objective in enumerate(study.objectives):
        badges = "".join(
            f'<span class="badge">{need}</span>'
            for need in NEEDS
            if study.recommended(need) == objective
        )
        cells = _cells(study, objective, study.full, scales)
        rows.append(
            "<tr><th "
            f'scope="row">{figures.key(index)}<code>{esc(objective)}</code>{badges}{_mode(study, objective)}</th>'
            f"{''.join(cells)}</tr>"
        )
    scored = {
        name: {m: study.baseline(kind, m) for m in study.metrics}
        for kind, name in BASELINES.items()
    }
    scored["unigram model"] = dict.fromkeys(study.metrics, math.nan) | {
        "bits_per_byte": study.unigram
    }
    baselines = []
    for name, values in scored.items():
        cells = [f"<td>{_value(Interval(values[metric]))}</td>" for metric in study.metrics]
        cells = _beside_bits(
            study, cells, f"<td>{'100%' if name == 'unigram model' else _DASH}</td>"
        )
        if any(not math.isnan(values[metric]) for metric in study.metrics):
            baselines.append(
                f'<tr><th scope="row">{esc(name)}</th>{"".join(cells)}<td '
                f'colspan="{len(_COSTS) + 1}"></td></tr>'
            )
    footer = f'<tbody class="baselines">{"".join(baselines)}</tbody>' if baselines else ""
    falling = [study.title(metric) for metric in study.metrics if not study.higher(metric)]
    lower = ", ".join(falling) or "bits per byte"
    explained = [
        f"Mean over {len(study.seeds)} seeds" if len(study.seeds) > 1 else "One seed",
        "below it the interval" + (f" ({'; '.join(study.methods())})" if study.methods() else ""),
        "and the place of both between the column's lowest and highest value",
    ]
    flag = " A red or amber ▼ marks a mean that a baseline beats." if baselines else ""
    table = f"<table><thead><tr>{_head('objective')}{''.join(_heads(study))}</tr></thead><tbody>{''.join(rows)}</tbody>{footer}</table>"
    return (
        '<section aria-labelledby="scores"><h2 id="scores">Every objective at the '
        f"{esc(_budget(study))}</h2>"
        f'<p class="lead">{esc(", ".join(explained))}. Under each name: the attention and shift '
        f"the model was read with. {esc(lower[:1].upper() + lower[1:])}: lower is better; scores: "
        f"higher is better.{flag}</p>"
        f"{scroll('Scores at the largest budget', table)}</section>"
    )


def _all_rungs(study: Lookup) -> str:
    if len(study.rungs) < 2:
        return ""
    heads = [_head("objective"), _head("budget"), *_heads(study), _head("seeds")]
    bodies = []
    for index, objective in enumerate(study.objectives):
        rows = []
        for rung in study.rungs:
            cells = _cells(study, objective, rung, {})
            rows.append(
                "<tr><th "
                f'scope="row">{figures.key(index)}<code>{esc(objective)}</code></th><td>{format_rung(rung)}</td>'
                f"{''.join(cells)}<td "
                f'class="cost">{len(study.runs_at(objective, rung)) or _DASH}</td></tr>'
            )
        bodies.append(f"<tbody>{''.join(rows)}</tbody>")
    table = f"<table><thead><tr>{''.join(heads)}</tr></thead>{''.join(bodies)}</table>"
    return (
        '<section aria-labelledby="ladder"><h2 id="ladder">Every rung of the ladder</h2>'
        f"<details><summary>{len(study.objectives)} objectives at {len(study.rungs)} "
        "budgets</summary>"
        f"{scroll('Scores at every rung', table)}</details></section>"
    )


def _head(name: str) -> str:
    return f'<th scope="col">{esc(name)}</th>'


def _heads(study: Lookup) -> list[str]:
    """The headings of scores and costs."""
    heads = []
    tasks = study.results.get("tasks") or {}
    for metric in study.metrics:
        about = str((tasks.get(metric.removeprefix("classification/")) or {}).get("metric") or "")
        under = f"<small>{esc(about)}</small>" if about else ""
        heads.append(f'<th scope="col">{esc(study.title(metric))}{under}</th>')
    costs = [f'<th scope="col">{upper[0]}<small>{lower[0]}</small></th>' for upper, lower in _COSTS]
    return [*_beside_bits(study, heads, _head("of the unigram")), *costs, _head("learning rate")]


def _beside_bits(study: Lookup, cells: list[str], share: str) -> list[str]:
    """The cells of all metrics, with that of the share of the unigram model behind bits per
    byte.
    """
    if not study.has_unigram:
        return cells
    place = study.metrics.index("bits_per_byte") + 1
    return [*cells[:place], share, *cells[place:]]


def _cells(
    study: Lookup, objective: str, rung: float, scales: dict[str, tuple[float, float]]
) -> list[str]:
    """The scores and costs of one objective at a rung; a bar in each score whose column has a
    scale.
    """
    cells = []
    for metric in study.metrics:
        score = study.score(objective, metric, rung)
        flags = "".join(
            _flag(kind, higher=study.higher(metric)) for kind in study.below(metric, score.mean)
        )
        bar = _bar(score, scales[metric]) if metric in scales else ""
        cells.append(f"<td>{_value(score)}{bar}{flags}</td>")
    share = format_share(study.score(objective, "bits_per_byte", rung).mean, study.unigram)
    cells = _beside_bits(study, cells, f"<td>{_dashed(share)}</td>")
    for pair in _COSTS:
        upper, lower = (form(study.cost(objective, key, rung)) for _, key, form in pair)
        cells.append(
            f'<td class="cost">{_dashed(upper)}<span class="span">{_dashed(lower)}</span></td>'
        )
    return [*cells, f'<td class="cost">{_dashed(study.learning_rate(objective, rung))}</td>']


def _dashed(text: str) -> str:
    return _DASH if text == "-" else esc(text)


def _mode(study: Lookup, objective: str) -> str:
    """What `mode` says: one line per need, or a single line without the need where all are read
    alike.
    """
    parts = [part.strip() for part in study.mode(objective).split(";") if part.strip()]
    ways = {part.partition(":")[2].strip() for part in parts}
    if len(parts) > 1 and len(ways) == 1 and "" not in ways:
        parts = sorted(ways)
    return "".join(f'<span class="mode">{esc(part)}</span>' for part in parts)


def _value(score: Interval) -> str:
    if not score.known:
        return _DASH
    return _signless(score.mean) + (
        f'<span class="span">{_span(score)}</span>' if score.bounded else ""
    )


def _signless(value: float) -> str:
    return format_score(value).replace("-", "−")


def _span(score: Interval) -> str:
    return f"{_signless(score.low)} to {_signless(score.high)}"


def _flag(kind: str, *, higher: bool) -> str:
    serious = "" if kind == "tfidf" else " serious"
    beaten = "below" if higher else "above"
    return f'<span class="flag{serious}">▼ {beaten} {_SHORT_BASELINES[kind]}</span>'


def _scale(study: Lookup, metric: str) -> tuple[float, float]:
    scores = [study.score(objective, metric) for objective in study.objectives]
    values = [value for score in scores for value in score[:3] if not math.isnan(value)]
    return (min(values), max(values)) if values else (0.0, 0.0)


def _bar(score: Interval, scale: tuple[float, float]) -> str:
    """Where an interval lies between the lowest and the highest value of its column, as a small
    strip.
    """
    low, high = scale
    if not score.known or high <= low:
        return ""

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 1)

    band = ""
    if score.bounded:
        left = place(score.low)
        band = f'<b style="left:{left}%;width:{round(place(score.high) - left, 1)}%"></b>'
    return f'<span class="bar" aria-hidden="true">{band}<i style="left:{place(score.mean)}%"></i></span>'


def _differences(study: Lookup) -> str:
    tables = {rung: _difference_table(study, rung) for rung in reversed(study.rungs)}
    tables = {rung: table for rung, table in tables.items() if table}
    if not tables:
        return ""
    methods = dict.fromkeys(
        str(row.get("method") or "") for row in study.results.get("differences") or []
    )
    said = "; ".join(method for method in methods if method)
    parts = []
    for number_, (rung, table) in enumerate(tables.items()):
        label = "the full budget" if rung == 1 else f"{format_rung(rung)} of the budget"
        table = scroll(f"Paired differences at {label}", table)
        parts.append(
            f"<h3>At {label}</h3>{table}"
            if number_ == 0
            else f"<details><summary>At {label}</summary>{table}</details>"
        )
    return (
        '<section aria-labelledby="differences"><h2 id="differences">Paired differences</h2>'
        '<p class="lead">Objective minus reference on the same seeds, data order and test items'
        f"{f' ({esc(said)})' if said else ''}. Only an interval that excludes 0 supports a claim; "
        "the others are "
        f"marked unclear.</p>{''.join(parts)}</section>"
    )


def _difference_table(study: Lookup, rung: float) -> str:
    pairs: dict[tuple[str, str], dict[str, Interval]] = {}
    for objective, reference, metric, difference in study.differences(rung):
        pairs.setdefault((objective, reference), {})[metric] = difference
    metrics = list(dict.fromkeys(metric for row in pairs.values() for metric in row))
    if not metrics:
        return ""
    single = [key for key, tasks in study.columns.items() if len(tasks) == 1]
    shown_itself = {key for key in single if f"{key}/{study.columns[key][0]}" in metrics}
    metrics = [metric for metric in metrics if metric not in shown_itself]
    heads = "".join(_head(study.title(metric)) for metric in metrics)
    rows = []
    for (objective, reference), row in pairs.items():
        cells = "".join(
            _difference_cell(row.get(metric, Interval(math.nan)), higher=study.higher(metric))
            for metric in metrics
        )
        rows.append(
            f'<tr><th scope="row"><code>{esc(objective)}</code> <span class="minus">minus</span> '
            f"<code>{esc(reference)}</code></th>{cells}</tr>"
        )
    return f"<table><thead><tr>{_head('pair')}{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _difference_cell(difference: Interval, *, higher: bool) -> str:
    if not difference.known:
        return f"<td>{_DASH}</td>"
    found = verdict(difference, higher=higher)
    sign = "+" if difference.mean > 0 else ""
    span = f'<span class="span">{_span(difference)}</span>' if difference.bounded else ""
    return f'<td>{sign}{_signless(difference.mean)}{span}<span class="{found}">{_VERDICTS[found]}</span></td>'


_VERDICTS = {"better": "▲ better", "worse": "▼ worse", "unclear": "○ unclear"}


# --------------------------------------------------------------------------------------------------
# figures


def _figures(study: Lookup) -> str:
    groups = [
        _tradeoff(study),
        _panels(
            study,
            "Along the ladder",
            [
                figures.ladder(study, metric)
                for metric in ("bits_per_byte", study.classification)
                if metric in study.metrics
            ],
            "Bands are the intervals. Lines that cross change places: a ranking at a small budget "
            "need not hold at a "
            "larger one. Dotted: the baselines." + _beyond(study),
        ),
        _panels(
            study,
            "Training loss",
            [figures.losses(study)],
            "Losses of different objectives are not comparable: each scores other targets from "
            "other contexts. Read "
            "each line against itself: is it still falling? The runs at the largest budget, "
            "averaged over "
            "neighbouring steps; the first seed in bold.",
        ),
        _panels(
            study,
            "By length of the prefix",
            [figures.by_prefix(study)],
            "How many bits a byte costs after so many tokens of context. Mean over seeds; shading "
            "from the lowest to "
            "the highest seed. A line that stays high at short prefixes needs much context before "
            "it can write.",
        ),
    ]
    if not any(groups):
        return ""
    return (
        '<section aria-labelledby="figures"><h2 id="figures">Figures</h2>'
        f'<div class="figures">{"".join(groups)}</div></section>'
    )


def _beyond(study: Lookup) -> str:
    names = figures.off_scale(study)
    return f" Beyond the bits-per-byte axis: {', '.join(names)} (see the table)." if names else ""


def _tradeoff(study: Lookup) -> str:
    if study.classification is None:
        return (
            '<p class="lead">No classification task was given, so there is no trade-off between '
            "classification and "
            "generation to show.</p>"
            if study.objectives
            else ""
        )
    trail = (
        " The thin trail leads there from the smaller budgets and may leave the frame."
        if len(study.rungs) > 1
        else ""
    )
    return _panels(
        study,
        "Classification against generation",
        [figures.tradeoff(study)],
        "The bits-per-byte axis is inverted, so better is up and to the right. One marker per "
        "objective at the "
        f"{_budget(study)}; crosses are the intervals.{trail}",
        wide=True,
    )


def _panels(
    study: Lookup, title: str, charts: Sequence[str], caption: str, *, wide: bool = False
) -> str:
    charts = [chart for chart in charts if chart]
    if not charts:
        return ""
    legend = "".join(
        f"<li>{figures.key(index)}<code>{esc(objective)}</code></li>"
        for index, objective in enumerate(study.objectives)
    )
    drawn = "".join(f'<div class="chart">{chart}</div>' for chart in charts)
    layout = "aside" if wide else "pair" if len(charts) > 1 else "single"
    return (
        f'<figure class="{layout}"><h3>{esc(title)}</h3><div class="charts">{drawn}</div>'
        f'<div class="reading"><ul class="legend" aria-label="Legend">{legend}</ul>'
        f"<figcaption>{esc(caption)}</figcaption></div></figure>"
    )


# --------------------------------------------------------------------------------------------------
# samples


def _samples(study: Lookup, wanted: bool) -> str:
    start = '<section aria-labelledby="samples"><h2 id="samples">Samples</h2>'
    if not wanted:
        return f"{start}<p>Samples were left out of this page.</p></section>"
    groups = []
    for index, objective in enumerate(study.objectives):
        run = next(
            (run for run in study.runs_at(objective, study.full) if run.get("samples")), None
        )
        if run is None:
            continue
        texts = "".join(
            "<blockquote><span "
            f'class="prompt">{esc(sample.get("prompt") or "")}</span>{esc(sample.get("continuation") or "")}'
            "</blockquote>"
            for sample in run["samples"]
        )
        groups.append(
            f"<details><summary>{figures.key(index)}<code>{esc(objective)}</code> "
            f'<span class="soft">seed {esc(run.get("seed"))}</span></summary>{texts}</details>'
        )
    if not groups:
        return f"{start}<p>No samples were recorded.</p></section>"
    lead = f'<p class="lead">Prompt in grey, then the model\'s continuation, at the {esc(_budget(study))}. Samples show the manner of a model, not its quality.</p>'
    return f"{start}{lead}{''.join(groups)}</section>"


# --------------------------------------------------------------------------------------------------
# what the numbers mean, and where they come from


_DEFINITIONS = {
    "Bits per byte": "The left-to-right chain rule for every objective: with shift s, the state s "
    "places before a token "
    "scores it, and all that the state may see of that token and of what follows, up to the fixed "
    "end of the window, is "
    "masked. Special tokens are left out of the softmax. The sum of bits over the sum of bytes of "
    "the scored tokens, on "
    "the same documents and positions for every objective. Each score is an exact conditional "
    "likelihood, not a bound.",
    "Of the unigram": "The same number as a share of what a model of token frequencies alone "
    "needs: near 100% means that "
    "the model has learned nothing from context.",
    "Classification": "A linear probe on mean-pooled hidden states of the frozen model; the layer "
    "and the strength of "
    "regularisation are chosen inside the training part, and the test part is scored once. Each "
    "task has its own "
    "metric; the mean score is the plain mean over tasks.",
    "Baselines": "Majority: always the most frequent class. TF-IDF: logistic regression on word "
    "statistics, no neural "
    "model. Random initialisation: the same probe on an untrained model.",
    "Equal budget": "Every objective gets the same training {equal} at each rung of the ladder, "
    "the decay included. FLOPs, "
    "tokens, scored targets and seconds are stated side by side.",
    "Mode": "The attention and the shift a model was read with, for classification and for "
    "generation.",
    "Paired difference": "Objective minus reference, per seed, on the same data order and test "
    "items. Much of the "
    "variation is common to both and cancels, so it can be clear where two intervals overlap.",
    "Intervals": "The t-interval over seeds; with one seed a paired bootstrap over documents and "
    "test examples, which "
    "does not cover the variation between seeds.",
}
_LIMITS = (
    "How the ranking continues beyond the largest budget: lines may cross again.",
    "Fine-tuned or instruction-tuned quality: the probe reads frozen states.",
    "The quality of written text as a reader sees it: bits per byte measure prediction, not style "
    "or truth.",
    "Other corpora, tokenizers, languages or model shapes.",
    "The best learning rate of each objective: each had the same few trials at the smallest rung.",
    "A correction for having compared many pairs: of 20 true zeros, one 95% interval excludes 0 "
    "by chance.",
)


def _definitions(study: Lookup) -> str:
    equal = {"tokens": "tokens", "seconds": "time"}.get(str(study.results.get("equal")), "FLOPs")
    listed = "".join(
        f"<div><dt>{term}</dt><dd>{text.format(equal=equal)}</dd></div>"
        for term, text in _DEFINITIONS.items()
    )
    listed += "".join(
        f"<div><dt>{esc(about.get('title') or key)}</dt><dd>{esc(about.get('about') or '')}</dd></div>"
        for key, about in (study.results.get("metrics") or {}).items()
    )
    return (
        '<section aria-labelledby="meaning"><h2 id="meaning">What the numbers are</h2>'
        f'<dl class="terms">{listed}</dl>{_tasks(study)}<h3>What this page does not show</h3>'
        f'<ul class="limits">{items(_LIMITS)}</ul></section>'
    )


def _tasks(study: Lookup) -> str:
    tasks = study.results.get("tasks") or {}
    if not tasks:
        return ""
    rows = []
    for name, about in tasks.items():
        numbers = "".join(
            f"<td>{_DASH if math.isnan(number(about.get(key))) else format_count(number(about[key]))}</td>"
            for key in ("train", "test", "classes")
        )
        notes = "; ".join(str(note) for note in about.get("notes") or [])
        rows.append(
            f'<tr><th scope="row">{esc(name)}</th><td '
            f'class="text">{esc(about.get("metric") or "")}</td>{numbers}'
            f'<td class="text">{esc(notes)}</td></tr>'
        )
    names = ("task", "metric", "train", "test", "classes", "notes")
    heads = "".join(
        f'<th scope="col"{" class=text" if name in ("metric", "notes") else ""}>{name}</th>'
        for name in names
    )
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<h3>Tasks</h3>{scroll('Tasks', table)}"


def _provenance(study: Lookup) -> str:
    results = study.results
    boxes = "".join(
        f"<div><h3>{title}</h3>{_pairs(results.as_dict()[key])}</div>"
        for title, key in (("Corpus", "corpus"), ("Machine", "machine"), ("Versions", "versions"))
        if results.get(key)
    )
    settings = results.get("settings") or {}
    details = (
        f"<details><summary>All settings</summary>{_pairs(settings)}</details>" if settings else ""
    )
    command = str(results.get("command") or "")
    again = f"<h3>To repeat it</h3>{repeat(command)}" if command else ""
    version = (results.get("versions") or {}).get("lookaround")
    made = f"Made by lookaround{f' {esc(version)}' if version else ''} from a results.json of version {esc(results.get('version'))}."
    return (
        '<section aria-labelledby="origin"><h2 id="origin">Where it comes from</h2>'
        f"{again}<div "
        f'class="boxes">{boxes}</div>{details}</section>\n</main>\n<footer><p>{made}</p></footer>'
    )


def _pairs(values: dict[str, Any]) -> str:
    listed = "".join(
        f"<div><dt>{esc(key)}</dt><dd>{esc(text)}</dd></div>" for key, text in _flat(values)
    )
    return f'<dl class="pairs">{listed}</dl>'


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
