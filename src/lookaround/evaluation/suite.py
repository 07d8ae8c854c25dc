"""Both halves of one model: probes on every task, chain-rule bits per byte, and sampled continuations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lookaround.data.rows import Rows
from lookaround.data.tasks import Task
from lookaround.data.text import TextTokenizer
from lookaround.decode.sampling import continue_tokens
from lookaround.evaluation.bits_per_byte import (
    ScoredTokens,
    bits_per_byte,
    chain_rule_bits,
    choose_tokens,
    default_prefix_lengths,
)
from lookaround.evaluation.features import candidate_layers, pooled_states
from lookaround.evaluation.modes import classification_mode, generation_mode
from lookaround.evaluation.probe import linear_probe, majority, tfidf
from lookaround.model.backbone import Backbone
from lookaround.objectives.contract import Mode
from lookaround.settings import EvaluateSettings

__all__ = ["ProbeData", "baselines", "evaluate_model", "probe_data", "scored_tokens"]

PROMPT_TOKENS = 32


@dataclass(frozen=True)
class ProbeData:
    """The examples of a task that every model is probed on: at most probe_train and probe_test, drawn once."""

    name: str
    metric: str
    train_texts: list[str]
    train_labels: np.ndarray
    test_texts: list[str]
    test_labels: np.ndarray


def probe_data(task: Task, settings: EvaluateSettings) -> ProbeData:
    """Draws a task's examples with a fixed seed, the same for every model; at least two of each training class are kept."""
    train = _draw(np.array(task.train_labels), settings.probe_train)
    test = _draw(np.array(task.test_labels), settings.probe_test)
    return ProbeData(
        task.name, task.metric,
        [task.train_texts[i] for i in train], np.array(task.train_labels)[train],
        [task.test_texts[i] for i in test], np.array(task.test_labels)[test],
    )  # fmt: skip


def _draw(labels: np.ndarray, most: int) -> np.ndarray:
    """Indices of a random subset; the first two of every class come first, so that none is lost."""
    order = np.random.default_rng(0).permutation(len(labels))
    if len(order) <= most:
        return np.sort(order)
    seen: dict[int, int] = {}
    first: list[int] = []
    rest: list[int] = []
    for i in order:
        seen[int(labels[i])] = seen.get(int(labels[i]), 0) + 1
        (first if seen[int(labels[i])] <= 2 else rest).append(i)
    return np.sort(np.array([*first, *rest][:most]))


def baselines(data: ProbeData) -> dict[str, float]:
    """What needs no pretraining: the majority class, and TF-IDF with logistic regression, on the same examples."""
    return {
        "majority": majority(data.train_labels, data.test_labels, data.metric),
        "tfidf": tfidf(data.train_texts, data.train_labels, data.test_texts, data.test_labels, data.metric),
    }


def scored_tokens(rows: Rows, settings: EvaluateSettings) -> ScoredTokens:
    """The list of scored tokens of a test split, the same for every model of that tokenizer and training length."""
    lengths = tuple(settings.prefix_lengths or default_prefix_lengths(rows.width))
    if settings.prefix_lengths is None:
        longest = int(rows.length.max(initial=0))
        lengths = tuple(length for length in lengths if length < longest - 1) or (1,)
    return choose_tokens(rows, lengths, settings.positions)


def probe_tasks(
    backbone: Backbone,
    tokenizer: TextTokenizer,
    mode: Mode,
    context: int,
    tasks: Sequence[ProbeData],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """By task: score, chosen layer and strength, predictions, and how many texts were cut to the training length."""
    results = {}
    for data in tasks:
        train, cut_train = pooled_states(backbone, tokenizer, data.train_texts, mode.attention, context)
        test, cut_test = pooled_states(backbone, tokenizer, data.test_texts, mode.attention, context)
        probe = linear_probe(train, data.train_labels, test, data.test_labels, metric=data.metric, seed=seed)
        layers = candidate_layers(backbone.lm.config.get_text_config().num_hidden_layers)
        results[data.name] = {
            "score": probe.score,
            "layer": layers[probe.layer],
            "strength": probe.strength,
            "predicted": probe.predicted.tolist(),
            "cut": cut_train + cut_test,
        }
    return results


def evaluate_model(
    backbone: Backbone,
    tokenizer: TextTokenizer,
    modes: tuple[Mode, ...],
    final_modes: tuple[Mode, ...],
    *,
    context: int,
    tasks: Sequence[ProbeData],
    rows: Rows | None,
    scored: ScoredTokens | None,
    settings: EvaluateSettings,
    seed: int,
) -> dict[str, Any]:
    """Both halves of a model, as plain data; `rows` is the test split that `scored` was drawn from (None: no text given).

    modes: all that were trained, for classification; final_modes: those that the end of the budget trained, for generation,
    since `ar >> mlm` forgets its causal mode.
    """

    def pick(asked: str | None, default: Mode) -> Mode:
        return next((mode for mode in modes if mode.attention == asked), default)

    read = pick(settings.classification_mode, classification_mode(modes))
    write = pick(settings.generation_mode, generation_mode(final_modes))
    result: dict[str, Any] = {
        "classification_mode": str(read),
        "generation_mode": str(write),
        "classification": probe_tasks(backbone, tokenizer, read, context, tasks, seed),
    }
    if rows is not None and scored is not None:
        bits = chain_rule_bits(backbone, rows, scored, write)
        total, by_prefix = bits_per_byte(bits, scored)
        result |= {"bits": bits.tolist(), "bits_per_byte": total, "bits_per_byte_by_prefix": by_prefix}
        result["samples"] = _samples(backbone, tokenizer, rows, write, context, settings, seed)
    return result


def _samples(
    backbone: Backbone,
    tokenizer: TextTokenizer,
    rows: Rows,
    mode: Mode,
    context: int,
    settings: EvaluateSettings,
    seed: int,
) -> list[dict[str, str]]:
    """Continuations of the beginnings of test documents, spread over the split; the same prompts for every model."""
    documents = len(rows.split.length)
    samples = []
    for document in np.linspace(0, documents - 1, min(settings.samples, documents)).astype(int):
        prompt = rows.split.read(document, 0, min(PROMPT_TOKENS, context // 2))[1:].tolist()
        ids = continue_tokens(
            backbone, tokenizer, prompt, mode,
            context=context, max_new_tokens=settings.sample_tokens, temperature=settings.temperature, seed=seed,
        )  # fmt: skip
        samples.append({"prompt": tokenizer.decode(prompt), "continuation": tokenizer.decode(list(ids))})
    return samples
