"""The benchmark that ends commands: what it holds to be unequal, and that it runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.knocks import COMMANDS, PRETRAIN, Command, differences, main


def made(folder: Path, loss: float = 1.0, seconds: float = 1.0, **more: str) -> Path:
    """A folder as a command leaves it."""
    folder.mkdir()
    (folder / ".lock").touch()
    results = {"rows": [{"loss": loss, "seconds": seconds, "bound": float("nan")}]}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "results.html").write_text(f"{seconds}")
    save_file({"weight": np.zeros(2)}, folder / "model.safetensors", metadata=more)
    return folder


def test_measured_time_and_the_order_of_descriptions_are_no_difference(tmp_path: Path) -> None:
    one = made(tmp_path / "one", a="1", b="2", c="3")
    assert differences(one, made(tmp_path / "other", seconds=2.0, c="3", b="2", a="1")) == []


def test_what_differs_is_named(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other", loss=2.0)
    save_file({"weight": np.ones(2)}, other / "model.safetensors", metadata={})
    (one / "metrics.jsonl").touch()
    (other / "run.tmp").mkdir()
    assert differences(one, other) == [
        "metrics.jsonl: is missing",
        "run.tmp: is left behind",
        "model.safetensors: weights",
        "results.json: rows.0.loss is 2.0, not 1.0",
    ]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_equal_results(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Command((*PRETRAIN.arguments, "--budget", "3k"), workers=False)
    monkeypatch.setitem(COMMANDS, "pretrain", short)
    monkeypatch.setattr("benchmarks.knocks.SEVERAL", ())
    assert main(["--kills", "1", "--commands", "pretrain", "--plain"]) == 0
    name, _, kills, equal, unequal, _ = capsys.readouterr().out.splitlines()[-1].split()
    assert (name, kills, unequal) == ("pretrain", "1", "0")
    assert int(equal) >= 1
