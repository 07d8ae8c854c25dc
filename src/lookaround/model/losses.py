"""Cross-entropy of a linear unembedding without ever holding all logits.

N scored pairs, D hidden width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Logits in float32 that live at a time. On a CPU: small enough for a cache, large enough for
# full-speed matrix products. On a GPU: large enough that launches cost little (H100, `base`, 64 x
# 1024 tokens: 228,000 tokens/s, 160,000 with 32 MiB).
CHUNK_BYTES = 32 << 20
GPU_CHUNK_BYTES = 512 << 20


def _chunk_rows(pairs: int, vocabulary: int, device: torch.device) -> int:
    """Rows of logits held at a time; multiples of 64 keep matrix products at full speed."""
    chunk = GPU_CHUNK_BYTES if device.type == "cuda" else CHUNK_BYTES
    rows = max(1, chunk // (4 * vocabulary))
    return max(1, min(pairs, rows - rows % 64 if rows > 64 else rows))


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes gradients in the forward pass, chunk by chunk, so that logits are never kept."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_nd: Tensor,
        weight_vd: Tensor,
        bias_v: Tensor | None,
        target: Tensor,
        weight: Tensor,
        compute: torch.dtype,
        cap: float | None,
    ) -> tuple[Tensor, Tensor]:
        pairs, vocabulary = hidden_nd.shape[0], weight_vd.shape[0]
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        exact = torch.float64 if hidden_nd.dtype == torch.float64 else torch.float32
        device = hidden_nd.device
        hidden_c, weight_c = hidden_nd.to(compute), weight_vd.to(compute)
        weighted_c = (hidden_nd * weight[:, None]).to(compute) if needs_weight else None
        grad_hidden = torch.empty_like(hidden_nd) if needs_hidden else None
        grad_weight: Tensor | None = None
        grad_bias = torch.zeros(vocabulary, dtype=exact, device=device) if needs_bias else None
        nll = torch.empty(pairs, dtype=exact, device=device)
        size = _chunk_rows(pairs, vocabulary, device)
        # one buffer of each kind for all chunks: fresh ones of this size would be mapped and zeroed
        # by the system each time
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
            if not (needs_hidden or needs_weight or needs_bias):
                continue
            # p - 1, exact for tokens that are nearly certain
            probability.scatter_(1, index, torch.expm1(-loss))
            if slope is not None:
                probability.mul_(slope)
            if grad_bias is not None:
                grad_bias += (probability * weight[here, None]).sum(0)
            error = logits.copy_(probability)
            if grad_hidden is not None:
                grad_hidden[here] = (error @ weight_c) * weight[here, None]
            if weighted_c is not None:
                product = (error.T @ weighted_c[here]).to(exact)
                grad_weight = product if grad_weight is None else grad_weight.add_(product)
        if needs_weight and grad_weight is None:
            grad_weight = torch.zeros(weight_vd.shape, dtype=exact, device=device)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = (hidden_nd.dtype, weight_vd.dtype)
        ctx.mark_non_differentiable(nll)
        return (nll * weight).sum(), nll

    @staticmethod
    def backward(ctx: Any, grad_sum: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        grads = [None if grad is None else grad * grad_sum for grad in ctx.saved_tensors]
        hidden, weight, bias = grads
        hidden = None if hidden is None else hidden.to(ctx.dtypes[0])
        weight = None if weight is None else weight.to(ctx.dtypes[1])
        return hidden, weight, bias, None, None, None, None


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

    Only the first result carries gradients. At most CHUNK_BYTES of logits live at a time. Ours;
    after the idea of Liger's fused linear cross-entropy (Hsu et al. 2024).
    """
    device = hidden_nd.device.type
    if not torch.is_grad_enabled():
        hidden_nd, weight_vd = hidden_nd.detach(), weight_vd.detach()
        bias_v = None if bias_v is None else bias_v.detach()
    if compute is None:
        compute = (
            torch.get_autocast_dtype(device)
            if torch.is_autocast_enabled(device)
            else hidden_nd.dtype
        )
    with torch.autocast(device, enabled=False):
        return _LinearCrossEntropy.apply(hidden_nd, weight_vd, bias_v, target, weight, compute, cap)  # type: ignore[no-any-return]


def at_least_single(values: Tensor) -> Tensor:
    """Values of at least single precision."""
    return values if values.dtype == torch.float64 else values.float()
