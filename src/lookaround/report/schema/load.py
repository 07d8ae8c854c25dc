"""Results read back from the files that commands write."""

from __future__ import annotations

import json
from pathlib import Path

from lookaround.report.schema.comparison import ComparisonResults
from lookaround.report.schema.forecast import ForecastResults
from lookaround.report.schema.record import Results
from lookaround.report.schema.speculation import SpeculationResults
from lookaround.report.schema.synthetic import SyntheticResults
from lookaround.support.errors import UserError
from lookaround.support.records import kind_of, parsed

_OLDER = (
    "written by an older lookaround, with tasks named in another way; train the grid again with "
    "`lookaround synthetic`"
)


def load_results(path: str | Path) -> Results:
    """The results in a file of `compare`, `synthetic`, `forecast` or `speculate`.

    path: the file, or the folder of a study.

    Raises `UserError`, in one line that names the file and the field, for a missing file, for text
    that is not JSON, for another version, and for a missing or mistyped field.
    """
    path = Path(path)
    if path.is_dir():
        named = [path / "results.json", path / "forecast.json"]
        path = next(filter(Path.is_file, named), named[0])
    try:
        data = parsed(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        if (path.parent / "plan.yaml").is_file():
            raise UserError(f"{path.parent / 'plan.yaml'}: {_OLDER}") from None
        if (path.parent / "synthetic.yaml").is_file():
            raise UserError(
                f"{path}: not written yet; the `lookaround synthetic` of this folder goes on with "
                "what is missing"
            ) from None
        if (path.parent / "speculate.yaml").is_file():
            raise UserError(
                f"{path}: no such file; `lookaround speculate` writes its numbers to --json FILE"
            ) from None
        raise UserError(
            f"{path}: no such file; `lookaround compare` writes a results.json"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; expected a results.json") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {error.lineno}: not JSON ({error.msg})") from None
    except ValueError as error:
        raise UserError(f"{path}: not a results.json: {error}") from None
    if not isinstance(data, dict):
        found = kind_of(data)
        raise UserError(f"{path}: found {found}; expected the JSON object of a results.json")
    if data.get("kind") == "plan":
        raise UserError(f"{path}: field 'kind' is 'plan': {_OLDER}")
    kinds: list[type[Results]] = [SyntheticResults, ForecastResults, SpeculationResults]
    marks = ["kind", "objectives", "by_batch"]
    kind = next((kind for kind, mark in zip(kinds, marks, strict=True) if mark in data), None)
    return (kind or ComparisonResults).read(data, path)
