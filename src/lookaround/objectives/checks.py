"""What every objective must hold: `check_objective(parse("jump(far=3)"))` says where one fails.

For objectives of your own as for ours; scikit-learn's `check_estimator` is the model. Views are
made of random rows and nothing is trained: a check takes about a second. Ours.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lookaround.objectives.contract import Batch, Pairs, View, Vocabulary
from lookaround.objectives.objective import Combination, Objective
from lookaround.objectives.parse import parse

WIDTH = 24  # tokens of the rows that views are made of
ROWS = 12_000  # that laws are held against
BLOCKS = 30  # of rows; pairs of one row are correlated, so the error is the spread of the blocks
ERRORS = 4.5  # standard errors that a share may be off: one in 10,000 is by chance


def check_objective(objective: Objective) -> None:
    """Checks the spec, the views and the laws of an objective, and those of its parts.

    What changes with the budget is checked at its half. Raises AssertionError, which says what does
    not hold.
    """
    _hold(objective, parse(objective.spec) == objective, "is not what its spec makes")
    check_views(objective.at(0.5))
    if isinstance(objective, Combination):
        for _, part in objective.terms:
            check_objective(part)
    else:
        check_laws(objective.at(0.5))


def check_views(objective: Objective) -> None:
    """What is shown and scored of a row depends on (seed, epoch, row) alone, and targets are
    scorable tokens of the document of the state that predicts them.

    In rows of one document and of two, full and padded. Raises AssertionError.
    """
    for packed, padded in itertools.product((False, True), repeat=2):
        batch = random_batch(32, WIDTH, packed=packed, padded=padded)
        whole = objective.view(batch, 5, 2)
        alone = [objective.view(batch.take(row), 5, 2) for row in torch.arange(32).split(1)]
        _hold(objective, len(whole) == len(objective.components()), "needs a view a component")
        for view, *single in zip(whole, *alone, strict=True):
            rows = [row for row, one in enumerate(single) if one.rows]
            none = view.shown.input_ids[:0]
            shown = torch.cat([none, *(single[row].shown.input_ids for row in rows)])
            _hold(objective, shown.equal(view.shown.input_ids), "shows a row by those beside it")
            scored = [_listed(single[row].pairs, place) for place, row in enumerate(rows)]
            same = sorted(itertools.chain(*scored)) == _listed(view.pairs)
            _hold(objective, same, "scores a row by those beside it")
            if not isinstance(objective, Combination):  # its parts may differ in their order
                _check_targets(objective, batch.take(torch.tensor(rows, dtype=torch.int64)), view)
    first, by_seed, by_epoch = (
        [_listed(view.pairs) for view in objective.view(batch, *key)]
        for key in ((5, 2), (6, 2), (5, 3))
    )
    both = (by_seed == first) == (by_epoch == first)
    _hold(objective, both, "draws by the seed or by the epoch, but not by both")
    for view in objective.view(random_batch(32, WIDTH), 5, 2):
        _check_modes(objective, view)


def _check_modes(objective: Objective, view: View) -> None:
    """The LM head scores at the shift of one of the modes of the view's attention."""
    kind = view.shown.attention.kind
    shifts = {mode.shift for mode in objective.modes() if mode.attention == kind}
    offsets = set(view.pairs.offset[view.pairs.head == 0].tolist())
    what = f"has no mode of {kind} attention with shift {', '.join(map(str, sorted(offsets)))}"
    _hold(objective, not shifts or offsets <= shifts, what)


def _check_targets(objective: Objective, batch: Batch, view: View) -> None:
    row, state = view.pairs.state // WIDTH, view.pairs.state % WIDTH
    target = _places(objective, batch, view)[row, state + view.pairs.offset]
    document = torch.zeros_like(batch.tokens) if batch.documents is None else batch.documents
    causal = view.shown.attention.kind != "bidirectional"  # sees no padding, which stands last
    for held, otherwise in (
        (batch.tokens[row, target].equal(view.pairs.target), "scores what is not the row's token"),
        (batch.eligible[row, target].all(), "scores BOS, padding or a prompt"),
        (document[row, state].equal(document[row, target]), "scores a token of another document"),
        ((view.pairs.weight > 0).all(), "has weights that are not above 0"),
        (
            causal or view.shown.documents is not None or not document.any(),
            "does not say in Shown.documents where documents end",
        ),
    ):
        _hold(objective, held, otherwise)


