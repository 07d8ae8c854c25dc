"""Trees of drafts: their tables are what a path-by-path reading gives, and grown trees are the best
there are.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest

from lookaround.decode.tree import (
    Path,
    Tree,
    expected_tokens,
    grow,
    grow_from_accuracies,
    grow_from_ranks,
    ranks_along,
)
from lookaround.support.errors import UserError


def random_tree(seed: int) -> Tree:
    """1 to 64 nodes, at most 6 deep, given in no order."""
    chance = random.Random(seed)
    paths: list[Path] = []
    for _ in range(chance.randint(1, 64)):
        parent = chance.choice([(), *(path for path in paths if len(path) < 6)])
        paths.append(
            (*parent, chance.choice([r for r in range(70) if (*parent, r) not in paths][:3]))
        )
    chance.shuffle(paths)
    return Tree(tuple(paths))


@pytest.mark.slow
def test_tables_of_a_thousand_trees_read_path_by_path() -> None:
    for seed in range(1000):
        tree = random_tree(seed)
        places = [(), *tree.paths]
        assert sorted(tree.paths, key=lambda path: (len(path), path)) == list(tree.paths)
        starts = [[above == path[: len(above)] for above in places] for path in places]
        assert tree.mask.tolist() == starts
        assert tree.depths.tolist() == [len(path) for path in places]
        assert [places[i] for i in tree.parents] == [path[:-1] for path in tree.paths]
        below = [[p for p in tree.paths if p[:-1] == path] for path in places]
        assert [[places[i] for i in children] for children in tree.children] == [
            sorted(b) for b in below
        ]
        assert len(tree) == len(tree.paths)
        for depth in range(tree.depth + 2):
            assert tree.cut(depth).paths == tuple(p for p in tree.paths if len(p) <= depth)


def test_the_empty_tree_is_the_root_alone() -> None:
    tree = Tree()
    assert (len(tree), tree.depth) == (0, 0)
    assert tree.mask.tolist() == [[True]]
    assert tree.children == ((),)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (((0, 0),), r"\[0, 0\] is there without \[0\]"),
        (((0,), (1, 2, 0)), r"\[1, 2, 0\] is there without \[1, 2\]"),
        (((0,), (0, -1)), r"\[0, -1\] is no path"),
        (((),), r"\[\] is no path"),
    ],
)
def test_what_is_no_tree_is_refused(paths: tuple[Path, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tree(paths)
    with pytest.raises(UserError, match=r"my\.json: .*" + message):
        Tree.from_json([list(path) for path in paths], "my.json")


@pytest.mark.parametrize("value", [None, 3, {}, [0], [[0], "00"], [[0], [True]], [[0.0]], [[[0]]]])
def test_json_that_is_no_list_of_paths_is_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"my\.json: a tree is a list of paths such as"):
        Tree.from_json(value, "my.json")


def test_json_and_order_and_repetition_make_no_difference() -> None:
    paths = [[0], [0, 1], [1], [0, 0]]
    assert Tree.from_json(paths) == Tree.from_json(paths[::-1]) == Tree.from_json(paths + paths)
    assert Tree.from_json(paths).paths == ((0,), (1,), (0, 0), (0, 1))
    assert Tree.from_json([]) == Tree()


def test_chains_and_products() -> None:
    for depth in range(6):
        assert Tree.chain(depth) == Tree.cartesian([1] * depth)
        assert (len(Tree.chain(depth)), Tree.chain(depth).depth) == (depth, depth)
    tree = Tree.cartesian((4, 3, 2))
    assert len(tree) == 4 + 12 + 24
    assert set(tree.paths) == {
        p[:k] for p in itertools.product(range(4), range(3), range(2)) for k in (1, 2, 3)
    }
    assert len(Tree.cartesian(())) == 0


# ------------------------------------------------------------------------------------------ growing


def best_sum(value: Callable[[Path], float], budget: int, depth: int, width: int) -> float:
    """The largest sum of values of any prefix-closed tree of at most `budget` nodes, by shares of
    it among subtrees.
    """

    def below(path: Path) -> list[float]:
        """[the best sum of n nodes below a path, n = 0 .. budget]"""
        best = [0.0] * (budget + 1)
        for rank in range(width if len(path) < depth else 0):
            child = (*path, rank)
            under = below(child)
            with_child = [0.0] + [value(child) + under[n - 1] for n in range(1, budget + 1)]
            best = [
                max(best[n - m] + with_child[m] for m in range(n + 1)) for n in range(budget + 1)
            ]
        return best

    return below(())[budget]


@pytest.mark.parametrize("seed", range(4))
def test_a_tree_grown_from_accuracies_is_the_best_there_is(seed: int) -> None:
    table = np.random.default_rng(seed).dirichlet(np.full(4, 0.7), 3)[:, :3]
    table = -np.sort(-table, axis=1)

    def value(path: Path) -> float:
        return float(np.prod([table[depth][rank] for depth, rank in enumerate(path)]))

    for budget in range(1, 9):
        tree = grow_from_accuracies(table, budget)
        assert len(tree) <= budget
        assert sum(map(value, tree.paths)) == pytest.approx(
            best_sum(value, budget, 3, 3), abs=1e-12
        )


@pytest.mark.parametrize("seed", range(4))
def test_a_tree_grown_from_joint_ranks_is_the_best_there_is(seed: int) -> None:
    ranks = np.random.default_rng(seed).choice([-1, 0, 1, 2], (60, 3), p=[0.2, 0.4, 0.25, 0.15])
    rows = [tuple(row) for row in ranks.tolist()]

    def share(path: Path) -> float:
        return sum(row[: len(path)] == path for row in rows) / len(rows)

    value = ranks_along([ranks[:25], ranks[25:]])
    for length in (1, 2, 3):
        for path in itertools.product(range(3), repeat=length):
            assert value(path) == pytest.approx(share(path))
    for budget in range(1, 9):
        tree = grow(budget, value, 3, 3)
        assert len(tree) <= budget
        assert sum(map(share, tree.paths)) == pytest.approx(
            best_sum(share, budget, 3, 3), abs=1e-12
        )


def test_only_the_positions_asked_for_count() -> None:
    value = ranks_along(
        [np.array([[0, 0], [1, 0]]), np.array([[1, 1]])], np.array([False, True, True])
    )
    assert [value(path) for path in ((0,), (1,), (1, 0), (1, 1))] == [0, 1, 0.5, 0.5]


def test_nodes_without_value_are_left_out() -> None:
    assert grow_from_accuracies([[0.5, 0.0], [0.0, 0.0]], 10) == Tree.chain(1)


def test_no_text_gives_no_tree() -> None:
    assert grow_from_ranks([], [3]) == {3: (Tree(), 1.0)}


# ---------------------------------------------------------------------------------- tokens per step


def rank_tables(seed: int) -> list[np.ndarray]:
    """Texts of uneven lengths whose depths are right together more often than by chance."""
    generator = np.random.default_rng(seed)
    tables = []
    for length in (40, 1, 77, 120):
        easy = generator.random((length, 1)) < 0.5
        ranks = generator.integers(-1, 4, (length, 4))
        tables.append(np.where(easy & (generator.random((length, 4)) < 0.8), 0, ranks))
    return tables


@pytest.mark.parametrize("seed", range(5))
def test_expected_tokens_are_those_of_a_walk(seed: int) -> None:
    tables = rank_tables(seed)
    for tree in (Tree(), Tree.chain(4), Tree.cartesian((3, 2, 2)), random_tree(seed).cut(4)):
        steps, flags = 0, []
        for table in tables:
            left = [tuple(row) for row in table.tolist()]
            while left:
                fit = [len(path) for path in tree.paths if left[0][: len(path)] == path]
                gone = left[: max(fit, default=0) + 1]
                left = left[len(gone) :]
                flags += [True] + [False] * (len(gone) - 1)
                steps += 1
        tokens, begun = expected_tokens(tree, tables)
        assert tokens == pytest.approx(sum(map(len, tables)) / steps)
        assert begun.tolist() == flags


@pytest.mark.parametrize("seed", range(5))
def test_a_larger_budget_is_no_worse(seed: int) -> None:
    tables = rank_tables(seed)
    grown = grow_from_ranks(tables, range(1, 41))
    tokens = [grown[budget][1] for budget in range(1, 41)]
    assert tokens == sorted(tokens)
    assert tokens[-1] > tokens[0] > 1
    for budget, (tree, expected) in grown.items():
        assert len(tree) <= budget
        assert expected == expected_tokens(tree, tables)[0]


def test_a_chain_of_medusas_7b_heads_gives_1_78_tokens() -> None:
    right = np.array([0.560, 0.316, 0.201, 0.147, 0.118])
    tree = grow_from_accuracies(right[:, None], 5)
    assert tree == Tree.chain(5)
    assert round(1 + np.cumprod(right).sum(), 2) == 1.78
    ranks = np.where(np.random.default_rng(0).random((60_000, 5)) < right, 0, -1)
    assert expected_tokens(tree, [ranks])[0] == pytest.approx(1.78, abs=0.02)
