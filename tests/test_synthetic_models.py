"""Objectives of synthetic tasks: the losses of latent-state and belief heads against plain loops,
how answers are written, and what a curve says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import objective_loss
from lookaround.model.backbone import Backbone, build
from lookaround.model.heads import BeliefHead, NextLatentHead, Output
from lookaround.objectives import Attention, Batch, Pairs, Shown, View, parse
from lookaround.objectives.checks import random_batch
from lookaround.studies.synthetic import answers as answers_module
from lookaround.studies.synthetic.answers import Reader
from lookaround.studies.synthetic.job import Curve
from lookaround.studies.synthetic.tasks import Problems, Task
from lookaround.studies.synthetic.tasks.pathstar import PathStar
from lookaround.support.errors import UserError
from lookaround.train.budget import view_flops

PATHS = PathStar(2, 4, labels=8)
HOPS = PathStar(2, 4, labels=8, hop=True)
SMALL = PathStar(2, 3, labels=5)
VOCABULARY = 20  # of all batches here that are no problems


def problems(task: Task, count: int, first: int = 0) -> Batch:
    return Problems(task, "train").take(0, np.arange(first, first + count))


def text(count: int = 3, width: int = 16, *, packed: bool = True, padded: bool = True) -> Batch:
    return random_batch(count, width, vocabulary=VOCABULARY, packed=packed, padded=padded)


BATCHES: dict[str, Callable[[], Batch]] = {
    "paths": lambda: problems(PATHS, 4),
    "hops": lambda: problems(HOPS, 4),
    "packed and padded": text,
}


def backbone(spec: str, batch: Batch, *, noise: float = 0.0) -> Backbone:
    """A float64 model of the size of a batch; heads stand away from where they begin, and with
    `noise` the trunk does too.
    """
    model = build(
        preset="pico",
        vocabulary=batch.vocabulary.size,
        context=batch.tokens.shape[1],
        special={"bos_token_id": None, "eos_token_id": None, "pad_token_id": None},
        heads=parse(spec).head_specs(),
        seed=1,
    ).double()
    generator = torch.Generator().manual_seed(2)
    for parameters, scale in ((model.heads.parameters(), 0.2), (model.lm.parameters(), noise)):
        for parameter in parameters:
            parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def only_view(spec: str, batch: Batch) -> View:
    (view,) = parse(spec).at(0.0).view(batch, 0, 0)
    return view


def random_states(batch: Batch, width: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(*batch.tokens.shape, width, generator=generator, dtype=torch.float64)


def untied(batch: Batch, width: int = 64) -> tuple[Tensor, nn.Linear]:
    """An embedding and an unembedding that share nothing."""
    generator = torch.Generator().manual_seed(4)
    embedding = torch.randn(batch.vocabulary.size, width, generator=generator, dtype=torch.float64)
    unembedding = nn.Linear(width, batch.vocabulary.size, bias=False, dtype=torch.float64)
    unembedding.weight.data = (
        0.3 * torch.randn(unembedding.weight.shape, generator=generator).double()
    )
    return embedding.requires_grad_(), unembedding


def assert_close(found: Tensor, expected: Tensor) -> None:
    """The same but for log-softmaxes that are made in float32."""
    assert float((found - expected).abs().max()) <= 1e-5 * (1e-3 + float(expected.abs().max()))


# -------------------------------------------------------------------------------------- plain loops


def document(batch: Batch, row: int, at: int) -> int:
    return 0 if batch.documents is None else int(batch.documents[row, at])


def may_be_target(batch: Batch, row: int, at: int) -> bool:
    return (batch.scorable is None or bool(batch.scorable[row, at])) and document(
        batch, row, at
    ) >= 0


def predicts(batch: Batch, row: int, at: int) -> bool:
    """Whether the state at a place has a next token to predict in its own document."""
    if not 0 <= at < batch.tokens.shape[1] - 1 or document(batch, row, at) != document(
        batch, row, at + 1
    ):
        return False
    return may_be_target(batch, row, at + 1)


def nll(logits: Tensor, target: int) -> Tensor:
    return (logits - logits.max()).exp().sum().log() + logits.max() - logits[target]


def naive_cross_entropy(states: Tensor, batch: Batch, out: Tensor) -> Tensor:
    rows, width = batch.tokens.shape
    losses = [
        nll(out @ states[row, at], int(batch.tokens[row, at + 1]))
        for row in range(rows)
        for at in range(width)
        if predicts(batch, row, at)
    ]
    return torch.stack(losses).sum()


def naive_next_states(
    head: NextLatentHead, states: Tensor, batch: Batch, embedding: Tensor, out: Tensor
) -> Tensor:
    rows, width = batch.tokens.shape
    total = states.new_zeros(())
    for row in range(rows):
        for at in range(width):
            guess = states[row, at]
            for there in range(at + 1, min(at + head.steps + 1, width)):
                here = document(batch, row, at) == document(batch, row, there)
                if not (here and predicts(batch, row, at) and predicts(batch, row, there)):
                    break
                guess = head.step(guess, embedding[batch.tokens[row, there]])
                true = states[row, there].detach()
                apart = (guess - true).abs()
                total = total + torch.where(apart < 1, apart * apart / 2, apart - 0.5).mean()
                log_true, log_guess = (
                    logits - logits.exp().sum().log()
                    for logits in (out.detach() @ true, out.detach() @ guess)
                )
                total = total + (log_true.exp() * (log_true - log_guess)).sum()
    return total / head.steps


def naive_suffix(head: BeliefHead, batch: Batch, row: int, after: int, embedding: Tensor) -> Tensor:
    """The state of the tokens behind a place, which are read from the last one on, by
    themselves.
    """
    read = [head.begin]
    for at in reversed(range(after + 1, batch.tokens.shape[1])):
        read.append(embedding[batch.tokens[row, at]])
    return head.encoder(inputs_embeds=torch.stack(read)[None], use_cache=False).last_hidden_state[
        0, -1
    ]


def naive_belief(
    head: BeliefHead, states: Tensor, batch: Batch, embedding: Tensor, out: Tensor
) -> Tensor:
    rows, width = batch.tokens.shape
    losses, scored = [], 0
    for row in range(rows):
        for j in range(1, width):
            if not may_be_target(batch, row, j):
                continue
            scored += 1
            suffix = naive_suffix(head, batch, row, j, embedding)
            for i in range(1, j + 1):
                if not may_be_target(batch, row, i):
                    continue
                joined = head.join(torch.cat([states[row, i - 1], suffix]))
                following, before = joined[: len(suffix)], joined[len(suffix) :]
                losses.append(
                    nll(out @ following, int(batch.tokens[row, i]))
                    + nll(out @ before, int(batch.tokens[row, j]))
                )
    return torch.stack(losses).mean() * scored


# -------------------------------------------------------------------------------------- next states


@pytest.mark.parametrize("horizon", [1, 2, 4])
@pytest.mark.parametrize("batch", BATCHES)
def test_next_states_have_the_loss_and_the_gradient_of_two_plain_loops(
    batch: str, horizon: int
) -> None:
    rows = BATCHES[batch]()
    spec = f"nextlat(horizon={horizon})"
    head = backbone(spec, rows).heads[0]
    states = random_states(rows).requires_grad_()
    embedding, unembedding = untied(rows)
    wanted = [states, embedding, *head.parameters()]
    loss = head.auxiliary(states, only_view(spec, rows), embedding, Output(unembedding.weight))
    plain = naive_next_states(head, states, rows, embedding, unembedding.weight)
    assert plain.item() > 1
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    ours, theirs = (
        torch.autograd.grad(total, wanted, retain_graph=True) for total in (loss, plain)
    )
    for found, expected in zip(ours, theirs, strict=True):
        assert expected.any()
        assert_close(found, expected)


def test_a_step_is_a_residual_mlp_on_what_was_normed() -> None:
    head = backbone("nextlat", text()).heads[0]
    state, token = random_states(text())[0, :2]
    normed = [x / (x * x).mean().add(torch.finfo(x.dtype).eps).sqrt() for x in (state, token)]
    inner = head.up.weight @ torch.cat(normed) + head.up.bias
    inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
    assert torch.allclose(
        head.step(state, token), state + head.down.weight @ inner + head.down.bias
    )
    fresh = build(
        preset="pico", vocabulary=9, context=9, special={}, heads=parse("nextlat").head_specs()
    ).heads[0]
    assert fresh.step(state.float(), token.float()).equal(state.float()), (
        "it begins as the identity"
    )


def test_neither_the_unembedding_nor_the_true_states_are_drawn_to_the_guesses() -> None:
    rows = problems(PATHS, 4)
    head = backbone("nextlat", rows).heads[0]
    states = random_states(rows).requires_grad_()
    embedding, unembedding = untied(rows)
    loss = head.auxiliary(states, only_view("nextlat", rows), embedding, Output(unembedding.weight))
    (unembedded,) = torch.autograd.grad(
        loss, [unembedding.weight], retain_graph=True, allow_unused=True
    )
    assert unembedded is None
    (grad,) = torch.autograd.grad(loss, [states])
    moved = grad.abs().sum(-1) > 0
    first = PATHS.prompt - 1
    assert moved[:, first : first + 3].all()
    assert not moved[:, first + 3 :].any(), "the last state that predicts is only ever guessed"
    assert not moved[:, :first].any()
    with torch.no_grad():
        states[:, first + 3] += 1
    other = head.auxiliary(
        states, only_view("nextlat", rows), embedding, Output(unembedding.weight)
    )
    assert abs(other.item() - loss.item()) > 1e-3, "though the loss is about it"


def test_a_guess_never_leaves_its_row_or_document() -> None:
    rows = text(3, 18)
    spec = "nextlat(horizon=4)"
    head = backbone(spec, rows).heads[0]
    embedding, unembedding = untied(rows)
    view, states = only_view(spec, rows), random_states(rows).requires_grad_()

    def loss_and_gradient(view: View) -> tuple[float, Tensor]:
        loss = head.auxiliary(states, view, embedding, Output(unembedding.weight))
        return loss.item(), torch.autograd.grad(loss, [states])[0]

    assert rows.documents is not None
    whole, gradient = loss_and_gradient(view)
    place = rows.documents.flatten()[view.pairs.state] + 2 * (view.pairs.state // 18)
    parts = []
    for number in place.unique().tolist():
        here = place == number
        part = Pairs(*(column[here] for column in vars(view.pairs).values()))
        parts.append(loss_and_gradient(replace(view, pairs=part))[0])
    assert len(parts) == 6
    assert whole == pytest.approx(sum(parts), rel=1e-6)
    other = (rows.documents == 0) & (torch.arange(3) == 1)[:, None]  # one document of the six
    with torch.no_grad():
        states[~other] += 1.0
    ids = torch.where(other, view.shown.input_ids, (view.shown.input_ids + 1) % VOCABULARY)
    changed = loss_and_gradient(replace(view, shown=replace(view.shown, input_ids=ids)))[1]
    assert changed[other].equal(gradient[other])
    assert not changed[~other].equal(gradient[~other])


# ------------------------------------------------------------------------------------------ beliefs


@pytest.mark.parametrize("batch", ["paths", "hops", "text"])
@pytest.mark.parametrize("layers", [1, 2])
def test_beliefs_have_the_loss_and_the_gradient_of_all_pairs_one_by_one(
    batch: str, layers: int
) -> None:
    """Rows with a prompt, and whole rows of text, where everything after BOS is a target."""
    rows = text(2, 9, packed=False, padded=False) if batch == "text" else BATCHES[batch]()
    spec = f"bst(layers={layers})"
    head = backbone(spec, rows).heads[0]
    states = random_states(rows).requires_grad_()
    embedding, unembedding = untied(rows)
    wanted = [states, embedding, unembedding.weight, *head.parameters()]
    loss = head.auxiliary(states, only_view(spec, rows), embedding, Output(unembedding.weight))
    plain = naive_belief(head, states, rows, embedding, unembedding.weight)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    ours, theirs = (
        torch.autograd.grad(total, wanted, retain_graph=True) for total in (loss, plain)
    )
    for found, expected in zip(ours, theirs, strict=True):
        assert expected.any()
        assert_close(found, expected)


def test_a_suffix_has_read_only_what_stands_behind_it() -> None:
    rows = problems(PATHS, 2)
    head = backbone("bst", rows).heads[0]
    states = random_states(rows)
    embedding, unembedding = untied(rows)
    seen: list[Tensor] = []
    head.join.register_forward_pre_hook(lambda module, given: seen.append(given[0]))

    def suffixes(batch: Batch) -> Tensor:
        """(A, D): the suffix that was joined to prefixes of the first row behind each answer
        token.
        """
        seen.clear()
        head.auxiliary(states, only_view("bst", batch), embedding, Output(unembedding.weight))
        (joined,) = seen
        width = states.shape[-1]
        found = []
        for j in range(PATHS.answer):
            behind = []
            for i in range(j + 1):
                prefix = states[0, PATHS.prompt + i - 1]
                of_prefix = joined[(joined[:, :width] == prefix).all(1), width:]
                assert len(of_prefix) == PATHS.answer - i, (
                    "a prefix meets every suffix that does not overlap"
                )
                behind.append(of_prefix[j - i])
            assert all(state.equal(behind[0]) for state in behind)
            expected = naive_suffix(head, batch, 0, PATHS.prompt + j, embedding)
            assert torch.allclose(behind[0], expected, atol=1e-12)
            found.append(behind[0])
        return torch.stack(found)

    before = suffixes(rows)
    for changed in range(PATHS.answer):
        tokens = rows.tokens.clone()
        tokens[0, PATHS.prompt + changed] = PATHS.symbols  # "|", which stands in no answer
        apart = (suffixes(replace(rows, tokens=tokens)) - before).abs().amax(1)
        assert (apart[changed:] < 1e-12).all()
        assert (apart[:changed] > 1e-6).all()


# ---------------------------------------------------------------------------------------- backbones


def naive_auxiliary(model: Backbone, number: int, states: Tensor, batch: Batch) -> Tensor:
    head, table = model.heads[number - 1], model.embedding.weight
    naive = naive_next_states if isinstance(head, NextLatentHead) else naive_belief
    return naive(head, states, batch, table, model.unembedding.weight)


@pytest.mark.parametrize("batch", ["paths", "hops"])
@pytest.mark.parametrize("weight", [1.0, 0.3])
@pytest.mark.parametrize(
    "spec", ["nextlat(horizon=2, weight={})", "bst(weight={})", "bst(layers=2, weight={})"]
)
def test_a_step_is_the_next_tokens_loss_and_the_weighted_auxiliary_loss(
    spec: str, weight: float, batch: str
) -> None:
    rows = BATCHES[batch]()
    spec = spec.format(weight)
    model, view = backbone(spec, rows), only_view(spec, rows)
    loss, (reported,) = objective_loss(model, spec, (view,), (0.25,))
    states = model.states(view.shown)
    near = naive_cross_entropy(states, rows, model.unembedding.weight)
    plain = 0.25 * (near + weight * naive_auxiliary(model, 1, states, rows))
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    assert reported.item() == pytest.approx(near.item(), rel=1e-9), (
        "what is logged is the next token's"
    )
    names, parameters = zip(*model.named_parameters(), strict=True)
    ours, theirs = (torch.autograd.grad(total, parameters) for total in (loss, plain))
    for name, found, expected in zip(names, ours, theirs, strict=True):
        assert expected.any(), name
        assert_close(found, expected)


def test_heads_of_a_mixture_take_their_own_rows() -> None:
    rows = problems(PATHS, 16)
    objective = parse("nextlat + 3*bst(weight=0.5)")
    model = backbone(objective.spec, rows)
    views = objective.view(rows, 0, 0)
    loss, _ = objective_loss(model, objective, views, (0.7, 0.1))
    drawn = [len(view.shown.input_ids) for view in views]
    assert min(drawn) > 0
    assert sum(drawn) == 16
    plain = torch.zeros(())
    for number, (view, scale, weight) in enumerate(
        zip(views, (0.7, 0.1), (1, 0.5), strict=True), start=1
    ):
        own = rows.take(
            torch.tensor([rows.tokens.tolist().index(row) for row in view.shown.input_ids.tolist()])
        )
        states = model.states(view.shown)
        near = naive_cross_entropy(states, own, model.unembedding.weight)
        plain = plain + scale * (near + weight * naive_auxiliary(model, number, states, own))
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)


@pytest.mark.parametrize("spec", ["nextlat(horizon=3)", "bst"])
def test_micro_batches_of_problems_add_up_to_one_batch(spec: str) -> None:
    rows = problems(PATHS, 6)
    model = backbone(spec, rows)
    parts = [only_view(spec, rows.take(torch.tensor(part))) for part in ([0], [1, 2], [3, 4, 5])]
    alone = sum(objective_loss(model, spec, (view,), (0.5,))[0].item() for view in parts)
    assert objective_loss(model, spec, (only_view(spec, rows),), (0.5,))[0].item() == pytest.approx(
        alone, rel=1e-5
    )


def test_a_matched_second_encoder_takes_layers_from_the_trunk() -> None:
    def layers(spec: str) -> tuple[int, int]:
        model = backbone(spec, problems(SMALL, 1))
        return model.lm.config.num_hidden_layers, len(model.heads[0].encoder.layers)

    assert layers("bst") == (4, 1)
    assert layers("bst(matched=True)") == (3, 1)
    assert layers("bst(layers=2, matched=True)") == (2, 2)
    with pytest.raises(UserError, match="would replace all 4 layers"):
        layers("bst(layers=4, matched=True)")

    def in_layers(module: nn.Module) -> int:
        return sum(p.numel() for name, p in module.named_parameters() if "layers." in name)

    whole, matched = (backbone(spec, problems(SMALL, 1)) for spec in ("ar", "bst(matched=True)"))
    assert in_layers(matched.lm) + in_layers(matched.heads) == in_layers(whole.lm)


@pytest.mark.parametrize("batch", ["paths", "hops", "packed and padded"])
def test_the_cost_of_heads_is_finite_and_grows_with_them(batch: str) -> None:
    rows = BATCHES[batch]()

    def cost(spec: str) -> float:
        (component,) = parse(spec).components()
        return view_flops(backbone(spec, rows), component, only_view(spec, rows))

    plain = cost("ar")
    ahead = [cost(f"nextlat(horizon={horizon})") - plain for horizon in (1, 2, 4)]
    assert 0 < ahead[0] < math.inf
    targets = len(only_view("ar", rows).pairs) / len(rows.tokens)  # per row; a guess ends with them
    guesses = [
        sum(max(targets - step, 0) for step in range(1, horizon + 1)) for horizon in (1, 2, 4)
    ]
    assert ahead == pytest.approx([ahead[0] * count / guesses[0] for count in guesses])
    assert plain < cost("bst") < cost("bst(layers=2)") < math.inf
    assert backbone("bst", rows).heads[0].flops(torch.zeros(0), 0, 8) == 0


# ---------------------------------------------------------------------------------- written answers

WAYS = [
    ("ar", "one by one"),
    ("reverse", "one by one"),
    ("nextlat", "one by one"),
    ("bst", "one by one"),
    ("prefixlm", "one by one"),
    ("teacherless", "parallel"),
    ("teacherless", "one by one"),
    ("vmlm", "confident first"),
    *(
        (spec, way)
        for spec in ("mdlm", "mlm(rate=0.5)")
        for way in ("confident first", "one by one", "parallel")
    ),
    ("ar + teacherless", "parallel"),
    ("teacherless >> reverse", "one by one"),
    ("ar + mdlm", "confident first"),
]
CAUSAL_WAYS = [
    pair
    for pair in WAYS
    if pair[1] == "one by one" and pair[0] in ("ar", "reverse", "nextlat", "bst")
]


def reader(spec: str, way: str, task: Task = SMALL, noise: float = 0.3) -> Reader:
    """A reader of a model whose random weights are large enough for it to answer each problem in
    its own way.
    """
    return Reader(backbone(spec, problems(task, 1), noise=noise), parse(spec), task, way)


def truth(batch: Batch, task: Task = SMALL) -> Tensor:
    return batch.tokens[:, task.prompt :]


def with_answers(batch: Batch, given: Tensor, task: Task = SMALL) -> Batch:
    return replace(batch, tokens=torch.cat([batch.tokens[:, : task.prompt], given], 1))


def generated(model: Backbone, batch: Batch, task: Task = SMALL) -> Tensor:
    """What transformers writes after the prompt."""
    prompt = batch.tokens[:, : task.prompt]
    tokens = model.lm.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=task.answer,
        suppress_tokens=[task.vocabulary.mask],
    )
    return tokens[:, task.prompt :]


def naive_law(given: Reader, shown: Tensor, place: int) -> Tensor:
    """Log-probabilities (V,) of one place of one answer: a bidirectional or prefix model sees a row
    (T,) by itself.
    """
    prompt, width = given.task.prompt, len(shown)
    kind, shift = given.objective.modes()[-1]
    sees = torch.ones(1, width, width, dtype=torch.bool)
    if kind != "bidirectional":
        for i in range(width):
            for j in range(width):
                sees[0, i, j] = j <= i or (kind == "prefix" and i < prompt and j < prompt)
    states = given.backbone.states(Shown(shown[None], Attention("dense", allowed=sees)))
    logits = given.backbone.unembedding.weight @ states[0, prompt + place - shift]
    logits[given.task.vocabulary.mask] = -math.inf
    return logits - logits.logsumexp(0)


@torch.no_grad()
def naive_written(given: Reader, batch: Batch) -> Tensor:
    task, found = given.task, []
    for row in batch.tokens:
        shown = torch.cat([row[: task.prompt], torch.full((task.answer,), task.vocabulary.mask)])
        if given.way == "parallel":
            found.append(
                [int(naive_law(given, shown, place).argmax()) for place in range(task.answer)]
            )
            continue
        left = list(range(task.answer))
        while left:
            laws = {place: naive_law(given, shown, place) for place in left}
            chosen = (
                max(left, key=lambda place: float(laws[place].max()))
                if given.way == "confident first"
                else left[0]
            )
            shown[task.prompt + chosen] = laws[chosen].argmax()
            left.remove(chosen)
        found.append(shown[task.prompt :].tolist())
    return torch.tensor(found)


@torch.no_grad()
def naive_forced(given: Reader, batch: Batch) -> Tensor:
    """In the order of the text."""
    task, found = given.task, []
    for row in batch.tokens:
        answer = []
        for place in range(task.answer):
            shown = row.clone()
            shown[task.prompt + (0 if given.way == "parallel" else place) :] = task.vocabulary.mask
            answer.append(int(naive_law(given, shown, place).argmax()))
        found.append(answer)
    return torch.tensor(found)


@pytest.mark.parametrize(("spec", "way"), CAUSAL_WAYS)
@pytest.mark.parametrize("task", [SMALL, PATHS, HOPS], ids=lambda task: task.spec)
def test_causal_models_write_what_transformers_generates(
    spec: str, way: str, task: PathStar
) -> None:
    given, batch = reader(spec, way, task), problems(task, 30)
    expected = generated(given.backbone, batch, task)
    assert len(expected.unique(dim=0)) > 5, "or there is nothing to tell apart"
    written = given.written(batch)
    assert written.equal(expected.flip(1) if spec == "reverse" else expected)


IN_TEXT_ORDER = [
    pair for pair in WAYS if pair[0] in ("ar", "prefixlm", "teacherless", "mdlm", "mlm(rate=0.5)")
]


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "way"), IN_TEXT_ORDER)
def test_answers_are_those_of_one_place_after_the_other_in_one_row_after_the_other(
    spec: str, way: str
) -> None:
    given, batch = reader(spec, way), problems(SMALL, 8)
    expected = naive_written(given, batch)
    assert len(expected.unique(dim=0)) > 3
    assert given.written(batch).equal(expected)
    assert given.forced(batch).equal(naive_forced(given, batch))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "way"),
    [
        pair
        for pair in WAYS
        if pair[1] == "parallel" or pair in CAUSAL_WAYS or pair[0] == "prefixlm"
    ],
)
def test_forced_answers_are_right_in_all_places_if_and_only_if_written_ones_are(
    spec: str, way: str
) -> None:
    given, batch = reader(spec, way), problems(SMALL, 60)
    written = given.written(batch)
    row = torch.arange(60)
    nearly = written.clone()  # every third problem is solved, every third has one wrong token
    place = row % SMALL.answer
    nearly[row, place] = (written[row, place] + 1 + row % 4) % SMALL.symbols
    answer = torch.where(
        (row % 3 == 0)[:, None], written, torch.where((row % 3 == 1)[:, None], nearly, truth(batch))
    )
    told = with_answers(batch, answer)
    right = (given.forced(told) == answer).all(1)
    assert right.equal((given.written(told) == answer).all(1))
    assert right[0::3].all()
    assert not right[1::3].any()
    shares, solved = given.accuracy(told)
    assert solved == pytest.approx(float(right.double().mean()))
    assert shares == pytest.approx(
        [float((given.forced(told)[:, p] == answer[:, p]).double().mean()) for p in range(3)]
    )


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["mdlm", "mlm(rate=0.5)"])
def test_masked_models_are_scored_by_what_they_write(spec: str) -> None:
    """Being right in every place, given the true tokens before it, does not mean that they would
    write the answer.
    """
    given, batch = reader(spec, "confident first"), problems(SMALL, 40)
    told = with_answers(
        batch, torch.where((torch.arange(40) % 4 > 0)[:, None], given.written(batch), truth(batch))
    )
    shares, solved = given.accuracy(told)
    assert solved == pytest.approx(
        float((given.written(told) == truth(told)).all(1).double().mean())
    )
    assert 0.75 <= solved < 1
    right = given.forced(told) == truth(told)
    assert shares == pytest.approx(
        [float(right[:, place].double().mean()) for place in range(SMALL.answer)]
    )


@pytest.mark.parametrize(("spec", "way"), WAYS)
def test_what_is_written_never_depends_on_the_true_answer(spec: str, way: str) -> None:
    given, batch = reader(spec, way), problems(SMALL, 20)
    generator = torch.Generator().manual_seed(0)
    other = torch.randint(SMALL.vocabulary.size - 1, truth(batch).shape, generator=generator)
    assert not (other == truth(batch)).all(1).any()
    assert given.written(with_answers(batch, other)).equal(given.written(batch))
    if way == "parallel":
        assert given.forced(with_answers(batch, other)).equal(given.written(batch))


@pytest.mark.parametrize(("spec", "way"), WAYS)
def test_the_dummy_is_never_an_answer(spec: str, way: str) -> None:
    given, batch = reader(spec, way), problems(SMALL, 20)
    dummy = SMALL.vocabulary.mask
    with torch.no_grad():
        given.backbone.unembedding.weight[dummy] *= (
            30  # in every other state it is by far the likeliest
        )
        views = parse(spec).at(1.0).view(batch, 0, 0)
        plain = torch.cat(
            [
                given.backbone.log_probabilities(view.shown, view.pairs.state).argmax(-1)
                for view in views
            ]
        )
    assert (plain == dummy).any()
    for found in (given.written(batch), given.forced(batch)):
        assert found.shape == (20, SMALL.answer)
        assert not (found == dummy).any()


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "way"), WAYS)
def test_answers_do_not_depend_on_the_rows_of_a_pass(
    spec: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, batch = reader(spec, way), problems(SMALL, 20)
    written, forced = given.written(batch), given.forced(batch)
    monkeypatch.setattr(answers_module, "ROWS_PER_PASS", 7)
    assert given.written(batch).equal(written)
    assert given.forced(batch).equal(forced)


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_left_in_the_mode_it_was_in(training: bool) -> None:
    batch = problems(SMALL, 3)
    for spec, way in (
        ("ar", "one by one"),
        ("mdlm", "confident first"),
        ("teacherless", "parallel"),
    ):
        given = reader(spec, way)
        given.backbone.train(training)
        tokens = batch.tokens.clone()
        given.written(batch)
        given.forced(batch)
        assert given.backbone.training == training
        assert given.backbone.lm.training == training
        assert batch.tokens.equal(tokens)


# ----------------------------------------------------------------------------------- told backbones


class Told(nn.Module):
    """A backbone of one's own making: rule(shown (B, T)) is the log-probabilities (B, A, V) of the
    answers' places.
    """

    device = torch.device("cpu")

    def __init__(self, task: Task, rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.task, self.rule = task, rule
        self.shown: list[Tensor] = []

    def log_probabilities(
        self, shown: Shown, state: Tensor, forbidden: Tensor | None = None
    ) -> Tensor:
        assert not self.training
        assert forbidden is not None
        assert forbidden.tolist() == [self.task.vocabulary.mask]
        self.shown.append(shown.input_ids.clone())
        width = self.task.width
        target = state + 1  # all that are told here have shift 1
        return self.rule(shown.input_ids)[target // width, target % width - self.task.prompt]


def certain(tokens: Tensor, certainty: Tensor, size: int) -> Tensor:
    """Log-probabilities (.., V): `certainty` (..) for a token (..), the rest shared out evenly."""
    laws = ((1 - certainty) / (size - 1))[..., None].expand(*tokens.shape, size)
    return laws.scatter(-1, tokens[..., None], certainty[..., None]).log()


def test_reversed_answers_come_back_in_the_order_of_the_text() -> None:
    batch = problems(PATHS, 5)
    reversed_tokens = torch.arange(PATHS.answer).expand(5, -1)  # the n-th that it writes is n

    def rule(shown: Tensor) -> Tensor:
        return certain(
            reversed_tokens, torch.tensor(0.9).expand(5, PATHS.answer), PATHS.vocabulary.size
        )

    model = Told(PATHS, rule)
    given = Reader(model, parse("reverse"), PATHS, "one by one")  # type: ignore[arg-type]
    assert given.written(batch).equal(reversed_tokens.flip(1))
    for number, shown in enumerate(model.shown):
        assert shown[:, : PATHS.prompt].equal(batch.tokens[:, : PATHS.prompt])
        assert shown[:, PATHS.prompt :][:, :number].equal(reversed_tokens[:, :number])
        assert (shown[:, PATHS.prompt + number :] == PATHS.vocabulary.mask).all()
    model.shown.clear()
    assert given.forced(batch).equal(reversed_tokens.flip(1))
    (shown,) = model.shown
    assert shown[:, : PATHS.prompt].equal(batch.tokens[:, : PATHS.prompt])
    assert shown[:, PATHS.prompt :].equal(truth(batch, PATHS).flip(1))


def test_the_most_certain_place_is_written_first_and_one_in_a_pass() -> None:
    batch = problems(PATHS, 6)
    generator = torch.Generator().manual_seed(0)
    certainty = 0.3 + 0.1 * torch.stack(
        [torch.randperm(PATHS.answer, generator=generator) for _ in range(6)]
    )
    dummy = PATHS.vocabulary.mask

    def rule(shown: Tensor) -> Tensor:
        """Every place is said to hold the number of tokens that are written already, as surely as
        ever.
        """
        done = (shown[:, PATHS.prompt :] != dummy).sum(1, keepdim=True)
        return certain(done.expand(6, PATHS.answer), certainty, PATHS.vocabulary.size)

    model = Told(PATHS, rule)
    written = Reader(model, parse("mdlm"), PATHS, "confident first").written(batch)  # type: ignore[arg-type]
    for row in range(6):
        order = sorted(range(PATHS.answer), key=lambda place: -float(certainty[row, place]))
        assert [int(written[row, place]) for place in order] == [0, 1, 2, 3]
    assert len({tuple(row) for row in written.tolist()}) > 2
    counts = [(shown[:, PATHS.prompt :] != dummy).sum(1).unique().tolist() for shown in model.shown]
    assert counts == [[0], [1], [2], [3]]


def test_certainty_is_asked_again_after_every_token() -> None:
    """What is written at one place makes another certain: the places follow one another as the
    tokens say.
    """
    batch = problems(PATHS, 1)
    follows = {
        None: (2, 5),
        2: (0, 6),
        0: (3, 4),
        3: (1, 7),
    }  # after a place: the next one, and its token

    def rule(shown: Tensor) -> Tensor:
        last = None
        for place, token in follows.values():
            if shown[0, PATHS.prompt + place] == token:
                last = place
        tokens, sure = torch.zeros(1, 4, dtype=torch.int64), torch.full((1, 4), 0.3)
        if last != 1:
            place, token = follows[last]
            tokens[0, place], sure[0, place] = token, 0.9
        return certain(tokens, sure, PATHS.vocabulary.size)

    given = Reader(Told(PATHS, rule), parse("mdlm"), PATHS, "confident first")  # type: ignore[arg-type]
    assert given.written(batch).tolist() == [[6, 7, 5, 4]]


# ---------------------------------------------------------------------------------- the target part

REARRANGED = {
    **BATCHES,
    "packed": lambda: text(padded=False),
    "padded": lambda: text(packed=False),
    "small": lambda: problems(SMALL, 8),
}


def naive_reversed(batch: Batch) -> Tensor:
    tokens = batch.tokens.clone()
    for row in range(len(tokens)):
        for number in {document(batch, row, at) for at in range(tokens.shape[1])}:
            places = [
                at
                for at in range(tokens.shape[1])
                if document(batch, row, at) == number and may_be_target(batch, row, at)
            ]
            for place, other in zip(places, reversed(places), strict=True):
                tokens[row, place] = batch.tokens[row, other]
    return tokens


@pytest.mark.parametrize("batch", REARRANGED)
def test_reverse_turns_the_target_part_of_each_document_and_nothing_else(batch: str) -> None:
    rows = REARRANGED[batch]()
    objective = parse("reverse")
    turned = objective.arranged(rows)
    assert turned.tokens.equal(naive_reversed(rows))
    assert not turned.tokens.equal(rows.tokens)
    fixed = ~rows.eligible  # prompts, BOS and padding
    assert turned.tokens[fixed].equal(rows.tokens[fixed])
    assert objective.arranged(turned).tokens.equal(rows.tokens), "done twice, it is the batch again"
    view = only_view("reverse", rows)
    assert view.shown.input_ids.equal(turned.tokens)
    assert view.pairs.target.equal(turned.tokens.flatten()[view.pairs.state + view.pairs.offset])
    plain = only_view("ar", rows)
    assert view.pairs.state.equal(plain.pairs.state)
    assert sorted(view.pairs.target.tolist()) == sorted(plain.pairs.target.tolist())


@pytest.mark.parametrize("batch", REARRANGED)
def test_teacherless_models_are_shown_no_target(batch: str) -> None:
    rows = REARRANGED[batch]()
    view, plain = only_view("teacherless", rows), only_view("ar", rows)
    target = torch.zeros_like(rows.tokens, dtype=torch.bool)
    target.view(-1)[view.pairs.state + view.pairs.offset] = True
    assert (view.shown.input_ids[target] == rows.vocabulary.mask).all()
    assert view.shown.input_ids[~target].equal(rows.tokens[~target])
    for column in ("state", "target", "offset", "weight"):
        assert getattr(view.pairs, column).equal(getattr(plain.pairs, column)), (
            "what is scored is that of ar"
        )


def test_a_mixture_hides_targets_in_some_rows_and_shows_them_in_others() -> None:
    rows = problems(PATHS, 40)
    objective = parse("ar + teacherless")
    assert objective.prompted
    assert objective.decodings() == ("one by one", "parallel")
    now = objective.at(0.3)
    assert now.prompted
    assert now.decodings() == ("one by one", "parallel")
    shown, hidden = now.view(rows, 0, 0)
    assert [component.coefficient for component in now.components()] == [0.5, 0.5]
    assert (hidden.shown.input_ids[:, PATHS.prompt :] == PATHS.vocabulary.mask).all()
    assert not (shown.shown.input_ids == PATHS.vocabulary.mask).any()
    prompts = torch.cat([shown.shown.input_ids, hidden.shown.input_ids])[:, : PATHS.prompt]
    assert sorted(prompts.tolist()) == sorted(rows.tokens[:, : PATHS.prompt].tolist())
    assert len(shown.pairs) + len(hidden.pairs) == 40 * PATHS.answer


def test_a_sequence_hides_targets_first_and_shows_them_later() -> None:
    rows = problems(PATHS, 10)
    objective = parse("teacherless >> ar")
    assert objective.prompted
    assert objective.decodings() == ("parallel", "one by one")
    (early,), (late,) = (objective.at(progress).view(rows, 0, 0) for progress in (0.2, 0.7))
    assert (early.shown.input_ids[:, PATHS.prompt :] == PATHS.vocabulary.mask).all()
    assert late.shown.input_ids.equal(rows.tokens)
    assert objective.at(0.2).decodings() == ("parallel", "one by one")
    assert objective.at(1.0).decodings() == ("one by one",), "it is read as it was trained last"
    assert parse("ar >> reverse").at(1.0).arranged(rows).tokens.equal(naive_reversed(rows))
    assert parse("reverse >> ar").at(1.0).arranged(rows).tokens.equal(rows.tokens)


@pytest.mark.parametrize(
    ("spec", "ways"),
    [
        ("ar", ("one by one",)),
        ("reverse", ("one by one",)),
        ("prefixlm", ("one by one",)),
        ("nextlat", ("one by one",)),
        ("bst", ("one by one",)),
        ("teacherless", ("parallel", "one by one")),
        ("mdlm", ("confident first", "one by one", "parallel")),
        ("vmlm", ("confident first", "one by one", "parallel")),
    ],
)
def test_the_first_way_to_write_is_the_objectives_own(spec: str, ways: tuple[str, ...]) -> None:
    assert parse(spec).decodings() == ways


# ---------------------------------------------------------------------------------- learning curves


def curve(path: Path, solved: list[float], places: list[list[float]] | None = None) -> Curve:
    """A curve with a point every 10 steps."""
    found = Curve(path / "curve.json")
    for number, share in enumerate(solved):
        positions = [share] if places is None else places[number]
        found.add(
            {
                "step": 10 * (number + 1),
                "seconds": 1.0,
                "exact_match": share,
                "positions": positions,
            }
        )
    return found


def test_a_curve_lives_in_its_file_and_is_cut_where_a_run_goes_on(tmp_path: Path) -> None:
    written = curve(tmp_path, [0.1, 0.2, 0.3, 0.4])
    assert Curve(tmp_path / "curve.json").entries == written.entries
    again = Curve(tmp_path / "curve.json")
    again.cut(20)
    assert [entry["step"] for entry in again.entries] == [10, 20]
    again.cut(25)
    assert [entry["step"] for entry in again.entries] == [10, 20]
    again.add({"step": 30, "seconds": 2.0, "exact_match": 0.9, "positions": [0.9]})
    kept = json.loads((tmp_path / "curve.json").read_text())["curve"]
    assert [(entry["step"], entry["exact_match"]) for entry in kept] == [
        (10, 0.1),
        (20, 0.2),
        (30, 0.9),
    ]
    again.cut(0)
    assert again.entries == []


@pytest.mark.parametrize(
    ("points", "stop_at", "ends"),
    [
        ([], 0.9, False),
        ([1.0], 0.9, False),
        ([0.1, 1.0], 0.9, False),
        ([1.0, 0.1], 0.9, False),
        ([0.9, 0.9], 0.9, True),
        ([0.1, 1.0, 1.0], 0.9, True),
        ([1.0, 1.0, 0.5], 0.9, False),
        ([1.0, 1.0], None, False),
        ([1.0, 0.99], 1.0, False),
    ],
)
def test_two_points_in_a_row_end_a_run(
    points: list[float], stop_at: float | None, ends: bool, tmp_path: Path
) -> None:
    assert curve(tmp_path, points).solved(stop_at) is ends


@pytest.mark.parametrize(
    ("points", "stop_at", "step"),
    [
        ([], 0.9, None),
        ([0.1, 0.5], 0.9, None),
        ([0.1, 0.9, 1.0], 0.9, 20),
        ([0.9, 0.95], 0.9, 10),
        ([0.9, 0.1, 0.9], 0.9, 30),
        ([0.9, 0.9, 0.1], 0.9, None),
        ([0.94, 0.95, 0.96], None, 20),
        ([0.94, 0.5, 0.94], None, None),
    ],
)
def test_a_problem_is_solved_at_the_step_from_which_on_it_stays_so(
    points: list[float], stop_at: float | None, step: int | None, tmp_path: Path
) -> None:
    assert curve(tmp_path, points).solved_at(stop_at) == step


def test_a_place_is_learned_at_the_first_step_that_gets_it_right(tmp_path: Path) -> None:
    places = [[0.96, 0.1, 0.0], [0.2, 0.95, 0.5], [0.99, 0.3, 0.949]]
    assert curve(tmp_path, [0.0, 0.1, 0.2], places).learned_at() == [10, 20, None]
    assert Curve(tmp_path / "none.json").learned_at() == []


@pytest.mark.parametrize(
    ("points", "chance", "step"),
    [
        ([], 0.5, None),
        ([0.5, 0.54], 0.5, None),
        ([0.5, 0.56, 0.9], 0.5, 20),
        ([0.9, 0.5, 0.9], 0.5, 30),
        ([0.9, 0.5], 0.5, None),
        ([0.9, 1.0], math.nan, None),
    ],
)
def test_a_run_has_left_chance_where_it_stays_above_guessing(
    points: list[float], chance: float, step: int | None, tmp_path: Path
) -> None:
    assert curve(tmp_path, points).left_chance_at(chance) == step
