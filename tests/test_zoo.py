"""Models of many architectures are read, continued and exported exactly; the check can fail.

`python -m benchmarks.zoo` tries every model under every command. Here are the cheapest cells that
cover each kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.records import DATA
from benchmarks.zoo import CELLS, Cell, Subject, cell, counts, reasons
from benchmarks.zoo_models import MODELS, library_text, make
from lookaround.decode import causal
from lookaround.evaluation import bits_per_byte
from lookaround.model import backbone as backbones
from lookaround.model import sizes
from lookaround.model.heads import build_head, depth_states
from lookaround.model.lora import add_lora, merge_lora, require_lora
from lookaround.model.masks import Masks
from lookaround.objectives.contract import Component, Pairs, Shown, View
from lookaround.objectives.heads import LOOK_AHEAD_KINDS, LookAheadSpec
from lookaround.studies import pretrain as pretraining
from lookaround.support.errors import UserError
from lookaround.train import run as runs
from lookaround.train.budget import view_flops

TEXT = library_text()


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    """A model of the zoo by name; each is made once."""
    work = tmp_path_factory.mktemp("zoo")
    text = work / "library.txt"
    text.write_text("\n\n".join(TEXT))
    made: dict[str, Subject] = {}

    def of(name: str) -> Subject:
        folder = work / name
        if name not in made:
            made[name] = Subject(name, make(name, TEXT, folder), folder, text, work)
        return made[name]

    return of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("gpt2", "ar generate"),  # Conv1D, learned positions, dropout, logits far below 0
        ("granite", "ar"),  # a scale
        ("gemma2", "reading mlm(rate=0.3)"),  # a cap, and windows in every other layer
        ("mistral-local", "vmlm"),  # windows in every layer
        ("bloom", "ar"),  # ALiBi, no limit of positions
        ("opt-projected", "prefixlm"),  # positions by mask, states narrower than the layers'
        ("mixtral", "ar"),  # experts in one tensor
        ("qwen2", "mtp(n=2)"),  # no BOS
        ("llama-padded", "mlm(rate=0.3)"),  # a row that is there for the mask
        ("llama-added", "mlm(rate=0.3)"),  # a row that is added
        ("llama-sharded", "reading"),
        ("llama-bin", "generate"),
        ("opt", "reading"),  # vocab.json and merges.txt
        ("mamba", "ar"),  # no attention heads
        ("modernbert", "mlm(rate=0.3)"),  # an encoder with windows
        ("albert", "reading"),  # an encoder whose states are projected
    ],
)
def test_a_model_is_right(name: str, cells: str, subject: Callable[[str], Subject]) -> None:
    for which in cells.split():
        found = cell(lambda w=which: CELLS[w](subject(name)))  # type: ignore[misc]
        assert str(found) == "right", f"{name}, {which}"


def test_what_cannot_be_opened_is_refused_in_one_line(subject: Callable[[str], Subject]) -> None:
    found = cell(lambda: CELLS["ar"](subject("t5")))
    assert found.verdict == "refused"
    assert "'t5' is an encoder-decoder" in found.reason


# ------------------------------------------------------------------------------- the check can fail


def scaled(method: Callable[..., Any], factor: float) -> Callable[..., Any]:
    return lambda *arguments, **named: method(*arguments, **named) * factor


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "name", "which", "reason"),
    [
        ("logits", "llama", "reading", "log-probabilities: "),
        ("windows", "mistral-local", "mlm(rate=0.3)", "the first loss is "),
        ("dropout", "gpt2", "ar", "the first step has a loss of "),
        ("export", "llama", "ar", "the export, causal: "),
        ("text", "llama", "generate", "writes "),
        ("bits", "llama", "evaluate", "bits per byte"),
        ("late", "llama", "ar", "refused after "),
    ],
)
def test_a_broken_reading_is_told(
    broken: str,
    name: str,
    which: str,
    reason: str,
    subject: Callable[[str], Subject],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    logits = backbones.Backbone.logits
    if broken == "logits":
        monkeypatch.setattr(backbones.Backbone, "logits", scaled(logits, 1.001))
    elif broken == "windows":

        def blind(*_: Any, **__: Any) -> None:  # to what the model is asked on opening
            monkeypatch.setattr(Masks, "windowed", lambda self, seen, *_: seen)

        monkeypatch.setattr(runs, "require_honest_attention", blind)
    elif broken == "dropout":
        run = pretraining.make_trainer

        def with_dropout(*arguments: Any, **named: Any) -> Any:
            trainer = run(*arguments, **named)
            for module in trainer.backbone.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.1
            return trainer

        monkeypatch.setattr(pretraining, "make_trainer", with_dropout)
    elif broken == "export":
        fill = pretraining.exporter

        def another(backbone: Any, *arguments: Any, **named: Any) -> Callable[[Path], None]:
            write = fill(backbone, *arguments, **named)

            def changed(path: Path) -> None:
                with torch.no_grad():
                    backbone.unembedding.weight[5] += 1
                write(path)
                with torch.no_grad():
                    backbone.unembedding.weight[5] -= 1

            return changed

        monkeypatch.setattr(pretraining, "exporter", another)
    elif broken == "text":
        monkeypatch.setattr(causal, "draw", lambda logits, *_: int(logits.argmin()))
    elif broken == "bits":
        bits = bits_per_byte.chain_rule_bits
        monkeypatch.setattr(bits_per_byte, "chain_rule_bits", scaled(bits, 1.001))
    else:

        def refuse(*_: Any, **__: Any) -> None:
            raise UserError("no room")

        monkeypatch.setattr(pretraining.StudyFolder, "publish", refuse)
    whole = subject(name)
    one = Subject(whole.name, whole.species, whole.folder, whole.text, tmp_path)
    found = cell(lambda: CELLS[which](one))
    assert found.verdict == "WRONG"
    assert reason in found.reason


def test_verdicts_are_counted() -> None:
    def raising(error: Exception) -> Callable[[], None]:
        def check() -> None:
            raise error

        return check

    row = {
        "ar": cell(lambda: None),
        "mlm": cell(raising(UserError("no"))),
        "mtp": cell(raising(UserError("no"))),
        "vmlm": cell(raising(UserError("two\nlines"))),
        "evaluate": cell(raising(ValueError("what\never"))),
    }
    assert counts({"x": row}, row) == {
        "right": 1,
        "refused": 2,
        "WRONG": 1,
        "TRACEBACK": 1,
        "of": 5,
    }
    assert counts({"x": row}, ["ar", "speculate"]) == counts({"x": {"ar": Cell("right")}}, ["ar"])
    assert [tuple(each.values()) for each in reasons({"x": row, "y": {"ar": Cell("right")}})] == [
        ("x", "mlm, mtp", "refused: no"),
        ("x", "vmlm", "WRONG: two lines"),
        ("x", "evaluate", "TRACEBACK: ValueError: what"),
    ]


def test_the_record_holds_every_model_and_nothing_wrong() -> None:
    rows = json.loads((DATA / "zoo.json").read_text())["rows"]
    expected = {name: species.kind for name, species in MODELS.items()}
    assert {row["model"]: row["class"] for row in rows["models"]} == expected
    for row in rows["models"]:
        assert {row[which] for which in CELLS} <= {"right", "refused"}, row["model"]
    trainings = rows["totals"][0]
    assert trainings["of"] == 5 * len(MODELS)
    assert trainings["right"] >= 296
    encoders = [row for row in rows["models"] if row["class"].endswith("ForMaskedLM")]
    assert len(encoders) == 10
    assert all(row["mlm(rate=0.3)"] == "right" for row in encoders)


# -------------------------------------------------------------------------------------------- sizes


def lm_of(name: str, **more: Any) -> Any:
    """A model of the zoo's configuration, without weights."""
    import transformers

    kind = getattr(transformers, MODELS[name].kind)
    with torch.device("meta"):
        return kind(kind.config_class(**{"vocab_size": 50, **MODELS[name].config, **more}))


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("llama", {}, sizes.Sizes(32, 32, 50, 2, 48, 4, 2, 128)),
        ("gpt2", {}, sizes.Sizes(32, 32, 50, 2, 128, 4, 4, 128)),
        ("gpt2", {"n_inner": 40}, sizes.Sizes(32, 32, 50, 2, 40, 4, 4, 128)),
        ("opt", {}, sizes.Sizes(32, 32, 50, 2, 48, 4, 4, 128)),
        ("opt-projected", {}, sizes.Sizes(16, 32, 50, 2, 48, 4, 4, 128)),
        ("mpt", {}, sizes.Sizes(32, 32, 50, 2, 128, 4, 4, 128)),
        ("bloom", {}, sizes.Sizes(32, 32, 50, 2, 128, 4, 4, None)),
        ("mamba", {}, sizes.Sizes(32, 32, 50, 2, 64, 1, 1, None)),
        ("rwkv", {}, sizes.Sizes(32, 32, 50, 2, 128, 1, 1, 128)),
        ("roberta", {"pad_token_id": 1}, sizes.Sizes(32, 32, 50, 2, 48, 4, 4, 128)),
        ("distilbert", {}, sizes.Sizes(32, 32, 50, 2, 48, 4, 4, 128)),
        # as GPT-OSS's 2,880 does not divide into 64 heads of even width, 90 does not into 4
        ("gpt-oss", {"hidden_size": 90}, sizes.Sizes(90, 90, 50, 2, 48, 3, 1, 128)),
    ],
)
def test_sizes_whatever_they_are_called(
    name: str, more: dict[str, Any], expected: sizes.Sizes
) -> None:
    assert sizes.sizes_of(lm_of(name, **more)) == expected
    assert sizes.sizes_of(lm_of(name, **more), 40).vocabulary == 40


