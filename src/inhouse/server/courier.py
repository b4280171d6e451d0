"""Carries deliveries from the outbox to webhooks, signed as Standard Webhooks says
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).

It knows signatures and whose turn it is; which delivery is due is `jobs.deliveries`' to say, and what an address is
`outward`'s.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import secrets
import time
from collections import Counter

from sqlalchemy.exc import SQLAlchemyError

from inhouse.errors import InhouseError
from inhouse.jobs import deliveries
from inhouse.jobs.deliveries import Due
from inhouse.server.outward import Answer, Outward
from inhouse.server.threads import StoreThreads
from inhouse.server.version import VERSION
from inhouse.store.records.webhooks import Webhook

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
AT_ONCE = 8
AT_ONCE_EACH = 2
"""To one webhook: a slow one holds nobody up."""
PREFIX = "whsec_"
SECRET_BYTES = 32


def new_secret() -> str:
    """A fresh secret, as Standard Webhooks writes them."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed(webhook: Webhook, id: str, payload: str, now: float) -> dict[str, str]:
    """The headers of a delivery; beside a new secret the old one signs as well, as long as it holds."""
    keys = [webhook.secret]
    if webhook.old_secret is not None and now < (webhook.old_until or 0.0):
        keys.append(webhook.old_secret)
    said = f"{id}.{int(now)}.{payload}".encode()
    return {
        "content-type": "application/json",
        "user-agent": f"inhouse/{VERSION}",
        "webhook-id": id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(f"v1,{_signature(key, said)}" for key in keys),
    }


def _signature(secret: str, said: bytes) -> str:
    key = binascii.a2b_base64(secret.removeprefix(PREFIX))
    return base64.b64encode(hmac.digest(key, said, hashlib.sha256)).decode()


class Courier:
    """Sends what is due, a few at once; what does not arrive is due again later."""

    def __init__(self, store: StoreThreads, outward: Outward) -> None:
        self._store = store
        self._outward = outward
        self._running: dict[asyncio.Task[None], str] = {}
        """Each delivery under way, and its webhook."""

    async def run(self) -> None:
        """Until it is cancelled. A delivery that is then under way is sent again by the next server."""
        if not self._outward.hosts:
            return
        try:
            while True:
                await self._send_due()
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            for task in self._running:
                task.cancel()

    async def send(self, webhook: Webhook, id: str, payload: str) -> Answer:
        """One try."""
        headers = signed(webhook, id, payload, time.time())
        return await self._outward.post(webhook.url, headers, payload.encode())

    async def _send_due(self) -> None:
        while len(self._running) < AT_ONCE:
            counts = Counter(self._running.values())
            busy = [webhook for webhook, count in counts.items() if count >= AT_ONCE_EACH]
            try:
                due = await self._store.run(lambda: deliveries.claim(self._store.db, busy))  # noqa: B023
            except (InhouseError, SQLAlchemyError) as error:
                log.warning("the outbox could not be read: %s", type(error).__name__)
                return
            if due is None:
                return
            task = asyncio.create_task(self._deliver(due))
            self._running[task] = due.webhook.id
            task.add_done_callback(self._running.pop)

    async def _deliver(self, due: Due) -> None:
        answer = await self.send(due.webhook, due.delivery.id, due.delivery.payload)
        level = logging.INFO if answer.is_good else logging.WARNING
        told = (due.delivery.id, due.webhook.id, due.delivery.tries, answer.said)
        log.log(level, "%s to %s, try %d: %s", *told)
        try:
            await self._store.run(
                lambda: deliveries.settle(
                    self._store.db, due.delivery, arrived=answer.is_good, said=answer.said
                )
            )
        except (InhouseError, SQLAlchemyError) as error:  # its lease ends, and then it is sent again
            log.warning("%s: what came of it is not written: %s", due.delivery.id, type(error).__name__)
