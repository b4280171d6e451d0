"""One way to send a request: with the key, with retries, and with errors as exceptions.

It knows HTTP and nothing of jobs, models or files.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO

import httpx2

from inhouse import __version__
from inhouse.client.faults import from_wire
from inhouse.errors import InhouseError, InternalError, InvalidRequest, ServerUnreachable

ATTEMPTS = 5
CONNECTIONS = 100
LONGEST_WAIT_S = 120.0
"""A server that asks for more patience than this is not waited for; the error says how long it asked."""
NO_ANSWER = "no_answer_in_time"
"""Code of the error of a request that was heard, and took too long."""
_RETRIED = (408, 409, 429)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server answers, and the key it takes."""

    url: str
    key: str | None
    is_local: bool = False
    """On this machine and found by its run folder: proxies from the environment do not apply."""


class Http:
    """A connection pool to one server. Safe to use from several threads.

    `relocate` finds the server again when nothing answers or the key is unknown: a local one may have gone
    to sleep or been restarted.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout_s: float = 600.0,
        attempts: int = ATTEMPTS,
        connections: int = CONNECTIONS,
        relocate: Callable[[], Address] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not address.url.startswith(("http://", "https://")):
            raise InvalidRequest(
                f"{address.url!r} is no server's address. Give one like http://host:8420.", param="url"
            )
        self.address = address
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._connections = connections
        self._relocate = relocate
        self._sleep = sleep
        self._moving = threading.Lock()
        self._left: list[httpx2.Client] = []
        self._pool = self._open()

    def _open(self) -> httpx2.Client:
        headers = {"user-agent": f"inhouse/{__version__}"}
        if self.address.key:
            headers["authorization"] = f"Bearer {self.address.key}"
        try:
            return httpx2.Client(
                base_url=self.address.url.removesuffix("/").removesuffix("/v1"),
                headers=headers,
                timeout=httpx2.Timeout(self._timeout_s, connect=10.0),
                limits=httpx2.Limits(max_connections=self._connections),
                trust_env=not self.address.is_local,
            )
        except httpx2.InvalidURL as e:
            raise InvalidRequest(f"{self.address.url!r} is no server's address: {e}.", param="url") from e

    def beside(self, *, connections: int, sleep: Callable[[float], None]) -> Http:
        """Another pool to the same server, for many requests at once."""
        return Http(
            self.address,
            timeout_s=self._timeout_s,
            attempts=self._attempts,
            connections=connections,
            relocate=self._relocate,
            sleep=sleep,
        )

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        upload: tuple[str, BinaryIO, Mapping[str, str]] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """The reply's JSON object. `upload` is a file's name, its content and the form fields beside it."""
        with self.send(
            method, path, body=body, params=params, upload=upload, idempotency_key=idempotency_key
        ) as reply:
            try:
                value = json.loads(reply.read())
            except httpx2.HTTPError as e:
                raise self._broke_off(e) from e
            except ValueError as e:
                raise InternalError(
                    f"{self.address.url} sent a reply to {method} {path} that is not JSON."
                ) from e
        if not isinstance(value, dict):
            raise InternalError(f"{self.address.url} sent a reply to {method} {path} that is no object.")
        return value

    def content(self, path: str, params: Mapping[str, Any]) -> Iterator[bytes]:
        """The body of a GET, piece by piece, for what may be too long to hold."""
        with self.send("GET", path, params=params) as reply:
            yield from self.pieces(reply)

    def pieces(self, reply: httpx2.Response) -> Iterator[bytes]:
        """A reply's body, piece by piece. Raises ServerUnreachable where it breaks off."""
        try:
            yield from reply.iter_bytes()
        except httpx2.HTTPError as e:
            raise self._broke_off(e) from e

    def events(
        self, path: str, body: Mapping[str, Any] | None = None, *, lines: bytes | None = None
    ) -> Iterator[dict[str, Any]]:
        """Each data frame of a streamed POST, until [DONE]. Closing the iterator cancels the request.

        `lines` is JSONL, for a body of many objects.
        """
        with self.send("POST", path, body=body, lines=lines) as reply:
            try:
                for data in event_data(reply.iter_bytes()):
                    if data == b"[DONE]":
                        return
                    frame = json.loads(data)
                    if error := frame.get("error"):
                        raise from_wire(error)
                    yield frame
            except (httpx2.HTTPError, ValueError) as e:
                raise self._broke_off(e) from e
        raise ServerUnreachable(
            f"The answer from {self.address.url} ended before it was complete. Ask again."
        )

    @contextmanager
    def send(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        lines: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        upload: tuple[str, BinaryIO, Mapping[str, str]] | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[httpx2.Response]:
        """A successful reply, its body not yet read. Every request of the client goes through here."""
        headers = {**(headers or {}), **({"idempotency-key": idempotency_key} if idempotency_key else {})}
        for attempt in range(1, self._attempts + 1):
            request: dict[str, Any] = {"params": params, "headers": headers}
            if body is not None:
                request["json"] = body
            if lines is not None:
                request |= {"content": lines, "headers": {**headers, "content-type": "application/jsonl"}}
            if upload is not None:
                name, content, fields = upload
                content.seek(0)
                request |= {"files": {"file": (name, content)}, "data": dict(fields)}
            error: InhouseError
            try:
                reply = self._pool.send(self._pool.build_request(method, path, **request), stream=True)
            except (httpx2.ReadTimeout, httpx2.WriteTimeout, httpx2.PoolTimeout) as e:
                raise ServerUnreachable(
                    f"{self.address.url} did not answer {method} {path} within {self._timeout_s:.0f} s.",
                    code=NO_ANSWER,
                ) from e
            except httpx2.TransportError as e:
                error = self._unreachable(e)
                wait_s = 0.0 if self._has_moved() else _backoff_s(attempt)
            else:
                if reply.is_success:
                    try:
                        yield reply
                    finally:
                        reply.close()
                    return
                error = self._refusal(reply)
                if reply.status_code == 401 and self._has_moved():
                    wait_s = 0.0
                elif not _should_retry(reply):
                    raise error
                else:
                    wait_s = _backoff_s(attempt) if error.retry_after_s is None else error.retry_after_s
            if attempt == self._attempts or wait_s > LONGEST_WAIT_S:
                raise error
            self._sleep(wait_s)

    def close(self) -> None:
        for pool in (*self._left, self._pool):
            pool.close()

    def _has_moved(self) -> bool:
        """Look for the server again; True when it was found at another address or with another key."""
        if self._relocate is None:
            return False
        with self._moving:
            before = self.address
            self.address = self._relocate()
            if self.address == before:
                return False
            self._left.append(self._pool)  # other threads may be about to use it: it is closed at the end
            self._pool = self._open()
            return True

    def _broke_off(self, cause: Exception) -> ServerUnreachable:
        if isinstance(cause, httpx2.TimeoutException):
            return ServerUnreachable(
                f"The answer from {self.address.url} stood still for {self._timeout_s:.0f} s.", code=NO_ANSWER
            )
        return ServerUnreachable(f"The answer from {self.address.url} broke off ({_word(cause)}). Ask again.")

    def _unreachable(self, cause: Exception) -> ServerUnreachable:
        return ServerUnreachable(
            f"No server answers at {self.address.url} ({_word(cause)}). "
            "Check the address, or start one: inhouse up"
        )

    def _refusal(self, reply: httpx2.Response) -> InhouseError:
        try:
            raw = reply.read()
        except httpx2.HTTPError:
            raw = b""
        finally:
            reply.close()
        retry_after_s = _retry_after_s(reply)
        try:
            error = json.loads(raw)["error"]
            assert isinstance(error, dict)
        except (ValueError, KeyError, TypeError, AssertionError):
            hint = f" It points to {reply.headers['location']}." if "location" in reply.headers else ""
            error = {
                "message": f"{self.address.url} answered {reply.status_code} and is no Inhouse server.{hint}"
            }
        return from_wire(error, status=reply.status_code, retry_after_s=retry_after_s)


def event_data(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The data of each server-sent event. Only newlines end a line: text may hold any other separator."""
    held = b""
    data: list[bytes] = []
    for chunk in chunks:
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data.clear()


def _should_retry(reply: httpx2.Response) -> bool:
    said = reply.headers.get("x-should-retry")
    if said in ("true", "false"):
        return bool(said == "true")
    return is_retried(reply.status_code)


def is_retried(status: int) -> bool:
    """Whether the same request may be answered another time."""
    return status in _RETRIED or status >= 500


def _backoff_s(attempt: int) -> float:
    """0.5, 1, 2, 4 … at most 8 s, a random half of it taken off, so that clients do not return in step."""
    return min(8.0, 0.25 * 2.0**attempt) * random.uniform(0.5, 1.0)


def _retry_after_s(reply: httpx2.Response) -> float | None:
    said: str | None = reply.headers.get("retry-after")
    if said is None:
        return None
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        at: float = parsedate_to_datetime(said).timestamp()
        return max(0.0, at - time.time())
    except (TypeError, ValueError):
        return None


def _word(error: Exception) -> str:
    return str(error) or type(error).__name__
