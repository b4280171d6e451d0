"""How a matrix lies in memory. It changes no number of it; a product may round differently in its last digits."""

from __future__ import annotations

import torch
from torch import Tensor


def for_few_rows(weight: Tensor) -> Tensor:
    """The same matrix, laid out as products with one to three rows read it fastest where it is; maybe a copy.

    On a CPU in float32 that is column by column: 2.0 ms instead of 3.1 for 45 MB, and no slower for many rows. In
    bfloat16 the usual layout is the faster one.

    weight  [O, I]  any float
    """
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        return weight.t().contiguous().t()
    return weight
