"""A checkpoint's shape, read from config.json through a strict schema.

Every key must be one that we act on, one whose value we check, or one known not to matter for the numbers; any
other is refused by name. A checkpoint that is nearly like a known family would otherwise answer nearly right.

A model is described by data: which norms stand where, what turns by which rope, what its tensors are called. No
code behind this asks which family it is; `model.families` says it once, when the config is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inhouse.errors import BadCheckpoint
from inhouse.model.rope import Rope

Activation = Literal["silu", "gelu", "gelu_tanh", "clamped_swiglu"]


@dataclass(frozen=True, slots=True)
class ExpertNames:
    """What a mixture's tensors are called within a block."""

    router: str
    up: tuple[str, ...]
    """Gate and up, or both in one; where experts are apart, {} stands for the expert's number."""
    down: str
    is_stacked: bool = False
    """One tensor [E, I, O] holds the weights of all experts; else each has modules of its own."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a family's checkpoints call their tensors. Names of modules; those of a block are said within it."""

    embedding: str
    block: str
    """{} stands for the block's number."""
    norm: str
    head: str
    qkv: tuple[str, ...]
    """One name, or three."""
    out: str
    up: tuple[str, ...]
    down: str
    positions: str | None = None
    """Learned positions; without them, positions turn."""
    attention_norm: str | None = None
    attention_post_norm: str | None = None
    """After attention, before it is added to the stream."""
    mlp_norm: str | None = None
    mlp_post_norm: str | None = None
    q_norm: str | None = None
    k_norm: str | None = None
    sinks: str | None = None
    experts: ExpertNames | None = None
    is_transposed: bool = False
    """Linear weights lie as [I, O]."""
    optional_prefix: str = ""
    """Some checkpoints leave it out."""
    ignored: tuple[str, ...] = (".rotary_emb.inv_freq",)
    """Ends of names that old checkpoints hold and nothing needs."""


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts in the place of an MLP."""

    count: int
    active: int
    """How many of them a token uses."""
    width: int
    is_normalised: bool
    """Whether the shares of those that a token uses make one."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a decoder. Widths count elements, `context` tokens."""

    family: str
    names: Names
    vocab_size: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    context: int
    norm_eps: float
    tie_embeddings: bool
    activation: Activation
    is_gated: bool = True
    eos_ids: tuple[int, ...] = ()
    embedding_scale: float = 1.0
    logit_cap: float | None = None
    """Logits are bent below it: cap · tanh(logit / cap)."""

    norm_kind: Literal["rms", "layer"] = "rms"
    norm_offset: float = 0.0
    """Added to every norm's weight."""
    norm_is_wide: bool = False
    """Whether norms multiply by their weight in float32, before they round."""
    is_parallel: bool = False
    """The MLP reads what attention reads, and both are added."""

    ropes: tuple[Rope, ...] = ()
    rope_of: tuple[int | None, ...] = ()
    """For each layer, which of `ropes`; None does not turn. Empty: all turn by the first, if there is one."""
    windows: tuple[int | None, ...] = ()
    """Each layer's sliding attention window in tokens. Empty means none."""
    attention_scale: float | None = None
    """What scores are multiplied by; None is one over the root of the head's width."""
    attention_cap: float | None = None
    has_interleaved_qkv: bool = False
    """Query, key and value of a head lie together, in the place of all queries before all keys."""
    qk_norm: Literal["head", "width"] | None = None
    """Queries and keys pass a norm: each head by itself, or all heads as one."""
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False

    experts: Experts | None = None
    has_experts: tuple[bool, ...] = ()
    """Per layer; empty means none."""
    swiglu_alpha: float = 1.702
    swiglu_limit: float = 7.0
    is_mxfp4: bool = False
    """Experts lie in 4 bits, in blocks of 32 with a common scale."""

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of float32 keys and values one token leaves in the cache."""
        return 2 * self.layers * self.kv_heads * self.head_width * 4

    @property
    def rewind_above(self) -> int | None:
        """Tokens above which a sequence turns otherwise in all its places, so that its past must be read again."""
        lengths = [rope.long_above for rope in self.ropes if rope.long_frequencies]
        return lengths[0] if lengths else None

    def window_of(self, layer: int) -> int | None:
        return self.windows[layer] if self.windows else None

    def rope_index(self, layer: int) -> int | None:
        if self.rope_of:
            return self.rope_of[layer]
        return 0 if self.ropes else None

    def experts_of(self, layer: int) -> Experts | None:
        return self.experts if self.has_experts and self.has_experts[layer] else None

    @classmethod
    def load(cls, folder: Path) -> ModelConfig:
        """Reads and checks folder/config.json. Raises BadCheckpoint naming the key and the cure."""
        from inhouse.model.families import read_config  # the families are made of this module's classes

        file = folder / "config.json"
        return read_config(file, read_json(file))


def read_json(file: Path, *, max_bytes: int = 16 * 2**20) -> dict[str, Any]:
    """A JSON object from a checkpoint's file. Raises BadCheckpoint when missing, too large or not an object."""
    if not file.is_file():
        raise BadCheckpoint(f"{file} is missing. A base is a Hugging Face folder that holds {file.name}.")
    if file.stat().st_size > max_bytes:
        raise BadCheckpoint(f"{file} is larger than {max_bytes} bytes, which no {file.name} needs to be.")
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as e:
        raise BadCheckpoint(f"{file} is not valid JSON ({e}). Fetch it again.") from e
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{file} holds a {type(value).__name__} where an object belongs.")
    return value
