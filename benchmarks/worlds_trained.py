"""Trained networks on the enumerable worlds: is the sign of the difference in error the exact one?

    python -m benchmarks.worlds_trained --jobs 2 --json results/data/worlds-trained.json

20 minutes on two cores.

A transformer (preset "nano") whose states pass through a bottleneck of 2, 4 or 8 features before
an unembedding with bias is trained by an objective on sequences drawn from a world. A least-squares
probe of those features and a constant, over every context that the objective shows at its exact
probability, then answers the context's likeliest class, as the theory's probe of singular vectors
does (benchmarks/worlds.py); rank k of the theory holds the constant and k - 1 further vectors. A
context that several targets belong to counts once for each, since states know their target.
`excess` is the cross-entropy above the least possible, in nats, exact.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from scipy.special import rel_entr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.held_out import over_seeds
from benchmarks.records import write_record
from benchmarks.worlds import TIE, figures_of
from benchmarks.worlds_shown import worlds
from lookaround.model.backbone import Backbone, build
from lookaround.objectives import Objective, Vocabulary, parse
from lookaround.objectives.contract import Attention, Batch, Shown
from lookaround.theory.law import patterns
from lookaround.theory.worlds import World

# no random tokens: a context of the theory is what is visible
SPECS = {"ar": "ar", "mlm(rate=0.25)": "mlm(rate=0.25, replace=(1, 0, 0))"}
WIDTHS = (2, 4, 8)
SEEDS = (0, 1, 2)
STEPS, ROWS, RATE, WARMUP = 1000, 32, 2e-3, 50


class Network(nn.Module):
    """A transformer, a bottleneck and an unembedding."""

    def __init__(self, world: World, width: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        self.backbone: Backbone = build(
            preset="nano",
            vocabulary=world.vocabulary + 2,
            context=world.length + 1,
            special=ids,
            heads=(),
            seed=seed,
        )
        self.bottleneck = nn.Linear(self.backbone.width, width, bias=False)
        self.unembedding = nn.Linear(width, world.vocabulary)

    def features(self, shown: Shown, state: Tensor) -> Tensor:
        """(N, width) of flat state indices (N,)."""
        return self.bottleneck(self.backbone.states(shown).flatten(0, 1)[state])


def trained(world: World, objective: Objective, width: int, seed: int) -> Network:
    """A network trained on sequences drawn from the world."""
    network = Network(world, width, seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARMUP, 2 * (1 - step / STEPS))
    )
    generator = np.random.default_rng(seed)
    share = world.probability.sum(axis=1)
    bos, mask = world.vocabulary, world.vocabulary + 1
    vocabulary = Vocabulary(world.vocabulary + 2, mask, (bos, mask))
    for step in range(STEPS):
        drawn = world.sequences[generator.choice(len(share), ROWS, p=share)]
        tokens = torch.from_numpy(np.insert(drawn, 0, bos, axis=1))
        rows = torch.arange(step * ROWS, (step + 1) * ROWS)
        (view,) = objective.view(Batch(tokens, rows, vocabulary, None, tokens != bos), seed, 0)
        features = network.features(view.shown, view.pairs.state)
        loss = cross_entropy(network.unembedding(features), view.pairs.target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return network.eval()


@dataclass(frozen=True)
class Contexts:
    """Every (context, target position) that an objective makes of a world, R of them.

    shown: what a network is shown, (R, T) ids.
    state: flat index of the state that predicts, (R,).
    mass: its probability, (R,).
    target: P(token | context), (R, V).
    label: the context's likeliest class, (R,).
    """

    shown: Shown
    state: Tensor
    mass: np.ndarray
    target: np.ndarray
    label: np.ndarray


def contexts_of(world: World, objective: Objective) -> Contexts:
    """The contexts of an objective of one mode."""
    (mode,) = objective.modes()
    bos, mask = world.vocabulary, world.vocabulary + 1
    rows, states, masses, targets, labels = [], [], [], [], []
    for (target, visible), share in patterns(objective, world.length + 1).items():
        places = [place - 1 for place in visible if place]
        seen, which = np.unique(world.sequences[:, places], axis=0, return_inverse=True)
        for number, content in enumerate(seen):
            same = which.reshape(-1) == number
            by_class = world.probability[same].sum(axis=0)
            row = np.full(world.length + 1, mask)
            row[0] = bos
            row[np.array(places, int) + 1] = content
            by_token = np.bincount(
                world.sequences[same, target - 1],
                world.probability[same].sum(axis=1),
                world.vocabulary,
            )
            rows.append(row)
            states.append(target - mode.shift)
            masses.append(share * by_class.sum())
            targets.append(by_token / by_token.sum())
            labels.append((by_class / by_class.sum()).round(12).argmax())
    width = world.length + 1
    shown = Shown(torch.from_numpy(np.array(rows)), Attention(mode.attention))  # type: ignore[arg-type]
    state = torch.arange(len(rows)) * width + torch.tensor(states)
    mass = np.array(masses)
    return Contexts(shown, state, mass / mass.sum(), np.array(targets), np.array(labels))


def error_of(features: np.ndarray, mass: np.ndarray, label: np.ndarray) -> float:
    """The mass-weighted error of a least-squares probe of features (R, r) and a constant."""
    inputs = np.column_stack([np.ones(len(features)), features])
    root, wanted = np.sqrt(mass)[:, None], np.eye(int(label.max()) + 1)[label]
    solution, *_ = np.linalg.lstsq(root * inputs, root * wanted, rcond=None)
    return float(mass[(inputs @ solution).round(9).argmax(axis=1) != label].sum())


def measured(case: tuple[int, str, int, int]) -> dict[str, Any]:
    """One network: its probe's error and its excess loss."""
    torch.set_num_threads(1)
    number, name, width, seed = case
    world, objective = worlds()[number], parse(SPECS[name])
    network, contexts = trained(world, objective, width, seed), contexts_of(world, objective)
    with torch.no_grad():
        features = network.features(contexts.shown, contexts.state)
        logs = network.unembedding(features).double().log_softmax(-1).numpy()
    excess = rel_entr(contexts.target, np.exp(logs)).sum(axis=1)
    return {
        "world": world.name,
        "objective": name,
        "width": width,
        "seed": seed,
        "error": error_of(features.double().numpy(), contexts.mass, contexts.label),
        "excess": float(contexts.mass @ excess),
    }


