"""AdamW over one flat vector, and the learning rate's schedule.

Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8


class AdamW:
    """Owns the trained tensors: they become views of one vector, so a step is a handful of long operations.

    Weights and moments are float32. Where the tensors compute in another type, that is a copy made anew after
    each step, and gradients are summed in float32 over a step's streams.
    """

    def __init__(self, named: Iterable[tuple[str, Tensor]], *, weight_decay: float = 0.0) -> None:
        # Matrices first: decay is theirs alone, never a norm's or a bias's.
        tensors = sorted((t for _, t in named), key=lambda t: t.ndim < 2)
        if not tensors:
            raise AssertionError("an optimiser needs something to train")
        self.weight_decay = weight_decay
        self.decayed = sum(t.numel() for t in tensors if t.ndim >= 2)
        self.weights = torch.cat([t.detach().float().flatten() for t in tensors])
        self.first = torch.zeros_like(self.weights)
        self.second = torch.zeros_like(self.weights)
        self.grads = torch.zeros_like(self.weights)
        self.steps = 0
        dtype = tensors[0].dtype
        self._compute = self.weights if dtype is torch.float32 else self.weights.to(dtype)
        self._compute_grads = self.grads if dtype is torch.float32 else torch.zeros_like(self._compute)
        at = 0
        for tensor in tensors:
            shape, size = tensor.shape, tensor.numel()
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
        self.first.lerp_(self.grads, 1 - BETAS[0])
        self.second.mul_(BETAS[1]).addcmul_(self.grads, self.grads, value=1 - BETAS[1])
        if self.weight_decay:
            self.weights[: self.decayed] *= 1 - learning_rate * self.weight_decay
        scale = math.sqrt(1 - BETAS[1] ** self.steps)
        spread = self.second.sqrt().div_(scale).add_(EPS)
        self.weights.addcdiv_(self.first, spread, value=-learning_rate / (1 - BETAS[0] ** self.steps))
        self._publish()
        self.clear()

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
        if state["weights"].shape != self.weights.shape:
            raise AssertionError("a checkpoint of another model or rank")
        self.weights.copy_(state["weights"])
        self.first.copy_(state["first"])
        self.second.copy_(state["second"])
        self.steps = int(state["steps"])
        self._publish()
        self.clear()

    def _publish(self) -> None:
        if self._compute is not self.weights:
            self._compute.copy_(self.weights)


def learning_rate(step: int, steps: int, *, peak: float, warmup: int, floor: float = 0.1) -> float:
    """Linear warm-up to `peak`, then a half cosine down to `floor` · peak at the last step."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
