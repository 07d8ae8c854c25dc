"""The trees of a model on this device: how often its drafts are right, and what a pass costs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from lookaround.decode.calibrate import (
    BUDGETS,
    WIDTH,
    Cost,
    accuracies,
    choose_trees,
    draft_ranks,
    frequent_tokens,
)
from lookaround.decode.hub import Trees
from lookaround.decode.speculative import Speculator
from lookaround.decode.tree import Tree, expected_tokens, grow_from_ranks
from lookaround.model.backbone import Backbone
from lookaround.studies.speculate.request import Speculation
from lookaround.studies.speculate.samples import CHUNK, Tell
from lookaround.support.errors import UserError
from lookaround.support.records import Amount, Count, Part, Stored


@dataclass(frozen=True)
class Calibration:
    """Trees by number of sequences, what was timed, accuracies (K, ranks), tokens per step."""

    trees: dict[int, Tree]
    largest: Tree
    shortlist: list[int] | None
    costs: list[Cost]
    accuracies: list[list[float]]
    expected: float

    def as_json(self) -> dict[str, Any]:
        """What `of_json` reads."""
        return {
            **dataclasses.asdict(self),
            "trees": {str(batch): tree.paths for batch, tree in self.trees.items()},
            "largest": self.largest.paths,
        }

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> Calibration:
        """A calibration out of what `as_json` has made of it."""
        return cls(
            **{
                **value,
                "trees": {int(n): Tree.from_json(paths) for n, paths in value["trees"].items()},
                "largest": Tree.from_json(value["largest"]),
                "costs": [Cost(**cost) for cost in value["costs"]],
            }
        )


class _StoredCost(Stored):
    batch: Count
    nodes: Count
    tokens: Amount
    seconds: Amount


class StoredCalibration(Stored):
    """What `Calibration.as_json` gives."""

    trees: Trees
    largest: list[Any]
    shortlist: Annotated[list[Count], Field(min_length=1)] | None
    costs: list[_StoredCost]
    accuracies: list[list[Part]]
    expected: Amount

    @model_validator(mode="after")
    def _holds_trees(self) -> Self:
        for paths in (*self.trees.values(), self.largest):
            try:
                tree = Tree.from_json(paths)
            except UserError as error:
                raise ValueError(str(error)) from None
            if any(max(path) >= WIDTH for path in tree.paths):
                raise ValueError(f"a tree has a rank beyond {WIDTH}")
        return self


def frequent_shortlist(
    request: Speculation, samples: list[tuple[np.ndarray, int]]
) -> list[int] | None:
    """The tokens to draft: those that make up most of the samples and the training text."""
    counts = np.zeros(request.run.backbone.output.weight.shape[0], dtype=np.int64)
    for ids in [ids for ids, _ in samples] + request.train:
        counts += np.bincount(ids, minlength=len(counts))
    return frequent_tokens(counts, request.settings.speculate.coverage)


def calibrate(
    request: Speculation, backbone: Backbone, shortlist: list[int] | None, tell: Tell
) -> Calibration:
    """Grows trees from the model's greedy text on held-out prompts and times them here."""
    options, prompts = request.settings.speculate, request.asked(request.calibrate)
    plain = Speculator(backbone, Tree(), shortlist=shortlist, checked=True)
    texts: list[list[int]] = []
    for begin in range(0, len(prompts), CHUNK):
        tell("accuracies on held-out prompts", begin, len(prompts))
        some = prompts[begin : begin + CHUNK]
        made = plain.generate(some, max_new_tokens=options.new_tokens, eos=request.run.eos).tokens
        texts += [[*prompt, *text] for prompt, text in zip(some, made, strict=True)]
    ranks = draft_ranks(plain, texts, [len(prompt) for prompt in prompts])
    tell("accuracies on held-out prompts", len(prompts), len(prompts))
    grown = grow_from_ranks(ranks, BUDGETS)
    trees, costs = choose_trees(
        plain,
        grown,
        prompts,
        request.batches,
        report=lambda done, total: tell("timing trees on this device", done, total),
    )
    expected, _ = expected_tokens(trees[min(trees)], ranks)
    return Calibration(
        trees,
        grown[BUDGETS[-1]][0],
        shortlist,
        costs,
        np.round(accuracies(ranks), 4).tolist(),
        expected,
    )
