"""From what jobs found to results.json: runs, intervals, paired differences, verdicts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from lookaround.data.labelled import TEXT
from lookaround.evaluation.baselines import baselines, by_key
from lookaround.evaluation.bits_per_byte import BitsPerByte
from lookaround.evaluation.intervals import Interval, bootstrap_interval, seed_interval
from lookaround.evaluation.ngrams import uses_context
from lookaround.evaluation.registry import (
    Evaluation,
    Protocol,
    Scores,
    TextData,
    TokenData,
    chosen,
    idle,
    protocols,
    reading,
)
from lookaround.evaluation.scaling import PLATEAU, extrapolated
from lookaround.report.lookup import NEEDS, PICTURE_NEEDS
from lookaround.report.schema import ComparisonResults
from lookaround.report.schema.comparison import VERSION
from lookaround.studies.advice import quoted
from lookaround.studies.compare.grid import Found
from lookaround.studies.compare.scoring import EVALUATION_FILE, TOKENS, untrained_folder
from lookaround.studies.compare.smallest import order_kept
from lookaround.studies.compare.study import MANY_EPOCHS, Study, text_data
from lookaround.studies.compare.verdict import (
    Measured,
    Statistic,
    Verdict,
    judge,
    judge_all,
)
from lookaround.support.errors import UserError
from lookaround.support.machine import machine, versions
from lookaround.train.speed import off_budget

# {need: what measures it}: of texts, and of pictures
REMEDIES = {
    "label_texts": "Give labelled texts with --task, and the protocol probe.",
    "label_tokens": "Give texts with a label for every word with --task, and the protocol tokens.",
    "write": "Give the protocol bits_per_byte.",
}
PICTURE_REMEDIES = {
    "label_texts": "Give pictures with classes (a folder for each), and the protocol probe.",
    "write": REMEDIES["write"],
}
WORSE = 0.01  # of the bits of the best rung: from there on more epochs hurt
# least FLOPs from which losses of masked models are known to fall regularly (arXiv 2305.17266)
REGULAR = 2e15


def study_results(study: Study, out: Path, command: str, found: Found) -> ComparisonResults:
    """The results of what a study's jobs found."""
    return ComparisonResults.of(_Summary(study, out, found).as_dict(command))


