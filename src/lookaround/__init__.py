"""lookaround: which self-supervised objective to pretrain with, on your data and at your budget."""

__version__ = "0.1.0"
