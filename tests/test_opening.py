"""What a model of others does beside a stock Llama: encoders, scaled and capped logits, windows,
ALiBi, dropout, files and names. The right values are transformers' own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedTokenizerFast

from conftest import objective_loss, sentences
from lookaround.data.corpus import make_corpus
from lookaround.data.shards import TokenStore, prepare
from lookaround.model.backbone import Backbone, build, require_honest_attention
from lookaround.model.fingerprint import model_folder
from lookaround.model.foreign import load_model
from lookaround.model.readable import open_run
from lookaround.objectives import parse
from lookaround.objectives.checks import random_batch
from lookaround.objectives.contract import BIDIRECTIONAL, CAUSAL, Mode, Shown
from lookaround.settings import read_settings
from lookaround.studies.pretrain import train_into
from lookaround.support.errors import UserError
from lookaround.train.budget import Budget
from lookaround.train.run import make_trainer

ROWS = 120
IN_PLACE = Mode("bidirectional", 0)
SIZES: dict[str, Any] = {
    "vocab_size": ROWS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
}
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", SIZES),
    "roberta": ("Roberta", SIZES | {"pad_token_id": 1}),
    "xlm-roberta": ("XLMRoberta", SIZES | {"pad_token_id": 1}),
    "distilbert": (
        "DistilBert",
        {"vocab_size": ROWS, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    ),
    "electra": ("Electra", SIZES | {"embedding_size": 16}),
    "albert": ("Albert", SIZES | {"embedding_size": 16}),
    "modernbert": ("ModernBert", SIZES | {"local_attention": 8, "pad_token_id": 0}),
    "deberta": (
        "DebertaV2",
        SIZES
        | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16},
    ),
}
WINDOWED: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral": ("Mistral", {"sliding_window": 8}),
    "phi3": ("Phi3", {"sliding_window": 8, "pad_token_id": 0}),
    "gemma3": (
        "Gemma3",
        {
            "sliding_window": 8,
            "head_dim": 16,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "qwen2": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
}


def made(name: str, kind: str, sizes: dict[str, Any], head: str) -> Any:
    """A model whose weights are three times their initial size, so that nothing hides."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}TextConfig" if name == "Gemma3" else f"{name}Config")(
        **sizes
    )
    lm = getattr(transformers, f"{name}{head}")(config).eval()
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim > 1:
                parameter *= 3
    return lm


def encoder(name: str, folder: Path) -> Path:
    kind, sizes = ENCODERS[name]
    made(kind, name, sizes, "ForMaskedLM").save_pretrained(folder / name)
    return folder / name


def decoder(name: str, folder: Path, **more: Any) -> Path:
    lm = made(name, name, SIZES | {"num_key_value_heads": 1} | more, "ForCausalLM")
    lm.save_pretrained(folder / name)
    return folder / name


def opened(folder: Path) -> Backbone:
    lm, source = load_model(str(folder))
    return Backbone(lm, source=source).eval()


def ids(rows: int = 3, width: int = 40) -> torch.Tensor:
    return torch.randint(4, ROWS, (rows, width), generator=torch.Generator().manual_seed(1))


# --------------------------------------------------------------------------------------- encoders


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_read_as_the_class_it_is(name: str, tmp_path: Path) -> None:
    folder = encoder(name, tmp_path)
    model = opened(folder)
    theirs = AutoModelForMaskedLM.from_pretrained(folder).eval()
    assert type(model.lm) is type(theirs)
    with torch.no_grad():
        expected = theirs(ids()).logits
        torch.testing.assert_close(
            model.logits(model.states(Shown(ids(), BIDIRECTIONAL))), expected
        )
        # a short row beside long ones, as transformers reads it alone
        numbers = torch.zeros_like(ids())
        numbers[1, 30:] = -1
        padded = model.logits(model.states(Shown(ids(), BIDIRECTIONAL, numbers)))
        torch.testing.assert_close(padded[[0, 2]], expected[[0, 2]])
        alone = theirs(ids()[1:2, :30]).logits
        torch.testing.assert_close(padded[1:2, :30], alone, rtol=1e-4, atol=1e-4)
    assert len(model.states(Shown(ids(), BIDIRECTIONAL), all_layers=True)) == 3
    require_honest_attention(model, [IN_PLACE], packed=False)
    if name == "deberta":
        with pytest.raises(UserError, match=r"takes no attention mask of ours.*packed rows"):
            require_honest_attention(model, [IN_PLACE])
    else:
        require_honest_attention(model, [IN_PLACE])


