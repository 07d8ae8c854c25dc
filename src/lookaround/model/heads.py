"""Heads beyond the LM head: modules that look further ahead than the next token.

B sequences, T tokens, D hidden width, N scored pairs, V vocabulary. The token k ahead of a state has offset k; the LM head
does offset 1, a look-ahead head does offset k at depth k - 1. States of all depths go through the model's own unembedding
unless a head brings one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lookaround.model.losses import linear_cross_entropy
from lookaround.model.masks import attention_arguments
from lookaround.objectives.contract import Attention, HeadSpec, View

__all__ = [
    "BeliefHead",
    "BlockHeads",
    "HydraHeads",
    "LookAhead",
    "MedusaHeads",
    "NextLatentHead",
    "OffsetHead",
    "TokenOrderHead",
    "Trunk",
    "build_head",
    "depth_states",
    "look_ahead_loss",
]


class Trunk(NamedTuple):
    """What heads read: the states after the final norm, and those that enter the last layer where a head asks for them."""

    last: Tensor
    before: Tensor | None = None


class LookAhead(nn.Module):
    """Heads for the tokens 2 to n ahead, one depth after the other.

    forward(depth, carried, embedded) gives (what the next depth carries on, states for the unembedding). A head that is
    `chained` carries something on, so that depths are made in order; one that is `conditioned` is told the embedding of the
    token `depth` ahead, which stands right before its target. reads: "last" or "before", the trunk states of the first depth.
    `pointwise` heads look at one position at a time and take any leading dimensions; the others take (B, T, D).
    """

    depths: int
    chained = False
    conditioned = False
    pointwise = True
    reads = "last"

    def forward(
        self, depth: int, carried: Tensor, embedded: Tensor | None = None, **attend: Any
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def unembedding(self, depth: int) -> Tensor | None:
        """The head's own unembedding (V, D) at a depth, or None for the model's."""
        return None

    def begin_with(self, unembedding: Tensor) -> None:
        """Copies the model's unembedding into the head's own, where it has any."""

    def attention(self, depth: int, view: View, dtype: torch.dtype) -> dict[str, Any]:
        """Arguments of `forward` that say who attends to whom at a depth in training."""
        return {}

    def flops(self, offset: Tensor, positions: int, width: int) -> float:
        """FLOPs, forward and backward, of pairs with these offsets (N,) in a batch of `positions` tokens in rows of `width`."""
        return 6.0 * sum(p.numel() for p in self.parameters()) / self.depths * len(offset)


class LinearHeads(LookAhead):
    """One linear map per depth, beginning as the identity (the "linear heads" of Gloeckle et al. 2024)."""

    def __init__(self, config: Any, horizon: int) -> None:
        super().__init__()
        self.depths = horizon - 1
        width = config.hidden_size
        self.maps = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(self.depths))
        for each in self.maps:
            nn.init.eye_(each.weight)  # type: ignore[arg-type]

    def forward(
        self, depth: int, carried: Tensor, embedded: Tensor | None = None, **attend: Any
    ) -> tuple[Tensor, Tensor]:
        return carried, self.maps[depth - 1](carried)


class ResidualBlock(nn.Module):
    """x + SiLU(Wx), beginning as the identity (Cai et al. 2024, Medusa)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, state: Tensor) -> Tensor:
        return state + F.silu(self.linear(state))


class MedusaHeads(LookAhead):
    """Medusa's heads (Cai et al. 2024, arXiv 2401.10774): distinct residual blocks per depth, beginning as copies of the LM head.

    own: each depth has an unembedding of its own (the paper's layout; V x D parameters each), else the model's is shared.
    """

    def __init__(self, config: Any, horizon: int, *, layers: int = 1, own: bool = False) -> None:
        super().__init__()
        self.depths = horizon - 1
        width = config.hidden_size
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(layers))) for _ in range(self.depths)
        )
        self.unembeddings = nn.ParameterList(
            nn.Parameter(torch.zeros(config.vocab_size, width)) for _ in range(self.depths if own else 0)
        )

    def forward(
        self, depth: int, carried: Tensor, embedded: Tensor | None = None, **attend: Any
    ) -> tuple[Tensor, Tensor]:
        return carried, self.blocks[depth - 1](carried)

    def unembedding(self, depth: int) -> Tensor | None:
        return self.unembeddings[depth - 1] if len(self.unembeddings) else None

    def begin_with(self, unembedding: Tensor) -> None:
        for own in self.unembeddings:
            own.data.copy_(unembedding)


