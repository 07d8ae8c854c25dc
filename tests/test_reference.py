"""`speculate` beside transformers alone: what it is compared with and how exactly, what is asked
before anything is spent, and what is said of the speed.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lookaround.decode import Generated, Speculator, Tree, Writer
from lookaround.decode.cache import NotRewindable, require_rewindable
from lookaround.model.backbone import Backbone
from lookaround.model.export import export, load
from lookaround.model.readable import open_run
from lookaround.objectives.contract import Mode
from lookaround.objectives.heads import LookAheadSpec
from lookaround.report.findings import speculation_cells, speculation_lines
from lookaround.report.schema import SpeculationResults
from lookaround.settings import GenerationConfig, read_settings
from lookaround.studies.speculate import measure, reference
from lookaround.studies.speculate.reference import (
    copy_tokenizer,
    open_reference,
    require_same_export,
    transformers_generate,
    why_not_float64,
)
from lookaround.studies.speculate.request import Speculation, open_speculation
from lookaround.studies.speculate.speculate import speculate
from lookaround.studies.speculate.stages import Stages
from lookaround.support.errors import Interrupted, UserError
from lookaround.support.machine import available_memory
from lookaround.train.loop import StopSignal
from report_sample import speculation_results
from test_foreign import ROWS, bpe, gpt2, saved

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SMALL = [
    "speculate.samples=500",
    "speculate.prompts=8",
    "speculate.prompt_tokens=4",
    "speculate.new_tokens=8",
    "speculate.batches=[1,3]",
    "speculate.rounds=2",
    "speculate.budget=2k",
    "speculate.heads=medusa",
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(
        tmp_path / "gpt2", gpt2(), bpe(bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    )


def plan(source: Path, *more: str, **options: Any) -> Speculation:
    return open_speculation(read_settings(None, [*SMALL, *more], **options), source)


# ------------------------------------------------------------------------------------ the reference


def test_the_baseline_takes_no_penalty_and_no_beams_of_the_source(source: Path) -> None:
    """They would be compared with, and make plain generation slow."""
    file = source / "generation_config.json"
    told = json.loads(file.read_text()) | {"repetition_penalty": 1.8, "num_beams": 3}
    file.write_text(json.dumps(told))
    lm = open_reference(source, load(source))
    prompts = [[0, 5, 9, 20], [0, 7, 7, 7]]
    expected = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(10):
            ids.append(int(lm(torch.tensor([ids])).logits[0, -1].argmax()))
        expected.append(ids[4:])
    assert transformers_generate(lm, prompts, 10, ()) == expected
    penalised = AutoModelForCausalLM.from_pretrained(source)
    assert transformers_generate(penalised, prompts, 10, ()) != expected
    ends = expected[0][3], expected[0][5]
    first = min(expected[0].index(end) for end in ends)
    assert transformers_generate(lm, prompts[:1], 10, ends) == [expected[0][: first + 1]]


@pytest.mark.slow
def test_a_penalty_of_the_source_is_kept_and_not_compared_with(
    source: Path, tmp_path: Path
) -> None:
    file = source / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"repetition_penalty": 1.8}))
    found = speculate(plan(source), tmp_path / "fast")
    assert found["speculative"]["identical"]
    assert found["speculative"]["flips"] == 0
    kept = json.loads((tmp_path / "fast" / "generation_config.json").read_text())
    assert kept["repetition_penalty"] == 1.8


def test_rows_that_no_softmax_holds_are_never_written(source: Path) -> None:
    backbone = load(source)
    lm = backbone.lm
    rows = len(lm.get_output_embeddings().weight)
    lm.resize_token_embeddings(rows + 2, mean_resizing=False)
    with torch.no_grad():
        lm.get_output_embeddings().weight[rows:] = 0.0  # far above logits of about -30
    lm.save_pretrained(source)
    own = open_reference(source, Backbone(lm, own_rows=rows))
    assert max(transformers_generate(own, [[0, 5, 9]], 6, ())[0]) < rows
    assert transformers_generate(open_reference(source, Backbone(lm)), [[0, 5, 9]], 2, ())[0] == [
        rows,
        rows,
    ]


def change(name: str, value: Any) -> Callable[[Path], None]:
    def configure(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))

    return configure


def nudge(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["transformer.ln_f.bias"][3] += 1e-6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def grow(folder: Path) -> None:
    """What once was published: a random row for a mask token, of a logit far above all others."""
    lm = AutoModelForCausalLM.from_pretrained(folder)
    lm.resize_token_embeddings(len(lm.get_output_embeddings().weight) + 1, mean_resizing=False)
    lm.save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (nudge, r"other weights \(transformer.ln_f.bias\)"),
        (change("layer_norm_epsilon", 0.1), r"other logits \("),
        (grow, r"other weights \("),
    ],
)
def test_another_model_than_the_source_is_not_published(
    source: Path, tmp_path: Path, damage: Callable[[Path], None], what: str
) -> None:
    backbone, written = load(source), tmp_path / "written"
    backbone.lm.save_pretrained(written)
    prompts = [[0, 5, 9, 20], [0, 7, 7, 7]]
    require_same_export(written, str(source), backbone, prompts)
    require_same_export(written, None, backbone, prompts)
    damage(written)
    with pytest.raises(UserError, match=f"transformers reads {what}.*nothing was published"):
        require_same_export(written, str(source), backbone, prompts)


def test_every_file_of_a_tokenizer_is_copied(source: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.chat_template = "{% for m in messages %}<{{ m.content }}>{% endfor %}"
    tokenizer.save_pretrained(source)
    for name in ("added_tokens.json", "spiece.model", "vocab.txt"):
        (source / name).write_text("{}")
    copy_tokenizer(str(source), tmp_path)
    names = {file.name for file in tmp_path.iterdir() if file.is_file()}
    assert {"chat_template.jinja", "added_tokens.json", "spiece.model", "vocab.txt"} <= names
    assert {"tokenizer.json", "tokenizer_config.json"} <= names
    assert not {"config.json", "model.safetensors", "generation_config.json"} & names
    copied = AutoTokenizer.from_pretrained(tmp_path)
    message = [{"role": "user", "content": "cat"}]
    assert copied.apply_chat_template(message, tokenize=False) == "<cat>"


# ------------------------------------------------------------------------- asked before it is spent


def test_float64_is_tried_and_its_memory_estimated(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load(source)
    before = {name: tensor.clone() for name, tensor in backbone.lm.state_dict().items()}
    assert why_not_float64(backbone) == ""
    assert available_memory(backbone.device) > 0
    monkeypatch.setattr(reference, "available_memory", lambda device: 1000)
    assert "float64 needs 0.0 GB of memory, and 0.0 are free" in why_not_float64(backbone)
    monkeypatch.undo()

    def single(self: Any, ids: Any, **options: Any) -> Any:
        raise RuntimeError("expected Float32, got Double\nand a stack")

    monkeypatch.setattr(type(backbone.lm), "forward", single)
    assert why_not_float64(backbone) == (
        "float64 does not run in this architecture (expected Float32, got Double)"
    )
    after = backbone.lm.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_experts_are_compared_in_float64() -> None:
    """Their grouped products know no float64; multiplied one by one they do."""
    lm = tf.MixtralForCausalLM(
        tf.MixtralConfig(**SIZES, intermediate_size=32, num_local_experts=2, num_key_value_heads=2)
    )
    before = lm.get_experts_implementation()
    assert why_not_float64(Backbone(lm)) == ""
    assert lm.get_experts_implementation() == before
    with pytest.raises(RuntimeError, match="Double"):
        lm.double()(torch.arange(4)[None])


@pytest.mark.slow
def test_where_float64_cannot_be_the_precision_compared_is_said(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "available_memory", lambda device: 1000)
    result = speculate(plan(source), tmp_path / "fast")
    found = result["speculative"]
    assert found["precision_compared"] == "float32"
    assert found["identical"] == (found["flips"] == 0)
    (said,) = [line for line in speculation_lines(result) if line.startswith("greedy output")]
    assert "in float32 0 of 8 texts differ" in said
    assert "float64 needs" in said
    assert "the same" not in said


def test_heads_that_do_not_fit_are_refused_before_anything_is_made(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*arguments: Any, **options: Any) -> None:
        raise AttributeError("'MptConfig' object has no attribute 'num_key_value_heads'")

    request = plan(source)
    monkeypatch.setattr("lookaround.studies.speculate.request.Backbone", build)
    with pytest.raises(UserError, match=r"speculate\.heads: medusa heads do not fit model 'gpt2'"):
        plan(source)
    assert request.kind == "medusa"


# ------------------------------------------------------------------------------------------- caches


def models() -> dict[str, Any]:
    """Models that a tree of drafts cannot be written into."""
    alibi = {key: value for key, value in SIZES.items() if "_id" in key or key == "vocab_size"}
    local = {"attention_types": [[["global", "local"], 1]], "num_heads": 4, "num_layers": 2}
    return {
        "gpt_neo": tf.GPTNeoConfig(**alibi, **local, hidden_size=32, window_size=24),
        "falcon": tf.FalconConfig(**SIZES, alibi=True, new_decoder_architecture=False),
        "mpt": tf.MptConfig(**alibi, d_model=32, n_heads=4, n_layers=1),
        "bloom": tf.BloomConfig(**alibi, hidden_size=32, n_layer=1, n_head=4),
        "mistral": tf.MistralConfig(
            **SIZES, intermediate_size=32, num_key_value_heads=2, sliding_window=8
        ),
    }


@pytest.mark.parametrize("name", list(models()))
def test_caches_are_asked_past_every_window(name: str) -> None:
    torch.manual_seed(0)
    lm = AutoModelForCausalLM.from_config(models()[name]).eval()
    with pytest.raises(NotRewindable, match=f"model '{name}': ") as refused:
        require_rewindable(lm)
    assert "\n" not in str(refused.value)


def test_a_window_that_no_text_reaches_is_none() -> None:
    torch.manual_seed(0)
    config = models()["gpt_neo"]
    config.max_position_embeddings = config.window_size = 24
    require_rewindable(AutoModelForCausalLM.from_config(config).eval())
    config.max_position_embeddings, config.window_size = 100_000, 50_000
    lm = AutoModelForCausalLM.from_config(
        tf.GPT2Config(n_embd=16, n_layer=1, n_head=1, vocab_size=9)
    )
    lm.config.max_position_embeddings, lm.config.window_size = 100_000, 50_000
    with pytest.raises(NotRewindable, match="names a window of 50000 tokens"):
        require_rewindable(lm)


def test_generate_writes_a_token_per_pass_where_no_tree_is_possible(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    config = models()["mistral"]
    config.vocab_size, config.initializer_range = ROWS, 0.3
    lm = AutoModelForCausalLM.from_config(config).eval()
    folder = saved(tmp_path / "mtp", lm)
    export(Backbone(lm, (LookAheadSpec("medusa", 3),)), folder, (Mode("causal", 1),), mask=3)
    run = open_run(folder)
    writer = Writer(run, GenerationConfig(temperature=0, max_new_tokens=24))
    assert "model 'mistral': its cache cannot be rewound" in caplog.text
    assert caplog.text.count("so one token per pass") == 1
    assert (writer.speculator, writer.description) == (None, "one token per pass")
    made = Generated("the cat sat on the mat")
    for _ in writer.write(made):
        pass
    ids = [run.tokenizer.bos, *run.tokenizer.encode([made.prompt])[0]]
    reference = open_reference(folder, run.backbone)
    (expected,) = transformers_generate(reference, [ids], 24, run.eos)
    assert made.tokens == [token for token in expected if token not in run.eos]


# -------------------------------------------------------------------------------------- measurement


def result(*batches: tuple[int, int, float, list[float] | None], **more: Any) -> SpeculationResults:
    entry = speculation_results()["by_batch"][0]
    told = [
        entry | {"batch": batch, "nodes": nodes, "speedup": speedup, "interval": interval}
        for batch, nodes, speedup, interval in batches
    ]
    return SpeculationResults.of(speculation_results() | {"by_batch": told} | more)


def test_the_last_sentence_follows_from_the_intervals() -> None:
    found = result(
        (1, 6, 1.5, [1.4, 1.6]),
        (2, 4, 1.3, [1.1, 1.5]),
        (4, 4, 1.2, None),
        (8, 3, 1.02, [0.9, 1.15]),
        (16, 3, 0.9, [0.85, 0.95]),
        (32, 0, 1.3, [1.2, 1.4]),  # of our loop: no tree pays
    )
    assert speculation_lines(found)[-1].split("  ")[-1].strip() == (
        "on this machine it does at 1, 2 sequences at a time; not told apart from plain at 4, 8; "
        "it does not at 16, 32"
    )
    cells = [speculation_cells(entry) for entry in found.by_batch]
    assert cells[0][1] == "6"
    assert cells[0][-1] == "1.50 [1.40, 1.60]"
    assert cells[2][-1] == "1.20"
    assert cells[5][:3] == ["32", "none", "-"]
    assert cells[5][5:] == ["-", "-"]
    none = result((1, 3, 0.9, [0.8, 0.95]))
    assert speculation_lines(none)[-1].endswith("on this machine it does not at 1")
    one = result((1, 3, 1.9, [1.8, 1.95]))
    assert speculation_lines(one)[-1].endswith("it does at 1 sequence at a time")


@dataclass
class Clock:
    """A clock that a generation of ours moves by `fast`, one of transformers by `slow`."""

    now: float = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_a_speed_up_is_the_quotient_of_neighbours(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that slows down by the turn changes both alike; the interval says that."""
    request, clock, slow = plan(source), Clock(), iter(range(1, 1000))
    backbone = Backbone(request.run.backbone.lm, (LookAheadSpec("medusa", 3),)).eval()
    speculator = Speculator(backbone, Tree.chain(2), checked=True)
    pace = {"now": 1.0}

    def plain(lm: Any, some: list[list[int]], new: int, eos: Any) -> list[list[int]]:
        pace["now"] = float(next(slow))
        clock.now += 3 * pace["now"] * new
        return [[5] * new for _ in some]

    made = Speculator.generate

    def drafted(self: Speculator, some: Any, **options: Any) -> Any:
        found = made(self, some, **options | {"eos": None})
        clock.now += pace["now"] * options["max_new_tokens"]
        return found

    monkeypatch.setattr(measure.time, "perf_counter", clock.perf_counter)
    monkeypatch.setattr(measure, "transformers_generate", plain)
    monkeypatch.setattr(Speculator, "generate", drafted)
    found = measure.measure_speed(request, speculator, None, lambda *_: None, 3)
    assert found["speedup"] == pytest.approx(3)
    assert found["interval"] == pytest.approx([3, 3])
    assert found["nodes"] == 2
    speculator.trees = {1: Tree()}
    found = measure.measure_speed(request, speculator, None, lambda *_: None, 3)
    assert (found["nodes"], found["tokens_per_forward"]) == (0, 1.0)


