"""Posting to other hosts: to those that the operator named, at an address that is looked up once, and no further.

It knows addresses and bytes, nothing of webhooks. Redirects are answers, not ways on; a reply's body is read and
thrown away, up to a limit.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httpx2

from inhouse.errors import InvalidRequest

TIMEOUT_S = 10.0
"""For everything, from the name to the last byte of the reply."""
MOST_BYTES = 64 * 1024
"""Of a reply; what is longer is cut off."""
MAX_URL_CHARACTERS = 2048
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request: the status, or None and why there is none."""

    status: int | None
    said: str

    @property
    def is_good(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Outward:
    """What may be posted to, and the posting."""

    def __init__(self, hosts: str) -> None:
        self.hosts = tuple(host.strip().lower() for host in hosts.split(",") if host.strip())
        self._tls: ssl.SSLContext | bool = ssl.create_default_context() if self.hosts else True

    def check(self, url: str) -> None:
        """Raises InvalidRequest for a URL that is malformed, or whose host is not one of those allowed."""
        if not self.hosts:
            raise InvalidRequest(
                "Webhooks are off: this server sends nothing to anybody. Its operator may name hosts in the setting "
                "webhook_hosts, as in INHOUSE_WEBHOOK_HOSTS=ci.example.com",
                param="url",
                code="webhooks_off",
            )
        target = _split(url)
        if not any(_matches(pattern, target) for pattern in self.hosts):
            raise InvalidRequest(
                f"{target.hostname} is not among the hosts that this server may send to. Its operator names them in "
                "the setting webhook_hosts.",
                param="url",
                code="host_not_allowed",
            )

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """What the host answers. Whatever goes wrong is an answer without a status."""
        try:
            self.check(url)
            async with asyncio.timeout(TIMEOUT_S):
                return await self._post(_split(url), headers, body)
        except InvalidRequest as error:
            return Answer(None, error.message)
        except TimeoutError:
            return Answer(None, f"no whole reply within {TIMEOUT_S:g} s")
        # Their words may hold the URL, which may hold a secret. UnicodeError: of a name that IDNA cannot write.
        except (httpx2.HTTPError, OSError, UnicodeError) as error:
            return Answer(None, f"no reply: {type(error).__name__}")

    async def _post(self, target: SplitResult, headers: Mapping[str, str], body: bytes) -> Answer:
        host, port = target.hostname or "", target.port or _PORTS[target.scheme]
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        address = next((a for a in addresses if _may_connect(host, a)), None)
        if address is None:
            return Answer(None, f"{host} is at an address that is not to be sent to")
        shown = f"[{address}]" if ":" in address else address
        where = f"{target.scheme}://{shown}:{port}{target.path or '/'}" + (
            f"?{target.query}" if target.query else ""
        )
        request = httpx2.Request(
            "POST",
            where,
            content=body,
            headers={**headers, "host": target.netloc},
            extensions={"sni_hostname": host},  # the certificate is the name's, not the address's
        )
        # The transport itself: a client above it would write the URL, which may hold a secret, into the log.
        async with httpx2.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            reply = await transport.handle_async_request(request)
            received = 0
            async for piece in reply.aiter_raw():
                received += len(piece)
                if received > MOST_BYTES:
                    break
            await reply.aclose()
            redirects = " (a redirect, which is not followed)" if 300 <= reply.status_code < 400 else ""
            return Answer(reply.status_code, f"status {reply.status_code}{redirects}")


def _split(url: str) -> SplitResult:
    try:
        target = urlsplit(url)
        is_good = (
            target.scheme in _PORTS
            and bool(target.hostname)
            and target.port != 0
            and all(0 < len(label) < 64 for label in (target.hostname or "").rstrip(".").split("."))
            and "@" not in target.netloc
            and not target.fragment
            and url.isascii()
            and url.isprintable()
            and " " not in url
            and len(url) <= MAX_URL_CHARACTERS
        )
    except ValueError:
        is_good = False
    if not is_good:
        raise InvalidRequest(
            "url must be as https://host/path or http://host:port/path, in ASCII, without a user, a password or a "
            "fragment.",
            param="url",
        )
    return target


def _matches(pattern: str, target: SplitResult) -> bool:
    """Whether an entry of the setting covers a URL's host, and its port where it names one."""
    host = (target.hostname or "").rstrip(".")
    entry = urlsplit(f"//{pattern}")
    try:
        port = entry.port
    except ValueError:
        return False
    if port is not None and port != (target.port or _PORTS[target.scheme]):
        return False
    name = entry.hostname or ""
    return host.endswith(name[1:]) and host != name[2:] if name.startswith("*.") else host == name


def _may_connect(host: str, address: str) -> bool:
    """Whether an allowed host's address may be connected to.

    A private one may: in-house is where webhooks go. This machine itself must be named as such, so that no name
    server leads there; what is no host's address, or a cloud's own (169.254.169.254), never is.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if found.is_link_local or found.is_multicast or found.is_unspecified:
        return False
    if not found.is_loopback:
        return True
    return host == "localhost" or host.strip("[]") == address
