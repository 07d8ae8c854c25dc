"""Drafts from within transformers: where a folder is found, what is refused, and processors that
look at the text.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    SynthIDTextWatermarkingConfig,
)

from lookaround.decode import Speculator, Tree, custom_generate, load_speculator
from lookaround.decode.hub import GENERATE
from lookaround.decode.speculative import set_precision
from lookaround.model.backbone import Backbone, build
from lookaround.model.export import export
from lookaround.objectives.contract import Mode
from lookaround.objectives.heads import LookAheadSpec
from lookaround.support.errors import UserError

IDS = torch.tensor([[5, 9, 12, 30, 7], [6, 6, 21, 3, 17]])
GREEDY: dict[str, Any] = {
    "max_new_tokens": 12,
    "do_sample": False,
    "attention_mask": torch.ones_like(IDS),
    "pad_token_id": 0,
}


def drafting() -> Speculator:
    """A small model in float64, with heads that nobody trained."""
    heads = (LookAheadSpec("medusa", 3),)
    model = build(preset="nano", vocabulary=40, context=64, special={}, heads=heads)
    with torch.no_grad():
        model.unembedding.weight *= 30  # so that texts do not repeat one token
    return Speculator(model.eval().double(), Tree.cartesian((3, 2)))


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    """A folder as `speculate` leaves it."""
    folder = tmp_path / "fast"
    (folder / "custom_generate").mkdir(parents=True)
    export(drafting().backbone.float(), folder, (Mode("causal", 1),), mask=3)
    (folder / "custom_generate" / "generate.py").write_text(GENERATE)
    return folder


def test_a_folder_is_found_from_elsewhere(
    fast: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a relative name after a change of directory."""
    expected = AutoModelForCausalLM.from_pretrained(fast).double().generate(IDS, **GREEDY)
    monkeypatch.chdir(tmp_path)
    trusted = AutoModelForCausalLM.from_pretrained("fast", trust_remote_code=True).double()
    os.chdir("/")
    assert torch.equal(trusted.generate(IDS, **GREEDY), expected)


