"""A mixture's experts: every form gives each row its own expert's product, and none costs what nobody uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef

from inhouse import ops
from inhouse.errors import InvalidRequest
from inhouse.ops.cpu import library
from inhouse.ops.expert_matrices import EachAlone, each_alone, experts_for_serving
from inhouse.ops.grouped_products import NAME, PRIORITY, GroupedExperts, grouped_experts
from inhouse.ops.matrix import Matrix, Rounded, for_serving
from inhouse.ops.mixture import ExpertMatrices, Uses, mix_experts
from inhouse.ops.quantised import quantise
from inhouse.ops.registry import Kernel, Registry, kernels

CPU = torch.device("cpu")
EXPERTS, OUTPUTS, INPUTS = 6, 72, 96
USED = torch.tensor([0, 0, 0, 2, 5, 5])
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 4e-3}

has_kernels = pytest.mark.skipif(library.compiler() is None, reason="there is no C++ compiler")
with_and_without_kernels = pytest.mark.parametrize(
    "only", [pytest.param("auto", marks=has_kernels), "reference"], indirect=True
)


@pytest.fixture
def only(request: pytest.FixtureRequest) -> Iterator[str]:
    """The setting `kernels`, for a test."""
    ops.kernels.prefer(request.param)
    yield request.param
    ops.kernels.prefer("auto")


def numbers(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def stack(dtype: torch.dtype = torch.float32) -> Tensor:
    return numbers(EXPERTS, OUTPUTS, INPUTS, seed=0, dtype=dtype)


def rows(dtype: torch.dtype = torch.float32) -> Tensor:
    return numbers(len(USED), INPUTS, seed=1, dtype=dtype)


def biases(dtype: torch.dtype = torch.float32) -> Tensor:
    return numbers(EXPERTS, OUTPUTS, seed=2, dtype=dtype)


def row_by_row(x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """In float64."""
    made = [weights[e].double() @ row.double() for e, row in zip(USED.tolist(), x, strict=True)]
    return torch.stack(made) + (0.0 if bias is None else bias[USED].double())


def gap(given: Tensor, wanted: Tensor) -> float:
    """As a share of the result's size."""
    return float((given.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("is_biased", [True, False])
@pytest.mark.parametrize("form", ["held", "served", "grouped"])
@with_and_without_kernels
def test_each_row_gets_its_own_expert_s_product(
    form: str, is_biased: bool, dtype: torch.dtype, only: str
) -> None:
    weights, bias = stack(dtype), biases(dtype) if is_biased else None
    made: ExpertMatrices
    if form == "held":
        made = ops.HeldExperts(weights, bias)
    elif form == "served":
        made = experts_for_serving(weights.unbind(), EXPERTS, bias, CPU)
    else:
        made = grouped_experts(weights.unbind(), EXPERTS, bias)
        assert isinstance(made, GroupedExperts)
    given = made.products(rows(dtype), Uses(USED, EXPERTS))
    assert given.dtype is dtype
    assert gap(given, row_by_row(rows(dtype), weights, bias)) < TOLERANCE[dtype]


@has_kernels
def test_on_a_processor_experts_are_packed_as_other_matrices_are() -> None:
    made = experts_for_serving(stack(torch.bfloat16).unbind(), EXPERTS, None, CPU)
    assert made.form == for_serving(stack(torch.bfloat16)[0]).form != "plain"


@pytest.mark.parametrize("quantization", ["int8", "int4"])
@with_and_without_kernels
def test_experts_of_few_bits_take_few_bytes_and_give_about_the_product(quantization: str, only: str) -> None:
    made = experts_for_serving(stack().unbind(), EXPERTS, biases(), CPU, quantization)
    given = made.products(rows(), Uses(USED, EXPERTS))
    assert gap(given, row_by_row(rows(), stack(), biases())) < (0.012 if quantization == "int8" else 0.12)
    wide = torch.randn(3, 512, 512)
    share = experts_for_serving(wide.unbind(), 3, None, CPU, quantization).nbytes / wide.nbytes
    assert share < (0.26 if quantization == "int8" or only == "reference" else 0.14)


@has_kernels
@pytest.mark.parametrize("bits", [8, 4])
def test_kernels_and_plain_round_experts_alike(bits: int) -> None:
    plain = EachAlone([Rounded(quantise(weight, bits)) for weight in stack()], biases())
    packed = experts_for_serving(stack().unbind(), EXPERTS, biases(), CPU, f"int{bits}")
    uses = Uses(USED, EXPERTS)
    assert gap(packed.products(rows(), uses), plain.products(rows(), uses)) < 1e-5


def test_a_quantization_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="quantization = 'int3' is not none, int8 or int4"):
        experts_for_serving(stack().unbind(), EXPERTS, None, CPU, "int3")


@has_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
def test_a_token_gets_the_same_bits_whoever_shares_the_batch(quantization: str, dtype: torch.dtype) -> None:
    """By our kernels, as of dense layers. Torch's own products sum in an order that follows the batch's shape."""
    wide = numbers(8, 96, 160, seed=3, dtype=dtype)
    up = each_alone(wide.unbind(), 8, wide[:, :, 0], quantization)
    down = each_alone(numbers(8, 160, 48, seed=4, dtype=dtype).unbind(), 8, None, quantization)
    x, scores = numbers(33, 160, seed=5, dtype=dtype), numbers(33, 8, seed=6, dtype=dtype)

    def mixed(part: slice) -> Tensor:
        chosen, shares = ops.choose_experts(scores[part], 3, is_normalised=True)
        return mix_experts(x[part], chosen, shares, up, down, ops.silu_mul)

    together = mixed(slice(None))
    for start, stop in ((0, 1), (7, 8), (3, 20), (32, 33)):
        assert torch.equal(mixed(slice(start, stop)), together[start:stop])


class Watched(Sequence[Matrix]):
    """Matrices that note which of them was asked for."""

    def __init__(self, matrices: list[Matrix]) -> None:
        self._matrices = matrices
        self.asked: list[int] = []

    @overload
    def __getitem__(self, index: int) -> Matrix: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Matrix]: ...
    def __getitem__(self, index: int | slice) -> Matrix | Sequence[Matrix]:
        if isinstance(index, int):
            self.asked.append(index)
        return self._matrices[index]

    def __len__(self) -> int:
        return len(self._matrices)


