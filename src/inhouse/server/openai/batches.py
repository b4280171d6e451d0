"""Batches: made from an uploaded file of requests, listed, followed by their counts, cancelled.

It knows OpenAI's wire and the store's batches; `server.batches` runs them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Connection
from starlette.responses import Response

from inhouse.errors import InvalidRequest, NotFound
from inhouse.server import audit, body, gateway, scopes
from inhouse.server.auth import caller
from inhouse.server.idempotency import create_once
from inhouse.server.openai.listing import list_wire, piece
from inhouse.server.openai.sampling import Metadata
from inhouse.server.replies import Json
from inhouse.store import ids
from inhouse.store.records import batches, files
from inhouse.store.records.batches import Batch

router = APIRouter()

WINDOW_S = 24 * 3600.0
TIMES = ("in_progress", "expires", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


class BatchRequest(body.RequestBody):
    """The body of a new batch."""

    input_file_id: Annotated[str, Field(min_length=1, max_length=128)]
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
    completion_window: Literal["24h"]
    metadata: Metadata | None = None

    output_expires_after: None = None


@router.post("/v1/batches", openapi_extra=body.documented(BatchRequest), response_model=None)
async def create(request: Request) -> Response:
    """Makes a batch of a file's requests; its lines are checked next, and answered behind everybody else's."""
    gw, who = gateway.of(request), caller(request)
    asked = await body.read(request, BatchRequest, gw.settings.max_body_bytes)
    scopes.demand(who, "files")  # a batch reads a file and writes others

    def add(conn: Connection) -> dict[str, Any]:
        try:
            file = files.get(conn, who.project, asked.input_file_id)
        except NotFound:
            raise NotFound(
                f"There is no file {asked.input_file_id!r}. Upload it first.", param="input_file_id"
            ) from None
        if file.purpose != "batch":
            raise InvalidRequest(
                f"{file.id} was uploaded for {file.purpose}. Upload it with the purpose batch.",
                param="input_file_id",
            )
        now = gw.db.clock(conn)
        batch = Batch(
            id=ids.new("batch"),
            project=who.project,
            key=who.key,
            endpoint=asked.endpoint,
            input_file=file.id,
            digest=file.digest,
            metadata=asked.metadata or {},
            created_at=now,
            expires_at=now + WINDOW_S,
        )
        batches.add(conn, batch)
        audit.note(conn, who, "batch.created", batch.id, {"file": file.id, "endpoint": asked.endpoint})
        return wire(batch)

    return await create_once(request, asked.model_dump_json().encode(), add)


@router.get("/v1/batches", response_model=None)
async def list_all(request: Request) -> Response:
    """The project's batches, newest first."""
    part, project = piece(body.query(request, ("after", "limit"))), caller(request).project
    found, has_more = await gateway.of(request).store.read(
        lambda conn: batches.page(conn, project, after=part.after, limit=part.limit)
    )
    return Json(list_wire([wire(batch) for batch in found], has_more))


@router.get("/v1/batches/{id}", response_model=None)
async def retrieve(request: Request, id: str) -> Response:
    """One batch."""
    project = caller(request).project
    return Json(wire(await gateway.of(request).store.read(lambda conn: batches.get(conn, project, id))))


@router.post("/v1/batches/{id}/cancel", response_model=None)
async def cancel(request: Request, id: str) -> Response:
    """Asks for a batch's end. What was answered by then is kept; each other line says that it was cancelled."""
    gw, who = gateway.of(request), caller(request)

    def end(conn: Connection) -> dict[str, Any]:
        ended = batches.cancel(conn, who.project, id, gw.db.clock(conn))
        audit.note(conn, who, "batch.cancelled", id)
        return wire(ended)

    return Json(await gw.store.write(end))


def wire(batch: Batch) -> dict[str, Any]:
    """A batch as OpenAI's clients read it. What is not yet so is left out."""
    told = {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": batch.input_file,
        "completion_window": "24h",
        "status": batch.status,
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "created_at": int(batch.created_at),
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": batch.metadata or None,
    }
    times = {f"{name}_at": getattr(batch, f"{name}_at") for name in TIMES}
    told |= {name: None if at is None else int(at) for name, at in times.items()}
    return {name: value for name, value in told.items() if value is not None}
