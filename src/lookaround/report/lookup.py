"""What a results.json says: read it and look numbers up.

    results = load_results("runs/compare/results.json")
    Lookup(results).score("ar", "bits_per_byte")

`Lookup` is the only place that knows where a number lies in the file; the terminal tables, the
figures and the HTML page all ask it. A number that is absent, null or NaN is `nan` here and a dash
wherever it is shown.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from types import NoneType
from typing import Any, NamedTuple

from lookaround.support.errors import UserError
from lookaround.support.storage import require_fields

__all__ = [
    "BASELINES",
    "MISSING",
    "NEEDS",
    "SUPPORTED_VERSION",
    "Interval",
    "Lookup",
    "load_results",
    "load_synthetic",
    "mean",
    "number",
    "verdict",
]

SUPPORTED_VERSION = 1
NEEDS = ("classification", "generation", "both")
BASELINES = {
    "majority": "majority class",
    "tfidf": "TF-IDF + logistic regression",
    "random_init": "random initialisation",
}
MISSING = "-"

# Field -> (type, required). What is optional may also be null: a study without tasks has no scores
# to give.
_TOP_LEVEL: dict[str, tuple[type, bool]] = {
    "command": (str, True),
    "settings": (dict, False),
    "corpus": (dict, True),
    "machine": (dict, False),
    "versions": (dict, False),
    "baselines": (dict, False),
    "tasks": (dict, False),
    "metrics": (dict, False),
    "runs": (list, True),
    "summary": (list, True),
    "differences": (list, True),
    "recommendation": (dict, True),
    "reasons": (dict, False),
    "forecast": (dict, False),
    "notes": (list, False),
}
_ROWS = {
    "runs": ("objective", "seed", "rung", "budget"),
    "summary": ("objective", "rung", "metric", "mean"),
    "differences": ("objective", "reference", "rung", "metric", "mean"),
}
# of the fields of such a row: whether a value will do, and what would
_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "rung": (lambda value: not math.isnan(number(value)), "a number in (0, 1]"),
    "seed": (lambda value: type(value) is int, "an integer"),
    **dict.fromkeys(
        ("objective", "reference", "metric"), (lambda value: isinstance(value, str), "text")
    ),
}
# optional fields of a run; a list holds objects
_IN_RUNS = {
    **dict.fromkeys(("budget", "classification", "bits_per_byte_by_prefix"), dict),
    **dict.fromkeys(("curve", "samples"), list),
}


# --------------------------------------------------------------------------------------------------
# reading


def load_results(path: str | Path) -> dict[str, Any]:
    """Read a results.json of version 1 and check that what the reports need is there.

    Raises `UserError`, in one line that names the file and the field, for a missing file, for text
    that is not JSON, for another version, and for a missing or mistyped field.
    """
    path = Path(path)
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; `lookaround compare` writes a results.json"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; expected a results.json") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(results, dict):
        raise UserError(
            f"{path}: found {_kind(results)}; expected the JSON object of a results.json"
        )
    if "version" not in results:
        raise UserError(f"{path}: field 'version' is missing; expected {SUPPORTED_VERSION}")
    if results["version"] is True or results["version"] != SUPPORTED_VERSION:
        found = json.dumps(results["version"])[:40]
        raise UserError(
            f"{path}: field 'version' is {found}; this lookaround reads version {SUPPORTED_VERSION}"
        )
    for field, (kind, required) in _TOP_LEVEL.items():
        if required and field not in results:
            raise UserError(f"{path}: field '{field}' is missing; expected {_NAMES[kind]}")
        if required or results.get(field) is not None:
            _expect(path, field, results[field], kind)
    for field in ("tasks", "baselines", "metrics"):
        for key, value in (results.get(field) or {}).items():
            _expect(path, f"{field}[{key!r}]", value, dict)
            _expect(path, f"{field}[{key!r}].notes", value.get("notes") or [], list)
    for field, keys in _ROWS.items():
        for place, row in enumerate(results[field]):
            _expect_row(path, f"{field}[{place}]", row, keys)
    for place, run in enumerate(results["runs"]):
        for field, kind in _IN_RUNS.items():
            if run.get(field) is not None:
                _expect(path, f"runs[{place}].{field}", run[field], kind)
                for position, item in enumerate(run[field] if kind is list else ()):
                    _expect(path, f"runs[{place}].{field}[{position}]", item, dict)
    return results


_NAMES = {
    str: "text",
    dict: "an object",
    list: "a list",
    int: "a number",
    float: "a number",
    bool: "true/false",
}


def _kind(value: object) -> str:
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)


def _expect(path: Path, field: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise UserError(f"{path}: field '{field}' is {_kind(value)}; expected {_NAMES[kind]}")


def _expect_row(path: Path, field: str, row: Any, keys: Sequence[str]) -> None:
    _expect(path, field, row, dict)
    for key in keys:
        if key not in row:
            raise UserError(f"{path}: field '{field}.{key}' is missing")
        fits, right = _VALUES.get(key, (None, ""))
        if fits is not None and not fits(row[key]):
            raise UserError(f"{path}: field '{field}.{key}' is {_kind(row[key])}; expected {right}")


# --------------------------------------------------------------------------------------------------
# looking up


def number(value: object) -> float:
    """A finite float, or nan for anything else (null, text, an infinity)."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return math.nan


