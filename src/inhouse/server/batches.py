"""Runs batches: reads a file's requests, has each answered behind everybody else's, and writes the answers to files.

It knows batches, lines and patience; what a line means is its handler's to know. Answers are kept in the store as they
come, so that a server that dies loses none: whoever claims the batch next answers the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from itertools import islice
from operator import itemgetter

import orjson
from fastapi import FastAPI
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from inhouse.errors import Conflict, Draining, InhouseError, LeaseLost, NotFound, UnsupportedParameter
from inhouse.jobs import batches as queue
from inhouse.jobs.batches import Result
from inhouse.schema import File
from inhouse.server import batch_lines
from inhouse.server.auth import LOCAL_KEY_ID, Caller
from inhouse.server.batch_lines import MAX_PROBLEMS, Line, Problem
from inhouse.server.calls import Background
from inhouse.server.channel import EngineGone
from inhouse.server.gateway import Gateway
from inhouse.server.inner import Inner, Reply
from inhouse.store import ids
from inhouse.store.records import keys, projects
from inhouse.store.records.batches import MAY_BE_CANCELLED, Batch, Status
from inhouse.store.records.keys import KeyRow
from inhouse.store.records.limits import RateLimits
from inhouse.store.records.usage import UsageRow

log = logging.getLogger(__name__)

MOST_AT_ONCE = 4
"""Batches that one server runs at once. Each keeps as many lines under way as an engine decodes."""
LOOK_EVERY_S = 0.5
KEEP_EVERY_S = 0.2
"""How often answers are written: so much work is done twice at most when a server dies."""
RENEW_EVERY_S = 1.0
"""How often a batch's lease is renewed, and with it whether it is to be cancelled is seen."""
LONGEST_WAIT_S = 5.0
QUOTA_EVERY_S = 5.0
"""How often a batch that is over its month's tokens is asked whether it still is."""
RETRY_S = 1.0
READ_AT_ONCE = 64
MOST_UNWRITTEN = 1000
"""Answers that may wait for a store that takes none, before no more lines are asked."""
LOSSES_TOGETHER = 2
"""A line that has lost its engine so often, beside others, is asked again with no other line of its batch beside it."""
LOSSES_ALONE = 2
"""A line that has lost it so often then as well is the one to blame."""
BUSY = (429, 503)
"""What passes: the line waits and is asked again."""
KEY_IS_OVER = Problem(
    "key_revoked",
    "The key that this batch was made with was revoked or has expired, or its project was archived, so the batch was "
    "cancelled. Make it again with another key.",
)
WHY: dict[Status, tuple[str, str]] = {
    "cancelled": ("batch_cancelled", "The batch was cancelled before this request was answered."),
    "expired": (
        "batch_expired",
        "This request could not be answered before the completion window ended. Send it in another batch.",
    ),
}


class Batches:
    """The batches that this server runs."""

    def __init__(self, app: FastAPI) -> None:
        self._gateway: Gateway = app.state.gateway
        self._inner = Inner(app)
        self._runs: dict[asyncio.Task[None], Batch] = {}

    async def run(self) -> None:
        """Claims batches and runs them, until cancelled; what is unfinished then is given back."""
        try:
            while True:
                if not await self._start_one():
                    await asyncio.sleep(LOOK_EVERY_S)
        finally:
            for task in self._runs:
                task.cancel()
            await asyncio.gather(*self._runs, return_exceptions=True)

    async def _start_one(self) -> bool:
        for task in [task for task in self._runs if task.done()]:
            batch = self._runs.pop(task)
            if not task.cancelled() and (broken := task.exception()) is not None:
                log.error("%s broke with %s and is tried again", batch.id, type(broken).__name__)
        if self._gateway.work.draining or len(self._runs) >= MOST_AT_ONCE:
            return False
        running = [batch.project for batch in self._runs.values()]
        db, lease_s = self._gateway.db, self._gateway.settings.lease_s
        try:
            claimed = await self._gateway.store.run(lambda: queue.claim(db, lease_s, running))
        except (InhouseError, SQLAlchemyError) as error:
            log.warning("no batch could be claimed: %s", type(error).__name__)
            return False
        if claimed is not None:
            run = Run(self._gateway, self._inner, claimed)
            self._runs[asyncio.create_task(run.go())] = claimed
        return claimed is not None


