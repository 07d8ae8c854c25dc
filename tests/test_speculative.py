"""Several tokens per pass: the output is what it is without drafts, whatever the heads, the tree
and the batch.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lookaround.decode.cache import CachedModel
from lookaround.decode.calibrate import frequent_tokens
from lookaround.decode.speculative import Speculator
from lookaround.decode.tree import Tree
from lookaround.decode.verify import ExactSampling
from lookaround.model.backbone import Backbone, build
from lookaround.objectives.heads import LookAheadSpec

VOCABULARY = 40
KINDS = (
    "parallel",
    "causal",
    "sequential",
    "shared",
    "linear",
    "medusa",
    "medusa-own",
    "hydra",
    "offset",
)
TREES = (
    Tree.chain(4),
    Tree.cartesian((3, 2, 1, 1)),
    Tree(((0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 0, 0, 0))),
)


def speculator(kind: str, *, seed: int = 0, depths: int = 4) -> Speculator:
    model = build(
        preset="nano",
        vocabulary=VOCABULARY,
        context=128,
        special={},
        heads=(LookAheadSpec(kind, depths + 1),),
        seed=seed,
    )
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.heads.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
    return Speculator(model.double().eval())


def prompts(count: int, low: int = 1, high: int = 12) -> list[list[int]]:
    generator = torch.Generator().manual_seed(count)
    sizes = torch.randint(low, high, (count,), generator=generator).tolist()
    return [torch.randint(VOCABULARY, (size,), generator=generator).tolist() for size in sizes]


@torch.no_grad()
def plain(model: Backbone, prompt: list[int], count: int) -> list[int]:
    """Greedy decoding with no cache at all."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model.lm(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_output_is_the_plain_output(kind: str) -> None:
    made = speculator(kind)
    given = prompts(12)
    expected = [plain(made.backbone, prompt, 24) for prompt in given]
    for tree in (Tree(), *TREES):
        got = made.generate(given, max_new_tokens=24, tree=tree)
        assert got.tokens == expected
    alone = [made.generate([prompt], max_new_tokens=24, tree=TREES[-1]) for prompt in given]
    assert [one.tokens[0] for one in alone] == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sequential", "medusa", "medusa-own", "hydra"])
def test_a_shortlist_changes_what_is_drafted_and_not_what_is_said(kind: str) -> None:
    whole = speculator(kind)
    listed = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    short = Speculator(whole.backbone, shortlist=listed, checked=True)
    given = prompts(6)
    tree = Tree.cartesian((3, 2, 1, 1))
    drafted: set[int] = set()
    choose = short.shortlist.choose

    def watched(*arguments: object) -> object:
        tokens, law = choose(*arguments)
        drafted.update(tokens.flatten().tolist())
        return tokens, law

    short.shortlist.choose = watched  # type: ignore[method-assign]
    one = short.generate(given, max_new_tokens=16, tree=tree)
    assert one.tokens == whole.generate(given, max_new_tokens=16, tree=tree).tokens
    assert drafted <= set(listed)
    generator = torch.Generator().manual_seed(0)
    sampled = short.generate(
        given, max_new_tokens=16, tree=tree, verifier=ExactSampling(generator), generator=generator
    )
    assert any(token not in listed for text in sampled.tokens for token in text)


def test_the_fewest_tokens_that_make_up_a_share() -> None:
    counts = np.array([1, 50, 0, 9, 40, 0, 0, 0])
    assert frequent_tokens(counts, 0.9) == [1, 4]
    assert frequent_tokens(counts, 0.91) == [1, 3, 4]
    assert frequent_tokens(counts, 1.0) == [0, 1, 3, 4]
    assert frequent_tokens(counts[:6], 1.0) is None  # more than half of all
    assert frequent_tokens(0 * counts, 0.9) is None


@pytest.mark.slow
@torch.inference_mode()
def test_logits_of_a_tree_are_those_of_its_paths_one_after_the_other() -> None:
    """In float32, with another sequence of another length beside it, and after a branch was
    forgotten.
    """
    model = speculator("medusa").backbone.float()
    generator = torch.Generator().manual_seed(1)
    for tree in (*TREES, Tree.cartesian((2, 2, 2))):
        texts = [
            torch.randint(VOCABULARY, (size,), generator=generator).tolist() for size in (5, 9)
        ]
        cached = CachedModel(model.decoder, 2)
        padded = torch.tensor([text + [0] * (9 - len(text)) for text in texts])
        cached(padded, torch.ones(9, 9, dtype=torch.bool).tril())
        cached.cache.keep([range(5), range(9)])
        for _ in range(2):
            tokens = torch.randint(VOCABULARY, (2, len(tree) + 1), generator=generator)
            places = torch.tensor([len(text) for text in texts])[:, None] + tree.depths
            logits = model.unembedding(cached(tokens, tree.mask, places).last_hidden_state)
            kept = []
            for row, text in enumerate(texts):
                for place, path in enumerate(((), *tree.paths)):
                    along = [tree.place[path[:k]] for k in range(len(path) + 1)]
                    alone = model.lm(
                        torch.tensor([text + tokens[row, along].tolist()]), use_cache=False
                    ).logits[0, -1]
                    torch.testing.assert_close(logits[row, place], alone, rtol=0, atol=1e-5)
                deepest = max(tree.paths, key=len)[: 2 + row]
                kept.append([tree.place[deepest[:k]] for k in range(len(deepest) + 1)])
            cached.cache.keep(kept)
            texts = [text + tokens[row, kept[row]].tolist() for row, text in enumerate(texts)]
