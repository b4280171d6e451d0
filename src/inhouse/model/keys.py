"""The keys of a config.json, handed out one by one, so that none is overlooked.

It knows names and types of values; what they mean for a model is known by `model.families`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inhouse.errors import BadCheckpoint

_WITHOUT_EFFECT = frozenset(
    [
        "_attn_implementation_autoset",
        "_name_or_path",
        "_num_labels",
        "_commit_hash",
        "architectures",
        "attention_dropout",
        "bos_token_id",
        "cache_implementation",
        "chunk_size_feed_forward",
        "classifier_dropout",
        "decoder_start_token_id",
        "dtype",
        "id2label",
        "initializer_range",
        "is_decoder",
        "is_llama_config",
        "keys_to_ignore_at_inference",
        "label2id",
        "max_window_layers",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "problem_type",
        "return_dict",
        "sep_token_id",
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
    "partial_rotary_factor": (1.0,),
    "rope_interleaved": (False,),
    "quantization_config": (None,),
}


class Keys:
    """Hands out config values and remembers which were asked for."""

    def __init__(self, file: Path, values: dict[str, Any]) -> None:
        self.file = file
        self.values = values
        self.used: set[str] = set()

    def get(self, name: str, kind: type, default: Any = ...) -> Any:
        """The value of a key, of the kind that it must have. A key without a default must be there."""
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
        """A count of something of which there is at least one."""
        value = int(self.get(name, int, default))
        if not 0 < value <= 2**31:
            raise BadCheckpoint(f"{self.file}: {name} = {value} is out of range.")
        return value

    def expect(self, name: str, *allowed: Any) -> None:
        """A key that we know for a few values only. Absent is fine."""
        if name in self.used:
            return
        self.used.add(name)
        if name in self.values and self.values[name] not in allowed:
            wanted = " or ".join(map(repr, allowed))
            raise BadCheckpoint(
                f"{self.file}: {name} = {self.values[name]!r} is not supported; only {wanted}."
            )

    def ignore(self, *names: str) -> None:
        """Keys that have no effect on this family's numbers."""
        self.used.update(names)

    def eos(self) -> tuple[int, ...]:
        """The token or tokens that end a text."""
        self.used.add("eos_token_id")
        value = self.values.get("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(i, int) and i >= 0 for i in ids):
            raise BadCheckpoint(
                f"{self.file}: eos_token_id = {value!r} is neither a token id nor a list of them."
            )
        return tuple(ids)

    def windows(self, layers: int, window: int | None, otherwise: list[bool]) -> tuple[int | None, ...]:
        """Each layer's sliding window, by layer_types, or by `otherwise` where the checkpoint does not say."""
        kinds = self.get("layer_types", list, None)
        if kinds is None:
            kinds = ["sliding_attention" if is_windowed else "full_attention" for is_windowed in otherwise]
        if len(kinds) != layers or not all(k in ("sliding_attention", "full_attention") for k in kinds):
            raise BadCheckpoint(
                f"{self.file}: layer_types does not name one known kind for each of {layers} layers."
            )
        if window is None and "sliding_attention" in kinds:
            raise BadCheckpoint(
                f"{self.file}: layer_types asks for sliding_attention without a sliding window."
            )
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)

    def finish(self) -> None:
        """Raises BadCheckpoint for what nobody asked for, unless it is known not to matter."""
        for name, allowed in _MUST_BE.items():
            self.expect(name, *allowed)
        unknown = sorted(set(self.values) - self.used - _WITHOUT_EFFECT)
        if unknown:
            raise BadCheckpoint(
                f"{self.file}: unknown keys {', '.join(unknown)}. They may change the model's numbers, so it is "
                "not served on a guess. If they have no effect, remove them."
            )
