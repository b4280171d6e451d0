"""Many rows through one model: as many at once as its engines decode, answered in the rows' order.

It knows windows, patience and which errors are a row's own; what a row asks is rows.prompts' business, what a
reply's line says is replies.py's.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from inhouse.client.crew import Crew
from inhouse.client.faults import from_wire
from inhouse.client.http import LONGEST_WAIT_S, NO_ANSWER, Http, is_retried
from inhouse.client.replies import Asked, Reply, ReplyFile, Summary, counted
from inhouse.errors import (
    Conflict,
    Draining,
    EngineOverloaded,
    InhouseError,
    InvalidRequest,
    ModelLoading,
    ModelNotFound,
    PermissionDenied,
    RateLimited,
    ServerUnreachable,
    StoreBusy,
    Unauthenticated,
)
from inhouse.rows import Source
from inhouse.rows.prompts import CHAT, COMPLETIONS, read

WINDOW = 4
"""Rows read ahead, for each that is under way: a long reply holds back the lines behind it, not the engine."""
HEADROOM = 2.0
"""Rows under way for each that the engines decode: while replies travel, the next rows wait there."""
BUNDLES = 4
"""Requests among which the rows under way are shared. A new one waits for places for all its rows, so that a
quarter of them is missing at most: HEADROOM less that is still more than the engines decode."""
MOST_ROWS = 64
"""In one request, as the server takes them."""
ROWS = "/v1/x/rows"
PLACES_IF_UNSAID = 8
WAIT_IF_UNSAID_S = 0.5
WAITS = {"service_tier": "flex"}
"""How a row says that it can wait: it takes what other requests leave of the engines."""
PATIENCE_S = 600.0
"""How long a server may answer no row at all before the run ends; it can be taken up again."""
_BUSY = (RateLimited, EngineOverloaded, ModelLoading, Draining, StoreBusy, ServerUnreachable)
"""Of the server, not of the row: asked again as long as patience lasts."""
_FINAL = (NO_ANSWER, "insufficient_quota")
"""Of the row all the same: asking again would end alike."""
_REFUSED = (Unauthenticated, PermissionDenied)
"""Of the key: every other row would be told the same."""


def generate(
    http: Http,
    source: Source,
    model: str,
    *,
    is_named: bool,
    out: str | Path | None = None,
    restart: bool = False,
    progress: bool = True,
    on_progress: Callable[[Summary], object] | None = None,
    system: str | None = None,
    temperature: float = 0.0,
    max_tokens: int | None = None,
    concurrency: int | None = None,
    keep_input: bool = False,
    strict: bool = False,
    **sampling: Any,
) -> Iterator[Reply] | Summary:
    """The replies of all rows, or with `out` a file of them and what it holds. Raises ModelNotFound.

    `is_named` says that the caller chose the model: then it answers rows that name another one, too.
    """
    for name in ("stream", "n"):
        if name in sampling:
            raise InvalidRequest(
                f"A row gets one whole reply, so there is no {name!r}. Leave it out.", param=name
            )
    if concurrency is not None and concurrency < 1:
        raise InvalidRequest(f"concurrency is {concurrency}. Give 1 or more.", param="concurrency")
    if restart and out is None:
        raise InvalidRequest("restart begins a file anew. Give out, or leave it out.", param="restart")
    filling_places, most = _places(http, model)
    filling = {"temperature": temperature, **WAITS, **sampling}
    run = Run(
        http=http,
        source=source,
        model=model,
        is_named=is_named,
        concurrency=min(concurrency or filling_places, most),
        filling=filling if max_tokens is None else {**filling, "max_tokens": max_tokens},
        system=system,
        keeps_input=keep_input,
        strict=strict,
    )
    if out is None:
        return run.replies()
    if on_progress is not None:
        return run.write(Path(out), restart=restart, on_progress=on_progress)
    from inhouse.client.progress import rows_bar

    with rows_bar(lambda: _count(source), enabled=progress) as show:
        return run.write(Path(out), restart=restart, on_progress=show)


@dataclass(frozen=True, slots=True)
class Run:
    """Which rows to ask, and how."""

    http: Http
    source: Source
    model: str
    is_named: bool
    concurrency: int
    filling: Mapping[str, Any]
    """Fields for each body that does not say otherwise."""
    system: str | None = None
    keeps_input: bool = False
    strict: bool = False

    def replies(self) -> Iterator[Reply]:
        """Every row's reply, in order, as it is taken: at most WINDOW times `concurrency` rows are read ahead."""
        return self._replies(self._asked())

    def write(self, out: Path, *, restart: bool, on_progress: Callable[[Summary], object]) -> Summary:
        """Writes every row's reply to a file, and goes on where an earlier run of the same stopped."""
        if isinstance(self.source, (str, Path)) and _is_same(Path(self.source), out):
            raise InvalidRequest(f"{out} is the input itself. Name another file for the replies.")
        started = time.monotonic()
        with ReplyFile(out, restart=restart) as file:
            try:
                left = file.left(self._asked())
                made = Summary(rows=file.rows, errors=file.errors, resumed=file.rows)
                on_progress(made)
                for reply in self._replies(left):
                    is_safe = file.append(reply)
                    made = replace(
                        made,
                        rows=file.rows,
                        errors=file.errors,
                        prompt_tokens=made.prompt_tokens + reply.usage.get("prompt_tokens", 0),
                        completion_tokens=made.completion_tokens + reply.usage.get("completion_tokens", 0),
                        seconds=time.monotonic() - started,
                    )
                    if is_safe:
                        on_progress(made)
            except (KeyboardInterrupt, InhouseError) as e:
                if not isinstance(e, Conflict) and file.rows:  # a file of another run stays one
                    e.add_note(
                        f"{out} holds {counted(file.rows)}. The same command again goes on from there."
                    )
                raise
        on_progress(made)
        return made

    def _asked(self) -> Iterator[Asked]:
        for index, prompt in enumerate(read(self.source)):
            body = {} if prompt.problem else self._body(prompt.path, prompt.body)
            yield Asked(index, prompt, body, self.keeps_input)

    def _body(self, path: str, said: Mapping[str, Any]) -> dict[str, Any]:
        """What is sent: the row's own words, filled up with the run's."""
        filling = dict(self.filling)
        longest = filling.pop("max_tokens", None)
        if longest is not None and not said.keys() & {"max_tokens", "max_completion_tokens"}:
            filling["max_tokens" if path == COMPLETIONS else "max_completion_tokens"] = longest
        body = {"model": self.model, **filling, **said}
        if self.is_named:
            body["model"] = self.model
        if self.system and path == CHAT and not _has_system(body["messages"]):
            body["messages"] = [{"role": "system", "content": self.system}, *body["messages"]]
        return body

    def _replies(self, asked: Iterator[Asked]) -> Iterator[Reply]:
        """Replies in order. Those that come early wait here, within the window."""
        stop = threading.Event()
        http = self.http.beside(connections=self.concurrency, sleep=lambda seconds: _wait(stop, seconds))
        asking = _Asking(http, self.model if self.is_named else None, stop)
        most = max(1, min(MOST_ROWS, self.concurrency // BUNDLES))
        crew = Crew(self.concurrency, most, asking.replies, may_share=_may_share, at_end=http.close)
        ahead: deque[Future[Reply]] = deque()
        try:
            for row in asked:
                ahead.append(crew.give(row))
                while len(ahead) >= WINDOW * self.concurrency or (ahead and ahead[0].done()):
                    yield self._checked(ahead.popleft().result())
            while ahead:
                yield self._checked(ahead.popleft().result())
        finally:
            stop.set()
            crew.dismiss(ahead)

    def _checked(self, reply: Reply) -> Reply:
        """The reply. A strict run raises a row's error, and says whose it is."""
        if not self.strict or reply.error is None:
            return reply
        error = reply.error
        error.message = f"Row {reply.index + 1}: {error.message}"
        error.args = (error.message,)
        error.add_note("Mend that row first, or leave strict out: it would end the next run as well.")
        raise error


class _Asking:
    """One bundle of rows after another, from many threads, with patience for the server."""

    def __init__(self, http: Http, model: str | None, stop: threading.Event) -> None:
        self._http = http
        self._model = model
        self._stop = stop
        self._answered_at = time.monotonic()

    def replies(self, rows: Sequence[Asked]) -> Iterator[tuple[int, Reply]]:
        """Each row's place and its reply or its error, as they come. Raises what is wrong with the server or the key.

        A row that the bundle did not settle is asked again: with the others that the server was too busy for, or
        alone where only that tells whose fault it is.
        """
        if len(rows) == 1:
            yield 0, self._reply(rows[0])
            return
        left = dict(enumerate(rows))
        refused_at: float | None = None
        while left:
            busy: InhouseError | None = None
            alone: list[int] = []
            try:
                for at, found in self._heard(left):
                    if isinstance(found, Reply):
                        del left[at]
                        yield at, found
                    elif _is_busy(found):
                        busy = found
                    else:
                        alone.append(at)
            except InhouseError as error:
                if isinstance(error, _REFUSED) or not (
                    _is_busy(error) or self._is_of_the_row(error, rows[0])
                ):
                    raise
                busy, alone = (error, alone) if _is_busy(error) else (None, [])
            for at in alone if busy else list(left):
                yield at, self._reply(left.pop(at))
            if left and busy:
                refused_at = refused_at or time.monotonic()
                self._be_patient(busy, refused_at)

    def _heard(self, left: Mapping[int, Asked]) -> Iterator[tuple[int, Reply | InhouseError]]:
        """What one request makes of the rows that are left: a reply, or an error that need not be the last word."""
        places = list(left)
        lines = b"\n".join(json.dumps(row.body, ensure_ascii=False).encode() for row in left.values())
        for event in self._http.events(ROWS, lines=lines):
            at = places[event["row"]]
            if "reply" in event:
                self._answered_at = time.monotonic()
                yield at, Reply.from_wire(left[at], event["reply"])
                continue
            error = from_wire(event["refused"], status=event["status"], retry_after_s=event["retry_after_s"])
            if is_retried(event["status"]) or not self._is_of_the_row(error, left[at]):
                yield at, error
            else:
                yield at, Reply.from_error(left[at], error)

    def _reply(self, asked: Asked) -> Reply:
        """The row's reply, or its error, by a request of its own."""
        prompt = asked.prompt
        if prompt.problem is not None:
            problem = InvalidRequest(str(prompt.problem), param=prompt.problem.field, code="invalid_row")
            return Reply.from_error(asked, problem)
        refused_at: float | None = None
        while True:
            try:
                wire = self._http.call("POST", prompt.path, body=asked.body)
            except InhouseError as error:
                if self._is_of_the_row(error, asked):
                    return Reply.from_error(asked, error)
                if not isinstance(error, _BUSY):
                    raise
                refused_at = refused_at or time.monotonic()
                self._be_patient(error, refused_at)
            else:
                self._answered_at = time.monotonic()
                return Reply.from_wire(asked, wire)

    def _is_of_the_row(self, error: InhouseError, asked: Asked) -> bool:
        if isinstance(error, ModelNotFound):  # a batch line may name one that is not there
            return bool(asked.body["model"] != self._model)
        if isinstance(error, _BUSY):
            return error.code in _FINAL
        return not isinstance(error, _REFUSED)

    def _be_patient(self, error: InhouseError, refused_at: float) -> None:
        """Waits as long as the server asks; raises its error where nobody was answered for long while it refused."""
        waited_s = time.monotonic() - max(refused_at, self._answered_at)
        if self._stop.is_set() or waited_s > PATIENCE_S:
            raise error
        wait_s = WAIT_IF_UNSAID_S if error.retry_after_s is None else error.retry_after_s
        _wait(self._stop, min(wait_s, LONGEST_WAIT_S))


def _is_busy(error: InhouseError) -> bool:
    """Whether the server may well answer the same later."""
    return isinstance(error, _BUSY) and error.code not in _FINAL


def _may_share(one: Asked, other: Asked) -> bool:
    """Whether two rows may be in one request: conversations with one model."""
    return all(row.prompt.problem is None and row.prompt.path == CHAT for row in (one, other)) and (
        one.body["model"] == other.body["model"]
    )


def _places(http: Http, model: str) -> tuple[int, int]:
    """How many requests fill the engines of a model, and how many the server takes. Raises ModelNotFound."""
    told = http.call("GET", f"/v1/models/{quote(model, safe='')}").get("x_places") or {}
    running = int(told.get("running") or PLACES_IF_UNSAID)
    most = running + int(told.get("waiting") or 0)
    return min(most, int(running * HEADROOM)), most


def _count(source: Source) -> int | None:
    """How many rows a source has, where that is quickly told: for a bar, and nothing else."""
    if isinstance(source, (str, Path)):
        try:
            with Path(source).open("rb") as stream:
                if Path(source).suffix.lower() in (".jsonl", ".ndjson"):
                    return sum(not line.isspace() for line in stream)
        except OSError:
            pass  # whoever reads the rows says what is wrong
        return None
    return len(source) if isinstance(source, Sized) else None


def _has_system(messages: Any) -> bool:
    return any(isinstance(m, Mapping) and m.get("role") in ("system", "developer") for m in messages)


def _wait(stop: threading.Event, seconds: float) -> None:
    stop.wait(seconds)


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
