"""Trees of draft tokens as data: which ranks are drafted, who sees whom, and how a tree grows from
measured accuracies.

A node is a path (i_1, .., i_k) of ranks: the i_k-th likeliest token of depth k, after those before
it. The root is the token that is certain; it is no node of the tree and stands at place 0 of
everything below, node m at place m + 1.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lookaround.support.errors import UserError

Path = tuple[int, ...]


@dataclass(frozen=True)
class Tree:
    """A prefix-closed set of paths in the order (length, ranks).

    Raises ValueError for one that is not.
    """

    paths: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        paths = tuple(
            sorted({tuple(int(i) for i in path) for path in self.paths}, key=lambda p: (len(p), p))
        )
        object.__setattr__(self, "paths", paths)
        known = {(), *paths}
        for path in paths:
            if not path or min(path) < 0:
                raise ValueError(
                    f"tree: {list(path)} is no path; a path is one rank from 0 up per depth"
                )
            if path[:-1] not in known:
                raise ValueError(
                    f"tree: {list(path)} is there without {list(path[:-1])}, from which it goes on"
                )

    @classmethod
    def chain(cls, depth: int) -> Tree:
        """The likeliest token of every depth, one after the other."""
        return cls(tuple((0,) * k for k in range(1, depth + 1)))

    @classmethod
    def cartesian(cls, ranks: Sequence[int]) -> Tree:
        """Every combination of the first `ranks[k]` tokens of depth k + 1."""
        paths = itertools.chain.from_iterable(
            itertools.product(*(range(r) for r in ranks[:k])) for k in range(1, len(ranks) + 1)
        )
        return cls(tuple(paths))

    @classmethod
    def from_json(cls, value: Any, origin: str = "tree") -> Tree:
        """A tree out of JSON, a list of lists of ranks; raises UserError naming the path that is
        amiss.
        """
        whole = isinstance(value, list) and all(
            isinstance(path, list)
            and all(isinstance(i, int) and not isinstance(i, bool) for i in path)
            for path in value
        )
        if not whole:
            raise UserError(f"{origin}: a tree is a list of paths such as [[0], [0, 0], [1]]")
        try:
            return cls(tuple(tuple(path) for path in value))
        except ValueError as error:
            raise UserError(f"{origin}: {error}") from None

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def depth(self) -> int:
        return max(map(len, self.paths), default=0)

    @cached_property
    def place(self) -> dict[Path, int]:
        """{path: place}, the root's included."""
        return {path: place for place, path in enumerate(((), *self.paths))}

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Places of the children of the node at each place, in order of their ranks."""
        below: list[list[int]] = [[] for _ in range(len(self) + 1)]
        for path in self.paths:
            below[self.place[path[:-1]]].append(self.place[path])
        return tuple(map(tuple, below))

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Place of the parent of each node, (nodes,)."""
        return tuple(self.place[path[:-1]] for path in self.paths)

    @cached_property
    def depths(self) -> Tensor:
        """Depth at each place, (nodes + 1,): how far after the root its token stands."""
        return torch.tensor([0, *map(len, self.paths)])

    @cached_property
    def mask(self) -> Tensor:
        """Who sees whom, (nodes + 1, nodes + 1) bool: each place its ancestors and itself."""
        mask = torch.zeros(len(self) + 1, len(self) + 1, dtype=torch.bool)
        mask[0, 0] = True
        for place, parent in enumerate(self.parents, start=1):
            mask[place] = mask[parent]
            mask[place, place] = True
        return mask

    def cut(self, depth: int) -> Tree:
        """The part of the tree down to a depth."""
        if depth >= self.depth:
            return self
        return Tree(tuple(path for path in self.paths if len(path) <= depth))


