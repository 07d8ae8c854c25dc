"""The folder of a study: what is refused and named, the lock, what is kept and what is removed
again.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from lookaround.model.fingerprint import model_fingerprint
from lookaround.settings import Settings, read_settings, result
from lookaround.studies.folder import StudyFolder
from lookaround.support.errors import UserError
from lookaround.support.storage import write_yaml


def folder(path: Path, file: str = "study.yaml", **identity: Any) -> StudyFolder:
    whole = {
        "corpus": "c",
        "model": None,
        "settings": Settings().identity("train", "evaluate"),
    } | identity
    return StudyFolder(path, file, "a study of ours", whole)


def made(path: Path, **identity: Any) -> StudyFolder:
    """A folder with something in it."""
    study = folder(path, **identity)
    with study.opened():
        study.save(status="running")
    return study


def test_what_was_saved_is_there_again(tmp_path: Path) -> None:
    study = folder(tmp_path / "out")
    with study.opened() as before:
        assert before == {}
        study.save(plans=[1, 2])
        study.save(status="finished")
    with folder(tmp_path / "out").opened() as state:
        assert state == {"plans": [1, 2], "status": "finished"}


def test_what_a_kill_has_left_is_removed(tmp_path: Path) -> None:
    """A file before the first save, and folders at any depth."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.yaml.0123abcd.tmp").write_text("layou")
    with folder(tmp_path / "out").opened() as before:
        assert before == {}
    made(tmp_path / "out")
    for name in ("runs/a/checkpoint-00000004.tmp", "final.tmp", "runs/a/checkpoint-00000004"):
        (tmp_path / "out" / name).mkdir(parents=True)
    (tmp_path / "out" / "runs" / "a" / "status.tmp").write_text("{")
    with folder(tmp_path / "out").opened():
        left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_dir()}
        assert left == {"out", "out/runs", "out/runs/a", "out/runs/a/checkpoint-00000004"}
        assert not [*tmp_path.rglob("*.tmp")]


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ({"corpus": "d"}, "the corpus or its tokenizer has changed"),
        ({"model": "m"}, "the model has changed"),
        ({"tasks": {"mood": "1"}}, "task 'mood' is a new one"),
        ({"objective": "ar"}, "objective was None, now ar"),
        ({"settings": {"train": {"batch": 8}}}, "settings.train.batch was 16, now 8"),
    ],
)
def test_another_run_is_refused_by_what_differs(tmp_path: Path, identity: dict, words: str) -> None:
    made(tmp_path / "out")
    with pytest.raises(UserError, match=words), folder(tmp_path / "out", **identity).opened():
        pass


def test_a_changed_and_a_missing_task_are_named(tmp_path: Path) -> None:
    made(tmp_path / "out", tasks={"mood": "1"})
    with pytest.raises(UserError, match="task 'mood' has changed"):
        folder(tmp_path / "out", tasks={"mood": "2"}).require()
    with pytest.raises(UserError, match="task 'mood' is not given any more"):
        folder(tmp_path / "out", tasks={}).require()


def test_a_setting_is_named_before_the_content_that_it_shapes(tmp_path: Path) -> None:
    made(tmp_path / "out", settings=Settings().identity("data"))
    other = read_settings(None, ["data.split_seed=1"]).identity("data")
    with pytest.raises(UserError, match=r"data\.split_seed was 0, now 1"):
        folder(tmp_path / "out", corpus="d", settings=other).require()


def test_a_setting_that_came_later_had_its_default(tmp_path: Path) -> None:
    """A folder knows neither settings that were added after it was made, nor why those that are
    gone were there.
    """
    old = Settings().identity("train", "evaluate")
    del old["train"]["clip"]
    made(tmp_path / "out", settings=old | {"attic": {"gone": 1}})
    folder(tmp_path / "out").require()
    other = read_settings(None, ["train.clip=2.0"]).identity("train", "evaluate")
    with pytest.raises(UserError, match=r"settings\.train\.clip was 1\.0, now 2\.0"):
        folder(tmp_path / "out", settings=other).require()


def test_a_setting_that_is_taken_back_is_another_study(tmp_path: Path) -> None:
    given = read_settings(None, ["evaluate.prefix_lengths=[1, 8]"])
    made(tmp_path / "out", settings=given.identity("evaluate"))
    with pytest.raises(UserError, match=r"evaluate\.prefix_lengths was \[1, 8\], now None"):
        folder(tmp_path / "out", settings=Settings().identity("evaluate")).require()


def test_places_that_cannot_be_a_study(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(UserError, match="is a file; give a folder"),
        folder(tmp_path / "file" / "out").opened(),
    ):
        pass
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with (
        pytest.raises(UserError, match="not empty and not a study of ours"),
        folder(tmp_path / "mine").opened(),
    ):
        pass
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_an_older_layout_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_yaml(tmp_path / "a" / "study.yaml", {"identity": {"corpus": "c"}, "plans": {}})
    with pytest.raises(
        UserError, match=r"study\.yaml: written by an older lookaround.*give another --out"
    ):
        folder(tmp_path / "a").require()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "plan.yaml").write_text("identity: {}\n")
    with pytest.raises(UserError, match=r"plan\.yaml: written by an older lookaround"):
        folder(tmp_path / "b", "synthetic.yaml").require()


