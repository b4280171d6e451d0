"""The run folder: one server a data folder, and where its clients find it.

It knows a lock, a file and an address, and of HTTP how to tell its like on a port. The lock is the system's: a killed
server leaves none behind.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from inhouse.errors import Conflict, InvalidRequest, StorageFull
from inhouse.server.version import VERSION
from inhouse.settings import Settings
from inhouse.store.private import make_private

try:
    import fcntl
except ImportError:  # not a POSIX system: there the port alone keeps a second server out
    fcntl = None  # type: ignore[assignment]

ADDRESS_FILE = "server.json"
LOCK_FILE = "server.lock"
LOOK_S = 1.0
"""How long whoever has the port may take to say who it is."""
LONGEST_REPLY = 4096


class Place:
    """A data folder that this process serves, until `leave`."""

    def __init__(self, settings: Settings) -> None:
        self.run_dir = settings.run_dir
        self._serving = settings.serving()
        self.data_dir = settings.data_dir
        self._lock: int | None = None

    def take(self) -> None:
        """Locks the data folder for this process. Raises Conflict that names the server which has it."""
        try:
            make_private(self.data_dir)
            self.run_dir.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(self.run_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(self.data_dir, error) from error
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise Conflict(
                f"A server already runs on {self.data_dir}, at {self._other()}, or set INHOUSE_DATA_DIR to another "
                "folder."
            ) from None
        self._lock = lock

    def announce(self, url: str, local_key: str) -> None:
        """Writes the address and the key of this start, readable by this user only, in one step."""
        told = {
            "url": url,
            "pid": os.getpid(),
            "key": local_key,
            "version": VERSION,
            "serving": self._serving,
        }
        temporary = self.run_dir / f".{ADDRESS_FILE}.{os.getpid()}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(told, file)
            temporary.replace(self.run_dir / ADDRESS_FILE)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _unusable(self.data_dir, error) from error

    def leave(self) -> None:
        """Takes the address away and gives the folder back."""
        if self._lock is None:
            return
        (self.run_dir / ADDRESS_FILE).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None

    def _other(self) -> str:
        """Where the server is that has the folder, and how to use or to stop it."""
        try:
            told: Any = json.loads((self.run_dir / ADDRESS_FILE).read_text())
            return f"{told['url']}. Use that one, stop it (kill {told['pid']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "an address it has not announced yet. Wait until it has"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises Conflict or InvalidRequest naming port and cure."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, OverflowError) as error:
        raise InvalidRequest(f"Cannot listen on {host}:{port}: {error}. Mend --host or --port.") from error
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere the same option would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            other = "an Inhouse server of another data folder" if _is_ours(address) else "another program"
            raise Conflict(
                f"Port {port} on {host} is in use by {other}. "
                f"Stop that one, or start this server with --port {port + 1}."
            ) from error
        raise InvalidRequest(
            f"Cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}. Mend --host or --port."
        ) from error
    listener.setblocking(False)
    return listener


def _is_ours(address: tuple[Any, ...]) -> bool:
    """Whether what listens there says, as Inhouse does, which replicas are ready."""
    connection = HTTPConnection(address[0], address[1], timeout=LOOK_S)
    try:
        connection.request("GET", "/ready")
        told = json.loads(connection.getresponse().read(LONGEST_REPLY))
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(told, dict) and told.keys() >= {"status", "replicas"}


def url_of(listener: socket.socket) -> str:
    """The address to write down: a wildcard is reached through loopback."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _unusable(folder: Path, error: OSError) -> StorageFull | InvalidRequest:
    if error.errno == errno.ENOSPC:
        return StorageFull(f"The disk that holds {folder} is full. Free some space and start again.")
    return InvalidRequest(
        f"The data folder {folder} cannot be used: {os.strerror(error.errno or 0)}. "
        "Mend its permissions, or set INHOUSE_DATA_DIR to another folder."
    )
