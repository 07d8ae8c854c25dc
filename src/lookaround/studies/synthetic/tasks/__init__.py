"""Tasks by name: a file here that defines a named `Task` adds a spec, such as `pathstar(2,5)`."""

from lookaround.studies.synthetic.tasks.base import SPLITS, Drawn, Problems, Task, key_of, uniform
from lookaround.studies.synthetic.tasks.parse import parse_task
from lookaround.support.registry import import_all

__all__ = ["SPLITS", "Drawn", "Problems", "Task", "key_of", "parse_task", "uniform"]

import_all(__name__, __path__)
