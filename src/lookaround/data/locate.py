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
from lookaround.support.text import listed, one_line

# the last two: eng.testb and eng.testa of CoNLL-2003
TEST_STEMS = (
    *("test", "valid", "dev", "validation", "val", "testb", "testa"),
    *("testing", "eval", "holdout", "heldout"),
)
TRAIN_STEMS = ("train", "training")
_SHARD = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})(?:-[0-9a-f]{16})?")
_PART = re.compile(r"((?:.*[-_.])?)(" + "|".join((*TRAIN_STEMS, *TEST_STEMS)) + ")", re.IGNORECASE)
# what Spark and exporters of the hub call the files of one table
_PIECE = re.compile(r"part-[0-9]+.*|[0-9]{4,}")


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
        for colon in re.finditer(":", str(path)):
            before, after = str(path)[: colon.start()], str(path)[colon.end() :]
            if before and files.is_there(Path(before)):
                path, column = Path(before), after.strip()
                if not column:
                    raise UserError(f"{one_line(path)}: nothing behind the colon; name a column")
                break
    if not files.is_there(path):
        raise UserError(
            f"{one_line(path)}: no such file or folder; give a table or a folder with a task in it"
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
    found = [
        other
        for other in children(path.parent)
        if other.is_file() and _is_shard(other) and stem(other) == stem(path)
    ]
    counts = {int(_shard(other)[3]) for other in found}
    numbers = {int(_shard(other)[2]) for other in found}
    for count in counts:
        if len(counts) > 1 or numbers != {*range(count)}:
            missing = sorted({*range(count)} - numbers)[:5]
            raise UserError(
                f"{path}: files of {min(counts)} to {max(counts)} that make up a part stand beside "
                "one another; keep those of one"
                if len(counts) > 1
                else f"{path}: of {count} files that make up this part, number "
                f"{', '.join(map(str, missing))} is missing"
            )
    return found


def tables_of(folder: Path) -> list[Path]:
    """The tables that a folder holds and nothing else but notes on them: the files of one part."""
    inner = [path for path in children(folder) if not path.name.startswith("_")]
    tables = [path for path in inner if path.is_file() and is_table(path)]
    return tables if not any(path.is_dir() for path in inner) else []


def _shard(path: Path) -> re.Match[str]:
    found = _SHARD.fullmatch(files.file_kind(path)[0])
    assert found is not None
    return found


def _is_shard(path: Path, later: bool = False) -> bool:
    """Whether a file is one of several that make up a part; later: and not the first of them."""
    found = _SHARD.fullmatch(files.file_kind(path)[0])
    return found is not None and not (later and int(found[2]) == 0)


def is_saved(folder: Path) -> bool:
    """Whether `datasets.save_to_disk` wrote a folder of rows."""
    return (folder / "state.json").is_file()


def is_dataset(folder: Path) -> bool:
    """Whether `datasets.save_to_disk` wrote a folder, of rows or of splits of them."""
    return is_saved(folder) or (folder / "dataset_dict.json").is_file()


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
    if part in TRAIN_STEMS:
        tests = [_one(siblings, before + test, like=path) for test in TEST_STEMS]
        return Source(path, column, path, [test for test in tests if test is not None])
    trains = [_one(siblings, before + name, like=path) for name in TRAIN_STEMS]
    train = next((found for found in trains if found is not None), None)
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
    inner = {
        path.name.lower(): path
        for path in children(folder)
        if path.is_dir() and not path.name.startswith("_")
    }
    if is_saved(folder):
        return Source(folder, column, folder, [])
    if (folder / "dataset_dict.json").is_file():
        train = next((inner[name] for name in TRAIN_STEMS if name in inner), None)
        if train is None:
            raise UserError(
                f"{folder}: saved splits {listed(list(inner))}, of which none is 'train'; give the "
                "folder of one of them"
            )
        return Source(folder, column, train, [inner[t] for t in TEST_STEMS if t in inner])
    tables = [
        path
        for path in children(folder)
        if path.is_file() and is_table(path) and not _is_shard(path, later=True)
    ]
    train = _training(tables)
    if train is None:  # of a treebank, which may have other files and folders beside it
        train = _training([path for path in children(folder) if _ending(path) == ".conllu"])
    if train is not None:
        return Source(folder, column, train, _beside(train, None).tests)
    parts = _part_folders(inner)
    if parts is not None:
        return Source(folder, column, *parts)
    if tables and not inner and (len(tables) == 1 or all(_is_piece(path) for path in tables)):
        return Source(folder, column, tables[0] if len(tables) == 1 else folder, [])
    if inner and not tables:
        within = [path for path in inner.values() if _holds_task(path)]
        if len(within) == 1 and (len(inner) == 1 or within[0].name.lower() == "data"):
            return replace(_in_folder(within[0], column), path=folder)
        if len(within) == len(inner) > 1 and all(_has_training(path) for path in within):
            raise UserError(
                f"{folder}: several tasks in it; give one of {listed([p.name for p in within])}"
            )
    if inner:
        return Source(folder, column, folder, [])
    train = _training([path for path in children(folder) if not is_table(path)])
    if train is not None:
        return Source(folder, column, train, _beside(train, None).tests)
    names = listed([path.name for path in children(folder)]) or "no files"
    raise UserError(
        f"{folder}: no task; found {names}; give a folder with train and test tables, or with one "
        "sub-folder for each class"
    )


def _part_folders(inner: dict[str, Path]) -> tuple[Path, list[Path]] | None:
    """(training folder, test folders) where all of these folders are parts of one task."""
    parts = {name: found for name in inner if (found := _PART.fullmatch(name))}
    if len(parts) != len(inner) or len({found[1] for found in parts.values()}) != 1:
        return None
    by_part = {found[2]: inner[name] for name, found in parts.items()}
    train = next((by_part[name] for name in TRAIN_STEMS if name in by_part), None)
    if train is None:
        return None
    return train, [by_part[test] for test in TEST_STEMS if test in by_part]


def _is_piece(path: Path) -> bool:
    return _PIECE.fullmatch(files.file_kind(path)[0]) is not None


def _has_training(folder: Path) -> bool:
    """Whether a folder holds a training table, or one for it."""
    inner = children(folder)
    tables = [path for path in inner if path.is_file() and is_table(path)]
    first = [path for path in tables if not _is_shard(path, later=True)]
    return _training(first) is not None or any(
        path.is_dir() and path.name.lower() in TRAIN_STEMS for path in inner
    )


def _holds_task(folder: Path) -> bool:
    """Whether a folder is more than one class: it holds tables, or folders with files."""
    inner = children(folder)
    return any(path.is_dir() or is_table(path) for path in inner)


def _training(paths: Sequence[Path]) -> Path | None:
    """The one called train.*, or else the one whose name ends so, such as sts-train.tsv."""
    named = [_one(paths, name, like=None) for name in TRAIN_STEMS]
    train = next((found for found in named if found is not None), None)
    ending = [path for path in paths if re.search(r"[-_.]train(ing)?$", stem(path), re.IGNORECASE)]
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
