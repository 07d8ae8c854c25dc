"""The loop: micro-batches, processes and kills change nothing; budgets and schedules are what they
say.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookaround.data.rows import Rows
from lookaround.data.shards import TokenStore
from lookaround.model.readable import open_run
from lookaround.objectives import Objective, parse
from lookaround.settings import Settings, read_settings
from lookaround.studies.pretrain import train_into
from lookaround.support.errors import Interrupted, UserError
from lookaround.support.storage import write_folder
from lookaround.train import Plan, Trainer, WarmupStableDecay, make_plan, parse_budget
from lookaround.train.budget import Budget, expected_cost, view_flops
from lookaround.train.checkpoint import latest_checkpoint, load_training_state
from lookaround.train.loop import MetricsFile, StopSignal, exporter
from lookaround.train.loss import ComponentSums
from lookaround.train.parallel import World, world
from lookaround.train.run import make_trainer, plan_for
from lookaround.train.speed import Speed, off_budget, seconds_per_step

SPECS = [
    "ar",
    "mlm(rate=0.3)",
    "dar",
    "vmlm",
    "prefixlm",
    "mdlm(weight=elbo)",
    "ar + 3*mlm(rate=0.3)",
    "dar + vmlm",
    "rar + mlm(rate=0.3)",
    "ar >> mlm",
]


def settings(**assignments: object) -> Settings:
    given = {"model.context": 32, "train.batch": 8, "model.precision": "fp64"} | {
        k.replace("__", "."): v for k, v in assignments.items()
    }
    return read_settings(None, [f"{name}={value}" for name, value in given.items()])


def train(store: TokenStore, spec: str, steps: int = 4, **assignments: object) -> Trainer:
    objective = parse(spec)
    trainer = make_trainer(settings(**assignments), objective, store, seed=0, learning_rate=1e-2)
    shares = tuple(share for share, _ in objective.phases())
    plan = Plan(shares, tuple(steps // len(shares) for _ in shares))
    trainer.run(steps, plan, WarmupStableDecay(1, steps // 2, steps))
    return trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in trainer.backbone.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS)
def test_eight_micro_batches_are_one_batch(store: TokenStore, spec: str) -> None:
    whole, parts = train(store, spec), train(store, spec, train__micro_batch=1)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(
            weights(parts)[name], tensor, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert whole.counters.tokens == parts.counters.tokens
    assert whole.counters.targets == parts.counters.targets


def test_a_step_across_an_epochs_border_is_the_same_in_micro_batches(store: TokenStore) -> None:
    objective = parse("vmlm")
    whole, parts = (
        make_trainer(
            settings(train__micro_batch=size), objective, store, seed=0, learning_rate=1e-2
        )
        for size in (8, 1)
    )
    border = len(whole.rows) // 8
    assert len(whole.rows) % 8, "a step straddles two epochs"
    for step in (border, 2 * border + 1):
        (together,), _ = whole.views(step, objective)
        apart, _ = parts.views(step, objective)
        assert together[0].pairs.target.equal(torch.cat([views[0].pairs.target for views in apart]))
        assert together[0].shown.input_ids.equal(
            torch.cat([views[0].shown.input_ids for views in apart])
        )


def test_batch_must_divide_among_processes(store: TokenStore) -> None:
    with pytest.raises(UserError, match=r"train\.batch: 8 rows do not divide among 3"):
        make_trainer(settings(), parse("ar"), store, seed=0, learning_rate=1e-2, world=World(0, 3))


def test_processes_that_do_not_fit(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, words in (
        ({"parallel": "none"}, r"train\.parallel: none is for one process.* has started 2"),
        ({"parallel": "fsdp", "shards": 3}, r"train\.shards: 2 processes do not divide into .* 3"),
    ):
        options = settings(**{f"train__{name}": value for name, value in given.items()})
        with pytest.raises(UserError, match=words):
            make_trainer(options, parse("ar"), store, seed=0, learning_rate=1e-2, world=World(0, 2))
    sharded = settings(train__parallel="fsdp", model__compile="step")
    with pytest.raises(UserError, match=r"model\.compile: step is for whole copies"):
        make_trainer(sharded, parse("ar"), store, seed=0, learning_rate=1e-2, world=World(0, 2))
    with pytest.raises(UserError, match=r"train\.parallel"):
        settings(train__parallel="tensor")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with (
        pytest.raises(UserError, match="process 1 of this machine has no GPU, which has 1"),
        world(),
    ):
        pass


def logged(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, but for measured time."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) | {"seconds": 0} for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["ar", "dar + vmlm", "ar >> mlm"])
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(
    store: TokenStore, spec: str, tmp_path: Path
) -> None:
    objective = parse(spec)
    one = settings(model__precision="fp32", train__checkpoint_every=3, train__log_every=4)
    budget = Budget(8 * 25 * 12, "tokens")
    straight = train_into(one, objective, budget, store, tmp_path / "straight")
    assert sum(straight["plan"]["steps"]) >= 8
    stop = StopSignal()

    def at_five(progress: object) -> None:
        stop.set = progress.step == 5  # type: ignore[attr-defined]

    with pytest.raises(Interrupted, match=r"stopped at step 6 .* same command goes on"):
        train_into(one, objective, budget, store, tmp_path / "resumed", stop=stop, report=at_five)
    stop.set = False
    again = train_into(one, objective, budget, store, tmp_path / "resumed", stop=stop)
    first, second = (
        open_run(tmp_path / name).backbone.state_dict() for name in ("straight", "resumed")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert {k: v for k, v in vars(again.spent).items() if k != "seconds"} == {
        k: v for k, v in vars(straight.spent).items() if k != "seconds"
    }
    assert logged(tmp_path / "straight") == logged(tmp_path / "resumed")
    before = (tmp_path / "resumed" / "model.safetensors").stat().st_mtime_ns
    assert train_into(one, objective, budget, store, tmp_path / "resumed")["status"] == "finished"
    assert (tmp_path / "resumed" / "model.safetensors").stat().st_mtime_ns == before, (
        "a finished run does nothing"
    )
    with pytest.raises(UserError, match=r"train\.weight_decay was 0\.1, now 0\.2"):
        train_into(
            settings(model__precision="fp32", train__weight_decay=0.2),
            objective,
            budget,
            store,
            tmp_path / "resumed",
        )


def test_a_checkpoint_without_a_log_window_is_one_of_before(store: TokenStore) -> None:
    trainer = train(store, "ar + mlm", model__precision="fp32")
    trainer.window = ComponentSums(trainer.objective.at(0.0).components())
    counters, tensors = trainer.snapshot()
    older = {name: tensor for name, tensor in tensors.items() if not name.startswith("window.")}
    assert len(older) == len(tensors) - 3
    trainer.restore(counters, tensors)
    assert len(trainer.window.totals) == 2
    trainer.restore(counters, older)
    assert len(trainer.window.totals) == 0
    with pytest.raises(UserError, match=r"window\.coefficients is \(2,\)"):
        trainer.restore(counters, tensors | {"window.totals": torch.zeros(3, dtype=torch.float64)})


def line_of(step: int) -> dict[str, float]:
    return {"step": step, "tokens": 9 * step, "flops": 1.0, "seconds": 0.5, "loss": step / 2}


def test_lines_after_the_step_of_a_resume_and_one_cut_short_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    whole = "".join(json.dumps(line_of(step)) + "\n" for step in (2, 4, 6))
    file.write_text(whole + '{"step": 1')
    metrics = MetricsFile(file, 4)
    assert metrics.loss == 2
    metrics.write({"step": 5, "loss": 0.5})
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [2, 4, 5]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_foreign_checkpoint_is_refused(store: TokenStore, tmp_path: Path) -> None:
    small = train(store, "ar", model__precision="fp32")
    small.save(tmp_path, exporter(small.backbone, parse("ar"), store))
    large = make_trainer(
        settings(model__preset="tiny", model__precision="fp32"),
        parse("ar"),
        store,
        seed=0,
        learning_rate=1e-2,
    )
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    with pytest.raises(UserError, match="truncated or foreign"):
        large.restore(*load_training_state(latest))
    state = latest / "training_state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"training_state\.safetensors: truncated"):
        load_training_state(latest)


def test_folders_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def half(into: Path) -> None:
        (into / "a").write_text("x")
        raise OSError(28, "No space left on device")

    write_folder(tmp_path / "x", lambda into: (into / "a").write_text("old") and None)
    with pytest.raises(UserError, match="no space left on the disk"):
        write_folder(tmp_path / "x", half)
    assert (tmp_path / "x" / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.slow
def test_the_loss_falls_and_metrics_tell(store: TokenStore, tmp_path: Path) -> None:
    trainer = make_trainer(
        settings(model__precision="fp32", train__log_every=5),
        parse("ar"),
        store,
        seed=0,
        learning_rate=1e-2,
    )
    trainer.run(60, Plan((1.0,), (60,)), WarmupStableDecay(2, 50, 60), folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(5, 61, 5))
    assert lines[-1]["loss"] < lines[0]["loss"] - 1
    assert lines[-1]["learning_rate"] < lines[5]["learning_rate"] / 5
    assert lines[-1]["tokens"] == trainer.counters.tokens


def test_a_diverged_run_says_so(store: TokenStore) -> None:
    trainer = make_trainer(
        settings(model__precision="fp32"), parse("ar"), store, seed=0, learning_rate=1e-2
    )
    with torch.no_grad():
        trainer.backbone.unembedding.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite at learning rate"):
        trainer.run(3, Plan((1.0,), (3,)), WarmupStableDecay(0, 3, 3))


# ------------------------------------------------------------------------- budgets, schedules, rows


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("5M", 5e6, "tokens"),
        ("2e15flops", 2e15, "flops"),
        ("300s", 300, "seconds"),
        ("10min", 600, "seconds"),
        ("1.5h", 5400, "seconds"),
        ("100k tokens", 1e5, "tokens"),
        ("5000 tokens", 5000, "tokens"),
        ("5e6tokens", 5e6, "tokens"),
        ("3PFLOPs", 3e15, "flops"),
        ("1B", 1e9, "tokens"),
        ("12000", 12000, "tokens"),
        (".5M", 5e5, "tokens"),
    ],
)
def test_budgets(text: str, amount: float, unit: str) -> None:
    assert parse_budget(text) == Budget(amount, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "many", "5X", "-3M", "0", "5Ms", "1e999", "nan", "3 parsecs", "M"]
)
def test_nonsense_budgets_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"budget '.*': "):
        parse_budget(text)


def test_flops_are_counted_by_hand(store: TokenStore) -> None:
    trainer = make_trainer(settings(), parse("mlm"), store, seed=0, learning_rate=1.0)
    batch = trainer.rows.take(np.arange(8))
    (view,) = parse("mlm").view(batch, 0, 0)
    trunk = 2 * (4 * 128 * 128 + 3 * 128 * 352 + 2 * 128) + 128
    by_hand = 8 * 32 * (6 * trunk + 12 * 2 * 128 * 32) + 6 * 128 * store.codec.size * len(
        view.pairs.state
    )
    (component,) = parse("mlm").components()
    assert view_flops(trainer.backbone, component, view) == by_hand


def test_a_sequence_spends_its_shares(store: TokenStore) -> None:
    trainer = make_trainer(settings(), parse("ar"), store, seed=0, learning_rate=1.0)
    objective = parse("0.25*ar >> 0.75*mlm")

    def cost(phase: object) -> float:
        return expected_cost(phase, trainer.backbone, trainer.rows, 8, "flops")  # type: ignore[arg-type]

    budget = Budget(200 * cost(parse("ar")), "flops")
    plan = make_plan(objective, budget, cost)
    assert plan.steps[0] == 50
    assert plan.steps[1] * cost(parse("mlm")) == pytest.approx(0.75 * budget.amount, rel=0.02)
    assert plan.progress(0) == 0
    assert plan.progress(50) == 0.25
    assert plan.progress(plan.total) == 1
    with pytest.raises(UserError, match="too small for one step of 'ar'"):
        make_plan(objective, Budget(1.0, "flops"), cost)


def test_warmup_stable_decay() -> None:
    schedule = WarmupStableDecay(4, 10, 14)
    assert [schedule.factor(step) for step in range(14)] == pytest.approx(
        [0.25, 0.5, 0.75] + [1.0] * 7 + [0.8, 0.6, 0.4, 0.2]
    )


@pytest.mark.parametrize("size", [1, 2, 3, 10, 97, 1000])
def test_the_order_of_rows_is_a_permutation(size: int) -> None:
    from lookaround.support.randomness import permute

    seen = set()
    for epoch in range(3):
        order = permute(np.arange(size), size, 7, epoch)
        assert sorted(order) == list(range(size))
        seen.add(tuple(order))
    if size > 10:
        assert len(seen) == 3
        assert abs(np.corrcoef(np.arange(size), order)[0, 1]) < 4 / size**0.5


def test_rows_cover_every_token_of_every_document(store: TokenStore) -> None:
    split = store.split("train")
    rows = Rows(split, 16, store.codec)
    covered = [np.zeros(length, dtype=bool) for length in split.length]
    for window in range(len(rows.length)):
        begin = rows.offset[window]
        covered[rows.document[window]][begin : begin + rows.length[window]] = True
    assert all(line.all() for line in covered)
    assert all(
        rows.length[w] == 16 or split.length[rows.document[w]] < 16 for w in range(len(rows.length))
    )


@pytest.mark.parametrize("pack", [False, True])
def test_prompts_are_shown_and_never_targets(store: TokenStore, pack: bool) -> None:
    split = store.split("train")
    given = np.arange(len(split.length)) % 40
    rows = Rows(split, 16, store.codec, pack=pack, prompts=given)
    batch = rows.take(np.arange(len(rows)))
    plain = Rows(split, 16, store.codec, pack=pack).take(np.arange(len(rows)))
    assert torch.equal(batch.tokens, plain.tokens)
    windows = [range(rows.first[row], rows.first[row + 1]) for row in range(len(rows))]
    for row, inside in enumerate(windows):
        at = 0
        for window in inside:
            place = rows.offset[window] + np.arange(rows.length[window])
            expected = (place >= given[rows.document[window]]) & (place > 0)
            found = batch.scorable[row, at : at + len(place)]
            assert found.tolist() == expected.tolist()
            at += len(place)
    for view in parse("mtp(n=3)").view(batch, 0, 0):
        assert batch.scorable.flatten()[view.pairs.state + view.pairs.offset].all()


def test_packed_rows_hold_the_same_windows(store: TokenStore) -> None:
    plain, packed = (
        Rows(store.split("train"), 64, store.codec, pack=flag) for flag in (False, True)
    )
    assert len(packed) < len(plain)

    def count(rows: Rows) -> int:
        batches = [rows.take(np.array([i])) for i in range(len(rows))]
        return sum(
            rows.width if b.documents is None else int((b.documents >= 0).sum()) for b in batches
        )

    assert count(plain) == count(packed)
    batch = packed.take(np.arange(len(packed)))
    assert batch.packed
    assert batch.documents is not None
    start, length = batch.spans()
    for b in range(4):
        for number in range(int(batch.documents[b].max()) + 1):
            at = (batch.documents[b] == number).nonzero().flatten()
            assert (start[b][at] == at[0]).all()
            assert (length[b][at] == len(at)).all()


def test_what_a_step_takes_is_measured_once_an_hour(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOOKAROUND_CACHE", str(tmp_path))
    trainer = make_trainer(settings(), parse("ar"), store, seed=0, learning_rate=1e-2)
    asked: list[str] = []

    def measure(trainer: Trainer, phase: Objective) -> float:
        asked.append(phase.spec)
        return 0.25

    speed = Speed(measure)
    assert plan_for(trainer, parse("ar"), Budget(10, "seconds"), speed=speed).steps == (40,)
    assert plan_for(trainer, parse("ar"), Budget(20, "seconds"), speed=speed).steps == (80,)
    assert asked == ["ar"], "a dry run and the run after it plan alike"
    assert Speed(measure, beside=2)(trainer, parse("ar")) == 0.25
    assert speed(trainer, parse("mlm")) == 0.25
    assert asked == ["ar", "ar", "mlm"]
    (tmp_path / "speed").mkdir(exist_ok=True)
    files = [*(tmp_path / "speed").iterdir()]
    assert len(files) == 3
    for file in files:
        file.write_text("{")
    speed(trainer, parse("ar"))
    for file in files:
        os.utime(file, (0, 0))
    speed(trainer, parse("ar"))
    assert asked[3:] == ["ar", "ar"], "torn, then old"


def test_steps_are_timed_and_leave_no_trace(store: TokenStore) -> None:
    trainer = make_trainer(settings(), parse("ar"), store, seed=0, learning_rate=1e-2)
    before = weights(trainer)
    assert 0 < seconds_per_step(trainer, parse("mlm"), least=0.0) < 10
    assert trainer.counters.step == 0
    assert trainer.objective.spec == "ar"
    for name, tensor in weights(trainer).items():
        assert torch.equal(tensor, before[name])
    assert off_budget(40, 43) is None
    assert "67 s of a budget of 40 s" in (off_budget(40, 67) or "")
