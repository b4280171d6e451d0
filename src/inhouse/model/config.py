"""A checkpoint's shape, read from config.json through a strict schema.

Every key must be one that we act on, one whose value we check, or one known not to matter for the numbers; any
other is refused by name. A checkpoint that is nearly like a known family would otherwise answer nearly right.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from inhouse.errors import BadCheckpoint

Family = Literal["llama", "mistral", "qwen2", "qwen3", "gpt2"]
FAMILIES: tuple[Family, ...] = ("llama", "mistral", "qwen2", "qwen3", "gpt2")

_WITHOUT_EFFECT = frozenset(
    [
        "_attn_implementation_autoset",
        "_name_or_path",
        "_num_labels",
        "_commit_hash",
        "architectures",
        "attention_dropout",
        "attn_pdrop",
        "bos_token_id",
        "chunk_size_feed_forward",
        "classifier_dropout",
        "decoder_start_token_id",
        "dtype",
        "embd_pdrop",
        "embedding_dropout",
        "id2label",
        "initializer_range",
        "is_llama_config",
        "keys_to_ignore_at_inference",
        "label2id",
        "max_window_layers",
        "n_special",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "predict_special_tokens",
        "problem_type",
        "resid_pdrop",
        "return_dict",
        "sep_token_id",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
        "task_specific_params",
        "tokenizer_class",
        "torch_dtype",
        "transformers_version",
        "transformers.js_config",
        "unk_token_id",
        "use_cache",
    ]
)
_MUST_BE = {
    "pretraining_tp": (1,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False, True),
    "partial_rotary_factor": (1.0,),
    "rope_interleaved": (False,),
    "quantization_config": (None,),
}


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched for long contexts."""

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a decoder. Widths count elements, `context` tokens."""

    family: Family
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
    eos_ids: tuple[int, ...] = ()
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    window: int | None = None
    """Sliding attention window in tokens, where `windowed` says so."""
    windowed: tuple[bool, ...] = ()
    """Per layer; empty means none."""
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False

    @property
    def is_gpt2(self) -> bool:
        return self.family == "gpt2"

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of float32 keys and values one token leaves in the cache."""
        return 2 * self.layers * self.kv_heads * self.head_width * 4

    def window_of(self, layer: int) -> int | None:
        return self.window if self.windowed and self.windowed[layer] else None

    @classmethod
    def load(cls, folder: Path) -> ModelConfig:
        """Reads and checks folder/config.json. Raises BadCheckpoint naming the key and the cure."""
        return _parse(_Keys(folder / "config.json", read_json(folder / "config.json")))


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


class _Keys:
    """Hands out config values and remembers which were asked for."""

    def __init__(self, file: Path, values: dict[str, Any]) -> None:
        self.file = file
        self.values = values
        self.used: set[str] = set()

    def get(self, name: str, kind: type, default: Any = ...) -> Any:
        self.used.add(name)
        value = self.values.get(name)
        if value is None:
            if default is ...:
                raise BadCheckpoint(f"{self.file}: {name} is missing.")
            return default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise BadCheckpoint(f"{self.file}: {name} = {value!r} is not a {kind.__name__}.")
        return value

    def size(self, name: str, default: Any = ...) -> int:
        value = int(self.get(name, int, default))
        if not 0 < value <= 2**31:
            raise BadCheckpoint(f"{self.file}: {name} = {value} is out of range.")
        return value

    def expect(self, name: str, *allowed: Any) -> None:
        self.used.add(name)
        if name in self.values and self.values[name] not in allowed:
            wanted = " or ".join(map(repr, allowed))
            raise BadCheckpoint(
                f"{self.file}: {name} = {self.values[name]!r} is not supported; only {wanted}."
            )

    def finish(self) -> None:
        for name, allowed in _MUST_BE.items():
            self.expect(name, *allowed)
        unknown = sorted(set(self.values) - self.used - _WITHOUT_EFFECT)
        if unknown:
            raise BadCheckpoint(
                f"{self.file}: unknown keys {', '.join(unknown)}. They may change the model's numbers, so it is "
                "not served on a guess. If they have no effect, remove them."
            )


def _parse(keys: _Keys) -> ModelConfig:
    if "auto_map" in keys.values:
        raise BadCheckpoint(
            f"{keys.file}: auto_map asks for code of the checkpoint's own, which is never run."
        )
    family = keys.get("model_type", str)
    if family not in FAMILIES:
        raise BadCheckpoint(
            f"{keys.file}: model_type {family!r} is not a supported family. Supported: {', '.join(FAMILIES)}."
        )
    config = _parse_gpt2(keys) if family == "gpt2" else _parse_llama_like(keys, family)
    keys.finish()
    if config.heads % config.kv_heads:
        raise BadCheckpoint(
            f"{keys.file}: {config.heads} heads cannot share {config.kv_heads} key-value heads."
        )
    return config


