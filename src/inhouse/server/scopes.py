"""Which scope a route needs. A route that no area here covers is refused to everybody: deny by default.

It knows paths as the routes write them, and no handler. A URL that no route serves never gets here.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from inhouse.errors import PermissionDenied
from inhouse.server.auth import Caller, caller
from inhouse.server.edge import OPEN_PATHS
from inhouse.store.records.keys import SCOPES_OF

SCOPES = SCOPES_OF["admin"]
_READS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Area:
    """Routes whose path is this one or lies below it, and what reading and changing there needs."""

    path: str
    reads: str
    changes: str

    def covers(self, path: str) -> bool:
        return path == self.path or path.startswith(self.path + "/")


def _one(path: str, scope: str) -> Area:
    return Area(path, scope, scope)


AREAS = (
    Area("/v1/models", "models.read", "models.write"),
    _one("/v1/chat", "inference"),
    _one("/v1/completions", "inference"),
    _one("/v1/embeddings", "inference"),
    _one("/v1/responses", "inference"),
    _one("/v1/conversations", "inference"),
    _one("/v1/x/rows", "inference"),
    _one("/v1/batches", "inference"),
    _one("/v1/files", "files"),
    _one("/v1/uploads", "files"),
    _one("/v1/fine_tuning", "fine_tuning"),
    _one("/v1/facts", "facts"),
    _one("/v1/webhook_endpoints", "admin"),
    _one("/v1/webhook_event_types", "admin"),
    _one("/v1/organization", "admin"),
    _one("/v1/x", "admin"),
    _one("/metrics", "admin"),
)
"""The first that covers a path counts."""


def needed(method: str, path: str) -> str | None:
    """The scope that this route needs; None: none is named for it, so nobody may use it."""
    for area in AREAS:
        if area.covers(path):
            return area.reads if method in _READS else area.changes
    return None


async def require(request: Request) -> None:
    """The application's dependency, before every route: 403 for a key without the route's scope."""
    path = getattr(request.scope["route"], "path", request.url.path)
    if path in OPEN_PATHS:
        return
    scope = needed(request.method, path)
    if scope is None:
        raise PermissionDenied(f"{path} has no scope, so no key may use it. This is a fault of this server.")
    demand(caller(request), scope)


def demand(who: Caller, scope: str) -> None:
    """Raises PermissionDenied for a key without this scope."""
    if scope in who.scopes:
        return
    if scope == "admin":
        raise PermissionDenied("This needs an admin key. Ask whoever runs this server for one.")
    raise PermissionDenied(
        f"This key may not do this: it lacks the scope {scope}. Ask an admin for a key that has it."
    )