def grow(nodes: int, value: Callable[[Path], float], depth: int, width: int) -> Tree:
    """The tree of at most `nodes` nodes with the largest sum of values; nodes without value are
    left out.

    value(path): the probability that the whole path is right; at most its parent's. Since values
    only fall along a path, taking the connected node of the largest value at every step gives the
    best tree (Cai et al. 2024, section 2.3.3; the proof is in docs/decoding.md).
    """
    heap: list[tuple[float, int, Path]] = []

    def offer(path: Path) -> None:
        worth = value(path)
        if worth > 0:
            heapq.heappush(heap, (-worth, len(path), path))

    for rank in range(width):
        offer((rank,))
    chosen: list[Path] = []
    while heap and len(chosen) < nodes:
        _, length, path = heapq.heappop(heap)
        chosen.append(path)
        if length < depth:
            for rank in range(width):
                offer((*path, rank))
    return Tree(tuple(chosen))


def grow_from_accuracies(accuracies: Any, nodes: int) -> Tree:
    """Medusa's tree: accuracies (K, R), P(the i-th token of depth k is right), taken as independent
    of the other depths.
    """
    table = np.asarray(accuracies, dtype=np.float64)
    return grow(
        nodes,
        lambda path: float(np.prod([table[k, i] for k, i in enumerate(path)])),
        table.shape[0],
        table.shape[1],
    )


# --------------------------------------------------------------------------- from ranks met on text


def expected_tokens(tree: Tree, ranks: Sequence[np.ndarray]) -> tuple[float, np.ndarray]:
    """(tokens per step, steps begun at each position) of greedy decoding of texts with these ranks.

    ranks: per text (T, K), the rank at which depth k of position t holds the token that comes;
        negative = not among them. A step that begins at t takes the longest path of the tree that
        is right and one token more, and the next begins after it.
    """
    steps, tokens, begun = 0, 0, []
    known = tree.place
    for table in ranks:
        starts = np.zeros(len(table), dtype=bool)
        position = 0
        while position < len(table):
            starts[position] = True
            path: Path = ()
            for rank in table[position].tolist():
                if rank < 0 or (*path, rank) not in known:
                    break
                path = (*path, rank)
            steps += 1
            taken = min(len(path) + 1, len(table) - position)
            tokens += taken
            position += taken
        begun.append(starts)
    return tokens / max(steps, 1), np.concatenate(begun) if begun else np.zeros(0, dtype=bool)


def ranks_along(
    ranks: Sequence[np.ndarray], where: np.ndarray | None = None
) -> Callable[[Path], float]:
    """The value of a path: the share of positions at which all its ranks were right at once.

    Unlike products of accuracies this knows that depths are right together.
    where: (positions,) bool, those that count.
    """
    table = np.concatenate(list(ranks)) if len(ranks) else np.zeros((0, 0), dtype=int)
    if where is not None:
        table = table[where]
    counts: dict[Path, int] = {}
    for row in table.tolist():
        path: Path = ()
        for rank in row:
            if rank < 0:
                break
            path = (*path, rank)
            counts[path] = counts.get(path, 0) + 1
    total = max(len(table), 1)
    return lambda path: counts.get(path, 0) / total


def grow_from_ranks(
    ranks: Sequence[np.ndarray], nodes: Iterable[int], rounds: int = 3
) -> dict[int, tuple[Tree, float]]:
    """{budget: (tree, tokens per step)}: for every number of nodes the best tree for the positions
    at which its own steps begin.

    Steps begin more often where drafts fail, so the positions are found by simulating the tree of
    the round before. Ours.
    """
    width = 1 + max((int(table.max(initial=0)) for table in ranks), default=0)
    depth = ranks[0].shape[1] if len(ranks) else 0
    grown: dict[int, tuple[Tree, float]] = {}
    best = (Tree(), 1.0)
    for budget in sorted(nodes):
        where = None  # and the best of the smaller trees stays, where no larger one does better
        for _ in range(rounds):
            tree = grow(budget, ranks_along(ranks, where), depth, width)
            tokens, where = expected_tokens(tree, ranks)
            if tokens > best[1]:
                best = (tree, tokens)
        grown[budget] = best
    return grown
