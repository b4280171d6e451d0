"""Our decoder is each family's model: the same logits and the same greedy tokens as transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from inhouse.model.decoder import greedy
from inhouse.model.weights import load_base, save_base
from tests.tiny import CONFIGS, base_folder

TOLERANCE = 1e-4
PROMPT = list(b"a company should own its language models")


def reference(folder: Path) -> transformers.PreTrainedModel:
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()


@pytest.mark.parametrize("family", CONFIGS)
def test_logits_equal_transformers(family: str, tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base", family)
    tokens = torch.randint(3, 259, (100,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.no_grad():
        theirs = reference(folder)(torch.tensor([tokens])).logits[0]
        ours = load_base(folder).score([tokens])
    assert theirs.abs().max() > 1, "weights too tame to show a difference"
    assert (ours - theirs).abs().max() < TOLERANCE


@pytest.mark.parametrize("family", CONFIGS)
def test_greedy_tokens_equal_transformers(family: str, tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base", family)
    model = reference(folder)
    theirs = model.generate(
        torch.tensor([PROMPT]), max_new_tokens=32, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, len(PROMPT) :]
    assert greedy(load_base(folder), PROMPT, 32) == theirs.tolist()


@pytest.mark.parametrize("family", CONFIGS)
def test_a_stream_of_segments_equals_each_alone(family: str, tmp_path: Path) -> None:
    decoder = load_base(base_folder(tmp_path / "base", family))
    texts = [list(b"short"), list(b"a somewhat longer one"), list(b"x")]
    with torch.no_grad():
        together = decoder.score(texts)
        alone = torch.cat([decoder.score([t]) for t in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", CONFIGS)
def test_a_saved_base_loads_to_the_same_logits_here_and_in_transformers(family: str, tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base", family)
    decoder = load_base(folder)
    save_base(decoder, tmp_path / "copy", like=folder)
    with torch.no_grad():
        expected = decoder.score([PROMPT])
        assert torch.equal(load_base(tmp_path / "copy").score([PROMPT]), expected)
        theirs = reference(tmp_path / "copy")(torch.tensor([PROMPT])).logits[0]
    assert (expected - theirs).abs().max() < TOLERANCE


def test_sharded_weights_load_like_whole_ones(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base")
    reference(folder).save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert (tmp_path / "shards" / "model.safetensors.index.json").is_file()
    with torch.no_grad():
        whole, shards = load_base(folder).score([PROMPT]), load_base(tmp_path / "shards").score([PROMPT])
    assert torch.equal(whole, shards)
