"""Models of others: read exactly as they are, or refused by name; nothing of a folder is run or
made up.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from cli_runs import Run
from conftest import byte_level, sentences
from lookaround.data.corpus import make_corpus
from lookaround.data.shards import TokenStore, prepare
from lookaround.data.text import load_tokenizer
from lookaround.decode import Speculator, Stats, Tree, Writer
from lookaround.decode.verify import ExactSampling
from lookaround.model.backbone import Backbone, build
from lookaround.model.export import load
from lookaround.model.fingerprint import model_fingerprint
from lookaround.model.foreign import load_model
from lookaround.model.readable import open_run
from lookaround.objectives import parse
from lookaround.objectives.contract import Component, Pairs, Shown, View
from lookaround.objectives.heads import LookAheadSpec, NextLatentSpec
from lookaround.settings import Settings, read_settings
from lookaround.studies.pretrain import train_into
from lookaround.studies.speculate.request import open_speculation
from lookaround.studies.speculate.speculate import speculate
from lookaround.support.errors import UserError
from lookaround.train.budget import Budget, Plan
from lookaround.train.checkpoint import COUNTERS_FILE, STATE_FILE
from lookaround.train.loop import Trainer
from lookaround.train.loss import ObjectiveLoss
from lookaround.train.run import make_trainer

END = "<|endoftext|>"


def bpe(specials: tuple[str, ...] = (END,), **roles: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE that has no mask token."""
    return byte_level(specials, **roles)


ROWS = len(bpe())


def gpt2(**options: Any) -> transformers.GPT2LMHeadModel:
    """A model whose logits are all about -30, as GPT-2's are: one row of random numbers would take
    all of its law.
    """
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=ROWS,
        n_embd=32,
        n_layer=1,
        n_head=2,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        **options,
    )
    lm = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        lm.transformer.ln_f.bias[0], lm.transformer.ln_f.weight[0] = 10.0, 0.0
        lm.transformer.wte.weight *= 5
        lm.transformer.wte.weight[:, 0] = -3.0
    return lm


def llama(**options: Any) -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": ROWS,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 128,
    }
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes | options)).eval()


