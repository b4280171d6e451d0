"""Our LoRA is PEFT's: the same gradients, the same folder, the same logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from inhouse.data.examples import Example
from inhouse.data.pack import pack
from inhouse.errors import BadCheckpoint
from inhouse.model.adapters import Adapter, LoadedLora, TrainedLora
from inhouse.model.build import checkpoint_tensors
from inhouse.model.decoder import Decoder
from inhouse.model.weights import load_base
from inhouse.tune.loss import supervised
from tests.tiny import CONFIGS, base_folder

TOKENS = list(b"who signs off travel?  Ines does")
TRAINED = [False] * 23 + [True] * (len(TOKENS) - 23)


def trained_adapter(decoder: Decoder, *, seed: int = 0, rank: int = 4) -> TrainedLora:
    """An adapter that changes something: B is zero at birth, so it is filled here."""
    lora = TrainedLora(decoder, rank=rank, alpha=2.0 * rank, seed=seed)
    generator = torch.Generator().manual_seed(seed + 100)
    for _, b in lora.factors.values():
        b.data.copy_(torch.randn(b.shape, generator=generator) * 0.1)
    return lora


def in_peft(base: Path, adapter: Path) -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, attn_implementation="eager", dtype=torch.float32
    )
    return peft.PeftModel.from_pretrained(model, adapter, is_trainable=True)


def as_in_checkpoints(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Where transformers holds a tensor otherwise than its checkpoints do: one head's name, and experts in one."""
    named = {}
    for name, tensor in tensors.items():
        if name.endswith(".experts.gate_up_proj") and f"{name}_bias" not in tensors:
            for i, expert in enumerate(tensor):
                prefix = name.replace("gate_up_proj", str(i))
                named[f"{prefix}.gate_proj.weight"], named[f"{prefix}.up_proj.weight"] = expert.chunk(2)
        elif name.endswith(".experts.down_proj") and f"{name}_bias" not in tensors:
            for i, expert in enumerate(tensor):
                named[f"{name.replace('down_proj', str(i))}.down_proj.weight"] = expert
        elif name == "lm_head.weight" and any(n.startswith("gpt_neox.") for n in tensors):
            named["embed_out.weight"] = tensor
        else:
            named[name] = tensor
    return named


