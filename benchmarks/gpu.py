"""The loop on a GPU: the CPU's losses step by step, a resumed run, the scores of a checkpoint, how
fast it all is, and two studies.

    python -m benchmarks.gpu --json results/data/gpu.json  # about 10 minutes on an H100
    python -m benchmarks.gpu --parts agreement,scores      # some of it
    python -m benchmarks.gpu --small                       # 20 seconds on two CPU cores

agreement: some steps of every objective from the same weights on the same rows, on the GPU and on
the CPU, in float32 without TF32 and in float64; the largest difference of a step's loss and of a
weight, beside the largest change of a weight by training. Target: losses that agree to 1e-3 in
float32. Losses of heads that only rank or regress are not among the losses; their gradients move
the weights. A float32 weight whose gradient is all rounding goes either way under AdamW, so that
weights may differ by a few learning rates; float64 tells this from a mistake (but for norms and
rotations, which transformers computes in float32 whatever the weights are). resume: half of the
steps, a checkpoint, the other half from the restored state, against all of them uninterrupted, and
that against itself. Target: no difference with deterministic algorithms. scores: a checkpoint's
bits of each token in every mode and its pooled states, on the GPU and on the CPU. Target: 1e-3.
speed: tokens per second of the preset "base" in bf16 on 64 rows of 1,024 tokens with 32,768 words,
with and without torch.compile; the FLOPs that the project counts over those of an 8192 x 8192 x
8192 bf16 product on the same machine; the share of a step in which the host makes views. Where 64
rows do not fit, they come in micro-batches of half as many. english: `ar`, `mlm(rate=0.4)` and
`ar + vmlm` of the preset "tiny" on the English mix at 1e15 FLOPs, one seed, every protocol; reads
$LOOKAROUND_DATA (default ../shared/data). pathstar: `lookaround synthetic --preset gpu` on G(5,5)
for 3,000 steps, one seed.

A part takes --limit seconds at most (180): what does not fit is left out, and a study is stopped,
with which the same command goes on. Rows are random tokens by Zipf's law, or path-star graphs for
the objectives that need a prompt. Without a GPU both sides are the CPU. OUT/PART.json holds what is
printed and more, and is written row by row; an objective that fails is recorded there and the rest
goes on. Ends with 1 where something failed or missed its target.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

os.environ.setdefault(
    "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
)  # what deterministic matrix products ask for

import numpy as np
import torch
import transformers

import lookaround
from benchmarks.records import write_record
from benchmarks.texts import ABSENT, TEXTS, linked_mix
from lookaround.data.rows import Rows, RowSource
from lookaround.data.shards import Split
from lookaround.evaluation.bits_per_byte import (
    bits_per_byte,
    chain_rule_bits,
    choose_tokens,
    default_prefix_lengths,
)
from lookaround.evaluation.features import encoded, pooled_states
from lookaround.model.backbone import build, use_blocks
from lookaround.model.export import export, load
from lookaround.objectives import Vocabulary, parse
from lookaround.settings import TrainSettings, read_settings
from lookaround.studies.compare.compare import compare as compare_objectives
from lookaround.studies.compare.study import open_study
from lookaround.studies.synthetic.grid import PRESETS as SYNTHETIC
from lookaround.studies.synthetic.grid import open_grid, run_grid
from lookaround.studies.synthetic.tasks.base import Problems
from lookaround.studies.synthetic.tasks.pathstar import PathStar
from lookaround.support.errors import Interrupted
from lookaround.train.budget import Plan
from lookaround.train.checkpoint import latest_checkpoint
from lookaround.train.loop import Trainer, default_learning_rate
from lookaround.train.parallel import World
from lookaround.train.schedule import WarmupStableDecay

CPU = torch.device("cpu")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PAD, BOS, EOS, MASK = range(4)
SEED = 0
TARGET = 1e-3

KINDS = ("parallel", "causal", "sequential", "shared", "linear", "medusa", "medusa-own", "hydra")
SPECS = [
    "ar",
    "ar(rate=0.15)",
    "mlm",
    "mlm(shift=1)",
    "mlm(rate=linear(0.3, 0.15))",
    "dar",
    'dar(law="harmonic")',
    "vmlm",
    "vmlm(near=0.5, shift=0)",
    "prefixlm",
    "mdlm",
    'mdlm(weight="elbo")',
    *(f'mtp(heads="{kind}")' for kind in KINDS),
    'mtp(n=3, heads="sequential", through=linear(1, 0), curriculum="forward")',
    "mtp(n=2, through=0.0, matched=True)",
    "mtp(reach=2)",
    "top",
    "top(window=8, weight=0.5)",
    "nextlat",
    "nextlat(horizon=3)",
    "ar + vmlm",
    "dar + 3*mlm",
    'mtp(n=2, heads="hydra") + mdlm',
    "0.25*ar >> 0.75*mlm",
    "0.5*dar >> 0.5*(ar + vmlm)",
]
PACKED = [
    "ar",
    "vmlm",
    "prefixlm",
    'mtp(heads="sequential")',
    "top",
    "nextlat",
]  # again, several documents to a row
PROMPTED = [
    "ar",
    "reverse",
    "teacherless",
    "bst",
    "bst(layers=2, weight=0.5)",
    "teacherless + mdlm",
]
RESUMED = ["ar", "dar + vmlm", 'mtp(heads="sequential")', "top", "0.25*ar >> 0.75*mlm"]
SCORED = "ar + mlm + prefixlm"
ENGLISH_TASKS = (
    "tokens/ewt.train.conllu.xz:upos",
    "tokens/ewt.train.conllu.xz:deprel",
    "tokens/conll2000.train.txt.xz",
    "tokens/snips_slots.train.jsonl.xz",
    "classification/snips/train.tsv.xz",
    "glue/SST-2",
    "pairs/blimp.jsonl.xz",
)


@dataclass(frozen=True)
class Sizes:
    """How much of everything: the models that are compared, then the one that is timed."""

    preset: str = "nano"
    vocabulary: int = 512
    width: int = 64
    batch: int = 4
    steps: int = 20
    precisions: tuple[str, ...] = ("fp32", "fp64")
    graph: tuple[int, int, int] = (3, 4, 24)  # degree, length, labels
    positions: int = 64  # scored tokens per prefix length
    texts: int = 200
    fast_preset: str = "base"
    fast_vocabulary: int = 32_768
    fast_width: int = 1024
    fast_batch: int = 64
    rounds: int = 4
    round_steps: int = 4
    product: int = 8192
    texts_there: bool = True  # those of $LOOKAROUND_DATA, for the English study
    english_preset: str = "tiny"
    english_budget: str = "1e15flops"
    star: str = "pathstar(5,5)"
    star_preset: str = "mini"
    star_batch: int = 512
    star_steps: int = 3000
    star_queries: int = 2000
    studies: str = ""  # the folder in which studies are kept
    limit: float = 180.0  # seconds of a part


SMALL = Sizes(
    vocabulary=64,
    width=16,
    batch=4,
    steps=2,
    precisions=("fp32",),
    graph=(2, 3, 8),
    positions=8,
    texts=8,
    fast_preset="pico",
    fast_vocabulary=64,
    fast_width=16,
    fast_batch=4,
    rounds=1,
    round_steps=1,
    product=128,
    texts_there=False,
    english_preset="pico",
    english_budget="1e10flops",
    star="pathstar(2,2)",
    star_preset="pico",
    star_batch=8,
    star_steps=2,
    star_queries=8,
)


# -------------------------------------------------------------------------------- rows and trainers


class Data(NamedTuple):
    """Rows with what a model must know of their tokens."""

    rows: RowSource
    vocabulary: int
    special: dict[str, int | None]
    mask: int


def text_data(
    vocabulary: int,
    width: int,
    count: int,
    *,
    lengths: tuple[int, int] | None = None,
    pack: bool = False,
) -> Data:
    """`count` documents of random tokens: BOS, ids drawn by Zipf's law, EOS; as long as a row, or
    of lengths between two.
    """
    generator = np.random.default_rng(SEED)
    length = np.full(count, width) if lengths is None else generator.integers(*lengths, count)
    start = length.cumsum() - length
    ids = np.arange(MASK + 1, vocabulary)
    mass = 1 / np.arange(1, len(ids) + 1)
    tokens = generator.choice(ids, size=int(length.sum()), p=mass / mass.sum())
    tokens[start], tokens[start + length - 1] = BOS, EOS
    special = (PAD, BOS, EOS, MASK)
    tokenizer: Any = SimpleNamespace(
        bos=BOS,
        vocabulary=Vocabulary(vocabulary, MASK, special),
        pad=PAD,
        units=np.where(np.isin(np.arange(vocabulary), special), 0, 1 + np.arange(vocabulary) % 7),
        encode=lambda texts: [[int(word) for word in text.split()] for text in texts],
    )
    rows = Rows(Split((tokens,), np.zeros_like(start), start, length), width, tokenizer, pack=pack)
    return Data(
        rows, vocabulary, {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}, MASK
    )


def compared_text(sizes: Sizes, *, pack: bool = False) -> Data:
    """Documents shorter and longer than a row, so that there is padding; packed, all are short."""
    lengths = (4, sizes.width // 2) if pack else (sizes.width // 2, 3 * sizes.width)
    return text_data(sizes.vocabulary, sizes.width, 50 * sizes.batch, lengths=lengths, pack=pack)


def graph_data(sizes: Sizes) -> Data:
    task = PathStar(*sizes.graph[:2], labels=sizes.graph[2])
    none = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    return Data(Problems(task, "train"), task.vocabulary.size, none, task.vocabulary.mask)


def trainer_of(
    spec: str,
    data: Data,
    preset: str,
    device: torch.device,
    precision: str,
    *,
    batch: int,
    micro_batch: int | None = None,
    compiled: Compiled = False,
    flex: bool = False,
    seed: int = SEED,
) -> Trainer:
    """A trainer at step 0; `seed` is that of the weights."""
    objective = parse(spec)
    backbone = build(
        preset=preset,
        vocabulary=data.vocabulary,
        context=data.rows.width,
        special=data.special,
        heads=objective.head_specs(),
        seed=seed,
    )
    if flex:
        use_blocks(backbone)
    return Trainer(
        backbone,
        objective,
        data.rows,
        settings=TrainSettings(batch=batch, micro_batch=micro_batch, log_every=1),
        seed=SEED,
        learning_rate=default_learning_rate(backbone.width),
        precision=precision,
        compile=compiled,
        world=World(device=device),
    )


def train(trainer: Trainer, until: int, total: int) -> list[float]:
    """Trains to step `until` of `total`; the loss of every step."""
    shares = tuple(share for share, _ in trainer.objective.phases())
    ends = np.rint(np.cumsum(shares) * total).astype(int)
    plan = Plan(shares, tuple(int(n) for n in np.diff(ends, prepend=0)))
    losses: list[float] = []
    trainer.run(
        until,
        plan,
        WarmupStableDecay(2, total, total),
        report=lambda done: losses.append(done.loss),
    )
    return losses


def save(trainer: Trainer, folder: Path, mask: int) -> Path:
    """Saves a checkpoint as a run does; its path."""
    trainer.save(
        folder, lambda into: export(trainer.backbone, into, trainer.objective.modes(), mask=mask)
    )
    path = latest_checkpoint(folder)
    assert path is not None
    return path


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {
        name: p.detach().cpu().double().clone()
        for name, p in trainer.backbone.named_parameters()
        if p.numel()
    }


def largest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference between weights of the same names; NaN where one is not finite."""
    assert one.keys() == other.keys()
    return float(torch.stack([(one[name] - other[name]).abs().max() for name in one]).max())