def compared(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row for each world and width: errors over seeds, their paired difference, and the exact
    ones at the rank of as many features and a constant.
    """
    for world, width in itertools.product(worlds(), WIDTHS):
        of = {
            name: {
                row["seed"]: row
                for row in rows
                if (row["world"], row["width"], row["objective"]) == (world.name, width, name)
            }
            for name in SPECS
        }
        ar, mlm = of.values()
        exact = figures_of(world, width + 1)
        yield {
            "world": world.name,
            "width": width,
            **{
                f"{key}_{short}": fmean(row[key] for row in found.values())
                for key in ("error", "excess")
                for short, found in (("ar", ar), ("mlm", mlm))
            },
            "difference": over_seeds([ar[s]["error"] - mlm[s]["error"] for s in SEEDS]),
            "exact_ar": exact["ar"].probe.error,
            "exact_mlm": exact["mlm(rate=0.25)"].probe.error,
            "exact_difference": TIE
            if any(exact[spec].tied(width + 1) for spec in ("ar", "mlm(rate=0.25)"))
            else exact["ar"].probe.error - exact["mlm(rate=0.25)"].probe.error,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the record here")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args()
    cases = list(itertools.product(range(len(worlds())), SPECS, WIDTHS, SEEDS))
    rows = []
    with get_context("spawn").Pool(given.jobs) as pool:
        for row in pool.imap(measured, cases):
            rows.append(row)
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    table = list(compared(rows))
    for row in table:
        print(row)
    if given.json:
        write_record(given.json, {"trained": table, "runs": rows}, seeds=len(SEEDS))


if __name__ == "__main__":
    main()
