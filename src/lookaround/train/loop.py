"""The one training loop: views of a batch, weighted sums of cross-entropy, one optimiser step.

A component's loss is sum(weight * CE) / normaliser over all processes and micro-batches; components
are combined by their coefficients after that. Accumulation, packing and world size change nothing.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from lookaround.data.rows import RowSource
from lookaround.data.text import TextTokenizer
from lookaround.model.backbone import Backbone
from lookaround.model.export import export, names_mask, require_form, write_pooling
from lookaround.model.sizes import training_bytes
from lookaround.objectives.contract import View
from lookaround.objectives.objective import Objective
from lookaround.settings import TrainSettings
from lookaround.support.errors import Diverged, Interrupted, UserError
from lookaround.support.machine import require_memory
from lookaround.support.records import Amount, Count, Stored, checked, parsed
from lookaround.support.storage import disk_errors, write_text
from lookaround.train import checkpoint
from lookaround.train.ahead import Ahead, Drawn
from lookaround.train.budget import Plan, token_count, view_flops
from lookaround.train.loss import ComponentSums, ObjectiveLoss
from lookaround.train.parallel import World, accumulating, parallelize, placed
from lookaround.train.schedule import WarmupStableDecay
from lookaround.train.track import Tracker

UNSEEN = 256  # steps whose loss nobody has looked at, at most


@dataclass(frozen=True)
class Progress:
    """A step for a progress bar: steps done, steps in all, tokens per second, last logged loss."""

    step: int
    total: int
    tokens_per_second: float
    loss: float


@dataclass
class Counters:
    """What a run has spent.

    seconds: of training alone, without evaluation and checkpoints.
    """

    step: int = 0
    tokens: int = 0
    targets: int = 0
    flops: float = 0.0
    seconds: float = 0.0


@dataclass
class StopSignal:
    """Set by Ctrl-C or SIGTERM; the loop saves and stops after the step in hand.

    at_once: there is nothing to save, and the first signal raises KeyboardInterrupt.
    """

    set: bool = False
    at_once: bool = False


@contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """Catches SIGINT and SIGTERM during the block, in the main thread only.

    A process of a pool that has got SIGTERM ends after the block. The pool sends it where another
    process has died, and waits for that.
    """
    stop, told = StopSignal(), set[int]()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: Any) -> None:
        told.add(number)
        if stop.set or stop.at_once:
            raise KeyboardInterrupt  # the second request does not wait
        stop.set = True
        if multiprocessing.parent_process() is None and not int(os.environ.get("RANK", 0)):
            # print() may be in the middle of a line here
            os.write(2, b"\nsaving; press Ctrl-C again to stop at once\n")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if signal.SIGTERM in told and multiprocessing.parent_process() is not None:
            signal.raise_signal(signal.SIGTERM)


def default_learning_rate(width: int) -> float:
    """The base rate of AdamW for a hidden width: 0.001 at 128, falling with the square root.

    Ours, measured at `nano`.
    """
    return 0.001 * (128 / width) ** 0.5


def autocast_dtype(precision: str, width: int, device: torch.device) -> torch.dtype | None:
    """The autocast dtype of a precision setting; "auto": bf16 for wide models on fast bf16."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    return torch.bfloat16 if width >= 256 and torch.cpu._is_avx512_bf16_supported() else None


