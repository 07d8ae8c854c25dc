"""Files as bytes and as text, a piece at a time, with errors that name file and line.

`byte_chunks` undoes .gz, .bz2, .xz and .zst; `text_chunks` also checks and decodes. The readers of
tables, corpora and tasks use these.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import lzma
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lookaround.settings import DataSettings
from lookaround.support.errors import UserError
from lookaround.support.text import one_line

TABLES = {
    **dict.fromkeys((".jsonl", ".ndjson", ".jl", ".jsonlines"), "jsonl"),
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    **dict.fromkeys((".parquet", ".parq"), "parquet"),
}
WHOLE = {suffix: suffix[1:] for suffix in (".md", ".markdown", ".rst", ".py", ".log", ".text")}
FORMATS = {".txt": "txt", **TABLES, **WHOLE}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
READABLE = (
    ".txt, .jsonl, .json, .csv, .tsv, .parquet, .md, .rst, .py, .log or .text, plain or with .gz, "
    ".bz2, .xz or .zst added"
)
CHUNK = 1 << 20  # bytes read at a time
# folders of what tools keep beside data
_OTHERS = ("__MACOSX", "_delta_log", "__pycache__", "node_modules")
REPLACE = "replace"  # in place of the name of an encoding
_NO_TEXT = (
    "idna",
    "punycode",
    "unicode_escape",
    "raw_unicode_escape",
    "unicode-escape",
    "undefined",
)
# what stands in place of a file that is kept elsewhere
_POINTERS = {
    rb"version https://git-lfs\.github\.com/spec/": "a Git LFS pointer and not the file itself; "
    "fetch it with git lfs pull",
    rb"\S*/annex/objects/": "a git-annex pointer and not the file itself; fetch it with git annex "
    "get",
}


@dataclass
class Reading:
    """How files are read, and what is to be told of it.

    encoding: of text; "replace": UTF-8, in which bytes that are none are replaced and counted.
    heard: called with the number of bytes that were read of the disk, again and again.
    columns: numbers of columns that were asked for: a table without such names has no row of names.
    replaced: {file name: bytes that were replaced in it}.
    utf8: files that are UTF-8 though another encoding was given.
    """

    encoding: str = "utf-8"
    heard: Callable[[int], None] = lambda _: None
    columns: tuple[str, ...] = ()
    replaced: Counter[str] = field(default_factory=Counter)
    utf8: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.encoding == REPLACE:
            return
        try:
            known = codecs.lookup(self.encoding)
            "".encode(known.name)  # raises LookupError for a codec of something else, such as hex
            if known.name.replace("_", "-") in _NO_TEXT:
                raise LookupError(known.name)
        except (LookupError, ValueError, AttributeError):
            raise UserError(
                f"data.encoding: {one_line(self.encoding, 60)!r} is no encoding of text; give "
                f"utf-8, latin-1, cp1252, utf-16 .., or {REPLACE!r}"
            ) from None

    @property
    def notes(self) -> list[str]:
        """A sentence each on what was replaced, and on files that are of another encoding."""
        count, wrong = len(self.utf8), []
        if count:
            wrong = [
                f"{count:,} file{'s' * (count != 1)} read as {self.encoding} would be UTF-8 too, "
                f"such as {one_line(min(self.utf8), 60)!r}"
            ]
        if not self.replaced:
            return wrong
        (worst, most), files = self.replaced.most_common(1)[0], len(self.replaced)
        total = self.replaced.total()
        places = "1 place that is" if total == 1 else f"{total:,} places that are"
        return [
            f"{places} not UTF-8 replaced by U+FFFD in {files:,} file{'s' * (files != 1)} (most in "
            f"{one_line(worst, 60)!r}: {most:,})",
            *wrong,
        ]

    def of(self, *columns: str | None) -> Reading:
        """The same for one table, of which some columns were asked for, with counts of its own."""
        names = [name.strip() for asked in columns if asked for name in asked.split(",")]
        numbers = names and all(name.isascii() and name.isdecimal() for name in names)
        return Reading(self.encoding, self.heard, tuple(names) if numbers else ())


def without_compression(name: str) -> str:
    """A file's name without the ending of its compression."""
    ending = next((suffix for suffix in COMPRESSIONS if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(ending)]


def file_kind(path: str | Path) -> tuple[str, str | None]:
    """(stem without known suffixes, format); the format is a value of `FORMATS` or None."""
    name = without_compression(Path(path).name)
    for suffix, kind in FORMATS.items():
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], kind
    return name, None


