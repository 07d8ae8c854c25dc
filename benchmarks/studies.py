"""A record of results/data, and figures, from the results.json of a study.

    python -m benchmarks.studies lookaround-english/results.json --json results/data/english.json
    python -m benchmarks.studies lookaround-compare/results.json --json results/data/stdlib.json
    python -m benchmarks.studies full/results.json --json results/data/synthetic.json \\
        --figures docs/img
    python -m benchmarks.studies --tradeoff docs/img/tradeoff.svg

Seconds. The study is trained by the command that its results.json holds. A comparison gives the
rows `scores` (the whole budget), `ladder` (every rung), `claims` (the paper's two claims as paired
differences, where their objectives were compared), `protocols` (gain and score in every protocol
and task, then baselines and controls), `less_ar` (every objective less `ar`, by rung) and `labels`
(fine-tuning by number of labels); a synthetic
study gives `runs`, or `figures` of tasks that have their own (hidden states, recall).
--figures: the folder that learning curves of synthetic tasks are written to, synthetic-2-3.svg for
pathstar(2,3), and what bounds hidden states, ceilings.svg. --tradeoff: the figure of the README,
from results/data/stdlib.json alone.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.records import DATA, write_record
from lookaround.evaluation.intervals import seed_interval
from lookaround.report.figures import learning, tradeoff
from lookaround.report.html import synthetic_ceilings
from lookaround.report.lookup import BASELINES as TITLES
from lookaround.report.lookup import NGRAMS, Interval, Lookup
from lookaround.report.protocols import over_seeds
from lookaround.report.schema import ComparisonResults, load_results
from lookaround.support.storage import write_text

LENGTHS = "0.7*mlm(rate=0.4) >> 0.3*vmlm(suffix=0.5, shift=0)"
CLAIMS = (  # objective, what it is compared with, metric and its name
    ("dar", "ar", "probe", "mean score"),
    ("vmlm", "mlm", "bits_per_byte", "bits per byte"),
    ("vmlm", "mlm(rate=0.4)", "bits_per_byte", "bits per byte"),
    (LENGTHS, "mlm(rate=0.4)", "bits_per_byte", "bits per byte"),
)
BASELINES = {
    "majority": "majority",
    "tfidf": "TF-IDF + logistic regression",
    "untrained": "before training",
}
FEWEST = 8  # rows of a rank correlation
Rows = dict[str, list[dict[str, Any]]]


def bounds(entry: dict[str, Any], sign: int = 1) -> dict[str, float]:
    """Mean and interval of an entry of `summary` or `differences`, to six digits."""
    low, high = sorted((sign * entry["low"], sign * entry["high"]))
    return {"mean": round(sign * entry["mean"], 6), "low": round(low, 6), "high": round(high, 6)}


def short(task: str) -> str:
    """The name of a task without the part that it was read from."""
    return re.sub(r"-(all|train)$", "", task)


def comparison_rows(results: dict[str, Any]) -> Rows:
    """The rows of a comparison."""
    study = Lookup(ComparisonResults.of(results))
    tasks, unigram = study.columns["probe"], study.unigram
    summary = {(e["objective"], e["rung"], e["metric"]): e for e in results["summary"]}
    ladder = []
    for spec in study.objectives:
        for rung in study.rungs:
            bits = bounds(summary[spec, rung, "bits_per_byte"])
            scores = {short(task): bounds(summary[spec, rung, f"probe/{task}"]) for task in tasks}
            if len(tasks) > 1:
                scores["mean score"] = bounds(summary[spec, rung, "probe"])
            cost = {
                key: round(study.cost(spec, key, rung), 1)
                for key in ("tokens", "targets", "flops", "seconds")
            }
            ladder.append(
                {
                    "objective": spec,
                    "rung": rung,
                    "bits": bits,
                    "of_unigram": round(bits["mean"] / unigram, 6),
                    **scores,
                    **cost,
                    "lr": study.runs_at(spec, rung)[0].learning_rate,
                }
            )
    scores = [row for row in ladder if row["rung"] == 1]
    for name, label in BASELINES.items() if tasks else ():
        found = {short(task): round(before_or(study, name, task), 6) for task in tasks}
        mean = {"mean score": round(fmean(found.values()), 6)} if len(tasks) > 1 else {}
        scores.append({"label": label, **found, **mean})
    for name in NGRAMS:
        bits = study.baseline(name, "bits_per_byte")
        if bits == bits:
            share = {"bits": round(bits, 6), "of_unigram": round(bits / unigram, 6)}
            scores.append({"label": f"{name} model", **share})
    rows = {
        "scores": scores,
        "ladder": ladder,
        "claims": claim_rows(results, study.rungs),
        "protocols": protocol_rows(study),
        "labels": label_rows(study),
        "less_ar": less_rows(results, study.rungs),
        **right_context_rows(results, study),
    }
    return {name: found for name, found in rows.items() if found}


def before_or(study: Lookup, name: str, task: str) -> float:
    """A baseline of a text task; "untrained": the mean over objectives of the network before."""
    if name != "untrained":
        return study.baseline(name, f"probe/{task}")
    metric = f"probe/{task}"
    return fmean(
        study.score(spec, metric).mean - study.gain(spec, metric).mean for spec in study.objectives
    )


def told(score: Interval) -> dict[str, float]:
    """A mean, and its interval if there is one, to six digits."""
    ends = {"low": score.low, "high": score.high} if score.bounded else {}
    return {name: round(value, 6) for name, value in {"mean": score.mean, **ends}.items()}


def protocol_rows(study: Lookup) -> list[dict[str, Any]]:
    """Score (key METRIC) and gain (key METRIC gain) at the whole budget, of objectives, then of
    baselines and controls; METRIC is `PROTOCOL` or `PROTOCOL/TASK`, and `ambiguous/TASK`.
    """
    metrics = list(study.metrics)
    metrics += [f"ambiguous/{task}" for task in study.columns["tokens"]]
    rows = []
    for spec in study.objectives:
        row: dict[str, Any] = {"objective": spec}
        for metric in metrics:
            score, gain = study.score(spec, metric), study.gain(spec, metric)
            row |= {metric: told(score)} if score.known else {}
            row |= {f"{metric} gain": told(gain)} if gain.known else {}
        rows.append(row)
    for kind in study.baselines:
        found = {metric: study.baseline(kind, metric) for metric in metrics}
        known = {metric: round(score, 6) for metric, score in found.items() if score == score}
        rows.append({"label": TITLES.get(kind, kind), **known})
    for name, by_metric in study.controls.items():
        rows.append({"label": name, **{metric: told(score) for metric, score in by_metric.items()}})
    return rows


def right_context_rows(results: dict[str, Any], study: Lookup) -> Rows:
    """What two words to the right tell of labels, beside what reading them buys after training.

    `right_context`: a row for each task of words and its ambiguous words, with the gain of a linear
    window in training sentences alone, and the score of each model less that of `ar`, paired over
    seeds. `right_context_agreement`: of each of them, the rank correlation with the gain over these
    rows.
    """
    told_before = (results.get("forecast") or {}).get("right_context") or {}
    tasks = [task for task in study.columns["tokens"] if task in told_before]
    if not tasks or "ar" not in study.objectives:
        return {}
    rows = []
    for task in tasks:
        for subset, key in (("", "gain"), (", ambiguous words", "ambiguous_gain")):
            if told_before[task].get(key) is None:
                continue
            low, high = (told_before[task][key.replace("gain", end)] for end in ("low", "high"))
            row: dict[str, Any] = {
                "task": task + subset,
                "gain": {"mean": told_before[task][key], "low": low, "high": high},
            }
            metric = f"ambiguous/{task}" if subset else f"tokens/{task}"
            reference = study.score("ar", metric).mean
            ours = by_seed(study, "ar", task, bool(subset))
            for spec in study.objectives:
                if spec != "ar":
                    own = by_seed(study, spec, task, bool(subset))
                    less = seed_interval(np.subtract(own, ours).tolist())
                    row[spec] = told(Interval(less.mean, less.low, less.high))
            if not subset:
                for name, by_metric in study.controls.items():
                    row[name] = {"mean": round(by_metric[metric].mean - reference, 6)}
            rows.append(row)
    agreement = []
    for name in dict.fromkeys(name for row in rows for name in row if name not in ("task", "gain")):
        pairs = [(row["gain"]["mean"], row[name]["mean"]) for row in rows if name in row]
        if len(pairs) >= FEWEST:
            found = spearmanr(*zip(*pairs, strict=True))
            agreement.append(
                {
                    "model": name,
                    "rows": len(pairs),
                    "rho": round(float(found.statistic), 6),
                    "p": round(float(found.pvalue), 6),
                }
            )
    return {"right_context": rows, "right_context_agreement": agreement}


def by_seed(study: Lookup, spec: str, task: str, ambiguous: bool) -> list[float]:
    """The scores of words, or of ambiguous ones, of each seed at the whole budget."""
    lines = [run.scores["tokens"][task] for run in study.runs_at(spec, study.full)]
    return [line["ambiguous" if ambiguous else "score"] for line in lines]


def label_rows(study: Lookup) -> list[dict[str, Any]]:
    """Fine-tuning: means over seeds by task, objective and number of labels; the interval of the
    score is from the lowest to the highest seed, or that over draws where there is one seed.
    """
    return [
        {
            "task": short(task),
            "objective": spec,
            "labels": labels,
            "gain": round(line["score"].mean - line["before"].mean, 6),
            "score": told(line["score"]),
            **{name: round(line[name].mean, 6) for name in ("before", "probe", "tfidf")},
            "worth": study.worth(spec, task),
        }
        for task in study.columns.get("finetune", ())
        for spec in study.objectives
        for labels, line in over_seeds(study, spec, task).items()
    ]


def claim_rows(results: dict[str, Any], rungs: list[float]) -> list[dict[str, Any]]:
    """Paired differences of CLAIMS at every rung."""
    entries = {
        (e["objective"], e["reference"], e["rung"], e["metric"]): e for e in results["differences"]
    }
    rows = []
    for objective, reference, metric, name in CLAIMS:
        for rung in rungs:
            sign, entry = 1, entries.get((objective, reference, rung, metric))
            if entry is None:
                sign, entry = -1, entries.get((reference, objective, rung, metric))
            if entry is not None:
                pair = {"objective": objective, "reference": reference, "metric": name}
                rows.append(pair | {"rung": rung, "difference": bounds(entry, sign)})
    return rows


def less_rows(results: dict[str, Any], rungs: list[float]) -> list[dict[str, Any]]:
    """A row for each rung and objective: its scores less those of `ar`, paired over seeds.

    More is better in every column but `bits_per_byte`.
    """
    flops = {(run["objective"], run["rung"]): run["budget"]["flops"] for run in results["runs"]}
    rows = []
    for rung in rungs:
        for spec in dict.fromkeys(run["objective"] for run in results["runs"]):
            found = {}
            for entry in results["differences"]:
                if entry["rung"] == rung and {spec, "ar"} == {
                    entry["objective"],
                    entry["reference"],
                }:
                    found[entry["metric"]] = bounds(entry, 1 if entry["objective"] == spec else -1)
            if found:
                rows.append({"objective": spec, "flops": round(flops[spec, rung]), **found})
    return rows


def synthetic_rows(results: dict[str, Any]) -> Rows:
    """The rows of a study of synthetic tasks, shares in percent."""

    def percent(share: float | None) -> float | None:
        return None if share is None else round(100 * share, 3)

    rows = []
    for entry in results["summary"]:
        exact = entry["exact_match"]
        found = {"mean": percent(exact["mean"])}
        if exact["low"] is not None:
            found |= {"low": percent(max(exact["low"], 0)), "high": percent(min(exact["high"], 1))}
        first, later, train = (
            percent((entry.get(name) or {}).get("mean"))
            for name in ("first_hop", "later_positions", "train_exact_match")
        )
        ways = list(entry["ways"].items())[1:]
        rows.append(
            {
                "graph": results["tasks"][entry["control_of"] or entry["graph"]]["title"],
                "objective": entry["objective"],
                "note": ", first hop only" if entry["control_of"] else "",
                "exact_match": found,
                "success": round(entry["success"] * entry["seeds"]),
                "seeds": entry["seeds"],
                "first_hop": first,
                "later": later,
                "train": train,
                "solved_at": entry["solved_at"],
                "other_ways": ", ".join(f"{way} {100 * share:.1f}" for way, share in ways),
                "rate": entry["learning_rate"],
                "parameters": entry["parameters"],
                "seconds": round(entry["seconds"]),
            }
        )
    return {"runs": rows}


# ------------------------------------------------------------------------------------------ figures


def on_paper(svg: str) -> str:
    """A figure as a file: 560 pixels wide, on white, so that it can be read on dark pages."""
    paper = '</desc><rect width="100%" height="100%" fill="#fff"/>'
    return svg.replace("</desc>", paper, 1).replace('width="100%"', 'width="560"', 1)


def tradeoff_figure(record: dict[str, Any]) -> str:
    """Classification against bits per byte of a record of a comparison on one task."""
    ladder, labelled = record["rows"]["ladder"], {}
    for row in record["rows"]["scores"]:
        labelled[row.get("label")] = row
    (task,) = (key for key in labelled["before training"] if key != "label")
    results = {
        "version": 2,
        "command": record["command"],
        "corpus": {"name": "standard library"},
        "tasks": {task: {"metric": "accuracy"}},
        "unigram_bits_per_byte": labelled["unigram model"]["bits"],
        "runs": [
            {"objective": row["objective"], "seed": 0, "rung": row["rung"], "budget": {}}
            for row in ladder
        ],
        "summary": [
            {"objective": row["objective"], "rung": row["rung"], "metric": metric, **row[key]}
            for row in ladder
            for metric, key in (("bits_per_byte", "bits"), (f"probe/{task}", task))
        ],
        "differences": [],
        "recommendation": {},
    }
    return on_paper(tradeoff(Lookup(ComparisonResults.of(results))))


def figure_rows(results: dict[str, Any]) -> Rows:
    """The rows of tasks with figures of their own: means and intervals over seeds, what bounds
    them, and `less BOUND`: the first figure less a bound, paired by seed.
    """
    rows = []
    for entry in results["summary"]:
        task = results["tasks"][entry["graph"]]
        row = {"task": task["title"], "objective": entry["objective"], "seeds": entry["seeds"]}
        for name in (*task["figures"], *task["bounds"]):
            row[name] = {end: entry[name][end] for end in ("mean", "low", "high")}
        runs = [run for run in results["rows"] if of_entry(run) == of_entry(entry)]
        first = next(iter(task["figures"]))
        for bound in task["bounds"]:
            less = seed_interval([run[first] - run[bound] for run in runs])
            row[f"less {bound}"] = {"mean": less.mean, "low": less.low, "high": less.high}
        row |= {key: entry[key] for key in ("later", "coverage") if entry.get(key)}
        rows.append(row | {"steps": entry["steps"], "seconds": round(entry["seconds"])})
    bounded = [
        {"task": row["task"]}
        | {bound: row[bound] for bound in task["bounds"]}
        | {f"later {number}": score for number, score in enumerate(row["later"], 1)}
        for row, task in (
            (row, results["tasks"][entry["graph"]])
            for row, entry in zip(rows, results["summary"], strict=True)
        )
        if "later" in row and task["bounds"] and row["objective"] == "ar"
    ]
    return {"figures": rows} | ({"bounds": bounded} if bounded else {})


def learning_figures(results: dict[str, Any]) -> dict[str, str]:
    """{file name: learning curves} of a synthetic study, a figure for each task, controls left
    out.
    """
    figures = {}
    for place, task in enumerate(results["tasks"]):
        shown = [
            (
                entry,
                [row for row in results["rows"] if of_entry(row) == of_entry(entry)],
            )
            for entry in results["summary"]
            if entry["graph"] == task and not entry["control_of"]
        ]
        name = "-".join(re.findall(r"\w+", task.removeprefix("pathstar")))
        if shown:
            figures[f"synthetic-{name}.svg"] = on_paper(learning(shown, place))
    return figures


def of_entry(row: dict[str, Any]) -> tuple[str, str]:
    return row["graph"], row["objective"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results",
        type=Path,
        nargs="*",
        help="results.json of a study; several of tasks with figures of their own are one record",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="write learning curves here")
    parser.add_argument("--tradeoff", type=Path, metavar="FILE", help="write the README's figure")
    given = parser.parse_args()
    if given.tradeoff:
        record = json.loads((DATA / "stdlib.json").read_text())
        write_text(given.tradeoff, tradeoff_figure(record))
    if not given.results:
        return
    found = load_results(given.results[0])
    results = found.as_dict()
    synthetic = "rows" in results
    if not synthetic:
        rows = comparison_rows(results)
    elif all("exact_match" in task["figures"] for task in results["tasks"].values()):
        rows = synthetic_rows(results)
    else:
        rows = figure_rows(results)
        for path in given.results[1:]:
            for name, more in figure_rows(load_results(path).as_dict()).items():
                rows.setdefault(name, []).extend(more)
    if given.json:
        seeds = len({run["seed"] for run in results["rows" if synthetic else "runs"]})
        made = {"command": results["command"], "versions": results["versions"], "seeds": seeds}
        write_record(given.json, rows, **made)
    if given.figures and synthetic:
        if ceilings := synthetic_ceilings(found):
            write_text(given.figures / "ceilings.svg", on_paper(ceilings))
        elif "runs" in rows:
            for name, svg in learning_figures(results).items():
                write_text(given.figures / name, svg)


if __name__ == "__main__":
    main()
