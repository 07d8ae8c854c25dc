"""python -m lookaround.report.schema > docs/results-format.md"""

from lookaround.report.schema.document import format_page

print(format_page(), end="")