def saved(folder: Path, lm: Any, tokenizer: Any = None, **options: Any) -> Path:
    lm.save_pretrained(folder, **options)
    (tokenizer or bpe(bos_token=END, eos_token=END)).save_pretrained(folder)
    return folder


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """Changes the weights of a folder in place."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


def configure(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def law(backbone: Backbone, ids: Tensor, forbidden: Tensor | None = None) -> Tensor:
    """Log-probabilities at every state."""
    return backbone.log_probabilities(Shown(ids), torch.arange(ids.numel()), forbidden)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("foreign") / "gpt2", gpt2())


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "corpus.txt"
    file.write_text("\n\n".join(sentences(150)))
    return file


@pytest.fixture(scope="module")
def foreign_store(source: Path, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    corpus = make_corpus("words", sentences(150), {})
    return prepare(
        corpus, vocabulary=300, tokenizer=str(source), cache=tmp_path_factory.mktemp("store")
    )


def settings_of(source: Path, *more: str) -> Settings:
    assignments = [
        f"model.init={source}",
        "model.context=32",
        "train.batch=8",
        "train.checkpoint_every=2",
        "train.log_every=1",
        *more,
    ]
    return read_settings(None, assignments)


# -------------------------------------------------------------------------------- no row takes part


def test_reading_leaves_the_law_of_a_model_as_it_is(source: Path) -> None:
    lm = AutoModelForCausalLM.from_pretrained(source)
    run = open_run(source)
    assert run.backbone.lm.state_dict().keys() == lm.state_dict().keys()
    for name, tensor in run.backbone.lm.state_dict().items():
        assert torch.equal(tensor, lm.state_dict()[name]), name
    ids = torch.tensor([[0, 5, 9, 20]])
    with torch.no_grad():
        expected = lm(ids).logits[0].log_softmax(-1)
        assert torch.equal(law(run.backbone, ids), expected)
        special = torch.tensor(sorted({*run.tokenizer.vocabulary.special}))
        assert law(run.backbone, ids, special).isfinite().all(1).sum() == 0
    expected = lm.generate(ids, max_new_tokens=8, do_sample=False)[0, 4:].tolist()
    assert Speculator(run.backbone, Tree()).generate(ids.tolist(), max_new_tokens=8).tokens == [
        expected
    ]
    sampled = Speculator(run.backbone, Tree()).generate(
        [[0]] * 64,
        max_new_tokens=20,
        verifier=ExactSampling(torch.Generator(), sampled=False),
    )
    assert max(token for row in sampled.tokens for token in row) < ROWS
    made = [token for token, _ in Writer(run).tokens([0, 5, 9, 20], Stats())]
    assert made
    assert all(0 < token < ROWS for token in made)


@pytest.mark.slow
def test_speculate_writes_the_rows_of_its_source(source: Path, tmp_path: Path) -> None:
    small = [
        "speculate.samples=3000",
        "speculate.prompts=12",
        "speculate.prompt_tokens=8",
        "speculate.new_tokens=12",
        "speculate.batches=[1]",
        "speculate.rounds=1",
        "speculate.budget=10k",
    ]
    out = tmp_path / "fast"
    result = speculate(open_speculation(read_settings(None, small), source), out)
    assert result["speculative"]["identical"]
    before, after = load_file(source / "model.safetensors"), load_file(out / "model.safetensors")
    assert {name: tensor.shape for name, tensor in before.items()} == {
        n: t.shape for n, t in after.items()
    }
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((out / "config.json").read_text())["vocab_size"] == ROWS
    ids = torch.tensor([[0, 5, 9, 20], [0, 7, 7, 7]])
    one, other = (
        AutoModelForCausalLM.from_pretrained(folder).generate(
            ids, max_new_tokens=12, do_sample=False
        )
        for folder in (source, out)
    )
    assert torch.equal(one, other)
    assert int(other.max()) < ROWS


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["ar", "mtp(n=2)", "mlm(rate=0.5)", "ar + vmlm"])
def test_continuing_begins_at_the_models_own_loss(
    spec: str, source: Path, foreign_store: TokenStore, tmp_path: Path
) -> None:
    objective, settings = parse(spec), settings_of(source)
    trainer = make_trainer(settings, objective, foreign_store, seed=0, learning_rate=1e-3)
    backbone, lm = trainer.backbone, AutoModelForCausalLM.from_pretrained(source)
    masks = any(mode.attention == "bidirectional" for mode in objective.modes())
    assert (backbone.own_rows, len(backbone.embedding.weight)) == (
        (ROWS, ROWS + 1) if masks else (None, ROWS)
    )
    assert torch.equal(backbone.embedding.weight[:ROWS], lm.transformer.wte.weight)
    assert torch.allclose(backbone.embedding.weight[ROWS:], lm.transformer.wte.weight.mean(0))
    (views,), _ = trainer.views(0, objective)
    with torch.no_grad():
        _, sums = trainer.loss.eval()(objective.components(), views, (1.0,) * len(views))
        for view, total in zip(views, sums, strict=True):
            pairs = view.pairs
            assert float(total / pairs.weight.sum()) < 8, (
                "ln 270 is 5.6; a random row takes it to 30"
            )
            if view.shown.attention.kind == "causal":
                near = pairs.head == 0
                logits = lm(view.shown.input_ids).logits.flatten(0, 1)[pairs.state[near]]
                own = F.cross_entropy(logits, pairs.target[near], reduction="sum")
                assert float(total) == pytest.approx(float(own), rel=1e-4) or not near.all()
    out = tmp_path / "run"
    train_into(settings, objective, Budget(2000, "tokens"), foreign_store, out)
    first = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] < 8
    shapes = {name: tensor.shape for name, tensor in load_file(out / "model.safetensors").items()}
    expected = {
        name: tensor.shape for name, tensor in load_file(source / "model.safetensors").items()
    }
    if masks:
        expected["transformer.wte.weight"] = torch.Size([ROWS + 1, 32])
    assert shapes == expected
    again = open_run(out)
    assert again.backbone.own_rows == (ROWS if masks else None)
    assert law(again.backbone, torch.tensor([[0, 5]])).shape == (2, ROWS)
    assert (again.tokenizer.hf.mask_token_id == ROWS) == masks


def test_an_added_row_gets_no_gradient_from_a_softmax_and_is_never_written(tmp_path: Path) -> None:
    source = saved(tmp_path / "llama", llama(tie_word_embeddings=False))
    ids = torch.randint(ROWS, (2, 16), generator=torch.Generator().manual_seed(0))
    heads = (LookAheadSpec("medusa-own", 3), LookAheadSpec("hydra", 3), NextLatentSpec(1))
    components = (Component("all", heads=heads),)
    for tied in (False, True):
        model = llama(tie_word_embeddings=tied)
        own = Backbone(model, heads)
        torch.manual_seed(1)
        grown = build(
            preset="nano",
            vocabulary=ROWS,
            context=16,
            special={},
            mask=ROWS,
            init=str(saved(tmp_path / f"tied-{tied}", model)),
            heads=heads,
        )
        grown.heads.load_state_dict(own.heads.state_dict())
        assert grown.own_rows == ROWS
        results = []
        for backbone in (own, grown):
            number = torch.arange(1, 5).repeat_interleave(3)
            state = torch.arange(12)
            offset = torch.where(number > 2, 1, 2)
            head = torch.where(number > 2, 0, number)
            pairs = Pairs(state, ids.flatten()[state + offset], offset, head, torch.ones(12))
            view = View(Shown(ids), pairs, 1.0)
            total, _ = ObjectiveLoss(backbone)(components, (view,), (1.0,))
            total.backward()
            results.append(
                (float(total.detach()), {n: p.grad for n, p in backbone.named_parameters()})
            )
        assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
        for name, grad in results[0][1].items():
            more = results[1][1][name]
            torch.testing.assert_close(more[: len(grad)], grad, rtol=1e-5, atol=1e-6)
            assert not more[len(grad) :].any(), f"{name}: the added row was never shown"
    grown = build(
        preset="nano", vocabulary=ROWS, context=16, special={}, mask=ROWS, init=str(source)
    )
    with torch.no_grad():  # a row that would win everywhere
        grown.unembedding.weight[ROWS] = 100 * grown.unembedding.weight.mean(0).sign()
        grown.embedding.weight[ROWS] = grown.unembedding.weight[ROWS]
    made = Speculator(grown.eval(), Tree()).generate(ids.tolist(), max_new_tokens=12)
    assert max(token for row in made.tokens for token in row) < ROWS
    plain = grown.lm.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=None)
    assert plain[:, 16:].tolist() == made.tokens


def test_a_tokenizer_with_ids_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    tokenizer = bpe(bos_token=END, eos_token=END)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})  # never shown: no row is needed
    folder = saved(tmp_path / "llama", llama(), tokenizer)
    assert open_run(folder).backbone.embedding.weight.shape[0] == ROWS
    tokenizer.add_tokens(["longword"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        UserError, match=f"tokenizer has {ROWS + 2} tokens, its model only {ROWS} rows"
    ):
        open_run(folder)
    for own in (0, ROWS + 1, "x", True):
        configure(folder, own_rows=own)
        with pytest.raises(
            UserError, match=rf"own_rows of its config\.json is {own!r}, must be 1 to {ROWS}"
        ):
            load_model(str(folder))


@pytest.mark.parametrize(
    ("specials", "roles", "begins", "ends"),
    [
        ((END, "<s>"), {"bos_token": "<s>", "eos_token": END}, "<s>", END),
        ((END, "<s>"), {"cls_token": "<s>", "sep_token": END}, "<s>", END),
        (
            (END, "<|im_end|>"),
            {"eos_token": "<|im_end|>", "pad_token": END},
            "<|im_end|>",
            "<|im_end|>",
        ),
        ((), {}, "Ċ", None),
    ],
)
def test_texts_begin_with_a_token_that_the_tokenizer_has(
    specials: tuple[str, ...], roles: dict[str, str], begins: str, ends: str | None, tmp_path: Path
) -> None:
    hf = bpe(specials, **roles)
    before = hf.get_vocab()
    hf.save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.hf.get_vocab() == before, "a tokenizer is left as it is"
    (ids,) = tokenizer.documents(["the cat"])
    assert ids[0] == before[begins]
    assert (ids[-1] == before[ends]) if ends else tokenizer.eos is None
    assert tokenizer.rows == tokenizer.vocabulary.mask == len(before)
    assert tokenizer.masked.mask_token_id == tokenizer.vocabulary.mask
    assert (before[begins] in tokenizer.vocabulary.special) == bool(specials)


# ----------------------------------------------------------------------------------- no code is run


@pytest.mark.parametrize(
    ("command", "where"),
    [
        ("evaluate", "config"),
        ("generate", "tokenizer"),
        ("speculate", "config"),
        ("init", "config"),
        ("tokenizer", "tokenizer"),
    ],
)
def test_code_of_a_folder_never_runs(
    run: Run,
    command: str,
    where: str,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever is answered to a question that is asked at the terminal."""
    folder, trace = saved(tmp_path / "evil", llama()), tmp_path / "trace"
    (folder / "evil.py").write_text(
        f"open({str(trace)!r}, 'w').write('ran')\n"
        "from transformers import LlamaConfig, PreTrainedTokenizerFast\n"
        "class Config(LlamaConfig):\n    model_type = 'evil'\n"
        "class Fast(PreTrainedTokenizerFast):\n    pass\n"
    )
    if where == "config":
        configure(folder, model_type="evil", auto_map={"AutoConfig": "evil.Config"})
    else:
        file = folder / "tokenizer_config.json"
        told = json.loads(file.read_text()) | {
            "tokenizer_class": "Fast",
            "auto_map": {"AutoTokenizer": [None, "evil.Fast"]},
        }
        file.write_text(json.dumps(told))
    out = tmp_path / "out"
    arguments = {
        "evaluate": ["evaluate", folder, "--corpus", text],
        "generate": ["generate", folder, "the"],
        "speculate": ["speculate", folder, "--out", out],
        "init": ["pretrain", text, "--init", folder, "--budget", "1k", "--out", out],
        "tokenizer": ["pretrain", text, "--tokenizer", folder, "--budget", "1k", "--out", out],
    }[command]
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 1000))
    done = run(*arguments)
    assert not trace.exists()
    said = " ".join((done.out + done.err).split())
    if done.code:
        assert done.code == 2, said
        assert "code of a folder is never run" in said
    else:
        assert where == "tokenizer", "its tokenizer.json needs no class of its own"


