"""The optimiser's two rules, each beside its plain form, and its state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inhouse.tune.optim import MOMENTUM, MUON_SIZE, Optimizer, orthogonalized


def tensors(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"fused": (20, 8), "down": (8, 12), "embedding": (30, 8), "norm": (8,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def optimizer(weights: dict[str, Tensor], *, is_muon: bool, decay: float = 0.0) -> Optimizer:
    hidden = [(weights["fused"], [(0, 12), (12, 20)]), (weights["down"], [(0, 8)])] if is_muon else []
    return Optimizer(weights.items(), weight_decay=decay, hidden=hidden, betas=(0.9, 0.95))


def give(weights: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
    for name, weight in weights.items():
        assert weight.grad is not None
        weight.grad.copy_(gradients[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_orthogonalized_keeps_the_directions_and_levels_the_lengths(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    u, _, v = torch.linalg.svd(torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)), False)
    lengths = torch.linspace(1, 0.05, min(shape))
    level = orthogonalized(u * lengths @ v, dtype)
    spectrum = torch.linalg.svdvals(level)
    assert spectrum.min() > 0.6 and spectrum.max() < 1.3
    along = (u.mT @ level @ v.mT).diagonal(dim1=1, dim2=2)
    assert along.min() > 0.6, "each direction stays what it was"


def test_adamw_is_that_of_torch() -> None:
    ours, theirs = tensors(), tensors()
    peer = torch.optim.AdamW(
        [
            {"params": [t.requires_grad_() for t in theirs.values() if t.ndim > 1], "weight_decay": 0.1},
            {"params": [t.requires_grad_() for t in theirs.values() if t.ndim == 1], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.9, 0.95),
    )
    optimizer_ = optimizer(ours, is_muon=False, decay=0.1)
    for step in range(4):
        gradients = tensors(step + 1)
        give(ours, gradients)
        for name, tensor in theirs.items():
            tensor.grad = gradients[name].clone()
        optimizer_.step(0.01, clip=1e9, norm=1.0)
        peer.step()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name])


def test_muon_moves_each_hidden_matrix_by_its_orthogonal_momentum_and_the_rest_by_adamw() -> None:
    ours, adamw = tensors(), tensors()
    muon, plain = optimizer(ours, is_muon=True), optimizer(adamw, is_muon=False)
    momentum = {name: torch.zeros_like(t) for name, t in ours.items()}
    wanted = tensors()
    for step in range(3):
        gradients = tensors(step + 1)
        give(ours, gradients)
        give(adamw, gradients)
        muon.step(0.01, clip=1e9, norm=1.0)
        plain.step(0.01, clip=1e9, norm=1.0)
        for name, rows in (("fused", (0, 12)), ("fused", (12, 20)), ("down", (0, 8))):
            part = slice(*rows)
            moved = momentum[name][part].mul_(MOMENTUM).add_(gradients[name][part], alpha=1 - MOMENTUM)
            ahead = gradients[name][part] * (1 - MOMENTUM) + moved * MOMENTUM
            size = MUON_SIZE * max(ahead.shape) ** 0.5
            wanted[name][part] -= 0.01 * size * orthogonalized(ahead[None], torch.float32)[0]
    for name in ("fused", "down"):
        torch.testing.assert_close(ours[name].detach(), wanted[name])
    for name in ("embedding", "norm"):
        assert torch.equal(ours[name], adamw[name])


@pytest.mark.parametrize("is_muon", [False, True])
def test_a_state_taken_up_goes_on_to_the_same_bytes(is_muon: bool) -> None:
    ours, resumed = tensors(), tensors(9)
    first, second = optimizer(ours, is_muon=is_muon), optimizer(resumed, is_muon=is_muon)
    for step in range(4):
        if step == 2:
            second.load(first.state())
        for weights, either in ((ours, first), (resumed, second)):
            give(weights, tensors(step + 1))
            either.step(0.01, clip=1.0, norm=either.grad_norm())
    assert all(torch.equal(ours[name], resumed[name]) for name in ours)


def test_a_state_of_the_other_rule_is_refused() -> None:
    with pytest.raises(AssertionError, match="another"):
        optimizer(tensors(), is_muon=True).load(optimizer(tensors(), is_muon=False).state())
