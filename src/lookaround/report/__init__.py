"""Reports of a study: terminal tables, figures, and one self-contained HTML page.

results = load_results("runs/compare/results.json")      # docs/results-format.md
print_results(results, rich.console.Console())
write_report(results, "runs/compare/report.html")
"""

from lookaround.report.forecast import print_forecast, write_forecast
from lookaround.report.html import render_html, write_report
from lookaround.report.speculation import print_speculation
from lookaround.report.synthetic import load_plan, plan_figures, print_plan, write_plan
from lookaround.report.table import format_seconds, load_results, print_results

__all__ = [
    "format_seconds",
    "load_plan",
    "load_results",
    "plan_figures",
    "print_forecast",
    "print_plan",
    "print_results",
    "print_speculation",
    "render_html",
    "write_forecast",
    "write_plan",
    "write_report",
]
