"""What forecasts, synthetic tasks and speculation have found, in the cells of a table and in
words: what the terminal and the pages say alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lookaround.report.lookup import Interval, number
from lookaround.report.text import MISSING, format_interval, format_percent, format_seconds

if TYPE_CHECKING:
    from lookaround.report.schema import (
        ComparisonResults,
        ForecastResults,
        SpeculationResults,
        SyntheticResults,
    )
    from lookaround.report.schema.comparison import Extrapolation
    from lookaround.report.schema.forecast import ForecastLine, RightContext
    from lookaround.report.schema.record import Score
    from lookaround.report.schema.speculation import BatchSpeed
    from lookaround.report.schema.synthetic import (
        Margins,
        OverSeeds,
        SyntheticEntry,
        SyntheticTask,
    )


def extrapolation_title(results: ComparisonResults) -> str:
    """The heading of what is foretold."""
    unit = results.unit or "byte"
    return f"Bits per {unit} at larger budgets, by a power law through the rungs (95 %)"


def extrapolated_times(results: ComparisonResults) -> list[float]:
    """The multiples of the budget at which something is foretold."""
    lines = results.extrapolation.values()
    return sorted({budget.times for line in lines for budget in line.budgets})


def extrapolated_cell(line: Extrapolation, times: float) -> str:
    """What is foretold at a multiple of the budget: `1.984 ±0.031`; a dash for nothing."""
    for budget in line.budgets:
        if budget.times == times:
            mean, low, high = number(budget.mean), number(budget.low), number(budget.high)
            return format_interval(Interval(mean, low, high))
    return MISSING


def extrapolation_lines(results: ComparisonResults) -> list[str]:
    """Why not to extrapolate, or no further: `ar, mlm: do not extrapolate: ..`."""
    whose: dict[str, list[str]] = {}
    for objective, line in results.extrapolation.items():
        if line.reason:
            whose.setdefault(line.reason, []).append(objective)
    everyone = len(whose) == 1 and len(next(iter(whose.values()))) == len(results.extrapolation)
    return [
        f"Larger budgets: {reason}" if everyone else f"{', '.join(names)}: {reason}"
        for reason, names in whose.items()
    ]


FORECAST_COLUMNS = (  # heading, what it means, how a line's cell reads
    (
        "tail energy",
        "sum of sigma^2 beyond the rank: how much of the matrix a table of this rank leaves out; "
        "reported, never ranked on",
        lambda line: _cell(line.tail_energy, "{:.1f}"),
    ),
    ("sigma2", "the second singular value", lambda line: _cell(line.sigma2, "{:.3f}")),
    (
        "compo-\nnents",
        "connected components of the graph of contexts and targets",
        lambda line: _cell(line.components, "{:.0f}"),
    ),
    (
        "meeting",
        "probability that two contexts drawn by frequency share a target",
        lambda line: "saturated" if line.saturated else _cell(line.meeting, "{:.3f}"),
    ),
    (
        "effective\nrank",
        "exp of the entropy of the singular values kept",
        lambda line: _cell(line.effective_rank, "{:.0f}"),
    ),
)

RIGHT_CONTEXT_COLUMNS = (
    "window,\nleft",
    "window,\nboth sides",
    "right-context\ngain",
    "gain on\nambiguous words",
)


def _cell(value: object, form: str) -> str:
    found = number(value)
    return "-" if found != found else form.format(found)


def forecast_standing(result: ForecastResults, line: ForecastLine, task: str) -> str:
    """How a line stands to the best objective on a task: "leads", "not told apart", or ""."""
    if line.objective == _leader(result, task):
        return "leads"
    return "not told apart" if line.objective in result.not_distinguished.get(task, []) else ""


def _leader(result: ForecastResults, task: str) -> str:
    scores = {line.objective: number(line.tasks.get(task)) for line in result.objectives}
    return max(scores, key=lambda name: scores[name]) if scores else ""


def right_context_cells(found: RightContext) -> list[str]:
    """Scores of the two windows, and their difference on all and on ambiguous words."""
    gains = [
        (found.gain, found.low, found.high),
        (found.ambiguous_gain, found.ambiguous_low, found.ambiguous_high),
    ]
    return [
        *(_cell(score, "{:.3f}") for score in (found.window_left, found.window)),
        *(" ".join([_cell(gain, "{:+.3f}"), _range(low, high)]) for gain, low, high in gains),
    ]


def _range(low: Score, high: Score) -> str:
    return "" if low is None or high is None else f"[{low:+.3f}, {high:+.3f}]"


def forecast_contexts(result: ForecastResults) -> str:
    return "a token" if result.context == 1 else f"{result.context} tokens in order"


def forecast_features(result: ForecastResults) -> str:
    kind = {
        "context": "context features F",
        "target": "target features G",
        "both": "[F, G], half of the rank each",
    }
    return kind.get(str(result.features), str(result.features))


# what is said of a run that failed: later tokens at least so right, or training answers at most
CLEVER, UNFIT = 0.99, 0.95

LATER_MEANING = (
    "of a causal model, the same with the states of the next one, two .. symbols appended"
)
COVERAGE_MEANING = (
    "theory's word on both: the rarest of the pairs that writing a value asks for, as a share of "
    "the training pairs in a value, times its tokens"
)
SYNTHETIC_COLUMNS = (
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


def synthetic_tasks(results: SyntheticResults) -> dict[str, list[SyntheticEntry]]:
    """{spec of a task: its summary entries}, those of its control behind its own."""
    graphs: dict[str, list[SyntheticEntry]] = {}
    for entry in results.summary:
        graphs.setdefault(entry.control_of or entry.graph, []).append(entry)
    return graphs


def is_control(entry: SyntheticEntry) -> bool:
    return entry.control_of is not None


def synthetic_name(entry: SyntheticEntry) -> str:
    return entry.objective + (" (first hop only)" if is_control(entry) else "")


def _chance(entries: Sequence[SyntheticEntry]) -> float:
    return number(entries[0].chance)


def synthetic_heading(title: str, entries: Sequence[SyntheticEntry]) -> str:
    chance = _chance(entries)
    return title + (
        f"; a guess at the first hop is right in {format_percent(chance)}"
        if math.isfinite(chance)
        else ""
    )


def _mean(found: OverSeeds | None) -> float:
    return number(found.mean) if found else math.nan


def _score(found: OverSeeds | None) -> str:
    mean = format_percent(_mean(found))
    if found is None or found.low is None or found.high is None:
        return mean
    return f"{mean} [{100 * max(found.low, 0):.1f}, {100 * min(found.high, 1):.1f}]"


def has_answers(task: SyntheticTask) -> bool:
    """Whether a task is answered: others have figures of their own."""
    return "exact_match" in task.figures


def synthetic_columns(task: SyntheticTask) -> tuple[tuple[str, str], ...]:
    """(heading, meaning) of each column of a task's table."""
    if has_answers(task):
        return SYNTHETIC_COLUMNS
    own = [(name.replace("_", " "), meaning) for name, meaning in task.figures.items()]
    beside = [*task.bounds.items()]
    last = ("later", LATER_MEANING) if beside else ("coverage", COVERAGE_MEANING)
    return (*own, *beside, last, *SYNTHETIC_COLUMNS[-2:])


