"""Which implementation a device gets: the best that fits and agrees, the plain one where none does."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from inhouse import ops
from inhouse.device import Device
from inhouse.errors import InvalidRequest
from inhouse.ops.registry import Implementation, Kernel, Registry

CPU = torch.device("cpu")


def double(x: Tensor) -> Tensor:
    return x * 2


def probe(implementation: Implementation, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return (implementation(torch.arange(1.0, 9.0, device=device, dtype=dtype)),)


def registry(*kernels: Kernel) -> Registry:
    made = Registry()
    made.define("double", double, probe)
    for kernel in kernels:
        made.register(kernel)
    return made


def kernel(
    name: str,
    function: Implementation,
    priority: int = 10,
    obstacle: Callable[[Device], str] = lambda _: "",
) -> Kernel:
    return Kernel("double", name, priority, obstacle, lambda: function)


def add_twice(x: Tensor) -> Tensor:
    return x + x


def test_without_kernels_a_device_gets_the_reference() -> None:
    assert registry().kernel("double", CPU) is double


def test_the_highest_priority_that_fits_is_taken() -> None:
    low = kernel("low", add_twice, 1)
    high = kernel("high", lambda x: x.add(x), 5)
    foreign = kernel("foreign", add_twice, 9, lambda device: f"not for {device.type}")
    choice = registry(low, high, foreign).choose("double", CPU)
    assert choice.name == "high"
    assert choice.passed_over == (("foreign", "not for cpu"),)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda x: x * 2.01, "away from the reference"),
        (lambda x: x * torch.nan, "away from the reference"),
        (lambda x: (x * 2)[1:], "gives"),
        (lambda x: x.double() * 2, "gives"),
        (lambda x: x.no_such_thing(), "AttributeError"),
        (lambda x: x @ torch.ones(3, 3), "RuntimeError"),
    ],
)
def test_a_kernel_that_fails_or_differs_is_dropped_with_a_warning(
    wrong: Implementation, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        choice = registry(kernel("wrong", wrong), kernel("right", add_twice, 1)).choose("double", CPU)
    assert choice.name == "right"
    assert choice.passed_over[0][0] == "wrong" and why in choice.passed_over[0][1]
    assert "wrong is dropped" in caplog.text


def test_a_kernel_that_cannot_be_loaded_is_dropped() -> None:
    def load() -> Implementation:
        raise ImportError("no such library")

    choice = registry(Kernel("double", "absent", 9, lambda _: "", load)).choose("double", CPU)
    assert choice.name == "torch"
    assert choice.passed_over == (("absent", "ImportError: no such library"),)


def test_a_kernel_is_tried_once() -> None:
    calls: list[int] = []

    def counting(x: Tensor) -> Tensor:
        calls.append(1)
        return x + x

    made = registry(kernel("counting", counting))
    first = made.kernel("double", CPU)
    tried = len(calls)
    assert made.kernel("double", CPU) is first
    assert len(calls) == tried


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("auto", "high"),
        ("reference", "torch"),
        ("torch", "torch"),
        ("low", "low"),
        ("low, high", "low"),
        ("torch, high", "torch"),
    ],
)
def test_the_setting_overrides_the_order(setting: str, name: str) -> None:
    made = registry(kernel("low", add_twice, 1), kernel("high", lambda x: x.add(x), 5))
    assert made.choose("double", CPU).name == "high"
    made.prefer(setting)
    assert made.choose("double", CPU).name == name


def test_a_setting_that_names_nothing_known_is_refused_with_the_names() -> None:
    with pytest.raises(InvalidRequest, match="low, torch"):
        registry(kernel("low", add_twice)).prefer("fast")


@pytest.mark.parametrize("op", ops.kernels.operations)
def test_every_operation_agrees_with_itself_on_its_own_probe(op: str) -> None:
    """A probe whose inputs hold a NaN, or that changes from call to call, would drop every kernel."""
    reference = ops.kernels._operations[op].reference
    made = Registry()
    made.define(op, reference, ops.kernels._operations[op].probe)
    made.register(Kernel(op, "twin", 1, lambda _: "", lambda: lambda *a, **k: reference(*a, **k)))
    assert made.choose(op, CPU).name == "twin"
