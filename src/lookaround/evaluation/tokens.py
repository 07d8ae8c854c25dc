"""The linear probe of words: logistic regression on a frozen model's states of each word.

n words, L candidate layers, D hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lookaround.data.labelled import Sentence
from lookaround.evaluation.features import candidate_layers
from lookaround.evaluation.logistic import Logistic, fit_logistic
from lookaround.evaluation.probe import STRENGTHS
from lookaround.evaluation.registry import Protocol, Scores, TokenData
from lookaround.evaluation.tagging import labels_of, tag_items, tag_scores, tag_statistic
from lookaround.evaluation.words import LAST, LATER, MEAN, WordStates, word_states
from lookaround.model.readable import Readable
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError

# words that a choice is fitted on, and how exactly
CHOICE_WORDS = 8000
CHOICE_TOLERANCE = 1e-3


class _Choice(NamedTuple):
    """Where a word's features are taken from."""

    layer: int
    pooling: str


class Tokens(Protocol[TokenData]):
    """A linear probe of the state of each word; layer, sub-tokens and strength are chosen on
    training sentences.
    """

    name, needs, title = "tokens", TokenData, "score of words"
    need = "label_tokens"

    def run(
        self, readable: Readable, data: TokenData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        """Its items are counts of each test sentence."""
        return tokens_score(readable, data, settings, seed)

    def statistic(self, metric: str, *items: np.ndarray) -> np.ndarray:
        return tag_statistic(metric, *items)


def tokens_score(
    readable: Readable, data: TokenData, settings: EvaluateSettings, seed: int, later: int = 0
) -> Scores:
    """The probe of words on a model as classification reads it.

    later: so many next tokens are waited for: their states are appended to the word's, zeros where
        the sentence ends before. Of use for a model that reads from the left. All is chosen anew.

    Raises UserError where the training length leaves no word.
    """
    attention = Tokens().mode(readable, settings).attention
    behind = [f"{LATER}{k}" for k in range(1, later + 1)]
    train, test = (
        word_states(readable, sentences, attention, (LAST, MEAN, *behind))
        for sentences in (data.train, data.test)
    )

    def features(part: WordStates, choice: _Choice) -> np.ndarray:
        names = (choice.pooling, *behind)
        return np.concatenate([part.states[name][choice.layer] for name in names], 1)

    return _probe(data, train, test, features, (LAST, MEAN), readable, seed)


def both_ways(
    forward: Readable,
    backward: Readable,
    data: TokenData,
    settings: EvaluateSettings,
    seed: int,
) -> Scores:
    """The probe on two models of one tokenizer and size, one reading each way, side by side.

    forward: gives the state of a word's last sub-token.
    backward: reads BOS and the same tokens from the last to the first, and gives the state of the
        word's first sub-token.

    The layer is the same of both. Raises UserError where the training length leaves no word.
    """

    def side_by_side(sentences: Sequence[Sentence]) -> WordStates:
        left, right = (
            word_states(
                model,
                sentences,
                Tokens().mode(model, settings).attention,
                (LAST,),
                backwards=backwards,
            )
            for model, backwards in ((forward, False), (backward, True))
        )
        both = np.concatenate([left.states[LAST], right.states[LAST]], 2)
        return replace(left, states={LAST: both})

    def features(part: WordStates, choice: _Choice) -> np.ndarray:
        return part.states[choice.pooling][choice.layer]

    train, test = side_by_side(data.train), side_by_side(data.test)
    return _probe(data, train, test, features, (LAST,), forward, seed)


def _probe(
    data: TokenData,
    train: WordStates,
    test: WordStates,
    features: Callable[[WordStates, _Choice], np.ndarray],
    poolings: Sequence[str],
    readable: Readable,
    seed: int,
) -> Scores:
    """Chooses within the training part, fits all of it, and scores the test part."""
    layers = candidate_layers(readable.backbone.sizes.layers)
    for part, name in ((train, "training"), (test, "test")):
        if not part.kept.any():
            raise UserError(
                f"task '{data.name}': no word of its {name} sentences ends within the "
                f"{readable.context} tokens that the model reads; give a larger context"
            )
    fit, held, held_sentences = _parts(train, seed)
    labels = labels_of(train.sentences)

    def held_out(choice: _Choice, strength: float) -> float:
        found = features(train, choice)
        model = fit_logistic(found[fit], labels[fit], strength, CHOICE_TOLERANCE)
        items = tag_items(data, held_sentences, model.predict(found[held]))
        return float(tag_statistic(data.metric, *map(np.array, items)))

    usual = STRENGTHS[2]
    choices = [_Choice(layer, name) for name in poolings for layer in range(len(layers))]
    by_choice = {choice: held_out(choice, usual) for choice in choices}
    best = max(choices, key=by_choice.__getitem__)
    by_strength = {c: by_choice[best] if c == usual else held_out(best, c) for c in STRENGTHS}
    strength = max(STRENGTHS, key=by_strength.__getitem__)
    model: Logistic = fit_logistic(features(train, best), labels, strength)
    details = {
        "layer": layers[best.layer],
        "pooling": best.pooling,
        "strength": strength,
        "cut": train.cut + test.cut,
        "lost": train.lost + test.lost,
    }
    return tag_scores(data, test.sentences, model.predict(features(test, best)), details)


def _parts(train: WordStates, seed: int) -> tuple[np.ndarray, np.ndarray, list[Sentence]]:
    """(words to fit a choice on, words to judge it by, the sentences of those): a fifth is held.

    Sentences without a word that is read belong to neither.
    """
    filled = np.flatnonzero(train.kept)
    order = np.random.default_rng(seed).permutation(filled)
    fifth = max(1, len(order) // 5)
    held, fit = np.sort(order[:fifth]), order[fifth:]
    if not len(fit):
        fit = held
    enough = int(np.searchsorted(train.kept[fit].cumsum(), CHOICE_WORDS)) + 1
    begin = train.kept.cumsum() - train.kept

    def words(chosen: np.ndarray) -> np.ndarray:
        return np.concatenate([np.arange(begin[k], begin[k] + train.kept[k]) for k in chosen])

    return words(np.sort(fit[:enough])), words(held), [train.sentences[k] for k in held]
