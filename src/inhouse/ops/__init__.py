"""The operations a model is made of: plain torch references, with gradients where training needs them."""

from inhouse.ops.attention import attend_segments
from inhouse.ops.cross_entropy import chunked_cross_entropy, soft_cap
from inhouse.ops.gate import clamped_swiglu, gelu_tanh_mul, silu_mul
from inhouse.ops.grouped_lora import Groups, grouped_lora
from inhouse.ops.layout import for_few_rows
from inhouse.ops.lora import lora_linear
from inhouse.ops.mixture import choose_experts, mix_experts
from inhouse.ops.norm import rms_norm
from inhouse.ops.rotary import rotate
from inhouse.ops.scored import scored_attention

__all__ = [
    "Groups",
    "attend_segments",
    "choose_experts",
    "chunked_cross_entropy",
    "clamped_swiglu",
    "for_few_rows",
    "gelu_tanh_mul",
    "grouped_lora",
    "lora_linear",
    "mix_experts",
    "rms_norm",
    "rotate",
    "scored_attention",
    "silu_mul",
    "soft_cap",
]
