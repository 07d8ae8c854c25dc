"""The decoding loop: draft, verify, accept; several tokens per pass of the model.

B sequences, Q tokens of a pass, N nodes of a tree. A *pass* is one forward call of the trunk. Plain
decoding is the same loop with an empty tree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lookaround.decode.cache import CachedModel, require_rewindable
from lookaround.decode.drafts import Draft, Proposal, Sampler, Shortlist, make_draft
from lookaround.decode.tree import Tree
from lookaround.decode.verify import ExactSampling, Greedy, Scores, Typical, Verifier
from lookaround.model.backbone import Backbone
from lookaround.model.heads import LookAhead
from lookaround.support.errors import UserError

__all__ = ["Generated", "Speculator", "Stats", "Step", "make_verifier", "warpers"]


@dataclass
class Stats:
    """What a generation took. accepted never counts the token that is always right.

    passes: of the trunk, the prompts' included.
    steps: sequences x passes after the prompt.
    stepped: tokens made by those;
    tokens: by all.
    tried, accepted: by depth, how often a draft of that depth could stand and did. Seconds:
        prompt_, draft_, verify_ (the trunk's passes) and seconds in all.
    """

    passes: int = 0
    steps: int = 0
    stepped: int = 0
    tokens: int = 0
    drafted: int = 0
    tried: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    prompt_seconds: float = 0.0
    draft_seconds: float = 0.0
    verify_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def tokens_per_forward(self) -> float:
        """Tokens per sequence and pass after the prompt's; 1 without drafts."""
        return self.stepped / self.steps if self.steps else 1.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def acceptance_by_depth(self) -> list[float]:
        """P(a draft of this depth stands | those before it stood and it was drafted), for depths
        that were drafted.
        """
        return [a / t for a, t in zip(self.accepted, self.tried, strict=True) if t]


@dataclass(frozen=True)
class Step:
    """New tokens of one sequence: how many of them, from the first on, were drafts."""

    row: int
    tokens: list[int]
    drafts: int


@dataclass
class Generated:
    """Sequences without their prompts, why each ended ("eos", "stop", "length" or "context"), and
    what it took.
    """

    tokens: list[list[int]]
    ended: list[str]
    stats: Stats


class _Texts:
    """Sequences under way: what has been made of each, what processors see of it, and why it
    ended.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        seen: Sequence[Sequence[int]] | None,
        most: int,
        limit: int,
        ends: set[int],
        stop: Callable[[list[int]], bool] | None,
        on_step: Callable[[Step], None] | None,
    ) -> None:
        self.ids = [list(map(int, prompt)) for prompt in prompts]
        self.seen = self.ids if seen is None else [list(map(int, prompt)) for prompt in seen]
        self.made: list[list[int]] = [[] for _ in prompts]
        self.ended = [""] * len(prompts)
        self.most, self.limit, self.ends, self.stop, self.on_step = most, limit, ends, stop, on_step

    def room(self, row: int) -> int:
        """How many tokens a sequence may still get."""
        return min(self.most - len(self.made[row]), self.limit - len(self.ids[row]))

    def deepest(self, rows: Sequence[int]) -> int:
        """How deep drafts may go: as far as some sequence still wants tokens, and all have
        positions for them.
        """
        wanted = self.most - min(len(self.made[row]) for row in rows)
        return min(wanted, self.limit - max(len(self.ids[row]) for row in rows)) - 1

    def add(self, row: int, tokens: list[int], drafts: int) -> int:
        """Appends new tokens, the first `drafts` of which were drafts, as far as the sequence goes
        on; returns how many.
        """
        kept = 0
        for token in tokens:
            kept += 1
            self.ids[row].append(token)
            self.made[row].append(token)
            if self.seen is not self.ids:
                self.seen[row].append(token)
            if token in self.ends:
                self.ended[row] = "eos"
            elif self.stop is not None and self.stop(self.seen[row]):
                self.ended[row] = "stop"
            elif self.room(row) <= 0:
                self.ended[row] = "length" if len(self.made[row]) >= self.most else "context"
            if self.ended[row]:
                break
        if self.on_step is not None:
            self.on_step(Step(row, tokens[:kept], min(drafts, kept)))
        return kept


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
        context: int | None = None,
    ) -> None:
        """tree: one, or {sequences: tree}; a chain if none.

        shortlist: the tokens that are drafted; all if none.
        checked: the model was asked before whether its cache can be rewound.
        context: the most tokens of a text, prompt included.
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
        self.limit: int = min(backbone.limit, context or backbone.limit)
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

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        verifier: Verifier | None = None,
        tree: Tree | None = None,
        eos: int | Sequence[int] | None = None,
        processors: Any = (),
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        stop: Callable[[list[int]], bool] | None = None,
        seen: Sequence[Sequence[int]] | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> Generated:
        """Continues token sequences (any lengths); returns each one's new tokens, EOS included.

        verifier: Greedy() if none.
        tree: another than the speculator's own; an empty one decodes plainly.
        processors: of transformers (a LogitsProcessorList), temperature among them; `temperature`
            is only what drafts are sampled at, with `generator`.
        stop: is asked after every token of a sequence, with all its ids.
        seen: what processors and `stop` take for each prompt, if they are to see something else,
            such as its padding.
        on_step: is told new tokens as they come.

        Raises UserError for an empty prompt, or one that leaves no room in the context.
        """
        began = time.perf_counter()
        verifier = verifier or Greedy()
        tree = self.tree_for(len(prompts)) if tree is None else tree
        self._require_tree(tree)
        self._require_prompts(prompts, max_new_tokens)
        stats = Stats(tried=[0] * self.depths, accepted=[0] * self.depths)
        if not prompts:
            return Generated([], [], stats)
        plain, looking = _divided(processors)
        sampler = Sampler(temperature, generator or torch.Generator()) if verifier.samples else None
        ends = set() if eos is None else {eos} if isinstance(eos, int) else set(eos)
        texts = _Texts(prompts, seen, max_new_tokens, self.limit, ends, stop, on_step)

        # the prompts, padded on their right; each is kept as far as it goes
        rows, longest = len(prompts), max(map(len, prompts))
        model = CachedModel(
            self.backbone.decoder, rows, min(longest + max_new_tokens, self.limit) + len(tree) + 1
        )
        padded = [[*ids, *([ids[-1]] * (longest - len(ids)))] for ids in texts.ids]
        causal = torch.ones(longest, longest, dtype=torch.bool, device=self.backbone.device).tril()
        last, read = self._pass(
            model, torch.tensor(padded, device=self.backbone.device), causal, None
        )
        picks: list[Sequence[int]] = [range(len(prompt)) for prompt in prompts]
        model.cache.keep(picks)
        newest = last[range(rows), [len(prompt) - 1 for prompt in prompts]][:, None]
        active = list(range(rows))
        roots = verifier.first(
            Scores(self.backbone.logits(newest), plain, looking, texts.seen, active, rows)
        )
        following = [[*ids[1:], root] for ids, root in zip(texts.ids, roots, strict=True)]
        for row, token in enumerate(roots):
            stats.tokens += texts.add(row, [token], 0)
        stats.passes += 1
        stats.prompt_seconds = time.perf_counter() - began
        draft = make_draft(self.backbone, rows, self.shortlist) if len(tree) else None
        self._advance(draft, read, picks, following, stats)

        while True:
            staying = [place for place, row in enumerate(active) if not texts.ended[row]]
            if not staying:
                break
            if len(staying) < len(active):
                active = [active[place] for place in staying]
                model.cache.select(staying)
                if draft is not None:
                    draft.select(staying)
            now = tree.cut(texts.deepest(active))
            clock = time.perf_counter()
            proposal = self._proposal(draft, now, sampler, len(active))
            stats.draft_seconds += time.perf_counter() - clock
            clock = time.perf_counter()
            roots = [texts.ids[row][-1] for row in active]
            last, read = self._pass(model, *self._inputs(now, roots, proposal, model.cache.lengths))
            own = [texts.seen[row] for row in active]
            scores = Scores(self.backbone.logits(last), plain, looking, own, active, rows)
            walks = verifier.walk(now, proposal, scores)
            picks = [[0, *path] for path, _ in walks]
            model.cache.keep(picks)
            stats.verify_seconds += time.perf_counter() - clock
            stats.passes += 1
            stats.steps += len(active)
            stats.drafted += len(now) * len(active)
            following = []
            for row, tokens, (path, token) in zip(
                active, proposal.tokens.tolist(), walks, strict=True
            ):
                following.append([*(tokens[place - 1] for place in path), token])
                kept = texts.add(row, following[-1], len(path))
                stats.tokens += kept
                stats.stepped += kept
                _count(stats, now, path)
            self._advance(draft, read, picks, following, stats)
        stats.seconds = time.perf_counter() - began
        self.last = stats
        return Generated(texts.made, texts.ended, stats)

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

    def _advance(
        self,
        draft: Draft | None,
        states: Tensor,
        picks: Any,
        following: list[list[int]],
        stats: Stats,
    ) -> None:
        if draft is not None:
            clock = time.perf_counter()
            draft.advance(states, picks, following)
            stats.draft_seconds += time.perf_counter() - clock


def _count(stats: Stats, tree: Tree, path: Sequence[int]) -> None:
    """Adds a step to what was tried and accepted by depth."""
    for depth in range(len(path)):
        stats.tried[depth] += 1
        stats.accepted[depth] += 1
    if tree.children[path[-1] if path else 0]:
        stats.tried[len(path)] += 1


# processors of transformers that look at the logits alone, not at the text so far
PLAIN = (
    "TemperatureLogitsWarper",
    "TopKLogitsWarper",
    "TopPLogitsWarper",
    "MinPLogitsWarper",
    "TypicalLogitsWarper",
    "EpsilonLogitsWarper",
    "EtaLogitsWarper",
    "LogitNormalization",
    "SuppressTokensLogitsProcessor",
    "InfNanRemoveLogitsProcessor",
)


def _divided(processors: Any) -> tuple[Any, Any]:
    """(the processors that look at logits alone, those from the first that looks at the text on),
    as two lists.

    Processors run in their order: where one looks at the text, all run where a walk comes by.
    """
    from transformers import LogitsProcessorList

    given = list(processors)
    if all(type(processor).__name__ in PLAIN for processor in given):
        return LogitsProcessorList(given), LogitsProcessorList()
    return LogitsProcessorList(), LogitsProcessorList(given)


def warpers(
    temperature: float, top_k: int = 0, top_p: float = 1.0, forbidden: Sequence[int] = ()
) -> Any:
    """The processors of transformers for these settings; a temperature of 0 leaves the logits to a
    greedy verifier.
    """
    from transformers import (
        LogitsProcessorList,
        SuppressTokensLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    chosen: list[Any] = []
    if forbidden:
        chosen.append(SuppressTokensLogitsProcessor(list(forbidden)))
    if temperature > 0:
        if temperature != 1:
            chosen.append(TemperatureLogitsWarper(float(temperature)))
        if top_k > 0:
            chosen.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            chosen.append(TopPLogitsWarper(float(top_p)))
    return LogitsProcessorList(chosen)


def make_verifier(rule: str, temperature: float, generator: torch.Generator) -> Verifier:
    """The verifier of a rule, "exact" or "typical", at a temperature: exact is greedy at 0 and
    sampling above.
    """
    if rule == "typical":
        return Typical(generator if temperature > 0 else None)
    return ExactSampling(generator) if temperature > 0 else Greedy()
