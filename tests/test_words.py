"""Labels of words: alignment with sub-tokens, the probe, windows, span F1, and their intervals."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from conftest import byte_level, sentences
from lookaround.data.labelled import Sentence
from lookaround.data.text import TextTokenizer
from lookaround.evaluation import tokens as module
from lookaround.evaluation.features import candidate_layers
from lookaround.evaluation.logistic import fit_logistic
from lookaround.evaluation.registry import TokenData
from lookaround.evaluation.spans import span_counts, span_f1, spans
from lookaround.evaluation.tagging import ambiguous, tag_items, tag_scores, tag_statistic
from lookaround.evaluation.tokens import Tokens, both_ways, tokens_score
from lookaround.evaluation.windows import (
    Window,
    WindowLeft,
    WordMajority,
    right_context_gain,
    window_tags,
)
from lookaround.evaluation.words import align, word_states
from lookaround.model.backbone import build
from lookaround.model.readable import Readable
from lookaround.objectives.contract import Mode, Shown
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError
