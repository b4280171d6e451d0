"""Multipart forms as they arrive: small fields whole, one file in pieces that never pile up.

It knows the form's grammar, nothing of files' purposes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from inhouse.errors import InvalidRequest, UnsupportedMedia
from inhouse.server import body
from inhouse.server.threads import StoreThreads

T = TypeVar("T")

MAX_FIELDS = 32
MAX_FIELD_BYTES = 64 * 1024
FORM_BYTES = 1024 * 1024
"""What a form may weigh beside its file."""


@dataclass(slots=True)
class Form(Generic[T]):
    """The fields of a form, and what became of its file."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    kept: T | None = None


async def receive(
    request: Request,
    store: StoreThreads,
    keep: Callable[[Iterator[bytes]], T],
    *,
    file_field: str,
    max_bytes: int,
) -> Form[T]:
    """Reads a form; its file's pieces go to `keep`, which runs in a thread and pulls them one by one."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise UnsupportedMedia("Send the file as multipart/form-data, as curl -F and every OpenAI client do.")
    form: Form[T] = Form()
    parts = _parts(body.chunks(request, max_bytes + FORM_BYTES), options[b"boundary"])
    async for event in parts:
        assert isinstance(event, _Begin), "a part ends before the next begins"
        if event.name in form.fields or (event.name == file_field and form.filename is not None):
            raise InvalidRequest(f"The form holds {event.name!r} twice. Send it once.", param=event.name)
        if event.name == file_field:
            if event.filename is None:
                raise InvalidRequest(
                    f"{file_field} must be a file with a name.", param=file_field, code="invalid_type"
                )
            form.filename = event.filename
            pieces = _pieces(parts)
            loop = asyncio.get_running_loop()
            form.kept = await store.run_with_files(lambda: keep(_pulled(pieces, loop)))  # noqa: B023
        elif len(form.fields) >= MAX_FIELDS:
            raise InvalidRequest(f"The form holds more than {MAX_FIELDS} fields.")
        else:
            form.fields[event.name] = await _text(event.name, _pieces(parts))
    return form


@dataclass(frozen=True, slots=True)
class _Begin:
    name: str
    filename: str | None


class _End:
    pass


_Event = _Begin | bytes | _End


async def _pieces(parts: AsyncIterator[_Event]) -> AsyncIterator[bytes]:
    """The bytes of the part that has begun."""
    async for event in parts:
        if isinstance(event, _End):
            return
        assert isinstance(event, bytes), "a part ends before the next begins"
        yield event


async def _text(name: str, pieces: AsyncIterator[bytes]) -> str:
    value = b""
    async for piece in pieces:
        value += piece
        if len(value) > MAX_FIELD_BYTES:
            raise InvalidRequest(f"The form's field is over {MAX_FIELD_BYTES} bytes.", param=name)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("The form's field is not UTF-8.", param=name) from None


def _pulled(pieces: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """An async iterator's items, drawn from a thread: one at a time, so the sender is never ahead."""

    async def following() -> bytes | None:
        return await anext(pieces, None)

    def next_piece() -> bytes | None:
        # the body has a deadline of its own; this one is for a loop that has stopped
        return asyncio.run_coroutine_threadsafe(following(), loop).result(2 * body.PATIENCE_S)

    while (piece := next_piece()) is not None:
        yield piece


async def _parts(chunks: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[_Event]:
    parser = _Parser(boundary)
    try:
        async for chunk in chunks:
            for event in parser.feed(chunk):
                yield event
        parser.finish()
    except FormParserError:
        raise InvalidRequest("The form is broken or cut short. Send it again.") from None
    if not parser.is_whole:
        raise InvalidRequest("The form ends before its last boundary. Send it again.")


class _Parser:
    """Turns the parser's callbacks into events."""

    def __init__(self, boundary: bytes) -> None:
        self.is_whole = False
        self._events: list[_Event] = []
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._begin,
                "on_part_data": lambda data, start, end: self._events.append(bytes(data[start:end])),
                "on_part_end": lambda: self._events.append(_End()),
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> list[_Event]:
        self._events = []
        self._parser.write(chunk)
        return self._events

    def finish(self) -> None:
        self._parser.finalize()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _begin(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name, filename = options.get(b"name", b""), options.get(b"filename")
        self._events.append(
            _Begin(
                name.decode(errors="replace"), None if filename is None else filename.decode(errors="replace")
            )
        )

    def _end(self) -> None:
        self.is_whole = True
