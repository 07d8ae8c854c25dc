"""Runs as sentence-transformers loads them: the vector of a text is our mean-pooled last state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from lookaround.data.shards import TokenStore
from lookaround.evaluation.features import encoded, pooled_states
from lookaround.model import Backbone
from lookaround.model.readable import open_run
from lookaround.objectives import parse
from lookaround.train.loop import exporter

TEXTS = ["the cat sat on a mat", "a", "war and two dogs ran over green hills " * 9]


def exported(spec: str, form: str | None, store: TokenStore, folder: Path) -> Path:
    """A random model in a folder as a run of this objective writes it; windows of 32 tokens."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48}
    sizes |= {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = transformers.LlamaConfig(**sizes, **special, initializer_range=0.3)
    folder.mkdir()
    model = Backbone(transformers.LlamaForCausalLM(config))
    exporter(model, parse(spec), store, form, length=32)(folder)
    return folder


@pytest.mark.parametrize(
    ("spec", "form", "attention"),
    [
        ("ar", None, "causal"),
        ("mlm", None, "bidirectional"),
        ("vmlm", None, "bidirectional"),
        ("vmlm", "llama", "bidirectional"),
        ("ar + mlm", None, "causal"),
        ("ar + mlm", "eurobert", "bidirectional"),
    ],
)
def test_a_vector_is_the_mean_state_of_the_tokens(
    spec: str, form: str | None, attention: str, store: TokenStore, tmp_path: Path
) -> None:
    made = pytest.importorskip(
        "sentence_transformers", reason='needs pip install "lookaround[eval]"'
    )
    folder = exported(spec, form, store, tmp_path / "run")
    run = open_run(folder)
    ids, cut = encoded(run.tokenizer, TEXTS, run.context)
    states = pooled_states(run.backbone, run.tokenizer, ids, attention)
    assert cut == 1
    read = made.SentenceTransformer(str(folder), device="cpu")
    found = read.encode(TEXTS)
    np.testing.assert_allclose(found, states[-1], atol=1e-5)
    # no text depends on those beside it, and other ways of reading would differ
    np.testing.assert_allclose(read.encode(TEXTS[1:2]), states[-1][1:2], atol=1e-5)
    (folder / "modules.json").unlink()
    plain = made.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert float(np.abs(plain - states[-1]).max()) > 0.01


def test_what_is_written_names_each_module(store: TokenStore, tmp_path: Path) -> None:
    folder = exported("ar", None, store, tmp_path / "run")
    modules = json.loads((folder / "modules.json").read_text())
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    assert kinds == ["Transformer", "WordWeights", "Pooling"]
    weights, pooling = (
        json.loads((folder / module["path"] / "config.json").read_text()) for module in modules[1:]
    )
    tokenizer = store.codec
    assert len(weights["vocab"]) == tokenizer.size
    silent = {str(tokenizer.bos): 0.0, str(tokenizer.eos): 0.0}
    assert (weights["word_weights"], weights["unknown_word_weight"]) == (silent, 1.0)
    assert pooling == {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
