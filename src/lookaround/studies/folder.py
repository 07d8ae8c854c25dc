"""The folder of a run or study: checked, locked, opened or resumed, saved and published."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import Field

from lookaround.settings import Settings
from lookaround.support.errors import UserError
from lookaround.support.records import Stored, checked, read_plain, read_record
from lookaround.support.storage import (
    disk_errors,
    make_folder,
    place_errors,
    remove_folder,
    remove_temporary,
    require_place,
    write_folder,
    write_yaml,
)

# {command: the file that says what its folder is, and the same in words}
KINDS = {
    "compare": ("study.yaml", "a study of ours"),
    "forecast": ("forecast.yaml", "a forecast of ours"),
    "pretrain": ("run.yaml", "a run of ours"),
    "speculate": ("speculate.yaml", "made by speculate"),
    "synthetic": ("synthetic.yaml", "a benchmark of ours"),
}
LAYOUT = 2  # of the file that says what a folder is
LOCK_FILE = ".lock"
WAIT_SECONDS = 30.0  # for a folder that many processes want at the same moment
# {state file of today: what a folder of an older layout holds instead}
OLDER = {"synthetic.yaml": "plan.yaml", "forecast.yaml": "parts"}
# {fingerprint in an identity: the message where it differs}
CONTENT = {"corpus": "the corpus or its tokenizer has changed", "model": "the model has changed"}


def require_out(command: str, out: Path) -> None:
    """Refuses the --out of a command before any work: one that cannot be written, and a foreign
    one. Raises UserError.
    """
    require_place(out)
    _require_kind(out, *KINDS[command])


def _require_kind(folder: Path, file: str, what: str) -> set[str]:
    """The names in a folder, none where there is no folder; raises UserError for a foreign one."""
    with place_errors(f"--out {folder}"):
        names = {at.name for at in folder.iterdir()} if folder.exists() else set()
    # a file that a kill cut short is called file.XXXX.tmp
    others = {at for at in names if at != LOCK_FILE and not at.startswith(f"{file}.")}
    if others and not names & {file, OLDER.get(file)}:
        raise UserError(f"{folder}: not empty and not {what} (no {file}); give another --out")
    return names


class _Identity(Stored):
    """Of a run or study: settings by section, fingerprints of content."""

    settings: dict[str, Any] = Field({})
    tasks: dict[str, str] = Field({})


class _Known(Stored):
    """What every file that says what a folder is begins with."""

    layout: int | None = None
    identity: _Identity


def tasks_of(file: Path) -> dict[str, str]:
    """{name: fingerprint} of the tasks of a folder; raises UserError for a damaged file."""
    return read_record(file, _Known).identity.tasks


class StudyFolder:
    """The folder of one run or study.

    path: the folder.
    file: name of the YAML file in it that says what it is.
    what: the same in words ("a study of ours").
    identity: what may not change while the folder lives: "settings" (the sections of
        `Settings.identity`) and fingerprints of content, never a path or a name.
    stored: what the file holds besides.

    state: what `save` has stored, by this process or one before it; empty for a new folder.
    """

    def __init__(
        self,
        path: Path,
        file: str,
        what: str,
        identity: Mapping[str, Any],
        stored: type[Stored] = Stored,
    ) -> None:
        self.path, self.file, self.what, self.stored = path, path / file, what, stored
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.state: dict[str, Any] = {}

    def require(self) -> None:
        """Reads `state`; makes nothing.

        Raises UserError for a file in the way, a foreign folder, an older layout, and another run.
        """
        require_place(self.path)
        name = self.file.name
        names = _require_kind(self.path, name, self.what)
        older = OLDER.get(name) in names
        if name in names:
            state = read_plain(self.file)
            older = checked(_Known, state, self.file).layout != LAYOUT
        if older:
            raise UserError(
                f"{self.file if name in names else self.path / OLDER[name]}: written by an older "
                "lookaround, which kept other things there; give another --out, or go on with the "
                "version that made it"
            )
        if name in names:
            _require_same(state.pop("identity"), self.identity, self.file)
            del state["layout"]
            self.state = checked(self.stored, state, self.file).as_dict()

    @contextmanager
    def opened(self, main: bool = True) -> Iterator[dict[str, Any]]:
        """Holds the folder against other processes for the length of the block; gives its `state`.

        A new folder in which nothing was saved is removed where the block fails.
        main: False in all but one of the processes of a run, which share the folder of that one.

        Raises UserError as `require` does, and where another process is at work in it or in a
        folder below it.
        """
        self.require()
        if not main:
            yield self.state
            return
        fresh = not self.path.exists()
        lock = _locked(self.path)
        try:
            self.require()  # another process may have changed it before the lock was taken
            self._require_idle()
            remove_temporary(self.path)
            yield self.state
        except BaseException:
            if fresh and not self.file.exists():
                self.discard()
            raise
        finally:
            lock.release()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Holds the folder while a process takes a part of its work; reads `state`.

        Processes at work in other parts (`held`) are not disturbed: what they write stays.

        Raises UserError as `require` does, and where the folder stays taken for WAIT_SECONDS.
        """
        lock = _locked(self.path, WAIT_SECONDS)
        try:
            self.require()
            yield
        finally:
            lock.release()

    def _require_idle(self) -> None:
        """Raises UserError where another process holds a folder below this one."""
        for place, _, files in os.walk(self.path):  # passes over what is removed meanwhile
            if LOCK_FILE in files and Path(place) != self.path:
                _locked(Path(place)).release()

    def save(self, **entries: Any) -> None:
        """Stores entries beside those that are there, whole or not at all."""
        self.state |= entries
        write_yaml(self.file, {"layout": LAYOUT, "identity": self.identity, **self.state})

    def publish(self, fill: Callable[[Path], None]) -> None:
        """Moves what fill(folder) writes into the folder, replacing files of the same names."""
        final = self.path / "final"
        write_folder(final, fill)
        for file in sorted(final.iterdir()):
            target = self.path / file.name
            if target.is_dir():
                remove_folder(target)
            file.replace(target)
        final.rmdir()

    def discard(self) -> None:
        """Removes the folder, so that another run may use its name."""
        shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def held(part: Path) -> Iterator[None]:
    """Holds a folder below that of a study, which is made where there is none.

    What a kill has left in it is removed. Raises UserError where another process is at work in it.
    """
    lock = _locked(part)
    try:
        remove_temporary(part)
        yield
    finally:
        lock.release()