class Trainer:
    """A backbone, its optimiser and its position in the data; `run` trains up to a given step.

    rows: of the training split.
    seed: keys both the order of the data and the objective's draws.
    """

    def __init__(
        self,
        backbone: Backbone,
        objective: Objective,
        rows: RowSource,
        *,
        settings: TrainSettings,
        seed: int,
        learning_rate: float,
        precision: str = "auto",
        compile: bool | Literal["step"] = False,
        world: World | None = None,
    ) -> None:
        self.world = world or World()
        self.objective, self.rows, self.settings, self.seed = objective, rows, settings, seed
        self.learning_rate = learning_rate
        self.counters = Counters()
        self.window = ComponentSums(())  # sums of this process since the last logged line
        self.precision, self.compile = precision, compile
        if settings.batch % self.world.size:
            raise UserError(
                f"train.batch: {settings.batch} rows do not divide among {self.world.size} "
                "processes"
            )
        backbone.to(self.world.device, torch.float64 if precision == "fp64" else torch.float32)
        self.backbone = backbone
        self.sharded = settings.parallel == "fsdp" and self.world.size > 1
        # what is exported: the model, or the empty shape of one whose weights are in shards
        self.whole = _empty(backbone) if self.sharded else backbone
        self.saving: checkpoint.Saving | None = None
        self.dtype = autocast_dtype(precision, backbone.width, self.world.device)
        had = 4 * backbone.parameter_count
        require_memory(
            self.memory_bytes - had,
            self.world.device,
            "training",
            "set the batch, train.micro_batch or the context lower, or take a smaller model",
        )
        layers = list(getattr(backbone.decoder, "layers", [backbone.decoder]))
        loss = ObjectiveLoss(backbone, alike=self.sharded)
        self.scored = loss.scored
        if compile == "step":
            if self.sharded:
                raise UserError(
                    "model.compile: step is for whole copies of a model; with train.parallel=fsdp "
                    "give true"
                )
            loss.compile()
        elif compile:
            for layer in layers:
                layer.compile()
        self.loss = parallelize(
            loss,
            layers,
            self.world,
            settings.parallel,
            shards=settings.shards,
            dtype=self.dtype,
        )
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(backbone, settings),
            lr=learning_rate,
            betas=(settings.beta1, settings.beta2),
            fused=True,
        )

    @property
    def memory_bytes(self) -> float:
        """What training takes in this process, an estimate."""
        rows = self.settings.batch // self.world.size
        trained = [p.numel() for p in self.backbone.parameters() if p.requires_grad]
        return training_bytes(
            self.backbone.sizes,
            self.backbone.parameter_count,
            min(rows, self.settings.micro_batch or rows) * self.rows.width,
            trained=sum(trained),
            trunk=any(p.requires_grad for p in self.backbone.lm.parameters()),
            width=4 if self.dtype is None else 2,
            shards=(self.settings.shards or self.world.size) if self.sharded else 1,
            gpu=self.world.device.type == "cuda",
        )

    # -- one step

    def views(self, step: int, objective: Objective) -> tuple[list[tuple[View, ...]], int]:
        """The views of this process's micro-batches of a step, and its tokens without padding."""
        batch = self.settings.batch
        index = np.arange(step * batch, (step + 1) * batch)[self.world.rank :: self.world.size]
        size = self.settings.micro_batch or len(index)
        micro, tokens = [], 0
        for begin in range(0, len(index), size):
            drawn = self.rows.at(self.seed, index[begin : begin + size])
            # epoch 0: rows are numbered through all epochs
            micro.append(objective.view(drawn, self.seed, 0))
            tokens += token_count(drawn.documents, *drawn.tokens.shape)
        return micro, tokens

    def draw(self, step: int, plan: Plan) -> Drawn:
        """What a step takes of this process's rows: a function of the step and no other state."""
        objective = self.objective.at(plan.progress(step))
        components = objective.components()
        micro, tokens = self.views(step, objective)
        normalisers = torch.zeros(len(components), dtype=torch.float64)
        spent = torch.zeros(3, dtype=torch.float64)
        spent[0] = tokens
        for views in micro:
            for number, (component, view) in enumerate(zip(components, views, strict=True)):
                normalisers[number] += view.normaliser
                spent[1] += len(view.pairs)
                spent[2] += view_flops(self.backbone, component, view)
        scored = [tuple(map(self.scored, components, views)) for views in micro]
        if self.world.device.type == "cuda":
            scored = [tuple(view.pinned() for view in views) for views in scored]
        return Drawn(components, scored, normalisers, spent)

    def step(self, plan: Plan, factor: float, drawn: Drawn | None = None) -> ComponentSums:
        """One optimiser step at `factor` times the learning rate; returns the loss of its rows.

        drawn: what `draw` gives of this step; None: it is drawn now.
        """
        drawn = drawn or self.draw(self.counters.step, plan)
        whole = self.world.sum(torch.cat([drawn.normalisers, drawn.spent]))
        sums = ComponentSums(drawn.components)
        sums.normalisers = whole[:-3]
        scales = sums.scales(self.world.size)
        for number, views in enumerate(drawn.micro, start=1):
            views = tuple(view.to(self.world.device) for view in views)
            autocast = torch.autocast(
                self.world.device.type, dtype=self.dtype, enabled=self.dtype is not None
            )
            with accumulating(self.loss, number < len(drawn.micro)), autocast:
                loss, totals = self.loss(drawn.components, views, scales)
                loss.backward()
            sums.add(totals)
        torch.nn.utils.clip_grad_norm_(self.backbone.parameters(), self.settings.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * factor * group["rate"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        tokens, targets, flops = whole[-3:].tolist()
        self.counters.step += 1
        self.counters.tokens += int(tokens)
        self.counters.targets += int(targets)
        self.counters.flops += flops
        return sums

    # -- many steps

    def run(
        self,
        until: int,
        plan: Plan,
        schedule: WarmupStableDecay,
        *,
        folder: Path | None = None,
        fill: Callable[[Path], None] | None = None,
        keep: frozenset[int] = frozenset(),
        stop: StopSignal | None = None,
        report: Callable[[Progress], None] | None = None,
        tracker: Tracker | None = None,
    ) -> None:
        """Trains until step `until`, with metrics and checkpoints in `folder` where one is given.

        fill(path) writes a checkpoint's own files (model, tokenizer). tracker: hears the lines of
        metrics.jsonl, in the main process. Raises Interrupted after saving when `stop` is set.
        """
        self.backbone.train()
        metrics = (
            MetricsFile(folder / "metrics.jsonl", self.counters.step)
            if folder and self.world.main
            else None
        )
        loss, rate = metrics.loss if metrics else float("nan"), 0.0
        began, first = time.perf_counter(), self.counters.tokens
        unseen: list[tuple[int, ComponentSums]] = []
        with Ahead(partial(self.draw, plan=plan), self.counters.step, until) as ahead:
            while self.counters.step < until:
                clock = time.perf_counter()
                factor = schedule.factor(self.counters.step)
                sums = self.step(plan, factor, ahead.take(self.counters.step))
                step = self.counters.step
                self.window = self.window.merge(sums)
                unseen.append((step, sums))
                stopping = bool(self.world.max(stop is not None and stop.set))
                logging = step % self.settings.log_every == 0 or step == until
                due = step % self.settings.checkpoint_every == 0 or step in keep or stopping
                if logging or due or len(unseen) == UNSEEN:  # here alone a device is waited for
                    self._require_finite(unseen)
                    unseen = []
                self.counters.seconds += time.perf_counter() - clock
                if logging:
                    loss = ComponentSums.of(self._window()).mean()
                    self.window = ComponentSums(())
                    rate = (self.counters.tokens - first) / max(time.perf_counter() - began, 1e-9)
                    entry = {
                        **vars(self.counters),
                        "loss": loss,
                        "learning_rate": self.learning_rate * factor,
                    }
                    if metrics:
                        with disk_errors(metrics.path):
                            metrics.write(entry)
                    if tracker and self.world.main:
                        tracker.write(entry)
                if folder and fill and due and (step < until or step in keep):
                    self.save(folder, fill, keep)
                if report:
                    report(Progress(step, until, rate, loss))
                if stopping and step < until:
                    self.settle()
                    raise Interrupted(
                        f"stopped at step {step} of {until}; the same command goes on from there"
                    )
        self.settle()

    def _require_finite(self, steps: list[tuple[int, ComponentSums]]) -> None:
        """Raises Diverged naming the first of some steps whose loss is not finite, if any is."""
        if not self.world.max(not self.window.totals.isfinite().all()):
            return
        bad = [number for number, sums in steps if not sums.totals.isfinite().all()]
        number = -int(self.world.max(-min(bad, default=steps[-1][0])))
        raise Diverged(
            f"step {number}: the loss is not finite at learning rate {self.learning_rate:g}; use a "
            "smaller one",
            number,
        )

    # -- state

    def save(
        self, folder: Path, fill: Callable[[Path], None], keep: frozenset[int] = frozenset()
    ) -> None:
        """Saves a checkpoint of this step: by the main process, or each its shards.

        Shards are written while training goes on, until the next `save` or `settle`.
        """
        self.settle()
        state, counters = self.state(), vars(self.counters)
        if self.sharded:
            self.saving = checkpoint.Saving(folder, counters, state, keep, self.world)
            return
        if self.world.main:
            checkpoint.save_checkpoint(folder, counters, state, fill, keep)
        self.world.barrier()

    def settle(self) -> None:
        """Waits for a checkpoint that is being written."""
        if self.saving is not None:
            saving, self.saving = self.saving, None
            saving.finish()

    def gather(self) -> None:
        """Gives `whole` the weights, in the main process; all processes ask for it at once."""
        if not self.sharded:
            return
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(self.backbone, options=options)
        if self.world.main:
            self.whole.load_state_dict(weights, assign=True)
            self.whole.lm.tie_weights()

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name."""
        return {name: p for name, p in self.backbone.named_parameters() if p.requires_grad}

    def state(self) -> dict[str, Tensor]:
        """Everything that changes by training, counters aside, as named tensors.

        All processes ask for it at once.
        """
        trained = self.trained
        model = {f"model.{name}": p for name, p in trained.items()}
        optimizer = checkpoint.tensors_of(self.optimizer, trained)
        return (
            model
            | {f"optimizer.{name}": tensor for name, tensor in optimizer.items()}
            | {f"window.{name}": tensor for name, tensor in self._window().items()}
        )

    def _window(self) -> dict[str, Tensor]:
        """The sums of all processes since the last logged line."""
        tensors = self.window.tensors()
        return tensors | {"totals": self.world.sum(tensors["totals"])}

    def restore_from(self, path: Path) -> None:
        """Restores a checkpoint; raises UserError naming it where it is damaged or does not fit."""
        like: dict[str, Tensor] = {}
        for name, p in self.trained.items():
            like |= {f"model.{name}": p.detach()}
            like |= {f"optimizer.{name}.{key}": p.detach() for key in ("exp_avg", "exp_avg_sq")}
        counters, tensors = checkpoint.load_training_state(path, like)
        self.restore(counters, tensors, checkpoint.state_place(path))

    def restore_latest(self, folder: Path, at_most: int | None = None) -> bool:
        """Restores a folder's newest checkpoint, up to a step; returns whether there was one."""
        path = checkpoint.latest_checkpoint(folder, at_most)
        if path is not None:
            self.restore_from(path)
        return path is not None

    def restore(
        self, counters: dict[str, Any], tensors: dict[str, Tensor], origin: Path | str = "state"
    ) -> None:
        """Restores a saved state; raises UserError, with nothing changed, where it does not fit."""
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        own = self.trained
        model, moments = parts.pop("model"), parts.pop("optimizer")
        checkpoint.require_tensors(model, own, f"{origin}: model")
        state = checkpoint.optimizer_state(
            self.optimizer, own, moments, counters["step"], f"{origin}: optimizer"
        )
        window = parts.pop("window", ComponentSums(()).tensors())  # older ones have none
        sums = torch.zeros(len(window.get("totals", ())), dtype=torch.float64)
        own_window = dict.fromkeys(ComponentSums(()).tensors(), sums)
        checkpoint.require_tensors(window, own_window, f"{origin}: window")
        if parts:
            raise UserError(
                f"{origin}: truncated or foreign checkpoint: holds '{min(parts)}', no part of one"
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(placed(model[name], parameter))
        self.optimizer.load_state_dict(state)
        self.counters = Counters(**{name: counters[name] for name in vars(Counters())})
        if not self.world.main:  # the sums so far count once
            window = window | {"totals": torch.zeros_like(window["totals"])}
        self.window = ComponentSums.of(window)

    def snapshot(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The state held in memory, to branch off and come back to."""
        return dict(vars(self.counters)), {
            name: tensor.detach().clone() for name, tensor in self.state().items()
        }


def _empty(backbone: Backbone) -> Backbone:
    """A copy of a model without weights, which take no memory."""
    shapes = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in backbone.parameters()}
    return copy.deepcopy(backbone, shapes)


def _parameter_groups(backbone: Backbone, settings: TrainSettings) -> list[dict[str, Any]]:
    """Parameter groups by weight decay (matrices only) and by the heads' own learning rate."""
    heads = {id(p) for p in backbone.heads.parameters()} if settings.head_rate != 1 else set()
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in heads, parameter.ndim < 2), []).append(parameter)
    return [
        {
            "params": groups[key],
            "weight_decay": 0.0 if key[1] else settings.weight_decay,
            "rate": settings.head_rate if key[0] else 1.0,
        }
        for key in sorted(groups)
    ]


@dataclass
class MetricsFile:
    """metrics.jsonl: one line per logged step; lines after the step of a resume are dropped.

    loss: of the last line that is kept; NaN where there is none.
    """

    path: Path
    step: int
    loss: float = float("nan")

    def __post_init__(self) -> None:
        if not self.path.is_file():
            return
        lines = self.path.read_bytes().splitlines(keepends=True)
        entries = [(line, _logged(line)) for line in lines]
        kept = [(line, entry) for line, entry in entries if entry and entry.step <= self.step]
        whole = [line.rstrip(b"\r\n") + b"\n" for line, _ in kept]
        if whole != lines:
            write_text(self.path, b"".join(whole).decode())
        if kept:
            self.loss = kept[-1][1].loss

    def write(self, entry: dict[str, Any]) -> None:
        """Adds a line, synced, so that no checkpoint is later on the disk than its lines."""
        with open(self.path, "a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


class Logged(Stored):
    """A line of metrics.jsonl."""

    step: Count
    tokens: Count
    flops: Amount
    seconds: Amount
    loss: Annotated[float, Field(allow_inf_nan=True)]


def _logged(line: bytes) -> Logged | None:
    """A line of metrics.jsonl; None for one that a kill or a disk has damaged."""
    try:
        return checked(Logged, parsed(line.decode()), "line")
    except (UserError, ValueError):
        return None


def read_metrics(path: Path) -> list[Logged]:
    """The whole lines of a metrics.jsonl, none where there is no file."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    return [entry for entry in map(_logged, lines) if entry is not None]


def exporter(
    backbone: Backbone,
    objective: Objective,
    store: Any,
    form: str | None = None,
    *,
    length: int | None = None,
) -> Callable[[Path], None]:
    """What writes a run's own files into a folder: model, extra heads, tokenizer.

    length: the training length, which the tokenizer then cuts at.

    Raises UserError, at once, for a form that would lie.
    """
    modes = objective.modes()
    require_form(form, modes, backbone.lm.config)
    named = names_mask(backbone.lm.config, modes, form)

    def fill(folder: Path) -> None:
        export(
            backbone,
            folder,
            modes,
            mask=store.codec.vocabulary.mask,
            form=form,
            objective=objective.spec,
            final_modes=objective.final_modes(),
            context=length,
        )
        masks = shows_masks(objective)
        store.codec.save(folder, mask=masks, named=named, length=length)
        if isinstance(store.codec, TextTokenizer):
            write_pooling(folder, store.codec, backbone.width)

    return fill


def shows_masks(objective: Objective) -> bool:
    """Whether an objective shows a model of text its mask token, and so needs one."""
    return any(mode.attention == "bidirectional" for mode in objective.modes())
