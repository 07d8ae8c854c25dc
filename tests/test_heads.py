"""Heads beyond the LM head: one depth at a time has the gradient of the plain sum, in every way a
step is taken.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from conftest import objective_loss, within
from lookaround.decode.drafts import Draft, Proposal
from lookaround.decode.speculative import Speculator
from lookaround.decode.tree import Tree
from lookaround.decode.verify import Scores, Verifier
from lookaround.model.backbone import Backbone, build
from lookaround.model.heads import (
    BlockHeads,
    HydraHeads,
    MedusaHeads,
    TokenOrderHead,
    depth_states,
    spec_of,
)
from lookaround.objectives import MTP, TOP, Batch, Vocabulary, parse
from lookaround.objectives.checks import random_batch
from lookaround.objectives.contract import HeadSpec, Shown, View
from lookaround.objectives.heads import LOOK_AHEAD_KINDS
from lookaround.support.errors import UserError

VOCABULARY = 100


def backbone(spec: str, *, double: bool = True, layers: int = 2) -> Backbone:
    heads = parse(spec).at(0.0).head_specs()
    model = build(preset="nano", vocabulary=VOCABULARY, context=64, special={}, heads=heads, seed=1)
    generator = torch.Generator().manual_seed(2)
    for (
        parameter
    ) in model.heads.parameters():  # away from the identity, so that every path has a gradient
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.double() if double else model


def naive_loss(model: Backbone, view: View) -> torch.Tensor:
    """The plain sum over all pairs, in one graph, with the framework's own cross-entropy."""
    trunk = model.trunk(view.shown)
    weight = model.unembedding.weight
    total = torch.zeros((), dtype=weight.dtype)

    def add(
        states_btd: torch.Tensor, chosen: torch.Tensor, unembedding: torch.Tensor
    ) -> torch.Tensor:
        logits = states_btd.flatten(0, 1)[view.pairs.state[chosen]] @ unembedding.T
        losses = F.cross_entropy(
            logits.to(weight.dtype), view.pairs.target[chosen], reduction="none"
        )
        return (losses * view.pairs.weight[chosen].to(losses.dtype)).sum()

    total = total + add(trunk.last, (view.pairs.head == 0).nonzero().flatten(), weight)
    for number, head in enumerate(model.heads, start=1):
        reads = getattr(trunk, head.reads)
        for depth, states in depth_states(head, reads, model.embedding.weight, view.shown):
            chosen = (
                ((view.pairs.head == number) & (view.pairs.offset == depth + 1)).nonzero().flatten()
            )
            own = head.unembedding(depth)
            total = total + add(states, chosen, weight if own is None else own)
    return total


def gradients(model: Backbone) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float
) -> None:
    assert one.keys() == other.keys()
    for name, grad in one.items():
        assert (grad - other[name]).abs().max() <= tolerance, name


@pytest.mark.slow
@pytest.mark.parametrize("heads", LOOK_AHEAD_KINDS)
@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_one_depth_at_a_time_has_the_plain_gradient(heads: str, n: int) -> None:
    spec = f'mtp(n={n}, heads="{heads}", weights=0.7)'
    model = backbone(spec)
    (view,) = parse(spec).view(
        random_batch(4, 20, vocabulary=VOCABULARY, packed=True, padded=True), 0, 0
    )
    loss, (reported,) = objective_loss(model, spec, (view,), (0.5,))
    loss.backward()
    ours = gradients(model)
    model.zero_grad(set_to_none=True)
    plain = naive_loss(model, view)
    (0.5 * plain).backward()
    assert abs(loss.item() - 0.5 * plain.item()) < 1e-9
    assert abs(reported.item() - plain.item()) < 1e-9
    assert_same(ours, gradients(model), 1e-10)


def head_spec(kind: str, horizon: int) -> HeadSpec:
    return spec_of({"kind": kind, "horizon": horizon, "replaces": 0})


def packed_view(spec: str, count: int = 4, width: int = 20, rows: Tensor | None = None) -> View:
    batch = random_batch(count, width, vocabulary=VOCABULARY, packed=True, padded=True)
    (view,) = parse(spec).at(0.0).view(batch if rows is None else batch.take(rows), 0, 0)
    return view


def after_backward(
    model: Backbone, spec: str, views: list[View], *, by: float = 1.0, scale: float = 0.5
) -> dict[str, Tensor]:
    """Gradients of `by` times the loss of views that come one after the other."""
    model.zero_grad(set_to_none=True)
    for view in views:
        (by * objective_loss(model, spec, (view,), (scale,))[0]).backward()
    return gradients(model)


