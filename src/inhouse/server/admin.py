"""What an operator does over HTTP: keys, bases, verifying an adapter. Every route needs an admin key.

It knows no tenant's data; the richer admin resources are not here yet.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from inhouse.errors import InvalidRequest, UnsupportedParameter
from inhouse.schema import EngineRequest
from inhouse.server import auth, bases, body, calls, gateway
from inhouse.server.idempotency import HEADER
from inhouse.server.openai import models as models_wire
from inhouse.server.openai.listing import list_wire
from inhouse.server.replies import Json
from inhouse.store import ids
from inhouse.store.records import keys, models, projects
from inhouse.store.records.keys import KeyRow

router = APIRouter(prefix="/v1/x", dependencies=[Depends(auth.admin_only)])

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.\-]+$")]


class KeyRequest(body.RequestBody):
    """A new key. A project that does not exist yet is made."""

    name: Name
    role: Literal["admin", "member"] = "member"
    project: Name | None = None
    expires_at: Annotated[float, Field(gt=0)] | None = None
    groups: Annotated[list[Name], Field(max_length=100)] | None = None
    """What its holder belongs to: facts with an access list are for those who share one of its groups."""


class BaseRequest(body.RequestBody):
    """A base by folder or hub id, and what to call it."""

    source: Annotated[str, Field(min_length=1, max_length=4096)]
    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][\w.\-/]*$")] | None = None


class VerifyRequest(body.RequestBody):
    """A model to verify."""

    model: Annotated[str, Field(min_length=1, max_length=512)]


@router.post("/keys", openapi_extra=body.documented(KeyRequest), response_model=None)
async def create_key(request: Request) -> Response:
    """Makes a key. Its secret is in this reply and nowhere else."""
    if HEADER in request.headers:
        raise UnsupportedParameter(
            "A key's secret is shown once and never stored, so its reply cannot be repeated. "
            "Leave the Idempotency-Key header out.",
            param="Idempotency-Key",
        )
    gw, who = gateway.of(request), auth.caller(request)
    asked = await body.read(request, KeyRequest, gw.settings.max_body_bytes)
    secret = auth.new_secret()

    def add(conn: Connection) -> dict[str, Any]:
        now = gw.db.clock(conn)
        if asked.expires_at is not None and asked.expires_at <= now:
            raise InvalidRequest("expires_at is in the past.", param="expires_at")
        project = projects.ensure(conn, asked.project, now) if asked.project else who.project
        id = keys.add(
            conn,
            project=project,
            name=asked.name,
            secret_hash=auth.hash_of(secret),
            role=asked.role,
            now=now,
            expires_at=asked.expires_at,
            groups=asked.groups or (),
        )
        return next(_wire(row) for row in keys.list(conn, project) if row.id == id)

    return Json(await gw.store.write(add) | {"key": secret})


@router.get("/keys", response_model=None)
async def list_keys(request: Request) -> Response:
    """Every project's keys, without their secrets."""
    body.query(request, ())

    def ask(conn: Connection) -> list[dict[str, Any]]:
        return [_wire(row) for project in projects.all(conn) for row in keys.list(conn, project.id)]

    return Json(list_wire(await gateway.of(request).store.read(ask)))


@router.delete("/keys/{id}", response_model=None)
async def revoke_key(request: Request, id: str) -> Response:
    """Makes a key useless."""
    gw = gateway.of(request)
    await gw.store.write(lambda conn: keys.revoke(conn, id))
    gw.keyring.forget()
    return Json({"id": id, "object": "x.key", "deleted": True})


@router.get("/bases", response_model=None)
async def list_bases(request: Request) -> Response:
    """Every registered base."""
    body.query(request, ())
    gw = gateway.of(request)
    return Json(list_wire(await gw.store.read(lambda conn: _bases(conn, gw.settings.base))))


@router.put("/bases", openapi_extra=body.documented(BaseRequest), response_model=None)
async def put_base(request: Request) -> Response:
    """Registers a base by folder or hub id; the same one twice is one."""
    gw = gateway.of(request)
    asked = await body.read(request, BaseRequest, gw.settings.max_body_bytes)

    def add(conn: Connection) -> dict[str, Any]:
        card = bases.register(conn, asked.source, gw.db.clock(conn), asked.name)
        return next(one for one in _bases(conn, gw.settings.base) if one["id"] == card.name)

    return Json(await gw.store.write(add))


@router.post("/verify", openapi_extra=body.documented(VerifyRequest), response_model=None)
async def verify(request: Request) -> Response:
    """Whether a tuned model's adapter fits its base, changes it, and is served as the plain way computes it."""
    gw, who = gateway.of(request), auth.caller(request)
    asked = await body.read(request, VerifyRequest, gw.settings.max_body_bytes)
    card = await gw.store.read(lambda conn: bases.find(conn, who.project, asked.model))
    if card.kind != "adapter" or card.digest is None:
        raise InvalidRequest(
            f"{card.name} is of the kind {card.kind}, which has no adapter. Name a model that was tuned as one.",
            param="model",
        )
    call = EngineRequest(id=ids.new("verify"), project=who.project, adapter=card.digest)
    checks = await calls.verify(request, gateway.resident(card), call)
    return Json(
        {
            "object": "x.verification",
            "model": card.name,
            "x_adapter": card.digest,
            "passed": all(check.passed is not False for check in checks),
            "checks": [check.model_dump() for check in checks],
        }
    )


def _bases(conn: Connection, default_base: str) -> list[dict[str, Any]]:
    cards = models.all(conn, "")
    default = bases.named_by(cards, default_base)
    return [models_wire.wire(card, is_default=card is default) | {"x_source": card.source} for card in cards]


def _wire(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "x.key",
        "name": row.name,
        "role": row.role,
        "project": row.project,
        "created_at": int(row.created_at),
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "groups": [*row.groups],
    }
