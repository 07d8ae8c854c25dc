"""Our models in lm-eval, by the package itself on a local task."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lookaround.data.shards import TokenStore
from lookaround.decode import generate
from lookaround.evaluation.harness import register
from lookaround.evaluation.harness.__main__ import main
from lookaround.evaluation.likelihood import log_likelihoods, word_numbers
from lookaround.model import Backbone
from lookaround.model.readable import open_run
from lookaround.objectives import parse
from lookaround.settings import GenerationConfig
from lookaround.support.errors import UserError
from lookaround.train.loop import exporter

ITEMS = [
    ("the cat", " sat on the mat", " mat the on"),
    ("", "old men told long tales", "tales long old"),
    ("two dogs ran over", " hills", " war"),
]
CHOICE = """
task: choice
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{text}}"
doc_to_choice: "{{[good, bad]}}"
doc_to_target: 0
target_delimiter: ""
metric_list: [{metric: acc}]
"""
ROLLING = """
task: rolling
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{(text ~ good ~ ' ') * 6}}"
metric_list: [{metric: bits_per_byte}]
"""
WRITTEN = """
task: written
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: generate_until
doc_to_text: "{{text}}a"
doc_to_target: "{{good}}"
generation_kwargs: {until: ["e"], max_gen_toks: 8}
metric_list: [{metric: exact_match}]
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three tasks; tests skip without lm-eval."""
    pytest.importorskip("lm_eval", reason='needs lm-eval: pip install "lookaround[eval]"')
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [json.dumps({"text": a, "good": b, "bad": c}) + "\n" for a, b, c in ITEMS]
    (folder / "items.jsonl").write_text("".join(rows))
    for name, task in (("choice", CHOICE), ("rolling", ROLLING), ("written", WRITTEN)):
        task = task.replace("FILE", str(folder / "items.jsonl"))
        (folder / f"{name}.yaml").write_text(task)
    return folder


def run(tasks: Path, names: list[str], model: str, **arguments: Any) -> dict[str, Any]:
    """{task: [what lm-eval got for each item]}, and the figures under "results"."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    register()
    found: Any = lm_eval.simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=names,
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        device="cpu",
        bootstrap_iters=0,
    )
    said: dict[str, Any] = {
        name: [item["filtered_resps"] for item in items] for name, items in found["samples"].items()
    }
    for result in found["results"].values():
        result.pop("sample_len", None)
    return said | {"results": found["results"]}


def flat(values: Any) -> list[float]:
    """The numbers in nested lists."""
    if isinstance(values, (list, tuple)):
        return [number for value in values for number in flat(value)]
    return [float(values)]


