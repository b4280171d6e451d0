"""How the matrices of a mixture's experts lie: as training holds them, and laid out for serving.

`experts_for_serving` takes them one after another, so that they need never be there as a whole in their plain form.
What is rounded is laid out expert by expert, each as any other matrix of its kind. What is not goes to the registry's
operation "experts": its plain implementation does the same, and some devices have torch's grouped products.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse.ops.matrix import Matrix, for_serving
from inhouse.ops.mixture import ExpertMatrices, Uses
from inhouse.ops.probe import made
from inhouse.ops.registry import Implementation, kernels


class ServedExperts(ExpertMatrices, Protocol):
    """Experts laid out for serving."""

    @property
    def nbytes(self) -> int:
        """Memory that all their matrices take."""

    @property
    def form(self) -> str:
        """A word or two on how they lie, for people."""


class HeldExperts:
    """Experts as training holds them, with gradients."""

    def __init__(self, weights: Tensor, biases: Tensor | None) -> None:
        """weights [E, O, I], biases [E, O]"""
        # Taken apart once: a gradient of each weights[e] alone would be as large as all of them.
        self._weights = weights.unbind()
        self._biases = _apart(biases, len(weights))
        self.count = len(weights)

    def products(self, x: Tensor, uses: Uses) -> Tensor:
        experts, rows = uses.active
        parts = zip(experts, x.split(rows), strict=True)
        return torch.cat([F.linear(part, self._weights[e], self._biases[e]) for e, part in parts])


class EachAlone:
    """Each expert's matrix by itself; those that somebody uses multiply one after another."""

    def __init__(self, matrices: Sequence[Matrix], biases: Tensor | None) -> None:
        """biases [E, O]"""
        self._matrices = matrices
        self._biases = _apart(biases, len(matrices))
        self.count = len(matrices)
        self.nbytes = sum(matrix.nbytes for matrix in matrices)
        self.form = matrices[0].form

    def products(self, x: Tensor, uses: Uses) -> Tensor:
        experts, rows = uses.active
        parts = zip(experts, x.split(rows), strict=True)
        return torch.cat([self._matrices[e].product(part, self._biases[e]) for e, part in parts])


def experts_for_serving(
    weights: Iterable[Tensor],
    count: int,
    biases: Tensor | None,
    device: torch.device,
    quantization: str = "none",
) -> ServedExperts:
    """The form for where they lie.

    weights  `count` of [O, I] float32 or bfloat16 on the device, each taken when the one before is done with
    biases   [count, O]

    Raises InvalidRequest for a quantization that there is not.
    """
    if quantization != "none":
        return each_alone(weights, count, biases, quantization)
    laid_out: ServedExperts = kernels.kernel("experts", device)(weights, count, biases)
    return laid_out


def each_alone(
    weights: Iterable[Tensor], count: int, biases: Tensor | None, quantization: str = "none"
) -> EachAlone:
    """Every matrix in the form that the registry chooses for one."""
    matrices = [for_serving(weight, quantization) for weight in weights]
    assert len(matrices) == count, f"{len(matrices)} experts where {count} are due"
    return EachAlone(matrices, biases)


def _apart(biases: Tensor | None, count: int) -> Sequence[Tensor | None]:
    return [None] * count if biases is None else biases.unbind()


def _probe(implementation: Implementation, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Widths that grouped products take; an expert without a row, and one with all but one of them."""
    experts = torch.tensor([0, 2, 2, 2, 2], device=device)
    x, weights, biases = (made(*s, device=device, dtype=dtype) for s in ((5, 64), (4, 48, 64), (4, 48)))
    return tuple(
        implementation(weights.unbind(), 4, bias).products(x, Uses(experts, 4)) for bias in (biases, None)
    )


kernels.define("experts", each_alone, _probe)
