"""Kernels for processors beside the plain operations, on shapes that the registry's own probe does not try."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inhouse import ops
from inhouse.ops.cpu import attention, library, lora, small
from inhouse.ops.gate import plain as plain_gate
from inhouse.ops.grouped_lora import plain as plain_lora
from inhouse.ops.norm import plain as plain_norm
from inhouse.ops.paged import plain_decode, plain_prefill
from inhouse.ops.registry import Implementation
from inhouse.ops.rotary import plain as plain_rotary

pytestmark = pytest.mark.skipif(library.compiler() is None, reason="there is no C++ compiler")

TYPES = [torch.float32, torch.bfloat16]


def never(*_: object, **__: object) -> None:
    """In the place of the plain operation, where the kernel must do the work itself."""
    raise AssertionError("the kernel gave the work away")


@pytest.fixture(params=["best", "avx2"], autouse=True)
def variant(
    request: pytest.FixtureRequest, built: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The best build for this processor, and one whose instructions are fewer: pairs and quads in their plain form."""
    name = str(request.param)
    if name not in built:
        pytest.skip(f"this processor does not run {name}, or has nothing better")
    loaded = library.open_library(built[name])
    monkeypatch.setattr(library, "load", lambda: loaded)
    return name


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kernels")
    best, *others = library.fitting()
    wanted = {"best": best, **{each.name: each for each in others if each.name == "avx2"}}
    for name, each in wanted.items():
        library.build(each, folder / f"{name}.so")
    return {name: folder / f"{name}.so" for name in wanted}


def random(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def near(given: Tensor, wanted: Tensor, *, ulps: float = 4) -> None:
    assert given.dtype is wanted.dtype and given.shape == wanted.shape
    eps = torch.finfo(wanted.dtype).eps * (4 if wanted.dtype is torch.float32 else 1)  # long sums round often
    gap = (given.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-30)
    assert gap <= ulps * eps, f"{float(gap):.2e} is more than {ulps} units of {eps:.1e}"


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(1, 32, 64), (7, 1030, 65), (13, 48, 200), (40, 2050, 3)]
)
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_packed_product_is_the_product(
    dtype: torch.dtype, rows: int, inputs: int, outputs: int, has_bias: bool
) -> None:
    from inhouse.ops.cpu.linear import PackedMatrix

    x, weight = random(rows, inputs, dtype=dtype), random(outputs, inputs, dtype=dtype, seed=1)
    bias = random(outputs, dtype=dtype, seed=2) if has_bias else None
    exact = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    near(PackedMatrix(weight).product(x, bias), exact.to(dtype))


@pytest.mark.parametrize("dtype", TYPES)
def test_products_of_no_rows_are_empty(dtype: torch.dtype) -> None:
    """A step that reads a part of a prompt draws nothing: the head gets no rows."""
    from inhouse.ops.cpu.linear import PackedCodes, PackedMatrix
    from inhouse.ops.quantised import quantise

    weight, x = random(70, 40, dtype=dtype), torch.empty(0, 40, dtype=dtype)
    for matrix in (PackedMatrix(weight), *(PackedCodes(quantise(weight, bits)) for bits in (8, 4))):
        assert matrix.product(x, None).shape == (0, 70)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_packed_product_takes_rows_that_lie_apart(dtype: torch.dtype) -> None:
    from inhouse.ops.cpu.linear import PackedMatrix

    wide, weight = random(6, 100, dtype=dtype), random(70, 40, dtype=dtype, seed=1)
    matrix = PackedMatrix(weight)
    assert torch.equal(
        matrix.product(wide[:, 30:70], None), matrix.product(wide[:, 30:70].contiguous(), None)
    )
    assert torch.equal(
        matrix.product(wide.T[:40].T[:, ::1], None), matrix.product(wide[:, :40].contiguous(), None)
    )


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 128, 64), (2, 896, 130), (9, 200, 65)])
def test_a_product_of_few_bits_is_the_plain_one(
    bits: int, dtype: torch.dtype, rows: int, inputs: int, outputs: int
) -> None:
    from inhouse.ops.cpu.linear import PackedCodes
    from inhouse.ops.quantised import quantise, quantised_linear

    x, weight = random(rows, inputs, dtype=dtype), random(outputs, inputs, dtype=dtype, seed=1)
    bias = random(outputs, dtype=dtype, seed=2)
    codes = quantise(weight, bits)
    near(PackedCodes(codes).product(x, bias), quantised_linear(x, codes, bias), ulps=16)


def test_few_bits_lose_what_rounding_must_lose_and_no_more() -> None:
    """The error of a uniform rounding is its step over the root of 12: about a hundredth, and a tenth with 4 bits."""
    from inhouse.ops.cpu.linear import PackedCodes
    from inhouse.ops.quantised import quantise

    x, weight = random(4, 512, dtype=torch.float32), random(256, 512, dtype=torch.float32, seed=1)
    exact = x.double() @ weight.double().T
    for bits, most in ((8, 0.012), (4, 0.12)):
        given = PackedCodes(quantise(weight, bits)).product(x, None)
        assert (given - exact).norm() / exact.norm() < most


