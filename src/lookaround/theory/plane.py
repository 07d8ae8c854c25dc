"""Lags of pictures: offsets in the plane from the nearest visible token to the target.

A picture is rows of W tokens behind BOS. The offset (dr, dc), target position - context position,
is numbered dr * S + dc with S = 2 W - 1, so that C_-l is C_l transposed as of text and everything
that reads lag counts (theory/matrices.py) reads these. BOS stands nowhere in the plane: targets
that see nothing else are left out. Distances are Euclidean, ties are split. Ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from lookaround.data.shards import TokenStore
from lookaround.objectives.objective import Objective
from lookaround.support.errors import UserError
from lookaround.theory.lags import LagCounts, Lags, file_of
from lookaround.theory.law import nearest_by_distance
from lookaround.theory.tally import tally, write_tally

Grid = tuple[int, int]  # rows and columns of tokens


def lag_of(offset: tuple[int, int], grid: Grid) -> int:
    """The number of an offset (rows, columns)."""
    return offset[0] * (2 * grid[1] - 1) + offset[1]


def offset_of(lag: int, grid: Grid) -> tuple[int, int]:
    """The offset of a number."""
    stride = 2 * grid[1] - 1
    rows = (lag + grid[1] - 1) // stride
    return rows, lag - rows * stride


def distances(grid: Grid) -> np.ndarray:
    """(T, T) between the places of the tokens of a picture; infinite from and to BOS."""
    rows, columns = grid
    place = np.stack(np.divmod(np.arange(rows * columns), columns), 1).astype(float)
    found = np.full((rows * columns + 1, rows * columns + 1), np.inf)
    found[1:, 1:] = np.sqrt(((place[:, None] - place[None]) ** 2).sum(-1))
    return found


def plane_contexts(objective: Objective, grid: Grid, reach: int | None = None) -> dict[Lags, float]:
    """{(number of an offset,): probability} from the nearest visible token to the target.

    reach: the most rows or columns of an offset; None: all. Sums to 1 minus the mass beyond, and
    that of targets that see BOS alone.
    """
    most = max(grid) if reach is None else reach
    shares: defaultdict[Lags, float] = defaultdict(float)
    for (target, context), mass in nearest_by_distance(objective, distances(grid)).items():
        to, of = divmod(target - 1, grid[1]), divmod(context - 1, grid[1])
        offset = (to[0] - of[0], to[1] - of[1])
        if max(map(abs, offset)) <= most:
            shares[(lag_of(offset, grid),)] += mass
    return dict(sorted(shares.items()))


def count_plane(
    store: TokenStore,
    lags: Iterable[Lags],
    *,
    split: str = "train",
    on_progress: Callable[[int, int, int], None] | None = None,
) -> LagCounts:
    """Counts pairs of tokens at offsets of pictures, kept beside the store's tokens.

    lags: numbers of offsets; an offset and its opposite are counted once.
    on_progress: called with (offsets done, offsets in all, tokens of an offset).

    Raises UserError for offsets that no picture is large enough for, counts of another store, and a
    full disk.
    """
    grid = store.codec.grid
    assert grid is not None
    rows, columns = grid
    wanted = list(dict.fromkeys(abs(lag) for (lag,) in lags))
    folder = store.folder / f"counts-plane-{split}"
    part = store.split(split)
    tokens = np.concatenate([np.asarray(file) for file in part.files])
    tokens = tokens.reshape(len(part.length), -1)[:, 1:].reshape(-1, rows, columns)
    begun = (folder / "index.json").is_file()
    counts = LagCounts.load(folder, store) if begun else LagCounts.begun(folder, store, split)
    missing = [lag for lag in wanted if (lag,) not in counts.pairs]
    code = counts.code(1)
    for done, lag in enumerate(missing, 1):
        down, across = offset_of(lag, grid)
        if down >= rows or abs(across) >= columns:
            raise UserError(
                f"an offset of {down} rows and {across} columns: pictures have {rows} x {columns} "
                "tokens; give a smaller one"
            )
        context = tokens[:, : rows - down, max(0, -across) : columns - max(0, across)]
        target = tokens[:, down:, max(0, across) : columns - max(0, -across)]
        found = tally(code.keys([context.ravel().astype(np.uint32)], target.ravel()))
        write_tally(file_of(folder, (lag,)), found)
        counts.pairs[(lag,)] = found.total
        counts.write_index()
        if on_progress is not None:
            on_progress(done, len(missing), tokens.size)
    return LagCounts.load(folder, store)
