"""From prompts to texts: the filters, the loop over a cache, and what the three ways of writing
share.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import (
    LogitsProcessorList,
    MambaConfig,
    MambaForCausalLM,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lookaround.data.shards import TokenStore
from lookaround.decode import Generated, Stats, Writer, generate
from lookaround.decode.causal import require_cache
from lookaround.decode.sampling import draw, filter_logits
from lookaround.model import Backbone, build
from lookaround.model.readable import Readable, generation_mode
from lookaround.objectives import Mode, parse
from lookaround.objectives.heads import LookAheadSpec
from lookaround.settings import GenerationConfig
from lookaround.support.errors import UserError

MODES = [Mode("causal", 1), Mode("bidirectional", 0), Mode("bidirectional", 1), Mode("prefix", 1)]
CONTEXT = 32


def readable(store: TokenStore, mode: Mode, *heads: LookAheadSpec) -> Readable:
    special = {
        "bos_token_id": store.codec.bos,
        "eos_token_id": store.codec.eos,
        "pad_token_id": 0,
    }
    size = store.codec.size
    made = build(preset="nano", vocabulary=size, context=CONTEXT, special=special, heads=heads)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim > 1 else None
    return Readable(made.eval(), store.codec, (mode,), (mode,), CONTEXT, None)


@pytest.fixture(scope="module")
def causal(store: TokenStore) -> Readable:
    return readable(store, MODES[0])


# ----------------------------------------------------------------------------------------- filters


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("top_k", [0, 1, 7, 500])
@pytest.mark.parametrize("top_p", [1e-9, 0.4, 0.95, 1.0])
def test_filters_are_the_warpers_of_transformers(
    temperature: float, top_k: int, top_p: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 5, 60, generator=generator)
    chosen: list[Any] = [TemperatureLogitsWarper(temperature)]
    chosen += [TopKLogitsWarper(top_k)] if top_k else []
    chosen += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    expected = LogitsProcessorList(chosen)(torch.zeros(20, 0), logits.view(20, 60)).view(4, 5, 60)
    config = GenerationConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    before = logits.clone()
    assert filter_logits(logits, config).equal(expected)
    assert logits.equal(before), "the model's own logits stay as they are"
    never = torch.tensor([3, 8])
    without = logits.index_fill(-1, never, -torch.inf)
    assert filter_logits(logits, config, never).equal(filter_logits(without, config))


def test_filters_keep_what_they_promise() -> None:
    log = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))

    def kept(**options: Any) -> list[float]:
        config = GenerationConfig(**{"temperature": 1.0} | options)
        return filter_logits(log, config).softmax(-1).tolist()

    for cold in (0.0, 1e-320, 1e-40, 1e-30):
        assert kept(temperature=cold) == [1, 0, 0, 0]
    assert kept() == pytest.approx([0.5, 0.3, 0.15, 0.05])
    assert kept(temperature=0.5) == pytest.approx([p**2 / 0.365 for p in (0.5, 0.3, 0.15, 0.05)])
    assert kept(top_k=2) == pytest.approx([0.625, 0.375, 0, 0])
    assert kept(top_p=0.6) == pytest.approx([0.625, 0.375, 0, 0])
    assert kept(top_p=0.5) == kept(top_p=1e-320) == [1, 0, 0, 0]
    even = torch.zeros(4)
    assert int((filter_logits(even, GenerationConfig(top_p=0.5)) == 0).sum()) == 2
    generator, config = torch.Generator().manual_seed(0), GenerationConfig(top_k=2)
    assert {draw(log, config, generator) for _ in range(20)} == {0, 1}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_new_tokens", 0),
        ("temperature", -0.1),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("stop", [""]),
        ("order", "right"),
        ("per_pass", 0),
        ("accept", "all"),
        ("mode", "both"),
    ],
)
def test_a_bad_value_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=rf"1 validation error[^\n]*\n{field}"):
        GenerationConfig(**{field: value})


# ------------------------------------------------------------------------------------------ writing


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_greedy_continuations_follow_the_chain_rule(mode: Mode, store: TokenStore) -> None:
    """Each new token is the likeliest under the same conditional that bits per byte are scored by;
    the cache changes nothing, and a text longer than the window loses its oldest tokens.
    """
    given, tokenizer = readable(store, mode), store.codec
    lm, prompt = given.backbone.lm, [tokenizer.bos, *tokenizer.encode(["the cat sat"])[0]]
    writer = Writer(given, GenerationConfig(max_new_tokens=40, temperature=0))
    stats = Stats()
    made = [token for token, _ in writer.tokens(prompt, stats)]
    ids = list(prompt)
    for token in made:
        seen = ids[-CONTEXT:] if mode.attention == "causal" else ids[1 - CONTEXT :]
        window = seen + [tokenizer.vocabulary.mask] * (CONTEXT - len(seen))
        with torch.no_grad():
            if mode.attention == "bidirectional":
                logits = lm(torch.tensor([window]), is_causal=False).logits
                logits = logits[0, len(seen) - mode.shift]
            else:
                logits = lm(torch.tensor([seen]), is_causal=mode.attention == "causal").logits
                logits = logits[0, -1]
        logits[tokenizer.vocabulary.unwritten(tokenizer.eos)] = -torch.inf
        top = logits.topk(2).values
        assert int(logits.argmax()) == token or float(top[0] - top[1]) < 1e-4
        ids.append(token)
    assert len(ids) > CONTEXT or stats.passes == len(made) + 1, "it ended by EOS"
    assert stats.tokens == len(made) <= 40
    assert stats.seconds > 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_text_depends_on_its_prompt_and_the_seed_alone(mode: Mode, store: TokenStore) -> None:
    given, config = readable(store, mode), GenerationConfig(max_new_tokens=10)
    prompts = ["the cat", "", "two dogs"]
    together = generate(given, prompts, config, seed=3)
    alone = [generate(given, [prompt], config, seed=3)[0] for prompt in prompts]
    assert [text.tokens for text in together] == [text.tokens for text in alone]
    assert [text.prompt for text in together] == prompts
    other = generate(given, prompts, config, seed=4)
    assert [text.tokens for text in other] != [text.tokens for text in together]


@pytest.mark.slow
def test_pieces_make_up_the_text(causal: Readable) -> None:
    for seed in range(5):
        made = Generated("the cat")
        pieces = list(Writer(causal, seed=seed).write(made))
        assert "".join(piece for piece, _ in pieces) == made.text.rstrip("�")
        assert not any(drafted for _, drafted in pieces)
        (whole,) = generate(causal, ["the cat"], seed=seed)
        assert (made.text, made.tokens) == (whole.text, whole.tokens)


def test_a_text_ends_with_the_first_stop_string(causal: Readable) -> None:
    (whole,) = generate(causal, ["the cat"], GenerationConfig(max_new_tokens=30), seed=1)
    middle = whole.text[len(whole.text) // 2 :][:2]
    late = whole.text[-1]
    config = GenerationConfig(max_new_tokens=30, stop=[late, middle, "never said"])
    (cut,) = generate(causal, ["the cat"], config, seed=1)
    first = min(whole.text.index(stop) + len(stop) for stop in (late, middle))
    assert cut.text == whole.text[:first]
    assert cut.tokens == whole.tokens[: len(cut.tokens)]
    assert cut.stats.passes == len(cut.tokens) <= len(whole.tokens)


@pytest.mark.slow
def test_drafts_are_taken_where_they_fit_and_are_wanted(store: TokenStore) -> None:
    given = readable(store, MODES[0], LookAheadSpec("medusa", 3))
    plain = readable(store, MODES[0])
    plain.backbone.lm.load_state_dict(given.backbone.lm.state_dict())
    greedy = GenerationConfig(max_new_tokens=20, temperature=0)
    (fast,), (slow,) = generate(given, ["the"], greedy), generate(plain, ["the"], greedy)
    assert fast.tokens == slow.tokens
    assert fast.stats.tried
    assert not slow.stats.tried
    assert fast.stats.steps == fast.stats.passes - 1 <= slow.stats.passes
    sampled = GenerationConfig(max_new_tokens=20)
    prompt = [store.codec.bos, *store.codec.encode(["the"])[0]]
    without = Writer(given, sampled, drafts=False)
    assert without.speculator is None
    assert [token for token, _ in without.tokens(prompt, Stats())] == (
        generate(plain, ["the"], sampled)[0].tokens
    )
    long = GenerationConfig(max_new_tokens=given.backbone.limit)  # more than there are positions
    (made,) = generate(given, ["the"], long, seed=2)
    assert not made.stats.tried
    assert made.tokens == generate(plain, ["the"], long, seed=2)[0].tokens


@pytest.mark.slow
@pytest.mark.parametrize("accept", ["exact", "typical"])
def test_a_cold_draft_is_greedy(accept: str, store: TokenStore) -> None:
    """Whatever the seed, and however small the temperature is."""
    given = readable(store, MODES[0], LookAheadSpec("medusa", 3))
    made = []
    for seed, cold in enumerate((0.0, 0.0, 1e-320)):
        config = GenerationConfig(accept=accept, temperature=cold, max_new_tokens=20)
        made += generate(given, ["the"], config, seed=seed)
        assert made[-1].stats.tried
    assert made[0].tokens == made[1].tokens == made[2].tokens


def test_which_mode_generates(causal: Readable) -> None:
    assert generation_mode(parse("ar + vmlm").modes()) == Mode("causal", 1)
    assert generation_mode((Mode("causal", 1), Mode("causal", 3))) == Mode("causal", 1)
    assert generation_mode(parse("mlm + vmlm").modes()) == Mode("bidirectional", 1)
    both = replace(causal, modes=(MODES[0], MODES[2]), final_modes=(MODES[2],))
    assert Writer(both).mode == MODES[2], "the end of the budget forgot the causal one"
    assert Writer(both, GenerationConfig(mode="causal")).mode == MODES[0]
    assert Writer(both, mode=MODES[0]).mode == MODES[0]


# --------------------------------------------------------------------------------------------- ends


def test_what_cannot_be_written_is_refused(causal: Readable) -> None:
    for options in ({"order": "confidence"}, {"per_pass": 2}):
        with pytest.raises(UserError, match="are for masked models; this one is read as 'causal"):
            generate(causal, ["a"], GenerationConfig(**options))
    with pytest.raises(UserError, match="mode 'prefix': this model was trained for causal"):
        generate(causal, ["a"], GenerationConfig(mode="prefix"))
    with pytest.raises(UserError, match="not UTF-8"):
        generate(causal, ["a\udcff"])


def test_a_state_space_model_is_read_on_from_its_state(store: TokenStore) -> None:
    torch.manual_seed(0)
    size = store.codec.size
    lm = MambaForCausalLM(MambaConfig(vocab_size=size, hidden_size=32, num_hidden_layers=2)).eval()
    given = Readable(Backbone(lm), store.codec, (MODES[0],), (MODES[0],), CONTEXT, None)
    (made,) = generate(given, ["the cat"], GenerationConfig(max_new_tokens=12, temperature=0))
    ids = [store.codec.bos, *store.codec.encode(["the cat"])[0]]
    assert made.tokens
    for token in made.tokens:
        with torch.no_grad():
            logits = lm(torch.tensor([ids]), use_cache=False).logits[0, -1]
        logits[store.codec.vocabulary.unwritten(store.codec.eos)] = -torch.inf
        assert float(logits.max() - logits[token]) < 1e-3
        ids.append(token)


def test_a_model_that_loses_its_text_is_refused(
    causal: Readable, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = causal.backbone.lm
    require_cache(lm)
    forward = type(lm).forward

    def forgetful(self: Any, *given: Any, past_key_values: Any = None, **more: Any) -> Any:
        return forward(self, *given, **more)

    monkeypatch.setattr(type(lm), "forward", forgetful)
    with pytest.raises(UserError, match=r"'llama': cannot be read token by token .* such as Llama"):
        Writer(causal)

    def broken(self: Any, *given: Any, past_key_values: Any = None, **more: Any) -> Any:
        raise ValueError("no such cache\nand more")

    monkeypatch.setattr(type(lm), "forward", broken)
    with pytest.raises(UserError, match=r"token by token \(no such cache\); text") as refused:
        Writer(causal)
    assert "\n" not in str(refused.value)


def test_a_window_of_one_token_is_refused(tmp_path: Path) -> None:
    from lookaround.model.readable import read_run

    (tmp_path / "run.yaml").write_text(
        "modes: [[causal, 1]]\ncontext: 1\nplan: {}\ndata: {}\nsettings: {}\nobjective: ar\n"
    )
    with pytest.raises(UserError, match=r"run.yaml: .* 'context' is 1; .* integer from 2"):
        read_run(tmp_path)
