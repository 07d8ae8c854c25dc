"""Masks: who sees whom, against loops; the argument of an attention implementation."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask

from lookaround.data.shards import TokenStore
from lookaround.model.backbone import build, use_blocks
from lookaround.model.masks import cache_mask, mask_argument
from lookaround.objectives import parse
from lookaround.objectives.contract import PADDING, Attention, Shown
from lookaround.settings import read_settings
from lookaround.support.errors import UserError
from lookaround.train.run import build_backbone


@pytest.mark.parametrize("kept", [[3, 3], [3, 1], [0, 0]])
@pytest.mark.parametrize("behind", [1, 2])
@pytest.mark.parametrize("own", [False, True])
def test_new_tokens_see_what_is_kept_of_their_sequence_and_one_another_as_told(
    kept: list[int], behind: int, own: bool
) -> None:
    slots, width = max(kept), 4
    generator = torch.Generator().manual_seed(0)
    among = torch.rand(len(kept) if own else 1, width, width, generator=generator) < 0.5
    positions = torch.tensor(kept)[:, None] + torch.tensor([0, 1, 1, 2])
    mask = cache_mask(among, kept, slots, positions, behind)
    assert mask.shape == (len(kept), 1, width, slots + width)
    for row, length in enumerate(kept):
        for i in range(width):
            for slot in range(slots):
                sees = slot < length and int(positions[row, i]) - slot >= behind
                assert bool(mask[row, 0, i, slot]) == sees, (row, i, slot)
            assert mask[row, 0, i, slots:].equal(among[row if own else 0, i])


def test_eager_attention_adds_the_mask_and_sdpa_takes_it_as_it_is() -> None:
    mask = torch.tensor([[True, False], [True, True]])
    assert mask_argument(mask, "sdpa", torch.float32) is mask
    added = mask_argument(mask, "eager", torch.float32)
    assert added.dtype == torch.float32
    assert added.tolist() == [[0.0, torch.finfo(torch.float32).min], [0.0, 0.0]]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["causal", "bidirectional", "prefix", "dense"])
def test_masks_of_blocks_are_the_dense_ones(kind: str, packed: bool) -> None:
    """In rows that are no multiple of a block."""
    model = build(preset="nano", vocabulary=50, context=160, special={}, seed=1).double()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(50, (2, 150), generator=generator)
    documents = torch.zeros_like(ids)
    documents[0, 70:], documents[1, 140:] = 1, PADDING
    seen = torch.rand(2, 150, 150, generator=generator) < 0.5
    attention = {
        "prefix": Attention("prefix", lengths=torch.tensor([40, 90])),
        "dense": Attention("dense", allowed=seen | torch.eye(150, dtype=torch.bool)),
    }.get(kind, Attention(kind))  # type: ignore[arg-type]
    shown = Shown(ids, attention, documents if packed else None)

    with torch.no_grad():  # FlexAttention has no backward pass on a CPU
        dense = model.states(shown)
        use_blocks(model)
        torch.testing.assert_close(model.states(shown), dense, rtol=1e-9, atol=1e-12)
    if not model.source.masks.is_pure(shown):
        argument = model.source.masks.arguments(shown, model.lm.config, "sdpa", torch.float64)
        assert isinstance(argument["attention_mask"], BlockMask)


def test_blocks_are_for_a_llama(store: TokenStore) -> None:
    model = build(preset="nano", vocabulary=50, context=32, special={})
    model.lm.config.model_type = "gpt2"
    with pytest.raises(UserError, match=r"model\.attention: flex is for a Llama .* give dense"):
        use_blocks(model)
    if not torch.cuda.is_available():
        settings = read_settings(None, ["model.attention=flex"])
        with pytest.raises(UserError, match=r"model\.attention: flex trains on a GPU alone"):
            build_backbone(settings, parse("ar"), store.codec, 0)