class _Summary:
    """What jobs found, by run, and what follows from it."""

    def __init__(self, study: Study, out: Path, found: Found) -> None:
        self.study, self.out, self.found = study, out, found
        self.specs = [objective.spec for objective in study.objectives]
        self.seeds = sorted({seed for _, seed in found.ladders})
        self.options = study.settings.evaluate
        self.resamples = self.options.bootstrap if len(self.seeds) == 1 else 1
        self.protocols = protocols()
        # {objective: how classification reads it}
        self.ways = {
            objective.spec: reading(objective.modes(), self.options.classification_mode).attention
            for objective in study.objectives
        }
        data = [*study.data, text_data(study.settings, study.store)]
        # what was evaluated for an earlier command stays in the folder and out of these results
        self.asked = {(one.name, item.name) for one, item in chosen(data, self.options)}
        _require_same_items(found, out)
        self.statistics = {
            (spec, seed, rung): self._statistics(self.evaluation(spec, seed, rung))
            for spec, seed in found.ladders
            for rung in study.rungs
        }
        self.before = {key: self._statistics(scores) for key, scores in found.untrained.items()}
        self.metrics = [
            metric
            for metric in next(iter(self.statistics.values()))
            if all(metric in entry for entry in self.statistics.values())
        ]
        last = self.statistics[self.specs[0], self.seeds[0], self.last]
        # what is measured at the whole budget alone
        self.final_metrics = [metric for metric in last if metric not in self.metrics]

    @property
    def unit(self) -> str:
        """What bits are told per: "byte", "token" or "pixel"."""
        return self.study.store.codec.unit

    @property
    def last(self) -> float:
        """The last rung that is climbed."""
        return self.study.rungs[-1]

    def bits(self, rung: float) -> dict[str, float]:
        """{objective: mean bits per byte over seeds}; empty where they are not measured."""
        if BitsPerByte.key not in self.metrics:
            return {}
        return {
            spec: fmean(self.statistics[spec, s, rung][BitsPerByte.key][0] for s in self.seeds)
            for spec in self.specs
        }

    def evaluation(self, spec: str, seed: int, rung: float) -> Evaluation:
        return self._of_now(self.found.ladders[spec, seed][f"{rung:g}"]["evaluation"])

    def _of_now(self, evaluation: Evaluation) -> Evaluation:
        """What the command asks for, of what a folder holds."""
        scores = {
            name: {task: found for task, found in entries.items() if (name, task) in self.asked}
            for name, entries in evaluation.scores.items()
        }
        return Evaluation(evaluation.modes, {name: part for name, part in scores.items() if part})

    def _statistics(self, evaluation: Evaluation) -> dict[str, Statistic]:
        """{metric: (value, resampled values)}; equal draws make differences paired."""
        statistics: dict[str, Statistic] = {}
        for name, protocol in self.protocols.items():
            parts = {
                task: (scores.value, protocol.resampled(scores, self.resamples))
                for task, scores in evaluation.scores.get(name, {}).items()
                if scores.value is not None
            }
            statistics |= {protocol.column(task): part for task, part in parts.items()}
            if parts and TextData.name not in parts:
                values, resampled = zip(*parts.values(), strict=True)
                statistics[protocol.key] = (float(np.mean(values)), np.mean(resampled, axis=0))
        return statistics

    def untrained(self, spec: str, seed: int, metric: str) -> Statistic | None:
        """A metric of the network before training, read as this objective's model is."""
        return self.before.get((self.ways[spec], seed), {}).get(metric)

    def gain(self, spec: str, seed: int, rung: float, metric: str) -> Statistic | None:
        """A metric less that of the network before training."""
        before = self.untrained(spec, seed, metric)
        if before is None:
            return None
        value, resampled = self.statistics[spec, seed, rung][metric]
        return value - before[0], resampled - before[1]

    # ------------------------------------------------------------------------- parts of the file

    def as_dict(self, command: str) -> dict[str, Any]:
        study, settings = self.study, self.study.settings
        text = self.found.baselines.get(TextData.name, {})
        index = study.store.index
        verdicts = self._verdicts()
        results: dict[str, Any] = {
            "version": VERSION,
            "command": command,
            "settings": settings.model_dump(),
            "corpus": {
                "name": study.corpus.name,
                **study.corpus.description,
                "tokens": {name: part["tokens"] for name, part in index["splits"].items()},
                "splits": {name: part["documents"] for name, part in index["splits"].items()},
                "fingerprint": study.corpus.fingerprint,
                "vocabulary": index["vocabulary"],
            },
            "machine": machine(study.jobs, study.threads),
            "versions": versions(),
            "unit": self.unit,
            "parameters": study.backbone.parameter_count,
            "equal": study.equal,
            **{
                key: value
                for name, scores in text.items()
                for key, value in baselines()[name]
                .entry({TextData.name: scores}, settings.evaluate)
                .items()
            },
            "baselines": self._baselines(),
            "tasks": study.described_tasks,
            "learning_rates": {
                spec: {f"x{factor:g}": loss for factor, loss in sorted(entry.items())}
                for spec, entry in self.found.losses.items()
            },
            "weight_decays": {
                spec: {
                    f"{decay:g}": {f"{rung:g}": loss for rung, loss in losses.items()}
                    for decay, losses in sorted(tried.items())
                }
                for spec, tried in self.found.decays.items()
            },
            "runs": [
                self._run(spec, seed, rung)
                for spec, seed, rung in itertools.product(self.specs, self.seeds, study.rungs)
            ],
            "summary": self._summary(),
            "differences": self._differences(),
            "controls": self._controls(),
            "extrapolation": self._extrapolations(),
            "recommendation": {need: verdict.recommendation for need, verdict in verdicts.items()},
            "reasons": {
                need: " ".join(filter(None, (verdict.reason, verdict.settle)))
                for need, verdict in verdicts.items()
            },
            "verdicts": {need: verdict.as_dict() for need, verdict in verdicts.items()},
            "notes": self._notes(),
        }
        if about := self._about():
            results["metrics"] = about
        if isinstance(self.found.forecast, str):
            results["notes"].append(f"No forecast beside the study: {self.found.forecast}")
        elif self.found.forecast is not None:
            results["forecast"] = self.found.forecast
        return results

    def _run(self, spec: str, seed: int, rung: float) -> dict[str, Any]:
        entry = self.found.ladders[spec, seed][f"{rung:g}"]
        evaluation, spent = self.evaluation(spec, seed, rung), entry["spent"]
        before = self.found.untrained.get((self.ways[spec], seed))
        halves = evaluation.by_half()
        run = {
            "objective": spec,
            "seed": seed,
            "rung": rung,
            "mode": "; ".join(f"{half}: {mode}" for half, mode in halves.items()),
            "budget": {name: spent[name] for name in ("tokens", "targets", "flops", "seconds")},
            "epochs": spent["tokens"] / self.study.unique,
            "learning_rate": entry["learning_rate"],
            "weight_decay": entry["weight_decay"],
            "checkpoint": os.path.relpath(entry["folder"], self.out),
            "curve": [
                {key: point[key] for key in ("flops", "tokens", "seconds", "loss")}
                for point in entry["curve"]
            ],
            "scores": {
                name: {
                    task or TEXT: self.protocols[name].record(
                        scores, before.scores.get(name, {}).get(task) if before else None
                    )
                    for task, scores in entries.items()
                }
                for name, entries in evaluation.scores.items()
                if self.protocols[name].measures
            },
        }
        for name, protocol in self.protocols.items():
            run |= protocol.entry(evaluation.scores.get(name, {}), self.options)
        return run

    def _baselines(self) -> dict[str, dict[str, float]]:
        """{task: {baseline: score}}, words of the network before training read both ways too."""
        table = {
            name or TEXT: _by_key(lines)
            for name, lines in self.found.baselines.items()
            if _by_key(lines)
        }
        for (attention, seed), evaluation in self.found.untrained.items():
            for task, scores in self._of_now(evaluation).scores.get(TOKENS, {}).items():
                if seed == self.seeds[0] and scores.value is not None:
                    line = {f"untrained_{attention}": scores.value}
                    if (ambiguous := scores.details.get("ambiguous")) is not None:
                        line[f"untrained_{attention}_ambiguous"] = ambiguous
                    table[task] = table.get(task, {}) | line
        return table

    def _summary(self) -> list[dict[str, Any]]:
        """Means with intervals over seeds, or over test items where there is one seed."""
        rows = []
        for rung in self.study.rungs:
            for metric, spec in itertools.product(self._metrics(rung), self.specs):
                values = [self.statistics[spec, seed, rung][metric] for seed in self.seeds]
                gains = [self.gain(spec, seed, rung, metric) for seed in self.seeds]
                row = {"objective": spec, "rung": rung, "metric": metric, **_interval(values)}
                row |= dict.fromkeys(("gain", "gain_low", "gain_high"))
                if all(gain is not None for gain in gains):
                    over = _interval([gain for gain in gains if gain is not None])
                    row |= {"gain": over["mean"]}
                    row |= {f"gain_{end}": over[end] for end in ("low", "high")}
                rows.append(row)
        return rows

    def _differences(self) -> list[dict[str, Any]]:
        rows = []
        for rung in self.study.rungs:
            for metric, (reference, spec) in itertools.product(
                self._metrics(rung), itertools.combinations(self.specs, 2)
            ):
                pairs = [
                    (
                        self.statistics[spec, seed, rung][metric],
                        self.statistics[reference, seed, rung][metric],
                    )
                    for seed in self.seeds
                ]
                paired = [(one[0] - other[0], one[1] - other[1]) for one, other in pairs]
                keys = {"objective": spec, "reference": reference, "rung": rung, "metric": metric}
                rows.append({**keys, **_interval(paired)})
        return rows

    def _metrics(self, rung: float) -> list[str]:
        return self.metrics + self.final_metrics * (rung == self.last)

    def _controls(self) -> list[dict[str, Any]]:
        """What waiting for the next tokens, and what reading both ways without masks buys.

        Of `ar` at the last rung, word by word.
        """
        # {name: {seed: {task: score}}}
        lines: dict[str, dict[int, dict[str, float]]] = {}
        for seed, controls in self.found.controls.items():
            for name, found in controls.items():
                lines.setdefault(name, {})[seed] = {
                    task: scores.value for task, scores in found.items() if scores.value is not None
                }
        rows = []
        none = np.array([np.nan])
        for name, by_seed in lines.items():
            tasks = list(next(iter(by_seed.values())))
            columns = {f"{TOKENS}/{task}": [task] for task in tasks} | {TOKENS: tasks}
            for metric, of in columns.items():
                values = [
                    (float(np.mean([line[task] for task in of])), none) for line in by_seed.values()
                ]
                keys = {"objective": name, "rung": self.last, "metric": metric}
                rows.append({**keys, **_interval(values)})
        return rows

    def _extrapolations(self) -> dict[str, dict[str, Any]]:
        """What the rungs of each objective say of larger budgets."""
        if BitsPerByte.key not in self.metrics or not self.study.complete:
            return {}
        rungs, found = self.study.rungs, {}
        line = self.found.baselines.get(TextData.name, {}).get("unigram")
        unigram = None if line is None else line.value
        for spec in self.specs:
            ladders = [self.found.ladders[spec, seed] for seed in self.seeds]
            spent = {
                key: [fmean(one[f"{rung:g}"]["spent"][key] for one in ladders) for rung in rungs]
                for key in ("flops", "tokens")
            }
            bits = [
                [self.statistics[spec, seed, rung][BitsPerByte.key][0] for rung in rungs]
                for seed in self.seeds
            ]
            most = MANY_EPOCHS * self.study.unique / spent["tokens"][-1]
            found[spec] = extrapolated(spent["flops"], np.array(bits), most, unigram)
        return found

    def _about(self) -> dict[str, dict[str, Any]]:
        """{protocol: what to know of it}."""
        keys = {metric.partition("/")[0] for metric in [*self.metrics, *self.final_metrics]}
        return {
            protocol.key: {
                "title": protocol.titled(self.unit),
                "higher": protocol.higher,
                "about": (protocol.__doc__ or "").strip().partition("\n")[0],
            }
            for protocol in self.protocols.values()
            if protocol.key in keys
        }

    # ------------------------------------------------------------------------- verdicts

    def _verdicts(self) -> dict[str, Verdict]:
        verdicts = {}
        pictures = self.unit == "pixel"
        for need, remedy in (PICTURE_REMEDIES if pictures else REMEDIES).items():
            protocol = next(
                (
                    protocol
                    for protocol in self.protocols.values()
                    if protocol.need == need and protocol.key in self.metrics
                ),
                None,
            )
            verdicts[need] = (
                Verdict(green=False, reason="Not measured.", settle=remedy)
                if protocol is None
                else judge(self.measured(protocol))
            )
        return verdicts | {"all": judge_all(verdicts, PICTURE_NEEDS if pictures else NEEDS)}

    def measured(self, protocol: Protocol[Any]) -> Measured:
        """A protocol's metric as verdicts need it."""
        sign, key, rungs = 1 if protocol.higher else -1, protocol.key, self.study.rungs
        keys = list(itertools.product(self.specs, self.seeds))

        def scores(rung: float) -> dict[tuple[str, int], Statistic]:
            found = {at: self.statistics[(*at, rung)][key] for at in keys}
            return {at: (sign * value, sign * draws) for at, (value, draws) in found.items()}

        gains = {at: self.gain(*at, self.last, key) for at in keys}
        measured = Measured(
            protocol,
            scores(self.last),
            {at: gain for at, gain in gains.items() if gain is not None},
            None,
            {name: sign * value for name, value in self._floors(protocol).items()},
            self._plateau(self.last),
            protocol.titled(self.unit),
        )
        if len(rungs) > 1:
            before = replace(measured, scores=scores(rungs[-2]), plateau=self._plateau(rungs[-2]))
            measured = replace(measured, leader_before=before.leader)
        return measured

    def _floors(self, protocol: Protocol[Any]) -> dict[str, float]:
        """{baseline: its score}, on the mean over tasks where it stands beside every one."""
        tasks = self.evaluation(self.specs[0], self.seeds[0], self.last).scores[protocol.name]
        beside = {name: line for name, line in baselines().items() if protocol.name in line.beside}
        by_key: dict[str, list[float]] = {}
        for task in tasks:
            for name, line in beside.items():
                scores = self.found.baselines.get(task, {}).get(name)
                if scores is not None and scores.value is not None:
                    by_key.setdefault(line.key, []).append(scores.value)
        return {
            key: float(np.mean(values))
            for key, values in by_key.items()
            if len(values) == len(tasks)
        }

    def _plateau(self, rung: float) -> frozenset[str]:
        """Objectives whose models use no more than token frequencies."""
        unigram = self.found.baselines.get(TextData.name, {}).get("unigram")
        if unigram is None or unigram.value is None:
            return frozenset()
        highest = PLATEAU * unigram.value
        return frozenset(spec for spec, mean in self.bits(rung).items() if mean >= highest)

    # ------------------------------------------------------------------------- notes

    def _notes(self) -> list[str]:
        study = self.study
        notes = []
        if not study.complete:
            notes.append(
                f"Stopped after the rung of {study.rungs[-1]:g} of the budget, and so is all that "
                "is said here; the same command without --until goes on from there."
            )
            measured = {n for n, one in self.protocols.items() if one.key in self.metrics}
            kept = order_kept(measured)
            notes += [kept] if kept else []
        if len(self.seeds) == 1:
            notes.append(
                "One seed: differences between training runs are not covered by the intervals; "
                "--seeds 3 covers them."
            )
        notes += study.store.codec.notes
        for task in study.tasks:
            notes += [f"{task.name}: {note}" for note in task.notes]
        notes += self._cut_notes()
        moving = [objective.spec for objective in study.objectives if not objective.stationary]
        if moving:
            notes.append(
                "Trained from the start for every rung, since they change with the budget: "
                f"{', '.join(moving)}"
            )
        notes += idle(self.asked, self.options)
        notes += self._context_notes() + self._repeat_notes() + self._budget_notes()
        notes += self._time_notes()
        return notes + self._known()

    def _known(self) -> list[str]:
        """What was measured elsewhere for the needs of this study at its budget: on text."""
        if self.unit == "pixel":
            return []
        needs = {one.need for one in self.protocols.values() if one.key in self.metrics}
        unique = self.study.unique
        return quoted(needs - {""}, self._spent("flops"), self._spent("tokens") / unique)

    def _spent(self, what: str) -> float:
        """FLOPs or tokens of a run at the last rung, the most of all."""
        return max(
            self.found.ladders[spec, seed][f"{self.last:g}"]["spent"][what]
            for spec in self.specs
            for seed in self.seeds
        )

    def _cut_notes(self) -> list[str]:
        """What of the tasks is longer than the models read."""
        context, notes = self.study.settings.model.context, []
        scores = self.evaluation(self.specs[0], self.seeds[0], self.last).scores.values()
        for item in self.study.data:
            details = [found[item.name].details for found in scores if item.name in found]
            cut, left_out = (
                max((one.get(key, 0) for one in details), default=0) for key in ("cut", "left_out")
            )
            what = "words are beyond" if isinstance(item, TokenData) else "texts were cut to"
            if cut:
                notes.append(f"{item.name}: {cut:,} {what} the training length of {context} tokens")
            if left_out:
                notes.append(f"{item.name}: {left_out:,} pairs longer than that are left out")
        return notes

    def _context_notes(self) -> list[str]:
        """Which objectives' models do not use their context yet."""
        line = self.found.baselines.get(TextData.name, {}).get("bigram")
        if line is None or line.value is None:
            return []
        bits = self.bits(self.last)
        unused = [spec for spec, mean in bits.items() if not uses_context(mean, line.value)]
        if not unused:
            return []
        return [
            f"Context is not used yet by {', '.join(unused)}: the loss stands above that of the "
            f"bigram model ({line.value:.3f} bits per {self.unit}), which "
            "sees one token. What helps: a larger budget, a larger learning rate, `ar` beside "
            "masks (`ar + vmlm`), a smaller vocabulary."
        ]

    def _repeat_notes(self) -> list[str]:
        """How often the text is read, with which weight decays, and where more only hurts."""
        runs = {
            (spec, rung): self.found.ladders[spec, self.seeds[0]][f"{rung:g}"]
            for spec in self.specs
            for rung in self.study.rungs
        }
        unique = self.study.unique
        epochs = {at: run["spent"]["tokens"] / unique for at, run in runs.items()}
        if max(epochs.values()) <= MANY_EPOCHS:
            return []
        last = self.last
        most = max(epochs[spec, last] for spec in self.specs)
        note = f"The {unique:,} training tokens are read {most:.0f} times."
        if self.found.decays:
            chosen = ", ".join(
                f"{spec} {runs[spec, last]['weight_decay']:g}" for spec in self.specs
            )
            note += f" Weight decay, chosen by the validation loss of the first seed: {chosen}."
        notes = [note]
        if BitsPerByte.key not in self.metrics or len(self.study.rungs) == 1:
            return notes
        bits = {
            (spec, rung): mean
            for rung in self.study.rungs
            for spec, mean in self.bits(rung).items()
        }
        best = {spec: min(self.study.rungs, key=lambda r: bits[spec, r]) for spec in self.specs}
        past = [s for s in self.specs if bits[s, last] > (1 + WORSE) * bits[s, best[s]]]
        if past:
            told = ", ".join(
                f"{spec} {epochs[spec, best[spec]]:.0f} ({bits[spec, best[spec]]:.3f}; at the end "
                f"{bits[spec, last]:.3f})"
                for spec in past
            )
            first = min(self.specs, key=lambda spec: bits[spec, best[spec]])
            notes.append(
                f"More epochs only hurt: the fewest bits per {self.unit} are "
                f"reached after so many: {told}. The best of all is {first} after "
                f"{epochs[first, best[first]]:.0f} epochs, {best[first]:g} of the budget."
            )
        return notes

    def _budget_notes(self) -> list[str]:
        """On which side of the crossing of masked and autoregressive training the study is."""
        masked = [o.spec for o in self.study.objectives if self.ways[o.spec] == "bidirectional"]
        if not masked or self.unit == "pixel":  # measured on text
            return []
        unique = self.study.unique
        return crossing_notes(unique, self._spent("flops"))

    def _time_notes(self) -> list[str]:
        """Which runs took longer or shorter than a budget of seconds that is equal for all."""
        budget, notes = self.study.budget, []
        if self.study.equal != "seconds":
            return []
        for spec in self.specs:
            ladders = [self.found.ladders[spec, seed] for seed in self.seeds]
            spent = fmean(ladder[f"{self.last:g}"]["spent"]["seconds"] for ladder in ladders)
            why = off_budget(self.last * budget.amount, spent)
            notes += [f"{spec}: {why}"] if why else []
        return notes


