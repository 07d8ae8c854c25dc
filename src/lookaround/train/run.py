"""One training run on disk: `pretrain`, and what opens its result again.

A run folder is a Hugging Face folder at the end; before that it holds checkpoints, which are Hugging Face folders too.
`run.yaml` says what the run is: the same command resumes it, a finished one does nothing, other settings are refused.
"""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lookaround import __version__
from lookaround.data.corpus import read_corpus, split_documents
from lookaround.data.rows import Rows
from lookaround.data.shards import TokenStore, in_memory
from lookaround.data.stdlib import stdlib_corpus
from lookaround.data.text import TextTokenizer
from lookaround.model.backbone import VOCABULARIES, Backbone, build, require_honest_attention
from lookaround.model.readable import RUN_FILE, Readable, read_run
from lookaround.objectives import AR
from lookaround.objectives.objective import Objective
from lookaround.settings import Settings
from lookaround.studies.folder import require_folder, require_same
from lookaround.support.errors import Diverged, UserError
from lookaround.support.machine import local_device
from lookaround.support.storage import write_folder, write_yaml
from lookaround.train import checkpoint
from lookaround.train.budget import Budget, Plan, expected_cost, make_plan
from lookaround.train.loop import Progress, StopSignal, Trainer, default_learning_rate, exporter, shows_masks
from lookaround.train.parallel import World
from lookaround.train.schedule import WarmupStableDecay

__all__ = [
    "build_backbone",
    "evaluation_rows",
    "make_trainer",
    "pretrain",
    "vocabulary_of",
    "write_run",
]

# what may change between a run and its resumption without changing its result
FREE = {
    "train": ("checkpoint_every", "log_every", "micro_batch"),
    "model": ("compile",),
    "evaluate": None,
    "compare": None,
    "forecast": None,
    "speculate": None,
    "plan": None,
}


def vocabulary_of(settings: Settings) -> int:
    """Size of the BPE to train: the one asked for, or the preset's."""
    return settings.data.vocabulary or VOCABULARIES[settings.model.preset]


def build_backbone(settings: Settings, objective: Objective, tokenizer: TextTokenizer, seed: int) -> Backbone:
    """The backbone of a run, asked whether it keeps the attention patterns of its objective.

    A checkpoint to continue from gets a row for the mask token only where the objective shows masks.
    """
    init = settings.model.init
    masks = shows_masks(objective)
    backbone = build(
        preset=settings.model.preset,
        vocabulary=tokenizer.size if init is None else tokenizer.rows,
        context=settings.model.context,
        special={
            "bos_token_id": tokenizer.bos,
            "eos_token_id": tokenizer.eos,
            "pad_token_id": tokenizer.hf.pad_token_id,
        },
        heads=objective.head_specs(),
        init=init,
        seed=seed,
        mask=tokenizer.masked.mask_token_id if masks else None,
    )
    require_honest_attention(backbone, objective.modes())
    return backbone


def make_trainer(
    settings: Settings,
    objective: Objective,
    store: TokenStore,
    *,
    seed: int,
    learning_rate: float,
    world: World | None = None,
) -> Trainer:
    """A trainer at step 0 on the training part of a store."""
    rows = Rows(store.split("train"), settings.model.context, store.tokenizer, pack=settings.data.pack)
    return Trainer(
        build_backbone(settings, objective, store.tokenizer, seed), objective, rows,
        settings=settings.train, seed=seed, learning_rate=learning_rate, precision=settings.model.precision,
        compile=settings.model.compile, world=world or World(device=local_device()),
    )  # fmt: skip


def learning_rate_of(settings: Settings, backbone: Backbone) -> float:
    return settings.train.learning_rate or default_learning_rate(backbone.width)


