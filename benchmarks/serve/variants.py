"""The usual ways to mix adapters in a batch, on our own decoder: what our kernels are held against besides peers.

`bmm` gathers each row's factors and multiplies row by row; `grouped` sorts rows by adapter and takes torch's grouped
products. A cache that is one rectangle, one batch at a time, nothing else: less work than an engine has.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.serve.peers.wire import Absent, Answer, Ask, Order, Watch, in_batches, serve
from inhouse import device as devices
from inhouse import ops
from inhouse.model.adapters import Adapter
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Linear
from inhouse.model.weights import load_base


class Rectangle:
    """Keys and values of sequences of one length; every step all of them grow alike."""

    def __init__(self, decoder: Decoder, batch: int, room: int) -> None:
        config = decoder.config
        shape = (config.layers, batch, config.kv_heads, room, config.head_width)
        self._keys = torch.zeros(shape, device=decoder.device, dtype=decoder.dtype)
        self._values = torch.zeros_like(self._keys)
        self._batch = batch
        self.length = 0
        """Tokens of each sequence that are there; the caller moves it on behind each step."""

    def __call__(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        *,
        scale: float,
        window: int | None,
        cap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """q [T, H, K], k and v [T, G, K], the sequences one behind the other → [T, H, K]."""
        assert window is None and cap is None and sinks is None, "bases of this benchmark look at everything"
        assert rotation is not None, "bases of this benchmark rotate"
        q, k = ops.rotate(q, *rotation), ops.rotate(k, *rotation)
        q, k, v = (t.unflatten(0, (self._batch, -1)).transpose(1, 2) for t in (q, k, v))  # [B, H, n, K]
        stop = self.length + k.shape[2]
        self._keys[layer][:, :, self.length : stop] = k
        self._values[layer][:, :, self.length : stop] = v
        mixed = F.scaled_dot_product_attention(
            q,
            self._keys[layer][:, :, :stop],
            self._values[layer][:, :, :stop],
            is_causal=k.shape[2] > 1,
            scale=scale,
            enable_gqa=True,
        )
        return mixed.transpose(1, 2).flatten(0, 1)

    def reach(self) -> Tensor:
        raise Absent("the variants take bases that rotate alike at every length")


class Mixed:
    """Adapters of one rank, stacked for each projection, and which of them each token uses."""

    def __init__(self, decoder: Decoder, folders: list[str], way: str) -> None:
        found = [Adapter.read(Path(folder), decoder) for folder in folders]
        if len({adapter.rank for adapter in found}) > 1:
            raise Absent("the variants take adapters of one rank")
        self._way = way
        self._factors: dict[str, tuple[Tensor, Tensor]] = {}
        for name in found[0].tensors:
            a = torch.stack([adapter.tensors[name][0] for adapter in found])  # [S, R, I]
            b = torch.stack(
                [adapter.tensors[name][1].T * adapter.scale_of(name) for adapter in found]
            )  # [S, R, O]
            self._factors[name] = a.to(decoder.device, decoder.dtype), b.to(decoder.device, decoder.dtype)
        self._owners = self._order = self._ends = torch.empty(0, dtype=torch.int64)

    def use(self, owners: Tensor) -> None:
        """owners [T] int64, the adapter of each token of the next step."""
        self._owners = owners
        self._order = owners.argsort()
        counts = owners.bincount(minlength=next(iter(self._factors.values()))[0].shape[0])
        self._ends = counts.cumsum(0).int()

    def __call__(self, linear: Linear, x: Tensor) -> Tensor:
        y = linear.product(x)
        for part in linear.parts:
            a, b = self._factors[part.name]
            mine = y[:, part.start : part.stop]
            if self._way == "bmm":
                low = torch.bmm(x[:, None], a[self._owners].transpose(1, 2))  # [T, 1, R]
                mine += torch.bmm(low, b[self._owners])[:, 0]
            else:
                low = torch._grouped_mm(x[self._order], a.transpose(1, 2), offs=self._ends)  # [T, R]
                mine[self._order] += torch._grouped_mm(low, b, offs=self._ends)
        return y


class Variant:
    """One way, on one base."""

    def __init__(self, order: Order) -> None:
        if order["precision"] != "bf16":
            raise Absent("the variants are measured in bfloat16 alone")
        torch.set_num_threads(order.get("threads", 1))
        device = devices.pick(order.get("device", "cpu"))
        self.way: str = order["way"]
        self.decoder = load_base(Path(order["base"]), device=device.torch_device, dtype=torch.bfloat16)
        self.decoder.serve()
        self.mixed: dict[tuple[str, ...], Mixed] = {}

    @torch.inference_mode()
    def run(self, asks: list[Ask], order: Order) -> Answer:
        if any(ask.schema for ask in asks) or not all(ask.adapter for ask in asks):
            raise Absent("the variants are measured with adapters alone")
        folders = tuple(sorted({str(ask.adapter) for ask in asks}))
        if folders not in self.mixed:
            self.mixed[folders] = Mixed(self.decoder, list(folders), self.way)
        tokens: list[list[int]] = [[] for _ in asks]
        watch = Watch(len(asks))
        for places in in_batches(asks, order):
            owners = torch.tensor([folders.index(str(asks[i].adapter)) for i in places])
            self._together([asks[i] for i in places], places, owners, self.mixed[folders], watch, tokens)
        watch.stop()
        return Answer(tokens, watch)

    def _together(
        self,
        asks: list[Ask],
        places: list[int],
        owners: Tensor,
        mixed: Mixed,
        watch: Watch,
        tokens: list[list[int]],
    ) -> None:
        decoder, count = self.decoder, len(asks[0].prompt)
        owners = owners.to(decoder.device)
        cache = Rectangle(decoder, len(asks), count + asks[0].new)
        stream = torch.tensor([token for ask in asks for token in ask.prompt], device=decoder.device)
        for _ in range(asks[0].new):
            width = len(stream) // len(asks)
            positions = torch.arange(cache.length, cache.length + width, device=decoder.device)
            mixed.use(owners.repeat_interleave(width))
            last = torch.arange(width - 1, len(stream), width, device=decoder.device)
            hidden = decoder.forward(stream, positions.repeat(len(asks)), cache, mixed, last)
            stream = decoder.logits(hidden).argmax(1)
            cache.length += width
            for i, token in zip(places, stream.tolist(), strict=True):
                watch.token(i)
                tokens[i].append(token)
            watch.step()


if __name__ == "__main__":
    serve(Variant)