def test_a_new_folder_goes_again_where_nothing_was_saved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="refused"), folder(tmp_path / "out").opened():
        raise UserError("refused")
    assert not (tmp_path / "out").exists()
    study = folder(tmp_path / "out")

    def saves_and_fails() -> None:
        with study.opened():
            study.save(status="running")
            raise UserError("later")

    with pytest.raises(UserError, match="later"):
        saves_and_fails()
    assert yaml.safe_load((tmp_path / "out" / "study.yaml").read_text())["status"] == "running"


def test_a_folder_that_another_process_has_made_meanwhile_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a place where nothing was and the lock, another process may have made a
    study there.
    """
    late = folder(tmp_path / "out", corpus="d")

    def make(path: Path) -> None:
        path.mkdir()
        (path / "work").write_text("hours of it")
        write_yaml(
            path / "study.yaml",
            {"layout": 2, "identity": folder(path).identity, "status": "running"},
        )

    monkeypatch.setattr("lookaround.studies.folder.make_folder", make)
    with pytest.raises(UserError, match="the corpus or its tokenizer has changed"), late.opened():
        pass
    assert (tmp_path / "out" / "work").read_text() == "hours of it"


def test_what_is_published_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    study = made(tmp_path / "out")
    (tmp_path / "out" / "code").mkdir()
    (tmp_path / "out" / "code" / "old.py").write_text("old")

    def fill(into: Path) -> None:
        (into / "code").mkdir()
        (into / "code" / "new.py").write_text("new")
        (into / "model").write_text("weights")

    study.publish(fill)
    assert [path.name for path in (tmp_path / "out" / "code").iterdir()] == ["new.py"]
    assert (tmp_path / "out" / "model").read_text() == "weights"
    assert not (tmp_path / "out" / "final").exists()


# ---------------------------------------------------------------------------------------- the lock

HOLDER = """
import sys
from pathlib import Path
from lookaround.studies.folder import StudyFolder
with StudyFolder(Path(sys.argv[1]), "study.yaml", "a study of ours", {}).opened():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(UserError, match="another process is at work"),
        StudyFolder(out, "study.yaml", "a study of ours", {}).opened(),
    ):
        pass
    assert out.exists(), "the folder is the other's"
    holder.communicate("")
    with folder(out).opened():
        pass


def test_the_lock_file_stays_so_that_no_two_hold_it(tmp_path: Path) -> None:
    """A lock file that is removed at the end lets one process lock the old file and another a new
    one of that name.
    """
    made(tmp_path / "out")
    lock = tmp_path / "out" / ".lock"
    first = lock.stat().st_ino
    made(tmp_path / "out")
    assert lock.stat().st_ino == first


def _enter(out: Path, count: int, clashes: Any) -> None:
    for _ in range(count):
        try:
            with folder(out).opened():
                try:
                    os.close(os.open(out / "inside", os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    clashes.value += 1
                (out / "inside").unlink(missing_ok=True)
        except UserError:
            pass


@pytest.mark.slow
def test_many_processes_are_never_inside_together(tmp_path: Path) -> None:
    made(tmp_path / "out")
    context = multiprocessing.get_context("spawn")
    clashes = context.Value("i", 0)
    ours = [context.Process(target=_enter, args=(tmp_path / "out", 150, clashes)) for _ in range(3)]
    for process in ours:
        process.start()
    for process in ours:
        process.join(60)
    assert clashes.value == 0


def test_threads_of_one_process_share_no_folder(tmp_path: Path) -> None:
    with folder(tmp_path / "out").opened():
        refused: list[str] = []

        def enter() -> None:
            try:
                with folder(tmp_path / "out").opened():
                    pass
            except UserError as error:
                refused.append(str(error))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        assert len(refused) == 1


# ---------------------------------------------------------------------------------------- identity


def test_the_identity_of_settings_is_an_allow_list_without_paths_and_names() -> None:
    given = read_settings(
        None,
        [
            "train.micro_batch=2",
            "train.log_every=3",
            "model.compile=true",
            "evaluate.bootstrap=500",
        ],
        **{
            "data.corpus": "a.txt",
            "model.init": "here",
            "data.tokenizer": "there",
            "data.tasks": ["t.tsv"],
            "objectives": "ar",
            "compare.seeds": 5,
        },
    )
    names = ("seed", "data", "model", "train", "evaluate", "compare", "forecast", "speculate")
    assert given.identity(*names) == Settings().identity(*names)
    assert read_settings(None, ["train.batch=8"]).identity("train") != Settings().identity("train")


def test_single_fields_of_a_section() -> None:
    assert Settings().identity("seed", "model.preset", "model.precision") == {
        "seed": 0,
        "model": {"preset": "nano", "precision": "auto"},
    }


def test_a_field_says_once_that_results_depend_on_it() -> None:
    from lookaround.settings import TrainSettings

    class More(TrainSettings):
        free: int = 1
        counts: int = result(2, ge=1)

    assert More().result_fields() == TrainSettings().result_fields() | {"counts": 2}


def test_a_model_is_its_weights_and_not_its_folder(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / f"note of {name}.txt").write_text(name)
    one = model_fingerprint(str(tmp_path / "one"))
    assert one == model_fingerprint(str(tmp_path / "other"))
    (tmp_path / "one" / "model.safetensors").write_bytes(b"Weights")
    assert one != model_fingerprint(str(tmp_path / "one"))