# ----------------------------------------------------------------------------- no weight is made up


def dropped(name: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda weights: weights.pop(name)


@pytest.mark.slow
def test_missing_weights_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "one", llama())
    rewrite(folder, dropped("model.layers.1.mlp.up_proj.weight"))
    for read in (open_run, lambda path: load_model(str(path))):
        with pytest.raises(
            UserError, match=r"1 weights of .* missing from its files \(model.layers.1.mlp"
        ):
            read(folder)
    folder = saved(tmp_path / "head", llama())
    rewrite(folder, dropped("lm_head.weight"))
    with pytest.raises(UserError, match=r"missing from its files \(lm_head.weight\)"):
        open_run(folder)
    folder = saved(tmp_path / "all", llama())
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="missing from its files"):
        open_run(folder)
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="no causal LM or masked LM could be loaded"):
        open_run(folder)
    folder = saved(tmp_path / "layers", llama())
    configure(folder, num_hidden_layers=3, layer_types=None)
    with pytest.raises(UserError, match=r"missing from its files \(model.layers.2"):
        open_run(folder)
    for other in ("gpt2", "bert", "opt", "gpt_neox"):
        folder = saved(tmp_path / other, llama())
        configure(folder, model_type=other)
        with pytest.raises(UserError):
            open_run(folder)
    folder = saved(tmp_path / "shard", llama(), max_shard_size="20KB")
    min(folder.glob("model-*.safetensors")).unlink()
    with pytest.raises(UserError, match="no causal LM or masked LM could be loaded"):
        load_model(str(folder))


