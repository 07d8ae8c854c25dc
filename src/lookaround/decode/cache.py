"""A key-value cache that can be rewound: tokens are written, and those that turn out right are
kept.

B sequences, L layers, H key-value heads, C slots, Q tokens written at a time, D width of a head.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer

from lookaround.model.foreign import FAILURES, last_step, reading
from lookaround.model.masks import cache_mask, mask_argument
from lookaround.model.sizes import sizes_of
from lookaround.support.errors import UserError


class _SlotLayer(CacheLayerMixin):
    """One layer's view of a SlotCache."""

    is_sliding = False

    def __init__(self, slots: SlotCache, number: int) -> None:
        super().__init__()
        self.slots, self.number = slots, number

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.slots.allocate(key_states, value_states)

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        return self.slots.write(self.number, key_states, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.slots.begin + query_length, 0

    def get_seq_length(self) -> int:
        return self.slots.begin

    def get_max_length(self) -> int:
        return -1

    get_max_cache_shape = get_max_length  # the name before transformers 5.20


class SlotCache(Cache):
    """Keys and values of all layers in one buffer each; a sequence's tokens lie in its first
    `lengths[b]` slots.

    Every forward pass writes its Q tokens to the slots from `begin` = max(lengths) on, the same for
    all sequences; `keep` then moves those that are kept to the end of each sequence and forgets the
    others. The buffers grow by doubling. Ours.
    """

    def __init__(self, layers: int, rows: int, capacity: int = 256) -> None:
        super().__init__(layers=[_SlotLayer(self, number) for number in range(layers)])
        self.lengths = [0] * rows
        self.begin = 0
        self.capacity = capacity
        self.buffers: list[Tensor] = []  # keys and values, each (L, B, H, C, D)

    def allocate(self, *new: Tensor) -> None:
        """Makes room for keys and values like those of a layer, (B, H, Q, D) each."""
        layers, room = len(self.layers), max(self.capacity, self.begin + new[0].shape[2])
        self.buffers = [x.new_zeros(layers, *x.shape[:2], room, x.shape[3]) for x in new]

    def write(self, layer: int, *new: Tensor) -> tuple[Tensor, Tensor]:
        """Puts a layer's new keys and values (B, H, Q, D) into place; returns all up to them, (B,
        H, begin + Q, D).
        """
        if not self.buffers:
            self.allocate(*new)
        end = self.begin + new[0].shape[2]
        room = self.buffers[0].shape[3]
        if end > room:
            self.buffers = [_grown(buffer, max(end, 2 * room)) for buffer in self.buffers]
        if new[0].shape[1::2] != self.buffers[0].shape[2::2]:
            raise UserError(
                "this model's layers have keys of different shapes; its cache cannot be rewound "
                "here"
            )
        for buffer, x in zip(self.buffers, new, strict=True):
            buffer[layer, :, :, self.begin : end] = x
        keys, values = (buffer[layer, :, :, :end] for buffer in self.buffers)
        return keys, values

    def keep(self, picks: Sequence[Sequence[int]]) -> None:
        """Keeps of each sequence the just-written tokens at the given places (in order), and
        forgets the others.
        """
        rows, sources, targets = [], [], []
        for row, pick in enumerate(picks):
            length = self.lengths[row]
            for place, source in enumerate(pick):
                if self.begin + source != length + place:
                    rows.append(row)
                    sources.append(self.begin + source)
                    targets.append(length + place)
            self.lengths[row] = length + len(pick)
        if rows:
            for buffer in self.buffers:
                buffer[:, rows, :, targets] = buffer[:, rows, :, sources]
        self.begin = max(self.lengths)

    def select(self, rows: Sequence[int]) -> None:
        """Leaves only the given sequences, in this order."""
        self.lengths = [self.lengths[row] for row in rows]
        self.begin = max(self.lengths, default=0)
        self.buffers = [buffer[:, rows] for buffer in self.buffers]


def _grown(buffer: Tensor, capacity: int) -> Tensor:
    larger = buffer.new_zeros(*buffer.shape[:3], capacity, buffer.shape[4])
    larger[:, :, :, : buffer.shape[3]] = buffer
    return larger


class CachedModel:
    """A decoder read step by step: new tokens see what was kept of their sequence, and one another
    as they are told.
    """

    def __init__(self, decoder: Any, rows: int, capacity: int = 256) -> None:
        self.decoder = decoder
        self.cache = SlotCache(decoder.config.get_text_config().num_hidden_layers, rows, capacity)
        self.argument = cache_argument(type(decoder))

    def __call__(
        self,
        new: Tensor,
        among: Tensor,
        positions: Tensor | None = None,
        behind: int = 1,
        **options: Any,
    ) -> Any:
        """The decoder's output at new tokens (B, Q) or states (B, Q, D).

        among: (Q, Q) or (B, Q, Q) bool, who sees whom among the new ones.
        positions: (B, Q); default: one after another.
        behind: how far before a position what it sees of the kept tokens must stand, where those
            stand at 0, 1, 2 ..
        """
        cache, decoder = self.cache, self.decoder
        if positions is None:
            length = torch.tensor(cache.lengths, device=new.device)
            positions = length[:, None] + torch.arange(new.shape[1], device=new.device)
        among = among if among.ndim == 3 else among[None]
        mask = cache_mask(among, cache.lengths, cache.begin, positions, behind)
        mask = mask_argument(mask, decoder.config._attn_implementation, decoder.dtype)
        inputs = {"input_ids": new} if new.ndim == 2 else {"inputs_embeds": new}
        return decoder(
            **inputs,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            **{self.argument: cache},
            **options,
        )


def cache_argument(kind: type) -> str:
    """What a decoder class calls its cache: "past_key_values", or "cache" from transformers 5.24
    on.
    """
    names = inspect.signature(kind.forward).parameters  # type: ignore[attr-defined]
    return "cache" if "cache" in names else "past_key_values"


class NotRewindable(UserError):
    """A model whose cache cannot be rewound: it writes a token per pass, if it writes."""


PROBED = 8192  # the longest window that is asked about by reading past it


def require_rewindable(lm: Any) -> None:
    """Raises NotRewindable where a model's cache cannot be rewound, or where it lies about masks
    and positions.

    Asked by behaviour: a branch written beside another and forgotten again must leave no trace, and
    a branching step must give what the branches give one after the other. Two sequences of
    different lengths are asked at once, past every window that the configuration names.
    """
    name = f"model '{lm.config.model_type}'"
    if getattr(lm.config, "is_encoder_decoder", False):
        raise NotRewindable(
            f"{name}: is an encoder-decoder; several tokens per pass need a causal decoder"
        )
    if getattr(lm.config, "is_causal", True) is False or not hasattr(lm, "generate"):
        raise NotRewindable(
            f"{name}: is an encoder (it reads both ways); several tokens per pass need a causal "
            "model"
        )
    layers = DynamicCache(config=lm.config.get_text_config()).layers
    odd = {type(layer).__name__ for layer in layers if type(layer) is not DynamicLayer}
    parameters = inspect.signature(type(lm.base_model).forward).parameters
    if (
        odd
        or not ({"cache", "past_key_values"} & set(parameters))
        or "position_ids" not in parameters
    ):
        kinds = ", ".join(sorted(odd)) or "no key-value cache with positions"
        raise NotRewindable(
            f"{name}: its cache cannot be rewound ({kinds}); several tokens per pass need full "
            "attention in every layer"
        )
    if last_step(lm, name)[0]:
        raise NotRewindable(
            f"{name}: changes its states before the unembedding; several tokens per pass need "
            "those of the last layer"
        )
    past = _longest_window(lm, name)
    try:
        found, expected = _branching(lm, past)
    except FAILURES as error:
        raise NotRewindable(
            f"{name}: its cache cannot be rewound ({str(error).splitlines()[0][:120]})"
        ) from None
    exact = lm.dtype in (torch.float32, torch.float64)
    if float((found - expected).abs().max()) > (1e-3 if exact else 3e-2) * float(
        expected.abs().max()
    ):
        raise NotRewindable(
            f"{name}: does not keep the attention pattern of a tree of drafts, or its cache "
            "cannot be rewound"
        )


def _longest_window(lm: Any, name: str) -> int:
    """Tokens of the longest window that a model's configuration names and a text can outgrow; 0:
    none.

    Raises NotRewindable for one that is too long to be asked about and that no type of a layer
    rules out.
    """
    values, limit = lm.config.get_text_config().to_dict(), sizes_of(lm).positions
    named = [
        value
        for field, given in values.items()
        if re.search("window|local_attention|chunk_size", field)
        for value in (given if isinstance(given, list) else [given])
        if type(value) is int and value > 0 and (limit is None or value <= limit - 4)
    ]
    if max(named, default=0) > PROBED and not values.get("layer_types"):
        raise NotRewindable(
            f"{name}: its configuration names a window of {max(named)} tokens; several tokens per "
            "pass need full attention in every layer"
        )
    return max((value for value in named if value <= PROBED), default=0)


@torch.inference_mode()
def _branching(lm: Any, past: int) -> tuple[Tensor, Tensor]:
    """(states by a tree and a rewound cache, the same states read at once) of two texts.

    past: tokens that the longer of them begins with, at least.
    """
    lengths, device = [max(past, 4), 2], lm.device
    width = lengths[0] + 4
    vocabulary = lm.get_output_embeddings().weight.shape[0]
    ids = torch.arange(1, 2 * width + 1, device=device).view(2, width) % vocabulary
    rows, places = torch.arange(2, device=device)[:, None], torch.tensor(lengths, device=device)
    next_ids = ids[rows, places[:, None] + torch.arange(4, device=device)]
    with reading(lm):
        states = lm.base_model(ids, use_cache=False).last_hidden_state
        model = CachedModel(lm.base_model, 2)
        causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
        model(ids[:, :-4], causal[:-4, :-4])
        model.cache.keep([range(length) for length in lengths])
        # the next token, a wrong one beside it, and what follows the right one
        branch = torch.stack([next_ids[:, 0], ids[:, 0], next_ids[:, 1]], 1)
        sees = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 1]], dtype=torch.bool, device=device)
        depths = torch.tensor([0, 0, 1], device=device)
        tree = model(branch, sees, places[:, None] + depths).last_hidden_state
        model.cache.keep([[0, 2]] * 2)
        rest = model(next_ids[:, 2:], causal[:2, :2]).last_hidden_state
    found = torch.cat([tree[:, [0, 2]], rest], 1)
    return found, states[rows, places[:, None] + torch.arange(4, device=device)]
