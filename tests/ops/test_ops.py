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


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_rms_norm_that_multiplies_before_it_rounds(offset: float) -> None:
    assert_same(
        lambda x, w: ops.rms_norm(x, w, 1e-5, offset=offset, is_wide=True),
        lambda x, w: F.rms_norm(x, (16,), offset + w, 1e-5),
        tensors((7, 16), (16,)),
    )
    x, w = (t.detach().bfloat16() for t in tensors((200, 16), (16,)))
    exact = F.rms_norm(x.float(), (16,), offset + w.float(), 1e-5).bfloat16()
    assert torch.equal(ops.rms_norm(x, w, 1e-5, offset=offset, is_wide=True), exact)
    if not offset:
        assert not torch.equal(ops.rms_norm(x, w, 1e-5), exact), "both ways round the same"


def test_gated_gelu() -> None:
    assert_same(
        ops.gelu_tanh_mul,
        lambda x: F.gelu(x[:, :8], approximate="tanh") * x[:, 8:],
        tensors((5, 16)),
    )


def test_clamped_swiglu_takes_gates_and_ups_by_turns() -> None:
    def plain(x: Tensor) -> Tensor:
        rows = []
        for pair in x.view(5, 8, 2).flatten(0, 1):
            gate, up = torch.minimum(pair[0], torch.tensor(0.7)), pair[1].clamp(-0.7, 0.7)
            rows.append((up + 1) * gate / (1 + torch.exp(-1.5 * gate)))
        return torch.stack(rows).view(5, 8)

    assert_same(lambda x: ops.clamped_swiglu(x, alpha=1.5, limit=0.7), plain, tensors((5, 16)))


def test_rotate_leaves_what_lies_behind_the_pairs() -> None:
    angles = torch.randn(6, 1, 3, generator=torch.Generator().manual_seed(2))

    def plain(x: Tensor) -> Tensor:
        turned = torch.complex(x[..., :3], x[..., 3:6]) * torch.polar(torch.ones_like(angles), angles)
        return torch.cat([turned.real, turned.imag, x[..., 6:]], -1)

    assert_same(lambda x: ops.rotate(x, angles.cos(), angles.sin()), plain, tensors((6, 3, 8)))


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("normalised", [True, False])
def test_a_mixture_is_each_token_s_experts_one_by_one(normalised: bool, biased: bool) -> None:
    def clever(x: Tensor, router: Tensor, up: Tensor, down: Tensor, b: Tensor, c: Tensor) -> Tensor:
        chosen, shares = ops.choose_experts(x @ router.T, 2, is_normalised=normalised)
        biases = (b, c) if biased else (None, None)
        held = ops.HeldExperts(up, biases[0]), ops.HeldExperts(down, biases[1])
        return ops.mix_experts(x, chosen, shares, *held, ops.silu_mul) + 0 * (b.sum() + c.sum())

    def naive(x: Tensor, router: Tensor, up: Tensor, down: Tensor, b: Tensor, c: Tensor) -> Tensor:
        rows = []
        for token in x:
            shares = (router @ token).softmax(0)
            best = shares.argsort(descending=True)[:2]
            total = shares[best].sum() if normalised else 1.0
            row = torch.zeros(8)
            for e in best.tolist():
                middle = up[e] @ token + (b[e] if biased else 0)
                middle = F.silu(middle[:6]) * middle[6:]
                row = row + shares[e] / total * (down[e] @ middle + (c[e] if biased else 0))
            rows.append(row)
        return torch.stack(rows) + 0 * (b.sum() + c.sum())

    assert_same(clever, naive, tensors((9, 8), (5, 8), (5, 12, 8), (5, 8, 6), (5, 12), (5, 8)))


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


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("cap", [None, 0.8])
def test_segments_with_caps_and_sinks_attend_as_under_one_softmax(
    cap: float | None, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.ops.scored.QUERIES", 4)  # so that segments are cut
    lengths = [5, 1, 9, 4, 8, 9]
    mask = torch.block_diag(*(causal_mask(n, n, window, torch.device("cpu")) for n in lengths)).bool()

    def plain(q: Tensor, k: Tensor, v: Tensor, sinks: Tensor) -> Tensor:
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        scores = torch.einsum("thk,shk->hts", q, k) * 0.3
        scores = scores if cap is None else cap * torch.tanh(scores / cap)
        weights = scores.masked_fill(~mask, -torch.inf).exp()
        return torch.einsum("hts,shk->thk", weights / (weights.sum(-1, True) + sinks.exp()[:, None, None]), v)

    assert_same(
        lambda q, k, v, s: ops.attend_segments(q, k, v, lengths, scale=0.3, window=window, cap=cap, sinks=s),
        plain,
        tensors((36, 4, 8), (36, 2, 8), (36, 2, 8), (4,)),
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


@pytest.mark.parametrize("cap", [None, 1.5])
def test_chunked_cross_entropy_with_gradients_of_hidden_and_head(cap: float | None) -> None:
    rows = CHUNK_ROWS + 70
    targets = torch.randint(0, 11, (rows,), generator=torch.Generator().manual_seed(3))
    weights = torch.rand(rows, generator=torch.Generator().manual_seed(4))

    def plain(hidden: Tensor, head: Tensor) -> Tensor:
        logits = hidden @ head.T
        logits = logits if cap is None else cap * torch.tanh(logits / cap)
        return (F.cross_entropy(logits, targets, reduction="none") * weights).sum()[None]

    assert_same(
        lambda hidden, head: ops.chunked_cross_entropy(hidden, head, targets, weights, cap=cap)[0][None],
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