class HydraHeads(LookAhead):
    """Hydra's heads (Ankner et al. 2024): an MLP of the trunk's state and the embeddings of all tokens in between.

    Depth d carries concat(state, e_1 .. e_d), (.., (d + 1) D), and gives state + W2 SiLU(W1 carried): the last map begins at
    zero, so that a head begins as a copy of the LM head.
    """

    chained = True
    conditioned = True

    def __init__(self, config: Any, horizon: int, *, expansion: int = 2) -> None:
        super().__init__()
        self.depths = horizon - 1
        self.width = config.hidden_size
        inner = expansion * self.width
        self.up = nn.ModuleList(
            nn.Linear((d + 1) * self.width, inner, bias=False) for d in range(1, self.depths + 1)
        )
        self.down = nn.ModuleList(nn.Linear(inner, self.width, bias=False) for _ in range(self.depths))
        for each in self.down:
            nn.init.zeros_(each.weight)  # type: ignore[arg-type]

    def forward(
        self, depth: int, carried: Tensor, embedded: Tensor | None = None, **attend: Any
    ) -> tuple[Tensor, Tensor]:
        assert embedded is not None
        told = F.rms_norm(embedded, embedded.shape[-1:])
        carried = torch.cat([carried, told], -1)
        state = carried[..., : self.width]
        return carried, state + self.down[depth - 1](F.silu(self.up[depth - 1](carried)))


class BlockHeads(LookAhead):
    """Heads that are transformer layers: parallel, causal, sequential and shared ones.

    parallel: each depth is a layer beside the trunk's last (Gloeckle et al. 2024). causal: each on top of the one before (their
    ablation). sequential: the same, told the token before its target through a map of (state, embedding) to D (DeepSeek-V3).
    shared: sequential with one layer for all depths (FastMTP). Each layer has a final norm of its own.

    A told head at depth d attends to states whose told tokens are known when it drafts: to its own and to those at least d - 1
    before it. So it is trained as it is used, and nothing has to be guessed twice.
    """

    pointwise = False

    def __init__(
        self,
        config: Any,
        horizon: int,
        *,
        chained: bool = False,
        conditioned: bool = False,
        shared: bool = False,
    ) -> None:
        super().__init__()
        from transformers import LlamaModel

        self.depths = horizon - 1
        self.chained, self.conditioned = chained, conditioned
        self.reads = "last" if chained else "before"
        self.width = width = config.hidden_size
        one = narrow_config(config, 1)
        count = 1 if shared else self.depths
        self.blocks = nn.ModuleList(LlamaModel(one) for _ in range(count))
        for block in self.blocks:
            del block.embed_tokens  # it is given states
        self.told = nn.ModuleList(
            nn.Linear(2 * width, width, bias=False) for _ in range(count if conditioned else 0)
        )

    def forward(
        self, depth: int, carried: Tensor, embedded: Tensor | None = None, **attend: Any
    ) -> tuple[Tensor, Tensor]:
        def block(given: Tensor) -> Any:
            number = min(depth, len(self.blocks)) - 1
            return self.blocks[number](inputs_embeds=given, use_cache=False, **attend)

        out = self.through(depth, carried, embedded, block)
        return out, out

    def through(
        self, depth: int, carried: Tensor, embedded: Tensor | None, block: Callable[[Tensor], Any]
    ) -> Tensor:
        """The output of a depth whose layer is called by block(inputs (B, T, D)), with or without a cache."""
        if self.conditioned:
            assert embedded is not None
            both = [F.rms_norm(x, x.shape[-1:]) for x in (carried, embedded)]
            carried = self.told[min(depth, len(self.told)) - 1](torch.cat(both, -1))
        return block(carried).last_hidden_state

    def attention(self, depth: int, view: View, dtype: torch.dtype) -> dict[str, Any]:
        rows, width = view.input_ids.shape
        attention, device = view.attention, view.input_ids.device
        if self.conditioned and depth > 2:
            distance = torch.arange(width, device=device)[:, None] - torch.arange(width, device=device)
            attention = Attention("dense", allowed=((distance == 0) | (distance >= depth - 1))[None])
        return attention_arguments(
            attention, view.documents, rows, width, implementation="sdpa", dtype=dtype, device=device
        )

    def flops(self, offset: Tensor, positions: int, width: int) -> float:
        parameters = sum(p.numel() for p in self.parameters()) / len(self.blocks)
        depths = int(offset.max()) - 1 if len(offset) else 0
        return (6.0 * parameters + 12.0 * self.width * width) * positions * depths