def test_a_configuration_without_layers_is_refused() -> None:
    @dataclass
    class Bare:
        model_type: str = "bare"

        def get_text_config(self) -> Bare:
            return self

    lm = lm_of("llama")
    lm.config = Bare()
    with pytest.raises(UserError, match="'bare': its config"):
        sizes.sizes_of(lm)


def test_heads_that_read_wider_states_than_the_unembedding_are_refused(
    subject: Callable[[str], Subject],
) -> None:
    found = cell(lambda: CELLS["mtp(n=2)"](subject("opt-projected")))
    assert str(found).startswith("refused: heads 'parallel': read the layer before the last")


@pytest.mark.parametrize(
    ("name", "more"), [("mpt", {}), ("mamba", {}), ("gpt-oss", {"hidden_size": 90})]
)
@pytest.mark.parametrize("kind", LOOK_AHEAD_KINDS)
def test_heads_of_every_kind_stand_beside_any_model(
    kind: str, name: str, more: dict[str, Any]
) -> None:
    known = sizes.sizes_of(lm_of(name, **more))
    head = build_head(LookAheadSpec(kind, 3), known)
    states = torch.randn(2, 5, known.width)
    table = torch.randn(known.vocabulary, known.width)
    shown = Shown(torch.randint(known.vocabulary, (2, 5)))
    made = [out.shape for _, out in depth_states(head, states, table, shown)]  # type: ignore[arg-type]
    assert made == [states.shape] * 2


