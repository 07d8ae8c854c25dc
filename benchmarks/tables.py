"""The tables of results/, made from the records in results/data (benchmarks/records.py).

    python -m benchmarks.tables            # rewrites every table; a second
    python -m benchmarks.tables --check    # writes nothing; ends with 1 and names the stale pages

A table stands between the lines `<!-- table: NAME -->` and `<!-- end -->` of a page; NAME is a key
of TABLES. `index` is the table of results/README.md, a line for each record.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.records import ROOT, records
from lookaround.objectives import Objective
from lookaround.support.storage import write_text

RESULTS = ROOT / "results"
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
SHORT = {  # specs that make a table too wide; the pages that show them say what they stand for
    "0.7*mlm(rate=0.4) >> 0.3*vmlm(suffix=0.5, shift=0)": "look around, then lengths",
    "mtp(n=2, weights=1.0, matched=True)": "`mtp`, parallel",
    "ar beside ar of reversed rows": "two `ar`, one reversed",
    'mtp(n=2, heads="sequential", weights=1.0, matched=True)': "`mtp`, sequential",
    "bst(matched=True)": "`bst`",
    'mtp(weights=1.0, curriculum="forward")': "`mtp(weights=1.0)`, forward",
    'mtp(weights=1.0, curriculum="reverse")': "`mtp(weights=1.0)`, reverse",
}
Row = dict[str, Any]
Format = Callable[[Any], str]


# ------------------------------------------------------------------------------------------ formats


def text(value: Any) -> str:
    """A value as it is; nothing for None."""
    return "" if value is None else str(value)


def spec(value: str) -> str:
    """An objective's name as code, or its short form."""
    return SHORT.get(value, f"`{value}`")


def number(places: int = 0, *, scale: float = 1.0, sign: str = "") -> Format:
    """A number with thousands separated; text as it is."""

    def shown(value: Any) -> str:
        if value is None or isinstance(value, str):
            return text(value)
        return f"{value * scale:{sign},.{places}f}"

    return shown


def interval(places: int, *, sign: str = "") -> Format:
    """`mean [low, high]`, or `mean ± half` where the record holds half of the interval."""
    one = number(places, sign=sign)

    def shown(value: Any) -> str:
        if not isinstance(value, dict):
            return one(value)
        if value.get("low") is not None:
            return f"{one(value['mean'])} [{one(value['low'])}, {one(value['high'])}]"
        half = value.get("half")
        return one(value["mean"]) + ("" if half is None else f" ± {number(places)(half)}")

    return shown


def points(value: dict[str, float]) -> str:
    """A difference of shares in points, with its interval."""
    return interval(1, sign="+")({name: 100 * each for name, each in value.items()})


def half(form: Format) -> Format:
    """`form` with half of an interval's width in place of its ends."""

    def shown(value: Any) -> str:
        if isinstance(value, dict) and "low" in value:
            value = {"mean": value["mean"], "half": (value["high"] - value["low"]) / 2}
        return form(value)

    return shown


def general(value: Any) -> str:
    """A number in as few digits as it takes."""
    return f"{value:g}" if isinstance(value, int | float) else text(value)


def scientific(value: float) -> str:
    return f"{value:.1e}"


def steps(value: list[int | None]) -> str:
    """The step of each seed, `-` for one that did not get there."""
    return ", ".join("-" if step is None else f"{step:,}" for step in value)


def mean_or(places: int) -> Format:
    """The mean alone of a number with its interval, or the number."""
    return lambda value: number(places)(value["mean"] if isinstance(value, dict) else value)


def bold(form: Format) -> Format:
    return lambda value: f"**{form(value)}**"


def named_picture_row(value: str) -> str:
    """An objective as code, a baseline in words."""
    return spec(value) if value.partition("(")[0] in Objective.registry else value


# ------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Column:
    """One column: its head, and how a row is shown in it.

    head: with the unit.
    key: of the row; "" gives the format the whole row.
    form: of the value; a row without the key shows nothing.
    """

    head: str
    key: str
    form: Format = text

    def cell(self, row: Row) -> str:
        if not self.key:
            return self.form(row)
        return "" if row.get(self.key) is None else self.form(row[self.key])