# ------------------------------------------------------------------------------ ways to take a step


@pytest.mark.parametrize("heads", LOOK_AHEAD_KINDS)
def test_two_micro_batches_are_one_batch(heads: str) -> None:
    spec = f'mtp(n=4, heads="{heads}", through=0.7)'
    model = backbone(spec)
    halves = [packed_view(spec, rows=torch.arange(4)[part::2]) for part in (0, 1)]
    whole = after_backward(model, spec, [packed_view(spec)])
    assert_same(after_backward(model, spec, halves), whole, 1e-10)


@pytest.mark.parametrize("heads", ["parallel", "sequential", "medusa"])
def test_a_scaled_loss_has_the_scaled_gradient(heads: str) -> None:
    spec = f'mtp(n=3, heads="{heads}")'
    model = backbone(spec)
    one = after_backward(model, spec, [packed_view(spec)])
    scaled = after_backward(model, spec, [packed_view(spec)], by=1024)
    assert_same({name: 1024 * grad for name, grad in one.items()}, scaled, 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("heads", ["parallel", "shared", "sequential", "hydra"])
def test_under_autocast_the_gradient_is_that_of_the_plain_sum(heads: str) -> None:
    spec = f'mtp(n=4, heads="{heads}")'
    model = backbone(spec, double=False)
    view = packed_view(spec)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = objective_loss(model, spec, (view,), (0.5,))
    loss.backward()
    ours = gradients(model)
    model.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16):
        plain = 0.5 * naive_loss(model, view)
    plain.backward()
    theirs = gradients(model)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-2)
    assert ours.keys() == theirs.keys()
    for name, grad in ours.items():
        assert grad.isfinite().all(), name
        assert grad.dtype == torch.float32, name
    apart = math.sqrt(sum(float((ours[name] - theirs[name]).norm()) ** 2 for name in ours))
    assert apart <= 2e-2 * math.sqrt(sum(float(grad.norm()) ** 2 for grad in theirs.values()))


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable")
@pytest.mark.parametrize("heads", ["parallel", "sequential", "hydra"])
def test_activation_checkpointing_changes_no_gradient(heads: str) -> None:
    spec = f'mtp(n=4, heads="{heads}")'
    model = backbone(spec).train()
    without = after_backward(model, spec, [packed_view(spec)])
    model.lm.gradient_checkpointing_enable()
    assert_same(after_backward(model, spec, [packed_view(spec)]), without, 1e-10)


# ------------------------------------------------------------------------------------------- memory


class Logits(TorchDispatchMode):
    """Notes the most bytes that tensors (.., vocabulary) held at any time."""

    def __init__(self, vocabulary: int, parameters: Any) -> None:
        super().__init__()
        self.vocabulary, self.peak = vocabulary, 0
        self.known = {p.untyped_storage().data_ptr() for p in parameters}
        self.alive: Any = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = within(self, function, args, kwargs)
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if (
                isinstance(tensor, Tensor)
                and tensor.ndim > 1
                and tensor.shape[-1] == self.vocabulary
            ):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self.known:
                    self.alive[storage] = storage.nbytes()
        self.peak = max(self.peak, sum(self.alive.values()))
        return out


@pytest.mark.slow
def test_logits_of_one_depth_live_at_a_time() -> None:
    vocabulary = 8192

    def peak(n: int, heads: str, loss_of: Callable[[Backbone, View], Tensor]) -> int:
        objective = MTP(n=n, heads=heads)
        model = build(
            preset="nano",
            vocabulary=vocabulary,
            context=64,
            special={},
            heads=objective.head_specs(),
        )
        (view,) = objective.view(random_batch(6, 40, vocabulary=vocabulary), 0, 0)
        with Logits(vocabulary, model.parameters()) as logits:
            loss_of(model, view).backward()
        return logits.peak

    def ours(model: Backbone, view: View) -> Tensor:
        spec = f"mtp(n={model.heads[0].depths + 1 if len(model.heads) else 1})"
        return objective_loss(model, spec, (view,), (1.0,))[0]

    one = peak(1, "parallel", ours)
    assert one >= 6 * 39 * vocabulary * 4, "the count sees the logits"
    for heads in ("parallel", "sequential", "medusa"):
        assert peak(4, heads, ours) <= 1.15 * one
    assert peak(4, "parallel", naive_loss) > 1.8 * one, "and sees them where all are kept"


# ----------------------------------------------------------------------------------- what is scored


