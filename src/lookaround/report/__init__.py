"""Reports of a study: at the terminal, as pandas frames, and as one self-contained HTML page.

results = load_results("lookaround-compare/results.json")      # docs/results-format.md
print(results)
results.write_page("report.html")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lookaround.report.schema import load_results

__all__ = ["load_results"]


def __getattr__(name: str) -> Any:
    # the records take half a second to build, which commands that only format need not wait for
    if name not in __all__:
        raise AttributeError(f"module 'lookaround.report' has no attribute '{name}'")
    return getattr(importlib.import_module("lookaround.report.schema"), name)
