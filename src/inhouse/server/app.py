"""The HTTP application: the parts of a gateway put together, each layer once, every reply in one shape.

It knows no process, port or signal; `main` does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from inhouse.errors import InhouseError, InvalidRequest, MethodNotAllowed, NotFound
from inhouse.server import admin, audit, bundle, figures, health, idempotency, pins, scopes
from inhouse.server.access import Access
from inhouse.server.audit_watch import AuditWatch
from inhouse.server.auth import Auth, Keyring, host_rule
from inhouse.server.batches import Batches
from inhouse.server.courier import Courier
from inhouse.server.description import describe, known_query
from inhouse.server.edge import OPEN_PATHS, Edge, Readers, Work
from inhouse.server.gateway import Gateway
from inhouse.server.last_use import LastUse
from inhouse.server.limits import Limits, Meter
from inhouse.server.memory import Clearing
from inhouse.server.metrics import Metrics
from inhouse.server.openai import (
    audit_logs,
    batches,
    chat,
    completions,
    embeddings,
    facts,
    files,
    fine_tuning,
    models,
    projects,
    responses,
    webhooks,
)
from inhouse.server.openai import usage as usage_reports
from inhouse.server.outward import Outward
from inhouse.server.readiness import Readiness
from inhouse.server.relay import Relay
from inhouse.server.replies import error_reply
from inhouse.server.restricted import Restricted
from inhouse.server.sweeping import keep_swept
from inhouse.server.threads import StoreThreads
from inhouse.server.usage import UsageLog
from inhouse.server.validation import Validator
from inhouse.server.version import VERSION
from inhouse.settings import Settings
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database

ROUTERS = (
    *(health, figures, models, chat, completions, responses, embeddings, bundle, files, batches, fine_tuning),
    *(facts, admin, pins, projects, usage_reports, audit_logs, audit, webhooks),
)


def create_app(
    settings: Settings,
    db: Database,
    artifacts: Artifacts,
    *,
    local_key: str | None = None,
    limits: Limits | None = None,
    declared: Sequence[str] = (),
) -> FastAPI:
    """The application over a migrated database. `local_key` is an admin key that lives only in memory.

    Without `limits` they are those of the settings. Until the `declared` bases have been loaded once, the server is not
    ready.
    """
    metrics, work = Metrics(), Work()
    store = StoreThreads(db, metrics.database)
    meter, last_use = Meter(limits or Limits.of(settings)), LastUse(store)
    outward = Outward(settings.webhook_hosts)
    gateway = Gateway(
        settings=settings,
        db=db,
        artifacts=artifacts,
        store=store,
        keyring=Keyring(store, meter, last_use, local_key),
        last_use=last_use,
        work=work,
        readers=Readers(settings.idle_reader_s),
        meter=meter,
        relay=Relay(settings, store),
        usage=UsageLog(store),
        metrics=metrics,
        validator=Validator(db, artifacts, settings.max_line_bytes, settings.lease_s),
        clearing=Clearing(store, artifacts),
        restricted=Restricted(store, artifacts, settings.max_line_bytes),
        readiness=Readiness(settings, store, work, declared),
        audit_watch=AuditWatch(store),
        outward=outward,
        courier=Courier(store, outward),
        reservations=idempotency.Reservations(store, settings.lease_s),
    )
    # No documentation pages: the framework's fetch scripts from elsewhere. /openapi.json stays.
    app = FastAPI(
        title="inhouse",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Nothing is sent anywhere: no variable of the environment turns the framework's own telemetry on.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
        lifespan=_lifespan,
        dependencies=[Depends(scopes.require), Depends(known_query)],
    )
    app.state.gateway = gateway
    for module in ROUTERS:
        app.include_router(module.router)
    describe(app, routes(app))
    app.add_exception_handler(HTTPException, _framework_error)
    app.add_exception_handler(RequestValidationError, _framework_error)
    allowed = frozenset(name.strip() for name in settings.allowed_hosts.split(",") if name.strip())
    app.add_middleware(Auth, keyring=gateway.keyring, is_our_host=host_rule(settings.host, allowed))
    access = Access(gateway.metrics, OPEN_PATHS)
    # added last: the outermost
    app.add_middleware(Edge, work=gateway.work, readers=gateway.readers, access=access)
    return app


def routes(app: FastAPI) -> list[BaseRoute]:
    """Every route that is served, each router's own ones as well."""
    return [r for r in app.routes if isinstance(r, Route)] + [r for m in ROUTERS for r in m.router.routes]


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    gateway: Gateway = app.state.gateway
    running = (
        gateway.readers.run(),
        gateway.usage.run(),
        gateway.last_use.run(),
        gateway.clearing.run(),
        gateway.metrics.watch_lag(),
        gateway.readiness.run(),
        gateway.audit_watch.run(),
        Batches(app).run(),
        gateway.reservations.run(),
        gateway.courier.run(),
        keep_swept(gateway.store),
    )
    tasks = [asyncio.create_task(work) for work in running]
    gateway.validator.start()
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await gateway.usage.flush()
        await gateway.last_use.flush(all=True)
        await gateway.store.run(gateway.validator.close)
        gateway.store.close()


async def _framework_error(request: Request, raised: Exception) -> Response:
    """What the framework refuses, in the one shape that errors have."""
    if isinstance(raised, RequestValidationError):
        first = raised.errors()[0]
        return error_reply(
            InvalidRequest(f"{first['loc'][-1]}: {first['msg']}.", param=str(first["loc"][-1]))
        )
    assert isinstance(raised, HTTPException)
    where = f"{request.method} {request.url.path}"
    if raised.status_code == 404:
        path = request.url.path
        likely = next((p for p in (f"/v1{path}", path.removeprefix("/v1")) if _methods(request, p)), None)
        cure = f"It is {likely}: end base_url with one /v1." if likely else "Check the path."
        return error_reply(NotFound(f"Unknown request URL: {where}. {cure}", code="unknown_url"))
    if raised.status_code == 405:
        allowed = ", ".join(sorted(_methods(request, request.url.path)))
        error: InhouseError = MethodNotAllowed(f"Not allowed: {where}. This URL takes {allowed}.")
        return error_reply(error, {"allow": allowed})
    error = InhouseError(str(raised.detail))
    error.status = raised.status_code
    return error_reply(error)


def _methods(request: Request, path: str) -> set[str]:
    """Every method that some route takes at this path."""
    found: set[str] = set()
    for route in routes(request.app):
        match, _ = route.matches({**request.scope, "path": path})
        if match is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found
