"""One loop for all objectives: budgets, schedules, checkpoints, processes."""

from lookaround.train.budget import Budget, Plan, make_plan, parse_budget
from lookaround.train.loop import Trainer
from lookaround.train.schedule import WarmupStableDecay

__all__ = ["Budget", "Plan", "Trainer", "WarmupStableDecay", "make_plan", "parse_budget"]
