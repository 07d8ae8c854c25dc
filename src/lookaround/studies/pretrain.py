"""`lookaround pretrain`: one training run on disk.

A run folder is a Hugging Face folder at the end; before that it holds checkpoints, which are
Hugging Face folders too. `run.yaml` says what the run is: the same command resumes it, a finished
one does nothing, other settings are refused.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lookaround.data.shards import TokenStore
from lookaround.model.fingerprint import model_fingerprint
from lookaround.model.readable import RUN_FILE, read_run
from lookaround.objectives.objective import Objective
from lookaround.settings import Settings
from lookaround.studies.folder import StudyFolder
from lookaround.support.errors import Interrupted, UserError
from lookaround.support.machine import memory_errors
from lookaround.support.storage import disk_errors
from lookaround.train import checkpoint
from lookaround.train.budget import Budget, Plan
from lookaround.train.loop import Progress, StopSignal, exporter
from lookaround.train.parallel import World
from lookaround.train.run import make_trainer, plan_for, run_info, schedule_for


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
    """Trains one model into `out`; returns its description; resumes, or returns if finished.

    Raises UserError where `out` belongs to another run or another process is at work in it, where
    the memory does not suffice or the loss diverges; Interrupted after saving when `stop` is set.
    """
    world = world or World()
    init = settings.model.init
    identity = {
        "objective": objective.spec,
        "budget": str(budget),
        "form": form,
        "corpus": store.fingerprint,
        "model": model_fingerprint(init) if init else None,
        "settings": settings.identity("seed", "data", "model", "train"),
    }
    if (out / RUN_FILE).is_file() and not {"identity", "status"} <= read_run(out).keys():
        raise UserError(
            f"{out / RUN_FILE}: a rung of a study, not a run of its own; give another --out"
        )
    folder = StudyFolder(out, RUN_FILE, "a run of ours", identity)
    with folder.opened(world.main) as before, memory_errors("train.micro_batch"):
        if before.get("status") == "finished":
            return before | {"identity": folder.identity}
        with disk_errors(out):
            trainer = make_trainer(settings, objective, store, seed=settings.seed, world=world)
            plan = (
                Plan(**before["plan"])
                if before
                else world.share(plan_for(trainer, objective, budget))
            )
            fill = exporter(trainer.backbone, objective, store, form)
            resumed = trainer.restore_latest(out)
        info = run_info(settings, objective, store, trainer, plan)
        world.barrier()  # all have seen the folder as it was
        if world.main:
            folder.save(**info, status="running")
        world.barrier()
        schedule = schedule_for(settings, plan.total)
        try:
            trainer.run(plan.total, plan, schedule, folder=out, fill=fill, stop=stop, report=report)
        except Interrupted:
            raise
        except Exception:
            if world.main and not resumed and checkpoint.latest_checkpoint(out) is None:
                folder.discard()  # nothing is lost, and another run may use the name
            raise
        info |= {"status": "finished", "spent": vars(trainer.counters)}
        if world.main:
            folder.publish(fill)
            folder.save(**info)
            for _, old in checkpoint.checkpoints(out):
                shutil.rmtree(old, ignore_errors=True)
        world.barrier()
    return info | {"identity": folder.identity}
