"""docs/results-format.md, from the records."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

from lookaround.report.schema.comparison import ComparisonResults
from lookaround.report.schema.forecast import ForecastResults
from lookaround.report.schema.plan import PlanResults
from lookaround.report.schema.record import Results
from lookaround.report.schema.runs import EvaluationResults, PretrainResults
from lookaround.report.schema.speculation import SpeculationResults
from lookaround.report.schema.synthetic import SyntheticResults
from lookaround.support.records import KINDS, span

_FILES: dict[str, type[Results]] = {
    "compare": ComparisonResults,
    "forecast": ForecastResults,
    "synthetic": SyntheticResults,
    "speculate": SpeculationResults,
    "evaluate": EvaluationResults,
    "pretrain": PretrainResults,
    "plan": PlanResults,
}
_HEAD = """\
<!-- made by: python -m lookaround.report.schema -->

# The format of results

Every command that measures writes its numbers as JSON, in UTF-8, and returns the same from Python.
The `results.json` of `lookaround compare` holds every number that the terminal and the HTML page
show, so a report can be made again from it alone. All are meant to be read by other programs.

```python
from lookaround.report import load_results

results = load_results("runs/wikitext")  # a folder, or a file
print(results)
results.frame("runs")  # a pandas DataFrame
results.runs[0].bits_per_byte  # fields are attributes,
results.runs[0]["scores"]  # and items
results.write_page("report.html", samples=False)
```

This page describes **version 2** of what `compare` writes, and version 1 of all others. It is made
from the classes in `lookaround.report.schema`.

## The promise

* `version` is an integer. Within a version, keys are only ever added: no key is removed, renamed or
  given another unit or meaning. Readers should ignore keys that they do not know.
* Anything else raises the version. A reader converts the versions before, and refuses a version it
  does not know and says which ones it reads.
* A number that was not measured is `null` or its key is absent; readers treat the two alike. `NaN`
  is read as `null`.
* Lists keep their order: objectives appear in the order in which they were asked for.
"""


def format_page() -> str:
    """The page in Markdown: for each file a table of its fields, then one for each record in it."""
    parts = [_HEAD]
    told = {kind.__name__ for kind in _FILES.values()}
    for command, model in _FILES.items():
        schema = model.model_json_schema()
        parts += [f"## {command}", *_record(schema)]
        waiting = _mentioned(schema["properties"])
        while waiting:
            name = waiting.pop(0)
            if name not in told:
                told.add(name)
                node = schema["$defs"][name]
                parts += [f"### {name}", *_record(node)]
                waiting = _mentioned(node) + waiting
    return "\n\n".join(parts).strip() + "\n"


def _mentioned(node: Mapping[str, Any]) -> list[str]:
    """Names of the records in a node of a schema, in order."""
    return re.findall(r"#/\$defs/(\w+)", json.dumps(node))


def _record(node: Mapping[str, Any]) -> list[str]:
    """The prose of a record, and the table of its fields."""
    required = node.get("required", ())
    rows = [
        f"| `{name}` | {_type(field)} | {'yes' if name in required else ''} "
        f"| {field['description']} |"
        for name, field in node["properties"].items()
    ]
    head = ["| key | type | required | meaning, with its unit |", "|---|---|---|---|"]
    return [inspect.cleandoc(node["description"]), "\n".join([*head, *rows])]


def _type(field: Mapping[str, Any]) -> str:
    """The type of a field in words, null left out; a record is a link to its table."""
    field = field.get("anyOf", [field])[0]
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        commands = {kind.__name__: command for command, kind in _FILES.items()}
        return f"[{name}](#{commands.get(name, name).lower()})"
    words = KINDS[field["type"]].split()[-1] if "type" in field else "any"
    if field.get("items"):
        return f"list of {_type(field['items'])}"
    if isinstance(inner := field.get("additionalProperties"), dict):
        return f"name to {_type(inner)}"
    return f"{words} {span(field)}".strip()
