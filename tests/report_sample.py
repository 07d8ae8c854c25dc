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
TITLES = {
    "probe": "mean score",
    "tokens": "labels of words",
    "bits_per_byte": "bits per byte",
    "order": "word order",
    "pairs": "minimal pairs",
    "finetune": "fine-tuning",
}
_T_975 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}


def sample_results(
    objectives: tuple[str, ...] = OBJECTIVES,
    rungs: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0),
    seeds: int = 3,
    tasks: tuple[str, ...] = TASKS,
    more: bool = True,
) -> dict[str, Any]:
    """The dict of a results.json: deterministic, and shaped like a study of small English
    models.

    more: whether protocols other than `probe` and `bits_per_byte` were run.
    """
    generator = np.random.default_rng(0)
    runs = [
        _run(objective, seed, rung, tasks, generator)
        for objective in objectives
        for rung in rungs
        for seed in range(seeds)
    ]
    for run in runs if more else []:
        _add_protocols(run, tasks, np.random.default_rng(run["seed"]))
    method = f"95% t-interval over {seeds} seeds" if seeds > 1 else "95% bootstrap, one seed"
    values: dict[tuple[str, float, str], list[tuple[float, float | None]]] = {}
    for run in runs:
        for metric, found in _metrics(run).items():
            values.setdefault((run["objective"], run["rung"], metric), []).append(found)
    summary = [
        {
            "objective": objective,
            "rung": rung,
            "metric": metric,
            **_interval([score for score, _ in sample]),
            "method": method,
            **_gain(sample),
        }
        for (objective, rung, metric), sample in values.items()
    ]
    differences = [
        {
            "objective": objective,
            "reference": objectives[0],
            "rung": rung,
            "metric": metric,
            **_interval(
                [
                    one - other
                    for (one, _), (other, _) in zip(
                        sample, values[objectives[0], rung, metric], strict=True
                    )
                ]
            ),
            "method": "paired " + method,
        }
        for (objective, rung, metric), sample in values.items()
        if objective != objectives[0]
    ]
    scores = dict(zip(tasks, [(0.21, 0.71), (0.52, 0.78), (0.0, 0.12), (0.17, 0.93)], strict=False))
    verdicts = _verdicts(objectives, tasks, more)
    described = {
        task: {
            "metric": "matthews" if task == "acceptability" else "accuracy",
            "train": 4000,
            "test": 1000,
            "classes": 2,
            "notes": ["12 of 5000 texts were cut to 128 tokens"] if task == "topic" else [],
        }
        for task in tasks
    }
    baselines: dict[str, dict[str, float]] = {
        task: {"majority": s[0], "tfidf": s[1]} for task, s in scores.items()
    }
    if more:
        described |= {
            task: {"metric": metric, "train": 2000, "test": 500, "classes": classes}
            for task, metric, classes in (
                ("ewt-upos", "accuracy", 17),
                ("conll-chunk", "span_f1", 23),
                ("blimp", "accuracy", 2),
            )
        }
        baselines |= {
            "ewt-upos": _token_baselines(0.0),
            "conll-chunk": _token_baselines(-0.1),
            "blimp": {"unigram": 0.512},
            "text": {"bag": 0.501, "tfidf": 0.534},
        }
    return {
        "version": 2,
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
        **({"bigram_bits_per_byte": 2.702, "trigram_bits_per_byte": 2.415} if more else {}),
        "parameters": 5_243_904,
        "baselines": baselines,
        "tasks": described,
        "metrics": {
            name: {"title": title, "higher": name != "bits_per_byte", "about": f"On {title}."}
            for name, title in TITLES.items()
            if any(name in run["scores"] for run in runs)
        },
        "runs": runs,
        "summary": summary,
        "differences": differences,
        "controls": [
            {
                "objective": name,
                "rung": 1.0,
                "metric": metric,
                **_interval([0.81 + gain, 0.82 + gain, 0.83 + gain][:seeds]),
                "method": method,
            }
            for name, gain in (
                ("ar, 1 token later", 0.0),
                ("ar, 2 tokens later", 0.02),
                ("ar beside ar of reversed text", 0.05),
            )
            for metric in ("tokens/ewt-upos", "tokens/conll-chunk", "tokens")
        ]
        if more
        else [],
        "recommendation": {need: _told(verdict) for need, verdict in verdicts.items()},
        "reasons": {
            need: f"{verdict['reason']} {verdict['settle']}".strip()
            for need, verdict in verdicts.items()
        },
        "verdicts": verdicts,
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
        "more": False,
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
        "scores",
        "classification",
        "bits_per_byte_by_prefix",
        "curve",
        "samples",
        "learning_rate",
    )
    runs = [run for run in results["runs"] if run["objective"] == "ar"]
    for row, keys in [
        (row, ("low", "high", "mean", "gain", "gain_low", "gain_high")) for row in rows
    ] + [(run, in_runs) for run in runs]:
        for key in keys:
            if value == "absent":
                row.pop(key, None)
            elif value is None or key not in (
                "scores",
                "classification",
                "bits_per_byte_by_prefix",
                "curve",
                "samples",
            ):
                row[key] = value
    for key in ("unigram_bits_per_byte", "baselines", "machine", "notes", "reasons", "verdicts"):
        results[key] = None
    return results


