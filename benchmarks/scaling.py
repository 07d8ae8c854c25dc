"""Tokens per second of one run on one and two processes, and what a step waits for its data.

    python -m benchmarks.scaling --json results/data/scaling.json
    python -m benchmarks.scaling --processes 1,2,4,8 --model base --batch 64 --context 1024

The first takes about 12 minutes on two CPU cores: each process has one of them, on a GPU machine
one GPU. A run is a process group of torchrun of its own, on random tokens, with `ar`.

speed: weak scaling (the batch grows with the processes) and strong scaling (it stays), with a copy
in each process (ddp) and with shards (fsdp). "of one": tokens per second over those of one process,
divided by the number of processes; by turns in every round, medians.

waiting: the share of a step's time in which it waits for its rows and views, with those drawn ahead
in a thread, and what drawing them takes by itself. Target: below 2 % of a step of `nano`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.records import write_record

VOCABULARY, WARMUP = 8192, 3
PAD, BOS, EOS, MASK = range(4)


def trainer_of(given: argparse.Namespace, batch: int, how: str, spec: str, whole: Any) -> Any:
    """Our loop on random rows without end."""
    from lookaround.data.rows import Rows
    from lookaround.data.shards import Split
    from lookaround.model.backbone import build
    from lookaround.objectives import Vocabulary, parse
    from lookaround.settings import TrainSettings
    from lookaround.train.loop import Trainer

    rows = 1024
    tokens = np.random.default_rng(0).integers(MASK + 1, VOCABULARY, rows * given.context)
    starts = np.arange(rows) * given.context
    lengths = np.full_like(starts, given.context)
    split = Split((tokens,), np.zeros_like(starts), starts, lengths)
    codec = SimpleNamespace(
        bos=BOS, pad=PAD, vocabulary=Vocabulary(VOCABULARY, MASK, (PAD, BOS, EOS, MASK))
    )
    objective = parse(spec)
    backbone = build(
        preset=given.model,
        vocabulary=VOCABULARY,
        context=given.context,
        special={"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS},
        heads=objective.head_specs(),
    )
    return Trainer(
        backbone,
        objective,
        Rows(split, given.context, codec),  # type: ignore[arg-type]
        settings=TrainSettings(batch=batch, parallel=how),  # type: ignore[arg-type]
        seed=0,
        learning_rate=1e-3,
        world=whole,
    )


def measure(given: argparse.Namespace) -> dict[str, float]:
    """What a process measures: seconds of a step, the part of it that waits, and of drawing one."""
    import torch

    from lookaround.train.ahead import Ahead
    from lookaround.train.budget import Plan
    from lookaround.train.parallel import world

    torch.set_num_threads(given.threads)
    with world() as whole:
        trainer = trainer_of(given, given.batch, given.how, given.objective, whole)
        steps = WARMUP + given.steps
        plan = Plan((1.0,), (steps,))
        with Ahead(partial(trainer.draw, plan=plan), 0, steps) as ahead:
            for step in range(steps):
                if step == WARMUP:
                    whole.barrier()
                    began, before = time.perf_counter(), ahead.waited
                sums = trainer.step(plan, 1.0, ahead.take(step))
            sums.totals  # noqa: B018 (waits for the device)
            whole.barrier()
            seconds = time.perf_counter() - began
        clock = time.perf_counter()
        for step in range(given.steps):
            trainer.draw(step, plan)
        drawing = time.perf_counter() - clock
        return {
            "tokens_per_second": given.batch * given.context * given.steps / seconds,
            "waiting": (ahead.waited - before) / seconds,
            "drawing": drawing / seconds,
            "main": float(whole.main),
        }


def run(given: argparse.Namespace, processes: int, **options: Any) -> dict[str, float]:
    """`measure` in some processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--master-port=0"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    command += [f"--nproc-per-node={processes}", "-m", "benchmarks.scaling", "--worker"]
    shared = {"model": given.model, "context": given.context, "steps": given.steps}
    for name, value in (shared | options).items():
        command += [f"--{name}", str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options["threads"])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", default="1,2")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16, help="rows per step of one process")
    parser.add_argument("--steps", type=int, default=30, help="timed steps of a run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--objectives", default="ar;mlm;dar;vmlm;mtp(n=4)", help="for waiting")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--how", default="ddp", help=argparse.SUPPRESS)
    parser.add_argument("--objective", default="ar", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        found = measure(given)
        if found["main"]:
            print(json.dumps(found), flush=True)
        return
    counts = [int(count) for count in given.processes.split(",")]
    ways = [(1, "one process", given.batch, "ddp")]
    for count in counts:
        if count > 1:
            for how in ("ddp", "fsdp"):
                ways.append((count, "weak", given.batch * count, how))
                ways.append((count, "strong", given.batch, how))
    speeds: dict[tuple[int, str, int, str], list[float]] = {way: [] for way in ways}
    for number in range(given.rounds):
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            processes, _, batch, how = way
            found = run(given, processes, batch=batch, how=how, threads=1)
            speeds[way].append(found["tokens_per_second"])
    rows = []
    for (processes, scaling, _, how), found in speeds.items():
        of_one = median(a / b for a, b in zip(found, speeds[ways[0]], strict=True)) / processes
        rows.append(
            {
                "way": scaling if processes == 1 else f"{how}, {scaling}",
                "processes": processes,
                "tokens_per_second": round(median(found)),
                "of_one": round(of_one, 2),
            }
        )
        print(f"{rows[-1]['way']:<16}{processes:>3}{median(found):>12,.0f}{of_one:>8.2f}")
    waits = []
    for spec in given.objectives.split(";"):
        parts = [
            run(given, 1, batch=given.batch, how="ddp", objective=spec, threads=2)
            for _ in range(given.rounds)
        ]
        waits.append(
            {
                "objective": spec,
                "waiting": round(median(part["waiting"] for part in parts), 4),
                "drawing": round(median(part["drawing"] for part in parts), 4),
            }
        )
        print(f"{spec:<12} waits {waits[-1]['waiting']:.2%}, drawing {waits[-1]['drawing']:.2%}")
    if given.json:
        write_record(given.json, {"speed": rows, "waiting": waits}, batch=given.batch)


if __name__ == "__main__":
    main()
