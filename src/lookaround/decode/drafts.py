"""Drafts: what the look-ahead heads of a model propose for the nodes of a tree, kept in step with
the text.

B sequences, Q tokens of a pass, D hidden width, V vocabulary, K depths, N nodes of a tree. A
*place* is a node of the tree or its root (decode/tree.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from lookaround.decode.cache import CachedModel
from lookaround.decode.tree import Tree
from lookaround.model.backbone import Backbone
from lookaround.model.heads import BlockHeads, LookAhead, OffsetHead


@dataclass(frozen=True)
class Proposal:
    """Draft tokens (B, N) of a tree's nodes; where they were sampled, the distributions they were
    drawn from without replacement.

    distribution(row, place): the probabilities (V,) that the children of a place were drawn from,
        in the order of their ranks.
    """

    tokens: Tensor
    distribution: Callable[[int, int], Tensor] | None = None


class Sampler:
    """Draws draft tokens from softmax(logits / temperature), without replacement: ranks are the
    order of the draws.

    The largest of probabilities / Exponential(1) noise: the Gumbel-top-k trick (Kool et al. 2019)
    without its logarithms.
    """

    def __init__(self, temperature: float, generator: torch.Generator) -> None:
        self.temperature, self.generator = temperature, generator

    def __call__(self, logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """(tokens (.., count), probabilities (.., V)) of logits (.., V)."""
        probabilities = (logits.float() / self.temperature).softmax(-1)
        noise = torch.empty(probabilities.shape, device=self.generator.device)
        noise.exponential_(generator=self.generator)
        return (probabilities / noise.to(logits.device)).topk(count, -1).indices, probabilities


class Shortlist:
    """The tokens that drafts are taken from: all, or the few that make up nearly all text.

    A short list spares most of the unembedding, which is a large part of a draft's time (Zhao et
    al. 2025, FR-Spec). Whatever is not on it is never drafted, and so never accepted as a draft;
    the output stays what it is.
    ids: in rising order.
    """

    def __init__(self, backbone: Backbone, ids: Sequence[int] | None = None) -> None:
        self.backbone = backbone
        self.size = backbone.output.weight.shape[0]
        self.ids = None if ids is None else torch.tensor(list(ids), device=backbone.device)
        self.rows: dict[tuple, Tensor] = {}  # of unembeddings, in the precision they were asked for

    def _rows(self, table: Tensor) -> Tensor:
        key = (id(table), table.dtype, table.device)
        if key not in self.rows:
            assert self.ids is not None
            self.rows[key] = table[self.ids.to(table.device)].contiguous()
        return self.rows[key]

    def logits(self, states: Tensor, own: Tensor | None) -> Tensor:
        """Logits (.., F) of the list's tokens from head states (.., D), by a head's own unembedding
        or the model's.
        """
        output = self.backbone.whole_output.of(own)
        if self.ids is None:
            return (self.backbone.output if own is None else output).logits(states)
        bias = None if output.bias is None else self._rows(output.bias)
        return output._replace(weight=self._rows(output.weight), bias=bias).logits(states)

    def choose(
        self, logits: Tensor, count: int, sampler: Sampler | None
    ) -> tuple[Tensor, Tensor | None]:
        """(token ids (.., count), the probabilities (.., F) they were drawn from, if they were)."""
        count = min(count, logits.shape[-1])
        index, probabilities = (
            (logits.topk(count, -1).indices, None) if sampler is None else sampler(logits, count)
        )
        return index if self.ids is None else self.ids[index], probabilities

    def places(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(whether each token (N,) is on the list, its place there or 0)."""
        if self.ids is None:
            return torch.ones_like(tokens, dtype=torch.bool), tokens
        place = torch.searchsorted(self.ids, tokens).clamp(max=len(self.ids) - 1)
        found = self.ids[place] == tokens
        return found, torch.where(found, place, 0)

    def whole(self, probabilities: Tensor) -> Tensor:
        """Probabilities over the list (F,) as ones over the vocabulary (V,)."""
        if self.ids is None:
            return probabilities
        return probabilities.new_zeros(self.size).scatter_(0, self.ids, probabilities)


