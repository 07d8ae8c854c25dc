"""Reads corpora: files, folders, saved datasets, datasets of the hub and of Python."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lookaround.data import files, table_files, text_columns
from lookaround.data.corpus import Corpus, make_corpus
from lookaround.data.files import Reading
from lookaround.data.locate import is_dataset
from lookaround.data.separators import (
    NOTICED,
    documents_in,
    found_separator,
    is_mark,
    peeked,
    separator_of,
)
from lookaround.support.errors import UserError
from lookaround.support.text import listed, one_line

# endings of plain text that corpora are published with (BabyLM, WikiText)
TEXT_ENDINGS = (".train", ".dev", ".valid", ".test", ".raw", ".tokens")
# text that is no prose as it stands, and what is no plain text
MARKUP = (
    *(".html", ".htm", ".xml", ".yaml", ".yml", ".ipynb", ".rtf", ".css", ".svg", ".toml"),
    *(".doc", ".docx", ".odt", ".pdf", ".epub", ".xls", ".xlsx", ".tar", ".zip", ".arrow"),
)
PAPERS = ("readme", "license", "licence", "copying", "changelog", "citation")
# of which part a file is: the end of its name or of a folder's, before a number
_PART = re.compile(
    r"(?:^|[-_.])(train|training|unsupervised|test|testing|valid|validation|dev|val|eval)"
    r"(?:[-_.]?[0-9][-_.0-9a-zM]*)?$",
    re.IGNORECASE,
)
_KINDS = {"jsonl": "JSON lines", "txt": "plain text"}  # of files by how they begin
_TRAINING = ("train", "training", "unsupervised")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def read_corpus(
    source: Any,
    *,
    text_column: str | None = None,
    separator: str | None = None,
    reading: Reading | None = None,
    required: bool = True,
) -> Corpus:
    """Reads the documents of a file, a folder, a saved `datasets` folder or a dataset of the hub.

    source: a path, or several; the name of a dataset; a `Dataset`, a `DatasetDict` or an
        `IterableDataset`; a data frame, rows as dicts, or texts. A path that exists wins;
        "owner/name" or "owner/name:config" is looked up on the hub only if there is none.
    text_column: the column or field of .jsonl, .json, .csv, .tsv, .parquet and datasets that holds
        the text (several with commas between them are joined; a number of a file without a row of
        names); without it a usual name or the one clear text column is taken.
    separator: what stands between documents of a text file: "blank" lines, "line" ends, nothing
        ("file"), a mark such as <|endoftext|>, or pieces of so many characters; without it what
        the file shows, else blank lines in .txt and nothing in others.
    reading: the encoding, and who hears of progress.
    required: whether a text column that is named must be there.

    Raises UserError for everything that cannot be read.
    """
    reader = _Reader(text_column, separator_of(separator), reading or Reading(), required)
    if isinstance(source, str | Path):
        return reader.read(source)
    if is_named(source):
        return reader.several(list(map(Path, source)))
    return reader.given(source)


def is_named(source: Any) -> bool:
    """Whether a corpus is given by names: one, or a list of paths that exist."""
    if isinstance(source, str | Path):
        return True
    return isinstance(source, list | tuple) and bool(source) and all(map(_is_path, source))


def _is_path(item: Any) -> bool:
    """Whether an item of a list is the path of a file rather than a text."""
    if isinstance(item, Path):
        return True
    if not isinstance(item, str) or "\n" in item:
        return False
    try:
        return Path(os.path.expanduser(item)).exists()
    except (OSError, ValueError):  # too long for a name
        return False


def corpus_kind(path: Path) -> str | None:
    """What a file holds, by its name and, where that says little, by how it begins.

    "txt", a table's kind, another ending of `files.FORMATS`, or None: it is no text that we read.
    """
    kind = files.file_kind(path)[1]
    if kind not in ("txt", None) and (kind != "json" or table_files.is_table(path)):
        return kind
    name = files.without_compression(path.name).lower()
    if kind == "json" or (kind is None and (name.endswith(MARKUP) or name.startswith("_"))):
        return None
    named = kind == "txt" or name.endswith(TEXT_ENDINGS)
    if not named and "." in name:
        return None
    return _text_kind(path, named)


def _text_kind(path: Path, named: bool = False) -> str | None:
    """Whether a file begins as objects of JSON, one a line, or as other text: "jsonl" or "txt".

    None where it is no plain text. named: its name says that it is.
    """
    begin = next(files.byte_chunks(path), b"")[:65536]
    if not named and (_CONTROL.search(begin) or begin.startswith((b"%PDF", b"PK\3\4"))):
        return None
    begin = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
    objects = begin.startswith(b"{") and table_files.is_object(begin.partition(b"\n")[0])
    return "jsonl" if objects else "txt"


class _Reader:
    """Reads a corpus and keeps what is to be told of how.

    columns: {text column: files that have it}. cut: {separator: files}. marks: {mark that was
    not cut at: times}. missed: whether a mark that was asked for has not been seen yet.
    """

    def __init__(
        self, text_column: str | None, separator: str | None, reading: Reading, required: bool
    ) -> None:
        self.wanted, self.separator = text_column, separator
        self.reading, self.required = reading, required
        self.tables = reading.of(text_column)
        self.columns: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()
        self.missed = separator is not None and is_mark(separator)
        self.asked = False
        self.notes: list[str] = []

    # -- what is given

    def read(self, source: str | Path) -> Corpus:
        """A path, or the name of a dataset."""
        if not str(source).strip():
            raise UserError(
                "no corpus given (an empty name); give a file, a folder or the name of a dataset"
            )
        path = Path(os.path.expanduser(source))  # pathlib refuses "~nobody"
        if not files.is_there(path):
            return self.hub(str(source))
        if path.is_dir():
            return self.folder(path)
        stem, kind = files.file_kind(path)[0], self.kind_of(path)
        self.require_columns({path: kind})
        description = {"source": path.name, "format": kind, "files": 1}
        return self.corpus(stem, self.file_texts(path, kind), description, path)

    def folder(self, folder: Path) -> Corpus:
        """All files of a folder, or what `datasets` has saved there."""
        if is_dataset(folder):
            return self.datasets(table_files.load_saved(folder), folder.resolve().name, str(folder))
        kinds, skipped = self.data_files(folder)
        self.require_columns(kinds)
        texts = (text for path, kind in kinds.items() for text in self.file_texts(path, kind))
        description = {
            "source": folder.resolve().name,
            "format": "+".join(sorted(set(kinds.values()))),
            "files": len(kinds),
            "skipped": skipped,
        }
        return self.corpus(folder.resolve().name, texts, description, folder)

    def several(self, paths: list[Path]) -> Corpus:
        """Files and folders, one after the other."""
        parts: list[Iterable[str]] = []
        kinds: dict[Path, str] = {}
        names = []
        for path in (Path(os.path.expanduser(given)) for given in paths):
            names.append(path.name)
            if not files.is_there(path):
                raise UserError(f"{one_line(path)}: no such file or folder; give ones that exist")
            if path.is_dir() and is_dataset(path):
                parts.append(self.dataset_texts(table_files.load_saved(path), str(path))[0])
                continue
            inner = self.data_files(path)[0] if path.is_dir() else {path: self.kind_of(path)}
            kinds |= inner
            parts += [self.file_texts(file, kind) for file, kind in inner.items()]
        self.require_columns(kinds, bool(len(parts) - len(kinds)))
        texts = (text for part in parts for text in part)
        description = {
            "source": ", ".join(names[:5]) + " .." * (len(names) > 5),
            "format": "+".join(sorted(set(kinds.values()))) or "datasets",
            "files": len(parts),
        }
        more = f" and {len(paths) - 1} more" * (len(paths) > 1)
        return self.corpus(files.file_kind(paths[0])[0] + more, texts, description, paths[0])

    def hub(self, name: str) -> Corpus:
        """A dataset of the Hugging Face hub."""
        repository = name.partition(":")[0]
        mistyped = "/" in name and Path(name).parent.is_dir()  # data/corups: a file is meant
        if (
            mistyped
            or files.file_kind(name)[1] is not None
            or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", repository)
        ):
            raise UserError(f"{one_line(name)}: no such file or folder; give one that exists")
        data = table_files.load_named(
            name,
            "give a path that exists, or the name of a dataset on the hub (owner/name or "
            "owner/name:config)",
        )
        return self.datasets(data, name.split("/")[-1], name, name)

    def given(self, source: Any) -> Corpus:
        """An object of Python: a dataset, a frame, rows or texts."""
        import datasets
        import pyarrow

        try:
            if type(source).__module__.startswith("pandas"):
                source = datasets.Dataset.from_pandas(source, preserve_index=False)
            elif isinstance(source, pyarrow.Table):
                source = datasets.Dataset(source)
            elif isinstance(source, Mapping) and all(isinstance(x, list) for x in source.values()):
                source = datasets.Dataset.from_dict(dict(source))
            elif isinstance(source, list | tuple) and source and isinstance(source[0], dict):
                source = datasets.Dataset.from_list(list(source))
        except (pyarrow.ArrowException, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"these rows are no dataset ({one_line(error)})") from None
        parts = list(source.values()) if isinstance(source, Mapping) else [source]
        if parts and all(hasattr(part, "with_format") for part in parts):
            return self.datasets(source, "dataset", "dataset")
        if isinstance(source, Mapping | bytes) or not isinstance(source, Iterable):
            raise UserError(
                f"a corpus of type {type(source).__name__} cannot be read; give a path, several, a "
                "dataset, rows, or texts"
            )
        description = {"source": "texts", "format": "texts", "files": 0}
        return self.corpus("texts", _texts(source), description)

    def datasets(self, data: Any, name: str, source: str, described: str | None = None) -> Corpus:
        """A dataset of `datasets`, or the training split of several."""
        texts, splits = self.dataset_texts(data, source)
        description = {
            "source": described or name,
            "format": "datasets",
            "files": len(splits),
            "splits": [split for split in splits if split],
        }
        return self.corpus(name, texts, description, Path(source))

    # -- what is read

    def kind_of(self, path: Path) -> str:
        """The kind of a file that was named, which is read as text where that is not known."""
        files.require_content(path)
        kind = corpus_kind(path)
        if kind is not None:
            return kind
        name = files.without_compression(path.name).lower()
        kind = None if name.endswith((*MARKUP, ".json")) else _text_kind(path)
        if kind is None:
            raise UserError(
                f"{path}: format not known from its name, or no plain text; give {files.READABLE}"
            )
        self.notes.append(f"{path.name}: no known ending, read as {_KINDS[kind]}")
        return kind

    def data_files(self, folder: Path) -> tuple[dict[Path, str], int]:
        """({file: kind} of a folder, how many files of it are left out).

        Papers such as README are left out beside other files, and so are validation and test parts
        where every file's name says of which part it is. Raises UserError where no file is left.
        """
        paths = list(files.find_files(folder))
        if not paths:
            raise UserError(f"{folder}: an empty folder; put the corpus into it ({files.READABLE})")
        kinds = {path: kind for path in paths if (kind := corpus_kind(path)) is not None}
        if {*kinds.values()} & {"py"}:  # of a program, JSON configures it
            kinds = {path: kind for path, kind in kinds.items() if kind != "json"}
        papers = [path for path in kinds if path.name.lower().split(".")[0] in PAPERS]
        others = [path for path in paths if path not in kinds and not path.name.startswith("_")]
        data = {path: kind for path, kind in kinds.items() if path not in papers}
        if not data and not others:
            data = kinds  # a folder of nothing but a README
        if not data:
            endings = (*MARKUP, ".json")
            named = [path for path in others if not path.name.lower().endswith(endings)]
            data = {path: kind for path in named if (kind := _text_kind(path)) is not None}
            others = [path for path in others if path not in data]
            if data:
                told = listed(sorted({path.suffix for path in data}))
                what = " and ".join(sorted({_KINDS[kind] for kind in data.values()}))
                self.notes.append(f"files without a known ending read as {what}: {told}")
        if not data:
            beside = f" (beside {papers[0].name})" if papers else ""
            raise UserError(
                f"{folder}: none of its {len(others)} files can be read, such as "
                f"{one_line(others[0].name, 60)!r}{beside}; give {files.READABLE}"
            )
        data = self.of_training(folder, data)
        if others:
            endings_told = Counter(path.suffix.lower() or path.name for path in others)
            told = ", ".join(
                f"{count} {one_line(e, 20)}" for e, count in endings_told.most_common(4)
            )
            more = " .." * (len(endings_told) > 4)
            self.notes.append(f"files that are no text by their names left out: {told}{more}")
        return data, len(paths) - len(data)

    def of_training(self, folder: Path, data: dict[Path, str]) -> dict[Path, str]:
        """The training files alone, where every file's name says of which part it is."""
        parts = {}
        for path, kind in data.items():
            part = _part_of(path.relative_to(folder))
            if part is None or kind in files.WHOLE.values():
                return data
            parts[path] = part in _TRAINING
        train = {path: kind for path, kind in data.items() if parts[path]}
        if not train or len(train) == len(data):
            return data
        self.notes.append(
            f"training files alone ({len(train)}); {len(data) - len(train)} of validation and test "
            "parts left out"
        )
        return train

    def require_columns(self, kinds: Mapping[Path, str], others: bool = False) -> None:
        """Raises UserError where a text column is asked for and no file is a table."""
        tables = others or any(kind in files.TABLES.values() for kind in kinds.values())
        if self.wanted and self.required and not tables:
            path, kind = next(iter(kinds.items()))
            raise UserError(
                f"{path}: text column {one_line(self.wanted, 60)!r} asked for, but a .{kind} file "
                "has no columns; leave it out"
            )

    def file_texts(self, path: Path, kind: str) -> Iterator[str]:
        """The documents of a file, one after the other."""
        if kind in files.TABLES.values():
            self.tables.heard = self.reading.heard
            found = text_columns.texts_of_file(
                path, self.wanted, self.required, self.tables, kind=kind
            )
            yield from self.table_texts(found)
            return
        begin, chunks = peeked(files.text_chunks(path, self.reading))
        separator = self.separator or found_separator(begin, whole=kind != "txt")
        if self.separator is None and separator not in ("blank", "file"):
            self.cut[separator] += 1
        count = 0
        for text in documents_in(chunks, separator):
            count += 1
            for mark in NOTICED:
                if mark != separator and mark in text:
                    self.marks[mark] += text.count(mark)
            if text or separator == "file":  # what stands around separators is no document
                yield text
        self.missed = self.missed and count < 2

    def dataset_texts(self, data: Any, source: str) -> tuple[Iterator[str], list[str]]:
        """(documents, splits that they are of) of a dataset, or of several splits."""
        splits = dict(data) if isinstance(data, Mapping) else {"": data}
        if "train" in splits and len(splits) > 1:
            left = ", ".join(split for split in splits if split != "train")
            self.notes.append(f"split 'train' alone; {left} left out")
            splits = {"train": splits["train"]}
        elif len(splits) > 1:
            self.notes.append(f"splits {listed(list(splits))} read: there is no 'train'")
        texts = (
            text
            for part in splits.values()
            for text in self.table_texts(
                text_columns.texts_of_blocks(
                    table_files.dataset_blocks(part, source), self.wanted, self.required
                )
            )
        )
        return texts, list(splits)

    def table_texts(self, found: text_columns.TextsOfTable) -> Iterator[str]:
        """The documents of a table."""
        if found.column is not None:
            self.columns[found.column] += 1
            self.asked = self.asked or found.asked
        self.notes += [note for note in found.notes if note not in self.notes]
        for block in found.texts:
            yield from block

    def corpus(
        self, name: str, texts: Iterable[str], description: dict[str, Any], path: Path | None = None
    ) -> Corpus:
        """The corpus of these documents, with what is to be told of it."""

        def more() -> tuple[dict[str, Any], list[str]]:
            column = ", ".join(sorted(self.columns)) or None
            return {"text_column": column}, self.told()

        made = make_corpus(name, texts, description, path, more)
        return dataclasses.replace(made, asked=self.asked)

    def told(self) -> list[str]:
        """A line for each choice that was made, known when all is read."""
        if self.missed:
            raise UserError(
                f"data.separator: {one_line(repr(self.separator), 60)} stands nowhere in the text; "
                "give blank, line, file, a number of characters, or a mark that does"
            )
        notes = [*self.notes, *self.reading.notes, *self.tables.notes]
        for mark, count in self.marks.items():
            notes.append(
                f"{mark!r} stands {count:,} times within documents; --separator {mark!r} cuts there"
            )
        what = {"wiki": "<doc> and </doc>", "titles": "titles (= .. =)"}
        for separator, count in self.cut.items():
            notes.append(f"documents cut at {what.get(separator, separator)} (files: {count})")
        return notes


def _texts(items: Iterable[Any]) -> Iterator[str]:
    """Texts as they are; raises UserError for what is none, by its number."""
    for number, item in enumerate(items, 1):
        if not isinstance(item, str):
            raise UserError(
                f"text {number} of the corpus is of type {type(item).__name__}; give strings, "
                "paths that exist, rows, or a dataset"
            )
        try:
            item.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(
                f"text {number} of the corpus holds half a surrogate pair at character "
                f"{error.start}; remove it"
            ) from None
        yield item


def _part_of(path: Path) -> str | None:
    """The part that the name of a file, or of a folder above it, says it is of."""
    for name in (_stem(path.name), *reversed(path.parts[:-1])):
        found = _PART.search(name)
        if found:
            return found[1].lower()
    return None


def _stem(name: str) -> str:
    """A name without the endings that tell of its format."""
    stem = files.file_kind(name)[0]
    before, dot, ending = stem.rpartition(".")
    return before if dot and f".{ending.lower()}" in (".raw", ".tokens") else stem
