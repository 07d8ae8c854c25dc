"""Training throughput and peak memory of our loop against `transformers.Trainer`.

    pip install -e ".[bench]"
    python -m benchmarks.throughput --json results/data/throughput.json
    python -m benchmarks.throughput --compiled --steps 4

The first times `ar` and `mlm` in about 5 minutes on two CPU cores; --compiled does so again with
torch.compile on both sides, in about 6 minutes more.

Both sides train the same architecture (the preset "tiny" with 32,000 tokens: width 256, 4 layers,
tied embeddings) from the same weights on the same rows, 16 x 128 tokens a step, with bf16 autocast,
fused AdamW, clipping at norm 1, no logging and no checkpoints. The peer is `LlamaForCausalLM` for
`ar`, and `EuroBertForMaskedLM` with `DataCollatorForLanguageModeling` at 15 % for `mlm`; its rows
are tensors already and come with their special-token mask and without an attention mask, which
spares it work. Before anything is timed, the losses of a first batch are compared.

Time: every round runs `--steps` steps of ours, then as many of the peer's, in one process; both
stay warm, and each pays for its own data loading and bookkeeping. The ratio is the median over the
rounds. Memory: each side by itself in a fresh process, its peak less that of a process that only
imports (resident memory on a CPU, where the compiler itself counts in compiled rows; allocated
memory on CUDA). Target: at least 1.3 times the peer's tokens per second for `ar` and 2.5 times for
`mlm`, at no more memory, all without `--compiled`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # the peer would spread its batch over all GPUs

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import (
    DataCollatorForLanguageModeling,
    EuroBertConfig,
    EuroBertForMaskedLM,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)
from transformers import Trainer as Peer
from transformers.utils import logging

from benchmarks.records import write_record
from lookaround.data.rows import Rows
from lookaround.data.shards import Split
from lookaround.model.backbone import Backbone, build
from lookaround.objectives import Vocabulary, parse
from lookaround.settings import TrainSettings
from lookaround.settings.sections import MANY
from lookaround.train.budget import Plan
from lookaround.train.loop import Trainer, default_learning_rate
from lookaround.train.parallel import World
from lookaround.train.schedule import WarmupStableDecay

VOCABULARY, BATCH, WIDTH = 32_000, 16, 128
PAD, BOS, EOS, MASK = range(4)
WARMUP_STEPS = 3
MEMORY_STEPS = 4
SEED = 0
SETTINGS = TrainSettings(batch=BATCH, log_every=MANY)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


# ------------------------------------------------------------------------------ what both are given


def token_rows(count: int) -> np.ndarray:
    """Rows of token ids (count, WIDTH) int64: BOS, then ids of text drawn by Zipf's law."""
    ids = np.arange(MASK + 1, VOCABULARY)
    mass = 1 / np.arange(1, len(ids) + 1)
    rows = np.random.default_rng(SEED).choice(ids, size=(count, WIDTH), p=mass / mass.sum())
    rows[:, 0] = BOS
    return rows


def fresh_backbone() -> Backbone:
    special = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
    return build(preset="tiny", vocabulary=VOCABULARY, context=WIDTH, special=special, seed=SEED)


def our_trainer(spec: str, tokens: np.ndarray, *, compiled: bool) -> Trainer:
    """Our loop over `tokens` (rows, WIDTH)."""
    starts = np.arange(len(tokens)) * WIDTH
    split = Split((tokens.reshape(-1),), np.zeros_like(starts), starts, np.full_like(starts, WIDTH))
    tokenizer = SimpleNamespace(
        bos=BOS,
        pad=PAD,
        vocabulary=Vocabulary(VOCABULARY, MASK, (PAD, BOS, EOS, MASK)),
    )
    backbone = fresh_backbone()
    return Trainer(
        backbone,
        parse(spec),
        Rows(split, WIDTH, tokenizer),
        settings=SETTINGS,
        seed=SEED,
        learning_rate=default_learning_rate(backbone.width),
        precision="bf16",
        compile=compiled,
        world=World(device=DEVICE),
    )


def run_ours(trainer: Trainer, steps: int) -> None:
    """`steps` more steps of our loop."""
    until = trainer.counters.step + steps
    trainer.run(until, Plan((1.0,), (until,)), WarmupStableDecay(0, until, until))


