"""A response's output as it grows: items out of deltas, and the events that tell of each step.

The whole reply and the stream are made by the same steps, so they cannot differ. It knows no request and no store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from inhouse.errors import InhouseError
from inhouse.schema import CallDelta, Delta, MemoryOutcome, TokenLogprob
from inhouse.server.openai.answer import finite
from inhouse.store import ids

Item: TypeAlias = dict[str, Any]
Event: TypeAlias = tuple[str, dict[str, Any]]
"""An event's type, and what it tells beside type and number."""


class Output:
    """The items so far. Each step returns the events that tell of it."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.finish_reason: str | None = None
        self.memory: MemoryOutcome | None = None
        self._pieces: list[str] = []
        """What the open item has said, or its arguments."""
        self._logprobs: list[dict[str, Any]] = []
        self._call: int | None = None
        """The number of the open item's call; None: it is a message, or none is open."""
        self._is_open = False

    @property
    def is_cut(self) -> bool:
        """Whether the limit on tokens ended it."""
        return self.finish_reason == "length"

    def add(self, delta: Delta) -> list[Event]:
        """What a delta brings: text comes before calls."""
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.memory = delta.memory or self.memory
        events: list[Event] = []
        if delta.text or delta.logprobs:
            events += self._say(delta.text, delta.logprobs or ())
        for piece in delta.calls:
            events += self._call_with(piece)
        return events

    def end(self) -> list[Event]:
        """The reply is over. One that says and calls nothing is a message without words."""
        events = [] if self.items else self._open(_message(), None)
        return events + self._close("incomplete" if self.is_cut else "completed")

    def cut(self) -> None:
        """An error ended the reply: what was open stays incomplete, and no event tells of it."""
        self._close("incomplete")

    def _say(self, text: str, logprobs: Sequence[TokenLogprob]) -> list[Event]:
        events: list[Event] = []
        if not self._is_open or self._call is not None:
            events += self._close("completed") + self._open(_message(), None)
        shown = [logprob_wire(one) for one in logprobs]
        self._pieces.append(text)
        self._logprobs += shown
        return [*events, said(self.items[-1], len(self.items) - 1, text, shown)]

    def _call_with(self, piece: CallDelta) -> list[Event]:
        events: list[Event] = []
        if self._call != piece.index:
            assert piece.id is not None and piece.name is not None, "a call begins with its id and name"
            events += self._close("completed") + self._open(_call(piece.id, piece.name), piece.index)
        if not piece.arguments:
            return events
        self._pieces.append(piece.arguments)
        return [*events, called(self.items[-1], len(self.items) - 1, piece.arguments)]

    def _open(self, item: Item, call: int | None) -> list[Event]:
        self._pieces, self._logprobs, self._call, self._is_open = [], [], call, True
        self.items.append(item)
        return list(opened(item, len(self.items) - 1))

    def _close(self, status: str) -> list[Event]:
        if not self._is_open:
            return []
        self._is_open = False
        item, whole = self.items[-1], "".join(self._pieces)
        is_call = self._call is not None
        found = {"arguments": whole} if is_call else {"content": [_part(whole, self._logprobs)]}
        self.items[-1] = item | found | {"status": status}
        return list(closed(self.items[-1], len(self.items) - 1))


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────


def opened(item: Item, at: int) -> Iterator[Event]:
    """An item begins; `at` is its place in the output."""
    yield "response.output_item.added", {"output_index": at, "item": item}
    if item["type"] == "message":
        yield "response.content_part.added", _of_part(item, at) | {"part": _part("", [])}


def said(item: Item, at: int, text: str, logprobs: list[dict[str, Any]]) -> Event:
    return "response.output_text.delta", _of_part(item, at) | {"delta": text, "logprobs": logprobs}


def called(item: Item, at: int, arguments: str) -> Event:
    return "response.function_call_arguments.delta", _of_item(item, at) | {"delta": arguments}


def closed(item: Item, at: int) -> Iterator[Event]:
    """An item is whole."""
    if item["type"] == "message":
        (part,) = item["content"]
        text = {"text": part["text"], "logprobs": part["logprobs"]}
        yield "response.output_text.done", _of_part(item, at) | text
        yield "response.content_part.done", _of_part(item, at) | {"part": part}
    else:
        whole = {"name": item["name"], "arguments": item["arguments"]}
        yield "response.function_call_arguments.done", _of_item(item, at) | whole
    yield "response.output_item.done", {"output_index": at, "item": item}


class Events:
    """Writes events as bytes, numbered from 0."""

    def __init__(self) -> None:
        self._next = 0

    def write(self, *events: Event) -> bytes:
        out = []
        for type, told in events:
            data = orjson.dumps({"type": type, **told, "sequence_number": self._next})
            out.append(b"event: %b\ndata: %b\n\n" % (type.encode(), data))
            self._next += 1
        return b"".join(out)

    def begin(self, response: Mapping[str, Any]) -> bytes:
        return self.write(
            ("response.created", {"response": response}), ("response.in_progress", {"response": response})
        )

    def end(self, response: Mapping[str, Any]) -> bytes:
        return self.write((f"response.{response['status']}", {"response": response}))

    def error(self, error: InhouseError) -> bytes:
        """The error's fields stand in the event, as OpenAI describes it, and under `error`, where its package looks."""
        wire = error.to_wire()
        fields = {name: wire["error"][name] for name in ("code", "message", "param")}
        return self.write(("error", fields | wire))


def replay(response: Mapping[str, Any]) -> bytes:
    """The stream of a response that is whole: each item in one piece."""
    events = Events()
    at_first: dict[str, Any] = {
        "status": "in_progress",
        "completed_at": None,
        "incomplete_details": None,
        "output": [],
    }
    ends_with = ("usage", "x_facts", "x_memory")
    out = [events.begin({k: v for k, v in response.items() if k not in ends_with} | at_first)]
    for at, item in enumerate(response["output"]):
        if item["type"] == "message":
            (part,) = item["content"]
            out.append(events.write(*opened(item | {"status": "in_progress", "content": []}, at)))
            out.append(events.write(said(item, at, part["text"], part["logprobs"])))
        else:
            out.append(events.write(*opened(item | {"status": "in_progress", "arguments": ""}, at)))
            out.append(events.write(called(item, at, item["arguments"])))
        out.append(events.write(*closed(item, at)))
    return b"".join([*out, events.end(response)])


def logprob_wire(token: TokenLogprob) -> dict[str, Any]:
    def one(t: TokenLogprob) -> dict[str, Any]:
        return {"token": t.token, "logprob": finite(t.logprob), "bytes": t.bytes}

    return one(token) | {"top_logprobs": [one(other) for other in token.top]}


def _message() -> Item:
    return {
        "id": ids.new("msg"),
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }


def _call(call_id: str, name: str) -> Item:
    return {
        "id": ids.new("fc"),
        "type": "function_call",
        "status": "in_progress",
        "call_id": call_id,
        "name": name,
        "arguments": "",
    }


def _part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _of_item(item: Item, at: int) -> dict[str, Any]:
    return {"item_id": item["id"], "output_index": at}


def _of_part(item: Item, at: int) -> dict[str, Any]:
    return _of_item(item, at) | {"content_index": 0}
