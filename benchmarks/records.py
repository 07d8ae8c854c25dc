"""Records: the numbers of one measurement as JSON, in results/data or beside the code that reads
them.

A record says what was asked and answered, how, when and on what, and holds rows by table:

    question, answer, interval  in words, for the index of results/README.md
    page                        file of results/ that shows it, with an anchor where it has several
    command, seeds, budget      as the measurement was made
    commit, date, machine       where and when
    transcribed                 true for numbers copied once from the tables of an older commit
    rows                        {name of the rows: [{column: value}]}
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from lookaround.support.machine import machine, usable_cores, versions
from lookaround.support.storage import finite, write_text

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "results" / "data"
TRACK_RECORD = ROOT / "src" / "lookaround" / "studies" / "forecast" / "track_record.json"
PAGES = (  # of results/, in the order of the index
    "stdlib",
    "english",
    "evaluation",
    "larger-budget",
    "masked-writing",
    "misalignment",
    "forecast",
    "hidden-states",
    "recall",
    "pictures",
    "repeated",
    "extrapolation",
    "synthetic",
    "next-token",
    "decoding",
    "masked-decoding",
    "worlds",
    "counting",
    "reading",
    "knocks",
    "throughput",
    "scaling",
    "gpu",
    "exactness",
    "zoo",
)
WORDS = ("question", "answer", "interval", "page", "budget", "seeds")  # stay when rows are replaced


def records() -> dict[str, dict[str, Any]]:
    """{name: record} of every record, in the order of the index."""
    found = {file.stem: json.loads(file.read_text()) for file in [*DATA.glob("*.json")]}
    found["track-record"] = json.loads(TRACK_RECORD.read_text())

    def place(item: tuple[str, dict[str, Any]]) -> tuple[int, str]:
        page, _, anchor = item[1]["page"].partition(".md")
        return PAGES.index(page), anchor

    return dict(sorted(found.items(), key=place))


def dumped(record: dict[str, Any]) -> str:
    """A record as JSON with a line for each row, so that a changed number is a changed line."""
    head = {key: value for key, value in record.items() if key != "rows"}
    lines = [f" {json.dumps(key)}: {_compact(value)}," for key, value in head.items()]
    tables = [
        f"  {json.dumps(name)}: [\n" + ",\n".join(f"   {_compact(row)}" for row in rows) + "\n  ]"
        for name, rows in record["rows"].items()
    ]
    return "{\n" + "\n".join([*lines, ' "rows": {', ",\n".join(tables), " }"]) + "\n}\n"


def _compact(value: Any) -> str:
    return json.dumps(finite(value), ensure_ascii=False)


def write_record(path: Path, rows: dict[str, list[dict[str, Any]]], **more: Any) -> None:
    """Writes measured rows as a record; the words of a record that is there already stay.

    path: the file, for instance results/data/worlds.json.
    rows: {name of the rows: [{column: value}]}.
    more: further keys, for instance budget=, seeds= or settings of the benchmark.
    """
    before = json.loads(path.read_text()) if path.is_file() else {}
    head = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True).stdout.strip()
    module = f"python -m benchmarks.{Path(sys.argv[0]).stem}"
    where = machine(1, usable_cores())
    record = {
        **dict.fromkeys(WORDS, ""),
        **{key: before[key] for key in WORDS if key in before},
        "command": shlex.join([*module.split(), *sys.argv[1:]]),
        "commit": commit,
        "date": date.today().isoformat(),
        "machine": f"{where['cores']} cores, {where['gpu'] or where['cpu']}",
        "versions": versions(),
        "transcribed": False,
        **more,
        "rows": rows,
    }
    write_text(path, dumped(record))
    print(f"\n{path}: written. Read its answer and interval again, then run: ")
    print("python -m benchmarks.tables")
