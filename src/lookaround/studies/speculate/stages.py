"""The stages of a speculation: timed, ended by a signal, and kept once they are finished."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lookaround.studies.events import Event, Report
from lookaround.support.storage import make_folder, read_mapping, write_text
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

    def kept(self, name: str, depends: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, as JSON has it; read again where it was made before.

        depends: plain data. A file that was made of other is made again.
        """
        file = self.folder / f"{name}.json"
        if file.is_file():
            before = read_mapping(file, {"depends": object, "made": object})
            if before["depends"] == depends:
                return before["made"]
        write_text(file, json.dumps({"depends": depends, "made": make()}))
        return read_mapping(file, {})["made"]
