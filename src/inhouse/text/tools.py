"""Tool calls as text: how a checkpoint writes them, how it is told of tools, and how calls are read off a reply.

It knows text only. A call's text is the same in all forms of the field but for what stands around the name and
the arguments, so a form is three or four literal pieces, found by asking the checkpoint's own template to write two
calls. A checkpoint whose template writes none gets a plain form, and a plain description of the tools.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import string
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from inhouse.errors import InvalidRequest
from inhouse.schema import MOST_CALLS, CallDelta, Message, Tool, ToolCall, ToolUse
from inhouse.text import json_schema
from inhouse.text.grammar import json_rule, literal

ID_CHARACTERS = string.ascii_letters + string.digits
ID_LENGTH = 9
"""Of a call's id: what Mistral's templates insist on, and others do not mind."""
EMPTY_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
"""What a tool without parameters takes."""


@dataclass(frozen=True, slots=True)
class CallForm:
    """What stands before a call's name, between it and the arguments (a JSON object), and behind them."""

    before: str
    between: str
    after: str
    again: str | None = None
    """From the end of one call's arguments to the next one's name; None: one call a reply."""

    @property
    def marker(self) -> str:
        """What a call begins with and other text does not: where a reply may hold both, it decides."""
        found = re.match(r"<[^<>\s]+>|\[[A-Z_]+\]", self.before)
        return found[0] if found else self.before.split(":")[0]

    @property
    def written(self) -> str:
        """All that stands around names and arguments."""
        return f"{self.before} {self.between} {self.after} {self.again}"

    @property
    def opens_anywhere(self) -> bool:
        """Whether text may come before a call. Where the marker is ordinary text, only a reply's beginning counts."""
        return self.marker[:1] in "<["


PLAIN = CallForm(
    before='<tool_call>\n{"name": "',
    between='", "arguments": ',
    after="}\n</tool_call>",
    again='}\n</tool_call>\n<tool_call>\n{"name": "',
)

_PROBES = (
    ToolCall(id="probe0001", name="probe_first", arguments='{"probe_key": "probe_value"}'),
    ToolCall(id="probe0002", name="probe_second", arguments='{"probe_key": "probe_value"}'),
)
_ARGUMENTS = r'\{\s*"probe_key":\s*"probe_value"\s*\}'


def find_form(write: Callable[[Sequence[ToolCall]], str | None], ends: Sequence[str]) -> CallForm | None:
    """The form in which a template writes calls, as `write` shows it (None: it refuses); None: no form of ours.

    `ends` are texts that end a reply.
    """
    one = _untold(write(_PROBES[:1]), ends)
    found = one and re.fullmatch(rf"(?s)(.*?)probe_first(.*?){_ARGUMENTS}(.*)", one)
    if not found or not found[1].strip():
        return None
    before, between, after = found.groups()
    thought = before.rpartition("</think>")[0]  # what a template writes where the model would think
    two = _untold(write(_PROBES), ends)
    twice = two and re.fullmatch(
        rf"(?s){re.escape(before)}probe_first{re.escape(between)}{_ARGUMENTS}(.*?)"
        rf"probe_second{re.escape(between)}{_ARGUMENTS}{re.escape(after)}",
        two,
    )
    before = before.removeprefix(f"{thought}</think>").lstrip()
    return CallForm(before, between, after.rstrip(), twice[1] if twice else None)


def _untold(text: str | None, ends: Sequence[str]) -> str | None:
    """The text up to the reply's end, without ids."""
    if text is None:
        return None
    for end in ends:
        text = text.split(end)[0]
    return without_ids(text, [call.id for call in _PROBES]).rstrip()


def grammar_of(use: ToolUse, form: CallForm, content: str | None) -> str:
    """A reply that may call these tools. `content` is a rule's part for a reply that calls none; None: free text.

    Raises InvalidRequest for parameters that cannot be promised.
    """
    calls = [
        f"({literal(tool.name)} {_follows(form.between)}{json_rule(parameters(tool))})"
        for tool in offered(use)
    ]
    rules = [f"call: {' | '.join(calls)}"]
    more = f" ({literal(form.again)} call){{0,{MOST_CALLS - 1}}}" if form.again and use.parallel else ""
    rest = f"call{more} {literal(form.after)}" if form.after else f"call{more}"
    if use.choice == "required":
        return "\n".join([f"start: {literal(form.before)} {rest}", *rules])
    if content is not None:
        if not form.opens_anywhere:
            raise InvalidRequest(
                "This base writes calls as plain JSON, which a format of JSON cannot be told from. Leave "
                "response_format out, or let tool_choice be required.",
                param="response_format",
            )
        return "\n".join([f"start: {content} | {literal(form.before)} {rest}", *rules])
    if not form.opens_anywhere:
        other = f"TEXT: /(.|\\n)*/ & ~({literal(form.marker)} /(.|\\n)*/)"
        return "\n".join([f"start: TEXT | {literal(form.before)} {rest}", *rules, other])
    opened = _follows(form.before.removeprefix(form.marker))
    return "\n".join(
        [
            f"start: TEXT | opening {opened}{rest}",
            f"opening[lazy]: TEXT {literal(form.marker)}",
            *rules,
            "TEXT: /(.|\\n)*/",
        ]
    )


