"""A made-up results.json for the tests of the reports (and for looking at a page: `python
tests/report_sample.py out.html`).
"""

import sys
from typing import Any

import numpy as np

OBJECTIVES = (
    "ar",
    "mlm(rate=0.4)",
    "dar",
    "vmlm",
    "prefixlm",
    "mdlm",
    "ar + 3*vmlm",
    "0.25*ar >> 0.75*mlm(rate=0.4)",
)
TASKS = ("topic", "sentiment", "acceptability", "language")
_STRENGTH = {  # (bits per byte, classification) at the full budget
    "ar": (2.02, 0.66),
    "mlm(rate=0.4)": (2.71, 0.74),
    "dar": (2.05, 0.70),
    "vmlm": (2.28, 0.75),
    "prefixlm": (2.12, 0.67),
    "mdlm": (2.36, 0.72),
    "ar + 3*vmlm": (2.10, 0.735),
    "0.25*ar >> 0.75*mlm(rate=0.4)": (2.64, 0.73),
}
_T_975 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}


def sample_results(
    objectives: tuple[str, ...] = OBJECTIVES,
    rungs: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0),
    seeds: int = 3,
    tasks: tuple[str, ...] = TASKS,
) -> dict[str, Any]:
    """The dict of a results.json: deterministic, and shaped like a study of small English
    models.
    """
    generator = np.random.default_rng(0)
    runs = [
        _run(objective, seed, rung, tasks, generator)
        for objective in objectives
        for rung in rungs
        for seed in range(seeds)
    ]
    metrics = ["bits_per_byte"]
    if tasks:
        metrics += ["classification", *(f"classification/{task}" for task in tasks)]
    method = f"95% t-interval over {seeds} seeds" if seeds > 1 else "95% bootstrap, one seed"
    values = {(run["objective"], run["rung"], m): [] for run in runs for m in metrics}
    for run in runs:
        for metric in metrics:
            values[run["objective"], run["rung"], metric].append(_value(run, metric))
    summary = [
        {
            "objective": objective,
            "rung": rung,
            "metric": metric,
            **_interval(sample),
            "method": method,
        }
        for (objective, rung, metric), sample in values.items()
    ]
    differences = [
        {
            "objective": objective,
            "reference": objectives[0],
            "rung": rung,
            "metric": metric,
            **_interval(np.subtract(sample, values[objectives[0], rung, metric]).tolist()),
            "method": "paired " + method,
        }
        for (objective, rung, metric), sample in values.items()
        if objective != objectives[0]
    ]
    scores = dict(
        zip(
            tasks,
            [(0.21, 0.71, 0.44), (0.52, 0.78, 0.58), (0.0, 0.12, 0.02), (0.17, 0.93, 0.61)],
            strict=False,
        )
    )
    return {
        "version": 1,
        "command": "lookaround compare wikitext.txt --task topic.tsv --objectives 'ar, "
        "mlm(rate=0.4), dar, vmlm' "
        "--flops 2e15 --seeds 3 --out runs/wikitext",
        "settings": {
            "model": {"layers": 6, "width": 256, "heads": 8},
            "budget": {"flops": 2.1e15, "rungs": list(rungs)},
            "length": 128,
        },
        "corpus": {
            "name": "wikitext.txt",
            "source": "a text file, one document per blank-line-separated block",
            "documents": 21_840,
            "duplicates": 17,
            "bytes": 28_400_000,
            "tokens": {"train": 5_900_000, "validation": 310_000, "test": 305_000},
            "splits": {"train": 19_656, "validation": 1_092, "test": 1_092},
            "fingerprint": "9f2c4b1ad0e7",
            "vocabulary": 4096,
        },
        "machine": {
            "cpu": "AMD EPYC 7B13",
            "cores": 2,
            "memory_gb": 8.0,
            "gpu": None,
            "system": "Linux 6.1",
            "threads": 2,
            "jobs": 1,
        },
        "versions": {
            "lookaround": "0.1.0",
            "python": "3.11.9",
            "torch": "2.11.0",
            "transformers": "5.17.0",
            "numpy": "2.4.6",
        },
        "unigram_bits_per_byte": 3.104,
        "baselines": {
            t: {"majority": s[0], "tfidf": s[1], "random_init": s[2]} for t, s in scores.items()
        },
        "tasks": {
            t: {
                "metric": "matthews" if t == "acceptability" else "accuracy",
                "train": 4000,
                "test": 1000,
                "classes": 2,
                "notes": ["12 of 5000 texts were cut to 128 tokens"] if t == "topic" else [],
            }
            for t in tasks
        },
        "runs": runs,
        "summary": summary,
        "differences": differences,
        "recommendation": _recommendation(objectives, tasks),
        "reasons": _reasons(_recommendation(objectives, tasks)),
        "notes": ["12 of 5000 texts of the task topic were cut to 128 tokens."],
    }


