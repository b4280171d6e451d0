"""Files kept by what is in them: the SHA-256 of the content is the name, so nothing ever changes in place.

A write goes to a temporary file on the same file system, is synced, and then renamed: whoever sees an
artifact sees all of it. It knows no job, no model and no owner; who may read what is asked of the rows.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from inhouse.errors import BadCheckpoint, InvalidRequest, NotFound, StorageFull, TooLarge
from inhouse.system import NO_ROOM, sync_folder

CHUNK_BYTES = 1 << 20
PARTIAL_AGE_S = 3600.0
"""A temporary file that nobody wrote to for this long was left by a process that died."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._\-]{1,255}")


class Artifacts:
    """A folder of artifacts. Several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._partial = root / "partial"
        self._folders = root / "folders"
        for folder in (root, self._partial, self._folders):
            folder.mkdir(parents=True, exist_ok=True)

    # ── put ───────────────────────────────────────────────────────────────────────────────────────────────

    def put_stream(self, chunks: Iterable[bytes], max_bytes: int | None = None) -> tuple[str, int]:
        """Keep the bytes of a stream; returns digest and size.

        Raises TooLarge past `max_bytes` and StorageFull on a full disk; neither leaves anything behind.
        """
        digest = hashlib.sha256()
        size = 0
        with _storage_full_as_ours(), self._temporary_file() as (file, path):
            for chunk in chunks:
                size += len(chunk)
                if max_bytes is not None and size > max_bytes:
                    raise TooLarge(f"The content is over the limit of {max_bytes} bytes.")
                digest.update(chunk)
                file.write(chunk)
            _sync(file)
            path.chmod(0o400)
            name = digest.hexdigest()
            home = self._home(name)
            if not home.parent.is_dir():
                home.parent.mkdir(exist_ok=True)
                sync_folder(self.root)
            path.replace(home)  # over an older copy too: the same bytes, or a damaged one that this mends
            sync_folder(home.parent)
        return name, size

    def put_file(self, path: Path) -> tuple[str, int]:
        """Keep a file's bytes; returns digest and size."""
        with path.open("rb") as file:
            return self.put_stream(_chunks(file))

    def put_folder(self, path: Path) -> str:
        """Keep a folder's files and a manifest of them; the manifest's digest names the folder."""
        entries: dict[str, dict[str, Any]] = {}
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path).as_posix()
            if file.is_symlink() or not (file.is_dir() or file.is_file()):
                raise InvalidRequest(f"{name} in {path.name} is no plain file. Replace it by a copy.")
            if file.is_file():
                _check_name(name)
                digest, size = self.put_file(file)
                entries[name] = {"sha256": digest, "size": size}
        manifest = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
        return self.put_stream([manifest])[0]

    # ── get ───────────────────────────────────────────────────────────────────────────────────────────────

    def exists(self, digest: str) -> bool:
        """Whether this artifact is kept here."""
        return self._home(digest).is_file()

    def path(self, digest: str) -> Path:
        """Where the artifact's bytes are; for reading only. Raises NotFound."""
        home = self._home(digest)
        if not home.is_file():
            raise NotFound(f"There is no artifact {digest}.")
        return home

    def open(self, digest: str) -> io.BufferedReader:
        """The artifact, open for reading. It stays readable even if it is deleted meanwhile."""
        try:
            return self._home(digest).open("rb")
        except FileNotFoundError as e:
            raise NotFound(f"There is no artifact {digest}.") from e

    def folder(self, digest: str) -> Path:
        """A kept folder as a real one, for reading only. Every byte is verified when it is first laid out."""
        home = self._folders / _checked(digest)
        if home.is_dir():
            return home
        entries = self.manifest(digest)
        with _storage_full_as_ours(), self._temporary_folder() as folder:
            for name, entry in entries.items():
                self.verify(entry["sha256"])
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(self.path(entry["sha256"]), target)
            for place in (folder, *(inner for inner in folder.rglob("*") if inner.is_dir())):
                sync_folder(place)
            try:
                folder.rename(home)
            except OSError:
                if not home.is_dir():  # otherwise another process laid out the same one first
                    raise
            sync_folder(self._folders)
        return home

    def verified_folder(self, digest: str) -> Path:
        """The same with every byte read again. A damaged folder is laid out anew; where what it is laid out from is
        damaged too, BadCheckpoint, code corrupt_artifact, as long as that stays so."""
        home = self.folder(digest)
        for name, entry in self.manifest(digest).items():
            if not _has_digest(home / name, entry["sha256"]):
                shutil.rmtree(home, ignore_errors=True)
                return self.folder(digest)
        return home

    def manifest(self, digest: str) -> dict[str, dict[str, Any]]:
        """What a kept folder holds: name → {sha256, size}. Raises BadCheckpoint on anything else."""
        self.verify(digest)
        try:
            entries = json.loads(self.path(digest).read_bytes())
            for name, entry in entries.items():
                _check_name(name)
                _checked(entry["sha256"])
        except (ValueError, TypeError, KeyError, AttributeError, InvalidRequest) as e:
            raise BadCheckpoint(f"Artifact {digest} is not a folder's manifest.") from e
        return dict(entries)

    # ── keep ──────────────────────────────────────────────────────────────────────────────────────────────

    def verify(self, digest: str) -> None:
        """Read the artifact again and raise BadCheckpoint, code corrupt_artifact, if any byte changed."""
        with self.open(digest) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise BadCheckpoint(
                f"Artifact {digest} is damaged: its bytes are not those that were stored. "
                "Restore it from a backup, or upload or train it again.",
                code="corrupt_artifact",
            )

    def verify_folder(self, digest: str) -> None:
        """Verify a kept folder's manifest and every file of it."""
        for entry in self.manifest(digest).values():
            self.verify(entry["sha256"])

    def delete(self, digest: str) -> None:
        """Drop an artifact and the folder laid out from it. A folder's files stay: others may share them."""
        home = self._home(digest)
        shutil.rmtree(self._folders / digest, ignore_errors=True)
        home.unlink(missing_ok=True)

    def sweep_partial(self, older_than_s: float = PARTIAL_AGE_S) -> int:
        """Remove what processes that died left half-written; returns how many pieces."""
        swept = 0
        for piece in self._partial.iterdir():
            try:
                if time.time() - piece.stat().st_mtime < older_than_s:
                    continue
            except FileNotFoundError:  # its writer has just finished
                continue
            if piece.is_dir():
                shutil.rmtree(piece, ignore_errors=True)
            else:
                piece.unlink(missing_ok=True)
            swept += 1
        return swept

    def _home(self, digest: str) -> Path:
        return self.root / _checked(digest)[:2] / digest

    @contextmanager
    def _temporary_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        descriptor, name = tempfile.mkstemp(dir=self._partial)
        path = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file, path
        finally:
            path.unlink(missing_ok=True)  # gone already if it was renamed

    @contextmanager
    def _temporary_folder(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(dir=self._partial))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _has_digest(file: Path, digest: str) -> bool:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == digest
    except FileNotFoundError:
        return False


def _checked(digest: str) -> str:
    """The digest itself: 64 hex digits and nothing else, so that no name from outside becomes a path."""
    if not _DIGEST.fullmatch(digest):
        raise InvalidRequest("An artifact is named by 64 hexadecimal digits, its SHA-256.")
    return digest


def _check_name(name: str) -> None:
    if not all(_PART.fullmatch(part) for part in name.split("/")):
        raise InvalidRequest(f"{name!r} cannot be kept. Use letters, digits, '.', '_' and '-' in file names.")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as e:
        if e.errno in NO_ROOM:
            raise
        with source.open("rb") as reader, target.open("wb") as writer:  # a file system without hard links
            shutil.copyfileobj(reader, writer, CHUNK_BYTES)
            _sync(writer)


@contextmanager
def _storage_full_as_ours() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        if e.errno not in NO_ROOM:
            raise
        raise StorageFull("The disk that holds the artifacts is full. Free some space and try again.") from e