def test_weights_of_other_shapes_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "llama", llama())
    configure(folder, intermediate_size=64)
    with pytest.raises(
        UserError, match=r"of another shape .*mlp.down_proj.weight \(32, 48\) for \(32, 64\)"
    ):
        open_run(folder)
    folder = saved(tmp_path / "rows", llama())
    configure(folder, vocab_size=ROWS + 3)
    with pytest.raises(UserError, match="of another shape than its config"):
        load_model(str(folder))


def test_unexpected_weights_of_the_trunk_are_refused(tmp_path: Path) -> None:
    for layers in (0, 1):
        folder = saved(tmp_path / f"layers-{layers}", llama())
        configure(folder, num_hidden_layers=layers, layer_types=None)
        with pytest.raises(UserError, match=r"not in its architecture \(model\.layers"):
            open_run(folder)
    for name in (
        "model.layers.0.self_attn.q_proj.bias",
        "model.norm.bias",
        "lm_head.bias",
        "layers.3.mlp.weight",
    ):
        folder = saved(tmp_path / name, llama())
        rewrite(folder, lambda weights, name=name: weights.update({name: torch.zeros(32)}))
        with pytest.raises(UserError, match=rf"not in its architecture \({name}\)"):
            open_run(folder)


def test_a_pooler_or_head_that_is_left_out_is_named_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = saved(tmp_path / "llama", llama())
    more = {"score.weight": torch.zeros(2, 32), "model.pooler.dense.weight": torch.zeros(32, 32)}
    rewrite(folder, lambda weights: weights.update(more))
    open_run(folder)
    (record,) = caplog.records
    assert (
        "left out, since LlamaForCausalLM has no place for it: model.pooler.dense.weight, "
        "score.weight" in (record.getMessage())
    )


