"""Turns what a user calls a base into a folder on this machine: the embedded one, a folder, or a hub id."""

from __future__ import annotations

import re
from pathlib import Path

from inhouse import bases
from inhouse.errors import BadCheckpoint

EMBEDDED = "embedded"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")
_SAFE_FILES = ["*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json",
               "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]  # fmt: skip


def locate(name: str, source: str) -> Path:
    """The folder of a base. Fetches a hub id when the network and the hub's library are there.

    Raises BadCheckpoint saying what to do instead when they are not.
    """
    if source == EMBEDDED:
        folder = Path(bases.__file__).parent / name
        if not folder.is_dir():
            raise BadCheckpoint(f"No base called {name!r} comes with this package.")
        return folder
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or not _HUB_ID.fullmatch(source):
        raise BadCheckpoint(
            f"{source} is neither a folder on the server's machine nor a hub id like owner/name. Put it back if it "
            "was moved, or register the base from where it is."
        )
    return _fetch(source)


def _fetch(hub_id: str) -> Path:
    instead = f"Download {hub_id} on a machine that has a network, copy the folder here, and pass its path as the base."
    try:
        from huggingface_hub import snapshot_download
    except ImportError as e:
        raise BadCheckpoint(
            f"{hub_id} is a hub id, and the hub's library is not installed. pip install huggingface_hub; or: {instead}"
        ) from e
    try:
        return Path(snapshot_download(hub_id, allow_patterns=_SAFE_FILES))
    except (OSError, ValueError) as e:  # the library's own errors are OSErrors; offline ones are ValueErrors
        raise BadCheckpoint(f"{hub_id} could not be fetched ({str(e).splitlines()[0]}). {instead}") from e