@pytest.mark.parametrize("name", ["bert", "roberta", "electra"])
def test_the_loss_of_an_encoder_is_its_own(name: str, tmp_path: Path) -> None:
    model = opened(encoder(name, tmp_path))
    (view,) = parse("mlm(rate=0.4)").view(random_batch(4, 24, vocabulary=ROWS), 0, 0)
    loss, _ = objective_loss(model, "mlm(rate=0.4)", (view,), (1.0,))
    logits = model.lm(view.shown.input_ids).logits.flatten(0, 1)[view.pairs.state]
    expected = F.cross_entropy(logits, view.pairs.target, reduction="sum")
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    loss.backward()
    mine = {n: p.grad.clone() for n, p in model.lm.named_parameters() if p.grad is not None}
    model.zero_grad()
    expected.backward()
    for n, parameter in model.lm.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(mine[n], parameter.grad, rtol=1e-3, atol=1e-4)


def test_a_roberta_has_as_many_positions_as_it_can_read(tmp_path: Path) -> None:
    model = opened(encoder("roberta", tmp_path))
    assert model.limit == 64
    model.states(Shown(ids(1, 64), BIDIRECTIONAL))
    with pytest.raises((IndexError, RuntimeError)):
        model.states(Shown(ids(1, 65), BIDIRECTIONAL))
    assert opened(encoder("bert", tmp_path)).limit == 66


# -------------------------------------------------------------------------- the last step of logits


@pytest.mark.parametrize(
    ("name", "more", "scale", "cap"),
    [
        ("Granite", {"logits_scaling": 8.0}, 0.125, None),
        ("Cohere", {"logit_scale": 0.0625}, 0.0625, None),
        ("Gemma2", {"final_logit_softcapping": 3.0, "head_dim": 16}, 1.0, 3.0),
        ("NanoChat", {"final_logit_softcapping": 2.0}, 1.0, 2.0),
        ("MiniCPM3", None, None, None),
        ("Olmo2", {}, 1.0, None),
    ],
)
def test_logits_are_scaled_and_capped_as_the_model_does(
    name: str, more: dict[str, Any] | None, scale: float | None, cap: float | None, tmp_path: Path
) -> None:
    if more is None:
        pytest.importorskip("transformers.models.minicpm3")
        more = {
            "q_lora_rank": 16,
            "kv_lora_rank": 8,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 16,
            "num_key_value_heads": 2,
            "dim_model_base": 8,
        }
    folder = decoder(name, tmp_path, **more)
    model = opened(folder)
    if scale is not None:
        assert (model.source.scale, model.source.cap) == (scale, cap)
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = theirs(ids()).logits
        found = model.logits(model.states(Shown(ids(), CAUSAL)))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for spec in ("ar", "mtp(n=2, heads='medusa')", "mtp(n=2, heads='medusa-own')"):
        objective = parse(spec)
        whole = Backbone(model.lm, objective.head_specs(), source=model.source)
        (view,) = objective.view(random_batch(4, 24, vocabulary=ROWS), 0, 0)
        _, sums = objective_loss(whole, spec, (view,), (1.0,))
        # heads begin as copies of the LM head, with its last step
        pairs = view.pairs
        logits = theirs(view.shown.input_ids).logits.flatten(0, 1)[pairs.state]
        own = F.cross_entropy(logits, pairs.target, reduction="none") * pairs.weight
        assert float(sums[0]) == pytest.approx(float(own.sum().detach()), rel=1e-5)