@pytest.mark.parametrize("dtype", TYPES)
def test_a_row_of_zeros_stays_zeros_in_few_bits(dtype: torch.dtype) -> None:
    from inhouse.ops.cpu.linear import PackedCodes
    from inhouse.ops.quantised import quantise

    weight = random(64, 128, dtype=dtype)
    weight[3] = 0
    y = PackedCodes(quantise(weight, 4)).product(torch.zeros(2, 128, dtype=dtype), None)
    assert not y.any()
    assert not PackedCodes(quantise(weight, 8)).product(random(2, 128, dtype=dtype), None)[:, 3].any()


@pytest.mark.parametrize("dtype", TYPES)
def test_norm_and_gate_are_the_plain_ones(dtype: torch.dtype) -> None:
    norm: Implementation = small.norm(never)
    x, update, weight = (random(5, 96, dtype=dtype, seed=s) for s in range(3))
    for given, wanted in zip(
        norm(x, update, weight[0], 1e-5), plain_norm(x, update, weight[0], 1e-5), strict=True
    ):
        near(given, wanted)
    heads = random(5, 8, 32, dtype=dtype)[:, 2:5]  # a slice, as queries are of a fused product
    near(norm(heads, None, weight[0, :32], 1e-6)[1], plain_norm(heads, None, weight[0, :32], 1e-6)[1])
    gate_up = random(5, 160, dtype=dtype) * 8
    near(small.gate(never)(gate_up), plain_gate(gate_up))


@pytest.mark.parametrize("dtype", TYPES)
def test_what_a_kernel_does_not_take_the_plain_operation_does(dtype: torch.dtype) -> None:
    x, weight = random(5, 20, dtype=dtype), random(20, dtype=dtype)
    assert torch.equal(small.norm(plain_norm)(x, None, weight, 1e-5)[1], plain_norm(x, None, weight, 1e-5)[1])
    assert torch.equal(small.gate(plain_gate)(x), plain_gate(x))


@pytest.mark.parametrize("dtype", TYPES)
def test_rotation_writes_the_cache_as_the_plain_one_does(dtype: torch.dtype) -> None:
    qkv = random(6, 5 * 64, dtype=dtype).unflatten(1, (-1, 64))
    q, k, v = qkv.split((3, 1, 1), 1)
    angles = random(6, 1, 32, dtype=torch.float32, seed=1)
    rotation, write = (angles.cos(), angles.sin()), torch.tensor([4, 2, 9, 0, 1, 7])
    found = []
    for function in (small.rotary(never), plain_rotary):
        keys, values = torch.zeros(10, 1, 64, dtype=dtype), torch.zeros(10, 1, 64, dtype=dtype)
        found.append((function(q, k, v, rotation, keys, values, write), keys, values))
    for given, wanted in zip(*found, strict=True):
        near(given, wanted)


ATTENTION = [
    {},
    {"window": 5},
    {"window": 64, "cap": 4.0},
    {"sinks": True},
    {"window": 100, "cap": 30.0, "sinks": True},
]


def options(given: dict[str, object], heads: int) -> dict[str, object]:
    return {**given, "sinks": random(heads, dtype=torch.float32, seed=9)} if given.get("sinks") else given


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("given", ATTENTION)
@pytest.mark.parametrize(("heads", "groups", "width"), [(6, 2, 32), (4, 4, 96), (8, 1, 128)])
def test_decoding_attends_as_the_plain_one_does(
    dtype: torch.dtype, given: dict[str, object], heads: int, groups: int, width: int
) -> None:
    lengths, page = [1, 16, 65, 0, 130], 16
    widest = -(-max(lengths) // page)
    tables = torch.randperm(5 * widest, generator=torch.Generator().manual_seed(0)).int().view(5, widest)
    places = 5 * widest * page
    past = ops.Past(tables, torch.tensor(lengths, dtype=torch.int32), page, max(lengths), places)
    q, keys, values = (
        random(*shape, dtype=dtype, seed=s)
        for s, shape in enumerate(
            [(5, heads, width), (places + 1, groups, width), (places + 1, groups, width)]
        )
    )
    keys[places] = values[places] = 0
    more = options(given, heads)
    wanted = plain_decode(q.float(), keys.float(), values.float(), past, scale=width**-0.5, **more)  # type: ignore[arg-type]
    result = attention.decode(never)(q, keys, values, past, scale=width**-0.5, **more)
    near(result, wanted.to(dtype), ulps=8)
    assert not result[3].any(), "a row without tokens gets zeros"


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("given", ATTENTION)
@pytest.mark.parametrize(("count", "length"), [(2, 2), (70, 70), (33, 200), (1, 129), (260, 300)])
def test_a_chunk_attends_as_the_plain_one_does(
    dtype: torch.dtype, given: dict[str, object], count: int, length: int
) -> None:
    heads, groups, width = 6, 2, 64
    q, keys, values = (
        random(*shape, dtype=dtype, seed=s)
        for s, shape in enumerate([(count, heads, width), (400, groups, width), (400, groups, width)])
    )
    places = torch.randperm(400, generator=torch.Generator().manual_seed(0))[:length].int()
    more = options(given, heads)
    wanted = plain_prefill(q.float(), keys.float(), values.float(), places, scale=0.125, **more)  # type: ignore[arg-type]
    near(attention.prefill(never)(q, keys, values, places, scale=0.125, **more), wanted.to(dtype), ulps=8)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 96), (70, 33), (896, 128)])