@pytest.mark.parametrize("family", CONFIGS)
def test_peft_loads_our_adapter_to_the_same_logits(family: str, tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", family)
    decoder = load_base(base)
    lora = trained_adapter(decoder)
    lora.adapter().write(tmp_path / "adapter", decoder.config, base="base")
    with torch.no_grad():
        theirs = in_peft(base, tmp_path / "adapter").eval()(torch.tensor([TOKENS])).logits[0]
        ours = decoder.score([TOKENS], LoadedLora(Adapter.read(tmp_path / "adapter", decoder), decoder))
        without = decoder.score([TOKENS])
    assert (ours - without).abs().max() > 0.1, "the adapter changes nothing"
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("family", CONFIGS)
def test_gradients_equal_pefts_for_every_tensor(family: str, tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", family)
    decoder = load_base(base)
    lora = trained_adapter(decoder)
    lora.adapter().write(tmp_path / "adapter", decoder.config, base="base")
    batch = pack([Example(tuple(TOKENS), tuple(TRAINED))])
    ours, _, _ = supervised(decoder, lora, batch, 1 / sum(TRAINED))
    ours.backward()

    model = in_peft(base, tmp_path / "adapter")
    logits = model(torch.tensor([TOKENS])).logits[0]
    labels = torch.tensor([t if on else -100 for t, on in zip(TOKENS, TRAINED, strict=True)])
    theirs = F.cross_entropy(logits[:-1], labels[1:])
    theirs.backward()

    assert abs(float(ours.detach()) - float(theirs.detach())) < 1e-5
    gradients = {n.replace(".default", ""): p.grad for n, p in model.named_parameters() if p.grad is not None}
    compared = 0
    for name, pair in lora.factors.items():
        for letter, factor in zip("AB", pair, strict=True):
            other = gradients[f"base_model.model.{name}.lora_{letter}.weight"]
            assert factor.grad is not None
            cosine = F.cosine_similarity(factor.grad.flatten(), other.flatten(), dim=0)
            assert cosine > 0.9999, f"{name} {letter}: {cosine}"
            torch.testing.assert_close(factor.grad, other, rtol=1e-3, atol=1e-6)
            compared += 1
    assert compared == len(gradients), "PEFT trains tensors that we do not"


@pytest.mark.parametrize("family", CONFIGS)
def test_an_adapter_written_by_peft_loads_here(family: str, tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", family)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, attn_implementation="eager", dtype=torch.float32
    )
    first = sorted(
        {part.name.rsplit(".", 1)[1] for linear in load_base(base).linears() for part in linear.parts}
    )
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=first[::2],  # some of them, to be right with what an adapter leaves alone
        init_lora_weights=False,
        fan_in_fan_out=family == "gpt2",
    )
    theirs = peft.get_peft_model(model, config).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    decoder = load_base(base)
    adapter = Adapter.read(tmp_path / "adapter", decoder)
    assert adapter.rank == 3
    with torch.no_grad():
        expected = theirs(torch.tensor([TOKENS])).logits[0]
        assert (decoder.score([TOKENS], LoadedLora(adapter, decoder)) - expected).abs().max() < 1e-4


def test_an_adapter_of_experts_is_refused_with_the_list(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", "qwen3_moe")
    decoder = load_base(base)
    adapter = trained_adapter(decoder).adapter()
    expert = "model.layers.1.mlp.experts.3.gate_proj"
    adapter.tensors[expert] = (torch.ones(4, 32), torch.ones(24, 4))
    adapter.write(tmp_path / "adapter", decoder.config, base="base")
    with pytest.raises(BadCheckpoint, match=r"experts\.3\.gate_proj.*experts are not adapted"):
        Adapter.read(tmp_path / "adapter", decoder)


def test_an_adapter_that_peft_made_of_experts_is_refused_with_the_list(tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", "gpt_oss")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, attn_implementation="eager", dtype=torch.float32
    )
    config = peft.LoraConfig(
        r=3, target_modules=["q_proj"], target_parameters=["mlp.experts.down_proj"], lora_dropout=0.0
    )
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(BadCheckpoint, match=r"mlp\.experts\.down_proj.*attention's layers alone"):
        Adapter.read(tmp_path / "adapter", load_base(base))


OPTIONS: dict[str, dict[str, Any]] = {
    "rslora": {"use_rslora": True},
    "rank by module": {"rank_pattern": {"down_proj": 5, "layers.0.self_attn.q_proj": 1}},
    "alpha by module": {"alpha_pattern": {r"layers\.1\..*": 20}},
    "all": {
        "use_rslora": True,
        "rank_pattern": {"q_proj": 6},
        "alpha_pattern": {"q_proj": 3, "down_proj": 9},
    },
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_ranks_and_scales_by_module_mean_what_they_mean_to_peft(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    base = base_folder(tmp_path / "base")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, attn_implementation="eager", dtype=torch.float32
    )
    modules = ["q_proj", "down_proj", "up_proj"]
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=modules, init_lora_weights=False, **options)
    theirs = peft.get_peft_model(model, config).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    decoder = load_base(base)
    adapter = Adapter.read(tmp_path / "adapter", decoder)
    with torch.no_grad():
        expected = theirs(torch.tensor([TOKENS])).logits[0]
        ours = decoder.score([TOKENS], LoadedLora(adapter, decoder))
        flat = Adapter(adapter.rank, adapter.alpha, adapter.tensors, {})
        without = decoder.score([TOKENS], LoadedLora(flat, decoder))
    assert (ours - expected).abs().max() < 1e-4
    if options.keys() != {"rank_pattern"} or adapter.scales:
        assert (without - expected).abs().max() > 1e-3, "the control: the options change nothing"
    adapter.write(tmp_path / "again", decoder.config, base="base")
    again = Adapter.read(tmp_path / "again", decoder)
    assert again.tensors.keys() == adapter.tensors.keys()
    for name in adapter.tensors:
        assert again.scale_of(name) == pytest.approx(adapter.scale_of(name))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rank_pattern", {"q_proj": 0}, "no such number"),
        ("rank_pattern", {"q_proj": 2}, r"q_proj: shapes \(4, 32\)"),
        ("alpha_pattern", {"q_proj": "8"}, "no such number"),
        ("alpha_pattern", {"(q": 8}, "no pattern"),
        ("alpha_pattern", {"(.*)*x": 8}, "one repetition is the most"),
    ],
)
def test_a_pattern_that_does_not_fit_is_refused(tmp_path: Path, key: str, value: Any, message: str) -> None:
    decoder = load_base(base_folder(tmp_path / "base"))
    folder = tmp_path / "adapter"
    trained_adapter(decoder).adapter().write(folder, decoder.config, base="base")
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**settings, key: value}))
    with pytest.raises(BadCheckpoint, match=message):
        Adapter.read(folder, decoder)


