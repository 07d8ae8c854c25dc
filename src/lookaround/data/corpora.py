"""Reads corpora: files, folders, saved datasets, datasets of the hub and of Python."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lookaround.data import files, table_files, text_columns
from lookaround.data.corpus import Corpus, make_corpus
from lookaround.data.files import Reading
from lookaround.data.separators import MARKS, documents_in, found_separator, peeked
from lookaround.support.errors import UserError

# endings of plain text that corpora are published with (BabyLM, WikiText)
TEXT_ENDINGS = (".train", ".dev", ".valid", ".test", ".raw", ".tokens")
# text that is no prose as it stands
MARKUP = (
    *(".html", ".htm", ".xml", ".yaml", ".yml", ".ipynb", ".rtf", ".css", ".svg", ".toml"),
    *(".doc", ".docx", ".odt", ".pdf", ".epub", ".xls", ".xlsx", ".tar", ".zip", ".arrow"),
)
PAPERS = ("readme", "license", "licence", "copying", "changelog", "citation")
_PART = re.compile(
    r"(?:^|[-_./])(train|training|test|valid|validation|dev|val)(?=$|[-_./\d])", re.IGNORECASE
)


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
        `IterableDataset`; or texts. A path that exists wins; "owner/name" or "owner/name:config"
        is looked up on the hub only if there is none.
    text_column: the column or field of .jsonl, .json, .csv, .tsv, .parquet and datasets that holds
        the text (several with commas between them are joined); without it a usual name or the one
        clear text column is taken.
    separator: what stands between documents of a text file: "blank" lines, "line" ends, nothing
        ("file"), a mark such as <|endoftext|>, or pieces of so many characters; without it what
        the file shows, else blank lines in .txt and nothing in others.
    reading: the encoding, and who hears of progress.
    required: whether a text column that is named must be there.

    Raises UserError for everything that cannot be read.
    """
    reader = _Reader(text_column, _separator(separator), reading or Reading(), required)
    if isinstance(source, str | Path):
        return reader.read(source)
    if hasattr(source, "with_format") or isinstance(source, Mapping):
        return reader.datasets(source, "dataset", "dataset")
    if not isinstance(source, Iterable):
        raise UserError(
            f"a corpus of type {type(source).__name__} cannot be read; give a path, several, a "
            "dataset, or texts"
        )
    if is_named(source):
        return reader.several(list(map(Path, source)))
    return reader.texts(source)


def is_named(source: Any) -> bool:
    """Whether a corpus is given by names: one, or a list of paths that exist."""
    if isinstance(source, str | Path):
        return True
    return isinstance(source, list | tuple) and bool(source) and all(map(_is_path, source))


def _is_path(item: Any) -> bool:
    """Whether an item of a list is the path of a file rather than a text."""
    if isinstance(item, Path):
        return True
    short = isinstance(item, str) and len(item) < 4096 and "\n" not in item
    return short and files.is_there(Path(os.path.expanduser(item)))


def _separator(given: str | None) -> str | None:
    """A separator as it is used, with backslashes as in Python's strings."""
    if given is None:
        return None
    if not given.strip() and "\\" not in given and not given.strip(" "):
        raise UserError(
            "data.separator: empty; give blank, line, file, a number of characters, or a mark such "
            "as <|endoftext|>"
        )
    if given.isdecimal() and not 1 <= int(given) < 1 << 40:
        raise UserError(f"data.separator: {given[:20]} characters; give 1 or more")
    return given.replace("\\n", "\n").replace("\\t", "\t")


def corpus_kind(path: Path) -> str | None:
    """What a file holds, by its name and, where that says nothing, by how it begins.

    "txt", a table's kind, another ending of `files.FORMATS`, or None: it is no text that we read.
    """
    kind = files.file_kind(path)[1]
    if kind is not None and (kind != "json" or table_files.is_table(path)):
        return kind
    name = files.without_compression(path.name).lower()
    if kind is not None or name.endswith(MARKUP) or name.startswith("_"):
        return None
    if name.endswith(TEXT_ENDINGS):
        return "txt"
    # no ending at all, such as wiki_00: is it text?
    return "txt" if "." not in name and _begins_as_text(path) else None


def _begins_as_text(path: Path) -> bool:
    try:
        begin = next(files.byte_chunks(path), b"")[:4096]
    except UserError:
        return False
    return b"\0" not in begin and not begin.startswith((b"%PDF", b"PK\3\4"))