@pytest.mark.parametrize(("packed", "padded"), [(True, True), (False, True), (False, False)])
def test_targets_keep_to_their_document_and_are_never_prompts(packed: bool, padded: bool) -> None:
    batch = random_batch(6, 24, vocabulary=VOCABULARY, packed=packed, padded=padded)
    scorable = torch.rand(6, 24, generator=torch.Generator().manual_seed(0)) < 0.7
    scorable[:, :5] = False  # prompts
    batch = replace(batch, scorable=scorable)
    (view,) = MTP(n=5, weights=0.5).view(batch, 0, 0)
    expected = set()
    for row in range(6):
        for at in range(24):
            for offset in range(1, 6):
                to = at + offset
                if to < 24 and scorable[row, to]:
                    documents = (
                        (0, 0)
                        if batch.documents is None
                        else batch.documents[row, [at, to]].tolist()
                    )
                    if documents[0] == documents[1] != -1:
                        expected.add(
                            (
                                row * 24 + at,
                                offset,
                                int(batch.tokens[row, to]),
                                0.5 ** (offset - 1),
                                offset > 1,
                            )
                        )
    columns = (
        view.pairs.state,
        view.pairs.offset,
        view.pairs.target,
        view.pairs.weight,
        view.pairs.head,
    )
    found = list(zip(*(column.tolist() for column in columns), strict=True))
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert view.normaliser == pytest.approx(sum(pair[3] for pair in expected))


@pytest.mark.parametrize(
    ("curriculum", "reaches"),
    [("static", [4] * 5), ("forward", [1, 2, 3, 4, 4]), ("reverse", [4, 3, 2, 1, 1])],
)
def test_a_curriculum_adds_or_drops_one_token_at_a_time(
    curriculum: str, reaches: list[int]
) -> None:
    objective = MTP(n=4, weights=0.5, curriculum=curriculum)
    for progress, reach in zip((0.0, 0.25, 0.5, 0.75, 1.0), reaches, strict=True):
        now = objective.at(progress)
        assert isinstance(now, MTP)
        assert now.by_offset() == {k: 0.5 ** (k - 1) for k in range(1, reach + 1)}
        assert now.head_specs() == objective.head_specs(), "heads are there at all times"


@pytest.mark.slow
@pytest.mark.parametrize("heads", LOOK_AHEAD_KINDS)
def test_the_trunk_gets_the_share_of_the_far_gradient_that_is_asked_for(heads: str) -> None:
    def grads(through: float) -> dict[str, Tensor]:
        spec = f'mtp(n=4, heads="{heads}", weights=(0, 1, 1, 1), through={through})'
        return after_backward(backbone(spec), spec, [packed_view(spec)])

    whole, half, none = grads(1.0), grads(0.5), grads(0.0)
    assert any(grad.abs().max() > 1e-3 for name, grad in whole.items() if name.startswith("lm."))
    for name, grad in whole.items():
        if name.startswith("lm."):
            assert (half[name] - grad / 2).abs().max() < 1e-12, name
            assert name not in none or not none[name].any(), name
        else:
            assert half[name].equal(grad), name
            assert none[name].equal(grad), name


@pytest.mark.slow
@pytest.mark.parametrize("heads", ["sequential", "hydra", "shared"])
def test_random_tokens_cannot_be_told(heads: str) -> None:
    vocabulary = 16
    objective = MTP(n=3, heads=heads)
    model = build(
        preset="nano",
        vocabulary=vocabulary,
        context=32,
        special={},
        heads=objective.head_specs(),
        seed=0,
    )
    generator = torch.Generator().manual_seed(0)

    def fresh(rows: int) -> View:
        tokens = torch.randint(vocabulary, (rows, 12), generator=generator)
        batch = Batch(tokens, torch.arange(rows), Vocabulary(vocabulary, 0))
        return objective.view(batch, 0, 0)[0]

    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        view = fresh(8)
        objective_loss(model, objective, (view,), (1 / view.normaliser,))[0].backward()
        optimizer.step()
    view = fresh(256)
    for offset in (1, 2, 3):
        weight = (view.pairs.offset == offset).float()
        with torch.no_grad():
            part = replace(view, pairs=replace(view.pairs, weight=weight))
            loss = float(objective_loss(model, objective, (part,), (1.0,))[0] / weight.sum())
        assert loss > math.log(vocabulary) - 0.02, f"{offset} ahead"


# ------------------------------------------------------------------------------------------ modules


