"""Where a backup lies: a folder of files, or one tar, with a manifest that checks itself and all the rest.

    manifest            a line with the SHA-256 of what follows it, then what is in the backup, as JSON
    tables/NAME.jsonl   the rows
    artifacts/DIGEST    contents

A tar ends with a line more: the SHA-256 of every byte before it. Whatever is written has a name of its own until it
is whole and on the disk; then it gets the name that was asked for. It knows no table and no artifact.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from inhouse.errors import BadCheckpoint, Conflict, InvalidRequest, StorageFull
from inhouse.system import NO_ROOM, sync_folder

CHUNK_BYTES = 1 << 20
MANIFEST = "manifest"
_NAME = re.compile(r"tables/[a-z_]+\.jsonl|artifacts/[0-9a-f]{64}|manifest")
_TRAILER_BYTES = 65
"""Of a tar's last line: 64 hexadecimal digits and its end."""


class Writer:
    """An archive that is being written. Every file is hashed as it goes in."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self.files: dict[str, tuple[int, str]] = {}
        """Name → size and SHA-256."""

    def add(self, name: str, file: BinaryIO, size: int) -> str:
        """Copy a file of this many bytes; returns its SHA-256."""
        assert _NAME.fullmatch(name), f"{name} has no place in a backup"
        reader = _Hashing(file, size)
        self._place.add(name, reader, size)
        self.files[name] = (size, reader.digest.hexdigest())
        return self.files[name][1]


class Reader(Protocol):
    """An archive that is read."""

    def names(self) -> list[str]: ...

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]: ...

    def damage(self) -> str | None:
        """What is wrong with the archive around its files."""


class _Place(Protocol):
    def add(self, name: str, file: _Hashing, size: int) -> None: ...


@contextmanager
def writing(path: Path, about: dict[str, Any]) -> Iterator[Writer]:
    """An archive to fill: a tar where the name ends in .tar, else a folder. It appears under its name when the block
    ends well, and leaves nothing otherwise. `about` is read then, and goes into the manifest beside the files.

    Raises Conflict where something has the name, and StorageFull.
    """
    if path.is_symlink() or path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise Conflict(f"{path} is there already. Name a place that is not, or an empty folder.")
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        kind = _TarPlace if path.suffix == ".tar" else _FolderPlace
        with kind.making(partial) as place:
            writer = Writer(place)
            yield writer
            manifest = _manifest({**about, "files": writer.files})
            place.add(MANIFEST, _Hashing(io.BytesIO(manifest), len(manifest)), len(manifest))
        partial.rename(path)  # over an empty folder too, which keeps no mode that is not ours
        sync_folder(path.parent)
    except OSError as e:
        if e.errno in NO_ROOM:
            raise StorageFull(
                f"No space left to write {path}. Nothing of it was kept; free some and try again."
            ) from e
        raise InvalidRequest(
            f"{path} cannot be written: {os.strerror(e.errno or 0)}. Name another place."
        ) from e
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """An archive to read. Raises BadCheckpoint where there is none that can be read."""
    if path.is_dir():
        yield _Folder(path)
        return
    try:
        file = path.open("rb")
    except OSError as e:
        raise InvalidRequest(f"{path} cannot be read: {os.strerror(e.errno or 0)}.") from e
    with file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                yield _Tar(file, tar)
        except (tarfile.TarError, EOFError) as e:
            raise BadCheckpoint(
                f"{path} is no whole tar: {e}. Take another backup.", code="corrupt_backup"
            ) from e


def manifest_of(archive: Reader) -> dict[str, Any]:
    """What the backup says is in it. Raises BadCheckpoint unless it is exactly what was written."""
    try:
        with archive.open(MANIFEST) as file:
            digest, _, body = file.read().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise ValueError
        return dict(json.loads(body))
    except (KeyError, OSError, ValueError) as e:
        raise BadCheckpoint(
            "It has no manifest, or a damaged one: it is no backup, was cut while it was made, or changed since. "
            "Take another one.",
            code="corrupt_backup",
        ) from e


def faults(archive: Reader, manifest: dict[str, Any]) -> Iterator[str]:
    """Everything in the archive that is not as its manifest says."""
    if damage := archive.damage():
        yield damage
    listed = manifest["files"]
    for name in sorted(set(archive.names()) - {*listed, MANIFEST}):
        yield f"{name} is not of this backup"
    for name, (size, digest) in sorted(listed.items()):
        try:
            with archive.open(name) as file:
                reader = _Hashing(file, None)
                while reader.read(CHUNK_BYTES):
                    pass
        except (KeyError, OSError, tarfile.TarError):
            yield f"{name} is missing or cannot be read"
            continue
        if (reader.size, reader.digest.hexdigest()) != (size, digest):
            yield f"{name} is damaged: its bytes are not those that were written"


class _Hashing:
    """A file that is hashed as it is read, and that ends where it was said to."""

    def __init__(self, file: BinaryIO, size: int | None) -> None:
        self._file = file
        self._left = size
        self.size = 0
        self.digest = hashlib.sha256()

    def read(self, count: int = CHUNK_BYTES) -> bytes:
        piece = self._file.read(count if self._left is None else min(count, self._left))
        if self._left is not None:
            self._left -= len(piece)
        self.size += len(piece)
        self.digest.update(piece)
        return piece


class _FolderPlace:
    def __init__(self, root: Path) -> None:
        self._root = root

    @classmethod
    @contextmanager
    def making(cls, root: Path) -> Iterator[_FolderPlace]:
        for folder in (root, root / "tables", root / "artifacts"):
            folder.mkdir(mode=0o700)
        yield cls(root)
        for folder in (root / "tables", root / "artifacts", root):
            sync_folder(folder)

    def add(self, name: str, file: _Hashing, size: int) -> None:
        with os.fdopen(_private(self._root / name), "wb") as out:
            shutil.copyfileobj(file, out, CHUNK_BYTES)
            out.flush()
            os.fsync(out.fileno())


class _TarPlace:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    @classmethod
    @contextmanager
    def making(cls, path: Path) -> Iterator[_TarPlace]:
        with os.fdopen(_private(path), "w+b") as out:
            with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
                yield cls(tar)
            out.flush()
            out.seek(0)
            digest = hashlib.file_digest(out, "sha256").hexdigest()
            out.seek(0, os.SEEK_END)
            out.write(digest.encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())

    def add(self, name: str, file: _Hashing, size: int) -> None:
        about = tarfile.TarInfo(name)
        about.size, about.mode = size, 0o600
        self._tar.addfile(about, file)  # it only reads


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        return [p.relative_to(self._root).as_posix() for p in self._root.rglob("*") if not p.is_dir()]

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        path = self._root / _checked(name)
        if path.is_symlink():
            raise FileNotFoundError(errno.ENOENT, "a link is no copy", str(path))
        with path.open("rb") as file:
            yield file

    def damage(self) -> str | None:
        return None


class _Tar:
    def __init__(self, file: BinaryIO, tar: tarfile.TarFile) -> None:
        self._file = file
        self._tar = tar

    def names(self) -> list[str]:
        return self._tar.getnames()

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        member = self._tar.getmember(_checked(name))
        content = self._tar.extractfile(member) if member.isreg() else None
        if content is None:
            raise KeyError(name)
        with content:
            yield content  # type: ignore[misc]  # a buffered reader is all that is asked for

    def damage(self) -> str | None:
        self._file.seek(0, os.SEEK_END)
        left = self._file.tell() - _TRAILER_BYTES
        digest = hashlib.sha256()
        self._file.seek(0)
        while left > 0 and (piece := self._file.read(min(CHUNK_BYTES, left))):
            digest.update(piece)
            left -= len(piece)
        if self._file.read() == digest.hexdigest().encode() + b"\n":
            return None
        return "the tar's own bytes are not those that were written"


def _checked(name: str) -> str:
    """The name itself, if it is one that a backup has: no name from an archive becomes another path."""
    if not _NAME.fullmatch(name):
        raise KeyError(name)
    return name


def _manifest(about: dict[str, Any]) -> bytes:
    body = json.dumps(about, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _private(path: Path) -> int:
    """A new file that only its owner can read, whatever the umask."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
