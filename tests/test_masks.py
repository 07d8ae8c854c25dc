"""Masks: who sees whom, against loops; the argument of an attention implementation."""

from __future__ import annotations

import pytest
import torch

from lookaround.model.masks import cache_mask, mask_argument


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