def test_an_expert_that_nobody_uses_is_not_even_looked_at() -> None:
    matrices = Watched([for_serving(weight) for weight in stack()])
    made = EachAlone(matrices, None)
    matrices.asked.clear()
    made.products(rows(), Uses(USED, EXPERTS))
    assert matrices.asked == [0, 2, 5]


@has_kernels
@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_one_expert_at_a_time_is_there_in_its_plain_form(quantization: str, dtype: torch.dtype) -> None:
    given: list[StorageWeakRef] = []
    alive: list[int] = []

    def one_by_one() -> Iterator[Tensor]:
        for e in range(12):
            alive.append(sum(not storage.expired() for storage in given))
            weight = numbers(OUTPUTS, INPUTS, seed=e, dtype=dtype)
            given.append(StorageWeakRef(weight.untyped_storage()))
            yield weight
            del weight

    experts_for_serving(one_by_one(), 12, None, CPU, quantization)
    assert len(given) == 12
    assert max(alive) <= 1, "plain experts pile up"


def test_grouped_products_pass_the_trial_that_devices_put_them_to() -> None:
    made = Registry()
    operation = kernels._operations["experts"]
    made.define("experts", operation.reference, operation.probe)
    made.register(Kernel("experts", NAME, PRIORITY, lambda _: "", lambda: grouped_experts))
    choice = made.choose("experts", CPU)
    assert choice.name == NAME, choice.passed_over


def test_what_grouped_products_do_not_take_is_multiplied_expert_by_expert() -> None:
    odd = numbers(EXPERTS, OUTPUTS, INPUTS - 1, seed=0, dtype=torch.bfloat16)
    made = grouped_experts(iter(odd.unbind()), EXPERTS, None)
    assert isinstance(made, EachAlone) and made.count == EXPERTS
    x = rows(torch.bfloat16)[:, 1:].contiguous()
    assert gap(made.products(x, Uses(USED, EXPERTS)), row_by_row(x, odd, None)) < TOLERANCE[torch.bfloat16]


@pytest.mark.parametrize("is_grouped", [True, False])
def test_only_the_loop_asks_the_device_which_experts_are_used(is_grouped: bool) -> None:
    """Torch's tensors without numbers stand for a device that must not be asked."""
    with FakeTensorMode():
        weights = torch.empty(8, 64, 64, dtype=torch.bfloat16)
        made = GroupedExperts(weights, weights[:, 0]) if is_grouped else ops.HeldExperts(weights, None)
        x, scores = weights[0, :5], torch.empty(5, 8)
        chosen, shares = ops.choose_experts(scores, 2, is_normalised=True)

        def mixed() -> Tensor:
            return mix_experts(x, chosen, shares.bfloat16(), made, made, lambda rows: rows)

        if is_grouped:
            assert mixed().shape == (5, 64)
        else:
            with pytest.raises(DynamicOutputShapeException):
                mixed()