class Draft:
    """A draft of a batch of sequences.

    `advance` tells it what was kept; `propose` asks for the nodes of a tree.
    """

    def __init__(self, backbone: Backbone, head: LookAhead, shortlist: Shortlist) -> None:
        self.backbone, self.head, self.shortlist = backbone, head, shortlist
        self.root = torch.zeros(0, dtype=torch.int64)

    def advance(
        self, states: Tensor, picks: Sequence[Sequence[int]], following: Sequence[Sequence[int]]
    ) -> None:
        """New trunk states: those of `states` (B, Q, D) at the places `picks`;

        following: the token after each of them.
        """
        self.root = torch.tensor([tokens[-1] for tokens in following], device=states.device)

    def propose(self, tree: Tree, sampler: Sampler | None = None) -> Proposal:
        """Tokens for all nodes of a tree no deeper than `depths`."""
        raise NotImplementedError

    def keep_up(self) -> None:
        """Takes in what `advance` told without proposing anything."""

    def select(self, rows: Sequence[int]) -> None:
        """Leaves only the given sequences."""
        self.root = self.root[rows]

    def logits(self, states: Tensor, depth: int) -> Tensor:
        """The draft's logits of head states (.., D) at a depth, for the tokens of the shortlist."""
        return self.shortlist.logits(states, self.head.unembedding(depth))


class _ByDepth(Draft):
    """Heads that are told no draft tokens: all nodes of a depth share one list of candidates."""

    def head_states(self, depth: int) -> Tensor:
        """States (B, K, D) of the first `depth` depths."""
        raise NotImplementedError

    def propose(self, tree: Tree, sampler: Sampler | None = None) -> Proposal:
        depth = tree.depth
        states = self.head_states(depth)
        if self.head.unembedding(1) is None:
            logits = self.logits(states, 1)
        else:
            logits = torch.stack([self.logits(states[:, d - 1], d) for d in range(1, depth + 1)], 1)
        which = _columns(tree, sampler is not None)
        tokens, drawn = self.shortlist.choose(logits, max(which) + 1, sampler)
        at = [len(path) - 1 for path in tree.paths]
        depths = tree.depths.tolist()
        return Proposal(
            tokens[:, at, which],
            None
            if drawn is None
            else lambda row, place: self.shortlist.whole(drawn[row, depths[place]]),
        )


class PointwiseDraft(_ByDepth):
    """Heads that read the last state alone: Medusa's, linear and offset ones, and Hydra's, which
    are told the path's tokens.
    """

    state: Tensor

    def advance(
        self, states: Tensor, picks: Sequence[Sequence[int]], following: Sequence[Sequence[int]]
    ) -> None:
        super().advance(states, picks, following)
        self.state = states[range(len(picks)), [pick[-1] for pick in picks]]

    def select(self, rows: Sequence[int]) -> None:
        super().select(rows)
        self.state = self.state[rows]

    def head_states(self, depth: int) -> Tensor:
        if isinstance(self.head, OffsetHead):
            depths = torch.arange(1, depth + 1, device=self.state.device)
            return self.head(depths, self.state[:, None].expand(-1, depth, -1))[1]
        return torch.stack([self.head(d, self.state)[1] for d in range(1, depth + 1)], 1)

    def propose(self, tree: Tree, sampler: Sampler | None = None) -> Proposal:
        if not self.head.conditioned:
            return super().propose(tree, sampler)
        return _level_by_level(self, self.state, tree, sampler, self.head)


class _Level(NamedTuple):
    """One depth of a tree: the places that have children there, and for each child its place, its
    parent among those, and which of the parent's candidates it takes.

    width: candidates per parent;
    following: for each place that has children at the next depth, its parent here.
    """

    parents: list[int]
    nodes: list[int]
    parent: list[int]
    candidate: list[int]
    width: int
    following: list[int]


@lru_cache(maxsize=256)
def _levels(tree: Tree, drawn: bool) -> tuple[_Level, ...]:
    columns = _columns(tree, drawn)
    levels, parents = [], [0]
    for _ in range(tree.depth):
        pairs = [(child, i) for i, place in enumerate(parents) for child in tree.children[place]]
        candidate = [columns[child - 1] for child, _ in pairs]
        inner = [(child, i) for child, i in pairs if tree.children[child]]
        levels.append(
            _Level(
                parents,
                [c for c, _ in pairs],
                [i for _, i in pairs],
                candidate,
                max(candidate) + 1,
                [i for _, i in inner],
            )
        )
        parents = [child for child, _ in inner]
    return tuple(levels)


