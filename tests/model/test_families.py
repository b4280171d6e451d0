"""Our decoder is each family's model: the same logits and the same greedy tokens as transformers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import inhouse
from inhouse.model.config import ModelConfig
from inhouse.model.decoder import greedy
from inhouse.model.families import FAMILIES
from inhouse.model.weights import load_base, save_base
from tests.model.checkpoints import CHECKPOINTS, reference, saved_by_transformers
from tests.tiny import CONFIGS, base_folder

TOLERANCE = 1e-4
PROMPT = list(b"a company should own its language models")


def sequences() -> list[list[int]]:
    """Of unequal length: some within the shortest trained context here, and some longer."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 259, (n,), generator=generator).tolist() for n in (20, 1, 33, 100, 32)]


@pytest.mark.parametrize("as_published", [True, False], ids=["published", "saved"])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_logits_of_a_packed_stream_equal_transformers(name: str, as_published: bool, tmp_path: Path) -> None:
    folder = saved_by_transformers(tmp_path / "base", name, as_published=as_published)
    model = reference(folder)
    with torch.no_grad():
        theirs = torch.cat([model(torch.tensor([tokens])).logits[0] for tokens in sequences()])
        ours = load_base(folder).score(sequences())
    assert theirs.abs().max() > 1, "weights too tame to show a difference"
    assert (ours - theirs).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_greedy_tokens_equal_transformers(name: str, tmp_path: Path) -> None:
    folder = saved_by_transformers(tmp_path / "base", name)
    model = reference(folder)
    prompt = PROMPT[:25]  # generation crosses the shortest trained context
    theirs = model.generate(
        torch.tensor([prompt]), max_new_tokens=32, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, len(prompt) :]
    assert greedy(load_base(folder), prompt, 32) == theirs.tolist()


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_saved_base_loads_to_the_same_logits_here_and_in_transformers(name: str, tmp_path: Path) -> None:
    folder = saved_by_transformers(tmp_path / "base", name)
    decoder = load_base(folder)
    save_base(decoder, tmp_path / "copy", like=folder)
    with torch.no_grad():
        expected = decoder.score([PROMPT])
        assert torch.equal(load_base(tmp_path / "copy").score([PROMPT]), expected)
        theirs = reference(tmp_path / "copy")(torch.tensor([PROMPT])).logits[0]
    assert (expected - theirs).abs().max() < TOLERANCE


def test_every_family_is_among_the_checkpoints() -> None:
    assert {config["model_type"] for config in CHECKPOINTS.values()} == set(FAMILIES)
    assert {config["model_type"] for config in CONFIGS.values()} == set(FAMILIES)


def named_families(root: Path) -> list[str]:
    """Where workshop code outside model/families asks for a family: its name in quotes, or the config's field."""
    asked = re.compile(r"\bconfig\.family\b|['\"](?:" + "|".join(map(re.escape, FAMILIES)) + r")['\"]")
    return [
        f"{file.relative_to(root)}: {line.strip()}"
        for floor in ("model", "ops", "engine", "tune", "worker", "data", "memory")
        for file in (root / floor).rglob("*.py")
        if file.parent.name != "families"
        for line in file.read_text(encoding="utf-8").splitlines()
        if asked.search(line)
    ]


def test_no_code_behind_the_config_names_a_family(tmp_path: Path) -> None:
    assert named_families(Path(inhouse.__path__[0])) == []
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "decoder.py").write_text('if config.family == "phi3":\n    pass\n')
    assert named_families(tmp_path) == ['model/decoder.py: if config.family == "phi3":'], "the control"


