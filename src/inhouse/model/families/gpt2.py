"""GPT-2: learned positions, layer norms, and weights that lie as [in, out]."""

from __future__ import annotations

from inhouse.model.config import ModelConfig, Names
from inhouse.model.keys import Keys

_NAMES = Names(
    embedding="transformer.wte",
    positions="transformer.wpe",
    block="transformer.h.{}",
    norm="transformer.ln_f",
    head="lm_head",
    qkv=("attn.c_attn",),
    out="attn.c_proj",
    up=("mlp.c_fc",),
    down="mlp.c_proj",
    attention_norm="ln_1",
    mlp_norm="ln_2",
    is_transposed=True,
    optional_prefix="transformer.",
    ignored=(".attn.bias", ".attn.masked_bias"),
)


def read_gpt2(keys: Keys) -> ModelConfig:
    width, heads = keys.size("n_embd"), keys.size("n_head")
    keys.expect("activation_function", "gelu_new", "gelu_pytorch_tanh")
    keys.expect("scale_attn_weights", True)
    keys.expect("scale_attn_by_inverse_layer_idx", False)
    keys.ignore("n_ctx", "n_special", "predict_special_tokens", "reorder_and_upcast_attn")
    keys.ignore("attn_pdrop", "embd_pdrop", "embedding_dropout", "resid_pdrop")
    keys.ignore(*(name for name in keys.values if name.startswith("summary_")))
    return ModelConfig(
        family="gpt2",
        names=_NAMES,
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
        activation="gelu_tanh",
        is_gated=False,
        eos_ids=keys.eos(),
        norm_kind="layer",
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
    )
