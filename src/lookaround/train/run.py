"""What a training run is made of: model, trainer, plan, schedule, and its run.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lookaround import __version__
from lookaround.data.codecs import AnyCodec
from lookaround.data.rows import Rows
from lookaround.data.shards import TokenStore
from lookaround.data.text import TextTokenizer
from lookaround.model.backbone import (
    Backbone,
    build,
    require_honest_attention,
    require_modes,
    require_positions,
    use_blocks,
)
from lookaround.model.card import write_card
from lookaround.objectives import AR
from lookaround.objectives.heads import OrderSpec
from lookaround.objectives.objective import Objective
from lookaround.settings import Settings
from lookaround.support.errors import UserError
from lookaround.support.machine import local_device
from lookaround.support.records import as_json
from lookaround.train.budget import Budget, Plan, Unit, expected_cost, make_plan
from lookaround.train.loop import Trainer, default_learning_rate, read_metrics, shows_masks
from lookaround.train.parallel import World
from lookaround.train.schedule import WarmupStableDecay
from lookaround.train.speed import Measure, Speed


def build_backbone(
    settings: Settings, objective: Objective, tokenizer: AnyCodec, seed: int
) -> Backbone:
    """The backbone of a run, asked whether it keeps the attention patterns of its objective.

    A checkpoint to continue from gets a row for the mask token only where the objective shows
    masks. With a tokenizer that is not its own it gets one for each of its tokens, padding too.
    """
    init = settings.model.init
    masks = shows_masks(objective)
    # its configuration names its own special tokens
    own = init is not None and settings.data.tokenizer in (None, init)
    shown: list[int] = []
    rows = tokenizer.size
    if isinstance(tokenizer, TextTokenizer):
        shown = [tokenizer.masked.mask_token_id] if masks else []
        if not own:
            shown += tokenizer.hf.get_vocab().values()
        rows = tokenizer.size if init is None else tokenizer.rows
    elif init is not None:
        raise UserError(
            f"--init: '{init}' would begin with other tokens than these pictures have, whose "
            "codebook is fitted here; leave it out"
        )
    backbone = build(
        preset=settings.model.preset,
        vocabulary=rows,
        context=settings.model.context,
        special=None
        if own
        else {
            "bos_token_id": tokenizer.bos,
            "eos_token_id": tokenizer.eos,
            "pad_token_id": tokenizer.pad,
        },
        heads=objective.head_specs(),
        init=init,
        seed=seed,
        mask=max(shown, default=None),
        grid=tokenizer.grid,
    )
    if isinstance(tokenizer, TextTokenizer) and init is not None and not own:
        _adopt(backbone, tokenizer)
    if settings.model.attention == "flex":
        if not torch.cuda.is_available():
            raise UserError("model.attention: flex trains on a GPU alone; give dense")
        if settings.model.precision == "fp64":
            raise UserError("model.attention: flex has no kernel for fp64; give dense")
        use_blocks(backbone)
    require_modes(backbone, objective.modes())
    require_honest_attention(backbone, objective.modes(), packed=settings.data.pack)
    if any(isinstance(spec, OrderSpec) for spec in objective.head_specs()):
        require_positions(backbone)
    return backbone


def _adopt(backbone: Backbone, tokenizer: TextTokenizer) -> None:
    """Makes the model generate with a tokenizer: the ids of generation_config are those of its own.

    Ids of its first tokenizer would end texts anywhere, and forbid or force any token.
    """
    from transformers import GenerationConfig

    added = range(len(backbone.output.weight), len(backbone.unembedding.weight))
    backbone.lm.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos,
        eos_token_id=tokenizer.eos,
        pad_token_id=tokenizer.pad,
        suppress_tokens=[*added] or None,
    )


def make_trainer(
    settings: Settings,
    objective: Objective,
    store: TokenStore,
    *,
    seed: int,
    learning_rate: float | None = None,
    factor: float = 1.0,
    world: World | None = None,
    backwards: bool = False,
) -> Trainer:
    """A trainer at step 0 on the training part of a store.

    learning_rate: peak; None: the settings' or, without one, that of the model's width, times
        `factor`.
    backwards: whether every document is read from its end.
    """
    train = store.reversed_split("train") if backwards else store.split("train")
    rows = Rows(train, settings.model.context, store.codec, pack=settings.data.pack)
    backbone = build_backbone(settings, objective, store.codec, seed)
    usual = settings.train.learning_rate or default_learning_rate(backbone.width)
    return Trainer(
        backbone,
        objective,
        rows,
        settings=settings.train,
        seed=seed,
        learning_rate=usual * factor if learning_rate is None else learning_rate,
        precision=settings.model.precision,
        compile=settings.model.compile,
        world=world or World(device=local_device()),
    )


def step_cost(
    trainer: Trainer, objective: Objective, unit: Unit, speed: Measure | None = None
) -> float:
    """What a step of one phase costs on this trainer.

    speed: that tells seconds, by running a few steps if it must.
    """
    if unit == "seconds":
        return (speed or Speed())(trainer, objective.at(0.5))
    return expected_cost(objective, trainer.backbone, trainer.rows, trainer.settings.batch, unit)


def plan_for(
    trainer: Trainer,
    objective: Objective,
    budget: Budget,
    given: str | None = None,
    speed: Measure | None = None,
) -> Plan:
    """The plan of a budget on this trainer."""
    return make_plan(
        objective, budget, lambda phase: step_cost(trainer, phase, budget.unit, speed), given
    )


def plan_of(stored: Mapping[str, Any], objective: Objective, origin: object) -> Plan:
    """A plan as files hold it: {"shares", "steps"}, one of each for every phase.

    Raises UserError naming `origin` for one of another objective.
    """
    shares = tuple(share for share, _ in objective.phases())
    if tuple(stored["shares"]) != shares:
        raise UserError(
            f"{origin} has the shares {as_json(stored['shares'])}, '{objective.spec}' "
            f"{as_json([*shares])}; it is damaged, or of another objective"
        )
    return Plan(shares, tuple(stored["steps"]))


def equal_flops(trainer: Trainer, budget: Budget, speed: Measure | None = None) -> Budget:
    """A budget in FLOPs; tokens and seconds become those that `ar` would spend on this model."""
    if budget.unit == "flops":
        return budget
    steps = budget.amount / step_cost(trainer, AR(), budget.unit, speed)
    return Budget(steps * step_cost(trainer, AR(), "flops"), "flops")


def schedule_for(
    settings: Settings, end: int, smallest_end: int | None = None, longest_end: int | None = None
) -> WarmupStableDecay:
    """The schedule of a run of `end` steps; all rungs of a ladder share one warmup."""
    warmup = round(settings.train.warmup * (longest_end or end))
    start = round((1 - settings.train.decay) * end)
    return WarmupStableDecay(min(warmup, round((smallest_end or end) / 4)), start, end)


def run_card(folder: Path, info: Mapping[str, Any], metrics: Path) -> None:
    """Writes the model card of a finished run.

    info: what its run.yaml says, with what was "spent"; metrics: its metrics.jsonl.
    """
    spent, data = info["spent"], info["data"]
    losses = read_metrics(metrics)
    figures = {
        "steps": spent["step"],
        "tokens": spent["tokens"],
        "scored targets": spent["targets"],
        "FLOPs": spent["flops"],
        "last logged loss, nats a target": losses[-1].loss if losses else None,
    }
    corpus = data["corpus"] or "Python standard library"
    write_card(folder, corpus=corpus, fingerprint=data["corpus_fingerprint"], figures=figures)


def run_info(
    settings: Settings, objective: Objective, store: TokenStore, trainer: Trainer, plan: Plan
) -> dict[str, Any]:
    """What run.yaml says beside the weights."""
    given = settings.data.corpus if settings.data.images is None else settings.data.images
    return {
        "lookaround": __version__,
        "objective": objective.spec,
        "modes": [list(mode) for mode in objective.modes()],
        "final_modes": [list(mode) for mode in objective.final_modes()],
        "context": settings.model.context,
        "seed": trainer.seed,
        "learning_rate": trainer.learning_rate,
        "plan": {"shares": list(plan.shares), "steps": list(plan.steps)},
        "data": {
            "corpus": given
            if not isinstance(given, list)
            else ", ".join(Path(name).name for name in given),
            "fingerprint": store.fingerprint,
            "corpus_fingerprint": store.index["key"]["corpus"],
            "split_seed": settings.data.split_seed,
        },
        "settings": settings.model_dump(),
    }
