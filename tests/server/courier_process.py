"""A courier over a folder's outbox, in a process of its own: `courier_process.py FOLDER [OPTIONS]`.

It ends by itself when nothing is left to send. The options make it die, or take a guard out:
    --die BEFORE|AFTER  kill -9 of itself just before, or just after, the first delivery is sent
    --forget            the control: what is about to be sent is over, as if there were no outbox to go back to
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path

import sqlalchemy as sa

from inhouse.jobs import deliveries
from inhouse.server import courier as courier_module
from inhouse.server.courier import Courier
from inhouse.server.outward import Answer, Outward
from inhouse.server.threads import StoreThreads
from inhouse.settings import Settings
from inhouse.store import tables
from inhouse.store.db import Database
from inhouse.store.records.webhooks import Webhook


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--die", choices=("BEFORE", "AFTER"))
    parser.add_argument("--forget", action="store_true")
    asked = parser.parse_args()
    courier_module.LOOK_EVERY_S = 0.05
    deliveries.LEASE_S = 0.5
    db = Database(asked.url or Settings(data_dir=asked.folder).database)

    class Dying(Courier):
        async def send(self, webhook: Webhook, id: str, payload: str) -> Answer:
            if asked.forget:
                with db.write() as conn:
                    conn.execute(tables.deliveries.update().values(due_at=None))
            if asked.die == "BEFORE":
                os.kill(os.getpid(), signal.SIGKILL)
            answer = await super().send(webhook, id, payload)
            if asked.die == "AFTER":
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

    async def run() -> None:
        carrying = asyncio.create_task(Dying(StoreThreads(db), Outward("127.0.0.1")).run())
        while True:
            await asyncio.sleep(0.05)
            with db.read() as conn:
                left = sa.select(tables.deliveries.c.id).where(tables.deliveries.c.due_at.is_not(None))
                if conn.execute(left.limit(1)).first() is None:
                    break
        carrying.cancel()

    asyncio.run(run())
    os._exit(0)


if __name__ == "__main__":
    main()
