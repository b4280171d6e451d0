"""Which uploads hold facts that are not for everybody: their bytes, and training on them, are for admins.

It knows rows and their access lists, not who belongs to which group.
"""

from __future__ import annotations

import mmap

from inhouse import rows
from inhouse.errors import InvalidRequest, PermissionDenied, RowProblem
from inhouse.schema import File
from inhouse.server.auth import Caller
from inhouse.server.threads import StoreThreads
from inhouse.store.artifacts import Artifacts

MOST_REMEMBERED = 10_000
_MADE_HERE = ("fine-tune-results", "batch_output")
"""Purposes of files that the server wrote itself; none of them quotes a fact that is not for everybody."""


class Restricted:
    """Looks into files, once for each content, and remembers what it found."""

    def __init__(self, store: StoreThreads, artifacts: Artifacts, max_line_bytes: int) -> None:
        self.store = store
        self.artifacts = artifacts
        self.max_line_bytes = max_line_bytes
        self._seen: dict[tuple[str, str], bool] = {}

    async def require(self, who: Caller, file: File, cure: str, param: str | None = None) -> None:
        """Raises PermissionDenied when the file holds restricted facts and the caller is no admin."""
        if who.is_admin or file.purpose in _MADE_HERE:
            return
        key = (file.digest, file.filename)
        if key not in self._seen:
            found = await self.store.run_with_files(lambda: self._holds_access(file))
            if len(self._seen) >= MOST_REMEMBERED:
                self._seen.clear()
            self._seen[key] = found
        if self._seen[key]:
            raise PermissionDenied(
                f"{file.id} holds facts that only some groups may see. {cure}", param=param
            )

    def _holds_access(self, file: File) -> bool:
        """Whether a row has an access list; where a row cannot be read, whether the word stands anywhere."""
        is_readable = True
        with self.artifacts.open(file.digest) as content:
            try:
                for item in rows.read(content, name=file.filename, max_line_bytes=self.max_line_bytes):
                    if isinstance(item, RowProblem):
                        is_readable = False
                        break
                    if item.labels.get("access"):
                        return True
            except InvalidRequest:
                is_readable = False
            if is_readable:
                return False
            with mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as everything:
                return everything.find(b"access") >= 0
