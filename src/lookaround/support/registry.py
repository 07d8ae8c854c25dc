"""Classes found by name: a file in a package is enough to add one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def register(registry: dict[str, type[T]], name: str, kind: type[T]) -> None:
    """Adds a class under a name; raises ValueError where another class has it.

    A class of the same module and name is the same one defined again, as by a cell of a notebook.
    """
    taken = registry.get(name, kind)
    if (taken.__module__, taken.__qualname__) != (kind.__module__, kind.__qualname__):
        raise ValueError(
            f"{kind.__module__}.{kind.__qualname__}: the name '{name}' is taken by "
            f"{taken.__module__}.{taken.__qualname__}; give it another"
        )
    registry[name] = kind


def import_all(package: str, path: Iterable[str]) -> None:
    """Imports every module of a package, in order of name, so that it registers its classes."""
    for module in sorted(module.name for module in pkgutil.iter_modules(path)):
        importlib.import_module(f"{package}.{module}")
