"""`speculate` from a model to a measured folder, what transformers makes of that folder, and what
is refused.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteriaList,
    StopStringCriteria,
    TextIteratorStreamer,
)
from transformers.utils import logging

from conftest import sentences
from lookaround import cli
from lookaround.decode import Speculator, Tree, custom_generate, load_speculator
from lookaround.decode.cache import require_rewindable
from lookaround.decode.speculative import Continued
from lookaround.model.backbone import Backbone, build
from lookaround.model.export import load, load_heads
from lookaround.model.lora import add_lora, merge_lora
from lookaround.objectives.heads import LookAheadSpec
from lookaround.settings import read_settings
from lookaround.studies.events import Event
from lookaround.studies.folder import StudyFolder
from lookaround.studies.speculate.request import open_speculation
from lookaround.studies.speculate.speculate import speculate
from lookaround.support.errors import Interrupted, UserError
from lookaround.train.loop import StopSignal

logging.set_verbosity_error()
SMALL = [
    "speculate.samples=3000",
    "speculate.prompts=12",
    "speculate.prompt_tokens=8",
    "speculate.new_tokens=12",
    "speculate.batches=[1,3]",
    "speculate.rounds=2",
    "speculate.budget=20k",
    "train.checkpoint_every=5",
]


def lookaround(*arguments: object, ok: bool = True) -> SimpleNamespace:
    """Runs the command in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        patch.object(sys, "argv", ["lookaround", *map(str, arguments)]),
    ):
        try:
            cli.main()
        except SystemExit as error:
            code = int(error.code or 0)
    assert (code == 0) == ok, err.getvalue()[-2000:]
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def sets(*more: str) -> list[str]:
    return [part for value in (*SMALL, *more) for part in ("--set", value)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("corpus") / "text.jsonl"
    file.write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in sentences(150, length=(30, 80)))
    )
    return file


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A small causal model, trained a little."""
    os.environ["LOOKAROUND_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")
    out = tmp_path_factory.mktemp("runs") / "ar"
    lookaround(
        "pretrain",
        corpus,
        "--budget",
        "60k",
        "--out",
        out,
        "--set",
        "data.vocabulary=300",
        "--set",
        "model.context=48",
        "--learning-rate",
        "0.004",
    )
    return out


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    """What `speculate` makes of it."""
    out = tmp_path_factory.mktemp("runs") / "fast"
    done = lookaround("speculate", run, "--out", out, "--json", out.with_suffix(".json"), *sets())
    assert "tokens per forward" in done.stdout
    return out


def prompts(model: LlamaForCausalLM, rows: int, width: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(5, model.config.vocab_size, (rows, width), generator=generator)


@pytest.mark.slow
def test_the_result_says_what_was_measured(fast: Path) -> None:
    result = json.loads(fast.with_suffix(".json").read_text())
    assert result["plain"]["tokens_per_second"] > 0
    found = result["speculative"]
    assert found["identical"] is True
    assert set(found) == {
        "tokens_per_forward",
        "tokens_per_second",
        "identical",
        "flips",
        "acceptance_by_depth",
        "precision_compared",
        "own_precision",
    }
    assert (found["precision_compared"], found["own_precision"]) == ("float64", None)
    assert len(found["acceptance_by_depth"]) <= 4  # of the depths that the tree has
    assert all(0 <= share <= 1 for share in found["acceptance_by_depth"])
    assert [entry["batch"] for entry in result["by_batch"]] == [1, 3]
    for entry in result["by_batch"]:
        low, high = entry["interval"]
        assert low < entry["speedup"] < high
    assert 0 not in result["trees"].values()
    assert 0 < result["bits_per_byte"] < 8


@pytest.mark.slow
def test_the_folder_is_a_plain_model_with_the_weights_it_was_made_of(run: Path, fast: Path) -> None:
    one, other = (AutoModelForCausalLM.from_pretrained(folder) for folder in (run, fast))
    assert type(other) is LlamaForCausalLM
    for (name, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    for file in (
        "tokenizer.json",
        "heads.safetensors",
        "speculation.json",
        "custom_generate/generate.py",
    ):
        assert (fast / file).is_file()
    assert not (fast / "work").exists()


@pytest.mark.slow
def test_the_same_command_again_does_nothing_and_other_settings_are_refused(
    run: Path, fast: Path
) -> None:
    before = {file: file.stat().st_mtime_ns for file in fast.rglob("*") if file.is_file()}
    lookaround("speculate", run, "--out", fast, *sets())
    assert before == {file: file.stat().st_mtime_ns for file in fast.rglob("*") if file.is_file()}
    done = lookaround("speculate", run, "--out", fast, "--depths", 2, *sets(), ok=False)
    assert done.returncode == 2
    assert "depths was 4, now 2" in done.stderr


@pytest.mark.slow
def test_a_model_is_known_by_its_weights_and_a_text_by_its_words(
    tmp_path: Path, run: Path, corpus: Path
) -> None:
    """Also half way, so that no sample and no head of the old model or text is taken over."""
    model, text, out = tmp_path / "model", tmp_path / "text.jsonl", tmp_path / "fast"
    shutil.copytree(run, model)
    shutil.copyfile(corpus, text)
    stop = StopSignal()

    def at_the_first_samples(event: Event) -> None:
        stop.set = event.stage == "samples of the model"

    def again(model: Path, **options: str) -> dict:
        stop.set = False
        given = {"data.corpus": str(text), "speculate.samples": 1000, **options}
        plan = open_speculation(read_settings(None, SMALL, **given), model)
        return speculate(plan, out, stop=stop, report=at_the_first_samples)

    with pytest.raises(Interrupted, match="the same command goes on"):
        again(model)
    samples = {file: file.stat().st_mtime_ns for file in (out / "work").glob("samples-*")}
    assert samples
    other = load_file(model / "model.safetensors")
    other = {name: tensor + 0.01 for name, tensor in other.items()}
    shutil.copytree(model, tmp_path / "other")
    save_file(other, tmp_path / "other" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"speculate\.yaml: .*the model has changed"):
        again(tmp_path / "other")
    longer = tmp_path / "longer.jsonl"
    longer.write_text(text.read_text() + json.dumps({"text": "one more document " * 30}) + "\n")
    with pytest.raises(UserError, match="the corpus or its tokenizer has changed"):
        again(model, **{"data.corpus": str(longer)})
    moved = model.rename(tmp_path / "moved")
    with pytest.raises(Interrupted):
        again(moved)
    assert samples == {file: file.stat().st_mtime_ns for file in samples}, (
        "what is there is not made again"
    )


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["accuracies on held-out prompts", "measuring speed"])
def test_a_stop_is_heard_in_every_stage(tmp_path: Path, run: Path, stage: str) -> None:
    stop = StopSignal()

    def at(event: Event) -> None:
        stop.set = event.stage == stage

    plan = open_speculation(read_settings(None, [*SMALL, "speculate.samples=1000"]), run)
    with pytest.raises(Interrupted, match="the same command goes on"):
        speculate(plan, tmp_path / "out", stop=stop, report=at)
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.slow
def test_a_second_process_is_kept_out(tmp_path: Path, run: Path) -> None:
    plan = open_speculation(read_settings(None, SMALL), run)
    with (
        StudyFolder(tmp_path / "out", "speculate.yaml", "made by speculate", {}).opened(),
        pytest.raises(UserError, match="another process is at work"),
    ):
        speculate(plan, tmp_path / "out")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_heads(tmp_path: Path, run: Path, fast: Path) -> None:
    """Its samples are kept, and the heads go on from their checkpoint."""
    out = tmp_path / "again"
    arguments = [
        sys.executable,
        "-m",
        "lookaround",
        "speculate",
        str(run),
        "--out",
        str(out),
        *sets(),
    ]
    job = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(1200):
        if job.poll() is not None or list((out / "work").glob("stage-0/checkpoint-*")):
            break
        time.sleep(0.05)
    job.kill()
    job.wait()
    assert (out / "work").is_dir(), "the kill came too late to test anything"
    lookaround(*arguments[3:])
    one, other = (load_file(folder / "heads.safetensors") for folder in (out, fast))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, 2])
def test_joint_training_changes_the_model_and_says_by_how_much(
    tmp_path: Path, run: Path, lora: int | None
) -> None:
    if lora:
        pytest.importorskip("peft", reason="peft is not installed")
    settings = read_settings(
        None,
        [*SMALL, "speculate.samples=1000"],
        **{"speculate.joint": True, "speculate.lora": lora},
    )
    result = speculate(open_speculation(settings, run), tmp_path / "out")
    assert result["speculative"]["identical"] is True
    assert result["bits_per_byte"] != result["bits_per_byte_before"]
    one, other = (
        AutoModelForCausalLM.from_pretrained(folder) for folder in (run, tmp_path / "out")
    )
    assert one.state_dict().keys() == other.state_dict().keys()
    same = [
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    ]
    assert not all(same)
    embeddings = [model.get_input_embeddings().weight for model in (one, other)]
    assert torch.equal(*embeddings) == bool(lora)  # adapters leave embeddings alone


@pytest.mark.slow
def test_a_model_with_heads_of_its_own_uses_them(tmp_path: Path, corpus: Path) -> None:
    out = tmp_path / "mtp"
    lookaround(
        "pretrain",
        corpus,
        "--objective",
        'mtp(n=3, heads="sequential")',
        "--budget",
        "10k",
        "--out",
        out,
        "--set",
        "data.vocabulary=300",
        "--set",
        "model.context=48",
    )
    settings = read_settings(None, SMALL)
    plan = open_speculation(settings, out)
    assert plan.kind is None
    result = speculate(plan, tmp_path / "fast")
    assert result["heads"].as_dict() == {"kind": "sequential", "depths": 2}
    assert result["speculative"]["identical"] is True
    one, other = (load_file(folder / "heads.safetensors") for folder in (out, tmp_path / "fast"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_without_text_the_model_begins_its_texts_itself(tmp_path: Path, real_data: Path) -> None:
    """A model that others trained: its text stays, and several tokens of it are made per pass."""
    model = real_data / "models" / "stories260K"
    settings = read_settings(
        None,
        [
            *SMALL,
            "speculate.heads=medusa",
            "speculate.samples=6000",
            "speculate.budget=60k",
            "train.batch=2",
        ],
    )
    result = speculate(open_speculation(settings, model), tmp_path / "fast")
    assert result["corpus"] == "samples of its own"
    assert result["bits_per_byte"] is None
    assert result["speculative"]["identical"] is True
    assert result["accuracies"][0][0] > 0.2  # the likeliest draft of the first depth


# ------------------------------------------------------------------------------ within transformers


@pytest.mark.slow
def test_a_trusted_folder_generates_what_the_plain_model_does(fast: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(fast).double()
    trusted = AutoModelForCausalLM.from_pretrained(fast, trust_remote_code=True).double()
    ids = prompts(plain, 3)
    options = {"max_new_tokens": 16, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    expected = plain.generate(ids, **options)
    assert torch.equal(trusted.generate(ids, **options), expected)
    assert torch.equal(trusted.generate(input_ids=ids, **options), expected)
    assert torch.equal(
        plain.generate(ids, custom_generate=str(fast), trust_remote_code=True, **options), expected
    )
    with pytest.raises(ValueError, match="trust_remote_code"):
        plain.generate(ids, custom_generate=str(fast), trust_remote_code=False, **options)


@pytest.mark.slow
def test_the_callable_obeys_what_generate_is_asked_for(fast: Path) -> None:
    speculator = load_speculator(fast)
    model = speculator.backbone.lm.double()
    speculator.backbone.double()
    quick = custom_generate(speculator)
    ids = prompts(model, 2)
    mask = torch.ones_like(ids)
    mask[1, :4] = 0  # left-padded, as transformers wants it
    options = {"max_new_tokens": 14, "do_sample": False, "attention_mask": mask, "pad_token_id": 0}
    for more in (
        {},
        {"repetition_penalty": 1.4},
        {"no_repeat_ngram_size": 2},
        {"eos_token_id": [7, 9, 11, 20]},
        {"min_new_tokens": 5, "eos_token_id": list(range(10, 150))},
    ):
        expected = model.generate(ids, **options, **more)
        assert torch.equal(
            model.generate(ids, custom_generate=quick, **options, **more), expected
        ), more
    penalty = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.7)])
    assert torch.equal(
        model.generate(ids, custom_generate=quick, logits_processor=penalty, **options),
        model.generate(ids, logits_processor=penalty, **options),
    )
    made = model.generate(ids, custom_generate=quick, return_dict_in_generate=True, **options)
    assert torch.equal(made.sequences, model.generate(ids, **options))
    assert speculator.last is not None
    assert speculator.last.passes < 14
    one = {
        "do_sample": True,
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.9,
        "max_new_tokens": 8,
        "pad_token_id": 0,
    }
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(model.generate(ids[:1], custom_generate=quick, **one))
    assert torch.equal(drawn[0], drawn[1])
    assert drawn[0].shape != drawn[2].shape or not torch.equal(drawn[0], drawn[2])
    with pytest.raises(UserError, match="num_beams"):
        model.generate(ids, custom_generate=quick, num_beams=2, **options)


@pytest.mark.slow
def test_stop_strings_and_streamers(fast: Path) -> None:
    speculator = load_speculator(fast)
    tokenizer = AutoTokenizer.from_pretrained(fast)
    model = speculator.backbone.lm
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer("12: the cat").input_ids]])
    options = {"max_new_tokens": 24, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    text = tokenizer.decode(model.generate(ids, **options)[0, ids.shape[1] :])
    stop = text[len(text) // 2 :][:3]
    expected = model.generate(ids, stop_strings=[stop], tokenizer=tokenizer, **options)
    criteria = StoppingCriteriaList([StopStringCriteria(tokenizer, [stop])])
    quick = custom_generate(speculator)
    assert torch.equal(
        model.generate(ids, stopping_criteria=criteria, custom_generate=quick, **options), expected
    )
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    model.generate(ids, custom_generate=custom_generate(speculator, streamer=streamer), **options)
    assert "".join(streamer) == text
    trusted = AutoModelForCausalLM.from_pretrained(fast, trust_remote_code=True)
    assert torch.equal(
        trusted.generate(ids, stop_strings=[stop], tokenizer=tokenizer, **options), expected
    )
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    trusted.generate(ids, streamer=streamer, **options)
    assert "".join(streamer) == text


@pytest.mark.slow
def test_generate_shows_drafts_and_says_the_same_without_them(
    fast: Path, run: Path, tmp_path: Path
) -> None:
    answers = []
    for model, more in ((fast, ["--show-drafts"]), (run, [])):
        file = tmp_path / "out.json"
        lookaround(
            "generate",
            model,
            "12: the cat",
            "3:",
            "--temperature",
            0,
            "--max-new-tokens",
            20,
            "--json",
            file,
            *more,
        )
        answers.append([text["continuation"] for text in json.loads(file.read_text())["texts"]])
    assert answers[0] == answers[1]
    done = lookaround("generate", run, "a", "--show-drafts", ok=False)
    assert "no heads that look ahead" in done.stderr
    cut = answers[0][0][:5]
    lookaround(
        "generate", fast, "12: the cat", "--temperature", 0, "--stop", cut[-2:], "--json", file
    )
    assert json.loads(file.read_text())["texts"][0]["continuation"].endswith(cut[-2:])
    for rule in ("exact", "typical"):
        options = ("--accept", rule, "--top-k", 5, "--max-new-tokens", 20, "--json", file)
        lookaround("generate", fast, "12: the cat", *options)
        assert json.loads(file.read_text())["texts"][0]["tokens_per_forward"] >= 1
    done = lookaround("generate", fast, "12: the cat", "--show-drafts", "--max-new-tokens", 64)
    assert "no drafts: prompt and --max-new-tokens are more" in done.stderr + done.stdout
    assert (
        "--accept: Input should be 'exact' or 'typical'"
        in lookaround("generate", fast, "a", "--accept", "all", ok=False).stderr
    )


# ------------------------------------------------------------------------------------- other models


def tiny(kind: type, config: type, **more: object) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 60,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return kind(config(**(sizes | more))).eval()


def test_medusa_heads_fit_other_architectures() -> None:
    """Learned absolute positions and a fused attention: the output is the plain one there too."""
    lm = tiny(GPT2LMHeadModel, GPT2Config, n_positions=48)
    for implementation in ("sdpa", "eager"):
        lm.set_attn_implementation(implementation)
        speculator = Speculator(Backbone(lm, (LookAheadSpec("hydra", 4),)).double())
        ids = torch.randint(3, 60, (3, 5), generator=torch.Generator().manual_seed(1))
        expected = lm.generate(
            ids, max_new_tokens=40, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        made = speculator.generate(ids.tolist(), max_new_tokens=40, tree=Tree.cartesian((2, 2, 1)))
        assert made.tokens == expected[:, 5:].tolist()


def test_generation_ends_where_the_context_does() -> None:
    lm = tiny(GPT2LMHeadModel, GPT2Config, n_positions=16)
    speculator = Speculator(Backbone(lm, (LookAheadSpec("medusa", 4),)))
    made: Continued = speculator.generate([[5, 6, 7], [5] * 12], max_new_tokens=40)
    assert made.ended == ["context", "context"]
    assert [len(text) for text in made.tokens] == [13, 4]


def test_caches_that_cannot_be_rewound_are_refused() -> None:
    with pytest.raises(UserError, match="cannot be rewound"):
        require_rewindable(tiny(MambaForCausalLM, MambaConfig, state_size=4))
    mistral = {"intermediate_size": 64, "num_key_value_heads": 2}
    with pytest.raises(UserError, match="cannot be rewound"):
        require_rewindable(tiny(MistralForCausalLM, MistralConfig, sliding_window=8, **mistral))
    require_rewindable(tiny(MistralForCausalLM, MistralConfig, sliding_window=None, **mistral))
    with pytest.raises(UserError, match="encoder"):
        require_rewindable(
            tiny(LlamaForCausalLM, LlamaConfig, intermediate_size=64, is_causal=False)
        )


def test_a_model_that_changes_its_logits_is_refused() -> None:
    class Capped(LlamaForCausalLM):
        def forward(self, *arguments: object, **more: object) -> object:
            out = super().forward(*arguments, **more)
            out.logits = 3 * torch.tanh(out.logits / 3)
            return out

    lm = tiny(Capped, LlamaConfig, intermediate_size=64, initializer_range=1.0)
    with pytest.raises(UserError, match="its logits are not its unembedding"):
        require_rewindable(lm)


# ---------------------------------------------------------------------------------------- bad input


def backbone(seed: int = 0, vocabulary: int = 40, depths: int = 2) -> Backbone:
    return build(
        preset="nano",
        vocabulary=vocabulary,
        context=64,
        special={},
        heads=(LookAheadSpec("medusa", depths + 1),),
        seed=seed,
    ).eval()


def test_trees_and_prompts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="is 3 deep, but the heads look only 2"):
        Speculator(backbone(), Tree.chain(3))
    short = backbone()
    short.lm.config.max_position_embeddings = 10
    made = Speculator(Backbone(short.lm, short.head_specs))
    with pytest.raises(UserError, match="prompt 1: is empty"):
        made.generate([[5], []], max_new_tokens=3)
    with pytest.raises(UserError, match="prompt 0: has 10 tokens, and the model's context of 10"):
        made.generate([[5] * 10], max_new_tokens=3)
    with pytest.raises(UserError, match="max_new_tokens"):
        made.generate([[5]], max_new_tokens=0)
    with pytest.raises(UserError, match="is 3 deep"):
        made.generate([[5]], max_new_tokens=3, tree=Tree.chain(3))


def test_heads_of_another_model_are_refused(tmp_path: Path) -> None:
    from lookaround.model.export import export
    from lookaround.objectives.contract import Mode

    def folder(name: str, model: Backbone) -> Path:
        (tmp_path / name).mkdir()
        export(model, tmp_path / name, (Mode("causal", 1),), mask=3)
        return tmp_path / name

    one, other, larger = (
        folder(name, model)
        for name, model in (
            ("one", backbone()),
            ("other", backbone(seed=1)),
            ("larger", backbone(vocabulary=50)),
        )
    )
    assert load_heads(one, load(one).lm.to(torch.bfloat16)) is not None  # in any precision
    (one / "heads.safetensors").write_bytes((other / "heads.safetensors").read_bytes())
    with pytest.raises(UserError, match="belong to another model"):
        load(one)
    (one / "heads.safetensors").write_bytes((larger / "heads.safetensors").read_bytes())
    with pytest.raises(UserError, match="vocabulary 50, this one has 40"):
        load(one)
    (one / "heads.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="truncated or foreign"):
        load(one)
    (one / "heads.safetensors").unlink()
    with pytest.raises(UserError, match="has no heads that look ahead"):
        load_speculator(one)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "truncated or not ours"),
        ('{"trees": {"1": [[0, 0]]}, "vocabulary": 40}', r"\[0, 0\] is there without \[0\]"),
        ('{"trees": {"1": [[0], "x"]}, "vocabulary": 40}', "list of paths"),
        ('{"trees": {"1": [[0], [0, 0], [0, 0, 0]]}, "vocabulary": 40}', "is 3 deep"),
        ('{"trees": {"1": [[0]]}, "vocabulary": 41}', "is of a model with 41 tokens"),
        ('{"trees": {}, "vocabulary": 40}', "field 'trees' is {}"),
        (
            '{"trees": {"1": [[0]]}, "vocabulary": 40, "shortlist": [3, 40]}',
            "shortlist must be token ids below 40",
        ),
    ],
)
def test_a_damaged_description_is_named(tmp_path: Path, text: str, message: str) -> None:
    from lookaround.model.export import export
    from lookaround.objectives.contract import Mode

    export(backbone(), tmp_path, (Mode("causal", 1),), mask=3)
    (tmp_path / "speculation.json").write_text(text)
    with pytest.raises(UserError, match=message):
        load_speculator(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["speculate.heads=foo"], "speculate.heads"),
        (["speculate.depths=0"], "speculate.depths"),
        (["speculate.budget=10s"], "tokens or FLOPs"),
        (["speculate.batches=[1,0]"], "speculate.batches.1"),
        (["speculate.prompt_tokens=600"], "more than the 512 positions"),
        (["speculate.prompt_tokens=300"], "has 300 tokens to prompt with"),
        (["speculate.lora=4"], "add --joint"),
        (["data.corpus=nowhere.txt"], "nowhere.txt"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    run: Path, assignments: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        open_speculation(read_settings(None, [*SMALL, *assignments]), run)


@pytest.mark.slow
def test_a_masked_model_is_refused_and_has_its_own_way(
    tmp_path: Path, corpus: Path, run: Path
) -> None:
    masked = tmp_path / "masked"
    lookaround(
        "pretrain",
        corpus,
        "--objective",
        "mlm",
        "--budget",
        "10k",
        "--out",
        masked,
        "--set",
        "data.vocabulary=300",
    )
    done = lookaround("speculate", masked, "--out", tmp_path / "out", *sets(), ok=False)
    assert done.returncode == 2
    assert "several tokens per pass need a causal model" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
    file = tmp_path / "texts.json"
    done = lookaround(
        "generate",
        masked,
        "the cat",
        "--order",
        "confidence",
        "--per-pass",
        4,
        "--max-new-tokens",
        12,
        "--json",
        file,
    )
    (text,) = json.loads(file.read_text())["texts"]
    assert text["passes"] <= 3
    assert "bits per token" in done.stdout
    assert text["bits_per_token"] > 0
    assert (
        "are for masked models"
        in lookaround("generate", run, "a", "--per-pass", 2, ok=False).stderr
    )


def test_adapters_are_merged_into_a_plain_model() -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    lm = build(preset="nano", vocabulary=40, context=32, special={}).lm
    names = set(lm.state_dict())
    ids = torch.arange(10)[None]
    before = lm(ids).logits
    add_lora(lm, 4)
    trained = [p for p in lm.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) < 0.1 * sum(p.numel() for p in lm.parameters())
    lm(ids).logits.square().mean().backward()
    with torch.no_grad():
        for parameter in trained:
            parameter += torch.randn_like(parameter) * 0.1
    changed = lm(ids).logits
    merge_lora(lm)
    assert set(lm.state_dict()) == names
    torch.testing.assert_close(lm(ids).logits, changed, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, changed, atol=1e-3)