# ---------------------------------------------------------------------------------------- the parts


Row = dict[str, Any]
Job = tuple[str, Callable[[], Row]]  # what it is called, and what it finds
Compiled = bool | Literal["step"]


def agreement(sizes: Sizes) -> Iterator[Job]:
    """Every objective on both devices."""
    kinds = [
        ("", compared_text(sizes), SPECS),
        (", packed", compared_text(sizes, pack=True), PACKED),
        (f", graph {sizes.graph[0]},{sizes.graph[1]}", graph_data(sizes), PROMPTED),
    ]
    for suffix, data, specs in kinds:
        for spec in specs:
            yield spec + suffix, lambda spec=spec, data=data: compare(spec, data, sizes)


def compare(spec: str, data: Data, sizes: Sizes) -> Row:
    """Differences between the devices in each precision."""
    row: Row = {}
    for precision in sizes.precisions:
        losses, final = [], []
        for device in (CPU, DEVICE):
            trainer = trainer_of(spec, data, sizes.preset, device, precision, batch=sizes.batch)
            before = weights(trainer)
            losses.append(train(trainer, sizes.steps, sizes.steps))
            final.append(weights(trainer))
        away = np.abs(np.subtract(*losses))
        row |= {
            f"{precision}_loss": float(away.max()),
            f"{precision}_first_loss": float(away[0]),
            f"{precision}_weights": largest(*final),
            "moved": largest(before, final[0]),
            f"{precision}_losses": losses,
        }
    return row | {"failed": not row["fp32_loss"] <= TARGET}


