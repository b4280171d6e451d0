"""Where the compiled kernels come from: built once, built anew when damaged, and never from another user's hand."""

from __future__ import annotations

import gc
import logging
import mmap
import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from inhouse.ops.cpu import compile as compiling
from inhouse.ops.cpu import library, memory
from inhouse.ops.cpu.memory import ALIGNMENT, CHUNK, LARGE, on_large_pages

pytestmark = pytest.mark.skipif(library.compiler() is None, reason="there is no C++ compiler")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache; nothing is loaded yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "BUILT", tmp_path / "none")
    library.load.cache_clear()
    yield tmp_path / "inhouse" / "kernels"
    library.load.cache_clear()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    target = tmp_path_factory.mktemp("library") / "made.so"
    library.build(library.variant(), target)
    return target.read_bytes()


def put(cache: Path, content: bytes) -> Path:
    cache.mkdir(parents=True, mode=0o700)
    file = cache / library.file_name(library.variant())
    file.write_bytes(content)
    return file


def test_what_was_built_is_taken_and_not_built_again(cache: Path, made: bytes) -> None:
    file = put(cache, made)
    began = file.stat().st_mtime_ns
    assert library.load() is not None
    assert file.stat().st_mtime_ns == began


def test_an_empty_file_as_a_power_cut_leaves_it_is_built_anew(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = put(cache, b"")
    with caplog.at_level(logging.WARNING):
        assert library.load() is not None
    assert "cannot be loaded" in caplog.text
    assert file.stat().st_size > 0


def test_a_folder_that_others_may_write_to_is_not_trusted(
    cache: Path, made: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    put(cache, made)
    cache.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert library.load() is None
    assert "others may write to it: make it yours alone" in caplog.text


def test_a_folder_of_another_user_is_not_trusted(
    cache: Path, made: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, made)
    monkeypatch.setattr(library.os, "getuid", lambda: os.geteuid() + 1)
    assert library.load() is None


def test_without_a_compiler_there_are_no_kernels_and_that_is_said(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiling, "compiler", lambda: None)
    with caplog.at_level(logging.WARNING):
        assert library.load() is None
    assert "no C++ compiler is on the path. Plain operations are used" in caplog.text


def test_the_name_of_a_library_tells_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = library.file_name(library.variant())
    sources = tmp_path / "kernels"
    sources.mkdir()
    for file in compiling.SOURCES.iterdir():
        (sources / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(compiling, "SOURCES", sources)
    assert library.file_name(library.variant()) == before
    (sources / "small.cpp").write_text(f"// {time.time()}\n")
    assert library.file_name(library.variant()) != before


@pytest.mark.parametrize("shape", [(3, 5), (700, 1031), (1500, 2048)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32])
def test_large_pages_change_no_number(shape: tuple[int, int], dtype: torch.dtype) -> None:
    numbers = torch.arange(shape[0] * shape[1]).remainder(251).view(shape).to(dtype)
    laid = on_large_pages(numbers.T)
    assert laid.is_contiguous() and torch.equal(laid, numbers.T)


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="Linux alone has large pages to ask for")
def test_tensors_share_large_pages_and_the_last_of_them_gives_them_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_rooms", rooms := memory._Rooms())
    numbers = torch.arange(3 * LARGE // 8).double()
    laid = [on_large_pages(numbers) for _ in range(3)]
    assert all(torch.equal(one, numbers) for one in laid)
    places = [one.data_ptr() for one in laid]
    assert places[0] % LARGE == 0 and all(place % ALIGNMENT == 0 for place in places)
    assert all(later - sooner < numbers.nbytes + ALIGNMENT for sooner, later in pairwise(places))
    wide = on_large_pages(torch.ones(CHUNK))  # more than a chunk: one of its own
    assert bool((wide == 1).all())
    chunk = rooms._chunk
    assert chunk is not None and chunk() is not None
    del wide
    gc.collect()
    assert chunk() is None and all(torch.equal(one, numbers) for one in laid)


def test_without_the_call_memory_is_as_it_always_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    numbers = torch.ones(2000, 1000)
    assert torch.equal(on_large_pages(numbers), numbers)


def test_a_system_that_refuses_large_pages_gives_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(mmap.mmap):
        def madvise(self, *_: object) -> None:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Refusing)
    monkeypatch.setattr(memory, "_rooms", memory._Rooms())
    numbers = torch.ones(2000, 1000)
    assert torch.equal(on_large_pages(numbers), numbers)