def synthetic_cells(entry: SyntheticEntry, task: SyntheticTask) -> list[str]:
    if not has_answers(task):
        return [
            *(_score(entry.get(name)) for name in task.figures),
            *(format_percent(_mean(entry.get(name))) for name in task.bounds),
            " ".join(format_percent(number(share)) for share in entry.later)
            if task.bounds
            else ("-" if entry.coverage is None else f"{entry.coverage:.2g}"),
            format_seconds(entry.seconds),
            f"{entry.parameters:,}",
        ]
    solved = ["-" if step is None else f"{step:,}" for step in entry.solved_at]
    wins = "-" if entry.success is None else f"{entry.success * entry.seeds:.0f}"
    return [
        _score(entry.exact_match),
        f"{wins}/{entry.seeds}",
        *(
            format_percent(_mean(found))
            for found in (entry.first_hop, entry.later_positions, entry.train_exact_match)
        ),
        ", ".join(solved),
        format_seconds(entry.seconds),
        f"{entry.parameters:,}",
    ]


def synthetic_findings(results: SyntheticResults) -> list[str]:
    """The table in words: which objectives look ahead, copy after a guess, or were not fitted."""
    lines = []
    margins = results.margins
    for graph, entries in synthetic_tasks(results).items():
        title, copied = results.tasks[graph].title, results.tasks[graph].copied
        if not has_answers(results.tasks[graph]):
            lines += _figures_in_words(results.tasks[graph], entries)
            continue
        kinds: dict[str, list[str]] = {}
        for entry in entries:
            if not is_control(entry):
                kinds.setdefault(_verdict(entry, margins.guessing, copied), []).append(
                    entry.objective
                )
        lines += [
            f"{title}: {verdict}: {', '.join(objectives)}" for verdict, objectives in kinds.items()
        ]
        lines += _against_reverse(title, entries)
        if copied:
            tried = results.learning_rates.get(graph, {})
            lines += _undecided(title, _chance(entries), tried, margins)
    asked = results.settings.synthetic.queries
    lines += [
        f"{results.tasks[graph].title}: there are only {found:,} different held-out problems"
        for graph, found in {row.graph: row.queries for row in results.rows}.items()
        if found < asked
    ]
    lines += [
        f"{results.tasks[row.graph].title}: {row.objective}, seed {row.seed}: "
        "the loss was not finite at "
        f"step {row.diverged_at:,}; scored as the run was at step {row.steps:,}"
        for row in results.rows
        if row.diverged_at
    ]
    return lines