def parameters(tool: Tool) -> dict[str, Any]:
    """A tool's parameters as a schema that grammars are made from."""
    at = f"{tool.name}'s parameters"
    given = EMPTY_PARAMETERS if tool.parameters is None else tool.parameters
    if given.get("type") != "object":
        raise InvalidRequest(f'{at} are no object. Give the schema "type": "object".', param="tools")
    return json_schema.ready(given, param="tools", at=at)


def offered(use: ToolUse) -> list[Tool]:
    """Those of the tools that may be called."""
    return [tool for tool in use.tools if not use.only or tool.name in use.only]


def _follows(text: str) -> str:
    """A literal and the space behind it; nothing for no text."""
    return literal(text) + " " if text else ""


# ── a call as it is written ───────────────────────────────────────────────────────────────────────────────


def arguments_of(call: ToolCall, tools: Sequence[Tool]) -> dict[str, Any]:
    """A call's arguments in the order of its tool's parameters, the only one in which `grammar_of` lets them be made.

    Raises InvalidRequest for those that are no JSON object.
    """
    try:
        arguments = json.loads(call.arguments)
        schema = next((tool.parameters or {} for tool in tools if tool.name == call.name), {})
        found = _in_order(arguments, schema, schema)
    except (ValueError, RecursionError) as e:
        raise InvalidRequest(f"The conversation cannot be written out: {e}.", param="messages") from e
    if not isinstance(found, dict):
        raise InvalidRequest(f"The arguments of {call.name} are no JSON object.", param="messages")
    return found


def written(message: Message, tools: Sequence[Tool]) -> Message:
    """The message with its calls as a template writes them: arguments in order, ids short."""
    if not message.tool_calls:
        return message
    calls = (
        call.model_copy(
            update={
                "id": short_id(call.id),
                "arguments": json.dumps(arguments_of(call, tools), ensure_ascii=False),
            }
        )
        for call in message.tool_calls
    )
    return message.model_copy(update={"tool_calls": tuple(calls)})


def _in_order(value: Any, schema: Any, root: dict[str, Any]) -> Any:
    """The value with its objects' keys as the schema lists them, those that it does not list behind them."""
    for part in _parts(schema, root, most=8):
        if isinstance(value, dict) and isinstance(listed := part.get("properties"), dict):
            keys = [key for key in listed if key in value] + [key for key in value if key not in listed]
            return {key: _in_order(value[key], listed.get(key), root) for key in keys}
        if isinstance(value, list) and isinstance(items := part.get("items"), dict):
            return [_in_order(each, items, root) for each in value]
    return value


def _parts(schema: Any, root: dict[str, Any], most: int) -> Iterator[dict[str, Any]]:
    """A schema, what it refers to, and its alternatives. References in a circle end after `most` of them."""
    if not isinstance(schema, dict) or most == 0:
        return
    yield schema
    found: Any = root
    for name in str(schema["$ref"]).removeprefix("#/").split("/") if "$ref" in schema else ():
        found = found.get(name) if isinstance(found, dict) else None
    others = [found] if "$ref" in schema else []
    for word in ("allOf", "anyOf", "oneOf"):
        others += schema[word] if isinstance(schema.get(word), list) else []
    for other in others:
        yield from _parts(other, root, most - 1)


def short_id(id: str) -> str:
    """An id in the length that some templates insist on; one that has it stays."""
    if len(id) == ID_LENGTH and set(id) <= set(ID_CHARACTERS):
        return id
    digest = hashlib.blake2b(id.encode(), digest_size=ID_LENGTH).digest()
    return "".join(ID_CHARACTERS[byte % len(ID_CHARACTERS)] for byte in digest)


def without_ids(text: str, ids: Collection[str]) -> str:
    """A reply's text without the ids of its calls: models do not write them."""
    for id in ids:
        text = re.sub(rf',\s*"id":\s*"{re.escape(id)}"|"id":\s*"{re.escape(id)}",\s*', "", text)
    return text


# ── telling a base of tools that its template does not know ───────────────────────────────────────────────


