"""Settings from a file, assignments and options, with messages that name what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lookaround.settings.sections import Settings, sections
from lookaround.support.errors import UserError

# names of earlier versions
MOVED = {
    "plan": "synthetic",
    "compare.tasks": "data.tasks",
    "compare.objectives": "objectives",
    "evaluate.metrics": "data.metrics",
}


def read_settings(
    config: Path | None = None,
    assignments: Sequence[str] | None = None,
    defaults: Mapping[str, Any] | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    **options: Any,
) -> Settings:
    """Settings from a YAML file, then `a.b=c` assignments (values in YAML), then options.

    defaults: {dotted name: value} of a preset, which the file and all else overrule.
    labels: {dotted name: what a user calls that option}, for messages.
    options: {dotted name: value}; None = not given.

    Raises UserError naming the file, assignment or option, and the field.
    """
    import yaml

    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, value in (defaults or {}).items():
        _assign(values, name, value, "preset")
    if config is not None:
        for name, part in _read_yaml(config).items():
            before = values.get(name, {})
            if isinstance(part, dict) and isinstance(before, dict):
                values[name] = before | part
            # a section without fields, `synthetic:`, is one that leaves everything as it is
            elif part is not None or name not in sections():
                values[name] = part
    for assignment in assignments or []:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals or not name:
            raise UserError(f"--set {assignment}: write section.field=value, e.g. train.batch=32")
        try:
            _assign(values, name, _number(yaml.safe_load(text)), f"--set {assignment}")
        except yaml.YAMLError:
            raise UserError(f"--set {assignment}: the value is not YAML") from None
        origins[name] = f"--set {assignment}"
    for name, value in options.items():
        if value is not None:
            _assign(values, name, value, name)
            origins[name] = (labels or {}).get(name, name)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise UserError(_message(error, origins, str(config or "settings"), options)) from None


def _read_yaml(file: Path) -> dict[str, Any]:
    import yaml

    try:
        loaded = yaml.safe_load(file.read_text())
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise UserError(f"{file}{line}: not YAML ({problem})") from None
    if not isinstance(loaded, dict | None):
        raise UserError(
            f"{file}: expected sections such as 'train:', found a {type(loaded).__name__}"
        )
    return loaded or {}


def _message(
    error: ValidationError, origins: Mapping[str, str], file: str, options: Mapping[str, Any]
) -> str:
    """One line about the first field that will not do, under the name that its user gave it."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    given = [
        name
        for name in origins
        if f"{field}.".startswith(f"{name}.") or f"{name}.".startswith(f"{field}.")
    ]
    origin = origins[given[-1]] if given else file
    if first["type"] == "extra_forbidden":
        section = ".".join(map(str, first["loc"][:-1]))
        known = ", ".join((sections()[section] if section else Settings).model_fields)
        hint = f"it is called '{MOVED[field]}' now" if field in MOVED else f"known here: {known}"
        return f"{origin}: unknown setting '{field}'; {hint}"
    where = origin if given and given[-1] in options else f"{origin}: {field}"
    return f"{where}: {first['msg']}, got {first['input']!r}"


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as a word; people mean the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _assign(values: dict[str, Any], name: str, value: Any, origin: str) -> None:
    *sections, field = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"{origin}: '{section}' is a field, not a section")
    values[field] = value
