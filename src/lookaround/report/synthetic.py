"""The results of a grid of synthetic tasks, at the terminal and as a page.

print_synthetic(results, rich.console.Console())
write_synthetic(results, "lookaround-synthetic/synthetic.html")
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lookaround.report import figures
from lookaround.report.page import esc, items, page, repeat, scroll
from lookaround.report.table import SUPPORTED_VERSION, format_seconds, number, print_text, printable
from lookaround.support.errors import UserError
from lookaround.support.storage import require_fields, write_text

__all__ = [
    "load_synthetic",
    "print_synthetic",
    "synthetic_figures",
    "synthetic_findings",
    "write_synthetic",
]

# what is said of a run that failed: later tokens at least so right, or training answers at most
CLEVER, UNFIT = 0.99, 0.95

_COLUMNS = (
    (
        "exact match",
        "answers that are right as a whole, on held-out problems; mean and 95% t-interval over "
        "seeds",
    ),
    ("success", "share of the runs with an exact match of 95% or more"),
    ("first hop", "accuracy of the token that takes looking ahead"),
    (
        "later",
        "accuracy of the tokens after it, the true ones before them given (in parallel: of "
        "themselves)",
    ),
    ("train", "exact match on problems of the training part"),
    ("solved at", "steps after which a run stays solved on validation problems; - if it never was"),
    ("seconds", "of training, mean"),
    ("parameters", "of the model with its heads"),
)


# what the reports read of a results.json, and its types
_NUMBER = (int, float)
_GRID: dict[str, Any] = {
    "rows": list,
    "summary": list,
    "settings": dict,
    "command": str,
    "learning_rates": dict,
    "margins": dict,
    "tasks": dict,
}
_SETTINGS: dict[str, Any] = {
    "seeds": int,
    "steps": int,
    "batch": int,
    "queries": int,
    "edges": str,
    "query": str,
}
_TASK: dict[str, Any] = {"title": str, "about": str, "copied": bool}
_ROW: dict[str, Any] = {
    "objective": str,
    "graph": str,
    "seed": int,
    "steps": int,
    "queries": int,
    "positions": list,
    "curve": list,
    "diverged_at": (int, NoneType),
}
_ENTRY: dict[str, Any] = {
    "objective": str,
    "graph": str,
    "seeds": int,
    "success": _NUMBER,
    "solved_at": list,
    "left_chance_at": list,
    "diverged_at": list,
    "control_of": (str, NoneType),
    "steps": list,
    "seconds": _NUMBER,
    "parameters": int,
    "ways": dict,
}


def load_synthetic(path: Path) -> dict[str, Any] | None:
    """The results of `lookaround synthetic` in a file; None where it holds something else.

    Raises UserError that names what is missing or of an earlier layout.
    """
    older = (
        "written by an older lookaround, with tasks named in another way; train the grid again "
        "with "
        "`lookaround synthetic`"
    )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        if (path.parent / "plan.yaml").is_file():
            raise UserError(f"{path.parent / 'plan.yaml'}: {older}") from None
        if (path.parent / "synthetic.yaml").is_file():
            raise UserError(
                f"{path}: not written yet; the `lookaround synthetic` of this folder goes on with "
                "what is missing"
            ) from None
        return None
    except ValueError:
        return None
    kind = found.get("kind") if isinstance(found, dict) else None
    if kind == "plan":
        raise UserError(f"{path}: field 'kind' is 'plan': {older}")
    if kind != "synthetic":
        return None
    if found.get("version") != SUPPORTED_VERSION:
        raise UserError(
            f"{path}: field 'version' is {found.get('version')!r}; "
            f"this lookaround reads version {SUPPORTED_VERSION}"
        )
    require_fields(str(path), found, _GRID)
    require_fields(f"{path}: margins", found["margins"], {"same": _NUMBER, "guessing": _NUMBER})
    rates = found["learning_rates"]
    require_fields(f"{path}: learning_rates", rates, dict.fromkeys(rates, dict))
    for graph, tried in rates.items():
        require_fields(f"{path}: learning_rates.{graph}", tried, dict.fromkeys(tried, dict))
    require_fields(f"{path}: settings", found["settings"], {"synthetic": dict, "model": dict})
    require_fields(f"{path}: settings.synthetic", found["settings"]["synthetic"], _SETTINGS)
    for name, fields in (("rows", _ROW), ("summary", _ENTRY)):
        if not found[name]:
            raise UserError(f"{path}: field '{name}' is empty; expected an object for each run")
        for place, entry in enumerate(found[name]):
            require_fields(f"{path}: {name}[{place}]", entry, fields)
            require_fields(f"{path}: tasks", found["tasks"], {entry["graph"]: dict})
    for name, task in found["tasks"].items():
        require_fields(f"{path}: tasks.{name}", task, _TASK)
    for place, row in enumerate(found["rows"]):
        for point in row["curve"]:
            require_fields(f"{path}: rows[{place}].curve", point, {"step": int, "positions": list})
    return found


def _graphs(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """{spec of a task: its summary entries}, those of its control behind its own."""
    graphs: dict[str, list[dict[str, Any]]] = {}
    for entry in results["summary"]:
        graphs.setdefault(entry["control_of"] or entry["graph"], []).append(entry)
    return graphs


def _control(entry: dict[str, Any]) -> bool:
    return entry["control_of"] is not None


def _name(entry: dict[str, Any]) -> str:
    return entry["objective"] + (" (first hop only)" if _control(entry) else "")


def _chance(entries: Sequence[dict[str, Any]]) -> float:
    return number(entries[0].get("chance"))


def _heading(title: str, entries: Sequence[dict[str, Any]]) -> str:
    chance = _chance(entries)
    return title + (
        f"; a guess at the first hop is right in {_percent(chance)}"
        if math.isfinite(chance)
        else ""
    )


def _title(results: dict[str, Any], graph: str) -> str:
    return results["tasks"][graph]["title"]


def _percent(value: float) -> str:
    return "-" if not math.isfinite(value) else f"{100 * value:.1f}%"


def _score(entry: dict[str, Any], name: str) -> str:
    found = entry.get(name)
    if not found:
        return "-"
    low, high = number(found["low"]), number(found["high"])
    if not math.isfinite(low):
        return _percent(number(found["mean"]))
    return f"{_percent(number(found['mean']))} [{100 * max(low, 0):.1f}, {100 * min(high, 1):.1f}]"


def _cells(entry: dict[str, Any]) -> list[str]:
    solved = ["-" if step is None else f"{step:,}" for step in entry["solved_at"]]
    wins = round(entry["success"] * entry["seeds"])
    return [
        _score(entry, "exact_match"),
        f"{wins}/{entry['seeds']}",
        *(
            _percent(number((entry.get(name) or {}).get("mean")))
            for name in ("first_hop", "later_positions", "train_exact_match")
        ),
        ", ".join(solved),
        format_seconds(entry["seconds"]),
        f"{entry['parameters']:,}",
    ]


def synthetic_findings(results: dict[str, Any]) -> list[str]:
    """The table in words: which objectives look ahead, copy after a guess, or were not fitted."""
    lines = []
    margins = results["margins"]
    for graph, entries in _graphs(results).items():
        title, copied = _title(results, graph), results["tasks"][graph]["copied"]
        kinds: dict[str, list[str]] = {}
        for entry in entries:
            if not _control(entry):
                kinds.setdefault(_verdict(entry, margins["guessing"], copied), []).append(
                    entry["objective"]
                )
        lines += [
            f"{title}: {verdict}: {', '.join(objectives)}" for verdict, objectives in kinds.items()
        ]
        lines += _against_reverse(title, entries)
        if copied:
            tried = results["learning_rates"].get(graph, {})
            lines += _undecided(title, _chance(entries), tried, margins)
    asked = results["settings"]["synthetic"]["queries"]
    lines += [
        f"{_title(results, graph)}: there are only {found:,} different held-out problems"
        for graph, found in {row["graph"]: row["queries"] for row in results["rows"]}.items()
        if found < asked
    ]
    lines += [
        f"{_title(results, row['graph'])}: {row['objective']}, seed {row['seed']}: the loss was "
        "not finite at "
        f"step {row['diverged_at']:,}; scored as the run was at step {row['steps']:,}"
        for row in results["rows"]
        if row["diverged_at"]
    ]
    return lines


def _against_reverse(title: str, entries: Sequence[dict[str, Any]]) -> list[str]:
    """How long `ar` was trained against what `reverse` needed, and whether it was still guessing
    then.
    """
    by_name = {entry["objective"]: entry for entry in entries if not _control(entry)}
    if not {"ar", "reverse"} <= by_name.keys() or not math.isfinite(_chance(entries)):
        return []
    if None in by_name["reverse"]["solved_at"] or any(by_name["ar"]["diverged_at"]):
        return []
    needed, given = max(by_name["reverse"]["solved_at"]), min(by_name["ar"]["steps"])
    left = [step for step in by_name["ar"]["left_chance_at"] if step is not None]
    end = (
        f"left guessing at step {min(left):,} (in {len(left)} of {by_name['ar']['seeds']} runs)"
        if left
        else "was still guessing"
    )
    return [
        f"{title}: ar was trained for {given / needed:.1f} times the {needed:,} steps that "
        "reverse needed, "
        f"and {end}"
    ]


def _undecided(
    title: str, chance: float, tried: dict[str, dict[str, Any]], margins: dict[str, Any]
) -> list[str]:
    """The objectives whose trials were all still guessing, so that nothing told their learning
    rates apart.

    tried: {objective: {factor: accuracy, below 0 of one that diverged}}.
    """
    guessing = []
    for name, found in tried.items():
        ends = [end for end in map(number, found.values()) if end >= 0]
        still = len(ends) > 1 and max(ends) <= chance + margins["guessing"]
        if still and max(ends) - min(ends) <= margins["same"]:
            guessing.append(name)
    if not guessing:
        return []
    return [
        f"{title}: at no learning rate had a trial left guessing for {', '.join(guessing)}; "
        "the largest was taken, and a longer synthetic.trial may find a better one"
    ]


def _verdict(entry: dict[str, Any], margin: float, copied: bool) -> str:
    exact, later = (
        number((entry.get(name) or {}).get("mean")) for name in ("exact_match", "later_positions")
    )
    chance = number(entry.get("chance"))
    if entry["success"] == 1:
        return "looks ahead in every run"
    if entry["success"] > 0:
        return "looks ahead in some runs"
    if math.isfinite(chance) and later >= CLEVER and abs(exact - chance) <= margin:
        if not copied:
            return "guesses the token that takes looking ahead, and follows from it"
        return "copies along an arm that it has guessed (the Clever Hans cheat)"
    if number((entry.get("train_exact_match") or {}).get("mean")) < UNFIT:
        return "was not fitted, in training either, within these steps"
    return "fits its training problems and fails on others"


# ---------------------------------------------------------------------------------------------------------------
# at the terminal


def print_synthetic(results: dict[str, Any], console: Console) -> None:
    """A table for each task, then the findings in words.

    Columns that a narrow terminal has no room for are left out.
    """
    for graph, entries in _graphs(results).items():
        print_text(console, _heading(_title(results, graph), entries), "bold")
        names = [printable(_name(entry)) for entry in entries]
        lines = [_cells(entry) for entry in entries]
        most = min(
            max(map(len, ["objective", *names])),
            34 if console.width >= 100 else 24,
            console.width // 2,
        )
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("objective", min_width=most, max_width=most, overflow="fold")
        room = console.width - most - 2
        shown: list[int] = []
        for place, (column, _) in enumerate(_COLUMNS):
            wide = max(len(column), *(len(cells[place]) for cells in lines)) + 2
            if wide <= room or not shown:
                table.add_column(column, justify="right", no_wrap=True)
                shown.append(place)
                room -= wide
        for entry, name, cells in zip(entries, names, lines, strict=True):
            table.add_row(
                Text(name),
                *(Text(cells[place]) for place in shown),
                style="dim" if _control(entry) else "",
            )
        console.print(table)
        console.print()
    for line in synthetic_findings(results):
        print_text(console, line)


# ---------------------------------------------------------------------------------------------------------------
# in HTML


def write_synthetic(results: dict[str, Any], path: str | Path) -> None:
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
    abouts = dict.fromkeys(results["tasks"][graph]["about"] for graph in _graphs(results))
    leads = "".join(f'<p class="lead">{esc(about)}</p>' for about in abouts if about)
    head = (
        '<header><p class="brand">lookaround synthetic</p><h1>Does the objective look ahead?</h1>'
        f'<ul class="facts">{items(facts)}</ul></header>\n<main><section>{leads}'
        '<ul class="notes" aria-label="What was '
        f'found">{items(synthetic_findings(results))}</ul></section>'
    )
    parts = [
        _section(results, place, graph, entries)
        for place, (graph, entries) in enumerate(_graphs(results).items())
    ]
    meanings = "".join(f"<dt>{esc(name)}</dt><dd>{esc(meaning)}</dd>" for name, meaning in _COLUMNS)
    foot = (
        f'<section><h2>What the columns mean</h2><dl class="terms">{meanings}</dl></section>'
        f"<section><h2>To repeat it</h2>{repeat(results['command'])}</section>"
        "\n</main>\n<footer><p>Made by lookaround.</p></footer>"
    )
    write_text(Path(path), page("lookaround synthetic", [head, *parts, foot]))


def synthetic_figures(results: dict[str, Any]) -> dict[str, str]:
    """{task: its learning curves as an SVG file}."""
    return {
        graph: _curves(results, place, entries)
        for place, (graph, entries) in enumerate(_graphs(results).items())
    }


def _curves(results: dict[str, Any], place: int, entries: Sequence[dict[str, Any]]) -> str:
    def rows(entry: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            row
            for row in results["rows"]
            if (row["graph"], row["objective"]) == (entry["graph"], entry["objective"])
        ]

    shown = [(entry, rows(entry)) for entry in entries if not _control(entry)]
    return figures.learning(shown, place)


def _section(
    results: dict[str, Any], place: int, graph: str, entries: Sequence[dict[str, Any]]
) -> str:
    title = _title(results, graph)
    heads = "".join(
        f'<th scope="col" title="{esc(meaning)}">{esc(name)}</th>' for name, meaning in _COLUMNS
    )
    rows = {True: "", False: ""}
    for entry in entries:
        cells = "".join(f"<td>{esc(cell)}</td>" for cell in _cells(entry))
        ways = entry["ways"]
        if len(ways) > 1:
            told = ", ".join(f"{way} {_percent(number(share))}" for way, share in ways.items())
            cells = cells.replace("</td>", f'<span class="span">{esc(told)}</span></td>', 1)
        rows[_control(entry)] += f'<tr><th scope="row">{esc(_name(entry))}</th>{cells}</tr>'
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
        f'id="task-{place}">{esc(_heading(title, entries))}</h2>'
        f'{scroll(f"Results on {title}", table)}<div class="figures">{figure}</div></section>'
    )