def test_every_depth_has_distinct_residual_blocks() -> None:
    model = backbone("ar")
    sizes = model.sizes
    heads = MedusaHeads(sizes, 3, layers=3)
    assert [len(blocks) for blocks in heads.blocks] == [3, 3]
    storages = [p.untyped_storage().data_ptr() for p in heads.parameters()]
    assert len(storages) == len(set(storages)) == 2 * 3 * 2
    assert [heads.unembedding(depth) for depth in (1, 2)] == [None, None]
    own = MedusaHeads(sizes, 3, own=True)
    tables = [own.unembedding(depth) for depth in (1, 2)]
    assert all(t is not None and t.shape == (VOCABULARY, sizes.width) for t in tables)
    assert len({t.data_ptr() for t in tables if t is not None}) == 2


def test_shared_heads_are_one_layer() -> None:
    sizes = backbone("ar").sizes
    count = {
        name: sum(
            p.numel()
            for p in BlockHeads(
                sizes, n, chained=True, conditioned=True, shared=shared
            ).parameters()
        )
        for name, n, shared in (("one", 2, False), ("shared", 5, True), ("each", 5, False))
    }
    assert count["shared"] == count["one"]
    assert count["each"] == 4 * count["one"]
    hydra = HydraHeads(sizes, 4)
    assert [map_.in_features // sizes.width for map_ in hydra.up] == [2, 3, 4]


@pytest.mark.parametrize("kind", ["linear", "medusa", "medusa-own", "hydra", "offset"])
def test_heads_begin_as_copies_of_the_lm_head(kind: str) -> None:
    model = build(
        preset="nano",
        vocabulary=VOCABULARY,
        context=64,
        special={},
        heads=(head_spec(kind, 4),),
        seed=3,
    )
    view = packed_view("ar")
    trunk = model.trunk(view.shown)
    expected = model.unembedding(trunk.last)
    (head,) = model.heads
    for depth, states in depth_states(head, trunk.last, model.embedding.weight, view.shown):
        own = head.unembedding(depth)
        logits = model.unembedding(states) if own is None else states @ own.T
        assert (logits - expected).abs().max() < 1e-5


@pytest.mark.parametrize("window", [None, 1, 3, 8])
@pytest.mark.parametrize("packed", [True, False])
def test_token_order_is_the_dense_listnet_loss(window: int | None, packed: bool) -> None:
    """Few tokens, so that many come again: y = W - distance of the first coming, nothing for the
    others.
    """
    vocabulary, width = 12, 16
    batch = random_batch(5, width, vocabulary=vocabulary, packed=packed, padded=packed)
    scorable = torch.ones_like(batch.tokens, dtype=torch.bool)
    scorable[:, :3] = False
    batch = replace(batch, scorable=scorable)
    (view,) = TOP(window=window).view(batch, 0, 0)
    model = build(preset="nano", vocabulary=vocabulary, context=64, special={}, seed=1)
    model = model.double()
    head = TokenOrderHead(model.sizes, window).double()
    reach = window or width - 1
    documents = torch.zeros_like(batch.tokens) if batch.documents is None else batch.documents
    dense = []
    for state in view.pairs.state.tolist():
        row, at = divmod(state, width)
        y = torch.full((vocabulary,), -torch.inf, dtype=torch.float64)
        for distance in range(min(reach, width - 1 - at), 0, -1):
            to = at + distance
            same = documents[row, at] == documents[row, to]
            if same and scorable[row, to] and documents[row, to - 1] == documents[row, to]:
                y[batch.tokens[row, to]] = reach - distance  # nearer ones come later and stand
        dense.append(y)
    expected = torch.stack(dense).softmax(-1)
    shares, tokens = head.targets(view)
    found = torch.zeros_like(expected).scatter_add_(1, tokens, shares.double())
    assert (found - expected).abs().max() < 1e-6
    hidden = model.trunk(view.shown).last
    log = head.rank(hidden.flatten(0, 1)[view.pairs.state]).log_softmax(-1)
    loss = -(expected * log).sum()
    assert head.auxiliary(hidden, view, None, None).item() == pytest.approx(loss.item(), rel=1e-6)


# ----------------------------------------------------------------------------------------- decoding


class Wander(Verifier):
    """Keeps any path of the tree and goes on with any token; `check` is told what each step began
    with.
    """

    def __init__(self, seed: int, vocabulary: int, check: Callable[..., None]) -> None:
        self.chance, self.vocabulary, self.check = random.Random(seed), vocabulary, check
        self.lengths: set[int] = set()

    def walk(self, tree: Tree, proposal: Proposal, scores: Scores) -> list[tuple[list[int], int]]:
        drafts = proposal.tokens.tolist()
        self.check(tree, drafts, scores.texts)
        walks = []
        for _ in drafts:
            path: list[int] = []
            while (
                children := tree.children[path[-1] if path else 0]
            ) and self.chance.random() < 0.8:
                path.append(self.chance.choice(children))
            self.lengths.add(len(path))
            walks.append((path, self.chance.randrange(self.vocabulary)))
        return walks


BRANCHING = Tree(
    ((0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 0, 0))
)


@torch.no_grad()
def trained_logits(model: Backbone, text: list[int], drafts: list[int]) -> Tensor:
    """The head's logits (V,) after a text (its last token is certain) and drafts, as training makes
    them.
    """
    ids = torch.tensor([[*text, *drafts, 0]])
    shown = Shown(ids)
    (head,) = model.heads
    trunk = getattr(model.trunk(shown), head.reads)
    *_, (depth, states) = depth_states(head, trunk, model.embedding.weight, shown, len(drafts) + 1)
    own = head.unembedding(depth)
    state = states[0, len(text) - 2]  # the one that the certain token came from
    return model.unembedding(state) if own is None else own @ state


@pytest.mark.slow
@pytest.mark.parametrize("tree", [Tree.chain(4), BRANCHING], ids=["chain", "branching"])
@pytest.mark.parametrize(
    "kind",
    ["parallel", "causal", "sequential", "shared", "hydra", "linear", "medusa-own", "offset"],
)
def test_heads_draft_as_they_were_trained(
    kind: str, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was kept and forgotten before: every depth's cache is rewound right, in every
    row.
    """
    vocabulary = 12
    model = build(
        preset="nano",
        vocabulary=vocabulary,
        context=64,
        special={},
        heads=(head_spec(kind, 5),),
        seed=1,
    )
    generator = torch.Generator().manual_seed(2)
    for parameter in model.heads.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    model = model.double().eval()
    made: list[Tensor] = []
    plain = Draft.logits

    def noting(self: Draft, states: Tensor, depth: int) -> Tensor:
        made.append(plain(self, states, depth))
        return made[-1]

    monkeypatch.setattr(Draft, "logits", noting)
    compared: set[tuple[int, int]] = set()

    def compare(tree: Tree, drafts: list[list[int]], texts: Any) -> None:
        """What the draft has made since the last step, with what training would make."""
        calls, made[:] = list(made), []
        told = model.heads[0].conditioned
        if len(tree) and not told:  # all depths together, or one call each
            logits = calls[0] if calls[0].ndim == 3 else torch.stack(calls, 1)
            assert logits.shape == (len(texts), tree.depth, vocabulary)
        depths = tree.depths.tolist()
        for depth in range(1, tree.depth + 1):
            inner = [p for p, below in enumerate(tree.children) if below and depths[p] == depth - 1]
            for number, place in enumerate(inner):
                along = tree.mask[place].nonzero().flatten().tolist()[1:]
                for row, text in enumerate(texts):
                    mine = calls[depth - 1][row, number] if told else logits[row, depth - 1]
                    expected = trained_logits(model, text, [drafts[row][p - 1] for p in along])
                    assert float((mine - expected).abs().max()) < 1e-8, (depth, place, row, text)
                    compared.add((depth, row))

    verifier = Wander(3, vocabulary, compare)
    speculator = Speculator(model, tree)
    ends = set()
    for eos, sizes in ((None, (1, 10, 2, 5)), (0, (3, 7, 9))):
        prompts = [
            torch.randint(vocabulary, (size,), generator=generator).tolist() for size in sizes
        ]
        made.clear()
        ends |= set(
            speculator.generate(prompts, max_new_tokens=16, verifier=verifier, eos=eos).ended
        )
    assert verifier.lengths == {0, 1, 2, 3, 4}
    assert compared == {(depth, row) for depth in range(1, 5) for row in range(4)}
    assert ends == {"eos", "length"}


def test_matched_heads_take_the_place_of_trunk_layers() -> None:
    def parameters(spec: str) -> tuple[int, int]:
        heads = parse(spec).head_specs()
        model = build(preset="tiny", vocabulary=300, context=64, special={}, heads=heads)
        return model.lm.config.num_hidden_layers, sum(p.numel() for p in model.parameters())

    layers, alone = parameters("ar")
    fewer, together = parameters("mtp(n=3, matched=True)")
    assert (layers, fewer) == (4, 2)
    assert together - alone == 2 * 256  # a final norm for each head
    with pytest.raises(UserError, match="would replace all 4 layers"):
        parameters("mtp(n=5, matched=True)")