def test_a_name_on_the_hub_is_found(fast: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are those of the commit whose weights were loaded."""
    asked = []

    def cached(name: str, file: str, **options: Any) -> str | None:
        asked.append((name, file, options))
        if not (fast / file).is_file():
            raise OSError(f"{name} has no {file}")
        return str(fast / file)

    trusted = AutoModelForCausalLM.from_pretrained(fast, trust_remote_code=True).double()
    expected = AutoModelForCausalLM.from_pretrained(fast).double().generate(IDS, **GREEDY)
    trusted.name_or_path, trusted.config._commit_hash = "me/fast", "c0ffee"
    monkeypatch.setattr(transformers.utils, "cached_file", cached)
    with pytest.raises(UserError, match=r"me/fast: .* cannot be found \(me/fast has no specul"):
        trusted.generate(IDS, **GREEDY)
    (fast / "speculation.json").write_text('{"trees": {"1": [[0], [1]]}, "vocabulary": 40}')
    assert torch.equal(trusted.generate(IDS, **GREEDY), expected)
    assert asked[-1] == ("me/fast", "heads.safetensors", {"revision": "c0ffee"})
    assert trusted._lookaround_speculator.trees == {1: Tree(((0,), (1,)))}


@pytest.mark.parametrize("name", ["output_scores", "output_logits", "output_hidden_states"])
def test_what_is_not_kept_is_refused_by_name(name: str) -> None:
    speculator = drafting()
    quick = {"custom_generate": custom_generate(speculator), "return_dict_in_generate": True}
    with pytest.raises(UserError, match=rf"custom_generate: {name}: not kept"):
        speculator.backbone.lm.generate(IDS, **GREEDY, **quick, **{name: True})


class Counting(LogitsProcessor):
    """Forbids the token it has seen most; remembers what it was shown."""

    def __init__(self) -> None:
        self.shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.shapes.append((tuple(input_ids.shape), tuple(scores.shape)))
        return scores.scatter(1, input_ids.mode(-1, keepdim=True).values, -torch.inf)


def test_processors_that_may_remember_are_refused_by_name() -> None:
    speculator = drafting()
    lm = speculator.backbone.lm
    quick = custom_generate(speculator)
    options: dict[str, dict[str, Any]] = {
        "UnbatchedClassifierFreeGuidanceLogitsProcessor": {"guidance_scale": 1.5},
        "SynthIDTextWatermarkLogitsProcessor": {
            "watermarking_config": SynthIDTextWatermarkingConfig(keys=[1, 2], ngram_len=3)
        },
        "Counting": {"logits_processor": LogitsProcessorList([Counting()])},
    }
    for name, given in options.items():
        with pytest.raises(UserError, match=f"custom_generate: {name} may remember"):
            lm.generate(IDS, **GREEDY, **given, custom_generate=quick)
    vouched = custom_generate(speculator, stateless=[Counting])
    given = options["Counting"]
    expected = lm.generate(IDS, **GREEDY, **given)
    assert torch.equal(lm.generate(IDS, **GREEDY, **given, custom_generate=vouched), expected)
    assert not torch.equal(lm.generate(IDS, **GREEDY), expected)


def test_processors_see_their_own_sequence_alone() -> None:
    """Not the whole batch once more for each of its sequences; and those that hold something for
    each sequence find their own.
    """
    speculator, seen = drafting(), Counting()
    lm = speculator.backbone.lm
    rows = IDS.repeat(4, 1)
    mask = torch.ones_like(rows)
    mask[1, :3] = 0  # left-padded
    greedy = GREEDY | {"attention_mask": mask}
    lm.generate(
        rows,
        **greedy,
        logits_processor=LogitsProcessorList([seen]),
        custom_generate=custom_generate(speculator, stateless=[Counting]),
    )
    assert {(text[0], scores) for text, scores in seen.shapes} == {(1, (1, 40))}
    for options in (
        {"prefix_allowed_tokens_fn": lambda row, text: range(3 + row, 40, 2)},
        {"encoder_repetition_penalty": 1.5},
        {"encoder_no_repeat_ngram_size": 2, "repetition_penalty": 1.3},
    ):
        expected = lm.generate(rows, **greedy, **options)
        made = lm.generate(rows, **greedy, **options, custom_generate=custom_generate(speculator))
        assert torch.equal(made, expected), options
    penalty = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.7)])
    options = {"logits_processor": penalty}
    assert torch.equal(
        lm.generate(rows, **greedy, **options, custom_generate=custom_generate(speculator)),
        lm.generate(rows, **greedy, **options),
    )


def test_a_precision_leaves_rotary_positions_alone(tmp_path: Path) -> None:
    """As transformers loads a model: rounded frequencies are another model at large positions."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.3,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    lm = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(300)[None] % 40
    rounded = AutoModelForCausalLM.from_pretrained(tmp_path).eval().to(torch.bfloat16)
    assert not torch.equal(rounded(ids).logits, expected(ids).logits)
    set_precision(Backbone(lm), torch.bfloat16)
    assert torch.equal(lm(ids).logits, expected(ids).logits)
    set_precision(lm, torch.float64)
    set_precision(lm, torch.bfloat16)
    assert torch.equal(lm(ids).logits, expected(ids).logits)


def test_scaled_logits_are_those_of_the_model(tmp_path: Path) -> None:
    """Also in bfloat16, where the scale is not read exactly off the logits."""
    torch.manual_seed(0)
    config = transformers.GraniteConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        logits_scaling=8.0,
        initializer_range=0.4,
    )
    lm = transformers.GraniteForCausalLM(config).eval()
    lm.save_pretrained(tmp_path)
    export(Backbone(lm, (LookAheadSpec("medusa", 3),)), tmp_path, (Mode("causal", 1),), mask=3)
    for dtype in (torch.float32, torch.bfloat16):
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
        speculator = load_speculator(tmp_path, loaded)
        assert speculator.backbone.output.scale == 0.125