def peer_model(spec: str) -> Any:
    """The peer's model with the weights of `fresh_backbone`."""
    ours = fresh_backbone().lm
    if spec == "ar":
        model = LlamaForCausalLM(ours.config)
    else:
        known = EuroBertConfig().to_dict().keys() - {"model_type", "architectures"}
        shared = {key: value for key, value in ours.config.to_dict().items() if key in known}
        model = EuroBertForMaskedLM(EuroBertConfig(**shared, mask_token_id=MASK))
    model.load_state_dict(ours.state_dict())
    return model.to(DEVICE)


def peer_trainer(
    spec: str,
    tokens: np.ndarray,
    folder: str,
    *,
    steps: int,
    compiled: bool,
    callback: TrainerCallback | None = None,
) -> Peer:
    """The peer's loop over `tokens` (rows, WIDTH) for `steps` steps; what it writes goes to
    `folder`.
    """
    model = peer_model(spec)
    rows = [{"input_ids": row} for row in torch.from_numpy(tokens)]
    if spec == "ar":
        rows = [row | {"labels": row["input_ids"]} for row in rows]
        collator: Callable = default_data_collator
    else:
        rows = [row | {"special_tokens_mask": (row["input_ids"] <= MASK).long()} for row in rows]
        collator = DataCollatorForLanguageModeling(peer_tokenizer(), mlm_probability=0.15)
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        seed=SEED,
        learning_rate=default_learning_rate(model.config.hidden_size),
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        weight_decay=SETTINGS.weight_decay,
        adam_beta1=SETTINGS.beta1,
        adam_beta2=SETTINGS.beta2,
        max_grad_norm=SETTINGS.clip,
        bf16=True,
        use_cpu=DEVICE.type == "cpu",
        torch_compile=compiled,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=DEVICE.type == "cuda",
    )
    callbacks = [callback] if callback else None
    peer = Peer(
        model=model, args=arguments, train_dataset=rows, data_collator=collator, callbacks=callbacks
    )
    peer.remove_callback(PrinterCallback)
    return peer


def peer_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that knows VOCABULARY words, for the collator alone."""
    words = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS, "<mask>": MASK}
    words |= {f"w{number}": number for number in range(MASK + 1, VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<pad>")),
        model_input_names=["input_ids"],
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        mask_token="<mask>",
    )


def require_same_loss(spec: str, tokens: np.ndarray) -> None:
    """Both sides give the same loss to one view of a batch with the same weights; else the
    comparison means nothing.
    """
    trainer = our_trainer(spec, tokens, compiled=False)
    ((view,),), _ = trainer.views(0, trainer.objective)
    labels = torch.full(view.shown.input_ids.shape, -100)
    pairs = view.pairs
    labels.view(-1)[pairs.state + pairs.offset] = pairs.target
    model = peer_model(spec)
    view, labels = view.to(DEVICE), labels.to(DEVICE)
    with torch.no_grad(), torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        components = trainer.objective.components()
        ours = float(trainer.loss(components, (view,), (1 / view.normaliser,))[0])
        peer = float(model(input_ids=view.shown.input_ids, labels=labels).loss)
    if abs(ours - peer) > 1e-2:
        raise SystemExit(
            f"{spec}: our first loss is {ours:.4f} and the peer's {peer:.4f}; they should be the "
            "same"
        )


# --------------------------------------------------------------------------------------------- time


def now() -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Alternate(TrainerCallback):
    """Runs rounds inside the peer's own loop: between `steps` of its steps, `ours` runs as many of
    ours.

    seconds_: (ours, the peer's) of every finished round.
    """

    def __init__(self, ours: Callable[[int], None], steps: int) -> None:
        self.ours, self.steps = ours, steps
        self.seconds_: list[tuple[float, float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        done = state.global_step - WARMUP_STEPS
        if done < 0 or done % self.steps:
            return
        if done:
            self.seconds_.append((self.spent, now() - self.clock))
        if state.global_step < state.max_steps:
            began = now()
            self.ours(self.steps)
            self.clock = now()
            self.spent = self.clock - began


def measure_speed(spec: str, *, rounds: int, steps: int, compiled: bool) -> dict[str, Any]:
    """Median tokens per second of both sides, and the ratio of every round."""
    total = WARMUP_STEPS + rounds * steps
    tokens = token_rows(BATCH * (total + 1))  # the peer never comes to a second epoch
    require_same_loss(spec, tokens[:BATCH])
    trainer = our_trainer(spec, tokens, compiled=compiled)
    run_ours(trainer, WARMUP_STEPS)
    callback = Alternate(lambda count: run_ours(trainer, count), steps)
    with tempfile.TemporaryDirectory() as folder:
        peer_trainer(
            spec, tokens, folder, steps=total, compiled=compiled, callback=callback
        ).train()
    torch.compiler.reset()
    each = steps * BATCH * WIDTH
    ours, peer = (
        [each / seconds for seconds in side] for side in zip(*callback.seconds_, strict=True)
    )
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    return {"ours": median(ours), "peer": median(peer), "ratio": median(ratios), "ratios": ratios}


# ------------------------------------------------------------------------------------------- memory


def peak_bytes() -> int:
    """The most memory this process has held: allocated on CUDA, else resident."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if (
        status.is_file()
    ):  # unlike getrusage, this does not start at the size of the process that started this one
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def train_alone(side: str, spec: str, *, compiled: bool) -> None:
    """A few steps of one side ("ours", "peer", or "neither" for the imports alone)."""
    tokens = token_rows(BATCH * (MEMORY_STEPS + 1))
    if side == "ours":
        run_ours(our_trainer(spec, tokens, compiled=compiled), MEMORY_STEPS)
    elif side == "peer":
        with tempfile.TemporaryDirectory() as folder:
            peer_trainer(spec, tokens, folder, steps=MEMORY_STEPS, compiled=compiled).train()