def small_results(**changes: Any) -> dict[str, Any]:
    """Two objectives, budgets and seeds, and one task; `changes` as for `sample_results`, or fields
    of its dict.
    """
    shape: dict[str, Any] = {
        "objectives": ("ar", "mlm(rate=0.4)"),
        "rungs": (0.5, 1.0),
        "seeds": 2,
        "tasks": ("topic",),
    }
    shape |= {name: changes.pop(name) for name in shape if name in changes}
    return sample_results(**shape) | changes


def beaten_results() -> dict[str, Any]:
    """`ar` is below every baseline at the full budget."""
    results = small_results()
    for row in results["summary"]:
        if row["objective"] == "ar" and row["rung"] == 1.0:
            value = 9.0 if row["metric"] == "bits_per_byte" else 0.15  # majority has 0.21
            row.update(mean=value, low=value, high=value)
    return results


def incomplete_results(value: Any) -> dict[str, Any]:
    """What is optional is `value`: None, nan, or "absent"."""
    results = small_results()
    rows = [*results["summary"], *results["differences"]]
    in_runs = (
        "bits_per_byte",
        "classification",
        "bits_per_byte_by_prefix",
        "curve",
        "samples",
        "learning_rate",
    )
    runs = [run for run in results["runs"] if run["objective"] == "ar"]
    for row, keys in [(row, ("low", "high", "mean")) for row in rows] + [
        (run, in_runs) for run in runs
    ]:
        for key in keys:
            if value == "absent":
                row.pop(key, None)
            elif value is None or key in ("low", "high", "mean", "bits_per_byte", "learning_rate"):
                row[key] = value
    for key in ("unigram_bits_per_byte", "baselines", "machine", "notes", "reasons"):
        results[key] = None
    return results


def with_protocol(results: dict[str, Any], *, higher: bool = False) -> dict[str, Any]:
    """The results with a protocol "toy" that has scores on the first task: 1.0, 2.0, .. by
    objective.
    """
    task = next(iter(results["tasks"]))
    names = dict.fromkeys(run["objective"] for run in results["runs"])
    results["metrics"] = {
        "toy": {"title": "a toy", "higher": higher, "about": "Counts & compares."}
    }
    for number, objective in enumerate(names, start=1):
        interval = {
            "mean": number + 0.125,
            "low": number,
            "high": number + 0.25,
            "n": 3,
            "method": "made up",
        }
        for metric in (f"toy/{task}", "toy"):
            row = {"objective": objective, "rung": 1.0, "metric": metric, **interval}
            results["summary"].append(row)
            results["differences"].append(row | {"reference": "ar"})
        for run in results["runs"]:
            if run["objective"] == objective:
                run["toy"] = {task: number + 0.125}
    results["baselines"].setdefault(f"toy/{task}", {})["random_init"] = 1.5
    return results


def forecast_results(name: str = "mlm(rate=0.4)", task: str = "topic") -> dict[str, Any]:
    """The dict of a forecast.json with two objectives, a control, and TF-IDF."""

    def line(objective: str, score: float, saturated: bool = False) -> dict[str, Any]:
        return {
            "objective": objective,
            "tail_energy": 12.3,
            "sigma2": 0.91,
            "components": 1,
            "meeting": 0.42,
            "saturated": saturated,
            "effective_rank": 14.2,
            "singular_values": [0.9 ** (k / 2) for k in range(16)],
            "tasks": {task: score},
        }

    bare = {"objective": "TF-IDF + logistic regression", "tasks": {task: 0.81}}
    return {
        "version": 1,
        "context": 1,
        "rank": 16,
        "features": "both",
        "corpus": {"name": "wikitext.txt", "tokens": 5_900_000, "vocabulary": 4096},
        "metrics": {task: "accuracy"},
        "objectives": [line("ar", 0.71), line(name, 0.73)],
        "controls": [line("shuffled corpus", 0.52, saturated=True), bare],
        "not_distinguished": {task: ["ar"]},
        "recommendation": {task: "nothing: a control does as well"},
        "reasons": {task: f"{name} leads with 0.730."},
        "track_record": {"earned": False, "sentence": "over 2 corpora it has earned nothing."},
        "notes": [f"{name} and ar have the same matrix"],
        "command": "lookaround forecast wikitext.txt --task topic.tsv",
    }