def mean(values: Iterable[object]) -> float:
    """The mean of the finite values; nan if there is none."""
    finite = [value for value in map(number, values) if not math.isnan(value)]
    return fmean(finite) if finite else math.nan


class Interval(NamedTuple):
    """A mean with its interval; `low` and `high` are nan where no interval was computed."""

    mean: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    method: str = ""

    @property
    def known(self) -> bool:
        return not math.isnan(self.mean)

    @property
    def bounded(self) -> bool:
        return not (math.isnan(self.low) or math.isnan(self.high))


def _interval(row: dict[str, Any]) -> Interval:
    count = number(row.get("n"))
    return Interval(
        number(row.get("mean")),
        number(row.get("low")),
        number(row.get("high")),
        0 if math.isnan(count) else int(count),
        str(row.get("method") or ""),
    )


class Lookup:
    """Lookups over the dict of a results.json; every list keeps the order of the file.

    Attributes: `objectives`, `rungs` (ascending), `full` (the largest rung), `seeds`, `tasks`,
    `unigram` (bits per byte of the unigram model, or nan), `columns` (protocol to the tasks it has
    scores of; none: of the text), `metrics` (the columns of a table of scores, those with a number
    only).
    """

    def __init__(self, results: dict[str, Any]):
        self.results = results
        self.runs: list[dict[str, Any]] = results.get("runs") or []
        rows = [*self.runs, *(results.get("summary") or [])]
        self.objectives = list(dict.fromkeys(str(row["objective"]) for row in rows))
        self.rungs = sorted({float(row["rung"]) for row in rows})
        self.full = self.rungs[-1] if self.rungs else 1.0
        self.seeds = sorted({run["seed"] for run in self.runs}, key=str)
        scored = [task for run in self.runs for task in run.get("classification") or {}]
        self.tasks = list(dict.fromkeys([*(results.get("tasks") or {}), *scored]))
        self.unigram = number(results.get("unigram_bits_per_byte"))
        self._summary = {
            (str(row["objective"]), float(row["rung"]), str(row["metric"])): _interval(row)
            for row in results.get("summary") or []
        }
        columns: dict[str, list[str]] = {"bits_per_byte": [], "classification": self.tasks}
        for _, _, metric in self._summary:
            key, _, task = metric.partition("/")
            if task not in ("", *columns.setdefault(key, [])):
                columns[key].append(task)
        self.columns = columns
        self.metrics = [
            metric
            for key, tasks in columns.items()
            for metric in ([key] if len(tasks) != 1 else []) + [f"{key}/{task}" for task in tasks]
            if any(
                self.score(name, metric, rung).known
                for name in self.objectives
                for rung in self.rungs
            )
        ]

    @property
    def has_unigram(self) -> bool:
        """Whether bits per byte can be told as a share of the unigram model's."""
        return not math.isnan(self.unigram) and "bits_per_byte" in self.metrics

    @property
    def classification(self) -> str | None:
        """The metric that stands for classification: the mean over tasks, the only task, or
        None.
        """
        return next((m for m in self.metrics if m.partition("/")[0] == "classification"), None)

    def about(self, metric: str) -> dict[str, Any]:
        """What the file says of the protocol that a metric is from: `title`, `higher`, `about`."""
        return (self.results.get("metrics") or {}).get(metric.partition("/")[0]) or {}

    def higher(self, metric: str) -> bool:
        """Whether more of a metric is better."""
        return bool(self.about(metric).get("higher", metric != "bits_per_byte"))

    def title(self, metric: str) -> str:
        """The heading of a metric: "bits per byte", "mean score", the task's name, "task
        (title)".
        """
        key, _, task = metric.partition("/")
        title = str(self.about(metric).get("title") or key.replace("_", " "))
        if key == "classification":
            return task or "mean score"
        return f"{task} ({title})" if task else title

    def runs_at(self, objective: str, rung: float) -> list[dict[str, Any]]:
        return [
            run for run in self.runs if run["objective"] == objective and float(run["rung"]) == rung
        ]

    def score(self, objective: str, metric: str, rung: float | None = None) -> Interval:
        """The summary row of one objective at a rung (the full budget if None), else the mean of
        its runs.
        """
        rung = self.full if rung is None else rung
        key, _, task = metric.partition("/")
        # with one task the mean over tasks is that task
        for name in (metric, key) if task and self.columns.get(key) == [task] else (metric,):
            found = self._summary.get((objective, rung, name))
            if found is not None and found.known:
                return found
        values = [self._value(run, metric) for run in self.runs_at(objective, rung)]
        return Interval(mean(values), n=len(values))

    def _value(self, run: dict[str, Any], metric: str) -> float:
        key, _, task = metric.partition("/")
        scores = run.get(key)
        if not isinstance(scores, dict):
            return number(scores)
        return number(scores.get(task)) if task else mean(scores.values())

    def cost(self, objective: str, key: str, rung: float | None = None) -> float:
        """Mean over seeds of a budget entry: "tokens", "targets", "flops" or "seconds"."""
        rung = self.full if rung is None else rung
        return mean((run.get("budget") or {}).get(key) for run in self.runs_at(objective, rung))

    def learning_rate(self, objective: str, rung: float | None = None) -> str:
        runs = self.runs_at(objective, self.full if rung is None else rung)
        rates = {number(run.get("learning_rate")) for run in runs}
        return ", ".join(f"{rate:g}" for rate in sorted(rates) if not math.isnan(rate)) or MISSING

    def mode(self, objective: str) -> str:
        modes = (str(run["mode"]) for run in self.runs_at(objective, self.full) if run.get("mode"))
        return next(modes, "")

    def baseline(self, kind: str, metric: str) -> float:
        """What a baseline scores on a metric; on the mean only if it was scored on every task."""
        baselines = self.results.get("baselines") or {}
        key, _, task = metric.partition("/")
        columns = [f"{key}/{name}" for name in ([task] if task else self.columns.get(key, ()))]
        lines = [baselines.get(column.removeprefix("classification/")) or {} for column in columns]
        scores = [number(line.get(kind)) for line in lines]
        return fmean(scores) if scores and not any(map(math.isnan, scores)) else math.nan

    def below(self, metric: str, value: float) -> list[str]:
        """The baselines that a mean falls short of: "unigram", or keys of `BASELINES`."""
        if metric == "bits_per_byte":
            return ["unigram"] if value > self.unigram else []
        sign = 1 if self.higher(metric) else -1
        return [kind for kind in BASELINES if sign * value < sign * self.baseline(kind, metric)]

    def recommended(self, need: str) -> str:
        """The recommended objective for a need, or "" where the file names none (inconclusive, not
        asked).
        """
        answer = str((self.results.get("recommendation") or {}).get(need) or "")
        return answer if answer in self.objectives else ""

    def methods(self) -> list[str]:
        return list(dict.fromkeys(row.method for row in self._summary.values() if row.method))

    def differences(self, rung: float) -> list[tuple[str, str, str, Interval]]:
        """(objective, reference, metric, objective minus reference) of every paired difference at a
        rung.
        """
        return [
            (str(row["objective"]), str(row["reference"]), str(row["metric"]), _interval(row))
            for row in self.results.get("differences") or []
            if float(row["rung"]) == rung
        ]


