"""How far the forecast's order of objectives agrees with that of trained models.

    python -m benchmarks.track_record \\
        --json src/lookaround/studies/forecast/track_record.json

About four hours on two cores, resumable; `--corpora wiki` makes the study of one corpus. The record
lies in the package, because `lookaround forecast` quotes it; results/forecast.md is made from it.

Trains 7 objectives x 3 seeds x 3 budgets on each of two corpora with `lookaround compare` (a
finished study is not trained again), probes them on 8 tasks of texts (and on 4 of words, on minimal
pairs and word order, for benchmarks/small_rung.py), and makes forecasts of the same token stores at
every setting of context length, rank, weighting and features. A unit is a (corpus, task).
Of each unit the pairs of objectives are taken whose trained scores differ by more than twice the
standard error over seeds; Kendall's tau is the share of pairs ordered alike less the share ordered
otherwise, over all such pairs, with a bootstrap over units. The setting is chosen on half of the
tasks and frozen; the other half is reported. Beside it: the same order for every task (mean trained
scores of the chosen-on half: an order that no forecast could know), the same forecast with every
target moved 64 tokens away, and minus the tail energy. Reads $LOOKAROUND_DATA (default
../shared/data).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np

from benchmarks.records import write_record
from benchmarks.tables import TABLES
from benchmarks.texts import TEXTS, require_texts
from benchmarks.verdict import FAR, FORECAST, SAME_ORDER, verdict
from lookaround.evaluation.probe import least_squares_probe
from lookaround.evaluation.registry import TaskData
from lookaround.settings import Settings
from lookaround.studies.forecast.forecast import FAR_LAG, Forecast, open_forecast
from lookaround.support.storage import write_text
from lookaround.theory.lags import LagCounts, count_lags
from lookaround.theory.matrices import cooccurrence, kept_contexts
from lookaround.theory.spectrum import CooccurrenceSpectrum

CORPORA = {"wiki": "text/wiki.train.txt.xz", "dialogue": "text/dialogue.train.jsonl.xz"}
OBJECTIVES = "ar, dar, dar(horizon=32, share=1), mlm, mlm(rate=0.4), vmlm, ar + vmlm"
TASKS = (  # the first of each pair serves to choose the setting, the second is reported
    "classification/banking77/train.tsv.xz",
    "classification/clinc150/train.tsv.xz",
    "classification/snips/train.tsv.xz",
    "classification/sentence_polarity/all.tsv.xz",
    "classification/sms_spam/all.tsv.xz",
    "glue/SST-2/train.tsv.xz",
    "glue/CoLA/train.tsv.xz",
    "text/brown.tsv.xz",
)
OTHERS = (  # not the forecast's: they are for benchmarks/small_rung.py
    "tokens/ewt.train.conllu.xz:upos",
    "tokens/ewt.train.conllu.xz:deprel",
    "tokens/conll2000.train.txt.xz",
    "tokens/snips_slots.train.jsonl.xz",
    "pairs/blimp.jsonl.xz",
)
SEEDS, BUDGET = 3, "1e13"
SETTINGS = {
    "model.context": "64",
    "model.precision": "fp32",
    "train.batch": "16",
    "data.vocabulary": "1024",
    "compare.lr_factors": "[2.0]",
    "compare.ladder": "[0.1,0.3,1.0]",
    "evaluate.probe_train": "1500",
    "evaluate.probe_test": "1000",
    "evaluate.token_train": "500",
    "evaluate.token_test": "500",
    "evaluate.pairs": "20",
    "evaluate.positions": "32",
    "evaluate.samples": "0",
    "forecast.enabled": "false",
}
STUDY = (
    *("--seeds", f"{SEEDS}", "--budget", f"{BUDGET}flops"),
    *("--protocols", "probe, tokens, pairs, order, bits_per_byte"),
    *(part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")),
)
REACH = {1: 16, 2: 4}  # by context length
RANKS = (32, 128)
FEATURES = ("context", "target", "both")
WEIGHTINGS = ("spectral", "unit")
RESAMPLES = 10_000
Scores = dict[str, dict[str, float]]  # task -> objective -> score


def train(data: Path, out: Path, name: str) -> dict[str, Any]:
    """The results of the study of one corpus, trained unless they are there."""
    folder = out / name
    if not (folder / "results.json").is_file():
        tasks = [part for task in (*TASKS, *OTHERS) for part in ("--task", str(data / task))]
        command = [
            sys.executable,
            "-m",
            "lookaround",
            "compare",
            str(data / CORPORA[name]),
            "--out",
            str(folder),
        ]
        subprocess.run([*command, "--objectives", OBJECTIVES, *tasks, *STUDY], check=True)
    return json.loads((folder / "results.json").read_text())


def forecasts(results: dict[str, Any], out: Path, name: str) -> dict[str, Any]:
    """{setting: {"near", "far": Scores, "tail": {objective: energy}}} on the store that the models
    were trained on.
    """
    file = out / f"forecasts-{name}.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    settings = Settings.model_validate(
        {key: value for key, value in results["settings"].items() if key != "forecast"}
    )
    plan = open_forecast(settings)
    for context in REACH:
        laws: dict[str, dict] = {}
        for objective in plan.objectives:
            near = kept_contexts(objective, context, plan.rows, REACH[context])
            laws[f"near {objective.spec}"] = near
            laws[f"far {objective.spec}"] = {
                tuple(lag + FAR_LAG for lag in lags): mass for lags, mass in near.items()
            }
        wanted = {lags for law in laws.values() for lags in law}
        if all(f"{context} {rank} {key}" in found for rank in RANKS for key in laws):
            continue
        counts = count_lags(plan.store, sorted(wanted))
        for (key, law), rank in itertools.product(laws.items(), RANKS):
            if f"{context} {rank} {key}" not in found:
                print(f"{name}: context {context}, rank {rank}, {key}", flush=True)
                found[f"{context} {rank} {key}"] = scores_of(plan, counts, law, context, rank)
                write_text(file, json.dumps(found))
    return found


def scores_of(
    plan: Forecast, counts: LagCounts, law: dict, context: int, rank: int
) -> dict[str, Any]:
    """{"tail": energy, "features weighting": {task: score}} of one law."""
    model = CooccurrenceSpectrum(context=context, rank=rank).fit(
        cooccurrence(counts, law, context=context)
    )
    entry: dict[str, Any] = {"tail": model.tail_energy_}
    for item in plan.data:
        if not isinstance(item, TaskData):
            continue
        train_ids, test_ids = (
            plan.store.codec.encode(texts) for texts in (item.train_inputs, item.test_inputs)
        )
        for features, weighting in itertools.product(FEATURES, WEIGHTINGS):
            probe = least_squares_probe(
                model.transform(train_ids, features, weighting),
                item.train_labels,
                model.transform(test_ids, features, weighting),
                item.test_labels,
                metric=item.metric,
            )
            entry.setdefault(f"{features} {weighting}", {})[item.name] = probe.score
    return entry


# ---------------------------------------------------------------------------------------- agreement


def trained_pairs(results: dict[str, Any], rung: float, task: str) -> dict[tuple[str, str], float]:
    """{(objective, objective): mean difference of trained scores} of the pairs that seeds tell
    apart.
    """
    by_seed: dict[str, dict[int, float]] = {}
    for run in results["runs"]:
        if run["rung"] == rung:
            by_seed.setdefault(run["objective"], {})[run["seed"]] = run["classification"][task]
    pairs = {}
    for first, second in itertools.combinations(by_seed, 2):
        apart = np.array(
            [by_seed[first][seed] - by_seed[second][seed] for seed in sorted(by_seed[first])]
        )
        if abs(apart.mean()) > 2 * apart.std(ddof=1) / np.sqrt(len(apart)):
            pairs[first, second] = float(apart.mean())
    return pairs


def agreement(pairs: dict[tuple[str, str], float], scores: dict[str, float]) -> tuple[float, int]:
    """(pairs ordered alike less pairs ordered otherwise, pairs) under a predictor's scores; ties
    count for neither.
    """
    signs = [np.sign(apart) * np.sign(scores[a] - scores[b]) for (a, b), apart in pairs.items()]
    return float(np.sum(signs)), len(signs)


def tau(units: list[tuple[float, int]]) -> float:
    whole = sum(number for _, number in units)
    return sum(alike for alike, _ in units) / whole if whole else 0.0


def interval(units: np.ndarray, base: np.ndarray | None = None) -> tuple[float, float]:
    """95% bootstrap over units (n, 2) of tau, or of tau less that of `base` on the same units."""
    draws = np.random.default_rng(0).integers(len(units), size=(RESAMPLES, len(units)))

    def of(values: np.ndarray) -> np.ndarray:
        alike, number = values[draws, 0].sum(axis=1), values[draws, 1].sum(axis=1)
        return np.divide(alike, number, out=np.zeros(RESAMPLES), where=number > 0)

    drawn = of(units) - (0.0 if base is None else of(base))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def study(studies: dict[str, dict[str, Any]], made: dict[str, dict[str, Any]]) -> dict[str, Any]:
    names = list(next(iter(studies.values()))["runs"][0]["classification"])
    specs = list(dict.fromkeys(run["objective"] for run in next(iter(studies.values()))["runs"]))
    rungs = sorted({run["rung"] for run in next(iter(studies.values()))["runs"]})
    halves = {"chosen on": names[0::2], "reported": names[1::2]}

    def predicted(setting: tuple, corpus: str, task: str, side: str) -> dict[str, float]:
        context, rank, features, weighting = setting
        return {
            s: made[corpus][f"{context} {rank} {side} {s}"][f"{features} {weighting}"][task]
            for s in specs
        }

    def units(half: str, rung: float, predictor: Any) -> np.ndarray:
        return np.array(
            [
                agreement(trained_pairs(studies[c], rung, t), predictor(c, t))
                for c in studies
                for t in halves[half]
            ]
        )

    grid = list(itertools.product(REACH, RANKS, FEATURES, WEIGHTINGS))
    by_setting = {
        setting: tau(
            list(
                map(
                    tuple,
                    units(
                        "chosen on", rungs[-1], lambda c, t, s=setting: predicted(s, c, t, "near")
                    ),
                )
            )
        )
        for setting in grid
    }
    best = max(grid, key=lambda setting: by_setting[setting])
    rows = []
    for half, rung in itertools.product(("reported", "chosen on"), rungs):
        means = {
            s: float(
                np.mean(
                    [
                        run["classification"][t]
                        for c in studies
                        for run in studies[c]["runs"]
                        for t in halves["chosen on"]
                        if run["objective"] == s and run["rung"] == rung
                    ]
                )
            )
            for s in specs
        }
        predictors = {
            FORECAST: lambda c, t: predicted(best, c, t, "near"),
            SAME_ORDER: lambda c, t, means=means: means,
            FAR: lambda c, t: predicted(best, c, t, "far"),
            "minus tail energy": lambda c, t: {
                s: -made[c][f"{best[0]} {best[1]} near {s}"]["tail"] for s in specs
            },
        }
        ours = units(half, rung, predictors["forecast"])
        for name, predictor in predictors.items():
            found = units(half, rung, predictor)
            row = {
                "half": half,
                "budget": f"{rung * float(BUDGET):.0e}".replace("e+", "e"),
                "predictor": name,
                "pairs": int(found[:, 1].sum()),
                "of": len(found) * len(specs) * (len(specs) - 1) // 2,
                "tau": with_interval(tau(list(map(tuple, found))), found),
            }
            if name != FORECAST:
                gap = tau(list(map(tuple, ours))) - tau(list(map(tuple, found)))
                row["forecast_less_this"] = with_interval(gap, ours, found)
            rows.append(row)
    return {
        "setting": dict(zip(("context", "rank", "features", "weighting"), best, strict=True)),
        "by_setting": {" ".join(map(str, setting)): value for setting, value in by_setting.items()},
        "corpora": list(studies),
        "objectives": specs,
        "tasks": halves,
        "rows": rows,
    }


def with_interval(mean: float, units: np.ndarray, base: np.ndarray | None = None) -> dict:
    low, high = interval(units, base)
    return {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("lookaround-track"), help="folder of the studies"
    )
    parser.add_argument("--corpora", help="names with commas; some of them: train, and no more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    options = parser.parse_args()
    require_texts()
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = options.corpora.split(",") if options.corpora else list(CORPORA)
    studies = {name: train(TEXTS, options.out, name) for name in wanted}
    if len(wanted) < len(CORPORA):
        return
    made = {name: forecasts(studies[name], options.out, name) for name in CORPORA}
    found = study(studies, made)
    rows = found.pop("rows")
    print(f"\nsetting chosen: {found['setting']}\n")
    print("\n".join(TABLES["track-record"].lines(rows)))
    found |= verdict(found | {"seeds": SEEDS, "rows": {"agreement": rows}})
    print(f"\n{found['sentence']}")
    if options.json:
        write_record(options.json, {"agreement": rows}, seeds=SEEDS, **found)


if __name__ == "__main__":
    main()
