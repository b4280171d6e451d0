"""Tools on OpenAI's wire: those that a request offers, the calls of earlier turns, and the calls of a reply.

How a checkpoint writes calls is the engine's matter; here they have names, ids and arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field

from inhouse.errors import InvalidRequest
from inhouse.schema import MAX_TOOLS, CallDelta, Tool, ToolCall, ToolUse
from inhouse.server.body import RequestBody
from inhouse.server.openai.formats import Name


def json_object(text: str) -> str:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("arguments must be a JSON object, as text")
    return text


class Function(RequestBody):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    """Said or not, arguments keep to the parameters."""


class FunctionTool(RequestBody):
    type: Literal["function"]
    function: Function


class NamedFunction(RequestBody):
    name: Name


class NamedTool(RequestBody):
    type: Literal["function"]
    function: NamedFunction


class AllowedTools(RequestBody):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


class AllowedChoice(RequestBody):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


class CalledFunction(RequestBody):
    name: Name
    arguments: Annotated[str, AfterValidator(json_object)]


class MessageCall(RequestBody):
    """A call that an earlier reply made."""

    id: Annotated[str, Field(min_length=1, max_length=128)]
    type: Literal["function"]
    function: CalledFunction

    @property
    def call(self) -> ToolCall:
        return ToolCall(id=self.id, name=self.function.name, arguments=self.function.arguments)


Tools = Annotated[list[FunctionTool], Field(min_length=1, max_length=MAX_TOOLS)]
ToolChoice = Literal["none", "auto", "required"] | NamedTool | AllowedChoice


def use_of(tools: list[FunctionTool] | None, choice: ToolChoice | None, parallel: bool) -> ToolUse | None:
    """What a reply may call; None: nothing. Raises InvalidRequest for a choice that the tools do not have."""
    if tools is None:
        if choice not in (None, "none"):
            raise InvalidRequest("tool_choice needs tools. Send some, or leave it out.", param="tool_choice")
        return None
    offered = tuple(
        Tool(name=t.function.name, description=t.function.description, parameters=t.function.parameters)
        for t in tools
    )
    names = [tool.name for tool in offered]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidRequest(f"Two tools are called {twice}. Give each its own name.", param="tools")
    if choice == "none":
        return None
    only: tuple[str, ...] = ()
    how: Literal["auto", "required"] = "required" if choice == "required" else "auto"
    match choice:
        case NamedTool(function=function):
            how, only, parallel = "required", (function.name,), False
        case AllowedChoice(allowed_tools=allowed):
            how, only = allowed.mode, tuple(tool.function.name for tool in allowed.tools)
    if unknown := next((name for name in only if name not in names), None):
        raise InvalidRequest(f"tool_choice names {unknown}, which is none of the tools.", param="tool_choice")
    return ToolUse(tools=offered, choice=how, only=only, parallel=parallel)


def calls_wire(news: Iterable[CallDelta]) -> list[dict[str, Any]]:
    """A whole reply's calls, from all the news of them."""
    calls: dict[int, dict[str, Any]] = {}
    for piece in news:
        if piece.index not in calls:
            calls[piece.index] = {
                "id": piece.id,
                "type": "function",
                "function": {"name": piece.name, "arguments": ""},
            }
        calls[piece.index]["function"]["arguments"] += piece.arguments
    return list(calls.values())


def news_wire(news: Iterable[CallDelta]) -> list[dict[str, Any]]:
    """News of calls, as a chunk's delta says them."""
    return [
        {"index": piece.index, "function": {"arguments": piece.arguments}}
        if piece.id is None
        else {
            "index": piece.index,
            "id": piece.id,
            "type": "function",
            "function": {"name": piece.name, "arguments": piece.arguments},
        }
        for piece in news
    ]