def described(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """The conversation with tools, calls and results written out, for templates that know only text."""
    told = [_in_words(written(message, tools)) for message in messages]
    if tools:
        lines = "\n".join(json.dumps(wire(tool)["function"], ensure_ascii=False) for tool in tools)
        example = f'{PLAIN.before}NAME{PLAIN.between}{{"KEY": "VALUE"}}{PLAIN.after}'
        text = (
            f"You may call these tools:\n{lines}\nTo call one, reply with its name and arguments:\n{example}"
        )
        if told and told[0].role in ("system", "developer"):
            first = told[0]
            told[0] = first.model_copy(update={"content": f"{first.text}\n\n{text}"})
        else:
            told.insert(0, Message(role="system", content=text))
    return told


def _in_words(message: Message) -> Message:
    if message.role == "tool":
        return Message(role="user", content=f"<tool_response>\n{message.text}\n</tool_response>")
    if not message.tool_calls:
        return message
    pieces = [f"{call.name}{PLAIN.between}{call.arguments}" for call in message.tool_calls]
    assert PLAIN.again is not None, "the plain form takes several calls"
    text = f"{PLAIN.before}{PLAIN.again.join(pieces)}{PLAIN.after}"
    return Message(role="assistant", content=message.text + text, weight=message.weight)


def wire(tool: Tool) -> dict[str, Any]:
    """A tool as templates are given it: OpenAI's own shape."""
    function = {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": EMPTY_PARAMETERS if tool.parameters is None else tool.parameters,
    }
    return {"type": "function", "function": function}


# ── reading calls off a reply ─────────────────────────────────────────────────────────────────────────────


class CallReader:
    """Parts a reply's text into what is said and what is called, piece by piece.

    The reply was made under `grammar_of`, so whatever follows a marker is a call in the form. `anywhere` says whether
    text may come before it.
    """

    def __init__(self, form: CallForm, *, anywhere: bool) -> None:
        self._form = form
        self._anywhere = anywhere and form.opens_anywhere
        self._rest = ""
        self._read: Callable[[list[CallDelta]], str] = self._read_text
        self._arguments = _ObjectEnd()
        self.begun = 0
        """Calls begun so far."""

    def push(self, text: str) -> tuple[str, list[CallDelta]]:
        """What is now certain to be said, and the news of calls."""
        self._rest += text
        said, news = "", list[CallDelta]()
        while True:
            before = self._read, self._rest
            said += self._read(news)
            if (self._read, self._rest) == before:
                return said, news

    def finish(self) -> str:
        """What was held back as the possible beginning of a call; the reply ends here."""
        rest, self._rest = self._rest, ""
        return rest if self._read == self._read_text else ""

    def _read_text(self, news: list[CallDelta]) -> str:
        marker, rest = self._form.marker, self._rest
        at = rest.find(marker) if self._anywhere else 0 if rest.startswith(marker) else -1
        if at >= 0:
            self._rest, self._read = rest[at:], self._read_before
            return rest[:at]
        lengths = range(min(len(marker) - 1, len(rest)), 0, -1)
        held = next((n for n in lengths if marker.startswith(rest[-n:])), 0)
        if not self._anywhere:
            held = len(rest) if marker.startswith(rest) else 0
            if rest and not held:
                self._read = self._read_words
        self._rest = rest[len(rest) - held :]
        return rest[: len(rest) - held]

    def _read_words(self, news: list[CallDelta]) -> str:
        """Text alone: this reply did not begin with a call."""
        rest, self._rest = self._rest, ""
        return rest

    def _read_before(self, news: list[CallDelta]) -> str:
        return self._skip(self._form.before, self._read_name)

    def _read_name(self, news: list[CallDelta]) -> str:
        found = re.match(r"([\w-]+)[^\w-]", self._rest)
        if found:
            news.append(CallDelta(index=self.begun, id=_new_id(), name=found[1]))
            self.begun += 1
            self._rest = self._rest[len(found[1]) :]
            self._read = self._read_between
        return ""

    def _read_between(self, news: list[CallDelta]) -> str:
        self._arguments = _ObjectEnd()
        return self._skip(self._form.between, self._read_arguments)

    def _read_arguments(self, news: list[CallDelta]) -> str:
        end = self._arguments.find(self._rest)
        piece = self._rest if end is None else self._rest[:end]
        if piece:
            news.append(CallDelta(index=self.begun - 1, arguments=piece))
        self._rest = self._rest[len(piece) :]
        if end is not None:
            self._read = self._read_after
        return ""

    def _read_after(self, news: list[CallDelta]) -> str:
        """Another call, or the reply's end, which is all the same to us."""
        return self._skip(self._form.again, self._read_name) if self._form.again else ""

    def _skip(self, piece: str, then: Callable[[list[CallDelta]], str]) -> str:
        if self._rest.startswith(piece):
            self._rest, self._read = self._rest[len(piece) :], then
        return ""


def read_calls(form: CallForm, reply: str) -> tuple[str, list[tuple[str, str]]]:
    """What a whole reply says, and what it calls: names with arguments."""
    reader = CallReader(form, anywhere=True)
    said, news = reader.push(reply)
    calls: list[tuple[str, str]] = []
    for piece in news:
        calls += [(piece.name, "")] if piece.name is not None else []
        calls[-1] = (calls[-1][0], calls[-1][1] + piece.arguments)
    return said + reader.finish(), calls


class _ObjectEnd:
    """Finds where a JSON object ends that arrives in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._is_escaped = False

    def find(self, piece: str) -> int | None:
        """The place behind the object's last bracket, if it is in this piece."""
        for at, c in enumerate(piece):
            if self._is_escaped:
                self._is_escaped = False
            elif self._in_string:
                self._is_escaped, self._in_string = c == "\\", c != '"'
            elif c == '"':
                self._in_string = True
            elif c in "{[":
                self._depth += 1
            elif c in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return at + 1
        return None


def _new_id() -> str:
    return "".join(ID_CHARACTERS[byte % len(ID_CHARACTERS)] for byte in os.urandom(ID_LENGTH))