class Run:
    """One batch, for as long as its fence is ours."""

    def __init__(self, gateway: Gateway, inner: Inner, batch: Batch) -> None:
        self._gateway, self._store, self._db = gateway, gateway.store, gateway.db
        self._inner = inner
        self._batch = batch
        self._background = Background()
        self._results: list[Result] = []
        """Answers that are yet to be written."""
        self._unwritten: tuple[list[Result], list[UsageRow]] | None = None
        """What is being written: it is written as a whole, or is tried again."""
        self._lost: list[Line] = []
        """Lines that lost their engine, and are asked again with none beside them."""
        self._ends = asyncio.Event()
        """Set when no more lines are to be answered: the batch is cancelled, or its time is over."""
        self._is_over = False
        self._quota_asked_at = -QUOTA_EVERY_S
        """When a line was last refused for the month's tokens: until a while later no line is asked."""
        self._who = Caller(batch.project, batch.key)
        """What all of the project may see, and no more: whoever reads its files may read the answers."""

    async def go(self) -> None:
        """Takes the batch to its end, or as far as this server lives; then another goes on."""
        work, keep = asyncio.create_task(self._work()), asyncio.create_task(self._keep())
        try:
            await asyncio.wait((work, keep), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._is_over = True
            if not work.done():
                work.cancel()
            ended = await asyncio.gather(work, keep, return_exceptions=True)
            await self._leave([e for e in ended if isinstance(e, BaseException)])

    async def _leave(self, problems: list[BaseException]) -> None:
        """Gives the batch back, where it is ours and not over. Raises what nobody foresaw."""
        for problem in problems:
            if isinstance(problem, LeaseLost):
                log.info("%s", problem.message)
                return
        for problem in problems:
            if isinstance(problem, (InhouseError, SQLAlchemyError)):
                log.warning("%s waits: %s", self._batch.id, type(problem).__name__)
                await asyncio.sleep(RETRY_S)
        with contextlib.suppress(InhouseError, SQLAlchemyError):
            await self._store.run(lambda: queue.release(self._db, self._batch))
        for problem in problems:
            if not isinstance(problem, (InhouseError, SQLAlchemyError, asyncio.CancelledError)):
                raise problem

    # ── what keeps it ours ────────────────────────────────────────────────────────────────────────────────

    async def _keep(self) -> None:
        """Writes answers and renews the lease until the run is over, and writes the last ones then."""
        lease_s = self._gateway.settings.lease_s
        loop = asyncio.get_running_loop()
        renewed_at = loop.time()
        while not self._is_over:
            await asyncio.sleep(KEEP_EVERY_S)
            try:
                await self._write()
                if loop.time() - renewed_at >= min(RENEW_EVERY_S, lease_s / 3):
                    self._note(await self._store.run(lambda: queue.renew(self._db, self._batch, lease_s)))
                    await self._learn()
                    renewed_at = loop.time()
            except (LeaseLost, Conflict):  # Conflict: these answers are kept, only the word of it was lost
                raise
            except (InhouseError, SQLAlchemyError) as error:  # as long as the lease holds, it may pass
                log.warning("%s could not be kept up: %s", self._batch.id, type(error).__name__)
        await self._write()

    async def _write(self) -> None:
        """Keeps the answers that came since, and what they used, in one transaction."""
        if self._unwritten is None:
            if not self._results and not self._background.usage:
                return
            self._unwritten = [*self._results], [*self._background.usage]
            self._results.clear()
            self._background.usage.clear()
        results, used = self._unwritten
        await self._store.run(lambda: queue.note(self._db, self._batch, results, used))
        self._unwritten = None

    async def _learn(self) -> None:
        """What an admin has chosen for the project and the key by now. A key that is over ends its batches."""
        batch = self._batch

        def look(conn: Connection) -> tuple[RateLimits, KeyRow | None]:
            return projects.get(conn, batch.project).limits, keys.usable(conn, batch.key)

        chosen, key = await self._store.read(look)
        if key is not None:
            self._who = replace(self._who, chosen=chosen, chosen_for_key=key.limits)
        elif batch.key == LOCAL_KEY_ID:  # it ends with its server's folder, and has no limits of its own
            self._who = replace(self._who, chosen=chosen)
        elif batch.status in MAY_BE_CANCELLED:
            self._note(await self._store.run(lambda: queue.stop(self._db, batch, [KEY_IS_OVER.wire()])))

    def _note(self, batch: Batch) -> None:
        self._batch = batch
        if batch.status == "cancelling":
            self._ends.set()

    # ── the work ──────────────────────────────────────────────────────────────────────────────────────────

    async def _work(self) -> None:
        """From where the batch stands to its end."""
        try:
            await self._learn()
            if self._batch.status == "validating" and not await self._validate():
                return
            if self._batch.status == "in_progress":
                await self._answer()
            await self._finish()
        except NotFound as error:  # the input's content was forgotten, and with it goes what was made of it
            await self._fail([Problem("file_not_found", error.message, "input_file_id")], self._batch.total)

    async def _validate(self) -> bool:
        """Whether the file is good; the batch is in progress then, or else has failed."""

        def look() -> tuple[int, list[Problem]]:
            count, problems = 0, list[Problem]()
            for found in self._lines():
                if isinstance(found, Problem):
                    problems.append(found)
                count += isinstance(found, Line) or found.line is not None
                if len(problems) >= MAX_PROBLEMS:
                    break
            return count, problems

        count, problems = await self._store.run_with_files(look)
        if problems:
            await self._fail(problems, count)
            return False
        self._note(await self._store.run(lambda: queue.begin(self._db, self._batch, count)))
        return True

    async def _fail(self, problems: list[Problem], total: int) -> None:
        errors = [problem.wire() for problem in problems]
        await self._store.run(lambda: queue.fail(self._db, self._batch, errors, total))

    async def _answer(self) -> None:
        """Has the lines answered that are not, until all are, or the batch is cancelled, or its time is over."""
        now = await self._store.read(self._db.clock)
        answering = asyncio.create_task(self._answer_all())
        ending = asyncio.create_task(self._ends.wait())
        try:
            left_s = max(0.0, self._batch.expires_at - now)
            await asyncio.wait((answering, ending), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answering.cancel()
            ending.cancel()
            await asyncio.gather(answering, ending, return_exceptions=True)
        if not answering.cancelled():
            answering.result()

    async def _answer_all(self) -> None:
        places = asyncio.Semaphore(max(1, self._gateway.settings.max_running))
        async with asyncio.TaskGroup() as group:
            async for line in self._left():
                await places.acquire()
                group.create_task(self._answer_one(line)).add_done_callback(lambda _: places.release())
        for line in self._lost:
            for _ in range(LOSSES_ALONE):
                reply = await self._reply(line)
                if not _is_lost(reply):
                    break
            self._take(line, reply)

    async def _answer_one(self, line: Line) -> None:
        while len(self._results) >= MOST_UNWRITTEN:
            await asyncio.sleep(KEEP_EVERY_S)
        for _ in range(LOSSES_TOGETHER):
            reply = await self._reply(line)
            if not _is_lost(reply):
                self._take(line, reply)
                return
        self._lost.append(line)

    async def _reply(self, line: Line) -> Reply:
        """What the line is answered, once its engines have room; a lost engine is a reply as well."""
        if line.body.get("stream"):
            error = UnsupportedParameter(
                "A line of a batch gets one whole reply. Leave stream out.", param="stream"
            )
            return Reply(error.status, f"req_{secrets.token_hex(12)}", 0.0, orjson.dumps(error.to_wire()))
        asked = json.dumps(line.body).encode()
        loop = asyncio.get_running_loop()
        while True:
            while (wait_s := self._quota_asked_at + QUOTA_EVERY_S - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            await self._gateway.keyring.count_month(self._who)
            reply = await self._inner.post(self._batch.endpoint, asked, self._who, self._background)
            if reply.status not in BUSY or _is_lost(reply):
                return reply
            if reply.status == 429 and not reply.retry_after_s:  # over the month's tokens
                self._quota_asked_at = loop.time()
            await asyncio.sleep(min(max(reply.retry_after_s, KEEP_EVERY_S), LONGEST_WAIT_S))

    def _take(self, line: Line, reply: Reply) -> None:
        text = batch_lines.answer_line(self._batch.id, line, reply)
        self._results.append(Result(line.number, reply.status != 200, text))

    async def _left(self) -> AsyncIterator[Line]:
        """The lines without an answer, read a few at a time."""
        known = await self._store.run(lambda: queue.answered(self._db, self._batch))
        lines = self._lines()
        while some := await self._store.run_with_files(lambda: [*islice(lines, READ_AT_ONCE)]):
            for line in some:
                assert isinstance(line, Line), "the file was checked, and its content cannot change"
                if line.number not in known:
                    yield line

    def _lines(self) -> Iterator[Line | Problem]:
        """The input's lines, for as long as the run is not over. Raises NotFound."""
        with self._gateway.artifacts.open(self._batch.digest) as file:
            limit = self._gateway.settings.max_body_bytes
            for found in batch_lines.read(file, self._batch.endpoint, limit):
                if self._is_over:
                    raise Draining("The batch is given back.")
                yield found

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────

    async def _finish(self) -> None:
        """Writes the files and ends the batch."""
        while self._results or self._background.usage or self._unwritten:
            await asyncio.sleep(KEEP_EVERY_S / 4)
        batch = await self._store.run(lambda: queue.finalize(self._db, self._batch))
        unanswered = batch.total - batch.completed - batch.failed
        is_cancelled = batch.status == "cancelling"
        status: Status = "cancelled" if is_cancelled else "expired" if unanswered else "completed"

        def files() -> tuple[File | None, File | None]:
            good = _texts(queue.results(self._db, batch, errors=False))
            bad = (
                self._error_lines(status)
                if unanswered
                else _texts(queue.results(self._db, batch, errors=True))
            )
            return (
                self._file("output", good) if batch.completed else None,
                self._file("error", bad) if batch.failed + unanswered else None,
            )

        output, errors = await self._store.run_with_files(files)
        await self._store.run(
            lambda: queue.end(
                self._db,
                self._gateway.artifacts,
                batch,
                status,
                output=output,
                errors=errors,
                unanswered=unanswered,
            )
        )

    def _error_lines(self, status: Status) -> Iterator[bytes]:
        """A line for each request that was answered with an error or not at all, in the input's order."""
        code, message = WHY[status]
        known = queue.answered(self._db, self._batch)
        failed = ((r.line, r.text) for r in queue.results(self._db, self._batch, errors=True))
        others = (
            (line.number, batch_lines.unanswered_line(self._batch.id, line, code, message))
            for line in self._lines()
            if isinstance(line, Line) and line.number not in known
        )
        return (text for _, text in heapq.merge(failed, others, key=itemgetter(0)))

    def _file(self, what: str, lines: Iterator[bytes]) -> File:
        digest, size = self._gateway.artifacts.put_stream(lines)
        now = queue.wrote(self._db, digest)
        return File(
            id=ids.new("file"),
            project=self._batch.project,
            filename=f"{self._batch.id}_{what}.jsonl",
            purpose="batch_output",
            bytes=size,
            digest=digest,
            created_at=now,
        )


def _texts(results: Iterator[Result]) -> Iterator[bytes]:
    return (result.text for result in results)


def _is_lost(reply: Reply) -> bool:
    """Whether the engine ended while it served the line."""
    return reply.status == 503 and orjson.loads(reply.body)["error"]["code"] == EngineGone.code