def resume(sizes: Sizes) -> Iterator[Job]:
    """A run that was interrupted half-way, and one that was not."""
    data = compared_text(sizes)
    for spec in RESUMED:
        yield spec, lambda spec=spec: interrupted(spec, data, sizes)


def interrupted(spec: str, data: Data, sizes: Sizes) -> Row:
    def fresh(seed: int = SEED) -> Trainer:
        return trainer_of(spec, data, sizes.preset, DEVICE, "fp32", batch=sizes.batch, seed=seed)

    row: Row = {}
    for name, setting in (("", nullcontext), ("deterministic_", deterministic)):
        with tempfile.TemporaryDirectory() as folder, setting():
            whole, again, first, second = fresh(), fresh(), fresh(), fresh(SEED + 1)
            for trainer in (whole, again):
                train(trainer, sizes.steps, sizes.steps)
            train(first, sizes.steps // 2, sizes.steps)
            second.restore_from(save(first, Path(folder), data.mask))
            train(second, sizes.steps, sizes.steps)
        row[f"{name}again"] = largest(weights(whole), weights(again))
        row[f"{name}resumed"] = largest(weights(whole), weights(second))
    return row | {"failed": row["deterministic_resumed"] != 0}


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def scores(sizes: Sizes) -> Iterator[Job]:
    """A checkpoint read on both devices."""
    data = compared_text(sizes)
    rows: Any = data.rows
    trainer = trainer_of(SCORED, data, sizes.preset, DEVICE, "fp32", batch=sizes.batch)
    modes = trainer.objective.modes()
    with tempfile.TemporaryDirectory() as folder:
        train(trainer, sizes.steps, sizes.steps)
        path = save(trainer, Path(folder), data.mask)
        both = [load(path).to(device) for device in (CPU, DEVICE)]
    scored = choose_tokens(rows, default_prefix_lengths(rows.width), sizes.positions)
    texts = [
        " ".join(map(str, rows.take(np.array([row])).tokens[0, 1:].tolist()))
        for row in range(sizes.texts)
    ]

    def bits(mode: Any) -> Row:
        found = [chain_rule_bits(backbone, rows, scored, mode) for backbone in both]
        ours, other = (bits_per_byte(bits, scored)[0] for bits in found)
        token = float(np.abs(np.subtract(*found)).max())
        row = {
            "cpu_bits_per_byte": ours,
            "bits_per_byte": other,
            "difference": abs(ours - other),
            "token": token,
        }
        return row | {"failed": not max(token, abs(ours - other)) <= TARGET}

    def states(attention: str) -> Row:
        ours, other = (
            pooled_states(
                backbone, rows.codec, encoded(rows.codec, texts, rows.width)[0], attention
            )
            for backbone in both
        )
        away = float(np.abs(ours - other).max())
        return {
            "difference": away,
            "largest_state": float(np.abs(ours).max()),
            "failed": not away <= TARGET,
        }

    for mode in modes:
        yield f"bits per byte, {mode}", lambda mode=mode: bits(mode)
    for attention in dict.fromkeys(mode.attention for mode in modes):
        yield f"pooled states, {attention}", lambda attention=attention: states(attention)


def speed(sizes: Sizes) -> Iterator[Job]:
    """Both objectives, plain and compiled, against a matrix product of the same machine.

    On a GPU also `ar` compiled as a whole step, and on packed rows, with masks and with blocks.
    """
    product: Row = {}

    def measured() -> Row:
        product.update(product_flops(sizes.product))
        return product

    yield f"a product of {sizes.product}^3 in bf16", measured
    count = sizes.fast_batch * (2 + sizes.rounds * sizes.round_steps)
    data = text_data(sizes.fast_vocabulary, sizes.fast_width, count)
    fitted: dict[str, int | None] = {}  # the micro-batch that fits each objective
    ways: list[tuple[str, str, Compiled, bool, bool]] = [
        (spec + ", compiled" * compiled, spec, compiled, False, False)
        for compiled in (False, True)
        for spec in ("ar", "mlm")
    ]
    if DEVICE.type == "cuda":
        ways.append(("ar, step compiled", "ar", "step", False, False))
        ways.append(("ar, compiled, packed", "ar", True, True, False))
        ways.append(("ar, compiled, packed, flex", "ar", True, True, True))
    for name, spec, compiled, pack, flex in ways:

        def job(
            spec: str = spec, compiled: Compiled = compiled, pack: bool = pack, flex: bool = flex
        ) -> Row:
            lengths = (sizes.fast_width // 8, sizes.fast_width // 2)
            given = data
            if pack:  # documents of a third of a row
                vocabulary, width = sizes.fast_vocabulary, sizes.fast_width
                given = text_data(vocabulary, width, 4 * count, lengths=lengths, pack=True)
            row = fastest_fit(spec, given, sizes, compiled, fitted.get(spec), flex)
            fitted[spec] = row["micro_batch"]
            if product:
                row["share_of_product"] = row["flops_per_second"] / product["flops_per_second"]
            return row

        yield name, job


def now() -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def product_flops(size: int, warm: int = 5, count: int = 20) -> Row:
    """FLOPs per second of a square bf16 matrix product, the median of three rounds."""
    left, right = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    rates = []
    for times in (warm, count, count, count):
        clock = now()
        for _ in range(times):
            torch.mm(left, right)
        rates.append(times * 2 * size**3 / (now() - clock))
    return {"flops_per_second": median(rates[1:])}


def fastest_fit(
    spec: str,
    data: Data,
    sizes: Sizes,
    compiled: Compiled,
    micro: int | None,
    flex: bool = False,
) -> Row:
    """The speed of an objective at the largest micro-batch that fits, beginning with `micro` (none:
    all rows).
    """
    while True:
        try:
            return tokens_per_second(spec, data, sizes, compiled, micro, flex)
        except torch.OutOfMemoryError:
            micro = (micro or sizes.fast_batch) // 2
            if not micro:
                raise
        finally:
            torch.compiler.reset()
        release()


def release() -> None:
    """Gives back the memory of trainers that are gone."""
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def tokens_per_second(
    spec: str, data: Data, sizes: Sizes, compiled: Compiled, micro: int | None, flex: bool
) -> Row:
    release()
    trainer = trainer_of(
        spec,
        data,
        sizes.fast_preset,
        DEVICE,
        "bf16",
        batch=sizes.fast_batch,
        micro_batch=micro,
        compiled=compiled,
        flex=flex,
    )
    made = trainer.views
    spent = 0.0

    def timed(*given: Any) -> Any:
        nonlocal spent
        clock = time.perf_counter()
        try:
            return made(*given)
        finally:
            spent += time.perf_counter() - clock

    trainer.views = timed  # type: ignore[method-assign]
    total = 2 + sizes.rounds * sizes.round_steps
    clock = now()
    losses = train(trainer, 1, total)
    first = now() - clock
    losses += train(trainer, 2, total)
    spent, flops, seconds, began = 0.0, trainer.counters.flops, [], now()
    for number in range(1, sizes.rounds + 1):
        clock = now()
        losses += train(trainer, 2 + number * sizes.round_steps, total)
        seconds.append((now() - clock) / sizes.round_steps)
    whole, steps = now() - began, sizes.rounds * sizes.round_steps
    tokens, flops = sizes.fast_batch * sizes.fast_width, (trainer.counters.flops - flops) / steps
    return {
        "micro_batch": micro,
        "tokens_per_second": tokens / median(seconds),
        "step_seconds": median(seconds),
        "slowest_step": max(seconds),
        "fastest_step": min(seconds),
        "first_step": first,
        "views_seconds": spent / steps,
        "views_share": spent / whole,
        "flops_per_step": flops,
        "flops_per_second": flops / median(seconds),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else None,
        "losses": losses,
    }


def english(sizes: Sizes) -> Iterator[Job]:
    """The English study at a budget that two cores would take days for."""
    out, found = Path(sizes.studies) / "english", list[Row]()

    def study() -> Row:
        clock = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, executor(sizes) as pool, in_time(sizes):
            opened = open_study(read_settings(**english_settings(sizes, Path(folder) / "mix")))
            results = compare_objectives(opened, out, command="benchmarks/gpu.sh", executor=pool)
        for run in results.as_dict()["runs"]:
            scores = {
                f"{protocol}, {task}": entry.get("score")
                for protocol, tasks in run["scores"].items()
                for task, entry in tasks.items()
            }
            told = {name: run[name] for name in ("objective", "rung", "mode")}
            found.append(told | run["budget"] | scores)
        return {"seconds": time.perf_counter() - clock, "runs": len(found)}

    if sizes.texts_there and ABSENT:
        yield "the study", lambda: {"left_out": ABSENT}
        return
    yield "the study", study
    for row in found:
        yield f"{row['objective']}, {row['rung']:g} of the budget", row.copy


def english_settings(sizes: Sizes, mix: Path) -> dict[str, Any]:
    """The settings of the study; `mix` is made the folder of its texts."""
    protocols = ["bits_per_byte"]
    if sizes.texts_there:
        protocols += ["probe", "tokens", "finetune", "pairs", "order"]
        linked_mix(mix)
    else:
        mix.mkdir()
        lines = np.random.default_rng(SEED).integers(0, 50, (200, 40))
        (mix / "text.txt").write_text("\n\n".join(" ".join(map(str, line)) for line in lines))
    return {
        "data.corpus": str(mix),
        "data.tasks": [str(TEXTS / task) for task in ENGLISH_TASKS] if sizes.texts_there else [],
        "objectives": "ar, mlm(rate=0.4), ar + vmlm",
        "model.preset": sizes.english_preset,
        "train.batch": sizes.fast_batch,
        "compare.budget": sizes.english_budget,
        "compare.ladder": [0.2, 1.0],
        "compare.lr_factors": [1.0],
        "compare.jobs": 3,
        "evaluate.protocols": protocols,
        "evaluate.positions": sizes.positions,
        "evaluate.pairs": 20,
        "evaluate.samples": 0,
        "forecast.enabled": False,
    }


def pathstar(sizes: Sizes) -> Iterator[Job]:
    """The preset "gpu" of `lookaround synthetic` on its smaller graph, one seed, fewer steps."""
    out, found = Path(sizes.studies) / "pathstar", list[Row]()
    changed = {
        "model.preset": sizes.star_preset,
        "synthetic.tasks": [sizes.star],
        "synthetic.objectives": "ar, reverse, teacherless",
        "synthetic.steps": sizes.star_steps,
        "synthetic.batch": sizes.star_batch,
        "synthetic.queries": sizes.star_queries,
        "synthetic.watched": sizes.star_queries,
        "synthetic.seeds": 1,
        "synthetic.lr_factors": [1.0],
        "synthetic.control": False,
        "synthetic.jobs": 3,
    }

    def grid() -> Row:
        clock = time.perf_counter()
        opened = open_grid(read_settings(**(SYNTHETIC["gpu"] | changed)))
        with executor(sizes) as pool, in_time(sizes):
            results = run_grid(opened, out, command="benchmarks/gpu.sh", executor=pool)
        names = ("objective", "exact_match", "steps", "seconds", "flops", "solved_at")
        for run in results.as_dict()["rows"]:
            found.append({name: run[name] for name in names})
        return {"seconds": time.perf_counter() - clock, "runs": len(found)}

    yield "the grid", grid
    for row in found:
        yield row["objective"], row.copy


def executor(sizes: Sizes) -> AbstractContextManager[Executor | None]:
    """Threads for what is over in seconds, else local processes."""
    return nullcontext() if sizes.texts_there else ThreadPoolExecutor(1)


@contextmanager
def in_time(sizes: Sizes) -> Iterator[None]:
    """Asks a study to stop when its time is over, as Ctrl-C does."""
    timer = threading.Timer(sizes.limit, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


PARTS: dict[str, Callable[[Sizes], Iterator[Job]]] = {
    "agreement": agreement,
    "resume": resume,
    "scores": scores,
    "speed": speed,
    "english": english,
    "pathstar": pathstar,
}


# --------------------------------------------------------------------------------------- everything


def machine() -> Row:
    return {
        "gpu": torch.cuda.get_device_name() if DEVICE.type == "cuda" else None,
        "cuda": torch.version.cuda,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "lookaround": lookaround.__version__,
    }


def failure(error: Exception) -> Row:
    """What went wrong, and the innermost line of ours that it went wrong in."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}lookaround{os.sep}" in frame.filename] or frames
    return {
        "failed": True,
        "error": f"{type(error).__name__}: {str(error)[:500]}",
        "where": f"{ours[-1].filename}:{ours[-1].lineno}",
        "traceback": traceback.format_exception(error),
    }


def shown(row: Row) -> str:
    """The numbers of a row; what is a list or long is in the file alone."""
    if told := row.get("left_out") or row.get("stopped"):
        return str(told)
    if "error" in row:
        return f"{row['error']}  at {row['where']}"
    numbers = {
        name: value
        for name, value in row.items()
        if isinstance(value, int | float) and name != "failed"
    }
    words = [
        f"{name} {value:.3g}" if abs(value) < 1e4 else f"{name} {value:.4g}"
        for name, value in numbers.items()
    ]
    return ", ".join(words) + "  MISSED" * row.get("failed", False)


def run_part(part: str, sizes: Sizes, folder: Path, where: Row) -> list[Row]:
    """The rows of a part, which is run and whose file is written row by row."""
    found: list[Row] = []
    began = time.perf_counter()
    print(f"\n{part}", flush=True)

    def keep(name: str, row: Row) -> None:
        found.append({"name": name, **row})
        print(f"  {name:<44} {shown(row)}", flush=True)
        written = {
            "machine": where,
            "sizes": asdict(sizes),
            "seconds": time.perf_counter() - began,
            "rows": found,
        }
        (folder / f"{part}.json").write_text(json.dumps(written, indent=1) + "\n")

    try:
        for name, job in PARTS[part](sizes):
            if time.perf_counter() - began > sizes.limit:
                keep("the rest", {"left_out": f"{sizes.limit:g} seconds are over"})
                break
            try:
                row = job()
            except Interrupted as error:
                row = {"stopped": str(error)}
            except Exception as error:
                row = failure(error)
            keep(name, row)
    except Exception as error:
        keep("its preparation", failure(error))
    print(f"  {time.perf_counter() - began:.0f} seconds", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}, with commas between them"
    )
    parser.add_argument(
        "--small", action="store_true", help="few steps of small models; compiles nothing"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("lookaround-gpu"), help="folder of the JSON files"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the record of the speed part here"
    )
    parser.add_argument("--limit", type=float, default=180, help="seconds of a part at most")
    parser.add_argument("--threads", type=int, default=4, help="of torch on the CPU")
    options = parser.parse_args()
    parts = [part.strip() for part in options.parts.split(",")]
    if unknown := set(parts) - PARTS.keys():
        parser.error(
            f"--parts: known are {', '.join(PARTS)}, not {', '.join(map(repr, sorted(unknown)))}"
        )
    torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    options.out.mkdir(parents=True, exist_ok=True)
    where = machine()
    print(", ".join(f"{name} {value}" for name, value in where.items()), flush=True)
    with torch.compiler.set_stance("force_eager") if options.small else nullcontext():
        sizes = SMALL if options.small else Sizes()
        sizes = replace(sizes, studies=str(options.out), limit=options.limit)
        found = {part: run_part(part, sizes, options.out, where) for part in parts}
    failed = sum(bool(row.get("failed")) for rows in found.values() for row in rows)
    if options.json and "speed" in found:
        rows = [row for row in found["speed"] if "tokens_per_second" in row]
        write_record(options.json, {"speed": rows}, seeds=1, sizes=asdict(sizes))
    print(f"\n{failed} failed or missed their target" if failed else "\nall within their targets")
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
