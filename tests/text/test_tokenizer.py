"""The bytes behind tokens, for every kind of vocabulary that bases come with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from inhouse.errors import BadCheckpoint
from inhouse.text.tokenizer import Tokenizer
from tests.tiny import base_folder, write_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(base_folder(tmp_path_factory.mktemp("base")))


@given(text=st.text())
def test_any_text_comes_back_whole(text: str, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(text, special=False)
    assert all(not tokenizer.is_special(i) for i in ids) or "<|" in text
    if "<|" not in text:
        assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
        assert tokenizer.decode(ids) == text


def test_special_tokens_add_nothing_to_the_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a<|end|>b")
    assert [tokenizer.is_special(i) for i in ids] == [False, True, False]
    assert tokenizer.decode(ids) == "ab"
    assert tokenizer.token_text(ids[1]) == "<|end|>"


def test_ids_beyond_the_vocabulary_are_empty(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_bytes(10**6) == b""


def test_the_end_is_read_from_every_place_that_may_name_it(tmp_path: Path) -> None:
    folder = base_folder(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 1]}))
    assert Tokenizer.load(folder).eos_ids == {1, 2}


def test_sentencepiece_style_vocabularies_are_read(tmp_path: Path) -> None:
    vocabulary = {"<unk>": 0, "<0xE2>": 1, "▁a": 2, "b": 3, "▁": 4, "a": 5}
    inner = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=[("▁", "a")], unk_token="<unk>", byte_fallback=True)
    )
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback()])
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    assert [tokenizer.token_bytes(i) for i in (1, 2, 3)] == [b"\xe2", b" a", b"b"]


def test_a_folder_without_a_fast_tokenizer_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="save_pretrained"):
        Tokenizer.load(tmp_path)


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)
