"""Low-rank updates of many adapters: every implementation that runs here, against each token alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inhouse.ops import Groups, Kernel, grouped_lora, kernels
from inhouse.ops.grouped_products import NAME, PRIORITY
from inhouse.ops.grouped_products import grouped_lora as by_products
from inhouse.ops.registry import Registry


def groups_of(rows: list[list[int]], starts: list[int], ranks: list[int]) -> Groups:
    bounds = [sum(map(len, rows[:i])) for i in range(len(rows) + 1)]
    table = [
        torch.tensor(t, dtype=torch.int32)
        for t in ([r for mine in rows for r in mine], bounds, starts, ranks)
    ]
    return Groups(*table, longest=max(map(len, rows), default=0), highest=max(ranks, default=0))


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y [12, 32], x [12, 48], A [40, 48], B [40, 32]; rank rows 20 to 29 are nobody's, and NaN."""
    generator = torch.Generator().manual_seed(0)
    y, x, a, b = (
        torch.randn(*s, generator=generator).to(dtype) for s in ((12, 32), (12, 48), (40, 48), (40, 32))
    )
    a[20:30], b[20:30] = torch.nan, torch.nan
    return y, x, a, b


CASES = {
    "ranks that differ": groups_of([[3, 0, 11], [5], [1, 2]], [30, 4, 15], [9, 1, 5]),
    "an empty group": groups_of([[3], [], [4, 5]], [0, 10, 36], [8, 3, 4]),
    "one adapter at the end of the arena": groups_of([[0, 1, 2, 3]], [39], [1]),
    "nobody": groups_of([], [], []),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("implementation", [grouped_lora, by_products])
def test_it_equals_each_token_alone(implementation: object, case: str, dtype: torch.dtype) -> None:
    groups = CASES[case]
    y, x, a, b = inputs(dtype)
    wanted = y.double()
    for g, (start, rank) in enumerate(zip(groups.starts.tolist(), groups.ranks.tolist(), strict=True)):
        mine = slice(start, start + rank)
        for place in groups.rows[groups.bounds[g] : groups.bounds[g + 1]].tolist():
            wanted[place] += (x[place].double() @ a[mine].double().T) @ b[mine].double()
    before = y.clone()
    implementation(y, x, a, b, groups)  # type: ignore[operator]
    assert (y.double() - wanted).norm() <= (2e-6 if dtype is torch.float32 else 1e-2) * wanted.norm()
    others = sorted(set(range(12)) - set(groups.rows.tolist()))
    assert torch.equal(y[others], before[others])


def test_grouped_products_pass_the_trial_that_devices_put_them_to() -> None:
    """Its shapes include a width that torch's products do not take."""
    made = Registry()
    operation = kernels._operations["grouped_lora"]
    made.define("grouped_lora", operation.reference, operation.probe)
    made.register(Kernel("grouped_lora", NAME, PRIORITY, lambda _: "", lambda: by_products))
    choice = made.choose("grouped_lora", torch.device("cpu"))
    assert choice.name == NAME, choice.passed_over