def _figures_in_words(task: SyntheticTask, entries: Sequence[SyntheticEntry]) -> list[str]:
    """Who is best in each figure, and who passes a bound by an interval over seeds."""
    lines = []
    for name in task.figures:
        known = [entry for entry in entries if entry.get(name) is not None]
        best = max(known, key=lambda entry: _mean(entry[name]), default=None)
        if best is not None:
            lines.append(
                f"{task.title}: best in {name.replace('_', ' ')}: {best.objective} "
                f"({_score(best[name])})"
            )
        for bound in task.bounds:
            above = [
                entry.objective
                for entry in known
                if entry[name].low is not None and entry[name].low > _mean(entry.get(bound))
            ]
            if above:
                lines.append(f"{task.title}: above {bound}: {', '.join(above)}")
    return lines


def _against_reverse(title: str, entries: Sequence[SyntheticEntry]) -> list[str]:
    """How long `ar` was trained against what `reverse` needed, and whether it was still guessing
    then.
    """
    by_name = {entry.objective: entry for entry in entries if not is_control(entry)}
    if not {"ar", "reverse"} <= by_name.keys() or not math.isfinite(_chance(entries)):
        return []
    solved = [step for step in by_name["reverse"].solved_at if step is not None]
    if len(solved) < by_name["reverse"].seeds or any(by_name["ar"].diverged_at):
        return []
    needed, given = max(solved), min(by_name["ar"].steps)
    left = [step for step in by_name["ar"].left_chance_at if step is not None]
    end = (
        f"left guessing at step {min(left):,} (in {len(left)} of {by_name['ar'].seeds} runs)"
        if left
        else "was still guessing"
    )
    return [
        f"{title}: ar was trained for {given / needed:.1f} times the {needed:,} steps that "
        "reverse needed, "
        f"and {end}"
    ]


def _undecided(
    title: str, chance: float, tried: dict[str, dict[str, Score]], margins: Margins
) -> list[str]:
    """The objectives whose trials were all still guessing, so that nothing told their learning
    rates apart.

    tried: {objective: {factor: accuracy, below 0 of one that diverged}}.
    """
    guessing = []
    for name, found in tried.items():
        ends = [end for end in map(number, found.values()) if end >= 0]
        still = len(ends) > 1 and max(ends) <= chance + margins.guessing
        if still and max(ends) - min(ends) <= margins.same:
            guessing.append(name)
    if not guessing:
        return []
    return [
        f"{title}: at no learning rate had a trial left guessing for {', '.join(guessing)}; "
        "the largest was taken, and a longer synthetic.trial may find a better one"
    ]