class _Reader:
    """Reads a corpus and keeps what is to be told of how."""

    def __init__(
        self, text_column: str | None, separator: str | None, reading: Reading, required: bool
    ) -> None:
        self.wanted, self.separator = text_column, separator
        self.reading, self.required = reading, required
        self.columns: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.notes: list[str] = []

    # -- what is given

    def read(self, source: str | Path) -> Corpus:
        if not str(source).strip():
            raise UserError(
                "no corpus given (an empty name); give a file, a folder or the name of a dataset"
            )
        path = Path(os.path.expanduser(source))  # pathlib refuses "~nobody"
        if not files.is_there(path):
            return self.hub(str(source))
        if path.is_dir():
            if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
                data = table_files.load_saved(path)
                return self.datasets(data, path.resolve().name, str(path))
            return self.folder(path)
        return self.file(path)

    def file(self, path: Path) -> Corpus:
        stem, kind = files.file_kind(path)[0], self.kind_of(path)
        if self.wanted and self.required and kind not in files.TABLES.values():
            raise UserError(
                f"{path}: text column {self.wanted!r} asked for, but a .{kind} file has no "
                "columns; leave it out"
            )
        texts = self.file_texts(path, kind)
        return self.corpus(stem, texts, {"source": path.name, "format": kind, "files": 1}, path)

    def kind_of(self, path: Path) -> str:
        """The kind of a file that was named, which is read as text where that is not known."""
        kind = corpus_kind(path)
        if kind is not None:
            return kind
        name = files.without_compression(path.name).lower()
        files.require_file(path)
        if name.endswith((*MARKUP, ".json")) or not _begins_as_text(path):
            raise UserError(
                f"{path}: format not known from its name, or no plain text; give {files.READABLE}"
            )
        self.notes.append(f"{path.name}: no known ending, read as plain text")
        return "txt"

    def folder(self, folder: Path) -> Corpus:
        paths = list(files.find_files(folder))
        if not paths:
            raise UserError(f"{folder}: an empty folder; put the corpus into it ({files.READABLE})")
        kinds = {path: kind for path in paths if (kind := corpus_kind(path)) is not None}
        papers = {path for path in kinds if path.name.lower().split(".")[0] in PAPERS}
        data = [path for path in kinds if path not in papers]
        others = [path for path in paths if path not in kinds and not path.name.startswith("_")]
        if not data and not others:
            data = list(kinds)  # a folder of nothing but a README
        if not data:
            beside = f" (beside {sorted(papers)[0].name})" if papers else ""
            raise UserError(
                f"{folder}: none of its {len(others)} files can be read, such as "
                f"{files.one_line(others[0].name, 60)!r}{beside}; give {files.READABLE}"
            )
        data = self.of_training(folder, data, kinds)
        self.tell_skipped(others)
        texts = (text for path in data for text in self.file_texts(path, kinds[path]))
        description = {
            "source": folder.resolve().name,
            "format": "+".join(sorted({kinds[path] for path in data})),
            "files": len(data),
            "skipped": len(paths) - len(data),
        }
        return self.corpus(folder.resolve().name, texts, description, folder)

    def several(self, paths: list[Path]) -> Corpus:
        kinds: dict[Path, str] = {}
        for given in paths:
            path = Path(os.path.expanduser(given))
            if not files.is_there(path):
                raise UserError(
                    f"{files.one_line(path)}: no such file or folder; give ones that exist"
                )
            if path.is_dir():
                inner = {p: kind for p in files.find_files(path) if (kind := corpus_kind(p))}
                if not inner:
                    raise UserError(f"{path}: none of its files can be read")
                kinds |= inner
            else:
                kinds[path] = self.kind_of(path)
        texts = (text for path, kind in kinds.items() for text in self.file_texts(path, kind))
        names = [path.name for path in kinds]
        description = {
            "source": ", ".join(names[:5]) + " .." * (len(names) > 5),
            "format": "+".join(sorted(set(kinds.values()))),
            "files": len(kinds),
        }
        first = files.file_kind(paths[0])[0]
        more = f" and {len(paths) - 1} more" * (len(paths) > 1)
        return self.corpus(f"{first}{more}", texts, description, paths[0])

    def hub(self, name: str) -> Corpus:
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
                f"{files.one_line(error)}); give a path that exists, or the name of a dataset on "
                "the hub (owner/name or owner/name:config)"
            ) from None
        return self.datasets(data, name.split("/")[-1], name, name)

    def datasets(self, data: Any, name: str, source: str, described: str | None = None) -> Corpus:
        splits = dict(data) if isinstance(data, Mapping) else {"": data}
        if "train" in splits:
            if len(splits) > 1:
                left = ", ".join(split for split in splits if split != "train")
                self.notes.append(f"split 'train' alone; {left} left out")
            splits = {"train": splits["train"]}
        texts = (
            text
            for part in splits.values()
            for text in self.table_texts(
                text_columns.texts_of_blocks(
                    table_files.dataset_blocks(part, source), self.wanted, self.required
                )
            )
        )
        description = {
            "source": described or name,
            "format": "datasets",
            "files": len(splits),
            "splits": [split for split in splits if split],
        }
        return self.corpus(name, texts, description, Path(source))

    def texts(self, items: Iterable[Any]) -> Corpus:
        def checked() -> Iterator[str]:
            for number, item in enumerate(items, 1):
                if not isinstance(item, str):
                    raise UserError(
                        f"text {number} of the corpus is a {type(item).__name__}; give strings, "
                        "paths that exist, or a dataset"
                    )
                yield item

        return self.corpus("texts", checked(), {"source": "texts", "format": "texts", "files": 0})

    # -- what is read

    def file_texts(self, path: Path, kind: str) -> Iterator[str]:
        """The documents of a file, one after the other."""
        if kind in files.TABLES.values():
            found = text_columns.texts_of_file(path, self.wanted, self.required, self.reading)
            yield from self.table_texts(found)
            return
        begin, chunks = peeked(files.text_chunks(path, self.reading))
        separator = self.separator or found_separator(begin, whole=kind != "txt")
        if self.separator is None and separator not in ("blank", "file"):
            self.cut[separator] += 1
        for text in documents_in(chunks, separator):
            # the mark came late, or another separator was asked for
            if separator not in MARKS:
                for mark in MARKS:
                    if mark in text:
                        self.cut[f"not {mark}"] += text.count(mark)
            if text or separator == "file":  # what stands around separators is no document
                yield text

    def table_texts(self, found: text_columns.TextsOfTable) -> Iterator[str]:
        if found.column is not None:
            self.columns[found.column] += 1
        self.notes += [note for note in found.notes if note not in self.notes]
        for block in found.texts:
            yield from block

    def of_training(self, folder: Path, data: list[Path], kinds: Mapping[Path, str]) -> list[Path]:
        """The training files alone, where every file's name says of which part it is."""
        parts = {}
        for path in data:
            found = _PART.findall(path.relative_to(folder).as_posix())
            if not found or kinds[path] in files.WHOLE.values():
                return data
            parts[path] = "train" if found[-1].lower().startswith("train") else "held out"
        train = [path for path in data if parts[path] == "train"]
        if not train or len(train) == len(data):
            return data
        self.notes.append(
            f"training files alone ({len(train)}); {len(data) - len(train)} of validation and test "
            "parts left out"
        )
        return train

    def tell_skipped(self, others: Sequence[Path]) -> None:
        if others:
            endings = Counter(path.suffix.lower() or path.name for path in others)
            told = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(4))
            self.notes.append(
                f"files that are no text by their names left out: {told}"
                f"{' ..' * (len(endings) > 4)}"
            )

    def corpus(
        self, name: str, texts: Iterable[str], description: dict[str, Any], path: Path | None = None
    ) -> Corpus:
        corpus = make_corpus(name, texts, description, path)
        column = ", ".join(sorted(self.columns)) or None
        known = corpus.description
        notes = [*self.notes, *self.reading.notes]
        for separator, count in self.cut.items():
            if separator.startswith("not "):
                mark = separator.removeprefix("not ")
                notes.append(
                    f"{mark} stands {count:,} times within documents; --separator '{mark}' cuts "
                    "there"
                )
            else:
                what = "<doc> and </doc>" if separator == "wiki" else separator
                notes.append(f"documents cut at {what} (files: {count})")
        dropped = [
            f"{known[what]:,} {words}"
            for what, words in (("duplicates", "equal to an earlier one"), ("empty", "empty"))
            if known[what]
        ]
        if dropped:
            notes.append(f"documents left out: {' and '.join(dropped)}")
        description = {
            key: value
            for key, value in known.items()
            if key not in ("documents", "duplicates", "empty", "bytes")
        }
        counts = {key: known[key] for key in known if key not in description}
        description |= {"text_column": column, **counts}
        if notes:
            description["notes"] = notes
        return dataclasses.replace(corpus, description=description, notes=tuple(notes))