def with_protocol(results: dict[str, Any], *, higher: bool = False) -> dict[str, Any]:
    """The results with a protocol "toy" that has scores on the first task: 1.0, 2.0, .. by
    objective.
    """
    task = next(iter(results["tasks"]))
    names = dict.fromkeys(run["objective"] for run in results["runs"])
    results["metrics"]["toy"] = {
        "title": "a toy",
        "higher": higher,
        "about": "Counts & compares.",
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
            results["summary"].append(row | {"gain": number - 1.375})
            results["differences"].append(row | {"reference": "ar"})
        for run in results["runs"]:
            if run["objective"] == objective:
                run["scores"]["toy"] = {task: {"score": number + 0.125, "before": 1.5}}
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
        "parameters": 1_250_304,
        "baselines": {
            task: {"majority": 0.21, "tfidf": 0.71},
            "ewt-upos": _token_baselines(0.0),
            "text": {"bag": 0.501, "tfidf": 0.534},
        },
        "classification_mode": "causal, shift 1",
        "generation_mode": "causal, shift 1",
        "scores": {
            "probe": {task: {"score": 0.66, "layer": 3, "cut": 0, "before": 0.44}},
            "tokens": {"ewt-upos": {"score": 0.812, "ambiguous": 0.7, "before": 0.702}},
            "order": {"text": {"score": 0.58, "before": 0.502}},
            "bits_per_byte": {"text": {"score": 2.031}},
        },
        "unigram_bits_per_byte": 3.104,
        "bigram_bits_per_byte": 2.702,
        "bits_per_byte": 2.031,
        "bits_per_byte_by_prefix": {"1": 3.125, "2": 2.5},
        "classification": {task: {"score": 0.66, "layer": 3, "strength": 1.0, "cut": 0}},
        "samples": [{"prompt": "The", "continuation": " river"}],
    }


def _token_baselines(lower: float) -> dict[str, float]:
    scores = {"majority": 0.78, "window_left": 0.824, "window": 0.861}
    scores |= {"untrained_causal": 0.702, "untrained_bidirectional": 0.711}
    return {
        f"{name}{part}": score + lower - 0.2 * bool(part)
        for name, score in scores.items()
        for part in ("", "_ambiguous")
    }


def _verdicts(
    objectives: tuple[str, ...], tasks: tuple[str, ...], more: bool
) -> dict[str, dict[str, Any]]:
    """`write` is settled, `label_texts` is not; nothing is told of one objective."""
    leader = objectives[-min(2, len(objectives))]
    absent = {"green": False, "leader": None, "candidates": [], "reason": "Not measured."}
    green = {
        "green": True,
        "leader": objectives[0],
        "candidates": [objectives[0]],
        "metric": "bits_per_byte",
        "gain": None,
        "floor": "unigram",
        "floor_score": 3.104,
        "led_before": objectives[0],
        "seeds": 3,
        "degrees_of_freedom": 14,
        "reason": f"{objectives[0]} leads with 2.021 bits per byte, and led a rung before.",
        "settle": "",
    }
    amber = green | {
        "green": False,
        "candidates": list(objectives[-2:]),
        "leader": leader,
        "metric": "probe",
        "gain": 0.218,
        "gain_low": 0.19,
        "gain_high": 0.246,
        "floor": "tfidf",
        "floor_score": 0.635,
        "led_before": objectives[-1],
        "reason": f"{leader} leads, but {objectives[-1]} led a rung before.",
        "settle": "What would settle it: a larger budget, or about 6 seeds.",
    }
    return {
        "label_texts": amber if tasks else absent | {"settle": "Give labelled texts with --task."},
        "label_tokens": amber | {"metric": "tokens"}
        if more
        else absent | {"settle": "Give texts with a label for every word with --task."},
        "write": green,
        "all": absent | {"reason": "Fewer than two needs were measured.", "settle": ""}
        if not (tasks or more)
        else amber | {"metric": None, "gain": None, "floor": None, "reason": "See the others."},
    }


