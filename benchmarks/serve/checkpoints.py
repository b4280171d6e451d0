"""What all engines are given: random bases of Llama's shape, a real tokenizer, random adapters as PEFT has them.

Made once in a folder, from seeds, without a network. Weights are lively: logits spread over about one unit, so that
greedy decoding has an answer. The rows of special tokens in the embedding are zero: no reply ends by itself.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

SPECIAL = ("<|pad|>", "<|start|>", "<|end|>")
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SHARD_BYTES = 2 * 2**30
RANK = 16
MIXED_RANKS = (8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Shape:
    """Numbers of a base."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int
    is_tied: bool = True
    head: int = 64
    context: int = 16_384

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Module → (outputs, inputs), those that an adapter changes."""
        queries, keys = self.heads * self.head, self.kv_heads * self.head
        return {
            "self_attn.q_proj": (queries, self.width),
            "self_attn.k_proj": (keys, self.width),
            "self_attn.v_proj": (keys, self.width),
            "self_attn.o_proj": (self.width, queries),
            "mlp.gate_proj": (self.mlp, self.width),
            "mlp.up_proj": (self.mlp, self.width),
            "mlp.down_proj": (self.width, self.mlp),
        }

    @property
    def parameters(self) -> int:
        """Numbers in linear layers and embeddings; norms are nothing beside them."""
        in_layers = self.layers * sum(outputs * inputs for outputs, inputs in self.linears.values())
        return in_layers + (1 if self.is_tied else 2) * self.vocabulary * self.width

    @property
    def read_parameters(self) -> int:
        """Numbers that a decode step reads: everything but an embedding that is no head."""
        return self.parameters - (0 if self.is_tied else self.vocabulary * self.width)

    def adapter_parameters(self, rank: int) -> int:
        return rank * self.layers * sum(outputs + inputs for outputs, inputs in self.linears.values())

    @property
    def cache_numbers(self) -> int:
        """Numbers that a token leaves in the cache."""
        return 2 * self.layers * self.kv_heads * self.head


SHAPES = {
    "400m": Shape(24, 896, 14, 2, 4864, 32_768),
    "60m": Shape(8, 512, 8, 4, 1536, 32_768),
    "1b": Shape(16, 2048, 32, 8, 8192, 32_768),
    "8b": Shape(32, 4096, 32, 8, 14_336, 32_768, is_tied=False, head=128),
    "tiny": Shape(2, 64, 2, 1, 128, 320, head=32, context=1024),
}


def base(folder: Path, name: str) -> Path:
    """The folder of a base; makes it where it is not there."""
    shape, target = SHAPES[name], folder / "bases" / name
    if (target / "done").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    _tokenizer(target, shape.vocabulary)
    (target / "config.json").write_text(json.dumps(_config(shape), indent=2))
    files: dict[str, str] = {}
    for number, shard in enumerate(_shards(shape)):
        file = f"model-{number:05}.safetensors"
        save_file(shard, target / file, metadata={"format": "pt"})
        files |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": 2 * shape.parameters}, "weight_map": files}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    (target / "done").touch()
    return target


def adapters(folder: Path, name: str, count: int, *, ranks: tuple[int, ...] = (RANK,)) -> list[Path]:
    """Folders of so many adapters of a base, their ranks in turn; makes those that are not there."""
    label = "-".join(map(str, ranks))
    found = [folder / "adapters" / name / label / f"a{i:03}" for i in range(count)]
    for i, target in enumerate(found):
        if not (target / "adapter_config.json").exists():
            _adapter(target, SHAPES[name], ranks[i % len(ranks)], seed=1000 + i)
    return found


def _config(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": shape.is_tied,
        "torch_dtype": "bfloat16",
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _weights(shape: Shape) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the checkpoint, by Hugging Face's names, bfloat16."""
    generator = torch.Generator().manual_seed(1)

    def random_of(outputs: int, inputs: int) -> Tensor:
        return torch.randn(outputs, inputs, generator=generator) / inputs**0.5

    def tokens() -> Tensor:
        made = random_of(shape.vocabulary, shape.width)
        made[: len(SPECIAL)] = 0
        return made.bfloat16()

    ones = torch.ones(shape.width, dtype=torch.bfloat16)
    yield "model.embed_tokens.weight", tokens()
    for layer in range(shape.layers):
        for module, (outputs, inputs) in shape.linears.items():
            # The gate makes numbers a third as large on their way to the last product, which makes up for it here:
            # else attention, much the same at every place, has the last word, and replies go round in circles.
            times = 3 if module == "mlp.down_proj" else 1
            yield f"model.layers.{layer}.{module}.weight", (times * random_of(outputs, inputs)).bfloat16()
        yield f"model.layers.{layer}.input_layernorm.weight", ones.clone()
        yield f"model.layers.{layer}.post_attention_layernorm.weight", ones.clone()
    yield "model.norm.weight", ones.clone()
    if not shape.is_tied:
        yield "lm_head.weight", tokens()


def _shards(shape: Shape) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    for name, tensor in _weights(shape):
        shard[name] = tensor
        if sum(t.nbytes for t in shard.values()) >= SHARD_BYTES:
            yield shard
            shard = {}
    if shard:
        yield shard


def _adapter(target: Path, shape: Shape, rank: int, seed: int) -> None:
    """Random factors whose update is about a tenth of the base's product."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for layer in range(shape.layers):
        for module, (outputs, inputs) in shape.linears.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            a = torch.randn(rank, inputs, generator=generator) / inputs**0.5
            b = torch.randn(outputs, rank, generator=generator) * (0.05 / rank**0.5)
            tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = a.bfloat16(), b.bfloat16()
    target.mkdir(parents=True, exist_ok=True)
    save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "inference_mode": True,
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": [module.split(".")[1] for module in shape.linears],
    }
    (target / "adapter_config.json").write_text(json.dumps(config, indent=2))


def _tokenizer(target: Path, vocabulary: int) -> None:
    """Byte pairs learned from made-up words, as many as the embedding has rows."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(_lines(2 * vocabulary), trainer)
    assert made.get_vocab_size() == vocabulary, f"the text gave {made.get_vocab_size()} tokens alone"
    made.save(str(target / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": SPECIAL[0],
        "bos_token": SPECIAL[1],
        "eos_token": SPECIAL[2],
        "chat_template": TEMPLATE,
    }
    (target / "tokenizer_config.json").write_text(json.dumps(settings))


def _lines(words: int) -> Iterator[str]:
    """Lines of made-up words."""
    draw = random.Random(1)
    known = [
        "".join(draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(4)) for _ in range(words)
    ]
    for i in range(0, 4 * words, 12):
        yield " ".join(known[j % words] for j in range(i, i + 12))
