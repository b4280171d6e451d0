"""A data folder is for its owner's eyes only: folders 0700, files 0600 or less, whatever the umask was.

It holds training data, models, hashes of keys, and perhaps a database's password in its configuration.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from inhouse.errors import InvalidRequest

log = logging.getLogger(__name__)

OTHERS = 0o077
"""Every right of the group and of everybody else."""


def make_private(folder: Path) -> None:
    """Makes the folder, or takes the rights of others off one that is there and off everything in it.

    Raises InvalidRequest where the folder itself belongs to somebody else, who may open it to anybody.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.name != "posix":
        return
    if is_loose(folder):
        try:
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~OTHERS)
        except PermissionError as e:
            raise InvalidRequest(
                f"Others may open the data folder {folder}, and it belongs to another user, so its mode cannot be "
                "changed. Make it yours (chown), or set INHOUSE_DATA_DIR to a folder of your own, such as one inside "
                "it.",
                param="data_dir",
            ) from e
        log.warning("the data folder %s was open to other users; it is private now", folder)
    for path, mode in _below(str(folder)):
        if mode & OTHERS:
            try:
                Path(path).chmod(stat.S_IMODE(mode) & ~OTHERS)
            except FileNotFoundError:
                continue  # a worker's, which has just removed it
            except PermissionError:
                log.warning("%s belongs to another user; only the folder around it keeps others out", path)


def is_loose(path: Path) -> bool:
    """Whether anybody but its owner may do anything with it. A link is never: what it leads to counts."""
    mode = path.lstat().st_mode
    return not stat.S_ISLNK(mode) and bool(mode & OTHERS)


def _below(folder: str, *, is_top: bool = True) -> Iterator[tuple[str, int]]:
    """Everything in a folder with its mode, and in the folders that links right in it lead to, such as artifacts on
    another disk. Other links are left alone."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_symlink() and not (is_top and entry.is_dir()):
                    continue
                yield entry.path, entry.stat().st_mode
                if entry.is_dir():
                    yield from _below(entry.path, is_top=False)
            except FileNotFoundError:
                continue
