"""Artifacts are whole, or not there; and never anything else than what their name says."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse.errors import BadCheckpoint, InvalidRequest, NotFound, StorageFull, TooLarge
from inhouse.store.artifacts import Artifacts

DIGEST_OF_NOTHING = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    (folder / "nested").mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"r": 8}')
    (folder / "adapter_model.safetensors").write_bytes(random.Random(0).randbytes(50_000))
    (folder / "nested" / "notes.txt").write_text("same")
    (folder / "again.txt").write_text("same")
    return folder


def pieces(artifacts: Artifacts) -> list[Path]:
    return list((artifacts.root / "partial").iterdir())


def flip_a_bit(file: Path, random_: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
    file.chmod(0o644)
    file.write_bytes(content)


def test_what_is_put_comes_back(artifacts: Artifacts) -> None:
    digest, size = artifacts.put_stream([b"one", b"", b"two"])
    assert (digest, size) == (hashlib.sha256(b"onetwo").hexdigest(), 6)
    assert artifacts.path(digest).read_bytes() == b"onetwo"
    with artifacts.open(digest) as file:
        assert file.read() == b"onetwo"
    assert artifacts.exists(digest)
    artifacts.verify(digest)
    assert pieces(artifacts) == []


def test_the_same_content_is_kept_once(artifacts: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"same")
    assert artifacts.put_stream([b"same"]) == artifacts.put_file(tmp_path / "file")
    kept = [path for path in artifacts.root.rglob("*") if path.is_file()]
    assert len(kept) == 1


def test_putting_it_again_mends_a_damaged_artifact(artifacts: Artifacts) -> None:
    digest, _ = artifacts.put_stream([b"precious"])
    flip_a_bit(artifacts.path(digest), random.Random(1))
    artifacts.put_stream([b"precious"])
    artifacts.verify(digest)


def test_a_stream_over_the_limit_is_refused_and_leaves_nothing(artifacts: Artifacts) -> None:
    with pytest.raises(TooLarge):
        artifacts.put_stream(iter([b"12345", b"67890"]), max_bytes=9)
    assert pieces(artifacts) == []
    assert artifacts.put_stream([b"12345", b"6789"], max_bytes=9)[1] == 9


def test_a_stream_that_breaks_leaves_nothing(artifacts: Artifacts) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        artifacts.put_stream(breaks())
    assert pieces(artifacts) == []
    assert not artifacts.exists(hashlib.sha256(b"half").hexdigest())


@pytest.mark.parametrize(
    "name",
    ["", "..", "../../etc/passwd", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 63 + "\n", "/" + "a" * 63],
)
def test_only_a_digest_is_ever_looked_up(artifacts: Artifacts, name: str) -> None:
    for question in (artifacts.path, artifacts.open, artifacts.exists, artifacts.verify, artifacts.folder):
        with pytest.raises(InvalidRequest):
            question(name)
    with pytest.raises(InvalidRequest):
        artifacts.delete(name)


def test_what_is_not_there_is_not_found(artifacts: Artifacts) -> None:
    for question in (artifacts.path, artifacts.open, artifacts.verify, artifacts.folder):
        with pytest.raises(NotFound):
            question(DIGEST_OF_NOTHING)
    assert not artifacts.exists(DIGEST_OF_NOTHING)


def test_a_folder_comes_back_as_it_was(artifacts: Artifacts, adapter: Path) -> None:
    digest = artifacts.put_folder(adapter)
    assert artifacts.put_folder(adapter) == digest
    laid_out = artifacts.folder(digest)
    assert artifacts.folder(digest) == laid_out
    for path in adapter.rglob("*"):
        if path.is_file():
            assert (laid_out / path.relative_to(adapter)).read_bytes() == path.read_bytes()
    assert list(artifacts.manifest(digest)) == sorted(artifacts.manifest(digest))
    artifacts.verify_folder(digest)
    assert pieces(artifacts) == []


def test_a_folder_with_a_link_out_of_it_is_refused(artifacts: Artifacts, adapter: Path) -> None:
    (adapter / "secret").symlink_to("/etc/passwd")
    with pytest.raises(InvalidRequest, match="secret"):
        artifacts.put_folder(adapter)


@pytest.mark.parametrize(
    "name", ["../out", "/etc/cron.d/x", "a/../../b", "a//b", "", ".", "a\\b", "a\x00b", "a\n"]
)
def test_a_manifest_cannot_name_a_place_outside_its_folder(artifacts: Artifacts, name: str) -> None:
    content, _ = artifacts.put_stream([b"payload"])
    digest, _ = artifacts.put_stream([json.dumps({name: {"sha256": content, "size": 7}}).encode()])
    with pytest.raises(BadCheckpoint):
        artifacts.folder(digest)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"a": 1}', b'{"a": {"sha256": "../x"}}'])
def test_a_file_that_is_no_manifest_is_no_folder(artifacts: Artifacts, content: bytes) -> None:
    digest, _ = artifacts.put_stream([content])
    with pytest.raises(BadCheckpoint):
        artifacts.folder(digest)


def test_a_deleted_artifact_is_gone_and_stays_readable_for_whoever_has_it_open(artifacts: Artifacts) -> None:
    digest, _ = artifacts.put_stream([b"in use"])
    with artifacts.open(digest) as file:
        artifacts.delete(digest)
        assert not artifacts.exists(digest)
        assert file.read() == b"in use"
    artifacts.delete(digest)


def test_deleting_a_folder_leaves_the_files_that_others_share(artifacts: Artifacts, adapter: Path) -> None:
    first = artifacts.put_folder(adapter)
    artifacts.folder(first)
    (adapter / "adapter_config.json").write_text('{"r": 16}')
    second = artifacts.put_folder(adapter)
    artifacts.delete(first)
    with pytest.raises(NotFound):
        artifacts.folder(first)
    artifacts.verify_folder(second)


@pytest.fixture(params=["small_disk", "size_limit"])
def full_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A place that takes less than a megabyte: a small file system, or a limit on the size of files."""
    if request.param == "small_disk":
        yield request.getfixturevalue("small_disk")
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    yield tmp_path
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_so_and_leaves_nothing(full_disk: Path) -> None:
    artifacts = Artifacts(full_disk / "artifacts")
    earlier, _ = artifacts.put_stream([b"earlier"])
    with pytest.raises(StorageFull) as caught:
        artifacts.put_stream(b"x" * 65536 for _ in range(40))
    assert caught.value.status == 507
    assert pieces(artifacts) == []
    artifacts.verify(earlier)
    assert artifacts.put_stream([b"later"])[1] == 5


