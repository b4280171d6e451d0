"""Whether a server takes work, as it says itself, and why not. It asks once, starts nothing and waits for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from inhouse import settings as settings_module
from inhouse.client import local
from inhouse.client.http import Address
from inhouse.errors import InternalError, ServerUnreachable

WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be well. Why it is not, and the cure, are told to admins only."""

    name: str
    ok: bool
    why: str = ""
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """What a server says of itself."""

    url: str
    is_ready: bool
    state: str
    """ready, not_ready or draining"""
    replicas: Mapping[str, int] | None
    checks: tuple[Check, ...]


def here() -> Address:
    """The server that the environment names, or the one of this machine. Raises ServerUnreachable where none runs."""
    if url := settings_module.client_url():
        return Address(url.rstrip("/").removesuffix("/v1"), settings_module.client_key())
    settings = settings_module.load()
    running = local.recorded(settings)
    if running is None:
        raise ServerUnreachable(
            f"No server runs for {settings.data_dir}. Start one with `inhouse up`, or name one: INHOUSE_URL."
        )
    return running.address


def of(address: Address) -> Status:
    """What the server at an address says. Raises ServerUnreachable where nothing answers."""
    headers = {"authorization": f"Bearer {address.key}"} if address.key else {}
    try:
        reply = httpx2.get(
            address.url + "/ready", headers=headers, timeout=WAIT_S, trust_env=not address.is_local
        )
        told: Any = reply.json()
    except (httpx2.HTTPError, httpx2.InvalidURL) as e:
        raise ServerUnreachable(f"Nothing answers at {address.url} ({type(e).__name__}).") from e
    except ValueError as e:
        raise InternalError(f"What answers at {address.url} is no Inhouse server.") from e
    if not isinstance(told, dict) or "checks" not in told:
        raise InternalError(f"What answers at {address.url} is no Inhouse server of this release.")
    checks = tuple(Check(**check) for check in told["checks"])
    return Status(address.url, reply.status_code == 200, told["status"], told["replicas"], checks)
