"""What every file of ours is read through: types, ranges, and messages that name file and field."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pytest
from pydantic import AfterValidator, Field, model_validator

from lookaround.support.errors import UserError
from lookaround.support.records import (
    Count,
    Part,
    Positive,
    Stored,
    checked,
    parsed,
    read_record,
)


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("an even number")
    return value


class Point(Stored):
    share: Part
    even: Annotated[int, AfterValidator(_even)] = 0


class Sample(Stored):
    step: Count
    rate: Positive = 1.0
    kind: Literal["a", "b"] = "a"
    points: list[Point] = Field([], min_length=1)
    by_name: dict[str, float | None] = Field({})
    last: int | None = None

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.last is not None and self.last > self.step:
            raise ValueError(f"field 'last' is {self.last}; expected {self.step} at most")
        return self


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "(found a list; expected an object)"),
        (None, "(found null; expected an object)"),
        ({}, "(field 'step' is missing; expected an integer from 0)"),
        ({"step": -1}, "(field 'step' is -1; expected an integer from 0)"),
        ({"step": 1.5}, "(field 'step' is 1.5; expected an integer from 0)"),
        ({"step": True}, "(field 'step' is true/false; expected an integer from 0)"),
        ({"step": "4"}, "(field 'step' is text; expected an integer from 0)"),
        ({"step": None}, "(field 'step' is null; expected an integer from 0)"),
        ({"step": 10**30}, "; expected an integer to 1e+15)"),
        ({"step": 1, "rate": 0}, "(field 'rate' is 0; expected a number above 0)"),
        ({"step": 1, "rate": math.nan}, "(field 'rate' is NaN; expected a number above 0)"),
        ({"step": 1, "rate": math.inf}, "(field 'rate' is Infinity; expected a number above 0)"),
        ({"step": 1, "rate": 10**400}, "(field 'rate' is 1000"),
        ({"step": 1, "kind": "c"}, "(field 'kind' is \"c\"; expected a or b)"),
        ({"step": 1, "points": []}, "(field 'points' is []; expected a list that is not empty)"),
        ({"step": 1, "points": [3]}, "(field 'points[0]' is a number; expected an object)"),
        (
            {"step": 1, "points": [{"share": 1}, {"share": 5}]},
            "(field 'points[1].share' is 5; expected a number from 0 to 1)",
        ),
        (
            {"step": 1, "points": [{"share": 1, "even": 3}]},
            "(field 'points[0].even' is 3; expected an even number)",
        ),
        ({"step": 1, "by_name": {"a b": "x"}}, "(field 'by_name['a b']' is text; expected a nu"),
        ({"step": 1, "by_name": {3: 1.0}}, "(field 'by_name[3]"),
        ({"step": 1, "last": 2}, "(field 'last' is 2; expected 1 at most)"),
        ({"step": 1, "kind": "x" * 9999}, "xxx...; expected a or b)"),
    ],
)
def test_a_value_that_is_amiss_is_named_by_its_field(value: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        checked(Sample, value, "f.json")
    message = str(caught.value)
    assert message.startswith("f.json: truncated or not ours (")
    assert words in message
    assert len(message) < 200


def test_fields_that_are_not_known_are_kept() -> None:
    value = {"step": 3, "later": {"more": [1]}, "points": [{"share": 0.5, "x": "y"}]}
    assert checked(Sample, value, "f").as_dict() == value


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("f.json", b"", "cannot be read; it is truncated or not ours (Expecting value"),
        ("f.json", b'{"step": 1', "cannot be read"),
        ("f.json", b"\xff\xfe\x00", "cannot be read"),
        ("f.json", b"[" * 100_000, "nested too deeply"),
        ("f.json", b"[" * 60 + b"]" * 60, "nested too deeply"),
        ("f.json", b'{"step": ' + b"9" * 5000 + b"}", "a whole number of 5000 digits"),
        ("f.yaml", b"", "found null"),
        ("f.yaml", b"step: [1", "cannot be read"),
        ("f.yaml", b"\xff", "cannot be read"),
        ("f.yaml", b"[" * 5000, "cannot be read"),
        ("f.yaml", b"step: 2001-99-99", "cannot be read"),
        ("f.yaml", b"step: !!int x", "cannot be read"),
        ("f.yaml", b"step: !!python/object:os.system {}", "cannot be read"),
        ("f.yaml", b"a: &a [1, 2]\nstep: *a", "it holds an alias"),
    ],
)
def test_text_that_is_no_data_is_refused(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_record(tmp_path / name, Sample)
    assert str(tmp_path / name) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"f\.json: cannot be read.*No such file"):
        read_record(tmp_path / "f.json", Sample)
    (tmp_path / "f.json").mkdir()
    with pytest.raises(UserError, match=r"f\.json: is no file"):
        read_record(tmp_path / "f.json", Sample)


def test_a_star_in_a_text_is_no_alias() -> None:
    assert parsed("a: 2*x\nb: '*'", is_json=False) == {"a": "2*x", "b": "*"}


def test_fields_stay_in_the_order_of_the_file(tmp_path: Path) -> None:
    class Inner(Stored):
        first: int
        second: int = 0

    class Outer(Stored):
        name: str
        inner: list[Inner]

    file = tmp_path / "a.json"
    given = {"other": 1, "inner": [{"more": 2, "second": 3, "first": 4}], "name": "x", "last": None}
    file.write_text(json.dumps(given))
    assert json.dumps(read_record(file, Outer).as_dict()) == json.dumps(given)
