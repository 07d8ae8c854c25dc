"""Exported folders: what transformers makes of them, what they say of themselves, their cards."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file

from lookaround.data.shards import TokenStore
from lookaround.data.text import load_tokenizer
from lookaround.model.backbone import Backbone, build
from lookaround.model.card import CARD_FILE, write_card
from lookaround.model.export import export, load
from lookaround.model.foreign import Source, load_model
from lookaround.model.readable import open_run
from lookaround.objectives import Mode, Shown, parse
from lookaround.objectives.contract import BIDIRECTIONAL
from lookaround.settings import read_settings
from lookaround.studies.pretrain import train_into
from lookaround.support.errors import UserError
from lookaround.train.budget import Budget
from lookaround.train.loop import exporter
from lookaround.train.run import build_backbone

CAUSAL, BEFORE, AT = (Mode("causal", 1),), (Mode("bidirectional", 1),), (Mode("bidirectional", 0),)
SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EURO = {"num_key_value_heads": 1, "mask_token_id": 3}


def lm(kind: str, head: str = "ForCausalLM", **options: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES | options)
    made = getattr(transformers, f"{kind}{head}")(config).eval()
    with torch.no_grad():  # away from the symmetry of a fresh model
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    return made


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())


def configure(folder: Path, **values: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config_of(folder) | values))


def fresh(spec: str, store: TokenStore, folder: Path, form: str | None = None) -> Backbone:
    """Exports a Llama as a run of this objective does."""
    objective = parse(spec)
    backbone = Backbone(lm("Llama", tie_word_embeddings=True), objective.head_specs())
    folder.mkdir(exist_ok=True)
    exporter(backbone, objective, store, form, length=32)(folder)
    return backbone.eval()


# ---------------------------------------------------------------------------------- what is written


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "head", "options", "dtype"),
    [
        ("GPT2", "LMHeadModel", {}, torch.float32),
        ("Llama", "ForCausalLM", {"num_key_value_heads": 1}, torch.bfloat16),
        ("Qwen2", "ForCausalLM", {"num_key_value_heads": 2}, torch.float16),
        (
            "Mixtral",
            "ForCausalLM",
            {"num_local_experts": 2, "num_key_value_heads": 1},
            torch.float32,
        ),
        ("Bert", "ForMaskedLM", {}, torch.float32),
        ("EuroBert", "ForMaskedLM", EURO, torch.bfloat16),
    ],
)
def test_a_model_of_others_is_written_as_it_was(
    kind: str, head: str, options: dict[str, Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    lm(kind, head, **options).to(dtype).save_pretrained(source)
    model, known = load_model(str(source))
    export(Backbone(model, source=known), out, AT if head == "ForMaskedLM" else CAUSAL, mask=3)
    before, after = load_file(source / "model.safetensors"), load_file(out / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype == dtype
        assert torch.equal(tensor, after[name]), name
    config = config_of(out)
    assert config.pop("lookaround")
    assert config == config_of(source), "architectures, dtype and dropouts too"
    if kind == "Mixtral":
        assert "model.layers.0.block_sparse_moe.experts.1.w2.weight" in after, "the hub's names"
    names = {file.name for file in source.iterdir()} - {"generation_config.json"}
    assert {file.name for file in out.iterdir()} - {"generation_config.json"} == names
    assert all(
        torch.equal(tensor, load(out).lm.state_dict()[name])
        for name, tensor in model.state_dict().items()
    )


def test_only_what_is_written_is_rounded(tmp_path: Path) -> None:
    model = lm("Llama", tie_word_embeddings=True)
    exact = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export(Backbone(model, source=Source(dtype=torch.bfloat16)), tmp_path, CAUSAL, mask=3)
    assert all(torch.equal(model.state_dict()[name], exact[name]) for name in exact)
    weights = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in weights, "tied tensors stay one"
    assert all(torch.equal(exact[name].bfloat16(), weights[name]) for name in weights)
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16


def test_a_model_that_turns_causal_is_read_so(store: TokenStore, tmp_path: Path) -> None:
    fresh("vmlm", store, tmp_path / "both", "llama")
    assert config_of(tmp_path / "both")["is_causal"] is False
    model, known = load_model(str(tmp_path / "both"))
    export(Backbone(model, source=known), tmp_path / "out", CAUSAL, mask=3)
    assert "is_causal" not in config_of(tmp_path / "out")
    ids = torch.arange(4, 20)[None]
    with torch.no_grad():
        read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
        one, other = read(ids).logits, read(ids[:, :8]).logits
    assert torch.allclose(one[:, :8], other, atol=1e-5)


def test_a_padding_token_without_a_row_is_not_named(tmp_path: Path) -> None:
    model = lm("Llama")
    model.config.pad_token_id = model.generation_config.pad_token_id = 300
    export(Backbone(model), tmp_path, CAUSAL, mask=3)
    read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)  # else an AssertionError
    assert read.generation_config.pad_token_id is None


def test_a_form_that_does_not_fit_is_refused_before_training(store: TokenStore) -> None:
    for form in ("llama", "eurobert"):
        with pytest.raises(UserError, match=f"--as {form}: only Llama weights fit, .* 'gpt2'"):
            exporter(Backbone(lm("GPT2", "LMHeadModel")), parse("mlm"), store, form)
    with pytest.raises(UserError, match="--as eurobert: with mlp_bias its unembedding has a bias"):
        exporter(Backbone(lm("Llama", mlp_bias=True)), parse("mlm"), store, "eurobert")


# ------------------------------------------------------------------------- what others make of them


@pytest.mark.slow
def test_a_model_that_predicts_from_the_state_before_is_misread_by_nothing(
    store: TokenStore, tmp_path: Path
) -> None:
    backbone = fresh("vmlm", store, tmp_path)
    assert config_of(tmp_path)["architectures"] == ["EuroBertModel"]
    with pytest.raises(Exception, match="does not define a `mask_token`"):
        transformers.pipeline("fill-mask", model=str(tmp_path))("the <mask> sat")
    with pytest.raises(ValueError, match="Unrecognized configuration class"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    with pytest.raises(Exception):  # noqa: B017 (transformers has no error of its own for it)
        transformers.pipeline("text-generation", model=str(tmp_path))("the cat")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("the <mask> sat", return_tensors="pt").input_ids
    mask = store.codec.vocabulary.mask
    assert mask in ids[0].tolist(), "it is in the vocabulary"
    assert tokenizer.mask_token is None
    assert config_of(tmp_path)["mask_token_id"] == mask
    states = transformers.AutoModel.from_pretrained(tmp_path)(ids).last_hidden_state
    torch.testing.assert_close(states, backbone.states(Shown(ids, BIDIRECTIONAL)))
    again = load_tokenizer(str(tmp_path))
    assert again.masked.mask_token_id == again.vocabulary.mask == mask
    assert again.rows == store.codec.rows


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["ar", "mtp(n=2)", "ar + mlm"])
def test_text_generation_of_a_batch_is_that_of_each_prompt(
    spec: str, store: TokenStore, tmp_path: Path
) -> None:
    fresh(spec, store, tmp_path)
    write = transformers.pipeline("text-generation", model=str(tmp_path), dtype=torch.float64)
    asked: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "return_full_text": False}
    prompts = ["the cat", "two dogs ran over the green hills and", "a"]
    texts = [made[0]["generated_text"] for made in write(prompts, batch_size=3, **asked)]
    assert texts == [write(prompt, **asked)[0]["generated_text"] for prompt in prompts]
    assert all(texts)
    assert len({*texts}) > 1


# ---------------------------------------------------------------------- what they say of themselves


@pytest.mark.parametrize(
    "spec", ["ar", "mlm(rate=0.3)", "vmlm", "mlm(shift=1)", "prefixlm", "ar + mlm", "mlm >> ar"]
)
@pytest.mark.parametrize("form", [None, "llama"])
def test_a_copied_folder_knows_its_modes(
    spec: str, form: str | None, store: TokenStore, tmp_path: Path
) -> None:
    fresh(spec, store, tmp_path, form)
    objective, run = parse(spec), open_run(tmp_path)
    assert run.info is None
    assert (run.modes, run.final_modes) == (objective.modes(), objective.final_modes())
    assert (run.context, run.whole) == (32, True)
    assert run.tokenizer.vocabulary == store.codec.vocabulary
    assert config_of(tmp_path)["lookaround"]["objective"] == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"modes": [["left", 1]]},
            r"field 'modes\[0\]' is \[\"left\", 1\]; expected an attention kind",
        ),
        ({"modes": []}, r"field 'modes' is \[\]; expected a list that is not empty"),
        ({"modes": [["causal", True]]}, r"field 'modes\[0\]' is \[\"causal\", true\]"),
        ({"final_modes": 3}, "field 'final_modes' is a number; expected a list"),
        (
            {"final_modes": [["causal", 1]]},
            "field 'final_modes' has a mode that 'modes' has not",
        ),
        ({"context": 65}, r"lookaround\.context is 65, must be 2 to 64"),
        ({"mask_token_id": 7}, r"mask_token_id is 7, the mask token of its tokenizer 3"),
    ],
)
def test_a_damaged_description_is_refused(
    change: dict[str, Any], message: str, store: TokenStore, tmp_path: Path
) -> None:
    fresh("vmlm", store, tmp_path)
    configure(tmp_path, lookaround=config_of(tmp_path)["lookaround"] | change)
    with pytest.raises(UserError, match=message) as caught:
        open_run(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)
    assert "\n" not in str(caught.value)
    configure(tmp_path, lookaround="vmlm")
    with pytest.raises(UserError, match=r"lookaround: truncated or not ours .found text; expected"):
        open_run(tmp_path)


def generation_config(folder: Path) -> dict[str, Any]:
    told = json.loads((folder / "generation_config.json").read_text())
    return {name: value for name, value in told.items() if name != "transformers_version"}


def test_generation_is_that_of_the_tokenizer(store: TokenStore, tmp_path: Path) -> None:
    source, own = tmp_path / "source", tmp_path / "tokenizer"
    model = lm("GPT2", "LMHeadModel", bos_token_id=40, eos_token_id=40, pad_token_id=None)
    model.save_pretrained(source)
    # as many published folders have it: transformers refuses to save it once anything has changed
    published = {"eos_token_id": [2, 41], "temperature": 0.6, "suppress_tokens": [50]}
    (source / "generation_config.json").write_text(json.dumps(published))
    store.codec.save(source)
    store.codec.save(own)
    for tokenizer, expected in (
        (None, published),
        (str(source), published),
        (str(own), {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}),
    ):
        settings = read_settings(None, [f"model.init={source}", "model.context=32"])
        settings.data.tokenizer = tokenizer
        for spec in ("ar", "ar + mlm"):
            backbone = build_backbone(settings, parse(spec), store.codec, 0)
            out = tmp_path / f"{expected is published}-{spec}"
            exporter(backbone, parse(spec), store)(out)
            assert generation_config(out) == expected
            assert config_of(out)["eos_token_id"] == (40 if expected is published else 2)
    exporter(backbone, parse("mlm"), store)(tmp_path / "masked")
    assert not (tmp_path / "masked" / "generation_config.json").exists()


def test_another_tokenizer_has_a_row_for_each_of_its_tokens(
    store: TokenStore, tmp_path: Path
) -> None:
    source, own = tmp_path / "source", tmp_path / "tokenizer"
    lm("Llama").save_pretrained(source)
    hf = copy.deepcopy(store.codec.hf)
    hf.add_special_tokens({"pad_token": "<last>"})
    hf.save_pretrained(own)
    settings = read_settings(
        None, [f"model.init={source}", f"data.tokenizer={own}", "model.context=32"]
    )
    other = SimpleNamespace(codec=load_tokenizer(str(own)))
    backbone = build_backbone(settings, parse("ar"), other.codec, 0)
    exporter(backbone, parse("ar"), other)(tmp_path / "out")
    config = config_of(tmp_path / "out")
    assert (config["vocab_size"], config["own_rows"], config["pad_token_id"]) == (301, 300, 300)
    write = transformers.pipeline("text-generation", model=str(tmp_path / "out"))
    write(["the cat", "two dogs ran over"], batch_size=2, max_new_tokens=4)  # is padded


# -------------------------------------------------------------------------------------------- cards


def front_matter(folder: Path) -> tuple[dict[str, Any], str]:
    _, front, text = (folder / CARD_FILE).read_text().split("---\n", 2)
    return yaml.safe_load(front), text


@pytest.mark.parametrize(
    ("spec", "form", "task", "said"),
    [
        ("ar", None, "text-generation", "the state at a token predicts the next one"),
        ("mlm(rate=0.3)", None, "fill-mask", 'pipeline("fill-mask", model=folder)'),
        ("vmlm", None, "feature-extraction", "`logits[:, i - 1]` are those of the token"),
        ("vmlm", "llama", "feature-extraction", "misread it as a causal model, without a word"),
        ("ar + mlm", None, "text-generation", "`lookaround generate --mode bidirectional`"),
        ("mtp(n=2)", None, "text-generation", "`heads.safetensors`"),
        ("mlm >> ar", None, "text-generation", "The end of the training left this out: both ways"),
    ],
)
def test_a_card_says_how_a_model_is_read(
    spec: str, form: str | None, task: str, said: str, store: TokenStore, tmp_path: Path
) -> None:
    fresh(spec, store, tmp_path, form)
    write_card(tmp_path, figures={"steps": 1234, "bits": 0.123456, "absent": None})
    front, text = front_matter(tmp_path)
    assert front == {
        "library_name": "transformers",
        "pipeline_tag": task,
        "tags": ["lookaround"],
    }
    assert said in text
    assert "| steps | 1,234 |\n| bits | 0.1235 |\n\n" in text
    code = text.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace("path/to/this/folder", str(tmp_path)), names)  # what it says works


def test_a_card_cannot_be_broken_by_what_it_names(store: TokenStore, tmp_path: Path) -> None:
    fresh("ar", store, tmp_path)
    evil = "a|b <script>x</script>\n# [here](http://x)"
    write_card(tmp_path, corpus=evil, fingerprint="0123456789abcdef", figures={})
    _, text = front_matter(tmp_path)
    (line,) = [line for line in text.splitlines() if line.startswith("| text |")]
    assert line == r"| text | a\|b \<script\>x\</script\> \# \[here\](http://x) |"
    assert "| fingerprint of the text | 0123456789ab |" in text


def test_a_run_has_a_card_and_a_checkpoint_none(store: TokenStore, tmp_path: Path) -> None:
    settings = read_settings(
        None,
        ["model.preset=pico", "model.context=32", "train.batch=4", "data.corpus=/tmp/my words.txt"],
    )
    out = tmp_path / "out"
    train_into(settings, parse("mlm"), Budget(400, "tokens"), store, out)
    _, text = front_matter(out)
    spent = yaml.safe_load((out / "run.yaml").read_text())["spent"]
    loss = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["loss"]
    for name, value in {
        "objective": "mlm",
        "text": "/tmp/my words.txt",
        "fingerprint of the text": store.index["key"]["corpus"][:12],
        "steps": spent["step"],
        "tokens": f"{spent['tokens']:,}",
        "FLOPs": f"{spent['flops']:.4g}",
        "last logged loss, nats a target": f"{loss:.4g}",
    }.items():
        assert f"| {name} | {value} |" in text
    assert build(preset="pico", vocabulary=0, context=32, special={}, init=str(out)), (
        "goes on from a folder with a card"
    )
    fresh("ar", store, tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint" / CARD_FILE).exists()
