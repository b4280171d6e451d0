"""What the machine can do at most: bytes read and products computed a second. Measured beside what it is held against.

    python -m benchmarks.serve.limits [--device cpu]

A step of decoding reads every weight once and multiplies with each; whichever takes longer is the step's limit. On a
CPU seconds are of one core's time, elsewhere of the wall.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch

from benchmarks.serve.checkpoints import Shape
from inhouse import device as devices
from inhouse.ops.cpu.memory import on_large_pages
from inhouse.ops.matrix import for_serving

READ_BYTES, WIDE_READ_BYTES = 800_000_000, 8_000_000_000
"""On a CPU and elsewhere: far more than any cache holds."""
PRODUCTS = ((2048, 896, 9728), (2048, 2048, 2048))
"""Rows, inputs and outputs; four times as much each way where it is no CPU. The better one counts."""
ROUND_S = 0.5
ROUNDS = 3
BYTES = {"bf16": 2.0, "int8": 1.0, "int4": 0.5, "float32": 4.0}
"""Of a weight; scales are not counted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one core, or of one device."""

    bytes_per_s: float
    flops: float
    """Floating-point operations a second in bfloat16."""

    def decode(
        self, shape: Shape, precision: str, batch: int, context: int, ranks: Sequence[int] = ()
    ) -> float:
        """Most tokens a second of so many sequences in step, with adapters of these ranks active."""
        weights = shape.read_parameters * BYTES[precision]
        factors = 2 * sum(map(shape.adapter_parameters, ranks))
        cached = 2 * batch * context * shape.cache_numbers
        read_s = (weights + factors + cached) / self.bytes_per_s
        return batch / max(read_s, 2 * shape.read_parameters * batch / self.flops)

    def prefill(self, shape: Shape, length: int) -> float:
        """Most tokens a second of prompts of this length. The head is left out: it makes them slower yet."""
        in_layers = shape.read_parameters - shape.vocabulary * shape.width
        looked_at = 2 * shape.layers * shape.heads * shape.head * length / 2  # numbers: keys and values
        return self.flops / (2 * (in_layers + looked_at))


def measure(device: devices.Device, *, round_s: float = ROUND_S) -> Limits:
    """The best of a few rounds of each, that long."""
    torch.set_num_threads(1)
    on_cpu = device.torch_device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter

    def per_s(work: float, step: Callable[[], object]) -> float:
        step()
        best = 0.0
        for _ in range(ROUNDS):
            device.synchronize()
            count, began = 0, clock()
            while clock() - began < round_s:
                step()
                device.synchronize()
                count += 1
            best = max(best, count * work / (clock() - began))
        return best

    def product(rows: int, inputs: int, outputs: int) -> float:
        times = 1 if on_cpu else 4
        rows, inputs, outputs = rows * times, inputs * times, outputs * times
        x = torch.randn(rows, inputs, device=device.torch_device).bfloat16()
        matrix = for_serving(torch.randn(outputs, inputs, device=device.torch_device).bfloat16())
        return per_s(2.0 * rows * inputs * outputs, lambda: matrix.product(x, None))

    numbers = torch.ones((READ_BYTES if on_cpu else WIDE_READ_BYTES) // 4, device=device.torch_device)
    if on_cpu:
        numbers = on_large_pages(numbers)  # 1.4 times as fast as on small ones
    return Limits(per_s(numbers.nbytes, numbers.sum), max(product(*sizes) for sizes in PRODUCTS))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve.limits")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(json.dumps(asdict(measure(devices.pick(options.device)))))


if __name__ == "__main__":
    main()
