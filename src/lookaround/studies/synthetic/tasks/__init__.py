"""Tasks by name: each file here that defines a `Task` with a name adds a spec, such as `pathstar(2,5)`."""

import importlib
import pkgutil

from lookaround.studies.synthetic.tasks.base import SPLITS, Drawn, Problems, Task, key_of, uniform
from lookaround.studies.synthetic.tasks.parse import parse_task

__all__ = ["SPLITS", "Drawn", "Problems", "Task", "key_of", "parse_task", "uniform"]

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