def is_there(path: Path) -> bool:
    """Whether a path exists; raises UserError where that cannot be read."""
    try:
        return path.exists()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{one_line(path)}: cannot be read ({reason}); give a file or a folder"
        ) from None


def find_files(folder: Path) -> Iterator[Path]:
    """Yield the files below `folder` in sorted order, hidden files and folders left out.

    Raises UserError where a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be listed ({error.strerror}); give a folder that you may "
            "read"
        )

    paths = []
    seen = set()
    for base, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        # links may lead back to where they are
        place = os.path.realpath(base)
        if place in seen:
            folders[:] = []
            continue
        seen.add(place)
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _OTHERS]
        paths += [Path(base, name) for name in names if not name.startswith(".")]
    yield from sorted(paths, key=lambda path: path.relative_to(folder).as_posix())


def corpus_size(data: DataSettings) -> int:
    """Bytes on the disk of the corpus that settings name; 0 where that is not known."""
    total = 0
    with contextlib.suppress(OSError, ValueError, UserError):
        named = data.corpus if data.images is None else data.images
        for name in [named] if isinstance(named, str) else named or []:
            path = Path(os.path.expanduser(name))
            inner = find_files(path) if path.is_dir() else [path]
            total += sum(file.stat().st_size for file in inner)
    return total


def byte_chunks(path: Path, reading: Reading | None = None) -> Iterator[bytes]:
    """The content of `path` in pieces, decompressed if its name ends in .gz, .bz2, .xz or .zst.

    Raises UserError where the file cannot be read or its compressed stream is broken or cut short.
    """
    heard = (reading or Reading()).heard
    suffix = path.suffix.lower()
    try:
        with open(require_content(path), "rb") as plain:
            file = _Counted(plain, heard)
            if suffix in COMPRESSIONS and os.fstat(plain.fileno()).st_size:
                yield from _gathered(_decompressed(path, suffix, file))
                return
            while data := file.read(CHUNK):
                yield data
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give a file that exists and that you may "
            "read"
        ) from None


def _gathered(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The same in pieces of at least CHUNK bytes, as an uncompressed file comes in."""
    held, size = list[bytes](), 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= CHUNK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def require_content(path: Path) -> Path:
    """The path of a file; raises UserError for what Git LFS or git-annex leaves in its place."""
    try:
        with open(require_file(path), "rb") as file:
            begin = file.read(256)
    except OSError:
        if path.is_symlink() and "annex" in os.readlink(path):
            raise UserError(f"{path}: {[*_POINTERS.values()][1]}") from None
        return path
    for pattern, what in _POINTERS.items():
        if re.match(pattern, begin):
            raise UserError(f"{path}: {what}")
    return path


