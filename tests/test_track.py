"""Trackers hear what metrics.jsonl holds; one that fails ends alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lookaround.data.shards import TokenStore
from lookaround.objectives import parse
from lookaround.settings import read_settings
from lookaround.studies.pretrain import open_pretraining, train_into
from lookaround.support.errors import Interrupted, UserError
from lookaround.train import track
from lookaround.train.budget import Budget
from lookaround.train.loop import StopSignal

LINES = ["tokens", "targets", "flops", "seconds", "loss", "learning_rate"]


def train(store: TokenStore, out: Path, *names: str, stop_at: int | None = None) -> None:
    given = ["train.batch=4", "model.context=32", "train.log_every=2", "data.vocabulary=300"]
    settings = read_settings(None, [*given, f"pretrain.track=[{', '.join(names)}]"])
    stop = StopSignal()

    def report(progress: Any) -> None:
        stop.set = progress.step == stop_at

    budget = Budget(4 * 25 * 9, "tokens")
    train_into(settings, parse("ar"), budget, store, out, stop=stop, report=report)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


class Notes:
    """A tracker that keeps what it hears, and may fail."""

    made: list[Notes]

    def __init__(self, folder: Path, key: str, step: int, about: Any) -> None:
        self.key, self.step, self.about = key, step, about
        self.heard: list[dict[str, Any]] = []
        self.closed = False
        type(self).made.append(self)

    def write(self, metrics: Any) -> None:
        self.heard.append(dict(metrics))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> type[Notes]:
    monkeypatch.setattr(Notes, "made", [], raising=False)
    monkeypatch.setitem(track._MADE, "wandb", Notes)
    monkeypatch.setattr(track, "installed", lambda package: True)
    return Notes


def test_a_tracker_hears_what_metrics_jsonl_holds(
    store: TokenStore, tmp_path: Path, notes: type[Notes]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        train(store, out, "wandb", stop_at=5)
    train(store, out, "wandb")
    first, second = notes.made
    assert first.closed
    assert second.closed
    assert first.key == second.key
    assert (first.step, second.step) == (0, 6)
    assert first.heard + second.heard == lines(out)
    assert first.about["objective"] == "ar"
    assert first.about["train.batch"] == 4
    train(store, out, "wandb")
    assert len(notes.made) == 2, "a finished run does nothing"


def test_a_tracker_that_fails_ends_and_the_run_goes_on(
    store: TokenStore, tmp_path: Path, notes: type[Notes], caplog: pytest.LogCaptureFixture
) -> None:
    def torn(self: Notes, metrics: Any) -> None:
        raise ConnectionError("no\nroute")

    notes.write = torn  # type: ignore[method-assign]
    try:
        train(store, tmp_path / "out", "wandb")
    finally:
        notes.write = KEPT  # type: ignore[method-assign]
    assert len(lines(tmp_path / "out")) >= 4
    assert caplog.text.count("wandb: tracks no more (no route)") == 1


KEPT = Notes.write


def test_a_tracker_that_is_not_installed_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "installed", lambda package: False)
    settings = read_settings(None, ["pretrain.track=[mlflow]", f"data.corpus={tmp_path}/none"])
    with pytest.raises(UserError, match="mlflow is not installed; pip install mlflow"):
        open_pretraining(settings)
    with pytest.raises(UserError, match=r"pretrain\.track"):
        read_settings(None, ["pretrain.track=[visdom]"])


def test_tensorboard_has_the_same_numbers(store: TokenStore, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="no tensorboard; pip install lookaround[track]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        train(store, out, "tensorboard", stop_at=5)
    train(store, out, "tensorboard")
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    for name in LINES:
        found = {event.step: event.value for event in events.Scalars(name)}
        wanted = {line["step"]: line[name] for line in lines(out)}
        assert found == pytest.approx(wanted, rel=1e-6)


def test_mlflow_has_the_same_numbers(store: TokenStore, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="no mlflow; pip install lookaround[track]")
    from mlflow import MlflowClient

    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        train(store, out, "mlflow", stop_at=5)
    train(store, out, "mlflow")
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("lookaround")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    for name in LINES:
        history = {
            each.step: each.value for each in client.get_metric_history(run.info.run_id, name)
        }
        assert history == pytest.approx({line["step"]: line[name] for line in lines(out)})


def test_wandb_runs_offline(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="no wandb; pip install lookaround[track]")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    out = tmp_path / "out"
    train(store, out, "wandb")
    assert [*(out / "wandb").glob("offline-run-*/*.wandb")]
