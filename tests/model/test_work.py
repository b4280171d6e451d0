"""What we count as a step's work is what torch is seen to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from inhouse.data.examples import Example
from inhouse.data.pack import pack
from inhouse.model.adapters import TrainedLora
from inhouse.model.decoder import Decoder
from inhouse.model.weights import load_base
from inhouse.model.work import training_operations
from inhouse.tune.loss import supervised
from tests.tiny import CONFIGS, base_folder


def counted(decoder: Decoder, lora: TrainedLora | None, examples: list[Example]) -> int:
    """By torch, with attention as plain products. Those are of whole squares, masked scores included."""
    for _, tensor in (lora or decoder).named_tensors():
        tensor.requires_grad_()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        supervised(decoder, lora, pack(examples), 1.0)[0].backward()
    return int(counter.get_total_flops())


def reckoned(decoder: Decoder, lora: TrainedLora | None, examples: list[Example]) -> float:
    lengths = [len(e.ids) for e in examples]
    return training_operations(decoder, lora, lengths, sum(e.loss_tokens for e in examples))


def example(length: int, trained: int) -> Example:
    return Example(tuple(range(3, 3 + length)), tuple(i >= length - trained for i in range(length)))


@pytest.mark.parametrize("family", sorted(CONFIGS))
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_steps_operations_are_those_that_torch_counts(method: str, family: str, tmp_path: Path) -> None:
    decoder = load_base(base_folder(tmp_path / "base", family))
    lora = TrainedLora(decoder, rank=4, alpha=8.0, seed=0) if method == "lora" else None
    examples = [example(8, 8), example(8, 3), example(8, 1)]
    hidden_by_masks = sum(
        12 * block.attention.heads * block.attention.head_width * (8 * 8 - 8 * 9 // 2)
        for block in decoder.blocks
        for _ in examples
    )
    assert reckoned(decoder, lora, examples) + hidden_by_masks == pytest.approx(
        counted(decoder, lora, examples), rel=0.01
    )


def test_attention_grows_with_the_square_of_a_segment_unless_a_window_bounds_it(tmp_path: Path) -> None:
    def of_attention(family: str, length: int) -> float:
        decoder = load_base(base_folder(tmp_path / family, family))
        apart = reckoned(decoder, None, [example(1, 0)] * length)
        return reckoned(decoder, None, [example(length, 0)]) - apart

    assert of_attention("llama", 200) == pytest.approx(4 * of_attention("llama", 100), rel=0.01)
    assert of_attention("mistral", 200) == pytest.approx(2 * of_attention("mistral", 100), rel=0.05)


def test_a_prompt_costs_no_head(tmp_path: Path) -> None:
    decoder = load_base(base_folder(tmp_path / "base"))
    spared = reckoned(decoder, None, [example(9, 8)]) - reckoned(decoder, None, [example(9, 1)])
    assert spared == 6 * 7 * decoder.head.numel()
