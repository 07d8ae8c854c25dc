"""What is visible, who attends to whom, which pairs are scored: the contract that training, theory and evaluation read."""

import importlib
import pkgutil

from lookaround.objectives.autoregressive import AR, DAR, PrefixLM
from lookaround.objectives.contract import Attention, Batch, HeadSpec, Mode, View, Vocabulary
from lookaround.objectives.masked import MDLM, MLM, VMLM
from lookaround.objectives.multitoken import MTP, TOP, NextLat
from lookaround.objectives.objective import Mixture, Objective, Sequence
from lookaround.objectives.parse import parse, parse_list, require_for_text
from lookaround.objectives.prompted import BST, Reverse, Teacherless
from lookaround.objectives.schedules import Cosine, Linear

__all__ = [
    "AR",
    "BST",
    "DAR",
    "MDLM",
    "MLM",
    "MTP",
    "TOP",
    "VMLM",
    "Attention",
    "Batch",
    "Cosine",
    "HeadSpec",
    "Linear",
    "Mixture",
    "Mode",
    "NextLat",
    "Objective",
    "PrefixLM",
    "Reverse",
    "Sequence",
    "Teacherless",
    "View",
    "Vocabulary",
    "parse",
    "parse_list",
    "require_for_text",
]

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(
        f"{__name__}.{_module}"
    )  # a file here that defines an Objective with a name adds a spec
