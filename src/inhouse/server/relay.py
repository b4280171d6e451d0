"""Which replica answers a request: finds one that holds the base, asks for one when there is none, waits.

It knows replicas and sockets; it knows nothing of what a request says.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator

from inhouse.errors import EngineOverloaded, InhouseError, ModelLoading
from inhouse.jobs import serving
from inhouse.schema import EngineCall, Replica
from inhouse.server.channel import Channel, EngineGone, stats
from inhouse.server.threads import StoreThreads
from inhouse.settings import Settings
from inhouse.store.records import replicas

REPLICA_CACHE_S = 0.2
LOOK_AGAIN_S = 0.1
LEAVING = ("draining", "engine_lost")
"""What an engine answers on its way out: its successor, or another, will do."""
MOST_ENGINES = 3
"""A request that has ended so many engines before they answered anything is given no other."""
STATS_WAIT_S = 1.0


class Relay:
    """Opens channels and knows which are open, so that a shutdown can end them."""

    def __init__(self, settings: Settings, store: StoreThreads) -> None:
        self.settings = settings
        self.store = store
        self.running: Counter[str] = Counter()
        """Choices under way, by base."""
        self.refused = 0
        """Requests that found no place."""
        self._known: dict[str, tuple[float, list[Replica]]] = {}
        self._contexts: dict[str, int] = {}
        self._open: set[Channel] = set()
        self._ended_by: InhouseError | None = None

    @contextlib.contextmanager
    def slots(self, base: str, count: int, *, share: float = 1.0) -> Iterator[None]:
        """Holds `count` places, one a choice, at the base's engines. Raises EngineOverloaded when they are full, or a
        `share` of them is.

        What is larger than all places is taken when nothing else runs: waiting would never let it in.
        """
        room = int(sum(self.places(base)) * share)
        if self.running[base] and self.running[base] + count > room:
            self.refused += 1
            raise EngineOverloaded(
                f"{self.running[base]} of {room} places for {base} are taken. Try again.", retry_after_s=1
            )
        self.running[base] += count
        try:
            yield
        finally:
            self.running[base] -= count

    def places(self, base: str) -> tuple[int, int]:
        """How many choices the base's engines decode at once, and how many more may wait for them."""
        engines = max(1, len(self._known.get(base, (0.0, []))[1]))
        return self.settings.max_running * engines, self.settings.max_queued * engines

    def context(self, base: str) -> int | None:
        """Tokens that a prompt and its answer may have together; None until an engine of the base has been known."""
        return self._contexts.get(base)

    async def open(self, base: str, call: EngineCall) -> Channel:
        """A channel whose first frames have arrived. Tries all replicas, and restarted ones, for load_wait_s.

        Nothing has been answered until this returns, so trying again is safe. Raises what the engine answers,
        EngineGone when it has ended MOST_ENGINES of them, and ModelLoading when the wait is over or the base has just
        failed to load.
        """
        started = time.monotonic()
        asked_at, gone = 0.0, 0
        while True:
            if self._ended_by is not None:
                raise self._ended_by
            replicas_now = await self.ready(base)
            for replica in random.sample(replicas_now, len(replicas_now)):
                try:
                    return await self._begin(replica, call)
                except OSError:
                    continue
                except EngineGone:
                    gone += 1
                    if gone == MOST_ENGINES:
                        raise
                except InhouseError as error:
                    if error.code not in LEAVING or self._ended_by is not None:
                        raise
            if time.monotonic() - asked_at > 1.0:
                asked_at = time.monotonic()
                await self.store.run(lambda: serving.ensure_replica(self.store.db, base))
            if time.monotonic() - started > self.settings.load_wait_s:
                raise ModelLoading(f"{base} is still being loaded. Try again shortly.", retry_after_s=5)
            await asyncio.sleep(LOOK_AGAIN_S)

    def close(self, channel: Channel) -> None:
        self._open.discard(channel)
        channel.close()

    def end_all(self, error: InhouseError) -> None:
        """Every running request meets `error`, and so does each that is still waiting for an engine."""
        self._ended_by = error
        for channel in list(self._open):
            channel.end(error)

    async def ready(self, base: str) -> list[Replica]:
        until, found = self._known.get(base, (0.0, []))
        if until < time.monotonic():
            found = await self.store.believed(
                ("engines", base), lambda conn: replicas.ready_for(conn, base), keep=bool
            )
            self._known[base] = (time.monotonic() + REPLICA_CACHE_S, found)
            if found:
                self._contexts[base] = max(replica.context for replica in found)
        return found

    async def stats(self, base: str) -> list[dict[str, float]]:
        """The numbers of each engine of a base that answers in time."""
        answers = await asyncio.gather(
            *(asyncio.wait_for(stats(replica), STATS_WAIT_S) for replica in await self.ready(base)),
            return_exceptions=True,
        )
        return [a for a in answers if isinstance(a, dict)]

    async def _begin(self, replica: Replica, call: EngineCall) -> Channel:
        channel = await Channel.connect(replica, call)
        self._open.add(channel)
        with contextlib.ExitStack() as undo:
            undo.callback(self.close, channel)
            await channel.begin()
            undo.pop_all()
        return channel
