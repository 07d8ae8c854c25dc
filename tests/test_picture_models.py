"""Models of pictures: positions in the plane, random orders, theory, and both halves."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from cli_runs import Run, assert_refused
from conftest import objective_loss
from lookaround.cli.options import with_values
from lookaround.data.patches import CODEBOOK_FILE, PatchCodec
from lookaround.data.picture_files import read_pictures
from lookaround.data.pictures import Pictures
from lookaround.data.rows import Rows
from lookaround.data.shards import TokenStore, prepare_pictures
from lookaround.evaluation.completions import Completions
from lookaround.evaluation.own_pictures import picture_data
from lookaround.evaluation.picture_baselines import BagOfCodes, RawPixels, pixel_score
from lookaround.evaluation.reconstruction import MeanPicture, Reconstruction, hidden_patches
from lookaround.evaluation.registry import TextData, task_data, with_counts
from lookaround.model.backbone import (
    Backbone,
    build,
    require_honest_attention,
    require_positions,
)
from lookaround.model.export import export
from lookaround.model.foreign import load_model
from lookaround.model.masks import allowed
from lookaround.model.plane import frequencies
from lookaround.model.readable import Readable, open_run
from lookaround.objectives import BST, Mode, Shown, parse
from lookaround.objectives.checks import random_batch
from lookaround.objectives.contract import Vocabulary
from lookaround.objectives.heads import OrderSpec
from lookaround.objectives.objective import Objective
from lookaround.report.schema import load_results
from lookaround.settings import EvaluateSettings
from lookaround.support.errors import UserError
from lookaround.theory.law import contexts, nearest_by_distance
from lookaround.theory.matrices import cooccurrence
from lookaround.theory.plane import (
    count_plane,
    distances,
    lag_of,
    offset_of,
    plane_contexts,
)

GRID = (4, 5)
WIDTH = GRID[0] * GRID[1] + 1


def backbone(**options: object) -> Backbone:
    given = {"preset": "pico", "vocabulary": 19, "context": WIDTH, "special": {"bos_token_id": 17}}
    return build(**given | {"grid": GRID} | options).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def digits() -> Pictures:
    whole = read_pictures("digits")
    return read_pictures((whole.pixels[:240], whole.labels[:240]))  # type: ignore[index]


@pytest.fixture(scope="module")
def store(digits: Pictures, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return prepare_pictures(
        digits, digits.split(), patch=2, codes=16, cache=tmp_path_factory.mktemp("pictures")
    )


# --------------------------------------------------------------------------- positions in the plane


@pytest.mark.parametrize("grid", [(4, 5), (7, 7), (8, 8), (14, 14), (2, 9)])
def test_half_of_the_frequencies_tell_columns_alone(grid: tuple[int, int]) -> None:
    rows, columns = grid
    radians = frequencies(16, grid)
    across, down = radians[:8], radians[8:]
    for step in range(columns):
        turned = np.exp(1j * across * step)
        for row in range(-rows, rows):  # the same however many rows lie between
            assert np.allclose(np.exp(1j * across * (row * columns + step)), turned, atol=1e-9)
        if step:  # and columns are told apart
            assert np.abs(turned - 1).max() > 0.1
    places = np.arange(rows * columns)
    turns = np.exp(1j * np.outer(places, np.concatenate([across, down])))
    apart = np.abs(turns[:, None] - turns[None]).max(-1) + np.eye(rows * columns)
    assert apart.min() > 0.02  # no two places of a picture look alike
    assert (down > 0).all()
    assert (down * columns <= math.pi).all()


def test_transformers_reads_the_same_logits(tmp_path: Path) -> None:
    for spec, auto in (("ar", AutoModelForCausalLM), ("mlm", AutoModelForMaskedLM)):
        model, objective = backbone(seed=1), parse(spec)
        folder = tmp_path / spec
        folder.mkdir()
        export(model, folder, objective.modes(), mask=18)
        theirs = auto.from_pretrained(folder).eval()
        tokens = torch.randint(17, (3, WIDTH))
        (mode,) = objective.modes()
        shown = next(iter(objective.view(random_batch(1, WIDTH), 0, 0))).shown
        with torch.no_grad():
            ours = model.logits(model.states(Shown(tokens, shown.attention)))
            assert torch.equal(ours, theirs(tokens).logits), mode


def test_attention_keeps_its_patterns_in_the_plane() -> None:
    require_honest_attention(
        backbone(), [Mode("causal", 1), Mode("bidirectional", 0), Mode("prefix", 1)]
    )


# ------------------------------------------------------------------------------------- random order


def test_a_random_order_scores_the_token_that_comes_next() -> None:
    batch = random_batch(64, WIDTH)
    (view,) = parse("rar(share=1.0)").view(batch, 3, 1)
    order = view.shown.positions
    assert order is not None
    assert (order.sort(1).values == torch.arange(WIDTH)).all()
    assert (order[:, 0] == 0).all()  # BOS stays
    assert view.shown.input_ids.equal(batch.tokens.gather(1, order))
    row, state = view.pairs.state // WIDTH, view.pairs.state % WIDTH
    assert view.pairs.target.equal(batch.tokens[row, order[row, state + 1]])
    assert len(view.pairs) == 64 * (WIDTH - 1)
    places = torch.stack([order[:, 1], order[:, -1]]).double().mean(1)
    assert ((places - WIDTH / 2).abs() < 3).all()  # any token may be first, or last


def test_orders_anneal_to_that_of_the_row() -> None:
    batch, objective = random_batch(400, WIDTH), parse("rar")
    shares = []
    for progress in (0.0, 0.5, 0.75):
        (view,) = objective.at(progress).view(batch, 0, 0)
        shares.append(float((view.shown.positions != torch.arange(WIDTH)).any(1).double().mean()))
    assert shares == pytest.approx([1, 0.5, 0.25], abs=0.08)
    (last,), (plain,) = (each.view(batch, 0, 0) for each in (objective.at(1.0), parse("ar")))
    assert last.shown.positions is None
    assert last.pairs.target.equal(plain.pairs.target)


def test_documents_are_shuffled_within_themselves() -> None:
    batch = random_batch(32, WIDTH, packed=True, padded=True)
    (view,) = parse("rar(share=1.0)").view(batch, 0, 0)
    order, documents = view.shown.positions, batch.documents
    assert order is not None
    assert documents is not None
    assert documents.gather(1, order).equal(documents)
    fixed = ~batch.eligible
    assert (order == torch.arange(WIDTH))[fixed].all()


def test_a_row_in_its_own_order_is_read_as_without_positions() -> None:
    model = backbone(heads=(OrderSpec(),))
    tokens = torch.randint(17, (2, WIDTH))
    order = torch.arange(WIDTH).expand(2, -1)
    with torch.no_grad():
        assert torch.equal(
            model.states(Shown(tokens)), model.states(Shown(tokens, positions=order))
        )
        head = model.heads[0](order)
    assert not head.any()


def test_states_know_where_the_next_token_stands_and_nothing_of_it() -> None:
    model = backbone(heads=(OrderSpec(),))
    tokens = torch.randint(17, (1, WIDTH))
    order = torch.cat([torch.zeros(1, dtype=torch.int64), torch.randperm(WIDTH - 1) + 1])[None]
    swapped = order.clone()
    swapped[0, [8, 9]] = order[0, [9, 8]]  # what state 7 predicts stands elsewhere
    changed = tokens.clone()
    changed[0, 8] = (tokens[0, 8] + 1) % 17

    def states(ids: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model.states(Shown(ids, positions=places))[0]

    base = states(tokens, order)
    told = (states(tokens, swapped) != base).any(-1)
    assert told[7]
    assert not told[:7].any()
    moved = (states(changed, order) != base).any(-1)
    assert moved[8:].all()
    assert not moved[:8].any()


SMALL = {"vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
OTHERS = {
    "Llama": {"intermediate_size": 48},
    "Qwen2": {"intermediate_size": 48, "num_key_value_heads": 2},
    "GPT2": {},
    "GPTNeoX": {"intermediate_size": 48},
    "Bloom": {},
}


def saved(kind: str, folder: Path) -> Backbone:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SMALL | OTHERS[kind])
    made = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    made.save_pretrained(folder)
    model, source = load_model(str(folder))
    return Backbone(model, source=source).eval()


@pytest.mark.parametrize("kind", [kind for kind in OTHERS if kind != "Bloom"])
def test_models_of_others_are_told_of_orders_by_a_mask_of_ours(kind: str, tmp_path: Path) -> None:
    """transformers takes positions that do not rise by one for packed rows, and would part them."""
    model = saved(kind, tmp_path)
    require_positions(model)
    tokens = torch.randint(20, (1, 8))
    order = torch.tensor([[0, 5, 2, 7, 1, 6, 3, 4]])
    changed = tokens.clone()
    changed[0, 1] = (tokens[0, 1] + 1) % 20
    with torch.no_grad():
        one, other = (model.states(Shown(ids, positions=order)) for ids in (tokens, changed))
    assert (one != other).any(-1)[0].tolist() == [False] + [True] * 7


def test_a_model_without_positions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"positions|another order"):
        require_positions(saved("Bloom", tmp_path))


def test_rar_learns_an_order_of_its_own() -> None:
    """A picture whose right half copies the left one is told in any order."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    left = torch.randint(4, (512, 6), generator=generator)
    tokens = torch.cat([torch.full((512, 1), 17), left, left], 1)
    objective = parse("rar(share=1.0)")
    model = build(
        preset="pico",
        vocabulary=19,
        context=13,
        special={},
        heads=objective.head_specs(),
        grid=(1, 12),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = random_batch(512, 13)
    batch = replace(batch, tokens=tokens, vocabulary=Vocabulary(19, 18, (17, 18)))
    losses = []
    for step in range(60):
        rows = torch.randint(512, (64,), generator=generator)
        part = replace(batch.take(rows), row=rows + 512 * step)
        loss, _ = objective_loss(model, objective, objective.view(part, 0, 0), [1 / (64 * 12)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    # half of the tokens are free (log 4 nats), the others are known from those before them
    assert losses[0] > 2
    assert np.mean(losses[-5:]) < 1.05 * math.log(4)


# --------------------------------------------------------------------------------- dar in the plane


def test_farther_targets_stand_to_the_right_or_below() -> None:
    batch = random_batch(200, WIDTH)
    objective = parse("dar(horizon=3)").in_plane(GRID[1])
    assert objective.spec == "dar(horizon=3, columns=5)"
    (view,) = objective.view(batch, 0, 0)
    far = view.pairs.head == 1
    state = (view.pairs.state % WIDTH)[far]
    target = state + view.pairs.offset[far]
    assert (state > 0).all()
    rows, columns = ((target - 1) // 5 - (state - 1) // 5), ((target - 1) % 5 - (state - 1) % 5)
    kinds = Counter(zip(rows.tolist(), columns.tolist(), strict=True))
    assert set(kinds) == {(0, 2), (0, 3), (1, 0), (2, 0), (3, 0)}
    assert parse("dar + mlm").in_plane(5).spec == "dar(columns=5) + mlm"


# ------------------------------------------------------------------------------------------- theory

SPECS = (
    *("ar", "ar(rate=0.3)", "mlm(rate=0.4)", "vmlm", "vmlm(near=0.5)", "mdlm(weight='elbo')"),
    *("dar(columns=5)", "prefixlm", "rar", "rar(share=0.5, rate=0.2)", "ar + 2*mlm"),
)


@pytest.mark.parametrize("spec", SPECS)
def test_the_nearest_token_in_a_line_is_that_of_contexts(spec: str) -> None:
    line = np.abs(np.arange(16)[:, None] - np.arange(16)).astype(float)
    found: Counter[int] = Counter()
    for (target, context), mass in nearest_by_distance(parse(spec), line).items():
        found[target - context] += mass  # type: ignore[assignment]
    expected = contexts(parse(spec), 1, 16)
    for lag in {*found, *expected}:
        assert found[lag] == pytest.approx(expected.get(lag, 0), abs=1e-8)


def sampled(objective: Objective, rows: int) -> dict[int, float]:
    """Shares of the offsets of nearest visible tokens in views, ties split."""
    batch = random_batch(rows, WIDTH)
    (view,) = objective.view(batch, 11, 0)
    row, state = view.pairs.state // WIDTH, view.pairs.state % WIDTH
    target = state + view.pairs.offset
    if view.shown.positions is not None:
        order = view.shown.positions
        seen = torch.zeros(len(row), WIDTH, dtype=torch.bool)
        seen.scatter_(1, order[row], torch.arange(WIDTH) <= state[:, None])
        target = order[row, target]
    elif view.shown.attention.kind == "bidirectional":
        hidden = view.shown.input_ids == batch.vocabulary.mask
        seen = ~hidden[row]
    else:
        seen = allowed(view.shown).expand(rows, -1, -1)[row, state]
    away = torch.from_numpy(distances(GRID))[target]
    away = torch.where(seen, away, torch.inf).round(decimals=9)
    away[torch.arange(len(row)), target] = torch.inf
    near = (away == away.min(1, keepdim=True).values) & away.isfinite()
    weight = view.pairs.weight.double()
    total: Counter[int] = Counter()
    pair, context = near.nonzero().T
    share = (weight / near.sum(1).clamp(min=1))[pair]
    offsets = [
        lag_of(((t - 1) // 5 - (c - 1) // 5, (t - 1) % 5 - (c - 1) % 5), GRID)
        for t, c in zip(target[pair].tolist(), context.tolist(), strict=True)
    ]
    for offset, mass in zip(offsets, share.tolist(), strict=True):
        total[offset] += mass  # type: ignore[assignment]
    return {offset: mass / float(weight.sum()) for offset, mass in total.items()}


@pytest.mark.parametrize(
    "spec",
    [
        "ar",
        "dar(horizon=3, columns=5)",
        "mlm(rate=0.4, replace=(1, 0, 0))",
        "vmlm",
        "rar(share=1.0)",
    ],
)
def test_offsets_in_the_plane_are_those_of_views(spec: str) -> None:
    expected = {lag: mass for (lag,), mass in plane_contexts(parse(spec), GRID).items()}
    found = sampled(parse(spec), 3000)
    assert {lag for lag, mass in expected.items() if mass > 1e-3} <= {*found}
    assert {lag for lag, mass in found.items() if mass > 1e-3} <= {*expected}
    for lag, mass in expected.items():
        assert found.get(lag, 0) == pytest.approx(mass, abs=0.006)


def test_numbers_of_offsets_come_back() -> None:
    offsets = [(r, c) for r in range(-3, 4) for c in range(-4, 5)]
    assert [offset_of(lag_of(offset, GRID), GRID) for offset in offsets] == offsets
    assert len({lag_of(offset, GRID) for offset in offsets}) == len(offsets)
    assert all(lag_of((-r, -c), GRID) == -lag_of((r, c), GRID) for r, c in offsets)


def test_pairs_are_counted_in_the_plane(store: TokenStore) -> None:
    grid = store.codec.grid
    assert grid == (4, 4)
    offsets = [(0, 1), (1, 0), (1, -1), (2, 3), (0, -2)]
    counts = count_plane(store, [(lag_of(offset, grid),) for offset in offsets])
    rows = Rows(store.split("train"), 17, store.codec)
    pictures = rows.take(np.arange(len(rows))).tokens[:, 1:].view(-1, 4, 4).numpy()
    for down, across in offsets:
        expected: Counter[tuple[int, int]] = Counter()
        for picture in pictures:
            for r in range(4):
                for c in range(4):
                    if 0 <= r - down < 4 and 0 <= c - across < 4:
                        expected[picture[r - down, c - across], picture[r, c]] += 1
        matrix = counts.matrix(lag_of((down, across), grid)).toarray()
        assert {(u, v): n for (u, v), n in np.ndenumerate(matrix) if n} == expected


def test_a_few_pictures_say_how_often_tokens_stand_at_rare_offsets(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 16, (30, 6, 6), dtype=np.uint8) * 16
    few = read_pictures((pixels, np.arange(30) % 2))
    kept = prepare_pictures(few, few.split(), cache=tmp_path)
    grid = kept.codec.grid
    assert grid is not None
    near, corner = ((lag_of(offset, grid),) for offset in ((0, 1), (5, 5)))
    counts = count_plane(kept, [near, corner])
    shares = {near: 0.999, corner: 0.001}
    with pytest.raises(UserError, match="in the 19 pairs"):
        cooccurrence(counts, shares)
    found = cooccurrence(counts, shares, plane=True)
    each = [counts.matrix(lag).toarray() / counts.number((lag,)) for (lag,) in shares]
    joint = (0.999 * each[0] + 0.001 * each[1])[:16, :16]  # of grey levels, not of BOS
    assert np.allclose(np.asarray(found.matrix), joint / joint.sum(), atol=1e-12)


# -------------------------------------------------------------------------------------- both halves


def readable(store: TokenStore, spec: str) -> Readable:
    objective, codec = parse(spec), store.codec
    assert isinstance(codec, PatchCodec)
    model = build(
        preset="pico", vocabulary=codec.size, context=codec.length, special={}, grid=codec.grid
    ).eval()
    modes = objective.modes()
    return Readable(model, codec, modes, modes, codec.length, None)


def held_out(digits: Pictures, store: TokenStore) -> TextData:
    assert isinstance(store.codec, PatchCodec)
    return picture_data(store.codec, digits, digits.split())


@pytest.mark.parametrize("spec", ["ar", "mlm", "vmlm"])
def test_reconstruction_is_the_error_of_what_is_expected(
    digits: Pictures, store: TokenStore, spec: str
) -> None:
    """Hidden patch by hidden patch, each asked for by a pass of its own."""
    run, data = readable(store, spec), held_out(digits, store)
    codec, settings = store.codec, EvaluateSettings(reconstructed=6)
    assert isinstance(codec, PatchCodec)
    found = Reconstruction().run(run, data, settings, 0)
    rows = np.linspace(0, len(data.test) - 1, 6).astype(int)
    tokens = data.test.take(rows).tokens
    hidden = hidden_patches(6, 16)
    assert (hidden.sum(1) == 8).all()
    shift, errors = run.modes[0].shift, []
    for picture in range(6):
        shown = tokens[picture].clone()
        if spec != "ar":
            shown[1:][torch.from_numpy(hidden[picture])] = codec.vocabulary.mask
        for patch in range(16):
            if not hidden[picture, patch]:
                continue
            state = patch + 1 - shift
            ids = shown[None, : state + 1] if spec == "ar" else shown[None]
            attention = (
                Shown(ids)
                if spec == "ar"
                else next(iter(parse(spec).view(random_batch(1, 17), 0, 0))).shown
            )
            with torch.no_grad():
                states = run.backbone.states(Shown(ids, attention.attention))
                logits = run.backbone.logits(states[0, state])[:16]
            expected = logits.softmax(-1).numpy() @ codec.codebook
            true = codec.codebook[tokens[picture, patch + 1]]
            errors.append((((expected - true) / 255) ** 2).mean())
            if spec == "ar":
                shown[patch + 1] = int(logits.argmax())
    assert found.value == pytest.approx(np.mean(errors), rel=1e-4)
    assert found.value == pytest.approx(
        float(Reconstruction().statistic("", *(np.array([c]) for c in found.items))[0])
    )


def test_the_mean_picture_stands_beside_it(digits: Pictures, store: TokenStore) -> None:
    data, settings, codec = held_out(digits, store), EvaluateSettings(reconstructed=5), store.codec
    assert isinstance(codec, PatchCodec)
    found = MeanPicture().run(None, data, settings, 0)
    train = Rows(store.split("train"), 17, codec)
    mean = codec.codebook[train.take(np.arange(len(train))).tokens[:, 1:]].mean(0)
    tokens = data.test.take(np.linspace(0, len(data.test) - 1, 5).astype(int)).tokens[:, 1:]
    error = (((mean - codec.codebook[tokens]) / 255) ** 2).mean(-1)[hidden_patches(5, 16)]
    assert found.value == pytest.approx(error.mean())


@pytest.mark.parametrize("spec", ["ar", "vmlm"])
def test_completions_keep_what_was_given(digits: Pictures, store: TokenStore, spec: str) -> None:
    data = held_out(digits, store)
    found = Completions().run(readable(store, spec), data, EvaluateSettings(samples=2), 0)

    def read(address: str) -> np.ndarray:
        data = base64.b64decode(address.partition(",")[2])
        return np.asarray(Image.open(io.BytesIO(data)))

    for picture in found.details["pictures"]:
        original, given, made = (read(picture[key]) for key in ("original", "given", "completed"))
        assert original.shape == given.shape == made.shape == (8, 8)
        assert np.array_equal(original[:4], made[:4])
        assert np.array_equal(given[:4], made[:4])
        assert not given[4:].any()
        assert made[4:].any()


def test_linear_baselines_are_those_of_scikit_learn(digits: Pictures, store: TokenStore) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    task = digits.task(digits.split())
    assert task is not None
    (data,) = with_counts([task_data(task, EvaluateSettings())], store.codec, None)
    scores = {
        kind.name: kind().run(None, data, EvaluateSettings(), 0).value  # type: ignore[arg-type]
        for kind in (RawPixels, BagOfCodes)
    }
    features = np.stack(data.train_inputs).reshape(len(data.train_inputs), -1) / 255  # type: ignore[union-attr]
    test = np.stack(data.test_inputs).reshape(len(data.test_inputs), -1) / 255  # type: ignore[union-attr]
    scaler = StandardScaler().fit(features)
    best = max(
        LogisticRegression(C=strength, max_iter=2000)
        .fit(scaler.transform(features), data.train_labels)  # type: ignore[union-attr]
        .score(scaler.transform(test), data.test_labels)  # type: ignore[union-attr]
        for strength in (0.001, 0.01, 0.1, 1.0)
    )
    assert scores["pixels"] == pytest.approx(best, abs=0.07)
    assert 0.1 < scores["bag_of_codes"] < scores["pixels"]
    rows = np.arange(60)
    assert 0.5 < pixel_score(data, rows) <= scores["pixels"] + 0.02  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------- from the shell

OWN = (
    *("--model", "pico", "--set", "train.batch=8", "--set", "data.patch=2"),
    *("--set", "data.vocabulary=16", "--set", "evaluate.positions=4"),
    *("--set", "evaluate.samples=2", "--set", "evaluate.reconstructed=8"),
    *("--set", "evaluate.finetune_epochs=[2]", "--set", "evaluate.finetune_rates=[1.0]"),
    *("--set", "evaluate.finetune_labels=[20]", "--set", "evaluate.finetune_draws=[2]"),
    *("--set", "evaluate.bootstrap=100"),
)
STUDY = (
    *OWN,
    *("--jobs", "2", "--objectives", "rar, mlm(rate=0.5)", "--budget", "2000"),
    *("--set", "compare.lr_factors=[1.0]", "--set", "compare.ladder=[0.5,1.0]"),
    *("--set", "forecast.rank=4"),
)


@pytest.mark.slow
def test_a_study_of_a_folder_of_png(
    digits: Pictures, tmp_path: Path, run: Run, inline: None
) -> None:
    folder = tmp_path / "own"
    for number, (picture, label) in enumerate(
        zip(digits.pixels, digits.labels.tolist(), strict=True)  # type: ignore[union-attr]
    ):
        place = folder / f"class-{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{number}.png")
    out = tmp_path / "study"
    done = run("compare", "--images", folder, "--out", out, *STUDY)
    assert done.code == 0, done
    assert "own: 240 pictures of 8 x 8 pixels, 10 classes" in done.err + done.out
    results = load_results(out)
    assert results.unit == "pixel"  # type: ignore[attr-defined]
    (text,) = [r for r in results.runs if r.objective == "rar" and r.rung == 1]  # type: ignore[attr-defined]
    assert 0 < text.bits_per_byte < 2
    assert set(text.scores) == {"probe", "finetune", "bits_per_byte", "reconstruction"}
    assert set(results.baselines["own"].as_dict()) == {"majority", "pixels", "bag_of_codes"}  # type: ignore[attr-defined]
    assert results.forecast is not None  # type: ignore[attr-defined]
    page = (out / "report.html").read_text()
    assert page.count('<img src="data:image/png;base64,') == 2 * 2 + 2 * 2
    assert "label pictures" in page
    assert "bits per byte" not in page.lower()
    again = run("compare", "--images", folder, "--out", out, *STUDY)
    assert again.code == 0
    model = out / text.checkpoint
    opened = open_run(model)
    theirs = AutoModelForCausalLM.from_pretrained(model)
    tokens = torch.randint(16, (2, 17))
    with torch.no_grad():
        ours = opened.backbone.logits(opened.backbone.states(Shown(tokens)))
        assert torch.equal(ours, theirs(tokens).logits)
    assert "codebook.safetensors" in (model / "README.md").read_text()
    # the commands of text refuse it by name, and evaluate reads it
    assert_refused(run("generate", model, "a"), "is a model of pictures")
    assert_refused(run("speculate", model, "--out", tmp_path / "fast"), "is a model of pictures")
    assert_refused(run("evaluate", model, "--corpus", folder), "is a model of pictures")
    scored = run("evaluate", model, "--protocols", "probe,bits_per_byte", *OWN[-2:])
    assert scored.code == 0, scored
    assert "bits per pixel" in scored.out + scored.err


@pytest.mark.slow
def test_pretraining_on_the_digits(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    given = ("--images", "digits", "--objective", "dar", "--budget", "3000", "--out", out)
    sizes = ("--model", "pico", "--set", "train.batch=8")
    assert run("pretrain", *given, *sizes).code == 0
    readable = open_run(out)
    assert isinstance(readable.codec, PatchCodec)
    assert readable.codec.grid == (8, 8)
    assert readable.info is not None
    assert readable.info["objective"] == "dar(columns=8)"
    assert run("pretrain", *given, *sizes).code == 0  # it is finished
    assert_refused(run("pretrain", *given, *sizes, "--set", "model.context=32"), "model.context")
    assert_refused(run("pretrain", *given, *sizes, "--set", "data.pack=true"), "data.pack")
    assert_refused(run("pretrain", "--images", "digits", "--init", out, "--out", tmp_path / "b"))
    wide = ("--images", "digits", "--objective", "dar(columns=9)", "--out", tmp_path / "c")
    assert_refused(run("pretrain", *wide), "columns is 9; leave it out; pictures have 8 tokens")
    assert_refused(run("evaluate", out, "--set", "data.patch=2"), "data.patch: is 2", "have 1")
    assert_refused(run("pretrain", "--init", out, "--out", tmp_path / "d"), "a model of pictures")
    codebook = out / CODEBOOK_FILE
    fewer = PatchCodec(readable.codec.codebook[:-1], 8, 8, 1)
    fewer.save(out)
    assert_refused(run("evaluate", out), "codebook.safetensors: has 16 codes, its model 17")
    codebook.unlink()
    assert_refused(run("evaluate", out), "nor has it a codebook.safetensors of pictures")


def test_columns_are_of_pictures_alone(run: Run, tmp_path: Path) -> None:
    given = ("--objective", "dar(columns=9)", "--out", tmp_path / "run")
    assert_refused(run("pretrain", *given), "columns is 9, and a text has none; leave it out")


def test_an_option_without_a_value_is_the_digits() -> None:
    assert with_values(["--images"]) == ["--images", "sklearn:digits"]
    assert with_values(["--images", "--seeds", "3"])[1:] == ["sklearn:digits", "--seeds", "3"]
    assert with_values(["--images", "own", "--seeds", "3"]) == ["--images", "own", "--seeds", "3"]


def test_prompted_objectives_are_not_for_pictures(run: Run) -> None:
    assert BST.prompted
    assert_refused(run("compare", "--images", "--objectives", "bst"), "a corpus has no target")
