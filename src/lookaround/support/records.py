"""Files of ours that are read again, each through a model that knows its types and ranges.

    class Counters(Stored):
        step: Count

    read_record(folder / "counters.json", Counters).step

What was cut short, edited or written by something else ends in a UserError that names the file, the
field, what was found and what would be right. The model of a file stands beside the code that
writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from lookaround.support.errors import UserError

MOST = 10**15  # of anything that is counted
DEEPEST = 40  # objects and lists inside one another, far more than any file of ours has
LONGEST = 60  # characters of a value that a message repeats

Count = Annotated[int, Field(ge=0, le=MOST)]
Amount = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Part = Annotated[float, Field(ge=0, le=1)]


class Stored(BaseModel):
    """An object in a file of ours.

    Numbers are finite unless a field says otherwise. Fields that are not known are kept, so that
    the file of a later version is read, and all stay in the order that they were read in.
    """

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    _order: tuple[str, ...] = ()

    @model_validator(mode="wrap")
    @classmethod
    def _with_order(cls, value: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        made = read(value)
        if isinstance(value, dict):
            made._order = tuple(value)
        return made

    @model_serializer(mode="wrap")
    def _in_order(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found = plain(self)
        return {name: found[name] for name in self._order if name in found} | found

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as it was stored."""
        return self.model_dump(exclude_unset=True)


S = TypeVar("S", bound=BaseModel)


def read_record(path: Path, model: type[S]) -> S:
    """The object that a JSON or YAML file holds; raises UserError for any other file."""
    return checked(model, read_plain(path), path)


def checked(model: type[S], value: Any, origin: object) -> S:
    """Plain data as an object of `model`; raises UserError naming `origin` and the field."""
    if not isinstance(value, dict):
        raise UserError(
            f"{origin}: truncated or not ours (found {kind_of(value)}; expected an object)"
        )
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{origin}: truncated or not ours ({amiss(model, error)})") from None


def read_plain(path: Path) -> Any:
    """The plain data of a JSON or YAML file; raises UserError where it cannot be read."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is no file; it is not ours")
    try:
        value = parsed(path.read_text(encoding="utf-8"), path.suffix == ".json")
    except Exception as error:  # a parser of YAML raises nearly anything
        reason = error.strerror if isinstance(error, OSError) else str(error)
        reason = (reason or type(error).__name__).splitlines()[0][: 2 * LONGEST]
        raise UserError(f"{path}: cannot be read; it is truncated or not ours ({reason})") from None
    return value


def parsed(text: str, is_json: bool = True) -> Any:
    """The plain data of JSON or YAML; raises ValueError, or what a parser raises, for other text.

    Refused is what no file of ours has and what comes after cannot bear: very many levels, aliases
    of YAML (a short text with them is a huge object), whole numbers that no double holds.
    """
    try:
        value = json.loads(text, parse_int=_whole) if is_json else _parsed_yaml(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [item for outer in level for item in _inside(outer)]
    if level:
        raise ValueError("nested too deeply")
    return value


def _parsed_yaml(text: str) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if "*" in text and any(isinstance(e, yaml.AliasEvent) for e in yaml.parse(text, loader)):
        raise ValueError("it holds an alias")
    return yaml.load(text, Loader=loader)


def _whole(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _inside(outer: Any) -> list[Any]:
    """The objects and lists that stand in an object or list."""
    items = outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
    return [item for item in items if isinstance(item, dict | list)]


# --------------------------------------------------------------------------------------------------
# what is amiss

KINDS = {
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "object": "an object",
    "array": "a list",
    "boolean": "true/false",
}
_TYPES = {str: "text", int: "a number", float: "a number", bool: "true/false"} | {
    dict: "an object",
    list: "a list",
    type(None): "null",
}


def kind_of(value: object) -> str:
    """What a value of a JSON file is, in words."""
    return _TYPES.get(type(value), type(value).__name__)


def as_json(value: object) -> str:
    """A value as a message repeats it: as JSON, on one line, cut where it is long."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, TypeError, RecursionError):  # a number of thousands of digits
        return kind_of(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def span(node: Mapping[str, Any]) -> str:
    """The range of a number in a JSON schema, or nothing."""
    least, above = node.get("minimum"), node.get("exclusiveMinimum")
    most, below = node.get("maximum", MOST), node.get("exclusiveMaximum")
    if above is not None and most < MOST:
        return f"in ({above:g}, {most:g}]"
    parts = {"from": least, "above": above, "to": most if most < MOST else None, "below": below}
    return " ".join(f"{word} {bound:g}" for word, bound in parts.items() if bound is not None)


def amiss(model: type[BaseModel], error: ValidationError) -> str:
    """The first thing that is wrong, by its field: what was found and what would be right.

    The message of a validator of ours: for a field what is expected, for an object a whole sentence
    that begins with "field".
    """
    first = error.errors(include_url=False)[0]
    own = str(first["ctx"]["error"]) if first["type"] == "value_error" else ""
    if own and not first["loc"]:
        return own
    node, field = _found(model.model_json_schema(), first["loc"])
    if own.startswith("field"):
        return f"'{field}': {own}"
    kind, value = KINDS.get(node.get("type", ""), ""), first["input"]
    right = f"{kind} {span(node)}".strip() or first["msg"]
    if "enum" in node or "const" in node:
        right = " or ".join(map(str, node.get("enum", [node.get("const")])))
    found = "missing" if first["type"] == "missing" else kind_of(value)
    if first["type"] == "too_short":
        right += " that is not empty" if not value else " that is longer"
    if first["type"] == "too_long":
        right += " that is shorter"
    if first["type"] == "less_than_equal" and first["ctx"]["le"] >= MOST:
        right = f"{kind} to {MOST:g}"
    if own or found == kind or (found == "a number" and kind == "an integer") or "enum" in node:
        found = as_json(value)
    return f"field '{field}' is {found}; expected {own or right}"


def _found(schema: Mapping[str, Any], loc: tuple[int | str, ...]) -> tuple[dict[str, Any], str]:
    """(node of a JSON schema, its path as a message writes it) of a place in an object."""
    node, field = _resolved(schema, schema), ""
    for part in loc:
        if isinstance(part, int) and "items" in node:
            node, field = node["items"], f"{field}[{part}]"
        else:
            inner = node.get("properties", {}).get(part, node.get("additionalProperties"))
            node = inner if isinstance(inner, dict) else {}
            field += f".{part}" if str(part).isidentifier() else f"[{part!r}]"
        node = _resolved(node, schema)
    return node, field.lstrip(".")


def _resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """A node of a JSON schema as what it refers to, or as what it may be besides null."""
    while "$ref" in node or "anyOf" in node:
        name = node.get("$ref", "").rpartition("/")[2]
        node = schema["$defs"][name] if name else node["anyOf"][0]
    return dict(node)
