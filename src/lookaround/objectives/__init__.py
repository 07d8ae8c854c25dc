"""The contract: what is visible, who attends to whom, which pairs are scored."""

from lookaround.objectives.autoregressive import AR, DAR, PrefixLM
from lookaround.objectives.contract import (
    Attention,
    Batch,
    Component,
    HeadSpec,
    Mode,
    Pairs,
    Shown,
    View,
    Vocabulary,
    Writing,
)
from lookaround.objectives.masked import MDLM, MLM, VMLM
from lookaround.objectives.multitoken import MTP, TOP, NextLat
from lookaround.objectives.objective import Mixture, Objective, Sequence
from lookaround.objectives.parse import in_plane, parse, parse_list, require_for_text
from lookaround.objectives.prompted import BST, Reverse, Teacherless
from lookaround.objectives.random_order import RAR
from lookaround.objectives.schedules import Cosine, Linear
from lookaround.support.registry import import_all

__all__ = [
    "AR",
    "BST",
    "DAR",
    "MDLM",
    "MLM",
    "MTP",
    "RAR",
    "TOP",
    "VMLM",
    "Attention",
    "Batch",
    "Component",
    "Cosine",
    "HeadSpec",
    "Linear",
    "Mixture",
    "Mode",
    "NextLat",
    "Objective",
    "Pairs",
    "PrefixLM",
    "Reverse",
    "Sequence",
    "Shown",
    "Teacherless",
    "View",
    "Vocabulary",
    "Writing",
    "in_plane",
    "parse",
    "parse_list",
    "require_for_text",
]

import_all(__name__, __path__)  # a file here that defines an Objective with a name adds a spec