def synthetic_results(name: str = "reverse", task: str = "pathstar(2,3)") -> dict[str, Any]:
    """The dict of a synthetic results.json: `ar` guesses where `name` looks ahead."""

    def row(objective: str, exact: float, seed: int) -> dict[str, Any]:
        places = [1.0, exact, 1.0]
        return {
            "objective": objective,
            "graph": task,
            "seed": seed,
            "steps": 800,
            "queries": 60,
            "diverged_at": None,
            "positions": places,
            "curve": [{"step": step, "seconds": 1.0, "positions": places} for step in (4, 8)],
        }

    def entry(objective: str, exact: float) -> dict[str, Any]:
        score = {"mean": exact, "low": exact - 0.01, "high": exact + 0.01}
        one = {"mean": 1.0, "low": None, "high": None}
        return {
            "objective": objective,
            "graph": task,
            "control_of": None,
            "seeds": 2,
            "exact_match": score,
            "first_hop": score,
            "later_positions": one,
            "train_exact_match": one,
            "success": float(exact == 1),
            "ways": {"one by one": exact, "parallel": 0.25},
            "seconds": 12.0,
            "parameters": 262_976,
            "chance": 0.5,
            "solved_at": [100, 120] if exact == 1 else [None, None],
            "left_chance_at": [60, 70] if exact == 1 else [None, None],
            "diverged_at": [None, None],
            "steps": [800, 800],
        }

    scored = {"ar": 0.5, name: 1.0}
    return {
        "version": 1,
        "kind": "synthetic",
        "command": "lookaround synthetic --task 'pathstar(2,3)'",
        "settings": {
            "synthetic": {
                "seeds": 2,
                "steps": 800,
                "batch": 64,
                "queries": 60,
                "edges": "shuffled",
                "query": "after",
            },
            "model": {"preset": "pico"},
        },
        "margins": {"same": 0.03, "guessing": 0.05},
        "tasks": {task: {"title": task, "about": "Several arms leave one start.", "copied": True}},
        "learning_rates": {},
        "rows": [row(objective, exact, s) for objective, exact in scored.items() for s in (0, 1)],
        "summary": [entry(objective, exact) for objective, exact in scored.items()],
    }


def speculation_results() -> dict[str, Any]:
    """The dict of `lookaround speculate --json`."""
    speeds = ((1, 24, 2.2), (4, 9, 1.7), (16, 0, 0.9))
    return {
        "by_batch": [
            {
                "batch": batch,
                "nodes": nodes,
                "tokens_per_forward": 1.9,
                "plain_tokens_per_second": 412.0 * batch,
                "loop_tokens_per_second": 600.0 * batch,
                "speculative_tokens_per_second": 412.0 * batch * speedup,
                "speedup": speedup,
            }
            for batch, nodes, speedup in speeds
        ],
        "plain": {"tokens_per_second": 412.0},
        "speculative": {
            "tokens_per_forward": 1.92,
            "tokens_per_second": 906.4,
            "identical": True,
            "flips": 1,
            "acceptance_by_depth": [0.61, 0.42],
        },
        "prompts": 32,
        "new_tokens": 64,
        "precision": "float32",
        "expected_tokens_per_forward": 1.9,
        "bits_per_byte": 2.031,
        "pays_up_to_batch": 4,
    }


def evaluation_results(name: str = "runs/ar", task: str = "topic") -> dict[str, Any]:
    """The dict of an evaluation.json."""
    return {
        "model": name,
        "baselines": {task: {"majority": 0.21, "tfidf": 0.71}},
        "classification_mode": "causal, shift 1",
        "generation_mode": "causal, shift 1",
        "bits_per_byte": 2.031,
        "bits_per_byte_by_prefix": {"1": 3.125, "2": 2.5},
        "classification": {task: {"score": 0.66, "layer": 3, "strength": 1.0, "cut": 0}},
        "samples": [{"prompt": "The", "continuation": " river"}],
    }


