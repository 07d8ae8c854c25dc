"""Reports of a study: at the terminal, as pandas frames, and as one self-contained HTML page.

results = load_results("lookaround-compare/results.json")      # docs/results-format.md
print(results)
results.write_page("report.html")
"""

from lookaround.report.schema import load_results
from lookaround.report.text import format_seconds

__all__ = ["format_seconds", "load_results"]
