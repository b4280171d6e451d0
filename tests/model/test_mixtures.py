"""Mixtures as they are served: laid out while they are read, rounded as dense layers are, and still themselves."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from inhouse.model import weights
from inhouse.model.decoder import Decoder, greedy
from inhouse.model.layers import Mixture
from inhouse.model.weights import load_base
from inhouse.ops.cpu import library
from tests.model.checkpoints import CHECKPOINTS, reference, saved_by_transformers
from tests.model.test_families import PROMPT, TOLERANCE, sequences
from tests.model.test_mxfp4 import packed
from tests.tiny import base_folder

MIXTURES = [name for name in CHECKPOINTS if name.startswith(("qwen3_moe", "gpt_oss"))]
WIDE: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 16, "moe_intermediate_size": 128, "mlp_only_layers": []},
    "gpt_oss": {"num_local_experts": 16, "intermediate_size": 128},
}
"""Wide enough for whole groups and panels; a stack is smaller than a large page of memory, which would be counted."""

has_kernels = pytest.mark.skipif(library.compiler() is None, reason="there is no C++ compiler")


def mixtures(decoder: Decoder) -> list[Mixture]:
    return [block.mlp for block in decoder.blocks if isinstance(block.mlp, Mixture)]


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_laid_out_while_it_is_read_is_still_transformers_own(name: str, tmp_path: Path) -> None:
    folder = saved_by_transformers(tmp_path / "base", name)
    model, decoder = reference(folder), load_base(folder, quantization="none")
    assert all(mixture.up.is_meta and mixture.down.is_meta for mixture in mixtures(decoder))
    with torch.no_grad():
        theirs = torch.cat([model(torch.tensor([tokens])).logits[0] for tokens in sequences()])
        assert (decoder.score(sequences()) - theirs).abs().max() < TOLERANCE
    prompt = PROMPT[:25]
    tokens = model.generate(
        torch.tensor([prompt]), max_new_tokens=32, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, len(prompt) :]
    assert greedy(decoder, prompt, 32) == tokens.tolist()


@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
@pytest.mark.parametrize("name", ["llama", *MIXTURES, "packed"])
def test_laid_out_while_it_is_read_or_later_is_the_same(name: str, quantization: str, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    if name == "packed":
        packed(folder)
    else:
        saved_by_transformers(folder, name)
    at_once, later = load_base(folder, quantization=quantization), load_base(folder)
    later.serve(quantization)
    with torch.no_grad():
        assert torch.equal(at_once.score(sequences()), later.score(sequences()))
    assert at_once.weight_bytes == later.weight_bytes
    assert at_once.parameters == later.parameters


@pytest.mark.parametrize("quantization", ["int8", "int4"])
@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss"])
def test_experts_are_rounded_and_routers_are_not(family: str, quantization: str, tmp_path: Path) -> None:
    plain = load_base(base_folder(tmp_path / "base", family))
    rounded = load_base(tmp_path / "base", quantization=quantization)
    assert mixtures(rounded)
    for mixture in mixtures(rounded):
        assert mixture.served is not None and mixture.router.served is not None
        assert all(quantization in experts.form for experts in mixture.served)
        assert quantization not in mixture.router.served.form
        up, down = mixture.served
        used = (up.nbytes + down.nbytes) * mixture.active // up.count
        assert mixture.weight_bytes == mixture.router.weight_bytes + used
    with torch.no_grad():
        exact, near = plain.score(sequences()), rounded.score(sequences())
    assert 0 < (near - exact).norm() / exact.norm() < (0.1 if quantization == "int8" else 0.6)


def held_bytes(thing: object) -> int:
    """Bytes of all memory behind the tensors that something holds, however deep, each stretch counted once."""
    seen: set[int] = set()
    stretches: dict[int, int] = {}
    waiting = [thing]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            if not one.is_meta:
                storage = one.untyped_storage()
                stretches[storage.data_ptr()] = storage.nbytes()
        elif type(one).__module__.startswith("inhouse.") or isinstance(one, tuple | list | dict):
            waiting += gc.get_referents(one)
    return sum(stretches.values())


def expert_bytes(decoder: Decoder) -> int:
    return sum(held_bytes(mixture) for mixture in mixtures(decoder))


@pytest.mark.parametrize("way", ["while it is read", "later"])
@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss"])
@has_kernels
def test_a_quantised_mixture_takes_the_memory_of_its_bits(family: str, way: str, tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base", family, hidden_size=128, **WIDE[family])
    whole = expert_bytes(load_base(folder, dtype=torch.bfloat16))
    assert whole > 2 * 16 * 3 * 128 * 128 * 2, "not all tensors are found"
    shares = {}
    for quantization in ("none", "int8", "int4"):
        serving = quantization if way == "while it is read" else None
        decoder = load_base(folder, dtype=torch.bfloat16, quantization=serving)
        decoder.serve(quantization)
        shares[quantization] = expert_bytes(decoder) / whole
    # A scale of two bytes for 128 numbers, or for 64; and a router whose few outputs are filled up to a panel.
    for quantization, share in {"none": 1.0, "int8": 0.5 + 1 / 128, "int4": 0.25 + 1 / 64}.items():
        assert share <= shares[quantization] < share + 0.02


@has_kernels
@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
def test_experts_of_4_bits_become_numbers_one_at_a_time(
    quantization: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = packed(tmp_path / "packed")
    given: list[StorageWeakRef] = []
    alive: list[int] = []
    plainly = weights.dequantise

    def noted(*arguments: Any) -> Tensor:
        alive.append(sum(not storage.expired() for storage in given))
        whole = plainly(*arguments)
        given.append(StorageWeakRef(whole.untyped_storage()))
        return whole

    monkeypatch.setattr(weights, "dequantise", noted)
    load_base(folder, dtype=torch.bfloat16, quantization=quantization)
    assert len(given) == 2 * 2 * 5
    assert max(alive) <= 1, "plain experts pile up"
