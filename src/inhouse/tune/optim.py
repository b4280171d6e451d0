"""The optimiser over one flat vector: AdamW, or Muon for the matrices of a whole model; and the rate's schedule.

Sources: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019. Jordan and others, "Muon: an
optimizer for hidden layers in neural networks", 2024, whose update is scaled to AdamW's size as in Liu and
others, "Muon is scalable for LLM training", 2025, so that one learning rate serves both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8
MOMENTUM = 0.95
"""Muon's."""
MUON_SIZE = 0.2
"""Root mean square of Muon's update at rate 1: about that of AdamW's."""
NEWTON_SCHULZ = ((3.4445, -4.7750, 2.0315),) * 5
"""Coefficients of the odd polynomial that, repeated, drives all singular values near 1."""

Hidden = Iterable[tuple[Tensor, Iterable[tuple[int, int]]]]
"""Matrices for Muon: a weight, and the ranges of its rows that are matrices of their own."""


class Optimizer:
    """Owns the trained tensors: they become views of one vector, so a step is a handful of long operations.

    Weights and moments are float32. Where the tensors compute in another type, that is a copy made anew after
    each step, and gradients are summed in float32 over a step's streams. `hidden` are those tensors among the
    named whose update Muon makes orthogonal; all others follow AdamW.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, Tensor]],
        *,
        weight_decay: float = 0.0,
        hidden: Hidden = (),
        betas: tuple[float, float] = BETAS,
    ) -> None:
        ranges = {id(weight): tuple(rows) for weight, rows in hidden}
        # Matrices first: decay is theirs alone, never a norm's or a bias's. Muon's before AdamW's.
        tensors = sorted((t for _, t in named), key=lambda t: (t.ndim < 2, id(t) not in ranges))
        if not tensors:
            raise AssertionError("an optimiser needs something to train")
        self.weight_decay = weight_decay
        self.betas = betas
        self.decayed = sum(t.numel() for t in tensors if t.ndim >= 2)
        self.orthogonal = sum(t.numel() for t in tensors if id(t) in ranges)
        self.weights = torch.cat([t.detach().float().flatten() for t in tensors])
        self.first = torch.zeros_like(self.weights)
        self.second = torch.zeros_like(self.weights[self.orthogonal :])
        self.grads = torch.zeros_like(self.weights)
        self.steps = 0
        dtype = tensors[0].dtype
        self._compute = self.weights if dtype is torch.float32 else self.weights.to(dtype)
        self._compute_grads = self.grads if dtype is torch.float32 else torch.zeros_like(self._compute)
        self._matrices: dict[tuple[int, int], list[int]] = {}
        """Muon's matrices by shape: where each begins in the vector."""
        at = 0
        for tensor in tensors:
            shape, size = tensor.shape, tensor.numel()
            for start, stop in ranges.get(id(tensor), ()):
                self._matrices.setdefault((stop - start, shape[1]), []).append(at + start * shape[1])
            tensor.data = self._compute[at : at + size].view(shape)
            tensor.requires_grad_()
            tensor.grad = self._compute_grads[at : at + size].view(shape)
            at += size

    def collect(self) -> None:
        """Adds the gradients of the stream just run; call after every backward."""
        if self._compute_grads is not self.grads:
            self.grads += self._compute_grads
            self._compute_grads.zero_()

    def grad_norm(self) -> float:
        """Length of the summed gradient; infinite or NaN when any part of it is."""
        return float(torch.linalg.vector_norm(self.grads))

    def step(self, learning_rate: float, *, clip: float, norm: float) -> None:
        """One update, with the gradient shortened to `clip` when its `norm` is longer; then it is zero again."""
        self.steps += 1
        if norm > clip:
            self.grads *= clip / norm
        if self.weight_decay:
            self.weights[: self.decayed] *= 1 - learning_rate * self.weight_decay
        self._muon(learning_rate)
        self._adamw(learning_rate)
        self._publish()
        self.clear()

    def _adamw(self, learning_rate: float) -> None:
        rest = slice(self.orthogonal, None)
        weights, first, grads = self.weights[rest], self.first[rest], self.grads[rest]
        fast, slow = self.betas
        first.lerp_(grads, 1 - fast)
        self.second.mul_(slow).addcmul_(grads, grads, value=1 - slow)
        scale = math.sqrt(1 - slow**self.steps)
        spread = self.second.sqrt().div_(scale).add_(EPS)
        weights.addcdiv_(first, spread, value=-learning_rate / (1 - fast**self.steps))

    def _muon(self, learning_rate: float) -> None:
        if not self.orthogonal:
            return
        own = slice(0, self.orthogonal)
        self.first[own].lerp_(self.grads[own], 1 - MOMENTUM)
        ahead = torch.lerp(self.grads[own], self.first[own], MOMENTUM)
        for (rows, columns), starts in self._matrices.items():
            size = rows * columns
            stack = torch.stack([ahead[at : at + size].view(rows, columns) for at in starts])
            size_of_update = MUON_SIZE * math.sqrt(max(rows, columns))
            for at, update in zip(starts, orthogonalized(stack, self._compute.dtype), strict=True):
                self.weights[at : at + size].sub_(update.flatten(), alpha=learning_rate * size_of_update)

    def is_finite(self) -> bool:
        """Whether every weight is a number. A rate that is far too high makes infinite ones of a finite gradient."""
        return bool(self.weights.isfinite().all())

    def clear(self) -> None:
        """Forgets the summed gradient."""
        self.grads.zero_()
        self._compute_grads.zero_()

    def state(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs, on the CPU."""
        vectors = {"weights": self.weights, "first": self.first, "second": self.second}
        return {n: v.detach().cpu().clone() for n, v in vectors.items()} | {
            "steps": torch.tensor([self.steps])
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Takes up where `state` was taken."""
        if state["weights"].shape != self.weights.shape or state["second"].shape != self.second.shape:
            raise AssertionError("a checkpoint of another model, rank or optimiser")
        self.weights.copy_(state["weights"])
        self.first.copy_(state["first"])
        self.second.copy_(state["second"])
        self.steps = int(state["steps"])
        self._publish()
        self.clear()

    def _publish(self) -> None:
        if self._compute is not self.weights:
            self._compute.copy_(self.weights)


def orthogonalized(stack: Tensor, dtype: torch.dtype) -> Tensor:
    """Each matrix with its singular values moved near 1 (0.7 to 1.2), by Newton and Schulz's iteration.

    stack    [N, rows, columns] float32
    returns  the same shape, float32; computed in `dtype`
    """
    is_tall = stack.shape[1] > stack.shape[2]
    x = (stack.mT if is_tall else stack).contiguous()
    x = (x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)).to(dtype)
    for a, b, c in NEWTON_SCHULZ:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).float()


def learning_rate(step: int, steps: int, *, peak: float, warmup: int, floor: float = 0.1) -> float:
    """Linear warm-up to `peak`, then a half cosine down to `floor` · peak at the last step."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
