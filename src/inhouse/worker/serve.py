"""A serving job: holds one base resident and answers its socket until it is told to stop."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from pathlib import Path

from inhouse import device as devices
from inhouse.engine.build import build
from inhouse.engine.serve import EngineServer
from inhouse.errors import LeaseLost
from inhouse.jobs import queue
from inhouse.memory.bank import Banks
from inhouse.memory.router import Router
from inhouse.memory.router_store import open_router
from inhouse.schema import ModelCard, Replica, ServeSpec
from inhouse.store.records import jobs as records
from inhouse.store.records import models, replicas
from inhouse.worker.base import OpenBase, open_base
from inhouse.worker.context import Context
from inhouse.worker.memory_source import StoredFacts
from inhouse.worker.patience import patiently
from inhouse.worker.pins import Pins

log = logging.getLogger(__name__)

CACHE_SHARE = 0.5
"""How much of the memory that is free after loading the paged cache may take."""


ROUTERS = "routers"
"""Folder of the data folder in which routers lie that were made here; tuning a memory makes its base's."""


def serve(context: Context) -> None:
    """Loads the base, opens a socket, makes the replica known, and serves until SIGTERM."""
    spec = ServeSpec.model_validate(context.job.spec)
    _say(context, "loading")

    def look() -> ModelCard:
        with context.db.read() as conn:
            return models.servable(conn, spec.base)

    card = patiently(look)
    base = open_base(card, context.artifacts, context.settings, for_serving=True, db=context.db)
    fingerprint = fingerprint_of(base, context.settings.quantization)
    free_bytes = devices.pick(context.settings.device).free_bytes
    engine = build(
        base.decoder,
        base.tokenizer,
        base.template,
        base_digest=base.digest,
        adapter_folder=context.artifacts.verified_folder,
        settings=context.settings,
        banks=_banks(context, base),
        room_bytes=int(free_bytes * CACHE_SHARE),
    )
    room = Path(tempfile.mkdtemp(prefix="inhouse-"))  # private to this user; short, as socket paths must be
    try:
        server = EngineServer(
            engine,
            room / "engine.sock",
            max_queued=context.settings.max_queued,
            idle_reader_s=context.settings.idle_reader_s,
            drain_s=context.settings.drain_s,
        )
        signal.signal(signal.SIGTERM, lambda *_: server.stop())
        signal.signal(signal.SIGINT, lambda *_: server.stop())
        pinned = Pins(
            context.db,
            spec.base,
            most_rows=engine.most_kept,
            rows_of=engine.intake.library.check,
            keep=server.keep,
        )
        with pinned:
            server.run(ready=lambda: _announce(context, fingerprint, engine.intake.limit, room))
    finally:
        shutil.rmtree(room, ignore_errors=True)
    _retire(context)


def _banks(context: Context, base: OpenBase) -> Banks:
    """The banks on this base. A bank, and the router that all of them share, is loaded when it is first asked."""

    def router() -> Router:
        routers = context.settings.data_dir / ROUTERS
        return open_router(base.decoder, base.tokenizer, base.digest, routers, base_folder=base.folder)

    return Banks(StoredFacts(context.db), router, base.digest)


def fingerprint_of(base: OpenBase, quantization: str) -> str:
    """Changes with what changes replies: the base, and the numbers it is served in (fp_0123456789ab_float32_int8)."""
    dtype = str(base.decoder.dtype).removeprefix("torch.")
    return "_".join(["fp", base.digest[:12], dtype, *([quantization] if quantization != "none" else [])])


def _announce(context: Context, fingerprint: str, length: int, room: Path) -> None:
    replica = Replica(
        job=context.job.id,
        fence=context.fence,
        base=str(context.job.spec["base"]),
        address=f"unix:{room / 'engine.sock'}",
        fingerprint=fingerprint,
        context=length,
        ready=True,
    )

    def put() -> None:
        with context.db.write() as conn:
            records.set_x_state(conn, context.job.id, context.fence, "ready")
            replicas.put(conn, replica, context.db.clock(conn))

    patiently(put)
    log.info("%s serves %s (process %d)", context.job.id, replica.base, os.getpid())


def _retire(context: Context) -> None:
    """Ends the job for good: a base that is asked for again gets a new one."""
    try:
        queue.finish(
            context.db,
            context.job.id,
            context.fence,
            "cancelled",
            publish=lambda conn: replicas.drop(conn, context.job.id),
        )
    except LeaseLost:
        log.info("%s had been given away already", context.job.id)


def _say(context: Context, word: str) -> None:
    def write() -> None:
        with context.db.write() as conn:
            records.set_x_state(conn, context.job.id, context.fence, word)

    patiently(write)
