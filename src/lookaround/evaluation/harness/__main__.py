"""`python -m lookaround.evaluation.harness`: lm-eval's own command, which knows our models."""

from __future__ import annotations

import sys

from lookaround.evaluation.harness import register
from lookaround.support.errors import UserError


def main() -> None:
    """Runs lm-eval; user errors become one line and exit code 2."""
    try:
        register()
        from lm_eval.__main__ import cli_evaluate

        cli_evaluate()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
