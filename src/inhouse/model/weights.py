"""Reads and writes a base's folder: safetensors only, every tensor accounted for.

It runs no code of the checkpoint's and trusts no size it has not checked.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from inhouse.errors import BadCheckpoint, StorageFull
from inhouse.model.build import build, checkpoint_tensors
from inhouse.model.config import ModelConfig, read_json
from inhouse.model.decoder import Decoder
from inhouse.model.mxfp4 import dequantise
from inhouse.system import DISK_FULL

MAX_HEADER_BYTES = 8 * 2**20
MAX_TENSORS = 100_000
UNSAFE_SUFFIXES = (".py", ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""A safetensors header's words for the types that are read."""
SIDE_FILES = (
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""What a base's folder holds beside its weights, as far as we read it."""


def load_base(
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    quantization: str | None = None,
) -> Decoder:
    """The decoder of a Hugging Face folder. Raises BadCheckpoint naming the file, the fault and the cure.

    With a quantization, "none" included, it is for serving alone (see `Decoder.serve`): each block is laid out as soon
    as it is read, and each expert of a mixture, so that hardly more is in memory than will be served.
    """
    refuse_unsafe(folder)
    config = ModelConfig.load(folder)
    tensors = _Tensors(folder, config)

    def take(name: str, shape: tuple[int, ...]) -> Tensor:
        return tensors.take(name, shape).to(device=device, dtype=dtype).contiguous()

    def take_each(name: str, shape: tuple[int, ...]) -> Iterator[Tensor]:
        if config.is_mxfp4 and tensors.has(f"{name}_blocks"):
            yield from tensors.take_mxfp4(name, shape, torch.device(device), dtype)
        else:
            for matrix in tensors.take(name, shape):
                yield matrix.to(device=device, dtype=dtype)

    decoder = build(config, take, take_each=take_each, quantization=quantization)
    tensors.finish([f"{config.names.head}.weight"] if config.tie_embeddings else [])
    return decoder


def save_base(decoder: Decoder, folder: Path, *, like: Path, dtype: torch.dtype | None = None) -> None:
    """Writes a decoder as a Hugging Face folder, with config, tokenizer and template of the folder `like`. What was
    read from 4 bits is written as it is now, and the config says so."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SIDE_FILES:
        if (like / name).is_file() and like != folder:
            shutil.copyfile(like / name, folder / name)
    if decoder.config.is_mxfp4:
        settings = {k: v for k, v in read_json(like / CONFIG).items() if k != "quantization_config"}
        (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    tensors = {
        name: tensor.detach().to(device="cpu", dtype=dtype or tensor.dtype).contiguous().clone()
        for name, tensor in checkpoint_tensors(decoder)
    }
    write_tensors(tensors, folder / WEIGHTS)


def write_tensors(tensors: dict[str, Tensor], file: Path, *, notes: dict[str, str] | None = None) -> None:
    """Writes a safetensors file. Raises StorageFull, with nothing left behind, when the disk is full."""
    try:
        file.write_bytes(save(tensors, metadata={"format": "pt", **(notes or {})}))
    except OSError as e:
        file.unlink(missing_ok=True)
        if e.errno in DISK_FULL:
            raise StorageFull(f"No space left to write {file}. Free some, and the job goes on.") from e
        raise


def refuse_unsafe(folder: Path) -> None:
    """Raises BadCheckpoint for a folder that holds code or pickles, whether or not they would be read."""
    if not folder.is_dir():
        raise BadCheckpoint(
            f"{folder} is no folder. A base is a Hugging Face folder on the server's machine."
        )
    unsafe = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in UNSAFE_SUFFIXES)
    if unsafe:
        raise BadCheckpoint(
            f"{folder} holds {', '.join(unsafe[:5])}: pickles and Python files can run code when loaded, so such "
            "a folder is refused. Keep only the .safetensors, .json and tokenizer files."
        )


def shard_files(folder: Path) -> list[Path]:
    """The weight files of a folder, all of them present. Raises BadCheckpoint naming a missing one."""
    if (folder / INDEX).is_file():
        mapping = read_json(folder / INDEX).get("weight_map")
        if not isinstance(mapping, dict) or not all(isinstance(v, str) for v in mapping.values()):
            raise BadCheckpoint(f"{folder / INDEX}: weight_map is not a map of tensor to file.")
        names = sorted(set(mapping.values()))
        if any(Path(n).name != n or not n.endswith(".safetensors") for n in names):
            raise BadCheckpoint(
                f"{folder / INDEX}: weight_map names a file outside the folder or of another kind."
            )
    else:
        names = [WEIGHTS]
    for name in names:
        if not (folder / name).is_file():
            raise BadCheckpoint(
                f"{folder / name} is missing, and the model cannot be whole without it. Fetch the folder again."
            )
    return [folder / name for name in names]


def read_header(file: Path) -> dict[str, Any]:
    """A safetensors file's header, its size and tensor count checked before it is parsed."""
    with file.open("rb") as f:
        prefix = f.read(8)
        size = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= size <= MAX_HEADER_BYTES:
            raise BadCheckpoint(f"{file}: not a safetensors file (header of {size} bytes). Fetch it again.")
        try:
            header = json.loads(f.read(size))
        except (ValueError, RecursionError) as e:
            raise BadCheckpoint(f"{file}: its header is damaged ({e}). Fetch it again.") from e
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise BadCheckpoint(f"{file}: its header is no table of at most {MAX_TENSORS} tensors.")
    return header


def file_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file that makes a base answer as it does: configuration, tokenizer, template and weights."""
    found = {}
    for file in [folder / n for n in SIDE_FILES if (folder / n).is_file()] + shard_files(folder):
        with file.open("rb") as f:
            found[file.name] = hashlib.file_digest(f, "sha256").hexdigest()
    return found


def folder_digest(folder: Path) -> str:
    """SHA-256 of all that."""
    return digest_of(file_digests(folder))


def digest_of(files: Mapping[str, str]) -> str:
    """The digest of a folder with these files."""
    told = "".join(f"{name}\0{digest}\n" for name, digest in files.items())
    return hashlib.sha256(told.encode()).hexdigest()


def digests_beside(folder: Path) -> Path:
    """Where it is written down what `file_digests` is of a base that comes with the package: beside it, not in it."""
    return folder.with_name(f"{folder.name}.sha256.json")


def write_digests(folder: Path) -> None:
    """Writes that down: the folder is as it is to be."""
    told = json.dumps(file_digests(folder), indent=2, sort_keys=True) + "\n"
    digests_beside(folder).write_text(told, encoding="utf-8")


def _start_of_numbers(file: Path) -> int:
    with file.open("rb") as f:
        return 8 + int(struct.unpack("<Q", f.read(8))[0])


def _read(file: Path, start: int, about: dict[str, Any]) -> Tensor:
    """A tensor's numbers. Read, not mapped: what is not needed any more is gone at once, and a file that is cut or
    written over later harms nobody."""
    dtype = _TYPES[about["dtype"]]
    first, last = about["data_offsets"]
    numbers = bytearray(last - first)
    with file.open("rb") as f:
        f.seek(start + first)
        if f.readinto(numbers) != len(numbers):
            raise BadCheckpoint(f"{file}: cut short while it was read. Fetch it again.")
    if not numbers:
        return torch.empty(about["shape"], dtype=dtype)
    return torch.frombuffer(numbers, dtype=dtype).view(about["shape"])


class _Tensors:
    """The tensors of all shards; each may be taken once, and none may be left over."""

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        self.folder = folder
        self.names = config.names
        self.files: dict[str, tuple[Path, int, dict[str, Any]]] = {}
        """Full name → its file, where numbers begin there, and what the header says of it"""
        for file in shard_files(folder):
            header = read_header(file)
            try:
                with safe_open(file, framework="pt"):  # it checks types, shapes and places against each other
                    pass
            except (SafetensorError, OSError) as e:
                raise BadCheckpoint(f"{file}: damaged or cut short ({e}). Fetch it again.") from e
            start = _start_of_numbers(file)
            for name, about in header.items():
                if name != "__metadata__":
                    self.files[self._full(name)] = (file, start, about)

    def has(self, name: str) -> bool:
        return name in self.files

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self._take(name, shape)
        if not tensor.is_floating_point():
            raise BadCheckpoint(
                f"{self.folder}: {name} is {tensor.dtype}; quantised checkpoints are not read. Take the one in "
                "bfloat16 or float16."
            )
        return tensor

    def take_mxfp4(
        self, name: str, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
    ) -> Iterator[Tensor]:
        """The matrices of a stack [E, I, O] that lies in 4 bits, as [E, O, I / 32, 16] blocks with a scale each; one
        at a time, for as numbers they take several times their room."""
        count, inputs, outputs = shape
        groups = -(-inputs // 32)
        blocks = self._take(f"{name}_blocks", (count, outputs, groups, 16))
        scales = self._take(f"{name}_scales", (count, outputs, groups))
        if not blocks.dtype == scales.dtype == torch.uint8:
            raise BadCheckpoint(f"{self.folder}: {name} is not in bytes, as MXFP4 is. Fetch it again.")
        for block, scale in zip(blocks, scales, strict=True):
            yield dequantise(block.to(device), scale.to(device), dtype)[..., :inputs].mT

    def _take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in self.files:
            raise BadCheckpoint(f"{self.folder}: tensor {name} is missing, so the model cannot be whole.")
        file, start, about = self.files.pop(name)
        if about["dtype"] not in _TYPES:
            raise BadCheckpoint(
                f"{self.folder}: {name} is {about['dtype']}; such numbers are not read. Take the one in bfloat16 or "
                "float16."
            )
        tensor = _read(file, start, about)
        if tuple(tensor.shape) != shape:
            raise BadCheckpoint(
                f"{self.folder}: {name} has shape {tuple(tensor.shape)}, config.json says {shape}."
            )
        return tensor

    def _full(self, name: str) -> str:
        """The name with the prefix that some checkpoints of a family leave out."""
        prefix = self.names.optional_prefix
        return name if not prefix or name.startswith((prefix, self.names.head)) else prefix + name

    def finish(self, allowed: list[str]) -> None:
        left = [n for n in self.files if n not in allowed and not n.endswith(self.names.ignored)]
        if left:
            raise BadCheckpoint(f"{self.folder}: tensors that no layer takes: {', '.join(sorted(left)[:5])}.")
