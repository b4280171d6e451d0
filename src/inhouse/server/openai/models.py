"""Models: the bases and the project's own tuned models; the latter can be deleted.

Ids hold `:` and `/`, so the rest of the path is the id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Connection
from starlette.responses import Response

from inhouse.errors import PermissionDenied
from inhouse.jobs import serving
from inhouse.schema import ModelCard
from inhouse.server import audit, bases, body, gateway
from inhouse.server.auth import caller
from inhouse.server.openai.listing import list_wire
from inhouse.server.replies import Json
from inhouse.store.records import banks, batch_answers, models, pins
from inhouse.store.records.batch_answers import Outputs, Sought
from inhouse.store.records.forgetting import Purged

router = APIRouter()


@router.get("/v1/models", response_model=None)
async def list_all(request: Request) -> Response:
    """Every model that the caller may ask."""
    body.query(request, ())
    gw, project = gateway.of(request), caller(request).project
    cards, pinned = await gw.store.read(lambda conn: (models.all(conn, project), pins.names(conn, project)))
    default = bases.named_by(cards, gw.settings.base)
    return Json(
        list_wire(
            [wire(card, is_default=card is default, pinned=pinned.get(card.name, ())) for card in cards]
        )
    )


@router.get("/v1/models/{name:path}", response_model=None)
async def retrieve(request: Request, name: str) -> Response:
    """One model, whether its base is loaded, and how many requests for it are decoded at once, may wait, and are
    under way: what a client asks that has many, or waits."""
    gw, project = gateway.of(request), caller(request).project

    def ask(conn: Connection) -> dict[str, Any]:
        card = bases.find(conn, project, name)
        base = gateway.resident(card)
        running, waiting = gw.relay.places(base)
        default = bases.named_by(models.all(conn, ""), gw.settings.base)
        pinned = pins.names(conn, project).get(card.name, ())
        told = wire(card, is_default=card == default, pinned=pinned)
        places = {"running": running, "waiting": waiting, "is_full": gw.relay.running[base] > running}
        return told | {"x_state": serving.standing(conn, base), "x_places": places}

    return Json(await gw.store.read(ask))


@router.delete("/v1/models/{name:path}", response_model=None)
async def delete(request: Request, name: str) -> Response:
    """Forgets a tuned model of the caller's project. Requests that run on it end on it.

    Of a memory, its facts go with it, and all that forgetting each of them would take.
    """
    gw, who = gateway.of(request), caller(request)
    project = who.project
    card = await gw.store.read(lambda conn: models.get(conn, project, name))
    if card.project is None:
        raise PermissionDenied(
            f"{name} is a base, which every project uses. Only tuned models can be deleted."
        )
    deleted: dict[str, Any] = {"id": name, "object": "model", "deleted": True}
    if card.kind == "memory":

        def sought(conn: Connection) -> Sought:
            return batch_answers.sought(conn, banks.of_model(conn, card).id)

        def forget(conn: Connection, outputs: Outputs) -> Purged:
            bank = banks.of_model(conn, card).id
            gone = banks.delete(conn, bank, outputs)
            models.delete(conn, project, name)
            audit.note(conn, who, "model.deleted", name, {"kind": card.kind, "bank": bank})
            return gone

        gone, is_cleared = await gw.clearing.forget(project, sought, forget)
        more = {"x_files_deleted": [*gone.files], "x_responses_deleted": gone.responses}
        return Json(deleted | more | {"x_cleared": is_cleared})

    def remove(conn: Connection) -> None:
        models.delete(conn, project, name)
        pins.sweep(conn, project)
        audit.note(conn, who, "model.deleted", name, {"kind": card.kind})

    await gw.store.write(remove)
    return Json(deleted)


def wire(card: ModelCard, *, is_default: bool, pinned: Sequence[str] = ()) -> dict[str, Any]:
    """A model as OpenAI's clients read it, and under x_ what it is here. pinned: the names it is pinned by."""
    return {
        "id": card.name,
        "object": "model",
        "created": int(card.created_at),
        "owned_by": card.project or "inhouse",
        "x_kind": card.kind,
        "x_base": card.base,
        "x_default": is_default,
        "x_digest": card.digest,
        "x_pinned": [*pinned],
        "x_about": card.about,
    }