def crossing_notes(unique: int, flops: float) -> list[str]:
    """Where a budget stands to the crossing of masked and autoregressive training. 2507.15857.

    On repeated data masked training is ahead in bits from about C = 2.12e15 (unique tokens in
    millions)^2.174 FLOPs on.

    unique: different training tokens.
    flops: of a run.
    """
    crossing = 2.12e15 * (unique / 1e6) ** 2.174
    side = "below" if flops < crossing else "above"
    notes = [
        f"Repeated data: {unique:,} training tokens put the crossing of masked and autoregressive "
        f"training at about {crossing:.1e} FLOPs (fitted in arXiv 2507.15857 on 25 to 100 million "
        "tokens and models from 7 million parameters: elsewhere a prediction, not a fact; right at "
        "50,000 tokens, too early at 100,000, results/repeated.md); a run "
        f"of {flops:.1e} is {side} it, where "
        + ("autoregressive" if side == "below" else "masked")
        + " training is ahead in bits per byte."
    ]
    if flops < REGULAR:
        notes.append(
            "Losses of masked models of this size do not fall regularly below about 2e15 FLOPs "
            f"(arXiv 2305.17266); a run has {flops:.1e}."
        )
    return notes


def _require_same_items(found: Found, out: Path) -> None:
    """Raises UserError where two models were scored on different numbers of items, which cannot be
    paired.
    """
    evaluations = {
        Path(entry["folder"]): entry["evaluation"].scores
        for rungs in found.ladders.values()
        for entry in rungs.values()
    }
    evaluations |= {
        untrained_folder(out, *key): evaluation.scores
        for key, evaluation in found.untrained.items()
    }
    first: dict[tuple[str, str], tuple[Path, int]] = {}
    for folder, scores in evaluations.items():
        for name, entries in scores.items():
            for task, entry in entries.items():
                size = len(entry.items[0]) if entry.items else 0
                other, wanted = first.setdefault((name, task), (folder, size))
                if size != wanted:
                    raise UserError(
                        f"{folder / EVALUATION_FILE}: field 'scores.{name}[{task!r}]' has {size} "
                        f"items, {other / EVALUATION_FILE} {wanted}; delete what is damaged, and "
                        "the same command makes it again"
                    )


def _interval(values: Sequence[Statistic]) -> dict[str, Any]:
    found: Interval = (
        seed_interval([value for value, _ in values])
        if len(values) > 1
        else bootstrap_interval(*values[0])
    )
    return vars(found)


def _by_key(lines: Mapping[str, Scores]) -> dict[str, float]:
    """{baseline: score} of a task; what has an entry of its own in results is left out."""
    known = baselines()
    return by_key({n: line for n, line in lines.items() if BitsPerByte.name not in known[n].beside})
