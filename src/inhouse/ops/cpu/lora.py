"""Low-rank updates of many adapters by the kernels."""

from __future__ import annotations

from torch import Tensor

from inhouse.ops.cpu import library
from inhouse.ops.cpu.calls import name_of, threads_for
from inhouse.ops.grouped_lora import Groups
from inhouse.ops.registry import Implementation


def grouped(plain: Implementation) -> Implementation:
    """The operation "grouped_lora": see ops.grouped_lora."""
    call = library.functions("grouped_lora")

    def grouped_lora(y: Tensor, x: Tensor, a: Tensor, b: Tensor, groups: Groups) -> None:
        kernel = call.get(name_of(y, x, a, b))
        if (
            kernel is None
            or y.stride(1) != 1
            or x.stride(1) != 1
            or not (a.is_contiguous() and b.is_contiguous())
        ):
            plain(y, x, a, b, groups)
            return
        inputs, outputs = a.shape[1], b.shape[1]
        kernel(
            y.data_ptr(), y.stride(0), x.data_ptr(), x.stride(0), a.data_ptr(), b.data_ptr(),
            groups.rows.data_ptr(), groups.bounds.data_ptr(), groups.starts.data_ptr(), groups.ranks.data_ptr(),
            len(groups.starts), inputs, outputs,
            threads_for(len(groups.rows) * groups.highest * (inputs + outputs)),
        )  # fmt: skip

    return grouped_lora
