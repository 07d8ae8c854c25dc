"""Words of sentences among a model's tokens, and the states that stand for them.

S sentences, n words in all, L layers, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lookaround.data.labelled import Sentence
from lookaround.evaluation.features import candidate_layers, state_batches
from lookaround.model.readable import Readable

# which of a word's sub-tokens its state is taken from; "later k": the k-th token behind it
LAST, MEAN = "last", "mean"
LATER = "later "


@dataclass(frozen=True)
class WordStates:
    """States of the words that a model reads, sentence by sentence.

    sentences: those that were read, of each the first words alone where it is longer.
    kept: (S,) int64, words of each.
    states: {pooling: (L, n, D) float32}, 0 for words without a sub-token.
    cut: words beyond the training length.
    lost: words that the tokenizer has no sub-token for.
    """

    sentences: list[Sentence]
    kept: np.ndarray
    states: dict[str, np.ndarray]
    cut: int
    lost: int


def align(words: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """The first and the last token of each word (W, 2) int64; -1 for a word without one.

    words, offsets: (start, end) of words and of tokens in characters of a text.

    A token is one of a word's if they have a character in common: the space in front of a word may
    be its, words may share tokens, and tokens that cover nothing belong to no word.
    """
    if not offsets or not words:
        return np.full((len(words), 2), -1)
    start, end = np.array(offsets).T
    word = np.array(words)
    common = np.minimum(end, word[:, 1:]) > np.maximum(start, word[:, :1])
    first, last = common.argmax(1), len(offsets) - 1 - common[:, ::-1].argmax(1)
    return np.where(common.any(1)[:, None], np.stack([first, last], 1), -1)


def word_states(
    readable: Readable,
    sentences: Sequence[Sentence],
    attention: str,
    poolings: Sequence[str] = (LAST, MEAN),
    *,
    backwards: bool = False,
) -> WordStates:
    """Reads whole sentences, nothing hidden, BOS first.

    attention: the kind of the mode; a prefix model sees the whole sentence both ways.
    poolings: "last" and "mean" of a word's sub-tokens; "later k": the state k tokens after its
        last, 0 where the sentence ends before.
    backwards: the model reads the same tokens from the last to the first, so "last" is the state
        of a word's first sub-token.

    Words from the first one on that ends beyond `readable.context` are cut.
    """
    codec, backbone = readable.tokenizer, readable.backbone
    encoded = codec.encode_with_offsets([sentence.text for sentence in sentences])
    ids, places, kept = [], [], np.zeros(len(sentences), dtype=np.int64)
    for number, (sentence, (tokens, offsets)) in enumerate(zip(sentences, encoded, strict=True)):
        place = align(sentence.words, offsets)
        beyond = place[:, 1] >= readable.context - 1
        kept[number] = beyond.argmax() if beyond.any() else len(beyond)
        place, tokens = place[: kept[number]], tokens[: readable.context - 1]
        if backwards:
            place = np.where(place < 0, -1, len(tokens) - 1 - place[:, ::-1])
            tokens = tokens[::-1]
        # BOS stands before them
        ids.append([codec.bos, *tokens])
        places.append(np.where(place < 0, -1, place + 1))
    begin = kept.cumsum() - kept
    layers = candidate_layers(backbone.sizes.layers)
    shape = (len(layers), int(kept.sum()), backbone.sizes.trunk)
    found = {pooling: np.zeros(shape, dtype=np.float32) for pooling in poolings}
    for batch, real, states in state_batches(backbone, codec, ids, attention):
        width = real.shape[1]
        length = np.repeat(real.sum(1).numpy(), kept[batch])
        row = np.repeat(np.arange(len(batch)), kept[batch])
        word = np.concatenate([np.arange(begin[k], begin[k] + kept[k]) for k in batch])
        first, last = np.concatenate([places[k] for k in batch]).T
        for pooling, into in found.items():
            low, high = _range(pooling, first, last)
            there = (low > 0) & (high < length)
            if not there.any():
                continue
            count = (high - low + 1)[there]
            member = np.repeat(np.arange(len(count)), count)
            offset = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
            flat = torch.from_numpy((row * width + low)[there][member] + offset)
            flat, of_word, size = (
                part.to(backbone.device)
                for part in (flat, torch.from_numpy(member), torch.from_numpy(count)[:, None])
            )
            for number, layer in enumerate(layers):
                state = states[layer].flatten(0, 1)[flat].float()
                mean = torch.zeros(len(count), state.shape[1], device=state.device)
                mean = mean.index_add_(0, of_word, state) / size
                into[number][word[there], : mean.shape[1]] = mean.cpu().numpy()
    lost = sum(int((place[:, 0] < 0).sum()) for place in places)
    cut = sum(len(sentence.words) for sentence in sentences) - int(kept.sum())
    read = [
        replace(sentence, words=sentence.words[:k], labels=sentence.labels[:k])
        for sentence, k in zip(sentences, kept, strict=True)
    ]
    return WordStates(read, kept, found, cut, lost)


def _range(pooling: str, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last token that a pooling averages, of each word; 0 and less: none."""
    if pooling == MEAN:
        return first, last
    if pooling == LAST:
        return last, last
    later = np.where(last > 0, last + int(pooling.removeprefix(LATER)), -1)
    return later, later