def measure_memory(side: str, spec: str, *, compiled: bool, threads: int | None) -> int:
    """Peak bytes of one side in a process of its own."""
    module = [sys.executable, "-m", "benchmarks.throughput"]
    command = [*module, "--alone", side, "--objectives", spec]
    command += ["--compiled"] * compiled + (["--threads", str(threads)] if threads else [])
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} of {spec} failed in its own process:\n{done.stderr}")
    return int(done.stdout.split()[-1])


# --------------------------------------------------------------------------------------- everything


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--objectives", default="ar,mlm", help="of ar and mlm, with commas between them"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="steps of each side in a round")
    parser.add_argument(
        "--compiled", action="store_true", help="also with torch.compile on both sides"
    )
    parser.add_argument("--threads", type=int, help="of torch; none: its own choice")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    parser.add_argument("--alone", choices=["ours", "peer", "neither"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    specs = [spec.strip() for spec in options.objectives.split(",")]
    if unknown := set(specs) - {"ar", "mlm"}:
        parser.error(
            "--objectives: the peer has 'ar' and 'mlm', not "
            f"{', '.join(map(repr, sorted(unknown)))}"
        )
    if options.rounds < 1 or options.steps < 1:
        parser.error("--rounds and --steps start at 1")
    logging.set_verbosity_error()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.alone:
        train_alone(options.alone, specs[0], compiled=options.compiled)
        print(peak_bytes())
        return

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    base = measure_memory("neither", specs[0], compiled=False, threads=options.threads)
    rows = []
    print(
        "objective  compiled  ours tok/s  peer tok/s  ratio (min - max)      memory ratio (ours, "
        "peer MiB)",
        flush=True,
    )
    for compiled in (False, True) if options.compiled else (False,):
        for spec in specs:
            memory = {
                side: measure_memory(side, spec, compiled=compiled, threads=options.threads) - base
                for side in ("ours", "peer")
            }
            speed = measure_speed(
                spec, rounds=options.rounds, steps=options.steps, compiled=compiled
            )
            low, high = min(speed["ratios"]), max(speed["ratios"])
            rows.append(
                {
                    "objective": spec,
                    "compiled": compiled,
                    "ours": speed["ours"],
                    "peer": speed["peer"],
                    "ratio": speed["ratio"],
                    "ratio_min": low,
                    "ratio_max": high,
                    "memory_ratio": memory["ours"] / memory["peer"],
                    "memory_ours": memory["ours"],
                    "memory_peer": memory["peer"],
                }
            )
            mib = ", ".join(f"{memory[side] / 2**20:.0f}" for side in ("ours", "peer"))
            print(
                f"{spec:<9}  {'yes' if compiled else 'no':<8}  {speed['ours']:>10,.0f}  "
                f"{speed['peer']:>10,.0f}  "
                f"{speed['ratio']:.2f} ({low:.2f} - {high:.2f})     "
                f"{rows[-1]['memory_ratio']:.2f} ({mib})",
                flush=True,
            )
    if options.json:
        protocol = {
            "rounds": options.rounds,
            "steps": options.steps,
            "batch": BATCH,
            "width": WIDTH,
            "vocabulary": VOCABULARY,
            "threads": torch.get_num_threads(),
            "accelerate": version("accelerate"),
            "load": load,
        }
        write_record(options.json, {"objectives": rows}, seeds=1, **protocol)


if __name__ == "__main__":
    main()