def _told(verdict: dict[str, Any]) -> str:
    if verdict["green"]:
        return str(verdict["leader"])
    if not verdict["candidates"]:
        return "not measured"
    return f"inconclusive at this budget: {', '.join(verdict['candidates'])}"


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
    classification = {
        task: float(score + shift + generator.normal(0, 0.006))
        for task, shift in zip(tasks, (0.02, 0.08, -0.52, 0.19), strict=False)
    }
    untrained = dict(zip(tasks, (0.44, 0.58, 0.02, 0.61), strict=False))
    probed = {
        task: {"score": value, "layer": 3, "cut": 0, "before": untrained[task]}
        for task, value in classification.items()
    }
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
        "epochs": tokens / 5_900_000,
        "learning_rate": 0.002,
        "scores": ({"probe": probed} if tasks else {})
        | {"bits_per_byte": {"text": {"score": float(bits)}}},
        "classification": classification,
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


def _add_protocols(
    run: dict[str, Any], tasks: tuple[str, ...], generator: np.random.Generator
) -> None:
    """Scores of `tokens`, `order` and `pairs`, and at the last rung of `finetune`."""
    both_ways = "mlm" in run["objective"]
    level = 0.08 * run["rung"] ** 0.5 + 0.02 * both_ways + float(generator.normal(0, 0.004))
    before = 0.711 if both_ways else 0.702
    tokens = {"score": 0.75 + level, "before": before, "layer": 2, "ambiguous": 0.6 + level}
    phenomena = {"agreement": 0.55 + level, "binding": 0.5 + level}
    pairs: dict[str, Any] = {
        "score": 0.52 + level,
        "chain": {"score": 0.52 + level, "mode": run["mode"], "by_phenomenon": phenomena},
        "left_out": 3,
    }
    if both_ways:
        shifted = {name: score + 0.03 for name, score in phenomena.items()}
        pairs["pseudo"] = {"score": 0.55 + level, "mode": "both", "by_phenomenon": shifted}
    else:
        tokens["later"] = {"1": 0.77 + level, "2": 0.79 + level}
    kinds = {"swap": 0.55 + level, "exchange": 0.51 + level, "continuation": 0.5 + level}
    order = {"score": 0.52 + level, "before": 0.503, "by_kind": kinds}
    run["scores"] |= {
        "tokens": {"ewt-upos": tokens, "conll-chunk": tokens | {"score": 0.65 + level}},
        "order": {"text": order},
        "pairs": {"blimp": pairs},
    }
    if run["rung"] < 1 or not tasks:
        return
    by_labels = [
        {
            "labels": labels,
            "score": 0.5 + 0.05 * place + level / (1 + place),
            "low": 0.48 + 0.05 * place if place < 3 else None,
            "high": 0.6 + 0.05 * place if place < 3 else None,
            "draws": draws,
            "before": 0.5 + 0.05 * place,
            "probe": 0.49 + 0.04 * place,
            "tfidf": 0.51 + 0.06 * place,
        }
        for place, (labels, draws) in enumerate(((64, 5), (256, 5), (1024, 3), (4000, 1)))
    ]
    last = by_labels[-1]
    run["scores"]["finetune"] = {
        tasks[0]: {
            "score": last["score"],
            "before": last["before"],
            "by_labels": by_labels,
            "worth": "worth +5.1 points up to 256 labels, nothing above",
        }
    }


def _metrics(run: dict[str, Any]) -> dict[str, tuple[float, float | None]]:
    """{metric: (score, before)} of a run, with the mean over tasks of each protocol."""
    found: dict[str, tuple[float, float | None]] = {}
    for protocol, lines in run["scores"].items():
        pairs = {task: (line["score"], line.get("before")) for task, line in lines.items()}
        if "text" in pairs:
            found[protocol] = pairs["text"]
            continue
        scores, before = zip(*pairs.values(), strict=True)
        known = None if None in before else float(np.mean(before))
        found[protocol] = float(np.mean(scores)), known
        found |= {f"{protocol}/{task}": pair for task, pair in pairs.items()}
    return found


def _gain(sample: list[tuple[float, float | None]]) -> dict[str, float | None]:
    gains = [score - before for score, before in sample if before is not None]
    if not gains:
        return dict.fromkeys(("gain", "gain_low", "gain_high"))
    over = _interval(gains)
    return {"gain": over["mean"], "gain_low": over["low"], "gain_high": over["high"]}


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