def test_flops_of_a_model_with_projected_states() -> None:
    backbone = backbones.Backbone(lm_of("opt-projected"))
    zeros, ones = torch.zeros(10, dtype=torch.int64), torch.ones(10)
    pairs = Pairs(zeros, zeros, zeros + 1, zeros, ones)
    view = View(Shown(torch.zeros(3, 8, dtype=torch.int64)), pairs, 10.0)
    trunk = sum(p.numel() for p in backbone.lm.parameters()) - 50 * 16
    expected = 24 * (6 * trunk + 12 * 2 * 32 * 8) + 6 * 16 * 50 * 10
    assert view_flops(backbone, Component("all"), view) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "mpt", "mamba"])
def test_what_a_run_will_cost_is_said_of_any_model(
    name: str, subject: Callable[[str], Subject]
) -> None:
    one = subject(name)
    settings = one.settings({"model.init": str(one.folder), "pretrain.budget": "500"})
    found = pretraining.cost(pretraining.open_pretraining(settings))
    assert found.parameters == sum(p.numel() for p in lm_of(name, vocab_size=320).parameters())
    # weights, gradients and two moments, and what the layers hold of 6 rows
    intermediate = 64 if name == "mamba" else 128
    held = 4 * 6 * 32 * 2 * (14 * 32 + 4 * intermediate)
    assert found.memory_bytes == 16 * found.parameters + held + (160 << 20)


# --------------------------------------------------------------------------------------------- LoRA


@pytest.mark.parametrize("name", ["gpt2", "deepseek-v3"])
def test_adapters_fit_conv1d_and_leave_experts_alone(name: str) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    lm = lm_of(name).to_empty(device="cpu").eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in (*lm.parameters(), *lm.buffers()):
            if tensor.is_floating_point():
                tensor.normal_(std=0.1)
    before = {key: value.clone() for key, value in lm.state_dict().items()}
    add_lora(lm, 2)
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    ids = torch.arange(10)[None]
    changed = lm(ids, use_cache=False).logits
    merge_lora(lm)
    after = lm.state_dict()
    assert list(after) == list(before)
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert len(moved) == (8 if name == "gpt2" else 16)
    assert not any("experts." in key and "shared" not in key for key in moved)
    torch.testing.assert_close(lm(ids, use_cache=False).logits, changed, rtol=1e-3, atol=1e-3)


def test_models_that_adapters_do_not_fit_are_refused() -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    with pytest.raises(UserError, match="'mamba' has fused state-space layers"):
        require_lora(lm_of("mamba"))
    require_lora(lm_of("bloom"))
