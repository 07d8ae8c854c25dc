"""An objective of one's own: the files of docs/add-an-objective.md, and classes of a notebook."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import lookaround
from conftest import sentences
from lookaround.objectives import AR, MLM, Objective
from lookaround.studies.jobs import local_pool
from lookaround.support.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_an_objective_is_added_by_a_file_of_ones_own(tmp_path: Path) -> None:
    """As the page has it: a file, and a script that starts processes that must know it."""
    page = (ROOT / "docs" / "add-an-objective.md").read_text()
    objective, script = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "sparse.py").write_text(objective)
    (tmp_path / "compare_sparse.py").write_text(script)
    lines = [json.dumps({"text": text}) for text in sentences(300)]
    (tmp_path / "notes.jsonl").write_text("\n".join(lines))
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.getenv("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "compare_sparse.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^sparse +\d\.\d{3}", done.stdout, re.MULTILINE)
    assert "Recommendation" in done.stdout


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Objective, "registry", dict(Objective.registry))


@pytest.mark.usefixtures("own_registry")
def test_a_class_may_be_defined_again_as_cells_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook or at a prompt: for what runs in this process, and not in others."""

    def define(default: int) -> None:
        @dataclass(frozen=True)
        class Mine(AR):
            far: int = default

            name = "mine"
            __module__ = "__main__"
            __qualname__ = "Mine"

    define(1)
    define(2)
    assert lookaround.parse("mine").far == 2  # type: ignore[attr-defined]
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    with pytest.raises(UserError, match=r"'mine' is defined in a notebook .* into a file"):
        local_pool(1, 1)


def test_objectives_are_given_as_objects_specs_or_lists() -> None:
    from lookaround.api import _settings

    for given in ("ar, mlm(rate=0.4)", [AR(), MLM(rate=0.4)], (AR(), "mlm(rate=0.4)")):
        assert _settings("compare", {"objectives": given}).objectives == "ar, mlm(rate=0.4)"
    assert _settings("pretrain", {"objective": AR() + 3 * MLM()}).pretrain.objective == "ar + 3*mlm"
    with pytest.raises(UserError, match=r"column 5 \('nope'\): unknown objective"):
        lookaround.compare(objectives=["ar", "nope"])
