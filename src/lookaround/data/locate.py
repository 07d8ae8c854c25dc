"""Where a task's files are: what is trained on, and the test parts beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lookaround.data import files
from lookaround.data.table_files import is_table
from lookaround.support.errors import UserError

# the last two: eng.testb and eng.testa of CoNLL-2003
TEST_STEMS = ("test", "valid", "dev", "validation", "val", "testb", "testa")
_SHARD = re.compile(r"(.+)-([0-9]{5})-of-[0-9]{5}(?:-[0-9a-f]{16})?")
_PART = re.compile(r"((?:.*[-_.])?)(train|" + "|".join(TEST_STEMS) + ")", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """A task as it was asked for.

    path: as given, without a column.
    column: the one that was named, if any.
    train: the file or folder of the training part, or of the whole.
    tests: test files or folders, in order of preference.
    alone: why it can't be a task of a training and a test part ("": it can).
    """

    path: Path
    column: str | None
    train: Path
    tests: list[Path]
    alone: str = ""


def locate(given: str | Path) -> Source:
    """The files of a task at PATH or PATH:COLUMN; raises UserError where there is none."""
    path, column = Path(os.path.expanduser(given)), None
    if not files.is_there(path):
        before, colon, after = str(path).rpartition(":")
        if colon and before and files.is_there(Path(before)):
            path, column = Path(before), after.strip()
            if not column:
                raise UserError(f"{files.one_line(path)}: nothing behind the colon; name a column")
    if not files.is_there(path):
        raise UserError(
            f"{files.one_line(path)}: no such file or folder; give a table or a folder with a task "
            "in it"
        )
    return _in_folder(path, column) if path.is_dir() else _beside(path, column)


def stem(path: Path) -> str:
    """The name without the endings of its format and compression ("eng.train": all of it).

    Of train-00000-of-00002.parquet it is "train".
    """
    name, kind = files.file_kind(path)
    if (shard := _SHARD.fullmatch(name)) is not None:
        return shard[1]
    before, _, ending = name.rpartition(".")
    if kind is None and before and re.fullmatch(r"[a-zA-Z][a-zA-Z0-9]*", ending):
        return name if _PART.fullmatch(ending) else before
    return name


def without_part(name: str) -> str:
    """A stem without the name of its part: "ewt.train" is of "ewt"."""
    found = _PART.fullmatch(name)
    return found[1].rstrip("-_.") or name if found else name


def shards(path: Path) -> list[Path]:
    """All files of a part: one, or train-00000-of-00002.parquet and those that follow it."""
    if _SHARD.fullmatch(files.file_kind(path)[0]) is None:
        return [path]
    return [
        other
        for other in children(path.parent)
        if other.is_file() and _is_shard(other) and stem(other) == stem(path)
    ]


def _is_shard(path: Path, later: bool = False) -> bool:
    """Whether a file is one of several that make up a part; later: and not the first of them."""
    found = _SHARD.fullmatch(files.file_kind(path)[0])
    return found is not None and not (later and int(found[2]) == 0)


def is_saved(folder: Path) -> bool:
    """Whether `datasets.save_to_disk` wrote a folder of rows."""
    return (folder / "state.json").is_file()


def children(folder: Path) -> list[Path]:
    """What a folder holds, hidden files left out; raises UserError where it can't be listed."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be listed ({error.strerror}); give a folder that you may read"
        ) from None


def _beside(path: Path, column: str | None) -> Source:
    split = _PART.fullmatch(stem(path))
    if split is None:
        return Source(path, column, path, [])
    before, part = split[1], split[2].lower()
    siblings = [
        other
        for other in children(path.parent)
        if other.is_file()
        and not _is_shard(other, later=True)
        and (is_table(other) if is_table(path) else _ending(other) == _ending(path))
    ]
    if part == "train":
        tests = [_one(siblings, before + test, like=path) for test in TEST_STEMS]
        return Source(path, column, path, [test for test in tests if test is not None])
    train = _one(siblings, before + "train", like=path)
    alone = ""
    if train is not None:
        alone = (
            f"{path}: a test part on its own; give the train file instead, {train} (its test part "
            "is found by name)"
        )
    elif not before:
        alone = (
            f"{path}: a test part on its own; give the train file instead "
            f"(train{path.name[len(stem(path)) :]} beside it), or rename it if it is the whole task"
        )
    return Source(path, column, path, [], alone)


def _ending(path: Path) -> str:
    """What stands behind the stem, without a compression."""
    name = path.name
    if path.suffix.lower() in files.COMPRESSIONS:
        name = path.stem
    return name[len(stem(path)) :].lower()


def _in_folder(folder: Path, column: str | None) -> Source:
    inner = {path.name.lower(): path for path in children(folder) if path.is_dir()}
    if is_saved(folder):
        return Source(folder, column, folder, [])
    if (folder / "dataset_dict.json").is_file() and "train" in inner:
        tests = [inner[test] for test in TEST_STEMS if test in inner]
        return Source(folder, column, inner["train"], tests)
    tables = [
        path
        for path in children(folder)
        if path.is_file() and is_table(path) and not _is_shard(path, later=True)
    ]
    # a dataset of the hub has its files in "data"
    if not tables and "data" in inner:
        within = [path for path in children(inner["data"]) if path.is_file() and is_table(path)]
        if _training([path for path in within if not _is_shard(path, later=True)]) is not None:
            return replace(_in_folder(inner["data"], column), path=folder)
    train = _training(tables)
    if train is not None:
        return Source(folder, column, train, _beside(train, None).tests)
    train = _training([path for path in children(folder) if _ending(path) == ".conllu"])
    if train is not None:  # of a treebank, which may have other files and folders beside it
        return Source(folder, column, train, _beside(train, None).tests)
    if "train" in inner and not [
        path for path in inner.values() if path.name.lower() not in ("train", *TEST_STEMS)
    ]:
        tests = [inner[test] for test in TEST_STEMS if test in inner]
        return Source(folder, column, inner["train"], tests)
    if len(tables) == 1 and not inner:
        return Source(folder, column, tables[0], [])
    if inner:
        return Source(folder, column, folder, [])
    train = _training([path for path in children(folder) if not is_table(path)])
    if train is not None:
        return Source(folder, column, train, _beside(train, None).tests)
    names = files.listed([path.name for path in children(folder)]) or "no files"
    raise UserError(
        f"{folder}: no task; found {names}; give a folder with train and test tables, or with one "
        "sub-folder for each class"
    )


def _training(paths: Sequence[Path]) -> Path | None:
    """The one called train.*, or else the one whose name ends so, such as sts-train.tsv."""
    train = _one(paths, "train", like=None)
    ending = [path for path in paths if re.search(r"[-_.]train$", stem(path), re.IGNORECASE)]
    return ending[0] if train is None and len(ending) == 1 else train


def _one(paths: Sequence[Path], name: str, like: Path | None) -> Path | None:
    matches = [path for path in paths if stem(path).lower() == name.lower()]
    # train.csv beside test.csv and test.jsonl: the same kind is meant
    if len(matches) > 1 and like is not None:
        ending = like.name[len(stem(like)) :]
        matches = [path for path in matches if path.name[len(stem(path)) :] == ending] or matches
    if len(matches) > 1:
        raise UserError(
            f"{matches[0].parent}: {matches[0].name!r} and {matches[1].name!r} both claim to be "
            f"{name!r}; keep one of them"
        )
    return matches[0] if matches else None