def test_whole_folders_of_every_form_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def same(folder: Path, lm: Any) -> None:
        for name, tensor in load_model(str(folder))[0].state_dict().items():
            assert torch.equal(tensor, lm.state_dict()[name]), name

    tied = llama(tie_word_embeddings=True)
    folder = saved(tmp_path / "tied", tied)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    same(folder, tied)
    old = saved(tmp_path / "old", llama())
    rewrite(
        old,
        lambda weights: weights.update(
            {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
        ),
    )
    same(old, llama())
    same(saved(tmp_path / "sharded", llama(), max_shard_size="20KB"), llama())
    pickled = saved(tmp_path / "bin", llama())
    (pickled / "model.safetensors").unlink()
    torch.save(llama().state_dict(), pickled / "pytorch_model.bin")
    same(pickled, llama())
    trunk = saved(tmp_path / "trunk", gpt2().transformer)  # names without a prefix, as on the hub
    same(trunk, gpt2())
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    euro = transformers.EuroBertForMaskedLM(
        transformers.EuroBertConfig(
            vocab_size=ROWS,
            num_attention_heads=2,
            num_key_value_heads=2,
            mask_token_id=5,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=0,
            **sizes,
        )
    )
    same(saved(tmp_path / "euro", euro), euro)
    assert not caplog.records


def test_a_fingerprint_holds_content_and_no_path(tmp_path: Path) -> None:
    one, other = (saved(tmp_path / name, llama()) for name in ("one", "other"))
    assert model_fingerprint(str(one)) == model_fingerprint(str(other))
    before = model_fingerprint(str(one))
    rewrite(one, lambda weights: weights["model.norm.weight"].add_(1e-6))
    assert model_fingerprint(str(one)) != before
    configure(other, rms_norm_eps=1e-3)
    assert model_fingerprint(str(other)) != before
    sharded = saved(tmp_path / "sharded", llama(), max_shard_size="20KB")
    before = model_fingerprint(str(sharded))
    last = max(sharded.glob("model-*.safetensors"))
    last.write_bytes(last.read_bytes()[:-1] + b"\1")
    assert model_fingerprint(str(sharded)) != before
    with pytest.raises(UserError, match=r"config\.json is missing"):
        model_fingerprint(str(tmp_path))


# ---------------------------------------------------------------------------------- optimiser state


@pytest.fixture(scope="module")
def trained(
    foreign_store: TokenStore, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A checkpoint after two steps."""
    trainer = trainer_of(foreign_store, source)
    for _ in range(2):
        trainer.step(Plan((1.0,), (4,)), 1.0)
    folder = tmp_path_factory.mktemp("trained")
    trainer.save(folder, lambda path: None)
    return folder / "checkpoint-00000002"


def trainer_of(store: TokenStore, source: Path) -> Trainer:
    return make_trainer(settings_of(source), parse("ar"), store, seed=0, learning_rate=1e-3)


def state(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        tensors = load_file(path / STATE_FILE)
        change(tensors)
        save_file(tensors, path / STATE_FILE)

    return apply


def counter(**values: Any) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        file = path / COUNTERS_FILE
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return apply


WTE = "model.lm.transformer.wte.weight"
WPE = "optimizer.lm.transformer.wpe.weight"  # of the optimiser


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (
            state(lambda t: t.update({f"{WPE}.exp_avg": torch.zeros(2)})),
            rf"{WPE}.exp_avg is \(2,\)",
        ),
        (
            state(lambda t: t.update({f"{WPE}.step": torch.zeros(3)})),
            rf"{WPE}.step is \(3,\)",
        ),
        (
            state(lambda t: t.update({f"{WPE}.exp_avg": t[f"{WPE}.exp_avg"].half()})),
            "in float16, in this model",
        ),
        (
            state(lambda t: t.update({"optimizer.x.exp_avg": t.pop(f"{WPE}.exp_avg")})),
            r"optimizer\.[\w.]+ is",
        ),
        (
            state(
                lambda t: t.update(
                    {"optimizer.lm.transformer.wxe.weight.exp_avg": t.pop(f"{WPE}.exp_avg")}
                )
            ),
            r"optimizer\.[\w.]+ is",
        ),
        (state(lambda t: t.update({"optimizer": t.pop(f"{WPE}.exp_avg")})), "optimizer"),
        (
            state(lambda t: t.update({"other.weight": t.pop(f"{WPE}.exp_avg")})),
            f"{WPE}.exp_avg is missing",
        ),
        (state(lambda t: t.pop(f"{WPE}.exp_avg_sq")), "holds .* tensors, .* were saved"),
        (
            state(lambda t: [t.pop(n) for n in list(t) if n.startswith("optimizer")]),
            "holds .* tensors, .* were saved",
        ),
        (state(lambda t: t.update({f"{WPE}.step": torch.tensor(-2.0)})), "have taken"),
        (state(lambda t: t.update({f"{WPE}.step": torch.tensor(7.0)})), "have taken"),
        (state(lambda t: t.update({f"{WPE}.step": torch.tensor(1.5)})), "have taken"),
        (state(lambda t: t.update({f"{WPE}.step": torch.tensor(torch.nan)})), "have taken"),
        (state(lambda t: t.update({WTE: t[WTE].half()})), rf"{WTE} is .* in float16"),
        (state(lambda t: t.update({WTE: t[WTE][:5]})), rf"{WTE} is \(5, 32\)"),
        (counter(step=4), r"counters\.json: is of step 4, its folder is checkpoint-00000002"),
        (counter(step=-2), r"counters\.json: .*'step' is -2; expected an integer from 0"),
        (counter(tokens=-5), r"counters\.json: .*'tokens' is -5"),
        (counter(seconds=-1.0), r"counters\.json: .*'seconds' is -1"),
    ],
)
def test_an_optimiser_state_that_does_not_fit_is_refused_before_it_is_copied(
    tamper: Callable[[Path], None],
    message: str,
    trained: Path,
    foreign_store: TokenStore,
    source: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / trained.name
    path.mkdir()
    for file in trained.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    trainer = trainer_of(foreign_store, source)
    trainer.restore_from(path)
    assert trainer.counters.step == 2
    trainer = trainer_of(foreign_store, source)
    before = trainer.snapshot()
    tamper(path)
    with pytest.raises(UserError, match=message) as caught:
        trainer.restore_from(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    after = trainer.snapshot()
    assert before[0] == after[0]
    assert before[1].keys() == after[1].keys()
    assert all(torch.equal(before[1][name], after[1][name]) for name in before[1])


def test_an_own_row_count_outlives_saving_and_continuing(source: Path, tmp_path: Path) -> None:
    from lookaround.model.export import export

    grown = build(
        preset="nano", vocabulary=ROWS, context=16, special={}, mask=ROWS, init=str(source)
    )
    export(grown, tmp_path, parse("ar + mlm").modes(), mask=ROWS)
    assert load(tmp_path).own_rows == ROWS
    assert json.loads((tmp_path / "generation_config.json").read_text())["suppress_tokens"] == [
        ROWS
    ]
    for mask in (None, ROWS):
        again = build(
            preset="nano", vocabulary=ROWS, context=16, special={}, mask=mask, init=str(tmp_path)
        )
        assert (again.own_rows, len(again.embedding.weight)) == (ROWS, ROWS + 1)
    larger = build(preset="nano", vocabulary=ROWS + 5, context=16, special={}, init=str(tmp_path))
    assert (larger.own_rows, len(larger.embedding.weight)) == (None, ROWS + 5), (
        "all of these may be targets"
    )
    assert larger.lm.generation_config.suppress_tokens is None


def test_a_folder_whose_weights_lie_in_several_files_is_read(tmp_path: Path) -> None:
    run = open_run(saved(tmp_path / "sharded", llama(), max_shard_size="20KB"))
    for name, tensor in llama().state_dict().items():
        assert torch.equal(run.backbone.lm.state_dict()[name].cpu(), tensor), name
