"""Settings from a file, assignments and options, with messages that name what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lookaround.settings.sections import Settings, sections
from lookaround.support.errors import UserError
from lookaround.support.text import one_line, shown

# what PyYAML raises: of its own, of the values that it makes (dates, numbers), and of deep text
NO_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)
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
        told = one_line(f"--set {assignment}")
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals or not name:
            raise UserError(f"{told}: write section.field=value, e.g. train.batch=32")
        try:
            value = yaml.safe_load(text)
        except NO_YAML:
            raise UserError(f"{told}: the value is not YAML") from None
        _assign(values, name, _number(value), told)
        origins[name] = told
    for name, value in options.items():
        if value is not None:
            _assign(values, name, value, name)
            origins[name] = (labels or {}).get(name, name)
    for name, text in ((n, text) for n in origins for text in _texts_of(values, n)):
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UserError(f"{origins[name]}: {shown(text)} is not UTF-8; give it another name")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise UserError(_message(error, origins, str(config or "settings"), options)) from None


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # not UTF-8
        raise UserError(f"{file}: not YAML ({error})") from None
    try:
        loaded = yaml.safe_load(text)
    except NO_YAML as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = one_line(getattr(error, "problem", None) or error)
        raise UserError(f"{file}{line}: not YAML ({problem})") from None
    if not isinstance(loaded, dict | None):
        raise UserError(
            f"{file}: expected sections such as 'train:', found a {type(loaded).__name__}"
        )
    for name in loaded or {}:
        if not isinstance(name, str):
            raise UserError(f"{file}: expected sections such as 'train:', found {shown(name)}")
    return loaded or {}


def _message(
    error: ValidationError, origins: Mapping[str, str], file: str, options: Mapping[str, Any]
) -> str:
    """One line about the first field that will not do, under the name that its user gave it."""
    first = error.errors(include_url=False)[0]
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
        return f"{origin}: unknown setting '{one_line(field, 80)}'; {hint}"
    where = origin if given and given[-1] in options else f"{origin}: {one_line(field, 80)}"
    return f"{where}: {first['msg']}, got {shown(first['input'])}"


def _texts_of(values: dict[str, Any], name: str) -> list[str]:
    """What stands under a dotted name, or in a list there, as far as it is text."""
    value: Any = values
    for part in name.split("."):
        value = value[part]
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, str)]


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
            raise UserError(f"{origin}: '{one_line(section, 60)}' is a field, not a section")
    values[field] = value