@pytest.mark.parametrize(
    ("name", "neutral"),
    [
        ("llama tied, llama3 rope", {"ropes": "llama"}),
        ("qwen2 tied, yarn", {"ropes": "qwen2"}),
        ("qwen2 with windows", {"windows": ()}),
        ("qwen3_moe", {"experts": "unnormalised"}),
        ("gemma2", {"attention_cap": None}),
        ("gemma2", {"logit_cap": None}),
        ("gemma2", {"attention_scale": None}),
        ("gemma2", {"embedding_scale": 1.0}),
        ("gemma2", {"norm_offset": 0.0}),
        ("gemma2", {"windows": ()}),
        ("gemma3", {"rope_of": (0, 0, 0)}),
        ("phi3 longrope", {"ropes": "phi3"}),
        ("pythia", {"is_parallel": False}),
        ("pythia", {"has_interleaved_qkv": False}),
        ("pythia", {"activation": "gelu_tanh"}),
        ("gpt_oss", {"swiglu_limit": 7.0}),
        ("gpt_oss", {"windows": ()}),
        ("gpt_oss", {"ropes": "plain"}),
        ("smollm3", {"rope_of": ()}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_no_option_of_these_checkpoints_is_without_effect(
    name: str, neutral: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the comparisons above: without the option they would fail."""
    folder = saved_by_transformers(tmp_path / "base", name)
    config = ModelConfig.load(folder)
    ((field, value),) = neutral.items()
    if field == "ropes":
        theta = {"llama": 500000.0, "qwen2": 1000000.0, "phi3": 10000.0, "plain": 150000.0}[value]
        plain = tuple(theta ** (-2 * i / config.head_width) for i in range(config.head_width // 2))
        value = (replace(config.ropes[0], frequencies=plain, size=1.0, long_frequencies=()),)
    if field == "experts":
        assert config.experts is not None
        value = replace(config.experts, is_normalised=False)
    changed = replace(config, **{field: value})
    with torch.no_grad():
        expected = load_base(folder).score(sequences())
        monkeypatch.setattr(ModelConfig, "load", lambda _: changed)
        without = load_base(folder).score(sequences())
    assert (expected - without).abs().max() > 10 * TOLERANCE


@pytest.mark.parametrize(
    "name",
    ["llama", "qwen3_moe", "gemma2", "gemma3", "phi3 longrope", "pythia", "gpt_oss", "olmo2", "smollm3"],
)
def test_bfloat16_stays_near_float32(name: str, tmp_path: Path) -> None:
    folder = saved_by_transformers(tmp_path / "base", name)
    with torch.no_grad():
        exact = load_base(folder).score(sequences())
        rounded = load_base(folder, dtype=torch.bfloat16).score(sequences())
    assert (exact - rounded).abs().mean() < 0.05 * exact.abs().mean()


def test_tensors_that_old_checkpoints_hold_and_nobody_needs_are_passed_over(tmp_path: Path) -> None:
    folder = saved_by_transformers(tmp_path / "base", "pythia")
    tensors = load_file(folder / "model.safetensors")
    for i in range(2):
        attention = f"gpt_neox.layers.{i}.attention"
        tensors[f"{attention}.bias"] = torch.ones(1, 1, 256, 256).tril().bool()
        tensors[f"{attention}.masked_bias"] = torch.tensor(-1e9)
        tensors[f"{attention}.rotary_emb.inv_freq"] = torch.ones(2)
    with torch.no_grad():
        before = load_base(folder).score([PROMPT])
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        assert torch.equal(load_base(folder).score([PROMPT]), before)


def test_names_without_the_model_s_own_prefix_are_the_same_tensors(tmp_path: Path) -> None:
    """So lie the tensors of the GPT-2 that OpenAI published, with masks beside them."""
    folder = saved_by_transformers(tmp_path / "base", "gpt2")
    tensors = load_file(folder / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    for i in range(2):
        tensors[f"h.{i}.attn.bias"] = torch.ones(1, 1, 256, 256).tril()
    with torch.no_grad():
        before = load_base(folder).score([PROMPT])
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        assert torch.equal(load_base(folder).score([PROMPT]), before)


@pytest.mark.parametrize("old", ["su", "yarn"])
def test_longrope_is_known_by_the_names_that_it_had_first(old: str, tmp_path: Path) -> None:
    """transformers itself no longer reads these."""
    table = {**CHECKPOINTS["phi3 longrope"]["rope_scaling"], "type": old}
    del table["rope_type"]
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder, rope in zip(folders, (table, {**table, "type": "longrope"}), strict=True):
        folder.mkdir()
        values = {**CHECKPOINTS["phi3 longrope"], "rope_scaling": rope}
        (folder / "config.json").write_text(json.dumps(values))
    before, now = (ModelConfig.load(folder) for folder in folders)
    assert before == now and now.ropes[0].long_frequencies


@pytest.mark.parametrize("family", CONFIGS)
def test_a_stream_of_segments_equals_each_alone(family: str, tmp_path: Path) -> None:
    decoder = load_base(base_folder(tmp_path / "base", family))
    texts = [list(b"short"), list(b"a somewhat longer one"), list(b"x")]
    with torch.no_grad():
        together = decoder.score(texts)
        alone = torch.cat([decoder.score([t]) for t in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_sharded_weights_load_like_whole_ones(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base")
    reference(folder).save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").is_file()
    with torch.no_grad():
        whole, shards = load_base(folder).score([PROMPT]), load_base(tmp_path / "shards").score([PROMPT])
    assert torch.equal(whole, shards)