def exported(spec: str, store: TokenStore, folder: Path) -> Path:
    """A random model in a folder as a run of this objective writes it; windows of 32 tokens."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48}
    sizes |= {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.LlamaConfig(**sizes, **special, initializer_range=0.3)
    folder.mkdir()
    model = Backbone(transformers.LlamaForCausalLM(config))
    exporter(model, parse(spec), store, length=32)(folder)
    return folder


@pytest.mark.slow
def test_a_causal_export_is_read_as_by_the_class_of_lm_eval(
    tasks: Path, store: TokenStore, tmp_path: Path
) -> None:
    folder, names = exported("ar", store, tmp_path / "run"), ["choice", "rolling"]
    ours = run(tasks, names, "lookaround", pretrained=str(folder))
    for name in names:
        # of whole texts it scores a BOS that it was asked for after the one that it puts first
        told: dict[str, Any] = {"add_bos_token": name == "choice", "dtype": "float32"}
        theirs = run(tasks, [name], "hf", pretrained=str(folder), **told)
        assert flat(ours[name]) == pytest.approx(flat(theirs[name]), abs=1e-4)
        for key, value in theirs["results"][name].items():
            same = pytest.approx(value) if isinstance(value, float) else value
            assert ours["results"][name][key] == same
    tokenizer = open_run(folder).tokenizer
    text = (ITEMS[0][0] + ITEMS[0][1] + " ") * 6
    assert len(tokenizer.encode([text])[0]) > 32, "more than one window"


def test_a_published_model_is_read_as_by_the_class_of_lm_eval(tasks: Path, real_data: Path) -> None:
    folder = str(real_data / "models" / "stories260K")
    ours = run(tasks, ["choice"], "lookaround", pretrained=folder)
    theirs = run(tasks, ["choice"], "hf", pretrained=folder, add_bos_token=True, dtype="float32")
    assert flat(ours["choice"]) == pytest.approx(flat(theirs["choice"]), abs=1e-4)
    assert ours["results"]["choice"]["acc,none"] == theirs["results"]["choice"]["acc,none"]


@pytest.mark.parametrize("score", ["chain", "pseudo"])
def test_a_masked_model_has_both_likelihoods(
    score: str, tasks: Path, store: TokenStore, tmp_path: Path
) -> None:
    folder = exported("mlm", store, tmp_path / "run")
    found = run(tasks, ["choice", "rolling"], "lookaround", pretrained=str(folder), score=score)
    readable = open_run(folder)
    tokenizer, mode = readable.tokenizer, readable.modes[0]
    told: dict[str, Any] = {}
    for number, (context, *choices) in enumerate(ITEMS):
        before = tokenizer.encode([context])[0]
        for place, choice in enumerate(choices):
            ids = tokenizer.encode([context + choice])[0]
            if score == "pseudo":
                words = [[-1, *word_numbers(tokenizer, context + choice)]]
                told = {"words": words, "after": [tokenizer.eos]}
            continuation = ids[len(before) :]
            given = [[tokenizer.bos, *before]], [continuation]
            (expected,) = log_likelihoods(readable, mode, *given, **told)
            nats, greedy = found["choice"][number][place]
            assert (nats, bool(greedy)) == pytest.approx((expected.nats, expected.greedy), abs=1e-4)
    # the second window of the first text
    text = (ITEMS[0][0] + ITEMS[0][1] + " ") * 6
    ids, room = tokenizer.encode([text])[0], 31 - (score == "pseudo")
    tokens = [tokenizer.bos, *ids]
    total = 0.0
    for end in [*range(room + 1, len(tokens), room), len(tokens)]:
        first = max((end - 1 - 1) // room * room + 1, 1)
        begin = 0 if first == 1 else end - room - 1
        if score == "pseudo":
            told["words"] = [[-1, *word_numbers(tokenizer, text)][begin:end]]
        pieces = [tokens[begin:first]], [tokens[first:end]]
        total += log_likelihoods(readable, mode, *pieces, **told)[0].nats
    assert flat(found["rolling"][0])[0] == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("spec", ["ar", "vmlm"])
def test_text_is_that_of_generate_up_to_a_stop_string(
    spec: str, tasks: Path, store: TokenStore, tmp_path: Path
) -> None:
    folder = exported(spec, store, tmp_path / "run")
    found = run(tasks, ["written"], "lookaround", pretrained=str(folder))["written"]
    config = GenerationConfig(max_new_tokens=8, temperature=0)
    texts = generate(open_run(folder), [text + "a" for text, _, _ in ITEMS], config)
    assert [item for (item,) in found] == [made.text.split("e")[0] for made in texts]
    assert any("e" in made.text for made in texts)


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        ("ar", {"score": "pseudo"}, "pseudo-likelihoods are of bidirectional modes"),
        ("ar", {"score": "both"}, "score: 'both' is unknown; known are chain, pseudo"),
        ("ar", {"mode": "left"}, "mode: 'left' is unknown; known are causal"),
        ("ar", {"mode": "bidirectional"}, "this model was trained for causal, shift 1"),
        ("ar", {"context": 99}, "context: 99 is longer than the 32 positions"),
    ],
)
def test_what_a_model_cannot_do_is_refused(
    spec: str,
    arguments: dict[str, Any],
    message: str,
    tasks: Path,
    store: TokenStore,
    tmp_path: Path,
) -> None:
    folder = exported(spec, store, tmp_path / "run")
    with pytest.raises(UserError, match=message):
        run(tasks, ["choice"], "lookaround", pretrained=str(folder), **arguments)


@pytest.mark.slow
def test_the_command_is_that_of_lm_eval(
    tasks: Path,
    store: TokenStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = exported("ar", store, tmp_path / "run")
    told = ["--model", "lookaround", "--model_args", f"pretrained={folder}", "--tasks", "choice"]
    monkeypatch.setattr(sys, "argv", ["lm_eval", *told, "--include_path", str(tasks)])
    main()
    assert "|choice|" in capsys.readouterr().out.replace(" ", "")


def test_without_lm_eval_a_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.api.registry", None)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert 'pip install "lookaround[eval]"' in capsys.readouterr().err
