"""Where a base's router is found: made once and kept, never taken from another base, made again when it is damaged."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from inhouse.errors import BadCheckpoint
from inhouse.memory.encoder import WordTable
from inhouse.memory.learn import LearnSettings, Progress
from inhouse.memory.router import Router
from inhouse.memory.router_store import SHIPPED, open_router
from inhouse.model.decoder import Decoder
from inhouse.model.locate import EMBEDDED, locate
from inhouse.model.weights import load_base
from inhouse.text.tokenizer import Tokenizer
from tests.memory.conftest import fact

pytestmark = pytest.mark.timeout(600)  # the first test that needs a router makes it

BASE, OTHER = "b" * 64, "c" * 64
LEAST = LearnSettings(steps=2, more_steps=1, questions_a_step=16, banks=1, middle_asks=1)
"""As little as makes a router at all."""


@pytest.fixture(scope="module")
def base() -> tuple[Decoder, Tokenizer]:
    folder = locate("seedling", EMBEDDED)
    return load_base(folder, device=torch.device("cpu"), dtype=torch.float32), Tokenizer.load(folder)


@pytest.fixture(scope="module")
def first(
    base: tuple[Decoder, Tokenizer], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Router, int]:
    """A router that was made because there was none: its file, itself, and how often progress was told."""
    folder, told = tmp_path_factory.mktemp("routers") / "not there yet", list[Progress]()
    router = open_router(*base, BASE, folder, progress=told.append, settings=LEAST)
    return folder / f"{BASE}.safetensors", router, len(told)


def nothing(progress: Progress) -> None:
    raise AssertionError("a router was made where one was there")


@pytest.fixture
def kept(first: tuple[Path, Router, int], tmp_path: Path) -> Path:
    return Path(shutil.copy(first[0], tmp_path))


def test_a_router_is_made_once_and_kept(
    base: tuple[Decoder, Tokenizer], first: tuple[Path, Router, int]
) -> None:
    file, made, told = first
    assert told == LEAST.steps + LEAST.banks + LEAST.more_steps + 1
    assert [f.name for f in file.parent.iterdir()] == [file.name]
    again = open_router(*base, BASE, file.parent, progress=nothing)
    assert (again.high, again.low, again.about) == (made.high, made.low, made.about)
    for one, other in ((made.gate, again.gate), (made.encoder.tensors, again.encoder.tensors)):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_was_just_made_answers_as_what_is_read_later(
    kept: Path, words: WordTable, first: tuple[Path, Router, int]
) -> None:
    later, question = Router.read(kept, words, BASE), [("who", "runs", "it")]
    assert np.array_equal(later.encoder.keys(question), first[1].encoder.keys(question))
    index = later.index()
    index.put([fact("f", "Who runs it?", "Ann")])
    assert len(index) == 1


def test_a_damaged_router_is_made_again_with_the_same_bytes(
    base: tuple[Decoder, Tokenizer], kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING):
        open_router(*base, BASE, kept.parent, settings=LEAST)
    assert "made again" in caplog.text
    assert without_times(kept) == without_times_of(whole, kept.parent / "whole")


def without_times(file: Path) -> tuple[object, dict[str, bytes]]:
    """All that a file holds, but for the seconds that making it took."""
    with safe_open(file, framework="pt") as opened:
        notes = json.loads(opened.metadata()["router"])
        tensors = {name: opened.get_tensor(name).numpy().tobytes() for name in opened.keys()}  # noqa: SIM118
    del notes["about"]["cpu_seconds"]
    notes["about"]["curve"] = [
        {k: v for k, v in at.items() if k != "seconds"} for at in notes["about"]["curve"]
    ]
    return notes, tensors


def without_times_of(content: bytes, file: Path) -> tuple[object, dict[str, bytes]]:
    file.write_bytes(content)
    return without_times(file)


def test_another_base_s_router_is_refused(kept: Path, words: WordTable) -> None:
    assert Router.read(kept, words, BASE)
    with pytest.raises(BadCheckpoint, match="another base's router"):
        Router.read(kept, words, OTHER)


def test_a_router_of_another_release_is_refused(
    kept: Path, words: WordTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.memory.router.FORM", 999)  # what a later release will say of itself
    with pytest.raises(BadCheckpoint, match="another release"):
        Router.read(kept, words, BASE)


@pytest.mark.parametrize("content", [b"", b"not a router", b"\xff" * 64])
def test_a_file_that_is_no_router_is_refused(tmp_path: Path, words: WordTable, content: bytes) -> None:
    file = tmp_path / "router.safetensors"
    file.write_bytes(content)
    with pytest.raises(BadCheckpoint, match="Delete it"):
        Router.read(file, words, BASE)
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        Router.read(tmp_path / "nowhere", words, BASE)


def test_a_router_without_a_part_is_refused(kept: Path, words: WordTable) -> None:
    with safe_open(kept, framework="pt") as opened:
        notes = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    del tensors["anchors"]
    save_file(tensors, kept, metadata=notes)
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        Router.read(kept, words, BASE)


def test_the_router_that_a_base_came_with_is_taken_first(
    base: tuple[Decoder, Tokenizer], kept: Path, first: tuple[Path, Router, int], tmp_path: Path
) -> None:
    shipped = tmp_path / "base" / SHIPPED
    replace(first[1], high=0.123).write(shipped, BASE)
    found = open_router(*base, BASE, kept.parent, base_folder=shipped.parent, progress=nothing)
    assert found.high == 0.123
    replace(first[1], high=0.123).write(shipped, OTHER)
    found = open_router(*base, BASE, kept.parent, base_folder=shipped.parent, progress=nothing)
    assert found.high == first[1].high and shipped.is_file(), "another base's is passed over and left alone"


def test_a_write_that_fails_leaves_what_was_there(
    kept: Path, first: tuple[Path, Router, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept.read_bytes()

    def full(*args: object, **kwargs: object) -> int:
        raise OSError("no space")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space"):
        first[1].write(kept, BASE)
    assert kept.read_bytes() == before and list(kept.parent.iterdir()) == [kept]


def test_two_that_write_at_once_do_not_write_into_each_other(
    kept: Path, first: tuple[Path, Router, int], words: WordTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes, depth = Path.write_bytes, 0

    def interrupted(file: Path, content: bytes) -> int:
        nonlocal depth
        depth += 1
        if depth == 1:  # another process makes the same router, start to end, while this one writes
            first[1].write(kept, BASE)
        return write_bytes(file, content)

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    first[1].write(kept, BASE)
    assert depth == 2 and Router.read(kept, words, BASE).high == first[1].high
    assert list(kept.parent.iterdir()) == [kept]
