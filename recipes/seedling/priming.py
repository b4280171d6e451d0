"""First weights that can already say a sequence again: a previous-token head and induction heads, built by hand.

Left to themselves, such heads form after millions of tokens, and reading waits for them. Layer 0 gets heads that
copy the token before into room that the embedding leaves free; layer 1 gets heads that look for a place whose
token before is the current one, and say what stands there. Training is free to change all of it.

Source of the circuit: Elhage and others, "A Mathematical Framework for Transformer Circuits", 2021; Olsson and
others, "In-context Learning and Induction Heads", 2022. The sizes below were found by trying (the README's log).
"""

from __future__ import annotations

import torch
from torch import Tensor

from inhouse.model.decoder import Decoder

EMBEDDING = 0.03
"""Deviation of the embedding's numbers."""
CONSTANT = 4.0
"""Size of the number that every token has in common, in deviations: what positions alone are asked with."""
SHARPNESS = 50.0
"""How firmly layer 0 looks at the token before rather than at its neighbours."""
FAST_PAIRS = 5
"""The rotary pairs that turn fast enough to tell neighbours apart."""
MATCH = 12.0
"""Score of a place that the current token points to; others score about 0, give or take 3."""
BEFORE = 1.5
"""Size of the token before in its room, in deviations."""
SAID = 8.0
"""Size of what the induction heads say, in deviations."""


def prime(decoder: Decoder, seed: int) -> None:
    """Lays the circuit into a fresh rotary decoder of two layers or more, in place."""
    config = decoder.config
    width, head = config.width, config.head_width
    befores = min(2, config.kv_heads, (width - 1) // (2 * head))
    seekers = min(2 * befores, config.kv_heads)
    room = 1 + befores * head
    """Columns that embeddings leave free: the constant's and those for the token before."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        decoder.embedding.copy_(torch.randn(decoder.embedding.shape, generator=chance) * EMBEDDING)
        decoder.embedding[:, 0] = CONSTANT * EMBEDDING
        decoder.embedding[:, 1:room] = 0
        for block in decoder.blocks:
            block.attention.out.weight.zero_()
            block.mlp.down.weight.zero_()
        views = _orthonormal(befores * head, width - room, chance)
        for i in range(befores):
            _look_back(decoder, i, views[i * head : (i + 1) * head], room)
        says = _orthonormal(min(seekers * head, width - room), width - room, chance)
        for i in range(min(seekers, len(says) // head)):
            _seek(decoder, i, views, says[i * head : (i + 1) * head], room)


def _look_back(decoder: Decoder, group: int, view: Tensor, room: int) -> None:
    """A head of layer 0 that writes a view [K, width - room] of the token before into the room."""
    config = decoder.config
    head, half = config.head_width, config.head_width // 2
    size = _size(config.width, room, 0.0)
    query, key, value, out = _head(decoder, 0, group)
    strength = torch.zeros(half)
    strength[:FAST_PAIRS] = SHARPNESS**0.5 * size / CONSTANT
    assert decoder.rotation is not None, "the circuit is made of rotations"
    angles = decoder.rotation.frequencies.float()
    query[:, 0] = torch.cat([strength, torch.zeros(half)])
    key[:, 0] = torch.cat([strength * angles.cos(), strength * angles.sin()])
    value.zero_()
    value[:, room:] = view
    at = 1 + group * head
    out[at : at + head] = torch.eye(head) * BEFORE * EMBEDDING * size


def _seek(decoder: Decoder, group: int, views: Tensor, says: Tensor, room: int) -> None:
    """A head of layer 1 that finds where the token before is the current one, and says the token there."""
    config = decoder.config
    head, half = config.head_width, config.head_width // 2
    size = _size(config.width, room, BEFORE)
    query, key, value, out = _head(decoder, 1, group)
    slow = torch.cat([torch.arange(half // 2, half), torch.arange(half + half // 2, head)])
    first = group * len(slow)
    strength = (MATCH * head**0.5 * size**2 / (BEFORE * len(slow))) ** 0.5
    query[slow, room:] = strength * views[first : first + len(slow)]
    key[slow, 1 + first + torch.arange(len(slow))] = strength
    value.zero_()
    value[:, room:] = says
    out[room:] = says.T * SAID * EMBEDDING * size


def _head(decoder: Decoder, layer: int, group: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, key and value rows [K, D] and output columns [D, K] of a group's first head."""
    config = decoder.config
    head, queries = config.head_width, config.heads * config.head_width
    attention = decoder.blocks[layer].attention
    at = group * (config.heads // config.kv_heads) * head
    keys = queries + group * head
    values = keys + config.kv_heads * head
    weight = attention.qkv.weight
    return (
        weight[at : at + head],
        weight[keys : keys + head],
        weight[values : values + head],
        attention.out.weight[:, at : at + head],
    )


def _size(width: int, room: int, before: float) -> float:
    """Root mean square of the stream in deviations: what the norm divides by."""
    return float(((CONSTANT**2 + (width - room) + (room - 1) * before**2) / width) ** 0.5)


def _orthonormal(rows: int, columns: int, chance: torch.Generator) -> Tensor:
    """Random orthonormal rows, [rows, columns]."""
    return torch.linalg.qr(torch.randn(columns, rows, generator=chance)).Q.T