def verdict(difference: Interval, *, higher: bool) -> str:
    """ "better" or "worse" if the interval of a difference excludes 0, else "unclear"."""
    if not difference.bounded or difference.low <= 0 <= difference.high:
        return "unclear"
    return "better" if (difference.mean > 0) == higher else "worse"


# what the reports read of a results.json, and its types
_NUMBER = (int, float)
_GRID: dict[str, Any] = {
    "rows": list,
    "summary": list,
    "settings": dict,
    "command": str,
    "learning_rates": dict,
    "margins": dict,
    "tasks": dict,
}
_SETTINGS: dict[str, Any] = {
    "seeds": int,
    "steps": int,
    "batch": int,
    "queries": int,
    "edges": str,
    "query": str,
}
_TASK: dict[str, Any] = {"title": str, "about": str, "copied": bool}
_ROW: dict[str, Any] = {
    "objective": str,
    "graph": str,
    "seed": int,
    "steps": int,
    "queries": int,
    "positions": list,
    "curve": list,
    "diverged_at": (int, NoneType),
}
_ENTRY: dict[str, Any] = {
    "objective": str,
    "graph": str,
    "seeds": int,
    "success": _NUMBER,
    "solved_at": list,
    "left_chance_at": list,
    "diverged_at": list,
    "control_of": (str, NoneType),
    "steps": list,
    "seconds": _NUMBER,
    "parameters": int,
    "ways": dict,
}