@dataclass(frozen=True)
class Table:
    """Rows of a record under columns.

    record: name of the record.
    rows: name of its rows; one with nothing but its name is left out.
    """

    record: str
    rows: str
    columns: tuple[Column, ...]

    def lines(self, rows: list[Row]) -> list[str]:
        heads = [column.head for column in self.columns]
        cells = [[column.cell(row) for column in self.columns] for row in rows]
        cells = [line for line in cells if any(line[1:])]
        return ["| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads), *cells)]


def named(row: Row) -> str:
    """An objective, or what else a row is about: a baseline, a control."""
    return row["label"] if "label" in row else spec(row["objective"])


NAMED = Column("objective", "", named)
COSTS = (
    Column("M tokens", "tokens", number(2, scale=1e-6)),
    Column("M targets", "targets", number(2, scale=1e-6)),
    Column("s", "seconds", number()),
    Column("rate", "lr", general),
)
BITS = Column("bits per byte", "bits", interval(3))
FLOPS = Column("FLOPs", "flops", scientific)
SHARE = Column("of unigram, %", "of_unigram", number(scale=100))
GRAPH = (
    Column("graph", "graph"),
    Column("objective", "", lambda row: spec(row["objective"]) + row.get("note", "")),
)


def scores(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, name, interval(3)) for name in names)


def protocols(record: str, *metrics: str) -> Table:
    """Gain over the untrained network, in points, and score in some metrics of a comparison.

    metrics: keys of its rows `protocols`, such as `tokens/ewt-upos`.
    """
    columns = [NAMED]
    for metric in metrics:
        title = metric.replace("/", " ")
        columns.append(Column(f"{title}: gain", f"{metric} gain", points))
        columns.append(Column(title, metric, interval(3)))
    return Table(record, "protocols", tuple(columns))


def over_seeds(record: str, name: str, *metrics: str) -> dict[str, Table]:
    """Two tables of some metrics of a comparison: scores, and gains in points, over seeds.

    name: of the first; the second has `-gain` behind it.
    metrics: keys of its rows `protocols`; the part behind the `/` is the heading.
    """
    scored, gained = (
        (NAMED, *(Column(metric.split("/")[-1], metric + key, form) for metric in metrics))
        for key, form in (("", half(interval(3))), (" gain", half(points)))
    )
    tables = {name: scored, f"{name}-gain": gained}
    return {key: Table(record, "protocols", columns) for key, columns in tables.items()}


def less_ar(record: str, *metrics: str) -> Table:
    """Scores less those of `ar`, by rung, paired over seeds: in points, bits as they are.

    metrics: keys of its rows `less_ar`; the part behind the `/` is the heading.
    """
    columns = [
        Column("bits per byte", metric, half(interval(3, sign="+")))
        if metric == "bits_per_byte"
        else Column(metric.split("/")[-1], metric, half(points))
        for metric in metrics
    ]
    return Table(record, "less_ar", (NAMED, FLOPS, *columns))


def labels(record: str) -> Table:
    """Fine-tuning of a comparison by number of labels."""
    columns = (
        Column("task", "task"),
        Column("objective", "objective", spec),
        Column("labels", "labels", number()),
        Column("gain over scratch", "gain", number(1, scale=100, sign="+")),
        Column("score", "score", interval(3)),
        *(
            Column(head, key, number(3))
            for head, key in (("scratch", "before"), ("probe", "probe"), ("TF-IDF", "tfidf"))
        ),
    )
    return Table(record, "labels", columns)


def right_context(record: str, *models: str) -> dict[str, Table]:
    """Two tables of a comparison: what right context tells of labels beside what models with it
    gain on `ar`, and how well the one foretells the other.
    """
    columns = (
        Column("task", "task"),
        Column("window", "gain", half(points)),
        *(Column(spec(name), name, half(points)) for name in models),
    )
    agreement = (
        Column("model", "model"),
        Column("rows", "rows"),
        Column("rank correlation", "rho", number(2, sign="+")),
        Column("p", "p", number(3)),
    )
    return {
        f"{record}-right-context": Table(record, "right_context", columns),
        f"{record}-agreement": Table(record, "right_context_agreement", agreement),
    }


