"""The decoding loop: draft, verify, accept; several tokens per pass of the model.

B sequences, Q tokens of a pass, N nodes of a tree. A *pass* is one forward call of the trunk. Plain
decoding is the same loop with an empty tree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from lookaround.decode.cache import CachedModel, require_rewindable
from lookaround.decode.drafts import Draft, Proposal, Sampler, Shortlist, make_draft
from lookaround.decode.stats import Stats
from lookaround.decode.tree import Tree
from lookaround.decode.verify import Greedy, Scores, Verifier
from lookaround.model.backbone import Backbone
from lookaround.model.heads import LookAhead
from lookaround.support.errors import UserError


def set_precision(module: nn.Module, dtype: torch.dtype) -> None:
    """Puts a model's weights into a precision, and leaves tables it computes for itself alone.

    `module.to(dtype)` would round those too, such as the frequencies of rotary positions, which
    transformers keeps in float32.
    """
    computed = {
        (part, name): buffer
        for part in module.modules()
        for name, buffer in part.named_buffers(recurse=False)
        if name in part._non_persistent_buffers_set
    }
    module.to(dtype)
    if torch.finfo(dtype).bits < 32:
        for (part, name), buffer in computed.items():
            setattr(part, name, buffer.float() if buffer.is_floating_point() else buffer)


@dataclass(frozen=True)
class Step:
    """New tokens of one sequence.

    drafts: how many of them, from the first on, were drafts.
    ended: why the sequence ended with them ("eos", "stop", "length" or "context"), or "".
    """

    row: int
    tokens: list[int]
    drafts: int
    ended: str


@dataclass
class Continued:
    """The new tokens of each sequence, why each ended (see `Step`), and what it took."""

    tokens: list[list[int]]
    ended: list[str]
    stats: Stats


class _Texts:
    """Sequences under way: their tokens, what processors see of them, and which have ended."""

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        seen: Sequence[Sequence[int]] | None,
        most: int,
        limit: int,
        ends: set[int],
        stop: Callable[[list[int]], bool] | None,
    ) -> None:
        self.ids = [list(map(int, prompt)) for prompt in prompts]
        self.seen = self.ids if seen is None else [list(map(int, prompt)) for prompt in seen]
        self.ended = [False] * len(prompts)
        self.wanted = [most] * len(prompts)
        self.limit, self.ends, self.stop = limit, ends, stop

    def deepest(self, rows: Sequence[int]) -> int:
        """How deep drafts may go: as far as some sequence still wants tokens, and all have
        positions for them.
        """
        room = self.limit - max(len(self.ids[row]) for row in rows)
        return min(room, max(self.wanted[row] for row in rows)) - 1

    def add(self, row: int, tokens: list[int], drafts: int) -> Step:
        """Appends new tokens, the first `drafts` of which were drafts, as far as the sequence goes
        on.
        """
        ids, kept, ended = self.ids[row], 0, ""
        for token in tokens:
            kept += 1
            ids.append(token)
            if self.seen is not self.ids:
                self.seen[row].append(token)
            self.wanted[row] -= 1
            if token in self.ends:
                ended = "eos"
            elif self.stop is not None and self.stop(self.seen[row]):
                ended = "stop"
            elif not self.wanted[row]:
                ended = "length"
            elif len(ids) >= self.limit:
                ended = "context"
            if ended:
                break
        self.ended[row] = bool(ended)
        return Step(row, tokens[:kept], min(drafts, kept), ended)


class Speculator:
    """A causal model with heads that look ahead, and the tree its drafts fill.

    Raises UserError for a tree deeper than the heads, heads of another width, and a model whose
    cache cannot be rewound.
    """

    def __init__(
        self,
        backbone: Backbone,
        tree: Tree | dict[int, Tree] | None = None,
        *,
        shortlist: Sequence[int] | None = None,
        checked: bool = False,
    ) -> None:
        """tree: one, or {sequences: tree}; a chain if none.

        shortlist: the tokens that are drafted; all if none.
        checked: the model was asked before whether its cache can be rewound.
        """
        self.backbone = backbone
        self.shortlist = Shortlist(backbone, shortlist)
        self.last: Stats | None = None  # of the last generation
        # masks and depths of trees, on the model's device
        self.placed: dict[Tree, tuple[Tensor, Tensor]] = {}
        heads = [head for head in backbone.heads if isinstance(head, LookAhead)]
        self.depths = heads[0].depths if heads else 0
        tree = Tree.chain(self.depths) if tree is None else tree
        self.trees = tree if isinstance(tree, dict) else {1: tree}
        for each in self.trees.values():
            self._require_tree(each)
        if not checked:
            require_rewindable(backbone.lm)
        self.limit: int = backbone.limit  # tokens of a text, prompt included
        self.before = bool(heads) and heads[0].reads == "before"

    def _require_tree(self, tree: Tree) -> None:
        if tree.depth > self.depths:
            raise UserError(
                f"tree: is {tree.depth} deep, but the heads look only {self.depths} tokens beyond "
                "the next one"
            )
        ids = self.shortlist.ids
        widest = 1 + max((path[-1] for path in tree.paths), default=0)
        if ids is not None and widest > len(ids):
            raise UserError(
                f"tree: drafts {widest} tokens beside one another out of a shortlist of {len(ids)}"
            )

    def tree_for(self, batch: int) -> Tree:
        """The tree for a number of sequences: that of the largest number that is not larger."""
        fitting = [number for number in self.trees if number <= batch]
        return self.trees[max(fitting, default=min(self.trees))]

    # -- parts of a step

    def _pass(
        self, model: CachedModel, new: Tensor, among: Tensor, positions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(states after the final norm, states the draft reads) of new tokens, each (B, Q, D)."""
        out = model(
            new, among, positions, **({"output_hidden_states": True} if self.before else {})
        )
        last = out.last_hidden_state
        return last, out.hidden_states[-2] if self.before else last

    def generate(self, prompts: Sequence[Sequence[int]], **options: Any) -> Continued:
        """All new tokens of token sequences (any lengths), EOS included.

        options: those of `steps`.
        """
        made = Continued([[] for _ in prompts], [""] * len(prompts), Stats())
        for step in chain.from_iterable(self.steps(prompts, stats=made.stats, **options)):
            made.tokens[step.row] += step.tokens
            made.ended[step.row] = step.ended
        return made

    @torch.inference_mode()
    def steps(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        stats: Stats | None = None,
        verifier: Verifier | None = None,
        tree: Tree | None = None,
        eos: int | Sequence[int] | None = None,
        process: Callable[[Tensor], Tensor] | None = None,
        looking: Callable[[Tensor, Tensor, int], Tensor] | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        stop: Callable[[list[int]], bool] | None = None,
        seen: Sequence[Sequence[int]] | None = None,
    ) -> Iterator[list[Step]]:
        """Continues token sequences of any lengths; yields the new tokens of each pass, EOS too.

        stats: are kept up to date; `last` holds them too.
        verifier: Greedy() if none.
        tree: another than the speculator's own; an empty one decodes plainly.
        process: of logits (.., V), temperature among them.
        looking: processors that look at the text so far, for its ids (1, T), logits (1, V) and the
            number of the prompt.
        temperature: what drafts are sampled at, with `generator`.
        stop: is asked after every token of a sequence, with all its ids.
        seen: what `looking` and `stop` take for each prompt, if they are to see something else,
            such as its padding.

        Raises UserError for an empty prompt, or one that leaves no room in the context.
        """
        began = time.perf_counter()
        verifier = verifier or Greedy()
        tree = self.tree_for(len(prompts)) if tree is None else tree
        self._require_tree(tree)
        self._require_prompts(prompts, max_new_tokens)
        stats = self.last = Stats() if stats is None else stats
        stats.tried, stats.accepted = [0] * self.depths, [0] * self.depths
        if not prompts:
            return
        sampler = Sampler(temperature, generator or torch.Generator()) if verifier.samples else None
        ends = set() if eos is None else {eos} if isinstance(eos, int) else set(eos)
        texts = _Texts(prompts, seen, max_new_tokens, self.limit, ends, stop)

        def scores(states: Tensor) -> Scores:
            """Of the active sequences, at the places of these states."""
            own = [texts.seen[row] for row in active]
            logits = self.backbone.logits(states)
            return Scores(logits, process, looking, own, active)

        # the prompts, padded on their right; each is kept as far as it goes
        active, longest = list(range(len(prompts))), max(map(len, prompts))
        capacity = min(longest + max_new_tokens, self.limit) + len(tree) + 1
        model = CachedModel(self.backbone.decoder, len(prompts), capacity)
        padded = [[*ids, *([ids[-1]] * (longest - len(ids)))] for ids in texts.ids]
        causal = torch.ones(longest, longest, dtype=torch.bool, device=self.backbone.device).tril()
        last, read = self._pass(
            model, torch.tensor(padded, device=self.backbone.device), causal, None
        )
        picks: list[Sequence[int]] = [range(len(prompt)) for prompt in prompts]
        model.cache.keep(picks)
        newest = last[active, [len(prompt) - 1 for prompt in prompts]][:, None]
        roots = verifier.first(scores(newest))
        following = [[*ids[1:], root] for ids, root in zip(texts.ids, roots, strict=True)]
        steps = [texts.add(row, [token], 0) for row, token in enumerate(roots)]
        stats.passes, stats.tokens = 1, len(steps)
        stats.prompt_seconds = time.perf_counter() - began
        draft = make_draft(self.backbone, len(prompts), self.shortlist) if len(tree) else None
        if draft is not None:
            draft.advance(read, picks, following)

        while True:
            stats.seconds = time.perf_counter() - began
            yield steps
            staying = [place for place, row in enumerate(active) if not texts.ended[row]]
            if not staying:
                return
            if len(staying) < len(active):
                active = [active[place] for place in staying]
                model.cache.select(staying)
                if draft is not None:
                    draft.select(staying)
            now = tree.cut(texts.deepest(active))
            proposal = self._proposal(draft, now, sampler, len(active))
            roots = [texts.ids[row][-1] for row in active]
            last, read = self._pass(model, *self._inputs(now, roots, proposal, model.cache.lengths))
            walks = verifier.walk(now, proposal, scores(last))
            picks = [[0, *path] for path, _ in walks]
            model.cache.keep(picks)
            stats.passes += 1
            stats.steps += len(active)
            following, steps = [], []
            for row, tokens, (path, token) in zip(
                active, proposal.tokens.tolist(), walks, strict=True
            ):
                following.append([*(tokens[place - 1] for place in path), token])
                steps.append(texts.add(row, following[-1], len(path)))
                stats.stepped += len(steps[-1].tokens)
                _count(stats, now, path)
            stats.tokens = len(prompts) + stats.stepped
            if draft is not None:
                draft.advance(read, picks, following)

    def _require_prompts(self, prompts: Sequence[Sequence[int]], most: int) -> None:
        for number, prompt in enumerate(prompts):
            if not len(prompt):
                raise UserError(
                    f"prompt {number}: is empty; it needs at least one token, such as BOS"
                )
            if len(prompt) >= self.limit:
                raise UserError(
                    f"prompt {number}: has {len(prompt)} tokens, and the model's context of "
                    f"{self.limit} leaves no room after them"
                )
        if most < 1:
            raise UserError(f"max_new_tokens: {most} is less than one token")

    def _proposal(
        self, draft: Draft | None, tree: Tree, sampler: Sampler | None, rows: int
    ) -> Proposal:
        if draft is not None and not len(tree):
            draft.keep_up()
        if draft is None or not len(tree):
            return Proposal(torch.zeros(rows, 0, dtype=torch.int64, device=self.backbone.device))
        return draft.propose(tree, sampler)

    def _inputs(
        self, tree: Tree, roots: list[int], proposal: Proposal, lengths: list[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(tokens (B, N + 1), who sees whom among them, positions) of a verifying pass."""
        device = self.backbone.device
        new = torch.cat([torch.tensor(roots, device=device)[:, None], proposal.tokens], 1)
        if tree not in self.placed:
            self.placed[tree] = tree.mask.to(device), tree.depths.to(device)
        mask, depths = self.placed[tree]
        return new, mask, torch.tensor(lengths, device=device)[:, None] + depths


def _count(stats: Stats, tree: Tree, path: Sequence[int]) -> None:
    """Adds a step to what was tried and accepted by depth."""
    for depth in range(len(path)):
        stats.tried[depth] += 1
        stats.accepted[depth] += 1
    if tree.children[path[-1] if path else 0]:
        stats.tried[len(path)] += 1
