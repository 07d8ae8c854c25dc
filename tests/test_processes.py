"""Two and three processes of torchrun train what one does, with copies of the model (ddp) and with
shards (fsdp): the same weights for every objective, the same gradients of heads, and checkpoints
that any number of processes goes on from.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaRMSNorm

import test_heads
import test_training
from lookaround.data.rows import Rows
from lookaround.data.shards import TokenStore
from lookaround.objectives import parse
from lookaround.objectives.checks import random_batch
from lookaround.objectives.contract import View
from lookaround.support.errors import UserError
from lookaround.train import Plan, Trainer, WarmupStableDecay
from lookaround.train.loop import exporter
from lookaround.train.loss import ObjectiveLoss
from lookaround.train.parallel import How, World, parallelize, world
from lookaround.train.run import build_backbone

pytestmark = pytest.mark.slow

WAYS: tuple[How, ...] = ("ddp", "fsdp")
SPECS = [
    *test_training.SPECS,
    "mtp(n=4)",
    'mtp(n=3, heads="sequential")',
    'mtp(n=3, heads="hydra", weights=1.0)',
    'mtp(n=2, heads="causal", matched=True)',
    "top",
    "nextlat(horizon=2)",
    "0.5*mtp(n=3) + 0.5*vmlm",
    # on rows that begin with a prompt
    "reverse",
    "teacherless",
    "bst",
]
RESUMED = 'mtp(n=3, heads="sequential")'
# what three processes train too
THREE = ("ar", "dar + vmlm", "rar + mlm(rate=0.3)", "ar >> mlm", "mtp(n=4)", "nextlat(horizon=2)")
TRAINED = {
    2: range(len(SPECS)),
    3: [SPECS.index(spec) for spec in (*THREE, "bst", RESUMED)],
}
HEADS = {
    "parallel": "mtp(n=4)",
    # its first part: heads are there and have nothing to do
    "forward": 'mtp(n=4, curriculum="forward")',
    "hydra": 'mtp(n=4, heads="hydra")',
    "detached": 'mtp(n=3, heads="sequential", through=0)',
    "far": "mtp(n=3, weights=(0, 1, 1))",
    "short": 'mtp(n=4, heads="causal")',
    "none": 'mtp(n=4, heads="shared")',
}


def view_of_rows(name: str, rows: Tensor) -> View:
    """Rows of a batch; "short" and "none": the second process has documents of two tokens, or of
    one, which has no pairs.
    """
    batch = random_batch(4, 20, vocabulary=test_heads.VOCABULARY, packed=True)
    if name in ("short", "none"):
        assert batch.documents is not None
        batch.documents[1::2] = torch.arange(20) // (2 if name == "short" else 1)
    return parse(HEADS[name]).at(0.0).view(batch.take(rows), 0, 0)[0]


@contextmanager
def exact() -> Iterator[None]:
    """Norms in float64: in float32, as the model has them, rounding moves with a loss's scale."""
    before = LlamaRMSNorm.forward

    def forward(norm: Any, states: Tensor) -> Tensor:
        return F.rms_norm(states, norm.weight.shape, norm.weight, norm.variance_epsilon)

    LlamaRMSNorm.forward = forward
    try:
        yield
    finally:
        LlamaRMSNorm.forward = before


