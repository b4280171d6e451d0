"""Each operation beside the plain one: the same values and the same gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from inhouse import ops
from inhouse.ops.attention import PRODUCTS_BELOW, WIDE_BELOW, causal_mask
from inhouse.ops.cross_entropy import CHUNK_ROWS


def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def assert_same(clever: Callable[..., Tensor], plain: Callable[..., Tensor], inputs: list[Tensor]) -> None:
    """Values and the gradients of every input agree; without gradient the value is the same again."""
    weights = torch.randn(plain(*inputs).shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((f(*inputs) * weights).sum(), inputs) for f in (clever, plain)]
    torch.testing.assert_close(clever(*inputs), plain(*inputs), atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(clever(*inputs), plain(*inputs), atol=1e-5, rtol=1e-5)


def test_rms_norm() -> None:
    assert_same(
        lambda x, w: ops.rms_norm(x, w, 1e-5),
        lambda x, w: F.rms_norm(x, (16,), w, 1e-5),
        tensors((7, 16), (16,)),
    )


def test_silu_mul() -> None:
    assert_same(ops.silu_mul, lambda x: F.silu(x[:, :8]) * x[:, 8:], tensors((5, 16)))


def test_rotate_is_a_turn_of_complex_numbers() -> None:
    angles = torch.randn(6, 1, 4, generator=torch.Generator().manual_seed(2))

    def plain(x: Tensor) -> Tensor:
        turned = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones_like(angles), angles)
        return torch.cat([turned.real, turned.imag], -1)

    assert_same(lambda x: ops.rotate(x, angles.cos(), angles.sin()), plain, tensors((6, 3, 8)))


@pytest.mark.parametrize("window", [None, 3])
def test_segments_attend_as_under_one_masked_softmax(window: int | None) -> None:
    lengths = [5, 1, 9, 4, 8, 9]  # some of one length, some nearly, one alone
    mask = torch.block_diag(*(causal_mask(n, n, window, torch.device("cpu")) for n in lengths)).bool()

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        scores = torch.einsum("thk,shk->hts", q, k) * 0.3
        return torch.einsum("hts,shk->thk", scores.masked_fill(~mask, -torch.inf).softmax(-1), v)

    assert_same(
        lambda q, k, v: ops.attend_segments(q, k, v, lengths, scale=0.3, window=window),
        plain,
        tensors((36, 4, 8), (36, 2, 8), (36, 2, 8)),
    )


@pytest.mark.parametrize("window", [None, 50])
def test_segments_in_bfloat16_attend_as_in_float32_whatever_their_length(window: int | None) -> None:
    lengths = [3, 3, 90, 100, PRODUCTS_BELOW, 1, WIDE_BELOW + 1, 95]
    sizes = [(sum(lengths), heads, 16) for heads in (4, 2, 2)]
    in_bfloat16 = [t.detach().bfloat16().requires_grad_() for t in tensors(*sizes)]
    in_float32 = [t.detach().float().requires_grad_() for t in in_bfloat16]
    outputs = []
    for given in (in_bfloat16, in_float32):
        out = ops.attend_segments(*given, lengths, scale=0.25, window=window)
        out.float().square().sum().backward()
        outputs.append(out.float())
    pairs = [
        tuple(outputs),
        *((a.grad.float(), b.grad) for a, b in zip(in_bfloat16, in_float32, strict=True)),
    ]
    for coarse, fine in pairs:
        assert (coarse - fine).norm() < 0.01 * fine.norm()


def test_chunked_cross_entropy_with_gradients_of_hidden_and_head() -> None:
    rows = CHUNK_ROWS + 70
    targets = torch.randint(0, 11, (rows,), generator=torch.Generator().manual_seed(3))
    weights = torch.rand(rows, generator=torch.Generator().manual_seed(4))

    def plain(hidden: Tensor, head: Tensor) -> Tensor:
        return (F.cross_entropy(hidden @ head.T, targets, reduction="none") * weights).sum()[None]

    assert_same(
        lambda hidden, head: ops.chunked_cross_entropy(hidden, head, targets, weights)[0][None],
        plain,
        tensors((rows, 6), (11, 6)),
    )


def test_cross_entropy_tells_the_likeliest_tokens_and_makes_no_gradient_when_none_is_wanted() -> None:
    hidden, head = tensors((CHUNK_ROWS + 70, 6), (11, 6))
    targets = torch.randint(0, 11, (len(hidden),), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        value, losses, is_best = ops.chunked_cross_entropy(hidden, head, targets, torch.ones(len(hidden)))
    assert torch.equal(is_best, (hidden @ head.T).argmax(-1) == targets)
    torch.testing.assert_close(losses, F.cross_entropy(hidden @ head.T, targets, reduction="none"))
    assert not value.requires_grad


def test_lora_on_two_parts_of_a_fused_layer() -> None:
    weight, bias = (t.detach() for t in tensors((10, 6), (10,)))

    def plain(x: Tensor, a1: Tensor, a2: Tensor, b1: Tensor, b2: Tensor) -> Tensor:
        update = torch.cat([x @ a1.T @ b1.T, torch.zeros(len(x), 3), x @ a2.T @ b2.T], 1)
        return F.linear(x, weight, bias) + 0.5 * update

    assert_same(
        lambda x, a1, a2, b1, b2: ops.lora_linear(
            x, weight, bias, 0.5, ((0, 4), (7, 10)), (a1, a2), (b1, b2)
        ),
        plain,
        tensors((5, 6), (2, 6), (2, 6), (4, 2), (3, 2)),
    )
