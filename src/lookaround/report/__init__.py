"""Reports of a study: terminal tables, figures, and one self-contained HTML page.

results = load_results("runs/compare/results.json")      # docs/results-format.md
print_results(results, rich.console.Console())
write_report(results, "runs/compare/report.html")
"""

from lookaround.report.html import (
    fragment,
    render_html,
    synthetic_figures,
    write_forecast,
    write_report,
    write_speculation,
    write_synthetic,
)
from lookaround.report.lookup import load_results, load_synthetic
from lookaround.report.terminal import (
    print_forecast,
    print_results,
    print_speculation,
    print_synthetic,
)
from lookaround.report.text import format_seconds

__all__ = [
    "format_seconds",
    "fragment",
    "load_results",
    "load_synthetic",
    "print_forecast",
    "print_results",
    "print_speculation",
    "print_synthetic",
    "render_html",
    "synthetic_figures",
    "write_forecast",
    "write_report",
    "write_speculation",
    "write_synthetic",
]
