"""A memory expert as bytes, as its bank keeps it, and as an ordinary PEFT folder.

It knows tensors and their names; where the bytes lie is the caller's matter.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from inhouse.errors import BadCheckpoint
from inhouse.model.adapters import CONFIG, Adapter
from inhouse.model.config import read_json
from inhouse.model.decoder import Decoder
from inhouse.tune.experts import ExpertResult

_A, _B = ".lora_A.weight", ".lora_B.weight"


def to_bytes(result: ExpertResult, base_digest: str, fact: str, version: int) -> bytes:
    """A safetensors blob: MODULE.lora_A.weight [R, in] and MODULE.lora_B.weight [out, R] of each module, and
    rank, alpha, base_digest, fact and version as its metadata."""
    assert result.is_exact, "an expert that was given up has no tensors to keep"
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in result.tensors.items():
        tensors[name + _A], tensors[name + _B] = a.contiguous(), b.contiguous()
    metadata = {
        "rank": str(result.rank),
        "alpha": repr(result.alpha),
        "base_digest": base_digest,
        "fact": fact,
        "version": str(version),
    }
    return _in_order(save(tensors, metadata=metadata))


def from_bytes(data: bytes, decoder: Decoder) -> Adapter:
    """The expert as an adapter; its notes are base_digest, fact and version.

    Raises BadCheckpoint where the bytes are damaged or do not fit the decoder.
    """
    try:
        stored = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        rank, alpha = int(metadata["rank"]), float(metadata["alpha"])
        notes = {
            "base_digest": metadata["base_digest"],
            "fact": metadata["fact"],
            "version": int(metadata["version"]),
        }
    except (SafetensorError, ValueError, KeyError) as e:
        raise BadCheckpoint(f"The expert's bytes are damaged ({e}). Train it again.") from e
    shapes = {
        part.name: ((rank, linear.weight.shape[1]), (part.stop - part.start, rank))
        for linear in decoder.linears()
        for part in linear.parts
    }
    tensors = {}
    for name in sorted({key.removesuffix(_A).removesuffix(_B) for key in stored}):
        a, b = stored.get(name + _A), stored.get(name + _B)
        if a is None or b is None or shapes.get(name) != (tuple(a.shape), tuple(b.shape)):
            raise BadCheckpoint(
                f"The expert of fact {notes['fact']} does not fit this base at {name}. It was made for the base "
                f"with digest {notes['base_digest']}: train it again for this one."
            )
        tensors[name] = (a.float(), b.float())
    if not tensors:
        raise BadCheckpoint(f"The expert of fact {notes['fact']} holds no tensors. Train it again.")
    return Adapter(rank, alpha, tensors, notes)


def export_peft(data: bytes, folder: Path, decoder: Decoder, *, base: str = "") -> None:
    """Writes a folder that PEFT loads. `base` is what it names as its base model; by default the base's digest."""
    adapter = from_bytes(data, decoder)
    adapter.write(folder, decoder.config, base=base or adapter.notes["base_digest"])
    # By their whole names: an expert changes the last layers alone, and PEFT would else expect it in all of them.
    settings = read_json(folder / CONFIG) | {"target_modules": sorted(adapter.tensors)}
    (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _in_order(data: bytes) -> bytes:
    """The same blob with its header's keys sorted: as written, the metadata's order is another one each time."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of eight bytes
    return len(header).to_bytes(8, "little") + header + data[start:]
