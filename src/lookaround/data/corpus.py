"""Documents to pretrain on, and their split into training, validation and test parts.

A corpus is a list of distinct texts in a fixed order. The split is by document, never by window,
and depends on nothing but the seed and the texts.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookaround.data import files, tables
from lookaround.support.errors import UserError


@dataclass(frozen=True)
class Corpus:
    """Distinct documents in a fixed order.

    `description` holds plain JSON values for a public report (names and counts, no folders of the
    machine); `fingerprint` is the sha256 of the documents in order, each preceded by its length in
    bytes.
    """

    name: str
    documents: list[str]
    description: dict[str, Any]
    fingerprint: str


def make_corpus(
    name: str, texts: Sequence[str], description: dict[str, Any], path: str | Path | None = None
) -> Corpus:
    """Return a `Corpus` of the non-empty `texts`, each kept where it occurs first.

    `documents`, `duplicates`, `empty` and `bytes` (UTF-8) are added to `description`. Raises
    UserError if none is left, naming `path`; a description holds no folders.
    """
    filled = [text for text in texts if text.strip()]
    documents = list(dict.fromkeys(filled))
    if not documents:
        raise UserError(
            f"{path or name}: empty, no document with any text; give a corpus with text in it"
        )
    digest = hashlib.sha256()
    size = 0
    for document in documents:
        data = document.encode("utf-8")
        digest.update(len(data).to_bytes(8, "big") + data)
        size += len(data)
    counts = {
        "documents": len(documents),
        "duplicates": len(filled) - len(documents),
        "empty": len(texts) - len(filled),
        "bytes": size,
    }
    return Corpus(name, documents, {**description, **counts}, digest.hexdigest())


def read_corpus(source: str | Path, *, text_column: str | None = None) -> Corpus:
    """Reads the documents of a file, a folder, a saved `datasets` folder or a dataset of the hub.

    A path that exists wins; "owner/name" or "owner/name:config" is looked up on the hub only if
    there is none. `text_column` names the column of .jsonl, .csv, .tsv, .parquet and datasets that
    holds the text; without it a usual name or the one clear text column is taken. Raises UserError
    for everything that cannot be read.
    """
    if not str(source).strip():
        raise UserError(
            "no corpus given (an empty name); give a file, a folder or the name of a dataset"
        )
    path = Path(os.path.expanduser(source))  # pathlib refuses "~nobody"
    if not files.is_there(path):
        return _read_hub(str(source), text_column)
    if path.is_dir():
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            return _read_saved(path, text_column)
        return _read_folder(path, text_column)
    stem, kind = files.file_kind(path)
    if kind is None:
        hint = " (JSON: one object a line, called .jsonl)" if ".json" in path.name.lower() else ""
        raise UserError(f"{path}: format not known from its name; give {files.READABLE}{hint}")
    if text_column is not None and kind not in files.TABLES.values():
        raise UserError(
            f"{path}: text column {text_column!r} asked for, but a .{kind} file has no columns; "
            "leave it out"
        )
    texts, column = _read_file(path, kind, text_column)
    description = {"source": path.name, "format": kind, "files": 1, "text_column": column}
    return make_corpus(stem, texts, description, path)


def _read_file(path: Path, kind: str, text_column: str | None) -> tuple[list[str], str | None]:
    if kind in files.TABLES.values():
        return _table_texts(tables.read_table(path), text_column)
    text = files.read_text(path)
    if kind == "txt":
        return [part.strip() for part in re.split(r"\n(?:[^\S\n]*\n)+", text)], None
    return [text], None


def _table_texts(table: tables.Table, text_column: str | None) -> tuple[list[str], str | None]:
    if not table.rows:
        return [], None
    column = tables.text_column(table, text_column)
    return tables.column_texts(table, column), column


def _joined(parts: Iterable[tuple[list[str], str | None]]) -> tuple[list[str], str | None]:
    """(all texts, the names of their columns) of several files or splits."""
    parts = list(parts)
    names = sorted({column for _, column in parts if column is not None})
    return [text for texts, _ in parts for text in texts], ", ".join(names) or None


def _read_folder(folder: Path, text_column: str | None) -> Corpus:
    paths = list(files.find_files(folder))
    kinds = {path: kind for path in paths if (kind := files.file_kind(path)[1]) is not None}
    data = [
        path for path in kinds if files.file_kind(path)[0].lower() not in ("readme", "license")
    ] or list(kinds)
    if not paths:
        raise UserError(f"{folder}: an empty folder; put the corpus into it ({files.READABLE})")
    if not data:
        raise UserError(
            f"{folder}: none of its {len(paths)} files can be read, such as {paths[0].name!r}; "
            f"give {files.READABLE}"
        )
    texts, column = _joined(_read_file(path, kinds[path], text_column) for path in data)
    description = {
        "source": folder.resolve().name,
        "format": "+".join(sorted({kinds[path] for path in data})),
        "files": len(data),
        "skipped": len(paths) - len(data),
        "text_column": column,
    }
    return make_corpus(folder.resolve().name, texts, description, folder)


def _read_saved(folder: Path, text_column: str | None) -> Corpus:
    data = tables.load_saved(folder)
    return _from_datasets(data, folder.resolve().name, str(folder), text_column)


def _read_hub(name: str, text_column: str | None) -> Corpus:
    repository, _, config = name.partition(":")
    mistyped = "/" in name and Path(name).parent.is_dir()  # data/corups: a file is meant
    if (
        mistyped
        or files.file_kind(name)[1] is not None
        or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", repository)
    ):
        raise UserError(f"{files.one_line(name)}: no such file or folder; give one that exists")
    import datasets

    try:
        data = datasets.load_dataset(repository, config or None)
    except Exception as error:  # offline, not found, gated or without a config
        raise UserError(
            f"no file, folder or dataset named {name!r} ({type(error).__name__}: "
            f"{files.one_line(error)}); give a path that exists, or the name of a dataset on the "
            "hub (owner/name or owner/name:config)"
        ) from None
    return _from_datasets(data, name.split("/")[-1], name, text_column)


def _from_datasets(data: Any, name: str, source: str, text_column: str | None) -> Corpus:
    splits = data if isinstance(data, dict) else {"": data}
    if "train" in splits:
        splits = {"train": splits["train"]}
    texts, column = _joined(
        _table_texts(tables.arrow_table(part.with_format("arrow")[:], source), text_column)
        for part in splits.values()
    )
    description = {
        "source": name if os.path.isdir(os.path.expanduser(source)) else source,
        "format": "datasets",
        "files": len(splits),
        "splits": [split for split in splits if split],
        "text_column": column,
    }
    return make_corpus(name, texts, description, Path(source))


def hash_key(seed: int | str, text: str) -> bytes:
    """The 16 bytes by which texts are ordered at random, each text by itself."""
    return hashlib.blake2b(f"{seed}\0{text}".encode(), digest_size=16).digest()


def split_documents(
    documents: Sequence[str], *, seed: int = 0, validation: float = 0.05, test: float = 0.05
) -> dict[str, list[int]]:
    """Return the indices, in rising order, of the documents of "train", "validation" and "test".

    Documents are ordered by a hash of seed and text. Test takes its share of them from the front,
    validation from the back, and train keeps the rest, so that documents added later move few
    others and never one from test to validation. A document is passed over if with it the part
    would exceed twice its share of the bytes; where all are too large, the smallest is taken. Each
    part gets at least one document. Ours.

    Raises UserError for fewer than 3 documents, and for shares that are not above 0 or leave none
    for training.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise UserError(
            f"validation={validation} and test={test} cannot be split off; both must be above 0 "
            "and together below 1"
        )
    if len(documents) < 3:
        raise UserError(
            f"a corpus of {len(documents)} document{'s' * (len(documents) != 1)} cannot be split "
            "into train, validation and test; at least 3 are needed (in a .txt file a blank line "
            "separates documents; or give a folder of files)"
        )
    sizes = [len(document.encode("utf-8")) for document in documents]
    order = sorted(
        range(len(documents)), key=lambda index: (hash_key(seed, documents[index]), index)
    )
    test_part = _take(order, sizes, test, len(documents) - 2)
    rest = [index for index in reversed(order) if index not in test_part]
    validation_part = _take(rest, sizes, validation, len(rest) - 1)
    train = [
        index
        for index in range(len(documents))
        if index not in test_part and index not in validation_part
    ]
    return {"train": train, "validation": sorted(validation_part), "test": sorted(test_part)}


def _take(order: Sequence[int], sizes: Sequence[int], share: float, most: int) -> set[int]:
    count = min(max(1, round(share * len(sizes))), most)
    room = 2 * share * sum(sizes)
    taken: set[int] = set()
    for index in order:
        if len(taken) == count:
            break
        if sizes[index] <= room:
            taken.add(index)
            room -= sizes[index]
    return taken or {min(order, key=lambda index: sizes[index])}
