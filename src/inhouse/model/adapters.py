"""LoRA adapters: PEFT folders read and written, and the one being trained.

An adapter whose tensors do not all match its base is refused with the list: one that silently serves the base
is the worst fault there is.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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

MODULE_PREFIX = "base_model.model."
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "fan_in_fan_out": (False, True, None),
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "layer_replication": (None,),
}
_CURES = {
    "target_parameters": " It names experts of a mixture or other bare tensors: train on attention's layers alone, "
    'as with target_modules=["q_proj", "k_proj", "v_proj", "o_proj"].',
}


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter at rest: for each module its A [R, in] and B [out, R], float32 on the CPU."""

    rank: int
    alpha: float
    tensors: dict[str, tuple[Tensor, Tensor]]
    notes: dict[str, Any]
    scales: dict[str, float] = field(default_factory=dict)
    """Of modules whose scale is another than alpha / rank."""

    def scale_of(self, module: str) -> float:
        """What its product is multiplied by."""
        return self.scales.get(module, self.alpha / self.rank)

    @classmethod
    def read(cls, folder: Path, decoder: Decoder, *, as_stored: bool = False) -> Adapter:
        """Reads any PEFT LoRA folder made for this decoder's base: in float32, or in the types of the file.

        Raises BadCheckpoint listing every tensor that is missing, unknown or of another shape.
        """
        shape = inspect(folder, decoder)
        try:
            # Read, not mapped: a file that is cut or written over while it is served must harm nobody.
            stored = load((folder / WEIGHTS).read_bytes())
        except SafetensorError as e:
            raise BadCheckpoint(f"{folder / WEIGHTS} is damaged ({e}). Fetch it again.") from e
        tensors = {
            name: tuple(stored[f"{MODULE_PREFIX}{name}.lora_{factor}.weight"] for factor in "AB")
            for name in shape.ranks
        }
        if not as_stored:
            tensors = {name: tuple(factor.float() for factor in pair) for name, pair in tensors.items()}
        notes = read_json(folder / NOTES) if (folder / NOTES).is_file() else {}
        return cls(shape.rank, shape.alpha, tensors, notes, shape.scales)  # type: ignore[arg-type]

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
            "rank_pattern": {n: len(a) for n, (a, _) in self.tensors.items() if len(a) != self.rank},
            "alpha_pattern": {n: s * len(self.tensors[n][0]) for n, s in self.scales.items()},
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": config.names.is_transposed,
            "target_modules": sorted({name.rsplit(".", 1)[1] for name in self.tensors}),
        }
        (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        tensors = {}
        for name, (a, b) in self.tensors.items():
            tensors[f"{MODULE_PREFIX}{name}.lora_A.weight"] = a.contiguous()
            tensors[f"{MODULE_PREFIX}{name}.lora_B.weight"] = b.contiguous()
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
        self.adapter = adapter
        self.factors = {
            n: (a.to(decoder.device, decoder.dtype), b.to(decoder.device, decoder.dtype))
            for n, (a, b) in adapter.tensors.items()
        }

    def __call__(self, linear: Linear, x: Tensor) -> Tensor:
        y = linear.product(x)
        for part in linear.parts:
            if pair := self.factors.get(part.name):
                y[:, part.start : part.stop] += ((x @ pair[0].T) * self.adapter.scale_of(part.name)) @ pair[
                    1
                ].T
        return y


@dataclass(frozen=True, slots=True)
class Shape:
    """What an adapter's folder says without its numbers being read."""

    rank: int
    alpha: float
    ranks: dict[str, int]
    """Of each module that it changes."""
    scales: dict[str, float]
    """Of modules whose scale is another than alpha / rank."""
    base_digest: str | None
    """The base it was trained on, where it says so."""

    @property
    def rows(self) -> int:
        """Rank rows that it takes on a device: its highest rank."""
        return max(self.ranks.values())


def inspect(folder: Path, decoder: Decoder) -> Shape:
    """What a PEFT LoRA folder holds, checked against the base in every tensor's name and shape.

    Raises BadCheckpoint listing every tensor that is missing, unknown or of another shape.
    """
    refuse_unsafe(folder)
    settings = read_json(folder / CONFIG)
    if settings.get("peft_type") != "LORA":
        raise BadCheckpoint(f"{folder / CONFIG}: peft_type {settings.get('peft_type')!r} is not LORA.")
    for key, allowed in _SUPPORTED.items():
        if settings.get(key) not in allowed:
            cure = _CURES.get(key, "")
            raise BadCheckpoint(f"{folder / CONFIG}: {key} = {settings[key]!r} is not supported.{cure}")
    rank: Any = settings.get("r")
    alpha: Any = settings.get("lora_alpha")
    if not _is_rank(rank) or not _is_alpha(alpha):
        raise BadCheckpoint(
            f"{folder / CONFIG}: r = {rank!r} and lora_alpha = {alpha!r} are no rank and scale."
        )
    ranks = _pattern(folder, settings, "rank_pattern", _is_rank)
    alphas = _pattern(folder, settings, "alpha_pattern", _is_alpha)
    if not (folder / WEIGHTS).is_file():
        raise BadCheckpoint(f"{folder / WEIGHTS} is missing.")
    header = read_header(folder / WEIGHTS)
    notes = read_json(folder / NOTES) if (folder / NOTES).is_file() else {}
    found = _match(folder, header, decoder, lambda name: int(_chosen(ranks, name, rank)))
    root = math.sqrt if settings.get("use_rslora") else float
    scales = {name: _chosen(alphas, name, alpha) / root(own) for name, own in found.items()}
    base = notes.get("base_digest")
    usual = alpha / rank
    return Shape(
        rank,
        float(alpha),
        found,
        {name: scale for name, scale in scales.items() if scale != usual},
        None if base is None else str(base),
    )


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_alpha(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _pattern(
    folder: Path, settings: dict[str, Any], key: str, is_good: Callable[[Any], bool]
) -> dict[str, Any]:
    """PEFT's rank_pattern or alpha_pattern: a regular expression for the end of a module's name → its own value."""
    found = settings.get(key) or {}
    for pattern, value in found.items():
        if not is_good(value):
            raise BadCheckpoint(f"{folder / CONFIG}: {key}[{pattern!r}] = {value!r} is no such number.")
        try:
            re.compile(pattern)
        except re.error as e:
            raise BadCheckpoint(f"{folder / CONFIG}: {key} has {pattern!r}, which is no pattern: {e}.") from e
        if sum(pattern.count(sign) for sign in "*+{") > 1:  # several repetitions may take for ever to match
            raise BadCheckpoint(f"{folder / CONFIG}: {key} has {pattern!r}; one repetition is the most.")
    return dict(found)


def _chosen(pattern: dict[str, Any], module: str, otherwise: Any) -> Any:
    """The first pattern's value that the module's name ends with, as PEFT chooses it (0.18, get_pattern_key)."""
    matching = (value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", module))
    return next(matching, otherwise)


def _shape(about: Any) -> tuple[Any, ...]:
    """A tensor's shape by a header; that of nothing where it says none."""
    shape = about.get("shape") if isinstance(about, dict) else None
    return tuple(shape) if isinstance(shape, list) else ()


def _match(
    folder: Path, header: dict[str, Any], decoder: Decoder, rank_of: Callable[[str], int]
) -> dict[str, int]:
    """Pairs each module's A and B and checks them against the base; any fault at all refuses the adapter.

    Returns each module's rank.
    """
    shapes = {
        part.name: (linear.weight.shape[1], part.stop - part.start)
        for linear in decoder.linears()
        for part in linear.parts
    }
    faults, found = [], {}
    left = {name: _shape(about) for name, about in header.items() if name != "__metadata__"}
    for name, (inputs, outputs) in shapes.items():
        a = left.pop(f"{MODULE_PREFIX}{name}.lora_A.weight", None)
        b = left.pop(f"{MODULE_PREFIX}{name}.lora_B.weight", None)
        rank = rank_of(name)
        if a is None and b is None:
            continue  # an adapter may leave modules alone
        if a is None or b is None:
            faults.append(f"{name}: only one of lora_A and lora_B is there")
        elif a != (rank, inputs) or b != (outputs, rank):
            faults.append(
                f"{name}: shapes {a} and {b}, the base needs {(rank, inputs)} and {(outputs, rank)}"
            )
        else:
            found[name] = rank
    faults += [
        f"{name}: the base has no such layer"
        + (", and experts are not adapted" if ".experts." in name else "")
        for name in sorted(left)
    ]
    if not found and not faults:
        faults = ["it holds no tensors"]
    if faults:
        more = f" (and {len(faults) - 8} more)" if len(faults) > 8 else ""
        raise BadCheckpoint(f"{folder}: the adapter does not fit its base: {'; '.join(faults[:8])}{more}.")
    return found
