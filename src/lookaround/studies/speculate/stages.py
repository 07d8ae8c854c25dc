"""The stages of a speculation: timed, ended by a signal, and kept once they are finished."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import create_model

from lookaround.studies.events import Event, Report
from lookaround.support.errors import UserError
from lookaround.support.records import Stored, read_record
from lookaround.support.storage import make_folder, write_text
from lookaround.train.loop import StopSignal


class Stages:
    """What is done one after the other, in a folder of its own.

    seconds: of each stage, by name.
    at: what is under way, as it is shown.
    """

    def __init__(self, folder: Path, stop: StopSignal, report: Report) -> None:
        make_folder(folder)
        self.folder, self.stop, self.report = folder, stop, report
        self.seconds: dict[str, float] = {}
        self.at = ""

    def tell(self, stage: str, done: float, total: float, note: str = "") -> None:
        """Reports; raises KeyboardInterrupt where asked to stop."""
        self.at = stage
        self.report(Event(stage, done, total, note))
        if self.stop.set:
            raise KeyboardInterrupt

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Times a block that has nothing to save: a signal raises KeyboardInterrupt in it."""
        began, self.stop.at_once = time.monotonic(), True
        try:
            yield
        finally:
            self.stop.at_once = False
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def kept(self, name: str, depends: Any, kind: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, as JSON has it; read again where it was made before.

        depends: plain data. A file that was made of other, or is damaged, is made again.
        kind: the type of what is made.
        """
        file, model = (
            self.folder / f"{name}.json",
            create_model("Stage", __base__=Stored, depends=(Any, ...), made=(kind, ...)),
        )
        with contextlib.suppress(UserError):
            before = read_record(file, model).as_dict()
            if before["depends"] == depends:
                return before["made"]
        plain = json.loads(json.dumps({"depends": depends, "made": make()}))
        write_text(file, json.dumps(plain))
        return plain["made"]
