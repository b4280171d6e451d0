"""llama.cpp through its C interface, batches put together by hand. Run in an environment of its own.

It applies an adapter to a whole context, so requests of different adapters run one adapter after the other.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy
from wire import Absent, Answer, Ask, Order, Watch, in_batches, serve

KINDS = {"bf16": None, "int8": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "int4": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


class LlamaCpp:
    """A model, a context, and the adapters that were asked for so far."""

    def __init__(self, order: Order) -> None:
        if order["precision"] not in KINDS:
            raise Absent(f"there is no conversion to {order['precision']}")
        self.scratch = Path(order["scratch"])
        self.base = Path(order["base"])
        self.quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        file = _quantised(self.base, self.scratch, order["precision"])
        self.model = llama_cpp.llama_model_load_from_file(
            str(file).encode(), llama_cpp.llama_model_default_params()
        )
        if not self.model:
            raise Absent(f"llama.cpp does not load {file.name}")
        params = llama_cpp.llama_context_default_params()
        self.running = order.get("max_running", 32)
        # A context is cut into as many parts as there are sequences, unless they share it.
        params.n_ctx = max(2 * order["context"] + 8192, self.running * 256)
        params.n_batch, params.n_ubatch = 4096, 512
        params.n_seq_max = self.running
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = order.get("threads", 1)
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise Absent("llama.cpp makes no context of that size")
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(4096, 0, 1)
        self.adapters: dict[str, Any] = {}

    def run(self, asks: list[Ask], order: Order) -> Answer:
        if any(ask.schema for ask in asks):
            raise Absent("structured output is not measured here")
        tokens: list[list[int]] = [[] for _ in asks]
        has_adapters = any(ask.adapter for ask in asks)
        watch = Watch(len(asks))
        for places in in_batches(asks, {**order, "max_running": self.running, "alone": has_adapters}):
            if has_adapters:
                self._use(asks[places[0]].adapter)
            self._together(asks, places, watch, tokens)
        watch.stop()
        if has_adapters:
            self._use(None)
        return Answer(tokens, watch)

    def _together(self, asks: list[Ask], places: list[int], watch: Watch, tokens: list[list[int]]) -> None:
        memory = llama_cpp.llama_get_memory(self.context)
        llama_cpp.llama_memory_clear(memory, True)
        stream = [(asks[i].prompt[p], p, s, p == len(asks[i].prompt) - 1)
                  for s, i in enumerate(places) for p in range(len(asks[i].prompt))]  # fmt: skip
        for step in range(asks[places[0]].new):
            drawn: dict[int, int] = {}
            for start in range(0, len(stream), 4096):
                drawn |= self._decode(stream[start : start + 4096])
            for sequence, i in enumerate(places):
                watch.token(i)
                tokens[i].append(drawn[sequence])
            watch.step()
            stream = [(drawn[s], len(asks[i].prompt) + step, s, True) for s, i in enumerate(places)]

    def _decode(self, stream: list[tuple[int, int, int, bool]]) -> dict[int, int]:
        """Sequence → its likeliest next token, for those whose logits are asked for."""
        batch = self.batch
        batch.n_tokens = len(stream)
        for i, (token, position, sequence, is_last) in enumerate(stream):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = is_last
        code = llama_cpp.llama_decode(self.context, batch)
        if code:
            raise Absent(f"llama_decode returned {code}")
        drawn = {}
        for i, (_, _, sequence, is_last) in enumerate(stream):
            if is_last:
                row = llama_cpp.llama_get_logits_ith(self.context, i)
                drawn[sequence] = int(numpy.ctypeslib.as_array(row, (self.vocabulary,)).argmax())
        return drawn

    def _use(self, folder: str | None) -> None:
        """Applies an adapter to the context, or none."""
        if folder is not None and folder not in self.adapters:
            file = _adapter(Path(folder), self.base, self.scratch)
            self.adapters[folder] = llama_cpp.llama_adapter_lora_init(self.model, str(file).encode())
            if not self.adapters[folder]:
                raise Absent(f"llama.cpp does not load the adapter {Path(folder).name}")
        chosen = [self.adapters[folder]] if folder is not None else []
        count = len(chosen)
        handles = (llama_cpp.llama_adapter_lora_p_ctypes * max(1, count))(*chosen)
        scales = (ctypes.c_float * max(1, count))(*[1.0] * count)
        llama_cpp.llama_set_adapters_lora(self.context, handles, count, scales)


def _quantised(base: Path, scratch: Path, precision: str) -> Path:
    """The base as one GGUF file of a precision, made where it is not there."""
    plain = scratch / f"{base.name}-bf16.gguf"
    if not plain.is_file():
        scratch.mkdir(parents=True, exist_ok=True)
        _convert(base, plain)
    kind = KINDS[precision]
    if kind is None:
        return plain
    target = scratch / f"{base.name}-{precision}.gguf"
    if not target.is_file():
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype, params.nthread, params.pure = kind, 1, True
        if llama_cpp.llama_model_quantize(str(plain).encode(), str(target).encode(), ctypes.byref(params)):
            target.unlink(missing_ok=True)
            raise Absent(f"llama.cpp does not quantise to {precision}")
    return target


def _convert(base: Path, target: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    made = gguf.GGUFWriter(target.with_suffix(".part"), "llama")
    made.add_context_length(config["max_position_embeddings"])
    made.add_embedding_length(config["hidden_size"])
    made.add_block_count(config["num_hidden_layers"])
    made.add_feed_forward_length(config["intermediate_size"])
    made.add_head_count(config["num_attention_heads"])
    made.add_head_count_kv(config["num_key_value_heads"])
    made.add_key_length(config["head_dim"])
    made.add_value_length(config["head_dim"])
    made.add_rope_dimension_count(config["head_dim"])
    made.add_rope_freq_base(config["rope_theta"])
    made.add_layer_norm_rms_eps(config["rms_norm_eps"])
    made.add_vocab_size(config["vocab_size"])
    made.add_tokenizer_model("none")
    for name, tensor in _tensors(base):
        _, _, inner = name.partition("layers.")
        layer, _, module = inner.removesuffix(".weight").partition(".")
        if module:
            heads = {"self_attn.q_proj": "num_attention_heads", "self_attn.k_proj": "num_key_value_heads"}
            if module in heads:
                tensor = _interleaved(tensor, config[heads[module]])
            name = f"blk.{layer}.{NAMES[module]}.weight"
        else:
            name = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                    "lm_head.weight": "output.weight"}[name]  # fmt: skip
        if tensor.ndim == 1:
            made.add_tensor(name, tensor)
        else:
            packed = (tensor.view(numpy.uint32) >> 16).astype(
                numpy.uint16
            )  # bfloat16 is float32's upper half
            made.add_tensor(name, packed.view(numpy.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    target.with_suffix(".part").rename(target)


def _adapter(folder: Path, base: Path, scratch: Path) -> Path:
    """A PEFT adapter as a GGUF file, made where it is not there."""
    target = scratch / f"{base.name}-{folder.parent.name}-{folder.name}.gguf"
    if target.is_file():
        return target
    config = json.loads((base / "config.json").read_text())
    settings = json.loads((folder / "adapter_config.json").read_text())
    made = gguf.GGUFWriter(target.with_suffix(".part"), "llama")
    made.add_type("adapter")
    made.add_string("adapter.type", "lora")
    made.add_float32("adapter.lora.alpha", float(settings["lora_alpha"]))
    for name, tensor in _tensors(folder):
        inner = name.partition("layers.")[2]
        layer, _, rest = inner.partition(".")
        module, _, factor = rest.removesuffix(".weight").rpartition(".")
        heads = {"self_attn.q_proj": "num_attention_heads", "self_attn.k_proj": "num_key_value_heads"}
        if factor == "lora_B" and module in heads:
            tensor = _interleaved(tensor, config[heads[module]])
        made.add_tensor(f"blk.{layer}.{NAMES[module]}.weight.{factor.lower()}", tensor)
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    target.with_suffix(".part").rename(target)
    return target


def _interleaved(tensor: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Rows of each head in the order that llama.cpp rotates them in: pairs side by side, not half against half."""
    rows, width = tensor.shape
    return numpy.ascontiguousarray(
        tensor.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)
    )


def _tensors(folder: Path) -> Any:
    """Name and float32 array of every tensor; read as bytes, since numpy has no bfloat16."""
    for file in sorted(folder.glob("*.safetensors")):
        raw = file.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        for name, entry in json.loads(raw[8 : 8 + size]).items():
            if name == "__metadata__":
                continue
            begin, end = (8 + size + at for at in entry["data_offsets"])
            halves = numpy.frombuffer(raw[begin:end], dtype=numpy.uint16)
            if entry["dtype"] != "BF16":
                raise Absent(f"{name} is {entry['dtype']}; bfloat16 is converted")
            yield name, (halves.astype(numpy.uint32) << 16).view(numpy.float32).reshape(entry["shape"])


if __name__ == "__main__":
    serve(LlamaCpp)
