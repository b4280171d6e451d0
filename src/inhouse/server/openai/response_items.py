"""Items of a response: the turns that come in, what is stored of them, and the conversation that they make.

An item is what OpenAI's responses call a turn or a part of one: a message, a call of a function, its output. It
knows no model and no stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from inhouse.errors import InvalidRequest
from inhouse.schema import Message, TextPart, ToolCall
from inhouse.server import body
from inhouse.server.openai.formats import Name
from inhouse.server.openai.tools import json_object
from inhouse.store import ids

MOST_ITEMS = 10_000
"""Of a whole conversation, as chat takes so many messages."""
ItemStatus = Literal["in_progress", "completed", "incomplete"]
ItemId = Annotated[str, Field(min_length=1, max_length=128)]
CallId = Annotated[str, Field(min_length=1, max_length=128)]


def by_type(kinds: Mapping[str, str], default: str | None = None) -> Discriminator:
    """Picks a union's branch by `type`, and refuses by name what only OpenAI has."""

    def pick(value: Any) -> str | None:
        given = value.get("type") or default if isinstance(value, Mapping) else getattr(value, "type", None)
        return kinds.get(given) if isinstance(given, str) else None

    return Discriminator(
        pick,
        custom_error_type=body.UNSUPPORTED,
        custom_error_message=f"this server takes only the types {', '.join(kinds)}",
    )


class InputText(body.RequestBody):
    type: Literal["input_text"]
    text: str


class OutputText(body.RequestBody):
    """A part of a reply that is sent back. Log-probabilities come back from SDKs that echo it."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[None], Field(max_length=0)] | None = None
    logprobs: list[Any] | None = None


InputParts = Annotated[
    list[
        Annotated[
            Annotated[InputText, Tag("InputText")] | Annotated[OutputText, Tag("OutputText")],
            by_type({"input_text": "InputText", "output_text": "OutputText"}),
        ]
    ],
    Field(min_length=1),
]


class InputMessage(body.RequestBody):
    """A turn, or an earlier reply's message."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | InputParts
    id: ItemId | None = None
    status: ItemStatus | None = None
    phase: None = None

    def wire(self) -> dict[str, Any]:
        texts = [self.content] if isinstance(self.content, str) else [part.text for part in self.content]
        more: dict[str, Any] = {"annotations": [], "logprobs": []} if self.role == "assistant" else {}
        kind = "output_text" if self.role == "assistant" else "input_text"
        return {
            "id": self.id or ids.new("msg"),
            "type": "message",
            "status": self.status or "completed",
            "role": self.role,
            "content": [{"type": kind, "text": text} | more for text in texts],
        }


class FunctionCall(body.RequestBody):
    """A call that an earlier reply made."""

    type: Literal["function_call"]
    call_id: CallId
    name: Name
    arguments: Annotated[str, AfterValidator(json_object)]
    id: ItemId | None = None
    status: ItemStatus | None = None
    namespace: None = None
    caller: None = None

    def wire(self) -> dict[str, Any]:
        return {
            "id": self.id or ids.new("fc"),
            "type": "function_call",
            "status": self.status or "completed",
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.arguments,
        }


class FunctionCallOutput(body.RequestBody):
    """What a called function gave."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: str | InputParts
    id: ItemId | None = None
    status: ItemStatus | None = None
    name: None = None
    namespace: None = None
    caller: None = None

    def wire(self) -> dict[str, Any]:
        parts = self.output
        return {
            "id": self.id or ids.new("fco"),
            "type": "function_call_output",
            "status": self.status or "completed",
            "call_id": self.call_id,
            "output": parts
            if isinstance(parts, str)
            else [{"type": "input_text", "text": p.text} for p in parts],
        }


class ItemReference(body.RequestBody):
    """An item that a stored response answered, by its id."""

    type: Literal["item_reference"]
    id: ItemId


InputItem = Annotated[
    Annotated[InputMessage, Tag("InputMessage")]
    | Annotated[FunctionCall, Tag("FunctionCall")]
    | Annotated[FunctionCallOutput, Tag("FunctionCallOutput")]
    | Annotated[ItemReference, Tag("ItemReference")],
    by_type(
        {
            "message": "InputMessage",
            "function_call": "FunctionCall",
            "function_call_output": "FunctionCallOutput",
            "item_reference": "ItemReference",
        },
        default="message",
    ),
]
Input = str | Annotated[list[InputItem], Field(min_length=1, max_length=MOST_ITEMS)]


def items_of(given: Input, find: Callable[[str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    """What was asked, as items with an id each; `find` gives the item of an id, for errors with where that stands."""
    if isinstance(given, str):
        return [InputMessage(role="user", content=given).wire()]
    return [
        find(item.id, f"input[{i}].id") if isinstance(item, ItemReference) else item.wire()
        for i, item in enumerate(given)
    ]


def conversation(instructions: str | None, items: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The items as the messages that an engine takes, the instructions ahead of them.

    Raises InvalidRequest for a call without output or an output without call, and for an item that is there twice.
    """
    _check(items)
    said = [] if instructions is None else [Message(role="system", content=instructions)]
    messages = said + [_message(item) for item in items]
    return tuple(_joined(messages))


def _check(items: Sequence[Mapping[str, Any]]) -> None:
    if len(items) > MOST_ITEMS:
        raise InvalidRequest(
            f"The conversation has {len(items)} items; {MOST_ITEMS} are the most.", param="input"
        )
    seen, calls, answered = set[str](), set[str](), set[str]()
    for item in items:
        if item["id"] in seen:
            raise InvalidRequest(f"The item {item['id']} is there twice. Send it once.", param="input")
        seen.add(item["id"])
        if item["type"] == "function_call":
            calls.add(item["call_id"])
        if item["type"] == "function_call_output":
            answered.add(item["call_id"])
            if item["call_id"] not in calls:
                raise InvalidRequest(
                    f"No call {item['call_id']} comes before its output. Send the call, or name the response that "
                    "made it in previous_response_id.",
                    param="input",
                )
    if waiting := sorted(calls - answered):
        raise InvalidRequest(
            f"The call {waiting[0]} has no output. Send a function_call_output for it.", param="input"
        )


def _message(item: Mapping[str, Any]) -> Message:
    match item["type"]:
        case "function_call":
            call = ToolCall(id=item["call_id"], name=item["name"], arguments=item["arguments"])
            return Message(role="assistant", tool_calls=(call,))
        case "function_call_output":
            return Message(role="tool", tool_call_id=item["call_id"], content=_content(item["output"]))
    return Message(role=item["role"], content=_content(item["content"]))


def _content(given: str | Sequence[Mapping[str, Any]]) -> str | list[TextPart]:
    if isinstance(given, str):
        return given
    if len(given) == 1:
        return str(given[0]["text"])
    return [TextPart(type="text", text=part["text"]) for part in given]


def _joined(messages: Iterable[Message]) -> list[Message]:
    """A reply's calls stand in one message, with what it said before them, as templates know them."""
    joined: list[Message] = []
    for message in messages:
        before = joined[-1] if joined else None
        if message.tool_calls and before is not None and before.role == "assistant":
            calls = (*before.tool_calls, *message.tool_calls)
            joined[-1] = before.model_copy(update={"tool_calls": calls})
        else:
            joined.append(message)
    return joined
