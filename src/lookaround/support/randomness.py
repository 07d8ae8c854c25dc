"""Counter-based randomness: every draw is a function of a key, not of the draws before it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

# streams with fixed numbers; the number of any other stream is a hash of its name
_NUMBERED = ("select", "replace", "token", "rate", "suffix", "cut", "far", "component", "problem")


def stream_number(name: str) -> int:
    """The 64-bit number of a stream of draws: new names need no registration."""
    if name in _NUMBERED:
        return _NUMBERED.index(name) + 1
    above = 1 << 16
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return above + digest % ((1 << 64) - above)


def mix64(state: Any) -> Any:
    """SplitMix64's finaliser (Steele et al. 2014; Stafford's variant 13), a 64-bit bijection."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def keyed_uniform(seed: int, epoch: int, row: Tensor, stream: str, width: int) -> Tensor:
    """Uniform numbers in [0, 1), (B, width) float64, a function of the arguments and position.

    A counter-based generator: SplitMix64 started at a hash of the key. Ours.
    """
    gamma = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        key = np.uint64(stream_number(stream))
        for part in (seed, epoch):
            key = mix64(np.asarray((key + gamma) ^ np.uint64(part & 0xFFFFFFFFFFFFFFFF)))
        keys = mix64((key + gamma) ^ row.numpy().astype(np.uint64))
        counters = np.arange(1, width + 1, dtype=np.uint64) * gamma
        bits = mix64(keys[:, None] + counters)
    return torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def shuffled(index: np.ndarray, size: int, seed: int) -> np.ndarray:
    """The entries at `index` (n,) of range(size) repeated endlessly, in a new order each epoch."""
    epochs, places = np.divmod(index, size)
    order = np.empty_like(places)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        order[here] = permute(places[here], size, seed, int(epoch))
    return order


def permute(places: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """Where a random permutation of range(size) sends `places` (n,), computed without a table.

    A four-round Feistel network over the next even number of bits, walked along its cycle until it
    lands below `size`.
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    with np.errstate(over="ignore"):
        keys = mix64(
            mix64(np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15))
            + np.uint64(epoch) * np.uint64(4)
            + np.arange(4, dtype=np.uint64)
        )
        value = places.astype(np.uint64)
        pending = np.ones(len(value), dtype=bool)
        while pending.any():
            left, right = value[pending] >> np.uint64(half), value[pending] & low
            for key in keys:
                left, right = right, left ^ (mix64(right + key) & low)
            value[pending] = (left << np.uint64(half)) | right
            pending = value >= np.uint64(size)
    return value.astype(np.int64)
