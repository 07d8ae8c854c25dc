"""Files as bytes and as text, with errors that name file and line.

`read_bytes` undoes .gz, .xz and .zst; `read_text` also checks and decodes UTF-8. The readers of
tables, corpora and tasks use these.
"""

from __future__ import annotations

import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from lookaround.support.errors import UserError
from lookaround.support.text import listed as listed
from lookaround.support.text import one_line as one_line

TABLES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
WHOLE = {suffix: suffix[1:] for suffix in (".md", ".markdown", ".rst", ".py", ".log", ".text")}
FORMATS = {".txt": "txt", **TABLES, **WHOLE}
COMPRESSIONS = (".gz", ".xz", ".zst")
READABLE = (
    ".txt, .jsonl, .csv, .tsv, .parquet, .md, .rst, .py, .log or .text, plain or with .gz, .xz or "
    ".zst added"
)


def file_kind(path: str | Path) -> tuple[str, str | None]:
    """(stem without known suffixes, format); the format is a value of `FORMATS` or None."""
    name = Path(path).name
    for suffix in COMPRESSIONS:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
            break
    for suffix, kind in FORMATS.items():
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], kind
    return name, None


def is_there(path: Path) -> bool:
    """Whether a path exists; raises UserError where that cannot be read."""
    try:
        return path.exists()
    except OSError as error:
        raise UserError(
            f"{one_line(path)}: cannot be read ({error.strerror}); give a file or a folder"
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
    for base, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(base, name) for name in names if not name.startswith(".")]
    yield from sorted(paths, key=lambda path: path.relative_to(folder).as_posix())


def read_bytes(path: Path) -> bytes:
    """Return the content of `path`, decompressed if its name ends in .gz, .xz or .zst.

    Raises UserError where the file cannot be read or its compressed stream is broken or cut short.
    """
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not a regular file; give a file")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give a file that exists and that you may "
            "read"
        ) from None
    suffix = path.suffix.lower()
    if suffix not in COMPRESSIONS or not data:
        return data
    again = f"write it again, or rename it if it is not a {suffix} file"
    try:
        if suffix == ".gz":
            return gzip.decompress(data)
        if suffix == ".xz":
            with lzma.open(io.BytesIO(data)) as stream:
                return stream.read()
        return _unzstd(data)
    except EOFError:
        raise UserError(
            f"{path}: the {suffix} stream ends too early after {len(data)} bytes (cut short?); "
            f"{again}"
        ) from None
    except MemoryError:
        raise UserError(
            f"{path}: does not fit into memory when decompressed; give it in smaller files"
        ) from None
    except (OSError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise UserError(f"{path}: broken {suffix} stream ({one_line(error)}); {again}") from None


def _unzstd(data: bytes) -> bytes:
    import zstandard

    parts = []
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            parts.append(frame.decompress(data))
        except zstandard.ZstdError as error:
            raise ValueError(error) from None
        if not frame.eof:  # a stream reader would return the part without an error
            raise EOFError
        data = frame.unused_data
    return b"".join(parts)


def read_text(path: Path) -> str:
    r"""Return the UTF-8 text of `path` without its byte order mark and with \n line ends.

    Raises UserError for a binary file (NUL bytes), UTF-16, or bytes that are not UTF-8.
    """
    data = read_bytes(path)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}: starts with a UTF-16 byte order mark; save it as UTF-8")
    nul = data.find(b"\0")
    if nul >= 0:
        line = data.count(b"\n", 0, nul) + 1
        raise UserError(
            f"{path}:{line}: NUL byte at offset {nul}: a binary file, or UTF-16; give UTF-8 text"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: byte 0x{data[error.start]:02x} at offset {error.start} is not UTF-8 "
            f"({error.reason}); save the file as UTF-8"
        ) from None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    return text if "\n" in text else text.replace("\r", "\n")
