"""Word order in the user's own text: what a linear bag of single words cannot tell.

Sentences of the validation part and altered copies of them are what a probe is fitted on, those of
the test part what it is scored on. Of each kind a group is two sentences and their two copies, four
texts, whose words are the same in both classes, so that no weights of single words tell the classes
apart. Ours; after the swaps of Conneau et al. 2018 (arXiv 1805.01070).

n texts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from lookaround.data.rows import Rows
from lookaround.data.text import TextTokenizer
from lookaround.evaluation.baselines import Baseline
from lookaround.evaluation.features import candidate_layers, encoded, pooled_states
from lookaround.evaluation.pairs import Pairs, preferred
from lookaround.evaluation.probe import fitted, linear_probe
from lookaround.evaluation.registry import Protocol, Scores, TextData
from lookaround.model.readable import Readable
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError

WORDS_OF_SENTENCE = range(6, 41)
LEAST_SENTENCES = 50
# the beginning of a document that sentences are taken from
TOKENS_OF_DOCUMENT = 20_000
# pairs of each kind whose likelihoods are compared
LIKELIHOOD_PAIRS = 100
SENTENCE_END = re.compile(r"\n+|(?<=[.!?…])\s+|(?<=[。！？])")
WORD = re.compile(r"\w+")
TOKEN_PATTERN = r"(?u)\b\w+\b|[^\w\s]"

Group = tuple[str, str, str, str]  # two sentences and their altered copies


@dataclass(frozen=True)
class Items:
    """{kind: groups} of the validation and of the test part."""

    train: dict[str, list[Group]]
    test: dict[str, list[Group]]


# ---------------------------------------------------------------------------- what is asked


def sentences_of(rows: Rows, most: int, without: frozenset[str] = frozenset()) -> list[str]:
    """Different sentences of 6 to 40 words that fit a row, spread over documents, in random order.

    A sentence ends with a line, or after .!?… and the like. Its spaces are single ones.
    """
    split, codec, generator = rows.split, rows.codec, np.random.default_rng(0)
    documents = generator.permutation(len(split.length))
    share = max(5, math.ceil(most / len(documents)))
    found: dict[str, None] = {}
    for document in documents:
        if len(found) >= most:
            break
        ids = split.read(document, 0, min(split.length[document], TOKENS_OF_DOCUMENT))
        pieces = [" ".join(part.split()) for part in SENTENCE_END.split(codec.decode(ids.tolist()))]
        fitting = [part for part in pieces if len(part.split()) in WORDS_OF_SENTENCE]
        for i in generator.permutation(len(fitting))[:share]:
            found[fitting[i]] = None
    kept = [sentence for sentence in found if sentence not in without]
    lengths = [len(ids) for ids in codec.encode(kept)]
    # with BOS, EOS, and what an exchanged word may take more
    return [part for part, n in zip(kept, lengths, strict=True) if n + 8 <= rows.width][:most]


def _swapped(sentence: str, generator: np.random.Generator) -> str | None:
    """With two different neighbours swapped, neither the first word nor the last one."""
    words = sentence.split()
    places = [
        i
        for i in range(1, len(words) - 2)
        if words[i].casefold() != words[i + 1].casefold()
        and all(WORD.fullmatch(word) for word in words[i : i + 2])
    ]
    if not places:
        return None
    i = int(generator.choice(places))
    words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join(words)


def _swap(sentences: list[str], generator: np.random.Generator) -> Iterator[Group]:
    """Two neighbours swapped, or not."""
    copies = [(sentence, _swapped(sentence, generator)) for sentence in sentences]
    both = [(sentence, copy) for sentence, copy in copies if copy is not None]
    for (one, one_copy), (other, other_copy) in zip(both[::2], both[1::2], strict=False):
        yield one, other, one_copy, other_copy


def _exchange(sentences: list[str], generator: np.random.Generator) -> Iterator[Group]:
    """A word exchanged for one of about its frequency in these sentences, between two of them."""
    counts = Counter(word for sentence in sentences for word in sentence.split())
    for one, other in zip(sentences[::2], sentences[1::2], strict=False):
        words = one.split(), other.split()
        inner: list[list[int]] = [
            [i for i in range(1, len(part) - 1) if WORD.fullmatch(part[i])] for part in words
        ]
        pairs = [
            (i, j)
            for i in inner[0]
            for j in inner[1]
            if words[0][i].casefold() != words[1][j].casefold()
            and words[0][i].islower() == words[1][j].islower()
            and _bucket(counts[words[0][i]]) == _bucket(counts[words[1][j]])
        ]
        if pairs:
            i, j = pairs[int(generator.integers(len(pairs)))]
            words[0][i], words[1][j] = words[1][j], words[0][i]
            yield one, other, " ".join(words[0]), " ".join(words[1])


def _bucket(count: int) -> int:
    """Of a frequency: powers of 2."""
    return count.bit_length()


def _continuation(sentences: list[str], generator: np.random.Generator) -> Iterator[Group]:
    """The second half is the true one, or that of another sentence of about the same length."""
    ordered = sorted(sentences, key=lambda sentence: len(sentence.split()))
    places = generator.permutation(len(ordered) // 2)
    for place in places:
        one, other = (ordered[2 * place + i].split() for i in (0, 1))
        halves = [(part[: len(part) // 2], part[len(part) // 2 :]) for part in (one, other)]
        if halves[0][1] != halves[1][1]:
            mixed = [halves[0][0] + halves[1][1], halves[1][0] + halves[0][1]]
            yield (*(" ".join(part) for part in (one, other, *mixed)),)  # type: ignore[misc]


KINDS: dict[str, Callable[[list[str], np.random.Generator], Iterator[Group]]] = {
    "swap": _swap,
    "exchange": _exchange,
    "continuation": _continuation,
}


@lru_cache(maxsize=2)
def order_items(validation: Rows, test: Rows, most_train: int, most_test: int) -> Items:
    """The same items for every model; a sentence and its altered copies are of one part.

    Raises UserError where either part has too few sentences.
    """
    parts, seen = [], frozenset[str]()
    for name, rows, most in (("validation", validation, most_train), ("test", test, most_test)):
        groups = most // (4 * len(KINDS))
        # more than needed: not every sentence has words to swap or to exchange
        sentences = sentences_of(rows, max(4 * groups, 2 * LEAST_SENTENCES), seen)
        if len(sentences) < LEAST_SENTENCES:
            raise UserError(
                f"evaluate.protocols: 'order' needs {LEAST_SENTENCES} sentences of "
                f"{WORDS_OF_SENTENCE.start} to {WORDS_OF_SENTENCE.stop - 1} words that fit "
                f"{rows.width} tokens in the {name} part, which has {len(sentences)}; leave it out "
                "or give more text"
            )
        seen = frozenset(sentences)
        generator = np.random.default_rng(1)
        made = {kind: list(make(sentences, generator))[:groups] for kind, make in KINDS.items()}
        parts.append(made)
    both = [kind for kind in KINDS if all(len(part[kind]) >= 10 for part in parts)]
    return Items(*({kind: part[kind] for kind in both} for part in parts))


def _items(data: TextData, settings: EvaluateSettings) -> Items:
    return order_items(data.validation, data.test, settings.order_train, settings.order_test)


def _flat(groups: list[Group]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(texts, whether they are altered, their groups' numbers), (n,) each."""
    texts = [text for group in groups for text in group]
    return texts, np.tile([0, 0, 1, 1], len(groups)), np.repeat(np.arange(len(groups)), 4)


