"""Whether an adapter does what it says: fits its base, changes its logits, and is served as the plain way computes it.

Asked by an operator, off the step; nothing of the engine is changed. Each check is a line; one that fails names the
tensors. It knows tensors and no queues. Adapters that silently serve the base are the worst fault there is: this
shows that one does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from inhouse.engine import peft_oracle
from inhouse.engine.adapters import Bank
from inhouse.engine.arena import Factors, factors_of
from inhouse.engine.library import Library
from inhouse.errors import BadCheckpoint
from inhouse.model.adapters import Adapter, LoadedLora
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Adapters, Linear, Packed
from inhouse.schema import Check

PROBE = "Name three things that a careful person checks before signing a contract, and say why."
"""What both ways are asked. Any text would do."""
ROWS = 4
"""Random inputs that each layer is compared on."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 5e-3}
"""How far two ways of one product may be apart, as a share of its norm: some units in the type's last place."""
SAME = 1e-6
"""A change of logits below this share of their norm is none."""


@dataclass(slots=True)
class Verifier:
    """One adapter under examination."""

    decoder: Decoder
    library: Library
    digest: str
    probe: list[int]
    checks: list[Check] = field(default_factory=list)

    @torch.inference_mode()
    def run(self) -> list[Check]:
        """Every check, in order; what cannot be read ends them. Raises NotFound."""
        try:
            adapter = self.library.original(self.digest)
            factors = factors_of(adapter, self.decoder.dtype)
        except BadCheckpoint as refusal:
            self._say("fits", False, refusal.message)
            return self.checks
        self._fits(adapter)
        self._acts(adapter)
        self._agrees(adapter, factors)
        self._spares_the_base(factors)
        self._serves(adapter, factors)
        self._agrees_with_peft(adapter)
        return self.checks

    def _say(self, name: str, passed: bool | None, found: str, tensors: list[str] | None = None) -> None:
        self.checks.append(Check(name=name, passed=passed, found=found, tensors=tuple(tensors or ())))

    def _fits(self, adapter: Adapter) -> None:
        every = sum(len(linear.parts) for linear in self.decoder.linears())
        ranks = sorted({len(a) for a, _ in adapter.tensors.values()})
        rank = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
        self._say(
            "fits", True, f"all tensors match: {len(adapter.tensors)} of the base's {every} modules, {rank}"
        )

    def _acts(self, adapter: Adapter) -> None:
        """Modules whose product is zero whatever comes in: training never reached them, or they were lost."""
        idle = [name for name, (a, b) in adapter.tensors.items() if not (bool(a.any()) and bool(b.any()))]
        acting = len(adapter.tensors) - len(idle)
        self._say(
            "acts", not idle, f"{acting} of {len(adapter.tensors)} modules change what they are given", idle
        )

    def _agrees(self, adapter: Adapter, factors: Factors) -> None:
        """Each module as it is served, against its factors in float64."""
        bank = self._bank(factors)
        worst, wrong = 0.0, []
        for linear in self.decoder.linears():
            x = _inputs(linear).to(self.decoder.device, self.decoder.dtype)
            mix = bank.mix([(0,)] * ROWS)
            assert mix is not None, "the adapter is in a slot"
            served = mix(_silent(linear, x), x)
            for part in linear.parts:
                if part.name not in adapter.tensors:
                    continue
                expected = _plain(adapter, part.name, x.cpu())
                distance = _distance(served[:, part.start : part.stop].cpu(), expected)
                worst = max(worst, distance)
                if not distance <= TOLERANCE[self.decoder.dtype]:
                    wrong.append(part.name)
        self._say(
            "agrees", not wrong, f"served products differ from the plain ones by {worst:.1e} at most", wrong
        )

    def _spares_the_base(self, factors: Factors) -> None:
        bank, wrong = self._bank(factors), []
        for linear in self.decoder.linears():
            x = _inputs(linear).to(self.decoder.device, self.decoder.dtype)
            mix = bank.mix([(0,), *[()] * (ROWS - 1)])
            assert mix is not None, "the adapter is in a slot"
            if not torch.equal(mix(linear, x)[1:], linear.product(x)[1:]):
                wrong += [part.name for part in linear.parts]
        self._say(
            "spares the base", not wrong, "rows of the base beside it stay the base's, bit for bit", wrong
        )

    def _serves(self, adapter: Adapter, factors: Factors) -> None:
        """The whole model on a probe: with the adapter as it is served, as it is computed plainly, and without."""
        mix = self._bank(factors).mix([(0,)] * len(self.probe))
        assert mix is not None, "the adapter is in a slot"
        served, plain, base = (
            self._logits(adapters) for adapters in (mix, LoadedLora(adapter, self.decoder), None)
        )
        change, distance = _distance(plain, base), _distance(served, plain)
        turned = int((plain.argmax(-1) != base.argmax(-1)).sum())
        self._say(
            "changes the base",
            change > SAME,
            f"logits on a probe of {len(self.probe)} tokens move by {change:.1e} of their norm, "
            f"the likeliest token at {turned} places",
        )
        self._say(
            "serves",
            distance <= TOLERANCE[self.decoder.dtype] and distance <= max(change, SAME),
            f"logits as served differ from the plain way's by {distance:.1e} of their norm",
        )

    def _logits(self, adapters: Adapters | None) -> Tensor:
        """[T, V] float32 on the CPU."""
        tokens = torch.tensor(self.probe, device=self.decoder.device)
        places = torch.arange(len(self.probe), device=self.decoder.device)
        hidden = self.decoder.forward(tokens, places, Packed([len(self.probe)]), adapters)
        return self.decoder.logits(hidden).cpu()

    def _agrees_with_peft(self, adapter: Adapter) -> None:
        """Each module's product by PEFT itself, which reads the same folder in a process of its own."""
        linears = [
            linear
            for linear in self.decoder.linears()
            for part in linear.parts
            if part.name in adapter.tensors
        ]
        inputs = {part.name: _inputs(linear) for linear in linears for part in linear.parts}
        outputs = {part.name: part.stop - part.start for linear in linears for part in linear.parts}
        found = peft_oracle.products(self.library.folder(self.digest), inputs, outputs)
        if isinstance(found, str):
            self._say("agrees with PEFT", None, found)
            return
        wrong = [
            name
            for name in adapter.tensors
            if name not in found or not _distance(found[name], _plain(adapter, name, inputs[name])) <= 1e-4
        ]
        self._say("agrees with PEFT", not wrong, "PEFT computes the same from the same folder", wrong)

    def _bank(self, factors: Factors) -> Bank:
        bank = Bank(self.decoder, factors.rows)
        bank.load(0, factors)
        return bank


def _inputs(linear: Linear) -> Tensor:
    """[ROWS, I] float32, the same each time."""
    return torch.randn(ROWS, linear.weight.shape[1], generator=torch.Generator().manual_seed(0))


def _silent(linear: Linear, x: Tensor) -> Linear:
    """A layer of the same shape whose own product is zero, so that only its adapters are heard."""
    nothing = torch.zeros(1, 1, device=x.device, dtype=x.dtype).expand(tuple(linear.weight.shape))
    return Linear(nothing, None, linear.parts)


def _plain(adapter: Adapter, name: str, x: Tensor) -> Tensor:
    """[ROWS, O] float64."""
    a, b = adapter.tensors[name]
    return (x.double() @ a.double().T) @ b.double().T * adapter.scale_of(name)


def _distance(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference, as a share of what is expected; NaN where either holds one."""
    expected = expected.double()
    return float((found.double() - expected).norm() / expected.norm().clamp(min=1e-30))
