"""A request that nobody sent: a line of a batch, answered by the very handler that answers it over HTTP.

It knows handlers and the layer of errors around them; the caller was authenticated when the batch was made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from inhouse import logs
from inhouse.server.auth import Caller
from inhouse.server.calls import Background
from inhouse.server.edge import Edge
from inhouse.server.gateway import Gateway
from inhouse.server.openai import chat, completions, embeddings

HANDLERS: dict[str, Callable[[Request], Awaitable[Response]]] = {
    "/v1/chat/completions": chat.create,
    "/v1/completions": completions.create,
    "/v1/embeddings": embeddings.create,
}
"""What a batch may ask for, and who answers it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the request was answered."""

    status: int
    request_id: str
    retry_after_s: float
    body: bytes


class Inner:
    """Answers requests from within. What goes wrong becomes a reply, as it does for a request from outside."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        gateway: Gateway = app.state.gateway
        self._edge = Edge(_handled, work=gateway.work, readers=gateway.readers)

    async def post(self, path: str, body: bytes, who: Caller, background: Background) -> Reply:
        """The reply to a JSON body. Raises CancelledError where the server's end cut the handler off."""
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "app": self._app,
            "state": {"caller": who, "background": background},
        }
        sent: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        received: list[Message] = []

        async def receive() -> Message:
            while not sent:  # nobody hangs up: whoever gives the line up cancels it
                await asyncio.Event().wait()
            return sent.pop()

        async def send(message: Message) -> None:
            received.append(message)

        with logs.about(project=who.project):
            await self._edge(scope, receive, send)
        if not received:
            raise asyncio.CancelledError
        headers = dict(received[0]["headers"])
        return Reply(
            status=int(received[0]["status"]),
            request_id=headers[b"x-request-id"].decode(),
            retry_after_s=float(headers.get(b"retry-after", b"0")),
            body=b"".join(message.get("body", b"") for message in received[1:]),
        )


async def _handled(scope: Scope, receive: Receive, send: Send) -> None:
    response = await HANDLERS[scope["path"]](Request(scope, receive, send))
    await response(scope, receive, send)