def solved(record: str) -> dict[str, Table]:
    """The two tables of a study of synthetic tasks: what was reached, and at what cost."""
    reached = (
        *GRAPH,
        Column("exact match, %", "exact_match", interval(1)),
        Column("solved", "", lambda row: f"{row['success']}/{row['seeds']}"),
        Column("first hop", "first_hop", number(1)),
        Column("later", "later", number(1)),
        Column("solved at step", "solved_at", steps),
    )
    costs = (
        *GRAPH,
        Column("train, %", "train", number(1)),
        Column("other ways, %", "other_ways"),
        Column("rate", "rate", general),
        Column("parameters", "parameters", number()),
        Column("s", "seconds", number()),
    )
    return {
        record: Table(record, "runs", reached),
        f"{record}-costs": Table(record, "runs", costs),
    }


TABLES: dict[str, Table] = {
    "english": Table("english", "scores", (NAMED, BITS, SHARE, *scores("mean score"), *COSTS)),
    "english-tasks": Table(
        "english",
        "scores",
        (NAMED, *scores("sentence_polarity", "snips", "banking77", "CoLA")),
    ),
    "english-claims": Table(
        "english",
        "claims",
        (
            Column("objective", "objective", spec),
            Column("less", "reference", spec),
            Column("in", "metric"),
            Column("rung", "rung", general),
            Column("difference [95 %]", "difference", interval(3, sign="+")),
        ),
    ),
    "stdlib": Table("stdlib", "scores", (NAMED, BITS, SHARE, *scores("stdlib-package"), *COSTS)),
    "stdlib-protocols": protocols("stdlib", "tokens/stdlib-roles"),
    "evaluation": Table("evaluation", "scores", (NAMED, BITS, SHARE, *COSTS)),
    **over_seeds(
        "evaluation",
        "evaluation-words",
        *(f"tokens/{name}" for name in ("ewt-upos", "ewt-deprel", "conll2000", "snips_slots")),
    ),
    **over_seeds(
        "evaluation",
        "evaluation-texts",
        *("probe/snips-train", "probe/SST-2", "order", "pairs/blimp"),
    ),
    "evaluation-labels": labels("evaluation"),
    **right_context("evaluation", "mlm(rate=0.4)", "dar", "vmlm", "ar + vmlm"),
    # without seconds: the machine did other work beside it
    "evaluation-2e13": Table(
        "evaluation-2e13", "scores", (NAMED, BITS, SHARE, *COSTS[:2], COSTS[3])
    ),
    **over_seeds(
        "evaluation-2e13",
        "evaluation-2e13-words",
        *(f"tokens/{name}" for name in ("ewt-upos", "ewt-deprel", "conll2000", "snips_slots")),
    ),
    **over_seeds(
        "evaluation-2e13",
        "evaluation-2e13-texts",
        *("probe/snips-train", "probe/SST-2", "order", "pairs/blimp"),
    ),
    "evaluation-2e13-labels": labels("evaluation-2e13"),
    **right_context("evaluation-2e13", "mlm(rate=0.4)", "dar", "vmlm", "ar + vmlm"),
    "larger-budget": Table("larger-budget", "ladder", (NAMED, FLOPS, BITS, *COSTS[:2])),
    "larger-budget-less": less_ar(
        "larger-budget",
        "bits_per_byte",
        *(f"tokens/{name}" for name in ("ewt-upos", "ewt-deprel", "conll2000", "snips_slots")),
    ),
    "larger-budget-less-texts": less_ar(
        "larger-budget", "probe/snips-train", "probe/SST-2", "order", "pairs/blimp"
    ),
    **over_seeds(
        "larger-budget",
        "larger-budget-words",
        *(f"tokens/{name}" for name in ("ewt-upos", "ewt-deprel", "conll2000", "snips_slots")),
    ),
    **over_seeds(
        "larger-budget",
        "larger-budget-texts",
        *("probe/snips-train", "probe/SST-2", "order", "pairs/blimp"),
    ),
    **right_context("larger-budget", "mlm(rate=0.4)", "dar", "ar + vmlm"),
    "topics-less": less_ar(
        "topics",
        *(f"probe/{name}" for name in ("banking77-train", "clinc150-train", "brown")),
        "probe",
    ),
    "masked-writing": Table(
        "masked-writing",
        "recipes",
        (
            NAMED,
            FLOPS,
            Column("validation", "validation", number(2)),
            Column("test", "test", half(interval(3))),
            Column("less `mlm(rate=0.4)`", "less_reference", half(interval(3, sign="+"))),
            Column("gaps", "gaps", half(interval(2))),
            Column("chosen", "chosen"),
        ),
    ),
    "misalignment": Table(
        "misalignment",
        "models",
        (
            NAMED,
            Column("FLOPs", "flops", scientific),
            Column("read", "mode"),
            Column("theory", "theory", number(2)),
            Column("nats", "nats", interval(3)),
            Column("1 mask", "1 masks", number(3)),
            Column("bits per byte", "bits", interval(3)),
        ),
    ),
    "misalignment-less": Table(
        "misalignment",
        "less",
        (
            NAMED,
            Column("FLOPs", "flops", scientific),
            Column("seeds", "seeds"),
            Column("nats less", "less nats", interval(3, sign="+")),
            Column("bits per byte less", "less bits", interval(3, sign="+")),
        ),
    ),
    "protocols": Table(
        "protocols",
        "figures",
        (
            Column("what; peer", "name"),
            Column("ours, s", "ours", number(1)),
            Column("target", "target"),
            Column("peer, s", "peer", number(1)),
            Column("ratio", "ratio", number(2)),
        ),
    ),
    "track-record": Table(
        "track-record",
        "agreement",
        (
            Column("tasks", "half"),
            Column("FLOPs", "budget"),
            Column("predictor", "predictor"),
            Column("pairs", "", lambda row: f"{row['pairs']}/{row['of']}"),
            Column("tau [95 %]", "tau", interval(2, sign="+")),
            Column("forecast less this", "forecast_less_this", interval(2, sign="+")),
        ),
    ),
    "small-rung": Table(
        "small-rung",
        "small_rung",
        (
            Column("scores", "title"),
            Column("units", "units"),
            Column("told apart", "", lambda row: f"{row['pairs']}/{row['of']}"),
            Column("smallest rung", "rate", interval(2)),
            Column("same order for all", "same_order", interval(2)),
            Column("whole budget", "whole_budget", interval(2)),
        ),
    ),
    "forecast-wikipedia": Table(
        "forecast-wikipedia",
        "objectives",
        (
            NAMED,
            Column("tail energy", "tail_energy", number(1)),
            Column("sigma2", "sigma2", number(3)),
            Column("components", "components", number()),
            Column("meeting", "meeting", number(3)),
            Column("effective rank", "effective_rank", number()),
            Column("beyond", "beyond", number(3)),
        ),
    ),
    "forecast-wikipedia-probes": Table(
        "forecast-wikipedia",
        "objectives",
        (NAMED, *scores("banking77", "snips", "sentence_polarity", "CoLA")),
    ),
    "worlds": Table(
        "worlds",
        "worlds",
        (
            Column("world", "world"),
            Column("objective", "objective", spec),
            Column("rank", "rank"),
            Column("contexts", "contexts"),
            *(Column(name, name, number(3)) for name in ("tail", "alpha", "error", "bound")),
            Column("spectral bound", "spectral_bound", number(3)),
            Column("chance", "chance", number(3)),
        ),
    ),
    "worlds-signs": Table(
        "worlds",
        "signs",
        (
            Column("world", "world"),
            Column("rank", "rank"),
            Column("sign of tail", "tail"),
            Column("sign of error", "error"),
        ),
    ),
    "worlds-trained": Table(
        "worlds-trained",
        "trained",
        (
            Column("world", "world"),
            Column("features", "width"),
            *(
                Column(f"{head} {spec(name)}", f"{key}_{short}", number(3))
                for key, head in (("error", "error"), ("excess", "excess"))
                for name, short in (("ar", "ar"), ("mlm", "mlm"))
            ),
            Column("difference", "difference", interval(3, sign="+")),
            Column("exact", "exact_difference", number(3, sign="+")),
        ),
    ),
    "worlds-lengths": Table(
        "worlds",
        "lengths",
        (
            Column("objective", "objective", spec),
            Column("length misalignment, 8 tokens", "misalignment", number(3)),
            Column("least coverage of a prefix", "least", scientific),
            Column("greatest", "greatest", scientific),
        ),
    ),
    "counting": Table(
        "counting",
        "figures",
        (
            Column("figure; peer", "name"),
            Column("ours", "ours", general),
            Column("peer", "peer", general),
            Column("ratio", "ratio", number(2)),
            Column("target", "target"),
        ),
    ),
    "reading": Table(
        "reading",
        "ways",
        (
            Column("way, figure", "what"),
            Column("median", "median", number(1)),
            Column("/ ours", "ratio", number(2)),
        ),
    ),
    "reading-large": Table(
        "reading",
        "large",
        (
            Column("MB of text", "megabytes", number()),
            Column("s", "seconds", number()),
            Column("MiB at the peak", "mebibytes", number()),
            Column("target", "limit_mebibytes", number()),
            Column("10 GB by its growth, MiB", "mebibytes_at_10_gb", number()),
        ),
    ),
    "knocks": Table(
        "knocks",
        "knocks",
        (
            Column("command", "command"),
            Column("uninterrupted, s", "reference", number(1)),
            Column("kills", "kills"),
            Column("runs that went on to equal results", "equal"),
            Column("unequal", "unequal"),
        ),
    ),
    "fuzz": Table(
        "fuzz",
        "fuzz",
        (
            Column("target", "target"),
            Column("inputs", "inputs", number()),
            Column("crashes", "crashes"),
        ),
    ),
    "decoding-one": Table(
        "decoding",
        "one sequence",
        (
            Column("one sequence", "way"),
            Column("12M, tokens/s", "mini", number()),
            Column("/ peer", "mini_of_peer", number(2)),
            Column("/ loop", "mini_of_loop", number(2)),
            Column("260k, tokens/s", "stories", number()),
            Column("/ peer", "stories_of_peer", number(2)),
            Column("/ loop", "stories_of_loop", number(2)),
        ),
    ),
    "decoding-counted": Table(
        "decoding",
        "counted",
        (
            Column("counted on 200 prompts", "what"),
            Column("`mini`", "mini"),
            Column("`stories260K`", "stories"),
        ),
    ),
    "decoding-sequences": Table(
        "decoding",
        "sequences",
        (
            Column("sequences", "sequences"),
            Column("nodes", "nodes"),
            Column("tokens/forward", "tokens_per_forward", number(2)),
            Column("peer", "peer", number()),
            Column("loop", "loop", number()),
            Column("drafts", "drafts", number()),
            Column("drafts / peer", "ratio", number(2)),
            Column("260k, drafts / peer", "stories_ratio", number(2)),
        ),
    ),
    "next-token": Table(
        "next-token",
        "objectives",
        (
            Column("objective", "objective", spec),
            BITS,
            Column("less `ar` [95 %]", "difference", interval(3, sign="+")),
            Column("chain", "chain", number(2)),
            Column("tree", "tree", number(2)),
        ),
    ),
    "masked-decoding": Table(
        "masked-decoding",
        "settings",
        (
            Column("temperature", "temperature"),
            Column("order", "order"),
            Column("per pass", "per_pass"),
            Column("passes", "passes", number(1)),
            Column("bits/token", "bits", interval(2)),
            Column("cost", "bits_cost", interval(2, sign="+")),
        ),
    ),
    "masked-decoding-judge": Table(
        "masked-decoding",
        "settings",
        (
            Column("temperature", "temperature"),
            Column("order", "order"),
            Column("per pass", "per_pass"),
            Column("judge, bits/token", "judge", interval(2)),
            Column("cost", "judge_cost", interval(2, sign="+")),
            Column("distinct-2", "distinct", interval(2)),
        ),
    ),
    **solved("synthetic"),
    **solved("synthetic-default"),
    **solved("synthetic-2-5"),
    **solved("synthetic-longer"),
    "hidden-states": Table(
        "hidden-states",
        "figures",
        (
            NAMED,
            Column("stay", "task", lambda title: title.rpartition(" ")[2]),
            Column("state accuracy", "state_accuracy", interval(3)),
            Column("less filtering, points", "less filtering", points),
            Column("less smoothing, points", "less smoothing", points),
        ),
    ),
    "hidden-states-bounds": Table(
        "hidden-states",
        "bounds",
        (
            Column("stay", "task", lambda title: title.rpartition(" ")[2]),
            *(
                Column(name, name, half(interval(3)))
                for name in ("symbol", "filtering", "smoothing")
            ),
            *(Column(f"`ar`, {k} later", f"later {k}", number(3)) for k in (1, 2, 4)),
        ),
    ),
    "recall": Table(
        "recall",
        "figures",
        (
            NAMED,
            Column("task", "task"),
            Column("steps", "steps", lambda found: f"{max(found):,}"),
            Column("forward", "forward", interval(2)),
            Column("backward", "backward", interval(2)),
            Column("coverage", "coverage", number(4)),
        ),
    ),
    **{
        f"pictures-{part}-{source}": Table("pictures", source, columns)
        for source in ("fashion_mnist", "mnist")
        for part, columns in (
            (
                "scores",
                (
                    Column("", "name", named_picture_row),
                    Column("bits per pixel", "bits", half(interval(3))),
                    Column("squared error", "error", half(interval(3))),
                    Column("valid.", "validation", number(3)),
                    Column("probe", "probe", half(interval(3))),
                    Column("less untrained, points", "probe_gain", points),
                ),
            ),
            (
                "labels",
                (
                    Column("", "name", named_picture_row),
                    Column("100 labels", "tuned_100", half(interval(3))),
                    Column("less scratch", "gain_100", points),
                    Column("frozen", "frozen_100", mean_or(3)),
                    Column("1,000 labels", "tuned_1000", mean_or(3)),
                    Column("less scratch", "gain_1000", points),
                ),
            ),
        )
    },
    **{
        f"repeated-{tokens}": Table(
            "repeated",
            f"best-{tokens}",
            (
                NAMED,
                Column(
                    "read", "mode", {"causal": "causally", "bidirectional": "masks"}.__getitem__
                ),
                Column("decay", "", lambda row: row["decay"] + " *" * (row["chosen"] == "yes")),
                Column("epochs", "epochs", lambda found: ", ".join(map(str, found))),
                Column("bits per byte", "test", interval(3)),
                Column("less the best `ar`", "less_ar", interval(3, sign="+")),
            ),
        )
        for tokens in (50_000, 100_000)
    },
    **{
        f"repeated-curves-{tokens}": Table(
            "repeated",
            f"curves-{tokens}",
            (
                NAMED,
                Column("decay", "decay", general),
                *(
                    Column(f"{epochs}", rung, lambda found: number(3)(found["mean"]))
                    for rung, epochs in zip(
                        ("0.02", "0.06", "0.1", "0.2", "0.5", "1"), shown, strict=True
                    )
                ),
            ),
        )
        for tokens, shown in ((50_000, (2, 7, 12, 24, 60, 120)), (100_000, (2, 5, 9, 18, 44, 88)))
    },
    "synthetic-generator": Table(
        "synthetic-generator",
        "graphs",
        (
            Column("graph", "graph"),
            Column("ours, graphs per minute", "ours", number()),
            Column("published", "published", number()),
            Column("ratio", "ratio", number()),
        ),
    ),
    "extrapolation": Table(
        "extrapolation",
        "foretold",
        (
            Column("objective", "objective", spec),
            Column("top, FLOPs", "top", lambda value: f"{value:.2g}"),
            Column("rungs", "rungs"),
            Column("times", "times", number(1)),
            Column("foretold", "bits", interval(3)),
            Column("came", "came", number(3)),
            Column("less came", "error", number(3, sign="+")),
            Column("held", "held", lambda value: "yes" if value else "no"),
        ),
    ),
    "extrapolation-refused": Table(
        "extrapolation",
        "refused",
        (
            Column("objective", "objective", spec),
            Column("top, FLOPs", "top", lambda value: f"{value:.2g}"),
            Column("bits", "bits", number(3)),
            Column("why", "why", lambda value: value.partition(",")[0].partition(" (")[0]),
        ),
    ),
    "scaling": Table(
        "scaling",
        "speed",
        (
            Column("way", "way"),
            Column("processes", "processes"),
            Column("tokens/s", "tokens_per_second", number()),
            Column("of one process, each", "of_one", number(2)),
        ),
    ),
    "scaling-waiting": Table(
        "scaling",
        "waiting",
        (
            Column("objective", "objective", spec),
            Column("a step waits for rows, %", "waiting", number(2, scale=100)),
            Column("drawing a step's rows takes, % of a step", "drawing", number(2, scale=100)),
        ),
    ),
    "throughput": Table(
        "throughput",
        "objectives",
        (
            Column("objective", "objective", spec),
            Column("compiled", "compiled", lambda value: "yes" if value else "no"),
            Column("ours, tokens/s", "ours", number()),
            Column("peer, tokens/s", "peer", number()),
            Column("ratio", "ratio", number(2)),
            Column("least", "ratio_min", number(2)),
            Column("most", "ratio_max", number(2)),
            Column("memory ratio", "memory_ratio", number(2)),
        ),
    ),
    "gpu": Table(
        "gpu",
        "speed",
        (
            Column("", "name"),
            Column("before", "before", number()),
            Column("tokens/s", "tokens_per_second", number()),
            Column("step, s", "step_seconds", number(3)),
            Column("TFLOP/s", "flops_per_second", number(scale=1e-12)),
            Column("of product, %", "share_of_product", number(scale=100)),
            Column("peak, GiB", "peak_gib", number()),
            Column("views, %", "views_share", number(1, scale=100)),
        ),
    ),
    "gpu-english": Table(
        "gpu-studies",
        "english",
        (
            Column("objective", "objective", spec),
            Column("bits", "bits", number(3)),
            Column("upos", "ewt-upos", number(3)),
            Column("deprel", "ewt-deprel", number(3)),
            Column("chunks", "conll2000", number(3)),
            Column("slots", "snips_slots", number(3)),
            Column("SST-2", "sst2", number(3)),
            Column("BLiMP", "blimp", number(3)),
            Column("order", "order", number(3)),
        ),
    ),
    "gpu-pathstar": Table(
        "gpu-studies",
        "pathstar",
        (
            Column("objective", "objective", spec),
            Column("step", "step", number()),
            Column("whole path right", "exact_match", number(3)),
            *(Column(f"node {place}", f"node {place}", number(3)) for place in range(1, 6)),
        ),
    ),
    "zoo": Table(
        "zoo",
        "groups",
        (Column("models", "models"), Column("right", "right"), Column("refused", "refused")),
    ),
    "zoo-reasons": Table(
        "zoo",
        "reasons",
        (Column("models", "models"), Column("commands", "cells"), Column("", "reason")),
    ),
    "zoo-totals": Table(
        "zoo",
        "totals",
        (
            Column("", "cells"),
            *(Column(name, name) for name in ("right", "refused", "WRONG", "TRACEBACK", "of")),
        ),
    ),
}
INDEX = (
    Column("question", "question"),
    Column("answer", "answer"),
    Column("interval", "interval"),
    Column("budget", "budget"),
    Column(
        "machine, date, commit", "", lambda row: f"{row['machine']}, {row['date']}, {row['commit']}"
    ),
    Column("page", "page", lambda page: f"[{page.split('.')[0]}]({page})"),
)


