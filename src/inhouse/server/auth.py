"""The one authentication layer, outside every router: who is asking, or 401.

It knows keys and hosts, no route: a path is open only when it is in OPEN_PATHS, whatever serves it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sqlalchemy import Connection
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from inhouse import logs
from inhouse.errors import PermissionDenied, Unauthenticated
from inhouse.server.edge import OPEN_PATHS
from inhouse.server.last_use import LastUse
from inhouse.server.limits import BATCHES, Meter, Party, month_start, parties_of
from inhouse.server.threads import StoreThreads
from inhouse.store.records import keys, projects, usage
from inhouse.store.records.limits import RateLimits

KEY_CACHE_S = 0.5
"""How long a looked-up key is believed: well under the second within which a revoked key must stop."""
MAX_CACHED = 10_000
COUNT_AGAIN_S = 10.0
"""How often the store is asked what a month has used: for what other servers of the same database counted."""
SHOWN_CHARACTERS = 4
"""Of a secret's 43, so that people can tell keys apart: the other 39 hold 234 random bits."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking. Every query takes its project from here."""

    project: str
    key: str
    name: str = ""
    groups: tuple[str, ...] = ()
    """Facts with an access list are for those who share one of its groups."""
    scopes: frozenset[str] = frozenset()
    """What it may do; `server.scopes` says which route needs which."""
    account: str = ""
    """The service account that the key belongs to."""
    chosen: RateLimits = field(default_factory=RateLimits)
    """Limits of the project."""
    chosen_for_key: RateLimits = field(default_factory=RateLimits)

    @property
    def parties(self) -> tuple[Party, ...]:
        """Whose limits a request of the caller counts for."""
        return parties_of(self.project, self.chosen, self.key, self.chosen_for_key)

    @property
    def batch_parties(self) -> tuple[Party, ...]:
        """Whose limits a line of a batch counts for: the key has no second allowance for its batches."""
        return (Party(BATCHES, self.project, self.chosen), *self.parties[1:])

    @property
    def is_admin(self) -> bool:
        """By what the key may do: an admin account's key may have been given less."""
        return "admin" in self.scopes

    @property
    def sees(self) -> frozenset[str] | None:
        """Whose facts the caller may see beside everybody's; None: all of the project's."""
        return None if self.is_admin else frozenset(self.groups)

    @property
    def author(self) -> str:
        """Who has changed a fact, for people."""
        return self.name or self.key


PREFIX = "sk-inhouse-"
LOCAL_KEY_ID = "local"
"""The id of the key that lives only in the run folder of a running server."""


def new_secret() -> str:
    """256 random bits, as the text a client sends."""
    return PREFIX + secrets.token_urlsafe(32)


def shown_of(secret: str) -> str:
    """As much of a secret as people may see later."""
    return secret[: len(PREFIX) + SHOWN_CHARACTERS] + "…"


def secret_of(authorization: str) -> str:
    """The key of an Authorization header; empty where there is none."""
    scheme, _, secret = authorization.partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def caller(request: Request) -> Caller:
    """Who sent this request; the layer has let nobody unknown through."""
    found = request.scope["state"]["caller"]
    assert isinstance(found, Caller), "a request reached a handler without passing the authentication layer"
    return found


