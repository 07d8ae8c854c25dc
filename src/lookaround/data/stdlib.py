"""The embedded default corpus: the source code of the running Python's standard library.

The corpus is one document for each source file; the task asks from which package a window of about
400 characters is. Both change with the Python version, so results compare only where the
fingerprints agree.
"""

from __future__ import annotations

import platform
import sys
import sysconfig
import tokenize
from collections import Counter
from pathlib import Path

from lookaround.data.corpus import Corpus, hash_key, make_corpus
from lookaround.data.labelled import Task
from lookaround.support.errors import UserError

# Folders in one or more of CPython 3.11 to 3.14; those that an installation lacks are passed over.
PACKAGES = (
    "asyncio",
    "collections",
    "concurrent",
    "ctypes",
    "curses",
    "dbm",
    "email",
    "ensurepip",
    "html",
    "http",
    "idlelib",
    "importlib",
    "json",
    "logging",
    "multiprocessing",
    "pathlib",
    "re",
    "sqlite3",
    "string",
    "sysconfig",
    "tkinter",
    "tomllib",
    "turtledemo",
    "unittest",
    "urllib",
    "venv",
    "wsgiref",
    "xml",
    "xmlrpc",
    "zipfile",
    "zoneinfo",
)
# Packages large enough for the task in every version, none of which a distribution leaves out.
CLASSES = (
    "asyncio",
    "concurrent",
    "ctypes",
    "email",
    "http",
    "importlib",
    "json",
    "multiprocessing",
    "unittest",
    "urllib",
    "wsgiref",
    "xml",
)
LEFT_OUT = frozenset(
    {"test", "tests", "idle_test", "encodings", "pydoc_data", "__pycache__", "site-packages"}
)
MODULES_LEFT_OUT = frozenset({"this", "antigravity", "__hello__", "__phello__"})
WINDOW, SHORTEST = 400, 100  # characters
TRAIN_WINDOWS, TEST_WINDOWS = 150, 60  # at most, for each class
TEST_SHARE = 0.25  # of a package's windows, by file


def library() -> Path:
    """The folder of the running Python's standard library; raises UserError without sources."""
    root = Path(sysconfig.get_paths()["stdlib"])
    if not (root / "os.py").is_file():
        raise UserError(
            f"{root}: this Python has no standard library sources there (zipped or stripped); give "
            "a corpus of your own"
        )
    return root


def read_code(path: Path) -> str:
    """The text of a source file; raises UserError where it cannot be read."""
    try:
        with tokenize.open(path) as file:  # follows the coding line that a few files have
            return file.read()
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); mend this Python or give a corpus of your own"
        ) from None


def _package_files(root: Path, package: str) -> list[Path]:
    paths = [
        path
        for path in (root / package).rglob("*.py")
        if not LEFT_OUT & set(path.relative_to(root).parts)
    ]
    return sorted(paths, key=lambda path: path.relative_to(root).as_posix())


def source_files(root: Path) -> list[Path]:
    """The top-level modules and those of `PACKAGES`, in the order of their paths."""
    modules = [
        path
        for path in root.glob("*.py")
        if path.stem in sys.stdlib_module_names - MODULES_LEFT_OUT
    ]
    packages = [path for name in PACKAGES for path in _package_files(root, name)]
    return sorted(modules + packages, key=lambda path: path.relative_to(root).as_posix())


def stdlib_corpus() -> Corpus:
    """The sources of the running Python's standard library: top-level modules and `PACKAGES`.

    Tests, encodings and pydoc_data are left out; the description names the Python version and the
    packages found. Raises UserError if this Python keeps no sources.
    """
    root = library()
    paths = source_files(root)
    description = {
        "source": "Python standard library",
        "format": "py",
        "files": len(paths),
        "text_column": None,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "packages": [package for package in PACKAGES if (root / package).is_dir()],
    }
    corpus = make_corpus("stdlib", [read_code(path) for path in paths], description)
    corpus.description["sha256"] = corpus.fingerprint
    return corpus


def stdlib_task() -> Task:
    """Return the task "stdlib-package": from which package is this window of about 400 characters?

    A package's files are divided between training and test, never a file's windows; a window that
    occurs twice anywhere is left out. Ours. Raises UserError if this Python keeps no sources.
    """
    root = library()
    windows = {
        package: [_windows(read_code(path)) for path in _package_files(root, package)]
        for package in CLASSES
    }
    count = Counter(window for cut in windows.values() for file in cut for window in file)
    train: list[tuple[str, str]] = []
    test: list[tuple[str, str]] = []
    notes = []
    for package, cut in windows.items():
        own = [kept for file in cut if (kept := [window for window in file if count[window] == 1])]
        if len(own) < 4:
            notes.append(f"class left out for want of 4 source files: {package!r}")
            continue
        held = _held_files(own)
        for rows, most, wanted in ((train, TRAIN_WINDOWS, False), (test, TEST_WINDOWS, True)):
            pool = [
                window
                for index, file in enumerate(own)
                if (index in held) == wanted
                for window in file
            ]
            rows += [
                (package, window)
                for window in sorted(pool, key=lambda window: hash_key(0, window))[:most]
            ]
    classes = sorted({package for package, _ in train})
    if len(classes) < 2:
        raise UserError(
            f"{root}: too few packages with sources for a task; give a task of your own"
        )
    return Task(
        name="stdlib-package",
        metric="accuracy",
        classes=classes,
        train_inputs=[window for _, window in train],
        train_labels=[classes.index(package) for package, _ in train],
        test_inputs=[window for _, window in test],
        test_labels=[classes.index(package) for package, _ in test],
        notes=notes,
    )


def _windows(text: str) -> list[str]:
    windows, window = [], ""
    for line in text.splitlines(keepends=True):
        window += line
        if len(window) >= WINDOW:
            windows.append(window)
            window = ""
    return windows + [window] * (len(window) >= SHORTEST)


def _held_files(own: list[list[str]]) -> set[int]:
    """Indices of the test files: at random until a quarter of the windows, never above 0.4."""
    total = sum(map(len, own))
    held: set[int] = set()
    taken = 0
    for index in sorted(range(len(own)), key=lambda index: hash_key(0, own[index][0])):
        if taken >= TEST_SHARE * total:
            break
        if taken + len(own[index]) <= 0.4 * total:
            held.add(index)
            taken += len(own[index])
    return held or {min(range(len(own)), key=lambda index: len(own[index]))}
