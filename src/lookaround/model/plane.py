"""Rotary positions in two dimensions for rows of pictures, in the configuration of a stock Llama.

A token at row r and column c of a picture with W columns stands at r * W + c + 1 behind BOS. Rotary
embeddings tell by each pair of dimensions how far two tokens are from one another, modulo a period.
Half of the pairs get frequencies whose periods divide W: they tell the columns between two tokens
and nothing of the rows. The other half turn slowly, so that they tell the rows, and a column as the
W-th part of one. Such frequencies are what `rope_type: longrope` lists as factors of the usual
ones, so that transformers reads them from config.json. Ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FASTEST_ROW = np.pi / 2  # radians a row


def frequencies(pairs: int, grid: tuple[int, int]) -> np.ndarray:
    """Radians a token of each pair of dimensions, (pairs,): columns first, then rows."""
    rows, columns = grid
    most = max(1, columns // 2)
    across = max(1, pairs // 2)
    turns = np.unique(np.rint(np.geomspace(1, most, across)).astype(int))
    turns = np.resize(turns, across)
    slowest = min(FASTEST_ROW, np.pi / max(rows, 2))
    down = np.geomspace(FASTEST_ROW, slowest, pairs - across)
    return np.concatenate([2 * np.pi * turns / columns, down / columns])


def turn_in_plane(config: Any, grid: tuple[int, int]) -> None:
    """Gives a Llama's configuration the frequencies of a grid (rows, columns)."""
    width = config.hidden_size // config.num_attention_heads
    usual = config.rope_parameters["rope_theta"] ** (-np.arange(0, width, 2) / width)
    factors = (usual / frequencies(width // 2, grid)).tolist()
    config.rope_parameters = {
        **config.rope_parameters,
        "rope_type": "longrope",
        "short_factor": factors,
        "long_factor": factors,
        "factor": 1.0,
        "attention_factor": 1.0,
        "original_max_position_embeddings": config.max_position_embeddings,
    }