# -------------------------------------------------------------------------------------------- pages


def page_with_tables(page: str, found: dict[str, dict[str, Any]], where: str) -> str:
    """The text of a page with every table made anew from the records.

    page: its text.
    found: {name: record}.
    where: what to call it in an error.
    """

    def table(match: re.Match[str]) -> str:
        name = match[2]
        if name == "index":
            lines = Table("", "", INDEX).lines(list(found.values()))
        elif name in TABLES:
            made = TABLES[name]
            lines = made.lines(found[made.record]["rows"][made.rows])
        else:
            raise SystemExit(f"{where}: no table '{name}'; known: index, {', '.join(TABLES)}")
        return match[1] + "\n".join(lines) + "\n" + match[4]

    return MARKED.sub(table, page)


def stale_pages(folder: Path) -> dict[Path, str]:
    """{page: its text as it should be} of the pages whose tables are not those of the records."""
    found, stale = records(), {}
    for page in sorted(folder.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = page_with_tables(before, found, page.name)
        if after != before:
            stale[page] = after
    return stale


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is stale")
    given = parser.parse_args(arguments)
    stale = stale_pages(RESULTS)
    for page, wanted in stale.items():
        print(f"results/{page.name}: " + ("stale" if given.check else "rewritten"))
        if not given.check:
            write_text(page, wanted)
    if given.check and stale:
        print("run: python -m benchmarks.tables")
    return int(given.check and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