def _verdict(entry: SyntheticEntry, margin: float, copied: bool) -> str:
    exact, later = _mean(entry.exact_match), _mean(entry.later_positions)
    chance = number(entry.chance)
    if entry.success == 1:
        return "looks ahead in every run"
    if number(entry.success) > 0:
        return "looks ahead in some runs"
    if math.isfinite(chance) and later >= CLEVER and abs(exact - chance) <= margin:
        if not copied:
            return "guesses the token that takes looking ahead, and follows from it"
        return "copies along an arm that it has guessed (the Clever Hans cheat)"
    if _mean(entry.train_exact_match) < UNFIT:
        return "was not fitted, in training either, within these steps"
    return "fits its training problems and fails on others"


SPECULATION_COLUMNS = (
    "sequences",
    "nodes",
    "tokens/\nforward",
    "transformers\ntokens/s",
    "no drafts\ntokens/s",
    "drafts\ntokens/s",
    "times\ntransformers",
)


def speculation_cells(entry: BatchSpeed) -> list[str]:
    """A number of sequences in the columns above; where no tree pays, nothing is drafted."""
    interval = "" if entry.interval is None else " [{:.2f}, {:.2f}]".format(*entry.interval)
    cells = [
        f"{entry.batch}",
        f"{entry.nodes}",
        f"{entry.tokens_per_forward:.2f}",
        f"{entry.plain_tokens_per_second:,.0f}",
        f"{entry.loop_tokens_per_second:,.0f}",
        f"{entry.speculative_tokens_per_second:,.0f}",
        f"{entry.speedup:.2f}{interval}",
    ]
    return cells if entry.nodes else [cells[0], "none", MISSING, *cells[3:5], MISSING, MISSING]


def _whether_it_pays(result: SpeculationResults) -> str:
    """At which numbers of sequences drafts are faster, by their intervals."""
    by_answer: dict[bool | None, list[str]] = {True: [], None: [], False: []}
    for entry in result.by_batch:
        by_answer[entry.pays].append(str(entry.batch))
    pays, unclear, does_not = (", ".join(numbers) for numbers in by_answer.values())
    noun = "sequence" if by_answer[True] == ["1"] else "sequences"
    parts = [
        f"it does at {pays} {noun} at a time" if pays else "",
        f"not told apart from plain at {unclear}" if unclear else "",
        f"it does not at {does_not}" if does_not else "",
    ]
    return "on this machine " + "; ".join(filter(None, parts))


def speculation_lines(result: SpeculationResults) -> list[str]:
    """The findings beside the table."""
    found = result.speculative
    shares = ", ".join(f"{share:.2f}" for share in found.acceptance_by_depth)
    flips = f"{found.flips} of {result.prompts} texts differ somewhere (near-ties)"
    same = "token for token the same" if found.identical else "NOT the same: please report this"
    greedy = f"in float64 {same}; in {result.precision} {flips}"
    if found.own_precision:
        greedy = f"in {found.precision_compared} {flips}; {found.own_precision}"
    lines = [
        f"tokens per forward  {found.tokens_per_forward:.2f} on {result.prompts} held-out "
        "prompts "
        f"({result.expected_tokens_per_forward:.2f} expected from calibration)",
        f"accepted by depth   {shares or 'nothing is drafted for one sequence'}",
        f"greedy output       {greedy}",
    ]
    if result.bits_per_byte is not None:
        changed = result.bits_per_byte_before
        lines.append(
            f"bits per byte       {result.bits_per_byte:.3f} of the next token on held-out text"
            + (
                f" ({changed:.3f} before joint training)"
                if changed is not None
                else "; the model is unchanged"
            )
        )
    lines.append(f"does it pay         {_whether_it_pays(result)}")
    return lines