class OffsetHead(LookAhead):
    """DAR's head: the state, told by an embedding how far ahead it is to look, through a small residual MLP.

    One module for all depths; `depth` may be a tensor of them. It starts as the identity, as a copy of the LM head.
    """

    def __init__(self, config: Any, horizon: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.depths = horizon - 1
        self.offset = nn.Embedding(horizon + 1, width)
        self.up = nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)
        nn.init.normal_(self.offset.weight, std=0.02)
        nn.init.normal_(self.up.weight, std=0.02)
        nn.init.zeros_(self.down.weight)

    def forward(
        self, depth: int | Tensor, carried: Tensor, embedded: Tensor | None = None, **attend: Any
    ) -> tuple[Tensor, Tensor]:
        offset = torch.as_tensor(depth, device=carried.device) + 1
        seen = F.rms_norm(carried, carried.shape[-1:]) + self.offset(offset)
        return carried, carried + self.down(F.silu(self.up(seen)))

    def flops(self, offset: Tensor, positions: int, width: int) -> float:
        return 6.0 * (self.up.weight.numel() + self.down.weight.numel()) * len(offset)


class TokenOrderHead(nn.Module):
    """Token-order prediction (arXiv 2508.19228): one linear head that ranks the vocabulary by how soon each token comes."""

    reads = "last"

    def __init__(self, config: Any, horizon: int) -> None:
        super().__init__()
        self.window = horizon
        self.rank = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        nn.init.normal_(self.rank.weight, std=(2 / (5 * config.hidden_size)) ** 0.5)

    def auxiliary(self, hidden_btd: Tensor, view: View, embedding: Tensor, unembedding: nn.Linear) -> Tensor:
        """The sum of the ListNet losses of the view's states, in nats."""
        shares, tokens = self.targets(view)
        states = hidden_btd.flatten(0, 1)[view.state]
        total = states.new_zeros(())
        size = max(1, (8 << 20) // self.rank.out_features)
        for begin in range(0, len(states), size):
            here = slice(begin, begin + size)
            total = total + checkpoint(
                self._loss, states[here], tokens[here], shares[here], use_reentrant=False
            )
        return total

    def _loss(self, states: Tensor, tokens: Tensor, shares: Tensor) -> Tensor:
        log_nv = self.rank(states).float().log_softmax(-1)
        return -(log_nv.gather(1, tokens) * shares).sum()

    def targets(self, view: View) -> tuple[Tensor, Tensor]:
        """(shares (N, W), tokens (N, W)): what each state's ranking should be, as shares of the tokens that come; they sum to 1.

        A token's share is softmax(window - distance of its first coming) over all that come within the window.
        """
        rows, width = view.input_ids.shape
        window = min(self.window or width - 1, width - 1)
        device = view.input_ids.device
        position = torch.arange(width, device=device)
        target = torch.zeros(rows * width, dtype=torch.bool, device=device)
        target[view.state + view.offset] = True  # tokens that may be targets
        target = target.view(rows, width)
        ids = view.input_ids
        # where each token was met before as a target, in its row and document: its first coming is where that is at the state or before
        met = (ids[:, :, None] == ids[:, None, :]) & (position[:, None] > position) & target[:, None, :]
        if view.documents is not None:
            met &= view.documents[:, :, None] == view.documents[:, None, :]
        before = torch.where(met, position, -1).amax(-1)  # (B, T)
        row, state = view.state // width, view.state % width
        ahead = state[:, None] + torch.arange(1, window + 1, device=device)
        inside = ahead < width
        at = ahead.clamp(max=width - 1)
        first = inside & target[row[:, None], at] & (before[row[:, None], at] <= state[:, None])
        if view.documents is not None:
            first &= view.documents[row[:, None], at] == view.documents[row, state][:, None]
        score = -torch.arange(1.0, window + 1, device=device).expand(first.shape)
        shares = score.masked_fill(~first, -torch.inf).softmax(-1)
        return shares, ids[row[:, None], at]

    def flops(self, offset: Tensor, positions: int, width: int) -> float:
        return 6.0 * self.rank.weight.numel() * len(offset)


class NextLatentHead(nn.Module):
    """Next-latent prediction (Teoh et al. 2025, arXiv 2511.05963): the state k ahead from a state and the k tokens in between.

    One residual MLP steps from a state and the next token's embedding to the next state, and is rolled `horizon` steps on. The
    last map begins at zero: a state is guessed to stay as it is.
    """

    reads = "last"

    def __init__(self, config: Any, horizon: int) -> None:
        super().__init__()
        self.horizon, self.vocabulary = horizon, config.vocab_size
        width = config.hidden_size
        self.up = nn.Linear(2 * width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def step(self, state: Tensor, embedded: Tensor) -> Tensor:
        """The state after one more token, (.., D) from (.., D) and its embedding (.., D)."""
        both = torch.cat([F.rms_norm(x, x.shape[-1:]) for x in (state, embedded)], -1)
        return state + self.down(F.gelu(self.up(both)))

    def auxiliary(self, hidden_btd: Tensor, view: View, embedding: Tensor, unembedding: nn.Linear) -> Tensor:
        """The sum over the view's states of smooth-L1 (a mean over D) and KL(true || guessed next token), averaged over the steps.

        True states and the unembedding are held fixed. Guesses end where a row's or document's targets end.
        """
        rows, width = view.input_ids.shape
        flat = hidden_btd.flatten(0, 1)
        fixed, out = flat.detach(), unembedding.weight.detach()
        bias = None if unembedding.bias is None else unembedding.bias.detach()
        scored = torch.zeros(rows * width, dtype=torch.bool, device=flat.device)
        scored[view.state] = True
        ids = view.input_ids.flatten()
        at, state = view.state, flat[view.state]
        total = flat.new_zeros(())
        for _ in range(self.horizon):
            # the next state is there to be guessed if it is scored itself: it stands in the same row and document
            keep = scored[(at + 1).clamp(max=rows * width - 1)] & ((at + 1) % width != 0)
            at, state = at[keep] + 1, state[keep]
            if not len(at):
                break
            state = self.step(state, F.embedding(ids[at], embedding))
            true = fixed[at]
            total = total + F.smooth_l1_loss(state, true, reduction="sum") / state.shape[-1]
            guess_nv, true_nv = (_exact(F.linear(x, out, bias)).log_softmax(-1) for x in (state, true))
            total = total + F.kl_div(guess_nv, true_nv, reduction="sum", log_target=True)
        return total / self.horizon

    def flops(self, offset: Tensor, positions: int, width: int) -> float:
        rows = positions / width
        guesses = sum(max(len(offset) - step * rows, 0.0) for step in range(1, self.horizon + 1))
        unembedding = (
            self.vocabulary * self.down.out_features
        )  # of the guess, there and back, and of the true state
        return 6.0 * (sum(p.numel() for p in self.parameters()) + unembedding) * guesses


class BeliefHead(nn.Module):
    """The second encoder of a belief-state transformer (Hu et al. 2024, arXiv 2410.23506), and what joins the two.

    It reads the target part from its end to a place, that place's suffix. From a prefix's state and a suffix's state an MLP gives
    the token after the prefix and the one before the suffix, for all pairs with something in between. The empty suffix is
    read too. layers: of the second encoder, `horizon` of its spec. Rows are one document each, without padding.
    """

    reads = "last"

    def __init__(self, config: Any, layers: int) -> None:
        super().__init__()
        from transformers import LlamaModel

        width = config.hidden_size
        self.vocabulary = config.vocab_size
        self.encoder = LlamaModel(narrow_config(config, layers))
        del self.encoder.embed_tokens  # it is given embeddings
        self.begin = nn.Parameter(torch.randn(width) * (2 / (5 * width)) ** 0.5)
        self.join = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, 2 * width))

    def auxiliary(self, hidden_btd: Tensor, view: View, embedding: Tensor, unembedding: nn.Linear) -> Tensor:
        """The sum over the view's states of the mean of both cross-entropies over all (prefix, suffix) pairs of its row, in nats.

        Raises ValueError for rows of several documents or with padding.
        """
        if view.documents is not None:
            raise ValueError("a belief-state model reads rows of one document each, without padding")
        if not len(view.state):
            return hidden_btd.new_zeros(())
        rows, width = view.input_ids.shape
        device = hidden_btd.device
        target = torch.zeros(rows * width, dtype=torch.bool, device=device)
        target[view.state + view.offset] = True
        target_bt = target.view(rows, width)
        first = int(
            target_bt.any(0).nonzero()[0]
        )  # the target part begins here, in the row where it begins first
        answer_ba, target_ba = view.input_ids[:, first:], target_bt[:, first:]
        count = answer_ba.shape[1]
        begin = self.begin.expand(rows, 1, -1)
        backward = torch.cat([begin, F.embedding(answer_ba.flip(1), embedding)], 1)[:, :count]
        suffix_bad = self.encoder(inputs_embeds=backward, use_cache=False).last_hidden_state.flip(1)
        # suffix_bad[:, j] has read the tokens after answer token j: it stands right behind it
        i, j = torch.triu_indices(
            count, count, device=device
        )  # the prefix ends before token i, the suffix begins after j
        pair = target_ba[:, i] & target_ba[:, j]  # (B, pairs)
        row, number = pair.nonzero().T
        i, j = i[number], j[number]
        joined = torch.cat([hidden_btd[row, first + i - 1], suffix_bad[row, j]], -1)
        following, before = self.join(joined).chunk(2, -1)
        states = torch.cat([following, before])
        targets = torch.cat([answer_ba[row, i], answer_ba[row, j]])
        loss = F.cross_entropy(
            _exact(F.linear(states, unembedding.weight, unembedding.bias)), targets, reduction="none"
        )
        share = target_ba.sum(1) / pair.sum(1).clamp(min=1)  # (B,): targets over pairs of the row
        return (loss * share[row].repeat(2)).sum()

    def flops(self, offset: Tensor, positions: int, width: int) -> float:
        targets = len(offset)
        encoder = sum(p.numel() for p in self.encoder.parameters())
        pairs = targets * (targets * width / max(positions, 1) + 1) / 2
        joined = sum(p.numel() for p in self.join.parameters()) + 2 * self.vocabulary * len(self.begin)
        return 6.0 * (encoder * targets + joined * pairs)


