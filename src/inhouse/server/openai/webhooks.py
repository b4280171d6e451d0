"""Webhooks: which addresses of a project's are told when its jobs and batches end. Every route needs an admin key.

It knows OpenAI's wire, and under /v1/x/webhooks what an operator sees of every project's. The courier does the sending.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from inhouse.errors import Conflict, InvalidRequest, UnsupportedParameter
from inhouse.server import audit, body, gateway
from inhouse.server.auth import caller
from inhouse.server.courier import new_secret
from inhouse.server.minting import refuse_repeats
from inhouse.server.openai.listing import list_wire, piece
from inhouse.server.replies import Json
from inhouse.store import ids
from inhouse.store.records import webhooks
from inhouse.store.records.webhooks import EVENTS, Delivery, Webhook

router = APIRouter()

MOST = 50
"""Webhooks of one project: each costs a row for every end."""
OLD_SECRET_S = 24 * 3600.0
SHOWN_CHARACTERS = 4

Name = Annotated[str, Field(min_length=1, max_length=256)]
Url = Annotated[str, Field(min_length=1, max_length=2048)]
EventTypes = Annotated[list[str], Field(min_length=1, max_length=len(EVENTS))]


class WebhookRequest(body.RequestBody):
    """A new webhook."""

    event_types: EventTypes
    name: Name
    url: Url


class WebhookChange(body.RequestBody):
    """What is to be otherwise."""

    event_types: EventTypes | None = None
    name: Name | None = None
    url: Url | None = None


class Rotation(body.RequestBody):
    keep_old_secret_active_for_24_hours: bool | None = None


class TestRequest(body.RequestBody):
    event_type: str


@router.post("/v1/webhook_endpoints", openapi_extra=body.documented(WebhookRequest), response_model=None)
async def create(request: Request) -> Response:
    """Makes a webhook. Its secret is in this reply and nowhere else."""
    refuse_repeats(request)
    gw, who = gateway.of(request), caller(request)
    asked = await body.read(request, WebhookRequest, gw.settings.max_body_bytes)
    gw.outward.check(asked.url)
    events = _checked(asked.event_types)
    secret = new_secret()

    def add(conn: Connection) -> dict[str, Any]:
        if webhooks.count(conn, who.project) >= MOST:
            raise Conflict(f"A project may have {MOST} webhooks. Delete one first.")
        now = gw.db.clock(conn)
        made = Webhook(
            id=ids.new("we"),
            project=who.project,
            name=asked.name,
            url=asked.url,
            events=events,
            secret=secret,
            old_secret=None,
            old_until=None,
            created_at=now,
            updated_at=now,
        )
        webhooks.add(conn, made)
        audit.note(conn, who, "webhook.created", made.id, {"event_types": events})
        return wire(made)

    return Json(await gw.store.write(add) | {"signing_secret": secret})


@router.get("/v1/webhook_endpoints", response_model=None)
async def list_all(request: Request) -> Response:
    """The project's webhooks, newest first."""
    part, project = piece(body.query(request, ("after", "limit"))), caller(request).project
    found, has_more = await gateway.of(request).store.read(
        lambda conn: webhooks.page(conn, project, after=part.after, limit=part.limit)
    )
    return Json(list_wire([wire(one) for one in found], has_more))


@router.get("/v1/webhook_event_types", response_model=None)
async def event_types(request: Request) -> Response:
    """What a webhook may be told."""
    body.query(request, ())
    return Json({"object": "list", "data": [*EVENTS]})


@router.get("/v1/webhook_endpoints/{id}", response_model=None)
async def retrieve(request: Request, id: str) -> Response:
    """One webhook."""
    project = caller(request).project
    return Json(wire(await gateway.of(request).store.read(lambda conn: webhooks.get(conn, project, id))))


@router.post("/v1/webhook_endpoints/{id}", openapi_extra=body.documented(WebhookChange), response_model=None)
async def update(request: Request, id: str) -> Response:
    """Changes a webhook. What is on its way to it goes where it now says."""
    gw, who = gateway.of(request), caller(request)
    asked = await body.read(request, WebhookChange, gw.settings.max_body_bytes)
    values: dict[str, Any] = asked.model_dump(exclude_none=True, exclude={"event_types"})
    if asked.url is not None:
        gw.outward.check(asked.url)
    if asked.event_types is not None:
        values["events"] = _checked(asked.event_types)

    def change(conn: Connection) -> dict[str, Any]:
        if not values:
            return wire(webhooks.get(conn, who.project, id))
        changed = webhooks.change(conn, who.project, id, gw.db.clock(conn), **values)
        audit.note(conn, who, "webhook.updated", id, {"changed": sorted(values)})
        return wire(changed)

    return Json(await gw.store.write(change))


