"""Whether the server lives, takes work, and which version it is. Open to everyone, so it says little.

An admin is told more: why work is not taken, and what to do. Reasons hold paths, names of bases and words of the
database, so nobody else is.
"""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from inhouse.errors import InhouseError
from inhouse.server import gateway
from inhouse.server.auth import secret_of
from inhouse.server.gateway import Gateway
from inhouse.server.replies import Json
from inhouse.server.version import VERSION

router = APIRouter()


@router.get("/health", response_model=None)
async def health() -> Response:
    """The process answers."""
    return Json({"status": "ok"})


@router.get("/ready", response_model=None)
async def ready(request: Request) -> Response:
    """Whether new work is taken, check by check; 503 where one is not well. Admins are told why, and the cure."""
    gw = gateway.of(request)
    checks = await gw.readiness.look()
    failed = [check.name for check in checks if not check.ok]
    sees_all = await _is_admin(gw, request)
    well = "degraded" if gw.readiness.gone else "ready"
    status = well if not failed else "draining" if "accepting" in failed else "not_ready"
    told = [asdict(check) if sees_all else {"name": check.name, "ok": check.ok} for check in checks]
    reply = {"status": status, "replicas": gw.readiness.replicas, "checks": told}
    return Json(reply, status_code=503 if failed else 200)


@router.get("/version", response_model=None)
async def version() -> Response:
    """Which release this is."""
    return Json({"version": VERSION})


async def _is_admin(gw: Gateway, request: Request) -> bool:
    """Whether a known admin asks. Where the database is away only the run folder's key is known."""
    secret = secret_of(request.headers.get("authorization", ""))
    if not secret:
        return False
    try:
        return gw.keyring.is_local(secret) or await gw.keyring.is_admin(secret)
    except (InhouseError, SQLAlchemyError):
        return False
