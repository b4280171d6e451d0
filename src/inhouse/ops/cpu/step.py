"""All blocks of a model in one call, for steps in which each sequence reads one token: see kernels/step.cpp.

It holds where things lie, in the kernel's own words; which models and steps fit is the caller's matter.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inhouse.ops.cpu import library
from inhouse.ops.cpu.calls import WORTH_THREADS, name_of, pointer
from inhouse.ops.cpu.linear import PackedCodes, PackedMatrix
from inhouse.ops.grouped_lora import Groups
from inhouse.ops.paged import Past

_P, _N, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class _Part(ctypes.Structure):
    _fields_ = [("a", _P), ("b", _P), ("start", _N), ("outputs", _N)]


class _Matrix(ctypes.Structure):
    _fields_ = [
        ("w", _P), ("scales", _P), ("bias", _P), ("inputs", _N), ("outputs", _N), ("bits", _N),
        ("parts", ctypes.POINTER(_Part)), ("part_count", _N), ("first_part", _N),
    ]  # fmt: skip


class _Block(ctypes.Structure):
    _fields_ = [
        ("qkv", _Matrix), ("out", _Matrix), ("up", _Matrix), ("down", _Matrix),
        ("attention_norm", _P), ("mlp_norm", _P), ("q_norm", _P), ("k_norm", _P),
        ("keys", _P), ("values", _P), ("sinks", _P),
        ("heads", _N), ("groups", _N), ("width", _N), ("q_norm_width", _N), ("k_norm_width", _N), ("rope", _N),
        ("window", _N),
        ("scale", _F), ("cap", _F), ("attention_eps", _F), ("mlp_eps", _F), ("q_eps", _F), ("k_eps", _F),
    ]  # fmt: skip


class _Groups(ctypes.Structure):
    _fields_ = [
        ("rows", _P), ("bounds", _P), ("starts", _P), ("ranks", _P), ("count", _N), ("members", _N), ("highest", _N),
    ]  # fmt: skip


class _Step(ctypes.Structure):
    _fields_ = [
        ("rows", _N), ("stream", _N), ("uses", _N), ("part_count", _N), ("page", _N), ("table_width", _N),
        ("longest", _N), ("threads", _N), ("worth_threads", _N),
        ("cos", _P), ("sin", _P), ("write", _P), ("tables", _P), ("lengths", _P), ("adapters", _P),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Product:
    """A linear layer, and where all adapters' factors for its projections lie."""

    matrix: PackedMatrix | PackedCodes
    bias: Tensor | None
    parts: tuple[tuple[Tensor, Tensor, int], ...]
    """(A [rank rows, I], B [rank rows, O of the part], first output) of each projection"""


@dataclass(frozen=True, slots=True)
class Weight:
    """A norm's."""

    weight: Tensor
    eps: float


@dataclass(frozen=True, slots=True)
class Form:
    """A block: a norm, attention, a norm, an MLP with a SiLU gate."""

    attention_norm: Weight
    qkv: Product
    q_norm: Weight | None
    k_norm: Weight | None
    keys: Tensor
    """[places, G, K], as values"""
    values: Tensor
    out: Product
    mlp_norm: Weight
    up: Product
    down: Product
    heads: int
    rope: int | None
    scale: float
    window: int | None
    cap: float | None
    sinks: Tensor | None


class Members:
    """Which rows use which adapters in a step, for every projection of all blocks in their order."""

    def __init__(self, uses: Sequence[Sequence[Groups | None]]) -> None:
        """uses  [uses][projections]; None where nothing is added to a projection"""
        self.uses = len(uses)
        self._groups = uses  # their tensors are pointed at
        made = {id(g): _groups(g) for use in uses for g in use if g is not None}
        self._made = list(made.values())
        places = [None if g is None else ctypes.addressof(made[id(g)]) for use in uses for g in use]
        self.table = (_P * len(places))(*places)