@router.delete("/v1/webhook_endpoints/{id}", response_model=None)
async def delete(request: Request, id: str) -> Response:
    """Forgets a webhook, and what it was still to be told."""
    gw, who = gateway.of(request), caller(request)

    def remove(conn: Connection) -> None:
        webhooks.remove(conn, who.project, id)
        audit.note(conn, who, "webhook.deleted", id)

    await gw.store.write(remove)
    return Json({"id": id, "object": "webhook_endpoint.deleted", "deleted": True})


@router.post(
    "/v1/webhook_endpoints/{id}/rotate_secret", openapi_extra=body.documented(Rotation), response_model=None
)
async def rotate(request: Request, id: str) -> Response:
    """Makes a new secret, which is in this reply and nowhere else."""
    refuse_repeats(request)
    gw, who = gateway.of(request), caller(request)
    asked = await body.read(request, Rotation, gw.settings.max_body_bytes)
    secret, is_kept = new_secret(), bool(asked.keep_old_secret_active_for_24_hours)

    def change(conn: Connection) -> dict[str, Any]:
        now = gw.db.clock(conn)
        before = webhooks.get(conn, who.project, id)
        values = {
            "secret": secret,
            "old_secret": before.secret if is_kept else None,
            "old_until": now + OLD_SECRET_S if is_kept else None,
        }
        changed = webhooks.change(conn, who.project, id, now, **values)
        audit.note(conn, who, "webhook.rotated", id, {"old_secret_kept": is_kept})
        return wire(changed)

    return Json(await gw.store.write(change) | {"signing_secret": secret})


@router.post(
    "/v1/webhook_endpoints/{id}/test", openapi_extra=body.documented(TestRequest), response_model=None
)
async def test(request: Request, id: str) -> Response:
    """Sends a made-up event once, now, and says what was answered."""
    gw, who = gateway.of(request), caller(request)
    asked = await body.read(request, TestRequest, gw.settings.max_body_bytes)
    (type,) = _checked([asked.event_type], "event_type")
    found = await gw.store.read(lambda conn: webhooks.get(conn, who.project, id))
    now = await gw.store.read(gw.db.clock)
    answer = await gw.courier.send(found, ids.new("wh"), webhooks.event(type, "x-test", now))
    if answer.status is None:
        raise InvalidRequest(f"Nothing was delivered: {answer.said}.", param="url", code="not_delivered")
    return Json(
        {
            "object": "webhook_endpoint.test",
            "webhook_endpoint_id": id,
            "event_type": type,
            "status_code": answer.status,
            "success": answer.is_good,
        }
    )


@router.get("/v1/x/webhooks", response_model=None)
async def list_every(request: Request) -> Response:
    """Every project's webhooks, newest first."""
    part = piece(body.query(request, ("after", "limit")))
    found, has_more = await gateway.of(request).store.read(
        lambda conn: webhooks.page(conn, None, after=part.after, limit=part.limit)
    )
    return Json(list_wire([wire(one) | {"x_project": one.project} for one in found], has_more))


@router.get("/v1/x/webhooks/{id}/deliveries", response_model=None)
async def deliveries(request: Request, id: str) -> Response:
    """What a webhook was told or is still to be told, newest first, and what came of the last try."""
    part = piece(body.query(request, ("after", "limit")))
    found, has_more = await gateway.of(request).store.read(
        lambda conn: webhooks.told(conn, id, after=part.after, limit=part.limit)
    )
    return Json(list_wire([_delivery_wire(one) for one in found], has_more))


def wire(webhook: Webhook) -> dict[str, Any]:
    """A webhook as OpenAI's clients read it."""
    return {
        "id": webhook.id,
        "object": "webhook_endpoint",
        "name": webhook.name,
        "url": webhook.url,
        "event_types": webhook.events,
        "signing_secret_hint": webhook.secret[-SHOWN_CHARACTERS:],
        "created_at": int(webhook.created_at),
        "updated_at": int(webhook.updated_at),
    }


def _delivery_wire(delivery: Delivery) -> dict[str, Any]:
    state = "delivered" if delivery.delivered_at else "waiting" if delivery.due_at else "given_up"
    return {
        "id": delivery.id,
        "object": "x.webhook.delivery",
        "webhook": delivery.webhook,
        "type": delivery.type,
        "state": state,
        "tries": delivery.tries,
        "last_answer": delivery.said or None,
        "created_at": delivery.created_at,
        "due_at": delivery.due_at,
        "delivered_at": delivery.delivered_at,
    }


def _checked(events: list[str], param: str = "event_types") -> list[str]:
    """Those events, once each and in our order. Raises UnsupportedParameter."""
    for event in events:
        if event not in EVENTS:
            raise UnsupportedParameter(
                f"This server sends no event {event[:100]!r}. It sends {', '.join(EVENTS)}.", param=param
            )
    return [event for event in EVENTS if event in events]
