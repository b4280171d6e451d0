"""The audit log by OpenAI's path, newest act first. For admins; whether it is intact is `server.audit`'s to say."""

from __future__ import annotations

import math
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import Response

from inhouse.errors import InvalidRequest
from inhouse.server import body, gateway
from inhouse.server.openai.listing import list_wire, listed, piece
from inhouse.server.replies import Json
from inhouse.store.chain import Act
from inhouse.store.records import audit, projects

router = APIRouter(prefix="/v1/organization/audit_logs")

_LISTS = ("project_ids", "event_types", "actor_ids", "resource_ids")
_BOUNDS = ("gt", "gte", "lt", "lte")


@router.get("", response_model=None)
async def list_all(request: Request) -> Response:
    """Administrative acts, those that are asked for."""
    names = [f"{name}{mark}" for name in _LISTS for mark in ("", "[]")]
    asked = body.query(request, ("after", "limit", *names, *(f"effective_at[{bound}]" for bound in _BOUNDS)))
    part = piece(asked)
    projects_, types, actors, targets = (listed(request, name) for name in _LISTS)
    for type in types:
        if type not in audit.TYPES:
            raise InvalidRequest(
                f"No act is called {type}. There are: {', '.join(audit.TYPES)}.", param="event_types"
            )
    since, until = _between(asked)
    wanted = audit.Wanted(projects_, types, actors, targets, since, until)

    def ask(conn: Connection) -> dict[str, Any]:
        found, has_more = audit.page(conn, wanted, after=part.after, limit=part.limit)
        names = {row.id: row.name for row in projects.all(conn)}
        return list_wire([wire(act, names) for act in found], has_more)

    return Json(await gateway.of(request).store.read(ask))


def wire(act: Act, project_names: dict[str, str]) -> dict[str, Any]:
    """An act as OpenAI's clients read it; what the chain is made of stands under x_."""
    told: dict[str, Any] = {
        "id": act.id,
        "object": "organization.audit_log",
        "type": act.type,
        "effective_at": math.floor(act.at),
        "actor": None,
        act.type: {"id": act.target, "data": act.details},
        "x_seq": act.seq,
        "x_actor": act.actor,
        "x_target": act.target,
        "x_details": act.details,
        "x_previous": act.previous,
        "x_hash": act.hash,
    }
    if act.project:
        told["project"] = {"id": act.project, "name": project_names.get(act.project, act.project)}
    if act.actor != audit.SERVER:
        told["actor"] = {"type": "api_key", "api_key": {"id": act.actor, "type": "service_account"}}
    return told


def _between(asked: dict[str, str]) -> tuple[float | None, float | None]:
    """From when on, and until when; whole seconds, as `effective_at` shows them."""
    found: dict[str, int] = {}
    for bound in _BOUNDS:
        said = asked.get(f"effective_at[{bound}]")
        if said is not None:
            if not (said.isascii() and said.isdigit() and len(said) < 16):
                raise InvalidRequest("effective_at takes whole Unix seconds.", param=f"effective_at[{bound}]")
            found[bound] = int(said) + (bound in ("gt", "lte"))  # after a second, or with all of it
    since = [found[bound] for bound in ("gt", "gte") if bound in found]
    until = [found[bound] for bound in ("lt", "lte") if bound in found]
    return (max(since) if since else None), (min(until) if until else None)
