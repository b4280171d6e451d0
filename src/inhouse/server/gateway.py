"""What every handler of one server shares: settings, store, relay, limits. It decides nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from inhouse.schema import ModelCard
from inhouse.settings import Settings
from inhouse.store.artifacts import Artifacts
from inhouse.store.db import Database

if TYPE_CHECKING:
    from inhouse.server.audit_watch import AuditWatch
    from inhouse.server.auth import Keyring
    from inhouse.server.courier import Courier
    from inhouse.server.edge import Readers, Work
    from inhouse.server.idempotency import Reservations
    from inhouse.server.last_use import LastUse
    from inhouse.server.limits import Meter
    from inhouse.server.memory import Clearing
    from inhouse.server.metrics import Metrics
    from inhouse.server.outward import Outward
    from inhouse.server.readiness import Readiness
    from inhouse.server.relay import Relay
    from inhouse.server.restricted import Restricted
    from inhouse.server.threads import StoreThreads
    from inhouse.server.usage import UsageLog
    from inhouse.server.validation import Validator


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of one running server."""

    settings: Settings
    db: Database
    artifacts: Artifacts
    store: StoreThreads
    keyring: Keyring
    last_use: LastUse
    work: Work
    readers: Readers
    meter: Meter
    relay: Relay
    usage: UsageLog
    metrics: Metrics
    validator: Validator
    clearing: Clearing
    restricted: Restricted
    readiness: Readiness
    audit_watch: AuditWatch
    outward: Outward
    courier: Courier
    reservations: Reservations


def of(request: Request) -> Gateway:
    found = request.app.state.gateway
    assert isinstance(found, Gateway), "create_app sets the gateway before it serves"
    return found


def resident(card: ModelCard) -> str:
    """The name of the base that must be held for this model: a fully tuned model is a base itself."""
    return card.base if card.kind in ("adapter", "memory") else card.name
