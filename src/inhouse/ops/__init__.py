"""The operations a model is made of: plain torch references, with gradients where training needs them, and the
kernels beside them, which `registry` chooses among."""

from inhouse.ops import grouped_products, triton
from inhouse.ops.attention import attend_segments
from inhouse.ops.cpu import offered
from inhouse.ops.cross_entropy import chunked_cross_entropy, soft_cap
from inhouse.ops.expert_matrices import HeldExperts, ServedExperts, experts_for_serving
from inhouse.ops.gate import clamped_swiglu, gelu_tanh_mul, silu_mul
from inhouse.ops.grouped_lora import Groups, grouped_lora
from inhouse.ops.lora import lora_linear
from inhouse.ops.matrix import Matrix, for_serving
from inhouse.ops.mixture import choose_experts, mix_experts
from inhouse.ops.norm import add_rms_norm, rms_norm
from inhouse.ops.paged import Past, decode_attention, prefill_attention
from inhouse.ops.registry import Kernel, kernels
from inhouse.ops.rotary import rotate, rotate_and_write
from inhouse.ops.sample import best_tokens
from inhouse.ops.scored import scored_attention
from inhouse.ops.stacked_lora import Stack, prefers_stack, stacked_lora

offered.register()
grouped_products.register()
triton.register()

__all__ = [
    "Groups",
    "HeldExperts",
    "Kernel",
    "Matrix",
    "Past",
    "ServedExperts",
    "Stack",
    "add_rms_norm",
    "attend_segments",
    "best_tokens",
    "choose_experts",
    "chunked_cross_entropy",
    "clamped_swiglu",
    "decode_attention",
    "experts_for_serving",
    "for_serving",
    "gelu_tanh_mul",
    "grouped_lora",
    "kernels",
    "lora_linear",
    "mix_experts",
    "prefers_stack",
    "prefill_attention",
    "rms_norm",
    "rotate",
    "rotate_and_write",
    "scored_attention",
    "silu_mul",
    "soft_cap",
    "stacked_lora",
]