def test_grouped_updates_are_the_plain_ones(dtype: torch.dtype, inputs: int, outputs: int) -> None:
    counts, ranks = [1, 0, 2, 13, 5], [16, 4, 1, 64, 7]
    starts = [0, 16, 20, 21, 85]
    rows = torch.randperm(30, generator=torch.Generator().manual_seed(1))[: sum(counts)].int()
    groups = ops.Groups(
        rows=rows,
        bounds=torch.tensor([0, *torch.tensor(counts).cumsum(0)], dtype=torch.int32),
        starts=torch.tensor(starts, dtype=torch.int32),
        ranks=torch.tensor(ranks, dtype=torch.int32),
        longest=max(counts),
        highest=max(ranks),
    )
    x, a, b = (
        random(*s, dtype=dtype, seed=i) / 8 for i, s in enumerate([(30, inputs), (92, inputs), (92, outputs)])
    )
    wide = random(30, outputs + 20, dtype=dtype, seed=5)
    given, wanted = wide.clone(), wide.float()
    lora.grouped(never)(given[:, 10 : 10 + outputs], x, a, b, groups)
    plain_lora(wanted[:, 10 : 10 + outputs], x.float(), a.float(), b.float(), groups)
    near(given, wanted.to(dtype), ulps=4)
    untouched = [r for r in range(30) if r not in rows.tolist()]
    assert torch.equal(given[untouched], wide[untouched]), (
        "rows outside every group are the base's, bit for bit"
    )
    assert torch.equal(given[:, :10], wide[:, :10]) and torch.equal(given[:, -10:], wide[:, -10:])


def test_threads_change_no_number() -> None:
    from inhouse.ops.cpu.linear import PackedMatrix

    x, weight = random(9, 512, dtype=torch.bfloat16), random(4096, 512, dtype=torch.bfloat16, seed=1)
    matrix, threads = PackedMatrix(weight), torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(matrix.product(x, None))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_a_nan_stays_a_nan_and_an_infinity_an_infinity() -> None:
    from inhouse.ops.cpu.linear import PackedMatrix

    weight = torch.eye(64, dtype=torch.bfloat16)
    x = torch.zeros(2, 64, dtype=torch.bfloat16)
    x[0, 3], x[1, 5] = torch.nan, torch.inf
    y = PackedMatrix(weight).product(x, None)
    assert y[0, 3].isnan() and y[1, 5].isinf()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("stray", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [3, 130])
def test_few_bits_hide_no_nan_and_no_infinity(
    dtype: torch.dtype, bits: int, stray: float, place: int
) -> None:
    """A finite number in their place would be a plausible answer from a broken one."""
    from inhouse.ops.cpu.linear import PackedCodes
    from inhouse.ops.quantised import quantise, quantised_linear

    x, codes = random(2, 135, dtype=dtype), quantise(random(64, 135, dtype=dtype, seed=1), bits)
    x[0, place] = stray
    y, plain = PackedCodes(codes).product(x, None), quantised_linear(x, codes, None)
    assert y[0].isnan().all() and plain[0].isnan().all()
    near(y[1], plain[1], ulps=16)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("window", [None, 5, 64, 100])
def test_a_token_s_attention_has_the_same_bits_alone_and_with_guesses(
    dtype: torch.dtype, window: int | None
) -> None:
    """So that guesses change no token, not even where two tie."""
    length, guesses = 150, 6
    q, keys, values = (
        random(*shape, dtype=dtype, seed=s)
        for s, shape in enumerate([(guesses, 6, 64), (176, 2, 64), (176, 2, 64)])
    )
    table = torch.randperm(11, generator=torch.Generator().manual_seed(0)).int()
    places = (table.long()[:, None] * 16 + torch.arange(16)).flatten()[:length].int()
    together = attention.prefill(never)(q, keys, values, places, scale=0.125, window=window)
    for i in range(guesses):
        end = length - guesses + i + 1
        past = ops.Past(table[None], torch.tensor([end], dtype=torch.int32), 16, end, 0)
        alone = attention.decode(never)(q[i : i + 1], keys, values, past, scale=0.125, window=window)
        assert torch.equal(alone[0], together[i])
