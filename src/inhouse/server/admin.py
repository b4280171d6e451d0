"""What an operator does over HTTP: keys, bases, verifying an adapter. Every route needs an admin key.

It knows no tenant's data. Projects and their keys in OpenAI's words are `openai/projects`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from inhouse.errors import InvalidRequest, NotFound
from inhouse.schema import EngineRequest
from inhouse.server import audit, auth, bases, body, calls, gateway, minting
from inhouse.server.minting import LimitsBody, Name, Scopes
from inhouse.server.openai import models as models_wire
from inhouse.server.openai.listing import list_wire
from inhouse.server.replies import Json
from inhouse.store import ids
from inhouse.store.records import accounts, keys, models, projects
from inhouse.store.records.keys import KeyRow
from inhouse.store.records.limits import RateLimits

router = APIRouter(prefix="/v1/x")


class KeyRequest(body.RequestBody):
    """A new key, of the caller's project if none is named; without an account it gets one of its own name."""

    name: Name
    role: Literal["admin", "member"] | None = None
    project: Name | None = None
    account: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    scopes: Scopes | None = None
    expires_at: Annotated[float, Field(gt=0)] | None = None
    groups: Annotated[list[Name], Field(max_length=100)] | None = None
    """What its holder belongs to: facts with an access list are for those who share one of its groups."""
    limits: LimitsBody | None = None


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
    minting.refuse_repeats(request)
    gw, who = gateway.of(request), auth.caller(request)
    asked = await body.read(request, KeyRequest, gw.settings.max_body_bytes)
    secret = auth.new_secret()

    def add(conn: Connection) -> dict[str, Any]:
        project = _project(conn, asked.project) if asked.project else who.project
        if asked.account is None:
            of = minting.account(conn, who, project, asked.name, asked.role or "member")
        else:
            of = accounts.get(conn, project, asked.account)
            if asked.role not in (None, of.role):
                raise InvalidRequest(
                    f"The account {of.id} has the role {of.role}. Leave role out.", param="role"
                )
        row = minting.key(
            conn,
            who,
            of,
            asked.name,
            secret,
            scopes=asked.scopes,
            expires_at=asked.expires_at,
            groups=asked.groups or (),
            limits=RateLimits().changed(asked.limits.changes()) if asked.limits else None,
        )
        return _wire(row)

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
    gw, who = gateway.of(request), auth.caller(request)
    await gw.store.write(lambda conn: minting.revoke(conn, who, id))
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
    gw, who = gateway.of(request), auth.caller(request)
    asked = await body.read(request, BaseRequest, gw.settings.max_body_bytes)

    def add(conn: Connection) -> dict[str, Any]:
        card = bases.register(conn, asked.source, gw.db.clock(conn), asked.name)
        audit.note(conn, who, "base.registered", card.name, {"source": asked.source}, project="")
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


def _project(conn: Connection, name: str) -> str:
    """The id of the project by this name. Raises NotFound: a name that is mistyped makes none."""
    known = projects.by_name(conn, name)
    if known is None:
        raise NotFound(
            f"There is no project {name!r}. `inhouse projects list` lists those there are; "
            f"`inhouse projects create {name}` makes this one.",
            param="project",
        )
    return known.id


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
        "account": row.account,
        "scopes": [*row.scopes],
        "shown": row.shown,
        "last_used_at": row.last_used_at,
        "limits": row.limits.to_json(),
    }