def _scores(right: dict[str, np.ndarray], details: dict[str, Any]) -> Scores:
    """The scores of {kind: whether each text was told right (n,)}; their items are groups."""
    items = np.concatenate([column.reshape(-1, 4).mean(1) for column in right.values()])
    by_kind = {
        kind: {"score": float(column.mean()), "texts": len(column)}
        for kind, column in right.items()
    }
    return Scores(
        "accuracy", float(items.mean()), [items.tolist()], {"by_kind": by_kind, **details}
    )


# ---------------------------------------------------------------------------- who answers


class Order(Protocol[TextData]):
    """Share of sentences told from copies with other word order, by a linear probe of states.

    Details: "by_kind" ({kind: {"score", "texts", "layer"}}), "cut" texts, and "likelihood"
    ({"score", "mode", "by_kind"}): how often the chain rule finds the sentence more probable than
    its copy, on some of them.
    """

    name, needs, title = "order", TextData, "word order"

    def accepts(self, data: object) -> bool:
        return isinstance(data, TextData) and isinstance(data.test.codec, TextTokenizer)

    def run(
        self, readable: Readable, data: TextData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        items, attention = _items(data, settings), self.mode(readable, settings).attention
        parts = (items.train, items.test)
        groups = [group for part in parts for kind in part.values() for group in kind]
        texts = list(dict.fromkeys(text for group in groups for text in group))
        number = {text: i for i, text in enumerate(texts)}
        ids, cut = encoded(readable.codec, texts, readable.context)
        states_lnd = pooled_states(readable.backbone, readable.codec, ids, attention)
        layers = candidate_layers(readable.backbone.sizes.layers)
        right, layer = {}, {}
        for kind in items.test:
            (fit, fit_labels, of), (held, labels, _) = (_flat(part[kind]) for part in parts)
            probe = linear_probe(
                states_lnd[:, [number[text] for text in fit]],
                fit_labels,
                states_lnd[:, [number[text] for text in held]],
                labels,
                seed=seed,
                groups=of,
            )
            right[kind], layer[kind] = probe.predicted == labels, layers[probe.layer]
        scores = _scores(right, {"cut": cut, "likelihood": _likelihood(readable, items, settings)})
        for kind, told in scores.details["by_kind"].items():
            told["layer"] = layer[kind]
        return scores

    def cost(self, data: TextData, settings: EvaluateSettings) -> dict[str, int]:
        """Raises UserError where there are too few sentences."""
        items = _items(data, settings)
        groups = sum(len(part) for side in (items.train, items.test) for part in side.values())
        return {"texts": 4 * groups}


def _likelihood(readable: Readable, items: Items, settings: EvaluateSettings) -> dict[str, Any]:
    """How often the chain rule finds a sentence more probable than its altered copy."""
    mode, outcomes = Pairs().mode(readable, settings), {}
    for kind, groups in items.test.items():
        few = groups[: LIKELIHOOD_PAIRS // 2]
        good, bad = ([group[i + j] for group in few for i in (0, 1)] for j in (0, 2))
        found = preferred(readable, mode, good, bad)
        if not np.isnan(found).all():
            outcomes[kind] = float(np.nanmean(found))
    score = float(np.mean([*outcomes.values()])) if outcomes else None
    return {"score": score, "mode": str(mode), "by_kind": outcomes}


class _Words(Baseline[TextData]):
    """A linear classifier of words, fitted and scored on the same texts."""

    needs, beside = TextData, ("order",)

    def accepts(self, data: object) -> bool:
        return isinstance(data, TextData) and isinstance(data.test.codec, TextTokenizer)

    def vectorizer(self) -> CountVectorizer:
        raise NotImplementedError

    def run(
        self, readable: Readable | None, data: TextData, settings: EvaluateSettings, seed: int
    ) -> Scores:
        items, right = _items(data, settings), {}
        for kind in items.test:
            (fit, fit_labels, _), (held, labels, _) = (
                _flat(part[kind]) for part in (items.train, items.test)
            )
            model = make_pipeline(self.vectorizer(), LogisticRegression(max_iter=300))
            right[kind] = fitted(model, fit, fit_labels).predict(held) == labels
        return _scores(right, {})


class OrderBag(_Words):
    """A linear bag of single words, which no order changes: 0.5 but for chance."""

    name, key, title = "order_bag", "bag", "bag of single words"

    def vectorizer(self) -> CountVectorizer:
        return CountVectorizer(token_pattern=TOKEN_PATTERN)


class OrderTfIdf(_Words):
    """TF-IDF with word pairs and logistic regression: what word pairs alone say of order."""

    name, key, title = "order_tfidf", "tfidf", "TF-IDF with word pairs"

    def vectorizer(self) -> CountVectorizer:
        return TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=TOKEN_PATTERN)