def check_laws(objective: Objective) -> None:
    """laws() agree with sampled views: all visible tokens in rows of 6, the nearest in rows of 16.

    Raises AssertionError.
    """
    patterns: defaultdict[Any, float] = defaultdict(float)
    lags: defaultdict[Any, float] = defaultdict(float)
    for law in objective.laws():
        for (place, seen), mass in law.patterns(6):
            patterns[(place, *(int(position in seen) for position in range(6)))] += mass
        for key, mass in law.lags(1, 16, reach=16).items():
            lags[key] += mass
    row, target, visible, weight = scored_with_visible(objective, random_batch(ROWS, 6))
    found = np.column_stack([target, visible])
    _compare(objective, "(target, visible or not ...)", patterns, found, weight, row)
    row, target, visible, weight = scored_with_visible(objective, random_batch(ROWS, 16))
    lag = target[:, None] - np.arange(16)
    distance = np.where(visible, abs(lag), 16)
    near = distance == distance.min(1, keepdims=True)
    pair = near.nonzero()[0]
    share = (weight / near.sum(1))[pair]  # two tokens equally near get half each
    _compare(objective, "lag", lags, lag[near][:, None], share, row[pair])


def random_batch(
    count: int = 16,
    width: int = 32,
    *,
    vocabulary: int = 100,
    packed: bool = False,
    padded: bool = False,
) -> Batch:
    """Random rows of `width` tokens that start with BOS (1); 0 is padding, 3 the mask."""
    generator = torch.Generator().manual_seed(count * width)
    tokens = torch.randint(4, vocabulary, (count, width), generator=generator)
    tokens[:, 0] = 1
    documents = torch.zeros_like(tokens)
    if packed:
        documents[:, width // 3 :] = 1
        tokens[:, width // 3] = 1
    if padded:
        ends = torch.randint(width // 2, width, (count,), generator=generator)
        documents[torch.arange(width) >= ends[:, None]] = -1
        tokens[documents < 0] = 0
    return Batch(
        tokens,
        torch.arange(count),
        Vocabulary(vocabulary, 3, (0, 1, 2, 3)),
        documents if packed or padded else None,
        tokens != 1,
    )


def _hold(objective: Objective, condition: object, otherwise: str) -> None:
    if not condition:
        raise AssertionError(f"'{objective.spec}' {otherwise}")


def _listed(pairs: Pairs, place: int = 0) -> list[tuple]:
    """(state, target, offset, head, weight) of each pair, sorted, of a row that stands at `place`
    in a batch.
    """
    state, weight = pairs.state + WIDTH * place, pairs.weight.round(decimals=5)
    columns = vars(replace(pairs, state=state, weight=weight)).values()
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def _places(objective: Objective, batch: Batch, view: View) -> torch.Tensor:
    """(B, T): where in the text the token at each place of the model's order stands."""
    if view.shown.positions is not None:
        return view.shown.positions
    position = torch.arange(batch.tokens.shape[1]).expand_as(batch.tokens)
    return objective.arranged(replace(batch, tokens=position)).tokens


def scored_with_visible(
    objective: Objective, batch: Batch
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(row (N,), target position (N,), visible positions (N, T) bool, weight (N,)) of the pairs of
    an objective's one view.
    """
    (view,) = objective.view(batch, 11, 0)
    width = batch.tokens.shape[1]
    row, state = view.pairs.state // width, view.pairs.state % width
    text = _places(objective, batch, view)
    target = text[row, state + view.pairs.offset]
    if view.shown.attention.kind == "bidirectional":
        hidden = torch.zeros_like(batch.tokens, dtype=torch.bool)
        hidden[row, target] = True
        visible = ~hidden[row]
    else:  # a state sees what stands up to it; the prefix ends before the first scored state
        shown = torch.arange(width) <= state[:, None]
        shown &= (view.shown.input_ids != batch.vocabulary.mask)[row]  # a dummy shows nothing
        visible = torch.zeros_like(shown).scatter_(1, text[row], shown)
    return row.numpy(), target.numpy(), visible.numpy(), view.pairs.weight.double().numpy()


def _compare(
    objective: Objective,
    what: str,
    expected: Mapping[Any, float],
    found: np.ndarray,
    weight: np.ndarray,
    row: np.ndarray,
) -> None:
    """Holds the share of each key against the law's, in standard errors.

    expected: {key: mass}, of any whole.
    found: (N, length of a key), the key of each pair; weight and row are (N,).
    """
    keys, place = np.unique(found, axis=0, return_inverse=True)
    table = np.zeros((len(keys), BLOCKS))
    np.add.at(table, (place.ravel(), row % BLOCKS), weight)
    shares = dict(zip(map(tuple, keys.tolist()), table / table.sum(0), strict=True))
    total = sum(expected.values())
    for key in shares.keys() | expected.keys():
        law, share = expected.get(key, 0.0) / total, shares.get(key, np.zeros(BLOCKS))
        if 0 < law * len(row) < 10 * BLOCKS:
            continue  # too few pairs for shares that are near normal
        allowed = ERRORS * share.std(ddof=1) / BLOCKS**0.5 if law else 0.0
        _hold(
            objective,
            abs(share.mean() - law) <= allowed + 1e-9,
            f"gives {what} {key} a share of {law:.4f} by laws(), {share.mean():.4f} in views",
        )
