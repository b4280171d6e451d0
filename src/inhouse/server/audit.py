"""The audit log over HTTP, and how handlers write to it: in the transaction of the act, as its last step.

It knows who did what to which id. What it is handed must be ids, names and numbers: never a secret, a prompt,
a reply or what a fact says.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, fields
from typing import Any

import orjson
from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import Response, StreamingResponse

from inhouse.errors import InvalidRequest
from inhouse.server import body, gateway
from inhouse.server.auth import Caller
from inhouse.server.replies import Json
from inhouse.settings import Settings, without_password
from inhouse.store.chain import Act, Head
from inhouse.store.db import Database, clock
from inhouse.store.records import audit

router = APIRouter(prefix="/v1/x/audit")

PIECE = 1000
"""Acts that one read for an export takes."""


def note(
    conn: Connection,
    who: Caller,
    type: audit.Type,
    target: str,
    details: Mapping[str, Any] | None = None,
    *,
    project: str | None = None,
) -> None:
    """Writes down what the caller does in this transaction. `project` is whose it is, if not the caller's."""
    audit.add(
        conn,
        actor=who.key,
        project=who.project if project is None else project,
        type=type,
        target=target,
        now=clock(conn),
        details=details,
    )


def note_start(db: Database, settings: Settings, version: str) -> None:
    """Writes down that a server starts, and with which settings; a database's password is left out."""
    chosen = {field.name: getattr(settings, field.name) for field in fields(Settings)}
    told = {
        name: without_password(str(value))
        if isinstance(value, str) or hasattr(value, "__fspath__")
        else value
        for name, value in chosen.items()
    }
    with db.write() as conn:
        audit.add(
            conn,
            actor=audit.SERVER,
            type="server.started",
            target=version,
            now=clock(conn),
            details={"settings": told},
        )


@router.get("/verify", response_model=None)
async def verify(request: Request) -> Response:
    """Whether the log is what was written, and each act that is not. `noted` is a head from an earlier look."""
    asked = body.query(request, ("noted",))
    noted = noted_head(asked["noted"]) if "noted" in asked else None
    head, broken = await gateway.of(request).store.read(lambda conn: audit.verify(conn, noted))
    return Json(
        {
            "object": "x.audit.verification",
            "intact": not broken,
            "acts": head.seq,
            "head": str(head),
            "breaks": [asdict(one) for one in broken],
        }
    )


@router.get("/export", response_model=None)
async def export(request: Request) -> Response:
    """The whole log as JSONL, oldest first, and in its last line the head: what `inhouse audit verify FILE` reads."""
    body.query(request, ())
    store = gateway.of(request).store
    head = await store.read(audit.head)

    async def lines() -> AsyncIterator[bytes]:
        for first in range(1, head.seq + 1, PIECE):
            last = min(first + PIECE - 1, head.seq)
            acts = await store.read(lambda conn, first=first, last=last: audit.between(conn, first, last))  # type: ignore[misc]
            yield b"".join(orjson.dumps(wire(act)) + b"\n" for act in acts)
        yield orjson.dumps({"object": "x.audit.head", "seq": head.seq, "hash": head.hash}) + b"\n"

    return StreamingResponse(lines(), media_type="application/jsonl")


def wire(act: Act) -> dict[str, Any]:
    """An act with all that its hash is made of."""
    return {"object": "x.audit.act", **asdict(act)}


def noted_head(text: str) -> Head:
    """A head as `verify` prints it. Raises InvalidRequest."""
    seq, _, hash = text.partition(":")
    if not (seq.isascii() and seq.isdigit() and len(seq) < 19 and re.fullmatch("[0-9a-f]{64}", hash)):
        raise InvalidRequest(
            "noted must be a head as `inhouse audit verify` prints it: a number, a colon and a hash of 64 characters.",
            param="noted",
        )
    return Head(int(seq), hash)
