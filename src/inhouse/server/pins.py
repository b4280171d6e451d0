"""Pinning models: their adapters stay on the device of every engine that holds their base. Every route needs an admin
key.

It decides what may be pinned; engines read the pins from the store (`worker.pins`).
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from inhouse.errors import BadCheckpoint, Conflict, InhouseError, InvalidRequest
from inhouse.schema import ModelCard
from inhouse.server import audit, auth, body, gateway
from inhouse.server.idempotency import create_once
from inhouse.server.openai.listing import list_wire
from inhouse.server.replies import Json
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import lock
from inhouse.store.records import pins
from inhouse.store.records.pins import Pin

router = APIRouter(prefix="/v1/x/pins")

CONFIG = "adapter_config.json"


class PinRequest(body.RequestBody):
    """What to pin: a model, or all versions of one by its name without the last part."""

    model: Annotated[str, Field(min_length=1, max_length=512)]


@router.post("", openapi_extra=body.documented(PinRequest), response_model=None)
async def pin(request: Request) -> Response:
    """Pins a model of the caller's project; the same one twice is one."""
    gw, who = gateway.of(request), auth.caller(request)
    project = who.project
    asked = await body.read(request, PinRequest, gw.settings.max_body_bytes)

    def add(conn: Connection) -> dict[str, Any]:
        lock(conn, "pins")
        card = pins.target(conn, project, asked.model)
        if card.kind != "adapter":
            raise InvalidRequest(
                f"{card.name} is of the kind {card.kind}, which has no adapter to pin. Name a model that was tuned "
                "as one.",
                param="model",
            )
        pins.add(conn, project, asked.model, gw.db.clock(conn))
        _rows(card, gw.artifacts)  # raises where this one is damaged
        total = _rows_together(pins.all(conn, card.base), gw.artifacts)
        if total > gw.settings.most_pinned_rows:
            raise Conflict(
                f"With {asked.model} the adapters pinned on {card.base} would take {total} rank rows. At most "
                f"{gw.settings.most_pinned_rows} of {gw.settings.arena_rows} may be pinned, so that other adapters "
                "can still be served. Unpin another one first, or raise adapter_rows.",
                code="too_many_pinned",
                param="model",
            )
        told = _wire(Pin(project, asked.model, card), gw.artifacts)
        audit.note(conn, who, "pin.created", asked.model, {"model": card.name})
        return told | {"rows_pinned": total, "rows_most": gw.settings.most_pinned_rows}

    return await create_once(request, asked.model_dump_json().encode(), add)


@router.get("", response_model=None)
async def list_pins(request: Request) -> Response:
    """Every project's pins, the oldest first."""
    body.query(request, ())
    gw = gateway.of(request)
    found = await gw.store.read(lambda conn: [_wire(pin, gw.artifacts) for pin in pins.all(conn)])
    return Json(list_wire(found))


@router.delete("/{name:path}", response_model=None)
async def unpin(request: Request, name: str) -> Response:
    """Takes back a pin of the caller's project, by the name it was made with: from now on the adapter makes room like
    any other, unless another name still pins it: `pinned_by` says which."""
    gw, who = gateway.of(request), auth.caller(request)

    def remove(conn: Connection) -> dict[str, Any]:
        held = next((found for found in pins.names(conn, who.project).values() if name in found), [])
        pins.remove(conn, who.project, name)
        audit.note(conn, who, "pin.deleted", name)
        return {
            "id": name,
            "object": "x.pin",
            "deleted": True,
            "pinned_by": [other for other in held if other != name],
        }

    return Json(await gw.store.write(remove))


def _rows_together(found: list[Pin], artifacts: Artifacts) -> int:
    """Rank rows of all adapters that are pinned, each counted once."""
    cards = {pin.card.digest: pin.card for pin in found}
    return sum(_rows_if_whole(card, artifacts) or 0 for card in cards.values())


def _rows_if_whole(card: ModelCard, artifacts: Artifacts) -> int | None:
    """None of an adapter that is damaged: it takes no rows, as no engine loads it, and stands in no other pin's way."""
    try:
        return _rows(card, artifacts)
    except InhouseError:
        return None


def _rows(card: ModelCard, artifacts: Artifacts) -> int:
    """Rank rows that a model's adapter takes: its highest rank, by its PEFT configuration."""
    assert card.digest is not None, "an adapter is an artifact"
    try:
        config = json.loads(artifacts.path(artifacts.manifest(card.digest)[CONFIG]["sha256"]).read_bytes())
        return max(int(rank) for rank in (config["r"], *config.get("rank_pattern", {}).values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadCheckpoint(
            f"{card.name}: its {CONFIG} is missing or says no rank. Tune it again.", param="model"
        ) from None


def _wire(pin: Pin, artifacts: Artifacts) -> dict[str, Any]:
    return {
        "id": pin.name,
        "object": "x.pin",
        "project": pin.project,
        "model": pin.card.name,
        "base": pin.card.base,
        "rows": _rows_if_whole(pin.card, artifacts),
    }