def load_synthetic(path: Path) -> dict[str, Any] | None:
    """The results of `lookaround synthetic` in a file; None where it holds something else.

    Raises UserError that names what is missing or of an earlier layout.
    """
    older = (
        "written by an older lookaround, with tasks named in another way; train the grid again "
        "with "
        "`lookaround synthetic`"
    )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        if (path.parent / "plan.yaml").is_file():
            raise UserError(f"{path.parent / 'plan.yaml'}: {older}") from None
        if (path.parent / "synthetic.yaml").is_file():
            raise UserError(
                f"{path}: not written yet; the `lookaround synthetic` of this folder goes on with "
                "what is missing"
            ) from None
        return None
    except ValueError:
        return None
    kind = found.get("kind") if isinstance(found, dict) else None
    if kind == "plan":
        raise UserError(f"{path}: field 'kind' is 'plan': {older}")
    if kind != "synthetic":
        return None
    if found.get("version") != SUPPORTED_VERSION:
        raise UserError(
            f"{path}: field 'version' is {found.get('version')!r}; "
            f"this lookaround reads version {SUPPORTED_VERSION}"
        )
    require_fields(str(path), found, _GRID)
    require_fields(f"{path}: margins", found["margins"], {"same": _NUMBER, "guessing": _NUMBER})
    rates = found["learning_rates"]
    require_fields(f"{path}: learning_rates", rates, dict.fromkeys(rates, dict))
    for graph, tried in rates.items():
        require_fields(f"{path}: learning_rates.{graph}", tried, dict.fromkeys(tried, dict))
    require_fields(f"{path}: settings", found["settings"], {"synthetic": dict, "model": dict})
    require_fields(f"{path}: settings.synthetic", found["settings"]["synthetic"], _SETTINGS)
    for name, fields in (("rows", _ROW), ("summary", _ENTRY)):
        if not found[name]:
            raise UserError(f"{path}: field '{name}' is empty; expected an object for each run")
        for place, entry in enumerate(found[name]):
            require_fields(f"{path}: {name}[{place}]", entry, fields)
            require_fields(f"{path}: tasks", found["tasks"], {entry["graph"]: dict})
    for name, task in found["tasks"].items():
        require_fields(f"{path}: tasks.{name}", task, _TASK)
    for place, row in enumerate(found["rows"]):
        for point in row["curve"]:
            require_fields(f"{path}: rows[{place}].curve", point, {"step": int, "positions": list})
    return found