def trainer_of(
    store: TokenStore, spec: str, how: How = "ddp", whole: World | None = None
) -> Trainer:
    settings = test_training.settings(train__batch=6, train__micro_batch=2, train__parallel=how)
    objective = parse(spec)
    split = store.split("train")
    prompts = (
        np.maximum(split.length // 2, 1) if spec in ("reverse", "teacherless", "bst") else None
    )
    rows = Rows(split, 32, store.codec, prompts=prompts)
    backbone = build_backbone(settings, objective, store.codec, 0)
    return Trainer(
        backbone,
        objective,
        rows,
        settings=settings.train,
        seed=0,
        learning_rate=1e-2,
        precision="fp64",
        world=whole,
    )


def run(trainer: Trainer, until: int | None = None) -> Trainer:
    """Trains to a step, or to the end: of 2 steps, where it is resumed of 4."""
    steps = 4 if trainer.objective.spec == RESUMED else 2
    shares = tuple(share for share, _ in trainer.objective.phases())
    plan = Plan(shares, tuple(steps // len(shares) for _ in shares))
    trainer.run(until or steps, plan, WarmupStableDecay(1, steps // 2, steps))
    return trainer


def whole_tensor(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).contiguous()


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: whole_tensor(p) for name, p in trainer.backbone.named_parameters()}


def save(trainer: Trainer, folder: Path, store: TokenStore) -> None:
    trainer.save(folder, exporter(trainer.whole, trainer.objective, store))
    trainer.settle()


def work(store: TokenStore, out: Path) -> None:
    """What each of some processes does; the first writes what came of it."""
    torch.set_num_threads(1)
    with world() as whole, exact():

        def write(tensors: dict[str, Tensor], name: str) -> None:
            if whole.main:
                save_file({k: v.clone() for k, v in tensors.items()}, out / f"{whole.size}-{name}")

        for how in WAYS:
            for number in TRAINED[whole.size]:
                trainer = run(trainer_of(store, SPECS[number], how, whole))
                write(weights(trainer), f"{how}-{number}")
            for name, spec in HEADS.items() if whole.size == 2 else ():
                model = test_heads.backbone(spec)
                loss = ObjectiveLoss(model, alike=how == "fsdp")
                layers = list(model.decoder.layers)
                module = parallelize(loss, layers, whole, how)
                components = parse(spec).at(0.0).components()
                for _ in range(2):
                    module.zero_grad(set_to_none=True)
                    view = view_of_rows(name, torch.arange(4)[whole.rank :: 2])
                    module(components, (view,), (0.5,))[0].backward()
                gradients = {n: whole_tensor(p.grad) for n, p in model.named_parameters()}
                write(gradients, f"{how}-{name}")
        if whole.size == 2:
            trainer = run(trainer_of(store, RESUMED, "fsdp", whole), 2)
            trainer.save(out / "two", lambda path: None)
            run(trainer)  # goes on while the checkpoint is written
        else:
            trainer = trainer_of(store, RESUMED, "fsdp", whole)
            trainer.restore_latest(out / "two")
            save(run(trainer, 3), out / "three", store)
            trainer = trainer_of(store, RESUMED, "fsdp", whole)
            trainer.restore_latest(out / "one")
            write(weights(run(trainer)), "resumed")
            trainer.gather()
            if whole.main:
                exporter(trainer.whole, trainer.objective, store)(out / "exported")
        distributed.barrier()  # no process leaves while another still talks to it


def torchrun(processes: int, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """A command in some processes, on the CPU."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--master-port=0"),
            *("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"),
            *(f"--nproc-per-node={processes}", *command),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        **more,
    )


@pytest.fixture(scope="module")
def together(store: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what two and three processes came to."""
    out = tmp_path_factory.mktemp("together")
    with exact():
        save(run(trainer_of(store, RESUMED), 2), out / "one", store)
    script = out / "worker.py"
    script.write_text(
        "import json, sys\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from lookaround.data.shards import TokenStore\n"
        "from test_processes import work\n"
        f"folder = Path({str(store.folder)!r})\n"
        "store = TokenStore(folder, json.loads((folder / 'index.json').read_text()))\n"
        f"work(store, Path({str(out)!r}))\n"
    )
    for processes in (2, 3):
        done = torchrun(processes, str(script))
        assert done.returncode == 0, done.stderr[-3000:]
    return out


def assert_same(
    found: dict[str, Tensor], wanted: dict[str, Tensor], atol: float, what: str
) -> None:
    assert found.keys() == wanted.keys(), what
    for name, tensor in wanted.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=0, atol=atol, msg=lambda m, n=name: f"{what}: {n}: {m}"
        )


def test_some_processes_are_one(store: TokenStore, together: Path, tmp_path: Path) -> None:
    """One test: each worker of pytest that had a part of it would start the processes again."""
    with exact():
        alone = {spec: weights(run(trainer_of(store, spec))) for spec in SPECS}
    for how, processes in itertools.product(WAYS, TRAINED):
        for number in TRAINED[processes]:
            found, spec = load_file(together / f"{processes}-{how}-{number}"), SPECS[number]
            assert_same(found, alone[spec], 1e-6, f"{spec}, {how}, {processes} processes")
    for how, (name, spec) in itertools.product(WAYS, HEADS.items()):
        with exact():
            wanted = test_heads.after_backward(
                test_heads.backbone(spec), spec, [view_of_rows(name, torch.arange(4))], scale=0.25
            )
        assert_same(load_file(together / f"2-{how}-{name}"), wanted, 1e-10, f"{name}, {how}")
    check_checkpoints(store, together, alone[RESUMED])
    check_export(together, alone[RESUMED])
    check_torn_shards(store, together, tmp_path)


def check_checkpoints(store: TokenStore, together: Path, wanted: dict[str, Tensor]) -> None:
    """Shards of 2 -> 3 -> one process, and a file of one process -> 3, end in the same weights."""
    trainer = trainer_of(store, RESUMED)
    assert trainer.restore_latest(together / "three")
    assert trainer.counters.step == 3
    with exact():
        assert_same(weights(run(trainer)), wanted, 1e-6, "2 -> 3 -> 1")
    assert_same(load_file(together / "3-resumed"), wanted, 1e-6, "1 -> 3")
    shards = [*(together / "three" / "checkpoint-00000003").rglob("*")]
    assert {path.suffix for path in shards if path.is_file()} == {".safetensors", ".json"}


def check_export(together: Path, wanted: dict[str, Tensor]) -> None:
    """Shards are exported whole, tied tensors once."""
    from transformers import AutoModelForCausalLM

    folder = together / "exported"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    own = {f"lm.{name}": p.detach() for name, p in model.named_parameters()}
    assert_same(own, {name: wanted[name] for name in own}, 1e-6, "export")
    one = load_file(together / "one" / "checkpoint-00000002" / "model.safetensors")
    assert one.keys() == load_file(folder / "model.safetensors").keys()
    heads = {f"heads.{name}": t for name, t in load_file(folder / "heads.safetensors").items()}
    kept = {name: tensor for name, tensor in wanted.items() if name.startswith("heads.")}
    assert_same(heads, kept, 1e-6, "heads")


def check_torn_shards(store: TokenStore, together: Path, tmp_path: Path) -> None:
    """Shards that are missing, cut or of another model are named."""
    path = tmp_path / "checkpoint-00000003"
    shutil.copytree(together / "three" / path.name, path)
    shards = sorted((path / "training_state").iterdir())
    assert len(shards) == 3
    shards[1].unlink()
    with pytest.raises(UserError, match=r"training_state: .* truncated or foreign"):
        trainer_of(store, RESUMED).restore_latest(tmp_path)
    shutil.copy(together / "three" / path.name / "training_state" / shards[1].name, shards[1])
    shards[2].write_bytes(shards[2].read_bytes()[:1000])
    with pytest.raises(UserError, match=r"training_state: truncated or foreign"):
        trainer_of(store, RESUMED).restore_latest(tmp_path)
    with pytest.raises(UserError, match=r"training_state: .* truncated or foreign"):
        trainer_of(store, "ar").restore_latest(together / "three")
