"""What every result is made of: checked records that read like the JSON they are saved as."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lookaround.support.errors import UserError
from lookaround.support.records import amiss
from lookaround.support.storage import finite, write_text

if TYPE_CHECKING:
    import pandas
    from rich.console import Console


VERSION = 1

T = TypeVar("T")
# a field that is null or absent reads as empty
Named = Annotated[dict[str, T], BeforeValidator(lambda value: {} if value is None else value)]
Listed = Annotated[list[T], BeforeValidator(lambda value: [] if value is None else value)]
Score = float | None
Png = Annotated[str, Field(pattern=r"^data:image/png;base64,[A-Za-z0-9+/=]+$")]
Share = Annotated[float, Field(gt=0, le=1)]
# {version: what makes data of the current one of it}
Older = Mapping[int, Callable[[Mapping[str, Any]], dict[str, Any]]]


class Record(BaseModel):
    """An object of a result. Fields are attributes, and items where their name is data:
    `run.seed`, `run["scores"]`. Fields that are not known are kept.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    def __getitem__(self, name: str) -> Any:
        return (vars(self) if name in vars(self) else self.model_extra or {})[name]

    def __contains__(self, name: object) -> bool:
        return name in self.model_fields_set

    def get(self, name: str, default: Any = None) -> Any:
        """A field by its name; `default` where it was not given."""
        return self[name] if name in self.model_fields_set else default

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as it is saved."""
        return self.model_dump(exclude_unset=True)


class Results(Record, ABC):
    """What a study returns: it prints as tables, shows itself in a notebook, gives pandas frames,
    and is saved as JSON.

    page: name of the file for its page, beside its numbers.
    current: version that is written, where files have one.
    older: versions that are converted when they are read.
    """

    page: ClassVar[str] = ""
    current: ClassVar[int] = VERSION
    older: ClassVar[Older] = {}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """The result of plain data; raises pydantic's ValidationError for data of another form."""
        return cls.model_validate(finite(data))

    @classmethod
    def read(cls, data: Mapping[str, Any], origin: Path) -> Self:
        """The result of what a file holds.

        Raises `UserError`, in one line that names the file and the field, for a version that is not
        read, and for a missing or mistyped field.
        """
        if "version" in cls.model_fields:
            found, known = data.get("version"), [*cls.older, cls.current]
            if "version" not in data:
                raise UserError(f"{origin}: field 'version' is missing; expected {cls.current}")
            if type(found) is not int or found not in known:
                reads = f"version{'s' * (len(known) > 1)} {' and '.join(map(str, known))}"
                raise UserError(
                    f"{origin}: field 'version' is {json.dumps(found)[:40]}; "
                    f"this lookaround reads {reads}"
                )
            if found in cls.older:
                data = cls.older[found](data)
        try:
            return cls.of(data)
        except ValidationError as error:
            raise UserError(f"{origin}: {amiss(cls, error)}") from None

    def print(self, console: Console) -> None:
        """Prints it as wide as the console; one without colours loses no information."""
        from lookaround.report.terminal import print_result

        print_result(self, console)

    def write_page(self, path: str | Path, *, samples: bool = True) -> None:
        """Writes it as one self-contained HTML page; raises UserError where that cannot be.

        samples: whether what the models wrote is shown.
        """
        if not self.page:
            raise UserError(f"{path}: there is no page of such a result; save() writes its numbers")
        from lookaround.report.html import render_html

        write_text(Path(path), render_html(self, samples=samples))

    @abstractmethod
    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """{name: rows} of `frame`, the main table first."""

    def frame(self, name: str | None = None) -> pandas.DataFrame:
        """A table as a pandas DataFrame; the main one without a name.

        Raises UserError for a name that is not in `tables()`.
        """
        import pandas

        tables = self.tables()
        if name is not None and name not in tables:
            raise UserError(f"frame: there is no table {name!r}; give one of {', '.join(tables)}")
        return pandas.DataFrame(tables[name or next(iter(tables))])

    def save(self, path: str | Path) -> None:
        """Writes it as JSON, whole or not at all; raises UserError where that cannot be."""
        write_text(Path(path), json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n")

    def __str__(self) -> str:
        from lookaround.report.terminal import as_text

        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from lookaround.report.html import fragment

        return fragment(self)


def numbered(row: Record, *left_out: str) -> dict[str, Any]:
    """The fields of a row of a table that are neither lists nor objects, without some."""
    return {
        name: value
        for name, value in row.as_dict().items()
        if not isinstance(value, list | dict) and name not in left_out
    }