def test_a_cap_reaches_the_gradients(tmp_path: Path) -> None:
    model = opened(decoder("Gemma2", tmp_path, final_logit_softcapping=3.0, head_dim=16))
    (view,) = parse("ar").view(random_batch(4, 24, vocabulary=ROWS), 0, 0)
    objective_loss(model, "ar", (view,), (1 / view.normaliser,))[0].backward()
    mine = {n: p.grad.clone() for n, p in model.lm.named_parameters()}
    model.zero_grad()
    model.lm(view.shown.input_ids, labels=view.shown.input_ids).loss.backward()
    for name, parameter in model.lm.named_parameters():
        torch.testing.assert_close(mine[name], parameter.grad, rtol=1e-3, atol=1e-6)


# ------------------------------------------------------------------------------------------ masks


@pytest.mark.parametrize("name", WINDOWED)
def test_a_mask_keeps_the_window_of_its_layers(name: str, tmp_path: Path) -> None:
    kind, more = WINDOWED[name]
    model = opened(decoder(kind, tmp_path, **more))
    assert model.source.masks.windows
    assert model.lm.config.sliding_window == 8, "asked with a narrow one, and put back"
    for attention in (CAUSAL, BIDIRECTIONAL):
        pure, told = (
            model.states(Shown(ids(), attention, numbers)) for numbers in (None, ids() * 0)
        )
        torch.testing.assert_close(pure, told, rtol=1e-4, atol=1e-4)
        # one short row changes nothing for those beside it
        numbers = torch.zeros_like(ids())
        numbers[1, 30:] = -1
        short = model.states(Shown(ids(), attention, numbers))
        torch.testing.assert_close(short[[0, 2]], pure[[0, 2]], rtol=1e-4, atol=1e-4)
    require_honest_attention(model, [Mode("causal", 1), IN_PLACE, Mode("prefix", 1)])
    # a model that forgets its window under a mask is found out
    blind = Backbone(model.lm, source=load_model(str(tmp_path / kind))[1].__class__())
    with pytest.raises(UserError, match=r"otherwise when it is told so|does not keep"):
        require_honest_attention(blind, [IN_PLACE])


def test_alibi_models_are_read_without_masks_and_refused_where_one_is_needed(
    tmp_path: Path,
) -> None:
    sizes = {"vocab_size": ROWS, "hidden_size": 32, "n_layer": 2, "n_head": 2}
    made("Bloom", "", sizes, "ForCausalLM").save_pretrained(tmp_path / "bloom")
    model = opened(tmp_path / "bloom")
    require_honest_attention(model, [Mode("causal", 1)], packed=False)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(model.states(Shown(ids()))), model.lm(ids()).logits)
    for mode, packed in ((Mode("causal", 1), True), (Mode("prefix", 1), False)):
        with pytest.raises(UserError, match="model 'bloom': takes no attention mask of ours"):
            require_honest_attention(model, [mode], packed=packed)


def test_an_opt_is_told_its_positions(tmp_path: Path) -> None:
    sizes = {
        "vocab_size": ROWS,
        "hidden_size": 32,
        "word_embed_proj_dim": 16,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    }
    made("OPT", "", sizes, "ForCausalLM").save_pretrained(tmp_path / "opt")
    model = opened(tmp_path / "opt")
    require_honest_attention(model, [Mode("causal", 1), IN_PLACE, Mode("prefix", 1)])
    with torch.no_grad():
        torch.testing.assert_close(
            model.logits(model.states(Shown(ids(), CAUSAL, ids() * 0))), model.lm(ids()).logits
        )


# ---------------------------------------------------------------------------- continuing an encoder


