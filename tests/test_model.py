"""The backbone: who sees whom, losses and gradients against the plain ones, exports that
transformers loads.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from conftest import objective_loss
from lookaround.model import (
    Backbone,
    build,
    export,
    linear_cross_entropy,
    load,
    require_honest_attention,
)
from lookaround.model.foreign import last_step
from lookaround.model.masks import Masks, allowed
from lookaround.objectives import Attention, HeadSpec, Mode, Shown, parse
from lookaround.objectives.checks import random_batch
from lookaround.objectives.heads import OffsetSpec
from lookaround.support.errors import UserError

SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
ALL_MODES = (Mode("causal", 1), Mode("bidirectional", 0), Mode("prefix", 1))


def backbone(heads: tuple[HeadSpec, ...] = (), **options: Any) -> Backbone:
    return build(
        **(
            {"preset": "nano", "vocabulary": 100, "context": 32, "special": SPECIAL, "heads": heads}
            | options
        )
    )


# ---------------------------------------------------------------------------------------- attention


def brute_force(kind: str, length: int, documents: list[int], width: int) -> torch.Tensor:
    """The definition, entry by entry."""
    sees = torch.zeros(width, width, dtype=torch.bool)
    for i in range(width):
        for j in range(width):
            by_kind = (
                kind == "bidirectional"
                or j <= i
                or (kind == "prefix" and i < length and j < length)
            )
            sees[i, j] = by_kind and documents[i] == documents[j]
    return sees


@pytest.mark.parametrize("kind", ["causal", "bidirectional", "prefix"])
@pytest.mark.parametrize("documents", [None, [0, 0, 0, 1, 1, 1, 1, -1]])
def test_masks_follow_the_definition(kind: Any, documents: list[int] | None) -> None:
    lengths = torch.tensor([1, 3, 8])
    numbers = None if documents is None else torch.tensor([documents] * 3)
    shown = Shown(torch.zeros(3, 8), Attention(kind, lengths=lengths), numbers)
    mask = allowed(shown).expand(3, 8, 8)
    for row in range(3):
        assert torch.equal(mask[row], brute_force(kind, int(lengths[row]), documents or [0] * 8, 8))


def test_pure_patterns_need_no_mask_and_eager_gets_an_additive_one() -> None:
    documents = torch.tensor([[0, 0, 1, 1]] * 2)
    config = backbone().lm.config
    assert Masks().arguments(Shown(documents), config, "sdpa", torch.float32) == {
        "attention_mask": None,
        "is_causal": True,
    }
    isolated = Shown(documents, Attention("bidirectional"), documents)
    sdpa, eager = (
        Masks().arguments(isolated, config, name, torch.float32) for name in ("sdpa", "eager")
    )
    assert sdpa["attention_mask"].dtype == torch.bool
    assert torch.equal(eager["attention_mask"] == 0, sdpa["attention_mask"])


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_models_keep_the_patterns(implementation: str) -> None:
    model = backbone()
    model.lm.set_attn_implementation(implementation)
    require_honest_attention(model, ALL_MODES)


@pytest.mark.parametrize("family", ["Qwen3", "GPT2", "GPTNeoX"])
def test_other_decoders_keep_the_patterns(family: str) -> None:
    import transformers

    sizes: dict[str, Any] = {
        "vocab_size": 60,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    if family == "GPT2":
        sizes = {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 2, "attn_pdrop": 0.0}
    elif family == "Qwen3":
        sizes |= {"num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 64}
    lm = getattr(
        transformers, f"{family}LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    )(getattr(transformers, f"{family}Config")(**sizes))
    require_honest_attention(Backbone(lm), (Mode("causal", 1),))
    if (
        family != "GPT2"
    ):  # absolute positions; bidirectional use is covered by the leak check of each run
        require_honest_attention(Backbone(lm), ALL_MODES)


def test_a_model_that_lies_is_refused() -> None:
    model = backbone()
    honest = model.lm.model.forward
    model.lm.model.forward = lambda *args, is_causal=True, **kwargs: honest(
        *args, is_causal=True, **kwargs
    )
    require_honest_attention(model, (Mode("causal", 1),))
    with pytest.raises(UserError, match=r"bidirectional.*position 0 does not see position 1"):
        require_honest_attention(model, (Mode("bidirectional", 0),))


# ---------------------------------------------------------------------------------------- losses


@pytest.mark.slow
@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_linear_cross_entropy_is_the_plain_one(
    dtype: torch.dtype, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookaround.model.losses.CHUNK_BYTES", 4 * 50 * 7)  # seven rows at a time
    torch.manual_seed(0)
    inputs = [
        torch.randn(31, 16, dtype=dtype),
        torch.randn(50, 16, dtype=dtype),
        torch.randn(50, dtype=dtype),
    ]
    hidden, matrix, bias = (tensor.clone().requires_grad_() for tensor in inputs)
    hidden2, matrix2, bias2 = (tensor.clone().requires_grad_() for tensor in inputs)
    target, weight = torch.randint(50, (31,)), torch.rand(31, dtype=dtype)
    total, nll = linear_cross_entropy(hidden, matrix, target, weight, bias_v=bias, cap=cap)
    logits = hidden2 @ matrix2.T + bias2
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    plain = F.cross_entropy(logits, target, reduction="none")
    (3 * total).backward()
    (3 * (plain * weight).sum()).backward()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(nll, plain.detach(), rtol=tolerance, atol=tolerance)
    for ours, theirs in ((hidden, hidden2), (matrix, matrix2), (bias, bias2)):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=tolerance, atol=10 * tolerance)
    assert torch.autograd.gradcheck(
        lambda h, m: linear_cross_entropy(h, m, target[:5], weight[:5].double(), cap=cap)[0],
        (inputs[0][:5].double().requires_grad_(), inputs[1].double().requires_grad_()),
    )


def test_ar_loss_is_that_of_llama_for_causal_lm() -> None:
    model = backbone()
    batch = random_batch(8, 32, vocabulary=100)
    (view,) = parse("ar").view(batch, 0, 0)
    loss, _ = objective_loss(model, "ar", (view,), (1 / view.normaliser,))
    theirs = model.lm(batch.tokens, labels=batch.tokens).loss
    assert float(loss.detach()) == pytest.approx(float(theirs.detach()), abs=1e-6)


def test_offset_head_starts_as_the_lm_head_and_learns_its_offset() -> None:
    model = backbone((OffsetSpec(8),))
    (view,) = parse("dar").view(random_batch(4, 16), 0, 0)
    log = model.log_probabilities(view.shown, view.pairs.state)
    hidden = model.states(view.shown).flatten(0, 1)[view.pairs.state]
    torch.testing.assert_close(log, model.unembedding(hidden).log_softmax(-1))
    loss, _ = objective_loss(model, "dar", (view,), (1.0,))
    loss.backward()
    assert model.heads[0].down.weight.grad.abs().sum() > 0


def test_packed_documents_are_scored_as_if_alone() -> None:
    model = backbone().double()
    batch = random_batch(3, 24, packed=True)
    for spec in ("ar", "mlm(rate=0.4)"):
        (view,) = parse(spec).view(batch, 0, 0)
        together = model.states(view.shown)
        for span in (slice(0, 8), slice(8, 24)):
            alone = Shown(view.shown.input_ids[:, span], view.shown.attention)
            torch.testing.assert_close(
                model.states(alone), together[:, span], rtol=0, atol=1e-5
            )  # rotary angles are float32


# ---------------------------------------------------------------------------------------- export


def logits_of(model: Backbone, kind: str, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.unembedding(model.states(Shown(tokens, Attention(kind))))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "form", "auto", "architecture"),
    [
        ("ar", None, "AutoModelForCausalLM", "LlamaForCausalLM"),
        ("mlm", None, "AutoModelForMaskedLM", "EuroBertForMaskedLM"),
        ("vmlm", None, "AutoModelForMaskedLM", "EuroBertModel"),
        ("vmlm", "llama", "AutoModelForCausalLM", "LlamaForCausalLM"),
        ("mlm(shift=1) + mlm", None, "AutoModelForMaskedLM", "EuroBertModel"),
        ("ar + mlm", None, "AutoModelForCausalLM", "LlamaForCausalLM"),
        ("dar", None, "AutoModelForCausalLM", "LlamaForCausalLM"),
    ],
)
def test_exports_load_in_transformers_with_our_logits(
    spec: str, form: str | None, auto: str, architecture: str, tmp_path: Path
) -> None:
    import transformers

    objective = parse(spec)
    model = backbone(objective.head_specs()).eval()
    for parameter in model.parameters():  # away from the symmetry of a fresh model
        torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim > 1 else None
    export(model, tmp_path, objective.modes(), mask=3, form=form)
    loaded = getattr(transformers, auto).from_pretrained(tmp_path).eval()
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [architecture]
    assert (tmp_path / "generation_config.json").exists() == any(
        mode.attention == "causal" for mode in objective.modes()
    )
    tokens = torch.randint(4, 100, (4, 20))
    with torch.no_grad():
        theirs = loaded(tokens).logits
    kind = objective.modes()[0].attention
    torch.testing.assert_close(theirs, logits_of(model, kind, tokens), rtol=0, atol=1e-5)
    again = load(tmp_path)
    for (name, ours), (other, back) in zip(
        model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(ours, back)
    config = json.loads((tmp_path / "config.json").read_text())
    assert "auto_map" not in config, "no remote code"
    if form == "llama":
        assert config["is_causal"] is False
        assert config["use_cache"] is False


def test_eurobert_is_refused_where_it_would_lie(tmp_path: Path) -> None:
    for spec in ("ar", "ar + vmlm"):
        with pytest.raises(UserError, match="fill-mask reads the logits at the mask"):
            export(backbone(), tmp_path, parse(spec).modes(), mask=3, form="eurobert")
    with pytest.raises(UserError, match="unknown form"):
        export(backbone(), tmp_path, parse("ar").modes(), mask=3, form="bert")


@pytest.mark.slow
def test_fill_mask_gives_our_top_token_on_100_sentences(tmp_path: Path, store: Any) -> None:
    from transformers import pipeline

    from conftest import sentences

    tokenizer = store.codec
    model = backbone(vocabulary=tokenizer.size).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim > 1 else None
    export(model, tmp_path, parse("mlm").modes(), mask=tokenizer.vocabulary.mask)
    tokenizer.save(tmp_path)
    fill = pipeline("fill-mask", model=str(tmp_path), top_k=1)
    agreed = 0
    for number, sentence in enumerate(sentences(100, seed=3, length=(6, 12))):
        words = sentence.split()
        words[1 + number % (len(words) - 1)] = "<mask>"
        text = " ".join(words)
        ids = tokenizer.hf(text, return_tensors="pt").input_ids
        ours = int(
            logits_of(model, "bidirectional", ids)[
                0, (ids[0] == tokenizer.vocabulary.mask).nonzero()[0, 0]
            ].argmax()
        )
        agreed += fill(text)[0]["token"] == ours
    assert agreed == 100


def test_third_party_model_is_continued(real_data: Path) -> None:
    path = str(real_data / "models" / "stories260K")
    model = build(
        preset="nano",
        vocabulary=513,
        context=64,
        special=SPECIAL,
        init=path,
        heads=(OffsetSpec(4),),
    )
    require_honest_attention(model, ALL_MODES)
    assert model.unembedding.weight.shape[0] == 513
    with pytest.raises(UserError, match="longer than the 512 positions"):
        build(preset="nano", vocabulary=513, context=1024, special=SPECIAL, init=path)


def test_truncated_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load(tmp_path)
    export(backbone((OffsetSpec(8),)), tmp_path, parse("dar").modes(), mask=3)
    heads = tmp_path / "heads.safetensors"
    heads.write_bytes(heads.read_bytes()[:100])
    with pytest.raises(UserError, match=r"heads\.safetensors: truncated"):
        load(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="no causal LM or masked LM could be loaded"):
        load(tmp_path)


@pytest.mark.parametrize("training", [True, False])
def test_a_refusal_leaves_a_model_as_it_was(
    training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("on the way")

    lm = backbone().lm.train(training)
    monkeypatch.setattr(lm, "forward", broken)
    with pytest.raises(UserError, match="on the way"):
        last_step(lm, "model 'x'")
    assert lm.training is training
