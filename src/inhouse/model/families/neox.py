"""GPT-NeoX and Pythia: attention and MLP side by side, layer norms, and a quarter of each head that turns."""

from __future__ import annotations

from inhouse.model.config import Activation, ModelConfig, Names
from inhouse.model.keys import Keys
from inhouse.model.rope import rope_of

_NAMES = Names(
    embedding="gpt_neox.embed_in",
    block="gpt_neox.layers.{}",
    norm="gpt_neox.final_layer_norm",
    head="embed_out",
    qkv=("attention.query_key_value",),
    out="attention.dense",
    up=("mlp.dense_h_to_4h",),
    down="mlp.dense_4h_to_h",
    attention_norm="input_layernorm",
    mlp_norm="post_attention_layernorm",
    ignored=(".attention.bias", ".attention.masked_bias", ".attention.rotary_emb.inv_freq"),
)
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def read_neox(keys: Keys) -> ModelConfig:
    width, heads = keys.size("hidden_size"), keys.size("num_attention_heads")
    keys.expect("hidden_act", *_ACTIVATIONS)
    keys.expect("rope_scaling", None)
    keys.ignore("attention_probs_dropout_prob", "hidden_dropout_prob", "hidden_dropout")
    context, has_bias = keys.size("max_position_embeddings"), keys.get("attention_bias", bool, True)
    rope = rope_of(
        keys,
        keys.get("rope_parameters", dict, {}),
        head_width=width // heads,
        context=context,
        theta=keys.get("rotary_emb_base", float, 10_000.0),
        share=keys.get("rotary_pct", float, 0.25),
    )
    return ModelConfig(
        family="gpt_neox",
        names=_NAMES,
        vocab_size=keys.size("vocab_size"),
        width=width,
        layers=keys.size("num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_width=width // heads,
        mlp_width=keys.size("intermediate_size"),
        context=context,
        norm_eps=keys.get("layer_norm_eps", float, 1e-5),
        tie_embeddings=keys.get("tie_word_embeddings", bool, False),
        activation=_ACTIVATIONS[keys.values.get("hidden_act", "gelu")],
        is_gated=False,
        eos_ids=keys.eos(),
        norm_kind="layer",
        is_parallel=keys.get("use_parallel_residual", bool, True),
        ropes=(rope,),
        has_interleaved_qkv=True,
        qkv_bias=has_bias,
        out_bias=has_bias,
        mlp_bias=True,
    )
