"""Which implementation of an operation a device gets.

Every operation is defined with a plain torch reference, which works on every device and is always the last choice.
Faster ones are registered beside it, each with what may stand against it on a device. The first use on a device runs
the best one on a small probe and compares it with the reference; one that fails is dropped with a warning, and the
next is tried. It knows operations by name; what they compute is their files' matter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inhouse.device import Device, describe
from inhouse.errors import InvalidRequest

log = logging.getLogger(__name__)

Implementation = Callable[..., Any]
Probe = Callable[[Implementation, torch.device, torch.dtype], tuple[Tensor, ...]]
"""Runs an implementation on small inputs, the same each time, and returns what it gave or changed."""

REFERENCE = "torch"
"""The name of every operation's plain implementation."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""How far a result may be from the reference's, as a share of its norm: some units in the last place of the type,
since two orders of summation differ by that."""

FAULTS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a kernel that does not work here may raise. Compilers' own exceptions must be raised as one of these."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An implementation beside the reference, for float32, bfloat16 and float16. It does what the reference does."""

    op: str
    name: str
    priority: int
    """The highest one that fits is taken."""
    obstacle: Callable[[Device], str]
    """What stands against it on a device, such as "not a CPU"; empty where nothing does. Must be cheap."""
    load: Callable[[], Implementation]
    """Imports or builds it: called once, when it is about to be used."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a device takes for an operation, and why nothing better."""

    op: str
    name: str
    function: Implementation
    passed_over: tuple[tuple[str, str], ...]
    """(name, why not) of each that would have come before it"""


@dataclass(frozen=True, slots=True)
class _Operation:
    reference: Implementation
    probe: Probe


class Registry:
    """Operations, their implementations, and what each device takes."""

    def __init__(self) -> None:
        self._operations: dict[str, _Operation] = {}
        self._kernels: dict[str, list[Kernel]] = {}
        self._wanted: tuple[str, ...] | None = None
        self._choices: dict[tuple[str, torch.device], Choice] = {}

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of all operations."""
        return tuple(sorted(self._operations))

    def define(self, op: str, reference: Implementation, probe: Probe) -> None:
        """Names an operation, with its plain implementation and how to try another."""
        assert op not in self._operations, f"operation {op} is defined twice"
        self._operations[op] = _Operation(reference, probe)

    def register(self, kernel: Kernel) -> None:
        """Offers an implementation. The operation may be defined later."""
        kernels = self._kernels.setdefault(kernel.op, [])
        taken = {REFERENCE, *(k.name for k in kernels)}
        assert kernel.name not in taken, f"{kernel.op} has two implementations named {kernel.name}"
        kernels.append(kernel)
        kernels.sort(key=lambda k: -k.priority)
        self._choices.clear()

    def prefer(self, setting: str) -> None:
        """Makes the operator's choice this process's: auto, reference, or names in order, such as "triton, torch".

        Raises InvalidRequest for a name that no operation has.
        """
        names = tuple(name.strip() for name in setting.split(",") if name.strip())
        known = {REFERENCE, *(k.name for kernels in self._kernels.values() for k in kernels)}
        wanted: tuple[str, ...] | None = None
        if setting == "auto":
            pass
        elif setting == "reference":
            wanted = ()
        elif names and known.issuperset(names):
            wanted = names
        else:
            raise InvalidRequest(
                f"kernels = {setting!r} names none that is known. Give auto, reference, or some of: "
                f"{', '.join(sorted(known))}.",
                param="kernels",
            )
        if wanted != self._wanted:
            self._wanted = wanted
            self._choices.clear()

    def kernel(self, op: str, device: torch.device) -> Implementation:
        """The implementation to call on a device."""
        choice = self._choices.get((op, device))
        return (choice or self.choose(op, device)).function

    def choose(self, op: str, device: torch.device) -> Choice:
        """What a device takes, tried out when it is asked for the first time."""
        if (op, device) not in self._choices:
            self._choices[op, device] = self._choose(op, device)
        return self._choices[op, device]

    def _choose(self, op: str, device: torch.device) -> Choice:
        operation, found = self._operations[op], describe(device)
        passed_over: list[tuple[str, str]] = []
        for kernel in self._candidates(op, passed_over):
            if why := kernel.obstacle(found):
                passed_over.append((kernel.name, why))
                continue
            try:
                function = kernel.load()
                why = _difference(operation, function, device, found.dtype())
            except FAULTS as e:
                why = f"{type(e).__name__}: {(str(e).splitlines() or ['no word'])[0][:200]}"
            if not why:
                log.info("%s on %s: %s", op, found.label, kernel.name)
                return Choice(op, kernel.name, function, tuple(passed_over))
            log.warning("%s on %s: %s is dropped, %s", op, found.label, kernel.name, why)
            passed_over.append((kernel.name, why))
        log.info("%s on %s: %s", op, found.label, REFERENCE)
        return Choice(op, REFERENCE, operation.reference, tuple(passed_over))

    def _candidates(self, op: str, passed_over: list[tuple[str, str]]) -> list[Kernel]:
        """The implementations to try, best first, none from the reference on."""
        kernels = self._kernels.get(op, [])
        if self._wanted is None:
            return kernels
        before = self._wanted[: self._wanted.index(REFERENCE)] if REFERENCE in self._wanted else self._wanted
        passed_over += [
            (k.name, "the setting kernels leaves it out") for k in kernels if k.name not in before
        ]
        return sorted((k for k in kernels if k.name in before), key=lambda k: before.index(k.name))


def _difference(
    operation: _Operation, function: Implementation, device: torch.device, dtype: torch.dtype
) -> str:
    """How a result differs from the reference's, in words; empty when it agrees."""
    # On a processor either type may be asked for by a setting, whichever is the faster one.
    kinds = (torch.float32, torch.bfloat16) if device.type == "cpu" else (torch.float32, dtype)
    for kind in dict.fromkeys(kinds):
        with torch.no_grad():
            wanted = operation.probe(operation.reference, device, kind)
            given = operation.probe(function, device, kind)
        for mine, theirs in zip(given, wanted, strict=True):
            if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
                return f"it gives {mine.dtype} {tuple(mine.shape)} for {theirs.dtype} {tuple(theirs.shape)}"
            right = theirs.cpu().double()
            gap = (mine.cpu().double() - right).norm() / right.norm().clamp_min(1e-30)
            if not float(gap) <= TOLERANCE.get(kind, 0.0):  # NaN is no agreement
                return f"in {kind} it is {float(gap):.1e} of the result's size away from the reference"
    return ""


kernels = Registry()
"""This process's registry."""
