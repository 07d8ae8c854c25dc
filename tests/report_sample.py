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
