"""A run on disk: one process at a time, known by its content, and gone where nothing of it is worth
keeping.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from lookaround.data.corpus import make_corpus
from lookaround.data.shards import TokenStore, prepare
from lookaround.objectives import parse
from lookaround.settings import Settings, read_settings
from lookaround.studies.folder import StudyFolder
from lookaround.studies.pretrain import train_into
from lookaround.support.errors import UserError
from lookaround.train.budget import Budget
from lookaround.train.loop import Trainer

BUDGET = Budget(600, "tokens")


def settings(**options: object) -> Settings:
    lines = ["model.preset=pico", "model.context=32", "train.batch=4", "model.precision=fp32"]
    return read_settings(
        None, lines, **{name.replace("__", "."): value for name, value in options.items()}
    )


def run(out: Path, store: TokenStore, **options: object) -> dict:
    return train_into(settings(**options), parse("ar"), BUDGET, store, out)


def test_a_second_process_is_kept_out(store: TokenStore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with StudyFolder(out, "run.yaml", "a run of ours", {}).opened():
        with pytest.raises(UserError, match="another process is at work"):
            run(out, store)
        assert [path.name for path in out.iterdir()] == [".lock"]
    assert run(out, store)["status"] == "finished"


def test_another_corpus_under_the_same_name_is_refused(store: TokenStore, tmp_path: Path) -> None:
    run(tmp_path / "out", store)
    other = prepare(
        make_corpus("words", [f"another text {i} of words" for i in range(60)], {}),
        vocabulary=280,
        cache=tmp_path / "cache",
    )
    assert run(tmp_path / "out", store, data__corpus="moved/to.txt")["status"] == "finished"
    with pytest.raises(UserError, match="the corpus or its tokenizer has changed"):
        run(tmp_path / "out", other)


@pytest.mark.slow
def test_the_model_it_goes_on_from_is_known_by_its_weights(
    store: TokenStore, tmp_path: Path
) -> None:
    start, moved = tmp_path / "start", tmp_path / "moved"
    run(start, store)
    run(tmp_path / "out", store, model__init=str(start))
    shutil.move(start, moved)
    assert run(tmp_path / "out", store, model__init=str(moved))["status"] == "finished"
    run(start, store, seed=1)
    with pytest.raises(UserError, match="the model has changed"):
        run(tmp_path / "out", store, model__init=str(start))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"
        ),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_too_little_memory_is_said_in_a_line_and_leaves_nothing(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(Trainer, "step", fail)
    with pytest.raises(UserError, match=r"out of memory; set train\.micro_batch lower"):
        run(tmp_path / "out", store)
    assert not (tmp_path / "out").exists()


def test_another_error_is_left_as_it_is(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("a shape that does not fit")

    monkeypatch.setattr(Trainer, "step", fail)
    with pytest.raises(RuntimeError, match="a shape that does not fit"):
        run(tmp_path / "out", store)


def test_a_run_of_an_older_layout_is_refused(store: TokenStore, tmp_path: Path) -> None:
    run(tmp_path / "out", store)
    file = tmp_path / "out" / "run.yaml"
    file.write_text(file.read_text().replace("layout: 2\n", ""))
    with pytest.raises(UserError, match=r"run\.yaml: written by an older lookaround"):
        run(tmp_path / "out", store)
