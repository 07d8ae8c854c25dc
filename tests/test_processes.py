"""Two processes of torchrun train what one does: the same weights, the same gradients of heads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed

import test_heads
import test_training
from lookaround.data.shards import TokenStore
from lookaround.objectives import parse
from lookaround.objectives.checks import random_batch
from lookaround.objectives.contract import View
from lookaround.train import Plan, WarmupStableDecay
from lookaround.train.loss import ObjectiveLoss
from lookaround.train.parallel import world
from lookaround.train.run import make_trainer

pytestmark = pytest.mark.slow

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


def train_in_a_process(store: Path, out: Path) -> None:
    """What each of the two processes does; the first writes what came of it."""
    torch.set_num_threads(1)
    opened = TokenStore(store, json.loads((store / "index.json").read_text()))
    with world() as whole:
        for number, spec in enumerate(test_training.SPECS):
            objective = parse(spec)
            settings = test_training.settings(train__micro_batch=2)
            trainer = make_trainer(
                settings, objective, opened, seed=0, learning_rate=1e-2, world=whole
            )
            shares = tuple(share for share, _ in objective.phases())
            plan = Plan(shares, tuple(4 // len(shares) for _ in shares))
            trainer.run(4, plan, WarmupStableDecay(1, 2, 4))
            if whole.main:
                torch.save(test_training.weights(trainer), out / f"weights-{number}.pt")
        gloo = distributed.new_group(backend="gloo")  # gradients of the processor, in float64
        for name, spec in HEADS.items():
            model = torch.nn.parallel.DistributedDataParallel(
                ObjectiveLoss(test_heads.backbone(spec)), process_group=gloo
            )
            components = parse(spec).at(0.0).components()
            for _ in range(2):
                model.zero_grad(set_to_none=True)
                rows = torch.arange(4)[whole.rank :: 2]
                loss, _ = model(components, (view_of_rows(name, rows),), (0.5,))
                loss.backward()
            if whole.main:
                torch.save(test_heads.gradients(model.module.backbone), out / f"{name}.pt")
        del model
        distributed.barrier(gloo)  # neither process leaves while the other still talks to it


@pytest.fixture(scope="module")
def together(store: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what two processes came to."""
    out = tmp_path_factory.mktemp("together")
    tests = str(Path(__file__).parent)
    script = out / "worker.py"
    script.write_text(
        f"import sys\nfrom pathlib import Path\nsys.path.insert(0, {tests!r})\n"
        "from test_processes import train_in_a_process\n"
        f"train_in_a_process(Path({str(store.folder)!r}), Path({str(out)!r}))\n"
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--master-port=0",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=localhost:0",
        str(script),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("number", range(len(test_training.SPECS)), ids=test_training.SPECS)
def test_two_processes_are_one(store: TokenStore, together: Path, number: int) -> None:
    alone = test_training.weights(test_training.train(store, test_training.SPECS[number]))
    found = torch.load(together / f"weights-{number}.pt", weights_only=True)
    for name, tensor in alone.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("name", HEADS)
def test_two_processes_average_the_gradient(together: Path, name: str) -> None:
    found = torch.load(together / f"{name}.pt", weights_only=True)
    spec = HEADS[name]
    alone = test_heads.after_backward(
        test_heads.backbone(spec), spec, [view_of_rows(name, torch.arange(4))], scale=0.25
    )
    test_heads.assert_same(found, alone, 1e-10)
