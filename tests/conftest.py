"""What tests share: few threads, a cache of their own, real data where it is at hand, and small
stores of tokens.
"""

from __future__ import annotations

import os

# the models are tiny: threads cost more than they give, here and in the processes that tests start
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedTokenizerFast

from lookaround.data.corpus import make_corpus
from lookaround.data.rows import Rows
from lookaround.data.shards import TokenStore, prepare
from lookaround.model import losses
from lookaround.model.backbone import Backbone
from lookaround.objectives import Objective, View, parse
from lookaround.train.loss import ObjectiveLoss

pytest_plugins = ["cli_runs"]

torch.set_num_threads(1)

DATA = Path(os.environ.get("LOOKAROUND_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))


@pytest.fixture
def real_data() -> Path:
    """The folder of real data; tests skip where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}; set LOOKAROUND_DATA")
    return DATA


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKAROUND_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def within(mode: TorchDispatchMode, function: Any, args: Any, kwargs: Any) -> Any:
    """What an operation gives under a mode that looks into ours too."""
    if function is torch.ops.lookaround.linear_cross_entropy.default:
        with mode:
            return losses._by_chunks(*args, **(kwargs or {}))
    return function(*args, **(kwargs or {}))


def objective_loss(
    model: Backbone, objective: Objective | str, views: Sequence[View], scales: Sequence[float]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """(loss, sum of each view's weighted cross-entropies) of an objective that does not change, or
    its beginning.
    """
    chosen = (parse(objective) if isinstance(objective, str) else objective).at(0.0)
    return ObjectiveLoss(model)(chosen.components(), views, scales)


WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "while",
    "two",
    "dogs",
    "ran",
    "over",
    "green",
    "hills",
    "and",
    "old",
    "men",
    "told",
    "long",
    "tales",
    "of",
    "war",
]


def sentences(count: int, seed: int = 0, length: tuple[int, int] = (5, 60)) -> list[str]:
    """Documents of random words, different from one another."""
    generator = torch.Generator().manual_seed(seed)
    documents = []
    for number in range(count):
        size = int(torch.randint(*length, (1,), generator=generator))
        chosen = torch.randint(len(WORDS), (size,), generator=generator).tolist()
        documents.append(f"{number}: " + " ".join(WORDS[i] for i in chosen))
    return documents


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """A store of 200 short documents with a vocabulary of 300."""
    corpus = make_corpus("words", sentences(200), {})
    return prepare(corpus, vocabulary=300, cache=tmp_path_factory.mktemp("store"))


@pytest.fixture
def rows(store: TokenStore) -> Rows:
    return Rows(store.split("train"), 32, store.codec)


def byte_level(specials: Sequence[str], **roles: str) -> PreTrainedTokenizerFast:
    """A small byte-level BPE with these special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=270,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(40), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)
