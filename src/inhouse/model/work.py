"""How many floating-point operations training a model takes.

Counted are the matrix products that the mathematics asks for, forward and backward. Not counted: norms and other
small work, the optimiser's, what is computed twice to save memory, and scores that a mask throws away.
"""

from __future__ import annotations

from collections.abc import Sequence

from inhouse.model.adapters import TrainedLora
from inhouse.model.decoder import Decoder
from inhouse.model.layers import Attention, Mixture, Mlp


def training_operations(
    decoder: Decoder, lora: TrainedLora | None, lengths: Sequence[int], loss_tokens: int
) -> float:
    """For one pass, forward and backward, over segments of these lengths of which `loss_tokens` carry loss.

    About 6 for each token and number of a matrix in full training. With LoRA 4, for a frozen matrix has no
    gradient of its own, and 6 for the numbers of the adapter. The head works where there is loss alone.
    """
    tokens = sum(lengths)
    products = 3 if lora is None else 2  # forward, the input's gradient, and the weight's unless it is frozen
    numbers = sum(_attention_numbers(block.attention) + _mlp_numbers(block.mlp) for block in decoder.blocks)
    total = 2.0 * products * tokens * numbers
    total += 2.0 * products * loss_tokens * decoder.head.numel()
    if lora is not None:
        total += 2.0 * 3 * tokens * sum(factor.numel() for _, factor in lora.named_tensors())
        # Nothing below the first layers is trained, so their input needs no gradient.
        block = decoder.blocks[0]
        firsts = [block.attention.qkv, *(block.mlp.linears()[:1] if block.is_parallel else ())]
        spared = sum(linear.weight.numel() for linear in firsts)
        spared += sum(lora.factors[part.name][0].numel() for linear in firsts for part in linear.parts)
        total -= 2.0 * tokens * spared
    for block in decoder.blocks:
        attention = block.attention
        seen = sum(_pairs(length, attention.window) for length in lengths)
        total += 2.0 * 2 * 3 * attention.heads * attention.head_width * seen  # scores and mixing, thrice each
    return total


def _attention_numbers(attention: Attention) -> int:
    return attention.qkv.weight.numel() + attention.out.weight.numel()


def _mlp_numbers(mlp: Mlp | Mixture) -> float:
    """Numbers of matrices that a token is multiplied by; in a mixture the router's and those of its experts."""
    if isinstance(mlp, Mlp):
        return mlp.up.weight.numel() + mlp.down.weight.numel()
    experts = (mlp.up.numel() + mlp.down.numel()) / len(mlp.up)
    return mlp.router.weight.numel() + mlp.active * experts


def _pairs(length: int, window: int | None) -> int:
    """How many (query, key) pairs of a segment see each other."""
    near = length if window is None else min(length, window)
    return near * (near + 1) // 2 + (length - near) * near