def _level_by_level(
    draft: Draft,
    start: Tensor,
    tree: Tree,
    sampler: Sampler | None,
    step: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]],
) -> Proposal:
    """Drafts the children of all places of one depth at a time.

    start: what the root carries, (B, ..). step(depth, carried, embeddings of the tokens told) ->
        (carried, states).
    """
    rows, device = len(draft.root), draft.root.device
    tokens = torch.zeros(rows, len(tree) + 1, dtype=torch.int64, device=device)
    tokens[:, 0] = draft.root
    carried = start[:, None]  # (B, places of this depth that have children, ..)
    drawn: dict[int, Tensor] = {}  # by place, what its children were drawn from
    for depth, level in enumerate(_levels(tree, sampler is not None), start=1):
        told = draft.backbone.embedding(tokens[:, level.parents])
        carried, states = step(depth, carried, told)
        chosen, own = draft.shortlist.choose(draft.logits(states, depth), level.width, sampler)
        tokens[:, level.nodes] = chosen[:, level.parent, level.candidate]
        if own is not None:
            drawn |= {place: own[:, i] for i, place in enumerate(level.parents)}
        carried = carried[:, level.following]
    whole = draft.shortlist.whole
    return Proposal(
        tokens[:, 1:], None if sampler is None else lambda row, place: whole(drawn[place][row])
    )


