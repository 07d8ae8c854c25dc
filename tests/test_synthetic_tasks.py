"""Problems of the synthetic tasks: read back from their text by parsers of the test's own, they are
what they say, fair, and in one part.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import operator
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, fields
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import lookaround
from lookaround.report import load_results
from lookaround.settings import read_settings
from lookaround.studies.synthetic.grid import open_grid, run_grid
from lookaround.studies.synthetic.job import SyntheticJob, run_job
from lookaround.studies.synthetic.tasks import SPLITS, Problems, Task, parse_task
from lookaround.studies.synthetic.tasks.addition import Addition
from lookaround.studies.synthetic.tasks.countdown import Countdown
from lookaround.studies.synthetic.tasks.pathstar import PathStar
from lookaround.support.errors import UserError

# a line of the published data: 2 arms, paths of 5 nodes, 50 labels
PUBLISHED = "32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12=32,34,6,16,12"
NUMBER = r"(?:0|[1-9]\d*)"
PAIR = f"{NUMBER},{NUMBER}"
Edge = tuple[int, int]
Graph = tuple[int, frozenset[tuple[int, ...]]]


def fair(counts: Iterable[int]) -> bool:
    """Whether counts look like draws of equally likely outcomes."""
    return stats.chisquare(list(counts)).pvalue > 1e-4


def lines(task: Task, tokens: np.ndarray | torch.Tensor) -> list[str]:
    return [task.text(row) for row in tokens.tolist()]


def encoded(task: Task, line: str) -> list[int]:
    """The tokens of a line whose numbers are single words."""
    return [task.words.index(word) for word in re.findall(r"\d+|[^\d,]", line)]


# --------------------------------------------------------------------------------- path-star graphs


class Star(NamedTuple):
    """What a line says: its edges as listed, what is asked, and the answer."""

    edges: list[Edge]
    start: int
    goal: int
    answer: list[int]


def read_star(line: str, query: str) -> Star:
    listed, asked = rf"(?P<edges>{PAIR}(?:\|{PAIR})*)", rf"(?P<start>{NUMBER}),(?P<goal>{NUMBER})"
    prompt = f"{listed}/{asked}" if query == "after" else f"{asked}/{listed}"
    match = re.fullmatch(rf"{prompt}=(?P<answer>{NUMBER}(?:,{NUMBER})*)", line)
    assert match, line
    edges = [(int(a), int(b)) for a, b in (pair.split(",") for pair in match["edges"].split("|"))]
    return Star(
        edges, int(match["start"]), int(match["goal"]), [int(n) for n in match["answer"].split(",")]
    )


def walks(edges: list[Edge], node: int, goal: int, seen: tuple[int, ...] = ()) -> list[list[int]]:
    """Every walk from a node to a goal along the edges that visits no node twice."""
    if node == goal:
        return [[*seen, node]]
    return [
        walk
        for a, b in edges
        if a == node and b not in (*seen, node)
        for walk in walks(edges, b, goal, (*seen, node))
    ]


def graph_of(star: Star) -> Graph:
    """The start and the set of arms, each from the start's neighbour to the leaf: the graph,
    however it is put.
    """
    leaves = {b for _, b in star.edges} - {a for a, _ in star.edges}
    arms = [tuple(walk[1:]) for leaf in leaves for walk in walks(star.edges, star.start, leaf)]
    return star.start, frozenset(arms)


def assert_path_star(task: PathStar, line: str) -> None:
    """A line is a problem of a task, as the paper defines it."""
    d, l, query = task.degree, task.length, task.query  # noqa: E741
    edges, start, goal, answer = star = read_star(line, query)
    labels = {start} | {label for edge in edges for label in edge}
    assert len(edges) == d * (l - 1)
    assert len(labels) == d * (l - 1) + 1
    assert max(labels) < task.symbols
    assert sum(a == start for a, _ in edges) == d
    assert sorted(b for _, b in edges) == sorted(labels - {start}), (
        "every other node has one edge into it"
    )
    _, arms = graph_of(star)
    assert len(arms) == d
    assert {len(arm) for arm in arms} == {l - 1}
    assert len({label for arm in arms for label in arm}) == d * (l - 1), "arms share no node"
    assert goal in {arm[-1] for arm in arms}
    (path,) = walks(edges, start, goal)
    assert len(path) == l
    assert answer == (path[:2] if task.hop else path)
    if task.edges == "arm":
        for first in range(0, len(edges), l - 1):
            arm = edges[first : first + l - 1]
            assert [a for a, _ in arm] == [start, *(b for _, b in arm[:-1])], (
                "an arm is listed from the start on"
            )
            assert tuple(b for _, b in arm) in arms


@st.composite
def star_tasks(draw: st.DrawFn) -> PathStar:
    degree, length = draw(st.integers(2, 5)), draw(st.integers(2, 6))
    labels = degree * (length - 1) + 1 + draw(st.integers(0, 20))
    query, edges = (
        draw(st.sampled_from(["before", "after"])),
        draw(st.sampled_from(["shuffled", "arm"])),
    )
    return PathStar(
        degree, length, labels=labels, query=query, edges=edges, hop=draw(st.booleans())
    )


seeds = st.integers(0, 1 << 62)
numbers = st.lists(st.integers(0, 1 << 50), min_size=1, max_size=6)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(task=star_tasks(), seed=seeds, number=numbers, attempt=st.integers(0, 3))
def test_a_row_is_a_path_star_graph_with_its_path(
    task: PathStar, seed: int, number: list[int], attempt: int
) -> None:
    tokens, key = task.draw(seed, np.array(number), attempt)
    assert tokens.shape == (len(number), task.width)
    assert key.shape == (len(number),)
    edges = task.degree * (task.length - 1)
    assert task.prompt == 3 * edges + 3
    assert task.answer == (2 if task.hop else task.length)
    assert task.width == task.prompt + task.answer
    for row in tokens.tolist():
        assert_path_star(task, task.text(row))
        assert task.text(row[: task.prompt]).endswith("=")
        star = read_star(task.text(row), task.query)
        assert row[task.prompt :] == star.answer, "the token of a label is the label"
        assert row[task.prompt + task.decision] == star.answer[1]


def test_a_line_of_the_published_data_is_of_this_grammar() -> None:
    task = PathStar(2, 5, labels=50)
    assert_path_star(task, PUBLISHED)
    row = encoded(task, PUBLISHED)
    assert len(row) == task.width == 27 + 5
    assert task.text(row) == PUBLISHED
    assert task.solved(torch.tensor([row]), torch.tensor([row[27:]])).tolist() == [True]


def test_words_have_the_published_numbers() -> None:
    for labels in (9, 50):
        task = PathStar(2, 5, labels=labels)
        assert [task.text([token]) for token in range(labels)] == [
            str(label) for label in range(labels)
        ]
        assert task.text([labels, labels + 1, labels + 2, labels + 3]) == "|=/$"
        assert task.vocabulary.size == labels + 4
        assert task.vocabulary.mask == labels + 3
        assert task.vocabulary.ordinary().tolist() == list(range(labels + 3))


def test_the_control_is_the_same_problem_with_a_shorter_answer() -> None:
    whole, hop = PathStar(3, 4, labels=15), PathStar(3, 4, labels=15, hop=True)
    a, b = whole.draw(1, np.arange(50), 0), hop.draw(1, np.arange(50), 0)
    assert np.array_equal(a.tokens[:, : hop.width], b.tokens)
    assert np.array_equal(a.key, b.key)
    assert (whole.spec, hop.spec) == ("pathstar(3,4,labels=15)", "pathstar(3,4,labels=15,hop=True)")
    assert (whole.control, hop.control, Addition(3).control) == (hop, None, None)
    assert whole.chance == hop.chance == 1 / 3


@pytest.mark.parametrize("hop", [False, True])
def test_only_the_whole_path_solves_a_graph(hop: bool) -> None:
    task = PathStar(2, 4, labels=12, hop=hop)
    tokens = torch.from_numpy(task.draw(0, np.arange(20), 0).tokens)
    answers = tokens[:, task.prompt :].clone()
    assert task.solved(tokens, answers).all()
    for place in range(task.answer):
        wrong = answers.clone()
        wrong[::2, place] = (wrong[::2, place] + 1) % task.symbols
        assert task.solved(tokens, wrong).tolist() == [False, True] * 10


# ----------------------------------------------------------------------------------------- fairness


@pytest.mark.parametrize("query", ["after", "before"])
@pytest.mark.parametrize(("degree", "length"), [(2, 4), (5, 2), (3, 3)])
def test_labels_edges_and_goals_are_drawn_fairly(degree: int, length: int, query: str) -> None:
    task = PathStar(degree, length, labels=degree * (length - 1) + 4, query=query)
    stars = [
        read_star(line, query) for line in lines(task, task.draw(5, np.arange(4000), 0).tokens)
    ]
    assert fair(np.bincount([star.start for star in stars], minlength=task.symbols))
    assert fair(np.bincount([star.edges[0][1] for star in stars], minlength=task.symbols))
    assert fair(np.bincount([star.goal for star in stars], minlength=task.symbols))
    slots = len(stars[0].edges)
    for hop in range(length - 1):
        places = [star.edges.index((star.answer[hop], star.answer[hop + 1])) for star in stars]
        assert fair(np.bincount(places, minlength=slots)), hop
    arrivals = [[e for e in star.edges if e[0] == star.start] for star in stars]
    first = [e.index((s.start, s.answer[1])) for e, s in zip(arrivals, stars, strict=True)]
    assert fair(np.bincount(first, minlength=degree)), "the first edge from the start tells nothing"
    ranks = [
        sorted(b for _, b in e).index(s.answer[1]) for e, s in zip(arrivals, stars, strict=True)
    ]
    assert fair(np.bincount(ranks, minlength=degree)), "nor does the size of a label"


@pytest.mark.slow
@pytest.mark.parametrize("degree", [2, 3, 5])
def test_the_goal_is_in_any_arm_of_those_that_are_listed(degree: int) -> None:
    task = PathStar(degree, 3, labels=2 * degree + 3, edges="arm")
    stars = [
        read_star(line, "after") for line in lines(task, task.draw(6, np.arange(4000), 0).tokens)
    ]
    arm = [[b for _, b in star.edges].index(star.goal) // 2 for star in stars]
    assert fair(np.bincount(arm, minlength=degree))
    assert fair(np.bincount([star.start for star in stars], minlength=task.symbols))
    ranks = [sorted(b for _, b in star.edges[1::2]).index(star.goal) for star in stars]
    assert fair(np.bincount(ranks, minlength=degree))
    table = np.zeros((task.symbols, degree))
    np.add.at(table, ([star.start for star in stars], arm), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-4, (
        "the goal's arm does not depend on the start"
    )


def test_all_graphs_and_orders_of_edges_are_as_likely_as_one_another() -> None:
    task = PathStar(2, 2, labels=4)
    seen = Counter(lines(task, task.draw(2, np.arange(6000), 0).tokens))
    assert len(seen) == 4 * 3 * 2 * 2, "a start, two leaves in order, a goal"
    assert fair(seen.values())


# -------------------------------------------------------------------------------------- keyed draws

TASKS = [
    PathStar(3, 4, labels=20),
    PathStar(2, 3, labels=6, query="before", edges="arm", hop=True),
    Addition(3),
    Countdown(3, 30),
    Countdown(5, 99),
]
# whatever file was added, as it is by default
TASKS += [
    kind()
    for kind in Task.registry.values()
    if all(item.default is not MISSING for item in fields(kind))
    and kind() not in TASKS
    and "exact_match" in kind.figures  # others have tests of their own
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.spec)
@pytest.mark.parametrize("split", SPLITS)
def test_a_number_of_a_seed_is_one_problem_in_whatever_batch(task: Task, split: str) -> None:
    problems = Problems(task, split)
    whole = problems.take(3, np.arange(120))
    order = np.random.default_rng(0).permutation(120)
    for part in (order[:1], order[:50], order[50:], order, np.repeat(order[:3], 4)):
        batch = problems.take(3, part)
        assert torch.equal(batch.tokens, whole.tokens[part])
        assert batch.row.tolist() == part.tolist()
    other = problems.take(4, np.arange(120)).tokens
    assert (other != whole.tokens).any(1).float().mean() > 0.8, "another seed has other problems"
    assert problems.take(3, order[:5], np.arange(5) + 1000).row.tolist() == list(range(1000, 1005))
    assert problems.width == whole.tokens.shape[1] == task.width
    assert whole.scorable is not None
    assert whole.scorable.equal(torch.arange(task.width).expand(120, -1) >= task.prompt)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    seed=seeds, number=numbers, task=st.sampled_from(TASKS), split=st.sampled_from(sorted(SPLITS))
)
def test_a_problem_drawn_alone_is_the_same(
    seed: int, number: list[int], task: Task, split: str
) -> None:
    problems = Problems(task, split)
    whole = problems.take(seed, np.array(number)).tokens
    assert torch.equal(
        whole, torch.cat([problems.take(seed, np.array([n])).tokens for n in number])
    )


def test_many_problems_are_drawn_in_parts_to_the_same_effect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = Problems(PathStar(2, 3, labels=10), "validation")
    whole = part.take(5, np.arange(100)).tokens
    monkeypatch.setattr("lookaround.studies.synthetic.tasks.base.DRAWN_AT_ONCE", 7)
    assert torch.equal(part.take(5, np.arange(100)).tokens, whole)


def test_without_a_fixed_set_every_place_is_a_new_problem() -> None:
    problems = Problems(PathStar(3, 4, labels=20), "train")
    assert torch.equal(
        problems.at(1, np.arange(300)).tokens, problems.take(1, np.arange(300)).tokens
    )
    assert len(problems.at(1, np.arange(300)).tokens.unique(dim=0)) == 300


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(samples=st.integers(1, 70), seed=st.integers(0, 1000), part=st.integers(1, 50))
def test_every_epoch_is_the_fixed_set_in_some_order(samples: int, seed: int, part: int) -> None:
    problems = Problems(PathStar(3, 3, labels=20), "train", samples=samples)
    places = np.arange(4 * samples)
    batches = [problems.at(seed, places[i : i + part]) for i in range(0, len(places), part)]
    assert torch.cat([batch.row for batch in batches]).tolist() == places.tolist(), (
        "rows go on from epoch to epoch"
    )
    rows = lines(problems.task, torch.cat([batch.tokens for batch in batches]))
    fixed = lines(problems.task, problems.take(seed, np.arange(samples)).tokens)
    epochs = [rows[i : i + samples] for i in range(0, len(rows), samples)]
    assert all(sorted(epoch) == sorted(fixed) for epoch in epochs)
    if samples >= 16:
        assert len(set(map(tuple, epochs))) == 4, "and the order is a new one"


# -------------------------------------------------------------------------------------------- parts


def canonical(task: Task, line: str) -> object:
    """What a problem is, however it is put, read from its text."""
    if isinstance(task, PathStar):
        return graph_of(read_star(line, task.query))
    if isinstance(task, Addition):
        return tuple(sorted(line.split("=")[0].split("+")))
    return tuple(sorted(line.split("|")[0].split(","))), line.split("=")[0].split("|")[1]


def canonical_of(task: Task, tokens: np.ndarray | torch.Tensor) -> set:
    return {canonical(task, line) for line in lines(task, tokens)}


SMALL = [
    PathStar(2, 3, labels=6),
    PathStar(2, 3, labels=6, query="before", edges="arm"),
    PathStar(2, 3, labels=6, query="before", hop=True),
    PathStar(2, 3, labels=6, query="after", edges="arm", hop=True),
    PathStar(3, 2, labels=6),
    PathStar(2, 2, labels=7),
    Addition(1),
    Countdown(2, 12),
]


def small_name(task: Task) -> str:
    return task.spec


@pytest.mark.slow
@pytest.mark.parametrize("task", SMALL, ids=small_name)
def test_parts_share_no_problem_and_leave_none_out(task: Task) -> None:
    parts = {
        s: canonical_of(task, Problems(task, s).take(0, np.arange(3500)).tokens) for s in SPLITS
    }
    everything = canonical_of(task, task.draw(9, np.arange(5000), 0).tokens)
    for one, other in itertools.combinations(parts.values(), 2):
        assert not one & other
    assert set().union(*parts.values()) == everything


@pytest.mark.slow
def test_all_360_graphs_of_two_arms_on_six_labels_fall_in_the_parts_by_their_shares() -> None:
    task = PathStar(2, 3, labels=6)
    parts = {
        s: canonical_of(task, Problems(task, s).take(0, np.arange(4000)).tokens) for s in SPLITS
    }
    assert sum(map(len, parts.values())) == 360, "6! / (1! 2!) graphs"
    for split, share in {"test": 0.2, "validation": 0.1, "train": 0.7}.items():
        assert len(parts[split]) / 360 == pytest.approx(share, abs=0.06), split


@pytest.mark.parametrize(
    "task", [PathStar(3, 3, labels=30), Addition(4), Countdown(4, 100)], ids=small_name
)
def test_parts_have_their_shares_of_many_problems(task: Task) -> None:
    share = task.draw(0, np.arange(20_000), 0).key / 2.0**64
    for split, (low, high) in SPLITS.items():
        inside = ((share >= low) & (share < high)).mean()
        assert inside == pytest.approx(
            {"test": 0.2, "validation": 0.1, "train": 0.7}[split], abs=0.015
        )


@pytest.mark.slow
def test_a_key_is_that_of_the_graph_however_it_is_put() -> None:
    keys: defaultdict[object, set[int]] = defaultdict(set)
    prompts: defaultdict[object, set[str]] = defaultdict(set)
    for seed, task in enumerate(SMALL[:4]):
        tokens, key = task.draw(seed, np.arange(3000), 0)
        for line, number in zip(lines(task, tokens), key.tolist(), strict=True):
            keys[canonical(task, line)].add(number)
            prompts[canonical(task, line)].add(line.split("=")[0])
    assert len(keys) == 360
    assert min(map(len, prompts.values())) > 8, "each was put in many ways"
    assert {len(found) for found in keys.values()} == {1}
    assert len(set().union(*keys.values())) == 360, "and no two graphs share a key"


@pytest.mark.parametrize("task", [Addition(1), Countdown(2, 12), Countdown(3, 6)], ids=small_name)
def test_a_key_is_that_of_the_sum_however_it_is_put(task: Task) -> None:
    keys: defaultdict[object, set[int]] = defaultdict(set)
    prompts: defaultdict[object, set[str]] = defaultdict(set)
    tokens, key = task.draw(1, np.arange(5000), 0)
    for line, number in zip(lines(task, tokens), key.tolist(), strict=True):
        keys[canonical(task, line)].add(number)
        prompts[canonical(task, line)].add(line.split("=")[0])
    assert max(map(len, prompts.values())) > 1
    assert {len(found) for found in keys.values()} == {1}
    assert len(set().union(*keys.values())) == len(keys)


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_problems_of_a_part_are_as_likely_as_one_another(split: str) -> None:
    task = PathStar(2, 3, labels=5)
    drawn = Problems(task, split).take(4, np.arange(3000)).tokens
    assert fair(Counter(canonical(task, line) for line in lines(task, drawn)).values())


def test_a_part_without_problems_is_refused() -> None:
    task = PathStar(2, 2, labels=3)  # 3 graphs: a start and the two others
    share = task.draw(0, np.arange(200), 0).key / 2.0**64
    empty = [
        split
        for split, (low, high) in SPLITS.items()
        if not ((share >= low) & (share < high)).any()
    ]
    assert empty
    for split in empty:
        with pytest.raises(
            UserError, match=rf"task pathstar\(2,2,labels=3\): too few problems for a {split} part"
        ):
            Problems(task, split).take(0, np.arange(4))


@pytest.mark.slow
@pytest.mark.parametrize("task", [*TASKS, *SMALL], ids=small_name)
def test_distinct_problems_are_of_the_part_and_put_differently(task: Task) -> None:
    batch = Problems(task, "test").distinct(0, 40)
    rows = lines(task, batch.tokens)
    assert 1 <= len(rows) <= 40
    assert len({line.split("=")[0] for line in rows}) == len(rows) == len(batch.row)
    assert batch.scorable is not None
    assert batch.scorable.shape == batch.tokens.shape
    for split in ("train", "validation"):
        others = canonical_of(task, Problems(task, split).take(0, np.arange(1500)).tokens)
        assert not others & {canonical(task, line) for line in rows}
    assert torch.equal(batch.tokens, Problems(task, "test").distinct(0, 40).tokens)


@pytest.mark.parametrize(
    "task", [PathStar(2, 2, labels=5), Addition(1), Countdown(2, 4)], ids=small_name
)
@pytest.mark.parametrize("count", [500, 3000])
def test_where_there_are_fewer_problems_all_of_them_are_found(task: Task, count: int) -> None:
    problems = Problems(task, "test")
    every = {line.split("=")[0] for line in lines(task, problems.take(7, np.arange(5000)).tokens)}
    assert len(every) < count
    assert {line.split("=")[0] for line in lines(task, problems.distinct(0, count).tokens)} == every


def test_as_many_problems_are_found_as_are_asked_for_where_there_are_as_many() -> None:
    problems = Problems(Countdown(2, 4), "test")
    prompts = problems.take(7, np.arange(2000)).tokens[:, : problems.task.prompt].unique(dim=0)
    assert len(problems.distinct(1, 6).tokens) == min(6, len(prompts))


# ----------------------------------------------------------------------------------------- addition


@settings(max_examples=60, deadline=None)
@given(digits=st.integers(1, 9), seed=seeds, number=numbers)
def test_a_sum_is_right_and_padded(digits: int, seed: int, number: list[int]) -> None:
    task = Addition(digits)
    tokens = task.draw(seed, np.array(number), 0).tokens
    assert tokens.shape == (len(number), task.width)
    assert (task.prompt, task.answer, task.spec) == (
        2 * digits + 2,
        digits + 1,
        f"addition({digits})",
    )
    for row in tokens.tolist():
        match = re.fullmatch(
            rf"(\d{{{digits}}})\+(\d{{{digits}}})=(\d{{{digits + 1}}})", task.text(row)
        )
        assert match
        assert int(match[1]) + int(match[2]) == int(match[3])
        assert task.text(row[: task.prompt]) == f"{match[1]}+{match[2]}="


def test_all_sums_of_digits_are_drawn_and_both_orders_have_one_key() -> None:
    task = Addition(1)
    tokens, key = task.draw(0, np.arange(4000), 0)
    seen = Counter(lines(task, tokens))
    assert set(seen) == {f"{a}+{b}={a + b:02}" for a in range(10) for b in range(10)}
    assert fair(seen.values())
    keys = dict(zip(lines(task, tokens), key.tolist(), strict=True))
    assert all(
        keys[f"{a}+{b}={a + b:02}"] == keys[f"{b}+{a}={a + b:02}"]
        for a in range(10)
        for b in range(10)
    )
    assert len(set(keys.values())) == 55


def test_every_place_of_a_number_takes_every_digit() -> None:
    task = Addition(3)
    tokens = task.draw(0, np.arange(3000), 0).tokens
    for place in (0, 1, 2, 4, 5, 6, 9, 10, 11):
        assert fair(np.bincount(tokens[:, place], minlength=10)), place
    assert np.unique(tokens[:, 8]).tolist() == [0, 1]
    assert (tokens[:, 8] == 1).mean() == pytest.approx(0.5, abs=0.03), "as hard to guess as a coin"
    assert Addition(3).chance == pytest.approx(1 - 499_500 / 10**6), (
        "sums from 1000 up: 499,500 pairs"
    )


def test_only_the_sum_solves_an_addition() -> None:
    task = Addition(2)
    row = [1, 7, 10, 8, 5, 11, 1, 0, 2]
    assert task.text(row) == "17+85=102"
    answers = torch.tensor([[1, 0, 2], [1, 0, 3], [0, 0, 2], [12, 0, 2]])
    assert task.solved(torch.tensor([row] * 4), answers).tolist() == [True, False, False, False]


# ---------------------------------------------------------------------------------------- countdown

ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def made(left: int, sign: str, right: int) -> Fraction | None:
    """What a step makes, exactly; None for a division by zero."""
    if sign == "/" and right == 0:
        return None
    return ARITHMETIC[sign](Fraction(left), Fraction(right))


def is_right(line: str, most: int) -> bool:
    """Whether the answer in a line uses every number once, in steps that hold, and reaches the
    target.
    """
    prompt, _, answer = line.partition("=")
    given_numbers, target = prompt.split("|")
    held = [int(number) for number in given_numbers.split(",")]
    steps = answer.split(";")
    if len(steps) != len(held) - 1:
        return False
    for step in steps:
        match = re.fullmatch(rf"({NUMBER})([-+*/])({NUMBER})=({NUMBER})", step)
        if not match:
            return False
        left, right, result = int(match[1]), int(match[3]), int(match[4])
        for number in (left, right):
            if number not in held:
                return False
            held.remove(number)
        if made(left, match[2], right) != result or not 1 <= result <= most:
            return False
        held.append(result)
    return held == [int(target)]


def judged(task: Countdown, line: str) -> bool:
    """What the task says of the answer in a line."""
    row = torch.tensor([encoded(task, line)])
    assert row.shape[1] == task.width, line
    return bool(task.solved(row, row[:, task.prompt :]))


countdowns = st.builds(Countdown, st.integers(2, 6), st.integers(4, 120))


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(task=countdowns, seed=seeds, number=numbers)
def test_a_drawn_answer_is_right(task: Countdown, seed: int, number: list[int]) -> None:
    tokens = task.draw(seed, np.array(number), 0).tokens
    assert tokens.shape == (len(number), task.width)
    assert (task.prompt, task.answer) == (task.numbers + 3, 6 * (task.numbers - 1) - 1)
    for row in tokens.tolist():
        line = task.text(row)
        assert is_right(line, task.most), line
        found = [int(n) for n in re.findall(r"\d+", line.split("|")[0])]
        assert len(found) == task.numbers
        assert all(1 <= n <= task.most for n in found)
        assert encoded(task, line) == row
    assert task.solved(torch.from_numpy(tokens), torch.from_numpy(tokens[:, task.prompt :])).all()
    assert task.several


def test_the_numbers_are_fair_and_every_operation_occurs() -> None:
    task = Countdown(3, 20)
    rows = lines(task, task.draw(0, np.arange(4000), 0).tokens)
    for place in range(3):
        column = [int(line.split("|")[0].split(",")[place]) for line in rows]
        assert fair(np.bincount(column, minlength=21)[1:])
    signs = Counter(sign for line in rows for sign in re.findall(r"[-+*/]", line))
    assert set(signs) == set("+-*/")
    assert min(signs.values()) > 200


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("3,7,2|20=7+3=10;10*2=20", True),
        ("3,7,2|20=3+7=10;2*10=20", True),  # the other way about
        ("2,7,3|20=3+7=10;10*2=20", True),  # the numbers in another order
        ("3,7,2|20=7*2=14;14+3=17", False),  # another target
        ("3,7,2|20=7+3=11;10*2=20", False),  # wrong arithmetic, first step
        ("3,7,2|20=7+3=10;10+2=20", False),  # wrong arithmetic, last step
        ("3,7,2|20=7+3=10;10+10=20", False),  # a result used twice
        ("5,7,2|20=5+5=10;10*2=20", False),  # a number used twice
        ("5,5,2|20=5+5=10;10*2=20", True),  # but it was there twice
        ("3,7,2|20=7+3=10;5*4=20", False),  # numbers that are not there
        ("3,7,2|20=4*5=20;4*5=20", False),
        ("3,7,2|10=7*2=14;7+3=10", False),  # 7 is gone
        ("3,7,2|4=3-7=4;2*2=4", False),  # a difference the wrong way about
        ("7,2,3|3=7/2=3;3/1=3", False),  # a division with a remainder
        ("8,2,3|12=8/2=4;4*3=12", True),
        ("8,2,3|12=2/8=4;4*3=12", False),
        ("3,3,5|5=3/3=1;1*5=5", True),
        ("3,3,5|5=3/3=1;5/1=5", True),
        ("3,3,5|5=3-3=0;5/0=5", False),  # no division by zero
        ("3,3,5|5=3-3=0;0/5=5", False),
        (
            "3,7,2|20=7+3|10;10*2=20",
            False,
        ),  # another token where = or ; or a number or a sign should be
        ("3,7,2|20=7+3=10;10*2;20", False),
        ("3,7,2|20=7+3=10=10*2=20", False),
        ("3,7,2|20=7+3=10|10*2=20", False),
        ("3,7,2|20=7|3=10;10*2=20", False),
        ("3,7,2|20=7=3=10;10*2=20", False),
        ("3,7,2|20=7;3=10;10*2=20", False),
        ("3,7,2|20=+7+=10;10*2=20", False),
        ("3,7,2|20=7+3=10;10*2=+", False),
        ("3,7,2|20=7+3=/;/*2=20", False),
        ("3,7,2|20=7,7,7,7,7,7,7,7,7,7,7", False),
    ],
)
def test_answers_by_hand(line: str, right: bool) -> None:
    assert is_right(line, 50) == right
    assert judged(Countdown(3, 50), line) == right


def test_a_dummy_is_no_part_of_an_answer() -> None:
    task = Countdown(3, 50)
    row = torch.tensor([encoded(task, "3,7,2|20=7+3=10;10*2=20")])
    for place in range(task.answer):
        answer = row[:, task.prompt :].clone()
        answer[0, place] = task.vocabulary.mask
        assert not task.solved(row, answer)


@pytest.mark.parametrize("line", ["5,46,1|50=5+46=+;+-1=50", "10,47,7|50=10+47=;;;-7=50"])
def test_a_sign_is_no_number(line: str) -> None:
    task = Countdown(3, 50)
    row = torch.tensor([encoded(task, line)])
    assert not task.solved(row, row[:, task.prompt :])


def test_no_step_gives_zero() -> None:
    assert not judged(Countdown(3, 50), "3,3,5|5=3-3=0;5+0=5")


@pytest.mark.parametrize("given_numbers", [(1, 1, 1), (6, 3, 2), (4, 4, 7), (9, 8, 2), (10, 5, 1)])
def test_of_all_that_can_be_written_the_right_answers_are_taken(
    given_numbers: tuple[int, ...],
) -> None:
    task, seen = Countdown(3, 12), Counter[bool]()
    for a, b, c in set(itertools.permutations(given_numbers)):
        for sign, later in itertools.product("+-*/", repeat=2):
            first = made(a, sign, b)
            if first not in range(1, 13):
                continue
            for left, right in ((first, c), (c, first)):
                last = made(int(left), later, int(right))
                if last not in range(1, 13):
                    continue
                steps = f"{a}{sign}{b}={first};{left}{later}{right}={last}"
                for target in range(1, 13):
                    line = f"{','.join(map(str, given_numbers))}|{target}={steps}"
                    assert judged(task, line) == is_right(line, 12) == (target == last), line
                    seen[target == last] += 1
    assert min(seen[True], seen[False]) >= 6


STEPS = 3  # of the answers that are changed at random


@st.composite
def changed_answers(draw: st.DrawFn) -> tuple[Countdown, list[int]]:
    """A drawn problem whose answer has been changed a few times: by tokens, operands, signs or
    whole steps.
    """
    task = Countdown(STEPS + 1, draw(st.sampled_from([4, 6, 9, 30])))
    row = (
        task.draw(draw(st.integers(0, 999)), np.array([draw(st.integers(0, 999))]), 0)
        .tokens[0]
        .tolist()
    )
    prompt, answer = row[: task.prompt], row[task.prompt :]
    place, step = st.integers(0, task.answer - 1), st.integers(0, STEPS - 1)
    for change in draw(
        st.lists(st.sampled_from(["token", "swap", "turn", "sign", "mend", "steps"]), max_size=4)
    ):
        at = 6 * draw(step)
        if change == "token":
            answer[draw(place)] = draw(st.sampled_from([*prompt, *range(len(task.words) + 1)]))
        elif change == "swap":
            i, j = draw(place), draw(place)
            answer[i], answer[j] = answer[j], answer[i]
        elif change == "turn":
            answer[at], answer[at + 2] = answer[at + 2], answer[at]
        elif change == "sign":
            answer[at + 1] = task.words.index(draw(st.sampled_from("+-*/")))
        elif change == "mend" and (
            match := re.fullmatch(r"(\d+)([-+*/])(\d+)", task.text(answer[at : at + 3]))
        ):
            result = made(int(match[1]), match[2], int(match[3]))
            answer[at + 4] = int(result) if result in range(task.most + 1) else answer[at + 4]
        elif change == "steps":
            other = 6 * draw(step)
            first, second = answer[at : at + 5], answer[other : other + 5]
            answer[at : at + 5], answer[other : other + 5] = second, first
    return task, prompt + answer


@pytest.mark.slow
@settings(max_examples=600, deadline=None)
@given(changed=changed_answers())
def test_a_changed_answer_is_taken_if_and_only_if_it_is_right(
    changed: tuple[Countdown, list[int]],
) -> None:
    task, row = changed
    line = task.text(row)
    tokens = torch.tensor([row])
    assert bool(task.solved(tokens, tokens[:, task.prompt :])) == is_right(line, task.most), line


def test_answers_are_judged_row_by_row() -> None:
    task = Countdown(3, 50)
    tokens = torch.from_numpy(task.draw(0, np.arange(30), 0).tokens)
    answers = tokens[:, task.prompt :]
    shifted = answers.roll(1, 0)
    mixed = torch.where((torch.arange(30) % 3 == 0)[:, None], answers, shifted)
    expected = [
        is_right(task.text([*row[: task.prompt], *answer]), 50)
        for row, answer in zip(tokens.tolist(), mixed.tolist(), strict=True)
    ]
    assert task.solved(tokens, mixed).tolist() == expected
    assert any(expected)
    assert not all(expected)


# -------------------------------------------------------------------------------------------- specs


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("pathstar(3,5)", PathStar(3, 5)),
        (" pathstar( 3, 5 ) ", PathStar(3, 5)),
        ("pathstar(degree=3, length=5)", PathStar(3, 5)),
        ("pathstar(3, length=5)", PathStar(3, 5)),
        ("pathstar(2,2)", PathStar(2, 2, labels=None)),
        ("pathstar(3,5,hop=True)", PathStar(3, 5, hop=True)),
        ("pathstar(3,5,labels=40,edges=arm)", PathStar(3, 5, labels=40, edges="arm")),
        ("pathstar(3,5,query='before')", PathStar(3, 5, query="before")),
        ("addition", Addition(3)),
        ("addition(4)", Addition(4)),
        (" addition( 4 ) ", Addition(4)),
        ("countdown", Countdown(3, 50)),
        ("countdown(4)", Countdown(4, 50)),
        ("countdown(4,60)", Countdown(4, 60)),
        ("countdown(most=60, numbers=4)", Countdown(4, 60)),
    ],
)
def test_a_spec_is_a_task(text: str, task: Task) -> None:
    assert parse_task(text) == task
    assert parse_task(task.spec) == task, "the canonical spec is the task's own"
    assert pickle.loads(pickle.dumps(task)) == task, "it travels to a job's process"


def test_two_labels_are_drawn_from_for_each_node_unless_told() -> None:
    assert (PathStar(3, 5).symbols, PathStar(2, 2).symbols, PathStar(3, 5, labels=40).symbols) == (
        26,
        6,
        40,
    )
    assert PathStar(3, 5).words == PathStar(3, 5, labels=26).words


def test_settings_stand_in_where_a_spec_is_silent() -> None:
    defaults = {"labels": 40, "query": "before", "edges": "arm"}
    task = parse_task("pathstar(3,5,hop=True)", defaults)
    assert task == PathStar(3, 5, labels=40, query="before", edges="arm", hop=True)
    assert task.spec == "pathstar(3,5,labels=40,query='before',edges='arm',hop=True)"
    assert parse_task("pathstar(3,5,labels=13,query=after)", defaults) == PathStar(
        3, 5, labels=13, edges="arm"
    )
    assert parse_task("addition(2)", defaults) == Addition(2)


NO_TASK = (
    "",
    "3",
    "3,",
    ",5",
    "3,5",
    "3,5:hop",
    "3,5,7",
    "3;5",
    "3x5",
    "2.5,3",
    "a,b",
    "3,5:",
    "--3,5",
    "subtraction",
    "addition()",
    "addition(3",
    "Addition",
    "countdown()",
    "countdown(,50)",
    "pathstar()",
    "pathstar(2,3):hop",
    "addition + addition",
    "task.Task",
    "__import__('os').abort()",
    "(lambda: addition)()",
    "addition(3)(4)",
    "name",
    "Task",
    "(" * 150,
    "9" * 5000 + ",3",
    "[" * 100_000,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pathstar(1,5)", r"^pathstar\(1,5\): degree must be 2 or more: .*, got 1"),
        ("pathstar(0,5)", "degree must be 2 or more"),
        ("pathstar(-3,5)", r"pathstar\(-3,5\): degree must be 2 or more"),
        (
            "pathstar(3,1)",
            r"pathstar\(3,1\): length must be 2 or more: it counts the nodes .* with the start, "
            r"got 1",
        ),
        ("pathstar(3,0)", "length must be 2 or more"),
        ("pathstar(3,-5)", "length must be 2 or more"),
        ("pathstar(1,5,hop=True)", "degree must be 2 or more"),
        (
            "pathstar(3,5,labels=12)",
            r"pathstar\(3,5,labels=12\): labels must be 13 \(its nodes\) to 10000, got 12",
        ),
        ("pathstar(2,2,labels=2,hop=True)", r"labels must be 3 \(its nodes\)"),
        ("pathstar(3,5,labels=-1)", r"labels must be 13 \(its nodes\) to 10000, got -1"),
        ("pathstar(3,5,labels=1000000000)", "labels must be 13"),
        ("pathstar(3,5,query=behind)", "query must be 'after' or 'before', got 'behind'"),
        ("pathstar(3,5,edges=sorted)", "edges must be 'shuffled' or 'arm', got 'sorted'"),
        ("pathstar(3,5,hop=1)", "hop must be bool, got 1"),
        ("pathstar(3,5,hop=true)", "hop must be bool, got 'true'"),
        ("pathstar(3,5,labels=many)", "labels must be int or None, got 'many'"),
        ("pathstar(True,5)", "degree must be int, got True"),
        ("pathstar(2.5,5)", "degree must be int, got 2.5"),
        (
            "pathstar(3)",
            r"missing a required argument: 'length'; write pathstar\(degree, length, \*, ",
        ),
        ("pathstar(length=3)", "missing a required argument: 'degree'"),
        (
            "pathstar(3,5,50)",
            r"too many positional arguments; write pathstar\(degree, length, \*, labels=None",
        ),
        ("pathstar(3,5,length=5)", "multiple values for argument 'length'"),
        ("pathstar(3,5,hop=True,hop=False)", "a parameter is given twice"),
        (
            "pathstar(3,5,arms=3)",
            r"unexpected keyword argument 'arms'; write pathstar\(degree, length",
        ),
        ("pathstar(3,5,**{'hop': True})", "keywords must be strings; write pathstar"),
        ("pathstar(*[3,5])", "is no value; write pathstar"),
        (
            "pathstar(99999,99999)",
            "its rows have .* tokens; write a smaller one, with at most 8192",
        ),
        ("addition(0)", r"addition\(0\): digits must be 1 to 9, got 0"),
        ("addition(10)", "digits must be 1 to 9, got 10"),
        ("addition(-1)", "digits must be 1 to 9, got -1"),
        ("addition(x)", "digits must be int, got 'x'"),
        ("addition(2+1)", r"'2 \+ 1' is no value; write addition\(digits=3\)"),
        ("addition(len('abc'))", "'len.*' is no value; write addition"),
        ("addition({[]: 1})", "is no value"),
        ("addition(3,4)", "too many positional arguments; write addition"),
        ("countdown(1)", r"countdown\(1,50\): numbers must be 2 to 8, got 1"),
        ("countdown(9)", "numbers must be 2 to 8, got 9"),
        ("countdown(0,0)", "numbers must be 2 to 8, got 0"),
        ("countdown(-3)", "numbers must be 2 to 8, got -3"),
        ("countdown(3,3)", r"countdown\(3,3\): most must be 4 to 10000, got 3"),
        ("countdown(3,10001)", "most must be 4 to 10000, got 10001"),
        ("countdown(3,-50)", "most must be 4 to 10000, got -50"),
        ("countdown(3,50,1)", "too many positional arguments; write countdown"),
        *((text, "is no task; write one of ") for text in NO_TASK),
    ],
)
def test_what_is_no_task_is_refused_on_one_line(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parse_task(text)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    if "is no task" in words:
        assert repr(text[:40])[1:-1] in message
        for right in (
            "pathstar(degree, length,",
            "addition(digits=3)",
            "countdown(numbers=3, most=50)",
        ):
            assert right in message


@pytest.mark.parametrize("text", ["3,5\n7", "3\n5", "pathstar(\n1,\n2)", "addition\0"])
def test_odd_words_are_refused_on_one_line_too(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_task(text)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------- draws as they were


@pytest.mark.parametrize(
    ("task", "digest"),
    [
        (PathStar(2, 3), "b2941c98c3a70214"),
        (PathStar(3, 3, hop=True), "eb577e8b0780785b"),
        (PathStar(2, 5, labels=50), "865d2b40fa04c992"),
        (PathStar(5, 5, labels=100, query="before", edges="arm"), "62a5af166b546d3c"),
        (Addition(3), "24b459f1b6ef3370"),
        (Addition(9), "1c11e203beb4b195"),
        (Countdown(3, 50), "baeb2bbb43a21b70"),
        (Countdown(5, 99), "df318635aac4c94b"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.spec,
)
def test_the_problems_that_were_published_are_drawn_to_the_last_bit(
    task: Task, digest: str
) -> None:
    found = hashlib.sha256()
    for attempt in (0, 1):
        tokens, key = task.draw(7, np.arange(50), attempt)
        found.update(
            np.ascontiguousarray(tokens, dtype="<i8").tobytes() + key.astype("<u8").tobytes()
        )
    batches = [
        Problems(task, split).take(3, np.arange(50)) for split in ("train", "validation", "test")
    ]
    batches.append(Problems(task, "train", samples=20).at(5, np.arange(50)))
    batches.append(Problems(task, "test").distinct(0, 30))
    for batch in batches:
        found.update(batch.tokens.numpy().astype("<i8").tobytes())
    assert found.hexdigest()[:16] == digest


# ------------------------------------------------------------------------------- one file is enough


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"Other: the name 'addition' is taken by .*addition.Addition; give it another",
    ):
        type("Other", (Task,), {"name": "addition"})
    assert Task.registry["addition"] is Addition


def test_a_task_without_a_name_is_no_spec() -> None:
    before = dict(Task.registry)
    type("Longer", (Addition,), {})
    assert Task.registry == before


def example_of_the_docs(folder: Path) -> Path:
    """The file that docs/synthetic.md adds a task with, in a folder."""
    docs = Path(__file__).parents[1] / "docs" / "synthetic.md"
    text = docs.read_text().partition("## Adding a task")[2]
    file = folder / "reversal.py"
    file.write_text(text.partition("```python\n")[2].partition("```")[0])
    return file


@pytest.mark.slow
def test_one_file_in_the_folder_is_found_by_itself(tmp_path: Path) -> None:
    source = Path(lookaround.__file__).parent
    shutil.copytree(source, tmp_path / "lookaround", ignore=shutil.ignore_patterns("__pycache__"))
    example_of_the_docs(tmp_path / "lookaround/studies/synthetic/tasks")
    program = (
        "from lookaround.studies.synthetic.tasks import parse_task; task = "
        "parse_task('reversal(4)'); "
        "print(task.spec, task.text(task.draw(0, [7], 0).tokens[0]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    spec, line = done.stdout.split()
    assert spec == "reversal(4)"
    assert re.fullmatch(r"\d{4}=\d{4}", line)
    assert line[:4] == line[:4:-1]


@pytest.mark.slow
def test_one_file_is_trained_scored_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Task, "registry", dict(Task.registry))
    spec = importlib.util.spec_from_file_location("reversal", example_of_the_docs(tmp_path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "reversal", module)
    spec.loader.exec_module(module)
    with pytest.raises(UserError, match=r"reversal\(1\): digits must be 2 to 100, got 1"):
        parse_task("reversal(1)")
    small = {
        "model.preset": "pico",
        "synthetic.tasks": ["reversal(digits=4)"],
        "synthetic.objectives": "ar",
        "synthetic.seeds": 1,
        "synthetic.steps": 4,
        "synthetic.batch": 8,
        "synthetic.every": 2,
        "synthetic.queries": 20,
        "synthetic.watched": 10,
        "synthetic.lr_factors": [1.0],
    }
    grid = open_grid(read_settings(None, None, small))
    job = SyntheticJob(
        tmp_path, tmp_path / "run", grid.settings, grid.tasks["reversal(4)"], "ar", 0, 1.0, 1, 4
    )
    row = run_job(job)
    assert (row["graph"], row["steps"], row["queries"], len(row["positions"])) == (
        "reversal(4)",
        4,
        20,
        4,
    )
    with ThreadPoolExecutor(1) as executor:
        results = run_grid(grid, tmp_path / "grid", command="x", executor=executor)
    assert {**results.rows[0].as_dict(), "seconds": 0, "curve": 0} == {
        **row,
        "chance": None,
        "seconds": 0,
        "curve": 0,
    }
    found = load_results(tmp_path / "grid" / "results.json")
    assert found == results
    results.write_page(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "reversal(4)" in page
    assert "The first digit of the answer is the last one of the number." in page
