"""A fact's expert as the bank keeps it: one blob of safetensors, checked against the base before it is used.

It knows bytes and the base's layers; where blobs lie is the bank's matter. The blob holds `<module>.lora_A.weight`
[R, in] and `<module>.lora_B.weight` [out, R], float32 or bfloat16, and the metadata rank, alpha, base_digest, fact
and version: the one it was trained for. It may serve later ones that changed nothing of what it says; which, the
bank knows. An expert that does not fit in every tensor is refused with the list, as adapters are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from inhouse.errors import BadCheckpoint
from inhouse.model.adapters import Adapter
from inhouse.model.decoder import Decoder

PREFIX = "expert:"
MOST_FAULTS = 8
"""Faults that a refusal lists; more are counted."""


def key_of(fact: str, version: int) -> str:
    """What an expert is called in slots. It names the version, so that an edited fact's old expert is another."""
    return f"{PREFIX}{fact}:{version}"


def is_key(key: str) -> bool:
    return key.startswith(PREFIX)


def fact_of(key: str) -> tuple[str, int]:
    """(fact, version) of an expert's key."""
    fact, _, version = key.removeprefix(PREFIX).rpartition(":")
    return fact, int(version)


def read(key: str, blob: bytes, decoder: Decoder, base_digest: str) -> Adapter:
    """The expert, as an adapter. Raises BadCheckpoint saying all that does not fit."""
    fact, version = fact_of(key)
    name = f"The expert of fact {fact}, version {version},"
    try:
        tensors, notes = load(blob), _notes(blob)
    except (SafetensorError, ValueError, KeyError) as e:
        raise BadCheckpoint(
            f"{name} is not readable ({type(e).__name__}). Make the facts' experts again."
        ) from e
    if notes.get("base_digest") != base_digest:
        raise BadCheckpoint(
            f"{name} was trained on base {str(notes.get('base_digest'))[:12]}, this is base {base_digest[:12]}. "
            "Make the facts' experts again."
        )
    rank, faults = _number(notes, "rank"), []
    alpha = _number(notes, "alpha")
    if notes.get("fact") != fact or not 1 <= _number(notes, "version") <= version:
        faults.append(f"it says it is of fact {notes.get('fact')}, version {notes.get('version')}")
    if rank < 1 or rank != int(rank) or not 0 < alpha < float("inf"):
        faults.append(f"rank {notes.get('rank')!r} and alpha {notes.get('alpha')!r} are no rank and scale")
        rank = 1
    pairs = _pairs(tensors, decoder, int(rank), faults)
    if faults:
        more = f" (and {len(faults) - MOST_FAULTS} more)" if len(faults) > MOST_FAULTS else ""
        raise BadCheckpoint(f"{name} does not fit its base: {'; '.join(faults[:MOST_FAULTS])}{more}.")
    return Adapter(int(rank), alpha, pairs, dict(notes))


def _pairs(
    tensors: dict[str, Tensor], decoder: Decoder, rank: int, faults: list[str]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Each module's A and B, float32; what does not fit is added to `faults`."""
    left, found = dict(tensors), {}
    parts = ((linear, part) for linear in decoder.linears() for part in linear.parts)
    for linear, part in parts:
        a = left.pop(f"{part.name}.lora_A.weight", None)
        b = left.pop(f"{part.name}.lora_B.weight", None)
        shapes = (rank, linear.weight.shape[1]), (part.stop - part.start, rank)
        if a is None and b is None:
            continue  # an expert may leave modules alone
        if a is None or b is None:
            faults.append(f"{part.name}: only one of lora_A and lora_B is there")
        elif (tuple(a.shape), tuple(b.shape)) != shapes:
            faults.append(
                f"{part.name}: shapes {tuple(a.shape)} and {tuple(b.shape)}, wanted are {shapes[0]} and {shapes[1]}"
            )
        elif not (torch.isfinite(a).all() and torch.isfinite(b).all()):
            faults.append(f"{part.name}: it holds NaN or infinity")
        else:
            found[part.name] = (a.float(), b.float())
    faults += [f"{name}: the base has no such layer" for name in sorted(left)]
    if not found and not faults:
        faults.append("it holds no tensors")
    return found


def _notes(blob: bytes) -> Mapping[str, str]:
    """The metadata of a safetensors blob: its header is JSON behind eight bytes of length."""
    length = int.from_bytes(blob[:8], "little")
    notes: Mapping[str, str] = json.loads(blob[8 : 8 + length])["__metadata__"]
    return notes


def _number(notes: Mapping[str, str], name: str) -> float:
    """A number of the metadata; 0 where there is none."""
    try:
        return float(notes.get(name, ""))
    except ValueError:
        return 0.0
