"""Objectives: what views show and score, that draws are keyed by row alone, the algebra, and
contexts against counts.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy import stats

from lookaround.objectives import (
    AR,
    DAR,
    MDLM,
    MLM,
    VMLM,
    Batch,
    Component,
    Linear,
    Mode,
    Objective,
    Pairs,
    PrefixLM,
    View,
    Vocabulary,
    parse,
    parse_list,
)
from lookaround.objectives.checks import (
    check_laws,
    check_objective,
    check_views,
    random_batch,
)
from lookaround.objectives.laws import Ahead, Law
from lookaround.support.errors import UserError
from lookaround.support.randomness import keyed_uniform, stream_number
from lookaround.theory.law import contexts, patterns

SPECS = [
    "ar",
    "ar(rate=0.3)",
    "dar(rate=0.5, horizon=4)",
    "mlm",
    "mlm(rate=0.4)",
    "mlm(rate=0.3, shift=1)",
    "dar",
    'dar(horizon=4, share=1, law="harmonic")',
    "vmlm",
    'vmlm(low=0.1, high=0.7, law="quadratic", suffix=0.5)',
    "vmlm(suffix=0, shift=0)",
    "vmlm(suffix=1, near=1)",
    'vmlm(law="cosine", near=0.5)',
    "prefixlm",
    "mdlm",
    'mdlm(weight="elbo")',
    "ar + mlm",
    "ar + 3*vmlm",
    "mlm + 2*dar + prefixlm",
    "mtp",
    "mtp(n=3, weights=0.5)",
    "mtp(n=4, weights=(1, 0, 0.75, 0.5))",
    "mtp(n=1)",
    "top",
    "mtp + dar + top",
    "reverse",
    "teacherless",
    "nextlat",
    "bst",
    "ar + 2*reverse",
    "teacherless + nextlat",
]
SPECS += [name for name in Objective.registry if name not in SPECS]  # whatever file was added


COMBINED = [spec for spec in SPECS if "+" in spec]
SINGLE = [spec for spec in SPECS if "+" not in spec]


def pairs(view: View) -> tuple[torch.Tensor, torch.Tensor]:
    """(row, target position) of the scored pairs."""
    width = view.shown.input_ids.shape[1]
    return view.pairs.state // width, view.pairs.state % width + view.pairs.offset


# ---------------------------------------------------------------------------------- every objective


@pytest.mark.slow
@pytest.mark.parametrize("spec", SINGLE)
def test_every_objective_passes_the_checks(spec: str) -> None:
    check_objective(parse(spec))


@pytest.mark.parametrize("spec", COMBINED)
def test_views_of_a_mixture_pass_the_checks(spec: str) -> None:
    check_views(parse(spec))


@pytest.mark.slow
def test_the_checks_take_an_objective_apart() -> None:
    check_objective(parse("0.25*ar >> 0.75*mlm(rate=linear(0.4, 0.1))"))
    parts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "lookaround.objectives.checks.check_laws", lambda part: parts.append(part.spec)
        )
        check_objective(parse("0.5*ar + mlm >> dar"))
    assert parts == ["ar", "mlm", "dar"]


def altered(view: View, **columns: torch.Tensor) -> tuple[View]:
    return (replace(view, pairs=replace(view.pairs, **columns)),)


class Broken(MLM):
    """Masked language modelling that is wrong in one way."""

    def __init__(self, how: str) -> None:
        super().__init__(rate=0.5)
        object.__setattr__(self, "how", how)

    @property
    def spec(self) -> str:
        return f"mlm broken by {self.how}"

    def modes(self) -> tuple[Mode, ...]:
        return (Mode("bidirectional", int(self.how == "its modes")),)

    def laws(self) -> tuple[Law, ...]:
        return MLM(rate=0.4).laws() if self.how == "its laws" else super().laws()

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        if self.how == "places":  # draws by the place in the batch instead of the row
            batch = replace(batch, row=torch.arange(len(batch.row)))
        if self.how == "epochs":
            epoch = 0
        if self.how == "padding":
            batch = replace(batch, scorable=None, documents=None)
        (view,) = super().view(batch, seed, epoch)
        match self.how:
            case "targets":
                return altered(view, target=view.pairs.target + 1)
            case "documents":
                width = batch.tokens.shape[1]
                state = view.pairs.state // width * width
                return altered(view, state=state, offset=view.pairs.state - state)
            case "weights":
                return altered(view, weight=view.pairs.weight - 1)
            case "borders":
                return (replace(view, shown=replace(view.shown, documents=None)),)
            case "components":
                return (view, view)
        return (view,)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("places", "by those beside it"),
        ("epochs", "by the seed or by the epoch, but not by both"),
        ("targets", "not the row's token"),
        ("padding", "BOS, padding or a prompt"),
        ("documents", "another document"),
        ("weights", "not above 0"),
        ("borders", "where documents end"),
        ("components", "a view a component"),
        ("its modes", "no mode of bidirectional attention with shift 0"),
    ],
)
def test_the_checks_find_what_is_wrong_with_views(how: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_views(Broken(how))


@pytest.mark.slow
def test_the_checks_find_wrong_laws() -> None:
    """Rates of 0.4 and 0.5 are told apart by patterns; a law of lags alone, by lags."""
    with pytest.raises(AssertionError, match=r"\(target, visible or not ...\)"):
        check_laws(Broken("its laws"))

    class Far(Ahead):
        def lags(self, *arguments: int, **options: int) -> dict:
            return Ahead(2).lags(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AR, "laws", lambda self: (Far(1),))
        with pytest.raises(AssertionError, match=r"lag \((1|2),\)"):
            check_laws(AR())
        patch.setattr(AR, "name", "mlm")
        with pytest.raises(AssertionError, match="not what its spec makes"):
            check_objective(AR())


def nearest_visible(target: int, visible: list[int], nearest: int) -> dict:
    """{signed lags: share} of the `nearest` nearest visible positions by brute force: ties for the
    last place are split.
    """
    order = sorted(visible, key=lambda position: abs(target - position))
    chosen, rest = order[:nearest], order[nearest:]
    tied = bool(chosen and rest) and abs(target - chosen[-1]) == abs(target - rest[0])
    choices = [chosen, [*chosen[:-1], rest[0]]] if tied else [chosen]
    found: dict = {}
    for choice in choices:
        key = tuple(sorted((target - position for position in choice), reverse=True))
        key = key[0] if nearest == 1 else key
        found[key] = found.get(key, 0.0) + 1 / len(choices)
    return found


@pytest.mark.parametrize("spec", [*SINGLE, "mlm + 2*dar + prefixlm"])
def test_contexts_are_the_patterns_condensed(spec: str) -> None:
    """Two derivations of one law: distance by distance, and every visibility pattern listed."""
    objective = parse(spec)
    for length, nearest in itertools.product((2, 3, 8), (1, 2, 3)):
        expected: dict = {}
        for (target, visible), mass in patterns(objective, length).items():
            for key, share in nearest_visible(target, list(visible), nearest).items():
                expected[key] = expected.get(key, 0.0) + share * mass
        found = contexts(objective, nearest, length)
        assert sum(found.values()) == pytest.approx(1)
        assert found == pytest.approx(expected, abs=1e-12)
        near = contexts(objective, nearest, length, reach=2)
        lags = (lambda key: (key,)) if nearest == 1 else (lambda key: key)
        assert near == pytest.approx(
            {k: v for k, v in found.items() if max(map(abs, lags(k))) <= 2}, abs=1e-12
        )


def test_contexts_of_rows_of_several_lengths_weigh_them_by_their_targets() -> None:
    objective = parse("mlm(rate=0.3)")
    short, long = contexts(objective, 1, 4), contexts(objective, 1, 16)
    mixed = contexts(
        objective, 1, {4: 5, 16: 1}
    )  # 5 rows of 3 tokens that may be targets, 1 row of 15
    assert mixed[-1] == pytest.approx((short[-1] + long[-1]) / 2)


def test_contexts_of_a_schedule_are_averaged_over_the_budget() -> None:
    lags = contexts(parse("mlm(rate=linear(0.2, 0.6))"), 1, 16)
    mean = np.mean(
        [contexts(parse(f"mlm(rate={rate})"), 1, 16)[1] for rate in np.linspace(0.2, 0.6, 101)]
    )
    assert lags[1] == pytest.approx(mean, abs=1e-3)
    assert sum(lags.values()) == pytest.approx(1)


def test_contexts_of_mixtures_and_sequences_are_weighted_by_their_coefficients() -> None:
    ar, mlm = contexts(AR(), 1, 32), contexts(MLM(), 1, 32)
    mixed = contexts(parse("ar + 3*mlm"), 1, 32)
    assert mixed[-1] == pytest.approx(0.75 * mlm[-1])
    assert contexts(parse("0.25*ar >> 0.75*mlm"), 1, 32) == pytest.approx(mixed)
    assert mixed[1] == pytest.approx(0.25 * ar[1] + 0.75 * mlm[1])


def test_contexts_without_a_context_or_a_target_are_refused() -> None:
    with pytest.raises(ValueError, match="nearest=0"):
        contexts(MLM(), 0, 32)
    with pytest.raises(ValueError, match="length=1"):
        contexts(MLM(), 1, 1)
    with pytest.raises(ValueError, match="length=15"):
        patterns(AR(), 15)


# --------------------------------------------------------------------------------------- one by one


def test_ar_scores_every_next_token() -> None:
    batch = random_batch(4, 10)
    (view,) = AR().view(batch, 0, 0)
    assert len(view.pairs) == 4 * 9
    assert view.shown.attention.kind == "causal"
    assert torch.equal(view.shown.input_ids, batch.tokens)
    assert view.normaliser == 36
    (packed,) = AR().view(random_batch(4, 12, packed=True), 0, 0)
    assert len(packed.pairs) == 4 * 10, "BOS of the second document is no target"


def test_mlm_masking_agrees_with_transformers() -> None:
    from tokenizers import Tokenizer, models
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<bos>": 1, "<eos>": 2, "<mask>": 3} | {
        f"w{i}": i for i in range(4, 100)
    }
    hf = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>")),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        mask_token="<mask>",
    )
    batch = random_batch(4000, 32)
    for rate in (0.15, 0.4):
        torch.manual_seed(0)
        collate = DataCollatorForLanguageModeling(hf, mlm_probability=rate)
        theirs = collate([{"input_ids": row.tolist()} for row in batch.tokens])
        (view,) = MLM(rate=rate).view(batch, 0, 0)
        chosen = torch.zeros_like(batch.tokens, dtype=torch.bool)
        chosen.view(-1)[view.pairs.state] = True
        their_choice = theirs["labels"] != -100
        eligible = batch.eligible.sum()
        assert eligible > 1e5
        for ours, others in (
            (chosen, their_choice),
            (chosen & (view.shown.input_ids == 3), their_choice & (theirs["input_ids"] == 3)),
            (
                chosen & (view.shown.input_ids == batch.tokens),
                their_choice & (theirs["input_ids"] == batch.tokens),
            ),
        ):
            a, b = int(ours.sum()), int(others.sum())
            table = [[a, int(eligible) - a], [b, int(eligible) - b]]
            assert stats.chi2_contingency(table).pvalue > 1e-4, (rate, a, b)
        assert torch.equal(view.shown.input_ids[~chosen], batch.tokens[~chosen])
        shown = view.shown.input_ids[
            chosen & (view.shown.input_ids != batch.tokens) & (view.shown.input_ids != 3)
        ]
        assert shown.min() >= 4, "random replacements are ordinary tokens"
        assert stats.chisquare(torch.bincount(shown, minlength=100)[4:]).pvalue > 1e-4


def test_shift_one_scores_the_state_before_the_mask() -> None:
    (view,) = MLM(rate=0.5, shift=1).view(random_batch(8, 16), 0, 0)
    assert (view.pairs.offset == 1).all()
    _, target = pairs(view)
    assert (target >= 1).all()


def test_dar_adds_one_farther_target_per_state() -> None:
    batch = random_batch(500, 24)
    (view,) = DAR(horizon=5, share=0.25).view(batch, 0, 0)
    far = view.pairs.head == 1
    assert set(view.pairs.offset[far].tolist()) == {2, 3, 4, 5}
    assert (view.pairs.offset[~far] == 1).all()
    assert view.pairs.weight[far].unique().tolist() == [0.25]
    assert len(view.pairs.state[far].unique()) == int(far.sum()), "one for each state"
    assert view.normaliser == pytest.approx(float(view.pairs.weight.sum()))
    inside = view.pairs.state[far] % 24 < 24 - 5
    assert (
        stats.chisquare(torch.bincount(view.pairs.offset[far][inside], minlength=6)[2:]).pvalue
        > 1e-4
    )


def test_vmlm_rates_vary_and_suffixes_run_past_the_documents_end() -> None:
    batch = random_batch(4000, 32, padded=True)
    (view,) = VMLM(suffix=1.0).view(batch, 0, 0)
    first_hidden = (view.shown.input_ids == 3).int().argmax(1)
    assert (view.shown.input_ids == 3).equal(torch.arange(32) >= first_hidden[:, None]), (
        "everything after the cut is hidden"
    )
    assert view.shown.documents is not None
    assert (view.shown.documents == 0).all(), "padding after the cut is shown as masks"
    (scattered,) = VMLM(suffix=0.0, low=0.2, high=0.8).view(random_batch(4000, 32), 0, 0)
    rates = torch.bincount(scattered.pairs.state // 32, minlength=4000) / 31
    assert rates.mean() == pytest.approx(0.5, abs=0.01)
    assert rates.std() > 0.17, "wider than one fixed rate would be"


def test_vmlm_near_weighs_the_first_hidden_tokens() -> None:
    (view,) = VMLM(suffix=1.0, near=1.0).view(random_batch(50, 16), 0, 0)
    for row in range(50):
        weight = view.pairs.weight[view.pairs.state // 16 == row]
        assert torch.allclose(weight, 1 / torch.arange(1.0, len(weight) + 1))


def test_prefixlm_scores_only_after_the_prefix() -> None:
    batch = random_batch(200, 20, padded=True)
    (view,) = PrefixLM(low=0.2, high=0.6).view(batch, 0, 0)
    row, target = pairs(view)
    assert view.shown.attention.lengths is not None
    assert (target >= view.shown.attention.lengths[row]).all()
    lengths = (batch.documents == 0).sum(1)
    assert (view.shown.attention.lengths < lengths).all()
    assert len(row.unique()) == 200, "every row has a target"


def test_mdlm_elbo_is_unbiased_in_the_number_of_tokens() -> None:
    batch = random_batch(20000, 16)
    (view,) = MDLM(weight="elbo").view(batch, 0, 0)
    assert float(view.pairs.weight.sum()) / view.normaliser == pytest.approx(1.0, abs=0.05)


def test_mixture_draws_rows_and_renumbers_heads() -> None:
    objective = parse("dar + 3*dar(horizon=3)")
    views = objective.view(random_batch(4000, 16), 0, 0)
    share = views[1].rows / 4000
    assert share == pytest.approx(0.75, abs=0.03)
    assert [component.coefficient for component in objective.components()] == [0.25, 0.75]
    assert views[1].pairs.head.unique().tolist() == [0, 2]
    assert [head.horizon for head in objective.head_specs()] == [8, 3]


def test_sequence_and_schedules_change_with_progress() -> None:
    objective = parse("0.25*ar >> 0.75*mlm(rate=linear(0.4, 0.1))")
    assert not objective.stationary
    assert objective.at(0.2).spec == "ar"
    assert objective.at(0.25).spec == "mlm(rate=0.4)"
    assert objective.at(1.0).spec == "mlm(rate=0.1)"
    assert objective.at(0.625).spec == "mlm(rate=0.25)"
    with pytest.raises(ValueError, match="changes with the budget"):
        objective.view(random_batch(), 0, 0)
    late = parse("dar >> dar(horizon=3)").at(0.9).view(random_batch(), 0, 0)
    assert late[0].pairs.head.max() == 2, "heads are those of the whole sequence"


# ---------------------------------------------------------------------------------------- specs


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("ar", "ar"),
        ("ar()", "ar"),
        (" mlm(rate=0.15) ", "mlm"),
        ("mlm(rate=0.40)", "mlm(rate=0.4)"),
        ("3*ar", "ar"),
        ("ar+3*vmlm", "ar + 3*vmlm"),
        ("2*ar + 2*mlm", "2*ar + 2*mlm"),
        ("ar + mlm + dar", "ar + mlm + dar"),
        ("0.25*ar>>0.75*mlm(rate=0.4)", "0.25*ar >> 0.75*mlm(rate=0.4)"),
        ("ar >> mlm >> dar", "ar >> mlm >> dar"),
        ("mlm(rate=linear(0.3,0.15))", "mlm(rate=linear(0.3, 0.15))"),
        ("vmlm(law=cosine)", 'vmlm(law="cosine")'),
        ("mlm(replace=(1,0,0))", "mlm(replace=(1, 0, 0))"),
        ("0.12345678*ar >> mlm", "0.12345678*ar >> mlm"),
        ("ar + mlm >> 2*dar", "ar + mlm >> 2*dar"),
    ],
)
def test_specs_have_one_canonical_form(text: str, canonical: str) -> None:
    objective = parse(text)
    assert objective.spec == canonical
    assert parse(objective.spec) == objective


def test_python_algebra_is_the_specs() -> None:
    assert 0.25 * AR() >> 0.75 * MLM(rate=0.4) == parse("0.25*ar >> 0.75*mlm(rate=0.4)")
    assert AR() + 3 * VMLM(suffix=0.5) == parse("ar + 3*vmlm(suffix=0.5)")
    assert MLM(rate=Linear(0.3, 0.15)) == parse("mlm(rate=linear(0.3, 0.15))")


def test_lists_drop_repetitions() -> None:
    assert [o.spec for o in parse_list("ar, mlm(rate=0.15), mlm, ar")] == ["ar", "mlm"]


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "empty|not a list"),
        ("foo", 1, "unknown objective; known are"),
        ("ar, mlm(rate=1.5)", 14, r"rate must be .*\(0, 1\]"),
        ("mlm(rate=0)", 10, "rate must be"),
        ("mlm(rat=1)", 5, "no parameter 'rat'; its parameters: rate"),
        ("mlm(0.3)", 5, "name it: rate="),
        ("0*ar", 1, "positive"),
        ("ar + 3", 6, "not an objective"),
        ("ar + (ar >> mlm)", 1, "outermost"),
        ("mlm(rate=linear(0, 1))", 10, "rate"),
        ("mlm(rate=linear(1))", 10, "two numbers"),
        ("ar(", 3, "not a list"),
        ("__import__('os').system('x')", 1, "not an objective"),
        ("mlm(rate=__import__('os'))", 10, "not a value"),
        ("dar(horizon=1)", 13, "horizon"),
        ("vmlm(low=0.5, high=0.2)", 20, "at least low"),
        ("mlm(replace=(1, 2))", 13, "add up to 1"),
        ("mlm(rate=0.1, rate=0.2)", 1, "."),
        ("mlm(rate=True)", 10, "not a value"),
        ("mlm(shift=2)", 11, "shift"),
        ("vmlm(law='gauss')", 10, "law must be one of"),
        ("vmlm(low=linear(0.1, 0.9), high=0.5)", 33, "at least low"),
        ("mdlm(weight=1)", 13, "one of"),
    ],
)
def test_bad_specs_point_at_the_offending_place(text: str, column: int, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parse_list(text)
    message = str(caught.value)
    assert "\n" not in message
    assert f"column {column}" in message or not text or "rate=0.1, rate" in text


def test_keyed_uniform_is_uniform_and_uncorrelated() -> None:
    drawn = keyed_uniform(0, 0, torch.arange(2000), "select", 64).numpy()
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-4
    other = keyed_uniform(0, 0, torch.arange(2000), "replace", 64).numpy()
    later = keyed_uniform(0, 1, torch.arange(2000), "select", 64).numpy()
    for a, b in (
        (drawn, other),
        (drawn, later),
        (drawn[:-1], drawn[1:]),
        (drawn[:, :-1], drawn[:, 1:]),
    ):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.015


def test_vocabulary_keeps_special_tokens_out_of_the_pool() -> None:
    assert Vocabulary(8, 3, (0, 1)).ordinary().tolist() == [2, 4, 5, 6, 7]


# ------------------------------------------------------------------------------------- the contract


@dataclass(frozen=True)
class Both(Objective):
    """Two components over the same rows: the next token, and masked tokens."""

    def view(self, batch: Batch, seed: int, epoch: int) -> tuple[View, ...]:
        return AR().view(batch, seed, epoch) + MLM(rate=0.5).view(batch, seed, epoch)

    def components(self) -> tuple[Component, ...]:
        return Component("next", 0.75), Component("masked", 0.25)


def test_an_objective_with_two_views_stands_in_a_mixture() -> None:
    objective = DAR() + 3 * Both()
    batch = random_batch(64, 16)
    dar, near, masked = objective.view(batch, 0, 0)
    assert [c.coefficient for c in objective.components()] == [0.25, 0.75 * 0.75, 0.75 * 0.25]
    assert near.rows == masked.rows
    assert dar.rows + near.rows == 64
    (alone,) = DAR().view(batch.take(torch.arange(64)[:1]), 0, 0)
    assert alone.rows == 1


def test_components_and_views_are_aligned_where_a_component_drew_no_row() -> None:
    objective = AR() + DAR() + Both()
    for row in range(8):
        views = objective.view(random_batch(8, 16).take(torch.tensor([row])), 0, 0)
        assert len(views) == len(objective.components())
        assert sum(view.rows > 0 for view in views) in (1, 2)
        assert all(view.rows or (not len(view.pairs) and not view.normaliser) for view in views)


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'mlm' is taken by lookaround\.objectives\.masked\.MLM"):

        class Mine(Objective):
            name = "mlm"

    assert Objective.registry["mlm"] is MLM


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("target", torch.zeros(2, dtype=torch.int64), r"target must be \(3,\)"),
        ("offset", torch.zeros(3), "offset must be .* torch.int64"),
        ("weight", torch.zeros(3, dtype=torch.float64), "weight must be .* torch.float32"),
    ],
)
def test_pairs_that_do_not_fit_together_are_refused(
    column: str, value: torch.Tensor, words: str
) -> None:
    (view,) = AR().view(random_batch(1, 4), 0, 0)
    with pytest.raises(ValueError, match=words):
        replace(view.pairs, **{column: value})


@pytest.mark.parametrize(("state", "offset"), [(8, 0), (-1, 1), (3, 1), (4, -1)])
def test_pairs_outside_of_the_rows_are_refused(state: int, offset: int) -> None:
    (view,) = AR().view(random_batch(2, 4), 0, 0)
    one = Pairs(*(column[:1] for column in vars(view.pairs).values()))
    moved = replace(one, state=torch.tensor([state]), offset=torch.tensor([offset]))
    with pytest.raises(ValueError, match="outside of the 2 rows of 4 tokens"):
        replace(view, pairs=moved)


def test_streams_keep_their_numbers_and_new_ones_need_none() -> None:
    names = ("select", "replace", "token", "rate", "suffix", "cut", "far", "component", "problem")
    assert [stream_number(name) for name in names] == list(range(1, 10))
    assert stream_number("a stream of a contributor") > 1 << 16
    drawn = keyed_uniform(0, 0, torch.arange(2000), "a stream of a contributor", 8).numpy()
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-4
    other = keyed_uniform(0, 0, torch.arange(2000), "select", 8).numpy()
    assert abs(np.corrcoef(drawn.ravel(), other.ravel())[0, 1]) < 0.05
    # the first draw of a stream, as it was before streams were open
    assert keyed_uniform(0, 0, torch.arange(1), "select", 1).item() == 0.8847898165349132
    assert keyed_uniform(3, 1, torch.tensor([5]), "problem", 2).tolist() == [
        [0.7740346488087965, 0.3860211190498387]
    ]


def test_a_view_moves_whole_and_is_not_made_again_where_it_is() -> None:
    (view,) = PrefixLM().view(random_batch(4, 8, packed=True), 0, 0)
    assert view.to("cpu") is view
    away = view.to("meta")
    parts = (
        away.shown.input_ids,
        away.shown.documents,
        away.shown.attention.lengths,
        *vars(away.pairs).values(),
    )
    assert {str(part.device) for part in parts} == {"meta"}
    assert away.normaliser == view.normaliser
