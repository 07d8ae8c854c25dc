"""What a tree is built from: how often drafts are right on text of the model's own, and what a pass
costs on this device.

T states, K depths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lookaround.decode.speculative import Speculator
from lookaround.decode.tree import Tree
from lookaround.model.heads import LookAhead, depth_states
from lookaround.objectives.contract import Shown

BUDGETS = (
    1,
    2,
    3,
    4,
    6,
    8,
    12,
    16,
    24,
    32,
    48,
    64,
)  # nodes that are tried; 0 is decoding without drafts
WIDTH = 16  # ranks that are told apart
LARGEST = 512  # nodes of all sequences in one pass that are worth a try


def frequent_tokens(counts: np.ndarray, share: float) -> list[int] | None:
    """The fewest tokens that make up a share of the text counted, (V,) by token, in rising order.

    None where they are more than half of the vocabulary, so that a list would spare little, and
    where nothing was counted.
    """
    order = np.argsort(-counts, kind="stable")
    total = counts.sum()
    few = int(np.searchsorted(counts[order].cumsum(), share * total)) + 1 if total else len(counts)
    return sorted(order[:few].tolist()) if few <= len(counts) // 2 else None


@torch.inference_mode()
def draft_ranks(
    speculator: Speculator,
    texts: Sequence[Sequence[int]],
    prompts: Sequence[int],
    width: int = WIDTH,
) -> list[np.ndarray]:
    """Per text (T, K): at which rank the draft of depth k + 1 holds the token that comes; -1 beyond
    `width` or the text's end.

    texts: prompt and continuation;
    prompts: tokens of each prompt. Row p belongs to the step whose root is the p-th new token.
    """
    backbone, shortlist = speculator.backbone, speculator.shortlist
    head = next(head for head in backbone.heads if isinstance(head, LookAhead))
    tables = []
    for text, prompt in zip(texts, prompts, strict=True):
        ids = torch.tensor([list(text)], device=backbone.device)
        shown = Shown(ids)
        trunk = backbone.trunk(shown)
        count = len(text) - prompt
        table = np.full((count, head.depths), -1)
        for depth, states in depth_states(
            head, getattr(trunk, head.reads), backbone.embedding.weight, shown
        ):
            here = range(prompt - 1, len(text) - 1 - depth)
            if not len(here):
                break
            logits = shortlist.logits(states[0, here.start : here.stop], head.unembedding(depth))
            target = ids[0, here.start + 1 + depth : here.stop + 1 + depth]
            drafted, place = shortlist.places(target)
            rank = (logits > logits.gather(1, place[:, None])).sum(-1)
            table[: len(here), depth - 1] = (
                torch.where(drafted & (rank < width), rank, -1).cpu().numpy()
            )
        tables.append(table)
    return tables


def accuracies(ranks: Sequence[np.ndarray], width: int = WIDTH) -> np.ndarray:
    """(K, width): P(the i-th token of depth k is right), over the positions that have such a
    token.
    """
    depths = ranks[0].shape[1]
    found = np.zeros((depths, width))
    for depth in range(depths):
        column = np.concatenate([table[: len(table) - depth - 1, depth] for table in ranks])
        counts = np.bincount(column[column >= 0], minlength=width)
        found[depth] = counts / max(len(column), 1)
    return found


@dataclass(frozen=True)
class Cost:
    """One size of tree at one number of sequences: tokens per step as calibrated, seconds per step
    as timed.
    """

    batch: int
    nodes: int
    tokens: float
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return self.batch * self.tokens / self.seconds


def time_passes(
    speculator: Speculator,
    trees: Sequence[Tree],
    prompts: Sequence[Sequence[int]],
    *,
    passes: int = 8,
    rounds: int = 4,
) -> list[float]:
    """Seconds of a step, draft and pass, with each of several growing trees.

    The trees take turns, and the least of the rounds counts, since what disturbs a machine only
    adds; a tree is not taken to cost more than a larger one.
    """
    times = np.full((rounds, len(trees)), np.inf)
    for turn in range(rounds):
        for number, tree in enumerate(trees):
            made = speculator.generate(prompts, max_new_tokens=1 + passes, tree=tree).stats
            times[turn, number] = (made.seconds - made.prompt_seconds) / max(made.passes - 1, 1)
    least = times.min(0)
    return np.minimum.accumulate(least[::-1])[::-1].tolist()


def choose_trees(
    speculator: Speculator,
    grown: dict[int, tuple[Tree, float]],
    prompts: Sequence[Sequence[int]],
    batches: Sequence[int],
    *,
    report: Callable[[int, int], None] | None = None,
) -> tuple[dict[int, Tree], list[Cost]]:
    """({sequences: the tree with the most tokens per second}, what was measured); an empty tree
    where drafts do not pay.

    grown: {nodes: (tree, tokens per step)}, as grow_from_ranks gives them.
    """
    # beyond these no draft was ever right
    sizes = [0, *(size for size, (tree, _) in grown.items() if len(tree) == size)]
    trees = [Tree(), *(grown[size][0] for size in sizes[1:])]
    tokens = [1.0, *(grown[size][1] for size in sizes[1:])]
    chosen, costs = {}, []
    for number, batch in enumerate(batches):
        count = max(1, sum(batch * size <= LARGEST for size in sizes))
        timed = time_passes(
            speculator, trees[:count], [prompts[i % len(prompts)] for i in range(batch)]
        )
        found = [Cost(batch, *cost) for cost in zip(sizes, tokens, timed, strict=False)]
        chosen[batch] = trees[max(range(count), key=lambda i: found[i].tokens_per_second)]
        costs += found
        if report is not None:
            report(number + 1, len(batches))
    return chosen, costs
