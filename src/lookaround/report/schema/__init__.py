"""What studies return and reports take: checked records, one class for each kind of file.

    results = load_results("lookaround-compare/results.json")
    print(results)
    results.frame("runs").groupby("objective").bits_per_byte.mean()

`python -m lookaround.report.schema > docs/results-format.md` writes the page on the format.
"""

from lookaround.report.schema.comparison import ComparisonResults
from lookaround.report.schema.forecast import ForecastResults
from lookaround.report.schema.load import load_results
from lookaround.report.schema.plan import PlanResults
from lookaround.report.schema.record import Record, Results
from lookaround.report.schema.runs import EvaluationResults, PretrainResults
from lookaround.report.schema.speculation import SpeculationResults
from lookaround.report.schema.synthetic import SyntheticResults

__all__ = [
    "ComparisonResults",
    "EvaluationResults",
    "ForecastResults",
    "PlanResults",
    "PretrainResults",
    "Record",
    "Results",
    "SpeculationResults",
    "SyntheticResults",
    "load_results",
]