class Keyring:
    """Looks keys up by their hash and believes an answer for KEY_CACHE_S, the unknown ones too.

    While the store is away, a key that it knew is believed for longer (`threads.BELIEVED_S`).
    """

    def __init__(
        self, store: StoreThreads, meter: Meter, last_use: LastUse, local_secret: str | None = None
    ) -> None:
        self.store = store
        self.meter = meter
        self.last_use = last_use
        self.local_hash = hash_of(local_secret) if local_secret else None
        self._seen: dict[str, tuple[float, Caller | None]] = {}
        self._counted: dict[tuple[str, str], float] = {}
        """When the store was last asked what a party's month has used, by the party's word and id."""

    async def caller_of(self, secret: str) -> Caller | None:
        hashed = hash_of(secret)
        now = time.monotonic()
        until, found = self._seen.get(hashed, (0.0, None))
        if until <= now:
            found = await self._look_up(hashed, now)
            if len(self._seen) >= MAX_CACHED:
                self._seen.clear()
            self._seen[hashed] = (now + KEY_CACHE_S, found)
        if found is not None and found.key != LOCAL_KEY_ID:
            self.last_use.note(found.key)
        return found

    def forget(self) -> None:
        """A key, a project or a limit was changed here: the next request asks the database again."""
        self._seen.clear()
        self.store.disbelieve()

    def is_local(self, secret: str) -> bool:
        """Whether this is the run folder's key. The store is not asked."""
        return self._is_local_hash(hash_of(secret))

    async def is_admin(self, secret: str) -> bool:
        found = await self.caller_of(secret)
        return found is not None and found.is_admin

    def _is_local_hash(self, hashed: str) -> bool:
        return self.local_hash is not None and hmac.compare_digest(hashed, self.local_hash)

    async def _look_up(self, hashed: str, now: float) -> Caller | None:
        is_local = self._is_local_hash(hashed)

        def ask(conn: Connection) -> Caller | None:
            if is_local:
                chosen = projects.get(conn, projects.DEFAULT).limits
                scopes = frozenset(keys.SCOPES_OF["admin"])
                return Caller(projects.DEFAULT, LOCAL_KEY_ID, scopes=scopes, chosen=chosen)
            row = keys.by_hash(conn, hashed)
            if row is None:
                return None
            return Caller(
                row.project,
                row.id,
                row.name,
                row.groups,
                frozenset(row.scopes),
                row.account,
                projects.get(conn, row.project).limits,
                row.limits,
            )

        found = await self.store.believed(("key", hashed), ask)
        if found is not None:
            await self.count_month(found)
        return found

    async def count_month(self, found: Caller) -> None:
        """Tells the meter what the store has counted this month for those who have a quota; seldom asked anew."""
        now = time.monotonic()
        for party in found.parties:
            has_quota = self.meter.limits_of(party).monthly_tokens is not None
            last = self._counted.get((party.what, party.id), -COUNT_AGAIN_S)
            if has_quota and last + COUNT_AGAIN_S <= now:
                since, key = month_start(time.time()), party.id if party.what == "key" else None
                total = await self.store.believed(
                    ("month", party.what, party.id, since),
                    lambda conn, since=since, key=key: usage.total(conn, found.project, since, key=key),  # type: ignore[misc]
                )
                self.meter.learn(
                    party, since, total.prompt_tokens + total.completion_tokens, time.monotonic()
                )
                self._counted[party.what, party.id] = now


def host_rule(bound: str, allowed: frozenset[str] = frozenset()) -> Callable[[str], bool]:
    """Which host names a request may be addressed to. A rebound DNS name is none of them.

    Bound to loopback: loopback names and addresses. Bound wider: any literal address too (rebinding needs a
    name) and this machine's own names. `allowed` adds what a reverse proxy in front is called.
    """
    named = {"localhost", bound.lower(), *(name.lower() for name in allowed)}
    is_wide = not _is_loopback(bound)
    if is_wide:
        named |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def is_ours(host: str) -> bool:
        host = host.lower().rstrip(".")
        return host in named or _is_loopback(host) or (is_wide and _address(host) is not None)

    return is_ours


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


class Auth:
    """ASGI layer: Host, Origin, then the key. Deny by default."""

    def __init__(self, app: ASGIApp, *, keyring: Keyring, is_our_host: Callable[[str], bool]) -> None:
        self.app = app
        self.keyring = keyring
        self.is_our_host = is_our_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        self._check_host("Host", f"//{headers.get('host', '')}")
        if "origin" in headers:
            self._check_host("Origin", headers["origin"])
        if scope["path"] not in OPEN_PATHS:
            found = await self._authenticate(headers.get("authorization", ""))
            scope["state"]["caller"] = found
            with logs.about(project=found.project):
                await self.app(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _check_host(self, header: str, url: str) -> None:
        try:
            host = urlsplit(url).hostname
        except ValueError:
            host = None
        if not host or not self.is_our_host(host):
            raise PermissionDenied(
                f"The {header} header names a host that this server does not answer as. "
                "Use the address it was started on."
            )

    async def _authenticate(self, authorization: str) -> Caller:
        secret = secret_of(authorization)
        if not secret:
            raise Unauthenticated(
                "No API key. Send the header 'Authorization: Bearer <key>', which clients do when given api_key; "
                "the first start of a server prints an admin key."
            )
        found = await self.keyring.caller_of(secret)
        if found is None:
            raise Unauthenticated(
                "This API key is unknown, expired or revoked. Ask an admin of this server for one."
            )
        return found
