"""Trains heads on a model's samples, the model frozen or, with `joint`, trained as well."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import torch

from lookaround.data.rows import Rows
from lookaround.data.shards import Split
from lookaround.model.backbone import Backbone
from lookaround.model.lora import add_lora, merge_lora
from lookaround.objectives import MTP
from lookaround.settings import Settings
from lookaround.studies.events import Report, report_step
from lookaround.studies.speculate.request import Speculation
from lookaround.support.machine import local_device
from lookaround.support.storage import make_folder
from lookaround.train.budget import parse_budget
from lookaround.train.loop import StopSignal, Trainer, default_learning_rate
from lookaround.train.parallel import World
from lookaround.train.run import plan_for, schedule_for


def train_heads(
    request: Speculation,
    samples: list[tuple[np.ndarray, int]],
    work: Path,
    stop: StopSignal,
    report: Report,
) -> Backbone:
    """Trains the heads with the model frozen, then with `joint` both (Medusa-1, Medusa-2)."""
    options, settings = request.settings.speculate, request.settings
    documents = [ids for ids, _ in samples]
    prompts = [prompt for _, prompt in samples]
    if request.train and (options.text or not samples):
        documents, prompts = documents + request.train, prompts + [0] * len(request.train)
    length = np.array([len(ids) for ids in documents], dtype=np.int64)
    split = Split(
        (np.concatenate(documents),), np.zeros_like(length), length.cumsum() - length, length
    )
    rows = Rows(split, request.run.context, request.run.codec, prompts=np.array(prompts))
    objective = request.objective
    torch.manual_seed(settings.seed)
    backbone = Backbone(
        request.run.backbone.lm,
        objective.head_specs(),
        own_rows=request.run.backbone.own_rows,
        source=request.run.backbone.source,
    )
    stages = [("training the heads", objective, False, 1.0)]
    if options.joint:
        weights = (1.0, *(options.joint_weight * weight for weight in objective.weights[1:]))  # type: ignore[index]
        both = dataclasses.replace(objective, weights=weights, through=1.0)
        stages = [(stages[0][0], objective, False, 0.5), ("training both", both, True, 0.5)]
    budget = parse_budget(options.budget)
    for number, (name, stage, joint, share) in enumerate(stages):
        backbone.lm.requires_grad_(joint and not options.lora)
        if joint and options.lora:
            add_lora(backbone.lm, options.lora, seed=settings.seed)
        trainer = _stage_trainer(settings, backbone, stage, rows, number, joint)
        steps = plan_for(trainer, stage, budget.times(share), options.budget)
        folder = work / f"stage-{number}"
        make_folder(folder)
        trainer.restore_latest(folder)
        trainer.run(
            steps.total,
            steps,
            schedule_for(settings, steps.total),
            folder=folder,
            fill=lambda path: None,
            keep=frozenset({steps.total}),
            stop=stop,
            report=partial(report_step, report, name),
        )
    if options.lora and options.joint:
        merge_lora(backbone.lm)
    backbone.to(torch.float32)
    return backbone


def _stage_trainer(
    settings: Settings, backbone: Backbone, objective: MTP, rows: Rows, number: int, joint: bool
) -> Trainer:
    """The trainer of a stage; in joint training heads learn at 4x the model's rate (Medusa)."""
    rate = settings.train.learning_rate or 2 * default_learning_rate(backbone.width)
    train = settings.train.model_copy(update={"head_rate": 4.0} if joint else {})
    return Trainer(
        backbone,
        objective,
        rows,
        settings=train,
        seed=settings.seed + number,
        learning_rate=rate / 4 if joint else rate,
        precision=settings.model.precision,
        world=World(device=local_device()),
    )
