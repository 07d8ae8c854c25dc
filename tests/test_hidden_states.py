"""Hidden states with exact posteriors, and recall of pairs: sources, exams, refusals, grids."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from cli_runs import Inline
from lookaround.model.export import load
from lookaround.settings import read_settings
from lookaround.studies.synthetic.exams import HiddenStates, Recalled, exam_of
from lookaround.studies.synthetic.grid import defaults_of, estimate, open_grid, run_grid
from lookaround.studies.synthetic.job import BOTH_WAYS
from lookaround.studies.synthetic.tasks import parse_task
from lookaround.studies.synthetic.tasks.hmm import COMMON, HiddenMarkov, Source
from lookaround.studies.synthetic.tasks.recall import Recall, RecallRows
from lookaround.support.errors import UserError

SMALL = HiddenMarkov(states=3, symbols=5, stay=0.8, length=5)


def enumerated(source: Source, symbols: np.ndarray) -> np.ndarray:
    """P(state of each place | the symbols), (T, K), summed over all sequences of states."""
    count, width = len(source.moves), len(symbols)
    found = np.zeros((width, count))
    for states in itertools.product(range(count), repeat=width):
        p = 1 / count
        for t, state in enumerate(states):
            p *= source.says[state, symbols[t]]
            p *= source.moves[states[t - 1], state] if t else 1
        for t, state in enumerate(states):
            found[t, state] += p
    return found / found.sum(1, keepdims=True)


def test_the_posteriors_are_those_of_all_sequences() -> None:
    source = SMALL.source(3)
    _, symbols = SMALL.rows("test", 3).hidden(0, np.arange(6))
    smoothed, filtered, alone = (
        found(symbols) for found in (source.smoothed, source.filtered, source.alone)
    )
    for row, seen in enumerate(symbols):
        np.testing.assert_allclose(smoothed[row], enumerated(source, seen), rtol=1e-12)
        for t in range(SMALL.length):
            np.testing.assert_allclose(
                filtered[row, t], enumerated(source, seen[: t + 1])[-1], rtol=1e-12
            )
            np.testing.assert_allclose(alone[row, t], enumerated(source, seen[[t]])[0], rtol=1e-12)


def test_a_source_moves_and_says_as_it_is_told() -> None:
    task = HiddenMarkov(states=3, symbols=7, stay=0.9)
    source = task.source(1)
    np.testing.assert_allclose(source.moves.sum(1), 1)
    np.testing.assert_allclose(source.says.sum(1), 1)
    assert source.says.min() >= COMMON / 7
    states, symbols = task.rows("train", 1).hidden(5, np.arange(4000))
    stays = (states[:, 1:] == states[:, :-1]).mean()
    assert stays == pytest.approx(0.9, abs=0.003)
    for state in range(3):
        told = np.bincount(symbols[states == state], minlength=7) / (states == state).sum()
        np.testing.assert_allclose(told, source.says[state], atol=0.01)
    # what the posterior says of itself is how often it is right
    posterior = source.smoothed(symbols)
    right = (posterior.argmax(-1) == states).mean()
    assert right == pytest.approx(posterior.max(-1).mean(), abs=0.005)


def test_rows_of_a_source_are_the_same_alone_and_differ_by_seed_and_part() -> None:
    rows = SMALL.rows("train", 0)
    many = rows.at(3, np.arange(20)).tokens
    assert torch.equal(rows.at(3, np.array([7])).tokens[0], many[7])
    assert not torch.equal(rows.at(4, np.arange(20)).tokens, many)
    assert not torch.equal(SMALL.rows("test", 0).at(3, np.arange(20)).tokens, many)
    assert not np.allclose(SMALL.source(0).says, SMALL.source(1).says)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hmm(states=8, symbols=4)", "symbols must be 8"),
        ("hmm(stay=1.0)", "stay must be above 0 and below 1"),
        ("hmm(stay=0.0)", "stay must be above 0 and below 1"),
        ("hmm(length=2)", "length must be 4"),
        ("recall(300,1)", "pairs must be at most 64"),
        ("recall(2,4)", "pairs must be 5"),
    ],
)
def test_tasks_out_of_range(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_task(spec)


# ---------------------------------------------------------------------------------------- recall


@pytest.mark.parametrize("task", [Recall(20, 2, symbols=8), Recall(60, 1, symbols=64), Recall(50)])
def test_pairs_and_the_rows_about_them(task: Recall) -> None:
    keys, values = task.parts(2)
    for side in (keys, values):
        assert side.shape == (task.pairs, task.length)
        assert len(np.unique(side, axis=0)) == task.pairs
        assert side.min() >= 0
        assert side.max() < task.symbols
    held = {tuple(key) for key in keys[: task.held_out].tolist()}
    value_of = {tuple(k): tuple(v) for k, v in zip(keys.tolist(), values.tolist(), strict=True)}
    batch = RecallRows(task, 2, "train").at(0, np.arange(4000))
    width, kinds, stated = task.length, np.zeros(3), set()
    assert batch.scorable is not None
    for row, scored in zip(batch.tokens.tolist(), batch.scorable.tolist(), strict=True):
        kind = row[0] - task.symbols
        given, asked = tuple(row[1 : 1 + width]), tuple(row[2 + width :])
        key, value = (asked, given) if kind == 2 else (given, asked)
        assert value_of[key] == value
        assert row[1 + width] == task.symbols + 3
        assert scored == [False, *[kind == 0] * width, False, *[True] * width]
        assert kind == 0 or key not in held
        kinds[kind] += 1
        stated |= {key} if kind == 0 else set()
    np.testing.assert_allclose(kinds / kinds.sum(), [0.5, 0.25, 0.25], atol=0.03)
    assert stated == set(value_of)
    forward, backward = (
        RecallRows(task, 2, "test").questions(way) for way in ("forward", "backward")
    )
    assert {tuple(row[1 : 1 + width]) for row in forward.tokens.tolist()} == held
    assert {tuple(row[2 + width :]) for row in backward.tokens.tolist()} == held


# ---------------------------------------------------------------------------------------- a grid


def grid_of(*tasks: str, **more: object) -> object:
    options = {
        "synthetic.tasks": [*tasks],
        "model.preset": "pico",
        "synthetic.seeds": 1,
        "synthetic.batch": 8,
        "synthetic.every": 100,
        **more,
    }
    return open_grid(read_settings(None, [], defaults_of(tasks) | options))


def test_a_grid_of_hidden_states(tmp_path: Path) -> None:
    spec = "hmm(states=3,symbols=8,stay=0.9,length=12)"
    grid = grid_of(
        spec,
        **{
            "synthetic.objectives": "ar, vmlm",
            "synthetic.budget": "5e9flops",
            "synthetic.queries": 30,
        },
    )
    assert estimate(grid).flops == pytest.approx(1.5e10, rel=0.05)
    found = run_grid(grid, tmp_path, command="test", executor=Inline())
    by_name = {row.objective: row for row in found.rows}
    for row in found.rows:
        assert row.symbol < row.filtering < row.smoothing
        assert 0.3 < row.state_accuracy < row.smoothing + 0.05
        assert row.flops == pytest.approx(5e9, rel=0.05)
    assert len(by_name["ar"].later) == 4
    assert by_name["vmlm"].later == []
    assert by_name[BOTH_WAYS].later == []
    halves = [load(tmp_path / name) for name in _models(tmp_path)]
    assert len(halves) == 4, "two objectives, and one each way"
    assert "state accuracy" in str(found)
    assert (tmp_path / "results.json").is_file()
    found.write_page(tmp_path / "synthetic.html")
    again = run_grid(grid, tmp_path, command="test", executor=Inline())
    assert again.as_dict()["rows"] == found.as_dict()["rows"]


def _models(folder: Path) -> list[Path]:
    return [path.parent for path in sorted(folder.glob("runs/*/*/*/model/config.json"))]


def test_a_grid_of_recall(tmp_path: Path) -> None:
    grid = grid_of(
        "recall(10,2,symbols=6)",
        **{"synthetic.objectives": "ar, mlm(rate=0.4)", "synthetic.steps": 20},
    )
    found = run_grid(grid, tmp_path, command="test", executor=Inline())
    for row in found.rows:
        assert 0 <= row.forward <= 1
        assert 0 <= row.backward <= 1
        assert row.queries == 2
        # 2 r^2 of all 2 r: a value of two tokens with both hidden; (1 - r) r / 2 r with one shown
        share = 0.5 if row.objective == "ar" else min(0.4 / 2, 0.6 / 2)
        assert row.coverage == pytest.approx(2 * share)
        assert [point.step for point in row.curve] == [20]
    assert "forward" in str(found)


def test_exams_and_sizes_of_tasks() -> None:
    assert exam_of(SMALL) is HiddenStates
    assert exam_of(Recall()) is Recalled
    with pytest.raises(UserError, match="different sizes"):
        defaults_of(["hmm", "recall"])
    with pytest.raises(UserError, match="in tokens or FLOPs"):
        grid_of("hmm", **{"synthetic.budget": "10s"})
    with pytest.raises(UserError, match="less than one step"):
        grid_of("hmm", **{"synthetic.budget": "10flops"})