def tokenizer_of_words() -> PreTrainedTokenizerFast:
    """WordPiece-like: lower case, no spaces kept, [CLS] and [SEP]."""
    from tokenizers import decoders, normalizers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    trainer = trainers.WordPieceTrainer(
        vocab_size=ROWS, special_tokens=list(special.values()), show_progress=False
    )
    tokenizer.train_from_iterator(sentences(150), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def continued(name: str, folder: Path) -> tuple[Path, TokenStore]:
    """(an encoder with a tokenizer of words, a text in its tokens)."""
    source = encoder(name, folder)
    tokenizer_of_words().save_pretrained(source)
    corpus = make_corpus("words", sentences(150), {})
    return source, prepare(corpus, vocabulary=300, tokenizer=str(source), cache=folder / "store")


@pytest.mark.parametrize("name", ["bert", "modernbert", "deberta"])
def test_an_encoder_is_continued_and_saved_as_it_was(name: str, tmp_path: Path) -> None:
    folder, store = continued(name, tmp_path)
    settings = read_settings(
        None, [f"model.init={folder}", "model.context=32", "train.batch=8", "train.log_every=1"]
    )
    objective = parse("mlm(rate=0.3)")
    before = AutoModelForMaskedLM.from_pretrained(folder).eval()
    trainer = make_trainer(settings, objective, store, seed=0)
    (views,), _ = trainer.views(0, objective)
    (view,) = views
    with torch.no_grad():
        _, sums = trainer.loss(objective.components(), views, (1.0,))
        numbers = view.shown.documents
        told = None if numbers is None else (numbers == 0).long()
        logits = before(view.shown.input_ids, attention_mask=told).logits.flatten(0, 1)
        own = F.cross_entropy(logits[view.pairs.state], view.pairs.target, reduction="sum")
    assert float(sums[0]) == pytest.approx(float(own), rel=1e-4), "begins at its own loss"
    out = tmp_path / "run"
    train_into(settings, objective, Budget(6000, "tokens"), store, out)
    kept, info = AutoModelForMaskedLM.from_pretrained(out, output_loading_info=True)
    assert type(kept) is type(before)
    assert not info["missing_keys"], "nothing is lost at the save"
    config = json.loads((out / "config.json").read_text())
    source = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == source["architectures"]
    assert {k: v for k, v in config.items() if "drop" in k} == {
        k: v for k, v in source.items() if "drop" in k
    }, "dropout is off in training alone"
    run = open_run(out)
    assert run.modes == (IN_PLACE,)
    with torch.no_grad():
        expected = kept.eval()(ids(2, 20)).logits
        ours = run.backbone.logits(run.backbone.states(Shown(ids(2, 20), BIDIRECTIONAL)))
        torch.testing.assert_close(ours, expected)
    assert run.tokenizer.hf.convert_ids_to_tokens([run.tokenizer.bos, run.tokenizer.eos]) == [
        "[CLS]",
        "[SEP]",
    ]


def test_an_encoder_refuses_what_it_was_not_made_for(tmp_path: Path) -> None:
    folder, store = continued("bert", tmp_path)
    settings = read_settings(None, [f"model.init={folder}", "model.context=32"])
    for spec in ("ar", "vmlm", "ar + mlm", "prefixlm", "mtp"):
        with pytest.raises(UserError, match=r"model 'bert': is an encoder.*Take mlm\(rate=0.3\)"):
            make_trainer(settings, parse(spec), store, seed=0)


# ------------------------------------------------------------------------------- files and names


def test_dropout_is_off_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = encoder("bert", tmp_path)
    build(preset="nano", vocabulary=ROWS, context=16, special=None, init=str(folder))
    model = build(preset="nano", vocabulary=ROWS, context=16, special=None, init=str(folder))
    assert model.source.dropouts == {
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
    }
    assert [r.message for r in caplog.records] == [
        f"model '{folder}': is trained without its dropout (hidden_dropout_prob 0.1, "
        "attention_probs_dropout_prob 0.1), so that runs resume exactly; its config.json keeps it"
    ]
    shown = Shown(ids(), BIDIRECTIONAL)
    assert torch.equal(model.train().states(shown), model.eval().states(shown))


def test_weights_in_shards_and_in_bin_files_are_read(tmp_path: Path) -> None:
    lm = made("Llama", "", SIZES, "ForCausalLM")
    lm.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    lm.config.save_pretrained(tmp_path / "bin")
    torch.save(lm.state_dict(), tmp_path / "bin" / "pytorch_model.bin")
    for name in ("shards", "bin"):
        for key, tensor in load_model(str(tmp_path / name))[0].state_dict().items():
            assert torch.equal(tensor, lm.state_dict()[key])
    # a file that would run code is not unpickled

    class Harm:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"lm_head.weight": Harm()}, tmp_path / "bin" / "pytorch_model.bin")
    with pytest.raises(UserError, match="could be loaded"):
        load_model(str(tmp_path / "bin"))
    assert not (tmp_path / "touched").exists()