def seconds_per_step(trainer: Trainer, objective: Objective, steps: int = 6) -> float:
    """Seconds of a step of one phase, the median of a few on a copy of the model."""
    probe = Trainer(
        copy.deepcopy(trainer.backbone), objective, trainer.rows,
        settings=trainer.settings, seed=trainer.seed, learning_rate=trainer.learning_rate,
        precision=trainer.precision, compile=trainer.compile, world=trainer.world,
    )  # fmt: skip
    plan = Plan((1.0,), (steps,))
    times = []
    for _ in range(steps):
        clock = time.perf_counter()
        probe.step(plan, 0.0)
        times.append(time.perf_counter() - clock)
    return sorted(times[1:])[(steps - 1) // 2]


def plan_for(trainer: Trainer, objective: Objective, budget: Budget, given: str | None = None) -> Plan:
    """The plan of a budget on this trainer; seconds are calibrated by running a few steps."""

    def cost(phase: Objective) -> float:
        if budget.unit == "seconds":
            return seconds_per_step(trainer, phase.at(0.5))
        return expected_cost(phase, trainer.backbone, trainer.rows, trainer.settings.batch, budget.unit)

    return make_plan(objective, budget, cost, given)


def equal_flops(trainer: Trainer, budget: Budget) -> Budget:
    """A budget in FLOPs: tokens and seconds are taken as those that `ar` would need on this trainer's model."""
    if budget.unit == "flops":
        return budget
    flops = expected_cost(AR(), trainer.backbone, trainer.rows, trainer.settings.batch, "flops")
    if budget.unit == "tokens":
        per_step = expected_cost(AR(), trainer.backbone, trainer.rows, trainer.settings.batch, "tokens")
    else:
        per_step = seconds_per_step(trainer, AR())
    return Budget(budget.amount / per_step * flops, "flops")


def schedule_for(
    settings: Settings, end: int, smallest_end: int | None = None, longest_end: int | None = None
) -> WarmupStableDecay:
    """The schedule of a run of `end` steps; on a ladder, all rungs share the warmup (of the longest, within the smallest)."""
    warmup = round(settings.train.warmup * (longest_end or end))
    start = round((1 - settings.train.decay) * end)
    return WarmupStableDecay(min(warmup, round((smallest_end or end) / 4)), start, end)


# ------------------------------------------------------------------------------------------------ pretrain


def pretrain(
    settings: Settings,
    objective: Objective,
    budget: Budget,
    store: TokenStore,
    out: Path,
    *,
    form: str | None = None,
    world: World | None = None,
    stop: StopSignal | None = None,
    report: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Trains one model into `out` and returns the run's description; resumes, or returns at once if it is finished.

    Raises UserError where `out` belongs to other settings, Interrupted after saving when `stop` is set.
    """
    world = world or World()
    identity = {
        "objective": objective.spec,
        "budget": str(budget),
        "form": form,
        "corpus": store.fingerprint,
        "settings": _identity(settings),
    }
    require_folder(out, RUN_FILE, "a run of ours")
    before = read_run(out) if (out / RUN_FILE).is_file() else None
    if before is not None:
        if "identity" not in before or "status" not in before:
            raise UserError(f"{out / RUN_FILE}: a rung of a study, not a run of its own; give another --out")
        require_same(before["identity"], identity, out / RUN_FILE)
        if before["status"] == "finished":
            return before
    fresh = not out.exists()
    try:
        trainer = make_trainer(settings, objective, store, seed=settings.seed, learning_rate=1.0, world=world)
        trainer.learning_rate = learning_rate_of(settings, trainer.backbone)
        plan = Plan(**before["plan"]) if before else world.share(plan_for(trainer, objective, budget))
        info = run_info(settings, objective, store, trainer, plan) | {
            "identity": identity,
            "status": "running",
        }
        fill = exporter(trainer.backbone, objective, store, form)
        latest = checkpoint.latest_checkpoint(out)
        if latest is not None:
            trainer.restore_from(latest)
        world.barrier()  # all have seen the folder as it was
        if world.main:
            out.mkdir(parents=True, exist_ok=True)
            write_run(out, info)
        world.barrier()
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from None
    except BaseException:
        if fresh and world.main:
            shutil.rmtree(out, ignore_errors=True)
        raise
    schedule = schedule_for(settings, plan.total)
    try:
        trainer.run(plan.total, plan, schedule, folder=out, fill=fill, stop=stop, report=report)
    except Diverged:
        if world.main and latest is None and checkpoint.latest_checkpoint(out) is None:
            shutil.rmtree(out, ignore_errors=True)  # nothing is lost, and another rate may use the name
        raise
    info |= {"status": "finished", "spent": vars(trainer.counters)}
    if world.main:
        final = out / "final"
        write_folder(final, fill)
        for file in sorted(final.iterdir()):
            file.replace(out / file.name)
        final.rmdir()
        write_run(out, info)
        for _, old in checkpoint.checkpoints(out):
            shutil.rmtree(old, ignore_errors=True)
    world.barrier()
    return info


def run_info(
    settings: Settings, objective: Objective, store: TokenStore, trainer: Trainer, plan: Plan
) -> dict[str, Any]:
    """What run.yaml says beside the weights."""
    return {
        "lookaround": __version__,
        "objective": objective.spec,
        "modes": [list(mode) for mode in objective.modes()],
        "final_modes": [list(mode) for mode in objective.at(1.0).modes()],
        "context": settings.model.context,
        "seed": trainer.seed,
        "learning_rate": trainer.learning_rate,
        "plan": {"shares": list(plan.shares), "steps": list(plan.steps)},
        "data": {
            "corpus": settings.data.corpus,
            "fingerprint": store.fingerprint,
            "corpus_fingerprint": store.index["key"]["corpus"],
            "split_seed": settings.data.split_seed,
        },
        "settings": settings.model_dump(),
    }


def _identity(settings: Settings) -> dict[str, Any]:
    values = settings.model_dump()
    for section, fields in FREE.items():
        if fields is None:
            values.pop(section)
            continue
        for name in fields:
            values[section].pop(name)
    return values


def write_run(folder: Path, info: dict[str, Any]) -> None:
    write_yaml(folder / RUN_FILE, info)


def evaluation_rows(run: Readable, settings: Settings) -> Rows | None:
    """Test rows for a run: of the corpus in the settings, else of the run's own corpus, else None.

    The run's own text is split as it was for training, whatever the settings say. Raises UserError where it has changed.
    """
    data, own, trained_on = settings.data, None, None
    if run.info is not None:
        own = Settings.model_validate(run.info["settings"]).data
        trained_on = run.info["data"].get("corpus_fingerprint")
    if data.corpus is None and own is None:
        return None
    given = data if data.corpus is not None or own is None else own
    corpus = (
        stdlib_corpus() if given.corpus is None else read_corpus(given.corpus, text_column=given.text_column)
    )
    if given is own and trained_on not in (None, corpus.fingerprint):
        raise UserError(
            f"{given.corpus or 'the standard library'}: has changed since this model was trained, so its test part "
            f"may have been trained on; give --corpus TEXT to evaluate on other text"
        )
    if own is not None and trained_on == corpus.fingerprint:
        given = own
    parts = split_documents(
        corpus.documents, seed=given.split_seed, validation=given.validation, test=given.test
    )
    texts = [corpus.documents[i] for i in parts["test"]]
    run.tokenizer.require_lossless([text[:2000] for text in texts[:200]])
    return Rows(in_memory(texts, run.tokenizer), run.context, run.tokenizer)
