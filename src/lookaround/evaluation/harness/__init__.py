"""Our models in lm-eval (EleutherAI's lm-evaluation-harness), as its model `lookaround`.

    python -m lookaround.evaluation.harness --model lookaround --model_args pretrained=FOLDER ...

takes the arguments of `lm_eval`, which finds models only once somebody has registered them.
"""

from __future__ import annotations

from lookaround.support.errors import UserError

NAME = "lookaround"


def register() -> None:
    """Makes lm-eval know the model "lookaround"; raises UserError without lm-eval."""
    try:
        from lm_eval.api.registry import model_registry
    except ImportError:
        raise UserError('lm-eval is not installed; pip install "lookaround[eval]" has it') from None
    if NAME not in model_registry:
        model_registry.register(NAME, target="lookaround.evaluation.harness.model:Lookaround")