def require_file(path: Path) -> Path:
    """The path of a file; raises UserError for a folder, a pipe and the like."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not a regular file; give a file")
    return path


class _Counted:
    """A file that tells how much is read of it."""

    def __init__(self, file: IO[bytes], heard: Callable[[int], None]) -> None:
        self.file, self.heard = file, heard

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.heard(len(data))
        return data


def _decompressed(path: Path, suffix: str, file: Any) -> Iterator[bytes]:
    again = f"write it again, or rename it if it is not a {suffix} file"
    try:
        if suffix == ".zst":
            yield from _unzstd(file)
            return
        openers: dict[str, Callable[..., Any]] = {
            ".gz": gzip.open,
            ".bz2": bz2.open,
            ".xz": lzma.open,
        }
        opened = openers[suffix](file, "rb")
        while data := opened.read(CHUNK):
            yield data
    except EOFError:
        raise UserError(
            f"{path}: the {suffix} stream ends too early (cut short?); {again}"
        ) from None
    except (OSError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise UserError(f"{path}: broken {suffix} stream ({one_line(error)}); {again}") from None


def _unzstd(file: Any) -> Iterator[bytes]:
    import zstandard

    # what zstd --long=31 writes, and so all that there is
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    frame = None
    try:
        # a block of a few bytes may hold 128 kB: little is given at a time
        while data := file.read(8192):
            while data:
                frame = frame or decompressor.decompressobj()
                yield frame.decompress(data)
                data = b""
                if frame.eof:
                    data, frame = frame.unused_data, None
    except zstandard.ZstdError as error:
        raise ValueError(error) from None
    if frame is not None:  # a stream reader would return the part without an error
        raise EOFError


def read_bytes(path: Path, reading: Reading | None = None) -> bytes:
    """The whole content of `path`, decompressed; raises UserError as `byte_chunks` does."""
    try:
        return b"".join(byte_chunks(path, reading))
    except MemoryError:
        raise UserError(
            f"{path}: does not fit into memory when decompressed; give it in smaller files"
        ) from None


def text_chunks(path: Path, reading: Reading | None = None) -> Iterator[str]:
    r"""The text of `path` in pieces, without its byte order mark and with \n line ends.

    A file without any \n (in its first piece) has \r line ends.

    Raises UserError for a binary file (NUL bytes), UTF-16 that was not asked for, bytes that are
    not of the encoding.
    """
    decode = _Decoder(path, reading or Reading())
    first, old, held = True, False, ""
    for data in byte_chunks(path, reading):
        text = decode(data)
        if first and text:
            text = text.removeprefix("\ufeff")
            old, first = "\r" in text[:-1] and "\n" not in text, False
        text = held + text
        held = "\r" if text.endswith("\r") and not old else ""  # its \n may be in the next piece
        text = text[: len(text) - len(held)]
        if text:
            yield text.replace("\r", "\n") if old else text.replace("\r\n", "\n")
    rest = held + decode(b"", final=True)
    if rest:
        yield rest


def _is_utf8(data: bytes) -> bool:
    """Whether the first piece of a file is UTF-8, and more than ASCII."""
    try:
        return not codecs.getincrementaldecoder("utf-8")().decode(data).isascii()
    except UnicodeDecodeError:
        return False


class _Decoder:
    """Decodes the pieces of a file, one after the other."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self.path, self.reading = path, reading
        self.replaces = reading.encoding == REPLACE
        name = "utf-8" if self.replaces else reading.encoding
        self.utf8 = codecs.lookup(name).name == "utf-8"
        self.wide = codecs.lookup(name).name.startswith(("utf-16", "utf-32"))
        make = codecs.getincrementaldecoder(name)
        self.strict, self.lenient = make("strict"), make("replace")
        self.bytes = self.lines = 0

    def __call__(self, data: bytes, final: bool = False) -> str:
        if not self.wide:
            self._require_text(data)
        state = self.strict.getstate()
        try:
            text = self.strict.decode(data, final)
        except UnicodeDecodeError as error:
            if not self.replaces:
                raise self._refused(error, len(state[0])) from None
            self.lenient.setstate(state)
            text = self.lenient.decode(data, final)
            self.strict.setstate(self.lenient.getstate())
            own = (state[0] + data).count("\ufffd".encode())
            self.reading.replaced[self.path.name] += text.count("\ufffd") - own
        except UnicodeError as error:  # UTF-16 without a byte order mark
            raise UserError(
                f"{self.path}: not {self.reading.encoding} ({one_line(error)}); give another "
                "--encoding, such as utf-16-le"
            ) from None
        if self.bytes == 0 and not self.utf8 and not self.wide and _is_utf8(data):
            self.reading.utf8.add(self.path.name)
        self.bytes += len(data)
        self.lines += data.count(b"\n")
        return text

    def _require_text(self, data: bytes) -> None:
        if self.bytes == 0 and data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UserError(
                f"{self.path}: starts with a UTF-16 byte order mark; give --encoding utf-16, or "
                "save it as UTF-8"
            )
        nul = data.find(b"\0")
        if nul >= 0:
            line = self.lines + data.count(b"\n", 0, nul) + 1
            raise UserError(
                f"{self.path}:{line}: NUL byte at offset {self.bytes + nul}: a binary file, or "
                "UTF-16; give UTF-8 text"
            )

    def _refused(self, error: UnicodeDecodeError, held: int) -> UserError:
        at = self.bytes - held + error.start
        line = self.lines + error.object.count(b"\n", 0, error.start) + 1
        remedy = (
            "give --encoding (latin-1, cp1252 ..), or --encoding replace to replace and count such "
            "bytes"
            if self.utf8
            else "give another --encoding"
        )
        name = "UTF-8" if self.utf8 else self.reading.encoding
        return UserError(
            f"{self.path}:{line}: byte 0x{error.object[error.start]:02x} at offset {at} is not "
            f"{name} ({error.reason}); save the file as UTF-8, or {remedy}"
        )


def read_text(path: Path, reading: Reading | None = None) -> str:
    """The whole text of `path`; raises UserError as `text_chunks` does."""
    return "".join(text_chunks(path, reading))


def lines_of(chunks: Iterator[str]) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line of a text in pieces."""
    number, held = 1, list[str]()
    for chunk in chunks:
        head, *rest = chunk.split("\n")
        held.append(head)
        if rest:
            yield number, "".join(held)
            for line in rest[:-1]:
                number += 1
                yield number, line
            number, held = number + 1, [rest[-1]]
    if last := "".join(held):
        yield number, last