CHILD = """
import sys
from pathlib import Path
from inhouse.store.artifacts import Artifacts
artifacts = Artifacts(Path(sys.argv[1]))
def chunks(seed):
    for _ in range(50):
        yield bytes([seed % 256]) * 20_000
for seed in range(100_000):
    print(artifacts.put_stream(chunks(seed))[0], flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_only_whole_artifacts(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path / "artifacts")
    random_ = random.Random(3)
    acknowledged: set[str] = set()
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(artifacts.root)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        acknowledged.add(child.stdout.readline().strip())
        time.sleep(random_.uniform(0, 0.05))
        child.send_signal(signal.SIGKILL)
        acknowledged.update(line for line in child.stdout.read().split("\n")[:-1])
        child.stdout.close()
        child.wait()
    kept = [path.name for path in artifacts.root.glob("[0-9a-f][0-9a-f]/*")]
    for digest in kept:
        artifacts.verify(digest)
    assert acknowledged <= set(kept)


def test_the_sweeper_takes_what_the_dead_left_and_spares_the_living(artifacts: Artifacts) -> None:
    old = artifacts.root / "partial" / "left-behind"
    old.write_bytes(b"half")
    older = artifacts.root / "partial" / "left-folder"
    older.mkdir()
    for path in (old, older):
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    (artifacts.root / "partial" / "being-written").write_bytes(b"half")
    assert artifacts.sweep_partial() == 2
    assert [piece.name for piece in pieces(artifacts)] == ["being-written"]