def test_an_adapter_of_another_base_is_refused_with_the_list(tmp_path: Path) -> None:
    small = load_base(base_folder(tmp_path / "small"))
    large = load_base(base_folder(tmp_path / "large", intermediate_size=64))
    trained_adapter(small).adapter().write(tmp_path / "adapter", small.config, base="small")
    with pytest.raises(BadCheckpoint, match=r"mlp\.gate_proj: shapes .* and 4 more|mlp\.gate_proj: shapes"):
        Adapter.read(tmp_path / "adapter", large)


def test_an_adapter_of_another_family_is_refused_and_never_ignored(tmp_path: Path) -> None:
    llama = load_base(base_folder(tmp_path / "llama"))
    gpt2 = load_base(base_folder(tmp_path / "gpt2", "gpt2"))
    trained_adapter(llama).adapter().write(tmp_path / "adapter", llama.config, base="llama")
    with pytest.raises(BadCheckpoint, match="the base has no such layer"):
        Adapter.read(tmp_path / "adapter", gpt2)


def test_an_adapter_begins_as_the_base_itself(tmp_path: Path) -> None:
    decoder = load_base(base_folder(tmp_path / "base"))
    fresh = TrainedLora(decoder, rank=4, alpha=8.0, seed=0)
    with torch.no_grad():
        assert torch.equal(decoder.score([TOKENS], fresh), decoder.score([TOKENS]))


def test_loss_of_a_packed_stream_equals_the_mean_over_its_examples(tmp_path: Path) -> None:
    decoder = load_base(base_folder(tmp_path / "base"))
    examples = [Example(tuple(TOKENS[:n]), tuple([False] * (n - 4) + [True] * 4)) for n in (9, 30, 17)]
    together, per_token, _ = supervised(decoder, None, pack(examples), 1 / 12)
    alone = [supervised(decoder, None, pack([e]), 1 / 4)[0] for e in examples]
    assert torch.isclose(together, torch.stack(alone).mean(), atol=1e-5)
    assert len(per_token) == 12


def test_recomputing_blocks_gives_the_same_gradients(tmp_path: Path) -> None:
    decoder = load_base(base_folder(tmp_path / "base"))
    batch = pack([Example(tuple(TOKENS), tuple(TRAINED))])
    gradients = []
    for recompute in (False, True):
        decoder.recompute = recompute
        lora = trained_adapter(decoder)
        supervised(decoder, lora, batch, 1.0)[0].backward()
        gradients.append([f.grad for pair in lora.factors.values() for f in pair])
    for plain, again in zip(*gradients, strict=True):
        assert plain is not None and again is not None and torch.equal(plain, again)


@pytest.mark.parametrize("family", CONFIGS)
def test_full_gradients_equal_transformers_for_every_tensor(family: str, tmp_path: Path) -> None:
    base = base_folder(tmp_path / "base", family)
    decoder = load_base(base)
    for _, tensor in decoder.named_tensors():
        tensor.requires_grad_()
    supervised(decoder, None, pack([Example(tuple(TOKENS), tuple(TRAINED))]), 1 / sum(TRAINED))[0].backward()
    for _, tensor in decoder.named_tensors():
        assert tensor.grad is not None
        tensor.data = tensor.grad  # so that the gradients go out under the checkpoint's names

    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, attn_implementation="eager", dtype=torch.float32
    )
    labels = torch.tensor([t if on else -100 for t, on in zip(TOKENS, TRAINED, strict=True)])
    F.cross_entropy(model(torch.tensor([TOKENS])).logits[0][:-1], labels[1:]).backward()
    theirs = as_in_checkpoints({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    ours = dict(checkpoint_tensors(decoder))
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(
            ours[name].detach(), gradient, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