def _exact(values: Tensor) -> Tensor:
    """Values of at least single precision."""
    return values if values.dtype == torch.float64 else values.float()


def narrow_config(config: Any, layers: int) -> Any:
    """The configuration of a few Llama layers of the width and heads of a decoder with this text configuration."""
    from transformers import LlamaConfig

    width, attention_heads = config.hidden_size, config.num_attention_heads
    return LlamaConfig(
        vocab_size=1, hidden_size=width, num_hidden_layers=layers, num_attention_heads=attention_heads,
        num_key_value_heads=getattr(config, "num_key_value_heads", None) or attention_heads,
        intermediate_size=getattr(config, "intermediate_size", None) or 4 * width,
        max_position_embeddings=config.max_position_embeddings, initializer_range=(2 / (5 * width)) ** 0.5,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip


def build_head(spec: HeadSpec, config: Any) -> nn.Module:
    """The module of a head spec beside a decoder with this text configuration."""
    return HEADS[spec.kind](config, spec.horizon)


HEADS: dict[str, Callable[[Any, int], nn.Module]] = {
    "offset": OffsetHead,
    "linear": LinearHeads,
    "medusa": MedusaHeads,
    "medusa-own": lambda config, horizon: MedusaHeads(config, horizon, own=True),
    "hydra": HydraHeads,
    "parallel": BlockHeads,
    "causal": lambda config, horizon: BlockHeads(config, horizon, chained=True),
    "sequential": lambda config, horizon: BlockHeads(config, horizon, chained=True, conditioned=True),
    "shared": lambda config, horizon: BlockHeads(
        config, horizon, chained=True, conditioned=True, shared=True
    ),
    "top": TokenOrderHead,
    "nextlat": NextLatentHead,
    "belief": BeliefHead,
}


# ------------------------------------------------------------------------------------------------ training


class Pairs(NamedTuple):
    """Scored pairs of one depth: flat indices of their states, targets and scaled weights, each (N,)."""

    state: Tensor
    target: Tensor
    weight: Tensor


def depth_states(
    head: LookAhead, trunk_btd: Tensor, embedding: Tensor, view: View, depths: int | None = None
) -> Iterator[tuple[int, Tensor]]:
    """(depth, states (B, T, D)) of a look-ahead head at every position, the true tokens told; one autograd graph for all."""
    carried = trunk_btd
    for depth in range(1, (depths or head.depths) + 1):
        following, out = _step(head, depth, carried, embedding, view)
        carried = following if head.chained else trunk_btd
        yield depth, out


def _step(
    head: LookAhead, depth: int, carried: Tensor, embedding: Tensor, view: View
) -> tuple[Tensor, Tensor]:
    embedded = None
    if head.conditioned:  # the token `depth` ahead; beyond the end it is never scored
        ids = F.pad(view.input_ids[:, depth:], (0, min(depth, view.input_ids.shape[1])))
        embedded = F.embedding(ids, embedding)
    return head(depth, carried, embedded, **head.attention(depth, view, carried.dtype))


def look_ahead_loss(
    head: LookAhead,
    trunk_btd: Tensor,
    view: View,
    chosen: Tensor,
    *,
    embedding: Tensor,
    unembedding: Tensor,
    bias: Tensor | None = None,
    scale: float = 1.0,
    rows: int | None = None,
) -> Tensor:
    """scale * sum(weight * CE) of the pairs `chosen` (indices into the view) of one look-ahead head, in nats.

    Depths run forward and backward one after the other against a detached copy of the trunk's states, so that one depth's
    logits and, of unchained heads, activations live at a time; the trunk is passed backward once, with the sum of their
    gradients times `view.through`. The same gradient as the plain sum of the losses (Gloeckle et al. 2024, section 2); chained
    heads go back from the depth furthest from the trunk. All gradients are made in the forward pass and without
    accumulating into `.grad`, so that accumulation, DistributedDataParallel, scaling and autocast see one ordinary operation.
    rows: how many rows of the unembedding the softmax is over; None for all.
    """
    offset = view.offset[chosen]
    pairs = {}
    for number in sorted(offset.unique().tolist()):
        here = chosen[offset == number]
        weight = view.weight[here].to(trunk_btd.dtype) * scale
        pairs[number - 1] = Pairs(view.state[here], view.target[here], weight)
    own = [p for p in head.parameters() if p.requires_grad]
    known = {id(p) for p in own}
    lent = [] if view.through == 0 else [unembedding, *([] if bias is None else [bias])]
    if head.conditioned and view.through != 0:
        lent.append(embedding)
    lent = [p for p in {id(p): p for p in lent}.values() if p.requires_grad and id(p) not in known]

    if view.through == 0:
        unembedding, embedding = unembedding.detach(), embedding.detach()
        bias = None if bias is None else bias.detach()

    def run(leaf: Tensor, wanted: list[Tensor], backward: bool) -> tuple[Tensor, list[Tensor | None]]:
        return _depth_by_depth(head, leaf, wanted, view, pairs, embedding, unembedding, bias, backward, rows)

    return _OneDepthAtATime.apply(  # type: ignore[no-any-return]
        run, torch.is_grad_enabled(), view.through, len(own), trunk_btd, *own, *lent
    )


class _OneDepthAtATime(torch.autograd.Function):
    """A loss whose gradients are made in the forward pass (see look_ahead_loss)."""

    @staticmethod
    def forward(
        ctx: Any, run: Any, backward: bool, through: float, own: int, trunk: Tensor, *parameters: Tensor
    ) -> Tensor:
        leaf = trunk.detach().requires_grad_(backward)
        with torch.set_grad_enabled(backward):
            total, grads = run(leaf, list(parameters), backward)
        if backward:
            for i, parameter in enumerate(parameters[:own], start=1):  # depths not scored in this step
                grads[i] = torch.zeros_like(parameter) if grads[i] is None else grads[i]
            scales = [through, *([1.0] * own), *([through] * (len(parameters) - own))]
            ctx.scales = scales
            ctx.save_for_backward(*grads)
        return total.detach()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        grad = grad_outputs[0]
        scaled = [
            None if g is None else g * (grad * scale)
            for g, scale in zip(ctx.saved_tensors, ctx.scales, strict=True)
        ]
        return (None, None, None, None, *scaled)


def _depth_by_depth(
    head: LookAhead,
    leaf: Tensor,
    parameters: list[Tensor],
    view: View,
    pairs: dict[int, Pairs],
    embedding: Tensor,
    unembedding: Tensor,
    bias: Tensor | None,
    backward: bool,
    rows: int | None = None,
) -> tuple[Tensor, list[Tensor | None]]:
    """(loss, its gradients with respect to leaf and parameters), one depth at a time."""
    grads: list[Tensor | None] = [None] * (1 + len(parameters))
    total = leaf.new_zeros((), dtype=torch.float64 if leaf.dtype == torch.float64 else torch.float32)

    def loss_of(states: Tensor, depth: int, part: Pairs) -> Tensor:
        own = head.unembedding(depth)
        weight, shift = (unembedding, bias) if own is None else (own, None)
        if rows is not None:
            weight, shift = weight[:rows], None if shift is None else shift[:rows]
        return linear_cross_entropy(states, weight, part.target, part.weight, bias_v=shift)[0]

    def back(outputs: list[Tensor], given: list[Tensor | None], start: Tensor) -> Tensor | None:
        """Adds the parameters' gradients; returns that of `start`."""
        made = torch.autograd.grad(outputs, [start, *parameters], given, allow_unused=True)
        for i, grad in enumerate(made[1:], start=1):
            if grad is not None:
                grads[i] = grad if grads[i] is None else grads[i] + grad  # type: ignore[operator]
        return made[0]

    if isinstance(head, OffsetHead):  # one module for all depths: all pairs at once
        part = Pairs(*(torch.cat(columns) for columns in zip(*pairs.values(), strict=True)))
        depths = torch.cat([torch.full_like(p.state, d) for d, p in pairs.items()])
        _, states = head(depths, leaf.flatten(0, 1)[part.state])
        loss = loss_of(states, 1, part)
        if backward:
            grads[0] = back([loss], [None], leaf)
        return loss.detach(), grads
    if not head.chained:
        for depth, part in pairs.items():
            if head.pointwise:
                _, states = head(depth, leaf.flatten(0, 1)[part.state])
            else:
                states = _step(head, depth, leaf, embedding, view)[1].flatten(0, 1)[part.state]
            loss = loss_of(states, depth, part)
            if backward:
                grad = back([loss], [None], leaf)
                if grad is not None:
                    grads[0] = grad if grads[0] is None else grads[0] + grad
            total = total + loss.detach()
            del states, loss  # this depth's activations, before the next are made
        return total, grads
    segments: list[tuple[Tensor, Tensor, Tensor]] = []
    carried = leaf
    for depth in range(1, max(pairs) + 1):
        start = carried.detach().requires_grad_(backward)
        carried, out = _step(head, depth, start, embedding, view)
        segments.append((start, carried, out))
    flow: Tensor | None = None
    for depth in range(max(pairs), 0, -1):
        start, carried, out = segments.pop()
        outputs: list[Tensor] = []
        given: list[Tensor | None] = []
        if depth in pairs:
            part = pairs[depth]
            loss = loss_of(out.flatten(0, 1)[part.state], depth, part)
            total = total + loss.detach()
            outputs, given = [loss], [None]
        if flow is not None:
            outputs, given = [*outputs, carried], [*given, flow]
        if backward:
            flow = back(outputs, given, start)
    grads[0] = flow
    return total, grads
