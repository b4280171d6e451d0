"""The operations a model is made of: plain torch references, with gradients where training needs them."""

from inhouse.ops.attention import attend_segments
from inhouse.ops.cross_entropy import chunked_cross_entropy
from inhouse.ops.gate import silu_mul
from inhouse.ops.grouped_lora import Groups, grouped_lora
from inhouse.ops.layout import for_few_rows
from inhouse.ops.lora import lora_linear
from inhouse.ops.norm import rms_norm
from inhouse.ops.rotary import rotate

__all__ = [
    "Groups",
    "attend_segments",
    "chunked_cross_entropy",
    "for_few_rows",
    "grouped_lora",
    "lora_linear",
    "rms_norm",
    "rotate",
    "silu_mul",
]
