"""Whether the server lives, takes work, and which version it is. Open to everyone, so it says little."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from inhouse.errors import InhouseError
from inhouse.server import bases, gateway
from inhouse.server.replies import Json
from inhouse.server.version import VERSION
from inhouse.store.records import replicas

router = APIRouter()


@router.get("/health", response_model=None)
async def health() -> Response:
    """The process answers."""
    return Json({"status": "ok"})


@router.get("/ready", response_model=None)
async def ready(request: Request) -> Response:
    """Whether new work is taken: the database answers and nobody has asked the server to stop. It is, but degraded,
    where a base's folder has gone: what is in memory is answered, and the base cannot be loaded again."""
    gw = gateway.of(request)
    try:
        held, gone = await gw.store.read(lambda conn: (replicas.alive(conn), bases.missing(conn)))
    except InhouseError as error:
        return Json({"status": error.code, "replicas": None}, status_code=503)
    count = {"ready": sum(r.ready for r in held), "starting": sum(not r.ready for r in held)}
    if gw.work.draining:
        return Json({"status": "draining", "replicas": count}, status_code=503)
    return Json({"status": "degraded" if gone else "ready", "replicas": count})


@router.get("/version", response_model=None)
async def version() -> Response:
    """Which release this is."""
    return Json({"version": VERSION})