class BlockDraft(_ByDepth):
    """Heads that are transformer layers: each depth keeps a cache of its own in step with the text.

    New positions stand right-aligned in their arrays, so that the last column is always the newest;
    a row with fewer has padding on its left. Told heads see at depth d the positions up to d - 1
    before the newest, whose told tokens are known; the output of each depth at its newest position
    waits one step for the next depth (`pending`).
    """

    head: BlockHeads

    def __init__(
        self, backbone: Backbone, head: BlockHeads, shortlist: Shortlist, rows: int
    ) -> None:
        super().__init__(backbone, head, shortlist)
        last = len(head.blocks) - 1
        self.streams = [CachedModel(head.blocks[min(k, last)], rows) for k in range(head.depths)]
        self.pending: list[Tensor | None] = [None] * head.depths
        self.waits = [[False] * rows for _ in range(head.depths)]
        self.seen = [0] * rows  # trunk states so far
        self.new: tuple[Tensor, list[int], Tensor] | None = None

    def advance(
        self, states: Tensor, picks: Sequence[Sequence[int]], following: Sequence[Sequence[int]]
    ) -> None:
        super().advance(states, picks, following)
        counts = [len(pick) for pick in picks]
        most, device = max(counts), states.device
        index = torch.tensor(
            [[pick[0]] * (most - len(pick)) + list(pick) for pick in picks], device=device
        )
        tokens = [[0] * (most - len(after)) + list(after) for after in following]
        rows = torch.arange(len(picks), device=device)[:, None]
        self.new = (states[rows, index], counts, torch.tensor(tokens, device=device))
        self.seen = [before + count for before, count in zip(self.seen, counts, strict=True)]

    def select(self, rows: Sequence[int]) -> None:
        super().select(rows)
        for stream in self.streams:
            stream.cache.select(rows)
        self.pending = [None if state is None else state[rows] for state in self.pending]
        self.waits = [[waits[row] for row in rows] for waits in self.waits]
        self.seen = [self.seen[row] for row in rows]
        if self.new is not None:
            self.new = (self.new[0][rows], [self.new[1][row] for row in rows], self.new[2][rows])

    def keep_up(self) -> None:
        if self.head.conditioned:
            self.propose(Tree())
        else:
            self.head_states(self.head.depths)

    def head_states(self, depth: int) -> Tensor:
        assert self.new is not None
        (states, counts, _), self.new = self.new, None
        outs = []
        carried = states
        for number in range(1, self.head.depths + 1):
            out = self._pass(number, carried, None, counts, 1)
            outs.append(out[:, -1])
            carried = out if self.head.chained else states
        return torch.stack(outs[:depth], 1)

    def propose(self, tree: Tree, sampler: Sampler | None = None) -> Proposal:
        if not self.head.conditioned:
            return super().propose(tree, sampler)
        assert self.new is not None
        (carried, counts, following), self.new = self.new, None
        known_width = carried.shape[1]

        def step(depth: int, branch: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
            """One pass of a depth: the positions that have become known, then the tree's nodes (all
            but the root's).
            """
            nonlocal carried, counts
            nodes = branch if depth > 1 else branch[:, :0]
            inputs = torch.cat([carried, nodes], 1)
            embedded = self.backbone.embedding(following)
            embedded = torch.cat([embedded, told if depth > 1 else told[:, :0]], 1)
            out = self._pass(depth, inputs, embedded, counts, depth, nodes.shape[1])
            known = out[:, :known_width]
            carried, counts = self._hand_on(depth, known, counts)
            produced = out[:, known_width:] if depth > 1 else known[:, -1:]
            return produced, produced

        nothing = carried[:, 0]  # the root is the newest position itself, which is known
        proposal = _level_by_level(self, nothing, tree, sampler, step)
        for depth in range(
            tree.depth + 1, self.head.depths + 1
        ):  # deeper heads keep up with the text
            none = carried[:, :0]
            step(depth, none, none)
        return proposal

    def _hand_on(self, depth: int, out: Tensor, counts: list[int]) -> tuple[Tensor, list[int]]:
        """(inputs, counts) of the next depth: what waited, then all but the newest output, which
        waits in its turn.
        """
        if depth == self.head.depths:
            return out, counts
        width = out.shape[1]
        inputs = torch.cat([out[:, :1], out[:, :-1]], 1)
        waiting, waits = self.pending[depth], self.waits[depth]
        following = []
        for row, count in enumerate(counts):
            if waits[row] and count:
                assert waiting is not None
                inputs[row, width - count] = waiting[row]
            following.append(count if waits[row] or not count else count - 1)
        newest = out[:, -1]
        if waiting is not None and 0 in counts:
            held = torch.tensor([count == 0 for count in counts], device=out.device)
            newest = torch.where(held[:, None], waiting, newest)
        self.pending[depth] = newest
        self.waits[depth] = [
            before or count > 0 for before, count in zip(waits, counts, strict=True)
        ]
        return inputs, following

    def _pass(
        self,
        depth: int,
        inputs: Tensor,
        embedded: Tensor | None,
        counts: list[int],
        told_depth: int,
        nodes: int = 0,
    ) -> Tensor:
        """One call of a depth's layer on the known positions and `nodes` nodes beside them; only
        the known ones are kept.
        """
        rows, width, device = len(counts), inputs.shape[1] - nodes, inputs.device
        stream = self.streams[depth - 1]
        behind = max(told_depth - 1, 1)
        column = torch.arange(width, device=device)
        distance = column[:, None] - column
        sees = (distance == 0) | (distance >= behind)
        real = column >= width - torch.tensor(counts, device=device)[:, None]
        among = torch.zeros(rows, width + nodes, width + nodes, dtype=torch.bool, device=device)
        among[:, :width, :width] = sees & real[:, None, :]
        among[:, width:, :width] = real[:, None, :]
        # nodes, and padding, see themselves
        among |= torch.eye(width + nodes, dtype=torch.bool, device=device)
        newest = torch.tensor(self.seen, device=device)[:, None] - 1
        positions = (newest + 1 - told_depth - (width - 1) + column).clamp(min=0)
        if nodes:
            positions = torch.cat([positions, newest.expand(-1, nodes)], 1)
        block = partial(stream, among=among, positions=positions, behind=behind)
        out = self.head.through(depth, inputs, embedded, block)
        stream.cache.keep([range(width - count, width) for count in counts])
        return out


def _columns(tree: Tree, drawn: bool) -> list[int]:
    """Which candidate of its parent each node takes: the one of its rank, or of drawn ones the
    first not yet taken.

    A tree may leave out a rank (0 and 2, say). Of draws without replacement none may be left out:
    the rule of acceptance takes them in their order, each from what those before it have left.
    """
    if not drawn:
        return [path[-1] for path in tree.paths]
    return [
        tree.children[parent].index(place) for place, parent in enumerate(tree.parents, start=1)
    ]


def make_draft(backbone: Backbone, rows: int, shortlist: Shortlist | None = None) -> Draft:
    """The draft of a backbone's first look-ahead heads for a number of sequences; raises ValueError
    where it has none.
    """
    head = next((head for head in backbone.heads if isinstance(head, LookAhead)), None)
    if head is None:
        raise ValueError("this model has no heads that look ahead")
    shortlist = shortlist or Shortlist(backbone)
    if isinstance(head, BlockHeads):
        return BlockDraft(backbone, head, shortlist, rows)
    return PointwiseDraft(backbone, head, shortlist)
