"""LoRA adapters: PEFT folders read and written, and the one being trained.

An adapter whose tensors do not all match its base is refused with the list: one that silently serves the base
is the worst fault there is.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from inhouse import ops
from inhouse.errors import BadCheckpoint
from inhouse.model.config import ModelConfig, read_json
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Linear
from inhouse.model.weights import read_header, refuse_unsafe, write_tensors

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
NOTES = "inhouse.json"
"""Our own file beside PEFT's two: the base's name and digest, the job, the recipe. PEFT ignores it."""

_PREFIX = "base_model.model."
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "use_rslora": (False, None),
    "fan_in_fan_out": (False, True, None),
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "layer_replication": (None,),
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter at rest: for each module its A [R, in] and B [out, R], float32 on the CPU."""

    rank: int
    alpha: float
    tensors: dict[str, tuple[Tensor, Tensor]]
    notes: dict[str, Any]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @classmethod
    def read(cls, folder: Path, decoder: Decoder) -> Adapter:
        """Reads any PEFT LoRA folder made for this decoder's base.

        Raises BadCheckpoint listing every tensor that is missing, unknown or of another shape.
        """
        refuse_unsafe(folder)
        settings = read_json(folder / CONFIG)
        if settings.get("peft_type") != "LORA":
            raise BadCheckpoint(f"{folder / CONFIG}: peft_type {settings.get('peft_type')!r} is not LORA.")
        for key, allowed in _SUPPORTED.items():
            if settings.get(key) not in allowed:
                raise BadCheckpoint(f"{folder / CONFIG}: {key} = {settings[key]!r} is not supported.")
        rank, alpha = settings.get("r"), settings.get("lora_alpha")
        if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
            raise BadCheckpoint(
                f"{folder / CONFIG}: r = {rank!r} and lora_alpha = {alpha!r} are no rank and scale."
            )
        if not (folder / WEIGHTS).is_file():
            raise BadCheckpoint(f"{folder / WEIGHTS} is missing.")
        read_header(folder / WEIGHTS)
        # Read, not mapped: a file that is cut or written over while it is served must harm nobody.
        try:
            stored = load((folder / WEIGHTS).read_bytes())
        except SafetensorError as e:
            raise BadCheckpoint(f"{folder / WEIGHTS} is damaged ({e}). Tune the model again.") from e
        notes = read_json(folder / NOTES) if (folder / NOTES).is_file() else {}
        return cls(rank, float(alpha), _match(folder, stored, decoder, rank), notes)

    def write(self, folder: Path, config: ModelConfig, *, base: str) -> None:
        """Writes a folder that PEFT loads: its two files, and our notes."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "inference_mode": True,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": config.is_gpt2,
            "target_modules": sorted({name.rsplit(".", 1)[1] for name in self.tensors}),
        }
        (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        tensors = {}
        for name, (a, b) in self.tensors.items():
            tensors[f"{_PREFIX}{name}.lora_A.weight"] = a.contiguous()
            tensors[f"{_PREFIX}{name}.lora_B.weight"] = b.contiguous()
        write_tensors(tensors, folder / WEIGHTS)
        (folder / NOTES).write_text(json.dumps(self.notes, indent=2, sort_keys=True) + "\n", encoding="utf-8")


class TrainedLora:
    """The adapter under training: float32 factors on every linear layer, beside a frozen base.

    As `Adapters` it computes one fused product for the projections of a layer. B starts at zero, so the first
    step sees the base unchanged; A is a pure function of (seed, module name).
    """

    def __init__(self, decoder: Decoder, *, rank: int, alpha: float, seed: int) -> None:
        self.rank = rank
        self.alpha = alpha
        self.factors: dict[str, tuple[Tensor, Tensor]] = {}
        for linear in decoder.linears():
            inputs = linear.weight.shape[1]
            for part in linear.parts:
                generator = torch.Generator().manual_seed((seed << 32) ^ zlib.crc32(part.name.encode()))
                # The bound of PEFT's default: Kaiming uniform with a = √5.
                a = (torch.rand(rank, inputs, generator=generator) * 2 - 1) / math.sqrt(inputs)
                b = torch.zeros(part.stop - part.start, rank)
                self.factors[part.name] = (
                    a.to(decoder.device).requires_grad_(),
                    b.to(decoder.device).requires_grad_(),
                )

    def __call__(self, linear: Linear, x: Tensor) -> Tensor:
        pairs = [self.factors[part.name] for part in linear.parts]
        return ops.lora_linear(
            x,
            linear.weight,
            linear.bias,
            self.alpha / self.rank,
            tuple((part.start, part.stop) for part in linear.parts),
            tuple(a for a, _ in pairs),
            tuple(b for _, b in pairs),
        )

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """What the optimiser trains, in a fixed order."""
        for name, (a, b) in self.factors.items():
            yield f"{name}.lora_A", a
            yield f"{name}.lora_B", b

    def adapter(self, notes: dict[str, Any] | None = None) -> Adapter:
        """The adapter as it stands, copied to the CPU."""
        tensors = {
            n: (a.detach().cpu().clone(), b.detach().cpu().clone()) for n, (a, b) in self.factors.items()
        }
        return Adapter(self.rank, self.alpha, tensors, notes or {})


class LoadedLora:
    """One adapter at rest applied to every token: the plain oracle of the engine's mixed batches."""

    def __init__(self, adapter: Adapter, decoder: Decoder) -> None:
        self.scale = adapter.scale
        self.factors = {
            n: (a.to(decoder.device, decoder.dtype), b.to(decoder.device, decoder.dtype))
            for n, (a, b) in adapter.tensors.items()
        }

    def __call__(self, linear: Linear, x: Tensor) -> Tensor:
        y = linear.product(x)
        for part in linear.parts:
            if pair := self.factors.get(part.name):
                y[:, part.start : part.stop] += ((x @ pair[0].T) * self.scale) @ pair[1].T
        return y


def _match(
    folder: Path, stored: dict[str, Tensor], decoder: Decoder, rank: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs each module's A and B and checks them against the base; any fault at all refuses the adapter."""
    shapes = {
        part.name: (linear.weight.shape[1], part.stop - part.start)
        for linear in decoder.linears()
        for part in linear.parts
    }
    faults, found = [], {}
    left = dict(stored)
    for name, (inputs, outputs) in shapes.items():
        a = left.pop(f"{_PREFIX}{name}.lora_A.weight", None)
        b = left.pop(f"{_PREFIX}{name}.lora_B.weight", None)
        if a is None and b is None:
            continue  # an adapter may leave modules alone
        if a is None or b is None:
            faults.append(f"{name}: only one of lora_A and lora_B is there")
        elif tuple(a.shape) != (rank, inputs) or tuple(b.shape) != (outputs, rank):
            faults.append(
                f"{name}: shapes {tuple(a.shape)} and {tuple(b.shape)}, the base needs {(rank, inputs)} "
                f"and {(outputs, rank)}"
            )
        else:
            found[name] = (a.float(), b.float())
    faults += [f"{name}: the base has no such layer" for name in sorted(left)]
    if not found and not faults:
        faults = ["it holds no tensors"]
    if faults:
        more = f" (and {len(faults) - 8} more)" if len(faults) > 8 else ""
        raise BadCheckpoint(f"{folder}: the adapter does not fit its base: {'; '.join(faults[:8])}{more}.")
    return found