def _locked(folder: Path, seconds: float = 0.0) -> FileLock:
    """The lock of a folder, taken after `seconds` at most; the folder is made where there is none.

    Raises UserError where another process keeps it.
    """
    with disk_errors(folder):
        while True:
            make_folder(folder)
            lock = FileLock(folder / LOCK_FILE, timeout=seconds)
            try:
                lock.acquire()
            except Timeout:
                raise UserError(f"{folder}: another process is at work in this folder") from None
            except FileNotFoundError:  # its process has just removed it
                continue
            if (folder / LOCK_FILE).exists():
                return lock
            lock.release()


def slug(spec: str) -> str:
    """A folder name for a spec: readable, with a few letters of its hash where it was changed."""
    plain = re.sub(r"[^a-z0-9.]+", "-", spec.lower()).strip("-")
    return (
        plain if plain == spec else f"{plain[:60]}-{hashlib.sha256(spec.encode()).hexdigest()[:6]}"
    )


def _require_same(before: Mapping[str, Any], now: Mapping[str, Any], origin: Path) -> None:
    """Raises UserError naming the first difference between a folder's run and the one asked for.

    Only settings that affect results today are compared; a setting that an older folder lacks had
    its default.
    """
    defaults = _flatten(Settings().model_dump(mode="json"))
    was, asked = defaults | _flatten(before.get("settings", {})), _flatten(now.get("settings", {}))
    pairs = [(f"settings.{name}", was.get(name), asked[name]) for name in sorted(asked)]
    old, new = (
        _flatten({k: v for k, v in given.items() if k != "settings"}) for given in (before, now)
    )
    pairs += [(name, old.get(name), new.get(name)) for name in sorted(old | new)]
    for name, one, other in pairs:
        if one != other:
            differs = _told(name, one, other)
            raise UserError(
                f"{origin}: belongs to another run: {differs}; give another --out, or what it was "
                "made of"
            )


def _told(name: str, was: Any, now: Any) -> str:
    """What a difference means."""
    if not name.startswith("tasks."):
        return CONTENT.get(name, f"{name} was {was}, now {now}")
    change = "is not given any more" if now is None else "has changed" if was else "is a new one"
    return f"task '{name.removeprefix('tasks.')}' {change}"


def _flatten(sections: Mapping[str, Any]) -> dict[str, Any]:
    """{section.field: value}; what is no section keeps its name."""
    inner = {name: part for name, part in sections.items() if isinstance(part, dict)}
    fields = {
        f"{name}.{field}": value for name, part in inner.items() for field, value in part.items()
    }
    return {name: value for name, value in sections.items() if name not in inner} | fields
