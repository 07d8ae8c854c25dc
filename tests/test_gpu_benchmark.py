"""benchmarks/gpu.sh --small: all that it would do on a GPU, in small on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gpu import SMALL, run_part

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_every_part_runs_and_is_written_to_its_file(tmp_path: Path) -> None:
    made = subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--small", "--threads", "1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert "all within their targets" in made.stdout
    parts = {
        file.stem: json.loads(file.read_text()) for file in tmp_path.glob("lookaround-gpu/*.json")
    }
    assert parts.keys() == {"agreement", "resume", "scores", "speed", "english", "pathstar"}
    assert not any(row.get("failed") for part in parts.values() for row in part["rows"])
    assert len(parts["agreement"]["rows"]) > 40
    read = [row["name"] for row in parts["english"]["rows"] if "rung" in row]
    assert read == [
        f"{spec}, {rung} of the budget"
        for spec in ("ar", "mlm(rate=0.4)", "ar + vmlm")
        for rung in ("0.2", "1")
    ]


def test_what_does_not_fit_into_the_time_is_left_out_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run_part("scores", replace(SMALL, limit=0.0), tmp_path, {})
    assert [row["name"] for row in rows] == ["the rest"]
    assert "0 seconds are over" in capsys.readouterr().out
    assert json.loads((tmp_path / "scores.json").read_text())["rows"] == rows