def test_a_quick_measurement_takes_a_quarter_and_one_number_of_sequences(source: Path) -> None:
    quick, full = (plan(source, f"speculate.measure={how}") for how in ("quick", "full"))
    assert (quick.batches, full.batches) == ([1], [1, 3])
    assert quick.asked(quick.measure) == full.measure[::4]
    assert full.asked(full.measure) == full.measure
    assert quick.measure == full.measure  # so that heads need not be trained anew for the other


def test_a_finished_stage_is_read_again_where_it_depends_on_the_same(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"made": len(made), "tuple": (1, 2)}

    for _ in range(2):
        stages = Stages(tmp_path / "work", StopSignal(), lambda event: None)
        assert stages.kept("trees", [1, 2], dict, make) == {"made": 1, "tuple": [1, 2]}
    assert stages.kept("trees", [1], dict, make)["made"] == 2
    for number, text in enumerate(('{"depends": [1]', '{"depends": [1], "made": 3}', "[" * 9999)):
        (tmp_path / "work" / "trees.json").write_text(text)
        assert stages.kept("trees", [1], dict, make)["made"] == 3 + number
        assert stages.kept("trees", [1], dict, make)["made"] == 3 + number


@pytest.mark.slow
def test_a_signal_ends_a_timing_at_once_and_finished_stages_stay(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a text; what was calibrated is not calibrated again."""
    out, plain = tmp_path / "fast", measure.transformers_generate
    calls: list[int] = []

    def stopped(lm: Any, prompts: Any, new: int, eos: Any) -> list[list[int]]:
        calls.append(new)
        if new > 2:
            os.kill(os.getpid(), signal.SIGTERM)
            calls.append(-1)  # never comes here
        return plain(lm, prompts, new, eos)

    monkeypatch.setattr(measure, "transformers_generate", stopped)
    with pytest.raises(Interrupted, match=f"{out}: stopped in measuring speed; the same command"):
        speculate(plan(source), out)
    assert -1 not in calls
    monkeypatch.undo()
    kept = out / "work" / "calibration.json"
    calibrated = kept.stat().st_mtime_ns
    seen = []
    stop = StopSignal()

    def at(event: Any) -> None:
        seen.append((event.stage, kept.stat().st_mtime_ns if kept.is_file() else 0))
        stop.set = event.stage == "comparing with plain generation"

    with pytest.raises(Interrupted, match="in comparing with plain"):
        speculate(plan(source), out, stop=stop, report=at)
    assert not any(stage.startswith(("accuracies", "timing")) for stage, _ in seen)
    assert seen[-1][1] == calibrated
    stop.set = False
    result = speculate(plan(source), out)
    assert result["measure"] == "full"
    with pytest.raises(UserError, match=r"measured 'full'; give --measure full"):
        speculate(plan(source, "speculate.measure=quick"), out)
    assert open_run(out).backbone.head_specs
