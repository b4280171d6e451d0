"""How a served matrix lies: every form gives the product, and the form fits what is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from inhouse import ops
from inhouse.errors import InvalidRequest
from inhouse.model.decoder import greedy
from inhouse.model.weights import load_base
from inhouse.ops import matrix
from inhouse.ops.cpu import library
from inhouse.ops.matrix import Plain, Reordered, Rounded
from inhouse.ops.quantised import quantise, restored
from tests.engine.world import World, call, run
from tests.tiny import base_folder


@pytest.fixture
def only(request: pytest.FixtureRequest) -> Iterator[str]:
    """The setting `kernels`, for a test."""
    ops.kernels.prefer(request.param)
    yield request.param
    ops.kernels.prefer("auto")


@pytest.fixture
def chosen_anew() -> Iterator[None]:
    """What was chosen is forgotten before and after."""
    ops.kernels.prefer("reference")
    ops.kernels.prefer("auto")
    yield
    ops.kernels.prefer("reference")
    ops.kernels.prefer("auto")


has_kernels = pytest.mark.skipif(library.compiler() is None, reason="there is no C++ compiler")


def weight(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(70, 96, generator=torch.Generator().manual_seed(0)).to(dtype)


def rows(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(5, 96, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("only", [pytest.param("auto", marks=has_kernels), "reference"], indirect=True)
def test_every_form_gives_the_product(dtype: torch.dtype, only: str) -> None:
    given = ops.for_serving(weight(dtype)).product(rows(dtype), torch.ones(70, dtype=dtype))
    wanted = rows(dtype).double() @ weight(dtype).double().T + 1
    assert given.dtype is dtype
    assert (given.double() - wanted).norm() / wanted.norm() < (1e-6 if dtype is torch.float32 else 4e-3)


@pytest.mark.skipif(not matrix.can_reorder(), reason="torch has no reordered products here")
def test_reordered_products_are_the_plain_ones() -> None:
    bias = torch.ones(70, dtype=torch.bfloat16)
    given = Reordered(weight(torch.bfloat16)).product(rows(torch.bfloat16), bias)
    plain = Plain(weight(torch.bfloat16)).product(rows(torch.bfloat16), bias)
    assert (given.double() - plain.double()).norm() / plain.double().norm() < 4e-3


def test_without_torch_s_private_operations_there_are_no_reordered_products(
    monkeypatch: pytest.MonkeyPatch, chosen_anew: None
) -> None:
    def missing(*_: object) -> None:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")

    monkeypatch.setattr(Reordered, "__init__", missing)
    monkeypatch.setattr(library, "load", lambda: None)
    assert not matrix.can_reorder()
    assert isinstance(ops.for_serving(weight(torch.bfloat16)), Plain)


@has_kernels
@pytest.mark.skipif(not matrix.can_reorder(), reason="torch has no reordered products here")
def test_a_processor_with_a_unit_for_tiles_gets_torch_s_products(
    monkeypatch: pytest.MonkeyPatch, chosen_anew: None
) -> None:
    """Ours multiply pairs; such a unit multiplies sixteen rows at once, and torch's library knows how."""
    monkeypatch.setattr(matrix, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    assert ops.for_serving(weight(torch.bfloat16)).form == "reordered"
    assert ops.for_serving(weight()).form == "packed", "float32 is ours all the same"


def test_the_setting_reaches_the_matrices_of_an_engine(tmp_path: Path) -> None:
    try:
        engine = World(tmp_path).engine(kernels="reference")
        forms = {linear.served.form for linear in engine.runner.decoder.linears() if linear.served}
        assert forms == {"plain"}
    finally:
        ops.kernels.prefer("auto")


@pytest.mark.parametrize("quantization", ["int8", "int4"])
@pytest.mark.parametrize("only", [pytest.param("auto", marks=has_kernels), "reference"], indirect=True)
def test_few_bits_take_few_bytes_and_give_about_the_product(quantization: str, only: str) -> None:
    made = ops.for_serving(weight(), quantization)
    wanted = rows().double() @ weight().double().T
    gap = (made.product(rows(), None).double() - wanted).norm() / wanted.norm()
    assert gap < (0.012 if quantization == "int8" else 0.12)
    wide = torch.randn(1024, 1024)
    share = ops.for_serving(wide, quantization).nbytes / wide.nbytes
    assert share < (0.26 if quantization == "int8" or only == "reference" else 0.14)


@has_kernels
@pytest.mark.parametrize("bits", [8, 4])
def test_kernels_and_plain_round_alike(bits: int) -> None:
    codes = quantise(weight(), bits)
    quantization = f"int{bits}"
    packed = ops.for_serving(weight(), quantization)
    given, plain = packed.product(rows(), None), Rounded(codes).product(rows(), None)
    assert (given - plain).norm() / plain.norm() < 1e-5
    assert (restored(codes)[:, :96] - weight()).abs().max() <= weight().abs().max() / (2 ** (bits - 1) - 1)


def test_a_quantization_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="quantization = 'int3' is not none, int8 or int4"):
        ops.for_serving(weight(), "int3")


def test_a_served_decoder_has_no_plain_matrix_left(tmp_path: Path) -> None:
    decoder = load_base(base_folder(tmp_path / "base"))
    prompt = list(range(10, 30))
    before = greedy(decoder, prompt, 12)
    decoder.serve()
    assert all(linear.weight.device.type == "meta" for linear in decoder.linears())
    assert greedy(decoder, prompt, 12) == before
    decoder.serve()  # again changes nothing
    assert greedy(decoder, prompt, 12) == before
    assert decoder.weight_bytes > 0


@pytest.mark.parametrize("family", ["llama", "qwen3_moe", "gpt_oss"])
@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_a_base_of_few_bits_serves_adapters_in_mixed_batches(
    tmp_path: Path, quantization: str, family: str
) -> None:
    world = World(tmp_path, family, hidden_size=128, intermediate_size=256, head_dim=32)
    world.adapter("small", rank=2, seed=1)
    calls = [
        call(f"{i}", range(20 + i, 45 + i), adapter=a, max_new_tokens=12)
        for i, a in enumerate((None, "small", None, "small"))
    ]
    together = run(world.engine(quantization=quantization), *calls)
    for wanted in calls:
        alone = run(world.engine(quantization=quantization), wanted)
        assert together[wanted.id].tokens == alone[wanted.id].tokens
    assert together["0"].tokens != together["1"].tokens