def _parse_llama_like(keys: _Keys, family: Family) -> ModelConfig:
    width, heads, layers = (keys.size(n) for n in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    keys.expect("hidden_act", "silu")
    theta, scaling = _rope(keys)
    qwen = family in ("qwen2", "qwen3")
    attention_bias = keys.get("attention_bias", bool, False)
    config = ModelConfig(
        family=family,
        vocab_size=keys.size("vocab_size"),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=keys.size("num_key_value_heads", heads),
        head_width=keys.size("head_dim", 128 if family == "qwen3" else width // heads),
        mlp_width=keys.size("intermediate_size"),
        context=keys.size("max_position_embeddings"),
        norm_eps=keys.get("rms_norm_eps", float, 1e-6),
        tie_embeddings=keys.get("tie_word_embeddings", bool, False),
        eos_ids=_eos(keys),
        rope_theta=theta,
        rope_scaling=scaling,
        qkv_bias=attention_bias or family == "qwen2",
        out_bias=attention_bias and family != "qwen2",
        mlp_bias=keys.get("mlp_bias", bool, False) if family == "llama" else False,
        qk_norm=family == "qwen3",
    )
    window = keys.get("sliding_window", int, None)
    if qwen and not keys.get("use_sliding_window", bool, False):
        window = None
    kinds = keys.get("layer_types", list, None)
    if window is None or family == "llama":
        if kinds is not None and set(kinds) - {"full_attention"}:
            raise BadCheckpoint(f"{keys.file}: layer_types {sorted(set(kinds))} without a sliding window.")
        return config
    if kinds is None:
        first = keys.get("max_window_layers", int, 0) if qwen else 0
        kinds = ["sliding_attention" if i >= first else "full_attention" for i in range(layers)]
    if len(kinds) != layers or set(kinds) - {"sliding_attention", "full_attention"}:
        raise BadCheckpoint(
            f"{keys.file}: layer_types does not name one known kind for each of {layers} layers."
        )
    return replace(config, window=window, windowed=tuple(kind == "sliding_attention" for kind in kinds))


def _parse_gpt2(keys: _Keys) -> ModelConfig:
    width, heads = keys.size("n_embd"), keys.size("n_head")
    keys.expect("activation_function", "gelu_new", "gelu_pytorch_tanh")
    keys.get("n_ctx", int, None)
    return ModelConfig(
        family="gpt2",
        vocab_size=keys.size("vocab_size"),
        width=width,
        layers=keys.size("n_layer"),
        heads=heads,
        kv_heads=heads,
        head_width=width // heads,
        mlp_width=keys.size("n_inner", 4 * width),
        context=keys.size("n_positions"),
        norm_eps=keys.get("layer_norm_epsilon", float, 1e-5),
        tie_embeddings=keys.get("tie_word_embeddings", bool, True),
        eos_ids=_eos(keys),
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
    )


def _rope(keys: _Keys) -> tuple[float, RopeScaling | None]:
    """Theta and scaling from either spelling: rope_parameters, or rope_theta with rope_scaling."""
    values = keys.get("rope_parameters", dict, None) or {}
    theta = float(keys.get("rope_theta", float, values.get("rope_theta", 10_000.0)))
    values = {**values, **(keys.get("rope_scaling", dict, None) or {})}
    kind = values.get("rope_type", values.get("type", "default"))
    if kind == "default":
        return theta, None
    try:
        if kind == "linear":
            return theta, RopeScaling("linear", float(values["factor"]))
        if kind == "llama3":
            return theta, RopeScaling(
                "llama3",
                float(values["factor"]),
                float(values["low_freq_factor"]),
                float(values["high_freq_factor"]),
                int(values["original_max_position_embeddings"]),
            )
    except (KeyError, TypeError, ValueError) as e:
        raise BadCheckpoint(f"{keys.file}: rope type {kind!r} lacks a usable {e}.") from e
    raise BadCheckpoint(f"{keys.file}: rope type {kind!r} is not supported; only default, linear and llama3.")


def _eos(keys: _Keys) -> tuple[int, ...]:
    keys.used.add("eos_token_id")
    value = keys.values.get("eos_token_id")
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(i, int) and i >= 0 for i in ids):
        raise BadCheckpoint(
            f"{keys.file}: eos_token_id = {value!r} is neither a token id nor a list of them."
        )
    return tuple(ids)


def rope_frequencies(config: ModelConfig) -> list[float]:
    """Angle a position for each of the head_width / 2 pairs, stretched as the checkpoint asks.

    Source of the llama3 rule: the Llama 3.1 reference code, as documented with its rope_scaling keys.
    """
    half = config.head_width // 2
    plain = [config.rope_theta ** (-2 * i / config.head_width) for i in range(half)]
    scaling = config.rope_scaling
    if scaling is None:
        return plain
    if scaling.kind == "linear":
        return [f / scaling.factor for f in plain]
    low = scaling.original_context / scaling.low_freq_factor
    high = scaling.original_context / scaling.high_freq_factor
    stretched = []
    for f in plain:
        wavelength = 2 * math.pi / f
        if wavelength < high:
            stretched.append(f)
        elif wavelength > low:
            stretched.append(f / scaling.factor)
        else:
            blend = (scaling.original_context / wavelength - scaling.low_freq_factor) / (
                scaling.high_freq_factor - scaling.low_freq_factor
            )
            stretched.append((1 - blend) * f / scaling.factor + blend * f)
    return stretched