def test_a_name_on_the_hub_is_what_was_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = made("Llama", "", SIZES, "ForCausalLM")
    snapshot = tmp_path / "models--me--small" / "snapshots" / "abc"
    lm.save_pretrained(snapshot)
    (tmp_path / "models--me--small" / "refs").mkdir()
    (tmp_path / "models--me--small" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    assert model_folder("me/small") == snapshot
    for key, tensor in load_model("me/small")[0].state_dict().items():
        assert torch.equal(tensor, lm.state_dict()[key])
    for name in ("me/other", "me/small/more", "./small", "a b"):
        with pytest.raises(UserError, match=f"{name}: no such folder"):
            model_folder(name)
    shutil.rmtree(snapshot)


def test_a_model_whose_router_draws_is_trained_in_evaluation_mode(tmp_path: Path) -> None:
    sizes = SIZES | {"num_key_value_heads": 1, "num_local_experts": 4, "router_jitter_noise": 0.1}
    made("Mixtral", "", sizes, "ForCausalLM").save_pretrained(tmp_path / "mixtral")
    model = opened(tmp_path / "mixtral")
    assert model.source.still
    assert model.lm.config.router_jitter_noise == 0.1
    one, other = (model.train().states(Shown(ids())) for _ in range(2))
    assert torch.equal(one, other)
    assert model.training
    assert not model.lm.training
    assert not opened(decoder("Llama", tmp_path)).source.still


def test_rows_that_are_alike_do_not_look_like_a_broken_pattern(tmp_path: Path) -> None:
    grown = build(
        preset="nano",
        vocabulary=40 * ROWS,
        context=16,
        special=None,
        init=str(decoder("Llama", tmp_path)),
    )
    require_honest_attention(grown, [Mode("causal", 1), IN_PLACE])


def test_ends_that_are_no_tokens_and_weights_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    folder = decoder("Llama", tmp_path)
    (folder / "generation_config.json").write_text('{"eos_token_id": "x"}')
    with pytest.raises(UserError, match=r"generation_config\.json: eos_token_id is 'x', must be"):
        load_model(str(folder))
    lm = made("Llama", "", SIZES, "ForCausalLM")
    with torch.no_grad():
        lm.model.layers[0].mlp.up_proj.weight[0, 0] = torch.nan
    lm.save_pretrained(tmp_path / "nan")
    with pytest.raises(UserError, match="its logits are not finite"):
        load_model(str(tmp_path / "nan"))


def test_an_encoder_decoder_is_refused_by_name(tmp_path: Path) -> None:
    config = transformers.T5Config(
        vocab_size=ROWS, d_model=32, d_ff=48, num_layers=1, num_heads=2, d_kv=16
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="'t5' is an encoder-decoder; causal LMs and encoders"):
        load_model(str(tmp_path))
