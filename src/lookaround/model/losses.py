"""Cross-entropy of a linear unembedding without ever holding all logits.

N scored pairs, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Logits in float32 that live at a time. On a CPU: small enough for a cache, large enough for
# full-speed matrix products. On a GPU: large enough that launches cost little (H100, `base`, 64 x
# 1024 tokens: 228,000 tokens/s, 160,000 with 32 MiB).
CHUNK_BYTES = 64 << 20
GPU_CHUNK_BYTES = 512 << 20


def _chunk_rows(pairs: int, vocabulary: int, device: torch.device) -> int:
    """Rows of logits held at a time; multiples of 64 keep matrix products at full speed."""
    chunk = GPU_CHUNK_BYTES if device.type == "cuda" else CHUNK_BYTES
    rows = max(1, chunk // (4 * vocabulary))
    return max(1, min(pairs, rows - rows % 64 if rows > 64 else rows))


def _by_chunks(
    hidden_nd: Tensor,
    weight_vd: Tensor,
    bias_v: Tensor | None,
    target: Tensor,
    weight: Tensor,
    compute: torch.dtype,
    cap: float | None,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(sum, cross-entropies, gradients of states, unembedding and bias).

    Gradients are computed here and not in a backward pass, chunk by chunk, so that logits are never
    kept.
    wanted: of the three gradients; the others are empty.
    """
    pairs, vocabulary = hidden_nd.shape[0], weight_vd.shape[0]
    needs_hidden, needs_weight, needs_bias = wanted
    exact = torch.float64 if hidden_nd.dtype == torch.float64 else torch.float32
    device = hidden_nd.device
    hidden_c, weight_c = hidden_nd.to(compute), weight_vd.to(compute)
    weighted_c = (hidden_nd * weight[:, None]).to(compute) if needs_weight else None
    grad_hidden = torch.empty_like(hidden_nd) if needs_hidden else hidden_nd.new_empty(0)
    grad_weight: Tensor | None = None
    grad_bias = torch.zeros(vocabulary * needs_bias, dtype=exact, device=device)
    nll = torch.empty(pairs, dtype=exact, device=device)
    size = _chunk_rows(pairs, vocabulary, device)
    # one buffer of each kind for all chunks: fresh ones of this size would be mapped and zeroed by
    # the system each time
    logits_buffer = torch.empty(size, vocabulary, dtype=compute, device=device)
    exact_buffer = torch.empty(size, vocabulary, dtype=exact, device=device)
    for begin in range(0, pairs, size):
        here = slice(begin, min(begin + size, pairs))
        count = here.stop - begin
        logits, probability = logits_buffer[:count], exact_buffer[:count]
        torch.mm(hidden_c[here], weight_c.T, out=logits)
        probability.copy_(logits)
        if bias_v is not None:
            probability += bias_v
        slope = None
        if cap is not None:
            probability.div_(cap).tanh_()
            slope = 1 - probability.square()
            probability.mul_(cap)
        index = target[here, None]
        true = probability.gather(1, index)
        top = probability.amax(1, keepdim=True)
        torch.softmax(probability, 1, out=probability)
        # the largest probability is exp(top - log Z): one exponential serves the loss and its
        # gradient
        loss = top - probability.amax(1, keepdim=True).log() - true
        nll[here] = loss[:, 0]
        if not any(wanted):
            continue
        # p - 1, exact for tokens that are nearly certain
        probability.scatter_(1, index, torch.expm1(-loss))
        if slope is not None:
            probability.mul_(slope)
        if needs_bias:
            grad_bias += (probability * weight[here, None]).sum(0)
        error = logits.copy_(probability)
        if needs_hidden:
            grad_hidden[here] = (error @ weight_c) * weight[here, None]
        if weighted_c is not None:
            product = (error.T @ weighted_c[here]).to(exact)
            grad_weight = product if grad_weight is None else grad_weight.add_(product)
    if grad_weight is None:
        shape = weight_vd.shape if needs_weight else (0,)
        grad_weight = torch.zeros(shape, dtype=exact, device=device)
    return (nll * weight).sum(), nll, grad_hidden, grad_weight, grad_bias


# an operator of its own: a compiler takes it as one node, whatever the number of pairs
_linear_cross_entropy = torch.library.custom_op(
    "lookaround::linear_cross_entropy", _by_chunks, mutates_args=()
)


@_linear_cross_entropy.register_fake
def _(
    hidden_nd: Tensor,
    weight_vd: Tensor,
    bias_v: Tensor | None,
    target: Tensor,
    weight: Tensor,
    compute: torch.dtype,
    cap: float | None,
    wanted: Sequence[bool],
) -> tuple[Tensor, ...]:
    """The shapes and types of what it gives."""
    exact = torch.float64 if hidden_nd.dtype == torch.float64 else torch.float32
    return (
        hidden_nd.new_empty((), dtype=torch.promote_types(exact, weight.dtype)),
        hidden_nd.new_empty(hidden_nd.shape[0], dtype=exact),
        torch.empty_like(hidden_nd) if wanted[0] else hidden_nd.new_empty(0),
        hidden_nd.new_empty(weight_vd.shape if wanted[1] else (0,), dtype=exact),
        hidden_nd.new_empty(weight_vd.shape[0] * wanted[2], dtype=exact),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[2:])
    ctx.dtypes = [None if value is None else value.dtype for value in inputs[:3]]
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, grad_sum: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    grads = [
        (grad * grad_sum).to(dtype) if needed else None
        for grad, dtype, needed in zip(
            ctx.saved_tensors, ctx.dtypes, ctx.needs_input_grad[:3], strict=True
        )
    ]
    return *grads, None, None, None, None, None


_linear_cross_entropy.register_autograd(_backward, setup_context=_keep)


def linear_cross_entropy(
    hidden_nd: Tensor,
    weight_vd: Tensor,
    target: Tensor,
    weight: Tensor,
    *,
    bias_v: Tensor | None = None,
    compute: torch.dtype | None = None,
    cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """(sum of weight * cross-entropy, cross-entropy of each pair (N,)), in nats.

    hidden_nd (N, D), weight_vd (V, D), target (N,) int64, weight (N,).
    compute: dtype of the matrix products (default: that of hidden_nd, or of autocast where it is
        on); sums and softmax are float32, or float64 for float64 input.
    cap: c, where the softmax is over c * tanh(logits / c).

    Only the first result carries gradients. At most CHUNK_BYTES of logits (on a GPU
    GPU_CHUNK_BYTES) live at a time in single precision, and as many in that of the products. Ours;
    after the idea of Liger's fused linear cross-entropy (Hsu et al. 2024).
    """
    device = hidden_nd.device.type
    if compute is None:
        compute = (
            torch.get_autocast_dtype(device)
            if torch.is_autocast_enabled(device)
            else hidden_nd.dtype
        )
    wanted = [
        torch.is_grad_enabled() and tensor is not None and tensor.requires_grad
        for tensor in (hidden_nd, weight_vd, bias_v)
    ]
    with torch.autocast(device, enabled=False):
        total, nll, *_ = _linear_cross_entropy(
            hidden_nd, weight_vd, bias_v, target, weight, compute, cap, wanted
        )
    return total, nll


def at_least_single(values: Tensor) -> Tensor:
    """Values of at least single precision."""
    return values if values.dtype == torch.float64 else values.float()
