"""Verifiers: which draft tokens of a tree stand, and which token follows them.

Three rules. *Greedy* and *exact sampling* leave what is generated as it would be without drafts:
the same tokens, or the same distribution. *Typical acceptance* (Cai et al. 2024, section 2.3.1)
changes the distribution.

A verifier walks from the root. `Scores` gives it the model's logits at a place, after logits
processors that may look at the text so far; places are the root's (0) and the nodes'
(decode/tree.py). V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lookaround.decode.drafts import Proposal
from lookaround.decode.tree import Tree


class Scores:
    """The model's logits (B, N + 1, V) at all places of a tree, processed as generation asks for.

    process: of logits (.., V) alone; runs once over everything.
    looking: processors that look at the text so far too, (ids (1, T), logits (1, V), number of the
        sequence) -> logits; run only at the places that a walk visits.
    texts: the ids of each sequence up to its root, included.
    numbers: of each sequence among the prompts.
    """

    def __init__(
        self,
        logits: Tensor,
        process: Callable[[Tensor], Tensor] | None,
        looking: Callable[[Tensor, Tensor, int], Tensor] | None,
        texts: Sequence[list[int]],
        numbers: Sequence[int] = (0,),
    ) -> None:
        self.logits = logits if process is None else process(logits)
        self.looking, self.texts, self.numbers = looking, texts, numbers

    def at(self, row: int, place: int, path: Sequence[int]) -> Tensor:
        """Processed logits (V,) at a place;

        path: the draft tokens from the root's to it.
        """
        here = self.logits[row, place]
        if self.looking is None:
            return here
        text = torch.tensor([[*self.texts[row], *path]], device=here.device)
        return self.looking(text, here[None].float(), self.numbers[row])[0]


class Verifier:
    """walk gives, per sequence, (places of the accepted path, the token that follows it)."""

    samples = False  # whether drafts are to be sampled, rather than taken in order

    def walk(self, tree: Tree, proposal: Proposal, scores: Scores) -> list[tuple[list[int], int]]:
        raise NotImplementedError

    def first(self, scores: Scores) -> list[int]:
        """The token after the prompt of each sequence, from scores of one place each."""
        rows = scores.logits.shape[0]
        none = torch.zeros(rows, 0, dtype=torch.int64, device=scores.logits.device)
        return [token for _, token in self.walk(Tree(), Proposal(none), scores)]


def _follow(
    tree: Tree, proposal: Proposal, scores: Scores, choose: Callable[[Tensor], Tensor]
) -> list[tuple[list[int], int]]:
    """Walks on as long as a child holds the token that is chosen at its parent;

    choose: tokens (..) by logits (.., V).

    A walk visits each place at most once, so all tokens may be chosen beforehand where their logits
    do not depend on the text.
    """
    beforehand = choose(scores.logits).tolist() if scores.looking is None else None
    found = []
    for row, drafts in enumerate(proposal.tokens.tolist()):
        place, path, text = 0, list[int](), list[int]()
        while True:
            own = (
                choose(scores.at(row, place, text))
                if beforehand is None
                else beforehand[row][place]
            )
            token = int(own)
            child = next(
                (child for child in tree.children[place] if drafts[child - 1] == token), None
            )
            if child is None:
                break
            place = child
            path.append(child)
            text.append(token)
        found.append((path, token))
    return found


class Greedy(Verifier):
    """The likeliest token everywhere: token for token what plain greedy decoding gives."""

    def walk(self, tree: Tree, proposal: Proposal, scores: Scores) -> list[tuple[list[int], int]]:
        # four times as fast as argmax in bf16
        return _follow(tree, proposal, scores, lambda logits: logits.max(-1).indices)


class ExactSampling(Verifier):
    """Sampling whose distribution no draft can change.

    sampled: whether children were drawn without replacement from the draft's distribution q. Then
        they are tried in that order: a token x is accepted with probability min(1, p(x) / q(x));
        after a rejection p becomes the normalised max(p - q, 0) and q loses x. What is left of p
        gives the token if none is accepted (recursive rejection sampling, Jeon et al. 2024; Chen et
        al. 2024). Else children are the draft's likeliest tokens; the model's own token is drawn,
        and accepted if a child holds it, which is the same rule for a q that is certain.
    """

    def __init__(self, generator: torch.Generator, *, sampled: bool = True) -> None:
        self.generator, self.samples = generator, sampled

    def _draw(self, probabilities: Tensor) -> Tensor:
        """One token of each distribution (.., V)."""
        flat = probabilities.reshape(-1, probabilities.shape[-1]).to(self.generator.device)
        drawn = torch.multinomial(flat, 1, generator=self.generator)
        return drawn.view(probabilities.shape[:-1])

    def accepts(self, ratio: float) -> bool:
        """Whether a draft token stands whose probability under the model is `ratio` times that of
        its draw.
        """
        uniform = torch.rand((), generator=self.generator, device=self.generator.device)
        return float(uniform) < ratio

    def walk(self, tree: Tree, proposal: Proposal, scores: Scores) -> list[tuple[list[int], int]]:
        if proposal.distribution is None:
            return _follow(
                tree, proposal, scores, lambda logits: self._draw(logits.float().softmax(-1))
            )
        tokens = proposal.tokens.tolist()
        return [self._reject(tree, own, proposal, scores, row) for row, own in enumerate(tokens)]

    def _reject(
        self, tree: Tree, tokens: list[int], proposal: Proposal, scores: Scores, row: int
    ) -> tuple[list[int], int]:
        assert proposal.distribution is not None
        place = 0
        path: list[int] = []
        text: list[int] = []
        while True:
            target = scores.at(row, place, text).double().softmax(-1)
            children = tree.children[place]
            draft = proposal.distribution(row, place).double() if children else target
            for child in children:
                token = tokens[child - 1]
                likely = float(draft[token])
                if self.accepts(float(target[token]) / max(likely, 1e-300)):
                    break
                target = (target - draft).clamp_min(0)
                rest = float(target.sum())
                if rest <= 0:  # p and q are the same but for rounding: only x itself could be left
                    target = torch.zeros_like(target)
                    target[token] = 1
                else:
                    target = target / rest
                draft = draft.clone()
                draft[token] = 0
                draft = draft / draft.sum().clamp_min(1e-300)
            else:
                return path, int(self._draw(target[None]))
            place = child
            path.append(child)
            text.append(token)


class Typical(Verifier):
    """Typical acceptance (Cai et al. 2024, section 2.3.1): changes the distribution, towards the
    likely.

    A draft token x stands if p(x) > min(epsilon, delta exp(-H(p))), H in nats; the longest accepted
    path is taken, and of equally long ones the likeliest. The token after it is drawn from p, so
    that output varies at temperatures above 0; with generator=None it is the likeliest. delta=None
    is sqrt(epsilon), as the paper has it.
    """

    def __init__(
        self, generator: torch.Generator | None, epsilon: float = 0.09, delta: float | None = None
    ) -> None:
        self.generator = generator
        self.epsilon = epsilon
        self.delta = epsilon**0.5 if delta is None else delta

    def stands(self, probabilities: Tensor) -> Tensor:
        """Which tokens of a distribution (.., V) are accepted, (.., V) bool."""
        entropy = torch.special.entr(probabilities).sum(-1, keepdim=True)
        least = torch.minimum(
            torch.full_like(entropy, self.epsilon), self.delta * torch.exp(-entropy)
        )
        return probabilities > least

    def walk(self, tree: Tree, proposal: Proposal, scores: Scores) -> list[tuple[list[int], int]]:
        found = []
        for row, tokens in enumerate(proposal.tokens.tolist()):
            best: tuple[int, float, list[int]] = (0, 0.0, [])
            probabilities: dict[int, Tensor] = {}
            pending: list[tuple[list[int], list[int], float]] = [([], [], 0.0)]
            while pending:
                path, text, log = pending.pop()
                place = path[-1] if path else 0
                here = probabilities[place] = scores.at(row, place, text).double().softmax(-1)
                best = max(best, (len(path), log, path), key=lambda item: item[:2])
                children = tree.children[place]
                if not children:
                    continue
                stands = self.stands(here)
                for child in children:
                    token = tokens[child - 1]
                    if stands[token]:
                        pending.append(
                            ([*path, child], [*text, token], log + float(here[token].log()))
                        )
            path = best[2]
            last = probabilities[path[-1] if path else 0]
            if self.generator is None:
                token = int(last.argmax())
            else:
                last = last.to(self.generator.device)
                token = int(torch.multinomial(last, 1, generator=self.generator))
            found.append((path, token))
        return found


def make_verifier(accept: str, generator: torch.Generator | None) -> Verifier:
    """The verifier of a rule, "exact" or "typical"; without a generator the likeliest tokens are
    taken.
    """
    if accept == "typical":
        return Typical(generator)
    return Greedy() if generator is None else ExactSampling(generator)
