"""Fine-tuning: does pretraining pay, and from how many labels?

All weights and a linear head on the mean state of a text are trained on a few labelled examples, of
which several draws are taken. Beside it stand the frozen probe and TF-IDF on the same draws, and
(`Finetune.record`) the same network trained from scratch.

n examples, L candidate layers, D hidden width, K classes (1 where numbers are asked for).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lookaround.data.codec import Codec
from lookaround.evaluation.baselines import tfidf_predictions
from lookaround.evaluation.classifier import BATCH, Classifier, loss_of, outputs_of, tuned
from lookaround.evaluation.features import encoded, pooled_states
from lookaround.evaluation.intervals import bootstrap_interval, seed_interval
from lookaround.evaluation.picture_baselines import is_pictures, pixel_score
from lookaround.evaluation.probe import METRICS, beside, linear_probe, score, split_off
from lookaround.evaluation.registry import Details, Protocol, Scores, TaskData, draw
from lookaround.model.backbone import Backbone
from lookaround.model.readable import Readable
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError
from lookaround.support.records import Count, Stored
from lookaround.train.loop import default_learning_rate

RESAMPLES = 2000


# ---------------------------------------------------------------------------- numbers of labels


@dataclass(frozen=True)
class Size:
    """A number of labels, how often so many are drawn, and the epochs of training on a draw."""

    labels: int
    draws: int
    epochs: int

    def steps(self, rates: int) -> int:
        """Steps of all trainings, those that choose among so many rates included."""
        fifth = -(-self.labels // 5)
        search = rates * -(-(self.labels - fifth) // BATCH) if rates > 1 else 0
        return (self.draws * -(-self.labels // BATCH) + search) * self.epochs

    def texts(self, rates: int) -> int:
        """Texts that are read; one that is trained on counts as 3, for its way back."""
        fifth = -(-self.labels // 5)
        search = rates * (3 * (self.labels - fifth) * self.epochs + fifth) if rates > 1 else 0
        return self.draws * 3 * self.labels * self.epochs + search


def sizes_for(available: int, settings: EvaluateSettings, classes: int = 1) -> list[Size]:
    """What settings ask for; where there are fewer examples, all of them come last, drawn once.

    Numbers of labels below that of classes are left out.

    Raises UserError for lists of different lengths, numbers out of order, or none for the classes.
    """
    labels = settings.finetune_labels
    for name in ("finetune_draws", "finetune_epochs"):
        if (given := len(getattr(settings, name))) != len(labels):
            raise UserError(
                f"evaluate.{name}: {given} numbers found, must be {len(labels)}, one for each of "
                "evaluate.finetune_labels"
            )
    if sorted({*labels}) != labels:
        raise UserError(f"evaluate.finetune_labels: {labels} found, must rise")
    asked = list(map(Size, labels, settings.finetune_draws, settings.finetune_epochs))
    asked = [size for size in asked if size.labels >= classes]
    if not asked:
        raise UserError(
            f"evaluate.finetune_labels: {labels} found, must hold a number from {classes} up, the "
            "classes of the task"
        )
    found = [size for size in asked if size.labels < available]
    if len(found) < len(asked):
        found.append(replace(asked[len(found)], labels=available, draws=1))
    return found


def all_inputs(data: TaskData) -> tuple[list[Any], np.ndarray]:
    """Every training example of a task: (inputs, labels (n,))."""
    labels = data.train_labels
    if data.more_labels is not None:
        labels = np.concatenate([labels, data.more_labels])
    return [*data.train_inputs, *data.more_inputs], labels


# ---------------------------------------------------------------------------- one model and task


@dataclass(frozen=True)
class Tuning:
    """Fine-tuning of a model on examples of a task.

    data: the task, all training examples among `train_inputs`.
    train, test: ids (T,) of its inputs.
    """

    backbone: Backbone
    codec: Codec
    attention: str
    data: TaskData
    train: list[Tensor]
    test: list[Tensor]
    seed: int
    after_step: Callable[[], None]

    def best_rate(self, rows: np.ndarray, rates: Sequence[float], epochs: int) -> float:
        """The rate that scores best on a fifth of some examples, trained on the others.

        Among equal scores the smaller loss decides; a rate that diverges comes last.
        """
        if len(rates) == 1:
            return rates[0]
        fit, held = (
            rows[part]
            for part in split_off(self.data.train_labels[rows], self.seed, self.data.is_regression)
        )

        def quality(rate: float) -> tuple[float, float]:
            outputs = self._outputs(fit, [self.train[k] for k in held], rate, epochs, 0)
            if outputs is None:
                return -np.inf, -np.inf
            true = self.data.train_labels[held]
            loss = float(loss_of(outputs, self._targets(true, fit)))
            return score(self.data.metric, true, self._answers(outputs, fit)), -loss

        return max(rates, key=quality)

    def predicted(self, rows: np.ndarray, rate: float, epochs: int, number: int) -> np.ndarray:
        """Predictions (n_test,) after training on a draw, by its number.

        A training that diverges says what its labels do: their most frequent class, or mean.
        """
        outputs = self._outputs(rows, self.test, rate, epochs, number)
        if outputs is not None:
            return self._answers(outputs, rows)
        labels = self.data.train_labels[rows]
        usual = labels.mean() if self.data.is_regression else np.bincount(labels).argmax()
        return np.full_like(self.data.test_labels, usual)

    def _outputs(
        self, rows: np.ndarray, asked: Sequence[Tensor], rate: float, epochs: int, number: int
    ) -> Tensor | None:
        """Outputs (n, K) of the inputs asked about; None where the training diverged."""
        labels = self.data.train_labels
        classes = 1 if self.data.is_regression else int(labels.max()) + 1
        model = Classifier(self.backbone, self.codec, self.attention, classes)
        ids, targets = [self.train[k] for k in rows], self._targets(labels[rows], rows)
        finite = tuned(
            model,
            ids,
            targets,
            rate=rate,
            epochs=epochs,
            seed=(self.seed, number),
            after_step=self.after_step,
        )
        outputs = outputs_of(model, asked) if finite else None
        return outputs if outputs is not None and bool(outputs.isfinite().all()) else None

    def _scale(self, rows: np.ndarray) -> tuple[float, float]:
        """Mean and deviation of the numbers that are trained on."""
        labels = self.data.train_labels[rows]
        return float(labels.mean()), float(labels.std()) or 1.0

    def _targets(self, labels: np.ndarray, rows: np.ndarray) -> Tensor:
        if not self.data.is_regression:
            return torch.from_numpy(labels)
        mean, deviation = self._scale(rows)
        return torch.from_numpy((labels - mean) / deviation).float()

    def _answers(self, outputs: Tensor, rows: np.ndarray) -> np.ndarray:
        if not self.data.is_regression:
            return outputs.argmax(1).numpy()
        mean, deviation = self._scale(rows)
        return outputs[:, 0].double().numpy() * deviation + mean


# a study evaluates many models on the same draws
@lru_cache(maxsize=64)
def _tfidf_score(
    metric: str,
    train: tuple[tuple[str, float], ...],
    test: tuple[tuple[str, float], ...],
) -> float:
    (inputs, labels), (asked, true) = (zip(*part, strict=True) for part in (train, test))
    data = TaskData("", metric, [*inputs], np.array(labels), [*asked], np.array(true))
    return score(metric, data.test_labels, tfidf_predictions(data))


# ---------------------------------------------------------------------------- the protocol


class _ByLabels(Stored):
    labels: Count
    draws: Count
    score: float
    low: float | None
    high: float | None
    scores: list[float] = Field(min_length=1)


class FinetuneDetails(Details):
    by_labels: list[_ByLabels] = Field(min_length=1)


class Finetune(Protocol[TaskData]):
    """All weights and a linear head, trained on few labels; the score is that of the most."""

    name, needs, title = "finetune", TaskData, "fine-tuned score"
    final_only = True
    kept = FinetuneDetails

    def cost(self, data: TaskData, settings: EvaluateSettings) -> dict[str, int]:
        """Texts read; one that is trained on counts as 3."""
        available, test = len(all_inputs(data)[0]), len(data.test_inputs)
        sizes, rates = sizes_for(available, settings, data.classes), len(settings.finetune_rates)
        tuning = sum(size.texts(rates) + size.draws * test for size in sizes)
        return {"texts": tuning + available + test}

    def run(
        self, readable: Readable, data: TaskData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        """Its items are (true, predicted after the first draw, after the second ..) of each test
        example, at the most labels.

        Draws are the same for every model and seed. The rate is chosen on the first draw of each
        number of labels.
        """
        inputs, labels = all_inputs(data)
        data = replace(data, train_inputs=inputs, train_labels=labels)
        sizes = sizes_for(len(inputs), settings, data.classes)
        base = default_learning_rate(readable.backbone.width)
        rates = [base * factor for factor in settings.finetune_rates]
        attention = self.mode(readable, settings).attention
        (train, cut), (test, cut_test) = (
            encoded(readable.codec, part, readable.context) for part in (inputs, data.test_inputs)
        )
        states, test_states = (
            pooled_states(readable.backbone, readable.codec, part, attention)
            for part in (train, test)
        )
        tuning = Tuning(
            readable.backbone,
            readable.codec,
            attention,
            data,
            train,
            test,
            seed,
            self._counter(sum(size.steps(len(rates)) for size in sizes)),
        )
        by_labels: list[dict[str, Any]] = []
        predictions: list[np.ndarray] = []
        for size in sizes:
            draws = [draws_of(data, size.labels, number) for number in range(size.draws)]
            rate = tuning.best_rate(draws[0], rates, size.epochs)
            predictions = [
                tuning.predicted(rows, rate, size.epochs, number)
                for number, rows in enumerate(draws)
            ]
            probes = [
                linear_probe(
                    states[:, rows],
                    labels[rows],
                    test_states,
                    data.test_labels,
                    metric=data.metric,
                    seed=seed,
                ).score
                for rows in draws
            ]
            found = [score(data.metric, data.test_labels, each) for each in predictions]
            by_labels.append(
                _entry(found)
                | {
                    "labels": size.labels,
                    "draws": size.draws,
                    "rate": rate,
                    "probe": float(np.mean(probes)),
                    "tfidf": _tfidf(data, draws),
                    "pixels": _pixels(data, draws),
                }
            )
        more = [beside(data.metric, data.test_labels, each) for each in predictions]
        return Scores(
            data.metric,
            by_labels[-1]["score"],
            items=(data.test_labels.tolist(), *(each.tolist() for each in predictions)),
            details={
                "by_labels": by_labels,
                "cut": cut + cut_test,
                **{name: float(np.mean([each[name] for each in more])) for name in more[0]},
            },
        )

    def _counter(self, steps: int) -> Callable[[], None]:
        """What counts the steps of training for `progress`."""
        made = count(1)
        return lambda: self.progress(next(made), steps)

    def statistic(self, metric: str, *items: np.ndarray) -> np.ndarray:
        """The mean over draws."""
        true, *predictions = items
        return np.mean([METRICS[metric](true, each) for each in predictions], axis=0)

    def record(self, scores: Scores, before: Scores | None = None) -> dict[str, Any]:
        """As of any protocol; with `before`, what the network reaches from scratch, each number of
        labels has `before` (the score), `before_scores` (of each draw) and `gain`, `gain_low`,
        `gain_high`, and `worth` is the sentence.

        The interval of a gain is Student's t over paired draws; with one draw, a bootstrap over
        test items at the most labels, and none below.
        """
        entry = super().record(scores, before)
        if before is None:
            return entry
        rows = []
        most = len(scores.details["by_labels"]) - 1
        for number, (row, scratch) in enumerate(
            zip(scores.details["by_labels"], before.details["by_labels"], strict=True)
        ):
            gain = seed_interval(np.subtract(row["scores"], scratch["scores"]).tolist())
            if number == most and row["draws"] == 1:
                drawn = [self.resampled(each, RESAMPLES) for each in (scores, before)]
                gain = bootstrap_interval(gain.mean, drawn[0] - drawn[1])
            rows.append(
                row
                | {"before": scratch["score"], "before_scores": scratch["scores"]}
                | {"gain": gain.mean, "gain_low": _known(gain.low), "gain_high": _known(gain.high)}
            )
        return entry | {"by_labels": rows, "worth": worth(rows)}


def draws_of(data: TaskData, labels: int, number: int) -> np.ndarray:
    """Indices of so many training examples; a larger draw of the same number holds them.

    Each class has one, then two, before any has more.
    """
    classes = np.zeros(len(data.train_labels)) if data.is_regression else data.train_labels
    return draw(classes, labels, seed=number)


def _tfidf(data: TaskData, draws: Sequence[np.ndarray]) -> float | None:
    """The mean score of TF-IDF on draws; None where inputs are no texts."""
    if not data.is_text:
        return None
    pairs = list(zip(data.train_inputs, data.train_labels.tolist(), strict=True))
    test = tuple(zip(data.test_inputs, data.test_labels.tolist(), strict=True))
    return float(
        np.mean([_tfidf_score(data.metric, tuple(pairs[k] for k in rows), test) for rows in draws])
    )


def _pixels(data: TaskData, draws: Sequence[np.ndarray]) -> float | None:
    """The mean score of raw pixels on draws; None where inputs are no pictures."""
    if not is_pictures(data):
        return None
    return float(np.mean([pixel_score(data, rows) for rows in draws]))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _entry(found: Sequence[float]) -> dict[str, Any]:
    """Scores of draws, their mean and its interval."""
    interval = seed_interval(found)
    return {
        "score": interval.mean,
        "low": _known(interval.low),
        "high": _known(interval.high),
        "scores": [*found],
    }


def worth(rows: Sequence[Mapping[str, Any]]) -> str:
    """What pretraining is worth against the same network from scratch, in one sentence.

    It names the largest number of labels whose gain has an interval above 0, and the gain there.

    rows: by rising numbers of labels, with `labels`, `gain`, `gain_low` and `gain_high` (None
        without an interval).
    """
    known = [row for row in rows if row["gain_low"] is not None]
    if not known:
        return "not known: no number of labels has an interval"
    above = [row for row in known if row["gain_low"] > 0]
    below = [row for row in known if row["gain_high"] < 0]
    losses = "".join(
        f", {_points(row['gain'])} points at {row['labels']:,} labels" for row in below
    )
    if not above:
        return f"worth nothing at any number of labels{losses}"
    last = above[-1]
    gain = f"worth {_points(last['gain'])} points"
    if last is not known[-1]:
        return f"{gain} up to {last['labels']:,} labels, nothing above{losses}"
    if len(above) == len(known):
        return f"{gain} at all numbers of labels measured"
    return f"{gain} at {last['labels']:,} labels, the most measured{losses}"


def _points(gain: float) -> str:
    return f"{100 * gain:+.1f}"
