"""Cross-entropy over a large vocabulary without ever holding all logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_ROWS = 512
"""Rows whose logits exist at once: a few megabytes at common vocabulary sizes."""


def chunked_cross_entropy(
    hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, *, cap: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted sum of token losses; each token's loss, and whether it is the likeliest (both without gradient).

    hidden   [N, D]  rows that carry loss, after the final norm
    head     [V, D]  output embedding
    targets  [N]     int64
    weights  [N]     float32; 1/N each makes the mean
    cap      bends logits below it (see `soft_cap`); None leaves them
    Returns  ([] float32, [N] float32, [N] bool). The gradient is made chunk by chunk in the forward pass.
    """
    if not torch.is_grad_enabled():  # inside the function below this can no longer be told
        hidden, head = hidden.detach(), head.detach()
    return _ChunkedCrossEntropy.apply(hidden, head, targets, weights, cap)  # type: ignore[no-any-return, no-untyped-call]


def soft_cap(scores: Tensor, cap: float | None) -> Tensor:
    """cap · tanh(scores / cap), which lies below the cap and is nearly the score where that is small. Any shape."""
    return scores if cap is None else torch.tanh(scores / cap) * cap


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, cap: float | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        losses = torch.empty(len(hidden), device=hidden.device)
        is_best = torch.empty(len(hidden), device=hidden.device, dtype=torch.bool)
        grad_hidden = torch.empty_like(hidden)
        head_needs_grad = ctx.needs_input_grad[1]
        grad_head = torch.zeros(head.shape, device=head.device) if head_needs_grad else None
        for start in range(0, len(hidden), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            logits = soft_cap((hidden[rows] @ head.T).float(), cap)  # [n, V]
            log_sum = torch.logsumexp(logits, -1, keepdim=True)
            picked = logits.gather(1, targets[rows, None])
            losses[rows] = (log_sum - picked).squeeze(1)
            is_best[rows] = (picked >= logits.amax(-1, keepdim=True)).squeeze(1)
            if not any(ctx.needs_input_grad):
                continue
            slope = None if cap is None else 1 - (logits / cap) ** 2  # of the cap, at each logit
            grad = logits.sub_(log_sum).exp_()  # softmax
            grad.scatter_add_(1, targets[rows, None], grad.new_full((len(grad), 1), -1.0))
            if slope is not None:
                grad *= slope
            grad = grad.mul_(weights[rows, None]).to(hidden.dtype)
            grad_hidden[rows] = grad @ head
            if grad_head is not None:
                grad_head += grad.T @ hidden[rows]
        ctx.save_for_backward(grad_hidden, grad_head)
        ctx.head_type = head.dtype
        ctx.mark_non_differentiable(losses, is_best)
        return (losses * weights).sum(), losses, is_best

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_head = ctx.saved_tensors
        scale = grads[0]
        return (
            grad_hidden * scale if ctx.needs_input_grad[0] else None,
            (grad_head * scale).to(ctx.head_type) if grad_head is not None else None,
            None,
            None,
            None,
        )