def _recommendation(objectives: tuple[str, ...], tasks: tuple[str, ...]) -> dict[str, str]:
    if len(objectives) < 2 or not tasks:
        return {"classification": "not measured: no task was given", "generation": objectives[0]}
    return {
        "classification": "inconclusive at this budget: vmlm or mlm(rate=0.4)",
        "generation": "ar",
        "both": objectives[-2],
    }


def _reasons(recommendation: dict[str, str]) -> dict[str, str]:
    reasons = {
        "classification": "Its mean score is 0.013 above mlm(rate=0.4), and the 95% interval of "
        "the paired difference "
        "includes 0 (-0.004 to 0.030); it is ahead of the other six by more than their intervals.",
        "generation": "Its bits per byte are 0.032 below the next best, dar, and the 95% interval "
        "of the paired "
        "difference excludes 0 (-0.064 to -0.001).",
        "both": "Within 5% of the best bits per byte and 0.02 of the best mean score; no other is "
        "as near to both.",
    }
    return {
        need: reasons[need]
        for need, answer in recommendation.items()
        if not answer.startswith("not measured")
    }


def _run(
    objective: str, seed: int, rung: float, tasks: tuple[str, ...], generator: np.random.Generator
) -> dict[str, Any]:
    final_bits, final_score = _STRENGTH.get(objective, (2.2, 0.7))
    slow = 1.4 if "mlm" in objective else 1.0
    bits = final_bits + 0.22 * slow * (rung**-0.5 - 1) + generator.normal(0, 0.008)
    score = final_score - 0.07 * slow * (rung**-0.4 - 1)
    flops = 2.1e15 * rung * (1 + 0.004 * generator.normal())
    tokens = 1.9e7 * rung
    share = 0.4 if objective.startswith("mlm") else 0.5 if "mlm" in objective else 1.0
    attention = "bidirectional, shift 1" if "mlm" in objective else "causal, shift 1"
    steps = np.geomspace(0.004, 1, 120)
    floor = 2.1 + 0.5 * len(objective) % 1.3
    return {
        "objective": objective,
        "seed": seed,
        "rung": rung,
        "mode": f"classification: {attention}; generation: {attention}",
        "budget": {
            "tokens": round(tokens),
            "targets": round(tokens * share),
            "flops": flops,
            "seconds": 410.0 * rung,
        },
        "learning_rate": 0.002 if seed >= 0 else 0.001,
        "classification": {
            task: float(score + shift + generator.normal(0, 0.006))
            for task, shift in zip(tasks, (0.02, 0.08, -0.52, 0.19), strict=False)
        },
        "bits_per_byte": float(bits),
        "bits_per_byte_by_prefix": {
            str(2**k): float(bits + 0.9 * 2 ** (-k / 2) - 0.12 + generator.normal(0, 0.01))
            for k in range(7)
        },
        "checkpoint": f"runs/{seed}/{rung}",
        "curve": [
            {
                "flops": float(flops * step),
                "tokens": round(tokens * step),
                "seconds": float(410 * rung * step),
                "loss": float(
                    floor
                    + 3.5 * np.exp(-9 * step**0.5)
                    + 0.6 * (1 - step)
                    + generator.normal(0, 0.05)
                ),
            }
            for step in steps
        ],
        "samples": [
            {
                "prompt": "The river rises in the",
                "continuation": " hills to the north of the town and was first mapped in 1851",
            },
            {
                "prompt": "In mathematics, a",
                "continuation": " group is said to be a finite set of the same\nnumber of the "
                "first",
            },
        ],
    }


def _value(run: dict[str, Any], metric: str) -> float:
    if metric == "bits_per_byte":
        return run["bits_per_byte"]
    if metric == "classification":
        return float(np.mean(list(run["classification"].values())))
    return run["classification"][metric.removeprefix("classification/")]


def _interval(sample: list[float]) -> dict[str, Any]:
    middle = float(np.mean(sample))
    half = (
        _T_975[len(sample)] * float(np.std(sample, ddof=1)) / len(sample) ** 0.5
        if len(sample) > 1
        else 0.02
    )
    return {"mean": middle, "low": middle - half, "high": middle + half, "n": len(sample)}


if __name__ == "__main__":
    from lookaround.report.schema import ComparisonResults

    ComparisonResults.of(sample_results()).write_page(sys.argv[1])