class Blocks:
    """A model's blocks, laid out for the kernel."""

    def __init__(self, forms: Sequence[Form]) -> None:
        first = forms[0].attention_norm.weight
        self._forms = forms  # their tensors are pointed at
        self._kept: list[object] = []
        self._parts = 0
        self._blocks = (_Block * len(forms))(*map(self._block, forms))
        self._call = library.functions("step")[name_of(first)]
        self._stream = len(first)

    def run(
        self,
        x: Tensor,
        turns: Sequence[tuple[Tensor, Tensor]],
        write: Tensor,
        past: Past,
        members: Members | None,
    ) -> Tensor:
        """x [T, D] → [T, D], a new one; keys and values are written on the way.

        turns    cosines and sines of each rope, [T, 1, K / 2] float32
        write    [T] int64, places in the cache
        past     what each row attends to, itself included
        """
        x = x.contiguous().clone()
        angles = [tuple(t.contiguous() for t in pair) for pair in turns]
        cos, sin = ((_P * len(angles))(*(pair[i].data_ptr() for pair in angles)) for i in (0, 1))
        step = _Step(
            rows=len(x), stream=self._stream, uses=0 if members is None else members.uses, part_count=self._parts,
            page=past.page_size, table_width=past.tables.shape[1], longest=past.longest,
            threads=torch.get_num_threads(), worth_threads=WORTH_THREADS,
            cos=ctypes.addressof(cos), sin=ctypes.addressof(sin), write=write.data_ptr(),
            tables=past.tables.data_ptr(), lengths=past.lengths.data_ptr(),
            adapters=None if members is None else ctypes.addressof(members.table),
        )  # fmt: skip
        self._call(x.data_ptr(), ctypes.addressof(self._blocks), len(self._blocks), ctypes.addressof(step))
        return x

    def _block(self, form: Form) -> _Block:
        q_norm, k_norm = form.q_norm, form.k_norm
        return _Block(
            qkv=self._matrix(form.qkv), out=self._matrix(form.out), up=self._matrix(form.up),
            down=self._matrix(form.down),
            attention_norm=form.attention_norm.weight.data_ptr(), mlp_norm=form.mlp_norm.weight.data_ptr(),
            q_norm=None if q_norm is None else q_norm.weight.data_ptr(),
            k_norm=None if k_norm is None else k_norm.weight.data_ptr(),
            keys=form.keys.data_ptr(), values=form.values.data_ptr(), sinks=self._wide(form.sinks),
            heads=form.heads, groups=form.keys.shape[1], width=form.keys.shape[2],
            q_norm_width=0 if q_norm is None else len(q_norm.weight),
            k_norm_width=0 if k_norm is None else len(k_norm.weight),
            rope=-1 if form.rope is None else form.rope, window=form.window or 0, scale=form.scale,
            cap=form.cap or 0.0, attention_eps=form.attention_norm.eps, mlp_eps=form.mlp_norm.eps,
            q_eps=0.0 if q_norm is None else q_norm.eps, k_eps=0.0 if k_norm is None else k_norm.eps,
        )  # fmt: skip

    def _matrix(self, product: Product) -> _Matrix:
        matrix = product.matrix
        parts = (_Part * len(product.parts))(
            *(_Part(a.data_ptr(), b.data_ptr(), start, b.shape[1]) for a, b, start in product.parts)
        )
        self._parts += len(parts)
        return _Matrix(
            w=matrix.numbers.data_ptr(), scales=pointer(matrix.scales), bias=self._wide(product.bias),
            inputs=matrix.inputs, outputs=matrix.outputs, bits=matrix.bits,
            parts=parts, part_count=len(parts), first_part=self._parts - len(parts),
        )  # fmt: skip

    def _wide(self, tensor: Tensor | None) -> int | None:
        """Where its numbers lie in float32."""
        if tensor is None:
            return None
        self._kept.append(wide := tensor.float().contiguous())
        return wide.data_ptr()


def _groups(groups: Groups) -> _Groups:
    return _Groups(
        rows=groups.rows.data_ptr(), bounds=groups.bounds.data_ptr(), starts=groups.starts.data_ptr(),
        ranks=groups.ranks.data_ptr(), count=len(groups.starts), members=len(groups.rows), highest=groups.highest,
    )  # fmt: skip
